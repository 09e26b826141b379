// Torc client: what a store needs of its queue beyond torc.h.
//
// Owner   the queue's thread.
#ifndef TORC_CLIENT_QUEUE_OS_H
#define TORC_CLIENT_QUEUE_OS_H

#include "client/engine.h"

// Asks for the shard map and waits until it has come; DEADLINE after timeout_us (0 = the queue's).
enum torc_err torc_queue_map(struct torc_queue *queue, uint64_t timeout_us);

// As torc_engine_shards.
uint32_t torc_queue_shards(const struct torc_queue *queue, struct torc_shard *shards, uint32_t max);

// What the last torc_poll or torc_wait gave is done with: slots and memory are free without a poll.
void torc_queue_release(struct torc_queue *queue);

uint64_t torc_queue_timeout_us(const struct torc_queue *queue);

#endif
