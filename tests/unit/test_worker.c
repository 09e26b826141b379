// Torc tests: a worker's answers to good requests, through a whole node in one process
// (tests/rig.h).
#include "dataplane/worker_state.h"
#include "tests/rig.h"
#include "tests/torc_test.h"
#include "wire/map.h"
#include "wire/rows.h"

#include <stdlib.h>
#include <string.h>

#define KEYS  UINT64_C(1000000)
#define STEPS 400u

static struct torc_rig *rig;
static struct torc_rig_client *client;

static void open_rig(const struct torc_rig_config *config)
{
    struct torc_rig_config filled = *config;

    rig = calloc(1, sizeof(*rig));
    client = calloc(1, sizeof(*client));
    CU_ASSERT_FATAL(rig != NULL && client != NULL);
    filled.workers = filled.workers == 0 ? 1 : filled.workers;
    filled.shards = filled.shards == 0 ? 4 : filled.shards;
    filled.key_count = filled.key_count == 0 ? KEYS : filled.key_count;
    filled.seed = torc_test_seed();
    torc_rig_open(rig, &filled);
    torc_rig_connect(rig, client, 5000);
}

static void open_plain(void)
{
    struct torc_rig_config config = {.workers = 1, .steered = true};

    open_rig(&config);
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
    free(client);
}

static uint64_t put_text(uint64_t key, const char *text)
{
    return torc_rig_put_text(rig, client, key, text);
}

static void check_value(uint64_t key, const char *text)
{
    torc_rig_check_text(rig, client, key, text);
}

static struct torc_reply expect(const struct torc_request *request, enum torc_err status)
{
    struct torc_reply reply;

    torc_rig_expect(rig, client, request, status, &reply);
    return reply;
}

// -- Puts and gets --------------------------------------------------------------------------------

static void a_put_is_read_back(void)
{
    struct torc_request request;

    open_plain();
    torc_rig_check_none(rig, client, 7);
    (void)put_text(7, "seven");
    check_value(7, "seven");
    (void)put_text(KEYS - 1, "");
    check_value(KEYS - 1, "");
    (void)put_text(7, "eight");
    check_value(7, "eight");
    request = torc_rig_delete(rig, client, 7);
    (void)expect(&request, TORC_ERR_OK);
    torc_rig_check_none(rig, client, 7);
    request = torc_rig_delete(rig, client, 7);
    (void)expect(&request, TORC_ERR_NOT_FOUND);
    close_rig();
}

static void many_operations_of_one_packet_are_all_answered(void)
{
    struct torc_reply reply;
    uint32_t found = 0;

    open_plain();
    for (uint32_t i = 0; i < 16; i++) {
        (void)put_text((uint64_t)i * 60000, "value");
    }
    for (uint32_t i = 0; i < 32; i++) {
        struct torc_request request = torc_rig_get((uint64_t)i * 30000);

        (void)torc_rig_add(client, &request);
    }
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 0; i < 32; i++) {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        CU_ASSERT_EQUAL(reply.op_id, client->next_op - 32 + i); // in their order
        found += reply.status == TORC_ERR_OK ? 1 : 0;
    }
    CU_ASSERT_EQUAL(found, 16);
    CU_ASSERT_EQUAL(torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_TX_PACKETS]) > 0,
                    true);
    close_rig();
}

// One reply packet for reads and writes together: all wait for the disk and come in one.
static void a_mixed_packet_with_one_reply_is_answered_in_one(void)
{
    struct torc_request request;
    struct torc_reply reply;
    uint32_t seen = 0;

    open_plain();
    (void)put_text(1, "one");
    client->reply_packets = 1;
    rig->controls[0].disk_stuck = true;
    request = torc_rig_get(1);
    (void)torc_rig_add(client, &request);
    request = torc_rig_put(rig, client, 2, "two", 3);
    (void)torc_rig_add(client, &request);
    request = (struct torc_request){.opcode = TORC_OPCODE_PING};
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 50));
    rig->controls[0].disk_stuck = false;
    while (torc_rig_await(rig, client, &reply, 50)) {
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
        seen++;
    }
    CU_ASSERT_EQUAL(seen, 3);
    CU_ASSERT_EQUAL(client->lane.windows[0].high, 2); // the first put's reply, and this one
    client->reply_packets = 16;
    check_value(2, "two");
    close_rig();
}

