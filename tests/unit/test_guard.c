// Torc tests: a failed assertion inside libtorc comes back to the call that met it, and each call
// in flight is told of once. Brings its own main: the tests' library has another torc_assert_fail.
#include "client/engine_state.h"
#include "client/guard_os.h"
#include "kit/base.h"

#include <CUnit/Basic.h>

#include <stdlib.h>
#include <string.h>

static int depth; // how far the work came

static void work(int number)
{
    depth = 1;
    torc_assert(number == 4);
    depth = 2;
}

static void test_caught(void)
{
    char text[TORC_GUARD_TEXT_BYTES] = "";
    struct torc_guard guard = {.text = text};
    struct torc_guard *before = torc_guard_set(&guard);

    CU_ASSERT_PTR_NULL(before);
    if (setjmp(guard.jump) == 0) { // NOLINT(cert-err52-cpp)
        work(3);
        CU_FAIL("an assertion that fails does not return");
    }
    (void)torc_guard_set(NULL);
    CU_ASSERT_EQUAL(depth, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "number == 4"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "bug in libtorc"));
}

static void test_passed(void)
{
    char text[TORC_GUARD_TEXT_BYTES] = "";
    struct torc_guard guard = {.text = text};

    (void)torc_guard_set(&guard);
    work(4);
    CU_ASSERT_PTR_EQUAL(torc_guard_set(NULL), &guard);
    CU_ASSERT_EQUAL(depth, 2);
    CU_ASSERT_EQUAL(text[0], '\0');
}

// -- An engine that met a bug

static struct torc_engine *engine;

static void open_engine(void)
{
    struct torc_engine_config config = {.operations = 4,
                                        .nodes = TORC_ENGINE_SEEDS_MAX,
                                        .payload_bytes = TORC_PAYLOAD_MIN,
                                        .pool_bytes = UINT64_C(1) << 20,
                                        .timeout_us = 1000};
    uint64_t bytes = (torc_engine_bytes(&config) + 4095) & ~UINT64_C(4095);
    void *memory = aligned_alloc(4096, bytes);

    torc_assert(memory != NULL);
    memset(memory, 0, bytes);
    engine = torc_engine_init(memory, &config, 1000, 1000);
}

// Whether the call met a bug.
static bool meets_bug(void (*call)(void))
{
    char text[TORC_GUARD_TEXT_BYTES] = "";
    struct torc_guard guard = {.text = text};

    (void)torc_guard_set(&guard);
    if (setjmp(guard.jump) == 0) { // NOLINT(cert-err52-cpp)
        call();
    }
    (void)torc_guard_set(NULL);
    return text[0] != '\0';
}

static struct torc_completion polled;

static void poll_one(void)
{
    CU_ASSERT_EQUAL(torc_engine_poll(engine, &polled, 1), 1);
}

static void put_one(void)
{
    static const uint8_t value[1000];
    struct torc_engine_write write = {.data = value, .bytes = sizeof(value), .user_data = 9};

    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK); // never gets so far
}

// What was given to the caller, or was never taken from it, is not given once more.
static void test_abandoned(void)
{
    struct torc_completion done[4];
    uint32_t cursor = 0;

    open_engine();
    for (uint64_t i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(torc_engine_get(engine, i, NULL, i, NULL), TORC_ERR_OK);
    }
    torc_engine_clock(engine, 1000 + UINT64_C(1000000), 1000); // their deadline
    CU_ASSERT_EQUAL(torc_engine_get(engine, 2, NULL, 2, NULL), TORC_ERR_OK);
    CU_ASSERT_FALSE(meets_bug(poll_one));
    CU_ASSERT_EQUAL(torc_engine_pending(engine), 2);
    engine->ops[engine->returned.head].data = engine->pool.blocks; // a free block
    engine->ops[engine->returned.head].owns_block = true;
    CU_ASSERT_TRUE(meets_bug(poll_one));
    CU_ASSERT_EQUAL(torc_engine_abandoned(engine, cursor), 2);
    CU_ASSERT_EQUAL(torc_engine_abandon(engine, &cursor, done, 4), 2);
    CU_ASSERT_EQUAL(done[0].user_data + done[1].user_data, 0 + 1 + 2 - polled.user_data);
    CU_ASSERT_EQUAL(torc_engine_abandoned(engine, cursor), 0);
    free(engine);
}

static void test_refused_by_bug(void)
{
    struct torc_completion done[4];
    uint32_t cursor = 0;

    open_engine();
    CU_ASSERT_EQUAL(torc_engine_get(engine, 3, NULL, 3, NULL), TORC_ERR_OK);
    memset(engine->pool.orders, 0, engine->pool.count);
    CU_ASSERT_TRUE(meets_bug(put_one));
    CU_ASSERT_EQUAL(torc_engine_abandoned(engine, cursor), 1);
    CU_ASSERT_EQUAL(torc_engine_abandon(engine, &cursor, done, 4), 1);
    CU_ASSERT_EQUAL(done[0].user_data, 3);
    free(engine);
}

int main(void)
{
    CU_TestInfo tests[] = {{"a failed assertion jumps back, with its text", test_caught},
                           {"one that holds does nothing", test_passed},
                           {"what was given is not given again", test_abandoned},
                           {"what a bug refused never ends", test_refused_by_bug},
                           CU_TEST_INFO_NULL};
    CU_SuiteInfo suites[] = {{"guard", NULL, NULL, NULL, NULL, tests}, CU_SUITE_INFO_NULL};
    unsigned failures = 1;

    if (CU_initialize_registry() == CUE_SUCCESS && CU_register_suites(suites) == CUE_SUCCESS) {
        CU_basic_run_tests();
        failures = CU_get_number_of_failures();
    }
    CU_cleanup_registry();
    return failures == 0 ? 0 : 1;
}
