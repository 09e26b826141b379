// Torc client: values over one packet: a put goes out in pieces, a get comes in by pulls.
//
// What    put: PUT with piece 0, then pieces as far as the server's limit allows; FRAG_STATE says
//         which came, what is missing below the newest one goes again (selective repeat). get:
//         PARTIAL says the total; the rest is pulled by version, up to 64 pieces a question.
// Loss    silence proves nothing: the server may have been elsewhere for a moment, with the pieces
//         in its queue. It is asked, and only what it lacks when it answers *that* goes again.
//         Begun again, a put sends piece 0 alone: the server may still have the others.
// Sources WIRE.md, section 3, "Large values".
#include "client/engine_state.h"

// in a row before other writes to that core; the server tells what came every so many
#define PIECES_A_TURN 8u
#define PULL_PIECES   64u
// a PUT with its sizes, and a question behind it
#define WRITE_HEAD    120u
#define PULL_HEAD     (TORC_REPLY_HEAD_BYTES + TORC_PULL_HEAD_BYTES)
#define BIG_RTO_TIMES 2u // a piece is seldom answered by itself

struct torc_big {
    uint32_t piece_bytes;
    uint32_t count;
    uint32_t have_count;
    uint32_t first_missing;
    uint32_t limit;     // pieces below it may be sent
    uint32_t next;      // never sent in this attempt
    uint32_t pulled;    // pieces asked for by the pull in flight that have not come
    uint32_t since_us;  // our clock when this attempt began: older answers are not about it
    uint32_t doubt_us;  // when what flew was doubted: an answer to something later tells
    uint32_t turn;      // pieces sent in a row
    uint64_t resume_ns; // pieces were shed: none before; 0: they were not
    uint32_t owed;      // pieces to send again that the retry budget has to allow, one by one
    bool granted;       // it allows one
    bool is_pull;
    bool begun; // PUT with piece 0 was sent in this attempt
    bool again; // and after it piece 0 alone: what is told of piece 0 may be about that
    bool ask;   // a question is due
    bool doubted;
    bool known; // the server has told something in this attempt: it has the PUT
    uint64_t *flying;
    uint64_t have[];
};

static bool bit_get(const uint64_t *bits, uint32_t at)
{
    return (bits[at / 64] >> (at % 64) & 1) == 1;
}

static void bit_set(uint64_t *bits, uint32_t at)
{
    bits[at / 64] |= UINT64_C(1) << (at % 64);
}

static void bit_clear(uint64_t *bits, uint32_t at)
{
    bits[at / 64] &= ~(UINT64_C(1) << (at % 64));
}

static uint32_t piece_length(const struct torc_big *big, uint32_t total, uint32_t piece)
{
    return (uint32_t)torc_min_u64(big->piece_bytes, total - (uint64_t)piece * big->piece_bytes);
}

static uint64_t big_bytes(uint32_t total, uint32_t piece_bytes)
{
    uint64_t words = ((uint64_t)total + 64ull * piece_bytes - 1) / (64ull * piece_bytes);

    return sizeof(struct torc_big) + 2 * words * sizeof(uint64_t);
}

static void big_init(struct torc_big *big, uint32_t total, uint32_t piece_bytes)
{
    memset(big, 0, big_bytes(total, piece_bytes));
    big->piece_bytes = piece_bytes;
    big->count = (total + piece_bytes - 1) / piece_bytes;
    big->flying = big->have + (big->count + 63) / 64;
}

static void big_note(struct torc_big *big, uint32_t piece)
{
    if (!bit_get(big->have, piece)) {
        bit_set(big->have, piece);
        big->have_count++;
    }
    while (big->first_missing < big->count && bit_get(big->have, big->first_missing)) {
        big->first_missing++;
    }
}

void torc_big_free(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    if (op->big != NULL && op->big != op->big_room) {
        torc_pool_give(&engine->pool, op->big);
    }
    op->big = NULL;
}

// ---- Puts

bool torc_big_wanted(const struct torc_engine *engine, const struct torc_op *op)
{
    return op->kind == TORC_OP_WRITE &&
           (op->big != NULL ||
            torc_call_bytes(op) > engine->nodes[op->node].payload - TORC_DATA_OVERHEAD);
}

