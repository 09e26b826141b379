// Torc tests: what replicas ask and propose, executed over a metastore that loses answers, is away,
// and does late what it was asked.
//
// Three controls serve one replica of each shard. Each replica reads its record now and then, and
// proposes the next epoch; it repeats a question until it is answered, takes back a proposal and
// makes another, and its control forgets everything now and then. The oracle sees every record that
// was ever put: a proposal that was told WON has been there, once; one that was told LOST never was
// and never comes; epochs rise by one; what proposals do not speak of stays.
#include "control/failover.h"
#include "tests/fake_store.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    NODES = 3,
    SHARDS = 5,
    PROPOSALS = 4096,
    STEPS = 30000,
    CALM = 2000,
    STEP_NS = 100000
};

enum told {
    TOLD_NOTHING,
    TOLD_WON,
    TOLD_LOST
};

struct proposal {
    uint32_t effects;
    enum told told;
};

struct replica {
    struct torc_evt_propose propose;
    bool proposing;
    bool reading;
    uint32_t epoch;      // adopted
    uint32_t read_epoch; // of the record that was read last
    uint64_t won;
};

struct model {
    struct torc_rng rng;
    struct torc_fake_store meta;
    struct torc_failover controls[NODES];
    struct replica replicas[NODES][SHARDS];
    struct proposal proposals[PROPOSALS]; // by nonce
    uint32_t proposal_count;
    uint32_t epochs[SHARDS];
    struct torc_record_members insync[SHARDS];
    uint64_t now_ns;
    bool good;
    const char *bad;
};

static void check(struct model *model, bool good, const char *what)
{
    if (!good && model->good) {
        model->good = false;
        model->bad = what;
    }
}

// -- What happens in the store --------------------------------------------------------------------

static void put_record(void *context, const struct torc_fake_record *record)
{
    struct model *model = context;
    struct torc_shard_fields fields;
    struct torc_fail why;
    uint64_t id = 0;

    if (!torc_record_id(record->key, "shard", &id)) {
        return;
    }
    TORC_TEST_OK(
        torc_record_decode(TORC_RECORD_SHARD, &fields, record->value, record->value_bytes, &why),
        &why);
    if (fields.nonce > 0) {
        struct proposal *proposal = model->proposals + fields.nonce;

        proposal->effects++;
        check(model, proposal->effects == 1, "a proposal took effect twice");
        check(model, proposal->told != TOLD_LOST, "a proposal that was lost took effect");
        check(model, fields.epoch == model->epochs[id - 1] + 1, "an epoch was skipped");
        check(model, fields.lo == 10 * id && fields.hi == 10 * id + 10, "the keys have changed");
        check(model, fields.losses.count == 1 && fields.losses.at[0].lsn == id, "a loss is lost");
        check(model, memcmp(&fields.previous, &model->insync[id - 1], sizeof(fields.previous)) == 0,
              "the members before are not those before");
    }
    model->epochs[id - 1] = (uint32_t)fields.epoch;
    model->insync[id - 1] = fields.insync;
}

static void write_first(struct model *model)
{
    char name[TORC_RECORD_NAME_BYTES];

    for (uint32_t i = 1; i <= SHARDS; i++) {
        struct torc_shard_fields fields = {.lo = 10 * (uint64_t)i,
                                           .hi = 10 * (uint64_t)i + 10,
                                           .primary_node = 1,
                                           .insync = {.count = 1, .at = {{1, 7}}},
                                           .losses = {.count = 1, .at = {{.lsn = i, .node = 1}}}};

        torc_record_name(name, "shard", i);
        torc_fake_store_write(&model->meta, name, TORC_RECORD_SHARD, &fields);
    }
    for (uint32_t i = 1; i <= NODES; i++) {
        struct torc_node_fields fields = {.boot = i * UINT64_C(100), .down = i * UINT64_C(100) - 1};

        torc_record_name(name, "node", i);
        torc_fake_store_write(&model->meta, name, TORC_RECORD_NODE, &fields);
    }
}

