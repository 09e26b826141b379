// Torc tests: what the client's engine keeps of a large cluster: its shards and its nodes.
#include "client/engine_state.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>

#define KEYS      UINT64_C(1000000)
#define SHARDS    4096u // the most that a cluster has
#define SHARD     (KEYS / SHARDS)
#define CUT_SHARD (SHARD / 2)

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_engine *engine;

static void open_node(void)
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
    torc_net_open(net, rig, 1, torc_test_seed(), 64);
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
    open_node();
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

int main(void)
{
    CU_TestInfo tests[] = {{"as many shards as a cluster has are known", test_shards},
                           CU_TEST_INFO_NULL};

    return torc_test_run("client_map", tests);
}
