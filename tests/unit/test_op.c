// Torc tests: operations, chunks of rows, entries of the map: each there and back, each refusal by
// its reason.
#include "tests/torc_test.h"
#include "wire/data.h"
#include "wire/map.h"
#include "wire/op.h"
#include "wire/rows.h"

#include <stdlib.h>
#include <string.h>

// -- Operations ----------------------------------------------------------------------------------

static void check_request(const struct torc_request *request)
{
    unsigned char op[256];
    unsigned char again[256];
    struct torc_request got;
    struct torc_fail why;
    uint32_t padded = torc_request_encode(op, request);
    uint32_t length = torc_request_bytes(request);
    uint32_t op_count = 0;
    uint32_t offset = 0;

    CU_ASSERT_EQUAL(padded, torc_op_padded(length));
    CU_ASSERT_EQUAL(torc_framing_check(op, padded, &op_count, &offset), TORC_ERR_OK);
    CU_ASSERT_EQUAL(op_count, 1);
    TORC_TEST_OK(torc_request_decode(&got, op, length, &why), &why);
    CU_ASSERT_EQUAL(torc_request_encode(again, &got), padded); // O2
    CU_ASSERT_EQUAL(memcmp(op, again, padded), 0);
    CU_ASSERT_EQUAL(got.key, request->key);
    CU_ASSERT_EQUAL(got.data_bytes, request->data_bytes);
}

static void test_requests(void)
{
    static const unsigned char bytes[24] = "some bytes of a value";
    struct torc_request put = {.opcode = TORC_OPCODE_PUT,
                               .op_id = 4,
                               .key = 5,
                               .wseq = 100,
                               .lowest = 90,
                               .stamp = 6,
                               .epoch = 7,
                               .attempt = 8,
                               .data = bytes,
                               .data_bytes = 21};
    struct torc_request empty = put;
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 5, .hi = 5, .limit = 1};

    check_request(&put);
    put.flags = TORC_WRITE_IF_VERSION | TORC_FLAG_TRACE;
    put.version = 77;
    check_request(&put);
    put.flags = TORC_WRITE_FRAGMENTED | TORC_WRITE_IF_ABSENT;
    put.total_bytes = 1000;
    put.fragment_bytes = 16;
    put.data_bytes = 16;
    check_request(&put);
    empty.data = NULL;
    empty.data_bytes = 0;
    check_request(&empty);
    empty.opcode = TORC_OPCODE_DELETE;
    check_request(&empty);
    check_request(&range);
    range.opcode = TORC_OPCODE_RANGE_OPEN;
    range.credit = 3;
    range.flags = TORC_RANGE_STALE | TORC_RANGE_COUNT;
    check_request(&range);
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_GET,
                                         .flags = TORC_GET_AT | TORC_GET_STALE,
                                         .key = 1,
                                         .ts = 2,
                                         .max_age_ms = 3});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_PULL,
                                         .key = 1,
                                         .version = 2,
                                         .fragment = 3,
                                         .fragment_bytes = 1024,
                                         .bitmap = 1});
    check_request(&(struct torc_request){
        .opcode = TORC_OPCODE_FRAG, .key = 1, .fragment = 9, .data = bytes, .data_bytes = 3});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_FRAG_QUERY, .key = 1});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_COOKIE});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_CLOSE});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_CLOCK, .lo = 1, .hi = 2});
    check_request(&(struct torc_request){
        .opcode = TORC_OPCODE_MAP, .lo = 0, .hi = UINT64_MAX, .entries_max = 4});
}

// The status that an operation of these bytes gets.
static enum torc_err decode_status(const struct torc_request *request, uint32_t at, uint8_t value)
{
    unsigned char op[256];
    struct torc_request got;
    struct torc_fail why;

    (void)torc_request_encode(op, request);
    op[at] = value;
    return torc_request_decode(&got, op, torc_request_bytes(request), &why);
}

