// Torc tests: a client and a node on a path whose MTU changes under them, each direction by itself.
//
// What    the real engine and the real workers; a path that swallows what is larger than it carries
//         just now, without a word. Beside it loss, doubles, delay, answers to probes that come
//         late or damaged. Small and large values, ranges, one operation at a time and many.
// Oracle  every operation ends well and in bounded time, and a value is what was written. Packets,
//         and answers, are no larger than what an answered probe proved since the last fall; never
//         below the base is a node's size. What is swallowed makes the client fall back within
//         FALL_NS, twice that for each small probe that was lost too, and the operations that wait
//         for it end as much later; what passes is used within GROW_NS; probes are few, and
//         answered one for one.
// Planted a client that never falls back, one that believes without proof, one that never climbs
//         again, one that climbs all the time: each must be found.
// Use     TORC_SEED=n replays; TORC_PATH_CHANGES sets how many changes of the path.
#include "client/engine_state.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEYS = 64,
    FLIGHT = 64,
    STEP_NS = 20000,
    VALUE_MAX = 40000,
    POLL_MAX = 16,
    BASE = 1200,
    MTU = 9000,
    LARGEST = 8952, // what a node with this MTU publishes: it fits into IPv6 too
    MTU_OTHER = 1500,
    LARGEST_OTHER = 1448,
    HELD_MAX = 16,
    CHANGES = 18,
    PROBES_QUIET = 24 // of a minute in which nothing changes
};

#define FALL_NS  UINT64_C(500000000) // where nothing else is lost or late
#define ENDS_NS  UINT64_C(2000000000)
#define LOSSY    4u // so many times as long where it is
#define DOUBLED  2u // times that what lost probes make late may double ENDS_NS
#define GROW_NS  UINT64_C(75000000000)
#define LATE_NS  UINT64_C(100000000) // answers to probes; a time-out follows what was seen
#define NS_PER_S UINT64_C(1000000000)

enum plant {
    PLANT_NONE,
    PLANT_DEAF,    // never falls back
    PLANT_BOLD,    // believes in a size without proof
    PLANT_CONTENT, // never climbs again
    PLANT_EAGER    // climbs all the time
};

struct cell {
    uint64_t number; // 0: absent
    uint64_t asked;
    uint64_t since_ns;
    bool busy;
    bool is_get;
};

struct held {
    uint64_t at_ns;
    struct torc_net_packet packet;
    uint8_t bytes[TORC_ENGINE_PAYLOAD_MAX];
};

struct world {
    struct torc_rig rig;
    struct torc_net net;
    struct torc_rng rng;
    enum plant plant;
    uint32_t path[2]; // largest payload to the client, to the node
    uint32_t loss_ppm;
    uint32_t late_ppm; // of answers to probes
    uint32_t patience; // with the client: a factor
    // What is known by looking on.
    uint32_t payload;
    uint32_t proved;
    uint32_t proved_before; // the last falls: answers allowed then may still come
    uint64_t fell_ns;
    uint64_t cut_ns;     // since then packets are swallowed for their size; 0: none
    uint32_t small_lost; // probes that fit, lost by chance since then: time-outs double
    uint32_t most_lost;  // of them in one cut, while what now flies did
    uint64_t slowest_fall_ns;
    uint64_t probes;
    uint64_t probe_answers;
    uint64_t large; // packets over 4000 bytes that are no probes, each way
    uint64_t falls;
    uint64_t faults;
    uint32_t held_count;
    struct held held[HELD_MAX];
    struct cell cells[KEYS];
    uint8_t value[VALUE_MAX];
    uint64_t last_number;
};

static struct world *world;

static void expect(bool holds, const char *what, uint64_t number)
{
    if (holds || world->faults > 0) {
        return;
    }
    world->faults++;
    if (world->plant == PLANT_NONE) {
        (void)fprintf(stderr, "%s (%" PRIu64 "; path %u in, %u out; size %u, proved %u)\n", what,
                      number, world->path[0], world->path[1], world->payload, world->proved);
        CU_FAIL_FATAL("the oracle disagrees");
    }
}

static struct torc_client_node *node_of_client(void)
{
    return &world->net.clients[0]->nodes[0];
}

