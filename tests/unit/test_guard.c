// Torc tests: a failed assertion inside libtorc comes back to the call that met it. Brings its own
// main: the tests' library has another torc_assert_fail.
#include "client/guard_os.h"
#include "kit/base.h"

#include <CUnit/Basic.h>

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

int main(void)
{
    CU_TestInfo tests[] = {{"a failed assertion jumps back, with its text", test_caught},
                           {"one that holds does nothing", test_passed},
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
