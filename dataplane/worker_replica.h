// Torc dataplane: the replicas of a worker's shards, and worker 0's watch. Private to the worker's
// files; the machines are replica.h and watch.h.
//
//     worker_replica.c      life of a replica, steps, what control says, roles, leases
//     worker_replica_log.c  records: appended, shipped, taken, durable, applied
//     worker_replica_base.c bases, made for learners and taken
//     worker_gone.c         shards that leave, and what a new control is told of those here
//     worker_watch.c        worker 0: the watch, notes from other workers, leases published
//     worker_post.c         messages to and from other nodes
//
// Turn    begin (leases are read, after the burst arrived and its time was taken) · messages and
//         requests, each of which may step a machine · end: what was appended is shipped, machines
//         whose time has come are stepped. A machine never sees an event before the records that
//         were appended ahead of it (torc_worker_replica_step).
// Room    a note or an event that finds its ring full is not made up for here: the machines say it
//         again. Only an ADOPT is kept, and said until it is answered.
#ifndef TORC_DATAPLANE_WORKER_REPLICA_H
#define TORC_DATAPLANE_WORKER_REPLICA_H

#include "dataplane/council.h"
#include "dataplane/worker.h"
#include "storage/base.h"
#include "storage/replay.h"
#include "storage/shard.h"
#include "storage/shipped.h"
#include "wire/peer_codec.h"

#define TORC_WORKER_MET 64u // nodes that a worker told worker 0 of

struct torc_worker;
struct torc_worker_shard;

// On which of its cores a node has the shard.
struct torc_worker_peer_core {
    uint32_t node; // 0: none
    uint32_t core;
    uint64_t boot;       // of the node: another life may have the shard elsewhere
    uint32_t unanswered; // asked since it spoke last
};

// Records on their way to a node: as many leave a turn as packets have room for.
struct torc_worker_shipping {
    uint32_t node; // 0: free
    uint32_t epoch;
    uint32_t value_done; // bytes of the value of record `lsn` that left
    uint64_t lsn;        // the next one
    uint64_t end_lsn;    // the first one behind
};

// A step's consequences for the machine itself, which follow as events of their own.
struct torc_worker_follow_up {
    bool applied;
    uint64_t applied_lsn;
    uint32_t base_count;
    struct torc_replica_base_event bases[2 * TORC_REPLICA_PEERS_MAX];
};

#define TORC_WORKER_STREAMS     2u // bases that a worker makes at once
#define TORC_WORKER_LOADS       2u // and takes
#define TORC_WORKER_PIECE_BYTES 61440u

struct torc_worker_piece {
    struct torc_peer_message message; // that it goes with
    bool due;                         // to be sent
    uint32_t done;                    // bytes that left
    uint32_t byte_count;
    unsigned char bytes[TORC_WORKER_PIECE_BYTES];
};

// A base on its way to a learner.
struct torc_worker_stream {
    uint32_t node; // 0: free
    uint32_t shard;
    uint32_t made; // pieces so far
    struct torc_base_writer writer;
    struct torc_worker_piece pieces[TORC_REPLICA_PIECES_MAX]; // the last ones
};

// A base that comes in.
struct torc_worker_load {
    uint32_t shard; // 0: free
    bool broken;    // no memory, or damaged: the next base begins anew
    void *memory;   // torc_base_reader_bytes()
    struct torc_base_reader reader;
};

// How old the tree of a member that is not the primary may be: worker_replica_read.c.
struct torc_worker_freshness {
    uint64_t at_ns;   // what was told to clients before that is in the tree; 0: unknown
    uint64_t told_ns; // likewise, as soon as told_lsn is applied
    uint64_t told_lsn;
    uint64_t asked_ns;         // when a mark was asked for last
    uint64_t bound_ns;         // the least age that readers allow
    uint64_t readers_until_ns; // when they are taken to have gone
    // Of a primary with read-mode = confirm: questions that wait for a beat after them.
    struct torc_worker_mark_asked {
        uint32_t node; // 0: none
        uint64_t asked_ns;
        uint64_t arrived_ns;
    } marks[TORC_REPLICA_PEERS_MAX];
};

