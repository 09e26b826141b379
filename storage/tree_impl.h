// Torc storage: what the files of the tree share among themselves. Nobody else includes it.
#ifndef TORC_STORAGE_TREE_IMPL_H
#define TORC_STORAGE_TREE_IMPL_H

#include "storage/inner.h"
#include "storage/leaf.h"

// What one write may need at the most. Of its own: a leaf cut in three makes 2 nodes; each of them
// is linked into an inner node of level 1, which may split: 2 more. Above, a link pays half a node,
// which comes to 1 + 1/2 + 1/4 … < 2: see torc_tree_slack.
#define TORC_TREE_NODES_PER_WRITE 6u

// Inner nodes are joined only when no more children than this are in both: see torc_tree_slack.
#define TORC_TREE_JOIN_MAX 110u

// A cut may lie this part of all records beside the middle, for a shorter separator.
#define TORC_TREE_CUT_NEAR 8u

// After so many inserts in a row at a leaf's end the keys are taken to rise (or to fall), and its
// split leaves it full. A bet: long enough not to be chance, short against a leaf.
#define TORC_TREE_RUN_MIN 6

// From so many keys on it is looked whether they rise, several a leaf.
#define TORC_TREE_RISING_MIN 8u

static inline struct torc_leaf *torc_tree_leaf(const struct torc_tree *tree, uint32_t node)
{
    return torc_node_at(tree->chunks.base, node);
}

static inline struct torc_inner *torc_tree_inner(const struct torc_tree *tree, uint32_t node)
{
    return torc_node_at(tree->chunks.base, node);
}

// How many of `left` keys to take next: as few batches as it takes, of about the same size, for a
// small rest would wait for memory as long as a full one.
static inline uint32_t torc_tree_batch_next(uint32_t left)
{
    uint32_t batches = (left + TORC_TREE_BATCH - 1) / TORC_TREE_BATCH;

    return (left + batches - 1) / batches;
}

// Asks for all of a node. Always inlined: gcc 12 takes a function that only prefetches for one
// without effect, and drops the call.
static inline __attribute__((always_inline)) void torc_tree_node_prefetch(
    const struct torc_tree *tree, uint32_t node)
{
    const char *bytes = torc_node_at(tree->chunks.base, node);

    for (uint32_t at = 0; at < TORC_NODE_BYTES; at += 64) {
        __builtin_prefetch(bytes + at);
    }
}

// How far ahead of a leaf that keys in order fill memory is asked for. Measured with 2: a record of
// 16 B took 2.9 instead of 3.9 ns, for a store that has to wait for its line is what costs most.
#define TORC_TREE_AHEAD_NODES 2u

static inline __attribute__((always_inline)) void torc_tree_ahead_prefetch(
    const struct torc_leaf *leaf)
{
    const char *bytes = (const char *)leaf + (size_t)TORC_TREE_AHEAD_NODES * TORC_NODE_BYTES;

    for (uint32_t at = 0; at < TORC_NODE_BYTES; at += 64) {
        __builtin_prefetch(bytes + at, 1);
    }
}

void torc_tree_path_find(const struct torc_tree *tree, uint64_t key, struct torc_tree_path *path);

// The last key that child path->nodes[level] may hold.
uint64_t torc_tree_path_last(const struct torc_tree *tree, const struct torc_tree_path *path,
                             uint32_t level);

// To the next leaf in the given direction; false, and the path unchanged, at the end.
bool torc_must_use torc_tree_path_step(const struct torc_tree *tree, struct torc_tree_path *path,
                                       bool forward);

// Free nodes that no promise may use up: what the inner nodes of level 2 and above, as they are
// now, may need for splitting, beyond half a node for each child put in. Let a node with n children
//     owe 0 up to 78, 1/2 at 79, 1 from 80, 3/2 at 111, 2 from 112, 5/2 at 157, 3 at 158.
// A node is cut when it is full, which is at 80, 112 or 158 by its width, or when its separators
// get wider at 80 or more. Cut in the middle, the parts of one with n children owe together 0 for
// n < 156, then 1/2, 1 and (n = 158) 3/2; cut at its end, which happens only to full ones, the left
// part owes 1/2 less than before. Either way what was owed and the half that was paid suffice for
// the node that is made. Joining gives a node back and owes 1.
uint64_t torc_tree_slack(const struct torc_tree *tree);

// Free nodes that must stay: for promises, and for one write that has none. T5.
uint64_t torc_tree_keep(const struct torc_tree *tree);

// True when `nodes` more than all promises can be had; takes chunks for them.
bool torc_must_use torc_tree_ensure(struct torc_tree *tree, uint32_t nodes);

enum torc_err torc_tree_full(const struct torc_tree *tree, uint32_t value_bytes,
                             struct torc_fail *why);

uint32_t torc_tree_node_take(struct torc_tree *tree, uint32_t level, uint32_t near);
void torc_tree_node_give(struct torc_tree *tree, uint32_t level, uint32_t node);

