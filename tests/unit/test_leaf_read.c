// Torc tests: a leaf read by each SIMD variant, against its records taken one by one.
#include "storage/cpu_os.h"
#include "storage/leaf.h"
#include "tests/torc_test.h"

#include <string.h>

enum {
    LEAVES = 3000,
    READS = 20,
    VALUE_BYTES = 200
};

static const char *const names[] = {"plain", "avx2", "avx512"};

struct fixture {
    struct torc_rng rng;
    struct torc_leaf *leaf; // in bytes
    unsigned char value[VALUE_BYTES];
    _Alignas(64) unsigned char bytes[TORC_NODE_BYTES];
};

static void fixture_open(struct fixture *fixture)
{
    *fixture = (struct fixture){.rng = {torc_test_seed()}};
    fixture->leaf = (void *)fixture->bytes;
}

static uint64_t random_bits(struct torc_rng *rng, uint32_t bits)
{
    return bits == 0 ? 0 : torc_rng_next(rng) >> (64 - bits);
}

// Records with keys and versions of some width, put in one by one so that slots lie in no order.
static void leaf_make(struct fixture *fixture)
{
    struct torc_rng *rng = &fixture->rng;
    struct torc_leaf *leaf = fixture->leaf;
    uint32_t key_bits = 8 + (uint32_t)torc_rng_below(rng, 57);
    uint32_t version_bits = (uint32_t)torc_rng_below(rng, 65);
    uint32_t value_bytes = (uint32_t)torc_rng_below(rng, 40);
    bool varied = torc_rng_below(rng, 4) == 0;
    struct torc_tree_pair ends[2] = {
        {0, 0, fixture->value, value_bytes},
        {UINT64_MAX >> (64 - key_bits), 0, fixture->value, value_bytes}};
    struct torc_leaf_plan plan;

    ends[1].version = random_bits(rng, version_bits);
    torc_leaf_format(leaf);
    torc_leaf_plan(&plan, ends, 2);
    torc_leaf_encode(leaf, &plan, ends, 2);
    for (uint32_t i = 0; i < TORC_LEAF_COUNT_MAX; i++) {
        struct torc_tree_pair pair = {
            random_bits(rng, key_bits), random_bits(rng, version_bits), fixture->value,
            varied ? (uint32_t)torc_rng_below(rng, VALUE_BYTES) : value_bytes};
        bool found;
        uint32_t index = torc_leaf_find(leaf, &torc_tree_code_plain, pair.key, &found);

        if (!found) {
            (void)!torc_leaf_insert(leaf, index, &pair);
        }
    }
}

// The same records, each in the slot of its place.
static void leaf_sort(struct fixture *fixture)
{
    _Alignas(64) unsigned char copy[TORC_NODE_BYTES];
    const struct torc_leaf *before = (const void *)copy;
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX];
    struct torc_leaf_plan plan;

    memcpy(copy, fixture->bytes, sizeof(copy));
    (void)torc_leaf_decode(before, pairs);
    torc_leaf_plan(&plan, pairs, before->count);
    torc_leaf_encode(fixture->leaf, &plan, pairs, before->count);
    CU_ASSERT_EQUAL(fixture->leaf->in_order, 1);
}

static bool pair_is(const struct torc_tree_pair *pair, const struct torc_tree_pair *wanted)
{
    return pair->key == wanted->key && pair->version == wanted->version &&
           pair->value == wanted->value && pair->value_bytes == wanted->value_bytes;
}

// Reads some of the leaf; how many pairs are not what torc_leaf_get says, or were not asked for.
static uint32_t read_differs(struct fixture *fixture, const struct torc_tree_code *code)
{
    const struct torc_leaf *leaf = fixture->leaf;
    uint32_t place = (uint32_t)torc_rng_below(&fixture->rng, leaf->count);
    uint32_t count = 1 + (uint32_t)torc_rng_below(&fixture->rng, leaf->count - place);
    bool reverse = torc_rng_below(&fixture->rng, 2) == 0;
    struct torc_tree_pair nobody = {1, 2, fixture, 3};
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX + 1];
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < TORC_COUNT_OF(pairs); i++) {
        pairs[i] = nobody;
    }
    code->read(leaf, place, count, reverse, pairs);
    for (uint32_t i = 0; i < count; i++) {
        struct torc_tree_pair wanted;

        torc_leaf_get(leaf, reverse ? leaf->count - 1 - place - i : place + i, &wanted);
        wrong += !pair_is(&pairs[i], &wanted);
    }
    return wrong + !pair_is(&pairs[count], &nobody);
}

