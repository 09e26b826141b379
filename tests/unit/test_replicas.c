// Torc tests: the replicas of shards in workers, three nodes in one process (tests/cluster_rig.h):
// who leads, who follows, who comes back, and shards that come and go. Reads: test_replica_reads.c.
#include "dataplane/watch_impl.h"
#include "dataplane/worker_state.h"
#include "tests/unit/replicas_rig.h"

#include <stdlib.h>
#include <string.h>

// Gives the worker a map of nodes 2 to 1 + `count`.
static void name_nodes(struct torc_worker *worker, uint32_t count)
{
    worker->node_count = count;
    for (uint32_t i = 0; i < count; i++) {
        worker->nodes[i] = (struct torc_chan_node){
            .node = 2 + i, .cores = 1, .base_port = 28700, .address_count = 1};
    }
}

static bool has_met(const struct torc_worker *worker, uint32_t node)
{
    uint32_t nodes[TORC_PEERS_MAX];
    uint32_t count = torc_peers_met(worker->peers, nodes);
    bool found = false;

    for (uint32_t i = 0; i < count; i++) {
        found = found || nodes[i] == node;
    }
    return found;
}

// A map may have more nodes than there are seats for sessions: whoever has to do with a shard of
// ours has one, wherever it stands in the map.
static void partners_have_sessions_in_large_clusters(void)
{
    struct torc_council_note meet = {.kind = TORC_COUNCIL_MEET, .node = 90};
    struct torc_peers_config config = {
        .core_count = 1, .payload_max = 1472, .cargo_bytes_max = 4096};
    uint32_t nodes[TORC_PEERS_MAX];
    struct torc_turn turn = {0};
    struct torc_worker *worker;
    void *board;
    void *memory;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    worker = cluster.rigs[1].workers[0];
    board = aligned_alloc(128, (torc_peers_board_bytes(1) + 127) / 128 * 128);
    memory = aligned_alloc(128, (torc_peers_bytes(&config) + 127) / 128 * 128);
    torc_assert(board != NULL && memory != NULL);
    memset(board, 0, torc_peers_board_bytes(1));
    memset(memory, 0, torc_peers_bytes(&config));
    config.board = torc_peers_board_init(board, 1);
    worker->peers = torc_peers_init(memory, &config);
    name_nodes(worker, 100);
    torc_worker_peers_map(worker);
    CU_ASSERT_EQUAL(torc_peers_met(worker->peers, nodes), TORC_PEERS_MAX);
    CU_ASSERT_TRUE(has_met(worker, 2) && has_met(worker, 3));
    CU_ASSERT_FALSE(has_met(worker, 90));
    CU_ASSERT_TRUE(torc_worker_replica_note(worker, &meet));
    worker->turn = &turn;
    torc_worker_watch_turn(worker);
    worker->turn = NULL;
    CU_ASSERT_EQUAL(torc_peers_met(worker->peers, nodes), TORC_PEERS_MAX);
    CU_ASSERT_TRUE(has_met(worker, 2) && has_met(worker, 3) && has_met(worker, 90));
    name_nodes(worker, 80); // node 90 has left the map, and comes back
    torc_worker_peers_map(worker);
    CU_ASSERT_EQUAL(torc_peers_met(worker->peers, nodes), TORC_PEERS_MAX);
    CU_ASSERT_FALSE(has_met(worker, 90));
    name_nodes(worker, 100);
    torc_worker_peers_map(worker);
    CU_ASSERT_TRUE(has_met(worker, 2) && has_met(worker, 3) && has_met(worker, 90));
    name_nodes(worker, 2);
    torc_worker_peers_map(worker);
    CU_ASSERT_EQUAL(torc_peers_met(worker->peers, nodes), 2);
    torc_peers_close(worker->peers);
    worker->peers = NULL;
    free(memory);
    free(board);
    torc_cluster_close(&cluster);
}

static void a_put_is_on_all_three(void)
{
    uint64_t version;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    CU_ASSERT_EQUAL_FATAL(torc_cluster_put(&cluster, 1, 5, "five", 1, &version), TORC_ERR_OK);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 10000));
    for (uint32_t node = 1; node <= 3; node++) {
        CU_ASSERT_TRUE(torc_cluster_has(&cluster, node, 5, "five"));
    }
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void take_over(uint8_t durability, bool seen)
{
    uint64_t version;
    uint64_t again;

    replicas_come_up(durability);
    replicas_put_many(1, 50);
    version = replicas_put(5, "the last", 60);
    torc_cluster_kill(&cluster, 1, seen);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 100000));
    CU_ASSERT_NOT_EQUAL(torc_cluster_server(&cluster, 1), 1);
    for (uint32_t node = 2; node <= 3; node++) {
        replicas_check_many(node, 6, 45);
        CU_ASSERT_TRUE(torc_cluster_has(&cluster, node, 5, "the last"));
    }
    // A copy of the same write: its effect was one, and so is its answer (E3).
    again = replicas_put(5, "the last", 60);
    CU_ASSERT_EQUAL(again, version);
    replicas_put_many(101, 20);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 100000));
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void a_dead_primary_is_followed_and_nothing_is_lost(void)
{
    take_over(TORC_DURABILITY_DURABLE, false);
    take_over(TORC_DURABILITY_REPLICATED, false);
}

static void a_primary_seen_to_die_is_followed_sooner(void)
{
    take_over(TORC_DURABILITY_DURABLE, true);
}

// Its core had no processor for a moment, say. Left out, it would have to join before any write.
static void who_is_heard_but_slow_to_answer_is_not_left_out(void)
{
    const struct torc_chan_record *record = &cluster.meta.records[1];
    uint32_t epoch;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 10);
    epoch = record->epoch;
    torc_cluster_kill(&cluster, 1, true);
    cluster.cut[2][3] = cluster.cut[3][2] = true;
    torc_cluster_run(&cluster, 1500); // 15 ms; silence begins after 20 to 25
    cluster.cut[2][3] = cluster.cut[3][2] = false;
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 3000));
    CU_ASSERT_EQUAL(record->epoch, epoch + 1);
    replicas_put_many(11, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 10000));
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// Whether worker 0 publishes what the node promises for the first shard.
static bool has_lease_of(uint32_t node)
{
    const struct torc_worker *worker = cluster.rigs[1].workers[0];
    uint32_t place = (uint32_t)(torc_cluster_shard(&cluster, 1, 1) - worker->shards);
    struct torc_council_leases leases = {0};
    bool has = false;

    CU_ASSERT_TRUE(torc_council_read(worker->replicas.council, 0, place, &leases));
    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        has = has || leases.nodes[i] == node;
    }
    return has;
}

