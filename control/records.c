// Torc control: what the metastore's records say. See control/records.h.
#include "control/records.h"

#include <string.h>

struct record_field {
    const char *name;
    uint32_t offset;
    bool text;
};

enum {
    RECORD_NUMBER_IS_TEXT = 0,
    RECORD_TEXT_IS_TEXT = 1,
    RECORD_FIELDS_MAX = 16
};

#define RECORD_FIELDS(type, kind, field) \
    {#field, (uint32_t)offsetof(struct type, field), RECORD_##kind##_IS_TEXT},

#define X(kind, field) RECORD_FIELDS(torc_meta_fields, kind, field)
static const struct record_field record_meta[] = {TORC_META_RECORD_TABLE(X)};
#undef X
#define X(kind, field) RECORD_FIELDS(torc_node_fields, kind, field)
static const struct record_field record_node[] = {TORC_NODE_RECORD_TABLE(X)};
#undef X
#define X(kind, field) RECORD_FIELDS(torc_shard_fields, kind, field)
static const struct record_field record_shard[] = {TORC_SHARD_RECORD_TABLE(X)};
#undef X
#define X(kind, field) RECORD_FIELDS(torc_counter_fields, kind, field)
static const struct record_field record_counter[] = {TORC_COUNTER_RECORD_TABLE(X)};
#undef X

struct record_shape {
    const struct record_field *fields;
    uint32_t count;
    uint32_t bytes;
};

static struct record_shape record_shape(enum torc_record kind)
{
    switch (kind) {
    case TORC_RECORD_META:
        return (struct record_shape){record_meta, TORC_COUNT_OF(record_meta),
                                     sizeof(struct torc_meta_fields)};
    case TORC_RECORD_NODE:
        return (struct record_shape){record_node, TORC_COUNT_OF(record_node),
                                     sizeof(struct torc_node_fields)};
    case TORC_RECORD_SHARD:
        return (struct record_shape){record_shard, TORC_COUNT_OF(record_shard),
                                     sizeof(struct torc_shard_fields)};
    case TORC_RECORD_COUNTER:
        return (struct record_shape){record_counter, TORC_COUNT_OF(record_counter),
                                     sizeof(struct torc_counter_fields)};
    }
    torc_unreachable("no such record");
}

_Static_assert(TORC_COUNT_OF(record_meta) < RECORD_FIELDS_MAX, "a bit for each field and `format`");
_Static_assert(TORC_COUNT_OF(record_node) < RECORD_FIELDS_MAX, "a bit for each field and `format`");

uint32_t torc_record_encode(enum torc_record kind, const void *fields, char *text)
{
    struct record_shape shape = record_shape(kind);
    int used = snprintf(text, TORC_RECORD_BYTES_MAX, "format=%u\n", TORC_RECORD_FORMAT);

    for (uint32_t i = 0; i < shape.count; i++) {
        const unsigned char *field = (const unsigned char *)fields + shape.fields[i].offset;
        uint64_t room = TORC_RECORD_BYTES_MAX - (uint64_t)used;
        uint64_t number;

        if (shape.fields[i].text) {
            torc_assert(memchr(field, '\n', TORC_RECORD_TEXT_BYTES) == NULL);
            used +=
                snprintf(text + used, room, "%s=%s\n", shape.fields[i].name, (const char *)field);
        } else {
            memcpy(&number, field, sizeof(number));
            used += snprintf(text + used, room, "%s=%" PRIu64 "\n", shape.fields[i].name, number);
        }
        torc_assert(used < TORC_RECORD_BYTES_MAX);
    }
    return (uint32_t)used;
}

// All of `text` as one decimal number.
static bool record_number(const char *text, uint64_t text_bytes, uint64_t *number)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < text_bytes; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(sum, UINT64_C(10), &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(text[i] - '0'), &sum)) {
            return false;
        }
    }
    *number = sum;
    return text_bytes > 0;
}

static bool record_value(const struct record_field *field, unsigned char *fields, const char *value,
                         uint64_t value_bytes)
{
    uint64_t number;

    if (field->text) {
        if (value_bytes >= TORC_RECORD_TEXT_BYTES || memchr(value, '\0', value_bytes) != NULL) {
            return false;
        }
        memcpy(fields + field->offset, value, value_bytes);
        return true; // the rest is zero: decode began with an empty struct
    }
    if (!record_number(value, value_bytes, &number)) {
        return false;
    }
    memcpy(fields + field->offset, &number, sizeof(number));
    return true;
}

static enum torc_err record_line(const struct record_shape *shape, unsigned char *fields,
                                 uint32_t *seen, const char *line, uint64_t line_bytes,
                                 struct torc_fail *why)
{
    const char *mark = memchr(line, '=', line_bytes);
    uint64_t name_bytes = mark != NULL ? (uint64_t)(mark - line) : line_bytes;
    uint32_t at = 0;
    uint64_t format;

    if (mark == NULL) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: a line without '='");
    }
    if (*seen == 0) { // the first line
        if (name_bytes != 6 || memcmp(line, "format", 6) != 0 ||
            !record_number(mark + 1, line_bytes - 7, &format)) {
            return torc_fail(why, TORC_ERR_CORRUPT, "record: does not begin with format=");
        }
        *seen = 1u << RECORD_FIELDS_MAX;
        return format == TORC_RECORD_FORMAT
                   ? TORC_ERR_OK
                   : torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                               "record of format %" PRIu64 ", this build reads %u", format,
                               TORC_RECORD_FORMAT);
    }
    while (at < shape->count && (strlen(shape->fields[at].name) != name_bytes ||
                                 memcmp(shape->fields[at].name, line, name_bytes) != 0)) {
        at++;
    }
    if (at == shape->count || (*seen & 1u << at) != 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: field \"%.*s\" is %s",
                         (int)torc_min_u64(name_bytes, 32), line,
                         at == shape->count ? "unknown" : "there twice");
    }
    *seen |= 1u << at;
    if (!record_value(shape->fields + at, fields, mark + 1, line_bytes - name_bytes - 1)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: value of \"%s\" makes no sense",
                         shape->fields[at].name);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_record_decode(enum torc_record kind, void *fields, const char *text,
                                 uint64_t text_bytes, struct torc_fail *why)
{
    struct record_shape shape = record_shape(kind);
    uint32_t seen = 0;
    enum torc_err err = TORC_ERR_OK;

    memset(fields, 0, shape.bytes);
    while (text_bytes > 0 && err == TORC_ERR_OK) {
        const char *end = memchr(text, '\n', text_bytes);

        if (end == NULL) {
            return torc_fail(why, TORC_ERR_CORRUPT, "record: its last line has no end");
        }
        err = record_line(&shape, fields, &seen, text, (uint64_t)(end - text), why);
        text_bytes -= (uint64_t)(end - text) + 1;
        text = end + 1;
    }
    if (err == TORC_ERR_OK && seen != (((1u << shape.count) - 1) | 1u << RECORD_FIELDS_MAX)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: a field is missing");
    }
    return err;
}

void torc_record_name(char *name, const char *family, uint64_t id)
{
    int bytes = snprintf(name, TORC_RECORD_NAME_BYTES, "%s/%" PRIu64, family, id);

    torc_assert(bytes < TORC_RECORD_NAME_BYTES);
}

bool torc_record_id(const char *name, const char *family, uint64_t *id)
{
    uint64_t family_bytes = strlen(family);

    return strlen(name) > family_bytes && memcmp(name, family, family_bytes) == 0 &&
           name[family_bytes] == '/' &&
           record_number(name + family_bytes + 1, strlen(name) - family_bytes - 1, id);
}
