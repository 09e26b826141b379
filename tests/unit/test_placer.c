// Torc tests: when a node says that it is there: whoever has no shard and may get some, and not
// more often than it has to.
#include "control/placer.h"
#include "tests/fake_store.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define STEP_NS UINT64_C(10000000)
#define S       UINT64_C(1000000000)

enum {
    NODE = 4,
    BOOT = 7
};

struct world {
    struct torc_rng rng;
    struct torc_fake_store meta;
    struct torc_survey survey;
    struct torc_cluster cluster;
    struct torc_follow follow;
    struct torc_placer placer;
    uint64_t now_ns;
    uint64_t nonce;    // of the node's record, as last seen
    uint64_t first_ns; // when its record was first written since the test looked; 0: not yet
    uint64_t last_ns;
    uint64_t least_ns; // between two writes
    uint32_t words;
    bool serves;
};

static void world_node(struct world *world, const struct torc_node_fields *fields)
{
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_record record = {.key = "node/4", .value = text};
    struct torc_fail why;
    bool changed = false;

    torc_fake_store_write(&world->meta, "node/4", TORC_RECORD_NODE, fields);
    record.value_bytes = torc_record_encode(TORC_RECORD_NODE, fields, text);
    record.version = ++world->survey.revision;
    TORC_TEST_OK(torc_survey_put(&world->survey, &record, &changed, &why), &why);
    world->follow.changes += changed ? 1 : 0;
    world->nonce = fields->nonce;
}

static void world_look(struct world *world)
{
    world->words = 0;
    world->first_ns = 0;
    world->least_ns = UINT64_MAX;
}

static struct world *world_open(uint64_t gone_ns)
{
    struct world *world = calloc(1, sizeof(*world));
    const struct torc_node_fields fields = {.boot = BOOT, .capacity = 1, .slot = 5, .nonce = 1};
    const struct torc_placer_config config = {.nonce = 77,
                                              .boot = BOOT,
                                              .node = NODE,
                                              .replicas = 3,
                                              .lease_ns = 5 * S,
                                              .pace_ns = S / 10,
                                              .gone_ns = gone_ns};

    torc_assert(world != NULL);
    world->now_ns = S;
    world->serves = true;
    world->rng = (struct torc_rng){torc_test_seed()};
    torc_fake_store_init(&world->meta, &world->rng);
    world->meta.calm = true;
    world->cluster.boot = BOOT;
    torc_follow_init(&world->follow, &world->survey, &world->cluster);
    world_node(world, &fields);
    torc_placer_init(&world->placer, &config, world->now_ns);
    world_look(world);
    return world;
}

static void world_close(struct world *world)
{
    torc_fake_store_close(&world->meta);
    free(world);
}

static void world_count(struct world *world)
{
    struct torc_node_fields fields;

    torc_fake_store_read(&world->meta, "node/4", TORC_RECORD_NODE, &fields);
    if (fields.nonce == world->nonce) {
        return;
    }
    if (world->words++ == 0) {
        world->first_ns = world->now_ns;
    } else {
        world->least_ns = torc_min_u64(world->least_ns, world->now_ns - world->last_ns);
    }
    world->last_ns = world->now_ns;
    world->nonce = fields.nonce;
}

static void world_step(struct world *world)
{
    struct torc_metastore *store = &world->meta.handles[0].store;
    struct torc_placer *placer = &world->placer;
    struct torc_meta_request request;
    struct torc_meta_answer answer;
    struct torc_fail why;
    bool waits = placer->shows && !placer->alive.open;
    bool due = torc_placer_deadline_ns(placer) <= world->now_ns + STEP_NS;

    world->now_ns += STEP_NS;
    torc_metastore_step(store, world->now_ns);
    while (torc_metastore_take(store, &answer)) {
        CU_ASSERT_TRUE(torc_placer_is_mine(answer.ticket));
        torc_placer_take(placer, world->now_ns, &answer, torc_rng_next(&world->rng));
    }
    torc_placer_look(placer, world->now_ns, &world->follow, world->serves);
    CU_ASSERT_TRUE(!waits || !placer->alive.open || due); // it would have been called in time
    while (torc_placer_next(placer, world->now_ns, &request)) {
        request.deadline_ns = world->now_ns + S;
        TORC_TEST_OK(torc_metastore_submit(store, &request, world->now_ns, &why), &why);
    }
    world_count(world);
}

static void world_go(struct world *world, uint64_t for_ns)
{
    uint64_t end_ns = world->now_ns + for_ns;

    while (world->now_ns < end_ns) {
        world_step(world);
    }
}

