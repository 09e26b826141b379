// Torc tests: the Noise handshake: the published vector, both ends of Torc's packets, and what each
// flipped byte, wrong key and edited list leads to.
#include "tests/torc_test.h"
#include "wire/aead_os.h"
#include "wire/session.h"

#include <stdlib.h>
#include <string.h>

#define CLUSTER   UINT64_C(0x1122334455667788)
#define NODE      10u
#define PRINCIPAL 7u

// -- The published vector ------------------------------------------------------------------------

static uint32_t from_hex(uint8_t *bytes, const char *hex)
{
    uint32_t count = (uint32_t)strnlen(hex, 512) / 2;

    for (uint32_t i = 0; i < count; i++) {
        char digits[3] = {hex[2 * (uint64_t)i], hex[2 * (uint64_t)i + 1], '\0'};

        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return count;
}

static bool is_hex(const uint8_t *bytes, const char *hex)
{
    uint8_t wanted[256];
    uint32_t count = from_hex(wanted, hex);

    return memcmp(bytes, wanted, count) == 0;
}

// The transport's first message each way shows that the keys of the split are the right ones.
static bool transport_is(const uint8_t key[TORC_NOISE_KEY_BYTES], const char *text,
                         const char *sealed)
{
    const struct torc_aead_code *code = torc_aead_code_best();
    const struct torc_aead_cipher *cipher = torc_aead_cipher(code, TORC_SUITE_CHACHA20_POLY1305);
    struct torc_aead_key expanded;
    uint8_t nonce[TORC_AEAD_NONCE_BYTES] = {0};
    uint8_t bytes[64];
    uint32_t count = from_hex(bytes, text);

    torc_aead_expand(code, TORC_SUITE_CHACHA20_POLY1305, &expanded, key);
    cipher->seal(code->manager, &expanded, nonce, bytes, 0, count);
    return is_hex(bytes, sealed);
}

// Cacophony's vector of this protocol name (github.com/haskell-cryptography/cacophony).
static void test_vector(void)
{
    struct torc_noise_ephemeral initiator;
    struct torc_noise_ephemeral responder;
    struct torc_noise noise;
    struct torc_noise other;
    uint8_t prologue[16];
    uint8_t psk[TORC_NOISE_KEY_BYTES];
    uint8_t text[32];
    uint8_t sealed[64];
    uint8_t keys[2][TORC_NOISE_KEY_BYTES];
    uint8_t others[2][TORC_NOISE_KEY_BYTES];
    struct torc_noise_start start = {.prologue = prologue,
                                     .prologue_bytes = from_hex(prologue, "4a6f686e2047616c74"),
                                     .psk = psk,
                                     .initiator_public = initiator.public};

    (void)from_hex(psk, "54686973206973206d7920417573747269616e20706572737065637469766521");
    (void)from_hex(initiator.secret,
                   "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a");
    (void)from_hex(responder.secret,
                   "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b");
    torc_noise_ephemeral_make(&initiator);
    torc_noise_ephemeral_make(&responder);
    CU_ASSERT_TRUE(is_hex(initiator.public,
                          "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"));
    CU_ASSERT_TRUE(is_hex(responder.public,
                          "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"));
    torc_noise_begin(&noise, &start);
    torc_noise_begin(&other, &start);
    torc_noise_seal(&noise, sealed, text, from_hex(text, "4c756477696720766f6e204d69736573"));
    CU_ASSERT_TRUE(
        is_hex(sealed, "ed63df2f5a12aee1185ee9c50305f2ecf12421dcb53c047a63b784cf7c54a105"));
    CU_ASSERT_TRUE(torc_noise_open(&other, text, sealed, 16));
    CU_ASSERT_TRUE(is_hex(text, "4c756477696720766f6e204d69736573"));
    CU_ASSERT_TRUE(torc_noise_reply(&other, responder.secret, initiator.public, responder.public));
    torc_noise_seal(&other, sealed, text, from_hex(text, "4d757272617920526f746862617264"));
    CU_ASSERT_TRUE(
        is_hex(sealed, "0e0fe7d5c0c9b92f7478716c8852f1b4f389edb75e3ebe546fafafd5b6f0f7"));
    CU_ASSERT_TRUE(torc_noise_reply(&noise, initiator.secret, responder.public, responder.public));
    CU_ASSERT_TRUE(torc_noise_open(&noise, text, sealed, 15));
    CU_ASSERT_TRUE(is_hex(noise.hash,
                          "ed5e9692d0ab507b6c2beec3f584fd5b127817a9d20b26cd50aa72c507260fa31aa7d88d"
                          "d3723316338af37ce0b4cfb2923aeb848bbf2b934911306f01ffc963"));
    torc_noise_split(&noise, keys[0], keys[1]);
    torc_noise_split(&other, others[0], others[1]);
    CU_ASSERT_EQUAL(memcmp(keys, others, sizeof(keys)), 0);
    CU_ASSERT_TRUE(transport_is(keys[0], "462e20412e20486179656b",
                                "0fe04b26dcfbb69f8a6a94c61f1a26ef88769218d32f5d17c068a6"));
    CU_ASSERT_TRUE(transport_is(keys[1], "4361726c204d656e676572",
                                "2239e0c540c01f09eb1f4cc5258fd5acfefff18a5a3773f21b7bfe"));
    CU_ASSERT_EQUAL(noise.key[0], 0); // wiped by the split
}

// -- Both ends -----------------------------------------------------------------------------------

static const uint8_t psk_raw[TORC_NOISE_KEY_BYTES] = {1, 2, 3};
static const uint8_t cookie_any[TORC_COOKIE_BYTES] = {4};

static struct torc_handshake_offer good_offer(void)
{
    return (struct torc_handshake_offer){.client_id = 0x1234500,
                                         .client_index = 77,
                                         .node = TORC_NODE_UNKNOWN,
                                         .payload_max = 1472,
                                         .lanes = 4,
                                         .agent = "test",
                                         .psk = psk_raw,
                                         .principal = PRINCIPAL,
                                         .key_id = 2,
                                         .suites = TORC_SUITES_SEALED};
}

static struct torc_handshake_entropy entropy(uint8_t seed)
{
    struct torc_handshake_entropy made = {.random = {seed}, .secret = {seed, 1}};

    return made;
}

// What a server does with an INIT whose cookie is good. False: the key is wrong, or a field.
static bool serve(const unsigned char *packet, const uint8_t *psk, const struct torc_accept *accept,
                  unsigned char *answer, struct torc_session_keys *keys)
{
    struct torc_noise_ephemeral ephemeral = {.secret = {99}};
    struct torc_accept accepted = *accept;
    struct torc_init init;
    struct torc_noise noise;
    uint8_t bound[TORC_NOISE_KEY_BYTES];

    torc_noise_bind(bound, psk, CLUSTER, NODE);
    if (torc_init_decode(&init, packet, TORC_INIT_BYTES) != TORC_DROP_NONE || !init.has_cookie ||
        torc_init_open(&init, packet, bound, &noise) != TORC_DROP_NONE) {
        return false;
    }
    CU_ASSERT_EQUAL(init.client_id, 0x1234500);
    CU_ASSERT_EQUAL(init.client_index, 77);
    CU_ASSERT_STRING_EQUAL(init.agent, "test");
    torc_noise_ephemeral_make(&ephemeral);
    if (!torc_noise_reply(&noise, ephemeral.secret, init.ephemeral, ephemeral.public)) {
        return false;
    }
    memcpy(accepted.random, init.random, sizeof(accepted.random));
    torc_accept_seal(answer, &accepted, ephemeral.public, &noise);
    torc_noise_split(&noise, keys->to_server, keys->to_client);
    return true;
}

static struct torc_accept good_accept(void)
{
    return (struct torc_accept){.lanes = 2,
                                .suite = TORC_SUITE_AES_256_GCM,
                                .session_index = 0x00100004,
                                .roles = 3,
                                .cores = 3,
                                .base_port = 28700,
                                .payload_max = 1472,
                                .versions = TORC_WIRE_VERSIONS,
                                .suites = TORC_SUITES_SEALED,
                                .cluster = CLUSTER,
                                .key_count = 1,
                                .node = NODE,
                                .packet_ops_max = 12,
                                .core_ops_max = 13,
                                .packets_max = 14,
                                .fragments_max = 16,
                                .write_window = 21,
                                .ticket = {9}};
}

// A handshake up to its INIT with a cookie.
static void shake_begin(struct torc_handshake *handshake, const struct torc_handshake_offer *offer,
                        uint8_t seed)
{
    struct torc_handshake_entropy first = entropy(seed);
    struct torc_handshake_entropy second = entropy((uint8_t)(seed + 1));
    struct torc_retry retry = {.suites = TORC_SUITES_SEALED,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = NODE,
                               .cluster = CLUSTER};
    struct torc_accept accept;
    unsigned char packet[TORC_RETRY_BYTES];

    torc_handshake_init(handshake, offer, &first);
    memcpy(retry.random, first.random, sizeof(retry.random));
    memcpy(retry.cookie, cookie_any, sizeof(retry.cookie));
    torc_retry_encode(packet, &retry);
    CU_ASSERT_EQUAL_FATAL(
        torc_handshake_receive(handshake, packet, sizeof(packet), &second, &accept),
        TORC_HANDSHAKE_RESEND);
}

static enum torc_handshake_event receive(struct torc_handshake *handshake,
                                         const unsigned char *packet, struct torc_accept *accept)
{
    struct torc_handshake_entropy next = entropy(200);

    return torc_handshake_receive(handshake, packet, TORC_ACCEPT_BYTES, &next, accept);
}

static void test_handshake(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_accept got;
    struct torc_session_keys keys;
    struct torc_init init;
    unsigned char first[TORC_INIT_BYTES];
    unsigned char packet[TORC_ACCEPT_BYTES];
    uint8_t nothing[TORC_NOISE_KEY_BYTES] = {0};

    shake_begin(&handshake, &offer, 1);
    CU_ASSERT_EQUAL(torc_init_decode(&init, handshake.packet, TORC_INIT_BYTES), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(init.suites, TORC_SUITES_SEALED); // never CLEAR
    CU_ASSERT_EQUAL(init.principal, PRINCIPAL);
    CU_ASSERT_EQUAL(init.key, 2);
    memcpy(first, handshake.packet, sizeof(first));
    CU_ASSERT_TRUE_FATAL(serve(handshake.packet, psk_raw, &accept, packet, &keys));
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_ACCEPTED);
    CU_ASSERT_EQUAL(got.session_index, accept.session_index);
    CU_ASSERT_EQUAL(got.suite, TORC_SUITE_AES_256_GCM);
    CU_ASSERT_EQUAL(got.lanes, 2);
    CU_ASSERT_EQUAL(memcmp(&handshake.keys, &keys, sizeof(keys)), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(keys.to_client, keys.to_server, sizeof(keys.to_server)), 0);
    // H2: another INIT has another ephemeral key.
    shake_begin(&handshake, &offer, 20);
    CU_ASSERT_NOT_EQUAL(memcmp(first + 64, handshake.packet + 64, 32), 0);
    torc_handshake_wipe(&handshake);
    CU_ASSERT_EQUAL(memcmp(handshake.psk, nothing, sizeof(nothing)), 0);
    CU_ASSERT_EQUAL(memcmp(handshake.secret, nothing, sizeof(nothing)), 0);
}

// With a ticket: one round trip, under a PSK that is bound or whose cluster is known.
static void test_ticket(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake_entropy first = entropy(1);
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_accept got;
    struct torc_session_keys keys;
    unsigned char packet[TORC_ACCEPT_BYTES];
    uint8_t bound[TORC_NOISE_KEY_BYTES];

    offer.node = NODE;
    offer.cookie = cookie_any;
    torc_handshake_init(&handshake, &offer, &first); // cluster not known: it must ask first
    CU_ASSERT_FALSE(handshake.init.has_cookie);
    offer.cluster = CLUSTER;
    torc_handshake_init(&handshake, &offer, &first);
    CU_ASSERT_TRUE_FATAL(serve(handshake.packet, psk_raw, &accept, packet, &keys));
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_ACCEPTED);
    torc_noise_bind(bound, psk_raw, CLUSTER, NODE);
    offer.psk = bound;
    offer.psk_bound = true;
    offer.cluster = 0;
    torc_handshake_init(&handshake, &offer, &first);
    CU_ASSERT_TRUE_FATAL(serve(handshake.packet, psk_raw, &accept, packet, &keys));
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_ACCEPTED);
}

