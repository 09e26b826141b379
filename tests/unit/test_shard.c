// Torc tests: the shard engine's answers one by one, and what replay takes and refuses. (Their
// models are model_shard.c and model_log.c.)
#include "kit/hlc.h"
#include "kit/rng.h"
#include "storage/log_order.h"
#include "storage/replay.h"
#include "storage/scan.h"
#include "tests/shard_rig.h"

#include <string.h>

enum {
    CHUNKS = 32,
    BLOCKS_MAX = 24,
};

#define SLOT       TORC_LOG_SLOT_BYTES
#define HEAP_BYTES (UINT64_C(8) << 20)
#define WALL_US    UINT64_C(1700000000000000)

// One shard, and the log of whatever it wanted logged.
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

static void bench_pool(uint32_t slots, uint32_t chunks)
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

static struct torc_shard_config bench_config(uint32_t shard, uint32_t epoch)
{
    struct torc_shard_config config = shard_rig_config(&rig);

    config.shard = shard;
    config.hi = UINT64_MAX;
    config.epoch = epoch;
    return config;
}

static void bench_append(void)
{
    bench.sequence++;
    torc_shard_appended(&bench.shard, bench.sequence, bench.sequence);
}

static uint32_t bench_commit(void)
{
    return torc_shard_commit(&rig.pool, bench.sequence, bench.outcomes,
                             TORC_COUNT_OF(bench.outcomes));
}

static void bench_open(void)
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

static struct torc_shard_write write_of(uint64_t key, const char *value)
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

static enum torc_shard_verdict send(struct torc_shard_write write)
{
    enum torc_shard_verdict verdict =
        torc_shard_write(&bench.shard, &write, &bench.record, &bench.outcome);

    if (verdict == TORC_SHARD_APPEND) {
        bench_append();
    }
    return verdict;
}

static void check_answer(struct torc_shard_write write, enum torc_err err)
{
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_ANSWER);
    CU_ASSERT_EQUAL(bench.outcome.err, err);
    CU_ASSERT_EQUAL(bench.outcome.tag, write.tag);
}

static void put(uint64_t key, const char *value)
{
    CU_ASSERT_EQUAL(send(write_of(key, value)), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    CU_ASSERT_EQUAL(bench.outcomes[0].err, TORC_ERR_OK);
}

static void test_refusals(void)
{
    struct torc_shard_write write;

    bench_pool(100, CHUNKS);
    bench_open();
    put(5, "five");
    write = write_of(5, "six");
    write.epoch = 2;
    check_answer(write, TORC_ERR_WRONG_SHARD);
    write.epoch = 3;
    write.stamp = torc_hlc_from_us(WALL_US - 61000000);
    check_answer(write, TORC_ERR_EXPIRED);
    write.stamp = torc_hlc_from_us(WALL_US + 2100000);
    check_answer(write, TORC_ERR_CLOCK_AHEAD);
    CU_ASSERT_EQUAL(bench.outcome.info, torc_hlc_from_us(WALL_US));
    write.stamp = rig.pool.hlc;
    write.log_err = TORC_ERR_NO_SPACE;
    write.log_info = 1;
    check_answer(write, TORC_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(bench.outcome.info, 1);
    write.seq = 5000;
    write.low = 904;
    check_answer(write, TORC_ERR_LIMIT);
    write.log_err = TORC_ERR_OK;
    write.low = 905;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND); // none of the refusals was kept
    check_answer(write, TORC_ERR_PENDING);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    check_answer(write, TORC_ERR_OK);
    write.seq = 904;
    write.low = 1;
    check_answer(write, TORC_ERR_SEQ_OLD);
    CU_ASSERT_EQUAL(
        torc_shard_hear(&rig.pool, torc_hlc_from_us(WALL_US + 2000001), TORC_SHARD_MAX_AHEAD_US),
        TORC_ERR_CLOCK_AHEAD);
    CU_ASSERT_EQUAL(
        torc_shard_hear(&rig.pool, torc_hlc_from_us(WALL_US + 1000000), TORC_SHARD_MAX_AHEAD_US),
        TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_shard_hear(&rig.pool, rig.pool.hlc, TORC_SHARD_MAX_AHEAD_US), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_hlc_us(rig.pool.hlc) == WALL_US + 1000000);
    torc_shard_drop(&bench.shard);
}

static void test_conditions(void)
{
    struct torc_shard_write write;
    uint64_t version;

    bench_pool(100, CHUNKS);
    bench_open();
    put(5, "five");
    version = bench.outcomes[0].info;
    write = write_of(5, "x");
    write.condition = TORC_SHARD_IF_ABSENT;
    write.want_current = true;
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(bench.outcome.info, version);
    CU_ASSERT_TRUE(bench.outcome.has_value);
    CU_ASSERT_EQUAL(bench.outcome.value_bytes, 4);
    CU_ASSERT_EQUAL(memcmp(bench.outcome.value, "five", 4), 0);
    write = write_of(6, "x");
    write.condition = TORC_SHARD_IF_PRESENT;
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(bench.outcome.info, 0);
    write.condition = TORC_SHARD_ANY; // the same seq: the same answer, whatever its body
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    write = write_of(6, "");
    write.remove = true;
    check_answer(write, TORC_ERR_NOT_FOUND);
    put(6, "now it is there");
    check_answer(write, TORC_ERR_NOT_FOUND); // remembered (E5)
    write = write_of(5, "swapped");
    write.condition = TORC_SHARD_IF_VERSION;
    write.if_version = version + 1;
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    write = write_of(5, "swapped");
    write.condition = TORC_SHARD_IF_VERSION;
    write.if_version = version;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND);
    torc_shard_drop(&bench.shard); // pending: dropped without an answer
    CU_ASSERT_EQUAL(rig.pool.completions.result_used, 0);
}

