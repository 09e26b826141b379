// Torc control: the ring: where nodes and shards stand on it.
//
// What    each node has tokens on a ring of 2^64 positions, in proportion to its capacity; each
//         shard has one position. A shard belongs to the nodes of the next tokens clockwise; which
//         of them is control/placement.h's to say.
// Even    tokens are not random. The ring is cut into TORC_RING_TOKENS sectors, and a node of mean
//         capacity has one token in each. In a sector the nodes of a domain stand at the multiples
//         of an irrational number by their slots: slot * alpha + phase, modulo 1. Such points
//         divide a circle into gaps of two or three lengths, whose ratio is about 1.618^2 at most
//         when alpha ends as the golden ratio does; each sector has an alpha of its own, so that
//         a node has other neighbours in each, and each domain a phase of its own.
// Slot    a small number, given to a node at its registration: the smallest that is free in its
//         domain (torc_ring_free_slot), kept for life. So a token depends on its node alone: others
//         come and go without moving it. Holes in the slots cost evenness, nothing else.
// Owner   control's one thread. Pure: the same members give the same ring, in any order.
// Memory  the caller's tokens: 16 B each, at most TORC_RING_TOKENS_MAX a member.
// Invariants
//   R1  tokens are sorted by (position, node).
//   R2  each member has at least one token.
// Sources Karger et al., STOC 1997 (the ring); Sos 1958, "three gaps"; figures: docs/decisions,
//         number 22.
#ifndef TORC_CONTROL_RING_H
#define TORC_CONTROL_RING_H

#include "kit/base.h"

// Measured (perf/ring-bench): 8 keep a node's partners below 64 at 1000 nodes also in three domains
// and with capacities of 1 : 4; 12 would not.
#define TORC_RING_TOKENS     8u
#define TORC_RING_TOKENS_MAX 32u

struct torc_ring_member {
    uint32_t capacity; // above 0, in a unit of the caller's
    uint16_t node;
    uint16_t domain; // 0: none, the node is one by itself
    uint16_t slot;
};

struct torc_ring_token {
    uint64_t position;
    uint16_t node;
};

struct torc_ring {
    struct torc_ring_token *tokens;
    uint32_t token_count;
};

// Makes the ring anew. `tokens` has room for TORC_RING_TOKENS_MAX a member.
void torc_ring_build(struct torc_ring *ring, struct torc_ring_token *tokens,
                     const struct torc_ring_member *members, uint32_t member_count);

// The first token at or clockwise of the position.
uint32_t torc_ring_find(const struct torc_ring *ring, uint64_t position);

// The smallest slot that no member of the domain has.
uint16_t torc_ring_free_slot(const struct torc_ring_member *members, uint32_t member_count,
                             uint16_t domain);

// Where a shard stands: a bijection of its number, which is never used again.
static inline uint64_t torc_ring_position(uint32_t shard)
{
    uint32_t mixed = shard;

    mixed = (mixed ^ (mixed >> 16)) * 0x7feb352du;
    mixed = (mixed ^ (mixed >> 15)) * 0x846ca68bu;
    return (uint64_t)(mixed ^ (mixed >> 16)) << 32;
}

#endif