// The core of the node that has the first shard.
static uint32_t core_of(uint32_t node)
{
    return torc_worker_shard_number(cluster.rigs[node].workers[1], 1) == NULL ? 0 : 1;
}

// Where the first node takes the other's core to be.
static uint32_t core_known(uint32_t node)
{
    return torc_worker_replica_to(cluster.rigs[1].workers[core_of(1)],
                                  torc_cluster_shard(&cluster, 1, 1), node)
        .core;
}

// A map tells the cores of its own node alone.
static void forget_cores(struct torc_worker_replica *replica)
{
    struct torc_map_entry *entries = cluster.rigs[1].workers[core_of(1)]->map.entries;

    memset(replica->cores, 0, sizeof(replica->cores));
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t n = 0; n < entries[i].member_count; n++) {
            entries[i].members[n].core = TORC_MAP_CORE_UNKNOWN;
        }
    }
}

// Ten nodes that have no part in the first shard any more speak to its primary.
static void strangers_speak(void)
{
    struct torc_peer_op op = {
        .opcode = TORC_PEER_OP_PROBE_ACK,
        .message = {.kind = TORC_PEER_PROBE_ACK, .shard = 1, .probe_ack = {.suspect_node = 1}}};

    for (uint32_t node = 10; node < 10 + TORC_REPLICA_PEERS_MAX; node++) {
        struct torc_peer_from from = {.node = node, .boot = 1};

        torc_worker_replica_message(cluster.rigs[1].workers[core_of(1)], &from, &op);
    }
}

// In a long life more nodes speak of a shard than it has places for. Its members' cores are known.
static void the_cores_of_members_are_known_whoever_else_has_spoken(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    struct torc_worker_shard *shard;

    config.workers = 2;
    replicas_come_up_as(&config);
    shard = torc_cluster_shard(&cluster, 1, 1);
    forget_cores(shard->replica); // nobody has spoken yet
    strangers_speak();
    replicas_put_many(1, 10);
    strangers_speak();
    replicas_put_many(11, 10);
    for (uint32_t node = 2; node <= 3; node++) {
        CU_ASSERT_EQUAL(core_known(node), core_of(node));
    }
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 10000));
    CU_ASSERT_EQUAL(shard->replica->machine.counters.removals, 0);
    torc_cluster_close(&cluster);
}

// A node let go of the shard and was given it again, on its other core. Its one word from there was
// lost, and the primary has its core of before.
static void who_changed_its_core_unheard_is_found(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    struct torc_worker_replica *replica;

    config.workers = 2;
    replicas_come_up_as(&config);
    replicas_put_many(1, 10);
    replica = torc_cluster_shard(&cluster, 1, 1)->replica;
    for (uint32_t i = 0; i < TORC_REPLICA_PEERS_MAX; i++) {
        replica->cores[i].core ^= replica->cores[i].node == 2 ? 1 : 0;
    }
    for (uint32_t i = 0; i < replica->machine.peer_count; i++) {
        struct torc_replica_peer *peer = &replica->machine.peers[i];

        peer->acked_boot = peer->node == 2 ? 0 : peer->acked_boot;
    }
    replica->touched = true;
    torc_cluster_run(&cluster, 10000); // 100 ms
    CU_ASSERT_EQUAL(replica->machine.counters.removals, 0);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 1000));
    CU_ASSERT_EQUAL(core_known(2), core_of(2));
    torc_cluster_close(&cluster);
}

// A node of few packets sends so many records in a turn.
#define FEW_RECORDS 4u

static uint64_t few_turn_ns;
static uint32_t few_count;

// The last records of the first shard go to node 2, from the eighth on, again and again.
static void few_rewind(void)
{
    struct torc_worker_replica *replica = torc_cluster_shard(&cluster, 1, 1)->replica;
    struct torc_worker_shipping *shipping = &replica->shipping[TORC_REPLICA_PEERS_MAX - 1];
    uint64_t end_lsn = replica->machine.last_lsn + 1;

    if (shipping->node == 0 || shipping->lsn + 1 >= end_lsn) {
        *shipping = (struct torc_worker_shipping){
            .node = 2, .epoch = replica->machine.epoch, .lsn = end_lsn - 8, .end_lsn = end_lsn};
    }
}

static bool few_room(void *context, uint32_t index)
{
    (void)context;
    (void)index;
    few_rewind();
    few_count = few_turn_ns == cluster.now_ns ? few_count + 1 : 1;
    few_turn_ns = cluster.now_ns;
    return few_count <= FEW_RECORDS;
}

// Two shards of one primary. The first has more to send than leaves in any turn.
static void a_shard_that_sends_without_end_leaves_room_for_others(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    uint64_t version;

    config.shards = 6;
    replicas_come_up_as(&config);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 4, 1, 3, 100000));
    replicas_put_many(1, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 10000));
    cluster.ends[1].post.room = few_room;
    few_rewind();
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t start_ns = cluster.now_ns;

        CU_ASSERT_EQUAL(torc_cluster_put(&cluster, 1, KEYS / 2 + i, "small", 11 + i, &version),
                        TORC_ERR_OK);
        CU_ASSERT_TRUE(cluster.now_ns - start_ns < 1000000);
    }
    CU_ASSERT_EQUAL(torc_cluster_shard(&cluster, 1, 4)->replica->machine.counters.removals, 0);
    cluster.ends[1].post.room = NULL;
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 4, 1, 3, 10000));
    torc_cluster_compare(&cluster, 4);
    torc_cluster_close(&cluster);
}

// All places for claims of one node on another are taken, by other shards' claims.
static void fill_claims(uint32_t node, uint32_t on)
{
    struct torc_watch_peer *peer =
        torc_watch_find(&cluster.rigs[node].workers[0]->replicas.watch->watch, on);

    torc_assert(peer != NULL);
    for (uint32_t slot = 0; slot < TORC_CLAIMS_MAX; slot++) {
        if (peer->claims[slot].epoch == 0) {
            peer->claims[slot] = (struct torc_watch_claim){
                .shard = 1000 + slot, .epoch = 1, .changed = ++peer->claim_version};
        }
    }
    peer->claim_end = TORC_CLAIMS_MAX;
}

static void free_claims(uint32_t node, uint32_t on)
{
    struct torc_watch_peer *peer =
        torc_watch_find(&cluster.rigs[node].workers[0]->replicas.watch->watch, on);

    for (uint32_t slot = 0; slot < TORC_CLAIMS_MAX; slot++) {
        if (peer->claims[slot].shard >= 1000) {
            peer->claims[slot].epoch = 0;
            peer->claims[slot].changed = ++peer->claim_version;
        }
    }
    peer->claim_due = true;
}

