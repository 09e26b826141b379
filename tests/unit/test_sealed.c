// Torc tests: sessions under keys, through a node in one process (tests/rig.h): who gets one, what
// a wrong key or an edited packet leads to, and what is left of a session's keys.
#include "dataplane/session_table.h"
#include "tests/rig.h"
#include "tests/torc_test.h"
#include "wire/aead_os.h"

#include <stdlib.h>
#include <string.h>

#define KEYS      UINT64_C(1000)
#define SECOND_NS UINT64_C(1000000000)
#define PORT      5000u

static struct torc_rig *rig;
static uint8_t client_ip[16];

static void open_rig(const struct torc_aead_code *aead)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = 2,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed(),
                                     .sealed = true,
                                     .aead = aead};
    uint8_t address[4] = {10, 79, 0, 1};

    rig = calloc(1, sizeof(*rig));
    torc_assert(rig != NULL);
    torc_rig_open(rig, &config);
    torc_ip_map(client_ip, address);
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
}

static void send_bytes(const void *bytes, uint32_t byte_count)
{
    struct torc_rig_udp udp = {.client_port = PORT,
                               .node_port = TORC_RIG_BASE_PORT,
                               .payload = bytes,
                               .payload_bytes = byte_count};

    memcpy(udp.client_ip, client_ip, sizeof(client_ip));
    CU_ASSERT_FATAL(torc_rig_send_udp(rig, &udp));
}

// Steps until a datagram comes back; its bytes, 0: none.
static uint32_t answer(unsigned char *bytes, uint32_t room)
{
    struct torc_rig_udp udp;

    for (uint32_t step = 0; step < 20; step++) {
        torc_rig_step(rig, 10000);
        if (torc_rig_receive_udp(rig, &udp) && udp.payload_bytes <= room) {
            memcpy(bytes, udp.payload, udp.payload_bytes);
            return udp.payload_bytes;
        }
    }
    return 0;
}

static struct torc_handshake_offer key_offer(const uint8_t *psk)
{
    return (struct torc_handshake_offer){.client_id = 0x1100,
                                         .client_index = 42,
                                         .node = TORC_NODE_UNKNOWN,
                                         .payload_max = 1452,
                                         .lanes = 1,
                                         .agent = "test",
                                         .psk = psk,
                                         .principal = TORC_RIG_PRINCIPAL,
                                         .key_id = TORC_RIG_KEY_ID,
                                         .suites = TORC_SUITES_SEALED};
}

static struct torc_handshake_entropy entropy(uint8_t seed)
{
    return (struct torc_handshake_entropy){.random = {seed, 9}, .secret = {seed, 8}};
}

// Up to the INIT that carries a cookie.
static void get_cookie(struct torc_handshake *handshake, const struct torc_handshake_offer *offer,
                       uint8_t seed)
{
    struct torc_handshake_entropy first = entropy(seed);
    struct torc_handshake_entropy second = entropy((uint8_t)(seed + 100));
    struct torc_accept accept;
    unsigned char bytes[2048];
    uint32_t byte_count;

    torc_handshake_init(handshake, offer, &first);
    send_bytes(handshake->packet, TORC_INIT_BYTES);
    byte_count = answer(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL_FATAL(byte_count, TORC_RETRY_BYTES);
    CU_ASSERT_EQUAL_FATAL(torc_handshake_receive(handshake, bytes, byte_count, &second, &accept),
                          TORC_HANDSHAKE_RESEND);
}

// What comes of the whole handshake; *refused: the code of a REFUSE.
static enum torc_handshake_event shake(const struct torc_handshake_offer *offer, uint8_t seed,
                                       struct torc_accept *accept, uint16_t *refused)
{
    struct torc_handshake handshake;
    struct torc_handshake_entropy next = entropy(250);
    enum torc_handshake_event event;
    unsigned char bytes[2048];
    uint32_t byte_count;

    get_cookie(&handshake, offer, seed);
    send_bytes(handshake.packet, TORC_INIT_BYTES);
    byte_count = answer(bytes, sizeof(bytes));
    event = torc_handshake_receive(&handshake, bytes, byte_count, &next, accept);
    *refused = handshake.refuse_code;
    return event;
}

static uint64_t sessions_open(void)
{
    for (uint32_t i = 0; i < 30; i++) {
        torc_rig_step(rig, 10000000); // gauges are told five times a second
    }
    return torc_stats_get(&torc_rig_stats(rig, 0)->gauges[TORC_GAUGE_SESSIONS]);
}

static uint64_t counted(enum torc_counter counter)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < rig->config.workers; i++) {
        sum += torc_stats_get(&torc_rig_stats(rig, i)->counters[counter]);
    }
    return sum;
}

