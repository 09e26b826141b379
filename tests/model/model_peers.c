// Torc tests: sessions between nodes under loss, repetition, damage, restarts and changed keys.
//
// Two or three nodes of one to four workers each (peers_world.h) send each other numbered messages,
// records and pieces. What arrives must be what was sent, at most once, at the worker it was sent
// to, from the worker that sent it; when the network is good again all workers have lanes to each
// other's present lives, and everything arrives. Planted faults (no replay window; a wrong sender)
// must be found.
#include "dataplane/peers_impl.h"
#include "tests/model/peers_world.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    SENT_MAX = 20000,
    VALUE_MAX = 20000,
    LONG_BYTES = 100000 // 75 packets
};

#define MS UINT64_C(1000000)

enum sent_kind {
    SENT_MESSAGE,
    SENT_RECORD,
    SENT_PIECE
};

struct sent {
    enum sent_kind kind;
    uint32_t from;
    uint32_t from_core;
    uint32_t to;
    uint32_t to_core;
    uint64_t boot;    // of the sender
    uint64_t to_boot; // that the sender had a session with
    uint32_t arrived;
    uint32_t bytes;
};

static struct world *world;
static struct sent sent[SENT_MAX];
static uint32_t sent_count;
static uint32_t faults; // found
static unsigned char value[VALUE_MAX];

static uint32_t below(uint64_t bound)
{
    return (uint32_t)torc_rng_below(&world->rng, bound);
}

// -- What arrives --------------------------------------------------------------------------------

static void arrived(const struct world_delivery *delivery, uint64_t id, enum sent_kind kind)
{
    struct sent *what = &sent[id % SENT_MAX];

    if (id >= sent_count || what->kind != kind || what->from != delivery->from.node ||
        what->to != delivery->node || what->to_core != delivery->core ||
        what->from_core != delivery->from.core || what->boot != delivery->from.boot) {
        faults++;
        return;
    }
    // E2. The rest of a ship that waited for room may go to the next life.
    faults += kind == SENT_MESSAGE && what->to_boot != world->nodes[delivery->node].boot ? 1 : 0;
    what->arrived++;
    faults += what->arrived > 1 ? 1 : 0;
}

static void take_records(const struct world_delivery *delivery)
{
    struct torc_peer_record record;

    while (torc_peer_record_next(&delivery->op->records, &record)) {
        arrived(delivery, record.key, SENT_RECORD);
        faults += record.value_bytes != sent[record.key % SENT_MAX].bytes ||
                          !torc_test_value_is(record.value, record.key, record.value_bytes)
                      ? 1
                      : 0;
    }
}

static void deliver(void *context, const struct world_delivery *delivery)
{
    const struct torc_peer_op *op = delivery->op;

    (void)context;
    if (op->opcode == TORC_PEER_OP_ACK) {
        arrived(delivery, op->message.ack.copy, SENT_MESSAGE);
        faults += op->message.ack.received_lsn != op->message.ack.copy + 7 ? 1 : 0;
    } else if (op->opcode == TORC_PEER_OP_APPEND) {
        take_records(delivery);
    } else if (op->opcode == TORC_PEER_OP_SNAP) {
        arrived(delivery, op->message.snap.stream, SENT_PIECE);
        faults += op->cargo.byte_count != sent[op->message.snap.stream % SENT_MAX].bytes ||
                          op->cargo.byte_count != op->cargo.total_bytes ||
                          !torc_test_value_is(op->cargo.bytes, op->message.snap.stream,
                                              op->cargo.byte_count)
                      ? 1
                      : 0;
    } else {
        faults++;
    }
}

// -- What is sent --------------------------------------------------------------------------------

// Notes one more thing sent by a worker; its number.
static uint32_t note(enum sent_kind kind, uint32_t from, uint32_t core, struct torc_peer_to to,
                     uint32_t bytes)
{
    const struct torc_peers *peers = world->nodes[from].peers[core];
    uint32_t cores = torc_peers_cores(peers, to.node);

    torc_assert(sent_count < SENT_MAX);
    sent[sent_count] = (struct sent){.kind = kind,
                                     .from = from,
                                     .from_core = core,
                                     .to = to.node,
                                     .to_core = to.core < cores ? to.core : 0,
                                     .boot = world->nodes[from].boot,
                                     .to_boot = torc_peers_boot(peers, to.node),
                                     .bytes = bytes};
    return sent_count++;
}

