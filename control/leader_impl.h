// Torc control: what the files of placement's leader share.
//
// What    control/leader.c: who leads, transactions. leader_read.c: what there is, and the plan.
//         leader_write.c: what goes into transactions of a leader.
// Owner   as leader.h.
#ifndef TORC_CONTROL_LEADER_IMPL_H
#define TORC_CONTROL_LEADER_IMPL_H

#include "control/leader.h"

// Puts a copy of the operation into the transaction under way; its name is made of family and
// number (0: the family alone). False: there is no room left for its text.
bool torc_must_use torc_leader_add(struct torc_leader *leader, const char *family, uint64_t id,
                                   const struct torc_meta_op *op);

// Begins a transaction: the swap of the record `placement`. Operations follow, then _send.
void torc_leader_begin(struct torc_leader *leader, uint64_t now_ns, enum torc_leader_batch batch);
void torc_leader_send(struct torc_leader *leader);

uint64_t torc_leader_nonce(struct torc_leader *leader);

// Answers of lists. What makes no sense goes into `why`.
void torc_leader_take_shards(struct torc_leader *leader, const struct torc_meta_answer *answer);
void torc_leader_take_wants(struct torc_leader *leader, uint64_t now_ns,
                            const struct torc_meta_answer *answer);
void torc_leader_take_nodes(struct torc_leader *leader, uint64_t now_ns,
                            const struct torc_meta_answer *answer);

// Gives nodes of the list that have none a place on the ring, in a transaction. False: all have
// one.
bool torc_must_use torc_leader_place(struct torc_leader *leader, uint64_t now_ns,
                                     const struct torc_meta_answer *answer);

// Fills a transaction with the next wishes. False: all are written.
bool torc_must_use torc_leader_fill(struct torc_leader *leader, uint64_t now_ns);

// They are.
void torc_leader_written(struct torc_leader *leader);

// Deletes the wishes of shards that are no more.
void torc_leader_tidy(struct torc_leader *leader, uint64_t now_ns, const uint64_t *shards,
                      uint32_t shard_count);

#endif
