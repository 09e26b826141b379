// Torc storage: the one source of the tree's hot parts. Included by tree_plain.c, tree_avx2.c and
// tree_avx512.c alone, each compiled with its own flags; see storage/tree_code.h.
//
// How a batch is looked up: all its keys go down one level, then all the next. What the next level
// will read is asked for as soon as it is known, so the misses of up to TORC_TREE_BATCH keys
// overlap: first the head, hints and slot numbers of each leaf, then the one record.
#ifndef TORC_STORAGE_TREE_HOT_H
#define TORC_STORAGE_TREE_HOT_H

#include "storage/inner.h"
#include "storage/leaf.h"
#include "storage/leaf_read.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define LINE_BYTES 64u

// Lines of a node that a search reads first: measured with perf/tree-bench, 10 M random keys; more
// cost line-fill buffers, fewer leave misses to the search itself.
#define INNER_LINES 5u
#define LEAF_LINES  3u

// So few keys leave line-fill buffers free: all of a leaf is asked for at once, its record
// included.
#define FEW       2u
#define ALL_LINES (TORC_NODE_BYTES / LINE_BYTES)

#if defined(__AVX512BW__) && defined(__AVX512VL__)

static inline uint32_t hot_below16(const uint16_t *numbers, uint32_t count, uint16_t x)
{
    __m512i wanted = _mm512_set1_epi16((short)x);
    uint32_t below = 0;
    uint32_t at = 0;

    for (; at + 32 < count; at += 32) {
        below += (uint32_t)__builtin_popcount(
            _mm512_cmplt_epu16_mask(_mm512_loadu_si512(numbers + at), wanted));
    }
    if (at < count) {
        below += (uint32_t)__builtin_popcount(_mm512_mask_cmplt_epu16_mask(
            UINT32_MAX >> (32 - (count - at)), _mm512_loadu_si512(numbers + at), wanted));
    }
    return below;
}

static inline uint32_t hot_upto16(const uint16_t *numbers, uint32_t count, uint16_t x)
{
    __m512i wanted = _mm512_set1_epi16((short)x);
    uint32_t upto = 0;
    uint32_t at = 0;

    for (; at + 32 < count; at += 32) {
        upto += (uint32_t)__builtin_popcount(
            _mm512_cmple_epu16_mask(_mm512_loadu_si512(numbers + at), wanted));
    }
    if (at < count) {
        upto += (uint32_t)__builtin_popcount(_mm512_mask_cmple_epu16_mask(
            UINT32_MAX >> (32 - (count - at)), _mm512_loadu_si512(numbers + at), wanted));
    }
    return upto;
}

static inline uint32_t hot_upto32(const uint32_t *numbers, uint32_t count, uint32_t x)
{
    __m512i wanted = _mm512_set1_epi32((int)x);
    uint32_t upto = 0;
    uint32_t at = 0;

    for (; at + 16 < count; at += 16) {
        upto += (uint32_t)__builtin_popcount(
            _mm512_cmple_epu32_mask(_mm512_loadu_si512(numbers + at), wanted));
    }
    if (at < count) {
        upto += (uint32_t)__builtin_popcount(
            _mm512_mask_cmple_epu32_mask((__mmask16)(UINT16_MAX >> (16 - (count - at))),
                                         _mm512_loadu_si512(numbers + at), wanted));
    }
    return upto;
}

static inline uint32_t hot_upto64(const uint64_t *numbers, uint32_t count, uint64_t x)
{
    __m512i wanted = _mm512_set1_epi64((long long)x);
    uint32_t upto = 0;
    uint32_t at = 0;

    for (; at + 8 < count; at += 8) {
        upto += (uint32_t)__builtin_popcount(
            _mm512_cmple_epu64_mask(_mm512_loadu_si512(numbers + at), wanted));
    }
    if (at < count) {
        upto += (uint32_t)__builtin_popcount(_mm512_mask_cmple_epu64_mask(
            (__mmask8)(UINT8_MAX >> (8 - (count - at))), _mm512_loadu_si512(numbers + at), wanted));
    }
    return upto;
}

#elif defined(__AVX2__)

// The last vector counts only its first `lanes` lanes; `bits` is how many bits of the mask a lane
// has.
static inline uint32_t hot_last(uint32_t mask, uint32_t lanes, uint32_t bits)
{
    uint32_t width = lanes * bits;

    return (uint32_t)__builtin_popcount(width >= 32 ? mask : mask & ((1u << width) - 1)) / bits;
}