bool torc_big_fits(const struct torc_engine *engine, const struct torc_op *op)
{
    uint32_t room = engine->nodes[op->node].payload - TORC_DATA_OVERHEAD;

    return op->big->piece_bytes + (op->big->is_pull ? PULL_HEAD : WRITE_HEAD) <= room;
}

static uint32_t put_piece_bytes(uint32_t payload)
{
    return (payload - TORC_DATA_OVERHEAD - WRITE_HEAD) & ~7u;
}

bool torc_big_reserve(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    torc_assert(op->big_room == NULL);
    if (torc_call_bytes(op) <= TORC_PAYLOAD_MIN - TORC_DATA_OVERHEAD) {
        return true; // it fits into every packet
    }
    op->big_room =
        torc_pool_take(&engine->pool, big_bytes(op->bytes, put_piece_bytes(TORC_PAYLOAD_MIN)));
    return op->big_room != NULL;
}

void torc_big_begin(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t payload = engine->nodes[op->node].payload;

    torc_assert(op->big == NULL);
    torc_assert(op->big_room != NULL);
    torc_assert(payload >= TORC_PAYLOAD_MIN); // there is room for as many pieces
    op->big = op->big_room;
    big_init(op->big, op->bytes, put_piece_bytes(payload));
}

// From the start, with a new attempt. What the server has of an earlier one it will say.
static void big_restart(struct torc_engine *engine, struct torc_op *op)
{
    struct torc_big *big = op->big;
    uint32_t words = (big->count + 63) / 64;
    uint32_t unasked = engine->nodes[op->node].limits.fragments_max;

    memset(big->have, 0, 2ull * words * sizeof(uint64_t));
    big->have_count = big->first_missing = big->next = 0;
    big->limit = op->attempts > 0 ? 1 : (uint32_t)torc_min_u64(unasked + 1, big->count);
    big->begun = big->again = big->ask = big->doubted = big->known = false;
    big->turn = 0;
    big->resume_ns = 0;
    big->owed = 0;
    big->granted = false;
    big->since_us = (uint32_t)(engine->now_ns / 1000);
}

void torc_big_stop(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_list *list;

    if (op->kind != TORC_OP_WRITE) {
        return;
    }
    list = &torc_op_path(engine, op)->packets[1];
    for (uint32_t at = list->head; at != TORC_OP_NONE;) {
        uint32_t next = engine->packets[at].next;

        if (engine->packets[at].stream == index) {
            torc_packet_end(engine, at);
        }
        at = next;
    }
    big_restart(engine, op);
}

// The piece to send now, or count: none.
static uint32_t big_piece(const struct torc_big *big)
{
    uint32_t end = (uint32_t)torc_min_u64(big->limit, big->count);

    for (uint32_t piece = big->first_missing; piece < end; piece++) {
        if (!bit_get(big->have, piece) && !bit_get(big->flying, piece)) {
            return piece;
        }
    }
    return big->count;
}

// Something is to be sent, whether the budget allows it or not.
static bool big_wants(const struct torc_big *big)
{
    return big->resume_ns == 0 && (big->ask || !big->begun || big_piece(big) < big->count);
}

bool torc_big_has_more(const struct torc_op *op)
{
    const struct torc_big *big = op->big;

    return big_wants(big) && (!big->begun || big->owed == 0 || big->granted);
}

bool torc_big_turn_ends(const struct torc_op *op, uint32_t piece)
{
    if (op->big->owed > 0) {
        return true; // it goes alone
    }
    // Of whole eights the server tells by itself.
    return op->big->turn == PIECES_A_TURN && (piece + 1) % PIECES_A_TURN != 0;
}

static void big_first(struct torc_engine *engine, uint32_t index, struct torc_request *request)
{
    const struct torc_op *op = &engine->ops[index];
    uint32_t owed = op->big->owed;

    big_restart(engine, &engine->ops[index]);
    op->big->owed = owed;
    torc_call_attempt(engine, index, request);
    request->flags |= TORC_WRITE_FRAGMENTED;
    request->total_bytes = op->bytes;
    request->fragment_bytes = op->big->piece_bytes;
    op->big->begun = true;
}

