// Torc dataplane: a replica's records, between machine, engine, log and other nodes. See
// worker_replica.h, storage/shard.h.
#include "dataplane/worker_state.h"
#include "kit/bugs.h"

#include <string.h>

#define STAGED_BYTES_MAX (8u << 20) // of values in one message, so that sums do not overflow

// -- Between the log's words and the wire's -------------------------------------------------------

_Static_assert((int)TORC_PEER_RECORD_PUT == (int)TORC_LOG_PUT, "one numbering");
_Static_assert((int)TORC_PEER_RECORD_DELETE == (int)TORC_LOG_DELETE, "one numbering");
_Static_assert((int)TORC_PEER_RECORD_EPOCH == (int)TORC_LOG_EPOCH, "one numbering");
_Static_assert((int)TORC_PEER_RECORD_EMPTY == (int)TORC_LOG_EMPTY, "one numbering");

static void record_to_peer(struct torc_peer_record *to, const struct torc_log_record *from)
{
    *to = (struct torc_peer_record){.kind = (enum torc_peer_record_kind)from->kind,
                                    .with_client = from->with_client,
                                    .shard = from->shard,
                                    .epoch = from->epoch,
                                    .lsn = from->lsn,
                                    .hlc = from->hlc,
                                    .key = from->key,
                                    .principal = from->principal,
                                    .value_bytes = from->value_bytes,
                                    .client = from->client,
                                    .seq = from->seq,
                                    .low = from->low,
                                    .value = from->value};
}

static void record_from_peer(struct torc_log_record *to, const struct torc_peer_record *from,
                             uint32_t turn)
{
    *to = (struct torc_log_record){.kind = (enum torc_log_kind)from->kind,
                                   .with_client = from->with_client,
                                   .shard = from->shard,
                                   .epoch = from->epoch,
                                   .turn = turn,
                                   .lsn = from->lsn,
                                   .hlc = from->hlc,
                                   .key = from->key,
                                   .principal = from->principal,
                                   .value_bytes = from->value_bytes,
                                   .client = from->client,
                                   .seq = from->seq,
                                   .low = from->low,
                                   .value = from->value,
                                   .piece_bytes = from->value_bytes};
}

bool torc_worker_replica_record(struct torc_worker *worker, const struct torc_worker_shard *shard,
                                uint64_t lsn, struct torc_log_record *record)
{
    return torc_shipped_get(&worker->replicas.shipped, shard->engine.shard, lsn, record) ||
           torc_shard_pending_at(&shard->engine, lsn, record);
}

void torc_worker_replica_floor(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    uint64_t floor_lsn = torc_shipped_floor(&worker->replicas.shipped, shard->engine.shard);

    // What is pending is at hand too; behind it, all was kept.
    torc_replica_floor(&shard->replica->machine,
                       torc_min_u64(floor_lsn, shard->engine.applied_lsn));
}

// -- Appending ------------------------------------------------------------------------------------

void torc_worker_replica_flush(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;
    uint64_t last_lsn = shard->engine.next_lsn - 1;
    struct torc_replica_event event = {.kind = TORC_REPLICA_APPENDED, .lsn = last_lsn};

    if (replica->machine.role == TORC_REPLICA_ACTIVE && last_lsn > replica->machine.last_lsn) {
        torc_worker_replica_step_bare(worker, shard, &event);
    }
}

void torc_worker_replica_open(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    const struct torc_replica *machine = &shard->replica->machine;
    uint64_t ceiling =
        atomic_load_explicit(&worker->replicas.council->ceiling, memory_order_acquire);
    struct torc_log_record record;

    ceiling = TORC_BUG(CEILING_NOT_KEPT) ? 0 : ceiling;
    torc_shard_lead(&shard->engine, machine->epoch, ceiling, &record);
    torc_assert(record.lsn == machine->epoch_lsn);
    if (worker->log.failed) {
        // The compare-and-swap was won, and the log failed meanwhile. The record lies in a block
        // that will never be durable: nothing is acknowledged, and this node's health lets another
        // member take over.
        torc_shard_appended(&shard->engine, worker->log.next_sequence, worker->log.next_sequence);
        return;
    }
    torc_worker_append(worker, &shard->engine, &record);
}