// The short way writes what the long one does.
static void test_plain_get(void)
{
    struct torc_rng rng = {.state = torc_test_seed()};

    for (uint32_t i = 0; i < 1000; i++) {
        struct torc_plain_get get = {.key = torc_rng_next(&rng),
                                     .op_id = (uint32_t)torc_rng_next(&rng),
                                     .budget_us = (uint32_t)torc_rng_next(&rng),
                                     .epoch = (uint32_t)torc_rng_next(&rng),
                                     .flags = i % 2 == 0 ? 0 : (uint8_t)TORC_GET_VERSION_ONLY};
        struct torc_request request = {.opcode = TORC_OPCODE_GET,
                                       .flags = get.flags,
                                       .op_id = get.op_id,
                                       .budget_us = get.budget_us,
                                       .epoch = get.epoch,
                                       .key = get.key};
        unsigned char plain[TORC_PLAIN_GET_BYTES];
        unsigned char any[TORC_PLAIN_GET_BYTES];

        torc_plain_get_encode(plain, &get);
        CU_ASSERT_EQUAL_FATAL(torc_request_encode(any, &request), sizeof(any));
        CU_ASSERT_EQUAL_FATAL(memcmp(plain, any, sizeof(any)), 0);
    }
}

static void test_request_refusals(void)
{
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .key = 5};
    struct torc_request put = {.opcode = TORC_OPCODE_PUT, .wseq = 3, .lowest = 1};
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 1, .hi = 2};
    struct torc_request pull = {.opcode = TORC_OPCODE_PULL, .fragment_bytes = 8, .bitmap = 1};

    CU_ASSERT_EQUAL(decode_status(&get, 0, 0x7f), TORC_ERR_UNSUPPORTED); // row 38
    CU_ASSERT_EQUAL(decode_status(&get, 1, 0x08), TORC_ERR_UNSUPPORTED); // row 39
    CU_ASSERT_EQUAL(decode_status(&get, 0, 0x40), TORC_ERR_FORBIDDEN);   // row 40
    CU_ASSERT_EQUAL(decode_status(&get, 0, 0x5f), TORC_ERR_FORBIDDEN);
    CU_ASSERT_EQUAL(decode_status(&get, 1, TORC_GET_AT), TORC_ERR_INVALID_ARGUMENT); // too short
    CU_ASSERT_EQUAL(decode_status(&range, 16, 3), TORC_ERR_INVALID_ARGUMENT);        // row 45
    CU_ASSERT_EQUAL(decode_status(&range, 16, 2), TORC_ERR_OK);
    CU_ASSERT_EQUAL(decode_status(&put, 1, 3), TORC_ERR_INVALID_ARGUMENT);  // row 47
    CU_ASSERT_EQUAL(decode_status(&put, 12, 3), TORC_ERR_INVALID_ARGUMENT); // row 51
    CU_ASSERT_EQUAL(decode_status(&put, 12, 2), TORC_ERR_OK);
    CU_ASSERT_EQUAL(decode_status(&put, 1, 8), TORC_ERR_INVALID_ARGUMENT); // no sizes
    CU_ASSERT_EQUAL(decode_status(&pull, 36, 7), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(decode_status(&pull, 40, 0), TORC_ERR_INVALID_ARGUMENT);
    put.opcode = TORC_OPCODE_DELETE;
    CU_ASSERT_EQUAL(decode_status(&put, 1, TORC_WRITE_IF_ABSENT), TORC_ERR_UNSUPPORTED);
}

static enum torc_err framing(const unsigned char *ops, uint32_t byte_count, uint32_t *offset)
{
    uint32_t op_count;

    return torc_framing_check(ops, byte_count, &op_count, offset);
}

static void test_framing(void)
{
    unsigned char ops[2048] = {0};
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .key = 5};
    struct torc_request ping = {
        .opcode = TORC_OPCODE_PING, .data = (const unsigned char *)"abc", .data_bytes = 3};
    uint32_t first = torc_request_encode(ops, &get);
    uint32_t all = first + torc_request_encode(ops + first, &ping);
    uint32_t offset = 0;
    struct torc_framing walk = {.bytes = ops, .byte_count = all};
    const unsigned char *op;
    uint32_t length;

    CU_ASSERT_EQUAL(framing(ops, all, &offset), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_framing_next(&walk, &op, &length));
    CU_ASSERT_EQUAL(length, 24);
    CU_ASSERT_TRUE(torc_framing_next(&walk, &op, &length));
    CU_ASSERT_EQUAL(length, 19);
    CU_ASSERT_FALSE(torc_framing_next(&walk, &op, &length));
    CU_ASSERT_EQUAL(framing(ops, all - 4, &offset), TORC_ERR_BAD_PACKET); // row 3
    CU_ASSERT_EQUAL(framing(ops, all - 8, &offset), TORC_ERR_BAD_PACKET); // row 34
    CU_ASSERT_EQUAL(offset, TORC_DATA_HEAD_BYTES + first);
    ops[all - 1] = 1; // row 37
    CU_ASSERT_EQUAL(framing(ops, all, &offset), TORC_ERR_BAD_PACKET);
    ops[all - 1] = 0;
    for (uint8_t bad = 0; bad < 16; bad++) { // row 33
        ops[first + 2] = bad;
        CU_ASSERT_EQUAL(framing(ops, all, &offset), TORC_ERR_BAD_PACKET);
    }
    memset(ops, 0, sizeof(ops));
    for (uint32_t i = 0; i < 65; i++) {
        ops[8 * i + 2] = 8; // NOPs
    }
    CU_ASSERT_EQUAL(framing(ops, 64 * 8, &offset), TORC_ERR_OK);
    CU_ASSERT_EQUAL(framing(ops, 65 * 8, &offset), TORC_ERR_BAD_PACKET); // row 36
    CU_ASSERT_EQUAL(framing(ops, 0, &offset), TORC_ERR_BAD_PACKET);
}

