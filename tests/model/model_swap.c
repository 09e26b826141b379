// Torc tests: compare-and-swaps over a store that loses answers, is away, and does late what it was
// asked: every number of a counter is drawn once.
//
// The store is a record in memory. A transaction may be carried out at once, later (after anything
// else), or never; its answer may be lost. Several swappers add one to a counter; the oracle knows
// every write that took effect, by its nonce.
#include "control/swap.h"
#include "tests/torc_test.h"

#include <string.h>

enum {
    SWAPPERS = 4,
    LATE_MAX = 64,
    DRAWS = 4000
};

struct value {
    uint64_t number;
    uint64_t nonce;
};

struct late { // a transaction still under way
    struct value value;
    uint64_t expected;
};

struct world {
    struct torc_rng rng;
    struct value value; // the record
    uint64_t version;   // 0: there is none
    struct late late[LATE_MAX];
    uint32_t late_count;
    uint64_t effects; // writes that took effect
    bool believe;     // planted: a lost answer counts as won
};

struct swapper {
    struct torc_swap swap;
    struct torc_meta_op op;
    struct value value;
    uint64_t known_version;
    uint64_t known_number;
    bool swapping;
    uint64_t won[DRAWS];
    uint32_t won_count;
};

static bool world_write(struct world *world, const struct late *late)
{
    if (late->expected != world->version) {
        return false;
    }
    world->value = late->value;
    world->version++;
    world->effects++;
    return true;
}

static void world_do_late(struct world *world)
{
    uint32_t at = (uint32_t)torc_rng_below(&world->rng, world->late_count);

    (void)world_write(world, world->late + at);
    world->late[at] = world->late[--world->late_count];
}

// What the store answers to one request; `record` is the memory of its records.
static struct torc_meta_answer world_answer(struct world *world,
                                            const struct torc_meta_request *request,
                                            struct torc_meta_record *record)
{
    struct torc_meta_answer answer = {.ticket = request->ticket, .verb = request->verb};
    bool lost = torc_rng_chance(&world->rng, 300000);
    struct late late = {0};

    *record = (struct torc_meta_record){.key = "counter/x",
                                        .value = (const char *)&world->value,
                                        .value_bytes = sizeof(world->value),
                                        .version = world->version};
    answer.records = record;
    if (torc_rng_chance(&world->rng, 100000)) {
        answer.err = TORC_ERR_UNAVAILABLE;
        return answer;
    }
    if (request->verb == TORC_META_GET) {
        answer.err = world->version > 0 ? TORC_ERR_OK : TORC_ERR_NOT_FOUND;
        answer.record_count = world->version > 0 ? 1 : 0;
        answer.revision = world->version;
        return answer;
    }
    memcpy(&late.value, request->ops->value, sizeof(late.value));
    late.expected = request->ops->expected;
    if (lost) {
        answer.err = TORC_ERR_IN_DOUBT;
        if (world->late_count < LATE_MAX && torc_rng_chance(&world->rng, 500000)) {
            world->late[world->late_count++] = late; // it happens later, if it still can
        } else if (torc_rng_chance(&world->rng, 500000)) {
            (void)world_write(world, &late);
        }
        return answer;
    }
    answer.err = world_write(world, &late) ? TORC_ERR_OK : TORC_ERR_CONDITION_FAILED;
    answer.revision = world->version;
    record->version = world->version;
    answer.record_count = answer.err == TORC_ERR_OK ? 0 : world->version > 0 ? 1 : 0;
    return answer;
}

static void swapper_begin(struct world *world, struct swapper *it, uint32_t index)
{
    it->known_version = world->version; // a read that is never wrong: what is old just loses
    it->known_number = world->value.number;
    it->value = (struct value){.number = it->known_number + 1, .nonce = torc_rng_next(&world->rng)};
    it->op = (struct torc_meta_op){.kind = TORC_META_PUT,
                                   .key = "counter/x",
                                   .value = &it->value,
                                   .value_bytes = sizeof(it->value),
                                   .expected = it->known_version};
    torc_swap_begin(&it->swap, &it->op, 1, index);
    it->swapping = true;
}

static void swapper_turn(struct world *world, struct swapper *it, uint64_t now_ns)
{
    struct torc_meta_request request;
    struct torc_meta_record record;
    struct torc_meta_answer answer;

    if (!torc_swap_next(&it->swap, now_ns, &request)) {
        return;
    }
    answer = world_answer(world, &request, &record);
    if (world->believe && answer.err == TORC_ERR_IN_DOUBT) {
        answer.err = TORC_ERR_OK;
    }
    torc_swap_take(&it->swap, now_ns, &answer);
    if (torc_swap_is_over(&it->swap)) {
        it->swapping = false;
        if (it->swap.state == TORC_SWAP_WON) {
            it->won[it->won_count++] = it->value.number;
        }
    }
}

