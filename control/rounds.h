// Torc control: when checkpoints of all shards are made again.
//
// What    a round is due when the log has grown by so much since the last that succeeded began, or
//         when segments that no worker writes any more wait to be let go. One that failed is
//         tried again soon, at first: what fails is mostly a full disk, which one more checkpoint
//         is to empty, and the log grows meanwhile; then ever less often.
// Owner   control's one thread. Pure.
// Invariants
//   D1  growth is counted from the last round that succeeded, whatever failed since.
//   D2  a round that succeeds ends all waiting for those that failed.
#ifndef TORC_CONTROL_ROUNDS_H
#define TORC_CONTROL_ROUNDS_H

#include "kit/base.h"

// Bets: a disk is full for seconds or until somebody comes.
#define TORC_ROUNDS_PAUSE_LEAST_NS UINT64_C(500000000)
#define TORC_ROUNDS_PAUSE_MOST_NS  UINT64_C(16000000000)
#define TORC_ROUNDS_CALM_NS        UINT64_C(60000000000) // between rounds for old segments alone

struct torc_rounds {
    uint64_t begun_bytes;  // written to the log when the last round began
    uint64_t kept_bytes;   // and the last that succeeded
    uint64_t before_bytes; // in the log before this process wrote to it
    uint64_t ended_ns;     // when the last ended, or the node began to serve
    uint64_t pause_ns;     // since then, after one that failed; 0: it succeeded
    uint64_t failures;     // in all, when the last round began
    bool open;
};

// A life of the dataplane begins to serve; what was open ended with the one before.
void torc_rounds_serve(struct torc_rounds *rounds, uint64_t now_ns);

// `failures`: of all checkpoints of this life so far. Begun again while one is open, an operator's
// wish say, it is the same round.
void torc_rounds_begin(struct torc_rounds *rounds, uint64_t written_bytes, uint64_t failures);
void torc_rounds_end(struct torc_rounds *rounds, uint64_t now_ns, uint64_t failures);

// Of the log since the last round that succeeded (D1).
uint64_t torc_rounds_grown(const struct torc_rounds *rounds, uint64_t written_bytes);

struct torc_rounds_view {
    uint64_t written_bytes; // to the log
    uint64_t most_bytes;    // how much it may grow
    bool orphans;           // segments of no worker wait
    bool first;             // no round was made yet
};

bool torc_rounds_due(const struct torc_rounds *rounds, uint64_t now_ns,
                     const struct torc_rounds_view *view);

#endif
