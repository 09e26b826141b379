// Torc control: placement as each node runs it: a machine of control/leader.h, what it works in,
// and what it hears of the survey.
//
// What    one in every node that has copies. Programs and the simulator are around the same one.
// Owner   control's one thread. Pure.
// Memory  the struct, 6 MB, the caller's.
// Asks    torc_leader_next and the others of `leader` are the caller's to call.
#ifndef TORC_CONTROL_PLACER_H
#define TORC_CONTROL_PLACER_H

#include "control/follow.h"
#include "control/leader.h"

#define TORC_PLACER_TICKET UINT64_C(0x20102) // of its requests

struct torc_placer_config {
    uint64_t nonce; // random
    uint64_t boot;  // of this node
    uint32_t node;
    uint32_t replicas;
    uint64_t lease_ns; // a request's deadline is a quarter of it at most
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
};

void torc_placer_init(struct torc_placer *placer, const struct torc_placer_config *config,
                      uint64_t now_ns);

// The leader hears what has changed in the survey since the last look.
void torc_placer_look(struct torc_placer *placer, const struct torc_follow *follow);

#endif
