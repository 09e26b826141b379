// Torc tests: the log says how far shards are committed, so that a replay has room for what it does
// not say of (docs/decisions/0028).
#include "kit/rng.h"
#include "storage/replay.h"
#include "tests/unit/shard_bench.h"

static struct torc_log_builder builder;

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
        torc_shard_looked(&rig.pool, 0);        // as torc_worker_note_commits has it
        for (uint32_t i = 0; i < SLOTS; i++) {
            put(i, "value");
        }
        check_answer(write_of(1, "value"), TORC_ERR_BUSY);
    }
    torc_shard_follow(&bench.shard, 4);
    for (uint32_t look = 0; look < 3; look++) { // as backup
        CU_ASSERT_EQUAL(follow_on(TORC_LOG_EMPTY), TORC_ERR_BUSY);
        CU_ASSERT_EQUAL(follow_on(TORC_LOG_EPOCH), TORC_ERR_OK);
        torc_shard_looked(&rig.pool, 0);
        for (uint32_t i = 0; i < SLOTS; i++) {
            CU_ASSERT_EQUAL(follow_on(TORC_LOG_EMPTY), TORC_ERR_OK);
        }
    }
    torc_shard_drop(&bench.shard);
    bench_pool(SLOTS, CHUNKS);
    rig.pool.replay_max = 2 * SLOTS;
    bench_open();
    bench.shard.follows = true;
    torc_shard_looked(&rig.pool, 0);
    for (uint32_t i = 0; i < SLOTS; i++) {
        put(i, "value");
    }
    rig.pool.wall_us += 121000000; // its client is past its time
    CU_ASSERT_FALSE(torc_shard_idle(&bench.shard, &bench.record));
    torc_shard_looked(&rig.pool, 1);
    CU_ASSERT_TRUE(torc_shard_idle(&bench.shard, &bench.record));
    bench_append();
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
        torc_shard_looked(&rig.pool, 0);
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
    struct torc_replay *replay = bench_replay(1);
    struct torc_fail why;
    bool again = true;

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

// -- A log that can be replayed in the slots that there were --------------------------------------

enum {
    TURNS = 20,
    SLOTS_FEW = 8,
    COPIES = 4,
};

#define COPIES_BYTES (UINT64_C(16) << 20)

// A worker with some shards, all of which follow, and its log.
struct copies {
    struct torc_rng rng;
    struct torc_shard shards[COPIES];
    struct torc_log_builder builder;
    unsigned char *log;
    uint64_t log_bytes;
    uint64_t sequence;
    uint32_t commit_percent; // of the messages of this life
    uint32_t full_percent;   // of the looks find no room in the log
    uint64_t taken;
};

static struct copies copies;

static bool copies_chance(uint32_t percent)
{
    return torc_rng_below(&copies.rng, 100) < percent;
}

static void copies_block(void)
{
    torc_log_block_begin(&copies.builder, copies.log + copies.log_bytes, TORC_LOG_SLOT_BYTES);
    copies.sequence++;
}

static void copies_seal(void)
{
    struct torc_log_place place = {.sequence = copies.sequence, .stream = 1};

    if (!torc_log_block_is_empty(&copies.builder)) {
        copies.log_bytes += torc_log_block_seal(&copies.builder, &place);
        CU_ASSERT_TRUE_FATAL(copies.log_bytes + TORC_LOG_SLOT_BYTES <= COPIES_BYTES);
        copies_block();
    }
}

static void copies_append(struct torc_shard *shard, const struct torc_log_record *record)
{
    uint32_t done = 0;

    while (!torc_log_block_append(&copies.builder, record, &done)) {
        copies_seal();
    }
    torc_shard_appended(shard, copies.sequence, copies.sequence);
}

static uint64_t copies_unsaid(void)
{
    uint64_t unsaid = 0;

    for (uint32_t i = 0; i < COPIES; i++) {
        unsaid += torc_shard_unsaid(&copies.shards[i]);
    }
    return unsaid;
}

// As torc_worker_note_commits has it.
static void copies_look(bool full)
{
    uint64_t lag_min = torc_shard_look(&rig.pool, copies_unsaid(), COPIES);
    struct torc_log_record record;

    for (uint32_t i = 0; i < COPIES && lag_min > 0 && !full; i++) {
        if (torc_shard_note(&copies.shards[i], lag_min, &record)) {
            copies_append(&copies.shards[i], &record);
        }
    }
    torc_shard_looked(&rig.pool, copies_unsaid());
}

