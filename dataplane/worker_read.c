// Torc dataplane: gets of a whole burst, looked up together; PULL. See worker.h.
#include "dataplane/worker_state.h"
#include "kit/bugs.h"

#include <string.h>

#define PARTIAL_BYTES (TORC_REPLY_HEAD_BYTES + TORC_PARTIAL_HEAD_BYTES)
#define PULL_BYTES    (TORC_REPLY_HEAD_BYTES + TORC_PULL_HEAD_BYTES)
#define NOT_HERE      UINT16_MAX
#define RETRY_US      1000u
// Entries of the undo window that one request may have indexed: some 50 us.
#define PAST_ENTRIES 256u
#define PAST_TURN    2048u // of what was written, at most: some 0.4 ms
// A reader of the past that is not heard of for so long has gone (as a cursor, scan.h).
#define PIN_US UINT64_C(2000000)

// The fields of a plain get as they lie in its packet.
struct read_get_wire {
    uint8_t opcode;
    uint8_t flags;
    struct torc_le16 length;
    struct torc_le32 op_id;
    struct torc_le32 budget_us;
    struct torc_le32 epoch;
    struct torc_le64 key;
};

_Static_assert(sizeof(struct read_get_wire) == TORC_WORKER_GET_BYTES, "wire format");

// -- A burst's gets -------------------------------------------------------------------------------

static void read_note(struct torc_worker *worker, const unsigned char *op)
{
    struct torc_get *get = &worker->gets[worker->get_count++];
    struct torc_le64 key;
    uint32_t place;

    memcpy(&key, op + offsetof(struct read_get_wire, key), sizeof(key));
    get->key = torc_get_le64(key);
    place = torc_worker_shard_of(worker, get->key);
    if (place == TORC_WORKER_NONE || !torc_worker_is_readable(worker, place)) {
        get->shard = NOT_HERE;
        return;
    }
    get->shard = (uint16_t)place;
    get->place = worker->get_counts[place]++;
}

void torc_worker_note_gets(struct torc_worker *worker, struct torc_packet *packet)
{
    struct torc_framing framing = {.bytes = packet->ops, .byte_count = packet->ops_bytes};
    const unsigned char *op;
    uint32_t length;

    packet->get_next = worker->get_count;
    packet->read_count = 0;
    packet->owed_bytes = 0;
    while (torc_framing_next(&framing, &op, &length)) {
        packet->owed_bytes += torc_worker_op_owed(op, length);
        if (op[0] == TORC_OPCODE_PUT || op[0] == TORC_OPCODE_DELETE) {
            packet->write_count++;
            packet->plain_count += (op[1] & TORC_WRITE_FRAGMENTED) == 0 ? 1 : 0;
        } else if (op[0] == TORC_OPCODE_FRAG) {
            packet->write_count++;
        } else if (op[0] == TORC_OPCODE_RANGE_READ || op[0] == TORC_OPCODE_RANGE_OPEN ||
                   op[0] == TORC_OPCODE_PULL || op[0] == TORC_OPCODE_STATUS) {
            packet->late = true;
        }
    }
    if (packet->late) {
        return;
    }
    framing.at = 0;
    while (torc_framing_next(&framing, &op, &length)) {
        if (torc_worker_is_plain_get(op, length)) {
            read_note(worker, op);
        }
    }
}

void torc_worker_look_up(struct torc_worker *worker)
{
    uint32_t start = 0;

    if (worker->get_count == 0) {
        return;
    }
    // From counts to first places, shard by shard.
    for (uint32_t place = 0; place < worker->shard_count; place++) {
        uint32_t count = worker->get_counts[place];

        worker->get_counts[place] = start;
        start += count;
    }
    for (uint32_t i = 0; i < worker->get_count; i++) {
        struct torc_get *get = &worker->gets[i];

        if (get->shard != NOT_HERE) {
            get->place += worker->get_counts[get->shard];
            worker->get_keys[get->place] = get->key;
        }
    }
    for (uint32_t place = 0; place < worker->shard_count; place++) {
        uint32_t first = worker->get_counts[place];
        uint32_t next = place + 1 < worker->shard_count ? worker->get_counts[place + 1] : start;

        if (next > first) {
            torc_shard_get(&worker->shards[place].engine, worker->get_keys + first, next - first,
                           worker->hits + first);
        }
    }
    memset(worker->get_counts, 0, worker->shard_count * sizeof(worker->get_counts[0]));
}

