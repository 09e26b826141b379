// Torc control: from the files of a data directory to the shards of a new dataplane: the log is
// scanned, and the order of its records found. See control/recover_uring.h.
#include "control/recover_impl_uring.h"
#include "kit/bugs.h"
#include "kit/log_os.h"

#include <fcntl.h>
#include <stdlib.h>

#define ORDER_NOTES 4096u // that there is room for at first

struct torc_recover_shard *torc_recover_shard_of(const struct torc_recover *recover, uint32_t shard)
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

struct torc_recover_stream *torc_recover_stream_of(const struct torc_recover *recover,
                                                   uint32_t stream)
{
    for (uint32_t i = 0; i < recover->stream_count; i++) {
        if (recover->streams[i].stream == stream) {
            return recover->streams + i;
        }
    }
    return NULL;
}

// -- Reading -------------------------------------------------------------------------------------

void torc_recover_cursor_shut(struct torc_recover *recover, struct torc_recover_cursor *cursor)
{
    if (cursor->file != 0) {
        torc_disk_file_close(recover->config.disk, cursor->file);
        cursor->file = 0;
    }
    cursor->buffer_bytes = 0;
}

enum torc_err torc_recover_cursor_open(struct torc_recover *recover,
                                       struct torc_recover_cursor *cursor, uint32_t segment,
                                       struct torc_fail *why)
{
    char name[TORC_LOG_NAME_BYTES];
    enum torc_err err;

    torc_recover_cursor_shut(recover, cursor);
    torc_log_segment_name(name, cursor->stream->stream,
                          cursor->stream->segments[segment].header.segment);
    err = torc_disk_file_open(recover->config.disk, recover->config.log_fd, name, O_RDONLY,
                              &cursor->file, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_disk_file_ahead(recover->config.disk, cursor->file);
    cursor->segment = segment;
    cursor->offset = TORC_LOG_SLOT_BYTES;
    if (cursor->buffer == NULL) {
        cursor->buffer = aligned_alloc(TORC_DISK_ALIGN_BYTES, TORC_RECOVER_READ_BYTES);
        torc_assert(cursor->buffer != NULL);
    }
    return TORC_ERR_OK;
}

// Fills the buffer from `offset` on; less only where the file ends. A read that comes back short
// says nothing of that: before a sector that cannot be read the kernel gives what it has.
static enum torc_err recover_read(struct torc_recover *recover, uint32_t file, void *buffer,
                                  uint64_t offset, uint64_t *got, struct torc_fail *why)
{
    *got = 0;
    while (*got < TORC_RECOVER_READ_BYTES) {
        struct torc_disk_op op = {.kind = TORC_DISK_READ,
                                  .file = file,
                                  .bytes = (uint8_t *)buffer + *got,
                                  .byte_count = TORC_RECOVER_READ_BYTES - (uint32_t)*got,
                                  .offset = offset + *got};
        int32_t result = torc_disk_do(recover->config.disk, &op);

        if (result < 0) {
            return torc_fail(why, TORC_ERR_IO, "read at %" PRIu64 ": %s", op.offset,
                             strerrordesc_np(-result));
        }
        if (result == 0) {
            break;
        }
        *got += (uint64_t)result;
    }
    return TORC_ERR_OK;
}

static enum torc_err recover_named(const struct torc_recover_stream *stream, uint32_t segment,
                                   const struct torc_fail *inner, struct torc_fail *why)
{
    return torc_fail(why, inner->err, "log/%" PRIu32 "-%" PRIu32 ": %.110s", stream->stream,
                     stream->segments[segment].header.segment, inner->text);
}

enum torc_err torc_recover_cursor_block(struct torc_recover *recover,
                                        struct torc_recover_cursor *cursor,
                                        struct torc_log_block *block, bool *more,
                                        struct torc_fail *why)
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
    struct torc_recover_stream *stream = recover->streams + index;

