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
//            32  samples        32   the first separator of each line but the first (not for width
//                                    8), then ones
//            64  separators      5 lines of width 2, 7 of 4, 10 of 8; sorted, then ones
//             …  children        capacity x 4: node numbers
//         Separators are the shortest that part two leaves, so they end in many zero bits and 16
//         bits are mostly enough for their differences within one node. A search reads three lines:
//         the head, whose samples tell the line of separators, that line, and the child's. All ones
//         are no separator's delta (of width 2 and 4), so that neither search needs a count.
// Owner   the tree's core.  Memory  the node is the tree's; nothing is allocated here.
#ifndef TORC_STORAGE_INNER_H
#define TORC_STORAGE_INNER_H

#include "storage/tree.h"
#include "storage/tree_code.h"

#define TORC_INNER_HEAD_BYTES   64u
#define TORC_INNER_SAMPLE_BYTES 32u
#define TORC_INNER_LINE_BYTES   64u  // of separators with one sample
#define TORC_INNER_COUNT_MAX    158u // children, of width 2
#define TORC_INNER_HALF_MAX     112u // of width 4
#define TORC_INNER_WIDE_MAX     80u  // of width 8

// Where the children begin, by width.
#define TORC_INNER_AT_2 (TORC_INNER_HEAD_BYTES + 5 * TORC_INNER_LINE_BYTES)
#define TORC_INNER_AT_4 (TORC_INNER_HEAD_BYTES + 7 * TORC_INNER_LINE_BYTES)
#define TORC_INNER_AT_8 (TORC_INNER_HEAD_BYTES + 10 * TORC_INNER_LINE_BYTES)

struct torc_inner {
    uint64_t base;
    uint16_t count;
    uint16_t capacity;
    uint8_t width;
    uint8_t shift;
    uint8_t zero[10];
    uint8_t level;
    uint8_t zero_too[7];
    unsigned char samples[TORC_INNER_SAMPLE_BYTES];
    unsigned char bytes[];
};

_Static_assert(offsetof(struct torc_inner, bytes) == TORC_INNER_HEAD_BYTES, "as documented");
_Static_assert(offsetof(struct torc_inner, level) == 24, "as documented");
_Static_assert(2 * TORC_INNER_WIDE_MAX > TORC_INNER_COUNT_MAX + 1, "any split fits two nodes");
_Static_assert(TORC_INNER_AT_2 + 4 * TORC_INNER_COUNT_MAX <= TORC_NODE_BYTES, "room for children");
_Static_assert(TORC_INNER_AT_4 + 4 * TORC_INNER_HALF_MAX <= TORC_NODE_BYTES, "room for children");
_Static_assert(TORC_INNER_AT_8 + 4 * TORC_INNER_WIDE_MAX <= TORC_NODE_BYTES, "room for children");

// An inner node unpacked: separators[i] lies between children[i] and children[i + 1]. Room for two
// whole nodes and one more.
struct torc_inner_list {
    uint32_t count; // children
    uint64_t separators[2 * TORC_INNER_COUNT_MAX + 2];
    uint32_t children[2 * TORC_INNER_COUNT_MAX + 2];
};

static inline uint32_t torc_inner_children_at(uint32_t width)
{
    return width == 2 ? TORC_INNER_AT_2 : width == 4 ? TORC_INNER_AT_4 : TORC_INNER_AT_8;
}

static inline const uint32_t *torc_inner_children(const struct torc_inner *inner)
{
    const unsigned char *bytes = (const void *)inner;

    return (const uint32_t *)(const void *)(bytes + torc_inner_children_at(inner->width));
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

// Puts another node in the place of children[index].
void torc_inner_child_set(struct torc_inner *inner, uint32_t index, uint32_t child);

// Takes children[index] out, with the separator before it (the one behind it when index is 0).
void torc_inner_remove(struct torc_inner *inner, uint32_t index);

// NULL, or what is wrong with it by itself.
const char *torc_inner_check(const struct torc_inner *inner);

#endif
