// Torc tests: the client's engine against a whole node in one process.
#include "client/engine_state.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS        UINT64_C(1000000)
#define STEP_NS     UINT64_C(20000)
#define VALUE_BYTES (UINT64_C(1) << 20)

#define SESSION_PACKET_BYTES 1500u

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_engine *engine;
static struct torc_completion done; // of the last call
static uint8_t value[VALUE_BYTES + 1];

// pool_bytes: of the engine; 0: what tests need.
static void open_node_with(uint64_t keys, uint32_t workers, uint32_t shards, uint32_t operations,
                           uint64_t pool_bytes)
{
    struct torc_rig_config config = {.workers = workers,
                                     .shards = shards,
                                     .key_count = keys,
                                     .seed = torc_test_seed(),
                                     .steered = true,
                                     .sealed = true};
    struct torc_net_config clients = {
        .clients = 1, .seed = torc_test_seed(), .operations = operations, .pool_bytes = pool_bytes};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
    torc_net_open_config(net, rig, &clients);
    engine = net->clients[0];
    torc_net_await(net);
    for (uint32_t i = 0; i < VALUE_BYTES; i++) {
        value[i] = (uint8_t)(i * 7 + (i >> 10));
    }
}

static void open_node(uint64_t keys, uint32_t workers, uint32_t shards)
{
    open_node_with(keys, workers, shards, 64, 0);
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

// Steps until the one operation in flight has ended.
static enum torc_err finish(enum torc_err accepted)
{
    uint32_t count = 0;

    if (accepted != TORC_ERR_OK) {
        return accepted;
    }
    for (uint32_t i = 0; i < 2000000 && count == 0; i++) {
        torc_net_step(net, STEP_NS);
        count = torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    return done.status;
}

static enum torc_err put_if(uint64_t key, uint64_t bytes, uint32_t condition, uint64_t version)
{
    struct torc_engine_write write = {
        .key = key, .data = value, .bytes = bytes, .condition = condition, .version = version};

    return finish(torc_engine_write(engine, &write, NULL));
}

static enum torc_err put(uint64_t key, uint64_t bytes)
{
    return put_if(key, bytes, TORC_ALWAYS, 0);
}

static enum torc_err get(uint64_t key)
{
    return finish(torc_engine_get(engine, key, NULL, 0, NULL));
}

static enum torc_err delete_if(uint64_t key, uint32_t condition, uint64_t version)
{
    struct torc_engine_write write = {
        .key = key, .is_delete = true, .condition = condition, .version = version};

    return finish(torc_engine_write(engine, &write, NULL));
}

static enum torc_err range(uint64_t lo, uint64_t hi, uint32_t flags, uint64_t limit)
{
    struct torc_engine_range request = {
        .lo = lo, .hi = hi, .options = {.flags = flags, .limit = limit}};

    return finish(torc_engine_range(engine, &request, NULL));
}

static enum torc_err count(uint64_t lo, uint64_t hi)
{
    struct torc_engine_range request = {.lo = lo, .hi = hi, .count_only = true};

    return finish(torc_engine_range(engine, &request, NULL));
}

// ---- Point operations

static void test_points(void)
{
    uint64_t version;

    open_node(KEYS, 2, 4);
    CU_ASSERT_EQUAL(get(42), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(put(42, 9), TORC_ERR_OK);
    version = done.version;
    CU_ASSERT(version != 0);
    CU_ASSERT_EQUAL(get(42), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.version, version);
    CU_ASSERT_EQUAL_FATAL(done.bytes, 9);
    CU_ASSERT_EQUAL(memcmp(done.data, value, 9), 0);
    CU_ASSERT_EQUAL(put(43, 0), TORC_ERR_OK);
    CU_ASSERT_EQUAL(get(43), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.bytes, 0);
    CU_ASSERT_PTR_NOT_NULL(done.data);
    CU_ASSERT_EQUAL(delete_if(43, TORC_ALWAYS, 0), TORC_ERR_OK);
    CU_ASSERT_EQUAL(delete_if(43, TORC_ALWAYS, 0), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(put(KEYS - 1, 1), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(0, 1), TORC_ERR_OK);
    close_node();
}

static void test_conditions(void)
{
    uint64_t version;

    open_node(KEYS, 1, 4);
    CU_ASSERT_EQUAL(put_if(7, 3, TORC_IF_PRESENT, 0), TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(done.version, 0);
    CU_ASSERT_EQUAL(put_if(7, 3, TORC_IF_ABSENT, 0), TORC_ERR_OK);
    version = done.version;
    CU_ASSERT_EQUAL(put_if(7, 4, TORC_IF_ABSENT, 0), TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(done.version, version);
    CU_ASSERT_EQUAL(put_if(7, 4, TORC_IF_VERSION, version + 1), TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(put_if(7, 4, TORC_IF_VERSION, version), TORC_ERR_OK);
    CU_ASSERT(done.version > version);
    CU_ASSERT_EQUAL(delete_if(7, TORC_IF_VERSION, version), TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(delete_if(7, TORC_IF_VERSION, done.version), TORC_ERR_OK);
    CU_ASSERT_EQUAL(get(7), TORC_ERR_NOT_FOUND);
    close_node();
}

static void check_large(uint64_t key, uint64_t bytes)
{
    CU_ASSERT_EQUAL_FATAL(put(key, bytes), TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(get(key), TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(done.bytes, bytes);
    CU_ASSERT_EQUAL(memcmp(done.data, value, bytes), 0);
}

static void test_large_values(void)
{
    open_node(KEYS, 1, 1);
    check_large(1, 1300);
    check_large(2, 1424);
    check_large(3, 1500);
    check_large(4, 20000);
    check_large(5, VALUE_BYTES);
    CU_ASSERT_EQUAL(put(6, VALUE_BYTES + 1), TORC_ERR_TOO_LARGE);
    // Rows too large for a chunk are fetched by themselves.
    CU_ASSERT_EQUAL_FATAL(range(1, 5, 0, 0), TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(done.count, 4);
    for (uint64_t i = 0; i < 4; i++) {
        static const uint64_t bytes[] = {1300, 1424, 1500, 20000};

        CU_ASSERT_EQUAL(done.rows[i].key, i + 1);
        CU_ASSERT_EQUAL_FATAL(done.rows[i].bytes, bytes[i]);
        CU_ASSERT_EQUAL(memcmp(done.rows[i].data, value, bytes[i]), 0);
    }
    close_node();
}

enum {
    MANY = 20,
    MANY_BYTES = 100000
};

// Polls until all that is in flight has ended; all must end well, and a get with the value. The
// smallest packet size to the node meanwhile.
static uint32_t finish_all(void)
{
    uint32_t steps = 0;
    uint32_t payload = engine->nodes[0].payload;

    while (torc_engine_pending(engine) > 0 && steps++ < 1000000) {
        torc_net_step(net, STEP_NS);
        payload = (uint32_t)torc_min_u64(payload, engine->nodes[0].payload);
        while (torc_engine_poll(engine, &done, 1) == 1) {
            CU_ASSERT_EQUAL(done.status, TORC_ERR_OK);
            CU_ASSERT(done.data == NULL || done.bytes == MANY_BYTES);
            CU_ASSERT(done.data == NULL || memcmp(done.data, value, MANY_BYTES) == 0);
        }
    }
    CU_ASSERT_EQUAL(torc_engine_pending(engine), 0);
    return payload;
}

static void test_many_large_values(void)
{
    struct torc_engine_write write = {.data = value, .bytes = MANY_BYTES};
    struct torc_counters counters;

    open_node(KEYS, 1, 4);
    for (write.key = 0; write.key < MANY; write.key++) {
        CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    }
    finish_all();
    for (uint64_t key = 0; key < MANY; key++) {
        CU_ASSERT_EQUAL(torc_engine_get(engine, key, NULL, 0, NULL), TORC_ERR_OK);
    }
    finish_all();
    torc_engine_counters(engine, &counters);
    CU_ASSERT_EQUAL(counters.resends_overtaken, 0);
    CU_ASSERT_EQUAL(counters.resends_timer, 0);
    close_node();
}

// Values in blocks that divide the queue's memory without a rest: taken to the last byte, it still
// has room for what sending them takes.
static void test_full_memory(void)
{
    struct torc_engine_write write = {.data = value, .bytes = 16384};
    enum torc_err err = TORC_ERR_OK;
    uint32_t ended = 0;

    open_node_with(KEYS, 1, 4, 512, UINT64_C(4) << 20);
    while (err == TORC_ERR_OK) {
        err = torc_engine_write(engine, &write, NULL);
        write.key += err == TORC_ERR_OK ? 1 : 0;
    }
    CU_ASSERT_EQUAL(err, TORC_ERR_LIMIT);
    CU_ASSERT(write.key > 240 && write.key < 512);
    CU_ASSERT(engine->pool.free_bytes < write.bytes);
    for (uint32_t i = 0; i < 200000 && ended < write.key; i++) {
        torc_net_step(net, STEP_NS);
        while (torc_engine_poll(engine, &done, 1) == 1) {
            CU_ASSERT_EQUAL(done.status, TORC_ERR_OK);
            ended++;
        }
    }
    CU_ASSERT_EQUAL(ended, write.key);
    close_node();
}

// False: two probes and their answers were lost by chance (docs/decisions/0019), so the size fell
// and the values under way began again in smaller pieces.
static bool many_once(const char *what, const struct torc_net_faults *faults, uint64_t percent_max,
                      uint32_t turn)
{
    struct torc_engine_write write = {.data = value, .bytes = MANY_BYTES};
    uint32_t payload;
    uint64_t needed;
    uint64_t began_ns;
    bool stayed;

    open_node(KEYS, 1, 4);
    for (uint32_t i = 0; i < 5000; i++) {
        torc_net_step(net, STEP_NS); // the packet size is found
    }
    net->faults = *faults;
    net->rng.state ^= turn; // other packets are lost
    payload = engine->nodes[0].payload;
    // Whole ones: the rests of the values are small.
    needed = (uint64_t)MANY * (MANY_BYTES / ((payload - TORC_DATA_OVERHEAD - 120u) & ~7u));
    net->sent_large = 0;
    began_ns = rig->now_ns;
    for (write.key = 0; write.key < MANY; write.key++) {
        CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    }
    stayed = finish_all() >= payload;
    (void)printf("    %s: %" PRIu64 " pieces sent, %" PRIu64 " needed, %" PRIu64 " ms%s\n", what,
                 net->sent_large, needed, (rig->now_ns - began_ns) / 1000000,
                 stayed ? "" : "; the packet size fell");
    CU_ASSERT(net->sent_large >= needed);
    CU_ASSERT(!stayed || net->sent_large * 100 <= needed * percent_max);
    close_node();
    return stayed;
}

// A node that is often elsewhere has the pieces in its queue: sent again they only make it longer.
// Prints pieces sent and needed.
static void many_on_faults(const char *what, const struct torc_net_faults *faults,
                           uint64_t percent_max)
{
    uint32_t turns = faults->loss_ppm > 0 ? 4 : 1; // a fall is one run in 1000
    bool stayed = false;

    for (uint32_t turn = 0; turn < turns && !stayed; turn++) {
        stayed = many_once(what, faults, percent_max, turn);
    }
    CU_ASSERT(stayed);
}

static void test_many_on_a_busy_node(void)
{
    struct torc_net_faults quiet = {0};
    struct torc_net_faults losing = {.loss_ppm = 20000};
    struct torc_net_faults often = {.sleep_every_ns = 3000000, .sleep_max_ns = 20000000};
    struct torc_net_faults seldom = {.sleep_every_ns = 3000000, .sleep_max_ns = 100000000};
    struct torc_net_faults mixed = {
        .delay_max_ns = 50000, .sleep_every_ns = 3000000, .sleep_max_ns = 100000000};
    struct torc_net_faults lossy = {
        .loss_ppm = 20000, .sleep_every_ns = 3000000, .sleep_max_ns = 50000000};

    // Where packets get lost, chance decides: 101 to 105 for seeds 1 to 7, and 108.8 once. A timer
    // gone wrong sends 130 to 170.
    many_on_faults("a quiet node", &quiet, 100);
    many_on_faults("a quiet node, 2 % of packets lost", &losing, 120);
    many_on_faults("away up to 20 ms", &often, 100);
    many_on_faults("away up to 100 ms", &seldom, 100);
    many_on_faults("away up to 100 ms, packets out of order", &mixed, 120);
    many_on_faults("away up to 50 ms, 2 % of packets lost", &lossy, 120);
}

// What is told of one packet is told of its piece, not of the value.
static void test_shed_piece(void)
{
    struct torc_engine_write write = {.key = 7, .data = value, .bytes = MANY_BYTES};
    struct torc_shed_news news = {.status = TORC_ERR_BUSY, .retry_us = 3000};
    struct torc_list *list;
    uint64_t needed;
    uint32_t stream;

    open_node(KEYS, 1, 1);
    for (uint32_t i = 0; i < 5000; i++) {
        torc_net_step(net, STEP_NS);
    }
    needed = MANY_BYTES / ((engine->nodes[0].payload - TORC_DATA_OVERHEAD - 120u) & ~7u);
    net->sent_large = 0;
    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    torc_net_step(net, STEP_NS);
    list = &engine->nodes[0].paths[0].packets[1];
    CU_ASSERT_EQUAL_FATAL(list->count, 17);
    stream = engine->packets[list->head].stream;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t piece = engine->packets[list->tail].piece;

        free(net->flight[--net->flight_count].bytes); // the newest, as the packet
        torc_packet_end(engine, list->tail);
        torc_big_shed(engine, stream, piece, &news);
    }
    finish_all();
    CU_ASSERT_EQUAL(net->sent_large, needed + 3);
    CU_ASSERT_EQUAL(engine->ops[stream].attempts, 1);
    close_node();
}

// Begins a put whose first pieces are on their way; its index.
static uint32_t begin_large(void)
{
    struct torc_engine_write write = {.key = 7, .data = value, .bytes = MANY_BYTES};

    for (uint32_t i = 0; i < 5000; i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    torc_net_step(net, STEP_NS);
    CU_ASSERT_EQUAL_FATAL(engine->nodes[0].paths[0].packets[1].count, 17);
    return engine->packets[engine->nodes[0].paths[0].packets[1].head].stream;
}

// The node has the PUT, and whatever it says of a piece or a question, it may execute it (K2).
static void test_refused_piece(void)
{
    struct torc_reply late = {.opcode = TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT,
                              .status = TORC_ERR_DEADLINE};
    struct torc_shed_news news = {.status = TORC_ERR_FORBIDDEN};
    uint32_t stream;

    open_node(KEYS, 1, 1);
    stream = begin_large();
    engine->reply_clock_us = (uint32_t)(engine->now_ns / 1000);
    torc_big_reply(engine, stream, &late);
    CU_ASSERT_EQUAL(torc_engine_poll(engine, &done, 1), 0);
    CU_ASSERT_EQUAL(engine->ops[stream].refused[0], 0);
    finish_all();
    stream = begin_large();
    late.status = TORC_ERR_INVALID_ARGUMENT;
    engine->reply_clock_us = (uint32_t)(engine->now_ns / 1000);
    torc_big_reply(engine, stream, &late);
    CU_ASSERT_EQUAL(torc_engine_poll(engine, &done, 1), 0);
    finish_all();
    stream = begin_large();
    torc_big_shed(engine, stream, 3, &news);
    CU_ASSERT_EQUAL(torc_engine_poll(engine, &done, 1), 0);
    CU_ASSERT_EQUAL(engine->ops[stream].refused[0], 0);
    finish_all();
    stream = begin_large();
    torc_big_lost(engine, stream, 0); // and goes again, alone: not the PUT
    torc_net_step(net, STEP_NS);
    news.status = TORC_ERR_BUSY;
    torc_big_shed(engine, stream, 0, &news);
    CU_ASSERT_EQUAL(engine->ops[stream].refused[0], 0);
    finish_all();
    close_node();
}

static bool flies_large(void)
{
    bool large = false;

    for (uint32_t i = 0; i < net->flight_count; i++) {
        large = large || (net->flight[i].to_node && net->flight[i].byte_count > 1000);
    }
    return large;
}

// Steps until the operation at `index` was begun so often, and pieces of that attempt fly.
static void step_to_pieces(uint32_t index, uint32_t attempts)
{
    const struct torc_op *op = &engine->ops[index];
    uint32_t steps = 0;

    while (op->attempts < attempts && steps++ < 100000) {
        torc_net_step(net, STEP_NS);
    }
    do {
        torc_net_step(net, STEP_NS);
    } while (!flies_large() && steps++ < 100000);
    CU_ASSERT_EQUAL_FATAL(op->attempts, attempts);
    CU_ASSERT_FATAL(flies_large());
}

// The PUT of the attempt before, with pieces of another size, was held up on the way and comes
// behind the newer one: it has another op id, so that nobody mistakes its pieces.
static void test_overtaken_put(void)
{
    struct torc_engine_write write = {.key = 7, .data = value, .bytes = MANY_BYTES};
    struct torc_net_packet late;
    uint32_t stream;

    open_node(KEYS, 1, 1);
    for (uint32_t i = 0; i < 5000; i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    torc_net_step(net, STEP_NS);
    CU_ASSERT_EQUAL_FATAL(net->flight_count, 17);
    stream = engine->packets[engine->nodes[0].paths[0].packets[1].head].stream;
    late = net->flight[0];
    while (net->flight_count > 1) {
        free(net->flight[--net->flight_count].bytes);
    }
    net->flight_count = 0;
    engine->nodes[0].payload = TORC_PAYLOAD_MIN; // the path became narrower meanwhile
    step_to_pieces(stream, 2);
    net->flight[net->flight_count++] = net->flight[0];
    net->flight[0] = late;
    net->flight[0].at_ns = rig->now_ns;
    finish_all();
    CU_ASSERT_EQUAL(engine->ops[stream].attempts, 2);
    CU_ASSERT_EQUAL(get(7), TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(done.bytes, MANY_BYTES);
    CU_ASSERT_EQUAL(memcmp(done.data, value, MANY_BYTES), 0);
    close_node();
}

// NOLINTNEXTLINE(readability-non-const-parameter): the network's hook may change them
static bool lose_one(struct torc_net *of, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)bytes;
    if (!packet->to_node) {
        return true;
    }
    of->tamper = NULL;
    return false;
}

// Three later puts of the same shard prove that one was lost, and it goes again long before its
// time is over. Puts of another shard prove nothing: each shard answers in an order of its own.
static void test_lost_put(void)
{
    struct torc_engine_write write = {.key = 0, .data = value, .bytes = 8};
    struct torc_counters counters;

    open_node(KEYS, 1, 4);
    net->tamper = lose_one;
    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    while (net->tamper != NULL) {
        torc_net_step(net, STEP_NS);
    }
    for (uint64_t i = 1; i <= 5; i++) {
        CU_ASSERT_EQUAL(put(KEYS - i, 8), TORC_ERR_OK);
    }
    CU_ASSERT_EQUAL(put(1, 8), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(2, 8), TORC_ERR_OK);
    torc_engine_counters(engine, &counters);
    CU_ASSERT_EQUAL(counters.resends_overtaken, 0);
    CU_ASSERT_EQUAL(put(3, 8), TORC_ERR_OK);
    torc_engine_counters(engine, &counters);
    CU_ASSERT_EQUAL(counters.resends_overtaken, 1);
    CU_ASSERT_EQUAL(finish(TORC_ERR_OK), TORC_ERR_OK);
    torc_engine_counters(engine, &counters);
    CU_ASSERT_EQUAL(counters.resends_overtaken, 1);
    CU_ASSERT_EQUAL(counters.resends_timer, 0);
    CU_ASSERT_EQUAL(get(0), TORC_ERR_OK);
    close_node();
}

// The node's queue never empties, whatever the engine does: a stranger's gets fill it.
static void loaded_step(struct torc_rig_client *stranger)
{
    struct torc_request request = torc_rig_get(KEYS - 1);

    while (rig->in_count < 2 * TORC_TURN_RX_MAX) {
        (void)torc_rig_add(stranger, &request);
        (void)torc_rig_flush(rig, stranger, 0);
    }
    torc_net_step(net, TORC_TURN_RX_MAX * UINT64_C(16000)); // so that shares are small
}

// Writes, small and large, of which packets are shed for their share: each is done, and once.
static void test_loaded_node(void)
{
    struct torc_rig_client *stranger = calloc(1, sizeof(*stranger));
    struct torc_engine_write write = {.data = value, .condition = TORC_IF_ABSENT};
    struct torc_counters counters;
    uint32_t ended = 0;

    CU_ASSERT_FATAL(stranger != NULL);
    open_node(KEYS, 1, 1);
    torc_rig_connect(rig, stranger, 4000);
    for (uint32_t i = 0; i < 150; i++) {
        loaded_step(stranger);
    }
    for (write.key = 0; write.key < MANY; write.key++) {
        write.bytes = write.key % 2 == 0 ? MANY_BYTES : 1400;
        CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    }
    for (uint32_t i = 0; i < 100000 && ended < MANY; i++) {
        loaded_step(stranger);
        while (torc_engine_poll(engine, &done, 1) == 1) {
            CU_ASSERT_EQUAL(done.status, TORC_ERR_OK);
            ended++;
        }
    }
    CU_ASSERT_EQUAL(ended, MANY);
    torc_engine_counters(engine, &counters);
    CU_ASSERT(counters.resends_refused > 0);
    for (uint64_t key = 0; key < MANY; key++) {
        CU_ASSERT_EQUAL(get(key), TORC_ERR_OK);
        CU_ASSERT_EQUAL_FATAL(done.bytes, key % 2 == 0 ? MANY_BYTES : 1400);
        CU_ASSERT_EQUAL(memcmp(done.data, value, done.bytes), 0);
    }
    close_node();
    free(stranger);
}

// ---- Ranges

static void check_rows(uint64_t first, int64_t step, uint64_t rows, uint32_t flags)
{
    CU_ASSERT_EQUAL_FATAL(done.count, rows);
    CU_ASSERT_EQUAL((done.flags & TORC_MORE) != 0, (flags & TORC_MORE) != 0);
    for (uint64_t i = 0; i < rows; i++) {
        CU_ASSERT_EQUAL(done.rows[i].key, first + (uint64_t)((int64_t)i * step));
    }
}

static void test_ranges(void)
{
    open_node(1000, 2, 8);
    CU_ASSERT_EQUAL(range(0, 1000, 0, 0), TORC_ERR_OK);
    check_rows(0, 1, 0, 0);
    CU_ASSERT_EQUAL(count(0, 1000), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.count, 0);
    for (uint64_t key = 0; key < 1000; key += 10) {
        CU_ASSERT_EQUAL_FATAL(put(key, key % 50), TORC_ERR_OK);
    }
    CU_ASSERT_EQUAL(range(0, 1000, 0, 0), TORC_ERR_OK);
    check_rows(0, 10, 100, 0);
    CU_ASSERT_EQUAL(range(0, 1000, TORC_REVERSE, 0), TORC_ERR_OK);
    check_rows(990, -10, 100, 0);
    CU_ASSERT_EQUAL(range(105, 305, 0, 7), TORC_ERR_OK);
    check_rows(110, 10, 7, TORC_MORE);
    CU_ASSERT_EQUAL(done.next_lo, 171);
    CU_ASSERT_EQUAL(done.next_hi, 305);
    CU_ASSERT_EQUAL(done.flags & TORC_TRUNCATED, 0);
    CU_ASSERT_EQUAL(range(0, 1000, TORC_REVERSE, 1), TORC_ERR_OK);
    check_rows(990, -10, 1, TORC_MORE);
    CU_ASSERT_EQUAL(done.next_lo, 0);
    CU_ASSERT_EQUAL(done.next_hi, 990);
    CU_ASSERT_EQUAL(range(0, 11, TORC_REVERSE, 1), TORC_ERR_OK);
    check_rows(10, -10, 1, TORC_MORE);
    CU_ASSERT_EQUAL(range(500, 500, 0, 0), TORC_ERR_OK);
    check_rows(0, 1, 0, 0);
    CU_ASSERT_EQUAL(range(1000, 1000, 0, 0), TORC_ERR_OK);
    CU_ASSERT_EQUAL(count(0, 1000), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.count, 100);
    CU_ASSERT_EQUAL(count(101, 201), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.count, 10);
    close_node();
}

static void test_range_options(void)
{
    struct torc_engine_range request = {.lo = 0, .hi = 1000, .options = {.bytes = 400}};

    open_node(1000, 1, 4);
    for (uint64_t key = 0; key < 1000; key += 10) {
        CU_ASSERT_EQUAL_FATAL(put(key, 20), TORC_ERR_OK);
    }
    CU_ASSERT_EQUAL(finish(torc_engine_range(engine, &request, NULL)), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.flags, TORC_MORE | TORC_TRUNCATED);
    CU_ASSERT_EQUAL(done.count, 8); // the least number of rows of 52 bytes that makes 400
    CU_ASSERT_EQUAL(range(0, 100, TORC_KEYS_ONLY, 0), TORC_ERR_OK);
    check_rows(0, 10, 10, 0);
    CU_ASSERT_PTR_NULL(done.rows[0].data);
    CU_ASSERT_EQUAL(range(0, 100, TORC_WITH_VERSIONS, 0), TORC_ERR_OK);
    check_rows(0, 10, 10, 0);
    CU_ASSERT(done.rows[0].version != 0);
    CU_ASSERT(done.rows[1].version > done.rows[0].version);
    request.options = (struct torc_range_options){.consistency = TORC_SNAPSHOT};
    CU_ASSERT_EQUAL(finish(torc_engine_range(engine, &request, NULL)), TORC_ERR_OK);
    check_rows(0, 10, 100, 0);
    CU_ASSERT(done.version != 0);
    request.options.timestamp = 1; // 1970
    CU_ASSERT_EQUAL(finish(torc_engine_range(engine, &request, NULL)), TORC_ERR_SNAPSHOT_TOO_OLD);
    request.options.consistency = TORC_SHARD;
    CU_ASSERT_EQUAL(torc_engine_range(engine, &request, NULL), TORC_ERR_INVALID_ARGUMENT);
    close_node();
}

// ---- Arguments

static void check_refused(enum torc_err err, enum torc_err wanted, const struct torc_fail *why,
                          const char *word)
{
    CU_ASSERT_EQUAL(err, wanted);
    CU_ASSERT_PTR_NOT_NULL(strstr(why->text, word));
    CU_ASSERT_EQUAL(torc_engine_pending(engine), 0);
}

static void test_arguments(void)
{
    struct torc_fail why = {.err = TORC_ERR_OK};
    struct torc_read_options read = {.flags = 4};
    struct torc_engine_range request = {.lo = 10, .hi = 5};
    struct torc_engine_write write = {.key = 5, .is_delete = true, .condition = TORC_IF_ABSENT};

    open_node(1000, 1, 1);
    check_refused(torc_engine_get(engine, 1000, NULL, 0, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "1000");
    check_refused(torc_engine_get(engine, 1, &read, 0, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "0x4");
    check_refused(torc_engine_range(engine, &request, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "[10, 5)");
    request = (struct torc_engine_range){.lo = 10, .hi = 1001};
    check_refused(torc_engine_range(engine, &request, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "1001");
    request = (struct torc_engine_range){.hi = 1, .options = {.flags = 64}};
    check_refused(torc_engine_range(engine, &request, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "0x40");
    check_refused(torc_engine_write(engine, &write, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "delete");
    write = (struct torc_engine_write){.key = 5, .bytes = 3};
    check_refused(torc_engine_write(engine, &write, &why), TORC_ERR_INVALID_ARGUMENT, &why, "NULL");
    write = (struct torc_engine_write){.key = 5, .data = value, .bytes = VALUE_BYTES + 1};
    check_refused(torc_engine_write(engine, &write, &why), TORC_ERR_TOO_LARGE, &why, "1048577");
    check_refused(torc_engine_status(engine, 77, 0, 0, &why), TORC_ERR_INVALID_ARGUMENT, &why,
                  "77");
    close_node();
}

static void check_width(uint64_t keys)
{
    open_node(keys, 1, 1);
    CU_ASSERT_EQUAL(put(keys - 1, 5), TORC_ERR_OK);
    CU_ASSERT_EQUAL(get(keys - 1), TORC_ERR_OK);
    CU_ASSERT_EQUAL(range(0, keys, TORC_REVERSE, 1), TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(done.count, 1);
    CU_ASSERT_EQUAL(done.rows[0].key, keys - 1);
    CU_ASSERT_EQUAL(get(keys), TORC_ERR_INVALID_ARGUMENT);
    close_node();
}

static void test_widths(void)
{
    check_width(1);
    check_width(UINT64_MAX);
}

// ---- Values over a packet, of a moment that is gone

// A page of [lo, hi) is asked for; the value of its row-th row is gone as of the chunk.
static void range_cut(uint64_t lo, uint64_t hi, uint32_t flags, uint32_t row)
{
    struct torc_engine_range request = {.lo = lo, .hi = hi, .options = {.flags = flags}};
    uint32_t fetch = TORC_OP_NONE;

    CU_ASSERT_EQUAL_FATAL(torc_engine_range(engine, &request, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 10000 && fetch == TORC_OP_NONE; i++) {
        torc_net_step(net, STEP_NS);
        for (uint32_t at = 0; at < engine->op_count; at++) {
            const struct torc_op *op = &engine->ops[at];

            if (op->state != TORC_OP_FREE && op->kind == TORC_OP_GET &&
                op->parent != TORC_OP_NONE && op->part == row) {
                fetch = at;
            }
        }
    }
    CU_ASSERT_FATAL(fetch != TORC_OP_NONE);
    CU_ASSERT(engine->ops[fetch].ts != 0);
    torc_op_end(engine, fetch, TORC_ERR_SNAPSHOT_TOO_OLD, NULL);
    CU_ASSERT_EQUAL_FATAL(finish(TORC_ERR_OK), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.flags & TORC_TRUNCATED, TORC_TRUNCATED);
}

static void check_page(uint64_t rows, uint64_t next_lo, uint64_t next_hi)
{
    CU_ASSERT_EQUAL(done.count, rows);
    CU_ASSERT_EQUAL(done.next_lo, next_lo);
    CU_ASSERT_EQUAL(done.next_hi, next_hi);
}

static void test_cut_pages(void)
{
    open_node(KEYS, 1, 1);
    CU_ASSERT_EQUAL(put(10, 10), TORC_ERR_OK);
    for (uint64_t key = 20; key <= 40; key += 10) {
        CU_ASSERT_EQUAL(put(key, 3000), TORC_ERR_OK);
    }
    range_cut(5, 100, 0, 2); // before it
    check_page(2, 30, 100);
    CU_ASSERT_EQUAL(done.rows[1].bytes, 3000);
    range_cut(25, 100, 0, 0);
    check_page(0, 30, 100);
    range_cut(30, 100, 0, 0); // there is nothing before it: as it is now
    check_page(1, 31, 100);
    CU_ASSERT_EQUAL(done.rows[0].bytes, 3000);
    range_cut(5, 100, TORC_REVERSE, 2);
    check_page(2, 5, 21);
    range_cut(5, 100, TORC_REVERSE, 0);
    check_page(0, 5, 41);
    range_cut(5, 41, TORC_REVERSE, 0);
    check_page(1, 5, 40);
    close_node();
}

// ---- The cluster

static void test_status(void)
{
    struct torc_limits limits;
    struct torc_shard shards[8];

    open_node(KEYS, 2, 4);
    CU_ASSERT_EQUAL(finish(torc_engine_status(engine, 0, 0, 0, NULL)), TORC_ERR_OK);
    CU_ASSERT(done.bytes > 100);
    CU_ASSERT_EQUAL(memcmp(done.data, "node ", 5), 0);
    torc_engine_limits(engine, &limits);
    CU_ASSERT_EQUAL(limits.keys, KEYS);
    CU_ASSERT_EQUAL(limits.cores, 2);
    CU_ASSERT_EQUAL(limits.shards, 4);
    CU_ASSERT(limits.packet_bytes > 1200); // the probe went through
    CU_ASSERT_EQUAL_FATAL(torc_engine_shards(engine, shards, 8), 4);
    CU_ASSERT_EQUAL(shards[0].lo, 0);
    CU_ASSERT_EQUAL(shards[3].hi, KEYS);
    CU_ASSERT_EQUAL(shards[1].lo, shards[0].hi);
    close_node();
}

static void test_restart(void)
{
    open_node(KEYS, 1, 2);
    CU_ASSERT_EQUAL(put(5, 100), TORC_ERR_OK);
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.bytes, 100);
    CU_ASSERT_EQUAL(put(6, 100), TORC_ERR_OK);
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    CU_ASSERT_EQUAL(put(6, 101), TORC_ERR_OK);
    close_node();
}

// The machine's clock was set right, an hour back, while the node was down: what it was told and
// stamped before is no reason to refuse what comes now.
static void test_restart_with_the_clock_set_back(void)
{
    open_node(KEYS, 1, 2);
    CU_ASSERT_EQUAL(put(5, 100), TORC_ERR_OK);
    torc_rig_crash(rig);
    rig->wall_us -= UINT64_C(3600000000);
    torc_rig_recover(rig);
    for (uint32_t i = 0; i < 10; i++) {
        CU_ASSERT_EQUAL(put(6, 100 + i), TORC_ERR_OK);
        CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
        for (uint32_t step = 0; step < 500; step++) { // 5 s
            torc_net_step(net, 10000000);
        }
    }
    close_node();
}

// What is ready goes in the turn in which it is ready, alone or with others; the answers of a
// burst share packets too.
static void test_batches(void)
{
    enum {
        TOGETHER = 40
    };
    uint8_t payload[TORC_ENGINE_PAYLOAD_MAX];
    struct torc_datagram datagram = {.payload = payload};
    uint64_t sent;

    open_node(KEYS, 1, 1);
    for (uint64_t key = 0; key < TOGETHER; key++) {
        CU_ASSERT_EQUAL(put(key, 8), TORC_ERR_OK);
    }
    for (uint32_t i = 0; i < 5000; i++) {
        torc_net_step(net, STEP_NS); // the packet size is found
    }
    sent = net->sent;
    for (uint64_t key = 0; key < TOGETHER; key++) {
        CU_ASSERT_EQUAL(torc_engine_get(engine, key, NULL, 0, NULL), TORC_ERR_OK);
    }
    for (uint32_t done_count = 0, steps = 0; done_count < TOGETHER && steps < 1000; steps++) {
        torc_net_step(net, STEP_NS);
        done_count += torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(torc_engine_pending(engine), 0);
    CU_ASSERT_EQUAL(net->sent, sent + 2); // one packet there, one back
    CU_ASSERT_FALSE(torc_engine_transmit(engine, &datagram));
    CU_ASSERT_EQUAL(torc_engine_get(engine, 1, NULL, 0, NULL), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_engine_transmit(engine, &datagram)); // no time passed, no other came
    CU_ASSERT_EQUAL(datagram.bytes, TORC_DATA_OVERHEAD + 24);
    CU_ASSERT_FALSE(torc_engine_transmit(engine, &datagram));
    close_node();
}

static void test_silence(void)
{
    struct torc_read_options read = {.timeout_us = 50000};
    struct torc_engine_write write = {.key = 9, .data = value, .bytes = 9, .timeout_us = 50000};

    open_node(KEYS, 1, 1);
    net->cut = true;
    CU_ASSERT_EQUAL(finish(torc_engine_get(engine, 9, &read, 0, NULL)), TORC_ERR_DEADLINE);
    CU_ASSERT_EQUAL(finish(torc_engine_write(engine, &write, NULL)), TORC_ERR_IN_DOUBT);
    CU_ASSERT_EQUAL(done.flags, TORC_DOUBT);
    net->cut = false;
    CU_ASSERT_EQUAL(put(9, 10), TORC_ERR_OK);
    close_node();
}

// What is refused for good comes back at once, with its reason; what may pass is tried until the
// end.
static void test_full_disk(void)
{
    struct torc_engine_write write = {
        .key = 9, .data = value, .bytes = 200000, .timeout_us = 400000};
    uint32_t writes = 0;
    enum torc_err err = TORC_ERR_OK;

    open_node(KEYS, 1, 1);
    CU_ASSERT_EQUAL(put(1, 10), TORC_ERR_OK);
    rig->controls[0].disk_full = true;
    for (; writes < 2000 && err == TORC_ERR_OK; writes++) {
        err = finish(torc_engine_write(engine, &write, NULL));
    }
    CU_ASSERT_EQUAL(err, TORC_ERR_NO_SPACE);
    CU_ASSERT_PTR_NOT_NULL(strstr(done.text, "disk"));
    CU_ASSERT_EQUAL(get(1), TORC_ERR_OK);
    rig->controls[0].disk_full = false;
    CU_ASSERT_EQUAL(put(2, 10), TORC_ERR_OK);
    close_node();
}

// While `holding`, no answer of the node arrives; the first is kept.
static uint8_t held[SESSION_PACKET_BYTES];
static struct torc_net_packet held_packet;
static bool holding;

static bool hold_answer(struct torc_net *from, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)from;
    if (!holding || packet->to_node) {
        return true;
    }
    if (held_packet.byte_count == 0 && packet->byte_count <= sizeof(held)) {
        held_packet = *packet;
        memcpy(held, bytes, packet->byte_count);
    }
    return false;
}

// A write that was refused is not sent so late that an answer which takes a little longer leaves it
// in doubt; nor one that waited in its queue meanwhile.
static void test_refused_to_the_end(void)
{
    struct torc_engine_write write = {.key = 9, .data = value, .bytes = 9, .timeout_us = 400000};
    uint32_t count = 0;

    open_node(KEYS, 1, 1);
    net->tamper = hold_answer;
    rig->controls[0].disk_full = true;
    for (uint64_t bytes = 200000; bytes != 0; bytes = bytes > 9 ? 9 : 0) {
        while (put(2, bytes) == TORC_ERR_OK) {
            CU_ASSERT_FATAL(++count < 10000);
        }
    }
    for (uint32_t round = 0; round < 20; round++) {
        uint64_t last_ns = rig->now_ns + write.timeout_us * 1000 - 1000000;

        for (uint32_t i = 0; i < 40; i++) {
            CU_ASSERT_EQUAL_FATAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
        }
        while (rig->now_ns < last_ns) {
            if (round % 2 == 1 && rig->now_ns > last_ns - 100000000) {
                engine->nodes[0].pace_until_ns = last_ns;
            }
            torc_net_step(net, STEP_NS);
        }
        holding = true;
        for (uint32_t i = 0; i < 40; i++) {
            CU_ASSERT_EQUAL(finish(TORC_ERR_OK), TORC_ERR_NO_SPACE);
        }
        holding = false;
    }
    close_node();
}

// The clock of a shard answers when its question was given up and has not gone out again.
static void test_late_clock(void)
{
    struct torc_engine_range range = {
        .lo = 0, .hi = KEYS, .options = {.consistency = TORC_SNAPSHOT}};
    struct torc_endpoint from = {0};

    open_node(KEYS, 1, 2);
    CU_ASSERT_EQUAL(put(1, 10), TORC_ERR_OK);
    memset(&held_packet, 0, sizeof(held_packet));
    net->tamper = hold_answer;
    holding = true;
    CU_ASSERT_EQUAL_FATAL(torc_engine_range(engine, &range, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 1000 && held_packet.byte_count == 0; i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_FATAL(held_packet.byte_count > 0);
    holding = false;
    rig->now_ns += 100 * UINT64_C(1000000);
    rig->wall_us += 100 * UINT64_C(1000);
    torc_engine_clock(engine, rig->now_ns, rig->wall_us); // its timer runs; nothing is sent
    torc_ip_map(from.address, rig->ipv4);
    from.port = held_packet.node_port;
    torc_engine_receive(engine, &from, held, held_packet.byte_count);
    CU_ASSERT_EQUAL(finish(TORC_ERR_OK), TORC_ERR_OK);
    CU_ASSERT_EQUAL(done.count, 1);
    close_node();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"what is put is got", test_points},
        {"conditions hold, and say the present version", test_conditions},
        {"values over a packet go and come in pieces", test_large_values},
        {"many of them at once", test_many_large_values},
        {"as many as the queue's memory holds", test_full_memory},
        {"and a busy node gets no piece twice", test_many_on_a_busy_node},
        {"a shed piece alone goes again", test_shed_piece},
        {"a refused piece refuses no write", test_refused_piece},
        {"an earlier PUT that comes late does not end it", test_overtaken_put},
        {"a put that is lost goes again when later ones of its shard were done", test_lost_put},
        {"under load each write is done, and once", test_loaded_node},
        {"ranges are in order, with limits, both ways", test_ranges},
        {"pages end at their bytes; keys alone; versions", test_range_options},
        {"arguments out of range are refused by name", test_arguments},
        {"the least and the greatest key space", test_widths},
        {"a page ends where its moment is gone", test_cut_pages},
        {"status, limits and shards are known", test_status},
        {"a node that comes back is found again", test_restart},
        {"a clock that was set back keeps nobody out", test_restart_with_the_clock_set_back},
        {"what is ready goes at once, together", test_batches},
        {"silence ends calls at their deadline", test_silence},
        {"a full disk is said, and reads go on", test_full_disk},
        {"a refused write is not in doubt at its end", test_refused_to_the_end},
        {"a clock that answers late is no lost packet", test_late_clock},
        CU_TEST_INFO_NULL};

    return torc_test_run("client", tests);
}
