// Torc storage: a shard that other nodes hold too. Following a primary, giving back what it never
// committed, leading, and what lies on the disk. See storage/shard.h.
#include "kit/bugs.h"
#include "storage/shard_impl.h"

#define NONE TORC_SHARD_NONE

// -- What is on the disk --------------------------------------------------------------------------

static void marked_push(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;

    shard->is_marked = true;
    shard->marked_next = NULL;
    if (pool->marked_tail == NULL) {
        pool->marked_head = shard;
    } else {
        pool->marked_tail->marked_next = shard;
    }
    pool->marked_tail = shard;
    pool->marked_count++;
}

static struct torc_shard *marked_pop(struct torc_shard_pool *pool)
{
    struct torc_shard *shard = pool->marked_head;

    pool->marked_head = shard->marked_next;
    if (pool->marked_head == NULL) {
        pool->marked_tail = NULL;
    }
    shard->is_marked = false;
    pool->marked_count--;
    return shard;
}

// A mark more than there is room for joins the last one: then the disk is known to have both when
// it has the later.
void torc_shard_mark_add(struct torc_shard *shard, const struct torc_shard_slot *slot)
{
    struct torc_shard_mark *last =
        shard->mark_count == 0 ? NULL : &shard->marks[shard->mark_count - 1];

    if (slot->kind == TORC_LOG_MOVED || slot->lsn <= shard->durable_lsn) {
        return;
    }
    if (last == NULL ||
        (last->sequence < slot->last_sequence && shard->mark_count < TORC_SHARD_MARKS)) {
        last = &shard->marks[shard->mark_count++];
    }
    *last = (struct torc_shard_mark){
        .sequence = slot->last_sequence, .lsn = slot->lsn, .epoch = slot->epoch};
    if (!shard->is_marked) {
        marked_push(shard);
    }
}

void torc_shard_mark_drop(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t count = shard->is_marked ? pool->marked_count : 0;

    for (uint32_t i = 0; i < count; i++) {
        struct torc_shard *marked = marked_pop(pool);

        if (marked != shard) {
            marked_push(marked);
        }
    }
    shard->mark_count = 0;
}

// The marks of records that are not cut stay. `epoch`: of the record at `lsn`.
static void marks_cut(struct torc_shard *shard, uint64_t lsn, uint32_t epoch)
{
    while (shard->mark_count > 0 && shard->marks[shard->mark_count - 1].lsn > lsn) {
        uint32_t last = shard->mark_count - 1;
        uint64_t before_lsn = last == 0 ? shard->durable_lsn : shard->marks[last - 1].lsn;

        if (before_lsn < lsn) { // its block has records that stay
            shard->marks[last].lsn = lsn;
            shard->marks[last].epoch = epoch;
            break;
        }
        shard->mark_count = last;
    }
    if (shard->durable_lsn > lsn) {
        shard->durable_lsn = lsn;
        shard->durable_epoch = epoch;
    }
}

static bool marks_take(struct torc_shard *shard, uint64_t durable_sequence)
{
    uint64_t before_lsn = shard->durable_lsn;
    uint32_t count = 0;

    while (count < shard->mark_count && shard->marks[count].sequence <= durable_sequence) {
        shard->durable_lsn = shard->marks[count].lsn;
        shard->durable_epoch = shard->marks[count].epoch;
        count++;
    }
    shard->mark_count -= count;
    for (uint32_t i = 0; i < shard->mark_count; i++) {
        shard->marks[i] = shard->marks[i + count];
    }
    return shard->durable_lsn > before_lsn;
}

struct torc_shard *torc_shard_durable(struct torc_shard_pool *pool, uint64_t durable_sequence)
{
    if (durable_sequence > pool->marked_sequence) {
        pool->marked_sequence = durable_sequence;
        pool->marked_left = pool->marked_count;
    }
    while (pool->marked_left > 0 && pool->marked_head != NULL) {
        struct torc_shard *shard = marked_pop(pool);
        bool rose = marks_take(shard, durable_sequence);

        pool->marked_left--;
        if (shard->mark_count > 0) {
            marked_push(shard);
        }
        if (rose) {
            return shard;
        }
    }
    return NULL;
}

