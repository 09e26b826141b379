// Torc tests: the heap of large values against a table of blocks: what was written into a block is
// there until it is freed, wherever it was moved to; and the heap's own books hold.
#include "storage/memory.h"
#include "storage/memory_os.h"
#include "tests/torc_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define WORLDS 8u // each fills every byte that it takes
#else
#define WORLDS 24u
#endif
#define WORLDS_MAX 64u // while none was refused: every other world has a limit that it meets

enum {
    BLOCKS_MAX = 4000,
    WORLD_OPS = 60000,
    HEAP_BYTES = 256 << 20,
};

struct block {
    unsigned char *bytes; // NULL: none
    uint32_t count;
    uint32_t seed;
};

// How a block is moved: torc_heap_move, or a planted fault.
typedef const void *(*move_block)(struct torc_heap *heap, const void *value, uint32_t bytes);

struct world {
    struct torc_rng rng;
    struct torc_heap *heap;
    move_block move;
    uint32_t kind;     // of sizes
    uint32_t free_ppm; // turns around, so that the heap fills and empties
    uint64_t user_bytes;
    uint64_t count;
    uint64_t ops;
    uint64_t refused;
    const char *wrong;
    struct block blocks[BLOCKS_MAX];
};

static struct world the_world; // large, and one at a time

static void broken(struct world *world, const char *text)
{
    world->wrong = world->wrong == NULL ? text : world->wrong;
}

static uint32_t draw_bytes(struct world *world)
{
    uint32_t log = 3 + (uint32_t)torc_rng_below(&world->rng, 14);

    switch (world->kind) {
    case 0: return 129 + (uint32_t)torc_rng_below(&world->rng, 400); // neighbouring classes
    case 1: return 1000 + (uint32_t)torc_rng_below(&world->rng, 3) * 1000;
    case 2: return 1 + (uint32_t)torc_rng_below(&world->rng, 200000);
    case 3: // around the edges of classes
        return (1u << log) + (1u << log) / 16 * (uint32_t)torc_rng_below(&world->rng, 16) +
               (uint32_t)torc_rng_below(&world->rng, 3);
    default: return 1 + (uint32_t)torc_rng_below(&world->rng, UINT64_C(1) << log);
    }
}

// The bytes of a block are a row that begins with its seed. Only ends and a few between are looked
// at in long ones.
static void block_fill(const struct block *block)
{
    for (uint32_t i = 0; i < block->count; i++) {
        block->bytes[i] = (unsigned char)(block->seed + i * 37);
    }
}

static bool block_holds(const struct block *block)
{
    uint32_t step = block->count > 4096 ? 509 : 1;

    for (uint32_t i = 0; i < block->count; i += step) {
        if (block->bytes[i] != (unsigned char)(block->seed + i * 37)) {
            return false;
        }
    }
    return block->bytes[block->count - 1] == (unsigned char)(block->seed + (block->count - 1) * 37);
}

static void op_alloc(struct world *world, struct block *block)
{
    block->count = draw_bytes(world);
    block->seed = (uint32_t)torc_rng_next(&world->rng);
    block->bytes = torc_heap_alloc(world->heap, block->count);
    if (block->bytes == NULL) {
        world->refused++;
        return;
    }
    if ((uintptr_t)block->bytes % 8 != 0) {
        broken(world, "a block is not aligned");
    }
    block_fill(block);
    world->count++;
    world->user_bytes += block->count;
}

static void op_free(struct world *world, struct block *block)
{
    if (!block_holds(block)) {
        broken(world, "a block lost what was in it");
    }
    torc_heap_free(world->heap, block->bytes, block->count);
    world->count--;
    world->user_bytes -= block->count;
    block->bytes = NULL;
}

// A part of a sweep, or a whole one; a second whole one right behind finds nothing.
static uint64_t op_sweep(struct world *world, uint32_t first, uint32_t count)
{
    uint64_t moved = 0;

    for (uint32_t i = first; i < first + count && i < BLOCKS_MAX; i++) {
        struct block *block = &world->blocks[i];
        const void *at =
            block->bytes == NULL ? NULL : world->move(world->heap, block->bytes, block->count);

        if (at != NULL) {
            memcpy(&block->bytes, &at, sizeof(at));
            moved++;
        }
    }
    return moved;
}

static void op_check(struct world *world)
{
    struct torc_heap_memory memory;
    const char *wrong = torc_heap_check(world->heap);

    torc_heap_memory(world->heap, &memory);
    if (wrong != NULL) {
        broken(world, wrong);
    }
    if (world->heap->block_count != world->count || memory.user_bytes != world->user_bytes) {
        broken(world, "the heap counts its blocks wrongly");
    }
    if (world->heap->used_bytes > world->heap->limit_bytes) {
        broken(world, "the heap is over its limit");
    }
    if (memory.user_bytes + memory.class_bytes + memory.slab_bytes != world->heap->used_bytes) {
        broken(world, "the heap's bytes do not add up");
    }
}

