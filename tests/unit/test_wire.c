// Torc tests: packets: handshake, cookies, sealing; there and back, each refusal by its reason.
#include "tests/torc_test.h"
#include "wire/handshake.h"
#include "wire/op.h"
#include "wire/session.h"

#include <stdlib.h>
#include <string.h>

#define WALL_S UINT64_C(1790000000)

// -- Help ----------------------------------------------------------------------------------------

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

    torc_test_fill(accept.random, sizeof(accept.random), 1);
    torc_test_fill(accept.ticket, sizeof(accept.ticket), 100);
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
    struct torc_handshake_entropy random = {.secret = {1}};
    uint8_t cookie[TORC_COOKIE_BYTES];

    torc_test_fill(random.random, sizeof(random.random), 9);
    torc_test_fill(cookie, sizeof(cookie), 50);
    torc_handshake_init(&handshake, &offer, &random);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, TORC_INIT_BYTES), TORC_DROP_NONE);
    CU_ASSERT_FALSE(init.has_cookie);
    CU_ASSERT_EQUAL(init.node, TORC_NODE_UNKNOWN);
    CU_ASSERT_EQUAL(memcmp(init.random, random.random, sizeof(init.random)), 0);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, 255), TORC_DROP_INIT_LENGTH);

    offer.cookie = cookie;
    offer.node = 10;
    torc_handshake_init(&handshake, &offer, &random);
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
    struct torc_handshake_entropy random = {.random = {1}};
    uint8_t cookie[TORC_COOKIE_BYTES] = {2};
    uint32_t accepted = 0;

    offer.cookie = cookie;
    offer.node = 10;
    torc_handshake_init(&handshake, &offer, &random);
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
    struct torc_handshake_entropy first = {.random = {1}};
    struct torc_handshake_entropy second = {.random = {2}};
    unsigned char packet[TORC_ACCEPT_BYTES];

    torc_handshake_init(&handshake, &offer, &first);
    torc_retry_encode(packet, &retry); // of another random
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, &second, &got),
                    TORC_HANDSHAKE_IGNORED);
    memcpy(retry.random, first.random, sizeof(retry.random));
    torc_retry_encode(packet, &retry);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, &second, &got),
                    TORC_HANDSHAKE_RESEND);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, TORC_INIT_BYTES), TORC_DROP_NONE);
    CU_ASSERT_TRUE(init.has_cookie);
    CU_ASSERT_EQUAL(init.node, 10);
    CU_ASSERT_EQUAL(init.versions_seen, TORC_WIRE_VERSIONS);
    CU_ASSERT_EQUAL(memcmp(init.random, second.random, sizeof(init.random)), 0);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, &second, &got),
                    TORC_HANDSHAKE_IGNORED); // late

    memcpy(accept.random, second.random, sizeof(accept.random));
    torc_accept_encode(packet, &accept);
    packet[100] ^= 1;
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_ACCEPT_BYTES, &second, &got),
                    TORC_HANDSHAKE_IGNORED);
    packet[100] ^= 1;
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_ACCEPT_BYTES, &second, &got),
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
    struct torc_handshake_entropy random = {.random = {1}};
    unsigned char packet[TORC_RETRY_BYTES];

    offer.node = 10;
    torc_handshake_init(&handshake, &offer, &random);
    memcpy(retry.random, random.random, sizeof(retry.random));
    torc_retry_encode(packet, &retry); // of another node than expected
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, &random, &got),
                    TORC_HANDSHAKE_HINT);
    retry.node = 10;
    retry.suites = TORC_SUITE_AES_256_GCM;
    torc_retry_encode(packet, &retry); // encryption wanted
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_RETRY_BYTES, &random, &got),
                    TORC_HANDSHAKE_HINT);
    memcpy(refuse.random, random.random, sizeof(refuse.random));
    torc_refuse_encode(packet, &refuse);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_REFUSE_BYTES, &random, &got),
                    TORC_HANDSHAKE_HINT);
    CU_ASSERT_EQUAL(handshake.refuse_code, TORC_REFUSE_FULL);
    CU_ASSERT_EQUAL(handshake.refuse_retry_ms, 7);
    CU_ASSERT_PTR_NOT_NULL(strstr(handshake.why.text, "full"));
    memcpy(version.random, random.random, sizeof(version.random));
    torc_version_encode(packet, &version);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, TORC_VERSION_BYTES, &random, &got),
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

    torc_test_fill(nosession.cookie, sizeof(nosession.cookie), 30);
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
    torc_test_fill(secret, sizeof(secret), 3);
    torc_test_fill(test->bearer.ip, sizeof(test->bearer.ip), 60);
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
    struct torc_seal seal = torc_lane_direction(lane, TORC_TO_CLIENT);

    torc_data_encode(packet, &data);
    memset(packet + TORC_DATA_HEAD_BYTES, 0, OPS_BYTES);
    CU_ASSERT_EQUAL(torc_data_seal(&seal, packet, TORC_DATA_HEAD_BYTES + OPS_BYTES), PACKET_BYTES);
}

static struct torc_lane *new_lane(void)
{
    struct torc_accept accept = good_accept();
    struct torc_lane *lane = malloc(sizeof(*lane));

    torc_assert(lane != NULL);
    torc_lane_init(lane, &accept, 500, 1, NULL, NULL);
    return lane;
}

static void test_lane_request(void)
{
    struct torc_lane *lane = new_lane();
    struct torc_data data = {
        .core = 2, .clock_us = 9, .hlc = 8, .reply_bytes = 1472, .reply_packets = 2};
    struct torc_data got;
    struct torc_seal seal = torc_lane_direction(lane, TORC_TO_SERVER);
    unsigned char packet[PACKET_BYTES] = {0};

    CU_ASSERT_EQUAL(torc_lane_seal(lane, packet, OPS_BYTES, &data), PACKET_BYTES);
    CU_ASSERT_EQUAL(torc_data_decode(&got, packet, PACKET_BYTES), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(got.index, 0x00100005);
    CU_ASSERT_EQUAL(got.seq, 1);
    CU_ASSERT_EQUAL(got.core, 2);
    CU_ASSERT_EQUAL(got.reply_bytes, 1472);
    CU_ASSERT_EQUAL(got.reply_packets, 2);
    CU_ASSERT_EQUAL(torc_data_hlc(packet), 8);
    CU_ASSERT_TRUE(torc_data_credit_ok(&got, PACKET_BYTES));
    CU_ASSERT_TRUE(torc_data_open(&seal, packet, PACKET_BYTES));
    packet[24] ^= 1;
    CU_ASSERT_FALSE(torc_data_open(&seal, packet, PACKET_BYTES));
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
                           {"every drop reason has a name and a line", test_drop_words},
                           CU_TEST_INFO_NULL};

    return torc_test_run("wire", tests);
}
