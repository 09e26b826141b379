// Torc tests: clients against a node over a network that loses, doubles, damages and delays
// packets, beside simple oracles.
//
// What    one client, exact: for each key the value it must have, or, after an outcome in doubt,
//         the two it may have. Ranges and counts in between equal the oracle's.
//         several clients: counters raised by compare-and-set: an increment that took effect twice,
//         or not at all, shows in the sum; reads never go back (versions).
//         the node dies and comes back meanwhile.
//         every other world is sealed; sessions are renewed at any time.
// Planted a client that gives a write a new identity when it sends it again: must be found.
#include "client/engine_state.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEYS = 512,
    FLIGHT = 32,
    STEP_NS = 20000,
    VALUE_MAX = 6000,
    POLL_MAX = 16,
    RENEWALS_PPM = 2000 // of steps
};

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_rng rng;
static uint8_t value[VALUE_MAX];
static bool planted; // the fault
static uint64_t faults_found;

// ---- The world

static void world_open(uint32_t workers, uint32_t clients)
{
    struct torc_rig_config config = {.workers = workers,
                                     .shards = workers * 2,
                                     .key_count = KEYS,
                                     .seed = torc_rng_next(&rng),
                                     .steered = true,
                                     .sealed = torc_rng_chance(&rng, 500000)};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
    torc_net_open(net, rig, clients, torc_rng_next(&rng), FLIGHT * 2);
}

