// Torc simulator: the oracle of needless takeovers. See sim.h.
//
// What    a primary that was well all the time and that all other members heard is not replaced by
//         one that does not hear it (REPLICATION.md S3, 14.10: such a takeover costs a pause, and a
//         deaf member would make one after the other). "All the time" is CALM_NS before the swap:
//         no process of these nodes ended, stalled or said that it is sick, no message on the paths
//         that count was lost or late. Where the metastore's outcomes are unknown the moment of the
//         decision is too, so nothing is said there.
// Owner   the run.
#include "control/records.h"
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"

#include <string.h>

#define CALM_NS (300 * SIM_MS) // `lonely_wait`, and half of it

void sim_calm_upset(struct sim_node *node)
{
    node->upset_ns = sim->now_ns;
}

void sim_calm_path(uint32_t from, uint32_t to)
{
    sim->net.bad_ns[from][to] = sim->now_ns;
}

void sim_calm_turn(struct sim_node *node, const struct torc_worker *worker)
{
    bool upset = worker->quiescing || worker->log.failed || worker->replicas.health != 0;

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_worker_replica *replica = worker->shards[i].replica;

        upset = upset || (replica != NULL && replica->machine.transfer_node != 0);
    }
    if (upset) {
        sim_calm_upset(node);
    }
}

static bool calm_since(uint64_t bad_ns)
{
    return sim->now_ns >= CALM_NS && bad_ns <= sim->now_ns - CALM_NS;
}

static bool calm_path(uint32_t from, uint32_t to)
{
    return calm_since(sim->net.bad_ns[from - 1][to - 1]);
}

// In that epoch for as long as that, as far as one sees now.
static bool calm_is(uint32_t number, uint32_t shard, uint32_t epoch, enum torc_replica_role role)
{
    const struct sim_node *node = &sim->nodes[number - 1];
    const struct torc_worker_shard *replica = sim_ghost_replica(node, shard);

    return node->up && calm_since(node->upset_ns) && replica != NULL &&
           replica->replica->machine.epoch == epoch && replica->replica->machine.role == role;
}

static bool calm_decode(struct torc_shard_fields *fields, const char *text, uint32_t bytes)
{
    struct torc_fail why;

    return text != NULL &&
           torc_record_decode(TORC_RECORD_SHARD, fields, text, bytes, &why) == TORC_ERR_OK;
}

void sim_calm_swapped(uint32_t shard, const char *before, uint32_t before_bytes, const char *after,
                      uint32_t after_bytes)
{
    struct torc_shard_fields was;
    struct torc_shard_fields is;
    uint32_t old;
    uint32_t new;
    bool calm;

    if (sim->config.replicas < 3 || sim->config.unknown_ppm > 0 ||
        !calm_decode(&was, before, before_bytes) || !calm_decode(&is, after, after_bytes) ||
        was.primary_node == is.primary_node || was.insync.count < 3) {
        return;
    }
    old = (uint32_t)was.primary_node;
    new = (uint32_t)is.primary_node;
    calm = calm_is(old, shard, (uint32_t)was.epoch, TORC_REPLICA_ACTIVE) &&
           calm_is(new, shard, (uint32_t)was.epoch, TORC_REPLICA_BACKUP);
    for (uint32_t i = 0; i < was.insync.count && calm; i++) {
        uint32_t other = (uint32_t)was.insync.at[i].node;

        calm = other == old || other == new ||
               (calm_is(other, shard, (uint32_t)was.epoch, TORC_REPLICA_BACKUP) &&
                calm_path(old, other) && calm_path(other, new) && calm_path(new, other));
    }
    sim_cover(SIM_COVER_CHECK_TAKEOVER);
    if (calm) {
        sim_fail("needless: node %u takes shard %u over from node %u, which is well, and which all "
                 "other members hear",
                 (unsigned)new, (unsigned)shard, (unsigned)old);
    }
}
