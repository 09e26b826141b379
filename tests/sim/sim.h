// Torc simulator: a whole cluster in one process, from one seed; every run replays exactly.
//
// What    the same objects as in production (workers, session thread, control's log, checkpoints
//         and recovery, the client's engine) around a simulated network, disks, clocks and
//         metastore. Faults are drawn per seed (which, and how hard); a history of what clients saw
//         is kept and judged at the end.
//           sim_sched.c   time, the heap of events, the story, counters of what was reached
//           sim_net.c     packets between clients and nodes, and between nodes
//           sim_disk.c    control/disk_uring.h over files in memory that lose what was not synced
//           sim_records.c the metastore: compare-and-swap that is slow, away, or answers "unknown"
//           sim_node.c    a machine: its dataplane's life, clocks, turns of workers
//           sim_control.c a machine's control: recovery, log, checkpoints, resuming
//           sim_agree.c   and its way to the metastore: boots, maps, replicas' questions
//           sim_wish.c    what placement wishes; which copies of data are what
//           sim_place.c   placement's leader, nodes that come and go, and its oracles
//           sim_client.c  engines, the workload, what they saw
//           sim_faults.c  what this seed's faults are, and when
//           sim_rows.c    longer rows, which only --plan begins
//           sim_world.c   one run: prologue, faults, quiet, the last look
//           sim_calm.c    the oracles of what goes wrong needlessly: takeovers, clean stops
//           sim_check.c   the oracle of single keys (linearizability)
//           sim_cut.c     the oracle of ranges: one moment
//           sim_ghost.c   the oracle of logs: one, of which nothing is lost
//           sim_accept.c  an operator who accepts the loss of all copies in sync, and such losses
//           sim_loss.c    the oracle of accepted losses: what is missing is what was said
//           main_sim_os.c seeds, processes, bugs, minimizing, the report
// Owner   one thread. A run lives in a process of its own (main_sim_os.c), so nothing is freed that
//         a dead process would have left.
// Time    nanoseconds of real time since the run began; each machine has its own view of it
//         (sim_clock). Everybody is an actor that has turns; packets, disks and faults are events.
// Rules   oracles look at what clients saw, at the bytes on disk, and at invariants that the code
//         itself offers (torc_shard_check, torc_tree_check); of replicated shards also at who may
//         answer reads and at what was applied, never at why a node believes that.
#ifndef TORC_TESTS_SIM_SIM_H
#define TORC_TESTS_SIM_SIM_H

#include "kit/bugs.h"
#include "kit/fail.h"
#include "kit/rng.h"
#include "torc/err.h"

#include <setjmp.h>
#include <stdio.h>

struct sim_node;      // sim_machine.h
struct torc_engine;   // client/engine.h: it and storage/shard.h each have a struct torc_shard
struct torc_frame_tx; // dataplane/worker.h

#define SIM_NODES_MAX   5u
#define SIM_WORKERS_MAX 3u
#define SIM_SHARDS_MAX  16u
// Of the last look: after a restart of all, a member may wait 5 s for its primary (startup_grace).
#define SIM_LOOK_MS      8000u
#define SIM_CLIENTS_MAX  6u
#define SIM_KEYS_MAX     256u
#define SIM_OPS_MAX      24000u
#define SIM_ROWS_MAX     200000u
#define SIM_TROUBLES_MAX 4096u
#define SIM_STOPS_MAX    256u
#define SIM_LOSSES_MAX   12u // accepted, in a run; and of a shard, one fewer than eras
#define SIM_ERAS_MAX     4u
#define SIM_FRAME_BYTES  9728u
#define SIM_BASE_PORT    28700u
#define SIM_US           UINT64_C(1000)
#define SIM_MS           UINT64_C(1000000)
#define SIM_S            UINT64_C(1000000000)
#define SIM_WALL_ZERO_US INT64_C(1700000000000000) // the true time of day when a run begins
#define SIM_CLUSTER      UINT64_C(0x51)
#define SIM_CHUNKS       48u // of a worker
#define SIM_PAYLOAD_MAX  8972u
#define SIM_PSK_BYTES    32u

// -- What happened: faults injected, states and transitions reached -------------------------------

