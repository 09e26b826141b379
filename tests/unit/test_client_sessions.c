// Torc tests: sessions of the client's engine with a whole node in one process: how they begin,
// follow each other and end, and what somebody on the path can do about it.
#include "client/engine_state.h"
#include "dataplane/session_table.h"
#include "tests/client_net.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS    UINT64_C(1000)
#define STEP_NS UINT64_C(20000)
#define NAP_NS  UINT64_C(100000000)
#define S_NS    UINT64_C(1000000000)

static struct torc_rig *rig;
static struct torc_net *net;
static struct torc_engine *engine;
static struct torc_client_node *node; // the engine's only one
static struct torc_completion done;   // of the last call
static const uint8_t value[9] = "forty-two";

// ---- The world

static bool sealed; // the rig's, and the client's unless it has a key of its own

static void open_rig(void)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = 2,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed(),
                                     .steered = true,
                                     .sealed = sealed};

    rig = calloc(1, sizeof(*rig));
    net = calloc(1, sizeof(*net));
    CU_ASSERT_FATAL(rig != NULL && net != NULL);
    torc_rig_open(rig, &config);
}

static void open_client(const struct torc_client_key *key)
{
    torc_net_open_with(net, rig, torc_test_seed(), key);
    engine = net->clients[0];
    node = &engine->nodes[0];
}

static void open_node(void)
{
    struct torc_client_key none = {.principal = 0};
    struct torc_client_key key;

    open_rig();
    key = torc_net_key(rig);
    open_client(sealed ? &key : &none);
}

static void steps(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        torc_net_step(net, STEP_NS);
    }
}

// Nobody asks for anything.
static void sleep_ns(uint64_t ns)
{
    for (uint64_t end_ns = rig->now_ns + ns; rig->now_ns < end_ns;) {
        torc_net_step(net, torc_min_u64(NAP_NS, end_ns - rig->now_ns));
    }
}

static void await_ready(void)
{
    torc_net_await(net);
    sleep_ns(2 * S_NS); // the packet size is found, and another handshake may follow
}

static void renew_now(void)
{
    node->renew_ns = rig->now_ns + 1;
    torc_wheel_set(&engine->wheel, engine->op_count + node->index, node->renew_ns);
    steps(200);
}

static void close_node(void)
{
    torc_net_close(net);
    torc_rig_close(rig);
    free(net);
    free(rig);
}

static enum torc_err finish(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < 2000000 && count == 0; i++) {
        torc_net_step(net, STEP_NS);
        count = torc_engine_poll(engine, &done, 1);
    }
    CU_ASSERT_EQUAL_FATAL(count, 1);
    return done.status;
}

static void begin_put(uint64_t key)
{
    struct torc_engine_write write = {.key = key, .data = value, .bytes = sizeof(value)};

    CU_ASSERT_EQUAL_FATAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
}

static enum torc_err put(uint64_t key)
{
    begin_put(key);
    return finish();
}

static enum torc_err get(uint64_t key)
{
    CU_ASSERT_EQUAL_FATAL(torc_engine_get(engine, key, NULL, 0, NULL), TORC_ERR_OK);
    return finish();
}

// AES-256-GCM where the machine has it.
static uint8_t best_suite(void)
{
    return torc_aead_best_suite(rig->config.aead->suites);
}

static uint64_t handshakes(void)
{
    struct torc_counters counters;

    torc_engine_counters(engine, &counters);
    return counters.handshakes;
}

static uint64_t resends(void)
{
    struct torc_counters counters;

    torc_engine_counters(engine, &counters);
    return counters.resends_timer + counters.resends_overtaken + counters.resends_refused;
}

// Sessions of the node that the workers serve.
static uint64_t sessions_live(void)
{
    return atomic_load(&rig->sessions->open_count);
}

static bool keys_are_forgotten(const struct torc_lane *lane)
{
    static const struct torc_lane nothing;

    return memcmp(lane->keys, nothing.keys, sizeof(nothing.keys)) == 0 &&
           memcmp(lane->tokens, nothing.tokens, sizeof(nothing.tokens)) == 0;
}

// ---- Sessions follow each other

