// Torc dataplane: large values put together while there is time, and what memory is used for. See
// worker.h, storage/memory.h, kit/stats.h.
#include "dataplane/worker_state.h"
#include "storage/leaf.h"

// Sweeps begin when they could win this share of the heap, and this much.
#define PACK_SHARE     8u
#define PACK_BYTES_MIN (UINT64_C(256) << 10)
// Of one turn: some 10 us, a tenth of what queue_target_us allows.
#define PACK_LEAVES     8u
#define PACK_MOVE_BYTES (UINT64_C(32) << 10)
// When a sweep won little, because what is sparse belongs to pending writes or to the undo window.
#define PACK_REST_NS UINT64_C(1000000000)
// What is done to give back chunks that deletes left sparse (torc_tree_compact): 32 steps, some 11
// us, in 10 ms, a quarter of it beside requests. More often when the pool has few chunks left.
#define COMPACT_NS         UINT64_C(10000000)
#define COMPACT_SOON_NS    UINT64_C(1000000)
#define COMPACT_STEPS      32u
#define COMPACT_STEPS_BUSY 8u
#define COMPACT_POOL_PART  16u
// Leaves looked at with each update of the gauges, and how many count before older ones fade.
#define LOOK_LEAVES 64u
#define LOOK_SUM    4096u

static struct torc_tree *pack_tree(struct torc_worker *worker, uint32_t index)
{
    return &worker->shards[index].engine.tree;
}

void torc_worker_pack_look(struct torc_worker *worker)
{
    const struct torc_heap *heap = worker->config.heap;
    struct torc_worker_pack *pack = &worker->pack;
    uint64_t sparse_bytes;

    if (pack->running || worker->now_ns < pack->rest_ns || !worker->serving) {
        return;
    }
    sparse_bytes = torc_heap_sparse_bytes(heap);
    if (sparse_bytes < PACK_BYTES_MIN || sparse_bytes * PACK_SHARE < heap->used_bytes) {
        return;
    }
    *pack = (struct torc_worker_pack){.running = true, .sparse_bytes = sparse_bytes};
}

bool torc_worker_pack_step(struct torc_worker *worker)
{
    struct torc_worker_pack *pack = &worker->pack;
    uint64_t moved_bytes = pack->sweep.moved_bytes;

    if (!pack->running) {
        return false;
    }
    if (pack->shard < worker->shard_count) {
        if (!torc_worker_is_open(worker, pack->shard) ||
            !torc_tree_sweep(pack_tree(worker, pack->shard), &pack->sweep, PACK_LEAVES,
                             PACK_MOVE_BYTES)) {
            pack->shard++;
            pack->sweep.next = 0;
        }
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_PACKED_BYTES],
                       pack->sweep.moved_bytes - moved_bytes);
        return true;
    }
    pack->running = false;
    if (torc_heap_sparse_bytes(worker->config.heap) > pack->sparse_bytes / 2) {
        pack->rest_ns = worker->now_ns + PACK_REST_NS;
    }
    return false;
}

bool torc_worker_compact_step(struct torc_worker *worker, bool busy)
{
    struct torc_worker_compact *compact = &worker->compact;
    bool scarce =
        torc_chunk_pool_free(&worker->chunks) < worker->chunks.chunk_count / COMPACT_POOL_PART;

    if (!worker->serving || worker->quiescing ||
        worker->now_ns - compact->last_ns < (scarce ? COMPACT_SOON_NS : COMPACT_NS)) {
        return compact->more;
    }
    compact->last_ns = worker->now_ns;
    compact->more = false;
    for (uint32_t i = 0; i < worker->shard_count && !compact->more; i++) {
        uint32_t place = compact->shard++ % worker->shard_count;
        struct torc_tree *tree = pack_tree(worker, place);
        uint64_t moved_nodes = tree->compact.moved_nodes;

        if (!torc_worker_is_open(worker, place)) {
            continue;
        }
        compact->more =
            torc_tree_compact(tree, busy && !scarce ? COMPACT_STEPS_BUSY : COMPACT_STEPS);
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_COMPACTED_NODES],
                       tree->compact.moved_nodes - moved_nodes);
    }
    return compact->more;
}

