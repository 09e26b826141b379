// Torc storage: the guide, a table that leads from a key to its leaf past the inner nodes.
//
// What    keys from `first` on are cut into equal pieces of 2^shift keys, an entry each: the
//         leaf that holds the piece's first key, and where in the piece the next leaf begins, if
//         one does; that leaf is the next entry's. 1.3 to 2.7 entries a leaf: with fewer it is
//         begun anew. So where keys lie about evenly a descent is one line of the guide instead
//         of three of each level.
// Truth   splits, moves between neighbours and leaves put elsewhere keep entries up to date, and
//         while nothing else happens to leaves the guide is `exact`: its word is good. After
//         anything else, as when leaves are joined, entries are hints. A key found in the leaf
//         that a hint names is right wherever the hint came from, for a key is in one leaf of
//         the tree; so is a place between two keys of that leaf. Whoever finds neither goes down
//         from the root; writes that had to count, and many make the guide be filled anew. The
//         leaf must be the tree's own, so once a chunk was given back the guide is not used
//         until it has been filled anew.
// Skew    where more than 1 in GUIDE_HIDDEN leaves shares a piece with two others the guide is
//         given up until the tree has twice as many leaves. Keys outside it, and those of pieces
//         with more than two leaves, go down from the root.
// Cost    filling it is done a few leaves a batch of writes, or by a core that has nothing else
//         to do. A split changes about three entries, GUIDE_WALK_MAX at the most.
// Owner   the tree's core.
// Memory  whole chunks of the tree's pool, 8 bytes an entry; given back when the pool is empty.
//         TORC_GUIDE_CHUNKS_MAX bound it; with more leaves an entry has several of them.
#ifndef TORC_STORAGE_TREE_GUIDE_H
#define TORC_STORAGE_TREE_GUIDE_H

#include "storage/tree.h"

struct torc_guide_entry {
    uint32_t leaf;
    uint32_t next_at; // where the next leaf begins, in units of 2^fine keys; or one of these:
};

#define TORC_GUIDE_ALONE UINT32_MAX // no other leaf begins in it
#define TORC_GUIDE_MANY  0u         // go down from the root

// Leaves filled in by one batch of writes. More make the batch slow, fewer let leaves split before
// they are filled in; a batch splits one leaf.
#define TORC_GUIDE_STEP_LEAVES 8u

#define TORC_GUIDE_CHUNK_BITS 15u // entries of a chunk

_Static_assert(sizeof(struct torc_guide_entry) << TORC_GUIDE_CHUNK_BITS == TORC_CHUNK_BYTES,
               "a chunk full of entries");

static inline struct torc_guide_entry *torc_guide_at(const struct torc_tree *tree, uint64_t index)
{
    unsigned char *chunk =
        tree->chunks.base +
        (uint64_t)tree->guide.chunks[index >> TORC_GUIDE_CHUNK_BITS] * TORC_CHUNK_BYTES;

    return (struct torc_guide_entry *)(void *)chunk +
           (index & ((UINT64_C(1) << TORC_GUIDE_CHUNK_BITS) - 1));
}

// Which entry a key falls into. Entries below `usable` are filled in; the last of them is not used,
// for its next one is not.
static inline uint64_t torc_guide_index(const struct torc_tree *tree, uint64_t key)
{
    return key < tree->guide.first ? UINT64_MAX : (key - tree->guide.first) >> tree->guide.shift;
}

// Where in its entry a key lies, in the units of next_at.
static inline uint32_t torc_guide_part(const struct torc_tree *tree, uint64_t key)
{
    uint64_t part = (key - tree->guide.first) & ((UINT64_C(1) << tree->guide.shift) - 1);

    return (uint32_t)(part >> tree->guide.fine);
}

static inline bool torc_guide_leads(const struct torc_tree *tree)
{
    return tree->guide.usable > 0 && tree->guide.given == tree->chunks.given;
}

// The slow part of torc_tree_guide_go_on.
void torc_guide_step(struct torc_tree *tree, uint32_t leaf_count_max);

// To be called now and then: begins a guide, or fills the next part of it.
static inline void torc_tree_guide_go_on(struct torc_tree *tree, uint32_t leaf_count_max)
{
    const struct torc_tree_guide *guide = &tree->guide;

    if (torc_unlikely(tree->leaf_count >= guide->due ||
                      (guide->entry_count > 0 && guide->given != tree->chunks.given))) {
        torc_guide_step(tree, leaf_count_max);
    }
}

// A write found that its key's leaf is another one than the guide said.
void torc_tree_guide_astray(struct torc_tree *tree);

// A new leaf, linked at `separator`, took the upper part of `left`.
void torc_tree_guide_split(struct torc_tree *tree, uint32_t left, uint32_t right,
                           uint64_t separator);

// Two neighbours are parted at `separator` now.
void torc_tree_guide_moved(struct torc_tree *tree, uint32_t left, uint32_t right,
                           uint64_t separator_old, uint64_t separator);

// A leaf went, and what it held has no entry that is right.
static inline void torc_tree_guide_lost(struct torc_tree *tree)
{
    tree->guide.exact = false;
}

// The leaf that holds `key` lies in another node.
void torc_tree_guide_renamed(struct torc_tree *tree, uint64_t key, uint32_t from, uint32_t to);

// Gives its memory back; true when it had some.
bool torc_tree_guide_drop(struct torc_tree *tree);

// How many entries in use name another leaf than the one that holds their first key. For tests.
uint64_t torc_tree_guide_wrong(const struct torc_tree *tree);

#endif