// All that the log has goes into shards of a fresh pool.
static void copies_replay(void)
{
    struct torc_shard_pool_config config = {.slots_max = SLOTS_FEW,
                                            .waiting_max = 1,
                                            .own_max = COPIES * TORC_SHARD_OWN,
                                            .replay_max = 2 * SLOTS_FEW,
                                            .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
                                            .principal_ppm = 1000000,
                                            .dedup_ttl_s = 120,
                                            .seed = 1};
    struct torc_replay *replay = bench_replay(COPIES);
    struct torc_fail why;
    enum torc_err err;

    shard_rig_pool(&rig, CHUNKS, &config);
    rig.pool.wall_us = WALL_US;
    for (uint32_t i = 0; i < COPIES; i++) {
        struct torc_shard_config shard = bench_config(i + 1, 1);

        shard.follows = true;
        TORC_TEST_OK(torc_shard_init(&copies.shards[i], &rig.pool, &shard, &why), &why);
        torc_replay_add(replay, &copies.shards[i]);
    }
    do {
        err = torc_replay_log(replay, 1, copies.log, copies.log_bytes, &why);
        TORC_TEST_OK(err, &why);
        CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
    } while (torc_replay_again(replay));
    TORC_TEST_OK(torc_replay_end(replay, &why), &why);
    for (uint32_t i = 0; i < COPIES; i++) {
        torc_shard_follow(&copies.shards[i], 1);
        CU_ASSERT_FALSE(torc_shard_begin(&copies.shards[i], &bench.record));
    }
}

// A message of a shard's primary: what is committed, and records.
static void copies_message(struct torc_shard *shard)
{
    uint64_t pending = shard->next_lsn - 1 - shard->applied_lsn;
    struct torc_log_record record = {.shard = shard->shard, .epoch = 1};
    struct torc_shard_outcome none;

    if (copies_chance(copies.commit_percent)) {
        uint64_t some = copies_chance(50) ? pending : torc_rng_below(&copies.rng, pending + 1);

        CU_ASSERT_EQUAL(torc_shard_commit_to(shard, shard->applied_lsn + some, &none, 1), 0);
    }
    for (uint64_t count = 1 + torc_rng_below(&copies.rng, 3); count > 0; count--) {
        record.lsn = shard->next_lsn;
        record.hlc = 1000 + record.lsn;
        record.kind = record.lsn == 1 ? TORC_LOG_EPOCH : TORC_LOG_EMPTY;
        if (torc_shard_stage(shard, &record, NULL) != TORC_ERR_OK) {
            break; // it is sent again
        }
        CU_ASSERT_TRUE(torc_shard_take(shard, &record));
        copies_append(shard, &record);
        copies.taken++;
    }
}

// What arrives until the look at the turn's end.
static void copies_turn(uint32_t heard)
{
    for (uint64_t i = torc_rng_below(&copies.rng, UINT64_C(4) * SLOTS_FEW); i > 0; i--) {
        uint32_t shard = (uint32_t)torc_rng_below(&copies.rng, COPIES);

        while ((heard >> shard & 1) == 0) {
            shard = (shard + 1) % COPIES;
        }
        copies_message(&copies.shards[shard]);
        if (copies_chance(5)) {
            copies_seal();
        }
    }
}

static void copies_live(void)
{
    uint32_t heard = 1 + (uint32_t)torc_rng_below(&copies.rng, (1u << COPIES) - 1);
    uint64_t turns = torc_rng_below(&copies.rng, TURNS);

    copies.commit_percent = 50 * (uint32_t)torc_rng_below(&copies.rng, 3);
    copies_block();
    copies_look(false);
    for (uint64_t turn = 0; turn < turns; turn++) {
        copies_turn(heard);
        if (torc_shard_look_is_due(&rig.pool)) {
            copies_look(copies_chance(copies.full_percent));
        }
    }
    copies_turn(heard);
    if (copies_chance(70)) {
        copies_seal(); // else power takes it
    }
    copies.sequence--;
}

// What the log does not say is committed finds slots at each next start.
static void copies_restart(uint32_t lives, uint32_t full_percent)
{
    copies = (struct copies){.rng = {.state = torc_test_seed()}, .full_percent = full_percent};
    copies.log = malloc(COPIES_BYTES);
    torc_assert(copies.log != NULL);
    for (uint32_t log = 0; log < 300; log++) {
        copies.log_bytes = 0;
        copies.sequence = 0;
        for (uint32_t life = 0; life <= lives; life++) {
            copies_replay();
            copies_live();
            for (uint32_t i = 0; i < COPIES; i++) {
                torc_shard_drop(&copies.shards[i]);
            }
        }
    }
    CU_ASSERT_TRUE(copies.taken > 0);
    free(copies.log);
}

// A life has pending what replay held, and can say nothing of it while its primaries are not heard.
static void test_a_life_after_a_life_can_be_replayed(void)
{
    copies_restart(8, 0);
}

static void test_a_look_at_a_full_log_lets_no_more_in(void)
{
    copies_restart(1, 50);
    copies_restart(8, 50);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"the log says what is counted", test_the_log_says_what_is_counted},
        {"a look comes before more is taken", test_a_look_comes_before_more_is_taken},
        {"a life after a life can be replayed", test_a_life_after_a_life_can_be_replayed},
        {"a look at a full log lets no more in", test_a_look_at_a_full_log_lets_no_more_in},
        {"a full heap can be replayed", test_a_full_heap_can_be_replayed},
        CU_TEST_INFO_NULL};

    return bench_run("look", tests);
}