// Applies the first of the writes as long as they are new keys that rise at the tree's end, and
// nothing about them is out of the usual; how many.
uint32_t torc_tree_write_rising(struct torc_tree *tree, struct torc_tree_write *writes,
                                uint32_t count);

// The leaves of keys that rise, as long as there are several a leaf; of how many. Asks for all of
// each leaf.
uint32_t torc_tree_locate_rising(struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                                 uint32_t *leaves);

// Applies the first of the writes, whose keys rise and go into this leaf, together, as long as
// nothing about them is out of the usual; how many.
uint32_t torc_tree_write_leaf(struct torc_tree *tree, struct torc_leaf *leaf,
                              struct torc_tree_write *writes, uint32_t count);

// Counts inserts in a row at the end (up) or at the front (down) of a leaf.
static inline int8_t torc_tree_run_next(int8_t run, uint32_t index, uint32_t count_before)
{
    if (index == count_before) {
        return (int8_t)(run < 0 ? 1 : run < INT8_MAX ? run + 1 : run);
    }
    if (index == 0) {
        return (int8_t)(run > 0 ? -1 : run > -INT8_MAX ? run - 1 : run);
    }
    return 0;
}

// Of the places near `cut`, in [least, most], the one with the shortest separator: with short ones
// the nodes above stay narrow. Near: a part of `count`.
uint32_t torc_tree_cut_short(const struct torc_tree_pair *pairs, uint32_t count, uint32_t cut,
                             uint32_t least, uint32_t most);

// Adds a record that went into a leaf to the tree's accounts.
void torc_tree_count_in(struct torc_tree *tree, const struct torc_tree_pair *pair);

// The slow way of a write: the leaf's records and `pair`, which replaces the one at `index` or
// comes before it, are written anew, into as many leaves as it takes. The nodes were ensured.
void torc_tree_leaf_rewrite(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                            bool replace, const struct torc_tree_pair *pair);

// The fast way of an insert into a leaf that is full, but takes the record otherwise: makes room by
// moving some of its records to a neighbour or a new leaf, as they are, and inserts it. False, and
// no record has moved, when the leaf must be written anew.
bool torc_must_use torc_tree_leaf_relieve(struct torc_tree *tree, struct torc_leaf *leaf,
                                          uint32_t index, const struct torc_tree_pair *pair);

// To be called after every change of shape: records may have left these leaves, and no others.
static inline void torc_tree_moved(struct torc_tree *tree, uint32_t leaf, uint32_t other)
{
    tree->moved[0] = leaf;
    tree->moved[1] = other;
}

static inline uint32_t torc_tree_node_of(const struct torc_tree *tree, const void *node)
{
    return (uint32_t)(((const unsigned char *)node - tree->chunks.base) / TORC_NODE_BYTES);
}

// After `key` was deleted: an empty leaf goes, a small one is joined with a neighbour.
void torc_tree_leaf_shrunk(struct torc_tree *tree, const struct torc_leaf *leaf, uint64_t key);

// Fills the leaf at the path's end up to TORC_TREE_PACK_BYTES from the one behind it, if that is
// under the same parent. True when that one is gone now, so that there may be room for another.
// Takes no memory.
#define TORC_TREE_PACK_BYTES (TORC_LEAF_SPACE_BYTES * 7 / 8)
bool torc_must_use torc_tree_leaf_pack(struct torc_tree *tree, const struct torc_tree_path *path);

// Links `child` into an inner node of `level`, behind the one that holds keys below `separator`.
// Splits as far up as needed; the nodes were ensured.
void torc_tree_link(struct torc_tree *tree, uint32_t level, uint64_t separator, uint32_t child);

// The same for a leaf behind all others, mostly without a descent.
void torc_tree_link_last(struct torc_tree *tree, uint64_t separator, uint32_t leaf);

// Takes child `index` (which the caller gives back) out of path->nodes[level], and joins inner
// nodes that became small.
void torc_tree_unlink(struct torc_tree *tree, const struct torc_tree_path *path, uint32_t level,
                      uint32_t index);

// The shortest key s with left < s <= right.
static inline uint64_t torc_tree_separator(uint64_t left, uint64_t right)
{
    uint32_t bit = 63u - (uint32_t)__builtin_clzll(left ^ right);

    torc_assert(left < right);
    return right >> bit << bit;
}

// A leaf's bytes and records, for writing it anew: pairs point into the copy, or to a new value.
struct torc_tree_copy {
    _Alignas(64) unsigned char bytes[TORC_NODE_BYTES];
};

static inline const struct torc_leaf *torc_tree_copy_leaf(struct torc_tree_copy *copy,
                                                          const struct torc_leaf *leaf)
{
    memcpy(copy->bytes, leaf, sizeof(copy->bytes));
    return (const void *)copy->bytes;
}

// The level of a node that was a leaf and is free.
#define TORC_TREE_LEVEL_FREE 255u

#endif