// X(NAME, text, a fault that counts)
#define SIM_COVER_TABLE(X)                                           \
    X(NET_LOST, "packets lost", 0)                                   \
    X(NET_DOUBLED, "packets doubled", 0)                             \
    X(NET_DAMAGED, "packets damaged", 0)                             \
    X(NET_OVERTAKEN, "packets overtaken", 0)                         \
    X(NET_LATE, "packets late by far", 0)                            \
    X(NET_CUT, "packets that met a cut", 0)                          \
    X(NET_TOO_LONG, "packets over the path's size", 0)               \
    X(NET_QUEUE_FULL, "packets that met a full queue", 0)            \
    X(FAULT_PARTITION, "partitions", 1)                              \
    X(FAULT_ONE_WAY, "one-way cuts", 1)                              \
    X(FAULT_STORM, "spells of heavy loss", 1)                        \
    X(FAULT_SLOW_PATH, "paths slow in one direction", 1)             \
    X(FAULT_MTU, "paths made narrower", 1)                           \
    X(FAULT_DATAPLANE, "dataplanes killed", 1)                       \
    X(FAULT_CONTROL, "controls killed between turns", 1)             \
    X(FAULT_CONTROL_IO, "controls killed at a disk operation", 1)    \
    X(FAULT_BOTH, "both killed", 1)                                  \
    X(FAULT_POWER, "machines without power", 1)                      \
    X(FAULT_POWER_ALL, "all machines without power", 1)              \
    X(FAULT_CLEAN, "clean stops", 1)                                 \
    X(FAULT_STOP, "nodes told to stop", 1)                           \
    X(FAULT_DISK_LOST, "disks lost", 1)                              \
    X(FAULT_LEAD, "primaries wished elsewhere", 1)                   \
    X(FAULT_FEWER, "replicas wished no more", 1)                     \
    X(FAULT_MORE, "replicas wished beside the others", 1)            \
    X(FAULT_STRIKE, "faults at the right moment", 1)                 \
    X(FAULT_PLAN, "rows of faults begun", 1)                         \
    X(FAULT_PAUSE, "processes stalled", 1)                           \
    X(FAULT_SUSPEND, "machines suspended", 1)                        \
    X(FAULT_JITTER, "workers that lose their core for a moment", 1)  \
    X(FAULT_WALL, "jumps of a wall clock", 1)                        \
    X(FAULT_DISK_SLOW, "disks slow", 1)                              \
    X(FAULT_DISK_HUNG, "disks that answer nothing for a while", 1)   \
    X(DISK_STALLED, "turns of nodes that say so", 0)                 \
    X(FAULT_DISK_FULL, "disks full", 1)                              \
    X(FAULT_DISK_WRITE, "log writes that fail", 1)                   \
    X(FAULT_DISK_SYNC, "other writes and syncs that fail", 1)        \
    X(FAULT_META_AWAY, "metastore away", 1)                          \
    X(FAULT_META_LONG, "metastore away for seconds", 1)              \
    X(FAULT_META_SLOW, "metastore slow", 1)                          \
    X(FAULT_CHECKPOINT, "checkpoint rounds ordered", 0)              \
    X(META_UNKNOWN, "metastore outcomes unknown", 0)                 \
    X(META_UNKNOWN_DONE, "of them, those that took effect", 0)       \
    X(META_DOWN, "deaths told by control", 0)                        \
    X(LED_UNREAD, "primaries named before their record was read", 0) \
    X(MAP_OWED, "turns that found the map half written", 0)          \
    X(META_CONFLICT, "compare-and-swaps that lost", 0)               \
    X(PEER_SENT, "messages between nodes", 0)                        \
    X(PEER_LOST, "messages between nodes lost", 0)                   \
    X(ROLE_ACTIVE, "replicas that began to serve", 0)                \
    X(ROLE_CANDIDATE, "replicas that took over", 0)                  \
    X(ROLE_BACKUP, "replicas that became backups", 0)                \
    X(ROLE_LEARNER, "replicas that became learners", 0)              \
    X(MEMBERS_FEWER, "members proposed for removal", 0)              \
    X(MEMBERS_MORE, "learners proposed as members", 0)               \
    X(PRIMARIES_MOVED, "primaries handed over on request", 0)        \
    X(RECORDS_CUT, "records cut because a primary had others", 0)    \
    X(SHARDS_CLOSED, "shards that no living copy is in sync of", 0)  \
    X(DISK_SECTOR_OLD, "sectors lost at a crash", 0)                 \
    X(DISK_SECTOR_NEW, "unsynced sectors kept at a crash", 0)        \
    X(DISK_SECTOR_BAD, "sectors left as garbage", 0)                 \
    X(DISK_NAMES_LOST, "names lost at a crash", 0)                   \
    X(DISK_OUTLIVED, "writes that outlived their process", 0)        \
    X(DISK_ENOSPC, "operations that met a full disk", 0)             \
    X(NODE_RECOVERED, "recoveries", 0)                               \
    X(NODE_AGAIN, "logs read once more", 0)                          \
    X(NODE_RESUMED, "controls that went on with a dataplane", 0)     \
    X(NODE_DRAINED, "rings of dead dataplanes written out", 0)       \
    X(NODE_KILLED, "dataplanes that control had to end", 0)          \
    X(NODE_TORN, "torn tails cut", 0)                                \
    X(NODE_FROM_CHECKPOINT, "shards recovered from a checkpoint", 0) \
    X(NODE_MOVED, "shards that changed stream", 0)                   \
    X(SHARDS_GIVEN, "shards that running nodes were given", 0)       \
    X(SHARDS_TAKEN, "shards that running nodes let go of", 0)        \
    X(EMPTIED_FORGOTTEN, "emptied, and hold no log any more", 0)     \
    X(SHARDS_KEPT, "of those that were to go, taken back", 0)        \
    X(SHARDS_LATE, "and let go of nevertheless", 0)                  \
    X(NODE_FORGOT, "starts that had forgotten", 0)                   \
    X(NODE_STARTED_AGAIN, "starts after one that served nobody", 0)  \
    X(NODE_QUIESCED, "clean ends", 0)                                \
    X(NODE_SEALED, "of them, those with all in the log", 0)          \
    X(STOP_HANDED, "stops that left no shard to a takeover", 0)      \
    X(STOP_LEFT, "stops that left some", 0)                          \
    X(STOP_HURRY, "stops that were told so twice", 0)                \
    X(STOP_GIVES_UP, "stops that gave checkpoints up", 0)            \
    X(STOP_RESUMED, "controls that found a stop begun", 0)           \
    X(STOP_CALM, "stops in calm, whose clients were judged", 0)      \
    X(STOP_CALM_OPS, "operations of such clients", 0)                \
    X(FAULT_NODE_JOINS, "nodes that joined the cluster", 1)          \
    X(FAULT_STATE, "nodes drained, held, or let in again", 1)        \
    X(FAULT_CAPACITY, "nodes of another capacity", 1)                \
    X(FAULT_GONE, "nodes away until they are given up", 1)           \
    X(FAULT_LEADER, "troubles of placement's leader", 1)             \
    X(PLACE_TERMS, "terms of placement's leaders", 0)                \
    X(PLACE_WANTS, "wishes that they wrote", 0)                      \
    X(PLACE_JOINED, "members that joined under them", 0)             \
    X(PLACE_LEFT, "members that were well, and left", 0)             \
    X(PLACE_WORDS, "words of nodes without shards", 0)               \
    X(PLACE_BACK, "nodes without shards that got some again", 0)     \
    X(FAULT_LOSS, "losses of all copies in sync", 1)                 \
    X(ACCEPT_LOOKED, "shards that an operator looked at", 0)         \
    X(ACCEPT_ORDERED, "losses that an operator would accept", 0)     \
    X(ACCEPT_REFUSED, "of them, those that were refused", 0)         \
    X(ACCEPTED, "losses that were accepted", 0)                      \
    X(ACCEPTED_TAIL, "of them, with a tail of its own", 0)           \
    X(ACCEPT_COMPLETE, "of them, those said to lack nothing", 0)     \
    X(ACKNOWLEDGED, "losses noted no more, as they were seen", 0)    \
    X(ACCEPT_SEEN, "shards that went on from such a copy", 0)        \
    X(ACCEPT_LOST, "keys of which a write was lost then", 0)         \
                                                                     \
    X(CHECKPOINT_KEPT, "checkpoints kept", 0)                        \
    X(CHECKPOINT_FAILED, "checkpoints given up", 0)                  \
    X(LOG_SEGMENTS, "segments prepared", 0)                          \
    X(LOG_TRIMMED, "segments let go", 0)                             \
    X(LOG_FULL, "logs without a segment", 0)                         \
    X(LOG_FAILED, "logs that failed", 0)                             \
    X(OP_GET, "gets", 0)                                             \
    X(OP_STALE, "reads that may be a little old", 0)                 \
    X(END_STALE, "of them answered by copies that lead not", 0)      \
    X(OP_PUT, "puts", 0)                                             \
    X(OP_PUT_IF, "conditional puts", 0)                              \
    X(OP_DELETE, "deletes", 0)                                       \
    X(OP_DELETE_IF, "conditional deletes", 0)                        \
    X(OP_RANGE, "ranges", 0)                                         \
    X(OP_RANGE_PAGE, "further pages of a moment", 0)                 \
    X(OP_AHEAD, "ranges of a moment ahead of clocks", 0)             \
    X(OP_COUNT, "counts", 0)                                         \
    X(OP_BIG, "values over a packet", 0)                             \
    X(END_OK, "ended well", 0)                                       \
    X(END_NOT_FOUND, "ended with nothing there", 0)                  \
    X(END_CONDITION, "ended with a failed condition", 0)             \
    X(END_DOUBT, "ended in doubt", 0)                                \
    X(END_REFUSED, "ended refused", 0)                               \
    X(END_TOO_OLD, "ranges too old", 0)                              \
    X(CLIENT_SESSIONS, "sessions made", 0)                           \
    X(CLIENT_RESENT, "operations sent again", 0)                     \
    X(CLIENT_WRONG_SHARD, "requests that went to a wrong node", 0)   \
    X(CLIENT_RESTARTED, "clients started anew", 1)                   \
    X(CHECK_DOUBT_SEEN, "writes in doubt that were seen", 0)         \
    X(CHECK_CUT, "ranges judged as one moment", 0)                   \
    X(CHECK_TREES, "trees of replicas compared", 0)                  \
    X(CHECK_TAKEOVER, "takeovers judged", 0)                         \
    X(NOT_PLACED, "runs whose shards stay elsewhere (--placed)", 0)  \
    X(CHECK_SKIPPED, "keys too tangled to judge", 0)