// -- What must not work --------------------------------------------------------------------------

// WIRE.md, section 8, rows 20 and 21: a wrong key, and each flipped bit of an INIT.
static void test_init_flips(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_session_keys keys;
    unsigned char packet[TORC_INIT_BYTES];
    unsigned char answer[TORC_ACCEPT_BYTES];
    uint8_t wrong[TORC_NOISE_KEY_BYTES] = {1, 2, 4};
    uint32_t taken = 0;

    shake_begin(&handshake, &offer, 1);
    CU_ASSERT_FALSE(serve(handshake.packet, wrong, &accept, answer, &keys));
    for (uint32_t bit = 0; bit < TORC_INIT_BYTES * 8; bit++) {
        memcpy(packet, handshake.packet, sizeof(packet));
        packet[bit / 8] = (unsigned char)(packet[bit / 8] ^ 1u << (bit % 8));
        taken += serve(packet, psk_raw, &accept, answer, &keys) ? 1 : 0;
    }
    CU_ASSERT_EQUAL(taken, 0);
}

// Each flipped bit of an ACCEPT: ignored, and the true one is still taken afterwards. Bytes that
// are neither sealed nor compared (core, reserved ones) change nothing.
static void test_accept_flips(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_accept got;
    struct torc_session_keys keys;
    struct torc_session_keys nothing = {.to_server = {0}};
    unsigned char packet[TORC_ACCEPT_BYTES] = {0};
    uint32_t taken = 0;

    shake_begin(&handshake, &offer, 1);
    CU_ASSERT_TRUE_FATAL(serve(handshake.packet, psk_raw, &accept, packet, &keys));
    for (uint32_t bit = 0; bit < TORC_ACCEPT_BYTES * 8; bit++) {
        uint32_t at = bit / 8;

        if (at == 2 || at == 3 || at == 6 || at == 7 || (at >= 28 && at < 32) ||
            (at == 63 && bit % 8 == 7)) { // RFC 7748: the top bit of a public key is not looked at
            continue;
        }
        packet[at] = (unsigned char)(packet[at] ^ 1u << (bit % 8));
        taken += receive(&handshake, packet, &got) == TORC_HANDSHAKE_ACCEPTED ? 1 : 0;
        packet[at] = (unsigned char)(packet[at] ^ 1u << (bit % 8));
    }
    CU_ASSERT_EQUAL(taken, 0);
    CU_ASSERT_EQUAL(memcmp(&handshake.keys, &nothing, sizeof(nothing)), 0);
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_ACCEPTED);
}

