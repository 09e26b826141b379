// Torc tests: the memory under a shard engine, for models, unit tests and fuzzers.
//
// What    one mapping cut into chunks, one heap, one engine pool.
// Owner   the test's thread. A heap is opened once in a thread's life (storage/memory_os.h), so
//         open one rig a program and make the pool anew as often as wanted.
// Memory  closed by shard_rig_close.
#ifndef TORC_TESTS_SHARD_RIG_H
#define TORC_TESTS_SHARD_RIG_H

#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/shard.h"
#include "tests/torc_test.h"

#include <stdlib.h>

struct shard_rig {
    struct torc_mapping mapping;
    struct torc_heap heap;
    struct torc_chunk_pool chunks;
    struct torc_shard_pool pool;
    void *pool_memory;
    uint32_t chunk_count;
};

static inline void shard_rig_open(struct shard_rig *rig, uint32_t chunk_count, uint64_t heap_bytes)
{
    enum torc_err err;

    *rig = (struct shard_rig){.chunk_count = chunk_count};
    err = torc_mapping_open(&rig->mapping, (uint64_t)chunk_count * TORC_CHUNK_BYTES, NULL);
    torc_assert(err == TORC_ERR_OK);
    err = torc_heap_open(&rig->heap, heap_bytes, NULL);
    torc_assert(err == TORC_ERR_OK);
}

// A fresh pool, and fresh chunks: at most chunk_count of the mapping's.
static inline void shard_rig_pool(struct shard_rig *rig, uint32_t chunk_count,
                                  const struct torc_shard_pool_config *config)
{
    uint64_t bytes = torc_shard_pool_bytes(config);

    torc_assert(chunk_count <= rig->chunk_count);
    free(rig->pool_memory);
    rig->pool_memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    torc_assert(rig->pool_memory != NULL);
    memset(rig->pool_memory, 0, bytes);
    torc_chunk_pool_init(&rig->chunks, rig->mapping.base, 0, chunk_count);
    torc_shard_pool_init(&rig->pool, rig->pool_memory, config);
}

static inline struct torc_shard_config shard_rig_config(struct shard_rig *rig)
{
    return (struct torc_shard_config){
        .code = torc_tree_code_best(), .chunks = &rig->chunks, .heap = &rig->heap};
}

static inline void shard_rig_close(struct shard_rig *rig)
{
    free(rig->pool_memory);
    torc_heap_close(&rig->heap);
    torc_mapping_close(&rig->mapping);
}

#endif
