// Torc tests: who hands which shard to whom, over a world of nodes that come, go, drain and die.
//
// Each node has a survey of its own, which lags, and plans by it; the world does what replicas
// would do with their wishes: transfers, removals, joins, takeovers. The oracle looks at each plan
// with rules of its own; and when nothing is disturbed, stops end by themselves, a drained node
// leads nothing, and every shard comes back to its wished primary. Planted: surveys that never
// hear of `leaving`, and a wish that forgets Y2.
#include "control/yield.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    NODES = 5,
    SHARDS = 15,
    REPLICAS = 3,
    MIN_IN_SYNC = 2,
    STEPS = 20000,
    PATIENCE = 80 // steps until a stop goes on with shards left
};

#define STEP_NS UINT64_C(100000000)

enum process {
    PROCESS_DOWN,
    PROCESS_UP,
    PROCESS_LEAVING
};

struct node {
    struct torc_survey *survey;
    struct torc_yield yield;
    struct torc_cluster cluster;
    struct torc_cluster_shard shards[SHARDS];
    struct torc_survey_want told[SHARDS]; // with the heir as primary
    enum process process;
    uint64_t since; // step
};

struct model {
    struct torc_rng rng;
    struct torc_survey *truth;
    struct node nodes[NODES + 1]; // by number
    uint64_t step;
    uint64_t transfers, stops, late, removals;
    bool deaf; // planted: nobody else hears that a node leaves
    bool bare; // planted: wishes without Y2
    bool good;
    const char *bad;
};

static void check(struct model *m, bool good, const char *what)
{
    if (!good && m->good) {
        m->good = false;
        m->bad = what;
    }
}

static uint64_t now_ns(const struct model *m)
{
    return m->step * STEP_NS;
}

// -- What the oracle knows -----------------------------------------------------------------------

static struct torc_survey_node *node_of(struct torc_survey *survey, uint32_t node)
{
    return &survey->nodes[node - 1];
}

static bool can_lead(struct torc_survey *survey, uint32_t node)
{
    const struct torc_survey_node *record = node_of(survey, node);

    return record->boot != record->down && record->boot != record->leaving && record->state == 0;
}

static bool has(const struct torc_survey_shard *shard, uint32_t node)
{
    for (uint32_t i = 0; i < shard->member_count; i++) {
        if (shard->members[i].node == node) {
            return true;
        }
    }
    return false;
}

static bool someone_else(struct torc_survey *survey, const struct torc_survey_shard *shard,
                         uint32_t node)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        if (i != node && has(shard, i) && can_lead(survey, i)) {
            return true;
        }
    }
    return false;
}

