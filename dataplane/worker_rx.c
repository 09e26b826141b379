// Torc dataplane: from frames to checked packets, and the order of a burst; see worker.h.
//
// Frames of a burst are taken in three passes, so that the session lines that they need are on
// their way to the cache together: headers; then session, window, trailer, framing; then the
// operations.
#include "dataplane/neighbour.h"
#include "dataplane/worker_state.h"

#include <string.h>

_Static_assert(TORC_DATA_AHEAD_US == TORC_SHARD_MAX_AHEAD_US, "clients reckon with it");

#define PROTOCOL_UDP 17u
#define ECHO_RATE    1000u
#define ECHO_BURST   100u
#define SHED_BYTES   (TORC_REPLY_HEAD_BYTES + TORC_SHED_BYTES)
// Notices whose keys are on their way to the cache together.
#define TELL_TOGETHER 16u

// A data packet between the first pass and the second.
struct rx_candidate {
    struct torc_path path;
    struct torc_data data;
    unsigned char *payload;
    uint32_t payload_bytes;
    uint64_t arrived_ns;
    bool handed;
    bool congested;
    struct torc_frame frame;
};

struct rx_item {
    unsigned char *bytes;
    uint32_t byte_count;
    uint8_t port;
    uint8_t flags;
    bool handed;
    uint64_t arrived_ns;
};

static void rx_path(struct torc_path *path, const struct torc_frame *frame, uint8_t port)
{
    memcpy(path->mac, frame->source_mac, sizeof(path->mac));
    path->port = port;
    path->is_ipv6 = frame->is_ipv6 ? 1 : 0;
    memcpy(path->ip, frame->source_ip, sizeof(path->ip));
    path->udp_port = frame->source_port;
    path->zero = 0;
}

// -- First pass: headers --------------------------------------------------------------------------

void torc_worker_send_raw(struct torc_worker *worker, uint32_t bytes, uint8_t port)
{
    struct torc_frame_tx *tx = &worker->turn->tx[worker->turn->tx_count++];

    tx->byte_count = bytes;
    tx->port = port;
    tx->flags = 0;
    tx->l2_bytes = TORC_ETHER_BYTES;
    tx->l3_bytes = 0;
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_TX_PACKETS], 1);
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_TX_BYTES], bytes);
}

void torc_worker_announce(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;

    while (worker->announced < 2 * worker->config.port_count && turn->tx_count < turn->tx_room) {
        uint8_t port = (uint8_t)(worker->announced / 2);
        struct torc_frame_tx *tx = &turn->tx[turn->tx_count];
        uint32_t bytes = torc_neighbour_announce(&worker->locals[port], worker->announced % 2 != 0,
                                                 tx->bytes, tx->room);

        worker->announced++;
        if (bytes > 0) {
            torc_worker_send_raw(worker, bytes, port);
        }
    }
}

static void rx_neighbour(struct torc_worker *worker, const struct torc_frame *frame, uint8_t port)
{
    struct torc_turn *turn = worker->turn;
    struct torc_frame_tx *tx = &turn->tx[turn->tx_count];
    enum torc_drop reason = TORC_DROP_NONE;
    uint32_t bytes;

    if (worker->peers != NULL && frame->kind != TORC_FRAME_ECHO &&
        torc_worker_peers_learn(worker, frame, port)) {
        return;
    }
    if (frame->kind == TORC_FRAME_ECHO &&
        !torc_bucket_take(&worker->echo, worker->now_ns, ECHO_RATE, ECHO_BURST)) {
        torc_worker_drop(worker, TORC_DROP_ECHO);
        return;
    }
    if (turn->tx_count >= turn->tx_room) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    bytes = torc_neighbour_answer(frame, &worker->locals[port], tx->bytes, tx->room, &reason);
    if (bytes == 0) {
        torc_worker_drop(worker, reason);
        return;
    }
    torc_worker_send_raw(worker, bytes, port);
}

