// Torc storage: in which order the blocks of several streams are replayed.
//
// What    a shard that changed its core has records in several streams; its turns say which came
//         first. This takes note of every kept block (only its dictionary of shards is looked at)
//         and then names pieces of streams, one after another, so that for every shard all blocks
//         of a turn come before the first block of the next. With one stream: one piece.
// Owner   control's recovery; one for all streams that go to one worker, or for all.
// Memory  the caller's array of notes: one for each turn of a shard in a stream. How many there are
//         has no bound but the log's size, for each base that a replica begins to take is a turn:
//         the caller grows the array when it is full.
// Sources DESIGN.md section 5 ("Changing core"). Moves happen one after another in real time, and
//         every one waits until the old stream's records are durable, so an order exists.
#ifndef TORC_STORAGE_LOG_ORDER_H
#define TORC_STORAGE_LOG_ORDER_H

#include "storage/log_format.h"

// In `stream`, the blocks of `shard` at `turn` lie within [first, last].
struct torc_log_order_note {
    uint32_t stream;
    uint32_t shard;
    uint32_t turn;
    uint32_t zero;
    uint64_t first;
    uint64_t last;
};

struct torc_log_order_stream {
    uint32_t stream;
    uint32_t zero;
    uint64_t next; // first block not given out yet
    uint64_t last;
};

struct torc_log_order {
    struct torc_log_order_note *notes;
    uint32_t note_count;
    uint32_t note_max;
    struct torc_log_order_stream *streams;
    uint32_t stream_count;
    uint32_t stream_max;
};

// A piece of a stream: its blocks with sequences [first, last].
struct torc_log_order_piece {
    uint32_t stream;
    uint64_t first;
    uint64_t last;
};

void torc_log_order_init(struct torc_log_order *order, struct torc_log_order_note *notes,
                         uint32_t note_max, struct torc_log_order_stream *streams,
                         uint32_t stream_max);

// Every kept block, each stream's in order of sequence. NO_SPACE: an array is too small; of notes,
// grow it (torc_log_order_grow) and say the same block again.
enum torc_err torc_must_use torc_log_order_note(struct torc_log_order *order,
                                                const struct torc_log_block *block,
                                                struct torc_fail *why);

// `notes` is the array, now of `note_max` (no fewer than before), and what was in it.
void torc_log_order_grow(struct torc_log_order *order, struct torc_log_order_note *notes,
                         uint32_t note_max);

// The next piece; *more is false when all were given. CORRUPT: there is no order.
enum torc_err torc_must_use torc_log_order_next(struct torc_log_order *order,
                                                struct torc_log_order_piece *piece, bool *more,
                                                struct torc_fail *why);

#endif
