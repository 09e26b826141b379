// Torc tests: a shard's cluster under faults, against what must hold; and each planted fault found.
//
// What    many short lives of a cluster (replica_world.h), each from one seed. Without a planted
//         fault nothing may break; with one, some seed must.
// Run     TORC_SEED=n replays. TORC_REPLICA_RUNS=n: so many lives. TORC_REPLICA_BUGS=all: every
//         planted fault, and the table of how many lives it took; else one of them, by the seed.
//         TORC_REPLICA_ONE=n: only the life of that seed, as a failure prints it.
#include "tests/model/replica_world.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool torc_bug_on[TORC_BUG_COUNT];
uint64_t torc_bug_met[TORC_BUG_COUNT];

static struct world world;
static char life_text[67]; // which life is lived

// An assertion of the machines ends a life, and the process: say which.
static void on_abort(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, life_text, sizeof(life_text) - 1);
}

// The first OFTEN are found within some dozens of lives: each run of the test tries one of them.
// docs/decisions/0024-replica.md has the table, and says why 17 is not here. 44: model_watch.c.
#define OFTEN 23u
static const enum torc_bug planted[] = {
    TORC_BUG_T7_NO_PROMISE_WAIT,
    TORC_BUG_TAKEOVER_NOT_IN_SYNC,
    TORC_BUG_COPY_IGNORED,
    TORC_BUG_COMMIT_BY_MAJORITY,
    TORC_BUG_COMMIT_WITHOUT_PROPOSED,
    TORC_BUG_CUT_TO_COMMIT_MARK,
    TORC_BUG_TAIL_NOT_APPLIED,
    TORC_BUG_REMOVAL_FROM_REQUEST,
    TORC_BUG_LEASE_OF_ANY,
    TORC_BUG_RESTART_SAME_EPOCH,
    TORC_BUG_ACK_BEFORE_READ,
    TORC_BUG_NO_CUT,
    TORC_BUG_LEASE_FROM_ARRIVAL,
    TORC_BUG_NOW_BEFORE_POLL,
    TORC_BUG_PROMISE_WITHOUT_EXCEPTIONS,
    TORC_BUG_PROMISE_WITHOUT_MAXIMUM,
    TORC_BUG_MIN_IN_SYNC_STOPS_TAIL,
    TORC_BUG_DEMOTED_ANSWERS,
    TORC_BUG_PROBE_SKIPPED,
    TORC_BUG_JOIN_BELOW_COMMIT,
    TORC_BUG_EXCEPTIONS_UNPUBLISHED,
    TORC_BUG_LEASE_OWN_K,
    TORC_BUG_RELEASE_OUTLIVES,
    TORC_BUG_JOIN_BASE_IN_MEMORY,
    TORC_BUG_LEASE_WITHOUT_PROPOSED,
    TORC_BUG_ACK_OLD_EPOCH_APPEND,
    TORC_BUG_LATE_EPOCH_CUTS,
    TORC_BUG_DOWN_VOIDS_ALL,
    TORC_BUG_RESTART_FORGETS_PROMISE,
    TORC_BUG_T7_NO_MEMBER_ACKS,
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

// A life: its size and its kind follow from the seed.
static bool life(uint64_t seed)
{
    struct torc_rng rng = {seed};
    struct world_setup setup = {.seed = torc_rng_next(&rng)};

    (void)snprintf(life_text, sizeof(life_text), "in life TORC_REPLICA_ONE=%-40" PRIu64 "\n", seed);
    setup.durability =
        torc_rng_below(&rng, 2) == 0 ? TORC_DURABILITY_DURABLE : TORC_DURABILITY_REPLICATED;
    setup.nodes = 3 + (uint32_t)torc_rng_below(&rng, 3);
    setup.replicas = 2 + (uint32_t)torc_rng_below(&rng, 2);
    setup.min_in_sync = setup.replicas / 2 + 1;
    if (setup.replicas == 2 || torc_rng_below(&rng, 2) == 0) {
        setup.min_in_sync = 1;
    }
    setup.trouble_ns = 300 * MS + torc_rng_below(&rng, 1200 * MS);
    setup.alarms = torc_rng_below(&rng, 4) == 0 ? 1 + (uint32_t)torc_rng_below(&rng, 3) : 0;
    world_run(&world, &setup);
    return world.wrong[0] == 0;
}

struct totals {
    uint64_t steps, writes, reads, takeovers, joins, removals, bases, broken, transfers, cuts,
        healing_us;
};

static void add_up(struct totals *totals)
{
    totals->steps += world.steps;
    totals->writes += world.writes;
    totals->reads += world.reads;
    totals->takeovers += world.takeovers;
    totals->joins += world.joins;
    totals->removals += world.removals;
    totals->bases += world.bases;
    totals->broken += world.bases_broken;
    totals->transfers += world.transfers;
    totals->cuts += world.cuts;
    totals->healing_us += (world.now_ns - world.calm_ns) / US;
}

static void test_nothing_breaks(void)
{
    struct torc_rng seeds = {torc_test_seed()};
    uint64_t one = number_from("TORC_REPLICA_ONE", 0);
    uint64_t runs = one != 0 ? 1 : number_from("TORC_REPLICA_RUNS", 40);
    struct totals totals = {0};

    for (uint64_t i = 0; i < runs; i++) {
        uint64_t seed = one != 0 ? one : torc_rng_next(&seeds);

        if (!life(seed)) {
            (void)fprintf(stderr,
                          "life %" PRIu64 " at %" PRIu64 " us: %s (TORC_REPLICA_ONE=%" PRIu64 ")\n",
                          i, world.now_ns / 1000, world.wrong, seed);
            oracle_describe(&world);
            CU_FAIL("a life of the cluster broke a rule");
        }
        add_up(&totals);
    }
    if (runs == 0) {
        return;
    }
    (void)fprintf(stderr,
                  "%" PRIu64 " lives: steps %" PRIu64 " writes %" PRIu64 " reads %" PRIu64
                  " takeovers %" PRIu64 " joins %" PRIu64 " removals %" PRIu64 " bases %" PRIu64
                  " (%" PRIu64 " broken) transfers %" PRIu64 " cuts %" PRIu64
                  "; well after %" PRIu64 " ms on average\n",
                  runs, totals.steps, totals.writes, totals.reads, totals.takeovers, totals.joins,
                  totals.removals, totals.bases, totals.broken, totals.transfers, totals.cuts,
                  totals.healing_us / runs / 1000);
    if (runs >= 200) { // the lives were worth living
        CU_ASSERT_TRUE(totals.takeovers > runs);
        CU_ASSERT_TRUE(totals.joins > 0);
        CU_ASSERT_TRUE(totals.bases > 0);
        CU_ASSERT_TRUE(totals.broken > 0);
        CU_ASSERT_TRUE(totals.cuts > 0);
    }
}

// Lives until one breaks a rule; prints which. In a process of its own, see find.
static bool find_here(enum torc_bug bug, struct torc_rng *seeds, uint64_t lives_max)
{
    uint64_t lives = 0;
    uint64_t seed = 0;
    bool found = false;

    torc_bug_on[bug] = true;
    while (!found && lives < lives_max) {
        seed = torc_rng_next(seeds);
        found = !life(seed);
        lives++;
    }
    (void)fprintf(stderr, "%2d %-28s %s after %4" PRIu64 " lives: %s (%" PRIu64 ")\n", (int)bug + 1,
                  names[bug], found ? "found" : "MISSED", lives, world.wrong, seed);
    return found;
}

// A replica with a fault may meet an assertion of its own before the oracle looks: found as well.
static void find(enum torc_bug bug, struct torc_rng *seeds, uint64_t lives_max)
{
    struct torc_rng own = {torc_rng_next(seeds)};
    int status = 0;
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    torc_assert(child >= 0);
    if (child == 0) {
        _exit(find_here(bug, &own, lives_max) ? 0 : 1);
    }
    CU_ASSERT_EQUAL_FATAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                   (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}

static void test_planted_faults_are_found(void)
{
    struct torc_rng seeds = {torc_test_seed()};
    const char *which = getenv("TORC_REPLICA_BUGS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t lives_max = number_from("TORC_REPLICA_LIVES", 2000);

    for (uint32_t i = 0; i < TORC_COUNT_OF(planted) && which != NULL; i++) {
        if (strcmp(which, "all") == 0 || strcmp(which, names[planted[i]]) == 0) {
            find(planted[i], &seeds, lives_max);
        }
    }
    if (which == NULL) {
        find(planted[torc_rng_below(&seeds, OFTEN)], &seeds, lives_max);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a cluster's lives under faults break no rule", test_nothing_breaks},
        {"planted faults are found", test_planted_faults_are_found},
        CU_TEST_INFO_NULL,
    };

    (void)signal(SIGABRT, on_abort);
    return torc_test_run("replica model", tests);
}
