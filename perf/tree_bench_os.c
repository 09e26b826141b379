// Torc perf: perf/tree-bench: the tree in process beside ordered maps from Debian's packages.
//
//     tree-bench [--keys N] [--value BYTES] [--bits 32|64] [--part NAME] [--quick]
//
// Prints a JSON line a row, table `index` of GOALS.md: rates in M/s of this thread's CPU time.
// --bits: keys below 2^32, or over all u64; without it both, with --quick the first. --part: random
// (lookups, upserts and scans beside the peers), memory, rising, sorted (perf/sorted_os.h) or large
// (six times the keys, not with --quick); without it all. --quick: only the peers with a goal.
// Every map gets the same keys in the same order; the sums of what all of them read must be equal.
// All writes keep versions, and what they replaced in the undo window, but where a row says
// `without undo`; bulk build has no past. `ratio` says how many times better than the peer; a row's
// `goal` 0 means that none was set.
#include "kit/rng.h"
#include "perf/keys.h"
#include "perf/limits_os.h"
#include "perf/ours_os.h"
#include "perf/peers.h"
#include "perf/sorted_os.h"

#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = OURS_BATCH,
    BURST = OURS_BURST,
    SCAN_PAIRS = 100,
    ORDER_LEAVES = 32,
    TRIM_BYTES = 128 * 1024, // malloc's own
    SORTED_KEYS = 4096,
    APPEND_PAIRS = 8192, // so many that reading the clock does not count
    VALUE_BYTES_MAX = 1 << 20
};

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

// What is measured: sets of keys.
struct keys {
    uint64_t count;
    uint64_t probe_count;
    uint64_t *all;    // as they are inserted
    uint64_t *probes; // some of them, at random
    uint64_t sorted_count;
    uint64_t *sorted; // the first of these, each SORTED_KEYS in order: what a backup applies
};

enum part {
    PART_RANDOM = 1,
    PART_MEMORY = 2,
    PART_RISING = 4,
    PART_SORTED = 8,
    PART_LARGE = 16,
    PART_ALL = 31
};

static const char *const part_names[] = {"random", "memory", "rising", "sorted", "large"};

struct settings {
    uint64_t key_count;
    uint32_t value_bytes; // of the memory rows; 0: all of GOALS.md
    uint32_t parts;
    uint32_t bits; // of keys; 0: 32, then 64
    bool quick;
};

// -- Keys ----------------------------------------------------------------------------------------

// Bijections, so that keys differ: murmur3's finishers.
static uint64_t key_wide(uint64_t i)
{
    i += 0x9e3779b97f4a7c15u;
    i = (i ^ (i >> 33)) * 0xff51afd7ed558ccdu;
    i = (i ^ (i >> 33)) * 0xc4ceb9fe1a85ec53u;
    return i ^ (i >> 33);
}

static uint64_t key_narrow(uint64_t i)
{
    uint32_t mixed = (uint32_t)i + 0x9e3779b9u;

    mixed = (mixed ^ (mixed >> 16)) * 0x85ebca6bu;
    mixed = (mixed ^ (mixed >> 13)) * 0xc2b2ae35u;
    return mixed ^ (mixed >> 16);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x;
    uint64_t y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static void keys_make(struct keys *keys, uint64_t count, uint64_t probe_count, bool wide)
{
    struct torc_rng rng = {42};

    keys->count = count;
    keys->probe_count = probe_count;
    keys->all = malloc(count * sizeof(keys->all[0]));
    keys->probes = malloc(probe_count * sizeof(keys->probes[0]));
    keys->sorted = malloc(probe_count / 4 * sizeof(keys->sorted[0]));
    if (keys->all == NULL || keys->probes == NULL || keys->sorted == NULL) {
        ours_die("out of memory");
    }
    for (uint64_t i = 0; i < count; i++) {
        keys->all[i] = wide ? key_wide(i) : key_narrow(i);
    }
    for (uint64_t i = 0; i < probe_count; i++) {
        keys->probes[i] = keys->all[torc_rng_below(&rng, count)];
    }
    keys->sorted_count = probe_count / 4 / SORTED_KEYS * SORTED_KEYS;
    memcpy(keys->sorted, keys->probes, keys->sorted_count * sizeof(keys->sorted[0]));
    for (uint64_t i = 0; i < keys->sorted_count; i += SORTED_KEYS) {
        qsort(keys->sorted + i, SORTED_KEYS, sizeof(keys->sorted[0]), compare_keys);
    }
}

static void keys_free(struct keys *keys)
{
    free(keys->sorted);
    free(keys->all);
    free(keys->probes);
}

// -- Torc ----------------------------------------------------------------------------------------

static void torc_delete(struct ours *torc, const uint64_t *keys, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct torc_tree_write write = {
            .key = keys[i], .version = ours_version(torc), .remove = true};

        (void)torc_tree_write(&torc->tree, &write, NULL); // a delete is never refused
    }
}

