// Torc tests: prints the test vectors of docs/PROTOCOL.md, one `name hex` line each; with the
// argument `tables`, the tables of drop reasons, statuses and opcodes instead.
//
// What    every packet and operation of wire version 1 with fixed values, made by the encoders of
//         wire/. tests/conformance/vectors_test.py compares the lines with the document, and
//         decodes the document's with a client that was written from it.
#include "kit/crc32c.h"
#include "tests/peer_vectors.h"
#include "wire/aead_os.h"
#include "wire/frame.h"
#include "wire/handshake.h"
#include "wire/map.h"
#include "wire/op.h"
#include "wire/peer_codec.h"
#include "wire/rows.h"
#include "wire/session.h"

#include <sodium.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

static void print_vector(const char *name, const unsigned char *bytes, uint32_t byte_count)
{
    (void)printf("%s ", name);
    for (uint32_t i = 0; i < byte_count; i++) {
        (void)printf("%02x", bytes[i]);
    }
    (void)printf("\n");
}

static void fill(uint8_t *bytes, uint32_t byte_count, uint8_t first)
{
    for (uint32_t i = 0; i < byte_count; i++) {
        bytes[i] = (uint8_t)(first + i);
    }
}

// -- Handshake -----------------------------------------------------------------------------------

#define WALL_S UINT64_C(1790000000)

static struct torc_cookie_bearer vector_bearer(void)
{
    static const uint8_t ipv4[4] = {10, 79, 0, 1};
    struct torc_cookie_bearer bearer = {.port = 40000, .principal = 0};

    torc_ip_map(bearer.ip, ipv4);
    return bearer;
}

static struct torc_init vector_init(void)
{
    struct torc_init init = {.versions = TORC_WIRE_VERSIONS,
                             .node = TORC_NODE_UNKNOWN,
                             .suites = TORC_SUITE_CLEAR,
                             .lanes = 1,
                             .client_id = UINT64_C(0x1122334455667700),
                             .client_index = 0x01020304,
                             .payload_max = 1472,
                             .agent = "vectors/1"};

    fill(init.random, sizeof(init.random), 0xa0);
    return init;
}

static struct torc_accept vector_accept(void)
{
    struct torc_accept accept = {.lanes = 1,
                                 .suite = TORC_SUITE_CLEAR,
                                 .token_to_server = UINT64_C(0x5555555566666666),
                                 .token_to_client = UINT64_C(0x7777777788888888),
                                 .session_index = 0x00100007,
                                 .roles = TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN,
                                 .cores = 2,
                                 .base_port = TORC_WIRE_BASE_PORT,
                                 .payload_max = 1472,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .suites = TORC_SUITE_CLEAR,
                                 .cluster = UINT64_C(0xc1c2c3c4c5c6c7c8),
                                 .key_count = UINT64_C(1) << 32,
                                 .boot = 3,
                                 .map_version = 9,
                                 .hlc = UINT64_C(0x65c0a9f3d0000001),
                                 .node = 1,
                                 .value_bytes_max = 1048576,
                                 .packet_ops_max = 64,
                                 .core_ops_max = 256,
                                 .packets_max = 64,
                                 .cursors_max = 16,
                                 .fragments_max = 16,
                                 .idle_s = 600,
                                 .age_s = 3600,
                                 .deadline_ms_max = 60000,
                                 .message_bytes_max = 4194304,
                                 .write_window = 4096};

    fill(accept.random, sizeof(accept.random), 0xb0);
    return accept;
}

