// Torc tests: reads as of a timestamp through a whole node in one process (tests/rig.h).
#include "kit/hlc.h"
#include "tests/rig.h"
#include "tests/torc_test.h"
#include "wire/rows.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHARDS = 4,
    SPREAD = 250, // keys a shard that are used
    VALUE_MAX = 60,
    LARGE = 50000,
    STEPS = 400
};

#define KEYS  UINT64_C(1000000)
#define SHARD (KEYS / SHARDS)
#define USED  UINT32_C(1000) // all of them: SHARDS x SPREAD

// What a test knows of a key.
struct known {
    bool present;
    unsigned char value[VALUE_MAX];
    uint32_t bytes;
};

_Static_assert(USED == SHARDS * SPREAD, "as said");

static struct torc_rig *rig;
static struct torc_rig_client *client;
static struct known now[USED];
static struct known then[USED];
static unsigned char large[LARGE];

static void open_rig(uint64_t undo_bytes)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = SHARDS,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed(),
                                     .undo_bytes = undo_bytes};

    rig = calloc(1, sizeof(*rig));
    client = calloc(1, sizeof(*client));
    CU_ASSERT_FATAL(rig != NULL && client != NULL);
    torc_rig_open(rig, &config);
    torc_rig_connect(rig, client, 5000);
    memset(now, 0, sizeof(now));
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
    free(client);
}

static struct torc_reply expect(const struct torc_request *request, enum torc_err status)
{
    struct torc_reply reply;

    torc_rig_expect(rig, client, request, status, &reply);
    return reply;
}

// -- Writes ---------------------------------------------------------------------------------------

static uint64_t key_at(uint32_t index)
{
    return index / SPREAD * SHARD + UINT64_C(7) * (index % SPREAD);
}

static void change(struct torc_rng *rng, uint32_t index)
{
    struct known *known = &now[index];
    struct torc_request request;

    if (known->present && torc_rng_chance(rng, 400000)) {
        request = torc_rig_delete(rig, client, key_at(index));
        known->present = false;
    } else {
        known->present = true;
        known->bytes = (uint32_t)torc_rng_below(rng, VALUE_MAX);
        memset(known->value, (int)torc_rng_below(rng, 256), known->bytes);
        request = torc_rig_put(rig, client, key_at(index), known->value, known->bytes);
    }
    (void)expect(&request, TORC_ERR_OK);
}

static void change_some(struct torc_rng *rng, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        change(rng, (uint32_t)torc_rng_below(rng, USED));
    }
}

// The largest timestamp applied in any shard: of this moment.
static uint64_t clock_all(void)
{
    uint64_t ts = client->hlc;

    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_request request = {
            .opcode = TORC_OPCODE_CLOCK, .lo = i * SHARD, .hi = (i + 1) * SHARD};
        struct torc_reply reply;

        (void)torc_rig_add(client, &request);
        (void)torc_rig_flush(rig, client, torc_rig_core(rig, i * SHARD));
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
        ts = torc_max_u64(ts, reply.info);
    }
    memcpy(then, now, sizeof(then));
    return ts;
}

// -- Reads ----------------------------------------------------------------------------------------

// Keys [0, index) of `then` that are present.
static uint64_t count_before(uint64_t key)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < USED; i++) {
        count += key_at(i) < key && then[i].present ? 1 : 0;
    }
    return count;
}

static void check_rows(const struct torc_rows *rows)
{
    for (uint32_t i = 0; i < rows->count; i++) {
        struct torc_rows_item item;
        const struct known *known;
        uint64_t index;

        torc_rows_at(rows, i, &item);
        index = item.key / SHARD * SPREAD + item.key % SHARD / 7;
        CU_ASSERT_FATAL(index < USED);
        CU_ASSERT_EQUAL_FATAL(key_at((uint32_t)index), item.key);
        known = &then[index];
        CU_ASSERT_FATAL(known->present);
        CU_ASSERT_EQUAL_FATAL(item.value_bytes, known->bytes);
        CU_ASSERT_FATAL(memcmp(item.value, known->value, known->bytes) == 0);
    }
}

