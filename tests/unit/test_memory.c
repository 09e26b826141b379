// Torc tests: mappings, and what a heap promises about its waste and its limit.
#include "storage/memory.h"
#include "storage/memory_os.h"
#include "tests/torc_test.h"

#include <string.h>

#define HEAP_BYTES (UINT64_C(64) << 20)

static struct torc_heap heap;

static void test_mappings_are_aligned(void)
{
    struct torc_mapping mapping;
    struct torc_fail why;

    TORC_TEST_OK(torc_mapping_open(&mapping, 5, &why), &why);
    CU_ASSERT_EQUAL((uintptr_t)mapping.base % (2u << 20), 0);
    CU_ASSERT_EQUAL(mapping.bytes, 2u << 20);
    memset(mapping.base, 1, mapping.bytes);
    torc_mapping_close(&mapping);
    CU_ASSERT_EQUAL(torc_mapping_open(&mapping, 0, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_mapping_open(&mapping, UINT64_C(1) << 60, &why), TORC_ERR_NO_SPACE);
}

static void test_a_heap_of_no_size_is_refused(void)
{
    struct torc_heap none;
    struct torc_fail why;

    CU_ASSERT_EQUAL(torc_heap_open(&none, 100, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_heap_open(&none, UINT64_MAX, &why), TORC_ERR_INVALID_ARGUMENT);
}

static void test_the_limit_holds(void)
{
    void *block;

    heap.limit_bytes = UINT64_C(5) * TORC_HEAP_UNIT_BYTES;
    block = torc_heap_alloc(&heap, 3 * TORC_HEAP_UNIT_BYTES);
    CU_ASSERT_PTR_NOT_NULL_FATAL(block);
    CU_ASSERT_PTR_NULL(torc_heap_alloc(&heap, 3 * TORC_HEAP_UNIT_BYTES));
    torc_heap_free(&heap, block, 3 * TORC_HEAP_UNIT_BYTES);
    CU_ASSERT_EQUAL(heap.used_bytes, 0);
    heap.limit_bytes = 0;
    CU_ASSERT_PTR_NULL(torc_heap_alloc(&heap, 1));
    heap.limit_bytes = HEAP_BYTES;
    CU_ASSERT_PTR_NULL(torc_heap_alloc(&heap, HEAP_BYTES + 1));
    block = torc_heap_alloc(&heap, HEAP_BYTES);
    CU_ASSERT_PTR_NOT_NULL(block);
    torc_heap_free(&heap, block, HEAP_BYTES);
}

// How many blocks of `bytes` are had, in a heap of one MiB; all of them are freed.
static uint32_t blocks_of(uint32_t bytes)
{
    static void *blocks[8192];
    uint32_t count = 0;

    heap.limit_bytes = UINT64_C(1) << 20;
    while ((blocks[count] = torc_heap_alloc(&heap, bytes)) != NULL) {
        memset(blocks[count], (int)(count & 0xff), bytes);
        count++;
    }
    for (uint32_t i = 0; i < count; i++) {
        torc_heap_free(&heap, blocks[i], bytes);
    }
    heap.limit_bytes = HEAP_BYTES;
    return count;
}

// A full heap of one size: 1/16 by the class, 1/20 at the slab's end, and what fits no slab more.
static void test_no_size_wastes_much(void)
{
    double worst = 0;
    double sum = 0;
    uint32_t sizes = 0;

    for (uint32_t bytes = 129; bytes <= 40000; bytes += 1 + bytes / 61) {
        double waste = 1 - (double)blocks_of(bytes) * bytes / (1 << 20);

        worst = waste > worst ? waste : worst;
        sum += waste;
        sizes++;
    }
    (void)printf("mean %.1f %%, worst %.1f %% … ", 100 * sum / sizes, 100 * worst);
    CU_ASSERT(worst < 0.15);
    CU_ASSERT(sum / sizes < 0.06);
}

#define SPARSE_COUNT 8000u

static void test_a_sweep_packs_what_deletes_left(void)
{
    static const void *blocks[SPARSE_COUNT];
    struct torc_rng rng = {torc_test_seed()};
    uint64_t user_bytes = 0;
    uint64_t before;

    for (uint32_t i = 0; i < SPARSE_COUNT; i++) {
        blocks[i] = torc_heap_alloc(&heap, 1000 + i % 500);
        CU_ASSERT_PTR_NOT_NULL_FATAL(blocks[i]);
    }
    for (uint32_t i = 0; i < SPARSE_COUNT; i++) {
        if (torc_rng_below(&rng, 2) == 0) {
            torc_heap_free(&heap, blocks[i], 1000 + i % 500);
            blocks[i] = NULL;
        } else {
            user_bytes += 1000 + i % 500;
        }
    }
    before = heap.used_bytes;
    CU_ASSERT(torc_heap_sparse_bytes(&heap) > before / 8);
    for (uint32_t i = 0; i < 2 * SPARSE_COUNT; i++) { // two sweeps
        const void **block = &blocks[i % SPARSE_COUNT];
        uint32_t bytes = 1000 + i % SPARSE_COUNT % 500;
        const void *at = *block == NULL ? NULL : torc_heap_move(&heap, *block, bytes);

        *block = at != NULL ? at : *block;
    }
    CU_ASSERT_PTR_NULL(torc_heap_check(&heap));
    CU_ASSERT(torc_heap_sparse_bytes(&heap) <= user_bytes / 50);
    CU_ASSERT(heap.used_bytes < user_bytes * 108 / 100);
    for (uint32_t i = 0; i < SPARSE_COUNT; i++) {
        if (blocks[i] != NULL) {
            torc_heap_free(&heap, blocks[i], 1000 + i % 500);
        }
    }
    CU_ASSERT_EQUAL(heap.used_bytes, 0);
}

static void test_the_checker_finds_damage(void)
{
    const void *one = torc_heap_alloc(&heap, 500);
    const void *other = torc_heap_alloc(&heap, 100000);

    CU_ASSERT_PTR_NULL(torc_heap_check(&heap));
    heap.units[0].used++;
    CU_ASSERT_PTR_NOT_NULL(torc_heap_check(&heap));
    heap.units[0].used--;
    heap.block_count++;
    CU_ASSERT_PTR_NOT_NULL(torc_heap_check(&heap));
    heap.block_count--;
    heap.units[1].kind ^= 3;
    CU_ASSERT_PTR_NOT_NULL(torc_heap_check(&heap));
    heap.units[1].kind ^= 3;
    torc_heap_free(&heap, one, 500);
    CU_ASSERT_PTR_NULL(torc_heap_check(&heap));
    torc_heap_free(&heap, other, 100000);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"mappings are aligned", test_mappings_are_aligned},
        {"a heap of no size is refused", test_a_heap_of_no_size_is_refused},
        {"the limit holds", test_the_limit_holds},
        {"no size wastes much", test_no_size_wastes_much},
        {"a sweep packs what deletes left", test_a_sweep_packs_what_deletes_left},
        {"the checker finds damage", test_the_checker_finds_damage},
        CU_TEST_INFO_NULL};
    struct torc_fail why;
    int status;

    if (torc_heap_open(&heap, HEAP_BYTES, &why) != TORC_ERR_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    status = torc_test_run("memory", tests);
    torc_heap_close(&heap);
    return status;
}
