// Torc cli: see notify_os.h.
#include "client/cli/notify_os.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum torc_err torc_notify_open(struct torc_notify *notify, struct torc_fail *why)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t bytes = sizeof(name);
    int yes = 1;

    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // The family alone as name: the kernel chooses a free one.
    if (notify->fd < 0 ||
        bind(notify->fd, (const struct sockaddr *)(const void *)&name, sizeof(name.sun_family)) !=
            0 ||
        getsockname(notify->fd, (struct sockaddr *)(void *)&name, &bytes) != 0 ||
        setsockopt(notify->fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) != 0) {
        return torc_fail(why, TORC_ERR_IO, "the readiness socket: %s", strerrordesc_np(errno));
    }
    (void)snprintf(notify->address, sizeof(notify->address), "@%.*s",
                   (int)(bytes - offsetof(struct sockaddr_un, sun_path)) - 1, name.sun_path + 1);
    return TORC_ERR_OK;
}

static bool notify_is_from(struct msghdr *message, pid_t pid)
{
    struct ucred who;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&who, CMSG_DATA(part), sizeof(who));
            return who.pid == pid;
        }
    }
    return false;
}

static void notify_read(char *text, struct torc_notify_news *news)
{
    *news = (struct torc_notify_news){0};
    for (char *line; (line = strsep(&text, "\n")) != NULL;) {
        if (strcmp(line, "READY=1") == 0) {
            news->ready = true;
        } else if (strncmp(line, "STATUS=", 7) == 0) {
            (void)snprintf(news->status, sizeof(news->status), "%s", line + 7);
        }
    }
}

bool torc_notify_take(struct torc_notify *notify, pid_t pid, struct torc_notify_news *news)
{
    char text[1024];
    _Alignas(struct cmsghdr) char control[256];

    for (;;) {
        struct iovec piece = {text, sizeof(text) - 1};
        struct msghdr message = {.msg_iov = &piece,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof(control)};
        ssize_t got = recvmsg(notify->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (got < 0) {
            return false;
        }
        if (pid > 0 && notify_is_from(&message, pid)) {
            text[got] = '\0';
            notify_read(text, news);
            return true;
        }
    }
}

void torc_notify_close(struct torc_notify *notify)
{
    if (notify->fd >= 0) {
        (void)close(notify->fd);
    }
    notify->fd = -1;
}
