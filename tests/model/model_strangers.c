// Torc tests: honest newcomers in a flood, in virtual time.
//
// A flood asks so and so often a second, always something new, always the same, or some thousand
// things in turn; newcomers ask as clients do: again after 20 ms, which double, a quarter more or
// less. Counted: how often each asks until it is answered, and all answers, which must stay in
// their budget. A table that forgets must be found out (STYLE.md, section 10).
//
// Who asks the same as somebody else by the bits that a note keeps is taken for that one's
// repetition: of a newcomer to whom that happened no number of tries is asked (0020).
#include "dataplane/strangers.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    NEWCOMERS = 200,
    TRIES_MAX = 10, // what a client does in its 5 seconds
    RATE = 20000
};

#define SECOND_NS UINT64_C(1000000000)
#define FIRST_NS  UINT64_C(20000000)

// What a flood is made of.
struct flood {
    uint32_t a_second;
    uint32_t questions; // different ones, in turn; 0: each is new
    uint64_t begin_ns;  // 0: at any time
};

struct newcomer {
    uint64_t question;
    uint64_t next_ns; // when it asks; UINT64_MAX: it was answered, or gave up
    uint64_t wait_ns;
    uint32_t tries;
    bool answered;
    bool mistaken; // somebody else's question was taken for its own
};

struct world {
    struct torc_strangers strangers;
    struct torc_strangers_line *lines;
    struct torc_rng rng;
    struct flood flood;
    struct newcomer newcomers[NEWCOMERS];
    uint64_t now_ns;
    uint64_t flood_count;
    uint64_t answered;                      // all together
    uint64_t prints[(UINT16_MAX + 1) / 64]; // bit p: a newcomer's question has print p
    bool forgets;                           // the fault
};

static uint16_t print_of(uint64_t question)
{
    return (uint16_t)(question >> TORC_STRANGERS_PRINT_SHIFT);
}

static void world_open(struct world *world, struct flood flood, bool forgets)
{
    *world = (struct world){.rng = {torc_test_seed()}, .flood = flood, .forgets = forgets};
    world->lines = aligned_alloc(64, TORC_STRANGERS_BYTES);
    torc_assert(world->lines != NULL);
    memset(world->lines, 0, TORC_STRANGERS_BYTES);
    world->now_ns = torc_rng_below(&world->rng, 1000 * SECOND_NS);
    world->now_ns = flood.begin_ns != 0 ? flood.begin_ns : world->now_ns;
    torc_strangers_init(&world->strangers, world->lines, RATE);
    for (uint32_t i = 0; i < NEWCOMERS; i++) {
        // The flood comes first: it has used up what was saved.
        uint64_t delay_ns = SECOND_NS / 4 + torc_rng_below(&world->rng, SECOND_NS / 2);

        world->newcomers[i] = (struct newcomer){.question = torc_rng_next(&world->rng),
                                                .next_ns = world->now_ns + delay_ns,
                                                .wait_ns = FIRST_NS};
        world->prints[print_of(world->newcomers[i].question) / 64] |=
            UINT64_C(1) << print_of(world->newcomers[i].question) % 64;
    }
}

static bool world_ask(struct world *world, uint64_t question)
{
    bool may;

    if (world->forgets) {
        memset(&world->lines[question % TORC_STRANGERS_LINES], 0, sizeof(world->lines[0]));
    }
    may = torc_strangers_may(&world->strangers, world->now_ns, question);
    world->answered += may ? 1 : 0;
    return may;
}

static void newcomer_ask(struct world *world, struct newcomer *newcomer)
{
    uint64_t quarter_ns = newcomer->wait_ns / 4;

    newcomer->tries++;
    newcomer->answered = world_ask(world, newcomer->question);
    newcomer->next_ns = newcomer->answered || newcomer->tries == TRIES_MAX
                            ? UINT64_MAX
                            : world->now_ns + newcomer->wait_ns - quarter_ns +
                                  torc_rng_below(&world->rng, 2 * quarter_ns);
    newcomer->wait_ns = torc_min_u64(2 * newcomer->wait_ns, SECOND_NS);
}

// Newcomers that cannot be told from who asks this.
static void world_mistake(struct world *world, uint64_t question)
{
    uint16_t print = print_of(question);

    if ((world->prints[print / 64] >> print % 64 & 1) == 0) {
        return;
    }
    for (uint32_t i = 0; i < NEWCOMERS; i++) {
        struct newcomer *newcomer = &world->newcomers[i];

        newcomer->mistaken |=
            print_of(newcomer->question) == print &&
            newcomer->question % TORC_STRANGERS_LINES == question % TORC_STRANGERS_LINES;
    }
}

static void flood_ask(struct world *world)
{
    // The same numbers again, under a hash that knows no order.
    struct torc_rng of = {world->flood_count++ % torc_max_u64(world->flood.questions, 1)};
    uint64_t question =
        world->flood.questions == 0 ? torc_rng_next(&world->rng) : torc_rng_next(&of);

    world_mistake(world, question);
    (void)world_ask(world, question);
}