static void test_replies(void)
{
    unsigned char packet[256];
    unsigned char body[64];
    struct torc_reply reply = {
        .opcode = 0x91, .op_id = 5, .info = 6, .body = body, .body_bytes = 11};
    struct torc_reply got;
    const unsigned char *value;
    uint32_t value_bytes;
    uint8_t attempt;
    uint32_t offset = 0;
    uint32_t bytes;

    torc_write_reply_body(body, 9);
    torc_test_fill(body + 8, 3, 65);
    bytes = torc_reply_encode(packet, &reply);
    CU_ASSERT_EQUAL(bytes, 32);
    CU_ASSERT_TRUE(torc_reply_next(packet, bytes, &offset, &got));
    CU_ASSERT_TRUE(torc_write_reply_decode(&got, &attempt, &value, &value_bytes));
    CU_ASSERT_EQUAL(attempt, 9);
    CU_ASSERT_EQUAL(value_bytes, 3);
    CU_ASSERT_EQUAL(got.info, 6);
    CU_ASSERT_FALSE(torc_reply_next(packet, bytes, &offset, &got));
    offset = 0;
    CU_ASSERT_FALSE(torc_reply_next(packet, bytes - 8, &offset, &got)); // cut
    packet[0] = 0x11;                                                   // not a reply
    CU_ASSERT_FALSE(torc_reply_next(packet, bytes, &offset, &got));
}

static void test_reply_bodies(void)
{
    unsigned char body[64];
    struct torc_reply reply = {.opcode = 0x8a, .body = body, .body_bytes = 40};
    struct torc_frag_state state = {.first_missing = 3, .send_limit = 19, .bitmap = {2}};
    struct torc_shed shed = {10, 20};
    struct torc_trace_marks trace = {1, 2, 3, 4, 5};
    struct torc_trace_marks trace_got;
    const unsigned char *bytes;
    uint32_t number;
    uint32_t byte_count;

    torc_frag_state_body(body, &state);
    memset(&state, 0, sizeof(state));
    CU_ASSERT_TRUE(torc_frag_state_decode(&reply, &state));
    CU_ASSERT_EQUAL(state.first_missing, 3);
    CU_ASSERT_EQUAL(state.send_limit, 19);
    CU_ASSERT_EQUAL(state.bitmap[0], 2);
    torc_shed_body(body, &shed);
    CU_ASSERT_TRUE(torc_shed_decode(&reply, &shed));
    CU_ASSERT_EQUAL(shed.retry_us, 10);
    CU_ASSERT_EQUAL(shed.delay_us, 20);
    torc_trace_body(body, &trace);
    CU_ASSERT_TRUE(torc_trace_decode(&reply, &trace_got));
    CU_ASSERT_EQUAL(trace_got.sent_ns, 5);
    torc_pull_reply_body(body, 77);
    CU_ASSERT_TRUE(torc_pull_reply_decode(&reply, &number, &bytes, &byte_count));
    CU_ASSERT_EQUAL(number, 77);
    CU_ASSERT_EQUAL(byte_count, 32);
    CU_ASSERT_TRUE(torc_partial_decode(&reply, &number, &bytes, &byte_count));
    CU_ASSERT_EQUAL(byte_count, 36);
    reply.body_bytes = 7;
    CU_ASSERT_FALSE(torc_frag_state_decode(&reply, &state));
    CU_ASSERT_FALSE(torc_shed_decode(&reply, &shed));
    CU_ASSERT_FALSE(torc_trace_decode(&reply, &trace_got));
    CU_ASSERT_FALSE(torc_pull_reply_decode(&reply, &number, &bytes, &byte_count));
}

