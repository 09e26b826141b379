// Torc control: from the files of a data directory to the shards of a new dataplane. See
// control/recover_uring.h.
#include "control/recover_uring.h"

#include "control/data_dir_os.h"
#include "kit/log_os.h"
#include "storage/log_order.h"
#include "storage/log_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RECOVER_READ_BYTES = 1 << 20,
    RECOVER_NAME_BYTES = 48,
    RECOVER_FOOTER_BYTES = 96,
    RECOVER_IN_BYTES = TORC_CHAN_BULK_BYTES - 32,
    RECOVER_STEP_BLOCKS = 64 // that one worker is fed before the next has its turn
};

_Static_assert((uint32_t)RECOVER_READ_BYTES >= TORC_LOG_SCAN_WINDOW_BYTES,
               "a read holds what a scan wants to see");

enum recover_phase {
    RECOVER_SCAN,
    RECOVER_NOTE,
    RECOVER_ORDER,
    RECOVER_SCANNED
};

// One stream and what the scan says of it.
struct recover_stream {
    uint32_t stream;
    uint32_t index; // in the store
    struct torc_log_scan_segment *segments;
    uint32_t segment_count;
    struct torc_log_scan_result result;
};

// A read position in the kept blocks of one stream.
struct recover_cursor {
    struct recover_stream *stream; // NULL: nothing open
    uint32_t segment;              // index
    uint32_t file;                 // 0: not open
    uint64_t offset;               // in the file, of the next block
    uint64_t buffer_offset;        // of the buffer's first byte
    uint64_t buffer_bytes;
    unsigned char *buffer;
};

struct recover_feeder {
    uint32_t shard_at; // index of the shard whose checkpoint is fed
    uint32_t file;
    uint64_t file_offset;
    uint32_t piece;  // index
    bool in_piece;   // `from` is known
    uint64_t from;   // first block of the piece that this worker needs
    uint32_t end_at; // stream whose LOG_END comes next
    bool block_there;
    struct torc_log_block block; // being fed
    uint32_t block_done;
    struct recover_cursor cursor;
    bool fed;
};

struct torc_recover {
    struct torc_recover_config config;
    enum recover_phase phase;
    struct recover_stream *streams;
    uint32_t stream_count;
    uint32_t at; // stream being looked at
    struct torc_log_scan scan;
    struct recover_cursor cursor;
    struct torc_log_order order;
    struct torc_log_order_piece *pieces;
    uint32_t piece_count;
    uint32_t piece_room;
    struct recover_feeder *feeders; // one a worker
    struct torc_recover_numbers numbers;
};

// -- Checkpoints ---------------------------------------------------------------------------------

void torc_checkpoint_name(char *name, uint32_t name_bytes, uint32_t shard, uint64_t lsn)
{
    (void)snprintf(name, name_bytes, "%" PRIu32 "-%" PRIu64, shard, lsn);
}

bool torc_checkpoint_name_parse(const char *name, uint32_t *shard, uint64_t *lsn)
{
    uint64_t numbers[2] = {0};
    uint32_t which = 0;
    char again[RECOVER_NAME_BYTES];

    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '-' && which == 0) {
            which = 1;
        } else if (*at < '0' || *at > '9' ||
                   __builtin_mul_overflow(numbers[which], UINT64_C(10), &numbers[which]) ||
                   __builtin_add_overflow(numbers[which], (uint64_t)(*at - '0'), &numbers[which])) {
            return false;
        }
    }
    if (numbers[0] > UINT32_MAX) {
        return false;
    }
    *shard = (uint32_t)numbers[0];
    *lsn = numbers[1];
    torc_checkpoint_name(again, sizeof(again), *shard, *lsn);
    return strcmp(again, name) == 0;
}

// Header and footer of one file.
static enum torc_err recover_check_file(const struct torc_recover *recover, const char *name,
                                        struct torc_checkpoint_info *info, uint64_t *byte_count,
                                        struct torc_fail *why)
{
    unsigned char head[sizeof(struct torc_checkpoint_header)];
    unsigned char tail[RECOVER_FOOTER_BYTES];
    struct torc_checkpoint_footer footer;
    struct torc_fail inner = {0};
    struct stat at = {0};
    enum torc_err err = TORC_ERR_IO;
    int fd = openat(recover->config.checkpoint_fd, name, O_RDONLY | O_CLOEXEC);
    bool is_read = fd >= 0 && fstat(fd, &at) == 0;
    bool is_long = is_read && at.st_size >= (off_t)(sizeof(head) + sizeof(tail));

