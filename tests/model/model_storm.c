// Torc tests: real clients of a node that cannot keep up, in virtual time.
//
// What    many engines (client/engine.h) with reads, writes, both, or values of many pieces
//         outstanding, of one worker whose turns take a time for each packet and operation. It
//         refuses most packets (SHED), each write by itself (BUSY: the log's ring is full), or what
//         its own admission refuses when twice as many calls come as it can do. Then it refuses
//         none any more.
// Oracle  calls are counted as they begin and end, sendings by the engines' own counters: sendings
//         of operations stay below 1.2 times the calls (C6); each call ends by its deadline (C1);
//         what was refused is done once the load has gone; clients that were refused at the same
//         moment do not come back at the same moment.
// Figures TORC_TEST_FIGURES=1 prints them.
#include "dataplane/admit.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS        UINT64_C(100000)
#define OPERATIONS  1024u
#define STEP_NS     5000u // when nobody has anything to do
#define MS_NS       UINT64_C(1000000)
#define TIMEOUT_US  UINT64_C(20000000)
#define SHORT_US    UINT64_C(150000)
#define LATE_NS     (2 * MS_NS) // timers are looked at when a turn ends
#define VALUE_BYTES 32u
#define LARGE_BYTES 14000u
#define PIECE_BYTES 1304u // of the engine's packets of 1472 bytes; never more
#define CLIENTS     8u
#define CROWD       48u
#define TABLE_BYTES (8u << 20)  // of duplicates: enough
#define PAUSE_NS    (2 * MS_NS) // after a first refusal, and up to so much more
#define PART_NS     UINT64_C(100000)
// What the worker's turns take: a packet, an operation in it, a packet that is refused. One get is
// 12 us, and refusing it 7: as one packet's real times are to each other, a hundred times slower.
#define FRAME_NS   UINT64_C(8000)
#define OP_NS      UINT64_C(4000)
#define REFUSED_NS UINT64_C(7000)
#define UNREAD_NS  UINT64_C(500)
// Of 59 gets, as many as a packet takes.
#define FULL_GET_NS ((FRAME_NS + 59 * OP_NS) / 59)
#define WAITING     16384u // at twice that, in SHORT_US

enum load {
    GETS,
    WRITES,
    MIXED,
    VALUES, // of many pieces
    RANGES
};

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_rng rng;
static enum load load;
static uint64_t timeout_us;
static uint32_t operations = OPERATIONS; // of each client
static uint64_t begun;                   // calls, a value's by its pieces
static uint64_t calls;
static uint64_t ended;
static uint64_t failed;
static uint64_t late; // ended after their deadline
static uint64_t done; // operations that the worker answered, in all

static uint64_t counter(enum torc_counter which)
{
    return torc_stats_get(&torc_rig_stats(rig, 0)->counters[which]);
}

// Operations that were done; what was refused has another status.
static uint64_t answered(void)
{
    return torc_stats_get(&torc_rig_stats(rig, 0)->replies[TORC_ERR_OK]) +
           torc_stats_get(&torc_rig_stats(rig, 0)->replies[TORC_ERR_NOT_FOUND]);
}

// Operations that were refused by themselves, not with their packet.
static uint64_t refused_alone(void)
{
    const struct torc_stats *stats = torc_rig_stats(rig, 0);

    return torc_stats_get(&stats->replies[TORC_ERR_BUSY]) +
           torc_stats_get(&stats->replies[TORC_ERR_LIMIT]) - counter(TORC_COUNTER_SHED);
}