// -- Another stream ------------------------------------------------------------------------------

void torc_shard_relog_from(struct torc_shard *shard, uint32_t index)
{
    const struct torc_shard_slot *slots = shard->pool->slots;

    while (index != NONE && !slots[index].elsewhere) {
        index = slots[index].next;
    }
    shard->relog_slot = index;
}

// What replay held of another stream is logged in this one too.
void torc_shard_begin_again(struct torc_shard *shard, struct torc_log_record *record)
{
    struct torc_shard_slot *slot = &shard->pool->slots[shard->relog_slot];

    torc_assert(slot->state == TORC_SHARD_SLOT_PENDING);
    torc_assert(slot->elsewhere);
    slot->elsewhere = false;
    torc_shard_slot_record(shard, slot, record);
    shard->unlogged = true;
    shard->unlogged_slot = shard->relog_slot;
    shard->relogging = true;
    torc_shard_relog_from(shard, slot->next);
}

uint32_t torc_shard_begin_bytes(const struct torc_shard *shard)
{
    return shard->moved || shard->anew || shard->relog_slot == NONE
               ? 0
               : shard->pool->slots[shard->relog_slot].write.value_bytes;
}

// -- What the log says of commits -----------------------------------------------------------------

void torc_shard_said(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;

    torc_assert(pool->unsaid_count >= shard->unsaid_count);
    torc_assert(pool->unsaid_bytes >= shard->unsaid_bytes);
    pool->unsaid_count -= shard->unsaid_count;
    pool->unsaid_bytes -= shard->unsaid_bytes;
    shard->unsaid_count = 0;
    shard->unsaid_bytes = 0;
    shard->said_lsn = shard->applied_lsn;
}

// Whether a replay of the log would find too little for what it would hold beside all that is here:
// a promise for each record that is applied and not said to be, and what these replaced. The undo
// window gives way, here and there. A value's block may take an eighth more than asked for.
static bool memory_is_short(const struct torc_shard *shard, uint32_t value_bytes)
{
    const struct torc_shard_pool *pool = shard->pool;
    const struct torc_heap *heap = shard->tree.heap;
    uint64_t more = pool->unsaid_bytes + value_bytes;

    if (pool->unsaid_count == 0) {
        return false; // it is what is here
    }
    return (value_bytes > TORC_TREE_INLINE_BYTES_MAX &&
            heap->used_bytes - pool->undo.large_bytes + more + more / 8 > heap->limit_bytes) ||
           !torc_tree_has_nodes(&shard->tree, 1 + pool->unsaid_count);
}

bool torc_shard_looks_first(struct torc_shard *shard, uint32_t value_bytes)
{
    struct torc_shard_pool *pool = shard->pool;

    if (pool->replay_max == 0) {
        return false;
    }
    if (memory_is_short(shard, value_bytes)) {
        pool->look_all = true;
        return true;
    }
    // The first record of which a shard's log says nothing has a slot of its own, in replay too.
    if (pool->appended_count + pool->staged_count < pool->append_max ||
        torc_shard_unsaid(shard) + shard->staged_count == 0) {
        return false;
    }
    pool->look_all = pool->look_all || pool->append_max < pool->write_max;
    return true;
}

uint64_t torc_shard_look(const struct torc_shard_pool *pool, uint64_t unsaid, uint32_t shard_count)
{
    if (pool->look_all) {
        return 1;
    }
    return unsaid <= pool->write_max ? 0 : 1 + pool->write_max / 2 / (shard_count + 1);
}

void torc_shard_looked(struct torc_shard_pool *pool, uint64_t unsaid)
{
    uint64_t slots = (uint64_t)pool->write_max + pool->replay_max;

    pool->appended_count = 0;
    pool->look_all = false;
    pool->append_max = (uint32_t)torc_min_u64(pool->write_max, slots - torc_min_u64(unsaid, slots));
}