static bool send_message(uint32_t from, uint32_t core, struct torc_peer_to to)
{
    uint32_t id = note(SENT_MESSAGE, from, core, to, 0);
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_ACK};

    op.message = (struct torc_peer_message){.kind = TORC_PEER_ACK, .shard = id};
    op.message.ack = (struct torc_peer_ack){.copy = id, .received_lsn = id + 7};
    return torc_peers_send(world->nodes[from].peers[core], to, &op);
}

// `count` records of up to `bytes` each; a step passes whenever there is no room.
static void ship(uint32_t from, uint32_t core, struct torc_peer_to to, uint32_t count,
                 uint32_t bytes)
{
    struct torc_peers *peers = world->nodes[from].peers[core];
    struct torc_peer_message message = {.kind = TORC_PEER_APPEND, .shard = from};
    struct torc_peers_ship ship;

    torc_peers_ship_begin(peers, &ship, to, &message);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = below(bytes + 1ull);
        uint32_t id = note(SENT_RECORD, from, core, to, size);
        struct torc_peer_record record = {.kind = TORC_PEER_RECORD_PUT,
                                          .with_client = below(2) == 0,
                                          .shard = from,
                                          .epoch = 1 + i / 20, // several operations
                                          .lsn = 100 + i,
                                          .hlc = 1000 + id,
                                          .key = id,
                                          .value_bytes = size,
                                          .value = value};
        uint32_t done = 0;

        torc_test_value(value, id, size);
        while (!torc_peers_ship_record(peers, &ship, &record, &done)) {
            torc_peers_ship_end(peers, &ship);
            world_run(world, MS);
            torc_peers_ship_begin(peers, &ship, to, &message);
        }
    }
    torc_peers_ship_end(peers, &ship);
}

static void ship_piece(uint32_t from, uint32_t core, struct torc_peer_to to, uint32_t bytes)
{
    struct torc_peers *peers = world->nodes[from].peers[core];
    uint32_t id = note(SENT_PIECE, from, core, to, bytes);
    struct torc_peer_message message = {.kind = TORC_PEER_SNAP, .shard = from};
    struct torc_peer_cargo cargo = {.bytes = value, .total_bytes = bytes};
    uint32_t done = 0;

    message.snap = (struct torc_peer_snap){.kind = TORC_SNAP_PIECE, .stream = id, .piece = 3};
    torc_test_value(value, id, bytes);
    while (!torc_peers_ship_piece(peers, to, &message, &cargo, &done)) {
        world_run(world, MS);
    }
}

static void send_something(uint32_t from, struct torc_peer_to to)
{
    uint32_t core = below(world->nodes[from].cores);

    switch (below(8)) {
    case 0: ship(from, core, to, 1 + below(80), 60); return;
    case 1: ship(from, core, to, 1 + below(3), VALUE_MAX); return;
    case 2: ship_piece(from, core, to, 1 + below(VALUE_MAX)); return;
    default: (void)send_message(from, core, to); return;
    }
}

static void send_round(uint32_t things)
{
    for (uint32_t i = 0; i < things; i++) {
        uint32_t from = below(world->config.nodes);
        struct torc_peer_to to = {.node = below(world->config.nodes), .core = below(WORLD_CORES)};

        if (to.node != from && !world->nodes[from].down) {
            send_something(from, to);
        }
        world_run(world, below(2 * MS));
    }
}

// -- Runs ----------------------------------------------------------------------------------------

static void open_world(struct world_config config)
{
    world = calloc(1, sizeof(*world));
    torc_assert(world != NULL);
    sent_count = 0;
    faults = 0;
    world_open(world, &config);
    world->deliver = deliver;
}

static void close_world(void)
{
    world_close(world);
    free(world);
}

