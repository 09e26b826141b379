// Torc storage: what the files of the shard engine share among themselves. Nobody else includes it.
#ifndef TORC_STORAGE_SHARD_IMPL_H
#define TORC_STORAGE_SHARD_IMPL_H

#include "kit/hlc.h"
#include "storage/shard.h"

// What a refused client is asked to wait: about a group commit.
#define TORC_SHARD_RETRY_US      1000u
#define TORC_SHARD_RETRY_FULL_US 100000u // memory: somebody must delete
#define TORC_SHARD_REASON_BITS   8u      // below them the reason, above them the time

enum torc_shard_slot_state {
    TORC_SHARD_SLOT_FREE,
    TORC_SHARD_SLOT_STAGED,
    TORC_SHARD_SLOT_PENDING,
    TORC_SHARD_SLOT_WAITING,
    TORC_SHARD_SLOT_WOKEN, // its turn has come, or it was just handed out
};

struct torc_shard_slot {
    struct torc_shard *shard;
    struct torc_shard_write write; // value: `small`, or the ticket's block
    enum torc_shard_slot_state state : 8;
    enum torc_log_kind kind : 8;
    bool own;   // one of own_max
    bool taken; // nobody here waits for its commit
    bool with_client;
    bool elsewhere; // logged in a stream that the shard has left
    uint64_t lsn;   // pending, staged
    uint64_t hlc;
    uint64_t first_sequence;
    uint64_t last_sequence; // UINT64_MAX: not appended yet
    struct torc_completion_promise promise;
    uint32_t group;
    uint32_t next;         // of the shard's pending or staged, the group's waiting, woken, free
    uint32_t client_next;  // hash
    uint32_t client_home;  // its place in the pool's client_table
    uint32_t waiting_next; // all waiting
    uint32_t waiting_prev;
    union {
        uint32_t epoch; // pending, staged: that it was written in
        uint32_t prev;  // waiting: of the group's; NONE: the first
    };
    unsigned char small[TORC_TREE_INLINE_BYTES_MAX];
};

_Static_assert(sizeof(struct torc_shard_slot) % 64 == 0, "whole cache lines");

struct torc_shard_group {
    uint64_t key;
    uint32_t hash_next; // or of the free list
    uint32_t pending_count;
    uint32_t waiting_head;
    uint32_t waiting_tail;
    uint32_t home; // its place in the pool's group_table
};

// The primary's clock: what ages are measured by (E4).
static inline uint64_t torc_shard_pool_now(const struct torc_shard_pool *pool)
{
    return torc_max_u64(pool->hlc, torc_hlc_from_us(pool->wall_us));
}

static inline bool torc_shard_kind_is_write(enum torc_log_kind kind)
{
    return kind == TORC_LOG_PUT || kind == TORC_LOG_DELETE;
}

// Any slot at all: one of the shards' own.
static inline bool torc_shard_pool_has_any(const struct torc_shard_pool *pool)
{
    return pool->slot_free != TORC_SHARD_NONE || pool->slot_fresh < pool->slot_count;
}

// Of those that writes may have.
static inline uint32_t torc_shard_pool_used(const struct torc_shard_pool *pool)
{
    return pool->pending_count + pool->staged_count + pool->waiting_count +
           (pool->woken_given == TORC_SHARD_NONE ? 0 : 1) - pool->own_count;
}

// A slot for a write, or for a record of another replica.
static inline bool torc_shard_pool_has_slot(const struct torc_shard_pool *pool)
{
    return torc_shard_pool_has_any(pool) && torc_shard_pool_used(pool) < pool->write_max;
}

static inline bool torc_shard_write_is_blind(const struct torc_shard_write *write)
{
    return write->condition == TORC_SHARD_ANY && !write->remove;
}

// -- Slots: one a write, from its arrival to its commit -------------------------------------------

// Never fails: ask torc_shard_pool_has_slot or torc_shard_pool_has_any before.
uint32_t torc_shard_slot_take(struct torc_shard_pool *pool);

// It was taken from the shards' own ones.
void torc_shard_slot_own(struct torc_shard_pool *pool, uint32_t index);

// The slot has no block of a ticket any more.
void torc_shard_slot_give(struct torc_shard_pool *pool, uint32_t index);

// Takes the write over, value and ticket with it. A large value is copied into the ticket's block
// unless it lies there already.
void torc_shard_slot_fill(struct torc_shard_slot *slot, struct torc_shard *shard,
                          struct torc_shard_write *write);

// Whether (client, seq) is pending or waits.
bool torc_shard_client_find(const struct torc_shard *shard, const struct torc_shard_write *write);

void torc_shard_client_link(struct torc_shard_pool *pool, uint32_t index);
void torc_shard_client_unlink(struct torc_shard_pool *pool, uint32_t index);

// -- Groups: who is pending or waits on one key ---------------------------------------------------

// TORC_SHARD_NONE: nobody.
uint32_t torc_shard_group_find(const struct torc_shard_pool *pool, uint64_t key);

uint32_t torc_shard_group_need(struct torc_shard_pool *pool, uint64_t key);

