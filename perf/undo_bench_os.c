// Torc perf: the undo window's price: writes and scans of the shard engine with it and without.
//
//     torc-undo-bench [--keys N] [--quick]
//
// Prints a JSON line a row, tables `index` and `ranges` of GOALS.md: rates in M/s of this thread's
// CPU time. Runs of ours and of what they are compared with alternate in pieces, and the medians
// are compared. All read the same; sums must agree. `goal` 0: none was set.
#include "kit/hlc.h"
#include "kit/rng.h"
#include "perf/limits_os.h"
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/scan.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECES = 9, // of each measurement; the median counts
    PAGE = 100,
    PREPARE = 512
};

#define UNDO_BYTES (UINT64_C(256) << 20)
#define HEAP_BYTES (UINT64_C(64) << 20)
#define WALL_US    UINT64_C(1795000000000000)

struct bench {
    struct torc_mapping mapping;
    struct torc_chunk_pool chunks;
    struct torc_heap heap;
    struct torc_shard_pool pool;
    struct torc_shard shard;
    uint64_t sequence;
    uint64_t seq;
    uint64_t key_count;
};

static struct bench bench;

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

static _Noreturn void die(const char *text)
{
    (void)fprintf(stderr, "undo-bench: %s\n", text);
    exit(1); // NOLINT(concurrency-mt-unsafe): one thread
}

static void row(const char *table, const char *name, double ours, double peer, double goal)
{
    double ratio = peer > 0 ? ours / peer : 0;

    (void)printf("{\"table\":\"%s\",\"name\":\"%s\",\"ours\":%.3f,\"peer\":%.3f,\"ratio\":%.3f,"
                 "\"goal\":%.2f,\"met\":%s}\n",
                 table, name, ours, peer, ratio, goal, ratio >= goal ? "true" : "false");
    (void)fflush(stdout);
}

static int compare_rates(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *rates)
{
    qsort(rates, PIECES, sizeof(rates[0]), compare_rates);
    return rates[PIECES / 2];
}

// A bijection of 64 bits (murmur3's finisher), so that keys differ.
static uint64_t key_of(uint64_t i)
{
    i += 0x9e3779b97f4a7c15u;
    i = (i ^ (i >> 33)) * 0xff51afd7ed558ccdu;
    i = (i ^ (i >> 33)) * 0xc4ceb9fe1a85ec53u;
    return (i ^ (i >> 33)) >> 1;
}

// -- The engine -----------------------------------------------------------------------------------

static void bench_shard(uint64_t undo_bytes)
{
    struct torc_shard_pool_config config = {
        .slots_max = 4096,
        .waiting_max = 64,
        .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
        .principal_ppm = 1000000,
        .dedup_ttl_s = 120,
        .seed = 1,
        .undo = {.bytes = undo_bytes, .age_us = 1000000, .pin_us = 60000000}};
    struct torc_shard_config shard = {.hi = UINT64_MAX,
                                      .shard = 1,
                                      .epoch = 1,
                                      .code = torc_tree_code_best(),
                                      .chunks = &bench.chunks,
                                      .heap = &bench.heap};
    uint64_t bytes = torc_shard_pool_bytes(&config);
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    struct torc_fail why;

    if (memory == NULL) {
        die("out of memory");
    }
    memset(memory, 0, bytes);
    torc_shard_pool_init(&bench.pool, memory, &config);
    bench.pool.wall_us = WALL_US;
    if (torc_shard_init(&bench.shard, &bench.pool, &shard, &why) != TORC_ERR_OK) {
        die(why.text);
    }
    while (torc_shard_begin(&bench.shard, &record)) {
        bench.sequence++;
        torc_shard_appended(&bench.shard, bench.sequence, bench.sequence);
    }
    (void)torc_shard_commit(&bench.pool, UINT64_MAX, &outcome, 1); // EPOCH gives no outcome
}

static void bench_open(uint64_t key_count)
{
    uint64_t bytes = (key_count + 100000) * 80 + (UINT64_C(64) << 20);
    struct torc_fail why;

    bench.key_count = key_count;
    if (torc_mapping_open(&bench.mapping, bytes, &why) != TORC_ERR_OK ||
        torc_heap_open(&bench.heap, HEAP_BYTES, &why) != TORC_ERR_OK) {
        die(why.text);
    }
    torc_chunk_pool_init(&bench.chunks, bench.mapping.base, 0,
                         (uint32_t)(bench.mapping.bytes / TORC_CHUNK_BYTES));
    bench_shard(UNDO_BYTES);
}

