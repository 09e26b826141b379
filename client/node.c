// Torc client: nodes and the sessions with them: their beginning, rollover, what NOSESSION means,
// packets that come; see engine_state.h.
//
// Sources WIRE.md, sections 1 to 4. Hints (RETRY, REFUSE, NOSESSION) change what is tried next,
//         never a live session.
#include "client/engine_state.h"
#include "wire/frame.h"

#define SECOND_NS    UINT64_C(1000000000)
#define AHEAD_FOR_NS SECOND_NS // what a CLOCK_AHEAD said is believed: clocks may be set

// ---- Where they are

static uint32_t place_choices(const struct torc_client_place *place)
{
    return place->by_core ? 1 : place->count;
}

static uint32_t node_choices(const struct torc_client_node *node)
{
    return place_choices(&node->place) + place_choices(&node->news);
}

static bool place_is(const struct torc_client_place *place, const struct torc_client_place *told)
{
    return place->count == told->count && place->by_core == told->by_core &&
           place->base_port == told->base_port &&
           memcmp(place->addresses, told->addresses, 16ull * told->count) == 0;
}

// What a map answer says about where a node is. A place that works is kept, as we may have come to
// it by another address than the node's own, and so is one of before; whoever does not answer in
// one place is looked for in the other.
void torc_node_learn(struct torc_engine *engine, const struct torc_node_entry *entry)
{
    struct torc_client_node *node = torc_node_of_id(engine, entry->node);
    struct torc_client_place told = {
        .count = (uint8_t)torc_min_u64(entry->address_count, TORC_NODE_ADDRESSES),
        .by_core = (entry->flags & TORC_NODE_ADDRESS_BY_CORE) != 0 &&
                   entry->address_count <= TORC_NODE_ADDRESSES,
        .base_port = entry->base_port};

    if (node == NULL) {
        node = torc_node_add(engine, entry->node);
    }
    if (node == NULL || entry->address_count == 0) {
        return;
    }
    memcpy(told.addresses, entry->addresses, 16ull * told.count);
    if (node->state != TORC_NODE_UP) {
        torc_node_cores(node, entry->cores);
    }
    if (node->place.count == 0) {
        node->place = told;
    } else if (!place_is(&node->place, &told)) {
        node->news = told;
        node->turn_to = node->turn_to < node_choices(node) ? node->turn_to : node->address;
    }
}

static void place_at(const struct torc_client_place *place, uint32_t address, uint8_t core,
                     struct torc_endpoint *to)
{
    memcpy(to->address, place->addresses[address], sizeof(to->address));
    to->port = (uint16_t)(place->base_port + core);
}

void torc_node_where(const struct torc_client_node *node, uint8_t core, struct torc_endpoint *to)
{
    uint32_t at = node->place.by_core ? core : node->address;

    place_at(&node->place, at < node->place.count ? at : 0, core, to);
}

void torc_node_where_init(const struct torc_client_node *node, struct torc_endpoint *to)
{
    uint32_t first = place_choices(&node->place);

    if (node->turn_to < first) {
        place_at(&node->place, node->turn_to, 0, to);
    } else {
        place_at(&node->news, node->turn_to - first, 0, to);
    }
}

void torc_node_turn(struct torc_client_node *node)
{
    node->turn_to = (uint8_t)((node->turn_to + 1u) % node_choices(node));
}

void torc_node_answered(struct torc_client_node *node, const struct torc_endpoint *from)
{
    uint8_t turn = node->turn_to;

    for (uint32_t i = 0; i < node_choices(node); i++) {
        struct torc_endpoint at;

        node->turn_to = (uint8_t)i;
        torc_node_where_init(node, &at);
        if (at.port == from->port && memcmp(at.address, from->address, 16) == 0) {
            return;
        }
    }
    node->turn_to = turn; // it answers from elsewhere: to the last one, most likely
}

// The place that answered is the node's. The one before stays among those that are tried.
static void node_place_set(struct torc_client_node *node, uint16_t base_port)
{
    uint32_t first = place_choices(&node->place);

    if (node->turn_to >= first) {
        struct torc_client_place before = node->place;

        node->place = node->news;
        node->news = before;
        node->turn_to = (uint8_t)(node->turn_to - first);
    }
    node->address = node->turn_to;
    node->place.base_port = base_port;
}

