// Torc control: the log's blocks, from the ring to the disk. See control/log_uring.h.
#include "control/log_impl_uring.h"
#include "kit/bugs.h"
#include "kit/log_os.h"
#include "storage/log_format.h"

#include <fcntl.h>
#include <stdlib.h>

// -- Opening and closing ------------------------------------------------------------------------

enum torc_err torc_log_store_open(struct torc_log_store **out, struct torc_disk *disk,
                                  const struct torc_log_store_config *config, struct torc_fail *why)
{
    struct torc_log_store *store = calloc(1, sizeof(*store));
    enum torc_err err;

    torc_assert(store != NULL);
    store->disk = disk;
    store->config = *config;
    store->config.spares_max =
        (uint32_t)torc_min_u64(config->spares_max, TORC_LOG_STORE_SPARES_MAX);
    store->zeros = aligned_alloc(TORC_DISK_ALIGN_BYTES, TORC_LOG_STORE_ZERO_BYTES);
    torc_assert(store->zeros != NULL);
    memset(store->zeros, 0, TORC_LOG_STORE_ZERO_BYTES);
    err = torc_disk_file_open(disk, config->folder_fd, ".", O_RDONLY | O_DIRECTORY, &store->folder,
                              why);
    if (err != TORC_ERR_OK) {
        free(store->zeros);
        free(store);
        return err;
    }
    *out = store;
    return TORC_ERR_OK;
}

void torc_log_store_close(struct torc_log_store *store)
{
    torc_log_store_forget(store);
    torc_disk_file_close(store->disk, store->folder);
    free(store->zeros);
    free(store);
}

uint32_t torc_log_store_stream_count(const struct torc_log_store *store)
{
    return store->stream_count;
}

struct torc_log_plan *torc_log_store_plan(struct torc_log_store *store, uint32_t index)
{
    torc_assert(index < store->stream_count);
    return &store->streams[index]->plan;
}

uint32_t torc_log_store_worker(const struct torc_log_store *store, uint32_t index)
{
    torc_assert(index < store->stream_count);
    return store->streams[index]->worker;
}

// -- Writing blocks ------------------------------------------------------------------------------

static void store_written(struct torc_disk_op *op)
{
    struct torc_log_store_stream *stream = op->context;
    struct torc_log_flight *flight = stream->plan.flights + (op - stream->ops);

    if (op->result == (int32_t)op->byte_count) {
        stream->store->writes++;
        stream->store->write_bytes += op->byte_count;
    }
    op->tag = 0;
    torc_log_plan_done(&stream->plan, flight, op->result,
                       op->result < 0 ? strerrordesc_np(-op->result) : "");
}

// Fails the stream for what stands in the ring: the worker's memory is not to be believed any more.
static void store_refuse(struct torc_log_store_stream *stream, const struct torc_fail *why)
{
    stream->plan.failed = true;
    stream->plan.failure = *why;
}

// Takes the block at the ring's place behind those in flight. False: there is none, or it is wrong.
static bool store_take_block(struct torc_log_store_stream *stream, const void *slot,
                             uint32_t slots_there)
{
    struct torc_log_block_header header;
    struct torc_log_plan_block block;
    struct torc_log_flight *flight = NULL;
    struct torc_fail why = {0};
    uint32_t bytes = torc_log_block_peek(slot, (uint64_t)slots_there * TORC_LOG_SLOT_BYTES);
    struct torc_disk_op *op;

    memcpy(&header, slot, sizeof(header));
    if (bytes == 0 || bytes > slots_there * TORC_LOG_SLOT_BYTES) {
        (void)torc_fail(&why, TORC_ERR_CORRUPT,
                        "log ring of stream %" PRIu32 ": no block where one must be",
                        stream->plan.stream);
        store_refuse(stream, &why);
        return false;
    }
    block = (struct torc_log_plan_block){.sequence = torc_get_le64(header.sequence),
                                         .generation = torc_get_le64(header.generation),
                                         .stream = torc_get_le32(header.stream),
                                         .segment = torc_get_le32(header.segment),
                                         .offset_bytes = torc_get_le32(header.offset_bytes),
                                         .byte_count = bytes,
                                         .slots = bytes / TORC_LOG_SLOT_BYTES};
    if (torc_log_plan_take(&stream->plan, &block, &flight, &why) != TORC_ERR_OK) {
        store_refuse(stream, &why);
        return false;
    }
    op = stream->ops + (flight - stream->plan.flights);
    *op = (struct torc_disk_op){.kind = TORC_BUG(MARK_WHEN_TAKEN) ? TORC_DISK_WRITE
                                                                  : TORC_DISK_WRITE_DURABLE,
                                .file = flight->file,
                                .byte_count = bytes,
                                .offset = block.offset_bytes,
                                .tag = 1,
                                .context = stream,
                                .done = store_written};
    memcpy(&op->bytes, &(const void *){slot}, sizeof(op->bytes)); // it is only read
    torc_disk_start(stream->store->disk, op);
    return true;
}

