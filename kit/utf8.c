// Torc kit: which bytes are UTF-8. See kit/utf8.h.
#include "kit/utf8.h"

#include <string.h>

static bool utf8_continues(const uint8_t *bytes, uint64_t count, uint32_t wanted)
{
    for (uint32_t i = 1; i < wanted; i++) {
        if (i >= count || (bytes[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return true;
}

uint32_t torc_utf8_length(const uint8_t *bytes, uint64_t count)
{
    uint8_t first;

    if (count == 0) {
        return 0;
    }
    first = bytes[0];
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        return utf8_continues(bytes, count, 2) ? 2 : 0;
    }
    if (first >= 0xe0 && first <= 0xef) {
        if (!utf8_continues(bytes, count, 3) || (first == 0xe0 && bytes[1] < 0xa0) ||
            (first == 0xed && bytes[1] > 0x9f)) {
            return 0;
        }
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (!utf8_continues(bytes, count, 4) || (first == 0xf0 && bytes[1] < 0x90) ||
            (first == 0xf4 && bytes[1] > 0x8f)) {
            return 0;
        }
        return 4;
    }
    return 0;
}

bool torc_utf8_is(const uint8_t *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count;) {
        uint32_t length = torc_utf8_length(bytes + i, count - i);

        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

void torc_utf8_mend(char *text)
{
    uint64_t count = strlen(text);

    for (uint64_t i = 0; i < count;) {
        uint32_t length = torc_utf8_length((const uint8_t *)text + i, count - i);

        if (length == 0) {
            text[i] = '?';
            length = 1;
        }
        i += length;
    }
}