// With two reply packets the reads do not wait.
static void reads_do_not_wait_for_the_writes_beside_them(void)
{
    struct torc_request request;
    struct torc_reply reply;

    open_plain();
    rig->controls[0].disk_stuck = true;
    client->reply_packets = 2;
    request = torc_rig_put(rig, client, 2, "two", 3);
    (void)torc_rig_add(client, &request);
    request = torc_rig_get(2);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 50));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_GET | TORC_REPLY_BIT);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_NOT_FOUND); // only committed data is seen
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 50));
    rig->controls[0].disk_stuck = false;
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 50));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_PUT | TORC_REPLY_BIT);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    close_rig();
}

static void conditions_hold_and_say_what_they_met(void)
{
    struct torc_request request;
    struct torc_reply reply;
    const unsigned char *value;
    uint32_t value_bytes;
    uint64_t version;
    uint8_t attempt;

    open_plain();
    version = put_text(5, "five");
    request = torc_rig_put(rig, client, 5, "new", 3);
    request.flags = TORC_WRITE_IF_ABSENT | TORC_WRITE_RETURN_CURRENT;
    request.attempt = 9;
    reply = expect(&request, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(reply.info, version);
    CU_ASSERT_FATAL(torc_write_reply_decode(&reply, &attempt, &value, &value_bytes));
    CU_ASSERT_EQUAL(attempt, 9);
    CU_ASSERT_EQUAL_FATAL(value_bytes, 4);
    CU_ASSERT_EQUAL(memcmp(value, "five", 4), 0);
    request = torc_rig_put(rig, client, 6, "six", 3);
    request.flags = TORC_WRITE_IF_PRESENT;
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_CONDITION_FAILED).info, 0);
    request = torc_rig_put(rig, client, 5, "new", 3);
    request.flags = TORC_WRITE_IF_VERSION;
    request.version = version;
    CU_ASSERT(expect(&request, TORC_ERR_OK).info > version);
    request = torc_rig_delete(rig, client, 5);
    request.flags = TORC_WRITE_IF_VERSION;
    request.version = version;
    (void)expect(&request, TORC_ERR_CONDITION_FAILED);
    check_value(5, "new");
    close_rig();
}

static void a_repeated_write_gets_its_first_answer(void)
{
    struct torc_request first;
    struct torc_request second;
    uint64_t version;

    open_plain();
    first = torc_rig_put(rig, client, 5, "first", 5);
    version = expect(&first, TORC_ERR_OK).info;
    second = torc_rig_put(rig, client, 5, "second", 6);
    second.lowest = first.wseq; // the first one's answer may not have come
    (void)expect(&second, TORC_ERR_OK);
    first.data = (const unsigned char *)"other";
    CU_ASSERT_EQUAL(expect(&first, TORC_ERR_OK).info, version);
    check_value(5, "second");
    // A later write says that all before it are finished: they are forgotten.
    (void)put_text(5, "third");
    (void)expect(&first, TORC_ERR_SEQ_OLD);
    check_value(5, "third");
    close_rig();
}

// Two conditional writes of one key in one packet: the second waits for the first.
static void a_conditional_write_waits_for_the_one_before_it(void)
{
    struct torc_request request;
    struct torc_reply reply;

    open_plain();
    request = torc_rig_put(rig, client, 5, "first", 5);
    request.flags = TORC_WRITE_IF_ABSENT;
    (void)torc_rig_add(client, &request);
    request = torc_rig_put(rig, client, 5, "second", 6);
    request.flags = TORC_WRITE_IF_ABSENT | TORC_WRITE_RETURN_CURRENT;
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(reply.body_bytes, 8 + 5);
    check_value(5, "first");
    close_rig();
}

// -- Other operations -----------------------------------------------------------------------------

static void small_operations_answer(void)
{
    struct torc_request request = {
        .opcode = TORC_OPCODE_PING, .data = (const unsigned char *)"payload", .data_bytes = 7};
    struct torc_reply reply;

    open_plain();
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.body_bytes, 7);
    CU_ASSERT_EQUAL(memcmp(reply.body, "payload", 7), 0);
    request = (struct torc_request){.opcode = TORC_OPCODE_COOKIE};
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_OK).body_bytes, TORC_COOKIE_BYTES);
    request = (struct torc_request){.opcode = TORC_OPCODE_STATUS};
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.info, reply.body_bytes);
    CU_ASSERT_EQUAL(memcmp(reply.body, "node 1\n", 7), 0);
    request.offset = 100000;
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_OK).body_bytes, 0);
    (void)put_text(3, "three");
    request = (struct torc_request){.opcode = TORC_OPCODE_CLOCK, .lo = 0, .hi = KEYS};
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.body_bytes, 4 * 16);
    request = torc_rig_get(3);
    CU_ASSERT_EQUAL(reply.info, expect(&request, TORC_ERR_OK).info);
    request = (struct torc_request){.opcode = TORC_OPCODE_CANCEL, .target = 77};
    (void)expect(&request, TORC_ERR_NOT_FOUND);
    close_rig();
}

