// Torc perf: Torc's tree as perf/tree-bench fills it. See perf/ours_os.h.
#include "perf/ours_os.h"

#include "kit/hlc.h"
#include "perf/peers.h"
#include "storage/cpu_os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096u
// As kit/settings.h has them: undo-memory, undo-age, undo-pin.
#define UNDO_BYTES  (UINT64_C(64) << 20)
#define UNDO_AGE_US UINT64_C(1000000)
#define UNDO_PIN_US UINT64_C(60000000)

static struct torc_heap the_heap; // one in a thread's life: storage/memory_os.h

void ours_die(const char *text)
{
    (void)fprintf(stderr, "tree-bench: %s\n", text);
    exit(1); // NOLINT(concurrency-mt-unsafe): one thread
}

uint64_t ours_version(struct ours *ours)
{
    return ours->version += UINT64_C(1) << (TORC_HLC_COUNTER_BITS - 1);
}

static void undo_open(struct ours *ours)
{
    struct torc_undo_config config = {
        .bytes = UNDO_BYTES, .age_us = UNDO_AGE_US, .pin_us = UNDO_PIN_US};
    uint64_t bytes = (torc_undo_bytes(&config) + 63) / 64 * 64;

    ours->undo_memory = aligned_alloc(64, bytes);
    if (ours->undo_memory == NULL) {
        ours_die("out of memory");
    }
    memset(ours->undo_memory, 0, bytes);
    torc_undo_init(&ours->undo, ours->undo_memory, &config);
    torc_undo_attach(&ours->undo, &the_heap, torc_tree_code_best());
    ours->tree.undo = &ours->undo;
}

void ours_open(struct ours *ours, uint64_t count, uint32_t value_bytes, bool touched)
{
    uint32_t inline_bytes = value_bytes > TORC_TREE_INLINE_BYTES_MAX ? 16 : value_bytes;
    uint64_t bytes = (count + 100000) * 2 * (inline_bytes + UINT64_C(24)) + (UINT64_C(64) << 20);
    uint64_t heap_bytes = UINT64_C(4) << 30;
    struct torc_fail why;

    *ours = (struct ours){.version = torc_hlc_from_us(UINT64_C(1795000000000000))};
    if (torc_mapping_open(&ours->mapping, bytes, &why) != TORC_ERR_OK ||
        (the_heap.limit_bytes == 0 && torc_heap_open(&the_heap, heap_bytes, &why) != TORC_ERR_OK)) {
        ours_die(why.text);
    }
    for (uint64_t at = 0; touched && at < ours->mapping.bytes; at += PAGE_BYTES) {
        ((unsigned char *)ours->mapping.base)[at] = 0;
    }
    torc_chunk_pool_init(&ours->pool, ours->mapping.base, 0,
                         (uint32_t)(ours->mapping.bytes / TORC_CHUNK_BYTES));
    if (torc_tree_init(&ours->tree, torc_tree_code_best(), &ours->pool, &the_heap, &why) !=
        TORC_ERR_OK) {
        ours_die(why.text);
    }
    undo_open(ours);
}

void ours_undo_off(struct ours *ours)
{
    ours->tree.undo = NULL;
}

void ours_close(struct ours *ours)
{
    torc_undo_clear(&ours->undo);
    free(ours->undo_memory);
    torc_tree_drop(&ours->tree);
    torc_mapping_close(&ours->mapping);
}

static void writes_apply(struct ours *ours, struct torc_tree_write *writes, uint32_t count)
{
    if (torc_tree_write_batch(&ours->tree, writes, count) > 0) {
        ours_die("the tree is full");
    }
}

void ours_insert(struct ours *ours, const uint64_t *keys, uint64_t count, uint32_t batch)
{
    struct torc_tree_write writes[OURS_BURST];
    struct peer_value values[OURS_BURST];

    torc_assert(batch <= OURS_BURST);
    for (uint64_t at = 0; at < count; at += batch) {
        uint32_t some = (uint32_t)torc_min_u64(batch, count - at);

        for (uint32_t i = 0; i < some; i++) {
            values[i] = peer_value_of(keys[at + i]);
            writes[i] = (struct torc_tree_write){.key = keys[at + i],
                                                 .version = ours_version(ours),
                                                 .value = &values[i],
                                                 .value_bytes = sizeof(values[i])};
        }
        writes_apply(ours, writes, some);
    }
}

void ours_insert_value(struct ours *ours, const uint64_t *keys, uint64_t count,
                       const unsigned char *value, uint32_t value_bytes)
{
    struct torc_tree_write writes[OURS_BATCH];

    for (uint64_t at = 0; at < count; at += OURS_BATCH) {
        uint32_t some = (uint32_t)torc_min_u64(OURS_BATCH, count - at);

        for (uint32_t i = 0; i < some; i++) {
            writes[i] = (struct torc_tree_write){.key = keys[at + i],
                                                 .version = ours_version(ours),
                                                 .value = value,
                                                 .value_bytes = value_bytes};
        }
        writes_apply(ours, writes, some);
    }
}

double ours_bytes(struct ours *ours)
{
    struct torc_heap_memory large;

    torc_undo_clear(&ours->undo);
    torc_heap_memory(&the_heap, &large);
    if (the_heap.used_bytes == 0) {
        large.table_bytes = 0; // another tree's, in the same process
    }
    return (double)(ours->tree.chunks.chunk_count + ours->tree.guide.chunk_count) *
               TORC_CHUNK_BYTES +
           (double)the_heap.used_bytes + (double)large.table_bytes;
}

void ours_row(const char *what, const char *keys, const char *peer_name, double rate, double peer,
              double goal)
{
    double ratio = peer > 0 ? rate / peer : 0;

    (void)printf("{\"table\":\"index\",\"name\":\"%s, %s: Torc, %s\",\"ours\":%.3f,\"peer\":%.3f,"
                 "\"ratio\":%.3f,\"goal\":%.2f,\"met\":%s}\n",
                 what, keys, peer_name, rate, peer, ratio, goal, ratio >= goal ? "true" : "false");
    (void)fflush(stdout);
}
