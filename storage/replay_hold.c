// Torc storage: replay of shards that follow. See storage/replay.h.
#include "kit/bugs.h"
#include "storage/replay_impl.h"
#include "storage/shard_impl.h"

void torc_replay_hold_begin(struct torc_replay_shard *shard)
{
    struct torc_shard *engine = shard->shard;

    engine->shared = true;
    engine->next_lsn = shard->line.base_lsn + 1;
    engine->applied_lsn = shard->line.base_lsn;
    engine->applied_hlc = shard->hlc;
    engine->last_hlc = shard->hlc;
    engine->applied_epoch = shard->line.epoch;
    engine->last_epoch = shard->line.epoch;
    engine->fuzzy_lsn = shard->end_lsn;
    torc_replay_line_base(&shard->line);
}

static void hold_commit(struct torc_replay_shard *shard, uint64_t lsn)
{
    struct torc_shard_outcome none;

    while (shard->shard->applied_lsn < lsn) {
        uint32_t given = torc_shard_commit_to(shard->shard, lsn, &none, 1);

        torc_assert(given == 0); // nobody waits
    }
}

enum torc_err torc_replay_hold_empty(struct torc_replay_shard *shard, struct torc_fail *why)
{
    shard->end_lsn = 0;
    shard->emptied = false;
    return torc_shard_reset(shard->shard, 0, 0, why);
}

static enum torc_err hold_fail(const struct torc_replay_shard *shard,
                               const struct torc_log_record *record, const char *what,
                               struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "shard %" PRIu32 ", LSN %" PRIu64 " (epoch %" PRIu32 ", turn %" PRIu32 "): %s",
                     shard->shard->shard, record->lsn, record->epoch, record->turn, what);
}

// A record that is new to the shard.
static enum torc_err hold_take(struct torc_replay_shard *shard, const struct torc_shard_held *one,
                               struct torc_fail *why)
{
    const struct torc_log_record *record = one->record;
    struct torc_shard *engine = shard->shard;
    enum torc_err err;

    torc_assert(record->lsn == engine->next_lsn); // as the line says
    if (record->hlc <= engine->last_hlc) {
        return hold_fail(shard, record, "its HLC does not rise", why);
    }
    hold_commit(shard, torc_min_u64(record->commit_lsn, engine->next_lsn - 1));
    err = torc_shard_hold(engine, one, why);
    if (err == TORC_ERR_OK) {
        torc_replay_line_add(&shard->line, record);
        shard->replayed++;
    }
    return err;
}

// False: what was applied is cut.
static bool hold_cut(struct torc_replay_shard *shard, const struct torc_replay_step *step)
{
    return !step->cuts || torc_shard_pending_cut(shard->shard, step->cut_lsn);
}

enum torc_err torc_replay_hold(struct torc_replay_shard *shard, const struct torc_replay_held *held,
                               uint64_t at, struct torc_fail *why)
{
    const struct torc_log_record *record = held->record;
    struct torc_shard_held one = {.record = record,
                                  .ticket = held->ticket,
                                  .first_sequence = held->position >> TORC_REPLAY_RECORD_BITS,
                                  .last_sequence = held->last_sequence};
    struct torc_replay_step step;
    bool cancelled;

    if (!torc_replay_line_turn(&shard->line, record)) {
        return hold_fail(shard, record, "an earlier turn after a later one", why);
    }
    cancelled = torc_replay_ahead_cancels(&shard->ahead, record->lsn, at) &&
                torc_log_kind_has_lsn(record->kind);
    if (torc_replay_line_notes(&shard->line, record, cancelled)) {
        hold_commit(shard, torc_min_u64(record->commit_lsn, shard->shard->next_lsn - 1));
    }
    if (cancelled) {
        torc_tree_cancel(&shard->shard->tree, &one.ticket);
        return TORC_ERR_OK;
    }
    torc_replay_line_step(&shard->line, shard->shard, record, &step);
    if (!hold_cut(shard, &step)) {
        // What was applied has turned out not to be committed: all that is left is a place in the
        // log.
        shard->line.lost = true;
        torc_replay_line_empty(&shard->line);
        shard->emptied = true;
    } else if (step.move == TORC_REPLAY_TAKE) {
        return held->valueless ? torc_fail(why, TORC_ERR_NO_SPACE, "no memory for the value")
                               : hold_take(shard, &one, why);
    } else if (step.move == TORC_REPLAY_AGAIN) {
        torc_shard_hold_again(shard->shard, &one);
    } else if (step.move == TORC_REPLAY_ANEW || step.move == TORC_REPLAY_LOSE) {
        shard->emptied = true;
    }
    torc_tree_cancel(&shard->shard->tree, &one.ticket);
    return TORC_ERR_OK;
}

void torc_replay_hold_ahead(struct torc_replay_shard *shard)
{
    const struct torc_replay_ahead *ahead = &shard->ahead;
    struct torc_shard *engine = shard->shard;
    uint64_t lsn;

    if (ahead->cut_first == ahead->cut_count) {
        return;
    }
    // If what is applied is to be cut, the record that cuts it will find it so.
    lsn = torc_max_u64(torc_max_u64(ahead->cuts[ahead->cut_first].lsn, 1) - 1, engine->applied_lsn);
    if (lsn + 1 < engine->next_lsn && torc_shard_pending_cut(engine, lsn)) {
        torc_replay_line_cut(&shard->line, engine, lsn);
    }
}

bool torc_replay_hold_room(struct torc_replay_shard *shard, uint64_t at)
{
    const struct torc_shard *engine = shard->shard;
    uint64_t lsn =
        torc_min_u64(torc_max_u64(shard->ahead.commit_lsn, shard->end_lsn), engine->next_lsn - 1);

    if (at > shard->ahead.until || lsn <= engine->applied_lsn) {
        return false;
    }
    hold_commit(shard, lsn);
    return true;
}

enum torc_err torc_replay_hold_end(struct torc_replay_shard *shard, struct torc_fail *why)
{
    struct torc_shard *engine = shard->shard;
    enum torc_err err = TORC_ERR_OK;

    if (shard->line.gap && !shard->line.lost) {
        shard->line.lost = true;
        torc_replay_line_empty(&shard->line);
        err = torc_replay_hold_empty(shard, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!shard->line.lost) {
        hold_commit(shard, shard->end_lsn); // a checkpoint has what is committed
    }
    shard->hlc = engine->last_hlc;
    torc_assert(shard->line.next_lsn == engine->next_lsn);
    torc_assert(shard->line.epoch == engine->last_epoch);
    engine->durable_lsn = engine->next_lsn - 1; // all of it came from the disk
    engine->durable_epoch = engine->last_epoch;
    engine->logged_lsn = engine->next_lsn - 1;
    torc_shard_said(engine);
    engine->replaying = false;
    engine->anew = shard->line.lost;
    torc_shard_relog_from(engine, engine->pending_head);
    return engine->applied_lsn >= shard->end_lsn
               ? TORC_ERR_OK
               : torc_fail(why, TORC_ERR_CORRUPT,
                           "shard %" PRIu32 ": applied up to LSN %" PRIu64 ", not to %" PRIu64,
                           engine->shard, engine->applied_lsn, shard->end_lsn);
}
