// Torc storage: what the shards of a core share: slots of writes, who waits for whom, the clock.
// See storage/shard.h.
#include "storage/shard_impl.h"

#include <string.h>

#define NONE        TORC_SHARD_NONE
#define ALIGN_BYTES 64u

// -- The pool -----------------------------------------------------------------------------------

static uint32_t pool_table(uint32_t count)
{
    uint32_t size = 64;

    while (size < count) {
        size *= 2;
    }
    return size;
}

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

uint32_t torc_shard_pool_slots(const struct torc_shard_pool_config *config)
{
    return config->slots_max + config->own_max + config->replay_max;
}

uint64_t torc_shard_pool_bytes(const struct torc_shard_pool_config *config)
{
    uint32_t slots = torc_shard_pool_slots(config);

    return align_up((uint64_t)slots * sizeof(struct torc_shard_slot)) +
           align_up((uint64_t)slots * sizeof(struct torc_shard_group)) +
           2 * align_up((uint64_t)pool_table(config->slots_max) * sizeof(uint32_t)) +
           align_up(torc_completion_pool_bytes(config->completion_bytes)) +
           torc_undo_bytes(&config->undo);
}

void torc_shard_pool_init(struct torc_shard_pool *pool, void *memory,
                          const struct torc_shard_pool_config *config)
{
    uint64_t table_bytes = (uint64_t)pool_table(config->slots_max) * sizeof(uint32_t);
    unsigned char *at = memory;

    torc_assert((uintptr_t)memory % ALIGN_BYTES == 0);
    torc_assert(config->slots_max > 0);
    *pool = (struct torc_shard_pool){.ttl_us = (uint64_t)config->dedup_ttl_s * 1000000u,
                                     .seed = config->seed,
                                     .table_mask = pool_table(config->slots_max) - 1,
                                     .slot_count = torc_shard_pool_slots(config),
                                     .write_max = config->slots_max,
                                     .replay_max = config->replay_max,
                                     .append_max = config->slots_max,
                                     .slot_free = NONE,
                                     .group_free = NONE,
                                     .waiting_max = config->waiting_max,
                                     .waiting_head = NONE,
                                     .woken_head = NONE,
                                     .woken_tail = NONE,
                                     .woken_given = NONE};
    pool->slots = (struct torc_shard_slot *)(void *)at;
    at += align_up((uint64_t)pool->slot_count * sizeof(struct torc_shard_slot));
    pool->groups = (struct torc_shard_group *)(void *)at;
    at += align_up((uint64_t)pool->slot_count * sizeof(struct torc_shard_group));
    pool->group_table = (uint32_t *)(void *)at;
    at += align_up(table_bytes);
    pool->client_table = (uint32_t *)(void *)at;
    at += align_up(table_bytes);
    memset(pool->group_table, 0xff, table_bytes);
    memset(pool->client_table, 0xff, table_bytes);
    torc_completion_pool_init(&pool->completions, at, config->completion_bytes,
                              config->principal_ppm, config->seed);
    at += align_up(torc_completion_pool_bytes(config->completion_bytes));
    torc_undo_init(&pool->undo, at, &config->undo);
}

void torc_shard_pool_configure(struct torc_shard_pool *pool, uint32_t dedup_ttl_s, uint64_t hlc)
{
    pool->ttl_us = (uint64_t)dedup_ttl_s * 1000000u;
    pool->hlc = torc_max_u64(pool->hlc, hlc);
}

enum torc_err torc_shard_hear(struct torc_shard_pool *pool, uint64_t hlc, uint64_t ahead_us)
{
    if (hlc > pool->hlc && torc_hlc_us(hlc) > pool->wall_us + ahead_us) {
        return TORC_ERR_CLOCK_AHEAD;
    }
    pool->hlc = torc_max_u64(pool->hlc, hlc);
    return TORC_ERR_OK;
}

static uint64_t pool_mix(const struct torc_shard_pool *pool, uint64_t a, uint64_t b)
{
    uint64_t mixed = (a ^ pool->seed) * 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ (mixed >> 29) ^ b) * 0xbf58476d1ce4e5b9u;
    return (mixed ^ (mixed >> 32)) * 0x94d049bb133111ebu >> 20;
}

// -- Groups: who is pending or waits on one key -------------------------------------------------

static uint32_t group_home(const struct torc_shard_pool *pool, uint64_t key)
{
    return (uint32_t)pool_mix(pool, key, 0) & pool->table_mask;
}