static void the_map_is_told_whole(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_MAP, .lo = 0, .hi = KEYS};
    struct torc_map_entry entry;
    struct torc_node_entry node;
    struct torc_reply reply;
    struct torc_fail why;
    uint64_t next = 0;

    open_plain();
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_node_entry_decode(&node, &reply, &why), &why);
    CU_ASSERT_EQUAL(node.address_count, 2);
    CU_ASSERT_EQUAL(node.base_port, TORC_RIG_BASE_PORT);
    for (uint32_t i = 0; i < 4; i++) {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        TORC_TEST_OK(torc_map_entry_decode(&entry, &reply, &why), &why);
        CU_ASSERT_EQUAL(entry.lo, next);
        next = entry.hi;
    }
    CU_ASSERT_EQUAL(next, KEYS);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_MAP | TORC_REPLY_BIT);
    memcpy(&next, reply.body, sizeof(next));
    CU_ASSERT_EQUAL(next, KEYS);
    close_rig();
}

static void a_closed_session_is_gone(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_CLOSE};
    struct torc_reply reply;

    open_plain();
    (void)expect(&request, TORC_ERR_OK);
    torc_rig_settle(rig, 20);
    request = torc_rig_get(1);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 20));
    CU_ASSERT_EQUAL(torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_NOSESSIONS]), 1);
    close_rig();
}

// -- Ranges ---------------------------------------------------------------------------------------

struct collected {
    uint32_t rows;
    uint64_t last_key;
    uint64_t cover_lo;
    uint64_t cover_hi;
    uint64_t counted;
    uint32_t chunks;
    bool last;
};

// Takes chunk after chunk of one range until LAST or nothing more comes; each must go on where the
// one before it ended.
static void collect(struct collected *all, bool reverse)
{
    struct torc_reply reply;
    struct torc_rows rows;
    struct torc_fail why;

    memset(all, 0, sizeof(*all));
    while (!all->last && torc_rig_await(rig, client, &reply, 50)) {
        struct torc_rows_item item;

        CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
        TORC_TEST_OK(torc_rows_decode(&rows, reply.body, reply.body_bytes, reverse, &why), &why);
        CU_ASSERT_EQUAL_FATAL(rows.place.chunk, all->chunks);
        if (all->chunks == 0) {
            all->cover_lo = rows.place.cover_lo;
            all->cover_hi = rows.place.cover_hi;
        } else if (reverse) {
            CU_ASSERT_EQUAL_FATAL(rows.place.cover_hi, all->cover_lo);
            all->cover_lo = rows.place.cover_lo;
        } else {
            CU_ASSERT_EQUAL_FATAL(rows.place.cover_lo, all->cover_hi);
            all->cover_hi = rows.place.cover_hi;
        }
        for (uint32_t i = 0; i < rows.count; i++) {
            torc_rows_at(&rows, i, &item);
            all->last_key = item.key;
        }
        all->rows += rows.count;
        all->counted += rows.counted;
        all->chunks++;
        all->last = (rows.place.flags & TORC_ROWS_LAST) != 0;
    }
}

static struct collected range(const struct torc_request *request)
{
    struct collected all;

    (void)torc_rig_add(client, request);
    (void)torc_rig_flush(rig, client, 0);
    collect(&all, (request->flags & TORC_RANGE_REVERSE) != 0);
    return all;
}

// Keys 0, 10, 20 … of the first shard.
static void fill(uint32_t count)
{
    struct torc_reply reply;

    for (uint32_t i = 0; i < count; i++) {
        struct torc_request request =
            torc_rig_put(rig, client, (uint64_t)i * 10, "0123456789abcdef", 16);

        (void)torc_rig_add(client, &request);
        if (i % 16 == 15 || i + 1 == count) {
            (void)torc_rig_flush(rig, client, 0);
            torc_rig_settle(rig, 20);
        }
    }
    while (torc_rig_await(rig, client, &reply, 10)) {
        CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
    }
}

