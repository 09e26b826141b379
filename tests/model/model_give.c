// Torc tests: a model of shards given to a running node and taken from it.
//
// What    records and wishes of a few shards change at random, with gaps; the survey hears of each
//         change late, or not at all until the next one; the metastore answers, is away, or answers
//         late, after a dataplane died in between. Workers take their orders one after another, at
//         once or after seconds: they let go, or do not (the shard is a member by its own word), or
//         have no memory for one that is to begin. The shell is this file.
// Oracle  G1: what is ordered away was not named by its record when that was read last, nor by its
//         wish, which was read after it; G2: one at a time; no two workers have one shard. When all
//         stands still: the table is exactly what records and wishes name, and workers have exactly
//         that (G4).
#include "control/give.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define SHARDS  6u
#define NODES   5u
#define SELF    2u
#define WORKERS 3u
#define TICKET  UINT64_C(0x777)
#define STEPS   4000u
#define STEP_NS UINT64_C(20000000)
#define QUEUE   4096u // more than a life has

// In their order: orders to a worker (turn 0: SHARD_GONE), or its answers.
struct queue {
    struct torc_evt_role items[QUEUE]; // `epoch`: the turn
    bool ready[QUEUE];                 // SHARD_READY
    uint32_t first;
    uint32_t count;
};

struct worker {
    uint32_t turns[SHARDS + 1]; // of those that it has; 0: none
    struct queue orders;
    struct queue answers;
    uint64_t sleeps_until_ns;
};

struct world {
    struct torc_rng rng;
    uint64_t now_ns;
    uint64_t version;
    uint32_t members[SHARDS + 1]; // a bit for each node
    uint32_t wished[SHARDS + 1];
    bool shard_due[SHARDS + 1]; // the survey has not heard
    bool want_due[SHARDS + 1];
    bool read_record[SHARDS + 1]; // as GET last answered: it does not name us
    bool read_want[SHARDS + 1];
    bool has_request;
    struct torc_meta_request request;
    char key[TORC_RECORD_NAME_BYTES];
    uint32_t ordered; // shard
    uint64_t orders;
    uint64_t late; // let go of when nobody waited for it any more
    uint64_t refused;
    uint32_t line_turns[SHARDS + 1]; // of DATA/replicas
    bool writing[SHARDS + 1];        // a checkpoint
    bool no_memory;
    uint32_t gone_turn; // the highest of all workers
    struct worker workers[WORKERS];
    struct torc_give give;
};

static struct world w;
static struct torc_survey survey;
static struct torc_cluster cluster;
static struct torc_cluster_shard places[SHARDS];

static bool chance(uint32_t percent)
{
    return torc_rng_below(&w.rng, 100) < percent;
}

static uint32_t text_of(uint32_t shard, bool want, char *text)
{
    struct torc_shard_fields record = {
        .lo = shard, .hi = shard + 1, .epoch = (uint32_t)w.version, .primary_boot = 1};
    struct torc_want_fields wish = {0};

    for (uint32_t node = 1; node <= NODES; node++) {
        if ((w.members[shard] >> node & 1) != 0) {
            record.primary_node = node;
            record.insync.at[record.insync.count++] =
                (struct torc_record_member){.node = node, .copy = 1};
        }
        if ((w.wished[shard] >> node & 1) != 0) {
            wish.nodes.at[wish.nodes.count++] = node;
        }
    }
    return want ? torc_record_encode(TORC_RECORD_WANT, &wish, text)
                : torc_record_encode(TORC_RECORD_SHARD, &record, text);
}

static void hear(uint32_t shard, bool want)
{
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_record record = {.key = name, .value = text, .version = ++w.version};
    struct torc_fail why;
    bool changed;

    torc_record_name(name, want ? "want" : "shard", shard);
    record.value_bytes = text_of(shard, want, text);
    TORC_TEST_OK(torc_survey_put(&survey, &record, &changed, &why), &why);
    *(want ? &w.want_due[shard] : &w.shard_due[shard]) = false;
}

static void hear_all(void)
{
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        hear(shard, false);
        hear(shard, true);
    }
    torc_give_look(&w.give, w.now_ns);
}

