// Torc tests: writes of clients whose principal loses and regains its rights, on a bad network.
//
// What    client engines joined to a sealed node (tests/client_net.h) by a network that loses,
//         doubles and delays; now and then the principal's role to write, or the range of its keys,
//         is taken away or given back. Each write has a key and a value of its own.
// Oracle  a write that ended OK is there in the end; one that ended FORBIDDEN is not, whatever was
//         still under way when it did; and none ends in doubt, for none lacks the time.
// Faults  a sibling run changes the rights of sessions that go on, which the node never does: then
//         a copy that comes late is executed after FORBIDDEN was reported, and must be found.
// Sources docs/decisions/0017.
#include "dataplane/session_table.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS     3u
#define OPERATIONS  16u // outstanding, of each
#define KEYS        UINT64_C(100000)
#define HALF        (KEYS / 2)
#define STEP_NS     UINT64_C(200000)
#define MS_NS       UINT64_C(1000000)
#define RUN_NS      (8000 * MS_NS)
#define LARGE_BYTES 20000u
#define LARGE_EVERY 8u

enum fate {
    UNUSED,
    OUT,
    DONE,
    FORBIDDEN
};

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_rng rng;
static uint8_t fates[KEYS];
static uint64_t keys_used;
static uint64_t counts[4]; // by fate
static uint64_t others;    // ended in any other way
static uint64_t wrong;     // the end was not what was said
static bool in_place;      // the planted fault

static void open_world(uint64_t seed)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = 4,
                                     .key_count = KEYS,
                                     .seed = seed,
                                     .steered = true,
                                     .sealed = true};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
    torc_net_open(net, rig, CLIENTS, seed, OPERATIONS);
    rng.state = seed;
    memset(fates, 0, sizeof(fates));
    memset(counts, 0, sizeof(counts));
    keys_used = 0;
    others = 0;
    wrong = 0;
}