static inline uint32_t hot_upto16(const uint16_t *numbers, uint32_t count, uint16_t x)
{
    __m256i wanted = _mm256_set1_epi16((short)x);
    uint32_t upto = 0;

    for (uint32_t at = 0; at < count; at += 16) {
        __m256i these = _mm256_loadu_si256((const __m256i *)(const void *)(numbers + at));
        __m256i upto_x = _mm256_cmpeq_epi16(_mm256_max_epu16(these, wanted), wanted);

        upto += hot_last((uint32_t)_mm256_movemask_epi8(upto_x), count - at, 2);
    }
    return upto;
}

static inline uint32_t hot_below16(const uint16_t *numbers, uint32_t count, uint16_t x)
{
    return x == 0 ? 0 : hot_upto16(numbers, count, (uint16_t)(x - 1));
}

static inline uint32_t hot_upto32(const uint32_t *numbers, uint32_t count, uint32_t x)
{
    __m256i wanted = _mm256_set1_epi32((int)x);
    uint32_t upto = 0;

    for (uint32_t at = 0; at < count; at += 8) {
        __m256i these = _mm256_loadu_si256((const __m256i *)(const void *)(numbers + at));
        __m256i upto_x = _mm256_cmpeq_epi32(_mm256_max_epu32(these, wanted), wanted);

        upto += hot_last((uint32_t)_mm256_movemask_epi8(upto_x), count - at, 4);
    }
    return upto;
}

static inline uint32_t hot_upto64(const uint64_t *numbers, uint32_t count, uint64_t x)
{
    __m256i sign = _mm256_set1_epi64x(INT64_MIN); // there is no unsigned compare
    __m256i wanted = _mm256_xor_si256(_mm256_set1_epi64x((long long)x), sign);
    uint32_t above = 0;

    for (uint32_t at = 0; at < count; at += 4) {
        __m256i these = _mm256_loadu_si256((const __m256i *)(const void *)(numbers + at));
        __m256i above_x = _mm256_cmpgt_epi64(_mm256_xor_si256(these, sign), wanted);

        above += hot_last((uint32_t)_mm256_movemask_epi8(above_x), count - at, 8);
    }
    return count - above;
}

#else

// Binary searches that do not branch on what they compare.
#define HOT_SEARCH(name, type, compare)                                        \
    static inline uint32_t name(const type *numbers, uint32_t count, type x)   \
    {                                                                          \
        const type *from = numbers;                                            \
                                                                               \
        while (count > 1) {                                                    \
            uint32_t half = count / 2;                                         \
                                                                               \
            from += from[half - 1] compare x ? half : 0;                       \
            count -= half;                                                     \
        }                                                                      \
        return (uint32_t)(from - numbers) + (count == 1 && from[0] compare x); \
    }

HOT_SEARCH(hot_below16, uint16_t, <)
HOT_SEARCH(hot_upto16, uint16_t, <=)
HOT_SEARCH(hot_upto32, uint32_t, <=)
HOT_SEARCH(hot_upto64, uint64_t, <=)

#endif

// Always inlined: gcc 12 takes a function that only prefetches for one without effect, and drops
// it.
static inline __attribute__((always_inline)) void hot_prefetch(const void *node, uint32_t lines)
{
    for (uint32_t line = 0; line < lines; line++) {
        __builtin_prefetch((const char *)node + (size_t)line * LINE_BYTES);
    }
}

static inline uint32_t hot_child(const struct torc_inner *inner, uint64_t key)
{
    uint64_t delta = (key - inner->base) >> inner->shift;
    uint32_t count = inner->count - 1u;
    const void *numbers = inner->bytes;
    uint32_t index;

    if (inner->width == 2) {
        index = hot_upto16(numbers, count, (uint16_t)torc_min_u64(delta, UINT16_MAX));
    } else if (inner->width == 4) {
        index = hot_upto32(numbers, count, (uint32_t)torc_min_u64(delta, UINT32_MAX));
    } else {
        index = hot_upto64(numbers, count, delta);
    }
    return torc_inner_children(inner)[key < inner->base ? 0 : index];
}

// `leaf_lines` is how many lines of each leaf to ask for.
static inline void hot_descend(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                               uint32_t *leaves, uint32_t leaf_lines)
{
    unsigned char *base = tree->chunks.base;

    torc_assert(count <= TORC_TREE_BATCH);
    for (uint32_t i = 0; i < count; i++) {
        leaves[i] = tree->root;
    }
    for (uint32_t level = tree->levels - 1; level > 0; level--) {
        uint32_t lines = level > 1 ? INNER_LINES : leaf_lines;

        for (uint32_t i = 0; i < count; i++) {
            leaves[i] = hot_child(torc_node_at(base, leaves[i]), keys[i]);
            hot_prefetch(torc_node_at(base, leaves[i]), lines);
        }
    }
}