// Gives the group back if nobody is in it.
void torc_shard_group_leave(struct torc_shard_pool *pool, uint32_t index);

// The first of a key's queue is woken when nothing is pending there, or when it does not care.
void torc_shard_group_wake(struct torc_shard_pool *pool, uint64_t key);

// A ticket for the write's value. NO_SPACE: there is no memory, the undo window's included.
enum torc_err torc_must_use torc_shard_reserve(struct torc_shard *shard,
                                               struct torc_shard_write *write);

// -- Pending --------------------------------------------------------------------------------------

// Makes the slot (kind, lsn, hlc, epoch, taken, with_client are set) the shard's last record,
// and says what to append.
void torc_shard_pending_link(struct torc_shard *shard, uint32_t index,
                             struct torc_log_record *record);

// The same for a record of the shard's own, which it makes and stamps.
void torc_shard_pending_own(struct torc_shard *shard, enum torc_log_kind kind,
                            struct torc_log_record *record);

// The slot's record as it is logged.
void torc_shard_slot_record(const struct torc_shard *shard, const struct torc_shard_slot *slot,
                            struct torc_log_record *record);

// The slot stands among the pending writes of its key and client (a write's only); and not any
// more.
void torc_shard_pending_enter(struct torc_shard_pool *pool, uint32_t index);
void torc_shard_pending_leave(struct torc_shard_pool *pool, uint32_t index);

// Gives back all that a slot holds which is not pending any more, or was only staged.
void torc_shard_slot_drop(struct torc_shard *shard, uint32_t index);

// Applies the first `count` pending records, TORC_SHARD_BATCH at most. Returns how many outcomes
// they gave.
uint32_t torc_shard_pending_commit(struct torc_shard *shard, uint32_t count,
                                   struct torc_shard_outcome *outcomes);

// torc_shard_begin: the next of what is pending of another turn. From slot `index` on it is looked
// for.
void torc_shard_begin_again(struct torc_shard *shard, struct torc_log_record *record);
void torc_shard_relog_from(struct torc_shard *shard, uint32_t index);

// X3: clients of pending records are used at `hlc`, or when their record was made if that is later.
void torc_shard_pending_keep(struct torc_shard *shard, uint64_t hlc);

// Forgets all pending records.
void torc_shard_drop_pending(struct torc_shard *shard);

// The shard's place in the list of those that torc_shard_commit looks at.
void torc_shard_dirty_push(struct torc_shard *shard);
void torc_shard_dirty_remove(struct torc_shard *shard);

// From here on the undo window keeps what the shard's writes replace; its history begins at
// applied_hlc, or where the last one that ended on this core did if that is later.
void torc_shard_remember(struct torc_shard *shard);

// The shard's history on this core ends, if it has one.
void torc_shard_forget(struct torc_shard *shard);

// -- Shared: storage/shard_follow.c ---------------------------------------------------------------

// Replay: the next record of the shard's own log becomes pending, as if it had been staged, taken
// and appended. `ticket` has its value already if it has nodes; it stays the caller's on failure.
struct torc_shard_held {
    const struct torc_log_record *record;
    struct torc_tree_ticket ticket;
    uint64_t first_sequence;
    uint64_t last_sequence;
};
enum torc_err torc_must_use torc_shard_hold(struct torc_shard *shard,
                                            const struct torc_shard_held *held,
                                            struct torc_fail *why);

// The record is there already, and in the log once more: whoever moved to another stream was not
// through with it.
void torc_shard_hold_again(struct torc_shard *shard, const struct torc_shard_held *held);

// Of the pending record at `lsn`, or of the last one applied; 0: it is neither. Walks the pending.
uint32_t torc_shard_held_epoch(const struct torc_shard *shard, uint64_t lsn);

// torc_shard_cut, in any state.
bool torc_must_use torc_shard_pending_cut(struct torc_shard *shard, uint64_t lsn);

// The shard's last pending record was appended.
void torc_shard_mark_add(struct torc_shard *shard, const struct torc_shard_slot *slot);

// Nothing of the shard is awaited from the disk any more.
void torc_shard_mark_drop(struct torc_shard *shard);

// -- What the log says of commits: storage/shard_follow.c -----------------------------------------

// It says all that is applied, or nothing of that counts any more.
void torc_shard_said(struct torc_shard *shard);

// Whether a look at that is due before the shard, which follows, takes a value of so many bytes
// (torc_shard_look): no more records come between two than replay has slots for, and it must have
// memory for what it would hold (decision 0028). Where there are no slots for replay, nobody looks.
bool torc_must_use torc_shard_looks_first(struct torc_shard *shard, uint32_t value_bytes);

// -- Waiting --------------------------------------------------------------------------------------

// WAIT: the write was taken over. ANSWER: there is no room, `outcome` says it. `front`: it waited
// before and keeps its turn.
enum torc_shard_verdict torc_shard_wait(struct torc_shard *shard, struct torc_shard_write *write,
                                        bool front, struct torc_shard_outcome *outcome);

// Forgets all waiting and woken writes of the shard.
void torc_shard_drop_waiting(struct torc_shard *shard);

#endif
