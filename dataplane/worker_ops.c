// Torc dataplane: the operations of a packet, one after another; see worker.h.
#include "dataplane/worker_state.h"

#include <string.h>

// The role that an operation needs; 0: none.
static uint32_t op_role(uint8_t opcode)
{
    switch (opcode) {
    case TORC_OPCODE_PUT:
    case TORC_OPCODE_DELETE:
    case TORC_OPCODE_FRAG:
    case TORC_OPCODE_FRAG_QUERY: return TORC_ROLE_WRITE;
    case TORC_OPCODE_GET:
    case TORC_OPCODE_PULL:
    case TORC_OPCODE_CLOCK:
    case TORC_OPCODE_STATUS:
    case TORC_OPCODE_RANGE_READ:
    case TORC_OPCODE_RANGE_OPEN:
    case TORC_OPCODE_RANGE_CREDIT:
    case TORC_OPCODE_RANGE_CLOSE: return TORC_ROLE_READ;
    default: return 0;
    }
}

// Roles first, then key ranges; a text says what is missing. Counted.
static bool op_may(struct torc_worker *worker, const struct torc_packet *packet,
                   const struct torc_request *request, struct torc_fail *why)
{
    uint32_t role = op_role(request->opcode);
    uint64_t lo = request->key;
    uint64_t hi = request->key + 1;

    switch (request->opcode) {
    case TORC_OPCODE_CLOCK:
    case TORC_OPCODE_RANGE_READ:
    case TORC_OPCODE_RANGE_OPEN:
        lo = request->lo;
        hi = request->hi;
        break;
    case TORC_OPCODE_PUT:
    case TORC_OPCODE_DELETE:
    case TORC_OPCODE_FRAG:
    case TORC_OPCODE_FRAG_QUERY:
    case TORC_OPCODE_GET:
    case TORC_OPCODE_PULL: break;
    default: lo = hi = TORC_WORKER_NO_KEYS;
    }
    if (torc_worker_may(worker, packet, role, lo, hi)) {
        return true;
    }
    if (role != 0 && (packet->session->roles & role) == 0) {
        (void)torc_fail(why, TORC_ERR_FORBIDDEN, "principal %" PRIu32 " lacks the role %s",
                        packet->session->principal, role == TORC_ROLE_READ ? "read" : "write");
    } else {
        (void)torc_fail(why, TORC_ERR_FORBIDDEN,
                        "keys %" PRIu64 " to %" PRIu64 " are not principal %" PRIu32 "'s", lo, hi,
                        packet->session->principal);
    }
    return false;
}

// A write is asked for its rights when all is known that was done of it (torc_shard_write).
static bool op_is_write(uint8_t opcode)
{
    return opcode == TORC_OPCODE_PUT || opcode == TORC_OPCODE_DELETE;
}

// Whether it touches records: then the node must be serving.
static bool op_is_data(uint8_t opcode)
{
    return opcode == TORC_OPCODE_CLOCK || opcode == TORC_OPCODE_PULL ||
           opcode == TORC_OPCODE_FRAG || opcode == TORC_OPCODE_FRAG_QUERY ||
           (opcode >= TORC_OPCODE_GET && opcode <= TORC_OPCODE_RANGE_CLOSE);
}

uint32_t torc_worker_op_owed(const unsigned char *op, uint32_t length)
{
    switch (op[0]) {
    case TORC_OPCODE_NOP: return 0;
    case TORC_OPCODE_PING: return torc_op_padded(length);
    case TORC_OPCODE_COOKIE: return TORC_REPLY_HEAD_BYTES + TORC_COOKIE_BYTES;
    case TORC_OPCODE_RANGE_READ:
    case TORC_OPCODE_RANGE_OPEN: return TORC_REPLY_HEAD_BYTES + TORC_ROWS_COUNT_BYTES;
    case TORC_OPCODE_MAP:
    case TORC_OPCODE_GET:
    case TORC_OPCODE_PUT:
    case TORC_OPCODE_DELETE:
    case TORC_OPCODE_FRAG: return TORC_WRITE_REPLY_BYTES; // of the PUT that it completes
    default: return TORC_REPLY_HEAD_BYTES;
    }
}