// How full leaves are, from a sample that goes round and round.
static uint64_t leaves_used(struct torc_worker *worker, uint64_t leaf_bytes)
{
    struct torc_worker_look *look = &worker->look;

    for (uint32_t i = 0; i < worker->shard_count && look->sweep.leaf_count < LOOK_LEAVES; i++) {
        uint32_t shard = look->shard % worker->shard_count;

        if (!torc_worker_is_open(worker, shard) ||
            !torc_tree_sweep(pack_tree(worker, shard), &look->sweep,
                             LOOK_LEAVES - look->sweep.leaf_count, 0)) {
            look->shard = shard + 1;
            look->sweep.next = 0;
        }
    }
    look->leaf_count += look->sweep.leaf_count;
    look->used_bytes += look->sweep.used_bytes;
    look->sweep.leaf_count = 0;
    look->sweep.used_bytes = 0;
    if (look->leaf_count > LOOK_SUM) {
        look->leaf_count /= 2;
        look->used_bytes /= 2;
    }
    return look->leaf_count == 0
               ? 0
               : leaf_bytes / TORC_NODE_BYTES * (look->used_bytes / look->leaf_count);
}

uint32_t torc_worker_fresh(const struct torc_worker *worker)
{
    return torc_chunk_pool_fresh(&worker->chunks);
}

void torc_worker_books(struct torc_worker *worker)
{
    _Atomic uint64_t *books = worker->stats->memory;
    struct torc_heap_memory large;
    uint64_t leaves = 0;
    uint64_t inners = 0;
    uint64_t free_nodes = 0;
    uint64_t chunks = 0;
    uint64_t guides = 0;
    uint64_t used_bytes;

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_tree *tree = pack_tree(worker, i);

        leaves += tree->leaf_count;
        inners += tree->inner_count;
        free_nodes += tree->chunks.free_nodes;
        chunks += tree->chunks.chunk_count;
        guides += tree->guide.chunk_count;
    }
    used_bytes = leaves_used(worker, leaves * TORC_NODE_BYTES);
    torc_heap_memory(worker->config.heap, &large);
    torc_stats_set(&books[TORC_MEMORY_LEAVES_USED], used_bytes);
    torc_stats_set(&books[TORC_MEMORY_LEAVES_FREE], leaves * TORC_NODE_BYTES - used_bytes);
    torc_stats_set(&books[TORC_MEMORY_INNERS],
                   inners * TORC_NODE_BYTES + guides * TORC_CHUNK_BYTES);
    torc_stats_set(&books[TORC_MEMORY_NODES_FREE], free_nodes * TORC_NODE_BYTES);
    torc_stats_set(&books[TORC_MEMORY_CHUNK_HEADERS], chunks * TORC_NODE_BYTES);
    torc_stats_set(&books[TORC_MEMORY_CHUNKS_FREE],
                   (uint64_t)worker->chunks.free_count * TORC_CHUNK_BYTES);
    torc_stats_set(&books[TORC_MEMORY_LARGE_VALUES],
                   large.user_bytes - worker->pool.undo.large_bytes);
    torc_stats_set(&books[TORC_MEMORY_LARGE_UNDO], worker->pool.undo.large_bytes);
    torc_stats_set(&books[TORC_MEMORY_LARGE_ROUNDING], large.class_bytes);
    torc_stats_set(&books[TORC_MEMORY_LARGE_SLABS], large.slab_bytes);
    torc_stats_set(&books[TORC_MEMORY_LARGE_FREE], large.free_bytes);
    torc_stats_set(&books[TORC_MEMORY_LARGE_TABLE], large.table_bytes);
}