static uint32_t some_nodes(void)
{
    uint32_t nodes = 0;

    while (nodes == 0) {
        nodes = (uint32_t)torc_rng_below(&w.rng, 1u << NODES) << 1;
        nodes &= chance(60) ? ~(1u << SELF) : UINT32_MAX;
    }
    return nodes;
}

static void change(void)
{
    uint32_t shard = 1 + (uint32_t)torc_rng_below(&w.rng, SHARDS);

    if (chance(50)) {
        w.members[shard] = some_nodes();
        w.shard_due[shard] = true;
    } else {
        w.wished[shard] = some_nodes();
        w.want_due[shard] = true;
    }
}

// -- The metastore --------------------------------------------------------------------------------

static void answer(bool well)
{
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_record record = {.key = w.key, .value = text, .version = 1};
    struct torc_meta_answer given = {.ticket = w.request.ticket, .err = TORC_ERR_UNAVAILABLE};
    uint64_t shard = 0;
    bool want = torc_record_id(w.key, "want", &shard);
    bool current = w.request.ticket >> 32 == w.give.serial && w.give.asked;

    CU_ASSERT_TRUE_FATAL(want || torc_record_id(w.key, "shard", &shard));
    if (well) {
        record.value_bytes = text_of((uint32_t)shard, want, text);
        given.err = TORC_ERR_OK;
        given.records = &record;
        given.record_count = 1;
    }
    if (current && want) {
        w.read_want[shard] = well && (w.wished[shard] >> SELF & 1) == 0;
    } else if (current) {
        w.read_record[shard] = well && (w.members[shard] >> SELF & 1) == 0;
        w.read_want[shard] = false; // it has to be read after the record
    }
    w.has_request = false;
    torc_give_take(&w.give, w.now_ns, &given);
}

static void ask(void)
{
    if (!w.has_request && torc_give_next(&w.give, w.now_ns, &w.request)) {
        CU_ASSERT_TRUE(torc_give_is_mine(&w.give, w.request.ticket));
        w.has_request = true;
        (void)snprintf(w.key, sizeof(w.key), "%s", w.request.key);
    }
}

// -- The workers ----------------------------------------------------------------------------------

static void push(struct queue *queue, const struct torc_evt_role *item, bool ready)
{
    uint32_t at = (queue->first + queue->count++) % QUEUE;

    torc_assert(queue->count <= QUEUE);
    queue->items[at] = *item;
    queue->ready[at] = ready;
}

static struct torc_evt_role pop(struct queue *queue, bool *ready)
{
    uint32_t at = queue->first;

    queue->first = (queue->first + 1) % QUEUE;
    queue->count--;
    *ready = queue->ready[at];
    return queue->items[at];
}

static void worker_open(struct worker *worker, struct torc_evt_role order)
{
    uint32_t turn = (uint32_t)torc_max_u64(order.epoch, w.gone_turn);

    for (uint32_t i = 0; i < WORKERS; i++) {
        CU_ASSERT_EQUAL(w.workers[i].turns[order.shard], 0);
    }
    if (w.no_memory) {
        order.role = (uint32_t)TORC_ERR_NO_SPACE;
        w.refused++;
    } else {
        worker->turns[order.shard] = turn + 1; // its first base
    }
    push(&worker->answers, &order, !w.no_memory);
}

static void worker_take(struct worker *worker, bool obeys)
{
    bool opens;
    struct torc_evt_role order = pop(&worker->orders, &opens);

    if (opens) {
        worker_open(worker, order);
        return;
    }
    if (worker->turns[order.shard] != 0 && !obeys) {
        return; // a member
    }
    order.epoch = worker->turns[order.shard];
    w.gone_turn = (uint32_t)torc_max_u64(w.gone_turn, order.epoch);
    worker->turns[order.shard] = 0;
    push(&worker->answers, &order, false);
}

static void workers_step(bool faults)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct worker *worker = &w.workers[i];

        if (faults && torc_rng_chance(&w.rng, 6000)) {
            worker->sleeps_until_ns = w.now_ns + torc_rng_below(&w.rng, UINT64_C(6000000000));
        }
        for (uint32_t shard = 1; shard <= SHARDS && faults; shard++) {
            worker->turns[shard] += worker->turns[shard] != 0 && chance(1) ? 1 : 0; // a base
        }
        while (worker->orders.count > 0 && w.now_ns >= worker->sleeps_until_ns &&
               (!faults || chance(60))) {
            worker_take(worker, !faults || chance(70));
        }
    }
}

