// Torc client: one operation's way: encoded, answered, tried again, ended at its deadline.
//
// Sources REPLICATION.md, section 12 (E1, K1 to K4); WIRE.md, sections 3 and 4.
#include "client/engine_state.h"
#include "kit/bugs.h"

#define GET_BYTES         24u
#define GET_AT_BYTES      32u
#define WRITE_BYTES       48u
#define CONDITION_BYTES   8u
#define REFUSED_FIRST_NS  UINT64_C(1000000)    // 1 ms, doubling
#define REFUSED_LAST_NS   UINT64_C(1000000000) // to 1 s
#define ELSEWHERE_LAST_NS UINT64_C(64000000)   // where another may serve it: to 64 ms
#define ELSEWHERE_TRIES   100u                 // and 1 s after so many
#define CIRCLE_STEPS      3u                   // the shard's node, its core, once more
#define SILENCE_NS        UINT64_C(1000000000) // then a handshake asks whether the node is there
#define CLIENT_PROBE_NS   UINT64_C(8000000)    // then other nodes are asked who has its shards
#define BACKOFF_MAX       10u
#define MAP_REPLY_PACKETS 8u

// ---- Encoding

uint32_t torc_call_bytes(const struct torc_op *op)
{
    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET: return op->ts != 0 ? GET_AT_BYTES : GET_BYTES;
    case TORC_OP_WRITE:
        return WRITE_BYTES + (op->condition == TORC_IF_VERSION ? CONDITION_BYTES : 0) +
               torc_op_padded(op->bytes);
    case TORC_OP_PROBE: return op->bytes - TORC_DATA_OVERHEAD;
    case TORC_OP_SCOUT:
    case TORC_OP_STATUS:
    case TORC_OP_PAGE:
    case TORC_OP_SCAN:
    case TORC_OP_MAP: break;
    }
    return 64; // more than any of them
}

uint32_t torc_call_reply_bytes(const struct torc_engine *engine, const struct torc_op *op)
{
    uint32_t payload = engine->nodes[op->node].payload;
    uint32_t trace = op->traced ? torc_op_padded(TORC_REPLY_HEAD_BYTES + TORC_TRACE_BYTES) : 0;

    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET:
        if (op->big != NULL) {
            return torc_pull_pieces(engine, op) * payload;
        }
        return trace + TORC_REPLY_HEAD_BYTES +
               ((op->flags & TORC_VERSION_ONLY) != 0
                    ? 0
                    : torc_op_padded(engine->value_mean + engine->value_mean / 4 + 8));
    case TORC_OP_WRITE: return trace + TORC_WRITE_REPLY_BYTES;
    case TORC_OP_SCAN: return torc_scan_credit(engine, op) * payload;
    case TORC_OP_MAP: return MAP_REPLY_PACKETS * payload;
    case TORC_OP_STATUS:
    case TORC_OP_PAGE:
    case TORC_OP_SCOUT:
    case TORC_OP_PROBE: break;
    }
    return payload - TORC_DATA_OVERHEAD;
}

static uint32_t call_budget_us(const struct torc_engine *engine, const struct torc_op *op)
{
    uint64_t left_ns = op->deadline_ns > engine->now_ns ? op->deadline_ns - engine->now_ns : 1;

    left_ns = torc_min_u64(left_ns, engine->deadline_ns_max);
    return (uint32_t)torc_min_u64(torc_max_u64(left_ns / 1000, 1), UINT32_MAX);
}

void torc_call_request(const struct torc_engine *engine, uint32_t index,
                       struct torc_request *request)
{
    const struct torc_op *op = &engine->ops[index];

    *request = (struct torc_request){.op_id = torc_op_id(engine, index),
                                     .budget_us = call_budget_us(engine, op),
                                     .key = op->key};
}

