// Torc tests: parts of the client by themselves: addresses, pool of blocks, wheel of timers.
#include "client/address.h"
#include "client/pool.h"
#include "client/wheel.h"
#include "kit/rng.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

// ---- Addresses

static void check_address(const char *text, const char *host, uint16_t port)
{
    struct torc_address address;
    struct torc_fail why;

    TORC_TEST_OK(torc_address_next(&text, &address, &why), &why);
    CU_ASSERT_STRING_EQUAL(address.host, host);
    CU_ASSERT_EQUAL(address.base_port, port);
}

static void check_bad_address(const char *text)
{
    struct torc_address address;
    struct torc_fail why = {.err = TORC_ERR_OK};

    CU_ASSERT_EQUAL(torc_address_next(&text, &address, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT(strlen(why.text) > 10);
}

static void test_addresses(void)
{
    const char *list = "a:1,b,[::1]:5";
    struct torc_address address;

    check_address("10.79.0.11", "10.79.0.11", 28700);
    check_address("10.79.0.11:9000", "10.79.0.11", 9000);
    check_address("fd79::b", "fd79::b", 28700);
    check_address("[fd79::b]", "fd79::b", 28700);
    check_address("[fd79::b]:29000", "fd79::b", 29000);
    check_bad_address("");
    check_bad_address(":5");
    check_bad_address("host:");
    check_bad_address("host:0");
    check_bad_address("host:65300");
    check_bad_address("[::1");
    check_bad_address("[::1]5");
    for (uint32_t i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(torc_address_next(&list, &address, NULL), TORC_ERR_OK);
    }
    CU_ASSERT_STRING_EQUAL(list, "");
    CU_ASSERT_STRING_EQUAL(address.host, "::1");
}

static void test_memif_addresses(void)
{
    struct torc_memif_address address;
    struct torc_fail why;

    TORC_TEST_OK(
        torc_address_memif("torc+memif:n1,slot=3,address=10.1.1.1,mtu=9000", &address, &why), &why);
    CU_ASSERT_STRING_EQUAL(address.name, "n1");
    CU_ASSERT_STRING_EQUAL(address.node, "10.1.1.1");
    CU_ASSERT_EQUAL(address.slot, 3);
    CU_ASSERT_EQUAL(address.mtu, 9000);
    CU_ASSERT(!torc_address_is_memif("10.1.1.1"));
    TORC_TEST_OK(torc_address_memif("torc+memif:n1,slot=30", &address, &why), &why);
    CU_ASSERT_EQUAL(torc_address_memif("torc+memif:n1,slot=31", &address, &why),
                    TORC_ERR_INVALID_ARGUMENT); // no node has so many
    CU_ASSERT_EQUAL(torc_address_memif("torc+memif:", &address, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_address_memif("torc+memif:a,b", &address, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_address_memif("torc+memif:a,slot=64", &address, &why),
                    TORC_ERR_INVALID_ARGUMENT);
}

// ---- Pool

enum {
    POOL_BYTES = 1 << 20,
    POOL_BLOCKS = 200,
    POOL_STEPS = 100000
};

struct held {
    uint8_t *block;
    uint64_t bytes;
    uint8_t mark;
};

static bool held_is_whole(const struct held *held)
{
    for (uint64_t i = 0; i < held->bytes; i++) {
        if (held->block[i] != held->mark) {
            return false;
        }
    }
    return true;
}

static void pool_step(struct torc_pool *pool, struct torc_rng *rng, struct held *held)
{
    if (held->block != NULL) {
        CU_ASSERT_FATAL(held_is_whole(held));
        torc_pool_give(pool, held->block);
        held->block = NULL;
        return;
    }
    held->bytes = 1 + torc_rng_below(rng, torc_rng_chance(rng, 100000) ? 100000 : 2000);
    held->block = torc_pool_take(pool, held->bytes);
    held->mark = (uint8_t)torc_rng_next(rng);
    if (held->block != NULL) {
        memset(held->block, held->mark, held->bytes);
    }
}

static void test_pool(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_pool pool = {0};
    struct held held[POOL_BLOCKS] = {{0}};
    void *memory = aligned_alloc(4096, POOL_BYTES);
    uint64_t all;
    void *block;

    torc_assert(memory != NULL);
    memset(memory, 0, POOL_BYTES);
    torc_pool_init(&pool, memory, POOL_BYTES);
    all = pool.free_bytes;
    for (uint32_t i = 0; i < POOL_STEPS; i++) {
        pool_step(&pool, &rng, &held[torc_rng_below(&rng, POOL_BLOCKS)]);
    }
    for (uint32_t i = 0; i < POOL_BLOCKS; i++) {
        if (held[i].block != NULL) {
            pool_step(&pool, &rng, &held[i]);
        }
    }
    CU_ASSERT_EQUAL(pool.free_bytes, all);
    block = torc_pool_take(&pool, POOL_BYTES / 4); // all was joined again
    CU_ASSERT_PTR_NOT_NULL(block);
    CU_ASSERT_PTR_NULL(torc_pool_take(&pool, POOL_BYTES));
    free(memory);
}

// ---- Wheel

enum {
    TIMERS = 300,
    WHEEL_STEPS = 20000
};

// All timers that fire by `now` are those whose time has come, no other.
static void wheel_expire(struct torc_wheel *wheel, uint64_t *due, uint64_t now_ns)
{
    uint32_t index;

    while ((index = torc_wheel_expire(wheel, now_ns)) != TORC_WHEEL_NONE) {
        CU_ASSERT_FATAL(due[index] != 0 && due[index] <= now_ns);
        due[index] = 0;
    }
    for (uint32_t i = 0; i < TIMERS; i++) {
        CU_ASSERT_FATAL(due[i] == 0 || due[i] > now_ns);
        CU_ASSERT_FATAL(due[i] == 0 || torc_wheel_deadline_ns(wheel) <= due[i] + 66000);
    }
}

static void test_wheel(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_wheel_link links[TIMERS];
    struct torc_wheel wheel;
    uint64_t due[TIMERS] = {0};
    uint64_t now_ns = UINT64_C(1000000000);

    torc_wheel_init(&wheel, links, TIMERS, now_ns);
    CU_ASSERT_EQUAL(torc_wheel_deadline_ns(&wheel), UINT64_MAX);
    for (uint32_t step = 0; step < WHEEL_STEPS; step++) {
        uint32_t at = (uint32_t)torc_rng_below(&rng, TIMERS);
        uint64_t far = torc_rng_chance(&rng, 200000) ? UINT64_C(200000000) : 3000000;

        if (torc_rng_chance(&rng, 700000)) {
            due[at] = now_ns + 1 + torc_rng_below(&rng, far);
            torc_wheel_set(&wheel, at, due[at]);
        } else {
            due[at] = 0;
            torc_wheel_stop(&wheel, at);
        }
        now_ns += torc_rng_below(&rng, torc_rng_chance(&rng, 1000) ? 300000000 : 100000);
        wheel_expire(&wheel, due, now_ns);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"addresses are taken apart", test_addresses},
                           {"memif addresses are taken apart", test_memif_addresses},
                           {"blocks of the pool do not overlap and are joined again", test_pool},
                           {"timers fire when their time has come, and not before", test_wheel},
                           CU_TEST_INFO_NULL};

    return torc_test_run("client-parts", tests);
}