// The next one whose turn it is must be this one.
static struct torc_shard_write *woken_is(uint64_t tag)
{
    struct torc_shard *shard = NULL;
    struct torc_shard_write *woken = torc_shard_woken(&rig.pool, &shard);

    torc_assert(woken != NULL);
    CU_ASSERT_PTR_EQUAL(shard, &bench.shard);
    CU_ASSERT_EQUAL(woken->tag, tag);
    return woken;
}

static void test_waiting_for_the_one_before(void)
{
    struct torc_shard_write first;
    struct torc_shard_write second;
    struct torc_shard_write *woken;
    struct torc_shard *shard;

    bench_pool(100, CHUNKS);
    bench_open();
    CU_ASSERT_EQUAL(send(write_of(5, "five")), TORC_SHARD_APPEND);
    first = write_of(5, "");
    first.remove = true;
    CU_ASSERT_EQUAL(send(first), TORC_SHARD_WAIT);
    check_answer(first, TORC_ERR_PENDING);
    second = write_of(5, "again");
    second.condition = TORC_SHARD_IF_ABSENT;
    CU_ASSERT_EQUAL(send(second), TORC_SHARD_WAIT);
    CU_ASSERT_PTR_NULL(torc_shard_woken(&rig.pool, &shard));
    CU_ASSERT_EQUAL(bench_commit(), 1);
    woken = woken_is(first.tag);
    CU_ASSERT_EQUAL(torc_shard_write(&bench.shard, woken, &bench.record, &bench.outcome),
                    TORC_SHARD_APPEND);
    bench_append();
    CU_ASSERT_PTR_NULL(torc_shard_woken(&rig.pool, &shard)); // the second waits for the first
    CU_ASSERT_EQUAL(bench_commit(), 1);
    woken = woken_is(second.tag);
    CU_ASSERT_EQUAL(memcmp(woken->value, "again", 5), 0);
    CU_ASSERT_PTR_NULL(torc_shard_woken(&rig.pool, &shard)); // not passed on: refused
    CU_ASSERT_TRUE(torc_shard_is_settled(&rig.pool));
    CU_ASSERT_EQUAL(bench.shard.tree.record_count, 0);
    torc_shard_drop(&bench.shard);
}

static void test_full_memory(void)
{
    static char large[100000];
    struct torc_shard_write write;
    uint32_t appended = 0;

    bench_pool(8, CHUNKS);
    bench_open();
    while (send(write_of(appended, "small")) == TORC_SHARD_APPEND) {
        appended++;
    }
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_BUSY);
    CU_ASSERT_EQUAL(appended, 8);
    CU_ASSERT_EQUAL(bench_commit(), 8);
    memset(large, 'x', sizeof(large) - 1);
    do {
        write = write_of(++appended, large);
        if (send(write) != TORC_SHARD_APPEND) {
            break;
        }
        CU_ASSERT_EQUAL(bench_commit(), 1);
    } while (appended < 1000);
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(bench.outcome.info & 0xff, TORC_SHARD_REASON_MEMORY);
    put(3, "small ones go on, reads and deletes too");
    write = write_of(appended - 1, "");
    write.remove = true;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    CU_ASSERT_EQUAL(send(write_of(appended, large)), TORC_SHARD_APPEND); // there is room again
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(rig.heap.block_count, 0);
}

// All that a principal may have remembered is of writes above one that was not done yet.
static void test_full_table_takes_the_oldest(void)
{
    struct torc_shard_write write;
    struct torc_shard_write oldest;
    uint32_t done = 0;

    bench_pool(8, CHUNKS);
    bench_open();
    oldest = write_of(1, "oldest");
    while (send(write_of(2, "later")) == TORC_SHARD_APPEND) {
        CU_ASSERT_EQUAL(bench_commit(), 1);
        done++;
    }
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_BUSY);
    CU_ASSERT(done > 100);
    write = oldest;
    write.seq = bench.seq + 1;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_ANSWER); // one more of them
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_BUSY);
    CU_ASSERT_EQUAL(send(oldest), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    write = write_of(3, "the first with nothing before it");
    write.low = write.seq;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND); // and the others are forgotten
    CU_ASSERT_EQUAL(bench_commit(), 1);
    for (uint32_t i = 2; i < done; i++) {
        CU_ASSERT_EQUAL_FATAL(send(write_of(2, "later")), TORC_SHARD_APPEND);
        CU_ASSERT_EQUAL(bench_commit(), 1);
    }
    torc_shard_drop(&bench.shard);
}

static void test_old_clients_leave(void)
{
    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 1);
    rig.pool.wall_us += 119000000;
    CU_ASSERT_FALSE(torc_shard_idle(&bench.shard, &bench.record));
    rig.pool.wall_us += 2000000;
    // E4: an idle shard says so itself
    CU_ASSERT_TRUE(torc_shard_idle(&bench.shard, &bench.record));
    CU_ASSERT_EQUAL(bench.record.kind, TORC_LOG_EMPTY);
    bench_append();
    CU_ASSERT_EQUAL(bench_commit(), 0);
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 0);
    CU_ASSERT_FALSE(torc_shard_idle(&bench.shard, &bench.record));
    torc_shard_drop(&bench.shard);
}

// -- Replay -------------------------------------------------------------------------------------

// A stream of blocks of one slot, written record by record.
struct tape {
    unsigned char bytes[BLOCKS_MAX * SLOT];
    uint32_t stream;
    uint32_t count;
};