static bool store_take(struct torc_log_store_stream *stream)
{
    struct torc_spsc_port *ring = &stream->store->attach->ports[stream->worker].log;
    bool took = false;

    while (torc_log_plan_can_take(&stream->plan)) {
        uint32_t taken = stream->plan.taken_slots;
        uint32_t readable = torc_spsc_readable(ring, taken + 1);
        const void *slot;
        uint32_t skip;

        if (readable <= taken) {
            break;
        }
        slot = torc_spsc_read_at(ring, taken);
        readable = torc_spsc_readable(ring, taken + TORC_LOG_BLOCK_BYTES_MAX / TORC_LOG_SLOT_BYTES);
        skip = torc_log_filler_slots(slot);
        if (skip > 0 && skip <= readable - taken) {
            torc_log_plan_skip(&stream->plan, skip);
        } else if (!store_take_block(stream, slot, readable - taken)) {
            break;
        }
        took = true;
    }
    return took;
}

// F2: the mark, then the slots.
static bool store_give_back(struct torc_log_store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct torc_spsc_port *ring = &store->attach->ports[stream->worker].log;
    struct torc_mark mark = {.kind = TORC_MARK_DURABLE};
    uint32_t slots;

    if (!torc_log_plan_look(&stream->plan, &mark.sequence, &slots)) {
        return false;
    }
    if (mark.sequence > stream->plan.durable && !store->deaf &&
        !torc_attach_mark(store->attach, stream->worker, &mark)) {
        return false; // its ring is full: again at the next step
    }
    torc_log_plan_advance(&stream->plan);
    torc_spsc_release(ring, slots);
    return true;
}

static bool store_tell_failed(struct torc_log_store_stream *stream)
{
    struct torc_mark mark = {.kind = TORC_MARK_LOG_FAILED, .err = stream->plan.failure.err};

    (void)snprintf(mark.text, sizeof(mark.text), "%s", stream->plan.failure.text);
    if (!stream->store->deaf && !torc_attach_mark(stream->store->attach, stream->worker, &mark)) {
        return false;
    }
    stream->failed_told = true;
    torc_log(TORC_LOG_ERROR, "log", "failed",
             "stream=%" PRIu32
             " reason=\"%s\" note=\"no write is acknowledged any more; mend the disk "
             "and restart the node\"",
             stream->plan.stream, stream->plan.failure.text);
    return true;
}

// Closes the files of segments that are full and have nothing in flight.
static void store_close_full(struct torc_log_store_stream *stream)
{
    struct torc_log_plan *plan = &stream->plan;

    if (plan->filling == TORC_LOG_NOBODY || plan->flight_count > 0) {
        return;
    }
    for (uint32_t i = 0; i < plan->filling; i++) {
        uint32_t at = plan->filling - 1 - i;

        if (plan->segments[at].file == 0) {
            return; // older ones were closed before
        }
        torc_disk_file_close(stream->store->disk, plan->segments[at].file);
        plan->segments[at].file = 0;
    }
}

bool torc_log_store_step(struct torc_log_store *store, uint64_t now_ns)
{
    bool moved = false;

    for (uint32_t i = 0; i < store->stream_count; i++) {
        struct torc_log_store_stream *stream = store->streams[i];

        if (stream->worker == TORC_LOG_NOBODY) {
            continue;
        }
        moved = store_take(stream) || moved;
        moved = store_give_back(stream) || moved;
        moved = torc_log_store_job_step(stream, now_ns) || moved;
        if (stream->plan.failed && !stream->failed_told) {
            moved = store_tell_failed(stream) || moved;
        }
        store_close_full(stream);
    }
    return moved;
}

static const struct torc_log_store_stream *store_of_worker(const struct torc_log_store *store,
                                                           uint32_t worker)
{
    for (uint32_t i = 0; i < store->stream_count; i++) {
        if (store->streams[i]->worker == worker) {
            return store->streams[i];
        }
    }
    return NULL;
}