static void op_ping(struct torc_worker *worker, struct torc_answer *answer,
                    const struct torc_request *request)
{
    uint32_t room = torc_answer_room(worker, answer, TORC_REPLY_HEAD_BYTES,
                                     TORC_REPLY_HEAD_BYTES + request->data_bytes);
    struct torc_reply reply = {.opcode = TORC_OPCODE_PING | TORC_REPLY_BIT,
                               .status = TORC_ERR_OK,
                               .op_id = request->op_id,
                               .info = torc_hlc_from_us(worker->wall_us),
                               .body = request->data};

    if (room == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    reply.body_bytes = request->data_bytes < room - TORC_REPLY_HEAD_BYTES
                           ? request->data_bytes
                           : room - TORC_REPLY_HEAD_BYTES;
    torc_answer_put(worker, answer, &reply);
}

static void op_cookie(struct torc_worker *worker, const struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_cookie_bearer bearer = {.principal = packet->session->principal};
    uint8_t cookie[TORC_COOKIE_BYTES];
    struct torc_reply reply = {.opcode = TORC_OPCODE_COOKIE | TORC_REPLY_BIT,
                               .status = TORC_ERR_OK,
                               .op_id = request->op_id,
                               .body = cookie,
                               .body_bytes = sizeof(cookie)};
    uint32_t bytes = TORC_REPLY_HEAD_BYTES + TORC_COOKIE_BYTES;

    if (torc_answer_room(worker, answer, bytes, bytes) == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    memcpy(bearer.ip, packet->to.path.ip, sizeof(bearer.ip));
    torc_cookie_make(&worker->cookie_keys, TORC_COOKIE_TICKET, &bearer, worker->wall_s, cookie);
    torc_answer_put(worker, answer, &reply);
}

static void op_cancel(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request)
{
    bool range = torc_jobs_cancel(worker, packet->to.serial, request->target);
    bool found = range || torc_worker_cancel_write(worker, packet->to.serial, request->target);

    torc_answer_status(worker, answer, request->opcode, request->op_id,
                       found ? TORC_ERR_OK : TORC_ERR_NOT_FOUND, 0);
}

static void op_close(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request)
{
    packet->closing = true;
    torc_answer_status(worker, answer, request->opcode, request->op_id, TORC_ERR_OK, 0);
}

// Tells the session thread. When its ring is full the session idles out instead.
static void packet_close_session(struct torc_worker *worker, const struct torc_packet *packet)
{
    struct torc_spsc_port *ring = &worker->to_thread[TORC_SESSION_RING_END];
    struct torc_session_note *note;

    if (torc_spsc_writable(ring, 1) == 0) {
        return;
    }
    note = torc_spsc_write_at(ring, 0);
    memset(note, 0, offsetof(struct torc_session_note, bytes));
    note->kind = TORC_SESSION_NOTE_END;
    note->index = packet->to.index;
    torc_spsc_publish(ring, 1);
    worker->notified = true;
}

static void op_run(struct torc_worker *worker, struct torc_packet *packet,
                   struct torc_answer *answer, const struct torc_request *request)
{
    bool is_owed; // it is answered, now or later

    switch ((enum torc_opcode)request->opcode) {
    case TORC_OPCODE_NOP: return;
    case TORC_OPCODE_PING: op_ping(worker, answer, request); return;
    case TORC_OPCODE_CANCEL: op_cancel(worker, packet, answer, request); return;
    case TORC_OPCODE_CLOSE: op_close(worker, packet, answer, request); return;
    case TORC_OPCODE_COOKIE: op_cookie(worker, packet, answer, request); return;
    case TORC_OPCODE_STATUS: torc_worker_status(worker, answer, request); return;
    case TORC_OPCODE_MAP: torc_worker_map(worker, packet, answer, request); return;
    case TORC_OPCODE_CLOCK: torc_worker_clock(worker, answer, request); return;
    case TORC_OPCODE_PULL: torc_worker_pull(worker, packet, answer, request); return;
    case TORC_OPCODE_FRAG: torc_worker_put_piece(worker, packet, answer, request); return;
    case TORC_OPCODE_FRAG_QUERY: torc_worker_put_query(worker, packet, answer, request); return;
    case TORC_OPCODE_GET: torc_worker_get(worker, packet, answer, request); return;
    case TORC_OPCODE_PUT:
        if ((request->flags & TORC_WRITE_FRAGMENTED) != 0) {
            torc_worker_put_begin(worker, packet, answer, request);
            return;
        }
        (void)torc_worker_write(worker, packet, answer, request, &is_owed);
        return;
    case TORC_OPCODE_DELETE:
        (void)torc_worker_write(worker, packet, answer, request, &is_owed);
        return;
    case TORC_OPCODE_RANGE_READ:
    case TORC_OPCODE_RANGE_OPEN: torc_jobs_begin(worker, packet, answer, request); return;
    case TORC_OPCODE_RANGE_CREDIT: torc_jobs_credit(worker, packet, answer, request); return;
    case TORC_OPCODE_RANGE_CLOSE: torc_jobs_close(worker, packet, answer, request); return;
    case TORC_OPCODE_SHED:
    case TORC_OPCODE_MAP_ENTRY:
    case TORC_OPCODE_NODE_ENTRY:
    case TORC_OPCODE_TRACE:
    case TORC_OPCODE_UNREAD: break;
    }
    torc_unreachable("torc_request_decode knows requests only");
}

// An answer that says no more than a status; of writes with their attempt.
static void op_refuse(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request,
                      enum torc_err err, uint64_t info)
{
    struct torc_shard_outcome outcome = {.err = err, .info = info};

    if (op_is_write(request->opcode)) {
        torc_worker_write_answer(worker, packet, answer, request, &outcome);
    } else {
        torc_answer_status(worker, answer, request->opcode, request->op_id, err, info);
    }
}

void torc_worker_forbid(struct torc_worker *worker, struct torc_packet *packet,
                        struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_fail why;
    bool may = op_may(worker, packet, request, &why);

    torc_assert(!may);
    if (packet->tight) {
        op_refuse(worker, packet, answer, request, TORC_ERR_FORBIDDEN, 0);
    } else {
        torc_answer_text(worker, answer, request, &why);
    }
}

// Since `from`, at least `least`: a clock's corrections are not to be seen.
static uint32_t trace_mark(uint64_t at_ns, uint64_t from_ns, uint32_t least)
{
    uint64_t since_ns = at_ns > from_ns ? at_ns - from_ns : 0;

    return (uint32_t)torc_min_u64(torc_max_u64(since_ns, least), UINT32_MAX);
}

void torc_worker_trace(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                       const struct torc_trace_times *times)
{
    uint64_t from_ns = answer->to->arrived_ns;
    struct torc_trace_marks marks;
    unsigned char body[TORC_TRACE_BYTES];
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_TRACE, .op_id = op_id, .body = body, .body_bytes = TORC_TRACE_BYTES};
    uint32_t bytes = torc_op_padded(TORC_REPLY_HEAD_BYTES + TORC_TRACE_BYTES);

    // Optional: never at the cost of an answer that is owed.
    if (answer->payload == NULL ||
        answer->used_bytes + answer->owed_bytes + bytes > answer->limit_bytes) {
        return;
    }
    marks.dequeued_ns = trace_mark(times->dequeued_ns, from_ns, 0);
    marks.tree_ns = trace_mark(times->tree_ns, from_ns, marks.dequeued_ns);
    marks.logged_ns = trace_mark(times->logged_ns, from_ns, marks.tree_ns);
    marks.durable_ns = trace_mark(times->durable_ns, from_ns, marks.logged_ns);
    marks.sent_ns = trace_mark(torc_worker_trace_ns(worker), from_ns, marks.durable_ns);
    torc_trace_body(body, &marks);
    torc_answer_put(worker, answer, &reply);
}

// Of an operation that was answered at once.
static void op_trace(struct torc_worker *worker, struct torc_answer *answer,
                     const struct torc_request *request)
{
    uint64_t tree_ns = worker->looked_up_ns > worker->taken_ns ? worker->looked_up_ns
                                                               : torc_worker_trace_ns(worker);

    torc_worker_trace(worker, answer, request->op_id,
                      &(struct torc_trace_times){worker->taken_ns, tree_ns, tree_ns, tree_ns});
}

static void op_answer(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const unsigned char *op, uint32_t length)
{
    struct torc_request request;
    struct torc_fail why;
    enum torc_err err = torc_request_decode(&request, op, length, &why);
    uint32_t role = op_role(request.opcode);
    bool traced = (request.flags & TORC_FLAG_TRACE) != 0;
    uint64_t info = 0;

    torc_stats_add(&worker->stats->ops[request.opcode], 1);
    if (torc_unlikely(traced)) {
        worker->taken_ns = torc_worker_trace_ns(worker);
    }
    if (packet->clock_ahead && request.opcode != TORC_OPCODE_NOP) {
        op_refuse(worker, packet, answer, &request, TORC_ERR_CLOCK_AHEAD,
                  torc_hlc_from_us(worker->wall_us));
        return;
    }
    if (err == TORC_ERR_FORBIDDEN) {
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_FORBIDDEN_ROLE], 1);
    }
    if (err == TORC_ERR_OK && !op_is_write(request.opcode) &&
        !op_may(worker, packet, &request, &why)) {
        err = TORC_ERR_FORBIDDEN;
    }
    if (err != TORC_ERR_OK && packet->tight) {
        op_refuse(worker, packet, answer, &request, err, 0);
        return;
    }
    if (err != TORC_ERR_OK) {
        torc_answer_text(worker, answer, &request, &why);
        return;
    }
    if (op_is_data(request.opcode) && !torc_worker_serves(worker, &info)) {
        op_refuse(worker, packet, answer, &request, TORC_ERR_UNAVAILABLE, info);
        return;
    }
    if (torc_worker_is_late(worker, request.budget_us) && request.opcode != TORC_OPCODE_NOP) {
        op_refuse(worker, packet, answer, &request, TORC_ERR_DEADLINE, 0);
        return;
    }
    op_run(worker, packet, answer, &request);
    if (torc_unlikely(traced) && role != TORC_ROLE_WRITE) {
        op_trace(worker, answer, &request);
    }
}

