// Torc storage: replay of shards that follow. See storage/replay.h.
#include "kit/bugs.h"
#include "storage/replay_impl.h"
#include "storage/shard_impl.h"

// -- Epochs ---------------------------------------------------------------------------------------

static void epochs_add(struct torc_replay_shard *shard, uint32_t epoch, uint64_t lsn)
{
    uint32_t count = shard->epoch_count;

    if (epoch == 0 || (count > 0 && shard->epochs[count - 1].epoch == epoch)) {
        return;
    }
    if (count == TORC_REPLAY_EPOCHS_MAX) {
        count--;
        for (uint32_t i = 0; i < count; i++) {
            shard->epochs[i] = shard->epochs[i + 1];
        }
    }
    shard->epochs[count] = (struct torc_replay_epoch){.epoch = epoch, .first_lsn = lsn};
    shard->epoch_count = count + 1;
}

static void epochs_cut(struct torc_replay_shard *shard, uint64_t lsn)
{
    while (shard->epoch_count > 0 && shard->epochs[shard->epoch_count - 1].first_lsn > lsn) {
        shard->epoch_count--;
    }
}

// -- Holding --------------------------------------------------------------------------------------

void torc_replay_hold_begin(struct torc_replay_shard *shard)
{
    struct torc_shard *engine = shard->shard;

    engine->shared = true;
    engine->next_lsn = shard->base_lsn + 1;
    engine->applied_lsn = shard->base_lsn;
    engine->applied_hlc = shard->hlc;
    engine->last_hlc = shard->hlc;
    engine->applied_epoch = shard->epoch;
    engine->last_epoch = shard->epoch;
    engine->fuzzy_lsn = shard->end_lsn;
    shard->next_lsn = engine->next_lsn;
    shard->base_epoch = shard->epoch;
    shard->base_turn = shard->turn;
    shard->epoch_count = 0;
    epochs_add(shard, shard->epoch, shard->base_lsn);
}

static void hold_commit(struct torc_replay_shard *shard, uint64_t lsn)
{
    struct torc_shard_outcome none;

    while (shard->shard->applied_lsn < lsn) {
        uint32_t given = torc_shard_commit_to(shard->shard, lsn, &none, 1);

        torc_assert(given == 0); // nobody waits
    }
}

void torc_replay_hold_yield(struct torc_replay_shard *shard)
{
    uint64_t held = shard->shard->next_lsn - 1 - shard->shard->applied_lsn;

    hold_commit(shard, shard->shard->applied_lsn + (held + 1) / 2);
}

static enum torc_err hold_empty(struct torc_replay_shard *shard, struct torc_fail *why)
{
    shard->epoch_count = 0;
    shard->end_lsn = 0;
    shard->base_lsn = 0;
    shard->base_epoch = 0;
    shard->next_lsn = 1;
    return torc_shard_reset(shard->shard, 0, 0, why);
}

// What was applied has turned out not to be committed: all that is left is a place in the log.
static enum torc_err hold_lose(struct torc_replay_shard *shard, struct torc_fail *why)
{
    shard->lost = true;
    return hold_empty(shard, why);
}

// BEGUN: of a base whose checkpoint was not kept, or of nothing, and then the log is whole.
static enum torc_err hold_begin_anew(struct torc_replay_shard *shard,
                                     const struct torc_log_record *record, struct torc_fail *why)
{
    shard->lost = record->lsn > 1;
    shard->gap = false;
    shard->base_turn = record->turn;
    return hold_empty(shard, why);
}

static enum torc_err hold_cut(struct torc_replay_shard *shard, uint64_t lsn, struct torc_fail *why)
{
    if (lsn + 1 >= shard->next_lsn || TORC_BUG(EPOCH_KEEPS_TAIL)) {
        return TORC_ERR_OK;
    }
    if (!torc_shard_pending_cut(shard->shard, lsn)) {
        return hold_lose(shard, why);
    }
    shard->next_lsn = shard->shard->next_lsn;
    epochs_cut(shard, lsn);
    return TORC_ERR_OK;
}

static enum torc_err hold_fail(const struct torc_replay_shard *shard,
                               const struct torc_log_record *record, const char *what,
                               struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "shard %" PRIu32 ", LSN %" PRIu64 " (epoch %" PRIu32 ", turn %" PRIu32 "): %s",
                     shard->shard->shard, record->lsn, record->epoch, record->turn, what);
}

// P1, after what the record cancels was cut: whether it goes on where the log stood. It does not
// where the shard began anew (torc_shard_reset), and no checkpoint of its base was kept.
static bool hold_goes_on(const struct torc_shard *engine, const struct torc_log_record *record)
{
    return record->lsn == engine->next_lsn &&
           (record->kind == TORC_LOG_EPOCH ? record->epoch > engine->last_epoch
                                           : record->epoch == engine->last_epoch);
}

