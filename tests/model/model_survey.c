// Torc tests: the survey follows the metastore, which is slow, away, and forgets what a watch had.
//
// Records of shards and nodes come, change and go at random; two controls follow. Whenever nothing
// changes for a while, their surveys show each record as it is, and no other; every shard of their
// own that changed was woken after it did. Versions never fall.
#include "control/follow.h"
#include "tests/fake_store.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    CONTROLS = 2,
    SHARDS = 24,
    NODES = 8,
    WANTS = 10,
    ROUNDS = 60,
    BUSY = 300,
    QUIET = 6000,
    STEP_NS = 100000
};

struct control {
    struct torc_follow follow;
    struct torc_survey survey;
    struct torc_cluster cluster;
    struct torc_cluster_shard own[SHARDS];
    bool owed[SHARDS]; // changed since it was woken
    uint64_t versions[SHARDS];
    uint64_t wished[SHARDS]; // version of the wish that was told last
};

struct model {
    struct torc_rng rng;
    struct torc_fake_store meta;
    struct control controls[CONTROLS];
    uint64_t now_ns;
    uint64_t failures;
};

static void change_shard(struct model *model, uint32_t id)
{
    struct torc_shard_fields fields = {.lo = torc_rng_below(&model->rng, 1000),
                                       .hi = 2000,
                                       .epoch = torc_rng_below(&model->rng, 100),
                                       .insync = {.count = 2}};
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    fields.insync.at[0].node = 1 + torc_rng_below(&model->rng, 4);
    fields.insync.at[1].node = 5 + torc_rng_below(&model->rng, 4);
    fields.primary_node = fields.insync.at[0].node;
    torc_record_name(name, "shard", id);
    torc_fake_store_put(&model->meta, name, torc_rng_chance(&model->rng, 200000) ? NULL : text,
                        torc_record_encode(TORC_RECORD_SHARD, &fields, text));
    for (uint32_t i = 0; i < CONTROLS; i++) {
        model->controls[i].owed[id - 1] = true;
    }
}

static void change_node(struct model *model, uint32_t id)
{
    struct torc_node_fields fields = {.boot = torc_rng_below(&model->rng, 100),
                                      .cores = 1,
                                      .base_port = 28700,
                                      .address = "10.79.0.11"};
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    torc_record_name(name, "node", id);
    torc_fake_store_put(&model->meta, name, torc_rng_chance(&model->rng, 200000) ? NULL : text,
                        torc_record_encode(TORC_RECORD_NODE, &fields, text));
}

static void change_want(struct model *model, uint32_t id)
{
    struct torc_want_fields fields = {.primary = torc_rng_below(&model->rng, 9),
                                      .nodes = {.count = 1}};
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    fields.nodes.at[0] = 1 + torc_rng_below(&model->rng, NODES + 2); // two are in sync nowhere
    torc_record_name(name, "want", id);
    torc_fake_store_put(&model->meta, name, torc_rng_chance(&model->rng, 200000) ? NULL : text,
                        torc_record_encode(TORC_RECORD_WANT, &fields, text));
}

static void control_step(struct model *model, uint32_t index)
{
    struct control *control = &model->controls[index];
    struct torc_metastore *store = &model->meta.handles[index].store;
    struct torc_meta_request request;
    struct torc_meta_answer answer;
    struct torc_fail why;

    torc_metastore_step(store, model->now_ns);
    while (torc_metastore_take(store, &answer)) {
        model->failures += answer.err != TORC_ERR_OK && answer.err != TORC_ERR_NOT_FOUND;
        if (torc_follow_take(&control->follow, model->now_ns, &answer, &why) != TORC_ERR_OK) {
            CU_ASSERT_EQUAL(why.err, TORC_ERR_UNAVAILABLE); // asked for again (U3)
        }
    }
    while (torc_follow_next(&control->follow, model->now_ns, &request)) {
        enum torc_err err = !model->meta.calm && request.verb != TORC_META_WATCH &&
                                    torc_rng_chance(&model->rng, 30000)
                                ? TORC_ERR_BUSY
                                : torc_metastore_submit(store, &request, model->now_ns, &why);

        if (err != TORC_ERR_OK) {
            torc_follow_refused(&control->follow, model->now_ns, &request);
        }
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct torc_survey_shard *shard = torc_survey_shard(&control->survey, i + 1);

        control->owed[i] = control->owed[i] && !control->own[i].wake;
        control->own[i].wake = false;
        if (control->own[i].wish) {
            const struct torc_survey_want *want = torc_survey_want(&control->survey, i + 1);

            control->wished[i] = want != NULL ? want->version : 0;
            control->own[i].wish = false;
        }
        if (shard != NULL) {
            CU_ASSERT_TRUE(shard->version >= control->versions[i]); // V1
            control->versions[i] = shard->version;
        }
    }
}