static struct tape tapes[2];
static struct torc_log_builder builder;
static void *replay_memory;
static struct torc_shard replayed;

static void tape_add(struct tape *tape, struct torc_log_record record)
{
    struct torc_log_place place = {.cluster = 1,
                                   .sequence = tape->count + 1,
                                   .generation = 1,
                                   .node = 1,
                                   .stream = tape->stream,
                                   .segment = 1};
    uint32_t done = 0;

    record.shard = record.shard == 0 ? 1 : record.shard;
    record.hlc = record.hlc == 0 ? 1000 + 10 * record.lsn + record.epoch : record.hlc;
    record.value = "value";
    record.value_bytes = record.kind == TORC_LOG_PUT ? 5 : 0;
    CU_ASSERT_TRUE_FATAL(tape->count < BLOCKS_MAX);
    torc_log_block_begin(&builder, tape->bytes + (size_t)tape->count * SLOT, SLOT);
    CU_ASSERT_TRUE(torc_log_block_append(&builder, &record, &done));
    CU_ASSERT_EQUAL(torc_log_block_seal(&builder, &place), SLOT);
    tape->count++;
}

static void tapes_clear(void)
{
    memset(tapes, 0, sizeof(tapes));
    tapes[0].stream = 1;
    tapes[1].stream = 2;
}

static struct torc_replay *replay_open(uint32_t epoch, uint32_t turn)
{
    struct torc_shard_config config = bench_config(1, epoch);
    struct torc_replay *replay;
    struct torc_fail why;

    bench_pool(100, CHUNKS);
    free(replay_memory);
    replay_memory = aligned_alloc(64, (torc_replay_bytes(1) + 63) / 64 * 64);
    torc_assert(replay_memory != NULL);
    memset(replay_memory, 0, torc_replay_bytes(1));
    replay = torc_replay_init(replay_memory, torc_replay_bytes(1), 1);
    config.turn = turn;
    TORC_TEST_OK(torc_shard_init(&replayed, &rig.pool, &config, &why), &why);
    torc_replay_add(replay, &replayed);
    return replay;
}

// Two shards that follow, in a pool of so many slots.
static struct torc_replay *replay_open_followers(struct torc_shard shards[2], uint32_t slots)
{
    struct torc_replay *replay;
    struct torc_fail why;

    bench_pool(slots, CHUNKS);
    free(replay_memory);
    replay_memory = aligned_alloc(64, (torc_replay_bytes(2) + 63) / 64 * 64);
    torc_assert(replay_memory != NULL);
    memset(replay_memory, 0, torc_replay_bytes(2));
    replay = torc_replay_init(replay_memory, torc_replay_bytes(2), 2);
    for (uint32_t i = 0; i < 2; i++) {
        struct torc_shard_config config = bench_config(i + 1, 3);

        config.follows = true;
        TORC_TEST_OK(torc_shard_init(&shards[i], &rig.pool, &config, &why), &why);
        torc_replay_add(replay, &shards[i]);
    }
    return replay;
}

static void followers_drop(struct torc_shard shards[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        torc_shard_drop(&shards[i]);
    }
}

static enum torc_err replay_tape(struct torc_replay *replay, const struct tape *tape, uint32_t from,
                                 uint32_t to, struct torc_fail *why)
{
    return torc_replay_log(replay, tape->stream, tape->bytes + (size_t)from * SLOT,
                           (uint64_t)(to - from) * SLOT, why);
}

static void check_refused(const struct tape *tape, uint32_t epoch, const char *text)
{
    struct torc_replay *replay = replay_open(epoch, 0);
    struct torc_fail why;

    CU_ASSERT_EQUAL(replay_tape(replay, tape, 0, tape->count, &why), TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, text));
    torc_replay_drop(replay);
    torc_shard_drop(&replayed);
}

static void test_gaps_are_damage(void)
{
    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_PUT, .epoch = 1, .lsn = 2});
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_PUT, .epoch = 1, .lsn = 5});
    check_refused(&tapes[0], 2, "records 3 to 4 are missing");
    check_refused(&tapes[0], 1, "went back");
    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 2});
    check_refused(&tapes[0], 2, "records 1 to 1 are missing");
    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_add(&tapes[0],
             (struct torc_log_record){.kind = TORC_LOG_PUT, .epoch = 1, .lsn = 2, .hlc = 1});
    check_refused(&tapes[0], 2, "HLC does not rise");
}

// All of the tape, as often as it is wanted; the number of rounds.
static uint32_t replay_rounds(struct torc_replay *replay, const struct tape *tape)
{
    struct torc_fail why;
    uint32_t rounds = 0;

    do {
        TORC_TEST_OK(replay_tape(replay, tape, 0, tape->count, &why), &why);
        TORC_TEST_OK(torc_replay_log_end(replay, tape->stream, &why), &why);
        rounds++;
    } while (torc_replay_again(replay));
    TORC_TEST_OK(torc_replay_end(replay, &why), &why);
    return rounds;
}

static void tape_puts(struct tape *tape, uint32_t shard, uint32_t epoch, uint64_t from, uint64_t to)
{
    for (uint64_t lsn = from; lsn <= to; lsn++) {
        tape_add(tape, (struct torc_log_record){.kind = TORC_LOG_PUT,
                                                .shard = shard,
                                                .epoch = epoch,
                                                .lsn = lsn,
                                                .key = 10 * lsn + epoch});
    }
}