static void rx_hand_over(struct torc_worker *worker, const struct rx_item *item, uint32_t core)
{
    struct torc_spsc_port *ring = &worker->handed_out[core];
    struct torc_handover_frame *slot;

    if (item->byte_count > ring->slot_bytes - sizeof(*slot) || torc_spsc_writable(ring, 1) == 0) {
        torc_worker_drop(worker, TORC_DROP_HANDOVER_FULL);
        return;
    }
    slot = torc_spsc_write_at(ring, 0);
    slot->byte_count = item->byte_count;
    slot->port = item->port;
    slot->flags = item->flags;
    slot->zero = 0;
    slot->arrived_ns = item->arrived_ns;
    memcpy(slot->bytes, item->bytes, item->byte_count);
    torc_spsc_publish(ring, 1);
    worker->turn->futile = false; // the other core will see
    worker->turn->ring_workers[core / 64] |= UINT64_C(1) << (core % 64);
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_HANDOFF], 1);
}

// From a responder: for the worker whose port it came to. `otherwise`: why it is dropped when it
// answers nothing of ours.
static void rx_answer(struct torc_worker *worker, const struct rx_item *item,
                      const struct torc_frame *frame, enum torc_drop otherwise)
{
    uint32_t core = (uint32_t)frame->destination_port - worker->config.base_port;

    torc_assert(core < worker->count); // torc_frame_parse lets no other port through
    if (core != worker->index) {
        rx_hand_over(worker, item, core);
        return;
    }
    if (torc_peers_receive(worker->peers, worker->now_ns,
                           item->bytes + (frame->payload - item->bytes), frame->payload_bytes)) {
        worker->turn->futile = false;
    } else {
        torc_worker_drop(worker, otherwise);
    }
}

// A packet of type DATA or CLEAR: up to its core. True: a candidate.
static bool rx_data(struct torc_worker *worker, const struct rx_item *item,
                    struct rx_candidate *candidate)
{
    const struct torc_frame *frame = &candidate->frame;
    enum torc_drop drop = torc_data_decode(&candidate->data, frame->payload, frame->payload_bytes);
    uint32_t slot;

    if (drop == TORC_DROP_NONE &&
        torc_worker_is_answer(worker, candidate->data.type, candidate->data.flags)) {
        rx_answer(worker, item, frame, TORC_DROP_FLAGS);
        return false;
    }
    if (drop == TORC_DROP_NONE && (candidate->data.flags & ~TORC_DATA_CONGESTION) != 0) {
        drop = TORC_DROP_FLAGS;
    }
    if (drop == TORC_DROP_NONE && candidate->data.core >= worker->count) {
        drop = TORC_DROP_CORE;
    }
    if (drop != TORC_DROP_NONE) {
        torc_worker_drop(worker, drop);
        return false;
    }
    if (candidate->data.core != worker->index) {
        rx_hand_over(worker, item, candidate->data.core);
        return false;
    }
    candidate->payload = item->bytes + (frame->payload - item->bytes);
    candidate->payload_bytes = frame->payload_bytes;
    candidate->arrived_ns = item->arrived_ns;
    candidate->handed = item->handed;
    candidate->congested = frame->congestion == 3;
    slot = candidate->data.index & (worker->sessions->slot_count - 1);
    torc_session_prefetch(worker->sessions, torc_session_at(worker->sessions, slot),
                          candidate->data.type, candidate->payload_bytes);
    __builtin_prefetch(torc_session_line_at(worker->sessions, worker->index, slot), 1);
    return true;
}

static bool rx_udp(struct torc_worker *worker, const struct rx_item *item,
                   struct rx_candidate *candidate)
{
    const struct torc_frame *frame = &candidate->frame;
    enum torc_payload_kind kind = TORC_PAYLOAD_PACKET;
    uint8_t type = 0;
    enum torc_drop drop =
        frame->payload_bytes > worker->payload_max
            ? TORC_DROP_LONG
            : torc_payload_classify(frame->payload, frame->payload_bytes, &kind, &type);