static void test_unread_body(void)
{
    unsigned char body[TORC_UNREAD_BYTES];
    struct torc_reply reply = {.opcode = 0xf4, .body = body, .body_bytes = sizeof(body)};
    struct torc_unread unread;

    torc_unread_body(body, &(struct torc_unread){.bitmap = UINT64_MAX - 1, .retry_us = 7});
    CU_ASSERT_TRUE(torc_unread_decode(&reply, &unread));
    CU_ASSERT_EQUAL(unread.bitmap, UINT64_MAX - 1);
    CU_ASSERT_EQUAL(unread.retry_us, 7);
    reply.body_bytes = sizeof(body) - 1;
    CU_ASSERT_FALSE(torc_unread_decode(&reply, &unread));
}

static void test_info(void)
{
    uint64_t info = torc_info_reason(TORC_NO_SPACE_MEMORY, 1000);

    CU_ASSERT_EQUAL(torc_info_retry_us(TORC_ERR_NO_SPACE, info), 1000);
    CU_ASSERT_STRING_EQUAL(torc_reason_text(TORC_ERR_NO_SPACE, info),
                           "the memory for records is full");
    CU_ASSERT_STRING_EQUAL(torc_reason_text(TORC_ERR_BUSY, 1), "");
    CU_ASSERT_EQUAL(torc_info_retry_us(TORC_ERR_BUSY, 77), 77);
    CU_ASSERT_EQUAL(torc_info_retry_us(TORC_ERR_OK, 77), 0);
    CU_ASSERT_EQUAL(TORC_NO_SPACE_DISK, 1);          // dataplane/log.c
    CU_ASSERT_EQUAL(TORC_UNAVAILABLE_LOG_FAILED, 3); // dataplane/log.c
}

// -- Chunks --------------------------------------------------------------------------------------

// A chunk in which two neighbours changed places, or one key is there twice, or one lies outside of
// the cover, is refused.
static void rows_out_of_order(struct torc_rng *rng, unsigned char *body, uint32_t bytes,
                              bool reverse)
{
    uint32_t width = UINT32_C(2) << (body[22] & TORC_ROWS_KEY_MASK);
    uint32_t count = body[20] | (uint32_t)body[21] << 8;
    uint32_t at = (uint32_t)torc_rng_below(rng, count - 1);
    unsigned char *keys = body + TORC_ROWS_HEAD_BYTES + (uint64_t)at * width;
    struct torc_le64 lo;
    unsigned char kept[16];
    struct torc_rows rows;

    memcpy(kept, keys, 2ul * width);
    memcpy(keys, kept + width, width);
    CU_ASSERT_EQUAL(torc_rows_decode(&rows, body, bytes, reverse, NULL), TORC_ERR_BAD_PACKET);
    memcpy(keys + width, kept, width);
    CU_ASSERT_EQUAL(torc_rows_decode(&rows, body, bytes, reverse, NULL), TORC_ERR_BAD_PACKET);
    memcpy(keys, kept, 2ul * width);
    CU_ASSERT_EQUAL(torc_rows_decode(&rows, body, bytes, reverse, NULL), TORC_ERR_OK);
    lo = torc_le64(rows.base + 1);
    memcpy(body, &lo, sizeof(lo)); // the cover begins behind the smallest key
    CU_ASSERT_EQUAL(torc_rows_decode(&rows, body, bytes, reverse, NULL), TORC_ERR_BAD_PACKET);
}

