// Torc control: its end of the channel to the dataplane. See control/attach_os.h.
#include "control/attach_os.h"

#include "kit/clock_os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ATTACH_FDS_MAX = 2 + (int)TORC_CHAN_WORKERS_MAX,
    ATTACH_ANSWER_MS = 5000 // the dataplane's listener answers between two polls of its own
};

static void attach_shut(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

void torc_attach_close(struct torc_attach *attach)
{
    attach_shut(&attach->socket);
    attach_shut(&attach->pidfd);
    attach_shut(&attach->doorbell);
    for (uint32_t i = 0; i < TORC_CHAN_WORKERS_MAX; i++) {
        attach_shut(&attach->doorbells[i]);
    }
    if (attach->chan != NULL) {
        (void)munmap(attach->chan, attach->hello.bytes);
        attach->chan = NULL;
    }
    free(attach->ports);
    attach->ports = NULL;
}

static enum torc_err attach_connect(struct torc_attach *attach, const char *path,
                                    struct torc_fail *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.100s…: a socket's path has at most %zu bytes; choose a shorter --data",
                         path, sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    attach->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (attach->socket < 0) {
        return torc_fail(why, TORC_ERR_IO, "socket: %s", strerrordesc_np(errno));
    }
    if (connect(attach->socket, (const struct sockaddr *)(const void *)&address, sizeof(address)) !=
        0) {
        return torc_fail(why, TORC_ERR_NOT_CONNECTED, "connect %.100s: %s", path,
                         strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

// Takes the descriptors out of a message: memfd, our doorbell, the workers'.
static uint32_t attach_take_fds(struct msghdr *message, int *fds)
{
    uint32_t count = 0;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
            count = (uint32_t)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            torc_assert(count <= ATTACH_FDS_MAX); // the buffer holds no more
            memcpy(fds, CMSG_DATA(head), count * sizeof(int));
        }
    }
    return count;
}

static enum torc_err attach_hello(struct torc_attach *attach, int *fds, uint32_t *fd_count,
                                  struct torc_fail *why)
{
    struct torc_chan_hello ours = {
        .magic = TORC_CHAN_MAGIC, .version = TORC_CHAN_VERSION, .pid = (uint32_t)getpid()};
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(ATTACH_FDS_MAX * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = &attach->hello, .iov_len = sizeof(attach->hello)};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct pollfd ready = {.fd = attach->socket, .events = POLLIN};
    ssize_t got;

    if (send(attach->socket, &ours, sizeof(ours), MSG_NOSIGNAL) != (ssize_t)sizeof(ours) ||
        poll(&ready, 1, ATTACH_ANSWER_MS) != 1) {
        return torc_fail(why, TORC_ERR_NOT_CONNECTED, "channel: the dataplane does not answer");
    }
    got = recvmsg(attach->socket, &message, MSG_CMSG_CLOEXEC);
    *fd_count = got > 0 ? attach_take_fds(&message, fds) : 0;
    if (got != (ssize_t)sizeof(attach->hello) || attach->hello.magic != TORC_CHAN_MAGIC) {
        return torc_fail(why, TORC_ERR_NOT_CONNECTED, "channel: the dataplane hung up");
    }
    if (attach->hello.status != TORC_ERR_OK) {
        return torc_fail(why, (enum torc_err)attach->hello.status,
                         "channel: dataplane %" PRIu32 " refuses: %s", attach->hello.pid,
                         attach->hello.status == TORC_ERR_IN_USE
                             ? "another torc-control is attached to it"
                             : torc_err_sentence((enum torc_err)attach->hello.status));
    }
    if (attach->hello.version != TORC_CHAN_VERSION) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "channel: the dataplane speaks version %" PRIu32
                         ", this control %u: restart both",
                         attach->hello.version, TORC_CHAN_VERSION);
    }
    return TORC_ERR_OK;
}

static enum torc_err attach_map(struct torc_attach *attach, int memfd, struct torc_fail *why)
{
    struct stat size;
    int seals = fcntl(memfd, F_GET_SEALS);
    enum torc_err err = TORC_ERR_OK;
    void *memory;