void torc_call_attempt(struct torc_engine *engine, uint32_t index, struct torc_request *request)
{
    static const uint8_t conditions[] = {[TORC_ALWAYS] = 0,
                                         [TORC_IF_ABSENT] = TORC_WRITE_IF_ABSENT,
                                         [TORC_IF_PRESENT] = TORC_WRITE_IF_PRESENT,
                                         [TORC_IF_VERSION] = TORC_WRITE_IF_VERSION};
    struct torc_op *op = &engine->ops[index];

    torc_assert(op->wseq != 0);
    torc_assert(op->attempts < TORC_TRIES_MAX);
    if (op->stamp == 0) {
        op->stamp = torc_engine_hlc(engine);
    }
    if (op->epoch > op->sent_epoch) {
        op->sent_epoch = op->epoch;
        op->first_at_epoch = op->attempts;
    }
    if (op->attempts == 0 || op->sent_node != op->node ||
        op->sent_session != engine->nodes[op->node].session) {
        op->sent_node = op->node;
        op->sent_session = engine->nodes[op->node].session;
        op->first_in_session = op->attempts;
    }
    request->opcode = op->is_delete ? TORC_OPCODE_DELETE : TORC_OPCODE_PUT;
    request->flags = conditions[op->condition];
    request->attempt = (uint8_t)op->attempts;
    request->epoch = op->epoch;
    request->version = op->asked_version;
    request->wseq = op->wseq;
    request->stamp = op->stamp;
    request->lowest = engine->wseq_low;
    op->attempts++;
}

static uint32_t plain_get_encode(const struct torc_engine *engine, uint32_t index, uint8_t *to)
{
    const struct torc_op *op = &engine->ops[index];
    struct torc_plain_get get = {
        .key = op->key,
        .op_id = torc_op_id(engine, index),
        .budget_us = call_budget_us(engine, op),
        .epoch = op->epoch,
        .flags = (op->flags & TORC_VERSION_ONLY) != 0 ? TORC_GET_VERSION_ONLY : 0};

    torc_plain_get_encode(to, &get);
    return TORC_PLAIN_GET_BYTES;
}

uint32_t torc_call_encode(struct torc_engine *engine, uint32_t index, uint8_t *to)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_request request;

    if (op->kind == TORC_OP_GET && op->big == NULL && op->ts == 0 && op->age_ms == 0 &&
        !op->traced) {
        return plain_get_encode(engine, index, to);
    }
    torc_call_request(engine, index, &request);
    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET:
        if (op->big != NULL) {
            return torc_pull_encode(engine, index, to);
        }
        request.opcode = TORC_OPCODE_GET;
        request.flags =
            (uint8_t)(((op->flags & TORC_VERSION_ONLY) != 0 ? TORC_GET_VERSION_ONLY : 0u) |
                      (op->ts != 0 ? TORC_GET_AT : 0u) | (op->age_ms != 0 ? TORC_GET_STALE : 0u));
        request.ts = op->ts;
        request.epoch = op->epoch;
        request.max_age_ms = op->age_ms;
        break;
    case TORC_OP_WRITE:
        torc_call_attempt(engine, index, &request);
        request.data = op->data;
        request.data_bytes = op->bytes;
        break;
    case TORC_OP_STATUS:
        request.opcode = TORC_OPCODE_STATUS;
        request.offset = op->bytes;
        break;
    case TORC_OP_SCAN: torc_scan_request(engine, index, &request); break;
    case TORC_OP_MAP:
        request.opcode = TORC_OPCODE_MAP;
        request.lo = op->key;
        request.hi = op->hi;
        break;
    case TORC_OP_SCOUT:
        request.opcode = TORC_OPCODE_MAP;
        request.lo = op->key;
        request.hi = op->key + 1;
        request.entries_max = 1;
        break;
    case TORC_OP_PROBE:
        request.opcode = TORC_OPCODE_PING;
        request.data_bytes = op->bytes - TORC_DATA_OVERHEAD - TORC_REQUEST_HEAD_BYTES;
        request.data = to + TORC_REQUEST_HEAD_BYTES; // zeros, in place
        memset(to + TORC_REQUEST_HEAD_BYTES, 0, request.data_bytes);
        break;
    case TORC_OP_PAGE: torc_unreachable("a page sends its scans");
    }
    if (op->traced) {
        request.flags |= TORC_FLAG_TRACE;
        op->sends++;
    }
    return torc_request_encode(to, &request);
}

// ---- Sequence numbers (E1, K1)