// -- Replicas -------------------------------------------------------------------------------------

static void propose_new(struct model *model, uint32_t node, uint32_t index)
{
    struct replica *replica = &model->replicas[node][index];
    struct torc_chan_record *record = &replica->propose.record;

    if (model->proposal_count + 1 >= PROPOSALS) {
        return;
    }
    replica->proposing = true;
    replica->propose =
        (struct torc_evt_propose){.shard = index + 1, .expected_epoch = replica->epoch};
    *record = (struct torc_chan_record){.epoch = replica->epoch + 1,
                                        .primary_node = node + 1,
                                        .primary_boot = 5,
                                        .nonce = ++model->proposal_count};
    for (uint32_t i = 0; i < NODES; i++) {
        if (i == node || torc_rng_chance(&model->rng, 500000)) {
            record->members[record->member_count++] =
                (struct torc_chan_record_member){.node = i + 1, .copy = record->nonce};
        }
    }
}

static void ask_something(struct model *model, uint32_t node, uint32_t index, bool calm)
{
    struct replica *replica = &model->replicas[node][index];
    struct torc_failover *control = &model->controls[node];
    struct torc_evt_read read = {.shard = index + 1, .epoch = replica->epoch};
    bool fresh = !calm && torc_rng_chance(&model->rng, 20000);

    if (fresh && (!replica->proposing || torc_rng_chance(&model->rng, 100000))) {
        propose_new(model, node, index); // the one before may still happen
    }
    if (!replica->reading && fresh) {
        replica->reading = true;
    }
    if (torc_rng_chance(&model->rng, 50000)) { // again and again, until it is answered
        if (replica->proposing) {
            torc_failover_propose(control, model->now_ns, node, &replica->propose);
        }
        if (replica->reading) {
            torc_failover_read(control, model->now_ns, node, &read);
        }
    }
}

static void take_result(struct model *model, struct replica *replica,
                        const struct torc_cmd_record *result)
{
    struct proposal *proposal = model->proposals + result->nonce;

    if (result->outcome == TORC_CHAN_WON) {
        check(model, proposal->effects == 1, "WON, but it was never there");
        proposal->told = TOLD_WON;
        replica->won++;
    } else if (result->outcome == TORC_CHAN_LOST) {
        check(model, result->record.nonce != result->nonce,
              "LOST, and the record is the proposal's");
        check(model, result->record.epoch != result->asked_epoch, "LOST to nobody");
        proposal->told = TOLD_LOST;
    }
    if (replica->proposing && replica->propose.record.nonce == result->nonce &&
        result->outcome != TORC_CHAN_UNKNOWN) {
        replica->proposing = false;
    }
}

static void take_order(struct model *model, uint32_t node, const struct torc_cmd *order)
{
    const struct torc_cmd_record *said = &order->record;
    struct replica *replica = &model->replicas[node][said->shard - 1];

    if (order->kind == TORC_CMD_RESULT) {
        take_result(model, replica, said);
    } else {
        check(model, said->record.epoch >= replica->read_epoch, "an old record was read");
        replica->read_epoch = said->record.epoch;
        check(model, said->asked_epoch <= replica->epoch, "an epoch that was never adopted");
        replica->reading = false;
    }
    if (order->kind == TORC_CMD_RECORD || said->outcome != TORC_CHAN_UNKNOWN) {
        check(model, said->record.epoch <= model->epochs[said->shard - 1], "a record to come");
        check(model,
              said->primary_node_boot == said->record.primary_node * UINT64_C(100) &&
                  said->primary_down_boot == said->primary_node_boot - 1,
              "another node's boot");
        replica->epoch = (uint32_t)torc_max_u64(replica->epoch, said->record.epoch);
    }
}

// -- Time -----------------------------------------------------------------------------------------

