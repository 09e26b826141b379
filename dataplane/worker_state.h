// Torc dataplane: what a worker holds. Private to the worker's files; others use worker.h.
//
//     worker.c          memory, life, the turn           worker_rx.c      frames, checks, bursts
//     worker_hello.c    INIT, cookies, NOSESSION         worker_ops.c     operations of a packet
//     worker_write.c    writes, commit, their answers    worker_put.c     values in pieces
//     worker_read.c     gets of a burst, PULL            worker_map.c     MAP, CLOCK, WRONG_SHARD
//     worker_status.c   STATUS                           worker_order.c   what control says
//     worker_recover.c  recovery, checkpoints            answer.c         packets to clients
//     worker_replica*.c, worker_watch.c, worker_post.c  other nodes: worker_replica.h
//     scan.c            ranges and cursors               neighbour.c      ARP, ND, echo
//     worker_peers.c    sessions with other nodes       worker_confirm.c reads that wait
#ifndef TORC_DATAPLANE_WORKER_STATE_H
#define TORC_DATAPLANE_WORKER_STATE_H

#include "dataplane/admit.h"
#include "dataplane/answer.h"
#include "dataplane/confirm.h"
#include "dataplane/fragment.h"
#include "dataplane/handover.h"
#include "dataplane/log.h"
#include "dataplane/scan.h"
#include "dataplane/session_table.h"
#include "dataplane/strangers.h"
#include "dataplane/worker.h"
#include "dataplane/worker_replica.h"
#include "kit/hlc.h"
#include "storage/checkpoint.h"
#include "storage/replay.h"
#include "storage/scan.h"
#include "storage/shard.h"
#include "wire/drop.h"
#include "wire/frame.h"
#include "wire/map.h"
#include "wire/rows.h"
#include "wire/session.h"

// An operation to another node that is being written.
struct torc_worker_posting {
    struct torc_peer_to to;
    struct torc_peer_message append;
    struct torc_peer_append_builder builder;
    struct torc_peers_ship ship;
    unsigned char bytes[65536];
};

#define TORC_WORKER_BURST      32u              // packets whose gets are looked up together
#define TORC_WORKER_GETS       2048u            // BURST packets full of them
#define TORC_WORKER_LATE       512u             // packets with ranges, a turn
#define TORC_WORKER_HANDED_MAX TORC_TURN_RX_MAX // frames taken over a turn
#define TORC_WORKER_OUTCOMES   256u
#define TORC_WORKER_HELD       256u // answers that wait for the writes of their packet
#define TORC_WORKER_HELD_BYTES 1536u
#define TORC_WORKER_ADDRESSES  4096u // buckets of handshakes, by source address
#define TORC_WORKER_PAIRS      512u
#define TORC_WORKER_TEXT_BYTES 16384u
#define TORC_WORKER_NONE       UINT32_MAX
#define TORC_WORKER_NO_KEYS    UINT64_MAX         // as the bounds of an operation on none
#define TORC_WORKER_CARGO      (1u << 20)         // longest thing of a node put together
#define TORC_WORKER_GET_BYTES  24u                // of a GET without a timestamp
#define TORC_WORKER_CEILING_US 200000u            // REPLICATION.md, section 13: ceiling_step
#define TORC_WORKER_KEPT       1024u              // packets that wait to be confirmed
#define TORC_WORKER_CONFIRM_NS UINT64_C(20000000) // and for how long at most: as long as a promise
#define TORC_WORKER_WAIT_US    10000u // of UNAVAILABLE: ask again when some recovery is done

_Static_assert(TORC_WORKER_GETS == TORC_WORKER_BURST * TORC_PACKET_OPS_MAX, "a burst's gets fit");
_Static_assert(TORC_WORKER_LATE >= TORC_TURN_RX_MAX + TORC_WORKER_HANDED_MAX, "as many as come");

// -- Packets of a burst ---------------------------------------------------------------------------

