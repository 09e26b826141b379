// Torc cli: a server process that `torc serve` watches.
//
// What    finding the program beside this one, starting it so that it cannot outlive us, asking and
//         forcing it to end, and its last status in words.
// Owner   `torc serve`, its one thread.
// Memory  `path` and the pointer to the words, which are the caller's.
#ifndef TORC_CLIENT_CLI_CHILD_OS_H
#define TORC_CLIENT_CLI_CHILD_OS_H

#include "client/cli/supervise.h"
#include "kit/fail.h"

#include <sys/types.h>

#define TORC_CHILD_PATH_BYTES 600

struct torc_child {
    const char *name;   // torc-control
    char *const *words; // its settings, ended by NULL
    const char *notify; // NOTIFY_SOCKET for it; NULL: none
    int death_signal;   // what the kernel sends it when this process dies
    pid_t pid;          // 0: none runs
    int pidfd;          // -1: none runs
    int status;         // of waitpid, of the last one that ended
    struct torc_supervise supervise;
    char path[TORC_CHILD_PATH_BYTES];
};

// Where program `name` is: beside this one, as in a build tree, or as it is installed. NOT_FOUND
// names the places.
enum torc_err torc_must_use torc_child_find(const char *name, char path[TORC_CHILD_PATH_BYTES],
                                            struct torc_fail *why);

// Starts it, with `verb` (may be NULL) before its words, in a session of its own: no terminal
// signals it. All signals are unblocked in it.
enum torc_err torc_must_use torc_child_start(struct torc_child *child, const char *verb,
                                             struct torc_fail *why);

// True when it ended, and `status` says how; false while it runs. `wait`: until it ends.
bool torc_child_ended(struct torc_child *child, bool wait);

void torc_child_signal(const struct torc_child *child, int number);

// "status 3" or "signal 9 (Killed)".
void torc_child_status(const struct torc_child *child, char *text, uint32_t text_bytes);

#endif