// -- Following: records that came -----------------------------------------------------------------

// Whether the log takes all values staged so far and this one.
static bool stage_fits(struct torc_worker *worker, uint64_t *bytes, uint32_t value_bytes)
{
    *bytes += value_bytes + TORC_LOG_RECORD_BYTES_MAX;
    return *bytes <= STAGED_BYTES_MAX + (uint64_t)value_bytes &&
           torc_log_writer_admit(&worker->log, (uint32_t)*bytes).err == TORC_ERR_OK;
}

static void stage_records(struct torc_worker *worker, struct torc_worker_shard *shard,
                          struct torc_peer_op *op)
{
    struct torc_shard *engine = &shard->engine;
    struct torc_peer_record record;
    struct torc_log_record logged;
    uint64_t bytes = 0;
    struct torc_fail why;

    while (torc_peer_record_next(&op->records, &record)) {
        enum torc_err err;

        if (record.lsn < engine->next_lsn) {
            continue; // is here already
        }
        if (record.lsn != engine->next_lsn + engine->staged_count ||
            !stage_fits(worker, &bytes, record.value_bytes)) {
            return;
        }
        record_from_peer(&logged, &record, engine->turn);
        err = torc_shard_stage(engine, &logged, &why);
        if (err != TORC_ERR_OK) {
            return; // no room, or damaged on its way: it comes again
        }
    }
}

void torc_worker_replica_stage(struct torc_worker *worker, struct torc_worker_shard *shard,
                               struct torc_peer_op *op)
{
    const struct torc_replica *machine = &shard->replica->machine;
    struct torc_shard *engine = &shard->engine;
    struct torc_peer_append *append = &op->message.append;
    uint64_t end_lsn;

    torc_assert(engine->staged_count == 0);
    if (append->count == 0) {
        return;
    }
    // Whom the machine will not listen to anyway costs nothing here; a log that is being closed
    // takes nothing more.
    if (engine->state == TORC_SHARD_FOLLOWING && machine->synced && !worker->quiescing &&
        append->epoch == machine->epoch) {
        stage_records(worker, shard, op);
    }
    end_lsn = torc_max_u64(engine->next_lsn + engine->staged_count, append->first_lsn);
    append->count = (uint32_t)torc_min_u64(append->count, end_lsn - append->first_lsn);
    append->runs.count = append->count == 0 ? 0 : append->runs.count;
}

void torc_worker_replica_take(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_log_record record;

    while (torc_shard_take(&shard->engine, &record)) {
        torc_worker_append(worker, &shard->engine, &record);
    }
    torc_assert(shard->engine.next_lsn == shard->replica->machine.last_lsn + 1);
}

void torc_worker_replica_cut(struct torc_worker *worker, struct torc_worker_shard *shard,
                             uint64_t lsn)
{
    bool cut;

    if (shard->engine.state != TORC_SHARD_FOLLOWING) {
        torc_shard_follow(&shard->engine, shard->replica->machine.epoch); // it led until now
        torc_worker_writes_forget(worker, &shard->engine);
    }
    cut = torc_shard_cut(&shard->engine, lsn);
    // What is applied was committed, by this node's word or by its place in a log whose last
    // records replay held back: it is never cut (R2).
    torc_assert(cut);
    torc_shipped_cut(&worker->replicas.shipped, shard->engine.shard, lsn);
}

void torc_worker_replica_apply(struct torc_worker *worker, struct torc_worker_shard *shard,
                               uint64_t lsn)
{
    struct torc_shard *engine = &shard->engine;

    while (engine->applied_lsn < lsn) {
        uint32_t count = torc_shard_commit_to(engine, lsn, worker->outcomes, TORC_WORKER_OUTCOMES);

        torc_worker_ended(worker, count);
    }
    shard->replica->follow_up.applied = true;
    shard->replica->follow_up.applied_lsn = lsn;
}