static void send_to_all(uint32_t from, uint32_t core)
{
    for (uint32_t to = 0; to < world->config.nodes * WORLD_CORES; to++) {
        if (to / WORLD_CORES != from) {
            CU_ASSERT(send_message(from, core,
                                   (struct torc_peer_to){to / WORLD_CORES, to % WORLD_CORES}));
        }
    }
}

// From every worker to every worker, over a network without faults: all of it arrives.
static void check_all_arrives(void)
{
    uint32_t first = sent_count;

    world->faults.lost = world->faults.spoiled = 0;
    for (uint32_t i = 0; i < 60 && !world_is_joined(world); i++) {
        world_run(world, 100 * MS);
    }
    CU_ASSERT(world_is_joined(world));
    world_run(world, 20 * MS); // places for parts whose rest was lost are free again
    for (uint32_t from = 0; from < world->config.nodes; from++) {
        for (uint32_t core = 0; core < world->nodes[from].cores; core++) {
            send_to_all(from, core);
        }
        ship(from, 0, (struct torc_peer_to){(from + 1) % world->config.nodes, 0}, 40, 50);
        ship(from, 0, (struct torc_peer_to){(from + 1) % world->config.nodes, 0}, 1, VALUE_MAX);
    }
    world_run(world, 20 * MS);
    for (uint32_t i = first; i < sent_count; i++) {
        CU_ASSERT_EQUAL_FATAL(sent[i].arrived, 1);
    }
}

static void check_nothing_is_wrong(void)
{
    CU_ASSERT_EQUAL(faults, 0);
    CU_ASSERT_EQUAL(world->wrong, 0);
    if (world->wrong > 0) {
        (void)printf("%s\n", world->why);
    }
}

static void run(struct world_config config)
{
    open_world(config);
    check_all_arrives();
    world->faults = (struct world_faults){
        .lost = 100000, .twice = 100000, .spoiled = 50000, .carries = WORLD_PAYLOAD};
    send_round(30);
    world_stop(world, 1);
    send_round(10);
    world_start(world, 1);
    send_round(15);
    world_change_secret(world);
    send_round(15);
    check_all_arrives();
    check_nothing_is_wrong();
    close_world();
}

static void test_sealed_nodes_find_each_other(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        run((struct world_config){.seed = torc_test_seed() + i, .nodes = 2 + i % 2});
    }
}

static void test_clear_nodes_find_each_other(void)
{
    run((struct world_config){.seed = torc_test_seed() + 10, .nodes = 3, .clear = true});
}

static void test_a_restart_is_noticed_by_its_own_packets(void)
{
    uint64_t from_ns;

    open_world((struct world_config){.seed = torc_test_seed() + 20, .nodes = 2});
    check_all_arrives();
    world_stop(world, 1);
    world_run(world, 3000 * MS); // node 0 has nothing to say, and does not know
    world_start(world, 1);
    from_ns = world->now_ns;
    while (!world_is_joined(world) && world->now_ns < from_ns + 3000 * MS) {
        // The node that comes back beats.
        (void)send_message(1, 0, (struct torc_peer_to){0, 0});
        world_run(world, 5 * MS);
    }
    CU_ASSERT(world_is_joined(world));
    CU_ASSERT(world->now_ns < from_ns + 100 * MS);
    check_nothing_is_wrong();
    close_world();
}

// Node 1 gives the index of node 0's lost session to node 2 first, so nobody tells node 0.
static void test_a_restart_is_noticed_though_nobody_says_so(void)
{
    open_world((struct world_config){
        .seed = torc_test_seed() + 25, .nodes = 3, .clear = true, .same_index = true});
    check_all_arrives();
    for (uint32_t i = 0; i < 5; i++) {
        world_stop(world, 1);
        world_run(world, below(200 * MS));
        world_start(world, 1);
        world_run(world, 4000 * MS);
        CU_ASSERT(world_is_joined(world));
    }
    check_nothing_is_wrong();
    close_world();
}

