// Torc simulator: the oracle of accepted losses. See sim.h.
//
// What    when an operator accepts a loss, the shard goes on from one copy, which lacks writes that
//         were answered. Then these must hold: nobody in sync was running, but who was said to be
//         off; what is missing is what the copy's last record, as it was said, does not cover: each
//         answered write up to there, in the log that was committed, is in the copy, and nothing of
//         above; what else the copy has are writes in doubt. (A copy with a tail of its own, of a
//         primary that was deposed, may have a write that failed at its successor, who is lost.)
//         From then on the shard has another history, which begins with what the copy has: the
//         oracles of keys, ranges and logs look at each such era alone. Other shards' histories go
//         on.
//         An operation that was under way may have happened in either era, or twice: what it
//         changed is in doubt in both, and what it saw is nobody's.
// Owner   the run.
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"

#include <string.h>

#define UNKNOWN UINT64_MAX // version of a row that was written again before it was looked at

static const struct sim_loss *loss_of(uint32_t shard, uint32_t era)
{
    for (uint32_t i = 0; i < sim->loss_count; i++) {
        if (sim->losses[i].shard == shard && --era == 0) {
            return &sim->losses[i];
        }
    }
    torc_unreachable("no such era");
}

// -- Eras -----------------------------------------------------------------------------------------

uint32_t sim_loss_era_count(uint32_t shard)
{
    uint32_t count = 1;

    for (uint32_t i = 0; i < sim->loss_count; i++) {
        count += sim->losses[i].shard == shard ? 1 : 0;
    }
    return count;
}

struct sim_eras sim_loss_eras(const struct sim_op *op, uint32_t shard, uint64_t from_ns)
{
    bool writes = op->kind == SIM_OP_PUT || op->kind == SIM_OP_DELETE;
    bool doubt = op->return_ns == 0 || torc_err_maybe_applied((enum torc_err)op->status);
    struct sim_eras eras = {0};

    for (uint32_t i = 0; i < sim->loss_count; i++) {
        const struct sim_loss *loss = &sim->losses[i];

        if (loss->shard != shard) {
            continue;
        }
        // From the deaths to the acceptance nobody answers but learners, for what may be old. Who
        // led alone, not knowing better, took writes that nobody committed.
        eras.first +=
            (writes && loss->cut_hlc == loss->hlc ? loss->dead_ns : loss->at_ns) <= from_ns ? 1 : 0;
        eras.last += doubt || loss->at_ns <= op->return_ns ? 1 : 0;
    }
    eras.first = eras.first < eras.last ? eras.first : eras.last;
    return eras;
}

const struct sim_row *sim_loss_row(uint32_t shard, uint32_t era, uint32_t key)
{
    const struct sim_loss *loss = loss_of(shard, era);

    return loss->seen && loss->rows[key].version != UNKNOWN ? &loss->rows[key] : NULL;
}

uint64_t sim_loss_hlc(uint32_t shard, uint32_t era)
{
    return loss_of(shard, era)->hlc;
}

// -- A loss is accepted ---------------------------------------------------------------------------

static bool loss_decode(struct torc_shard_fields *fields, const char *text, uint32_t bytes)
{
    struct torc_fail why;

    return text != NULL &&
           torc_record_decode(TORC_RECORD_SHARD, fields, text, bytes, &why) == TORC_ERR_OK;
}

static bool loss_is_noted(const struct torc_shard_fields *was, const struct torc_shard_fields *is)
{
    uint64_t count = is->losses.count;

    return count > was->losses.count ||
           (count > 0 && count == was->losses.count &&
            memcmp(&is->losses.at[count - 1], &was->losses.at[count - 1],
                   sizeof(is->losses.at[0])) != 0);
}

// Nobody in sync may run, or could but for what the operator said.
static void loss_judge_members(uint32_t shard, const struct torc_shard_fields *was,
                               const struct sim_order *order)
{
    for (uint32_t i = 0; i < was->insync.count; i++) {
        uint32_t node = (uint32_t)was->insync.at[i].node;

        if (sim_ghost_remembers(shard, node, was->insync.at[i].copy) &&
            (order->off >> (node - 1) & 1) == 0) {
            sim_fail("accepted: a loss of shard %u in epoch %u, though node %u has its copy, and "
                     "was not said to be off",
                     (unsigned)shard, (unsigned)was->epoch, (unsigned)node);
        }
    }
}

