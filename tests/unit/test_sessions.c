// Torc tests: how sessions begin and end, what strangers get, and the small protocols beside UDP,
// through a node in one process (tests/rig.h).
#include "dataplane/session_table.h"
#include "tests/rig.h"
#include "tests/torc_test.h"
#include "wire/data.h"

#include <stdlib.h>
#include <string.h>

#define KEYS      UINT64_C(1000)
#define SECOND_NS UINT64_C(1000000000)

static struct torc_rig *rig;
static uint8_t client_ip[16];
static bool sealed; // of the runs' two modes

static void open_rig_of(uint32_t session_slots)
{
    struct torc_rig_config config = {.workers = 2,
                                     .shards = 2,
                                     .key_count = KEYS,
                                     .seed = torc_test_seed(),
                                     .session_slots = session_slots,
                                     .sealed = sealed};
    uint8_t address[4] = {10, 79, 0, 1};

    rig = calloc(1, sizeof(*rig));
    torc_assert(rig != NULL);
    torc_rig_open(rig, &config);
    torc_ip_map(client_ip, address);
}

static void open_rig(void)
{
    open_rig_of(0);
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
}

static void send_bytes(uint16_t port, const void *bytes, uint32_t byte_count)
{
    struct torc_rig_udp udp = {.client_port = port,
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

static void offer(struct torc_handshake *handshake, uint8_t seed, uint8_t lanes)
{
    struct torc_handshake_offer offer = {.client_id = 0x1100,
                                         .client_index = 42,
                                         .node = TORC_NODE_UNKNOWN,
                                         .payload_max = 1452,
                                         .lanes = lanes,
                                         .agent = "test"};
    struct torc_handshake_entropy entropy = {.random = {seed}, .secret = {seed}};

    if (sealed) {
        offer.psk = torc_rig_psk;
        offer.principal = TORC_RIG_PRINCIPAL;
        offer.key_id = TORC_RIG_KEY_ID;
        offer.suites = TORC_SUITES_SEALED;
    }
    torc_handshake_init(handshake, &offer, &entropy);
}

// Up to the INIT that carries a cookie.
static void get_cookie(struct torc_handshake *handshake, uint16_t port, uint8_t seed, uint8_t lanes)
{
    unsigned char bytes[2048];
    struct torc_handshake_entropy entropy = {.random = {seed, 1}, .secret = {seed, 1}};
    struct torc_accept accept;
    uint32_t byte_count;

    offer(handshake, seed, lanes);
    send_bytes(port, handshake->packet, TORC_INIT_BYTES);
    byte_count = answer(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL_FATAL(byte_count, TORC_RETRY_BYTES);
    CU_ASSERT_EQUAL_FATAL(torc_handshake_receive(handshake, bytes, byte_count, &entropy, &accept),
                          TORC_HANDSHAKE_RESEND);
}

static void accept_one(uint16_t port, uint8_t seed, uint8_t lanes, struct torc_accept *accept)
{
    struct torc_handshake handshake;
    unsigned char bytes[2048];
    struct torc_handshake_entropy entropy = {.random = {0}};
    uint32_t byte_count;

    get_cookie(&handshake, port, seed, lanes);
    send_bytes(port, handshake.packet, TORC_INIT_BYTES);
    byte_count = answer(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL_FATAL(torc_handshake_receive(&handshake, bytes, byte_count, &entropy, accept),
                          TORC_HANDSHAKE_ACCEPTED);
}

static uint64_t sessions_open(void)
{
    for (uint32_t i = 0; i < 30; i++) {
        torc_rig_step(rig, 10000000); // gauges are told five times a second
    }
    return torc_stats_get(&torc_rig_stats(rig, 0)->gauges[TORC_GAUGE_SESSIONS]);
}

// -- Beginnings -----------------------------------------------------------------------------------

static void a_repeated_init_gets_the_same_accept_and_no_second_session(void)
{
    struct torc_handshake handshake;
    unsigned char first[2048];
    unsigned char again[2048];

    open_rig();
    get_cookie(&handshake, 5000, 1, 1);
    send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
    CU_ASSERT_EQUAL_FATAL(answer(first, sizeof(first)), TORC_ACCEPT_BYTES);
    for (uint32_t i = 0; i < 5; i++) {
        send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
        CU_ASSERT_EQUAL_FATAL(answer(again, sizeof(again)), TORC_ACCEPT_BYTES);
        CU_ASSERT_EQUAL(memcmp(first, again, TORC_ACCEPT_BYTES), 0);
    }
    CU_ASSERT_EQUAL(sessions_open(), 1);
    close_rig();
}

static void a_cookie_is_good_for_its_address_and_half_a_minute(void)
{
    struct torc_handshake handshake;
    unsigned char bytes[2048];

    open_rig();
    get_cookie(&handshake, 5000, 1, 1);
    send_bytes(5001, handshake.packet, TORC_INIT_BYTES); // another port
    CU_ASSERT_EQUAL(answer(bytes, sizeof(bytes)), TORC_RETRY_BYTES);
    client_ip[15] = 77; // another address
    send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
    CU_ASSERT_EQUAL(answer(bytes, sizeof(bytes)), TORC_RETRY_BYTES);
    client_ip[15] = 1;
    handshake.packet[45] ^= 1; // a bit of it
    send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
    CU_ASSERT_EQUAL(answer(bytes, sizeof(bytes)), TORC_RETRY_BYTES);
    handshake.packet[45] ^= 1;
    torc_rig_step(rig, 40 * SECOND_NS);
    send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
    CU_ASSERT_EQUAL(answer(bytes, sizeof(bytes)), TORC_RETRY_BYTES);
    CU_ASSERT_EQUAL(sessions_open(), 0);
    close_rig();
}

// What an INIT with these suites and this principal is refused with; 0: it is not.
static uint16_t refusal(struct torc_handshake *handshake, uint8_t suites, uint32_t principal)
{
    unsigned char packet[TORC_INIT_BYTES];
    unsigned char bytes[2048];
    struct torc_refuse refuse;
    uint32_t byte_count;

    memcpy(packet, handshake->packet, sizeof(packet));
    packet[33] = suites;
    memcpy(packet + 28, &principal, sizeof(principal));
    send_bytes(5000, packet, TORC_INIT_BYTES);
    byte_count = answer(bytes, sizeof(bytes));
    return torc_refuse_decode(&refuse, bytes, byte_count, NULL) == TORC_ERR_OK ? refuse.code : 0;
}

static void other_suites_are_refused_by_name(void)
{
    struct torc_handshake handshake;
    unsigned char bytes[2048];

    open_rig();
    get_cookie(&handshake, 5000, 1, 1);
    CU_ASSERT_EQUAL(refusal(&handshake, TORC_SUITE_CLEAR | TORC_SUITE_AES_256_GCM, 0),
                    TORC_REFUSE_SUITE);
    CU_ASSERT_EQUAL(refusal(&handshake, 0, TORC_RIG_PRINCIPAL), TORC_REFUSE_SUITE);
    if (sealed) {
        CU_ASSERT_EQUAL(refusal(&handshake, TORC_SUITE_CLEAR, 0), TORC_REFUSE_CLEAR_OFF);
        CU_ASSERT_EQUAL(refusal(&handshake, 4, TORC_RIG_PRINCIPAL), TORC_REFUSE_SUITE);
        CU_ASSERT_EQUAL(refusal(&handshake, TORC_SUITES_SEALED, 0), TORC_REFUSE_KEY_REQUIRED);
        CU_ASSERT_EQUAL(refusal(&handshake, TORC_SUITES_SEALED, 8), TORC_REFUSE_AUTH);
    } else {
        CU_ASSERT_EQUAL(refusal(&handshake, TORC_SUITE_AES_256_GCM, TORC_RIG_PRINCIPAL),
                        TORC_REFUSE_SUITE);
        handshake.packet[100] ^= 1; // in the payload
        send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
        CU_ASSERT_EQUAL(answer(bytes, sizeof(bytes)), 0);
        CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_INIT_CHECK), 1);
    }
    CU_ASSERT_EQUAL(sessions_open(), 0);
    close_rig();
}

static void handshakes_of_one_address_have_a_budget(void)
{
    struct torc_handshake handshake;

    open_rig();
    get_cookie(&handshake, 5000, 1, 1);
    for (uint32_t i = 0; i < 200; i++) {
        send_bytes(5000, handshake.packet, TORC_INIT_BYTES);
    }
    torc_rig_settle(rig, 50);
    CU_ASSERT(torc_rig_drops(rig, TORC_DROP_INIT_BUDGET) >= 140);
    CU_ASSERT_EQUAL(sessions_open(), 1);
    close_rig();
}

// Once, all of a network of 65 536 addresses shared one.
static void neighbours_have_budgets_of_their_own(void)
{
    struct torc_rig_client client;
    uint8_t address[4] = {10, 79, 0, 0};
    uint8_t ip[16];

    open_rig();
    for (uint32_t i = 0; i < 400; i++) {
        address[2] = (uint8_t)(1 + i / 200);
        address[3] = (uint8_t)(1 + i % 200);
        torc_ip_map(ip, address);
        torc_rig_connect_from(rig, &client, ip, 5000); // ends the test when it gets no session
    }
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_INIT_BUDGET), 0);
    CU_ASSERT_EQUAL(sessions_open(), 400);
    close_rig();
}

