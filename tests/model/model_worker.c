// Torc tests: a node against a plain array of values: random writes, conditions, reads and ranges
// by one client, with a disk that is slow at times, checkpoints, and crashes in the middle. What
// was acknowledged is there after every crash; what was not is there whole or not at all; versions
// never go back. A planted fault (a disk that forgets) must be found.
#include "tests/rig.h"
#include "tests/torc_test.h"
#include "wire/rows.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEYS = 64,
    ROUNDS = 30000,
    VALUE_MAX = 300,
    UNKNOWN_MAX = 64,
    STEPS = 300
};

// One state that a key may be in.
struct model_state {
    bool present;
    uint64_t stamp;   // says which write: it is in the value
    uint64_t version; // 0: not known
};

struct model_key {
    struct model_state now;
    uint32_t maybe_count; // writes whose answer never came: each may have happened
    struct model_state maybe[UNKNOWN_MAX];
};

struct model {
    struct torc_rig rig;
    struct torc_rig_client client;
    struct torc_rng rng;
    struct model_key keys[KEYS];
    uint64_t next_stamp;
    uint64_t wrong; // what a planted fault makes
    uint64_t crashes;
    uint64_t unknown;
    uint64_t conditions_failed;
    uint64_t ranges;
    bool tolerant; // count what is wrong instead of ending
    uint16_t port;
};

static void model_wrong(struct model *model, const char *what, uint64_t key)
{
    model->wrong++;
    if (!model->tolerant) {
        (void)fprintf(stderr, "key %" PRIu64 ": %s\n", key, what);
        torc_assert(model->tolerant);
    }
}

// -- Values ---------------------------------------------------------------------------------------

static uint32_t value_bytes(uint64_t stamp)
{
    return 8 + (uint32_t)(stamp * 7919 % VALUE_MAX);
}

static void value_fill(unsigned char *value, uint64_t stamp)
{
    memcpy(value, &stamp, sizeof(stamp));
    for (uint32_t i = 8; i < value_bytes(stamp); i++) {
        value[i] = (unsigned char)(stamp + i);
    }
}

static bool value_is(const unsigned char *bytes, uint32_t byte_count, uint64_t *stamp)
{
    unsigned char value[VALUE_MAX + 8];

    if (byte_count < 8) {
        return false;
    }
    memcpy(stamp, bytes, sizeof(*stamp));
    value_fill(value, *stamp);
    return byte_count == value_bytes(*stamp) && memcmp(value, bytes, byte_count) == 0;
}

// -- The oracle -----------------------------------------------------------------------------------

static bool state_fits(const struct model_state *state, bool present, uint64_t stamp)
{
    return state->present == present && (!present || state->stamp == stamp);
}

// The node says that the key is so: it must be its last known state, or one that a lost write left,
// which is then known to have happened.
static void model_observe(struct model *model, uint64_t key, bool present, uint64_t stamp,
                          uint64_t version)
{
    struct model_key *entry = &model->keys[key];

    for (uint32_t i = 0; i < entry->maybe_count; i++) {
        if (!state_fits(&entry->now, present, stamp) &&
            state_fits(&entry->maybe[i], present, stamp)) {
            if (present && entry->now.present && version <= entry->now.version) {
                model_wrong(model, "its version went back", key);
            }
            entry->now = entry->maybe[i];
        }
    }
    if (!state_fits(&entry->now, present, stamp)) {
        model_wrong(model, present ? "has a value that it cannot have" : "lost its value", key);
        entry->now = (struct model_state){.present = present, .stamp = stamp};
    }
    if (present && entry->now.version != 0 && entry->now.version != version) {
        model_wrong(model, "has another version than its write got", key);
    }
    entry->now.version = version;
}

static void model_lost(struct model *model, uint64_t key, bool present, uint64_t stamp)
{
    struct model_key *entry = &model->keys[key];

    model->unknown++;
    if (entry->maybe_count < UNKNOWN_MAX) {
        entry->maybe[entry->maybe_count++] =
            (struct model_state){.present = present, .stamp = stamp};
    }
}

// -- Operations -----------------------------------------------------------------------------------

// Sends one operation and waits; false: no answer came.
static bool model_call(struct model *model, const struct torc_request *request, uint64_t key,
                       struct torc_reply *reply)
{
    uint32_t op_id = torc_rig_add(&model->client, request);