// -- Who gets a session ---------------------------------------------------------------------------

static void check_code(const char *name)
{
    const struct torc_aead_code *code = torc_aead_code_named(name);
    struct torc_rig_client *client = calloc(1, sizeof(*client));

    torc_assert(client != NULL);
    if (code != NULL) {
        open_rig(code);
        torc_rig_connect(rig, client, PORT);
        CU_ASSERT_EQUAL(client->accept.suite, torc_aead_best_suite(code->suites));
        (void)torc_rig_put_text(rig, client, 1, "here");
        (void)torc_rig_put_text(rig, client, KEYS - 1, "and on the other core");
        torc_rig_check_text(rig, client, 1, "here");
        torc_rig_check_text(rig, client, KEYS - 1, "and on the other core");
        CU_ASSERT_EQUAL(sessions_open(), 1);
        close_rig();
    }
    free(client);
}

static void a_client_with_a_key_reads_and_writes_by_every_code(void)
{
    check_code("libipsec-mb");
    check_code("libsodium");
    check_code("chacha");
}

static void a_wrong_key_and_a_stranger_get_the_same_refusal(void)
{
    const uint8_t wrong[TORC_NOISE_KEY_BYTES] = {1};
    struct torc_handshake_offer offers[4];
    struct torc_accept accept;
    uint16_t refused;

    open_rig(NULL);
    offers[0] = key_offer(wrong);
    offers[1] = key_offer(torc_rig_psk);
    offers[1].principal = 8;
    offers[2] = key_offer(torc_rig_psk);
    offers[2].key_id = 2;
    // The key of another node, as one that stole it would use it.
    offers[3] = key_offer(torc_rig_psk);
    offers[3].psk_bound = true;
    for (uint32_t i = 0; i < TORC_COUNT_OF(offers); i++) {
        CU_ASSERT_EQUAL(shake(&offers[i], (uint8_t)i, &accept, &refused), TORC_HANDSHAKE_HINT);
        CU_ASSERT_EQUAL(refused, TORC_REFUSE_AUTH);
    }
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_HANDSHAKES_REFUSED), TORC_COUNT_OF(offers));
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_SESSIONS_OPENED), 0);
    CU_ASSERT_EQUAL(sessions_open(), 0);
    close_rig();
}

// WIRE.md, section 7: "10 000 forged INITs: DH count 0, slots 0". Who has no key gets as far as the
// key's check, whatever else is true.
static void forged_inits_cost_no_agreement_and_no_slot(void)
{
    const uint8_t wrong[TORC_NOISE_KEY_BYTES] = {1};
    struct torc_handshake_offer offer = key_offer(wrong);
    struct torc_handshake handshake;
    unsigned char bytes[2048];
    uint32_t accepted = 0;

    open_rig(NULL);
    for (uint32_t i = 0; i < 1000; i++) {
        if (i % 25 == 0) {
            get_cookie(&handshake, &offer, (uint8_t)(i / 25));
        }
        handshake.packet[96 + i % 160] ^= 1;
        send_bytes(handshake.packet, TORC_INIT_BYTES);
        accepted += answer(bytes, sizeof(bytes)) == TORC_ACCEPT_BYTES ? 1 : 0;
        torc_rig_step(rig, SECOND_NS / 40); // inside the address's budget
    }
    CU_ASSERT_EQUAL(accepted, 0);
    // An agreement is followed by a session or by a drop for its public key.
    CU_ASSERT_EQUAL(counted(TORC_COUNTER_SESSIONS_OPENED), 0);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_DH), 0);
    CU_ASSERT(counted(TORC_COUNTER_HANDSHAKES_REFUSED) > 900);
    CU_ASSERT_EQUAL(sessions_open(), 0);
    close_rig();
}