struct torc_packet {
    struct torc_answer_to to;
    const struct torc_session *session;
    struct torc_session_line *line;
    const unsigned char *ops; // its operations
    uint32_t ops_bytes;
    uint32_t op_count;
    uint32_t write_count; // PUT, DELETE and FRAG among them: they may be answered later
    uint32_t plain_count; // of them, those that have no other answer but the write's
    uint32_t read_count;  // GET
    uint32_t owed_bytes;  // that the shortest answers take
    uint32_t get_next;    // its next answer in gets[]
    uint32_t gather;      // of its writes; TORC_WORKER_NONE
    uint32_t map_sent;    // entry of the map that this packet's answers carry already, plus 1
    uint64_t seq;
    bool late;        // has operations that wait for the end of the turn
    bool clock_ahead; // its HLC was refused
    bool closing;     // it held a CLOSE
    bool tight;       // its allowance ends with its writes' answers: all answers go together
    bool write_busy;  // no memory to remember its writes by
};

// A get that is looked up with the others. Only the plain form; the rest goes by torc_request.
struct torc_get {
    uint64_t key;
    uint32_t place; // in hits[]
    uint16_t shard; // place in shards[], or UINT16_MAX: not here
    uint16_t zero;
};

// -- Writes that are owed an answer ---------------------------------------------------------------

enum torc_owed_state {
    TORC_OWED_PENDING, // in the log, or waiting in the engine
    TORC_OWED_DONE,    // has its answer
    TORC_OWED_SENT,
};

struct torc_owed {
    uint64_t info;
    uint64_t key;
    uint64_t deadline_ns;
    uint32_t op_id;
    uint8_t opcode;
    uint8_t flags;
    uint8_t attempt;
    uint8_t status;
    uint8_t state;   // enum torc_owed_state
    uint8_t waiting; // 1: behind another write of its key, not in the log
    uint8_t zero[2];
    uint32_t place; // waiting: where in the engine, and in waits
};

// A write that waits, so that CANCEL finds it.
struct torc_owed_wait {
    uint32_t name; // the low half of its tag
    uint32_t next; // of those of a place of wait_table; TORC_WORKER_NONE: the last
    uint32_t prev;
};

// What a TRACE reply will say.
struct torc_trace_times {
    uint64_t dequeued_ns;
    uint64_t tree_ns;
    uint64_t logged_ns;
    uint64_t durable_ns;
};

// The same of a write that has yet to end, in ns since its packet's arrival.
struct torc_owed_times {
    uint32_t dequeued_ns;
    uint32_t tree_ns;
    uint32_t logged_ns;
    uint32_t durable_ns;
};

// The writes of one request packet.
struct torc_gather {
    struct torc_answer_to to;
    uint32_t generation; // of this use; in the tags
    uint32_t next;       // free list, or queue of those with answers to send
    uint32_t owed_count;
    uint32_t pending_count;
    uint32_t done_count; // answered and not sent
    uint32_t held;       // place of the answers to its other operations; TORC_WORKER_NONE
    uint32_t held_bytes;
    bool used;
    bool queued;
    struct torc_owed owed[TORC_PACKET_OPS_MAX];
    struct torc_owed_times times[TORC_PACKET_OPS_MAX]; // of those that asked
};

// -- Shards ---------------------------------------------------------------------------------------

struct torc_worker_shard {
    struct torc_shard engine;
    struct torc_checkpoint_writer checkpoint;
    uint64_t checkpoint_number;          // 0: none is being made
    bool checkpoint_void;                // control is to hear that it fails
    struct torc_worker_replica *replica; // NULL: this node alone has the shard
    uint64_t idle_ns;                    // when torc_shard_idle is asked again
    bool readable;                       // replica: may answer reads in this turn
    bool has_base;                       // replica, from SHARD_OPEN, until emptied
    uint32_t opened_epoch;               // from SHARD_OPEN
    bool begun;                          // EPOCH was logged
    bool told;                           // SHARD_READY was sent
};

// An engine is the first of its shard.
static inline struct torc_worker_shard *torc_worker_of_engine(struct torc_shard *engine)
{
    return (struct torc_worker_shard *)(void *)engine;
}

// -- The worker -----------------------------------------------------------------------------------

