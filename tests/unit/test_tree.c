// Torc tests: the tree: edges, full memory, damage, and its SIMD variants against each other.
#include "storage/cpu_os.h"
#include "storage/inner.h"
#include "storage/leaf.h"
#include "storage/memory_os.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNKS = 64
};

#define HEAP_BYTES (UINT64_C(64) << 20)

static const char *const variant_names[] = {"plain", "avx2", "avx512"};

// A heap cannot give its arena back, so the tests share one.
static struct torc_heap heap;

struct fixture {
    struct torc_mapping mapping;
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_fail why;
};

static void fixture_open(struct fixture *fixture, uint32_t chunks)
{
    struct torc_fail *why = &fixture->why;

    TORC_TEST_OK(torc_mapping_open(&fixture->mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, why),
                 why);
    torc_chunk_pool_init(&fixture->pool, fixture->mapping.base, 0, chunks);
    heap.limit_bytes = HEAP_BYTES;
    TORC_TEST_OK(torc_tree_init(&fixture->tree, torc_tree_code_best(), &fixture->pool, &heap, why),
                 why);
}

static void fixture_check(struct fixture *fixture)
{
    TORC_TEST_OK(torc_tree_check(&fixture->tree, &fixture->why), &fixture->why);
}

static void fixture_close(struct fixture *fixture)
{
    torc_tree_drop(&fixture->tree);
    CU_ASSERT_EQUAL(torc_chunk_pool_free(&fixture->pool), fixture->pool.chunk_count);
    CU_ASSERT_EQUAL(heap.block_count, 0);
    torc_mapping_close(&fixture->mapping);
}

static enum torc_err put(struct fixture *fixture, uint64_t key, const void *value, uint32_t bytes)
{
    struct torc_tree_write write = {
        .key = key, .version = fixture->tree.change_stamp, .value = value, .value_bytes = bytes};

    return torc_tree_write(&fixture->tree, &write, &fixture->why);
}

// True when the key had a value.
static bool erase(struct fixture *fixture, uint64_t key)
{
    struct torc_tree_write write = {
        .key = key, .version = fixture->tree.change_stamp, .remove = true};

    return torc_tree_write(&fixture->tree, &write, &fixture->why) == TORC_ERR_OK && write.existed;
}

static bool has(const struct fixture *fixture, uint64_t key, const void *value, uint32_t bytes)
{
    struct torc_tree_hit hit;

    return torc_tree_lookup(&fixture->tree, key, &hit) && hit.value_bytes == bytes &&
           (bytes == 0 || memcmp(hit.value, value, bytes) == 0);
}

// Puts [first, first + count), each key as its own value.
static void put_run(struct fixture *fixture, uint64_t first, uint32_t count)
{
    for (uint64_t key = first; key < first + count; key++) {
        if (put(fixture, key, &key, sizeof(key)) != TORC_ERR_OK) {
            CU_FAIL_FATAL("no memory");
        }
    }
}

