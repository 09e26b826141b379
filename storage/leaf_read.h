// Torc storage: a leaf's records turned into pairs, the hot part of a scan. Included by
// storage/tree_hot.h alone, once per instruction set.
//
// What    hot_read writes keys, versions and places of values straight into the caller's pairs. A
//         record's low key bytes and its version mostly lie in one word of 8 bytes and are loaded
//         together. With AVX-512 eight records are put together at once. The first 16 bytes of each
//         are loaded, four records a vector (a gather is slower, and much slower where it had to be
//         mended); one shuffle of bytes leaves low key bytes and version of each, however long they
//         are, and hints, bases and places are added as vectors.
#ifndef TORC_STORAGE_LEAF_READ_H
#define TORC_STORAGE_LEAF_READ_H

#include "storage/leaf.h"

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

// What all records of a leaf share, read once: `pairs` might lie over the leaf, as far as C knows.
struct read_form {
    const struct torc_leaf *leaf;
    uint64_t key_base;
    uint64_t version_base;
    uint64_t low_mask;
    uint64_t version_mask;
    const unsigned char *records;
    uint32_t stride;
    uint32_t low_bytes;
    uint32_t tail_at;
    uint32_t value_bytes;
    // Constants wherever it is used:
    bool reverse; // from the last record to the first
    bool split;   // key and version lie too far apart for one word
    bool varied;
    bool in_order; // record i lies in slot i
};

static inline __attribute__((always_inline)) struct read_form read_form_of(
    const struct torc_leaf *leaf)
{
    return (struct read_form){.leaf = leaf,
                              .key_base = leaf->key_base,
                              .version_base = leaf->version_base,
                              .low_mask = torc_leaf_mask(leaf->low_bytes),
                              .version_mask = torc_leaf_mask(leaf->version_bytes),
                              .records = torc_leaf_record(leaf, 0),
                              .stride = leaf->stride,
                              .low_bytes = leaf->low_bytes,
                              .tail_at = (uint32_t)leaf->low_bytes + leaf->version_bytes,
                              .value_bytes = leaf->form};
}

// Records one by one, from `index` on.
static inline __attribute__((always_inline)) void read_run(const struct read_form *form,
                                                           uint32_t index, uint32_t count,
                                                           struct torc_tree_pair *pairs)
{
    const struct read_form its = *form;
    const uint32_t shift = 8 * its.low_bytes;
    const uint16_t *hints = its.leaf->hints;
    const uint8_t *slot = torc_leaf_order(its.leaf) + index;
    const int step = its.reverse ? -1 : 1;

    for (uint32_t i = 0; i < count; i++, slot += step) {
        const unsigned char *record = its.records + (size_t)*slot * its.stride;
        uint64_t word = torc_leaf_load(record);
        uint64_t version = its.split ? torc_leaf_load(record + its.low_bytes) : word >> shift;

        pairs[i].key = its.key_base + ((uint64_t)hints[*slot] << shift) + (word & its.low_mask);
        pairs[i].version = its.version_base + (version & its.version_mask);
        pairs[i].value = record + its.tail_at;
        pairs[i].value_bytes = its.value_bytes;
        if (its.varied) {
            pairs[i].value = torc_leaf_cell(its.leaf, record + its.tail_at, &pairs[i].value_bytes);
        }
    }
}

#if defined(__AVX512BW__)

#define READ_LANES 8u
// A record of as many bytes may be loaded as a vector of 16: the node's last 8 bytes stay free.
#define READ_STRIDE_MIN 8u

// What eight records need of what their leaf's share. A head is a key and a version, a tail is a
// value's place and length: one of each make a pair.
struct read_vectors {
    __m512i spread; // for each byte of four heads: which byte of its record it is, or none
    __m512i bases;  // of four heads
    __m512i lengths;
    __m128i shift; // of hints
};

static inline __attribute__((always_inline)) struct read_vectors read_vectors_of(
    const struct read_form *form)
{
    const long long ones = 0x0101010101010101;
    const long long version_bytes = (long long)form->tail_at - form->low_bytes;
    __m128i numbers = _mm_set1_epi64x(0x0706050403020100);
    __m128i counts = _mm_set_epi64x(version_bytes * ones, form->low_bytes * ones);
    __m128i spread = _mm_add_epi8(numbers, _mm_set_epi64x(form->low_bytes * ones, 0));

    // A byte that is none has its highest bit set.
    spread =
        _mm_or_si128(spread, _mm_xor_si128(_mm_cmpgt_epi8(counts, numbers), _mm_set1_epi8(-1)));
    return (struct read_vectors){.spread = _mm512_broadcast_i32x4(spread),
                                 .bases = _mm512_broadcast_i32x4(_mm_set_epi64x(
                                     (long long)form->version_base, (long long)form->key_base)),
                                 .lengths = _mm512_set1_epi64(form->value_bytes),
                                 .shift = _mm_cvtsi32_si128((int)(8 * form->low_bytes))};
}

// The first bytes of four of eight records, those of half 0 or 1 in the order of reading.
static inline __attribute__((always_inline)) __m512i read_four(const struct read_form *form,
                                                               const uint8_t *slots,
                                                               const unsigned char *first,
                                                               uint32_t half)
{
    __m128i records[READ_LANES / 2];
    __m512i four;

    for (uint32_t i = 0; i < READ_LANES / 2; i++) {
        uint32_t at = form->reverse ? READ_LANES - 1 - 4 * half - i : 4 * half + i;
        const unsigned char *record = form->in_order
                                          ? first + (size_t)at * form->stride
                                          : form->records + (size_t)slots[at] * form->stride;

        records[i] = _mm_loadu_si128((const void *)record);
    }
    four = _mm512_castsi128_si512(records[0]);
    four = _mm512_mask_broadcast_i64x2(four, 0x0c, records[1]);
    four = _mm512_mask_broadcast_i64x2(four, 0x30, records[2]);
    return _mm512_mask_broadcast_i64x2(four, 0xc0, records[3]);
}