static void run(struct model *model, uint32_t steps, bool quiet)
{
    model->meta.calm = quiet;
    for (uint32_t i = 0; i < steps; i++) {
        model->now_ns += STEP_NS;
        model->meta.away = !quiet && i % 100 > 80;
        if (!quiet && torc_rng_chance(&model->rng, 500000)) {
            change_shard(model, 1 + (uint32_t)torc_rng_below(&model->rng, SHARDS));
        }
        if (!quiet && torc_rng_chance(&model->rng, 100000)) {
            change_node(model, 1 + (uint32_t)torc_rng_below(&model->rng, NODES));
        }
        if (!quiet && torc_rng_chance(&model->rng, 200000)) {
            change_want(model, 1 + (uint32_t)torc_rng_below(&model->rng, WANTS));
        }
        for (uint32_t c = 0; c < CONTROLS; c++) {
            control_step(model, c);
        }
    }
}

static bool same_shard(const struct model *model, struct control *control, uint32_t id)
{
    char name[TORC_RECORD_NAME_BYTES];
    const struct torc_survey_shard *shard = torc_survey_shard(&control->survey, id);
    const struct torc_fake_record *record;

    torc_record_name(name, "shard", id);
    record = torc_fake_store_find(&model->meta, name);
    if (record == NULL || shard == NULL) {
        return record == NULL && shard == NULL;
    }
    return shard->version == record->version;
}

static bool same_node(const struct model *model, struct control *control, uint32_t id)
{
    char name[TORC_RECORD_NAME_BYTES];
    const struct torc_survey_node *node = torc_survey_node(&control->survey, id);
    const struct torc_fake_record *record;

    torc_record_name(name, "node", id);
    record = torc_fake_store_find(&model->meta, name);
    if (record == NULL || node == NULL) {
        return record == NULL && node == NULL;
    }
    return node->version == record->version && strcmp(node->address, "10.79.0.11") == 0;
}

// And the last wish that there is was told.
static bool same_want(const struct model *model, struct control *control, uint32_t id)
{
    char name[TORC_RECORD_NAME_BYTES];
    const struct torc_survey_want *want = torc_survey_want(&control->survey, id);
    const struct torc_fake_record *record;

    torc_record_name(name, "want", id);
    record = torc_fake_store_find(&model->meta, name);
    if (record == NULL || want == NULL) {
        return record == NULL && want == NULL;
    }
    return want->version == record->version && control->wished[id - 1] == record->version;
}

static bool survey_is_sorted(const struct torc_survey *survey)
{
    for (uint32_t i = 1; i < survey->shard_count; i++) {
        if (survey->shards[i - 1].lo > survey->shards[i].lo) {
            return false;
        }
    }
    for (uint32_t i = 1; i < survey->node_count; i++) {
        if (survey->nodes[i - 1].node >= survey->nodes[i].node) {
            return false;
        }
    }
    return true;
}

