// Torc tests: sequences of frames, good, damaged and out of place, into a node that serves: nothing
// crashes, no assertion fails, an address that proved nothing never gets more bytes than it sent
// (W1), and a good client still works afterwards. Somebody else knocks: handshakes with a key, a
// wrong one or none, whose packets are edited, repeated and left lying. The node lives over many
// inputs, so that an input meets sessions, cursors, values in pieces and pending writes that
// earlier ones left.
#include "tests/fuzz/mutate.h"
#include "tests/rig.h"
#include "wire/data.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __lsan_is_turned_off(void);

// libFuzzer looks for leaks after each input that allocated more than it freed; here the node's
// disk grows with nearly every one.
int __lsan_is_turned_off(void)
{
    return 1;
}

enum {
    KEYS = 1000,
    ACTIONS_MAX = 6,
    LIFE_INPUTS = 4096, // then the node crashes and recovers what it wrote
    LIVES = 8,          // then its disk is emptied
    CHECK_INPUTS = 256,
    STRANGER_PORT = 666,
    KNOCK_PORT = 667,
    SLOTS = 4096, // more than knocks fill
    VALUE_BYTES = 1200
};

struct fuzz_node {
    struct torc_rig rig;
    struct torc_rig_client good;
    struct torc_rig_client client; // whose packets are damaged
    uint64_t inputs;
    uint64_t stranger_in; // bytes of UDP payload
    uint64_t stranger_out;
    struct torc_handshake knock;  // of somebody at another address
    struct torc_rig_client guest; // that was let in
    bool knocking;
    uint8_t value[VALUE_BYTES];
};

static struct fuzz_node *node;

static void fuzz_connect(void)
{
    torc_rig_connect(&node->rig, &node->good, 5000);
    torc_rig_connect(&node->rig, &node->client, 5001);
    // A session that nothing was sent in is dropped after a while.
    (void)torc_rig_put_text(&node->rig, &node->good, 1, "still here");
}

static void fuzz_open(void)
{
    struct torc_rig_config config = {
        .workers = 2, .shards = 4, .key_count = KEYS, .seed = 1, .chunks = 32, .sealed = true};

    config.session_slots = SLOTS;
    node = calloc(1, sizeof(*node));
    torc_assert(node != NULL);
    torc_rig_open(&node->rig, &config);
    fuzz_connect();
}

static void fuzz_restart(void)
{
    torc_rig_crash(&node->rig);
    // Each life in the other mode.
    node->rig.config.sealed = !node->rig.config.sealed;
    for (uint32_t i = 0; i < 2; i++) {
        node->rig.controls[i].security =
            node->rig.config.sealed ? TORC_SECURITY_KEYS : TORC_SECURITY_CLEAR;
    }
    for (uint32_t i = 0; i < 2 && node->inputs % ((uint64_t)LIVES * LIFE_INPUTS) == 0; i++) {
        torc_fake_control_cut(&node->rig.controls[i], 0);
    }
    torc_rig_recover(&node->rig);
    fuzz_connect();
}

static struct torc_handshake_entropy fuzz_entropy(struct torc_rng *rng)
{
    struct torc_handshake_entropy entropy;

    for (uint32_t i = 0; i < TORC_RANDOM_BYTES; i++) {
        entropy.random[i] = (uint8_t)torc_rng_next(rng);
    }
    for (uint32_t i = 0; i < sizeof(entropy.secret); i++) {
        entropy.secret[i] = (uint8_t)torc_rng_next(rng);
    }
    return entropy;
}