struct torc_worker_replica {
    struct torc_replica machine;
    struct torc_watch_adoption adoption; // the last one
    bool lost;                           // replay found no whole log, and no base has come since
    struct torc_replica_want want;       // came before the machine ran
    bool want_known;                     // it did
    bool live;                           // the machine runs: the log was replayed
    bool adopt_owed;                     // the ring to worker 0 was full
    uint64_t adopt_ns;                   // when it was said
    bool base_wanted;                    // what it began with is in no checkpoint yet
    uint64_t base_asked_ns;              // when control was asked for a checkpoint of it
    uint64_t kept_checkpoint;            // the last one that was all sent, and up to where it goes
    uint64_t kept_lsn;
    uint64_t begun_sequence; // of the block whose BEGUN says that nothing is here; 0: there is none
    uint64_t copy;           // from SHARD_OPEN, or the node's
    uint32_t life;           // of this replica among all that this worker ever had
    bool claims_owed;        // likewise
    bool touched;            // to be stepped before the turn ends
    bool role_told;
    enum torc_replica_role told_role; // to control
    uint32_t told_epoch;
    uint32_t told_heard;
    bool told_whole;
    uint64_t deadline_ns;
    uint64_t least_ceiling; // of all members', and who is proposed (H5); UINT64_MAX: none
    struct torc_worker_freshness fresh;
    struct torc_worker_follow_up follow_up;
    struct torc_worker_peer_core cores[TORC_REPLICA_PEERS_MAX];
    struct torc_worker_shipping shipping[TORC_REPLICA_PEERS_MAX];
    uint32_t shipping_first; // of them that has its turn
};

// A shard of some worker of this node, and whose leases are published for it.
struct torc_worker_led {
    uint32_t shard; // 0: free
    uint32_t worker;
    uint32_t place;
    uint32_t epoch;
    struct torc_council_claims claims;
};

// Worker 0's.
struct torc_worker_watch {
    struct torc_watch watch;
    struct torc_watch_actions actions;
    void *memory;
    bool running;
    bool stale;        // leases changed and are to be published
    bool unclaimed;    // a claim found no place: it is made when there is one
    uint64_t claim_ns; // when that is tried next
    uint64_t ceiling_keeping;
    uint32_t node_count; // that are watched
    uint32_t nodes[TORC_WATCH_PEERS_MAX];
    uint32_t led_count;
    uint32_t led_max;
    struct torc_worker_led *led; // shards of all workers
    struct torc_spsc_port up[TORC_CHAN_WORKERS_MAX + 1];
    struct torc_spsc_port down[TORC_CHAN_WORKERS_MAX + 1];
    bool peers_owed[TORC_CHAN_WORKERS_MAX + 1];   // a ring was full: all states again
    uint64_t waits_ns[TORC_CHAN_WORKERS_MAX + 1]; // until then packets wait to be confirmed
};

// Of a worker.
struct torc_worker_replicas {
    struct torc_council *council; // NULL: none here, every shard is this node's alone
    struct torc_replica_actions *actions;
    struct torc_shipped shipped;
    uint32_t end_first;                  // the place of the shard that ends the next turn first
    struct torc_worker_stream *streams;  // TORC_WORKER_STREAMS
    struct torc_worker_load *loads;      // TORC_WORKER_LOADS
    const struct torc_peer_cargo *cargo; // of the message at hand
    struct torc_worker_replica *all;     // by place of the shard
    uint32_t *numbers;                   // of shards, by place
    uint32_t count;                      // that are live
    uint32_t lives;                      // that there ever were
    uint32_t health;                     // as last told to the machines
    uint64_t durable;                    // of the log, as last told
    struct torc_spsc_port up;
    struct torc_spsc_port down;
    uint32_t met_count;
    uint32_t met[TORC_WORKER_MET];
    uint32_t peer_count;
    struct torc_peer_state peers[TORC_WATCH_PEERS_MAX]; // as worker 0 said last
    struct torc_worker_watch *watch;                    // worker 0's; else NULL
};

// -- worker_replica.c -----------------------------------------------------------------------------

// What the machine knows of the node; NULL: it has no place for it, or not any more.
const struct torc_replica_peer *torc_worker_replica_peer(const struct torc_worker_replica *replica,
                                                         uint32_t node);

// After replay, and for an empty learner at once: the machine begins.
void torc_worker_replica_begin(struct torc_worker *worker, struct torc_worker_shard *shard,
                               const struct torc_replay_result *found);

// One event, and what follows. `records` are those of an APPEND at hand, staged.
void torc_worker_replica_step(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_event *event);

