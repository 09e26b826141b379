// Torc dataplane: blocking until a port or a doorbell has something.
//
// What    one epoll set a thread: its doorbell (an eventfd) and the descriptors of its queues.
// Owner   the thread that blocks.
// Memory  one descriptor.
// Rules   a port's descriptor is the driver's: it is waited on, never read. It stays ready until
//         the driver took what is there, so nothing that came before the wait is missed.
#ifndef TORC_DATAPLANE_WAIT_OS_H
#define TORC_DATAPLANE_WAIT_OS_H

#include "kit/fail.h"

struct torc_wait {
    int epoll;
    int doorbell;
};

// `doorbell` is made quiet by whoever waits.
enum torc_err torc_must_use torc_wait_open(struct torc_wait *wait, int doorbell,
                                           struct torc_fail *why);

enum torc_err torc_must_use torc_wait_add(struct torc_wait *wait, int fd, struct torc_fail *why);

// Blocks until something is ready, at most timeout_ns (UINT64_MAX: for ever).
void torc_wait_block(struct torc_wait *wait, uint64_t timeout_ns);

void torc_wait_close(struct torc_wait *wait);

#endif
