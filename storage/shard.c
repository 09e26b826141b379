// Torc storage: the engine of one shard. See storage/shard.h.
#include "kit/bugs.h"
#include "storage/shard_impl.h"

#define NONE       TORC_SHARD_NONE
#define EXPIRE_MAX 128u // clients dropped a batch: more than can have come with one
#define OWN_MAX    256u // clients and results looked at a batch, whose shard is led or followed now

// -- Appending ----------------------------------------------------------------------------------

void torc_shard_dirty_push(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;

    shard->dirty = true;
    shard->dirty_next = NULL;
    if (pool->dirty_tail == NULL) {
        pool->dirty_head = shard;
    } else {
        pool->dirty_tail->dirty_next = shard;
    }
    pool->dirty_tail = shard;
}

static struct torc_shard *dirty_pop(struct torc_shard_pool *pool)
{
    struct torc_shard *shard = pool->dirty_head;

    pool->dirty_head = shard->dirty_next;
    if (pool->dirty_head == NULL) {
        pool->dirty_tail = NULL;
    }
    shard->dirty = false;
    return shard;
}

void torc_shard_dirty_remove(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t dirty_count = 0;

    for (const struct torc_shard *at = pool->dirty_head; at != NULL; at = at->dirty_next) {
        dirty_count++;
    }
    for (uint32_t i = 0; i < dirty_count; i++) {
        struct torc_shard *dirty = dirty_pop(pool);

        if (dirty != shard) {
            torc_shard_dirty_push(dirty);
        }
    }
}

// On the path of each write: not worth a call.
static inline __attribute__((always_inline)) void slot_record(const struct torc_shard *shard,
                                                              const struct torc_shard_slot *slot,
                                                              struct torc_log_record *record)
{
    const struct torc_shard_write *write = &slot->write;

    *record = (struct torc_log_record){.kind = slot->kind,
                                       .with_client = slot->with_client,
                                       .shard = shard->shard,
                                       .epoch = slot->epoch,
                                       .turn = shard->turn,
                                       .lsn = slot->lsn,
                                       .hlc = slot->hlc,
                                       .principal = write->principal,
                                       .value_bytes = write->value_bytes,
                                       .client = write->client,
                                       .seq = write->seq,
                                       .low = write->low,
                                       .key = write->key,
                                       .value = write->value,
                                       .piece_bytes = write->value_bytes,
                                       .commit_lsn = shard->follows ? shard->applied_lsn : 0};
}

void torc_shard_slot_record(const struct torc_shard *shard, const struct torc_shard_slot *slot,
                            struct torc_log_record *record)
{
    slot_record(shard, slot, record);
}

static inline __attribute__((always_inline)) void pending_link(struct torc_shard *shard,
                                                               uint32_t index,
                                                               struct torc_log_record *record)
{
    struct torc_shard_pool *pool = shard->pool;
    struct torc_shard_slot *slot = &pool->slots[index];

    torc_assert(!shard->unlogged);
    slot->state = TORC_SHARD_SLOT_PENDING;
    slot->first_sequence = UINT64_MAX;
    slot->last_sequence = UINT64_MAX;
    slot->next = NONE;
    shard->next_lsn += slot->kind != TORC_LOG_MOVED;
    shard->last_hlc = slot->hlc;
    shard->last_epoch = slot->kind == TORC_LOG_MOVED ? shard->last_epoch : slot->epoch;
    pool->hlc = torc_max_u64(pool->hlc, slot->hlc);
    if (shard->pending_tail == NONE) {
        shard->pending_head = index;
    } else {
        pool->slots[shard->pending_tail].next = index;
    }
    shard->pending_tail = index;
    shard->pending_count++;
    pool->pending_count++;
    pool->taken_count += slot->taken ? 1 : 0;
    shard->unlogged = true;
    shard->unlogged_slot = index;
    if (!shard->dirty && !shard->shared) {
        torc_shard_dirty_push(shard);
    }
    slot_record(shard, slot, record);
}

