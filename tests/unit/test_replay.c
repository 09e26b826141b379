// Torc tests: what replay takes and refuses. (Its models are model_replay.c and model_log.c.)
#include "storage/log_order.h"
#include "storage/replay.h"
#include "storage/scan.h"
#include "tests/unit/shard_bench.h"

#include <stdlib.h>

#define CLIENTS_FILE 65536u
#define MOVING_KEYS  1300u // of 4000 bytes each: most of the heap
#define MOVING_FILE  (UINT64_C(4) * MOVING_KEYS * 4000)

enum {
    BLOCKS_MAX = 24,
};

#define SLOT TORC_LOG_SLOT_BYTES

// A stream of blocks of one slot, written record by record.
struct tape {
    unsigned char bytes[BLOCKS_MAX * SLOT];
    uint32_t stream;
    uint32_t count;
};

static struct tape tapes[2];
static struct torc_log_builder builder;
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
    struct torc_replay *replay = bench_replay(1);
    struct torc_fail why;

    bench_pool(100, CHUNKS);
    config.turn = turn;
    TORC_TEST_OK(torc_shard_init(&replayed, &rig.pool, &config, &why), &why);
    torc_replay_add(replay, &replayed);
    return replay;
}

// Two shards that follow, in a pool of so many slots.
static struct torc_replay *replay_open_followers(struct torc_shard shards[2], uint32_t slots)
{
    struct torc_replay *replay = bench_replay(2);
    struct torc_fail why;