bool torc_log_store_has_work(const struct torc_log_store *store, uint32_t worker)
{
    const struct torc_log_store_stream *stream = store_of_worker(store, worker);
    uint64_t durable;
    uint32_t slots;

    if (stream == NULL) {
        return false;
    }
    return (torc_log_plan_can_take(&stream->plan) &&
            torc_spsc_readable(&store->attach->ports[worker].log, stream->plan.taken_slots + 1) >
                stream->plan.taken_slots) ||
           torc_log_plan_look(&stream->plan, &durable, &slots);
}

uint64_t torc_log_store_deadline_ns(const struct torc_log_store *store)
{
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t i = 0; i < store->stream_count; i++) {
        if (store->streams[i]->worker != TORC_LOG_NOBODY &&
            store->streams[i]->job.state == TORC_LOG_STORE_JOB_RETRY) {
            deadline_ns = torc_min_u64(deadline_ns, store->streams[i]->job.retry_ns);
        }
    }
    return deadline_ns;
}

// -- Lives of the dataplane ----------------------------------------------------------------------

// The place in the plan of the segment that the ring's first block is for; that of the one being
// filled when there is none. The worker may be a segment ahead of what is written.
static uint32_t store_first_segment(const struct torc_log_store_stream *stream)
{
    struct torc_spsc_port *ring = &stream->store->attach->ports[stream->worker].log;
    const struct torc_log_plan *plan = &stream->plan;
    uint32_t at = 0;
    uint32_t first = plan->filling == TORC_LOG_NOBODY ? 0 : plan->filling;
    struct torc_log_block_header header;

    while (torc_spsc_readable(ring, at + 1) > at &&
           torc_log_filler_slots(torc_spsc_read_at(ring, at)) > 0 && at < ring->slot_count / 2) {
        at += torc_log_filler_slots(torc_spsc_read_at(ring, at));
    }
    if (torc_spsc_readable(ring, at + 1) > at) {
        memcpy(&header, torc_spsc_read_at(ring, at), sizeof(header));
        while (first > 0 && plan->segments[first].segment > torc_get_le32(header.segment)) {
            first--;
        }
    }
    return first;
}

// Opens the segments that blocks may still go into.
static enum torc_err store_open_segments(struct torc_log_store_stream *stream,
                                         struct torc_fail *why)
{
    struct torc_log_plan *plan = &stream->plan;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = store_first_segment(stream); i < plan->segment_count && err == TORC_ERR_OK;
         i++) {
        char name[TORC_LOG_NAME_BYTES];

        torc_log_segment_name(name, plan->stream, plan->segments[i].segment);
        err = torc_disk_file_open(stream->store->disk, stream->store->config.folder_fd, name,
                                  O_RDWR | O_DIRECT, &plan->segments[i].file, why);
    }
    return err;
}

static enum torc_err store_attach(struct torc_log_store *store, struct torc_attach *attach,
                                  uint32_t worker, struct torc_log_store_stream **out,
                                  struct torc_fail *why)
{
    struct torc_spsc_port *ring = &attach->ports[worker].log;
    struct torc_log_store_stream *stream = torc_log_store_stream_make(store, worker + 1);

    if (stream == NULL) {
        return torc_fail(why, TORC_ERR_LIMIT, "log/: over %u streams", TORC_LOG_STREAMS_MAX);
    }
    store->attach = attach;
    store->deaf = false;
    stream->worker = worker;
    stream->full_told = false;
    stream->failed_told = false;
    stream->ready = false;
    stream->window = torc_disk_window_open(store->disk, torc_spsc_slot(ring, 0),
                                           (uint64_t)ring->slot_bytes * ring->slot_count);
    *out = stream;
    return TORC_ERR_OK;
}

