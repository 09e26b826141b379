// Torc control: which of a node's replicas may go on from the log.
//
// What    DATA/replicas: a line for each shard whose log in this directory once went on from a base
//         (a checkpoint, or the empty tree that all members once had). By it a member that was
//         removed while it was away comes back by the log it has, not by a copy of everything. If
//         the log has begun anew since, it says so itself (storage/replay.h).
// Owner   control's one thread.
// Bound   to the node's copy: a node without its data begins without. A copy that is new because a
//         dataplane forgot (`replicated`) has the log of the one before it, up to some record:
//         that is a base.
#ifndef TORC_CONTROL_BASED_OS_H
#define TORC_CONTROL_BASED_OS_H

#include "control/cluster.h"
#include "control/data_dir_os.h"

// Marks the shards that the file names (`based`). A file that is missing, of another copy or makes
// no sense names none: that costs a copy of a shard, never a record.
void torc_based_load(const struct torc_data_dir *dir, uint64_t copy, struct torc_cluster *cluster);

// Writes those that are marked; durable when it returns.
enum torc_err torc_must_use torc_based_save(const struct torc_data_dir *dir, uint64_t copy,
                                            const struct torc_cluster *cluster,
                                            struct torc_fail *why);

#endif
