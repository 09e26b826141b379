// Torc simulator: the oracle of needless takeovers. See sim.h.
//
// What    a primary that was well all the time and that all other members heard is not replaced by
//         one that does not hear it (REPLICATION.md S3, 14.10: such a takeover costs a pause, and a
//         deaf member would make one after the other). "All the time" is CALM_NS before the swap:
//         no process of these nodes ended, stalled or said that it is sick, no message on the paths
//         that count was lost or late. Where the metastore's outcomes are unknown the moment of the
//         decision is too, so nothing is said there.
//         And the oracle of clean stops: a node that says that it has handed all over leads no
//         shard that another member could lead; and where nothing else goes wrong from before the
//         stop to STOP_AFTER_NS after the node's end, clients see redirects: no operation fails.
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
    if ((worker->replicas.health & TORC_HEALTH_STALLED) != 0) {
        sim_cover(SIM_COVER_DISK_STALLED);
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

// Its log was written all the time.
static bool calm_writes(uint32_t number)
{
    const struct sim_node *node = &sim->nodes[number - 1];

    return node->control.state == SIM_CONTROL_SERVING && calm_since(node->control.state_ns) &&
           calm_since(node->control.actor.paused_ns) && node->faults.full_after == UINT64_MAX &&
           node->faults.latency_ns <= SIM_MS;
}

bool sim_calm_pair(uint32_t shard, uint32_t epoch, uint32_t primary, uint32_t backup)
{
    return sim->config.unknown_ppm == 0 && calm_is(primary, shard, epoch, TORC_REPLICA_ACTIVE) &&
           calm_is(backup, shard, epoch, TORC_REPLICA_BACKUP) && calm_path(primary, backup) &&
           calm_path(backup, primary) && calm_writes(primary) && calm_writes(backup);
}

void sim_calm_swapped(uint32_t shard, const char *before, uint32_t before_bytes, const char *after,
                      uint32_t after_bytes)
{
    struct torc_shard_fields was;
    struct torc_shard_fields is;
    uint32_t old;
    uint32_t new;
    bool calm;

    if (!calm_decode(&was, before, before_bytes) || !calm_decode(&is, after, after_bytes)) {
        return;
    }
    sim_place_swapped(shard, &was, &is);
    if (sim->config.replicas < 3 || sim->config.unknown_ppm > 0 ||
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

// -- Clean stops ----------------------------------------------------------------------------------

#define STOP_BEFORE_NS  (200 * SIM_MS) // in which operations began that the stop may meet
#define STOP_AFTER_NS   (300 * SIM_MS)
#define STOP_PATIENT_US 150000u // of operations that are judged: their time is not over before that
#define STOP_KNOWN_NS   SIM_S   // others know by then that a node is well
#define STOP_NOISE                                                           \
    (1u << SIM_CLASS_LOSS | 1u << SIM_CLASS_DAMAGE | 1u << SIM_CLASS_DELAY | \
     1u << SIM_CLASS_JITTER | 1u << SIM_CLASS_META)

void sim_calm_trouble(void)
{
    sim->troubles[sim->trouble_count++ % SIM_TROUBLES_MAX] = sim->now_ns;
}

static bool calm_between(uint64_t from_ns, uint64_t to_ns)
{
    for (uint32_t i = 0; i < torc_min_u64(sim->trouble_count, SIM_TROUBLES_MAX); i++) {
        if (sim->troubles[i] >= from_ns && sim->troubles[i] <= to_ns) {
            return false;
        }
    }
    return true;
}

static bool calm_network(void)
{
    uint64_t bad = sim->net.storm_ppm + (uint64_t)(sim->net.mtu != sim->config.mtu);

    for (uint32_t from = 0; from < SIM_PLACES; from++) {
        for (uint32_t to = 0; to < SIM_PLACES; to++) {
            bad += sim->net.cut[from][to] ? 1 : sim->net.slow_ns[from][to];
            // Operations that the stop may meet began in it.
            bad += calm_since(sim->net.cut_until_ns[from][to]) ? 0 : 1;
        }
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        bad += calm_since(sim->meta.away_ns[i]) ? 0 : 1;
    }
    return bad == 0 && !sim->meta.away && sim->meta.delay_ns <= SIM_MS;
}

static bool calm_node(const struct sim_node *node, uint64_t for_ns)
{
    const struct sim_disk_faults *faults = &node->faults;

    return node->powered && node->up && node->control.state == SIM_CONTROL_SERVING &&
           !node->control.wants_stop && sim->now_ns >= for_ns &&
           node->control.state_ns <= sim->now_ns - for_ns &&
           node->upset_ns <= sim->now_ns - for_ns && faults->latency_ns <= SIM_MS &&
           faults->full_after == UINT64_MAX && faults->fail_write == 0 && faults->fail_other == 0 &&
           faults->die_at == 0 && !node->poisoned;
}

bool sim_calm_all_served(uint64_t for_ns)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        const struct sim_control *control = &sim->nodes[i].control;

        if (control->state != SIM_CONTROL_SERVING || control->wants_stop ||
            sim->now_ns - control->state_ns < for_ns) {
            return false;
        }
    }
    return true;
}

void sim_calm_stop_begins(const struct sim_node *node)
{
    bool calm = sim->config.replicas > 1 && (sim->config.classes & STOP_NOISE) == 0 &&
                sim->stop_count < SIM_STOPS_MAX && calm_network();

    for (uint32_t i = 0; i < sim->config.nodes && calm; i++) {
        calm = i == node->index || calm_node(&sim->nodes[i], STOP_KNOWN_NS);
    }
    if (calm) {
        sim->stops[sim->stop_count++] =
            (struct sim_stop){.from_ns = sim->now_ns, .node = node->number};
    }
}

// Another member that is well, and known to be.
static uint32_t calm_heir(const struct sim_node *node, const struct torc_shard_fields *fields)
{
    for (uint32_t i = 0; i < fields->insync.count; i++) {
        uint32_t member = (uint32_t)fields->insync.at[i].node;

        if (member != node->number && calm_node(&sim->nodes[member - 1], STOP_KNOWN_NS)) {
            return member;
        }
    }
    return 0;
}

void sim_calm_stop_hands(const struct sim_node *node)
{
    if (sim->config.replicas == 1 || sim_has(SIM_CLASS_META)) {
        return; // what it knows may be old
    }
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        struct torc_shard_fields fields;
        uint32_t heir;

        sim_wish_record(shard, &fields);
        heir = calm_heir(node, &fields);
        if (fields.primary_node == node->number &&
            fields.primary_boot == node->control.cluster.boot && heir != 0) {
            sim_fail("stop: node %u ends and leads shard %u, which node %u could lead",
                     (unsigned)node->number, (unsigned)shard, (unsigned)heir);
        }
    }
}