// By another way: node by node.
static bool same_seats(struct control *control)
{
    static uint8_t seats[TORC_RECORD_NODE_MAX + 1];
    struct torc_survey *survey = &control->survey;
    bool same = true;

    torc_survey_seats(survey, seats);
    for (uint32_t node = 0; node <= NODES + 3; node++) {
        enum torc_survey_seat seat = TORC_SURVEY_UNWISHED;

        for (uint32_t i = 0; i < survey->shard_count; i++) {
            if (torc_survey_has(survey->shards + i, node)) {
                seat = TORC_SURVEY_SEATED;
            } else if (seat == TORC_SURVEY_UNWISHED &&
                       torc_survey_concerns(survey, survey->shards + i, node)) {
                seat = TORC_SURVEY_MISSED;
            }
        }
        same = same && seats[node] == seat;
    }
    return same;
}

static bool all_same(struct model *model)
{
    bool same = true;

    for (uint32_t c = 0; c < CONTROLS; c++) {
        struct control *control = &model->controls[c];

        same = same && survey_is_sorted(&control->survey) && same_seats(control);
        for (uint32_t i = 0; i < SHARDS; i++) {
            same = same && same_shard(model, control, i + 1) && !control->owed[i];
        }
        for (uint32_t i = 0; i < NODES; i++) {
            same = same && same_node(model, control, i + 1);
        }
        for (uint32_t i = 0; i < WANTS; i++) {
            same = same && same_want(model, control, i + 1);
        }
    }
    return same;
}

static bool run_rounds(bool lies, uint64_t *failures)
{
    struct model *model = calloc(1, sizeof(*model));
    bool same = true;

    torc_assert(model != NULL);
    model->rng = (struct torc_rng){torc_test_seed()};
    torc_fake_store_init(&model->meta, &model->rng);
    model->meta.lies = lies;
    for (uint32_t c = 0; c < CONTROLS; c++) {
        struct control *control = &model->controls[c];

        control->cluster.shards = control->own;
        control->cluster.shard_count = SHARDS;
        for (uint32_t i = 0; i < SHARDS; i++) {
            control->own[i].shard = i + 1;
        }
        torc_follow_init(&control->follow, &control->survey, &control->cluster);
    }
    for (uint32_t round = 0; round < ROUNDS && same; round++) {
        run(model, BUSY, false);
        run(model, QUIET, true);
        same = all_same(model);
    }
    *failures = model->failures;
    torc_fake_store_close(&model->meta);
    free(model);
    return same;
}

static void the_survey_follows(void)
{
    uint64_t failures;

    CU_ASSERT_TRUE(run_rounds(false, &failures));
    CU_ASSERT_TRUE(failures > 0); // some reads failed, and were made again
}

static void a_watch_that_forgets_is_found_out(void)
{
    uint64_t failures;

    CU_ASSERT_FALSE(run_rounds(true, &failures));
}

// -- The map --------------------------------------------------------------------------------------

static void put(struct torc_survey *survey, uint64_t id, uint64_t lo, uint64_t hi, uint64_t version)
{
    struct torc_shard_fields fields = {.lo = lo,
                                       .hi = hi,
                                       .epoch = 4,
                                       .primary_node = 2,
                                       .primary_boot = 8,
                                       .insync = {.count = 2, .at = {{1, 11}, {2, 12}}}};
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_record record = {.key = name, .value = text, .version = version};
    struct torc_fail why;
    bool changed;

    torc_record_name(name, "shard", id);
    record.value_bytes = torc_record_encode(TORC_RECORD_SHARD, &fields, text);
    TORC_TEST_OK(torc_survey_put(survey, &record, &changed, &why), &why);
}

