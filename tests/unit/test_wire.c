// Torc tests: the protocol's codecs: each message there and back, and each refusal by its reason.
#include "tests/torc_test.h"
#include "wire/frame.h"
#include "wire/handshake.h"
#include "wire/map.h"
#include "wire/op.h"
#include "wire/rows.h"
#include "wire/session.h"

#include <stdlib.h>
#include <string.h>

#define WALL_S UINT64_C(1790000000)

// -- Help ----------------------------------------------------------------------------------------

static void fill(uint8_t *bytes, uint32_t byte_count, uint8_t first)
{
    for (uint32_t i = 0; i < byte_count; i++) {
        bytes[i] = (uint8_t)(first + i);
    }
}

static struct torc_accept good_accept(void)
{
    struct torc_accept accept = {.core = 1,
                                 .lanes = 2,
                                 .suite = TORC_SUITE_CLEAR,
                                 .durability = 2,
                                 .token_to_server = 0x1111,
                                 .token_to_client = 0x2222,
                                 .session_index = 0x00100004,
                                 .roles = TORC_ROLE_READ,
                                 .cores = 3,
                                 .base_port = 28700,
                                 .payload_max = 1472,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .suites = TORC_SUITE_CLEAR,
                                 .cluster = 5,
                                 .key_count = 1,
                                 .boot = 6,
                                 .map_version = 7,
                                 .features = 8,
                                 .hlc = 9,
                                 .node = 10,
                                 .value_bytes_max = 11,
                                 .packet_ops_max = 12,
                                 .core_ops_max = 13,
                                 .packets_max = 14,
                                 .cursors_max = 15,
                                 .fragments_max = 16,
                                 .idle_s = 17,
                                 .age_s = 18,
                                 .deadline_ms_max = 19,
                                 .message_bytes_max = 20,
                                 .write_window = 21};

    fill(accept.random, sizeof(accept.random), 1);
    fill(accept.ticket, sizeof(accept.ticket), 100);
    return accept;
}

static struct torc_handshake_offer good_offer(void)
{
    return (struct torc_handshake_offer){.client_id = 0x1234500,
                                         .client_index = 77,
                                         .node = TORC_NODE_UNKNOWN,
                                         .payload_max = 1472,
                                         .lanes = 4,
                                         .core = 2,
                                         .agent = "test"};
}

// -- Handshake -----------------------------------------------------------------------------------

static void test_init(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_init init;
    uint8_t random[TORC_RANDOM_BYTES];
    uint8_t cookie[TORC_COOKIE_BYTES];

    fill(random, sizeof(random), 9);
    fill(cookie, sizeof(cookie), 50);
    torc_handshake_init(&handshake, &offer, random);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, TORC_INIT_BYTES), TORC_DROP_NONE);
    CU_ASSERT_FALSE(init.has_cookie);
    CU_ASSERT_EQUAL(init.node, TORC_NODE_UNKNOWN);
    CU_ASSERT_EQUAL(memcmp(init.random, random, sizeof(random)), 0);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, 255), TORC_DROP_INIT_LENGTH);

    offer.cookie = cookie;
    offer.node = 10;
    torc_handshake_init(&handshake, &offer, random);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, TORC_INIT_BYTES), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(torc_init_open_clear(&init, handshake.packet), TORC_DROP_NONE);
    CU_ASSERT_TRUE(init.has_cookie);
    CU_ASSERT_EQUAL(init.client_id, 0x1234500);
    CU_ASSERT_EQUAL(init.client_index, 77);
    CU_ASSERT_EQUAL(init.lanes, 4);
    CU_ASSERT_EQUAL(init.payload_max, 1472);
    CU_ASSERT_STRING_EQUAL(init.agent, "test");
    CU_ASSERT_EQUAL(memcmp(init.cookie, cookie, sizeof(cookie)), 0);
}

// WIRE.md, section 8, row 21: no flipped bit gives a session.
static void test_init_flips(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    uint8_t random[TORC_RANDOM_BYTES] = {1};
    uint8_t cookie[TORC_COOKIE_BYTES] = {2};
    uint32_t accepted = 0;

    offer.cookie = cookie;
    offer.node = 10;
    torc_handshake_init(&handshake, &offer, random);
    for (uint32_t bit = 0; bit < TORC_INIT_BYTES * 8; bit++) {
        unsigned char packet[TORC_INIT_BYTES];
        struct torc_init init;

        memcpy(packet, handshake.packet, sizeof(packet));
        packet[bit / 8] = (unsigned char)(packet[bit / 8] ^ 1u << (bit % 8));
        if (torc_init_decode(&init, packet, sizeof(packet)) == TORC_DROP_NONE && init.has_cookie &&
            torc_init_open_clear(&init, packet) == TORC_DROP_NONE) {
            accepted++;
        }
    }
    CU_ASSERT_EQUAL(accepted, 0);
}

static void test_handshake(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_accept got;
    struct torc_retry retry = {
        .suites = TORC_SUITE_CLEAR, .versions = TORC_WIRE_VERSIONS, .node = 10};
    struct torc_init init;
    uint8_t first[TORC_RANDOM_BYTES] = {1};
    uint8_t second[TORC_RANDOM_BYTES] = {2};
    unsigned char packet[TORC_ACCEPT_BYTES];

    torc_handshake_init(&handshake, &offer, first);
    torc_retry_encode(packet, &retry); // of another random
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, second, &got),
                    TORC_HANDSHAKE_IGNORED);
    memcpy(retry.random, first, sizeof(first));
    torc_retry_encode(packet, &retry);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, second, &got),
                    TORC_HANDSHAKE_RESEND);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, TORC_INIT_BYTES), TORC_DROP_NONE);
    CU_ASSERT_TRUE(init.has_cookie);
    CU_ASSERT_EQUAL(init.node, 10);
    CU_ASSERT_EQUAL(init.versions_seen, TORC_WIRE_VERSIONS);
    CU_ASSERT_EQUAL(memcmp(init.random, second, sizeof(second)), 0);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, second, &got),
                    TORC_HANDSHAKE_IGNORED); // late

    memcpy(accept.random, second, sizeof(second));
    torc_accept_encode(packet, &accept);
    packet[100] ^= 1;
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_ACCEPT_BYTES, second, &got),
                    TORC_HANDSHAKE_IGNORED);
    packet[100] ^= 1;
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_ACCEPT_BYTES, second, &got),
                    TORC_HANDSHAKE_ACCEPTED);
    CU_ASSERT_EQUAL(got.session_index, accept.session_index);
    CU_ASSERT_EQUAL(got.token_to_client, accept.token_to_client);
}

