// Torc tests: three nodes and one client, against what the client was told.
//
// What    lives of a cluster (tests/cluster_rig.h): real workers, engines, logs and machines, with
//         nodes that die and come back, cuts in one direction, loss, a metastore that is away or
//         says UNKNOWN, disks that stand still, primaries that are wished elsewhere, shards that
//         are taken away from a node and given to it again.
// Oracle  for each key the value last acknowledged, and those of writes whose end is not known:
//         a read shows one of them, and when all faults are over every shard is served, holds what
//         was acknowledged, and its members' trees are equal. A write that is sent again with its
//         number has one effect. A read of a bounded age, from whatever node, shows no less than
//         what some client had been told that much before it. Never do two nodes serve a shard
//         (torc_cluster_server looks).
#include "tests/cluster_rig.h"
#include "tests/torc_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS            24u
#define KEY_SPACE       UINT64_C(240000)
#define MAYBES          16u
#define WRITES          65536u
#define OPS             120u
#define SETTLE          400000u // 4 s
#define CALL_STEPS      1500u
#define TOLD            (4 * OPS)
#define LIVES_QUICK     1u
#define LIVES           8u
#define LIVES_UNTIL_LIE 200u

// That a client was told of a version, and when.
struct model_told {
    uint64_t at_ns;
    uint64_t version;
};

struct model_key {
    uint32_t told_count;
    struct model_told told[TOLD];
    uint32_t acked; // number of the write; 0: none
    uint32_t maybe_count;
    uint32_t maybes[MAYBES];
};

static struct torc_cluster cluster;
static struct model_key model[KEYS];
static uint64_t versions[WRITES]; // of each write's one effect, as soon as it is known
static uint32_t next_write;
static uint32_t stale_answers;   // of nodes that do not serve the shard
static uint32_t stale_lies;      // older than was allowed
static uint32_t stale_judged_ms; // the bound that they are judged by; 0: the one asked for

static uint64_t model_key(uint32_t index)
{
    return (uint64_t)index * (KEY_SPACE / KEYS);
}

static uint32_t model_shard(uint32_t index)
{
    return 1 + index * cluster.config.shards / KEYS;
}

static bool chance(uint32_t percent)
{
    return torc_rng_below(&cluster.rng, 100) < percent;
}

static uint32_t random_node(void)
{
    return 1 + (uint32_t)torc_rng_below(&cluster.rng, cluster.config.nodes);
}

// Whoever serves the shard, or anybody.
static uint32_t some_server(uint32_t shard)
{
    uint32_t server = torc_cluster_server(&cluster, shard);

    for (uint32_t i = 0; i < 20 && server == 0; i++) {
        torc_cluster_run(&cluster, 100);
        server = torc_cluster_server(&cluster, shard);
    }
    if (server == 0 || chance(5)) {
        server = random_node();
    }
    return cluster.rigs[server].up ? server : 0;
}

// -- What the client does -------------------------------------------------------------------------

static bool is_refusal(enum torc_err err)
{
    return err == TORC_ERR_WRONG_SHARD || err == TORC_ERR_UNAVAILABLE || err == TORC_ERR_BUSY ||
           err == TORC_ERR_TAKING_OVER;
}

// Exactly once: whoever tells of the write tells of the same effect.
static void model_version(uint32_t number, uint64_t version)
{
    uint64_t *known = &versions[number % WRITES];

    if (*known != 0 && *known != version) {
        (void)fprintf(stderr, "write %" PRIu32 " has versions %" PRIx64 " and %" PRIx64 "\n",
                      number, *known, version);
    }
    torc_assert(*known == 0 || *known == version);
    *known = version;
}

static void model_tell(uint32_t index, uint64_t version)
{
    struct model_key *key = &model[index];

    torc_assert(key->told_count < TOLD);
    key->told[key->told_count++] = (struct model_told){.at_ns = cluster.now_ns, .version = version};
}