static void no_flipped_bit_of_an_init_makes_a_session(void)
{
    struct torc_handshake_offer offer = key_offer(torc_rig_psk);
    struct torc_handshake handshake;
    unsigned char packet[TORC_INIT_BYTES];
    unsigned char bytes[2048];
    uint32_t accepted = 0;

    open_rig(NULL);
    get_cookie(&handshake, &offer, 1);
    for (uint32_t bit = 0; bit < TORC_INIT_BYTES * 8; bit++) {
        if (bit % 400 == 0) {
            get_cookie(&handshake, &offer, (uint8_t)(2 + bit / 400));
        }
        memcpy(packet, handshake.packet, sizeof(packet));
        packet[bit / 8] = (unsigned char)(packet[bit / 8] ^ 1u << (bit % 8));
        send_bytes(packet, TORC_INIT_BYTES);
        accepted += answer(bytes, sizeof(bytes)) == TORC_ACCEPT_BYTES ? 1 : 0;
        torc_rig_step(rig, SECOND_NS / 40);
    }
    CU_ASSERT_EQUAL(accepted, 0);
    CU_ASSERT_EQUAL(sessions_open(), 0);
    close_rig();
}

static void a_public_key_of_low_order_is_dropped(void)
{
    struct torc_handshake_offer offer = key_offer(torc_rig_psk);
    struct torc_chan_principal principal;
    struct torc_handshake handshake;
    struct torc_noise noise;
    unsigned char packet[TORC_INIT_BYTES];
    unsigned char bytes[2048];

    open_rig(NULL);
    get_cookie(&handshake, &offer, 1);
    principal = torc_rig_principal(rig);
    memset(handshake.init.ephemeral, 0, sizeof(handshake.init.ephemeral));
    torc_init_seal(packet, &handshake.init, principal.psks[0], &noise);
    send_bytes(packet, TORC_INIT_BYTES);
    CU_ASSERT_EQUAL(answer(bytes, sizeof(bytes)), 0);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_DH), 1);
    CU_ASSERT_EQUAL(sessions_open(), 0);
    close_rig();
}

static void a_principal_has_no_more_sessions_than_its_number(void)
{
    struct torc_handshake_offer offer = key_offer(torc_rig_psk);
    struct torc_chan_principal principal;
    struct torc_accept accept;
    uint16_t refused;

    open_rig(NULL);
    principal = torc_rig_principal(rig);
    principal.sessions_max = 3;
    torc_rig_keys(rig, &principal, 1);
    torc_rig_settle(rig, 50);
    offer.lanes = 4;
    CU_ASSERT_EQUAL(shake(&offer, 1, &accept, &refused), TORC_HANDSHAKE_ACCEPTED);
    CU_ASSERT_EQUAL(accept.lanes, 2); // a smaller block
    CU_ASSERT_EQUAL(shake(&offer, 2, &accept, &refused), TORC_HANDSHAKE_ACCEPTED);
    CU_ASSERT_EQUAL(accept.lanes, 1);
    CU_ASSERT_EQUAL(shake(&offer, 3, &accept, &refused), TORC_HANDSHAKE_HINT);
    CU_ASSERT_EQUAL(refused, TORC_REFUSE_FULL);
    CU_ASSERT_EQUAL(sessions_open(), 3);
    close_rig();
}

