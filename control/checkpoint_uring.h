// Torc control: keeping checkpoints.
//
// What    rounds: every shard once, at most one at a time a worker. The worker streams a shard's
//         bytes through `out`; they go to `checkpoint/<shard>-<number>.tmp`, are synced, wait until
//         the log is durable up to where the file ends, and get their name
//         `checkpoint/<shard>-<lsn>`. Then the older file goes, and the log may be trimmed
//         (control/cluster.h, K2).
// Owner   control's one thread.
// Memory  two buffers of 1 MiB a worker, from its first checkpoint on.
// Failures  a checkpoint that cannot be kept is given up: the worker is told, its file removed, the
//         older one stays; the round goes on with the other shards, unless the disk is full. A
//         replica that has no base yet is passed over; that is no failure. One that was emptied for
//         a base is found out so: its checkpoint is to be forgotten (torc_cluster_to_forget).
// Sources storage/checkpoint_format.h says why the log must reach the file's end.
#ifndef TORC_CONTROL_CHECKPOINT_URING_H
#define TORC_CONTROL_CHECKPOINT_URING_H

#include "control/attach_os.h"
#include "control/cluster.h"
#include "control/disk_uring.h"
#include "control/log_uring.h"

struct torc_checkpoints_config {
    struct torc_disk *disk;
    struct torc_log_store *store;
    struct torc_attach *attach;
    struct torc_cluster *cluster;
    int folder_fd; // of checkpoint/
    uint64_t first_number;
};

struct torc_checkpoints_numbers {
    uint64_t kept;
    uint64_t failures;
    uint64_t bytes; // of kept ones
    uint32_t rounds;
    uint32_t wanted;          // shards that still wait in this round
    uint32_t due;             // shards of this round, or of the last
    uint32_t without;         // of them, that have nothing to keep
    struct torc_fail failure; // the last one of this round, or of the last
};

struct torc_checkpoints;

// For one life of an attachment.
enum torc_err torc_must_use torc_checkpoints_open(struct torc_checkpoints **out,
                                                  const struct torc_checkpoints_config *config,
                                                  struct torc_fail *why);

// Nothing of it may be in flight: see torc_checkpoints_settle.
void torc_checkpoints_close(struct torc_checkpoints *checkpoints);

// Gives up what is being made and what the round still wanted: the workers are told. The round is
// idle when the disk has given back what it has of it.
void torc_checkpoints_give_up(struct torc_checkpoints *checkpoints);

// Gives up what is being made; true once nothing is in flight.
bool torc_must_use torc_checkpoints_settle(struct torc_checkpoints *checkpoints);

// Wants every shard once more.
void torc_checkpoints_round(struct torc_checkpoints *checkpoints);

bool torc_checkpoints_is_idle(const struct torc_checkpoints *checkpoints);

// One of the shard is being made.
bool torc_checkpoints_has(const struct torc_checkpoints *checkpoints, uint32_t shard);

// What worker `worker` has in `out` cannot be taken before a write is back.
bool torc_checkpoints_is_full(const struct torc_checkpoints *checkpoints, uint32_t worker);

// TORC_EVT_CHECKPOINT_DONE of a worker.
void torc_checkpoints_event(struct torc_checkpoints *checkpoints, uint32_t worker,
                            const struct torc_evt_checkpoint *event);

// The shard's checkpoint goes, durably: waits for the disk. What fails leaves it as it is.
enum torc_err torc_must_use torc_checkpoints_forget(struct torc_checkpoints *checkpoints,
                                                    const struct torc_cluster_shard *shard,
                                                    struct torc_fail *why);

// Moves what can be moved; true when something did. *kept: one was kept, the log may be trimmed.
bool torc_checkpoints_step(struct torc_checkpoints *checkpoints, bool *kept);

void torc_checkpoints_numbers(const struct torc_checkpoints *checkpoints,
                              struct torc_checkpoints_numbers *numbers);

#endif