static void handshake_vectors(void)
{
    struct torc_cookie_bearer bearer = vector_bearer();
    struct torc_cookie_keys keys;
    struct torc_init init = vector_init();
    struct torc_accept accept = vector_accept();
    struct torc_retry retry = {.suites = TORC_SUITE_CLEAR,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = 1,
                               .cluster = accept.cluster};
    struct torc_refuse refuse = {
        .versions = TORC_WIRE_VERSIONS, .code = TORC_REFUSE_FULL, .node = 1, .retry_ms = 250};
    struct torc_version version = {.versions = TORC_WIRE_VERSIONS, .node = 1};
    struct torc_nosession nosession = {.core = 1, .index = 0x00100007, .seq = 5, .node = 1};
    uint8_t secret[32];
    unsigned char packet[TORC_INIT_BYTES];

    fill(secret, sizeof(secret), 0);
    torc_cookie_keys_init(&keys, secret, WALL_S);
    torc_init_encode(packet, &init);
    print_vector("init", packet, sizeof(packet));

    memcpy(retry.random, init.random, sizeof(retry.random));
    torc_cookie_make(&keys, TORC_COOKIE_ADDRESS, &bearer, WALL_S, retry.cookie);
    torc_retry_encode(packet, &retry);
    print_vector("retry", packet, TORC_RETRY_BYTES);

    init.has_cookie = true;
    init.node = 1;
    init.versions_seen = TORC_WIRE_VERSIONS;
    fill(init.random, sizeof(init.random), 0xb0);
    memcpy(init.cookie, retry.cookie, sizeof(init.cookie));
    torc_init_encode(packet, &init);
    print_vector("init-cookie", packet, sizeof(packet));

    torc_cookie_make(&keys, TORC_COOKIE_TICKET, &bearer, WALL_S, accept.ticket);
    torc_accept_encode(packet, &accept);
    print_vector("accept", packet, TORC_ACCEPT_BYTES);

    memcpy(refuse.random, init.random, sizeof(refuse.random));
    torc_refuse_encode(packet, &refuse);
    print_vector("refuse", packet, TORC_REFUSE_BYTES);

    memcpy(version.random, init.random, sizeof(version.random));
    torc_version_encode(packet, &version);
    print_vector("version", packet, TORC_VERSION_BYTES);

    memcpy(nosession.cookie, retry.cookie, sizeof(nosession.cookie));
    torc_nosession_encode(packet, &nosession);
    print_vector("nosession", packet, TORC_NOSESSION_BYTES);
}

// -- Sealed handshake ----------------------------------------------------------------------------

// What the vectors of sealed packets are made with.
struct sealed {
    uint8_t psk[TORC_NOISE_KEY_BYTES]; // of the node
    struct torc_init init;
    struct torc_noise noise; // of the client, then of the server
    struct torc_session_keys keys;
};

static void sealed_init(struct sealed *sealed, unsigned char packet[TORC_INIT_BYTES])
{
    struct torc_noise_ephemeral client;
    struct torc_cookie_bearer bearer = vector_bearer();
    struct torc_cookie_keys keys;
    uint8_t secret[32];
    uint8_t psk[TORC_NOISE_KEY_BYTES];

    fill(secret, sizeof(secret), 0);
    torc_cookie_keys_init(&keys, secret, WALL_S);
    fill(psk, sizeof(psk), 0x40);
    torc_noise_bind(sealed->psk, psk, vector_accept().cluster, 1);
    fill(client.secret, sizeof(client.secret), 0x60);
    torc_noise_ephemeral_make(&client);
    sealed->init = vector_init();
    sealed->init.has_cookie = true;
    sealed->init.node = 1;
    sealed->init.principal = 7;
    sealed->init.key = 1;
    sealed->init.suites = TORC_SUITES_SEALED;
    sealed->init.versions_seen = TORC_WIRE_VERSIONS;
    fill(sealed->init.random, sizeof(sealed->init.random), 0xb0);
    memcpy(sealed->init.ephemeral, client.public, sizeof(client.public));
    torc_cookie_make(&keys, TORC_COOKIE_ADDRESS, &bearer, WALL_S, sealed->init.cookie);
    torc_init_seal(packet, &sealed->init, sealed->psk, &sealed->noise);
}

