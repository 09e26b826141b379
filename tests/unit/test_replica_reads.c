// Torc tests: reads at replicas, three nodes in one process (tests/cluster_rig.h): those of a
// bounded age, and all of them with read-mode = confirm.
#include "dataplane/worker_state.h"
#include "tests/unit/replicas_rig.h"

#include <string.h>

// -- Reads of a bounded age -----------------------------------------------------------------------

static enum torc_err get_stale(uint32_t node, uint64_t key, uint32_t age_ms,
                               struct torc_reply *reply)
{
    struct torc_request request = torc_rig_get(key);

    request.flags = TORC_GET_STALE;
    request.max_age_ms = age_ms;
    return torc_cluster_call(&cluster, node, &request, reply, 5000) ? (enum torc_err)reply->status
                                                                    : TORC_ERR_DEADLINE;
}

// Its first reader makes it ask.
static void warm(uint32_t node, uint32_t age_ms)
{
    struct torc_reply reply;
    enum torc_err err = TORC_ERR_TOO_STALE;

    for (uint32_t i = 0; i < 100 && err == TORC_ERR_TOO_STALE; i++) {
        err = get_stale(node, 5, age_ms, &reply);
        torc_cluster_run(&cluster, 100);
    }
    CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
}

static void cut_off(uint32_t node, bool cut)
{
    for (uint32_t other = 1; other <= 3; other++) {
        cluster.cut[node][other] = cut && other != node;
        cluster.cut[other][node] = cut && other != node;
    }
}

static void a_backup_reads_what_is_not_too_old(void)
{
    struct torc_request plain = torc_rig_get(5);
    struct torc_reply reply;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    (void)replicas_put(5, "five", 1);
    CU_ASSERT_EQUAL(get_stale(1, 5, 0, &reply), TORC_ERR_OK); // the primary's is of now
    warm(2, 20);
    CU_ASSERT_EQUAL(get_stale(2, 5, 20, &reply), TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.body_bytes, 4);
    CU_ASSERT_EQUAL(get_stale(2, 6, 20, &reply), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(get_stale(2, 5, 0, &reply), TORC_ERR_TOO_STALE);
    CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, 2, &plain, &reply, 5000));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_WRONG_SHARD);
    torc_cluster_close(&cluster);
}

static void a_backup_that_is_cut_off_soon_says_that_it_is_too_old(void)
{
    struct torc_reply reply;

    replicas_come_up(TORC_DURABILITY_REPLICATED);
    (void)replicas_put(5, "five", 1);
    warm(3, 20);
    cut_off(3, true);
    torc_cluster_run(&cluster, 500); // 5 ms
    CU_ASSERT_EQUAL(get_stale(3, 5, 20, &reply), TORC_ERR_OK);
    (void)replicas_put(5, "FIVE", 2);
    torc_cluster_run(&cluster, 3000);
    CU_ASSERT_EQUAL(get_stale(3, 5, 20, &reply), TORC_ERR_TOO_STALE);
    CU_ASSERT_TRUE(reply.info > 20000 && reply.info < 1000000);
    CU_ASSERT_EQUAL(get_stale(3, 5, 1000, &reply), TORC_ERR_OK); // that is old enough
    CU_ASSERT_EQUAL(memcmp(reply.body, "five", 4), 0);
    cut_off(3, false);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 100000));
    warm(3, 20);
    CU_ASSERT_EQUAL(get_stale(3, 5, 20, &reply), TORC_ERR_OK);
    CU_ASSERT_EQUAL(memcmp(reply.body, "FIVE", 4), 0);
    torc_cluster_close(&cluster);
}

// -- Reads at a timestamp -------------------------------------------------------------------------

// H5: at the end of each turn, also of that in which one was proposed. Returns how many are.
static uint32_t check_ceilings(uint32_t node, uint32_t shard)
{
    const struct torc_worker_shard *at = torc_cluster_shard(&cluster, node, shard);
    uint32_t proposed = 0;

    if (at == NULL || at->replica == NULL || !at->replica->live ||
        at->replica->machine.role != TORC_REPLICA_ACTIVE) {
        return 0;
    }
    for (uint32_t i = 0; i < at->replica->machine.peer_count; i++) {
        const struct torc_replica_peer *peer = &at->replica->machine.peers[i];

        if (peer->role == TORC_REPLICA_PEER_MEMBER || peer->proposed) {
            CU_ASSERT(at->replica->least_ceiling <= peer->lease.ceiling);
            proposed += peer->proposed ? 1 : 0;
        }
    }
    return proposed;
}

