// Torc tests: memory given back after deletes. (That nothing else changes, model_tree.c compares.)
#include "storage/tree_impl.h"
#include "tests/tree_fixture.h"

#include <string.h>

enum {
    CHUNKS = 64,
    KEYS = 200000,
    STEPS = 16,
    VALUE_BYTES = 16
};

static struct torc_mapping mapping;
static struct torc_heap heap;

static uint64_t key_of(uint64_t i)
{
    return i * UINT64_C(0x9e3779b97f4a7c15) >> 32;
}

static void put(struct fixture *fixture, struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_write write = {
        .key = key, .version = key, .value = "sixteen bytes so", .value_bytes = VALUE_BYTES};

    TORC_TEST_OK(torc_tree_write(tree, &write, &fixture->why), &fixture->why);
}

static void drop(struct fixture *fixture, uint64_t key)
{
    struct torc_tree_write write = {.key = key, .version = key, .remove = true};

    TORC_TEST_OK(torc_tree_write(&fixture->tree, &write, &fixture->why), &fixture->why);
    CU_ASSERT(write.existed);
}

// All keys in no order; then all are deleted but one in `left`.
static void put_and_drop(struct fixture *fixture, uint32_t left)
{
    for (uint64_t i = 0; i < KEYS; i++) {
        put(fixture, &fixture->tree, key_of(i));
    }
    for (uint64_t i = 0; i < KEYS; i++) {
        if (i % left != 0) {
            drop(fixture, key_of(i));
        }
    }
}

static uint32_t compact(struct torc_tree *tree)
{
    uint32_t calls = 0;

    while (torc_tree_compact(tree, STEPS)) {
        calls++;
    }
    return calls;
}

static double bytes_per_key(const struct torc_tree *tree)
{
    return (double)tree->chunks.chunk_count * TORC_CHUNK_BYTES / (double)tree->record_count;
}

static void test_deleted_memory_goes_back_to_the_pool(void)
{
    struct fixture fixture;
    struct torc_tree other;
    double fresh;
    uint32_t free_chunks;
    uint32_t chunk_count;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    put_and_drop(&fixture, 10);
    chunk_count = fixture.tree.chunks.chunk_count;
    CU_ASSERT(compact(&fixture.tree) > 1);
    TORC_TEST_OK(torc_tree_check(&fixture.tree, &fixture.why), &fixture.why);
    CU_ASSERT(torc_tree_spare(&fixture.tree) <= torc_tree_spare_max(&fixture.tree));
    CU_ASSERT(fixture.tree.chunks.chunk_count * 5 < chunk_count);
    // Leaves are filled to 7/8 now; apart from the chunks that may stay, that is near a fresh tree.
    fresh = (8 + 8 + VALUE_BYTES) * 1.10 * 1.25;
    CU_ASSERT(bytes_per_key(&fixture.tree) -
                  2.0 * TORC_CHUNK_BYTES / (double)fixture.tree.record_count <
              fresh);
    for (uint64_t i = 0; i < KEYS; i++) {
        struct torc_tree_hit hit;

        CU_ASSERT_EQUAL(torc_tree_lookup(&fixture.tree, key_of(i), &hit), i % 10 == 0);
    }
    // Another tree of the pool can have all of it.
    free_chunks = torc_chunk_pool_free(&fixture.pool);
    TORC_TEST_OK(torc_tree_init(&other, torc_tree_code_best(), &fixture.pool, &heap, &fixture.why),
                 &fixture.why);
    for (uint64_t i = 0; other.chunks.chunk_count < free_chunks; i++) {
        put(&fixture, &other, i);
    }
    CU_ASSERT_EQUAL(torc_chunk_pool_free(&fixture.pool), 0);
    torc_tree_drop(&other);
    fixture_close(&fixture);
}

static void test_a_tree_without_holes_stays_as_it_is(void)
{
    struct fixture fixture;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    CU_ASSERT_FALSE(torc_tree_compact(&fixture.tree, STEPS));
    for (uint64_t i = 0; i < KEYS; i++) {
        put(&fixture, &fixture.tree, key_of(i));
    }
    CU_ASSERT_FALSE(torc_tree_compact(&fixture.tree, STEPS));
    CU_ASSERT_EQUAL(fixture.tree.compact.moved_nodes, 0);
    fixture_close(&fixture);
}

// Tickets take what compaction could give back, at any moment, and it is theirs.
static void test_promises_are_kept(void)
{
    struct fixture fixture;
    struct torc_tree_ticket tickets[600];
    uint32_t chunk_count;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    put_and_drop(&fixture, 20);
    chunk_count = fixture.tree.chunks.chunk_count;
    for (uint32_t i = 0; i < TORC_COUNT_OF(tickets); i++) {
        TORC_TEST_OK(torc_tree_reserve(&fixture.tree, VALUE_BYTES, &tickets[i], &fixture.why),
                     &fixture.why);
        (void)torc_tree_compact(&fixture.tree, 3);
        CU_ASSERT(fixture.tree.chunks.free_nodes >= fixture.tree.promised_nodes);
    }
    (void)compact(&fixture.tree);
    TORC_TEST_OK(torc_tree_check(&fixture.tree, &fixture.why), &fixture.why);
    // 3600 nodes are promised: 14 chunks and more.
    CU_ASSERT(fixture.tree.chunks.chunk_count > 14);
    CU_ASSERT(fixture.tree.chunks.chunk_count <= chunk_count);
    for (uint32_t i = 0; i < TORC_COUNT_OF(tickets); i++) {
        torc_tree_cancel(&fixture.tree, &tickets[i]);
    }
    (void)compact(&fixture.tree);
    CU_ASSERT(fixture.tree.chunks.chunk_count <= 6);
    fixture_close(&fixture);
}

