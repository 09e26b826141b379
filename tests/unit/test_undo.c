// Torc tests: the undo window's edges, one by one. (Its model is model_undo.c.)
#include "kit/hlc.h"
#include "storage/base.h"
#include "tests/shard_rig.h"

#include <stdlib.h>
#include <string.h>

#define HEAP_BYTES (UINT64_C(4) << 20)
#define START_US   UINT64_C(1000000)
#define AGE_US     UINT64_C(1000)

enum {
    CHUNKS = 32,
    PIECES = 16,
    LARGE = 100000
};

static struct shard_rig rig;
static struct torc_shard shard;
static uint64_t sequence;
static uint64_t seq;
static uint32_t epoch = 1;
static unsigned char large[2 * LARGE];

static void open_shard(uint64_t undo_bytes)
{
    struct torc_shard_pool_config config = {
        .slots_max = 64,
        .waiting_max = 8,
        .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
        .principal_ppm = 500000,
        .dedup_ttl_s = 120,
        .seed = 1,
        .undo = {.bytes = undo_bytes, .age_us = AGE_US, .pin_us = 100 * AGE_US}};
    struct torc_shard_config shard_config;
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    struct torc_fail why;

    shard_rig_pool(&rig, CHUNKS, &config);
    rig.pool.wall_us = START_US;
    shard_config = shard_rig_config(&rig);
    shard_config.shard = 1;
    shard_config.epoch = 1;
    shard_config.hi = UINT64_MAX;
    TORC_TEST_OK(torc_shard_init(&shard, &rig.pool, &shard_config, &why), &why);
    while (torc_shard_begin(&shard, &record)) {
        sequence++;
        torc_shard_appended(&shard, sequence, sequence);
    }
    (void)torc_shard_commit(&rig.pool, UINT64_MAX, &outcome, 1); // EPOCH gives no outcome
}

static void close_shard(void)
{
    struct torc_fail why;

    TORC_TEST_OK(torc_shard_check(&shard, &why), &why);
    torc_undo_clear(&rig.pool.undo);
    CU_ASSERT_EQUAL(rig.pool.undo.large_bytes, 0);
    torc_shard_drop(&shard);
    CU_ASSERT_EQUAL(rig.heap.block_count, 0);
}

// Returns the write's version; 0: it was refused.
static uint64_t put(uint64_t key, uint32_t bytes)
{
    struct torc_shard_write write = {.key = key,
                                     .client = 7,
                                     .principal = 1,
                                     .seq = seq + 1,
                                     .low = seq + 1,
                                     .stamp = rig.pool.hlc,
                                     .epoch = epoch,
                                     .value = large,
                                     .value_bytes = bytes};
    struct torc_shard_outcome outcome;
    struct torc_log_record record;

    seq++;
    if (torc_shard_write(&shard, &write, &record, &outcome) != TORC_SHARD_APPEND) {
        CU_ASSERT_EQUAL(outcome.err, TORC_ERR_NO_SPACE);
        return 0;
    }
    sequence++;
    torc_shard_appended(&shard, sequence, sequence);
    CU_ASSERT_EQUAL(torc_shard_commit(&rig.pool, UINT64_MAX, &outcome, 1), 1);
    return outcome.info;
}

static enum torc_shard_past past(uint64_t ts)
{
    enum torc_shard_past state;
    uint64_t oldest;

    do {
        state = torc_shard_past(&shard, ts, 1000, &oldest);
    } while (state == TORC_SHARD_PAST_MORE);
    return state;
}

static void expect_value(uint64_t key, uint64_t ts, uint32_t bytes)
{
    struct torc_tree_hit hit;

    CU_ASSERT_EQUAL_FATAL(past(ts), TORC_SHARD_PAST_READY);
    torc_shard_get_past(&shard, key, ts, &hit);
    CU_ASSERT_TRUE(hit.found);
    CU_ASSERT_EQUAL(hit.value_bytes, bytes);
}

static void test_without_a_window_only_the_present_is_read(void)
{
    uint64_t first;

    open_shard(0);
    first = put(1, 10);
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_READY);
    (void)put(1, 11); // seen by what follows
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_TOO_OLD);
    CU_ASSERT_EQUAL(past(1), TORC_SHARD_PAST_TOO_OLD);
    expect_value(1, shard.applied_hlc, 11);
    close_shard();
}

