// Torc control: the node's shards. See control/cluster.h.
#include "control/cluster.h"

#include "kit/bugs.h"

#include <string.h>

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

uint64_t torc_cluster_floor(const struct torc_cluster *cluster, uint32_t stream)
{
    uint64_t floor = UINT64_MAX;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;

        bool empty = shard->replica && !shard->based && !shard->fed && !shard->has_checkpoint;

        if (shard->shard == 0 || empty || TORC_BUG(TRIM_TOO_MUCH)) {
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
    for (uint32_t i = 0; i < cluster->shard_count && shard != 0; i++) {
        if (cluster->shards[i].shard == shard) {
            return cluster->shards + i;
        }
    }
    return NULL;
}

struct torc_cluster_shard *torc_cluster_add(struct torc_cluster *cluster)
{
    uint32_t at = 0;

    while (at < cluster->shard_count && cluster->shards[at].shard != 0) {
        at++;
    }
    if (at >= cluster->shard_max) {
        return NULL;
    }
    cluster->shard_count = (uint32_t)torc_max_u64(cluster->shard_count, at + UINT64_C(1));
    memset(&cluster->shards[at], 0, sizeof(cluster->shards[at]));
    return &cluster->shards[at];
}

void torc_cluster_drop(struct torc_cluster *cluster, struct torc_cluster_shard *shard)
{
    memset(shard, 0, sizeof(*shard));
    while (cluster->shard_count > 0 && cluster->shards[cluster->shard_count - 1].shard == 0) {
        cluster->shard_count--;
    }
}

struct torc_cluster_shard *torc_cluster_here(struct torc_cluster *cluster, uint32_t worker,
                                             bool replicas, const struct torc_evt_here *here)
{
    struct torc_cluster_shard *shard = torc_cluster_shard(cluster, here->shard);

    torc_assert(here->shard != 0);
    if (shard == NULL) { // it was taken from this node meanwhile
        shard = torc_cluster_add(cluster);
        if (shard == NULL) {
            return NULL;
        }
        shard->shard = here->shard;
        shard->lo = here->lo;
        shard->hi = here->hi;
        shard->epoch = here->epoch;
        shard->replica = replicas;
    }
    shard->here = shard->replica || here->epoch == shard->epoch;
    shard->epoch = shard->replica ? here->epoch : shard->epoch;
    shard->worker = worker;
    shard->copy = here->copy;
    shard->turn = here->turn;
    shard->based = here->has_base != 0;
    shard->fed = true;
    shard->ready = true;
    shard->wanted = false;
    shard->wake = true; // its record may have changed while no control was there to say so
    return shard;
}

void torc_cluster_role(struct torc_cluster *cluster, const struct torc_evt_role *role)
{
    struct torc_cluster_shard *shard = torc_cluster_shard(cluster, role->shard);

    if (shard != NULL) {
        shard->said = *role;
        shard->fed = shard->fed || role->role != TORC_CHAN_LEARNER;
        shard->emptied = shard->emptied && role->role == TORC_CHAN_LEARNER;
    }
}

void torc_cluster_base(struct torc_cluster *cluster, uint32_t shard)
{
    struct torc_cluster_shard *place = torc_cluster_shard(cluster, shard);

    if (place != NULL && !place->leaving) {
        place->fed = true;
        place->emptied = false;
        place->wanted = true;
    }
}

void torc_cluster_emptied(struct torc_cluster_shard *shard)
{
    shard->emptied = shard->replica && (shard->based || shard->fed || shard->has_checkpoint);
}

struct torc_cluster_shard *torc_cluster_to_forget(struct torc_cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        if (cluster->shards[i].shard != 0 && cluster->shards[i].emptied) {
            return cluster->shards + i;
        }
    }
    return NULL;
}

void torc_cluster_forget(struct torc_cluster_shard *shard)
{
    shard->based = false;
    shard->fed = false;
    shard->has_checkpoint = false;
    shard->covered = false;
    shard->emptied = false;
}

struct torc_cmd torc_cluster_open(const struct torc_cluster_shard *shard)
{
    struct torc_cmd order = {.kind = TORC_CMD_SHARD_OPEN};

    order.shard = (struct torc_cmd_shard){.lo = shard->lo,
                                          .hi = shard->hi,
                                          .shard = shard->shard,
                                          .epoch = shard->epoch,
                                          .turn = shard->turn,
                                          .moved = shard->moved ? 1 : 0,
                                          .is_replica = shard->replica ? 1 : 0,
                                          .has_base = shard->based ? 1 : 0,
                                          .copy = shard->copy};
    return order;
}

uint32_t torc_cluster_count(const struct torc_cluster *cluster)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        count += cluster->shards[i].shard != 0 ? 1 : 0;
    }
    return count;
}

uint32_t torc_cluster_ready(const struct torc_cluster *cluster)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        count += cluster->shards[i].ready || cluster->shards[i].gone ? 1 : 0;
    }
    return count;
}
