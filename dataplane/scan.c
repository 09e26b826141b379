// Torc dataplane: ranges; see scan.h.
#include "dataplane/scan.h"

#include "dataplane/worker_state.h"

#include <string.h>

#define JOB_NONE    UINT32_MAX
#define SWEEP_SLICE 16u
#define RETRY_US    1000u
// Least room for a chunk with rows; below it a chunk is empty and its client asks again.
#define CHUNK_ROWS_MIN (TORC_ROWS_HEAD_BYTES + 32u)
#define GUESS_MIN      16u
#define COUNT_PAST     2048u // of the past, where every record is looked at
#define PAGES_MAX      32u   // of a chunk: those of the past may be empty

// -- The table ------------------------------------------------------------------------------------

static uint32_t jobs_table_slots(uint32_t max)
{
    uint32_t slots = 64;

    while (slots < 4 * max) {
        slots *= 2;
    }
    return slots;
}

uint64_t torc_jobs_bytes(uint32_t max)
{
    return (uint64_t)max * sizeof(struct torc_job) + jobs_table_slots(max) * sizeof(uint32_t);
}

void torc_jobs_init(struct torc_jobs *jobs, void *memory, uint32_t max, uint64_t seed)
{
    memset(jobs, 0, sizeof(*jobs));
    jobs->jobs = memory;
    jobs->table = (uint32_t *)(void *)((unsigned char *)memory + max * sizeof(struct torc_job));
    jobs->seed = seed;
    jobs->max = max;
    jobs->table_mask = jobs_table_slots(max) - 1;
    jobs->run_head = JOB_NONE;
    jobs->run_tail = JOB_NONE;
    for (uint32_t i = 0; i < max; i++) {
        jobs->jobs[i].next = i + 1 < max ? i + 1 : JOB_NONE;
    }
}

static uint32_t jobs_home(const struct torc_jobs *jobs, uint64_t serial, uint32_t op_id)
{
    uint64_t mixed = (serial * 0x9e3779b97f4a7c15u) ^ op_id ^ jobs->seed;

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(mixed ^ (mixed >> 31)) & jobs->table_mask;
}

static struct torc_job *jobs_find(struct torc_jobs *jobs, uint64_t serial, uint32_t op_id)
{
    uint32_t at = jobs_home(jobs, serial, op_id);

    // The table is at most a quarter full, so an empty place ends every search.
    while (jobs->table[at] != 0) {
        struct torc_job *job = &jobs->jobs[jobs->table[at] - 1];

        if (job->to.serial == serial && job->op_id == op_id) {
            return job;
        }
        at = (at + 1) & jobs->table_mask;
    }
    return NULL;
}

static void jobs_table_add(struct torc_jobs *jobs, const struct torc_job *job)
{
    uint32_t at = jobs_home(jobs, job->to.serial, job->op_id);

    while (jobs->table[at] != 0) {
        at = (at + 1) & jobs->table_mask;
    }
    jobs->table[at] = (uint32_t)(job - jobs->jobs) + 1;
}

// Linear probing without tombstones: those behind the hole move up (Knuth, volume 3, 6.4 R).
static void jobs_table_remove(struct torc_jobs *jobs, const struct torc_job *job)
{
    uint32_t number = (uint32_t)(job - jobs->jobs) + 1;
    uint32_t mask = jobs->table_mask;
    uint32_t hole = jobs_home(jobs, job->to.serial, job->op_id);

    while (jobs->table[hole] != number) {
        torc_assert(jobs->table[hole] != 0);
        hole = (hole + 1) & mask;
    }
    jobs->table[hole] = 0;
    for (uint32_t at = (hole + 1) & mask; jobs->table[at] != 0; at = (at + 1) & mask) {
        const struct torc_job *moved = &jobs->jobs[jobs->table[at] - 1];
        uint32_t home = jobs_home(jobs, moved->to.serial, moved->op_id);

        if (((at - home) & mask) >= ((at - hole) & mask)) {
            jobs->table[hole] = jobs->table[at];
            jobs->table[at] = 0;
            hole = at;
        }
    }
}