enum sim_cover {
#define X(name, text, fault) SIM_COVER_##name,
    SIM_COVER_TABLE(X)
#undef X
    SIM_COVER_COUNT
};

// -- The configuration of a seed ------------------------------------------------------------------

// X(NAME): classes of faults that a seed may have and the minimizer takes away.
#define SIM_CLASS_TABLE(X) \
    X(LOSS)                \
    X(DOUBLE)              \
    X(DAMAGE)              \
    X(DELAY)               \
    X(CUTS)                \
    X(MTU)                 \
    X(CRASH)               \
    X(POWER)               \
    X(PAUSE)               \
    X(CLOCK)               \
    X(DISK_SLOW)           \
    X(DISK_FULL)           \
    X(DISK_FAIL)           \
    X(META)                \
    X(DISK_LOST)           \
    X(WISH)                \
    X(STRIKE)              \
    X(JITTER)              \
    X(CHECKPOINT)          \
    X(PLAN)                \
    X(CLIENT)              \
    X(STOP)                \
    X(ACCEPT)              \
    X(PLACE)

enum sim_class {
#define X(name) SIM_CLASS_##name,
    SIM_CLASS_TABLE(X)
#undef X
    SIM_CLASS_COUNT,
    SIM_CLASS_DRAWN = SIM_CLASS_STOP // those before it are drawn by the seed's dice
};

