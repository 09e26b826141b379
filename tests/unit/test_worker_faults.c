// Torc tests: what a worker does when the disk, control, memory or the whole node fails, through a
// node in one process (tests/rig.h).
#include "tests/rig.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS  UINT64_C(1000000)
#define MS_NS UINT64_C(1000000)

static struct torc_rig *rig;
static struct torc_rig_client *client;
static struct torc_fake_control *control;

static void open_rig(const struct torc_rig_config *config)
{
    struct torc_rig_config filled = *config;

    rig = calloc(1, sizeof(*rig));
    client = calloc(1, sizeof(*client));
    CU_ASSERT_FATAL(rig != NULL && client != NULL);
    filled.workers = 1;
    filled.shards = filled.shards == 0 ? 2 : filled.shards;
    filled.key_count = KEYS;
    filled.seed = torc_test_seed();
    torc_rig_open(rig, &filled);
    torc_rig_connect(rig, client, 5000);
    control = &rig->controls[0];
}

static void open_plain(void)
{
    struct torc_rig_config config = {.durability = TORC_DURABILITY_DURABLE};

    open_rig(&config);
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
    free(client);
}

static void crash_and_recover(void)
{
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
}

static void checkpoint_all(void)
{
    for (uint32_t shard = 0; shard < control->shard_count; shard++) {
        torc_fake_control_checkpoint(control, shard);
        torc_rig_settle(rig, 20000);
        CU_ASSERT_FATAL(control->shards[shard].kept.complete);
    }
}

static struct torc_reply expect(const struct torc_request *request, enum torc_err status)
{
    struct torc_reply reply;

    torc_rig_expect(rig, client, request, status, &reply);
    return reply;
}

static struct torc_reply put_fails(uint64_t key, enum torc_err status)
{
    struct torc_request request = torc_rig_put(rig, client, key, "value", 5);

    return expect(&request, status);
}

// Sends a put without waiting for its answer.
static void put_quietly(uint64_t key)
{
    struct torc_request request = torc_rig_put(rig, client, key, "quiet", 5);

    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
}

// -- Restarts -------------------------------------------------------------------------------------

static void acknowledged_writes_survive_a_crash(void)
{
    struct torc_request request;

    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    (void)torc_rig_put_text(rig, client, KEYS / 2, "half");
    (void)torc_rig_put_text(rig, client, KEYS - 1, "last");
    request = torc_rig_delete(rig, client, 1);
    (void)expect(&request, TORC_ERR_OK);
    for (uint32_t life = 0; life < 4; life++) {
        crash_and_recover();
        torc_rig_check_text(rig, client, KEYS / 2, "half");
        torc_rig_check_text(rig, client, KEYS - 1, "last");
        torc_rig_check_none(rig, client, 1);
        (void)torc_rig_put_text(rig, client, 2 + life, "more");
    }
    crash_and_recover();
    torc_rig_check_text(rig, client, 2, "more");
    torc_rig_check_text(rig, client, 5, "more");
    close_rig();
}

static void a_checkpoint_and_the_log_behind_it_are_recovered(void)
{
    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    (void)torc_rig_put_text(rig, client, KEYS - 1, "last");
    checkpoint_all();
    (void)torc_rig_put_text(rig, client, 1, "two");
    (void)torc_rig_put_text(rig, client, 3, "three");
    crash_and_recover();
    torc_rig_check_text(rig, client, 1, "two");
    torc_rig_check_text(rig, client, 3, "three");
    torc_rig_check_text(rig, client, KEYS - 1, "last");
    checkpoint_all();
    crash_and_recover();
    torc_rig_check_text(rig, client, 1, "two");
    torc_rig_check_text(rig, client, KEYS - 1, "last");
    close_rig();
}

