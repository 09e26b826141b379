// Torc simulator: seeds, processes, the report, minimizing. See sim.h; scripts/sim calls it.
//
//   torc-sim --seeds N [--base S] [--seconds T] [--jobs J] [--bug NAME] [--json] [--twice]
//       [--with CLASS]…: in each seed, whether it draws the class or not
//       [--plan KIND]: with class PLAN, and all of its rows are of that kind
//   torc-sim --story SEED [--bug NAME] [--without CLASS]… [--faults A-B] [--ops N] [--keys N]
//       [--replicas R]
//   torc-sim --minimize SEED [--bug NAME]
//   torc-sim --list-bugs
//
// Seeds run in processes of their own, some in one, whose memory they leave to each other
// (sim_memory_os.c): an assertion or a crash is a failed seed like any other. The last line is
//   {"seeds":…,"failed":…,"first_failed":…,"hash":…,"simulated_seconds":…,"wall_seconds":…}
// where builds that give one hash had the same events in all seeds; and the
// status is 1 if a seed failed. --twice runs each seed twice and compares all events.
#include "kit/clock_os.h"
#include "kit/log_os.h"
#include "tests/sim/sim.h"
#include "wire/aead_os.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOBS_MAX     64u
#define SEED_SECONDS 300u // a run that takes longer hangs
#define LINE_BYTES   1024
#define STORY_LINES  400u

#ifdef TORC_SIM
#define WITH_BUGS true
#else
static bool torc_bug_on[TORC_BUG_COUNT];
static uint64_t torc_bug_met[TORC_BUG_COUNT];
#define WITH_BUGS false
#endif

struct options {
    uint64_t seeds;
    uint64_t base;
    uint64_t seconds;
    uint64_t jobs;
    bool json;
    bool twice;
    bool bug;
    bool minimize;
    bool story;
    struct sim_wish wish;
};

struct totals {
    struct sim_result first; // that failed
    uint64_t seeds;
    uint64_t failed;
    uint64_t events;
    uint64_t simulated_ns;
    uint64_t ops;
    uint64_t faults;
    uint64_t least_ops;
    uint64_t least_faults;
    uint64_t begun_ns;
    uint64_t hash; // of all events of all seeds, in any order
    uint64_t cover[SIM_COVER_COUNT];
    uint64_t seen[SIM_COVER_COUNT]; // in so many seeds
    uint64_t met[TORC_BUG_COUNT];   // places of bugs on purpose
    uint64_t met_seeds[TORC_BUG_COUNT];
};

static const char *const bug_names[] = {
#define X(name, text) #name,
    TORC_BUG_TABLE(X)
#undef X
};

static const char *const class_names[] = {
#define X(name) #name,
    SIM_CLASS_TABLE(X)
#undef X
};

static const char *const plan_names[] = {
#define X(name, text) #name,
    SIM_PLAN_TABLE(X)
#undef X
};

// -- One run, in this process or another ----------------------------------------------------------

static int result_fd = -1;

void torc_assert_fail(const char *expression, const char *function, const char *file, int line)
{
    static struct sim_result dead;

    if (sim != NULL) {
        dead = sim->result;
        dead.seed = sim->wish.seed;
        dead.simulated_ns = sim->now_ns;
    }
    dead.failed = 2;
    (void)snprintf(dead.text, sizeof(dead.text), "assertion %s in %s (%s:%d)", expression, function,
                   file, line);
    if (sim != NULL) {
        sim_story("ASSERT  %s", dead.text);
    }
    (void)fflush(stdout);
    if (result_fd >= 0 && write(result_fd, &dead, sizeof(dead)) == (ssize_t)sizeof(dead)) {
        _exit(1);
    }
    (void)fprintf(stderr, "%s\n", dead.text);
    abort();
}

// What control would write on standard error is part of the story.
void torc_log(enum torc_log level, const char *area, const char *event, const char *format, ...)
{
    char line[TORC_LOG_LINE_BYTES];
    va_list list;

    if (sim == NULL || !sim->wish.story || level > TORC_LOG_WARN) {
        return;
    }
    va_start(list, format);
    (void)vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    sim_story("log     %s %s %s", area, event, line);
}