    // Unsealed memory could be cut under our feet (SIGBUS).
    if (fstat(memfd, &size) != 0 || (uint64_t)size.st_size < attach->hello.bytes || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "channel: memory of %" PRIu64 " bytes not sealed",
                         attach->hello.bytes);
    }
    memory = mmap(NULL, attach->hello.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (memory == MAP_FAILED) {
        return torc_fail(why, TORC_ERR_IO, "channel: map: %s", strerrordesc_np(errno));
    }
    attach->chan = memory;
    attach->map = torc_chan_map(memory);
    err = torc_chan_check(memory, attach->hello.bytes, why);
    if (err == TORC_ERR_OK && attach->chan->worker_count != attach->hello.worker_count) {
        err =
            torc_fail(why, TORC_ERR_CORRUPT, "channel: %" PRIu32 " workers, %" PRIu32 " announced",
                      attach->chan->worker_count, attach->hello.worker_count);
    }
    attach->ports = calloc(attach->hello.worker_count, sizeof(*attach->ports));
    torc_assert(attach->ports != NULL);
    for (uint32_t i = 0; i < attach->hello.worker_count && err == TORC_ERR_OK; i++) {
        err = torc_chan_attach(attach->ports + i, TORC_CHAN_CONTROL, memory, attach->hello.bytes, i,
                               why);
    }
    return err;
}

enum torc_err torc_attach_open(struct torc_attach *attach, const char *path, struct torc_fail *why)
{
    int fds[ATTACH_FDS_MAX];
    uint32_t fd_count = 0;
    enum torc_err err;

    *attach = (struct torc_attach){.socket = -1, .pidfd = -1, .doorbell = -1};
    for (uint32_t i = 0; i < TORC_CHAN_WORKERS_MAX; i++) {
        attach->doorbells[i] = -1;
    }
    err = attach_connect(attach, path, why);
    if (err == TORC_ERR_OK) {
        err = attach_hello(attach, fds, &fd_count, why);
    }
    if (err == TORC_ERR_OK &&
        (attach->hello.worker_count == 0 || attach->hello.worker_count > TORC_CHAN_WORKERS_MAX ||
         fd_count != 2 + attach->hello.worker_count)) {
        err = torc_fail(why, TORC_ERR_CORRUPT,
                        "channel: %" PRIu32 " descriptors for %" PRIu32 " workers", fd_count,
                        attach->hello.worker_count);
    }
    if (err == TORC_ERR_OK) {
        err = attach_map(attach, fds[0], why);
    }
    if (err == TORC_ERR_OK) {
        attach->doorbell = fds[1];
        memcpy(attach->doorbells, fds + 2, attach->hello.worker_count * sizeof(int));
        (void)close(fds[0]); // the mapping holds it
        attach->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)attach->hello.pid, 0); // may be missing
        attach->number =
            1 + atomic_fetch_add_explicit(&attach->chan->control_attached, 1, memory_order_release);
        return TORC_ERR_OK;
    }
    for (uint32_t i = 0; i < fd_count; i++) {
        (void)close(fds[i]);
    }
    torc_attach_close(attach);
    return err;
}

bool torc_attach_is_lost(const struct torc_attach *attach)
{
    struct pollfd ready[] = {{.fd = attach->socket, .events = POLLIN},
                             {.fd = attach->pidfd, .events = POLLIN}}; // -1 is passed over

    // The dataplane says nothing after its hello: whatever can be read is the end.
    return poll(ready, TORC_COUNT_OF(ready), 0) > 0;
}

void torc_attach_kill(const struct torc_attach *attach)
{
    if (attach->pidfd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, attach->pidfd, SIGKILL, NULL, 0);
    } else {
        (void)kill((pid_t)attach->hello.pid, SIGKILL);
    }
}

void torc_attach_wake(struct torc_attach *attach)
{
    const uint64_t one = 1;
    bool fenced = false;

    for (uint32_t i = 0; i < attach->hello.worker_count; i++) {
        struct torc_chan_worker *page = attach->ports[i].worker;

        if (!attach->rung[i]) {
            continue;
        }
        attach->rung[i] = false;
        if (!fenced) { // pairs with the fence between `sleeping = 1` and the worker's last look
            atomic_thread_fence(memory_order_seq_cst);
            fenced = true;
        }
        if (torc_chan_wants_bell(page)) {
            uint64_t bell_ns = torc_chan_bell_ns(page, torc_clock_now_ns());

            // A full counter is as good as a rung bell.
            if (write(attach->doorbells[i], &one, sizeof(one)) < 0) {
                continue;
            }
            torc_chan_rang(page, bell_ns, torc_clock_now_ns());
        }
    }
}

void torc_attach_sleeping(struct torc_attach *attach, bool sleeping)
{
    for (uint32_t i = 0; sleeping && i < attach->hello.worker_count; i++) {
        torc_assert(!attach->rung[i]);
    }
    atomic_store_explicit(&attach->chan->control_sleeping, sleeping ? 1 : 0, memory_order_relaxed);
    if (sleeping) { // pairs with the fence between publishing and the worker's look at the flag
        atomic_thread_fence(memory_order_seq_cst);
    }
}