static bool in_wish(const struct torc_survey_want *wish, uint32_t node)
{
    for (uint32_t i = 0; i < wish->node_count; i++) {
        if (wish->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

static void check_plan(struct model *m, uint32_t number)
{
    struct node *node = &m->nodes[number];
    bool stays = can_lead(node->survey, number) && node->process == PROCESS_UP;

    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct torc_survey_shard *shard = &node->survey->shards[i];
        uint32_t heir = node->shards[i].heir;
        bool leads = shard->primary_node == number && shard->primary_boot == node->yield.boot;

        if (heir != 0) {
            check(m, leads, "a heir of what another one leads");
            check(m, heir != number && has(shard, heir) && can_lead(node->survey, heir), "Y1");
            check(m, !stays || heir == node->survey->wants[i].primary, "given away for nothing");
        } else if (leads && !stays) {
            check(m, !someone_else(node->survey, shard, number), "Y3");
        }
    }
}

// -- Nodes ---------------------------------------------------------------------------------------

static void hear(struct model *m, uint32_t number)
{
    struct torc_survey *survey = m->nodes[number].survey;

    survey->shard_count = SHARDS;
    survey->want_count = SHARDS;
    survey->node_count = NODES;
    memcpy(survey->shards, m->truth->shards, SHARDS * sizeof(survey->shards[0]));
    memcpy(survey->wants, m->truth->wants, SHARDS * sizeof(survey->wants[0]));
    memcpy(survey->nodes, m->truth->nodes, NODES * sizeof(survey->nodes[0]));
    for (uint32_t i = 0; i < NODES && m->deaf; i++) {
        survey->nodes[i].leaving = 0;
    }
}

static void begin(struct model *m, uint32_t number)
{
    struct node *node = &m->nodes[number];
    struct torc_survey_node *record = node_of(m->truth, number);

    record->boot++;
    node->process = PROCESS_UP;
    node->since = m->step;
    hear(m, number);
    node->cluster = (struct torc_cluster){.shard_count = SHARDS, .shards = node->shards};
    for (uint32_t i = 0; i < SHARDS; i++) {
        node->shards[i] = (struct torc_cluster_shard){.shard = i + 1, .replica = true};
    }
    memset(node->told, 0, sizeof(node->told));
    torc_yield_init(&node->yield, now_ns(m), number, record->boot);
}

// Its shards are taken over by whoever is a member, and it is removed where others are left.
static void end(struct model *m, uint32_t number)
{
    struct torc_survey_node *record = node_of(m->truth, number);

    m->nodes[number].process = PROCESS_DOWN;
    m->nodes[number].since = m->step;
    record->down = record->boot;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_survey_shard *shard = &m->truth->shards[i];
        uint32_t left = 0;

        for (uint32_t k = 0; k < shard->member_count; k++) {
            if (shard->members[k].node != number) {
                shard->members[left++] = shard->members[k];
            }
        }
        if (left == 0) {
            continue; // its last member: the shard waits for it
        }
        shard->member_count = left;
        if (shard->primary_node == number) {
            shard->primary_node = (uint32_t)shard->members[torc_rng_below(&m->rng, left)].node;
            shard->primary_boot = node_of(m->truth, shard->primary_node)->boot;
        }
    }
}

static void node_step(struct model *m, uint32_t number, bool lags)
{
    struct node *node = &m->nodes[number];

    if (node->process == PROCESS_DOWN) {
        return;
    }
    if (!lags || torc_rng_chance(&m->rng, 400000)) {
        hear(m, number);
    }
    if (node->process == PROCESS_LEAVING && (!lags || torc_rng_chance(&m->rng, 500000))) {
        node_of(m->truth, number)->leaving = node->yield.boot;
    }
    torc_yield_plan(&node->yield, now_ns(m), node->survey, &node->cluster);
    check_plan(m, number);
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_survey_want *told = &node->told[i];

        torc_yield_wish(&node->yield, node->survey, &node->survey->wants[i],
                        m->bare ? 0 : MIN_IN_SYNC, told);
        check(m, told->primary == 0 && told->node_count >= MIN_IN_SYNC, "Y2");
        told->primary = node->shards[i].heir;
    }
    if (node->process == PROCESS_LEAVING) {
        uint32_t left = torc_yield_left(&node->yield, node->survey, MIN_IN_SYNC);

        if (left == 0 || m->step - node->since > PATIENCE) {
            m->stops++;
            m->late += left > 0 ? 1 : 0;
            end(m, number);
        }
    }
}

// -- Replicas ------------------------------------------------------------------------------------

static bool all_in(const struct torc_survey_shard *shard, const struct torc_survey_want *told)
{
    for (uint32_t i = 0; i < told->node_count; i++) {
        if (!has(shard, told->nodes[i])) {
            return false;
        }
    }
    return told->node_count > 0;
}

static void shard_step(struct model *m, uint32_t index)
{
    struct torc_survey_shard *shard = &m->truth->shards[index];
    struct node *primary = &m->nodes[shard->primary_node];
    const struct torc_survey_want *told = &primary->told[index];
    uint32_t kept = 0;

    if (primary->process == PROCESS_DOWN) {
        return;
    }
    shard->primary_boot = primary->yield.boot; // T9: it takes over from itself
    for (uint32_t i = 0; i < told->node_count; i++) {
        uint32_t node = told->nodes[i];

        if (!has(shard, node) && m->nodes[node].process != PROCESS_DOWN &&
            torc_rng_chance(&m->rng, 300000)) {
            shard->members[shard->member_count++] = (struct torc_record_member){.node = node};
        }
    }
    for (uint32_t i = 0; i < shard->member_count; i++) {
        uint32_t node = (uint32_t)shard->members[i].node;

        if (node == shard->primary_node || !all_in(shard, told) || in_wish(told, node)) {
            shard->members[kept++] = shard->members[i];
        } else {
            m->removals++;
        }
    }
    shard->member_count = kept;
    if (told->primary != 0 && has(shard, told->primary) &&
        m->nodes[told->primary].process != PROCESS_DOWN && torc_rng_chance(&m->rng, 700000)) {
        shard->primary_node = told->primary;
        shard->primary_boot = m->nodes[told->primary].yield.boot;
        m->transfers++;
    }
}

static void world_step(struct model *m, bool lags)
{
    m->step++;
    for (uint32_t i = 1; i <= NODES; i++) {
        node_step(m, i, lags);
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        shard_step(m, i);
    }
}

