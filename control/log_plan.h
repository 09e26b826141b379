// Torc control: what is decided about one log stream while it is written.
//
// What    which block may be written now and where, what is durable, which ring slots may be given
//         back, how many segments to prepare, which segments nobody needs any more. It holds
//         numbers only: control/log_uring.c moves the bytes.
// Owner   control's one thread. Pure.
// Memory  the caller's array of segments (oldest first); the rest is inside.
// Life    init → add what is on disk → begin (a new life of the dataplane) or resume (a running
//         one) → take, done, advance, prepared, trim.
// Invariants
//   P1  Blocks are taken in the order of their sequence, each where the writer said, which must be
//       right behind the one before or the start of the next prepared segment.
//   P2  `durable` and the slots given back cover a block only when it and all before it are on
//       disk.
//   P3  A failed write is final: nothing becomes durable after it.
//   P4  A segment is let go only when a later one holds a block, and no block of it, that is none
//       from `floor` on, is needed.
#ifndef TORC_CONTROL_LOG_PLAN_H
#define TORC_CONTROL_LOG_PLAN_H

#include "kit/fail.h"

#define TORC_LOG_FLIGHTS_MAX  64u // the greatest log-inflight
#define TORC_LOG_AHEAD        2u  // segments prepared beside the one being filled
#define TORC_LOG_SEGMENTS_MAX 8192u

struct torc_log_plan_segment {
    uint64_t generation;
    uint64_t first_sequence; // of its first block; 0: none is known to be in it
    uint64_t cut_sequence;   // > 0: blocks of older segments at or above it are void
    uint32_t segment;
    uint32_t segment_bytes;
    uint32_t file; // the caller's own: where it is open, 0 nowhere
};

struct torc_log_flight {
    uint64_t sequence; // 0: a filler
    uint32_t slots;
    uint32_t byte_count;
    uint32_t offset_bytes;
    uint32_t file;
    bool done;
};

// What a block says of itself (the fields of its header that the plan looks at).
struct torc_log_plan_block {
    uint64_t sequence;
    uint64_t generation;
    uint32_t stream;
    uint32_t segment;
    uint32_t offset_bytes;
    uint32_t byte_count;
    uint32_t slots;
};

struct torc_log_plan {
    uint32_t stream;
    uint32_t flights_max;
    struct torc_log_plan_segment *segments;
    uint32_t segment_room;
    uint32_t segment_count;
    uint32_t filling;       // index of the segment that blocks go into; UINT32_MAX none yet
    uint32_t offset_bytes;  // where the next block goes; 0: wherever its writer says
    uint64_t next_sequence; // 0: the next block says
    uint64_t durable;       // 0: not known
    uint32_t first;         // of the flights
    uint32_t flight_count;
    uint32_t taken_slots; // in flight
    struct torc_log_flight flights[TORC_LOG_FLIGHTS_MAX];
    bool failed;
    struct torc_fail failure;
};

void torc_log_plan_init(struct torc_log_plan *plan, uint32_t stream, uint32_t flights_max,
                        struct torc_log_plan_segment *segments, uint32_t segment_room);

// A segment that is on disk, in rising order of numbers. False: the table is full.
bool torc_must_use torc_log_plan_add(struct torc_log_plan *plan,
                                     const struct torc_log_plan_segment *segment);

// A new life of the dataplane: blocks from `next_sequence` on go into segments that are prepared
// from now on.
void torc_log_plan_begin(struct torc_log_plan *plan, uint64_t next_sequence);

// What a running dataplane says of its log.
struct torc_log_plan_seen {
    uint64_t sealed;  // its last block
    uint32_t segment; // the one it fills now, 0: none yet
    uint32_t told;    // the last one it was told of, 0: none
};

// It goes on. It is to be told of the segments above the number that comes back: never of those of
// lives before, whose blocks may be needed. One that was told of none begins where it would have.
uint32_t torc_log_plan_resume(struct torc_log_plan *plan, const struct torc_log_plan_seen *seen);

// True when a further block or filler may be taken out of the ring.
bool torc_log_plan_can_take(const struct torc_log_plan *plan);

// The next block of the ring. CORRUPT when it is not what must come: then nothing was taken.
enum torc_err torc_must_use torc_log_plan_take(struct torc_log_plan *plan,
                                               const struct torc_log_plan_block *block,
                                               struct torc_log_flight **flight,
                                               struct torc_fail *why);

// A filler of the ring.
void torc_log_plan_skip(struct torc_log_plan *plan, uint32_t slots);

// The write of a flight came back with `result`: bytes, or -errno, of which `text` is the name.
void torc_log_plan_done(struct torc_log_plan *plan, struct torc_log_flight *flight, int32_t result,
                        const char *text);

// The sequence up to which all would be durable, and the slots to give back, if advanced now.
// False: nothing has changed. The caller tells the worker, then calls torc_log_plan_advance.
bool torc_log_plan_look(const struct torc_log_plan *plan, uint64_t *durable, uint32_t *slots);
void torc_log_plan_advance(struct torc_log_plan *plan);

// How many segments should be prepared beside those there are.
uint32_t torc_log_plan_wants(const struct torc_log_plan *plan);

// Prepared and not yet written into.
uint32_t torc_log_plan_ahead(const struct torc_log_plan *plan);

// The number of the segment to prepare next, and what its header says about a cut.
uint32_t torc_log_plan_next_segment(const struct torc_log_plan *plan);
uint64_t torc_log_plan_next_cut(const struct torc_log_plan *plan);

// The oldest segment, if no block of it is needed: blocks below `floor` are not. It is taken off
// the list.
bool torc_must_use torc_log_plan_trim(struct torc_log_plan *plan, uint64_t floor,
                                      struct torc_log_plan_segment *segment);

#endif
