// Torc wire: the chunk of a range; see rows.h.
#include "wire/rows.h"

#define REFERENCE_BYTES 4u // what stands in place of a value given by reference

struct rows_wire {
    struct torc_le64 cover_lo;
    struct torc_le64 cover_hi;
    struct torc_le32 chunk;
    struct torc_le16 rows;
    uint8_t encoding;
    uint8_t flags;
    struct torc_le64 base;
};

_Static_assert(sizeof(struct rows_wire) == TORC_ROWS_HEAD_BYTES, "wire format");
_Static_assert(TORC_ROWS_COUNT_BYTES == TORC_ROWS_HEAD_BYTES + 8, "wire format");
_Static_assert(TORC_ROWS_MAX <= UINT16_MAX, "rows are counted in 16 bits");

static uint32_t key_code(uint64_t span)
{
    return span <= UINT16_MAX ? 0u : (span <= UINT32_MAX ? 1u : 2u);
}

static uint32_t key_width(uint32_t code)
{
    return 2u << code;
}

// -- Writing -------------------------------------------------------------------------------------

static bool has_values(const struct torc_rows_builder *builder)
{
    return (builder->flags & TORC_RANGE_KEYS_ONLY) == 0;
}

static bool has_versions(const struct torc_rows_builder *builder)
{
    return (builder->flags & TORC_RANGE_WITH_VERSIONS) != 0;
}

void torc_rows_begin(struct torc_rows_builder *builder, uint32_t room, uint32_t flags)
{
    torc_assert(room >= TORC_ROWS_HEAD_BYTES + 32);
    builder->room = room;
    builder->flags = flags;
    builder->count = 0;
    builder->value_bytes = 0;
    builder->first_bytes = 0;
    builder->same_length = true;
    builder->has_reference = false;
    builder->reverse = (flags & TORC_RANGE_REVERSE) != 0;
    builder->key_low = 0;
    builder->key_high = 0;
}

static uint64_t rows_bytes(const struct torc_rows_builder *builder, uint64_t count, uint64_t span,
                           uint64_t value_bytes, bool same_length)
{
    uint64_t bytes = TORC_ROWS_HEAD_BYTES + count * key_width(key_code(span));

    if (has_values(builder)) {
        bytes += (same_length ? 1 : count) * 4 + value_bytes;
    }
    return bytes + (has_versions(builder) ? count * 8 : 0);
}

static uint32_t item_bytes(const struct torc_rows_item *item)
{
    return item->by_reference ? REFERENCE_BYTES : item->value_bytes;
}

bool torc_rows_add(struct torc_rows_builder *builder, const struct torc_rows_item *item)
{
    bool first = builder->count == 0;
    uint64_t low = first || builder->reverse ? item->key : builder->key_low;
    uint64_t high = first || !builder->reverse ? item->key : builder->key_high;
    uint32_t value_bytes = has_values(builder) ? item_bytes(item) : 0;
    bool reference = has_values(builder) && item->by_reference;
    bool same_length =
        builder->same_length && !reference && (first || value_bytes == builder->first_bytes);

    torc_assert(first ||
                (builder->reverse ? item->key < builder->key_low : item->key > builder->key_high));
    if (builder->count == TORC_ROWS_MAX ||
        rows_bytes(builder, builder->count + 1u, high - low,
                   (uint64_t)builder->value_bytes + value_bytes, same_length) > builder->room) {
        return false;
    }
    builder->items[builder->count] = *item;
    builder->count++;
    builder->first_bytes = first ? value_bytes : builder->first_bytes;
    builder->value_bytes += value_bytes;
    builder->same_length = same_length;
    builder->has_reference = builder->has_reference || reference;
    builder->key_low = low;
    builder->key_high = high;
    return true;
}

uint32_t torc_rows_value_max(uint32_t room, uint32_t flags)
{
    // One row: its key takes the least width, and its length stands once.
    uint32_t head_bytes =
        TORC_ROWS_HEAD_BYTES + 2 + 4 + ((flags & TORC_RANGE_WITH_VERSIONS) != 0 ? 8u : 0u);

    return room > head_bytes ? room - head_bytes : 0;
}