static void who_is_proposed_has_to_keep_what_is_read_from_that_turn_on(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    uint32_t proposed = 0;

    config.min_in_sync = 1;
    replicas_come_up_as(&config);
    torc_cluster_kill(&cluster, 2, true);
    torc_cluster_kill(&cluster, 3, true);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 1, 100000)); // nobody but itself
    torc_cluster_start(&cluster, 2, false);
    torc_cluster_start(&cluster, 3, false);
    for (uint32_t step = 0; step < 50000; step++) {
        torc_cluster_step(&cluster);
        proposed += check_ceilings(1, 1);
    }
    CU_ASSERT_TRUE(proposed > 0);
    torc_cluster_close(&cluster);
}

// -- read-mode = confirm --------------------------------------------------------------------------

static void confirm_come_up(uint32_t workers)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_REPLICATED);

    config.confirm = true;
    config.workers = workers;
    replicas_come_up_as(&config);
}

static uint64_t confirm_count(uint32_t node, enum torc_counter counter)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < cluster.config.workers; i++) {
        count += cluster.rigs[node].workers[i]->stats->counters[counter];
    }
    return count;
}

static enum torc_err confirm_call(uint32_t node, const struct torc_request *request,
                                  uint32_t steps_max)
{
    struct torc_reply reply;

    CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, node, request, &reply, steps_max));
    return (enum torc_err)reply.status;
}

// All that reads waits, and for less than the time between two beats: one was asked for.
static void what_reads_waits_for_a_beat_and_all_else_does_not(uint32_t workers)
{
    struct torc_request get = torc_rig_get(5);
    struct torc_request none = torc_rig_get(6);
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 0, .hi = 10};
    struct torc_request clock = {.opcode = TORC_OPCODE_CLOCK, .lo = 0, .hi = 10};
    struct torc_request remove = {
        .opcode = TORC_OPCODE_DELETE, .key = 7, .wseq = 2, .lowest = 2, .attempt = 1};
    uint64_t waited;

    confirm_come_up(workers);
    waited = confirm_count(1, TORC_COUNTER_CONFIRM_WAITED);
    (void)replicas_put(5, "five", 1);
    CU_ASSERT_EQUAL(confirm_count(1, TORC_COUNTER_CONFIRM_WAITED), waited);
    CU_ASSERT_EQUAL(confirm_call(1, &get, 100), TORC_ERR_OK);
    CU_ASSERT_EQUAL(confirm_call(1, &none, 100), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(confirm_call(1, &range, 100), TORC_ERR_OK);
    CU_ASSERT_EQUAL(confirm_call(1, &clock, 100), TORC_ERR_OK);
    remove.stamp = torc_hlc_from_us(cluster.wall_us);
    remove.epoch = cluster.meta.records[1].epoch;
    CU_ASSERT_EQUAL(confirm_call(1, &remove, 100), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(confirm_count(1, TORC_COUNTER_CONFIRM_WAITED), waited + 5);
    CU_ASSERT_EQUAL(confirm_call(2, &get, 100), TORC_ERR_WRONG_SHARD); // at once: no primary
    CU_ASSERT_EQUAL(confirm_count(2, TORC_COUNTER_CONFIRM_WAITED), 0);
    torc_cluster_close(&cluster);
}

static void reads_wait_for_a_beat_that_was_asked_for(void)
{
    what_reads_waits_for_a_beat_and_all_else_does_not(1);
    what_reads_waits_for_a_beat_and_all_else_does_not(2);
}

// Its leases hold for 19 ms more, and that is nothing: it asks, and nobody answers.
static void a_primary_that_is_cut_off_reads_no_more(void)
{
    struct torc_request get = torc_rig_get(5);

    confirm_come_up(1);
    (void)replicas_put(5, "five", 1);
    CU_ASSERT_EQUAL(confirm_call(1, &get, 100), TORC_ERR_OK);
    cut_off(1, true);
    CU_ASSERT_EQUAL(confirm_call(1, &get, 5000), TORC_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(confirm_count(1, TORC_COUNTER_CONFIRM_REFUSED), 0);
    cut_off(1, false);
    (void)replicas_put(5, "FIVE", 2);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 200000));
    CU_ASSERT_EQUAL(confirm_call(torc_cluster_server(&cluster, 1), &get, 100), TORC_ERR_OK);
    torc_cluster_close(&cluster);
}

