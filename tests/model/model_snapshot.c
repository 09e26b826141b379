// Torc tests: snapshots of several shards and cores, by client engines over a network that loses
// packets, while others write.
//
// One client writes rounds: the round's number to every key, one key after the other, over all
// shards and back and forth between them; some of them large values, some of them as a delete. So
// at any moment the keys, in the order of writing, hold the present round up to somewhere and the
// one before from there on: whatever else a snapshot shows is none. Another client reads ranges as
// snapshots, forward, in reverse, counted, page by page; each must be such a moment, and not one
// before it was asked for. Two sibling runs must be found out: ranges of `shard` consistency, and
// pages that do not go on at their timestamp.
// A few keys in one shard, which one chunk holds, are read with `shard` consistency: each page is
// one moment, with the large values that are read behind the chunk.
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define SNAPSHOTS 2000
#else
#define SNAPSHOTS 8000
#endif

enum {
    KEYS = 160,
    KEYS_FEW = 12,
    SHARDS = 4,
    LARGE = 3000, // bytes: over a packet
    PAGES_MAX = 400
};

#define KEY_COUNT UINT64_C(1000000)
#define STEP_NS   UINT64_C(20000)

enum fault {
    FAULT_NONE,
    FAULT_SHARD,
    FAULT_PAGES
};

struct writer {
    uint64_t round;
    uint32_t at; // the key being written
    uint64_t acked[KEYS];
    bool busy;
};

struct reader {
    uint64_t seen[KEYS];     // rounds read; 0: no record
    uint64_t expected[KEYS]; // acknowledged when it began: not below that
    uint64_t from_round;
    uint64_t lo; // what was read of the key space
    uint64_t hi;
};

struct world {
    struct torc_rig rig;
    struct torc_net net;
    struct torc_rng rng;
    struct writer writer;
    struct reader reader;
    uint8_t value[LARGE];
    enum fault fault;
    uint32_t keys; // KEYS, or KEYS_FEW in one shard
    bool broken;
    uint64_t pages;
};

static struct world *world;

// Neighbours in the order of writing lie in different shards.
static uint64_t key_at(uint32_t index)
{
    return index % SHARDS * (KEY_COUNT / SHARDS) + UINT64_C(3) * (index / SHARDS);
}

static uint32_t index_of(uint64_t key)
{
    return (uint32_t)(key % (KEY_COUNT / SHARDS) / 3 * SHARDS + key / (KEY_COUNT / SHARDS));
}

static bool is_large(uint32_t index)
{
    return world->keys == KEYS ? index % 29 == 5 : index % 3 != 0;
}

// In round r, one key in seven is not there.
static bool is_deleted(uint32_t index, uint64_t round)
{
    return (index * UINT64_C(31) + round * 17) % 7 == 0;
}

// -- Writing --------------------------------------------------------------------------------------

static void writer_begin(void)
{
    struct writer *writer = &world->writer;
    struct torc_engine_write write = {.key = key_at(writer->at),
                                      .data = world->value,
                                      .bytes = is_large(writer->at) ? LARGE : 24,
                                      .is_delete = is_deleted(writer->at, writer->round)};
    enum torc_err err;

    if (write.is_delete) {
        write.bytes = 0;
    }
    memcpy(world->value, &writer->round, sizeof(writer->round));
    err = torc_engine_write(world->net.clients[0], &write, NULL);
    CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
    writer->busy = true;
}

static void writer_turn(void)
{
    struct writer *writer = &world->writer;
    struct torc_completion done;

    if (!writer->busy) {
        writer_begin();
    }
    if (torc_engine_poll(world->net.clients[0], &done, 1) == 0) {
        return;
    }
    CU_ASSERT_FATAL(done.status == TORC_ERR_OK ||
                    (done.status == TORC_ERR_NOT_FOUND && is_deleted(writer->at, writer->round)));
    writer->busy = false;
    writer->acked[writer->at] = writer->round;
    writer->at++;
    if (writer->at == world->keys) {
        writer->at = 0;
        writer->round++;
    }
}

// -- Reading --------------------------------------------------------------------------------------