static void open_node(uint32_t clients, uint64_t salt, uint32_t completion_bytes)
{
    struct torc_rig_config config = {.workers = 1,
                                     .shards = 1,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed() + salt,
                                     .steered = true,
                                     .session_slots = 64,
                                     .completion_bytes = completion_bytes,
                                     .durability = TORC_DURABILITY_DURABLE};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    rng.state = torc_test_seed() + salt;
    torc_rig_open(rig, &config);
    torc_net_open(net, rig, clients, rng.state, operations);
    for (uint32_t i = 0; i < 10000; i++) {
        torc_net_step(net, STEP_NS);
    }
    for (uint32_t i = 0; i < clients; i++) {
        CU_ASSERT_FATAL(torc_engine_ready(net->clients[i]));
    }
    timeout_us = TIMEOUT_US;
    begun = 0;
    calls = 0;
    ended = 0;
    failed = 0;
    late = 0;
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

// ---- Calls

static bool begin_read(struct torc_engine *engine)
{
    struct torc_read_options read = {.timeout_us = timeout_us};

    return torc_engine_get(engine, torc_rng_below(&rng, KEYS / 2), &read, rig->now_ns, NULL) ==
           TORC_ERR_OK;
}

static bool begin_write(struct torc_engine *engine, uint32_t bytes)
{
    static const uint8_t value[LARGE_BYTES] = {7};
    struct torc_engine_write write = {.key = KEYS / 2 + torc_rng_below(&rng, KEYS / 2 - 1),
                                      .data = value,
                                      .bytes = bytes,
                                      .timeout_us = timeout_us,
                                      .user_data = rig->now_ns};

    return torc_engine_write(engine, &write, NULL) == TORC_ERR_OK;
}

static bool begin_range(struct torc_engine *engine)
{
    struct torc_engine_range range = {.hi = KEYS / 2,
                                      .user_data = rig->now_ns,
                                      .options = {.limit = 1, .timeout_us = timeout_us}};

    return torc_engine_range(engine, &range, NULL) == TORC_ERR_OK;
}

static bool begin_call(struct torc_engine *engine)
{
    bool is_read = load == GETS || (load == MIXED && torc_rng_below(&rng, 2) == 0);
    bool ok = load == RANGES ? begin_range(engine)
              : is_read      ? begin_read(engine)
                             : begin_write(engine, load == VALUES ? LARGE_BYTES : VALUE_BYTES);

    calls += ok ? 1 : 0;
    begun += !ok ? 0 : load == VALUES ? LARGE_BYTES / PIECE_BYTES + 1 : 1;
    return ok;
}

static void poll_calls(struct torc_engine *engine)
{
    struct torc_completion list[64];
    uint32_t count;

    while ((count = torc_engine_poll(engine, list, 64)) > 0) {
        for (uint32_t at = 0; at < count; at++) {
            failed += list[at].status != TORC_ERR_OK && list[at].status != TORC_ERR_NOT_FOUND;
            late += rig->now_ns - list[at].user_data > timeout_us * 1000 + LATE_NS;
        }
        ended += count;
    }
}

// Every client has `outstanding` calls in flight.
static void keep(uint32_t outstanding)
{
    for (uint32_t i = 0; i < net->client_count; i++) {
        poll_calls(net->clients[i]);
        while (torc_engine_pending(net->clients[i]) < outstanding) {
            if (!begin_call(net->clients[i])) {
                break;
            }
        }
    }
}

static uint64_t sendings(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < net->client_count; i++) {
        struct torc_counters counters;

        torc_engine_counters(net->clients[i], &counters);
        sum += counters.ops_sent;
    }
    return sum;
}

// ---- Time

// One turn of everybody, and then the time that the worker's took.
static void storm_turn(void)
{
    static uint64_t cost_ns;
    uint64_t frames = counter(TORC_COUNTER_RX_PACKETS);
    uint64_t shed = counter(TORC_COUNTER_SHED);
    uint64_t unread = torc_rig_drops(rig, TORC_DROP_OVERLOAD);
    uint64_t ops = answered();

    torc_net_step(net, torc_max_u64(cost_ns, STEP_NS));
    frames = counter(TORC_COUNTER_RX_PACKETS) - frames;
    shed = counter(TORC_COUNTER_SHED) - shed;
    unread = torc_rig_drops(rig, TORC_DROP_OVERLOAD) - unread;
    ops = answered() - ops;
    done += ops;
    cost_ns =
        (frames - shed - unread) * FRAME_NS + ops * OP_NS + shed * REFUSED_NS + unread * UNREAD_NS;
}

static void storm(uint32_t outstanding, uint64_t duration_ns)
{
    uint64_t until_ns = rig->now_ns + duration_ns;

    while (rig->now_ns < until_ns) {
        keep(outstanding);
        storm_turn();
    }
}