static void ranges_give_what_lies_in_them(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 250000};
    struct collected all;

    open_plain();
    client->reply_packets = 64;
    fill(1000);
    all = range(&request);
    CU_ASSERT(all.last);
    CU_ASSERT_EQUAL(all.rows, 1000);
    CU_ASSERT_EQUAL(all.cover_lo, 0);
    CU_ASSERT_EQUAL(all.cover_hi, 250000);
    CU_ASSERT(all.chunks > 10);
    request.flags = TORC_RANGE_REVERSE;
    request.limit = 3;
    all = range(&request);
    CU_ASSERT(all.last);
    CU_ASSERT_EQUAL(all.rows, 3);
    CU_ASSERT_EQUAL(all.last_key, 9970);
    CU_ASSERT_EQUAL(all.cover_lo, 9970);
    request.flags = TORC_RANGE_KEYS_ONLY | TORC_RANGE_WITH_VERSIONS;
    request.limit = 0;
    request.lo = 11;
    request.hi = 501;
    all = range(&request);
    CU_ASSERT(all.last);
    CU_ASSERT_EQUAL(all.rows, 49);
    request.flags = TORC_RANGE_COUNT;
    request.lo = 0;
    request.hi = 250000;
    all = range(&request);
    CU_ASSERT(all.last);
    CU_ASSERT_EQUAL(all.counted, 1000);
    request.lo = 1;
    request.hi = 10;
    request.flags = 0;
    all = range(&request);
    CU_ASSERT(all.last);
    CU_ASSERT_EQUAL(all.rows, 0);
    close_rig();
}

static void a_range_ends_with_its_credit_and_goes_on(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 250000};
    struct collected all;
    uint32_t rows = 0;
    uint32_t reads = 0;

    open_plain();
    fill(1000);
    client->reply_packets = 3;
    do {
        all = range(&request);
        CU_ASSERT_FATAL(all.chunks > 0 && all.chunks <= 3);
        rows += all.rows;
        request.lo = all.cover_hi;
        reads++;
    } while (!all.last && reads < 100);
    CU_ASSERT_EQUAL(rows, 1000);
    close_rig();
}

static void bad_ranges_are_refused_and_empty_ones_are_empty(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 5, .hi = 4};
    struct collected all;

    open_plain();
    CU_ASSERT(expect(&request, TORC_ERR_INVALID_ARGUMENT).body_bytes > 0);
    request.hi = KEYS + 1;
    (void)expect(&request, TORC_ERR_INVALID_ARGUMENT);
    request.lo = KEYS;
    request.hi = KEYS;
    all = range(&request);
    CU_ASSERT(all.last && all.rows == 0);
    request.lo = KEYS - 100;
    request.hi = KEYS;
    request.limit = UINT64_MAX;
    all = range(&request);
    CU_ASSERT(all.last && all.rows == 0);
    request.ts = 1;
    (void)put_text(KEYS - 1, "last");
    (void)expect(&request, TORC_ERR_SNAPSHOT_TOO_OLD);
    request.ts = torc_hlc_from_us(rig->wall_us + 10000000);
    (void)expect(&request, TORC_ERR_CLOCK_AHEAD);
    close_rig();
}

static void several_ranges_of_one_packet_share_its_replies(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 250000};
    struct torc_reply reply;
    uint32_t answers = 0;

    open_plain();
    fill(500);
    client->reply_packets = 1;
    for (uint32_t i = 0; i < 8; i++) {
        request.lo = (uint64_t)i * 100;
        request.limit = 1;
        request.flags = TORC_RANGE_REVERSE;
        (void)torc_rig_add(client, &request);
    }
    (void)torc_rig_flush(rig, client, 0);
    while (torc_rig_await(rig, client, &reply, 20)) {
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
        answers++;
    }
    CU_ASSERT_EQUAL(answers, 8);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_REPLY_LOST), 0);
    close_rig();
}

// Found by fuzzing: a chunk without rows is a little longer than its head.
static void a_range_fits_behind_what_nearly_fills_a_packet(void)
{
    static const unsigned char filling[1088];
    struct torc_request request = {
        .opcode = TORC_OPCODE_PING, .data = filling, .data_bytes = sizeof(filling)};
    struct torc_reply reply;
    uint32_t answers = 0;

    open_plain();
    fill(100);
    client->reply_packets = 2;
    client->reply_bytes = 1200;
    (void)torc_rig_add(client, &request); // leaves 48 bytes
    request = (struct torc_request){.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 1000};
    (void)torc_rig_add(client, &request);
    request = torc_rig_get(0);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    while (torc_rig_await(rig, client, &reply, 20)) {
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
        answers++;
    }
    CU_ASSERT_EQUAL(answers, 3);
    close_rig();
}