static uint32_t path_both(void)
{
    return (uint32_t)torc_min_u64(world->path[0], world->path[1]);
}

// ---- The path

// A probe of any size, the base's too, or its answer.
static bool is_probe(const struct torc_net_packet *packet, const uint8_t *bytes)
{
    return packet->byte_count >= BASE && bytes[1] == 0x19 &&
           bytes[TORC_DATA_HEAD_BYTES] == (packet->to_node ? 0x01 : 0x81);
}

static bool is_ping(const struct torc_net_packet *packet, const uint8_t *bytes)
{
    return packet->byte_count > BASE && is_probe(packet, bytes);
}

// An answer to a probe arrives. Its header says when the probe left.
static void probe_is_answered(const struct torc_net_packet *packet, const uint8_t *bytes)
{
    struct torc_le32 clock;

    memcpy(&clock, bytes + 16, sizeof(clock));
    if ((int32_t)(torc_get_le32(clock) - (uint32_t)(world->fell_ns / 1000)) >= 0) {
        world->proved = (uint32_t)torc_max_u64(world->proved, packet->byte_count);
    }
}

static void size_check(const struct torc_net_packet *packet)
{
    uint32_t most = world->proved;

    if (!packet->to_node && world->rig.now_ns < world->fell_ns + NS_PER_S) {
        most = (uint32_t)torc_max_u64(most, world->proved_before);
    }
    expect(packet->byte_count <= torc_max_u64(BASE, most),
           packet->to_node ? "a packet that no probe proved" : "an answer that no probe proved",
           packet->byte_count);
    world->large += packet->byte_count > 4000 ? 1 : 0;
}

static bool hold_back(const struct torc_net_packet *packet, const uint8_t *bytes)
{
    struct held *held = &world->held[world->held_count];

    if (world->held_count == HELD_MAX || !torc_rng_chance(&world->rng, world->late_ppm)) {
        return false;
    }
    world->held_count++;
    held->at_ns = world->rig.now_ns + torc_rng_below(&world->rng, LATE_NS);
    held->packet = *packet;
    memcpy(held->bytes, bytes, packet->byte_count);
    return true;
}

static bool on_the_way(struct torc_net *net, struct torc_net_packet *packet, uint8_t *bytes)
{
    bool ping = is_ping(packet, bytes);

    (void)net;
    if (ping && packet->to_node) {
        world->probes++;
    } else if (ping) {
        world->probe_answers++;
        expect(world->probe_answers <= world->probes, "more answers than probes", world->probes);
    } else {
        size_check(packet);
    }
    if (packet->byte_count > world->path[packet->to_node ? 1 : 0]) {
        if (!ping && world->cut_ns == 0 && world->payload > path_both()) {
            world->cut_ns = world->rig.now_ns;
            world->small_lost = 0;
        }
        return false;
    }
    if (torc_rng_chance(&world->rng, world->loss_ppm)) {
        world->small_lost += is_probe(packet, bytes) ? 1 : 0;
        if (world->cut_ns != 0) {
            world->most_lost = (uint32_t)torc_max_u64(world->most_lost, world->small_lost);
        }
        return false;
    }
    if (ping && !packet->to_node) {
        if (hold_back(packet, bytes)) {
            return false;
        }
        if (torc_rng_chance(&world->rng, world->late_ppm / 2)) { // damaged: proves nothing
            bytes[torc_rng_below(&world->rng, packet->byte_count)] ^= 0x10;
            return true;
        }
        probe_is_answered(packet, bytes);
    }
    return true;
}

static void held_release(void)
{
    for (uint32_t i = world->held_count; i-- > 0;) {
        struct held *held = &world->held[i];

        if (held->at_ns <= world->rig.now_ns) {
            probe_is_answered(&held->packet, held->bytes);
            torc_net_inject(&world->net, &held->packet, held->bytes);
            *held = world->held[--world->held_count];
        }
    }
}

static uint32_t some_size(void)
{
    static const uint32_t usual[] = {1200, 1252, 1372, 1422, 1452, 1472, 4052, 8932, 8952, 8972};

    if (torc_rng_chance(&world->rng, 700000)) {
        return usual[torc_rng_below(&world->rng, TORC_COUNT_OF(usual))];
    }
    return BASE + (uint32_t)torc_rng_below(&world->rng, LARGEST - BASE + 1);
}