static void variant_reads(struct fixture *fixture, const struct torc_tree_code *code)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < LEAVES; i++) {
        leaf_make(fixture);
        for (uint32_t j = 0; j < READS; j++) {
            if (j == READS / 2) {
                leaf_sort(fixture);
            }
            wrong += read_differs(fixture, code);
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void test_every_variant_reads_alike(void)
{
    struct fixture fixture;

    fixture_open(&fixture);
    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        const struct torc_tree_code *code = torc_tree_code_named(names[i]);

        if (code != NULL) { // this machine can run it
            variant_reads(&fixture, code);
        }
    }
}

static void read_losing(const struct torc_leaf *leaf, uint32_t place, uint32_t count, bool reverse,
                        struct torc_tree_pair *pairs)
{
    torc_tree_code_plain.read(leaf, place, count, reverse, pairs);
    pairs[count - 1].version += count == 17;
}

static void test_a_wrong_pair_is_found(void)
{
    struct fixture fixture;
    struct torc_tree_code code = torc_tree_code_plain;
    uint32_t wrong = 0;

    fixture_open(&fixture);
    code.read = read_losing;
    for (uint32_t i = 0; i < LEAVES; i++) {
        leaf_make(&fixture);
        wrong += read_differs(&fixture, &code);
    }
    CU_ASSERT(wrong > 0);
}

// The leaf's keys lie higher by some bits.
static void leaf_raise(struct fixture *fixture)
{
    struct torc_leaf *leaf = fixture->leaf;
    uint64_t room = torc_leaf_mask(leaf->low_bytes + 2u);
    uint64_t by = random_bits(&fixture->rng, (uint32_t)torc_rng_below(&fixture->rng, 64));

    leaf->key_base +=
        torc_min_u64(by, UINT64_MAX - room - torc_min_u64(leaf->key_base, UINT64_MAX - room));
}

// Keys further out than the leaf's.
static bool reach_differs(struct fixture *fixture, uint32_t *reached)
{
    uint64_t bits = torc_min_u64(65, 18 + 8u * fixture->leaf->low_bytes);
    struct torc_leaf *leaf = fixture->leaf;
    uint64_t unit = torc_leaf_mask(leaf->low_bytes) + 1;
    uint64_t room = torc_leaf_mask(leaf->low_bytes + 2u);
    struct torc_tree_pair before[TORC_LEAF_COUNT_MAX];
    struct torc_tree_pair after[TORC_LEAF_COUNT_MAX];
    uint32_t count = torc_leaf_decode(leaf, before);
    uint64_t below = random_bits(&fixture->rng, (uint32_t)torc_rng_below(&fixture->rng, bits));
    uint64_t above = random_bits(&fixture->rng, (uint32_t)torc_rng_below(&fixture->rng, bits));
    uint64_t least = before[0].key - torc_min_u64(below, before[0].key);
    uint64_t most = before[count - 1].key + torc_min_u64(above, UINT64_MAX - before[count - 1].key);
    uint64_t base = leaf->key_base;
    bool done = torc_leaf_reach(leaf, least, most);
    uint32_t wrong = 0;

    *reached += done && leaf->key_base != base;
    leaf->stamp = UINT64_MAX; // torc_leaf_check wants it above all versions
    if (!done) {              // a base is moved by whole hints: two hints of room are enough
        wrong += leaf->key_base != base;
        wrong += least >= unit && most - least <= room && room - (most - least) >= 2 * unit;
    } else {
        wrong += least < leaf->key_base || most - leaf->key_base > room;
    }
    torc_leaf_decode(leaf, after);
    for (uint32_t i = 0; i < count; i++) {
        wrong += !pair_is(&after[i], &before[i]);
    }
    return wrong > 0 || torc_leaf_check(leaf) != NULL;
}

static void test_a_leaf_reaches_further_and_keeps_its_records(void)
{
    struct fixture fixture;
    uint32_t reached = 0;
    uint32_t wrong = 0;

    fixture_open(&fixture);
    for (uint32_t i = 0; i < LEAVES; i++) {
        leaf_make(&fixture);
        leaf_raise(&fixture);
        for (uint32_t j = 0; j < READS; j++) {
            wrong += reach_differs(&fixture, &reached);
        }
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(reached > LEAVES / 10);
}

int main(void)
{
    CU_TestInfo tests[] = {{"a leaf reaches further and keeps its records",
                            test_a_leaf_reaches_further_and_keeps_its_records},
                           {"every variant reads alike", test_every_variant_reads_alike},
                           {"a wrong pair is found", test_a_wrong_pair_is_found},
                           CU_TEST_INFO_NULL};

    return torc_test_run("leaf-read", tests);
}
