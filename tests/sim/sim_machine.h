// Torc simulator: a machine: its disk, its dataplane, its control. See sim.h.
//
// A file that includes this cannot include client/engine.h: both have a struct torc_shard.
#ifndef TORC_TESTS_SIM_SIM_MACHINE_H
#define TORC_TESTS_SIM_SIM_MACHINE_H

#include "control/accept.h"
#include "control/checkpoint_uring.h"
#include "control/give.h"
#include "control/metastore.h"
#include "control/records.h"
#include "control/recover_uring.h"
#include "dataplane/council.h"
#include "dataplane/handover.h"
#include "dataplane/sessions.h"
#include "dataplane/worker.h"
#include "storage/memory_os.h"
#include "tests/sim/sim.h"
#include "wire/frame.h"
#include "wire/handshake.h"
#include "wire/op.h"

struct torc_leader;       // control/leader.h
struct torc_worker_shard; // dataplane/worker_state.h

// -- Disk: see sim_disk.c -------------------------------------------------------------------------

struct sim_store; // the files of a machine, which outlive everything

struct sim_disk_faults {
    uint64_t latency_ns; // mean of a durable write
    uint64_t held_ns;    // nothing comes back before
    uint64_t full_after; // bytes; UINT64_MAX: never
    uint32_t fail_write; // the n-th log write from now on fails; 0: none
    uint32_t fail_other; // the n-th other write or sync
    uint32_t die_at;     // at the n-th operation control dies; 0: never
};

// -- A node ---------------------------------------------------------------------------------------

enum sim_control_state {
    SIM_CONTROL_DEAD,
    SIM_CONTROL_WAITING,
    SIM_CONTROL_ASKING, // the metastore, for a boot
    SIM_CONTROL_SCANNING,
    SIM_CONTROL_FEEDING,
    SIM_CONTROL_REPLAYING,
    SIM_CONTROL_READING, // the metastore, before resuming
    SIM_CONTROL_RESUMING,
    SIM_CONTROL_SERVING,
    SIM_CONTROL_CHECKPOINTING, // a stop, as those of control/stop.h
    SIM_CONTROL_YIELDING,
    SIM_CONTROL_QUIESCING,
    SIM_CONTROL_DRAINING,
    SIM_CONTROL_FAILED // has said why and ended; its parent starts another
};

struct sim_worker {
    struct sim_actor actor;
    struct torc_worker *worker;
    void *memory;
    uint64_t memory_bytes;
    struct torc_heap heap;
    uint64_t jitter_ns;            // it loses its core then
    uint64_t stalled_ns;           // since when, local, it does not turn; 0: it does
    uint32_t spins;                // turns in a row that moved no packet and asked for more
    struct sim_packet *queue[512]; // of the port
    uint32_t queue_first;
    uint32_t queue_count;
    struct sim_packet *letters[2048]; // of other nodes
    uint32_t letter_first;
    uint32_t letter_count;
    struct sim_packet *letter; // taken
};

struct sim_control_worker {
    uint32_t shard_at;
    bool configured;
    bool recovered;
    bool ordered;
    bool quiesced;
    uint32_t base_shard; // whose base was in no checkpoint then; 0: none
    bool seen;
    struct torc_evt_control_seen said;
};

// Of DATA/replicas (control/based_os.h).
struct sim_line {
    uint64_t copy;
    uint32_t turn;
    bool there;
    bool whole;
};

struct sim_control {
    struct sim_actor actor;
    enum sim_control_state state;
    uint64_t state_ns;
    uint64_t look_ns;
    uint64_t round_log_bytes;
    bool in_round;
    bool attached;
    bool wants_round;
    bool wants_stop;
    bool hurry; // told so once more
    bool tells; // that it stops
    bool told_full;
    bool fresh; // no control before us gave orders to this dataplane
    struct torc_disk *disk;
    struct torc_log_store *store;
    struct torc_recover *recover;
    struct torc_checkpoints *checkpoints;
    struct torc_attach attach;
    struct torc_cluster cluster;
    struct torc_cluster_shard shards[SIM_SHARDS_MAX];
    struct torc_recover_shard recover_shards[SIM_SHARDS_MAX];
    struct sim_control_worker workers[SIM_WORKERS_MAX];
    struct sim_agree *agree;
    struct torc_give give;
    uint64_t given_news; // as node_give_os.c's
    uint64_t disk_copy;  // that the node was before this start
    struct sim_line lines[SIM_SHARDS_MAX + 1];
    uint32_t io_retry; // tries of a recovery that met a failing disk
};