static void jobs_queue(struct torc_jobs *jobs, struct torc_job *job)
{
    uint32_t place = (uint32_t)(job - jobs->jobs);

    if (job->queued || job->chunk >= job->credit) {
        return;
    }
    job->queued = true;
    job->next = JOB_NONE;
    if (jobs->run_head == JOB_NONE) {
        jobs->run_head = place;
    } else {
        jobs->jobs[jobs->run_tail].next = place;
    }
    jobs->run_tail = place;
}

// The session's line, while the job's session lasts.
static struct torc_session_line *job_line(struct torc_worker *worker, const struct torc_job *job)
{
    struct torc_session_line *line = torc_session_line_at(
        worker->sessions, worker->index, job->to.index & ((1u << TORC_SESSION_SLOT_BITS) - 1));

    return torc_session_line_serial(line) == job->to.serial ? line : NULL;
}

// A job in the run queue is freed when its turn comes: `used` is false then.
static void job_end(struct torc_worker *worker, struct torc_job *job)
{
    struct torc_jobs *jobs = &worker->jobs;
    struct torc_session_line *line = job_line(worker, job);

    torc_assert(job->used);
    if (line != NULL) {
        torc_session_line_count(line, -1);
        line->cursors = (uint16_t)(line->cursors - (job->opcode == TORC_OPCODE_RANGE_OPEN ? 1 : 0));
    }
    jobs_table_remove(jobs, job);
    job->used = false;
    jobs->used--;
    if (!job->queued) {
        job->next = jobs->free_head;
        jobs->free_head = (uint32_t)(job - jobs->jobs);
    }
}

static struct torc_job *job_take(struct torc_jobs *jobs)
{
    struct torc_job *job;

    if (jobs->free_head == JOB_NONE) {
        return NULL;
    }
    job = &jobs->jobs[jobs->free_head];
    jobs->free_head = job->next;
    jobs->used++;
    return job;
}

// -- Chunks ---------------------------------------------------------------------------------------

static uint32_t chunk_count(struct torc_worker *worker, struct torc_job *job, unsigned char *body,
                            bool *done)
{
    struct torc_scan_page page;
    struct torc_rows_place place;

    torc_scan_count(&job->scan, &worker->shards[job->shard].engine,
                    job->ts == 0 ? TORC_JOB_COUNT_MAX : COUNT_PAST, &page);
    *done = page.done;
    place = (struct torc_rows_place){
        .cover_lo = page.cover_lo,
        .cover_hi = page.cover_hi,
        .chunk = job->chunk,
        .flags = page.done && (job->whole || job->scan.left == 0) ? TORC_ROWS_LAST : 0};
    torc_rows_write_count(&place, page.count, body);
    return TORC_ROWS_COUNT_BYTES;
}

// Adds pairs until one does not fit; how many went in.
static uint32_t chunk_add(struct torc_worker *worker, const struct torc_job *job, uint32_t count)
{
    struct torc_rows_builder *rows = worker->rows;
    uint32_t value_max = torc_rows_value_max(rows->room, job->flags);
    bool keys_only = (job->flags & TORC_RANGE_KEYS_ONLY) != 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct torc_tree_pair *pair = &worker->pairs[i];
        bool by_reference = !keys_only && pair->value_bytes > value_max;
        struct torc_rows_item item = {.key = pair->key,
                                      .version = pair->version,
                                      .value = keys_only || by_reference ? NULL : pair->value,
                                      .value_bytes = keys_only ? 0 : pair->value_bytes,
                                      .by_reference = by_reference};

        if (!torc_rows_add(rows, &item)) {
            return i;
        }
    }
    return count;
}

// Widens a cover by the page behind it, in the scan's direction.
static void cover_add(struct torc_rows_place *place, const struct torc_scan_page *page,
                      bool reverse)
{
    if (reverse) {
        place->cover_lo = page->cover_lo;
    } else {
        place->cover_hi = page->cover_hi;
    }
}