static void fuzz_knock_answer(const struct torc_rig_udp *udp)
{
    struct torc_handshake_entropy entropy = fuzz_entropy(&node->rig.rng);
    struct torc_accept accept;

    if (!node->knocking || torc_handshake_receive(&node->knock, udp->payload, udp->payload_bytes,
                                                  &entropy, &accept) != TORC_HANDSHAKE_ACCEPTED) {
        return;
    }
    node->knocking = false;
    memcpy(node->guest.ip, udp->client_ip, sizeof(node->guest.ip));
    node->guest.port = KNOCK_PORT;
    node->guest.reply_bytes = TORC_PAYLOAD_MIN;
    node->guest.reply_packets = 1;
    torc_lane_init(&node->guest.lane, &accept, node->knock.init.client_index, 0,
                   node->knock.has_psk ? &node->knock.keys : NULL, node->rig.config.aead);
    // Half of the sessions stay half-open, for 5 s.
    if (torc_rng_chance(&node->rig.rng, 500000)) {
        struct torc_request request = {.opcode = torc_rng_chance(&node->rig.rng, 500000)
                                                     ? TORC_OPCODE_PING
                                                     : TORC_OPCODE_CLOSE};

        (void)torc_rig_add(&node->guest, &request);
        node->stranger_in += torc_rig_flush(&node->rig, &node->guest, 0);
    }
}

// Counts what those got that proved nothing; all else is thrown away.
static void fuzz_drain(void)
{
    struct torc_rig_udp udp;

    while (torc_rig_receive_udp(&node->rig, &udp)) {
        if (udp.client_port == STRANGER_PORT || udp.client_port == KNOCK_PORT) {
            node->stranger_out += udp.payload_bytes;
        }
        if (udp.client_port == KNOCK_PORT) {
            fuzz_knock_answer(&udp);
        }
    }
    torc_assert(node->stranger_out <= node->stranger_in);
}

static void fuzz_step(struct torc_rng *rng)
{
    torc_rig_step(&node->rig,
                  torc_rng_chance(rng, 20000) ? UINT64_C(3000000000) : torc_rng_below(rng, 100000));
    fuzz_drain();
}

// -- Requests -------------------------------------------------------------------------------------

static uint64_t fuzz_number(struct torc_rng *rng)
{
    static const uint64_t odd[] = {0, 1, KEYS - 1, KEYS, KEYS + 1, UINT32_MAX, UINT64_MAX};

    return torc_rng_chance(rng, 200000) ? odd[torc_rng_below(rng, 7)] : torc_rng_below(rng, KEYS);
}

static void fuzz_write(struct torc_rng *rng, struct torc_request *request)
{
    struct torc_request plain =
        torc_rig_put(&node->rig, &node->client, torc_rng_below(rng, KEYS), node->value,
                     (uint32_t)torc_rng_below(rng, VALUE_BYTES / 4));

    plain.opcode = request->opcode;
    plain.flags = request->flags;
    plain.version = fuzz_number(rng);
    plain.wseq = torc_rng_chance(rng, 200000) ? 1 + torc_rng_below(rng, plain.wseq) : plain.wseq;
    plain.lowest = 1 + torc_rng_below(rng, plain.wseq);
    plain.lowest = plain.wseq - plain.lowest > 50 ? plain.wseq - 50 : plain.lowest;
    plain.data_bytes = plain.opcode == TORC_OPCODE_DELETE ? 0 : plain.data_bytes;
    if ((plain.flags & TORC_WRITE_FRAGMENTED) != 0) {
        plain.fragment_bytes = 8 * (1 + (uint32_t)torc_rng_below(rng, 100));
        plain.total_bytes = 1 + (uint32_t)torc_rng_below(rng, 20000);
        plain.data_bytes =
            plain.total_bytes < plain.fragment_bytes ? plain.total_bytes : plain.fragment_bytes;
    }
    *request = plain;
}

static void fuzz_range(struct torc_rng *rng, struct torc_request *request)
{
    request->lo = fuzz_number(rng);
    request->hi = fuzz_number(rng);
    request->limit = torc_rng_below(rng, 4);
    request->credit = (uint32_t)fuzz_number(rng);
    request->ts = torc_rng_chance(rng, 900000) ? 0 : fuzz_number(rng);
}

static uint8_t fuzz_write_flags(struct torc_rng *rng, uint8_t opcode)
{
    static const uint8_t flags[] = {0, TORC_WRITE_IF_PRESENT, TORC_WRITE_IF_VERSION,
                                    TORC_WRITE_IF_ABSENT, TORC_WRITE_FRAGMENTED};

    return (uint8_t)(flags[torc_rng_below(rng, opcode == TORC_OPCODE_DELETE ? 3 : 5)] |
                     (torc_rng_chance(rng, 300000) ? TORC_WRITE_RETURN_CURRENT : 0));
}