// Writes go on, four a step, while the checkpoint of a tree of many blocks is made.
static void a_checkpoint_made_while_writing_is_whole(void)
{
    char text[1000];
    struct torc_request request;

    open_plain();
    memset(text, 'x', sizeof(text));
    for (uint32_t i = 0; i < 2000; i++) {
        request = torc_rig_put(rig, client, i, text, sizeof(text));
        (void)torc_rig_add(client, &request);
        (void)torc_rig_flush(rig, client, 0);
        torc_rig_step(rig, 10000);
    }
    torc_fake_control_checkpoint(control, 0);
    for (uint32_t i = 0; i < 200; i++) {
        request = torc_rig_put(rig, client, (i * 37) % 2500, "new", 3);
        (void)torc_rig_add(client, &request);
        (void)torc_rig_flush(rig, client, 0);
        torc_rig_step(rig, 10000);
    }
    torc_rig_settle(rig, 1000);
    CU_ASSERT_FATAL(control->shards[0].kept.complete);
    CU_ASSERT(control->shards[0].kept.byte_count > 1000000);
    crash_and_recover();
    for (uint32_t i = 0; i < 200; i++) {
        torc_rig_check_text(rig, client, (i * 37) % 2500, "new");
    }
    request = torc_rig_get(1999); // 37 * 54 = 1998: not overwritten
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_OK).body_bytes, sizeof(text));
    close_rig();
}

static void a_quiesced_node_has_everything_durable(void)
{
    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    torc_fake_control_order(control, TORC_CMD_QUIESCE);
    torc_rig_settle(rig, 100);
    CU_ASSERT(control->quiesced);
    CU_ASSERT(torc_worker_quiesced(rig->workers[0]));
    CU_ASSERT_EQUAL(put_fails(2, TORC_ERR_UNAVAILABLE).info & 0xff, TORC_UNAVAILABLE_STOPPING);
    crash_and_recover();
    torc_rig_check_text(rig, client, 1, "one");
    close_rig();
}

// A control that comes after one that died in the middle must not take it for a node that serves.
static void a_node_that_is_stopping_says_so(void)
{
    const struct torc_chan_worker *page;
    struct torc_request request;

    open_plain();
    page = torc_chan_worker_page(rig->chan, 0);
    CU_ASSERT_EQUAL(atomic_load(&page->state), TORC_WORKER_SERVING);
    control->disk_stuck = true;
    request = torc_rig_put(rig, client, 1, "one", 3);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    torc_fake_control_order(control, TORC_CMD_QUIESCE);
    torc_rig_settle(rig, 100);
    CU_ASSERT(!torc_worker_quiesced(rig->workers[0])); // a write is not durable yet
    CU_ASSERT_EQUAL(atomic_load(&page->state), TORC_WORKER_QUIESCING);
    close_rig();
}

static void a_log_with_a_hole_is_refused(void)
{
    struct torc_fake_block lost;
    bool alarm = false;

    open_plain();
    for (uint32_t i = 0; i < 5; i++) {
        (void)torc_rig_put_text(rig, client, 1, "again");
    }
    torc_rig_crash(rig);
    lost = control->blocks[2];
    free(lost.bytes);
    memmove(&control->blocks[2], &control->blocks[3],
            (control->block_count - 3) * sizeof(control->blocks[0]));
    control->block_count--;
    CU_ASSERT_FALSE(torc_rig_try_recover(rig));
    for (uint32_t i = 0; i < control->event_count; i++) {
        alarm = alarm || (control->events[i].kind == TORC_EVT_ALARM &&
                          control->events[i].alarm.err == TORC_ERR_CORRUPT &&
                          control->events[i].alarm.goes_on == 0);
    }
    CU_ASSERT(alarm);
    close_rig();
}

// -- The disk -------------------------------------------------------------------------------------

static void nothing_is_acknowledged_before_the_disk_has_it(void)
{
    struct torc_reply reply;

    open_plain();
    control->disk_stuck = true;
    put_quietly(1);
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 100));
    torc_rig_check_none(rig, client, 1);
    torc_rig_crash(rig); // with the block never written
    control->disk_stuck = false;
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
    torc_rig_check_none(rig, client, 1);
    put_quietly(1);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 100));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    close_rig();
}

static void durability_none_does_not_wait(void)
{
    struct torc_rig_config config = {.durability = TORC_DURABILITY_NONE};

    open_rig(&config);
    control->disk_stuck = true;
    (void)torc_rig_put_text(rig, client, 1, "one");
    torc_rig_check_text(rig, client, 1, "one");
    close_rig();
}