static unsigned char *put_keys(const struct torc_rows_builder *builder, unsigned char *at)
{
    uint32_t width = key_width(key_code(builder->key_high - builder->key_low));

    for (uint32_t i = 0; i < builder->count; i++) {
        uint64_t delta = builder->items[i].key - builder->key_low;

        memcpy(at, &delta, width); // little endian: kit/le.h
        at += width;
    }
    return at;
}

static unsigned char *put_ends(const struct torc_rows_builder *builder, unsigned char *at)
{
    uint32_t end = 0;

    if (builder->same_length) {
        memcpy(at, &builder->first_bytes, 4);
        return at + 4;
    }
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct torc_rows_item *item = &builder->items[i];
        uint32_t field;

        end += item_bytes(item);
        field = item->by_reference ? end | TORC_ROWS_TOP_BIT : end;
        memcpy(at, &field, 4);
        at += 4;
    }
    return at;
}

static unsigned char *put_versions(const struct torc_rows_builder *builder, unsigned char *at)
{
    for (uint32_t i = 0; i < builder->count; i++) {
        memcpy(at, &builder->items[i].version, 8);
        at += 8;
    }
    return at;
}

static unsigned char *put_values(const struct torc_rows_builder *builder, unsigned char *at)
{
    for (uint32_t i = 0; i < builder->count; i++) {
        const struct torc_rows_item *item = &builder->items[i];
        const void *bytes =
            item->by_reference ? (const void *)&item->value_bytes : (const void *)item->value;

        if (item_bytes(item) > 0) {
            memcpy(at, bytes, item_bytes(item));
        }
        at += item_bytes(item);
    }
    return at;
}

static void put_head(const struct rows_wire *wire, unsigned char *body)
{
    memcpy(body, wire, sizeof(*wire));
}

uint32_t torc_rows_write(const struct torc_rows_builder *builder,
                         const struct torc_rows_place *place, unsigned char *body)
{
    uint32_t encoding = key_code(builder->key_high - builder->key_low);
    unsigned char *at = body + sizeof(struct rows_wire);
    struct rows_wire wire = {.cover_lo = torc_le64(place->cover_lo),
                             .cover_hi = torc_le64(place->cover_hi),
                             .chunk = torc_le32(place->chunk),
                             .rows = torc_le16((uint16_t)builder->count),
                             .base = torc_le64(builder->key_low)};

    torc_assert(place->cover_lo <= place->cover_hi);
    torc_assert_implies(builder->count > 0, builder->key_low >= place->cover_lo);
    torc_assert_implies(builder->count > 0, builder->key_high < place->cover_hi);
    at = put_keys(builder, at);
    if (has_values(builder)) {
        encoding |= builder->same_length ? TORC_ROWS_SAME_LENGTH : 0u;
        at = put_ends(builder, at);
    } else {
        encoding |= TORC_ROWS_NO_VALUES;
    }
    if (has_versions(builder)) {
        encoding |= TORC_ROWS_VERSIONS;
        at = put_versions(builder, at);
    }
    if (has_values(builder)) {
        at = put_values(builder, at);
    }
    wire.encoding = (uint8_t)encoding;
    wire.flags = (uint8_t)(place->flags | (builder->has_reference ? TORC_ROWS_REFERENCE : 0u));
    put_head(&wire, body);
    torc_assert(at <= body + builder->room);
    return (uint32_t)(at - body);
}

void torc_rows_write_count(const struct torc_rows_place *place, uint64_t count,
                           unsigned char body[TORC_ROWS_COUNT_BYTES])
{
    struct rows_wire wire = {.cover_lo = torc_le64(place->cover_lo),
                             .cover_hi = torc_le64(place->cover_hi),
                             .chunk = torc_le32(place->chunk),
                             .encoding = TORC_ROWS_COUNT,
                             .flags = (uint8_t)place->flags};
    struct torc_le64 field = torc_le64(count);

    torc_assert(place->cover_lo <= place->cover_hi);
    put_head(&wire, body);
    memcpy(body + sizeof(wire), &field, sizeof(field));
}

// -- Reading -------------------------------------------------------------------------------------