    (void)torc_rig_flush(&model->rig, &model->client, torc_rig_core(&model->rig, key));
    while (torc_rig_await(&model->rig, &model->client, reply, STEPS)) {
        if (reply->op_id == op_id) {
            return true;
        }
    }
    return false;
}

static void model_get(struct model *model, uint64_t key)
{
    struct torc_request request = torc_rig_get(key);
    struct torc_reply reply;
    uint64_t stamp = 0;

    if (!model_call(model, &request, key, &reply)) {
        model_wrong(model, "a get got no answer", key);
    } else if (reply.status == TORC_ERR_NOT_FOUND) {
        model_observe(model, key, false, 0, 0);
    } else if (reply.status != TORC_ERR_OK || !value_is(reply.body, reply.body_bytes, &stamp)) {
        model_wrong(model, "a get gave no whole value", key);
    } else {
        model_observe(model, key, true, stamp, reply.info);
    }
}

static void model_written(struct model *model, uint64_t key, const struct torc_reply *reply,
                          const struct torc_request *request, uint64_t stamp)
{
    struct model_key *entry = &model->keys[key];
    bool put = request->opcode == TORC_OPCODE_PUT;

    switch (reply->status) {
    case TORC_ERR_OK:
        if (entry->now.version != 0 && reply->info <= entry->now.version) {
            model_wrong(model, "a write's version is not above the last", key);
        }
        // Lost writes of this key cannot happen any more: they were sent in an earlier epoch, or
        // stood before this one in the log.
        entry->maybe_count = 0;
        entry->now =
            (struct model_state){.present = put, .stamp = stamp, .version = put ? reply->info : 0};
        break;
    case TORC_ERR_CONDITION_FAILED: model->conditions_failed++; break;
    case TORC_ERR_NOT_FOUND: break;
    default: model_lost(model, key, put, stamp); break;
    }
    // A condition that failed or held tells what was there; a get afterwards checks it.
    if (reply->status != TORC_ERR_OK) {
        model_get(model, key);
    }
}

static void model_write(struct model *model, uint64_t key)
{
    static const uint8_t conditions[] = {0, 0, TORC_WRITE_IF_PRESENT, TORC_WRITE_IF_ABSENT,
                                         TORC_WRITE_IF_VERSION};
    unsigned char value[VALUE_MAX + 8];
    uint64_t stamp = model->next_stamp++;
    bool put = torc_rng_chance(&model->rng, 700000);
    struct torc_request request;
    struct torc_reply reply;

    value_fill(value, stamp);
    request = put ? torc_rig_put(&model->rig, &model->client, key, value, value_bytes(stamp))
                  : torc_rig_delete(&model->rig, &model->client, key);
    request.flags = conditions[torc_rng_below(&model->rng, sizeof(conditions))];
    if (!put && request.flags == TORC_WRITE_IF_ABSENT) {
        request.flags = 0;
    }
    request.version = model->keys[key].now.version;
    if (model_call(model, &request, key, &reply)) {
        model_written(model, key, &reply, &request, stamp);
    } else {
        model_lost(model, key, put, stamp);
    }
}

// All keys of one shard: what is listed is there, what is not listed is not.
static void model_range(struct model *model, uint64_t lo, uint64_t hi)
{
    struct torc_request request = {
        .opcode = TORC_OPCODE_RANGE_READ, .flags = TORC_RANGE_WITH_VERSIONS, .lo = lo, .hi = hi};
    struct torc_reply reply;
    struct torc_rows rows;
    struct torc_fail why;
    uint64_t next = lo;
    bool last = false;

    request.flags |= torc_rng_chance(&model->rng, 500000) ? TORC_RANGE_STALE : 0;
    (void)torc_rig_add(&model->client, &request);
    (void)torc_rig_flush(&model->rig, &model->client, torc_rig_core(&model->rig, lo));
    while (!last && torc_rig_await(&model->rig, &model->client, &reply, STEPS)) {
        if (reply.opcode != (TORC_OPCODE_RANGE_READ | TORC_REPLY_BIT)) {
            continue; // of a write that we had given up
        }
        TORC_TEST_OK(torc_rows_decode(&rows, reply.body, reply.body_bytes, false, &why), &why);
        for (uint32_t i = 0; i < rows.count; i++) {
            struct torc_rows_item item;
            uint64_t stamp = 0;

            torc_rows_at(&rows, i, &item);
            for (; next < item.key; next++) {
                model_observe(model, next, false, 0, 0);
            }
            if (!value_is(item.value, item.value_bytes, &stamp)) {
                model_wrong(model, "a range gave no whole value", item.key);
            }
            model_observe(model, item.key, true, stamp, item.version);
            next = item.key + 1;
        }
        last = (rows.place.flags & TORC_ROWS_LAST) != 0;
    }
    if (!last) {
        model_wrong(model, "a range did not end", lo);
    }
    for (; next < hi; next++) {
        model_observe(model, next, false, 0, 0);
    }
    model->ranges++;
}