static void a_full_disk_refuses_writes_until_there_is_room(void)
{
    char text[8192];
    struct torc_request request;
    struct torc_reply reply;
    uint32_t written = 0;

    open_plain();
    memset(text, 'x', sizeof(text));
    control->disk_full = true;
    client->reply_packets = 64;
    do {
        request = torc_rig_put(rig, client, written % 50, text, 1000);
        torc_rig_call(rig, client, &request, &reply);
        written += reply.status == TORC_ERR_OK ? 1 : 0;
        CU_ASSERT_FATAL(written < 20000);
    } while (reply.status == TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(reply.info & 0xff, TORC_NO_SPACE_DISK);
    request = torc_rig_get(3);
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_OK).body_bytes, 1000);
    control->disk_full = false;
    torc_rig_settle(rig, 20);
    (void)torc_rig_put_text(rig, client, 3, "room");
    crash_and_recover();
    torc_rig_check_text(rig, client, 3, "room");
    close_rig();
}

static void a_failed_log_stops_writes_for_good(void)
{
    struct torc_reply reply;

    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    control->disk_stuck = true;
    put_quietly(2);
    torc_rig_settle(rig, 20);
    control->disk_failed = true;
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 100));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_IN_DOUBT); // it may be on the disk
    CU_ASSERT_EQUAL(put_fails(3, TORC_ERR_UNAVAILABLE).info & 0xff, TORC_UNAVAILABLE_LOG_FAILED);
    torc_rig_check_text(rig, client, 1, "one");
    torc_rig_check_none(rig, client, 2);
    CU_ASSERT_EQUAL(torc_stats_get(&torc_rig_stats(rig, 0)->gauges[TORC_GAUGE_WRITES_STOPPED]), 1);
    control->disk_stuck = false;
    control->disk_failed = false;
    crash_and_recover();
    torc_rig_check_text(rig, client, 1, "one");
    (void)torc_rig_put_text(rig, client, 3, "three");
    close_rig();
}

// -- Control --------------------------------------------------------------------------------------

static void without_control_reads_go_on_and_writes_are_busy(void)
{
    struct torc_reply reply;

    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    control->away = true;
    put_quietly(2);
    for (uint32_t i = 0; i < 60; i++) {
        torc_rig_step(rig, 10 * MS_NS);
    }
    (void)put_fails(3, TORC_ERR_BUSY);
    torc_rig_check_text(rig, client, 1, "one");
    control->away = false; // a new one goes on at the rings' heads
    torc_rig_settle(rig, 20);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 100));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    torc_rig_check_text(rig, client, 2, "quiet");
    (void)torc_rig_put_text(rig, client, 3, "three");
    close_rig();
}

static void a_new_control_is_told_where_the_worker_stands(void)
{
    const struct torc_evt *event;
    struct torc_fail why;

    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    TORC_TEST_OK(torc_fake_control_attach(control, rig->chan, rig->chan_bytes, 0, &why), &why);
    torc_fake_control_hello(control, 7);
    torc_rig_settle(rig, 20);
    event = &control->events[control->event_count - 1];
    CU_ASSERT_EQUAL_FATAL(event->kind, TORC_EVT_CONTROL_SEEN);
    CU_ASSERT_EQUAL(event->seen.hello, 7);
    CU_ASSERT_EQUAL(event->seen.shard_count, 2);
    CU_ASSERT(event->seen.sealed_sequence >= 2);
    CU_ASSERT_EQUAL(event->seen.durable_sequence, event->seen.sealed_sequence);
    (void)torc_rig_put_text(rig, client, 2, "two");
    close_rig();
}

static void a_checkpoint_given_up_leaves_no_trace(void)
{
    open_plain();
    (void)torc_rig_put_text(rig, client, 1, "one");
    control->away = true; // nobody empties `out` or reads events
    torc_fake_control_checkpoint(control, 0);
    torc_rig_settle(rig, 20);
    torc_fake_control_order(control, TORC_CMD_CHECKPOINT_END); // number 0: whatever is being made
    torc_rig_settle(rig, 20);
    control->away = false;
    control->shards[0].making.byte_count = 0;
    CU_ASSERT_FALSE(control->shards[0].kept.complete);
    torc_rig_check_text(rig, client, 1, "one");
    close_rig();
}

