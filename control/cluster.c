// Torc control: the node's shards. See control/cluster.h.
#include "control/cluster.h"

#include "kit/bugs.h"

void torc_cluster_cut(uint64_t keys, uint32_t count, uint32_t index, uint64_t *lo, uint64_t *hi)
{
    torc_assert(count > 0);
    torc_assert(index < count);
    torc_assert(count <= keys);
    *lo = (uint64_t)((unsigned __int128)keys * index / count);
    *hi = (uint64_t)((unsigned __int128)keys * (index + 1) / count);
}

void torc_cluster_spread(struct torc_cluster *cluster, uint32_t worker_count)
{
    torc_assert(worker_count > 0);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        cluster->shards[i].worker = i % worker_count;
    }
}

enum torc_err torc_cluster_check(const struct torc_cluster *cluster, struct torc_fail *why)
{
    uint64_t next = 0;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;

        if (shard->lo != next || shard->hi <= shard->lo) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "metastore: shard %" PRIu32 " is [%" PRIu64 ", %" PRIu64
                             "), but the keys before it end at %" PRIu64,
                             shard->shard, shard->lo, shard->hi, next);
        }
        next = shard->hi;
    }
    if (next != cluster->keys) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "metastore: the shards end at %" PRIu64 ", the keys at %" PRIu64, next,
                         cluster->keys);
    }
    return TORC_ERR_OK;
}

void torc_cluster_write_map(const struct torc_cluster *cluster, struct torc_chan_map *map)
{
    uint64_t sequence = atomic_load_explicit(&map->sequence, memory_order_relaxed);

    torc_assert(cluster->shard_count <= TORC_CHAN_MAP_ENTRIES);
    sequence |= 1; // a writer that died in between left it odd
    atomic_store_explicit(&map->sequence, sequence, memory_order_relaxed);
    atomic_thread_fence(
        memory_order_release); // pairs with the reader's acquire: odd before the rest
    map->version = cluster->map_version;
    map->entry_count = cluster->shard_count;
    map->node_count = 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;

        map->entries[i] = (struct torc_chan_map_entry){.lo = shard->lo,
                                                       .hi = shard->hi,
                                                       .shard = shard->shard,
                                                       .epoch = shard->epoch,
                                                       .member_count = 1};
        map->entries[i].members[0] = (struct torc_chan_member){
            .node = cluster->node, .core = (uint8_t)shard->worker, .state = 1};
    }
    // Pairs with the reader's acquire load of an even sequence: the entries are there.
    atomic_store_explicit(&map->sequence, sequence + 1, memory_order_release);
}

uint64_t torc_cluster_floor(const struct torc_cluster *cluster, uint32_t stream)
{
    uint64_t floor = UINT64_MAX;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;

        if (TORC_BUG(TRIM_TOO_MUCH)) {
            continue;
        }
        if (!shard->covered) {
            return 0;
        }
        if (shard->worker + 1 == stream) {
            floor = torc_min_u64(floor, shard->start_sequence);
        }
    }
    return floor;
}

struct torc_cluster_shard *torc_cluster_shard(const struct torc_cluster *cluster, uint32_t shard)
{
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (cluster->shards[i].shard == shard) {
            return cluster->shards + i;
        }
    }
    return NULL;
}

uint32_t torc_cluster_ready(const struct torc_cluster *cluster)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        count += cluster->shards[i].ready ? 1 : 0;
    }
    return count;
}