static void rows_there_and_back(struct torc_rng *rng, struct torc_rows_builder *builder,
                                uint32_t flags)
{
    static unsigned char body[1500];
    static const unsigned char values[256] = "values to be sent";
    bool reverse = (flags & TORC_RANGE_REVERSE) != 0;
    uint64_t step = UINT64_C(1) << torc_rng_below(rng, 40);
    uint64_t key = reverse ? UINT64_C(1) << 60 : 1000;
    bool all_same = torc_rng_chance(rng, 300000);
    uint32_t room = 64 + (uint32_t)torc_rng_below(rng, sizeof(body) - 64);
    struct torc_rows_place place = {.cover_hi = UINT64_MAX, .chunk = 3, .flags = TORC_ROWS_LAST};
    struct torc_rows rows;
    struct torc_fail why;
    bool any_reference = false;
    uint64_t value_bytes = 0;
    uint64_t total;
    uint32_t bytes;

    torc_rows_begin(builder, room, flags);
    for (;;) {
        struct torc_rows_item item = {.key = key, .version = key + 7, .value = values};

        item.value_bytes = all_same ? 8 : (uint32_t)torc_rng_below(rng, 40);
        if (!all_same && torc_rng_chance(rng, 100000)) {
            item = (struct torc_rows_item){
                .key = key, .version = key + 7, .value_bytes = 1u << 20, .by_reference = true};
        }
        if (!torc_rows_add(builder, &item)) {
            break;
        }
        key = reverse ? key - 1 - torc_rng_below(rng, step) : key + 1 + torc_rng_below(rng, step);
    }
    bytes = torc_rows_write(builder, &place, body);
    TORC_TEST_OK(torc_rows_decode(&rows, body, bytes, reverse, &why), &why);
    CU_ASSERT_EQUAL(rows.count, builder->count);
    CU_ASSERT_EQUAL(rows.place.chunk, 3);
    for (uint32_t i = 0; i < rows.count; i++) {
        const struct torc_rows_item *put = &builder->items[i];
        bool with_values = (flags & TORC_RANGE_KEYS_ONLY) == 0;
        struct torc_rows_item item;

        torc_rows_at(&rows, i, &item);
        CU_ASSERT_EQUAL(item.key, put->key);
        CU_ASSERT_EQUAL(item.version, (flags & TORC_RANGE_WITH_VERSIONS) != 0 ? put->version : 0);
        CU_ASSERT_EQUAL(item.value_bytes, with_values ? put->value_bytes : 0);
        CU_ASSERT_EQUAL(item.by_reference, with_values && put->by_reference);
        if (item.value != NULL) {
            CU_ASSERT_EQUAL(memcmp(item.value, values, item.value_bytes), 0);
        }
        value_bytes += item.value_bytes;
        any_reference |= item.by_reference;
    }
    CU_ASSERT_EQUAL(torc_rows_value_bytes(&rows, &total), !any_reference);
    CU_ASSERT_TRUE(any_reference || total == value_bytes);
    if (rows.count > 1) {
        rows_out_of_order(rng, body, bytes, reverse);
    }
}

static void test_rows(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_rows_builder *builder = malloc(sizeof(*builder));

    torc_assert(builder != NULL);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint32_t flags[] = {0, TORC_RANGE_REVERSE, TORC_RANGE_KEYS_ONLY,
                                  TORC_RANGE_WITH_VERSIONS,
                                  TORC_RANGE_WITH_VERSIONS | TORC_RANGE_REVERSE};

        rows_there_and_back(&rng, builder, flags[i % TORC_COUNT_OF(flags)]);
    }
    free(builder);
}

static void test_rows_largest_value(void)
{
    static unsigned char value[2000];
    static unsigned char body[1000];
    struct torc_rows_builder *builder = malloc(sizeof(*builder));
    struct torc_rows_item item = {.key = 7, .value = value};
    struct torc_rows_place place = {.cover_lo = 7, .cover_hi = 8};

    torc_assert(builder != NULL);
    item.value_bytes = torc_rows_value_max(sizeof(body), TORC_RANGE_WITH_VERSIONS);
    torc_rows_begin(builder, sizeof(body), TORC_RANGE_WITH_VERSIONS);
    CU_ASSERT_TRUE(torc_rows_add(builder, &item));
    CU_ASSERT_EQUAL(torc_rows_write(builder, &place, body), sizeof(body));
    item.value_bytes++;
    torc_rows_begin(builder, sizeof(body), TORC_RANGE_WITH_VERSIONS);
    CU_ASSERT_FALSE(torc_rows_add(builder, &item));
    free(builder);
}

static void test_rows_count(void)
{
    unsigned char body[TORC_ROWS_COUNT_BYTES];
    struct torc_rows_place place = {.cover_lo = 5, .cover_hi = 9, .flags = TORC_ROWS_LAST};
    struct torc_rows rows;
    struct torc_fail why;

    torc_rows_write_count(&place, 4, body);
    TORC_TEST_OK(torc_rows_decode(&rows, body, sizeof(body), false, &why), &why);
    CU_ASSERT_EQUAL(rows.counted, 4);
    CU_ASSERT_EQUAL(rows.count, 0);
    body[0] = 10; // covers nothing
    CU_ASSERT_EQUAL(torc_rows_decode(&rows, body, sizeof(body), false, &why), TORC_ERR_BAD_PACKET);
}

