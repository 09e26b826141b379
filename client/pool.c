// Torc client: the memory of one queue; see pool.h.
#include "client/pool.h"

#define POOL_FREE 0x80u

static void list_push(struct torc_pool *pool, uint32_t order, uint32_t index)
{
    struct torc_pool_free *head = &pool->lists[order];
    struct torc_pool_free *block =
        (struct torc_pool_free *)(void *)(pool->blocks + (uint64_t)index * TORC_POOL_BLOCK_BYTES);

    block->next = head->next;
    block->previous = head;
    head->next->previous = block;
    head->next = block;
    pool->orders[index] = (uint8_t)((order + 1) | POOL_FREE);
    pool->free_bytes += (uint64_t)TORC_POOL_BLOCK_BYTES << order;
}

static void list_remove(struct torc_pool *pool, uint32_t order, uint32_t index)
{
    struct torc_pool_free *block =
        (struct torc_pool_free *)(void *)(pool->blocks + (uint64_t)index * TORC_POOL_BLOCK_BYTES);

    torc_assert(pool->orders[index] == ((order + 1) | POOL_FREE));
    block->next->previous = block->previous;
    block->previous->next = block->next;
    pool->orders[index] = 0;
    pool->free_bytes -= (uint64_t)TORC_POOL_BLOCK_BYTES << order;
}

static uint32_t index_of(const struct torc_pool *pool, const void *block)
{
    uint64_t offset = (uint64_t)((const uint8_t *)block - pool->blocks);

    torc_assert(offset % TORC_POOL_BLOCK_BYTES == 0);
    torc_assert(offset / TORC_POOL_BLOCK_BYTES < pool->count);
    return (uint32_t)(offset / TORC_POOL_BLOCK_BYTES);
}

static uint32_t order_of(uint64_t bytes)
{
    uint32_t order = 0;

    while (((uint64_t)TORC_POOL_BLOCK_BYTES << order) < bytes) {
        order++;
    }
    return order;
}

void torc_pool_init(struct torc_pool *pool, void *memory, uint64_t bytes)
{
    uint64_t count = bytes / (TORC_POOL_BLOCK_BYTES + 1);
    uint64_t map_bytes;
    uint64_t at = 0;

    torc_assert(bytes >= 65536);
    torc_assert(((uintptr_t)memory & 4095) == 0);
    map_bytes = (count + 4095) & ~UINT64_C(4095);
    count = torc_min_u64((bytes - map_bytes) / TORC_POOL_BLOCK_BYTES, UINT32_MAX / 2);
    pool->orders = memory;
    pool->blocks = (uint8_t *)memory + map_bytes;
    pool->count = (uint32_t)count;
    pool->top_order = 0;
    pool->free_bytes = 0;
    for (uint32_t order = 0; order < TORC_POOL_ORDERS; order++) {
        pool->lists[order].next = pool->lists[order].previous = &pool->lists[order];
    }
    // The largest aligned blocks that fit, from the start.
    for (uint32_t order = TORC_POOL_ORDERS; order-- > 0;) {
        while (at + (UINT64_C(1) << order) <= count) {
            pool->top_order = (uint32_t)torc_max_u64(pool->top_order, order);
            list_push(pool, order, (uint32_t)at);
            at += UINT64_C(1) << order;
        }
    }
}

void *torc_pool_take(struct torc_pool *pool, uint64_t bytes)
{
    uint32_t wanted;
    uint32_t order;
    uint32_t index;

    torc_assert(bytes > 0);
    if (bytes > ((uint64_t)TORC_POOL_BLOCK_BYTES << pool->top_order)) {
        return NULL;
    }
    wanted = order_of(bytes);
    for (order = wanted; order <= pool->top_order; order++) {
        if (pool->lists[order].next != &pool->lists[order]) {
            break;
        }
    }
    if (order > pool->top_order) {
        return NULL;
    }
    index = index_of(pool, pool->lists[order].next);
    list_remove(pool, order, index);
    while (order > wanted) {
        order--;
        list_push(pool, order, index + (1u << order));
    }
    pool->orders[index] = (uint8_t)(wanted + 1);
    return pool->blocks + (uint64_t)index * TORC_POOL_BLOCK_BYTES;
}

void torc_pool_give(struct torc_pool *pool, void *block)
{
    uint32_t index;
    uint32_t order;

    if (block == NULL) {
        return;
    }
    index = index_of(pool, block);
    torc_assert(pool->orders[index] != 0);
    torc_assert((pool->orders[index] & POOL_FREE) == 0);
    order = (uint32_t)pool->orders[index] - 1;
    pool->orders[index] = 0;
    while (order < pool->top_order) {
        uint32_t buddy = index ^ (1u << order);

        if ((uint64_t)buddy + (1u << order) > pool->count ||
            pool->orders[buddy] != ((order + 1) | POOL_FREE)) {
            break;
        }
        list_remove(pool, order, buddy);
        index &= ~(1u << order);
        order++;
    }
    list_push(pool, order, index);
}