    bench_pool(slots, CHUNKS);
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

// A checkpoint's file and log, made while what it has is deleted behind it and put anew before it.
struct moving {
    unsigned char *file;
    unsigned char *log;
    uint64_t file_bytes;
    uint64_t log_bytes;
    uint32_t blocks;
    struct torc_checkpoint_writer writer;
};

static void moving_log(struct moving *moving)
{
    struct torc_log_place place = {.cluster = 1,
                                   .sequence = ++moving->blocks,
                                   .generation = 1,
                                   .node = 1,
                                   .stream = 1,
                                   .segment = 1};
    uint32_t done = 0;

    torc_log_block_begin(&builder, moving->log + moving->log_bytes, 2 * SLOT);
    CU_ASSERT_TRUE_FATAL(torc_log_block_append(&builder, &bench.record, &done));
    moving->log_bytes += torc_log_block_seal(&builder, &place);
}

// `value` NULL: a delete.
static void moving_write(struct moving *moving, uint64_t key, const char *value)
{
    struct torc_shard_write write = write_of(key, value == NULL ? "" : value);

    write.remove = value == NULL;
    write.low = write.seq;
    CU_ASSERT_EQUAL_FATAL(send(write), TORC_SHARD_APPEND);
    moving_log(moving);
    CU_ASSERT_EQUAL(bench_commit(), 1);
}

static void moving_make(struct moving *moving, const char *value)
{
    struct torc_checkpoint_place place = {.cluster = 1, .checkpoint = 9};
    uint64_t low = 1;

    bench_pool(100, CHUNKS);
    bench_open();
    for (uint64_t key = 1; key <= MOVING_KEYS; key++) {
        moving_write(moving, key, value);
    }
    moving->blocks = 0; // the file has them
    moving->log_bytes = 0;
    torc_checkpoint_writer_begin(&moving->writer, &bench.shard, &place);
    while (!torc_checkpoint_writer_done(&moving->writer)) {
        CU_ASSERT_FATAL(moving->file_bytes + TORC_CHECKPOINT_BLOCK_BYTES_MAX <= MOVING_FILE);
        moving->file_bytes += torc_checkpoint_writer_next(&moving->writer, &bench.shard,
                                                          moving->file + moving->file_bytes,
                                                          TORC_CHECKPOINT_BLOCK_BYTES_MAX);
        for (; low <= MOVING_KEYS && low < moving->writer.cursor.next; low++) {
            moving_write(moving, low, NULL);
            moving_write(moving, MOVING_KEYS + low, value);
        }
    }
    CU_ASSERT_EQUAL(low, MOVING_KEYS + 1);
    CU_ASSERT_EQUAL(bench.shard.tree.record_count, MOVING_KEYS);
    torc_shard_drop(&bench.shard);
}

// It fits where the shard did: it has nothing of what the log has.
static void test_a_checkpoint_holds_one_moment(void)
{
    static char value[4001];
    struct moving moving = {.file = malloc(MOVING_FILE), .log = malloc(MOVING_FILE)};
    struct torc_replay *replay;
    struct torc_tree_hit hit;
    struct torc_fail why;

    torc_assert(moving.file != NULL && moving.log != NULL);
    memset(value, 'x', sizeof(value) - 1);
    moving_make(&moving, value);
    CU_ASSERT(moving.writer.record_count <= MOVING_KEYS);
    replay = replay_open(4, 1);
    TORC_TEST_OK(torc_replay_checkpoint(replay, 1, moving.file, moving.file_bytes, &why), &why);
    TORC_TEST_OK(torc_replay_checkpoint_end(replay, 1, &why), &why);
    TORC_TEST_OK(torc_replay_log(replay, 1, moving.log, moving.log_bytes, &why), &why);
    TORC_TEST_OK(torc_replay_end(replay, &why), &why);
    CU_ASSERT_EQUAL(replayed.tree.record_count, MOVING_KEYS);
    CU_ASSERT_TRUE(torc_tree_lookup(&replayed.tree, UINT64_C(2) * MOVING_KEYS, &hit));
    CU_ASSERT_EQUAL(hit.value_bytes, sizeof(value) - 1);
    torc_replay_drop(replay);
    torc_shard_drop(&replayed);
    free(moving.file);
    free(moving.log);
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

// The file of a shard that has so many clients, who wrote so long after one another: the last one
// just now.
static uint64_t clients_file(uint32_t shard, uint32_t count, uint64_t each_us, unsigned char *file)
{
    struct torc_checkpoint_place place = {.cluster = 1, .checkpoint = 9};
    struct torc_completion_promise none = {0};
    struct torc_checkpoint_writer writer;
    uint64_t bytes = 0;

    bench.shard.shard = shard;
    bench.shard.completions.shard = shard;
    bench.shard.applied_hlc = torc_hlc_from_us(rig.pool.wall_us);
    for (uint32_t i = 0; i < count; i++) {
        struct torc_completion_head head = {
            .who = {.client = 1000 * shard + i, .principal = 1},
            .low = 1,
            .last_hlc = torc_hlc_from_us(rig.pool.wall_us - (count - 1 - i) * each_us - i % 7)};

        CU_ASSERT_TRUE(torc_completion_apply(&bench.shard.completions, &head, 1, &none));
    }
    torc_checkpoint_writer_begin(&writer, &bench.shard, &place);
    while (!torc_checkpoint_writer_done(&writer)) {
        bytes += torc_checkpoint_writer_next(&writer, &bench.shard, file + bytes,
                                             TORC_CHECKPOINT_BLOCK_BYTES_MIN);
        CU_ASSERT_FATAL(bytes + TORC_CHECKPOINT_BLOCK_BYTES_MIN <= CLIENTS_FILE);
    }
    torc_completion_drop(&bench.shard.completions);
    return bytes;
}

// Two checkpoints of one round, minutes apart: each one's clients fit, both together do not.
static void test_clients_of_several_moments_fit(void)
{
    static unsigned char files[2][CLIENTS_FILE];
    struct torc_shard shards[2];
    uint64_t bytes[2];
    struct torc_fail why;

    bench_pool(100, CHUNKS);
    bench_open();
    bytes[0] = clients_file(1, rig.pool.completions.entry_max / 5 * 4, 0, files[0]);
    rig.pool.wall_us += 200000000;
    bytes[1] = clients_file(2, rig.pool.completions.entry_max / 5 * 4, 0, files[1]);
    torc_shard_drop(&bench.shard);
    for (uint32_t first = 0; first < 2; first++) {
        struct torc_replay *replay = bench_replay(2);

        for (uint32_t i = 0; i < 2; i++) {
            struct torc_shard_config config = bench_config(1 + i, 4);

            config.turn = 1;
            TORC_TEST_OK(torc_shard_init(&shards[i], &rig.pool, &config, &why), &why);
            torc_replay_add(replay, &shards[i]);
        }
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t at = first ^ i;

            TORC_TEST_OK(torc_replay_checkpoint(replay, 1 + at, files[at], bytes[at], &why), &why);
            TORC_TEST_OK(torc_replay_checkpoint_end(replay, 1 + at, &why), &why);
        }
        TORC_TEST_OK(torc_replay_end(replay, &why), &why);
        for (uint32_t i = 0; i < 2; i++) {
            TORC_TEST_OK(torc_completion_check(&shards[i].completions, &why), &why);
            CU_ASSERT_EQUAL(shards[i].completions.client_count,
                            i == 0 ? 0 : rig.pool.completions.entry_max / 5 * 4);
            torc_shard_drop(&shards[i]);
        }
        CU_ASSERT_EQUAL(rig.pool.completions.entry_used, 0);
    }
}

// The pool was full all the time, of clients that write once: a new one came as the oldest left.
// The file of a shard is a minute older than that of the other, and each client of the later one
// finds room that one of the former leaves. What that costs does not grow with how many there are.
static void test_a_pool_that_was_full_is_sorted_seldom(void)
{
    static unsigned char files[2][CLIENTS_FILE];
    struct torc_shard shards[2];
    struct torc_replay *replay;
    uint64_t sorts;
    uint64_t bytes[2];
    uint32_t half = 0;
    struct torc_fail why;

    for (uint32_t i = 0; i < 2; i++) {
        bench_pool(100, CHUNKS); // whose places are taken in order, as the file has them
        bench_open();
        half = rig.pool.completions.entry_max / 2;
        rig.pool.wall_us += UINT64_C(60000000) * i;
        bytes[i] = clients_file(1 + i, i == 0 ? 2 * half : half, 60000000 / half, files[i]);
        torc_shard_drop(&bench.shard);
    }
    replay = bench_replay(2);
    sorts = rig.pool.completions.sort_count;
    for (uint32_t i = 0; i < 2; i++) {
        struct torc_shard_config config = bench_config(1 + i, 4);

        config.turn = 1;
        TORC_TEST_OK(torc_shard_init(&shards[i], &rig.pool, &config, &why), &why);
        torc_replay_add(replay, &shards[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        TORC_TEST_OK(torc_replay_checkpoint(replay, 1 + i, files[i], bytes[i], &why), &why);
        TORC_TEST_OK(torc_replay_checkpoint_end(replay, 1 + i, &why), &why);
    }
    CU_ASSERT_EQUAL(shards[1].completions.client_count, half);
    CU_ASSERT(rig.pool.completions.sort_count - sorts <= 4); // two are those of the files' ends
    TORC_TEST_OK(torc_replay_end(replay, &why), &why);
    for (uint32_t i = 0; i < 2; i++) {
        TORC_TEST_OK(torc_completion_check(&shards[i].completions, &why), &why);
        torc_shard_drop(&shards[i]);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"gaps in a log are damage", test_gaps_are_damage},
        {"an epoch cancels what it replaces", test_an_epoch_cancels_what_it_replaces},
        {"what is cut later is not applied for room",
         test_what_is_cut_later_is_not_applied_for_room},
        {"what is committed later gives its room", test_what_is_committed_later_gives_its_room},
        {"replay without room says so", test_replay_without_room_says_so},
        {"replay passes over the end of a tail that was cut", test_replay_passes_over_a_cut_tail},
        {"turns are replayed in order", test_turns_are_replayed_in_order},
        {"a checkpoint needs its log", test_a_checkpoint_needs_its_log},
        {"a checkpoint holds one moment", test_a_checkpoint_holds_one_moment},
        {"a checkpoint outlives its BEGUN", test_a_checkpoint_outlives_its_begun},
        {"clients of several moments fit", test_clients_of_several_moments_fit},
        {"a pool that was full is sorted seldom", test_a_pool_that_was_full_is_sorted_seldom},
        {"a checkpoint needs what may be lost", test_a_checkpoint_needs_what_may_be_lost},
        CU_TEST_INFO_NULL};

    return bench_run("replay", tests);
}