static uint32_t chunk_rows(struct torc_worker *worker, struct torc_job *job, unsigned char *body,
                           uint32_t room, bool *done)
{
    const struct torc_shard *shard = &worker->shards[job->shard].engine;
    struct torc_jobs *jobs = &worker->jobs;
    struct torc_rows_place place = {
        .cover_lo = job->scan.at, .cover_hi = job->scan.at, .chunk = job->chunk};
    uint32_t guess = jobs->rows_last + jobs->rows_last / 8 + GUESS_MIN;
    uint32_t rows = 0;
    bool full = room < CHUNK_ROWS_MIN;

    torc_rows_begin(worker->rows, room < CHUNK_ROWS_MIN ? CHUNK_ROWS_MIN : room, job->flags);
    *done = false;
    for (uint32_t pages = 0; !full && !*done && rows < TORC_ROWS_MAX && pages < PAGES_MAX;
         pages++) {
        struct torc_scan_page page;
        uint32_t wanted = guess < TORC_WORKER_PAIRS ? guess : TORC_WORKER_PAIRS;
        uint32_t added;

        wanted = wanted < TORC_ROWS_MAX - rows ? wanted : TORC_ROWS_MAX - rows;
        torc_scan_next(&job->scan, shard, worker->pairs, wanted, &page);
        added = chunk_add(worker, job, (uint32_t)page.count);
        full = added < page.count;
        if (full) {
            torc_scan_keep(&job->scan, worker->pairs, added, &page);
        }
        cover_add(&place, &page, job->scan.reverse);
        rows += added;
        *done = page.done;
        guess = GUESS_MIN + rows / 4;
    }
    jobs->rows_last = rows;
    place.flags = *done && (job->whole || job->scan.left == 0) ? TORC_ROWS_LAST : 0;
    return torc_rows_write(worker->rows, &place, body);
}

