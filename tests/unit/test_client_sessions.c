// Torc tests: sessions of the client's engine with a whole node in one process: how they begin,
// follow each other and end, and what somebody on the path can do about it.
#include "client/engine_state.h"
#include "dataplane/session_table.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS    UINT64_C(1000)
#define STEP_NS UINT64_C(20000)
#define NAP_NS  UINT64_C(100000000)
#define S_NS    UINT64_C(1000000000)

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_engine *engine;
static struct torc_client_node *node; // the engine's only one
static struct torc_completion done;   // of the last call
static const uint8_t value[9] = "forty-two";

// ---- The world

static void open_node(void)
{
    struct torc_rig_config config = {
        .workers = 2, .shards = 2, .key_count = KEYS, .seed = torc_test_seed(), .steered = true};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
    torc_net_open(net, rig, 1, torc_test_seed(), 64);
    engine = net->clients[0];
    node = &engine->nodes[0];
}

static void steps(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        torc_net_step(net, STEP_NS);
    }
}

// Nobody asks for anything.
static void sleep_ns(uint64_t ns)
{
    for (uint64_t end_ns = rig->now_ns + ns; rig->now_ns < end_ns;) {
        torc_net_step(net, torc_min_u64(NAP_NS, end_ns - rig->now_ns));
    }
}

static void await_ready(void)
{
    for (uint32_t i = 0; i < 5000 && !torc_engine_ready(engine); i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_FATAL(torc_engine_ready(engine));
    sleep_ns(2 * S_NS); // the packet size is found, and another handshake may follow
}

static void renew_now(void)
{
    node->renew_ns = rig->now_ns + 1;
    torc_wheel_set(&engine->wheel, engine->op_count + node->index, node->renew_ns);
    steps(200);
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

static enum torc_err finish(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < 2000000 && count == 0; i++) {
        torc_net_step(net, STEP_NS);
        count = torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    return done.status;
}

static void begin_put(uint64_t key)
{
    struct torc_engine_write write = {.key = key, .data = value, .bytes = sizeof(value)};

    CU_ASSERT_EQUAL_FATAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
}

static enum torc_err put(uint64_t key)
{
    begin_put(key);
    return finish();
}

static enum torc_err get(uint64_t key)
{
    CU_ASSERT_EQUAL_FATAL(torc_engine_get(engine, key, NULL, 0, NULL), TORC_ERR_OK);
    return finish();
}

static uint64_t handshakes(void)
{
    struct torc_counters counters;

    torc_engine_counters(engine, &counters);
    return counters.handshakes;
}

static uint64_t resends(void)
{
    struct torc_counters counters;

    torc_engine_counters(engine, &counters);
    return counters.resends_timer + counters.resends_overtaken + counters.resends_refused;
}

// Sessions of the node that the workers serve.
static uint64_t sessions_live(void)
{
    return atomic_load(&rig->sessions->open_count);
}

static bool keys_are_forgotten(const struct torc_lane *lane)
{
    static const struct torc_lane nothing;

    return memcmp(lane->keys, nothing.keys, sizeof(nothing.keys)) == 0 &&
           memcmp(lane->tokens, nothing.tokens, sizeof(nothing.tokens)) == 0;
}

// ---- Sessions follow each other

static void test_renewal(void)
{
    uint32_t first;

    open_node();
    await_ready();
    CU_ASSERT_EQUAL(handshakes(), 1);
    first = node->lane.session_index;
    // A write that the disk keeps waiting goes out in the first session.
    rig->controls[0].disk_stuck = rig->controls[1].disk_stuck = true;
    begin_put(5);
    steps(50);
    renew_now();
    CU_ASSERT_EQUAL(handshakes(), 2);
    CU_ASSERT_NOT_EQUAL(node->lane.session_index, first);
    CU_ASSERT_EQUAL(node->previous.session_index, first);
    CU_ASSERT(node->has_previous);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_NOT_FOUND); // in the second, meanwhile
    rig->controls[0].disk_stuck = rig->controls[1].disk_stuck = false;
    CU_ASSERT_EQUAL(finish(), TORC_ERR_OK);
    CU_ASSERT_EQUAL(resends(), 0); // the first brought the answer
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    // When no answer can come in it any more it is closed, and its keys are forgotten.
    sleep_ns(engine->deadline_ns_max + 2 * NAP_NS);
    steps(20);
    CU_ASSERT(!node->has_previous);
    CU_ASSERT(keys_are_forgotten(&node->previous));
    CU_ASSERT_EQUAL(sessions_live(), 1);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    close_node();
}

static void test_age(void)
{
    uint64_t age_ns;
    uint64_t began_ns;

    open_node();
    await_ready();
    began_ns = rig->now_ns;
    age_ns = node->limits.age_s * S_NS;
    CU_ASSERT(node->renew_ns >= began_ns + age_ns * 7 / 10 - S_NS);
    CU_ASSERT(node->renew_ns <= began_ns + age_ns * 9 / 10);
    for (uint32_t round = 0; round < 40; round++) {
        sleep_ns(age_ns / 20);
    }
    CU_ASSERT_EQUAL(handshakes(), 3); // each was confirmed, so the node kept it
    close_node();
}

static void test_worn(void)
{
    open_node();
    await_ready();
    node->lane.sent = (UINT64_C(1) << 28) - 2;
    CU_ASSERT_EQUAL(put(1), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(2), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(3), TORC_ERR_OK);
    steps(200);
    CU_ASSERT_EQUAL(handshakes(), 2);
    CU_ASSERT(node->lane.sent < 100);
    CU_ASSERT_EQUAL(get(3), TORC_ERR_OK);
    CU_ASSERT_EQUAL(resends(), 0);
    close_node();
}

static void test_close(void)
{
    open_node();
    await_ready();
    renew_now();
    CU_ASSERT_EQUAL(get(5), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(sessions_live(), 2);
    torc_engine_close(engine);
    steps(200);
    CU_ASSERT_EQUAL(sessions_live(), 0);
    close_node();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session follows beside the one before, which ends what it began", test_renewal},
        {"at 80 % of its age", test_age},
        {"after 2^28 packets", test_worn},
        {"and all of them are closed at the end", test_close},
        CU_TEST_INFO_NULL};

    return torc_test_run("client-sessions", tests);
}