// X(NAME, text): troubles in a row (sim_plan.c).
#define SIM_PLAN_TABLE(X)                    \
    X(NONE, "none")                          \
    X(CHAIN, "takeovers in a row")           \
    X(LATE, "late, then silent")             \
    X(TRANSFER, "taken back")                \
    X(LONELY, "a member alone")              \
    X(JOIN, "a member that joins")           \
    X(DEAF, "a deaf member")                 \
    X(AHEAD, "a read ahead of clocks")       \
    X(ANSWER, "a late answer")               \
    X(ACKS, "acknowledged before")           \
    X(OLD, "a copy of an old write")         \
    X(NAMES, "a name that does not last")    \
    X(CLAIM, "a claim that is not heard of") \
    X(WAIT, "a write that waits")

enum sim_plan_kind {
#define X(name, text) SIM_PLAN_##name,
    SIM_PLAN_TABLE(X)
#undef X
    SIM_PLAN_COUNT,
    SIM_PLAN_DRAWN = SIM_PLAN_OLD // those before it are drawn; the others only --plan begins
};

struct sim_config {
    uint32_t nodes;
    uint32_t founders; // of them, those that do not join later
    uint32_t workers;
    uint32_t shards;
    uint32_t replicas; // 1: a node alone has its shards
    uint32_t clients;
    uint32_t keys;      // hot ones
    uint32_t corner;    // a client but the first uses so many of them; 0: all
    uint32_t in_flight; // of a client
    uint32_t ops;       // of all clients
    uint64_t key_count; // M
    uint64_t run_ns;    // faults and load
    uint32_t think_us;  // mean, of a client between two operations
    uint32_t timeout_ms;
    uint32_t dedup_ttl_s;
    uint32_t value_max;
    uint32_t big_ppm;
    uint32_t segment_bytes;
    uint32_t checkpoint_bytes;
    uint32_t spares;
    uint32_t inflight; // of a log
    uint32_t gathers;  // of a worker: packets with writes; four times as many writes wait
    uint16_t mtu;
    uint8_t durability;
    bool sealed;
    bool confirm; // read-mode: then clocks may run as they like, and stand still
    bool steered;
    bool mixed_workers; // a node's number of workers changes at a restart
    uint32_t classes;   // bit of enum sim_class
    uint32_t fault_every_ms;
    uint32_t loss_ppm;
    uint32_t double_ppm;
    uint32_t damage_ppm;
    uint32_t late_ppm;
    uint32_t late_max_ms;
    uint32_t delay_us;
    uint32_t rho_ppm;
    uint32_t skew_ms;     // between wall clocks of nodes
    uint32_t behind_ms;   // that of the first node, beside the skew
    uint32_t jitter_ms;   // mean, between two moments that a worker has no core; 0: it always has
    uint32_t unknown_ppm; // of the metastore's answers
    uint32_t lease_ms;    // of placement's leader
    uint32_t gone_ms;     // it gives a node up after that
    uint32_t domains;     // of nodes; 0: each is its own
    uint32_t plan;        // enum sim_plan_kind: two rows of three are of this kind; NONE: any is
};