// The server's part.
static void sealed_accept(struct sealed *sealed, const unsigned char init[TORC_INIT_BYTES],
                          unsigned char packet[TORC_ACCEPT_BYTES])
{
    struct torc_accept accept = vector_accept();
    struct torc_cookie_bearer bearer = vector_bearer();
    struct torc_cookie_keys keys;
    struct torc_noise_ephemeral server;
    struct torc_init opened;
    uint8_t secret[32];
    bool good;

    fill(server.secret, sizeof(server.secret), 0x80);
    torc_noise_ephemeral_make(&server);
    accept.suite = TORC_SUITE_AES_256_GCM;
    accept.suites = TORC_SUITES_SEALED;
    fill(secret, sizeof(secret), 0);
    torc_cookie_keys_init(&keys, secret, WALL_S);
    torc_cookie_make(&keys, TORC_COOKIE_TICKET, &bearer, WALL_S, accept.ticket);
    good = torc_init_decode(&opened, init, TORC_INIT_BYTES) == TORC_DROP_NONE &&
           torc_init_open(&opened, init, sealed->psk, &sealed->noise) == TORC_DROP_NONE &&
           torc_noise_reply(&sealed->noise, server.secret, sealed->init.ephemeral, server.public);
    torc_assert(good);
    torc_accept_seal(packet, &accept, server.public, &sealed->noise);
    torc_noise_split(&sealed->noise, sealed->keys.to_server, sealed->keys.to_client);
}

static void sealed_vectors(struct sealed *sealed)
{
    unsigned char init[TORC_INIT_BYTES];
    unsigned char packet[TORC_ACCEPT_BYTES];
    uint8_t lane_keys[2][32];

    sealed_init(sealed, init);
    print_vector("psk-node", sealed->psk, sizeof(sealed->psk));
    print_vector("init-sealed", init, sizeof(init));
    sealed_accept(sealed, init, packet);
    print_vector("accept-sealed", packet, sizeof(packet));
    (void)crypto_kdf_derive_from_key(lane_keys[0], 32, 1, "torc-dat", sealed->keys.to_server);
    (void)crypto_kdf_derive_from_key(lane_keys[1], 32, 1, "torc-dat", sealed->keys.to_client);
    print_vector("lane-keys", lane_keys[0], sizeof(lane_keys));
}

// -- Operations ----------------------------------------------------------------------------------

static void request_vector(const char *name, const struct torc_request *request)
{
    unsigned char op[512];

    print_vector(name, op, torc_request_encode(op, request));
}

static const unsigned char text[] = "forty-two";
#define TEXT_BYTES 9u

static void put_text(unsigned char *to)
{
    for (uint32_t i = 0; i < TEXT_BYTES; i++) {
        to[i] = text[i];
    }
}

static void session_request_vectors(void)
{
    request_vector("nop", &(struct torc_request){.opcode = TORC_OPCODE_NOP});
    request_vector("ping", &(struct torc_request){.opcode = TORC_OPCODE_PING,
                                                  .op_id = 1,
                                                  .data = text,
                                                  .data_bytes = TEXT_BYTES});
    request_vector("cancel",
                   &(struct torc_request){.opcode = TORC_OPCODE_CANCEL, .op_id = 2, .target = 1});
    request_vector("close", &(struct torc_request){.opcode = TORC_OPCODE_CLOSE, .op_id = 3});
    request_vector("cookie", &(struct torc_request){.opcode = TORC_OPCODE_COOKIE, .op_id = 4});
    request_vector(
        "status", &(struct torc_request){.opcode = TORC_OPCODE_STATUS, .op_id = 5, .offset = 4096});
    request_vector("map", &(struct torc_request){.opcode = TORC_OPCODE_MAP,
                                                 .op_id = 6,
                                                 .lo = 0,
                                                 .hi = UINT64_C(1) << 32,
                                                 .entries_max = 8});
    request_vector("clock", &(struct torc_request){
                                .opcode = TORC_OPCODE_CLOCK, .op_id = 7, .lo = 10, .hi = 20});
}

