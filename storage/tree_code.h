// Torc storage: the tree's hot parts, compiled once per instruction set.
//
// What    the functions that search and descend, as a constant table. storage/tree_hot.h is their
//         one source; tree_plain.c, tree_avx2.c and tree_avx512.c compile it with flags of their
//         own and export one table each. An edge chooses (storage/cpu_os.h); tests compare them
//         all.
// Owner   none: pure functions of the tree.  Memory  none. No vector type crosses this header.
#ifndef TORC_STORAGE_TREE_CODE_H
#define TORC_STORAGE_TREE_CODE_H

#include "kit/base.h"

struct torc_leaf;
struct torc_tree;
struct torc_tree_hit;
struct torc_tree_pair;

struct torc_tree_code {
    const char *name;
    // Among numbers in no order: how many of numbers[0 .. count) are below x, and which are x, a
    // bit each (count <= 128). They may read up to 64 bytes past the last number, and at least 128
    // bytes, inside the same node.
    uint32_t (*below16)(const uint16_t *numbers, uint32_t count, uint16_t x);
    void (*equal16)(const uint16_t *numbers, uint32_t count, uint16_t x, uint64_t equal[2]);
    // How many of the sorted numbers[0 .. count) are not above x. They may read up to 64 bytes past
    // the last number, inside the same node.
    uint32_t (*upto16)(const uint16_t *numbers, uint32_t count, uint16_t x);
    uint32_t (*upto32)(const uint32_t *numbers, uint32_t count, uint32_t x);
    uint32_t (*upto64)(const uint64_t *numbers, uint32_t count, uint64_t x);
    // The leaves of up to TORC_TREE_BATCH keys, each leaf's first lines on their way to the cache.
    // True: the guide led, and may have led astray. See storage/tree_guide.h.
    bool (*locate)(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                   uint32_t *leaves);
    // Asks for what a write of each key will change in its leaf, whose first lines were asked for.
    void (*touch)(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                  const uint32_t *leaves);
    void (*lookup)(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                   struct torc_tree_hit *hits);
    // `count` records from the one that `place` others lie before, in the direction of a scan.
    void (*read)(const struct torc_leaf *leaf, uint32_t place, uint32_t count, bool reverse,
                 struct torc_tree_pair *pairs);
};

extern const struct torc_tree_code torc_tree_code_plain; // runs everywhere
extern const struct torc_tree_code torc_tree_code_avx2;
extern const struct torc_tree_code torc_tree_code_avx512; // F, BW, VL, DQ

#endif
