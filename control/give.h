// Torc control: which shards a running node is to begin with, and which to let go of.
//
// What    a shard whose record or wish newly names this node begins here as a learner that has
//         nothing. One that neither names any more for a while is let go of; but a hint is not
//         enough for that (REPLICATION.md M1): record and wish are read again right before.
// Owner   control's one thread. Pure.
// Memory  the struct; survey and table are the caller's.
// Shell   torc_give_fresh gives the shards that are to be opened, after the survey changed;
//         torc_give_next and _take read; a shard that torc_give_sure names is to be ordered away
//         (torc_give_ordered), until the worker says that it has it no more (torc_give_gone), or
//         torc_give_is_late. Late is not never: the worker may let go at any time after the order,
//         so whatever the stage, what it says counts, and the shard begins anew if it is named.
// Invariants
//   G1  a shard is let go of only when one linearizable read of its record does not list this node,
//       and a later one of its wish does not either.
//   G2  one shard at a time.
//   G3  who is let go of was not named for TORC_GIVE_HOLD_NS without a break, so that a proposal to
//       make it a member, which was under way when the wish changed, has ended. (If one has not,
//       the shard gets a member whose copy is gone: it is removed like one that forgot.)
//   G4  the table has what workers have, as soon as they have done what they were told and said so.
// Sources REPLICATION.md sections 2, 3, 9; docs/decisions, number 33.
#ifndef TORC_CONTROL_GIVE_H
#define TORC_CONTROL_GIVE_H

#include "control/metastore.h"
#include "control/survey.h"

#define TORC_GIVE_HOLD_NS UINT64_C(2000000000) // a bet: twice what the metastore may take (M6)
// Copies of shards that are given have numbers of their own, above those of the metastore's
// counter: this, the low 30 bits of the node's copy, and 32 random bits.
#define TORC_GIVE_COPY    (UINT64_C(1) << 62)
#define TORC_GIVE_LATE_NS UINT64_C(1000000000) // a worker that has not let go asks for a new look
// After a worker had no memory to begin one. A bet: a try costs a write of DATA/replicas, and
// memory comes with deletes, or when a shard goes.
#define TORC_GIVE_REFUSED_NS UINT64_C(5000000000)

enum torc_give_stage {
    TORC_GIVE_IDLE,
    TORC_GIVE_SHARD, // its record is to be read
    TORC_GIVE_WANT,
    TORC_GIVE_SURE,
    TORC_GIVE_ORDERED,
};

struct torc_give {
    struct torc_survey *survey;
    struct torc_cluster *cluster;
    uint64_t ticket;
    enum torc_give_stage stage;
    uint32_t shard; // in a stage other than IDLE
    bool asked;
    uint32_t serial;   // of the question
    uint64_t again_ns; // nothing is read before
    uint64_t late_ns;
    uint64_t fresh_ns; // nothing begins before, for want of memory; 0: it may
    uint32_t left;     // shards that are gone, and still in the table
    uint64_t given;
    uint64_t taken;
    char name[TORC_RECORD_NAME_BYTES];
};

// `random`: any bits.
static inline uint64_t torc_give_copy(uint64_t node_copy, uint64_t random)
{
    return TORC_GIVE_COPY | (node_copy << 32 & (TORC_GIVE_COPY - 1)) | (random & UINT32_MAX);
}

// Whether a node of this copy can have the memory that a member of that copy is a member with.
static inline bool torc_give_remembers(uint64_t node_copy, uint64_t member_copy)
{
    return member_copy < TORC_GIVE_COPY ? member_copy == node_copy
                                        : member_copy >> 32 == torc_give_copy(node_copy, 0) >> 32;
}

// At a start: whether what lay here of the shard is let go of, as others have it by now. Its
// checkpoint is removed, and nothing holds the log for it: given to this node again it is another
// copy, begins without a base, and in a turn above all that lie in the log. (Turns rise with each
// base too, so what DATA/replicas says may be less.)
bool torc_give_lets_go(struct torc_cluster *cluster, uint32_t shard);

// At a start: the table holds all shards that name this node, `held` beside it which of them have
// data here. Its own are kept, and what has data: a start that goes on without it removes it. Those
// that it is only wished for have the room that these leave, `room` in all; the others are given
// when there is more. How many those are; the table may be above `room` where none are.
uint32_t torc_give_fit(struct torc_cluster *cluster, struct torc_survey *survey, const bool *held,
                       uint64_t room);

void torc_give_init(struct torc_give *give, struct torc_survey *survey,
                    struct torc_cluster *cluster, uint64_t ticket);

// The dataplane is gone, and the table another: what was under way is forgotten.
void torc_give_forget(struct torc_give *give);

// The survey has changed: since when shards of the table are not named.
void torc_give_look(struct torc_give *give, uint64_t now_ns);

// The next shard that is to begin here: it is in the table now, at the worker with the fewest.
// NULL: there is none, or no worker has room, or one had no memory a moment ago (torc_give_is_due).
struct torc_cluster_shard *torc_give_fresh(struct torc_give *give, uint64_t now_ns,
                                           uint32_t worker_count);

// Shards may begin again for which there was no memory, though the survey has not changed.
static inline bool torc_give_is_due(const struct torc_give *give, uint64_t now_ns)
{
    return give->fresh_ns != 0 && now_ns >= give->fresh_ns;
}

// True: submit `request` (its deadline is the caller's to set); it counts as submitted then.
bool torc_must_use torc_give_next(struct torc_give *give, uint64_t now_ns,
                                  struct torc_meta_request *request);
void torc_give_take(struct torc_give *give, uint64_t now_ns, const struct torc_meta_answer *answer);

// The shard that is to go; NULL: none.
struct torc_cluster_shard *torc_give_sure(struct torc_give *give);

// The worker was told, or is not to be told now after all.
void torc_give_ordered(struct torc_give *give, uint64_t now_ns);
bool torc_give_is_late(const struct torc_give *give, uint64_t now_ns);
void torc_give_up(struct torc_give *give, uint64_t now_ns);

// TORC_EVT_SHARD_GONE of worker `worker`. The shard that it is about: it is `gone` now, which
// DATA/replicas must say before anything else happens; it keeps its place until torc_give_drop, for
// a checkpoint of it may be under way. NULL: of an earlier life of the shard, or said twice.
struct torc_cluster_shard *torc_give_gone(struct torc_give *give, uint64_t now_ns, uint32_t worker,
                                          const struct torc_evt_role *said);
void torc_give_drop(struct torc_give *give, struct torc_cluster_shard *shard);

uint64_t torc_give_deadline_ns(const struct torc_give *give);

// Tickets have a serial number above the one given at init.
static inline bool torc_give_is_mine(const struct torc_give *give, uint64_t ticket)
{
    return (ticket & UINT32_MAX) == give->ticket;
}

#endif