bool torc_call_number(struct torc_engine *engine, struct torc_op *op)
{
    uint64_t at;

    if (engine->wseq_next - engine->wseq_low >= engine->write_window) {
        return false;
    }
    op->wseq = engine->wseq_next++;
    at = op->wseq % TORC_WSEQ_SPAN;
    engine->wseq_open[at / 64] |= UINT64_C(1) << (at % 64);
    engine->wseq_ops[at] = (uint32_t)(op - engine->ops);
    return true;
}

void torc_call_outcome_known(struct torc_engine *engine, struct torc_op *op)
{
    uint64_t at = op->wseq % TORC_WSEQ_SPAN;

    if (op->wseq == 0) {
        return;
    }
    torc_assert((engine->wseq_open[at / 64] >> (at % 64) & 1) == 1);
    engine->wseq_open[at / 64] &= ~(UINT64_C(1) << (at % 64));
    op->wseq = 0;
    while (engine->wseq_low < engine->wseq_next) {
        at = engine->wseq_low % TORC_WSEQ_SPAN;
        if ((engine->wseq_open[at / 64] >> (at % 64) & 1) == 1) {
            break;
        }
        engine->wseq_low++;
    }
    while (engine->unnumbered.count > 0 &&
           engine->wseq_next - engine->wseq_low < engine->write_window) {
        torc_op_route(engine, engine->unnumbered.head);
    }
}

// ---- Refusals (K2)

// The node had no room for it: more of the same does not help.
static bool refusal_is_of_load(enum torc_err status)
{
    return status == TORC_ERR_BUSY || status == TORC_ERR_LIMIT;
}

static bool attempts_all_refused(const struct torc_op *op)
{
    uint32_t count = 0;

    for (uint32_t word = 0; word < TORC_COUNT_OF(op->refused); word++) {
        count += (uint32_t)__builtin_popcountll(op->refused[word]);
    }
    return count == op->attempts || (count > 0 && TORC_BUG(DEFINITE_AFTER_UNANSWERED));
}

// What the request itself asks for makes the answer: every copy of it was or will be refused.
static bool refusal_is_of_content(enum torc_err status)
{
    return status == TORC_ERR_INVALID_ARGUMENT || status == TORC_ERR_TOO_LARGE ||
           status == TORC_ERR_UNSUPPORTED || status == TORC_ERR_BAD_PACKET;
}

// FORBIDDEN is said of the write when nothing of it was done, in the memory of the epoch that the
// attempt names. Attempts of lower epochs run nowhere any more (E2), those of earlier sessions
// neither: they ended with the rights, before there was another. Those of the same session have the
// same rights. So all is refused, answered or not, unless there was a later session.
static bool refusal_is_of_write(const struct torc_op *op, enum torc_err status, uint32_t attempt)
{
    return status == TORC_ERR_FORBIDDEN && attempt != TORC_ATTEMPT_NONE &&
           attempt >= op->first_at_epoch && attempt >= op->first_in_session;
}

uint64_t torc_call_pause_ns(struct torc_engine *engine, const struct torc_op *op,
                            enum torc_err status, uint64_t info)
{
    uint64_t told_ns = torc_min_u64(torc_info_retry_us(status, info), 10000000) * 1000;
    uint64_t own_ns = REFUSED_FIRST_NS << torc_min_u64(op->refusals, BACKOFF_MAX);

    bool elsewhere = (status == TORC_ERR_WRONG_SHARD || status == TORC_ERR_UNAVAILABLE) &&
                     op->refusals < ELSEWHERE_TRIES && torc_scout_applies(engine, op);
    uint64_t last_ns = elsewhere ? ELSEWHERE_LAST_NS : REFUSED_LAST_NS;
    uint64_t least_ns = torc_max_u64(told_ns, torc_min_u64(own_ns, last_ns));

    // Clients that were refused in the same moment must not come back in the same moment.
    return least_ns + torc_rng_below(&engine->rng, least_ns + 1);
}

static void refused_wrong_shard(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t epoch = op->epoch;
    uint16_t node = op->node;
    uint8_t core = op->core;

    op->wrong_shards++;
    torc_op_route(engine, index);
    if (op->epoch != epoch) {
        op->wrong_shards = 0;
    }
    if (op->state == TORC_OP_QUEUED && op->epoch == epoch &&
        ((op->node == node && op->core == core) || op->wrong_shards > CIRCLE_STEPS)) {
        // The map says nothing new: ask, and do not run in a circle meanwhile.
        torc_route_ask(engine);
        torc_scout_call(engine, index, engine->now_ns, true);
        torc_op_wait(engine, index,
                     engine->now_ns + torc_call_pause_ns(engine, op, TORC_ERR_WRONG_SHARD, 0));
    }
}