static void test_handshake_hints(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept got;
    struct torc_retry retry = {
        .suites = TORC_SUITE_CLEAR, .versions = TORC_WIRE_VERSIONS, .node = 11};
    struct torc_refuse refuse = {.code = TORC_REFUSE_FULL, .node = 10, .retry_ms = 7};
    struct torc_version version = {.versions = 4, .node = 10};
    uint8_t random[TORC_RANDOM_BYTES] = {1};
    unsigned char packet[TORC_RETRY_BYTES];

    offer.node = 10;
    torc_handshake_init(&handshake, &offer, random);
    memcpy(retry.random, random, sizeof(random));
    torc_retry_encode(packet, &retry); // of another node than expected
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, random, &got),
                    TORC_HANDSHAKE_HINT);
    retry.node = 10;
    retry.suites = TORC_SUITE_AES_256_GCM;
    torc_retry_encode(packet, &retry); // encryption wanted
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, random, &got),
                    TORC_HANDSHAKE_HINT);
    memcpy(refuse.random, random, sizeof(random));
    torc_refuse_encode(packet, &refuse);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_REFUSE_BYTES, random, &got),
                    TORC_HANDSHAKE_HINT);
    CU_ASSERT_EQUAL(handshake.refuse_code, TORC_REFUSE_FULL);
    CU_ASSERT_EQUAL(handshake.refuse_retry_ms, 7);
    CU_ASSERT_PTR_NOT_NULL(strstr(handshake.why.text, "full"));
    memcpy(version.random, random, sizeof(random));
    torc_version_encode(packet, &version);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_VERSION_BYTES, random, &got),
                    TORC_HANDSHAKE_HINT);
    CU_ASSERT_EQUAL(handshake.why.err, TORC_ERR_UNSUPPORTED_VERSION);
}

static void check_accept_equal(const struct torc_accept *a, const struct torc_accept *b)
{
    unsigned char first[TORC_ACCEPT_BYTES];
    unsigned char second[TORC_ACCEPT_BYTES];

    torc_accept_encode(first, a);
    torc_accept_encode(second, b);
    CU_ASSERT_EQUAL(memcmp(first, second, sizeof(first)), 0);
}

static void test_accept(void)
{
    struct torc_accept accept = good_accept();
    struct torc_accept got;
    struct torc_fail why;
    unsigned char packet[TORC_ACCEPT_BYTES];

    torc_accept_encode(packet, &accept);
    TORC_TEST_OK(torc_accept_decode(&got, packet, sizeof(packet), &why), &why);
    check_accept_equal(&accept, &got);
    CU_ASSERT_EQUAL(got.write_window, 21);
    CU_ASSERT_EQUAL(got.hlc, 9);
    CU_ASSERT_EQUAL(got.core, 1);
    CU_ASSERT_EQUAL(torc_accept_decode(&got, packet, sizeof(packet) - 1, &why),
                    TORC_ERR_BAD_PACKET);
}

static void test_nosession(void)
{
    struct torc_nosession nosession = {.core = 3, .index = 4, .seq = 5, .node = 6};
    struct torc_nosession got;
    struct torc_fail why;
    unsigned char packet[TORC_NOSESSION_BYTES];

    fill(nosession.cookie, sizeof(nosession.cookie), 30);
    torc_nosession_encode(packet, &nosession);
    TORC_TEST_OK(torc_nosession_decode(&got, packet, sizeof(packet), &why), &why);
    CU_ASSERT_EQUAL(got.core, 3);
    CU_ASSERT_EQUAL(got.index, 4);
    CU_ASSERT_EQUAL(got.seq, 5);
    CU_ASSERT_EQUAL(got.node, 6);
    CU_ASSERT_EQUAL(memcmp(got.cookie, nosession.cookie, sizeof(got.cookie)), 0);
    packet[1] = 0x11;
    CU_ASSERT_EQUAL(torc_nosession_decode(&got, packet, sizeof(packet), &why), TORC_ERR_BAD_PACKET);
}

// -- Cookies -------------------------------------------------------------------------------------

struct cookie_test {
    struct torc_cookie_keys keys;
    struct torc_cookie_bearer bearer;
    uint8_t cookie[TORC_COOKIE_BYTES];
};

static bool cookie_holds(struct cookie_test *test, uint64_t wall_s)
{
    enum torc_cookie_kind kind;

    return torc_cookie_check(&test->keys, &test->bearer, wall_s, test->cookie, &kind);
}

static void cookie_begin(struct cookie_test *test, enum torc_cookie_kind kind)
{
    uint8_t secret[32];

    memset(test, 0, sizeof(*test));
    fill(secret, sizeof(secret), 3);
    fill(test->bearer.ip, sizeof(test->bearer.ip), 60);
    test->bearer.port = 40000;
    test->bearer.principal = 12;
    torc_cookie_keys_init(&test->keys, secret, WALL_S);
    torc_cookie_make(&test->keys, kind, &test->bearer, WALL_S, test->cookie);
}

static void test_cookie(void)
{
    struct cookie_test test;

    cookie_begin(&test, TORC_COOKIE_ADDRESS);
    CU_ASSERT_TRUE(cookie_holds(&test, WALL_S));
    CU_ASSERT_TRUE(cookie_holds(&test, WALL_S + 30));
    CU_ASSERT_FALSE(cookie_holds(&test, WALL_S + 31)); // row 17
    CU_ASSERT_FALSE(cookie_holds(&test, WALL_S - 1));
    test.bearer.port++;
    CU_ASSERT_FALSE(cookie_holds(&test, WALL_S));
    test.bearer.port--;
    test.bearer.principal++; // not part of this kind
    CU_ASSERT_TRUE(cookie_holds(&test, WALL_S));
    test.bearer.ip[15]++; // row 16
    CU_ASSERT_FALSE(cookie_holds(&test, WALL_S));
}

static void test_cookie_flips(void)
{
    struct cookie_test test;
    uint32_t held = 0;

    cookie_begin(&test, TORC_COOKIE_ADDRESS);
    for (uint32_t bit = 0; bit < TORC_COOKIE_BYTES * 8; bit++) { // row 18
        test.cookie[bit / 8] = (uint8_t)(test.cookie[bit / 8] ^ 1u << (bit % 8));
        held += cookie_holds(&test, WALL_S) ? 1 : 0;
        test.cookie[bit / 8] = (uint8_t)(test.cookie[bit / 8] ^ 1u << (bit % 8));
    }
    CU_ASSERT_EQUAL(held, 0);
}

static void test_ticket(void)
{
    struct cookie_test test;
    struct cookie_test other;

    cookie_begin(&test, TORC_COOKIE_TICKET);
    CU_ASSERT_TRUE(cookie_holds(&test, WALL_S + 86400)); // over midnight
    CU_ASSERT_FALSE(cookie_holds(&test, WALL_S + 86401));
    cookie_begin(&test, TORC_COOKIE_TICKET);
    test.bearer.port = 1; // a ticket outlives the port
    CU_ASSERT_TRUE(cookie_holds(&test, WALL_S));
    test.bearer.principal++;
    CU_ASSERT_FALSE(cookie_holds(&test, WALL_S));
    cookie_begin(&test, TORC_COOKIE_TICKET);
    cookie_begin(&other, TORC_COOKIE_TICKET);
    other.keys.secret[0] ^= 1;
    torc_cookie_keys_init(&other.keys, other.keys.secret, WALL_S);
    CU_ASSERT_FALSE(cookie_holds(&other, WALL_S)); // another node's
}

