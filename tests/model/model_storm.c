// Torc tests: real clients of a node that cannot keep up, in virtual time.
//
// What    four engines (client/engine.h), each with many reads outstanding, of a worker that
//         refuses most packets, and whose turns take a time for each packet. Then it refuses none
//         any more.
// Oracle  calls are counted as they begin and end, sendings by the engine's own counters: sendings
//         of operations stay below 1.2 times the calls (C6), and what was refused is done once the
//         load has gone.
// Figures TORC_TEST_FIGURES=1 prints them.
#include "dataplane/admit.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS        UINT64_C(100000)
#define CLIENTS     TORC_NET_CLIENTS_MAX
#define OPERATIONS  4096u
#define OUTSTANDING 1000u
#define STEP_NS     5000u // when nobody has anything to do
#define FRAME_NS    UINT64_C(4000)
#define REFUSED_NS  UINT64_C(200)
#define MS_NS       UINT64_C(1000000)
#define TIMEOUT_US  UINT64_C(20000000)

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_rng rng;
static uint64_t begun;
static uint64_t ended;
static uint64_t failed;

static void open_node(uint64_t seed)
{
    struct torc_rig_config config = {.workers = 1,
                                     .shards = 1,
                                     .key_count = KEYS,
                                     .seed = seed,
                                     .steered = true,
                                     .durability = TORC_DURABILITY_NONE};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    rng.state = seed;
    torc_rig_open(rig, &config);
    torc_net_open(net, rig, CLIENTS, seed, OPERATIONS);
    for (uint32_t i = 0; i < 5000; i++) {
        torc_net_step(net, STEP_NS);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        CU_ASSERT_FATAL(torc_engine_ready(net->clients[i]));
    }
    begun = 0;
    ended = 0;
    failed = 0;
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

static uint64_t counter(enum torc_counter which)
{
    return torc_stats_get(&torc_rig_stats(rig, 0)->counters[which]);
}

// Every client has `outstanding` reads in flight.
static void keep(uint32_t outstanding)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct torc_engine *engine = net->clients[i];
        struct torc_completion done[64];
        uint32_t count;

        while ((count = torc_engine_poll(engine, done, 64)) > 0) {
            for (uint32_t at = 0; at < count; at++) {
                failed += done[at].status != TORC_ERR_OK && done[at].status != TORC_ERR_NOT_FOUND;
            }
            ended += count;
        }
        while (torc_engine_pending(engine) < outstanding) {
            struct torc_read_options read = {.timeout_us = TIMEOUT_US};
            enum torc_err err = torc_engine_get(engine, torc_rng_below(&rng, KEYS), &read, 0, NULL);

            if (err != TORC_ERR_OK) {
                break;
            }
            begun++;
        }
    }
}

// One turn of everybody, and then the time that the worker's took.
static uint64_t storm_turn(void)
{
    static uint64_t cost_ns;
    uint64_t frames = counter(TORC_COUNTER_RX_PACKETS);
    uint64_t shed = counter(TORC_COUNTER_SHED);

    torc_net_step(net, torc_max_u64(cost_ns, STEP_NS));
    frames = counter(TORC_COUNTER_RX_PACKETS) - frames;
    shed = counter(TORC_COUNTER_SHED) - shed;
    cost_ns = (frames - shed) * FRAME_NS + shed * REFUSED_NS;
    return cost_ns;
}

static void storm(uint32_t outstanding, uint64_t duration_ns)
{
    uint64_t until_ns = rig->now_ns + duration_ns;

    while (rig->now_ns < until_ns) {
        keep(outstanding);
        (void)storm_turn();
    }
}

static uint64_t sendings(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct torc_counters counters;

        torc_engine_counters(net->clients[i], &counters);
        sum += counters.ops_sent;
    }
    return sum;
}

// The worker is told that it sheds, and that its packets are dear: it refuses most, whatever comes.
static void refuse(bool most)
{
    struct torc_admit *admit = torc_rig_admit(rig, 0);

    admit->shedding = most;
    admit->window_ns = rig->now_ns;
    admit->cost_ns = most ? 100000 : 1000;
}

static void refusing(uint32_t outstanding, uint64_t duration_ns)
{
    uint64_t until_ns = rig->now_ns + duration_ns;

    while (rig->now_ns < until_ns) {
        keep(outstanding);
        refuse(true);
        (void)storm_turn();
    }
    refuse(false);
}

static void figures(const char *what, uint64_t calls, uint64_t sent, uint64_t shed)
{
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("  %s: %" PRIu64 " calls, %" PRIu64 " sendings (%.3f), %" PRIu64
                     " packets refused, %" PRIu64 " failed\n",
                     what, calls, sent, (double)sent / (double)calls, shed, failed);
    }
}

// Most of what is sent is refused for a while: clients wait instead of sending it again and again.
// When the load has gone, what waited is done.
static void test_no_storm(void)
{
    uint64_t sent;
    uint64_t shed;
    uint64_t calls;

    open_node(torc_test_seed());
    storm(OUTSTANDING, 20 * MS_NS);
    sent = sendings();
    shed = counter(TORC_COUNTER_SHED);
    calls = begun;
    refusing(OUTSTANDING, 400 * MS_NS);
    sent = sendings() - sent;
    shed = counter(TORC_COUNTER_SHED) - shed;
    calls = begun - calls;
    figures("refused", calls, sent, shed);
    CU_ASSERT(shed > 0);
    CU_ASSERT(sent * 10 <= calls * 12);
    calls = begun;
    sent = sendings();
    storm(OUTSTANDING, 50 * MS_NS);
    figures("after it", begun - calls, sendings() - sent, 0);
    storm(0, 1500 * MS_NS);
    CU_ASSERT_EQUAL(ended, begun); // nobody waits for a budget that a quiet client does not earn
    CU_ASSERT_EQUAL(failed, 0);
    close_node();
}

// 5 % of all packets are lost: what later answers prove to be lost is sent again for nothing.
static void test_loss_is_free(void)
{
    struct torc_counters counters;
    uint64_t overtaken = 0;
    uint64_t timer = 0;

    open_node(torc_test_seed() + 1);
    net->faults.loss_ppm = 50000;
    storm(64, 150 * MS_NS);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        torc_engine_counters(net->clients[i], &counters);
        overtaken += counters.resends_overtaken;
        timer += counters.resends_timer;
    }
    figures("5 % lost", begun, sendings(), 0);
    CU_ASSERT(overtaken > 2 * timer);
    CU_ASSERT(ended * 10 > begun * 9);
    net->faults.loss_ppm = 0;
    storm(0, 2000 * MS_NS);
    CU_ASSERT_EQUAL(ended, begun);
    CU_ASSERT_EQUAL(failed, 0);
    close_node();
}

int main(void)
{
    CU_TestInfo tests[] = {{"a node that refuses is not stormed", test_no_storm},
                           {"resends of what is proved lost are free", test_loss_is_free},
                           CU_TEST_INFO_NULL};

    return torc_test_run("storm", tests);
}