static void world_close(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

static void world_faults(uint32_t loss_ppm)
{
    net->faults = (struct torc_net_faults){.loss_ppm = loss_ppm,
                                           .double_ppm = loss_ppm,
                                           .damage_ppm = loss_ppm / 10,
                                           .delay_max_ns = 200000,
                                           .late_ppm = loss_ppm / 2,
                                           .late_ns = 30000000};
}

// The planted fault: what waits to be sent again becomes another write.
static void world_plant(struct torc_engine *engine)
{
    for (uint32_t i = 0; i < engine->op_count; i++) {
        struct torc_op *op = &engine->ops[i];

        if (op->kind == TORC_OP_WRITE && op->state == TORC_OP_QUEUED && op->attempts > 0 &&
            op->big == NULL && op->refused[0] == 0) {
            uint64_t old = op->wseq % TORC_WSEQ_SPAN;

            if (torc_call_number(engine, op)) {
                engine->wseq_open[old / 64] &= ~(UINT64_C(1) << (old % 64));
            }
        }
    }
}

// A session follows the one before, whatever flies in it.
static void world_renew(struct torc_engine *engine)
{
    struct torc_client_node *node = &engine->nodes[0];

    if (node->state == TORC_NODE_UP && !node->shaking) {
        node->shake_again_ns = 0;
        torc_node_shake(engine, node, NULL);
    }
}

static void world_step(void)
{
    if (torc_rng_chance(&rng, RENEWALS_PPM)) {
        world_renew(net->clients[torc_rng_below(&rng, net->client_count)]);
    }
    if (planted) {
        // Between the timers and the sending.
        for (uint32_t i = 0; i < net->client_count; i++) {
            torc_engine_clock(net->clients[i], rig->now_ns, rig->wall_us);
            world_plant(net->clients[i]);
        }
    }
    torc_net_step(net, STEP_NS);
}

// A fault is an assertion of the test, or, in the planted run, what was to be found.
static void expect(bool holds, const char *what, uint64_t key)
{
    if (holds) {
        return;
    }
    faults_found++;
    if (!planted) {
        (void)fprintf(stderr, "key %" PRIu64 ": %s\n", key, what);
        CU_FAIL_FATAL("the oracle disagrees");
    }
}

// ---- One client, exact

// Values are made of a number: their bytes and length follow from it. 0: the key is absent.
struct cell {
    uint64_t now;
    uint64_t perhaps; // with doubt: or this
    uint64_t version; // of `now`; 0: not known
    uint64_t asked;   // by the write in flight
    uint32_t kind;    // of the operation in flight
    uint32_t condition;
    bool doubt;
    bool busy;
};

enum {
    CELL_GET = 1,
    CELL_PUT,
    CELL_DELETE
};

static struct cell cells[KEYS];
static uint64_t last_value;

static uint32_t value_bytes(uint64_t number)
{
    // Mostly small, some of several packets, some empty.
    return (uint32_t)(number % 29 == 0 ? number % VALUE_MAX : number % 11 == 0 ? 0 : number % 90);
}

static void value_make(uint64_t number)
{
    for (uint32_t i = 0; i < value_bytes(number); i++) {
        value[i] = (uint8_t)(number * 31 + i);
    }
}

static bool value_is(uint64_t number, const void *data, uint64_t bytes)
{
    if (number == 0 || bytes != value_bytes(number)) {
        return false;
    }
    value_make(number);
    return bytes == 0 || memcmp(data, value, bytes) == 0;
}

static void cell_settle(struct cell *cell, uint64_t number, uint64_t version)
{
    cell->now = number;
    cell->version = version;
}

static void cell_got(struct cell *cell, uint64_t key, const struct torc_completion *done)
{
    bool found = done->status == TORC_ERR_OK;
    bool is_now = found ? value_is(cell->now, done->data, done->bytes) : cell->now == 0;
    bool is_perhaps = found ? value_is(cell->perhaps, done->data, done->bytes) : cell->perhaps == 0;

    if (!found && done->status != TORC_ERR_NOT_FOUND) {
        return; // its deadline
    }
    if (found && cell->doubt && is_perhaps && cell->version != 0) {
        is_now = is_now && done->version == cell->version; // empty ones look all alike
    }
    expect(is_now || (cell->doubt && is_perhaps), "a get returned what was never there", key);
    expect(!found || !is_now || cell->version == 0 || cell->version == done->version,
           "the value is the one written, its version is not", key);
    if (cell->doubt && !is_now) {
        // It took effect. No late copy can undo that.
        cell_settle(cell, cell->perhaps, done->version);
        cell->doubt = false;
    }
}

static void cell_written(struct cell *cell, uint64_t key, const struct torc_completion *done)
{
    uint64_t number = cell->kind == CELL_DELETE ? 0 : cell->asked;
    bool present = cell->now != 0;
    bool wanted = cell->condition == TORC_IF_ABSENT    ? !present
                  : cell->condition == TORC_IF_PRESENT ? present
                                                       : true;

    if (torc_err_maybe_applied(done->status)) {
        cell->doubt = true;
        cell->perhaps = number;
        return;
    }
    if (done->status == TORC_ERR_OK) {
        expect(wanted, "a write went through against its condition", key);
        expect(cell->kind != CELL_DELETE || present, "a delete found what is absent", key);
        expect(done->version > cell->version, "a version went back", key);
        cell_settle(cell, number, done->version);
    } else if (done->status == TORC_ERR_NOT_FOUND) {
        expect(cell->kind == CELL_DELETE && !present, "a delete missed what is there", key);
    } else if (done->status == TORC_ERR_CONDITION_FAILED) {
        expect(!wanted, "a condition failed that holds", key);
    }
}

static void cell_done(const struct torc_completion *done)
{
    struct cell *cell = &cells[done->user_data];

    expect(cell->busy, "a completion came twice", done->user_data);
    cell->busy = false;
    if (cell->kind == CELL_GET) {
        cell_got(cell, done->user_data, done);
    } else {
        cell_written(cell, done->user_data, done);
    }
}

static bool cell_start(struct torc_engine *engine, uint64_t key)
{
    struct cell *cell = &cells[key];
    struct torc_read_options read = {.timeout_us = 400000};
    struct torc_engine_write write = {.key = key, .data = value, .user_data = key};
    uint64_t dice = torc_rng_below(&rng, 100);

    write.timeout_us = torc_rng_chance(&rng, 30000) ? 3000 : 600000;
    write.traced = torc_rng_chance(&rng, 200000);
    read.flags = write.traced ? TORC_TRACED : 0;
    cell->kind = cell->doubt || dice < 40 ? CELL_GET : dice < 85 ? CELL_PUT : CELL_DELETE;
    cell->condition = TORC_ALWAYS;
    if (cell->kind == CELL_GET) {
        return torc_engine_get(engine, key, &read, key, NULL) == TORC_ERR_OK;
    }
    cell->asked = ++last_value;
    value_make(cell->asked);
    write.bytes = cell->kind == CELL_PUT ? value_bytes(cell->asked) : 0;
    write.is_delete = cell->kind == CELL_DELETE;
    if (cell->kind == CELL_PUT && torc_rng_chance(&rng, 300000)) {
        cell->condition = torc_rng_chance(&rng, 500000) ? TORC_IF_ABSENT : TORC_IF_PRESENT;
    }
    write.condition = cell->condition;
    return torc_engine_write(engine, &write, NULL) == TORC_ERR_OK;
}

static void cells_poll(void)
{
    struct torc_completion done[POLL_MAX];
    uint32_t count = torc_engine_poll(net->clients[0], done, POLL_MAX);

    for (uint32_t i = 0; i < count; i++) {
        cell_done(&done[i]);
    }
}

static void cells_run(uint32_t operations)
{
    struct torc_engine *engine = net->clients[0];

    while (operations > 0 || torc_engine_pending(engine) > 0) {
        uint64_t key = torc_rng_below(&rng, KEYS);

        if (operations > 0 && torc_engine_pending(engine) < FLIGHT && !cells[key].busy) {
            cells[key].busy = cell_start(engine, key);
            operations -= cells[key].busy ? 1 : 0;
        } else {
            world_step();
        }
        cells_poll();
    }
}

// What was in doubt is so no more once no copy is on its way: a look tells.
static void cells_clear_doubt(void)
{
    for (uint32_t i = 0; i < 4000; i++) {
        world_step();
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        struct torc_read_options read = {.timeout_us = 5000000};
        struct cell *cell = &cells[key];

        if (!cell->doubt) {
            continue;
        }
        cell->kind = CELL_GET;
        cell->busy = torc_engine_get(net->clients[0], key, &read, key, NULL) == TORC_ERR_OK;
        while (cell->busy) {
            world_step();
            cells_poll();
        }
        cell->doubt = false;
    }
}

// ---- Ranges

static struct torc_completion page;

static void page_ask(uint64_t lo, uint64_t hi, const struct torc_range_options *options,
                     bool count_only)
{
    struct torc_engine_range request = {
        .lo = lo, .hi = hi, .options = *options, .count_only = count_only};

    request.options.timeout_us = 20000000;
    CU_ASSERT_EQUAL_FATAL(torc_engine_range(net->clients[0], &request, NULL), TORC_ERR_OK);
    do {
        world_step();
    } while (torc_engine_poll(net->clients[0], &page, 1) == 0);
    expect(page.status == TORC_ERR_OK, torc_err_name(page.status), lo);
}

// The oracle's next key at or after `at` (reverse: below it), or the end.
static uint64_t next_key(uint64_t at, uint64_t end, bool reverse)
{
    while (at != end && cells[reverse ? at - 1 : at].now == 0) {
        at = reverse ? at - 1 : at + 1;
    }
    return at;
}

static void row_check(const struct torc_row *row, uint64_t key,
                      const struct torc_range_options *options)
{
    expect(row->key == key, "a range has another key than the oracle", key);
    if ((options->flags & TORC_KEYS_ONLY) == 0) {
        expect(value_is(cells[key].now, row->data, row->bytes), "a range has another value", key);
    }
    if ((options->flags & TORC_WITH_VERSIONS) != 0 && cells[key].version != 0) {
        expect(row->version == cells[key].version, "a range has another version", key);
    }
}

static void range_check(uint64_t lo, uint64_t hi, const struct torc_range_options *options)
{
    bool reverse = (options->flags & TORC_REVERSE) != 0;
    uint64_t at = reverse ? hi : lo;
    uint64_t end = reverse ? lo : hi;
    bool more = true;

    while (more && faults_found == 0) {
        page_ask(lo, hi, options, false);
        for (uint64_t i = 0; i < page.count && faults_found == 0; i++) {
            at = next_key(at, end, reverse);
            expect(at != end, "a range has more keys than the oracle", page.rows[i].key);
            if (at != end) {
                row_check(&page.rows[i], reverse ? at - 1 : at, options);
                at = reverse ? at - 1 : at + 1;
            }
        }
        expect(options->limit == 0 || page.count <= options->limit, "a page over its limit", lo);
        more = (page.flags & TORC_MORE) != 0;
        lo = more ? page.next_lo : lo;
        hi = more ? page.next_hi : hi;
    }
    expect(next_key(at, end, reverse) == end, "a range left a key out", at);
}

static void count_check(uint64_t lo, uint64_t hi)
{
    static const struct torc_range_options options;
    uint64_t count = 0;

    for (uint64_t key = lo; key < hi; key++) {
        count += cells[key].now != 0 ? 1 : 0;
    }
    page_ask(lo, hi, &options, true);
    expect(page.count == count, "a count is not the oracle's", lo);
}

static void ranges_check(void)
{
    for (uint32_t i = 0; i < 12; i++) {
        uint64_t a = torc_rng_below(&rng, KEYS + 1);
        uint64_t b = torc_rng_below(&rng, KEYS + 1);
        struct torc_range_options options = {
            .flags = (uint32_t)torc_rng_below(&rng, 8),
            .limit = torc_rng_chance(&rng, 500000) ? torc_rng_below(&rng, 60) : 0,
            .bytes = torc_rng_chance(&rng, 300000) ? 1 + torc_rng_below(&rng, 9000) : 0};

        range_check(torc_min_u64(a, b), torc_max_u64(a, b), &options);
        count_check(torc_min_u64(a, b), torc_max_u64(a, b));
    }
}

static void one_client(uint32_t rounds, uint32_t loss_ppm, bool crashes)
{
    rng.state = torc_test_seed();
    memset(cells, 0, sizeof(cells));
    faults_found = 0;
    world_open(2, 1);
    for (uint32_t round = 0; round < rounds && faults_found == 0; round++) {
        world_faults(loss_ppm);
        cells_run(400);
        if (crashes && round % 3 == 2) {
            torc_rig_crash(rig);
            for (uint32_t i = 0; i < 1000; i++) {
                world_step();
            }
            torc_rig_recover(rig);
        }
        cells_clear_doubt();
        ranges_check();
    }
    world_close();
}

static void test_quiet(void)
{
    one_client(10, 0, false);
}

static void test_lossy(void)
{
    one_client(12, 20000, false);
}

static void test_bad(void)
{
    one_client(4, 150000, false);
}

static void test_crashes(void)
{
    one_client(12, 10000, true);
}

static void test_planted(void)
{
    planted = true;
    one_client(60, 100000, false);
    planted = false;
    CU_ASSERT(faults_found > 0);
}

// ---- Several clients: counters by compare-and-set

enum {
    COUNTERS = 8,
    CLIENTS = 3
};

struct counter {
    uint64_t raised;   // increments that were said to have taken effect
    uint64_t in_doubt; // that may have
};

struct raiser {
    uint64_t value;
    uint64_t version;
    uint64_t before; // newest version that was known when the call began
    bool reading;
    bool busy;
};

static struct counter counters[COUNTERS];
static struct raiser raisers[CLIENTS][COUNTERS];
static uint64_t newest[COUNTERS]; // version that a finished call has seen

static void raiser_start(uint32_t client, uint64_t key)
{
    struct raiser *raiser = &raisers[client][key];
    struct torc_engine *engine = net->clients[client];
    uint64_t next = raiser->value + 1;
    struct torc_engine_write write = {.key = key,
                                      .data = &next,
                                      .bytes = sizeof(next),
                                      .version = raiser->version,
                                      .condition =
                                          raiser->version == 0 ? TORC_IF_ABSENT : TORC_IF_VERSION,
                                      .timeout_us = 300000,
                                      .user_data = key};

    raiser->busy = true;
    raiser->before = newest[key];
    if (raiser->reading) {
        CU_ASSERT_EQUAL_FATAL(torc_engine_get(engine, key, NULL, key, NULL), TORC_ERR_OK);
    } else {
        CU_ASSERT_EQUAL_FATAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    }
}

static void raiser_read(struct raiser *raiser, uint64_t key, const struct torc_completion *done)
{
    raiser->value = raiser->version = 0;
    if (done->status == TORC_ERR_OK) {
        expect(done->bytes == sizeof(raiser->value), "a counter of another length", key);
        expect(done->version >= raiser->before, "a read went back", key);
        newest[key] = torc_max_u64(newest[key], done->version);
        memcpy(&raiser->value, done->data, sizeof(raiser->value));
        raiser->version = done->version;
    }
    raiser->reading = done->status != TORC_ERR_OK && done->status != TORC_ERR_NOT_FOUND;
}

static void raiser_done(uint32_t client, const struct torc_completion *done)
{
    uint64_t key = done->user_data;
    struct raiser *raiser = &raisers[client][key];

    raiser->busy = false;
    if (raiser->reading) {
        raiser_read(raiser, key, done);
        return;
    }
    if (done->status == TORC_ERR_OK) {
        counters[key].raised++;
        expect(done->version > raiser->before, "a version went back", key);
        newest[key] = torc_max_u64(newest[key], done->version);
        raiser->value++;
        raiser->version = done->version;
        return;
    }
    counters[key].in_doubt += torc_err_maybe_applied(done->status) ? 1 : 0;
    raiser->reading = true;
}

static void raisers_turn(bool start)
{
    for (uint32_t client = 0; client < CLIENTS; client++) {
        struct torc_completion done[POLL_MAX];
        uint32_t count = torc_engine_poll(net->clients[client], done, POLL_MAX);

        for (uint32_t i = 0; i < count; i++) {
            raiser_done(client, &done[i]);
        }
        for (uint64_t key = 0; start && key < COUNTERS; key++) {
            if (!raisers[client][key].busy && torc_rng_chance(&rng, 200000)) {
                raiser_start(client, key);
            }
        }
    }
    world_step();
}

static bool raisers_are_busy(void)
{
    bool busy = false;

    for (uint32_t at = 0; at < CLIENTS * COUNTERS; at++) {
        busy |= raisers[at / COUNTERS][at % COUNTERS].busy;
    }
    return busy;
}

static void counters_check(void)
{
    // After a crash some wait a second for their time-out.
    while (raisers_are_busy()) {
        raisers_turn(false);
    }
    for (uint64_t key = 0; key < COUNTERS; key++) {
        uint64_t least = counters[key].raised;

        raisers[0][key].reading = true;
        raiser_start(0, key);
        while (raisers[0][key].busy) {
            raisers_turn(false);
        }
        expect(raisers[0][key].value >= least, "an increment was lost", key);
        expect(raisers[0][key].value <= least + counters[key].in_doubt,
               "an increment took effect twice", key);
    }
}

static void several_clients(uint32_t loss_ppm, bool crashes)
{
    uint64_t raised = 0;

    rng.state = torc_test_seed();
    memset(counters, 0, sizeof(counters));
    memset(raisers, 0, sizeof(raisers));
    memset(newest, 0, sizeof(newest));
    faults_found = 0;
    world_open(2, CLIENTS);
    world_faults(loss_ppm);
    for (uint32_t step = 0; step < 60000; step++) {
        raisers_turn(true);
        if (crashes && step % 20000 == 19999) {
            torc_rig_crash(rig);
            torc_rig_recover(rig);
        }
    }
    net->faults = (struct torc_net_faults){0};
    for (uint32_t step = 0; step < 40000; step++) {
        raisers_turn(false);
    }
    counters_check();
    for (uint64_t key = 0; key < COUNTERS; key++) {
        raised += counters[key].raised;
    }
    CU_ASSERT(raised > 100);
    world_close();
}

static void test_counters(void)
{
    several_clients(20000, false);
}

static void test_counters_bad(void)
{
    several_clients(150000, true);
}

int main(void)
{
    CU_TestInfo tests[] = {{"a quiet network: all is exact", test_quiet},
                           {"some loss, doubles, damage, delay: all is exact", test_lossy},
                           {"much of it", test_bad},
                           {"the node dies and comes back", test_crashes},
                           {"a client with a planted fault is found out", test_planted},
                           {"several clients: increments count once", test_counters},
                           {"the same, much loss, the node dies", test_counters_bad},
                           CU_TEST_INFO_NULL};

    return torc_test_run("client model", tests);
}
