// Torc kit: CRC32C. See kit/crc32c.h.
#include "kit/crc32c.h"

#include <string.h>
#if defined(__SSE4_2__)
#include <immintrin.h>
#endif

#define CRC32C_POLYNOMIAL_REFLECTED 0x82f63b78u

uint32_t torc_crc32c_plain(uint32_t crc, const void *bytes, size_t byte_count)
{
    const uint8_t *cursor = bytes;

    crc = ~crc;
    for (size_t i = 0; i < byte_count; i++) {
        crc ^= cursor[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL_REFLECTED & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

#if defined(__SSE4_2__)
uint32_t torc_crc32c(uint32_t crc, const void *bytes, size_t byte_count)
{
    const uint8_t *cursor = bytes;
    uint64_t state = ~crc;

    for (; byte_count >= 8; byte_count -= 8, cursor += 8) {
        uint64_t word;

        memcpy(&word, cursor, sizeof(word));
        state = _mm_crc32_u64(state, word);
    }
    for (; byte_count > 0; byte_count--, cursor++) {
        state = _mm_crc32_u8((uint32_t)state, *cursor);
    }
    return ~(uint32_t)state;
}
#else
uint32_t torc_crc32c(uint32_t crc, const void *bytes, size_t byte_count)
{
    return torc_crc32c_plain(crc, bytes, byte_count);
}
#endif