// A sweep that packs large values.
struct torc_worker_pack {
    struct torc_tree_sweep sweep;
    uint64_t sparse_bytes; // when it began
    uint64_t rest_ns;      // none begins before
    uint32_t shard;        // place
    bool running;
};

// Where compaction of the trees stands.
struct torc_worker_compact {
    uint64_t last_ns;
    uint32_t shard; // place of the next, modulo their number
    bool more;
};

// A sweep that looks how full leaves are.
struct torc_worker_look {
    struct torc_tree_sweep sweep;
    uint64_t leaf_count;
    uint64_t used_bytes;
    uint32_t shard; // place
};

struct torc_worker {
    // Who we are.
    uint32_t index;
    uint32_t count;
    struct torc_worker_config config; // `ports` points to the copy below
    struct torc_worker_port ports[TORC_WORKER_PORTS_MAX];
    struct torc_frame_local locals[TORC_WORKER_PORTS_MAX];
    uint32_t payload_max; // UDP, that every port takes: what ACCEPT says
    uint8_t ip4[16];      // mapped
    uint8_t ip6[16];
    // Whom we talk to.
    struct torc_chan *chan;
    struct torc_chan_ports rings;
    struct torc_stats *stats;
    struct torc_sessions *sessions;
    struct torc_spsc_port to_thread[TORC_SESSION_RING_OUT];
    struct torc_spsc_port from_thread;
    struct torc_spsc_port handed_out[TORC_WORKERS_MAX + 1];
    struct torc_spsc_port handed_in[TORC_WORKERS_MAX + 1];
    uint32_t handed_first; // ring served first next turn
    // The cluster, from CONFIGURE.
    struct torc_cmd_configure cluster;
    uint32_t deadline_ms_max;
    bool configured;
    bool serving;
    bool quiescing;
    bool quiesced;
    bool replay_failed;
    bool recovered; // RECOVERED came
    struct torc_cookie_keys cookie_keys;
    struct torc_map map;
    struct torc_chan_node *nodes; // beside the map; what they say of themselves
    uint32_t node_count;
    // Time.
    uint64_t now_ns;
    struct torc_wall wall;
    uint64_t wall_us;        // by it
    uint64_t wall_s;         // the system's: cookies are other threads' too
    uint64_t queue_delay_ns; // of this burst, estimated
    uint64_t last_ns;        // of the last turn
    uint32_t last_frames;    // that it took
    uint32_t reads_now;      // gets answered in this turn, until the next begins
    uint64_t taken_ns;       // when the traced operation that is at work was taken
    uint64_t looked_up_ns;   // and when the tree had been asked for it; before taken_ns: it was not
    uint64_t housekept_ns;
    uint64_t gauged_ns;
    uint64_t ordered_ns;    // when leaves were last put in order
    uint32_t order_at;      // place of the shard whose leaves come next
    uint32_t order_settled; // shards in a row whose leaves lie in order
    uint64_t rung_sessions_ns;
    bool ring_owed; // the session thread is to be woken, but was just now
    // The turn.
    struct torc_turn *turn;
    uint32_t announced; // addresses of ports, both families, since SERVE
    uint32_t tx_owed;   // frames of this turn that may still need a buffer each
    bool published;     // something for control
    bool map_owed;      // control was amid a change when it was to be read
    bool notified;      // something for the session thread
    // Budgets.
    struct torc_strangers strangers;
    struct torc_bucket echo;
    struct torc_bucket *addresses; // TORC_WORKER_ADDRESSES
    struct torc_admit *admit;
    struct torc_answer_to *heard; // under load, of each account: the packet that was opened last
    // Storage.
    struct torc_shard_pool pool;
    struct torc_chunk_pool chunks;
    struct torc_replay *replay;
    struct torc_worker_shard *shards;
    struct torc_worker_replicas replicas;
    struct torc_worker_posting posting;
    struct torc_peers *peers; // NULL: no board
    uint64_t asked_ns;        // worker 0: when link addresses of peers were last asked for
    uint64_t keys_sequence;   // worker 0: of the table that its identity is from, plus 1
    uint32_t shard_count;     // places up to the last one that is taken; numbers[]: 0 is free
    uint32_t open_count;      // shards
    uint32_t shards_max;
    uint32_t hello;    // the control that asked last where this worker stands
    uint32_t hello_at; // a new control is told of the shards from this place on, less 1; 0: none
    uint32_t *shard_order;  // places of shards by lo
    uint64_t *shard_starts; // their lo, in that order
    uint32_t checkpoint_at; // place of the shard whose checkpoint goes out next
    struct torc_worker_range ranges[TORC_WORKER_RANGES];
    struct torc_worker_pack pack;
    struct torc_worker_compact compact;
    struct torc_worker_look look;
    struct torc_log_writer log;
    // Requests.
    struct torc_packet burst[TORC_WORKER_BURST];
    struct torc_packet *late; // TORC_WORKER_LATE
    uint32_t late_count;
    struct torc_get *gets; // TORC_WORKER_GETS
    uint64_t *get_keys;
    struct torc_tree_hit *hits;
    uint32_t *get_counts; // by shard place; all 0 between bursts
    uint32_t get_count;
    // Writes.
    struct torc_gather *gathers;
    uint32_t gathers_max;
    uint32_t gather_free; // head
    uint32_t gathers_used;
    uint32_t gather_sweep;
    struct torc_owed_wait *waits; // by their place in the engine
    uint32_t *wait_table;         // hash of (session, op id)
    uint32_t wait_mask;
    uint32_t ready_head; // gathers with answers to send
    uint32_t ready_tail;
    unsigned char *held; // TORC_WORKER_HELD of TORC_WORKER_HELD_BYTES
    uint32_t *held_free;
    uint32_t held_free_count;
    struct torc_shard_outcome *outcomes; // TORC_WORKER_OUTCOMES
    struct torc_fragments fragments;
    // Reads that wait.
    struct torc_confirm *confirm; // NULL: read-mode is lease
    unsigned char *kept;          // TORC_WORKER_KEPT of kept_bytes
    uint32_t kept_bytes;
    bool confirm_again;   // what waits is to be looked at, though nothing was confirmed since
    uint64_t confirm_sum; // of all led shards, when it was looked at last
    // Ranges.
    struct torc_jobs jobs;
    struct torc_rows_builder *rows;
    struct torc_tree_pair *pairs; // TORC_WORKER_PAIRS
    char *text;                   // TORC_WORKER_TEXT_BYTES, for STATUS
    uint32_t text_bytes;          // of it, written in this turn; 0: not yet
    // The past that a get waits for.
    uint64_t past_ts;       // the least
    uint64_t past_until_ns; // 0: nobody waits
    uint64_t past_kept;     // entries that the undo window had got when it was last seen to
};

