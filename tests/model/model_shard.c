// Torc tests: the shard engine against an oracle: a table of keys and a memory of every write ever
// sent.
//
// What    two shards on one core, with clients that send again, late and out of order; conditions;
//         commits delayed; a log of blocks; fuzzy checkpoints taken while writes go on; crashes
//         that keep any prefix of what was sealed and not yet durable, and replay after them. The
//         oracle foretells every verdict, and knows which (client, seq) took effect: at most once
//         each, and all its answers agree. Some worlds have too little memory, where refusals are
//         right too. A sibling run plants faults that the oracle must see.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many operations.
#include "tests/model/shard_world.h"

#include <inttypes.h>
#include <string.h>

#ifdef TORC_TEST_SANITIZED // with sanitizers: a tenth of the speed
#define OPS_DEFAULT 400000
#else
#define OPS_DEFAULT 3000000
#endif

// -- The world ----------------------------------------------------------------------------------

static void let_time_pass(struct world *world)
{
    static const uint64_t steps[] = {1, 100, 10000, 1000000, 20000000, 70000000, 130000000};

    world->rig->pool.wall_us +=
        below(world, steps[below(world, chance(world, 97) ? 4 : TORC_COUNT_OF(steps))] + 1);
    if (chance(world, 1)) { // a client from elsewhere brings a later clock
        uint64_t ahead_us = below(world, 3000000);
        enum torc_err err = torc_shard_hear(&world->rig->pool,
                                            torc_hlc_from_us(world->rig->pool.wall_us + ahead_us),
                                            TORC_SHARD_MAX_AHEAD_US);

        expect(world, err == TORC_ERR_OK || ahead_us > TORC_SHARD_MAX_AHEAD_US, "clock heard", err,
               ahead_us);
    }
}

static void idle_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    struct torc_log_record record;

    if (chance(world, 50)) {
        (void)torc_shard_tidy(&side->shard);
    } else if (torc_shard_idle(&side->shard, &record)) {
        log_own(world, side, &record);
    }
}

static void check_all(struct world *world)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_fail why;

        if (torc_shard_check(&world->sides[i].shard, &why) != TORC_ERR_OK) {
            wrong(world, why.text, i, 0);
        }
    }
}

static void cancel_some(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    struct torc_shard_pool *pool = &world->rig->pool;
    uint32_t i;

    if (side->waiting_count == 0) {
        expect(
            world,
            !torc_shard_cancel(pool, (uint32_t)below(world, pool->slot_count), world->next_tag + 1),
            "cancelled", 0, 0);
        return;
    }
    i = (uint32_t)below(world, side->waiting_count);
    expect(world, torc_shard_cancel(pool, side->waiting[i].place, side->waiting[i].write.tag),
           "not waiting", side->waiting[i].write.tag, 0);
    expect(world, !torc_shard_cancel(pool, side->waiting[i].place, side->waiting[i].write.tag),
           "cancelled twice", side->waiting[i].write.tag, 0);
    world->identities[side->waiting[i].identity].known[side->waiting[i].write.seq].state =
        KNOWN_NOT;
    memmove(&side->waiting[i], &side->waiting[i + 1],
            (side->waiting_count - i - 1) * sizeof(struct op));
    side->waiting_count--;
    drain_woken(world);
}

// Clients of whom nothing else is asked take all the room that is left, as only they may.
static void crowd(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];
    struct torc_completion_head head = {
        .who = {.client = 1, .principal = 9}, .low = 1, .last_hlc = now_hlc(world)};

    do {
        head.who.client = torc_rng_next(&world->rng);
    } while (torc_completion_load(&side->shard.completions, &head));
}

static void plant(struct world *world)
{
    struct side *side = &world->sides[below(world, SHARDS)];

    if (world->fault == FAULT_FORGET) {
        commit_all(world);
        torc_completion_drop(&side->shard.completions);
    }
    if (world->fault == FAULT_VALUE) {
        struct torc_tree_write write = {.key = side->shard.lo + below(world, KEYS_EACH),
                                        .version = 1,
                                        .value = "planted",
                                        .value_bytes = 7};

        (void)torc_tree_write(&side->shard.tree, &write, NULL);
    }
}

static void world_step(struct world *world)
{
    uint64_t dice = below(world, 1000);

    world->ops++;
    if (dice < 480) {
        send_new(world);
    } else if (dice < 640) {
        send_again(world);
    } else if (dice < 740) {
        commit_some(world);
    } else if (dice < 800) {
        read_some(world);
    } else if (dice < 840) {
        scan_some(world);
    } else if (dice < 850) {
        count_some(world);
    } else if (dice < 880) {
        let_time_pass(world);
    } else if (dice < 885) {
        idle_some(world);
    } else if (dice < 890) {
        cancel_some(world);
    } else if (dice < 990) {
        checkpoint_step(world, &world->sides[below(world, SHARDS)]);
    } else if (dice < 993) {
        check_all(world);
    } else if (dice < 995) {
        commit_all(world);
    } else if (dice < 996 && !world->tight) {
        restart(world);
    } else if (dice == 996) {
        plant(world);
    } else if (dice == 997 && world->crowded) {
        crowd(world);
    }
}