static void value_request_vectors(void)
{
    struct torc_request put = {.opcode = TORC_OPCODE_PUT,
                               .op_id = 18,
                               .budget_us = 1000000,
                               .key = 42,
                               .wseq = 7,
                               .lowest = 5,
                               .stamp = UINT64_C(0x65c0a9f3d0000001),
                               .epoch = 2,
                               .attempt = 1,
                               .data = text,
                               .data_bytes = TEXT_BYTES};
    struct torc_request remove = put;

    request_vector("get", &(struct torc_request){
                              .opcode = TORC_OPCODE_GET, .op_id = 16, .key = 42, .epoch = 2});
    request_vector("get-at", &(struct torc_request){.opcode = TORC_OPCODE_GET,
                                                    .flags = TORC_GET_AT | TORC_GET_VERSION_ONLY,
                                                    .op_id = 17,
                                                    .key = 42,
                                                    .epoch = 2,
                                                    .ts = UINT64_C(0x65c0a9f3d0000001)});
    request_vector("put", &put);
    put.flags = TORC_WRITE_IF_VERSION | TORC_WRITE_RETURN_CURRENT;
    put.version = UINT64_C(0x65c0a9f3cffff000);
    request_vector("put-if-version", &put);
    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = 20;
    put.fragment_bytes = 8;
    put.data_bytes = 8;
    request_vector("put-fragmented", &put);
    remove.opcode = TORC_OPCODE_DELETE;
    remove.flags = TORC_WRITE_IF_PRESENT;
    remove.data_bytes = 0;
    request_vector("delete", &remove);
    request_vector("pull", &(struct torc_request){.opcode = TORC_OPCODE_PULL,
                                                  .op_id = 19,
                                                  .key = 42,
                                                  .version = UINT64_C(0x65c0a9f3d0000002),
                                                  .fragment = 3,
                                                  .fragment_bytes = 1400,
                                                  .bitmap = 0x0d});
    request_vector("frag", &(struct torc_request){.opcode = TORC_OPCODE_FRAG,
                                                  .op_id = 18,
                                                  .key = 42,
                                                  .fragment = 2,
                                                  .data = text,
                                                  .data_bytes = 4});
    request_vector("frag-query", &(struct torc_request){
                                     .opcode = TORC_OPCODE_FRAG_QUERY, .op_id = 18, .key = 42});
}

static void range_request_vectors(void)
{
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ,
                                 .flags = TORC_RANGE_REVERSE | TORC_RANGE_WITH_VERSIONS,
                                 .op_id = 32,
                                 .lo = 100,
                                 .hi = 200,
                                 .limit = 10,
                                 .epoch = 2};

    request_vector("range-read", &range);
    range.opcode = TORC_OPCODE_RANGE_OPEN;
    range.op_id = 33;
    range.credit = 4;
    request_vector("range-open", &range);
    request_vector("range-credit",
                   &(struct torc_request){
                       .opcode = TORC_OPCODE_RANGE_CREDIT, .op_id = 33, .credit = 8, .key = 150});
    request_vector("range-close",
                   &(struct torc_request){.opcode = TORC_OPCODE_RANGE_CLOSE, .op_id = 33});
}

// -- Replies -------------------------------------------------------------------------------------

static void reply_vector(const char *name, struct torc_reply reply)
{
    unsigned char op[512];

    print_vector(name, op, torc_reply_encode(op, &reply));
}

