// Torc tests: whether the metastore is away, as a node says it (control/away.h).
#include "control/away.h"
#include "tests/torc_test.h"

#include <string.h>

#define S UINT64_C(1000000000)

static struct torc_away away;

static void answer(uint64_t now_ns, enum torc_meta_verb verb, uint64_t ticket, enum torc_err err)
{
    struct torc_meta_answer with = {.ticket = ticket, .verb = verb, .err = err};

    if (err != TORC_ERR_OK) {
        (void)torc_fail(&with.why, err, "no answer in time");
    }
    torc_away_take(&away, now_ns, &with);
}

// Of what replicas, placement and others ask as well, and of each.
static void every_ask_that_fails_counts(void)
{
    static const enum torc_err well[] = {TORC_ERR_OK, TORC_ERR_NOT_FOUND,
                                         TORC_ERR_CONDITION_FAILED};
    const struct torc_meta_request request = {.verb = TORC_META_TXN, .ticket = 7};

    away = (struct torc_away){.heard_ns = S};
    answer(2 * S, TORC_META_TXN, 7, TORC_ERR_IN_DOUBT);
    answer(2 * S, TORC_META_GET, 8, TORC_ERR_UNAVAILABLE);
    answer(2 * S, TORC_META_LIST, 9, TORC_ERR_UNAVAILABLE);
    torc_away_refused(&away, 2 * S, &request);
    CU_ASSERT_EQUAL(away.failures, 4);
    for (uint32_t i = 0; i < TORC_COUNT_OF(well); i++) {
        answer(3 * S, TORC_META_TXN, 7, well[i]);
    }
    CU_ASSERT_EQUAL(away.failures, 4);
}

static void it_is_said_after_a_while_until_it_answers(void)
{
    away = (struct torc_away){.heard_ns = S};
    answer(10 * S, TORC_META_TXN, 7, TORC_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(torc_away_for_ns(&away, 10 * S + TORC_AWAY_SAID_NS - 1), 0);
    answer(12 * S, TORC_META_GET, 8, TORC_ERR_UNAVAILABLE);
    answer(12 * S, TORC_META_WATCH, 1, TORC_ERR_OK); // what had come before
    CU_ASSERT_EQUAL(torc_away_for_ns(&away, 20 * S), 10 * S);
    CU_ASSERT_PTR_NOT_NULL(strstr(away.why.text, "no answer in time"));
    answer(20 * S, TORC_META_TXN, 7, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(torc_away_for_ns(&away, 90 * S), 0);
}

static void it_asks_where_nobody_does(void)
{
    struct torc_meta_request request;

    away = (struct torc_away){.heard_ns = S};
    answer(2 * S, TORC_META_TXN, 7, TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_away_deadline_ns(&away), 2 * S + TORC_AWAY_IDLE_NS);
    CU_ASSERT_FALSE(torc_away_next(&away, 2 * S + TORC_AWAY_IDLE_NS - 1, &request));
    CU_ASSERT_TRUE(torc_away_next(&away, 10 * S, &request));
    CU_ASSERT_TRUE(torc_away_is_mine(request.ticket));
    CU_ASSERT_FALSE(torc_away_next(&away, 20 * S, &request)); // one at a time
    answer(20 * S, TORC_META_TXN, 7, TORC_ERR_OK);
    CU_ASSERT_FALSE(torc_away_next(&away, 30 * S, &request));
    answer(30 * S, request.verb, request.ticket, TORC_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(torc_away_deadline_ns(&away), 30 * S + TORC_AWAY_PAUSE_NS);
    CU_ASSERT_TRUE(torc_away_next(&away, 31 * S, &request));
    torc_away_refused(&away, 31 * S, &request);
    CU_ASSERT_FALSE(torc_away_next(&away, 31 * S, &request));
    CU_ASSERT_TRUE(torc_away_next(&away, 32 * S, &request));
    answer(33 * S, request.verb, request.ticket, TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_away_for_ns(&away, 90 * S), 0);
    CU_ASSERT_EQUAL(torc_away_deadline_ns(&away), 33 * S + TORC_AWAY_IDLE_NS);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every ask that fails counts", every_ask_that_fails_counts},
        {"it is said after a while, until it answers", it_is_said_after_a_while_until_it_answers},
        {"it asks where nobody does", it_asks_where_nobody_does},
        CU_TEST_INFO_NULL};

    return torc_test_run("test-away", tests);
}
