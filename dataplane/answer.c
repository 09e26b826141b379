// Torc dataplane: packets to clients; see answer.h.
#include "dataplane/answer.h"

#include "dataplane/worker_state.h"

#include <string.h>

static uint32_t answer_head_bytes(const struct torc_path *path)
{
    return TORC_ETHER_BYTES + (path->is_ipv6 ? TORC_IPV6_BYTES : TORC_IPV4_BYTES) + TORC_UDP_BYTES;
}

uint32_t torc_answer_payload_max(const struct torc_worker *worker, const struct torc_path *path)
{
    return worker->ports[path->port].mtu + TORC_ETHER_BYTES - answer_head_bytes(path);
}

// Writes the headers around a payload that lies in its place in the buffer, and counts it as sent.
static void answer_send(struct torc_worker *worker, struct torc_frame_tx *tx,
                        const struct torc_path *path, uint32_t payload_bytes)
{
    const struct torc_worker_port *port = &worker->ports[path->port];
    struct torc_frame_udp udp = {.source_port =
                                     (uint16_t)(worker->config.base_port + worker->index),
                                 .destination_port = path->udp_port,
                                 .ip_offload = (port->offloads & TORC_FRAME_IP_OFFLOAD) != 0,
                                 .l4_offload = (port->offloads & TORC_FRAME_L4_OFFLOAD) != 0};

    memcpy(udp.source_mac, port->mac, sizeof(udp.source_mac));
    memcpy(udp.destination_mac, path->mac, sizeof(udp.destination_mac));
    memcpy(udp.source_ip, path->is_ipv6 ? worker->ip6 : worker->ip4, sizeof(udp.source_ip));
    memcpy(udp.destination_ip, path->ip, sizeof(udp.destination_ip));
    tx->byte_count = torc_frame_udp_write(tx->bytes, &udp, payload_bytes);
    torc_assert(tx->byte_count <= tx->room);
    tx->port = path->port;
    tx->flags = port->offloads;
    tx->l2_bytes = TORC_ETHER_BYTES;
    tx->l3_bytes = path->is_ipv6 ? TORC_IPV6_BYTES : TORC_IPV4_BYTES;
    worker->turn->tx_count++;
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_TX_PACKETS], 1);
    torc_stats_add(&worker->stats->counters[TORC_COUNTER_TX_BYTES], tx->byte_count);
}

bool torc_answer_bare(struct torc_worker *worker, const struct torc_path *path, const void *bytes,
                      uint32_t byte_count)
{
    struct torc_turn *turn = worker->turn;
    struct torc_frame_tx *tx = &turn->tx[turn->tx_count];

    if (turn->tx_count >= turn->tx_room) {
        return false;
    }
    memcpy(tx->bytes + answer_head_bytes(path), bytes, byte_count);
    answer_send(worker, tx, path, byte_count);
    return true;
}

void torc_answer_place(struct torc_worker *worker, const struct torc_path *path,
                       const unsigned char *payload, uint32_t byte_count)
{
    struct torc_turn *turn = worker->turn;
    struct torc_frame_tx *tx = &turn->tx[turn->tx_count];
    unsigned char *to = tx->bytes + answer_head_bytes(path);

    torc_assert(turn->tx_count < turn->tx_room);
    if (to != payload) {
        memmove(to, payload, byte_count);
    }
    answer_send(worker, tx, path, byte_count);
}

bool torc_answer_begin(struct torc_worker *worker, struct torc_answer *answer,
                       struct torc_answer_to *to)
{
    struct torc_session *session = torc_session_find(worker->sessions, to->index);
    uint32_t payload_max;

    if (session == NULL || session->serial != to->serial) {
        return false;
    }
    payload_max = torc_answer_payload_max(worker, &to->path);
    payload_max = payload_max < session->payload_max ? payload_max : session->payload_max;
    payload_max = payload_max < to->reply_bytes ? payload_max : to->reply_bytes;
    answer->to = to;
    answer->session = session;
    answer->tx = NULL;
    answer->payload = NULL;
    answer->used_bytes = 0;
    answer->limit_bytes = (payload_max & ~7u) - TORC_DATA_TAG_BYTES;
    answer->owed_bytes = 0;
    answer->packets_kept = 0;
    answer->held = false;
    return true;
}

