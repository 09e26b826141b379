// Torc tests: a metastore in memory, for the replicas of several nodes in one process.
//
// What    the records of shards, of nodes, and placement's wishes; READ and PROPOSE of a worker are
//         answered by the fake control of its node (tests/fake_control.h) from here. Faults on
//         demand: it is away; answers are UNKNOWN, though what was asked for is done.
// Owner   the test's thread.
// Memory  plain; none is allocated.
#ifndef TORC_TESTS_FAKE_META_H
#define TORC_TESTS_FAKE_META_H

#include "kit/chan.h"

#define TORC_FAKE_NODES_MAX 8u // numbers from 1
#define TORC_FAKE_RECORDS   17u

struct torc_fake_meta {
    struct torc_chan_record records[TORC_FAKE_RECORDS]; // by number of shard, from 1
    struct torc_cmd_want wants[TORC_FAKE_RECORDS];
    uint64_t changed[TORC_FAKE_RECORDS]; // rises when the record, or its primary's node, changes
    uint64_t want_changed[TORC_FAKE_RECORDS];
    uint64_t node_boot[TORC_FAKE_NODES_MAX];
    uint64_t node_down[TORC_FAKE_NODES_MAX];
    uint64_t node_copy[TORC_FAKE_NODES_MAX];
    // Of a shard that was given to the node once more; 0: the node's.
    uint64_t copies[TORC_FAKE_RECORDS][TORC_FAKE_NODES_MAX];
    uint64_t copy_count;
    uint32_t shard_count;
    uint32_t min_in_sync;
    bool away;         // nothing is answered
    uint32_t unknowns; // so many answers to PROPOSE will be UNKNOWN, half of them though done
    uint64_t wins;     // proposals that were executed
};

// Shards 1 .. shard_count, each with the members 1 .. replica_count; the first of the list is the
// primary, shard i's being node (i - 1) % replica_count + 1. All of them are wanted.
void torc_fake_meta_init(struct torc_fake_meta *meta, uint32_t shard_count, uint32_t replica_count,
                         uint32_t min_in_sync);

// A new life of a node's dataplane: its boot. `keeps`: it remembers what it acknowledged.
uint64_t torc_fake_meta_start(struct torc_fake_meta *meta, uint32_t node, bool keeps);

// Control saw the node's dataplane die.
void torc_fake_meta_down(struct torc_fake_meta *meta, uint32_t node);

void torc_fake_meta_want(struct torc_fake_meta *meta, uint32_t shard,
                         const struct torc_cmd_want *want);

// The answers. False: none.
bool torc_fake_meta_read(struct torc_fake_meta *meta, const struct torc_evt_read *read,
                         struct torc_cmd *answer);
bool torc_fake_meta_propose(struct torc_fake_meta *meta, const struct torc_evt_propose *propose,
                            struct torc_cmd *answer);

// The copy that the node's replica of the shard has, and a new one for it.
uint64_t torc_fake_meta_copy(const struct torc_fake_meta *meta, uint32_t shard, uint32_t node);
uint64_t torc_fake_meta_renew(struct torc_fake_meta *meta, uint32_t shard, uint32_t node);

// Whether the node is a member, by any copy, or wished to be one.
bool torc_fake_meta_concerns(const struct torc_fake_meta *meta, uint32_t shard, uint32_t node);

// Whether the node's present copy is in the shard's list.
bool torc_fake_meta_is_member(const struct torc_fake_meta *meta, uint32_t shard, uint32_t node);

#endif