// A whole sweep, as often as it moves something: packed, but for what squares cannot tell apart.
static void op_pack(struct world *world)
{
    uint32_t sweeps = 0;

    while (op_sweep(world, 0, BLOCKS_MAX) > 0) {
        if (++sweeps > 100) {
            broken(world, "sweeps do not end");
            return;
        }
    }
    if (torc_heap_sparse_bytes(world->heap) > 0) {
        broken(world, "a packed heap is sparse");
    }
}

static void world_step(struct world *world)
{
    struct block *block = &world->blocks[torc_rng_below(&world->rng, BLOCKS_MAX)];
    uint64_t kind = torc_rng_below(&world->rng, 1000);

    if (torc_rng_below(&world->rng, 3000) == 0) {
        world->free_ppm = (uint32_t)torc_rng_below(&world->rng, 1000001);
    }
    if (torc_rng_below(&world->rng, 9000) == 0) {
        world->kind = (uint32_t)torc_rng_below(&world->rng, 5);
    }
    if (kind < 2) {
        op_pack(world);
    } else if (kind < 10) {
        (void)op_sweep(world, (uint32_t)torc_rng_below(&world->rng, BLOCKS_MAX), 200);
    } else if (kind < 14) {
        op_check(world);
    } else if (block->bytes != NULL && kind < 700) {
        op_free(world, block);
        if (!torc_rng_chance(&world->rng, world->free_ppm)) { // overwritten by another size
            op_alloc(world, block);
        }
    } else if (block->bytes == NULL && !torc_rng_chance(&world->rng, world->free_ppm)) {
        op_alloc(world, block);
    }
    world->ops++;
}

static void world_run(struct world *world, struct torc_heap *heap, uint64_t seed, move_block move)
{
    memset(world, 0, sizeof(*world));
    world->rng.state = seed;
    world->heap = heap;
    world->move = move;
    world->kind = (uint32_t)torc_rng_below(&world->rng, 5);
    world->free_ppm = 100000;
    heap->limit_bytes = torc_rng_below(&world->rng, 2) == 0
                            ? HEAP_BYTES
                            : 4096 + torc_rng_below(&world->rng, 4 << 20);
    while (world->wrong == NULL && world->ops < WORLD_OPS) {
        world_step(world);
    }
    for (uint32_t i = 0; world->wrong == NULL && i < BLOCKS_MAX; i++) {
        if (world->blocks[i].bytes != NULL) {
            op_free(world, &world->blocks[i]);
        }
    }
    if (world->wrong == NULL) {
        op_check(world);
    }
    if (world->wrong == NULL && (heap->used_bytes != 0 || heap->fresh != 0)) {
        broken(world, "an empty heap holds units");
    }
}

static void test_blocks_keep_what_was_written(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_heap heap;
    struct torc_fail why;
    uint64_t refused = 0;
    uint64_t moved = 0;
    uint32_t worlds = 0;

    TORC_TEST_OK(torc_heap_open(&heap, HEAP_BYTES, &why), &why);
    while ((worlds < WORLDS || (refused == 0 && worlds < WORLDS_MAX)) && the_world.wrong == NULL) {
        uint64_t seed = torc_rng_next(&rng);

        worlds++;
        world_run(&the_world, &heap, seed, torc_heap_move);
        refused += the_world.refused;
        if (the_world.wrong != NULL) {
            (void)fprintf(stderr, "world %" PRIu64 ", operation %" PRIu64 ": %s\n", seed,
                          the_world.ops, the_world.wrong);
        }
    }
    moved = heap.moved_count;
    CU_ASSERT_PTR_NULL(the_world.wrong);
    CU_ASSERT(refused > 0);
    CU_ASSERT(moved > 0);
    (void)printf("%u operations, %" PRIu64 " refused, %" PRIu64 " moved … ", worlds * WORLD_OPS,
                 refused, moved);
    torc_heap_close(&heap);
}

// -- Planted faults ------------------------------------------------------------------------------

static const void *move_forgetting(struct torc_heap *heap, const void *value, uint32_t bytes)
{
    const void *at = torc_heap_move(heap, value, bytes);
    unsigned char *last;

    if (at != NULL) {
        memcpy(&last, &at, sizeof(last));
        last[bytes - 1] ^= heap->moved_count % 1000 == 0 ? 1 : 0;
    }
    return at;
}

static bool fault_found(move_block move)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_heap heap;
    struct torc_fail why;
    bool found = false;

    TORC_TEST_OK(torc_heap_open(&heap, HEAP_BYTES, &why), &why);
    for (uint32_t i = 0; i < 20 && !found; i++) {
        world_run(&the_world, &heap, torc_rng_next(&rng), move);
        found = the_world.wrong != NULL;
    }
    torc_heap_close(&heap);
    return found;
}

static void test_finds_a_move_that_loses_a_byte(void)
{
    CU_ASSERT_TRUE(fault_found(move_forgetting));
    CU_ASSERT_PTR_NOT_NULL(strstr(the_world.wrong, "lost what was in it"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"blocks keep what was written", test_blocks_keep_what_was_written},
        {"a move that loses a byte is found", test_finds_a_move_that_loses_a_byte},
        CU_TEST_INFO_NULL};

    return torc_test_run("memory", tests);
}