// What the minimizer leaves out, and what is wanted of a run.
struct sim_wish {
    uint64_t seed;
    uint32_t classes_on;
    uint32_t classes_off;
    uint32_t faults_from; // faults by number in [from, to) happen
    uint32_t faults_to;
    uint32_t ops_max;  // 0: the seed's
    uint32_t keys_max; // 0: the seed's
    uint32_t replicas; // 0: the seed's
    uint32_t plan;     // enum sim_plan_kind: all rows are of this kind; NONE: as drawn
    bool replicated;   // durability, where there are several copies
    bool confirm;      // read-mode, where there are several copies
    bool placed;       // shards have the members that are wished in the end, or the run fails
    bool story;
};

struct sim_result {
    uint64_t seed;
    uint64_t events;
    uint64_t hash;
    uint64_t simulated_ns;
    uint32_t faults;
    uint32_t ops;
    uint32_t failed; // 1: an oracle spoke, 2: the process ended
    char text[400];
    uint64_t cover[SIM_COVER_COUNT];
    uint64_t met[TORC_BUG_COUNT]; // places of bugs on purpose, how often
};

// -- Time and events ------------------------------------------------------------------------------

enum sim_event_kind {
    SIM_EVENT_WORKER,  // a: node, b: worker
    SIM_EVENT_THREAD,  // a: node: the session thread
    SIM_EVENT_CONTROL, // a: node
    SIM_EVENT_CLIENT,  // a: client
    SIM_EVENT_PACKET,  // what: struct sim_packet
    SIM_EVENT_FAULT,   // the next one
    SIM_EVENT_MEND,    // a: what ends (enum sim_mend), b: of which node or pair
    SIM_EVENT_META     // a: node: the metastore's, for its control
};

struct sim_event {
    uint64_t at_ns;
    void *what;
    uint32_t kind;
    uint32_t a;
    uint32_t b;
    uint32_t token; // of an actor: an older one is void
    uint32_t place; // in the heap; of one that is free, the next such
};

// An event's place in the row: small, for the heap moves it.
struct sim_due {
    uint64_t at_ns;
    uint32_t order; // of events at one moment; a run has some 300,000
    uint32_t event; // in sim->events
};

// What an event of kind MEND ends or does; `b` is the node, client or nothing.
enum sim_mend {
    SIM_MEND_PARENT, // the parent of the node's processes looks
    SIM_MEND_FAILED, // an operator starts a node anew whose log has failed
    SIM_MEND_NET,    // cuts and storms
    SIM_MEND_MTU,
    SIM_MEND_POWER,
    SIM_MEND_SLOW,
    SIM_MEND_FULL,
    SIM_MEND_STRIKE, // nothing: something may begin
    SIM_MEND_META,
    SIM_MEND_PLAN,  // nothing: its next step is due; which: its serial
    SIM_MEND_ACCEPT // nothing: an operator looks
};

// Somebody who has turns.
struct sim_actor {
    uint64_t at_ns; // of the next; UINT64_MAX: none
    uint64_t paused_ns;
    uint32_t token;
    uint32_t event; // of the next turn, in sim->events
};

// A machine's view of time.
struct sim_clock {
    uint64_t base_ns; // local, when the run began
    int64_t rate_ppm;
    int64_t wall_us;     // beside the local time
    uint64_t stood_ns;   // it stands still from then
    uint64_t goes_ns;    // to then
    uint64_t skipped_ns; // by all such, the last included
};

struct sim_packet {
    uint64_t number; // in order of sending, over all
    uint32_t from;   // place in the network
    uint32_t to;
    uint16_t from_port; // of a node
    uint16_t to_port;
    uint64_t boot; // of the node it is from, where it is a message between nodes; else 0
    uint64_t hlc;  // then the highest that its worker held
    uint32_t byte_count;
    uint8_t bytes[]; // to a client: the UDP payload; to a node: the frame, or the message
};

// -- The metastore --------------------------------------------------------------------------------

struct sim_records; // sim_records.c
struct sim_ghost;   // sim_ghost.c

struct sim_meta {
    uint64_t revision;
    struct sim_records *records;
    bool away;
    uint64_t delay_ns;
    uint64_t away_ns[SIM_NODES_MAX]; // for this node alone, until then
};

// -- Clients and what they saw --------------------------------------------------------------------

enum sim_op_kind {
    SIM_OP_GET = 1,
    SIM_OP_PUT,
    SIM_OP_DELETE,
    SIM_OP_RANGE,
    SIM_OP_COUNT
};

struct sim_op {
    uint64_t call_ns;
    uint64_t return_ns; // 0: never
    uint64_t number;    // of the value written; of a get: the value seen, 0 nothing
    uint64_t version;   // answered
    uint64_t if_version;
    uint64_t lo; // of a range
    uint64_t hi;
    uint64_t next_lo; // where the page ended
    uint64_t next_hi;
    uint64_t deadline_ns;
    uint64_t limit;
    uint64_t asked_ts;
    uint32_t key; // index of the hot key
    uint32_t row_first;
    uint32_t row_count;
    uint32_t life; // of its client
    uint32_t flags;
    uint32_t age_us; // of a read: how old what it sees may be
    uint8_t kind;    // enum sim_op_kind
    uint8_t status;
    uint8_t condition;
    uint8_t client;
    uint8_t consistency;
    bool more;
    bool last;   // of the last look
    bool past;   // of a moment that another client had told
    bool ahead;  // of a moment that no clock shows yet (sim_plan.c)
    bool closed; // a shard of it was when it ended
};