// Now, for a traced operation.
static inline uint64_t torc_worker_trace_ns(const struct torc_worker *worker)
{
    uint64_t ns = worker->config.trace_clock == NULL
                      ? worker->now_ns
                      : worker->config.trace_clock(worker->config.trace_context);

    return torc_max_u64(ns, worker->now_ns);
}

static inline void torc_worker_drop(struct torc_worker *worker, enum torc_drop reason)
{
    torc_stats_add(&worker->stats->drops[reason], 1);
}

// Whether a shard lies at `place`, below shard_count.
static inline bool torc_worker_is_open(const struct torc_worker *worker, uint32_t place)
{
    return worker->replicas.numbers[place] != 0;
}

// The shard of ours that has `key`, by place; TORC_WORKER_NONE.
static inline uint32_t torc_worker_shard_of(const struct torc_worker *worker, uint64_t key)
{
    uint32_t at = 0;
    uint32_t place;

    // The last start that is not above the key, without a branch that could be guessed wrongly.
    for (uint32_t left = worker->open_count; left > 1;) {
        uint32_t half = left / 2;

        at += worker->shard_starts[at + half] <= key ? half : 0;
        left -= half;
    }
    if (worker->open_count == 0 || worker->shard_starts[at] > key) {
        return TORC_WORKER_NONE;
    }
    place = worker->shard_order[at];
    return key < worker->shards[place].engine.hi ? place : TORC_WORKER_NONE;
}