static uint32_t group_at(const struct torc_shard_pool *pool, uint32_t home, uint64_t key)
{
    uint32_t index = pool->group_table[home];

    while (index != NONE && pool->groups[index].key != key) {
        index = pool->groups[index].hash_next;
    }
    return index;
}

uint32_t torc_shard_group_find(const struct torc_shard_pool *pool, uint64_t key)
{
    return group_at(pool, group_home(pool, key), key);
}

uint32_t torc_shard_group_need(struct torc_shard_pool *pool, uint64_t key)
{
    uint32_t home = group_home(pool, key);
    uint32_t index = group_at(pool, home, key);

    if (index != NONE) {
        return index;
    }
    index = pool->group_free;
    if (index == NONE) {
        torc_assert(pool->group_fresh < pool->slot_count); // one a slot is enough
        index = pool->group_fresh++;
    } else {
        pool->group_free = pool->groups[index].hash_next;
    }
    pool->groups[index] = (struct torc_shard_group){.key = key,
                                                    .hash_next = pool->group_table[home],
                                                    .waiting_head = NONE,
                                                    .waiting_tail = NONE,
                                                    .home = home};
    pool->group_table[home] = index;
    return index;
}

void torc_shard_group_leave(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_group *group = &pool->groups[index];
    uint32_t *link = &pool->group_table[group->home];

    if (group->pending_count > 0 || group->waiting_head != NONE) {
        return;
    }
    while (*link != index) {
        torc_assert(*link != NONE);
        link = &pool->groups[*link].hash_next;
    }
    *link = group->hash_next;
    group->hash_next = pool->group_free;
    pool->group_free = index;
}

// -- Slots --------------------------------------------------------------------------------------

uint32_t torc_shard_slot_take(struct torc_shard_pool *pool)
{
    uint32_t index = pool->slot_free;

    torc_assert(torc_shard_pool_has_any(pool));
    if (index == NONE) {
        pool->slots[pool->slot_fresh].own = false;
        return pool->slot_fresh++;
    }
    torc_assert(pool->slots[index].state == TORC_SHARD_SLOT_FREE);
    pool->slot_free = pool->slots[index].next;
    return index;
}

void torc_shard_slot_give(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];

    torc_assert(slot->write.ticket.block == NULL);
    pool->own_count -= slot->own ? 1 : 0;
    slot->own = false;
    slot->state = TORC_SHARD_SLOT_FREE;
    slot->shard = NULL;
    slot->next = pool->slot_free;
    pool->slot_free = index;
}

void torc_shard_slot_own(struct torc_shard_pool *pool, uint32_t index)
{
    pool->slots[index].own = true;
    pool->own_count++;
}

// A client's writes lie side by side, where its next one will be looked for; who shares a place
// with whom depends on the seed.
static uint32_t client_home(const struct torc_shard_pool *pool, uint32_t shard,
                            const struct torc_shard_write *write)
{
    uint64_t mixed = pool_mix(pool, write->client, ((uint64_t)shard << 32) | write->principal);

    return (uint32_t)(mixed + write->seq) & pool->table_mask;
}

bool torc_shard_client_find(const struct torc_shard *shard, const struct torc_shard_write *write)
{
    const struct torc_shard_pool *pool = shard->pool;
    uint32_t index = pool->client_table[client_home(pool, shard->shard, write)];

    while (index != NONE) {
        const struct torc_shard_slot *slot = &pool->slots[index];

        if (slot->shard == shard && slot->write.seq == write->seq &&
            slot->write.client == write->client && slot->write.principal == write->principal) {
            return true;
        }
        index = slot->client_next;
    }
    return false;
}

void torc_shard_client_link(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];
    uint32_t *bucket;

    slot->client_home = client_home(pool, slot->shard->shard, &slot->write);
    bucket = &pool->client_table[slot->client_home];
    slot->client_next = *bucket;
    *bucket = index;
}

void torc_shard_client_unlink(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];
    uint32_t *link = &pool->client_table[slot->client_home];

    while (*link != index) {
        torc_assert(*link != NONE);
        link = &pool->slots[*link].client_next;
    }
    *link = slot->client_next;
}