struct sim_node {
    uint32_t index;
    uint32_t number; // 1 ..
    struct sim_clock clock;
    uint8_t ipv4[4];
    uint8_t mac[6];
    struct torc_mapping mapping;
    struct sim_store *store;
    uint64_t copy;     // the memory that it is; 0: it has forgotten, or its disk is empty
    bool disk_lost;    // and nothing was begun on the new one yet
    uint64_t lines_of; // the node's copy that the lines are of
    struct sim_line lines[SIM_SHARDS_MAX + 1];
    struct sim_disk_faults faults;
    // The dataplane.
    bool up;
    uint32_t worker_count;
    uint64_t life; // of dataplanes
    void *chan;
    uint64_t chan_bytes;
    void *sessions_memory;
    uint64_t sessions_bytes;
    void *handover_memory;
    uint64_t handover_bytes;
    struct torc_sessions *sessions;
    struct torc_handover *handover;
    void *council_memory; // NULL: no replicas
    uint64_t council_bytes;
    struct torc_council *council;
    struct torc_post post;
    struct torc_worker_port port;
    struct sim_actor thread;
    struct sim_worker workers[SIM_WORKERS_MAX];
    void *old_chan; // of a dead dataplane, which control still has
    uint64_t old_chan_bytes;
    struct sim_control control;
    uint64_t start_dataplane_ns; // its parent starts another then; UINT64_MAX: not
    uint64_t start_control_ns;
    bool powered;
    uint64_t upset_ns; // when it was last not well
    bool poisoned;     // its log failed: an operator will start it anew
    // As control/starts.h has them: torc.node and the seal on its disk, `start/<id>`, and what the
    // last compare-and-swap made of that, if it was won.
    uint64_t start_count;
    uint64_t sealed_boot;
    bool sealed;
    struct torc_start_fields start;
    struct torc_start_fields start_tried;
};

// -- sim_disk.c
struct sim_store *sim_store_make(void);
int sim_store_folder(uint32_t node, bool checkpoints); // what a folder is called
struct torc_disk *sim_disk_open(struct sim_node *node);
// The process that had it is dead; `power`: the machine as well.
void sim_disk_kill(struct torc_disk *disk);
void sim_store_power_loss(struct sim_node *node);
void sim_store_lose(struct sim_node *node);               // all of it
void sim_disk_chance(const struct torc_disk *disk);       // for its control to die
uint64_t sim_disk_deadline(const struct torc_disk *disk); // when the next operation is back

// -- sim_node.c
void sim_node_init(struct sim_node *node, uint32_t index);
void sim_node_start(struct sim_node *node);
void sim_node_kill(struct sim_node *node, bool by_power);
void sim_node_parent(struct sim_node *node);
void sim_node_packet(struct sim_node *node, struct sim_packet *packet);
void sim_node_letter(struct sim_node *node, struct sim_packet *packet);
void sim_node_turn(struct sim_node *node, uint32_t index);
uint64_t sim_node_hlc(const struct sim_node *node, uint32_t core); // the highest that it holds
void sim_node_thread(struct sim_node *node);
bool sim_node_serves(const struct sim_node *node);
void sim_node_judge(struct sim_node *node);
void sim_node_tell(const struct sim_node *node);

// -- sim_control.c
void sim_control_start(struct sim_node *node);
void sim_control_kill(struct sim_node *node);
void sim_control_turn(struct sim_node *node);
void sim_control_wake(struct sim_node *node, uint64_t at_ns);
// Rings worker `index`, whose page this is.
void sim_worker_ring(struct sim_node *node, struct torc_chan_worker *page, uint32_t index);
void sim_control_go(struct sim_node *node, enum sim_control_state state);
void sim_control_fail(struct sim_node *node,
                      const struct torc_fail *why); // its parent starts it anew
void sim_control_trim(struct sim_node *node);
void sim_control_let_go(struct sim_node *node); // of the dataplane's channel