uint32_t torc_big_encode(struct torc_engine *engine, uint32_t index, uint8_t *to, uint32_t *piece)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    struct torc_request request;
    uint32_t at = 0;

    torc_call_request(engine, index, &request);
    if (!big->begun) {
        big_first(engine, index, &request);
    } else if (big->ask || (at = big_piece(big)) == big->count) {
        big->ask = false;
        *piece = TORC_OP_NONE;
        return torc_big_ask(engine, index, to);
    } else {
        request.opcode = TORC_OPCODE_FRAG;
        request.fragment = at;
        big->again |= at == 0;
    }
    request.data = op->data + (uint64_t)at * big->piece_bytes;
    request.data_bytes = piece_length(big, op->bytes, at);
    bit_set(big->flying, at);
    big->next = (uint32_t)torc_max_u64(big->next, at + 1);
    big->turn++;
    *piece = at;
    return torc_request_encode(to, &request);
}

uint32_t torc_big_ask(const struct torc_engine *engine, uint32_t index, uint8_t *to)
{
    struct torc_request request;

    torc_call_request(engine, index, &request);
    request.opcode = TORC_OPCODE_FRAG_QUERY;
    return torc_request_encode(to, &request);
}

static bool big_flies(struct torc_engine *engine, uint32_t index)
{
    uint32_t at = torc_op_path(engine, &engine->ops[index])->packets[1].head;

    while (at != TORC_OP_NONE && engine->packets[at].stream != index) {
        at = engine->packets[at].next;
    }
    return at != TORC_OP_NONE;
}

static void big_timer_set(struct torc_engine *engine, uint32_t index)
{
    const struct torc_op *op = &engine->ops[index];
    uint64_t at_ns = engine->now_ns + torc_path_rto_ns(engine, op) * BIG_RTO_TIMES;

    if (op->big->resume_ns != 0) {
        at_ns = op->big->resume_ns;
    } else if (op->hold == TORC_HOLD_OWING && !big_flies(engine, index)) {
        at_ns = op->deadline_ns;
    }
    torc_wheel_set(&engine->wheel, index, torc_min_u64(at_ns, op->deadline_ns));
}

uint32_t torc_big_unheard(const struct torc_op *op)
{
    const struct torc_big *big = op->big;

    return op->kind != TORC_OP_WRITE || big == NULL || big->next <= big->have_count
               ? 0
               : big->next - big->have_count;
}

void torc_big_owe(struct torc_engine *engine, uint32_t index, uint32_t pieces)
{
    struct torc_big *big = engine->ops[index].big;

    torc_assert(big != NULL && !big->begun);
    big->owed = pieces;
}

// There is something to send, perhaps: at once, or when the budget allows a shed piece.
static void big_wake(struct torc_engine *engine, uint32_t index, bool front)
{
    const struct torc_op *op = &engine->ops[index];

    if (op->state != TORC_OP_STREAMING || !big_wants(op->big)) {
        return;
    }
    if (torc_big_has_more(op)) {
        torc_op_queue(engine, index, front);
    } else if (op->hold == TORC_HOLD_NONE) {
        torc_op_owe(engine, index);
    }
}

// A few in a row, so that the server has something to tell about them: were each piece another
// value's, the window would be full before any value had its eight.
void torc_big_sent(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    bool goes_on = op->big->turn < PIECES_A_TURN;

    if (op->big->granted) {
        op->big->granted = false;
        op->big->owed -= op->big->owed > 0 ? 1 : 0;
    }
    if (!torc_big_has_more(op)) {
        op->big->turn = 0;
        torc_op_stream(engine, index);
        big_wake(engine, index, false);
    } else {
        op->big->turn = goes_on ? op->big->turn : 0;
        torc_op_queue(engine, index, goes_on);
    }
    big_timer_set(engine, index);
}

void torc_big_grant(struct torc_engine *engine, uint32_t index)
{
    torc_assert(engine->ops[index].big != NULL);
    engine->ops[index].big->granted = true;
    torc_op_stream(engine, index);
    big_wake(engine, index, true);
    big_timer_set(engine, index);
}

void torc_big_lost(struct torc_engine *engine, uint32_t index, uint32_t piece)
{
    struct torc_op *op = &engine->ops[index];

    torc_assert(op->big != NULL);
    if (piece != TORC_OP_NONE) {
        bit_clear(op->big->flying, piece);
    } else {
        op->big->ask = true;
    }
    big_wake(engine, index, true);
}

