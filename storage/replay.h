// Torc storage: rebuilding the shards of a core from checkpoints and the log.
//
// What    takes, in this order: the shards to rebuild (torc_replay_add); each one's checkpoint, if
//         it has one; then the blocks of all streams that hold records of theirs. Blocks may come
//         in pieces of any size; other shards' records in them are passed over. At the end, says
//         for each shard where it stands.
//             add · [checkpoint … checkpoint_end]* · [survey …] · [log … log_end]* · end
// Owner   the shards' core.
// Memory  torc_replay_bytes() of the caller's; and what the trees take.
// Order   blocks of one stream come in order of sequence, without a hole. Streams come one after
//         the other, or in turns at block borders, so that each shard's turns come in rising order
//         (storage/log_order.h gives that order; with one stream there is nothing to order).
// Cancelled records (A1): an EPOCH record cancels all earlier records of its shard with an LSN at
//         or above its own. One node never makes such a log; replicas do. Since what is in a tree
//         cannot be taken out, such logs need a first pass (torc_replay_survey with all blocks, in
//         the same order), or replay says that it does.
// Followers  records of a shard that follows (storage/shard.h) need not be committed, so they are
//         held: pending as on the day they were taken, until the log says that they are committed,
//         or all of it was seen that a checkpoint needs. What a later record cancels is cut, EPOCH
//         or not, and no survey is needed. (One of the same LSN and epoch is the same record.)
//         Where slots run out the oldest of the shard that holds most are applied; if those are
//         then cut, the shard is `lost`,
//         and empty: its replica needs a base. So it is where a base was begun, and is in no
//         checkpoint (BEGUN); what the log had before counts no more.
// Fuzzy   records above the checkpoint's LSN go in only where their HLC is above the version found
//         (the proof is in storage/checkpoint_format.h).
// Invariants
//   P1  a shard's records are applied in order of LSN, without a hole, from its checkpoint's on.
//   P2  nothing is applied in part: a value cut over blocks is applied when its last piece is
//       there.
//   P3  damage is named (shard, LSN, stream, sequence) and ends replay; nothing is guessed.
// Sources DESIGN.md section 5; REPLICATION.md A1.
#ifndef TORC_STORAGE_REPLAY_H
#define TORC_STORAGE_REPLAY_H

#include "storage/checkpoint.h"

#define TORC_REPLAY_STREAMS_MAX 256u // that one core's shards have records in
// cancelling EPOCH records of one shard that the log still holds
#define TORC_REPLAY_CUTS_MAX   64u
#define TORC_REPLAY_EPOCHS_MAX 16u

// From first_lsn on up to the next one's, records were written in this epoch.
struct torc_replay_epoch {
    uint32_t epoch;
    uint64_t first_lsn;
};

// Where a shard stands after replay.
struct torc_replay_result {
    uint64_t records;     // keys with a value
    uint64_t replayed;    // records over the checkpoint
    uint64_t lsn;         // of the last record
    uint64_t applied_lsn; // the records above it are held: they may not be committed
    uint64_t hlc;
    uint32_t epoch; // of the last record; 0: none
    uint32_t turn;
    bool lost; // see above
    // Of a shard that follows: the latest ones, rising in both, from the checkpoint's LSN on.
    uint32_t epoch_count;
    struct torc_replay_epoch epochs[TORC_REPLAY_EPOCHS_MAX];
};

struct torc_replay;

uint64_t torc_replay_bytes(uint32_t shards_max);

// In zeroed memory, aligned to 64.
struct torc_replay *torc_replay_init(void *memory, uint64_t memory_bytes, uint32_t shards_max);

// A shard that torc_shard_init made. Its epoch is the one that this life will write in: a log that
// holds that epoch or a later one is refused (the metastore went back), unless it follows: it
// learns its epoch later.
void torc_replay_add(struct torc_replay *replay, struct torc_shard *shard);

enum torc_err torc_must_use torc_replay_checkpoint(struct torc_replay *replay, uint32_t shard,
                                                   const void *bytes, uint64_t byte_count,
                                                   struct torc_fail *why);
enum torc_err torc_must_use torc_replay_checkpoint_end(struct torc_replay *replay, uint32_t shard,
                                                       struct torc_fail *why);

// First pass, only where records may have been cancelled: the same bytes as for torc_replay_log.
enum torc_err torc_must_use torc_replay_survey(struct torc_replay *replay, uint32_t stream,
                                               const void *bytes, uint64_t byte_count,
                                               struct torc_fail *why);

// More bytes of a stream. CORRUPT: damage, and the text names it. NO_SPACE: it does not fit.
enum torc_err torc_must_use torc_replay_log(struct torc_replay *replay, uint32_t stream,
                                            const void *bytes, uint64_t byte_count,
                                            struct torc_fail *why);

// The stream (or, when streams come in turns, this turn of it) has no more now: no block may be in
// pieces. A value that its last block left unfinished never happened unless more blocks come.
enum torc_err torc_must_use torc_replay_log_end(struct torc_replay *replay, uint32_t stream,
                                                struct torc_fail *why);

// All was sent. Checks that each shard's log reaches its checkpoint's end, sets the shards up for
// torc_shard_begin, moves the pool's clock above all that was found, and drops what it holds.
// CORRUPT names the first shard that is not whole.
enum torc_err torc_must_use torc_replay_end(struct torc_replay *replay, struct torc_fail *why);

// After torc_replay_end.
struct torc_replay_result torc_replay_result(const struct torc_replay *replay, uint32_t shard);

// Gives up after an error; the shards are then good for torc_shard_drop.
void torc_replay_drop(struct torc_replay *replay);

#endif
