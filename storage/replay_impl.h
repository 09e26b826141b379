// Torc storage: what the files of replay share among themselves. Nobody else includes it.
#ifndef TORC_STORAGE_REPLAY_IMPL_H
#define TORC_STORAGE_REPLAY_IMPL_H

#include "storage/replay.h"

#define TORC_REPLAY_BATCH       64u
#define TORC_REPLAY_RECORD_BITS 20u // of a position: records of one block, fewer than its bytes

struct torc_replay_cut {
    uint32_t turn;
    uint64_t position;
    uint64_t lsn;
};

struct torc_replay_shard {
    struct torc_shard *shard;
    uint64_t base_lsn; // of the checkpoint: everything up to it is in the tree
    uint64_t end_lsn;  // of the checkpoint: below it the tree may be of several moments
    uint64_t next_lsn; // of the next record
    uint64_t hlc;      // of the last record applied
    uint64_t replayed;
    uint32_t epoch; // of the last record
    uint32_t turn;
    bool surveyed;
    uint64_t survey_next;
    uint32_t cut_count;
    struct torc_replay_cut cuts[TORC_REPLAY_CUTS_MAX];
    uint32_t batch_count;
    bool fuzzy; // one of the batch lies at or below end_lsn
    // Of a shard that follows: replay_hold.c
    bool lost;
    bool gap; // records came whose predecessors are not here: lost, unless a later one cancels them
    uint32_t base_epoch; // of the record at base_lsn
    uint32_t base_turn;  // of the checkpoint: what it needs was logged again since
    uint32_t epoch_count;
    struct torc_replay_epoch epochs[TORC_REPLAY_EPOCHS_MAX];
    struct torc_tree_write batch[TORC_REPLAY_BATCH];
};

// -- Shards that follow: storage/replay_hold.c ----------------------------------------------------

// The checkpoint is in; or there is none, and it is all zero.
void torc_replay_hold_begin(struct torc_replay_shard *shard);

// The next record of the shard, whose first byte lies at `position` and whose last one in block
// `last_sequence`. `ticket`: of a value that was put together, else zeroed; it is taken over.
// BUSY: others hold all slots.
struct torc_replay_held {
    const struct torc_log_record *record;
    struct torc_tree_ticket ticket;
    uint64_t position;
    uint64_t last_sequence;
};
enum torc_err torc_must_use torc_replay_hold(struct torc_replay_shard *shard,
                                             const struct torc_replay_held *held,
                                             struct torc_fail *why);

// Makes room: applies the older half of what is held of the shard. It may yet turn out to be cut.
void torc_replay_hold_yield(struct torc_replay_shard *shard);

enum torc_err torc_must_use torc_replay_hold_end(struct torc_replay_shard *shard,
                                                 struct torc_fail *why);

#endif