void sim_calm_stop_ends(const struct sim_node *node)
{
    for (uint32_t i = 0; i < sim->stop_count; i++) {
        struct sim_stop *stop = &sim->stops[i];

        if (stop->node == node->number && stop->to_ns == 0) {
            stop->to_ns = sim->now_ns;
        }
    }
}

static bool calm_is_fine(const struct sim_op *op)
{
    return op->status == TORC_ERR_OK || op->status == TORC_ERR_NOT_FOUND ||
           op->status == TORC_ERR_CONDITION_FAILED || op->status == TORC_ERR_CLOSED ||
           op->status == TORC_ERR_SNAPSHOT_TOO_OLD;
}

// Of a closed shard nobody answers, stop or not.
bool sim_calm_is_closed(const struct sim_op *op)
{
    bool single = op->kind < SIM_OP_RANGE;
    uint32_t first = sim_shard_of(single ? sim->keys[op->key] : op->lo);
    uint32_t last = single || op->hi <= op->lo ? first : sim_shard_of(op->hi - 1);

    for (uint32_t shard = first; shard <= last && shard <= sim->config.shards; shard++) {
        if (sim_wish_is_closed(shard)) {
            return true;
        }
    }
    return false;
}

static void calm_judge_stop(const struct sim_stop *stop)
{
    uint64_t end_ns = stop->to_ns + STOP_AFTER_NS;

    if (stop->to_ns == 0 || !calm_between(stop->from_ns - CALM_NS, end_ns)) {
        return;
    }
    for (uint32_t i = 0; i < sim->stop_count; i++) { // a second one at the same time
        const struct sim_stop *other = &sim->stops[i];

        if (other != stop && other->from_ns <= end_ns + STOP_KNOWN_NS &&
            stop->from_ns <= other->to_ns + STOP_KNOWN_NS) {
            return;
        }
    }
    sim_cover(SIM_COVER_STOP_CALM);
    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->return_ns < stop->from_ns || op->return_ns > end_ns ||
            op->call_ns + STOP_BEFORE_NS < stop->from_ns || op->deadline_ns < STOP_PATIENT_US) {
            continue;
        }
        sim_cover(SIM_COVER_STOP_CALM_OPS);
        if (!calm_is_fine(op) && !op->closed) {
            sim_fail("stop: operation #%u of client %u ends with %s while node %u stops, and all "
                     "else is well",
                     (unsigned)i, (unsigned)op->client, torc_err_name((enum torc_err)op->status),
                     (unsigned)stop->node);
        }
    }
}

void sim_calm_judge(void)
{
    for (uint32_t i = 0; i < sim->stop_count; i++) {
        calm_judge_stop(&sim->stops[i]);
    }
}
