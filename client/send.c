// Torc client: packets to a node: operations and pieces of values in payloads, header and trailer;
// see engine_state.h.
//
// Sources WIRE.md, section 3. A packet is sealed where it was built, in the transmit buffer.
#include "client/engine_state.h"
#include "kit/bugs.h"

static bool op_is_long(const struct torc_op *op)
{
    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET: return op->big != NULL;
    case TORC_OP_WRITE: return false;
    case TORC_OP_STATUS:
    case TORC_OP_PAGE:
    case TORC_OP_SCAN:
    case TORC_OP_MAP:
    case TORC_OP_SCOUT:
    case TORC_OP_PROBE: return true;
    }
    torc_unreachable("a kind of the enum");
}

struct build {
    struct torc_engine *engine;
    struct torc_client_node *node;
    uint8_t *payload;
    uint32_t room;        // for operations
    uint32_t at;          // of it used
    uint32_t reply_bytes; // to allow
    uint32_t ops;
    uint64_t hlc; // of its operations
    uint32_t packet;
    uint8_t core;
    bool is_write;
    bool may_drop; // it only reads
};

// Header and trailer; the packet is in flight.
static uint32_t build_seal(const struct build *build, uint32_t reply_payload)
{
    struct torc_engine *engine = build->engine;
    struct torc_packet *packet = &engine->packets[build->packet];
    uint32_t space = reply_payload - TORC_DATA_OVERHEAD;
    uint64_t packets = torc_max_u64((build->reply_bytes + space - 1) / space, 1);
    // Answers are never shorter than what was asked: the credit covers the request itself.
    uint64_t own = (build->at + TORC_DATA_OVERHEAD + reply_payload - 1) / reply_payload;
    struct torc_data data = {
        .core = build->core,
        .clock_us = (uint32_t)(engine->now_ns / 1000),
        .hlc = TORC_BUG(CLIENT_WITHOUT_HLC) ? 0 : build->hlc,
        .reply_bytes = (uint16_t)(build->may_drop ? (reply_payload & ~7u) | TORC_REPLY_BYTES_DROP
                                                  : reply_payload),
        .reply_packets = (uint16_t)torc_min_u64(torc_max_u64(packets, own), UINT16_MAX)};

    packet->bytes = torc_lane_seal(&build->node->lane, build->payload, build->at, &data);
    packet->seq = data.seq;
    packet->inbound = reply_payload * data.reply_packets;
    engine->inbound += packet->inbound;
    if (torc_lane_is_worn(&build->node->lane, packet->bytes)) {
        torc_node_shake(engine, build->node, NULL);
    }
    return packet->bytes;
}

// One operation into the packet; false when it does not fit any more.
static bool build_add(struct build *build, uint32_t index)
{
    struct torc_engine *engine = build->engine;
    struct torc_op *op = &engine->ops[index];
    uint32_t bytes = torc_call_bytes(op);
    uint32_t reply_bytes = torc_call_reply_bytes(engine, op);
    bool is_long = op_is_long(op);

    if (build->ops > 0 && (is_long || build->at + bytes > build->room ||
                           build->reply_bytes + reply_bytes > TORC_INBOUND_BYTES / 4)) {
        return false;
    }
    build->at += torc_call_encode(engine, index, build->payload + TORC_DATA_HEAD_BYTES + build->at);
    torc_assert(build->at <= engine->config.payload_bytes - TORC_DATA_OVERHEAD);
    build->reply_bytes += reply_bytes;
    build->ops++;
    build->hlc = torc_max_u64(build->hlc, op->hlc);
    build->may_drop &= op->kind == TORC_OP_GET || op->kind == TORC_OP_SCAN;
    torc_op_sent(engine, index, build->packet);
    engine->packets[build->packet].is_long |= is_long;
    return !is_long;
}

