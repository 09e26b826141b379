// Torc tests: inputs for fuzz targets, made from good ones.
//
// What    a fuzz target that starts from nothing rarely gets behind the first checks. This one
//         takes the input as the seed of a few edits to a packet that the target made, so that the
//         seeded driver (driver_os.c) gets as deep as libFuzzer does.
// Owner   the fuzz target.  Memory  the caller's.
#ifndef TORC_TESTS_FUZZ_MUTATE_H
#define TORC_TESTS_FUZZ_MUTATE_H

#include "kit/crc32c.h"
#include "kit/rng.h"

static inline struct torc_rng torc_fuzz_rng(const uint8_t *data, size_t size)
{
    return (struct torc_rng){(uint64_t)torc_crc32c(0, data, size) << 8 | (size & 0xff)};
}

// Up to three edits: a byte set, a bit flipped, or a field set to an extreme. None in one of eight.
static inline void torc_fuzz_edit(struct torc_rng *rng, uint8_t *bytes, uint32_t byte_count)
{
    static const uint8_t extremes[] = {0x00, 0x01, 0x07, 0x08, 0x10, 0x7f, 0x80, 0xff};
    uint32_t edits = torc_rng_chance(rng, 125000) ? 0 : 1 + (uint32_t)torc_rng_below(rng, 3);

    for (; edits > 0 && byte_count > 0; edits--) {
        uint32_t at = (uint32_t)torc_rng_below(rng, byte_count);

        switch (torc_rng_below(rng, 3)) {
        case 0: bytes[at] = (uint8_t)torc_rng_next(rng); break;
        case 1: bytes[at] = (uint8_t)(bytes[at] ^ 1u << torc_rng_below(rng, 8)); break;
        default: bytes[at] = extremes[torc_rng_below(rng, sizeof(extremes))]; break;
        }
    }
}

// The packet's length, cut or not.
static inline uint32_t torc_fuzz_cut(struct torc_rng *rng, uint32_t byte_count)
{
    return torc_rng_chance(rng, 200000) ? (uint32_t)torc_rng_below(rng, byte_count + 1)
                                        : byte_count;
}

#endif