static void test_before_the_shards_life_nothing_is_known(void)
{
    open_shard(TORC_UNDO_BYTES_MIN);
    (void)put(1, 10);
    CU_ASSERT_EQUAL(past(shard.undo_floor), TORC_SHARD_PAST_READY);
    CU_ASSERT_EQUAL(past(shard.undo_floor - 1), TORC_SHARD_PAST_TOO_OLD);
    CU_ASSERT_EQUAL(past(torc_hlc_from_us(START_US + 3000000)), TORC_SHARD_PAST_AHEAD);
    close_shard();
}

static void test_what_is_read_is_never_written_below(void)
{
    uint64_t ts;

    open_shard(TORC_UNDO_BYTES_MIN);
    ts = torc_hlc_from_us(START_US + 1000000); // ahead, and allowed
    CU_ASSERT_EQUAL(past(ts), TORC_SHARD_PAST_READY);
    CU_ASSERT_TRUE(put(1, 10) > ts);
    close_shard();
}

static void test_age_ends_the_window_and_a_pin_keeps_it(void)
{
    uint64_t first;
    uint64_t second;

    open_shard(TORC_UNDO_BYTES_MIN);
    first = put(1, 10);
    second = put(1, 20);
    torc_undo_pin(&rig.pool.undo, first, START_US + 10 * AGE_US);
    rig.pool.wall_us += 10 * AGE_US;
    torc_shard_pool_age(&rig.pool);
    expect_value(1, first, 10);
    rig.pool.wall_us += 1;
    torc_shard_pool_age(&rig.pool);
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_TOO_OLD);
    expect_value(1, second, 20);
    CU_ASSERT_EQUAL(rig.pool.undo.first, rig.pool.undo.last);
    close_shard();
}

// Anybody's timestamp may move the HLC on: entries age by it. Pins, which the wall clock set, stay.
static void test_a_pin_stays_when_the_clock_is_moved_on(void)
{
    uint64_t first;

    open_shard(TORC_UNDO_BYTES_MIN);
    first = put(1, 10);
    (void)put(1, 20);
    torc_undo_pin(&rig.pool.undo, first, START_US + 10 * AGE_US);
    for (uint32_t i = 0; i < 500; i++) { // some segments, which go one by one
        (void)put(2, 128);
    }
    CU_ASSERT_EQUAL(past(torc_hlc_from_us(START_US + 50 * AGE_US)), TORC_SHARD_PAST_READY);
    (void)put(1, 30);
    rig.pool.wall_us += 10 * AGE_US;
    torc_shard_pool_age(&rig.pool);
    expect_value(1, first, 10);
    rig.pool.wall_us += 1;
    torc_shard_pool_age(&rig.pool);
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_TOO_OLD);
    close_shard();
}

// A machine that began with its clock an hour ahead has a past when it was set back.
static void test_a_clock_that_was_set_back(void)
{
    uint64_t first;

    open_shard(TORC_UNDO_BYTES_MIN);
    rig.pool.wall_us += UINT64_C(3600) * 1000000;
    torc_shard_pool_age(&rig.pool);
    rig.pool.wall_us -= UINT64_C(3600) * 1000000;
    torc_shard_pool_age(&rig.pool);
    first = put(1, 10);
    (void)put(1, 20);
    torc_shard_pool_age(&rig.pool);
    expect_value(1, first, 10);
    rig.pool.wall_us += AGE_US / 2;
    torc_shard_pool_age(&rig.pool);
    expect_value(1, first, 10);
    close_shard();
}

// The index goes when nobody used it for a while, however far others move the HLC.
static void test_the_index_goes_by_the_wall(void)
{
    uint64_t first;
    uint64_t number;

    open_shard(TORC_UNDO_BYTES_MIN);
    first = put(1, 10);
    (void)put(1, 20);
    torc_undo_pin(&rig.pool.undo, first, START_US + 10 * AGE_US);
    torc_shard_pool_age(&rig.pool);
    expect_value(1, first, 10);
    number = rig.pool.undo.index_number;
    CU_ASSERT_EQUAL(past(torc_hlc_from_us(START_US + 50 * AGE_US)), TORC_SHARD_PAST_READY);
    (void)put(1, 30);
    torc_shard_pool_age(&rig.pool);
    expect_value(1, first, 10);
    CU_ASSERT_EQUAL(rig.pool.undo.index_number, number);
    rig.pool.wall_us += AGE_US + 1;
    torc_shard_pool_age(&rig.pool);
    CU_ASSERT_FALSE(rig.pool.undo.indexed);
    close_shard();
}