// Writes to the tree as a commit makes them, in its batches.
static void tree_writes(struct torc_rng *rng, uint64_t count)
{
    struct torc_tree_write writes[TORC_SHARD_BATCH];
    uint64_t values[TORC_SHARD_BATCH][2];

    for (uint64_t at = 0; at < count; at += TORC_SHARD_BATCH) {
        for (uint32_t i = 0; i < TORC_SHARD_BATCH; i++) {
            uint64_t key = key_of(torc_rng_below(rng, bench.key_count));

            bench.pool.hlc = torc_hlc_next(bench.pool.hlc, WALL_US) + 1000; // 4 M/s
            values[i][0] = key;
            values[i][1] = bench.pool.hlc;
            writes[i] = (struct torc_tree_write){.key = key,
                                                 .version = bench.pool.hlc,
                                                 .value = values[i],
                                                 .value_bytes = sizeof(values[i])};
        }
        if (torc_tree_write_batch(&bench.shard.tree, writes, TORC_SHARD_BATCH) > 0) {
            die("the tree is full");
        }
    }
    bench.shard.applied_hlc = bench.pool.hlc;
    bench.shard.last_hlc = bench.pool.hlc;
}

// The same while somebody reads as of a moment before them: the index goes along.
static void tree_writes_indexed(struct torc_rng *rng, uint64_t count)
{
    uint64_t ts = bench.shard.applied_hlc;
    uint64_t oldest;

    for (uint64_t at = 0; at < count; at += TORC_SHARD_BATCH) {
        tree_writes(rng, TORC_SHARD_BATCH);
        if (bench.shard.tree.undo != NULL &&
            torc_shard_past(&bench.shard, ts, PREPARE, &oldest) != TORC_SHARD_PAST_READY) {
            die("the past is not ready");
        }
    }
}

// Whole writes: evaluated, committed, their completions remembered.
static void shard_writes(struct torc_rng *rng, uint64_t count)
{
    struct torc_shard_outcome outcomes[TORC_SHARD_BATCH];
    struct torc_log_record record;
    uint64_t value[2] = {0};

    for (uint64_t at = 0; at < count; at += TORC_SHARD_BATCH) {
        bench.pool.wall_us += TORC_SHARD_BATCH / 4;
        for (uint32_t i = 0; i < TORC_SHARD_BATCH; i++) {
            struct torc_shard_write write = {.key = key_of(torc_rng_below(rng, bench.key_count)),
                                             .client = 7,
                                             .principal = 1,
                                             .seq = bench.seq + 1,
                                             .low = bench.seq + 1,
                                             .stamp = bench.pool.hlc,
                                             .epoch = 1,
                                             .value = value,
                                             .value_bytes = sizeof(value)};

            value[0] = write.key;
            bench.seq++;
            if (torc_shard_write(&bench.shard, &write, &record, &outcomes[0]) !=
                TORC_SHARD_APPEND) {
                die(torc_err_name(outcomes[0].err));
            }
            bench.sequence++;
            torc_shard_appended(&bench.shard, bench.sequence, bench.sequence);
        }
        (void)torc_shard_commit(&bench.pool, UINT64_MAX, outcomes, TORC_SHARD_BATCH);
    }
}

static double timed_writes(void (*writes)(struct torc_rng *, uint64_t), uint64_t seed,
                           uint64_t count, bool with_undo)
{
    struct torc_rng rng = {seed};
    double start;

    bench.shard.tree.undo = with_undo ? &bench.pool.undo : NULL;
    start = limits_cpu_s();
    writes(&rng, count);
    return (double)count / (limits_cpu_s() - start) / 1e6;
}

static void write_rows(uint64_t count)
{
    void (*writes[])(struct torc_rng *, uint64_t) = {tree_writes, shard_writes,
                                                     tree_writes_indexed};
    static const char *names[] = {
        "random upsert (64), undo kept: Torc, without undo",
        "write through the shard engine, undo kept: Torc, without undo",
        "random upsert (64), undo kept and indexed for a reader: Torc, without undo"};
    static const double goals[] = {0.8, 0.8, 0};
    double with[PIECES];
    double without[PIECES];

    for (uint32_t kind = 0; kind < TORC_COUNT_OF(writes); kind++) {
        for (uint32_t i = 0; i < PIECES; i++) {
            with[i] = timed_writes(writes[kind], 2 * i + 1, count, true);
            without[i] = timed_writes(writes[kind], 2 * i + 2, count, false);
        }
        row("index", names[kind], median(with), median(without), goals[kind]);
    }
    bench.shard.tree.undo = &bench.pool.undo;
    torc_undo_clear(&bench.pool.undo); // a part of the past is missing
    bench.shard.undo_floor = bench.shard.applied_hlc;
}

// -- Scans ----------------------------------------------------------------------------------------

static uint64_t tree_scan(uint64_t from, uint64_t count, uint64_t *sum)
{
    struct torc_tree_pair pairs[PAGE];
    struct torc_tree_cursor cursor;
    uint64_t got = 0;

    torc_tree_cursor_open(&cursor, from, UINT64_MAX - 1, false);
    while (got < count && !cursor.done) {
        uint32_t some = torc_tree_scan(&bench.shard.tree, &cursor, pairs, PAGE);

        for (uint32_t i = 0; i < some; i++) {
            *sum += pairs[i].key;
        }
        got += some;
    }
    return got;
}

