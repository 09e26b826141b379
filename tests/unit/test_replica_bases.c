// Torc tests: replicas that are filled by a base, three nodes in one process (tests/cluster_rig.h).
// How many there may be at once: test_bases.c.
#include "dataplane/worker_state.h"
#include "tests/unit/replicas_rig.h"

#include <string.h>

// Without `durable`, a copy goes on only after a stop that wrote the log.
static void await_written(uint32_t node)
{
    const struct torc_log_writer *log = &cluster.rigs[node].workers[0]->log;

    for (uint32_t i = 0; i < 1000 && !torc_log_writer_settled(log); i++) {
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_TRUE_FATAL(torc_log_writer_settled(log));
}

// The records of the last while are not at hand any more.
static void restart_first_two(uint64_t wseq)
{
    for (uint32_t node = 1; node <= 2; node++) {
        await_written(node);
        torc_cluster_kill(&cluster, node, true);
        torc_cluster_start(&cluster, node, true);
        replicas_put_many(wseq, 5);
        wseq += 5;
    }
}

// The third node comes back with nothing, and what the others have is to be had as a base alone.
static void third_starts_empty(uint8_t durability)
{
    replicas_come_up(durability);
    replicas_put_many(1, 90);
    torc_cluster_kill(&cluster, 3, true);
    restart_first_two(91);
    torc_cluster_start(&cluster, 3, false);
}

static void a_node_with_an_empty_disk_comes_back_by_a_base(uint8_t durability)
{
    third_starts_empty(durability);
    replicas_put_many(101, 40);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    replicas_check_many(3, 41, 100);
    CU_ASSERT_NOT_EQUAL(torc_cluster_shard(&cluster, 3, 1)->replica->machine.base_stream, 0);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// Its log then has what it got before, and what came behind the base that was not kept.
static void a_learner_that_dies_amid_its_base_takes_another(void)
{
    const struct torc_replica *machine;
    uint32_t begun = 0;

    third_starts_empty(TORC_DURABILITY_DURABLE);
    for (uint32_t life = 0; life < 12; life++) {
        machine = &torc_cluster_shard(&cluster, 3, 1)->replica->machine;
        for (uint32_t i = 0; i < 50000 && machine->base_stream == 0; i++) {
            torc_cluster_step(&cluster);
        }
        torc_cluster_run(&cluster, (uint32_t)torc_rng_below(&cluster.rng, 300));
        begun += machine->base_stream != 0 && !machine->base_durable ? 1 : 0;
        replicas_put_many(101 + 10 * life, 5);
        torc_cluster_kill(&cluster, 3, true);
        replicas_put_many(106 + 10 * life, 5);
        torc_cluster_start(&cluster, 3, true);
    }
    CU_ASSERT_TRUE(begun > 0);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    replicas_check_many(3, 171, 50);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// How many bases a node's worker makes for another.
static uint32_t streams_to(uint32_t from, uint32_t to)
{
    const struct torc_worker *worker = cluster.rigs[from].workers[0];
    uint32_t count = 0;

    for (uint32_t i = 0; i < TORC_WORKER_STREAMS; i++) {
        count += worker->replicas.streams[i].node == to ? 1 : 0;
    }
    return count;
}

// It died when a worker made as many bases for it as it can make at once.
static void a_node_that_is_away_keeps_no_other_from_its_base(void)
{
    uint32_t sender = 0;

    third_starts_empty(TORC_DURABILITY_DURABLE);
    for (uint32_t i = 0; i < 400000 && sender == 0; i++) {
        torc_cluster_step(&cluster);
        sender = streams_to(1, 3) == TORC_WORKER_STREAMS ? 1 : sender;
        sender = streams_to(2, 3) == TORC_WORKER_STREAMS ? 2 : sender;
    }
    CU_ASSERT_NOT_EQUAL_FATAL(sender, 0);
    torc_cluster_kill(&cluster, 3, false);
    torc_cluster_kill(&cluster, 3 - sender, true);
    torc_cluster_start(&cluster, 3 - sender, false);
    for (uint32_t shard = 1; shard <= 3; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, 0, 2, 200000));
    }
    replicas_put_many(101, 10);
    torc_cluster_start(&cluster, 3, true);
    for (uint32_t shard = 1; shard <= 3; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, 0, 3, 400000));
        torc_cluster_compare(&cluster, shard);
    }
    torc_cluster_close(&cluster);
}