// -- Data packets --------------------------------------------------------------------------------

#define OPS_BYTES    32u
#define PACKET_BYTES (TORC_DATA_OVERHEAD + OPS_BYTES)

// A reply as a server would seal it.
static void server_reply(const struct torc_lane *lane, unsigned char *packet, uint64_t seq)
{
    struct torc_data data = {.type = TORC_TYPE_CLEAR,
                             .core = 1,
                             .flags = TORC_DATA_FROM_RESPONDER | TORC_DATA_HANDOFF,
                             .index = lane->client_index,
                             .clock_us = 5,
                             .seq = seq,
                             .hlc = 6,
                             .hold_ns = 7};

    torc_data_encode(packet, &data);
    memset(packet + TORC_DATA_HEAD_BYTES, 0, OPS_BYTES);
    CU_ASSERT_EQUAL(torc_data_seal(&lane->to_client, packet, TORC_DATA_HEAD_BYTES + OPS_BYTES),
                    PACKET_BYTES);
}

static struct torc_lane *new_lane(void)
{
    struct torc_accept accept = good_accept();
    struct torc_lane *lane = malloc(sizeof(*lane));

    torc_assert(lane != NULL);
    torc_lane_init(lane, &accept, 500, 1);
    return lane;
}

static void test_lane_request(void)
{
    struct torc_lane *lane = new_lane();
    struct torc_data data = {
        .core = 2, .clock_us = 9, .hlc = 8, .reply_bytes = 1472, .reply_packets = 2};
    struct torc_data got;
    unsigned char packet[PACKET_BYTES] = {0};

    CU_ASSERT_EQUAL(torc_lane_seal(lane, packet, OPS_BYTES, &data), PACKET_BYTES);
    CU_ASSERT_EQUAL(torc_data_decode(&got, packet, PACKET_BYTES), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(got.index, 0x00100005);
    CU_ASSERT_EQUAL(got.seq, 1);
    CU_ASSERT_EQUAL(got.core, 2);
    CU_ASSERT_EQUAL(got.reply_bytes, 1472);
    CU_ASSERT_EQUAL(got.reply_packets, 2);
    CU_ASSERT_EQUAL(got.hlc, 8);
    CU_ASSERT_TRUE(torc_data_credit_ok(&got, PACKET_BYTES));
    CU_ASSERT_TRUE(torc_data_open(&lane->to_server, packet, PACKET_BYTES));
    packet[24] ^= 1;
    CU_ASSERT_FALSE(torc_data_open(&lane->to_server, packet, PACKET_BYTES));
    packet[3] = 4; // a reply's flag in a request
    CU_ASSERT_EQUAL(torc_data_decode(&got, packet, PACKET_BYTES), TORC_DROP_FLAGS);
    packet[3] = 8;
    CU_ASSERT_EQUAL(torc_data_decode(&got, packet, PACKET_BYTES), TORC_DROP_FLAGS);
    CU_ASSERT_EQUAL(torc_data_decode(&got, packet, 63), TORC_DROP_SHORT);
    free(lane);
}

static void test_lane_reply(void)
{
    struct torc_lane *lane = new_lane();
    struct torc_data data;
    unsigned char packet[PACKET_BYTES];

    server_reply(lane, packet, 1);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(data.hold_ns, 7);
    CU_ASSERT_EQUAL(data.clock_us, 5);
    CU_ASSERT_TRUE((data.flags & TORC_DATA_HANDOFF) != 0);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_REPLAY_DUPLICATE);
    server_reply(lane, packet, 300);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_NONE);
    server_reply(lane, packet, 44);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_REPLAY_OLD);
    server_reply(lane, packet, 45);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_NONE);
    server_reply(lane, packet, 0);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_REPLAY_OLD);
    server_reply(lane, packet, TORC_DATA_SEQ_END);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_LIMIT);
    free(lane);
}

// Row 28, on the client's side: a flipped bit never opens and never moves a window.
static void test_lane_flips(void)
{
    struct torc_lane *lane = new_lane();
    struct torc_data data;
    unsigned char packet[PACKET_BYTES];
    uint32_t opened = 0;

    for (uint32_t bit = 0; bit < PACKET_BYTES * 8; bit++) {
        server_reply(lane, packet, 9);
        packet[bit / 8] = (unsigned char)(packet[bit / 8] ^ 1u << (bit % 8));
        opened += torc_lane_open(lane, packet, PACKET_BYTES, &data) == TORC_DROP_NONE ? 1 : 0;
    }
    CU_ASSERT_EQUAL(opened, 0);
    CU_ASSERT_EQUAL(lane->windows[1].high, 0);
    server_reply(lane, packet, 9);
    CU_ASSERT_EQUAL(torc_lane_open(lane, packet, PACKET_BYTES, &data), TORC_DROP_NONE);
    free(lane);
}

static enum torc_drop classify(const unsigned char *bytes, uint32_t byte_count)
{
    enum torc_payload_kind kind;
    uint8_t type;

    return torc_payload_classify(bytes, byte_count, &kind, &type);
}

