// Torc storage: a shard as of a moment, and whether it is sound. See storage/shard.h.
#include "kit/bugs.h"
#include "storage/shard_impl.h"

#define NONE TORC_SHARD_NONE

// -- The past -----------------------------------------------------------------------------------

// Whether a record is pending that a read at `ts` sees. (A MOVED changes nothing.)
static bool pending_has(const struct torc_shard *shard, uint64_t ts)
{
    const struct torc_shard_slot *slots = shard->pool->slots;
    uint32_t index = shard->pending_head;

    while (index != NONE && slots[index].kind == TORC_LOG_MOVED) {
        index = slots[index].next;
    }
    return index != NONE && slots[index].hlc <= ts;
}

enum torc_shard_past torc_shard_past(struct torc_shard *shard, uint64_t ts, uint32_t entry_max,
                                     uint64_t *oldest)
{
    struct torc_shard_pool *pool = shard->pool;
    enum torc_undo_state state;

    if (!(ts > pool->hlc && TORC_BUG(READ_KEEPS_HLC)) &&
        torc_shard_hear(pool, ts, TORC_SHARD_MAX_AHEAD_US) != TORC_ERR_OK) {
        return TORC_SHARD_PAST_AHEAD;
    }
    if (ts >= shard->applied_hlc) {
        return pending_has(shard, ts) && !TORC_BUG(READ_SKIPS_PENDING) ? TORC_SHARD_PAST_PENDING
                                                                       : TORC_SHARD_PAST_READY;
    }
    state = torc_undo_is_on(&pool->undo) && ts >= shard->undo_floor
                ? torc_undo_prepare(&pool->undo, ts, entry_max)
                : TORC_UNDO_TOO_OLD;
    state = TORC_BUG(UNDO_IGNORED) ? TORC_UNDO_READY : state;
    switch (state) {
    case TORC_UNDO_READY: return TORC_SHARD_PAST_READY;
    case TORC_UNDO_MORE: return TORC_SHARD_PAST_MORE;
    case TORC_UNDO_TOO_OLD:
        // The window's floor is of all shards: this one's present is never too old.
        *oldest =
            torc_min_u64(torc_max_u64(shard->undo_floor, pool->undo.floor), shard->applied_hlc);
        return TORC_SHARD_PAST_TOO_OLD;
    }
    torc_unreachable("a state was added");
}

void torc_shard_get_past(const struct torc_shard *shard, uint64_t key, uint64_t ts,
                         struct torc_tree_hit *hit)
{
    struct torc_undo_change change;

    (void)torc_tree_lookup(&shard->tree, key, hit); // hit->found says it
    if (ts >= shard->applied_hlc || (hit->found && hit->version <= ts) ||
        !torc_undo_get(&shard->pool->undo, key, ts, &change)) {
        torc_assert_implies(hit->found, hit->version <= ts);
        return;
    }
    *hit = (struct torc_tree_hit){.found = change.present,
                                  .value = change.pair.value,
                                  .value_bytes = change.pair.value_bytes,
                                  .version = change.pair.version};
}

// -- Looking in ---------------------------------------------------------------------------------

static bool slot_is_promised(const struct torc_shard *shard, const struct torc_shard_slot *slot)
{
    struct torc_completion_client who = {.client = slot->write.client,
                                         .principal = slot->write.principal};

    return !slot->with_client ||
           torc_completion_is_promised(&shard->completions, who, &slot->promise);
}

static enum torc_err pending_check(const struct torc_shard *shard, struct torc_fail *why)
{
    const struct torc_shard_pool *pool = shard->pool;
    uint64_t lsn = shard->applied_lsn;
    uint64_t hlc = shard->applied_hlc;
    uint32_t count = 0;

    for (uint32_t index = shard->pending_head; index != NONE; index = pool->slots[index].next) {
        const struct torc_shard_slot *slot = &pool->slots[index];

        count++;
        if (slot->kind == TORC_LOG_MOVED) {
            continue;
        }
        lsn++;
        if (slot->state != TORC_SHARD_SLOT_PENDING || slot->hlc <= hlc || slot->lsn != lsn) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "S1: shard %" PRIu32 ": LSN %" PRIu64 " HLC %" PRIx64
                             " follow %" PRIu64 " and %" PRIx64,
                             shard->shard, slot->lsn, slot->hlc, lsn, hlc);
        }
        if (!slot_is_promised(shard, slot)) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "X3: shard %" PRIu32 ": LSN %" PRIu64 ": client %" PRIx64 " is gone",
                             shard->shard, slot->lsn, slot->write.client);
        }
        hlc = slot->hlc;
    }
    if (count != shard->pending_count || shard->next_lsn != lsn + 1) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "S1: shard %" PRIu32 ": %" PRIu32 " pending, counted %" PRIu32,
                         shard->shard, count, shard->pending_count);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_shard_check(const struct torc_shard *shard, struct torc_fail *why)
{
    const struct torc_shard_pool *pool = shard->pool;
    enum torc_err err = pending_check(shard, why);
    uint32_t free_count = 0;

    for (uint32_t at = pool->slot_free; at != NONE; at = pool->slots[at].next) {
        free_count++;
    }
    if (err == TORC_ERR_OK && pool->pending_count + pool->staged_count + pool->waiting_count +
                                      free_count + (pool->woken_given == NONE ? 0 : 1) !=
                                  pool->slot_fresh) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "S5: %" PRIu32 " slots: %" PRIu32 " pending, %" PRIu32 " waiting, %" PRIu32
                         " free",
                         pool->slot_fresh, pool->pending_count, pool->waiting_count, free_count);
    }
    err = err == TORC_ERR_OK ? torc_completion_check(&shard->completions, why) : err;
    err = err == TORC_ERR_OK ? torc_undo_check(&pool->undo, why) : err;
    return err == TORC_ERR_OK ? torc_tree_check(&shard->tree, why) : err;
}
