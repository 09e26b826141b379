// Torc simulator: the network. See sim.h.
//
// What    a packet goes from one place to another (nodes, then clients): it may be lost, doubled,
//         damaged in one bit, delayed so that later ones overtake it, late by far, met by a cut, or
//         longer than the path takes. To a node it comes as an Ethernet frame, to a client as the
//         payload that its kernel would give it. Frames of a node go where their IP header says, a
//         client or another node.
#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <string.h>

#define IP_UDP_BYTES     28u
#define CLIENT_PORT      5000u
#define CLIENT_HOST      100u // 10.79.0.100 and up
#define NODE_HOST        10u
#define LETTER_BYTES_MAX (2u << 20)    // the largest value, and what is around it
#define LATE_NS          (2 * SIM_MS)  // an oracle forgives what this does
#define PACKET_NS        UINT64_C(400) // of a full one, between two machines

static const uint8_t net_client_mac[6] = {0x02, 0, 0, 0, 1, 0x02};

void sim_net_init(void)
{
    sim->net.mtu = sim->config.mtu;
}

static bool net_chance(uint64_t per_million)
{
    return per_million > 0 && torc_rng_chance(&sim->rng, per_million);
}

static uint64_t net_delay_ns(void)
{
    uint64_t delay_ns = 4 * SIM_US + torc_rng_below(&sim->rng, PACKET_NS);

    if (sim->config.delay_us > 0 && !sim->quiet) {
        delay_ns += torc_rng_below(&sim->rng, sim->config.delay_us * SIM_US);
    }
    if (!sim->quiet && net_chance(sim->config.late_ppm)) {
        // Mostly not so late that nobody cares any more.
        delay_ns += torc_rng_below(
            &sim->rng, (sim->config.late_max_ms * SIM_MS >> torc_rng_below(&sim->rng, 8)) + 1);
        sim_cover(SIM_COVER_NET_LATE);
    }
    return delay_ns;
}

// A copy may come long after, when much has changed.
static uint64_t net_echo_ns(void)
{
    return net_chance(500000) ? torc_rng_below(&sim->rng, SIM_MS << torc_rng_below(&sim->rng, 8))
                              : 0;
}

static void net_put(const struct sim_packet *packet, uint64_t delay_ns)
{
    struct sim_packet *copy = malloc(sizeof(*copy) + packet->byte_count);

    torc_assert(copy != NULL);
    memcpy(copy, packet, sizeof(*copy) + packet->byte_count);
    sim_post(sim->now_ns + delay_ns, SIM_EVENT_PACKET, copy->to, 0, copy);
}

// One bit, of what the checksums are there for: behind the addresses of a frame.
static void net_damage(struct sim_packet *packet)
{
    uint32_t from = packet->to < SIM_NODES_MAX ? 42 : 0;
    uint64_t bit;

    if (packet->byte_count <= from) {
        return;
    }
    bit = torc_rng_below(&sim->rng, (packet->byte_count - from) * UINT64_C(8));
    packet->bytes[from + bit / 8] ^= (uint8_t)(1u << bit % 8);
    sim_cover(SIM_COVER_NET_DAMAGED);
}

// Between nodes: who is not heard may be suspected.
static void net_trouble(const struct sim_packet *packet)
{
    if (packet->boot != 0) {
        sim_calm_path(packet->from, packet->to);
    }
}

static void net_send(struct sim_packet *packet, uint32_t ip_bytes)
{
    uint32_t loss_ppm = sim->quiet ? 0 : sim->config.loss_ppm + sim->net.storm_ppm;
    uint32_t copies = !sim->quiet && net_chance(sim->config.double_ppm) ? 2 : 1;
    uint64_t delay_ns;

    packet->number = sim->net.next_number++;
    if (ip_bytes > sim->net.mtu) {
        sim_cover(SIM_COVER_NET_TOO_LONG);
        return;
    }
    if (sim->net.cut[packet->from][packet->to] ||
        sim->now_ns < sim->net.cut_until_ns[packet->from][packet->to]) {
        sim_cover(SIM_COVER_NET_CUT);
        net_trouble(packet);
        return;
    }
    if (net_chance(loss_ppm)) {
        sim_cover(SIM_COVER_NET_LOST);
        net_trouble(packet);
        return;
    }
    if (copies == 2) {
        sim_cover(SIM_COVER_NET_DOUBLED);
        net_put(packet, net_delay_ns() + net_echo_ns());
    }
    if (packet->boot == 0 && !sim->quiet && net_chance(sim->config.damage_ppm)) {
        net_damage(packet);
    }
    delay_ns = net_delay_ns() + sim->net.slow_ns[packet->from][packet->to];
    if (delay_ns > LATE_NS) {
        net_trouble(packet);
    }
    net_put(packet, delay_ns);
}

// -- Out ------------------------------------------------------------------------------------------

static uint32_t net_place(const uint8_t ip[16])
{
    uint32_t host = ip[15];

    if (host >= CLIENT_HOST && host < CLIENT_HOST + sim->config.clients) {
        return SIM_NODES_MAX + host - CLIENT_HOST;
    }
    if (host > NODE_HOST && host <= NODE_HOST + sim->config.nodes) {
        return host - NODE_HOST - 1;
    }
    return SIM_PLACES;
}

