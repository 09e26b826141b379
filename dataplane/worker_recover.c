// Torc dataplane: from what control read to shards that serve, and checkpoints back. See worker.h,
// storage/replay.h, storage/checkpoint.h.
#include "dataplane/worker_state.h"

#include <string.h>

#define HOLD_NS UINT64_C(5000000000) // as startup_grace

#define IN_MAX  8u // messages of 64 KiB a turn: about a millisecond of replay
#define IDLE_NS UINT64_C(1000000000)
#define TIDY_NS UINT64_C(1000000) // 128,000 clients a second

// -- Recovery -------------------------------------------------------------------------------------

static void recover_failed(struct torc_worker *worker, const struct torc_fail *why, uint32_t shard)
{
    worker->replay_failed = true;
    torc_replay_drop(worker->replay);
    torc_worker_not_ready(worker, shard, why);
}

static enum torc_err recover_message(struct torc_worker *worker, const struct torc_bulk *bulk,
                                     struct torc_fail *why)
{
    uint32_t bytes = bulk->byte_count;

    if (bytes > sizeof(bulk->bytes)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "a recovery message of %" PRIu32 " bytes", bytes);
    }
    switch ((enum torc_bulk_kind)bulk->kind) {
    case TORC_BULK_CHECKPOINT:
        return torc_replay_checkpoint(worker->replay, bulk->shard, bulk->bytes, bytes, why);
    case TORC_BULK_CHECKPOINT_END:
        return torc_replay_checkpoint_end(worker->replay, bulk->shard, why);
    case TORC_BULK_LOG:
        return torc_replay_log(worker->replay, bulk->stream, bulk->bytes, bytes, why);
    case TORC_BULK_LOG_END: return torc_replay_log_end(worker->replay, bulk->stream, why);
    }
    return torc_fail(why, TORC_ERR_UNSUPPORTED, "a recovery message of kind %" PRIu32, bulk->kind);
}

// The data belongs to shards that were ordered by another ring before it was sent: those orders
// first. They are seen here if the data is, because the data was looked at before.
static bool recover_has_orders(struct torc_worker *worker)
{
    const struct torc_cmd *order;

    if (torc_spsc_readable(&worker->rings.cmd, 1) == 0) {
        return false;
    }
    order = torc_spsc_read_at(&worker->rings.cmd, 0);
    return order->kind != TORC_CMD_RECOVERED;
}

bool torc_worker_take_recovery(struct torc_worker *worker)
{
    struct torc_spsc_port *ring = &worker->rings.in;

    for (uint32_t i = 0; i < IN_MAX && torc_spsc_readable(ring, 1) > 0; i++) {
        const struct torc_bulk *bulk = torc_spsc_read_at(ring, 0);
        struct torc_fail why;

        if (recover_has_orders(worker)) {
            return true;
        }
        // The message lies in shared memory, but who could change it has no reason to: its lengths
        // are looked at once, and what is in it carries checksums.
        if (!worker->replay_failed && !worker->recovered &&
            recover_message(worker, bulk, &why) != TORC_ERR_OK) {
            recover_failed(worker, &why, bulk->shard);
        }
        torc_spsc_release(ring, 1);
        worker->published = true; // control may wait for room
    }
    return torc_spsc_readable(ring, 1) > 0;
}

// Clients go on from what they were told, whatever was done to the system's clock since. Where no
// write is taken without another node, others are heard first (kit/wall.h).
static void recover_clock(struct torc_worker *worker)
{
    uint64_t stamped_us = torc_hlc_us(worker->pool.hlc);

    if (worker->cluster.min_in_sync >= 2) {
        torc_wall_hold(&worker->wall, worker->now_ns, stamped_us, HOLD_NS);
        worker->wall_us = stamped_us;
    } else {
        torc_wall_floor(&worker->wall, worker->now_ns, stamped_us);
        worker->wall_us = torc_max_u64(worker->wall_us, stamped_us);
    }
    worker->pool.wall_us = worker->wall_us;
    atomic_store_explicit(&worker->config.handover->stamped_us[worker->index], stamped_us,
                          memory_order_relaxed);
}

void torc_worker_recovered_all(struct torc_worker *worker)
{
    const struct torc_handover *handover = worker->config.handover;
    uint64_t stamped_us = 0;

    for (uint32_t i = 0; i < worker->count; i++) {
        stamped_us = torc_max_u64(
            stamped_us, atomic_load_explicit(&handover->stamped_us[i], memory_order_relaxed));
    }
    if (worker->cluster.min_in_sync < 2) {
        torc_wall_floor(&worker->wall, worker->now_ns, stamped_us);
    }
}