static void a_cursor_sends_as_far_as_its_credit(void)
{
    struct torc_request request = {
        .opcode = TORC_OPCODE_RANGE_OPEN, .op_id = 900, .lo = 0, .hi = 250000, .credit = 2};
    struct torc_request more = {.opcode = TORC_OPCODE_RANGE_CREDIT, .op_id = 900, .credit = 5};
    struct torc_request end = {.opcode = TORC_OPCODE_RANGE_CLOSE, .op_id = 900};
    struct torc_reply reply;
    uint32_t chunks = 0;

    open_plain();
    fill(1000);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    while (torc_rig_await(rig, client, &reply, 20)) {
        CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_RANGE_OPEN | TORC_REPLY_BIT);
        chunks++;
    }
    CU_ASSERT_EQUAL(chunks, 2);
    (void)torc_rig_add(client, &more);
    (void)torc_rig_flush(rig, client, 0);
    while (torc_rig_await(rig, client, &reply, 20)) {
        chunks++;
    }
    CU_ASSERT_EQUAL(chunks, 5);
    (void)expect(&end, TORC_ERR_OK);
    (void)expect(&more, TORC_ERR_NO_CURSOR);
    // A cursor whose client is silent goes by itself.
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_settle(rig, 50);
    for (uint32_t i = 0; i < 400; i++) {
        torc_rig_step(rig, 10000000);
    }
    while (torc_rig_await(rig, client, &reply, 5)) {
    }
    (void)expect(&end, TORC_ERR_NO_CURSOR);
    close_rig();
}

// -- Large values ---------------------------------------------------------------------------------

#define LARGE_BYTES 100000u
#define PIECE_BYTES 1024u

static unsigned char *large_value(void)
{
    unsigned char *value = malloc(LARGE_BYTES);

    torc_assert(value != NULL);
    for (uint32_t i = 0; i < LARGE_BYTES; i++) {
        value[i] = (unsigned char)(i * 7 + i / 251);
    }
    return value;
}

static void send_piece(uint64_t key, const unsigned char *value, uint32_t op_id, uint32_t number)
{
    uint32_t at = number * PIECE_BYTES;
    struct torc_request piece = {.opcode = TORC_OPCODE_FRAG,
                                 .op_id = op_id,
                                 .key = key,
                                 .fragment = number,
                                 .data = value + at,
                                 .data_bytes = LARGE_BYTES - at < PIECE_BYTES ? LARGE_BYTES - at
                                                                              : PIECE_BYTES};

    (void)torc_rig_add(client, &piece);
    (void)torc_rig_flush(rig, client, 0);
}

// Sends all pieces, the odd ones backwards first; the PUT's answer.
static struct torc_reply put_large(uint64_t key, const unsigned char *value)
{
    struct torc_request put = torc_rig_put(rig, client, key, value, PIECE_BYTES);
    uint32_t count = (LARGE_BYTES + PIECE_BYTES - 1) / PIECE_BYTES;
    struct torc_frag_state state = {0};
    struct torc_reply reply = {0};
    uint32_t states = 0;

    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = LARGE_BYTES;
    put.fragment_bytes = PIECE_BYTES;
    put.op_id = torc_rig_add(client, &put);
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = i < count / 2 ? count - 1 - 2 * i : 2 * (i - count / 2);

        send_piece(key, value, put.op_id, number < count ? number : 0);
        torc_rig_step(rig, 10000);
    }
    for (uint32_t i = 1; i < count; i++) {
        send_piece(key, value, put.op_id, i); // what is there is not taken twice
        torc_rig_step(rig, 10000);
    }
    while (torc_rig_await(rig, client, &reply, 50) &&
           reply.opcode != (TORC_OPCODE_PUT | TORC_REPLY_BIT)) {
        states += reply.opcode == (TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT) ? 1 : 0;
        CU_ASSERT(reply.opcode != (TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT) ||
                  torc_frag_state_decode(&reply, &state));
    }
    CU_ASSERT(states > 2);
    CU_ASSERT_EQUAL_FATAL(reply.opcode, TORC_OPCODE_PUT | TORC_REPLY_BIT);
    return reply;
}

