// Torc cli: see key.h.
#include "client/cli/key.h"

#include <string.h>

enum torc_err torc_key_format_parse(const char *text, enum torc_key_format *format,
                                    struct torc_fail *why)
{
    static const char *const names[] = {
#define X(name, text, help) text,
        TORC_KEY_FORMAT_TABLE(X)
#undef X
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = (enum torc_key_format)i;
            return TORC_ERR_OK;
        }
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--key-format %.40s: dec, hex or ip", text);
}

static int key_digit(char byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    if (byte >= 'a' && byte <= 'f') {
        return byte - 'a' + 10;
    }
    if (byte >= 'A' && byte <= 'F') {
        return byte - 'A' + 10;
    }
    return 16;
}

// Digits of `base` to the end of the text; at least one.
static bool key_number(const char *text, uint64_t text_bytes, uint64_t base, uint64_t *key)
{
    uint64_t value = 0;

    if (text_bytes == 0) {
        return false;
    }
    for (uint64_t i = 0; i < text_bytes; i++) {
        uint64_t digit = (uint64_t)key_digit(text[i]);

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *key = value;
    return true;
}

// a.b.c.d, each part one to three digits up to 255.
static bool key_quad(const char *text, uint64_t text_bytes, uint64_t *key)
{
    uint64_t value = 0;
    uint64_t start = 0;

    for (uint32_t part = 0; part < 4; part++) {
        uint64_t end = start;
        uint64_t number = 0;

        while (end < text_bytes && text[end] != '.') {
            end++;
        }
        if (end - start > 3 || !key_number(text + start, end - start, 10, &number) ||
            number > 255 || (part < 3) != (end < text_bytes)) {
            return false;
        }
        value = value << 8 | number;
        start = end + 1;
    }
    *key = value;
    return true;
}

enum torc_err torc_key_parse(const char *text, uint64_t text_bytes, enum torc_key_format format,
                             const char *what, uint64_t *key, struct torc_fail *why)
{
    int shown = text_bytes < 60 ? (int)text_bytes : 60;
    bool prefixed = text_bytes > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');

    if (format == TORC_KEY_IP) {
        if (key_quad(text, text_bytes, key)) {
            return TORC_ERR_OK;
        }
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.30s %.*s: not a dotted quad such as 185.0.0.1", what, shown, text);
    }
    if (prefixed ? key_number(text + 2, text_bytes - 2, 16, key)
                 : key_number(text, text_bytes, format == TORC_KEY_HEX ? 16 : 10, key)) {
        return TORC_ERR_OK;
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "%.30s %.*s: not a%s number from 0 to 2^64 - 1", what, shown, text,
                     format == TORC_KEY_HEX ? " hexadecimal" : "");
}

uint32_t torc_key_show(uint64_t key, enum torc_key_format format, char text[TORC_KEY_TEXT_BYTES])
{
    int length;

    if (format == TORC_KEY_IP && key <= UINT32_MAX) {
        length = snprintf(text, TORC_KEY_TEXT_BYTES, "%u.%u.%u.%u", (unsigned)(key >> 24),
                          (unsigned)(key >> 16 & 255), (unsigned)(key >> 8 & 255),
                          (unsigned)(key & 255));
    } else if (format == TORC_KEY_HEX) {
        length = snprintf(text, TORC_KEY_TEXT_BYTES, "0x%" PRIx64, key);
    } else {
        length = snprintf(text, TORC_KEY_TEXT_BYTES, "%" PRIu64, key);
    }
    torc_assert(length > 0 && length < TORC_KEY_TEXT_BYTES);
    return (uint32_t)length;
}

enum torc_err torc_duration_parse(const char *text, const char *what, uint64_t *ns,
                                  struct torc_fail *why)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {{"us", 1000},       {"ms", 1000000},      {"s", 1000000000},
                 {"m", 60000000000}, {"h", 3600000000000}, {"", 1000000000}};
    const uint64_t day_ns = UINT64_C(86400000000000);
    size_t digits = strspn(text, "0123456789");
    uint64_t value = 0;

    for (uint32_t i = 0; i < TORC_COUNT_OF(units); i++) {
        if (strcmp(text + digits, units[i].unit) == 0 && key_number(text, digits, 10, &value) &&
            value != 0 && value <= day_ns / units[i].ns) {
            *ns = value * units[i].ns;
            return TORC_ERR_OK;
        }
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "%s %.40s: a time such as 500ms, 5s or 2m, more than 0, at most 24h", what,
                     text);
}