void torc_worker_recovered(struct torc_worker *worker)
{
    struct torc_fail why;

    if (worker->recovered || worker->replay_failed || !worker->configured) {
        return;
    }
    if (torc_replay_again(worker->replay)) {
        struct torc_evt event = {.kind = TORC_EVT_LOG_AGAIN};
        bool said = torc_worker_say(worker, &event);

        torc_assert(said); // no order is taken where none can be answered
        return;
    }
    if (torc_replay_end(worker->replay, &why) != TORC_ERR_OK) {
        recover_failed(worker, &why, 0);
        return;
    }
    worker->recovered = true;
    (void)torc_worker_note_commits(worker, false); // what replay holds counts from here on
    recover_clock(worker);
}

static void shard_tell(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_replay_result result = {0};
    struct torc_evt event = {.kind = TORC_EVT_SHARD_READY};

    if (shard->replica == NULL || shard->has_base) {
        result = torc_replay_result(worker->replay, shard->engine.shard);
    }
    event.shard = (struct torc_evt_shard){.records = result.records,
                                          .replayed = result.replayed,
                                          .lsn = result.lsn,
                                          .hlc = result.hlc,
                                          .shard = shard->engine.shard,
                                          .epoch = shard->opened_epoch};
    shard->told = torc_worker_say(worker, &event);
}

// Logs what opens a shard's life, when the log takes it. A record a shard and look: MOVED, then
// EPOCH.
static void shard_begin(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_log_record record;

    while (!shard->begun && torc_log_writer_admit(&worker->log, 0).err == TORC_ERR_OK) {
        if (torc_shard_begin(&shard->engine, &record)) {
            torc_worker_append(worker, &shard->engine, &record);
        } else {
            shard->begun = true;
        }
    }
}

// A replica starts from its log; the machine then asks for the shard's record.
static void shard_begin_replica(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_replay_result result = {0};
    struct torc_log_record record;

    if (shard->has_base) {
        result = torc_replay_result(worker->replay, shard->engine.shard);
    }
    if (!shard->begun) {
        torc_shard_follow(&shard->engine, result.epoch);
        shard->begun = true;
        shard->replica->lost = result.lost;
        shard->has_base = shard->has_base && !result.lost;
    }
    while (torc_log_writer_admit(&worker->log, torc_shard_begin_bytes(&shard->engine)).err ==
           TORC_ERR_OK) {
        if (!torc_shard_begin(&shard->engine, &record)) { // BEGUN; or MOVED, and what replay held
            torc_worker_replica_begin(worker, shard, &result);
            return;
        }
        torc_worker_append(worker, &shard->engine, &record);
        if (!shard->has_base) {
            shard->replica->begun_sequence = worker->log.next_sequence;
        }
    }
}

static void shard_open_replica(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    if (!shard->replica->live) {
        shard_begin_replica(worker, shard);
    }
    if (shard->replica->live && !shard->told) {
        shard_tell(worker, shard);
    }
}

// An idle shard's clients are past their time.
static void shard_idle(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_log_record record;
    bool more = torc_shard_tidy(&shard->engine);

    shard->idle_ns = worker->now_ns + (more ? TIDY_NS : IDLE_NS);
    if (!more &&
        (shard->replica == NULL ||
         torc_replica_may_append(&shard->replica->machine) == TORC_ERR_OK) &&
        torc_log_writer_admit(&worker->log, 0).err == TORC_ERR_OK &&
        torc_shard_idle(&shard->engine, &record)) {
        torc_worker_append(worker, &shard->engine, &record);
    }
}

void torc_worker_open_shards(struct torc_worker *worker)
{
    // Before replay has ended, a shard does not know its next LSN.
    for (uint32_t i = 0; worker->recovered && i < worker->shard_count; i++) {
        struct torc_worker_shard *shard = &worker->shards[i];

        if (!torc_worker_is_open(worker, i)) {
            continue;
        }
        if (!shard->told && shard->replica != NULL) {
            shard_open_replica(worker, shard);
        } else if (!shard->told) {
            shard_begin(worker, shard);
            if (shard->engine.state == TORC_SHARD_ACTIVE) {
                shard_tell(worker, shard);
            }
        } else if (worker->now_ns >= shard->idle_ns && !worker->quiescing) {
            shard_idle(worker, shard);
        }
    }
}

// -- What the log says of commits -----------------------------------------------------------------

static uint64_t note_unsaid(const struct torc_worker *worker)
{
    uint64_t unsaid = 0;

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_shard *engine = &worker->shards[i].engine;

        unsaid += torc_worker_is_open(worker, i) && engine->follows ? torc_shard_unsaid(engine) : 0;
    }
    return unsaid;
}

// What a replay of the log as it is now would hold. It has that many slots (decision 0028); the
// simulator looks each time, long before a restart does.
static bool note_fits(const struct torc_worker *worker)
{
#ifdef TORC_SIM
    return note_unsaid(worker) <= worker->pool.slot_count;
#else
    (void)worker;
    return true;
#endif
}

