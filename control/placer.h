// Torc control: placement as each node runs it: a machine of control/leader.h, what it works in,
// what it hears of the survey, and the word that this node is there.
//
// What    one in every node that has copies. Programs and the simulator are around the same one.
//         Of a node with shards their records tell whether it is there. One that has none and is
//         wished none, and that may get some, writes its own record anew (TORC_NOTE_ALIVE): as soon
//         as that is so, but not more often than each quarter of `gone_ns`, within 1 and 60 s.
// Owner   control's one thread. Pure.
// Memory  the struct, 6 MB, the caller's.
// Asks    as control/leader.h.
#ifndef TORC_CONTROL_PLACER_H
#define TORC_CONTROL_PLACER_H

#include "control/follow.h"
#include "control/leader.h"
#include "control/note.h"

#define TORC_PLACER_TICKET UINT64_C(0x20102) // of the leader's requests
#define TORC_PLACER_ALIVE  UINT32_C(0x20103) // of the note's

struct torc_placer_config {
    uint64_t nonce; // random
    uint64_t boot;  // of this node
    uint32_t node;
    uint32_t replicas;
    uint64_t lease_ns; // a change's deadline is a quarter of it at most, a list's a half
    uint64_t pace_ns;  // between two transactions with wishes
    uint64_t gone_ns;  // down for so long, a node is drained
};

struct torc_placer {
    struct torc_leader leader;
    struct torc_placement placement;
    struct torc_placement_shard shards[TORC_CHAN_MAP_ENTRIES];
    struct torc_placement_shard spare[TORC_CHAN_MAP_ENTRIES];
    struct torc_leader_want written[TORC_CHAN_MAP_ENTRIES];
    uint64_t node_changes; // of nodes' records, as last looked at
    uint64_t changes;      // of all, the same
    struct torc_note alive;
    uint64_t alive_at_ns;       // not before
    enum torc_survey_seat seat; // of this node
    bool shows;                 // it is to say that it is there
};

void torc_placer_init(struct torc_placer *placer, const struct torc_placer_config *config,
                      uint64_t now_ns);

// Hears what has changed in the survey since the last look. `serves`: this node's dataplane does.
void torc_placer_look(struct torc_placer *placer, uint64_t now_ns, const struct torc_follow *follow,
                      bool serves);

static inline bool torc_placer_is_mine(uint64_t ticket)
{
    return ticket == TORC_PLACER_TICKET || (ticket & UINT32_MAX) == TORC_PLACER_ALIVE;
}

// True: submit `request` (its deadline is the caller's to set); it counts as submitted then.
bool torc_must_use torc_placer_next(struct torc_placer *placer, uint64_t now_ns,
                                    struct torc_meta_request *request);

// An answer with a ticket of this machine. `nonce`: a random number.
void torc_placer_take(struct torc_placer *placer, uint64_t now_ns,
                      const struct torc_meta_answer *answer, uint64_t nonce);

// When torc_placer_look or _next may have something to do again, without an answer.
uint64_t torc_placer_deadline_ns(const struct torc_placer *placer);

#endif
