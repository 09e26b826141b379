// Torc perf: sorted batches of upserts. See perf/sorted_os.h.
#include "perf/sorted_os.h"

#include "kit/rng.h"
#include "perf/limits_os.h"
#include "perf/ours_os.h"
#include "perf/peers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SORTED_KEYS 4096u

struct batches {
    const uint64_t *from; // the keys there are, in order
    uint64_t from_count;
    uint64_t *keys; // batch after batch
    uint64_t count; // of all batches
    bool fresh;     // new keys
    const char *keys_word;
};

static uint64_t *keys_alloc(uint64_t count)
{
    uint64_t *keys = malloc(count * sizeof(keys[0]));

    if (keys == NULL) {
        ours_die("out of memory");
    }
    return keys;
}

static void keys_shuffle(uint64_t *keys, uint64_t count, struct torc_rng *rng)
{
    for (uint64_t i = count; i > 1; i--) {
        uint64_t other = torc_rng_below(rng, i);
        uint64_t key = keys[other];

        keys[other] = keys[i - 1];
        keys[i - 1] = key;
    }
}

// Each batch begins somewhere and takes about every `stride`th key, or (fresh) one between it and
// the next.
static void batches_make(struct batches *batches, uint64_t stride, struct torc_rng *rng)
{
    const uint64_t *keys = batches->from;
    uint64_t span = (SORTED_KEYS + 1) * stride;

    for (uint64_t at = 0; at < batches->count; at += SORTED_KEYS) {
        uint64_t first = torc_rng_below(rng, batches->from_count - span);
        uint64_t *to = batches->keys + at;

        for (uint64_t i = 0; i < SORTED_KEYS; i++) {
            uint64_t index = first + i * stride + torc_rng_below(rng, stride);
            uint64_t gap = keys[index + 1] - keys[index];

            to[i] =
                keys[index] + (batches->fresh && gap > 1 ? 1 + torc_rng_below(rng, gap - 1) : 0);
        }
    }
}

static double ours_rate(struct ours *ours, const struct batches *batches)
{
    double start = limits_cpu_s();

    ours_insert(ours, batches->keys, batches->count, OURS_BURST);
    return (double)batches->count / (limits_cpu_s() - start) / 1e6;
}

static double peer_rate(void *peer, const struct batches *batches)
{
    double start = limits_cpu_s();

    peer_absl.insert(peer, batches->keys, batches->count);
    return (double)batches->count / (limits_cpu_s() - start) / 1e6;
}

// Sorted, then others like them unsorted.
static void rows(struct ours *ours, void *peer, struct batches *batches, uint32_t keys_a_leaf)
{
    uint64_t stride = batches->from_count / ours->tree.leaf_count / keys_a_leaf;
    struct torc_rng rng = {keys_a_leaf};
    double sorted;
    char name[100];

    stride = stride > 0 ? stride : 1;
    if ((SORTED_KEYS + 2) * stride > batches->from_count) {
        return; // too few keys for one batch
    }
    (void)snprintf(name, sizeof(name), "sorted %s, %" PRIu32 " a leaf",
                   batches->fresh ? "inserts" : "overwrites", keys_a_leaf);
    batches_make(batches, stride, &rng);
    sorted = ours_rate(ours, batches);
    ours_row(name, batches->keys_word, "absl::btree_map, sorted as well", sorted,
             peer_rate(peer, batches), 0);
    batches_make(batches, stride, &rng);
    for (uint64_t at = 0; at < batches->count; at += SORTED_KEYS) {
        keys_shuffle(batches->keys + at, SORTED_KEYS, &rng);
    }
    ours_row(name, batches->keys_word, "unsorted", sorted, ours_rate(ours, batches), 0);
}

void sorted_rows(const uint64_t *sorted, uint64_t count, uint64_t write_count,
                 const char *keys_word)
{
    struct batches batches = {.from = sorted,
                              .from_count = count,
                              .count = write_count / SORTED_KEYS * SORTED_KEYS,
                              .keys_word = keys_word};
    struct torc_rng rng = {5};
    uint64_t *mixed = keys_alloc(count);
    void *peer = peer_absl.open(count);
    struct ours ours;

    batches.keys = keys_alloc(batches.count);
    memcpy(mixed, sorted, count * sizeof(mixed[0]));
    keys_shuffle(mixed, count, &rng);
    ours_open(&ours, count + 6 * batches.count, sizeof(struct peer_value), true);
    ours_insert(&ours, mixed, count, OURS_BURST);
    peer_absl.insert(peer, mixed, count);
    free(mixed);
    for (uint32_t i = 0; i < 6; i++) {
        batches.fresh = i >= 3;
        rows(&ours, peer, &batches, 1u << (2 * (i % 3)));
    }
    ours_close(&ours);
    peer_absl.close(peer);
    free(batches.keys);
}