// -- The shell ------------------------------------------------------------------------------------

static void open_fresh(void)
{
    struct torc_cluster_shard *shard;

    while ((shard = torc_give_fresh(&w.give, w.now_ns, WORKERS)) != NULL) {
        struct torc_evt_role order = {.shard = shard->shard};

        CU_ASSERT_TRUE(shard->worker < WORKERS);
        CU_ASSERT_TRUE(shard->replica);
        shard->turn = ++w.line_turns[shard->shard];
        order.epoch = shard->turn;
        push(&w.workers[shard->worker].orders, &order, true);
    }
}

static void order(void)
{
    struct torc_cluster_shard *shard = torc_give_sure(&w.give);
    struct torc_evt_role gone = {0};

    if (shard != NULL && shard->unnamed_ns == 0) {
        torc_give_up(&w.give, w.now_ns);
        return;
    }
    if (shard != NULL && !w.writing[shard->shard]) {
        CU_ASSERT_TRUE(w.read_record[shard->shard]); // G1
        CU_ASSERT_TRUE(w.read_want[shard->shard]);
        CU_ASSERT_EQUAL(w.ordered, 0); // G2
        w.ordered = shard->shard;
        w.orders++;
        gone.shard = shard->shard;
        push(&w.workers[shard->worker].orders, &gone, false);
        torc_give_ordered(&w.give, w.now_ns);
    }
}

static void hear_gone(uint32_t worker, const struct torc_evt_role *said)
{
    bool ordered = w.give.stage == TORC_GIVE_ORDERED && w.give.shard == said->shard;
    struct torc_cluster_shard *shard = torc_give_gone(&w.give, w.now_ns, worker, said);
    uint32_t *turn = &w.line_turns[said->shard];

    if (shard != NULL) {
        CU_ASSERT_TRUE(shard->gone && shard->leaving);
        *turn = (uint32_t)torc_max_u64(*turn, said->epoch);
        w.late += ordered || said->role != 0 ? 0 : 1;
        w.ordered = ordered ? 0 : w.ordered;
    }
}

static void hear_workers(bool faults)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct queue *answers = &w.workers[i].answers;

        while (answers->count > 0 && (!faults || chance(70))) {
            bool ready;
            struct torc_evt_role said = pop(answers, &ready);
            struct torc_cluster_shard *shard = torc_cluster_shard(&cluster, said.shard);

            if (!ready) {
                hear_gone(i, &said);
            } else if (shard != NULL) {
                shard->ready = true;
            }
        }
    }
}

static void drop_gone(void)
{
    for (uint32_t i = SHARDS; i > 0 && w.give.left > 0; i--) {
        if (places[i - 1].gone && !w.writing[places[i - 1].shard]) {
            torc_give_drop(&w.give, &places[i - 1]);
        }
    }
}

static void die(void)
{
    memset(places, 0, sizeof(places));
    cluster.shard_count = 0;
    torc_give_forget(&w.give);
    w.ordered = 0;
    memset(w.workers, 0, sizeof(w.workers));
    for (uint32_t i = 1; i <= SHARDS; i++) { // as recovery finds in the log
        w.line_turns[i] = (uint32_t)torc_max_u64(w.line_turns[i], w.gone_turn) + 1;
    }
}

static void change_all(void)
{
    uint32_t shard = 1 + (uint32_t)torc_rng_below(&w.rng, SHARDS);

    if (chance(10)) {
        change();
    }
    if (torc_rng_chance(&w.rng, 2000)) {
        die();
    }
    w.writing[shard] = chance(10);
    w.no_memory = chance(1) ? !w.no_memory : w.no_memory;
}

static void step(bool faults)
{
    w.now_ns += STEP_NS;
    if (faults) {
        change_all();
    }
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        if (w.shard_due[shard] && chance(20)) {
            hear(shard, false);
        }
        if (w.want_due[shard] && chance(20)) {
            hear(shard, true);
        }
    }
    torc_give_look(&w.give, w.now_ns);
    open_fresh();
    workers_step(faults);
    hear_workers(faults);
    drop_gone();
    if (w.ordered != 0 && torc_give_is_late(&w.give, w.now_ns)) {
        torc_give_up(&w.give, w.now_ns);
        w.ordered = 0;
    }
    if (w.has_request && chance(faults ? 40 : 100)) {
        answer(!faults || chance(80));
    }
    ask();
    order();
    CU_ASSERT_TRUE(w.has_request || torc_give_deadline_ns(&w.give) > 0);
}