static void disturb(struct model *m)
{
    uint32_t number = 1 + (uint32_t)torc_rng_below(&m->rng, NODES);
    struct node *node = &m->nodes[number];
    struct torc_survey_node *record = node_of(m->truth, number);

    if (torc_rng_chance(&m->rng, 940000)) {
        return;
    }
    if (node->process == PROCESS_DOWN) {
        begin(m, number);
    } else if (torc_rng_chance(&m->rng, 200000)) {
        end(m, number); // it dies
    } else if (node->process == PROCESS_UP && torc_rng_chance(&m->rng, 500000)) {
        node->process = PROCESS_LEAVING;
        node->since = m->step;
        node->yield.leaving = true;
    } else {
        record->state =
            record->state == 0 ? (uint32_t)TORC_RECORD_NODE_YIELDS : TORC_RECORD_NODE_SERVES;
    }
}

// Everybody up, nobody drained.
static void settle(struct model *m)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        node_of(m->truth, i)->state = TORC_RECORD_NODE_SERVES;
    }
    for (uint32_t k = 0; k < 400; k++) {
        world_step(m, false);
        for (uint32_t i = 1; i <= NODES; i++) {
            if (m->nodes[i].process == PROCESS_DOWN) {
                begin(m, i);
            }
        }
    }
}

static struct model *model_open(void)
{
    struct model *m = calloc(1, sizeof(*m));

    torc_assert(m != NULL);
    m->rng = (struct torc_rng){torc_test_seed()};
    m->good = true;
    m->truth = calloc(1, sizeof(*m->truth));
    torc_assert(m->truth != NULL);
    m->truth->shard_count = m->truth->want_count = SHARDS;
    m->truth->node_count = NODES;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_survey_shard *shard = &m->truth->shards[i];
        struct torc_survey_want *want = &m->truth->wants[i];

        *shard = (struct torc_survey_shard){.shard = i + 1, .lo = i, .hi = i + 1};
        *want = (struct torc_survey_want){.shard = i + 1, .node_count = REPLICAS};
        for (uint32_t k = 0; k < REPLICAS; k++) {
            want->nodes[k] = 1 + (i + k * (1 + i / NODES % 2)) % NODES;
            shard->members[k].node = want->nodes[k];
        }
        shard->member_count = REPLICAS;
        want->primary = want->nodes[0];
        shard->primary_node = want->primary;
    }
    for (uint32_t i = 1; i <= NODES; i++) {
        m->truth->nodes[i - 1].node = i;
        m->nodes[i].survey = calloc(1, sizeof(*m->truth));
        torc_assert(m->nodes[i].survey != NULL);
    }
    for (uint32_t i = 1; i <= NODES; i++) {
        begin(m, i);
    }
    return m;
}

static void model_close(struct model *m)
{
    if (!m->good) {
        (void)printf("  %s at step %llu\n", m->bad, (unsigned long long)m->step);
    }
    for (uint32_t i = 1; i <= NODES; i++) {
        free(m->nodes[i].survey);
    }
    free(m->truth);
    free(m);
}

static uint32_t led_by(const struct model *m, uint32_t node)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++) {
        count += m->truth->shards[i].primary_node == node ? 1 : 0;
    }
    return count;
}

// -- Tests ---------------------------------------------------------------------------------------

static void plans_keep_their_rules(void)
{
    struct model *m = model_open();

    for (uint32_t i = 0; i < STEPS && m->good; i++) {
        disturb(m);
        world_step(m, true);
    }
    settle(m);
    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct torc_survey_shard *shard = &m->truth->shards[i];

        check(m, shard->primary_node == m->truth->wants[i].primary, "it did not come back");
        check(m, shard->member_count == REPLICAS, "a member is missing");
    }
    CU_ASSERT_TRUE(m->good);
    CU_ASSERT_TRUE(m->transfers > 100 && m->stops > 20 && m->removals > 20);
    model_close(m);
}

// All nodes in turn; returns how many stops had to be cut short.
static uint64_t roll(struct model *m)
{
    settle(m);
    for (uint32_t i = 1; i <= NODES; i++) {
        m->nodes[i].process = PROCESS_LEAVING;
        m->nodes[i].since = m->step;
        m->nodes[i].yield.leaving = true;
        while (m->nodes[i].process != PROCESS_DOWN) {
            world_step(m, true);
        }
        begin(m, i);
        for (uint32_t k = 0; k < 60; k++) {
            world_step(m, true);
        }
    }
    return m->late;
}

