// Torc storage: chunks. See storage/chunk.h.
#include "storage/chunk.h"

#include <string.h>

#define CHUNK_MAGIC 0x6b6e6863u // "chnk" in a hex dump

#define WORD_BITS 64u
#define WORDS     (TORC_CHUNK_NODES / WORD_BITS)

// The first node of a chunk: one line says which nodes are taken, so that none of them is read for
// it. Low ones are taken first.
struct chunk {
    uint32_t magic;
    uint32_t next; // in the set's list of all chunks, or in the pool's free list
    uint32_t prev;
    uint32_t open_next; // in one of the set's lists of chunks with a free node
    uint32_t open_prev;
    uint32_t mark;
    uint32_t used; // nodes taken
    bool open;
    uint64_t taken[WORDS]; // a bit a node, the header's set
};

_Static_assert(sizeof(struct chunk) == 64, "the header's part in use is a line");

static struct chunk *chunk_at(unsigned char *base, uint32_t index)
{
    return torc_node_at(base, index * TORC_CHUNK_NODES);
}

void torc_chunk_pool_init(struct torc_chunk_pool *pool, void *base, uint32_t first, uint32_t count)
{
    torc_assert(((uintptr_t)base & (TORC_CHUNK_BYTES - 1)) == 0);
    torc_assert(count <= TORC_CHUNKS_MAX);
    torc_assert(first <= TORC_CHUNKS_MAX - count);
    *pool = (struct torc_chunk_pool){.base = base,
                                     .fresh_first = first,
                                     .fresh_said = first,
                                     .fresh_end = first + count,
                                     .free_head = TORC_CHUNK_NONE,
                                     .chunk_count = count};
}

uint32_t torc_chunk_pool_free(const struct torc_chunk_pool *pool)
{
    return pool->free_count + (pool->fresh_end - pool->fresh_first);
}

uint32_t torc_chunk_pool_take(struct torc_chunk_pool *pool)
{
    uint32_t index = pool->free_head;

    if (index != TORC_CHUNK_NONE) {
        pool->free_head = chunk_at(pool->base, index)->next;
        pool->free_count--;
        return index;
    }
    if (pool->fresh_first < pool->fresh_end) {
        index = pool->fresh_first++;
        atomic_store_explicit(&pool->fresh_said, pool->fresh_first, memory_order_relaxed);
    }
    return index;
}

void torc_chunk_pool_give(struct torc_chunk_pool *pool, uint32_t chunk)
{
    chunk_at(pool->base, chunk)->next = pool->free_head;
    pool->free_head = chunk;
    pool->free_count++;
}

void torc_chunk_set_init(struct torc_chunk_set *set, struct torc_chunk_pool *pool)
{
    *set = (struct torc_chunk_set){.pool = pool,
                                   .base = pool->base,
                                   .chunk_head = TORC_CHUNK_NONE,
                                   .looked = TORC_CHUNK_NONE,
                                   .leaving = TORC_CHUNK_NONE};
    for (uint32_t list = 0; list < TORC_CHUNK_LISTS; list++) {
        set->open_heads[list] = TORC_CHUNK_NONE;
    }
}

static uint32_t list_of(const struct chunk *chunk)
{
    return chunk->used * TORC_CHUNK_LISTS / TORC_CHUNK_NODES;
}

static void open_link(struct torc_chunk_set *set, uint32_t index)
{
    struct chunk *chunk = chunk_at(set->base, index);
    uint32_t *head = &set->open_heads[list_of(chunk)];

    torc_assert(!chunk->open);
    chunk->open = true;
    chunk->open_prev = TORC_CHUNK_NONE;
    chunk->open_next = *head;
    if (*head != TORC_CHUNK_NONE) {
        chunk_at(set->base, *head)->open_prev = index;
    }
    *head = index;
}

// Before `used` changes: its list follows from it.
static void open_unlink(struct torc_chunk_set *set, struct chunk *chunk)
{
    torc_assert(chunk->open);
    chunk->open = false;
    if (chunk->open_prev == TORC_CHUNK_NONE) {
        set->open_heads[list_of(chunk)] = chunk->open_next;
    } else {
        chunk_at(set->base, chunk->open_prev)->open_next = chunk->open_next;
    }
    if (chunk->open_next != TORC_CHUNK_NONE) {
        chunk_at(set->base, chunk->open_next)->open_prev = chunk->open_prev;
    }
}

// A node of the chunk is taken (or given): to the list that it now belongs to, if to any.
static void used_set(struct torc_chunk_set *set, uint32_t index, uint32_t used)
{
    struct chunk *chunk = chunk_at(set->base, index);
    uint32_t list = list_of(chunk);
    bool listed = used < TORC_CHUNK_USABLE;
    struct chunk after = {.used = used};

    torc_assert(used <= TORC_CHUNK_USABLE);
    if (chunk->open && listed && list_of(&after) == list) {
        chunk->used = used;
        return;
    }
    if (chunk->open) {
        open_unlink(set, chunk);
    }
    chunk->used = used;
    if (listed) {
        open_link(set, index);
    }
}