bool torc_shard_note(struct torc_shard *shard, uint64_t lag_min, struct torc_log_record *record)
{
    torc_assert(!shard->unlogged);
    torc_assert(lag_min > 0);
    if (shard->replaying || shard->moved || shard->anew || shard->relog_slot != NONE ||
        torc_min_u64(shard->applied_lsn, shard->logged_lsn) < shard->said_lsn + lag_min) {
        return false;
    }
    shard->unlogged = true;
    shard->unlogged_slot = NONE;
    torc_shard_said(shard);
    *record = (struct torc_log_record){.kind = TORC_LOG_MOVED,
                                       .shard = shard->shard,
                                       .epoch = shard->last_epoch,
                                       .turn = shard->turn,
                                       .lsn = shard->next_lsn,
                                       .hlc = shard->last_hlc,
                                       .commit_lsn = shard->applied_lsn};
    return true;
}

// -- Roles ----------------------------------------------------------------------------------------

void torc_shard_share(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;

    torc_assert(!shard->unlogged);
    if (shard->shared) {
        return;
    }
    shard->shared = true;
    torc_completion_keep(&shard->pool->completions);
    torc_shard_dirty_remove(shard);
    shard->durable_lsn = shard->applied_lsn; // alone, what was not durable did not commit
    shard->durable_epoch = shard->applied_epoch;
    for (uint32_t index = shard->pending_head; index != NONE; index = pool->slots[index].next) {
        torc_shard_mark_add(shard, &pool->slots[index]);
    }
    pool->marked_left = pool->marked_count; // some may be on the disk already
}

void torc_shard_unshare(struct torc_shard *shard)
{
    torc_assert(!shard->unlogged);
    torc_assert(shard->state == TORC_SHARD_ACTIVE);
    if (!shard->shared) {
        return;
    }
    shard->shared = false;
    torc_shard_mark_drop(shard);
    if (shard->pending_count > 0) {
        torc_shard_dirty_push(shard);
    }
}

void torc_shard_pending_keep(struct torc_shard *shard, uint64_t hlc)
{
    const struct torc_shard_pool *pool = shard->pool;

    for (uint32_t index = shard->pending_head; index != NONE; index = pool->slots[index].next) {
        const struct torc_shard_slot *slot = &pool->slots[index];
        struct torc_completion_client who = {.client = slot->write.client,
                                             .principal = slot->write.principal};

        if (slot->with_client) {
            torc_completion_keep_client(&shard->completions, who, torc_max_u64(hlc, slot->hlc));
        }
    }
}

// What only a primary remembers is gone, the clients of what is pending are not.
static void failures_forget(struct torc_shard *shard)
{
    torc_completion_forget_failures(&shard->completions);
    torc_shard_pending_keep(shard, 0);
    (void)torc_completion_expire(&shard->completions, 1, UINT32_MAX);
}

// Nobody here waits for what is pending any more.
static void pending_disown(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;

    for (uint32_t index = shard->pending_head; index != NONE; index = pool->slots[index].next) {
        pool->taken_count += pool->slots[index].taken ? 0 : 1;
        pool->slots[index].taken = true;
    }
}

// Whether what the shard remembers, and what it promised, is of this core's clients.
static void completions_own(struct torc_shard *shard, bool owns)
{
    struct torc_shard_pool *pool = shard->pool;

    torc_completion_own(&shard->completions, owns);
    for (uint32_t index = shard->pending_head; index != NONE; index = pool->slots[index].next) {
        torc_completion_own_promise(&shard->completions, &pool->slots[index].promise);
    }
}

void torc_shard_follow(struct torc_shard *shard, uint32_t epoch)
{
    torc_assert(!shard->unlogged);
    torc_assert(!shard->replaying);
    torc_assert(epoch >= shard->epoch);
    torc_shard_unstage(shard);
    torc_shard_share(shard);
    completions_own(shard, false);
    if (shard->state == TORC_SHARD_LOADING) {
        torc_shard_remember(shard); // backups keep the undo window too (H7)
    } else if (shard->state != TORC_SHARD_FOLLOWING) {
        if (!TORC_BUG(WAITING_NOT_CHECKED)) {
            torc_shard_drop_waiting(shard);
        }
        failures_forget(shard);
    }
    pending_disown(shard);
    shard->epoch_wanted = false;
    shard->epoch = epoch;
    shard->state = TORC_SHARD_FOLLOWING;
}