// The hints of eight slots. As long as a leaf has no more than 64, two vectors hold them all.
static inline __attribute__((always_inline)) __m128i read_hints(const struct torc_leaf *leaf,
                                                                const uint8_t *slots)
{
    __m128i places = _mm_cvtepu8_epi16(_mm_loadl_epi64((const void *)slots));
    uint16_t hints[READ_LANES];

    if (leaf->capacity <= 64) {
        return _mm512_castsi512_si128(_mm512_permutex2var_epi16(
            _mm512_loadu_si512(leaf->hints), _mm512_castsi128_si512(places),
            _mm512_loadu_si512(leaf->hints + 32)));
    }
    for (uint32_t i = 0; i < READ_LANES; i++) {
        hints[i] = leaf->hints[slots[i]];
    }
    return _mm_loadu_si128((const void *)hints);
}

// Records index .. index + 7, in this order or from the last to the first.
static inline __attribute__((always_inline)) void read_eight(const struct read_form *form,
                                                             const struct read_vectors *its,
                                                             uint32_t index,
                                                             struct torc_tree_pair *pairs)
{
    const uint8_t *slots = torc_leaf_order(form->leaf) + index;
    const unsigned char *first = form->records + (size_t)index * form->stride;
    __m128i hints = form->in_order ? _mm_loadu_si128((const void *)(form->leaf->hints + index))
                                   : read_hints(form->leaf, slots);
    __m512i keys = _mm512_sll_epi64(_mm512_cvtepu16_epi64(hints), its->shift);
    __m512i numbers = form->in_order ? _mm512_add_epi64(_mm512_set1_epi64(index),
                                                        _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7))
                                     : _mm512_cvtepu8_epi64(_mm_loadl_epi64((const void *)slots));
    __m512i places =
        _mm512_add_epi64(_mm512_mul_epu32(numbers, _mm512_set1_epi64(form->stride)),
                         _mm512_set1_epi64((long long)(uintptr_t)(form->records + form->tail_at)));

    for (uint32_t half = 0; half < 2; half++, pairs += READ_LANES / 2) {
        __m512i lanes = _mm512_add_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                         _mm512_set1_epi64(4 * (long long)half));
        __m512i heads = _mm512_shuffle_epi8(read_four(form, slots, first, half), its->spread);
        __m512i tails;

        if (form->reverse) {
            lanes = _mm512_sub_epi64(_mm512_set1_epi64(READ_LANES - 1), lanes);
        }
        heads = _mm512_add_epi64(_mm512_add_epi64(heads, its->bases),
                                 _mm512_maskz_permutexvar_epi64(0x55, lanes, keys));
        tails = _mm512_mask_permutexvar_epi64(its->lengths, 0x55, lanes, places);
        _mm512_storeu_si512(pairs, _mm512_permutex2var_epi64(
                                       heads, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), tails));
        _mm512_storeu_si512(
            pairs + 2,
            _mm512_permutex2var_epi64(heads, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), tails));
    }
}

static inline __attribute__((always_inline)) void read_all(struct read_form form, uint32_t place,
                                                           uint32_t count,
                                                           struct torc_tree_pair *pairs)
{
    uint32_t last = form.leaf->count - place; // reverse: records [last - count, last)
    uint32_t done = 0;
    struct read_vectors vectors;

    if (form.varied || count < READ_LANES || form.stride < READ_STRIDE_MIN) {
        read_run(&form, form.reverse ? last - 1 : place, count, pairs);
        return;
    }
    vectors = read_vectors_of(&form);
    while (done < count) { // the last eight may be some that were read already
        done = done + READ_LANES <= count ? done : count - READ_LANES;
        read_eight(&form, &vectors, form.reverse ? last - done - READ_LANES : place + done,
                   pairs + done);
        done += READ_LANES;
    }
}

#else

static inline __attribute__((always_inline)) void read_all(struct read_form form, uint32_t place,
                                                           uint32_t count,
                                                           struct torc_tree_pair *pairs)
{
    read_run(&form, form.reverse ? form.leaf->count - 1u - place : place, count, pairs);
}

#endif

static inline __attribute__((always_inline)) void read_way(struct read_form form, uint32_t place,
                                                           uint32_t count, bool reverse,
                                                           struct torc_tree_pair *pairs)
{
    form.reverse = reverse;
    if (form.leaf->in_order != 0) {
        form.in_order = true;
        read_all(form, place, count, pairs);
    } else {
        read_all(form, place, count, pairs);
    }
}

// `count` records from the one that `place` others lie before, in the direction of a scan.
static void hot_read(const struct torc_leaf *leaf, uint32_t place, uint32_t count, bool reverse,
                     struct torc_tree_pair *pairs)
{
    struct read_form form = read_form_of(leaf);

    torc_assert(place + count <= leaf->count);
    form.split = form.tail_at > sizeof(uint64_t);
    if (leaf->form == TORC_LEAF_VARIED) {
        form.reverse = reverse;
        form.split = true;
        form.varied = true;
        read_all(form, place, count, pairs);
    } else if (reverse) {
        read_way(form, place, count, true, pairs);
    } else {
        read_way(form, place, count, false, pairs);
    }
}

#endif