    if (drop != TORC_DROP_NONE) {
        torc_worker_drop(worker, drop);
    } else if (kind == TORC_PAYLOAD_NEWER) {
        torc_worker_hello_newer(worker, frame, &candidate->path);
    } else if (type == TORC_TYPE_INIT) {
        torc_worker_hello(worker, frame, &candidate->path);
    } else if (type == TORC_TYPE_DATA || type == TORC_TYPE_CLEAR) {
        return rx_data(worker, item, candidate);
    } else if (torc_worker_is_answer(worker, type, 0)) {
        rx_answer(worker, item, &candidate->frame, TORC_DROP_TYPE);
    } else {
        torc_worker_drop(worker, TORC_DROP_TYPE);
    }
    return false;
}

static bool rx_frame(struct torc_worker *worker, const struct rx_item *item,
                     struct rx_candidate *candidate)
{
    enum torc_drop drop;

    torc_assert(item->port < worker->config.port_count);
    if (!item->handed) {
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_RX_PACKETS], 1);
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_RX_BYTES], item->byte_count);
    }
    drop = torc_frame_parse(&candidate->frame, &worker->locals[item->port], item->bytes,
                            item->byte_count, item->flags);
    if (drop != TORC_DROP_NONE) {
        torc_worker_drop(worker, drop);
        return false;
    }
    rx_path(&candidate->path, &candidate->frame, item->port);
    if (candidate->frame.kind != TORC_FRAME_UDP) {
        rx_neighbour(worker, &candidate->frame, item->port);
        return false;
    }
    return rx_udp(worker, item, candidate);
}

// -- Second pass: the session ---------------------------------------------------------------------

// A refusal of the whole packet, by the shortest answer.
static void rx_shed(struct torc_worker *worker, struct torc_packet *packet, enum torc_err status,
                    uint32_t retry_us)
{
    struct torc_shed shed = {.retry_us = retry_us,
                             .delay_us = (uint32_t)(worker->queue_delay_ns / 1000)};
    struct torc_reply reply = {.opcode = TORC_OPCODE_SHED,
                               .status = (uint8_t)status,
                               .info = packet->seq,
                               .body_bytes = TORC_SHED_BYTES};
    unsigned char body[TORC_SHED_BYTES];
    struct torc_answer answer;

    torc_shed_body(body, &shed);
    reply.body = body;
    // A bad allowance is no reason to answer nothing: one least packet is always allowed.
    packet->to.packets_left = 1;
    packet->to.reply_bytes = TORC_PAYLOAD_MIN;
    if (torc_answer_begin(worker, &answer, &packet->to) &&
        torc_answer_room(worker, &answer, SHED_BYTES, SHED_BYTES) != 0) {
        torc_answer_put(worker, &answer, &reply);
        torc_answer_close(worker, &answer);
    }
}

uint32_t torc_worker_retry_us(const struct torc_worker *worker)
{
    return (uint32_t)(worker->queue_delay_ns / 500) + 1;
}

// Of a packet that is one too many: whether it is dropped before it is opened, because its sender
// said that it may be, or because there is no time for more.
static bool rx_is_dropped(struct torc_worker *worker, const struct torc_data *data)
{
    bool noted = (data->reply_bytes & TORC_REPLY_BYTES_DROP) != 0 &&
                 torc_admit_note(worker->admit, data->index, data->seq);

    return noted || worker->admit->flooded;
}

// Under load: whether the packet is one too many. Asked before it is opened, so that what may be
// refused at all can be dropped for nothing when even refusals take too long.
static bool rx_is_shed(struct torc_worker *worker, const struct torc_session *session)
{
    return worker->admit->shedding && session->principal < TORC_PRINCIPAL_NODE &&
           !torc_admit_may(worker->admit,
                           atomic_load_explicit(&session->index, memory_order_relaxed));
}