struct sim_row {
    uint64_t key;
    uint64_t version;
    uint64_t number; // 0: keys only
};

struct sim_client {
    struct sim_actor actor;
    struct sim_clock clock;
    struct torc_engine *engine;
    void *memory;
    uint64_t memory_bytes;
    uint64_t next_op_ns;
    uint32_t life;
    uint32_t pending;
    uint64_t counted[4]; // of the engine's counters, taken over
    uint8_t payload[SIM_PAYLOAD_MAX];
};

// -- The world ------------------------------------------------------------------------------------

// Places in the network: nodes, then clients.
#define SIM_PLACES (SIM_NODES_MAX + SIM_CLIENTS_MAX)

struct sim_net {
    uint64_t next_number;
    uint32_t storm_ppm; // beside the configuration's loss
    uint16_t mtu;       // of paths now
    bool cut[SIM_PLACES][SIM_PLACES];
    uint64_t cut_until_ns[SIM_PLACES][SIM_PLACES]; // of a plan
    uint64_t bad_ns[SIM_NODES_MAX][SIM_NODES_MAX]; // when a message was last lost, or late
    uint64_t slow_ns[SIM_PLACES][SIM_PLACES];      // beside the delay
    uint64_t newest[SIM_PLACES][SIM_PLACES];       // number of the last that arrived
};

// What a client is to do at once: a range of the shard as of `ts`, or a write.
struct sim_ask {
    uint32_t client;
    uint32_t shard;
    uint64_t ts;
    uint32_t key; // index of the hot key
    uint8_t kind; // enum sim_op_kind; 0: nothing
    uint8_t condition;
};

struct sim_plan {
    enum sim_plan_kind kind;
    struct torc_rng rng;
    uint64_t until_ns;
    uint32_t serial;
    uint32_t stage;
    uint32_t shard;
    uint32_t primary; // number of a node, as those below
    uint32_t node;
    uint32_t members; // how many there were
    uint32_t other;   // a member beside the two; 0: none
    struct sim_ask ask;
    bool ahead;      // a client read, or is to read, ahead of all clocks
    uint32_t writes; // that are to be asked for yet
};

// What placement wishes of a shard.
struct sim_want {
    uint32_t nodes[SIM_NODES_MAX]; // by number
    uint32_t count;
    uint32_t primary; // 0: no wish
};

// What placement's leaders wished.
struct sim_placing {
    uint32_t wished[SIM_SHARDS_MAX]; // how often
    uint64_t last_ns;
    uint64_t node_ns; // when a node's record was last changed
    // Of who had a place and no shard when this term began: the nonce of its record. 0: others.
    uint64_t idle_nonces[SIM_NODES_MAX + 1];
    uint64_t idle_boots[SIM_NODES_MAX + 1]; // in which it was last wished anything
    uint64_t done_ns;                       // when all was as wished, after the last fault
};

// A loss that an operator accepted: the shard went on from what one copy had.
struct sim_loss {
    uint64_t dead_ns; // since when nobody in sync ran
    uint64_t at_ns;   // of the record's change
    uint32_t shard;
    uint32_t node;
    uint64_t lsn; // the copy's last record, as it was said, and its stamp
    uint64_t hlc;
    uint64_t cut_hlc; // stamp up to which that copy's log is known to be the one that was committed
    bool complete;    // it was said that no answered write is missing
    bool seen;        // rows are what the copy has, by hot key; version 0: nothing
    struct sim_row rows[SIM_KEYS_MAX];
};

// What goes wrong so that a loss is to be accepted, and who does.
enum sim_accept_stage {
    SIM_ACCEPT_IDLE,
    SIM_ACCEPT_LOOKING,
    SIM_ACCEPT_ORDERING,
    SIM_ACCEPT_ACKNOWLEDGING
};

// That a node was given; void when the shard's record has changed.
struct sim_order {
    uint64_t dead_ns; // 0: there is none; this, hlc and cut_hlc as of struct sim_loss
    uint64_t lsn;     // that the copy ended with, whatever it said
    uint64_t hlc;
    uint64_t cut_hlc;
    uint32_t off; // bit of each node, by index, that was said to be off
    bool complete;
};