static void control_step(struct model *model, uint32_t node)
{
    struct torc_failover *control = &model->controls[node];
    struct torc_metastore *store = &model->meta.handles[node].store;
    struct torc_meta_request request;
    struct torc_meta_answer answer;
    struct torc_cmd order;
    struct torc_fail why;
    uint32_t place = 0;
    uint32_t worker;

    torc_metastore_step(store, model->now_ns);
    while (torc_metastore_take(store, &answer)) {
        torc_failover_take(control, model->now_ns, &answer);
    }
    while (torc_failover_next(control, model->now_ns, &request)) {
        enum torc_err err = torc_rng_chance(&model->rng, 30000)
                                ? TORC_ERR_BUSY
                                : torc_metastore_submit(store, &request, model->now_ns, &why);

        if (err != TORC_ERR_OK) {
            torc_failover_refused(control, model->now_ns, &request, err);
        }
    }
    while (torc_failover_answer(control, &place, &worker, &order)) {
        check(model, worker == node, "an answer for another worker");
        if (torc_rng_chance(&model->rng, 900000)) { // else its ring is full
            torc_failover_sent(control, model->now_ns, place);
            take_order(model, node, &order);
        }
        place++;
    }
}

static void run(struct model *model, uint32_t steps, bool calm)
{
    model->meta.calm = calm;
    for (uint32_t i = 0; i < steps && model->good; i++) {
        model->now_ns += STEP_NS;
        model->meta.away = !calm && i / 500 % 10 == 7; // for 50 ms
        for (uint32_t node = 0; node < NODES; node++) {
            for (uint32_t shard = 0; shard < SHARDS; shard++) {
                ask_something(model, node, shard, calm);
            }
            control_step(model, node);
            if (!calm && torc_rng_chance(&model->rng, 300)) {
                torc_failover_forget(&model->controls[node]); // a new dataplane, or a new control
            }
        }
    }
}

// A question that is asked when nothing changes any more is answered with what there is.
static void read_all(struct model *model)
{
    for (uint32_t node = 0; node < NODES; node++) {
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            model->replicas[node][shard].reading = true;
        }
    }
    run(model, CALM, true);
    for (uint32_t node = 0; node < NODES; node++) {
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            check(model, model->replicas[node][shard].read_epoch == model->epochs[shard],
                  "an old record stays");
        }
    }
}

static struct model *model_open(void)
{
    struct model *model = calloc(1, sizeof(*model));

    torc_assert(model != NULL);
    model->rng = (struct torc_rng){torc_test_seed()};
    model->good = true;
    torc_fake_store_init(&model->meta, &model->rng);
    write_first(model);
    model->meta.on_put = put_record;
    model->meta.context = model;
    for (uint32_t i = 0; i < SHARDS; i++) {
        model->insync[i] = (struct torc_record_members){.count = 1, .at = {{1, 7}}};
    }
    for (uint32_t i = 0; i < NODES; i++) {
        torc_failover_init(&model->controls[i]);
    }
    return model;
}

static void model_close(struct model *model)
{
    torc_fake_store_close(&model->meta);
    free(model);
}

// -- Tests ----------------------------------------------------------------------------------------

static void outcomes_are_true(void)
{
    struct model *model = model_open();
    uint64_t won = 0;

    run(model, STEPS, false);
    run(model, CALM, true);
    read_all(model);
    if (!model->good) {
        (void)printf("  %s\n", model->bad);
    }
    CU_ASSERT_TRUE(model->good);
    for (uint32_t node = 0; node < NODES; node++) {
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            CU_ASSERT_FALSE(model->replicas[node][shard].proposing); // all have ended
            CU_ASSERT_FALSE(model->replicas[node][shard].reading);
            won += model->replicas[node][shard].won;
        }
        CU_ASSERT_TRUE(model->controls[node].counters.unknown > 0);
        CU_ASSERT_EQUAL(model->controls[node].inflight, 0);
    }
    CU_ASSERT_TRUE(won > 100);
    CU_ASSERT_TRUE(model->proposal_count > 500);
    model_close(model);
}

