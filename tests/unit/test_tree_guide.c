// Torc tests: the guide of a tree. (That all answers stay right, model_tree.c compares.)
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"
#include "tests/tree_fixture.h"

enum {
    CHUNKS = 80,
    KEYS = 300000,
    FEW_LEAVES = 64 // from so many on a guide is wanted here
};

static struct torc_mapping mapping;
static struct torc_heap heap;

static void guide_open(struct fixture *fixture, uint32_t chunks)
{
    fixture_open(fixture, &mapping, &heap, chunks);
    fixture->tree.guide.due = FEW_LEAVES;
}

// Even ones, all different, in no order: the odd ones are absent.
static uint64_t key_of(uint32_t i)
{
    uint32_t mixed = i * 0x9e3779b1u;

    return (uint64_t)(mixed ^ mixed >> 16) << 1;
}

static void put(struct fixture *fixture, uint64_t key, uint64_t version)
{
    struct torc_tree_write write = {
        .key = key, .version = version, .value = "sixteen bytes so", .value_bytes = 16};

    TORC_TEST_OK(torc_tree_write(&fixture->tree, &write, &fixture->why), &fixture->why);
}

static void put_random(struct fixture *fixture, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        put(fixture, key_of(i), i);
    }
}

static void delete_random(struct fixture *fixture, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct torc_tree_write write = {.key = key_of(i), .version = to + i, .remove = true};

        TORC_TEST_OK(torc_tree_write(&fixture->tree, &write, &fixture->why), &fixture->why);
        CU_ASSERT_TRUE(write.existed);
    }
}

// How many of key_of([from, to)) are there, by one variant of the hot code, in batches.
static uint32_t found_by(struct torc_tree *tree, const struct torc_tree_code *code, uint32_t from,
                         uint32_t to)
{
    const struct torc_tree_code *own = tree->code;
    uint32_t found = 0;

    tree->code = code;
    for (uint32_t at = from; at < to; at += TORC_TREE_BATCH) {
        uint64_t keys[2 * TORC_TREE_BATCH];
        struct torc_tree_hit hits[2 * TORC_TREE_BATCH];
        uint32_t count = to - at < TORC_TREE_BATCH ? to - at : TORC_TREE_BATCH;

        for (uint32_t i = 0; i < count; i++) {
            keys[2 * (uint64_t)i] = key_of(at + i);
            keys[2 * (uint64_t)i + 1] = key_of(at + i) + 1;
        }
        torc_tree_lookup_batch(tree, keys, 2 * count, hits);
        for (uint32_t i = 0; i < count; i++) {
            found += hits[2 * (uint64_t)i].found;
            CU_ASSERT_FALSE(hits[2 * (uint64_t)i + 1].found);
        }
    }
    tree->code = own;
    return found;
}

// By every variant that this processor runs: plain, and the best.
static void check_found(struct fixture *fixture, uint32_t from, uint32_t to, uint32_t wanted)
{
    CU_ASSERT_EQUAL(found_by(&fixture->tree, &torc_tree_code_plain, from, to), wanted);
    CU_ASSERT_EQUAL(found_by(&fixture->tree, torc_tree_code_best(), from, to), wanted);
}

// Fills it, as far as it goes.
static void guide_fill_all(struct torc_tree *tree)
{
    for (uint32_t i = 0; i < 2 * tree->leaf_count + 10000 && tree->guide.due <= tree->leaf_count;
         i++) {
        torc_tree_guide_go_on(tree, TORC_GUIDE_STEP_LEAVES);
    }
}

static void test_random_inserts_keep_it_true(void)
{
    struct fixture fixture;

    guide_open(&fixture, CHUNKS);
    for (uint32_t i = 0; i < 10; i++) {
        put_random(&fixture, i * KEYS / 10, (i + 1) * KEYS / 10);
        CU_ASSERT(fixture.tree.guide.chunk_count > 0);
        CU_ASSERT_EQUAL(torc_tree_guide_wrong(&fixture.tree), 0);
    }
    CU_ASSERT_EQUAL(fixture.tree.guide.wrong, 0);
    guide_fill_all(&fixture.tree);
    CU_ASSERT_TRUE(torc_guide_leads(&fixture.tree));
    CU_ASSERT_EQUAL(fixture.tree.guide.usable + 1, fixture.tree.guide.entry_count);
    CU_ASSERT(fixture.tree.guide.entry_count >= fixture.tree.leaf_count);
    CU_ASSERT(fixture.tree.guide.entry_count <= UINT64_C(3) * fixture.tree.leaf_count);
    check_found(&fixture, 0, KEYS, KEYS);
    fixture_close(&fixture);
}