static void pull_all(uint64_t key, const unsigned char *value, uint64_t version)
{
    uint32_t count = (LARGE_BYTES + PIECE_BYTES - 1) / PIECE_BYTES;
    uint32_t pulled = 0;

    for (uint32_t first = 0; first < count; first += 8) {
        struct torc_request pull = {.opcode = TORC_OPCODE_PULL,
                                    .key = key,
                                    .version = version,
                                    .fragment = first,
                                    .fragment_bytes = PIECE_BYTES,
                                    .bitmap = 0xff};
        const unsigned char *bytes;
        struct torc_reply reply;
        uint32_t byte_count;
        uint32_t number;

        (void)torc_rig_add(client, &pull);
        (void)torc_rig_flush(rig, client, 0);
        while (torc_rig_await(rig, client, &reply, 20)) {
            CU_ASSERT_FATAL(torc_pull_reply_decode(&reply, &number, &bytes, &byte_count));
            CU_ASSERT_EQUAL(memcmp(bytes, value + (uint64_t)number * PIECE_BYTES, byte_count), 0);
            pulled += byte_count;
        }
    }
    CU_ASSERT_EQUAL(pulled, LARGE_BYTES);
}

static void a_large_value_goes_in_and_out_in_pieces(void)
{
    unsigned char *value = large_value();
    struct torc_request request;
    struct torc_reply reply;
    const unsigned char *bytes;
    uint32_t total;
    uint32_t byte_count;
    uint64_t version;

    open_plain();
    reply = put_large(77, value);
    CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
    version = reply.info;
    request = torc_rig_get(77);
    reply = expect(&request, TORC_ERR_PARTIAL);
    CU_ASSERT_EQUAL(reply.info, version);
    CU_ASSERT_FATAL(torc_partial_decode(&reply, &total, &bytes, &byte_count));
    CU_ASSERT_EQUAL(total, LARGE_BYTES);
    CU_ASSERT(byte_count > 1000);
    CU_ASSERT_EQUAL(memcmp(bytes, value, byte_count), 0);
    pull_all(77, value, version);
    (void)put_text(77, "small");
    request = (struct torc_request){.opcode = TORC_OPCODE_PULL,
                                    .key = 77,
                                    .version = version,
                                    .fragment_bytes = PIECE_BYTES,
                                    .bitmap = 1};
    (void)expect(&request, TORC_ERR_VERSION_GONE);
    reply = put_large(78, value);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
    request = torc_rig_get(78);
    version = expect(&request, TORC_ERR_PARTIAL).info;
    pull_all(78, value, version);
    free(value);
    close_rig();
}

static void a_piece_without_its_put_is_told_to_start_again(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_FRAG,
                                   .key = 5,
                                   .fragment = 1,
                                   .data = (const unsigned char *)"12345678",
                                   .data_bytes = 8};

    open_plain();
    (void)expect(&request, TORC_ERR_NO_MESSAGE);
    request = (struct torc_request){.opcode = TORC_OPCODE_FRAG_QUERY, .key = 5};
    (void)expect(&request, TORC_ERR_NO_MESSAGE);
    request = torc_rig_put(rig, client, 5, "12345678", 8);
    request.flags = TORC_WRITE_FRAGMENTED;
    request.total_bytes = (1u << 20) + 1;
    request.fragment_bytes = 8;
    (void)expect(&request, TORC_ERR_TOO_LARGE);
    close_rig();
}

// -- Several workers ------------------------------------------------------------------------------

static void a_packet_on_the_wrong_queue_reaches_its_core(void)
{
    struct torc_rig_config config = {.workers = 3, .shards = 6};
    struct torc_request request;

    open_rig(&config);
    for (uint32_t i = 0; i < 6; i++) {
        (void)put_text(i * KEYS / 6 + 1, "here");
    }
    for (uint32_t i = 0; i < 6; i++) {
        check_value(i * KEYS / 6 + 1, "here");
    }
    CU_ASSERT(torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_HANDOFF]) >= 8);
    request = torc_rig_get(KEYS / 6 + 1);
    (void)expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(client->reply_data.flags & TORC_DATA_HANDOFF, TORC_DATA_HANDOFF);
    CU_ASSERT_EQUAL(client->reply_data.core, 1);
    close_rig();
}

static void a_key_of_another_core_is_answered_with_its_entry(void)
{
    struct torc_rig_config config = {.workers = 2, .shards = 4, .steered = true};
    struct torc_request request = torc_rig_get(KEYS / 4 + 1); // shard 1, core 1
    struct torc_map_entry entry;
    struct torc_node_entry node;
    struct torc_reply reply;
    struct torc_fail why;

    open_rig(&config);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_WRONG_SHARD);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_map_entry_decode(&entry, &reply, &why), &why);
    CU_ASSERT_EQUAL(entry.lo, KEYS / 4);
    CU_ASSERT_EQUAL(entry.members[0].core, 1);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_node_entry_decode(&node, &reply, &why), &why);
    CU_ASSERT_EQUAL(node.cores, 2);
    // A write in an old epoch is refused the same way.
    request = torc_rig_put(rig, client, 3, "old", 3);
    request.epoch--;
    (void)expect(&request, TORC_ERR_WRONG_SHARD);
    close_rig();
}

