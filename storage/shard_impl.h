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
    TORC_SHARD_SLOT_PENDING,
    TORC_SHARD_SLOT_WAITING,
    TORC_SHARD_SLOT_WOKEN, // its turn has come, or it was just handed out
};

struct torc_shard_slot {
    struct torc_shard *shard;
    struct torc_shard_write write; // value: `small`, or the ticket's block
    enum torc_shard_slot_state state;
    enum torc_log_kind kind;
    uint64_t lsn; // pending
    uint64_t hlc;
    uint64_t first_sequence;
    uint64_t last_sequence; // UINT64_MAX: not appended yet
    struct torc_completion_promise promise;
    uint32_t group;
    uint32_t next;         // of the shard's pending, the group's waiting, woken, free
    uint32_t client_next;  // hash
    uint32_t client_home;  // its place in the pool's client_table
    uint32_t waiting_next; // all waiting
    uint32_t waiting_prev;
    unsigned char small[TORC_TREE_INLINE_BYTES_MAX];
};

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

static inline bool torc_shard_pool_has_slot(const struct torc_shard_pool *pool)
{
    return pool->slot_free != TORC_SHARD_NONE || pool->slot_fresh < pool->slot_count;
}

static inline bool torc_shard_write_is_blind(const struct torc_shard_write *write)
{
    return write->condition == TORC_SHARD_ANY && !write->remove;
}

// -- Slots: one a write, from its arrival to its commit -------------------------------------------

// Never fails: ask torc_shard_pool_has_slot before.
uint32_t torc_shard_slot_take(struct torc_shard_pool *pool);

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

// -- Waiting --------------------------------------------------------------------------------------

// WAIT: the write was taken over. ANSWER: there is no room, `outcome` says it. `front`: it waited
// before and keeps its turn.
enum torc_shard_verdict torc_shard_wait(struct torc_shard *shard, struct torc_shard_write *write,
                                        bool front, struct torc_shard_outcome *outcome);

// Forgets all waiting and woken writes of the shard.
void torc_shard_drop_waiting(struct torc_shard *shard);

#endif
