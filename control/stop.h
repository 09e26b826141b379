// Torc control: the order in which a node stops cleanly.
//
// What    checkpoints (they only make the next start faster), then primaries are handed over and
//         the node leaves the in-sync sets (control/yield.h), then workers come to rest and the log
//         is written out; only then may the data directory be sealed. Each part ends when it is
//         done, when its time is over, when somebody is in a hurry, or when the log has failed.
// Owner   control's one thread. Pure: who asks says what it sees.
// Sources docs/decisions/0032.
#ifndef TORC_CONTROL_STOP_H
#define TORC_CONTROL_STOP_H

#include "kit/base.h"

enum torc_stop {
    TORC_STOP_CHECKPOINTS,
    TORC_STOP_HANDOVER,
    TORC_STOP_REST,
    // Ends.
    TORC_STOP_SEAL,    // all that was acknowledged is on the disk
    TORC_STOP_UNCLEAN, // the log had failed
    TORC_STOP_LATE     // a worker does not come to rest, or the log is not written out
};

struct torc_stop_seen {
    uint64_t waited_ns; // in this part
    uint64_t most_ns;   // that it may take
    uint32_t left;      // torc_yield_left; 0 where nothing is handed over
    bool hurry;         // told to stop once more: no part but the last is waited for
    bool log_failed;
    bool in_round; // checkpoints are being made
    bool rests;    // all workers
    bool drained;  // the log; asked once all rest, for then workers are told nothing more
};

// The part to be in, given the one it is in, which is no end.
enum torc_stop torc_must_use torc_stop_next(enum torc_stop at, const struct torc_stop_seen *seen);

#endif
