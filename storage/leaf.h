// Torc storage: the bytes of a leaf.
//
// What    reads and writes one node of TORC_NODE_BYTES that holds up to TORC_LEAF_COUNT_MAX
//         records.
//             0  key_base        8   keys are key_base + delta
//             8  version_base    8   versions are version_base + delta
//            16  stamp           8   the highest version of any write or delete that changed it
//            24  level           1   0; at the same place in an inner node
//            25  count           1   records
//            26  capacity        1   how many records its arrays have room for
//            27  low_bytes       1   0..6: the low bytes of a key's delta, kept in its slot
//            28  version_bytes   1   0..8: a version's delta
//            29  form            1   0..128: every value has that many bytes; 255: varied
//            30  run             1   signed: inserts in a row at the last (first) place
//            31  in_order        1   1: order[i] is i for all of them
//            32  heap_low        2   varied: the cells fill [heap_low, heap end)
//            34  heap_dead       2   varied: bytes in it that no slot names
//            36  records_at      2   where the records begin
//            38  stride          1   bytes of a record
//            39  zero            1
//            40  hints           2 x capacity, by slot: delta >> (8 x low_bytes)
//             …  order           1 x capacity: the slot of the first key, the second, ...
//             …  records         capacity x (low_bytes + version_bytes + form, or + 4 if varied),
//                                by slot
//             …  heap            varied: cells of values, from the end down
//         A varied record ends in a cell's offset and length, 2 bytes each. Length 0 has no cell.
//         Length 0xffff: the cell is a pointer (8) and a length (4), the value lies in the core's
//         heap. The last 8 bytes stay free, so that an unaligned 8-byte load of any field stays in
//         the node.
// Owner   the tree's core.  Memory  the node is the tree's; nothing is allocated here.
// Invariants
//   L1  order[0 .. count) is a permutation of 0 .. count-1; none but i at i when in_order.
//   L2  keys rise strictly with the index in it.
// Why     A lookup need not know a slot's place among the others: it reads all hints, to find the
//         slot that has the key's, and that slot's record. An insert adds to the end of hints and
//         records, and moves bytes of the order alone.
#ifndef TORC_STORAGE_LEAF_H
#define TORC_STORAGE_LEAF_H

#include "storage/tree.h"
#include "storage/tree_code.h"

#include <string.h>

#define TORC_LEAF_COUNT_MAX   128u
#define TORC_LEAF_SLOT_NONE   255u
#define TORC_LEAF_HEAD_BYTES  40u
#define TORC_LEAF_HEAP_END    (TORC_NODE_BYTES - 8u)
#define TORC_LEAF_SPACE_BYTES (TORC_LEAF_HEAP_END - TORC_LEAF_HEAD_BYTES)
#define TORC_LEAF_VARIED      255u
#define TORC_LEAF_LARGE       0xffffu // a cell's length: the value lies in the core's heap
#define TORC_LEAF_CELL_BYTES  4u      // offset and length
#define TORC_LEAF_LARGE_BYTES 12u     // pointer and length
#define TORC_LEAF_LOW_MAX     6u

struct torc_leaf {
    uint64_t key_base;
    uint64_t version_base;
    uint64_t stamp;
    uint8_t level;
    uint8_t count;
    uint8_t capacity;
    uint8_t low_bytes;
    uint8_t version_bytes;
    uint8_t form;
    int8_t run;
    uint8_t in_order;
    uint16_t heap_low;
    uint16_t heap_dead;
    uint16_t records_at;
    uint8_t stride;
    uint8_t zero;
    uint16_t hints[];
};

_Static_assert(offsetof(struct torc_leaf, hints) == TORC_LEAF_HEAD_BYTES, "as documented");
_Static_assert(offsetof(struct torc_leaf, level) == 24, "as documented");
_Static_assert(TORC_LEAF_COUNT_MAX < 255, "counts and slots are bytes");
_Static_assert(TORC_TREE_INLINE_BYTES_MAX < TORC_LEAF_VARIED, "form tells them apart");