// What was being written of the tree before is no checkpoint any more: control hears so, for it
// would wait for ever, and write no other one of this worker.
static void a_base_ends_the_checkpoint_that_is_being_made(void)
{
    struct torc_fake_control *control = &cluster.rigs[3].controls[0];
    struct torc_replica_action reset = {.kind = TORC_REPLICA_RESET};
    struct torc_worker_shard *shard;
    char text[1000];
    uint32_t failed = 0;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (uint64_t key = 1; key <= 300; key++) { // several blocks, one a turn
        (void)replicas_put(key, text, key);
    }
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 1, 3, 10000));
    control->event_count = 0;
    shard = torc_cluster_shard(&cluster, 3, 1);
    torc_fake_control_checkpoint(control, 0);
    while (shard->checkpoint_number == 0) {
        torc_cluster_step(&cluster);
    }
    reset.lsn = shard->replica->machine.last_lsn;
    shard->replica->machine.base_loading = true; // as with each RESET
    torc_worker_replica_base(cluster.rigs[3].workers[0], shard, &reset);
    for (uint32_t i = 0; i < 100 && shard->checkpoint_number != 0; i++) {
        torc_cluster_step(&cluster);
    }
    torc_cluster_step(&cluster);
    CU_ASSERT_EQUAL(shard->checkpoint_number, 0);
    for (uint32_t i = 0; i < control->event_count; i++) {
        failed += control->events[i].kind == TORC_EVT_CHECKPOINT_DONE &&
                  control->events[i].checkpoint.failed == 1;
    }
    CU_ASSERT_EQUAL(failed, 1);
    torc_cluster_close(&cluster);
}

// From where on the third node's log says that nothing is here, as the last third_unmade heard.
static uint64_t third_begun;

// What the answer to an order of a checkpoint of shard 1 says of why none was made.
static uint32_t third_unmade(void)
{
    struct torc_fake_control *control = &cluster.rigs[3].controls[0];
    uint32_t unmade = 0;

    third_begun = 0;
    control->event_count = 0;
    torc_fake_control_checkpoint(control, 0);
    for (uint32_t i = 0; i < 20 && unmade == 0; i++) {
        torc_cluster_step(&cluster);
        for (uint32_t at = 0; at < control->event_count; at++) {
            const struct torc_evt *event = &control->events[at];

            if (event->kind == TORC_EVT_CHECKPOINT_DONE) {
                unmade = event->checkpoint.failed;
                third_begun = event->checkpoint.start_sequence;
            }
        }
    }
    return unmade;
}

// Steps until the third node is amid a base of shard 1.
static bool third_loads(void)
{
    const struct torc_replica *machine = &torc_cluster_shard(&cluster, 3, 1)->replica->machine;

    for (uint32_t i = 0; i < 200000 && (machine->has_base || !machine->base_loading); i++) {
        torc_cluster_step(&cluster);
    }
    return machine->base_loading && !machine->has_base;
}

static uint32_t third_alarms(void)
{
    const struct torc_fake_control *control = &cluster.rigs[3].controls[0];
    uint32_t count = 0;

    for (uint32_t i = 0; i < control->event_count; i++) {
        count += control->events[i].kind == TORC_EVT_ALARM ? 1 : 0;
    }
    return count;
}

static void third_is_cut_off(void)
{
    for (uint32_t node = 1; node <= 2; node++) {
        cluster.cut[node][3] = cluster.cut[3][node] = true;
    }
}

