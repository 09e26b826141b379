// Torc control: what the files of the node's life share among themselves. Nobody else includes it.
//
//   node_open_os.c  opening all parts and closing them
//   node_life_os.c  a life of the dataplane: found, rebuilt or taken over, lost
//   node_accept_os.c shards that nobody may lead, and accepting a loss
//   node_give_os.c  shards given to it and taken from it while it runs
//   node_place_os.c placement's leader
//   node_meta_os.c  the metastore meanwhile: survey, map, what replicas ask
//   node_round_os.c when checkpoints are made, and what that lets go of
//   node_yield_os.c handing primaries over: stops, drained nodes
//   node_os.c       states, serving, stopping, the loop
#ifndef TORC_CONTROL_NODE_IMPL_OS_H
#define TORC_CONTROL_NODE_IMPL_OS_H

#include "control/failover.h"
#include "control/follow.h"
#include "control/node_os.h"
#include "control/registry_impl_os.h"

void torc_node_go(struct torc_node *node, enum torc_node_state state);

// Ends the node: `why` is what the program says at its end.
void torc_node_fail(struct torc_node *node, const struct torc_fail *why);

// What the program says, and its exit status, when it has ended: its stop left something undone.
void torc_node_unclean(struct torc_node *node, const char *reason);

// The address, for clients of this machine; then whoever waits is told.
void torc_node_tell_ready(struct torc_node *node);

// Sends the one order of the present state to each worker; true when all have it.
bool torc_node_order_all(struct torc_node *node, enum torc_cmd_kind kind);

// -- Opening and closing --------------------------------------------------------------------------

// The descriptor wakes the loop; -1: there is none.
void torc_node_watch(struct torc_node *node, int fd);

// Waits for what the disk still has of ours.
void torc_node_settle(struct torc_node *node);

// Lets go of the dataplane and of what was made for it; nothing is in flight.
void torc_node_end_life(struct torc_node *node);

// -- The metastore --------------------------------------------------------------------------------

enum torc_err torc_must_use torc_node_open_meta(struct torc_node *node, struct torc_fail *why);
void torc_node_close_meta(struct torc_node *node);

// Goes on with all of it; never blocks.
void torc_node_meta_step(struct torc_node *node);
uint64_t torc_node_meta_deadline_ns(const struct torc_node *node);

// The map is to be written anew; how often the survey has changed, and records of nodes.
void torc_node_meta_news(struct torc_node *node);
uint64_t torc_node_meta_changes(const struct torc_node *node);
const struct torc_follow *torc_node_meta_follow(const struct torc_node *node);

// Numbers of it into node->numbers.
void torc_node_meta_count(struct torc_node *node);

// READ or PROPOSE of a worker.
void torc_node_meta_event(struct torc_node *node, uint32_t worker, const struct torc_evt *event);

// What a replica has become.
void torc_node_meta_role(struct torc_node *node, const struct torc_evt_role *role);

// The map table, as the survey is now.
void torc_node_write_map(struct torc_node *node);

// The dataplane of `boot` is dead: the node's record is to say so.
void torc_node_meta_down(struct torc_node *node, uint64_t boot);

// Between taking over and stopping: workers that read maps and take wishes.
bool torc_node_meta_has_workers(const struct torc_node *node);

// -- Handing over ---------------------------------------------------------------------------------

void torc_node_open_yield(struct torc_node *node);
void torc_node_close_yield(struct torc_node *node);

// A dataplane was found: a new life of it, or one that goes on.
void torc_node_yield_begin(struct torc_node *node);

// Requests and answers of what is to be written into nodes' records.
bool torc_must_use torc_node_yield_next(struct torc_node *node, struct torc_meta_request *request);
bool torc_must_use torc_node_yield_take(struct torc_node *node,
                                        const struct torc_meta_answer *answer);
uint64_t torc_node_yield_deadline_ns(const struct torc_node *node);

// A replica has begun to live: it is to be told what is wished.
void torc_node_yield_due(struct torc_node *node);

// Plans, and tells the replicas what is wished.
void torc_node_yield_step(struct torc_node *node);

// `down` of this node's record is to become `boot`.
void torc_node_yield_down(struct torc_node *node, uint64_t boot);

