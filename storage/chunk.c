// Torc storage: chunks. See storage/chunk.h.
#include "storage/chunk.h"

#include <string.h>

#define CHUNK_MAGIC 0x6b6e6863u // "chnk" in a hex dump

// The first node of a chunk.
struct chunk {
    uint32_t magic;
    uint32_t next; // in the set's list of all chunks, or in the pool's free list
    uint32_t prev;
    uint32_t open_next; // in the set's list of chunks with a free node
    uint32_t open_prev;
    uint16_t used;      // nodes taken
    uint16_t fresh;     // nodes [fresh, TORC_CHUNK_NODES) were never taken
    uint16_t free_head; // nodes given back, linked through their first two bytes; 0 none
    bool open;
    uint32_t mark;
};

_Static_assert(sizeof(struct chunk) <= TORC_NODE_BYTES, "the header takes one node");

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
                                     .fresh_end = first + count,
                                     .free_head = TORC_CHUNK_NONE,
                                     .chunk_count = count};
}

uint32_t torc_chunk_pool_free(const struct torc_chunk_pool *pool)
{
    return pool->free_count + (pool->fresh_end - pool->fresh_first);
}

void torc_chunk_set_init(struct torc_chunk_set *set, struct torc_chunk_pool *pool)
{
    *set = (struct torc_chunk_set){.pool = pool,
                                   .base = pool->base,
                                   .open_head = TORC_CHUNK_NONE,
                                   .chunk_head = TORC_CHUNK_NONE,
                                   .looked = TORC_CHUNK_NONE};
}

static void open_link(struct torc_chunk_set *set, uint32_t index)
{
    struct chunk *chunk = chunk_at(set->base, index);

    torc_assert(!chunk->open);
    chunk->open = true;
    chunk->open_prev = TORC_CHUNK_NONE;
    chunk->open_next = set->open_head;
    if (set->open_head != TORC_CHUNK_NONE) {
        chunk_at(set->base, set->open_head)->open_prev = index;
    }
    set->open_head = index;
}

static void open_unlink(struct torc_chunk_set *set, struct chunk *chunk)
{
    torc_assert(chunk->open);
    chunk->open = false;
    if (chunk->open_prev == TORC_CHUNK_NONE) {
        set->open_head = chunk->open_next;
    } else {
        chunk_at(set->base, chunk->open_prev)->open_next = chunk->open_next;
    }
    if (chunk->open_next != TORC_CHUNK_NONE) {
        chunk_at(set->base, chunk->open_next)->open_prev = chunk->open_prev;
    }
}

bool torc_chunk_set_grow(struct torc_chunk_set *set)
{
    struct torc_chunk_pool *pool = set->pool;
    struct chunk *chunk;
    uint32_t index;

    if (pool->free_head != TORC_CHUNK_NONE) {
        index = pool->free_head;
        pool->free_head = chunk_at(pool->base, index)->next;
        pool->free_count--;
    } else if (pool->fresh_first < pool->fresh_end) {
        index = pool->fresh_first++;
    } else {
        return false;
    }
    chunk = chunk_at(set->base, index);
    *chunk = (struct chunk){
        .magic = CHUNK_MAGIC, .next = set->chunk_head, .prev = TORC_CHUNK_NONE, .fresh = 1};
    if (set->chunk_head != TORC_CHUNK_NONE) {
        chunk_at(set->base, set->chunk_head)->prev = index;
    }
    set->chunk_head = index;
    set->chunk_count++;
    set->free_nodes += TORC_CHUNK_USABLE;
    open_link(set, index);
    return true;
}

uint32_t torc_chunk_node_take(struct torc_chunk_set *set, uint32_t near)
{
    uint32_t index = set->open_head;
    struct chunk *chunk;
    uint32_t slot;

    torc_assert(set->free_nodes > 0);
    if (near != TORC_NODE_NONE && chunk_at(set->base, near / TORC_CHUNK_NODES)->open) {
        index = near / TORC_CHUNK_NODES;
    }
    torc_assert(index != TORC_CHUNK_NONE);
    chunk = chunk_at(set->base, index);
    torc_assert(chunk->magic == CHUNK_MAGIC);
    if (chunk->free_head != 0) {
        slot = chunk->free_head;
        memcpy(&chunk->free_head, torc_node_at(set->base, index * TORC_CHUNK_NODES + slot),
               sizeof(chunk->free_head));
    } else {
        slot = chunk->fresh++;
    }
    torc_assert(slot < TORC_CHUNK_NODES);
    set->free_nodes--;
    if (++chunk->used == TORC_CHUNK_USABLE) {
        open_unlink(set, chunk);
    }
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
    chunk->mark = 0;
    set->chunk_count--;
    set->free_nodes -= TORC_CHUNK_USABLE;
    chunk->next = set->pool->free_head;
    set->pool->free_head = index;
    set->pool->free_count++;
}

void torc_chunk_node_give(struct torc_chunk_set *set, uint32_t node, uint64_t keep_nodes)
{
    uint32_t index = node / TORC_CHUNK_NODES;
    struct chunk *chunk = chunk_at(set->base, index);
    uint16_t slot = (uint16_t)(node % TORC_CHUNK_NODES);

    torc_assert(chunk->magic == CHUNK_MAGIC);
    torc_assert(slot > 0);
    torc_assert(slot < chunk->fresh);
    torc_assert(chunk->used > 0);
    memcpy(torc_node_at(set->base, node), &chunk->free_head, sizeof(chunk->free_head));
    chunk->free_head = slot;
    set->free_nodes++;
    if (chunk->used-- == TORC_CHUNK_USABLE) {
        open_link(set, index);
    }
    if (chunk->used == 0 && set->free_nodes - TORC_CHUNK_USABLE >= keep_nodes) {
        chunk_give(set, index);
    }
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

uint32_t torc_chunk_fresh(const struct torc_chunk_set *set, uint32_t chunk)
{
    return chunk_at(set->base, chunk)->fresh;
}

// True when the chunk's free nodes, counted along their list, are what its counts say.
static bool chunk_check(const struct torc_chunk_set *set, uint32_t index)
{
    const struct chunk *chunk = chunk_at(set->base, index);
    uint32_t free_count = TORC_CHUNK_NODES - chunk->fresh;
    uint16_t slot = chunk->free_head;

    while (slot != 0) {
        if (slot >= chunk->fresh || ++free_count > TORC_CHUNK_USABLE) {
            return false;
        }
        memcpy(&slot, torc_node_at(set->base, index * TORC_CHUNK_NODES + slot), sizeof(slot));
    }
    return chunk->magic == CHUNK_MAGIC && chunk->used + free_count == TORC_CHUNK_USABLE &&
           chunk->open == (free_count > 0);
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
    for (uint32_t index = set->open_head; index != TORC_CHUNK_NONE;
         index = chunk_at(set->base, index)->open_next) {
        if (open_count-- == 0 || !chunk_at(set->base, index)->open) {
            return false;
        }
    }
    return open_count == 0 && chunk_count == set->chunk_count && free_nodes == set->free_nodes;
}