// -- Answers --------------------------------------------------------------------------------------

static void read_value(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                       const struct torc_tree_hit *hit)
{
    struct torc_reply reply = {.opcode = TORC_OPCODE_GET | TORC_REPLY_BIT,
                               .status = TORC_ERR_OK,
                               .op_id = op_id,
                               .info = hit->version,
                               .body = hit->value,
                               .body_bytes = hit->value_bytes};
    uint32_t whole = TORC_REPLY_HEAD_BYTES + hit->value_bytes;
    uint32_t least = whole < PARTIAL_BYTES ? whole : PARTIAL_BYTES;
    uint32_t room = torc_answer_room(worker, answer, least, whole);
    struct torc_le32 total = torc_le32(hit->value_bytes);
    unsigned char *body;

    if (room == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    if (room < whole) {
        body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
        reply.status = TORC_ERR_PARTIAL;
        reply.body = body;
        reply.body_bytes = room - TORC_REPLY_HEAD_BYTES;
        memcpy(body, &total, sizeof(total));
        memcpy(body + sizeof(total), hit->value, room - PARTIAL_BYTES);
    }
    torc_answer_put(worker, answer, &reply);
}

static void read_answer(struct torc_worker *worker, struct torc_packet *packet,
                        struct torc_answer *answer, const struct torc_request *request,
                        const struct torc_tree_hit *hit)
{
    packet->read_count++;
    if (!hit->found) {
        torc_answer_status(worker, answer, TORC_OPCODE_GET, request->op_id, TORC_ERR_NOT_FOUND, 0);
    } else if ((request->flags & TORC_GET_VERSION_ONLY) != 0) {
        torc_answer_status(worker, answer, TORC_OPCODE_GET, request->op_id, TORC_ERR_OK,
                           hit->version);
    } else {
        read_value(worker, answer, request->op_id, hit);
    }
}

// Checks that need no tree. False: the get was answered.
static bool read_check(struct torc_worker *worker, struct torc_packet *packet,
                       struct torc_answer *answer, const struct torc_request *request,
                       uint32_t place)
{
    enum torc_err err = TORC_ERR_OK;
    uint64_t info = 0;
    struct torc_fail why;

    if (!torc_worker_may(worker, packet, TORC_ROLE_READ, request->key, request->key + 1)) {
        err = TORC_ERR_FORBIDDEN;
    } else if (!torc_worker_serves(worker, &info)) {
        err = TORC_ERR_UNAVAILABLE;
    } else if (request->key >= worker->cluster.key_count) {
        (void)torc_fail(&why, TORC_ERR_INVALID_ARGUMENT, "key %" PRIu64 ": keys are below %" PRIu64,
                        request->key, worker->cluster.key_count);
        torc_answer_text(worker, answer, request, &why);
        return false;
    } else if (place == TORC_WORKER_NONE || request->epoch > worker->shards[place].engine.epoch) {
        err = torc_worker_not_here(worker, request->key, &info);
    } else if (torc_worker_is_late(worker, request->budget_us)) {
        err = TORC_ERR_DEADLINE;
    }
    if (err == TORC_ERR_OK) {
        return true;
    }
    torc_answer_status(worker, answer, request->opcode, request->op_id, err, info);
    if (err == TORC_ERR_WRONG_SHARD) {
        torc_worker_map_attach(worker, packet, answer, request->op_id, request->key);
    }
    return false;
}

void torc_worker_get_noted(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const unsigned char *op)
{
    const struct torc_get *get = &worker->gets[packet->get_next++];
    struct read_get_wire wire;
    struct torc_request request;

    // The few fields that matter, by hand: this is the hottest path there is.
    memcpy(&wire, op, sizeof(wire));
    request.opcode = TORC_OPCODE_GET;
    request.flags = wire.flags;
    request.op_id = torc_get_le32(wire.op_id);
    request.budget_us = torc_get_le32(wire.budget_us);
    request.epoch = torc_get_le32(wire.epoch);
    request.key = get->key;
    if (read_check(worker, packet, answer, &request,
                   get->shard == NOT_HERE ? TORC_WORKER_NONE : get->shard)) {
        read_answer(worker, packet, answer, &request, &worker->hits[get->place]);
    }
}

// The place of the key's shard if it can be read.
static uint32_t read_place(const struct torc_worker *worker, uint64_t key)
{
    uint32_t place = torc_worker_shard_of(worker, key);

    return place != TORC_WORKER_NONE && torc_worker_is_readable(worker, place) ? place
                                                                               : TORC_WORKER_NONE;
}

// The same of a reader that takes what is a little old. TOO_STALE: another member is to be asked.
static uint32_t read_stale_place(struct torc_worker *worker, const struct torc_request *request,
                                 enum torc_err *err, uint64_t *age_us)
{
    uint32_t place = torc_worker_shard_of(worker, request->key);

    *err = TORC_ERR_OK;
    if (place == TORC_WORKER_NONE || worker->shards[place].replica == NULL) {
        return read_place(worker, request->key);
    }
    if (!torc_worker_stale_begins(worker, place, request->max_age_ms, age_us)) {
        *err = TORC_ERR_TOO_STALE;
    }
    return place;
}

void torc_worker_pin(struct torc_worker *worker, uint64_t ts)
{
    torc_undo_pin(&worker->pool.undo, ts, worker->wall_us + PIN_US);
}

// Whether the shard's next life, too, will stamp above `ts` (H6): its log has a record as late, or
// the ceiling is kept. If not, it will be, soon.
static enum torc_err past_kept(struct torc_worker *worker, const struct torc_shard *shard,
                               uint64_t ts, uint64_t *info)
{
    struct torc_log_writer *log = &worker->log;

    // Without a durable log a crash may lose what the reader saw as well.
    if (ts <= shard->applied_hlc || ts <= log->ceiling ||
        worker->cluster.durability != TORC_DURABILITY_DURABLE || TORC_BUG(OWN_CEILING_NOT_KEPT)) {
        return TORC_ERR_OK;
    }
    torc_log_writer_keep(
        log, torc_max_u64(ts, torc_hlc_from_us(worker->wall_us + TORC_WORKER_CEILING_US)));
    *info =
        log->failed ? torc_info_reason(TORC_UNAVAILABLE_LOG_FAILED, TORC_WORKER_WAIT_US) : RETRY_US;
    return log->failed ? TORC_ERR_UNAVAILABLE : TORC_ERR_BUSY;
}

// The same of a shard with other members: all of them, and this node, keep a ceiling as high (H5).
static enum torc_err past_kept_by_all(struct torc_worker *worker, struct torc_worker_shard *shard,
                                      uint64_t ts, uint64_t *info)
{
    struct torc_council *council = worker->replicas.council;
    uint64_t kept = torc_min_u64(atomic_load_explicit(&council->kept, memory_order_relaxed),
                                 shard->replica->least_ceiling);

    if (ts <= shard->engine.applied_hlc) {
        return TORC_ERR_OK; // who is a member, or joins later, has a record as late (J3)
    }
    // Also where they keep one for somebody else: who joins this shard is told what this node says.
    if (ts > atomic_load_explicit(&council->ceiling_wanted[worker->index], memory_order_relaxed)) {
        atomic_store_explicit(&council->ceiling_wanted[worker->index], ts, memory_order_relaxed);
        worker->turn->ring_workers[0] |= worker->index == 0 ? 0 : 1;
    }
    if (ts <= kept) {
        torc_replica_note_read(&shard->replica->machine, ts);
        return TORC_ERR_OK;
    }
    *info = RETRY_US;
    return TORC_ERR_BUSY;
}

enum torc_err torc_worker_past(struct torc_worker *worker, struct torc_shard *shard, uint64_t ts,
                               uint64_t *info)
{
    switch (torc_shard_past(shard, ts, PAST_ENTRIES, info)) {
    case TORC_SHARD_PAST_READY:
        torc_worker_pin(worker, ts);
        if (torc_worker_of_engine(shard)->replica != NULL) {
            return past_kept_by_all(worker, torc_worker_of_engine(shard), ts, info);
        }
        return past_kept(worker, shard, ts, info);
    case TORC_SHARD_PAST_PENDING:
    case TORC_SHARD_PAST_MORE:
        torc_worker_pin(worker, ts);
        *info = RETRY_US;
        return TORC_ERR_BUSY;
    case TORC_SHARD_PAST_TOO_OLD: return TORC_ERR_SNAPSHOT_TOO_OLD;
    case TORC_SHARD_PAST_AHEAD:
        *info = torc_hlc_from_us(worker->wall_us);
        return TORC_ERR_CLOCK_AHEAD;
    }
    torc_unreachable("a state was added");
}

// A get found too much that is not indexed. A range is tried again in each turn, a get by its
// client alone, after a pause in which more may be written than a try indexes: so this core goes on
// by itself, for as long as a client pauses.
static void past_wait(struct torc_worker *worker, uint64_t ts)
{
    bool waits = worker->past_until_ns != 0;

    worker->past_ts = waits ? torc_min_u64(worker->past_ts, ts) : ts;
    worker->past_kept = waits ? worker->past_kept : worker->pool.undo.kept_count;
    worker->past_until_ns = worker->now_ns + PIN_US * 1000;
}

void torc_worker_past_on(struct torc_worker *worker)
{
    struct torc_undo *undo = &worker->pool.undo;
    uint64_t written = torc_min_u64(undo->kept_count - worker->past_kept, PAST_TURN);
    enum torc_undo_state state;

    if (worker->now_ns >= worker->past_until_ns) {
        worker->past_until_ns = 0;
        return;
    }
    state = torc_undo_prepare(undo, worker->past_ts, (uint32_t)written + PAST_ENTRIES);
    worker->past_kept += written;
    worker->past_until_ns = state == TORC_UNDO_TOO_OLD ? 0 : worker->past_until_ns;
    worker->turn->more = worker->turn->more || state == TORC_UNDO_MORE;
}

// A get as of a timestamp.
static void get_past(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request,
                     struct torc_shard *shard)
{
    struct torc_tree_hit hit;
    uint64_t info = 0;
    enum torc_err err = torc_worker_past(worker, shard, request->ts, &info);

    if (err != TORC_ERR_OK) {
        if (err == TORC_ERR_BUSY && request->ts < shard->applied_hlc) {
            past_wait(worker, request->ts); // only the index can be what is missing
        }
        torc_answer_status(worker, answer, request->opcode, request->op_id, err, info);
        return;
    }
    torc_shard_get_past(shard, request->key, request->ts, &hit);
    read_answer(worker, packet, answer, request, &hit);
}

void torc_worker_get(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request)
{
    bool stale = (request->flags & (TORC_GET_STALE | TORC_GET_AT)) == TORC_GET_STALE;
    enum torc_err err = TORC_ERR_OK;
    uint64_t info = 0;
    uint32_t place =
        stale ? read_stale_place(worker, request, &err, &info) : read_place(worker, request->key);
    struct torc_tree_hit hit;

    if (!read_check(worker, packet, answer, request, place)) {
        return;
    }
    if (err != TORC_ERR_OK) {
        torc_answer_status(worker, answer, request->opcode, request->op_id, err, info);
        return;
    }
    if ((request->flags & TORC_GET_AT) != 0) {
        get_past(worker, packet, answer, request, &worker->shards[place].engine);
    } else {
        (void)torc_tree_lookup(&worker->shards[place].engine.tree, request->key, &hit);
        if ((request->flags & TORC_FLAG_TRACE) != 0) {
            worker->looked_up_ns = torc_worker_trace_ns(worker);
        }
        read_answer(worker, packet, answer, request, &hit);
    }
}

// -- PULL -----------------------------------------------------------------------------------------

// One piece. False: no room for it.
static bool pull_piece(struct torc_worker *worker, struct torc_answer *answer,
                       const struct torc_request *request, const struct torc_tree_hit *hit,
                       uint32_t number)
{
    uint64_t at = (uint64_t)number * request->fragment_bytes;
    uint32_t bytes = (uint32_t)torc_min_u64(hit->value_bytes - at, request->fragment_bytes);
    struct torc_reply reply = {.opcode = TORC_OPCODE_PULL | TORC_REPLY_BIT,
                               .status = TORC_ERR_OK,
                               .op_id = request->op_id,
                               .info = hit->version,
                               .body_bytes = TORC_PULL_HEAD_BYTES + bytes};
    unsigned char *body;

    if (torc_answer_room(worker, answer, PULL_BYTES + bytes, PULL_BYTES + bytes) == 0) {
        return false;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    torc_pull_reply_body(body, number);
    memcpy(body + TORC_PULL_HEAD_BYTES, (const unsigned char *)hit->value + at, bytes);
    reply.body = body;
    torc_answer_put(worker, answer, &reply);
    return true;
}

static void pull_pieces(struct torc_worker *worker, struct torc_answer *answer,
                        const struct torc_request *request, const struct torc_tree_hit *hit)
{
    struct torc_fail why;
    bool any = false;

    for (uint32_t bit = 0; bit < 64; bit++) {
        uint64_t number = (uint64_t)request->fragment + bit;

        if ((request->bitmap >> bit & 1) == 0 ||
            number * request->fragment_bytes >= hit->value_bytes) {
            continue;
        }
        any = true;
        if (!pull_piece(worker, answer, request, hit, (uint32_t)number)) {
            return; // what does not fit is asked for again
        }
    }
    if (!any) {
        (void)torc_fail(&why, TORC_ERR_INVALID_ARGUMENT,
                        "pieces from %" PRIu32 " on: the value of %" PRIu32 " bytes has none",
                        request->fragment, hit->value_bytes);
        torc_answer_text(worker, answer, request, &why);
    }
}

// A version of a key is the same at each member that has it.
static uint32_t pull_place(const struct torc_worker *worker, uint64_t key)
{
    uint32_t place = torc_worker_shard_of(worker, key);

    return place != TORC_WORKER_NONE && torc_worker_stale_is_whole(worker, place)
               ? place
               : read_place(worker, key);
}

void torc_worker_pull(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request)
{
    uint32_t place = pull_place(worker, request->key);
    uint32_t piece_max = answer->limit_bytes - TORC_DATA_HEAD_BYTES - PULL_BYTES;
    struct torc_tree_hit hit;
    struct torc_fail why;

    if (!read_check(worker, packet, answer, request, place)) {
        return;
    }
    if (request->fragment_bytes > piece_max) {
        (void)torc_fail(&why, TORC_ERR_INVALID_ARGUMENT,
                        "pieces of %" PRIu32 " bytes: a reply packet holds %" PRIu32,
                        request->fragment_bytes, piece_max);
        torc_answer_text(worker, answer, request, &why);
        return;
    }
    // As of a timestamp it may be a value that was replaced meanwhile.
    if ((!torc_tree_lookup(&worker->shards[place].engine.tree, request->key, &hit) ||
         hit.version != request->version) &&
        !torc_undo_find(&worker->pool.undo, request->key, request->version, &hit)) {
        torc_answer_status(worker, answer, request->opcode, request->op_id, TORC_ERR_VERSION_GONE,
                           hit.found ? hit.version : 0);
        return;
    }
    pull_pieces(worker, answer, request, &hit);
}