bool torc_chunk_set_grow(struct torc_chunk_set *set)
{
    uint32_t index = torc_chunk_pool_take(set->pool);
    struct chunk *chunk;

    if (index == TORC_CHUNK_NONE) {
        return false;
    }
    chunk = chunk_at(set->base, index);
    *chunk = (struct chunk){
        .magic = CHUNK_MAGIC, .next = set->chunk_head, .prev = TORC_CHUNK_NONE, .taken = {1}};
    if (set->chunk_head != TORC_CHUNK_NONE) {
        chunk_at(set->base, set->chunk_head)->prev = index;
    }
    set->chunk_head = index;
    set->chunk_count++;
    set->free_nodes += TORC_CHUNK_USABLE;
    open_link(set, index);
    return true;
}

// One of the fullest chunks with a free node; the one that is leaving only for want of others.
static uint32_t chunk_fullest(const struct torc_chunk_set *set)
{
    for (uint32_t list = TORC_CHUNK_LISTS; list > 0; list--) {
        uint32_t index = set->open_heads[list - 1];

        if (index != TORC_CHUNK_NONE && index == set->leaving) {
            index = chunk_at(set->base, index)->open_next;
        }
        if (index != TORC_CHUNK_NONE) {
            return index;
        }
    }
    return set->leaving;
}

// A bit of `taken` that is clear.
static uint32_t slot_free(const struct chunk *chunk)
{
    for (uint32_t word = 0; word < WORDS; word++) {
        if (chunk->taken[word] != UINT64_MAX) {
            return word * WORD_BITS + (uint32_t)__builtin_ctzll(~chunk->taken[word]);
        }
    }
    torc_unreachable("the chunk has a free node");
}

uint32_t torc_chunk_node_take(struct torc_chunk_set *set, uint32_t near)
{
    uint32_t index = near == TORC_NODE_NONE ? TORC_CHUNK_NONE : near / TORC_CHUNK_NODES;
    struct chunk *chunk;
    uint32_t slot;

    torc_assert(set->free_nodes > 0);
    if (index == TORC_CHUNK_NONE || index == set->leaving || !chunk_at(set->base, index)->open) {
        index = chunk_fullest(set);
    }
    torc_assert(index != TORC_CHUNK_NONE);
    chunk = chunk_at(set->base, index);
    slot = slot_free(chunk);
    torc_assert(slot > 0);
    chunk->taken[slot / WORD_BITS] |= UINT64_C(1) << (slot % WORD_BITS);
    set->free_nodes--;
    used_set(set, index, chunk->used + 1);
    return index * TORC_CHUNK_NODES + slot;
}

static void chunk_give(struct torc_chunk_set *set, uint32_t index)
{
    struct chunk *chunk = chunk_at(set->base, index);

    open_unlink(set, chunk);
    if (chunk->prev == TORC_CHUNK_NONE) {
        set->chunk_head = chunk->next;
    } else {
        chunk_at(set->base, chunk->prev)->next = chunk->next;
    }
    if (chunk->next != TORC_CHUNK_NONE) {
        chunk_at(set->base, chunk->next)->prev = chunk->prev;
    }
    if (set->looked == index) {
        set->looked = chunk->next;
    }
    if (set->leaving == index) {
        set->leaving = TORC_CHUNK_NONE;
    }
    chunk->mark = 0;
    set->given++;
    set->chunk_count--;
    set->free_nodes -= TORC_CHUNK_USABLE;
    torc_chunk_pool_give(set->pool, index);
}

void torc_chunk_node_give(struct torc_chunk_set *set, uint32_t node, uint64_t keep_nodes)
{
    uint32_t index = node / TORC_CHUNK_NODES;
    struct chunk *chunk = chunk_at(set->base, index);
    uint32_t slot = node % TORC_CHUNK_NODES;

    torc_assert(chunk->magic == CHUNK_MAGIC);
    torc_assert(slot > 0);
    torc_assert(chunk->taken[slot / WORD_BITS] >> (slot % WORD_BITS) & 1);
    torc_assert(chunk->used > 0);
    chunk->taken[slot / WORD_BITS] &= ~(UINT64_C(1) << (slot % WORD_BITS));
    set->free_nodes++;
    used_set(set, index, chunk->used - 1);
    if (chunk->used == 0) {
        (void)torc_chunk_give(set, index, keep_nodes); // else it is kept for those nodes
    }
}