// Row 22: the right key and a public key of low order.
static void test_low_order(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_session_keys keys;
    struct torc_noise noise;
    unsigned char packet[TORC_INIT_BYTES];
    unsigned char answer[TORC_ACCEPT_BYTES];
    uint8_t bound[TORC_NOISE_KEY_BYTES];

    shake_begin(&handshake, &offer, 1);
    memset(handshake.init.ephemeral, 0, sizeof(handshake.init.ephemeral));
    handshake.init.ephemeral[0] = 1; // the point of order 1
    torc_noise_bind(bound, psk_raw, CLUSTER, NODE);
    torc_init_seal(packet, &handshake.init, bound, &noise);
    CU_ASSERT_FALSE(serve(packet, psk_raw, &accept, answer, &keys));
}

// H3: what stands in RETRY and in the open part of ACCEPT may be edited; the sealed list is true.
static void test_downgrade(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake handshake;
    struct torc_accept accept = good_accept();
    struct torc_accept got;
    struct torc_session_keys keys;
    unsigned char packet[TORC_ACCEPT_BYTES];

    accept.suite = TORC_SUITE_CHACHA20_POLY1305;
    shake_begin(&handshake, &offer, 1);
    CU_ASSERT_TRUE_FATAL(serve(handshake.packet, psk_raw, &accept, packet, &keys));
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_HINT);
    CU_ASSERT_PTR_NOT_NULL(strstr(handshake.why.text, "better"));
    // The same choice is right when the client can no better.
    offer.suites = TORC_SUITE_CHACHA20_POLY1305;
    shake_begin(&handshake, &offer, 1);
    CU_ASSERT_TRUE_FATAL(serve(handshake.packet, psk_raw, &accept, packet, &keys));
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_ACCEPTED);
    // An ACCEPT of CLEAR mode is none for a client with a key.
    shake_begin(&handshake, &offer, 1);
    accept.suite = TORC_SUITE_CLEAR;
    memcpy(accept.random, handshake.init.random, sizeof(accept.random));
    torc_accept_encode(packet, &accept);
    CU_ASSERT_EQUAL(receive(&handshake, packet, &got), TORC_HANDSHAKE_IGNORED);
}