void torc_node_name(const struct torc_client_node *node, char text[TORC_NODE_NAME_BYTES])
{
    struct torc_endpoint place;
    const uint8_t *ip = place.address;
    int at = 0;

    torc_node_where_init(node, &place); // what is spoken of is tried
    if (torc_ip_is_mapped(ip)) {
        (void)snprintf(text, TORC_NODE_NAME_BYTES, "%u.%u.%u.%u:%u", ip[12], ip[13], ip[14], ip[15],
                       place.port);
        return;
    }
    for (uint32_t i = 0; i < 16; i += 2) {
        at += snprintf(text + at, TORC_NODE_NAME_BYTES - (uint32_t)at, "%s%x", i == 0 ? "[" : ":",
                       ip[i] << 8 | ip[i + 1]);
    }
    (void)snprintf(text + at, TORC_NODE_NAME_BYTES - (uint32_t)at, "]:%u", place.port);
}

bool torc_node_has_work(const struct torc_client_node *node)
{
    return (node->waiting[0] | node->waiting[1] | node->waiting[2] | node->waiting[3]) != 0;
}

// ---- Time

void torc_node_arm(struct torc_engine *engine, const struct torc_client_node *node)
{
    uint64_t at_ns = UINT64_MAX;

    if (node->shaking) {
        at_ns = node->shake_at_ns;
    }
    if (node->renew_ns != 0 && !node->shaking) {
        at_ns = torc_min_u64(at_ns, node->renew_ns);
    }
    if (node->has_previous) {
        at_ns = torc_min_u64(at_ns, node->previous_ns);
    }
    if (node->mtu.check_due) {
        at_ns = torc_min_u64(at_ns, node->mtu.check_ns);
    }
    if (at_ns != UINT64_MAX) {
        torc_wheel_set(&engine->wheel, engine->op_count + node->index, at_ns);
    }
}

void torc_node_timer(struct torc_engine *engine, struct torc_client_node *node)
{
    if (node->shaking && engine->now_ns >= node->shake_at_ns) {
        torc_node_shake_timer(engine, node);
    }
    if (node->renew_ns != 0 && engine->now_ns >= node->renew_ns) {
        node->renew_ns = engine->now_ns + TORC_SHAKE_EVERY_NS;
        torc_node_shake(engine, node, NULL);
    }
    if (node->has_previous && engine->now_ns >= node->previous_ns) {
        node->previous_close_due = true;
        torc_node_stir(engine, node);
        node->previous_ns = UINT64_MAX;
    }
    torc_mtu_timer(engine, node);
    torc_node_arm(engine, node);
}

// ---- A session begins

static void hlc_seen(struct torc_engine *engine, uint64_t hlc)
{
    if (hlc > engine->hlc) {
        engine->hlc = hlc;
        engine->hlc_at_ns = engine->now_ns;
    }
}

uint64_t torc_engine_hlc(const struct torc_engine *engine)
{
    if (engine->hlc == 0) {
        return torc_hlc_from_us(engine->wall_us);
    }
    return engine->hlc + ((engine->now_ns - engine->hlc_at_ns) / 1000 << TORC_HLC_COUNTER_BITS);
}

void torc_node_ahead(const struct torc_engine *engine, struct torc_client_node *node,
                     uint64_t clock_hlc)
{
    node->ahead_ns = engine->now_ns;
    node->ahead_us = torc_hlc_us(clock_hlc) + TORC_DATA_AHEAD_US;
}

// The highest HLC that the node has to take for it.
static uint64_t op_hlc(const struct torc_engine *engine, const struct torc_op *op)
{
    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET: return torc_max_u64(op->hlc, op->ts);
    case TORC_OP_WRITE: return torc_max_u64(op->hlc, op->stamp);
    case TORC_OP_SCAN: return torc_max_u64(op->hlc, engine->ops[op->parent].page->ts);
    case TORC_OP_STATUS:
    case TORC_OP_PAGE:
    case TORC_OP_MAP:
    case TORC_OP_PROBE:
    case TORC_OP_SCOUT: break;
    }
    return 0;
}

