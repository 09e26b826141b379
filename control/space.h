// Torc control: when the disk's room asks for checkpoints, before the log has taken all of it.
//
// What    a round of checkpoints lets segments of the log go, but takes room itself first: what the
//         shards hold now, and the log goes on growing meanwhile. So it begins while there is room
//         for both, and not so often that it writes more than the log does. What is left at the
//         last is the round's: it gives it back, the log does not.
// Owner   none: pure functions.
// Source  docs/decisions, number 38.
#ifndef TORC_CONTROL_SPACE_H
#define TORC_CONTROL_SPACE_H

#include "kit/base.h"

#define TORC_SPACE_SEGMENTS 2u // of each stream: a bet, what it takes while a round is made

struct torc_space {
    uint64_t free_bytes; // of the disk
    uint64_t live_bytes; // that checkpoints of all shards would take
    uint64_t segment_bytes;
    uint32_t stream_count;
    bool full; // no further segment can be prepared
};

// Room that is left is hardly enough for a round, or not: spare segments are better let go of.
bool torc_space_is_short(const struct torc_space *space);

// While a round is made: the log gets no further segment.
bool torc_space_is_last(const struct torc_space *space);

// How much the log may grow between two rounds: `most_bytes`, as long as there is room for it on
// the disk, and in a stream's table of segments (TORC_LOG_SEGMENTS_MAX).
uint64_t torc_space_growth(const struct torc_space *space, uint64_t most_bytes);

#endif