struct sim_accept {
    struct torc_rng rng;
    enum sim_accept_stage stage;
    uint32_t shard;                       // that the operator is at
    uint32_t node;                        // that was told to accept
    uint64_t dead_ns[SIM_SHARDS_MAX + 1]; // since when nobody in sync runs; 0: somebody does
    struct sim_order orders[SIM_SHARDS_MAX + 1][SIM_NODES_MAX];
    bool seen[SIM_SHARDS_MAX + 1]; // somebody was told to acknowledge what is noted
    uint64_t seen_epoch;           // of the last loss that the operator saw then
    char why[200];                 // of the last refusal
    // The plan: first one member is left behind, then the others go.
    uint32_t plan_shard; // 0: there is none
    uint32_t plan_node;
    uint64_t plan_from_ns;
    uint64_t plan_at_ns; // when the others go; 0: the one is not left behind yet
};

// A clean stop that began when all was calm.
struct sim_stop {
    uint64_t from_ns;
    uint64_t to_ns; // the node's end; 0: it has not come
    uint32_t node;
};

// Who may answer reads of a replicated shard, by its leases, until when.
struct sim_server {
    uint32_t node; // number; 0: nobody ever
    uint64_t until_ns;
};

struct sim {
    struct sim_wish wish;
    struct sim_config config;
    struct torc_rng rng; // of what happens: network, disks, machines
    struct torc_rng load;
    struct torc_rng chaos;
    uint64_t now_ns;
    uint64_t end_ns;
    struct sim_due *heap;
    struct sim_event *events;
    uint32_t heap_count;
    uint32_t event_count; // that there ever were at once
    uint32_t event_room;  // of both
    uint32_t event_free;  // the next one; event_count: none of them is
    uint32_t next_order;
    bool quiet; // faults have stopped
    bool ended;
    uint32_t fault_number;
    uint32_t fault_count;                // that happened
    uint64_t troubles[SIM_TROUBLES_MAX]; // when faults began and ended, the last ones
    uint64_t trouble_count;
    struct sim_stop stops[SIM_STOPS_MAX];
    uint32_t stop_count;
    struct sim_loss losses[SIM_LOSSES_MAX];
    uint32_t loss_count;
    struct sim_accept accept;
    struct sim_net net;
    struct sim_meta meta;
    struct sim_plan plan;
    struct sim_node *nodes; // SIM_NODES_MAX
    struct sim_client clients[SIM_CLIENTS_MAX];
    uint64_t keys[SIM_KEYS_MAX]; // rising
    uint64_t seen_version[SIM_KEYS_MAX];
    uint64_t last_ts; // of some snapshot that was read
    uint64_t shard_lo[SIM_SHARDS_MAX + 1];
    uint32_t shard_node[SIM_SHARDS_MAX]; // index of its first; the others follow in a ring
    struct sim_want wants[SIM_SHARDS_MAX];
    struct sim_placing placing;
    uint64_t copies; // numbers drawn
    struct sim_op *ops;
    uint32_t op_count;
    struct sim_row *rows;
    uint32_t row_count;
    uint64_t next_value;
    uint8_t *value;
    uint32_t last_at; // of the last look
    uint64_t glance_ns;
    uint8_t *tx_memory; // of a turn's frames
    uint32_t tx_used;   // of them, by the turn before
    struct sim_result result;
    uint32_t open_counts[SIM_NODES_MAX][SIM_WORKERS_MAX]; // shards of a worker, after its last turn
    struct sim_server servers[SIM_SHARDS_MAX + 1];        // by number of the shard
    struct sim_ghost *ghosts;
    jmp_buf death; // of the control that has a turn
    bool may_die;
};

// The one of this process.
extern struct sim *sim;

// The key of all clients, where sessions are sealed.
extern const uint8_t sim_psk[SIM_PSK_BYTES];

// -- sim_sched.c
void sim_cover(enum sim_cover what);
void sim_cover_add(enum sim_cover what, uint64_t count);
void sim_story(const char *format, ...) torc_printf_like(1, 2);
// An oracle speaks: the first one counts.
void sim_fail(const char *format, ...) torc_printf_like(1, 2);
void sim_post(uint64_t at_ns, enum sim_event_kind kind, uint32_t a, uint32_t b, void *what);
// A turn of the actor at that time, unless it has one before.
void sim_wake(struct sim_actor *actor, uint64_t at_ns, enum sim_event_kind kind, uint32_t a,
              uint32_t b);
void sim_stop(struct sim_actor *actor);
bool sim_next(struct sim_event *event); // false: nothing is left
void sim_hash(uint64_t word);
uint64_t sim_local_ns(const struct sim_clock *clock);
uint64_t sim_wall_us(const struct sim_clock *clock);

// How far that is from the true time of day.
int64_t sim_wall_off_us(const struct sim_clock *clock);
// It stands still until then, as that of a machine whose host has stopped it.
void sim_clock_stop(struct sim_clock *clock, uint64_t until_ns);
// When the clock will show that; UINT64_MAX stays.
uint64_t sim_when(const struct sim_clock *clock, uint64_t local_ns);
const char *sim_cover_text(enum sim_cover what);