static uint64_t row_key(const struct torc_rows *rows, uint32_t index)
{
    uint32_t width = key_width(rows->encoding & TORC_ROWS_KEY_MASK);
    uint64_t delta = 0;

    memcpy(&delta, rows->keys + (uint64_t)index * width, width);
    return rows->base + delta;
}

static uint32_t end_field(const struct torc_rows *rows, uint32_t index)
{
    uint32_t field;

    memcpy(&field, rows->ends + (uint64_t)index * 4, sizeof(field));
    return field;
}

// Whether the differences of a width rise strictly, or fall; without a branch a row.
#define STEPS(name, type)                                                           \
    static bool name(const unsigned char *keys, uint32_t count, bool reverse)       \
    {                                                                               \
        unsigned bad = 0;                                                           \
                                                                                    \
        for (uint32_t i = 1; i < count; i++) {                                      \
            type pair[2];                                                           \
                                                                                    \
            memcpy(pair, keys + (uint64_t)(i - 1) * sizeof(pair[0]), sizeof(pair)); \
            bad |= (reverse ? pair[1] >= pair[0] : pair[1] <= pair[0]) ? 1u : 0u;   \
        }                                                                           \
        return bad == 0;                                                            \
    }
STEPS(steps_u16, uint16_t)
STEPS(steps_u32, uint32_t)
STEPS(steps_u64, uint64_t)
#undef STEPS

static bool keys_are_in_order(const struct torc_rows *rows, bool reverse)
{
    uint32_t width = key_width(rows->encoding & TORC_ROWS_KEY_MASK);
    uint64_t low;
    uint64_t high;

    if (rows->count == 0) {
        return true;
    }
    low = row_key(rows, reverse ? rows->count - 1 : 0);
    high = row_key(rows, reverse ? 0 : rows->count - 1);
    // Both ends inside the cover, and the sums not over 2^64: then all between them are.
    if (low < rows->base || high < rows->base || low < rows->place.cover_lo ||
        high >= rows->place.cover_hi) {
        return false;
    }
    return width == 2   ? steps_u16(rows->keys, rows->count, reverse)
           : width == 4 ? steps_u32(rows->keys, rows->count, reverse)
                        : steps_u64(rows->keys, rows->count, reverse);
}

static bool values_are_inside(const struct torc_rows *rows, uint64_t area_bytes)
{
    uint32_t before = 0;

    if ((rows->encoding & TORC_ROWS_SAME_LENGTH) != 0) {
        return (uint64_t)end_field(rows, 0) * rows->count <= area_bytes;
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        uint32_t end = end_field(rows, i) & ~TORC_ROWS_TOP_BIT;
        bool reference = (end_field(rows, i) & TORC_ROWS_TOP_BIT) != 0;

        if (end < before || end > area_bytes || (reference && end - before != REFERENCE_BYTES)) {
            return false;
        }
        before = end;
    }
    return true;
}

// Where each column begins; the bytes of the values' area, or UINT64_MAX when the columns do not
// fit.
static uint64_t rows_columns(struct torc_rows *rows, const unsigned char *body, uint32_t body_bytes)
{
    uint64_t at = TORC_ROWS_HEAD_BYTES;
    bool values = (rows->encoding & TORC_ROWS_NO_VALUES) == 0;

    rows->keys = body + at;
    at += (uint64_t)rows->count * key_width(rows->encoding & TORC_ROWS_KEY_MASK);
    if (values) {
        rows->ends = body + torc_min_u64(at, body_bytes);
        at += (rows->encoding & TORC_ROWS_SAME_LENGTH) != 0 ? 4 : (uint64_t)rows->count * 4;
    }
    if ((rows->encoding & TORC_ROWS_VERSIONS) != 0) {
        rows->versions = body + torc_min_u64(at, body_bytes);
        at += (uint64_t)rows->count * 8;
    }
    if (at > body_bytes) {
        return UINT64_MAX;
    }
    rows->bytes = values ? body + at : NULL;
    return body_bytes - at;
}