uint64_t torc_node_takes_ns(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_client_node *node = &engine->nodes[op->node];
    uint64_t until_ns = node->ahead_ns + AHEAD_FOR_NS;
    uint64_t needed_us;
    uint64_t taken_us;

    if (node->ahead_ns == 0 || engine->now_ns >= until_ns) {
        return engine->now_ns;
    }
    needed_us = torc_hlc_us(op_hlc(engine, op));
    taken_us = node->ahead_us + (engine->now_ns - node->ahead_ns) / 1000;
    if (needed_us <= taken_us) {
        return engine->now_ns;
    }
    return torc_min_u64(until_ns, engine->now_ns + (needed_us - taken_us) * 1000);
}

// What flies on a session that the node no longer has goes again on the new one, and so does what
// waits for a core that the node no longer has.
static void node_resend(struct torc_engine *engine, const struct torc_client_node *node)
{
    for (uint32_t index = 0; index < engine->op_count; index++) {
        struct torc_op *op = &engine->ops[index];

        if (op->node == node->index &&
            (op->state == TORC_OP_SENT || op->state == TORC_OP_STREAMING ||
             (op->state == TORC_OP_QUEUED && (op->big != NULL || op->core >= node->cores)))) {
            op->backoff = 0;
            torc_op_route(engine, index);
        }
    }
}

static void engine_limits_learn(struct torc_engine *engine, const struct torc_accept *accept)
{
    engine->cluster = accept->cluster;
    engine->keys = accept->key_count;
    engine->value_bytes_max = accept->value_bytes_max;
    engine->deadline_ns_max = (uint64_t)accept->deadline_ms_max * 1000000;
    engine->write_window = torc_min_u64(torc_max_u64(accept->write_window, 1), TORC_WSEQ_SPAN - 1);
    hlc_seen(engine, accept->hlc);
}

void torc_node_previous_end(struct torc_client_node *node)
{
    node->has_previous = false;
    node->previous_close_due = false;
    torc_lane_wipe(&node->previous);
}

// Operations in flight end in the session that they went out in: it goes on receiving until the
// last of them has met its deadline.
static void node_session_keep(struct torc_engine *engine, struct torc_client_node *node)
{
    node->previous = node->lane;
    node->has_previous = true;
    node->previous_close_due = false;
    node->previous_ns = engine->now_ns + engine->deadline_ns_max;
}

static void node_session_set(struct torc_engine *engine, struct torc_client_node *node,
                             const struct torc_accept *accept)
{
    uint64_t age_ns = (uint64_t)accept->age_s * SECOND_NS;

    if (node->state == TORC_NODE_UP) {
        node_session_keep(engine, node);
    }
    node->session++;
    torc_lane_init(&node->lane, accept, node->shake.init.client_index, 0,
                   accept->suite == TORC_SUITE_CLEAR ? NULL : &node->shake.keys,
                   engine->config.aead);
    torc_node_named(engine, node, accept->node);
    node->boot = accept->boot;
    node->limits = *accept;
    torc_node_cores(node, (uint8_t)accept->cores);
    node_place_set(node, accept->base_port);
    memcpy(node->ticket, accept->ticket, TORC_COOKIE_BYTES);
    node->has_ticket = true;
    node->heard_ns = engine->now_ns;
    node->window_max =
        (uint32_t)torc_min_u64(torc_max_u64(accept->packets_max, 1), TORC_WINDOW_PACKETS)
        << TORC_WINDOW_SHIFT;
    node->window = (uint32_t)torc_min_u64(node->window, node->window_max);
    node->window_before = 0;
    // At 80 % of its age, give or take: many clients that came at once must not come back at once.
    node->renew_ns =
        engine->now_ns + age_ns / 10 * 7 + torc_rng_below(&engine->rng, age_ns / 10 * 2 + 1);
    node->shaking = false;
    node->init_due = false;
    node->state = TORC_NODE_UP;
    engine->counters.handshakes++;
}