static void path_set(uint32_t in, uint32_t out)
{
    world->path[0] = in;
    world->path[1] = out;
    world->cut_ns = 0;
}

static void path_change(void)
{
    uint32_t in = some_size();

    path_set(in, torc_rng_chance(&world->rng, 600000) ? in : some_size());
}

// A wide path, and a client that has slept long enough to try it: what follows finds it wide.
static void path_widen(void)
{
    path_set(LARGEST, LARGEST);
    node_of_client()->mtu.climb_ns = 0;
}

// ---- The world

static void world_open(enum plant plant)
{
    struct torc_rig_config config = {
        .workers = 2, .shards = 4, .key_count = KEYS, .steered = true, .mtu = MTU};

    world = calloc(1, sizeof(*world));
    CU_ASSERT_FATAL(world != NULL);
    world->rng.state = torc_test_seed();
    world->plant = plant;
    config.seed = torc_rng_next(&world->rng);
    torc_rig_open(&world->rig, &config);
    torc_net_open(&world->net, &world->rig, 1, torc_rng_next(&world->rng), FLIGHT * 2);
    world->net.tamper = on_the_way;
    world->payload = world->proved = BASE;
    world->patience = 1;
    path_set(LARGEST, LARGEST);
}

static void world_close(void)
{
    torc_net_close(&world->net);
    torc_rig_close(&world->rig);
    free(world);
}

static void world_faults(uint32_t loss_ppm)
{
    world->loss_ppm = loss_ppm;
    world->late_ppm = loss_ppm * 4;
    world->patience = loss_ppm > 0 ? LOSSY : 1;
    world->net.faults = (struct torc_net_faults){.double_ppm = loss_ppm,
                                                 .delay_max_ns = 100000,
                                                 .late_ppm = 2 * loss_ppm,
                                                 .late_ns = 60000000};
}

static void world_plant(void)
{
    struct torc_client_node *node = node_of_client();

    switch (world->plant) {
    case PLANT_NONE: return;
    case PLANT_DEAF: node->payload = (uint32_t)torc_max_u64(node->payload, world->payload); return;
    case PLANT_BOLD: node->payload = LARGEST; return;
    case PLANT_CONTENT: node->mtu.climb_ns = UINT64_MAX; return;
    case PLANT_EAGER: node->mtu.climb_ns = 0; return;
    }
}

// What the client's size did in the step that began then.
static void world_look(uint64_t since_ns)
{
    uint32_t payload = node_of_client()->payload;
    uint64_t now_ns = world->rig.now_ns;

    expect(payload >= BASE && payload <= LARGEST, "a size out of bounds", payload);
    if (payload < world->payload) {
        world->falls++;
        // Two falls may be close together: what was allowed before the first is on its way, too.
        world->proved_before = since_ns < world->fell_ns + NS_PER_S
                                   ? (uint32_t)torc_max_u64(world->proved_before, world->proved)
                                   : world->proved;
        world->fell_ns = since_ns;
        world->proved = payload;
    }
    world->payload = payload;
    if (world->cut_ns != 0) {
        world->slowest_fall_ns = torc_max_u64(world->slowest_fall_ns, now_ns - world->cut_ns);
        expect(now_ns - world->cut_ns < (world->patience * FALL_NS)
                                            << torc_min_u64(world->small_lost, 8),
               "no fall though packets are swallowed", payload);
        world->cut_ns = payload <= path_both() ? 0 : world->cut_ns;
    }
}

static void world_step(uint64_t advance_ns)
{
    uint64_t since_ns = world->rig.now_ns;

    held_release();
    torc_net_step(&world->net, advance_ns);
    world_plant();
    world_look(since_ns);
}

// ---- Operations

