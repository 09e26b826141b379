// Torc tests: what the client's engine keeps of a large cluster: its shards and its nodes.
#include "client/engine_state.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS       UINT64_C(1000000)
#define SHARDS     4096u // the most that a cluster has
#define SHARD      (KEYS / SHARDS)
#define CUT_SHARD  (SHARD / 2)
#define NODES      1200u
#define DEAD_PORT  30000u
#define OPERATIONS 4096u
#define STEP_NS    UINT64_C(20000)
#define SECOND_NS  UINT64_C(1000000000)

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_engine *engine;

static void open_node(bool one_node)
{
    struct torc_rig_config config = {.workers = 1,
                                     .shards = 1,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed(),
                                     .steered = true,
                                     .sealed = true};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
    torc_net_open_config(net, rig,
                         &(struct torc_net_config){.clients = 1,
                                                   .seed = torc_test_seed(),
                                                   .operations = OPERATIONS,
                                                   .nodes = TORC_ENGINE_NODES_MAX,
                                                   .one_node = one_node});
    engine = net->clients[0];
    torc_net_await(net);
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

// -- Shards ---------------------------------------------------------------------------------------

// A map of SHARDS shards comes in, each `shift` keys further than its number says.
static void hear_shards(uint32_t epoch, uint64_t shift)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_map_entry entry = {.lo = i == 0 ? 0 : i * SHARD + shift,
                                       .hi = i + 1 == SHARDS ? KEYS : (i + 1) * SHARD + shift,
                                       .version = engine->map.version + (i == 0 ? 1 : 0),
                                       .shard = i + 2,
                                       .epoch = epoch,
                                       .member_count = 1};
        uint8_t body[TORC_MAP_ENTRY_BYTES_MAX];
        struct torc_reply reply = {
            .opcode = TORC_OPCODE_MAP_ENTRY, .info = entry.version, .body = body};

        entry.members[0] = (struct torc_map_member){.node = 1, .state = TORC_MAP_IN_SYNC};
        reply.body_bytes = torc_map_entry_body(body, &entry);
        torc_route_entry(engine, &reply);
    }
}

static void check_shards(uint32_t epoch)
{
    static struct torc_shard shards[SHARDS];

    CU_ASSERT_TRUE(torc_engine_ready(engine));
    CU_ASSERT_EQUAL_FATAL(torc_engine_shards(engine, shards, SHARDS), SHARDS);
    for (uint32_t i = 0; i < SHARDS; i++) {
        CU_ASSERT_EQUAL_FATAL(shards[i].shard, i + 2);
        CU_ASSERT_EQUAL_FATAL(shards[i].epoch, epoch);
    }
}

// As many as there may be are all known, each follows its primary, and a map that was cut elsewhere
// comes in entry by entry, beside what is left of the one before.
static void test_shards(void)
{
    open_node(false);
    hear_shards(1, 0);
    check_shards(1);
    hear_shards(2, 0);
    check_shards(2);
    hear_shards(3, CUT_SHARD);
    check_shards(3);
    hear_shards(4, 0);
    check_shards(4);
    close_node();
}

// -- Nodes ----------------------------------------------------------------------------------------

static uint8_t inits[NODES + 2]; // that were sent to each, by number; node 1 is the rig's

// NOLINTNEXTLINE(readability-non-const-parameter): the type is the net's
static bool is_for_rig(struct torc_net *whole, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)whole;
    (void)bytes;
    if (!packet->to_node || packet->node_port < DEAD_PORT) {
        return true;
    }
    CU_ASSERT_FATAL(packet->node_port - DEAD_PORT <= NODES + 1);
    inits[packet->node_port - DEAD_PORT] = 1;
    return false;
}

static void hear_node(uint32_t number, uint16_t port)
{
    static const unsigned char address[16] = {[10] = 0xff, 0xff, 10, 79, 0, 99};
    struct torc_node_entry node = {
        .node = number, .base_port = port, .cores = 1, .address_count = 1, .addresses = address};
    uint8_t body[64];
    struct torc_reply reply = {.opcode = TORC_OPCODE_NODE_ENTRY, .body = body};

    reply.body_bytes = torc_node_entry_body(body, &node);
    torc_route_entry(engine, &reply);
}

// Each has a shard, and the rig's node is the last in the table: its sessions are told by that.
static void lead_each(void)
{
    for (uint32_t i = 0; i < NODES; i++) {
        uint32_t number = i == 0 ? 1 : i + 1;
        struct torc_map_entry entry = {.lo = i * (KEYS / NODES),
                                       .hi = i + 1 == NODES ? KEYS : (i + 1) * (KEYS / NODES),
                                       .version = engine->map.version + (i == 0 ? 1 : 0),
                                       .shard = i + 2,
                                       .epoch = 1,
                                       .member_count = 1,
                                       .members = {{.node = number, .state = TORC_MAP_IN_SYNC}}};

        CU_ASSERT_EQUAL_FATAL(torc_map_put(&engine->map, &entry), TORC_ERR_OK);
    }
}

static bool get_of_rig_ends(void)
{
    struct torc_completion done = {.status = TORC_ERR_INTERNAL};

    CU_ASSERT_EQUAL_FATAL(torc_engine_get(engine, 1, NULL, 0, NULL), TORC_ERR_OK);
    for (uint32_t i = 0; i < 20000; i++) {
        torc_net_step(net, STEP_NS);
        if (torc_engine_poll(engine, &done, 1) > 0) {
            return done.status == TORC_ERR_NOT_FOUND || done.status == TORC_ERR_WRONG_SHARD;
        }
    }
    return false;
}

