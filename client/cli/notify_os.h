// Torc cli: how a child says that it is ready: the socket that systemd would have given it.
//
// What    a datagram socket under a name the kernel chose, handed on as NOTIFY_SOCKET. The sender's
//         process id is the kernel's word: what others of the machine send is ignored.
// Owner   `torc serve`, its one thread.
// Sources sd_notify(3).
#ifndef TORC_CLIENT_CLI_NOTIFY_OS_H
#define TORC_CLIENT_CLI_NOTIFY_OS_H

#include "kit/fail.h"

#include <sys/types.h>

#define TORC_NOTIFY_TEXT_BYTES 200

struct torc_notify {
    int fd;
    char address[64]; // for the variable: @…
};

struct torc_notify_news {
    bool ready;                          // READY=1
    char status[TORC_NOTIFY_TEXT_BYTES]; // STATUS=…, empty when it says none
};

enum torc_err torc_must_use torc_notify_open(struct torc_notify *notify, struct torc_fail *why);

// True and the next message of process `pid`; false when there is none. Does not block.
bool torc_notify_take(struct torc_notify *notify, pid_t pid, struct torc_notify_news *news);

void torc_notify_close(struct torc_notify *notify);

#endif