static uint32_t value_bytes(uint64_t number)
{
    // The last piece of one piece size is as long as the pieces of another.
    static const uint32_t from[] = {8952, 8864, 4048, 1472};
    static const uint32_t to[] = {4048, 1448, 1200};
    uint32_t head = number % 2 == 0 ? 168 : 88;

    switch (number % 8) {
    case 0:
    case 1:
    case 2: return (uint32_t)(number % 200);
    case 3: return 1000 + (uint32_t)(number % 9000);
    case 4: return (uint32_t)(number * 977 % VALUE_MAX);
    default:
        return (uint32_t)torc_min_u64(VALUE_MAX, (1 + number / 8 % 4) *
                                                         ((from[number / 16 % 4] - head) & ~7u) +
                                                     ((to[number / 64 % 3] - head) & ~7u));
    }
}

static bool value_is(uint64_t number, const void *data, uint64_t bytes)
{
    return number != 0 && bytes == value_bytes(number) &&
           torc_test_value_is(data, number, (uint32_t)bytes);
}

// In which an operation ends: a fall that came late makes it late too.
static uint64_t ends_ns(void)
{
    return world->patience * ENDS_NS << torc_min_u64(world->most_lost, DOUBLED);
}

static bool op_start(uint64_t key, bool is_get)
{
    struct cell *cell = &world->cells[key];
    struct torc_engine *engine = world->net.clients[0];
    struct torc_engine_write write = {.key = key, .data = world->value, .user_data = key};

    cell->is_get = is_get;
    cell->since_ns = world->rig.now_ns;
    if (is_get) {
        cell->busy = torc_engine_get(engine, key, NULL, key, NULL) == TORC_ERR_OK;
        return cell->busy;
    }
    cell->asked = ++world->last_number;
    write.bytes = value_bytes(cell->asked);
    torc_test_value(world->value, cell->asked, (uint32_t)write.bytes);
    cell->busy = torc_engine_write(engine, &write, NULL) == TORC_ERR_OK;
    return cell->busy;
}

static void op_done(const struct torc_completion *done)
{
    struct cell *cell = &world->cells[done->user_data];

    expect(cell->busy, "a completion came twice", done->user_data);
    cell->busy = false;
    expect(world->rig.now_ns - cell->since_ns < ends_ns(), "an operation took too long",
           world->rig.now_ns - cell->since_ns);
    if (!cell->is_get) {
        expect(done->status == TORC_ERR_OK, torc_err_name(done->status), done->user_data);
        cell->number = cell->asked;
    } else if (cell->number == 0) {
        expect(done->status == TORC_ERR_NOT_FOUND, torc_err_name(done->status), done->user_data);
    } else {
        expect(done->status == TORC_ERR_OK, torc_err_name(done->status), done->user_data);
        expect(value_is(cell->number, done->data, done->bytes), "another value", done->bytes);
    }
}

static void ops_poll(void)
{
    struct torc_completion done[POLL_MAX];
    uint32_t count = torc_engine_poll(world->net.clients[0], done, POLL_MAX);

    for (uint32_t i = 0; i < count; i++) {
        op_done(&done[i]);
    }
}

// `window` at a time, until `until_ns`; gets_ppm of them are gets.
static void ops_run(uint32_t window, uint32_t gets_ppm, uint64_t until_ns)
{
    struct torc_engine *engine = world->net.clients[0];

    while (world->faults == 0 &&
           (world->rig.now_ns < until_ns || torc_engine_pending(engine) > 0)) {
        uint64_t key = torc_rng_below(&world->rng, KEYS);

        for (uint32_t i = 0; i < 4 && world->rig.now_ns < until_ns; i++) {
            key = (key + 1) % KEYS;
            if (torc_engine_pending(engine) < window && !world->cells[key].busy) {
                (void)op_start(key, torc_rng_chance(&world->rng, gets_ppm)); // LIMIT: later
            }
        }
        world_step(STEP_NS);
        ops_poll();
        expect(world->rig.now_ns < until_ns + ends_ns(), "operations do not end", window);
    }
}

static void page_check(const struct torc_completion *page)
{
    uint64_t key = 0;

    expect(page->status == TORC_ERR_OK, torc_err_name(page->status), 0);
    for (uint64_t i = 0; i < page->count && world->faults == 0; i++, key++) {
        while (key < KEYS && world->cells[key].number == 0) {
            key++;
        }
        expect(key < KEYS && page->rows[i].key == key, "a range has another key", key);
        expect(world->faults > 0 ||
                   value_is(world->cells[key].number, page->rows[i].data, page->rows[i].bytes),
               "a range has another value", key);
    }
}