static void fuzz_request(struct torc_rng *rng, struct torc_request *request)
{
    static const uint8_t opcodes[] = {
        TORC_OPCODE_NOP,          TORC_OPCODE_PING,       TORC_OPCODE_CANCEL,
        TORC_OPCODE_COOKIE,       TORC_OPCODE_STATUS,     TORC_OPCODE_MAP,
        TORC_OPCODE_CLOCK,        TORC_OPCODE_PULL,       TORC_OPCODE_FRAG,
        TORC_OPCODE_FRAG_QUERY,   TORC_OPCODE_GET,        TORC_OPCODE_GET,
        TORC_OPCODE_PUT,          TORC_OPCODE_PUT,        TORC_OPCODE_PUT,
        TORC_OPCODE_DELETE,       TORC_OPCODE_RANGE_READ, TORC_OPCODE_RANGE_OPEN,
        TORC_OPCODE_RANGE_CREDIT, TORC_OPCODE_RANGE_CLOSE};

    *request = (struct torc_request){.opcode = opcodes[torc_rng_below(rng, sizeof(opcodes))],
                                     .op_id = (uint32_t)torc_rng_below(rng, 40),
                                     .budget_us = torc_rng_chance(rng, 800000) ? 0 : 100000,
                                     .key = fuzz_number(rng),
                                     .epoch = (uint32_t)torc_rng_below(rng, 3),
                                     .data = node->value};
    if (request->opcode == TORC_OPCODE_PUT || request->opcode == TORC_OPCODE_DELETE) {
        request->flags = fuzz_write_flags(rng, request->opcode);
        fuzz_write(rng, request);
        request->op_id = (uint32_t)torc_rng_below(rng, 40);
    } else if (request->opcode == TORC_OPCODE_FRAG) {
        request->fragment = (uint32_t)torc_rng_below(rng, 20);
        request->data_bytes = 8 * (1 + (uint32_t)torc_rng_below(rng, 100));
    } else if (request->opcode == TORC_OPCODE_PULL) {
        request->version = fuzz_number(rng);
        request->fragment_bytes = 1024;
        request->bitmap = 1 + fuzz_number(rng) / 2;
    } else if (request->opcode == TORC_OPCODE_GET) {
        request->flags = (uint8_t)torc_rng_below(rng, 8);
        request->max_age_ms = request->epoch;
    } else {
        request->data_bytes =
            request->opcode == TORC_OPCODE_PING ? (uint32_t)torc_rng_below(rng, 600) : 0;
        fuzz_range(rng, request);
        request->flags =
            request->opcode == TORC_OPCODE_RANGE_READ || request->opcode == TORC_OPCODE_RANGE_OPEN
                ? (uint8_t)torc_rng_below(rng, 32)
                : 0;
    }
}

// -- Actions --------------------------------------------------------------------------------------

// Good operations in a good packet, with any allowance; perhaps damaged before it is sealed.
static void fuzz_packet(struct torc_rng *rng)
{
    struct torc_rig_client *client = &node->client;
    uint32_t count = 1 + (uint32_t)torc_rng_below(rng, 6);

    for (uint32_t i = 0; i < count && client->used_bytes < 900; i++) {
        struct torc_request request;

        fuzz_request(rng, &request);
        if (client->used_bytes + torc_op_padded(torc_request_bytes(&request)) < 1400) {
            (void)torc_rig_add(client, &request);
        }
    }
    if (client->used_bytes < 16) {
        client->used_bytes = 0;
        return;
    }
    if (torc_rng_chance(rng, 300000)) {
        torc_fuzz_edit(rng, client->packet + TORC_DATA_HEAD_BYTES, client->used_bytes);
    }
    client->reply_packets = (uint16_t)(torc_rng_chance(rng, 500000) ? 1 : torc_rng_below(rng, 20));
    client->reply_bytes =
        (uint16_t)(torc_rng_chance(rng, 500000) ? 1452 : torc_rng_below(rng, 9000));
    client->hlc = torc_rng_chance(rng, 50000) ? torc_rng_next(rng) : 0;
    (void)torc_rig_flush(&node->rig, client, (uint32_t)torc_rng_below(rng, 2));
}