// Until the clock of the node that refused has come up to what the operation carries. That is no
// more than what was known when it began, else a node whose clock is pushed ahead again and again
// would keep it from one that is behind for ever.
static void refused_ahead(struct torc_engine *engine, uint32_t index, uint64_t clock_hlc)
{
    struct torc_op *op = &engine->ops[index];
    uint64_t at_ns;

    torc_node_ahead(engine, &engine->nodes[engine->reply_node], clock_hlc);
    at_ns = torc_node_takes_ns(engine, op);
    if (at_ns == engine->now_ns) { // another one in its packet was ahead
        at_ns += torc_call_pause_ns(engine, op, TORC_ERR_CLOCK_AHEAD, 0);
    }
    torc_op_wait(engine, index, at_ns);
}

// For load: when the pause is over the operation owes a token of the retry budget, and so does each
// piece that was sent with it in vain.
static void refused_for_load(struct torc_engine *engine, uint32_t index, uint64_t pause_ns)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t pieces = torc_big_unheard(op);

    engine->nodes[op->node].refused_ns = engine->now_ns;
    op->owes = true;
    torc_op_wait(engine, index, engine->now_ns + pause_ns);
    if (pieces > 1) {
        torc_big_owe(engine, index, pieces - 1);
    }
}

// Of a sending under an older epoch, or by a node from which it was taken away meanwhile: the
// answer to the later sending counts.
static bool refusal_is_of_before(const struct torc_engine *engine, const struct torc_op *op,
                                 uint32_t attempt)
{
    if (op->kind == TORC_OP_WRITE && attempt != TORC_ATTEMPT_NONE &&
        (op->epoch > op->sent_epoch || attempt < op->first_at_epoch)) {
        return true;
    }
    return (op->kind == TORC_OP_GET || op->kind == TORC_OP_WRITE || op->kind == TORC_OP_SCAN) &&
           (op->node != engine->reply_node || op->core != engine->reply_core);
}

void torc_call_refused(struct torc_engine *engine, uint32_t index, uint32_t attempt,
                       enum torc_err status, uint64_t info)
{
    struct torc_op *op = &engine->ops[index];
    bool is_refusal = !torc_err_maybe_applied(status);

    if (op->kind == TORC_OP_PROBE) { // of a node that has too much to do: it says nothing of sizes
        torc_op_end(engine, index, status, NULL);
        return;
    }
    if (op->kind == TORC_OP_SCOUT) {
        torc_scout_reply(engine, index);
        return;
    }
    if (op->kind == TORC_OP_WRITE && is_refusal && attempt < op->attempts) {
        op->refused[attempt / 64] |= UINT64_C(1) << (attempt % 64);
    }
    if (refusal_is_of_before(engine, op, attempt) &&
        (torc_err_retryable(status) || op->attempts > 0)) {
        return;
    }
    op->refusals = (uint16_t)torc_min_u64(op->refusals + 1u, UINT16_MAX);
    op->last_refusal = (uint8_t)status;
    op->last_info = info;
    if (!torc_err_retryable(status)) {
        if (op->kind != TORC_OP_WRITE || !is_refusal || attempts_all_refused(op) ||
            (refusal_is_of_content(status) && attempt != TORC_ATTEMPT_NONE) ||
            refusal_is_of_write(op, status, attempt)) {
            torc_op_end(engine, index, status, NULL);
            return;
        }
    }
    engine->counters.resends_refused++;
    if (torc_stale_refused(engine, index, status, info)) {
        return;
    }
    if (status == TORC_ERR_WRONG_SHARD && op->attempts < TORC_TRIES_MAX) {
        refused_wrong_shard(engine, index);
        return;
    }
    if (refusal_is_of_load(status)) {
        refused_for_load(engine, index, torc_call_pause_ns(engine, op, status, info));
        return;
    }
    if (status == TORC_ERR_CLOCK_AHEAD) {
        refused_ahead(engine, index, info);
        return;
    }
    if (status == TORC_ERR_TAKING_OVER) {
        torc_op_wait(engine, index, engine->now_ns + torc_scout_hold_ns(engine, index, info));
        return;
    }
    if (status == TORC_ERR_UNAVAILABLE) {
        torc_scout_call(engine, index, engine->now_ns, true);
    }
    op->owes |= status == TORC_ERR_PENDING; // the question was for a lost answer's sake
    torc_op_wait(engine, index, engine->now_ns + torc_call_pause_ns(engine, op, status, info));
}

