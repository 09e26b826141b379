// Torc tests: when checkpoints are made again, above all after some that failed.
#include "control/rounds.h"
#include "tests/torc_test.h"

#define MIB     (UINT64_C(1) << 20)
#define MOST    (32 * MIB)
#define SECOND  UINT64_C(1000000000)
#define STEP_NS (SECOND / 1000)

static struct torc_rounds rounds;
static uint64_t now_ns;
static uint64_t failures;

static bool due(uint64_t written_bytes)
{
    struct torc_rounds_view view = {.written_bytes = written_bytes, .most_bytes = MOST};

    return torc_rounds_due(&rounds, now_ns, &view);
}

static void open(void)
{
    rounds = (struct torc_rounds){0};
    now_ns = 5 * SECOND;
    failures = 0;
    torc_rounds_serve(&rounds, now_ns);
}

static void make(uint64_t written_bytes, bool good)
{
    torc_rounds_begin(&rounds, written_bytes, failures);
    CU_ASSERT_FALSE(due(UINT64_MAX / 2)); // one at a time
    now_ns += STEP_NS;
    failures += good ? 0 : 1;
    torc_rounds_end(&rounds, now_ns, failures);
}

static uint64_t until_due_ns(uint64_t written_bytes)
{
    uint64_t from_ns = now_ns;

    while (!due(written_bytes) && now_ns - from_ns < 1000 * SECOND) {
        now_ns += STEP_NS;
    }
    return now_ns - from_ns;
}

static void a_round_is_due_when_the_log_has_grown(void)
{
    open();
    CU_ASSERT_FALSE(due(MOST - 1));
    CU_ASSERT_TRUE(due(MOST));
    make(MOST, true);
    CU_ASSERT_FALSE(due(MOST));
    CU_ASSERT_FALSE(due(2 * MOST - 1));
    CU_ASSERT_TRUE(due(2 * MOST));
}

static void what_lay_there_before_counts_once(void)
{
    open();
    rounds.before_bytes = MOST;
    CU_ASSERT_TRUE(due(0));
    make(1, true);
    CU_ASSERT_FALSE(due(MOST));
    CU_ASSERT_TRUE(due(MOST + 1));
}

// The disk was full for a moment: the log must not grow for a minute before the next try.
static void one_that_failed_is_tried_again_soon_then_less_often(void)
{
    uint64_t expected_ns = TORC_ROUNDS_PAUSE_LEAST_NS;

    open();
    for (uint32_t i = 0; i < 10; i++) {
        make(MOST, false);
        CU_ASSERT_EQUAL(until_due_ns(MOST), expected_ns); // D1: nothing more has to be written
        expected_ns = torc_min_u64(2 * expected_ns, TORC_ROUNDS_PAUSE_MOST_NS);
    }
}

static void one_that_succeeds_ends_all_waiting(void)
{
    open();
    make(MOST, false);
    (void)until_due_ns(MOST);
    make(MOST, true);
    CU_ASSERT_FALSE(due(MOST));
    CU_ASSERT_EQUAL(until_due_ns(2 * MOST), 0);
    make(2 * MOST, false);
    CU_ASSERT_EQUAL(until_due_ns(2 * MOST), TORC_ROUNDS_PAUSE_LEAST_NS); // from the beginning
}

static void a_new_life_waits_for_nothing(void)
{
    open();
    make(MOST, false);
    torc_rounds_begin(&rounds, MOST, failures); // it ends with its dataplane
    torc_rounds_serve(&rounds, now_ns);
    CU_ASSERT_TRUE(due(MOST));
}

static void an_operator_may_ask_for_one_amid_another(void)
{
    open();
    torc_rounds_begin(&rounds, MOST, failures);
    failures++;
    torc_rounds_begin(&rounds, 2 * MOST, failures);
    torc_rounds_end(&rounds, now_ns, failures);
    CU_ASSERT_EQUAL(until_due_ns(2 * MOST), TORC_ROUNDS_PAUSE_LEAST_NS); // one of them failed
}

static void old_segments_ask_for_one_and_then_once_a_minute(void)
{
    struct torc_rounds_view view = {.most_bytes = MOST, .orphans = true, .first = true};

    open();
    CU_ASSERT_TRUE(torc_rounds_due(&rounds, now_ns, &view));
    view.first = false;
    CU_ASSERT_FALSE(torc_rounds_due(&rounds, now_ns, &view));
    now_ns += TORC_ROUNDS_CALM_NS + 1;
    CU_ASSERT_TRUE(torc_rounds_due(&rounds, now_ns, &view));
    make(0, false);
    view.first = true;
    CU_ASSERT_FALSE(torc_rounds_due(&rounds, now_ns, &view)); // not at once after a failure
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a round is due when the log has grown", a_round_is_due_when_the_log_has_grown},
        {"what lay there before counts once", what_lay_there_before_counts_once},
        {"one that failed is tried again soon, then less often",
         one_that_failed_is_tried_again_soon_then_less_often},
        {"one that succeeds ends all waiting", one_that_succeeds_ends_all_waiting},
        {"a new life waits for nothing", a_new_life_waits_for_nothing},
        {"an operator may ask for one amid another", an_operator_may_ask_for_one_amid_another},
        {"old segments ask for one, and then once a minute",
         old_segments_ask_for_one_and_then_once_a_minute},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("rounds", tests);
}