// Nothing else is in flight.
static void range_run(uint64_t until_ns)
{
    struct torc_engine_range range = {.hi = KEYS, .options = {.bytes = 1u << 21}};
    struct torc_completion page;

    while (world->faults == 0 && world->rig.now_ns < until_ns) {
        uint64_t since_ns = world->rig.now_ns;

        CU_ASSERT_EQUAL_FATAL(torc_engine_range(world->net.clients[0], &range, NULL), TORC_ERR_OK);
        do {
            world_step(STEP_NS);
            expect(world->rig.now_ns - since_ns < ends_ns(), "a range does not end", 0);
        } while (world->faults == 0 && torc_engine_poll(world->net.clients[0], &page, 1) == 0);
        if (world->faults == 0) {
            page_check(&page);
        }
    }
}

// Nothing is in flight before and after.
static void traffic(uint64_t until_ns)
{
    world->most_lost = world->cut_ns != 0 ? world->small_lost : 0;
    switch (torc_rng_below(&world->rng, 5)) {
    case 0: ops_run(1, 1000000, until_ns); return; // gets, one at a time
    case 1: ops_run(1, 0, until_ns); return;       // puts, one at a time
    case 2: range_run(until_ns); return;
    case 3: ops_run(FLIGHT, 950000, until_ns); return;
    default: ops_run(8, 500000, until_ns); return;
    }
}

// ---- Tests

static uint32_t changes_wanted(void)
{
    const char *text = getenv("TORC_PATH_CHANGES"); // NOLINT(concurrency-mt-unsafe): one thread

    return text == NULL ? CHANGES : (uint32_t)strtoul(text, NULL, 10);
}

static void changes(enum plant plant, uint32_t loss_ppm, uint32_t count)
{
    world_open(plant);
    world_faults(loss_ppm);
    for (uint32_t i = 0; i < count && world->faults == 0; i++) {
        uint64_t each_ns = torc_rng_chance(&world->rng, 300000) ? 10000000 : 80000000;

        if (torc_rng_chance(&world->rng, 600000)) {
            path_widen();
        }
        traffic(world->rig.now_ns + torc_rng_below(&world->rng, each_ns));
        path_change();
        traffic(world->rig.now_ns + torc_rng_below(&world->rng, each_ns));
    }
    if (plant == PLANT_NONE) {
        (void)printf("    %" PRIu64 " falls, the slowest %" PRIu64
                     " ms after the first packet lost\n",
                     world->falls, world->slowest_fall_ns / 1000000);
        CU_ASSERT(world->falls > 0 || count < CHANGES);
        CU_ASSERT(world->probes > 0);
        CU_ASSERT(world->large > 0);
    }
}

static void test_changes(void)
{
    changes(PLANT_NONE, 0, changes_wanted());
    world_close();
}

static void test_changes_lossy(void)
{
    changes(PLANT_NONE, 20000, changes_wanted());
    world_close();
}

// A get now and then; the clock runs in large steps while nothing flies.
static void use_lightly(uint64_t ns)
{
    uint64_t until_ns = world->rig.now_ns + ns;

    while (world->faults == 0 && world->rig.now_ns < until_ns) {
        (void)op_start(torc_rng_below(&world->rng, KEYS), true);
        while (world->faults == 0 && torc_engine_pending(world->net.clients[0]) > 0) {
            world_step(STEP_NS);
            ops_poll();
        }
        for (uint32_t i = 0; i < 20; i++) {
            world_step(5000000);
        }
    }
}

static uint32_t best_size(void)
{
    static const uint32_t sizes[] = {LARGEST, 8928, 8864, 4048, 1472, 1448, 1416, 1368};

    for (uint32_t i = 0; i < TORC_COUNT_OF(sizes); i++) {
        if (sizes[i] <= path_both()) {
            return sizes[i];
        }
    }
    return BASE;
}

