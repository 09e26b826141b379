// Torc tests: what a control that goes on with a running dataplane tells it of its log's segments.
#include "control/log_plan.h"
#include "storage/log_format.h"
#include "tests/torc_test.h"

enum {
    SEGMENTS_MAX = 6,
    SEGMENT_BYTES = 1 << 20
};

static struct torc_log_plan_segment room[SEGMENTS_MAX];
static struct torc_log_plan plan;

static void add(uint32_t segment, uint64_t cut_sequence)
{
    CU_ASSERT_TRUE_FATAL(
        torc_log_plan_add(&plan, &(struct torc_log_plan_segment){.generation = 100 + segment,
                                                                 .segment = segment,
                                                                 .segment_bytes = SEGMENT_BYTES,
                                                                 .cut_sequence = cut_sequence}));
}

// Two segments of the life before, with blocks 11 to 40.
static void begin(void)
{
    torc_log_plan_init(&plan, 1, 2, room, SEGMENTS_MAX);
    add(7, 11);
    add(8, 0);
}

static enum torc_err take(uint32_t segment, uint64_t sequence)
{
    struct torc_log_flight *flight;
    struct torc_fail why = {0};

    return torc_log_plan_take(&plan,
                              &(struct torc_log_plan_block){.sequence = sequence,
                                                            .generation = 100 + segment,
                                                            .stream = 1,
                                                            .segment = segment,
                                                            .offset_bytes = TORC_LOG_SLOT_BYTES,
                                                            .byte_count = TORC_LOG_SLOT_BYTES,
                                                            .slots = 1},
                              &flight, &why);
}

// The disk was full, or slow, since the dataplane began: no segment was made for it.
static void a_worker_without_a_segment_gets_none_of_lives_before(void)
{
    begin();
    CU_ASSERT_EQUAL(torc_log_plan_resume(&plan, &(struct torc_log_plan_seen){.sealed = 40}),
                    UINT32_MAX);
    CU_ASSERT_EQUAL(torc_log_plan_wants(&plan), TORC_LOG_AHEAD);
    CU_ASSERT_EQUAL(torc_log_plan_next_segment(&plan), 9);
    CU_ASSERT_EQUAL(torc_log_plan_next_cut(&plan), 41); // as a new life's first one
    add(9, 41);
    CU_ASSERT_EQUAL(torc_log_plan_next_cut(&plan), 0);
    CU_ASSERT_EQUAL(take(8, 41), TORC_ERR_CORRUPT);
    CU_ASSERT_EQUAL(take(9, 41), TORC_ERR_OK);
}

static void nor_where_there_is_no_segment_at_all(void)
{
    torc_log_plan_init(&plan, 1, 2, room, SEGMENTS_MAX);
    CU_ASSERT_EQUAL(torc_log_plan_resume(&plan, &(struct torc_log_plan_seen){0}), UINT32_MAX);
    CU_ASSERT_EQUAL(torc_log_plan_wants(&plan), TORC_LOG_AHEAD);
    CU_ASSERT_EQUAL(torc_log_plan_next_cut(&plan), 1);
}

// Control died between making them and telling: or the worker, between hearing and answering.
static void it_is_told_of_those_made_for_it(void)
{
    begin();
    add(9, 41);
    CU_ASSERT_EQUAL(torc_log_plan_resume(&plan, &(struct torc_log_plan_seen){.sealed = 40}), 8);
    CU_ASSERT_EQUAL(torc_log_plan_wants(&plan), TORC_LOG_AHEAD - 1);
    CU_ASSERT_EQUAL(torc_log_plan_next_cut(&plan), 0);
    CU_ASSERT_EQUAL(take(9, 41), TORC_ERR_OK);

    begin();
    add(9, 41);
    add(10, 0);
    CU_ASSERT_EQUAL(torc_log_plan_resume(&plan, &(struct torc_log_plan_seen){.sealed = 40}), 8);
    CU_ASSERT_EQUAL(torc_log_plan_wants(&plan), 0);
}

static void who_was_told_of_some_is_told_of_the_rest(void)
{
    const struct torc_log_plan_seen seen = {.sealed = 45, .segment = 9, .told = 10};

    begin();
    add(9, 41);
    add(10, 0);
    add(11, 0);
    CU_ASSERT_EQUAL(torc_log_plan_resume(&plan, &seen), 10);
    CU_ASSERT_EQUAL(torc_log_plan_wants(&plan), 0);
    CU_ASSERT_EQUAL(take(10, 46), TORC_ERR_OK);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a worker without a segment gets none of lives before",
         a_worker_without_a_segment_gets_none_of_lives_before},
        {"nor where there is no segment at all", nor_where_there_is_no_segment_at_all},
        {"it is told of those made for it", it_is_told_of_those_made_for_it},
        {"who was told of some is told of the rest", who_was_told_of_some_is_told_of_the_rest},
        CU_TEST_INFO_NULL};

    return torc_test_run("log plan", tests);
}