// ---- Answers

void torc_call_value(struct torc_engine *engine, uint32_t index, const uint8_t *bytes,
                     uint32_t byte_count)
{
    struct torc_op *op = &engine->ops[index];

    if (!torc_op_reserve(engine, index, torc_max_u64(byte_count, 1))) {
        torc_op_hold(engine, index, TORC_HOLD_STARVED);
        return;
    }
    memcpy(op->data, bytes, byte_count);
    op->bytes = byte_count;
    engine->value_mean = (uint32_t)((7u * (uint64_t)engine->value_mean + byte_count + 7) / 8);
    torc_op_end(engine, index, TORC_ERR_OK, NULL);
}

// The server's line about a failure, as a text of ours: printable, cut.
static void reply_text(struct torc_engine *engine, uint32_t index, const uint8_t *bytes,
                       uint32_t byte_count)
{
    char *text = torc_op_text(engine, index);
    uint32_t count = (uint32_t)torc_min_u64(byte_count, TORC_OP_TEXT_BYTES - 1);

    for (uint32_t i = 0; i < count; i++) {
        text[i] = (char)(bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : (uint8_t)' ');
    }
    text[count] = '\0';
}

static void get_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];

    if (reply->opcode == (TORC_OPCODE_PULL | TORC_REPLY_BIT)) {
        if (op->big != NULL) {
            torc_pull_reply(engine, index, reply);
        }
        return;
    }
    if (reply->opcode != (TORC_OPCODE_GET | TORC_REPLY_BIT) || op->big != NULL) {
        return; // a second answer to a get that is a pull by now
    }
    if (!torc_err_retryable((enum torc_err)reply->status)) {
        torc_stale_answered(engine, op);
    }
    if (reply->status == TORC_ERR_OK) {
        op->version = reply->info;
        torc_call_value(engine, index, reply->body, reply->body_bytes);
    } else if (reply->status == TORC_ERR_NOT_FOUND) {
        torc_op_end(engine, index, TORC_ERR_NOT_FOUND, NULL);
    } else if (reply->status == TORC_ERR_PARTIAL) {
        torc_pull_begin(engine, index, reply);
    } else {
        reply_text(engine, index, reply->body, reply->body_bytes);
        torc_call_refused(engine, index, 0, (enum torc_err)reply->status, reply->info);
    }
}

// K4: the answer of an attempt under an older epoch than that of another attempt does not count
// when it says that nothing was to be done: the later one may have been executed where that memory
// is not.
static bool write_answer_counts(const struct torc_op *op, enum torc_err status, uint32_t attempt)
{
    bool nothing_done =
        status == TORC_ERR_CONDITION_FAILED || (status == TORC_ERR_NOT_FOUND && op->is_delete);

    return !nothing_done || attempt >= op->first_at_epoch || TORC_BUG(K4_OFF);
}

static void write_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    enum torc_err status = (enum torc_err)reply->status;
    const unsigned char *rest = NULL;
    uint32_t rest_bytes = 0;
    uint8_t attempt = 0;

    if (reply->opcode != (TORC_OPCODE_PUT | TORC_REPLY_BIT) &&
        reply->opcode != (TORC_OPCODE_DELETE | TORC_REPLY_BIT)) {
        torc_big_reply(engine, index, reply);
        return;
    }
    if (!torc_write_reply_decode(reply, &attempt, &rest, &rest_bytes) || attempt >= op->attempts ||
        !write_answer_counts(op, status, attempt)) {
        engine->counters.packets_ignored++;
        return;
    }
    if (status == TORC_ERR_OK || status == TORC_ERR_NOT_FOUND ||
        status == TORC_ERR_CONDITION_FAILED) {
        op->version = reply->info;
        torc_op_end(engine, index, status, NULL);
        return;
    }
    reply_text(engine, index, rest, rest_bytes);
    torc_call_refused(engine, index, attempt, status, reply->info);
}