static uint32_t alarms_of(uint32_t node)
{
    const struct torc_fake_control *control = &cluster.rigs[node].controls[0];
    uint32_t count = 0;

    for (uint32_t i = 0; i < control->event_count; i++) {
        count += control->events[i].kind == TORC_EVT_ALARM ? 1 : 0;
    }
    return count;
}

// A takeover that finds no place for a claim on the other member is one all the same: writes go on.
// Nobody reads until a place is free; then it is taken.
static void who_finds_no_place_for_a_claim_takes_writes(void)
{
    uint32_t server = 0;
    uint64_t version;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 10);
    fill_claims(2, 3);
    fill_claims(3, 2);
    torc_cluster_kill(&cluster, 1, true);
    for (uint32_t i = 0; i < 1000 && server == 0; i++) {
        torc_cluster_run(&cluster, 100);
        for (uint32_t node = 2; node <= 3; node++) {
            server = torc_cluster_shard(&cluster, node, 1)->engine.state == TORC_SHARD_ACTIVE
                         ? node
                         : server;
        }
    }
    CU_ASSERT_NOT_EQUAL_FATAL(server, 0);
    CU_ASSERT_EQUAL(torc_cluster_put(&cluster, server, 5, "five", 11, &version), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_cluster_server(&cluster, 1), 0); // without the lease
    CU_ASSERT_EQUAL(alarms_of(server), 1);
    free_claims(2, 3);
    free_claims(3, 2);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, server, 2, 100000));
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// Wished, it speaks; and is wished no more when the next one is.
static void learns_for_a_while(uint32_t node)
{
    struct torc_worker_replica *replica = torc_cluster_shard(&cluster, 1, 1)->replica;
    bool learns = false;

    replica->machine.want = (struct torc_replica_want){.node_count = 4, .nodes = {1, 2, 3, node}};
    replica->touched = true;
    torc_cluster_step(&cluster);
    for (uint32_t i = 0; i < replica->machine.peer_count; i++) {
        struct torc_replica_peer *peer = &replica->machine.peers[i];

        if (peer->node == node && peer->role == TORC_REPLICA_PEER_LEARNER) {
            learns = true;
            peer->acked_boot = 1;
        }
    }
    CU_ASSERT_TRUE(learns);
    replica->touched = true;
    torc_cluster_run(&cluster, 100);
}

// In one epoch there may be more learners, one after another, than a shard has places for.
static void the_last_of_many_learners_has_a_lease(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    for (uint32_t node = 10; node < 10 + 2 * TORC_REPLICA_PEERS_MAX; node++) {
        learns_for_a_while(node);
        CU_ASSERT_TRUE(has_lease_of(node));
        CU_ASSERT_TRUE(has_lease_of(2) && has_lease_of(3));
    }
    learns_for_a_while(10); // again
    CU_ASSERT_TRUE(has_lease_of(10));
    torc_cluster_close(&cluster);
}

static bool first_is_silent(void)
{
    return torc_watch_peer_state(&cluster.rigs[2].workers[0]->replicas.watch->watch, 1).silent &&
           torc_watch_peer_state(&cluster.rigs[3].workers[0]->replicas.watch->watch, 1).silent;
}

// S2: a core of the first node loses its processor while it sleeps. It may sleep as long as it
// likes until it is rung; then others take over what it leads, whatever the other core says.
static void a_sleeper_that_is_rung_in_vain_is_not_covered_by_other_cores(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    struct torc_rig *rig = &cluster.rigs[1];
    struct torc_chan_worker *page;

    config.workers = 2;
    replicas_come_up_as(&config);
    page = torc_chan_worker_page(rig->workers[0]->config.chan, 1);
    rig->held[1] = true;
    atomic_store(&page->sleeping, 1);
    torc_cluster_run(&cluster, 6000);
    CU_ASSERT_FALSE(first_is_silent());
    for (uint32_t i = 0; i < 6000; i++) { // again and again
        CU_ASSERT_TRUE(torc_chan_wants_bell(page));
        torc_chan_rang(page, torc_chan_bell_ns(page, cluster.now_ns), cluster.now_ns);
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_TRUE(first_is_silent());
    rig->held[1] = false;
    atomic_store(&page->sleeping, 0);
    torc_cluster_run(&cluster, 1000);
    CU_ASSERT_FALSE(first_is_silent());
    for (uint32_t shard = 1; shard <= 3; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, 0, 3, 400000));
    }
    torc_cluster_close(&cluster);
}

static void a_dead_backup_is_removed_and_writes_go_on(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 10);
    torc_cluster_kill(&cluster, 3, false);
    replicas_put_many(11, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 2, 100000));
    replicas_check_many(2, 1, 20);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// A get at a moment that no ceiling covers yet.
static void read_ahead(uint32_t node, uint64_t key, uint64_t ts)
{
    struct torc_request get = {
        .opcode = TORC_OPCODE_GET, .flags = TORC_GET_AT, .key = key, .ts = ts};
    struct torc_reply reply = {.status = TORC_ERR_BUSY};

    CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, node, &get, &reply, 1000));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_BUSY);
    for (uint32_t i = 0; i < 100 && reply.status == TORC_ERR_BUSY; i++) {
        torc_cluster_run(&cluster, 100);
        CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, node, &get, &reply, 1000));
    }
    CU_ASSERT_TRUE(reply.status == TORC_ERR_OK || reply.status == TORC_ERR_NOT_FOUND);
}

// H5: a timestamp above all that is committed is readable when every member keeps a ceiling.
static void a_moment_is_read_when_all_members_keep_it(void)
{
    uint64_t ts;
    uint64_t version;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 10);
    ts = torc_hlc_from_us(cluster.wall_us);
    read_ahead(1, 5, ts);
    // Whoever follows stamps above it.
    torc_cluster_kill(&cluster, 1, true);
    version = replicas_put(5, "later", 20);
    CU_ASSERT_TRUE(version > ts);
    torc_cluster_close(&cluster);
}

// How far the next record's stamp is from the time of day.
static bool stamps_are_near(uint64_t key, uint64_t wseq)
{
    uint64_t us = torc_hlc_us(replicas_put(key, "now", wseq));
    uint64_t wall_us = cluster.wall_us;

    return (us > wall_us ? us - wall_us : wall_us - us) < 2 * UINT64_C(1000000);
}