static enum torc_err rows_check_columns(struct torc_rows *rows, const unsigned char *body,
                                        uint32_t body_bytes, bool reverse, struct torc_fail *why)
{
    uint64_t area_bytes = rows_columns(rows, body, body_bytes);

    if (area_bytes == UINT64_MAX) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "chunk of %" PRIu32 " bytes cannot hold its %" PRIu32 " rows", body_bytes,
                         rows->count);
    }
    if (!keys_are_in_order(rows, reverse)) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "chunk of [%" PRIu64 ", %" PRIu64 "): keys out of order or outside",
                         rows->place.cover_lo, rows->place.cover_hi);
    }
    if (rows->bytes != NULL && !values_are_inside(rows, area_bytes)) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "chunk's values do not fit into %" PRIu64 " bytes", area_bytes);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_rows_decode(struct torc_rows *rows, const unsigned char *body,
                               uint32_t body_bytes, bool reverse, struct torc_fail *why)
{
    struct rows_wire wire;

    if (body_bytes < sizeof(wire)) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "chunk of %" PRIu32 " bytes: at least %zu",
                         body_bytes, sizeof(wire));
    }
    memcpy(&wire, body, sizeof(wire));
    *rows = (struct torc_rows){.place = {.cover_lo = torc_get_le64(wire.cover_lo),
                                         .cover_hi = torc_get_le64(wire.cover_hi),
                                         .chunk = torc_get_le32(wire.chunk),
                                         .flags = wire.flags},
                               .count = torc_get_le16(wire.rows),
                               .encoding = wire.encoding,
                               .base = torc_get_le64(wire.base)};
    if (rows->place.cover_lo > rows->place.cover_hi) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "chunk covers [%" PRIu64 ", %" PRIu64 ")",
                         rows->place.cover_lo, rows->place.cover_hi);
    }
    if ((wire.encoding & TORC_ROWS_COUNT) != 0) {
        if (rows->count != 0 || body_bytes < TORC_ROWS_COUNT_BYTES) {
            return torc_fail(why, TORC_ERR_BAD_PACKET, "a count of %" PRIu32 " bytes", body_bytes);
        }
        memcpy(&rows->counted, body + sizeof(wire), sizeof(rows->counted));
        return TORC_ERR_OK;
    }
    if ((wire.encoding & TORC_ROWS_KEY_MASK) == TORC_ROWS_KEY_MASK) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "chunk's encoding %02x is not known",
                         wire.encoding);
    }
    return rows_check_columns(rows, body, body_bytes, reverse, why);
}

bool torc_rows_value_bytes(const struct torc_rows *rows, uint64_t *bytes)
{
    *bytes = 0;
    if (rows->count == 0 || rows->bytes == NULL) {
        return true;
    }
    if ((rows->encoding & TORC_ROWS_SAME_LENGTH) != 0) {
        *bytes = (uint64_t)end_field(rows, 0) * rows->count;
        return true;
    }
    *bytes = end_field(rows, rows->count - 1) & ~TORC_ROWS_TOP_BIT;
    return (rows->place.flags & TORC_ROWS_REFERENCE) == 0;
}

static void row_value(const struct torc_rows *rows, uint32_t index, struct torc_rows_item *item)
{
    uint32_t start;
    uint32_t field;

    if ((rows->encoding & TORC_ROWS_SAME_LENGTH) != 0) {
        item->value_bytes = end_field(rows, 0);
        item->value = rows->bytes + (uint64_t)index * item->value_bytes;
        return;
    }
    start = index == 0 ? 0 : end_field(rows, index - 1) & ~TORC_ROWS_TOP_BIT;
    field = end_field(rows, index);
    item->by_reference = (field & TORC_ROWS_TOP_BIT) != 0;
    if (item->by_reference) {
        memcpy(&item->value_bytes, rows->bytes + start, sizeof(item->value_bytes));
        return;
    }
    item->value = rows->bytes + start;
    item->value_bytes = field - start;
}

void torc_rows_at(const struct torc_rows *rows, uint32_t index, struct torc_rows_item *item)
{
    torc_assert(index < rows->count);
    *item = (struct torc_rows_item){.key = row_key(rows, index)};
    if (rows->versions != NULL) {
        memcpy(&item->version, rows->versions + (uint64_t)index * 8, sizeof(item->version));
    }
    if (rows->bytes != NULL) {
        row_value(rows, index, item);
    }
}