// The worker is told that it sheds, and that its packets are dear: it refuses most, whatever comes.
static void shed_most(bool most)
{
    struct torc_admit *admit = torc_rig_admit(rig, 0);

    admit->shedding = most;
    admit->window_ns = rig->now_ns;
    admit->cost_ns = most ? 100000 : 12000;
}

static void refusing(uint32_t outstanding, uint64_t duration_ns)
{
    uint64_t until_ns = rig->now_ns + duration_ns;

    while (rig->now_ns < until_ns) {
        keep(outstanding);
        shed_most(true);
        storm_turn();
    }
    shed_most(false);
}

// ---- What comes of it

static void figures(const char *what, uint64_t of, uint64_t sent, uint64_t shed)
{
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("  %-22s load %u: %7" PRIu64 " begun, %7" PRIu64 " sent (%.3f), %6" PRIu64
                     " packets refused, %" PRIu64 " failed\n",
                     what, load, of, sent, of == 0 ? 0 : (double)sent / (double)of, shed, failed);
    }
}

// Everything that was begun is done, soon after the load has gone.
static void check_recovery(uint64_t within_ns)
{
    uint64_t until_ns = rig->now_ns + within_ns;
    uint64_t since_ns = rig->now_ns;

    while (ended < calls && rig->now_ns < until_ns) {
        keep(0);
        storm_turn();
    }
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("    %" PRIu64 " of %" PRIu64 " done %" PRIu64 " ms after it; %.3f sent\n",
                     ended, calls, (rig->now_ns - since_ns) / MS_NS,
                     (double)sendings() / (double)begun);
    }
    CU_ASSERT_EQUAL(ended, calls);
    CU_ASSERT_EQUAL(failed, 0);
    CU_ASSERT_EQUAL(late, 0);
}

// Most packets are refused for a while: clients wait instead of sending them again and again.
static void check_shed(enum load of, uint32_t outstanding)
{
    uint64_t shed;

    load = of;
    open_node(CLIENTS, of, TABLE_BYTES);
    shed = counter(TORC_COUNTER_SHED) + torc_rig_drops(rig, TORC_DROP_OVERLOAD);
    refusing(outstanding, 150 * MS_NS);
    shed = counter(TORC_COUNTER_SHED) + torc_rig_drops(rig, TORC_DROP_OVERLOAD) - shed;
    figures("shed", begun, sendings(), shed);
    CU_ASSERT(shed > 0);
    CU_ASSERT(shed * 6 <= begun);
    CU_ASSERT(sendings() * 10 <= begun * 12);
    check_recovery(1500 * MS_NS);
    close_node();
}

static void test_shed(void)
{
    check_shed(GETS, 700);
    check_shed(WRITES, 500);
    check_shed(MIXED, 500);
    check_shed(VALUES, 80);
    check_shed(RANGES, 600);
}

// The log's disk says nothing: writes are in progress, and then there is no room for more of them.
static void check_stuck(enum load of, uint32_t outstanding)
{
    load = of;
    open_node(CLIENTS, 10 + of, TABLE_BYTES);
    rig->controls[0].away = true;
    storm(outstanding, 500 * MS_NS);
    figures("stuck", begun, sendings(), refused_alone());
    CU_ASSERT(refused_alone() > 0);
    CU_ASSERT(sendings() * 10 <= begun * 12);
    rig->controls[0].away = false;
    check_recovery(3000 * MS_NS);
    close_node();
}

// What is remembered of writes is more than there is room for: only the oldest of a client goes
// through. Whoever has refused everything else goes on refusing.
static void check_full(enum load of, uint32_t outstanding)
{
    uint64_t done_before;

    load = of;
    open_node(CLIENTS, 15 + of, 65536);
    storm(outstanding, 50 * MS_NS);
    done_before = ended;
    storm(outstanding, 500 * MS_NS);
    figures("full", begun, sendings(), refused_alone());
    CU_ASSERT(refused_alone() > 0);
    CU_ASSERT(sendings() * 10 <= begun * 12);
    CU_ASSERT(ended > done_before);
    CU_ASSERT_EQUAL(failed, 0);
    close_node();
}

static void test_busy(void)
{
    check_stuck(WRITES, 900);
    check_stuck(MIXED, 900);
    check_stuck(VALUES, 100);
    check_full(WRITES, 900);
    check_full(MIXED, 900);
}

