// Torc cli: see show.h.
#include "client/cli/show.h"

#include "kit/utf8.h"

#include <string.h>

struct show_out {
    uint8_t *text;
    uint64_t capacity;
    uint64_t used;
};

static void show_bytes(struct show_out *out, const void *bytes, uint64_t count)
{
    torc_assert(count <= out->capacity - out->used);
    if (count > 0) {
        memcpy(out->text + out->used, bytes, count);
    }
    out->used += count;
}

static void show_byte(struct show_out *out, uint8_t byte)
{
    show_bytes(out, &byte, 1);
}

static void show_string(struct show_out *out, const char *text)
{
    show_bytes(out, text, strlen(text));
}

static void show_number(struct show_out *out, uint64_t number)
{
    char text[TORC_KEY_TEXT_BYTES];

    show_bytes(out, text, torc_key_show(number, TORC_KEY_DEC, text));
}

enum torc_err torc_show_format_parse(const char *text, enum torc_show_format *format,
                                     struct torc_fail *why)
{
    static const char *const names[] = {
#define X(name, text) text,
        TORC_SHOW_TABLE(X)
#undef X
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = (enum torc_show_format)i;
            return TORC_ERR_OK;
        }
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--output %.40s: table, json, csv or raw",
                     text);
}

static void show_hex(struct show_out *out, const char *before, uint8_t byte)
{
    static const char digits[] = "0123456789abcdef";

    show_string(out, before);
    show_byte(out, (uint8_t)digits[byte >> 4]);
    show_byte(out, (uint8_t)digits[byte & 15]);
}

// True and written as two bytes when the byte has a short escape in both tables and JSON.
static bool show_short_escape(struct show_out *out, uint8_t byte)
{
    switch (byte) {
    case '\n': show_string(out, "\\n"); return true;
    case '\r': show_string(out, "\\r"); return true;
    case '\t': show_string(out, "\\t"); return true;
    case '\\': show_string(out, "\\\\"); return true;
    default: return false;
    }
}

// Controls (C0, DEL, C1) and what steers the direction of text are not shown as they are.
static bool show_is_control(const uint8_t *bytes, uint32_t count)
{
    if (count == 1) {
        return bytes[0] < 0x20 || bytes[0] == 0x7f;
    }
    if (count == 2) {
        return bytes[0] == 0xc2 && bytes[1] < 0xa0;
    }
    if (count == 3 && bytes[0] == 0xe2) {
        return (bytes[1] == 0x80 && bytes[2] >= 0xa8 && bytes[2] <= 0xae) || // U+2028 … U+202E
               (bytes[1] == 0x81 && bytes[2] >= 0xa6 && bytes[2] <= 0xa9);   // U+2066 … U+2069
    }
    return false;
}

static void show_safe(struct show_out *out, const uint8_t *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count;) {
        uint32_t length = torc_utf8_length(bytes + i, count - i);

        if (show_short_escape(out, bytes[i])) {
            i++;
        } else if (length == 0 || show_is_control(bytes + i, length)) {
            show_hex(out, "\\x", bytes[i++]);
        } else {
            show_bytes(out, bytes + i, length);
            i += length;
        }
    }
}

// NOLINTNEXTLINE(readability-non-const-parameter): written by way of `out`
uint64_t torc_show_text(const uint8_t *bytes, uint64_t count, uint8_t *text, uint64_t text_bytes)
{
    struct show_out out = {text, text_bytes, 0};

    show_safe(&out, bytes, count);
    return out.used;
}

static void show_json_text(struct show_out *out, const uint8_t *bytes, uint64_t count)
{
    show_byte(out, '"');
    for (uint64_t i = 0; i < count; i++) {
        if (bytes[i] == '"') {
            show_string(out, "\\\"");
        } else if (show_short_escape(out, bytes[i])) {
            continue;
        } else if (bytes[i] < 0x20 || bytes[i] == 0x7f) {
            show_hex(out, "\\u00", bytes[i]);
        } else {
            show_byte(out, bytes[i]);
        }
    }
    show_byte(out, '"');
}

static void show_base64(struct show_out *out, const uint8_t *bytes, uint64_t count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    show_byte(out, '"');
    for (uint64_t i = 0; i < count; i += 3) {
        uint32_t left = (uint32_t)torc_min_u64(count - i, 3);
        uint32_t word = (uint32_t)bytes[i] << 16;

        word |= left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        word |= left > 2 ? (uint32_t)bytes[i + 2] : 0;
        show_byte(out, (uint8_t)digits[word >> 18]);
        show_byte(out, (uint8_t)digits[word >> 12 & 63]);
        show_byte(out, left > 1 ? (uint8_t)digits[word >> 6 & 63] : '=');
        show_byte(out, left > 2 ? (uint8_t)digits[word & 63] : '=');
    }
    show_byte(out, '"');
}