// False: it is another cluster's, or a node that has a session already under another address.
static bool node_is_wanted(struct torc_engine *engine, struct torc_client_node *node,
                           const struct torc_accept *accept)
{
    struct torc_client_node *other = torc_node_of_id(engine, accept->node);

    if (engine->cluster != 0 && engine->cluster != accept->cluster) {
        (void)torc_fail(&engine->trouble, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32 " belongs to another cluster than the first one found",
                        accept->node);
        node->state = node->state == TORC_NODE_UP ? TORC_NODE_UP : TORC_NODE_GONE;
        return false;
    }
    if (other == NULL || other == node) {
        return true;
    }
    if (other->state == TORC_NODE_UP) {
        node->state = TORC_NODE_GONE;
        return false;
    }
    other->state = TORC_NODE_GONE;
    other->shaking = false;
    return true;
}

void torc_node_accepted(struct torc_engine *engine, struct torc_client_node *node,
                        const struct torc_accept *accept)
{
    bool had = node->state == TORC_NODE_UP;
    bool resend = had && (node->session_lost || node->boot != accept->boot);
    uint32_t ping;

    if (!node_is_wanted(engine, node, accept)) {
        node->shaking = false;
        torc_handshake_wipe(&node->shake);
        return;
    }
    engine_limits_learn(engine, accept);
    node_session_set(engine, node, accept);
    torc_handshake_wipe(&node->shake);
    node->session_lost = false;
    engine->trouble.text[0] = '\0';
    if (engine->first_node == UINT32_MAX) {
        engine->first_node = node->index;
    }
    if (resend) {
        torc_node_previous_end(node);
        node_resend(engine, node);
    }
    torc_mtu_session(engine, node);
    if (had) { // one that sends nothing for 5 s is dropped again
        (void)torc_node_ping(engine, node, TORC_PAYLOAD_MIN, &ping); // no slot: others send
    }
    if (accept->map_version > engine->map.version || engine->map.count == 0) {
        torc_route_ask(engine);
    }
    torc_node_arm(engine, node);
    while (engine->unnumbered.count > 0 &&
           engine->wseq_next - engine->wseq_low < engine->write_window) {
        torc_op_route(engine, engine->unnumbered.head);
    }
    torc_engine_unpark(engine);
}

// The node has no such session, it seems. Too soon after another such hint: looked into later.
static void node_lost(struct torc_engine *engine, struct torc_client_node *node,
                      const uint8_t *cookie)
{
    node->session_lost = true;
    if (!node->shaking && engine->now_ns < node->shake_again_ns) {
        node->renew_ns = torc_min_u64(node->renew_ns, node->shake_again_ns);
        torc_node_arm(engine, node);
        return;
    }
    torc_node_shake(engine, node, cookie);
}

// A hint: believed when it echoes a packet that flies, and then only as a reason for a handshake.
static void nosession_receive(struct torc_engine *engine, const uint8_t *payload, uint32_t bytes)
{
    struct torc_nosession nosession;

    if (torc_nosession_decode(&nosession, payload, bytes, NULL) == TORC_ERR_OK) {
        for (uint32_t i = 0; i < engine->node_count; i++) {
            struct torc_client_node *node = &engine->nodes[i];

            struct torc_packet_name name = {
                .seq = nosession.seq, .core = nosession.core, .session = node->session};

            if (node->state == TORC_NODE_UP && node->lane.session_index == nosession.index &&
                torc_packet_find(engine, node, &name) != TORC_OP_NONE) {
                node_lost(engine, node, nosession.cookie);
                return;
            }
        }
    }
    engine->counters.packets_ignored++;
}

// ---- Replies

// The server did not take the packet of that name, for load or because it was malformed.
static void packet_refused(struct torc_engine *engine, struct torc_client_node *node,
                           const struct torc_packet_name *name, const struct torc_shed_news *news)
{
    uint32_t index = torc_packet_find(engine, node, name);
    struct torc_packet *packet;

    if (index == TORC_OP_NONE) {
        return;
    }
    packet = &engine->packets[index];
    torc_packet_drop(engine, index);
    torc_path_refused(engine, node);
    if (packet->stream != TORC_OP_NONE) {
        uint32_t stream = packet->stream;
        uint32_t piece = packet->piece;

        torc_packet_end(engine, index);
        torc_big_shed(engine, stream, piece, news);
        return;
    }
    // One that ends may take others along: a page's reads lie in one packet.
    for (uint32_t left = packet->ops.count; left > 0 && packet->ops.count > 0; left--) {
        uint32_t at = packet->ops.head;
        uint32_t attempts = engine->ops[at].attempts;

        torc_call_refused(engine, at, attempts > 0 ? attempts - 1 : 0, news->status,
                          news->retry_us);
    }
}