// One chunk into the answer. False: no room, nothing changed. *done: the job has no more to say.
static bool job_chunk(struct torc_worker *worker, struct torc_job *job, struct torc_answer *answer,
                      bool *done)
{
    bool count = (job->flags & TORC_RANGE_COUNT) != 0;
    // A count, or a chunk that covers nothing: its head and the length of the values it has not.
    uint32_t body_least = TORC_ROWS_COUNT_BYTES;
    uint32_t room = torc_answer_room(worker, answer, TORC_REPLY_HEAD_BYTES + body_least,
                                     count ? TORC_REPLY_HEAD_BYTES + body_least : TORC_PAYLOAD_MAX);
    struct torc_reply reply = {.opcode = (uint8_t)(job->opcode | TORC_REPLY_BIT),
                               .status = TORC_ERR_OK,
                               .op_id = job->op_id};
    unsigned char *body;

    *done = false;
    if (room == 0) {
        return false;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    reply.info = job->ts != 0 ? job->ts : worker->shards[job->shard].engine.applied_hlc;
    reply.body = body;
    reply.body_bytes = count ? chunk_count(worker, job, body, done)
                             : chunk_rows(worker, job, body, room - TORC_REPLY_HEAD_BYTES, done);
    job->chunk++;
    torc_answer_put(worker, answer, &reply);
    return true;
}

// -- Operations -----------------------------------------------------------------------------------

static bool range_check(const struct torc_worker *worker, const struct torc_request *request,
                        struct torc_fail *why)
{
    if (request->lo > request->hi) {
        (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "range from %" PRIu64 " to %" PRIu64 ": the start is above the end",
                        request->lo, request->hi);
        return false;
    }
    if (request->hi > worker->cluster.key_count) {
        (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "range to %" PRIu64 ": keys are below %" PRIu64, request->hi,
                        worker->cluster.key_count);
        return false;
    }
    return true;
}

// Whether the job's shard can be read at its timestamp now. BUSY: not yet.
static enum torc_err job_past(struct torc_worker *worker, struct torc_job *job, uint64_t *info)
{
    struct torc_worker_shard *shard = &worker->shards[job->shard];
    enum torc_err err = TORC_ERR_OK;

    if (worker->replicas.numbers[job->shard] != job->number) {
        *info = worker->map.version; // it left this node meanwhile
        return TORC_ERR_WRONG_SHARD;
    }
    if ((job->flags & TORC_RANGE_STALE) != 0 && job->ts == 0 && shard->replica != NULL) {
        err = torc_worker_stale_may(worker, job->shard, job->age_max_ms, info) ? TORC_ERR_OK
                                                                               : TORC_ERR_TOO_STALE;
    } else if (!torc_worker_goes_on(worker, shard)) {
        err = torc_worker_replica_refusal(worker, shard, info); // each slice is a read (L3)
        err = err == TORC_ERR_UNAVAILABLE || err == TORC_ERR_TAKING_OVER ? TORC_ERR_BUSY : err;
    } else if (job->ts != 0) {
        err = torc_worker_past(worker, &shard->engine, job->ts, info);
    }
    if (err != TORC_ERR_BUSY) {
        job->waits_ns = 0;
    } else if (job->waits_ns == 0) {
        job->waits_ns = worker->now_ns;
    }
    return err;
}

// A chunk that covers nothing because there is nothing: an empty range needs no shard.
static void range_empty(struct torc_worker *worker, struct torc_answer *answer,
                        const struct torc_request *request)
{
    struct torc_rows_place place = {
        .cover_lo = request->lo, .cover_hi = request->hi, .flags = TORC_ROWS_LAST};
    struct torc_reply reply = {.opcode = (uint8_t)(request->opcode | TORC_REPLY_BIT),
                               .op_id = request->op_id,
                               .info = worker->pool.hlc};
    uint32_t least = TORC_REPLY_HEAD_BYTES + TORC_ROWS_COUNT_BYTES;
    unsigned char *body;

    if (torc_answer_room(worker, answer, least, least) == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    body = torc_answer_at(answer) + TORC_REPLY_HEAD_BYTES;
    if ((request->flags & TORC_RANGE_COUNT) != 0) {
        torc_rows_write_count(&place, 0, body);
        reply.body_bytes = TORC_ROWS_COUNT_BYTES;
    } else {
        torc_rows_begin(worker->rows, CHUNK_ROWS_MIN, request->flags);
        reply.body_bytes = torc_rows_write(worker->rows, &place, body);
    }
    reply.body = body;
    torc_answer_put(worker, answer, &reply);
}

static void job_open(struct torc_worker *worker, struct torc_job *job,
                     const struct torc_packet *packet, const struct torc_request *request,
                     uint32_t place)
{
    const struct torc_shard *shard = &worker->shards[place].engine;
    uint64_t lo = torc_max_u64(request->lo, shard->lo);
    uint64_t hi = torc_min_u64(request->hi, shard->hi);
    bool reverse = (request->flags & TORC_RANGE_REVERSE) != 0;
    bool cursor = request->opcode == TORC_OPCODE_RANGE_OPEN;

    job->to = packet->to;
    job->touched_ns = worker->now_ns;
    job->ts = request->ts;
    job->waits_ns = 0;
    job->op_id = request->op_id;
    job->shard = place;
    job->number = worker->replicas.numbers[place];
    job->chunk = 0;
    job->credit = cursor ? request->credit : packet->to.packets_left + 1u;
    job->credit = job->credit < TORC_JOB_CREDIT_MAX ? job->credit : TORC_JOB_CREDIT_MAX;
    job->opcode = request->opcode;
    job->flags = request->flags;
    job->age_max_ms = request->max_age_ms;
    job->used = true;
    job->queued = false;
    job->whole = reverse ? lo == request->lo : hi == request->hi;
    torc_scan_open(&job->scan, shard, lo, hi, request->limit == 0 ? UINT64_MAX : request->limit,
                   reverse);
    torc_scan_past(&job->scan, request->ts);
    jobs_table_add(&worker->jobs, job);
    torc_session_line_count(packet->line, 1);
    packet->line->cursors = (uint16_t)(packet->line->cursors + (cursor ? 1 : 0));
}

// Packets of the allowance that the packet's other answers do not need. An answer that is held
// waits for its writes because their answers, and it with them, need all that is allowed.
static uint32_t answer_spare_packets(const struct torc_answer *answer)
{
    uint32_t capacity = answer->limit_bytes - TORC_DATA_HEAD_BYTES;
    uint32_t kept = answer->packets_kept + (answer->owed_bytes + capacity - 1) / capacity;

    return !answer->held && answer->to->packets_left > kept ? answer->to->packets_left - kept : 0;
}

static void job_refuse(struct torc_worker *worker, struct torc_job *job, struct torc_answer *answer,
                       enum torc_err err, uint64_t info)
{
    torc_answer_status(worker, answer, job->opcode, job->op_id, err, info);
    job_end(worker, job);
}

// The past is not ready: the first chunk comes later too, in a packet of its own if there is one.
static void job_first_later(struct torc_worker *worker, struct torc_job *job,
                            struct torc_answer *answer, uint64_t info)
{
    uint32_t spare = answer_spare_packets(answer);

    if (job->opcode == TORC_OPCODE_RANGE_READ) {
        if (spare == 0) {
            job_refuse(worker, job, answer, TORC_ERR_BUSY, info);
            return;
        }
        job->credit = spare;
        answer->to->packets_left = (uint16_t)(answer->to->packets_left - spare);
    }
    jobs_queue(&worker->jobs, job);
}

// The first chunk goes with the packet's other answers; the rest later.
static void job_first(struct torc_worker *worker, struct torc_job *job, struct torc_answer *answer)
{
    bool done = false;
    uint64_t info = 0;
    enum torc_err err;

    if (job->credit == 0) {
        return;
    }
    err = job_past(worker, job, &info);
    if (err == TORC_ERR_BUSY) {
        job_first_later(worker, job, answer, info);
        return;
    }
    if (err != TORC_ERR_OK) {
        job_refuse(worker, job, answer, err, info);
        return;
    }
    if (!job_chunk(worker, job, answer, &done)) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        job_end(worker, job);
        return;
    }
    if (job->opcode == TORC_OPCODE_RANGE_READ) {
        uint32_t spare = done ? 0 : answer_spare_packets(answer);

        job->credit = job->chunk + spare;
        answer->to->packets_left = (uint16_t)(answer->to->packets_left - spare);
        done = done || spare == 0;
    }
    if (done) {
        job_end(worker, job);
        return;
    }
    jobs_queue(&worker->jobs, job);
}

// Of a shard here that others have as well: what is a little old will do.
static bool range_is_stale(const struct torc_worker *worker, const struct torc_request *request,
                           uint32_t place)
{
    return (request->flags & TORC_RANGE_STALE) != 0 && request->ts == 0 &&
           place != TORC_WORKER_NONE && worker->shards[place].replica != NULL;
}

// Answers why a range cannot begin. False: it can, and *place is its shard's.
static bool range_refused(struct torc_worker *worker, struct torc_packet *packet,
                          struct torc_answer *answer, const struct torc_request *request,
                          uint32_t *place)
{
    bool reverse = (request->flags & TORC_RANGE_REVERSE) != 0;
    uint64_t first = reverse ? request->hi - 1 : request->lo;
    bool cursor = request->opcode == TORC_OPCODE_RANGE_OPEN;
    enum torc_err err = TORC_ERR_OK;
    uint64_t info = 0;

    *place = torc_worker_shard_of(worker, first);
    if (range_is_stale(worker, request, *place)) {
        err = torc_worker_stale_begins(worker, *place, request->max_age_ms, &info)
                  ? TORC_ERR_OK
                  : TORC_ERR_TOO_STALE;
    } else if (*place == TORC_WORKER_NONE || !torc_worker_is_readable(worker, *place) ||
               request->epoch > worker->shards[*place].engine.epoch) {
        err = torc_worker_not_here(worker, first, &info);
    }
    if (err != TORC_ERR_OK) {
        // That is all that there is to say.
    } else if (torc_session_line_in_flight(packet->line) >= worker->config.limits.core_ops) {
        err = TORC_ERR_LIMIT;
        info = worker->config.limits.core_ops;
    } else if (cursor && packet->line->cursors >= worker->config.limits.cursors) {
        err = TORC_ERR_LIMIT;
        info = worker->config.limits.cursors;
    } else if (worker->jobs.free_head == JOB_NONE) {
        err = TORC_ERR_BUSY;
        info = RETRY_US;
    }
    if (err == TORC_ERR_OK) {
        return false;
    }
    torc_answer_status(worker, answer, request->opcode, request->op_id, err, info);
    if (err == TORC_ERR_WRONG_SHARD) {
        torc_worker_map_attach(worker, packet, answer, request->op_id, first);
    }
    return true;
}

void torc_jobs_begin(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_job *job = jobs_find(&worker->jobs, packet->to.serial, request->op_id);
    struct torc_fail why;
    uint32_t place;

    if (!range_check(worker, request, &why)) {
        torc_answer_text(worker, answer, request, &why);
        return;
    }
    if (request->lo == request->hi) {
        range_empty(worker, answer, request);
        return;
    }
    if (job != NULL && request->opcode == TORC_OPCODE_RANGE_READ) {
        // Asked again before it was all answered: from the start, to where the client is now.
        job_end(worker, job);
        job = NULL;
    }
    if (job != NULL) {
        torc_jobs_credit(worker, packet, answer, request);
        return;
    }
    if (range_refused(worker, packet, answer, request, &place)) {
        return;
    }
    job = job_take(&worker->jobs);
    torc_assert(job != NULL);
    job_open(worker, job, packet, request, place);
    job_first(worker, job, answer);
}

void torc_jobs_credit(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request)
{
    struct torc_job *job = jobs_find(&worker->jobs, packet->to.serial, request->op_id);
    uint32_t most;

    if (job == NULL || job->opcode != TORC_OPCODE_RANGE_OPEN) {
        torc_answer_status(worker, answer, request->opcode, request->op_id, TORC_ERR_NO_CURSOR, 0);
        return;
    }
    most = job->chunk + TORC_JOB_CREDIT_MAX;
    most = request->credit < most ? request->credit : most;
    job->to = packet->to;
    job->touched_ns = worker->now_ns;
    job->credit = job->credit > most ? job->credit : most;
    jobs_queue(&worker->jobs, job);
}

void torc_jobs_close(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request)
{
    bool found = torc_jobs_cancel(worker, packet->to.serial, request->op_id);

    torc_answer_status(worker, answer, request->opcode, request->op_id,
                       found ? TORC_ERR_OK : TORC_ERR_NO_CURSOR, 0);
}

bool torc_jobs_cancel(struct torc_worker *worker, uint64_t serial, uint32_t op_id)
{
    struct torc_job *job = jobs_find(&worker->jobs, serial, op_id);

    if (job == NULL) {
        return false;
    }
    job_end(worker, job);
    return true;
}

// -- Slices ---------------------------------------------------------------------------------------

// One packet of one job. False: no transmit buffer.
static bool job_slice(struct torc_worker *worker, struct torc_job *job)
{
    struct torc_answer answer;
    uint64_t info = 0;
    enum torc_err err = job_past(worker, job, &info);
    bool done = false;

    if (err == TORC_ERR_BUSY && worker->now_ns - job->waits_ns < TORC_JOB_WAIT_NS) {
        return true; // it keeps its place in the round
    }
    if (worker->turn->tx_count >= worker->turn->tx_room) {
        return false;
    }
    if (!torc_answer_begin(worker, &answer, &job->to)) {
        job_end(worker, job);
        return true;
    }
    job->to.packets_left = 1;
    if (err != TORC_ERR_OK) {
        job_refuse(worker, job, &answer, err, info);
        torc_answer_close(worker, &answer);
        return true;
    }
    if (job_chunk(worker, job, &answer, &done)) {
        torc_answer_close(worker, &answer);
    }
    if (done || (job->opcode == TORC_OPCODE_RANGE_READ && job->chunk >= job->credit)) {
        job_end(worker, job);
    }
    return true;
}

bool torc_jobs_run(struct torc_worker *worker, uint32_t slices_max)
{
    struct torc_jobs *jobs = &worker->jobs;

    for (uint32_t i = 0; i < slices_max && jobs->run_head != JOB_NONE; i++) {
        struct torc_job *job = &jobs->jobs[jobs->run_head];
        uint32_t place = jobs->run_head;

        if (job->used && !job_slice(worker, job)) {
            break;
        }
        jobs->run_head = job->next;
        job->queued = false;
        if (job->used) {
            jobs_queue(jobs, job);
        } else {
            job->next = jobs->free_head;
            jobs->free_head = place;
        }
    }
    return jobs->run_head != JOB_NONE;
}

void torc_jobs_sweep(struct torc_worker *worker)
{
    struct torc_jobs *jobs = &worker->jobs;

    for (uint32_t i = 0; i < SWEEP_SLICE && jobs->used > 0; i++) {
        struct torc_job *job = &jobs->jobs[jobs->sweep_at];

        jobs->sweep_at = (jobs->sweep_at + 1) % jobs->max;
        if (job->used && worker->now_ns - job->touched_ns >= TORC_JOB_IDLE_NS) {
            job_end(worker, job);
        }
    }
}
