// Torc dataplane: writes: from the request to the engine and the log, and back to the client when
// the block that holds them is durable. See worker.h, storage/shard.h.
//
// The writes of one request packet share a gather: it keeps the way back and, for each write, what
// its answer will say. Answers of one packet that end together leave together.
#include "dataplane/worker_state.h"
#include "kit/bugs.h"

#include <string.h>

#define AWAY_US     20000u // of BUSY when control is silent
#define NO_ROOM_US  1000u  // of BUSY when a table is full
#define SWEEP_SLICE 32u
#define TAG_PLACE   8u // bits below the gather's place in a tag

// -- Gathers --------------------------------------------------------------------------------------

static uint64_t gather_tag(const struct torc_worker *worker, const struct torc_gather *gather,
                           uint32_t owed)
{
    uint64_t place = (uint64_t)(gather - worker->gathers);

    return (uint64_t)gather->generation << 32 | place << TAG_PLACE | owed;
}

// The write of a tag, or NULL: it was answered by other means and its gather is gone.
static struct torc_owed *gather_owed(struct torc_worker *worker, uint64_t tag,
                                     struct torc_gather **gather)
{
    uint32_t place = (uint32_t)tag >> TAG_PLACE;
    uint32_t owed = (uint32_t)tag & ((1u << TAG_PLACE) - 1);

    torc_assert(place < worker->gathers_max && owed < TORC_PACKET_OPS_MAX);
    *gather = &worker->gathers[place];
    if ((*gather)->generation != (uint32_t)(tag >> 32) || !(*gather)->used ||
        (*gather)->owed[owed].state != TORC_OWED_PENDING) {
        return NULL;
    }
    return &(*gather)->owed[owed];
}

// The packet's gather, made when it has none. NULL: all are taken.
static struct torc_gather *gather_of(struct torc_worker *worker, struct torc_packet *packet)
{
    struct torc_gather *gather;

    if (packet->gather != TORC_WORKER_NONE) {
        return &worker->gathers[packet->gather];
    }
    if (worker->gather_free == TORC_WORKER_NONE) {
        return NULL;
    }
    packet->gather = worker->gather_free;
    gather = &worker->gathers[packet->gather];
    worker->gather_free = gather->next;
    worker->gathers_used++;
    gather->to = packet->to;
    gather->generation++;
    gather->generation += gather->generation == 0 ? 1 : 0; // a tag is never 0
    gather->owed_count = 0;
    gather->pending_count = 0;
    gather->done_count = 0;
    gather->held = TORC_WORKER_NONE;
    gather->used = true;
    gather->queued = false;
    return gather;
}

static void gather_release(struct torc_worker *worker, struct torc_gather *gather)
{
    torc_assert(gather->used && !gather->queued);
    if (gather->held != TORC_WORKER_NONE) {
        worker->held_free[worker->held_free_count++] = gather->held;
    }
    gather->used = false;
    gather->next = worker->gather_free;
    worker->gather_free = (uint32_t)(gather - worker->gathers);
    worker->gathers_used--;
}

static void gather_queue(struct torc_worker *worker, struct torc_gather *gather)
{
    uint32_t place = (uint32_t)(gather - worker->gathers);

    if (gather->queued) {
        return;
    }
    gather->queued = true;
    gather->next = TORC_WORKER_NONE;
    if (worker->ready_head == TORC_WORKER_NONE) {
        worker->ready_head = place;
    } else {
        worker->gathers[worker->ready_tail].next = place;
    }
    worker->ready_tail = place;
}

static uint32_t gather_since(const struct torc_gather *gather, uint64_t at_ns)
{
    uint64_t from_ns = gather->to.arrived_ns;

    return at_ns > from_ns ? (uint32_t)torc_min_u64(at_ns - from_ns, UINT32_MAX) : 0;
}