void torc_shard_slot_fill(struct torc_shard_slot *slot, struct torc_shard *shard,
                          struct torc_shard_write *write)
{
    slot->shard = shard;
    slot->write = *write;
    slot->group = NONE;
    slot->next = NONE;
    slot->promise = (struct torc_completion_promise){0};
    slot->taken = false;
    slot->with_client = false;
    write->ticket = (struct torc_tree_ticket){0};
    if (write->remove || write->value_bytes == 0) {
        slot->write.value = slot->small;
        slot->write.value_bytes = 0;
        return;
    }
    if (slot->write.ticket.block == NULL) {
        torc_assert(write->value_bytes <= sizeof(slot->small));
        memcpy(slot->small, write->value, write->value_bytes);
        slot->write.value = slot->small;
    } else if (write->value != slot->write.ticket.block) {
        memcpy(slot->write.ticket.block, write->value, write->value_bytes);
        slot->write.value = slot->write.ticket.block;
    }
}

// -- Waiting ------------------------------------------------------------------------------------

static void waiting_link(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];

    slot->waiting_prev = NONE;
    slot->waiting_next = pool->waiting_head;
    if (pool->waiting_head != NONE) {
        pool->slots[pool->waiting_head].waiting_prev = index;
    }
    pool->waiting_head = index;
    pool->waiting_count++;
}

static void waiting_unlink(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];

    if (slot->waiting_prev == NONE) {
        pool->waiting_head = slot->waiting_next;
    } else {
        pool->slots[slot->waiting_prev].waiting_next = slot->waiting_next;
    }
    if (slot->waiting_next != NONE) {
        pool->slots[slot->waiting_next].waiting_prev = slot->waiting_prev;
    }
    pool->waiting_count--;
}

// Puts a slot into its key's queue; one that was at the front before goes there again.
static void group_wait(struct torc_shard_pool *pool, uint32_t index, bool front)
{
    struct torc_shard_slot *slot = &pool->slots[index];
    struct torc_shard_group *group;

    slot->group = torc_shard_group_need(pool, slot->write.key);
    group = &pool->groups[slot->group];
    slot->next = front ? group->waiting_head : NONE;
    slot->prev = front ? NONE : group->waiting_tail;
    *(slot->prev == NONE ? &group->waiting_head : &pool->slots[slot->prev].next) = index;
    *(slot->next == NONE ? &group->waiting_tail : &pool->slots[slot->next].prev) = index;
}

static void group_unwait(struct torc_shard_pool *pool, uint32_t index)
{
    struct torc_shard_slot *slot = &pool->slots[index];
    struct torc_shard_group *group = &pool->groups[slot->group];
    uint32_t *from = slot->prev == NONE ? &group->waiting_head : &pool->slots[slot->prev].next;
    uint32_t *to = slot->next == NONE ? &group->waiting_tail : &pool->slots[slot->next].prev;

    torc_assert(*from == index && *to == index);
    *from = slot->next;
    *to = slot->prev;
    torc_shard_group_leave(pool, slot->group);
    slot->group = NONE;
}

void torc_shard_group_wake(struct torc_shard_pool *pool, uint64_t key)
{
    uint32_t group = torc_shard_group_find(pool, key);
    uint32_t index = group == NONE ? NONE : pool->groups[group].waiting_head;

    if (index == NONE || (pool->groups[group].pending_count > 0 &&
                          !torc_shard_write_is_blind(&pool->slots[index].write))) {
        return;
    }
    group_unwait(pool, index);
    pool->slots[index].state = TORC_SHARD_SLOT_WOKEN;
    pool->slots[index].next = NONE;
    if (pool->woken_tail == NONE) {
        pool->woken_head = index;
    } else {
        pool->slots[pool->woken_tail].next = index;
    }
    pool->woken_tail = index;
}

enum torc_err torc_shard_reserve(struct torc_shard *shard, struct torc_shard_write *write)
{
    enum torc_err err = torc_tree_reserve(&shard->tree, write->value_bytes, &write->ticket, NULL);

    // The present goes before the past: large values of the undo window give way, where it is for
    //      want of their memory that there is no room, not of nodes.
    while (err != TORC_ERR_OK && write->value_bytes > TORC_TREE_INLINE_BYTES_MAX &&
           torc_tree_has_nodes(&shard->tree, 1) && torc_undo_yield(&shard->pool->undo)) {
        err = torc_tree_reserve(&shard->tree, write->value_bytes, &write->ticket, NULL);
    }
    return err;
}