static void test_hints(void)
{
    struct torc_handshake_offer offer = good_offer();
    struct torc_handshake_entropy first = entropy(1);
    struct torc_handshake handshake;
    struct torc_accept got;
    struct torc_retry retry = {.suites = TORC_SUITE_CLEAR,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = NODE,
                               .cluster = CLUSTER};
    unsigned char packet[TORC_RETRY_BYTES];

    offer.cluster = CLUSTER + 1;
    torc_handshake_init(&handshake, &offer, &first);
    memcpy(retry.random, first.random, sizeof(retry.random));
    torc_retry_encode(packet, &retry);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, sizeof(packet), &first, &got),
                    TORC_HANDSHAKE_HINT);
    CU_ASSERT_PTR_NOT_NULL(strstr(handshake.why.text, "cluster"));
    retry.cluster = CLUSTER + 1;
    torc_retry_encode(packet, &retry);
    CU_ASSERT_EQUAL(torc_handshake_receive(&handshake, packet, sizeof(packet), &first, &got),
                    TORC_HANDSHAKE_HINT);
    CU_ASSERT_PTR_NOT_NULL(strstr(handshake.why.text, "security = clear"));
    CU_ASSERT_FALSE(handshake.init.has_cookie); // and goes on asking, sealed
    CU_ASSERT_EQUAL(handshake.init.suites, TORC_SUITES_SEALED);
}