static void test_an_epoch_cancels_what_it_replaces(void)
{
    struct torc_shard shards[2];
    struct torc_replay *replay;
    struct torc_tree_hit hit;

    // 2 and 3 of epoch 1 were never committed: epoch 2 began at 2.
    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_puts(&tapes[0], 1, 1, 2, 3);
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 2, .lsn = 2});
    tape_puts(&tapes[0], 1, 2, 3, 3);
    tape_add(&tapes[0], (struct torc_log_record){
                            .kind = TORC_LOG_EMPTY, .epoch = 2, .lsn = 4, .commit_lsn = 3});
    check_refused(&tapes[0], 3, "cancels records");
    replay = replay_open_followers(shards, 8);
    CU_ASSERT_EQUAL(replay_rounds(replay, &tapes[0]), 1);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lsn, 4);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).epoch, 2);
    CU_ASSERT_EQUAL(shards[0].tree.record_count, 1);
    CU_ASSERT_TRUE(torc_tree_lookup(&shards[0].tree, 32, &hit));
    CU_ASSERT_EQUAL(hit.version, 1032);
    CU_ASSERT_EQUAL(shards[0].next_lsn, 5);
    followers_drop(shards);
}

// More than there are slots was written by a primary alone, and its successor's records took their
// place. Nothing of it may go into the tree: the copy would be of no use any more, and with it what
// it has acknowledged.
static void test_what_is_cut_later_is_not_applied_for_room(void)
{
    struct torc_shard shards[2];
    struct torc_replay *replay;

    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_puts(&tapes[0], 1, 1, 2, 14);
    tape_add(&tapes[0], (struct torc_log_record){
                            .kind = TORC_LOG_EPOCH, .epoch = 2, .lsn = 3, .commit_lsn = 2});
    tape_puts(&tapes[0], 1, 2, 4, 5);
    replay = replay_open_followers(shards, 8);
    CU_ASSERT_EQUAL(replay_rounds(replay, &tapes[0]), 2);
    CU_ASSERT_FALSE(torc_replay_result(replay, 1).lost);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lsn, 5);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).epoch, 2);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).applied_lsn, 2);
    followers_drop(shards);
}

// A primary alone wrote LSN 1 of shard 1, then heard of its successor's. Between these the log has
// more of shard 2 than there are slots, and says only later that it is committed.
static void test_what_is_committed_later_gives_its_room(void)
{
    struct torc_shard shards[2];
    struct torc_replay *replay;

    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_add(&tapes[0],
             (struct torc_log_record){.kind = TORC_LOG_EPOCH, .shard = 2, .epoch = 1, .lsn = 1});
    tape_puts(&tapes[0], 2, 1, 2, 14);
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 2, .lsn = 1});
    tape_puts(&tapes[0], 1, 2, 2, 2);
    tape_add(&tapes[0],
             (struct torc_log_record){
                 .kind = TORC_LOG_EMPTY, .shard = 2, .epoch = 1, .lsn = 15, .commit_lsn = 13});
    replay = replay_open_followers(shards, 8);
    CU_ASSERT_EQUAL(replay_rounds(replay, &tapes[0]), 2);
    CU_ASSERT_FALSE(torc_replay_result(replay, 1).lost);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lsn, 2);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).epoch, 2);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).applied_lsn, 0); // nobody said it is committed
    CU_ASSERT_EQUAL(torc_replay_result(replay, 2).lsn, 15);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 2).applied_lsn, 13);
    followers_drop(shards);
}

// Nobody says that any of it is committed: it can neither be held nor applied.
static void test_replay_without_room_says_so(void)
{
    struct torc_shard shards[2];
    struct torc_replay *replay;
    struct torc_fail why;

    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_puts(&tapes[0], 1, 1, 2, 14);
    replay = replay_open_followers(shards, 8);
    TORC_TEST_OK(replay_tape(replay, &tapes[0], 0, tapes[0].count, &why), &why);
    CU_ASSERT_TRUE(torc_replay_again(replay));
    CU_ASSERT_EQUAL(replay_tape(replay, &tapes[0], 0, tapes[0].count, &why), TORC_ERR_NO_SPACE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "shard 1, LSN 9: no room for it beside 8 records"));
    torc_replay_drop(replay);
    followers_drop(shards);
}

// A checkpoint needs the log from a block on that still has the end of a tail, cut by then: its
// first record lies before. Where nothing cancels it, the log has a hole.
static void test_replay_passes_over_a_cut_tail(void)
{
    for (uint32_t cut = 0; cut < 2; cut++) {
        struct torc_log_record record = {.kind = TORC_LOG_PUT, .epoch = 1, .shard = 1};
        struct torc_shard shards[2];
        struct torc_replay *replay;
        struct torc_fail why;

        tapes_clear();
        for (record.lsn = 2; record.lsn <= 4; record.lsn++) {
            record.key = record.lsn;
            tape_add(&tapes[0], record);
        }
        if (cut == 1) {
            tape_add(&tapes[0],
                     (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 2, .lsn = 1});
            tape_add(&tapes[0], (struct torc_log_record){
                                    .kind = TORC_LOG_PUT, .epoch = 2, .lsn = 2, .key = 20});
        }
        replay = replay_open_followers(shards, 8);
        TORC_TEST_OK(replay_tape(replay, &tapes[0], 0, tapes[0].count, &why), &why);
        TORC_TEST_OK(torc_replay_end(replay, &why), &why);
        CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lost, cut == 0);
        CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lsn, cut == 0 ? 0 : 2);
        followers_drop(shards);
    }
}