// A pin does not hold for ever: pin_us.
static void test_a_pin_has_an_end(void)
{
    uint64_t first;

    open_shard(TORC_UNDO_BYTES_MIN);
    first = put(1, 10);
    (void)put(1, 20);
    torc_undo_pin(&rig.pool.undo, first, UINT64_MAX);
    rig.pool.wall_us += 101 * AGE_US;
    torc_shard_pool_age(&rig.pool);
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_TOO_OLD);
    close_shard();
}

// 255 nodes of index for more keys than they hold: the oldest go, and nobody reads them wrongly.
static void test_more_keys_than_the_index_holds(void)
{
    enum torc_shard_past state;
    uint64_t versions[20000];
    uint64_t middle;

    open_shard(TORC_UNDO_BYTES_MIN);
    for (uint32_t i = 0; i < TORC_COUNT_OF(versions); i++) {
        versions[i] = put((uint64_t)i * UINT64_C(0x9e3779b97f4a7c15) >> 1, 0);
    }
    CU_ASSERT_EQUAL(past(versions[0]), TORC_SHARD_PAST_TOO_OLD); // the log's bytes
    middle = torc_max_u64(rig.pool.undo.floor, versions[0]);
    state = past(middle);
    CU_ASSERT_TRUE(state == TORC_SHARD_PAST_TOO_OLD || state == TORC_SHARD_PAST_READY);
    CU_ASSERT_EQUAL(past(versions[TORC_COUNT_OF(versions) - 1000]), TORC_SHARD_PAST_READY);
    close_shard();
}

static void test_large_values_are_counted_and_end_it_too(void)
{
    uint64_t versions[20];

    open_shard(TORC_UNDO_BYTES_MIN);
    for (uint32_t i = 0; i < TORC_COUNT_OF(versions); i++) {
        versions[i] = put(1, LARGE - i);
    }
    // 5/8 of 1 MiB for the log.
    CU_ASSERT_TRUE(rig.pool.undo.large_bytes <= TORC_UNDO_BYTES_MIN / 8 * 5);
    CU_ASSERT_EQUAL(past(versions[0]), TORC_SHARD_PAST_TOO_OLD);
    expect_value(1, versions[18], LARGE - 18);
    expect_value(1, versions[16], LARGE - 16);
    close_shard();
}

static void test_a_value_worth_more_than_the_window_is_not_kept(void)
{
    uint64_t first;
    uint64_t second;

    open_shard(UINT64_C(256) << 10); // 8 segments of log: 256 KiB
    first = put(1, 2 * LARGE);
    second = put(1, 10);
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_TOO_OLD);
    expect_value(1, second, 10);
    close_shard();
}

// The present goes before the past.
static void test_the_window_gives_way_to_a_write(void)
{
    uint64_t first;

    open_shard(UINT64_C(64) << 20);
    first = put(0, LARGE);
    for (uint32_t i = 1; i < 400; i++) { // ten times the heap
        CU_ASSERT_TRUE(put(0, LARGE) > first);
    }
    CU_ASSERT_EQUAL(past(first), TORC_SHARD_PAST_TOO_OLD);
    close_shard();
}

// A log's segment more is as much as a value more: older ones go for it.
static void test_small_entries_push_large_values_out(void)
{
    struct torc_fail why;

    open_shard(TORC_UNDO_BYTES_MIN);
    for (uint32_t i = 0; i < 8; i++) {
        (void)put(1, LARGE);
    }
    CU_ASSERT(rig.pool.undo.large_bytes > UINT64_C(3) * LARGE);
    for (uint32_t i = 0; i < 3000; i++) {
        (void)put(2, 128);
        TORC_TEST_OK(torc_undo_check(&rig.pool.undo, &why), &why);
    }
    CU_ASSERT(rig.pool.undo.large_bytes < UINT64_C(3) * LARGE);
    close_shard();
}

// -- Rows ----------------------------------------------------------------------------------------

enum {
    ROW = 64,
    ROWS = 4000,
    ENTRY = 40 // bytes of one without a value
};

struct window {
    struct torc_undo undo;
    void *memory;
};

