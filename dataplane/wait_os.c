// Torc dataplane: blocking until a port or a doorbell has something. See dataplane/wait_os.h.
#include "dataplane/wait_os.h"

#include "dataplane/channel_os.h"
#include "kit/clock_os.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum torc_err torc_wait_open(struct torc_wait *wait, int doorbell, struct torc_fail *why)
{
    enum torc_err err;

    wait->doorbell = doorbell;
    wait->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (wait->epoll < 0) {
        return torc_fail(why, TORC_ERR_IO, "epoll: %s", strerrordesc_np(errno));
    }
    err = torc_wait_add(wait, doorbell, why);
    if (err != TORC_ERR_OK) {
        torc_wait_close(wait);
    }
    return err;
}

enum torc_err torc_wait_add(struct torc_wait *wait, int fd, struct torc_fail *why)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(wait->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        return torc_fail(why, TORC_ERR_IO, "epoll: descriptor %d: %s", fd, strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

void torc_wait_block(struct torc_wait *wait, uint64_t timeout_ns)
{
    struct epoll_event events[8];
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / TORC_NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % TORC_NS_PER_S)};
    int count = epoll_pwait2(wait->epoll, events, TORC_COUNT_OF(events),
                             timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);

    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == wait->doorbell) {
            torc_channel_hush(wait->doorbell);
        }
    }
}

void torc_wait_close(struct torc_wait *wait)
{
    if (wait->epoll >= 0) {
        (void)close(wait->epoll);
        wait->epoll = -1;
    }
}