static struct torc_owed *gather_add(struct torc_worker *worker, struct torc_gather *gather,
                                    const struct torc_request *request)
{
    struct torc_owed *owed;
    uint64_t budget_us = (uint64_t)worker->deadline_ms_max * 1000;

    torc_assert(gather != NULL);
    torc_assert(gather->owed_count < TORC_PACKET_OPS_MAX);
    if (torc_unlikely((request->flags & TORC_FLAG_TRACE) != 0)) {
        uint32_t now_ns = gather_since(gather, torc_worker_trace_ns(worker));

        gather->times[gather->owed_count] = (struct torc_owed_times){
            gather_since(gather, worker->taken_ns), now_ns, now_ns, now_ns};
    }
    if (request->budget_us != 0 && request->budget_us < budget_us) {
        budget_us = request->budget_us;
    }
    owed = &gather->owed[gather->owed_count++];
    owed->info = 0;
    owed->key = request->key;
    owed->deadline_ns = gather->to.arrived_ns + budget_us * 1000;
    owed->op_id = request->op_id;
    owed->opcode = request->opcode;
    owed->flags = request->flags;
    owed->attempt = request->attempt;
    owed->status = TORC_ERR_OK;
    owed->waiting = 0;
    owed->place = 0;
    return owed;
}

// A write of the packet was gathered. Where all answers of a packet go together, its one stays owed
// until they are sent.
static void answer_owe(const struct torc_packet *packet, struct torc_answer *answer)
{
    answer->owed_bytes += packet->tight ? TORC_WRITE_REPLY_BYTES : 0;
}

// NULL: nobody asked for the times of this write.
static struct torc_owed_times *owed_times(struct torc_gather *gather, const struct torc_owed *owed)
{
    return torc_unlikely((owed->flags & TORC_FLAG_TRACE) != 0) ? &gather->times[owed - gather->owed]
                                                               : NULL;
}

static struct torc_owed *wait_owed(struct torc_worker *worker, uint32_t place,
                                   struct torc_gather **gather)
{
    uint32_t name = worker->waits[place].name;

    *gather = &worker->gathers[name >> TAG_PLACE];
    return &(*gather)->owed[name & ((1u << TAG_PLACE) - 1)];
}

// Where its list begins that waits.
static uint32_t *wait_home(struct torc_worker *worker, uint64_t serial, uint32_t op_id)
{
    uint64_t mixed = (serial * 0x9e3779b97f4a7c15u) ^ op_id ^ worker->config.seed;

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    return &worker->wait_table[(mixed ^ (mixed >> 31)) & worker->wait_mask];
}

// The write waits at that place of the engine.
static void owed_wait(struct torc_worker *worker, struct torc_gather *gather,
                      struct torc_owed *owed, uint32_t place)
{
    uint32_t *home = wait_home(worker, gather->to.serial, owed->op_id);

    torc_assert(owed->waiting == 0);
    owed->waiting = 1;
    owed->place = place;
    worker->waits[place] = (struct torc_owed_wait){
        .name = (uint32_t)gather_tag(worker, gather, (uint32_t)(owed - gather->owed)),
        .next = *home,
        .prev = TORC_WORKER_NONE};
    if (*home != TORC_WORKER_NONE) {
        worker->waits[*home].prev = place;
    }
    *home = place;
}

// Its turn has come, or nobody waits for it any more.
static void owed_unwait(struct torc_worker *worker, const struct torc_gather *gather,
                        struct torc_owed *owed)
{
    const struct torc_owed_wait *wait = &worker->waits[owed->place];

    if (owed->waiting == 0) {
        return;
    }
    owed->waiting = 0;
    if (wait->prev == TORC_WORKER_NONE) {
        *wait_home(worker, gather->to.serial, owed->op_id) = wait->next;
    } else {
        worker->waits[wait->prev].next = wait->next;
    }
    if (wait->next != TORC_WORKER_NONE) {
        worker->waits[wait->next].prev = wait->prev;
    }
}

// A write's record is in the log's open block.
static void owed_logged(struct torc_worker *worker, struct torc_gather *gather,
                        const struct torc_owed *owed)
{
    struct torc_owed_times *times = owed_times(gather, owed);

    if (times != NULL) {
        times->logged_ns = gather_since(gather, torc_worker_trace_ns(worker));
    }
}

// A pending write has its answer.
static void owed_end(struct torc_worker *worker, struct torc_gather *gather, struct torc_owed *owed,
                     enum torc_err err, uint64_t info)
{
    struct torc_session_line *line = torc_session_line_at(
        worker->sessions, worker->index, gather->to.index & ((1u << TORC_SESSION_SLOT_BITS) - 1));

    struct torc_owed_times *times = owed_times(gather, owed);

