// Torc control: what the metastore's records say. See control/records.h.
#include "control/records.h"

#include <string.h>

enum record_kind {
    RECORD_NUMBER,
    RECORD_TEXT,
    RECORD_NODES,
    RECORD_MEMBERS,
    RECORD_PARENTS,
    RECORD_LOSSES,
};

struct record_field {
    const char *name;
    enum record_kind kind;
    uint32_t since;
    uint32_t offset;
    uint64_t greatest;
};

enum {
    RECORD_FIELDS_MAX = 16,
    RECORD_COLUMNS_MAX = 5
};

// A list is a count and `count` entries of `columns` numbers each.
struct record_list {
    uint32_t columns;
    uint32_t count_max;
    uint64_t greatest[RECORD_COLUMNS_MAX];
};

_Static_assert(sizeof(struct torc_record_nodes) == 8 + 8 * TORC_RECORD_MEMBERS_MAX, "1 column");
_Static_assert(sizeof(struct torc_record_members) == 8 + 16 * TORC_RECORD_MEMBERS_MAX, "2");
_Static_assert(sizeof(struct torc_record_parents) == 8 + 24 * TORC_RECORD_PARENTS_MAX, "3");
_Static_assert(sizeof(struct torc_record_losses) == 8 + 40 * TORC_RECORD_LOSSES_MAX, "5");