// The epoch of a record that is there; 0: it is not known any more.
static uint32_t epochs_at(const struct torc_replay_shard *shard, uint64_t lsn)
{
    for (uint32_t i = shard->epoch_count; i > 0; i--) {
        if (shard->epochs[i - 1].first_lsn <= lsn) {
            return shard->epochs[i - 1].epoch;
        }
    }
    return 0;
}

// A record that is new to the shard.
static enum torc_err hold_take(struct torc_replay_shard *shard, const struct torc_shard_held *one,
                               struct torc_fail *why)
{
    const struct torc_log_record *record = one->record;
    struct torc_shard *engine = shard->shard;
    enum torc_err err;

    if (!hold_goes_on(engine, record)) {
        struct torc_tree_ticket ticket = one->ticket;

        torc_tree_cancel(&engine->tree, &ticket);
        // The end of a tail that was cut, whose beginning lies before what the checkpoint needs of
        // the log: the record that cancels it comes at next_lsn or below.
        shard->gap = record->lsn > engine->next_lsn;
        return shard->gap ? TORC_ERR_OK : hold_lose(shard, why);
    }
    shard->gap = false;
    if (record->hlc <= engine->last_hlc) {
        return hold_fail(shard, record, "its HLC does not rise", why);
    }
    hold_commit(shard, torc_min_u64(record->commit_lsn, engine->next_lsn - 1));
    err = torc_shard_hold(engine, one, why);
    if (err == TORC_ERR_OK) {
        epochs_add(shard, record->epoch, record->lsn);
        shard->replayed++;
        shard->next_lsn = engine->next_lsn;
    }
    return err;
}

enum torc_err torc_replay_hold(struct torc_replay_shard *shard, const struct torc_replay_held *held,
                               struct torc_fail *why)
{
    const struct torc_log_record *record = held->record;
    struct torc_shard_held one = {.record = record,
                                  .ticket = held->ticket,
                                  .first_sequence = held->position >> TORC_REPLAY_RECORD_BITS,
                                  .last_sequence = held->last_sequence};
    bool is_old = record->lsn <= shard->base_lsn || record->epoch < shard->base_epoch ||
                  record->turn < shard->base_turn;
    bool again =
        !is_old && record->lsn < shard->next_lsn && record->epoch == epochs_at(shard, record->lsn);
    enum torc_err err = TORC_ERR_OK;

    if (record->turn < shard->turn && record->turn >= shard->base_turn) {
        return hold_fail(shard, record, "an earlier turn after a later one", why);
    }
    if (record->kind == TORC_LOG_BEGUN) {
        bool counts = record->turn > shard->turn && record->turn > shard->base_turn;

        shard->turn = record->turn > shard->turn ? record->turn : shard->turn;
        return counts ? hold_begin_anew(shard, record, why) : TORC_ERR_OK;
    }
    shard->turn = record->turn > shard->turn ? record->turn : shard->turn;
    if (!again && !shard->lost && record->kind != TORC_LOG_MOVED &&
        record->turn >= shard->base_turn) {
        // A record cancels what lies at or above its LSN, even if the checkpoint has it.
        err = hold_cut(shard, torc_max_u64(record->lsn - 1, shard->base_lsn), why);
    }
    if (err == TORC_ERR_OK && !is_old && !again && !shard->lost && record->kind != TORC_LOG_MOVED) {
        return hold_take(shard, &one, why);
    }
    if (again && err == TORC_ERR_OK) {
        torc_shard_hold_again(shard->shard, &one);
    }
    if (err == TORC_ERR_OK) {
        torc_tree_cancel(&shard->shard->tree, &one.ticket);
    }
    return err;
}

enum torc_err torc_replay_hold_end(struct torc_replay_shard *shard, struct torc_fail *why)
{
    struct torc_shard *engine = shard->shard;
    enum torc_err err = shard->gap && !shard->lost ? hold_lose(shard, why) : TORC_ERR_OK;

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!shard->lost) {
        hold_commit(shard, shard->end_lsn); // a checkpoint has what is committed
    }
    shard->hlc = engine->last_hlc;
    shard->epoch = engine->last_epoch;
    shard->next_lsn = engine->next_lsn;
    engine->durable_lsn = engine->next_lsn - 1; // all of it came from the disk
    engine->durable_epoch = engine->last_epoch;
    engine->replaying = false;
    engine->anew = shard->lost;
    torc_shard_relog_from(engine, engine->pending_head);
    return engine->applied_lsn >= shard->end_lsn
               ? TORC_ERR_OK
               : torc_fail(why, TORC_ERR_CORRUPT,
                           "shard %" PRIu32 ": applied up to LSN %" PRIu64 ", not to %" PRIu64,
                           engine->shard, engine->applied_lsn, shard->end_lsn);
}
