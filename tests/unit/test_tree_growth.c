// Torc tests: keys that rise, in rows and in bulk, against the same records one at a time.
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/tree.h"
#include "tests/torc_test.h"

#include <string.h>

enum {
    CHUNKS = 48,
    RECORDS = 60000,
    BATCH_MAX = 70,
    VALUE_MAX = 200,
    CHECK_EVERY = 50
};

static struct torc_mapping mappings[2];
static struct torc_heap heap;

struct pair_of_trees {
    struct torc_rng rng;
    struct torc_chunk_pool pools[2];
    struct torc_tree trees[2]; // written in batches; one at a time
    struct torc_fail why;
};

static void trees_open(struct pair_of_trees *both, uint32_t chunks)
{
    memset(both, 0, sizeof(*both));
    both->rng.state = torc_test_seed();
    for (uint32_t i = 0; i < 2; i++) {
        torc_chunk_pool_init(&both->pools[i], mappings[i].base, 0, chunks);
        TORC_TEST_OK(torc_tree_init(&both->trees[i], torc_tree_code_best(), &both->pools[i], &heap,
                                    &both->why),
                     &both->why);
    }
}

static void trees_close(struct pair_of_trees *both)
{
    for (uint32_t i = 0; i < 2; i++) {
        TORC_TEST_OK(torc_tree_check(&both->trees[i], &both->why), &both->why);
        torc_tree_drop(&both->trees[i]);
    }
    CU_ASSERT_EQUAL(heap.used_bytes, 0);
}

static bool pairs_equal(const struct torc_tree_pair *a, const struct torc_tree_pair *b)
{
    return a->key == b->key && a->version == b->version && a->value_bytes == b->value_bytes &&
           memcmp(a->value, b->value, a->value_bytes) == 0;
}

// Do both hold the same?
static bool trees_equal(const struct torc_tree *a, const struct torc_tree *b)
{
    struct torc_tree_cursor cursors[2];
    struct torc_tree_pair pairs[2];

    torc_tree_cursor_open(&cursors[0], 0, UINT64_MAX, false);
    torc_tree_cursor_open(&cursors[1], 0, UINT64_MAX, false);
    while (torc_tree_scan(a, &cursors[0], &pairs[0], 1) == 1) {
        if (torc_tree_scan(b, &cursors[1], &pairs[1], 1) != 1 ||
            !pairs_equal(&pairs[0], &pairs[1])) {
            return false;
        }
    }
    return torc_tree_scan(b, &cursors[1], &pairs[1], 1) == 0 &&
           a->record_count == b->record_count && a->value_bytes == b->value_bytes &&
           a->promised_nodes == b->promised_nodes;
}

// What the next key of a row is: mostly one above, now and then something else.
struct row {
    uint64_t key;
    uint64_t version;
    uint32_t value_bytes;
    uint32_t odd_permille;
};

static void row_next(struct pair_of_trees *both, struct row *row, const unsigned char *value,
                     struct torc_tree_write *write)
{
    bool odd = torc_rng_below(&both->rng, 1000) < row->odd_permille;
    uint64_t what = odd ? torc_rng_below(&both->rng, 6) : UINT64_MAX;

    row->key += 1 + torc_rng_below(&both->rng, what == 0 ? UINT64_C(1) << 40 : 300);
    row->version += 1 + torc_rng_below(&both->rng, what == 1 ? UINT64_C(1) << 40 : 3000);
    *write = (struct torc_tree_write){
        .key = row->key, .version = row->version, .value = value, .value_bytes = row->value_bytes};
    switch (what) {
    case 2: write->key -= torc_rng_below(&both->rng, 400); break;
    case 3: write->version -= torc_rng_below(&both->rng, 400); break;
    case 4: write->value_bytes = (uint32_t)torc_rng_below(&both->rng, VALUE_MAX); break;
    case 5: write->remove = torc_rng_below(&both->rng, 2) == 0; break;
    default: break;
    }
}

// A ticket for some of them, the same on both sides.
static void tickets_take(struct pair_of_trees *both, struct torc_tree_write *writes, uint32_t side,
                         uint32_t count, uint64_t which)
{
    for (uint32_t i = 0; i < count; i++) {
        if ((which >> (i % 64) & 1) != 0 && !writes[i].remove) {
            enum torc_err err = torc_tree_reserve(&both->trees[side], writes[i].value_bytes,
                                                  &writes[i].ticket, NULL);

            (void)err; // refused: written without
        }
    }
}

static bool writes_equal(const struct torc_tree_write *a, const struct torc_tree_write *b)
{
    return a->err == b->err && a->existed == b->existed && a->old_version == b->old_version &&
           a->ticket.nodes == 0 && b->ticket.nodes == 0;
}

