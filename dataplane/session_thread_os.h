// Torc dataplane: the thread that answers handshakes, so that they never stand before a read.
//
// What    the shell around torc_sessions_step: time, random bytes, doorbells, blocking.
// Owner   the program's main thread starts and stops it; the thread alone changes the table.
// Memory  none beside the table.
#ifndef TORC_DATAPLANE_SESSION_THREAD_OS_H
#define TORC_DATAPLANE_SESSION_THREAD_OS_H

#include "dataplane/sessions.h"

#include <pthread.h>

struct torc_session_thread {
    struct torc_sessions *sessions;
    void *chan;
    const int *worker_doorbells;
    int doorbell; // workers ring it
    bool started;
    _Atomic bool stop; // stored by the main thread
    pthread_t thread;
};

// Makes the doorbell and starts the thread. The table, the channel in `chan` and the doorbells of
// workers outlive it.
enum torc_err torc_must_use torc_session_thread_open(struct torc_session_thread *self,
                                                     struct torc_sessions *sessions, void *chan,
                                                     const int *worker_doorbells,
                                                     struct torc_fail *why);

void torc_session_thread_close(struct torc_session_thread *self);

#endif
