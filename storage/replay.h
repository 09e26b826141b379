// Torc storage: rebuilding the shards of a core from checkpoints and the log.
//
// What    takes, in this order: the shards to rebuild (torc_replay_add); each one's checkpoint, if
//         it has one; then the blocks of all streams that hold records of theirs. Blocks may come
//         in pieces of any size; other shards' records in them are passed over. At the end, says
//         for each shard where it stands.
//             add · [checkpoint … checkpoint_end]* · [log … log_end]* · again? ──no──► end
//                                                          ▲────────────────┘ yes
// Owner   the shards' core.
// Memory  torc_replay_bytes() of the caller's; and what the trees take.
// Order   blocks of one stream come in order of sequence, without a hole. Streams come one after
//         the other, or in turns at block borders, so that each shard's turns come in rising order
//         (storage/log_order.h gives that order; with one stream there is nothing to order).
// Cancelled records (A1): a record cancels all earlier records of its shard with an LSN at or above
//         its own, EPOCH or not. (One of the same LSN and epoch is the same record.) A shard that
//         one node has alone never makes such a log.
// Followers  records of a shard that follows (storage/shard.h) need not be committed, so they are
//         held: pending as on the day they were taken, until the log says that they are committed,
//         or all of it was seen that a checkpoint needs. What a later record cancels is cut.
// Rounds  what is applied cannot be taken back. So where slots or memory run out, nothing is
//         applied on a guess: the rest of the log is only looked at, and it is sent once more. What
//         it cancels is then passed over, and what it says is committed gives up its slots and
//         memory when they are needed. Of cuts to come a shard has the first 64; behind these room
//         may run out anew, and another round follows. Where only records are left of which nobody
//         says that they are committed, replay says NO_SPACE; what bounds them:
//         docs/decisions/0028-following.md.
// Lost    a shard whose log does not go on: a base was begun, and is in no checkpoint (BEGUN; what
//         the log had before counts no more), or what it said was committed was cut. It is empty,
//         and its replica needs a base.
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
#define TORC_REPLAY_EPOCHS_MAX  16u

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

// More bytes of a stream. CORRUPT: damage, and the text names it. NO_SPACE: it does not fit.
enum torc_err torc_must_use torc_replay_log(struct torc_replay *replay, uint32_t stream,
                                            const void *bytes, uint64_t byte_count,
                                            struct torc_fail *why);

// The stream (or, when streams come in turns, this turn of it) has no more now: no block may be in
// pieces. A value that its last block left unfinished never happened unless more blocks come.
enum torc_err torc_must_use torc_replay_log_end(struct torc_replay *replay, uint32_t stream,
                                                struct torc_fail *why);

// All was sent. True: room ran out on the way, and the rest was only looked at; reset to before
// the log: send all of it once more, as it was, and ask again. (Checkpoints are in.)
bool torc_must_use torc_replay_again(struct torc_replay *replay);

// All was sent, and not needed again. Checks that each shard's log reaches its checkpoint's end,
// sets the shards up for
// torc_shard_begin, moves the pool's clock above all that was found, and drops what it holds.
// CORRUPT names the first shard that is not whole.
enum torc_err torc_must_use torc_replay_end(struct torc_replay *replay, struct torc_fail *why);

// After torc_replay_end.
struct torc_replay_result torc_replay_result(const struct torc_replay *replay, uint32_t shard);

// Gives up after an error; the shards are then good for torc_shard_drop.
void torc_replay_drop(struct torc_replay *replay);

#endif