// H3: the node of the primary has its clock set an hour ahead, or back. Nobody is refused, and
// nobody stamps an hour ahead.
static void a_clock_that_is_set_wrong_takes_nobody_with_it(void)
{
    static const int64_t steps_us[] = {INT64_C(3600000000), -INT64_C(3600000000)};

    for (uint32_t i = 0; i < TORC_COUNT_OF(steps_us); i++) {
        uint64_t version;

        replicas_come_up(TORC_DURABILITY_DURABLE);
        CU_ASSERT_TRUE(stamps_are_near(4, 1));
        cluster.rigs[1].wall_us += (uint64_t)steps_us[i];
        torc_cluster_run(&cluster, 20000);
        CU_ASSERT_EQUAL(torc_cluster_put(&cluster, 1, 5, "five", 2, &version), TORC_ERR_OK);
        CU_ASSERT_TRUE(stamps_are_near(6, 3));
        torc_cluster_close(&cluster);
    }
}

// The same for one that starts with it, and is made primary: it finds out from the others' beats,
// though it takes nothing else of what they say for true at first.
static void a_clock_that_was_wrong_at_the_start_is_outvoted(void)
{
    static const int64_t steps_us[] = {INT64_C(3600000000), -INT64_C(3600000000)};
    struct torc_cmd_want want = {.primary_node = 3, .node_count = 3, .nodes = {1, 2, 3}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(steps_us); i++) {
        replicas_come_up(TORC_DURABILITY_DURABLE);
        CU_ASSERT_TRUE(stamps_are_near(4, 1));
        torc_cluster_kill(&cluster, 3, true);
        torc_cluster_run(&cluster, 20000);
        cluster.wall_us += (uint64_t)steps_us[i];
        torc_cluster_start(&cluster, 3, true);
        cluster.wall_us -= (uint64_t)steps_us[i];
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
        torc_fake_meta_want(&cluster.meta, 1, &want);
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 3, 3, 100000));
        CU_ASSERT_TRUE(stamps_are_near(6, 3));
        torc_cluster_close(&cluster);
    }
}

// No time of day that an HLC could hold: it moves nobody.
static void a_time_of_day_out_of_range_is_not_heard(void)
{
    static const uint64_t times_us[] = {UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 52};

    replicas_come_up(TORC_DURABILITY_DURABLE);
    for (uint32_t i = 0; i < TORC_COUNT_OF(times_us); i++) {
        struct torc_rig *rig = &cluster.rigs[1];
        struct torc_watch *watch = &rig->workers[0]->replicas.watch->watch;

        torc_watch_wall(watch, rig->now_ns, 2, UINT64_MAX, times_us[i]);
        torc_watch_wall(watch, rig->now_ns, 3, UINT64_MAX, times_us[i]);
        torc_cluster_run(&cluster, 2000);
        CU_ASSERT_TRUE(stamps_are_near(4 + i, 1 + i));
    }
    torc_cluster_close(&cluster);
}

// All clocks are set back by half a minute, and one node comes back with an empty disk. It refuses
// nothing that the others hold, nor clients that have heard them.
static void who_has_no_log_goes_on_from_what_the_others_hold(void)
{
    struct torc_worker *worker;
    struct torc_watch *watch;
    uint64_t held_us;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    held_us = torc_hlc_us(replicas_put(5, "five", 1));
    torc_cluster_kill(&cluster, 3, true);
    for (uint32_t node = 1; node <= 3; node++) {
        cluster.rigs[node].wall_us -= UINT64_C(30000000);
        cluster.cut[node][3] = node != 3; // no record tells it
    }
    cluster.wall_us -= UINT64_C(30000000);
    torc_cluster_start(&cluster, 3, false);
    torc_cluster_run(&cluster, 2000);
    worker = cluster.rigs[3].workers[0];
    watch = &worker->replicas.watch->watch;
    torc_watch_held(watch, cluster.rigs[3].now_ns, 1, held_us);
    torc_cluster_run(&cluster, 2000);
    CU_ASSERT(worker->wall_us < held_us - 3000000); // one alone may be wrong
    torc_watch_held(watch, cluster.rigs[3].now_ns, 2, held_us);
    torc_cluster_run(&cluster, 2000);
    CU_ASSERT(worker->wall_us >= held_us);
    CU_ASSERT(worker->wall_us < held_us + 1000000);
    memset(cluster.cut, 0, sizeof(cluster.cut));
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    CU_ASSERT(torc_hlc_us(replicas_put(6, "six", 2)) < held_us + 1000000);
    torc_cluster_close(&cluster);
}

// The same by records alone: a base that it is given is far ahead of it.
static void who_is_given_a_base_goes_on_from_its_end(void)
{
    uint64_t held_us;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    held_us = torc_hlc_us(replicas_put(5, "five", 1));
    torc_cluster_kill(&cluster, 3, true);
    for (uint32_t node = 1; node <= 3; node++) {
        cluster.rigs[node].wall_us -= UINT64_C(30000000);
    }
    cluster.wall_us -= UINT64_C(30000000);
    for (uint32_t node = 1; node <= 2; node++) { // who starts follows a step
        torc_cluster_kill(&cluster, node, true);
        torc_cluster_start(&cluster, node, true);
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 400000));
    }
    torc_cluster_start(&cluster, 3, false);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    torc_cluster_run(&cluster, 10);
    CU_ASSERT(cluster.rigs[3].workers[0]->wall_us >= held_us);
    torc_cluster_close(&cluster);
}

static void below_min_in_sync_no_write_is_taken(void)
{
    uint64_t version;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 10);
    torc_cluster_kill(&cluster, 3, true);
    torc_cluster_kill(&cluster, 2, true);
    for (uint32_t i = 0; i < 1000 && cluster.meta.records[1].member_count > 1; i++) {
        torc_cluster_run(&cluster, 100);
    }
    torc_cluster_run(&cluster, 100);
    CU_ASSERT_EQUAL(torc_cluster_server(&cluster, 1), 1);
    CU_ASSERT_EQUAL(torc_cluster_put(&cluster, 1, 5, "alone", 99, &version), TORC_ERR_UNAVAILABLE);
    replicas_check_many(1, 1, 10);
    torc_cluster_close(&cluster);
}

static void a_primary_is_handed_over_on_request(void)
{
    struct torc_cmd_want want = {.primary_node = 2, .node_count = 3, .nodes = {1, 2, 3}};

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 30);
    torc_fake_meta_want(&cluster.meta, 1, &want);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 2, 3, 100000));
    replicas_put_many(31, 30);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 2, 3, 100000));
    for (uint32_t node = 1; node <= 3; node++) {
        replicas_check_many(node, 1, 60);
    }
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void a_lossy_network_only_takes_longer(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    cluster.loss_ppm = 50000;
    replicas_put_many(1, 200);
    cluster.loss_ppm = 0;
    replicas_put_many(201, 1); // a lost commit mark comes with the next record
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    for (uint32_t node = 1; node <= 3; node++) {
        replicas_check_many(node, 102, 100);
    }
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void a_backup_that_restarts_at_once_stays_a_member(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 30);
    torc_cluster_kill(&cluster, 3, false);
    torc_cluster_start(&cluster, 3, true);
    replicas_put_many(31, 30);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    replicas_check_many(3, 1, 60);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void third_is_left_out(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 30);
    torc_cluster_kill(&cluster, 3, true);
    replicas_put_many(31, 30);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 2, 100000));
}

