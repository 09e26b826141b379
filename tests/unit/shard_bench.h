// Torc tests: one shard, and the log of whatever it wants logged, for tests of the shard engine and
// of replay.
//
// Owner   the test's one thread; one shard at a time.  Memory  until torc_shard_drop, bench_close.
#ifndef TORC_TESTS_UNIT_SHARD_BENCH_H
#define TORC_TESTS_UNIT_SHARD_BENCH_H

#include "kit/hlc.h"
#include "storage/replay.h"
#include "tests/shard_rig.h"

#include <string.h>

enum {
    CHUNKS = 32,
};

#define HEAP_BYTES (UINT64_C(8) << 20)
#define WALL_US    UINT64_C(1700000000000000)

struct bench {
    struct torc_shard shard;
    struct torc_log_record record;
    struct torc_shard_outcome outcome;
    struct torc_shard_outcome outcomes[8];
    uint64_t sequence;
    uint64_t seq;
};

static struct shard_rig rig;
static struct bench bench;
static void *bench_memory; // of its replay

static inline void bench_pool(uint32_t slots, uint32_t chunks)
{
    struct torc_shard_pool_config config = {.slots_max = slots,
                                            .waiting_max = slots / 2,
                                            .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
                                            .principal_ppm = 500000,
                                            .dedup_ttl_s = 120,
                                            .seed = 1};

    shard_rig_pool(&rig, chunks, &config);
    rig.pool.wall_us = WALL_US;
}

static inline struct torc_shard_config bench_config(uint32_t shard, uint32_t epoch)
{
    struct torc_shard_config config = shard_rig_config(&rig);

    config.shard = shard;
    config.hi = UINT64_MAX;
    config.epoch = epoch;
    return config;
}

static inline void bench_append(void)
{
    bench.sequence++;
    torc_shard_appended(&bench.shard, bench.sequence, bench.sequence);
}

static inline uint32_t bench_commit(void)
{
    return torc_shard_commit(&rig.pool, bench.sequence, bench.outcomes,
                             TORC_COUNT_OF(bench.outcomes));
}

static inline void bench_open(void)
{
    struct torc_shard_config config = bench_config(1, 3);
    struct torc_fail why;

    memset(&bench, 0, sizeof(bench));
    TORC_TEST_OK(torc_shard_init(&bench.shard, &rig.pool, &config, &why), &why);
    CU_ASSERT_TRUE(torc_shard_begin(&bench.shard, &bench.record));
    CU_ASSERT_EQUAL(bench.record.kind, TORC_LOG_EPOCH);
    CU_ASSERT_EQUAL(bench.record.lsn, 1);
    bench_append();
    CU_ASSERT_FALSE(torc_shard_begin(&bench.shard, &bench.record));
    CU_ASSERT_EQUAL(bench.shard.state, TORC_SHARD_OPENING);
    CU_ASSERT_EQUAL(bench_commit(), 0);
    CU_ASSERT_EQUAL(bench.shard.state, TORC_SHARD_ACTIVE);
}

static inline struct torc_shard_write write_of(uint64_t key, const char *value)
{
    bench.seq++;
    return (struct torc_shard_write){.tag = 1000 + bench.seq,
                                     .key = key,
                                     .client = 77,
                                     .principal = 2,
                                     .seq = bench.seq,
                                     .low = 1,
                                     .stamp = rig.pool.hlc,
                                     .value = value,
                                     .value_bytes = (uint32_t)strlen(value),
                                     .epoch = 3};
}

static inline enum torc_shard_verdict send(struct torc_shard_write write)
{
    enum torc_shard_verdict verdict =
        torc_shard_write(&bench.shard, &write, &bench.record, &bench.outcome);

    if (verdict == TORC_SHARD_APPEND) {
        bench_append();
    }
    return verdict;
}

static inline void check_answer(struct torc_shard_write write, enum torc_err err)
{
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_ANSWER);
    CU_ASSERT_EQUAL(bench.outcome.err, err);
    CU_ASSERT_EQUAL(bench.outcome.tag, write.tag);
}

static inline void put(uint64_t key, const char *value)
{
    CU_ASSERT_EQUAL(send(write_of(key, value)), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    CU_ASSERT_EQUAL(bench.outcomes[0].err, TORC_ERR_OK);
}

// Of so many shards; the last one made is gone.
static inline struct torc_replay *bench_replay(uint32_t shard_count)
{
    uint64_t bytes = torc_replay_bytes(shard_count);

    free(bench_memory);
    bench_memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    torc_assert(bench_memory != NULL);
    memset(bench_memory, 0, bytes);
    return torc_replay_init(bench_memory, bytes, shard_count);
}

static inline int bench_run(const char *name, CU_TestInfo *tests)
{
    int status;

    shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run(name, tests);
    free(bench_memory);
    shard_rig_close(&rig);
    return status;
}

#endif