static void lanes_have_keys_of_their_own(void)
{
    struct torc_handshake_offer offer = key_offer(torc_rig_psk);
    struct torc_accept accept;
    const struct torc_session *first;
    const struct torc_session *second;
    uint16_t refused;

    open_rig(NULL);
    offer.lanes = 2;
    CU_ASSERT_EQUAL_FATAL(shake(&offer, 1, &accept, &refused), TORC_HANDSHAKE_ACCEPTED);
    first = torc_session_find(rig->sessions, accept.session_index);
    second = torc_session_find(rig->sessions, accept.session_index + 1);
    torc_assert(first != NULL && second != NULL);
    CU_ASSERT_NOT_EQUAL(memcmp(&first->keys[0], &second->keys[0], sizeof(first->keys[0])), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(&first->keys[0], &first->keys[1], sizeof(first->keys[0])), 0);
    CU_ASSERT_NOT_EQUAL(memcmp(&second->keys[0], &first->keys[1], sizeof(first->keys[0])), 0);
    close_rig();
}

// -- Packets --------------------------------------------------------------------------------------

// Captures the client's next packet instead of sending it.
static uint32_t capture(struct torc_rig_client *client, unsigned char *packet)
{
    struct torc_request request = torc_rig_get(1);
    uint32_t bytes;

    (void)torc_rig_add(client, &request);
    bytes = torc_rig_flush(rig, client, 0);
    rig->in_count--; // it never left
    memcpy(packet, client->packet, bytes);
    return bytes;
}

// Row 28: any bit flipped. What comes back is NOSESSION for a bit of the index, else nothing.
static void no_flipped_bit_of_a_packet_is_taken(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    unsigned char packet[2048];
    unsigned char forged[2048];
    unsigned char reply[2048];
    uint32_t answered = 0;
    uint32_t bytes;

    open_rig(NULL);
    torc_assert(client != NULL);
    torc_rig_connect(rig, client, PORT);
    bytes = capture(client, packet);
    for (uint32_t bit = 0; bit < bytes * 8; bit++) {
        uint32_t got;

        memcpy(forged, packet, bytes);
        forged[bit / 8] = (unsigned char)(forged[bit / 8] ^ 1u << (bit % 8));
        send_bytes(forged, bytes);
        got = answer(reply, sizeof(reply));
        answered += got != 0 && got != TORC_NOSESSION_BYTES ? 1 : 0;
    }
    CU_ASSERT_EQUAL(answered, 0);
    CU_ASSERT(torc_rig_drops(rig, TORC_DROP_AUTH) > UINT64_C(8) * (bytes - 24));
    send_bytes(packet, bytes); // the window did not move
    CU_ASSERT(answer(reply, sizeof(reply)) >= TORC_DATA_BYTES_MIN);
    free(client);
    close_rig();
}

static void a_sealed_session_takes_no_clear_packet(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    struct torc_seal clear = {.suite = TORC_SUITE_CLEAR}; // tokens of a sealed session are zero
    struct torc_data data = {
        .type = TORC_TYPE_CLEAR, .seq = 1, .reply_bytes = TORC_PAYLOAD_MIN, .reply_packets = 1};
    unsigned char packet[TORC_DATA_OVERHEAD + 24] = {0};
    unsigned char reply[2048];

    open_rig(NULL);
    torc_assert(client != NULL);
    torc_rig_connect(rig, client, PORT);
    data.index = client->accept.session_index;
    torc_data_encode(packet, &data);
    send_bytes(packet, torc_data_seal(&clear, packet, TORC_DATA_HEAD_BYTES + 24));
    CU_ASSERT_EQUAL(answer(reply, sizeof(reply)), 0);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_AUTH), 1);
    free(client);
    close_rig();
}

// Whether the text stands anywhere in the bytes.
static bool has_text(const unsigned char *bytes, uint32_t byte_count, const char *text)
{
    return memmem(bytes, byte_count, text, strnlen(text, 64)) != NULL;
}

static void what_is_on_the_wire_says_nothing(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    struct torc_request request;
    struct torc_rig_udp udp;
    bool replied = false;

    open_rig(NULL);
    torc_assert(client != NULL);
    torc_rig_connect(rig, client, PORT);
    (void)torc_rig_put_text(rig, client, 1, "a secret of some length");
    request = torc_rig_get(1);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t step = 0; step < 20 && !replied; step++) {
        torc_rig_step(rig, 10000);
        replied = torc_rig_receive_udp(rig, &udp);
    }
    CU_ASSERT_FATAL(replied);
    CU_ASSERT(udp.payload_bytes > TORC_DATA_OVERHEAD + 23);
    CU_ASSERT_FALSE(has_text(udp.payload, udp.payload_bytes, "secret"));
    CU_ASSERT_EQUAL(udp.payload[1], 0x18);
    // The same in CLEAR mode would show: this search can find it.
    CU_ASSERT(has_text((const unsigned char *)"this is a secret too", 20, "secret"));
    free(client);
    close_rig();
}