static void window_open(struct window *window)
{
    struct torc_undo_config config = {
        .bytes = TORC_UNDO_BYTES_MIN, .age_us = AGE_US, .pin_us = 100 * AGE_US};
    uint64_t bytes = (torc_undo_bytes(&config) + 63) / 64 * 64;

    window->memory = aligned_alloc(64, bytes);
    torc_assert(window->memory != NULL);
    memset(window->memory, 0, bytes);
    torc_undo_init(&window->undo, window->memory, &config);
    torc_undo_attach(&window->undo, &rig.heap, &torc_tree_code_plain);
}

static bool segments_differ(const struct torc_undo *a, const struct torc_undo *b, uint64_t number)
{
    const struct torc_undo_segment *x = &a->segments[number & a->segment_mask];
    const struct torc_undo_segment *y = &b->segments[number & b->segment_mask];
    const unsigned char *log = a->log + (size_t)x->place * TORC_UNDO_SEGMENT_BYTES;

    return memcmp(x, y, sizeof(*x)) != 0 ||
           memcmp(log, b->log + (size_t)y->place * TORC_UNDO_SEGMENT_BYTES, x->used) != 0;
}

static bool windows_differ(const struct torc_undo *a, const struct torc_undo *b)
{
    bool differ = a->first != b->first || a->last != b->last || a->floor != b->floor ||
                  a->now_us != b->now_us || a->kept_count != b->kept_count ||
                  a->free_count != b->free_count;

    for (uint64_t number = a->first; !differ && number <= a->last; number++) {
        differ = segments_differ(a, b, number);
    }
    return differ;
}

// The next entry of a key that had no value begins a segment.
static bool segment_is_full(const struct torc_undo *undo)
{
    return undo->segments[undo->last & undo->segment_mask].used + ENTRY > TORC_UNDO_SEGMENT_BYTES;
}