static void model_put(uint32_t index)
{
    struct model_key *key = &model[index];
    uint32_t number = ++next_write;
    uint64_t wseq = cluster.next_wseq++;
    enum torc_err err = TORC_ERR_BUSY;
    uint64_t version;
    char text[24];
    bool unknown = false;

    versions[number % WRITES] = 0;
    (void)snprintf(text, sizeof(text), "write %" PRIu32, number);
    for (uint32_t i = 0; i < 4 && err != TORC_ERR_OK; i++) {
        uint32_t node = some_server(model_shard(index));

        err = node == 0 ? TORC_ERR_BUSY
                        : torc_cluster_put(&cluster, node, model_key(index), text, wseq, &version);
        unknown = unknown || (err != TORC_ERR_OK && !is_refusal(err));
    }
    if (err == TORC_ERR_OK) {
        model_version(number, version);
        model_tell(index, version);
        key->acked = number;
        key->maybe_count = 0;
    } else if (unknown && key->maybe_count < MAYBES) {
        key->maybes[key->maybe_count++] = number;
    }
    torc_assert(key->maybe_count < MAYBES);
}

// The number of the write that a value is of.
static uint32_t value_number(const struct torc_reply *reply)
{
    char text[24] = {0};

    torc_assert(reply->body_bytes < sizeof(text) && reply->body_bytes > strlen("write "));
    memcpy(text, reply->body, reply->body_bytes);
    torc_assert(memcmp(text, "write ", strlen("write ")) == 0);
    return (uint32_t)strtoul(text + strlen("write "), NULL, 10);
}

static void model_seen(uint32_t index, uint32_t number)
{
    struct model_key *key = &model[index];

    if (number == key->acked) {
        return;
    }
    for (uint32_t i = 0; i < key->maybe_count; i++) {
        if (key->maybes[i] == number) {
            key->acked = number; // it happened, and everybody will see it from now on
            key->maybes[i] = key->maybes[--key->maybe_count];
            return;
        }
    }
    (void)fprintf(stderr, "key %" PRIu32 ": read write %" PRIu32 ", acknowledged was %" PRIu32 "\n",
                  index, number, key->acked);
    torc_unreachable("a read that no history allows");
}

// True: it was answered.
static bool model_get(uint32_t index)
{
    struct torc_request request = torc_rig_get(model_key(index));
    uint32_t node = some_server(model_shard(index));
    struct torc_reply reply;

    if (node == 0 || !torc_cluster_call(&cluster, node, &request, &reply, CALL_STEPS) ||
        (reply.status != TORC_ERR_OK && reply.status != TORC_ERR_NOT_FOUND)) {
        return false;
    }
    if (reply.status == TORC_ERR_OK) {
        model_version(value_number(&reply), reply.info);
        model_tell(index, reply.info);
    }
    model_seen(index, reply.status == TORC_ERR_OK ? value_number(&reply) : 0);
    return true;
}

// The least that a read may show which takes what is `age_ms` old.
static uint64_t model_floor(uint32_t index, uint64_t age_ms)
{
    const struct model_key *key = &model[index];
    uint64_t version = 0;

    for (uint32_t i = 0; i < key->told_count; i++) {
        if (key->told[i].at_ns + age_ms * 1000000 <= cluster.now_ns) {
            version = torc_max_u64(version, key->told[i].version);
        }
    }
    return version;
}

static void model_get_stale(uint32_t index)
{
    static const uint32_t ages_ms[] = {0, 1, 5, 20, 100, 1000};
    uint32_t age_ms = stale_judged_ms == 0
                          ? ages_ms[torc_rng_below(&cluster.rng, TORC_COUNT_OF(ages_ms))]
                          : 10000;
    uint64_t floor = model_floor(index, stale_judged_ms == 0 ? age_ms : stale_judged_ms);
    struct torc_request request = torc_rig_get(model_key(index));
    uint32_t node = random_node();
    struct torc_reply reply;

    request.flags = TORC_GET_STALE;
    request.max_age_ms = age_ms;
    if (!cluster.rigs[node].up ||
        !torc_cluster_call(&cluster, node, &request, &reply, CALL_STEPS) ||
        (reply.status != TORC_ERR_OK && reply.status != TORC_ERR_NOT_FOUND)) {
        return;
    }
    stale_answers += torc_cluster_server(&cluster, model_shard(index)) != node ? 1 : 0;
    if (reply.status == TORC_ERR_OK) {
        model_version(value_number(&reply), reply.info);
    }
    if (floor > (reply.status == TORC_ERR_OK ? reply.info : 0)) {
        stale_lies++;
    }
}

