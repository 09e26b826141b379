// Torc storage: searches among numbers, by vectors where there are some. Included by tree_hot.h
// alone, so compiled for each instruction set.
//
// Searches may read up to 64 bytes past the last number, hot_equal16 always 128, inside the same
// node.
#ifndef TORC_STORAGE_TREE_SIMD_H
#define TORC_STORAGE_TREE_SIMD_H

#include "kit/base.h"

#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512BW__) && defined(__AVX512VL__)

// Masks as numbers. Not by a cast: gcc 12 may spill a mask by its own one or two bytes and read
// four back (model-coalesce, seed 7, sanitized at -O1: keys went to a leaf that is none).
static inline uint32_t hot_mask8(__mmask8 mask)
{
    uint32_t bits;

    __asm__("kmovb %1, %0" : "=r"(bits) : "k"(mask));
    return bits;
}

static inline uint32_t hot_mask16(__mmask16 mask)
{
    uint32_t bits;

    __asm__("kmovw %1, %0" : "=r"(bits) : "k"(mask));
    return bits;
}

static inline uint32_t hot_mask32(__mmask32 mask)
{
    uint32_t bits;

    __asm__("kmovd %1, %0" : "=r"(bits) : "k"(mask));
    return bits;
}

static inline uint32_t hot_below16(const uint16_t *numbers, uint32_t count, uint16_t x)
{
    __m512i wanted = _mm512_set1_epi16((short)x);
    uint32_t below = 0;
    uint32_t at = 0;

    for (; at + 32 < count; at += 32) {
        below += (uint32_t)__builtin_popcount(
            hot_mask32(_mm512_cmplt_epu16_mask(_mm512_loadu_si512(numbers + at), wanted)));
    }
    if (at < count) {
        below += (uint32_t)__builtin_popcount(hot_mask32(_mm512_mask_cmplt_epu16_mask(
            UINT32_MAX >> (32 - (count - at)), _mm512_loadu_si512(numbers + at), wanted)));
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
            hot_mask32(_mm512_cmple_epu16_mask(_mm512_loadu_si512(numbers + at), wanted)));
    }
    if (at < count) {
        upto += (uint32_t)__builtin_popcount(hot_mask32(_mm512_mask_cmple_epu16_mask(
            UINT32_MAX >> (32 - (count - at)), _mm512_loadu_si512(numbers + at), wanted)));
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
            hot_mask16(_mm512_cmple_epu32_mask(_mm512_loadu_si512(numbers + at), wanted)));
    }
    if (at < count) {
        upto += (uint32_t)__builtin_popcount(
            hot_mask16(_mm512_mask_cmple_epu32_mask((__mmask16)(UINT16_MAX >> (16 - (count - at))),
                                                    _mm512_loadu_si512(numbers + at), wanted)));
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
            hot_mask8(_mm512_cmple_epu64_mask(_mm512_loadu_si512(numbers + at), wanted)));
    }
    if (at < count) {
        upto += (uint32_t)__builtin_popcount(
            hot_mask8(_mm512_mask_cmple_epu64_mask((__mmask8)(UINT8_MAX >> (8 - (count - at))),
                                                   _mm512_loadu_si512(numbers + at), wanted)));
    }
    return upto;
}

// Which of the first samples are not above x: 8 of 16 bits, 8 of 32.
static inline uint32_t hot_samples16(const void *samples, uint16_t x)
{
    return hot_mask8(_mm_cmple_epu16_mask(_mm_loadu_si128(samples), _mm_set1_epi16((short)x)));
}

static inline uint32_t hot_samples32(const void *samples, uint32_t x)
{
    return hot_mask8(
        _mm256_cmple_epu32_mask(_mm256_loadu_si256(samples), _mm256_set1_epi32((int)x)));
}

// Which numbers of a line are not above x: 32 of 16 bits, 16 of 32.
static inline uint32_t hot_line16(const void *numbers, uint16_t x)
{
    return hot_mask32(
        _mm512_cmple_epu16_mask(_mm512_loadu_si512(numbers), _mm512_set1_epi16((short)x)));
}

static inline uint32_t hot_line32(const void *numbers, uint32_t x)
{
    return hot_mask16(
        _mm512_cmple_epu32_mask(_mm512_loadu_si512(numbers), _mm512_set1_epi32((int)x)));
}

// Which of 64 numbers are x.
static inline uint64_t hot_equal64(const uint16_t *numbers, uint16_t x)
{
    __m512i wanted = _mm512_set1_epi16((short)x);

    return (uint64_t)hot_mask32(_mm512_cmpeq_epu16_mask(_mm512_loadu_si512(numbers), wanted)) |
           (uint64_t)hot_mask32(_mm512_cmpeq_epu16_mask(_mm512_loadu_si512(numbers + 32), wanted))
               << 32;
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

static inline uint32_t hot_samples16(const void *samples, uint16_t x)
{
    __m128i wanted = _mm_set1_epi16((short)x);
    __m128i these = _mm_loadu_si128(samples);
    __m128i upto_x = _mm_cmpeq_epi16(_mm_max_epu16(these, wanted), wanted);

    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(upto_x, _mm_setzero_si128()));
}