static void test_classify(void)
{
    unsigned char packet[256] = {0x54, 0x20};
    enum torc_payload_kind kind;
    uint8_t type;

    CU_ASSERT_EQUAL(classify(packet, 0), TORC_DROP_SHORT);
    CU_ASSERT_EQUAL(classify(packet, 1), TORC_DROP_SHORT);
    CU_ASSERT_EQUAL(classify(packet, 255), TORC_DROP_VERSION);
    CU_ASSERT_EQUAL(torc_payload_classify(packet, 256, &kind, &type), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(kind, TORC_PAYLOAD_NEWER);
    packet[1] = 0x29;
    CU_ASSERT_EQUAL(classify(packet, 256), TORC_DROP_VERSION);
    packet[1] = 0x00;
    CU_ASSERT_EQUAL(classify(packet, 256), TORC_DROP_VERSION);
    packet[1] = 0x19;
    CU_ASSERT_EQUAL(torc_payload_classify(packet, 64, &kind, &type), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(kind, TORC_PAYLOAD_PACKET);
    CU_ASSERT_EQUAL(type, TORC_TYPE_CLEAR);
    packet[0] = 0x55;
    CU_ASSERT_EQUAL(classify(packet, 64), TORC_DROP_MAGIC);
}

// -- Operations ----------------------------------------------------------------------------------

static void check_request(const struct torc_request *request)
{
    unsigned char op[256];
    unsigned char again[256];
    struct torc_request got;
    struct torc_fail why;
    uint32_t padded = torc_request_encode(op, request);
    uint32_t length = torc_request_bytes(request);
    uint32_t op_count = 0;
    uint32_t offset = 0;

    CU_ASSERT_EQUAL(padded, torc_op_padded(length));
    CU_ASSERT_EQUAL(torc_framing_check(op, padded, &op_count, &offset), TORC_ERR_OK);
    CU_ASSERT_EQUAL(op_count, 1);
    TORC_TEST_OK(torc_request_decode(&got, op, length, &why), &why);
    CU_ASSERT_EQUAL(torc_request_encode(again, &got), padded); // O2
    CU_ASSERT_EQUAL(memcmp(op, again, padded), 0);
    CU_ASSERT_EQUAL(got.key, request->key);
    CU_ASSERT_EQUAL(got.data_bytes, request->data_bytes);
}

static void test_requests(void)
{
    static const unsigned char bytes[24] = "some bytes of a value";
    struct torc_request put = {.opcode = TORC_OPCODE_PUT,
                               .op_id = 4,
                               .key = 5,
                               .wseq = 100,
                               .lowest = 90,
                               .stamp = 6,
                               .epoch = 7,
                               .attempt = 8,
                               .data = bytes,
                               .data_bytes = 21};
    struct torc_request empty = put;
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 5, .hi = 5, .limit = 1};

    check_request(&put);
    put.flags = TORC_WRITE_IF_VERSION | TORC_FLAG_TRACE;
    put.version = 77;
    check_request(&put);
    put.flags = TORC_WRITE_FRAGMENTED | TORC_WRITE_IF_ABSENT;
    put.total_bytes = 1000;
    put.fragment_bytes = 16;
    put.data_bytes = 16;
    check_request(&put);
    empty.data = NULL;
    empty.data_bytes = 0;
    check_request(&empty);
    empty.opcode = TORC_OPCODE_DELETE;
    check_request(&empty);
    check_request(&range);
    range.opcode = TORC_OPCODE_RANGE_OPEN;
    range.credit = 3;
    range.flags = TORC_RANGE_STALE | TORC_RANGE_COUNT;
    check_request(&range);
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_GET,
                                         .flags = TORC_GET_AT | TORC_GET_STALE,
                                         .key = 1,
                                         .ts = 2,
                                         .max_age_ms = 3});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_PULL,
                                         .key = 1,
                                         .version = 2,
                                         .fragment = 3,
                                         .fragment_bytes = 1024,
                                         .bitmap = 1});
    check_request(&(struct torc_request){
        .opcode = TORC_OPCODE_FRAG, .key = 1, .fragment = 9, .data = bytes, .data_bytes = 3});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_FRAG_QUERY, .key = 1});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_COOKIE});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_CLOSE});
    check_request(&(struct torc_request){.opcode = TORC_OPCODE_CLOCK, .lo = 1, .hi = 2});
    check_request(&(struct torc_request){
        .opcode = TORC_OPCODE_MAP, .lo = 0, .hi = UINT64_MAX, .entries_max = 4});
}

// The status that an operation of these bytes gets.
static enum torc_err decode_status(const struct torc_request *request, uint32_t at, uint8_t value)
{
    unsigned char op[256];
    struct torc_request got;
    struct torc_fail why;

    (void)torc_request_encode(op, request);
    op[at] = value;
    return torc_request_decode(&got, op, torc_request_bytes(request), &why);
}

static void test_request_refusals(void)
{
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .key = 5};
    struct torc_request put = {.opcode = TORC_OPCODE_PUT, .wseq = 3, .lowest = 1};
    struct torc_request range = {.opcode = TORC_OPCODE_RANGE_READ, .lo = 1, .hi = 2};
    struct torc_request pull = {.opcode = TORC_OPCODE_PULL, .fragment_bytes = 8, .bitmap = 1};

    CU_ASSERT_EQUAL(decode_status(&get, 0, 0x7f), TORC_ERR_UNSUPPORTED); // row 38
    CU_ASSERT_EQUAL(decode_status(&get, 1, 0x08), TORC_ERR_UNSUPPORTED); // row 39
    CU_ASSERT_EQUAL(decode_status(&get, 0, 0x40), TORC_ERR_FORBIDDEN);   // row 40
    CU_ASSERT_EQUAL(decode_status(&get, 0, 0x5f), TORC_ERR_FORBIDDEN);
    CU_ASSERT_EQUAL(decode_status(&get, 1, TORC_GET_AT), TORC_ERR_INVALID_ARGUMENT); // too short
    CU_ASSERT_EQUAL(decode_status(&range, 16, 3), TORC_ERR_INVALID_ARGUMENT);        // row 45
    CU_ASSERT_EQUAL(decode_status(&range, 16, 2), TORC_ERR_OK);
    CU_ASSERT_EQUAL(decode_status(&put, 1, 3), TORC_ERR_INVALID_ARGUMENT);  // row 47
    CU_ASSERT_EQUAL(decode_status(&put, 12, 3), TORC_ERR_INVALID_ARGUMENT); // row 51
    CU_ASSERT_EQUAL(decode_status(&put, 12, 2), TORC_ERR_OK);
    CU_ASSERT_EQUAL(decode_status(&put, 1, 8), TORC_ERR_INVALID_ARGUMENT); // no sizes
    CU_ASSERT_EQUAL(decode_status(&pull, 36, 7), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(decode_status(&pull, 40, 0), TORC_ERR_INVALID_ARGUMENT);
    put.opcode = TORC_OPCODE_DELETE;
    CU_ASSERT_EQUAL(decode_status(&put, 1, TORC_WRITE_IF_ABSENT), TORC_ERR_UNSUPPORTED);
}

static enum torc_err framing(const unsigned char *ops, uint32_t byte_count, uint32_t *offset)
{
    uint32_t op_count;

    return torc_framing_check(ops, byte_count, &op_count, offset);
}

