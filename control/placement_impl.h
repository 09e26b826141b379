// Torc control: what the files of placement share.
//
// What    flags of a node in struct torc_placement; dividing the weight into shares.
// Owner   as placement.h.
#ifndef TORC_CONTROL_PLACEMENT_IMPL_H
#define TORC_CONTROL_PLACEMENT_IMPL_H

#include "control/placement.h"

#define PLACEMENT_WORDS (TORC_PLACEMENT_IDS / 64)

enum {
    PLACEMENT_UP = 1,       // may get replicas
    PLACEMENT_DRAINING = 2, // is to lose its own
    PLACEMENT_MARKED = 4,   // of a pass: wants more, or is above its limit
    PLACEMENT_DONOR = 8,    // gives to a new node
    PLACEMENT_BROKEN = 2    // of a list, in place of `changed`: it cannot stay
};

// Divides `whole` among `count` in proportion to their capacities, none having more than its cap;
// what the caps keep from some goes to the others. Returns what is left over: caps may add up to
// less than the whole, and divisions cut.
uint64_t torc_placement_divide(uint64_t whole, const uint64_t *capacities, const uint64_t *caps,
                               uint64_t *shares, uint32_t count);

// Orders nodes by load measured by share: a / share_a < b / share_b.
static inline bool placement_lighter(uint64_t a, uint64_t share_a, uint64_t b, uint64_t share_b)
{
    return (unsigned __int128)a * share_b < (unsigned __int128)b * share_a;
}

static inline uint64_t placement_weight(const struct torc_placement_shard *shard)
{
    return torc_max_u64(shard->weight, 1);
}

static inline void placement_unmark(struct torc_placement *p, uint32_t node)
{
    p->flags[node] &= (uint8_t)~PLACEMENT_MARKED;
    p->marked_count--;
}

// Whether the node may hold the shard in place of its replica `except`, or beside all.
bool torc_placement_may_hold(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t node,
                             uint32_t except, uint32_t per_domain);

// Whether the node may have the list's nodes, its replica `except` aside, as new partners: it then
// has partners_max at most, they have fewer than others_max now.
bool torc_placement_may_meet(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t node,
                             uint32_t except, uint32_t partners_max, uint32_t others_max);

// The node that takes the shard in place of its replica `except`: one of the next few clockwise or
// one that makes nobody new partners, below the lower bound or else the upper; before the upper one
// when `calm`, which says that the replica could stay as well, a stranger. None of these has more
// partners then than MENDED; else the same up to PARTNERS, then one of the next few whatever it
// has, at last whoever is lightest. 0: none.
uint32_t torc_placement_pick(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t token,
                             uint32_t except, bool calm);

// The lightest of all that may hold the shard beside the others.
uint32_t torc_placement_pick_lightest(const struct torc_placement *p,
                                      const struct torc_placement_shard *shard, uint32_t except,
                                      uint32_t per_domain);

// Changes of a list, with the loads and partners that follow.
void torc_placement_replace(struct torc_placement *p, struct torc_placement_shard *shard,
                            uint32_t index, uint32_t node);
void torc_placement_drop(struct torc_placement *p, struct torc_placement_shard *shard,
                         uint32_t index);
void torc_placement_insert(struct torc_placement *p, struct torc_placement_shard *shard,
                           uint32_t index, uint32_t node);
void torc_placement_note_partners(struct torc_placement *p,
                                  const struct torc_placement_shard *shard, uint32_t index);

// A node with less than half its share is new: the heaviest nodes give it theirs, all of them a
// little. Taking from its neighbours alone it would take most from some and leave others above the
// limit that has come down, who would have to move as much again.
void torc_placement_welcome(struct torc_placement *p, struct torc_placement_shard *shards,
                            uint32_t shard_count);

// Nodes with less than LOW get what the ring says is theirs.
void torc_placement_pull_all(struct torc_placement *p, struct torc_placement_shard *shards,
                             uint32_t shard_count);

// Each node's share of the weight, and the bounds that follow from it.
void torc_placement_shares(struct torc_placement *p, uint64_t weight);

#endif