// The packet is its session's: it goes on the account. False: it was refused.
static bool rx_admit(struct torc_worker *worker, struct torc_packet *packet, bool shed)
{
    const struct torc_session *session = packet->session;

    if (session->principal < TORC_PRINCIPAL_NODE) {
        worker->heard[packet->to.index % TORC_ADMIT_SLOTS] = packet->to;
    }
    if (shed) {
        torc_admit_refuse(worker->admit, packet->to.index);
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_SHED], 1);
        rx_shed(worker, packet, TORC_ERR_BUSY, torc_worker_retry_us(worker));
        return false;
    }
    if (session->principal < TORC_PRINCIPAL_NODE) {
        torc_admit_take(worker->admit, packet->to.index);
    }
    return true;
}

// The first packet of a session on this core.
static void session_line_begin(struct torc_session_line *line, uint64_t serial)
{
    atomic_store_explicit(&line->tx_seq, 0, memory_order_relaxed);
    atomic_store_explicit(&line->rx_high, 0, memory_order_relaxed);
    atomic_store_explicit(&line->last_seen_s, 0, memory_order_relaxed);
    atomic_store_explicit(&line->in_flight, 0, memory_order_relaxed);
    line->cursors = 0;
    memset(line->window, 0, sizeof(line->window));
    atomic_store_explicit(&line->serial, serial, memory_order_relaxed);
}

static enum torc_drop rx_session(const struct torc_sessions *sessions,
                                 const struct rx_candidate *candidate,
                                 const struct torc_session *session, struct torc_session_line *line)
{
    struct torc_seal seal = torc_session_seal(sessions, session, TORC_TO_SERVER);
    uint64_t high;
    enum torc_drop drop;

    if (memcmp(session->ip, candidate->path.ip, sizeof(session->ip)) != 0) {
        return TORC_DROP_ADDRESS;
    }
    if (torc_session_line_serial(line) != session->serial) {
        session_line_begin(line, session->serial);
    }
    high = atomic_load_explicit(&line->rx_high, memory_order_relaxed);
    drop = torc_window_check(high, line->window, candidate->data.seq);
    if (drop != TORC_DROP_NONE) {
        return drop;
    }
    if (!torc_data_open(&seal, candidate->payload, candidate->payload_bytes)) {
        return TORC_DROP_AUTH;
    }
    torc_window_set(&high, line->window, candidate->data.seq);
    atomic_store_explicit(&line->rx_high, high, memory_order_relaxed);
    return TORC_DROP_NONE;
}

// The answer is sealed when the burst's keys have been looked up. How long it will be is not known:
// an answer to a get of a small value is twice as long as the get.
static void rx_prefetch_answer(const struct torc_worker *worker, const struct torc_session *session,
                               uint32_t ops_bytes)
{
    if (session->suite != TORC_SUITE_CLEAR) {
        torc_aead_prefetch(torc_aead_cipher(worker->sessions->aead, session->suite),
                           &session->keys[TORC_TO_CLIENT], 2 * ops_bytes);
    }
}

static void rx_packet_init(struct torc_packet *packet, const struct rx_candidate *candidate,
                           struct torc_session *session, struct torc_session_line *line)
{
    const struct torc_data *data = &candidate->data;

    packet->to = (struct torc_answer_to){
        .serial = session->serial,
        .arrived_ns = candidate->arrived_ns,
        .index = data->index,
        .clock_us = data->clock_us,
        .reply_bytes = data->reply_bytes,
        .packets_left = data->reply_packets,
        .flags = (uint8_t)((candidate->handed ? TORC_DATA_HANDOFF : 0) |
                           (candidate->congested ? TORC_DATA_CONGESTION : 0)),
        .path = candidate->path};
    packet->session = session;
    packet->line = line;
    packet->ops = candidate->payload + TORC_DATA_HEAD_BYTES;
    packet->ops_bytes = candidate->payload_bytes - TORC_DATA_OVERHEAD;
    packet->op_count = 0;
    packet->write_count = 0;
    packet->plain_count = 0;
    packet->gather = TORC_WORKER_NONE;
    packet->map_sent = 0;
    packet->seq = data->seq;
    packet->late = false;
    packet->clock_ahead = false;
    packet->closing = false;
    packet->tight = false;
    packet->write_busy = false;
}

