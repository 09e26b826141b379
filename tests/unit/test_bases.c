// Torc tests: places for bases in a worker, few of which are for many shards (tests/cluster_rig.h).
#include "dataplane/worker_state.h"
#include "tests/cluster_rig.h"
#include "tests/torc_test.h"

#define SHARDS 6u

static struct torc_cluster cluster;

static void bases_put(uint64_t first_wseq, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t version;
        uint32_t server = 0;
        enum torc_err err = TORC_ERR_UNAVAILABLE;

        for (uint32_t tries = 0; tries < 1000 && err != TORC_ERR_OK; tries++) {
            torc_cluster_run(&cluster, server == 0 ? 0 : 100);
            server = torc_cluster_server(&cluster, 1);
            err = server == 0 ? err
                              : torc_cluster_put(&cluster, server, i, "of the log", first_wseq + i,
                                                 &version);
            server = 1;
        }
        CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
    }
}

// Node 3 comes with an empty disk, and no other has in memory what it lacks.
static void bases_are_needed(void)
{
    struct torc_cluster_config config = {.nodes = 3,
                                         .replicas = 3,
                                         .shards = SHARDS,
                                         .workers = 1,
                                         .min_in_sync = 2,
                                         .durability = TORC_DURABILITY_DURABLE,
                                         .key_count = 1000000,
                                         .seed = torc_test_seed()};

    torc_cluster_open(&cluster, &config);
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, 0, 3, 100000));
    }
    bases_put(1, 20);
    torc_cluster_kill(&cluster, 3, true);
    for (uint32_t node = 1; node <= 2; node++) {
        torc_cluster_kill(&cluster, node, true);
        torc_cluster_start(&cluster, node, true);
        bases_put(UINT64_C(21) * node, 5);
    }
    torc_cluster_start(&cluster, 3, false);
}

// Every place of node 3 has a base that has just begun.
static bool all_have_begun(void)
{
    for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
        uint32_t number = cluster.rigs[3].workers[0]->replicas.loads[i].shard;
        const struct torc_worker_shard *shard =
            number == 0 ? NULL : torc_cluster_shard(&cluster, 3, number);

        if (shard == NULL || shard->replica->machine.base_piece > 1) {
            return false;
        }
    }
    return true;
}

// Its primary hears that node 3 is not to have it; node 3 has not let go of it yet.
static void feed_no_more(uint32_t shard)
{
    for (uint32_t node = 1; node <= 2; node++) {
        struct torc_replica *machine = &torc_cluster_shard(&cluster, node, shard)->replica->machine;

        machine->want = (struct torc_replica_want){.node_count = 2, .nodes = {1, 2}};
    }
}

static void a_base_that_nobody_feeds_keeps_no_other_from_its_place(void)
{
    uint32_t given_up[TORC_WORKER_LOADS];
    bool is_given_up[SHARDS + 1] = {false};

    bases_are_needed();
    for (uint32_t i = 0; i < 400000 && !all_have_begun(); i++) {
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_TRUE_FATAL(all_have_begun());
    for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
        given_up[i] = cluster.rigs[3].workers[0]->replicas.loads[i].shard;
        is_given_up[given_up[i]] = true;
        torc_cluster_shard(&cluster, 3, given_up[i])->replica->machine.timing.grace_ns = 100000000;
        feed_no_more(given_up[i]);
    }
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        CU_ASSERT_TRUE_FATAL(is_given_up[shard] ||
                             torc_cluster_settle(&cluster, shard, 0, 3, 100000));
    }
    for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
        struct torc_cmd_want want = cluster.meta.wants[given_up[i]];

        CU_ASSERT_FALSE(torc_cluster_shard(&cluster, 3, given_up[i])->replica->machine.synced);
        torc_fake_meta_want(&cluster.meta, given_up[i], &want);
    }
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, 0, 3, 100000));
        torc_cluster_compare(&cluster, shard);
    }
    torc_cluster_close(&cluster);
}

// The stream of node 3's base at some primary, and whose it is.
static struct torc_worker_stream *stream_to_third(uint32_t *from)
{
    for (*from = 1; *from <= 2; (*from)++) {
        for (uint32_t i = 0; i < TORC_WORKER_STREAMS; i++) {
            struct torc_worker_stream *stream =
                &cluster.rigs[*from].workers[0]->replicas.streams[i];

            if (stream->node == 3) {
                return stream;
            }
        }
    }
    return NULL;
}

// So many nodes had to do with the shard that whoever is met next takes the place of the first that
// has no part in it any more.
static void meet_many(struct torc_replica *machine)
{
    while (machine->peer_count < TORC_REPLICA_PEERS_MAX) {
        uint32_t node = 10 + machine->peer_count;

        machine->peers[machine->peer_count++] =
            (struct torc_replica_peer){.node = node, .state.node = node};
    }
}

static void a_learner_whose_place_is_taken_leaves_that_of_its_base(void)
{
    struct torc_worker_stream *stream = NULL;
    struct torc_replica *machine;
    uint32_t shard;
    uint32_t from;

    bases_are_needed();
    for (uint32_t i = 0; i < 400000 && stream == NULL; i++) {
        torc_cluster_step(&cluster);
        stream = stream_to_third(&from);
    }
    torc_assert(stream != NULL);
    shard = stream->shard;
    machine = &torc_cluster_shard(&cluster, from, shard)->replica->machine;
    meet_many(machine);
    machine->want = (struct torc_replica_want){.node_count = 3, .nodes = {1, 2, 30}};
    torc_cluster_run(&cluster, 500); // node 3 is heard all the time
    for (uint32_t i = 0; i < machine->peer_count; i++) {
        CU_ASSERT_NOT_EQUAL(machine->peers[i].node, 3);
    }
    CU_ASSERT_FALSE(stream->node == 3 && stream->shard == shard);
    torc_cluster_close(&cluster);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a base that nobody feeds keeps no other from its place",
         a_base_that_nobody_feeds_keeps_no_other_from_its_place},
        {"a learner whose place is taken leaves that of its base",
         a_learner_whose_place_is_taken_leaves_that_of_its_base},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("bases", tests);
}