static inline uint32_t hot_samples32(const void *samples, uint32_t x)
{
    __m256i wanted = _mm256_set1_epi32((int)x);
    __m256i these = _mm256_loadu_si256(samples);
    __m256i upto_x = _mm256_cmpeq_epi32(_mm256_max_epu32(these, wanted), wanted);

    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(upto_x));
}

// 32 results of 16 bits each as bits, in order.
static inline uint32_t hot_bits(__m256i first, __m256i second)
{
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), 0xd8);

    return (uint32_t)_mm256_movemask_epi8(packed);
}

static inline __m256i hot_load(const void *numbers, uint32_t at_bytes)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)((const char *)numbers + at_bytes));
}

static inline uint32_t hot_line16(const void *numbers, uint16_t x)
{
    __m256i wanted = _mm256_set1_epi16((short)x);
    __m256i first = hot_load(numbers, 0);
    __m256i second = hot_load(numbers, 32);

    return hot_bits(_mm256_cmpeq_epi16(_mm256_max_epu16(first, wanted), wanted),
                    _mm256_cmpeq_epi16(_mm256_max_epu16(second, wanted), wanted));
}

static inline uint32_t hot_line32(const void *numbers, uint32_t x)
{
    return hot_samples32(numbers, x) | hot_samples32((const char *)numbers + 32, x) << 8;
}

static inline uint64_t hot_equal64(const uint16_t *numbers, uint16_t x)
{
    __m256i wanted = _mm256_set1_epi16((short)x);

    return (uint64_t)hot_bits(_mm256_cmpeq_epi16(hot_load(numbers, 0), wanted),
                              _mm256_cmpeq_epi16(hot_load(numbers, 32), wanted)) |
           (uint64_t)hot_bits(_mm256_cmpeq_epi16(hot_load(numbers, 64), wanted),
                              _mm256_cmpeq_epi16(hot_load(numbers, 96), wanted))
               << 32;
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

HOT_SEARCH(hot_upto16, uint16_t, <=)
HOT_SEARCH(hot_upto32, uint32_t, <=)
HOT_SEARCH(hot_upto64, uint64_t, <=)

// These may be in no order. Loops without branches, which compilers turn into vectors.
static inline uint32_t hot_below16(const uint16_t *numbers, uint32_t count, uint16_t x)
{
    uint32_t below = 0;

    for (uint32_t i = 0; i < count; i++) {
        below += numbers[i] < x;
    }
    return below;
}

static inline uint64_t hot_equal64(const uint16_t *numbers, uint16_t x)
{
    uint64_t equal = 0;

    for (uint32_t i = 0; i < 64; i++) {
        equal |= (uint64_t)(numbers[i] == x) << i;
    }
    return equal;
}

// Which of the sorted numbers of a line (or of samples) are not above x.
#define HOT_MASK(name, type, lanes)                                                      \
    static inline uint32_t name(const void *numbers, type x)                             \
    {                                                                                    \
        uint32_t upto = 0;                                                               \
                                                                                         \
        for (uint32_t i = 0; i < (lanes); i++) {                                         \
            type number;                                                                 \
                                                                                         \
            memcpy(&number, (const char *)numbers + i * sizeof(number), sizeof(number)); \
            upto |= (uint32_t)(number <= x) << i;                                        \
        }                                                                                \
        return upto;                                                                     \
    }

HOT_MASK(hot_samples16, uint16_t, 8)
HOT_MASK(hot_samples32, uint32_t, 8)
HOT_MASK(hot_line16, uint16_t, 32)
HOT_MASK(hot_line32, uint32_t, 16)

#endif

// The lowest `count` bits of a number.
static inline uint64_t hot_bits_of(uint64_t number, uint32_t count)
{
#if defined(__BMI2__)
    return _bzhi_u64(number, count);
#else
    return count >= 64 ? number : number & ((UINT64_C(1) << count) - 1);
#endif
}

// The lowest 0..8 bytes of a number.
static inline uint64_t hot_bytes(uint64_t number, uint32_t bytes)
{
    return hot_bits_of(number, 8 * bytes);
}

// Which of numbers[0 .. count) are x, for at most 128: a bit each.
static inline void hot_equal16(const uint16_t *numbers, uint32_t count, uint16_t x,
                               uint64_t equal[2])
{
    equal[0] = hot_bits_of(hot_equal64(numbers, x), count);
    equal[1] = count > 64 ? hot_bits_of(hot_equal64(numbers + 64, x), count - 64) : 0;
}

#endif
