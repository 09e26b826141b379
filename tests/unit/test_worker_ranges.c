// Torc tests: the ranges that a worker sends, through a whole node in one process (worker_rig.h).
#include "tests/unit/worker_rig.h"
#include "wire/rows.h"

#include <string.h>

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

// A PUT and `other` in one packet, with one packet allowed to answer; the statuses of both, what
// did not come is PENDING, which no answer here can be.
static void put_and(const struct torc_request *other, enum torc_err *put, enum torc_err *read)
{
    struct torc_request request = torc_rig_put(rig, client, 5, "beside", 6);
    struct torc_reply reply;

    *put = TORC_ERR_PENDING;
    *read = TORC_ERR_PENDING;
    client->reply_packets = 1;
    client->reply_bytes = 1200;
    (void)torc_rig_add(client, &request);
    (void)torc_rig_add(client, other);
    (void)torc_rig_flush(rig, client, 0);
    while (torc_rig_await(rig, client, &reply, 200)) {
        bool is_put = reply.opcode == (TORC_OPCODE_PUT | TORC_REPLY_BIT);

        *(is_put ? put : read) = (enum torc_err)reply.status;
    }
}

// The answers of a packet with writes go together when the allowance has no packet beside them; a
// range that is longer than one chunk must not have that one.
static void a_range_leaves_the_packet_of_a_write_beside_it(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 250000};
    static const char value[1120]; // and its answer fill a reply packet
    struct torc_request get = torc_rig_get(7);
    struct torc_request large;
    struct torc_fake_control *control;
    enum torc_err put;
    enum torc_err read;

    open_plain();
    fill(1000);
    large = torc_rig_put(rig, client, 7, value, sizeof(value));
    (void)expect(&large, TORC_ERR_OK);
    put_and(&get, &put, &read);
    CU_ASSERT_EQUAL(put, TORC_ERR_OK);
    CU_ASSERT_EQUAL(read, TORC_ERR_PARTIAL);
    large = torc_rig_delete(rig, client, 7);
    (void)expect(&large, TORC_ERR_OK);
    put_and(&request, &put, &read);
    CU_ASSERT_EQUAL(put, TORC_ERR_OK);
    CU_ASSERT_EQUAL(read, TORC_ERR_OK);
    // The same of the past, which is not ready: a write below it is on its way to the disk.
    control = &rig->controls[0];
    control->disk_stuck = true;
    request.ts = torc_hlc_from_us(rig->wall_us + 1000);
    put_and(&request, &put, &read);
    control->disk_stuck = false;
    while (put == TORC_ERR_PENDING) {
        struct torc_reply reply;

        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 200));
        put =
            reply.opcode == (TORC_OPCODE_PUT | TORC_REPLY_BIT) ? (enum torc_err)reply.status : put;
        read =
            reply.opcode != (TORC_OPCODE_PUT | TORC_REPLY_BIT) ? (enum torc_err)reply.status : read;
    }
    CU_ASSERT_EQUAL(put, TORC_ERR_OK);
    CU_ASSERT_EQUAL(read, TORC_ERR_BUSY);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_REPLY_LOST), 0);
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

int main(void)
{
    CU_TestInfo tests[] = {
        {"ranges give what lies in them", ranges_give_what_lies_in_them},
        {"a range ends with its credit and goes on", a_range_ends_with_its_credit_and_goes_on},
        {"bad ranges are refused and empty ones are empty",
         bad_ranges_are_refused_and_empty_ones_are_empty},
        {"several ranges of one packet share its replies",
         several_ranges_of_one_packet_share_its_replies},
        {"a range fits behind what nearly fills a packet",
         a_range_fits_behind_what_nearly_fills_a_packet},
        {"a range leaves the packet of a write beside it",
         a_range_leaves_the_packet_of_a_write_beside_it},
        {"a cursor sends as far as its credit", a_cursor_sends_as_far_as_its_credit},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker_ranges", tests);
}
