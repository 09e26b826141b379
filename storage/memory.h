// Torc storage: the bounded heap of one core, from which large values come.
//
// What    alloc and free with a limit in bytes, over a mimalloc heap that an edge made and passes
//         in (storage/memory_os.h). NULL means full, and is answered with NO_SPACE; never the
//         system's memory. Under the sanitizers (TORC_HEAP_MALLOC) it is plain malloc with the same
//         limit, so that use after free is seen.
// Owner   the core whose thread made the mimalloc heap: only it may allocate. Freeing elsewhere is
//         legal for mimalloc but not counted here: send a block home.
// Memory  blocks belong to whoever asked; `used_bytes` counts what they take (mimalloc's own
//         rounding included), `limit_bytes` bounds it.
// Sources mimalloc 2.0.9 as packaged by Debian 12.
#ifndef TORC_STORAGE_MEMORY_H
#define TORC_STORAGE_MEMORY_H

#include "kit/base.h"

#include <string.h>

#ifdef TORC_HEAP_MALLOC
struct mi_heap_s;

// Before each block, so that closing a heap frees them all, as mimalloc does.
struct torc_heap_link {
    struct torc_heap_link *next;
    struct torc_heap_link *prev;
};
#else
#include <mimalloc.h>
#endif

struct torc_heap {
    struct mi_heap_s *heap; // mi_heap_t; NULL under TORC_HEAP_MALLOC
    uint64_t limit_bytes;
    uint64_t used_bytes;
    uint64_t block_count;
#ifdef TORC_HEAP_MALLOC
    struct torc_heap_link *blocks;
#endif
};

#ifdef TORC_HEAP_MALLOC

static inline void *torc_heap_take(struct torc_heap *heap, uint32_t bytes)
{
    struct torc_heap_link *link = __builtin_malloc(sizeof(*link) + bytes);

    if (link == NULL) {
        return NULL;
    }
    *link = (struct torc_heap_link){.next = heap->blocks};
    if (link->next != NULL) {
        link->next->prev = link;
    }
    heap->blocks = link;
    return link + 1;
}

static inline void torc_heap_give(struct torc_heap *heap, void *block)
{
    struct torc_heap_link *link = (struct torc_heap_link *)block - 1;

    if (link->next != NULL) {
        link->next->prev = link->prev;
    }
    if (link->prev != NULL) {
        link->prev->next = link->next;
    } else {
        heap->blocks = link->next;
    }
    __builtin_free(link);
}

#endif

static inline uint64_t torc_heap_block_bytes(const void *block, uint32_t asked_bytes)
{
#ifdef TORC_HEAP_MALLOC
    (void)block;
    return asked_bytes;
#else
    (void)asked_bytes;
    return mi_usable_size(block);
#endif
}

// A block of at least `bytes` (1 or more), 8-byte aligned; NULL when the heap is full.
static inline void *torc_heap_alloc(struct torc_heap *heap, uint32_t bytes)
{
    void *block;

    torc_assert(bytes > 0);
    if (heap->limit_bytes - heap->used_bytes < bytes) {
        return NULL;
    }
#ifdef TORC_HEAP_MALLOC
    block = torc_heap_take(heap, bytes);
#else
    block = mi_heap_malloc(heap->heap, bytes);
#endif
    if (block != NULL) {
        uint64_t block_bytes = torc_heap_block_bytes(block, bytes);

        // Rounding may step over the limit by part of one block; the limit is then simply reached.
        heap->used_bytes += torc_min_u64(block_bytes, heap->limit_bytes - heap->used_bytes);
        heap->block_count++;
    }
    return block;
}

// `bytes` as given to torc_heap_alloc.
static inline void torc_heap_free(struct torc_heap *heap, const void *value, uint32_t bytes)
{
    void *block;

    memcpy(&block, &value, sizeof(block)); // a value is const to all but the heap
    torc_assert(heap->block_count > 0);
    heap->used_bytes -= torc_min_u64(torc_heap_block_bytes(block, bytes), heap->used_bytes);
    heap->block_count--;
    heap->used_bytes = heap->block_count == 0 ? 0 : heap->used_bytes;
#ifdef TORC_HEAP_MALLOC
    torc_heap_give(heap, block);
#else
    mi_free(block);
#endif
}

#endif