static void a_member_removed_comes_back_by_the_log(void)
{
    third_is_left_out();
    torc_cluster_start(&cluster, 3, true);
    replicas_put_many(61, 30);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    replicas_check_many(3, 1, 90);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// Its one copy in sync may come back, or never: whoever asks is told where to look.
static void a_copy_left_out_says_when_nobody_in_sync_is_heard(void)
{
    struct torc_request get = torc_rig_get(5);
    struct torc_reply reply;

    third_is_left_out();
    torc_cluster_kill(&cluster, 1, true);
    torc_cluster_kill(&cluster, 2, true);
    torc_cluster_start(&cluster, 3, true);
    torc_cluster_run(&cluster, 10000);
    CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, 3, &get, &reply, 5000));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(reply.info & 0xff, TORC_UNAVAILABLE_NO_COPY);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(torc_reason_text(TORC_ERR_UNAVAILABLE, reply.info), "torc shard accept-loss"));
    torc_cluster_start(&cluster, 2, true);
    CU_ASSERT_TRUE(torc_cluster_settle(&cluster, 1, 0, 2, 400000));
    replicas_check_many(2, 1, 60);
    torc_cluster_close(&cluster);
}

// J3, H5: a moment that is covered by what is committed needs no ceiling, of who joins neither.
static void who_comes_back_after_a_moment_was_read_joins(void)
{
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .flags = TORC_GET_AT, .key = 5};
    struct torc_reply reply;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    torc_cluster_kill(&cluster, 3, true);
    get.ts = replicas_put(5, "now", 1);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 2, 100000));
    CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, 1, &get, &reply, 1000));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    torc_cluster_start(&cluster, 3, true);
    CU_ASSERT_TRUE(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    torc_cluster_close(&cluster);
}

// A learner is silent until its primary speaks, which knew it on the core of its last life.
static void who_comes_back_with_a_shard_on_another_core_joins(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);

    config.workers = 2;
    replicas_come_up_as(&config);
    replicas_put_many(1, 20);
    torc_cluster_kill(&cluster, 3, true);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 2, 100000));
    for (uint32_t worker = 0; worker < config.workers; worker++) {
        struct torc_fake_shard *shard = &cluster.rigs[3].controls[worker].shards[0];

        shard->core = shard->core == 0 ? 1 : 0;
    }
    torc_cluster_start(&cluster, 3, false);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 100000));
    replicas_check_many(3, 1, 20);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void a_primary_that_restarts_takes_over_from_itself_or_follows(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 30);
    torc_cluster_kill(&cluster, 1, true);
    torc_cluster_start(&cluster, 1, true);
    replicas_put_many(31, 30);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    for (uint32_t node = 1; node <= 3; node++) {
        replicas_check_many(node, 1, 60);
    }
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void all_lose_power_and_nothing_acknowledged_is_lost(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 60);
    for (uint32_t node = 1; node <= 3; node++) {
        torc_cluster_kill(&cluster, node, false);
    }
    for (uint32_t node = 1; node <= 3; node++) {
        torc_cluster_start(&cluster, node, true);
    }
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 1000000));
    replicas_put_many(61, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 100000));
    for (uint32_t node = 1; node <= 3; node++) {
        replicas_check_many(node, 1, 70);
    }
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void wish_for(uint32_t shard, uint32_t primary, uint32_t first, uint32_t second,
                     uint32_t third)
{
    struct torc_cmd_want want = {
        .primary_node = primary, .node_count = third == 0 ? 2 : 3, .nodes = {first, second, third}};

    torc_fake_meta_want(&cluster.meta, shard, &want);
}

// A shard's record is put back from before a transfer, while no node runs: M3 holds over a restart.
// Nobody adopts it, and no dataplane ends; the other shards serve.
static void who_starts_with_a_log_above_its_record_stays_out(void)
{
    struct torc_chan_record before;
    struct torc_chan_record after;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 20);
    before = cluster.meta.records[1];
    wish_for(1, 2, 1, 2, 3);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 2, 3, 100000));
    replicas_put_many(21, 20);
    for (uint32_t node = 1; node <= 3; node++) {
        torc_cluster_kill(&cluster, node, false);
    }
    after = cluster.meta.records[1];
    CU_ASSERT_TRUE_FATAL(before.epoch < after.epoch);
    cluster.meta.records[1] = before;
    for (uint32_t node = 1; node <= 3; node++) {
        torc_cluster_start(&cluster, node, true);
    }
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 2, 0, 3, 1000000));
    torc_cluster_run(&cluster, 20000);
    CU_ASSERT_EQUAL(cluster.meta.records[1].epoch, before.epoch);
    for (uint32_t node = 1; node <= 3; node++) {
        const struct torc_replica *machine =
            &torc_cluster_shard(&cluster, node, 1)->replica->machine;

        CU_ASSERT_TRUE(machine->went_back);
        CU_ASSERT_EQUAL(machine->epoch, 0);
    }
    cluster.meta.records[1] = after;
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 1000000));
    for (uint32_t node = 1; node <= 3; node++) {
        replicas_check_many(node, 1, 40);
    }
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// -- Shards given and taken while a node runs -----------------------------------------------------

// H5, J3: a ceiling that members keep for another primary allows a read; who joins then is told.
static void who_joins_keeps_what_members_kept_for_somebody_else(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .flags = TORC_GET_AT, .key = 5};
    struct torc_reply reply;

    config.min_in_sync = 1;
    torc_cluster_open(&cluster, &config);
    wish_for(1, 1, 1, 2, 0);
    wish_for(2, 3, 1, 3, 0);
    wish_for(3, 3, 1, 3, 0);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 2, 400000));
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 2, 3, 2, 400000));
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 3, 3, 2, 400000));
    torc_cluster_kill(&cluster, 2, true);
    (void)replicas_put(5, "alone", 1);
    read_ahead(3, KEYS - 1, torc_hlc_from_us(cluster.wall_us));
    get.ts = torc_hlc_from_us(cluster.wall_us + 100000);
    CU_ASSERT_TRUE(get.ts > torc_cluster_shard(&cluster, 1, 1)->engine.applied_hlc);
    CU_ASSERT_TRUE_FATAL(torc_cluster_call(&cluster, 1, &get, &reply, 1000));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK); // nobody was asked to keep it
    torc_cluster_start(&cluster, 2, true);
    CU_ASSERT_TRUE(torc_cluster_settle(&cluster, 1, 0, 2, 400000));
    torc_cluster_close(&cluster);
}