// One request's chunks at `ts`; *lo and *hi shrink to what is left. Rows, or keys counted.
static uint64_t read_chunks(uint64_t ts, uint8_t flags, uint64_t *lo, uint64_t *hi)
{
    struct torc_request request = {
        .opcode = TORC_OPCODE_RANGE_READ, .flags = flags, .lo = *lo, .hi = *hi, .ts = ts};
    bool reverse = (flags & TORC_RANGE_REVERSE) != 0;
    uint64_t count = 0;
    struct torc_reply reply;
    struct torc_rows rows;
    struct torc_fail why;
    uint64_t first = reverse ? *hi - 1 : *lo;

    client->reply_packets = 3;
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, torc_rig_core(rig, first));
    for (uint32_t i = 0; i < 3 && *lo < *hi; i++) {
        if (!torc_rig_await(rig, client, &reply, STEPS)) {
            break;
        }
        CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
        CU_ASSERT_EQUAL(reply.info, ts);
        TORC_TEST_OK(torc_rows_decode(&rows, reply.body, reply.body_bytes, reverse, &why), &why);
        CU_ASSERT_EQUAL_FATAL(reverse ? rows.place.cover_hi : rows.place.cover_lo,
                              reverse ? *hi : *lo);
        check_rows(&rows);
        count += (flags & TORC_RANGE_COUNT) != 0 ? rows.counted : rows.count;
        *lo = reverse ? *lo : rows.place.cover_hi;
        *hi = reverse ? rows.place.cover_lo : *hi;
    }
    return count;
}

// The whole key space at `ts`, while others write.
static void check_snapshot(struct torc_rng *rng, uint64_t ts, uint8_t flags)
{
    uint64_t lo = 0;
    uint64_t hi = KEYS;
    uint64_t count = 0;

    for (uint32_t i = 0; i < 1000 && lo < hi; i++) {
        count += read_chunks(ts, flags, &lo, &hi);
        change_some(rng, 5);
    }
    CU_ASSERT_EQUAL(lo, hi);
    CU_ASSERT_EQUAL(count, count_before(KEYS));
}

static void a_range_of_all_shards_is_one_moment(void)
{
    static const uint8_t flags[] = {0, TORC_RANGE_REVERSE, TORC_RANGE_COUNT};
    struct torc_rng rng = {torc_test_seed()};

    open_rig(0);
    change_some(&rng, 1500);
    for (uint32_t i = 0; i < TORC_COUNT_OF(flags); i++) {
        uint64_t ts = clock_all();

        change_some(&rng, 200);
        check_snapshot(&rng, ts, flags[i]);
    }
    CU_ASSERT(torc_stats_get(&torc_rig_stats(rig, 0)->gauges[TORC_GAUGE_UNDO_BYTES]) > 0);
    close_rig();
}

static void a_get_as_of_a_timestamp(void)
{
    struct torc_rng rng = {torc_test_seed()};
    uint64_t ts;

    open_rig(0);
    change_some(&rng, 500);
    ts = clock_all();
    change_some(&rng, 500);
    for (uint32_t i = 0; i < USED; i++) {
        struct torc_request request = torc_rig_get(key_at(i));
        struct torc_reply reply;

        request.flags = TORC_GET_AT;
        request.ts = ts;
        do { // the index is made a slice at a time
            torc_rig_call(rig, client, &request, &reply);
        } while (reply.status == TORC_ERR_BUSY);
        CU_ASSERT_EQUAL_FATAL(reply.status, then[i].present ? TORC_ERR_OK : TORC_ERR_NOT_FOUND);
        CU_ASSERT(!then[i].present || (reply.body_bytes == then[i].bytes &&
                                       memcmp(reply.body, then[i].value, then[i].bytes) == 0));
    }
    close_rig();
}

static struct torc_reply get_at(uint64_t key, uint64_t ts, enum torc_err status)
{
    struct torc_request request = torc_rig_get(key);

    request.flags = TORC_GET_AT;
    request.ts = ts;
    return expect(&request, status);
}

// Between two tries more is written than one of them indexes, and each pause is longer.
static void a_get_of_the_past_ends_beside_writes(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_request request = torc_rig_get(key_at(0));
    struct torc_reply reply = {.status = TORC_ERR_BUSY};
    uint32_t tries = 0;

    open_rig(0);
    for (uint32_t i = 0; i < SPREAD; i++) {
        change(&rng, i);
    }
    request.flags = TORC_GET_AT;
    request.ts = clock_all();
    for (uint32_t pause = 400; tries < 5 && reply.status == TORC_ERR_BUSY; pause *= 2) {
        for (uint32_t i = 0; i < pause; i++) {
            change(&rng, (uint32_t)torc_rng_below(&rng, SPREAD)); // of the same core
        }
        torc_rig_call(rig, client, &request, &reply);
        tries++;
    }
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    CU_ASSERT_EQUAL(tries, 2);
    close_rig();
}