// The same packet again, a damaged one, or another address's.
static void fuzz_again(struct torc_rng *rng)
{
    uint8_t payload[TORC_PAYLOAD_MAX];
    uint32_t bytes = torc_fuzz_cut(rng, 64 + (uint32_t)torc_rng_below(rng, 200));
    struct torc_rig_udp udp = {.client_port =
                                   torc_rng_chance(rng, 500000) ? STRANGER_PORT : node->client.port,
                               .node_port = (uint16_t)(TORC_RIG_BASE_PORT + torc_rng_below(rng, 3)),
                               .payload = payload,
                               .payload_bytes = bytes};

    memcpy(payload, node->client.packet, bytes);
    torc_fuzz_edit(rng, payload, bytes);
    memcpy(udp.client_ip, node->client.ip, sizeof(udp.client_ip));
    node->stranger_in += udp.client_port == STRANGER_PORT ? bytes : 0;
    (void)torc_rig_send_udp(&node->rig, &udp);
}

static void fuzz_hello(struct torc_rng *rng)
{
    uint8_t payload[TORC_INIT_BYTES] = {TORC_WIRE_MAGIC, 0x10};
    uint32_t bytes = torc_fuzz_cut(rng, TORC_INIT_BYTES);
    struct torc_rig_udp udp = {.client_port = STRANGER_PORT,
                               .node_port = TORC_RIG_BASE_PORT,
                               .payload = payload,
                               .payload_bytes = bytes};

    payload[5] = 1; // length 256
    payload[6] = 2; // version 1
    payload[8] = (uint8_t)torc_rng_next(rng);
    memset(payload + 24, 0xff, 4);
    payload[33] = torc_rng_chance(rng, 500000) ? TORC_SUITE_CLEAR : TORC_SUITES_SEALED;
    payload[34] = 1;
    payload[35] = TORC_PATTERN_NNPSK0;
    torc_fuzz_edit(rng, payload, bytes);
    memcpy(udp.client_ip, node->client.ip, sizeof(udp.client_ip));
    if (torc_rng_chance(rng, 300000)) {
        udp.client_ip[15] = (uint8_t)torc_rng_next(rng);
    }
    node->stranger_in += bytes;
    (void)torc_rig_send_udp(&node->rig, &udp);
}

static void fuzz_knock_begin(struct torc_rng *rng)
{
    static const uint8_t wrong[TORC_NOISE_KEY_BYTES] = {1};
    struct torc_handshake_entropy entropy = fuzz_entropy(rng);
    struct torc_handshake_offer offer = {.client_id = torc_rng_next(rng) & ~UINT64_C(0xff),
                                         .client_index = (uint32_t)torc_rng_next(rng),
                                         .node = TORC_NODE_UNKNOWN,
                                         .payload_max = TORC_PAYLOAD_MAX,
                                         .lanes = (uint8_t)(1u << torc_rng_below(rng, 3)),
                                         .agent = "knock"};

    if (torc_rng_chance(rng, node->rig.config.sealed ? 900000 : 100000)) {
        offer.psk = torc_rng_chance(rng, 900000) ? torc_rig_psk : wrong;
        offer.principal = TORC_RIG_PRINCIPAL + (torc_rng_chance(rng, 50000) ? 1 : 0);
        offer.key_id = TORC_RIG_KEY_ID;
        offer.suites =
            torc_rng_chance(rng, 800000) ? TORC_SUITES_SEALED : TORC_SUITE_CHACHA20_POLY1305;
    }
    if (torc_rng_chance(rng, 300000)) {
        offer.node = node->good.accept.node;
        offer.cluster = node->good.accept.cluster;
        offer.cookie = node->good.accept.ticket; // another address's: it is worth nothing
    }
    torc_handshake_init(&node->knock, &offer, &entropy);
    node->knocking = true;
}