void torc_shard_pending_link(struct torc_shard *shard, uint32_t index,
                             struct torc_log_record *record)
{
    pending_link(shard, index, record);
}

// Makes the slot the shard's next record: LSN, HLC (H1), its place in the order of commits.
static void pending_add(struct torc_shard *shard, uint32_t index, enum torc_log_kind kind,
                        struct torc_log_record *record)
{
    struct torc_shard_pool *pool = shard->pool;
    struct torc_shard_slot *slot = &pool->slots[index];

    slot->kind = kind;
    slot->epoch = shard->epoch;
    slot->elsewhere = false;
    slot->with_client = torc_shard_kind_is_write(kind);
    slot->taken = !slot->with_client && shard->shared;
    slot->lsn = shard->next_lsn;
    // MOVED takes no LSN, and no time: the record behind it may be another replica's.
    slot->hlc = kind == TORC_LOG_MOVED
                    ? shard->last_hlc
                    : torc_hlc_next(torc_max_u64(pool->hlc, shard->last_hlc), pool->wall_us);
    pending_link(shard, index, record);
}

void torc_shard_pending_own(struct torc_shard *shard, enum torc_log_kind kind,
                            struct torc_log_record *record)
{
    struct torc_shard_write none = {.remove = true};
    uint32_t index;

    torc_assert(torc_shard_pool_has_any(shard->pool));
    index = torc_shard_slot_take(shard->pool);
    torc_shard_slot_fill(&shard->pool->slots[index], shard, &none);
    torc_shard_slot_own(shard->pool, index);
    pending_add(shard, index, kind, record);
}

void torc_shard_pending_enter(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];

    slot->group = torc_shard_group_need(pool, slot->write.key);
    pool->groups[slot->group].pending_count++;
    torc_shard_client_link(pool, index);
}

static inline __attribute__((always_inline)) void pending_leave(struct torc_shard_pool *pool,
                                                                uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];

    torc_shard_client_unlink(pool, index);
    pool->groups[slot->group].pending_count--;
    if (pool->groups[slot->group].waiting_head == NONE) {
        torc_shard_group_leave(pool, slot->group);
    } else if (slot->shard->state != TORC_SHARD_FOLLOWING || !TORC_BUG(WAITING_NOT_CHECKED)) {
        torc_shard_group_wake(pool, slot->write.key);
    }
}

void torc_shard_pending_leave(struct torc_shard_pool *pool, uint32_t index)
{
    pending_leave(pool, index);
}

void torc_shard_appended(struct torc_shard *shard, uint64_t first_sequence, uint64_t last_sequence)
{
    struct torc_shard_slot *slot;

    torc_assert(shard->unlogged);
    torc_assert(first_sequence <= last_sequence);
    if (shard->unlogged_slot == NONE) { // BEGUN, and what torc_shard_note made
        // What follows in that block goes on with its entry, and says no more than that one.
        shard->said_sequence = last_sequence;
        shard->unlogged = false;
        return;
    }
    slot = &shard->pool->slots[shard->unlogged_slot];
    shard->pool->appended_count++;
    shard->logged_lsn =
        shard->relogging ? shard->next_lsn - 1 : slot->lsn - (slot->kind == TORC_LOG_MOVED ? 1 : 0);
    if (first_sequence > shard->said_sequence) { // an entry of its own
        torc_shard_said(shard);
    }
    shard->said_sequence = last_sequence;
    slot->first_sequence = first_sequence;
    slot->last_sequence = last_sequence;
    if (shard->relogging) {
        shard->relogging = false;
        shard->relog_sequence = last_sequence;
    }
    shard->unlogged = false;
    if (shard->shared) {
        torc_shard_mark_add(shard, slot);
    }
}

uint64_t torc_shard_start_sequence(const struct torc_shard *shard, uint64_t durable)
{
    uint64_t start = durable + 1;

    torc_assert(!shard->unlogged);
    if (shard->pending_head != NONE) {
        start = torc_min_u64(start, shard->pool->slots[shard->pending_head].first_sequence);
    }
    return start;
}