// Steps, writes and all, until the reader's operation has ended.
static void reader_wait(struct torc_completion *done)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < 2000000 && count == 0; i++) {
        writer_turn();
        torc_net_step(&world->net, STEP_NS);
        count = torc_engine_poll(world->net.clients[1], done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    CU_ASSERT_EQUAL_FATAL(done->status, TORC_ERR_OK);
}

static void reader_begin(void)
{
    memset(world->reader.seen, 0, sizeof(world->reader.seen));
    memcpy(world->reader.expected, world->writer.acked, sizeof(world->reader.expected));
    world->reader.from_round = world->writer.round;
    world->reader.lo = 0;
    world->reader.hi = KEY_COUNT;
}

static void reader_take(const struct torc_completion *done)
{
    for (uint64_t i = 0; i < done->count; i++) {
        const struct torc_row *row = &done->rows[i];

        CU_ASSERT_FATAL(row->bytes == (is_large(index_of(row->key)) ? LARGE : 24));
        memcpy(&world->reader.seen[index_of(row->key)], row->data, sizeof(uint64_t));
    }
    world->pages++;
}

static struct torc_engine_range reader_range(uint32_t flags)
{
    bool snapshot = world->fault != FAULT_SHARD && world->keys == KEYS;

    return (struct torc_engine_range){
        .lo = 0,
        .hi = KEY_COUNT,
        .options = {.flags = flags, .consistency = snapshot ? TORC_SNAPSHOT : TORC_SHARD}};
}

// Whether the keys that were read hold `round` up to the `at`-th, from there on the one before.
static bool is_moment(uint64_t round, uint32_t at)
{
    for (uint32_t i = 0; i < world->keys; i++) {
        uint64_t written = i < at ? round : round - 1;
        uint64_t held = written == 0 || is_deleted(i, written) ? 0 : written;

        if (key_at(i) < world->reader.lo || key_at(i) >= world->reader.hi) {
            continue;
        }
        if (world->reader.seen[i] != held || written < world->reader.expected[i]) {
            return false;
        }
    }
    return true;
}

static void reader_check(void)
{
    for (uint64_t round = world->reader.from_round; round <= world->writer.round; round++) {
        for (uint32_t at = 0; at <= world->keys; at++) {
            if (is_moment(round, at)) {
                return;
            }
        }
    }
    world->broken = true;
}

// The whole key space in pages.
static void reader_scan(uint32_t flags, uint64_t limit)
{
    struct torc_engine_range range = reader_range(flags);
    struct torc_completion done;
    enum torc_err err;

    range.options.limit = limit;
    for (uint32_t i = 0; i < PAGES_MAX; i++) {
        if (range.options.consistency == TORC_SHARD && world->fault == FAULT_NONE) {
            reader_begin(); // each page is another moment
        }
        err = torc_engine_range(world->net.clients[1], &range, NULL);
        CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
        reader_wait(&done);
        reader_take(&done);
        if (range.options.consistency == TORC_SHARD && world->fault == FAULT_NONE) {
            world->reader.lo = (flags & TORC_REVERSE) != 0 ? done.next_hi : range.lo;
            world->reader.hi = (flags & TORC_REVERSE) != 0 ? range.hi : done.next_lo;
            reader_check();
        }
        range.lo = done.next_lo;
        range.hi = done.next_hi;
        if (range.options.consistency == TORC_SNAPSHOT && world->fault == FAULT_NONE) {
            CU_ASSERT_FATAL(done.version != 0);
            range.options.timestamp = done.version;
        }
        if ((done.flags & TORC_MORE) == 0) {
            return;
        }
    }
    CU_ASSERT_FATAL(false); // it does not end
}

static uint64_t moment_count(uint64_t round, uint32_t at)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < world->keys; i++) {
        uint64_t written = i < at ? round : round - 1;

        count += written == 0 || is_deleted(i, written) ? 0 : 1;
    }
    return count;
}

static void reader_count(void)
{
    struct torc_engine_range range = reader_range(0);
    uint64_t from = world->writer.round;
    uint32_t from_at = world->writer.at;
    struct torc_completion done;
    bool found = false;

    range.count_only = true;
    CU_ASSERT_EQUAL_FATAL(torc_engine_range(world->net.clients[1], &range, NULL), TORC_ERR_OK);
    reader_wait(&done);
    for (uint64_t round = from; round <= world->writer.round && !found; round++) {
        for (uint32_t at = round == from ? from_at : 0; at <= world->keys && !found; at++) {
            found = moment_count(round, at) == done.count;
        }
    }
    world->broken |= !found;
}