void torc_answer_hold(struct torc_answer *answer, unsigned char *payload, uint32_t used_bytes,
                      uint32_t room_bytes)
{
    torc_assert(answer->payload == NULL);
    answer->payload = payload;
    answer->used_bytes = used_bytes;
    answer->held = true;
    answer->limit_bytes = answer->limit_bytes < room_bytes ? answer->limit_bytes : room_bytes;
}

// `spare`: a packet beyond what each frame of the burst is entitled to.
static bool answer_may_open(const struct torc_worker *worker, const struct torc_answer *answer,
                            bool spare)
{
    const struct torc_turn *turn = worker->turn;

    return !answer->held && answer->to->packets_left > answer->packets_kept &&
           turn->tx_count + (spare ? worker->tx_owed + 1 : 0) < turn->tx_room;
}

static void answer_open(struct torc_worker *worker, struct torc_answer *answer)
{
    struct torc_turn *turn = worker->turn;

    torc_assert(turn->tx_count < turn->tx_room);
    answer->tx = &turn->tx[turn->tx_count];
    answer->payload = answer->tx->bytes + answer_head_bytes(&answer->to->path);
    answer->used_bytes = TORC_DATA_HEAD_BYTES;
    answer->to->packets_left--;
}

// Which packets of the session were dropped unread, where there is room to say so.
static void answer_tell(struct torc_worker *worker, struct torc_answer *answer)
{
    struct torc_unread unread = {.retry_us = torc_worker_retry_us(worker)};
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_UNREAD, .status = TORC_ERR_BUSY, .body_bytes = TORC_UNREAD_BYTES};
    unsigned char body[TORC_UNREAD_BYTES];

    if (answer->used_bytes + TORC_REPLY_HEAD_BYTES + TORC_UNREAD_BYTES > answer->limit_bytes ||
        !torc_admit_tell(worker->admit, answer->to->index, &reply.info, &unread.bitmap)) {
        return;
    }
    torc_unread_body(body, &unread);
    reply.body = body;
    torc_answer_put(worker, answer, &reply);
}

// Under load: says what was dropped, and what is left is for notices that go alone. Nothing is left
// by those.
static void answer_loaded(struct torc_worker *worker, struct torc_answer *answer)
{
    bool alone = answer->used_bytes == TORC_DATA_HEAD_BYTES;

    answer_tell(worker, answer);
    if (!alone) {
        torc_admit_leave(worker->admit, answer->to->index,
                         answer->limit_bytes - answer->used_bytes);
    }
}

void torc_answer_notice(struct torc_worker *worker, struct torc_answer_to *to)
{
    struct torc_answer answer;

    to->reply_bytes = TORC_PAYLOAD_MIN;
    to->packets_left = 1;
    to->flags = 0; // they were said
    if (torc_answer_begin(worker, &answer, to)) {
        answer_open(worker, &answer);
        torc_answer_close(worker, &answer);
    }
}

void torc_answer_close(struct torc_worker *worker, struct torc_answer *answer)
{
    struct torc_answer_to *to = answer->to;
    struct torc_session_line *line;
    struct torc_data data;
    struct torc_seal seal;
    uint64_t hold_ns = worker->now_ns - to->arrived_ns;

    torc_assert(!answer->held);
    if (answer->payload == NULL) {
        return;
    }
    if (torc_unlikely(worker->admit->shedding || worker->admit->untold > 0)) {
        answer_loaded(worker, answer);
    }
    torc_assert(answer->used_bytes >= TORC_DATA_HEAD_BYTES + TORC_REPLY_HEAD_BYTES);
    line = torc_session_line_at(worker->sessions, worker->index,
                                to->index & ((1u << TORC_SESSION_SLOT_BITS) - 1));
    torc_assert(torc_session_line_serial(line) == to->serial);
    data = (struct torc_data){
        .type = torc_data_type(answer->session->suite),
        .core = (uint8_t)worker->index,
        .flags = (uint8_t)(TORC_DATA_FROM_RESPONDER | to->flags),
        .index = answer->session->client_index,
        .clock_us = to->clock_us,
        .seq = torc_session_line_send(line),
        .hlc = worker->pool.hlc,
        .hold_ns = (uint32_t)torc_min_u64(hold_ns, UINT32_MAX),
    };
    torc_data_encode(answer->payload, &data);
    seal = torc_session_seal(worker->sessions, answer->session, TORC_TO_CLIENT);
    answer_send(worker, answer->tx, &to->path,
                torc_data_seal(&seal, answer->payload, answer->used_bytes));
    answer->payload = NULL;
    answer->tx = NULL;
}