// -- Evaluating ---------------------------------------------------------------------------------

static struct torc_completion_client write_who(const struct torc_shard_write *write)
{
    return (struct torc_completion_client){.client = write->client, .principal = write->principal};
}

static void outcome_set(struct torc_shard_outcome *outcome, enum torc_err err, uint64_t info)
{
    outcome->err = err;
    outcome->info = info;
}

// The present record beside CONDITION_FAILED, if it is the one that was met.
static void outcome_add_current(const struct torc_shard *shard,
                                const struct torc_shard_write *write,
                                struct torc_shard_outcome *outcome)
{
    struct torc_tree_hit hit;

    if (outcome->err == TORC_ERR_CONDITION_FAILED && write->want_current &&
        torc_tree_lookup(&shard->tree, write->key, &hit) && hit.version == outcome->info) {
        outcome->value = hit.value;
        outcome->value_bytes = hit.value_bytes;
        outcome->has_value = true;
    }
}

// E4: too old to be told from a duplicate, or from the future.
static bool write_check_stamp(const struct torc_shard_pool *pool,
                              const struct torc_shard_write *write,
                              struct torc_shard_outcome *outcome)
{
    uint64_t now_us =
        TORC_BUG(TTL_BY_WALL) ? pool->wall_us : torc_hlc_us(torc_shard_pool_now(pool));
    uint64_t stamp_us = torc_hlc_us(write->stamp);

    if (now_us > stamp_us && now_us - stamp_us > pool->ttl_us / 2 && !TORC_BUG(STAMP_UNCHECKED)) {
        outcome_set(outcome, TORC_ERR_EXPIRED, 0);
        return false;
    }
    if (stamp_us > now_us && stamp_us - now_us > TORC_SHARD_MAX_AHEAD_US &&
        !TORC_BUG(STAMP_UNCHECKED)) {
        outcome_set(outcome, TORC_ERR_CLOCK_AHEAD, torc_hlc_from_us(pool->wall_us));
        return false;
    }
    return true;
}

// E2, E3, E4, and whether it may be done at all. False: `outcome` has the answer.
static bool write_check_identity(struct torc_shard *shard, const struct torc_shard_write *write,
                                 struct torc_shard_outcome *outcome)
{
    struct torc_completion_result result;

    if (write->epoch != shard->epoch && !TORC_BUG(FAILED_NOT_REMEMBERED)) {
        outcome_set(outcome, TORC_ERR_WRONG_SHARD, shard->epoch);
        return false;
    }
    if (shard->state == TORC_SHARD_FOLLOWING) {
        outcome_set(outcome, TORC_ERR_WRONG_SHARD, shard->epoch);
        return false;
    }
    if (shard->state != TORC_SHARD_ACTIVE) {
        outcome_set(outcome, TORC_ERR_TAKING_OVER, TORC_SHARD_RETRY_US);
        return false;
    }
    switch (torc_completion_find(&shard->completions, write_who(write), write->seq, &result)) {
    case TORC_COMPLETION_UNKNOWN: break;
    case TORC_COMPLETION_DONE:
        if (TORC_BUG(DUPLICATE_RUNS)) {
            break;
        }
        outcome_set(outcome, result.err, result.info);
        outcome_add_current(shard, write, outcome);
        return false;
    case TORC_COMPLETION_OLD: outcome_set(outcome, TORC_ERR_SEQ_OLD, 0); return false;
    }
    if (torc_shard_client_find(shard, write)) {
        outcome_set(outcome, TORC_ERR_PENDING, TORC_SHARD_RETRY_US);
        return false;
    }
    if (write->seq - write->low >= TORC_SHARD_WINDOW_MAX) {
        outcome_set(outcome, TORC_ERR_LIMIT, TORC_SHARD_WINDOW_MAX);
        return false;
    }
    torc_completion_seen(&shard->completions, write_who(write), write->low);
    if (!write_check_stamp(shard->pool, write, outcome)) {
        return false;
    }
    // After all that: it was not done, nor will an earlier attempt be (docs/decisions/0017).
    if (write->forbidden) {
        outcome_set(outcome, TORC_ERR_FORBIDDEN, 0);
        return false;
    }
    return true;
}