// The same, of what the records appended last mean, without looking for more of them.
void torc_worker_replica_step_bare(struct torc_worker *worker, struct torc_worker_shard *shard,
                                   const struct torc_replica_event *event);

// RECORD, RESULT, WAKE, WANT of control.
void torc_worker_replica_order(struct torc_worker *worker, const struct torc_cmd *order);

// Notes of worker 0; leases. Before the burst is answered.
void torc_worker_replicas_begin(struct torc_worker *worker);

// What was appended goes out; whoever's time has come is stepped. After all requests.
void torc_worker_replicas_end(struct torc_worker *worker);

// When to be called again; UINT64_MAX: no need.
uint64_t torc_worker_replicas_deadline_ns(const struct torc_worker *worker);

// Nothing waits in the rings.
bool torc_worker_replicas_idle(struct torc_worker *worker);

// A message of another node about a shard.
void torc_worker_replica_message(struct torc_worker *worker, const struct torc_peer_from *from,
                                 struct torc_peer_op *op);

// Says `note` to worker 0. False: no room.
bool torc_worker_replica_note(struct torc_worker *worker, const struct torc_council_note *note);

// -- worker_replica_read.c ------------------------------------------------------------------------

// Why the replica of the shard answers no read or write now, and `info`; OK: it does.
enum torc_err torc_worker_replica_refusal(const struct torc_worker *worker,
                                          const struct torc_worker_shard *shard, uint64_t *info);

// Whether what this node has of a shard with copies is a state that the shard was in, however old.
bool torc_worker_stale_is_whole(const struct torc_worker *worker, uint32_t place);

// A reader takes what is at most `age_max_ms` old. False: it is older, or may be; `age_us`.
bool torc_worker_stale_may(struct torc_worker *worker, uint32_t place, uint32_t age_max_ms,
                           uint64_t *age_us);

// The same of a read that begins: it is counted.
bool torc_worker_stale_begins(struct torc_worker *worker, uint32_t place, uint32_t age_max_ms,
                              uint64_t *age_us);

// The tree goes.
void torc_worker_stale_forget(struct torc_worker_shard *shard);

// Once a turn; when again.
void torc_worker_stale_turn(struct torc_worker *worker, struct torc_worker_shard *shard);
uint64_t torc_worker_stale_deadline_ns(const struct torc_worker *worker,
                                       const struct torc_worker_shard *shard);

// MARK of another node.
void torc_worker_stale_mark(struct torc_worker *worker, const struct torc_peer_from *from,
                            const struct torc_peer_mark *mark);

// -- worker_replica_log.c -------------------------------------------------------------------------

// Where a message about the shard goes.
struct torc_peer_to torc_worker_replica_to(const struct torc_worker *worker,
                                           const struct torc_worker_shard *shard, uint32_t node);

// A message to the node's replica. It may lie on another core by now, and the word that said so may
// be lost: of what asks for an answer and gets none, some goes to each core.
void torc_worker_replica_post(struct torc_worker *worker, struct torc_worker_shard *shard,
                              uint32_t node, const struct torc_peer_op *op);

// Takes over a message's records as far as engine and log have room, and shortens the message to
// them.
void torc_worker_replica_stage(struct torc_worker *worker, struct torc_worker_shard *shard,
                               struct torc_peer_op *op);

// A record of the shard's log, out of memory. False: it is not there any more.
bool torc_worker_replica_record(struct torc_worker *worker, const struct torc_worker_shard *shard,
                                uint64_t lsn, struct torc_log_record *record);

void torc_worker_replica_ship(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_action *action);
// Goes on with what found no room. True: something is left.
bool torc_worker_replica_pump(struct torc_worker *worker, struct torc_worker_shard *shard);
void torc_worker_replica_take(struct torc_worker *worker, struct torc_worker_shard *shard);
void torc_worker_replica_open(struct torc_worker *worker, struct torc_worker_shard *shard);
void torc_worker_replica_apply(struct torc_worker *worker, struct torc_worker_shard *shard,
                               uint64_t lsn);
void torc_worker_replica_cut(struct torc_worker *worker, struct torc_worker_shard *shard,
                             uint64_t lsn);

// Records that were appended since the machine was last told.
void torc_worker_replica_flush(struct torc_worker *worker, struct torc_worker_shard *shard);

// Tells the machine which records memory has let go of.
void torc_worker_replica_floor(struct torc_worker *worker, struct torc_worker_shard *shard);