// How many numbers were drawn by two, and how many were drawn.
static void run(struct world *world, uint64_t seed, uint64_t *twice, uint64_t *won)
{
    static struct swapper swappers[SWAPPERS];
    static uint8_t drawn[SWAPPERS * DRAWS + 2];
    uint64_t now_ns = 1;

    world->rng.state = seed;
    memset(swappers, 0, sizeof(swappers));
    memset(drawn, 0, sizeof(drawn));
    for (bool more = true; more; now_ns += TORC_SWAP_PAUSE_NS / 3) {
        struct swapper *it = swappers + torc_rng_below(&world->rng, SWAPPERS);

        if (!it->swapping && world->effects < DRAWS) {
            swapper_begin(world, it, (uint32_t)(it - swappers));
        } else if (it->swapping) {
            swapper_turn(world, it, now_ns);
        }
        if (world->late_count > 0 && torc_rng_chance(&world->rng, 50000)) {
            world_do_late(world);
        }
        more = world->effects < DRAWS;
        for (uint32_t i = 0; i < SWAPPERS; i++) {
            more = more || swappers[i].swapping;
        }
    }
    *twice = 0;
    *won = 0;
    for (uint32_t i = 0; i < SWAPPERS; i++) {
        *won += swappers[i].won_count;
        for (uint32_t k = 0; k < swappers[i].won_count; k++) {
            *twice += drawn[swappers[i].won[k]]++ > 0 ? 1 : 0;
        }
    }
}

static void test_every_number_is_drawn_once(void)
{
    struct world world = {0};
    uint64_t twice;
    uint64_t won;

    run(&world, torc_test_seed(), &twice, &won);
    CU_ASSERT_EQUAL(twice, 0);
    CU_ASSERT_EQUAL(world.value.number, world.effects);
    // Not all are won: what happened late, after others had gone on, is nobody's (W1).
    CU_ASSERT_TRUE(won <= world.effects);
    CU_ASSERT_TRUE(won > world.effects / 2);
}

static void test_the_oracle_sees_a_believer(void)
{
    struct world world = {.believe = true};
    uint64_t twice;
    uint64_t won;

    run(&world, torc_test_seed(), &twice, &won);
    CU_ASSERT_TRUE(twice > 0);
}

// Refused for another condition than the first record's: it can not happen any more.
static void test_another_condition(void)
{
    const struct torc_meta_op ops[] = {
        {.kind = TORC_META_PUT, .key = "shard/1", .value = "mine", .value_bytes = 4, .expected = 5},
        {.kind = TORC_META_CHECK, .key = "meta", .expected = 3}};
    const struct torc_meta_record records[] = {
        {.key = "shard/1", .value = "theirs", .value_bytes = 6, .version = 5},
        {.key = "meta", .value = "m", .value_bytes = 1, .version = 4}};
    struct torc_meta_answer answer = {
        .ticket = 9, .err = TORC_ERR_CONDITION_FAILED, .record_count = 2, .records = records};
    struct torc_meta_request request;
    struct torc_swap swap;

    torc_swap_begin(&swap, ops, 2, 9);
    CU_ASSERT_TRUE(torc_swap_next(&swap, 1, &request));
    CU_ASSERT_FALSE(torc_swap_next(&swap, 1, &request));
    torc_swap_take(&swap, 1, &answer);
    CU_ASSERT_EQUAL(swap.state, TORC_SWAP_LOST);
    CU_ASSERT_EQUAL(swap.version, 5);
}

// A definite refusal behind a lost answer says nothing about the copy before it (W3).
static void test_doubt_is_not_forgotten(void)
{
    const struct torc_meta_op op = {
        .kind = TORC_META_PUT, .key = "x", .value = "mine", .value_bytes = 4, .expected = 5};
    const struct torc_meta_record mine = {
        .key = "x", .value = "mine", .value_bytes = 4, .version = 6};
    const struct torc_meta_record before = {
        .key = "x", .value = "old", .value_bytes = 3, .version = 5};
    const struct torc_meta_answer answers[] = {
        {.err = TORC_ERR_IN_DOUBT},
        {.err = TORC_ERR_OK, .record_count = 1, .records = &before},
        {.err = TORC_ERR_NO_SPACE}, // of the second copy
        {.err = TORC_ERR_OK, .record_count = 1, .records = &mine}};
    struct torc_meta_request request;
    struct torc_swap swap;

    torc_swap_begin(&swap, &op, 1, 0);
    for (uint32_t i = 0; i < TORC_COUNT_OF(answers); i++) {
        CU_ASSERT_FALSE(torc_swap_is_over(&swap));
        CU_ASSERT_TRUE_FATAL(torc_swap_next(&swap, i * TORC_SWAP_PAUSE_NS, &request));
        torc_swap_take(&swap, i * TORC_SWAP_PAUSE_NS, answers + i);
    }
    CU_ASSERT_EQUAL(swap.state, TORC_SWAP_WON);
    CU_ASSERT_EQUAL(swap.version, 6);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every number is drawn once", test_every_number_is_drawn_once},
        {"taking doubt for success is found", test_the_oracle_sees_a_believer},
        {"another condition that failed ends it", test_another_condition},
        {"doubt is not forgotten", test_doubt_is_not_forgotten},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("swap", tests);
}