// The others go on without it, and it hears of them again when it needs a base.
static void third_is_removed_and_loads(uint64_t wseq)
{
    third_is_cut_off();
    replicas_put_many(wseq, 10);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 2, 100000));
    restart_first_two(wseq + 10);
    memset(cluster.cut, 0, sizeof(cluster.cut));
    CU_ASSERT_TRUE_FATAL(third_loads());
}

// Its log was lost amid a base, and made whole by another; it was a member, is removed, and takes
// one more. A record of when it was a member comes late.
static void who_was_made_whole_heeds_a_late_record(void)
{
    struct torc_cmd late = {.kind = TORC_CMD_RECORD};

    replicas_come_up(TORC_DURABILITY_DURABLE);
    third_is_removed_and_loads(1);
    await_written(3); // that it began anew
    torc_cluster_kill(&cluster, 3, true);
    torc_cluster_start(&cluster, 3, true);
    CU_ASSERT_TRUE_FATAL(third_loads());
    CU_ASSERT_TRUE_FATAL(torc_cluster_shard(&cluster, 3, 1)->replica->lost);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    late.record.shard = 1;
    late.record.record = cluster.meta.records[1];
    third_is_removed_and_loads(21);
    cluster.rigs[3].controls[0].event_count = 0;
    torc_worker_replica_order(cluster.rigs[3].workers[0], &late);
    torc_cluster_run(&cluster, 10);
    CU_ASSERT_EQUAL(third_alarms(), 0);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    replicas_check_many(3, 1, 40);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// No round of checkpoints is a failure because of it.
static void a_replica_without_a_base_says_that_it_has_nothing(void)
{
    third_starts_empty(TORC_DURABILITY_DURABLE);
    CU_ASSERT_EQUAL(third_unmade(), TORC_CHAN_UNMADE_NOTHING);
    CU_ASSERT_TRUE_FATAL(third_loads());
    CU_ASSERT_EQUAL(third_unmade(), TORC_CHAN_UNMADE_NOTHING);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    CU_ASSERT_EQUAL(third_unmade(), 0);
    torc_cluster_close(&cluster);
}

// What a new control hears of shard 1 there: whether its log goes on from a base.
static bool third_has_base_here(void)
{
    struct torc_fake_control *control = &cluster.rigs[3].controls[0];
    uint32_t has_base = UINT32_MAX;

    control->event_count = 0;
    torc_fake_control_hello(control, 2);
    torc_cluster_run(&cluster, 10);
    for (uint32_t at = 0; at < control->event_count; at++) {
        const struct torc_evt *event = &control->events[at];

        if (event->kind == TORC_EVT_SHARD_HERE && event->here.shard == 1) {
            has_base = event->here.has_base;
        }
    }
    CU_ASSERT_TRUE_FATAL(has_base != UINT32_MAX);
    return has_base != 0;
}

// A member that comes back as a learner is emptied for a base, and dies amid it: its log says that
// what it had is of no use any more, in each of its lives.
static void a_replica_that_was_emptied_says_since_when(void)
{
    uint64_t begun;

    replicas_come_up(TORC_DURABILITY_DURABLE);
    CU_ASSERT_EQUAL(third_unmade(), 0);
    CU_ASSERT_TRUE(third_has_base_here());
    cluster.rigs[3].controls[0].disk_stuck = true;
    third_is_removed_and_loads(1);
    CU_ASSERT_FALSE(third_has_base_here());
    begun = torc_cluster_shard(&cluster, 3, 1)->replica->begun_sequence;
    CU_ASSERT_TRUE(begun > 0);
    CU_ASSERT_EQUAL(third_unmade(), TORC_CHAN_UNMADE_NOTHING);
    CU_ASSERT_EQUAL(third_begun, 0);
    cluster.rigs[3].controls[0].disk_stuck = false;
    await_written(3);
    CU_ASSERT_EQUAL(third_unmade(), TORC_CHAN_UNMADE_NOTHING);
    CU_ASSERT_EQUAL(third_begun, begun);
    torc_cluster_kill(&cluster, 3, true);
    third_is_cut_off();
    torc_cluster_start(&cluster, 3, true);
    torc_cluster_run(&cluster, 1000);
    await_written(3);
    CU_ASSERT_EQUAL(third_unmade(), TORC_CHAN_UNMADE_NOTHING);
    CU_ASSERT_TRUE(third_begun > begun);
    begun = third_begun;
    memset(cluster.cut, 0, sizeof(cluster.cut));
    CU_ASSERT_TRUE_FATAL(third_loads());
    await_written(3);
    CU_ASSERT_EQUAL(third_unmade(), TORC_CHAN_UNMADE_NOTHING);
    CU_ASSERT_TRUE(third_begun > begun);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    CU_ASSERT_EQUAL(third_unmade(), 0);
    CU_ASSERT_EQUAL(torc_cluster_shard(&cluster, 3, 1)->replica->begun_sequence, 0); // it has
    replicas_check_many(3, 1, 10);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

// The place in what the third node's worker said of shard 1 of the first of that kind (and role);
// UINT32_MAX: it did not.
static uint32_t third_said(uint32_t kind, uint32_t role)
{
    const struct torc_fake_control *control = &cluster.rigs[3].controls[0];

    for (uint32_t at = 0; at < control->event_count; at++) {
        const struct torc_evt *event = &control->events[at];

        if (event->kind == kind && event->role.shard == 1 && event->role.role == role) {
            return at;
        }
    }
    return UINT32_MAX;
}

// The others have all records still, so it takes no base. Control lets the log go under who has
// nothing: it hears that this is over before records come, that a checkpoint may be ordered.
static void who_gets_all_records_says_so_as_with_a_base(void)
{
    replicas_come_up(TORC_DURABILITY_DURABLE);
    replicas_put_many(1, 20);
    torc_cluster_kill(&cluster, 3, true);
    cluster.rigs[3].controls[0].event_count = 0;
    torc_cluster_start(&cluster, 3, false);
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    CU_ASSERT_EQUAL(torc_cluster_shard(&cluster, 3, 1)->replica->machine.base_stream, 0);
    CU_ASSERT_TRUE(third_said(TORC_EVT_ROLE, TORC_CHAN_BACKUP) != UINT32_MAX);
    CU_ASSERT_TRUE(third_said(TORC_EVT_CHECKPOINT, 0) <
                   third_said(TORC_EVT_ROLE, TORC_CHAN_BACKUP));
    CU_ASSERT_EQUAL(third_unmade(), 0);
    torc_cluster_run(&cluster, 100000);
    cluster.rigs[3].controls[0].event_count = 0;
    torc_cluster_run(&cluster, 100000);
    CU_ASSERT_EQUAL(third_said(TORC_EVT_CHECKPOINT, 0), UINT32_MAX); // one was kept
    torc_cluster_close(&cluster);
}

static bool third_has_a_place_for(uint32_t shard)
{
    const struct torc_worker *worker = cluster.rigs[3].workers[0];
    bool has = false;

    for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
        has = has || worker->replicas.loads[i].shard == shard;
    }
    return has;
}

// For want of memory, say: other shards have its place and its memory at once, and it is begun
// again.
static void a_base_that_cannot_be_stored_frees_its_place(void)
{
    static const unsigned char bytes[64];
    const struct torc_peer_cargo cargo = {.bytes = bytes, .byte_count = sizeof(bytes)};
    struct torc_replica_action store = {.kind = TORC_REPLICA_STORE};
    struct torc_worker *worker;
    struct torc_worker_shard *shard;
    struct torc_tree_write came = {.key = 7, .version = 1, .value = bytes, .value_bytes = 8};
    struct torc_tree_hit hit;
    struct torc_fail why = {0};
    uint64_t stream;

    third_starts_empty(TORC_DURABILITY_DURABLE);
    CU_ASSERT_TRUE_FATAL(third_loads());
    worker = cluster.rigs[3].workers[0];
    shard = torc_cluster_shard(&cluster, 3, 1);
    stream = shard->replica->machine.base_stream;
    CU_ASSERT_TRUE_FATAL(third_has_a_place_for(1));
    store.piece = shard->replica->machine.base_piece;
    worker->replicas.cargo = &cargo;
    TORC_TEST_OK(torc_tree_write(&shard->engine.tree, &came, NULL), &why);
    CU_ASSERT_TRUE(torc_tree_lookup(&shard->engine.tree, came.key, &hit));
    torc_worker_replica_base(worker, shard, &store);
    CU_ASSERT_FALSE(torc_tree_lookup(&shard->engine.tree, came.key, &hit));
    worker->replicas.cargo = NULL;
    torc_worker_replica_step(worker, shard, NULL);
    CU_ASSERT_TRUE(torc_replica_base_given_up(&shard->replica->machine));
    torc_worker_base_turn(worker, shard);
    CU_ASSERT_FALSE(third_has_a_place_for(1));
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 400000));
    CU_ASSERT_TRUE(shard->replica->machine.base_stream > stream);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