static void until_gone(uint32_t node, uint32_t shard)
{
    for (uint32_t i = 0; i < 100000 && torc_cluster_shard(&cluster, node, shard) != NULL; i++) {
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_PTR_NULL_FATAL(torc_cluster_shard(&cluster, node, shard));
}

static void give_and_take(uint8_t durability)
{
    const struct torc_worker *worker;
    uint32_t chunks;

    replicas_come_up(durability);
    worker = cluster.rigs[3].workers[0];
    chunks = torc_chunk_pool_free(&worker->chunks);
    for (uint32_t round = 0; round < 3; round++) {
        replicas_put_many(1 + UINT64_C(200) * round, 50);
        wish_for(1, 1, 1, 2, 0);
        until_gone(3, 1);
        CU_ASSERT_TRUE(torc_chunk_pool_free(&worker->chunks) > chunks);
        replicas_put_many(51 + UINT64_C(200) * round, 20);
        CU_ASSERT_EQUAL(worker->open_count, 2);
        CU_ASSERT_EQUAL(worker->replicas.count, 2);
        wish_for(1, 1, 1, 2, 3);
        replicas_put_many(71 + UINT64_C(200) * round, 50);
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 400000));
        replicas_check_many(3, 21 + UINT64_C(200) * round, 100);
        torc_cluster_compare(&cluster, 1);
    }
    CU_ASSERT_EQUAL(cluster.rigs[3].controls[0].gone, 3);
    // What it has is on its disk: of the shard's lives the last one counts.
    torc_cluster_kill(&cluster, 3, true);
    torc_cluster_start(&cluster, 3, durability == TORC_DURABILITY_DURABLE);
    replicas_put_many(521, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    replicas_check_many(3, 431, 100);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void a_shard_taken_away_leaves_and_comes_back_by_a_base(void)
{
    give_and_take(TORC_DURABILITY_DURABLE);
    give_and_take(TORC_DURABILITY_REPLICATED);
}

// How often node 3 said that it begins no shard 1, in place of an alarm.
static uint32_t refusals(void)
{
    struct torc_fake_control *control = &cluster.rigs[3].controls[0];
    uint32_t count = 0;

    for (uint32_t i = 0; i < control->event_count; i++) {
        const struct torc_evt *event = &control->events[i];

        CU_ASSERT_NOT_EQUAL(event->kind, TORC_EVT_ALARM);
        count += event->kind == TORC_EVT_SHARD_GONE && event->role.shard == 1 &&
                         event->role.role == TORC_ERR_NO_SPACE && event->role.epoch != 0
                     ? 1
                     : 0;
    }
    control->event_count = 0;
    return count;
}

// Control hears of it, and may order it again when there is some.
static void a_shard_that_finds_no_memory_is_refused(void)
{
    struct torc_chunk_pool *pool;
    uint32_t taken[64];
    uint32_t count = 0;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    pool = &cluster.rigs[3].workers[0]->chunks;
    wish_for(1, 1, 1, 2, 0);
    until_gone(3, 1);
    CU_ASSERT_TRUE_FATAL(torc_chunk_pool_free(pool) <= TORC_COUNT_OF(taken));
    while (torc_chunk_pool_free(pool) > 0) {
        taken[count++] = torc_chunk_pool_take(pool);
    }
    CU_ASSERT_EQUAL(refusals(), 0);
    wish_for(1, 1, 1, 2, 3);
    torc_cluster_run(&cluster, 100);
    CU_ASSERT_TRUE(refusals() > 0);
    CU_ASSERT_PTR_NULL(torc_cluster_shard(&cluster, 3, 1));
    while (count > 0) {
        torc_chunk_pool_give(pool, taken[--count]);
    }
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 400000));
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// A place that is free again is another shard's; what came for the one before is not for it.
static void places_of_shards_are_used_again(void)
{
    uint32_t place;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    wish_for(1, 1, 1, 2, 0);
    wish_for(2, 2, 2, 1, 0);
    until_gone(3, 1);
    until_gone(3, 2);
    wish_for(2, 2, 2, 1, 3);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 2, 2, 3, 400000));
    wish_for(1, 3, 1, 2, 3);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 3, 3, 400000));
    place = (uint32_t)(torc_cluster_shard(&cluster, 3, 2) - cluster.rigs[3].workers[0]->shards);
    CU_ASSERT_EQUAL(place, 0);
    replicas_put_many(1, 50);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 3, 3, 100000));
    replicas_check_many(1, 1, 50);
    for (uint32_t shard = 1; shard <= 3; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, 0, 3, 100000));
        torc_cluster_compare(&cluster, shard);
    }
    torc_cluster_close(&cluster);
}

// The record was read for a replica that led, dropped the shard, and was made anew.
static void a_record_read_for_the_copy_before_is_not_for_the_next(void)
{
    struct torc_fake_control *control;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 50);
    control = &cluster.rigs[1].controls[0];
    control->late = true;
    cluster.meta.changed[1]++; // it reads, and hears nothing
    for (uint32_t i = 0; i < 100000 && control->held.kind == 0; i++) {
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_EQUAL_FATAL(control->held.record.shard, 1);
    CU_ASSERT_EQUAL_FATAL(control->held.record.record.primary_node, 1);
    wish_for(1, 2, 1, 2, 3);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 2, 3, 100000));
    wish_for(1, 2, 2, 3, 0);
    until_gone(1, 1);
    wish_for(1, 2, 1, 2, 3);
    for (uint32_t i = 0; i < 100000 && torc_cluster_shard(&cluster, 1, 1) == NULL; i++) {
        torc_cluster_step(&cluster);
    }
    cluster.meta.away = true; // what it reads itself is not answered
    for (uint32_t i = 0; i < 20000 && !torc_cluster_shard(&cluster, 1, 1)->replica->live; i++) {
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_TRUE_FATAL(torc_cluster_shard(&cluster, 1, 1)->replica->live);
    CU_ASSERT_EQUAL(torc_cluster_shard(&cluster, 1, 1)->replica->machine.epoch, 0);
    control->late = false;
    torc_cluster_run(&cluster, 10);
    cluster.meta.away = false;
    CU_ASSERT_EQUAL(torc_cluster_shard(&cluster, 1, 1)->replica->machine.role,
                    TORC_REPLICA_LEARNER);
    replicas_put_many(51, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 2, 3, 400000));
    replicas_check_many(1, 1, 60);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void a_new_control_is_told_of_all_shards(void)
{
    struct torc_fake_control *control;
    uint32_t here = 0;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    wish_for(2, 2, 2, 1, 0);
    until_gone(3, 2);
    control = &cluster.rigs[3].controls[0];
    control->event_count = 0;
    torc_fake_control_hello(control, 2);
    torc_cluster_run(&cluster, 10);
    for (uint32_t i = 0; i < control->event_count; i++) {
        const struct torc_evt *event = &control->events[i];

        if (event->kind == TORC_EVT_SHARD_HERE) {
            CU_ASSERT_EQUAL(event->here.shard, here == 0 ? 1 : 3);
            CU_ASSERT_EQUAL(event->here.hello, 2);
            CU_ASSERT_EQUAL(event->here.copy, cluster.meta.node_copy[3]);
            CU_ASSERT_TRUE(event->here.lo < event->here.hi);
            here++;
        }
        CU_ASSERT_TRUE(event->kind != TORC_EVT_CONTROL_SEEN || here == 2);
    }
    CU_ASSERT_EQUAL(here, 2);
    torc_cluster_close(&cluster);
}

