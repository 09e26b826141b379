// Torc storage: the order of the pieces of several streams. See storage/log_order.h.
#include "storage/log_order.h"

#include "kit/bugs.h"

void torc_log_order_init(struct torc_log_order *order, struct torc_log_order_note *notes,
                         uint32_t note_max, struct torc_log_order_stream *streams,
                         uint32_t stream_max)
{
    *order = (struct torc_log_order){
        .notes = notes, .note_max = note_max, .streams = streams, .stream_max = stream_max};
}

static struct torc_log_order_stream *order_stream(struct torc_log_order *order, uint32_t stream)
{
    uint32_t index = 0;

    while (index < order->stream_count && order->streams[index].stream != stream) {
        index++;
    }
    if (index == order->stream_max) {
        return NULL;
    }
    if (index == order->stream_count) {
        order->streams[order->stream_count++] = (struct torc_log_order_stream){.stream = stream};
    }
    return &order->streams[index];
}

static bool order_add(struct torc_log_order *order, const struct torc_log_block *block,
                      const struct torc_log_builder_shard *shard)
{
    // The newest notes are those that grow.
    for (uint32_t i = order->note_count; i > 0; i--) {
        struct torc_log_order_note *note = &order->notes[i - 1];

        if (note->stream == block->place.stream && note->shard == shard->shard &&
            note->turn == shard->turn) {
            note->last = block->place.sequence;
            return true;
        }
    }
    if (order->note_count == order->note_max) {
        return false;
    }
    order->notes[order->note_count++] = (struct torc_log_order_note){.stream = block->place.stream,
                                                                     .shard = shard->shard,
                                                                     .turn = shard->turn,
                                                                     .first = block->place.sequence,
                                                                     .last = block->place.sequence};
    return true;
}

enum torc_err torc_log_order_note(struct torc_log_order *order, const struct torc_log_block *block,
                                  struct torc_fail *why)
{
    struct torc_log_order_stream *stream = order_stream(order, block->place.stream);
    bool fits = stream != NULL;

    for (uint32_t i = 0; i < block->shard_count && fits; i++) {
        struct torc_log_builder_shard shard;

        torc_log_block_shard(block, i, &shard);
        fits = order_add(order, block, &shard);
    }
    if (!fits) {
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "log: more than %" PRIu32 " streams or %" PRIu32 " turns of shards",
                         order->stream_max, order->note_max);
    }
    torc_assert(stream != NULL);
    stream->next = stream->next == 0 ? block->place.sequence : stream->next;
    stream->last = block->place.sequence;
    return TORC_ERR_OK;
}

void torc_log_order_grow(struct torc_log_order *order, struct torc_log_order_note *notes,
                         uint32_t note_max)
{
    torc_assert(note_max >= order->note_max);
    order->notes = notes;
    order->note_max = note_max;
}

// Whether blocks of the note are still to be given.
static bool note_is_open(struct torc_log_order *order, const struct torc_log_order_note *note)
{
    const struct torc_log_order_stream *stream = order_stream(order, note->stream);

    torc_assert(stream != NULL); // it was made when the note was
    return stream->next <= note->last;
}

// Whether an earlier turn of the note's shard still has blocks to give.
static bool note_must_wait(struct torc_log_order *order, const struct torc_log_order_note *note)
{
    for (uint32_t i = 0; i < order->note_count && !TORC_BUG(TURN_IGNORED); i++) {
        const struct torc_log_order_note *other = &order->notes[i];

        // A stream's own order is the order of its blocks; one may hold the end of a turn and the
        // beginning of the next (a BEGUN).
        if (other->stream == note->stream && other->last <= note->first) {
            continue;
        }
        if (other->shard == note->shard && other->turn < note->turn && note_is_open(order, other)) {
            return true;
        }
    }
    return false;
}

// The last block of the stream that may be given now.
static uint64_t stream_limit(struct torc_log_order *order,
                             const struct torc_log_order_stream *stream)
{
    uint64_t limit = stream->last;

    for (uint32_t i = 0; i < order->note_count; i++) {
        const struct torc_log_order_note *note = &order->notes[i];

        if (note->stream == stream->stream && note->last >= stream->next && note->first <= limit &&
            note_must_wait(order, note)) {
            limit = note->first - 1;
        }
    }
    return limit;
}

enum torc_err torc_log_order_next(struct torc_log_order *order, struct torc_log_order_piece *piece,
                                  bool *more, struct torc_fail *why)
{
    uint32_t stuck = order->stream_count;

    *more = false;
    for (uint32_t i = 0; i < order->stream_count; i++) {
        struct torc_log_order_stream *stream = &order->streams[i];
        uint64_t limit;

        if (stream->next > stream->last) {
            continue;
        }
        limit = stream_limit(order, stream);
        if (limit >= stream->next) {
            *piece = (struct torc_log_order_piece){
                .stream = stream->stream, .first = stream->next, .last = limit};
            stream->next = limit + 1;
            *more = true;
            return TORC_ERR_OK;
        }
        stuck = i;
    }
    if (stuck < order->stream_count) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log stream %" PRIu32 ", block %" PRIu64
                         ": turns of shards contradict those of other streams",
                         order->streams[stuck].stream, order->streams[stuck].next);
    }
    return TORC_ERR_OK;
}