// Whether the shard at `place` answers reads now: it is active, and where it has other members,
// their leases hold.
static inline bool torc_worker_is_readable(const struct torc_worker *worker, uint32_t place)
{
    const struct torc_worker_shard *shard = &worker->shards[place];

    return shard->engine.state == TORC_SHARD_ACTIVE && (shard->replica == NULL || shard->readable);
}

// Whether this node serves the shard as its primary, whatever the leases say.
static inline bool torc_worker_leads(const struct torc_worker_shard *shard)
{
    return shard->replica != NULL && shard->replica->live &&
           shard->engine.state == TORC_SHARD_ACTIVE &&
           torc_replica_serves(&shard->replica->machine);
}

// Whether a range that has begun may go on: with confirm, its begin was as good as all of it.
static inline bool torc_worker_goes_on(const struct torc_worker *worker,
                                       const struct torc_worker_shard *shard)
{
    return shard->replica == NULL || shard->readable ||
           (worker->confirm != NULL && torc_worker_leads(shard));
}

// Of a write that tells what it found, too.
static inline bool torc_worker_write_reads(const struct torc_request *request)
{
    return request->opcode == TORC_OPCODE_DELETE ||
           (request->flags &
            (TORC_WRITE_IF_ABSENT | TORC_WRITE_IF_PRESENT | TORC_WRITE_IF_VERSION)) != 0;
}

// -- worker_confirm.c -----------------------------------------------------------------------------

uint32_t torc_worker_kept_bytes(const struct torc_worker_config *config);
void torc_worker_confirm_init(struct torc_worker *worker, void *memory);

// With read-mode = confirm: whether the packet is kept to be answered later.
bool torc_must_use torc_worker_confirm_keeps(struct torc_worker *worker,
                                             const struct torc_packet *packet);

// Worker 0's answer.
void torc_worker_confirm_told(struct torc_worker *worker, const struct torc_council_note *note);

// After all that arrived: what is confirmed, or has waited too long, is answered.
void torc_worker_confirm_release(struct torc_worker *worker);

// Then worker 0 is asked for a beat, where somebody waits for one.
void torc_worker_confirm_ask(struct torc_worker *worker);
uint64_t torc_worker_confirm_deadline_ns(const struct torc_worker *worker);

// -- worker_rx.c ----------------------------------------------------------------------------------

// After what time a refused client may try again: twice the age of the burst.
uint32_t torc_worker_retry_us(const struct torc_worker *worker);
void torc_worker_receive(struct torc_worker *worker);

// A frame of `bytes` that lies in the next buffer and is no UDP packet leaves.
void torc_worker_send_raw(struct torc_worker *worker, uint32_t bytes, uint8_t port);
// Under load: notices of packets dropped unread, to sessions that got no answer since.
void torc_worker_tell(struct torc_worker *worker);

// Tells each port's link whose our addresses are, once after SERVE.
void torc_worker_announce(struct torc_worker *worker);

// -- worker_peers.c -------------------------------------------------------------------------------

// Whether a payload came from a responder of ours, by its type and flags; then it is for the worker
// whose port it came to.
static inline bool torc_worker_is_answer(const struct torc_worker *worker, uint8_t type,
                                         uint8_t flags)
{
    return worker->peers != NULL && (((type == TORC_TYPE_DATA || type == TORC_TYPE_CLEAR) &&
                                      (flags & TORC_DATA_FROM_RESPONDER) != 0) ||
                                     type == TORC_TYPE_RETRY || type == TORC_TYPE_ACCEPT ||
                                     type == TORC_TYPE_REFUSE || type == TORC_TYPE_NOSESSION);
}

uint64_t torc_worker_peers_bytes(const struct torc_worker_config *config);
void torc_worker_peers_init(struct torc_worker *worker, void *memory);

// Worker 0: the map's nodes have changed, or the watch has a new partner. Sessions are with all
// nodes of the map, or with partners first where there are more nodes than seats.
void torc_worker_peers_map(struct torc_worker *worker);