// Whether it must wait for others on its key. `woken`: it has its turn.
static bool write_must_wait(const struct torc_shard *shard, const struct torc_shard_write *write,
                            bool woken)
{
    uint32_t index = torc_shard_group_find(shard->pool, write->key);
    const struct torc_shard_group *group = &shard->pool->groups[index];

    if (index == NONE) {
        return false;
    }
    return (group->waiting_head != NONE && !woken) ||
           (group->pending_count > 0 && !torc_shard_write_is_blind(write));
}

static bool condition_holds(const struct torc_shard_write *write, const struct torc_tree_hit *hit)
{
    uint64_t version = hit->found ? hit->version : 0;

    switch (write->condition) {
    case TORC_SHARD_ANY: return true;
    case TORC_SHARD_IF_ABSENT: return !hit->found;
    case TORC_SHARD_IF_PRESENT: return hit->found;
    case TORC_SHARD_IF_VERSION: return version == write->if_version;
    }
    torc_unreachable("a condition was added");
}

// A bug on purpose.
static bool write_forgets(enum torc_err failure)
{
    bool is_missing = failure == TORC_ERR_NOT_FOUND;

    return (is_missing && TORC_BUG(DELETE_NOT_REMEMBERED)) ||
           (!is_missing && TORC_BUG(FAILED_NOT_REMEMBERED));
}

// A4: against the tree, with nothing pending on the key. False: it fails, which is remembered (E5).
static bool write_check_condition(struct torc_shard *shard, const struct torc_shard_write *write,
                                  struct torc_shard_outcome *outcome)
{
    struct torc_completion_result result = {.seq = write->seq};
    struct torc_tree_hit hit;

    if (torc_shard_write_is_blind(write)) {
        return true;
    }
    (void)torc_tree_lookup(&shard->tree, write->key, &hit); // hit.found says it
    if (write->remove && !hit.found) {
        result.err = TORC_ERR_NOT_FOUND;
    } else if (!condition_holds(write, &hit)) {
        result.err = TORC_ERR_CONDITION_FAILED;
        result.info = hit.found ? hit.version : 0;
    } else {
        return true;
    }
    if (!write_forgets(result.err) &&
        !torc_completion_fail(&shard->completions, write_who(write), write->low, &result,
                              torc_shard_pool_now(shard->pool))) {
        outcome_set(outcome, TORC_ERR_BUSY, TORC_SHARD_RETRY_US);
        return false;
    }
    outcome_set(outcome, result.err, result.info);
    outcome_add_current(shard, write, outcome);
    return false;
}

// Takes all memory that the write will need until it is applied. False: `outcome` says why not.
static bool write_reserve(struct torc_shard *shard, struct torc_shard_write *write,
                          struct torc_completion_promise *promise,
                          struct torc_shard_outcome *outcome)
{
    if (write->log_err != TORC_ERR_OK) {
        outcome_set(outcome, write->log_err, write->log_info);
        return false;
    }
    if (!torc_shard_pool_has_slot(shard->pool) ||
        (shard->follows && torc_shard_looks_first(shard, write->value_bytes)) ||
        !torc_completion_reserve(&shard->completions, write_who(write), write->seq == write->low,
                                 torc_shard_pool_now(shard->pool), promise)) {
        outcome_set(outcome, TORC_ERR_BUSY, TORC_SHARD_RETRY_US);
        return false;
    }
    if (!write->remove && write->ticket.nodes == 0 &&
        torc_shard_reserve(shard, write) != TORC_ERR_OK) {
        torc_completion_cancel(&shard->completions, promise);
        outcome_set(outcome, TORC_ERR_NO_SPACE,
                    TORC_SHARD_REASON_MEMORY | (uint64_t)TORC_SHARD_RETRY_FULL_US
                                                   << TORC_SHARD_REASON_BITS);
        return false;
    }
    return true;
}