// Lets so much time go by. The flood comes as it would from many hosts, without a beat.
static void world_run(struct world *world, uint64_t for_ns)
{
    uint64_t begun_ns = world->now_ns;
    uint64_t gap_ns = SECOND_NS / world->flood.a_second;

    while (world->now_ns - begun_ns < for_ns) {
        world->now_ns += torc_rng_below(&world->rng, 2 * gap_ns + 1);
        flood_ask(world);
        for (uint32_t i = 0; world->flood_count % 16 == 0 && i < NEWCOMERS; i++) {
            if (world->newcomers[i].next_ns <= world->now_ns) {
                newcomer_ask(world, &world->newcomers[i]);
            }
        }
    }
    CU_ASSERT(world->answered <= (for_ns * RATE + SECOND_NS - 1) / SECOND_NS +
                                     2 * ((uint64_t)world->strangers.burst + 1));
}

// How many needed more tries than that.
static uint32_t world_late(const struct world *world, uint32_t tries)
{
    uint32_t late = 0;

    for (uint32_t i = 0; i < NEWCOMERS; i++) {
        const struct newcomer *newcomer = &world->newcomers[i];

        late += (newcomer->answered && newcomer->tries <= tries) || newcomer->mistaken ? 0 : 1;
    }
    return late;
}

static uint32_t late_in_flood(struct flood flood, uint32_t tries, bool forgets)
{
    static struct world world;
    uint32_t late;

    world_open(&world, flood, forgets);
    world_run(&world, SECOND_NS);
    late = world_late(&world, tries);
    free(world.lines);
    return late;
}

// What one core sends here is 0.3 M/s.
static void test_new_questions(void)
{
    CU_ASSERT_EQUAL(late_in_flood((struct flood){.a_second = 30000}, 2, false), 0);
    CU_ASSERT_EQUAL(late_in_flood((struct flood){.a_second = 300000}, 2, false), 0);
    CU_ASSERT_EQUAL(late_in_flood((struct flood){.a_second = 500000}, 2, false), 0);
    // Here notes begin to be lost.
    CU_ASSERT(late_in_flood((struct flood){.a_second = 1500000}, 2, false) < NEWCOMERS / 10);
}

// What a note keeps of the time comes round every 275 s: no note is lost for that.
static void test_time_comes_round(void)
{
    uint64_t round_ns = UINT64_C(1) << 38;

    for (uint64_t i = 1; i <= 20; i++) {
        struct flood flood = {.a_second = 30000, .begin_ns = i * round_ns - SECOND_NS / 4};

        flood.begin_ns -= i * SECOND_NS / 40; // while newcomers wait for their second try
        CU_ASSERT_EQUAL(late_in_flood(flood, 2, false), 0);
    }
}

// It is answered a few times itself: more of the budget is left than it takes.
static void test_one_question(void)
{
    CU_ASSERT_EQUAL(late_in_flood((struct flood){.a_second = 300000, .questions = 1}, 2, false), 0);
    CU_ASSERT_EQUAL(late_in_flood((struct flood){.a_second = 300000, .questions = 100}, 2, false),
                    0);
}

// Then nothing tells it from the newcomers: they get their part of the budget, and no more.
static void test_repeated_questions(void)
{
    (void)late_in_flood((struct flood){.a_second = 300000, .questions = 10000}, TRIES_MAX, false);
    (void)late_in_flood((struct flood){.a_second = 300000, .questions = 60000}, TRIES_MAX, false);
}

static void test_no_flood(void)
{
    CU_ASSERT_EQUAL(late_in_flood((struct flood){.a_second = 5000}, 1, false), 0);
}

static void test_fault_is_found(void)
{
    CU_ASSERT(late_in_flood((struct flood){.a_second = 300000}, TRIES_MAX, true) > NEWCOMERS / 4);
}

// A question alone, when nothing is left for whoever comes: by the time since it was asked last.
static void test_times(void)
{
    static struct world world;
    uint64_t question;
    uint64_t now_ns;

    world_open(&world, (struct flood){.a_second = 1}, false);
    now_ns = world.now_ns;
    question = torc_rng_next(&world.rng);
    world.strangers.first.full_ns = UINT64_MAX;
    CU_ASSERT_FALSE(torc_strangers_may(&world.strangers, now_ns, question));
    for (uint32_t i = 0; i < 5000; i++) {
        uint64_t gap_ns = torc_rng_below(&world.rng, 3 * TORC_STRANGERS_SOON_NS);
        bool may;

        // It is noted anew only when it was answered: what is asked all the time is answered too.
        may = torc_strangers_may(&world.strangers, now_ns + gap_ns, question);
        CU_ASSERT(!may || gap_ns > TORC_STRANGERS_SOON_NS);
        CU_ASSERT(may || gap_ns < 2 * TORC_STRANGERS_SOON_NS);
        now_ns += may ? gap_ns : 0;
    }
    now_ns += TORC_STRANGERS_LATE_NS + TORC_STRANGERS_SOON_NS;
    CU_ASSERT_FALSE(torc_strangers_may(&world.strangers, now_ns, question));
    CU_ASSERT(torc_strangers_may(&world.strangers, now_ns + FIRST_NS, question));
    free(world.lines);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"without a flood the first question is answered", test_no_flood},
        {"in a flood of new questions the second is", test_new_questions},
        {"also when the notes' time comes round", test_time_comes_round},
        {"and in one that repeats a few", test_one_question},
        {"one that repeats many gets no more answers", test_repeated_questions},
        {"a question counts as repeated after a time-out, not after a while", test_times},
        {"a table that forgets is found out", test_fault_is_found},
        CU_TEST_INFO_NULL};

    return torc_test_run("model-strangers", tests);
}