// All checks of a candidate. True: its operations may run.
static bool rx_check(struct torc_worker *worker, const struct rx_candidate *candidate,
                     struct torc_packet *packet)
{
    struct torc_session *session = torc_session_find(worker->sessions, candidate->data.index);
    struct torc_session_line *line;
    enum torc_drop drop;
    uint32_t offset = 0;
    uint64_t hlc;
    bool shed;

    if (session == NULL) {
        torc_worker_nosession(worker, &candidate->frame, &candidate->path, candidate->data.seq);
        return false;
    }
    shed = rx_is_shed(worker, session);
    if (torc_unlikely(shed && rx_is_dropped(worker, &candidate->data))) {
        torc_admit_drop(worker->admit);
        torc_worker_drop(worker, TORC_DROP_OVERLOAD);
        return false;
    }
    line = torc_session_line_at(worker->sessions, worker->index,
                                candidate->data.index & ((1u << TORC_SESSION_SLOT_BITS) - 1));
    drop = worker->turn->tx_count < worker->turn->tx_room
               ? rx_session(worker->sessions, candidate, session, line)
               : TORC_DROP_REPLY_LOST;
    if (drop != TORC_DROP_NONE) {
        torc_worker_drop(worker, drop);
        return false;
    }
    worker->turn->futile = false;
    if (atomic_load_explicit(&session->confirmed, memory_order_relaxed) == 0) {
        atomic_store_explicit(&session->confirmed, 1, memory_order_relaxed);
    }
    atomic_store_explicit(&line->last_seen_s, (uint32_t)(worker->now_ns / 1000000000u),
                          memory_order_relaxed);
    rx_packet_init(packet, candidate, session, line);
    if (torc_unlikely(session->principal >= TORC_PRINCIPAL_NODE)) {
        torc_worker_peers_heard(worker, packet);
    }
    rx_prefetch_answer(worker, session, packet->ops_bytes);
    if (torc_unlikely(worker->admit->shedding) && !rx_admit(worker, packet, shed)) {
        return false;
    }
    if (!torc_data_credit_ok(&candidate->data, candidate->payload_bytes)) {
        rx_shed(worker, packet, TORC_ERR_BAD_PACKET,
                offsetof(struct torc_data_wire, credit_or_hold));
        return false;
    }
    if (torc_framing_check(packet->ops, packet->ops_bytes, &packet->op_count, &offset) !=
        TORC_ERR_OK) {
        rx_shed(worker, packet, TORC_ERR_BAD_PACKET, offset);
        return false;
    }
    hlc = torc_data_hlc(candidate->payload);
    packet->clock_ahead = hlc != 0 && torc_shard_hear(&worker->pool, hlc,
                                                      session->principal >= TORC_PRINCIPAL_NODE
                                                          ? 2 * TORC_SHARD_MAX_AHEAD_US
                                                          : TORC_SHARD_MAX_AHEAD_US) != TORC_ERR_OK;
    return true;
}

// -- Too many -------------------------------------------------------------------------------------

// Accounts of a burst that is looked at from outside.
static void rx_prefetch_accounts(const struct torc_worker *worker, const struct rx_item *items,
                                 uint32_t count)
{
    static const uint32_t index_at = TORC_ETHER_BYTES + TORC_IPV4_BYTES + TORC_UDP_BYTES +
                                     offsetof(struct torc_data_wire, index);

    for (uint32_t i = 0; i < count; i++) {
        if (items[i].byte_count >= index_at + sizeof(struct torc_le32)) {
            struct torc_le32 index;

            memcpy(&index, items[i].bytes + index_at, sizeof(index));
            torc_admit_prefetch(worker->admit, torc_get_le32(index));
        }
    }
}

