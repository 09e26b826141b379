// Torc storage: the bytes of an inner node.
//
// What    `count` children and the count-1 separators between them: child i holds the keys in
//         [separator i-1, separator i).
//             0  base            8   separators are base + (delta << shift)
//             8  count           2   children, 1 or more
//            10  capacity        2   children it has room for
//            12  width           1   bytes of a delta: 2, 4 or 8
//            13  shift           1   every separator has that many zero bits at its end
//            14  zero           10
//            24  level           1   1 or more; at the same place in a leaf
//            25  zero            7
//            32  separators      capacity x width, sorted
//             …  children        capacity x 4: node numbers
//         Separators are the shortest that part two leaves, so they end in many zero bits and 16
//         bits are mostly enough for their differences within one node.
// Owner   the tree's core.  Memory  the node is the tree's; nothing is allocated here.
#ifndef TORC_STORAGE_INNER_H
#define TORC_STORAGE_INNER_H

#include "storage/tree.h"
#include "storage/tree_code.h"

#define TORC_INNER_HEAD_BYTES 32u
#define TORC_INNER_COUNT_MAX  160u
#define TORC_INNER_WIDE_MAX   ((TORC_NODE_BYTES - TORC_INNER_HEAD_BYTES) / 12u) // 64-bit deltas

struct torc_inner {
    uint64_t base;
    uint16_t count;
    uint16_t capacity;
    uint8_t width;
    uint8_t shift;
    uint8_t zero[10];
    uint8_t level;
    uint8_t zero_too[7];
    unsigned char bytes[];
};

_Static_assert(offsetof(struct torc_inner, bytes) == TORC_INNER_HEAD_BYTES, "as documented");
_Static_assert(offsetof(struct torc_inner, level) == 24, "as documented");
_Static_assert(2 * (TORC_INNER_WIDE_MAX & ~1u) > TORC_INNER_COUNT_MAX, "any split fits two nodes");

// An inner node unpacked: separators[i] lies between children[i] and children[i + 1]. Room for two
// whole nodes and one more.
struct torc_inner_list {
    uint32_t count; // children
    uint64_t separators[2 * TORC_INNER_COUNT_MAX + 2];
    uint32_t children[2 * TORC_INNER_COUNT_MAX + 2];
};

static inline const uint32_t *torc_inner_children(const struct torc_inner *inner)
{
    return (const uint32_t *)(const void *)(inner->bytes + (size_t)inner->capacity * inner->width);
}

// The index of the child that holds `key`.
uint32_t torc_inner_find(const struct torc_inner *inner, const struct torc_tree_code *code,
                         uint64_t key);

uint64_t torc_inner_separator(const struct torc_inner *inner, uint32_t index);

// Would `count` children from `first` of the list fit one node?
bool torc_inner_fits(const struct torc_inner_list *list, uint32_t first, uint32_t count);

void torc_inner_decode(const struct torc_inner *inner, struct torc_inner_list *list);

// Writes children [first, first + count) of the list and the separators between them.
void torc_inner_encode(struct torc_inner *inner, uint8_t level, const struct torc_inner_list *list,
                       uint32_t first, uint32_t count);

// Puts `child` behind children[index], with `separator` before it. False when the node must be
// written anew first.
bool torc_inner_insert(struct torc_inner *inner, uint32_t index, uint64_t separator,
                       uint32_t child);

// Changes separators[index]. False when it would not fit the node, which is then unchanged.
bool torc_inner_move(struct torc_inner *inner, uint32_t index, uint64_t separator);

// Takes children[index] out, with the separator before it (the one behind it when index is 0).
void torc_inner_remove(struct torc_inner *inner, uint32_t index);

// NULL, or what is wrong with it by itself.
const char *torc_inner_check(const struct torc_inner *inner);

#endif
