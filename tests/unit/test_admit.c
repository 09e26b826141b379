// Torc tests: notices of packets that were dropped unread, and what they may cost; the rest of
// dataplane/admit.h is shown by tests/model/model_overload.c.
#include "dataplane/admit.h"
#include "tests/torc_test.h"

#include <stdlib.h>

#define FRAMES  64u // a turn that is more than can be done
#define ANSWER  1200u
#define SESSION 77u

static struct torc_admit *admit; // large
static uint64_t now_ns;

static void turn(void)
{
    struct torc_admit_queue queue = {.frames = FRAMES, .waiting = 4 * FRAMES, .full = true};

    now_ns += 40000;
    queue.now_ns = now_ns;
    torc_admit_turn(admit, &queue);
}

// Turns until it sheds.
static void begin(void)
{
    torc_admit_init(admit, 100000);
    now_ns = UINT64_C(1000000000);
    for (uint32_t i = 0; i < 4000 && !admit->shedding; i++) {
        turn();
    }
    CU_ASSERT_FATAL(admit->shedding);
}

static void answered(uint32_t session)
{
    torc_admit_take(admit, session);
    torc_admit_leave(admit, session, ANSWER);
}

static bool none_is_due(void)
{
    uint32_t session;

    return !torc_admit_due(admit, &session);
}

static void test_alone_after_two_turns(void)
{
    uint64_t first = 0;
    uint64_t bitmap = 0;
    uint32_t session = 0;

    begin();
    answered(SESSION);
    CU_ASSERT(torc_admit_note(admit, SESSION, 100));
    CU_ASSERT(none_is_due());
    turn();
    CU_ASSERT(torc_admit_note(admit, SESSION, 103));
    CU_ASSERT(none_is_due());
    turn();
    CU_ASSERT(torc_admit_due(admit, &session));
    CU_ASSERT_EQUAL(session, SESSION);
    CU_ASSERT(torc_admit_tell(admit, session, &first, &bitmap));
    CU_ASSERT_EQUAL(first, 100);
    CU_ASSERT_EQUAL(bitmap, 9);
    CU_ASSERT(none_is_due());
    CU_ASSERT_EQUAL(admit->untold, 0);
}

static void test_not_when_an_answer_told(void)
{
    uint64_t first;
    uint64_t bitmap;
    uint32_t session;

    begin();
    answered(SESSION);
    CU_ASSERT(torc_admit_note(admit, SESSION, 100));
    CU_ASSERT(torc_admit_tell(admit, SESSION, &first, &bitmap));
    turn();
    CU_ASSERT(torc_admit_note(admit, SESSION, 101)); // another, which has its own time
    turn();
    CU_ASSERT(none_is_due());
    turn();
    CU_ASSERT(torc_admit_due(admit, &session));
    CU_ASSERT(torc_admit_tell(admit, SESSION, &first, &bitmap));
    CU_ASSERT_EQUAL(first, 101);
}

// The end of the load is the end of waiting.
static void test_at_once_when_the_load_is_gone(void)
{
    uint32_t session;

    begin();
    answered(SESSION);
    CU_ASSERT(torc_admit_note(admit, SESSION, 100));
    admit->shedding = false;
    CU_ASSERT(torc_admit_due(admit, &session));
}

// A4: what was not opened earns nothing.
static void test_no_more_than_answers_left(void)
{
    uint32_t told = 0;
    uint64_t first;
    uint64_t bitmap;
    uint32_t session;

    begin();
    CU_ASSERT_FALSE(torc_admit_note(admit, SESSION, 1)); // it may be anybody's
    torc_admit_take(admit, SESSION);
    torc_admit_leave(admit, SESSION, 95);
    CU_ASSERT_FALSE(torc_admit_note(admit, SESSION, 1)); // the answer was as large as allowed
    torc_admit_leave(admit, SESSION, 200);
    for (uint64_t seq = 2; seq < 20 && torc_admit_note(admit, SESSION, seq); seq++) {
        turn();
        turn();
        CU_ASSERT(torc_admit_due(admit, &session));
        CU_ASSERT(torc_admit_tell(admit, session, &first, &bitmap));
        told++;
    }
    CU_ASSERT_EQUAL(told, 2);
    for (uint32_t i = 0; i < 100; i++) {
        torc_admit_leave(admit, SESSION, ANSWER);
    }
    CU_ASSERT_EQUAL(admit->slots[SESSION].notices, 4); // nor is much kept for later
}

static void test_only_where_the_session_is_known_to_be(void)
{
    begin();
    answered(SESSION);
    answered(SESSION + TORC_ADMIT_SLOTS); // has the same account
    CU_ASSERT_FALSE(torc_admit_note(admit, SESSION, 1));
    CU_ASSERT(torc_admit_note(admit, SESSION + TORC_ADMIT_SLOTS, 1));
    begin();
    answered(SESSION);
    for (uint32_t i = 0; i <= 16; i++) {
        turn();
    }
    CU_ASSERT_FALSE(torc_admit_note(admit, SESSION, 1)); // long ago
}

static void test_notices_to_come_are_bounded(void)
{
    uint32_t noted = 0;

    begin();
    for (uint32_t session = 0; session < TORC_ADMIT_SLOTS; session++) {
        answered(session);
        noted += torc_admit_note(admit, session, 1) ? 1 : 0;
    }
    CU_ASSERT_EQUAL(noted, TORC_ADMIT_DUE);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a notice goes alone after two turns without an answer", test_alone_after_two_turns},
        {"and not when an answer has told", test_not_when_an_answer_told},
        {"and at once when the load is gone", test_at_once_when_the_load_is_gone},
        {"notices take no more than answers left", test_no_more_than_answers_left},
        {"a notice goes where the session was lately", test_only_where_the_session_is_known_to_be},
        {"notices to come are bounded", test_notices_to_come_are_bounded},
        CU_TEST_INFO_NULL};

    admit = malloc(sizeof(*admit));
    torc_assert(admit != NULL);
    return torc_test_run("admit", tests);
}