// -- Memory --------------------------------------------------------------------------------------

#define PACK_KEYS 2000u

static void value_of(uint64_t key, unsigned char value[1000])
{
    for (uint32_t i = 0; i < 1000; i++) {
        value[i] = (unsigned char)(key * 7 + i);
    }
}

// Large values come and half of them goes, at random; the undo window forgets them meanwhile.
static void sparse_values_fill(void)
{
    struct torc_rng rng = {torc_test_seed()};
    unsigned char value[1000];

    for (uint64_t key = 0; key < PACK_KEYS; key++) {
        struct torc_request request;

        value_of(key, value);
        request = torc_rig_put(rig, client, key, value, 700 + (uint32_t)(key % 4) * 100);
        (void)expect(&request, TORC_ERR_OK);
    }
    for (uint64_t key = 0; key < PACK_KEYS; key++) {
        struct torc_request request = torc_rig_delete(rig, client, key);

        if (torc_rng_below(&rng, 2) == 0) {
            (void)expect(&request, TORC_ERR_OK);
        }
    }
}

static uint32_t sparse_values_check(void)
{
    unsigned char value[1000];
    uint32_t found = 0;

    for (uint64_t key = 0; key < PACK_KEYS; key++) {
        struct torc_request request = torc_rig_get(key);
        struct torc_reply reply;

        torc_rig_call(rig, client, &request, &reply);
        value_of(key, value);
        if (reply.status == TORC_ERR_OK) {
            CU_ASSERT_EQUAL_FATAL(reply.body_bytes, 700 + key % 4 * 100);
            CU_ASSERT_EQUAL(memcmp(reply.body, value, reply.body_bytes), 0);
            found++;
        }
    }
    return found;
}

static void sparse_values_are_packed_while_there_is_time(void)
{
    const struct torc_heap *heap;
    const struct torc_stats *stats;
    uint64_t user_bytes = 0;

    open_plain();
    heap = &rig->heaps[0];
    stats = torc_rig_stats(rig, 0);
    sparse_values_fill();
    for (uint32_t i = 0; i < 1000; i++) {
        torc_rig_step(rig, 100000000);
    }
    user_bytes = heap->user_bytes;
    CU_ASSERT(torc_stats_get(&stats->counters[TORC_COUNTER_PACKED_BYTES]) > user_bytes / 10);
    CU_ASSERT(heap->used_bytes < user_bytes * 5 / 4);
    CU_ASSERT_PTR_NULL(torc_heap_check(heap));
    CU_ASSERT_EQUAL(torc_stats_get(&stats->memory[TORC_MEMORY_LARGE_VALUES]), user_bytes);
    CU_ASSERT_EQUAL(sparse_values_check(), heap->block_count);
    close_rig();
}

// -- Paths ---------------------------------------------------------------------------------------

static void clients_come_by_ipv6_and_by_jumbo_frames(void)
{
    struct torc_rig_config config = {.workers = 1, .mtu = 9000, .steered = true};
    struct torc_request request;
    struct torc_reply reply;
    unsigned char value[8000];
    uint8_t ip[16];

    open_rig(&config);
    memcpy(ip, rig->ipv6, sizeof(ip));
    ip[15] = 1;
    torc_rig_connect_from(rig, client, ip, 6000);
    CU_ASSERT_EQUAL(client->accept.payload_max, 8952);
    for (uint32_t i = 0; i < sizeof(value); i++) {
        value[i] = (unsigned char)(i * 11);
    }
    client->reply_bytes = 8952;
    request = torc_rig_put(rig, client, 3, value, sizeof(value));
    (void)expect(&request, TORC_ERR_OK);
    request = torc_rig_get(3);
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(reply.body_bytes, sizeof(value));
    CU_ASSERT_EQUAL(memcmp(reply.body, value, sizeof(value)), 0);
    close_rig();
}

// -- Idling ---------------------------------------------------------------------------------------