bool torc_chunk_give(struct torc_chunk_set *set, uint32_t index, uint64_t keep_nodes)
{
    if (chunk_at(set->base, index)->used > 0 || set->free_nodes < keep_nodes + TORC_CHUNK_USABLE) {
        return false;
    }
    chunk_give(set, index);
    return true;
}

uint32_t torc_chunk_leave(struct torc_chunk_set *set)
{
    set->leaving = TORC_CHUNK_NONE;
    for (uint32_t list = 0; list < TORC_CHUNK_LISTS; list++) {
        if (set->open_heads[list] != TORC_CHUNK_NONE) {
            set->leaving = set->open_heads[list];
            break;
        }
    }
    return set->leaving;
}

void torc_chunk_stay(struct torc_chunk_set *set)
{
    set->leaving = TORC_CHUNK_NONE;
}

uint32_t torc_chunk_used(const struct torc_chunk_set *set, uint32_t chunk)
{
    return chunk_at(set->base, chunk)->used;
}

void torc_chunk_set_drop(struct torc_chunk_set *set)
{
    uint32_t index = set->chunk_head;

    while (index != TORC_CHUNK_NONE) {
        struct chunk *chunk = chunk_at(set->base, index);
        uint32_t next = chunk->next;

        chunk->next = set->pool->free_head;
        set->pool->free_head = index;
        set->pool->free_count++;
        index = next;
    }
    torc_chunk_set_init(set, set->pool);
}

void torc_chunk_look_begin(struct torc_chunk_set *set)
{
    set->looked = set->chunk_head;
}

uint32_t torc_chunk_look(struct torc_chunk_set *set)
{
    uint32_t chunk = set->looked;

    if (chunk != TORC_CHUNK_NONE) {
        set->looked = chunk_at(set->base, chunk)->next;
    }
    return chunk;
}

uint32_t torc_chunk_mark_new(struct torc_chunk_pool *pool)
{
    pool->marks += pool->marks == UINT32_MAX ? 2 : 1;
    return pool->marks;
}

void torc_chunk_mark(const struct torc_chunk_set *set, uint32_t chunk, uint32_t mark)
{
    chunk_at(set->base, chunk)->mark = mark;
}

uint32_t torc_chunk_marked(const struct torc_chunk_set *set, uint32_t chunk)
{
    return chunk_at(set->base, chunk)->mark;
}

uint32_t torc_chunk_taken_next(const struct torc_chunk_set *set, uint32_t chunk, uint32_t slot)
{
    const struct chunk *head = chunk_at(set->base, chunk);

    while (slot < TORC_CHUNK_NODES) {
        uint64_t taken = head->taken[slot / WORD_BITS] >> (slot % WORD_BITS);

        if (taken != 0) {
            return slot + (uint32_t)__builtin_ctzll(taken);
        }
        slot = (slot / WORD_BITS + 1) * WORD_BITS;
    }
    return TORC_CHUNK_NODES;
}

// True when the chunk's counts are what its bits say.
static bool chunk_check(const struct torc_chunk_set *set, uint32_t index)
{
    const struct chunk *chunk = chunk_at(set->base, index);
    uint32_t taken = 0;

    for (uint32_t word = 0; word < WORDS; word++) {
        taken += (uint32_t)__builtin_popcountll(chunk->taken[word]);
    }
    return chunk->magic == CHUNK_MAGIC && (chunk->taken[0] & 1) != 0 && taken == chunk->used + 1 &&
           chunk->open == (chunk->used < TORC_CHUNK_USABLE);
}

// How many chunks are listed by their fill; UINT32_MAX when one is in a wrong list, or lost.
static uint32_t open_check(const struct torc_chunk_set *set)
{
    uint32_t count = 0;

    for (uint32_t list = 0; list < TORC_CHUNK_LISTS; list++) {
        for (uint32_t index = set->open_heads[list]; index != TORC_CHUNK_NONE;
             index = chunk_at(set->base, index)->open_next) {
            const struct chunk *chunk = chunk_at(set->base, index);

            if (count++ == set->chunk_count || !chunk->open || list_of(chunk) != list) {
                return UINT32_MAX;
            }
        }
    }
    return count;
}

bool torc_chunk_set_check(const struct torc_chunk_set *set)
{
    uint64_t free_nodes = 0;
    uint32_t chunk_count = 0;
    uint32_t open_count = 0;

    for (uint32_t index = set->chunk_head; index != TORC_CHUNK_NONE;
         index = chunk_at(set->base, index)->next) {
        if (chunk_count++ == set->chunk_count || !chunk_check(set, index)) {
            return false;
        }
        free_nodes += TORC_CHUNK_USABLE - chunk_at(set->base, index)->used;
        open_count += chunk_at(set->base, index)->open;
    }
    return open_check(set) == open_count && chunk_count == set->chunk_count &&
           free_nodes == set->free_nodes;
}