// A tree in order: sorted keys, appended. The seconds that it took, without making the records.
static double torc_append(struct ours *torc, const uint64_t *sorted, uint64_t count)
{
    static struct torc_tree_pair pairs[APPEND_PAIRS];
    static struct peer_value values[APPEND_PAIRS];
    double seconds = 0;

    for (uint64_t at = 0; at < count; at += TORC_COUNT_OF(pairs)) {
        uint32_t some = (uint32_t)torc_min_u64(TORC_COUNT_OF(pairs), count - at);
        uint32_t appended = 0;
        double start;

        for (uint32_t i = 0; i < some; i++) {
            values[i] = peer_value_of(sorted[at + i]);
            pairs[i] = (struct torc_tree_pair){sorted[at + i], ours_version(torc), &values[i],
                                               sizeof(values[i])};
        }
        start = limits_cpu_s();
        if (torc_tree_append(&torc->tree, pairs, some, &appended, NULL) != TORC_ERR_OK) {
            ours_die("the tree is full");
        }
        seconds += limits_cpu_s() - start;
    }
    return seconds;
}

static uint64_t first_word(const void *value)
{
    uint64_t word;

    memcpy(&word, value, sizeof(word));
    return word;
}

// `batch` keys a call.
static uint64_t torc_lookup(const struct ours *torc, const uint64_t *keys, uint64_t count,
                            uint32_t batch)
{
    struct torc_tree_hit hits[BURST];
    uint64_t sum = 0;

    for (uint64_t at = 0; at < count; at += batch) {
        uint32_t some = (uint32_t)torc_min_u64(batch, count - at);

        torc_tree_lookup_batch(&torc->tree, keys + at, some, hits);
        for (uint32_t i = 0; i < some; i++) {
            sum += hits[i].found ? first_word(hits[i].value) : 0;
        }
    }
    return sum;
}

static uint64_t torc_chase(const struct ours *torc, const uint64_t *keys, uint64_t count,
                           uint64_t zero)
{
    struct torc_tree_hit hit;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        sum +=
            torc_tree_lookup(&torc->tree, keys[i] + (sum & zero), &hit) ? first_word(hit.value) : 0;
    }
    return sum;
}

static uint64_t torc_scan(const struct ours *torc, const uint64_t *keys, uint64_t count,
                          uint64_t length, bool back)
{
    struct torc_tree_pair pairs[SCAN_PAIRS];
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        struct torc_tree_cursor cursor;
        uint64_t left = length;

        torc_tree_cursor_open(&cursor, back ? 0 : keys[i], back ? keys[i] : UINT64_MAX, back);
        while (left > 0 && !cursor.done) {
            uint32_t some = torc_tree_scan(&torc->tree, &cursor, pairs,
                                           (uint32_t)torc_min_u64(left, SCAN_PAIRS));

            for (uint32_t pair = 0; pair < some; pair++) {
                sum += pairs[pair].key + first_word(pairs[pair].value);
            }
            left -= some;
        }
    }
    return sum;
}

// What a worker does while there is time (dataplane/worker_pack.c, worker.c), when all that the
// undo window holds is past its age.
static void torc_pack(struct ours *torc)
{
    struct torc_tree_sweep sweep = {0};

    torc_undo_clear(&torc->undo);
    while (torc_tree_sweep(&torc->tree, &sweep, 64, 1 << 20)) {
    }
    while (torc_tree_compact(&torc->tree, ORDER_LEAVES)) {
    }
}