void sim_net_from_client(uint32_t client, const uint8_t ip_to[16], uint16_t port,
                         const uint8_t *payload, uint32_t payload_bytes)
{
    static union {
        struct sim_packet packet;
        uint8_t room[sizeof(struct sim_packet) + SIM_FRAME_BYTES];
    } out;
    struct torc_frame_udp head = {.source_port = CLIENT_PORT, .destination_port = port};
    uint8_t ip[4] = {10, 79, 0, (uint8_t)(CLIENT_HOST + client)};
    uint32_t to = net_place(ip_to);
    uint32_t at;

    if (to >= SIM_NODES_MAX) {
        return; // nobody is there
    }
    memcpy(head.source_mac, net_client_mac, sizeof(head.source_mac));
    memcpy(head.destination_mac, sim_node_mac(to), sizeof(head.destination_mac));
    torc_ip_map(head.source_ip, ip);
    memcpy(head.destination_ip, ip_to, sizeof(head.destination_ip));
    at = torc_frame_udp_head_bytes(&head);
    out.packet = (struct sim_packet){.from = SIM_NODES_MAX + client, .to = to, .to_port = port};
    memcpy(out.packet.bytes + at, payload, payload_bytes);
    out.packet.byte_count = torc_frame_udp_write(out.packet.bytes, &head, payload_bytes);
    net_send(&out.packet, payload_bytes + IP_UDP_BYTES);
}

void sim_net_from_node(struct sim_node *node, const struct torc_frame_tx *frame)
{
    static union {
        struct sim_packet packet;
        uint8_t room[sizeof(struct sim_packet) + SIM_FRAME_BYTES];
    } out;
    struct torc_frame parsed;
    struct torc_frame_local local = {.has_ipv4 = 1, .port_count = UINT16_MAX};
    uint32_t to;

    // We take the receiver's side, whoever it is.
    memcpy(out.packet.bytes, frame->bytes, frame->byte_count);
    memcpy(local.mac, out.packet.bytes, sizeof(local.mac));
    memcpy(local.ipv4, out.packet.bytes + 30, sizeof(local.ipv4));
    if (torc_frame_parse(&parsed, &local, out.packet.bytes, frame->byte_count, 0) !=
            TORC_DROP_NONE ||
        parsed.kind != TORC_FRAME_UDP) {
        return; // an announcement of its address
    }
    to = net_place(parsed.destination_ip);
    if (to == SIM_PLACES) {
        return;
    }
    out.packet.from = node->index;
    out.packet.to = to;
    out.packet.from_port = parsed.source_port;
    out.packet.to_port = parsed.destination_port;
    out.packet.byte_count = frame->byte_count;
    if (to >= SIM_NODES_MAX) {
        out.packet.byte_count = parsed.payload_bytes;
        memmove(out.packet.bytes, parsed.payload, parsed.payload_bytes);
    }
    net_send(&out.packet, parsed.payload_bytes + IP_UDP_BYTES);
}

// Sealed between nodes: a damaged one is a lost one, and paths take them whole.
void sim_net_between(struct sim_node *from, uint32_t from_core, uint32_t to, uint32_t to_core,
                     const uint8_t *bytes, uint32_t byte_count)
{
    static union {
        struct sim_packet packet;
        uint8_t room[sizeof(struct sim_packet) + LETTER_BYTES_MAX];
    } out;

    torc_assert(byte_count <= LETTER_BYTES_MAX && to < sim->config.nodes && from->up);
    out.packet = (struct sim_packet){.from = from->index,
                                     .to = to,
                                     .from_port = (uint16_t)from_core,
                                     .to_port = (uint16_t)to_core,
                                     .boot = atomic_load(&((struct torc_chan *)from->chan)->boot),
                                     .hlc = sim_node_hlc(from, from_core),
                                     .byte_count = byte_count};
    memcpy(out.packet.bytes, bytes, byte_count);
    sim_cover(SIM_COVER_PEER_SENT);
    if ((!sim->quiet && net_chance(sim->config.damage_ppm)) ||
        sim_rows_drops(from->index, to, to_core, bytes)) {
        sim_cover(SIM_COVER_PEER_LOST);
        sim_calm_path(from->index, to);
        return;
    }
    net_send(&out.packet, 0);
}

// -- In -------------------------------------------------------------------------------------------

void sim_net_arrive(struct sim_packet *packet)
{
    uint64_t *newest = &sim->net.newest[packet->from][packet->to];

    sim_hash(packet->number ^ (uint64_t)packet->byte_count << 40);
    if (packet->number < *newest) {
        sim_cover(SIM_COVER_NET_OVERTAKEN);
    }
    *newest = torc_max_u64(*newest, packet->number);
    if (packet->to < SIM_NODES_MAX) {
        sim_node_arrive(packet->to, packet);
    } else {
        sim_client_packet(packet->to - SIM_NODES_MAX, packet);
    }
}
