// Torc control: the log's files. See control/log_uring.h.
#include "control/log_uring.h"

#include "control/data_dir_os.h"
#include "kit/log_os.h"
#include "storage/log_format.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    STORE_ZERO_BYTES = 1 << 20,
    STORE_ZERO_FLIGHTS = 4, // of them at once: the disk is busy, and log writes still get through
    STORE_SPARES_MAX = 4096
};

#define NOBODY UINT32_MAX

enum store_job_state {
    STORE_JOB_IDLE,
    STORE_JOB_ZEROS,       // a new file, being written
    STORE_JOB_ZEROS_SYNC,  // and synced
    STORE_JOB_FOLDER_SYNC, // F1
    STORE_JOB_HEADER,
    STORE_JOB_NAME_SYNC, // renamed; the folder is synced
    STORE_JOB_RETRY,     // after a failure, not before retry_ns
};

struct store_job {
    enum store_job_state state;
    char name[TORC_LOG_NAME_BYTES]; // of the file now
    uint32_t file;
    uint32_t busy;          // operations out
    uint64_t started_bytes; // of the zeros
    uint64_t retry_ns;
    int failure; // errno
    struct torc_log_plan_segment segment;
    struct torc_disk_op ops[STORE_ZERO_FLIGHTS];
    unsigned char *header; // one slot
};

struct store_stream {
    struct torc_log_store *store;
    struct torc_log_plan plan;
    uint32_t worker; // NOBODY: none writes it
    bool full_told;
    bool failed_told;
    bool ready; // a segment was told
    uint32_t window;
    struct store_job job;
    struct torc_disk_op ops[TORC_LOG_FLIGHTS_MAX]; // beside the plan's flights
};

struct store_spare {
    uint32_t number;
    bool synced; // the folder, since it got this name
};

struct torc_log_store {
    struct torc_disk *disk;
    struct torc_log_store_config config;
    struct torc_attach *attach; // NULL: none
    bool deaf;                  // the dataplane is dead
    uint32_t folder;            // log/ itself, for syncs
    unsigned char *zeros;
    uint32_t stream_count;
    struct store_stream *streams[TORC_LOG_STREAMS_MAX];
    uint32_t spare_count;
    uint32_t next_spare; // number
    struct store_spare spares[STORE_SPARES_MAX];
    uint64_t writes;
    uint64_t write_bytes;
};

void torc_log_segment_name(char *name, uint32_t stream, uint32_t segment)
{
    (void)snprintf(name, TORC_LOG_NAME_BYTES, "%" PRIu32 "-%" PRIu32, stream, segment);
}

static void store_spare_name(char *name, const char *kind, uint32_t number)
{
    (void)snprintf(name, TORC_LOG_NAME_BYTES, "%s-%" PRIu32, kind, number);
}

// -- Opening and looking around ------------------------------------------------------------------