// How a run of records would be written.
struct torc_leaf_plan {
    uint64_t key_base;
    uint64_t version_base;
    uint32_t bytes; // of TORC_LEAF_SPACE_BYTES; more: it does not fit
    uint32_t heap_bytes;
    uint8_t low_bytes;
    uint8_t version_bytes;
    uint8_t form;
};

// The lowest `bytes` bytes set, for 0..8.
static inline uint64_t torc_leaf_mask(uint32_t bytes)
{
    return bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * bytes)) - 1;
}

static inline uint64_t torc_leaf_load(const unsigned char *bytes)
{
    uint64_t value;

    memcpy(&value, bytes, sizeof(value));
    return value;
}

static inline const uint8_t *torc_leaf_order(const struct torc_leaf *leaf)
{
    return (const uint8_t *)(leaf->hints + leaf->capacity);
}

static inline const unsigned char *torc_leaf_record(const struct torc_leaf *leaf, uint32_t slot)
{
    return (const unsigned char *)leaf + leaf->records_at + (size_t)slot * leaf->stride;
}

// Where a varied record's value lies.
const void *torc_leaf_cell(const struct torc_leaf *leaf, const unsigned char *cell,
                           uint32_t *value_bytes);

static inline void torc_leaf_get_slot(const struct torc_leaf *leaf, uint32_t slot,
                                      struct torc_tree_pair *pair)
{
    const unsigned char *record = torc_leaf_record(leaf, slot);

    pair->key = leaf->key_base + ((uint64_t)leaf->hints[slot] << (8 * leaf->low_bytes)) +
                (torc_leaf_load(record) & torc_leaf_mask(leaf->low_bytes));
    record += leaf->low_bytes;
    pair->version =
        leaf->version_base + (torc_leaf_load(record) & torc_leaf_mask(leaf->version_bytes));
    record += leaf->version_bytes;
    pair->value = record;
    pair->value_bytes = leaf->form;
    if (leaf->form == TORC_LEAF_VARIED) {
        pair->value = torc_leaf_cell(leaf, record, &pair->value_bytes);
    }
}

// The record at `index` in key order, 0 <= index < count.
static inline void torc_leaf_get(const struct torc_leaf *leaf, uint32_t index,
                                 struct torc_tree_pair *pair)
{
    torc_leaf_get_slot(leaf, torc_leaf_order(leaf)[index], pair);
}

// Bytes of TORC_LEAF_SPACE_BYTES that its records need.
uint32_t torc_leaf_used_bytes(const struct torc_leaf *leaf);

// An empty leaf.
void torc_leaf_format(struct torc_leaf *leaf);

// The index of the first key that is not below `key`; *found tells whether it is the key.
uint32_t torc_leaf_find(const struct torc_leaf *leaf, const struct torc_tree_code *code,
                        uint64_t key, bool *found);

// The slot of the key, which needs no look at the order; or TORC_LEAF_SLOT_NONE.
uint32_t torc_leaf_slot(const struct torc_leaf *leaf, const struct torc_tree_code *code,
                        uint64_t key);

// All records in order. Their values point into the leaf (or are a large value's block).
uint32_t torc_leaf_decode(const struct torc_leaf *leaf, struct torc_tree_pair *pairs);

// How `count` (>= 1) records in rising order would be written.
void torc_leaf_plan(struct torc_leaf_plan *plan, const struct torc_tree_pair *pairs,
                    uint32_t count);

// For a leaf begun by one record of a row that rises (or falls): widths as its neighbour's records
// need them by `like`, and room for keys above (below). It need not be written anew as it fills.
void torc_leaf_plan_start(struct torc_leaf_plan *plan, const struct torc_tree_pair *pair,
                          const struct torc_leaf_plan *like, bool rising);

// How many records from the first (at most `count`) fit one leaf; and how many up to the last.
uint32_t torc_leaf_fill(const struct torc_tree_pair *pairs, uint32_t count);
uint32_t torc_leaf_fill_back(const struct torc_tree_pair *pairs, uint32_t count);