// A shard that went from stream 1 to 2 and back, deleting on the way what it had put.
static void tapes_of_three_turns(void)
{
    tapes_clear();
    tape_add(&tapes[0], (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 1, .lsn = 1});
    tape_add(&tapes[0],
             (struct torc_log_record){.kind = TORC_LOG_PUT, .epoch = 1, .lsn = 2, .key = 20});
    tape_add(&tapes[1],
             (struct torc_log_record){.kind = TORC_LOG_MOVED, .epoch = 2, .turn = 1, .lsn = 3});
    tape_add(&tapes[1],
             (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 2, .turn = 1, .lsn = 3});
    tape_add(&tapes[1], (struct torc_log_record){
                            .kind = TORC_LOG_DELETE, .epoch = 2, .turn = 1, .lsn = 4, .key = 20});
    tape_add(&tapes[0],
             (struct torc_log_record){.kind = TORC_LOG_MOVED, .epoch = 3, .turn = 2, .lsn = 5});
    tape_add(&tapes[0],
             (struct torc_log_record){.kind = TORC_LOG_EPOCH, .epoch = 3, .turn = 2, .lsn = 5});
}

static void order_note(struct torc_log_order *order, const struct tape *tape)
{
    for (uint32_t i = 0; i < tape->count; i++) {
        struct torc_log_block block;
        struct torc_fail why;

        TORC_TEST_OK(torc_log_block_check(tape->bytes + (size_t)i * SLOT, SLOT, &block, &why),
                     &why);
        TORC_TEST_OK(torc_log_order_note(order, &block, &why), &why);
    }
}

static void test_turns_are_replayed_in_order(void)
{
    struct torc_log_order_note notes[8];
    struct torc_log_order_stream streams[2];
    struct torc_log_order_piece piece;
    struct torc_log_order order;
    struct torc_replay *replay;
    struct torc_fail why;
    bool more;

    tapes_of_three_turns();
    check_refused(&tapes[0], 4, "records 3 to 4 are missing"); // one stream alone
    torc_log_order_init(&order, notes, TORC_COUNT_OF(notes), streams, TORC_COUNT_OF(streams));
    order_note(&order, &tapes[0]);
    order_note(&order, &tapes[1]);
    replay = replay_open(4, 2);
    TORC_TEST_OK(torc_log_order_next(&order, &piece, &more, &why), &why);
    while (more) {
        TORC_TEST_OK(replay_tape(replay, &tapes[piece.stream - 1], (uint32_t)piece.first - 1,
                                 (uint32_t)piece.last, &why),
                     &why);
        TORC_TEST_OK(torc_log_order_next(&order, &piece, &more, &why), &why);
    }
    TORC_TEST_OK(torc_replay_end(replay, &why), &why);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lsn, 5);
    CU_ASSERT_EQUAL(torc_replay_result(replay, 1).turn, 2);
    CU_ASSERT_EQUAL(replayed.tree.record_count, 0);
    torc_shard_drop(&replayed);
    // A turn that the node has forgotten.
    replay = replay_open(4, 1);
    TORC_TEST_OK(replay_tape(replay, &tapes[0], 0, 2, &why), &why);
    TORC_TEST_OK(replay_tape(replay, &tapes[1], 0, 3, &why), &why);
    TORC_TEST_OK(replay_tape(replay, &tapes[0], 2, 4, &why), &why);
    CU_ASSERT_EQUAL(torc_replay_end(replay, &why), TORC_ERR_CORRUPT);
    torc_replay_drop(replay);
    torc_shard_drop(&replayed);
}

static void test_a_checkpoint_needs_its_log(void)
{
    static unsigned char file[1 << 17];
    struct torc_checkpoint_place place = {.cluster = 1, .checkpoint = 9};
    struct torc_checkpoint_writer writer;
    struct torc_replay *replay;
    struct torc_fail why;
    uint64_t bytes = 0;

    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    torc_checkpoint_writer_begin(&writer, &bench.shard, &place);
    put(2, "two"); // while it is written
    while (!torc_checkpoint_writer_done(&writer)) {
        bytes += torc_checkpoint_writer_next(&writer, &bench.shard, file + bytes,
                                             TORC_CHECKPOINT_BLOCK_BYTES_MIN);
    }
    CU_ASSERT_EQUAL(writer.lsn, 2);
    CU_ASSERT_EQUAL(writer.end_lsn, 3);
    CU_ASSERT_EQUAL(writer.end_sequence, 3);
    torc_shard_drop(&bench.shard);
    replay = replay_open(4, 0);
    TORC_TEST_OK(torc_replay_checkpoint(replay, 1, file, bytes, &why), &why);
    TORC_TEST_OK(torc_replay_checkpoint_end(replay, 1, &why), &why);
    CU_ASSERT_EQUAL(torc_replay_end(replay, &why), TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "ends at LSN 2"));
    torc_replay_drop(replay);
    torc_shard_drop(&replayed);
    replay = replay_open(4, 0);
    CU_ASSERT_EQUAL(torc_replay_checkpoint(replay, 2, file, bytes, &why), TORC_ERR_CORRUPT);
    TORC_TEST_OK(torc_replay_checkpoint(replay, 1, file, bytes - 1, &why), &why);
    CU_ASSERT_EQUAL(torc_replay_checkpoint_end(replay, 1, &why), TORC_ERR_CORRUPT);
    torc_replay_drop(replay);
    torc_shard_drop(&replayed);
}