// One batch of a row into both trees, in one call and in as many as there are writes; false when
// the trees did not do the same.
static bool row_write(struct pair_of_trees *both, struct row *row, uint32_t *refused)
{
    struct torc_tree_write batch[BATCH_MAX];
    struct torc_tree_write single[BATCH_MAX];
    unsigned char values[BATCH_MAX][VALUE_MAX];
    uint32_t count = 1 + (uint32_t)torc_rng_below(&both->rng, BATCH_MAX);
    uint64_t which = torc_rng_next(&both->rng);
    bool equal = true;

    for (uint32_t i = 0; i < count; i++) {
        torc_test_value(values[i], row->key + i, VALUE_MAX);
        row_next(both, row, values[i], &batch[i]);
    }
    memcpy(single, batch, count * sizeof(batch[0]));
    tickets_take(both, batch, 0, count, which);
    tickets_take(both, single, 1, count, which);
    *refused += torc_tree_write_batch(&both->trees[0], batch, count);
    for (uint32_t i = 0; i < count; i++) {
        (void)torc_tree_write(&both->trees[1], &single[i], NULL); // compared
        equal = equal && writes_equal(&batch[i], &single[i]);
    }
    return equal;
}

static void rows_are_equal(uint32_t value_bytes, uint32_t odd_permille)
{
    struct pair_of_trees both;
    struct row row = {.version = 1000, .value_bytes = value_bytes, .odd_permille = odd_permille};
    uint32_t refused = 0;

    trees_open(&both, CHUNKS);
    for (uint32_t i = 0; both.trees[0].record_count < RECORDS && i < RECORDS; i++) {
        CU_ASSERT_FATAL(row_write(&both, &row, &refused));
        if (i % CHECK_EVERY == 0) {
            TORC_TEST_OK(torc_tree_check(&both.trees[0], &both.why), &both.why);
        }
    }
    CU_ASSERT_EQUAL(refused, 0);
    CU_ASSERT(trees_equal(&both.trees[0], &both.trees[1]));
    trees_close(&both);
}

static void test_a_row_in_batches_is_what_it_is_one_at_a_time(void)
{
    static const uint32_t sizes[] = {0, 1, 8, 16, 32, 100, 128};

    for (uint32_t i = 0; i < TORC_COUNT_OF(sizes); i++) {
        rows_are_equal(sizes[i], 0);
        rows_are_equal(sizes[i], 20);
        rows_are_equal(sizes[i], 200);
    }
}

static void test_a_lost_record_is_seen(void)
{
    struct pair_of_trees both;
    struct row row = {.version = 1000, .value_bytes = 16};
    struct torc_tree_write write;
    uint32_t refused = 0;

    trees_open(&both, CHUNKS);
    for (uint32_t i = 0; i < 100; i++) {
        CU_ASSERT(row_write(&both, &row, &refused));
    }
    write = (struct torc_tree_write){.key = row.key, .version = row.version + 1, .remove = true};
    TORC_TEST_OK(torc_tree_write(&both.trees[0], &write, &both.why), &both.why);
    CU_ASSERT_FALSE(trees_equal(&both.trees[0], &both.trees[1]));
    trees_close(&both);
}

// A promise holds in a row too, and what is refused changes nothing.
static void test_a_row_ends_where_memory_does(void)
{
    struct pair_of_trees both;
    struct row row = {.version = 1000, .value_bytes = 100};
    struct torc_tree_ticket ticket;
    struct torc_tree_write write = {.key = UINT64_MAX, .version = UINT64_MAX / 4};
    unsigned char value[100] = {1};
    uint32_t refused = 0;

    trees_open(&both, 4);
    TORC_TEST_OK(torc_tree_reserve(&both.trees[0], sizeof(value), &ticket, &both.why), &both.why);
    while (refused == 0) {
        (void)row_write(&both, &row, &refused); // the other one is full later
    }
    TORC_TEST_OK(torc_tree_check(&both.trees[0], &both.why), &both.why);
    write.value = value;
    write.value_bytes = sizeof(value);
    write.ticket = ticket;
    TORC_TEST_OK(torc_tree_write(&both.trees[0], &write, &both.why), &both.why);
    CU_ASSERT_FALSE(write.existed);
    trees_close(&both);
}

static void test_rising_keys_fill_their_leaves(void)
{
    struct pair_of_trees both;
    struct row row = {.version = 1000, .value_bytes = 16};
    struct torc_tree_memory memory;
    uint32_t refused = 0;

    trees_open(&both, CHUNKS);
    while (both.trees[0].record_count < RECORDS) {
        CU_ASSERT(row_write(&both, &row, &refused));
    }
    torc_tree_memory(&both.trees[0], &memory);
    CU_ASSERT(memory.leaf_used_bytes * 100 >= memory.leaf_bytes * 95);
    trees_close(&both);
}

