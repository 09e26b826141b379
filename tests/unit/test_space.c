// Torc tests: when a disk's room asks for checkpoints: a disk of every size, filled by a log, is
// never full of log that a round would have let go of, and rounds write no more than the log does.
#include "control/log_plan.h"
#include "control/space.h"
#include "kit/rng.h"
#include "tests/torc_test.h"

enum {
    ROUNDS = 3000,
    MIB = 1 << 20
};

#define MOST (UINT64_C(1024) * MIB)

static const struct torc_space roomy = {.free_bytes = UINT64_C(1000) * MIB,
                                        .live_bytes = UINT64_C(100) * MIB,
                                        .segment_bytes = UINT64_C(64) * MIB,
                                        .stream_count = 2};

static void room_enough_changes_nothing(void)
{
    struct torc_space space = roomy;

    CU_ASSERT_FALSE(torc_space_is_short(&space));
    CU_ASSERT_EQUAL(torc_space_growth(&space, MOST), MOST);
    space.free_bytes = UINT64_C(455) * MIB; // a round, as much log, and two segments of two streams
    CU_ASSERT_EQUAL(torc_space_growth(&space, MOST), UINT64_C(64) * MIB);
    space.free_bytes = UINT64_C(457) * MIB;
    CU_ASSERT_EQUAL(torc_space_growth(&space, MOST), MOST);
}

static void a_round_must_be_worth_it(void)
{
    struct torc_space space = roomy;

    space.free_bytes = UINT64_C(300) * MIB;
    space.live_bytes = UINT64_C(400) * MIB;
    CU_ASSERT_TRUE(torc_space_is_short(&space));
    CU_ASSERT_EQUAL(torc_space_growth(&space, MOST), UINT64_C(100) * MIB); // a quarter of its size
    CU_ASSERT_EQUAL(torc_space_growth(&space, UINT64_C(70) * MIB), UINT64_C(70) * MIB);
    space.free_bytes = UINT64_C(200) * MIB; // the last that there is
    CU_ASSERT_EQUAL(torc_space_growth(&space, MOST), UINT64_C(64) * MIB);
    space = roomy;
    space.full = true; // others may have taken what was free a moment ago
    CU_ASSERT_EQUAL(torc_space_growth(&space, MOST), UINT64_C(64) * MIB);
}

// A stream's table of segments has an end, however much room the disk has.
static void a_log_is_of_so_many_segments(void)
{
    struct torc_space space = roomy;
    uint64_t half = UINT64_C(4) * MIB * TORC_LOG_SEGMENTS_MAX / 2;

    space.segment_bytes = UINT64_C(4) * MIB;
    CU_ASSERT_EQUAL(torc_space_growth(&space, UINT64_C(1) << 40), half);
    CU_ASSERT_EQUAL(torc_space_growth(&space, half - MIB), half - MIB);
    space.live_bytes = UINT64_C(1) << 40; // of which a quarter would be worth it
    CU_ASSERT_EQUAL(torc_space_growth(&space, UINT64_C(1) << 40), half);
}

static void what_is_left_at_the_last_is_the_rounds(void)
{
    struct torc_space space = roomy;

    space.free_bytes = UINT64_C(165) * MIB; // a round and a segment
    CU_ASSERT_FALSE(torc_space_is_last(&space));
    space.free_bytes = UINT64_C(163) * MIB;
    CU_ASSERT_TRUE(torc_space_is_last(&space));
    space.free_bytes = UINT64_C(1) * MIB;
    CU_ASSERT_TRUE(torc_space_is_last(&space));
}

// A disk with room for the data three times, and a few segments: a log of any length goes through
// it.
static void a_log_goes_through_a_small_disk(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t segment = (1 + torc_rng_below(&rng, 64)) * MIB;
        uint64_t live = torc_rng_below(&rng, 2000) * MIB;
        uint64_t disk = 3 * live + (10 + torc_rng_below(&rng, 50)) * segment + live / 4;
        uint64_t log = 0;
        uint64_t written = 0;
        uint64_t made = 0;

        for (uint32_t k = 0; k < 200; k++) { // a segment a step, one checkpoint kept
            struct torc_space space = {.free_bytes = disk - live - log,
                                       .live_bytes = live,
                                       .segment_bytes = segment,
                                       .stream_count = 1};

            if (log >= torc_space_growth(&space, MOST)) {
                CU_ASSERT_TRUE(space.free_bytes >= live); // it fits beside the one before it
                log = 0;
                made += live;
            }
            log += segment;
            written += segment;
            CU_ASSERT_TRUE(live + log + segment <= disk);
        }
        CU_ASSERT_TRUE(made <= 4 * written + live);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"room enough changes nothing", room_enough_changes_nothing},
        {"a round must be worth it", a_round_must_be_worth_it},
        {"a log is of so many segments", a_log_is_of_so_many_segments},
        {"what is left at the last is the round's", what_is_left_at_the_last_is_the_rounds},
        {"a log goes through a small disk", a_log_goes_through_a_small_disk},
        CU_TEST_INFO_NULL};

    return torc_test_run("test-space", tests);
}