// -- Faults ---------------------------------------------------------------------------------------

// Durable nodes may all die; of others one that remembers stays.
static bool may_die(uint32_t node)
{
    if (!cluster.rigs[node].up) {
        return false;
    }
    for (uint32_t shard = 1;
         shard <= cluster.config.shards && cluster.config.durability != TORC_DURABILITY_DURABLE;
         shard++) {
        bool other = false;

        for (uint32_t i = 1; i <= cluster.config.nodes; i++) {
            other = other || (i != node && cluster.rigs[i].up &&
                              torc_fake_meta_is_member(&cluster.meta, shard, i));
        }
        if (!other) {
            return false;
        }
    }
    return true;
}

static void revive(uint32_t node)
{
    // A fast node's log outlives its process only in part: it comes back as another copy.
    if (cluster.config.durability != TORC_DURABILITY_DURABLE && chance(75)) {
        torc_cluster_start_behind(&cluster, node);
        return;
    }
    torc_cluster_start(&cluster, node, cluster.config.durability == TORC_DURABILITY_DURABLE);
}

// Fast nodes acknowledge what their disks have not.
static void stick(uint32_t node)
{
    struct torc_rig *rig = &cluster.rigs[node];

    for (uint32_t worker = 0; worker < rig->config.workers && rig->up; worker++) {
        rig->controls[worker].disk_stuck =
            cluster.config.durability != TORC_DURABILITY_DURABLE && chance(70);
    }
}

static void wish(void)
{
    uint32_t shard = 1 + (uint32_t)torc_rng_below(&cluster.rng, cluster.config.shards);
    struct torc_cmd_want want = cluster.meta.wants[shard];

    want.primary_node = chance(30) ? 0 : random_node();
    want.node_count = cluster.config.replicas - (chance(40) ? 1 : 0);
    for (uint32_t i = 0, node = random_node(); i < want.node_count; i++) {
        want.nodes[i] = (node + i) % cluster.config.nodes + 1;
    }
    torc_fake_meta_want(&cluster.meta, shard, &want);
}

static void some_fault(void)
{
    uint32_t node = random_node();

    switch (torc_rng_below(&cluster.rng, 10)) {
    case 0:
    case 1:
        if (may_die(node)) {
            torc_cluster_kill(&cluster, node, chance(50));
        } else if (!cluster.rigs[node].up) {
            revive(node);
        }
        return;
    case 2:
        if (!cluster.rigs[node].up) {
            revive(node);
        }
        return;
    case 3: cluster.cut[node][random_node()] = chance(50); return;
    case 4: cluster.loss_ppm = chance(50) ? 0 : 30000; return;
    case 5: cluster.meta.away = chance(30); return;
    case 6: cluster.meta.unknowns += (uint32_t)torc_rng_below(&cluster.rng, 3); return;
    case 7:
    case 8: wish(); return;
    case 9: stick(node); return;
    default: torc_unreachable("below 10");
    }
}

static void all_well(void)
{
    memset(cluster.cut, 0, sizeof(cluster.cut));
    cluster.loss_ppm = 0;
    cluster.meta.away = false;
    cluster.meta.unknowns = 0;
    for (uint32_t shard = 1; shard <= cluster.config.shards; shard++) {
        struct torc_cmd_want want = {.node_count = 3, .nodes = {1, 2, 3}};

        torc_fake_meta_want(&cluster.meta, shard, &want);
    }
    for (uint32_t node = 1; node <= cluster.config.nodes; node++) {
        if (!cluster.rigs[node].up) {
            revive(node);
        }
        for (uint32_t worker = 0; worker < cluster.rigs[node].config.workers; worker++) {
            cluster.rigs[node].controls[worker].disk_stuck = false;
        }
    }
}