// Of 1,100 packets 1,024 wait, and the rest is refused at once; those that waited follow in 20 ms.
static void over_the_bound_reads_are_refused_at_once(void)
{
    struct torc_rig_client *client = &cluster.clients[1];
    struct torc_rig *rig = &cluster.rigs[1];
    struct torc_request get = torc_rig_get(5);
    struct torc_reply reply;
    uint32_t answers = 0;

    confirm_come_up(1);
    (void)replicas_put(5, "five", 1);
    cut_off(1, true);
    for (uint32_t i = 0; i < 1100; i++) {
        (void)torc_rig_add(client, &get);
        (void)torc_rig_flush(rig, client, 0);
        if (i % 50 == 0) {
            torc_cluster_step(&cluster);
        }
    }
    torc_cluster_run(&cluster, 10);
    while (torc_rig_next(rig, client, &reply)) {
        answers += reply.status == TORC_ERR_UNAVAILABLE ? 1 : 0;
    }
    CU_ASSERT_EQUAL(confirm_count(1, TORC_COUNTER_CONFIRM_REFUSED), 1100 - TORC_WORKER_KEPT);
    CU_ASSERT_EQUAL(answers, 1100 - TORC_WORKER_KEPT);
    for (uint32_t i = 0; i < 3000; i++) {
        torc_cluster_step(&cluster);
        while (torc_rig_next(rig, client, &reply)) {
            answers += reply.status == TORC_ERR_UNAVAILABLE ? 1 : 0;
        }
    }
    CU_ASSERT_EQUAL(answers, 1100);
    torc_cluster_close(&cluster);
}

// Its clock may have stood still, so it knows no age: its primaries confirm such reads as others,
// its other copies refuse them.
static void with_confirm_reads_of_a_bounded_age_are_confirmed(void)
{
    struct torc_reply reply;

    confirm_come_up(1);
    (void)replicas_put(5, "five", 1);
    CU_ASSERT_EQUAL(get_stale(1, 5, 0, &reply), TORC_ERR_OK); // that has to wait
    CU_ASSERT_EQUAL(confirm_count(1, TORC_COUNTER_CONFIRM_WAITED), 1);
    CU_ASSERT_EQUAL(get_stale(1, 5, 20, &reply), TORC_ERR_OK); // that as well
    CU_ASSERT_EQUAL(reply.body_bytes, 4);
    CU_ASSERT_EQUAL(confirm_count(1, TORC_COUNTER_CONFIRM_WAITED), 2);
    for (uint32_t i = 0; i < 20; i++) {
        CU_ASSERT_EQUAL(get_stale(2, 5, 20, &reply), TORC_ERR_TOO_STALE);
        torc_cluster_run(&cluster, 100);
    }
    cut_off(1, true);
    CU_ASSERT_EQUAL(get_stale(1, 5, 20, &reply), TORC_ERR_TOO_STALE);
    torc_cluster_close(&cluster);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a backup reads what is not too old", a_backup_reads_what_is_not_too_old},
        {"who is proposed has to keep what is read, from that turn on",
         who_is_proposed_has_to_keep_what_is_read_from_that_turn_on},
        {"reads wait for a beat that was asked for", reads_wait_for_a_beat_that_was_asked_for},
        {"a primary that is cut off reads no more", a_primary_that_is_cut_off_reads_no_more},
        {"over the bound reads are refused at once", over_the_bound_reads_are_refused_at_once},
        {"with confirm, reads of a bounded age are confirmed",
         with_confirm_reads_of_a_bounded_age_are_confirmed},
        {"a backup that is cut off soon says that it is too old",
         a_backup_that_is_cut_off_soon_says_that_it_is_too_old},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("replica reads", tests);
}