// More than there may be half-open, within a second.
static void a_crowd_that_answers_is_let_in(void)
{
    struct torc_rig_client client;
    struct torc_request get = torc_rig_get(1);
    struct torc_reply reply;
    uint8_t address[4] = {10, 79, 0, 0};
    uint8_t ip[16];
    uint64_t begun_ns;

    open_rig_of(8192);
    begun_ns = rig->now_ns;
    for (uint32_t i = 0; i < 2500; i++) {
        address[2] = (uint8_t)(1 + i / 200);
        address[3] = (uint8_t)(1 + i % 200);
        torc_ip_map(ip, address);
        torc_rig_connect_from(rig, &client, ip, 5000);
        torc_rig_call(rig, &client, &get, &reply);
    }
    CU_ASSERT(rig->now_ns - begun_ns < UINT64_C(1000000000));
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_HALF_OPEN_FULL), 0);
    CU_ASSERT_EQUAL(sessions_open(), 2500);
    close_rig();
}

static void lanes_are_slots_in_a_row(void)
{
    struct torc_accept one;
    struct torc_accept four;

    open_rig();
    accept_one(5000, 1, 1, &one);
    accept_one(5001, 2, 4, &four);
    CU_ASSERT_EQUAL(one.lanes, 1);
    CU_ASSERT_EQUAL(four.lanes, 4);
    CU_ASSERT_EQUAL(four.session_index % 4, 0);
    CU_ASSERT_EQUAL(sessions_open(), 5);
    close_rig();
}