enum torc_shard_verdict torc_shard_write(struct torc_shard *shard, struct torc_shard_write *write,
                                         struct torc_log_record *record,
                                         struct torc_shard_outcome *outcome)
{
    struct torc_shard_pool *pool = shard->pool;
    struct torc_completion_promise promise = {0};
    struct torc_shard_slot *slot;
    uint32_t index;
    bool woken = pool->woken_given != NONE && write == &pool->slots[pool->woken_given].write;

    torc_assert(!shard->unlogged);
    torc_assert(torc_shard_has(shard, write->key));
    torc_assert(write->low <= write->seq);
    *outcome = (struct torc_shard_outcome){.tag = write->tag, .attempt = write->attempt};
    if (shard->state == TORC_SHARD_OPENING && write->epoch == shard->epoch && write->tag == 0 &&
        TORC_BUG(CANDIDATE_KEEPS)) {
        return torc_shard_wait(shard, write, woken, outcome);
    }
    if (!(woken && TORC_BUG(WAITING_NOT_CHECKED)) && !write_check_identity(shard, write, outcome)) {
        return TORC_SHARD_ANSWER;
    }
    if (write_must_wait(shard, write, woken)) {
        return torc_shard_wait(shard, write, woken, outcome);
    }
    if (!write_check_condition(shard, write, outcome) ||
        !write_reserve(shard, write, &promise, outcome)) {
        return TORC_SHARD_ANSWER;
    }
    index = torc_shard_slot_take(pool);
    slot = &pool->slots[index];
    torc_shard_slot_fill(slot, shard, write);
    slot->promise = promise;
    torc_shard_pending_enter(pool, index);
    pending_add(shard, index, slot->write.remove ? TORC_LOG_DELETE : TORC_LOG_PUT, record);
    return TORC_SHARD_APPEND;
}

bool torc_shard_idle(struct torc_shard *shard, struct torc_log_record *record)
{
    struct torc_shard_pool *pool = shard->pool;
    uint64_t now_us = torc_hlc_us(torc_shard_pool_now(pool));
    uint64_t oldest_us = torc_hlc_us(torc_completion_oldest_hlc(&shard->completions));

    if (shard->state != TORC_SHARD_ACTIVE || shard->pending_count > 0 ||
        !torc_shard_pool_has_any(pool) || shard->completions.client_count == 0 ||
        now_us < oldest_us || now_us - oldest_us <= pool->ttl_us ||
        (shard->follows && torc_shard_looks_first(shard, 0))) {
        return false;
    }
    torc_shard_pending_own(shard, TORC_LOG_EMPTY, record);
    return true;
}

// -- Committing ---------------------------------------------------------------------------------

bool torc_shard_tidy(struct torc_shard *shard)
{
    uint64_t us = torc_hlc_us(shard->applied_hlc);
    bool more = shard->completions.own_at != TORC_COMPLETION_NONE &&
                torc_completion_own_more(&shard->completions, OWN_MAX);

    return (us > shard->pool->ttl_us &&
            torc_completion_expire(&shard->completions, torc_hlc_from_us(us - shard->pool->ttl_us),
                                   EXPIRE_MAX)) ||
           more;
}

// The tree may be of later moments than the log (storage/checkpoint_format.h): leaves only what it
// does not have yet.
static uint32_t pending_filter(struct torc_shard *shard, struct torc_tree_write *writes,
                               uint32_t count)
{
    struct torc_tree_hit hits[TORC_SHARD_BATCH];
    uint64_t keys[TORC_SHARD_BATCH];
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        keys[i] = writes[i].key;
    }
    torc_tree_lookup_batch(&shard->tree, keys, count, hits);
    for (uint32_t i = 0; i < count; i++) {
        if (!hits[i].found || writes[i].version > hits[i].version) {
            writes[kept++] = writes[i];
        } else {
            torc_tree_cancel(&shard->tree, &writes[i].ticket);
        }
    }
    return kept;
}