// A full pool: what one tree left is the other's at once, without a free chunk anywhere.
static void test_no_memory_is_taken(void)
{
    struct fixture fixture;
    struct torc_tree other;
    uint64_t count = 0;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    put_and_drop(&fixture, 5);
    TORC_TEST_OK(torc_tree_init(&other, torc_tree_code_best(), &fixture.pool, &heap, &fixture.why),
                 &fixture.why);
    for (;;) {
        struct torc_tree_write write = {.key = count, .version = 1, .value = "", .value_bytes = 0};

        if (torc_tree_write(&other, &write, NULL) != TORC_ERR_OK) {
            break;
        }
        count++;
    }
    CU_ASSERT_EQUAL(torc_chunk_pool_free(&fixture.pool), 0);
    (void)compact(&fixture.tree);
    CU_ASSERT(torc_chunk_pool_free(&fixture.pool) > 10);
    put(&fixture, &other, count);
    TORC_TEST_OK(torc_tree_check(&other, &fixture.why), &fixture.why);
    torc_tree_drop(&other);
    fixture_close(&fixture);
}

// What a call does is bounded, and so is what one does to a reader: cursors go on.
static void test_cursors_survive(void)
{
    struct fixture fixture;
    struct torc_tree_cursor cursor;
    struct torc_tree_pair pairs[7];
    uint64_t count = 0;
    uint64_t last = 0;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    put_and_drop(&fixture, 10);
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, false);
    while (!cursor.done) {
        uint64_t moved = fixture.tree.compact.moved_nodes;
        uint32_t some = torc_tree_scan(&fixture.tree, &cursor, pairs, TORC_COUNT_OF(pairs));

        for (uint32_t i = 0; i < some; i++) {
            CU_ASSERT(count == 0 || pairs[i].key > last);
            last = pairs[i].key;
            count++;
        }
        (void)torc_tree_compact(&fixture.tree, 2);
        CU_ASSERT(fixture.tree.compact.moved_nodes - moved <= 2);
    }
    CU_ASSERT_EQUAL(count, KEYS / 10);
    fixture_close(&fixture);
}

static uint64_t versions[KEYS / 4]; // of the last write or delete of key i * i

// No key of a slice was written or deleted above the slice's stamp.
static void check_slices(struct fixture *fixture, bool reverse)
{
    struct torc_tree_pair pairs[90];
    struct torc_tree_cursor cursor;
    uint64_t seen = 0;

    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, reverse);
    while (!cursor.done) {
        (void)torc_tree_scan(&fixture->tree, &cursor, pairs,
                             1 + (uint32_t)torc_rng_below(&fixture->rng, TORC_COUNT_OF(pairs)));
        for (; seen < TORC_COUNT_OF(versions); seen++) {
            uint64_t i = reverse ? TORC_COUNT_OF(versions) - 1 - seen : seen;

            if (!cursor.done && (reverse ? i * i <= cursor.next : i * i >= cursor.next)) {
                break;
            }
            CU_ASSERT_FATAL(versions[i] <= cursor.stamp);
        }
    }
}

// T6, where nothing is left of a key: scans of the past pass over leaves by their stamps.
static void test_deletes_leave_their_stamp(void)
{
    struct fixture fixture;
    uint64_t version = 0;

    fixture_open(&fixture, &mapping, &heap, CHUNKS);
    memset(versions, 0, sizeof(versions));
    for (uint32_t round = 0; round < 3000; round++) {
        uint64_t first = torc_rng_below(&fixture.rng, TORC_COUNT_OF(versions));
        uint64_t count = torc_rng_below(&fixture.rng, round % 10 == 0 ? 3000 : 100);
        bool remove = torc_rng_below(&fixture.rng, 5) < 2;

        for (uint64_t i = first; i < first + count && i < TORC_COUNT_OF(versions); i++) {
            struct torc_tree_write write = {.key = i * i,
                                            .version = ++version,
                                            .value = "sixteen bytes so",
                                            .value_bytes = (uint32_t)(round % 3 * 8),
                                            .remove = remove};

            TORC_TEST_OK(torc_tree_write(&fixture.tree, &write, &fixture.why), &fixture.why);
            versions[i] = remove && !write.existed ? versions[i] : version;
        }
        (void)torc_tree_compact(&fixture.tree, (uint32_t)torc_rng_below(&fixture.rng, 20));
        (void)torc_tree_order(&fixture.tree, (uint32_t)torc_rng_below(&fixture.rng, 20));
        for (uint64_t i = round % 50; i < TORC_COUNT_OF(versions); i += 50) {
            struct torc_tree_path path;

            torc_tree_path_find(&fixture.tree, i * i, &path);
            CU_ASSERT_FATAL(torc_tree_leaf(&fixture.tree, path.nodes[0])->stamp >= versions[i]);
        }
        if (round % 50 < 2) {
            check_slices(&fixture, round % 50 == 0);
        }
    }
    fixture_close(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"deleted memory goes back to the pool", test_deleted_memory_goes_back_to_the_pool},
        {"a tree without holes stays as it is", test_a_tree_without_holes_stays_as_it_is},
        {"promises are kept", test_promises_are_kept},
        {"no memory is taken", test_no_memory_is_taken},
        {"cursors survive", test_cursors_survive},
        {"deletes leave their stamp", test_deletes_leave_their_stamp},
        CU_TEST_INFO_NULL,
    };
    struct torc_fail why;
    int status;

    if (torc_mapping_open(&mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, &why) != TORC_ERR_OK ||
        torc_heap_open(&heap, UINT64_C(64) << 20, &why) != TORC_ERR_OK) {
        return 1;
    }
    status = torc_test_run("tree-compact", tests);
    torc_heap_close(&heap);
    torc_mapping_close(&mapping);
    return status;
}