// The one before it died while it asked: its answers lie in the ring, and are told apart.
static void answers_name_the_control_that_asked(void)
{
    struct torc_fake_control *control;
    uint32_t here[4] = {0};
    uint32_t seen = 0;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    control = &cluster.rigs[3].controls[0];
    control->event_count = 0;
    torc_fake_control_hello(control, 2);
    torc_fake_control_hello(control, 3);
    torc_cluster_run(&cluster, 10);
    for (uint32_t i = 0; i < control->event_count; i++) {
        const struct torc_evt *event = &control->events[i];

        if (event->kind == TORC_EVT_SHARD_HERE) {
            CU_ASSERT_FATAL(event->here.hello == 2 || event->here.hello == 3);
            CU_ASSERT_TRUE(event->here.hello == 3 || seen == 0);
            here[event->here.hello]++;
        }
        seen = event->kind == TORC_EVT_CONTROL_SEEN ? event->seen.hello : seen;
    }
    CU_ASSERT_EQUAL(seen, 3);
    CU_ASSERT_EQUAL(here[3], 3); // all of them, whatever the one before was told
    torc_cluster_close(&cluster);
}

// -- A disk that does not answer ------------------------------------------------------------------

#define DISK_STEPS 100u // a millisecond

// A put to node 1, whose answer the disk keeps back.
static void put_pending(uint64_t key, const char *text, uint64_t wseq)
{
    uint64_t version = 0;

    CU_ASSERT_EQUAL(torc_cluster_put(&cluster, 1, key, text, wseq, &version), TORC_ERR_DEADLINE);
}

static uint32_t health_of(uint32_t node)
{
    return atomic_load(&cluster.rigs[node].workers[0]->replicas.council->health);
}

// For so many milliseconds the disk of node 1 answers every `every_ms` alone, 0: never. Whether it
// led shard 1 all the time, and was well.
static bool disk_answers(uint32_t every_ms, uint32_t for_ms)
{
    struct torc_fake_control *control = &cluster.rigs[1].controls[0];
    uint32_t epoch = cluster.meta.records[1].epoch;
    bool well = true;

    for (uint32_t ms = 1; ms <= for_ms; ms++) {
        control->disk_stuck = every_ms == 0 || ms % every_ms != every_ms / 2;
        torc_cluster_run(&cluster, DISK_STEPS);
        well = well && cluster.meta.records[1].epoch == epoch &&
               (health_of(1) & TORC_HEALTH_STALLED) == 0;
    }
    return well;
}

// Who takes blocks and answers none is followed like the dead, and what it had taken is there once.
// When its disk answers it is a member again.
static void a_primary_with_a_disk_that_hangs_is_relieved(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 20);
    cluster.rigs[1].controls[0].disk_stuck = true;
    put_pending(5, "pending", 30);
    CU_ASSERT_TRUE(disk_answers(0, 1800)); // other members lag no more than it does
    CU_ASSERT_FALSE(disk_answers(0, 300));
    CU_ASSERT_EQUAL(health_of(1), TORC_HEALTH_STALLED);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 600 * DISK_STEPS));
    CU_ASSERT_NOT_EQUAL(torc_cluster_server(&cluster, 1), 1);
    CU_ASSERT_NOT_EQUAL(replicas_put(5, "pending", 30), 0);
    replicas_put_many(100, 20);
    CU_ASSERT_EQUAL(health_of(1), TORC_HEALTH_STALLED); // it still is
    cluster.rigs[1].controls[0].disk_stuck = false;
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 2000 * DISK_STEPS));
    CU_ASSERT_EQUAL(health_of(1), 0);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// One storage of all nodes: who would take over has a disk that hangs as well, and says so later.
static void who_waits_for_its_own_disk_relieves_nobody(void)
{
    uint32_t epoch;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 20);
    epoch = cluster.meta.records[1].epoch;
    for (uint32_t node = 1; node <= 3; node++) {
        for (uint32_t shard = 1; shard <= 3; shard++) { // all stay members
            torc_cluster_shard(&cluster, node, shard)->replica->machine.timing.lag_ns =
                UINT64_C(10000000000);
        }
    }
    cluster.rigs[1].controls[0].disk_stuck = true;
    put_pending(5, "pending", 30);
    CU_ASSERT_TRUE(disk_answers(0, 500));
    cluster.rigs[2].controls[0].disk_stuck = cluster.rigs[3].controls[0].disk_stuck = true;
    put_pending(6, "and later", 31);
    CU_ASSERT_FALSE(disk_answers(0, 2500));
    CU_ASSERT_EQUAL(health_of(1), TORC_HEALTH_STALLED);
    CU_ASSERT_EQUAL(cluster.meta.records[1].epoch, epoch);
    CU_ASSERT_EQUAL(torc_cluster_server(&cluster, 1), 1); // reads go on
    for (uint32_t node = 1; node <= 3; node++) {
        cluster.rigs[node].controls[0].disk_stuck = false;
    }
    // Whose disk came back first may lead now.
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 100 * DISK_STEPS));
    CU_ASSERT_TRUE(torc_cluster_has(&cluster, 2, 5, "pending"));
    torc_cluster_close(&cluster);
}

// Half a second for each answer, at which writes stand all the time.
static void a_primary_with_a_slow_disk_is_not_relieved(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 20);
    cluster.rigs[1].controls[0].disk_stuck = true;
    for (uint32_t i = 0; i < 5; i++) {
        put_pending(10 + i, "slow", 30 + i);
        CU_ASSERT_TRUE(disk_answers(500, 1000));
    }
    cluster.rigs[1].controls[0].disk_stuck = false;
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 100 * DISK_STEPS));
    torc_cluster_close(&cluster);
}

