// Torc tests: a simulated network; see client_net.h.
#include "tests/client_net.h"

#include "client/engine_state.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define PAYLOAD_BYTES TORC_ENGINE_PAYLOAD_MAX
#define HEADERS_BYTES 28u // IPv4 and UDP
#define POOL_BYTES    (UINT64_C(16) << 20)
#define POOL_SMALL    (UINT64_C(2) << 20) // where there are many clients
#define CLIENTS_FEW   4u
#define ADDRESS_HOSTS 48u // clients at one address: a node bounds the handshakes of each
#define FIRST_PORT    5000u
#define OPERATIONS    64u
#define AWAIT_STEP_NS UINT64_C(20000)
#define AWAIT_STEPS   5000u
#define DRAIN_STEP_NS UINT64_C(50000)
#define LARGE_BYTES   1000u

static void client_ip(uint8_t ip[16], uint32_t client)
{
    uint8_t ipv4[4] = {10, 79, (uint8_t)(client / ADDRESS_HOSTS), 1};

    torc_ip_map(ip, ipv4);
}

static uint64_t net_now_ns(const struct torc_net *net)
{
    return net->rig->now_ns + net->ahead_ns;
}

static uint64_t net_wall_us(const struct torc_net *net)
{
    return net->rig->wall_us + net->ahead_ns / 1000;
}

struct torc_client_key torc_net_key(const struct torc_rig *rig)
{
    struct torc_client_key key = {.cluster = rig->controls[0].cluster,
                                  .principal = TORC_RIG_PRINCIPAL,
                                  .name = "rig",
                                  .psk = {.id = TORC_RIG_KEY_ID}};

    memcpy(key.psk.bytes, torc_rig_psk, sizeof(key.psk.bytes));
    return key;
}

static struct torc_engine *net_engine(struct torc_net *net, const struct torc_client_key *key)
{
    uint64_t pool_bytes = net->config.clients <= CLIENTS_FEW ? POOL_BYTES : POOL_SMALL;
    struct torc_engine_config config = {
        .client_id = torc_rng_next(&net->rng) & ~UINT64_C(0xff),
        .seed = torc_rng_next(&net->rng),
        .pool_bytes = net->config.pool_bytes != 0 ? net->config.pool_bytes : pool_bytes,
        .operations = net->config.operations,
        .nodes = net->config.nodes != 0 ? net->config.nodes : 64,
        .one_node = net->config.one_node,
        .payload_bytes = (net->rig->config.mtu - HEADERS_BYTES) & ~7u,
        .read_rto_us = 1000,
        .key = *key,
        .aead = net->rig->config.aead};
    struct torc_endpoint place = {.port = TORC_RIG_BASE_PORT};
    uint64_t bytes = (torc_engine_bytes(&config) + 4095) & ~UINT64_C(4095);
    void *memory = aligned_alloc(4096, bytes);
    struct torc_engine *engine;

    torc_assert(memory != NULL);
    memset(memory, 0, bytes);
    for (uint32_t i = 0; i < sizeof(config.secret); i++) {
        config.secret[i] = (uint8_t)torc_rng_next(&net->rng);
    }
    engine = torc_engine_init(memory, &config, net_now_ns(net), net_wall_us(net));
    torc_ip_map(place.address, net->rig->ipv4);
    torc_assert(torc_engine_seed(engine, &place, NULL) == TORC_ERR_OK);
    return engine;
}

static void net_open(struct torc_net *net, struct torc_rig *rig,
                     const struct torc_net_config *config, const struct torc_client_key *key)
{
    torc_assert(config->clients <= TORC_NET_CLIENTS_MAX);
    memset(net, 0, sizeof(*net));
    net->rig = rig;
    net->config = *config;
    net->rng.state = config->seed;
    net->flight = calloc(TORC_NET_FLIGHT_MAX, sizeof(*net->flight));
    torc_assert(net->flight != NULL);
    net->client_count = config->clients;
    for (uint32_t i = 0; i < config->clients; i++) {
        net->clients[i] = net_engine(net, key);
    }
}

void torc_net_open_config(struct torc_net *net, struct torc_rig *rig,
                          const struct torc_net_config *config)
{
    struct torc_client_key key = {.principal = 0};

    if (rig->config.sealed) {
        key = torc_net_key(rig);
    }
    net_open(net, rig, config, &key);
}