static void check_what_is_here(uint32_t shard)
{
    const struct torc_cluster_shard *own = torc_cluster_shard(&cluster, shard);
    bool named = ((w.members[shard] | w.wished[shard]) >> SELF & 1) != 0;

    CU_ASSERT_EQUAL(own != NULL, named);
    for (uint32_t i = 0; i < WORKERS; i++) {
        CU_ASSERT_EQUAL(w.workers[i].turns[shard] != 0, own != NULL && own->worker == i); // G4
    }
}

static void live(uint64_t seed)
{
    memset(&w, 0, sizeof(w));
    memset(&survey, 0, sizeof(survey));
    memset(places, 0, sizeof(places));
    w.rng.state = seed;
    w.now_ns = UINT64_C(1000000000);
    survey.keys = SHARDS + 2;
    cluster = (struct torc_cluster){.node = SELF, .shard_max = SHARDS, .shards = places};
    torc_give_init(&w.give, &survey, &cluster, TICKET);
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        w.members[shard] = some_nodes();
        w.wished[shard] = some_nodes();
    }
    hear_all();
    for (uint32_t i = 0; i < STEPS; i++) {
        step(true);
    }
    hear_all();
    w.no_memory = false;
    memset(w.writing, 0, sizeof(w.writing));
    for (uint32_t i = 0; i < 3000; i++) {
        step(false);
    }
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        check_what_is_here(shard);
    }
}

static void what_is_named_is_here_and_nothing_else_in_the_end(void)
{
    struct torc_rng rng = {.state = torc_test_seed()};
    uint64_t orders = 0;
    uint64_t taken = 0;
    uint64_t given = 0;
    uint64_t late = 0;
    uint64_t refused = 0;

    for (uint32_t i = 0; i < 20; i++) {
        live(torc_rng_next(&rng));
        orders += w.orders;
        taken += w.give.taken;
        given += w.give.given;
        late += w.late;
        refused += w.refused;
    }
    // One life takes some thirteen away in the mean, two of them late.
    CU_ASSERT_TRUE(orders > 0);
    CU_ASSERT_TRUE(taken > 0 && given > taken / 2);
    CU_ASSERT_TRUE(late > 0 && refused > 0);
}

// What is this node's own is all kept at a start, and what it has data of; what it is wished for as
// far as there is room.
static void a_start_takes_what_has_room(void)
{
    bool held[SHARDS] = {false};

    held[SHARDS - 2] = true; // the last one that is not its own
    memset(&w, 0, sizeof(w));
    memset(&survey, 0, sizeof(survey));
    survey.keys = SHARDS + 2;
    for (uint32_t room = 0; room <= SHARDS; room++) {
        uint32_t left_out;

        memset(places, 0, sizeof(places));
        cluster = (struct torc_cluster){.node = SELF, .shard_max = SHARDS, .shards = places};
        torc_give_init(&w.give, &survey, &cluster, TICKET);
        for (uint32_t shard = 1; shard <= SHARDS; shard++) {
            w.members[shard] = 1u << (shard % 2 == 0 ? SELF : SELF % NODES + 1);
            w.wished[shard] = 1u << SELF;
            torc_cluster_add(&cluster)->shard = shard;
        }
        hear_all();
        left_out = torc_give_fit(&cluster, &survey, held, room);
        CU_ASSERT_EQUAL(cluster.shard_count, torc_max_u64(room, SHARDS / 2 + 1));
        CU_ASSERT_EQUAL(left_out, SHARDS - cluster.shard_count);
        for (uint32_t shard = 2; shard <= SHARDS; shard += 2) {
            CU_ASSERT_PTR_NOT_NULL(torc_cluster_shard(&cluster, shard));
        }
        CU_ASSERT_PTR_NOT_NULL(torc_cluster_shard(&cluster, SHARDS - 1));
    }
}