// A narrow path, for long; then a wider one.
static void growth(enum plant plant)
{
    uint64_t probes;

    world_open(plant);
    path_set(BASE, LARGEST);
    use_lightly(3 * GROW_NS);
    expect(world->payload == BASE, "the path is narrow", world->payload);
    probes = world->probes;
    use_lightly(NS_PER_S * 60);
    (void)printf("    %" PRIu64 " probes a minute on a narrow path\n", world->probes - probes);
    expect(world->probes - probes <= PROBES_QUIET, "too many probes", world->probes - probes);
    path_change();
    use_lightly(GROW_NS);
    expect(world->payload == best_size(), "what passes is not used", best_size());
    path_set(LARGEST, LARGEST);
    use_lightly(GROW_NS);
    expect(world->payload == LARGEST, "jumbo passes and is not used", world->payload);
    world->large = 0;
    ops_run(FLIGHT, 500000, world->rig.now_ns + 20000000);
    expect(world->large > 0, "batches are not large", 0);
}

static void test_growth(void)
{
    growth(PLANT_NONE);
    world_close();
}

// The node comes back with a smaller interface: what it publishes holds at once.
static void test_other_life(void)
{
    world_open(PLANT_NONE);
    ops_run(8, 500000, world->rig.now_ns + 20000000);
    CU_ASSERT_EQUAL(world->payload, LARGEST);
    torc_rig_crash(&world->rig);
    world->rig.config.mtu = MTU_OTHER;
    world->rig.port.mtu = MTU_OTHER;
    torc_rig_recover(&world->rig);
    ops_run(8, 500000, world->rig.now_ns + 20000000);
    CU_ASSERT_EQUAL(world->payload, LARGEST_OTHER);
    world_close();
}