// Each key twice in the mean, with 0.5 to 1.5 times the bytes.
static void torc_resize(struct ours *torc, const uint64_t *keys, uint64_t count,
                        const unsigned char *value, uint32_t value_bytes)
{
    struct torc_rng rng = {7};

    for (uint64_t i = 0; i < 2 * count; i++) {
        uint32_t bytes = value_bytes / 2 + (uint32_t)torc_rng_below(&rng, value_bytes);

        ours_insert_value(torc, &keys[torc_rng_below(&rng, count)], 1, value, bytes);
    }
}

// -- Rows ----------------------------------------------------------------------------------------

static uint64_t zero; // not a constant, so that the compiler does not know it
static uint64_t last_key = UINT64_MAX;

struct rates {
    double insert;
    double lookup;
    double chase;
    double scan;
    double scan_all;
    double scan_back;
    double scan_back_all;
    double sorted;
    uint64_t sum; // of all that was read
};

static const char *keys_word = "";

static void row(const char *what, const char *peer_name, double ours, double peer, double goal)
{
    ours_row(what, keys_word, peer_name, ours, peer, goal);
}

static double rate(uint64_t count, double start)
{
    return (double)count / (limits_cpu_s() - start) / 1e6;
}

static struct rates torc_measure(struct ours *torc, const struct keys *keys)
{
    uint64_t scans = keys->probe_count / SCAN_PAIRS;
    struct rates rates = {0};
    double start = limits_cpu_s();

    ours_insert(torc, keys->all, keys->count, BATCH);
    rates.insert = rate(keys->count, start);
    start = limits_cpu_s();
    rates.sum = torc_lookup(torc, keys->probes, keys->probe_count, BATCH);
    rates.lookup = rate(keys->probe_count, start);
    start = limits_cpu_s();
    rates.sum += torc_chase(torc, keys->probes, keys->probe_count / 4, zero);
    rates.chase = rate(keys->probe_count / 4, start);
    start = limits_cpu_s();
    rates.sum += torc_scan(torc, keys->probes, scans, SCAN_PAIRS, false);
    rates.scan = rate(scans * SCAN_PAIRS, start);
    start = limits_cpu_s();
    rates.sum += torc_scan(torc, &zero, 1, keys->count, false);
    rates.scan_all = rate(keys->count, start);
    start = limits_cpu_s();
    rates.sum += torc_scan(torc, keys->probes, scans, SCAN_PAIRS, true);
    rates.scan_back = rate(scans * SCAN_PAIRS, start);
    start = limits_cpu_s();
    rates.sum += torc_scan(torc, &last_key, 1, keys->count, true);
    rates.scan_back_all = rate(keys->count, start);
    start = limits_cpu_s();
    ours_insert(torc, keys->sorted, keys->sorted_count, BATCH);
    rates.sorted = rate(keys->sorted_count, start);
    return rates;
}

static struct rates peer_measure(const struct peer *peer, void *self, const struct keys *keys)
{
    uint64_t scans = keys->probe_count / SCAN_PAIRS;
    struct rates rates = {0};
    double start = limits_cpu_s();

    peer->insert(self, keys->all, keys->count);
    rates.insert = rate(keys->count, start);
    start = limits_cpu_s();
    rates.sum = peer->lookup(self, keys->probes, keys->probe_count);
    rates.lookup = rate(keys->probe_count, start);
    start = limits_cpu_s();
    rates.sum += peer->chase(self, keys->probes, keys->probe_count / 4, zero);
    rates.chase = rate(keys->probe_count / 4, start);
    start = limits_cpu_s();
    rates.sum += peer->scan(self, keys->probes, scans, SCAN_PAIRS);
    rates.scan = rate(scans * SCAN_PAIRS, start);
    start = limits_cpu_s();
    rates.sum += peer->scan(self, &zero, 1, keys->count);
    rates.scan_all = rate(keys->count, start);
    start = limits_cpu_s();
    rates.sum += peer->scan_back(self, keys->probes, scans, SCAN_PAIRS);
    rates.scan_back = rate(scans * SCAN_PAIRS, start);
    start = limits_cpu_s();
    rates.sum += peer->scan_back(self, &last_key, 1, keys->count);
    rates.scan_back_all = rate(keys->count, start);
    start = limits_cpu_s();
    peer->insert(self, keys->sorted, keys->sorted_count);
    rates.sorted = rate(keys->sorted_count, start);
    return rates;
}