static uint64_t shard_scan(uint64_t from, uint64_t count, uint64_t ts, uint64_t *sum)
{
    struct torc_tree_pair pairs[PAGE];
    struct torc_scan_page page = {.done = false};
    struct torc_scan scan;
    uint64_t got = 0;
    uint64_t oldest;

    torc_scan_open(&scan, &bench.shard, from, UINT64_MAX, UINT64_MAX, false);
    torc_scan_past(&scan, ts);
    while (got < count && !page.done) {
        enum torc_shard_past past = torc_shard_past(&bench.shard, ts, PREPARE, &oldest);

        if (past == TORC_SHARD_PAST_MORE) {
            continue;
        }
        if (past != TORC_SHARD_PAST_READY) {
            die("the past is too old");
        }
        torc_scan_next(&scan, &bench.shard, pairs, PAGE, &page);
        for (uint32_t i = 0; i < page.count; i++) {
            *sum += pairs[i].key;
        }
        got += page.count;
    }
    return got;
}

// Ranges of `length` from random keys, of the bare tree and as of `ts`.
static void scan_row(const char *name, uint64_t length, uint64_t pairs, uint64_t ts, double goal)
{
    double ours[PIECES];
    double peer[PIECES];
    uint64_t scans = torc_max_u64(pairs / length, 1);
    uint64_t sums[2] = {0};

    for (uint32_t i = 0; i < PIECES; i++) {
        for (uint32_t kind = 0; kind < 2; kind++) {
            struct torc_rng rng = {i};
            double start = limits_cpu_s();
            uint64_t got = 0;

            for (uint64_t scan = 0; scan < scans; scan++) {
                uint64_t from =
                    length >= bench.key_count ? 0 : key_of(torc_rng_below(&rng, bench.key_count));

                got += kind == 0 ? shard_scan(from, length, ts, &sums[0])
                                 : tree_scan(from, length, &sums[1]);
            }
            *(kind == 0 ? &ours[i] : &peer[i]) = (double)got / (limits_cpu_s() - start) / 1e6;
        }
    }
    if (sums[0] != sums[1]) {
        die("the engine and the tree read different keys");
    }
    row("ranges", name, median(ours), median(peer), goal);
}

static void scan_rows(bool quick)
{
    uint64_t pairs = quick ? 1000000 : 4000000;
    struct torc_rng rng = {77};
    uint64_t ts;

    scan_row("scan of 100, shard engine, now, pairs: Torc, bare tree", 100, pairs,
             bench.shard.applied_hlc, 0.8);
    scan_row("full scan, shard engine, now, pairs: Torc, bare tree", bench.key_count, pairs,
             bench.shard.applied_hlc, 0.8);
    ts = bench.shard.applied_hlc;
    tree_writes(&rng, bench.key_count / 1000 / TORC_SHARD_BATCH * TORC_SHARD_BATCH);
    scan_row("scan of 100, a thousandth written since, pairs: Torc, bare tree", 100, pairs, ts,
             0.8);
    scan_row("full scan, a thousandth written since, pairs: Torc, bare tree", bench.key_count,
             pairs, ts, 0.8);
    tree_writes(&rng, bench.key_count / 100 * 9 / TORC_SHARD_BATCH * TORC_SHARD_BATCH);
    scan_row("scan of 100, a tenth written since, pairs: Torc, bare tree", 100, pairs, ts, 0);
    scan_row("full scan, a tenth written since, pairs: Torc, bare tree", bench.key_count, pairs, ts,
             0);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"keys", required_argument, NULL, 'k'}, {"quick", no_argument, NULL, 'q'}, {0}};
    uint64_t key_count = 10000000;
    struct torc_tree_write write;
    bool quick = false;
    int option;

    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'k': key_count = strtoull(optarg, NULL, 10); break;
        case 'q': quick = true; break;
        default: (void)fprintf(stderr, "usage: undo-bench [--keys N] [--quick]\n"); return 2;
        }
    }
    if (key_count < 100000 || key_count > 20000000) {
        die("from 100000 to 20000000 keys");
    }
    bench_open(key_count);
    bench.shard.tree.undo = NULL;
    for (uint64_t i = 0; i < key_count; i++) {
        uint64_t value[2] = {key_of(i), i};

        bench.pool.hlc++;
        write = (struct torc_tree_write){.key = value[0],
                                         .version = bench.pool.hlc,
                                         .value = value,
                                         .value_bytes = sizeof(value)};
        if (torc_tree_write(&bench.shard.tree, &write, NULL) != TORC_ERR_OK) {
            die("the tree is full");
        }
    }
    write_rows(quick ? 64000 : 640000);
    scan_rows(quick);
    return 0;
}