static void world_init(struct world *world, struct shard_rig *rig, uint64_t seed, enum fault fault)
{
    struct torc_shard_pool_config config = {.slots_max = 4000,
                                            .waiting_max = 2000,
                                            .completion_bytes = 4u << 20,
                                            .principal_ppm = 1000000,
                                            .dedup_ttl_s = TTL_S,
                                            .seed = seed};

    world->rig = rig;
    world->seed = seed;
    world->fault = fault;
    world->quiet = fault != FAULT_NONE;
    world->rng.state = seed;
    world->tight = fault == FAULT_NONE && chance(world, 25);
    if (world->tight) {
        config.slots_max = 24;
        config.waiting_max = 6;
        config.completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN;
        world->crowded = chance(world, 50);
        config.principal_ppm = world->crowded ? 1000000 : 20000;
    }
    shard_rig_pool(rig, world->tight ? 4 : CHUNKS, &config);
    rig->heap.limit_bytes = world->tight ? 200000 : HEAP_BYTES;
    rig->pool.wall_us = UINT64_C(1700000000000000);
    world->next_sequence = 1;
    world->first_sequence = 1;
    for (uint32_t i = 0; i < SHARDS; i++) {
        for (uint32_t j = 0; j < ACTORS; j++) {
            world->actors[i][j] = identity_new(world, i);
        }
        side_init(world, i);
        side_begin(world, &world->sides[i]);
    }
}

static void world_free(struct world *world)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        torc_shard_drop(&world->sides[i].shard);
        free(world->sides[i].making.bytes);
        free(world->sides[i].kept.bytes);
    }
    for (uint32_t i = 0; i < world->identity_count; i++) {
        free(world->identities[i].known);
    }
    for (uint32_t i = 0; i < BLOCKS_MAX; i++) {
        free(world->blocks[i].bytes);
    }
    world->rig->heap.limit_bytes = HEAP_BYTES;
}

// One world from start to end. True: the oracle agreed with everything.
static bool world_run(struct shard_rig *rig, uint64_t seed, enum fault fault, uint64_t *counts)
{
    struct world *world = calloc(1, sizeof(*world));
    bool agreed;

    torc_assert(world != NULL);
    world->identities = calloc(IDENTITIES_MAX, sizeof(struct identity));
    world->replay_memory = aligned_alloc(64, (torc_replay_bytes(SHARDS) + 63) / 64 * 64);
    torc_assert(world->identities != NULL && world->replay_memory != NULL);
    world_init(world, rig, seed, fault);
    while (world->ops < WORLD_OPS && !world->broken) {
        world_step(world);
    }
    if (!world->broken) {
        commit_all(world);
        check_all(world);
    }
    if (!world->broken && !world->tight) {
        restart(world);
    }
    if (!world->broken) {
        commit_all(world);
        read_some(world);
        check_all(world);
    }
    agreed = !world->broken;
    for (uint32_t i = 0; i < TORC_COUNT_OF(world->counts) && counts != NULL; i++) {
        counts[i] += world->counts[i];
    }
    if (counts != NULL) {
        counts[7] += world->ops;
    }
    world_free(world);
    free(world->replay_memory);
    free(world->identities);
    free(world);
    return agreed;
}

static struct shard_rig test_rig; // one a program: a heap is opened once in a thread's life

static void test_worlds(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t wanted = text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
    struct torc_rng rng = {torc_test_seed()};
    uint64_t counts[8] = {0};
    bool agreed = true;

    // The first world has the test's own seed, so that a failure's seed replays it at once.
    for (uint64_t seed = torc_test_seed(); agreed && counts[7] < wanted;
         seed = torc_rng_next(&rng)) {
        agreed = world_run(&test_rig, seed, FAULT_NONE, counts);
    }
    CU_ASSERT_TRUE(agreed);
    (void)printf("%" PRIu64 " operations: %" PRIu64 " answers, %" PRIu64 " appended, %" PRIu64
                 " waited, %" PRIu64 " restarts with %" PRIu64 " records replayed, %" PRIu64
                 " checkpoints, %" PRIu64 " refused for memory ",
                 counts[7], counts[COUNT_ANSWER], counts[COUNT_APPEND], counts[COUNT_WAIT],
                 counts[COUNT_RESTART], counts[COUNT_REPLAYED], counts[COUNT_CHECKPOINT],
                 counts[COUNT_REFUSED]);
}

static void test_planted_faults(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (enum fault fault = FAULT_FORGET; fault < FAULT_COUNT; fault++) {
        bool seen = false;

        for (uint32_t i = 0; i < 20 && !seen; i++) { // the first that shows it ends it
            seen = !world_run(&test_rig, torc_rng_next(&rng), fault, NULL);
        }
        CU_ASSERT_TRUE(seen);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"every answer is the oracle's", test_worlds},
                           {"planted faults are seen", test_planted_faults},
                           CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&test_rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("model_shard", tests);
    shard_rig_close(&test_rig);
    return status;
}