static void loss_note(uint32_t shard, const struct torc_shard_fields *was,
                      const struct torc_record_loss *noted)
{
    const struct sim_order *order = &sim->accept.orders[shard][noted->node - 1];
    struct sim_loss *loss = &sim->losses[sim->loss_count];

    loss_judge_members(shard, was, order);
    if (noted->epoch != was->epoch || order->dead_ns == 0) {
        sim_fail("accepted: a loss of shard %u in epoch %u, by who looked at another record",
                 (unsigned)shard, (unsigned)was->epoch);
        return;
    }
    if (noted->lsn != order->lsn) {
        sim_fail("account: node %u said that its copy of shard %u ends with LSN %" PRIu64
                 ", it did with %" PRIu64,
                 (unsigned)noted->node, (unsigned)shard, noted->lsn, order->lsn);
    }
    torc_assert(sim->loss_count < SIM_LOSSES_MAX);
    sim->loss_count++;
    *loss = (struct sim_loss){.dead_ns = order->dead_ns,
                              .at_ns = sim->now_ns,
                              .shard = shard,
                              .node = (uint32_t)noted->node,
                              .lsn = noted->lsn,
                              .hlc = order->hlc,
                              .cut_hlc = order->cut_hlc,
                              .complete = order->complete};
    sim_cover(SIM_COVER_ACCEPTED);
    sim_cover_add(SIM_COVER_ACCEPT_COMPLETE, loss->complete ? 1 : 0);
    sim_cover_add(SIM_COVER_ACCEPTED_TAIL, loss->cut_hlc < loss->hlc ? 1 : 0);
    sim_story("LOSS    of shard %u is accepted in epoch %u: it goes on from LSN %" PRIu64
              " of node %u, HLC %" PRIx64 ", of which %" PRIx64 " was committed",
              (unsigned)shard, (unsigned)was->epoch, loss->lsn, (unsigned)loss->node, loss->hlc,
              loss->cut_hlc);
    sim_ghost_lose(shard, (uint32_t)was->epoch, loss);
}

static bool loss_same_members(const struct torc_record_members *a,
                              const struct torc_record_members *b)
{
    return a->count == b->count && memcmp(a->at, b->at, a->count * sizeof(a->at[0])) == 0;
}

// A loss stays in the record until an operator says that it was seen; then nothing else changes.
static void loss_judge_seen(uint32_t shard, const struct torc_shard_fields *was,
                            const struct torc_shard_fields *is)
{
    bool same = was->epoch == is->epoch && was->primary_node == is->primary_node &&
                was->primary_boot == is->primary_boot &&
                loss_same_members(&was->insync, &is->insync) &&
                loss_same_members(&was->previous, &is->previous);

    if (is->losses.count >= was->losses.count) {
        return;
    }
    sim_cover(SIM_COVER_ACKNOWLEDGED);
    if (is->losses.count > 0 || !sim->accept.seen[shard] || !same) {
        sim_fail("acknowledged: losses of shard %u go from its record in epoch %u%s",
                 (unsigned)shard, (unsigned)was->epoch,
                 same ? ", and nobody has seen them" : ", and more with them");
    }
}

void sim_loss_swapped(uint32_t shard, const char *before, uint32_t before_bytes, const char *after,
                      uint32_t after_bytes)
{
    struct torc_shard_fields was;
    struct torc_shard_fields is;

    if (!sim_has(SIM_CLASS_ACCEPT)) {
        return;
    }
    if (loss_decode(&was, before, before_bytes) && loss_decode(&is, after, after_bytes)) {
        if (loss_is_noted(&was, &is)) {
            loss_note(shard, &was, &is.losses.at[is.losses.count - 1]);
        }
        loss_judge_seen(shard, &was, &is);
    }
    memset(sim->accept.orders[shard], 0, sizeof(sim->accept.orders[shard]));
    sim->accept.dead_ns[shard] = 0;
}

// -- What the copy has ----------------------------------------------------------------------------

// As of its last record: by the end of this turn it may have been written to.
static void loss_look(struct sim_loss *loss, struct torc_shard *engine)
{
    enum torc_shard_past past = TORC_SHARD_PAST_MORE;
    uint64_t oldest;

    while (past == TORC_SHARD_PAST_MORE) {
        past = torc_shard_past(engine, loss->hlc, UINT32_MAX, &oldest);
    }
    for (uint32_t i = 0; i < sim->config.keys; i++) {
        struct torc_tree_hit hit = {0};

        if (sim_shard_of(sim->keys[i]) != loss->shard) {
            continue;
        }
        if (past == TORC_SHARD_PAST_READY) {
            torc_shard_get_past(engine, sim->keys[i], loss->hlc, &hit);
        } else if (torc_tree_lookup(&engine->tree, sim->keys[i], &hit) && hit.version > loss->hlc) {
            hit.found = false;
            loss->rows[i].version = UNKNOWN;
        }
        if (hit.found) {
            loss->rows[i] = (struct sim_row){
                .key = sim->keys[i],
                .version = hit.version,
                .number = sim_value_read(sim->keys[i], hit.value, hit.value_bytes)};
        }
    }
    loss->seen = true;
    sim_cover(SIM_COVER_ACCEPT_SEEN);
}