static void test_renewal(void)
{
    uint32_t first;

    open_node();
    await_ready();
    CU_ASSERT_EQUAL(handshakes(), 1);
    first = node->lane.session_index;
    // A write that the disk keeps waiting goes out in the first session.
    rig->controls[0].disk_stuck = rig->controls[1].disk_stuck = true;
    begin_put(5);
    steps(50);
    renew_now();
    CU_ASSERT_EQUAL(handshakes(), 2);
    CU_ASSERT_NOT_EQUAL(node->lane.session_index, first);
    CU_ASSERT_EQUAL(node->previous.session_index, first);
    CU_ASSERT(node->has_previous);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_NOT_FOUND); // in the second, meanwhile
    rig->controls[0].disk_stuck = rig->controls[1].disk_stuck = false;
    CU_ASSERT_EQUAL(finish(), TORC_ERR_OK);
    CU_ASSERT_EQUAL(resends(), 0); // the first brought the answer
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    // When no answer can come in it any more it is closed, and its keys are forgotten.
    sleep_ns(engine->deadline_ns_max + 2 * NAP_NS);
    steps(20);
    CU_ASSERT(!node->has_previous);
    CU_ASSERT(keys_are_forgotten(&node->previous));
    CU_ASSERT_EQUAL(sessions_live(), 1);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    close_node();
}

// Pieces of a value that went out in two sessions: begun again, or put together, but whole.
static void test_renewal_large(void)
{
    static uint8_t large[300000];
    struct torc_engine_write write = {.key = 8, .data = large, .bytes = sizeof(large)};

    open_node();
    await_ready();
    for (uint32_t i = 0; i < sizeof(large); i++) {
        large[i] = (uint8_t)(i * 7 + (i >> 9));
    }
    CU_ASSERT_EQUAL_FATAL(torc_engine_write(engine, &write, NULL), TORC_ERR_OK);
    steps(3);
    renew_now();
    CU_ASSERT_EQUAL(finish(), TORC_ERR_OK);
    CU_ASSERT_EQUAL(handshakes(), 2);
    sleep_ns(2 * S_NS);
    CU_ASSERT_EQUAL_FATAL(torc_engine_get(engine, 8, NULL, 0, NULL), TORC_ERR_OK);
    steps(3);
    renew_now();
    CU_ASSERT_EQUAL(finish(), TORC_ERR_OK);
    CU_ASSERT_EQUAL(handshakes(), 3);
    CU_ASSERT_EQUAL_FATAL(done.bytes, sizeof(large));
    CU_ASSERT_EQUAL(memcmp(done.data, large, sizeof(large)), 0);
    close_node();
}

static void test_age(void)
{
    uint64_t age_ns;
    uint64_t began_ns;

    open_node();
    await_ready();
    began_ns = rig->now_ns;
    age_ns = node->limits.age_s * S_NS;
    CU_ASSERT(node->renew_ns >= began_ns + age_ns * 7 / 10 - S_NS);
    CU_ASSERT(node->renew_ns <= began_ns + age_ns * 9 / 10);
    for (uint32_t round = 0; round < 40; round++) {
        sleep_ns(age_ns / 20);
    }
    CU_ASSERT_EQUAL(handshakes(), 3); // each was confirmed, so the node kept it
    close_node();
}

static void test_worn(void)
{
    open_node();
    await_ready();
    node->lane.sent = (UINT64_C(1) << 28) - 2;
    CU_ASSERT_EQUAL(put(1), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(2), TORC_ERR_OK);
    CU_ASSERT_EQUAL(put(3), TORC_ERR_OK);
    steps(200);
    CU_ASSERT_EQUAL(handshakes(), 2);
    CU_ASSERT(node->lane.sent < 100);
    CU_ASSERT_EQUAL(get(3), TORC_ERR_OK);
    CU_ASSERT_EQUAL(resends(), 0);
    close_node();
}

static void test_close(void)
{
    struct torc_limits limits;

    open_node();
    await_ready();
    torc_engine_limits(engine, &limits);
    CU_ASSERT_EQUAL(limits.encryption, sealed ? best_suite() : 0);
    renew_now();
    CU_ASSERT_EQUAL(get(5), TORC_ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(sessions_live(), 2);
    torc_engine_close(engine);
    steps(200);
    CU_ASSERT_EQUAL(sessions_live(), 0);
    close_node();
}

// ---- Round trips

// What went over the wire, by type.
static uint32_t seen[16];
static uint8_t offered; // suites, of all INITs

// NOLINTNEXTLINE(readability-non-const-parameter): it is one of those that may change them
static bool watch(struct torc_net *at, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)at;
    if (packet->byte_count >= 2) {
        seen[bytes[1] & 0xf]++;
    }
    if (bytes[1] == torc_wire_type_byte(TORC_TYPE_INIT)) {
        offered |= bytes[offsetof(struct torc_init_wire, suites)];
    }
    return true;
}

