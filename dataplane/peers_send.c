// Torc dataplane: messages into packets, and packets out; see peers.h.
//
// Packets of a turn stand in one queue in the order in which they were begun; of each peer and core
// the youngest may still take more, until it is pulled. What is not messages (INIT, CLOSE, NOP,
// PING) is made when it is pulled, and goes first.
#include "dataplane/peers_impl.h"

#include <string.h>

static unsigned char *packet_at(struct torc_peers *peers, uint32_t packet)
{
    return peers->packet_bytes + (uint64_t)packet * peers->stride;
}

// Bytes of operations that a packet to the seat may have.
static uint32_t packet_limit(const struct torc_peers *peers, uint32_t seat)
{
    uint32_t payload =
        atomic_load_explicit(&peers->board->seats[seat].payload, memory_order_relaxed);

    payload = (uint32_t)torc_min_u64(payload, peers->config.payload_max);
    return ((uint32_t)torc_max_u64(payload, TORC_PAYLOAD_MIN) & ~7u) - TORC_DATA_OVERHEAD;
}

// -- Packets -------------------------------------------------------------------------------------

// A fresh one at the queue's end, leaving `spare` for others; PEERS_NONE: all are in use.
static uint32_t packet_begin(struct torc_peers *peers, uint32_t seat, uint8_t core, uint32_t spare)
{
    uint32_t packet = peers->free_head;

    if (peers->free_count <= spare) {
        return PEERS_NONE;
    }
    peers->free_head = peers->packets[packet].next;
    peers->free_count--;
    peers->packets[packet] = (struct peers_packet){.peer = seat, .core = core, .next = PEERS_NONE};
    if (peers->queue_tail == PEERS_NONE) {
        peers->queue_head = packet;
    } else {
        peers->packets[peers->queue_tail].next = packet;
    }
    peers->queue_tail = packet;
    peers->peers[seat].open[core] = packet;
    return packet;
}

// The packet at the queue's head leaves it.
static uint32_t packet_take(struct torc_peers *peers)
{
    uint32_t packet = peers->queue_head;
    struct peers_packet *at = &peers->packets[packet];

    peers->queue_head = at->next;
    peers->queue_tail = at->next == PEERS_NONE ? PEERS_NONE : peers->queue_tail;
    if (peers->peers[at->peer].open[at->core] == packet) {
        peers->peers[at->peer].open[at->core] = PEERS_NONE;
    }
    return packet;
}

static void packet_free(struct torc_peers *peers, uint32_t packet)
{
    torc_assert(peers->free_count < TORC_PEERS_PACKETS);
    peers->packets[packet].next = peers->free_head;
    peers->free_head = packet;
    peers->free_count++;
}

void torc_peers_drop_packets(struct torc_peers *peers, uint32_t seat)
{
    uint32_t left = TORC_PEERS_PACKETS - peers->free_count;

    for (; left > 0; left--) {
        uint32_t packet = packet_take(peers);
        struct peers_packet *at = &peers->packets[packet];

        if (at->peer == seat) {
            peers->counters.unsent += at->op_count;
            packet_free(peers, packet);
            continue;
        }
        // Back to the end: a whole round keeps the order.
        at->next = PEERS_NONE;
        if (peers->queue_tail == PEERS_NONE) {
            peers->queue_head = packet;
        } else {
            peers->packets[peers->queue_tail].next = packet;
        }
        peers->queue_tail = packet;
    }
}

// The seat and core that a message goes to; PEERS_NONE: no session, counted.
static uint32_t send_seat(struct torc_peers *peers, struct torc_peer_to to, uint8_t *core)
{
    uint32_t seat = torc_peers_find(peers, to.node);

    if (seat == PEERS_NONE || !peers->peers[seat].up) {
        peers->counters.unsent++;
        return PEERS_NONE;
    }
    *core = to.core < peers->peers[seat].cores ? (uint8_t)to.core : 0;
    return seat;
}

// A packet to the seat's core with room for an operation of `bytes` more; PEERS_NONE: none.
static uint32_t packet_for(struct torc_peers *peers, uint32_t seat, uint8_t core, uint32_t bytes,
                           uint32_t spare)
{
    uint32_t packet = peers->peers[seat].open[core];
    uint32_t limit = packet_limit(peers, seat);

    torc_assert(bytes <= TORC_PAYLOAD_MIN - TORC_DATA_OVERHEAD || bytes <= limit);
    if (packet != PEERS_NONE && peers->packets[packet].used + bytes <= limit &&
        peers->packets[packet].op_count < TORC_PACKET_OPS_MAX) {
        return packet;
    }
    return packet_begin(peers, seat, core, spare);
}