void sim_loss_turn(const struct sim_node *node, struct torc_worker_shard *shard)
{
    struct sim_loss *loss = NULL; // the last: the copy of one before may be gone, unseen

    for (uint32_t i = 0; i < sim->loss_count; i++) {
        loss = sim->losses[i].shard == shard->engine.shard ? &sim->losses[i] : loss;
    }
    if (loss != NULL && !loss->seen && loss->node == node->number &&
        shard->replica->machine.role == TORC_REPLICA_ACTIVE) {
        loss_look(loss, &shard->engine);
    }
}

// -- At the end -----------------------------------------------------------------------------------

struct loss_key {
    const struct sim_op *last;   // answered write, of the era before, that the copy must cover
    const struct sim_op *writer; // of what the copy has
    bool erased;                 // maybe: a delete that is in doubt
    bool lost;                   // an answered write above
};

static void loss_gather(const struct sim_loss *loss, uint32_t era, uint32_t place,
                        struct loss_key *key)
{
    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];
        bool doubt = op->return_ns == 0 || torc_err_maybe_applied((enum torc_err)op->status);
        struct sim_eras eras;

        if ((op->kind != SIM_OP_PUT && op->kind != SIM_OP_DELETE) || op->key != place) {
            continue;
        }
        doubt = doubt || (loss->cut_hlc < loss->hlc && (op->status == TORC_ERR_CONDITION_FAILED ||
                                                        op->status == TORC_ERR_NOT_FOUND));
        if (!doubt && op->status != TORC_ERR_OK) {
            continue;
        }
        eras = sim_loss_eras(op, loss->shard, op->call_ns);
        if (eras.first > era - 1) {
            continue;
        }
        doubt = doubt || eras.last >= era;
        if (op->kind == SIM_OP_PUT && op->number == loss->rows[place].number) {
            key->writer = op;
        }
        key->erased =
            key->erased || (op->kind == SIM_OP_DELETE && (doubt || op->version > loss->cut_hlc));
        if (doubt || eras.last != era - 1) {
            continue; // of an era before: what that one began with is not looked at again here
        }
        key->lost = key->lost || op->version > loss->hlc;
        if (op->version <= loss->cut_hlc &&
            (key->last == NULL || op->version > key->last->version)) {
            key->last = op;
        }
    }
}

static void loss_judge_key(const struct sim_loss *loss, uint32_t era, uint32_t place)
{
    const struct sim_row *row = &loss->rows[place];
    struct loss_key key = {0};
    uint64_t last;

    loss_gather(loss, era, place, &key);
    sim_cover_add(SIM_COVER_ACCEPT_LOST, key.lost ? 1 : 0);
    if (key.lost && loss->complete) {
        sim_fail("loss: shard %u went on from node %u, of which was said that it lacks nothing: it "
                 "lacks a write of key %" PRIu64,
                 (unsigned)loss->shard, (unsigned)loss->node, sim->keys[place]);
    }
    if (row->version == UNKNOWN) {
        return;
    }
    last = key.last != NULL ? key.last->version : 0;
    if (row->version == 0 && key.last != NULL && key.last->kind == SIM_OP_PUT && !key.erased) {
        sim_fail("loss: shard %u went on from LSN %" PRIu64 " of node %u, HLC %" PRIx64 ", without "
                 "key %" PRIu64 ", which was written in %" PRIx64,
                 (unsigned)loss->shard, loss->lsn, (unsigned)loss->node, loss->hlc,
                 sim->keys[place], last);
    }
    if (row->version == 0) {
        return;
    }
    if (key.writer == NULL || row->version < last || row->version > loss->hlc ||
        (row->version == last && key.writer != key.last)) {
        sim_fail("loss: shard %u went on from LSN %" PRIu64 " of node %u, HLC %" PRIx64 ", with "
                 "value %" PRIu64 " of key %" PRIu64 ", version %" PRIx64 "%s; the last that was "
                 "answered by then is %" PRIx64,
                 (unsigned)loss->shard, loss->lsn, (unsigned)loss->node, loss->hlc, row->number,
                 sim->keys[place], row->version, key.writer == NULL ? ", which was refused" : "",
                 last);
    }
}

void sim_loss_judge(void)
{
    uint32_t eras[SIM_SHARDS_MAX + 1] = {0};

    for (uint32_t i = 0; i < sim->loss_count; i++) {
        const struct sim_loss *loss = &sim->losses[i];
        uint32_t era = ++eras[loss->shard];

        for (uint32_t place = 0; loss->seen && place < sim->config.keys; place++) {
            if (sim_shard_of(sim->keys[place]) == loss->shard) {
                loss_judge_key(loss, era, place);
            }
        }
    }
}