static void a_rolling_restart_waits_for_nobody(void)
{
    struct model *m = model_open();

    CU_ASSERT_EQUAL(roll(m), 0);
    CU_ASSERT_EQUAL(m->stops, NODES);
    CU_ASSERT_TRUE(m->good);
    model_close(m);
}

static void who_is_not_heard_leaving_stays_a_member(void)
{
    struct model *m = model_open();

    m->deaf = true;
    CU_ASSERT_TRUE(roll(m) > 0);
    model_close(m);
}

static void a_wish_of_too_few_is_found(void)
{
    struct model *m = model_open();

    m->bare = true;
    for (uint32_t i = 0; i < STEPS && m->good; i++) {
        disturb(m);
        world_step(m, true);
    }
    CU_ASSERT_FALSE(m->good);
    m->good = true; // nothing to be printed
    model_close(m);
}

static void a_closed_shard_holds_no_stop_up(void)
{
    struct model *m = model_open();
    struct torc_yield yield = m->nodes[2].yield;
    uint32_t left;

    settle(m);
    yield.leaving = true;
    left = torc_yield_left(&yield, m->truth, MIN_IN_SYNC);
    CU_ASSERT_TRUE(left > 0);
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_survey_shard *shard = m->truth->shards + i;
        bool counts = torc_survey_has(shard, 2);

        for (uint32_t k = 0; k < shard->member_count; k++) {
            CU_ASSERT_EQUAL(torc_yield_left(&yield, m->truth, MIN_IN_SYNC), left);
            shard->members[k].copy++; // its node has forgotten
        }
        left -= counts ? 1 : 0;
        CU_ASSERT_EQUAL(torc_yield_left(&yield, m->truth, MIN_IN_SYNC), left);
    }
    CU_ASSERT_EQUAL(left, 0);
    model_close(m);
}

static void a_drained_node_leads_nothing(void)
{
    struct model *m = model_open();
    struct torc_fail why;
    uint32_t least = UINT32_MAX;
    uint32_t most = 0;

    settle(m);
    TORC_TEST_OK(torc_yield_may(m->truth, 2, &why), &why);
    CU_ASSERT_EQUAL(torc_yield_leads(m->truth, 2), led_by(m, 2));
    node_of(m->truth, 2)->state = TORC_RECORD_NODE_YIELDS;
    for (uint32_t i = 0; i < 100; i++) {
        world_step(m, true);
    }
    CU_ASSERT_EQUAL(led_by(m, 2), 0);
    for (uint32_t i = 1; i <= NODES; i++) {
        least = i == 2 ? least : (uint32_t)torc_min_u64(least, led_by(m, i));
        most = (uint32_t)torc_max_u64(most, led_by(m, i));
    }
    CU_ASSERT_TRUE(most <= least + 2); // 3 each, and its 3 among the others
    for (uint32_t i = 0; i < SHARDS; i++) {
        CU_ASSERT_EQUAL(m->truth->shards[i].member_count, REPLICAS);
    }
    settle(m);
    CU_ASSERT_EQUAL(led_by(m, 2), 3);
    model_close(m);
}

static void the_last_one_is_not_drained(void)
{
    struct model *m = model_open();
    struct torc_fail why;

    CU_ASSERT_EQUAL(torc_yield_may(m->truth, NODES + 1, &why), TORC_ERR_NOT_FOUND);
    for (uint32_t i = 1; i <= NODES; i++) {
        if (i != 3) {
            node_of(m->truth, i)->state = TORC_RECORD_NODE_YIELDS;
        }
    }
    CU_ASSERT_EQUAL(torc_yield_may(m->truth, 3, &why), TORC_ERR_UNAVAILABLE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "node 3: no other node could lead 9 of its shards"));
    TORC_TEST_OK(torc_yield_may(m->truth, 2, &why) == TORC_ERR_UNAVAILABLE ? TORC_ERR_OK
                                                                           : TORC_ERR_INTERNAL,
                 &why);
    model_close(m);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"plans keep their rules, and all comes back", plans_keep_their_rules},
        {"a rolling restart waits for nobody", a_rolling_restart_waits_for_nobody},
        {"who is not heard leaving stays a member", who_is_not_heard_leaving_stays_a_member},
        {"a wish of too few nodes is found", a_wish_of_too_few_is_found},
        {"a closed shard holds no stop up", a_closed_shard_holds_no_stop_up},
        {"a drained node leads nothing, and its shards are spread", a_drained_node_leads_nothing},
        {"who is the last one is not drained", the_last_one_is_not_drained},
        CU_TEST_INFO_NULL};

    return torc_test_run("model-yield", tests);
}