static void an_empty_disk_is_filled_by_a_base(void)
{
    a_node_with_an_empty_disk_comes_back_by_a_base(TORC_DURABILITY_DURABLE);
    a_node_with_an_empty_disk_comes_back_by_a_base(TORC_DURABILITY_REPLICATED);
}

// Its primary dies, and it may be long until the next one has a place for it.
static void a_base_whose_sender_is_gone_gives_back_what_it_took(void)
{
    static const unsigned char bytes[64];
    struct torc_tree_write came = {.key = 7, .version = 1, .value = bytes, .value_bytes = 8};
    const struct torc_replica *machine;
    struct torc_worker_shard *shard;
    struct torc_tree_hit hit;
    struct torc_fail why = {0};
    uint32_t sender;

    third_starts_empty(TORC_DURABILITY_DURABLE);
    CU_ASSERT_TRUE_FATAL(third_loads());
    shard = torc_cluster_shard(&cluster, 3, 1);
    machine = &shard->replica->machine;
    sender = machine->base_node;
    TORC_TEST_OK(torc_tree_write(&shard->engine.tree, &came, NULL), &why);
    third_is_cut_off();
    torc_cluster_kill(&cluster, sender, true);
    torc_cluster_start(&cluster, sender, true);
    for (uint32_t i = 0; i < 2000000 && !torc_replica_base_given_up(machine); i++) {
        torc_cluster_step(&cluster);
    }
    CU_ASSERT_TRUE_FATAL(torc_replica_base_given_up(machine));
    torc_cluster_step(&cluster);
    CU_ASSERT_FALSE(third_has_a_place_for(1));
    CU_ASSERT_FALSE(torc_tree_lookup(&shard->engine.tree, came.key, &hit));
    memset(cluster.cut, 0, sizeof(cluster.cut));
    CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, 1, 0, 3, 1000000));
    replicas_check_many(3, 41, 60);
    torc_cluster_compare(&cluster, 1);
    torc_cluster_close(&cluster);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"an empty disk is filled by a base", an_empty_disk_is_filled_by_a_base},
        {"a node that is away keeps no other from its base",
         a_node_that_is_away_keeps_no_other_from_its_base},
        {"a replica without a base says that it has nothing",
         a_replica_without_a_base_says_that_it_has_nothing},
        {"a replica that was emptied says since when", a_replica_that_was_emptied_says_since_when},
        {"who gets all records says so as with a base",
         who_gets_all_records_says_so_as_with_a_base},
        {"a base that cannot be stored frees its place",
         a_base_that_cannot_be_stored_frees_its_place},
        {"a base whose sender is gone gives back what it took",
         a_base_whose_sender_is_gone_gives_back_what_it_took},
        {"a base ends the checkpoint that is being made",
         a_base_ends_the_checkpoint_that_is_being_made},
        {"a learner that dies amid its base takes another",
         a_learner_that_dies_amid_its_base_takes_another},
        {"who was made whole heeds a late record", who_was_made_whole_heeds_a_late_record},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("replica-bases", tests);
}