// The goals that one peer has in GOALS.md; 0: none.
struct goals {
    const struct peer *peer;
    double lookup;
    double chase;
    double insert;
    double scan;
    double scan_all;
};

static const struct goals all_goals[] = {{&peer_absl, 10, 3, 5, 4, 6},
                                         {&peer_lmdb, 0, 0, 0, 2, 0},
                                         {&peer_judy, 0, 0, 0, 0, 0},
                                         {&peer_std, 0, 0, 0, 0, 0}};

static void compare(const struct goals *goals, const struct rates *ours, const struct keys *keys)
{
    const char *name = goals->peer->name;
    void *self = goals->peer->open(keys->count);
    struct rates peer;

    if (self == NULL) {
        (void)fprintf(stderr, "tree-bench: %s cannot run here\n", name);
        return;
    }
    peer = peer_measure(goals->peer, self, keys);
    goals->peer->close(self);
    if (peer.sum != ours->sum) {
        (void)fprintf(stderr, "tree-bench: %s and Torc read different data\n", name);
        exit(1); // NOLINT(concurrency-mt-unsafe): one thread
    }
    row("batched lookup (16)", name, ours->lookup, peer.lookup, goals->lookup);
    row("dependent lookup", name, ours->chase, peer.chase, goals->chase);
    row("random upsert (16), undo kept", name, ours->insert, peer.insert, goals->insert);
    row("scan of 100, pairs", name, ours->scan, peer.scan, goals->scan);
    row("full scan, pairs", name, ours->scan_all, peer.scan_all, goals->scan_all);
    row("reverse scan of 100, pairs", name, ours->scan_back, peer.scan_back, goals->scan);
    row("reverse full scan, pairs", name, ours->scan_back_all, peer.scan_back_all, goals->scan_all);
    row("overwrites, 4096 sorted at a time", name, ours->sorted, peer.sorted, 0);
}

// A full scan in bytes of leaves that are in use, against reading memory forward.
static void scan_row(const char *what, const struct ours *torc, double read_bytes_s)
{
    struct torc_tree_memory memory;
    double start;

    torc_tree_memory(&torc->tree, &memory);
    start = limits_cpu_s();
    zero += torc_scan(torc, &zero, 1, torc->tree.record_count, false) & zero;
    row(what, "sequential read", (double)memory.leaf_used_bytes / (limits_cpu_s() - start) / 1e9,
        read_bytes_s / 1e9, 0.5);
}

// Keys that are asked for again and again: Zipf 0.99 over all, popular ones anywhere. There is no
// cache of hot keys before the tree (docs/decisions/0014-hot-keys.md); those of the CPU do it.
static void skew_rows(const struct ours *torc, const struct keys *keys)
{
    static struct torc_keys zipf;
    struct torc_rng rng = {43};
    uint64_t *probes = malloc(keys->probe_count * sizeof(probes[0]));
    double rates[2][2]; // of one packet's keys and of a burst's; uniform and Zipf

    if (probes == NULL) {
        ours_die("out of memory");
    }
    torc_keys_init(&zipf, TORC_KEYS_ZIPF, keys->count, 0, keys->count, 0.99);
    for (uint64_t i = 0; i < keys->probe_count; i++) {
        probes[i] = keys->all[torc_keys_pick(&zipf, &rng)];
    }
    for (uint32_t i = 0; i < 4; i++) {
        double start = limits_cpu_s();

        zero += torc_lookup(torc, i % 2 == 0 ? keys->probes : probes, keys->probe_count,
                            i < 2 ? BATCH : BURST) &
                zero;
        rates[i / 2][i % 2] = rate(keys->probe_count, start);
    }
    free(probes);
    row("lookup of a burst (64)", "16 chains of lines", rates[1][0],
        limits_random_lines(16, 0.5) / 1e6, 0);
    row("lookup of a burst (64)", "batches of 16", rates[1][0], rates[0][0], 0);
    row("batched lookup (16), Zipf 0.99", "uniform", rates[0][1], rates[0][0], 0);
    row("lookup of a burst (64), Zipf 0.99", "uniform", rates[1][1], rates[1][0], 0);
}