static void test_leaves_put_in_order_keep_it_true(void)
{
    struct fixture fixture;

    guide_open(&fixture, CHUNKS);
    put_random(&fixture, 0, KEYS);
    while (torc_tree_order(&fixture.tree, 7)) {
    }
    CU_ASSERT_TRUE(torc_guide_leads(&fixture.tree));
    CU_ASSERT_EQUAL(torc_tree_guide_wrong(&fixture.tree), 0);
    check_found(&fixture, 0, KEYS, KEYS);
    fixture_close(&fixture);
}

static void test_an_old_one_harms_nobody(void)
{
    struct fixture fixture;

    guide_open(&fixture, CHUNKS);
    put_random(&fixture, 0, KEYS);
    guide_fill_all(&fixture.tree);
    torc_tree_guide_lost(&fixture.tree);
    // Every entry names another leaf, or a node that is none.
    for (uint64_t i = 0; i < fixture.tree.guide.usable; i++) {
        struct torc_guide_entry *entry = torc_guide_at(&fixture.tree, i);

        entry->leaf = i % 3 == 0   ? fixture.tree.root
                      : i % 3 == 1 ? torc_guide_at(&fixture.tree, i / 2)->leaf
                                   : fixture.tree.tail;
    }
    check_found(&fixture, 0, KEYS, KEYS);
    CU_ASSERT_TRUE(torc_guide_leads(&fixture.tree));
    put_random(&fixture, KEYS / 2, KEYS + KEYS / 4);
    TORC_TEST_OK(torc_tree_check(&fixture.tree, &fixture.why), &fixture.why);
    check_found(&fixture, 0, KEYS + KEYS / 4, KEYS + KEYS / 4);
    fixture_close(&fixture);
}

static void test_the_checker_sees_a_wrong_entry(void)
{
    struct fixture fixture;
    uint32_t leaf;

    guide_open(&fixture, CHUNKS);
    put_random(&fixture, 0, KEYS);
    guide_fill_all(&fixture.tree);
    leaf = torc_guide_at(&fixture.tree, 5)->leaf;
    torc_guide_at(&fixture.tree, 5)->leaf = fixture.tree.tail;
    CU_ASSERT_EQUAL(torc_tree_check(&fixture.tree, &fixture.why), TORC_ERR_CORRUPT);
    torc_guide_at(&fixture.tree, 5)->leaf = leaf;
    fixture_close(&fixture);
}

// Writes in batches go by it, and find out that it is wrong: then it is filled anew.
static void test_writes_led_astray_fill_it_anew(void)
{
    struct fixture fixture;
    uint64_t wrong;

    guide_open(&fixture, CHUNKS);
    put_random(&fixture, 0, KEYS);
    guide_fill_all(&fixture.tree);
    torc_tree_guide_lost(&fixture.tree);
    for (uint64_t i = 0; i < fixture.tree.guide.usable; i++) {
        torc_guide_at(&fixture.tree, i)->leaf = fixture.tree.tail;
    }
    wrong = torc_tree_guide_wrong(&fixture.tree);
    CU_ASSERT(wrong > fixture.tree.guide.usable / 2);
    for (uint32_t at = 0; at < KEYS; at += TORC_TREE_BATCH) {
        struct torc_tree_write writes[TORC_TREE_BATCH];

        for (uint32_t i = 0; i < TORC_TREE_BATCH; i++) {
            writes[i] = (struct torc_tree_write){.key = key_of((at + i) % KEYS),
                                                 .version = KEYS + at + i,
                                                 .value = "other bytes, so!",
                                                 .value_bytes = 16};
        }
        CU_ASSERT_EQUAL(torc_tree_write_batch(&fixture.tree, writes, TORC_TREE_BATCH), 0);
    }
    CU_ASSERT_EQUAL(fixture.tree.record_count, KEYS);
    CU_ASSERT_EQUAL(torc_tree_guide_wrong(&fixture.tree), 0);
    CU_ASSERT_TRUE(torc_guide_leads(&fixture.tree));
    fixture_close(&fixture);
}

