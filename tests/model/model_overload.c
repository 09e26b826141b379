// Torc tests: a worker under more load than it can do, in virtual time.
//
// What    the world of tests/overload_world.h, whose turns take as long as a table says that their
//         packets take. Everything follows from the seed, so latencies are exact and may be
//         asserted. What a real processor makes of it: torc-overload-bench.
// Figures TORC_TEST_FIGURES=1 prints what each run measured.
#include "dataplane/worker_state.h"
#include "tests/overload_world.h"
#include "tests/torc_test.h"

#include <stdio.h>
#include <stdlib.h>

#define TARGET_NS UINT64_C(100000)
// 99 of 100 refused packets are told of in that time, all of them in the other: opened ones in
// their own turn, unread ones with the next answer to their session or two turns later.
#define REFUSED_NS     (5 * TARGET_NS / 2)
#define REFUSED_MAX_NS (7 * TARGET_NS / 2)
#define SERVED_PPM     950000u         // of the time goes into what is served
#define SERVED_NS      (2 * TARGET_NS) // 99 of 100 accepted take at most that long
#define RANGES_NS      (4 * TARGET_NS) // and of packets of rows, which are made last

static void open_load(uint32_t count, uint64_t salt)
{
    struct overload_config config = {.sessions = count,
                                     .seed = torc_test_seed() + salt,
                                     .keys = 100000,
                                     .measure_ns = 30 * OVERLOAD_MS_NS};

    overload_open(&config);
}

static void check_overload(const struct overload_figures *figures)
{
    CU_ASSERT(figures->busy_ppm >= 990000);
    CU_ASSERT(figures->p99_ns <= SERVED_NS);
    CU_ASSERT(figures->refused_p99_ns <= REFUSED_NS);
    CU_ASSERT(figures->refused_max_ns <= REFUSED_MAX_NS);
    CU_ASSERT(overload_quantile(&overload.ranges, 990000) <= RANGES_NS);
    CU_ASSERT(figures->served_ppm >= SERVED_PPM);
    CU_ASSERT_EQUAL(overload.ring_lost, 0);
    CU_ASSERT(overload.told_count * 100 >= overload.dropped_count * 95);
}

static void check_mix(const struct overload_mix *mix, uint32_t count)
{
    uint64_t cost_ps;
    struct overload_figures figures;

    open_load(count, count);
    cost_ps = overload_cost(mix);
    figures = overload_load(mix, cost_ps, 90);
    CU_ASSERT_EQUAL(overload.refused.count, 0);
    CU_ASSERT(figures.p99_ns <= SERVED_NS);
    figures = overload_load(mix, cost_ps, 200);
    check_overload(&figures);
    overload_close();
}

static void test_gets(void)
{
    check_mix(&overload_gets, 20);
    check_mix(&overload_many_gets, 20);
}

static void test_everything(void)
{
    check_mix(&overload_everything, 20);
}

static void test_many_sessions(void)
{
    check_mix(&overload_everything, OVERLOAD_SESSIONS_MAX);
}

// The oracle sees a queue that stands: before anything is refused, answers come late. With less
// load than the core can do nothing is refused however long it lasts.
static void test_onset(void)
{
    struct overload_figures figures;

    open_load(20, 1);
    (void)overload_after(&overload_everything, overload_cost(&overload_everything), 90,
                         130 * OVERLOAD_MS_NS);
    CU_ASSERT_EQUAL(overload.refused.count, 0);
    CU_ASSERT_FALSE(torc_rig_admit(overload.rig, 0)->shedding);
    figures = overload_after(&overload_many_gets, 2000000, 200, 20 * OVERLOAD_MS_NS);
    CU_ASSERT_EQUAL(overload.refused.count, 0);
    CU_ASSERT(figures.p99_ns > SERVED_NS);
    CU_ASSERT(overload.ring_lost > 0);
    (void)overload_after(&overload_many_gets, 2000000, 200, 60 * OVERLOAD_MS_NS);
    CU_ASSERT(overload.refused.count > 0);
    CU_ASSERT_EQUAL(overload.ring_lost, 0);
    overload_close();
}

// More than can even be refused: it is dropped unopened, and what is done is done in time.
static void test_flood(void)
{
    struct overload_figures figures;

    open_load(20, 2);
    figures = overload_load(&overload_gets, 500000, 1000);
    CU_ASSERT(overload.dropped_count > 0);
    CU_ASSERT(figures.busy_ppm >= 990000);
    CU_ASSERT(figures.served_ppm >= 400000);
    CU_ASSERT(figures.p99_ns <= 10 * TARGET_NS);
    overload_close();
}