void torc_big_shed(struct torc_engine *engine, uint32_t index, uint32_t piece,
                   const struct torc_shed_news *news)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    uint64_t pause_ns;

    torc_assert(big != NULL);
    if (!torc_err_retryable(news->status) || !big->begun || piece == 0) {
        torc_call_refused(engine, index,
                          piece == 0 && !big->again ? op->attempts - 1u : TORC_ATTEMPT_NONE,
                          news->status, news->retry_us);
        return;
    }
    big->owed++;
    engine->nodes[op->node].refused_ns = engine->now_ns;
    torc_big_lost(engine, index, piece);
    engine->counters.resends_refused++;
    if (big->resume_ns == 0) { // others of the same burst tell nothing new
        op->refusals = (uint16_t)torc_min_u64(op->refusals + 1u, UINT16_MAX);
        pause_ns = torc_call_pause_ns(engine, op, news->status, news->retry_us);
        big->resume_ns = engine->now_ns + pause_ns;
        torc_op_stream(engine, index);
    }
    big_timer_set(engine, index);
}

// What flies of it is doubted, and does not hold others up any more. `overdue`: nothing was heard
// for too long.
static void big_doubt(struct torc_engine *engine, uint32_t index, bool overdue)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    struct torc_list *list = &torc_op_path(engine, op)->packets[1];

    for (uint32_t at = list->head; at != TORC_OP_NONE;) {
        uint32_t next = engine->packets[at].next;

        if (engine->packets[at].stream == index) {
            if (overdue) {
                torc_packet_lost(engine, at);
            }
            torc_packet_end(engine, at);
        }
        at = next;
    }
    if (engine->now_ns - engine->nodes[op->node].heard_ns > UINT64_C(1000000000)) {
        torc_node_shake(engine, &engine->nodes[op->node], NULL);
    }
    big->doubted = big->begun;
    big->doubt_us = (uint32_t)(engine->now_ns / 1000);
    big->limit = big->next; // nothing but the question until it is answered
    big->ask = big->begun;
}

void torc_big_timer(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    if (op->big->resume_ns != 0) {
        op->big->resume_ns = 0;
        big_wake(engine, index, true);
        big_timer_set(engine, index);
        return;
    }
    if (op->state == TORC_OP_QUEUED && !big_flies(engine, index)) {
        big_timer_set(engine, index); // it waits for its turn, not for an answer
        return;
    }
    // Others of its shard may ask too, but there need not be any (K3).
    torc_scout_call(
        engine, index,
        torc_max_u64(engine->now_ns, engine->nodes[op->node].heard_ns + TORC_SCOUT_FIRST_NS),
        false);
    torc_scout_doubt(engine, &engine->nodes[op->node]);
    big_doubt(engine, index, true);
    if (op->hold == TORC_HOLD_OWING) {
        big_timer_set(engine, index);
        return;
    }
    if (!torc_budget_take(engine)) {
        torc_wheel_set(
            &engine->wheel, index,
            torc_min_u64(engine->now_ns + torc_engine_jitter(engine, 20000000), op->deadline_ns));
        return;
    }
    op->backoff = (uint16_t)torc_min_u64(op->backoff + 1u, 10);
    engine->counters.resends_timer++;
    if (!torc_big_fits(engine, op) || (op->attempts > 1 && !op->big->known)) {
        // The PUT again, not a question: what the server has may be of pieces of another size.
        torc_op_route(engine, index);
        return;
    }
    torc_op_queue(engine, index, true);
    big_timer_set(engine, index);
}

// The server answered something that was sent after the doubt: what it lacks is lost, but for what
// was sent later still.
static void big_undoubt(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    uint32_t words = (big->count + 63) / 64;
    uint32_t at = torc_op_path(engine, op)->packets[1].head;
    bool lost = false;

    for (uint32_t word = 0; word < words; word++) {
        lost |= (big->flying[word] & ~big->have[word]) != 0;
    }
    memset(big->flying, 0, words * sizeof(uint64_t));
    for (; at != TORC_OP_NONE; at = engine->packets[at].next) {
        if (engine->packets[at].stream == index && engine->packets[at].piece != TORC_OP_NONE) {
            bit_set(big->flying, engine->packets[at].piece);
        }
    }
    big->doubted = false;
    if (!lost) {
        torc_path_not_lost(&engine->nodes[op->node]);
    } else if (big->piece_bytes + WRITE_HEAD + TORC_DATA_OVERHEAD > TORC_PAYLOAD_MIN) {
        torc_mtu_suspect(engine, &engine->nodes[op->node]);
    }
}