static void point_reply_vectors(void)
{
    unsigned char body[64];
    static const unsigned char partial[] = {0x00, 0x00, 0x10, 0x00, 'a', 'b', 'c', 'd'};

    reply_vector("reply-get", (struct torc_reply){.opcode = 0x90,
                                                  .op_id = 16,
                                                  .info = UINT64_C(0x65c0a9f3d0000002),
                                                  .body = text,
                                                  .body_bytes = TEXT_BYTES});
    reply_vector("reply-not-found",
                 (struct torc_reply){.opcode = 0x90, .status = TORC_ERR_NOT_FOUND, .op_id = 16});
    reply_vector("reply-partial", (struct torc_reply){.opcode = 0x90,
                                                      .status = TORC_ERR_PARTIAL,
                                                      .op_id = 16,
                                                      .info = UINT64_C(0x65c0a9f3d0000002),
                                                      .body = partial,
                                                      .body_bytes = sizeof(partial)});
    torc_write_reply_body(body, 1);
    put_text(body + 8);
    reply_vector("reply-put", (struct torc_reply){.opcode = 0x91,
                                                  .op_id = 18,
                                                  .info = UINT64_C(0x65c0a9f3d0000002),
                                                  .body = body,
                                                  .body_bytes = 8});
    reply_vector("reply-condition-failed", (struct torc_reply){.opcode = 0x91,
                                                               .status = TORC_ERR_CONDITION_FAILED,
                                                               .op_id = 18,
                                                               .info = UINT64_C(0x65c0a9f3d0000002),
                                                               .body = body,
                                                               .body_bytes = 8 + TEXT_BYTES});
    reply_vector("reply-no-space",
                 (struct torc_reply){.opcode = 0x91,
                                     .status = TORC_ERR_NO_SPACE,
                                     .op_id = 18,
                                     .info = torc_info_reason(TORC_NO_SPACE_MEMORY, 1000),
                                     .body = body,
                                     .body_bytes = 8});
    torc_pull_reply_body(body, 3);
    put_text(body + 8);
    reply_vector("reply-pull", (struct torc_reply){.opcode = 0x88,
                                                   .op_id = 19,
                                                   .info = UINT64_C(0x65c0a9f3d0000002),
                                                   .body = body,
                                                   .body_bytes = 8 + TEXT_BYTES});
}

static void special_reply_vectors(void)
{
    unsigned char body[64];
    struct torc_frag_state state = {.first_missing = 3, .send_limit = 19, .bitmap = {0x06}};
    struct torc_shed shed = {.retry_us = 250, .delay_us = 130};
    struct torc_trace_marks trace = {100, 2000, 3000, 90000, 95000};

    torc_frag_state_body(body, &state);
    reply_vector("reply-frag-state", (struct torc_reply){.opcode = 0x8a,
                                                         .op_id = 18,
                                                         .body = body,
                                                         .body_bytes = TORC_FRAG_STATE_BYTES});
    torc_shed_body(body, &shed);
    reply_vector("reply-shed", (struct torc_reply){.opcode = TORC_OPCODE_SHED,
                                                   .status = TORC_ERR_BUSY,
                                                   .info = 5,
                                                   .body = body,
                                                   .body_bytes = TORC_SHED_BYTES});
    torc_unread_body(body, &(struct torc_unread){.bitmap = 0x8000000000000005, .retry_us = 250});
    reply_vector("reply-unread", (struct torc_reply){.opcode = TORC_OPCODE_UNREAD,
                                                     .status = TORC_ERR_BUSY,
                                                     .info = 5,
                                                     .body = body,
                                                     .body_bytes = TORC_UNREAD_BYTES});
    torc_trace_body(body, &trace);
    reply_vector("reply-trace", (struct torc_reply){.opcode = TORC_OPCODE_TRACE,
                                                    .op_id = 18,
                                                    .body = body,
                                                    .body_bytes = TORC_TRACE_BYTES});
}