// A value over many packets, put in pieces.
static void put_large(unsigned char fill)
{
    struct torc_request request;
    uint32_t piece = 1024;
    uint32_t op_id;
    struct torc_reply reply = {.status = TORC_ERR_OK};

    memset(large, fill, sizeof(large));
    request = torc_rig_put(rig, client, 5, large, piece);
    request.flags = TORC_WRITE_FRAGMENTED;
    request.total_bytes = LARGE;
    request.fragment_bytes = (uint16_t)piece;
    op_id = torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 1; i * piece < LARGE; i++) {
        uint32_t bytes = LARGE - i * piece < piece ? LARGE - i * piece : piece;

        request = (struct torc_request){.opcode = TORC_OPCODE_FRAG,
                                        .op_id = op_id,
                                        .key = 5,
                                        .fragment = i,
                                        .data = large,
                                        .data_bytes = bytes};
        (void)torc_rig_add(client, &request);
        (void)torc_rig_flush(rig, client, 0);
        torc_rig_settle(rig, 10);
    }
    do {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    } while (reply.opcode != (TORC_OPCODE_PUT | TORC_REPLY_BIT));
    CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
}

static void a_large_value_that_was_replaced_is_read_in_pieces(void)
{
    struct torc_request pull = {
        .opcode = TORC_OPCODE_PULL, .key = 5, .fragment_bytes = 1000, .bitmap = 1};
    struct torc_reply reply;
    uint64_t ts;

    open_rig(0);
    put_large('a');
    ts = clock_all();
    put_large('b');
    reply = get_at(5, ts, TORC_ERR_PARTIAL);
    pull.version = reply.info;
    reply = expect(&pull, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.info, pull.version);
    CU_ASSERT(reply.body_bytes > 8 && reply.body[reply.body_bytes - 1] == 'a');
    pull.version--;
    (void)expect(&pull, TORC_ERR_VERSION_GONE);
    close_rig();
}

// -- Waiting and refusing -------------------------------------------------------------------------

// A write that stays pending as long as the disk is stuck.
static void put_that_the_disk_holds_back(void)
{
    struct torc_request put = torc_rig_put(rig, client, 2, "two", 3);

    (void)torc_rig_add(client, &put);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_settle(rig, 20);
}

static void a_range_waits_for_a_write_below_its_timestamp(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 100};
    struct torc_reply reply;
    struct torc_rows rows;
    struct torc_fail why;
    uint32_t read_id;

    open_rig(0);
    (void)torc_rig_put_text(rig, client, 1, "one");
    rig->controls[0].disk_stuck = true;
    request.ts = torc_hlc_from_us(rig->wall_us + 100000);
    put_that_the_disk_holds_back();
    client->reply_packets = 2;
    read_id = torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 50));
    rig->controls[0].disk_stuck = false;
    do {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    } while (reply.op_id != read_id);
    CU_ASSERT_EQUAL_FATAL(reply.status, TORC_ERR_OK);
    TORC_TEST_OK(torc_rows_decode(&rows, reply.body, reply.body_bytes, false, &why), &why);
    CU_ASSERT_EQUAL(rows.count, 2);
    // Every later write is above what was read.
    CU_ASSERT(torc_rig_put_text(rig, client, 3, "three") > request.ts);
    close_rig();
}

static void a_range_does_not_wait_for_ever(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 100};
    struct torc_reply reply = {.op_id = 0};
    uint32_t read_id;

    open_rig(0);
    rig->controls[0].disk_stuck = true;
    request.ts = torc_hlc_from_us(rig->wall_us + 100000);
    put_that_the_disk_holds_back();
    client->reply_packets = 1;
    read_id = torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 0; i < 100 && reply.op_id != read_id; i++) {
        torc_rig_step(rig, 10000000);
        (void)torc_rig_next(rig, client, &reply);
    }
    CU_ASSERT_EQUAL(reply.op_id, read_id);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_BUSY);
    close_rig();
}

// Answers of that status, as /metrics tells them.
static uint64_t too_old_count(void)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < rig->config.workers; i++) {
        count += torc_stats_get(&torc_rig_stats(rig, i)->replies[TORC_ERR_SNAPSHOT_TOO_OLD]);
    }
    return count;
}

