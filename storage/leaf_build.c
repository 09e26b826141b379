// Torc storage: leaves written from many records at once. See storage/leaf.h.
//
// What all records share is held in locals, for each record's bytes might lie over the leaf's head,
// as far as C knows; and lengths that are usual are constants in a loop of their own.
#include "storage/leaf.h"

// Writes records [0, count) behind the leaf's arrays. What is found out on the way costs less than
// a look at each before: the highest version; false when a version or a value's length is not
// what the leaf's widths say, and then the leaf is none.
static inline __attribute__((always_inline)) bool records_write(struct torc_leaf *leaf,
                                                                const struct torc_tree_pair *pairs,
                                                                uint32_t count,
                                                                uint32_t value_bytes,
                                                                uint64_t *highest)
{
    const uint64_t key_base = leaf->key_base;
    const uint64_t version_base = leaf->version_base;
    const uint32_t hint_shift = 8u * leaf->low_bytes;
    const uint32_t version_at = leaf->low_bytes;
    const uint32_t tail_at = version_at + leaf->version_bytes;
    const uint32_t stride = leaf->stride;
    unsigned char *record = (unsigned char *)leaf + leaf->records_at;
    uint16_t *hints = leaf->hints;
    uint64_t most = 0;
    uint64_t versions = 0;
    uint32_t lengths = 0;

    for (uint32_t i = 0; i < count; i++, record += stride) {
        uint64_t delta = pairs[i].key - key_base;
        uint64_t version = pairs[i].version - version_base;

        most = torc_max_u64(most, pairs[i].version);
        versions |= version;
        lengths |= pairs[i].value_bytes ^ value_bytes;
        // What lies behind the fields is written after them, or does not count.
        hints[i] = (uint16_t)(delta >> hint_shift);
        memcpy(record, &delta, sizeof(delta));
        memcpy(record + version_at, &version, sizeof(version));
        if (value_bytes > 0) {
            memcpy(record + tail_at, pairs[i].value, value_bytes);
        }
    }
    *highest = most;
    return lengths == 0 && (versions & ~torc_leaf_mask(leaf->version_bytes)) == 0;
}

static bool records_try(struct torc_leaf *leaf, const struct torc_tree_pair *pairs, uint32_t count,
                        uint64_t *highest)
{
    uint8_t *order = (uint8_t *)(leaf->hints + leaf->capacity);

    torc_assert(leaf->form != TORC_LEAF_VARIED);
    torc_assert(count <= leaf->capacity);
    // Whole words: what is too much lies where records will.
    for (uint32_t i = 0; i < count; i += 8) {
        uint64_t eight = UINT64_C(0x0706050403020100) + i * UINT64_C(0x0101010101010101);

        memcpy(order + i, &eight, sizeof(eight));
    }
    switch (leaf->form) {
    case 8: return records_write(leaf, pairs, count, 8, highest);
    case 16: return records_write(leaf, pairs, count, 16, highest);
    case 32: return records_write(leaf, pairs, count, 32, highest);
    default: return records_write(leaf, pairs, count, leaf->form, highest);
    }
}

void torc_leaf_records_write(struct torc_leaf *leaf, const struct torc_tree_pair *pairs,
                             uint32_t count)
{
    uint64_t highest;
    bool fit = records_try(leaf, pairs, count, &highest);

    torc_assert(fit);
}

// What decides how many records fit.
struct extent {
    uint64_t version_min;
    uint64_t version_max;
};

static inline uint32_t bytes_wide(uint64_t number)
{
    return (64u - (uint32_t)__builtin_clzll(number | 1) + 7u) / 8u * (number > 0 ? 1u : 0u);
}

// How many records fit a leaf that are so wide apart.
static inline uint32_t extent_room(const struct extent *extent, uint64_t span, uint32_t value_bytes)
{
    uint32_t key_bytes = bytes_wide(span);
    uint32_t low_bytes = key_bytes > 2 ? key_bytes - 2u : 0;
    uint32_t version_bytes = bytes_wide(extent->version_max - extent->version_min);
    uint32_t room = TORC_LEAF_SPACE_BYTES / (3u + low_bytes + version_bytes + value_bytes);

    return room < TORC_LEAF_COUNT_MAX ? room : TORC_LEAF_COUNT_MAX;
}

// Adds records [from, to); false when one of them has a value of another length.
static inline bool extent_over(struct extent *extent, const struct torc_tree_pair *pairs,
                               uint32_t from, uint32_t to)
{
    const uint32_t value_bytes = pairs[0].value_bytes;
    uint64_t least = extent->version_min;
    uint64_t most = extent->version_max;
    uint32_t differ = 0;

    for (uint32_t i = from; i < to; i++) {
        least = torc_min_u64(least, pairs[i].version);
        most = torc_max_u64(most, pairs[i].version);
        differ |= pairs[i].value_bytes ^ value_bytes;
    }
    *extent = (struct extent){least, most};
    return differ == 0;
}