bool torc_peers_send(struct torc_peers *peers, struct torc_peer_to to,
                     const struct torc_peer_op *op)
{
    uint32_t bytes = torc_op_padded(torc_peer_op_bytes(op));
    uint8_t core = 0;
    uint32_t seat = send_seat(peers, to, &core);
    uint32_t packet;

    torc_assert(bytes <= TORC_PEER_OP_BYTES);
    if (seat == PEERS_NONE) {
        return false;
    }
    packet = packet_for(peers, seat, core, bytes, 0);
    if (packet == PEERS_NONE) {
        peers->counters.crowded++;
        return false;
    }
    bytes = torc_peer_op_encode(packet_at(peers, packet) + peers->packets[packet].used, op);
    peers->packets[packet].used = (uint16_t)(peers->packets[packet].used + bytes);
    peers->packets[packet].op_count++;
    return true;
}

// -- Ships ---------------------------------------------------------------------------------------

void torc_peers_ship_begin(struct torc_peers *peers, struct torc_peers_ship *ship,
                           struct torc_peer_to to, const struct torc_peer_message *append)
{
    (void)peers;
    torc_assert(append->kind == TORC_PEER_APPEND);
    ship->to = to;
    ship->message = *append;
    ship->packet = 0; // none yet
    ship->open = false;
}

void torc_peers_ship_end(struct torc_peers *peers, struct torc_peers_ship *ship)
{
    struct peers_packet *packet;

    if (!ship->open) {
        return;
    }
    packet = &peers->packets[ship->packet];
    packet->used = (uint16_t)(packet->used + torc_peer_append_end(&ship->builder));
    packet->op_count++;
    ship->open = false;
}

// Begins an operation in a packet with room for `bytes` of them. False: no room.
static bool ship_open(struct torc_peers *peers, struct torc_peers_ship *ship, uint32_t seat,
                      uint8_t core, uint32_t bytes)
{
    uint32_t packet = packet_for(peers, seat, core, bytes, TORC_PEERS_SPARE);
    uint32_t used;

    if (packet == PEERS_NONE) {
        return false;
    }
    used = peers->packets[packet].used;
    torc_peer_append_begin(&ship->builder, packet_at(peers, packet) + used,
                           packet_limit(peers, seat) - used, &ship->message);
    ship->packet = packet;
    ship->open = true;
    return true;
}

// Size of all parts but the last when an operation has `head` bytes before its part.
static uint32_t part_size(const struct torc_peers *peers, uint32_t seat, uint32_t head)
{
    return (packet_limit(peers, seat) - head) & ~7u;
}

// A value that is longer than a packet: parts from *value_done on.
static bool ship_parts(struct torc_peers *peers, struct torc_peers_ship *ship, uint32_t seat,
                       uint8_t core, const struct torc_peer_record *record, uint32_t *value_done)
{
    uint32_t head = TORC_PEER_APPEND_HEAD + TORC_PEER_RECORD_MAX;
    uint32_t part_bytes = part_size(peers, seat, head);

    if (*value_done % part_bytes != 0) {
        *value_done = 0; // packets have another size now, and so have parts
    }
    while (*value_done < record->value_bytes) {
        uint32_t part = *value_done / part_bytes;
        uint32_t bytes = torc_peer_part_bytes(record->value_bytes, part_bytes, part);

        if (!ship_open(peers, ship, seat, core, torc_op_padded(head + bytes))) {
            return false;
        }
        torc_peer_append_part(&ship->builder, record, part_bytes, part);
        torc_peers_ship_end(peers, ship);
        *value_done += bytes;
    }
    return true;
}

