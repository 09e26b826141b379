// Torc dataplane: values that come in pieces: PUT with FRAG, FRAG, FRAG_QUERY. See fragment.h;
// docs/PROTOCOL.md, section 6.
//
// The pieces of one PUT are found by (session, op id), and were sent after it: op ids come round.
// When all are there the value goes the way of any other write. Its entry stays until the write has
// its outcome, so that a question in between is answered with "all is here" and not with "start
// again".
#include "dataplane/worker_state.h"

#include <string.h>

#define STATE_EVERY 8u // pieces
#define STATE_BYTES (TORC_REPLY_HEAD_BYTES + TORC_FRAG_STATE_BYTES)
#define NO_ROOM_US  2000u

static struct torc_fragment_id put_id(const struct torc_packet *packet,
                                      const struct torc_request *request)
{
    return (struct torc_fragment_id){.serial = packet->to.serial, .op_id = request->op_id};
}

static void put_state(struct torc_worker *worker, struct torc_answer *answer,
                      struct torc_fragment_entry *entry)
{
    struct torc_frag_state state = {
        .first_missing = entry->first_missing,
        .send_limit = (uint32_t)torc_min_u64((uint64_t)entry->first_missing + TORC_FRAGMENT_WINDOW,
                                             entry->fragment_count)};
    unsigned char body[TORC_FRAG_STATE_BYTES];
    struct torc_reply reply = {.opcode = TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT,
                               .op_id = entry->id.op_id,
                               .body = body,
                               .body_bytes = sizeof(body)};

    // It tells what the client would ask for: of use, but owed to nobody.
    if (torc_answer_room(worker, answer, STATE_BYTES, STATE_BYTES) == 0) {
        return;
    }
    entry->told_limit = state.send_limit;
    torc_fragment_bitmap(entry, state.bitmap);
    torc_frag_state_body(body, &state);
    torc_answer_put(worker, answer, &reply);
}

// All pieces are there: the write itself.
static void put_submit(struct torc_worker *worker, struct torc_packet *packet,
                       struct torc_answer *answer, struct torc_fragment_entry *entry)
{
    struct torc_request whole = entry->put;
    enum torc_err err;

    whole.data = torc_fragments_value(&worker->fragments, entry);
    whole.data_bytes = entry->total_bytes;
    err = torc_worker_write(worker, packet, answer, &whole, &entry->submitted);
    // Refused for now: the pieces stay for the next attempt, and for nothing else. A piece or a
    // question of this one that comes late must not execute what was refused (K2).
    entry->refused = !entry->submitted;
    if (entry->refused && !torc_err_retryable(err)) {
        torc_fragments_close(&worker->fragments, entry);
    }
}

void torc_worker_put_ended(struct torc_worker *worker, uint64_t serial, uint32_t op_id)
{
    struct torc_fragment_entry *entry = torc_fragments_find(
        &worker->fragments, (struct torc_fragment_id){.serial = serial, .op_id = op_id});

    if (entry != NULL) {
        torc_fragments_close(&worker->fragments, entry);
    }
}

// A write that was done before needs no pieces. True: it was answered.
static bool put_is_done(struct torc_worker *worker, struct torc_packet *packet,
                        struct torc_answer *answer, const struct torc_request *request,
                        uint32_t place)
{
    const struct torc_session *session = packet->session;
    struct torc_completion_client who = {.client = session->client_id + session->lane,
                                         .principal = session->principal};
    struct torc_completion_result result;
    struct torc_shard_outcome outcome = {.err = TORC_ERR_SEQ_OLD};

    switch (torc_completion_find(&worker->shards[place].engine.completions, who, request->wseq,
                                 &result)) {
    case TORC_COMPLETION_UNKNOWN: return false;
    case TORC_COMPLETION_DONE:
        outcome.err = result.err;
        outcome.info = result.info;
        break;
    case TORC_COMPLETION_OLD: break;
    }
    torc_worker_write_answer(worker, packet, answer, request, &outcome);
    return true;
}

static void put_refuse(struct torc_worker *worker, struct torc_packet *packet,
                       struct torc_answer *answer, const struct torc_request *request,
                       enum torc_err err)
{
    struct torc_shard_outcome outcome = {.err = err, .info = err == TORC_ERR_BUSY ? NO_ROOM_US : 0};

    torc_worker_write_answer(worker, packet, answer, request, &outcome);
}