// Whoever goes on sending to a node that is away has messages queued in the turn that takes its
// next session: for cores that it may have no more.
static void test_a_restart_with_fewer_cores_is_survived(void)
{
    open_world((struct world_config){.seed = torc_test_seed() + 27, .nodes = 3});
    check_all_arrives();
    for (uint32_t cores = WORLD_CORES; cores > 0; cores--) {
        world_stop(world, 1);
        world->nodes[1].cores = cores;
        world_start(world, 1);
        for (uint32_t i = 0; i < 1000; i++) {
            uint32_t from = below(2) * 2;
            struct torc_peer_to to = {.node = 1, .core = below(WORLD_CORES)};

            (void)send_message(from, below(world->nodes[from].cores), to);
            if (i % 50 == 0) { // the node that comes back beats
                (void)send_message(1, 0, (struct torc_peer_to){0, 0});
                (void)send_message(1, 0, (struct torc_peer_to){2, 0});
            }
            world_run(world, WORLD_STEP_NS);
        }
        CU_ASSERT(world_is_joined(world));
    }
    check_all_arrives();
    check_nothing_is_wrong();
    close_world();
}

static void test_sessions_are_renewed_and_kept_alive(void)
{
    uint64_t sessions;

    open_world((struct world_config){.seed = torc_test_seed() + 30, .nodes = 2});
    check_all_arrives();
    sessions = torc_peers_counters(world->nodes[0].peers[0])->sessions;
    CU_ASSERT_EQUAL(sessions, 1);
    world->step_ns = 2 * MS;
    for (uint32_t i = 0; i < 120; i++) { // an age is 60 s
        world_run(world, 1000 * MS);
        CU_ASSERT(world_is_joined(world));
    }
    world->step_ns = WORLD_STEP_NS;
    check_all_arrives();
    sessions = torc_peers_counters(world->nodes[0].peers[0])->sessions;
    CU_ASSERT(sessions >= 2 && sessions <= 5);
    for (uint32_t core = 0; core < world->nodes[0].cores; core++) {
        CU_ASSERT_EQUAL(torc_peers_counters(world->nodes[0].peers[core])->lost, 0);
    }
    check_nothing_is_wrong();
    close_world();
}

// A lane's packets are counted, and its session is followed by the next long before its numbers
// end; when nobody answers handshakes until they end, the lane does.
static void test_worn_sessions_are_followed_by_others(void)
{
    struct torc_peers *peers;
    struct torc_lane *lane;
    uint32_t core;

    open_world((struct world_config){.seed = torc_test_seed() + 35, .nodes = 2});
    check_all_arrives();
    world_run(world, 1000 * MS); // no hint begins a handshake before
    core = below(world->nodes[0].cores);
    peers = world->nodes[0].peers[core];
    lane = &peers->peers[torc_peers_find(peers, 1)].lane;
    lane->sent = (UINT64_C(1) << 28) - 2;
    for (uint32_t i = 0; i < 3; i++) {
        CU_ASSERT(send_message(0, core, (struct torc_peer_to){1, 0}));
        world_run(world, 20 * MS);
    }
    CU_ASSERT_EQUAL(torc_peers_counters(peers)->worn, 1);
    CU_ASSERT_EQUAL(torc_peers_counters(world->nodes[0].peers[0])->sessions, 2);
    CU_ASSERT(lane->sent < 100);
    check_all_arrives();
    world_stop(world, 1);
    lane->seq[0] = TORC_DATA_SEQ_END - 4;
    for (uint32_t i = 0; i < 10; i++) {
        (void)send_message(0, core, (struct torc_peer_to){1, 0});
        world_run(world, WORLD_STEP_NS);
    }
    CU_ASSERT_EQUAL(torc_peers_boot(peers, 1), 0);
    world_start(world, 1);
    check_all_arrives();
    check_nothing_is_wrong();
    close_world();
}