static void a_store_that_lies_is_found_out(void)
{
    struct model *model = model_open();

    model->meta.lies = true;
    run(model, STEPS, false);
    CU_ASSERT_FALSE(model->good);
    model_close(model);
}

static void nonsense_is_refused(void)
{
    struct model *model = model_open();
    struct torc_failover *control = &model->controls[0];
    const struct torc_evt_propose good = {.shard = 1,
                                          .expected_epoch = 4,
                                          .record = {.epoch = 5,
                                                     .primary_node = 2,
                                                     .nonce = 9,
                                                     .member_count = 2,
                                                     .members = {{.node = 1}, {.node = 2}}}};
    struct torc_evt_propose bad[7];

    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        bad[i] = good;
    }
    bad[0].shard = 0;
    bad[1].record.epoch = 6;
    bad[2].record.member_count = TORC_CHAN_MEMBERS_MAX + 1;
    bad[3].record.members[0].node = 2;
    bad[4].record.primary_node = 3;
    bad[5].record.nonce = 0;
    bad[6].record.member_count = 0;
    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        torc_failover_propose(control, 1, 0, &bad[i]);
    }
    CU_ASSERT_EQUAL(control->counters.refused, TORC_COUNT_OF(bad));
    CU_ASSERT_EQUAL(torc_failover_deadline_ns(control), UINT64_MAX);
    torc_failover_propose(control, 1, 0, &good);
    CU_ASSERT_EQUAL(torc_failover_deadline_ns(control), 0);
    for (uint32_t i = 2; i <= TORC_FAILOVER_ASKS + 1; i++) { // the last finds no room
        const struct torc_evt_read read = {.shard = i};

        torc_failover_read(control, 1, 0, &read);
    }
    CU_ASSERT_EQUAL(control->counters.refused, TORC_COUNT_OF(bad) + 1);
    model_close(model);
}

// Let go of by one worker, while its question was open, and given to another.
static void who_asked_last_is_answered(void)
{
    struct model *model = model_open();
    struct torc_failover *control = &model->controls[0];
    const struct torc_evt_read read = {.shard = 1};
    struct torc_cmd order;
    uint32_t answers = 0;

    model->meta.calm = true;
    torc_failover_read(control, model->now_ns, 3, &read);
    torc_failover_read(control, model->now_ns, 5, &read);
    for (uint32_t i = 0; i < 1000 && answers < 2; i++) {
        struct torc_meta_request request;
        struct torc_meta_answer answer;
        struct torc_fail why;
        uint32_t place = 0;
        uint32_t worker = 0;

        model->now_ns += STEP_NS;
        torc_metastore_step(&model->meta.handles[0].store, model->now_ns);
        while (torc_metastore_take(&model->meta.handles[0].store, &answer)) {
            torc_failover_take(control, model->now_ns, &answer);
        }
        while (torc_failover_next(control, model->now_ns, &request)) {
            TORC_TEST_OK(
                torc_metastore_submit(&model->meta.handles[0].store, &request, model->now_ns, &why),
                &why);
        }
        if (torc_failover_answer(control, &place, &worker, &order)) {
            CU_ASSERT_EQUAL(worker, 5);
            torc_failover_sent(control, model->now_ns, place);
            answers++;
        }
    }
    CU_ASSERT_EQUAL(answers, 2); // and once more, as of after it asked
    model_close(model);
}

int main(void)
{
    CU_TestInfo tests[] = {{"outcomes of proposals are true", outcomes_are_true},
                           {"a store that lies is found out", a_store_that_lies_is_found_out},
                           {"who asked last is answered", who_asked_last_is_answered},
                           {"questions that make no sense are refused", nonsense_is_refused},
                           CU_TEST_INFO_NULL};

    return torc_test_run("model-failover", tests);
}