void torc_shard_lead(struct torc_shard *shard, uint32_t epoch, uint64_t hlc_floor,
                     struct torc_log_record *record)
{
    torc_assert(shard->state != TORC_SHARD_LOADING);
    torc_shard_share(shard);
    torc_assert(epoch >= shard->epoch);
    torc_assert(epoch > shard->last_epoch); // A1
    torc_shard_unstage(shard);
    if (shard->state == TORC_SHARD_FOLLOWING) {
        shard->state = TORC_SHARD_OPENING;
    }
    shard->epoch = epoch;
    shard->epoch_lsn = shard->next_lsn;
    shard->pool->hlc = torc_max_u64(shard->pool->hlc, hlc_floor);
    torc_shard_pending_own(shard, TORC_LOG_EPOCH, record);
}

void torc_shard_serve(struct torc_shard *shard)
{
    torc_assert(shard->state == TORC_SHARD_OPENING);
    torc_assert(shard->applied_lsn >= shard->epoch_lsn); // T7
    if (shard->undo_floor == UINT64_MAX) {
        torc_shard_remember(shard);
    }
    completions_own(shard, true);
    shard->state = TORC_SHARD_ACTIVE;
    for (uint32_t index = shard->pool->waiting_head;
         index != NONE && (TORC_BUG(CANDIDATE_KEEPS) || TORC_BUG(WAITING_NOT_CHECKED));
         index = shard->pool->slots[index].waiting_next) {
        if (shard->pool->slots[index].shard == shard) {
            torc_shard_group_wake(shard->pool, shard->pool->slots[index].write.key);
        }
    }
}

enum torc_err torc_shard_reset(struct torc_shard *shard, uint64_t lsn, uint32_t epoch,
                               struct torc_fail *why)
{
    const struct torc_tree_code *code = shard->tree.code;
    struct torc_chunk_pool *chunks = shard->tree.chunks.pool;
    struct torc_heap *heap = shard->tree.heap;

    torc_assert(!shard->unlogged);
    shard->relog_slot = NONE;
    torc_shard_forget(shard);
    torc_shard_drop_waiting(shard);
    torc_shard_unstage(shard);
    torc_shard_drop_pending(shard);
    torc_shard_mark_drop(shard);
    torc_completion_drop(&shard->completions);
    torc_tree_drop(&shard->tree);
    shard->next_lsn = lsn + 1;
    shard->applied_lsn = lsn;
    shard->durable_lsn = lsn;
    shard->last_epoch = epoch;
    shard->applied_epoch = epoch;
    shard->durable_epoch = epoch;
    shard->last_hlc = 0;
    shard->applied_hlc = 0;
    shard->fuzzy_lsn = 0;
    shard->epoch_lsn = 0;
    shard->logged_lsn = lsn;
    torc_shard_said(shard);
    shard->anew = true;
    return torc_tree_init(&shard->tree, code, chunks, heap, why);
}

// -- Taking records -------------------------------------------------------------------------------

static enum torc_err stage_fail(const struct torc_shard *shard,
                                const struct torc_log_record *record, const char *what,
                                struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "shard %" PRIu32 ", LSN %" PRIu64 " (epoch %" PRIu32 ") of its primary: %s",
                     shard->shard, record->lsn, record->epoch, what);
}