// -- sim_life.c: turns of a control in the states that a life of its dataplane goes through
void sim_life_look(struct sim_node *node);
void sim_life_booted(struct sim_node *node);
void sim_life_read(struct sim_node *node);
void sim_life_scan(struct sim_node *node);
void sim_life_feed(struct sim_node *node);
void sim_life_replay(struct sim_node *node);
void sim_life_resumed(struct sim_node *node);
void sim_life_drain(struct sim_node *node);
bool sim_life_open_shard(struct sim_node *node, const struct torc_cluster_shard *shard);
bool sim_life_order_all(struct sim_node *node, enum torc_cmd_kind kind);

// -- sim_give.c
void sim_give_let_go(struct sim_node *node); // before recovery looks at the folders
void sim_give_judge_begun(struct sim_node *node);
void sim_give_find_bases(struct sim_node *node); // after it did
void sim_give_here(struct sim_node *node, uint32_t worker, const struct torc_evt_here *here);
bool sim_give_resume(struct sim_node *node);
void sim_give_gone(struct sim_node *node, uint32_t worker, const struct torc_evt_role *said);
void sim_give_step(struct sim_node *node);
bool sim_give_forget(struct sim_node *node); // true: the log may be trimmed

// -- sim_agree.c: what a control has to do with the metastore
struct sim_agree *sim_agree_open(struct sim_node *node);
void sim_agree_close(struct sim_agree *agree);
// Reads everything; `boot`: after a start of the dataplane was written down. Ends with _is_read.
void sim_agree_begin(struct sim_node *node, bool boot);
void sim_agree_serves(struct sim_node *node);
bool sim_agree_is_read(const struct sim_node *node);
// The node's shards, as the records have them, and its boot.
void sim_agree_take_shards(struct sim_node *node);
void sim_agree_step(struct sim_node *node);
void sim_agree_event(struct sim_node *node, uint32_t worker, const struct torc_evt *event);
void sim_agree_write_map(struct sim_node *node);
// The dataplane is gone, or about to end: all are told.
void sim_agree_down(struct sim_node *node);
bool sim_agree_is_told(const struct sim_node *node);
// It is about to stop: its shards are handed over; how many still keep it.
void sim_agree_leave(struct sim_node *node);
uint32_t sim_agree_left(const struct sim_node *node);
void sim_agree_due(struct sim_node *node);   // replicas are to be told what is wished
void sim_agree_yield(struct sim_node *node); // a new life of its dataplane, or one that goes on
uint64_t sim_agree_copy(const struct sim_node *node);
uint64_t sim_agree_deadline_ns(const struct sim_node *node); // local
struct torc_survey *sim_agree_survey(const struct sim_node *node);
uint64_t sim_agree_changes(const struct sim_node *node); // of the survey
// T8: clients are sent here before the record was read that says so.
void sim_agree_lead(struct sim_node *node, const struct torc_evt_role *role);
void sim_agree_news(struct sim_node *node); // the table of shards is another one
void sim_agree_init(void);                  // the cluster's first records
const struct torc_leader *sim_agree_leader(const struct sim_node *node); // NULL: it has none
// What an operator's order has come to; NULL: nobody can be told.
struct torc_acceptance *sim_agree_accept(const struct sim_node *node);
void sim_agree_order(struct sim_node *node, const struct torc_accept_order *order);

// -- sim_faults.c
void sim_faults_kill(struct sim_node *node, bool dataplane, bool control);
void sim_faults_power_off(struct sim_node *node, uint64_t for_ns);
bool sim_faults_may_forget(const struct sim_node *node);
void sim_faults_lose_disk(struct sim_node *node); // of a machine without power
void sim_faults_suspend(struct sim_node *node, uint64_t for_ns);
void sim_faults_stall(struct sim_node *node, uint32_t worker, uint64_t for_ns);

// -- sim_plan.c, for sim_rows.c and sim_accept.c
uint64_t sim_plan_draw(uint64_t bound);
void sim_plan_step_in(uint64_t delay_ns);
struct sim_node *sim_plan_node(uint32_t number);
// A hot key of the plan's shard, by index: that one or the next.
uint32_t sim_plan_key(const struct sim_plan *plan, uint32_t key);
void sim_plan_apart(uint32_t number, uint64_t for_ns, bool store); // nodes, and the metastore
void sim_plan_heal(uint32_t number);
bool sim_plan_wish(uint32_t shard, uint32_t number); // as primary; false: it is not to have it
// The replica of the shard's primary, if that serves.
const struct torc_worker_shard *sim_plan_leads(uint32_t shard);