// A packet of a node's session came.
void torc_worker_peers_heard(struct torc_worker *worker, const struct torc_packet *packet);

// An operation of opcode 40 to 5F. False: its session is not a node's.
bool torc_must_use torc_worker_peers_op(struct torc_worker *worker,
                                        const struct torc_packet *packet, const unsigned char *op,
                                        uint32_t length);

// An ARP or ND frame may say where a peer is. True: it answered a question of ours.
bool torc_worker_peers_learn(struct torc_worker *worker, const struct torc_frame *frame,
                             uint8_t port);

// After the machines were stepped: what they said leaves.
void torc_worker_peers_turn(struct torc_worker *worker);
uint64_t torc_worker_peers_deadline_ns(const struct torc_worker *worker);

// -- worker_hello.c -------------------------------------------------------------------------------

// An INIT, or an INIT of a newer version.
void torc_worker_hello(struct torc_worker *worker, const struct torc_frame *frame,
                       const struct torc_path *path);
void torc_worker_hello_newer(struct torc_worker *worker, const struct torc_frame *frame,
                             const struct torc_path *path);

// A data packet of a session that we do not have.
void torc_worker_nosession(struct torc_worker *worker, const struct torc_frame *frame,
                           const struct torc_path *path, uint64_t seq);

// Sends what the session thread has answered.
void torc_worker_send_notes(struct torc_worker *worker);

// -- worker_ops.c ---------------------------------------------------------------------------------

// Answers a packet's operations; those that must wait for the end of the turn only when `late`.
void torc_worker_answer_packet(struct torc_worker *worker, struct torc_packet *packet);

// The TRACE reply of an operation whose answer has just been written, if there is room beside what
// is owed to others.
void torc_worker_trace(struct torc_worker *worker, struct torc_answer *answer, uint32_t op_id,
                       const struct torc_trace_times *times);

// -- worker_read.c --------------------------------------------------------------------------------

// Notes the plain gets of a packet, and which of its operations must wait.
void torc_worker_note_gets(struct torc_worker *worker, struct torc_packet *packet);

// Looks all of them up.
void torc_worker_look_up(struct torc_worker *worker);

// The next noted get of the packet, whose operation lies at `op`.
void torc_worker_get_noted(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const unsigned char *op);

void torc_worker_get(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request);
void torc_worker_pull(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request);

// True for an operation that torc_worker_note_gets notes.
static inline bool torc_worker_is_plain_get(const unsigned char *op, uint32_t length)
{
    return op[0] == TORC_OPCODE_GET && (op[1] & ~TORC_GET_VERSION_ONLY) == 0 &&
           length == TORC_WORKER_GET_BYTES;
}

// Bytes that the shortest answer to an operation takes, padded.
uint32_t torc_worker_op_owed(const unsigned char *op, uint32_t length);

// Whether the packet's principal may write the key.
static inline bool torc_worker_may_write(const struct torc_packet *packet, uint64_t key)
{
    const struct torc_session *session = packet->session;

    return (session->roles & TORC_ROLE_WRITE) != 0 &&
           (session->rights == NULL || torc_rights_cover(session->rights, key, key + 1));
}

// The answer to a write that it may not (torc_worker_may_write), with the reason; counted.
void torc_worker_forbid(struct torc_worker *worker, struct torc_packet *packet,
                        struct torc_answer *answer, const struct torc_request *request);

// Whether the packet's principal has this role (0: none is needed) and [lo, hi) is among its keys.
// What it may not is counted. hi below lo is somebody else's to refuse.
static inline bool torc_worker_may(struct torc_worker *worker, const struct torc_packet *packet,
                                   uint32_t role, uint64_t lo, uint64_t hi)
{
    const struct torc_session *session = packet->session;

    if (torc_unlikely(role != 0 && (session->roles & role) == 0)) {
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_FORBIDDEN_ROLE], 1);
        return false;
    }
    if (torc_unlikely(session->rights != NULL) && lo != TORC_WORKER_NO_KEYS &&
        !torc_rights_cover(session->rights, lo, hi)) {
        torc_stats_add(&worker->stats->counters[TORC_COUNTER_FORBIDDEN_RANGE], 1);
        return false;
    }
    return true;
}