enum torc_err torc_log_store_open(struct torc_log_store **out, struct torc_disk *disk,
                                  const struct torc_log_store_config *config, struct torc_fail *why)
{
    struct torc_log_store *store = calloc(1, sizeof(*store));
    enum torc_err err;

    torc_assert(store != NULL);
    store->disk = disk;
    store->config = *config;
    store->config.spares_max = (uint32_t)torc_min_u64(config->spares_max, STORE_SPARES_MAX);
    store->zeros = aligned_alloc(TORC_DISK_ALIGN_BYTES, STORE_ZERO_BYTES);
    torc_assert(store->zeros != NULL);
    memset(store->zeros, 0, STORE_ZERO_BYTES);
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

static void store_forget(struct torc_log_store *store)
{
    for (uint32_t i = 0; i < store->stream_count; i++) {
        struct store_stream *stream = store->streams[i];

        torc_assert(stream->worker == NOBODY);
        torc_assert(stream->job.busy == 0);
        for (uint32_t at = 0; at < TORC_LOG_FLIGHTS_MAX; at++) {
            torc_assert(stream->ops[at].tag == 0);
        }
        for (uint32_t at = 0; at < stream->plan.segment_count; at++) {
            if (stream->plan.segments[at].file != 0) {
                torc_disk_file_close(store->disk, stream->plan.segments[at].file);
            }
        }
        free(stream->plan.segments);
        free(stream->job.header);
        free(stream);
    }
    store->stream_count = 0;
    store->spare_count = 0;
}

void torc_log_store_close(struct torc_log_store *store)
{
    store_forget(store);
    torc_disk_file_close(store->disk, store->folder);
    free(store->zeros);
    free(store);
}

// The stream's place, made if it is new; NULL when there is no room.
static struct store_stream *store_stream_make(struct torc_log_store *store, uint32_t number)
{
    uint32_t at = 0;
    struct store_stream *stream;

    while (at < store->stream_count && store->streams[at]->plan.stream < number) {
        at++;
    }
    if (at < store->stream_count && store->streams[at]->plan.stream == number) {
        return store->streams[at];
    }
    if (store->stream_count == TORC_LOG_STREAMS_MAX) {
        return NULL;
    }
    stream = calloc(1, sizeof(*stream));
    torc_assert(stream != NULL);
    stream->store = store;
    stream->worker = NOBODY;
    stream->window = NOBODY;
    torc_log_plan_init(&stream->plan, number, store->config.inflight,
                       calloc(TORC_LOG_SEGMENTS_MAX, sizeof(struct torc_log_plan_segment)),
                       TORC_LOG_SEGMENTS_MAX);
    stream->job.header = aligned_alloc(TORC_DISK_ALIGN_BYTES, TORC_LOG_SLOT_BYTES);
    torc_assert(stream->plan.segments != NULL);
    torc_assert(stream->job.header != NULL);
    memmove(store->streams + at + 1, store->streams + at,
            (store->stream_count - at) * sizeof(struct store_stream *));
    store->streams[at] = stream;
    store->stream_count++;
    return stream;
}

// "12-7" into 12 and 7.
static bool store_parse(const char *name, uint32_t *stream, uint32_t *segment)
{
    char again[TORC_LOG_NAME_BYTES];
    uint64_t numbers[2] = {0};
    uint32_t which = 0;

    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '-' && which == 0) {
            which = 1;
        } else if (*at < '0' || *at > '9' || numbers[which] > UINT32_MAX / 10) {
            return false;
        } else {
            numbers[which] = numbers[which] * 10 + (uint64_t)(*at - '0');
        }
    }
    if (numbers[0] > UINT32_MAX || numbers[1] > UINT32_MAX) {
        return false;
    }
    *stream = (uint32_t)numbers[0];
    *segment = (uint32_t)numbers[1];
    torc_log_segment_name(again, *stream, *segment);
    return strcmp(again, name) == 0; // as we would write it
}

// The sequence of the block in the segment's second slot, if it is of this use of the file.
static uint64_t store_first_sequence(const unsigned char *slot, const struct torc_log_segment *head)
{
    struct torc_log_block_header header;

    memcpy(&header, slot, sizeof(header));
    if (torc_log_block_peek(slot, UINT32_MAX) == 0 ||
        torc_get_le64(header.generation) != head->generation ||
        torc_get_le32(header.stream) != head->stream ||
        torc_get_le32(header.segment) != head->segment ||
        torc_get_le32(header.offset_bytes) != TORC_LOG_SLOT_BYTES) {
        return 0;
    }
    return torc_get_le64(header.sequence);
}