static void shed_receive(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                         const struct torc_reply *reply)
{
    struct torc_packet_name name = {
        .seq = reply->info, .core = core, .session = engine->reply_session};
    struct torc_shed shed;

    if (torc_shed_decode(reply, &shed)) {
        packet_refused(engine, node, &name,
                       &(struct torc_shed_news){.status = (enum torc_err)reply->status,
                                                .retry_us = shed.retry_us});
    }
}

// Nobody opened them, so this proves nothing about a write: only packets that read are meant.
static void unread_receive(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                           const struct torc_reply *reply)
{
    struct torc_packet_name name = {.core = core, .session = engine->reply_session};
    struct torc_unread unread;

    if (!torc_unread_decode(reply, &unread)) {
        return;
    }
    for (; unread.bitmap != 0; unread.bitmap &= unread.bitmap - 1) {
        uint32_t index;

        name.seq = reply->info + (uint32_t)__builtin_ctzll(unread.bitmap);
        index = torc_packet_find(engine, node, &name);
        if (index != TORC_OP_NONE && !engine->packets[index].is_write) {
            packet_refused(
                engine, node, &name,
                &(struct torc_shed_news){.status = TORC_ERR_BUSY, .retry_us = unread.retry_us});
        }
    }
}

// Whether an answer belongs to a sending before the newest, or to the newest that was given up.
static bool reply_is_of_earlier(const struct torc_engine *engine, const struct torc_op *op)
{
    if (op->state != TORC_OP_SENT) {
        return op->state == TORC_OP_WAITING || op->state == TORC_OP_QUEUED;
    }
    return (int32_t)((uint32_t)(engine->packets[op->packet].sent_ns / 1000) -
                     engine->reply_clock_us) > 0;
}

// Whether the request that a reply answers left since the operation began. Numbers of operations
// come round again, and an answer may be late by any time: what was sent before was another's. The
// clock of the wire comes round too, after 71 minutes, which no answer is late by; so both are
// counted back from now. Who began and sent in one microsecond did so with the same reading.
static bool reply_is_of(const struct torc_engine *engine, const struct torc_op *op)
{
    uint64_t now_us = engine->now_ns / 1000;
    uint32_t sent_ago_us = (uint32_t)now_us - engine->reply_clock_us;

    return sent_ago_us <= now_us - op->begun_ns / 1000;
}

static void reply_receive(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                          const struct torc_reply *reply)
{
    uint32_t index;
    struct torc_op *op;

    if (reply->opcode == TORC_OPCODE_SHED) {
        shed_receive(engine, node, core, reply);
        return;
    }
    if (reply->opcode == TORC_OPCODE_UNREAD) {
        unread_receive(engine, node, core, reply);
        return;
    }
    index = torc_op_find(engine, reply->op_id);
    if (index == TORC_OP_NONE || reply->opcode >= TORC_OPCODE_SHED) {
        return; // an answer that came twice, an entry that was read before, or news to us
    }
    op = &engine->ops[index];
    if (!reply_is_of(engine, op)) {
        engine->counters.packets_ignored++;
        return;
    }
    if (op->backoff > 0 && reply_is_of_earlier(engine, op)) {
        torc_path_not_lost(node);
    }
    if (op->state == TORC_OP_SENT && !engine->packets[op->packet].is_long) {
        torc_packet_answered(engine, op->packet);
        if (op->kind == TORC_OP_WRITE && reply->status == TORC_ERR_OK &&
            (op->attempts == 1 || !reply_is_of_earlier(engine, op))) {
            torc_packet_written(engine, index);
        }
    }
    torc_call_reply(engine, index, reply);
}

static void sample_take(struct torc_engine *engine, struct torc_client_node *node,
                        const struct torc_data *data, bool is_write)
{
    uint32_t rtt_us = (uint32_t)(engine->now_ns / 1000) - data->clock_us;
    uint64_t rtt_ns = (uint64_t)rtt_us * 1000;

    if (rtt_ns > 10 * SECOND_NS) {
        return; // an echo of no request of ours that is still of interest
    }
    rtt_ns = rtt_ns > data->hold_ns ? rtt_ns - data->hold_ns : 1;
    torc_path_sample(engine, node, data->core, rtt_ns, data->hold_ns, is_write);
}