static void watch_begin(void)
{
    memset(seen, 0, sizeof(seen));
    offered = 0;
    net->tamper = watch;
}

static void test_ticket(void)
{
    open_node();
    watch_begin();
    await_ready();
    CU_ASSERT_EQUAL(seen[TORC_TYPE_INIT], 2);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_RETRY], 1);
    watch_begin();
    renew_now();
    CU_ASSERT_EQUAL(handshakes(), 2);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_INIT], 1);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_ACCEPT], 1);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_RETRY], 0);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_NOSESSION], 0);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_NOT_FOUND);
    close_node();
}

static void test_restart(void)
{
    uint64_t began_ns;

    open_node();
    await_ready();
    CU_ASSERT_EQUAL(put(5), TORC_ERR_OK);
    torc_rig_crash(rig);
    torc_rig_recover(rig);
    watch_begin();
    began_ns = rig->now_ns;
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    // The get, NOSESSION with a cookie, INIT, ACCEPT, the get: no time-out among them.
    CU_ASSERT_EQUAL(seen[TORC_TYPE_NOSESSION], 1);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_INIT], 1);
    CU_ASSERT_EQUAL(seen[TORC_TYPE_RETRY], 0);
    CU_ASSERT_EQUAL(resends(), 0);
    CU_ASSERT(rig->now_ns - began_ns < 20 * STEP_NS); // on the rig's clock
    CU_ASSERT_EQUAL(handshakes(), 2);
    // Writes that were on their way take effect once.
    sleep_ns(2 * S_NS);
    rig->controls[0].disk_stuck = rig->controls[1].disk_stuck = true;
    begin_put(6);
    steps(20);
    torc_rig_crash(rig);
    rig->controls[0].disk_stuck = rig->controls[1].disk_stuck = false;
    torc_rig_recover(rig);
    CU_ASSERT_EQUAL(finish(), TORC_ERR_OK);
    CU_ASSERT_EQUAL(handshakes(), 3);
    CU_ASSERT_EQUAL(get(6), TORC_ERR_OK);
    close_node();
}

// Also of a session that has just begun; and of a second restart after a second at most, for hints
// may cause one handshake in that time.
static void test_restart_early(void)
{
    uint64_t began_ns;

    open_node();
    while (!torc_engine_ready(engine)) {
        steps(1);
    }
    for (uint32_t restart = 0; restart < 3; restart++) {
        torc_rig_crash(rig);
        torc_rig_recover(rig);
        began_ns = rig->now_ns;
        CU_ASSERT_EQUAL(put(5), TORC_ERR_OK);
        CU_ASSERT(rig->now_ns - began_ns < (restart == 0 ? S_NS / 1000 : S_NS + S_NS / 100));
        CU_ASSERT_EQUAL(handshakes(), restart + 2);
    }
    close_node();
}

// ---- Somebody on the path, or off it

// As if from the node.
static void inject(const void *bytes, uint32_t byte_count)
{
    struct torc_net_packet packet = {.node_port = TORC_RIG_BASE_PORT, .byte_count = byte_count};

    torc_net_inject(net, &packet, bytes);
}

// NOSESSION for each packet that the client sends, as somebody who sees them can make it.
static bool forge_nosession(struct torc_net *at, struct torc_net_packet *packet, uint8_t *bytes)
{
    unsigned char forged[TORC_NOSESSION_BYTES];
    struct torc_data data;
    struct torc_nosession nosession;

    (void)watch(at, packet, bytes);
    if (packet->to_node && (bytes[1] & 0xf) >= TORC_TYPE_DATA &&
        torc_data_decode(&data, bytes, packet->byte_count) == TORC_DROP_NONE) {
        nosession = (struct torc_nosession){
            .core = data.core, .index = data.index, .seq = data.seq, .node = 1};
        torc_nosession_encode(forged, &nosession);
        inject(forged, sizeof(forged));
    }
    return true;
}

// Guesses, without a view of the path.
static void inject_guesses(void)
{
    struct torc_nosession nosession = {.index = node->lane.session_index, .seq = 1u << 20};
    struct torc_retry retry = {.suites = 0xff, .versions = TORC_WIRE_VERSIONS, .node = 1};
    struct torc_refuse refuse = {.code = TORC_REFUSE_FULL, .node = 1};
    struct torc_version version = {.versions = 4, .node = 1};
    unsigned char packet[TORC_ACCEPT_BYTES] = {TORC_WIRE_MAGIC,
                                               torc_wire_type_byte(TORC_TYPE_ACCEPT)};

    inject(packet, sizeof(packet));
    torc_nosession_encode(packet, &nosession);
    inject(packet, TORC_NOSESSION_BYTES);
    torc_retry_encode(packet, &retry);
    inject(packet, TORC_RETRY_BYTES);
    torc_refuse_encode(packet, &refuse);
    inject(packet, TORC_REFUSE_BYTES);
    torc_version_encode(packet, &version);
    inject(packet, TORC_VERSION_BYTES);
}