// What must hold of a record behind the last one, whoever sent it.
static enum torc_err stage_check(const struct torc_shard *shard,
                                 const struct torc_log_record *record, struct torc_fail *why)
{
    const struct torc_shard_slot *last =
        shard->staged_tail == NONE ? NULL : &shard->pool->slots[shard->staged_tail];
    uint64_t last_hlc = last == NULL ? shard->last_hlc : last->hlc;
    uint32_t last_epoch = last == NULL ? shard->last_epoch : last->epoch;
    bool is_write = torc_shard_kind_is_write(record->kind);
    bool after_base = last_epoch == 0 && record->lsn > 1; // whose epoch was not known

    if (record->lsn != shard->next_lsn + shard->staged_count || record->shard != shard->shard) {
        return stage_fail(shard, record, "does not follow on its log", why);
    }
    if (!is_write && record->kind != TORC_LOG_EPOCH && record->kind != TORC_LOG_EMPTY) {
        return stage_fail(shard, record, "of a kind that is not sent", why);
    }
    if (record->hlc <= last_hlc) {
        return stage_fail(shard, record, "its HLC does not rise", why);
    }
    if (record->kind == TORC_LOG_EPOCH ? record->epoch <= last_epoch
                                       : record->epoch != last_epoch && !after_base) { // A1
        return stage_fail(shard, record, "its epoch does not follow on the one before it", why);
    }
    if (record->with_client && record->low > record->seq) {
        return stage_fail(shard, record, "its low is above its seq", why);
    }
    if (is_write && (!record->with_client || record->value_bytes > TORC_LOG_VALUE_BYTES_MAX ||
                     (record->kind == TORC_LOG_DELETE && record->value_bytes > 0))) {
        return stage_fail(shard, record, "no write is so", why);
    }
    if (is_write && !torc_shard_has(shard, record->key)) {
        return stage_fail(shard, record, "its key is another shard's", why);
    }
    return TORC_ERR_OK;
}

// A slot for the record behind the last one; false: there is none. The first record that is not
// committed, and an EPOCH, have their own: so what the primary waits for can always come, however
// full the slots are of others' records that wait for one another.
static bool stage_slot(struct torc_shard *shard, enum torc_log_kind kind, uint32_t *index)
{
    struct torc_shard_pool *pool = shard->pool;
    bool own = kind == TORC_LOG_EPOCH || shard->pending_count + shard->staged_count == 0;

    bool more = shard->replaying && torc_shard_pool_used(pool) < pool->write_max + pool->replay_max;

    if (!(own || more ? torc_shard_pool_has_any(pool) : torc_shard_pool_has_slot(pool))) {
        return false;
    }
    *index = torc_shard_slot_take(pool);
    if (own) {
        torc_shard_slot_own(pool, *index);
    }
    return true;
}

static void stage_link(struct torc_shard *shard, uint32_t index)
{
    struct torc_shard_pool *pool = shard->pool;

    pool->slots[index].state = TORC_SHARD_SLOT_STAGED;
    if (shard->staged_tail == NONE) {
        shard->staged_head = index;
    } else {
        pool->slots[shard->staged_tail].next = index;
    }
    shard->staged_tail = index;
    shard->staged_count++;
    pool->staged_count++;
}

// A slot with the record, and all memory that it will need. `ticket`: of its value, if it is there
// already.
static enum torc_err stage_make(struct torc_shard *shard, const struct torc_log_record *record,
                                const struct torc_tree_ticket *ticket, uint32_t *index,
                                struct torc_fail *why)
{
    struct torc_completion_client who = {.client = record->client, .principal = record->principal};
    struct torc_completion_promise promise = {0};
    struct torc_shard_write write = {.key = record->key,
                                     .client = record->client,
                                     .seq = record->seq,
                                     .low = record->low,
                                     .value = record->value,
                                     .value_bytes = record->value_bytes,
                                     .principal = record->principal,
                                     .epoch = record->epoch,
                                     .remove = record->kind != TORC_LOG_PUT,
                                     .ticket = *ticket};
    struct torc_shard_slot *slot;

    if (!shard->replaying && record->kind != TORC_LOG_EPOCH &&
        torc_shard_looks_first(shard, record->value_bytes)) {
        return torc_fail(why, TORC_ERR_BUSY,
                         "shard %" PRIu32 ": the log has to say of commits first", shard->shard);
    }
    if (record->with_client &&
        !torc_completion_reserve_logged(&shard->completions, who, record->hlc, &promise)) {
        return torc_fail(why, TORC_ERR_BUSY, "shard %" PRIu32 ": no room for a completion record",
                         shard->shard);
    }
    if (!write.remove && ticket->nodes == 0 && torc_shard_reserve(shard, &write) != TORC_ERR_OK) {
        torc_completion_cancel(&shard->completions, &promise);
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "shard %" PRIu32 ": no memory for a value of %" PRIu32 " bytes",
                         shard->shard, record->value_bytes);
    }
    if (!stage_slot(shard, record->kind, index)) {
        torc_completion_cancel(&shard->completions, &promise);
        if (ticket->nodes == 0) {
            torc_tree_cancel(&shard->tree, &write.ticket);
        }
        return torc_fail(why, TORC_ERR_BUSY, "shard %" PRIu32 ": no slot for a record",
                         shard->shard);
    }
    slot = &shard->pool->slots[*index];
    torc_shard_slot_fill(slot, shard, &write);
    slot->promise = promise;
    slot->kind = record->kind;
    slot->epoch = record->epoch;
    slot->elsewhere = false;
    slot->with_client = record->with_client;
    slot->taken = true;
    slot->lsn = record->lsn;
    slot->hlc = record->hlc;
    return TORC_ERR_OK;
}