// A shard that begins anew with its first record: its checkpoint waits for no block, so it may be
// kept and its BEGUN lost. Nothing of the log before counts then, and what comes since does.
static void test_a_checkpoint_outlives_its_begun(void)
{
    static unsigned char file[TORC_CHECKPOINT_BLOCK_BYTES_MIN * 4];
    struct torc_log_record record = {.kind = TORC_LOG_EPOCH, .epoch = 1, .turn = 4, .lsn = 1};
    struct torc_checkpoint_place place = {.cluster = 1, .checkpoint = 9};
    struct torc_shard_config config;
    struct torc_checkpoint_writer writer;
    struct torc_shard shards[2];
    struct torc_fail why;
    uint64_t bytes = 0;

    bench_pool(100, CHUNKS);
    config = bench_config(1, 3);
    config.follows = true;
    config.anew = true;
    config.turn = 4;
    TORC_TEST_OK(torc_shard_init(&bench.shard, &rig.pool, &config, &why), &why);
    torc_shard_follow(&bench.shard, 3);
    CU_ASSERT_TRUE(torc_shard_begin(&bench.shard, &bench.record));
    CU_ASSERT_EQUAL(bench.record.kind, TORC_LOG_BEGUN);
    torc_shard_appended(&bench.shard, 3, 3);
    torc_checkpoint_writer_begin(&writer, &bench.shard, &place);
    while (!torc_checkpoint_writer_done(&writer)) {
        bytes += torc_checkpoint_writer_next(&writer, &bench.shard, file + bytes,
                                             TORC_CHECKPOINT_BLOCK_BYTES_MIN);
    }
    CU_ASSERT_EQUAL(writer.end_sequence, 0);
    torc_shard_drop(&bench.shard);
    tapes_clear();
    tape_add(&tapes[0], record); // of before
    for (uint64_t last = 0; last <= 1; last++) {
        struct torc_replay *replay = replay_open_followers(shards, 8);

        shards[0].turn = 5;
        TORC_TEST_OK(torc_replay_checkpoint(replay, 1, file, bytes, &why), &why);
        TORC_TEST_OK(torc_replay_checkpoint_end(replay, 1, &why), &why);
        CU_ASSERT_EQUAL(replay_rounds(replay, &tapes[0]), 1);
        CU_ASSERT_FALSE(torc_replay_result(replay, 1).lost);
        CU_ASSERT_EQUAL(torc_replay_result(replay, 1).lsn, last);
        CU_ASSERT_EQUAL(torc_replay_result(replay, 1).turn, 5);
        followers_drop(shards);
        record.turn = 5;
        tape_add(&tapes[0], record);
    }
}

// Blocks of others that are lost have their numbers used again, by this shard too.
static void test_a_checkpoint_needs_what_may_be_lost(void)
{
    struct torc_checkpoint_place place = {.cluster = 1, .checkpoint = 9, .durable = 4};
    struct torc_checkpoint_writer writer;

    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    torc_checkpoint_writer_begin(&writer, &bench.shard, &place);
    CU_ASSERT_EQUAL(writer.start_sequence, 5);
    torc_shard_drop(&bench.shard);
}

// How far the records of the sealed block say that their shard is committed.
static uint64_t block_tells(const unsigned char *bytes, uint32_t byte_count)
{
    static struct torc_log_reader reader;
    struct torc_log_block block;
    struct torc_log_record record;
    struct torc_fail why;
    uint64_t commit_lsn = 0;
    bool more = true;

    TORC_TEST_OK(torc_log_block_check(bytes, byte_count, &block, &why), &why);
    torc_log_reader_init(&reader, &block);
    while (torc_log_reader_next(&reader, &record, &more, &why) == TORC_ERR_OK && more) {
        commit_lsn = torc_max_u64(commit_lsn, record.commit_lsn);
    }
    return commit_lsn;
}

// What is counted as unsaid is what a replay of these blocks would hold.
static void test_the_log_says_what_is_counted(void)
{
    static unsigned char bytes[TORC_LOG_BLOCK_BYTES_MAX];
    struct torc_log_record record = {.kind = TORC_LOG_EPOCH, .shard = 1, .epoch = 1};
    struct torc_shard_config config;
    struct torc_shard_outcome none;
    struct torc_rng rng = {.state = torc_test_seed()};
    struct torc_fail why;
    uint64_t told = 0;

    bench_pool(100, CHUNKS);
    config = bench_config(1, 1);
    config.follows = true;
    TORC_TEST_OK(torc_shard_init(&bench.shard, &rig.pool, &config, &why), &why);
    torc_shard_follow(&bench.shard, 1);
    torc_log_block_begin(&builder, bytes, sizeof(bytes));
    for (uint64_t sequence = 1; sequence < 300;) {
        struct torc_log_place place = {.sequence = sequence, .stream = 1};
        uint64_t dice = torc_rng_below(&rng, 100);
        uint32_t done = 0;
        bool logs = false;

        record.lsn = bench.shard.next_lsn;
        record.hlc = 1000 + record.lsn;
        record.kind = record.lsn == 1 ? TORC_LOG_EPOCH : TORC_LOG_EMPTY;
        if (dice < 40 && torc_shard_stage(&bench.shard, &record, NULL) == TORC_ERR_OK) {
            logs = torc_shard_take(&bench.shard, &bench.record);
        } else if (dice < 60) {
            logs = torc_shard_note(&bench.shard, 1 + dice % 4, &bench.record);
        } else if (dice < 80) {
            uint64_t pending = bench.shard.next_lsn - 1 - bench.shard.applied_lsn;

            (void)torc_shard_commit_to(&bench.shard,
                                       bench.shard.applied_lsn + torc_rng_below(&rng, pending + 1),
                                       &none, 1);
        } else if (!torc_log_block_is_empty(&builder)) {
            uint32_t byte_count = torc_log_block_seal(&builder, &place);

            told = torc_max_u64(told, block_tells(bytes, byte_count));
            CU_ASSERT_EQUAL(bench.shard.said_lsn, told);
            CU_ASSERT_EQUAL(torc_shard_unsaid(&bench.shard), bench.shard.logged_lsn - told);
            torc_log_block_begin(&builder, bytes, sizeof(bytes));
            sequence++;
        }
        if (logs) {
            CU_ASSERT_TRUE(torc_log_block_append(&builder, &bench.record, &done));
            torc_shard_appended(&bench.shard, sequence, sequence);
        }
    }
    torc_shard_drop(&bench.shard);
}