    if (is_long) {
        is_read = pread(fd, head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
                  pread(fd, tail, sizeof(tail), at.st_size - (off_t)sizeof(tail)) ==
                      (ssize_t)sizeof(tail);
    }
    if (!is_read) {
        err = torc_fail(why, TORC_ERR_IO, "read checkpoint/%s: %s", name, strerrordesc_np(errno));
    } else if (!is_long) {
        err = torc_fail(why, TORC_ERR_CORRUPT, "checkpoint/%s: cut short at %" PRId64 " bytes",
                        name, (int64_t)at.st_size);
    } else {
        err = torc_checkpoint_header_check(head, sizeof(head), info, &inner);
        if (err == TORC_ERR_OK) {
            err = torc_checkpoint_footer_check(tail, sizeof(tail), &footer, &inner);
        }
        if (err == TORC_ERR_OK &&
            (info->cluster != recover->config.cluster || info->node != recover->config.node)) {
            err = torc_fail(&inner, TORC_ERR_CORRUPT, "of another node: put here from elsewhere?");
        }
        if (err != TORC_ERR_OK) {
            err = torc_fail(why, err, "checkpoint/%s: %.100s", name, inner.text);
        }
    }
    if (fd >= 0) {
        (void)close(fd); // only read
    }
    *byte_count = (uint64_t)at.st_size;
    return err;
}

static struct torc_recover_shard *recover_shard(const struct torc_recover *recover, uint32_t shard)
{
    // Numbers begin at 1 and have no holes as long as nothing was split.
    if (shard > 0 && shard <= recover->config.shard_count &&
        recover->config.shards[shard - 1].shard == shard) {
        return recover->config.shards + shard - 1;
    }
    for (uint32_t i = 0; i < recover->config.shard_count; i++) {
        if (recover->config.shards[i].shard == shard) {
            return recover->config.shards + i;
        }
    }
    return NULL;
}

// A good file: the newest of its shard counts, an older one is of no use any more.
static void recover_take_file(struct torc_recover *recover, struct torc_recover_shard *shard,
                              const struct torc_checkpoint_info *info, uint64_t byte_count)
{
    uint64_t old_lsn = shard->has_checkpoint ? shard->checkpoint.lsn : UINT64_MAX;
    char name[RECOVER_NAME_BYTES];

    if (shard->has_checkpoint && info->lsn < shard->checkpoint.lsn) {
        old_lsn = info->lsn;
    } else {
        shard->checkpoint = *info;
        shard->checkpoint_bytes = byte_count;
        shard->stream = info->stream;
        shard->turn = info->turn;
    }
    shard->has_checkpoint = true;
    if (old_lsn != UINT64_MAX && !recover->config.look_only) {
        torc_checkpoint_name(name, sizeof(name), shard->shard, old_lsn);
        (void)unlinkat(recover->config.checkpoint_fd, name, 0); // found again, if it stays
    }
}

static enum torc_err recover_entry(struct torc_recover *recover, const char *name,
                                   struct torc_fail *why)
{
    struct torc_checkpoint_info info = {0};
    struct torc_recover_shard *shard;
    uint64_t byte_count = 0;
    uint32_t number;
    uint64_t lsn;
    uint64_t length = strlen(name);
    enum torc_err err;

    if (length > 4 && strcmp(name + length - 4, ".tmp") == 0) { // never finished
        if (!recover->config.look_only) {
            (void)unlinkat(recover->config.checkpoint_fd, name, 0);
        }
        return TORC_ERR_OK;
    }
    if (!torc_checkpoint_name_parse(name, &number, &lsn)) {
        torc_log(TORC_LOG_WARN, "checkpoint", "unknown-file", "name=checkpoint/%.60s", name);
        return TORC_ERR_OK;
    }
    err = recover_check_file(recover, name, &info, &byte_count, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    shard = recover_shard(recover, number);
    if (shard == NULL || info.shard != number || info.lsn != lsn) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint/%s holds shard %" PRIu32 " up to %" PRIu64
                         ": no such shard of this node",
                         name, info.shard, info.lsn);
    }
    recover_take_file(recover, shard, &info, byte_count);
    return TORC_ERR_OK;
}