void torc_worker_answer_packet(struct torc_worker *worker, struct torc_packet *packet)
{
    struct torc_framing framing = {.bytes = packet->ops, .byte_count = packet->ops_bytes};
    struct torc_answer answer;
    const unsigned char *op;
    uint32_t length;
    uint32_t gets = 0;

    if (!torc_answer_begin(worker, &answer, &packet->to)) {
        return;
    }
    answer.owed_bytes = packet->owed_bytes;
    torc_worker_writes_begin(worker, packet, &answer);
    while (torc_framing_next(&framing, &op, &length)) {
        answer.owed_bytes -= torc_worker_op_owed(op, length);
        if (!packet->late && !packet->clock_ahead && torc_worker_is_plain_get(op, length)) {
            torc_worker_get_noted(worker, packet, &answer, op);
            gets++;
        } else if (!torc_opcode_is_peer(op[0]) ||
                   !torc_worker_peers_op(worker, packet, op, length)) {
            op_answer(worker, packet, &answer, op, length);
        }
    }
    torc_stats_add(&worker->stats->ops[TORC_OPCODE_GET], gets);
    worker->reads_now += packet->read_count;
    torc_worker_writes_end(worker, packet, &answer);
    if (packet->closing) {
        packet_close_session(worker, packet);
    }
}