// -- Lives ----------------------------------------------------------------------------------------

static void judge(void)
{
    for (uint32_t index = 0; index < KEYS; index++) {
        uint32_t before = next_write;
        bool read = false;

        for (uint32_t i = 0; i < 400 && !read; i++) {
            read = model_get(index);
            torc_cluster_run(&cluster, read ? 0 : 500);
        }
        for (uint32_t i = 0; i < 400 && model[index].acked <= before; i++) {
            model_put(index); // also brings the last commit mark to all
            torc_cluster_run(&cluster, model[index].acked > before ? 0 : 500);
        }
        if (!read || model[index].acked <= before) {
            torc_cluster_describe(&cluster, model_shard(index));
        }
        torc_assert(read && model[index].acked > before);
    }
    for (uint32_t shard = 1; shard <= cluster.config.shards; shard++) {
        bool settled = torc_cluster_settle(&cluster, shard, 0, cluster.config.replicas, SETTLE);

        if (!settled) {
            torc_cluster_describe(&cluster, shard);
        }
        torc_assert(settled);
        torc_cluster_compare(&cluster, shard);
    }
}

static void live(uint64_t seed, uint8_t durability)
{
    struct torc_cluster_config config = {.nodes = 3,
                                         .replicas = 3,
                                         .shards = 2,
                                         .workers = 1 + (uint32_t)(seed % 2),
                                         .min_in_sync = 2,
                                         .durability = durability,
                                         .confirm = seed / 2 % 3 == 0,
                                         .key_count = KEY_SPACE,
                                         .seed = seed};

    memset(model, 0, sizeof(model));
    torc_cluster_open(&cluster, &config);
    for (uint32_t op = 0; op < OPS; op++) {
        uint32_t index = (uint32_t)torc_rng_below(&cluster.rng, KEYS);

        if (chance(12)) {
            some_fault();
        }
        if (chance(60)) {
            model_put(index);
        } else if (chance(50)) {
            model_get_stale(index);
        } else {
            (void)model_get(index);
        }
        torc_cluster_run(&cluster, (uint32_t)torc_rng_below(&cluster.rng, 200));
    }
    all_well();
    judge();
    torc_cluster_close(&cluster);
}

static void lives(uint8_t durability)
{
    struct torc_rng rng = {.state = torc_test_seed()};
    const char *quick = getenv("TORC_TEST_QUICK"); // NOLINT(concurrency-mt-unsafe): one thread
    uint32_t count = quick != NULL ? LIVES_QUICK : LIVES;

    for (uint32_t i = 0; i < count; i++) {
        live(torc_rng_next(&rng), durability);
    }
}

static void judged(uint8_t durability)
{
    stale_lies = 0;
    stale_judged_ms = 0;
    lives(durability);
    CU_ASSERT_EQUAL(stale_lies, 0);
}

static void nothing_acknowledged_is_lost_by_durable_nodes(void)
{
    judged(TORC_DURABILITY_DURABLE);
}

static void nothing_acknowledged_is_lost_by_fast_nodes(void)
{
    judged(TORC_DURABILITY_REPLICATED);
}

// Asked for what is up to 10 s old, judged by 1 ms. One life in some seven shows such a read: all
// of these miss it once in 10^14 runs (20 missed it once in 30).
static void reads_that_are_too_old_would_be_found(void)
{
    stale_answers = 0;
    stale_lies = 0;
    stale_judged_ms = 1;
    for (uint32_t i = 0; i < LIVES_UNTIL_LIE && stale_lies == 0; i++) {
        live(torc_test_seed() + i, TORC_DURABILITY_REPLICATED);
    }
    CU_ASSERT_TRUE(stale_lies > 0);
    CU_ASSERT_TRUE(stale_answers > 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"nothing acknowledged is lost by durable nodes",
         nothing_acknowledged_is_lost_by_durable_nodes},
        {"nothing acknowledged is lost by fast nodes", nothing_acknowledged_is_lost_by_fast_nodes},
        {"reads that are too old would be found", reads_that_are_too_old_would_be_found},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("cluster", tests);
}