// A look at a frame from outside, before anything is checked: whether it is one too many of a
// session whose packets were dropped unread in the last turns, and may be dropped like them. What a
// forger could make of it: its own frame is dropped, and a client is told of a read that was not,
// which it asks for again (of writes it believes no such thing). Only frames of the plainest shape
// are seen here: untagged, IPv4 without options.
static bool rx_is_passed_over(struct torc_worker *worker, const struct rx_item *item)
{
    static const uint32_t payload_at = TORC_ETHER_BYTES + TORC_IPV4_BYTES + TORC_UDP_BYTES;
    const unsigned char *bytes = item->bytes;
    struct torc_data data;

    if (item->handed || item->byte_count < payload_at + TORC_DATA_BYTES_MIN || bytes[12] != 0x08 ||
        bytes[13] != 0x00 || bytes[14] != 0x45 || bytes[23] != PROTOCOL_UDP ||
        torc_data_decode(&data, bytes + payload_at, item->byte_count - payload_at) !=
            TORC_DROP_NONE ||
        bytes[payload_at] != TORC_WIRE_MAGIC || bytes[payload_at + 1] >> 4 != 1 ||
        data.core != worker->index || (data.reply_bytes & TORC_REPLY_BYTES_DROP) == 0 ||
        !torc_admit_knows(worker->admit, data.index) || torc_admit_may(worker->admit, data.index) ||
        !torc_admit_note(worker->admit, data.index, data.seq)) {
        return false;
    }
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_RX_PACKETS], 1);
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_RX_BYTES], item->byte_count);
    torc_admit_drop(worker->admit);
    torc_worker_drop(worker, TORC_DROP_OVERLOAD);
    return true;
}

// What the next notices need of sessions that may not have been looked at for turns is on its way
// to the cache together: first records, then the keys that they name.
static void tell_prefetch(const struct torc_worker *worker)
{
    uint32_t index;

    for (uint32_t i = 0; i < TELL_TOGETHER && torc_admit_ahead(worker->admit, i, &index); i++) {
        uint32_t slot = index & (worker->sessions->slot_count - 1);

        torc_admit_prefetch(worker->admit, index);
        __builtin_prefetch(&worker->heard[index % TORC_ADMIT_SLOTS], 1);
        __builtin_prefetch(torc_session_line_at(worker->sessions, worker->index, slot), 1);
        __builtin_prefetch(torc_session_at(worker->sessions, slot));
    }
    for (uint32_t i = 0; i < TELL_TOGETHER && torc_admit_ahead(worker->admit, i, &index); i++) {
        const struct torc_session *session = torc_session_find(worker->sessions, index);

        if (session != NULL) {
            rx_prefetch_answer(worker, session, TORC_UNREAD_BYTES);
        }
    }
}

void torc_worker_tell(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    uint32_t count = TELL_TOGETHER;
    uint32_t session;

    while (count == TELL_TOGETHER) {
        tell_prefetch(worker);
        count = 0;
        while (count < TELL_TOGETHER && turn->tx_count < turn->tx_room &&
               torc_admit_due(worker->admit, &session)) {
            torc_answer_notice(worker, &worker->heard[session % TORC_ADMIT_SLOTS]);
            count++;
        }
    }
    turn->more = turn->more || worker->admit->due_count > 0;
}

// -- A burst --------------------------------------------------------------------------------------

static bool rx_is_of_node(const struct torc_packet *packet)
{
    return packet->session->principal >= TORC_PRINCIPAL_NODE;
}

static void rx_note_again(struct torc_worker *worker, struct torc_packet *packet)
{
    packet->write_count = 0;
    packet->plain_count = 0;
    packet->late = false;
    torc_worker_note_gets(worker, packet);
}

static void rx_forget_notes(struct torc_worker *worker)
{
    worker->get_count = 0;
    memset(worker->get_counts, 0, worker->shard_count * sizeof(worker->get_counts[0]));
}