static void map_reply_vectors(void)
{
    static const uint8_t ipv4[4] = {10, 79, 0, 11};
    uint8_t address[16];
    unsigned char body[128];
    struct torc_map_entry entry = {
        .lo = 0,
        .hi = UINT64_C(1) << 30,
        .version = 9,
        .shard = 0,
        .epoch = 2,
        .member_count = 2,
        .primary = 0,
        .members = {{.node = 1, .core = 1, .state = TORC_MAP_IN_SYNC},
                    {.node = 2, .core = 255, .state = TORC_MAP_LEARNER}}};
    struct torc_node_entry node = {.node = 1,
                                   .base_port = TORC_WIRE_BASE_PORT,
                                   .cores = 2,
                                   .address_count = 1,
                                   .addresses = address};

    torc_ip_map(address, ipv4);
    reply_vector("reply-map-entry",
                 (struct torc_reply){.opcode = TORC_OPCODE_MAP_ENTRY,
                                     .op_id = 6,
                                     .info = 9,
                                     .body = body,
                                     .body_bytes = torc_map_entry_body(body, &entry)});
    reply_vector("reply-node-entry",
                 (struct torc_reply){.opcode = TORC_OPCODE_NODE_ENTRY,
                                     .op_id = 6,
                                     .info = 9,
                                     .body = body,
                                     .body_bytes = torc_node_entry_body(body, &node)});
}

static struct torc_rows_builder builder; // a large one; an edge file may keep state

static void chunk_vector(const char *name, uint32_t flags, const struct torc_rows_item *items,
                         uint32_t count)
{
    unsigned char body[256];
    struct torc_rows_place place = {
        .cover_lo = 100, .cover_hi = 200, .chunk = 0, .flags = TORC_ROWS_LAST};

    torc_rows_begin(&builder, sizeof(body), flags);
    for (uint32_t i = 0; i < count; i++) {
        torc_assert(torc_rows_add(&builder, &items[i]));
    }
    reply_vector(name, (struct torc_reply){.opcode = 0xa0,
                                           .op_id = 32,
                                           .info = UINT64_C(0x65c0a9f3d0000002),
                                           .body = body,
                                           .body_bytes = torc_rows_write(&builder, &place, body)});
}

static void range_reply_vectors(void)
{
    const struct torc_rows_item ascending[] = {{.key = 101, .value = text, .value_bytes = 5},
                                               {.key = 150, .value = text + 6, .value_bytes = 3}};
    const struct torc_rows_item descending[] = {
        {.key = 199, .version = 12, .value = text, .value_bytes = 2},
        {.key = 101, .version = 11, .value = text + 2, .value_bytes = 2}};
    const struct torc_rows_item large[] = {
        {.key = 101, .value = text, .value_bytes = 5},
        {.key = 102, .value_bytes = 100000, .by_reference = true},
        {.key = 103, .value = text, .value_bytes = 1}};
    struct torc_rows_place place = {.cover_lo = 100, .cover_hi = 200, .flags = TORC_ROWS_LAST};
    unsigned char body[TORC_ROWS_COUNT_BYTES];

    chunk_vector("reply-chunk", 0, ascending, 2);
    chunk_vector("reply-chunk-reverse", TORC_RANGE_REVERSE | TORC_RANGE_WITH_VERSIONS, descending,
                 2);
    chunk_vector("reply-chunk-keys", TORC_RANGE_KEYS_ONLY, ascending, 2);
    chunk_vector("reply-chunk-reference", 0, large, 3);
    torc_rows_write_count(&place, 12345, body);
    reply_vector("reply-count", (struct torc_reply){.opcode = 0xa0,
                                                    .op_id = 32,
                                                    .info = UINT64_C(0x65c0a9f3d0000002),
                                                    .body = body,
                                                    .body_bytes = sizeof(body)});
}

// -- Data packets --------------------------------------------------------------------------------