static void test_framing(void)
{
    unsigned char ops[2048] = {0};
    struct torc_request get = {.opcode = TORC_OPCODE_GET, .key = 5};
    struct torc_request ping = {
        .opcode = TORC_OPCODE_PING, .data = (const unsigned char *)"abc", .data_bytes = 3};
    uint32_t first = torc_request_encode(ops, &get);
    uint32_t all = first + torc_request_encode(ops + first, &ping);
    uint32_t offset = 0;
    struct torc_framing walk = {.bytes = ops, .byte_count = all};
    const unsigned char *op;
    uint32_t length;

    CU_ASSERT_EQUAL(framing(ops, all, &offset), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_framing_next(&walk, &op, &length));
    CU_ASSERT_EQUAL(length, 24);
    CU_ASSERT_TRUE(torc_framing_next(&walk, &op, &length));
    CU_ASSERT_EQUAL(length, 19);
    CU_ASSERT_FALSE(torc_framing_next(&walk, &op, &length));
    CU_ASSERT_EQUAL(framing(ops, all - 4, &offset), TORC_ERR_BAD_PACKET); // row 3
    CU_ASSERT_EQUAL(framing(ops, all - 8, &offset), TORC_ERR_BAD_PACKET); // row 34
    CU_ASSERT_EQUAL(offset, TORC_DATA_HEAD_BYTES + first);
    ops[all - 1] = 1; // row 37
    CU_ASSERT_EQUAL(framing(ops, all, &offset), TORC_ERR_BAD_PACKET);
    ops[all - 1] = 0;
    for (uint8_t bad = 0; bad < 16; bad++) { // row 33
        ops[first + 2] = bad;
        CU_ASSERT_EQUAL(framing(ops, all, &offset), TORC_ERR_BAD_PACKET);
    }
    memset(ops, 0, sizeof(ops));
    for (uint32_t i = 0; i < 65; i++) {
        ops[8 * i + 2] = 8; // NOPs
    }
    CU_ASSERT_EQUAL(framing(ops, 64 * 8, &offset), TORC_ERR_OK);
    CU_ASSERT_EQUAL(framing(ops, 65 * 8, &offset), TORC_ERR_BAD_PACKET); // row 36
    CU_ASSERT_EQUAL(framing(ops, 0, &offset), TORC_ERR_BAD_PACKET);
}

static void test_replies(void)
{
    unsigned char packet[256];
    unsigned char body[64];
    struct torc_reply reply = {
        .opcode = 0x91, .op_id = 5, .info = 6, .body = body, .body_bytes = 11};
    struct torc_reply got;
    const unsigned char *value;
    uint32_t value_bytes;
    uint8_t attempt;
    uint32_t offset = 0;
    uint32_t bytes;

    torc_write_reply_body(body, 9);
    fill(body + 8, 3, 65);
    bytes = torc_reply_encode(packet, &reply);
    CU_ASSERT_EQUAL(bytes, 32);
    CU_ASSERT_TRUE(torc_reply_next(packet, bytes, &offset, &got));
    CU_ASSERT_TRUE(torc_write_reply_decode(&got, &attempt, &value, &value_bytes));
    CU_ASSERT_EQUAL(attempt, 9);
    CU_ASSERT_EQUAL(value_bytes, 3);
    CU_ASSERT_EQUAL(got.info, 6);
    CU_ASSERT_FALSE(torc_reply_next(packet, bytes, &offset, &got));
    offset = 0;
    CU_ASSERT_FALSE(torc_reply_next(packet, bytes - 8, &offset, &got)); // cut
    packet[0] = 0x11;                                                   // not a reply
    CU_ASSERT_FALSE(torc_reply_next(packet, bytes, &offset, &got));
}

static void test_reply_bodies(void)
{
    unsigned char body[64];
    struct torc_reply reply = {.opcode = 0x8a, .body = body, .body_bytes = 40};
    struct torc_frag_state state = {.first_missing = 3, .send_limit = 19, .bitmap = {2}};
    struct torc_shed shed = {10, 20};
    struct torc_trace trace = {1, 2, 3, 4, 5};
    struct torc_trace trace_got;
    const unsigned char *bytes;
    uint32_t number;
    uint32_t byte_count;

    torc_frag_state_body(body, &state);
    memset(&state, 0, sizeof(state));
    CU_ASSERT_TRUE(torc_frag_state_decode(&reply, &state));
    CU_ASSERT_EQUAL(state.first_missing, 3);
    CU_ASSERT_EQUAL(state.send_limit, 19);
    CU_ASSERT_EQUAL(state.bitmap[0], 2);
    torc_shed_body(body, &shed);
    CU_ASSERT_TRUE(torc_shed_decode(&reply, &shed));
    CU_ASSERT_EQUAL(shed.retry_us, 10);
    CU_ASSERT_EQUAL(shed.delay_us, 20);
    torc_trace_body(body, &trace);
    CU_ASSERT_TRUE(torc_trace_decode(&reply, &trace_got));
    CU_ASSERT_EQUAL(trace_got.sent_ns, 5);
    torc_pull_reply_body(body, 77);
    CU_ASSERT_TRUE(torc_pull_reply_decode(&reply, &number, &bytes, &byte_count));
    CU_ASSERT_EQUAL(number, 77);
    CU_ASSERT_EQUAL(byte_count, 32);
    CU_ASSERT_TRUE(torc_partial_decode(&reply, &number, &bytes, &byte_count));
    CU_ASSERT_EQUAL(byte_count, 36);
    reply.body_bytes = 7;
    CU_ASSERT_FALSE(torc_frag_state_decode(&reply, &state));
    CU_ASSERT_FALSE(torc_shed_decode(&reply, &shed));
    CU_ASSERT_FALSE(torc_trace_decode(&reply, &trace_got));
    CU_ASSERT_FALSE(torc_pull_reply_decode(&reply, &number, &bytes, &byte_count));
}

static void test_info(void)
{
    uint64_t info = torc_info_reason(TORC_NO_SPACE_MEMORY, 1000);

    CU_ASSERT_EQUAL(torc_info_retry_us(TORC_ERR_NO_SPACE, info), 1000);
    CU_ASSERT_STRING_EQUAL(torc_reason_text(TORC_ERR_NO_SPACE, info),
                           "the memory for records is full");
    CU_ASSERT_STRING_EQUAL(torc_reason_text(TORC_ERR_BUSY, 1), "");
    CU_ASSERT_EQUAL(torc_info_retry_us(TORC_ERR_BUSY, 77), 77);
    CU_ASSERT_EQUAL(torc_info_retry_us(TORC_ERR_OK, 77), 0);
    CU_ASSERT_EQUAL(TORC_NO_SPACE_DISK, 1);          // dataplane/log.c
    CU_ASSERT_EQUAL(TORC_UNAVAILABLE_LOG_FAILED, 3); // dataplane/log.c
}

// -- Chunks --------------------------------------------------------------------------------------