    *stream = (struct torc_recover_stream){
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
    err = torc_recover_checkpoints(recover, why);
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

bool torc_recover_found(const struct torc_recover *recover, uint32_t place, uint32_t *shard,
                        uint32_t *turn)
{
    if (place >= recover->order.note_count) {
        return false;
    }
    *shard = recover->order.notes[place].shard;
    *turn = recover->order.notes[place].turn;
    return true;
}

void torc_recover_close(struct torc_recover *recover)
{
    torc_recover_cursor_shut(recover, &recover->cursor);
    free(recover->cursor.buffer);
    for (uint32_t i = 0; i < recover->config.worker_count && recover->feeders != NULL; i++) {
        struct torc_recover_feeder *feeder = recover->feeders + i;

        torc_recover_cursor_shut(recover, &feeder->cursor);
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
static enum torc_err recover_sync(struct torc_recover *recover, struct torc_recover_stream *stream,
                                  struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    recover->cursor.stream = stream;
    for (uint32_t i = 0; i < stream->segment_count && err == TORC_ERR_OK; i++) {
        struct torc_disk_op op = {.kind = TORC_DISK_SYNC};

        if (stream->segments[i].last_sequence <= stream->result.line) {
            continue;
        }
        err = torc_recover_cursor_open(recover, &recover->cursor, i, why);
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
    torc_recover_cursor_shut(recover, &recover->cursor);
    return err;
}

static enum torc_err recover_scan_end(struct torc_recover *recover,
                                      struct torc_recover_stream *stream, struct torc_fail *why)
{
    struct torc_fail inner = {0};
    enum torc_err err = torc_log_scan_end(&recover->scan, &stream->result, &inner);

    torc_recover_cursor_shut(recover, &recover->cursor);
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
    struct torc_recover_stream *stream = recover->streams + recover->at;
    struct torc_recover_cursor *cursor = &recover->cursor;
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
        err = torc_recover_cursor_open(recover, cursor, segment, why);
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
    last = cursor->buffer_bytes < TORC_RECOVER_READ_BYTES ||
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
        shard = torc_recover_shard_of(recover, entry.shard);
        if (shard != NULL && (shard->stream == 0 || entry.turn >= shard->turn)) {
            shard->turn = entry.turn;
            shard->stream = block->place.stream;
        }
    }
}

static void recover_order_room(struct torc_recover *recover)
{
    uint32_t note_max = ORDER_NOTES + 4 * recover->config.shard_count;

    recover->order.notes = calloc(note_max, sizeof(*recover->order.notes));
    recover->order.streams = calloc(recover->stream_count + 1, sizeof(*recover->order.streams));
    torc_assert(recover->order.notes != NULL);
    torc_assert(recover->order.streams != NULL);
    torc_log_order_init(&recover->order, recover->order.notes, note_max, recover->order.streams,
                        recover->stream_count + 1);
}

// There is a place for each stream of the store, so what may be full is the array of notes.
static void recover_order_note(struct torc_recover *recover, const struct torc_log_block *block)
{
    struct torc_log_order *order = &recover->order;

    while (torc_log_order_note(order, block, NULL) != TORC_ERR_OK) {
        uint32_t note_max = 2 * order->note_max;
        struct torc_log_order_note *notes = realloc(order->notes, note_max * sizeof(*order->notes));

        torc_assert(notes != NULL);
        torc_log_order_grow(order, notes, note_max);
    }
}

// Takes note of the kept blocks of one segment.
static enum torc_err recover_note(struct torc_recover *recover, struct torc_fail *why)
{
    struct torc_recover_stream *stream = recover->streams + recover->at;
    struct torc_recover_cursor *cursor = &recover->cursor;
    struct torc_log_block block = {0};
    bool more = false;
    enum torc_err err;
    uint32_t segment = cursor->stream == stream ? cursor->segment + 1 : 0;

    if (segment >= stream->segment_count) {
        torc_recover_cursor_shut(recover, cursor);
        recover->at++;
        return TORC_ERR_OK;
    }
    cursor->stream = stream;
    err = torc_recover_cursor_open(recover, cursor, segment, why);
    if (err == TORC_ERR_OK) {
        err = torc_recover_cursor_block(recover, cursor, &block, &more, why);
    }
    while (err == TORC_ERR_OK && more) {
        recover->numbers.log_blocks++;
        recover->numbers.log_bytes += block.byte_count;
        recover_note_shards(recover, &block);
        recover_order_note(recover, &block);
        cursor->offset += block.byte_count;
        err = torc_recover_cursor_block(recover, cursor, &block, &more, why);
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
        struct torc_recover_stream *stream = recover->streams + i;
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
    case TORC_RECOVER_SCAN:
        if (recover->at < recover->stream_count) {
            return recover_scan(recover, why);
        }
        recover->phase = TORC_RECOVER_NOTE;
        recover->at = 0;
        recover->cursor.stream = NULL;
        recover_order_room(recover);
        return TORC_ERR_OK;
    case TORC_RECOVER_NOTE:
        if (recover->at < recover->stream_count) {
            return recover_note(recover, why);
        }
        recover->phase = TORC_RECOVER_ORDER;
        return TORC_ERR_OK;
    case TORC_RECOVER_ORDER:
        err = recover_order(recover, why);
        if (err == TORC_ERR_OK && !recover->config.look_only) {
            recover_apply(recover);
        }
        recover->phase = TORC_RECOVER_SCANNED;
        return err;
    case TORC_RECOVER_SCANNED: *scanned = true; return TORC_ERR_OK;
    }
    torc_unreachable("no such phase");
}

uint64_t torc_recover_next_sequence(const struct torc_recover *recover, uint32_t stream)
{
    const struct torc_recover_stream *found = torc_recover_stream_of(recover, stream);

    return found != NULL ? torc_max_u64(found->result.next_sequence, 1) : 1;
}

uint64_t torc_recover_clock(const struct torc_recover *recover)
{
    uint64_t hlc = 0;

    for (uint32_t i = 0; i < recover->config.shard_count; i++) {
        const struct torc_checkpoint_info *checkpoint = &recover->config.shards[i].checkpoint;

        hlc = torc_max_u64(hlc, checkpoint->hlc);
        hlc = torc_max_u64(hlc, TORC_BUG(CEILING_IN_MEMORY) ? 0 : checkpoint->ceiling);
    }
    for (uint32_t i = 0; i < recover->stream_count && !TORC_BUG(CEILING_IN_MEMORY); i++) {
        hlc = torc_max_u64(hlc, recover->streams[i].result.ceiling);
    }
    return hlc;
}

void torc_recover_numbers(const struct torc_recover *recover, struct torc_recover_numbers *numbers)
{
    *numbers = recover->numbers;
}

static void recover_found(const struct torc_recover_shard *from, struct torc_cluster_shard *shard,
                          bool of_now)
{
    shard->has_checkpoint = from->has_checkpoint;
    shard->checkpoint_lsn = from->checkpoint.lsn;
    shard->start_sequence = from->checkpoint.start_sequence;
    shard->covered = from->has_checkpoint && of_now && from->checkpoint.stream == shard->worker + 1;
}

void torc_recover_take_over(const struct torc_recover_shard *from, struct torc_cluster_shard *shard)
{
    shard->moved = from->stream != 0 && from->stream != shard->worker + 1;
    shard->turn = from->turn + (shard->moved ? 1 : 0);
    recover_found(from, shard, from->checkpoint.turn == shard->turn);
}

void torc_recover_continue(const struct torc_recover_shard *from, struct torc_cluster_shard *shard)
{
    recover_found(from, shard,
                  shard->replica ? from->checkpoint.turn == shard->turn
                                 : from->checkpoint.epoch == shard->epoch);
}
