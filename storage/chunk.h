// Torc storage: chunks, the pieces of the node's mapping that shards own.
//
// What    one mapping of the process (huge pages where there are some) is cut into chunks of 256
//         KiB, and a chunk into nodes of 1 KiB. A pool holds the free chunks of one core; a tree
//         takes chunks from it, fills them with its nodes, and gives an empty chunk back at once.
//         So a shard can change its core along with its chunks, and a dropped shard costs one step
//         a chunk. A node is named by a u32, its index in the mapping: 4 TiB at most.
// Owner   a pool: its core. A chunk: the tree that took it, until it is given back.
// Memory  the caller's mapping, aligned to a chunk; the pool only hands it out. A chunk's first
//         node is its header. Chunks never used are never touched, so they cost no memory.
// Invariants
//   K1  A chunk is in the pool, or belongs to exactly one set or guide (storage/tree_guide.h).
//   K2  A set lists exactly its chunks with a free node, by how full they are.
// Why     Nodes are taken from the fullest chunks, so that sparse ones may drain. What random
//         deletes leave there the tree moves out of the sparsest (storage/tree_compact.c).
#ifndef TORC_STORAGE_CHUNK_H
#define TORC_STORAGE_CHUNK_H

#include "kit/base.h"

#include <stdatomic.h>

#define TORC_NODE_BYTES   1024u
#define TORC_CHUNK_BYTES  262144u
#define TORC_CHUNK_NODES  (TORC_CHUNK_BYTES / TORC_NODE_BYTES) // the header's included
#define TORC_CHUNK_USABLE (TORC_CHUNK_NODES - 1u)
#define TORC_CHUNK_LISTS  8u // of open chunks: of one all have the same eighth in use
#define TORC_CHUNK_NONE   UINT32_MAX
#define TORC_NODE_NONE    UINT32_MAX
#define TORC_CHUNKS_MAX   (UINT32_MAX / TORC_CHUNK_NODES)

// The free chunks of one core. Several pools may cut one mapping: node numbers count from its
// start.
struct torc_chunk_pool {
    unsigned char *base;
    uint32_t fresh_first; // chunks [fresh_first, fresh_end) were never used
    uint32_t fresh_end;
    uint32_t free_head; // chunks given back, linked through their headers
    uint32_t free_count;
    uint32_t chunk_count; // all that this pool answers for: free ones and those with its trees
    uint32_t marks;       // handed out
    uint64_t stamp;       // no change_stamp of a tree that is gone is above it
    _Atomic uint32_t fresh_said; // fresh_first, for the thread that touches memory ahead
};

// The chunks of one tree.
struct torc_chunk_set {
    struct torc_chunk_pool *pool;
    unsigned char *base;                   // the pool's
    uint32_t open_heads[TORC_CHUNK_LISTS]; // chunks with a free node
    uint32_t chunk_head;                   // all chunks
    uint32_t chunk_count;
    uint64_t free_nodes; // in all chunks together
    uint64_t given;      // chunks given back, ever: nodes of an older count may be another set's
    uint32_t looked;     // the next one that torc_chunk_look gives
    uint32_t leaving;    // from which nodes are taken last; TORC_CHUNK_NONE: no such
};

// The mapping starts at `base`, aligned to TORC_CHUNK_BYTES; this pool gets the chunks
// [first, first + count) of it.
void torc_chunk_pool_init(struct torc_chunk_pool *pool, void *base, uint32_t first, uint32_t count);

// fresh_first, asked by another thread: of a moment ago.
static inline uint32_t torc_chunk_pool_fresh(const struct torc_chunk_pool *pool)
{
    return atomic_load_explicit(&pool->fresh_said, memory_order_relaxed);
}

// Chunks that can still be taken.
uint32_t torc_chunk_pool_free(const struct torc_chunk_pool *pool);

// A whole chunk, for something else than nodes; TORC_CHUNK_NONE when the pool is empty.
uint32_t torc_chunk_pool_take(struct torc_chunk_pool *pool);
void torc_chunk_pool_give(struct torc_chunk_pool *pool, uint32_t chunk);

void torc_chunk_set_init(struct torc_chunk_set *set, struct torc_chunk_pool *pool);

// Takes one more chunk from the pool; false when the pool is empty.
bool torc_must_use torc_chunk_set_grow(struct torc_chunk_set *set);

// A free node, in the chunk of node `near` if it has one, else (or TORC_NODE_NONE) in one of the
// fullest. The set must have a free node: the caller reserved it.
uint32_t torc_chunk_node_take(struct torc_chunk_set *set, uint32_t near);

// Gives a node back. An empty chunk goes back to the pool when the set keeps `keep_nodes` free
// nodes without it.
void torc_chunk_node_give(struct torc_chunk_set *set, uint32_t node, uint64_t keep_nodes);

// Gives a chunk back that is empty and not needed for `keep_nodes`; false when it is not so.
bool torc_chunk_give(struct torc_chunk_set *set, uint32_t chunk, uint64_t keep_nodes);

// One of the sparsest chunks is to be left, until it is empty or stays: TORC_CHUNK_NONE when all
// are full.
uint32_t torc_chunk_leave(struct torc_chunk_set *set);
void torc_chunk_stay(struct torc_chunk_set *set);

// Nodes in use.
uint32_t torc_chunk_used(const struct torc_chunk_set *set, uint32_t chunk);

// Gives back every chunk of the set, whatever is in it.
void torc_chunk_set_drop(struct torc_chunk_set *set);

// A way through the set's chunks that may change meanwhile: those it has at the beginning and still
// has when it comes there. TORC_CHUNK_NONE at the end.
void torc_chunk_look_begin(struct torc_chunk_set *set);
uint32_t torc_chunk_look(struct torc_chunk_set *set);

// A number that no chunk of the pool's sets is marked with; never 0. A mark stays until the chunk
// is given back.
uint32_t torc_chunk_mark_new(struct torc_chunk_pool *pool);
void torc_chunk_mark(const struct torc_chunk_set *set, uint32_t chunk, uint32_t mark);
uint32_t torc_chunk_marked(const struct torc_chunk_set *set, uint32_t chunk);

// The next node in use from `slot` on, within the chunk; TORC_CHUNK_NODES: no more.
uint32_t torc_chunk_taken_next(const struct torc_chunk_set *set, uint32_t chunk, uint32_t slot);

// Walks K1 and K2; false and one of them is broken.
bool torc_must_use torc_chunk_set_check(const struct torc_chunk_set *set);

static inline void *torc_node_at(unsigned char *base, uint32_t node)
{
    return base + (uint64_t)node * TORC_NODE_BYTES;
}

#endif