static void rows_there_and_back(struct torc_rng *rng, struct torc_rows_builder *builder,
                                uint32_t flags)
{
    static unsigned char body[1500];
    static const unsigned char values[256] = "values to be sent";
    bool reverse = (flags & TORC_RANGE_REVERSE) != 0;
    uint64_t step = UINT64_C(1) << torc_rng_below(rng, 40);
    uint64_t key = reverse ? UINT64_C(1) << 60 : 1000;
    bool all_same = torc_rng_chance(rng, 300000);
    uint32_t room = 64 + (uint32_t)torc_rng_below(rng, sizeof(body) - 64);
    struct torc_rows_place place = {.cover_hi = UINT64_MAX, .chunk = 3, .flags = TORC_ROWS_LAST};
    struct torc_rows rows;
    struct torc_fail why;
    uint32_t bytes;

    torc_rows_begin(builder, room, flags);
    for (;;) {
        struct torc_rows_item item = {.key = key, .version = key + 7, .value = values};

        item.value_bytes = all_same ? 8 : (uint32_t)torc_rng_below(rng, 40);
        if (!all_same && torc_rng_chance(rng, 100000)) {
            item = (struct torc_rows_item){
                .key = key, .version = key + 7, .value_bytes = 1u << 20, .by_reference = true};
        }
        if (!torc_rows_add(builder, &item)) {
            break;
        }
        key = reverse ? key - 1 - torc_rng_below(rng, step) : key + 1 + torc_rng_below(rng, step);
    }
    bytes = torc_rows_write(builder, &place, body);
    TORC_TEST_OK(torc_rows_decode(&rows, body, bytes, reverse, &why), &why);
    CU_ASSERT_EQUAL(rows.count, builder->count);
    CU_ASSERT_EQUAL(rows.place.chunk, 3);
    for (uint32_t i = 0; i < rows.count; i++) {
        const struct torc_rows_item *put = &builder->items[i];
        bool with_values = (flags & TORC_RANGE_KEYS_ONLY) == 0;
        struct torc_rows_item item;

        torc_rows_at(&rows, i, &item);
        CU_ASSERT_EQUAL(item.key, put->key);
        CU_ASSERT_EQUAL(item.version, (flags & TORC_RANGE_WITH_VERSIONS) != 0 ? put->version : 0);
        CU_ASSERT_EQUAL(item.value_bytes, with_values ? put->value_bytes : 0);
        CU_ASSERT_EQUAL(item.by_reference, with_values && put->by_reference);
        if (item.value != NULL) {
            CU_ASSERT_EQUAL(memcmp(item.value, values, item.value_bytes), 0);
        }
    }
}

static void test_rows(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_rows_builder *builder = malloc(sizeof(*builder));

    torc_assert(builder != NULL);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint32_t flags[] = {0, TORC_RANGE_REVERSE, TORC_RANGE_KEYS_ONLY,
                                  TORC_RANGE_WITH_VERSIONS,
                                  TORC_RANGE_WITH_VERSIONS | TORC_RANGE_REVERSE};

        rows_there_and_back(&rng, builder, flags[i % TORC_COUNT_OF(flags)]);
    }
    free(builder);
}

static void test_rows_largest_value(void)
{
    static unsigned char value[2000];
    static unsigned char body[1000];
    struct torc_rows_builder *builder = malloc(sizeof(*builder));
    struct torc_rows_item item = {.key = 7, .value = value};
    struct torc_rows_place place = {.cover_lo = 7, .cover_hi = 8};

    torc_assert(builder != NULL);
    item.value_bytes = torc_rows_value_max(sizeof(body), TORC_RANGE_WITH_VERSIONS);
    torc_rows_begin(builder, sizeof(body), TORC_RANGE_WITH_VERSIONS);
    CU_ASSERT_TRUE(torc_rows_add(builder, &item));
    CU_ASSERT_EQUAL(torc_rows_write(builder, &place, body), sizeof(body));
    item.value_bytes++;
    torc_rows_begin(builder, sizeof(body), TORC_RANGE_WITH_VERSIONS);
    CU_ASSERT_FALSE(torc_rows_add(builder, &item));
    free(builder);
}

static void test_rows_count(void)
{
    unsigned char body[TORC_ROWS_COUNT_BYTES];
    struct torc_rows_place place = {.cover_lo = 5, .cover_hi = 9, .flags = TORC_ROWS_LAST};
    struct torc_rows rows;
    struct torc_fail why;

    torc_rows_write_count(&place, 4, body);
    TORC_TEST_OK(torc_rows_decode(&rows, body, sizeof(body), false, &why), &why);
    CU_ASSERT_EQUAL(rows.counted, 4);
    CU_ASSERT_EQUAL(rows.count, 0);
    body[0] = 10; // covers nothing
    CU_ASSERT_EQUAL(torc_rows_decode(&rows, body, sizeof(body), false, &why), TORC_ERR_BAD_PACKET);
}

// -- Map -----------------------------------------------------------------------------------------