// A record behind the last one, taken and committed at once.
static enum torc_err follow_on(enum torc_log_kind kind)
{
    struct torc_shard_outcome none;
    struct torc_log_record record = {.kind = kind,
                                     .shard = 1,
                                     .epoch = bench.shard.last_epoch,
                                     .lsn = bench.shard.next_lsn,
                                     .hlc = bench.shard.last_hlc + 1};
    enum torc_err err;

    record.epoch += kind == TORC_LOG_EPOCH ? 1 : 0;
    err = torc_shard_stage(&bench.shard, &record, NULL);
    if (err == TORC_ERR_OK) {
        CU_ASSERT_TRUE(torc_shard_take(&bench.shard, &bench.record));
        bench_append();
        CU_ASSERT_EQUAL(torc_shard_commit_to(&bench.shard, record.lsn, &none, 1), 0);
    }
    return err;
}

// However fast they are committed, and though slots are free: replay has slots for no more records
// than S between two looks at what the log says of commits (0028). An EPOCH is never refused.
static void test_a_look_comes_before_more_is_taken(void)
{
    enum {
        SLOTS = 8
    };
    bench_pool(SLOTS, CHUNKS);
    rig.pool.replay_max = 2 * SLOTS; // of a worker with replicas
    bench_open();
    bench.shard.follows = true;
    for (uint32_t look = 0; look < 3; look++) { // as primary
        rig.pool.appended_count = 0;            // as torc_worker_note_commits has it
        for (uint32_t i = 0; i < SLOTS; i++) {
            put(i, "value");
        }
        check_answer(write_of(1, "value"), TORC_ERR_BUSY);
    }
    torc_shard_follow(&bench.shard, 4);
    for (uint32_t look = 0; look < 3; look++) { // as backup
        CU_ASSERT_EQUAL(follow_on(TORC_LOG_EMPTY), TORC_ERR_BUSY);
        CU_ASSERT_EQUAL(follow_on(TORC_LOG_EPOCH), TORC_ERR_OK);
        rig.pool.appended_count = 0;
        for (uint32_t i = 0; i < SLOTS; i++) {
            CU_ASSERT_EQUAL(follow_on(TORC_LOG_EMPTY), TORC_ERR_OK);
        }
    }
    torc_shard_drop(&bench.shard);
    bench_pool(SLOTS, CHUNKS); // where there is none for replay, nobody looks
    bench_open();
    bench.shard.follows = true;
    for (uint32_t i = 0; i < 3 * SLOTS; i++) {
        put(i, "value");
    }
    torc_shard_drop(&bench.shard);
}

// -- A log that can be replayed in the memory that there was --------------------------------------

#define LIFE_BYTES (UINT64_C(8) << 20)
#define LARGE      36000u // nine units of the heap

struct life {
    struct torc_rng rng;
    struct torc_log_builder builder;
    unsigned char *log;
    uint64_t log_bytes;
    uint64_t sequence;
    uint64_t looks;
};

static void life_block(struct life *life)
{
    torc_log_block_begin(&life->builder, life->log + life->log_bytes, TORC_LOG_BLOCK_BYTES_MAX);
    life->sequence++;
}

static void life_seal(struct life *life)
{
    struct torc_log_place place = {.sequence = life->sequence, .stream = 1};

    life->log_bytes += torc_log_block_seal(&life->builder, &place);
    life_block(life);
}

static void life_append(struct life *life)
{
    uint64_t first = life->sequence;
    uint32_t done = 0;

    while (!torc_log_block_append(&life->builder, &bench.record, &done)) {
        first = done > 0 ? first : first + 1;
        life_seal(life);
    }
    torc_shard_appended(&bench.shard, first, life->sequence);
}

// A record of the primary; where the log has to say of commits first, it does, and the record goes.
static void life_take(struct life *life)
{
    static unsigned char value[LARGE];
    bool is_put = torc_rng_below(&life->rng, 5) > 0;
    struct torc_log_record record = {.kind = is_put ? TORC_LOG_PUT : TORC_LOG_DELETE,
                                     .shard = 1,
                                     .epoch = 1,
                                     .with_client = true,
                                     .client = 7,
                                     .seq = bench.shard.next_lsn,
                                     .low = bench.shard.next_lsn,
                                     .lsn = bench.shard.next_lsn,
                                     .hlc = 1000 + bench.shard.next_lsn,
                                     .key = torc_rng_below(&life->rng, 4),
                                     .value = value,
                                     .value_bytes = is_put ? LARGE : 0};
    enum torc_err err;

    if (record.lsn == 1) {
        record.kind = TORC_LOG_EPOCH;
        record.with_client = false;
        record.value_bytes = 0;
    }
    err = torc_shard_stage(&bench.shard, &record, NULL);
    if (err == TORC_ERR_BUSY && torc_shard_note(&bench.shard, 1, &bench.record)) {
        life_append(life);
        life->looks++;
        rig.pool.appended_count = 0;
        err = torc_shard_stage(&bench.shard, &record, NULL);
        CU_ASSERT_NOT_EQUAL(err, TORC_ERR_BUSY);
    }
    if (err == TORC_ERR_OK) {
        CU_ASSERT_TRUE(torc_shard_take(&bench.shard, &bench.record));
        life_append(life);
    } else {
        CU_ASSERT_EQUAL(err, TORC_ERR_NO_SPACE); // by what is here
    }
}