static void test_the_first_and_the_last_key_are_keys(void)
{
    struct fixture fixture;
    struct torc_tree_cursor cursor;
    struct torc_tree_pair pairs[3];

    fixture_open(&fixture, 4);
    CU_ASSERT_EQUAL(put(&fixture, UINT64_MAX, "last", 4), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(&fixture, 0, "first", 5), TORC_ERR_OK);
    CU_ASSERT(has(&fixture, 0, "first", 5));
    CU_ASSERT(has(&fixture, UINT64_MAX, "last", 4));
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, false);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 3), 2);
    CU_ASSERT(cursor.done);
    CU_ASSERT_EQUAL(pairs[1].key, UINT64_MAX);
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, true);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 1), 1);
    CU_ASSERT_FALSE(cursor.done);
    CU_ASSERT_EQUAL(pairs[0].key, UINT64_MAX);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 1), 1);
    CU_ASSERT_EQUAL(pairs[0].key, 0);
    CU_ASSERT(cursor.done);
    fixture_check(&fixture);
    CU_ASSERT(erase(&fixture, 0));
    CU_ASSERT(erase(&fixture, UINT64_MAX));
    CU_ASSERT_FALSE(erase(&fixture, UINT64_MAX));
    CU_ASSERT_EQUAL(fixture.tree.record_count, 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_values_of_every_length(void)
{
    static const uint32_t lengths[] = {
        0, 1, 8, 16, 100, 127, 128, 129, 4096, 65535, TORC_LEAF_LARGE + 1, 1 << 20};
    unsigned char *value = calloc(1, TORC_TREE_VALUE_BYTES_MAX);
    struct fixture fixture;

    fixture_open(&fixture, 4);
    for (uint32_t i = 0; i < TORC_COUNT_OF(lengths); i++) {
        value[0] = (unsigned char)(i + 1);
        CU_ASSERT_EQUAL(put(&fixture, i, value, lengths[i]), TORC_ERR_OK);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(lengths); i++) {
        value[0] = (unsigned char)(i + 1);
        CU_ASSERT(has(&fixture, i, value, lengths[i]));
    }
    CU_ASSERT_EQUAL(put(&fixture, 3, value, TORC_TREE_VALUE_BYTES_MAX), TORC_ERR_OK);
    CU_ASSERT(has(&fixture, 3, value, TORC_TREE_VALUE_BYTES_MAX));
    CU_ASSERT_EQUAL(fixture.tree.large_count, 6);
    fixture_check(&fixture);
    CU_ASSERT_EQUAL(put(&fixture, 3, "small again", 11), TORC_ERR_OK);
    CU_ASSERT_EQUAL(fixture.tree.large_count, 5);
    fixture_check(&fixture);
    fixture_close(&fixture);
    free(value);
}

static void test_a_write_says_what_was_there(void)
{
    struct fixture fixture;
    struct torc_tree_write writes[3] = {{.key = 5, .version = 10, .value = "a", .value_bytes = 1},
                                        {.key = 5, .version = 11, .value = "b", .value_bytes = 1},
                                        {.key = 5, .version = 12, .remove = true}};

    fixture_open(&fixture, 4);
    CU_ASSERT_EQUAL(torc_tree_write_batch(&fixture.tree, writes, 3), 0);
    CU_ASSERT_FALSE(writes[0].existed);
    CU_ASSERT(writes[1].existed);
    CU_ASSERT_EQUAL(writes[1].old_version, 10);
    CU_ASSERT_EQUAL(writes[2].old_version, 11);
    CU_ASSERT_EQUAL(fixture.tree.record_count, 0);
    fixture_close(&fixture);
}

// -- Scans ---------------------------------------------------------------------------------------

static void test_scans_end_where_they_should(void)
{
    struct fixture fixture;
    struct torc_tree_cursor cursor;
    struct torc_tree_pair pairs[10];

    fixture_open(&fixture, 8);
    put_run(&fixture, 1000, 3000);
    torc_tree_cursor_open(&cursor, 7, 6, false);
    CU_ASSERT(cursor.done);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 10), 0);
    torc_tree_cursor_open(&cursor, 1500, 1500, true);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 10), 1);
    CU_ASSERT(cursor.done);
    torc_tree_cursor_open(&cursor, 0, 999, true);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 10), 0);
    CU_ASSERT(cursor.done);
    torc_tree_cursor_open(&cursor, 4000, UINT64_MAX, false);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 10), 0);
    CU_ASSERT(cursor.done);
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, true);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 1), 1);
    CU_ASSERT_EQUAL(pairs[0].key, 3999);
    fixture_close(&fixture);
}