static void test_map_entry(void)
{
    unsigned char body[TORC_MAP_ENTRY_BYTES_MAX];
    struct torc_map_entry entry = {.lo = 1,
                                   .hi = 2,
                                   .version = 3,
                                   .shard = 4,
                                   .epoch = 5,
                                   .member_count = 2,
                                   .primary = 1,
                                   .members = {{6, 7, 1, 0}, {8, 255, 2, 0}}};
    struct torc_map_entry got;
    struct torc_fail why;
    struct torc_reply reply = {.opcode = TORC_OPCODE_MAP_ENTRY, .info = 3, .body = body};

    reply.body_bytes = torc_map_entry_body(body, &entry);
    CU_ASSERT_EQUAL(reply.body_bytes, 48);
    TORC_TEST_OK(torc_map_entry_decode(&got, &reply, &why), &why);
    CU_ASSERT_EQUAL(got.members[1].node, 8);
    CU_ASSERT_EQUAL(got.members[1].core, 255);
    CU_ASSERT_EQUAL(got.version, 3);
    reply.body_bytes -= 8;
    CU_ASSERT_EQUAL(torc_map_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
    reply.body_bytes += 8;
    body[25] = 2; // the primary's place
    CU_ASSERT_EQUAL(torc_map_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
    body[25] = 255;
    TORC_TEST_OK(torc_map_entry_decode(&got, &reply, &why), &why);
    body[0] = 2; // empty
    CU_ASSERT_EQUAL(torc_map_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
}

static void test_node_entry(void)
{
    uint8_t addresses[32];
    unsigned char body[64];
    struct torc_node_entry entry = {.node = 1,
                                    .base_port = 28700,
                                    .cores = 2,
                                    .flags = TORC_NODE_ADDRESS_BY_CORE,
                                    .address_count = 2,
                                    .addresses = addresses};
    struct torc_node_entry got;
    struct torc_fail why;
    struct torc_reply reply = {.opcode = TORC_OPCODE_NODE_ENTRY, .body = body};

    fill(addresses, sizeof(addresses), 1);
    reply.body_bytes = torc_node_entry_body(body, &entry);
    TORC_TEST_OK(torc_node_entry_decode(&got, &reply, &why), &why);
    CU_ASSERT_EQUAL(got.address_count, 2);
    CU_ASSERT_EQUAL(memcmp(got.addresses, addresses, sizeof(addresses)), 0);
    reply.body_bytes -= 16; // one address for two cores
    CU_ASSERT_EQUAL(torc_node_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
    body[6] = 0;
    CU_ASSERT_EQUAL(torc_node_entry_decode(&got, &reply, &why), TORC_ERR_BAD_PACKET);
}

// -- Frames --------------------------------------------------------------------------------------

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t their_mac[6] = {2, 0, 0, 0, 0, 2};

static struct torc_frame_local our_port(uint16_t vlan)
{
    struct torc_frame_local local = {
        .has_ipv4 = 1,
        .has_ipv6 = 1,
        .ipv4 = {10, 79, 0, 11},
        .ipv6 = {0xfd, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11},
        .vlan = vlan,
        .port_first = 28700,
        .port_count = 2};

    memcpy(local.mac, our_mac, 6);
    return local;
}

// A frame from a client to us; its bytes.
static uint32_t client_frame(unsigned char *frame, bool is_ipv6, uint16_t vlan)
{
    struct torc_frame_local local = our_port(vlan);
    static const uint8_t their_ipv4[4] = {10, 79, 0, 2};
    struct torc_frame_udp udp = {.source_port = 40000, .destination_port = 28701, .vlan = vlan};

    memcpy(udp.source_mac, their_mac, 6);
    memcpy(udp.destination_mac, our_mac, 6);
    if (is_ipv6) {
        memcpy(udp.source_ip, local.ipv6, 16);
        udp.source_ip[15] = 2;
        memcpy(udp.destination_ip, local.ipv6, 16);
    } else {
        torc_ip_map(udp.source_ip, their_ipv4);
        torc_ip_map(udp.destination_ip, local.ipv4);
    }
    fill(frame + torc_frame_udp_head_bytes(&udp), 33, 1);
    return torc_frame_udp_write(frame, &udp, 33);
}

static enum torc_drop parse(const unsigned char *frame, uint32_t byte_count)
{
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;

    return torc_frame_parse(&parsed, &local, frame, byte_count, 0);
}

// Fixes the IPv4 header's checksum after an edit.
static void resum(unsigned char *frame)
{
    uint16_t sum;

    memset(frame + 24, 0, 2);
    sum = torc_ip_sum_end(torc_ip_sum(0, frame + 14, (frame[14] & 0x0fu) * 4u));
    memcpy(frame + 24, &sum, 2);
}

static void check_frame_back(bool is_ipv6, uint16_t vlan)
{
    unsigned char frame[256];
    unsigned char answer[256];
    struct torc_frame_local local = our_port(vlan);
    struct torc_frame parsed;
    struct torc_frame_udp udp;
    uint32_t bytes = client_frame(frame, is_ipv6, vlan);
    uint32_t head_bytes = bytes - 33;

    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_UDP);
    CU_ASSERT_EQUAL(parsed.payload_bytes, 33);
    CU_ASSERT_EQUAL(parsed.payload[32], 33);
    CU_ASSERT_EQUAL(parsed.source_port, 40000);
    CU_ASSERT_EQUAL(parsed.is_ipv6, is_ipv6);
    // Padding behind the packet is no part of it.
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes + 10, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.payload_bytes, 33);
    torc_frame_udp_reply(&udp, &parsed, our_mac, vlan);
    CU_ASSERT_EQUAL(torc_frame_udp_head_bytes(&udp), head_bytes);
    CU_ASSERT_EQUAL(torc_frame_udp_write(answer, &udp, 0), head_bytes);
    CU_ASSERT_EQUAL(memcmp(answer, their_mac, 6), 0);
    CU_ASSERT_EQUAL(memcmp(answer + 6, our_mac, 6), 0);
}

static void test_frames(void)
{
    check_frame_back(false, 0);
    check_frame_back(true, 0);
    check_frame_back(false, 7);
    check_frame_back(true, 7);
}

static void test_frame_checksums(void)
{
    unsigned char frame[256];
    unsigned char pseudo[12] = {10, 79, 0, 2, 10, 79, 0, 11, 0, 17, 0, 41};
    uint32_t bytes = client_frame(frame, false, 0);

    // The sum over everything, checksums included, is zero (RFC 1071).
    CU_ASSERT_EQUAL(torc_ip_sum_end(torc_ip_sum(0, frame + 14, 20)), 0);
    CU_ASSERT_EQUAL(torc_ip_sum_end(torc_ip_sum(torc_ip_sum(0, pseudo, 12), frame + 34, 41)), 0);
    CU_ASSERT_EQUAL(bytes, 75);
}

static void test_frame_drops(void)
{
    unsigned char frame[256];
    uint32_t bytes = client_frame(frame, false, 0);
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;

    CU_ASSERT_EQUAL(parse(frame, 13), TORC_DROP_L2_SHORT);
    CU_ASSERT_EQUAL(parse(frame, 30), TORC_DROP_L3_HEADER);
    CU_ASSERT_EQUAL(parse(frame, bytes - 1), TORC_DROP_L3_HEADER);
    frame[24] ^= 1; // row 11
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_CHECKSUM);
    frame[24] ^= 1;
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, TORC_FRAME_MARK_IP_BAD),
                    TORC_DROP_L3_CHECKSUM);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, TORC_FRAME_MARK_L4_BAD),
                    TORC_DROP_L4_CHECKSUM);
    frame[0] ^= 4;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L2_ADDRESS);
    frame[0] ^= 4;
    frame[13] = 1;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L2_TYPE);
    frame[13] = 0;
    frame[20] |= 0x20; // more fragments, row 12
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_FRAGMENT);
    frame[20] = 0x40;
    frame[14] = 0x46; // options
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_OPTIONS);
    frame[14] = 0x45;
    frame[23] = 6; // TCP
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_PROTOCOL);
    frame[23] = 17;
    frame[33]++; // another destination
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_DESTINATION);
    frame[33]--;
    resum(frame);
    frame[39]++; // row 10: UDP's length
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L4_LENGTH);
    frame[39]--;
    frame[37] = 0x1e; // port 28702
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L4_PORT);
    frame[37] = 0x1d;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_NONE);
}

static void test_frame_sources(void)
{
    static const uint8_t wrong[][4] = {
        {0, 0, 0, 0}, {127, 0, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}, {10, 79, 0, 11}};
    unsigned char frame[256];
    uint32_t bytes = client_frame(frame, false, 0);

    for (uint32_t i = 0; i < TORC_COUNT_OF(wrong); i++) { // row 13
        memcpy(frame + 26, wrong[i], 4);
        resum(frame);
        CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_SOURCE);
    }
    bytes = client_frame(frame, true, 0);
    memcpy(frame + 22, frame + 38, 16); // our own
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_SOURCE);
    torc_ip_map(frame + 22, wrong[4]); // IPv4 in disguise
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_SOURCE);
    bytes = client_frame(frame, true, 0);
    frame[20] = 44; // fragment header
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_FRAGMENT);
    frame[20] = 60;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_OPTIONS);
    frame[20] = 17;
    memset(frame + 60, 0, 2); // UDP checksum 0
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L4_CHECKSUM);
}