    torc_assert(owed->state == TORC_OWED_PENDING);
    owed->state = TORC_OWED_DONE;
    owed->status = (uint8_t)err;
    owed->info = info;
    gather->pending_count--;
    gather->done_count++;
    if (times != NULL) {
        times->durable_ns = gather_since(gather, torc_worker_trace_ns(worker));
        // Never logged: it was waiting to be.
        times->logged_ns = owed->waiting != 0 ? times->durable_ns : times->logged_ns;
    }
    owed_unwait(worker, gather, owed);
    if (torc_session_line_serial(line) == gather->to.serial) {
        torc_session_line_count(line, -1);
    }
    if ((owed->flags & TORC_WRITE_FRAGMENTED) != 0 && owed->opcode == TORC_OPCODE_PUT) {
        torc_worker_put_ended(worker, gather->to.serial, owed->op_id);
    }
    torc_stats_time(&worker->stats->write_times, worker->now_ns - gather->to.arrived_ns);
    gather_queue(worker, gather);
}

// -- Before and after a packet --------------------------------------------------------------------

static uint32_t writes_packets(const struct torc_answer *answer, uint32_t write_count)
{
    uint32_t each = (answer->limit_bytes - TORC_DATA_HEAD_BYTES) / TORC_WRITE_REPLY_BYTES;

    return (write_count + each - 1) / each;
}

void torc_worker_writes_begin(struct torc_worker *worker, struct torc_packet *packet,
                              struct torc_answer *answer)
{
    uint32_t kept;
    uint32_t held;
    struct torc_gather *gather;

    if (packet->write_count == 0) {
        return;
    }
    kept = writes_packets(answer, packet->write_count);
    if (packet->to.packets_left > kept) {
        answer->packets_kept = kept;
        return;
    }
    // The allowance is used up by the writes' answers, so all answers of the packet go together:
    // those to its other operations wait in memory of ours.
    gather = gather_of(worker, packet);
    if (gather == NULL ||
        (packet->plain_count < packet->op_count && worker->held_free_count == 0)) {
        packet->write_busy = true;
        return;
    }
    packet->tight = true;
    if (packet->plain_count < packet->op_count) {
        held = worker->held_free[--worker->held_free_count];
        gather->held = held;
        torc_answer_hold(answer, worker->held + (uint64_t)held * TORC_WORKER_HELD_BYTES,
                         TORC_DATA_HEAD_BYTES, TORC_WORKER_HELD_BYTES);
    }
}

void torc_worker_writes_end(struct torc_worker *worker, struct torc_packet *packet,
                            struct torc_answer *answer)
{
    struct torc_gather *gather =
        packet->gather == TORC_WORKER_NONE ? NULL : &worker->gathers[packet->gather];

    if (gather != NULL && gather->held != TORC_WORKER_NONE) {
        gather->held_bytes = answer->used_bytes;
    } else {
        torc_answer_close(worker, answer);
    }
    if (gather == NULL) {
        return;
    }
    gather->to = packet->to; // with what is left of the allowance
    if (gather->pending_count == 0 && gather->done_count == 0 &&
        (gather->held == TORC_WORKER_NONE || gather->held_bytes == TORC_DATA_HEAD_BYTES)) {
        if (!gather->queued) {
            gather_release(worker, gather);
        }
        return;
    }
    if (gather->pending_count == 0) {
        gather_queue(worker, gather);
    }
}

// -- Answers --------------------------------------------------------------------------------------