enum torc_shard_verdict torc_shard_wait(struct torc_shard *shard, struct torc_shard_write *write,
                                        bool front, struct torc_shard_outcome *outcome)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t index;

    if (!torc_shard_pool_has_slot(pool) || pool->waiting_count >= pool->waiting_max) {
        outcome->err = TORC_ERR_BUSY;
        outcome->info = TORC_SHARD_RETRY_US;
        return TORC_SHARD_ANSWER;
    }
    if (!write->remove && write->ticket.nodes == 0 &&
        torc_shard_reserve(shard, write) != TORC_ERR_OK) {
        outcome->err = TORC_ERR_NO_SPACE;
        outcome->info = TORC_SHARD_REASON_MEMORY | (uint64_t)TORC_SHARD_RETRY_FULL_US
                                                       << TORC_SHARD_REASON_BITS;
        return TORC_SHARD_ANSWER;
    }
    index = torc_shard_slot_take(pool);
    torc_shard_slot_fill(&pool->slots[index], shard, write);
    pool->slots[index].state = TORC_SHARD_SLOT_WAITING;
    waiting_link(pool, index);
    torc_shard_client_link(pool, index);
    group_wait(pool, index, front);
    outcome->place = index;
    return TORC_SHARD_WAIT;
}

// What was handed out last is done with: whoever waits behind it may be next.
static void woken_finish(struct torc_shard_pool *pool)
{
    uint32_t index = pool->woken_given;
    struct torc_shard_slot *slot = &pool->slots[index];
    uint64_t key;

    if (index == NONE) {
        return;
    }
    key = slot->write.key;
    torc_tree_cancel(&slot->shard->tree, &slot->write.ticket);
    torc_shard_slot_give(pool, index);
    pool->woken_given = NONE;
    torc_shard_group_wake(pool, key);
}

struct torc_shard_write *torc_shard_woken(struct torc_shard_pool *pool, struct torc_shard **shard)
{
    uint32_t index;

    woken_finish(pool);
    index = pool->woken_head;
    if (index == NONE) {
        return NULL;
    }
    pool->woken_head = pool->slots[index].next;
    if (pool->woken_head == NONE) {
        pool->woken_tail = NONE;
    }
    waiting_unlink(pool, index);
    torc_shard_client_unlink(pool, index);
    pool->woken_given = index;
    *shard = pool->slots[index].shard;
    return &pool->slots[index].write;
}

bool torc_shard_cancel(struct torc_shard_pool *pool, uint32_t place, uint64_t tag)
{
    struct torc_shard_slot *slot;
    uint64_t key;

    torc_assert(place < pool->slot_count);
    slot = &pool->slots[place];
    key = slot->write.key;
    if (slot->state != TORC_SHARD_SLOT_WAITING || slot->write.tag != tag) {
        return false;
    }
    waiting_unlink(pool, place);
    torc_shard_client_unlink(pool, place);
    group_unwait(pool, place);
    torc_tree_cancel(&slot->shard->tree, &slot->write.ticket);
    torc_shard_slot_give(pool, place);
    torc_shard_group_wake(pool, key); // it may have been what a blind write behind it waited for
    return true;
}

void torc_shard_drop_waiting(struct torc_shard *shard)
{
    struct torc_shard_pool *pool = shard->pool;
    uint32_t woken;

    woken_finish(pool);
    woken = pool->woken_head;
    pool->woken_head = NONE;
    pool->woken_tail = NONE;
    while (woken != NONE) { // those of other shards stay in the list
        uint32_t next = pool->slots[woken].next;

        if (pool->slots[woken].shard != shard) {
            pool->slots[woken].next = NONE;
            if (pool->woken_tail == NONE) {
                pool->woken_head = woken;
            } else {
                pool->slots[pool->woken_tail].next = woken;
            }
            pool->woken_tail = woken;
        }
        woken = next;
    }
    for (uint32_t index = pool->waiting_head; index != NONE;) {
        struct torc_shard_slot *slot = &pool->slots[index];
        uint32_t next = slot->waiting_next;

        if (slot->shard == shard) {
            waiting_unlink(pool, index);
            torc_shard_client_unlink(pool, index);
            if (slot->state == TORC_SHARD_SLOT_WAITING) {
                group_unwait(pool, index);
            }
            torc_tree_cancel(&shard->tree, &slot->write.ticket);
            torc_shard_slot_give(pool, index);
        }
        index = next;
    }
}

bool torc_shard_is_settled(const struct torc_shard_pool *pool)
{
    return pool->pending_count == pool->taken_count && pool->waiting_count == 0;
}