// A piece into its entry, and what follows from it.
static void put_add(struct torc_worker *worker, struct torc_packet *packet,
                    struct torc_answer *answer, struct torc_fragment_entry *entry,
                    const struct torc_request *piece, uint32_t number)
{
    uint32_t missing = entry->first_missing;
    bool fresh =
        !entry->submitted && torc_fragments_add(&worker->fragments, entry, number, piece->data,
                                                piece->data_bytes, worker->now_ns);
    bool gap = number > missing;

    if (torc_fragment_is_whole(entry) && !entry->submitted) {
        put_submit(worker, packet, answer, entry);
        return;
    }
    // The last piece that the client may send is answered too: it waits for that.
    if (number == 0 || !fresh || gap || entry->have_count % STATE_EVERY == 0 ||
        number + 1 >= entry->told_limit) {
        put_state(worker, answer, entry);
    }
}

void torc_worker_put_begin(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_fragment_entry *entry =
        torc_fragments_find(&worker->fragments, put_id(packet, request));
    uint32_t place;
    bool is_owed;

    if (!torc_worker_may_write(packet, request->key)) {
        (void)torc_worker_write(worker, packet, answer, request, &is_owed); // no piece is looked at
        return;
    }
    if (torc_worker_write_check(worker, packet, answer, request, &place) != TORC_ERR_OK ||
        put_is_done(worker, packet, answer, request, place)) {
        return;
    }
    if (entry != NULL &&
        (entry->total_bytes != request->total_bytes ||
         entry->fragment_bytes != request->fragment_bytes || entry->put.wseq != request->wseq)) {
        // The op id serves another write now.
        torc_fragments_close(&worker->fragments, entry);
        entry = NULL;
    }
    if (request->total_bytes == 0 || request->fragment_bytes == 0 ||
        (request->total_bytes - 1) / request->fragment_bytes >= TORC_FRAGMENT_COUNT_MAX) {
        put_refuse(worker, packet, answer, request, TORC_ERR_INVALID_ARGUMENT);
        return;
    }
    if (entry == NULL) {
        entry = torc_fragments_open(&worker->fragments, put_id(packet, request),
                                    request->total_bytes, request->fragment_bytes, worker->now_ns);
        if (entry == NULL) {
            put_refuse(worker, packet, answer, request, TORC_ERR_BUSY);
            return;
        }
        entry->submitted = false;
        entry->put_seq = packet->seq;
    }
    if (!torc_fragment_fits(entry, 0, request->data_bytes)) {
        put_refuse(worker, packet, answer, request, TORC_ERR_INVALID_ARGUMENT);
        return;
    }
    // The newest attempt's epoch and number count: an older one may have been refused.
    entry->put = *request;
    entry->put.data = NULL;
    entry->refused = false;
    put_add(worker, packet, answer, entry, request, 0);
}

// Whether there is a PUT that this piece or question is about, and that pieces can still complete.
// What was sent before the entry's PUT may be of an earlier one that had this op id and key.
static bool put_goes_on(const struct torc_fragment_entry *entry, const struct torc_packet *packet,
                        const struct torc_request *request)
{
    return entry != NULL && packet->seq >= entry->put_seq && entry->put.key == request->key &&
           !entry->refused;
}

void torc_worker_put_piece(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_fragment_entry *entry =
        torc_fragments_find(&worker->fragments, put_id(packet, request));
    enum torc_err err = TORC_ERR_OK;

    if (!put_goes_on(entry, packet, request)) {
        err = TORC_ERR_NO_MESSAGE;
    } else if (!torc_fragment_fits(entry, request->fragment, request->data_bytes)) {
        err = TORC_ERR_INVALID_ARGUMENT;
    }
    if (err != TORC_ERR_OK) {
        torc_answer_status(worker, answer, request->opcode, request->op_id, err, 0);
        return;
    }
    torc_assert(entry != NULL); // else NO_MESSAGE
    put_add(worker, packet, answer, entry, request, request->fragment);
}

void torc_worker_put_query(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_fragment_entry *entry =
        torc_fragments_find(&worker->fragments, put_id(packet, request));

    if (!put_goes_on(entry, packet, request)) {
        torc_answer_status(worker, answer, request->opcode, request->op_id, TORC_ERR_NO_MESSAGE, 0);
        return;
    }
    torc_assert(entry != NULL); // else NO_MESSAGE
    torc_fragments_touch(&worker->fragments, entry, worker->now_ns);
    if (torc_fragment_is_whole(entry) && !entry->submitted) {
        put_submit(worker, packet, answer, entry);
        return;
    }
    put_state(worker, answer, entry);
}