static void test_hints(void)
{
    uint64_t began_ns;
    uint32_t first;

    open_node();
    await_ready();
    first = node->lane.session_index;
    watch_begin();
    for (uint32_t round = 0; round < 50; round++) {
        inject_guesses();
        CU_ASSERT_EQUAL(put(round), TORC_ERR_OK);
    }
    CU_ASSERT_EQUAL(seen[TORC_TYPE_INIT], 0);
    CU_ASSERT_EQUAL(node->lane.session_index, first);
    // With a view of it the session still works, and each second has one handshake at most: two
    // INITs, since the cookie was forged too.
    net->tamper = forge_nosession;
    began_ns = rig->now_ns;
    for (uint32_t round = 0; round < 300; round++) {
        CU_ASSERT_EQUAL(put(round), TORC_ERR_OK);
        steps(500);
    }
    CU_ASSERT(seen[TORC_TYPE_INIT] >= 1);
    CU_ASSERT(seen[TORC_TYPE_INIT] <= 2 * ((rig->now_ns - began_ns) / S_NS + 1));
    net->tamper = NULL;
    sleep_ns(2 * S_NS);
    CU_ASSERT_EQUAL(get(5), TORC_ERR_OK);
    close_node();
}

// One bit of one packet of the handshake.
static struct edit {
    uint8_t type;
    uint32_t bit;
    bool made;
} edit;

static bool edit_packet(struct torc_net *at, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)watch(at, packet, bytes);
    if (!edit.made && (bytes[1] & 0xf) == edit.type && edit.bit / 8 < packet->byte_count) {
        bytes[edit.bit / 8] ^= (uint8_t)(1u << (edit.bit % 8));
        edit.made = true;
    }
    return true;
}

// A handshake beside the session, with the edit: whatever comes of it, the client then has a
// session under which both sides understand each other.
static void edited(uint8_t type, uint32_t bit)
{
    uint64_t before = handshakes();

    node->has_ticket = type != TORC_TYPE_RETRY;
    edit = (struct edit){.type = type, .bit = bit};
    node->shake_again_ns = 0;
    renew_now();
    for (uint32_t i = 0; i < 400 && handshakes() == before; i++) {
        torc_net_step(net, 20 * S_NS / 1000); // its INIT is sent again
    }
    CU_ASSERT(edit.made);
    CU_ASSERT_EQUAL(handshakes(), before + 1);
    CU_ASSERT_EQUAL(node->lane.suite, best_suite());
    CU_ASSERT_EQUAL(get(5), TORC_ERR_NOT_FOUND);
}

static void test_edited(void)
{
    static const struct {
        uint8_t type;
        uint32_t bytes;
    } packets[] = {{TORC_TYPE_INIT, TORC_INIT_BYTES},
                   {TORC_TYPE_RETRY, TORC_RETRY_BYTES},
                   {TORC_TYPE_ACCEPT, TORC_ACCEPT_BYTES}};
    struct torc_rng rng = {torc_test_seed()};

    sealed = true;
    open_node();
    await_ready();
    net->tamper = edit_packet;
    for (uint32_t i = 0; i < TORC_COUNT_OF(packets); i++) {
        for (uint32_t byte = 0; byte < packets[i].bytes; byte++) {
            edited(packets[i].type, byte * 8 + (uint32_t)torc_rng_below(&rng, 8));
        }
    }
    CU_ASSERT_EQUAL(offered, rig->config.aead->suites);
    CU_ASSERT(sessions_live() <= handshakes()); // an INIT with an edit had none
    close_node();
}

static bool retry_says_clear(struct torc_net *at, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)watch(at, packet, bytes);
    if (bytes[1] == torc_wire_type_byte(TORC_TYPE_RETRY)) {
        bytes[offsetof(struct torc_retry_wire, suites)] = TORC_SUITE_CLEAR;
    }
    return true;
}