bool torc_peers_ship_record(struct torc_peers *peers, struct torc_peers_ship *ship,
                            const struct torc_peer_record *record, uint32_t *value_done)
{
    uint64_t bytes = torc_peer_record_bytes(record) + TORC_PEER_APPEND_HEAD;
    uint8_t core = 0;
    uint32_t seat;

    if (ship->open && torc_peer_append_add(&ship->builder, record)) {
        return true;
    }
    torc_peers_ship_end(peers, ship);
    seat = send_seat(peers, ship->to, &core);
    if (seat == PEERS_NONE) {
        return true;
    }
    if (bytes > packet_limit(peers, seat)) {
        return ship_parts(peers, ship, seat, core, record, value_done);
    }
    return ship_open(peers, ship, seat, core, (uint32_t)bytes) &&
           torc_peer_append_add(&ship->builder, record);
}

bool torc_peers_ship_piece(struct torc_peers *peers, struct torc_peer_to to,
                           const struct torc_peer_message *snap,
                           const struct torc_peer_cargo *cargo, uint32_t *done)
{
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_SNAP, .message = *snap};
    uint8_t core = 0;
    uint32_t seat = send_seat(peers, to, &core);
    uint32_t part_bytes;

    torc_assert(snap->kind == TORC_PEER_SNAP && snap->snap.kind == TORC_SNAP_PIECE);
    torc_assert(cargo->total_bytes > 0);
    if (seat == PEERS_NONE) {
        return true;
    }
    part_bytes = part_size(peers, seat, TORC_PEER_SNAP_HEAD);
    part_bytes = cargo->total_bytes <= part_bytes ? cargo->total_bytes : part_bytes;
    *done = *done % part_bytes != 0 ? 0 : *done;
    while (*done < cargo->total_bytes) {
        uint32_t part = *done / part_bytes;
        uint32_t bytes = torc_peer_part_bytes(cargo->total_bytes, part_bytes, part);
        uint32_t padded = torc_op_padded(TORC_PEER_SNAP_HEAD + bytes);
        uint32_t packet = packet_for(peers, seat, core, padded, TORC_PEERS_SPARE);

        if (packet == PEERS_NONE) {
            return false;
        }
        op.cargo = (struct torc_peer_cargo){.bytes = cargo->bytes + *done,
                                            .byte_count = bytes,
                                            .total_bytes = cargo->total_bytes,
                                            .part_bytes = part_bytes,
                                            .part = part};
        (void)torc_peer_op_encode(packet_at(peers, packet) + peers->packets[packet].used, &op);
        peers->packets[packet].used = (uint16_t)(peers->packets[packet].used + padded);
        peers->packets[packet].op_count++;
        *done += bytes;
    }
    return true;
}

// -- Out -----------------------------------------------------------------------------------------

uint32_t torc_peers_seal(struct torc_peers *peers, struct peers_peer *peer, uint8_t core,
                         unsigned char *payload, uint32_t ops_bytes)
{
    struct torc_data data = {.core = core,
                             .clock_us = (uint32_t)(peers->now_ns / 1000),
                             .hlc = peers->hlc,
                             .reply_bytes = (uint16_t)(peers->config.payload_max & ~7u),
                             .reply_packets = 2};
    uint32_t bytes;

    torc_assert(peer->up);
    bytes = torc_lane_seal(&peer->lane, payload, ops_bytes, &data);
    peers->counters.packets++;
    if (torc_lane_is_worn(&peer->lane, bytes)) {
        torc_peers_mark_over(peers, (uint32_t)(peer - peers->peers), &peers->counters.worn);
    }
    // The last number: nobody answered handshakes for so long. What seals next would be refused.
    peer->up = data.seq + 1 < TORC_DATA_SEQ_END;
    return bytes;
}

static void way_to(struct torc_peers_way *way, uint32_t seat, const uint8_t ip[16], uint32_t port)
{
    way->seat = seat;
    way->udp_port = (uint16_t)port;
    memcpy(way->ip, ip, sizeof(way->ip));
}

// One operation without a meaning of its own in a packet to our core's counterpart.
static uint32_t pull_request(struct torc_peers *peers, struct peers_peer *peer, uint8_t core,
                             unsigned char *payload, const struct torc_request *request)
{
    uint32_t bytes = torc_request_encode(payload + TORC_DATA_HEAD_BYTES, request);
    struct torc_request nop = {.opcode = TORC_OPCODE_NOP};

    if (bytes < TORC_REQUEST_HEAD_BYTES) { // the least that a packet holds
        bytes += torc_request_encode(payload + TORC_DATA_HEAD_BYTES + bytes, &nop);
    }
    return torc_peers_seal(peers, peer, core, payload, bytes);
}