void torc_net_open(struct torc_net *net, struct torc_rig *rig, uint32_t client_count, uint64_t seed,
                   uint32_t operations)
{
    struct torc_net_config config = {
        .clients = client_count, .seed = seed, .operations = operations};

    torc_net_open_config(net, rig, &config);
}

void torc_net_open_with(struct torc_net *net, struct torc_rig *rig, uint64_t seed,
                        const struct torc_client_key *key)
{
    struct torc_net_config config = {.clients = 1, .seed = seed, .operations = OPERATIONS};

    net_open(net, rig, &config, key);
}

// ---- On the wire

static void wire_put(struct torc_net *net, const struct torc_net_packet *packet,
                     const uint8_t *bytes, uint64_t delay_ns)
{
    struct torc_net_packet *place;

    if (net->flight_count == TORC_NET_FLIGHT_MAX) {
        net->lost++;
        return;
    }
    place = &net->flight[net->flight_count++];
    *place = *packet;
    place->at_ns = net_now_ns(net) + delay_ns;
    place->bytes = malloc(packet->byte_count + 1);
    torc_assert(place->bytes != NULL);
    memcpy(place->bytes, bytes, packet->byte_count);
}

static uint64_t wire_delay(struct torc_net *net)
{
    uint64_t delay_ns =
        net->faults.delay_max_ns == 0 ? 0 : torc_rng_below(&net->rng, net->faults.delay_max_ns);

    return delay_ns + (torc_rng_chance(&net->rng, net->faults.late_ppm) ? net->faults.late_ns : 0);
}

void torc_net_inject(struct torc_net *net, const struct torc_net_packet *packet,
                     const uint8_t *bytes)
{
    wire_put(net, packet, bytes, 0);
}

static void wire_send(struct torc_net *net, struct torc_net_packet *packet, uint8_t *bytes)
{
    uint32_t copies = torc_rng_chance(&net->rng, net->faults.double_ppm) ? 2 : 1;

    net->sent++;
    if (net->tamper != NULL && !net->tamper(net, packet, bytes)) {
        return;
    }
    if (net->cut || torc_rng_chance(&net->rng, net->faults.loss_ppm)) {
        net->lost++;
        return;
    }
    if (torc_rng_chance(&net->rng, net->faults.damage_ppm)) {
        bytes[torc_rng_below(&net->rng, packet->byte_count)] ^=
            (uint8_t)(1u << torc_rng_below(&net->rng, 8));
    }
    for (uint32_t i = 0; i < copies; i++) {
        wire_put(net, packet, bytes, wire_delay(net));
    }
}

// False: nobody is there, or has room.
static bool deliver_to_node(struct torc_net *net, const struct torc_net_packet *packet)
{
    struct torc_rig_udp udp = {.client_port = (uint16_t)(FIRST_PORT + packet->client),
                               .node_port = packet->node_port,
                               .payload = packet->bytes,
                               .payload_bytes = packet->byte_count};
    bool full = net->config.rx_ring != 0 && net->rig->in_count >= net->config.rx_ring;

    client_ip(udp.client_ip, packet->client);
    return !net->rig->up || (!full && torc_rig_send_udp(net->rig, &udp));
}

static void deliver(struct torc_net *net, struct torc_net_packet *packet)
{
    if (packet->to_node) {
        net->lost += deliver_to_node(net, packet) ? 0 : 1;
    } else {
        struct torc_endpoint from = {.port = packet->node_port};

        torc_ip_map(from.address, net->rig->ipv4);
        torc_engine_receive(net->clients[packet->client], &from, packet->bytes, packet->byte_count);
        if (net->opened != NULL) {
            net->opened(net, packet);
        }
    }
    free(packet->bytes);
}

// In the order of sending, where delays do not say otherwise.
static void deliver_due(struct torc_net *net)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < net->flight_count; i++) {
        if (net->flight[i].at_ns > net_now_ns(net)) {
            net->flight[kept++] = net->flight[i];
        } else {
            deliver(net, &net->flight[i]);
        }
    }
    net->flight_count = kept;
}

// ---- Turns