// A process that has runs, one after the other, as it is told.
struct runner {
    pid_t child; // 0: there is none
    int orders;
    int results;
    uint32_t runs;
    bool busy;
    uint64_t seed; // of the run
};

static void runner_serve(int orders, int results)
{
    static struct sim_result result;
    struct sim_wish wish;

    result_fd = results;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(orders, &wish, sizeof(wish)) == (ssize_t)sizeof(wish)) {
        memset(&result, 0, sizeof(result));
        memset(torc_bug_met, 0, sizeof(torc_bug_met));
        (void)alarm(SEED_SECONDS);
        sim_run(&wish, &result);
        memcpy(result.met, torc_bug_met, sizeof(result.met));
        (void)fflush(stdout);
        if (write(results, &result, sizeof(result)) != (ssize_t)sizeof(result)) {
            _exit(1);
        }
    }
    _exit(0);
}

static void runner_start(struct runner *runner)
{
    int orders[2];
    int results[2];

    torc_assert(pipe2(orders, O_CLOEXEC) == 0);
    torc_assert(pipe2(results, O_CLOEXEC) == 0);
    (void)fflush(stdout);
    *runner = (struct runner){.child = fork(), .orders = orders[1], .results = results[0]};
    torc_assert(runner->child >= 0);
    if (runner->child == 0) {
        (void)close(orders[1]);
        (void)close(results[0]);
        runner_serve(orders[0], results[1]);
    }
    (void)close(orders[0]);
    (void)close(results[1]);
}

static int runner_stop(struct runner *runner)
{
    int status = 0;

    if (runner->child != 0) {
        (void)kill(runner->child, SIGKILL); // others have the end of its orders too
        (void)close(runner->orders);
        (void)close(runner->results);
        (void)waitpid(runner->child, &status, 0);
        runner->child = 0;
    }
    return status;
}

static void run_begin(struct runner *runner, const struct sim_wish *wish)
{
    if (runner->child == 0) {
        runner_start(runner);
    }
    runner->busy = true;
    runner->runs++;
    runner->seed = wish->seed;
    torc_assert(write(runner->orders, wish, sizeof(*wish)) == (ssize_t)sizeof(*wish));
}