static void the_map_is_the_surveys(void)
{
    struct torc_survey *survey = calloc(1, sizeof(*survey));
    struct torc_chan_map *map = calloc(1, sizeof(*map));
    struct torc_cluster_shard own = {.shard = 3, .worker = 6};
    struct torc_cluster cluster = {.node = 1, .shard_count = 1, .shards = &own};
    const struct torc_chan_node node = {.node = 2, .cores = 4};
    struct torc_fail why;

    torc_assert(survey != NULL && map != NULL);
    survey->keys = 100;
    survey->revision = 9;
    CU_ASSERT_EQUAL(torc_survey_check(survey, &why), TORC_ERR_CORRUPT);
    put(survey, 3, 50, 100, 5);
    CU_ASSERT_EQUAL(torc_survey_check(survey, &why), TORC_ERR_CORRUPT);
    put(survey, 7, 0, 50, 6);
    TORC_TEST_OK(torc_survey_check(survey, &why), &why);
    put(survey, 7, 0, 20, 6); // not newer
    TORC_TEST_OK(torc_survey_check(survey, &why), &why);
    map->sequence = 5; // its last writer died
    torc_survey_write_map(survey, &cluster, &node, 1, map);
    CU_ASSERT_EQUAL(map->sequence, 6);
    CU_ASSERT_EQUAL(map->version, 9);
    CU_ASSERT_EQUAL(map->entry_count, 2);
    CU_ASSERT_EQUAL(map->node_count, 1);
    CU_ASSERT_EQUAL(map->nodes[0].cores, 4);
    CU_ASSERT_EQUAL(map->entries[0].shard, 7);
    CU_ASSERT_EQUAL(map->entries[1].version, 5);
    CU_ASSERT_EQUAL(map->entries[1].primary, 1);
    CU_ASSERT_EQUAL(map->entries[1].primary_boot, 8);
    CU_ASSERT_EQUAL(map->entries[1].members[0].core, 6);
    CU_ASSERT_EQUAL(map->entries[1].members[0].copy, 11);
    CU_ASSERT_EQUAL(map->entries[1].members[1].core, UINT8_MAX);
    CU_ASSERT_EQUAL(map->entries[0].members[0].core, UINT8_MAX);
    free(map);
    free(survey);
}

// It died when it had read a record and not yet written the map, and nothing changes afterwards.
static void what_the_control_before_had_not_written_is_news(void)
{
    struct torc_survey *survey = calloc(1, sizeof(*survey));
    struct torc_chan_map *map = calloc(1, sizeof(*map));
    struct torc_cluster cluster = {.node = 1};
    const struct torc_chan_node node = {.node = 2, .cores = 4};
    struct torc_follow follow;

    torc_assert(survey != NULL && map != NULL);
    survey->keys = 50;
    put(survey, 7, 0, 50, 6);
    torc_survey_write_map(survey, &cluster, &node, 1, map);
    put(survey, 7, 0, 50, 8);
    torc_follow_init(&follow, survey, &cluster); // the next control; the dataplane has gone on
    if (follow.news) {
        torc_survey_write_map(survey, &cluster, &node, 1, map);
    }
    CU_ASSERT_EQUAL(map->entries[0].version, 8);
    free(map);
    free(survey);
}

static void records_that_make_no_sense_are_named(void)
{
    static const char *const names[] = {"shard/x", "node/5", "want/7", "other/5"};
    struct torc_survey *survey = calloc(1, sizeof(*survey));
    struct torc_fail why;
    bool changed;

    CU_ASSERT_PTR_NOT_NULL_FATAL(survey);
    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        const struct torc_meta_record record = {
            .key = names[i], .value = "?", .value_bytes = 1, .version = 1};

        CU_ASSERT_EQUAL(torc_survey_put(survey, &record, &changed, &why),
                        i < 3 ? TORC_ERR_CORRUPT : TORC_ERR_OK);
        CU_ASSERT_TRUE(i == 3 || strstr(why.text, names[i]) != NULL);
    }
    CU_ASSERT_EQUAL(survey->shard_count + survey->node_count, 0);
    free(survey);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"the survey follows what changes", the_survey_follows},
        {"a watch that forgets is found out", a_watch_that_forgets_is_found_out},
        {"the map is the survey's", the_map_is_the_surveys},
        {"what the control before had not written is news",
         what_the_control_before_had_not_written_is_news},
        {"records that make no sense are named", records_that_make_no_sense_are_named},
        CU_TEST_INFO_NULL};

    return torc_test_run("model-survey", tests);
}
