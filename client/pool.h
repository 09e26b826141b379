// Torc client: the memory of one queue, cut into blocks of powers of two.
//
// What    a buddy allocator over one mapping that the edge hands in: values and pages in flight.
// Owner   the queue's thread.
// Memory  the mapping; 1/256 of it is bookkeeping. Untouched parts cost nothing on Linux.
// Invariants
//   P1  a free block's buddy of the same order is not free (they were joined).
//   P2  a block is aligned to its size, counted from the start of the first block.
// Sources Knuth, TAOCP 2.5.
#ifndef TORC_CLIENT_POOL_H
#define TORC_CLIENT_POOL_H

#include "kit/base.h"

#define TORC_POOL_BLOCK_BYTES 256u // the least: small values live in their operation's slot instead
#define TORC_POOL_ORDERS      24u  // up to 2 GiB in one block

struct torc_pool_free {
    struct torc_pool_free *next;
    struct torc_pool_free *previous;
};

struct torc_pool {
    uint8_t *blocks; // the first block
    uint8_t *orders; // one byte a least block: order + 1 at a block's start, TORC_POOL_FREE added
    uint32_t count;  // least blocks
    uint32_t top_order; // the largest order in use
    uint64_t free_bytes;
    struct torc_pool_free lists[TORC_POOL_ORDERS]; // heads of rings
};

// `memory` is zero-filled and aligned to 4096; at least 64 KiB.
void torc_pool_init(struct torc_pool *pool, void *memory, uint64_t bytes);

// NULL when no block is large enough. bytes > 0.
void *torc_pool_take(struct torc_pool *pool, uint64_t bytes);

// NULL is allowed.
void torc_pool_give(struct torc_pool *pool, void *block);

#endif