static bool init_lacks_aes(struct torc_net *at, struct torc_net_packet *packet, uint8_t *bytes)
{
    (void)watch(at, packet, bytes);
    if (bytes[1] == torc_wire_type_byte(TORC_TYPE_INIT)) {
        bytes[offsetof(struct torc_init_wire, suites)] = TORC_SUITE_CHACHA20_POLY1305;
    }
    return true;
}

// What the queue would say when the time for its first session is over.
static const char *no_session(void)
{
    sleep_ns(6 * S_NS);
    CU_ASSERT(!torc_engine_ready(engine));
    return torc_engine_trouble(engine);
}

static void expect_trouble(const char *words)
{
    const char *trouble = no_session();

    if (strstr(trouble, words) == NULL) {
        (void)printf("    not \"%s\": %s\n", words, trouble);
        CU_FAIL("another text was expected");
    }
}

static void test_downgrade(void)
{
    sealed = true;
    open_node();
    watch_begin();
    net->tamper = retry_says_clear;
    expect_trouble("does not talk to");
    CU_ASSERT_EQUAL(offered, rig->config.aead->suites);
    if (best_suite() == TORC_SUITE_AES_256_GCM) {
        net->tamper = init_lacks_aes;
        expect_trouble("refuses principal");
    }
    CU_ASSERT_EQUAL(seen[TORC_TYPE_ACCEPT], 0);
    watch_begin();
    sleep_ns(6 * S_NS);
    await_ready(); // and when nobody meddles any more, there is a session
    CU_ASSERT_EQUAL(node->lane.suite, best_suite());
    CU_ASSERT_EQUAL(offered, rig->config.aead->suites);
    close_node();
}

static void test_no_session(void)
{
    struct torc_client_key none = {.principal = 0};
    struct torc_client_key key;

    sealed = true;
    open_rig();
    key = torc_net_key(rig);
    open_client(&none);
    expect_trouble("wants a key");
    torc_net_close(net);

    key.psk.bytes[31] ^= 1;
    open_client(&key);
    expect_trouble("refuses principal 7, key 1 of rig: revoked, or of another cluster");
    torc_net_close(net);

    key = torc_net_key(rig);
    key.principal++;
    open_client(&key);
    expect_trouble("refuses principal 8");
    torc_net_close(net);

    key = torc_net_key(rig);
    key.cluster++;
    open_client(&key);
    expect_trouble("the key is for cluster");
    torc_net_close(net);

    key = torc_net_key(rig);
    key.psk.bound = true;
    key.psk.node = 9;
    open_client(&key);
    expect_trouble("answers as node 1, expected is node 9");
    CU_ASSERT_EQUAL(sessions_live(), 0);

    // One that is bound to this node is as good as one that is not.
    torc_net_close(net);
    key = torc_net_key(rig);
    CU_ASSERT_FATAL(torc_psk_bind(key.psk.bytes, &key.psk, key.cluster, 1));
    key.psk.bound = true;
    key.psk.node = 1;
    open_client(&key);
    await_ready();
    CU_ASSERT_EQUAL(put(5), TORC_ERR_OK);
    close_node();

    sealed = false;
    open_rig();
    key = torc_net_key(rig);
    open_client(&key);
    expect_trouble("--key-file none");
    CU_ASSERT_EQUAL(sessions_live(), 0);
    close_node();
}

// ---- In both modes

static void both(void (*test)(void))
{
    sealed = false;
    test();
    sealed = true;
    test();
}

#define BOTH(test)                \
    static void both_##test(void) \
    {                             \
        both(test);               \
    }
BOTH(test_renewal)
BOTH(test_renewal_large)
BOTH(test_age)
BOTH(test_worn)
BOTH(test_close)
BOTH(test_ticket)
BOTH(test_restart)
BOTH(test_restart_early)
BOTH(test_hints)

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session follows beside the one before, which ends what it began", both_test_renewal},
        {"also in the middle of a large value", both_test_renewal_large},
        {"at 80 % of its age", both_test_age},
        {"after 2^28 packets", both_test_worn},
        {"and all of them are closed at the end", both_test_close},
        {"a ticket makes it one round trip", both_test_ticket},
        {"a restart is noticed by the first packet after it", both_test_restart},
        {"also soon after another one", both_test_restart_early},
        {"what nobody signed ends no session", both_test_hints},
        {"no edited handshake gives a session that is not whole", test_edited},
        {"a client with a key never offers CLEAR, and takes the best suite", test_downgrade},
        {"who gets no session is told why", test_no_session},
        CU_TEST_INFO_NULL};

    return torc_test_run("client-sessions", tests);
}
