// Torc control: a stream's next segment, from a spare or a new file. See control/log_uring.h.
#include "control/log_impl_uring.h"
#include "kit/log_os.h"
#include "storage/log_format.h"

#include <errno.h>
#include <fcntl.h>

static void job_done(struct torc_disk_op *op)
{
    struct torc_log_store_stream *stream = op->context;
    struct torc_log_store_job *job = &stream->job;
    bool whole =
        op->kind == TORC_DISK_SYNC ? op->result == 0 : op->result == (int32_t)op->byte_count;

    torc_assert(job->busy > 0);
    job->busy--;
    op->tag = 0; // free again
    if (!whole && job->failure == 0) {
        job->failure = op->result < 0 ? -op->result : EIO;
    }
}

static void job_start(struct torc_log_store_stream *stream, enum torc_disk_kind kind, uint32_t file,
                      void *bytes, uint32_t byte_count, uint64_t offset)
{
    struct torc_log_store_job *job = &stream->job;
    uint32_t at = 0;

    while (job->ops[at].tag != 0) {
        at++;
        torc_assert(at < TORC_LOG_STORE_ZERO_FLIGHTS);
    }
    job->ops[at] = (struct torc_disk_op){.kind = kind,
                                         .file = file,
                                         .bytes = bytes,
                                         .byte_count = byte_count,
                                         .offset = offset,
                                         .tag = 1,
                                         .context = stream,
                                         .done = job_done};
    job->busy++;
    torc_disk_start(stream->store->disk, job->ops + at);
}

static void job_write_header(struct torc_log_store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct torc_log_store_job *job = &stream->job;
    struct torc_log_segment head = {.cluster = store->config.cluster,
                                    .first_sequence = torc_log_plan_next_cut(&stream->plan),
                                    .node = store->config.node,
                                    .stream = stream->plan.stream,
                                    .segment = torc_log_plan_next_segment(&stream->plan),
                                    .segment_bytes = store->config.segment_bytes};

    head.generation = torc_disk_random(store->disk) | 1; // never 0
    job->segment = (struct torc_log_plan_segment){.generation = head.generation,
                                                  .cut_sequence = head.first_sequence,
                                                  .segment = head.segment,
                                                  .segment_bytes = head.segment_bytes,
                                                  .file = job->file};
    torc_log_segment_write(job->header, &head);
    job->state = TORC_LOG_STORE_JOB_HEADER;
    job_start(stream, TORC_DISK_WRITE_DURABLE, job->file, job->header, TORC_LOG_SLOT_BYTES, 0);
}

// A spare, or a new file. Fails into job->failure.
static void job_open(struct torc_log_store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct torc_log_store_job *job = &stream->job;
    struct torc_fail why = {0};
    bool spare = store->spare_count > 0;
    bool synced = false;
    enum torc_err err;

    if (spare) {
        const struct torc_log_store_spare *last = store->spares + --store->spare_count;

        torc_log_spare_name(job->name, "spare", last->number);
        synced = last->synced;
    } else {
        torc_log_spare_name(job->name, "new", store->next_spare++);
    }
    err = torc_disk_file_open(store->disk, store->config.folder_fd, job->name,
                              O_RDWR | O_DIRECT | (spare ? 0 : O_CREAT | O_EXCL), &job->file, &why);
    if (err != TORC_ERR_OK) {
        job->file = 0;
        job->failure = err == TORC_ERR_NO_SPACE ? ENOSPC : EIO;
        return;
    }
    if (!spare) {
        int32_t reserved =
            torc_disk_file_reserve(store->disk, job->file, store->config.segment_bytes);

        if (reserved < 0) {
            job->failure = -reserved;
            return;
        }
    }
    job->started_bytes = 0;
    if (!spare) {
        job->state = TORC_LOG_STORE_JOB_ZEROS;
    } else if (!synced) {
        job->state = TORC_LOG_STORE_JOB_FOLDER_SYNC;
        job_start(stream, TORC_DISK_SYNC, store->folder, NULL, 0, 0);
    } else {
        job_write_header(stream);
    }
}

static void job_rename(struct torc_log_store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct torc_log_store_job *job = &stream->job;
    char name[TORC_LOG_NAME_BYTES];
    int32_t renamed;

    torc_log_segment_name(name, stream->plan.stream, job->segment.segment);
    renamed = torc_disk_rename(store->disk, store->config.folder_fd, job->name, name);
    if (renamed != 0) {
        job->failure = -renamed;
        return;
    }
    memcpy(job->name, name, sizeof(name));
    job->state = TORC_LOG_STORE_JOB_NAME_SYNC;
    job_start(stream, TORC_DISK_SYNC, store->folder, NULL, 0, 0);
}