enum torc_err torc_shard_stage(struct torc_shard *shard, const struct torc_log_record *record,
                               struct torc_fail *why)
{
    struct torc_tree_ticket none = {0};
    enum torc_err err;
    uint32_t index = NONE;

    torc_assert(shard->state == TORC_SHARD_FOLLOWING);
    torc_assert(!shard->unlogged);
    torc_assert(!shard->moved && !shard->anew); // torc_shard_begin is through
    torc_assert(shard->relog_slot == NONE);
    err = stage_check(shard, record, why);
    err = err == TORC_ERR_OK ? stage_make(shard, record, &none, &index, why) : err;
    if (err == TORC_ERR_OK) {
        stage_link(shard, index);
    }
    return err;
}

static uint32_t staged_pop(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->staged_head;

    shard->staged_head = pool->slots[index].next;
    shard->staged_tail = shard->staged_head == NONE ? NONE : shard->staged_tail;
    shard->staged_count--;
    pool->staged_count--;
    return index;
}

bool torc_shard_take(struct torc_shard *shard, struct torc_log_record *record)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t index;

    torc_assert(!shard->unlogged);
    if (shard->staged_head == NONE) {
        return false;
    }
    torc_assert(shard->state == TORC_SHARD_FOLLOWING);
    index = staged_pop(shard);
    torc_assert(pool->slots[index].lsn == shard->next_lsn); // S1
    if (torc_shard_kind_is_write(pool->slots[index].kind)) {
        torc_shard_pending_enter(pool, index);
    }
    torc_shard_pending_link(shard, index, record);
    return true;
}

// Of another stream, sequences mean nothing in the one that this life writes.
static void slot_place(const struct torc_shard *shard, struct torc_shard_slot *slot,
                       const struct torc_shard_held *held)
{
    bool here = held->record->turn == shard->turn;

    slot->elsewhere = !here;
    slot->first_sequence = here ? held->first_sequence : 0;
    slot->last_sequence = here ? held->last_sequence : 0;
}

enum torc_err torc_shard_hold(struct torc_shard *shard, const struct torc_shard_held *held,
                              struct torc_fail *why)
{
    struct torc_shard_pool *pool = shard->pool;
    struct torc_log_record record;
    uint32_t index = NONE;
    enum torc_err err = stage_make(shard, held->record, &held->ticket, &index, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(pool->slots[index].lsn == shard->next_lsn); // S1
    if (torc_shard_kind_is_write(pool->slots[index].kind)) {
        torc_shard_pending_enter(pool, index);
    }
    torc_shard_pending_link(shard, index, &record);
    slot_place(shard, &pool->slots[index], held);
    shard->unlogged = false; // it lies in the log
    return TORC_ERR_OK;
}

void torc_shard_hold_again(struct torc_shard *shard, const struct torc_shard_held *held)
{
    const struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->pending_head;

    while (index != NONE && pool->slots[index].lsn != held->record->lsn) {
        index = pool->slots[index].next;
    }
    if (index != NONE) {
        slot_place(shard, &pool->slots[index], held);
    }
}

uint32_t torc_shard_held_epoch(const struct torc_shard *shard, uint64_t lsn)
{
    const struct torc_shard_slot *slots = shard->pool->slots;
    uint32_t index = shard->pending_head;

    if (lsn == shard->applied_lsn) {
        return shard->applied_epoch;
    }
    while (index != NONE && slots[index].lsn != lsn) {
        index = slots[index].next;
    }
    return index == NONE ? 0 : slots[index].epoch;
}

void torc_shard_unstage(struct torc_shard *shard)
{
    while (shard->staged_head != NONE) {
        torc_shard_slot_drop(shard, staged_pop(shard));
    }
}

// -- Cutting and committing -----------------------------------------------------------------------

bool torc_shard_pending_cut(struct torc_shard *shard, uint64_t lsn)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t *link = &shard->pending_head;
    uint32_t last = NONE;
    uint32_t epoch = shard->applied_epoch;