// Pieces of the bitmap that fly have come: their packets are answered.
static void big_acknowledge(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_list *list = &torc_op_path(engine, op)->packets[1];

    for (uint32_t at = list->head; at != TORC_OP_NONE;) {
        struct torc_packet *packet = &engine->packets[at];
        uint32_t next = packet->next;
        bool is_question = packet->stream == index && packet->piece == TORC_OP_NONE;

        if (is_question || (packet->stream == index && bit_get(op->big->have, packet->piece))) {
            torc_packet_answered(engine, at);
            torc_packet_end(engine, at);
            next = list->head; // overtaken ones may have left the list
        }
        at = next;
    }
}

static void big_state(struct torc_engine *engine, uint32_t index,
                      const struct torc_frag_state *state)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    uint32_t known = (uint32_t)torc_min_u64(state->first_missing, big->count);
    uint32_t before = big->have_count;

    for (uint32_t piece = big->first_missing; piece < known; piece++) {
        big_note(big, piece);
    }
    for (uint32_t i = 0; i < 8 * sizeof(state->bitmap) && known + i < big->count; i++) {
        if ((state->bitmap[i / 8] >> (i % 8) & 1) == 1) {
            big_note(big, known + i);
        }
    }
    big->limit = (uint32_t)torc_max_u64(big->limit, torc_min_u64(state->send_limit, big->count));
    op->backoff = 0;
    big->known = true;
    big->owed = (uint32_t)torc_min_u64(big->owed, torc_big_unheard(op));
    if (op->lent && big->have_count > before) {
        torc_budget_proved(engine, &engine->nodes[op->node]);
    }
    big_acknowledge(engine, index);
    if (big->doubted && (int32_t)(engine->reply_clock_us - big->doubt_us) >= 0) {
        big_undoubt(engine, index);
    } else if (big->doubted) {
        torc_path_not_lost(&engine->nodes[op->node]); // an answer to what was doubted
    }
    big_timer_set(engine, index);
    big_wake(engine, index, true);
}

// The server has no such message: gone, or done, or its PUT was lost or overtaken by this piece.
static void big_unknown(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    bool is_late = big->doubted && (int32_t)(engine->reply_clock_us - big->doubt_us) < 0;

    if (is_late) {
        return; // the question that was sent since will tell
    }
    if (!big->known && !big->doubted) {
        big_doubt(engine, index, false);
        big_wake(engine, index, true);
        return;
    }
    if (big->doubted) {
        big_undoubt(engine, index);
    }
    // The same PUT again finds out.
    engine->counters.resends_refused++;
    torc_op_route(engine, index);
}

void torc_big_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_frag_state state;
    bool is_frag = reply->opcode == (TORC_OPCODE_FRAG | TORC_REPLY_BIT) ||
                   reply->opcode == (TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT);

    if (op->big == NULL || !is_frag) {
        engine->counters.packets_ignored++;
        return;
    }
    if ((int32_t)(engine->reply_clock_us - op->big->since_us) < 0 || !op->big->begun) {
        return; // about pieces of an attempt that is given up, perhaps in another session
    }
    if (reply->status == TORC_ERR_OK) {
        if (torc_frag_state_decode(reply, &state)) {
            big_state(engine, index, &state);
        }
        return;
    }
    if (reply->status == TORC_ERR_NO_MESSAGE) {
        big_unknown(engine, index);
        return;
    }
    // Of a piece or a question: the server may have the PUT, and the rest may come to it yet (K2).
    torc_call_refused(engine, index, TORC_ATTEMPT_NONE, (enum torc_err)reply->status, reply->info);
}

// ---- Gets

uint32_t torc_pull_pieces(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_big *big = op->big;
    uint32_t payload = engine->nodes[op->node].payload;
    uint64_t room = TORC_INBOUND_BYTES / 2 / payload;

    return (uint32_t)torc_min_u64(torc_min_u64(PULL_PIECES, big->count - big->have_count),
                                  torc_max_u64(room, 1));
}