void torc_worker_replicas_durable(struct torc_worker *worker)
{
    struct torc_shard *engine;

    if (worker->log.durable == worker->replicas.durable) {
        return;
    }
    worker->replicas.durable = worker->log.durable;
    while ((engine = torc_shard_durable(&worker->pool, worker->log.durable)) != NULL) {
        struct torc_worker_shard *shard = torc_worker_shard_number(worker, engine->shard);
        struct torc_replica_event event = {
            .kind = TORC_REPLICA_DURABLE,
            .durable = {.epoch = engine->durable_epoch, .lsn = engine->durable_lsn}};

        if (shard != NULL && shard->replica != NULL && shard->replica->live) {
            torc_worker_replica_step(worker, shard, &event);
        }
    }
}

// -- Leading: records that go ---------------------------------------------------------------------

// Nothing is on its way, or the node has no part in the shard any more.
static bool shipping_is_over(const struct torc_worker_replica *replica,
                             const struct torc_worker_shipping *shipping)
{
    const struct torc_replica_peer *peer = torc_worker_replica_peer(replica, shipping->node);

    return shipping->node == 0 || shipping->lsn == shipping->end_lsn || peer == NULL ||
           peer->role == TORC_REPLICA_PEER_OTHER;
}

static struct torc_worker_shipping *shipping_of(struct torc_worker_replica *replica, uint32_t node)
{
    struct torc_worker_shipping *place = NULL;

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        struct torc_worker_shipping *at = &replica->shipping[i];

        if (at->node == node) {
            return at;
        }
        place = place == NULL && shipping_is_over(replica, at) ? at : place;
    }
    torc_assert(place != NULL); // no more members and learners than places
    *place = (struct torc_worker_shipping){.node = node};
    return place;
}

// Sends on. False: no room for more now.
static bool shipping_pump(struct torc_worker *worker, struct torc_worker_shard *shard,
                          struct torc_worker_shipping *shipping)
{
    const struct torc_replica *machine = &shard->replica->machine;
    struct torc_peer_message message = {.kind = TORC_PEER_APPEND, .shard = machine->shard};
    struct torc_log_record logged;
    struct torc_peer_record record;
    bool room = true;

    if (shipping->epoch != machine->epoch) {
        shipping->lsn = shipping->end_lsn; // another epoch asks for its own
    }
    if (shipping->lsn == shipping->end_lsn) {
        return true;
    }
    message.append.epoch = machine->epoch;
    message.append.commit_lsn = machine->commit_lsn;
    torc_worker_post_begin(worker, torc_worker_replica_to(worker, shard, shipping->node), &message);
    while (room && shipping->lsn < shipping->end_lsn) {
        // What is not at hand any more is asked for again, and found to be gone.
        if (!torc_worker_replica_record(worker, shard, shipping->lsn, &logged)) {
            shipping->lsn = shipping->end_lsn;
            break;
        }
        record_to_peer(&record, &logged);
        room = torc_worker_post_record(worker, &record, &shipping->value_done);
        shipping->lsn += room ? 1 : 0;
        shipping->value_done = room ? 0 : shipping->value_done;
    }
    torc_worker_post_end(worker);
    return room;
}

void torc_worker_replica_ship(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_action *action)
{
    const struct torc_peer_append *append = &action->message.append;
    struct torc_worker_shipping *shipping = shipping_of(shard->replica, action->node);
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_APPEND};

    if (append->count == 0) {
        op.message = action->message;
        torc_worker_replica_post(worker, shard, action->node, &op);
        return;
    }
    // It goes on where the last one ended, or from a record whose value is on its way; else anew.
    if (shipping->epoch != append->epoch || shipping->lsn == shipping->end_lsn ||
        append->first_lsn > shipping->end_lsn || append->first_lsn < shipping->lsn) {
        shipping->lsn = append->first_lsn;
        shipping->value_done = 0;
    }
    shipping->epoch = append->epoch;
    shipping->end_lsn = append->first_lsn + append->count;
    (void)shipping_pump(worker, shard, shipping);
}

bool torc_worker_replica_pump(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_worker_replica *replica = shard->replica;
    uint32_t first = replica->shipping_first;

    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        uint32_t at = (first + i) % TORC_REPLICA_PEERS_MAX;

        if (replica->shipping[at].node != 0 &&
            !shipping_pump(worker, shard, &replica->shipping[at])) {
            replica->shipping_first = at + 1; // next time the others come first
            return true;
        }
    }
    return false;
}