static void a_table_that_is_full_refuses_and_evicts_who_is_idle(void)
{
    struct torc_handshake handshake;
    struct torc_accept accept;
    struct torc_refuse refuse;
    struct torc_fail why;
    unsigned char bytes[2048];
    uint32_t byte_count;

    open_rig();
    // 768 slots are for clients: six times 128 lanes fill them.
    for (uint8_t i = 0; i < 6; i++) {
        accept_one((uint16_t)(5000 + i), i, 128, &accept);
        CU_ASSERT_EQUAL_FATAL(accept.lanes, 128);
    }
    get_cookie(&handshake, 6000, 100, 1);
    send_bytes(6000, handshake.packet, TORC_INIT_BYTES);
    byte_count = answer(bytes, sizeof(bytes));
    TORC_TEST_OK(torc_refuse_decode(&refuse, bytes, byte_count, &why), &why);
    CU_ASSERT_EQUAL(refuse.code, TORC_REFUSE_FULL);
    CU_ASSERT(refuse.retry_ms > 0);
    // Nobody has sent anything in them: after 5 s they are free again.
    for (uint32_t i = 0; i < 100; i++) {
        torc_rig_step(rig, SECOND_NS / 10);
    }
    accept_one(6001, 101, 1, &accept);
    CU_ASSERT_EQUAL(accept.lanes, 1);
    close_rig();
}

// -- Ends -----------------------------------------------------------------------------------------