void torc_pull_begin(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t payload = engine->nodes[op->node].payload;
    const unsigned char *bytes = NULL;
    uint32_t piece_bytes = (payload - TORC_DATA_OVERHEAD - PULL_HEAD) & ~7u;
    uint32_t byte_count = 0;
    uint32_t total = 0;
    uint32_t room;

    if (!torc_partial_decode(reply, &total, &bytes, &byte_count) || byte_count > total ||
        total > engine->value_bytes_max) {
        engine->counters.packets_ignored++;
        return;
    }
    engine->value_mean =
        (uint32_t)((7ull * engine->value_mean + torc_min_u64(total, TORC_PAYLOAD_MAX)) / 8);
    room = torc_narrow_u32(torc_max_u64(total, 1));
    op->big = torc_pool_take(&engine->pool, big_bytes(room, piece_bytes));
    if (op->big == NULL || !torc_op_reserve(engine, index, room)) {
        torc_big_free(engine, index);
        torc_op_hold(engine, index, TORC_HOLD_STARVED);
        return;
    }
    big_init(op->big, room, piece_bytes);
    memcpy(op->data, bytes, byte_count);
    op->bytes = total;
    op->version = reply->info;
    op->big->is_pull = true;
    for (uint32_t piece = 0; piece < op->big->count; piece++) {
        if ((uint64_t)piece * op->big->piece_bytes + piece_length(op->big, total, piece) >
            byte_count) {
            break;
        }
        big_note(op->big, piece);
    }
    op->backoff = 0;
    torc_op_route(engine, index);
}

uint32_t torc_pull_encode(struct torc_engine *engine, uint32_t index, uint8_t *to)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    uint32_t most = torc_pull_pieces(engine, op);
    struct torc_request request;

    torc_call_request(engine, index, &request);
    request.opcode = TORC_OPCODE_PULL;
    request.version = op->version;
    request.fragment = big->first_missing;
    request.fragment_bytes = big->piece_bytes;
    big->pulled = 0;
    for (uint32_t i = 0; i < PULL_PIECES && big->first_missing + i < big->count; i++) {
        if (!bit_get(big->have, big->first_missing + i) && big->pulled < most) {
            request.bitmap |= UINT64_C(1) << i;
            big->pulled++;
        }
    }
    return torc_request_encode(to, &request);
}

// The value changed, or is gone: the get begins anew.
static void pull_restart(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    torc_op_unlink(engine, index);
    torc_big_free(engine, index);
    op->version = 0;
    engine->counters.resends_refused++;
    torc_op_route(engine, index);
}

void torc_pull_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_big *big = op->big;
    const unsigned char *bytes = NULL;
    uint32_t byte_count = 0;
    uint32_t piece = 0;

    if (reply->status == TORC_ERR_VERSION_GONE || reply->status == TORC_ERR_NOT_FOUND) {
        pull_restart(engine, index);
        return;
    }
    if (reply->status != TORC_ERR_OK) {
        torc_call_refused(engine, index, 0, (enum torc_err)reply->status, reply->info);
        return;
    }
    if (reply->info != op->version || !torc_pull_reply_decode(reply, &piece, &bytes, &byte_count) ||
        piece >= big->count || byte_count != piece_length(big, op->bytes, piece)) {
        engine->counters.packets_ignored++;
        return;
    }
    if (!bit_get(big->have, piece)) {
        memcpy(op->data + (uint64_t)piece * big->piece_bytes, bytes, byte_count);
        big_note(big, piece);
        big->pulled -= big->pulled > 0 ? 1 : 0;
    }
    if (big->have_count == big->count) {
        torc_op_end(engine, index, TORC_ERR_OK, NULL);
        return;
    }
    op->backoff = 0;
    if (op->state == TORC_OP_SENT && big->pulled > 0) {
        torc_wheel_set(
            &engine->wheel, index,
            torc_min_u64(engine->now_ns + torc_path_rto_ns(engine, op), op->deadline_ns));
    } else if (op->state == TORC_OP_SENT) {
        torc_packet_answered(engine, op->packet);
        torc_op_route(engine, index);
    }
}
