// Torc storage: a base: all of a shard, in pieces, for a replica that has nothing to go on from.
//
// What    the producer (the primary, while it serves) cuts tree and completions into pieces; the
//         consumer builds a shard from them, in order. The bytes are those of a checkpoint
//         (storage/checkpoint_format.h), and as fuzzy: the log from base_lsn on, applied up to
//         end_lsn, makes a moment of it. The consumer stages and takes those records meanwhile.
//             producer  begin · next … done
//             consumer  reset · feed … whole · torc_shard_commit_to(end_lsn)
// Owner   the shard's core, on either side.
// Memory  producer: inside the struct. Consumer: torc_base_reader_bytes() of the caller's.
// Trust   pieces come from a peer that is authenticated; any bytes give a shard or an error.
#ifndef TORC_STORAGE_BASE_H
#define TORC_STORAGE_BASE_H

#include "storage/checkpoint.h"

// What a piece may have at most, and what the producer asks for at least.
#define TORC_BASE_PIECE_MAX TORC_CHECKPOINT_BLOCK_BYTES_MAX
#define TORC_BASE_PIECE_MIN TORC_CHECKPOINT_BLOCK_BYTES_MIN

struct torc_base_writer {
    struct torc_checkpoint_writer checkpoint;
    uint64_t base_lsn;
    uint32_t base_epoch; // of the record at it; 0: there is none
    uint64_t end_lsn;    // when done
    uint64_t end_hlc;
};

void torc_base_begin(struct torc_base_writer *writer, const struct torc_shard *shard);

// Bytes of the next piece, in `out` of `room` bytes (TORC_BASE_PIECE_MIN to _MAX). 0 while it is
// not done: call again.
uint32_t torc_base_next(struct torc_base_writer *writer, const struct torc_shard *shard, void *out,
                        uint32_t room);

static inline bool torc_base_done(const struct torc_base_writer *writer)
{
    return torc_checkpoint_writer_done(&writer->checkpoint);
}

struct torc_base_reader {
    struct torc_checkpoint_reader checkpoint;
    struct torc_shard *shard;
    uint64_t base_lsn;
};

uint64_t torc_base_reader_bytes(void);

// `shard` is FOLLOWING: it is emptied (torc_shard_reset), and its log goes on above base_lsn, whose
// record is of base_epoch (0: not known). `memory` is aligned to 8. NO_SPACE as with
// torc_shard_reset.
enum torc_err torc_must_use torc_base_reset(struct torc_base_reader *reader, void *memory,
                                            struct torc_shard *shard, uint64_t base_lsn,
                                            uint32_t base_epoch, struct torc_fail *why);

// One piece, in order; nothing is committed meanwhile. After an error: torc_base_drop, and reset or
// torc_shard_drop.
enum torc_err torc_must_use torc_base_feed(struct torc_base_reader *reader, const void *bytes,
                                           uint32_t byte_count, struct torc_fail *why);

// All pieces were fed: their end must be this. Then the shard commits; below end_lsn it shows no
// moment that ever was.
enum torc_err torc_must_use torc_base_whole(struct torc_base_reader *reader, uint64_t end_lsn,
                                            uint64_t end_hlc, struct torc_fail *why);

// Gives up, and gives back what its records took: what is pending stays. To be begun anew.
void torc_base_break(struct torc_base_reader *reader);

// Gives up.
void torc_base_drop(struct torc_base_reader *reader);

#endif