// -- Faults ---------------------------------------------------------------------------------------

static void model_crash(struct model *model, bool forget)
{
    model->crashes++;
    torc_rig_crash(&model->rig);
    for (uint32_t i = 0; i < model->rig.config.workers; i++) {
        struct torc_fake_control *control = &model->rig.controls[i];

        control->disk_stuck = false;
        if (forget && control->block_count > 3) {
            torc_fake_control_cut(control, control->blocks[control->block_count - 3].sequence);
        }
    }
    if (!torc_rig_try_recover(&model->rig)) {
        model_wrong(model, "the node refuses what is on its disk", 0);
        return;
    }
    torc_rig_connect(&model->rig, &model->client, ++model->port);
    for (uint64_t key = 0; key < KEYS; key++) {
        model_get(model, key);
        model->keys[key].maybe_count = 0; // the old epoch's writes are refused from now on
    }
}

static void model_round(struct model *model, bool forget)
{
    uint64_t action = torc_rng_below(&model->rng, 1000);
    uint64_t key = torc_rng_below(&model->rng, KEYS);
    struct torc_fake_control *control =
        &model->rig.controls[torc_rng_below(&model->rng, model->rig.config.workers)];

    if (action < 500) {
        model_write(model, key);
    } else if (action < 900) {
        model_get(model, key);
    } else if (action < 950) {
        model_range(model, key / 32 * 32, key / 32 * 32 + 32);
    } else if (action < 960) {
        control->disk_stuck = true;
        model_write(model, key);
        control->disk_stuck = torc_rng_chance(&model->rng, 300000);
    } else if (action < 965) {
        control->disk_stuck = false;
        for (uint32_t i = 0; i < control->shard_count; i++) {
            if (control->shards[i].core == control->index &&
                control->shards[i].making.bytes == NULL) {
                torc_fake_control_checkpoint(control, i);
            }
        }
    } else if (action < 967) {
        model_crash(model, forget);
    } else {
        control->disk_stuck = false;
        torc_rig_step(&model->rig, torc_rng_below(&model->rng, 1000000));
    }
}

static struct model *model_open(uint64_t seed)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = 2,
                                     .key_count = KEYS,
                                     .seed = seed,
                                     .chunks = 16,
                                     .sealed = seed % 2 != 0};
    struct model *model = calloc(1, sizeof(*model));

    torc_assert(model != NULL);
    model->rng.state = seed;
    model->next_stamp = 1;
    model->port = 5000;
    torc_rig_open(&model->rig, &config);
    torc_rig_connect(&model->rig, &model->client, model->port);
    return model;
}

static void model_close(struct model *model)
{
    torc_rig_close(&model->rig);
    free(model);
}

static void a_node_agrees_with_an_array_through_crashes(void)
{
    struct model *model = model_open(torc_test_seed());

    for (uint32_t round = 0; round < ROUNDS; round++) {
        model_round(model, false);
    }
    // The run must have met what it is there for.
    CU_ASSERT(model->crashes > 20);
    CU_ASSERT(model->unknown > 20);
    CU_ASSERT(model->conditions_failed > 500);
    CU_ASSERT(model->ranges > 500);
    CU_ASSERT_EQUAL(model->wrong, 0);
    model_close(model);
}

// The same, on a disk that loses its last blocks though it said that it has them.
static void a_disk_that_forgets_is_found_out(void)
{
    struct model *model = model_open(torc_test_seed());

    model->tolerant = true;
    for (uint32_t round = 0; round < ROUNDS / 2 && model->wrong == 0; round++) {
        model_round(model, true);
    }
    CU_ASSERT(model->wrong > 0);
    model_close(model);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a node agrees with an array through crashes",
         a_node_agrees_with_an_array_through_crashes},
        {"a disk that forgets is found out", a_disk_that_forgets_is_found_out},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("model-worker", tests);
}