// Puts the values of the first `count` pending writes into the tree.
static void pending_apply(struct torc_shard *shard, uint32_t count)
{
    struct torc_tree_write writes[TORC_SHARD_BATCH];
    struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->pending_head;
    uint32_t write_count = 0;

    for (uint32_t i = 0; i < count; i++, index = pool->slots[index].next) {
        struct torc_shard_slot *slot = &pool->slots[index];

        if (torc_shard_kind_is_write(slot->kind)) {
            writes[write_count++] = (struct torc_tree_write){.key = slot->write.key,
                                                             .version = slot->hlc,
                                                             .value = slot->write.value,
                                                             .value_bytes = slot->write.value_bytes,
                                                             .remove = slot->write.remove,
                                                             .ticket = slot->write.ticket};
            slot->write.ticket = (struct torc_tree_ticket){0};
        }
    }
    if (write_count > 0 && shard->applied_lsn < shard->fuzzy_lsn) {
        write_count = pending_filter(shard, writes, write_count);
    }
    if (write_count > 0) {
        uint32_t failed = torc_tree_write_batch(&shard->tree, writes, write_count);

        torc_assert(failed == 0); // each had its ticket
    }
}

// H7: history begins with the first HLC of this life, for what an earlier one answered at a later
// timestamp than its log's last is not known. Nor does it begin within one that ended here: the
// undo window has entries of that one still, which may be of writes that were lost since (U1).
void torc_shard_remember(struct torc_shard *shard)
{
    struct torc_undo *undo = &shard->pool->undo;

    shard->undo_floor = torc_max_u64(shard->applied_hlc, shard->pool->undo_ended);
    if (torc_undo_is_on(undo)) {
        torc_undo_attach(undo, shard->tree.heap, shard->tree.code);
        shard->tree.undo = undo;
    }
}

void torc_shard_forget(struct torc_shard *shard)
{
    if (shard->undo_floor != UINT64_MAX) {
        shard->pool->undo_ended = torc_max_u64(shard->pool->undo_ended, shard->applied_hlc);
        shard->undo_floor = UINT64_MAX;
    }
}

// What the completion table learns of the record that was just applied.
static void pending_complete(struct torc_shard *shard, struct torc_shard_slot *slot)
{
    struct torc_completion_head head = {
        .who = write_who(&slot->write), .low = slot->write.low, .last_hlc = slot->hlc};
    bool fits;

    if (torc_shard_kind_is_write(slot->kind)) {
        fits = torc_completion_apply(&shard->completions, &head, slot->write.seq, &slot->promise);
    } else {
        torc_completion_cancel(&shard->completions, &slot->promise);
        fits = torc_completion_load(&shard->completions, &head);
    }
    torc_assert(fits); // it was promised
}

// The first pending write is in the tree: remembers it, tells its outcome, lets others go on.
static bool pending_finish(struct torc_shard *shard, struct torc_shard_outcome *outcome)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->pending_head;
    struct torc_shard_slot *slot = &pool->slots[index];
    bool answers = torc_shard_kind_is_write(slot->kind) && !slot->taken;

    shard->pending_head = slot->next;
    shard->pending_tail = slot->next == NONE ? NONE : shard->pending_tail;
    shard->pending_count--;
    pool->pending_count--;
    pool->taken_count -= slot->taken ? 1 : 0;
    if (slot->kind != TORC_LOG_MOVED) {
        torc_assert(slot->lsn == shard->applied_lsn + 1);
        torc_assert(slot->hlc > shard->applied_hlc);
        shard->applied_lsn = slot->lsn;
        shard->applied_hlc = slot->hlc;
        shard->applied_epoch = slot->epoch;
    }
    shard->applied_sequence = slot->last_sequence;
    shard->applied_count++;
    if (slot->with_client) {
        pending_complete(shard, slot);
    }
    if (answers) {
        *outcome = (struct torc_shard_outcome){
            .tag = slot->write.tag, .info = slot->hlc, .attempt = slot->write.attempt};
    }
    if (torc_shard_kind_is_write(slot->kind)) {
        pending_leave(pool, index);
    }
    if (slot->kind == TORC_LOG_EPOCH && !shard->shared && shard->state == TORC_SHARD_OPENING) {
        shard->state = TORC_SHARD_ACTIVE;
        torc_shard_remember(shard);
    }
    torc_shard_slot_give(pool, index);
    return answers;
}

