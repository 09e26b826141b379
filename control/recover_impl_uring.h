// Torc control: what the files of recovery share among themselves. Nobody else includes it.
//
//   recover_files_os.c    which checkpoints there are, and what their ends say
//   recover_uring.c       scanning the log, and in which order its records go
//   recover_feed_uring.c  checkpoints and log blocks into the rings of the workers
#ifndef TORC_CONTROL_RECOVER_IMPL_URING_H
#define TORC_CONTROL_RECOVER_IMPL_URING_H

#include "control/recover_uring.h"
#include "storage/log_order.h"
#include "storage/log_scan.h"

enum {
    TORC_RECOVER_READ_BYTES = 1 << 20,
    TORC_RECOVER_NAME_BYTES = 48
};

_Static_assert((uint32_t)TORC_RECOVER_READ_BYTES >= TORC_LOG_SCAN_WINDOW_BYTES,
               "a read holds what a scan wants to see");

enum torc_recover_phase {
    TORC_RECOVER_SCAN,
    TORC_RECOVER_NOTE,
    TORC_RECOVER_ORDER,
    TORC_RECOVER_SCANNED
};

// One stream and what the scan says of it.
struct torc_recover_stream {
    uint32_t stream;
    uint32_t index; // in the store
    struct torc_log_scan_segment *segments;
    uint32_t segment_count;
    struct torc_log_scan_result result;
};

// A read position in the kept blocks of one stream.
struct torc_recover_cursor {
    struct torc_recover_stream *stream; // NULL: nothing open
    uint32_t segment;                   // index
    uint32_t file;                      // 0: not open
    uint64_t offset;                    // in the file, of the next block
    uint64_t buffer_offset;             // of the buffer's first byte
    uint64_t buffer_bytes;
    unsigned char *buffer;
};

struct torc_recover_feeder {
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
    struct torc_recover_cursor cursor;
    bool fed;
};

struct torc_recover {
    struct torc_recover_config config;
    enum torc_recover_phase phase;
    struct torc_recover_stream *streams;
    uint32_t stream_count;
    uint32_t at; // stream being looked at
    struct torc_log_scan scan;
    struct torc_recover_cursor cursor;
    struct torc_log_order order;
    struct torc_log_order_piece *pieces;
    uint32_t piece_count;
    uint32_t piece_room;
    struct torc_recover_feeder *feeders; // one a worker
    struct torc_recover_numbers numbers;
};

// The shard of that number; NULL: none of this node.
struct torc_recover_shard *torc_recover_shard_of(const struct torc_recover *recover,
                                                 uint32_t shard);

// The stream of that number; NULL: it has no files.
struct torc_recover_stream *torc_recover_stream_of(const struct torc_recover *recover,
                                                   uint32_t stream);

// Looks at all files of checkpoints, notes the newest of each shard, removes what is of no use.
enum torc_err torc_must_use torc_recover_checkpoints(struct torc_recover *recover,
                                                     struct torc_fail *why);

// -- Reading the kept blocks of a stream ----------------------------------------------------------

void torc_recover_cursor_shut(struct torc_recover *recover, struct torc_recover_cursor *cursor);

// Puts the cursor on the first block of the segment at that index of cursor->stream.
enum torc_err torc_must_use torc_recover_cursor_open(struct torc_recover *recover,
                                                     struct torc_recover_cursor *cursor,
                                                     uint32_t segment, struct torc_fail *why);

// The block at the cursor, of the kept ones; *more false at the segment's kept end.
enum torc_err torc_must_use torc_recover_cursor_block(struct torc_recover *recover,
                                                      struct torc_recover_cursor *cursor,
                                                      struct torc_log_block *block, bool *more,
                                                      struct torc_fail *why);

#endif