static void the_window_ends_with_its_age_unless_it_is_read(void)
{
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 100};
    uint64_t ts;

    open_rig(0);
    (void)torc_rig_put_text(rig, client, 1, "one");
    ts = clock_all();
    (void)torc_rig_put_text(rig, client, 1, "two");
    for (uint32_t i = 0; i < 10; i++) { // seconds
        torc_rig_step(rig, 1000000000);
        torc_rig_step(rig, 1000000);
        CU_ASSERT(get_at(1, ts, TORC_ERR_OK).body_bytes == 3);
    }
    for (uint32_t i = 0; i < 30; i++) { // nobody reads
        torc_rig_step(rig, 100000000);
    }
    CU_ASSERT(get_at(1, ts, TORC_ERR_SNAPSHOT_TOO_OLD).info > ts);
    CU_ASSERT_EQUAL(too_old_count(), 1);
    range.ts = ts;
    (void)expect(&range, TORC_ERR_SNAPSHOT_TOO_OLD);
    CU_ASSERT_EQUAL(too_old_count(), 2);
    torc_rig_check_text(rig, client, 1, "two");
    close_rig();
}

static void a_restart_ends_the_past(void)
{
    uint64_t ts;

    open_rig(0);
    (void)torc_rig_put_text(rig, client, 1, "one");
    ts = clock_all();
    (void)get_at(1, ts, TORC_ERR_OK);
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
    (void)get_at(1, ts, TORC_ERR_SNAPSHOT_TOO_OLD);
    torc_rig_check_text(rig, client, 1, "one");
    close_rig();
}

// A reader whose clock is ahead read at a timestamp; the next life stamps no write at or below it,
// however soon it comes (H6).
static void what_was_read_stays_so_after_a_restart(void)
{
    open_rig(0);
    for (uint32_t i = 0; i < 5; i++) {
        uint64_t ts = torc_hlc_from_us(rig->wall_us + 1000000 + UINT64_C(200000) * i);
        uint64_t version = torc_rig_put_text(rig, client, 1, "before");
        struct torc_request request = torc_rig_get(1);
        struct torc_reply reply;

        request.flags = TORC_GET_AT;
        request.ts = ts;
        torc_rig_call(rig, client, &request, &reply);
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_BUSY);                   // not kept yet
        CU_ASSERT_EQUAL(get_at(1, version, TORC_ERR_OK).body_bytes, 6); // needs nothing
        torc_rig_settle(rig, 1000);
        CU_ASSERT_EQUAL(get_at(1, ts, TORC_ERR_OK).body_bytes, 6);
        torc_rig_crash(rig);
        torc_rig_recover(rig);
        torc_rig_connect(rig, client, (uint16_t)(5001 + i));
        version = torc_rig_put_text(rig, client, 1, "after");
        CU_ASSERT(version > ts);
    }
    close_rig();
}

static void timestamps_that_make_no_sense_are_refused(void)
{
    open_rig(0);
    (void)torc_rig_put_text(rig, client, 1, "one");
    (void)get_at(1, 1, TORC_ERR_SNAPSHOT_TOO_OLD);
    (void)get_at(1, torc_hlc_from_us(rig->wall_us + 10000000), TORC_ERR_CLOCK_AHEAD);
    (void)get_at(1, UINT64_MAX, TORC_ERR_CLOCK_AHEAD);
    (void)get_at(KEYS, 1, TORC_ERR_INVALID_ARGUMENT);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a range of all shards is one moment", a_range_of_all_shards_is_one_moment},
        {"a get as of a timestamp", a_get_as_of_a_timestamp},
        {"a get of the past ends beside writes", a_get_of_the_past_ends_beside_writes},
        {"a large value that was replaced is read in pieces",
         a_large_value_that_was_replaced_is_read_in_pieces},
        {"a range waits for a write below its timestamp",
         a_range_waits_for_a_write_below_its_timestamp},
        {"a range does not wait for ever", a_range_does_not_wait_for_ever},
        {"the window ends with its age unless it is read",
         the_window_ends_with_its_age_unless_it_is_read},
        {"a restart ends the past", a_restart_ends_the_past},
        {"what was read stays so after a restart", what_was_read_stays_so_after_a_restart},
        {"timestamps that make no sense are refused", timestamps_that_make_no_sense_are_refused},
        CU_TEST_INFO_NULL};

    return torc_test_run("past", tests);
}