// A get and its answer.
static void packet_vectors(struct torc_lane *lane, const char *get_name, const char *reply_name)
{
    struct torc_data data = {.core = 1,
                             .clock_us = 123456,
                             .hlc = UINT64_C(0x65c0a9f3d0000001),
                             .reply_bytes = 1472,
                             .reply_packets = 1};
    struct torc_data reply = {.type = torc_data_type(lane->suite),
                              .core = 1,
                              .flags = TORC_DATA_FROM_RESPONDER,
                              .index = 0x01020304,
                              .clock_us = 123456,
                              .seq = 1,
                              .hlc = UINT64_C(0x65c0a9f3d0000002),
                              .hold_ns = 4321};
    struct torc_seal seal = torc_lane_direction(lane, TORC_TO_CLIENT);
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .op_id = 16, .key = 42, .epoch = 2};
    struct torc_reply answer = {.opcode = 0x90,
                                .op_id = 16,
                                .info = UINT64_C(0x65c0a9f3d0000002),
                                .body = text,
                                .body_bytes = TEXT_BYTES};
    unsigned char packet[256];
    uint32_t ops_bytes = torc_request_encode(packet + TORC_DATA_HEAD_BYTES, &get);

    print_vector(get_name, packet, torc_lane_seal(lane, packet, ops_bytes, &data));
    torc_data_encode(packet, &reply);
    ops_bytes = torc_reply_encode(packet + TORC_DATA_HEAD_BYTES, &answer);
    print_vector(reply_name, packet,
                 torc_data_seal(&seal, packet, TORC_DATA_HEAD_BYTES + ops_bytes));
}

static void all_packet_vectors(const struct sealed *sealed)
{
    static struct torc_lane lane;
    const struct torc_aead_code *code = torc_aead_code_best();
    struct torc_accept accept = vector_accept();

    torc_lane_init(&lane, &accept, 0x01020304, 0, NULL, NULL);
    packet_vectors(&lane, "packet-get", "packet-get-reply");
    accept.suite = TORC_SUITE_AES_256_GCM;
    torc_lane_init(&lane, &accept, 0x01020304, 0, &sealed->keys, code);
    packet_vectors(&lane, "packet-get-aes", "packet-get-reply-aes");
    accept.suite = TORC_SUITE_CHACHA20_POLY1305;
    torc_lane_init(&lane, &accept, 0x01020304, 0, &sealed->keys, code);
    packet_vectors(&lane, "packet-get-chacha", "packet-get-reply-chacha");
}

// -- Tables --------------------------------------------------------------------------------------

static void print_number(const char *table, unsigned number, const char *name)
{
    (void)printf("%s %02X %s\n", table, number, name);
}

static void print_tables(void)
{
    static const struct {
        const char *name;
        unsigned number;
    } statuses[] =
        {
#define X(name, number, sentence) {#name, (number)},
            TORC_ERR_TABLE(X)
#undef X
        },
      opcodes[] =
          {
#define X(name, code, flags, explanation) {#name, (code)},
              TORC_OPCODE_TABLE(X)
#undef X
          },
      peers[] = {
#define X(name, code, explanation) {#name, (code)},
          TORC_PEER_OPCODE_TABLE(X)
#undef X
      };

    for (int drop = 0; drop < (int)TORC_DROP_COUNT; drop++) {
        (void)printf("drop %s %s\n", torc_drop_name((enum torc_drop)drop),
                     torc_drop_explanation((enum torc_drop)drop));
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(statuses); i++) {
        print_number("status", statuses[i].number, statuses[i].name);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(opcodes); i++) {
        print_number("opcode", opcodes[i].number, opcodes[i].name);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(peers); i++) {
        print_number("peer", peers[i].number, peers[i].name);
    }
}

int main(int argc, char **argv)
{
    const uint32_t crc = torc_crc32c(0, "123456789", 9);
    static struct sealed sealed;

    if (argc > 1 && strcmp(argv[1], "tables") == 0) {
        print_tables();
        return 0;
    }
    (void)printf("crc32c %08" PRIx32 "\n", crc);
    handshake_vectors();
    sealed_vectors(&sealed);
    session_request_vectors();
    value_request_vectors();
    range_request_vectors();
    point_reply_vectors();
    special_reply_vectors();
    map_reply_vectors();
    range_reply_vectors();
    all_packet_vectors(&sealed);
    torc_peer_vectors(print_vector);
    return 0;
}
