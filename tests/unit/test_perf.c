// Torc tests: the pure parts of the load generator: keys, values, mixes.
#include "perf/keys.h"
#include "perf/value.h"
#include "perf/workload.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

static void check_all_keys_differ(uint64_t records, uint64_t key_count, bool rising)
{
    static struct torc_keys keys;
    unsigned char *seen;

    torc_keys_init(&keys, TORC_KEYS_UNIFORM, records, records, key_count, 0.99);
    keys.rising = rising;
    seen = calloc(1, keys.capacity);
    torc_assert(seen != NULL);
    for (uint64_t i = 0; i < keys.capacity; i++) {
        uint64_t key = torc_keys_key(&keys, i);

        CU_ASSERT_FATAL(key < key_count && key % keys.stride == 0);
        CU_ASSERT_FATAL(seen[key / keys.stride]++ == 0);
        CU_ASSERT_FATAL(!rising || key == i * keys.stride);
    }
    free(seen);
}

static void test_each_record_has_a_key_of_its_own(void)
{
    check_all_keys_differ(1, 1, false);
    check_all_keys_differ(2, 3, false);
    check_all_keys_differ(1000, 1000, false);
    check_all_keys_differ(1000, 1500, false);
    check_all_keys_differ(4096, UINT64_C(1) << 32, false);
    check_all_keys_differ(99999, UINT64_MAX, false);
    check_all_keys_differ(99999, UINT64_MAX, true);
}

static void test_picks_are_records_that_are_there(void)
{
    static struct torc_keys keys;
    struct torc_rng rng = {.state = torc_test_seed()};

    for (uint32_t order = 0; order < TORC_KEYS_ORDER_COUNT; order++) {
        torc_keys_init(&keys, (enum torc_keys_order)order, 1000, 0, 1000000, 0.99);
        for (uint32_t i = 0; i < 10000; i++) {
            CU_ASSERT_FATAL(torc_keys_pick(&keys, &rng) < keys.settled);
        }
    }
}

// Zipf 0.99 over 1000: rank 0 has 1 / zeta = 12.9 % of the draws.
static void test_zipf_is_skewed_as_its_formula_says(void)
{
    static struct torc_keys keys;
    struct torc_rng rng = {.state = torc_test_seed()};
    double expected;
    uint64_t first = 0;

    torc_keys_init(&keys, TORC_KEYS_ZIPF, 1000, 0, 1000000, 0.99);
    expected = 100000.0 / keys.zeta;
    for (uint32_t i = 0; i < 100000; i++) {
        first += torc_keys_pick(&keys, &rng) == 0 ? 1 : 0;
    }
    CU_ASSERT((double)first > expected * 0.95 && (double)first < expected * 1.05);
}

static void test_inserts_count_once_all_before_them_are_there(void)
{
    static struct torc_keys keys;
    uint64_t records[3];

    torc_keys_init(&keys, TORC_KEYS_LATEST, 10, 10, 13, 0.99);
    for (uint32_t i = 0; i < 3; i++) {
        CU_ASSERT_FATAL(torc_keys_insert(&keys, &records[i]));
        CU_ASSERT_EQUAL(records[i], 10 + i);
    }
    CU_ASSERT_FALSE(torc_keys_insert(&keys, &records[0]));
    torc_keys_inserted(&keys, 11);
    CU_ASSERT_EQUAL(keys.settled, 10);
    torc_keys_inserted(&keys, 10);
    CU_ASSERT_EQUAL(keys.settled, 12);
    torc_keys_inserted(&keys, 12);
    CU_ASSERT_EQUAL(keys.settled, 13);
}

static void check_value_is_told(uint64_t bytes)
{
    unsigned char value[300];

    torc_value_make(value, bytes, 77, 12345);
    CU_ASSERT_TRUE(torc_value_check(value, bytes, bytes, 77));
    CU_ASSERT_FALSE(torc_value_check(value, bytes, bytes + 1, 77));
    for (uint64_t i = 0; i < bytes; i++) {
        value[i] ^= 1u;
        CU_ASSERT_FALSE(torc_value_check(value, bytes, bytes, 77));
        value[i] ^= 1u;
    }
    CU_ASSERT_TRUE(bytes == 0 || !torc_value_check(value, bytes, bytes, 78));
}

static void test_a_changed_byte_of_a_value_is_seen(void)
{
    static const uint64_t sizes[] = {0, 1, 7, 8, 16, 23, 24, 25, 100, 300};

    for (uint32_t i = 0; i < TORC_COUNT_OF(sizes); i++) {
        check_value_is_told(sizes[i]);
    }
}

static void test_mixes_are_drawn_as_their_table_says(void)
{
    struct torc_rng rng = {.state = torc_test_seed()};
    const struct torc_workload_info *info = torc_workload_info(torc_workload_find("d"));
    uint64_t inserts = 0;

    CU_ASSERT_EQUAL(torc_workload_find("nonsense"), TORC_WORKLOAD_COUNT);
    for (uint32_t i = 0; i < 100000; i++) {
        enum torc_perf_action action = torc_workload_draw(info, &rng);

        CU_ASSERT_FATAL(action == TORC_PERF_READ || action == TORC_PERF_INSERT);
        inserts += action == TORC_PERF_INSERT ? 1 : 0;
    }
    CU_ASSERT(inserts > 4600 && inserts < 5400);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"each record has a key of its own", test_each_record_has_a_key_of_its_own},
        {"picks are records that are there", test_picks_are_records_that_are_there},
        {"Zipf is skewed as its formula says", test_zipf_is_skewed_as_its_formula_says},
        {"inserts count once all before them are there",
         test_inserts_count_once_all_before_them_are_there},
        {"a changed byte of a value is seen", test_a_changed_byte_of_a_value_is_seen},
        {"mixes are drawn as their table says", test_mixes_are_drawn_as_their_table_says},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("perf", tests);
}