// Large values that the core's trees have, as asked for; the undo window's are not counted.
static uint64_t large_bytes(const struct torc_shard *shard)
{
    return shard->tree.heap->user_bytes - shard->pool->undo.large_bytes;
}

uint32_t torc_shard_pending_commit(struct torc_shard *shard, uint32_t count,
                                   struct torc_shard_outcome *outcomes)
{
    uint64_t before_bytes = large_bytes(shard);
    uint32_t given = 0;

    torc_assert(count <= TORC_SHARD_BATCH);
    pending_apply(shard, count);
    if (shard->follows) {
        uint64_t gone_bytes = before_bytes - torc_min_u64(before_bytes, large_bytes(shard));

        shard->unsaid_count += count;
        shard->unsaid_bytes += gone_bytes;
        shard->pool->unsaid_count += count;
        shard->pool->unsaid_bytes += gone_bytes;
    }
    for (uint32_t i = 0; i < count; i++) {
        given += pending_finish(shard, &outcomes[given]) ? 1 : 0;
    }
    (void)torc_shard_tidy(shard); // who is left goes with the next
    return given;
}

// How many of the shard's first pending writes may be committed now.
static uint32_t pending_durable(const struct torc_shard *shard, uint64_t durable_sequence,
                                uint32_t count_max)
{
    const struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->pending_head;
    uint32_t count = 0;

    while (count < count_max && index != NONE &&
           pool->slots[index].last_sequence <= durable_sequence &&
           !(shard->unlogged && index == shard->pending_tail)) {
        index = pool->slots[index].next;
        count++;
    }
    return count;
}

static uint32_t shard_commit(struct torc_shard *shard, uint64_t durable_sequence,
                             struct torc_shard_outcome *outcomes, uint32_t outcome_max)
{
    uint32_t given = 0;

    while (given < outcome_max) {
        uint32_t room = outcome_max - given;
        uint32_t count = pending_durable(shard, durable_sequence,
                                         room < TORC_SHARD_BATCH ? room : TORC_SHARD_BATCH);

        if (count == 0) {
            break;
        }
        given += torc_shard_pending_commit(shard, count, outcomes + given);
    }
    return given;
}

uint32_t torc_shard_commit(struct torc_shard_pool *pool, uint64_t durable_sequence,
                           struct torc_shard_outcome *outcomes, uint32_t outcome_max)
{
    struct torc_shard *last = pool->dirty_tail;
    uint32_t given = 0;

    while (pool->dirty_head != NULL && given < outcome_max) {
        struct torc_shard *shard = dirty_pop(pool);

        given += shard_commit(shard, durable_sequence, outcomes + given, outcome_max - given);
        if (shard->pending_count > 0) {
            torc_shard_dirty_push(shard);
        }
        if (shard == last) {
            break;
        }
    }
    return given;
}

// -- Life ---------------------------------------------------------------------------------------

