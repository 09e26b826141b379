// Torc cli: `torc serve`: the parent of a node's two processes.
//
// What    makes the data directory when there is none, and the kernel links; starts torc-dataplane
//         and torc-control, which live and die apart; starts again the one that died; stops both in
//         order; removes the links that it made.
// Owner   one thread: it sleeps until a child, a signal or a timer has something to say.
// Order   start: directory, lock of run/serve.pid, links, both children. Stop: control first
//         (it ends requests and writes checkpoints, for which the dataplane is needed), then that.
// Ends    SIGTERM, SIGINT, SIGHUP: a clean stop; a second one: SIGKILL to both. A child that dies
//         before the node was ever ready ends the start: its message is the answer. When this
//         process dies, the kernel tells control to stop and kills the dataplane: nothing that was
//         acknowledged is lost, and nothing holds the directory.
// Exit    0 after a clean stop, else as torc_exit_of (client/cli/args.h).
#ifndef TORC_CLIENT_CLI_SERVE_OS_H
#define TORC_CLIENT_CLI_SERVE_OS_H

#include "kit/fail.h"

// argv[0] is how the user called the program, the settings follow. Returns the exit status.
int torc_serve(int argc, char **argv);

// `torc init`, `torc verify`: becomes torc-control, with the verb and `words` (ended by NULL).
// Returns only when that failed.
enum torc_err torc_must_use torc_serve_control(const char *verb, char *const *words,
                                               struct torc_fail *why);

// `torc demo`: becomes the script of that name, with `words`, and tells it by TORC_PROGRAM which
// torc to use: this one. Returns only when that failed.
enum torc_err torc_must_use torc_serve_demo(char *const *words, struct torc_fail *why);

#endif
