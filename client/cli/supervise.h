// Torc cli: when to start a child process again.
//
// What    the two server processes live and die apart; each has one of these. A death is followed
//         by a start after a pause that doubles while deaths come soon after starts, and is short
//         again after a calm time.
// Owner   `torc serve`, its one thread. A pure machine: the edge starts, waits and kills.
// Invariants
//   U1  Between two starts lies at least the pause that torc_supervise_died returned.
//   U2  A process that dies before the node was ever ready ends the start: its message is the
//       answer.
#ifndef TORC_CLIENT_CLI_SUPERVISE_H
#define TORC_CLIENT_CLI_SUPERVISE_H

#include "kit/base.h"

#define TORC_SUPERVISE_PAUSE_LEAST_NS \
    UINT64_C(50000000) // a bet: a node is away no longer than needed
#define TORC_SUPERVISE_PAUSE_MOST_NS \
    UINT64_C(5000000000) // a bet: a broken node does not burn a core
#define TORC_SUPERVISE_CALM_NS UINT64_C(10000000000)

enum torc_supervise_state {
    TORC_SUPERVISE_DOWN, // to be started at start_ns
    TORC_SUPERVISE_UP,
    TORC_SUPERVISE_ENDED // stopped for good
};

struct torc_supervise {
    enum torc_supervise_state state;
    uint64_t start_ns; // DOWN: when to start; UP: when it was started
    uint64_t pause_ns; // the last one
    uint32_t deaths;
};

void torc_supervise_init(struct torc_supervise *child, uint64_t now_ns);

// The edge started it.
void torc_supervise_started(struct torc_supervise *child, uint64_t now_ns);

// It ended, unasked. Returns the pause before the next start.
uint64_t torc_supervise_died(struct torc_supervise *child, uint64_t now_ns);

// No further start.
void torc_supervise_end(struct torc_supervise *child);

// When the edge must look again: UINT64_MAX for never.
static inline uint64_t torc_supervise_deadline_ns(const struct torc_supervise *child)
{
    return child->state == TORC_SUPERVISE_DOWN ? child->start_ns : UINT64_MAX;
}

#endif
