// Torc tests: any bytes as the operations of an opened reply packet, and as a range's chunk: a
// client reads only what lies inside, and rows are in order and inside their cover.
#include "tests/fuzz/mutate.h"
#include "wire/map.h"
#include "wire/op.h"
#include "wire/rows.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    BODY_BYTES = 600
};

static void check_row(const struct torc_rows *rows, uint32_t index, const uint8_t *body,
                      uint32_t body_bytes)
{
    struct torc_rows_item item;

    torc_rows_at(rows, index, &item);
    torc_assert(item.key >= rows->place.cover_lo && item.key < rows->place.cover_hi);
    if (item.value != NULL) {
        torc_assert(item.value >= body);
        torc_assert(item.value + item.value_bytes <= body + body_bytes);
    }
}

static void take_chunk(const uint8_t *body, uint32_t body_bytes, bool reverse)
{
    struct torc_rows rows;

    if (torc_rows_decode(&rows, body, body_bytes, reverse, NULL) != TORC_ERR_OK) {
        return;
    }
    for (uint32_t i = 0; i < rows.count; i++) {
        check_row(&rows, i, body, body_bytes);
    }
}

static void take_reply(const struct torc_reply *reply)
{
    struct torc_map_entry map_entry;
    struct torc_node_entry node_entry;
    struct torc_frag_state state;
    struct torc_shed shed;
    struct torc_unread unread;
    struct torc_trace_marks trace;
    const unsigned char *bytes;
    uint32_t number;
    uint32_t byte_count = 0;
    uint8_t attempt;

    if (torc_map_entry_decode(&map_entry, reply, NULL) == TORC_ERR_OK) {
        torc_assert(map_entry.lo < map_entry.hi);
        torc_assert_implies(map_entry.primary != TORC_MAP_NO_PRIMARY,
                            map_entry.primary < map_entry.member_count);
    }
    if (torc_node_entry_decode(&node_entry, reply, NULL) == TORC_ERR_OK) {
        torc_assert(node_entry.addresses + (size_t)node_entry.address_count * 16 <=
                    reply->body + reply->body_bytes);
    }
    if (torc_write_reply_decode(reply, &attempt, &bytes, &byte_count) ||
        torc_partial_decode(reply, &number, &bytes, &byte_count) ||
        torc_pull_reply_decode(reply, &number, &bytes, &byte_count)) {
        torc_assert(bytes + byte_count <= reply->body + reply->body_bytes);
    }
    (void)!torc_frag_state_decode(reply, &state);
    (void)!torc_shed_decode(reply, &shed);
    (void)!torc_unread_decode(reply, &unread);
    (void)!torc_trace_decode(reply, &trace);
    take_chunk(reply->body, reply->body_bytes, (reply->op_id & 1) != 0);
}

static void take_packet(const uint8_t *ops, uint32_t byte_count)
{
    struct torc_reply reply;
    uint32_t offset = 0;

    while (torc_reply_next(ops, byte_count, &offset, &reply)) {
        torc_assert(reply.body + reply.body_bytes <= ops + byte_count);
        take_reply(&reply);
    }
}

static uint32_t make_chunk(struct torc_rng *rng, uint8_t *body, uint32_t flags)
{
    static struct torc_rows_builder builder; // large; begun anew each time
    static const uint8_t values[64] = "values";
    struct torc_rows_place place = {.cover_lo = 100, .cover_hi = 100000, .flags = TORC_ROWS_LAST};
    bool reverse = (flags & TORC_RANGE_REVERSE) != 0;
    uint64_t key = reverse ? 99999 : 100;

    torc_rows_begin(&builder, BODY_BYTES, flags);
    for (uint32_t i = 0; i < 12; i++) {
        struct torc_rows_item item = {
            .key = key, .version = 5, .value = values, .value_bytes = i % 9};

        item.by_reference = torc_rng_chance(rng, 100000);
        if (!torc_rows_add(&builder, &item)) {
            break;
        }
        key = reverse ? key - 1 - torc_rng_below(rng, 5000) : key + 1 + torc_rng_below(rng, 5000);
    }
    return torc_rows_write(&builder, &place, body);
}

static uint32_t make_map_entry(uint8_t *body)
{
    struct torc_map_entry entry = {
        .lo = 1, .hi = 2, .member_count = 2, .members = {{1, 2, 1, 0}, {3, 4, 2, 0}}};

    return torc_map_entry_body(body, &entry);
}

static uint32_t make_node_entry(uint8_t *body)
{
    static const uint8_t addresses[32] = {0xfd};
    struct torc_node_entry entry = {
        .node = 1, .base_port = 28700, .cores = 2, .address_count = 2, .addresses = addresses};

    return torc_node_entry_body(body, &entry);
}

static uint32_t make_packet(struct torc_rng *rng, uint8_t *ops)
{
    struct torc_reply reply = {.op_id = (uint32_t)torc_rng_below(rng, 2), .info = 7};
    uint8_t body[BODY_BYTES];

    switch (torc_rng_below(rng, 4)) {
    case 0:
        reply.opcode = TORC_OPCODE_MAP_ENTRY;
        reply.body_bytes = make_map_entry(body);
        break;
    case 1:
        reply.opcode = TORC_OPCODE_NODE_ENTRY;
        reply.body_bytes = make_node_entry(body);
        break;
    default:
        reply.opcode = TORC_OPCODE_RANGE_READ | TORC_REPLY_BIT;
        reply.body_bytes = make_chunk(rng, body, (reply.op_id & 1) != 0 ? TORC_RANGE_REVERSE : 0);
        break;
    }
    reply.body = body;
    return torc_reply_encode(ops, &reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_rng rng = torc_fuzz_rng(data, size);
    uint8_t ops[BODY_BYTES + 32];
    uint32_t bytes = make_packet(&rng, ops);

    if (size <= UINT16_MAX) {
        take_packet(data, (uint32_t)size);
        take_chunk(data, (uint32_t)size, size % 2 != 0);
    }
    torc_fuzz_edit(&rng, ops + TORC_REPLY_HEAD_BYTES, bytes - TORC_REPLY_HEAD_BYTES);
    take_packet(ops, bytes);
    torc_fuzz_edit(&rng, ops, bytes);
    take_packet(ops, torc_fuzz_cut(&rng, bytes));
    return 0;
}
