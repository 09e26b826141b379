// Torc tests: starts that are cut short anywhere, over and over; directories and metastores that
// are put back. Who goes on as a copy has all that was acknowledged as this copy.
//
// All orders of a few events are tried. A start ends behind any of its steps, or serves and
// acknowledges a write; there are another write, a clean stop, a death; the directory or the
// metastore is kept for later (at rest, while the node serves, behind any step of a start that
// goes on), and put back. The oracle knows how many writes each copy has acknowledged; the rule
// knows nothing of it. The rule before this one (`old_plan`) runs too and is found wrong: the
// oracle is no rubber stamp.
#include "control/starts.h"
#include "tests/torc_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPIES = 16,
    DEPTH = 7,
    DEPTH_QUICK = 6,
    NOBODY = 0,
    STEPS = 7 // of a start, before it serves
};

// What is kept and put back. Both, from the same backup, is another matter: a loss by decision.
enum keeps {
    KEEPS_DIR,
    KEEPS_META
};

struct dir {
    uint64_t start_count;
    uint64_t sealed_boot;
    bool sealed;
    uint64_t lines_of;        // as which copy DATA/replicas was written
    uint32_t written[COPIES]; // of the writes that were acknowledged as each copy
};

struct meta {
    struct torc_node_fields node;
    struct torc_start_fields start;
};

struct world {
    struct dir dir;
    struct meta meta;
    struct dir kept_dir;
    struct meta kept_meta;
    uint64_t copies; // the counter: numbers are never drawn twice
    uint64_t copy;   // of the life that serves; NOBODY
    uint64_t boot;
    uint32_t acknowledged[COPIES];
    enum keeps keeps;
    bool forgets;
    bool old; // the rule before
    bool kept;
    bool untouched; // nothing was put back
    bool stopped; // cleanly or never served, and no start since came so far that it may have served
};

// A start ends behind so many steps (control/starts.h), or serves; or something is kept behind a
// step, and it serves.
enum event {
    EVENT_ENDS_BEHIND,
    EVENT_SERVES = EVENT_ENDS_BEHIND + STEPS,
    EVENT_KEEPS_BEHIND,
    EVENT_WRITE = EVENT_KEEPS_BEHIND + STEPS,
    EVENT_STOP,
    EVENT_DIE,
    EVENT_KEEP,
    EVENT_PUT,
    EVENTS
};

struct tally {
    uint64_t starts;
    uint64_t refused;
    uint64_t renewed;
    uint64_t locked_out; // refused, though nothing was put back
    uint64_t seal_lost;  // renewed, though stopped cleanly, nobody served since, nothing put back
    uint64_t lines_lost; // lines of this directory that a start takes for another's
    uint64_t forgotten;  // serves as a copy, and lacks what was acknowledged as this copy
};

// N1 and the seal as they were: one less passes whoever served, and the seal is the last boot's.
static enum torc_err old_plan(struct torc_start_plan *plan, const struct torc_start_seen *seen)
{
    const struct torc_node_fields *node = seen->node;

    if (seen->dir_count != node->start_count && seen->dir_count + 1 != node->start_count) {
        return TORC_ERR_CORRUPT;
    }
    *plan = (struct torc_start_plan){.served = node->boot,
                                     .copy = node->copy,
                                     .renew = seen->forgets && node->boot != 0 &&
                                              (!seen->sealed || seen->sealed_boot != node->boot)};
    return TORC_ERR_OK;
}

static enum torc_err world_plan(const struct world *world, struct torc_start_plan *plan)
{
    const struct torc_start_seen seen = {.node = &world->meta.node,
                                         .start = &world->meta.start,
                                         .dir_count = world->dir.start_count,
                                         .sealed = world->dir.sealed,
                                         .sealed_boot = world->dir.sealed_boot,
                                         .forgets = world->forgets};
    struct torc_fail why;

    return world->old ? old_plan(plan, &seen) : torc_start_plan(plan, &seen, &why);
}

static void world_keep(struct world *world)
{
    world->kept = true;
    world->kept_dir = world->dir;
    world->kept_meta = world->meta;
}