// About how many records from the first fit, at most `count`: as if versions rose (or fell) with
// the keys.
static uint32_t records_guess(const struct torc_tree_pair *pairs, uint32_t count)
{
    uint32_t guess = count;

    for (uint32_t round = 0; round < 2; round++) {
        const struct torc_tree_pair *last = &pairs[guess - 1];
        struct extent ends = {torc_min_u64(pairs[0].version, last->version),
                              torc_max_u64(pairs[0].version, last->version)};
        uint32_t room = extent_room(&ends, last->key - pairs[0].key, pairs[0].value_bytes);

        guess = room < count ? room : count;
    }
    return guess;
}

// How many records from the first fit one leaf; 0 when one of them has a value of another length.
static uint32_t records_fitting(const struct torc_tree_pair *pairs, uint32_t count,
                                struct extent *extent)
{
    const uint32_t value_bytes = pairs[0].value_bytes;
    const struct extent none = {pairs[0].version, pairs[0].version};
    uint32_t fitting = records_guess(pairs, count);
    uint32_t room;

    *extent = none;
    if (!extent_over(extent, pairs, 1, fitting)) {
        return 0;
    }
    room = extent_room(extent, pairs[fitting - 1].key - pairs[0].key, value_bytes);
    if (room < fitting) { // so many do, for they are not wider apart
        fitting = room;
        *extent = none;
        (void)extent_over(extent, pairs, 1, fitting); // looked at before
    }
    while (fitting < count) { // mostly not for long
        struct extent next = *extent;

        if (!extent_over(&next, pairs, fitting, fitting + 1)) {
            return 0;
        }
        if (extent_room(&next, pairs[fitting].key - pairs[0].key, value_bytes) <= fitting) {
            break;
        }
        *extent = next;
        fitting++;
    }
    return fitting;
}

// Do records [0, count) fit, if their first and last are farthest apart?
static inline bool ends_fit(const struct torc_tree_pair *pairs, uint32_t count)
{
    const struct torc_tree_pair *last = &pairs[count - 1];
    uint32_t key_bytes = bytes_wide(last->key - pairs[0].key);
    uint32_t low_bytes = key_bytes > 2 ? key_bytes - 2u : 0;
    uint32_t version_bytes = bytes_wide(last->version - pairs[0].version);

    return count * (3u + low_bytes + version_bytes + pairs[0].value_bytes) <= TORC_LEAF_SPACE_BYTES;
}

// Are `like` of them just what fits, if versions rise?
static bool as_many(const struct torc_tree_pair *pairs, uint32_t count, uint32_t like)
{
    return like > 0 && like <= count && pairs[0].value_bytes <= TORC_TREE_INLINE_BYTES_MAX &&
           pairs[like - 1].value_bytes == pairs[0].value_bytes &&
           pairs[0].version <= pairs[like / 2].version &&
           pairs[like / 2].version <= pairs[like - 1].version && ends_fit(pairs, like) &&
           (like == TORC_LEAF_COUNT_MAX || (like < count && !ends_fit(pairs, like + 1)));
}

// The plan of records, from two that are as far apart.
static void records_plan(struct torc_leaf_plan *plan, const struct torc_tree_pair *pairs,
                         uint32_t count, const struct extent *extent)
{
    struct torc_tree_pair ends[2] = {pairs[0], pairs[count - 1]};

    ends[0].version = extent->version_min;
    ends[1].version = extent->version_max;
    torc_leaf_plan(plan, ends, 2);
    plan->bytes = plan->bytes / 2 * count;
}

uint32_t torc_leaf_build(struct torc_leaf *leaf, const struct torc_tree_pair *pairs, uint32_t count,
                         uint32_t like)
{
    struct torc_leaf_plan plan;
    struct extent extent;
    uint32_t fitting;

    torc_assert(count > 0);
    if (as_many(pairs, count, like)) {
        extent = (struct extent){pairs[0].version, pairs[like - 1].version};
        records_plan(&plan, pairs, like, &extent);
        torc_leaf_shape(leaf, &plan, like);
        if (records_try(leaf, pairs, like, &leaf->stamp)) {
            return like;
        }
    }
    fitting = pairs[0].value_bytes <= TORC_TREE_INLINE_BYTES_MAX
                  ? records_fitting(pairs, count, &extent)
                  : 0;
    if (fitting == 0) {
        return 0;
    }
    records_plan(&plan, pairs, fitting, &extent);
    torc_leaf_encode(leaf, &plan, pairs, fitting);
    leaf->stamp = extent.version_max;
    return fitting;
}