static void test_a_chunk_given_back_ends_its_use(void)
{
    struct fixture fixture;
    uint64_t given;

    guide_open(&fixture, CHUNKS);
    put_random(&fixture, 0, KEYS);
    guide_fill_all(&fixture.tree);
    given = fixture.tree.chunks.given;
    CU_ASSERT_TRUE(torc_guide_leads(&fixture.tree));
    for (uint32_t i = 0; fixture.tree.chunks.given == given && i < KEYS; i++) {
        struct torc_tree_write write = {.key = key_of(i), .version = KEYS + i, .remove = true};

        TORC_TEST_OK(torc_tree_write(&fixture.tree, &write, &fixture.why), &fixture.why);
    }
    CU_ASSERT(fixture.tree.chunks.given > given);
    CU_ASSERT_FALSE(torc_guide_leads(&fixture.tree));
    put_random(&fixture, 0, KEYS);
    guide_fill_all(&fixture.tree);
    CU_ASSERT_TRUE(torc_guide_leads(&fixture.tree));
    CU_ASSERT_EQUAL(torc_tree_guide_wrong(&fixture.tree), 0);
    check_found(&fixture, 0, KEYS, KEYS);
    delete_random(&fixture, 0, KEYS - 100);
    guide_fill_all(&fixture.tree);
    check_found(&fixture, 0, KEYS, 100);
    fixture_close(&fixture);
}

static void test_gives_its_memory_to_records(void)
{
    enum {
        ROOM = 12
    };
    struct fixture fixture;
    struct torc_tree_write write = {.value = "sixteen bytes so", .value_bytes = 16};
    bool had_one = false;
    uint32_t count = 0;

    guide_open(&fixture, ROOM);
    do {
        had_one = had_one || fixture.tree.guide.chunk_count > 0;
        write.key = key_of(count);
        write.version = count++;
    } while (torc_tree_write(&fixture.tree, &write, NULL) == TORC_ERR_OK);
    CU_ASSERT_TRUE(had_one);
    CU_ASSERT_EQUAL(fixture.tree.guide.chunk_count, 0);
    CU_ASSERT_EQUAL(fixture.tree.chunks.chunk_count, ROOM);
    fixture_close(&fixture);
}

// Seven of eight keys lie close together, and the others far apart.
static void test_uneven_keys_have_none(void)
{
    struct fixture fixture;

    guide_open(&fixture, CHUNKS);
    for (uint32_t i = 0; i < KEYS / 4; i++) {
        put(&fixture, i % 8 == 0 ? torc_rng_next(&fixture.rng) : (UINT64_C(1) << 40) + key_of(i),
            i);
    }
    guide_fill_all(&fixture.tree);
    CU_ASSERT_EQUAL(fixture.tree.guide.chunk_count, 0);
    CU_ASSERT_FALSE(torc_guide_leads(&fixture.tree));
    CU_ASSERT(fixture.tree.guide.due > fixture.tree.leaf_count);
    fixture_close(&fixture);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"random inserts keep it true", test_random_inserts_keep_it_true},
        {"leaves put in order keep it true", test_leaves_put_in_order_keep_it_true},
        {"an old one harms nobody", test_an_old_one_harms_nobody},
        {"the checker sees a wrong entry", test_the_checker_sees_a_wrong_entry},
        {"writes led astray fill it anew", test_writes_led_astray_fill_it_anew},
        {"a chunk given back ends its use", test_a_chunk_given_back_ends_its_use},
        {"gives its memory to records when that is used up", test_gives_its_memory_to_records},
        {"uneven keys have none", test_uneven_keys_have_none},
        CU_TEST_INFO_NULL};
    struct torc_fail why;
    int status;

    if (torc_mapping_open(&mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, &why) != TORC_ERR_OK ||
        torc_heap_open(&heap, UINT64_C(64) << 20, &why) != TORC_ERR_OK) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    status = torc_test_run("tree-guide", tests);
    torc_heap_close(&heap);
    torc_mapping_close(&mapping);
    return status;
}