// A piece of a status text; more is asked for until it is whole.
static void status_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    uint64_t total = torc_min_u64(reply->info, 1u << 20);
    bool is_text = reply->status == TORC_ERR_OK || reply->status == TORC_ERR_PARTIAL;
    uint64_t room;

    if (!is_text) {
        reply_text(engine, index, reply->body, reply->body_bytes);
        torc_call_refused(engine, index, 0, (enum torc_err)reply->status, reply->info);
        return;
    }
    if (op->data == NULL) {
        // Some room to spare: the numbers in it grow between two pieces.
        op->total = (uint32_t)torc_max_u64(total, reply->body_bytes) + 1024;
        if (!torc_op_reserve(engine, index, op->total)) {
            torc_op_hold(engine, index, TORC_HOLD_STARVED);
            return;
        }
    }
    room = torc_min_u64(reply->body_bytes, op->total - op->bytes);
    memcpy(op->data + op->bytes, reply->body, room);
    op->bytes += (uint32_t)room;
    if (room == 0 || op->bytes >= total) {
        torc_op_end(engine, index, TORC_ERR_OK, NULL);
        return;
    }
    // The next one under another id: a reply does not say where its piece begins, and this one may
    // have been asked for twice.
    op->generation++;
    op->backoff = 0;
    torc_op_route(engine, index);
}

void torc_call_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];

    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET: get_reply(engine, index, reply); return;
    case TORC_OP_WRITE: write_reply(engine, index, reply); return;
    case TORC_OP_STATUS: status_reply(engine, index, reply); return;
    case TORC_OP_SCAN: torc_scan_reply(engine, index, reply); return;
    case TORC_OP_MAP:
        if (reply->status == TORC_ERR_OK) {
            torc_route_answer(engine, index, reply);
        } else {
            torc_call_refused(engine, index, 0, (enum torc_err)reply->status, reply->info);
        }
        return;
    case TORC_OP_PROBE: torc_mtu_answer(engine, index, reply); return;
    case TORC_OP_SCOUT: torc_scout_reply(engine, index); return;
    case TORC_OP_PAGE: break; // its id is never sent
    }
}

// ---- Time

static void deadline_connected(struct torc_engine *engine, uint32_t index)
{
    const struct torc_op *op = &engine->ops[index];
    enum torc_err refusal = (enum torc_err)op->last_refusal;
    const char *reason = torc_reason_text(refusal, op->last_info);
    // Why there is no new session in place of one that is gone.
    bool lost = engine->nodes[op->node].session_lost && engine->trouble.text[0] != '\0';

    if (op->last_refusal == 0) {
        torc_op_end(engine, index, TORC_ERR_DEADLINE, "no answer in time%s%s", lost ? "; " : "",
                    lost ? engine->trouble.text : "");
        return;
    }
    torc_op_end(engine, index, torc_err_retryable(refusal) ? refusal : TORC_ERR_DEADLINE,
                "tried until the deadline; the last answer was %s%s%s", torc_err_name(refusal),
                reason[0] == '\0' ? "" : ": ", reason);
}

// No node with a copy of the shard in sync spoke to us: there may be none any more. Of a shard with
// one copy alone its node is named already.
static const char *call_closed_hint(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_map_entry *entry = torc_map_find(&engine->map, op->key);

    return entry != NULL && entry->member_count > 1
               ? "; see torc status; if all copies in sync are lost: torc shard accept-loss"
               : "";
}