// Two shards that began here without anything; a checkpoint holds all that the other one logged.
static void begin_empty(void)
{
    memset(places, 0, sizeof(places));
    cluster = (struct torc_cluster){.node = SELF, .shard_max = SHARDS, .shards = places};
    for (uint32_t i = 0; i < 2; i++) {
        struct torc_cluster_shard *shard = torc_cluster_add(&cluster);

        torc_assert(shard != NULL);
        *shard = (struct torc_cluster_shard){.shard = i + 1, .replica = true};
    }
    places[0].based = true;
    places[0].covered = true;
    places[0].start_sequence = 9;
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 9);
}

// Blocks that only an empty replica would need are let go of.
static void a_replica_that_has_nothing_holds_no_log(void)
{
    begin_empty();
    places[0].covered = false;
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    places[0].covered = true;
    torc_cluster_base(&cluster,
                      2); // its checkpoint is being made, and needs what is logged meanwhile
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    places[1].has_checkpoint = true; // its base is kept
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    torc_cluster_drop(&cluster, &places[0]);
    CU_ASSERT_EQUAL(torc_cluster_count(&cluster), 1);
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    CU_ASSERT_PTR_EQUAL(torc_cluster_add(&cluster), &places[0]);
}

// It got all records from the first one on: they are in the log, and nowhere else.
static void a_member_that_needed_no_base_keeps_its_log(void)
{
    struct torc_evt_role role = {.shard = 2, .role = TORC_CHAN_LEARNER};

    begin_empty();
    torc_cluster_role(&cluster, &role);
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 9); // begun anew if need be
    role.role = TORC_CHAN_BACKUP;
    torc_cluster_role(&cluster, &role);
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    role.role = TORC_CHAN_LEARNER; // removed, what it has is still what it goes on from
    torc_cluster_role(&cluster, &role);
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    role.shard = 3;
    role.role = TORC_CHAN_ACTIVE;
    torc_cluster_role(&cluster, &role); // not here (any more)
    CU_ASSERT_EQUAL(torc_cluster_count(&cluster), 2);
}

// Nobody told the next control of bases and roles that the one before had seen.
static void a_control_that_goes_on_with_a_dataplane_keeps_its_logs(void)
{
    struct torc_evt_here here = {.shard = 2, .epoch = 4, .lo = 5, .hi = 10, .copy = 77, .turn = 3};
    const struct torc_cluster_shard *shard;

    begin_empty();
    shard = torc_cluster_here(&cluster, 1, true, &here);
    torc_assert(shard == &places[1]);
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 1), 0);
    CU_ASSERT_EQUAL(torc_cluster_floor(&cluster, 2), 0);
    CU_ASSERT_TRUE(shard->here && shard->ready && !shard->based);
    CU_ASSERT_EQUAL(shard->worker, 1);
    here.shard = 3; // taken from this node while nobody saw it
    shard = torc_cluster_here(&cluster, 0, true, &here);
    torc_assert(shard != NULL);
    CU_ASSERT_TRUE(shard->here && shard->replica && shard->hi == 10 && shard->copy == 77);
    CU_ASSERT_TRUE(shard->wake && places[1].wake); // nor of changes that nobody saw
}

static void copies_are_bound_to_the_node_s(void)
{
    uint64_t given = torc_give_copy(7, UINT64_C(0xfedcba9876543210));

    CU_ASSERT_TRUE(torc_give_remembers(7, 7));
    CU_ASSERT_TRUE(torc_give_remembers(7, given));
    CU_ASSERT_FALSE(torc_give_remembers(8, given));
    CU_ASSERT_FALSE(torc_give_remembers(8, 7));
    CU_ASSERT_FALSE(torc_give_remembers(7, 8));
    CU_ASSERT_NOT_EQUAL(given, torc_give_copy(7, 1));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a start takes what has room", a_start_takes_what_has_room},
        {"what is named is here, and nothing else in the end",
         what_is_named_is_here_and_nothing_else_in_the_end},
        {"a replica that has nothing holds no log", a_replica_that_has_nothing_holds_no_log},
        {"a member that needed no base keeps its log", a_member_that_needed_no_base_keeps_its_log},
        {"a control that goes on with a dataplane keeps its logs",
         a_control_that_goes_on_with_a_dataplane_keeps_its_logs},
        {"copies are bound to the node's", copies_are_bound_to_the_node_s},
        CU_TEST_INFO_NULL};

    return torc_test_run("give", tests);
}