// Calls come as they come, twice as many as the worker can do in packets of their own.
static void arrive(uint64_t elapsed_ns, uint64_t every_ns)
{
    static uint64_t rest_ns;

    rest_ns += elapsed_ns;
    for (; rest_ns >= every_ns; rest_ns -= every_ns) {
        (void)begin_call(net->clients[torc_rng_below(&rng, net->client_count)]);
    }
}

static void arriving(uint64_t duration_ns, uint64_t every_ns)
{
    uint64_t until_ns = rig->now_ns + duration_ns;
    uint64_t before_ns = rig->now_ns;

    while (rig->now_ns < until_ns) {
        arrive(rig->now_ns - before_ns, every_ns);
        before_ns = rig->now_ns;
        keep(0);
        storm_turn();
    }
}

static void test_saturated(void)
{
    uint64_t begun_ns;
    uint64_t served;

    load = GETS;
    open_node(CROWD, 20, TABLE_BYTES);
    begun_ns = rig->now_ns;
    served = answered();
    arriving(400 * MS_NS, (FRAME_NS + OP_NS) / 2);
    served = answered() - served;
    figures("saturated", begun, sendings(), counter(TORC_COUNTER_SHED));
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("    %.3f of what it does in single packets\n",
                     (double)(served * (FRAME_NS + OP_NS)) / (double)(rig->now_ns - begun_ns));
    }
    CU_ASSERT(served * (FRAME_NS + OP_NS) * 100 >= (rig->now_ns - begun_ns) * 95);
    CU_ASSERT(sendings() * 10 <= begun * 12);
    check_recovery(3000 * MS_NS);
    close_node();
}

// Twice what it does in full packets, for so long that calls wait in their clients up to their
// deadlines: what is sent is still done in time, and hardly anything is sent to be refused.
static void test_waiting(void)
{
    uint64_t refused;
    uint64_t sent;
    uint64_t begun_ns;
    uint64_t in_time;
    uint64_t worth_ns; // what was done in time, in full packets

    load = GETS;
    operations = WAITING;
    open_node(CLIENTS, 60, TABLE_BYTES);
    timeout_us = SHORT_US;
    arriving(2 * SHORT_US * 1000, FULL_GET_NS / 2);
    begun_ns = rig->now_ns;
    in_time = ended - failed;
    sent = sendings();
    refused = counter(TORC_COUNTER_SHED) + torc_rig_drops(rig, TORC_DROP_OVERLOAD);
    arriving(2 * SHORT_US * 1000, FULL_GET_NS / 2);
    in_time = ended - failed - in_time;
    sent = sendings() - sent;
    refused = counter(TORC_COUNTER_SHED) + torc_rig_drops(rig, TORC_DROP_OVERLOAD) - refused;
    worth_ns = in_time * FULL_GET_NS;
    figures("waiting", in_time, sent, refused);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("    %.3f of what it does in full packets\n",
                     (double)worth_ns / (double)(rig->now_ns - begun_ns));
    }
    CU_ASSERT(worth_ns * 100 >= (rig->now_ns - begun_ns) * 95);
    CU_ASSERT(sent * 10 <= in_time * 12);
    operations = OPERATIONS;
    close_node();
}

// Nobody waits longer than its deadline, whether the node refuses or the budget is empty.
static void test_deadlines(void)
{
    load = MIXED;
    open_node(CLIENTS, 30, TABLE_BYTES);
    timeout_us = SHORT_US;
    rig->controls[0].away = true;
    refusing(300, 500 * MS_NS);
    figures("deadlines", begun, sendings(), counter(TORC_COUNTER_SHED));
    CU_ASSERT(failed > 0);
    CU_ASSERT_EQUAL(late, 0);
    storm(0, SHORT_US * 1000 + LATE_NS);
    CU_ASSERT_EQUAL(ended, calls);
    CU_ASSERT_EQUAL(late, 0);
    close_node();
}

static uint64_t back_ns[CROWD]; // when each client sent again

// NOLINTNEXTLINE(readability-non-const-parameter): the network's hook may change them
static bool note_return(struct torc_net *of, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)bytes;
    if (packet->to_node && back_ns[packet->client] == 0) {
        back_ns[packet->client] = of->rig->now_ns;
    }
    return true;
}