// Large, and no probe of the path: a piece of a value.
static bool is_piece(const struct torc_engine *engine, const struct torc_datagram *datagram)
{
    const struct torc_client_node *node = &engine->nodes[0];
    struct torc_packet_name name = {.core = torc_data_peek_core(datagram->payload),
                                    .session = node->session};
    struct torc_le64 seq;
    uint32_t index;

    if (datagram->bytes <= LARGE_BYTES) {
        return false;
    }
    memcpy(&seq, datagram->payload + 8, sizeof(seq));
    name.seq = torc_get_le64(seq);
    index = torc_packet_find(engine, node, &name);
    return index != TORC_OP_NONE && !engine->packets[index].is_probe;
}

static void client_turn(struct torc_net *net, uint32_t client)
{
    uint8_t payload[PAYLOAD_BYTES];
    struct torc_datagram datagram = {.payload = payload};

    while (torc_engine_transmit(net->clients[client], &datagram)) {
        struct torc_net_packet packet = {.to_node = true,
                                         .client = client,
                                         .node_port = datagram.to.port,
                                         .byte_count = datagram.bytes};

        memcpy(packet.node_ip, datagram.to.address, sizeof(packet.node_ip));
        torc_assert(datagram.bytes <= PAYLOAD_BYTES);
        net->sent_large += is_piece(net->clients[client], &datagram) ? 1 : 0;
        wire_send(net, &packet, payload);
    }
}

void torc_net_node_sends(struct torc_net *net)
{
    struct torc_rig_udp udp;

    while (torc_rig_receive_udp(net->rig, &udp)) {
        uint8_t bytes[TORC_RIG_FRAME_BYTES];
        struct torc_net_packet packet = {.client = udp.client_port - FIRST_PORT,
                                         .node_port = udp.node_port,
                                         .byte_count = udp.payload_bytes};

        if (packet.client < net->client_count) {
            memcpy(bytes, udp.payload, udp.payload_bytes);
            wire_send(net, &packet, bytes);
        }
    }
}

// Packets that come meanwhile wait in front of it.
static bool node_sleeps(struct torc_net *net)
{
    const struct torc_net_faults *faults = &net->faults;
    uint64_t now_ns = net->rig->now_ns;

    if (faults->sleep_every_ns == 0) {
        return false;
    }
    if (now_ns >= net->wakes_until_ns) {
        net->sleeps_until_ns = now_ns + torc_rng_below(&net->rng, faults->sleep_max_ns + 1);
        net->wakes_until_ns =
            net->sleeps_until_ns + torc_rng_below(&net->rng, 2 * faults->sleep_every_ns);
    }
    return now_ns < net->sleeps_until_ns;
}

void torc_net_clients_turn(struct torc_net *net)
{
    for (uint32_t i = 0; i < net->client_count; i++) {
        torc_engine_time(net->clients[i], net_now_ns(net), net_wall_us(net));
    }
    deliver_due(net);
    for (uint32_t i = 0; i < net->client_count; i++) {
        torc_engine_clock(net->clients[i], net_now_ns(net), net_wall_us(net));
    }
    for (uint32_t i = 0; i < net->client_count; i++) {
        client_turn(net, i);
    }
}

void torc_net_step(struct torc_net *net, uint64_t advance_ns)
{
    torc_net_clients_turn(net);
    if (net->rig->up && !node_sleeps(net)) {
        torc_rig_step(net->rig, advance_ns);
        torc_net_node_sends(net);
    } else {
        net->rig->now_ns += advance_ns;
        net->rig->wall_us += advance_ns / 1000;
    }
}

void torc_net_await(struct torc_net *net)
{
    for (uint32_t i = 0; i < AWAIT_STEPS && !torc_engine_ready(net->clients[0]); i++) {
        torc_net_step(net, AWAIT_STEP_NS);
    }
    CU_ASSERT_FATAL(torc_engine_ready(net->clients[0]));
}

void torc_net_drain(struct torc_net *net)
{
    uint32_t quiet = 0;

    while (quiet < 16) {
        bool busy = net->flight_count > 0 || (net->rig->up && net->rig->more);

        for (uint32_t i = 0; i < net->client_count; i++) {
            busy |= torc_engine_pending(net->clients[i]) > 0;
        }
        quiet = busy ? 0 : quiet + 1;
        torc_net_step(net, DRAIN_STEP_NS);
    }
}

void torc_net_close(struct torc_net *net)
{
    for (uint32_t i = 0; i < net->flight_count; i++) {
        free(net->flight[i].bytes);
    }
    free(net->flight);
    for (uint32_t i = 0; i < net->client_count; i++) {
        free(net->clients[i]);
    }
}