static enum torc_err store_read_segment(struct torc_log_store *store, const char *name,
                                        uint32_t number, uint32_t segment, struct torc_fail *why)
{
    unsigned char slots[2 * TORC_LOG_SLOT_BYTES] = {0};
    struct torc_log_segment head;
    struct torc_fail inner = {0};
    int fd = openat(store->config.folder_fd, name, O_RDONLY | O_CLOEXEC);
    int64_t got = fd >= 0 ? pread(fd, slots, sizeof(slots), 0) : -1;
    int reason = errno;
    struct store_stream *stream;

    if (fd >= 0) {
        (void)close(fd); // only read
    }
    if (got < 0) {
        return torc_fail(why, TORC_ERR_IO, "read log/%s: %s", name, strerrordesc_np(reason));
    }
    if (torc_log_segment_check(slots, &head, &inner) != TORC_ERR_OK) {
        return torc_fail(why, inner.err, "log/%s: %.100s", name, inner.text);
    }
    if (head.cluster != store->config.cluster || head.node != store->config.node ||
        head.stream != number || head.segment != segment) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log/%s is segment %" PRIu32 " of stream %" PRIu32 " of node %" PRIu32
                         ": put here from elsewhere?",
                         name, head.segment, head.stream, head.node);
    }
    stream = store_stream_make(store, number);
    if (stream == NULL) {
        return torc_fail(why, TORC_ERR_LIMIT, "log/: over %u streams", TORC_LOG_STREAMS_MAX);
    }
    if (stream->plan.segment_count == TORC_LOG_SEGMENTS_MAX) {
        return torc_fail(why, TORC_ERR_LIMIT, "log/: over %u segments of stream %" PRIu32,
                         TORC_LOG_SEGMENTS_MAX, number);
    }
    stream->plan.segments[stream->plan.segment_count++] = (struct torc_log_plan_segment){
        .generation = head.generation,
        .first_sequence = store_first_sequence(slots + TORC_LOG_SLOT_BYTES, &head),
        .cut_sequence = head.first_sequence,
        .segment = segment,
        .segment_bytes = head.segment_bytes};
    return TORC_ERR_OK;
}

// `spare-<k>` of the right size is kept, anything else of ours that is none is removed.
static bool store_take_spare(struct torc_log_store *store, const char *name)
{
    bool spare = strncmp(name, "spare-", 6) == 0;
    struct stat at;
    uint32_t number;
    uint32_t none;
    char shape[TORC_LOG_NAME_BYTES + 8];

    if (!spare && strncmp(name, "new-", 4) != 0) {
        return false;
    }
    (void)snprintf(shape, sizeof(shape), "0-%.30s", strchr(name, '-') + 1);
    if (!store_parse(shape, &none, &number)) {
        return false;
    }
    store->next_spare = (uint32_t)torc_max_u64(store->next_spare, number + UINT64_C(1));
    if (store->config.look_only) {
        return true;
    }
    if (spare && store->spare_count < store->config.spares_max &&
        fstatat(store->config.folder_fd, name, &at, 0) == 0 &&
        at.st_size == (off_t)store->config.segment_bytes) {
        store->spares[store->spare_count++] = (struct store_spare){number, false};
    } else {
        (void)unlinkat(store->config.folder_fd, name, 0); // it is found again at the next start
    }
    return true;
}

static int store_by_segment(const void *a, const void *b)
{
    const struct torc_log_plan_segment *one = a;
    const struct torc_log_plan_segment *two = b;

    return one->segment < two->segment ? -1 : one->segment > two->segment;
}