// Nothing of a run that failed is left to another.
static void run_end(struct runner *runner, struct sim_result *result)
{
    ssize_t got = read(runner->results, result, sizeof(*result));
    int status = 0;

    if (got != (ssize_t)sizeof(*result) || result->failed != 0 ||
        runner->runs >= sim_memory_runs()) {
        status = runner_stop(runner);
    }
    if (got != (ssize_t)sizeof(*result)) {
        memset(result, 0, sizeof(*result));
        result->seed = runner->seed;
        result->failed = 2;
        (void)snprintf(result->text, sizeof(result->text), "the run ended by signal %d",
                       WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    runner->busy = false;
}

static void run_one(const struct sim_wish *wish, struct sim_result *result)
{
    struct runner runner = {0};

    run_begin(&runner, wish);
    run_end(&runner, result);
    (void)runner_stop(&runner);
}

// -- The story of a failure -----------------------------------------------------------------------

// The lines that have to do with the verdict: faults, lives, and the key that it names.
static bool story_matters(const char *line, const char *key)
{
    return strstr(line, "client") == NULL || (key[0] != '\0' && strstr(line, key) != NULL);
}

static void story_key(const char *text, char *key, uint32_t key_bytes)
{
    const char *at = strstr(text, "key ");

    key[0] = '\0';
    if (at != NULL) {
        (void)snprintf(key, key_bytes, "key %" PRIu64, (uint64_t)strtoull(at + 4, NULL, 10));
    }
}

static void story_tell(const struct sim_wish *wish, const char *text)
{
    static char lines[STORY_LINES][LINE_BYTES];
    struct sim_wish told = *wish;
    char line[LINE_BYTES];
    char key[40];
    uint64_t count = 0;
    int ends[2];
    FILE *from;
    pid_t child;

    told.story = true;
    story_key(text, key, sizeof(key));
    torc_assert(pipe(ends) == 0);
    (void)fflush(stdout);
    child = fork();
    if (child == 0) {
        struct sim_result result;

        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        run_one(&told, &result);
        _exit(0);
    }
    (void)close(ends[1]);
    from = fdopen(ends[0], "r");
    torc_assert(from != NULL);
    while (fgets(line, sizeof(line), from) != NULL) {
        if (story_matters(line, key)) {
            memcpy(lines[count++ % STORY_LINES], line, sizeof(line));
        }
    }
    (void)fclose(from);
    (void)waitpid(child, NULL, 0);
    for (uint64_t i = count > STORY_LINES ? count - STORY_LINES : 0; i < count; i++) {
        (void)fputs(lines[i % STORY_LINES], stdout);
    }
}

// -- Minimizing -----------------------------------------------------------------------------------

static bool wish_fails(const struct sim_wish *wish, struct sim_result *result)
{
    struct sim_result now;

    run_one(wish, &now);
    if (now.failed != 0) {
        *result = now;
    }
    return now.failed != 0;
}

// The least value in [lo, hi] for which the run fails, if failing were monotonous; hi fails.
static uint32_t least(struct sim_wish *wish, uint32_t *field, uint32_t lo, uint32_t hi,
                      struct sim_result *result)
{
    while (lo < hi) {
        uint32_t middle = lo + (hi - lo) / 2;

        *field = middle;
        if (wish_fails(wish, result)) {
            hi = middle;
        } else {
            lo = middle + 1;
        }
    }
    *field = hi;
    return hi;
}

// All that was asked for but the seed, faults and operations: who runs it again has to say so too.
static void tell_options(const struct sim_wish *wish)
{
    if (wish->replicas > 0) {
        (void)printf(" --replicas %u", (unsigned)wish->replicas);
    }
    if (wish->keys_max > 0) {
        (void)printf(" --keys %u", (unsigned)wish->keys_max);
    }
    (void)printf("%s%s%s", wish->replicated ? " --replicated" : "",
                 wish->confirm ? " --confirm" : "", wish->placed ? " --placed" : "");
    if (wish->plan != SIM_PLAN_NONE) {
        (void)printf(" --plan %s", plan_names[wish->plan]);
    }
    for (uint32_t i = 0; i < TORC_BUG_COUNT; i++) {
        if (torc_bug_on[i]) {
            (void)printf(" --bug %s", bug_names[i]);
        }
    }
    for (uint32_t i = 0; i < SIM_CLASS_COUNT; i++) {
        if ((wish->classes_on & 1u << i) != 0) {
            (void)printf(" --with %s", class_names[i]);
        }
        if ((wish->classes_off & 1u << i) != 0) {
            (void)printf(" --without %s", class_names[i]);
        }
    }
}

static int minimize(struct options *options)
{
    struct sim_wish wish = options->wish;
    struct sim_result result = {0};
    uint32_t step = 64;

    if (!wish_fails(&wish, &result)) {
        (void)printf("seed %" PRIu64 " does not fail\n", wish.seed);
        return 2;
    }
    for (uint32_t i = 0; i < SIM_CLASS_COUNT; i++) {
        struct sim_wish less = wish;

        less.classes_off |= 1u << i;
        wish = wish_fails(&less, &result) ? less : wish;
    }
    (void)least(&wish, &wish.faults_to, 0,
                torc_min_u64(wish.faults_to, 4096) == 4096 ? 4096 : wish.faults_to, &result);
    for (; step > 0; step /= 2) { // not monotonous: from the front, in shrinking steps
        struct sim_wish less = wish;

        less.faults_from += step;
        while (less.faults_from <= less.faults_to && wish_fails(&less, &result)) {
            wish = less;
            less.faults_from += step;
        }
    }
    wish.ops_max = result.ops + 1;
    if (wish_fails(&wish, &result)) {
        (void)least(&wish, &wish.ops_max, 1, wish.ops_max, &result);
    } else {
        wish.ops_max = 0;
    }
    (void)wish_fails(&wish, &result);
    (void)printf("seed %" PRIu64 ": %s\n", wish.seed, result.text);
    story_tell(&wish, result.text);
    (void)printf("again: scripts/sim --story %" PRIu64 " --faults %u-%u --ops %u", wish.seed,
                 (unsigned)wish.faults_from, (unsigned)wish.faults_to, (unsigned)wish.ops_max);
    tell_options(&wish);
    (void)printf("\n");
    return 1;
}

// -- Many seeds -----------------------------------------------------------------------------------

static void totals_add(struct totals *totals, const struct sim_result *result)
{
    totals->seeds++;
    totals->events += result->events;
    totals->simulated_ns += result->simulated_ns;
    totals->hash += result->hash;
    totals->ops += result->ops;
    totals->faults += result->faults;
    totals->least_ops = torc_min_u64(totals->least_ops, result->ops);
    totals->least_faults = torc_min_u64(totals->least_faults, result->faults);
    for (uint32_t i = 0; i < SIM_COVER_COUNT; i++) {
        totals->cover[i] += result->cover[i];
        totals->seen[i] += result->cover[i] > 0 ? 1 : 0;
    }
    for (uint32_t i = 0; i < TORC_BUG_COUNT; i++) {
        totals->met[i] += result->met[i];
        totals->met_seeds[i] += result->met[i] > 0 ? 1 : 0;
    }
    if (result->failed == 0) {
        return;
    }
    if (totals->failed == 0 || result->seed < totals->first.seed) {
        totals->first = *result;
    }
    totals->failed++;
    (void)printf("seed %" PRIu64 " failed: %s\n", result->seed, result->text);
}

static void report(const struct totals *totals, uint64_t base, uint64_t wall_ns)
{
    (void)printf("seeds from %" PRIu64 " on\n", base);
    (void)printf("%-44s %14s %10s\n", "reached", "times", "seeds");
    for (uint32_t i = 0; i < SIM_COVER_COUNT; i++) {
        (void)printf("%-44s %14" PRIu64 " %10" PRIu64 "%s\n", sim_cover_text((enum sim_cover)i),
                     totals->cover[i], totals->seen[i], totals->cover[i] == 0 ? "  NEVER" : "");
    }
    for (uint32_t i = 0; i < TORC_BUG_COUNT && WITH_BUGS; i++) {
        (void)printf("place of %-35s %14" PRIu64 " %10" PRIu64 "%s\n", bug_names[i], totals->met[i],
                     totals->met_seeds[i], totals->met[i] == 0 ? "  NEVER" : "");
    }
    (void)printf("%" PRIu64 " events, %.0f a second; a seed: %" PRIu64 " operations (least %" PRIu64
                 "), %" PRIu64 " faults (least %" PRIu64 ")\n",
                 totals->events, (double)totals->events * 1e9 / (double)wall_ns,
                 totals->ops / torc_max_u64(totals->seeds, 1), totals->least_ops,
                 totals->faults / torc_max_u64(totals->seeds, 1), totals->least_faults);
}

// Two runs of a seed must be the same, event by event.
static void compare(const struct options *options, struct sim_result *result)
{
    struct sim_wish wish = options->wish;
    struct sim_result again;

    wish.seed = result->seed;
    run_one(&wish, &again);
    if (result->failed == 0 && (again.hash != result->hash || again.events != result->events)) {
        result->failed = 1;
        (void)snprintf(result->text, sizeof(result->text),
                       "two runs differ: %" PRIu64 " and %" PRIu64 " events", result->events,
                       again.events);
    }
}

static void seeds_end(const struct options *options, struct runner *runner, struct totals *totals)
{
    struct sim_result result;

    run_end(runner, &result);
    if (options->twice) {
        compare(options, &result);
    }
    totals_add(totals, &result);
}

static void seeds_wait(const struct options *options, struct runner *runners, struct totals *totals)
{
    struct pollfd ready[JOBS_MAX];

    for (uint64_t i = 0; i < options->jobs; i++) {
        ready[i] =
            (struct pollfd){.fd = runners[i].busy ? runners[i].results : -1, .events = POLLIN};
    }
    (void)poll(ready, options->jobs, -1);
    for (uint64_t i = 0; i < options->jobs; i++) {
        if (runners[i].busy && ready[i].revents != 0) {
            seeds_end(options, &runners[i], totals);
        }
    }
}

static int seeds_run(const struct options *options)
{
    static struct totals totals;
    static struct runner runners[JOBS_MAX];
    struct sim_wish wish = options->wish;
    uint64_t wall_ns;
    uint64_t running = 0;
    uint64_t next = 0;
    bool more = true;

    totals.least_ops = totals.least_faults = UINT64_MAX;
    totals.begun_ns = torc_clock_now_ns();
    while (more || running > 0) {
        wall_ns = torc_clock_now_ns() - totals.begun_ns;
        more = next < options->seeds && !(options->bug && totals.failed > 0) &&
               (options->seconds == 0 || wall_ns < options->seconds * TORC_NS_PER_S);
        running = 0;
        for (uint64_t i = 0; i < options->jobs; i++) {
            if (!runners[i].busy && more && next < options->seeds) {
                wish.seed = options->base + next++;
                run_begin(&runners[i], &wish);
            }
            running += runners[i].busy ? 1 : 0;
        }
        if (running > 0) {
            seeds_wait(options, runners, &totals);
        }
    }
    for (uint64_t i = 0; i < options->jobs; i++) {
        (void)runner_stop(&runners[i]);
    }
    wall_ns = torc_clock_now_ns() - totals.begun_ns;
    if (!options->json) {
        report(&totals, options->base, wall_ns);
    }
    if (totals.failed > 0 && !options->json) {
        wish.seed = totals.first.seed;
        (void)printf("the story of seed %" PRIu64 " (%s):\n", wish.seed, totals.first.text);
        story_tell(&wish, totals.first.text);
        (void)printf("all of it: scripts/sim --story %" PRIu64, wish.seed);
        tell_options(&wish);
        (void)printf("; cut down: scripts/sim --minimize %" PRIu64, wish.seed);
        tell_options(&wish);
        (void)printf("\n");
    }
    (void)printf("{\"seeds\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"first_failed\":", totals.seeds,
                 totals.failed);
    (void)(totals.failed > 0 ? printf("%" PRIu64, totals.first.seed) : printf("null"));
    (void)printf(",\"hash\":\"%016" PRIx64 "\",\"simulated_seconds\":%.1f,\"wall_seconds\":%.1f}\n",
                 totals.hash, (double)totals.simulated_ns / 1e9, (double)wall_ns / 1e9);
    return totals.failed > 0 ? 1 : 0;
}

// -- The command line -----------------------------------------------------------------------------

static void usage(const char *what)
{
    (void)fprintf(
        stderr,
        "torc-sim: %s\n"
        "usage: scripts/sim --seeds N [--base S] [--seconds T] [--bug NAME] [--list-bugs]\n"
        "                   [--minimize SEED] [--story SEED] [--json] [--twice] [--jobs J]\n"
        "                   [--without CLASS]... [--faults A-B] [--ops N] [--keys N]\n"
        "                   [--with CLASS]... [--plan KIND] [--replicas R [--replicated]]\n"
        "                   [--confirm] [--placed]\n",
        what);
    _exit(2);
}

static uint64_t number(const char *text)
{
    char *end = NULL;
    uint64_t value = text != NULL ? strtoull(text, &end, 0) : 0;

    if (text == NULL || *text == '\0' || *end != '\0') {
        usage("a number is missing");
    }
    return value;
}

static uint32_t name_of(const char *text, const char *const *names, uint32_t count)
{
    for (uint32_t i = 0; i < count && text != NULL; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    usage(text != NULL ? text : "a name is missing");
    return 0;
}

static void list_bugs(void)
{
    for (uint32_t i = 0; i < TORC_BUG_COUNT; i++) {
        (void)printf("%s\n", bug_names[i]);
    }
    (void)fflush(stdout);
    _exit(0);
}

// One option; true: it took its argument.
static bool option(struct options *options, const char *name, const char *value)
{
    char *to = NULL;

    if (strcmp(name, "--seeds") == 0) {
        options->seeds = number(value);
    } else if (strcmp(name, "--base") == 0) {
        options->base = number(value);
    } else if (strcmp(name, "--seconds") == 0) {
        options->seconds = number(value);
    } else if (strcmp(name, "--jobs") == 0) {
        options->jobs = torc_min_u64(torc_max_u64(number(value), 1), JOBS_MAX);
    } else if (strcmp(name, "--minimize") == 0) {
        options->minimize = true;
        options->wish.seed = number(value);
    } else if (strcmp(name, "--story") == 0) {
        options->story = true;
        options->wish.seed = number(value);
    } else if (strcmp(name, "--ops") == 0) {
        options->wish.ops_max = (uint32_t)number(value);
    } else if (strcmp(name, "--keys") == 0) {
        options->wish.keys_max = (uint32_t)number(value);
    } else if (strcmp(name, "--replicas") == 0) {
        options->wish.replicas = (uint32_t)torc_min_u64(number(value), SIM_NODES_MAX);
    } else if (strcmp(name, "--with") == 0) {
        options->wish.classes_on |= 1u << name_of(value, class_names, SIM_CLASS_COUNT);
    } else if (strcmp(name, "--without") == 0) {
        options->wish.classes_off |= 1u << name_of(value, class_names, SIM_CLASS_COUNT);
    } else if (strcmp(name, "--plan") == 0) {
        options->wish.classes_on |= 1u << SIM_CLASS_PLAN;
        options->wish.plan = name_of(value, plan_names, SIM_PLAN_COUNT);
    } else if (strcmp(name, "--faults") == 0 && value != NULL) {
        options->wish.faults_from = (uint32_t)strtoul(value, &to, 10);
        options->wish.faults_to = (uint32_t)number(*to == '-' ? to + 1 : NULL);
    } else if (strcmp(name, "--bug") == 0) {
        torc_bug_on[name_of(value, bug_names, TORC_BUG_COUNT)] = true;
        options->bug = true;
    } else {
        usage(name);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.base = 1, .jobs = 1, .wish = {.faults_to = UINT32_MAX}};
    struct sim_result result;

    static char out[65536];

    // What is made once is no run's: each leaves its memory to the next.
    (void)setvbuf(stdout, out, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof(out));
    (void)torc_aead_code_best();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            options.json = true;
        } else if (strcmp(argv[i], "--replicated") == 0) {
            options.wish.replicated = true;
        } else if (strcmp(argv[i], "--confirm") == 0) {
            options.wish.confirm = true;
        } else if (strcmp(argv[i], "--placed") == 0) {
            options.wish.placed = true;
        } else if (strcmp(argv[i], "--twice") == 0) {
            options.twice = true;
        } else if (strcmp(argv[i], "--list-bugs") == 0) {
            list_bugs();
        } else if (option(&options, argv[i], i + 1 < argc ? argv[i + 1] : NULL)) {
            i++;
        }
    }
    if (options.bug && !WITH_BUGS) {
        usage("this build has no bugs; configure with -Dsim=true");
    }
    if (options.minimize) {
        return minimize(&options);
    }
    if (options.story) {
        options.wish.story = true;
        run_one(&options.wish, &result);
        (void)printf("%s\n", result.failed != 0 ? result.text : "clean");
        return result.failed != 0 ? 1 : 0;
    }
    if (options.seeds == 0) {
        usage("how many seeds?");
    }
    return seeds_run(&options);
}
