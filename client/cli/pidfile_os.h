// Torc cli: run/serve.pid: which `torc serve` runs a data directory, and how to end it.
//
// What    the file holds the process id and is flocked for as long as that process lives: a pid
//         whose file is not locked is dead, whoever has its number now. The second line has -1 and
//         how many ms its stop may take; a serve that ends by itself leaves its exit status there
//         instead, for who has the file open. Builds before that line knew no TORC_PIDFILE_STOP.
// Owner   `torc serve` holds it; `torc stop` reads it.
#ifndef TORC_CLIENT_CLI_PIDFILE_OS_H
#define TORC_CLIENT_CLI_PIDFILE_OS_H

#include "kit/fail.h"

// What `torc stop` sends along with its SIGTERM (si_value of SI_QUEUE): a stop that is asked for
// again by it is only waited for. A signal without it, a person's, is the second one that kills.
#define TORC_PIDFILE_STOP 0x746f7263

// Takes run/serve.pid of `data`; the descriptor is held for life. IN_USE: another serve has it.
// stop_ms: how long a clean stop of this one may take.
enum torc_err torc_must_use torc_pidfile_take(const char *data, uint64_t stop_ms, int *fd,
                                              struct torc_fail *why);

// Whether a serve runs `data`.
bool torc_pidfile_held(const char *data);

// The end of its holder, with this exit status: removes the file.
void torc_pidfile_leave(const char *data, int fd, int status);

// Ends the serve of `data` by SIGTERM and waits for it; 0: as long as its stop may take. Of one
// that stops already it only waits for the end. NOT_FOUND when none runs; DEADLINE: the text says
// whether to ask again is safe; IO: its stop was not clean, or it was killed.
enum torc_err torc_must_use torc_pidfile_stop(const char *data, uint64_t timeout_us,
                                              struct torc_fail *why);

#endif