// The deadline has come: what may be said about the operation now (K1, K2).
static void call_deadline(struct torc_engine *engine, uint32_t index)
{
    const struct torc_op *op = &engine->ops[index];
    bool connected = engine->first_node != UINT32_MAX;

    if (op->kind == TORC_OP_PROBE) {
        torc_mtu_deadline(engine, index);
        return;
    }
    if (op->kind == TORC_OP_WRITE && op->attempts > 0 && !attempts_all_refused(op)) {
        torc_op_end(engine, index, TORC_ERR_IN_DOUBT,
                    "sent %u times, the outcome is not known; the last answer was %s", op->attempts,
                    op->last_refusal == 0 ? "none"
                                          : torc_err_name((enum torc_err)op->last_refusal));
        return;
    }
    if (connected && op->state == TORC_OP_PARKED && torc_route_beyond(engine, op) != 0) {
        torc_op_end(engine, index, TORC_ERR_NOT_CONNECTED,
                    "node %" PRIu32 " leads the shard of key %" PRIu64 "; over memif node %" PRIu32
                    " alone is reached: use host:port",
                    torc_route_beyond(engine, op), op->key, engine->nodes[engine->first_node].id);
        return;
    }
    if (!connected || op->state == TORC_OP_PARKED) {
        torc_op_end(engine, index, TORC_ERR_NOT_CONNECTED, "%s%s", torc_engine_trouble(engine),
                    connected ? call_closed_hint(engine, op) : "");
        return;
    }
    deadline_connected(engine, index);
}

// No answer came in time: judge the packet, then send again within the budget.
static void call_overdue(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_client_node *node = &engine->nodes[op->node];

    if (op->kind == TORC_OP_PROBE) {
        torc_mtu_overdue(engine, index);
        return;
    }
    if (op->at_copy) {
        torc_stale_silent(engine, index);
    } else {
        torc_scout_call(
            engine, index,
            torc_max_u64(engine->now_ns, engine->packets[op->packet].sent_ns + TORC_SCOUT_FIRST_NS),
            false);
        torc_scout_doubt(engine, node);
    }
    op->to_primary = op->at_copy;
    torc_packet_lost(engine, op->packet);
    if (engine->now_ns - node->heard_ns > SILENCE_NS) {
        torc_node_shake(engine, node, NULL);
    }
    if (op->kind == TORC_OP_SCAN && torc_scan_late(engine, index)) {
        return;
    }
    if (op->kind != TORC_OP_MAP && engine->now_ns - node->heard_ns > CLIENT_PROBE_NS &&
        !torc_scout_applies(engine, op)) { // nobody else has the shard: perhaps it moved
        torc_route_silent(engine);
    }
    op->backoff = (uint16_t)torc_min_u64(op->backoff + 1u, BACKOFF_MAX);
    engine->counters.resends_timer++;
    op->owes = true;
    torc_op_wait(engine, index, engine->now_ns); // looked at before this clock is over
}

bool torc_call_gives_up(struct torc_engine *engine, const struct torc_op *op)
{
    return op->kind == TORC_OP_WRITE && op->attempts > 0 && attempts_all_refused(op) &&
           op->last_refusal != TORC_ERR_TAKING_OVER && // it asks for all of its shard
           torc_path_is_late(engine, torc_op_path(engine, op), op);
}

void torc_call_timer(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    if (op->kind == TORC_OP_SCOUT) {
        torc_scout_timer(engine, index);
        return;
    }
    if (engine->now_ns >= op->deadline_ns) {
        call_deadline(engine, index);
        return;
    }
    switch ((enum torc_op_state)op->state) {
    case TORC_OP_SENT: call_overdue(engine, index); return;
    case TORC_OP_STREAMING: torc_big_timer(engine, index); return;
    case TORC_OP_QUEUED:
        if (op->big != NULL && op->kind == TORC_OP_WRITE) {
            torc_big_timer(engine, index);
            return;
        }
        break;
    case TORC_OP_WAITING:
        if (op->kind == TORC_OP_WRITE && op->attempts >= TORC_TRIES_MAX) {
            break; // its attempts can be told apart no more: only an answer or the deadline ends it
        }
        if (torc_call_gives_up(engine, op)) {
            break;
        }
        if (!op->owes) {
            torc_op_route(engine, index);
        } else if (op->hold == TORC_HOLD_NONE) {
            torc_op_owe(engine, index);
        }
        return;
    case TORC_OP_PARKED:
    case TORC_OP_HELD: break;
    case TORC_OP_FREE:
    case TORC_OP_DONE:
    case TORC_OP_RETURNED: return;
    }
    torc_wheel_set(&engine->wheel, index, op->deadline_ns);
}
