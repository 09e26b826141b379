// Torc fuzz: whatever a node, or somebody in its place, sends to a client's engine.
//
// What    an engine with a session and operations of each kind in flight; an input is either a
//         whole payload, or the operations of a well-sealed reply, whose ids 0 to 7 mean those in
//         flight. One life of the engine has a key, the next has none.
#include "client/engine_state.h"
#include "tests/torc_test.h"
#include "wire/aead_os.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    KEYS = 1000,
    LIFE_INPUTS = 2000, // a new engine after so many
    PAYLOAD_MAX = 1472,
    IDS = 8,
    TIMEOUT_US = 20000,
    STEP_NS = 200000
};

static struct torc_engine *engine; // kept between inputs; an edge file may keep state
static uint64_t engine_bytes;
static uint32_t inputs;
static uint64_t seq;
static uint32_t ids[IDS];
static const uint8_t big_value[20000];

static struct torc_engine_config config = {.client_id = 0x1234567800,
                                           .seed = 7,
                                           .pool_bytes = 4 << 20,
                                           .operations = 16,
                                           .nodes = 64,
                                           .payload_bytes = PAYLOAD_MAX,
                                           .read_rto_us = 1000};
static const struct torc_client_key key = {
    .cluster = 5, .principal = 2, .name = "fuzz", .psk = {.id = 1, .bytes = {1, 2, 3}}};

// What goes out is thrown away; the ids of what is in flight are noted.
static void drain(void)
{
    uint8_t payload[PAYLOAD_MAX];
    struct torc_datagram datagram = {.payload = payload};
    uint32_t found = 0;

    while (torc_engine_transmit(engine, &datagram)) {
    }
    for (uint32_t i = 0; i < engine->op_count; i++) {
        if (engine->ops[i].state == TORC_OP_SENT || engine->ops[i].state == TORC_OP_STREAMING) {
            ids[found++ % IDS] = torc_op_id(engine, i);
        }
    }
}

// Whatever marks came, no part is longer than the whole.
static void trace_check(void)
{
    struct torc_trace trace;

    if (torc_engine_trace(engine, &trace) && trace.known != TORC_TRACE_TOTAL) {
        torc_assert(trace.wire_ns <= trace.total_ns && trace.queue_ns <= trace.total_ns);
        torc_assert(trace.wire_ns + trace.queue_ns + trace.tree_ns + trace.log_ns + trace.sync_ns +
                        trace.reply_ns ==
                    trace.total_ns);
    }
}

static void operations_refill(void)
{
    struct torc_engine_write small = {
        .key = 3, .data = big_value, .bytes = 10, .timeout_us = TIMEOUT_US};
    struct torc_engine_write large = {
        .key = 4, .data = big_value, .bytes = sizeof(big_value), .timeout_us = TIMEOUT_US};
    struct torc_engine_range range = {.lo = 0, .hi = KEYS};
    struct torc_engine_range count = {.lo = 0, .hi = KEYS, .count_only = true};
    struct torc_read_options read = {.timeout_us = TIMEOUT_US};
    struct torc_completion done[16];

    (void)torc_engine_poll(engine, done, 16);
    trace_check();
    range.options.timeout_us = count.options.timeout_us = read.timeout_us;
    range.options.flags = inputs % 2 == 0 ? TORC_REVERSE : 0;
    read.flags = inputs % 3 == 0 ? TORC_TRACED : 0;
    small.traced = large.traced = inputs % 3 == 0;
    // LIMIT: enough is in flight already.
    (void)!torc_engine_get(engine, inputs % KEYS, &read, 0, NULL);
    (void)!torc_engine_write(engine, &small, NULL);
    (void)!torc_engine_write(engine, &large, NULL);
    (void)!torc_engine_range(engine, &range, NULL);
    (void)!torc_engine_range(engine, &count, NULL);
    (void)!torc_engine_status(engine, 0, TIMEOUT_US, 0, NULL);
    drain();
}

// Ids 0 to 7 become those in flight.
static void ids_set(uint8_t *ops, uint32_t bytes)
{
    for (uint32_t at = 0; at + 16 <= bytes;) {
        uint32_t length = (uint32_t)ops[at + 2] | (uint32_t)ops[at + 3] << 8;

        if (ops[at + 4] < IDS) {
            memcpy(ops + at + 4, &ids[ops[at + 4]], sizeof(ids[0]));
        }
        if (length < 16) {
            return;
        }
        at += torc_op_padded(length);
    }
}

static void receive_sealed(const uint8_t *data, uint32_t bytes)
{
    uint8_t packet[PAYLOAD_MAX] = {0};
    struct torc_client_node *node = &engine->nodes[0];
    struct torc_endpoint place = {.port = 28700};
    uint8_t core = (uint8_t)(seq % 2);
    struct torc_data head = {.type = torc_data_type(node->lane.suite),
                             .core = core,
                             .flags = TORC_DATA_FROM_RESPONDER,
                             .index = node->lane.client_index,
                             .clock_us = (uint32_t)(engine->now_ns / 1000),
                             .seq = ++seq};
    uint32_t padded = (uint32_t)torc_max_u64(torc_op_padded(bytes), 16);
    struct torc_seal seal = torc_lane_direction(&node->lane, TORC_TO_CLIENT);

    torc_data_encode(packet, &head);
    memcpy(packet + TORC_DATA_HEAD_BYTES, data, bytes);
    ids_set(packet + TORC_DATA_HEAD_BYTES, padded);
    torc_engine_receive(engine, &place, packet,
                        torc_data_seal(&seal, packet, TORC_DATA_HEAD_BYTES + padded));
}