static void test_arp(void)
{
    unsigned char frame[TORC_ARP_FRAME_BYTES];
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;
    struct torc_arp arp = {
        .operation = TORC_ARP_REQUEST, .sender_ip = {10, 79, 0, 2}, .target_ip = {10, 79, 0, 11}};
    struct torc_arp got;
    uint32_t bytes;

    memcpy(arp.sender_mac, their_mac, 6);
    bytes = torc_arp_write(frame, &arp, 0);
    CU_ASSERT_EQUAL(bytes, 42);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_ARP);
    CU_ASSERT_EQUAL(torc_arp_decode(&got, &parsed), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(got.operation, TORC_ARP_REQUEST);
    CU_ASSERT_EQUAL(memcmp(got.target_ip, local.ipv4, 4), 0);
    frame[21] = 3; // operation
    CU_ASSERT_EQUAL(torc_arp_decode(&got, &parsed), TORC_DROP_NEIGHBOUR);
    frame[21] = 1;
    parsed.payload_bytes = 27;
    CU_ASSERT_EQUAL(torc_arp_decode(&got, &parsed), TORC_DROP_NEIGHBOUR);
}

static void test_nd(void)
{
    unsigned char frame[TORC_ND_FRAME_BYTES];
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;
    struct torc_nd nd = {.kind = TORC_ND_SOLICIT, .has_mac = true};
    struct torc_nd got;
    struct torc_nd_way way = {.vlan = 0};
    uint32_t bytes;

    memcpy(nd.mac, their_mac, 6);
    memcpy(nd.target, local.ipv6, 16);
    memcpy(way.source_mac, their_mac, 6);
    memcpy(way.source_ip, local.ipv6, 16);
    way.source_ip[15] = 2;
    torc_nd_group(local.ipv6, way.destination_ip, way.destination_mac);
    bytes = torc_nd_write(frame, &nd, &way);
    CU_ASSERT_EQUAL(bytes, 86);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_ND);
    CU_ASSERT_EQUAL(torc_nd_decode(&got, &parsed), TORC_DROP_NONE);
    CU_ASSERT_TRUE(got.has_mac);
    CU_ASSERT_EQUAL(memcmp(got.mac, their_mac, 6), 0);
    CU_ASSERT_EQUAL(memcmp(got.target, local.ipv6, 16), 0);
    parsed.hop_limit = 254;
    CU_ASSERT_EQUAL(torc_nd_decode(&got, &parsed), TORC_DROP_NEIGHBOUR);
    parsed.hop_limit = 255;
    frame[70] ^= 1;
    CU_ASSERT_EQUAL(torc_nd_decode(&got, &parsed), TORC_DROP_L4_CHECKSUM);
}

static void test_echo(void)
{
    unsigned char frame[256];
    unsigned char answer[256];
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;
    uint32_t bytes = client_frame(frame, false, 0);
    uint16_t sum;

    frame[23] = 1; // ICMP instead of UDP, over the same bytes
    resum(frame);
    frame[34] = 8;
    frame[35] = 0;
    memset(frame + 36, 0, 2);
    sum = torc_ip_sum_end(torc_ip_sum(0, frame + 34, bytes - 34));
    memcpy(frame + 36, &sum, 2);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_ECHO);
    CU_ASSERT_EQUAL(torc_echo_write(answer, sizeof(answer), &parsed, our_mac, 0), bytes);
    CU_ASSERT_EQUAL(answer[34], 0);
    CU_ASSERT_EQUAL(memcmp(answer + 38, frame + 38, bytes - 38), 0);
    CU_ASSERT_EQUAL(torc_ip_sum_end(torc_ip_sum(0, answer + 34, bytes - 34)), 0);
    CU_ASSERT_EQUAL(torc_echo_write(answer, bytes - 1, &parsed, our_mac, 0), 0);
    frame[50] ^= 1;
    CU_ASSERT_EQUAL(torc_echo_write(answer, sizeof(answer), &parsed, our_mac, 0), 0);
}

static void test_drop_words(void)
{
    for (int drop = 0; drop < (int)TORC_DROP_COUNT; drop++) {
        CU_ASSERT_TRUE(strlen(torc_drop_name((enum torc_drop)drop)) > 0);
        CU_ASSERT_TRUE(strlen(torc_drop_explanation((enum torc_drop)drop)) > 0);
        for (int other = 0; other < drop; other++) {
            CU_ASSERT_STRING_NOT_EQUAL(torc_drop_name((enum torc_drop)drop),
                                       torc_drop_name((enum torc_drop)other));
        }
    }
    CU_ASSERT_STRING_EQUAL(torc_opcode_name(TORC_OPCODE_RANGE_READ), "RANGE_READ");
    CU_ASSERT_STRING_EQUAL(torc_opcode_name(0x7f), "UNKNOWN");
}

int main(void)
{
    CU_TestInfo tests[] = {{"an INIT comes back as it was", test_init},
                           {"no flipped bit of an INIT gives a session", test_init_flips},
                           {"a handshake goes INIT, RETRY, INIT, ACCEPT", test_handshake},
                           {"hints change words, not the attempt", test_handshake_hints},
                           {"an ACCEPT comes back as it was", test_accept},
                           {"a NOSESSION comes back as it was", test_nosession},
                           {"a cookie holds for its address and 30 s", test_cookie},
                           {"no flipped bit of a cookie holds", test_cookie_flips},
                           {"a ticket holds for a day and its principal", test_ticket},
                           {"a request is sealed and opened", test_lane_request},
                           {"a reply is opened once, within the window", test_lane_reply},
                           {"no flipped bit of a reply opens or moves a window", test_lane_flips},
                           {"first bytes are told apart", test_classify},
                           {"every request comes back as it was", test_requests},
                           {"bad requests get their status", test_request_refusals},
                           {"bad framing is found where it is", test_framing},
                           {"replies come back as they were", test_replies},
                           {"bodies of replies come back as they were", test_reply_bodies},
                           {"info carries reasons and times", test_info},
                           {"chunks of random rows come back as they were", test_rows},
                           {"the largest value fills a chunk exactly", test_rows_largest_value},
                           {"a count comes back as it was", test_rows_count},
                           {"a map entry comes back as it was", test_map_entry},
                           {"a node entry comes back as it was", test_node_entry},
                           {"frames of both families are parsed and answered", test_frames},
                           {"checksums are right", test_frame_checksums},
                           {"bad frames are dropped by their reason", test_frame_drops},
                           {"wrong sources are dropped", test_frame_sources},
                           {"ARP comes back as it was", test_arp},
                           {"neighbour discovery comes back as it was", test_nd},
                           {"an echo is answered with its bytes", test_echo},
                           {"every drop reason has a name and a line", test_drop_words},
                           CU_TEST_INFO_NULL};

    return torc_test_run("wire", tests);
}