// -- sim_rows.c
void sim_rows_configure(struct sim_config *config); // what such a row needs of a seed
bool sim_rows_fits(enum sim_plan_kind kind, const struct torc_worker_shard *leads);
void sim_rows_begin(struct sim_plan *plan);
void sim_rows_step(struct sim_plan *plan);
// What one node tells a core of another, by index, is lost.
bool sim_rows_drops(uint32_t from, uint32_t to, uint32_t core, const uint8_t *op);
// A file has this name now: true: the control that did it dies.
bool sim_rows_named(struct sim_node *node, const char *name);

// -- sim_loss.c
// The shard's record is about to be another.
void sim_loss_swapped(uint32_t shard, const char *before, uint32_t before_bytes, const char *after,
                      uint32_t after_bytes);
void sim_loss_turn(const struct sim_node *node, struct torc_worker_shard *shard);

// -- sim_place.c
void sim_place_register(uint32_t index); // a node, if it has no record yet
// A transaction is about to happen.
void sim_place_txn(const struct torc_meta_request *request);
// A shard's record is about to be another.
void sim_place_swapped(uint32_t shard, const struct torc_shard_fields *was,
                       const struct torc_shard_fields *is);

// -- sim_wish.c
void sim_wish_init(void);
void sim_wish_none(uint32_t shard); // no primary is wished
uint32_t sim_min_in_sync(void);
// Another primary is wished; returns its node.
uint32_t sim_wish_lead(uint32_t shard, uint32_t place);
// One replica more is wished; returns the node that is to get it, 0: all have it.
uint32_t sim_wish_more(uint32_t shard, uint32_t from_node);
// One less, if there are more than there are to be; returns the node that is to let go of it.
uint32_t sim_wish_fewer(uint32_t shard, uint32_t place);
// Each shard that is not closed has the members that are wished, and no other node has it.
bool sim_wish_is_done(void);
// No shard has this node's copy alone.
bool sim_wish_may_lose(uint32_t node);
// No copy that exists is in sync: the shard stays closed until an operator accepts the loss.
bool sim_wish_is_closed(uint32_t shard);
// The shard's record, as it is.
void sim_wish_record(uint32_t shard, struct torc_shard_fields *fields);
void sim_wish_tell(void); // what the records say in the end

// -- sim_ghost.c
void sim_ghost_init(void);
void sim_ghost_turn(const struct sim_node *node, const struct torc_worker *worker);
void sim_ghost_judge(void);
// The node's replica of the shard, if it has one.
const struct torc_worker_shard *sim_ghost_replica(const struct sim_node *node, uint32_t number);
void sim_ghost_open(const struct sim_node *node, uint32_t number, uint64_t copy);
void sim_ghost_start(const struct sim_node *node); // its dataplane has nothing yet
void sim_ghost_forget(const struct sim_node *node);
// What the node has of the shard goes: it begins without.
void sim_ghost_drop(const struct sim_node *node, uint32_t number);
bool sim_ghost_remembers(uint32_t number, uint32_t node, uint64_t copy);
// The stamp up to which the replica's log is known to be the one that was committed: all of it up
// to `last_hlc` if somebody in sync applied a later record of the epoch that its last one is of.
uint64_t sim_ghost_agrees(const struct torc_worker_shard *shard, uint64_t last_hlc);
// What was committed is that copy's log from now on; the record's epoch was `epoch`.
void sim_ghost_lose(uint32_t number, uint32_t epoch, const struct sim_loss *loss);

// -- sim_calm.c
// The primary of that epoch and that backup of it have been well for a while, and hear each other.
bool sim_calm_pair(uint32_t shard, uint32_t epoch, uint32_t primary, uint32_t backup);
bool sim_calm_all_served(uint64_t for_ns); // all nodes, so long
void sim_calm_stop_begins(const struct sim_node *node);
void sim_calm_stop_hands(const struct sim_node *node); // it says that it leads nothing any more
void sim_calm_stop_ends(const struct sim_node *node);
void sim_calm_upset(struct sim_node *node);
void sim_calm_turn(struct sim_node *node, const struct torc_worker *worker);

#endif