static void an_unused_session_is_dropped_after_five_seconds(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    struct torc_accept accept;

    open_rig();
    torc_assert(client != NULL);
    accept_one(5000, 1, 1, &accept);
    torc_rig_connect(rig, client, 5001);
    (void)torc_rig_put_text(rig, client, 1, "used");
    CU_ASSERT_EQUAL(sessions_open(), 2);
    for (uint32_t i = 0; i < 60; i++) {
        torc_rig_step(rig, SECOND_NS / 10);
    }
    CU_ASSERT_EQUAL(sessions_open(), 1);
    torc_rig_check_text(rig, client, 1, "used");
    // Ten minutes of silence end the other one too.
    for (uint32_t i = 0; i < 640; i++) {
        torc_rig_step(rig, SECOND_NS);
    }
    CU_ASSERT_EQUAL(sessions_open(), 0);
    free(client);
    close_rig();
}

static void a_slot_is_used_anew_with_another_index(void)
{
    struct torc_accept accept;
    bool came_round = false;
    uint32_t index;

    open_rig();
    accept_one(5000, 1, 1, &accept);
    index = accept.session_index;
    for (uint32_t round = 0; round < 80; round++) {
        for (uint32_t i = 0; i < 80; i++) {
            torc_rig_step(rig, SECOND_NS / 10);
        }
        accept_one(5000, (uint8_t)(2 + round), 128, &accept);
        CU_ASSERT_NOT_EQUAL(accept.session_index, index);
        came_round = came_round || ((accept.session_index ^ index) & 0xfffff) == 0;
    }
    CU_ASSERT(came_round);
    close_rig();
}

// Lane l has the index of lane 0 and l, whoever had those slots before.
static void lanes_have_indices_in_a_row_when_slots_come_round(void)
{
    struct torc_accept accept;

    open_rig_of(64);
    accept_one(5000, 1, 1, &accept);
    for (uint32_t i = 0; i < 80; i++) { // it is unused, and gone
        torc_rig_step(rig, SECOND_NS / 10);
    }
    for (uint32_t round = 0; round < 12; round++) { // three quarters are the clients'
        accept_one((uint16_t)(5001 + round), (uint8_t)(2 + round), 4, &accept);
        CU_ASSERT_EQUAL(accept.lanes, 4);
        for (uint32_t lane = 0; lane < 4; lane++) {
            CU_ASSERT_PTR_NOT_NULL(torc_session_find(rig->sessions, accept.session_index + lane));
        }
    }
    close_rig();
}

// Else who comes back late would be taken for who came first, and get no answer at all.
static void a_new_life_has_other_indices(void)
{
    uint32_t indices[60];
    struct torc_accept accept;

    open_rig();
    for (uint32_t life = 0; life < TORC_COUNT_OF(indices); life++) {
        accept_one(5000, (uint8_t)(1 + life), 1, &accept);
        indices[life] = accept.session_index;
        for (uint32_t before = 0; before < life; before++) {
            CU_ASSERT_NOT_EQUAL(indices[before], accept.session_index);
        }
        torc_rig_crash(rig);
        torc_rig_recover(rig);
    }
    close_rig();
}

// -- Data packets ---------------------------------------------------------------------------------

static void packets_without_a_session_get_less_than_they_sent(void)
{
    unsigned char packet[64] = {TORC_WIRE_MAGIC, 0x19};
    unsigned char bytes[2048];
    struct torc_nosession nosession;
    struct torc_fail why;
    uint32_t byte_count;

    open_rig();
    packet[5] = 9; // an index that nobody has
    packet[8] = 77;
    send_bytes(5000, packet, sizeof(packet));
    byte_count = answer(bytes, sizeof(bytes));
    CU_ASSERT_EQUAL(byte_count, TORC_NOSESSION_BYTES);
    TORC_TEST_OK(torc_nosession_decode(&nosession, bytes, byte_count, &why), &why);
    CU_ASSERT_EQUAL(nosession.index, 9u << 8);
    CU_ASSERT_EQUAL(nosession.seq, 77);
    close_rig();
}

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