// -- sim_memory_os.c
void *sim_memory(uint64_t bytes); // zero, aligned to 2 MiB
void sim_memory_free(void *memory, uint64_t bytes);
uint32_t sim_memory_runs(void); // that a process may have, one after the other
void sim_memory_begin(void);    // of a run: all that the one before had is free
void sim_memory_end(void);

// -- sim_net.c
void sim_net_init(void);
void sim_net_from_client(uint32_t client, const uint8_t ip_to[16], uint16_t port,
                         const uint8_t *payload, uint32_t payload_bytes);
void sim_net_from_node(struct sim_node *node, const struct torc_frame_tx *frame);
// A message of a worker to a worker of another node (0-based).
void sim_net_between(struct sim_node *from, uint32_t from_core, uint32_t to, uint32_t to_core,
                     const uint8_t *bytes, uint32_t byte_count);
void sim_net_arrive(struct sim_packet *packet);

// -- sim_node.c: by index
struct sim_node *sim_node_of(uint32_t index);
const uint8_t *sim_node_ipv4(uint32_t index);
const uint8_t *sim_node_mac(uint32_t index);
struct sim_actor *sim_node_actor(const struct sim_event *event);
void sim_node_arrive(uint32_t index, struct sim_packet *packet);

// -- sim_client.c
void sim_client_init(uint32_t index);
void sim_client_restart(uint32_t index);
void sim_client_packet(uint32_t index, struct sim_packet *packet);
void sim_client_turn(uint32_t index);
uint32_t sim_key_place(uint64_t key); // the hot key's index, or UINT32_MAX
// The number of a value that came back; 0 and the oracle speaks: nobody wrote these bytes.
uint64_t sim_value_read(uint64_t key, const void *data, uint64_t bytes);

// -- sim_faults.c
bool sim_has(enum sim_class class);
void sim_faults_draw(void);
void sim_faults_next(void);
// Something has just happened to the shard: an answer, a replica's new role, another record. Now a
// fault would come at the right moment; `weight`: how much more often than after an answer.
void sim_faults_strike(uint32_t shard, uint32_t weight);
uint32_t sim_shard_of(uint64_t key);
// No copy in sync exists of the key's shard: closed until an operator accepts the loss.
bool sim_is_closed(uint64_t key);
void sim_faults_mend(uint32_t what, uint32_t which);
void sim_faults_stop(void);

// -- sim_plan.c
bool sim_plan_begin(void); // false: nothing to begin with
void sim_plan_swapped(uint32_t shard);
bool sim_plan_hides(uint32_t shard); // whoever asked for this swap does not learn what became of it
void sim_plan_step(uint32_t serial);
bool sim_plan_asks(uint32_t client, struct sim_ask *ask); // once
void sim_plan_answered(uint32_t client);                  // a read ahead was
void sim_plan_stop(void);

// -- sim_place.c
void sim_place_configure(struct sim_config *config);
void sim_place_fault(void);
bool sim_place_is_settled(void); // one leads, and all that it wishes is written
bool sim_place_is_done(void);    // and all who are there get shards
void sim_place_judge(void);

// -- sim_accept.c
void sim_accept_init(void);
void sim_accept_begin(void); // a loss of all copies in sync of some shard, if none is under way
void sim_accept_look(void);  // the operator's next step, and the plan's
// No shard waits for its operator.
bool sim_accept_is_settled(void);

// -- sim_loss.c: eras of a shard, which its losses part. Era 0 is before the first.
struct sim_eras {
    uint32_t first;
    uint32_t last;
};

// When the operation may have happened, of what it says of that shard. `from_ns`: its call, or
// earlier if it may see what is older. One that changes nothing is of no use if that is two eras.
struct sim_eras sim_loss_eras(const struct sim_op *op, uint32_t shard, uint64_t from_ns);
uint32_t sim_loss_era_count(uint32_t shard);
// What era > 0 began with; NULL: nobody knows.
const struct sim_row *sim_loss_row(uint32_t shard, uint32_t era, uint32_t key);
uint64_t sim_loss_hlc(uint32_t shard, uint32_t era); // all that era writes is stamped above it
void sim_loss_judge(void);

// -- sim_calm.c
void sim_calm_trouble(void);                      // a fault begins or ends, other than a clean stop
bool sim_calm_is_closed(const struct sim_op *op); // a shard of it is, now
void sim_calm_judge(void);                        // what clients saw of clean stops in calm
void sim_calm_path(uint32_t from, uint32_t to);   // a message was lost or late, of nodes by index
// The shard's record is about to be another.
void sim_calm_swapped(uint32_t shard, const char *before, uint32_t before_bytes, const char *after,
                      uint32_t after_bytes);

// -- sim_ghost.c
// A client was answered [lo, hi) as of that moment.
void sim_ghost_read(uint64_t lo, uint64_t hi, uint64_t ts);

// -- sim_check.c, sim_cut.c
void sim_check_keys(void);
void sim_check_cuts(void);
void sim_check_order(void);

// -- sim_world.c
void sim_run(const struct sim_wish *wish, struct sim_result *result);

#endif