// Keys vanish and appear on either side of a scan that rests.
static void test_a_cursor_survives_changes(void)
{
    struct fixture fixture;
    struct torc_tree_cursor cursor;
    struct torc_tree_pair pairs[10];

    fixture_open(&fixture, 8);
    put_run(&fixture, 0, 2000);
    torc_tree_cursor_open(&cursor, 100, 1900, false);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 10), 10);
    CU_ASSERT_EQUAL(pairs[9].key, 109);
    for (uint64_t key = 0; key < 1800; key++) {
        (void)erase(&fixture, key);
    }
    put_run(&fixture, 50, 10);
    put_run(&fixture, 500, 3);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 10), 10);
    CU_ASSERT_EQUAL(pairs[0].key, 500);
    CU_ASSERT_EQUAL(pairs[3].key, 1800);
    torc_tree_cursor_seek(&cursor, pairs[3].key);
    CU_ASSERT_EQUAL(torc_tree_scan(&fixture.tree, &cursor, pairs, 1), 1);
    CU_ASSERT_EQUAL(pairs[0].key, 1800);
    torc_tree_drop(&fixture.tree);
    CU_ASSERT_EQUAL(
        torc_tree_init(&fixture.tree, torc_tree_code_best(), &fixture.pool, &heap, NULL),
        TORC_ERR_OK);
    fixture_close(&fixture);
}

// -- Shape ---------------------------------------------------------------------------------------

static double leaves_full(const struct torc_tree *tree)
{
    struct torc_tree_memory memory;

    torc_tree_memory(tree, &memory);
    return (double)memory.leaf_used_bytes / (double)memory.leaf_bytes;
}