// Control is away, who brings the disk's news; by control-grace, an hour here, it may be.
static void a_control_that_is_away_is_no_disk_that_hangs(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 20);
    cluster.rigs[1].workers[0]->config.control_grace_ms = 3600000;
    cluster.rigs[1].controls[0].disk_stuck = true;
    cluster.rigs[1].controls[0].away = true;
    put_pending(5, "pending", 30);
    CU_ASSERT_TRUE(disk_answers(0, 2500));
    cluster.rigs[1].controls[0].away = false;
    CU_ASSERT_TRUE(disk_answers(0, 1500)); // it has the block since now
    cluster.rigs[1].controls[0].disk_stuck = false;
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 100 * DISK_STEPS));
    torc_cluster_close(&cluster);
}

// With `replicated` no answer waits for the disk.
static void where_no_answer_waits_for_the_disk_it_may_hang(void)
{
    replicas_come_up(TORC_DURABILITY_REPLICATED);
    replicas_put_many(1, 20);
    cluster.rigs[1].controls[0].disk_stuck = true;
    replicas_put_many(100, 20);
    CU_ASSERT_TRUE(disk_answers(0, 2500));
    torc_cluster_close(&cluster);
}

// Nobody is there to take over: writes wait for the disk, and none is refused.
static void where_nobody_can_relieve_it_writes_wait_for_the_disk(void)
{
    struct torc_cluster_config config = replicas_config(TORC_DURABILITY_DURABLE);
    uint64_t version = 0;

    config.replicas = 1;
    config.min_in_sync = 1;
    torc_cluster_open(&cluster, &config);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 1, 100000));
    cluster.rigs[1].controls[0].disk_stuck = true;
    put_pending(5, "first", 30);
    CU_ASSERT_FALSE(disk_answers(0, 2200));
    CU_ASSERT_EQUAL(health_of(1), TORC_HEALTH_STALLED);
    put_pending(6, "second", 31);
    cluster.rigs[1].controls[0].disk_stuck = false;
    torc_cluster_run(&cluster, 10 * DISK_STEPS);
    CU_ASSERT_EQUAL(health_of(1), 0);
    CU_ASSERT_EQUAL(torc_cluster_put(&cluster, 1, 6, "second", 31, &version), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_cluster_has(&cluster, 1, 5, "first"));
    torc_cluster_close(&cluster);
}

static CU_TestInfo tests[] = {
    {"a put is on all three nodes", a_put_is_on_all_three},
    {"partners have sessions in large clusters", partners_have_sessions_in_large_clusters},
    {"a dead primary is followed and nothing is lost",
     a_dead_primary_is_followed_and_nothing_is_lost},
    {"a primary seen to die is followed sooner", a_primary_seen_to_die_is_followed_sooner},
    {"who is heard but slow to answer is not left out",
     who_is_heard_but_slow_to_answer_is_not_left_out},
    {"the cores of members are known whoever else has spoken",
     the_cores_of_members_are_known_whoever_else_has_spoken},
    {"who changed its core unheard is found", who_changed_its_core_unheard_is_found},
    {"a shard that sends without end leaves room for others",
     a_shard_that_sends_without_end_leaves_room_for_others},
    {"who finds no place for a claim takes writes", who_finds_no_place_for_a_claim_takes_writes},
    {"the last of many learners has a lease", the_last_of_many_learners_has_a_lease},
    {"a sleeper that is rung in vain is not covered by other cores",
     a_sleeper_that_is_rung_in_vain_is_not_covered_by_other_cores},
    {"a dead backup is removed and writes go on", a_dead_backup_is_removed_and_writes_go_on},
    {"a moment is read when all members keep it", a_moment_is_read_when_all_members_keep_it},
    {"a clock that is set wrong takes nobody with it",
     a_clock_that_is_set_wrong_takes_nobody_with_it},
    {"who has no log goes on from what the others hold",
     who_has_no_log_goes_on_from_what_the_others_hold},
    {"who is given a base goes on from its end", who_is_given_a_base_goes_on_from_its_end},
    {"a clock that was wrong at the start is outvoted",
     a_clock_that_was_wrong_at_the_start_is_outvoted},
    {"a time of day out of range is not heard", a_time_of_day_out_of_range_is_not_heard},
    {"below min_in_sync no write is taken", below_min_in_sync_no_write_is_taken},
    {"a primary is handed over on request", a_primary_is_handed_over_on_request},
    {"a lossy network only takes longer", a_lossy_network_only_takes_longer},
    {"a backup that restarts at once stays a member",
     a_backup_that_restarts_at_once_stays_a_member},
    {"a member removed comes back by the log", a_member_removed_comes_back_by_the_log},
    {"a copy left out says when nobody in sync is heard",
     a_copy_left_out_says_when_nobody_in_sync_is_heard},
    {"who comes back after a moment was read joins", who_comes_back_after_a_moment_was_read_joins},
    {"who comes back with a shard on another core joins",
     who_comes_back_with_a_shard_on_another_core_joins},
    {"who joins keeps what members kept for somebody else",
     who_joins_keeps_what_members_kept_for_somebody_else},
    {"who starts with a log above its record stays out",
     who_starts_with_a_log_above_its_record_stays_out},
    {"a primary that restarts takes over from itself, or follows",
     a_primary_that_restarts_takes_over_from_itself_or_follows},
    {"all lose power, and nothing acknowledged is lost",
     all_lose_power_and_nothing_acknowledged_is_lost},
    {"a shard that is taken away leaves, and comes back by a base",
     a_shard_taken_away_leaves_and_comes_back_by_a_base},
    {"a shard that finds no memory is refused", a_shard_that_finds_no_memory_is_refused},
    {"places of shards are used again", places_of_shards_are_used_again},
    {"a record read for the copy before is not for the next one",
     a_record_read_for_the_copy_before_is_not_for_the_next},
    {"a new control is told of all shards", a_new_control_is_told_of_all_shards},
    {"answers name the control that asked", answers_name_the_control_that_asked},
    {"a primary with a disk that hangs is relieved", a_primary_with_a_disk_that_hangs_is_relieved},
    {"who waits for its own disk relieves nobody", who_waits_for_its_own_disk_relieves_nobody},
    {"a primary with a slow disk is not relieved", a_primary_with_a_slow_disk_is_not_relieved},
    {"a control that is away is no disk that hangs", a_control_that_is_away_is_no_disk_that_hangs},
    {"where no answer waits for the disk it may hang",
     where_no_answer_waits_for_the_disk_it_may_hang},
    {"where nobody can relieve it writes wait for the disk",
     where_nobody_can_relieve_it_writes_wait_for_the_disk},
    CU_TEST_INFO_NULL,
};

int main(void)
{
    return torc_test_run("replicas", tests);
}