// What random inserts scattered, put back in order as an idle worker does.
static void order_row(struct ours *torc)
{
    double read_bytes_s = limits_sequential_read(0.5);
    double start = limits_cpu_s();

    while (torc_tree_order(&torc->tree, ORDER_LEAVES)) {
    }
    (void)fprintf(stderr, "tree-bench: %s: %.2f us a leaf to put all in order\n", keys_word,
                  (limits_cpu_s() - start) * 1e6 / torc->tree.leaf_count);
    scan_row("full scan of random inserts put in order, GB/s of leaves", torc, read_bytes_s);
}

// What filling a tree does in memory that was in use before, in M/s.
static double torc_filling(const struct keys *keys, bool undo_kept)
{
    struct ours torc;
    double start;
    double ours;

    ours_open(&torc, keys->count, sizeof(struct peer_value), true);
    if (!undo_kept) {
        ours_undo_off(&torc);
    }
    start = limits_cpu_s();
    ours_insert(&torc, keys->all, keys->count, BATCH);
    ours = rate(keys->count, start);
    ours_close(&torc);
    return ours;
}

// Random keys: ours, then the peers that have a goal, or all of them, and rows without a goal.
static void random_rows(const struct keys *keys, bool all_peers)
{
    struct rates ours;
    struct ours torc;

    ours_open(&torc, keys->count, sizeof(struct peer_value), false);
    ours = torc_measure(&torc, keys);
    (void)fprintf(stderr, "tree-bench: %s: %.1f bytes a key\n", keys_word,
                  ours_bytes(&torc) / (double)keys->count);
    skew_rows(&torc, keys);
    order_row(&torc);
    ours_close(&torc);
    row("batched lookup (16)", "16 chains of lines", ours.lookup,
        limits_random_lines(16, 0.5) / 1e6, 0.3);
    for (uint32_t i = 0; i < TORC_COUNT_OF(all_goals); i++) {
        if (all_peers || all_goals[i].scan > 0) {
            compare(&all_goals[i], &ours, keys);
        }
    }
    if (all_peers) {
        row("random upsert (16), touched memory, undo kept", "without undo",
            torc_filling(keys, true), torc_filling(keys, false), 0);
    }
}

// Rising keys into memory as the system gives it, and into memory that was in use before: then no
// page is made, and no host looks for one, in what is timed.
static double torc_rising(const struct keys *keys, bool touched, double *full)
{
    struct torc_tree_memory memory;
    struct ours torc;
    double start;
    double ours;

    ours_open(&torc, keys->count, sizeof(struct peer_value), touched);
    start = limits_cpu_s();
    ours_insert(&torc, keys->all, keys->count, BATCH);
    ours = rate(keys->count, start);
    torc_tree_memory(&torc.tree, &memory);
    *full = (double)memory.leaf_used_bytes / (double)memory.leaf_bytes;
    ours_close(&torc);
    return ours;
}

static double absl_rising(const struct keys *keys)
{
    void *absl = peer_absl.open(keys->count);
    double start = limits_cpu_s();
    double peer;

    peer_absl.insert(absl, keys->all, keys->count);
    peer = rate(keys->count, start);
    peer_absl.close(absl);
    return peer;
}

static void bulk_row(const char *what, const struct keys *keys, bool touched, double read_bytes_s)
{
    struct torc_tree_memory memory;
    struct ours torc;
    double seconds;

    ours_open(&torc, keys->count, sizeof(struct peer_value), touched);
    seconds = torc_append(&torc, keys->all, keys->count);
    torc_tree_memory(&torc.tree, &memory);
    row(what, "memcpy", (double)memory.leaf_bytes / seconds / 1e9, limits_memcpy(0.5) / 1e9, 0.5);
    if (touched) {
        scan_row("full scan in order, GB/s of leaves", &torc, read_bytes_s);
    }
    ours_close(&torc);
}