// -- Map -----------------------------------------------------------------------------------------

static void test_map_entry(void)
{
    unsigned char body[TORC_MAP_ENTRY_BYTES_MAX];
    struct torc_map_entry entry = {.lo = 1,
                                   .hi = 2,
                                   .version = 3,
                                   .shard = 4,
                                   .epoch = 5,
                                   .member_count = 2,
                                   .primary = 1,
                                   .members = {{6, 7, 1, 0}, {8, 255, 2, 0}}};
    struct torc_map_entry got;
    struct torc_fail why;
    struct torc_reply reply = {.opcode = TORC_OPCODE_MAP_ENTRY, .info = 3, .body = body};

    reply.body_bytes = torc_map_entry_body(body, &entry);
    CU_ASSERT_EQUAL(reply.body_bytes, 48);
    TORC_TEST_OK(torc_map_entry_decode(&got, &reply, &why), &why);
    CU_ASSERT_EQUAL(got.members[1].node, 8);
    CU_ASSERT_EQUAL(got.members[1].core, 255);
    CU_ASSERT_EQUAL(got.version, 3);
    reply.body_bytes -= 8;
    CU_ASSERT_EQUAL(torc_map_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
    reply.body_bytes += 8;
    body[25] = 2; // the primary's place
    CU_ASSERT_EQUAL(torc_map_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
    body[25] = 255;
    TORC_TEST_OK(torc_map_entry_decode(&got, &reply, &why), &why);
    body[0] = 2; // empty
    CU_ASSERT_EQUAL(torc_map_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
}

static void test_node_entry(void)
{
    uint8_t addresses[32];
    unsigned char body[64];
    struct torc_node_entry entry = {.node = 1,
                                    .base_port = 28700,
                                    .cores = 2,
                                    .flags = TORC_NODE_ADDRESS_BY_CORE,
                                    .address_count = 2,
                                    .addresses = addresses};
    struct torc_node_entry got;
    struct torc_fail why;
    struct torc_reply reply = {.opcode = TORC_OPCODE_NODE_ENTRY, .body = body};

    torc_test_fill(addresses, sizeof(addresses), 1);
    reply.body_bytes = torc_node_entry_body(body, &entry);
    TORC_TEST_OK(torc_node_entry_decode(&got, &reply, &why), &why);
    CU_ASSERT_EQUAL(got.address_count, 2);
    CU_ASSERT_EQUAL(memcmp(got.addresses, addresses, sizeof(addresses)), 0);
    reply.body_bytes -= 16; // one address for two cores
    CU_ASSERT_EQUAL(torc_node_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
    body[6] = 0;
    CU_ASSERT_EQUAL(torc_node_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
}

static void test_opcode_words(void)
{
    CU_ASSERT_STRING_EQUAL(torc_opcode_name(TORC_OPCODE_RANGE_READ), "RANGE_READ");
    CU_ASSERT_STRING_EQUAL(torc_opcode_name(0x52), "CLAIM");
    CU_ASSERT_STRING_EQUAL(torc_opcode_name(0x7f), "UNKNOWN");
}

int main(void)
{
    CU_TestInfo tests[] = {{"every request comes back as it was", test_requests},
                           {"a plain get is written the short way as the long way", test_plain_get},
                           {"bad requests get their status", test_request_refusals},
                           {"bad framing is found where it is", test_framing},
                           {"replies come back as they were", test_replies},
                           {"bodies of replies come back as they were", test_reply_bodies},
                           {"what was not read comes back as it was", test_unread_body},
                           {"info carries reasons and times", test_info},
                           {"chunks of random rows come back as they were", test_rows},
                           {"the largest value fills a chunk exactly", test_rows_largest_value},
                           {"a count comes back as it was", test_rows_count},
                           {"a map entry comes back as it was", test_map_entry},
                           {"a node entry comes back as it was", test_node_entry},
                           {"opcodes have names", test_opcode_words},
                           CU_TEST_INFO_NULL};

    return torc_test_run("op", tests);
}
