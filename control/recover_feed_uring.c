// Torc control: what recovery found goes into the rings of the workers. See
// control/recover_uring.h.
#include "control/recover_impl_uring.h"

#include <fcntl.h>

enum {
    FEED_IN_BYTES = TORC_CHAN_BULK_BYTES - 32,
    FEED_STEP_BLOCKS = 64 // that one worker is fed before the next has its turn
};

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
    struct torc_recover_feeder *feeder = recover->feeders + worker;
    const struct torc_recover_shard *shard = recover->config.shards + feeder->shard_at;
    struct torc_spsc_port *in = &attach->ports[worker].in;
    struct torc_bulk head = {.kind = TORC_BULK_CHECKPOINT,
                             .shard = shard->shard,
                             .checkpoint = shard->checkpoint.checkpoint};
    struct torc_disk_op op = {.kind = TORC_DISK_READ, .offset = feeder->file_offset};
    char name[TORC_RECOVER_NAME_BYTES];
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
        (uint32_t)torc_min_u64(FEED_IN_BYTES, shard->checkpoint_bytes - feeder->file_offset);
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
            note->stream == stream ? torc_recover_shard_of(recover, note->shard) : NULL;

        if (shard != NULL && shard->worker == worker) {
            bool covered = shard->has_checkpoint && shard->checkpoint.stream == stream;

            from = torc_min_u64(from, covered ? shard->checkpoint.start_sequence : 0);
        }
    }
    return from;
}

// Puts the cursor on the segment of the stream that holds `sequence` or what comes after it.
static enum torc_err feed_seek(struct torc_recover *recover, struct torc_recover_cursor *cursor,
                               struct torc_recover_stream *stream, uint64_t sequence,
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
    return torc_recover_cursor_open(recover, cursor, at, why);
}

static void feed_leave_piece(struct torc_recover *recover, struct torc_recover_feeder *feeder)
{
    torc_recover_cursor_shut(recover, &feeder->cursor);
    feeder->piece++;
    feeder->in_piece = false;
}

// The next block of the present piece into feeder->block; at the piece's end goes to the next one.
static enum torc_err feed_next_block(struct torc_recover *recover, uint32_t worker,
                                     struct torc_fail *why)
{
    struct torc_recover_feeder *feeder = recover->feeders + worker;
    struct torc_recover_cursor *cursor = &feeder->cursor;
    const struct torc_log_order_piece *piece = recover->pieces + feeder->piece;
    struct torc_recover_stream *stream = torc_recover_stream_of(recover, piece->stream);
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
        err = torc_recover_cursor_block(recover, cursor, &feeder->block, &more, why);
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
            return torc_recover_cursor_open(recover, cursor, next, why);
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
    struct torc_recover_feeder *feeder = recover->feeders + worker;
    struct torc_bulk head = {.kind = TORC_BULK_LOG, .stream = feeder->block.place.stream};

    while (feeder->block_done < feeder->block.byte_count) {
        head.byte_count =
            (uint32_t)torc_min_u64(FEED_IN_BYTES, feeder->block.byte_count - feeder->block_done);
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
    struct torc_recover_feeder *feeder = recover->feeders + worker;

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
    struct torc_recover_feeder *feeder = recover->feeders + worker;

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

        for (uint32_t i = 0; i < FEED_STEP_BLOCKS && on && err == TORC_ERR_OK; i++) {
            err = feed_piece(recover, worker, attach, &on, why);
        }
        *fed = *fed && recover->feeders[worker].fed;
    }
    return err;
}

void torc_recover_again(struct torc_recover *recover, uint32_t worker)
{
    struct torc_recover_feeder *feeder = recover->feeders + worker;

    torc_assert(worker < recover->config.worker_count);
    torc_assert(feeder->fed);
    torc_recover_cursor_shut(recover, &feeder->cursor);
    feeder->piece = 0;
    feeder->in_piece = false;
    feeder->end_at = 0;
    feeder->fed = false;
}

bool torc_recover_is_fed(const struct torc_recover *recover, uint32_t worker)
{
    torc_assert(worker < recover->config.worker_count);
    return recover->feeders[worker].fed;
}