// -- Time -----------------------------------------------------------------------------------------

static void a_write_whose_deadline_passes_is_in_doubt(void)
{
    struct torc_request request;
    struct torc_reply reply;

    open_plain();
    control->disk_stuck = true;
    request = torc_rig_put(rig, client, 1, "slow", 4);
    request.budget_us = 50000;
    (void)torc_rig_add(client, &request);
    // The second waits for the first and never begins.
    request = torc_rig_put(rig, client, 1, "never", 5);
    request.budget_us = 50000;
    request.flags = TORC_WRITE_IF_ABSENT;
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 0; i < 400; i++) {
        torc_rig_step(rig, MS_NS);
    }
    CU_ASSERT_FATAL(torc_rig_next(rig, client, &reply));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_IN_DOUBT);
    CU_ASSERT_FATAL(torc_rig_next(rig, client, &reply));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_DEADLINE);
    control->disk_stuck = false;
    torc_rig_settle(rig, 50);
    torc_rig_check_text(rig, client, 1, "slow");
    close_rig();
}

static void a_waiting_write_can_be_cancelled(void)
{
    struct torc_request request;
    struct torc_request cancel = {.opcode = TORC_OPCODE_CANCEL};
    struct torc_reply reply;
    bool cancelled = false;

    open_plain();
    control->disk_stuck = true;
    put_quietly(1);
    request = torc_rig_put(rig, client, 1, "never", 5);
    request.flags = TORC_WRITE_IF_PRESENT;
    cancel.target = torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_settle(rig, 10);
    (void)expect(&cancel, TORC_ERR_OK);
    while (torc_rig_await(rig, client, &reply, 10)) {
        cancelled = cancelled || reply.status == TORC_ERR_CANCELLED;
    }
    CU_ASSERT(cancelled);
    control->disk_stuck = false;
    torc_rig_settle(rig, 50);
    torc_rig_check_text(rig, client, 1, "quiet");
    close_rig();
}

#define CROWD     3u
#define CROWD_OPS 24u // op ids of each, used again and again

// Of clients that use the same op ids, each several at a time: CANCEL ends one write of its own
// session and op id, for as long as one of them waits.
static void a_cancel_finds_its_own_among_many(void)
{
    static struct torc_rig_client crowd[CROWD];
    uint32_t waiting[CROWD][CROWD_OPS] = {{0}};
    struct torc_rng rng = {.state = torc_test_seed()};
    struct torc_reply reply;

    open_plain();
    control->disk_stuck = true;
    put_quietly(1);
    for (uint16_t i = 0; i < CROWD; i++) {
        torc_rig_connect(rig, &crowd[i], (uint16_t)(6000 + i));
    }
    for (uint32_t round = 0; round < 900; round++) {
        uint32_t who = (uint32_t)torc_rng_below(&rng, CROWD);
        uint32_t op = (uint32_t)torc_rng_below(&rng, CROWD_OPS);
        struct torc_request request = torc_rig_delete(rig, &crowd[who], 1);

        if (torc_rng_chance(&rng, 400000)) {
            request.op_id = 1000 + op;
            (void)torc_rig_add(&crowd[who], &request);
            (void)torc_rig_flush(rig, &crowd[who], 0);
            torc_rig_step(rig, 10000);
            waiting[who][op]++;
            continue;
        }
        request = (struct torc_request){.opcode = TORC_OPCODE_CANCEL, .target = 1000 + op};
        torc_rig_expect(rig, &crowd[who], &request,
                        waiting[who][op] > 0 ? TORC_ERR_OK : TORC_ERR_NOT_FOUND, &reply);
        waiting[who][op] -= waiting[who][op] > 0 ? 1 : 0;
    }
    control->disk_stuck = false;
    torc_rig_settle(rig, 2000);
    for (uint32_t who = 0; who < CROWD; who++) {
        for (uint32_t op = 0; op < CROWD_OPS; op++) { // done: there is nothing to cancel
            struct torc_request request = {.opcode = TORC_OPCODE_CANCEL, .target = 1000 + op};

            torc_rig_expect(rig, &crowd[who], &request, TORC_ERR_NOT_FOUND, &reply);
        }
    }
    torc_rig_check_none(rig, client, 1);
    close_rig();
}

