// Torc tests: records kept for other replicas, against plain arrays.
//
// What    some shards of one core whose logs grow, are cut, closed and opened again, in little
//         memory. A record above the floor must be there and be the one that was kept last at its
//         LSN; one that was cut, closed or never kept must not; the floor rises only when the room
//         was needed. A sibling run plants a floor that is one too low.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many operations.
#include "storage/shipped.h"
#include "tests/torc_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef TORC_TEST_SANITIZED
#define OPS_DEFAULT 40000
#else
#define OPS_DEFAULT 400000
#endif

enum {
    SHARDS = 5,
    LOG_MAX = 3000,
    VALUE_MAX = 3000,
    WORLD_OPS = 10000,
};

struct one {
    uint64_t value_seed;
    uint64_t kept_bytes; // of all values, when it had been kept
    uint64_t number;     // of all records
    uint32_t value_bytes;
};

struct log {
    bool open;
    uint64_t first; // floor when it was opened
    uint64_t last;
    struct one records[LOG_MAX];
};

struct world {
    struct torc_rng rng;
    struct torc_shipped shipped;
    struct torc_shipped_config config;
    bool fault;
    bool broken;
    uint64_t seed;
    uint64_t ops;
    uint64_t kept_bytes;
    uint64_t kept_count;
    struct log logs[SHARDS];
};

static uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

static void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b)
{
    if (!holds && !world->broken && !world->fault) {
        (void)fprintf(stderr,
                      "model_shipped: TORC_SEED=%" PRIu64 " op %" PRIu64 ": %s: %" PRIu64
                      ", %" PRIu64 "\n",
                      world->seed, world->ops, what, a, b);
    }
    world->broken = world->broken || !holds;
}

static uint32_t shard_id(uint32_t index)
{
    return 3 + index * 64; // some share a bucket
}

static void keep_some(struct world *world, uint32_t index)
{
    static unsigned char value[VALUE_MAX];
    struct log *log = &world->logs[index];
    struct torc_log_record record = {.kind = TORC_LOG_PUT, .shard = shard_id(index)};
    struct one *one;

    if (!log->open || (log->last > 0 && below(world, 20) == 0)) { // kept by nobody, or again
        record.lsn = log->open ? log->last : 1 + below(world, 9);
        torc_shipped_keep(&world->shipped, &record);
        return;
    }
    if (log->last + 1 == LOG_MAX) {
        return;
    }
    one = &log->records[++log->last];
    one->value_seed = torc_rng_next(&world->rng);
    one->value_bytes = (uint32_t)below(world, below(world, 10) == 0 ? VALUE_MAX : 100);
    record.lsn = log->last;
    record.hlc = one->value_seed / 3;
    record.key = one->value_seed / 5;
    record.value_bytes = one->value_bytes;
    record.value = value;
    torc_test_value(value, one->value_seed, one->value_bytes);
    torc_shipped_keep(&world->shipped, &record);
    world->kept_bytes += one->value_bytes + 7;
    one->kept_bytes = world->kept_bytes;
    one->number = world->kept_count++;
}

static void ask(struct world *world, uint32_t index, uint64_t lsn)
{
    const struct log *log = &world->logs[index];
    const struct one *one = &log->records[lsn];
    struct torc_log_record record;
    bool found = torc_shipped_get(&world->shipped, shard_id(index), lsn, &record);
    uint64_t floor = log->open ? torc_shipped_floor(&world->shipped, shard_id(index)) : UINT64_MAX;

    floor -= world->fault && floor > log->first && log->open ? 1 : 0;
    expect(world, found == (log->open && lsn > floor && lsn <= log->last), "found", lsn, floor);
    if (found && log->open && lsn <= log->last) {
        expect(world,
               record.lsn == lsn && record.shard == shard_id(index) &&
                   record.hlc == one->value_seed / 3 && record.key == one->value_seed / 5 &&
                   record.value_bytes == one->value_bytes &&
                   torc_test_value_is(record.value, one->value_seed, one->value_bytes),
               "another record", lsn, record.lsn);
    }
}