// A loss within the pause that follows a check: its check is made when the pause is over, though no
// time-out falls due then. (Answers that came late had made the client patient.)
static void test_check_put_off(void)
{
    struct torc_engine_write write = {.key = 1, .bytes = 4000};
    struct torc_client_node *node;
    uint64_t probes;

    world_open(PLANT_NONE);
    write.data = world->value;
    ops_run(8, 500000, world->rig.now_ns + 20000000);
    node = node_of_client();
    CU_ASSERT_EQUAL_FATAL(world->payload, LARGEST);
    node->mtu.check_ns = world->rig.now_ns + 100000000;
    probes = world->probes;
    path_set(BASE, BASE);
    torc_test_value(world->value, 1, 4000);
    CU_ASSERT_EQUAL_FATAL(torc_engine_write(world->net.clients[0], &write, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 500; i++) { // 10 ms: the loss is noticed
        world_step(STEP_NS);
    }
    CU_ASSERT_EQUAL(world->probes, probes);
    for (uint32_t i = 0; i < node->cores; i++) {
        node->paths[i].write_var_ns = NS_PER_S;
    }
    for (uint32_t i = 0; i < 7000; i++) {
        world_step(STEP_NS);
    }
    CU_ASSERT(world->probes > probes);
    world_close();
}

// Reads that have begun go before others, and fill the window; the probe does not wait for them.
static void test_probe_first(void)
{
    struct torc_engine *engine;
    struct torc_client_node *node;
    uint64_t probes;
    uint32_t reads = 0;

    world_open(PLANT_NONE);
    ops_run(8, 500000, world->rig.now_ns + 20000000);
    CU_ASSERT_EQUAL_FATAL(world->payload, LARGEST);
    engine = world->net.clients[0];
    node = node_of_client();
    node->window = 1u << TORC_WINDOW_SHIFT;
    path_set(0, LARGEST);
    for (uint64_t key = 0; key < KEYS; key++) {
        CU_ASSERT_TRUE_FATAL(op_start(key, true));
    }
    world_step(STEP_NS);
    CU_ASSERT(!torc_node_may_send(engine, node));
    node->mtu.check_ns = 0;
    torc_mtu_suspect(engine, node);
    for (uint32_t i = 0; i < engine->config.operations; i++) {
        if (engine->ops[i].state == TORC_OP_QUEUED && engine->ops[i].core == 0) {
            torc_op_queue(engine, i, true);
            reads++;
        }
    }
    CU_ASSERT(reads > 0);
    probes = world->probes;
    world_step(STEP_NS);
    CU_ASSERT_EQUAL(world->probes, probes + 1);
    world_close();
}

// ---- Pieces of another size

// The last piece at the large size is as long as each at the small one. It is held back, and comes
// in place of the second piece at the small size.
enum {
    PUT_OVERHEAD = 168,
    PULL_OVERHEAD = 88
};

static bool swap_pieces(struct torc_net *net, struct torc_net_packet *packet, uint8_t *bytes)
{
    struct held *held = &world->held[0];
    const uint8_t *op = bytes + TORC_DATA_HEAD_BYTES;
    bool is_piece = op[0] == 0x88 ? op[16] == 1 : op[0] == 0x09 && op[12] == 1;
    bool narrow = path_both() == BASE;

    if (bytes[1] != 0x19 || is_ping(packet, bytes) || !is_piece) {
        return packet->byte_count <= world->path[packet->to_node ? 1 : 0];
    }
    if (world->held_count == 0 && !narrow) {
        held->packet = *packet;
        memcpy(held->bytes, bytes, packet->byte_count);
        world->held_count = 1;
        path_set(BASE, BASE);
        return false;
    }
    if (world->held_count == 1 && node_of_client()->payload == BASE) {
        torc_net_inject(net, &held->packet, held->bytes);
        world->held_count = 2; // never again
        return false;
    }
    return world->held_count == 2;
}

static void swap_value(bool is_get)
{
    uint32_t overhead = is_get ? PULL_OVERHEAD : PUT_OVERHEAD;
    uint32_t bytes = ((LARGEST - overhead) & ~7u) + ((BASE - overhead) & ~7u);
    struct torc_engine_write write = {.key = 1, .data = world->value, .bytes = bytes};
    struct torc_completion done;

    torc_test_value(world->value, 1, bytes);
    world->net.tamper = is_get ? on_the_way : swap_pieces;
    CU_ASSERT_EQUAL_FATAL(torc_engine_write(world->net.clients[0], &write, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 2; i++) {
        do {
            torc_net_step(&world->net, STEP_NS);
        } while (torc_engine_poll(world->net.clients[0], &done, 1) == 0);
        CU_ASSERT_EQUAL_FATAL(done.status, TORC_ERR_OK);
        world->net.tamper = swap_pieces;
        if (i == 0) {
            CU_ASSERT_EQUAL_FATAL(torc_engine_get(world->net.clients[0], 1, NULL, 0, NULL),
                                  TORC_ERR_OK);
        }
    }
    CU_ASSERT_EQUAL(world->held_count, 2);
    CU_ASSERT_EQUAL_FATAL(done.bytes, bytes);
    CU_ASSERT_TRUE(torc_test_value_is(done.data, 1, bytes));
}

static void test_late_pieces(void)
{
    for (uint32_t is_get = 0; is_get < 2; is_get++) {
        world_open(PLANT_NONE);
        ops_run(8, 500000, world->rig.now_ns + 5000000);
        CU_ASSERT_EQUAL_FATAL(world->payload, LARGEST);
        swap_value(is_get == 1);
        world_close();
    }
}

static void test_planted(void)
{
    static const enum plant plants[] = {PLANT_DEAF, PLANT_BOLD, PLANT_CONTENT, PLANT_EAGER};

    for (uint32_t i = 0; i < TORC_COUNT_OF(plants); i++) {
        if (plants[i] == PLANT_DEAF || plants[i] == PLANT_BOLD) {
            changes(plants[i], 0, CHANGES);
        } else {
            growth(plants[i]);
        }
        CU_ASSERT(world->faults > 0);
        world_close();
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"the path changes under traffic: all is well", test_changes},
                           {"and packets are lost, doubled, late", test_changes_lossy},
                           {"a path that grows is used, with few probes", test_growth},
                           {"another life of the node, with smaller packets", test_other_life},
                           {"a check that was put off is made", test_check_put_off},
                           {"a probe goes before reads that wait", test_probe_first},
                           {"late pieces of another size are nobody's", test_late_pieces},
                           {"clients with planted faults are found out", test_planted},
                           CU_TEST_INFO_NULL};

    return torc_test_run("path model", tests);
}