static void reader_turn(void)
{
    static const uint64_t limits[] = {0, 0, 150, 37, 5};
    uint32_t flags = torc_rng_chance(&world->rng, 400000) ? TORC_REVERSE : 0;

    if (torc_rng_chance(&world->rng, 150000)) {
        reader_count();
        return;
    }
    reader_begin();
    reader_scan(flags, world->fault == FAULT_PAGES
                           ? 37
                           : limits[torc_rng_below(&world->rng, TORC_COUNT_OF(limits))]);
    if (reader_range(0).options.consistency == TORC_SNAPSHOT || world->fault != FAULT_NONE) {
        reader_check();
    }
}

// -- Worlds ---------------------------------------------------------------------------------------

static void world_open(enum fault fault, uint32_t keys, bool lossy)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = keys == KEYS ? SHARDS : 1,
                                     .key_count = KEY_COUNT,
                                     .seed = torc_test_seed(),
                                     .steered = true};

    world = calloc(1, sizeof(*world));
    CU_ASSERT_FATAL(world != NULL);
    world->rng.state = torc_test_seed();
    world->fault = fault;
    world->keys = keys;
    world->writer.round = 1;
    torc_rig_open(&world->rig, &config);
    torc_net_open(&world->net, &world->rig, 2, torc_test_seed(), 64);
    if (lossy) {
        world->net.faults = (struct torc_net_faults){
            .loss_ppm = 10000, .double_ppm = 10000, .delay_max_ns = 100000};
    }
    for (uint32_t i = 0; i < 5000 && !(torc_engine_ready(world->net.clients[0]) &&
                                       torc_engine_ready(world->net.clients[1]));
         i++) {
        torc_net_step(&world->net, STEP_NS);
    }
}

static void world_close(void)
{
    struct torc_completion done;

    while (world->writer.busy) {
        torc_net_step(&world->net, STEP_NS);
        world->writer.busy = torc_engine_poll(world->net.clients[0], &done, 1) == 0;
    }
    torc_net_drain(&world->net);
    torc_net_close(&world->net);
    torc_rig_close(&world->rig);
    free(world);
}

static void snapshots_are_moments(void)
{
    for (uint32_t lossy = 0; lossy < 2; lossy++) {
        world_open(FAULT_NONE, KEYS, lossy == 1);
        for (uint32_t i = 0; i < SNAPSHOTS / 2 && !world->broken; i++) {
            reader_turn();
        }
        CU_ASSERT_FALSE(world->broken);
        CU_ASSERT(world->writer.round > 10);
        CU_ASSERT(world->pages > SNAPSHOTS);
        world_close();
    }
}

static void pages_of_few_keys_are_moments(void)
{
    for (uint32_t lossy = 0; lossy < 2; lossy++) {
        world_open(FAULT_NONE, KEYS_FEW, lossy == 1);
        for (uint32_t i = 0; i < SNAPSHOTS / 2 && !world->broken; i++) {
            reader_turn();
        }
        CU_ASSERT_FALSE(world->broken);
        CU_ASSERT(world->writer.round > 10);
        world_close();
    }
}

static bool fault_found(enum fault fault)
{
    bool found;

    world_open(fault, KEYS, false);
    for (uint32_t i = 0; i < SNAPSHOTS && !world->broken; i++) {
        reader_turn();
    }
    found = world->broken;
    world_close();
    return found;
}

static void shard_consistency_is_found_out(void)
{
    CU_ASSERT_TRUE(fault_found(FAULT_SHARD));
}

static void pages_of_other_moments_are_found_out(void)
{
    CU_ASSERT_TRUE(fault_found(FAULT_PAGES));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"snapshots are moments", snapshots_are_moments},
        {"pages of a few keys are moments of their shard", pages_of_few_keys_are_moments},
        {"shard consistency is found out", shard_consistency_is_found_out},
        {"pages of other moments are found out", pages_of_other_moments_are_found_out},
        CU_TEST_INFO_NULL};

    return torc_test_run("snapshot", tests);
}