// -- Memory ---------------------------------------------------------------------------------------

static void full_memory_refuses_writes_but_reads_and_deletes_go_on(void)
{
    struct torc_rig_config config = {.shards = 1, .chunks = 4};
    struct torc_request request;
    struct torc_reply reply;
    char text[100];
    uint64_t key = 0;

    open_rig(&config);
    memset(text, 'x', sizeof(text));
    do {
        request = torc_rig_put(rig, client, key++, text, sizeof(text));
        torc_rig_call(rig, client, &request, &reply);
        CU_ASSERT_FATAL(key < 100000);
    } while (reply.status == TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(reply.info & 0xff, TORC_NO_SPACE_MEMORY);
    CU_ASSERT(key > 1000);
    request = torc_rig_get(5);
    (void)expect(&request, TORC_ERR_OK);
    for (uint64_t gone = 0; gone < 500; gone++) {
        request = torc_rig_delete(rig, client, gone);
        (void)expect(&request, TORC_ERR_OK);
    }
    (void)torc_rig_put_text(rig, client, 5, "room again");
    close_rig();
}

static void a_session_has_so_many_operations_in_flight(void)
{
    struct torc_reply reply;
    uint32_t refused = 0;
    uint32_t answered = 0;

    open_plain();
    control->disk_stuck = true;
    for (uint32_t i = 0; i < 300; i++) {
        put_quietly(i);
        torc_rig_step(rig, 10000);
    }
    while (torc_rig_next(rig, client, &reply)) {
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_LIMIT);
        refused++;
    }
    CU_ASSERT_EQUAL(refused, 300 - 256);
    control->disk_stuck = false;
    torc_rig_settle(rig, 100);
    while (torc_rig_next(rig, client, &reply)) {
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
        answered++;
    }
    CU_ASSERT_EQUAL(answered, 256);
    close_rig();
}

// -- Load -----------------------------------------------------------------------------------------

#define LOAD_TURN_NS (TORC_TURN_RX_MAX * UINT64_C(4000)) // a turn of frames that cost 4 us each
#define LOAD_TURNS   300u
#define STANDING_NS  (100 * MS_NS)

// What came back for one client, packets of one operation each.
struct load_answers {
    uint32_t done;
    uint32_t shed;
};

static void load_count(struct torc_rig_client *of, struct load_answers *answers)
{
    struct torc_reply reply;
    struct torc_shed shed;

    while (torc_rig_next(rig, of, &reply)) {
        if (reply.opcode != TORC_OPCODE_SHED) {
            answers->done++;
            continue;
        }
        answers->shed++;
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_BUSY);
        CU_ASSERT_EQUAL(reply.op_id, 0);
        CU_ASSERT_FATAL(torc_shed_decode(&reply, &shed));
        // What waits in front of it takes that long twice at least.
        CU_ASSERT(shed.delay_us > 0);
        CU_ASSERT(shed.retry_us >= 2 * shed.delay_us);
    }
}

static void load_get(struct torc_rig_client *of, uint64_t key)
{
    struct torc_request request = torc_rig_get(key);

    (void)torc_rig_add(of, &request);
    (void)torc_rig_flush(rig, of, 0);
}

// Gets of the greedy client, until `count` frames wait in front of the node.
static void load_fill(uint32_t count)
{
    while (rig->in_count < count) {
        load_get(client, 1);
    }
}

static uint64_t load_shed(void)
{
    return torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_SHED]);
}

// The queue never empties, all that time; the answers are left to whoever counts them.
static void load_stands(uint64_t duration_ns)
{
    uint64_t began_ns = rig->now_ns;

    while (rig->now_ns - began_ns < duration_ns) {
        load_fill(2 * TORC_TURN_RX_MAX);
        torc_rig_step(rig, LOAD_TURN_NS);
        rig->out_count = 0;
    }
}