static void replays_and_forgeries_are_dropped_and_counted(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    unsigned char packet[2048];
    unsigned char reply[2048];
    uint32_t bytes;

    open_rig();
    torc_assert(client != NULL);
    torc_rig_connect(rig, client, 5000);
    bytes = capture(client, packet);
    packet[40] ^= 1;
    send_bytes(5000, packet, bytes);
    CU_ASSERT_EQUAL(answer(reply, sizeof(reply)), 0);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_AUTH), 1);
    packet[40] ^= 1; // the window did not move: the true one still passes, once
    send_bytes(5000, packet, bytes);
    CU_ASSERT(answer(reply, sizeof(reply)) > 0);
    send_bytes(5000, packet, bytes);
    CU_ASSERT_EQUAL(answer(reply, sizeof(reply)), 0);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_REPLAY_DUPLICATE), 1);
    client_ip[15] = 9;
    bytes = capture(client, packet);
    send_bytes(5000, packet, bytes);
    CU_ASSERT_EQUAL(answer(reply, sizeof(reply)), 0);
    CU_ASSERT_EQUAL(torc_rig_drops(rig, TORC_DROP_ADDRESS), 1);
    (void)torc_rig_put_text(rig, client, 1, "lives");
    free(client);
    close_rig();
}

static void a_bad_frame_of_operations_runs_none_of_them(void)
{
    struct torc_rig_client *client = calloc(1, sizeof(*client));
    struct torc_request request;
    struct torc_reply reply;
    struct torc_shed shed;

    open_rig();
    torc_assert(client != NULL);
    torc_rig_connect(rig, client, 5000);
    request = torc_rig_put(rig, client, 1, "no", 2);
    (void)torc_rig_add(client, &request);
    client->packet[TORC_DATA_HEAD_BYTES + client->used_bytes] = TORC_OPCODE_GET;
    client->packet[TORC_DATA_HEAD_BYTES + client->used_bytes + 2] = 7; // length
    memset(client->packet + TORC_DATA_HEAD_BYTES + client->used_bytes + 3, 0, 21);
    client->used_bytes += 24;
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 50));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_SHED);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_BAD_PACKET);
    CU_ASSERT(torc_shed_decode(&reply, &shed));
    torc_rig_check_none(rig, client, 1);
    // An allowance that is too small for any answer.
    client->reply_bytes = 1100;
    request = torc_rig_get(1);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 50));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_SHED);
    free(client);
    close_rig();
}

// -- ARP, neighbour discovery, echo ---------------------------------------------------------------

static const uint8_t their_mac[6] = {2, 0, 0, 0, 0, 2};

static uint32_t exchange(const unsigned char *frame, uint32_t bytes, unsigned char *out,
                         uint32_t room)
{
    rig->out_count = 0; // announcements
    CU_ASSERT_FATAL(torc_rig_send(rig, 0, frame, bytes));
    torc_rig_step(rig, 10000);
    return torc_rig_receive(rig, out, room);
}