// A row of new keys, sometimes after a key that had a value, at versions that mostly rise: at a
// segment's beginning sometimes by as much as makes what was before aged.
static void row_keep(struct window windows[2], struct torc_rng *rng, uint64_t *version)
{
    struct torc_tree_write writes[ROW];
    uint32_t count = (uint32_t)torc_rng_below(rng, ROW + 1);
    struct torc_tree_pair old = {.version = 1, .value = large, .value_bytes = 16};

    if (torc_rng_below(rng, 4) == 0) {
        for (uint32_t i = 0; i < 2; i++) {
            (void)torc_undo_keep(&windows[i].undo, count, *version, &old);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        *version += segment_is_full(&windows[0].undo) && torc_rng_below(rng, 2) == 0
                        ? torc_hlc_from_us(AGE_US + 10)
                        : torc_rng_below(rng, 1000);
        writes[i] = (struct torc_tree_write){.key = torc_rng_next(rng),
                                             .version = *version - torc_rng_below(rng, 3000)};
        (void)torc_undo_keep(&windows[0].undo, writes[i].key, writes[i].version, NULL);
    }
    torc_undo_keep_new(&windows[1].undo, writes, count);
}

static void test_a_row_of_new_keys_is_kept_as_its_keys_are(void)
{
    struct torc_rng rng = {torc_test_seed()};
    uint64_t version = torc_hlc_from_us(START_US);
    struct window windows[2];
    uint32_t differ = 0;
    struct torc_fail why;

    window_open(&windows[0]);
    window_open(&windows[1]);
    for (uint32_t i = 0; i < ROWS; i++) {
        row_keep(windows, &rng, &version);
        differ += windows_differ(&windows[0].undo, &windows[1].undo);
    }
    CU_ASSERT_EQUAL(differ, 0);
    CU_ASSERT_TRUE(windows[1].undo.first > 1); // some are gone
    TORC_TEST_OK(torc_undo_check(&windows[1].undo, &why), &why);
    free(windows[0].memory);
    free(windows[1].memory);
}

// The shard as it is now, for another one to begin with.
static struct torc_base_writer base_write(unsigned char *pieces, uint32_t *sizes, uint32_t *count)
{
    struct torc_base_writer writer;

    torc_base_begin(&writer, &shard);
    *count = 0;
    while (!torc_base_done(&writer)) {
        CU_ASSERT_FATAL(*count < PIECES);
        sizes[*count] = torc_base_next(
            &writer, &shard, pieces + (size_t)*count * TORC_BASE_PIECE_MIN, TORC_BASE_PIECE_MIN);
        *count += sizes[*count] > 0 ? 1 : 0;
    }
    return writer;
}

static void begin_shard(void)
{
    struct torc_log_record record;

    while (torc_shard_begin(&shard, &record)) {
        sequence++;
        torc_shard_appended(&shard, sequence, sequence);
    }
}

// Whatever the shard had is lost; it goes on from that base, as the primary of epoch 2.
static void base_read(const struct torc_base_writer *writer, const unsigned char *pieces,
                      const uint32_t *sizes, uint32_t count)
{
    void *memory = malloc(torc_base_reader_bytes());
    struct torc_base_reader reader;
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    struct torc_fail why;

    torc_assert(memory != NULL);
    torc_shard_follow(&shard, 2);
    TORC_TEST_OK(
        torc_base_reset(&reader, memory, &shard, writer->base_lsn, writer->base_epoch, &why), &why);
    begin_shard();
    for (uint32_t i = 0; i < count; i++) {
        TORC_TEST_OK(
            torc_base_feed(&reader, pieces + (size_t)i * TORC_BASE_PIECE_MIN, sizes[i], &why),
            &why);
    }
    TORC_TEST_OK(torc_base_whole(&reader, writer->end_lsn, writer->end_hlc, &why), &why);
    torc_base_drop(&reader);
    free(memory);
    torc_shard_lead(&shard, 2, 0, &record);
    sequence++;
    torc_shard_appended(&shard, sequence, sequence);
    (void)torc_shard_commit_to(&shard, shard.next_lsn - 1, &outcome, 1);
    torc_shard_serve(&shard);
}

// U1: an accepted loss. What was written and lost is shown by no read of the past.
static void test_a_lost_history_is_not_read(void)
{
    static unsigned char pieces[PIECES * TORC_BASE_PIECE_MIN];
    uint32_t sizes[PIECES];
    uint32_t count;
    struct torc_base_writer writer;
    uint64_t lost[2];
    uint64_t kept;

    open_shard(TORC_UNDO_BYTES_MIN);
    kept = put(1, 10);
    (void)put(2, 11);
    writer = base_write(pieces, sizes, &count);
    (void)put(2, 12);
    lost[0] = put(3, 13);
    (void)put(2, 14);
    lost[1] = put(3, 15);
    base_read(&writer, pieces, sizes, count);
    CU_ASSERT_EQUAL(past(writer.end_hlc), TORC_SHARD_PAST_TOO_OLD);
    CU_ASSERT_EQUAL(past(lost[0]), TORC_SHARD_PAST_TOO_OLD);
    expect_value(1, lost[1], 10);
    expect_value(2, lost[1], 11);
    torc_shard_unshare(&shard);
    epoch = 2;
    CU_ASSERT(put(1, 20) > kept);
    (void)put(2, 21);
    (void)put(3, 22);
    CU_ASSERT_EQUAL(past(lost[0]), TORC_SHARD_PAST_TOO_OLD);
    expect_value(1, lost[1], 10);
    expect_value(2, lost[1], 11);
    epoch = 1;
    close_shard();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"without a window only the present is read",
         test_without_a_window_only_the_present_is_read},
        {"before the shard's life nothing is known", test_before_the_shards_life_nothing_is_known},
        {"what is read is never written below", test_what_is_read_is_never_written_below},
        {"age ends the window and a pin keeps it", test_age_ends_the_window_and_a_pin_keeps_it},
        {"a pin stays when the clock is moved on", test_a_pin_stays_when_the_clock_is_moved_on},
        {"a clock that was set back ends nothing later", test_a_clock_that_was_set_back},
        {"the index stays when the clock is moved on", test_the_index_goes_by_the_wall},
        {"a pin has an end", test_a_pin_has_an_end},
        {"more keys than the index holds", test_more_keys_than_the_index_holds},
        {"large values are counted and end it too", test_large_values_are_counted_and_end_it_too},
        {"a value worth more than the window is not kept",
         test_a_value_worth_more_than_the_window_is_not_kept},
        {"small entries push large values out", test_small_entries_push_large_values_out},
        {"the window gives way to a write", test_the_window_gives_way_to_a_write},
        {"a lost history is not read", test_a_lost_history_is_not_read},
        {"a row of new keys is kept as its keys are",
         test_a_row_of_new_keys_is_kept_as_its_keys_are},
        CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("undo", tests);
    shard_rig_close(&rig);
    return status;
}