static void replies_receive(struct torc_engine *engine, struct torc_client_node *node,
                            const struct torc_data *data, const uint8_t *ops, uint32_t bytes)
{
    struct torc_reply reply;
    uint32_t offset = 0;
    bool is_write = false;
    bool is_traced = false;

    // Map entries first: a WRONG_SHARD stands before the entry that says where to go.
    while (torc_reply_next(ops, bytes, &offset, &reply)) {
        if (torc_unlikely(reply.opcode == TORC_OPCODE_MAP_ENTRY ||
                          reply.opcode == TORC_OPCODE_NODE_ENTRY)) {
            torc_route_entry(engine, &reply);
        }
        is_write |= reply.opcode == (TORC_OPCODE_PUT | TORC_REPLY_BIT) ||
                    reply.opcode == (TORC_OPCODE_DELETE | TORC_REPLY_BIT);
        is_traced |= reply.opcode == TORC_OPCODE_TRACE;
    }
    sample_take(engine, node, data, is_write);
    engine->reply_core = data->core;
    engine->reply_clock_us = data->clock_us;
    engine->marked = TORC_OP_NONE;
    offset = 0;
    while (torc_reply_next(ops, bytes, &offset, &reply)) {
        if (is_traced) {
            torc_trace_mark(engine, reply.op_id, ops + offset, bytes - offset);
        }
        reply_receive(engine, node, data->core, &reply);
    }
    engine->marked = TORC_OP_NONE;
    if (engine->redirect_due) {
        torc_route_redirect(engine);
    }
}

static void data_receive(struct torc_engine *engine, uint8_t *payload, uint32_t bytes)
{
    uint32_t at = torc_data_peek_index(payload) & ((1u << TORC_NODE_INDEX_BITS) - 1);
    struct torc_client_node *node = at < engine->node_count ? &engine->nodes[at] : NULL;
    struct torc_lane *lane = NULL;
    struct torc_data data;

    if (node != NULL && node->state == TORC_NODE_UP) {
        engine->reply_session = node->session;
        engine->reply_node = node->index;
        if (torc_lane_matches(&node->lane, payload, bytes)) {
            lane = &node->lane;
        } else if (node->has_previous && torc_lane_matches(&node->previous, payload, bytes)) {
            lane = &node->previous;
            engine->reply_session--;
        }
    }
    if (lane == NULL || torc_lane_open(lane, payload, bytes, &data) != TORC_DROP_NONE) {
        engine->counters.packets_ignored++;
        return;
    }
    node->heard_ns = engine->now_ns;
    torc_mtu_heard(engine, node);
    hlc_seen(engine, data.hlc);
    if ((data.flags & TORC_DATA_CONGESTION) != 0) {
        torc_path_ce(engine, node);
    }
    engine->counters.handoffs += (data.flags & TORC_DATA_HANDOFF) != 0 ? 1 : 0;
    replies_receive(engine, node, &data, payload + TORC_DATA_HEAD_BYTES,
                    bytes - TORC_DATA_OVERHEAD);
}

// `from` proves nothing: echoes of our random numbers, tokens and checks do. Of those that hold it
// says where a node was reached.
void torc_node_receive(struct torc_engine *engine, const struct torc_endpoint *from,
                       uint8_t *payload, uint32_t bytes)
{
    enum torc_payload_kind kind = TORC_PAYLOAD_NEWER;
    uint8_t type = 0;

    if (torc_payload_classify(payload, bytes, &kind, &type) == TORC_DROP_NONE &&
        kind == TORC_PAYLOAD_PACKET) {
        if ((type == TORC_TYPE_CLEAR || type == TORC_TYPE_DATA) && bytes >= TORC_DATA_BYTES_MIN) {
            data_receive(engine, payload, bytes);
            return;
        }
        if (type == TORC_TYPE_NOSESSION) {
            nosession_receive(engine, payload, bytes);
            return;
        }
    }
    torc_handshake_packet(engine, from, payload, bytes); // VERSION answers have version 0
}