// What is not old may not have gone: half of the ring at least is of use.
static void check_floor(struct world *world, uint32_t index)
{
    const struct log *log = &world->logs[index];
    uint64_t floor = torc_shipped_floor(&world->shipped, shard_id(index));
    struct torc_fail why;

    expect(world, floor >= log->first || floor == log->last, "floor fell", floor, log->first);
    expect(world, floor <= log->last, "floor above the log", floor, log->last);
    if (floor > log->first && floor <= log->last) {
        const struct one *gone = &log->records[floor];

        expect(world,
               world->kept_bytes - gone->kept_bytes + UINT64_C(2) * VALUE_MAX >
                       world->config.value_bytes / 2 ||
                   world->kept_count - gone->number >= world->config.record_max ||
                   gone->value_bytes > world->config.value_bytes / 2,
               "gone too early", floor, world->kept_bytes - gone->kept_bytes);
    }
    expect(world, torc_shipped_check(&world->shipped, &why) == TORC_ERR_OK, "check", 0, 0);
}

static void cut_some(struct world *world, uint32_t index)
{
    struct log *log = &world->logs[index];
    uint64_t lsn = log->last - below(world, 20);

    if (!log->open || lsn > log->last) {
        return;
    }
    torc_shipped_cut(&world->shipped, shard_id(index), lsn);
    log->last = torc_min_u64(log->last, lsn);
    log->first = torc_min_u64(log->first, log->last);
}

static void open_some(struct world *world, uint32_t index)
{
    struct log *log = &world->logs[index];

    if (log->open && below(world, 2) == 0) {
        torc_shipped_close(&world->shipped, shard_id(index));
        log->open = false;
        return;
    }
    log->first = below(world, LOG_MAX / 2);
    log->last = log->first;
    log->open = true;
    torc_shipped_open(&world->shipped, shard_id(index), log->first);
}

static bool world_run(uint64_t seed, bool fault, uint64_t *ops)
{
    struct world *world = calloc(1, sizeof(*world));
    uint64_t bytes;
    void *memory;
    bool agreed;

    torc_assert(world != NULL);
    *world = (struct world){.seed = seed, .rng = {seed}, .fault = fault};
    world->config = (struct torc_shipped_config){.value_bytes = 4096 + below(world, 60000),
                                                 .record_max = 1 + (uint32_t)below(world, 600),
                                                 .shard_max = SHARDS};
    bytes = (torc_shipped_bytes(&world->config) + 63) / 64 * 64;
    memory = aligned_alloc(64, bytes);
    torc_assert(memory != NULL);
    torc_shipped_init(&world->shipped, memory, &world->config);
    for (; world->ops < WORLD_OPS && !world->broken; world->ops++) {
        uint32_t index = (uint32_t)below(world, SHARDS);
        uint64_t dice = below(world, 1000);

        if (dice < 600) {
            keep_some(world, index);
        } else if (dice < 950) {
            struct log *log = &world->logs[index];
            uint64_t back = below(world, below(world, 2) == 0 ? 8 : 400);

            ask(world, index, log->last + 3 > back ? (log->last + 3 - back) % LOG_MAX : 0);
        } else if (dice < 975) {
            cut_some(world, index);
        } else if (dice < 980) {
            open_some(world, index);
        } else if (world->logs[index].open) {
            check_floor(world, index);
        }
    }
    *ops += world->ops;
    agreed = !world->broken;
    free(memory);
    free(world);
    return agreed;
}

static void test_worlds(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t wanted = text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
    struct torc_rng rng = {torc_test_seed()};
    uint64_t ops = 0;
    bool agreed = true;

    for (uint64_t seed = torc_test_seed(); agreed && ops < wanted; seed = torc_rng_next(&rng)) {
        agreed = world_run(seed, false, &ops);
    }
    CU_ASSERT_TRUE(agreed);
}

static void test_planted_fault(void)
{
    uint64_t ops = 0;
    bool seen = false;

    for (uint32_t i = 0; i < 20 && !seen; i++) {
        seen = !world_run(torc_test_seed() + i, true, &ops);
    }
    CU_ASSERT_TRUE(seen);
}

int main(void)
{
    CU_TestInfo tests[] = {{"what is above the floor is there", test_worlds},
                           {"a floor that is too low is seen", test_planted_fault},
                           CU_TEST_INFO_NULL};

    return torc_test_run("model_shipped", tests);
}