// Whether that is still to be written.
bool torc_node_yield_tells_down(const struct torc_node *node);

// It is about to stop: from now on it leads nothing that others could.
void torc_node_yield_leave(struct torc_node *node);
bool torc_node_yield_leaves(const struct torc_node *node);

// Shards that still keep it from stopping.
uint32_t torc_node_yield_left(const struct torc_node *node);

// -- Shards given and taken while it runs ---------------------------------------------------------

// When a life begins, before recovery: of shards that are others' by now nothing is whole here.
enum torc_err torc_must_use torc_node_let_go(struct torc_node *node, struct torc_fail *why);

// The table, when a life begins: which replicas go on from what lies here, and as which copies.
enum torc_err torc_must_use torc_node_find_bases(struct torc_node *node, struct torc_fail *why);

void torc_node_open_give(struct torc_node *node);
void torc_node_close_give(struct torc_node *node);
void torc_node_give_step(struct torc_node *node);

// What was emptied for a base holds the log no more. True: the log may be trimmed.
bool torc_must_use torc_node_forget(struct torc_node *node);

// What a worker says.
void torc_node_shard_gone(struct torc_node *node, uint32_t worker,
                          const struct torc_evt_role *said);
void torc_node_shard_here(struct torc_node *node, uint32_t worker,
                          const struct torc_evt_here *here);

// A control that resumed: the table as the workers told it. False: it is not what should be there.
bool torc_must_use torc_node_resume_table(struct torc_node *node);

// Blocks of the log that nobody needs go.
void torc_node_trim(struct torc_node *node);

// Rounds of checkpoints (control/node_round_os.c).
bool torc_must_use torc_node_wants_round(struct torc_node *node);
bool torc_node_checkpoints(struct torc_node *node);

// SHARD_OPEN. False: no room in the ring.
bool torc_must_use torc_node_open_shard(struct torc_node *node,
                                        const struct torc_cluster_shard *shard);

// -- Losses ---------------------------------------------------------------------------------------

void torc_node_open_accept(struct torc_node *node);
void torc_node_close_accept(struct torc_node *node);
bool torc_must_use torc_node_accept_next(struct torc_node *node, struct torc_meta_request *request);
bool torc_must_use torc_node_accept_take(struct torc_node *node,
                                         const struct torc_meta_answer *answer);
uint64_t torc_node_accept_deadline_ns(const struct torc_node *node);
void torc_node_accept_step(struct torc_node *node);

// What a replica has become, or whom it hears.
void torc_node_accept_role(struct torc_node *node, const struct torc_evt_role *role);

// Shards that are closed, losses that were accepted.
void torc_node_advise_losses(struct torc_node *node, json_t *advice);
bool torc_must_use torc_node_is_closed(const struct torc_node *node,
                                       const struct torc_cluster_shard *shard);

// -- Placement ------------------------------------------------------------------------------------

void torc_node_close_place(struct torc_node *node);
void torc_node_place_step(struct torc_node *node);
bool torc_must_use torc_node_place_next(struct torc_node *node, struct torc_meta_request *request);
uint64_t torc_node_place_list_ns(const struct torc_node *node); // what a list of it may take
bool torc_node_place_is_mine(uint64_t ticket);
void torc_node_place_take(struct torc_node *node, const struct torc_meta_answer *answer);
uint64_t torc_node_place_deadline_ns(const struct torc_node *node);
void torc_node_place_count(struct torc_node *node);
json_t *torc_node_place_answer(const struct torc_node *node);

// -- Steps of the states of a life ----------------------------------------------------------------

void torc_node_look(struct torc_node *node);   // WAITING
void torc_node_scan(struct torc_node *node);   // SCANNING
void torc_node_feed(struct torc_node *node);   // FEEDING
void torc_node_replay(struct torc_node *node); // REPLAYING
void torc_node_feed_again(struct torc_node *node, uint32_t worker);
void torc_node_resumed(struct torc_node *node); // RESUMING
void torc_node_drain(struct torc_node *node);   // DRAINING

// The dataplane is gone: DRAINING begins.
void torc_node_lost(struct torc_node *node);

#endif