bool torc_worker_note_commits(struct torc_worker *worker, bool all)
{
    uint64_t unsaid = note_unsaid(worker);
    uint64_t lag_min = torc_shard_look(&worker->pool, unsaid, worker->shard_count);
    struct torc_log_record record;
    bool any = false;

    lag_min = all ? 1 : lag_min;
    torc_assert(note_fits(worker));
    for (uint32_t i = 0; worker->recovered && lag_min > 0 && i < worker->shard_count; i++) {
        struct torc_worker_shard *shard = &worker->shards[i];

        if (torc_worker_is_open(worker, i) && shard->engine.follows && shard->begun &&
            torc_log_writer_admit(&worker->log, 0).err == TORC_ERR_OK &&
            torc_shard_note(&shard->engine, lag_min, &record)) {
            uint64_t first_sequence = worker->log.next_sequence;

            torc_shard_appended(&shard->engine, first_sequence,
                                torc_log_writer_append(&worker->log, &record, worker->now_ns));
            any = true;
        }
    }
    torc_shard_looked(&worker->pool, any ? note_unsaid(worker) : unsaid);
    return any;
}

// -- Checkpoints ----------------------------------------------------------------------------------

static struct torc_worker_shard *checkpoint_shard(struct torc_worker *worker)
{
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        struct torc_worker_shard *shard =
            &worker->shards[(worker->checkpoint_at + i) % worker->shard_count];

        if (shard->checkpoint_number != 0) {
            worker->checkpoint_at = (worker->checkpoint_at + i + 1) % worker->shard_count;
            return shard;
        }
    }
    return NULL;
}

static void checkpoint_tell(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    const struct torc_checkpoint_writer *writer = &shard->checkpoint;
    struct torc_evt event = {.kind = TORC_EVT_CHECKPOINT_DONE};

    event.checkpoint = (struct torc_evt_checkpoint){.checkpoint = shard->checkpoint_number,
                                                    .lsn = writer->lsn,
                                                    .start_sequence = writer->start_sequence,
                                                    .records = writer->record_count,
                                                    .bytes = writer->byte_count,
                                                    .shard = shard->engine.shard};
    if (torc_worker_say(worker, &event)) {
        if (shard->replica != NULL) {
            shard->replica->kept_checkpoint = shard->checkpoint_number;
            shard->replica->kept_lsn = writer->lsn;
        }
        shard->checkpoint_number = 0;
    }
}

// Control would wait for its end for ever, and begin no other one of this worker.
static void checkpoint_fail(struct torc_worker *worker, struct torc_worker_shard *shard)
{
    struct torc_evt event = {.kind = TORC_EVT_CHECKPOINT_DONE};

    event.checkpoint = (struct torc_evt_checkpoint){.checkpoint = shard->checkpoint_number,
                                                    .shard = shard->engine.shard,
                                                    .failed = TORC_CHAN_UNMADE_FAILED};
    if (torc_worker_say(worker, &event)) {
        shard->checkpoint_void = false;
        shard->checkpoint_number = 0;
    }
}

bool torc_worker_checkpoint_step(struct torc_worker *worker)
{
    struct torc_spsc_port *ring = &worker->rings.out;
    struct torc_worker_shard *shard = checkpoint_shard(worker);
    struct torc_bulk *bulk;

    if (shard == NULL) {
        return false;
    }
    if (shard->checkpoint_void) {
        checkpoint_fail(worker, shard);
        return shard->checkpoint_number == 0;
    }
    if (torc_checkpoint_writer_done(&shard->checkpoint)) {
        checkpoint_tell(worker, shard); // it found no room before
        return shard->checkpoint_number == 0;
    }
    if (torc_spsc_writable(ring, 1) == 0) {
        return false; // control's turn; its doorbell wakes us
    }
    bulk = torc_spsc_write_at(ring, 0);
    memset(bulk, 0, offsetof(struct torc_bulk, bytes));
    bulk->kind = TORC_BULK_CHECKPOINT;
    bulk->shard = shard->engine.shard;
    bulk->checkpoint = shard->checkpoint_number;
    bulk->byte_count = torc_checkpoint_writer_next(&shard->checkpoint, &shard->engine, bulk->bytes,
                                                   TORC_CHECKPOINT_BLOCK_BYTES_MAX);
    if (bulk->byte_count > 0) {
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_CHECKPOINT_BYTES], bulk->byte_count);
        torc_spsc_publish(ring, 1);
        worker->published = true;
    }
    if (torc_checkpoint_writer_done(&shard->checkpoint)) {
        checkpoint_tell(worker, shard);
    }
    return true;
}
