// Torc control: which shards this node hands over, to whom and when; what is wished meanwhile.
//
// What    a node that is about to stop, or that an operator drained, gives its primaries to
//         others before anything ends; a shard whose wished primary is back goes back to it. And
//         who is about to stop leaves the in-sync sets: nobody waits for it when it is gone.
// How     by the wish that each replica is told (TORC_CMD_WANT): its `primary` starts the transfer
//         (REPLICATION.md X1, dataplane/replica.h), and a member that is not among its `nodes` is
//         taken out by the primary when all of those are in. Nothing is decided here that safety
//         rests on: replica and compare-and-swap decide, as ever (M7).
// Owner   control's one thread. Pure.
// Memory  the struct, and `heir` of each shard of the cluster.
// Heirs   a member that is in sync and may lead: its node is up, does not leave, serves. The wished
//         primary if it is one; else who leads the fewest shards, counting what is handed out.
// Gentle  a shard goes back only when the nodes have been the same for TORC_YIELD_CALM_NS, and so
//         few at a time that clients of a busy node do not feel it.
// Invariants
//   Y1  a heir is a member, and may lead.
//   Y2  nobody is left out of a wish that would then name fewer than min_in_sync nodes.
//   Y3  a shard that this node leads has a heir when the node may not lead and there is one.
// Sources REPLICATION.md section 9, X1.
#ifndef TORC_CONTROL_YIELD_H
#define TORC_CONTROL_YIELD_H

#include "control/survey.h"

#define TORC_YIELD_CALM_NS UINT64_C(2000000000) // a bet: longer than a start takes to settle
#define TORC_YIELD_BACK    2u                   // a bet: shards that go back at once

struct torc_yield {
    uint32_t node; // this one
    uint64_t boot;
    bool leaving;      // it is about to stop, whatever its record says yet
    uint64_t sum;      // of what nodes' records say
    uint64_t calm_ns;  // since when that is so
    uint64_t again_ns; // a plan may then say something new though nothing changed
    uint64_t changes;  // of the survey, when it was planned
    bool due;          // replicas are to be told
};

// A new life of the dataplane.
void torc_yield_init(struct torc_yield *yield, uint64_t now_ns, uint32_t node, uint64_t boot);

// Sets `heir` of the cluster's shards, by the survey as it is.
void torc_yield_plan(struct torc_yield *yield, uint64_t now_ns, struct torc_survey *survey,
                     struct torc_cluster *cluster);

// Plans, if the survey has changed or it is time. True: each replica that lives is to be told
// what is wished now (torc_yield_order); set `due` to be told so once more.
bool torc_must_use torc_yield_step(struct torc_yield *yield, uint64_t now_ns,
                                   struct torc_survey *survey, struct torc_cluster *cluster);

// The node is about to stop: from now on it is to lead nothing that others could.
void torc_yield_leave(struct torc_yield *yield, uint64_t now_ns);

// What the shard's replica is to be told now; false: nothing, or what it was told last.
bool torc_must_use torc_yield_order(const struct torc_yield *yield, struct torc_survey *survey,
                                    const struct torc_cluster_shard *shard, uint64_t min_in_sync,
                                    struct torc_cmd *order);

// Whether that could be told; else the next step says that replicas are to be told.
void torc_yield_told(struct torc_yield *yield, struct torc_cluster_shard *shard,
                     const struct torc_cmd *order, bool sent);

// What placement wishes for the shard, less the nodes that leave (Y2). Its primary is 0.
void torc_yield_wish(const struct torc_yield *yield, struct torc_survey *survey,
                     const struct torc_survey_want *want, uint64_t min_in_sync,
                     struct torc_survey_want *wish);

// How many shards this node, which leaves, still leads or is a member of though others could go on
// without it; closed shards are none of them. 0: it may stop.
uint32_t torc_yield_left(const struct torc_yield *yield, struct torc_survey *survey,
                         uint64_t min_in_sync);

// How many shards the node leads.
uint32_t torc_yield_leads(const struct torc_survey *survey, uint32_t node);

// Whether all that the node leads could be led by others. NOT_FOUND: there is no such node;
// UNAVAILABLE: it is the only one left of some shard, which the text names.
enum torc_err torc_must_use torc_yield_may(struct torc_survey *survey, uint32_t node,
                                           struct torc_fail *why);

#endif
