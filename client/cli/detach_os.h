// Torc cli: `torc serve --detach`: the starting command returns when the node is ready.
//
// What    the process parts in two. The first shows what the second says until it has an exit
//         status for it, and ends with that. The second has no terminal; its standard error, and
//         its children's, is a log file from the start, its standard output the first one's until
//         it is done.
// Owner   `torc serve`, before it makes anything.
#ifndef TORC_CLIENT_CLI_DETACH_OS_H
#define TORC_CLIENT_CLI_DETACH_OS_H

#include "kit/fail.h"

#include <sys/types.h>

struct torc_detach {
    bool on;
    int said; // the first process reads here what the second one writes as standard output
    off_t log_start;
    char log[600];
};

// In the first process *first is true and *status set: end with it. In the second: false.
// `renames`: a log that is too long gets another name; nobody writes it any more.
enum torc_err torc_must_use torc_detach_begin(struct torc_detach *detach, const char *log,
                                              bool renames, bool *first, int *status,
                                              struct torc_fail *why);

// The second process: the first one's work is done, with this status.
void torc_detach_done(struct torc_detach *detach, int status);

#endif