static void world_do(struct world *world, const struct torc_start_plan *plan, uint64_t copy,
                     uint32_t step)
{
    struct meta *meta = &world->meta;

    switch (step) {
    case 1:
        if (plan->fresh) {
            world->dir.sealed_boot = 0;
            world->dir.sealed = true;
        }
        if (plan->behind) {
            world->dir.start_count = meta->node.start_count;
        }
        return;
    case 2:
        meta->node.boot++;
        meta->node.start_count++;
        meta->node.copy = copy;
        if (!world->old) {
            meta->start = (struct torc_start_fields){
                .start_count = meta->node.start_count, .served = plan->served, .copy = plan->copy};
        }
        return;
    case 3: world->dir.start_count = meta->node.start_count; return;
    case 5:
        world->stopped = false;
        if (!world->old) {
            meta->start.served = meta->node.boot;
            meta->start.copy = meta->node.copy;
        }
        return;
    case 6: world->dir.sealed = world->old && world->dir.sealed; return;
    case 7: world->dir.lines_of = copy; return;
    default: return; // 4: recovery only reads
    }
}

// What a node that forgets acknowledges, its log has after a clean stop; another's has it before.
static void world_write(struct world *world)
{
    world->acknowledged[world->copy]++;
    world->dir.written[world->copy] += world->forgets ? 0 : 1;
}

// The rule before took lines for a directory's own where they were of the copy that it found.
static bool world_has_lines(const struct world *world, const struct torc_start_plan *plan,
                            uint64_t copy)
{
    uint64_t of = world->dir.lines_of;

    return world->old ? of == plan->copy : torc_start_has_lines(of, plan->copy, copy);
}

// Up to step `last`; serves behind all of them. Keeps what lies there behind step `keep`.
static void world_start(struct world *world, uint32_t last, uint32_t keep, struct tally *tally)
{
    struct torc_start_plan plan;
    uint64_t copy;

    tally->starts++;
    if (world_plan(world, &plan) != TORC_ERR_OK) {
        tally->refused++;
        tally->locked_out += world->untouched ? 1 : 0;
        return;
    }
    copy = plan.renew ? ++world->copies : plan.copy;
    torc_assert(copy < COPIES);
    tally->renewed += plan.renew ? 1 : 0;
    tally->seal_lost += plan.renew && world->untouched && world->stopped ? 1 : 0;
    if (world_has_lines(world, &plan, copy)) {
        // Which copies its replicas were is taken from lines of this copy alone.
        CU_ASSERT_TRUE(copy != plan.copy || world->dir.lines_of == copy);
    } else {
        tally->lines_lost += world->dir.lines_of != 0 ? 1 : 0;
    }
    for (uint32_t step = 1; step <= torc_min_u64(last, STEPS); step++) {
        world_do(world, &plan, copy, step);
        if (step == keep) {
            world_keep(world);
        }
    }
    if (last > STEPS) {
        world->copy = copy;
        world->boot = world->meta.node.boot;
        tally->forgotten += world->dir.written[copy] < world->acknowledged[copy] ? 1 : 0;
        world_write(world);
    }
}

static void world_stop(struct world *world)
{
    world->dir.written[world->copy] = world->acknowledged[world->copy];
    world->dir.sealed_boot = world->boot;
    world->dir.sealed = true;
    world->copy = NOBODY;
    world->stopped = true;
}

static void world_put(struct world *world)
{
    world->untouched = false;
    if (world->keeps == KEEPS_DIR) {
        world->dir = world->kept_dir;
    } else {
        world->meta = world->kept_meta;
    }
}

static bool world_may(const struct world *world, enum event event)
{
    bool serves = world->copy != NOBODY;

    // A directory that is copied while a `durable` node serves or is about to, and put back before
    // its next start, is told by nothing from the one that was there.
    bool tells = world->keeps == KEEPS_META || world->forgets;

    switch ((uint32_t)event) {
    case EVENT_WRITE:
    case EVENT_STOP:
    case EVENT_DIE: return serves;
    case EVENT_KEEP: return tells || !serves;
    case EVENT_PUT: return !serves && world->kept;
    default: return !serves && (tells || event < EVENT_KEEPS_BEHIND);
    }
}

static void world_step(struct world *world, enum event event, struct tally *tally)
{
    switch ((uint32_t)event) {
    case EVENT_WRITE: world_write(world); return;
    case EVENT_STOP: world_stop(world); return;
    case EVENT_DIE: world->copy = NOBODY; return;
    case EVENT_KEEP: world_keep(world); return;
    case EVENT_PUT: world_put(world); return;
    default: break;
    }
    if (event < EVENT_KEEPS_BEHIND) {
        world_start(world, event - EVENT_ENDS_BEHIND + 1, 0, tally);
    } else {
        world_start(world, STEPS + 1, event - EVENT_KEEPS_BEHIND + 1, tally);
    }
}