static struct record_list record_list(enum record_kind kind)
{
    switch (kind) {
    case RECORD_NODES:
        return (struct record_list){1, TORC_RECORD_MEMBERS_MAX, {TORC_RECORD_NODE_MAX}};
    case RECORD_MEMBERS:
        return (struct record_list){2, TORC_RECORD_MEMBERS_MAX, {TORC_RECORD_NODE_MAX, UINT64_MAX}};
    case RECORD_PARENTS:
        return (struct record_list){
            3, TORC_RECORD_PARENTS_MAX, {UINT32_MAX, UINT32_MAX, UINT64_MAX}};
    case RECORD_LOSSES:
        return (struct record_list){
            5,
            TORC_RECORD_LOSSES_MAX,
            {UINT32_MAX, TORC_RECORD_NODE_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    case RECORD_NUMBER:
    case RECORD_TEXT: break;
    }
    torc_unreachable("no list");
}

#define RECORD_FIELD(of, kind, since, greatest, field) \
    {#field, RECORD_##kind, since, (uint32_t)offsetof(struct of, field), greatest},
#define X(kind, name, table)                             \
    static const struct record_field record_##name[] = { \
        table(RECORD_FIELD, torc_##name##_fields)};      \
    _Static_assert(TORC_COUNT_OF(record_##name) < RECORD_FIELDS_MAX, "a bit for each and `format`");
TORC_RECORD_KIND_TABLE(X)
#undef X

struct record_shape {
    const struct record_field *fields;
    uint32_t count;
    uint32_t bytes;
};

static struct record_shape record_shape(enum torc_record kind)
{
#define X(kind, name, table)                                             \
    [TORC_RECORD_##kind] = {record_##name, TORC_COUNT_OF(record_##name), \
                            sizeof(struct torc_##name##_fields)},
    static const struct record_shape shapes[] = {TORC_RECORD_KIND_TABLE(X)};
#undef X

    torc_assert((uint32_t)kind < TORC_COUNT_OF(shapes));
    return shapes[kind];
}

struct record_text {
    char *text;
    uint32_t used;
};

static void torc_printf_like(2, 3) record_say(struct record_text *to, const char *format, ...)
{
    va_list arguments;
    int bytes;

    va_start(arguments, format);
    bytes = vsnprintf(to->text + to->used, TORC_RECORD_BYTES_MAX - to->used, format, arguments);
    va_end(arguments);
    torc_assert(bytes >= 0);
    to->used += (uint32_t)bytes;
    torc_assert(to->used < TORC_RECORD_BYTES_MAX); // the largest of each kind fit: test-records
}

static void record_say_list(struct record_text *to, enum record_kind kind,
                            const unsigned char *field)
{
    struct record_list list = record_list(kind);
    uint64_t count;

    memcpy(&count, field, sizeof(count));
    torc_assert(count <= list.count_max);
    for (uint64_t i = 0; i < count * list.columns; i++) {
        const char *mark = i == 0 ? "" : i % list.columns == 0 ? "," : ":";
        uint64_t number;

        memcpy(&number, field + 8 + i * 8, sizeof(number));
        record_say(to, "%s%" PRIu64, mark, number);
    }
}

// NOLINTNEXTLINE(readability-non-const-parameter): it is written through `to`
uint32_t torc_record_encode(enum torc_record kind, const void *fields, char *text)
{
    struct record_shape shape = record_shape(kind);
    struct record_text to = {.text = text};

    record_say(&to, "format=%u\n", TORC_RECORD_FORMAT);
    for (uint32_t i = 0; i < shape.count; i++) {
        const unsigned char *field = (const unsigned char *)fields + shape.fields[i].offset;
        uint64_t number;

        record_say(&to, "%s=", shape.fields[i].name);
        if (shape.fields[i].kind == RECORD_TEXT) {
            torc_assert(memchr(field, '\n', TORC_RECORD_TEXT_BYTES) == NULL);
            record_say(&to, "%s", (const char *)field);
        } else if (shape.fields[i].kind == RECORD_NUMBER) {
            memcpy(&number, field, sizeof(number));
            torc_assert(number <= shape.fields[i].greatest);
            record_say(&to, "%" PRIu64, number);
        } else {
            record_say_list(&to, shape.fields[i].kind, field);
        }
        record_say(&to, "\n");
    }
    return to.used;
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

// The numbers of one list, joined by colons and commas, into the field.
static bool record_read_list(enum record_kind kind, unsigned char *field, const char *value,
                             uint64_t value_bytes)
{
    struct record_list list = record_list(kind);
    uint64_t count = 0;
    uint64_t column = 0;

    for (uint64_t at = 0; value_bytes > 0 && at <= value_bytes; column++) {
        uint64_t end = at;
        uint64_t number;

        while (end < value_bytes && value[end] != ':' && value[end] != ',') {
            end++;
        }
        count += column % list.columns == 0 ? 1 : 0;
        // A comma stands behind the last column, a colon behind each other one.
        if (count > list.count_max || !record_number(value + at, end - at, &number) ||
            number > list.greatest[column % list.columns] ||
            (end < value_bytes &&
             (value[end] == ',') != (column % list.columns == list.columns - 1))) {
            return false;
        }
        memcpy(field + 8 + column * 8, &number, sizeof(number));
        at = end + 1;
    }
    memcpy(field, &count, sizeof(count));
    return column % list.columns == 0;
}

static bool record_value(const struct record_field *field, unsigned char *fields, const char *value,
                         uint64_t value_bytes)
{
    uint64_t number;

    if (field->kind == RECORD_TEXT) {
        if (value_bytes >= TORC_RECORD_TEXT_BYTES || memchr(value, '\0', value_bytes) != NULL) {
            return false;
        }
        memcpy(fields + field->offset, value, value_bytes);
        return true; // the rest is zero: decode began with an empty struct
    }
    if (field->kind != RECORD_NUMBER) {
        return record_read_list(field->kind, fields + field->offset, value, value_bytes);
    }
    if (!record_number(value, value_bytes, &number) || number > field->greatest) {
        return false;
    }
    memcpy(fields + field->offset, &number, sizeof(number));
    return true;
}

// What was read of a record so far: its format, 0 before the first line, and a bit for each field.
struct record_seen {
    uint32_t format;
    uint32_t fields;
};

static enum torc_err record_format(struct record_seen *seen, const char *line, uint64_t line_bytes,
                                   struct torc_fail *why)
{
    uint64_t format;

    if (line_bytes < 8 || memcmp(line, "format=", 7) != 0 ||
        !record_number(line + 7, line_bytes - 7, &format)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: does not begin with format=");
    }
    if (format < TORC_RECORD_FORMAT_OLD || format > TORC_RECORD_FORMAT) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "record of format %" PRIu64 ", this build reads %u to %u", format,
                         TORC_RECORD_FORMAT_OLD, TORC_RECORD_FORMAT);
    }
    seen->format = (uint32_t)format;
    return TORC_ERR_OK;
}

static enum torc_err record_line(const struct record_shape *shape, unsigned char *fields,
                                 struct record_seen *seen, const char *line, uint64_t line_bytes,
                                 struct torc_fail *why)
{
    const char *mark = memchr(line, '=', line_bytes);
    uint64_t name_bytes = mark != NULL ? (uint64_t)(mark - line) : line_bytes;
    uint32_t at = 0;

    if (mark == NULL) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: a line without '='");
    }
    if (seen->format == 0) { // the first line
        return record_format(seen, line, line_bytes, why);
    }
    while (at < shape->count && (strlen(shape->fields[at].name) != name_bytes ||
                                 memcmp(shape->fields[at].name, line, name_bytes) != 0 ||
                                 shape->fields[at].since > seen->format)) {
        at++;
    }
    if (at == shape->count || (seen->fields & 1u << at) != 0) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: field \"%.*s\" is %s",
                         (int)torc_min_u64(name_bytes, 32), line,
                         at == shape->count ? "unknown" : "there twice");
    }
    seen->fields |= 1u << at;
    if (!record_value(shape->fields + at, fields, mark + 1, line_bytes - name_bytes - 1)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: value of \"%s\" makes no sense",
                         shape->fields[at].name);
    }
    return TORC_ERR_OK;
}

static enum torc_err record_check_shard(const struct torc_shard_fields *shard,
                                        struct torc_fail *why)
{
    bool primary = shard->insync.count == 0; // nobody is: only an operator can go on

    if (shard->lo >= shard->hi) {
        return torc_fail(why, TORC_ERR_CORRUPT, "record: shard of [%" PRIu64 ", %" PRIu64 ")",
                         shard->lo, shard->hi);
    }
    for (uint64_t i = 0; i < shard->insync.count; i++) {
        primary = primary || shard->insync.at[i].node == shard->primary_node;
        for (uint64_t k = 0; k < i; k++) {
            if (shard->insync.at[i].node == shard->insync.at[k].node) {
                return torc_fail(why, TORC_ERR_CORRUPT, "record: node %" PRIu64 " twice in sync",
                                 shard->insync.at[i].node);
            }
        }
    }
    return primary ? TORC_ERR_OK
                   : torc_fail(why, TORC_ERR_CORRUPT, "record: primary %" PRIu64 " is not in sync",
                               shard->primary_node);
}

enum torc_err torc_record_decode(enum torc_record kind, void *fields, const char *text,
                                 uint64_t text_bytes, struct torc_fail *why)
{
    struct record_shape shape = record_shape(kind);
    struct record_seen seen = {0};
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
    for (uint32_t i = 0; i < shape.count && err == TORC_ERR_OK; i++) {
        if (shape.fields[i].since <= seen.format && (seen.fields & 1u << i) == 0) {
            err = torc_fail(why, TORC_ERR_CORRUPT, "record: field \"%s\" is missing",
                            shape.fields[i].name);
        }
    }
    if (err == TORC_ERR_OK && seen.format == 0) {
        err = torc_fail(why, TORC_ERR_CORRUPT, "record: empty");
    }
    return err == TORC_ERR_OK && kind == TORC_RECORD_SHARD ? record_check_shard(fields, why) : err;
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