static uint32_t pull_ping(struct torc_peers *peers, struct peers_call *call,
                          struct peers_peer *peer, unsigned char *payload)
{
    static const unsigned char zeros[TORC_PAYLOAD_MAX];
    struct torc_request ping = {.opcode = TORC_OPCODE_PING,
                                .op_id = call->ping_id,
                                .data = zeros,
                                .data_bytes =
                                    call->ping_size - TORC_DATA_OVERHEAD - TORC_REQUEST_HEAD_BYTES};

    call->ping_due = false;
    return pull_request(peers, peer, 0, payload, &ping);
}

static uint32_t pull_keep(struct torc_peers *peers, struct peers_peer *peer, uint8_t core,
                          unsigned char *payload)
{
    struct torc_request nop = {.opcode = TORC_OPCODE_NOP};

    if (peer->confirms > 0) {
        peer->confirms--;
    }
    peer->keep_ns = peers->now_ns + (peer->confirms > 0 ? PEERS_SECOND : peer->idle_ns / 4);
    return pull_request(peers, peer, core, payload, &nop);
}

// What a seat has to send that is not messages.
static uint32_t pull_control(struct torc_peers *peers, uint32_t seat, unsigned char *payload,
                             struct torc_peers_way *way)
{
    struct peers_peer *peer = &peers->peers[seat];
    struct peers_call *call = peers->calls == NULL ? NULL : &peers->calls[seat];
    uint8_t core = (uint8_t)(peer->cores == 0 ? 0 : peers->config.core % peer->cores);

    if (call != NULL && call->init_due) {
        call->init_due = false;
        way_to(way, seat, call->place.ip, call->place.base_port);
        memcpy(payload, call->shake.packet, TORC_INIT_BYTES);
        return TORC_INIT_BYTES;
    }
    if (peer->close_ns != 0 && peers->now_ns >= peer->close_ns) {
        peer->close_ns = 0;
        way_to(way, seat, peer->ip, peer->base_port);
        memcpy(payload, peer->close_packet, sizeof(peer->close_packet));
        return sizeof(peer->close_packet);
    }
    if (peer->up && peers->now_ns >= peer->keep_ns) {
        way_to(way, seat, peer->ip, (uint32_t)peer->base_port + core);
        return pull_keep(peers, peer, core, payload);
    }
    if (peer->up && call != NULL && call->ping_due) {
        way_to(way, seat, peer->ip, peer->base_port);
        return pull_ping(peers, call, peer, payload);
    }
    return 0;
}

static uint32_t pull_packet(struct torc_peers *peers, unsigned char *payload,
                            struct torc_peers_way *way)
{
    while (peers->queue_head != PEERS_NONE) {
        uint32_t packet = packet_take(peers);
        struct peers_packet *at = &peers->packets[packet];
        struct peers_peer *peer = &peers->peers[at->peer];
        uint32_t bytes = 0;

        if (peer->up && at->used > 0) {
            memcpy(payload + TORC_DATA_HEAD_BYTES, packet_at(peers, packet), at->used);
            bytes = torc_peers_seal(peers, peer, at->core, payload, at->used);
            way_to(way, at->peer, peer->ip, (uint32_t)peer->base_port + at->core);
            peer->keep_ns = peer->confirms > 0 ? peer->keep_ns : peers->now_ns + peer->idle_ns / 4;
        } else {
            peers->counters.unsent += at->op_count;
        }
        packet_free(peers, packet);
        if (bytes > 0) {
            return bytes;
        }
    }
    return 0;
}

static uint32_t control_end(const struct torc_peers *peers)
{
    return peers->seat_end > peers->call_end ? peers->seat_end : peers->call_end;
}

uint32_t torc_peers_pull(struct torc_peers *peers, unsigned char *payload, uint32_t room,
                         struct torc_peers_way *way)
{
    torc_assert(room >= peers->config.payload_max);
    for (; peers->control_at < control_end(peers); peers->control_at++) {
        uint32_t bytes = pull_control(peers, peers->control_at, payload, way);

        if (bytes > 0) {
            return bytes;
        }
    }
    return pull_packet(peers, payload, way);
}

bool torc_peers_pending(const struct torc_peers *peers)
{
    return peers->queue_head != PEERS_NONE;
}
