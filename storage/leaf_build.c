// Torc storage: leaves written from many records at once. See storage/leaf.h.
//
// What all records share is held in locals, for each record's bytes might lie over the leaf's head,
// as far as C knows; and lengths that are usual are constants in a loop of their own.
#include "storage/leaf.h"

// Records between two looks at whether the next ones still fit.
#define BLOCK 8u

static inline __attribute__((always_inline)) void records_write(struct torc_leaf *leaf,
                                                                const struct torc_tree_pair *pairs,
                                                                uint32_t count,
                                                                uint32_t value_bytes)
{
    const uint64_t key_base = leaf->key_base;
    const uint64_t version_base = leaf->version_base;
    const uint32_t low_bytes = leaf->low_bytes;
    const uint32_t tail_at = low_bytes + leaf->version_bytes;
    const uint32_t stride = leaf->stride;
    unsigned char *record = (unsigned char *)leaf + leaf->records_at;
    uint16_t *hints = leaf->hints;

    for (uint32_t i = 0; i < count; i++, record += stride) {
        uint64_t delta = pairs[i].key - key_base;
        uint64_t version = pairs[i].version - version_base;

        // What lies behind the fields is written after them, or does not count.
        hints[i] = (uint16_t)(delta >> (8 * low_bytes));
        memcpy(record, &delta, sizeof(delta));
        memcpy(record + low_bytes, &version, sizeof(version));
        if (value_bytes > 0) {
            memcpy(record + tail_at, pairs[i].value, value_bytes);
        }
    }
}

void torc_leaf_records_write(struct torc_leaf *leaf, const struct torc_tree_pair *pairs,
                             uint32_t count)
{
    uint8_t *order = (uint8_t *)(leaf->hints + leaf->capacity);

    torc_assert(leaf->form != TORC_LEAF_VARIED);
    torc_assert(count <= leaf->capacity);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = (uint8_t)i;
    }
    switch (leaf->form) {
    case 8: records_write(leaf, pairs, count, 8); break;
    case 16: records_write(leaf, pairs, count, 16); break;
    case 32: records_write(leaf, pairs, count, 32); break;
    default: records_write(leaf, pairs, count, leaf->form); break;
    }
}

// What decides how many records fit.
struct extent {
    uint64_t version_min;
    uint64_t version_max;
};

static inline void extent_add(struct extent *extent, uint64_t version)
{
    extent->version_min = torc_min_u64(extent->version_min, version);
    extent->version_max = torc_max_u64(extent->version_max, version);
}

static inline uint32_t bytes_wide(uint64_t number)
{
    return (64u - (uint32_t)__builtin_clzll(number | 1) + 7u) / 8u * (number > 0 ? 1u : 0u);
}

// Would the records [0, count), which are so wide apart, fit a leaf?
static inline bool extent_fits(const struct extent *extent, uint64_t span, uint32_t count,
                               uint32_t value_bytes)
{
    uint32_t key_bytes = bytes_wide(span);
    uint32_t low_bytes = key_bytes > 2 ? key_bytes - 2u : 0;
    uint32_t version_bytes = bytes_wide(extent->version_max - extent->version_min);

    return count <= TORC_LEAF_COUNT_MAX &&
           count * (3u + low_bytes + version_bytes + value_bytes) <= TORC_LEAF_SPACE_BYTES;
}

// How many records from the first fit one leaf; 0 when one of them has a value of another length.
static uint32_t records_fitting(const struct torc_tree_pair *pairs, uint32_t count,
                                struct extent *extent)
{
    const uint32_t value_bytes = pairs[0].value_bytes;
    uint32_t fitting = 0;

    *extent = (struct extent){pairs[0].version, pairs[0].version};
    count = count < TORC_LEAF_COUNT_MAX ? count : TORC_LEAF_COUNT_MAX;
    while (fitting < count) {
        uint32_t some = count - fitting < BLOCK ? count - fitting : BLOCK;
        struct extent next = *extent;
        uint32_t differ = 0;

        for (uint32_t i = fitting; i < fitting + some; i++) {
            extent_add(&next, pairs[i].version);
            differ |= pairs[i].value_bytes ^ value_bytes;
        }
        if (differ != 0) {
            return 0;
        }
        if (!extent_fits(&next, pairs[fitting + some - 1].key - pairs[0].key, fitting + some,
                         value_bytes)) {
            break;
        }
        *extent = next;
        fitting += some;
    }
    while (fitting < count) { // the rest of the last block, one by one
        struct extent next = *extent;

        extent_add(&next, pairs[fitting].version);
        if (!extent_fits(&next, pairs[fitting].key - pairs[0].key, fitting + 1, value_bytes)) {
            break;
        }
        *extent = next;
        fitting++;
    }
    return fitting;
}

uint32_t torc_leaf_build(struct torc_leaf *leaf, const struct torc_tree_pair *pairs, uint32_t count)
{
    struct torc_leaf_plan plan;
    struct torc_tree_pair ends[2];
    struct extent extent;
    uint32_t fitting;

    torc_assert(count > 0);
    fitting = pairs[0].value_bytes <= TORC_TREE_INLINE_BYTES_MAX
                  ? records_fitting(pairs, count, &extent)
                  : 0;
    if (fitting == 0) {
        return 0;
    }
    // The plan of all of them, from two that are as far apart.
    ends[0] = pairs[0];
    ends[0].version = extent.version_min;
    ends[1] = pairs[fitting - 1];
    ends[1].version = extent.version_max;
    torc_leaf_plan(&plan, ends, 2);
    plan.bytes = plan.bytes / 2 * fitting;
    torc_leaf_encode(leaf, &plan, pairs, fitting);
    leaf->stamp = extent.version_max;
    return fitting;
}