static void an_idle_worker_puts_leaves_in_order(void)
{
    struct torc_rig_config config = {.workers = 1, .shards = 2, .steered = true};
    struct torc_rng rng = {torc_test_seed()};
    const struct torc_worker *worker;

    open_rig(&config);
    for (uint32_t i = 0; i < 6000; i++) {
        (void)put_text(torc_rng_below(&rng, KEYS), "a value of some length, as there are many");
    }
    (void)put_text(7, "seven");
    for (uint32_t i = 0; i < 200; i++) {
        torc_rig_step(rig, 10000000);
    }
    worker = rig->workers[0];
    CU_ASSERT_EQUAL(worker->order_settled, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const struct torc_tree *tree = &worker->shards[i].engine.tree;

        CU_ASSERT(tree->leaf_count > 100);
        CU_ASSERT_EQUAL(tree->order.mark, 0);
        CU_ASSERT(tree->order.shape_stamp > 100); // a pass came to its end
        CU_ASSERT(tree->shape_stamp - tree->order.shape_stamp < 64 + tree->leaf_count / 16);
    }
    check_value(7, "seven");
    close_rig();
}

static void chunks_that_deletes_left_sparse_go_back(void)
{
    struct torc_rig_config config = {.workers = 1, .shards = 2, .steered = true};
    struct torc_worker *worker;
    uint32_t free_chunks;

    open_rig(&config);
    for (uint64_t i = 0; i < 16000; i++) {
        (void)put_text(i * (KEYS / 16000),
                       "a value of one hundred and twenty bytes, so that not too many "
                       "of them are needed to fill some chunks of 256 KiB each ......");
    }
    for (uint64_t i = 0; i < 16000; i++) {
        if (i % 16 != 0) {
            struct torc_request request = torc_rig_delete(rig, client, i * (KEYS / 16000));

            (void)expect(&request, TORC_ERR_OK);
        }
    }
    worker = rig->workers[0];
    free_chunks = torc_chunk_pool_free(&worker->chunks);
    for (uint32_t i = 0; i < 300; i++) {
        torc_rig_step(rig, 10000000);
    }
    CU_ASSERT(torc_chunk_pool_free(&worker->chunks) > free_chunks);
    CU_ASSERT_FALSE(worker->compact.more);
    for (uint32_t i = 0; i < 2; i++) {
        const struct torc_tree *tree = &worker->shards[i].engine.tree;

        CU_ASSERT(torc_tree_spare(tree) <= torc_tree_spare_max(tree));
    }
    CU_ASSERT(torc_stats_get(&worker->stats->counters[TORC_COUNTER_COMPACTED_NODES]) > 0);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a put is read back", a_put_is_read_back},
        {"sparse values are packed while there is time",
         sparse_values_are_packed_while_there_is_time},
        {"many operations of one packet are all answered",
         many_operations_of_one_packet_are_all_answered},
        {"a mixed packet with one reply is answered in one",
         a_mixed_packet_with_one_reply_is_answered_in_one},
        {"reads do not wait for the writes beside them",
         reads_do_not_wait_for_the_writes_beside_them},
        {"conditions hold and say what they met", conditions_hold_and_say_what_they_met},
        {"a repeated write gets its first answer", a_repeated_write_gets_its_first_answer},
        {"a conditional write waits for the one before it",
         a_conditional_write_waits_for_the_one_before_it},
        {"small operations answer", small_operations_answer},
        {"the map is told whole", the_map_is_told_whole},
        {"a closed session is gone", a_closed_session_is_gone},
        {"ranges give what lies in them", ranges_give_what_lies_in_them},
        {"a range ends with its credit and goes on", a_range_ends_with_its_credit_and_goes_on},
        {"bad ranges are refused and empty ones are empty",
         bad_ranges_are_refused_and_empty_ones_are_empty},
        {"several ranges of one packet share its replies",
         several_ranges_of_one_packet_share_its_replies},
        {"a range fits behind what nearly fills a packet",
         a_range_fits_behind_what_nearly_fills_a_packet},
        {"a cursor sends as far as its credit", a_cursor_sends_as_far_as_its_credit},
        {"a large value goes in and out in pieces", a_large_value_goes_in_and_out_in_pieces},
        {"a piece without its put is told to start again",
         a_piece_without_its_put_is_told_to_start_again},
        {"a packet on the wrong queue reaches its core",
         a_packet_on_the_wrong_queue_reaches_its_core},
        {"clients come by IPv6 and by jumbo frames", clients_come_by_ipv6_and_by_jumbo_frames},
        {"a key of another core is answered with its entry",
         a_key_of_another_core_is_answered_with_its_entry},
        {"an idle worker puts leaves in order", an_idle_worker_puts_leaves_in_order},
        {"chunks that deletes left sparse go back", chunks_that_deletes_left_sparse_go_back},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker", tests);
}