static void test_packets_are_as_large_as_the_path_carries(void)
{
    uint32_t first;

    open_world((struct world_config){.seed = torc_test_seed() + 40, .nodes = 2});
    world->faults.carries = 1300;
    check_all_arrives();
    world_run(world, 2000 * MS);
    check_all_arrives(); // nothing larger than it carries
    world->faults.carries = WORLD_PAYLOAD;
    world->step_ns = 2 * MS;
    world_run(world, 40000 * MS);
    world->step_ns = WORLD_STEP_NS;
    first = (uint32_t)torc_peers_counters(world->nodes[0].peers[0])->packets;
    ship(0, 0, (struct torc_peer_to){1, 0}, 1, 0);
    ship_piece(0, 0, (struct torc_peer_to){1, 0}, 13 * (WORLD_PAYLOAD - 128));
    world_run(world, MS / 2);
    CU_ASSERT(torc_peers_counters(world->nodes[0].peers[0])->packets - first <= 16);
    world->faults.carries = 1300; // and narrower again
    world_run(world, 3000 * MS);
    check_all_arrives();
    check_nothing_is_wrong();
    close_world();
}

static void test_small_messages_find_room_beside_ships(void)
{
    struct torc_peer_message message = {.kind = TORC_PEER_APPEND};
    struct torc_peer_record record = {.kind = TORC_PEER_RECORD_PUT,
                                      .epoch = 1,
                                      .hlc = 1,
                                      .value = value,
                                      .value_bytes = VALUE_MAX};
    struct torc_peers_ship ship_all;
    struct torc_peers *peers;
    uint32_t done = 0;
    bool full = false;

    open_world((struct world_config){.seed = torc_test_seed() + 50, .nodes = 2});
    check_all_arrives();
    peers = world->nodes[0].peers[0];
    for (uint64_t lsn = 1; lsn < 100 && !full; lsn++) {
        record.lsn = record.hlc = lsn;
        done = 0;
        torc_peers_ship_begin(peers, &ship_all, (struct torc_peer_to){1, 0}, &message);
        full = !torc_peers_ship_record(peers, &ship_all, &record, &done);
        torc_peers_ship_end(peers, &ship_all);
    }
    CU_ASSERT(full);
    for (uint32_t core = 0; core < 3 * WORLD_CORES; core++) {
        CU_ASSERT(send_message(0, 0, (struct torc_peer_to){1, core % WORLD_CORES})); // E3
    }
    CU_ASSERT_EQUAL(torc_peers_counters(peers)->crowded, 0);
    close_world();
}

// One worker's long values, each sent again every 5 ms until it is there, as a primary does.
struct long_lane {
    uint32_t from;
    uint32_t core;
    uint32_t id;
    uint32_t done; // bytes that were put into packets
    uint64_t put_ns;
    uint32_t arrived; // values
};

static void long_step(struct long_lane *lane)
{
    static unsigned char long_value[LONG_BYTES];
    struct torc_peers *peers = world->nodes[lane->from].peers[lane->core];
    struct torc_peer_to to = {.node = 1};
    struct torc_peer_message message = {.kind = TORC_PEER_APPEND, .shard = lane->core};
    struct torc_peer_record record = {.kind = TORC_PEER_RECORD_PUT,
                                      .shard = lane->core,
                                      .epoch = 1,
                                      .lsn = 1 + lane->arrived,
                                      .value_bytes = LONG_BYTES,
                                      .value = long_value};
    struct torc_peers_ship ship;

    if (sent[lane->id].arrived > 0) {
        lane->arrived++;
        lane->done = 0;
        lane->id = note(SENT_RECORD, lane->from, lane->core, to, LONG_BYTES);
    } else if (lane->done == LONG_BYTES && world->now_ns - lane->put_ns >= 5 * MS) {
        lane->done = 0;
    }
    if (lane->done == LONG_BYTES) {
        return;
    }
    record.key = lane->id;
    record.hlc = 1000 + lane->id;
    torc_test_value(long_value, lane->id, LONG_BYTES);
    torc_peers_ship_begin(peers, &ship, to, &message);
    if (torc_peers_ship_record(peers, &ship, &record, &lane->done)) {
        lane->put_ns = world->now_ns;
    }
    torc_peers_ship_end(peers, &ship);
}