    torc_assert(!shard->unlogged);
    torc_assert(shard->relog_slot == NONE);
    if (lsn < shard->applied_lsn) {
        return false; // S7
    }
    shard->last_hlc = shard->applied_hlc;
    while (*link != NONE) {
        uint32_t index = *link;
        struct torc_shard_slot *slot = &pool->slots[index];

        if (slot->kind == TORC_LOG_MOVED || slot->lsn <= lsn) {
            if (slot->kind != TORC_LOG_MOVED) {
                epoch = slot->epoch;
                shard->last_hlc = slot->hlc;
            }
            last = index;
            link = &slot->next;
            continue;
        }
        *link = slot->next;
        shard->pending_count--;
        pool->pending_count--;
        pool->taken_count -= slot->taken ? 1 : 0;
        if (torc_shard_kind_is_write(slot->kind)) {
            torc_shard_pending_leave(pool, index);
        }
        torc_shard_slot_drop(shard, index);
    }
    shard->pending_tail = last;
    shard->last_epoch = epoch;
    shard->next_lsn = torc_min_u64(shard->next_lsn, lsn + 1);
    marks_cut(shard, lsn, epoch);
    return true;
}

bool torc_shard_cut(struct torc_shard *shard, uint64_t lsn)
{
    torc_assert(shard->state == TORC_SHARD_FOLLOWING);
    torc_shard_unstage(shard);
    return torc_shard_pending_cut(shard, lsn);
}

// How many of the first pending records lie at or below `lsn`.
static uint32_t pending_upto(const struct torc_shard *shard, uint64_t lsn, uint32_t count_max)
{
    const struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->pending_head;
    uint32_t count = 0;

    while (count < count_max && index != NONE &&
           (pool->slots[index].kind == TORC_LOG_MOVED || pool->slots[index].lsn <= lsn)) {
        index = pool->slots[index].next;
        count++;
    }
    return count;
}

uint32_t torc_shard_commit_to(struct torc_shard *shard, uint64_t lsn,
                              struct torc_shard_outcome *outcomes, uint32_t outcome_max)
{
    uint32_t given = 0;

    torc_assert(shard->shared);
    torc_assert(!shard->unlogged);
    torc_assert(shard->relog_slot == NONE);
    torc_assert(lsn < shard->next_lsn);
    while (given < outcome_max) {
        uint32_t room = outcome_max - given;
        bool fuzzy = shard->applied_lsn < shard->fuzzy_lsn;
        uint32_t count = pending_upto(shard, fuzzy ? torc_min_u64(lsn, shard->fuzzy_lsn) : lsn,
                                      room < TORC_SHARD_BATCH ? room : TORC_SHARD_BATCH);

        if (count == 0) {
            break;
        }
        given += torc_shard_pending_commit(shard, count, outcomes + given);
        if (fuzzy && shard->applied_lsn == shard->fuzzy_lsn && shard->undo_floor == UINT64_MAX &&
            shard->state == TORC_SHARD_FOLLOWING) {
            torc_shard_remember(shard); // the base is a moment now: history begins (H7)
        }
    }
    return given;
}

bool torc_shard_pending_at(const struct torc_shard *shard, uint64_t lsn,
                           struct torc_log_record *record)
{
    const struct torc_shard_pool *pool = shard->pool;
    uint32_t index = shard->pending_head;

    while (index != NONE &&
           (pool->slots[index].kind == TORC_LOG_MOVED || pool->slots[index].lsn != lsn)) {
        index = pool->slots[index].next;
    }
    if (index == NONE) {
        return false;
    }
    torc_shard_slot_record(shard, &pool->slots[index], record);
    return true;
}
