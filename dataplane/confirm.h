// Torc dataplane: packets whose reads wait until their shards are confirmed (read-mode = confirm).
//
// What    a lease says until when nobody else serves a shard, by clocks. Who does not trust clocks
//         asks instead: a read is answered when every member has answered a beat that was sent
//         after the read had arrived. This is the queue of those that wait. All that arrive before
//         a beat is asked for share it; no more than one question is on its way to worker 0, which
//         says from which beat on an answer counts (watch.h, torc_watch_ask).
// Owner   one worker. Pure: the time is an argument, the packets lie where the caller puts them, by
//         slot.
// Memory  the caller's, torc_confirm_bytes(); bounded by the slots.
// Full    torc_confirm_keep says NONE: the packet is answered at once, as without a lease. Whoever
//         has waited for wait_ns is given up in the same way.
// Invariants
//   C1  A packet is given with a bound that was told for a question asked after it was kept: a beat
//       that counts for it left after it had arrived, whatever clocks say.
//   C2  Packets are given in the order of their bounds, those of one bound in that of arrival, but
//       that whoever waits for a shard does not hold up who needs others.
// Sources REPLICATION.md, L7; docs/decisions/0037-stale-reads-by-clients.md.
#ifndef TORC_DATAPLANE_CONFIRM_H
#define TORC_DATAPLANE_CONFIRM_H

#include "kit/base.h"

#define TORC_CONFIRM_NONE    UINT32_MAX
#define TORC_CONFIRM_NEVER   UINT64_MAX // as a bound: no beat has been asked for
#define TORC_CONFIRM_LED_MAX 256u
#define TORC_CONFIRM_BATCH   32u

struct torc_confirm_config {
    uint64_t wait_ns;
    uint64_t again_ns; // after which an unanswered question is asked again: it may have been lost
    uint32_t slots;
};

// A shard that is led here: by when the beats were sent that all its members have answered.
struct torc_confirm_led {
    uint64_t shards; // its bit (torc_confirm_bit)
    uint64_t confirmed_ns;
    uint32_t place; // the caller's
};

struct torc_confirm_view {
    uint32_t count;
    struct torc_confirm_led led[TORC_CONFIRM_LED_MAX];
};

// Packets that are answered together.
struct torc_confirm_batch {
    uint64_t bound_ns; // what a shard has not confirmed at it may not be read for them
    uint32_t count;
    uint32_t slots[TORC_CONFIRM_BATCH];
};

struct torc_confirm_entry {
    uint64_t shards;   // bits of those that it needs
    uint64_t bound_ns; // TORC_CONFIRM_NEVER: not told yet
    uint64_t until_ns;
    uint32_t question; // whose answer is its bound
    uint32_t slot;
};

struct torc_confirm {
    struct torc_confirm_config config;
    struct torc_confirm_entry *entries; // by arrival
    uint32_t *free;                     // slots
    uint32_t free_count;
    uint32_t count;
    uint32_t question; // that those who come now belong to
    bool asking;       // the question before has no answer yet
    uint64_t asked_ns;
};

// Shards share bits when there are many: then one waits for the other as well, never too short.
static inline uint64_t torc_confirm_bit(uint32_t place)
{
    return UINT64_C(1) << place % 64;
}

uint64_t torc_confirm_bytes(uint32_t slots);

// `memory`: zeroed, aligned to 64.
void torc_confirm_init(struct torc_confirm *confirm, void *memory,
                       const struct torc_confirm_config *config);

// A packet that needs `shards` (not 0) has arrived: the slot where its caller puts it.
uint32_t torc_must_use torc_confirm_keep(struct torc_confirm *confirm, uint64_t now_ns,
                                         uint64_t shards);

// Whether a beat is to be asked for now: somebody waits who has none, or the answer is overdue.
bool torc_confirm_asks(const struct torc_confirm *confirm, uint64_t now_ns);

// It is being asked for. The number of the question, which comes back with the answer.
uint32_t torc_confirm_ask(struct torc_confirm *confirm, uint64_t now_ns);

// The answer: a beat sent at bound_ns or later left after the question was asked.
void torc_confirm_told(struct torc_confirm *confirm, uint32_t question, uint64_t bound_ns);

// Takes packets that may be answered, or have waited too long: up to `max` of one bound, oldest
// first. False: there are none.
bool torc_must_use torc_confirm_take(struct torc_confirm *confirm, uint64_t now_ns,
                                     const struct torc_confirm_view *view, uint32_t max,
                                     struct torc_confirm_batch *batch);

// The packet in `slot` has been answered.
void torc_confirm_free(struct torc_confirm *confirm, uint32_t slot);

// When to ask or take again though nothing is told; UINT64_MAX: nobody waits.
uint64_t torc_confirm_deadline_ns(const struct torc_confirm *confirm);

#endif