// More workers than a core has places for have long values for it at once: none may keep the others
// from getting whole.
static void test_long_values_of_many_workers_get_whole(void)
{
    struct long_lane lanes[2 * WORLD_CORES];
    uint32_t least = UINT32_MAX;

    open_world((struct world_config){.seed = torc_test_seed() + 55, .nodes = 3});
    for (uint32_t from = 0; from < 3; from += 2) {
        world_stop(world, from);
        world->nodes[from].cores = WORLD_CORES;
        world_start(world, from);
    }
    check_all_arrives();
    world_run(world, 1000 * MS);
    for (uint32_t i = 0; i < TORC_COUNT_OF(lanes); i++) {
        lanes[i] = (struct long_lane){.from = i % 2 * 2, .core = i / 2};
        lanes[i].id = note(SENT_RECORD, lanes[i].from, lanes[i].core, (struct torc_peer_to){1, 0},
                           LONG_BYTES);
    }
    for (uint32_t step = 0; step < 3000; step++) {
        for (uint32_t i = 0; i < TORC_COUNT_OF(lanes); i++) {
            long_step(&lanes[i]);
        }
        world_run(world, WORLD_STEP_NS);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(lanes); i++) {
        least = (uint32_t)torc_min_u64(least, lanes[i].arrived);
    }
    CU_ASSERT(least >= 10); // of 60 that fit into the time
    check_nothing_is_wrong();
    close_world();
}

static void test_what_is_longer_than_allowed_is_not_kept(void)
{
    static unsigned char cargo_bytes[WORLD_CARGO + 8];
    struct torc_peer_message message = {.kind = TORC_PEER_SNAP};
    struct torc_peer_cargo cargo = {.bytes = cargo_bytes, .total_bytes = sizeof(cargo_bytes)};
    uint64_t too_long = 0;
    uint32_t done = 0;

    open_world((struct world_config){.seed = torc_test_seed() + 60, .nodes = 2});
    check_all_arrives();
    message.snap = (struct torc_peer_snap){.kind = TORC_SNAP_PIECE, .stream = 1};
    while (!torc_peers_ship_piece(world->nodes[0].peers[0], (struct torc_peer_to){1, 0}, &message,
                                  &cargo, &done)) {
        world_run(world, MS);
    }
    world_run(world, 10 * MS);
    too_long = torc_peers_counters(world->nodes[1].peers[0])->too_long;
    CU_ASSERT(too_long > 100);
    check_nothing_is_wrong();
    close_world();
}

static void test_planted_faults_are_found(void)
{
    open_world((struct world_config){.seed = torc_test_seed() + 70, .nodes = 2, .no_window = true});
    world->faults.twice = 500000;
    world_run(world, 500 * MS);
    send_round(60);
    CU_ASSERT(faults > 0);
    close_world();
    open_world((struct world_config){.seed = 4, .nodes = 3, .first_core = true});
    world_run(world, 500 * MS);
    for (uint32_t from = 0; from < 3; from++) {
        (void)send_message(from, world->nodes[from].cores - 1,
                           (struct torc_peer_to){(from + 1) % 3, 0});
    }
    world_run(world, 10 * MS);
    CU_ASSERT(faults > 0);
    close_world();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"sealed nodes find each other", test_sealed_nodes_find_each_other},
        {"clear nodes find each other", test_clear_nodes_find_each_other},
        {"a restart is noticed by its own packets", test_a_restart_is_noticed_by_its_own_packets},
        {"a restart is noticed though nobody says so",
         test_a_restart_is_noticed_though_nobody_says_so},
        {"a restart with fewer cores is survived", test_a_restart_with_fewer_cores_is_survived},
        {"sessions are renewed and kept alive", test_sessions_are_renewed_and_kept_alive},
        {"worn sessions are followed by others", test_worn_sessions_are_followed_by_others},
        {"packets are as large as the path carries", test_packets_are_as_large_as_the_path_carries},
        {"small messages find room beside ships", test_small_messages_find_room_beside_ships},
        {"long values of many workers get whole", test_long_values_of_many_workers_get_whole},
        {"what is longer than allowed is not kept", test_what_is_longer_than_allowed_is_not_kept},
        {"planted faults are found", test_planted_faults_are_found},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("peers", tests);
}
