// Torc tests: leaves put back in order. (That nothing else changes, model_tree.c compares.)
#include "storage/tree_impl.h"
#include "tests/tree_fixture.h"

enum {
    CHUNKS = 64,
    KEYS = 200000,
    STEP_LEAVES = 16
};

static struct torc_mapping mapping;
static struct torc_heap heap;

static void put_random(struct fixture *fixture, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct torc_tree_write write = {.key = torc_rng_below(&fixture->rng, UINT64_C(1) << 32),
                                        .version = i,
                                        .value = "sixteen bytes so",
                                        .value_bytes = 16};

        TORC_TEST_OK(torc_tree_write(&fixture->tree, &write, &fixture->why), &fixture->why);
    }
}

// Of a thousand leaves, how many lie shortly behind the one before.
static uint32_t in_order_permille(const struct torc_tree *tree)
{
    struct torc_tree_path path;
    uint64_t near = 0;
    uint32_t last;

    torc_tree_path_find(tree, 0, &path);
    last = path.nodes[0];
    while (torc_tree_path_step(tree, &path, true)) {
        near += path.nodes[0] - last - 1u < 4;
        last = path.nodes[0];
    }
    return (uint32_t)(near * 1000 / tree->leaf_count);
}

static uint32_t steps_to_order(struct torc_tree *tree)
{
    uint32_t steps = 0;

    while (torc_tree_order(tree, STEP_LEAVES)) {
        steps++;
    }
    return steps;
}

static void test_scattered_leaves_come_in_order(void)
{
    struct fixture fixture;
    uint32_t chunk_count;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    put_random(&fixture, KEYS);
    chunk_count = fixture.tree.chunks.chunk_count;
    CU_ASSERT(in_order_permille(&fixture.tree) < 100);
    CU_ASSERT(steps_to_order(&fixture.tree) >= fixture.tree.leaf_count / STEP_LEAVES / 2);
    CU_ASSERT(in_order_permille(&fixture.tree) > 950);
    CU_ASSERT_EQUAL(fixture.tree.chunks.chunk_count, chunk_count);
    TORC_TEST_OK(torc_tree_check(&fixture.tree, &fixture.why), &fixture.why);
    // Nothing has changed since: nothing is done.
    CU_ASSERT_FALSE(torc_tree_order(&fixture.tree, STEP_LEAVES));
    // A part of the keys gets more records: leaves in order elsewhere stay where they are.
    for (uint32_t i = 0; i < KEYS / 20; i++) {
        struct torc_tree_write write = {.key = torc_rng_below(&fixture.rng, UINT64_C(1) << 28),
                                        .version = i,
                                        .value = "sixteen bytes so",
                                        .value_bytes = 16};

        TORC_TEST_OK(torc_tree_write(&fixture.tree, &write, &fixture.why), &fixture.why);
    }
    CU_ASSERT(steps_to_order(&fixture.tree) < fixture.tree.leaf_count / STEP_LEAVES / 3);
    CU_ASSERT(in_order_permille(&fixture.tree) > 900);
    fixture_close(&fixture);
}

// Between two steps anything may happen, also that chunks which a pass has chosen are given back.
static void test_a_pass_goes_on_whatever_changes(void)
{
    struct fixture fixture;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    put_random(&fixture, KEYS / 4);
    for (uint32_t round = 0; round < 200; round++) {
        bool grow = round % 50 < 35;

        (void)torc_tree_order(&fixture.tree, 1 + (uint32_t)torc_rng_below(&fixture.rng, 300));
        if (grow) {
            put_random(&fixture, 1000);
        }
        for (uint32_t i = 0; !grow && i < 4000; i++) {
            struct torc_tree_cursor cursor;
            struct torc_tree_pair pair;
            struct torc_tree_write write = {.remove = true};

            torc_tree_cursor_open(&cursor, torc_rng_below(&fixture.rng, UINT64_C(1) << 30),
                                  UINT64_MAX, false);
            if (torc_tree_scan(&fixture.tree, &cursor, &pair, 1) == 1) {
                write.key = pair.key;
                TORC_TEST_OK(torc_tree_write(&fixture.tree, &write, &fixture.why), &fixture.why);
            }
        }
    }
    fixture_close(&fixture);
}

// Two trees of a pool hand chunks to each other: a mark of one says nothing to the other.
static void test_two_trees_share_a_pool(void)
{
    struct fixture fixture;
    struct torc_tree first;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    for (uint32_t round = 0; round < 10; round++) {
        first = fixture.tree;
        TORC_TEST_OK(torc_tree_init(&fixture.tree, torc_tree_code_best(), &fixture.pool, &heap,
                                    &fixture.why),
                     &fixture.why);
        put_random(&fixture, 20000);
        (void)torc_tree_order(&first, 10);
        (void)torc_tree_order(&fixture.tree, 100);
        torc_tree_drop(&first);
        (void)torc_tree_order(&fixture.tree, 10);
        TORC_TEST_OK(torc_tree_check(&fixture.tree, &fixture.why), &fixture.why);
    }
    fixture_close(&fixture);
}

static void test_small_trees_have_nothing_to_order(void)
{
    struct fixture fixture;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    CU_ASSERT_FALSE(torc_tree_order(&fixture.tree, STEP_LEAVES));
    put_random(&fixture, 500);
    CU_ASSERT_FALSE(torc_tree_order(&fixture.tree, STEP_LEAVES));
    fixture_close(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"scattered leaves come in order", test_scattered_leaves_come_in_order},
        {"a pass goes on whatever changes", test_a_pass_goes_on_whatever_changes},
        {"two trees share a pool", test_two_trees_share_a_pool},
        {"small trees have nothing to order", test_small_trees_have_nothing_to_order},
        CU_TEST_INFO_NULL};
    struct torc_fail why;
    int status;

    if (torc_mapping_open(&mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, &why) != TORC_ERR_OK ||
        torc_heap_open(&heap, UINT64_C(64) << 20, &why) != TORC_ERR_OK) {
        return 1;
    }
    status = torc_test_run("tree-order", tests);
    torc_heap_close(&heap);
    torc_mapping_close(&mapping);
    return status;
}