// Two shards, one on each core.
static void map_set(void)
{
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t ops[TORC_REPLY_HEAD_BYTES + TORC_MAP_ENTRY_BYTES_MAX] = {0};
        struct torc_map_entry entry = {.lo = i * KEYS / 2,
                                       .hi = (i + 1) * KEYS / 2,
                                       .version = 1,
                                       .shard = i,
                                       .epoch = 1,
                                       .member_count = 1,
                                       .members = {{.node = 1, .core = (uint8_t)i, .state = 1}}};
        struct torc_reply reply = {.opcode = TORC_OPCODE_MAP_ENTRY,
                                   .op_id = UINT32_MAX,
                                   .info = entry.version,
                                   .body = ops + TORC_REPLY_HEAD_BYTES};

        reply.body_bytes = torc_map_entry_body(ops + TORC_REPLY_HEAD_BYTES, &entry);
        receive_sealed(ops, torc_reply_encode(ops, &reply));
    }
}

// The node's part of the handshake.
static void accept_make(unsigned char packet[TORC_ACCEPT_BYTES], struct torc_accept *accept)
{
    const unsigned char *sent = engine->nodes[0].shake.packet;
    struct torc_noise_ephemeral ephemeral = {.secret = {7}};
    struct torc_noise noise;
    struct torc_init init;
    uint8_t psk[TORC_PSK_BYTES];
    bool good;

    memcpy(accept->random, engine->nodes[0].shake.init.random, TORC_RANDOM_BYTES);
    if (config.key.principal == 0) {
        torc_accept_encode(packet, accept);
        return;
    }
    accept->suite = torc_aead_best_suite(config.aead->suites);
    accept->suites = config.aead->suites;
    torc_noise_ephemeral_make(&ephemeral);
    good = torc_psk_bind(psk, &key.psk, accept->cluster, accept->node) &&
           torc_init_decode(&init, sent, TORC_INIT_BYTES) == TORC_DROP_NONE &&
           torc_init_open(&init, sent, psk, &noise) == TORC_DROP_NONE &&
           torc_noise_reply(&noise, ephemeral.secret, init.ephemeral, ephemeral.public);
    torc_assert(good);
    torc_accept_seal(packet, accept, ephemeral.public, &noise);
}

static void session_begin(void)
{
    struct torc_endpoint place = {.port = 28700};
    uint8_t packet[TORC_ACCEPT_BYTES];
    struct torc_retry retry = {
        .versions = TORC_WIRE_VERSIONS, .node = 1, .cluster = 5, .cookie = {1}};
    struct torc_accept accept = {.lanes = 1,
                                 .suite = TORC_SUITE_CLEAR,
                                 .token_to_server = 1,
                                 .token_to_client = 2,
                                 .session_index = 1u << 20,
                                 .roles = TORC_ROLE_READ | TORC_ROLE_WRITE,
                                 .cores = 2,
                                 .base_port = 28700,
                                 .payload_max = PAYLOAD_MAX,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .suites = TORC_SUITE_CLEAR,
                                 .cluster = 5,
                                 .key_count = KEYS,
                                 .boot = 3,
                                 .node = 1,
                                 .value_bytes_max = 1 << 20,
                                 .packet_ops_max = 64,
                                 .core_ops_max = 256,
                                 .packets_max = 64,
                                 .cursors_max = 16,
                                 .fragments_max = 16,
                                 .idle_s = 600,
                                 .age_s = 3600,
                                 .deadline_ms_max = 60000,
                                 .message_bytes_max = 4 << 20,
                                 .write_window = 4096};

    config.aead = torc_aead_code_best();
    config.key = inputs / LIFE_INPUTS % 2 == 0 ? key : (struct torc_client_key){.principal = 0};
    retry.suites = config.key.principal == 0 ? TORC_SUITE_CLEAR : TORC_SUITES_SEALED;
    memset(engine, 0, engine_bytes);
    (void)torc_engine_init(engine, &config, 1000000000, 1700000000000000);
    torc_assert(torc_engine_seed(engine, &place, NULL) == TORC_ERR_OK);
    drain();
    memcpy(retry.random, engine->nodes[0].shake.init.random, TORC_RANDOM_BYTES);
    torc_retry_encode(packet, &retry);
    torc_engine_receive(engine, &place, packet, TORC_RETRY_BYTES);
    drain();
    accept_make(packet, &accept);
    torc_engine_receive(engine, &place, packet, sizeof(packet));
    torc_assert(engine->nodes[0].state == TORC_NODE_UP);
    seq = 0;
    map_set();
    torc_assert(torc_engine_ready(engine));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_endpoint place = {.port = 28700};
    uint8_t copy[PAYLOAD_MAX];
    uint32_t bytes = (uint32_t)torc_min_u64(size, PAYLOAD_MAX - TORC_DATA_OVERHEAD);

    if (engine == NULL) {
        engine_bytes = torc_engine_bytes(&config);
        engine = aligned_alloc(4096, (engine_bytes + 4095) & ~UINT64_C(4095));
        torc_assert(engine != NULL);
    }
    if (inputs++ % LIFE_INPUTS == 0) {
        session_begin();
    }
    torc_engine_clock(engine, engine->now_ns + STEP_NS, engine->wall_us + 200);
    operations_refill();
    if (bytes > 0 && data[0] == 0x54) {
        memcpy(copy, data, bytes);
        torc_engine_receive(engine, &place, copy, bytes);
    } else {
        receive_sealed(data, bytes);
    }
    drain();
    return 0;
}