// What other nodes say changes trees, and who may read them. So it comes before the gets of the
// burst are noted and looked up: what was found points into the tree as it was. The packets that
// are left, clients' all.
static uint32_t rx_nodes_first(struct torc_worker *worker, uint32_t packet_count)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < packet_count; i++) {
        struct torc_packet *packet = &worker->burst[i];

        if (rx_is_of_node(packet)) {
            rx_forget_notes(worker);
            rx_note_again(worker, packet);
            torc_worker_look_up(worker);
            worker->tx_owed--;
            torc_worker_answer_packet(worker, packet);
        }
    }
    rx_forget_notes(worker);
    for (uint32_t i = 0; i < packet_count; i++) {
        if (!rx_is_of_node(&worker->burst[i])) {
            worker->burst[left] = worker->burst[i];
            rx_note_again(worker, &worker->burst[left++]);
        }
    }
    return left;
}

static void rx_burst(struct torc_worker *worker, const struct rx_item *items, uint32_t count)
{
    struct rx_candidate candidates[TORC_WORKER_BURST];
    uint32_t candidate_count = 0;
    uint32_t packet_count = 0;
    uint32_t nodes = 0;
    bool many = worker->admit->shedding && worker->admit->pressed;

    torc_assert(count <= TORC_WORKER_BURST);
    if (torc_unlikely(many)) {
        rx_prefetch_accounts(worker, items, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (torc_unlikely(many) && rx_is_passed_over(worker, &items[i])) {
            continue;
        }
        candidate_count += rx_frame(worker, &items[i], &candidates[candidate_count]) ? 1 : 0;
    }
    worker->get_count = 0;
    for (uint32_t i = 0; i < candidate_count; i++) {
        if (rx_check(worker, &candidates[i], &worker->burst[packet_count])) {
            if (torc_unlikely(worker->confirm != NULL) &&
                torc_worker_confirm_keeps(worker, &worker->burst[packet_count])) {
                continue;
            }
            torc_worker_note_gets(worker, &worker->burst[packet_count]);
            nodes += rx_is_of_node(&worker->burst[packet_count]) ? 1 : 0;
            packet_count++;
        }
    }
    worker->tx_owed -= count - packet_count;
    if (torc_unlikely(nodes > 0)) {
        packet_count = rx_nodes_first(worker, packet_count);
    }
    torc_worker_look_up(worker);
    for (uint32_t i = 0; i < packet_count; i++) {
        struct torc_packet *packet = &worker->burst[i];

        if (packet->late && worker->late_count < TORC_WORKER_LATE) {
            worker->late[worker->late_count++] = *packet;
            continue;
        }
        worker->tx_owed--;
        torc_worker_answer_packet(worker, packet);
    }
}

static void rx_own(struct torc_worker *worker)
{
    const struct torc_turn *turn = worker->turn;
    struct rx_item items[TORC_WORKER_BURST];
    uint32_t count = 0;

    for (uint32_t i = 0; i < turn->rx_count; i++) {
        const struct torc_frame_rx *rx = &turn->rx[i];

        items[count++] = (struct rx_item){.bytes = rx->bytes,
                                          .byte_count = rx->byte_count,
                                          .port = rx->port,
                                          .flags = rx->flags,
                                          .arrived_ns = worker->now_ns};
        __builtin_prefetch(rx->bytes);
        __builtin_prefetch(rx->bytes + 64);
        if (count == TORC_WORKER_BURST || i + 1 == turn->rx_count) {
            rx_burst(worker, items, count);
            count = 0;
        }
    }
}

// Takes frames from one worker's ring; their slots are given back when the turn ends, because
// packets with ranges are read until then.
static void rx_handed(struct torc_worker *worker, uint32_t from, uint32_t count)
{
    struct torc_spsc_port *ring = &worker->handed_in[from];
    struct rx_item items[TORC_WORKER_BURST];
    uint32_t filled = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct torc_handover_frame *slot = torc_spsc_slot(ring, ring->near + i);

        if (slot->byte_count > ring->slot_bytes - sizeof(*slot) ||
            slot->port >= worker->config.port_count) {
            torc_worker_drop(worker, TORC_DROP_L2_SHORT);
            worker->tx_owed--;
        } else {
            items[filled++] = (struct rx_item){.bytes = slot->bytes,
                                               .byte_count = slot->byte_count,
                                               .port = slot->port,
                                               .flags = slot->flags,
                                               .handed = true,
                                               .arrived_ns = slot->arrived_ns};
        }
        if (filled == TORC_WORKER_BURST || (i + 1 == count && filled > 0)) {
            rx_burst(worker, items, filled);
            filled = 0;
        }
    }
}

