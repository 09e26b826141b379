// Torc control: base64. See control/base64.h.
#include "control/base64.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

void torc_base64_encode(char *text, const void *bytes, uint64_t byte_count)
{
    const unsigned char *from = bytes;

    for (uint64_t at = 0; at < byte_count; at += 3) {
        uint64_t left = byte_count - at;
        uint32_t word = (uint32_t)from[at] << 16;

        word |= left > 1 ? (uint32_t)from[at + 1] << 8 : 0;
        word |= left > 2 ? from[at + 2] : 0;
        *text++ = base64_digits[word >> 18];
        *text++ = base64_digits[word >> 12 & 63];
        *text++ = base64_digits[left > 1 ? word >> 6 & 63 : 64];
        *text++ = base64_digits[left > 2 ? word & 63 : 64];
    }
    *text = '\0';
}

static uint32_t base64_value(char digit)
{
    if (digit >= 'A' && digit <= 'Z') {
        return (uint32_t)(digit - 'A');
    }
    if (digit >= 'a' && digit <= 'z') {
        return (uint32_t)(digit - 'a') + 26;
    }
    if (digit >= '0' && digit <= '9') {
        return (uint32_t)(digit - '0') + 52;
    }
    return digit == '+' ? 62 : digit == '/' ? 63 : 64;
}

bool torc_base64_decode(unsigned char *bytes, uint64_t *byte_count, const char *text,
                        uint64_t text_bytes)
{
    uint64_t count = 0;
    uint64_t pad = text_bytes > 0 && text[text_bytes - 1] == '=' ? 1 : 0;

    pad += pad == 1 && text_bytes > 1 && text[text_bytes - 2] == '=' ? 1 : 0;
    if (text_bytes % 4 != 0) {
        return false;
    }
    for (uint64_t at = 0; at < text_bytes; at += 4) {
        uint64_t digits = at + 4 == text_bytes ? 4 - pad : 4;
        uint32_t word = 0;

        for (uint64_t i = 0; i < 4; i++) {
            uint32_t value = i < digits ? base64_value(text[at + i]) : 0;

            if (value == 64) {
                return false;
            }
            word = word << 6 | value;
        }
        for (uint64_t i = 0; i + 1 < digits; i++) {
            bytes[count++] = (unsigned char)(word >> (16 - 8 * i));
        }
    }
    *byte_count = count;
    return true;
}