enum torc_err torc_log_store_begin(struct torc_log_store *store, struct torc_attach *attach,
                                   uint32_t worker, uint64_t next_sequence, struct torc_fail *why)
{
    struct torc_log_store_stream *stream = NULL;
    enum torc_err err = store_attach(store, attach, worker, &stream, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(stream != NULL);
    torc_log_plan_begin(&stream->plan, next_sequence);
    return TORC_ERR_OK;
}

// Segments that are prepared and that the worker was not told of: control died in between.
static enum torc_err store_tell_segments(struct torc_log_store_stream *stream, uint32_t told,
                                         struct torc_fail *why)
{
    for (uint32_t i = 0; i < stream->plan.segment_count; i++) {
        const struct torc_log_plan_segment *segment = stream->plan.segments + i;
        struct torc_mark mark = {.kind = TORC_MARK_SEGMENT,
                                 .segment = segment->segment,
                                 .generation = segment->generation,
                                 .segment_bytes = segment->segment_bytes};

        if (segment->segment > told &&
            !torc_attach_mark(stream->store->attach, stream->worker, &mark)) {
            return torc_fail(why, TORC_ERR_BUSY, "worker %" PRIu32 ": its ring of marks is full",
                             stream->worker);
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_log_store_resume(struct torc_log_store *store, struct torc_attach *attach,
                                    uint32_t worker, const struct torc_evt_control_seen *seen,
                                    struct torc_fail *why)
{
    const struct torc_log_plan_seen plan_seen = {
        .sealed = seen->sealed_sequence, .segment = seen->segment, .told = seen->segment_prepared};
    struct torc_log_store_stream *stream = NULL;
    enum torc_err err = store_attach(store, attach, worker, &stream, why);
    uint32_t told;

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(stream != NULL);
    told = torc_log_plan_resume(&stream->plan, &plan_seen);
    stream->plan.durable = seen->durable_sequence; // F2: what was given back had been told
    if (seen->log_failed != 0) { // F3: what could not be written then is not tried again
        stream->plan.failed = true;
        (void)torc_fail(&stream->plan.failure, TORC_ERR_IO,
                        "log stream %" PRIu32 ": failed before this control began",
                        stream->plan.stream);
    }
    stream->ready = true;
    err = store_open_segments(stream, why);
    return err == TORC_ERR_OK ? store_tell_segments(stream, told, why) : err;
}

bool torc_log_store_drained(struct torc_log_store *store)
{
    bool drained = true;

    store->deaf = true;
    for (uint32_t i = 0; i < store->stream_count; i++) {
        struct torc_log_store_stream *stream = store->streams[i];
        bool busy = stream->job.busy > 0 || stream->job.failure != 0;

        if (stream->worker == TORC_LOG_NOBODY) {
            continue;
        }
        for (uint32_t at = 0; at < TORC_LOG_FLIGHTS_MAX; at++) {
            busy = busy || stream->ops[at].tag != 0;
        }
        if (!stream->plan.failed) {
            busy = busy || stream->plan.flight_count > 0 ||
                   torc_spsc_readable(&store->attach->ports[stream->worker].log, 1) > 0;
        }
        drained = drained && !busy;
    }
    return drained;
}

void torc_log_store_detach(struct torc_log_store *store)
{
    for (uint32_t i = 0; i < store->stream_count; i++) {
        struct torc_log_store_stream *stream = store->streams[i];

        if (stream->worker == TORC_LOG_NOBODY) {
            continue;
        }
        torc_disk_window_close(store->disk, stream->window);
        stream->worker = TORC_LOG_NOBODY;
        if (stream->job.file != 0) { // whatever it was, the next start finds and removes it
            torc_disk_file_close(store->disk, stream->job.file);
            stream->job.file = 0;
        }
        stream->job.state = TORC_LOG_STORE_JOB_IDLE;
        stream->job.failure = 0;
    }
    store->attach = NULL;
}

bool torc_log_store_is_ready(const struct torc_log_store *store, uint32_t worker)
{
    const struct torc_log_store_stream *stream = store_of_worker(store, worker);

    return stream != NULL && stream->ready;
}

uint64_t torc_log_store_durable(const struct torc_log_store *store, uint32_t worker)
{
    const struct torc_log_store_stream *stream = store_of_worker(store, worker);

    return stream != NULL ? stream->plan.durable : 0;
}

void torc_log_store_numbers(const struct torc_log_store *store,
                            struct torc_log_store_numbers *numbers)
{
    *numbers = (struct torc_log_store_numbers){
        .writes = store->writes, .write_bytes = store->write_bytes, .spares = store->spare_count};
    for (uint32_t i = 0; i < store->stream_count; i++) {
        const struct torc_log_store_stream *stream = store->streams[i];

        numbers->inflight += stream->plan.flight_count;
        numbers->segments += stream->plan.segment_count;
        numbers->full = numbers->full || stream->full_told;
        if (stream->plan.failed && !numbers->failed) {
            numbers->failed = true;
            numbers->failure = stream->plan.failure;
        }
    }
}