// Where a key's record lies if its hint decides, and asks for it; NULL when no hint is the key's.
static inline const unsigned char *hot_record(const struct torc_leaf *leaf, uint64_t key,
                                              uint32_t *index)
{
    uint64_t hint = (key - leaf->key_base) >> (8 * leaf->low_bytes);
    const unsigned char *record;

    *index = hot_below16(leaf->hints, leaf->count, (uint16_t)hint);
    if (key < leaf->key_base || *index == leaf->count || leaf->hints[*index] != hint) {
        return NULL;
    }
    record = torc_leaf_record(leaf, torc_leaf_slots(leaf)[*index]);
    __builtin_prefetch(record);
    __builtin_prefetch(record + torc_leaf_stride(leaf) - 1);
    return record;
}

// For writes: also asks for the record that will be replaced, or else the free slot behind the
// last.
static void hot_locate(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                       uint32_t *leaves)
{
    hot_descend(tree, keys, count, leaves, LEAF_LINES);
    for (uint32_t i = 0; i < count; i++) {
        const struct torc_leaf *leaf = torc_node_at(tree->chunks.base, leaves[i]);
        uint32_t index;

        if (hot_record(leaf, keys[i], &index) == NULL) {
            const unsigned char *slot = torc_leaf_record(leaf, leaf->count);

            __builtin_prefetch(slot, 1);
            __builtin_prefetch(slot + torc_leaf_stride(leaf), 1);
        }
    }
}

extern const struct torc_tree_code HOT_TABLE;

static inline void hot_hit(const struct torc_leaf *leaf, const unsigned char *record,
                           struct torc_tree_hit *hit)
{
    record += leaf->low_bytes;
    hit->found = true;
    hit->version =
        leaf->version_base + (torc_leaf_load(record) & torc_leaf_mask(leaf->version_bytes));
    hit->value = record + leaf->version_bytes;
    hit->value_bytes = leaf->form;
    if (leaf->form == TORC_LEAF_VARIED) {
        hit->value = torc_leaf_cell(leaf, record + leaf->version_bytes, &hit->value_bytes);
    }
}

// The record of a hint was not the key's: another record with the same hint may be.
static void hot_among_equal(const struct torc_leaf *leaf, uint64_t key, struct torc_tree_hit *hit)
{
    bool found;
    uint32_t index = torc_leaf_find(leaf, &HOT_TABLE, key, &found);

    *hit = (struct torc_tree_hit){0};
    if (found) {
        hot_hit(leaf, torc_leaf_record(leaf, torc_leaf_slots(leaf)[index]), hit);
    }
}

static void hot_lookup(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                       struct torc_tree_hit *hits)
{
    uint32_t leaves[TORC_TREE_BATCH];
    const unsigned char *records[TORC_TREE_BATCH];
    uint32_t indices[TORC_TREE_BATCH];

    hot_descend(tree, keys, count, leaves, count <= FEW ? ALL_LINES : LEAF_LINES);
    for (uint32_t i = 0; i < count; i++) {
        records[i] = hot_record(torc_node_at(tree->chunks.base, leaves[i]), keys[i], &indices[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct torc_leaf *leaf = torc_node_at(tree->chunks.base, leaves[i]);

        if (records[i] == NULL) {
            hits[i] = (struct torc_tree_hit){0};
        } else if (((torc_leaf_load(records[i]) ^ (keys[i] - leaf->key_base)) &
                    torc_leaf_mask(leaf->low_bytes)) == 0) {
            hot_hit(leaf, records[i], &hits[i]);
        } else if (indices[i] + 1 < leaf->count &&
                   leaf->hints[indices[i]] == leaf->hints[indices[i] + 1]) {
            hot_among_equal(leaf, keys[i], &hits[i]);
        } else {
            hits[i] = (struct torc_tree_hit){0};
        }
    }
}

const struct torc_tree_code HOT_TABLE = {
    .name = HOT_NAME,
    .below16 = hot_below16,
    .upto16 = hot_upto16,
    .upto32 = hot_upto32,
    .upto64 = hot_upto64,
    .locate = hot_locate,
    .lookup = hot_lookup,
    .read = hot_read,
};

#endif