enum torc_err torc_shard_init(struct torc_shard *shard, struct torc_shard_pool *pool,
                              const struct torc_shard_config *config, struct torc_fail *why)
{
    torc_assert(config->lo < config->hi);
    *shard = (struct torc_shard){.pool = pool,
                                 .lo = config->lo,
                                 .hi = config->hi,
                                 .shard = config->shard,
                                 .epoch = config->epoch,
                                 .turn = config->turn,
                                 .state = TORC_SHARD_LOADING,
                                 .moved = config->moved,
                                 .anew = config->anew,
                                 .epoch_wanted = true,
                                 .follows = config->follows,
                                 .next_lsn = 1,
                                 .undo_floor = UINT64_MAX,
                                 .pending_head = NONE,
                                 .pending_tail = NONE,
                                 .relog_slot = NONE,
                                 .staged_head = NONE,
                                 .staged_tail = NONE};
    torc_completion_init(&shard->completions, &pool->completions, config->shard, !config->follows);
    if (config->follows) { // now, lest its own has more than its part before others come
        torc_completion_keep(&pool->completions);
    }
    return torc_tree_init(&shard->tree, config->code, config->chunks, config->heap, why);
}

// A turn of its own, so that a checkpoint says on which side of it it was made. Nothing waits for
// it: what follows lies behind it in the log.
static void begin_anew(struct torc_shard *shard, struct torc_log_record *record)
{
    torc_assert(shard->pending_count == 0);
    torc_assert(shard->relog_slot == NONE);
    shard->turn++;
    shard->anew = false;
    shard->moved = false;
    shard->unlogged = true;
    shard->unlogged_slot = NONE;
    *record = (struct torc_log_record){.kind = TORC_LOG_BEGUN,
                                       .shard = shard->shard,
                                       .epoch = shard->last_epoch,
                                       .turn = shard->turn,
                                       .lsn = shard->next_lsn,
                                       .hlc = shard->last_hlc};
}

bool torc_shard_begin(struct torc_shard *shard, struct torc_log_record *record)
{
    torc_assert(!shard->unlogged);
    torc_assert(!shard->replaying); // its next LSN is not known before
    if (shard->state == TORC_SHARD_LOADING) {
        shard->state = TORC_SHARD_OPENING;
    }
    if (shard->anew) {
        begin_anew(shard, record);
        return true;
    }
    if (!shard->moved && shard->relog_slot != NONE) {
        torc_shard_begin_again(shard, record);
        return true;
    }
    if (!shard->moved && !shard->epoch_wanted) {
        return false;
    }
    if (shard->moved) {
        shard->moved = false;
        torc_shard_pending_own(shard, TORC_LOG_MOVED, record);
    } else {
        shard->epoch_wanted = false;
        shard->epoch_lsn = shard->next_lsn;
        torc_shard_pending_own(shard, TORC_LOG_EPOCH, record);
    }
    return true;
}

void torc_shard_slot_drop(struct torc_shard *shard, uint32_t index)
{
    struct torc_shard_slot *slot = &shard->pool->slots[index];

    torc_completion_cancel(&shard->completions, &slot->promise);
    torc_tree_cancel(&shard->tree, &slot->write.ticket);
    torc_shard_slot_give(shard->pool, index);
}

void torc_shard_drop_pending(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;

    while (shard->pending_head != NONE) {
        uint32_t index = shard->pending_head;
        struct torc_shard_slot *slot = &pool->slots[index];

        shard->pending_head = slot->next;
        pool->pending_count--;
        pool->taken_count -= slot->taken ? 1 : 0;
        if (slot->group != NONE) {
            torc_shard_pending_leave(pool, index);
        }
        torc_shard_slot_drop(shard, index);
    }
    shard->pending_tail = NONE;
    shard->pending_count = 0;
}

void torc_shard_drop(struct torc_shard *shard)
{
    torc_shard_drop_waiting(shard);
    torc_shard_unstage(shard);
    torc_shard_drop_pending(shard);
    torc_shard_dirty_remove(shard);
    torc_shard_mark_drop(shard);
    torc_completion_drop(&shard->completions);
    torc_shard_forget(shard);
    torc_tree_drop(&shard->tree);
    torc_shard_said(shard);
    *shard = (struct torc_shard){0};
}