// Writes one answer; `value` (or NULL) is the present record, added if there is room.
static void write_put_answer(struct torc_worker *worker, struct torc_answer *answer,
                             const struct torc_owed *owed, const struct torc_tree_hit *value)
{
    uint32_t value_bytes = value == NULL ? 0 : value->value_bytes;
    struct torc_reply reply = {.opcode = (uint8_t)(owed->opcode | TORC_REPLY_BIT),
                               .status = owed->status,
                               .op_id = owed->op_id,
                               .info = owed->info};
    uint32_t room = torc_answer_room(worker, answer, TORC_WRITE_REPLY_BYTES,
                                     TORC_WRITE_REPLY_BYTES + value_bytes);
    unsigned char *body;

    if (room == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    torc_write_reply_body(body, owed->attempt);
    reply.body = body;
    reply.body_bytes = TORC_WRITE_REPLY_BYTES - TORC_REPLY_HEAD_BYTES;
    // Whole or not at all: the version tells the client that there is one to be had.
    if (value_bytes > 0 && room >= TORC_WRITE_REPLY_BYTES + value_bytes) {
        memcpy(body + reply.body_bytes, value->value, value_bytes);
        reply.body_bytes += value_bytes;
    }
    torc_answer_put(worker, answer, &reply);
}

void torc_worker_write_answer(struct torc_worker *worker, struct torc_packet *packet,
                              struct torc_answer *answer, const struct torc_request *request,
                              const struct torc_shard_outcome *outcome)
{
    struct torc_tree_hit value = {.value = outcome->value, .value_bytes = outcome->value_bytes};
    struct torc_owed now = {.info = outcome->info,
                            .op_id = request->op_id,
                            .opcode = request->opcode,
                            .attempt = request->attempt,
                            .status = (uint8_t)outcome->err};
    struct torc_gather *gather;
    struct torc_owed *owed;

    if (!packet->tight) {
        write_put_answer(worker, answer, &now, outcome->has_value ? &value : NULL);
        if ((request->flags & TORC_FLAG_TRACE) != 0) {
            uint64_t now_ns = torc_worker_trace_ns(worker);

            torc_worker_trace(worker, answer, request->op_id,
                              &(struct torc_trace_times){worker->taken_ns, now_ns, now_ns, now_ns});
        }
        if (outcome->err == TORC_ERR_WRONG_SHARD) {
            torc_worker_map_attach(worker, packet, answer, request->op_id, request->key);
        }
        return;
    }
    torc_assert(packet->gather != TORC_WORKER_NONE); // a tight packet has its gather from the start
    gather = &worker->gathers[packet->gather];
    owed = gather_add(worker, gather, request);
    answer_owe(packet, answer);
    owed->state = TORC_OWED_DONE;
    owed->status = (uint8_t)outcome->err;
    owed->info = outcome->info;
    gather->done_count++;
}

// The record that a failed condition met, if its answer is to carry it and it is still there.
static bool owed_current(struct torc_worker *worker, const struct torc_owed *owed,
                         struct torc_tree_hit *hit)
{
    uint32_t place;

    if (owed->status != TORC_ERR_CONDITION_FAILED || owed->info == 0 ||
        (owed->flags & TORC_WRITE_RETURN_CURRENT) == 0) {
        return false;
    }
    place = torc_worker_shard_of(worker, owed->key);
    return place != TORC_WORKER_NONE &&
           torc_tree_lookup(&worker->shards[place].engine.tree, owed->key, hit) &&
           hit->version == owed->info;
}

static void owed_trace(struct torc_worker *worker, struct torc_gather *gather,
                       struct torc_answer *answer, const struct torc_owed *owed)
{
    const struct torc_owed_times *times = owed_times(gather, owed);
    uint64_t from_ns = gather->to.arrived_ns;

    if (times != NULL) {
        torc_worker_trace(
            worker, answer, owed->op_id,
            &(struct torc_trace_times){from_ns + times->dequeued_ns, from_ns + times->tree_ns,
                                       from_ns + times->logged_ns, from_ns + times->durable_ns});
    }
}

static void gather_put(struct torc_worker *worker, struct torc_gather *gather,
                       struct torc_answer *answer)
{
    struct torc_tree_hit hit;

    answer->owed_bytes = gather->done_count * TORC_WRITE_REPLY_BYTES;
    if (gather->held != TORC_WORKER_NONE && gather->held_bytes > TORC_DATA_HEAD_BYTES) {
        uint32_t bytes = gather->held_bytes - TORC_DATA_HEAD_BYTES;

        if (torc_answer_room(worker, answer, bytes, bytes) != 0) {
            memcpy(torc_answer_at(answer),
                   worker->held + (uint64_t)gather->held * TORC_WORKER_HELD_BYTES +
                       TORC_DATA_HEAD_BYTES,
                   bytes);
            answer->used_bytes += bytes;
        }
    }
    for (uint32_t i = 0; i < gather->owed_count; i++) {
        struct torc_owed *owed = &gather->owed[i];
        if (owed->state == TORC_OWED_DONE) {
            answer->owed_bytes -= TORC_WRITE_REPLY_BYTES;
            write_put_answer(worker, answer, owed, owed_current(worker, owed, &hit) ? &hit : NULL);
            owed->state = TORC_OWED_SENT;
            owed_trace(worker, gather, answer, owed);
        }
    }
    gather->done_count = 0;
}

// Sends what has ended. False: no transmit buffer.
static bool gather_send(struct torc_worker *worker, struct torc_gather *gather)
{
    struct torc_answer answer;
    uint32_t later;

    if (!torc_answer_begin(worker, &answer, &gather->to)) {
        gather->done_count = 0; // the session has ended: nobody waits
        return true;
    }
    // Those still pending keep what they need of the allowance, or all wait for the last.
    later = gather->pending_count == 0 ? 0 : writes_packets(&answer, gather->pending_count);
    if (later > 0 &&
        (gather->held != TORC_WORKER_NONE ||
         gather->to.packets_left < later + writes_packets(&answer, gather->done_count))) {
        return true;
    }
    if (worker->turn->tx_room - worker->turn->tx_count <
        writes_packets(&answer, gather->done_count) + 1) {
        return false;
    }
    answer.packets_kept = later;
    gather_put(worker, gather, &answer);
    torc_answer_close(worker, &answer);
    return true;
}

bool torc_worker_send_ready(struct torc_worker *worker)
{
    while (worker->ready_head != TORC_WORKER_NONE) {
        struct torc_gather *gather = &worker->gathers[worker->ready_head];

        if (!gather_send(worker, gather)) {
            return false;
        }
        worker->ready_head = gather->next;
        gather->queued = false;
        if (gather->pending_count == 0) {
            gather_release(worker, gather);
        }
    }
    return true;
}

// -- Requests -------------------------------------------------------------------------------------

static bool write_control_away(const struct torc_worker *worker)
{
    uint64_t turned_ns =
        atomic_load_explicit(&worker->chan->control_turned_ns, memory_order_relaxed);

    return worker->now_ns > turned_ns &&
           worker->now_ns - turned_ns > (uint64_t)worker->config.control_grace_ms * 1000000;
}

// What a replica lets a write do: of one that reads too, nothing without a lease (L3).
static enum torc_err write_replica_state(const struct torc_worker *worker,
                                         const struct torc_worker_shard *shard, bool reads,
                                         uint64_t *info)
{
    if (shard->replica == NULL) {
        return TORC_ERR_OK;
    }
    if (torc_replica_may_append(&shard->replica->machine) == TORC_ERR_OK &&
        (shard->readable || !reads || TORC_BUG(CLOCK_WITHOUT_LEASE))) {
        return TORC_ERR_OK;
    }
    return torc_worker_replica_refusal(worker, shard, info);
}

// Whether the log takes a record of that size now, in the words of an answer.
static void write_log_state(struct torc_worker *worker, struct torc_shard_write *write)
{
    struct torc_log_refusal refusal =
        torc_log_writer_admit(&worker->log, write->remove ? 0 : write->value_bytes);

    write->log_err = refusal.err;
    write->log_info = refusal.err == TORC_ERR_NO_SPACE || refusal.err == TORC_ERR_UNAVAILABLE
                          ? torc_info_reason(refusal.reason, refusal.retry_us)
                          : refusal.retry_us;
    if (refusal.err == TORC_ERR_OK && write_control_away(worker)) {
        write->log_err = TORC_ERR_BUSY;
        write->log_info = AWAY_US;
    }
}

enum torc_err torc_worker_write_check(struct torc_worker *worker, struct torc_packet *packet,
                                      struct torc_answer *answer,
                                      const struct torc_request *request, uint32_t *place)
{
    struct torc_shard_outcome outcome = {.err = TORC_ERR_OK};
    bool reads = torc_worker_write_reads(request);
    uint64_t bytes =
        (request->flags & TORC_WRITE_FRAGMENTED) != 0 ? request->total_bytes : request->data_bytes;
    struct torc_fail why;

    *place = torc_worker_shard_of(worker, request->key);
    if (request->key >= worker->cluster.key_count && !packet->tight) {
        (void)torc_fail(&why, TORC_ERR_INVALID_ARGUMENT, "key %" PRIu64 ": keys are below %" PRIu64,
                        request->key, worker->cluster.key_count);
        torc_answer_text(worker, answer, request, &why);
        return why.err;
    }
    if (request->key >= worker->cluster.key_count) {
        outcome.err = TORC_ERR_INVALID_ARGUMENT;
    } else if (request->opcode == TORC_OPCODE_PUT && bytes > worker->cluster.value_bytes_max) {
        outcome.err = TORC_ERR_TOO_LARGE;
        outcome.info = worker->cluster.value_bytes_max;
    } else if (*place == TORC_WORKER_NONE ||
               worker->shards[*place].engine.state != TORC_SHARD_ACTIVE) {
        outcome.err = torc_worker_not_here(worker, request->key, &outcome.info);
    } else if ((outcome.err = write_replica_state(worker, &worker->shards[*place], reads,
                                                  &outcome.info)) != TORC_ERR_OK) {
        // a replica that may not now
    } else if (packet->write_busy) {
        outcome.err = TORC_ERR_BUSY;
        outcome.info = NO_ROOM_US;
    } else if (torc_session_line_in_flight(packet->line) >= worker->config.limits.core_ops) {
        outcome.err = TORC_ERR_LIMIT;
        outcome.info = worker->config.limits.core_ops;
    }
    if (outcome.err != TORC_ERR_OK) {
        torc_worker_write_answer(worker, packet, answer, request, &outcome);
    }
    return outcome.err;
}

static void write_fill(struct torc_shard_write *write, const struct torc_packet *packet,
                       const struct torc_request *request)
{
    *write = (struct torc_shard_write){
        .key = request->key,
        .if_version = request->version,
        .client = packet->session->client_id + packet->session->lane,
        .seq = request->wseq,
        .low = request->lowest,
        .stamp = request->stamp,
        .value = request->data,
        .value_bytes = request->data_bytes,
        .principal = packet->session->principal,
        .epoch = request->epoch,
        .attempt = request->attempt,
        .remove = request->opcode == TORC_OPCODE_DELETE,
        .forbidden = !torc_worker_may_write(packet, request->key),
        .want_current = (request->flags & TORC_WRITE_RETURN_CURRENT) != 0,
        .condition = (request->flags & TORC_WRITE_IF_ABSENT) != 0    ? TORC_SHARD_IF_ABSENT
                     : (request->flags & TORC_WRITE_IF_PRESENT) != 0 ? TORC_SHARD_IF_PRESENT
                     : (request->flags & TORC_WRITE_IF_VERSION) != 0 ? TORC_SHARD_IF_VERSION
                                                                     : TORC_SHARD_ANY};
}

void torc_worker_append(struct torc_worker *worker, struct torc_shard *shard,
                        const struct torc_log_record *record)
{
    uint64_t first_sequence = worker->log.next_sequence;
    uint64_t last_sequence = torc_log_writer_append(&worker->log, record, worker->now_ns);

    if (shard->shared && torc_worker_of_engine(shard)->replica->live) {
        torc_shipped_keep(&worker->replicas.shipped, record);
    }
    torc_shard_appended(shard, first_sequence, last_sequence);
}

// A bug on purpose: what is refused is kept all the same, and executed when this node serves.
static void write_keep(struct torc_worker *worker, const struct torc_packet *packet,
                       const struct torc_request *request, uint32_t place)
{
    struct torc_shard_write write;
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    enum torc_shard_verdict verdict;

    write_fill(&write, packet, request);
    write.tag = 0; // nobody waits for it
    verdict = torc_shard_write(&worker->shards[place].engine, &write, &record, &outcome);
    torc_assert(verdict != TORC_SHARD_APPEND); // it is a candidate
}

enum torc_err torc_worker_write(struct torc_worker *worker, struct torc_packet *packet,
                                struct torc_answer *answer, const struct torc_request *request,
                                bool *is_owed)
{
    struct torc_shard_write write;
    struct torc_log_record record;
    struct torc_shard_outcome outcome = {.err = TORC_ERR_BUSY, .info = NO_ROOM_US};
    enum torc_shard_verdict verdict = TORC_SHARD_ANSWER;
    struct torc_gather *gather;
    struct torc_owed *owed;
    uint32_t place;
    enum torc_err err = torc_worker_write_check(worker, packet, answer, request, &place);

    *is_owed = false;
    if (err == TORC_ERR_TAKING_OVER && place != TORC_WORKER_NONE &&
        worker->shards[place].engine.state == TORC_SHARD_OPENING &&
        (request->flags & TORC_WRITE_FRAGMENTED) == 0 && TORC_BUG(CANDIDATE_KEEPS)) {
        write_keep(worker, packet, request, place);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    gather = gather_of(worker, packet);
    if (gather != NULL) {
        write_fill(&write, packet, request);
        write.tag = gather_tag(worker, gather, gather->owed_count);
        write_log_state(worker, &write);
        verdict = torc_shard_write(&worker->shards[place].engine, &write, &record, &outcome);
    }
    if (verdict == TORC_SHARD_ANSWER && outcome.err == TORC_ERR_FORBIDDEN) {
        torc_worker_forbid(worker, packet, answer, request);
        return outcome.err;
    }
    if (verdict == TORC_SHARD_ANSWER) {
        torc_worker_write_answer(worker, packet, answer, request, &outcome);
        return outcome.err;
    }
    torc_assert(!write.forbidden);
    owed = gather_add(worker, gather, request);
    answer_owe(packet, answer);
    owed->state = TORC_OWED_PENDING;
    gather->pending_count++;
    torc_session_line_count(packet->line, 1);
    if (verdict == TORC_SHARD_WAIT) {
        owed_wait(worker, gather, owed, outcome.place);
    } else {
        torc_worker_append(worker, &worker->shards[place].engine, &record);
        owed_logged(worker, gather, owed);
        if (TORC_BUG(DEMOTED_ANSWERS)) {
            owed->info = record.hlc;
        }
    }
    *is_owed = true;
    return TORC_ERR_OK;
}

// -- Commit ---------------------------------------------------------------------------------------

static void commit_outcome(struct torc_worker *worker, const struct torc_shard_outcome *outcome)
{
    struct torc_gather *gather;
    struct torc_owed *owed = gather_owed(worker, outcome->tag, &gather);

    if (owed != NULL) {
        owed_end(worker, gather, owed, outcome->err, outcome->info);
    }
}

// Whether a write that waited may go on; if not, it has its answer.
static bool commit_may_go_on(struct torc_worker *worker, struct torc_shard *engine,
                             const struct torc_shard_write *write)
{
    const struct torc_worker_shard *shard = torc_worker_of_engine(engine);
    bool reads = write->remove || write->condition != TORC_SHARD_ANY;
    struct torc_gather *gather;
    struct torc_owed *owed;
    uint64_t info = 0;
    enum torc_err err = write_replica_state(worker, shard, reads, &info);

    if (err == TORC_ERR_OK) {
        return true;
    }
    owed = gather_owed(worker, write->tag, &gather);
    if (owed != NULL) {
        owed_end(worker, gather, owed, err, info);
    }
    return false;
}

// Evaluates again what waited. True: there was something.
static bool commit_woken(struct torc_worker *worker)
{
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    struct torc_shard_write *write;
    struct torc_gather *gather;
    struct torc_shard *shard;
    struct torc_owed *owed;
    bool any = false;

    while ((write = torc_shard_woken(&worker->pool, &shard)) != NULL) {
        uint64_t tag = write->tag;
        enum torc_shard_verdict verdict;

        any = true;
        if (!commit_may_go_on(worker, shard, write)) {
            continue;
        }
        write_log_state(worker, write);
        verdict = torc_shard_write(shard, write, &record, &outcome);
        if (verdict == TORC_SHARD_APPEND) {
            torc_worker_append(worker, shard, &record);
        }
        owed = gather_owed(worker, tag, &gather);
        if (owed != NULL && verdict == TORC_SHARD_ANSWER) {
            owed_end(worker, gather, owed, outcome.err, outcome.info);
        } else if (owed != NULL) {
            owed_unwait(worker, gather, owed);
            if (verdict == TORC_SHARD_WAIT) {
                owed_wait(worker, gather, owed, outcome.place);
            }
            owed_logged(worker, gather, owed);
            if (TORC_BUG(DEMOTED_ANSWERS)) {
                owed->info = record.hlc;
            }
        }
    }
    return any;
}

void torc_worker_ended(struct torc_worker *worker, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        commit_outcome(worker, &worker->outcomes[i]);
    }
    (void)commit_woken(worker);
}

// An answer is owed no more: the client hears nothing, and asks another member.
static void owed_forget(struct torc_worker *worker, struct torc_gather *gather,
                        struct torc_owed *owed)
{
    struct torc_session_line *line = torc_session_line_at(
        worker->sessions, worker->index, gather->to.index & ((1u << TORC_SESSION_SLOT_BITS) - 1));

    owed->state = TORC_OWED_SENT;
    owed_unwait(worker, gather, owed);
    gather->pending_count--;
    if (torc_session_line_serial(line) == gather->to.serial) {
        torc_session_line_count(line, -1);
    }
    if ((owed->flags & TORC_WRITE_FRAGMENTED) != 0 && owed->opcode == TORC_OPCODE_PUT) {
        torc_worker_put_ended(worker, gather->to.serial, owed->op_id);
    }
}

void torc_worker_writes_forget(struct torc_worker *worker, const struct torc_shard *shard)
{
    for (uint32_t place = 0; place < worker->gathers_max && worker->gathers_used > 0; place++) {
        struct torc_gather *gather = &worker->gathers[place];
        bool any = false;

        for (uint32_t i = 0; gather->used && i < gather->owed_count; i++) {
            struct torc_owed *owed = &gather->owed[i];

            if (owed->state != TORC_OWED_PENDING || !torc_shard_has(shard, owed->key)) {
                continue;
            }
            any = true;
            if (owed->waiting == 0 && TORC_BUG(DEMOTED_ANSWERS)) {
                owed_end(worker, gather, owed, TORC_ERR_OK, owed->info);
            } else {
                owed_forget(worker, gather, owed);
            }
        }
        if (any && gather->pending_count == 0) {
            gather_queue(worker, gather); // what else it owes is sent, and it is given back
        }
    }
}

void torc_worker_commit(struct torc_worker *worker)
{
    bool at_once =
        worker->cluster.durability != TORC_DURABILITY_DURABLE || TORC_BUG(ACK_BEFORE_DURABLE);
    uint64_t durable = at_once ? UINT64_MAX : worker->log.durable;
    bool again = worker->configured;

    while (again) {
        uint32_t count =
            torc_shard_commit(&worker->pool, durable, worker->outcomes, TORC_WORKER_OUTCOMES);

        for (uint32_t i = 0; i < count; i++) {
            commit_outcome(worker, &worker->outcomes[i]);
        }
        // What woke may have been appended, and is then committed already when nobody waits for a
        // disk.
        again = (commit_woken(worker) && at_once) || count == TORC_WORKER_OUTCOMES;
    }
}

// -- Deadlines, cancelling ------------------------------------------------------------------------

// Takes the write back that waits. False: it does not, or its turn has just come.
static bool wait_cancel(struct torc_worker *worker, const struct torc_gather *gather,
                        const struct torc_owed *owed)
{
    return owed->waiting != 0 &&
           torc_shard_cancel(&worker->pool, owed->place,
                             gather_tag(worker, gather, (uint32_t)(owed - gather->owed)));
}

// Ends what can no longer be waited for. Appended writes are in doubt: they may still become
// durable.
static void sweep_gather(struct torc_worker *worker, struct torc_gather *gather)
{
    for (uint32_t i = 0; i < gather->owed_count; i++) {
        struct torc_owed *owed = &gather->owed[i];
        bool late = worker->now_ns >= owed->deadline_ns;

        if (owed->state != TORC_OWED_PENDING || (!late && !worker->log.failed)) {
            continue;
        }
        if (wait_cancel(worker, gather, owed)) {
            owed_end(worker, gather, owed, late ? TORC_ERR_DEADLINE : TORC_ERR_UNAVAILABLE,
                     late ? 0 : torc_info_reason(TORC_UNAVAILABLE_LOG_FAILED, 0));
        } else {
            owed_end(worker, gather, owed, TORC_ERR_IN_DOUBT, 0);
        }
    }
}

void torc_worker_sweep_writes(struct torc_worker *worker)
{
    for (uint32_t i = 0; i < SWEEP_SLICE && worker->gathers_used > 0; i++) {
        struct torc_gather *gather = &worker->gathers[worker->gather_sweep];

        worker->gather_sweep = (worker->gather_sweep + 1) % worker->gathers_max;
        if (gather->used && gather->pending_count > 0) {
            sweep_gather(worker, gather);
        }
    }
}

bool torc_worker_cancel_write(struct torc_worker *worker, uint64_t serial, uint32_t op_id)
{
    uint32_t place = *wait_home(worker, serial, op_id);

    for (; place != TORC_WORKER_NONE; place = worker->waits[place].next) {
        struct torc_gather *gather;
        struct torc_owed *owed = wait_owed(worker, place, &gather);

        if (owed->op_id == op_id && gather->to.serial == serial &&
            wait_cancel(worker, gather, owed)) {
            owed_end(worker, gather, owed, TORC_ERR_CANCELLED, 0);
            return true;
        }
    }
    return false;
}