static uint32_t build_points(struct build *build, struct torc_list *queue)
{
    struct torc_engine *engine = build->engine;
    struct torc_client_path *path = &build->node->paths[build->core];
    uint32_t payload = build->node->payload;

    bool is_probe = engine->ops[queue->head].kind == TORC_OP_PROBE;

    if (is_probe) {
        payload = engine->ops[queue->head].bytes;
    }
    build->packet = torc_packet_open(engine, build->node, build->core, build->is_write);
    engine->packets[build->packet].is_probe = is_probe;
    build->node->probes += is_probe ? 1 : 0;
    build->may_drop = true;
    while (queue->count > 0 && build->ops < build->node->limits.packet_ops_max &&
           (build->ops == 0 || path->ops_in_flight < build->node->limits.core_ops_max)) {
        if (build->ops > 0 && torc_call_gives_up(engine, &engine->ops[queue->head])) {
            torc_op_wait(engine, queue->head, UINT64_MAX);
            continue;
        }
        if (build->is_write && torc_big_wanted(engine, &engine->ops[queue->head])) {
            break;
        }
        if (!build_add(build, queue->head)) {
            break;
        }
    }
    engine->counters.ops_sent += build->ops;
    torc_budget_sent(engine, build->ops);
    return build_seal(build, payload);
}

// A piece of a large value.
static uint32_t build_piece(struct build *build, uint32_t index)
{
    struct torc_engine *engine = build->engine;
    uint32_t piece = TORC_OP_NONE;
    bool is_last;

    if (engine->ops[index].big == NULL) {
        torc_big_begin(engine, index);
    }
    build->packet = torc_packet_open(engine, build->node, build->core, true);
    build->at = torc_big_encode(engine, index, build->payload + TORC_DATA_HEAD_BYTES, &piece);
    is_last = ((build->node->in_flight + 1 - build->node->probes) << TORC_WINDOW_SHIFT) >=
                  build->node->window ||
              torc_big_turn_ends(&engine->ops[index], piece);
    if (piece != TORC_OP_NONE && is_last) {
        // The last one for now, or the one before, in case that one is lost: the answer is what
        // opens the window again.
        build->at += torc_big_ask(engine, index, build->payload + TORC_DATA_HEAD_BYTES + build->at);
    }
    engine->packets[build->packet].stream = index;
    engine->packets[build->packet].piece = piece;
    build->reply_bytes = 1;
    build->hlc = engine->ops[index].hlc;
    torc_big_sent(engine, index);
    engine->counters.ops_sent++;
    torc_budget_sent(engine, 1);
    return build_seal(build, build->node->payload);
}

// Pieces of a size that has become too large are no more sent: the value begins again.
static void path_refit(struct torc_engine *engine, const struct torc_list *queue)
{
    while (queue->count > 0 && engine->ops[queue->head].big != NULL &&
           !torc_big_fits(engine, &engine->ops[queue->head])) {
        torc_op_route(engine, queue->head);
    }
}

// What is not to be sent any more: a refused write whose answer would leave it in doubt; and, where
// more waits than fits into a packet, what is late, for it would take the place of others for
// nobody. It ends at its deadline.
static void path_skip_late(struct torc_engine *engine, const struct torc_client_node *node,
                           const struct torc_client_path *path, const struct torc_list *queue)
{
    while (queue->count > 0) {
        const struct torc_op *op = &engine->ops[queue->head];

        if (!torc_call_gives_up(engine, op) &&
            (queue->count <= node->limits.packet_ops_max || !torc_path_is_late(engine, path, op))) {
            return;
        }
        torc_op_wait(engine, queue->head, UINT64_MAX);
    }
}

// What carries an HLC that the node is known not to take yet is not sent: it would keep others in
// its packet from being done.
static void path_skip_ahead(struct torc_engine *engine, const struct torc_client_node *node,
                            const struct torc_list *queue)
{
    uint32_t index = queue->head;

    for (uint32_t kept = 0; index != TORC_OP_NONE && kept < node->limits.packet_ops_max;) {
        struct torc_op *op = &engine->ops[index];
        uint32_t next = op->next;
        uint64_t at_ns;

        if (op->kind == TORC_OP_WRITE && op->stamp == 0) {
            op->stamp = torc_engine_hlc(engine); // from now on the same: else it rose with the wait
        }
        at_ns = torc_node_takes_ns(engine, op);
        if (at_ns > engine->now_ns && op->big == NULL) { // pieces: the node took what was first
            op->last_refusal = TORC_ERR_CLOCK_AHEAD;
            torc_op_wait(engine, index, at_ns);
        } else {
            kept++;
        }
        index = next;
    }
}