static void close_world(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

// ---- Rights

static void grant(uint32_t roles, bool half)
{
    struct torc_chan_principal principal = torc_rig_principal(rig);

    principal.roles = roles;
    if (half) {
        principal.range_count = 1;
        principal.ranges[0].lo = 0;
        principal.ranges[0].hi = HALF;
    }
    torc_rig_keys(rig, &principal, 1);
}

static void grant_in_place(uint32_t roles)
{
    for (uint32_t slot = 0; slot < rig->sessions->slot_count; slot++) {
        struct torc_session *session = torc_session_at(rig->sessions, slot);

        if (atomic_load(&session->index) != 0) {
            session->roles = (uint8_t)roles;
        }
    }
}

static void change(void)
{
    static const uint32_t all = TORC_ROLE_READ | TORC_ROLE_WRITE;
    uint32_t roles = torc_rng_below(&rng, 5) < 3 ? all : TORC_ROLE_READ;

    if (in_place) {
        grant_in_place(roles);
    } else {
        grant(roles, torc_rng_below(&rng, 3) == 0);
    }
}

// ---- Load

static void begin_write(struct torc_engine *engine)
{
    static uint8_t value[LARGE_BYTES];
    struct torc_engine_write write = {.key = (keys_used * 7919) % KEYS, .data = value};

    write.bytes = torc_rng_below(&rng, LARGE_EVERY) == 0 ? LARGE_BYTES : 16;
    write.user_data = write.key;
    write.condition = torc_rng_below(&rng, 4) == 0 ? TORC_IF_ABSENT : TORC_ALWAYS;
    torc_test_value(value, write.key, (uint32_t)write.bytes);
    if (keys_used < KEYS && torc_engine_write(engine, &write, NULL) == TORC_ERR_OK) {
        CU_ASSERT_EQUAL_FATAL(fates[write.key], UNUSED);
        fates[write.key] = OUT;
        keys_used++;
    }
}

static void finish_writes(struct torc_engine *engine)
{
    struct torc_completion done[OPERATIONS];
    uint32_t count = torc_engine_poll(engine, done, OPERATIONS);

    for (uint32_t i = 0; i < count; i++) {
        enum fate fate = done[i].status == TORC_ERR_OK          ? DONE
                         : done[i].status == TORC_ERR_FORBIDDEN ? FORBIDDEN
                                                                : UNUSED;

        CU_ASSERT_EQUAL_FATAL(fates[done[i].user_data], OUT);
        fates[done[i].user_data] = (uint8_t)fate;
        counts[fate]++;
        if (fate == UNUSED) {
            others++;
            (void)fprintf(stderr, "key %" PRIu64 " ended with %s: %s\n", done[i].user_data,
                          torc_err_name(done[i].status), done[i].text);
        }
    }
}

static void run(void)
{
    uint64_t end_ns;
    uint64_t change_ns;

    torc_net_await(net);
    net->faults = (struct torc_net_faults){.loss_ppm = 30000,
                                           .double_ppm = 50000,
                                           .delay_max_ns = 2 * MS_NS,
                                           .late_ppm = 100000,
                                           .late_ns = 400 * MS_NS};
    end_ns = rig->now_ns + RUN_NS;
    change_ns = rig->now_ns;
    while (rig->now_ns < end_ns) {
        if (rig->now_ns >= change_ns) {
            change();
            change_ns = rig->now_ns + torc_rng_below(&rng, 600 * MS_NS);
        }
        for (uint32_t i = 0; i < CLIENTS; i++) {
            if (torc_engine_pending(net->clients[i]) < OPERATIONS / 2 &&
                torc_rng_below(&rng, 16) == 0) {
                begin_write(net->clients[i]);
            }
            finish_writes(net->clients[i]);
        }
        torc_net_step(net, STEP_NS);
    }
}

// ---- What came of it

// All that is under way arrives, with all rights.
static void settle(void)
{
    uint64_t end_ns;

    if (in_place) {
        grant_in_place(TORC_ROLE_READ | TORC_ROLE_WRITE);
    }
    grant(TORC_ROLE_READ | TORC_ROLE_WRITE, false);
    end_ns = rig->now_ns + UINT64_C(4) * net->faults.late_ns;
    while (rig->now_ns < end_ns) {
        for (uint32_t i = 0; i < CLIENTS; i++) {
            finish_writes(net->clients[i]);
        }
        torc_net_step(net, STEP_NS);
    }
    memset(&net->faults, 0, sizeof(net->faults));
    for (uint32_t step = 0; step < 100000 && counts[OUT] < CLIENTS; step++) {
        counts[OUT] = 0;
        for (uint32_t i = 0; i < CLIENTS; i++) {
            finish_writes(net->clients[i]);
            counts[OUT] += torc_engine_pending(net->clients[i]) == 0 ? 1 : 0;
        }
        torc_net_step(net, STEP_NS);
    }
    CU_ASSERT_EQUAL_FATAL(counts[OUT], CLIENTS);
}

static void check_key(uint64_t key)
{
    struct torc_completion done;
    uint32_t count = 0;
    bool is_there;

    CU_ASSERT_EQUAL_FATAL(torc_engine_get(net->clients[0], key, NULL, 0, NULL), TORC_ERR_OK);
    for (uint32_t step = 0; step < 100000 && count == 0; step++) {
        torc_net_step(net, STEP_NS / 10);
        count = torc_engine_poll(net->clients[0], &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    CU_ASSERT_FATAL(done.status == TORC_ERR_OK || done.status == TORC_ERR_NOT_FOUND);
    is_there = done.status == TORC_ERR_OK;
    CU_ASSERT(!is_there || torc_test_value_is(done.data, key, (uint32_t)done.bytes));
    wrong += (fates[key] == DONE && !is_there) || (fates[key] == FORBIDDEN && is_there) ? 1 : 0;
}

static void whole_run(uint64_t seed)
{
    open_world(seed);
    run();
    settle();
    for (uint64_t key = 0; key < KEYS; key++) {
        if (fates[key] == DONE || fates[key] == FORBIDDEN) {
            check_key(key);
        }
    }
    close_world();
}

static void test_rights_change(void)
{
    in_place = false;
    whole_run(torc_test_seed());
    (void)printf("%" PRIu64 " done, %" PRIu64 " forbidden ", counts[DONE], counts[FORBIDDEN]);
    CU_ASSERT(counts[DONE] > 20);
    CU_ASSERT(counts[FORBIDDEN] > 20);
    CU_ASSERT_EQUAL(others, 0);
    CU_ASSERT_EQUAL(wrong, 0);
}

static void test_finds_sessions_that_go_on(void)
{
    uint64_t found = 0;

    in_place = true;
    for (uint32_t i = 0; i < 10 && found == 0; i++) {
        whole_run(torc_test_seed() + i);
        found = wrong;
    }
    CU_ASSERT(found > 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"FORBIDDEN is said of what is never done, OK of what is, and nothing "
         "else is said",
         test_rights_change},
        {"sessions that go on with other rights are found", test_finds_sessions_that_go_on},
        CU_TEST_INFO_NULL};

    return torc_test_run("rights", tests);
}
