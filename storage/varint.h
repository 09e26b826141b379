// Torc storage: numbers of few bytes in the log and in checkpoints.
//
// What    LEB128 as in protobuf: seven bits a byte, low ones first, the top bit says that more
//         follow; at most 10 bytes. Zigzag puts the sign into the lowest bit. Differences are taken
//         modulo 2^64, so every pair of numbers has one.
// Owner   none: pure functions.  Memory  none.
#ifndef TORC_STORAGE_VARINT_H
#define TORC_STORAGE_VARINT_H

#include "kit/base.h"

#define TORC_VARINT_BYTES_MAX 10u

// Writes at most TORC_VARINT_BYTES_MAX bytes and returns where the next one goes.
static inline unsigned char *torc_varint_put(unsigned char *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (unsigned char)value;
    return at;
}

// Moves *at behind the number; false, and nothing is changed, when none ends before `end` or it has
// more than 64 bits.
static inline bool torc_must_use torc_varint_get(const unsigned char **at, const unsigned char *end,
                                                 uint64_t *value)
{
    const unsigned char *byte = *at;
    uint64_t sum = 0;

    for (uint32_t shift = 0; shift < 64 && byte < end; shift += 7, byte++) {
        if (shift == 63 && *byte > 1) {
            return false;
        }
        sum |= (uint64_t)(*byte & 0x7f) << shift;
        if (*byte < 0x80) {
            *at = byte + 1;
            *value = sum;
            return true;
        }
    }
    return false;
}

static inline uint64_t torc_zigzag(uint64_t difference)
{
    return (difference << 1) ^ (0 - (difference >> 63));
}

static inline uint64_t torc_unzigzag(uint64_t coded)
{
    return (coded >> 1) ^ (0 - (coded & 1));
}

#endif