static bool transmit_path(struct torc_engine *engine, struct torc_client_node *node, uint32_t slot,
                          struct torc_datagram *datagram)
{
    struct build build = {.engine = engine,
                          .node = node,
                          .payload = datagram->payload,
                          .room = node->payload - TORC_DATA_OVERHEAD,
                          .core = (uint8_t)(slot / 2),
                          .is_write = slot % 2 == 1};
    struct torc_client_path *path = &node->paths[build.core];
    struct torc_list *queue = &path->queues[slot % 2];

    path_refit(engine, queue);
    path_skip_late(engine, node, path, queue);
    if (node->ahead_ns != 0) {
        path_skip_ahead(engine, node, queue);
        path_skip_late(engine, node, path, queue);
    }
    if (queue->count == 0 || path->ops_in_flight >= node->limits.core_ops_max) {
        return false;
    }
    if (build.is_write && torc_big_wanted(engine, &engine->ops[queue->head])) {
        datagram->bytes = build_piece(&build, queue->head);
    } else {
        datagram->bytes = build_points(&build, queue);
    }
    torc_node_where(node, build.core, &datagram->to);
    return true;
}

static void transmit_close(struct torc_engine *engine, struct torc_client_node *node,
                           struct torc_lane *lane, struct torc_datagram *datagram)
{
    struct torc_request request = {.opcode = TORC_OPCODE_CLOSE};
    struct torc_data data = {.clock_us = (uint32_t)(engine->now_ns / 1000),
                             .reply_bytes = TORC_PAYLOAD_MIN,
                             .reply_packets = 1};
    uint32_t bytes = torc_request_encode(datagram->payload + TORC_DATA_HEAD_BYTES, &request);

    datagram->bytes = torc_lane_seal(lane, datagram->payload, bytes, &data);
    torc_node_where(node, 0, &datagram->to);
}

// Of the session before, then of the live one.
static bool transmit_closes(struct torc_engine *engine, struct torc_client_node *node,
                            struct torc_datagram *datagram)
{
    if (node->previous_close_due && node->has_previous) {
        transmit_close(engine, node, &node->previous, datagram);
        torc_node_previous_end(node);
        return true;
    }
    if (node->close_due) {
        node->close_due = false;
        transmit_close(engine, node, &node->lane, datagram);
        return true;
    }
    return false;
}

// A probe asks whether anything large gets through: it does not wait for a window that what does
// not get through has filled, nor behind operations that wait for it.
static bool transmit_probe(struct torc_engine *engine, struct torc_client_node *node,
                           struct torc_datagram *datagram)
{
    const struct torc_client_mtu *mtu = &node->mtu;
    const uint32_t probes[] = {mtu->op, mtu->control}; // the small one leaves behind the other

    for (uint32_t i = 0; i < TORC_COUNT_OF(probes) && torc_node_may_probe(engine, node); i++) {
        if (probes[i] != TORC_OP_NONE && engine->ops[probes[i]].state == TORC_OP_QUEUED) {
            torc_op_queue(engine, probes[i], true);
            return transmit_path(engine, node, 0, datagram);
        }
    }
    return false;
}

bool torc_node_transmit(struct torc_engine *engine, struct torc_client_node *node,
                        struct torc_datagram *datagram)
{
    uint32_t slots = 2u * node->cores;

    if (node->init_due) {
        node->init_due = false;
        memcpy(datagram->payload, node->shake.packet, TORC_INIT_BYTES);
        datagram->bytes = TORC_INIT_BYTES;
        torc_node_where_init(node, &datagram->to);
        return true;
    }
    if (node->state != TORC_NODE_UP) {
        return false;
    }
    if (transmit_closes(engine, node, datagram) || transmit_probe(engine, node, datagram)) {
        return true;
    }
    for (uint32_t turn = 0; turn < slots && torc_node_has_work(node); turn++) {
        uint32_t slot = (node->turn + turn) % slots;

        if (!torc_node_may_send(engine, node)) {
            return false;
        }
        if ((node->waiting[slot / 128] >> (slot / 2 % 64) & 1) == 1 &&
            transmit_path(engine, node, slot, datagram)) {
            node->turn = slot + 1;
            return true;
        }
    }
    return false;
}