// Refusals end with the load.
static void test_after(void)
{
    uint64_t cost_ps;

    open_load(20, 3);
    cost_ps = overload_cost(&overload_everything);
    (void)overload_load(&overload_everything, cost_ps, 200);
    CU_ASSERT(overload.refused.count > 0);
    (void)overload_after(&overload_everything, cost_ps, 70, 250 * OVERLOAD_MS_NS);
    CU_ASSERT_EQUAL(overload.refused.count, 0);
    CU_ASSERT_FALSE(overload.rig->workers[0]->admit->shedding);
    overload_close();
}

// ---- Fairness

// One session asks for twice what the core can do; the others, together for a tenth of it, are
// served. A packet of theirs may meet a bad turn: of all of them 1 in 200, and of one of them,
// which sends about 50, as many as it may send at once.
static void test_greedy(void)
{
    uint64_t offered = 0;
    uint64_t lost = 0;
    uint64_t cost_ps;

    open_load(50, 4);
    cost_ps = overload_cost(&overload_everything);
    overload.sessions[7].weight = 49 * 20;
    (void)overload_load(&overload_everything, cost_ps, 210);
    for (uint32_t i = 0; i < overload.session_count; i++) {
        if (i != 7) {
            offered += overload.sessions[i].offered;
            lost += overload.sessions[i].refused;
            CU_ASSERT(overload.sessions[i].refused <= 4);
        }
    }
    CU_ASSERT(lost * 200 <= offered);
    CU_ASSERT(overload.sessions[7].refused > 0);
    overload_close();
}

// Sessions that ask for 1 to 40 parts: nobody gets less than 3/4 of the smaller of what it asks for
// and an even share, and those over it get about the same.
static void check_shares(const struct overload_mix *mix, uint32_t count, uint64_t salt)
{
    uint64_t low = UINT64_MAX;
    uint64_t high = 0;
    uint64_t share;

    open_load(count, salt);
    for (uint32_t i = 0; i < count; i++) {
        overload.sessions[i].weight = i % 4 == 0 ? 40 : i % 4;
    }
    (void)overload_load(mix, overload_cost(mix), 250);
    for (uint32_t i = 0; i < count; i += 4) {
        low = torc_min_u64(low, overload.sessions[i].served);
        high = torc_max_u64(high, overload.sessions[i].served);
    }
    share = overload.served.count / count;
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT(overload.sessions[i].served * 4 >=
                  3 * torc_min_u64(overload.sessions[i].offered, share));
    }
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("  shares of %u: the greedy ones %" PRIu64 " .. %" PRIu64 ", even %" PRIu64
                     ", a quiet one %" PRIu64 " of %" PRIu64 "\n",
                     count, low, high, share, overload.sessions[1].served,
                     overload.sessions[1].offered);
    }
    CU_ASSERT(low * 2 >= high);
    overload_close();
}

static void test_shares(void)
{
    check_shares(&overload_gets, 8, 5);
    check_shares(&overload_everything, 40, 6);
    check_shares(&overload_everything, 200, 7);
}

// ---- Deadlines

// Of requests whose time is shorter than the queue none is done: they are refused or told so.
static void test_deadlines(void)
{
    open_load(20, 8);
    overload.budget_us = 300;
    (void)overload_after(&overload_gets, 500000, 200, 20 * OVERLOAD_MS_NS);
    CU_ASSERT(overload.deadlines > 0);
    CU_ASSERT_EQUAL(overload.overdue, 0);
    CU_ASSERT(overload.served.count > 0);
    overload_close();
}

int main(void)
{
    CU_TestInfo tests[] = {{"twice the load: gets", test_gets},
                           {"twice the load: everything", test_everything},
                           {"twice the load, of many sessions", test_many_sessions},
                           {"before it is known that a queue stands", test_onset},
                           {"more than can be refused", test_flood},
                           {"refusals end with the load", test_after},
                           {"quiet sessions beside a greedy one", test_greedy},
                           {"shares are even", test_shares},
                           {"what is too late is not done", test_deadlines},
                           CU_TEST_INFO_NULL};

    return torc_test_run("overload", tests);
}