// Too late before it began: its budget is below what it has waited already.
static inline bool torc_worker_is_late(const struct torc_worker *worker, uint32_t budget_us)
{
    return budget_us != 0 && (uint64_t)budget_us * 1000 < worker->queue_delay_ns;
}

// Whether this node serves at all now; else UNAVAILABLE with this info.
static inline bool torc_worker_serves(const struct torc_worker *worker, uint64_t *info)
{
    if (worker->serving && !worker->quiescing) {
        return true;
    }
    *info = torc_info_reason(worker->quiescing ? TORC_UNAVAILABLE_STOPPING
                                               : TORC_UNAVAILABLE_RECOVERING,
                             TORC_WORKER_WAIT_US);
    return false;
}

// -- worker_read.c --------------------------------------------------------------------------------

// Keeps what is needed to read as of `ts` until its reader has not been heard of for a while.
void torc_worker_pin(struct torc_worker *worker, uint64_t ts);

// Whether the shard can be read as of `ts` at once, until the next write; pins it for a while.
// BUSY: ask again; else the status to answer, with `info`.
enum torc_err torc_must_use torc_worker_past(struct torc_worker *worker, struct torc_shard *shard,
                                             uint64_t ts, uint64_t *info);

// Each turn while a get waits (past_until_ns): indexes as much as was written since the last one,
// and some more.
void torc_worker_past_on(struct torc_worker *worker);

// -- worker_write.c -------------------------------------------------------------------------------

// A write whose whole value is at `request->data`. *is_owed: begun, its answer comes later; else
// the answer that was given is returned. (PENDING is one: an earlier sending of it is begun.)
enum torc_err torc_worker_write(struct torc_worker *worker, struct torc_packet *packet,
                                struct torc_answer *answer, const struct torc_request *request,
                                bool *is_owed);

// The answer to a PUT or DELETE that has one now: sent with the packet, or with its other writes'.
void torc_worker_write_answer(struct torc_worker *worker, struct torc_packet *packet,
                              struct torc_answer *answer, const struct torc_request *request,
                              const struct torc_shard_outcome *outcome);

// Checks of a write that need neither engine nor log: key, size, shard, load. Not OK: it was
// answered.
enum torc_err torc_worker_write_check(struct torc_worker *worker, struct torc_packet *packet,
                                      struct torc_answer *answer,
                                      const struct torc_request *request, uint32_t *place);

// Applies what is durable, ends writes, wakes those that waited.
void torc_worker_commit(struct torc_worker *worker);

// Sends answers of writes that ended. False: no room for all.
bool torc_worker_send_ready(struct torc_worker *worker);

// The first `count` of the worker's outcomes are answered; what waited for them is evaluated.
void torc_worker_ended(struct torc_worker *worker, uint32_t count);

// Its writes will have no answer here: another replica is the primary now.
void torc_worker_writes_forget(struct torc_worker *worker, const struct torc_shard *shard);

// Before a packet with writes is answered: which of its allowance they need. After it: sends its
// answers, or keeps those that must wait for its writes.
void torc_worker_writes_begin(struct torc_worker *worker, struct torc_packet *packet,
                              struct torc_answer *answer);
void torc_worker_writes_end(struct torc_worker *worker, struct torc_packet *packet,
                            struct torc_answer *answer);

// Ends waiting writes whose deadline passed, and all writes when the log has failed.
void torc_worker_sweep_writes(struct torc_worker *worker);

// CANCEL of a waiting write; true when there was one.
bool torc_worker_cancel_write(struct torc_worker *worker, uint64_t serial, uint32_t op_id);

// -- worker_put.c ---------------------------------------------------------------------------------

// A PUT in pieces, a piece, a question for what is missing.
void torc_worker_put_begin(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const struct torc_request *request);
void torc_worker_put_piece(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const struct torc_request *request);
void torc_worker_put_query(struct torc_worker *worker, struct torc_packet *packet,
                           struct torc_answer *answer, const struct torc_request *request);