static void test_rising_and_falling_keys_fill_leaves(void)
{
    struct fixture fixture;

    fixture_open(&fixture, CHUNKS);
    put_run(&fixture, 1 << 20, 100000);
    CU_ASSERT(leaves_full(&fixture.tree) > 0.95);
    fixture_check(&fixture);
    torc_tree_drop(&fixture.tree);
    CU_ASSERT_EQUAL(
        torc_tree_init(&fixture.tree, torc_tree_code_best(), &fixture.pool, &heap, NULL),
        TORC_ERR_OK);
    for (uint64_t key = 100000; key > 0; key--) {
        (void)put(&fixture, key, &key, sizeof(key));
    }
    CU_ASSERT(leaves_full(&fixture.tree) > 0.95);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_appending_fills_leaves(void)
{
    enum {
        COUNT = 50000
    };
    struct torc_tree_pair *pairs = calloc(COUNT, sizeof(pairs[0]));
    struct fixture fixture;
    uint32_t appended = 0;

    fixture_open(&fixture, CHUNKS);
    for (uint32_t i = 0; i < COUNT; i++) {
        pairs[i] = (struct torc_tree_pair){UINT64_C(977) * i, i, "sixteen bytes ..", 16};
    }
    TORC_TEST_OK(torc_tree_append(&fixture.tree, pairs, COUNT / 2, &appended, &fixture.why),
                 &fixture.why);
    CU_ASSERT_EQUAL(appended, COUNT / 2);
    TORC_TEST_OK(
        torc_tree_append(&fixture.tree, pairs + COUNT / 2, COUNT / 2, &appended, &fixture.why),
        &fixture.why);
    CU_ASSERT_EQUAL(fixture.tree.record_count, COUNT);
    CU_ASSERT(leaves_full(&fixture.tree) > 0.95);
    fixture_check(&fixture);
    fixture_close(&fixture);
    free(pairs);
}

static void test_deletes_give_chunks_back(void)
{
    struct fixture fixture;
    uint32_t most;

    fixture_open(&fixture, CHUNKS);
    put_run(&fixture, 0, 200000);
    most = fixture.tree.chunks.chunk_count;
    for (uint64_t key = 0; key < 200000; key++) {
        (void)erase(&fixture, key);
    }
    CU_ASSERT(fixture.tree.chunks.chunk_count * 4 < most);
    CU_ASSERT_EQUAL(fixture.tree.levels, 1);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

// -- Full memory ---------------------------------------------------------------------------------

static void test_full_chunks_refuse_writes_and_keep_promises(void)
{
    struct fixture fixture;
    struct torc_tree_ticket tickets[20];
    uint64_t key = 0;

    fixture_open(&fixture, 2);
    for (uint32_t i = 0; i < TORC_COUNT_OF(tickets); i++) {
        TORC_TEST_OK(torc_tree_reserve(&fixture.tree, 8, &tickets[i], &fixture.why), &fixture.why);
    }
    while (put(&fixture, key * 7919, &key, sizeof(key)) == TORC_ERR_OK) {
        key++;
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture.why.text, "memory"));
    CU_ASSERT(has(&fixture, 0, &(uint64_t){0}, 8));
    for (uint64_t i = 0; i < TORC_COUNT_OF(tickets); i++) {
        struct torc_tree_write write = {.key = i << 50 | 1,
                                        .version = i << 40,
                                        .value = &i,
                                        .value_bytes = sizeof(i),
                                        .ticket = tickets[i]};

        CU_ASSERT_EQUAL(torc_tree_write(&fixture.tree, &write, NULL), TORC_ERR_OK);
        CU_ASSERT(has(&fixture, write.key, &i, sizeof(i)));
    }
    fixture_check(&fixture);
    for (uint64_t old = 0; old < key; old++) {
        (void)erase(&fixture, old * 7919);
    }
    CU_ASSERT_EQUAL(put(&fixture, 3, "again", 5), TORC_ERR_OK);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

// All memory promised at once, then used by keys that make every node split as badly as they can.
static void test_promises_hold_for_the_worst_keys(void)
{
    enum {
        TICKETS_MAX = 4000
    };
    struct torc_tree_ticket *tickets = calloc(TICKETS_MAX, sizeof(tickets[0]));
    struct torc_rng rng = {torc_test_seed()};
    struct fixture fixture;
    uint32_t count = 0;
    uint32_t failed = 0;

    fixture_open(&fixture, CHUNKS);
    for (uint64_t i = 0; i < 60000; i++) { // narrow separators, full inner nodes
        (void)put(&fixture, i << 16, "a value of 30 bytes, so to say", 30);
    }
    while (count < TICKETS_MAX &&
           torc_tree_reserve(&fixture.tree, 128, &tickets[count], NULL) == TORC_ERR_OK) {
        count++;
    }
    CU_ASSERT(count > 1000);
    for (uint32_t i = 0; i < count; i++) {
        unsigned char value[128] = {0};
        struct torc_tree_write write = {.key = torc_rng_below(&rng, UINT64_C(60000) << 16),
                                        .version = torc_rng_next(&rng),
                                        .value = value,
                                        .value_bytes = sizeof(value),
                                        .ticket = tickets[i]};

        failed += torc_tree_write(&fixture.tree, &write, NULL) != TORC_ERR_OK;
    }
    CU_ASSERT_EQUAL(failed, 0);
    CU_ASSERT_EQUAL(fixture.tree.promised_nodes, 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
    free(tickets);
}

// As a base that found no memory: all of it is other trees' again, but for what was promised.
static void test_a_cleared_tree_keeps_its_tickets(void)
{
    struct torc_tree_ticket tickets[100]; // more nodes than a chunk has
    struct fixture fixture;
    uint32_t full;
    uint64_t key = 0;
    uint64_t stamp;

    fixture_open(&fixture, 8);
    for (uint32_t i = 0; i < TORC_COUNT_OF(tickets); i++) {
        TORC_TEST_OK(torc_tree_reserve(&fixture.tree, i % 2 == 0 ? 8 : 5000, &tickets[i], NULL),
                     &fixture.why);
    }
    TORC_TEST_OK(put(&fixture, UINT64_MAX, (unsigned char[3000]){0}, 3000), &fixture.why);
    while (put(&fixture, key * 7919, &key, sizeof(key)) == TORC_ERR_OK) {
        key++;
    }
    full = torc_chunk_pool_free(fixture.tree.chunks.pool);
    stamp = fixture.tree.change_stamp;
    torc_tree_clear(&fixture.tree);
    CU_ASSERT(fixture.tree.change_stamp > stamp); // cursors find their places anew
    CU_ASSERT(torc_chunk_pool_free(fixture.tree.chunks.pool) > full);
    CU_ASSERT_FALSE(has(&fixture, 0, &(uint64_t){0}, 8));
    fixture_check(&fixture);
    while (put(&fixture, key * 7919, &key, sizeof(key)) == TORC_ERR_OK) {
        key++;
    }
    for (uint64_t i = 0; i < TORC_COUNT_OF(tickets); i++) {
        unsigned char value[5000] = {0};
        struct torc_tree_write write = {.key = i << 50 | 1,
                                        .version = i << 40,
                                        .value = value,
                                        .value_bytes = i % 2 == 0 ? 8 : sizeof(value),
                                        .ticket = tickets[i]};

        CU_ASSERT_EQUAL(torc_tree_write(&fixture.tree, &write, NULL), TORC_ERR_OK);
        CU_ASSERT(has(&fixture, write.key, value, write.value_bytes));
    }
    CU_ASSERT_EQUAL(fixture.tree.promised_nodes, 0);
    fixture_check(&fixture);
    torc_tree_clear(&fixture.tree);
    CU_ASSERT_EQUAL(fixture.tree.large_count, 0);
    fixture_check(&fixture);
    fixture_close(&fixture);
}

static void test_a_full_heap_refuses_large_values_alone(void)
{
    unsigned char *value = calloc(1, 1 << 20);
    struct torc_tree_ticket ticket;
    struct fixture fixture;
    uint64_t key = 1;

    fixture_open(&fixture, 4);
    TORC_TEST_OK(torc_tree_reserve(&fixture.tree, 1 << 20, &ticket, &fixture.why), &fixture.why);
    while (put(&fixture, key, value, 1 << 20) == TORC_ERR_OK) {
        key++;
    }
    CU_ASSERT(key > HEAP_BYTES / (1 << 20) / 2);
    CU_ASSERT_PTR_NOT_NULL(strstr(fixture.why.text, "large values"));
    CU_ASSERT_EQUAL(put(&fixture, key, "small", 5), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_tree_reserve(&fixture.tree, 1 << 20, &(struct torc_tree_ticket){0}, NULL),
                    TORC_ERR_NO_SPACE);
    {
        struct torc_tree_write write = {.key = 0,
                                        .version = 9,
                                        .value = ticket.block,
                                        .value_bytes = 1 << 20,
                                        .ticket = ticket};

        memset(ticket.block, 7, 1 << 20);
        memset(value, 7, 1 << 20);
        CU_ASSERT_EQUAL(torc_tree_write(&fixture.tree, &write, NULL), TORC_ERR_OK);
        CU_ASSERT(has(&fixture, 0, value, 1 << 20));
    }
    CU_ASSERT(erase(&fixture, 1));
    CU_ASSERT_EQUAL(put(&fixture, 1, value, 1 << 19), TORC_ERR_OK);
    fixture_check(&fixture);
    fixture_close(&fixture);
    free(value);
}

static void test_appending_stops_where_memory_ends(void)
{
    unsigned char *value = calloc(1, 1 << 20);
    struct torc_tree_pair pairs[100];
    struct fixture fixture;
    uint32_t appended = 0;

    fixture_open(&fixture, 4);
    for (uint32_t i = 0; i < TORC_COUNT_OF(pairs); i++) {
        pairs[i] = (struct torc_tree_pair){i, i, value, 1 << 20};
    }
    CU_ASSERT_EQUAL(torc_tree_append(&fixture.tree, pairs, 100, &appended, &fixture.why),
                    TORC_ERR_NO_SPACE);
    CU_ASSERT(appended > 0);
    CU_ASSERT_EQUAL(fixture.tree.record_count, appended);
    fixture_check(&fixture);
    fixture_close(&fixture);
    free(value);
}

static void test_a_pool_without_chunks_makes_no_tree(void)
{
    struct torc_chunk_pool pool;
    struct fixture fixture;
    struct torc_tree tree;

    fixture_open(&fixture, 1);
    torc_chunk_pool_init(&pool, fixture.mapping.base, 1, 0);
    CU_ASSERT_EQUAL(torc_tree_init(&tree, torc_tree_code_best(), &pool, &heap, &fixture.why),
                    TORC_ERR_NO_SPACE);
    fixture_close(&fixture);
}

// -- Damage --------------------------------------------------------------------------------------

static struct torc_leaf *first_leaf(struct torc_tree *tree)
{
    uint32_t node = tree->root;

    for (uint32_t level = tree->levels - 1; level > 0; level--) {
        node = torc_inner_children(torc_node_at(tree->chunks.base, node))[0];
    }
    return torc_node_at(tree->chunks.base, node);
}

static void damage(struct torc_tree *tree, uint32_t kind)
{
    struct torc_leaf *leaf = first_leaf(tree);
    struct torc_inner *root = torc_node_at(tree->chunks.base, tree->root);
    uint16_t hint = leaf->hints[3];

    switch (kind) {
    case 0: // T1: two keys out of order
        leaf->hints[3] = leaf->hints[2];
        leaf->hints[2] = hint;
        break;
    case 10: leaf->in_order = 2; break;                 // the leaf's own head
    case 11: root->samples[0] ^= 1; break;              // an inner node's own
    case 1: leaf->key_base += UINT64_C(1) << 62; break; // T1: keys outside the separators
    case 2: root->base += UINT64_C(1) << 40; break;     // T1: separators moved
    case 3: leaf->count--; break;                       // T3: a record lost
    case 4: tree->record_count++; break;                // T3
    case 5: tree->value_bytes--; break;                 // T3
    case 6: tree->chunks.free_nodes--; break;           // T4: a node lost
    case 7: tree->inner_count++; break;                 // T4
    case 8: tree->promised_nodes = 1 << 30; break;      // T5
    default: leaf->stamp = 0; break;                    // T6
    }
}

static void test_the_checker_finds_damage(void)
{
    enum {
        KINDS = 12
    };
    unsigned char leaf[TORC_NODE_BYTES];
    unsigned char root[TORC_NODE_BYTES];
    struct fixture fixture;
    struct torc_tree tree;

    fixture_open(&fixture, CHUNKS);
    for (uint64_t key = 0; key < 100000; key++) {
        uint64_t number = key * 7919;

        (void)put(&fixture, number, &number, sizeof(number));
    }
    CU_ASSERT_EQUAL_FATAL(fixture.tree.levels, 3);
    tree = fixture.tree;
    memcpy(leaf, first_leaf(&tree), sizeof(leaf));
    memcpy(root, torc_node_at(tree.chunks.base, tree.root), sizeof(root));
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        fixture_check(&fixture);
        damage(&fixture.tree, kind);
        CU_ASSERT_EQUAL(torc_tree_check(&fixture.tree, &fixture.why), TORC_ERR_CORRUPT);
        fixture.tree = tree;
        memcpy(first_leaf(&tree), leaf, sizeof(leaf));
        memcpy(torc_node_at(tree.chunks.base, tree.root), root, sizeof(root));
    }
    fixture_check(&fixture);
    fixture_close(&fixture);
}

// -- Variants ------------------------------------------------------------------------------------

// How many numbers are below x, and how many are not above it, one by one.
struct ranks {
    uint32_t below;
    uint32_t upto;
};

#define RANKS_OF(numbers, count, x)                 \
    __extension__({                                 \
        struct ranks ranks_ = {0};                  \
        for (uint32_t i_ = 0; i_ < (count); i_++) { \
            ranks_.below += (numbers)[i_] < (x);    \
            ranks_.upto += (numbers)[i_] <= (x);    \
        }                                           \
        ranks_;                                     \
    })

struct numbers {
    uint16_t n16[TORC_INNER_COUNT_MAX + 64];
    uint32_t n32[TORC_INNER_COUNT_MAX + 64];
    uint64_t n64[TORC_INNER_COUNT_MAX + 64];
};

static void numbers_make(struct numbers *numbers, struct torc_rng *rng)
{
    uint64_t sum = torc_rng_below(rng, 2) == 0 ? 0 : torc_rng_below(rng, 30000);
    uint64_t wide = 0;
    uint32_t step = 1 + (uint32_t)torc_rng_below(rng, 300);

    for (uint32_t i = 0; i < TORC_COUNT_OF(numbers->n16); i++) {
        sum = torc_min_u64(sum + torc_rng_below(rng, step), UINT16_MAX);
        wide += torc_rng_next(rng) >> 8;
        numbers->n16[i] = (uint16_t)sum;
        numbers->n32[i] = (uint32_t)(wide >> 32);
        numbers->n64[i] = wide;
    }
}

static bool variant_agrees(const struct torc_tree_code *code, const struct numbers *numbers,
                           uint32_t count, uint64_t x)
{
    struct ranks r16 = RANKS_OF(numbers->n16, count, (uint16_t)x);
    struct ranks r32 = RANKS_OF(numbers->n32, count, (uint32_t)x);
    struct ranks r64 = RANKS_OF(numbers->n64, count, x);

    return code->below16(numbers->n16, count, (uint16_t)x) == r16.below &&
           code->upto16(numbers->n16, count, (uint16_t)x) == r16.upto &&
           code->upto32(numbers->n32, count, (uint32_t)x) == r32.upto &&
           code->upto64(numbers->n64, count, x) == r64.upto;
}

// Hints, which are in no order: the same numbers, shuffled, some twice.
static bool variant_agrees_on_hints(const struct torc_tree_code *code, struct numbers *numbers,
                                    struct torc_rng *rng, uint16_t x)
{
    uint32_t count = (uint32_t)torc_rng_below(rng, TORC_LEAF_COUNT_MAX + 1);
    uint64_t expected[2] = {0};
    uint64_t equal[2];

    for (uint32_t i = 0; i < 2 * TORC_LEAF_COUNT_MAX; i++) {
        uint32_t place = (uint32_t)torc_rng_below(rng, TORC_LEAF_COUNT_MAX);
        uint16_t number = numbers->n16[place];

        numbers->n16[place] = numbers->n16[i / 2];
        numbers->n16[i / 2] = torc_rng_below(rng, 20) == 0 ? x : number;
    }
    for (uint32_t i = 0; i < count; i++) {
        expected[i / 64] |= (uint64_t)(numbers->n16[i] == x) << (i % 64);
    }
    code->equal16(numbers->n16, count, x, equal);
    return equal[0] == expected[0] && equal[1] == expected[1] &&
           code->below16(numbers->n16, count, x) == RANKS_OF(numbers->n16, count, x).below;
}

static void variant_searches(const struct torc_tree_code *code, struct torc_rng *rng)
{
    struct numbers numbers;
    uint32_t wrong = 0;

    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t count = (uint32_t)torc_rng_below(rng, TORC_INNER_COUNT_MAX + 1);
        uint32_t place = (uint32_t)torc_rng_below(rng, TORC_INNER_COUNT_MAX);

        numbers_make(&numbers, rng);
        wrong += !variant_agrees(code, &numbers, count, numbers.n64[place]);
        wrong += !variant_agrees(code, &numbers, count, numbers.n16[place]);
        wrong += !variant_agrees(code, &numbers, count, numbers.n32[place]);
        wrong += !variant_agrees(code, &numbers, count, numbers.n64[place] - 1);
        wrong += !variant_agrees(code, &numbers, count, 0);
        wrong += !variant_agrees(code, &numbers, count, UINT64_MAX);
        wrong += !variant_agrees_on_hints(code, &numbers, rng, numbers.n16[place]);
        wrong += !variant_agrees_on_hints(code, &numbers, rng, UINT16_MAX);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void test_every_variant_searches_alike(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < TORC_COUNT_OF(variant_names); i++) {
        const struct torc_tree_code *code = torc_tree_code_named(variant_names[i]);

        if (code != NULL) { // this machine can run it
            CU_ASSERT_STRING_EQUAL(code->name, variant_names[i]);
            variant_searches(code, &rng);
        }
    }
    CU_ASSERT_PTR_NULL(torc_tree_code_named("sse9"));
}

// Looks all keys up, and their neighbours, with two variants.
static uint32_t lookups_differ(struct torc_tree *tree, const struct torc_tree_code *code)
{
    struct torc_rng rng = {torc_test_seed()};
    uint32_t wrong = 0;

    for (uint32_t round = 0; round < 20000; round++) {
        struct torc_tree_hit ours[TORC_TREE_BATCH];
        struct torc_tree_hit theirs[TORC_TREE_BATCH];
        uint64_t keys[TORC_TREE_BATCH];

        for (uint32_t i = 0; i < TORC_TREE_BATCH; i++) {
            keys[i] = torc_rng_below(&rng, 40000) * 7919 + torc_rng_below(&rng, 2);
        }
        tree->code = &torc_tree_code_plain;
        torc_tree_lookup_batch(tree, keys, TORC_TREE_BATCH, ours);
        tree->code = code;
        torc_tree_lookup_batch(tree, keys, TORC_TREE_BATCH, theirs);
        for (uint32_t i = 0; i < TORC_TREE_BATCH; i++) {
            wrong += ours[i].found != theirs[i].found || ours[i].value != theirs[i].value;
        }
    }
    return wrong;
}

static void test_every_variant_finds_alike(void)
{
    struct fixture fixture;

    fixture_open(&fixture, CHUNKS);
    for (uint64_t key = 0; key < 40000; key += 2) {
        (void)put(&fixture, key * 7919, &key, sizeof(key));
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(variant_names); i++) {
        const struct torc_tree_code *code = torc_tree_code_named(variant_names[i]);

        CU_ASSERT_EQUAL(code == NULL ? 0 : lookups_differ(&fixture.tree, code), 0);
    }
    fixture_close(&fixture);
}

// A cursor that waited over it must find its place anew.
static void test_another_tree_has_another_stamp(void)
{
    struct fixture fixture;
    uint64_t stamp;

    fixture_open(&fixture, CHUNKS);
    TORC_TEST_OK(put(&fixture, 1, "one", 3), &fixture.why);
    stamp = fixture.tree.change_stamp;
    torc_tree_drop(&fixture.tree);
    TORC_TEST_OK(
        torc_tree_init(&fixture.tree, torc_tree_code_best(), &fixture.pool, &heap, &fixture.why),
        &fixture.why);
    CU_ASSERT(fixture.tree.change_stamp > stamp);
    fixture_close(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"the first and the last key are keys", test_the_first_and_the_last_key_are_keys},
        {"values of every length", test_values_of_every_length},
        {"a write says what was there", test_a_write_says_what_was_there},
        {"scans end where they should", test_scans_end_where_they_should},
        {"a cursor survives changes", test_a_cursor_survives_changes},
        {"rising and falling keys fill leaves", test_rising_and_falling_keys_fill_leaves},
        {"appending fills leaves", test_appending_fills_leaves},
        {"deletes give chunks back", test_deletes_give_chunks_back},
        {"full chunks refuse writes and keep promises",
         test_full_chunks_refuse_writes_and_keep_promises},
        {"promises hold for the worst keys", test_promises_hold_for_the_worst_keys},
        {"a cleared tree keeps its tickets", test_a_cleared_tree_keeps_its_tickets},
        {"a full heap refuses large values alone", test_a_full_heap_refuses_large_values_alone},
        {"appending stops where memory ends", test_appending_stops_where_memory_ends},
        {"a pool without chunks makes no tree", test_a_pool_without_chunks_makes_no_tree},
        {"the checker finds damage", test_the_checker_finds_damage},
        {"every variant searches alike", test_every_variant_searches_alike},
        {"every variant finds alike", test_every_variant_finds_alike},
        {"another tree has another stamp", test_another_tree_has_another_stamp},
        CU_TEST_INFO_NULL};
    struct torc_fail why;

    if (torc_heap_open(&heap, HEAP_BYTES, &why) != TORC_ERR_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    return torc_test_run("tree", tests);
}