// The accounts of all sessions are full, or none is.
static void shed_all(bool all)
{
    struct torc_admit *admit = torc_rig_admit(rig, 0);

    shed_most(all);
    for (uint32_t i = 0; i < TORC_ADMIT_SLOTS; i++) {
        admit->slots[i] =
            (struct torc_admit_slot){.turn = admit->turn, .level = all ? UINT32_MAX / 2 : 0};
    }
}

// All clients are refused in the same turn. They come back one by one.
static void test_spread(void)
{
    uint32_t parts[3 * PAUSE_NS / PART_NS] = {0}; // and what the turns take
    uint64_t refused_ns;
    uint64_t low = UINT64_MAX;
    uint64_t high = 0;

    load = GETS;
    open_node(CROWD, 50, TABLE_BYTES);
    memset(back_ns, 0, sizeof(back_ns));
    keep(1);
    shed_all(true);
    storm_turn();
    storm_turn(); // sent, and refused
    CU_ASSERT_EQUAL_FATAL(counter(TORC_COUNTER_SHED), CROWD);
    refused_ns = rig->now_ns;
    shed_all(false);
    net->tamper = note_return;
    storm(0, 4 * PAUSE_NS);
    for (uint32_t i = 0; i < CROWD; i++) {
        uint64_t after_ns = back_ns[i] - refused_ns;

        CU_ASSERT_FATAL(back_ns[i] != 0 && after_ns < TORC_COUNT_OF(parts) * PART_NS);
        low = torc_min_u64(low, after_ns);
        high = torc_max_u64(high, after_ns);
        parts[after_ns / PART_NS]++;
        CU_ASSERT(parts[after_ns / PART_NS] < CROWD / 3);
    }
    CU_ASSERT(low + PART_NS >= PAUSE_NS); // not before they were told, and not all of them then
    CU_ASSERT(high - low >= PAUSE_NS / 2);
    CU_ASSERT_EQUAL(ended, calls);
    close_node();
}

// 5 % of all packets are lost: what later answers prove to be lost is sent again for nothing.
static void loss_is_free(enum load of)
{
    struct torc_counters counters;
    uint64_t overtaken = 0;
    uint64_t timer = 0;

    load = of;
    open_node(4, 40, TABLE_BYTES);
    net->faults.loss_ppm = 50000;
    arriving(400 * MS_NS, 2 * (FRAME_NS + OP_NS));
    for (uint32_t i = 0; i < net->client_count; i++) {
        torc_engine_counters(net->clients[i], &counters);
        overtaken += counters.resends_overtaken;
        timer += counters.resends_timer;
    }
    figures("5 % lost", begun, sendings(), 0);
    CU_ASSERT(overtaken > 2 * timer);
    CU_ASSERT(ended * 10 > calls * 9);
    net->faults.loss_ppm = 0;
    check_recovery(2000 * MS_NS);
    close_node();
}

// Nothing arrives for a while: all that was in flight owes the budget, and what is then done of it
// pays for the rest.
static void check_cut(enum load of)
{
    load = of;
    open_node(CLIENTS, 70 + of, TABLE_BYTES);
    storm(300, 20 * MS_NS);
    net->cut = true;
    storm(300, 100 * MS_NS);
    net->cut = false;
    check_recovery(1500 * MS_NS);
    close_node();
}

static void test_cut(void)
{
    check_cut(GETS);
    check_cut(MIXED);
    check_cut(RANGES);
}

static void test_lost_gets(void)
{
    loss_is_free(GETS);
}

static void test_lost_writes(void)
{
    loss_is_free(WRITES);
}

int main(void)
{
    CU_TestInfo tests[] = {{"a node that sheds is not stormed", test_shed},
                           {"nor one that refuses writes one by one", test_busy},
                           {"those refused together come back one by one", test_spread},
                           {"twice as many calls as it can do", test_saturated},
                           {"and so long that they wait up to their deadlines", test_waiting},
                           {"deadlines are kept", test_deadlines},
                           {"nobody was heard for a while", test_cut},
                           {"resends of gets that are proved lost are free", test_lost_gets},
                           {"and those of writes", test_lost_writes},
                           CU_TEST_INFO_NULL};

    return torc_test_run("storm", tests);
}