// The segment is prepared; the worker is told (or, with a full ring, at the next step).
static void job_tell(struct torc_log_store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct torc_mark mark = {.kind = TORC_MARK_SEGMENT,
                             .segment = stream->job.segment.segment,
                             .generation = stream->job.segment.generation,
                             .segment_bytes = stream->job.segment.segment_bytes};

    if (!store->deaf && !torc_attach_mark(store->attach, stream->worker, &mark)) {
        return;
    }
    torc_assert(torc_log_plan_add(&stream->plan, &stream->job.segment)); // wants said so
    stream->job.state = TORC_LOG_STORE_JOB_IDLE;
    stream->job.file = 0; // the segment's now
    stream->ready = true;
    if (stream->full_told) {
        stream->full_told = false;
        torc_log(TORC_LOG_INFO, "log", "space-again", "stream=%" PRIu32, stream->plan.stream);
    }
}

// Cleans up after a failure and says so, once, when the worker is about to run out of segments.
static void job_give_up(struct torc_log_store_stream *stream, uint64_t now_ns)
{
    struct torc_log_store *store = stream->store;
    struct torc_log_store_job *job = &stream->job;
    struct torc_mark mark = {.kind = TORC_MARK_DISK_FULL};

    if (job->file != 0) {
        torc_disk_file_close(store->disk, job->file);
        job->file = 0;
    }
    if (job->name[0] != '\0') {
        // Found at the next start, if it stays.
        (void)torc_disk_remove(store->disk, store->config.folder_fd, job->name);
        job->name[0] = '\0';
    }
    job->state = TORC_LOG_STORE_JOB_RETRY;
    job->retry_ns = now_ns + TORC_LOG_STORE_RETRY_NS;
    if (!stream->full_told && torc_log_plan_ahead(&stream->plan) == 0 &&
        (store->deaf || torc_attach_mark(store->attach, stream->worker, &mark))) {
        stream->full_told = true;
        torc_log(TORC_LOG_ERROR, "log", "no-space",
                 "stream=%" PRIu32 " bytes=%" PRIu32
                 " reason=\"%s\" note=\"writes are refused, reads go on; free space in log/\"",
                 stream->plan.stream, store->config.segment_bytes, strerrordesc_np(job->failure));
    }
    job->failure = 0;
}

static void job_zeros(struct torc_log_store_stream *stream)
{
    struct torc_log_store_job *job = &stream->job;
    struct torc_log_store *store = stream->store;

    while (job->busy < TORC_LOG_STORE_ZERO_FLIGHTS &&
           job->started_bytes < store->config.segment_bytes) {
        uint64_t bytes = torc_min_u64(TORC_LOG_STORE_ZERO_BYTES,
                                      store->config.segment_bytes - job->started_bytes);

        job_start(stream, TORC_DISK_WRITE, job->file, store->zeros, (uint32_t)bytes,
                  job->started_bytes);
        job->started_bytes += bytes;
    }
    if (job->busy == 0) {
        job->state = TORC_LOG_STORE_JOB_ZEROS_SYNC;
        job_start(stream, TORC_DISK_SYNC, job->file, NULL, 0, 0);
    }
}

bool torc_log_store_job_step(struct torc_log_store_stream *stream, uint64_t now_ns)
{
    struct torc_log_store_job *job = &stream->job;
    enum torc_log_store_job_state before = job->state;
    uint32_t busy = job->busy;

    if (job->failure != 0) {
        if (job->busy == 0) {
            job_give_up(stream, now_ns);
        }
        return true;
    }
    if (job->busy > 0 && job->state != TORC_LOG_STORE_JOB_ZEROS) {
        return false;
    }
    switch (job->state) {
    case TORC_LOG_STORE_JOB_RETRY:
        if (now_ns < job->retry_ns) {
            return false;
        }
        job->state = TORC_LOG_STORE_JOB_IDLE;
        break;
    case TORC_LOG_STORE_JOB_IDLE:
        if (!stream->store->deaf && (!stream->store->held || stream->store->spare_count > 0) &&
            torc_log_plan_wants(&stream->plan) > 0) {
            job_open(stream);
        }
        break;
    case TORC_LOG_STORE_JOB_ZEROS: job_zeros(stream); break;
    case TORC_LOG_STORE_JOB_ZEROS_SYNC: job_write_header(stream); break;
    case TORC_LOG_STORE_JOB_FOLDER_SYNC:
        for (uint32_t i = 0; i < stream->store->spare_count; i++) {
            stream->store->spares[i].synced = true;
        }
        job_write_header(stream);
        break;
    case TORC_LOG_STORE_JOB_HEADER: job_rename(stream); break;
    case TORC_LOG_STORE_JOB_NAME_SYNC: job_tell(stream); break;
    }
    return job->state != before || job->busy != busy || job->failure != 0;
}