static void who_has_is_answered(void)
{
    struct torc_arp arp = {.operation = TORC_ARP_REQUEST};
    unsigned char frame[TORC_ND_FRAME_BYTES];
    unsigned char out[2048];
    struct torc_frame_local them = {.has_ipv4 = 1};
    struct torc_frame parsed;
    uint32_t bytes;

    open_rig();
    memcpy(arp.sender_mac, their_mac, 6);
    memcpy(arp.sender_ip, client_ip + 12, 4);
    memcpy(arp.target_ip, rig->ipv4, 4);
    memcpy(them.mac, their_mac, 6);
    memcpy(them.ipv4, client_ip + 12, 4);
    bytes = exchange(frame, torc_arp_write(frame, &arp, 0), out, sizeof(out));
    CU_ASSERT_FATAL(bytes > 0);
    CU_ASSERT_EQUAL_FATAL(torc_frame_parse(&parsed, &them, out, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL_FATAL(torc_arp_decode(&arp, &parsed), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(arp.operation, TORC_ARP_REPLY);
    CU_ASSERT_EQUAL(memcmp(arp.sender_mac, rig->port.mac, 6), 0);
    // Of another address.
    arp = (struct torc_arp){.operation = TORC_ARP_REQUEST};
    memcpy(arp.sender_mac, their_mac, 6);
    memcpy(arp.sender_ip, client_ip + 12, 4);
    memcpy(arp.target_ip, rig->ipv4, 4);
    arp.target_ip[3]++;
    CU_ASSERT_EQUAL(exchange(frame, torc_arp_write(frame, &arp, 0), out, sizeof(out)), 0);
    close_rig();
}

static void a_solicitation_is_answered(void)
{
    struct torc_nd nd = {.kind = TORC_ND_SOLICIT, .has_mac = true};
    struct torc_nd_way way = {0};
    unsigned char frame[TORC_ND_FRAME_BYTES];
    unsigned char out[2048];
    struct torc_frame_local them = {.has_ipv6 = 1};
    struct torc_frame parsed;
    uint32_t bytes;

    open_rig();
    memcpy(nd.mac, their_mac, 6);
    memcpy(nd.target, rig->ipv6, 16);
    memcpy(way.source_mac, their_mac, 6);
    memcpy(way.source_ip, rig->ipv6, 16);
    way.source_ip[15] = 1;
    torc_nd_group(rig->ipv6, way.destination_ip, way.destination_mac);
    memcpy(them.mac, their_mac, 6);
    memcpy(them.ipv6, way.source_ip, 16);
    bytes = exchange(frame, torc_nd_write(frame, &nd, &way), out, sizeof(out));
    CU_ASSERT_FATAL(bytes > 0);
    CU_ASSERT_EQUAL_FATAL(torc_frame_parse(&parsed, &them, out, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL_FATAL(torc_nd_decode(&nd, &parsed), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(nd.kind, TORC_ND_ADVERTISE);
    CU_ASSERT_EQUAL(memcmp(nd.mac, rig->port.mac, 6), 0);
    close_rig();
}

static void addresses_are_announced_when_serving_begins(void)
{
    unsigned char out[2048];
    uint32_t arp = 0;
    uint32_t nd = 0;

    open_rig(); // the frames of its start are still in the pipe
    while (torc_rig_receive(rig, out, sizeof(out)) > 0) {
        arp += out[12] == 0x08 && out[13] == 0x06 ? 1 : 0;
        nd += out[12] == 0x86 && out[13] == 0xdd && out[54] == TORC_ND_ADVERTISE ? 1 : 0;
    }
    CU_ASSERT_EQUAL(arp, 1);
    CU_ASSERT_EQUAL(nd, 1);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a repeated INIT gets the same ACCEPT and no second session",
         a_repeated_init_gets_the_same_accept_and_no_second_session},
        {"a cookie is good for its address and half a minute",
         a_cookie_is_good_for_its_address_and_half_a_minute},
        {"other suites are refused by name", other_suites_are_refused_by_name},
        {"handshakes of one address have a budget", handshakes_of_one_address_have_a_budget},
        {"a crowd that answers is let in", a_crowd_that_answers_is_let_in},
        {"neighbours have budgets of their own", neighbours_have_budgets_of_their_own},
        {"lanes are slots in a row", lanes_are_slots_in_a_row},
        {"a table that is full refuses and evicts who is idle",
         a_table_that_is_full_refuses_and_evicts_who_is_idle},
        {"an unused session is dropped after five seconds",
         an_unused_session_is_dropped_after_five_seconds},
        {"a slot is used anew with another index", a_slot_is_used_anew_with_another_index},
        {"lanes have indices in a row when slots come round",
         lanes_have_indices_in_a_row_when_slots_come_round},
        {"a new life has other indices", a_new_life_has_other_indices},
        {"packets without a session get less than they sent",
         packets_without_a_session_get_less_than_they_sent},
        {"replays and forgeries are dropped and counted",
         replays_and_forgeries_are_dropped_and_counted},
        {"a bad frame of operations runs none of them",
         a_bad_frame_of_operations_runs_none_of_them},
        {"who has is answered", who_has_is_answered},
        {"a solicitation is answered", a_solicitation_is_answered},
        {"addresses are announced when serving begins",
         addresses_are_announced_when_serving_begins},
        CU_TEST_INFO_NULL,
    };
    int failed;

    failed = torc_test_run("sessions, clear", tests);
    sealed = true;
    return torc_test_run("sessions, sealed", tests) | failed;
}