static enum torc_err recover_checkpoints(struct torc_recover *recover, struct torc_fail *why)
{
    int fd = openat(recover->config.checkpoint_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    enum torc_err err = TORC_ERR_OK;

    if (folder == NULL) {
        err = torc_fail(why, TORC_ERR_IO, "read checkpoint/: %s", strerrordesc_np(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return err;
    }
    for (const struct dirent *entry = torc_folder_next(folder); entry != NULL && err == TORC_ERR_OK;
         entry = torc_folder_next(folder)) {
        if (entry->d_name[0] != '.') {
            err = recover_entry(recover, entry->d_name, why);
        }
    }
    (void)closedir(folder);
    for (uint32_t i = 0; i < recover->config.shard_count; i++) {
        recover->numbers.checkpoint_bytes += recover->config.shards[i].checkpoint_bytes;
    }
    return err;
}

// -- Reading -------------------------------------------------------------------------------------

static void cursor_shut(struct torc_recover *recover, struct recover_cursor *cursor)
{
    if (cursor->file != 0) {
        torc_disk_file_close(recover->config.disk, cursor->file);
        cursor->file = 0;
    }
    cursor->buffer_bytes = 0;
}

static enum torc_err cursor_open(struct torc_recover *recover, struct recover_cursor *cursor,
                                 uint32_t segment, struct torc_fail *why)
{
    char name[TORC_LOG_NAME_BYTES];
    enum torc_err err;

    cursor_shut(recover, cursor);
    torc_log_segment_name(name, cursor->stream->stream,
                          cursor->stream->segments[segment].header.segment);
    err = torc_disk_file_open(recover->config.disk, recover->config.log_fd, name, O_RDONLY,
                              &cursor->file, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    // Advice only: the kernel reads ahead of us.
    (void)posix_fadvise(torc_disk_file_fd(recover->config.disk, cursor->file), 0, 0,
                        POSIX_FADV_SEQUENTIAL);
    cursor->segment = segment;
    cursor->offset = TORC_LOG_SLOT_BYTES;
    if (cursor->buffer == NULL) {
        cursor->buffer = aligned_alloc(TORC_DISK_ALIGN_BYTES, RECOVER_READ_BYTES);
        torc_assert(cursor->buffer != NULL);
    }
    return TORC_ERR_OK;
}

// Fills the buffer from `offset` on; 0 bytes at the end of the file.
static enum torc_err recover_read(struct torc_recover *recover, uint32_t file, void *buffer,
                                  uint64_t offset, uint64_t *got, struct torc_fail *why)
{
    struct torc_disk_op op = {.kind = TORC_DISK_READ,
                              .file = file,
                              .bytes = buffer,
                              .byte_count = RECOVER_READ_BYTES,
                              .offset = offset};
    int32_t result = torc_disk_do(recover->config.disk, &op);

    if (result < 0) {
        return torc_fail(why, TORC_ERR_IO, "read at %" PRIu64 ": %s", offset,
                         strerrordesc_np(-result));
    }
    *got = (uint64_t)result;
    return TORC_ERR_OK;
}

static enum torc_err recover_named(const struct recover_stream *stream, uint32_t segment,
                                   const struct torc_fail *inner, struct torc_fail *why)
{
    return torc_fail(why, inner->err, "log/%" PRIu32 "-%" PRIu32 ": %.110s", stream->stream,
                     stream->segments[segment].header.segment, inner->text);
}

// The block at the cursor, of the kept ones; *more false at the segment's kept end.
static enum torc_err cursor_block(struct torc_recover *recover, struct recover_cursor *cursor,
                                  struct torc_log_block *block, bool *more, struct torc_fail *why)
{
    const struct torc_log_scan_segment *segment = cursor->stream->segments + cursor->segment;
    uint64_t skip = cursor->offset - cursor->buffer_offset;
    struct torc_fail inner = {0};
    enum torc_err err = TORC_ERR_OK;

    *more = cursor->offset < segment->kept_end_bytes;
    if (!*more) {
        return TORC_ERR_OK;
    }
    if (cursor->buffer_bytes == 0 || skip >= cursor->buffer_bytes ||
        cursor->buffer_bytes - skip < (uint64_t)TORC_LOG_BLOCK_BYTES_MAX) {
        err = recover_read(recover, cursor->file, cursor->buffer, cursor->offset,
                           &cursor->buffer_bytes, &inner);
        cursor->buffer_offset = cursor->offset;
        skip = 0;
    }
    if (err == TORC_ERR_OK) {
        err =
            torc_log_block_check(cursor->buffer + skip, cursor->buffer_bytes - skip, block, &inner);
    }
    return err == TORC_ERR_OK ? err : recover_named(cursor->stream, cursor->segment, &inner, why);
}

// -- Scanning ------------------------------------------------------------------------------------

static void recover_stream_make(struct torc_recover *recover, uint32_t index)
{
    const struct torc_log_plan *plan = torc_log_store_plan(recover->config.store, index);
    struct recover_stream *stream = recover->streams + index;

    *stream = (struct recover_stream){
        .stream = plan->stream,
        .index = index,
        .segments = calloc(plan->segment_count + 1, sizeof(struct torc_log_scan_segment)),
        .segment_count = plan->segment_count};
    torc_assert(stream->segments != NULL);
    for (uint32_t i = 0; i < plan->segment_count; i++) {
        stream->segments[i].header =
            (struct torc_log_segment){.cluster = recover->config.cluster,
                                      .generation = plan->segments[i].generation,
                                      .node = recover->config.node,
                                      .stream = plan->stream,
                                      .segment = plan->segments[i].segment,
                                      .first_sequence = plan->segments[i].cut_sequence,
                                      .segment_bytes = plan->segments[i].segment_bytes};
    }
}

enum torc_err torc_recover_begin(struct torc_recover **out,
                                 const struct torc_recover_config *config, struct torc_fail *why)
{
    struct torc_recover *recover = calloc(1, sizeof(*recover));
    enum torc_err err;

    torc_assert(recover != NULL);
    recover->config = *config;
    err = recover_checkpoints(recover, why);
    if (err == TORC_ERR_OK) {
        err = torc_log_store_list(config->store, why);
    }
    if (err != TORC_ERR_OK) {
        torc_recover_close(recover);
        return err;
    }
    recover->stream_count = torc_log_store_stream_count(config->store);
    recover->streams = calloc(recover->stream_count + 1, sizeof(*recover->streams));
    recover->feeders = calloc(config->worker_count + 1, sizeof(*recover->feeders));
    torc_assert(recover->streams != NULL);
    torc_assert(recover->feeders != NULL);
    for (uint32_t i = 0; i < recover->stream_count; i++) {
        recover_stream_make(recover, i);
    }
    *out = recover;
    return TORC_ERR_OK;
}

void torc_recover_close(struct torc_recover *recover)
{
    cursor_shut(recover, &recover->cursor);
    free(recover->cursor.buffer);
    for (uint32_t i = 0; i < recover->config.worker_count && recover->feeders != NULL; i++) {
        struct recover_feeder *feeder = recover->feeders + i;

        cursor_shut(recover, &feeder->cursor);
        free(feeder->cursor.buffer);
        if (feeder->file != 0) {
            torc_disk_file_close(recover->config.disk, feeder->file);
        }
    }
    for (uint32_t i = 0; i < recover->stream_count && recover->streams != NULL; i++) {
        free(recover->streams[i].segments);
    }
    free(recover->order.notes);
    free(recover->order.streams);
    free(recover->pieces);
    free(recover->feeders);
    free(recover->streams);
    free(recover);
}

// Syncs the files of kept blocks that nobody knew to be on disk.
static enum torc_err recover_sync(struct torc_recover *recover, struct recover_stream *stream,
                                  struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    recover->cursor.stream = stream;
    for (uint32_t i = 0; i < stream->segment_count && err == TORC_ERR_OK; i++) {
        struct torc_disk_op op = {.kind = TORC_DISK_SYNC};

        if (stream->segments[i].last_sequence <= stream->result.line) {
            continue;
        }
        err = cursor_open(recover, &recover->cursor, i, why);
        if (err != TORC_ERR_OK) {
            break;
        }
        op.file = recover->cursor.file;
        if (torc_disk_do(recover->config.disk, &op) < 0) {
            err =
                torc_fail(why, TORC_ERR_IO, "sync log/%" PRIu32 "-%" PRIu32 ": %s", stream->stream,
                          stream->segments[i].header.segment, strerrordesc_np(-op.result));
        }
    }
    cursor_shut(recover, &recover->cursor);
    return err;
}

static enum torc_err recover_scan_end(struct torc_recover *recover, struct recover_stream *stream,
                                      struct torc_fail *why)
{
    struct torc_fail inner = {0};
    enum torc_err err = torc_log_scan_end(&recover->scan, &stream->result, &inner);

    cursor_shut(recover, &recover->cursor);
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "log stream %" PRIu32 ": %.120s", stream->stream, inner.text);
    }
    recover->numbers.torn_blocks += stream->result.torn_blocks;
    if (stream->result.torn_blocks > 0) {
        torc_log(TORC_LOG_WARN, "recover", "torn-tail",
                 "stream=%" PRIu32 " blocks=%" PRIu64 " kept-to=%" PRIu64
                 " note=\"never acknowledged; cut\"",
                 stream->stream, stream->result.torn_blocks, stream->result.last_sequence);
    }
    if (stream->result.sync && !recover->config.look_only) {
        return recover_sync(recover, stream, why);
    }
    return TORC_ERR_OK;
}

// One read of the stream at `at`.
static enum torc_err recover_scan(struct torc_recover *recover, struct torc_fail *why)
{
    struct recover_stream *stream = recover->streams + recover->at;
    struct recover_cursor *cursor = &recover->cursor;
    enum torc_err err = TORC_ERR_OK;
    uint32_t segment;
    bool last;

    if (cursor->stream != stream) {
        cursor->stream = stream;
        err = torc_log_scan_begin(&recover->scan, stream->segments, stream->segment_count, why);
        if (err != TORC_ERR_OK) {
            return err;
        }
    }
    segment = recover->scan.at;
    if (segment == stream->segment_count) {
        recover->at++;
        return recover_scan_end(recover, stream, why);
    }
    if (cursor->file == 0 || cursor->segment != segment) {
        err = cursor_open(recover, cursor, segment, why);
    }
    if (err == TORC_ERR_OK) {
        struct torc_fail inner = {0};

        err = recover_read(recover, cursor->file, cursor->buffer, recover->scan.offset_bytes,
                           &cursor->buffer_bytes, &inner);
        if (err != TORC_ERR_OK) {
            err = recover_named(stream, segment, &inner, why);
        }
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    last = cursor->buffer_bytes < RECOVER_READ_BYTES ||
           recover->scan.offset_bytes + cursor->buffer_bytes >=
               stream->segments[segment].header.segment_bytes;
    (void)torc_log_scan_feed(&recover->scan, cursor->buffer, cursor->buffer_bytes, last);
    return TORC_ERR_OK;
}

// -- Whose records are where ---------------------------------------------------------------------

static void recover_note_shards(struct torc_recover *recover, const struct torc_log_block *block)
{
    for (uint32_t i = 0; i < block->shard_count; i++) {
        struct torc_log_builder_shard entry;
        struct torc_recover_shard *shard;

        torc_log_block_shard(block, i, &entry);
        shard = recover_shard(recover, entry.shard);
        if (shard != NULL && (shard->stream == 0 || entry.turn >= shard->turn)) {
            shard->turn = entry.turn;
            shard->stream = block->place.stream;
        }
    }
}

static void recover_order_room(struct torc_recover *recover)
{
    uint64_t notes = 4096 + UINT64_C(4) * recover->config.shard_count;

    recover->order.notes = calloc(notes, sizeof(*recover->order.notes));
    recover->order.streams = calloc(recover->stream_count + 1, sizeof(*recover->order.streams));
    torc_assert(recover->order.notes != NULL);
    torc_assert(recover->order.streams != NULL);
    torc_log_order_init(&recover->order, recover->order.notes, (uint32_t)notes,
                        recover->order.streams, recover->stream_count + 1);
}

// Takes note of the kept blocks of one segment.
static enum torc_err recover_note(struct torc_recover *recover, struct torc_fail *why)
{
    struct recover_stream *stream = recover->streams + recover->at;
    struct recover_cursor *cursor = &recover->cursor;
    struct torc_log_block block;
    bool more = false;
    enum torc_err err;
    uint32_t segment = cursor->stream == stream ? cursor->segment + 1 : 0;

    if (segment >= stream->segment_count) {
        cursor_shut(recover, cursor);
        recover->at++;
        return TORC_ERR_OK;
    }
    cursor->stream = stream;
    err = cursor_open(recover, cursor, segment, why);
    if (err == TORC_ERR_OK) {
        err = cursor_block(recover, cursor, &block, &more, why);
    }
    while (err == TORC_ERR_OK && more) {
        recover->numbers.log_blocks++;
        recover->numbers.log_bytes += block.byte_count;
        recover_note_shards(recover, &block);
        err = torc_log_order_note(&recover->order, &block, why);
        cursor->offset += block.byte_count;
        if (err == TORC_ERR_OK) {
            err = cursor_block(recover, cursor, &block, &more, why);
        }
    }
    return err;
}

static enum torc_err recover_order(struct torc_recover *recover, struct torc_fail *why)
{
    struct torc_log_order_piece piece;
    bool more = true;
    enum torc_err err = TORC_ERR_OK;

    while (err == TORC_ERR_OK && more) {
        err = torc_log_order_next(&recover->order, &piece, &more, why);
        if (err != TORC_ERR_OK || !more) {
            break;
        }
        if (recover->piece_count == recover->piece_room) {
            recover->piece_room = 2 * recover->piece_room + 64;
            recover->pieces =
                realloc(recover->pieces, recover->piece_room * sizeof(*recover->pieces));
            torc_assert(recover->pieces != NULL);
        }
        recover->pieces[recover->piece_count++] = piece;
    }
    return err;
}

// What the store has to know: where segments begin; and those without a kept block are let go.
static void recover_apply(struct torc_recover *recover)
{
    for (uint32_t i = 0; i < recover->stream_count; i++) {
        struct recover_stream *stream = recover->streams + i;
        struct torc_log_plan *plan = torc_log_store_plan(recover->config.store, stream->index);

        torc_assert(plan->segment_count == stream->segment_count);
        for (uint32_t at = stream->segment_count; at-- > 0;) {
            plan->segments[at].first_sequence = stream->segments[at].first_sequence;
            if (stream->segments[at].first_sequence == 0) {
                torc_log_store_drop(recover->config.store, stream->index, at);
            }
        }
        plan->durable = stream->result.last_sequence;
    }
}

enum torc_err torc_recover_step(struct torc_recover *recover, bool *scanned, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    *scanned = false;
    switch (recover->phase) {
    case RECOVER_SCAN:
        if (recover->at < recover->stream_count) {
            return recover_scan(recover, why);
        }
        recover->phase = RECOVER_NOTE;
        recover->at = 0;
        recover->cursor.stream = NULL;
        recover_order_room(recover);
        return TORC_ERR_OK;
    case RECOVER_NOTE:
        if (recover->at < recover->stream_count) {
            return recover_note(recover, why);
        }
        recover->phase = RECOVER_ORDER;
        return TORC_ERR_OK;
    case RECOVER_ORDER:
        err = recover_order(recover, why);
        if (err == TORC_ERR_OK && !recover->config.look_only) {
            recover_apply(recover);
        }
        recover->phase = RECOVER_SCANNED;
        return err;
    case RECOVER_SCANNED: *scanned = true; return TORC_ERR_OK;
    }
    torc_unreachable("no such phase");
}

static struct recover_stream *recover_stream_of(const struct torc_recover *recover, uint32_t stream)
{
    for (uint32_t i = 0; i < recover->stream_count; i++) {
        if (recover->streams[i].stream == stream) {
            return recover->streams + i;
        }
    }
    return NULL;
}

uint64_t torc_recover_next_sequence(const struct torc_recover *recover, uint32_t stream)
{
    const struct recover_stream *found = recover_stream_of(recover, stream);

    return found != NULL ? torc_max_u64(found->result.next_sequence, 1) : 1;
}

void torc_recover_numbers(const struct torc_recover *recover, struct torc_recover_numbers *numbers)
{
    *numbers = recover->numbers;
}

// -- Feeding -------------------------------------------------------------------------------------

// One message, if there is room.
static bool feed_message(struct torc_attach *attach, uint32_t worker, const struct torc_bulk *head,
                         const void *bytes)
{
    struct torc_spsc_port *in = &attach->ports[worker].in;
    struct torc_bulk *slot;

    if (torc_spsc_writable(in, 1) == 0) {
        return false;
    }
    slot = torc_spsc_write_at(in, 0);
    memcpy(slot, head, offsetof(struct torc_bulk, bytes));
    if (head->byte_count > 0) {
        memcpy(slot->bytes, bytes, head->byte_count);
    }
    torc_spsc_publish(in, 1);
    torc_attach_note(attach, worker);
    return true;
}

// The checkpoint of the shard at the feeder's place. *on: there is room and more to do.
static enum torc_err feed_checkpoint(struct torc_recover *recover, uint32_t worker,
                                     struct torc_attach *attach, bool *on, struct torc_fail *why)
{
    struct recover_feeder *feeder = recover->feeders + worker;
    const struct torc_recover_shard *shard = recover->config.shards + feeder->shard_at;
    struct torc_spsc_port *in = &attach->ports[worker].in;
    struct torc_bulk head = {.kind = TORC_BULK_CHECKPOINT,
                             .shard = shard->shard,
                             .checkpoint = shard->checkpoint.checkpoint};
    struct torc_disk_op op = {.kind = TORC_DISK_READ, .offset = feeder->file_offset};
    char name[RECOVER_NAME_BYTES];
    enum torc_err err = TORC_ERR_OK;

    torc_checkpoint_name(name, sizeof(name), shard->shard, shard->checkpoint.lsn);
    if (feeder->file == 0) {
        feeder->file_offset = 0;
        err = torc_disk_file_open(recover->config.disk, recover->config.checkpoint_fd, name,
                                  O_RDONLY, &feeder->file, why);
        return err;
    }
    *on = torc_spsc_writable(in, 1) > 0;
    if (!*on) {
        return TORC_ERR_OK;
    }
    if (feeder->file_offset == shard->checkpoint_bytes) {
        head.kind = TORC_BULK_CHECKPOINT_END;
        *on = feed_message(attach, worker, &head, NULL);
        torc_disk_file_close(recover->config.disk, feeder->file);
        feeder->file = 0;
        feeder->shard_at++;
        return TORC_ERR_OK;
    }
    // Straight into the ring's slot.
    op.file = feeder->file;
    op.byte_count =
        (uint32_t)torc_min_u64(RECOVER_IN_BYTES, shard->checkpoint_bytes - feeder->file_offset);
    op.bytes = ((struct torc_bulk *)torc_spsc_write_at(in, 0))->bytes;
    head.byte_count = op.byte_count;
    if (torc_disk_do(recover->config.disk, &op) != (int32_t)op.byte_count) {
        return torc_fail(why, TORC_ERR_IO, "read checkpoint/%s at %" PRIu64 ": %s", name,
                         feeder->file_offset,
                         op.result < 0 ? strerrordesc_np(-op.result) : "cut short");
    }
    memcpy(torc_spsc_write_at(in, 0), &head, offsetof(struct torc_bulk, bytes));
    torc_spsc_publish(in, 1);
    torc_attach_note(attach, worker);
    feeder->file_offset += op.byte_count;
    return TORC_ERR_OK;
}

// The lowest sequence of `stream` that a shard of the worker needs; UINT64_MAX: none has records
// there.
static uint64_t feed_from(const struct torc_recover *recover, uint32_t worker, uint32_t stream)
{
    uint64_t from = UINT64_MAX;

    for (uint32_t i = 0; i < recover->order.note_count; i++) {
        const struct torc_log_order_note *note = recover->order.notes + i;
        const struct torc_recover_shard *shard =
            note->stream == stream ? recover_shard(recover, note->shard) : NULL;

        if (shard != NULL && shard->worker == worker) {
            bool covered = shard->has_checkpoint && shard->checkpoint.stream == stream;

            from = torc_min_u64(from, covered ? shard->checkpoint.start_sequence : 0);
        }
    }
    return from;
}

// Puts the cursor on the segment of the stream that holds `sequence` or what comes after it.
static enum torc_err feed_seek(struct torc_recover *recover, struct recover_cursor *cursor,
                               struct recover_stream *stream, uint64_t sequence,
                               struct torc_fail *why)
{
    uint32_t at = 0;

    while (at < stream->segment_count && (stream->segments[at].first_sequence == 0 ||
                                          stream->segments[at].last_sequence < sequence)) {
        at++;
    }
    cursor->stream = stream;
    if (at == stream->segment_count) {
        return torc_fail(why, TORC_ERR_CORRUPT, "log stream %" PRIu32 ": block %" PRIu64 " is gone",
                         stream->stream, sequence);
    }
    return cursor_open(recover, cursor, at, why);
}

static void feed_leave_piece(struct torc_recover *recover, struct recover_feeder *feeder)
{
    cursor_shut(recover, &feeder->cursor);
    feeder->piece++;
    feeder->in_piece = false;
}

// The next block of the present piece into feeder->block; at the piece's end goes to the next one.
static enum torc_err feed_next_block(struct torc_recover *recover, uint32_t worker,
                                     struct torc_fail *why)
{
    struct recover_feeder *feeder = recover->feeders + worker;
    struct recover_cursor *cursor = &feeder->cursor;
    const struct torc_log_order_piece *piece = recover->pieces + feeder->piece;
    struct recover_stream *stream = recover_stream_of(recover, piece->stream);
    enum torc_err err = TORC_ERR_OK;
    bool more = false;

    torc_assert(stream != NULL);
    if (!feeder->in_piece) {
        feeder->from = torc_max_u64(feed_from(recover, worker, piece->stream), piece->first);
        feeder->in_piece = true;
    }
    if (feeder->from > piece->last) {
        feed_leave_piece(recover, feeder);
        return TORC_ERR_OK;
    }
    if (cursor->stream != stream || cursor->file == 0) {
        err = feed_seek(recover, cursor, stream, feeder->from, why);
    }
    if (err == TORC_ERR_OK) {
        err = cursor_block(recover, cursor, &feeder->block, &more, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!more) { // the segment's end
        uint32_t next = cursor->segment + 1;

        while (next < stream->segment_count && stream->segments[next].first_sequence == 0) {
            next++;
        }
        if (next < stream->segment_count) {
            return cursor_open(recover, cursor, next, why);
        }
        feed_leave_piece(recover, feeder);
        return TORC_ERR_OK;
    }
    if (feeder->block.place.sequence > piece->last) { // left for a later piece
        feed_leave_piece(recover, feeder);
        return TORC_ERR_OK;
    }
    cursor->offset += feeder->block.byte_count;
    // From there on without a hole, also blocks of others: replay tells a hole from damage.
    feeder->block_there = feeder->block.place.sequence >= feeder->from;
    feeder->block_done = 0;
    return TORC_ERR_OK;
}

// Sends the rest of the present block; false when the ring is full.
static bool feed_block(struct torc_recover *recover, uint32_t worker, struct torc_attach *attach)
{
    struct recover_feeder *feeder = recover->feeders + worker;
    struct torc_bulk head = {.kind = TORC_BULK_LOG, .stream = feeder->block.place.stream};

    while (feeder->block_done < feeder->block.byte_count) {
        head.byte_count =
            (uint32_t)torc_min_u64(RECOVER_IN_BYTES, feeder->block.byte_count - feeder->block_done);
        if (!feed_message(attach, worker, &head, feeder->block.bytes + feeder->block_done)) {
            return false;
        }
        feeder->block_done += head.byte_count;
    }
    feeder->block_there = false;
    return true;
}

static bool feed_ends(struct torc_recover *recover, uint32_t worker, struct torc_attach *attach)
{
    struct recover_feeder *feeder = recover->feeders + worker;

    while (feeder->end_at < recover->stream_count) {
        struct torc_bulk head = {.kind = TORC_BULK_LOG_END,
                                 .stream = recover->streams[feeder->end_at].stream};

        if (feed_from(recover, worker, head.stream) != UINT64_MAX &&
            !feed_message(attach, worker, &head, NULL)) {
            return false;
        }
        feeder->end_at++;
    }
    feeder->fed = true;
    return true;
}

// A bounded piece of one worker's share; *on false when its ring is full or it has all.
static enum torc_err feed_piece(struct torc_recover *recover, uint32_t worker,
                                struct torc_attach *attach, bool *on, struct torc_fail *why)
{
    struct recover_feeder *feeder = recover->feeders + worker;

    *on = !feeder->fed;
    if (feeder->fed) {
        return TORC_ERR_OK;
    }
    if (feeder->shard_at < recover->config.shard_count) {
        const struct torc_recover_shard *shard = recover->config.shards + feeder->shard_at;

        if (shard->worker == worker && shard->has_checkpoint) {
            return feed_checkpoint(recover, worker, attach, on, why);
        }
        feeder->shard_at++;
        return TORC_ERR_OK;
    }
    if (feeder->block_there) {
        *on = feed_block(recover, worker, attach);
        return TORC_ERR_OK;
    }
    if (feeder->piece < recover->piece_count) {
        return feed_next_block(recover, worker, why);
    }
    *on = feed_ends(recover, worker, attach);
    return TORC_ERR_OK;
}

enum torc_err torc_recover_feed(struct torc_recover *recover, struct torc_attach *attach, bool *fed,
                                struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    *fed = true;
    for (uint32_t worker = 0; worker < recover->config.worker_count && err == TORC_ERR_OK;
         worker++) {
        bool on = true;

        for (uint32_t i = 0; i < RECOVER_STEP_BLOCKS && on && err == TORC_ERR_OK; i++) {
            err = feed_piece(recover, worker, attach, &on, why);
        }
        *fed = *fed && recover->feeders[worker].fed;
    }
    return err;
}

bool torc_recover_is_fed(const struct torc_recover *recover, uint32_t worker)
{
    torc_assert(worker < recover->config.worker_count);
    return recover->feeders[worker].fed;
}
