// Torc storage: writing a shard's checkpoint while it serves, and reading one.
//
// What    the writer makes the bytes of storage/checkpoint_format.h block by block: each call looks
//         at one moment of the shard and fills one buffer. The reader takes such bytes in pieces of
//         any size and builds the shard's tree and completion table.
// Owner   the shard's core.
// Memory  writer: inside the struct. Reader: torc_checkpoint_reader_bytes() of the caller's (one
//         block), and what the shard's tree takes.
// Bounds  a call of the writer walks at most one block's worth of records and a thousand that it
//         leaves out, or TORC_CHECKPOINT_WALK_UNITS places of the completion pool.
#ifndef TORC_STORAGE_CHECKPOINT_H
#define TORC_STORAGE_CHECKPOINT_H

#include "storage/checkpoint_format.h"
#include "storage/shard.h"

#define TORC_CHECKPOINT_WALK_UNITS 4096u

// What the header says about the file; the caller knows it.
struct torc_checkpoint_place {
    uint64_t cluster;
    uint64_t checkpoint; // control's number
    uint64_t ceiling;    // HLC: read at, or about to be; the next life stamps above it
    uint64_t durable;    // the highest block of the stream that is known durable now
    uint32_t node;
    uint32_t stream;
};

enum torc_checkpoint_step {
    TORC_CHECKPOINT_STEP_HEADER,
    TORC_CHECKPOINT_STEP_RECORDS,
    TORC_CHECKPOINT_STEP_CLIENTS,
    TORC_CHECKPOINT_STEP_FOOTER,
    TORC_CHECKPOINT_STEP_DONE,
};

struct torc_checkpoint_writer {
    struct torc_checkpoint_place place;
    enum torc_checkpoint_step step;
    struct torc_tree_cursor cursor;
    uint64_t lsn;            // s
    uint64_t hlc;            // of the record at it: pairs of later ones are left out
    uint32_t epoch;          // of the record at it
    uint64_t start_sequence; // for TORC_EVT_CHECKPOINT_DONE
    uint64_t byte_count;     // written
    uint64_t record_count;
    uint64_t value_bytes;
    uint64_t client_count;
    uint64_t completion_count;
    uint64_t end_lsn;
    uint64_t end_hlc;
    uint64_t end_sequence;
    uint32_t block_count;
    // A value that is being cut: key, version, and how much is written.
    bool cutting;
    uint64_t cut_key;
    uint64_t cut_version;
    uint32_t cut_bytes;
    uint32_t cut_done;
    // Where the walk over the completion table stands.
    uint32_t client_at;
    uint32_t result_at;
};

void torc_checkpoint_writer_begin(struct torc_checkpoint_writer *writer,
                                  const struct torc_shard *shard,
                                  const struct torc_checkpoint_place *place);

// The next bytes of the file into `out`, of which `room` (TORC_CHECKPOINT_BLOCK_BYTES_MIN up to
// TORC_CHECKPOINT_BLOCK_BYTES_MAX; the header's call too) are free. 0 bytes while not done: nothing
// to write this time, call again. Done when writer->step is TORC_CHECKPOINT_STEP_DONE.
uint32_t torc_checkpoint_writer_next(struct torc_checkpoint_writer *writer,
                                     const struct torc_shard *shard, void *out, uint32_t room);

static inline bool torc_checkpoint_writer_done(const struct torc_checkpoint_writer *writer)
{
    return writer->step == TORC_CHECKPOINT_STEP_DONE;
}

// -- Reading ------------------------------------------------------------------------------------

// What a header says, checked.
struct torc_checkpoint_info {
    uint64_t cluster;
    uint64_t lo;
    uint64_t hi;
    uint64_t lsn;
    uint64_t hlc;
    uint64_t ceiling;
    uint64_t checkpoint;
    uint64_t start_sequence;
    uint32_t node;
    uint32_t shard;
    uint32_t epoch;
    uint32_t turn;
    uint32_t stream;
};

// CORRUPT or UNSUPPORTED_VERSION, and the text says what. For control: needs 128 bytes.
enum torc_err torc_must_use torc_checkpoint_header_check(const void *bytes, uint64_t byte_count,
                                                         struct torc_checkpoint_info *info,
                                                         struct torc_fail *why);

// Looks whether a whole file's end is there: `bytes` are the file's last, 96 or more. For control:
// a file without a good footer was never finished. (Everything between is checked when it is read.)
enum torc_err torc_must_use torc_checkpoint_footer_check(const void *bytes, uint64_t byte_count,
                                                         struct torc_checkpoint_footer *footer,
                                                         struct torc_fail *why);

// Drops clients that are past their time at `hlc`, or at a later time that is known: some or all.
// False: there are none left. *least: the HLC of the last use that is not too old.
typedef bool torc_checkpoint_room_fn(void *arg, uint64_t hlc, uint64_t *least);

struct torc_checkpoint_reader {
    struct torc_shard *shard;
    unsigned char *block; // being put together
    uint32_t block_bytes;
    bool has_header;
    bool has_footer;
    struct torc_checkpoint_info info;
    struct torc_checkpoint_footer footer; // when it has_footer
    uint64_t record_count;
    uint64_t value_bytes;
    uint64_t client_count;
    uint64_t completion_count;
    uint64_t last_key;
    bool any_key;
    bool clients_begun;
    uint32_t block_count;
    // Asked when there is no room for a client that was last used at `clients_hlc` or before.
    torc_checkpoint_room_fn *make_room; // NULL: nobody
    void *make_room_arg;
    uint64_t clients_hlc; // the latest so far
    uint64_t clients_min; // those before it are passed over: what is too old need not fit
    // A value that goes on in the next block.
    bool cutting;
    struct torc_tree_ticket ticket;
    uint64_t cut_key;
    uint64_t cut_version;
    uint32_t cut_bytes;
    uint32_t cut_done;
};

uint64_t torc_checkpoint_reader_bytes(void);

// `shard` is empty, and LOADING (a base's: FOLLOWING), or NULL: then the bytes are only checked,
// whatever shard they are of. `memory` is aligned to 8.
void torc_checkpoint_reader_init(struct torc_checkpoint_reader *reader, struct torc_shard *shard,
                                 void *memory);

// More of the file. CORRUPT names the block; NO_SPACE: it does not fit this core's memory. After an
// error the shard is good for torc_shard_drop only.
enum torc_err torc_must_use torc_checkpoint_reader_feed(struct torc_checkpoint_reader *reader,
                                                        const void *bytes, uint64_t byte_count,
                                                        struct torc_fail *why);

// The file's end was reached: CORRUPT when it was not whole.
enum torc_err torc_must_use torc_checkpoint_reader_end(struct torc_checkpoint_reader *reader,
                                                       struct torc_fail *why);

// Gives up: frees an unfinished value.
void torc_checkpoint_reader_drop(struct torc_checkpoint_reader *reader);

#endif