// Keys in order: rising inserts against absl, and bulk build. absl's second filling takes what its
// first one gave back to malloc, which is told to keep it.
static void rising_rows(const struct keys *keys)
{
    double read_bytes_s = limits_sequential_read(0.5);
    double full;

    row("rising keys", peer_absl.name, torc_rising(keys, false, &full), absl_rising(keys), 10);
    row("rising keys: leaves full", "bytes of leaves", full, 1, 0.95);
    (void)mallopt(M_TRIM_THRESHOLD, INT_MAX); // NOLINT(concurrency-mt-unsafe): one thread
    (void)absl_rising(keys);
    row("rising keys, touched memory", peer_absl.name, torc_rising(keys, true, &full),
        absl_rising(keys), 10);
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_BYTES); // NOLINT(concurrency-mt-unsafe)
    (void)malloc_trim(0);
    bulk_row("bulk build, GB/s of leaves", keys, false, read_bytes_s);
    bulk_row("bulk build, GB/s of leaves, touched memory", keys, true, read_bytes_s);
}

static void memory_row(const char *what, struct ours *torc, uint32_t value_bytes, double goal)
{
    char name[80];
    double count = (double)torc->tree.record_count;
    double wanted = 16.0 + (double)torc->tree.value_bytes / count;
    double bytes = ours_bytes(torc) / count;

    (void)snprintf(name, sizeof(name), "%s, %" PRIu32 " B values", what, value_bytes);
    // Less is better here: the ratio is that of the peer to ours.
    (void)printf("{\"table\":\"index\",\"name\":\"%s, %s: Torc, 16 B + value\",\"ours\":%.3f,"
                 "\"peer\":%.3f,\"ratio\":%.3f,\"goal\":%.3f,\"met\":%s}\n",
                 name, keys_word, bytes, wanted, wanted / bytes, 1 / goal,
                 bytes <= wanted * goal ? "true" : "false");
    (void)fflush(stdout);
}

// Nine of ten deleted, in no order: what is left must lie as close as fresh records, nearly.
static void deleted_row(struct ours *torc, const struct keys *keys, uint32_t value_bytes,
                        double goal)
{
    uint32_t chunk_count;
    uint32_t leaf_count;
    double start;

    torc_delete(torc, keys->all, keys->count / 10 * 9);
    chunk_count = torc->tree.chunks.chunk_count;
    leaf_count = torc->tree.leaf_count;
    start = limits_cpu_s();
    torc_pack(torc);
    (void)fprintf(stderr,
                  "tree-bench: %s: %" PRIu32 " leaves in %" PRIu32
                  " chunks, compacted in %.3f s to %" PRIu32 " in %" PRIu32 " (%" PRIu64
                  " nodes moved)\n",
                  keys_word, leaf_count, chunk_count, limits_cpu_s() - start, torc->tree.leaf_count,
                  torc->tree.chunks.chunk_count, torc->tree.compact.moved_nodes);
    memory_row("bytes a key after nine of ten were deleted", torc, value_bytes, goal);
}

static void memory_rows(const struct keys *keys, uint32_t value_bytes)
{
    unsigned char *value = calloc(2, value_bytes + 1);
    double goal = value_bytes <= 16 ? 1.10 : 1.15;
    struct ours torc;

    ours_open(&torc, keys->count, value_bytes, false);
    ours_insert_value(&torc, keys->all, keys->count, value, value_bytes);
    memory_row("bytes a key", &torc, value_bytes, goal);
    torc_delete(&torc, keys->all, keys->count / 2);
    ours_insert_value(&torc, keys->all, keys->count / 2, value, value_bytes);
    torc_pack(&torc);
    memory_row("bytes a key after half was deleted and reinserted", &torc, value_bytes, 1.25);
    if (value_bytes > 2 * TORC_TREE_INLINE_BYTES_MAX) { // else it is the leaves' row again
        torc_resize(&torc, keys->all, keys->count, value, value_bytes);
        torc_pack(&torc);
        memory_row("bytes a key after overwriting with other sizes", &torc, value_bytes, 1.25);
    }
    deleted_row(&torc, keys, value_bytes, goal * 1.25);
    ours_close(&torc);
    free(value);
}

static void all_memory_rows(const struct keys *keys, const struct settings *settings)
{
    static const uint32_t sizes[] = {8, 16, 100, 1000};
    struct keys some = *keys; // bytes a key hardly depend on how many there are

    for (uint32_t i = 0; i < TORC_COUNT_OF(sizes); i++) {
        some.count =
            sizes[i] > 16 || settings->quick ? torc_min_u64(keys->count, 1000000) : keys->count;
        if (settings->value_bytes == 0 || settings->value_bytes == sizes[i]) {
            memory_rows(&some, sizes[i]);
        }
    }
}