// A handshake's next packet, or the same again; now and then edited or cut.
static void fuzz_knock(struct torc_rng *rng)
{
    uint8_t payload[TORC_INIT_BYTES];
    struct torc_rig_udp udp = {.client_port = KNOCK_PORT,
                               .node_port = TORC_RIG_BASE_PORT,
                               .payload = payload,
                               .payload_bytes = TORC_INIT_BYTES};

    if (!node->knocking || torc_rng_chance(rng, 100000)) {
        fuzz_knock_begin(rng);
    }
    memcpy(payload, node->knock.packet, sizeof(payload));
    if (torc_rng_chance(rng, 200000)) {
        torc_fuzz_edit(rng, payload, sizeof(payload));
        udp.payload_bytes = torc_fuzz_cut(rng, sizeof(payload));
    }
    memcpy(udp.client_ip, node->client.ip, sizeof(udp.client_ip));
    udp.client_ip[15] = 77; // handshakes of one address have a budget, which is not the others'
    node->stranger_in += udp.payload_bytes;
    (void)torc_rig_send_udp(&node->rig, &udp);
}

// The input itself as a frame for our Ethernet address.
static void fuzz_frame(const uint8_t *data, size_t size)
{
    uint8_t frame[TORC_RIG_FRAME_BYTES] = {0};
    uint32_t bytes = (uint32_t)(size < 1500 ? size : 1500);

    memcpy(frame, node->rig.port.mac, 6);
    frame[6] = 2;
    frame[12] = 0x08;
    memcpy(frame + TORC_ETHER_BYTES, data, bytes);
    (void)torc_rig_send(&node->rig, 0, frame, TORC_ETHER_BYTES + bytes);
}

static void fuzz_fault(struct torc_rng *rng)
{
    struct torc_fake_control *control = &node->rig.controls[torc_rng_below(rng, 2)];

    switch (torc_rng_below(rng, 3)) {
    case 0: control->disk_stuck = !control->disk_stuck; break;
    case 1: control->disk_full = !control->disk_full; break;
    default:
        if (!control->away && control->shards[0].core == control->index) {
            torc_fake_control_order(control, TORC_CMD_CONTROL_HELLO);
        }
        break;
    }
}

static void fuzz_act(struct torc_rng *rng, const uint8_t *data, size_t size)
{
    uint64_t action = torc_rng_below(rng, 100);

    if (action < 54) {
        fuzz_packet(rng);
    } else if (action < 60) {
        fuzz_knock(rng);
    } else if (action < 75) {
        fuzz_again(rng);
    } else if (action < 85) {
        fuzz_hello(rng);
    } else if (action < 90) {
        fuzz_frame(data, size);
    } else if (action < 92) {
        fuzz_fault(rng);
    }
    if (action % 3 != 0) {
        fuzz_step(rng);
    }
}

static void fuzz_check(void)
{
    for (uint32_t i = 0; i < 2; i++) {
        node->rig.controls[i].disk_stuck = false;
        node->rig.controls[i].disk_full = false;
    }
    torc_rig_settle(&node->rig, 2000);
    fuzz_drain();
    (void)torc_rig_put_text(&node->rig, &node->good, 1, "still here");
    torc_rig_check_text(&node->rig, &node->good, 1, "still here");
    // The other one's session may have been closed by a damaged packet, or its window be full.
    torc_rig_connect(&node->rig, &node->client, 5001);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_rng rng = torc_fuzz_rng(data, size);
    uint32_t actions = 1 + (uint32_t)torc_rng_below(&rng, ACTIONS_MAX);

    if (node == NULL) {
        fuzz_open();
    }
    for (uint32_t i = 0; i < actions; i++) {
        fuzz_act(&rng, data, size);
    }
    if (++node->inputs % CHECK_INPUTS == 0) {
        fuzz_check();
    }
    if (node->inputs % LIFE_INPUTS == 0) {
        fuzz_restart();
    }
    return 0;
}