// Sheds the greedy client's packets over its share, none of the quiet one's, and stops with the
// load.
static void a_queue_that_stands_is_shed_fairly(void)
{
    struct torc_rig_client *quiet = calloc(1, sizeof(*quiet));
    struct load_answers greedy_got = {0};
    struct load_answers quiet_got = {0};
    uint64_t before;

    CU_ASSERT_FATAL(quiet != NULL);
    open_plain();
    torc_rig_connect(rig, quiet, 5001);
    (void)torc_rig_put_text(rig, client, 1, "value");
    load_stands(STANDING_NS * 9 / 10);
    CU_ASSERT_EQUAL(load_shed(), 0); // it may still pass
    load_stands(STANDING_NS);
    CU_ASSERT(load_shed() > 0);
    for (uint32_t turn = 0; turn < LOAD_TURNS; turn++) {
        load_fill(TORC_TURN_RX_MAX + (uint32_t)torc_rng_below(&rig->rng, TORC_TURN_RX_MAX));
        load_get(quiet, 1);
        load_fill(2 * TORC_TURN_RX_MAX + 1);
        torc_rig_step(rig, LOAD_TURN_NS);
        load_count(quiet, &quiet_got);
    }
    CU_ASSERT_EQUAL(quiet_got.shed, 0);
    CU_ASSERT(quiet_got.done + 2 >= LOAD_TURNS); // the last ones wait
    before = load_shed();
    load_fill(2 * TORC_TURN_RX_MAX);
    torc_rig_step(rig, LOAD_TURN_NS);
    load_count(client, &greedy_got);
    CU_ASSERT(greedy_got.done > 0);
    CU_ASSERT(greedy_got.done * 4 <= 50); // us: half of the target, for there are two
    CU_ASSERT_EQUAL(greedy_got.shed, load_shed() - before);
    CU_ASSERT_EQUAL(greedy_got.done + greedy_got.shed, TORC_TURN_RX_MAX - 1); // and a quiet one's
    torc_rig_settle(rig, 10000);
    before = load_shed();
    torc_rig_check_text(rig, client, 1, "value");
    torc_rig_check_text(rig, quiet, 1, "value");
    CU_ASSERT_EQUAL(load_shed(), before);
    close_rig();
    free(quiet);
}

// A node that was not scheduled finds a long queue; that is no load.
static void a_queue_that_passes_is_worked_off(void)
{
    struct load_answers got = {0};

    open_plain();
    for (uint32_t i = 0; i < 3; i++) {
        load_stands(STANDING_NS * 9 / 10);
        torc_rig_settle(rig, 10000); // and it was empty once
        rig->out_count = 0;
    }
    load_fill(1000);
    torc_rig_step(rig, 100 * STANDING_NS);
    while (rig->in_count > 0) {
        torc_rig_step(rig, LOAD_TURN_NS);
    }
    load_count(client, &got);
    CU_ASSERT_EQUAL(got.done, 1000);
    CU_ASSERT_EQUAL(load_shed(), 0);
    close_rig();
}

enum {
    LOAD_PUTS = 2 * TORC_TURN_RX_MAX
};

// Which of the puts of these packets were refused, by the packets' numbers.
static uint32_t load_refused(uint64_t first_seq, bool refused[LOAD_PUTS])
{
    struct torc_reply reply;
    uint32_t count = 0;

    while (torc_rig_next(rig, client, &reply)) {
        if (reply.opcode == TORC_OPCODE_SHED) {
            CU_ASSERT_FATAL(reply.info - first_seq < LOAD_PUTS);
            refused[reply.info - first_seq] = true;
            count++;
        }
    }
    return count;
}