// The log's durable mark rose.
void torc_worker_replicas_durable(struct torc_worker *worker);

// -- worker_replica_base.c ------------------------------------------------------------------------

// RESET, STREAM, PIECE, SETTLE, STORE, WHOLE.
void torc_worker_replica_base(struct torc_worker *worker, struct torc_worker_shard *shard,
                              const struct torc_replica_action *action);

// Whether there is memory for the base that the message may begin; else it is dropped, and comes
// again.
bool torc_worker_base_may_begin(struct torc_worker *worker, const struct torc_worker_shard *shard,
                                const struct torc_peer_message *message);

// What came of a base is dropped.
void torc_worker_base_give_up(struct torc_worker_load *load);

// Once a turn.
void torc_worker_base_turn(struct torc_worker *worker, struct torc_worker_shard *shard);

// Control keeps that checkpoint of the shard.
void torc_worker_base_kept(struct torc_worker *worker, struct torc_worker_shard *shard,
                           uint64_t checkpoint);

// -- worker_gone.c --------------------------------------------------------------------------------

// SHARD_OPEN of a replica without a base finds no memory, or no place: control tries again later.
void torc_worker_shard_refuse(struct torc_worker *worker, const struct torc_cmd_shard *order,
                              enum torc_err err);

// SHARD_GONE of control.
void torc_worker_shard_gone(struct torc_worker *worker, uint32_t number);

// `turn`, or the highest of a shard that left any worker of this node if that is higher.
uint32_t torc_worker_turn_above(const struct torc_worker *worker, uint32_t turn);

// A new control is to be told of all shards; goes on while there is room. Then CONTROL_SEEN.
void torc_worker_hello_step(struct torc_worker *worker);

// -- worker_watch.c -------------------------------------------------------------------------------

uint64_t torc_worker_watch_bytes(uint32_t worker_count, uint32_t shards_max);
uint32_t torc_worker_watch_shards(uint32_t worker_count, uint32_t shards_max);
enum torc_err torc_must_use torc_worker_watch_attach(struct torc_worker *worker,
                                                     struct torc_fail *why);
void torc_worker_watch_configure(struct torc_worker *worker);
void torc_worker_watch_turn(struct torc_worker *worker);
uint64_t torc_worker_watch_deadline_ns(const struct torc_worker *worker);
bool torc_worker_watch_idle(struct torc_worker *worker);

// Of a message whose HLC was refused: only what a beat says of the time of day (H3), and its HLC.
void torc_worker_watch_held(struct torc_worker *worker, const struct torc_peer_from *from,
                            uint64_t hlc);
void torc_worker_watch_wall(struct torc_worker *worker, const struct torc_peer_from *from,
                            const struct torc_peer_op *op);
// BEAT, BEAT_ACK, CLAIM of another node.
void torc_worker_watch_message(struct torc_worker *worker, const struct torc_peer_from *from,
                               const struct torc_peer_op *op);

// -- worker_post.c --------------------------------------------------------------------------------

// What cannot be sent is lost. Not an APPEND with records, nor a piece.
void torc_worker_post(struct torc_worker *worker, struct torc_peer_to to,
                      const struct torc_peer_op *op);

// An APPEND: begun, records one after another, ended. False: no more goes now.
void torc_worker_post_begin(struct torc_worker *worker, struct torc_peer_to to,
                            const struct torc_peer_message *append);
bool torc_worker_post_record(struct torc_worker *worker, const struct torc_peer_record *record,
                             uint32_t *value_done);
void torc_worker_post_end(struct torc_worker *worker);

// A SNAP with a piece of a base; `done` as value_done above. False: no room for all of it now.
bool torc_worker_post_piece(struct torc_worker *worker, struct torc_peer_to to,
                            const struct torc_peer_message *snap,
                            const struct torc_worker_piece *piece, uint32_t *done);

// A message has come with the highest HLC that its sender held (0: it did not say). False: that is
// too far `ahead` (H3), so nothing but the time of day is taken of it.
bool torc_worker_peer_heard(struct torc_worker *worker, const struct torc_peer_from *from,
                            const struct torc_peer_op *op, uint64_t hlc, bool ahead);

// A message of another node, checked; what is no business of ours is dropped.
void torc_worker_peer_op(struct torc_worker *worker, const struct torc_peer_from *from,
                         struct torc_peer_op *op);

// What has come in.
void torc_worker_post_take(struct torc_worker *worker);

#endif