// Touches as much memory as will be used and gives it back: in a virtual machine a page's first use
// ever is slow, and should burden nobody.
static void memory_warm(const struct settings *settings)
{
    uint64_t bytes = settings->key_count * 160 * (settings->quick ? 1 : 3);
    unsigned char *memory = malloc(bytes);

    for (uint64_t at = 0; memory != NULL && at < bytes; at += 4096) {
        memory[at] = 1;
        __asm__("" ::"r"(memory) : "memory");
    }
    free(memory);
}

// The rate of batched lookups among so many keys.
static double torc_lookups(uint64_t key_count, uint64_t probe_count, bool wide)
{
    struct keys keys;
    struct ours torc;
    double start;
    double ours;

    keys_make(&keys, key_count, probe_count, wide);
    ours_open(&torc, keys.count, sizeof(struct peer_value), false);
    ours_insert(&torc, keys.all, keys.count, BATCH);
    start = limits_cpu_s();
    zero += torc_lookup(&torc, keys.probes, keys.probe_count, BATCH) & zero;
    ours = rate(keys.probe_count, start);
    ours_close(&torc);
    keys_free(&keys);
    return ours;
}

static void large_row(const struct settings *settings, uint64_t probe_count, bool wide)
{
    double small = torc_lookups(settings->key_count, probe_count, wide);

    row("batched lookup (16), 6 times the keys", "Torc",
        torc_lookups(6 * settings->key_count, probe_count, wide), small, 0.8);
}

static void run_keys(const struct settings *settings, bool wide)
{
    uint64_t probe_count = settings->quick ? 2000000 : 10000000;
    struct keys keys;

    keys_word = wide ? "64-bit keys" : "32-bit keys";
    keys_make(&keys, settings->key_count, probe_count, wide);
    if ((settings->parts & PART_RANDOM) != 0) {
        random_rows(&keys, !settings->quick);
    }
    if ((settings->parts & PART_MEMORY) != 0) {
        all_memory_rows(&keys, settings);
    }
    qsort(keys.all, keys.count, sizeof(keys.all[0]), compare_keys);
    if ((settings->parts & PART_RISING) != 0) {
        rising_rows(&keys);
    }
    if ((settings->parts & PART_SORTED) != 0) {
        sorted_rows(keys.all, keys.count, probe_count / 4, keys_word);
    }
    keys_free(&keys);
    if ((settings->parts & PART_LARGE) != 0 && !settings->quick) {
        large_row(settings, probe_count, wide);
    }
}

// A part of that name; 0: there is none.
static uint32_t part_named(const char *name)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(part_names); i++) {
        if (strcmp(part_names[i], name) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"keys", required_argument, NULL, 'k'}, {"value", required_argument, NULL, 'v'},
        {"bits", required_argument, NULL, 'b'}, {"part", required_argument, NULL, 'p'},
        {"quick", no_argument, NULL, 'q'},      {0}};
    struct settings settings = {.key_count = 10000000, .parts = PART_ALL};
    int option;

    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'k': settings.key_count = strtoull(optarg, NULL, 10); break;
        case 'v': settings.value_bytes = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'b': settings.bits = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'p': settings.parts = part_named(optarg); break;
        case 'q': settings.quick = true; break;
        default:
            (void)fprintf(stderr, "usage: tree-bench [--keys N] [--value BYTES] [--bits 32|64]"
                                  " [--part NAME] [--quick]\n");
            return 2;
        }
    }
    if (settings.key_count < 1000 || settings.key_count > 700000000 ||
        settings.value_bytes > VALUE_BYTES_MAX) {
        ours_die("from 1000 to 700000000 keys, and values up to 1 MiB");
    }
    if (settings.parts == 0 || (settings.bits != 0 && settings.bits != 32 && settings.bits != 64)) {
        ours_die("--bits is 32 or 64, --part random, memory, rising, sorted or large");
    }
    memory_warm(&settings);
    if (settings.bits != 64) {
        run_keys(&settings, false);
    }
    if (settings.bits == 64 || (settings.bits == 0 && !settings.quick)) {
        run_keys(&settings, true);
    }
    return 0;
}