// Makes the node a member of a shard, or lets one be wished there.
static void world_shard(struct world *world, bool member, bool wished)
{
    struct torc_shard_fields shard = {.lo = 0, .hi = 9, .epoch = 1};
    struct torc_want_fields want = {.primary = 1, .nodes = {.count = 1, .at = {1}}};
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_record record = {.key = "shard/1", .value = text};
    struct torc_fail why;
    bool changed;

    shard.primary_node = member ? NODE : 1;
    shard.insync.count = 1;
    shard.insync.at[0] = (struct torc_record_member){.node = member ? NODE : 1, .copy = 1};
    record.value_bytes = torc_record_encode(TORC_RECORD_SHARD, &shard, text);
    record.version = ++world->survey.revision;
    TORC_TEST_OK(torc_survey_put(&world->survey, &record, &changed, &why), &why);
    want.nodes.count = wished ? 2 : 1;
    want.nodes.at[1] = NODE;
    record.key = "want/1";
    record.value_bytes = torc_record_encode(TORC_RECORD_WANT, &want, text);
    record.version = ++world->survey.revision;
    TORC_TEST_OK(torc_survey_put(&world->survey, &record, &changed, &why), &why);
    world->follow.changes++;
}

static void now_and_then(uint64_t gone_ns, uint64_t every_ns)
{
    struct world *world = world_open(gone_ns);

    world_go(world, 10 * every_ns + every_ns / 2);
    CU_ASSERT_TRUE(world->first_ns != 0 && world->first_ns < S + S / 2); // at once
    CU_ASSERT_TRUE(world->words >= 10 && world->words <= 11);
    CU_ASSERT_TRUE(world->least_ns >= every_ns - S / 10);
    world_close(world);
}

static void it_is_said_now_and_then(void)
{
    now_and_then(S, S);
    now_and_then(40 * S, 10 * S);
    now_and_then(600 * S, 60 * S);
}

static void who_has_shards_says_nothing(void)
{
    struct world *world = world_open(4 * S);

    for (uint32_t i = 1; i < 4; i++) {
        world_shard(world, (i & 1) != 0, (i & 2) != 0);
        world_go(world, S / 2); // what is under way ends
        world_look(world);
        world_go(world, 20 * S);
        CU_ASSERT_EQUAL(world->words, 0);
        CU_ASSERT_TRUE(torc_note_deadline_ns(&world->placer.alive) == UINT64_MAX);
    }
    world_shard(world, false, false);
    world_go(world, S / 2);
    CU_ASSERT_EQUAL(world->words, 1); // at once: it has long been silent
    world_close(world);
}

static void who_may_get_none_says_nothing(void)
{
    static const struct torc_node_fields fields[] = {
        {.boot = BOOT, .slot = 5, .state = TORC_RECORD_NODE_DRAINING},
        {.boot = BOOT, .slot = 5, .state = TORC_RECORD_NODE_HELD},
        {.boot = BOOT, .slot = 5, .down = BOOT},
        {.boot = BOOT + 1, .slot = 5}, // a life that this control does not know yet
    };
    struct world *world = world_open(4 * S);
    struct torc_node_fields is = {.boot = BOOT, .slot = 5, .state = TORC_RECORD_NODE_YIELDS};

    for (uint32_t i = 0; i < TORC_COUNT_OF(fields); i++) {
        world_node(world, fields + i);
        world_go(world, S / 2);
        world_look(world);
        world_go(world, 20 * S);
        CU_ASSERT_EQUAL(world->words, 0);
    }
    world->serves = false;
    world_node(world, &is);
    world_go(world, 20 * S);
    CU_ASSERT_EQUAL(world->words, 0);
    world->serves = true; // one that leads nothing keeps copies
    world_go(world, S / 2);
    CU_ASSERT_EQUAL(world->words, 1);
    world_close(world);
}

// While the store is away it is kept, and said once.
static void it_is_said_when_the_store_is_back(void)
{
    struct world *world = world_open(40 * S);

    world_go(world, 5 * S);
    world_look(world);
    world->meta.away = true;
    world_go(world, 60 * S);
    CU_ASSERT_EQUAL(world->words, 0);
    world->meta.away = false;
    world_go(world, 5 * S);
    CU_ASSERT_TRUE(world->words == 1 || world->words == 2);
    world_close(world);
}

int main(void)
{
    CU_TestInfo tests[] = {{"it is said now and then", it_is_said_now_and_then},
                           {"who has shards says nothing", who_has_shards_says_nothing},
                           {"who may get none says nothing", who_may_get_none_says_nothing},
                           {"it is said when the store is back", it_is_said_when_the_store_is_back},
                           CU_TEST_INFO_NULL};

    return torc_test_run("test-placer", tests);
}