// How many of the first `ready` frames of a ring arrived before the time of this turn was taken: a
// lease may be counted only for those (REPLICATION.md, L3). The others are next turn's.
static uint32_t rx_handed_ripe(const struct torc_worker *worker, const struct torc_spsc_port *ring,
                               uint32_t ready)
{
    uint32_t ripe = 0;

    while (ripe < ready) {
        const struct torc_handover_frame *slot = torc_spsc_read_at(ring, ripe);

        if (slot->arrived_ns > worker->now_ns) {
            break;
        }
        ripe++;
    }
    return ripe;
}

// How many frames each ring gives this turn.
static uint32_t rx_handed_count(struct torc_worker *worker, uint32_t *counts, uint32_t room,
                                uint32_t *waiting)
{
    uint32_t total = 0;

    torc_assert(worker->count > 0);
    for (uint32_t i = 0; i < worker->count; i++) {
        uint32_t from = (worker->handed_first + i) % worker->count;
        uint32_t ready = from == worker->index
                             ? 0
                             : torc_spsc_readable(&worker->handed_in[from], TORC_HANDOVER_SLOTS);

        counts[from] = ready < room - total ? ready : room - total;
        counts[from] = rx_handed_ripe(worker, &worker->handed_in[from], counts[from]);
        total += counts[from];
        *waiting += ready - counts[from];
        worker->turn->more = worker->turn->more || counts[from] < ready;
    }
    worker->handed_first = (worker->handed_first + 1) % worker->count;
    return total;
}

// How long requests have waited, which is held against their deadlines. Load is another thing: a
// core that was not scheduled has waiting requests and no load.
static void rx_measure(struct torc_worker *worker, uint32_t frames, uint32_t waiting)
{
    struct torc_admit_queue queue = {.now_ns = worker->now_ns,
                                     .frames = frames,
                                     .waiting = waiting,
                                     .full = frames >= TORC_TURN_RX_MAX || waiting > 0};

    torc_admit_turn(worker->admit, &queue);
    worker->queue_delay_ns = worker->admit->age_ns;
    worker->last_frames = frames;
    worker->last_ns = worker->now_ns;
    torc_stats_set(&worker->stats->gauges[TORC_GAUGE_QUEUE_DELAY_US],
                   worker->queue_delay_ns / 1000);
}

// Those that run last: they have ranges, which must not stand before anybody's point request.
static void rx_late(struct torc_worker *worker)
{
    for (uint32_t i = 0; i < worker->late_count; i++) {
        struct torc_packet *packet = &worker->late[i];

        worker->tx_owed--;
        torc_worker_answer_packet(worker, packet);
    }
    worker->late_count = 0;
}

void torc_worker_receive(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    uint32_t counts[TORC_WORKERS_MAX + 1];
    uint32_t room = turn->tx_room - turn->tx_count;
    uint32_t waiting = turn->rx_waiting;
    uint32_t handed;

    room = room > turn->rx_count ? room - turn->rx_count : 0;
    handed = rx_handed_count(
        worker, counts, room < TORC_WORKER_HANDED_MAX ? room : TORC_WORKER_HANDED_MAX, &waiting);
    rx_measure(worker, turn->rx_count + handed, waiting);
    worker->tx_owed = turn->rx_count + handed;
    rx_own(worker);
    for (uint32_t from = 0; from < worker->count; from++) {
        if (counts[from] > 0) {
            rx_handed(worker, from, counts[from]);
        }
    }
    rx_late(worker);
    torc_assert(worker->tx_owed == 0);
    torc_worker_confirm_release(worker);
    torc_assert(worker->tx_owed == 0);
    for (uint32_t from = 0; from < worker->count; from++) {
        if (counts[from] > 0) {
            torc_spsc_release(&worker->handed_in[from], counts[from]);
        }
    }
}