static void show_json(const struct torc_show *show, const struct torc_show_pair *pair,
                      struct show_out *out)
{
    char key[TORC_KEY_TEXT_BYTES];
    uint32_t key_bytes = torc_key_show(pair->key, show->key_format, key);
    bool quoted = show->key_format != TORC_KEY_DEC;

    show_string(out, quoted ? "{\"key\":\"" : "{\"key\":");
    show_bytes(out, key, key_bytes);
    show_string(out, quoted ? "\"" : "");
    if (show->versions) {
        show_string(out, ",\"version\":");
        show_number(out, pair->version);
    }
    if (!show->keys_only) {
        if (torc_utf8_is(pair->value, pair->value_bytes)) {
            show_string(out, ",\"value\":");
            show_json_text(out, pair->value, pair->value_bytes);
        } else {
            show_string(out, ",\"value_base64\":");
            show_base64(out, pair->value, pair->value_bytes);
        }
    }
    show_string(out, "}\n");
}

static void show_csv_value(struct show_out *out, char separator, const uint8_t *bytes,
                           uint64_t count)
{
    bool quotes = count == 0;

    for (uint64_t i = 0; i < count && !quotes; i++) {
        quotes = bytes[i] == (uint8_t)separator || bytes[i] == '"' || bytes[i] == '\n' ||
                 bytes[i] == '\r';
    }
    if (!quotes) {
        show_bytes(out, bytes, count);
        return;
    }
    show_byte(out, '"');
    for (uint64_t i = 0; i < count; i++) {
        if (bytes[i] == '"') {
            show_byte(out, '"');
        }
        show_byte(out, bytes[i]);
    }
    show_byte(out, '"');
}

static void show_csv(const struct torc_show *show, const struct torc_show_pair *pair,
                     struct show_out *out)
{
    char key[TORC_KEY_TEXT_BYTES];

    show_bytes(out, key, torc_key_show(pair->key, show->key_format, key));
    if (show->versions) {
        show_byte(out, (uint8_t)show->separator);
        show_number(out, pair->version);
    }
    if (!show->keys_only) {
        show_byte(out, (uint8_t)show->separator);
        show_csv_value(out, show->separator, pair->value, pair->value_bytes);
    }
    show_byte(out, '\n');
}

static void show_table(const struct torc_show *show, const struct torc_show_pair *pair,
                       struct show_out *out)
{
    char key[TORC_KEY_TEXT_BYTES];
    uint32_t key_bytes = torc_key_show(pair->key, show->key_format, key);

    for (uint32_t i = key_bytes; i < show->key_columns; i++) {
        show_byte(out, ' ');
    }
    show_bytes(out, key, key_bytes);
    if (show->versions) {
        show_string(out, "  ");
        show_number(out, pair->version);
    }
    if (!show->keys_only) {
        show_string(out, "  ");
        show_safe(out, pair->value, pair->value_bytes);
    }
    show_byte(out, '\n');
}

// NOLINTBEGIN(readability-non-const-parameter): written by way of `out`
uint64_t torc_show_pair(const struct torc_show *show, const struct torc_show_pair *pair,
                        uint8_t *text, uint64_t text_bytes)
{
    struct show_out out = {text, text_bytes, 0};
    char key[TORC_KEY_TEXT_BYTES];

    torc_assert(show->key_columns < TORC_KEY_TEXT_BYTES);
    switch (show->format) {
    case TORC_SHOW_TABLE: show_table(show, pair, &out); return out.used;
    case TORC_SHOW_JSON: show_json(show, pair, &out); return out.used;
    case TORC_SHOW_CSV: show_csv(show, pair, &out); return out.used;
    case TORC_SHOW_RAW:
        if (show->keys_only) {
            show_bytes(&out, key, torc_key_show(pair->key, show->key_format, key));
        } else {
            show_bytes(&out, pair->value, pair->value_bytes);
        }
        show_byte(&out, '\n');
        return out.used;
    }
    torc_unreachable("a format of the table");
}

// NOLINTEND(readability-non-const-parameter)

uint64_t torc_show_value(const struct torc_show *show, const struct torc_show_pair *pair,
                         uint8_t *text, uint64_t text_bytes)
{
    struct show_out out = {text, text_bytes, 0};

    if (show->format == TORC_SHOW_RAW) {
        show_bytes(&out, pair->value, pair->value_bytes);
        return out.used;
    }
    if (show->format != TORC_SHOW_TABLE) {
        return torc_show_pair(show, pair, text, text_bytes);
    }
    show_safe(&out, pair->value, pair->value_bytes);
    if (show->versions) {
        show_string(&out, "  (version ");
        show_number(&out, pair->version);
        show_byte(&out, ')');
    }
    show_byte(&out, '\n');
    return out.used;
}