// All that can come in `depth` events. NOLINTNEXTLINE(misc-no-recursion): as deep as `depth`
static void world_try(const struct world *world, uint32_t depth, struct tally *tally)
{
    for (uint32_t event = 0; event < EVENTS && depth > 0; event++) {
        struct world next;

        if (world_may(world, (enum event)event)) {
            next = *world;
            world_step(&next, (enum event)event, tally);
            world_try(&next, depth - 1, tally);
        }
    }
}

static struct tally world_all(enum keeps keeps, bool forgets, bool old)
{
    struct world world = {.copies = 1,
                          .meta = {.node = {.copy = 1}},
                          .keeps = keeps,
                          .forgets = forgets,
                          .old = old,
                          .untouched = true,
                          .stopped = true};
    struct tally tally = {0};
#ifdef TORC_TEST_SANITIZED
    bool quick = true;
#else
    bool quick = getenv("TORC_TEST_QUICK") != NULL; // NOLINT(concurrency-mt-unsafe): one thread
#endif

    world_try(&world, quick ? DEPTH_QUICK : DEPTH, &tally);
    CU_ASSERT_TRUE(tally.starts > 1000);
    return tally;
}

static void test_nobody_is_locked_out_or_forgets(void)
{
    for (uint32_t keeps = KEEPS_DIR; keeps <= KEEPS_META; keeps++) {
        for (uint32_t forgets = 0; forgets < 2; forgets++) {
            struct tally tally = world_all((enum keeps)keeps, forgets != 0, false);

            CU_ASSERT_EQUAL(tally.locked_out, 0);
            CU_ASSERT_EQUAL(tally.seal_lost, 0);
            CU_ASSERT_EQUAL(tally.lines_lost, 0);
            CU_ASSERT_EQUAL(tally.forgotten, 0);
            CU_ASSERT_TRUE(tally.refused > 0); // old copies, and they are found
            CU_ASSERT_EQUAL(tally.renewed > 0, forgets != 0);
            (void)printf("keeps=%u forgets=%u starts=%" PRIu64 " refused=%" PRIu64
                         " renewed=%" PRIu64 "\n",
                         keeps, forgets, tally.starts, tally.refused, tally.renewed);
        }
    }
}

static void test_the_rule_before_is_found_wrong(void)
{
    struct tally durable = world_all(KEEPS_DIR, false, true);
    struct tally replicated = world_all(KEEPS_DIR, true, true);

    CU_ASSERT_TRUE(durable.locked_out > 0);
    CU_ASSERT_TRUE(durable.forgotten > 0); // a directory of one start before passed
    CU_ASSERT_TRUE(replicated.seal_lost > 0);
    CU_ASSERT_TRUE(replicated.lines_lost > 0);
}

// An older version in between writes no `start/<id>`: nothing is taken for known.
static void test_an_older_version_in_between(void)
{
    struct torc_node_fields node = {.boot = 5, .start_count = 5, .copy = 3};
    struct torc_start_fields start = {.start_count = 4, .served = 4, .copy = 2};
    struct torc_start_seen seen = {.node = &node,
                                   .start = &start,
                                   .dir_count = 4,
                                   .sealed_boot = 4,
                                   .sealed = true,
                                   .forgets = true};
    struct torc_start_plan plan;
    struct torc_fail why = {0};

    TORC_TEST_OK(torc_start_plan(&plan, &seen, &why), &why);
    CU_ASSERT_TRUE(plan.behind);
    CU_ASSERT_TRUE(plan.renew); // its boot 5 may have served
    CU_ASSERT_EQUAL(plan.served, 5);
    CU_ASSERT_EQUAL(plan.copy, 3);
    seen.sealed_boot = 5;
    TORC_TEST_OK(torc_start_plan(&plan, &seen, &why), &why);
    CU_ASSERT_FALSE(plan.renew);
    seen.dir_count = 3;
    CU_ASSERT_EQUAL(torc_start_plan(&plan, &seen, &why), TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "start 3, metastore: start 5"));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"nobody is locked out, and nobody forgets", test_nobody_is_locked_out_or_forgets},
        {"the rule before is found wrong", test_the_rule_before_is_found_wrong},
        {"an older version in between", test_an_older_version_in_between},
        CU_TEST_INFO_NULL};

    return torc_test_run("model-starts", tests);
}
