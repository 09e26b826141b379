// Torc tests: watches of several nodes and shards under faults; and each planted fault found.
//
// What    many short lives (watch_world.h), each from one seed. By true time: a lease ends before
//         the promise it rests on, and before its member may be told that it is free; never two
//         nodes have all leases of a shard; promises are only prolonged; nothing of a dead boot
//         counts; ceilings that count are kept; slots are used again; and soon after the last fault
//         all claims are leased. With a planted fault some life must break.
// Run     TORC_SEED=n replays. TORC_WATCH_RUNS=n: so many lives. TORC_WATCH_BUGS=all: every planted
//         fault, and how many lives it took; else one of them, by the seed. TORC_WATCH_ONE=n: only
//         the life of that seed, as a failure prints it.
#include "tests/model/watch_world.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool torc_bug_on[TORC_BUG_COUNT];
uint64_t torc_bug_met[TORC_BUG_COUNT];

static struct world world;

// LEASE_WITHOUT_PROPOSED, LEASE_OF_ANY and LARGEST_CEILING are planted in the driver: they are
// rules of whoever reads the leases.
static const enum torc_bug planted[] = {
    TORC_BUG_RESTART_FORGETS_PROMISE,
    TORC_BUG_LEASE_WITHOUT_PROPOSED,
    TORC_BUG_LEASE_OF_ANY,
    TORC_BUG_LEASE_FROM_ARRIVAL,
    TORC_BUG_PROMISE_WITHOUT_EXCEPTIONS,
    TORC_BUG_EXCEPTIONS_UNPUBLISHED,
    TORC_BUG_LARGEST_CEILING,
    TORC_BUG_LEASE_OWN_K,
    TORC_BUG_LEASE_UNDER_OLD_CLAIM,
};

static const char *const names[] = {
#define X(name, text) #name,
    TORC_BUG_TABLE(X)
#undef X
};

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name); // NOLINT(concurrency-mt-unsafe): one thread

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void test_nothing_breaks(void)
{
    struct torc_rng seeds = {torc_test_seed()};
    uint64_t one = number_from("TORC_WATCH_ONE", 0);
    uint64_t runs = one != 0 ? 1 : number_from("TORC_WATCH_RUNS", 300);
    uint64_t steps = 0, reads = 0, leases = 0, takeovers = 0, joins = 0, restarts = 0, reused = 0;
    uint64_t healing_ns = 0, longest_ns = 0;

    for (uint64_t i = 0; i < runs; i++) {
        uint64_t seed = one != 0 ? one : torc_rng_next(&seeds);

        world_run(&world, seed);
        if (world.wrong[0] != 0) {
            (void)fprintf(stderr,
                          "life %" PRIu64 " at %" PRIu64 " us: %s (TORC_WATCH_ONE=%" PRIu64 ")\n",
                          i, world.now_ns / 1000, world.wrong, seed);
            CU_FAIL("a life of watches broke a rule");
        } else {
            uint64_t healed_ns = torc_max_u64(world.healed_ns, world.calm_ns) - world.calm_ns;

            healing_ns += healed_ns;
            longest_ns = torc_max_u64(longest_ns, healed_ns);
        }
        steps += world.steps;
        reads += world.reads;
        leases += world.leases;
        takeovers += world.takeovers;
        joins += world.joins;
        restarts += world.restarts;
        reused += world.reused;
    }
    (void)fprintf(stderr,
                  "%" PRIu64 " lives: steps %" PRIu64 " reads %" PRIu64 " leases %" PRIu64
                  " takeovers %" PRIu64 " joins %" PRIu64 " restarts %" PRIu64
                  " slots again %" PRIu64 "; well after %" PRIu64 " ms on average, %" PRIu64
                  " at most\n",
                  runs, steps, reads, leases, takeovers, joins, restarts, reused,
                  healing_ns / MS / torc_max_u64(runs, 1), longest_ns / MS);
    if (runs >= 100) { // the lives were worth living
        CU_ASSERT_TRUE(takeovers > runs);
        CU_ASSERT_TRUE(joins > runs);
        CU_ASSERT_TRUE(restarts > 0);
        CU_ASSERT_TRUE(reused > 0);
        CU_ASSERT_TRUE(reads > 0);
    }
}

// Lives until one breaks a rule. In a process of its own: a watch with a fault may meet an
// assertion before the oracle looks, which is found as well.
static void find(enum torc_bug bug, struct torc_rng *seeds, uint64_t lives_max)
{
    struct torc_rng own = {torc_rng_next(seeds)};
    int status = 0;
    uint64_t lives = 0;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    torc_assert(child >= 0);
    if (child == 0) {
        torc_bug_on[bug] = true;
        do {
            world_run(&world, torc_rng_next(&own));
            lives++;
        } while ((world.wrong[0] == 0 || world.stuck) && lives < lives_max);
        (void)fprintf(stderr, "%2d %-28s %s after %4" PRIu64 " lives: %s\n", (int)bug + 1,
                      names[bug], world.wrong[0] != 0 ? "found" : "MISSED", lives, world.wrong);
        _exit(world.wrong[0] != 0 ? 0 : 1);
    }
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                   (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}

static void test_planted_faults_are_found(void)
{
    struct torc_rng seeds = {torc_test_seed()};
    const char *which = getenv("TORC_WATCH_BUGS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t lives_max = number_from("TORC_WATCH_LIVES", 5000);

    for (uint32_t i = 0; i < TORC_COUNT_OF(planted) && which != NULL; i++) {
        if (strcmp(which, "all") == 0 || strcmp(which, names[planted[i]]) == 0) {
            find(planted[i], &seeds, lives_max);
        }
    }
    if (which == NULL) {
        find(planted[torc_rng_below(&seeds, TORC_COUNT_OF(planted))], &seeds, lives_max);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"lives of watches under faults break no rule", test_nothing_breaks},
        {"planted faults are found", test_planted_faults_are_found},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("watch model", tests);
}