// -- What is left ---------------------------------------------------------------------------------

static void keys_of_an_ended_session_are_wiped(void)
{
    struct torc_handshake_offer offer = key_offer(torc_rig_psk);
    struct torc_aead_key nothing;
    const struct torc_session *session;
    struct torc_accept accept;
    uint16_t refused;

    memset(&nothing, 0, sizeof(nothing));
    open_rig(NULL);
    CU_ASSERT_EQUAL_FATAL(shake(&offer, 1, &accept, &refused), TORC_HANDSHAKE_ACCEPTED);
    session = torc_session_find(rig->sessions, accept.session_index);
    torc_assert(session != NULL);
    CU_ASSERT_NOT_EQUAL(memcmp(&session->keys[TORC_TO_SERVER], &nothing, sizeof(nothing)), 0);
    // Nobody uses it: 5 s half-open, 1 s of rest.
    for (uint32_t i = 0; i < 80; i++) {
        torc_rig_step(rig, SECOND_NS / 10);
    }
    CU_ASSERT_PTR_NULL(torc_session_find(rig->sessions, accept.session_index));
    CU_ASSERT_EQUAL(memcmp(&session->keys[TORC_TO_SERVER], &nothing, sizeof(nothing)), 0);
    CU_ASSERT_EQUAL(memcmp(&session->keys[TORC_TO_CLIENT], &nothing, sizeof(nothing)), 0);
    close_rig();
}

static void a_removed_principal_loses_its_session_at_once(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    struct torc_handshake_offer offer = key_offer(torc_rig_psk);
    struct torc_request request = torc_rig_get(1);
    struct torc_accept accept;
    unsigned char reply[2048];
    uint16_t refused;

    open_rig(NULL);
    torc_assert(client != NULL);
    torc_rig_connect(rig, client, PORT);
    (void)torc_rig_put_text(rig, client, 1, "before");
    torc_rig_keys(rig, NULL, 0);
    torc_rig_settle(rig, 50);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_EQUAL(answer(reply, sizeof(reply)), TORC_NOSESSION_BYTES);
    CU_ASSERT_EQUAL(shake(&offer, 3, &accept, &refused), TORC_HANDSHAKE_HINT);
    CU_ASSERT_EQUAL(refused, TORC_REFUSE_AUTH);
    CU_ASSERT_EQUAL(sessions_open(), 0);
    free(client);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a client with a key reads and writes, by every code of this machine",
         a_client_with_a_key_reads_and_writes_by_every_code},
        {"a wrong key and a stranger get the same refusal",
         a_wrong_key_and_a_stranger_get_the_same_refusal},
        {"forged INITs cost no agreement and no slot", forged_inits_cost_no_agreement_and_no_slot},
        {"no flipped bit of an INIT makes a session", no_flipped_bit_of_an_init_makes_a_session},
        {"a public key of low order is dropped", a_public_key_of_low_order_is_dropped},
        {"a principal has no more sessions than its number",
         a_principal_has_no_more_sessions_than_its_number},
        {"lanes have keys of their own", lanes_have_keys_of_their_own},
        {"no flipped bit of a packet is taken", no_flipped_bit_of_a_packet_is_taken},
        {"a sealed session takes no clear packet", a_sealed_session_takes_no_clear_packet},
        {"what is on the wire says nothing", what_is_on_the_wire_says_nothing},
        {"keys of an ended session are wiped", keys_of_an_ended_session_are_wiped},
        {"a removed principal loses its session at once",
         a_removed_principal_loses_its_session_at_once},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("sealed sessions", tests);
}