// -- Lanes ---------------------------------------------------------------------------------------

#define OPS_BYTES    32u
#define PACKET_BYTES (TORC_DATA_OVERHEAD + OPS_BYTES)

static void test_lanes(void)
{
    const struct torc_aead_code *code = torc_aead_code_best();
    struct torc_accept accept = good_accept();
    struct torc_session_keys keys = {.to_server = {1}, .to_client = {2}};
    struct torc_lane *lanes = malloc(2 * sizeof(*lanes));
    struct torc_data data = {.core = 2, .hlc = 8, .reply_bytes = 1472, .reply_packets = 2};
    struct torc_aead_key key;
    struct torc_seal seal = {.code = code, .key = &key};
    unsigned char packet[PACKET_BYTES] = {0};

    torc_assert(lanes != NULL);
    accept.suite = torc_aead_best_suite(code->suites);
    seal.suite = accept.suite;
    torc_lane_init(&lanes[0], &accept, 500, 0, &keys, code);
    torc_lane_init(&lanes[1], &accept, 500, 1, &keys, code);
    CU_ASSERT_EQUAL(torc_lane_seal(&lanes[1], packet, OPS_BYTES, &data), PACKET_BYTES);
    CU_ASSERT_EQUAL(packet[1], 0x18);
    torc_lane_key(&key, code, accept.suite, keys.to_server, 1);
    CU_ASSERT_TRUE(torc_data_open(&seal, packet, PACKET_BYTES));
    CU_ASSERT_EQUAL(torc_lane_seal(&lanes[0], packet, OPS_BYTES, &data), PACKET_BYTES);
    CU_ASSERT_FALSE(torc_data_open(&seal, packet, PACKET_BYTES)); // another lane's key
    // The way back.
    data = (struct torc_data){.type = TORC_TYPE_DATA,
                              .core = 1,
                              .flags = TORC_DATA_FROM_RESPONDER,
                              .index = 501,
                              .seq = 1,
                              .hlc = 66};
    torc_data_encode(packet, &data);
    torc_lane_key(&key, code, accept.suite, keys.to_client, 1);
    seal.direction = TORC_TO_CLIENT;
    CU_ASSERT_EQUAL(torc_data_seal(&seal, packet, TORC_DATA_HEAD_BYTES + OPS_BYTES), PACKET_BYTES);
    CU_ASSERT_FALSE(torc_lane_matches(&lanes[0], packet, PACKET_BYTES));
    CU_ASSERT_TRUE(torc_lane_matches(&lanes[1], packet, PACKET_BYTES));
    CU_ASSERT_EQUAL(torc_lane_open(&lanes[1], packet, PACKET_BYTES, &data), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(data.hlc, 66);
    CU_ASSERT_EQUAL(lanes[1].received, 1);
    torc_lane_wipe(&lanes[1]);
    CU_ASSERT_EQUAL(lanes[1].keys[0].bytes[0], 0);
    free(lanes);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"both ends give the published vector", test_vector},
        {"a client and a server that share a key agree on a session's", test_handshake},
        {"a ticket saves the RETRY when the key can be bound", test_ticket},
        {"no flipped bit of INIT and no wrong key is taken", test_init_flips},
        {"a flipped bit of ACCEPT is ignored and spoils nothing", test_accept_flips},
        {"a public key of low order is refused", test_low_order},
        {"a worse suite than the best in common ends the attempt", test_downgrade},
        {"a RETRY of another cluster or without encryption is not followed", test_hints},
        {"each lane and direction has its own key", test_lanes},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("noise", tests);
}
