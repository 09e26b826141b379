// Torc control: placement: which nodes should hold each shard.
//
// What    a deterministic function of the nodes, the ring that follows from them, and the replica
//         lists there are. A replica stays unless its node is gone, draining, in a doubled domain
//         or above its bound; then the next node clockwise below the bound takes it. A new node
//         is given its share by the heaviest, one that has drifted far down by its neighbours on
//         the ring. One function for all of it: a first placement has empty lists.
// Weight  what is balanced: a shard's bytes, or what the caller makes of its bytes and load.
// Share   a node's share of all weight is in proportion to its capacity, but no node and no domain
//         can have more replicas of a shard than one (or `per_domain`): what is too large for that
//         has less, all others more.
// Domains `per_domain` is the least that the replicas can be spread with: 1 where there are as many
//         domains as replicas. It counts domains, not room: the first node of a third domain gets a
//         replica of every shard when R is 3. Register a domain's nodes as DOWN until all are
//         there.
// Owner   control's one thread, of the node that leads placement. Pure.
// Memory  struct torc_placement (4.7 MB), the caller's; 24 B a shard, the caller's; as much again
//         while they are put in order.
// Cost    of 1 M shards of 3 replicas on 1000 nodes: perf/ring-bench.
// Invariants
//   L1  the replicas of a list are different nodes, none of which is gone.
//   L2  no domain has more than per_domain of them, unless no node that is up could be had.
//   L3  a list is as long as `copies`, and never longer than `replicas`.
//   L4  to balance, a replica moves to a node only when that node's load, measured by its share,
//       is lower with it than the load of the node that it leaves was; so nothing moves back and
//       forth.
// Sources DESIGN.md section 3; Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded
//         Loads", SODA 2018; docs/decisions, number 22.
#ifndef TORC_CONTROL_PLACEMENT_H
#define TORC_CONTROL_PLACEMENT_H

#include "control/ring.h"
#include "kit/fail.h"

#define TORC_PLACEMENT_IDS          4096u // node numbers are 1..4095
#define TORC_PLACEMENT_DOMAINS      4096u // domain numbers are 1..4095, and 0 for none
#define TORC_PLACEMENT_REPLICAS_MAX 7u

// Bounds, in thousandths of a node's share. Who takes a replica stays at or below ACCEPT, so that
// joins, which lower all shares, do not put it above LIMIT at once; up to BRIM where those below
// are not among the shard's nodes' partners. LIMIT leaves 0.005 of the goal's 1.05 to counting
// replicas rather than bytes.
#define TORC_PLACEMENT_ACCEPT 1010u
#define TORC_PLACEMENT_BRIM   1040u
#define TORC_PLACEMENT_LIMIT  1045u
// A new node gets NEW: less than its share, for what others above the limit lose at its join counts
// as moved too. A node that has drifted down is kept at LOW.
#define TORC_PLACEMENT_NEW   940u
#define TORC_PLACEMENT_LOW   900u
#define TORC_PLACEMENT_HEAVY 1010u // above it a node gives first

// Nodes that a node shares a shard with. Sought, not promised: the goal is 64 at 1000 nodes. What
// mends lists (another node left, or had too much) makes nobody more partners than MENDED while it
// can, so that the rest is left to nodes that join, who cannot but meet others. With 58 for both,
// and none for the next few clockwise, the most were 78 to 118 after 300 changes; so, 62 to 64.
#define TORC_PLACEMENT_PARTNERS 62u
#define TORC_PLACEMENT_MENDED   56u

enum torc_placement_state {
    TORC_PLACEMENT_UP,
    TORC_PLACEMENT_DOWN,     // keeps what it has, gets nothing
    TORC_PLACEMENT_DRAINING, // loses all of it as others can take it
};

struct torc_placement_node {
    struct torc_ring_member member;
    enum torc_placement_state state;
};

// Sorted by torc_ring_position(shard).
struct torc_placement_shard {
    uint32_t shard;
    uint32_t weight;                             // 0 counts as 1
    uint16_t nodes[TORC_PLACEMENT_REPLICAS_MAX]; // the wished primary first
    uint8_t count;
    uint8_t changed; // 1: the last plan changed the list
};

struct torc_placement {
    struct torc_ring ring;
    uint32_t replicas;
    uint32_t copies; // as many as there are nodes for
    uint32_t per_domain;
    uint32_t marked_count; // of a pass
    uint32_t near;
    bool first;                             // all lists were empty
    uint16_t domain_of[TORC_PLACEMENT_IDS]; // a number for each domain; 0: the node is gone
    uint16_t place_of[TORC_PLACEMENT_IDS * 2];
    uint8_t flags[TORC_PLACEMENT_IDS];
    uint64_t load[TORC_PLACEMENT_IDS];
    uint64_t share[TORC_PLACEMENT_IDS];
    uint64_t accept[TORC_PLACEMENT_IDS];
    uint64_t brim[TORC_PLACEMENT_IDS];
    uint64_t limit[TORC_PLACEMENT_IDS];
    uint64_t goal[TORC_PLACEMENT_IDS]; // of a marked node
    uint64_t arrived;
    uint64_t missing;
    struct torc_ring_member members[TORC_PLACEMENT_IDS]; // those on the ring
    uint32_t member_count;
    uint16_t partner_count[TORC_PLACEMENT_IDS];
    uint64_t partners[TORC_PLACEMENT_IDS][TORC_PLACEMENT_IDS / 64]; // a bit for each
    uint64_t scratch[3][TORC_PLACEMENT_IDS];
    struct torc_ring_token tokens[TORC_PLACEMENT_IDS * TORC_RING_TOKENS_MAX];
};

struct torc_placement_result {
    uint64_t arrived; // replicas on a node that did not have them: what is copied
    uint64_t missing; // replicas that no node could be found for
    uint64_t changed; // lists; a replica may have gone and come back
    uint32_t rounds;
};

// How many shards a cluster of `nodes` alike nodes may begin with, so that no two of them share
// more than `pair_max`, also when one is gone. UINT64_MAX: with one replica they share none.
uint64_t torc_placement_shards_max(uint64_t nodes, uint64_t replicas, uint64_t pair_max);

// Takes the nodes, in any order. INVALID_ARGUMENT names a node that makes no sense: a number or
// domain out of range, there twice, without capacity; or says that no node is up.
enum torc_err torc_must_use torc_placement_nodes(struct torc_placement *placement,
                                                 const struct torc_placement_node *nodes,
                                                 uint32_t node_count, uint32_t replicas,
                                                 struct torc_fail *why);

// Puts the shards into the order that a plan wants. `spare` has room for as many.
void torc_placement_sort(struct torc_placement_shard *shards, struct torc_placement_shard *spare,
                         uint32_t shard_count);

// Changes the lists into what is wanted. What goes in is what was wanted last or, for a shard that
// nothing was wanted of, where it lies.
void torc_placement_plan(struct torc_placement *placement, struct torc_placement_shard *shards,
                         uint32_t shard_count, struct torc_placement_result *result);

#endif