// The write that these pieces were for has its outcome: their memory is free.
void torc_worker_put_ended(struct torc_worker *worker, uint64_t serial, uint32_t op_id);

// -- worker_map.c ---------------------------------------------------------------------------------

// BUSY: control is amid a change of it.
enum torc_err torc_worker_map_read(struct torc_worker *worker, struct torc_fail *why);
void torc_worker_map(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request);
void torc_worker_clock(struct torc_worker *worker, struct torc_answer *answer,
                       const struct torc_request *request);

// The replica's configuration is newer than what control's table says.
void torc_worker_map_learn(struct torc_worker *worker, const struct torc_worker_shard *shard);

// What to answer for a key whose shard is not ready here: WRONG_SHARD or UNAVAILABLE, and `info`.
enum torc_err torc_worker_not_here(const struct torc_worker *worker, uint64_t key, uint64_t *info);

// Adds the map's entry of `key`, and its primary's node, behind a WRONG_SHARD if there is room.
void torc_worker_map_attach(struct torc_worker *worker, struct torc_packet *packet,
                            struct torc_answer *answer, uint32_t op_id, uint64_t key);

// -- worker_status.c ------------------------------------------------------------------------------

void torc_worker_status(struct torc_worker *worker, struct torc_answer *answer,
                        const struct torc_request *request);
void torc_worker_gauges(struct torc_worker *worker);

// -- worker_pack.c --------------------------------------------------------------------------------

// Begins a sweep if it would win enough; now and then.
void torc_worker_pack_look(struct torc_worker *worker);
// A few leaves of it; true: call again.
bool torc_worker_pack_step(struct torc_worker *worker);
// Gives sparse chunks of trees back, some microseconds' worth, if it is time. True while there is
// more.
bool torc_worker_compact_step(struct torc_worker *worker, bool busy);
// The page's rows of memory.
void torc_worker_books(struct torc_worker *worker);

// -- worker_order.c, worker_recover.c -------------------------------------------------------------

// Orders, marks; at most a bounded number a turn. True: some are left.
bool torc_worker_take_orders(struct torc_worker *worker);
// Reads the map if that is owed since control was amid a change of it.
void torc_worker_map_step(struct torc_worker *worker);
void torc_worker_take_marks(struct torc_worker *worker);
void torc_worker_alarm(struct torc_worker *worker, enum torc_err err, uint32_t shard,
                       const char *text);
// The same of what keeps this worker, or the shard, from ever getting ready: a start fails by it,
// and by no other alarm, since replicas are alive already while others are rebuilt.
void torc_worker_not_ready(struct torc_worker *worker, uint32_t shard, const struct torc_fail *why);
bool torc_worker_say(struct torc_worker *worker, const struct torc_evt *event);

// The shard of that number; NULL: not of this worker.
struct torc_worker_shard *torc_worker_shard_number(const struct torc_worker *worker,
                                                   uint32_t number);

// Recovery data; true: some is left.
bool torc_worker_take_recovery(struct torc_worker *worker);
void torc_worker_recovered(struct torc_worker *worker);
// All workers of the node have: a client that heard one of them must not be ahead of another.
void torc_worker_recovered_all(struct torc_worker *worker);

// Opens lives of shards whose replay is done, tells control of those that are active.
void torc_worker_open_shards(struct torc_worker *worker);

// Has the log say how far shards are committed where it says too little: their replay would hold
// more than there is room for. `all`: wherever it says less than is known. True: it wrote some.
bool torc_worker_note_commits(struct torc_worker *worker, bool all);

// The next block of a checkpoint. True: there is more to do.
bool torc_worker_checkpoint_step(struct torc_worker *worker);

// Appends a record that an engine wants logged.
void torc_worker_append(struct torc_worker *worker, struct torc_shard *shard,
                        const struct torc_log_record *record);

// -- neighbour.c: see neighbour.h -----------------------------------------------------------------

#endif