uint32_t torc_answer_room(struct torc_worker *worker, struct torc_answer *answer, uint32_t least,
                          uint32_t want)
{
    uint32_t capacity = answer->limit_bytes - TORC_DATA_HEAD_BYTES;
    uint32_t left = answer->to->packets_left - answer->packets_kept;
    uint32_t free_bytes;
    uint64_t total;

    least = torc_op_padded(least);
    want = torc_op_padded(want);
    want = want < capacity ? want : capacity;
    torc_assert(least <= want || least > capacity);
    if (answer->payload == NULL && answer_may_open(worker, answer, false)) {
        answer_open(worker, answer);
        left--;
    }
    free_bytes = answer->payload == NULL ? 0 : answer->limit_bytes - answer->used_bytes;
    // Another packet: when this one is too full for even the least, or when all that is owed fits
    // into what is then left.
    if (want > free_bytes && answer->payload != NULL && answer->tx != NULL &&
        answer_may_open(worker, answer, true) &&
        (least > free_bytes || (uint64_t)left * capacity >= (uint64_t)answer->owed_bytes + want)) {
        torc_answer_close(worker, answer);
        answer_open(worker, answer);
        left--;
        free_bytes = capacity;
    }
    if (least > free_bytes) {
        return 0;
    }
    total = free_bytes + (answer->held ? 0 : (uint64_t)left * capacity);
    total = total > answer->owed_bytes ? total - answer->owed_bytes : 0;
    free_bytes = (uint32_t)torc_min_u64(free_bytes, total) & ~7u;
    // What is owed to others may be over-estimated; the least is this one's right.
    free_bytes = free_bytes > least ? free_bytes : least;
    return free_bytes < want ? free_bytes : want;
}

void torc_answer_put(struct torc_worker *worker, struct torc_answer *answer,
                     const struct torc_reply *reply)
{
    uint32_t bytes = torc_reply_encode(torc_answer_at(answer), reply);

    answer->used_bytes += bytes;
    torc_assert(answer->used_bytes <= answer->limit_bytes);
    torc_stats_add(&worker->stats->replies[reply->status], 1);
}

void torc_answer_status(struct torc_worker *worker, struct torc_answer *answer, uint8_t opcode,
                        uint32_t op_id, enum torc_err status, uint64_t info)
{
    struct torc_reply reply = {.opcode = (uint8_t)(opcode | TORC_REPLY_BIT),
                               .status = (uint8_t)status,
                               .op_id = op_id,
                               .info = info};

    if (torc_answer_room(worker, answer, TORC_REPLY_HEAD_BYTES, TORC_REPLY_HEAD_BYTES) == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    torc_answer_put(worker, answer, &reply);
}

void torc_answer_text(struct torc_worker *worker, struct torc_answer *answer,
                      const struct torc_request *request, const struct torc_fail *why)
{
    uint32_t text_bytes = (uint32_t)strnlen(why->text, sizeof(why->text));
    struct torc_reply reply = {.opcode = (uint8_t)(request->opcode | TORC_REPLY_BIT),
                               .status = (uint8_t)why->err,
                               .op_id = request->op_id,
                               .body = (const unsigned char *)why->text};
    bool write = request->opcode == TORC_OPCODE_PUT || request->opcode == TORC_OPCODE_DELETE;
    unsigned char body[8 + TORC_FAIL_TEXT_BYTES];
    uint32_t least = write ? TORC_WRITE_REPLY_BYTES : TORC_REPLY_HEAD_BYTES;
    uint32_t room = torc_answer_room(worker, answer, least, least + text_bytes);

    if (room == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    reply.body_bytes = text_bytes < room - least ? text_bytes : room - least;
    if (write) {
        torc_write_reply_body(body, request->attempt);
        memcpy(body + 8, why->text, reply.body_bytes);
        reply.body = body;
        reply.body_bytes += 8;
    }
    torc_answer_put(worker, answer, &reply);
}