// -- Bulk ----------------------------------------------------------------------------------------

// How versions go with the keys, and how long values are.
enum bulk_kind {
    BULK_RISING,
    BULK_FALLING,
    BULK_ANY,
    BULK_MOSTLY_RISING,
    BULK_LENGTHS,
    BULK_KINDS
};

static void bulk_pair(struct pair_of_trees *both, enum bulk_kind kind, struct row *row,
                      const unsigned char *value, struct torc_tree_pair *pair)
{
    row->key += 1 + torc_rng_below(&both->rng, 400);
    row->version += kind == BULK_FALLING ? (uint64_t)-2000 : 2000;
    *pair = (struct torc_tree_pair){row->key, row->version, value, row->value_bytes};
    if (kind == BULK_ANY || (kind == BULK_MOSTLY_RISING && torc_rng_below(&both->rng, 30) == 0)) {
        pair->version = torc_rng_below(&both->rng, UINT64_C(1) << 40);
    }
    if (kind == BULK_LENGTHS && torc_rng_below(&both->rng, 300) == 0) {
        pair->value_bytes = (uint32_t)torc_rng_below(&both->rng, VALUE_MAX);
    }
}

static void bulk_is_equal(enum bulk_kind kind, uint32_t value_bytes)
{
    static struct torc_tree_pair pairs[1000];
    static unsigned char values[1000][VALUE_MAX];
    struct pair_of_trees both;
    struct row row = {.version = UINT64_C(1) << 41, .value_bytes = value_bytes};
    struct torc_tree_memory memory;

    trees_open(&both, CHUNKS);
    while (both.trees[0].record_count < RECORDS) {
        uint32_t count = 1 + (uint32_t)torc_rng_below(&both.rng, TORC_COUNT_OF(pairs));
        uint32_t appended;

        for (uint32_t i = 0; i < count; i++) {
            torc_test_value(values[i], row.key + i, VALUE_MAX);
            bulk_pair(&both, kind, &row, values[i], &pairs[i]);
        }
        TORC_TEST_OK(torc_tree_append(&both.trees[0], pairs, count, &appended, &both.why),
                     &both.why);
        CU_ASSERT_EQUAL(appended, count);
        for (uint32_t i = 0; i < count; i++) {
            struct torc_tree_write write = {.key = pairs[i].key,
                                            .version = pairs[i].version,
                                            .value = pairs[i].value,
                                            .value_bytes = pairs[i].value_bytes};

            TORC_TEST_OK(torc_tree_write(&both.trees[1], &write, &both.why), &both.why);
        }
    }
    CU_ASSERT(trees_equal(&both.trees[0], &both.trees[1]));
    torc_tree_memory(&both.trees[0], &memory);
    // Short values meet the limit of records first, long ones leave a rest that takes none.
    CU_ASSERT(value_bytes < 8 || value_bytes > 32 ||
              memory.leaf_used_bytes * 100 >= memory.leaf_bytes * 93);
    trees_close(&both);
}

static void test_bulk_is_what_it_is_one_at_a_time(void)
{
    static const uint32_t sizes[] = {0, 3, 8, 16, 32, 100, 128};

    for (uint32_t kind = 0; kind < BULK_KINDS; kind++) {
        for (uint32_t i = 0; i < TORC_COUNT_OF(sizes); i++) {
            bulk_is_equal((enum bulk_kind)kind, sizes[i]);
        }
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a row in batches is what it is one at a time",
         test_a_row_in_batches_is_what_it_is_one_at_a_time},
        {"a lost record is seen", test_a_lost_record_is_seen},
        {"a row ends where memory does", test_a_row_ends_where_memory_does},
        {"rising keys fill their leaves", test_rising_keys_fill_their_leaves},
        {"bulk is what it is one at a time", test_bulk_is_what_it_is_one_at_a_time},
        CU_TEST_INFO_NULL,
    };
    struct torc_fail why;
    int status = 1;

    for (uint32_t i = 0; i < TORC_COUNT_OF(mappings); i++) {
        if (torc_mapping_open(&mappings[i], (uint64_t)CHUNKS * TORC_CHUNK_BYTES, &why) !=
            TORC_ERR_OK) {
            return 1;
        }
    }
    if (torc_heap_open(&heap, UINT64_C(64) << 20, &why) == TORC_ERR_OK) {
        status = torc_test_run("tree-growth", tests);
        torc_heap_close(&heap);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(mappings); i++) {
        torc_mapping_close(&mappings[i]);
    }
    return status;
}