static void life_pool(bool past)
{
    struct torc_shard_pool_config config = {
        .slots_max = 64,
        .waiting_max = 1,
        .own_max = TORC_SHARD_OWN,
        .replay_max = 128,
        .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
        .principal_ppm = 1000000,
        .dedup_ttl_s = 120,
        .seed = 1,
        .undo = {.bytes = past ? TORC_UNDO_BYTES_MIN : 0, .age_us = 1000000, .pin_us = 1000000}};
    struct torc_shard_config shard = bench_config(1, 1);
    struct torc_fail why;

    shard_rig_pool(&rig, CHUNKS, &config);
    rig.pool.wall_us = WALL_US;
    shard.follows = true;
    TORC_TEST_OK(torc_shard_init(&bench.shard, &rig.pool, &shard, &why), &why);
}

static void life_replay(const struct life *life)
{
    struct torc_replay *replay;
    struct torc_fail why;
    bool again = true;

    free(replay_memory);
    replay_memory = aligned_alloc(64, (torc_replay_bytes(1) + 63) / 64 * 64);
    torc_assert(replay_memory != NULL);
    memset(replay_memory, 0, torc_replay_bytes(1));
    replay = torc_replay_init(replay_memory, torc_replay_bytes(1), 1);
    torc_replay_add(replay, &bench.shard);
    while (again) {
        enum torc_err err = torc_replay_log(replay, 1, life->log, life->log_bytes, &why);

        TORC_TEST_OK(err, &why);
        again = err == TORC_ERR_OK && torc_replay_again(replay);
    }
    torc_replay_drop(replay);
}

// Values that were overwritten or deleted since, by what the log does not say is committed, are
// there again in replay, beside those that took their place: a life takes no more than that.
static void test_a_full_heap_can_be_replayed(void)
{
    static struct life life;
    struct torc_shard_outcome none;
    uint64_t limit_bytes = rig.heap.limit_bytes;

    life = (struct life){.rng = {.state = torc_test_seed()}};
    life.log = malloc(LIFE_BYTES);
    torc_assert(life.log != NULL);
    rig.heap.limit_bytes = UINT64_C(9) * 9 * TORC_HEAP_UNIT_BYTES; // nine values
    for (uint32_t round = 0; round < 40; round++) {
        uint64_t log_bytes = 1 + torc_rng_below(&life.rng, LIFE_BYTES / 2);

        life.log_bytes = 0;
        life.sequence = 0;
        life_pool(round % 2 > 0);
        torc_shard_follow(&bench.shard, 1);
        life_block(&life);
        while (life.log_bytes < log_bytes) {
            uint64_t dice = torc_rng_below(&life.rng, 10);
            uint64_t pending = bench.shard.next_lsn - 1 - bench.shard.applied_lsn;

            if (dice < 5) {
                life_take(&life);
            } else if (dice < 9) {
                (void)torc_shard_commit_to(
                    &bench.shard, bench.shard.applied_lsn + torc_rng_below(&life.rng, pending + 1),
                    &none, 1);
            } else if (!torc_log_block_is_empty(&life.builder)) {
                life_seal(&life);
            }
        }
        torc_shard_drop(&bench.shard);
        torc_undo_clear(&rig.pool.undo);
        CU_ASSERT_EQUAL(rig.pool.unsaid_count, 0);
        CU_ASSERT_EQUAL(rig.pool.unsaid_bytes, 0);
        life_pool(false);
        life_replay(&life);
        torc_shard_drop(&bench.shard);
        CU_ASSERT_EQUAL(rig.heap.block_count, 0);
    }
    CU_ASSERT_TRUE(life.looks > 0);
    rig.heap.limit_bytes = limit_bytes;
    free(life.log);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"refusals leave nothing behind", test_refusals},
        {"conditions, and their failures remembered", test_conditions},
        {"a conditional write waits for the one before", test_waiting_for_the_one_before},
        {"full memory refuses writes only", test_full_memory},
        {"a full table takes the oldest write", test_full_table_takes_the_oldest},
        {"old clients leave, also an idle shard", test_old_clients_leave},
        {"gaps in a log are damage", test_gaps_are_damage},
        {"an epoch cancels what it replaces", test_an_epoch_cancels_what_it_replaces},
        {"what is cut later is not applied for room",
         test_what_is_cut_later_is_not_applied_for_room},
        {"what is committed later gives its room", test_what_is_committed_later_gives_its_room},
        {"replay without room says so", test_replay_without_room_says_so},
        {"replay passes over the end of a tail that was cut", test_replay_passes_over_a_cut_tail},
        {"turns are replayed in order", test_turns_are_replayed_in_order},
        {"a checkpoint needs its log", test_a_checkpoint_needs_its_log},
        {"a checkpoint outlives its BEGUN", test_a_checkpoint_outlives_its_begun},
        {"a checkpoint needs what may be lost", test_a_checkpoint_needs_what_may_be_lost},
        {"the log says what is counted", test_the_log_says_what_is_counted},
        {"a look comes before more is taken", test_a_look_comes_before_more_is_taken},
        {"a full heap can be replayed", test_a_full_heap_can_be_replayed},
        CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("shard", tests);
    free(replay_memory);
    shard_rig_close(&rig);
    return status;
}
