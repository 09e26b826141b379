// Torc tests: what the client's engine knows of a node, when the node is not as before.
#include "client/engine_state.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>

#define KEYS    UINT64_C(1000000)
#define STEP_NS UINT64_C(20000)

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_engine *engine;

static void open_rig(uint32_t workers, uint32_t shards)
{
    struct torc_rig_config config = {.workers = workers,
                                     .shards = shards,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed(),
                                     .steered = true,
                                     .sealed = true};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
    torc_net_open(net, rig, 1, torc_test_seed(), 64);
    engine = net->clients[0];
}

static void open_node(uint32_t workers, uint32_t shards)
{
    open_rig(workers, shards);
    torc_net_await(net);
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

// A node comes back with fewer cores: what waited for one that is gone goes to one that is there.
static void test_fewer_cores(void)
{
    struct torc_client_node *node;
    struct torc_accept accept;
    uint32_t moved = 0;

    open_node(2, 4);
    node = &engine->nodes[0];
    for (uint64_t key = 0; key < KEYS; key += KEYS / 8) {
        CU_ASSERT_EQUAL(torc_engine_get(engine, key, NULL, 0, NULL), TORC_ERR_OK);
    }
    CU_ASSERT_FATAL(node->paths[1].queues[0].count > 0);
    accept = node->limits;
    accept.cores = 1;
    accept.boot++;
    torc_node_accepted(engine, node, &accept);
    CU_ASSERT_EQUAL(node->paths[1].queues[0].count, 0);
    for (uint32_t index = 0; index < engine->op_count; index++) {
        const struct torc_op *op = &engine->ops[index];

        moved += op->kind == TORC_OP_GET && op->state == TORC_OP_QUEUED && op->core == 0 ? 1 : 0;
    }
    CU_ASSERT_EQUAL(moved, 8);
    close_node();
}

// A node was elsewhere for seconds, and everything that it answers then is late by as much. The
// client does not keep away from it for longer than the longest time-out.
static void test_late_round(void)
{
    struct torc_client_node *node;

    open_node(1, 1);
    node = &engine->nodes[0];
    for (uint32_t i = 0; i < 5000 && node->base_rtt_ns == 0; i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_FATAL(node->base_rtt_ns > 0 && node->base_rtt_ns < UINT64_C(1000000));
    engine->now_ns += UINT64_C(4000000000);
    node->window = 1u << TORC_WINDOW_SHIFT; // it was lost to silence
    for (uint32_t i = 0; i < 100 && node->pace_until_ns == 0; i++) {
        torc_path_sample(engine, node, 0, UINT64_C(4000000000), 0, false);
    }
    CU_ASSERT(node->pace_until_ns > engine->now_ns);
    CU_ASSERT(node->pace_until_ns <= engine->now_ns + UINT64_C(1000000000));
    close_node();
}

// The packet in flight that holds a write.
static const struct torc_packet *write_packet(void)
{
    for (uint32_t index = 0; index < engine->op_count; index++) {
        const struct torc_op *op = &engine->ops[index];

        if (op->kind == TORC_OP_WRITE && op->state == TORC_OP_SENT) {
            return &engine->packets[op->packet];
        }
    }
    return NULL;
}

// Who forges a packet can have the number of any packet noted as dropped unread, before anything is
// opened. Of a write the client believes it never: it would be reported as refused and executed.
static void test_unread_write(void)
{
    struct torc_engine_write write = {.key = 5, .data = (const uint8_t *)"five", .bytes = 4};
    struct torc_completion done[2];
    const struct torc_packet *packet;

    open_node(1, 1);
    rig->controls[0].disk_stuck = true;
    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 20; i++) {
        torc_net_step(net, STEP_NS);
    }
    packet = write_packet();
    torc_assert(packet != NULL);
    CU_ASSERT(packet->is_write);
    CU_ASSERT_FATAL(torc_rig_note_unread(rig, engine->nodes[0].lane.session_index, packet->seq));
    CU_ASSERT_EQUAL(torc_engine_get(engine, 7, NULL, 0, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 1000 && torc_engine_poll(engine, done, 1) == 0; i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_FALSE(torc_rig_is_untold(rig)); // it was told with the get
    CU_ASSERT_EQUAL(engine->counters.resends_refused, 0);
    CU_ASSERT_PTR_EQUAL(write_packet(), packet);
    rig->controls[0].disk_stuck = false;
    for (uint32_t i = 0; i < 5000 && torc_engine_poll(engine, done, 1) == 0; i++) {
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_EQUAL(done[0].status, TORC_ERR_OK);
    close_node();
}

// Before the first session nobody can say how many keys there are; then what is outside ends.
static void test_outside(void)
{
    struct torc_engine_write write = {.key = KEYS, .data = (const uint8_t *)"x", .bytes = 1};
    struct torc_engine_range range = {.hi = KEYS + 1};
    struct torc_completion done;
    uint32_t ended = 0;

    open_rig(1, 1);
    CU_ASSERT_EQUAL(torc_engine_get(engine, KEYS, NULL, 1, NULL), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_engine_range(engine, &range, NULL), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_engine_get(engine, KEYS - 1, NULL, 2, NULL), TORC_ERR_OK);
    for (uint64_t end_ns = rig->now_ns + UINT64_C(1000000000); rig->now_ns < end_ns;) {
        torc_net_step(net, STEP_NS);
        while (torc_engine_poll(engine, &done, 1) == 1) {
            ended++;
            CU_ASSERT_EQUAL(done.status,
                            done.user_data == 2 ? TORC_ERR_NOT_FOUND : TORC_ERR_INVALID_ARGUMENT);
        }
    }
    CU_ASSERT_EQUAL(ended, 4);
    close_node();
}

// -- A node that is no good -----------------------------------------------------------------------

#define LARGE_BYTES 3000u // a row of a range has it by reference

// As the node says that it did not take the packet.
static void refuse_packet(const struct torc_packet *refused, enum torc_err status)
{
    struct torc_client_node *node = &engine->nodes[refused->node];
    struct torc_seal seal = torc_lane_direction(&node->lane, TORC_TO_CLIENT);
    struct torc_endpoint from = {.port = node->place.base_port};
    struct torc_data data = {.type = torc_data_type(node->lane.suite),
                             .flags = TORC_DATA_FROM_RESPONDER,
                             .core = refused->core,
                             .index = node->lane.client_index,
                             .seq = 1000000,
                             .clock_us = (uint32_t)(engine->now_ns / 1000)};
    struct torc_reply reply = {.opcode = TORC_OPCODE_SHED,
                               .status = (uint8_t)status,
                               .info = refused->seq,
                               .body_bytes = TORC_SHED_BYTES};
    unsigned char body[TORC_SHED_BYTES];
    unsigned char packet[TORC_PAYLOAD_MIN];
    uint32_t bytes;

    torc_shed_body(body, &(struct torc_shed){.retry_us = 0});
    reply.body = body;
    torc_data_encode(packet, &data);
    bytes = TORC_DATA_HEAD_BYTES + torc_reply_encode(packet + TORC_DATA_HEAD_BYTES, &reply);
    torc_engine_receive(engine, &from, packet, torc_data_seal(&seal, packet, bytes));
}

// The packet in flight that reads values for rows of a page, several.
static const struct torc_packet *fetch_packet(void)
{
    for (uint32_t index = engine->config.operations; index < engine->op_count; index++) {
        const struct torc_op *op = &engine->ops[index];

        if (op->kind == TORC_OP_GET && op->state == TORC_OP_SENT &&
            engine->packets[op->packet].ops.count > 1) {
            return &engine->packets[op->packet];
        }
    }
    return NULL;
}

// The first of them that is refused ends the page, and with it the others of its packet.
static void test_refused_fetches(void)
{
    static const uint8_t value[LARGE_BYTES];
    struct torc_engine_write write = {.data = value, .bytes = sizeof(value)};
    struct torc_engine_range range = {.hi = KEYS};
    struct torc_completion done = {.count = 0};
    const struct torc_packet *packet = NULL;

    open_node(1, 1);
    for (write.key = 1; write.key < 9; write.key++) {
        CU_ASSERT_EQUAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    }
    for (uint32_t i = 0; i < 100000 && torc_engine_pending(engine) > 0; i++) {
        torc_net_step(net, STEP_NS);
        (void)torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL(torc_engine_range(engine, &range, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 100000 && packet == NULL; i++) {
        torc_net_step(net, STEP_NS / 20);
        packet = fetch_packet();
    }
    torc_assert(packet != NULL);
    refuse_packet(packet, TORC_ERR_BAD_PACKET);
    CU_ASSERT_EQUAL(torc_engine_poll(engine, &done, 1), 1);
    CU_ASSERT_EQUAL(done.status, TORC_ERR_BAD_PACKET);
    close_node();
}

// -- Another node ---------------------------------------------------------------------------------

#define DEAD_PORT 30000u

// NOLINTNEXTLINE(readability-non-const-parameter): the type is the net's
static bool is_alive(struct torc_net *whole, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)whole;
    (void)bytes;
    return !packet->to_node || packet->node_port != DEAD_PORT;
}

// A second node that never answers is known, and nothing else is known of it.
static void learn_a_dead_node(void)
{
    static const unsigned char address[16] = {[10] = 0xff, 0xff, 10, 79, 0, 99};
    const struct torc_node_entry node = {
        .node = 9, .base_port = DEAD_PORT, .cores = 1, .address_count = 1, .addresses = address};

    net->tamper = is_alive;
    torc_node_learn(engine, &node);
    CU_ASSERT_EQUAL_FATAL(engine->node_count, 2);
}

static bool get_ends(uint64_t key, uint64_t within_ns)
{
    uint64_t end_ns = engine->now_ns + within_ns;
    struct torc_completion done;
    bool ended = false;

    CU_ASSERT_EQUAL_FATAL(torc_engine_get(engine, key, NULL, key, NULL), TORC_ERR_OK);
    while (!ended && engine->now_ns < end_ns) {
        torc_net_step(net, 10 * STEP_NS);
        ended = torc_engine_poll(engine, &done, 1) > 0 && done.user_data == key;
    }
    return ended && done.status == TORC_ERR_NOT_FOUND;
}

// Only what is sent to the rig's own place arrives.
// NOLINTNEXTLINE(readability-non-const-parameter): the type is the net's
static bool is_at_its_place(struct torc_net *whole, struct torc_net_packet *packet, uint8_t *bytes)
{
    uint8_t ip[16];

    (void)bytes;
    torc_ip_map(ip, whole->rig->ipv4);
    return !packet->to_node || (packet->node_port == TORC_RIG_BASE_PORT &&
                                memcmp(packet->node_ip, ip, sizeof(ip)) == 0);
}

// As a map answer says of the rig's node: two addresses, of which the first leads nowhere.
static void learn_two_addresses(void)
{
    unsigned char addresses[32] = {0xfd, [15] = 9};
    const struct torc_node_entry entry = {.node = 1,
                                          .base_port = TORC_RIG_BASE_PORT,
                                          .cores = 1,
                                          .address_count = 2,
                                          .addresses = addresses};

    torc_ip_map(addresses + 16, rig->ipv4);
    torc_node_learn(engine, &entry);
}

// A node has come back in another place while we have a session with it. What tells of the place is
// believed as far as an answer from there goes.
static void test_moved(void)
{
    struct torc_client_node *node;
    struct torc_client_place before;

    open_node(1, 1);
    CU_ASSERT_TRUE(get_ends(4, UINT64_C(2000000000)));
    node = &engine->nodes[0];
    node->place.base_port -= 1000;
    before = node->place;
    net->tamper = is_at_its_place;
    CU_ASSERT_FALSE(get_ends(5, UINT64_C(300000000)));
    learn_two_addresses();
    CU_ASSERT_EQUAL_FATAL(engine->node_count, 1);
    CU_ASSERT_TRUE(get_ends(6, UINT64_C(4000000000)));
    CU_ASSERT_EQUAL(node->place.base_port, TORC_RIG_BASE_PORT);
    // And back, without anybody to tell of it.
    for (uint32_t i = 0; i < 1000; i++) {
        torc_net_step(net, STEP_NS); // the map that is asked for with a session has come
    }
    node->news = before;
    node->news.base_port = TORC_RIG_BASE_PORT;
    node->place.addresses[1][15] ^= 1;
    CU_ASSERT_TRUE(get_ends(7, UINT64_C(4000000000)));
    CU_ASSERT_EQUAL(node->place.count, 1);
    close_node();
}

// A place with two addresses of which the first leads nowhere from here: IPv4, where there is IPv6
// alone.
static void test_second_address(void)
{
    struct torc_client_node *node;

    open_rig(1, 1);
    node = &engine->nodes[0];
    torc_node_named(engine, node, 1);
    node->place.count = 0;
    learn_two_addresses();
    net->tamper = is_at_its_place;
    CU_ASSERT_TRUE(get_ends(5, UINT64_C(1000000000)));
    CU_ASSERT_EQUAL(node->address, 1);
    CU_ASSERT_TRUE(get_ends(6, UINT64_C(10000000)));
    close_node();
}

// The map is old: it says that a shard is on a node that is dead. Another node knows better (K3).
static void test_dead_primary(void)
{
    open_node(1, 1);
    learn_a_dead_node();
    engine->map.entries[0].version = 0;
    engine->map.entries[0].members[0].node = 9;
    CU_ASSERT_TRUE(get_ends(5, UINT64_C(2000000000))); // its deadline is later
    CU_ASSERT_EQUAL(engine->map.entries[0].members[0].node, 1);
    close_node();
}

// The only node that has the map is silent for a while, and the other one is dead: the question
// goes round, and comes to its end.
static void test_silent_node(void)
{
    open_node(1, 1);
    learn_a_dead_node();
    CU_ASSERT_TRUE(get_ends(5, UINT64_C(2000000000)));
    net->cut = true;
    CU_ASSERT_FALSE(get_ends(6, UINT64_C(300000000)));
    net->cut = false;
    CU_ASSERT_TRUE(get_ends(7, UINT64_C(3000000000)));
    for (uint32_t i = 0; i < 5000 && (engine->map_op != TORC_OP_NONE ||
                                      engine->nodes[0].paths[0].ops_in_flight > 0);
         i++) {
        torc_net_step(net, 10 * STEP_NS);
    }
    CU_ASSERT_EQUAL(engine->nodes[0].paths[0].ops_in_flight,
                    0); // whoever left it was counted there
    CU_ASSERT_EQUAL(engine->nodes[1].paths[0].ops_in_flight, 0);
    close_node();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a node that comes back with fewer cores", test_fewer_cores},
        {"a node that was elsewhere for seconds is not left alone for longer", test_late_round},
        {"a write is never taken for unread", test_unread_write},
        {"a key outside that was asked for before the first session", test_outside},
        {"a refused packet whose first operation ends the others", test_refused_fetches},
        {"a node that came back in another place", test_moved},
        {"a node whose first address leads nowhere", test_second_address},
        {"a dead primary's shard is asked for elsewhere", test_dead_primary},
        {"the question for the map goes round", test_silent_node},
        CU_TEST_INFO_NULL};

    return torc_test_run("client_node", tests);
}