// A node that is one of many is found, whichever place it has in the table, and spoken with.
static void test_nodes(void)
{
    open_node(false);
    net->tamper = is_for_rig;
    for (uint32_t number = 2; number <= NODES; number++) {
        hear_node(number, (uint16_t)(DEAD_PORT + number));
    }
    engine->nodes[0].state = TORC_NODE_GONE;
    hear_node(1, TORC_RIG_BASE_PORT);
    CU_ASSERT_PTR_NOT_NULL_FATAL(torc_node_of_id(engine, 1));
    CU_ASSERT_EQUAL(torc_node_of_id(engine, 1)->index, NODES);
    lead_each();
    for (uint32_t number = 2; number <= NODES; number++) {
        CU_ASSERT_EQUAL_FATAL(
            torc_engine_get(engine, (number - 1) * (KEYS / NODES), NULL, number, NULL),
            TORC_ERR_OK);
    }
    CU_ASSERT_TRUE(get_of_rig_ends());
    CU_ASSERT_EQUAL(engine->nodes[NODES].state, TORC_NODE_UP);
    for (uint32_t number = 2; number <= NODES; number++) {
        CU_ASSERT_EQUAL_FATAL(inits[number], 1);
    }
    close_node();
}

// One too many is not known, and nothing is damaged.
static void test_too_many(void)
{
    open_node(false);
    for (uint32_t number = 2; number <= TORC_ENGINE_NODES_MAX + 10; number++) {
        hear_node(number, DEAD_PORT);
    }
    CU_ASSERT_EQUAL(engine->node_count, TORC_ENGINE_NODES_MAX);
    CU_ASSERT_PTR_NOT_NULL(torc_node_of_id(engine, TORC_ENGINE_NODES_MAX));
    CU_ASSERT_PTR_NULL(torc_node_of_id(engine, TORC_ENGINE_NODES_MAX + 1));
    CU_ASSERT_TRUE(get_of_rig_ends());
    close_node();
}

// -- One node alone -------------------------------------------------------------------------------

static struct torc_completion wait_for_one(enum torc_err accepted, uint64_t within_ns)
{
    struct torc_completion done = {.status = TORC_ERR_INTERNAL};
    uint64_t end_ns = engine->now_ns + within_ns;
    uint32_t count = 0;

    CU_ASSERT_EQUAL_FATAL(accepted, TORC_ERR_OK);
    while (count == 0 && engine->now_ns < end_ns) {
        torc_net_step(net, STEP_NS);
        count = torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    return done;
}

static void check_beyond(const struct torc_completion *done)
{
    CU_ASSERT_EQUAL(done->status, TORC_ERR_NOT_CONNECTED);
    CU_ASSERT(done->text != NULL && strstr(done->text, "node 9 ") != NULL);
}

// An engine whose edge reaches one node alone says of keys of others where they are, at once. When
// their shard comes here it knows it.
static void test_one_node(void)
{
    struct torc_engine_write write = {.key = KEYS - 1, .data = "x", .bytes = 1};
    struct torc_engine_range range = {.lo = 0, .hi = KEYS};
    struct torc_map_entry entry;
    struct torc_completion done;

    open_node(true);
    hear_node(9, DEAD_PORT);
    CU_ASSERT_EQUAL(engine->node_count, 1);
    entry = engine->map.entries[0]; // node 9 has taken over the upper half
    entry.lo = KEYS / 2;
    entry.shard = 77;
    entry.version = 1000000;
    entry.members[0].node = 9;
    CU_ASSERT_EQUAL_FATAL(torc_map_put(&engine->map, &entry), TORC_ERR_OK);
    done = wait_for_one(torc_engine_get(engine, KEYS - 1, NULL, 0, NULL), SECOND_NS);
    check_beyond(&done);
    done = wait_for_one(torc_engine_write(engine, &write, NULL), SECOND_NS);
    check_beyond(&done);
    done = wait_for_one(torc_engine_range(engine, &range, NULL), SECOND_NS);
    check_beyond(&done);
    done = wait_for_one(torc_engine_get(engine, 5, NULL, 0, NULL), SECOND_NS);
    CU_ASSERT_EQUAL(done.status, TORC_ERR_NOT_FOUND);
    // What is known was wrong: the answer to the question that the get asks says so.
    engine->map.entries[1].version = engine->map.entries[1].epoch = 0;
    engine->map.entries[1].shard = engine->map.entries[0].shard;
    done = wait_for_one(torc_engine_get(engine, KEYS - 1, NULL, 0, NULL), SECOND_NS);
    CU_ASSERT_EQUAL(done.status, TORC_ERR_NOT_FOUND);
    close_node();
}

int main(void)
{
    CU_TestInfo tests[] = {{"as many shards as a cluster has are known", test_shards},
                           {"each of many nodes is found and asked", test_nodes},
                           {"there is an end to what is known", test_too_many},
                           {"of what cannot be reached it is said at once", test_one_node},
                           CU_TEST_INFO_NULL};

    return torc_test_run("client_map", tests);
}