static inline bool torc_leaf_fits(const struct torc_leaf_plan *plan, uint32_t count)
{
    return count <= TORC_LEAF_COUNT_MAX && plan->bytes <= TORC_LEAF_SPACE_BYTES;
}

// Writes the leaf anew; no value may lie in it. Keeps stamp and run.
void torc_leaf_encode(struct torc_leaf *leaf, const struct torc_leaf_plan *plan,
                      const struct torc_tree_pair *pairs, uint32_t count);

// An empty leaf with the widths of `like`, whose values all have one length.
void torc_leaf_format_like(struct torc_leaf *leaf, const struct torc_leaf *like, uint64_t key_base,
                           uint64_t version_base);

// Can the leaf's widths express this key and this version?
bool torc_leaf_holds(const struct torc_leaf *leaf, uint64_t key, uint64_t version);

// Moves the base of keys so that all in [least, most], among which the leaf's own are, can be
// expressed. False, and nothing has changed, when they lie too far apart.
bool torc_leaf_reach(struct torc_leaf *leaf, uint64_t least, uint64_t most);

// Moves the first records of `from` to the end of `to`, or the last ones ([first, first + count),
// first > 0) to its front; only where torc_leaf_movable says that `to` takes them as it is.
bool torc_leaf_movable(const struct torc_leaf *from, const struct torc_leaf *to, uint32_t first,
                       uint32_t count);
void torc_leaf_move(struct torc_leaf *from, struct torc_leaf *to, uint32_t first, uint32_t count);

// A value of one length into its slot; the usual lengths without a call.
static inline void torc_leaf_value_copy(unsigned char *to, const void *value, uint32_t bytes)
{
    switch (bytes) {
    case 0: break;
    case 8: memcpy(to, value, 8); break;
    case 16: memcpy(to, value, 16); break;
    case 32: memcpy(to, value, 32); break;
    default: memcpy(to, value, bytes); break;
    }
}

// Makes an empty leaf of the first records in rising order, as many as fit: how many. 0, and the
// leaf is to be formatted again, when their values are not all inline and of one length. `like`:
// how many went into the leaf before, which is tried first; or 0.
uint32_t torc_leaf_build(struct torc_leaf *leaf, const struct torc_tree_pair *pairs, uint32_t count,
                         uint32_t like);

// The head of a leaf that is written anew, for torc_leaf_encode.
void torc_leaf_shape(struct torc_leaf *leaf, const struct torc_leaf_plan *plan, uint32_t count);

// The part of torc_leaf_encode that writes records whose values lie in the slots.
void torc_leaf_records_write(struct torc_leaf *leaf, const struct torc_tree_pair *pairs,
                             uint32_t count);

// In place, in a few lines: false when the leaf must be written anew first. `pair` goes to `index`,
// respectively replaces the record in `slot` (whose large block the caller has taken over).
bool torc_leaf_insert(struct torc_leaf *leaf, uint32_t index, const struct torc_tree_pair *pair);
bool torc_leaf_replace(struct torc_leaf *leaf, uint32_t slot, const struct torc_tree_pair *pair);

// The same for rows of values of the leaf's one length that the leaf holds: of a record that is
// there, and into a slot behind all others, which is not in the order yet.
void torc_leaf_overwrite(struct torc_leaf *leaf, uint32_t index, const struct torc_tree_pair *pair);
void torc_leaf_slot_write(struct torc_leaf *leaf, uint32_t slot, const struct torc_tree_pair *pair);

// Always in place. A large value's block is the caller's from now on.
void torc_leaf_remove(struct torc_leaf *leaf, uint32_t index);

// The record's large value lies in `block` from now on.
void torc_leaf_repoint(struct torc_leaf *leaf, uint32_t index, const void *block);

// L1, L2 and all lengths; NULL, or what is wrong.
const char *torc_leaf_check(const struct torc_leaf *leaf);

#endif