enum torc_err torc_log_store_list(struct torc_log_store *store, struct torc_fail *why)
{
    int fd = openat(store->config.folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    enum torc_err err = TORC_ERR_OK;

    if (folder == NULL) {
        err = torc_fail(why, TORC_ERR_IO, "read log/: %s", strerrordesc_np(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return err;
    }
    store_forget(store);
    for (const struct dirent *entry = torc_folder_next(folder); entry != NULL && err == TORC_ERR_OK;
         entry = torc_folder_next(folder)) {
        uint32_t stream;
        uint32_t segment;

        if (entry->d_name[0] == '.' || store_take_spare(store, entry->d_name)) {
            continue;
        }
        if (!store_parse(entry->d_name, &stream, &segment)) {
            torc_log(TORC_LOG_WARN, "log", "unknown-file", "name=log/%.60s", entry->d_name);
            continue;
        }
        err = store_read_segment(store, entry->d_name, stream, segment, why);
    }
    (void)closedir(folder);
    for (uint32_t i = 0; i < store->stream_count; i++) {
        qsort(store->streams[i]->plan.segments, store->streams[i]->plan.segment_count,
              sizeof(struct torc_log_plan_segment), store_by_segment);
    }
    return err;
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

// -- Letting go ----------------------------------------------------------------------------------

// Makes the file of `segment` a spare, or removes it.
static void store_recycle(struct torc_log_store *store, uint32_t stream,
                          const struct torc_log_plan_segment *segment)
{
    char name[TORC_LOG_NAME_BYTES];
    char spare[TORC_LOG_NAME_BYTES];
    uint32_t number = store->next_spare++;

    if (segment->file != 0) {
        torc_disk_file_close(store->disk, segment->file);
    }
    torc_log_segment_name(name, stream, segment->segment);
    store_spare_name(spare, "spare", number);
    if (segment->segment_bytes == store->config.segment_bytes &&
        store->spare_count < store->config.spares_max &&
        renameat(store->config.folder_fd, name, store->config.folder_fd, spare) == 0) {
        store->spares[store->spare_count++] = (struct store_spare){number, false};
        return;
    }
    if (unlinkat(store->config.folder_fd, name, 0) != 0) {
        torc_log(TORC_LOG_WARN, "log", "not-removed", "name=log/%s reason=\"%s\"", name,
                 strerrordesc_np(errno));
    }
}

void torc_log_store_drop(struct torc_log_store *store, uint32_t index, uint32_t at)
{
    struct torc_log_plan *plan = torc_log_store_plan(store, index);

    torc_assert(at < plan->segment_count);
    store_recycle(store, plan->stream, plan->segments + at);
    plan->segment_count--;
    memmove(plan->segments + at, plan->segments + at + 1,
            (plan->segment_count - at) * sizeof(*plan->segments));
}

void torc_log_store_trim(struct torc_log_store *store, uint32_t index, uint64_t floor)
{
    struct torc_log_plan *plan = torc_log_store_plan(store, index);
    struct torc_log_plan_segment segment;

    while (torc_log_plan_trim(plan, floor, &segment)) {
        store_recycle(store, plan->stream, &segment);
    }
    while (floor == UINT64_MAX && store->streams[index]->worker == NOBODY &&
           plan->segment_count > 0) {
        torc_log_store_drop(store, index, plan->segment_count - 1);
    }
}

// -- Preparing segments --------------------------------------------------------------------------

static void job_done(struct torc_disk_op *op)
{
    struct store_stream *stream = op->context;
    struct store_job *job = &stream->job;
    bool whole =
        op->kind == TORC_DISK_SYNC ? op->result == 0 : op->result == (int32_t)op->byte_count;

    torc_assert(job->busy > 0);
    job->busy--;
    op->tag = 0; // free again
    if (!whole && job->failure == 0) {
        job->failure = op->result < 0 ? -op->result : EIO;
    }
}

static void job_start(struct store_stream *stream, enum torc_disk_kind kind, uint32_t file,
                      void *bytes, uint32_t byte_count, uint64_t offset)
{
    struct store_job *job = &stream->job;
    uint32_t at = 0;

    while (job->ops[at].tag != 0) {
        at++;
        torc_assert(at < STORE_ZERO_FLIGHTS);
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

static void job_write_header(struct store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct store_job *job = &stream->job;
    struct torc_log_segment head = {.cluster = store->config.cluster,
                                    .first_sequence = torc_log_plan_next_cut(&stream->plan),
                                    .node = store->config.node,
                                    .stream = stream->plan.stream,
                                    .segment = torc_log_plan_next_segment(&stream->plan),
                                    .segment_bytes = store->config.segment_bytes};

    torc_random(&head.generation, sizeof(head.generation));
    head.generation |= 1; // never 0
    job->segment = (struct torc_log_plan_segment){.generation = head.generation,
                                                  .cut_sequence = head.first_sequence,
                                                  .segment = head.segment,
                                                  .segment_bytes = head.segment_bytes,
                                                  .file = job->file};
    torc_log_segment_write(job->header, &head);
    job->state = STORE_JOB_HEADER;
    job_start(stream, TORC_DISK_WRITE_DURABLE, job->file, job->header, TORC_LOG_SLOT_BYTES, 0);
}

// A spare, or a new file. Fails into job->failure.
static void job_open(struct store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct store_job *job = &stream->job;
    struct torc_fail why = {0};
    bool spare = store->spare_count > 0;
    bool synced = false;
    enum torc_err err;

    if (spare) {
        const struct store_spare *last = store->spares + --store->spare_count;

        store_spare_name(job->name, "spare", last->number);
        synced = last->synced;
    } else {
        store_spare_name(job->name, "new", store->next_spare++);
    }
    err = torc_disk_file_open(store->disk, store->config.folder_fd, job->name,
                              O_RDWR | O_DIRECT | (spare ? 0 : O_CREAT | O_EXCL), &job->file, &why);
    if (err != TORC_ERR_OK) {
        job->file = 0;
        job->failure = err == TORC_ERR_NO_SPACE ? ENOSPC : EIO;
        return;
    }
    if (!spare &&
        fallocate(torc_disk_file_fd(store->disk, job->file), 0, 0,
                  store->config.segment_bytes) != 0 &&
        errno != EOPNOTSUPP) { // else a full disk is found out by writing
        job->failure = errno;
        return;
    }
    job->started_bytes = 0;
    if (!spare) {
        job->state = STORE_JOB_ZEROS;
    } else if (!synced) {
        job->state = STORE_JOB_FOLDER_SYNC;
        job_start(stream, TORC_DISK_SYNC, store->folder, NULL, 0, 0);
    } else {
        job_write_header(stream);
    }
}

static void job_rename(struct store_stream *stream)
{
    struct torc_log_store *store = stream->store;
    struct store_job *job = &stream->job;
    char name[TORC_LOG_NAME_BYTES];

    torc_log_segment_name(name, stream->plan.stream, job->segment.segment);
    if (renameat(store->config.folder_fd, job->name, store->config.folder_fd, name) != 0) {
        job->failure = errno;
        return;
    }
    memcpy(job->name, name, sizeof(name));
    job->state = STORE_JOB_NAME_SYNC;
    job_start(stream, TORC_DISK_SYNC, store->folder, NULL, 0, 0);
}

// The segment is prepared; the worker is told (or, with a full ring, at the next step).
static void job_tell(struct store_stream *stream)
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
    stream->job.state = STORE_JOB_IDLE;
    stream->job.file = 0; // the segment's now
    stream->ready = true;
    if (stream->full_told) {
        stream->full_told = false;
        torc_log(TORC_LOG_INFO, "log", "space-again", "stream=%" PRIu32, stream->plan.stream);
    }
}

// Cleans up after a failure and says so, once, when the worker is about to run out of segments.
static void job_give_up(struct store_stream *stream, uint64_t now_ns)
{
    struct torc_log_store *store = stream->store;
    struct store_job *job = &stream->job;
    struct torc_mark mark = {.kind = TORC_MARK_DISK_FULL};

    if (job->file != 0) {
        torc_disk_file_close(store->disk, job->file);
        job->file = 0;
    }
    if (job->name[0] != '\0') {
        (void)unlinkat(store->config.folder_fd, job->name,
                       0); // found at the next start, if it stays
        job->name[0] = '\0';
    }
    job->state = STORE_JOB_RETRY;
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

static void job_zeros(struct store_stream *stream)
{
    struct store_job *job = &stream->job;
    struct torc_log_store *store = stream->store;

    while (job->busy < STORE_ZERO_FLIGHTS && job->started_bytes < store->config.segment_bytes) {
        uint64_t bytes =
            torc_min_u64(STORE_ZERO_BYTES, store->config.segment_bytes - job->started_bytes);

        job_start(stream, TORC_DISK_WRITE, job->file, store->zeros, (uint32_t)bytes,
                  job->started_bytes);
        job->started_bytes += bytes;
    }
    if (job->busy == 0) {
        job->state = STORE_JOB_ZEROS_SYNC;
        job_start(stream, TORC_DISK_SYNC, job->file, NULL, 0, 0);
    }
}

static bool job_step(struct store_stream *stream, uint64_t now_ns)
{
    struct store_job *job = &stream->job;
    enum store_job_state before = job->state;
    uint32_t busy = job->busy;

    if (job->failure != 0) {
        if (job->busy == 0) {
            job_give_up(stream, now_ns);
        }
        return true;
    }
    if (job->busy > 0 && job->state != STORE_JOB_ZEROS) {
        return false;
    }
    switch (job->state) {
    case STORE_JOB_RETRY:
        if (now_ns < job->retry_ns) {
            return false;
        }
        job->state = STORE_JOB_IDLE;
        break;
    case STORE_JOB_IDLE:
        if (!stream->store->deaf && torc_log_plan_wants(&stream->plan) > 0) {
            job_open(stream);
        }
        break;
    case STORE_JOB_ZEROS: job_zeros(stream); break;
    case STORE_JOB_ZEROS_SYNC: job_write_header(stream); break;
    case STORE_JOB_FOLDER_SYNC:
        for (uint32_t i = 0; i < stream->store->spare_count; i++) {
            stream->store->spares[i].synced = true;
        }
        job_write_header(stream);
        break;
    case STORE_JOB_HEADER: job_rename(stream); break;
    case STORE_JOB_NAME_SYNC: job_tell(stream); break;
    }
    return job->state != before || job->busy != busy || job->failure != 0;
}

// -- Writing blocks ------------------------------------------------------------------------------

static void store_written(struct torc_disk_op *op)
{
    struct store_stream *stream = op->context;
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
static void store_refuse(struct store_stream *stream, const struct torc_fail *why)
{
    stream->plan.failed = true;
    stream->plan.failure = *why;
}

// Takes the block at the ring's place behind those in flight. False: there is none, or it is wrong.
static bool store_take_block(struct store_stream *stream, const void *slot, uint32_t slots_there)
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
    *op = (struct torc_disk_op){.kind = TORC_DISK_WRITE_DURABLE,
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

static bool store_take(struct store_stream *stream)
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
static bool store_give_back(struct store_stream *stream)
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

static bool store_tell_failed(struct store_stream *stream)
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
static void store_close_full(struct store_stream *stream)
{
    struct torc_log_plan *plan = &stream->plan;

    if (plan->filling == NOBODY || plan->flight_count > 0) {
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
        struct store_stream *stream = store->streams[i];

        if (stream->worker == NOBODY) {
            continue;
        }
        moved = store_take(stream) || moved;
        moved = store_give_back(stream) || moved;
        moved = job_step(stream, now_ns) || moved;
        if (stream->plan.failed && !stream->failed_told) {
            moved = store_tell_failed(stream) || moved;
        }
        store_close_full(stream);
    }
    return moved;
}

static const struct store_stream *store_of_worker(const struct torc_log_store *store,
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
    const struct store_stream *stream = store_of_worker(store, worker);
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
        if (store->streams[i]->worker != NOBODY &&
            store->streams[i]->job.state == STORE_JOB_RETRY) {
            deadline_ns = torc_min_u64(deadline_ns, store->streams[i]->job.retry_ns);
        }
    }
    return deadline_ns;
}

// -- Lives of the dataplane ----------------------------------------------------------------------

// Opens the segments that blocks may still go into.
static enum torc_err store_open_segments(struct store_stream *stream, struct torc_fail *why)
{
    struct torc_log_plan *plan = &stream->plan;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = plan->filling == NOBODY ? 0 : plan->filling;
         i < plan->segment_count && err == TORC_ERR_OK; i++) {
        char name[TORC_LOG_NAME_BYTES];

        torc_log_segment_name(name, plan->stream, plan->segments[i].segment);
        err = torc_disk_file_open(stream->store->disk, stream->store->config.folder_fd, name,
                                  O_RDWR | O_DIRECT, &plan->segments[i].file, why);
    }
    return err;
}

static enum torc_err store_attach(struct torc_log_store *store, struct torc_attach *attach,
                                  uint32_t worker, struct store_stream **out, struct torc_fail *why)
{
    struct torc_spsc_port *ring = &attach->ports[worker].log;
    struct store_stream *stream = store_stream_make(store, worker + 1);

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
    struct store_stream *stream = NULL;
    enum torc_err err = store_attach(store, attach, worker, &stream, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(stream != NULL);
    torc_log_plan_begin(&stream->plan, next_sequence);
    return TORC_ERR_OK;
}

// Segments that are prepared and that the worker was not told of: control died in between.
static enum torc_err store_tell_segments(struct store_stream *stream, uint32_t told,
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
    struct store_stream *stream = NULL;
    enum torc_err err = store_attach(store, attach, worker, &stream, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(stream != NULL);
    torc_log_plan_resume(&stream->plan, seen->segment);
    stream->plan.durable = seen->durable_sequence; // F2: what was given back had been told
    stream->ready = true;
    err = store_open_segments(stream, why);
    return err == TORC_ERR_OK ? store_tell_segments(stream, seen->segment_prepared, why) : err;
}

bool torc_log_store_drained(struct torc_log_store *store)
{
    bool drained = true;

    store->deaf = true;
    for (uint32_t i = 0; i < store->stream_count; i++) {
        struct store_stream *stream = store->streams[i];
        bool busy = stream->job.busy > 0 || stream->job.failure != 0;

        if (stream->worker == NOBODY) {
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
        struct store_stream *stream = store->streams[i];

        if (stream->worker == NOBODY) {
            continue;
        }
        torc_disk_window_close(store->disk, stream->window);
        stream->worker = NOBODY;
        if (stream->job.file != 0) { // whatever it was, the next start finds and removes it
            torc_disk_file_close(store->disk, stream->job.file);
            stream->job.file = 0;
        }
        stream->job.state = STORE_JOB_IDLE;
        stream->job.failure = 0;
    }
    store->attach = NULL;
}

bool torc_log_store_is_ready(const struct torc_log_store *store, uint32_t worker)
{
    const struct store_stream *stream = store_of_worker(store, worker);

    return stream != NULL && stream->ready;
}

uint64_t torc_log_store_durable(const struct torc_log_store *store, uint32_t worker)
{
    const struct store_stream *stream = store_of_worker(store, worker);

    return stream != NULL ? stream->plan.durable : 0;
}

void torc_log_store_numbers(const struct torc_log_store *store,
                            struct torc_log_store_numbers *numbers)
{
    *numbers = (struct torc_log_store_numbers){
        .writes = store->writes, .write_bytes = store->write_bytes, .spares = store->spare_count};
    for (uint32_t i = 0; i < store->stream_count; i++) {
        const struct store_stream *stream = store->streams[i];

        numbers->inflight += stream->plan.flight_count;
        numbers->segments += stream->plan.segment_count;
        numbers->full = numbers->full || stream->full_told;
        if (stream->plan.failed && !numbers->failed) {
            numbers->failed = true;
            numbers->failure = stream->plan.failure;
        }
    }
}