static void a_shed_put_was_not_done_and_is_done_once(void)
{
    static struct torc_request puts[LOAD_PUTS];
    static const unsigned char bytes[] = "shed";
    bool refused[LOAD_PUTS] = {false};
    uint64_t first_seq;
    uint32_t count;

    open_plain();
    load_stands(2 * STANDING_NS);
    while (rig->in_count > 0) {
        torc_rig_step(rig, LOAD_TURN_NS); // no put stands behind gets
    }
    rig->out_count = 0;
    first_seq = client->lane.seq[0] + 1;
    for (uint32_t i = 0; i < LOAD_PUTS; i++) {
        puts[i] = torc_rig_put(rig, client, 10 + i, bytes, 4);
        puts[i].lowest = puts[0].wseq;
        (void)torc_rig_add(client, &puts[i]);
        (void)torc_rig_flush(rig, client, 0);
    }
    while (rig->in_count > 0) {
        torc_rig_step(rig, LOAD_TURN_NS);
    }
    torc_rig_settle(rig, 10000);
    count = load_refused(first_seq, refused);
    CU_ASSERT(count > 0 && count < LOAD_PUTS);
    for (uint32_t i = 0; i < LOAD_PUTS; i++) {
        if (refused[i]) {
            torc_rig_check_none(rig, client, 10 + i);
        } else {
            torc_rig_check_text(rig, client, 10 + i, "shed");
        }
    }
    for (uint32_t i = 0; i < LOAD_PUTS; i++) {
        struct torc_reply first = expect(&puts[i], TORC_ERR_OK);
        struct torc_reply again = expect(&puts[i], TORC_ERR_OK);

        CU_ASSERT_EQUAL(first.info, again.info); // one version
    }
    close_rig();
}

// Each shard logs that it begins, and where it lay before, in slots that no write has.
static void more_shards_than_slots_of_writes_open(void)
{
    struct torc_rig_config config = {
        .durability = TORC_DURABILITY_DURABLE, .shards = TORC_FAKE_SHARDS_MAX, .gathers = 1};
    struct torc_request request;

    open_rig(&config);
    request = torc_rig_put(rig, client, 7, "value", 5);
    (void)expect(&request, TORC_ERR_OK);
    crash_and_recover();
    request = torc_rig_get(7);
    (void)expect(&request, TORC_ERR_OK);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"acknowledged writes survive a crash", acknowledged_writes_survive_a_crash},
        {"a checkpoint and the log behind it are recovered",
         a_checkpoint_and_the_log_behind_it_are_recovered},
        {"a checkpoint made while writing is whole", a_checkpoint_made_while_writing_is_whole},
        {"a quiesced node has everything durable", a_quiesced_node_has_everything_durable},
        {"a node that is stopping says so", a_node_that_is_stopping_says_so},
        {"a log with a hole is refused", a_log_with_a_hole_is_refused},
        {"nothing is acknowledged before the disk has it",
         nothing_is_acknowledged_before_the_disk_has_it},
        {"durability none does not wait", durability_none_does_not_wait},
        {"a full disk refuses writes until there is room",
         a_full_disk_refuses_writes_until_there_is_room},
        {"a failed log stops writes for good", a_failed_log_stops_writes_for_good},
        {"without control reads go on and writes are busy",
         without_control_reads_go_on_and_writes_are_busy},
        {"a new control is told where the worker stands",
         a_new_control_is_told_where_the_worker_stands},
        {"a checkpoint given up leaves no trace", a_checkpoint_given_up_leaves_no_trace},
        {"a write whose deadline passes is in doubt", a_write_whose_deadline_passes_is_in_doubt},
        {"a waiting write can be cancelled", a_waiting_write_can_be_cancelled},
        {"a cancel finds its own among many", a_cancel_finds_its_own_among_many},
        {"full memory refuses writes but reads and deletes go on",
         full_memory_refuses_writes_but_reads_and_deletes_go_on},
        {"a session has so many operations in flight", a_session_has_so_many_operations_in_flight},
        {"a queue that stands is shed, fairly", a_queue_that_stands_is_shed_fairly},
        {"a queue that passes is worked off", a_queue_that_passes_is_worked_off},
        {"more shards than slots of writes open", more_shards_than_slots_of_writes_open},
        {"a shed put was not done, and is done once", a_shed_put_was_not_done_and_is_done_once},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker-faults", tests);
}
