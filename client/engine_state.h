// Torc client: what the engine keeps; private to client/*.c of the engine.
//
// What    the tables of engine.h and the calls between its files:
//           engine.c   life, clock, transmit and receive, completions
//           lists.c    operations: slots, lists, states, ends
//           call.c     one operation: encode, answer, retry, deadline
//           trace.c    where the time of a traced operation went
//           mtu.c      how large packets to a node may be
//           path.c     packets in flight, round-trip times, windows, the retry budget
//           nodes.c    table of nodes
//           node.c     nodes and their sessions: beginning, rollover, NOSESSION; what comes in
//           shake.c    handshakes
//           send.c     packets to a node
//           route.c    shard map: lookup, updates, questions
//           scout.c    what becomes of a shard whose primary does not answer or serve
//           stale.c    reads that may be a little old: which copy of the shard is asked
//           big.c      values over one packet: fragments out, pulls in
//           range.c    ranges: scans of a page's holes, tiles; page.c makes rows of tiles
// Owner   the engine's thread.
// Memory  inside the engine's mapping. Operations and packets are named by index: nothing here
//         holds a pointer into a table that could be stale; an operation's id carries a generation.
#ifndef TORC_CLIENT_ENGINE_STATE_H
#define TORC_CLIENT_ENGINE_STATE_H

#include "client/engine.h"
#include "client/pool.h"
#include "client/wheel.h"
#include "kit/hlc.h"
#include "kit/rng.h"
#include "wire/data.h"
#include "wire/handshake.h"
#include "wire/map.h"
#include "wire/op.h"
#include "wire/rows.h"
#include "wire/session.h"

#include <string.h>

#define TORC_OP_NONE         UINT32_MAX
#define TORC_OP_INLINE_BYTES 256u
#define TORC_OP_TEXT_BYTES   160u
#define TORC_OP_SLOT_BITS    18u  // 65 536 of callers, and as many of ours at most
#define TORC_OPS_OWN         768u // for parts of ranges, map questions, probes, scouts
#define TORC_OPS_KEPT        64u  // of them, which ranges leave to the others
#define TORC_OPS_KEPT_MAP    1u   // and which all leave to the map's questions
#define TORC_TRIES_MAX       200u // attempts are told apart by 8 bits, and only so many fit
#define TORC_ATTEMPT_NONE    UINT32_MAX
#define TORC_WINDOW_SHIFT    8u // windows in 1/256 packets
#define TORC_WINDOW_PACKETS  64u
#define TORC_INBOUND_BYTES   262144u // of replies allowed and not yet come, one lane
#define TORC_PAGE_SCANS_MAX  8u
#define TORC_PAGE_ROWS_MAX   262144u
#define TORC_PAGE_ROW_BYTES  32u // what a row counts beside its value

enum torc_op_kind {
    TORC_OP_GET = 1,
    TORC_OP_WRITE, // put, delete
    TORC_OP_STATUS,
    TORC_OP_PAGE, // a range or count of the caller: waits for its scans
    TORC_OP_SCAN, // one RANGE_READ for a page, or one CLOCK for a snapshot's
    TORC_OP_MAP,
    TORC_OP_PROBE, // PING of a packet size
    TORC_OP_SCOUT  // MAP of one key, from a member that is not its primary; again and again
};

enum torc_op_state {
    TORC_OP_FREE = 0,
    TORC_OP_QUEUED,    // on its path's list
    TORC_OP_SENT,      // on its packet's list; the timer is the time-out
    TORC_OP_STREAMING, // a large put between pieces; the timer is the time-out
    TORC_OP_WAITING,   // the timer says when to try again
    TORC_OP_PARKED,    // on the engine's list, until a session or a map entry comes
    TORC_OP_HELD,      // a page: its scans work; others: on `starved` or `unnumbered`, or nowhere
    TORC_OP_DONE,      // on the list of completions
    TORC_OP_RETURNED   // given to the caller; freed by the next poll
};

// Which list a HELD operation is on, and one that WAITs or STREAMs for the retry budget.
enum torc_op_hold {
    TORC_HOLD_NONE = 0,
    TORC_HOLD_STARVED,    // no pool memory or no slot: tried again when some was freed
    TORC_HOLD_UNNUMBERED, // a write without a sequence number: the write window is full
    TORC_HOLD_OWING       // WAITING or STREAMING: on `owing`, until the retry budget has room
};

struct torc_list {
    uint32_t head;
    uint32_t tail;
    uint32_t count;
};

struct torc_op {
    uint64_t key; // of a scan: lo
    uint64_t deadline_ns;
    uint64_t version; // asked for; then answered
    uint8_t *data;    // value: inline, or a pool block when `owns_block`
    uint32_t bytes;   // of data; of a probe: the payload tried
    uint32_t generation;
    uint32_t next; // in the list that the state names
    uint32_t previous;
    uint32_t packet; // the newest that carries it
    uint32_t epoch;  // of the last attempt
    uint16_t node;   // index in nodes
    uint8_t core;
    uint8_t shard; // of 64, the one that stands for its shard in a packet's bits
    uint8_t kind;
    uint8_t state;
    uint8_t hold;
    uint8_t flags; // of the caller
    uint8_t status;
    uint8_t condition;
    uint8_t last_refusal; // the status that made it try again
    bool is_delete;
    bool owns_block;
    bool fixed_node;    // `node` and `core` are not the map's business
    bool to_first_node; // once there is one
    bool traced;        // of the caller: its time is told apart
    bool awaited;       // of the caller: accepted, and not yet returned
    bool at_copy;       // its place is a copy that is not the primary (stale.c)
    bool to_primary;    // the next one is not
    bool asked;         // the map was asked for, since no node is known that has it
    uint32_t age_ms;    // of a read: how old what it sees may be; 0: linearizable
    uint16_t backoff;   // time-outs in a row
    uint32_t parent;    // of a scan or a page's get: the page; TORC_OP_NONE: the caller's own
    uint32_t part;      // of a scan: its place in the page's; of a page's get: its row
    uint64_t user_data;
    uint64_t hi;
    uint64_t ts;               // of a get: as of this moment; 0: now
    uint64_t wseq;             // 0: none yet
    uint64_t stamp;            // of a write; 0: not sent yet, nor waiting to be
    uint64_t hlc;              // highest seen when it began, which its packets carry; 0: none
    uint64_t count;            // of a count
    uint64_t asked_version;    // of a condition
    uint64_t last_info;        // that came with last_refusal
    uint16_t attempts;         // sendings of a write
    uint16_t first_at_epoch;   // attempt number
    uint16_t first_in_session; // of the session of the last attempt
    uint16_t sent_node;
    uint8_t sent_session;
    uint32_t sent_epoch; // highest of its attempts
    uint16_t refusals;
    uint16_t wrong_shards;
    bool owes;           // it was refused for load: another sending is the retry budget's
    bool lent;           // and that sent it again
    uint16_t credit;     // of a scan or pull: reply packets allowed
    uint16_t chunks;     // of a scan: came since it was sent
    uint16_t chunks_all; // of a scan: how many there are, once the last one came
    uint32_t total;      // of a status: bytes of the whole text
    uint64_t begun_ns;
    uint32_t sends;            // of a traced one
    uint64_t refused[4];       // attempts that were definitely refused, by number
    struct torc_big *big;      // pieces out or in, in a pool block
    struct torc_big *big_room; // of a put that may need it: that block, taken with the value
    struct torc_page_state *page;
};

// A packet in flight. One piece of a large put: `ops` is empty, `stream` names the operation.
struct torc_packet {
    uint64_t sent_ns;
    uint64_t seq;
    struct torc_list ops;
    uint32_t next; // of the same path, in order of sending, until answered
    uint32_t previous;
    uint32_t inbound; // reply bytes allowed
    uint32_t bytes;
    uint32_t stream; // operation, or TORC_OP_NONE
    uint32_t piece;
    uint64_t rto_ns; // of its operations that never timed out; 0: not asked for yet
    uint64_t shards; // of its writes, see torc_op
    uint64_t done;   // of these, those with a write that was done
    uint32_t turn;   // its place among all that were opened; wraps
    uint16_t node;
    uint8_t core;
    uint8_t passed;  // later packets that were answered
    uint8_t session; // of its node that it went out in
    bool used;
    bool open; // counts in the window: neither answered nor lost
    bool is_write;
    bool is_probe;
    bool is_long; // its answer is many packets: order says nothing about loss
};

// Reads and writes to one core travel in packets of their own: an answer waits for the slowest of
// its packet, and a write's is the disk's.
struct torc_client_path {
    struct torc_list queues[2];  // operations to send: reads, writes
    struct torc_list packets[2]; // open ones, in order of sending
    uint64_t read_srtt_ns;
    uint64_t read_var_ns;
    uint64_t write_srtt_ns;
    uint64_t write_var_ns;
    uint64_t heard_ns;
    uint32_t ops_in_flight;
};

enum torc_client_node_state {
    TORC_NODE_IDLE = 0, // no session, none asked for
    TORC_NODE_SHAKING,  // no session yet
    TORC_NODE_UP,
    TORC_NODE_GONE // an alias of another entry
};

#define TORC_NODE_ADDRESSES  4u
#define TORC_NODE_INDEX_BITS 12u // low ones of a session's index: the node's place in the table
#define TORC_NODE_SLOT_BITS  12u

// Where a node is, as somebody said.
struct torc_client_place {
    uint8_t addresses[TORC_NODE_ADDRESSES][16]; // as in torc_endpoint
    uint8_t count;                              // 0: not known
    bool by_core;       // each core has its own; else any is the whole node's
    uint16_t base_port; // of core 0
};

#define TORC_NODE_NAME_BYTES 64u
#define TORC_SHAKE_EVERY_NS  UINT64_C(1000000000) // handshakes with a node that hints may cause

// mtu.c: how large packets may be.
struct torc_client_mtu {
    uint32_t op;       // the probe in flight; TORC_OP_NONE
    uint32_t control;  // the small one behind it; TORC_OP_NONE
    bool alive;        // such a one was answered
    bool leap;         // the probe is the first one, of the largest size
    uint64_t climb_ns; // the next climb, once the node is heard of; UINT64_MAX: none
    uint64_t pause_ns; // up to the climb after that
    uint64_t check_ns; // no check before
    bool check_due;    // one is to be made then
};

struct torc_client_node {
    uint32_t id;                    // TORC_NODE_UNKNOWN: a seed
    uint32_t path_count;            // paths that were ever used
    struct torc_client_path *paths; // [256]
    uint16_t index;
    uint8_t state;
    uint8_t cores;
    bool shaking; // a handshake is in progress (also beside a live session)
    bool init_due;
    bool close_due;
    bool previous_close_due;
    uint8_t session;   // number of the live one: packets are told apart by it and their seq
    bool session_lost; // NOSESSION came, or a long silence: what flies will not be answered
    bool has_previous;
    bool has_ticket;
    uint8_t address; // of its place: where it answered
    uint8_t turn_to; // of all addresses, the place's and then those of the news: of the next INIT
    struct torc_client_place place;
    struct torc_client_place news; // what was told since, or its place of before
    uint64_t boot;
    uint64_t heard_ns;
    uint64_t refused_ns;  // when it last refused something for load; 0: never
    uint64_t doubt_ns;    // what waits for it is looked through no earlier (scout.c)
    uint64_t stale_ns;    // until then other copies are asked first (stale.c)
    uint32_t stale_fails; // in a row, pauses apart
    uint64_t ahead_ns;    // when it last said CLOCK_AHEAD; 0: never
    uint64_t ahead_us;    // of the highest HLC that it took then
    uint64_t shake_since_ns;
    uint64_t shake_at_ns;    // the next INIT
    uint64_t shake_again_ns; // earliest next one beside a session
    uint64_t renew_ns;       // when the session is to be replaced; 0: no session
    uint64_t previous_ns;    // when the one before is closed: nothing of it is awaited any more
    uint32_t shake_tries;
    uint32_t payload; // bytes of packets to it and of its answers, at most: a probe proved it
    struct torc_client_mtu mtu;
    uint64_t waiting[4]; // bit per core: its path has operations queued
    uint32_t turn;       // the core that is served next, twice: reads, writes
    uint32_t window;     // in 1/256 packets
    uint32_t window_max;
    uint32_t window_before; // the last loss; 0: nothing to undo
    uint64_t last_rtt_ns;
    uint32_t in_flight; // packets
    uint32_t probes;    // of them, which the window does not count
    uint64_t base_rtt_ns;
    uint64_t base_next_ns; // least of the present 10 s, which becomes base_rtt_ns
    uint64_t base_until_ns;
    uint64_t round_rtt_ns; // least of the present round of samples
    uint32_t round_count;
    uint64_t cut_until_ns; // at most one decrease per round trip
    uint64_t pace_until_ns;
    uint32_t time_outs; // in a row
    uint8_t ticket[TORC_COOKIE_BYTES];
    struct torc_handshake shake;
    struct torc_lane lane;     // the live session
    struct torc_lane previous; // receives only
    struct torc_accept limits;
};

// scout.c. Of one shard; which one: its number modulo TORC_SCOUTS.
struct torc_scout {
    uint64_t began_ns;
    uint64_t wanted_ns;  // an operation was not answered in time, or found no session
    uint64_t refused_ns; // or the primary said that it cannot
    uint64_t again_ns;   // the next question
    uint64_t held_ns;    // until then `held_by` is about to ask the candidate again
    uint32_t held_by;    // id of an operation
    uint32_t held_shard;
    uint32_t shard;
    uint32_t epoch; // of the entry that is doubted
    uint8_t turn;   // the member that was asked last
    bool active;
    bool holds; // an operation of held_shard was told TAKING_OVER, and none was done since
};

#define TORC_SCOUTS         1024u
#define TORC_SCOUT_FIRST_NS UINT64_C(8000000) // REPLICATION.md: client_probe

struct torc_engine {
    struct torc_engine_config config;
    struct torc_pool pool;
    struct torc_wheel wheel;
    struct torc_rng rng;
    uint64_t now_ns;
    uint64_t wall_us;
    uint64_t hlc; // highest seen, and when: an estimate of the present follows
    uint64_t hlc_at_ns;
    uint32_t reply_clock_us; // of the packet that is being read: our clock when its request left
    uint8_t reply_session;   // and the session that it came in
    uint8_t reply_core;
    uint16_t reply_node;
    uint32_t marked; // the operation whose answer that is, with a TRACE; TORC_OP_NONE
    struct torc_trace_marks marks;
    bool has_trace;
    struct torc_trace trace; // of the traced operation that ended last
    bool closing;
    bool entropy_ready; // for the next INIT
    struct torc_handshake_entropy entropy;
    bool feed_due; // something was freed that a starved operation may want

    // operations
    struct torc_op *ops;
    uint8_t *inlines;
    char *texts;
    uint32_t op_count;
    struct torc_list free_own;
    struct torc_list free_caller;
    struct torc_list parked;
    struct torc_list starved;
    struct torc_list unnumbered;
    struct torc_list owing; // first come, first sent again, but for the oldest write
    struct torc_list done;
    struct torc_list returned;
    uint32_t pending;

    // exactly once
    uint64_t wseq_next;
    uint64_t wseq_low;
    uint64_t *wseq_open; // bit per wseq outstanding, modulo WSEQ_SPAN
    uint32_t *wseq_ops;  // and whose each is
    uint64_t write_window;

    // packets in flight
    struct torc_packet *packets;
    uint32_t packet_count;
    struct torc_list free_packets;
    uint32_t packet_turn; // of the next that is opened
    uint64_t budget;      // resends allowed, in 1/1000
    uint64_t budget_at_ns;
    uint64_t inbound; // reply bytes allowed and not yet come
    uint32_t value_mean;
    uint32_t row_mean;

    // nodes
    struct torc_client_node *nodes;
    struct torc_client_path *paths;                          // 256 of each
    uint16_t node_slots[1u << TORC_NODE_SLOT_BITS];          // by id: index + 1; 0: none
    uint64_t nodes_busy[(TORC_ENGINE_NODES_MAX + 63u) / 64]; // bit a node: it may have to send
    uint32_t node_count;
    uint32_t first_node; // of the first session; UINT32_MAX before
    uint32_t node_turn;

    // map
    struct torc_map map;
    uint64_t cluster;
    uint64_t keys; // M; 0 before the first session
    uint64_t value_bytes_max;
    uint64_t deadline_ns_max;
    bool map_fresh;
    uint32_t map_op; // the question in flight
    uint64_t map_again_ns;
    uint64_t silent_again_ns;
    bool redirect_due; // a shard has another primary than before
    struct torc_scout *scouts;

    struct torc_counters counters;
    struct torc_fail trouble; // the last reason why a node cannot be reached
};

#define TORC_WSEQ_SPAN 65536u // the most that a server may publish as its write window

// ---- lists.c: operations and their life
void torc_list_init(struct torc_list *list);

static inline void torc_ops_push(struct torc_engine *engine, struct torc_list *list, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    op->next = TORC_OP_NONE;
    op->previous = list->tail;
    if (list->tail != TORC_OP_NONE) {
        engine->ops[list->tail].next = index;
    } else {
        list->head = index;
    }
    list->tail = index;
    list->count++;
}

static inline void torc_ops_push_front(struct torc_engine *engine, struct torc_list *list,
                                       uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    op->previous = TORC_OP_NONE;
    op->next = list->head;
    if (list->head != TORC_OP_NONE) {
        engine->ops[list->head].previous = index;
    } else {
        list->tail = index;
    }
    list->head = index;
    list->count++;
}

static inline void torc_ops_remove(struct torc_engine *engine, struct torc_list *list,
                                   uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    torc_assert(list->count > 0);
    if (op->previous != TORC_OP_NONE) {
        engine->ops[op->previous].next = op->next;
    } else {
        torc_assert(list->head == index);
        list->head = op->next;
    }
    if (op->next != TORC_OP_NONE) {
        engine->ops[op->next].previous = op->previous;
    } else {
        torc_assert(list->tail == index);
        list->tail = op->previous;
    }
    list->count--;
}

// The first `count` of a list become `front`, which was empty.
void torc_ops_split(struct torc_engine *engine, struct torc_list *list, uint32_t count,
                    struct torc_list *front);

// TORC_OP_NONE when all slots are taken.
uint32_t torc_op_take(struct torc_engine *engine, bool own);
// Of our own, as long as more than `kept` are free.
uint32_t torc_op_take_own(struct torc_engine *engine, uint32_t kept);
void torc_op_free(struct torc_engine *engine, uint32_t index);
// Takes it off whatever list it is on; the timer stays.
void torc_op_unlink(struct torc_engine *engine, uint32_t index);
// To the list of its state. Sends it where the map says; parks it when that is not known.
void torc_op_route(struct torc_engine *engine, uint32_t index);
// To the end of its path's queue, `front`: to its start. Its place was chosen before.
void torc_op_queue(struct torc_engine *engine, uint32_t index, bool front);
// From its path's queue into a packet; the timer is its time-out.
void torc_op_sent(struct torc_engine *engine, uint32_t index, uint32_t packet);
// A large put between two pieces.
void torc_op_stream(struct torc_engine *engine, uint32_t index);
// One that WAITs or STREAMs stays so until the retry budget has room for it, or its deadline.
void torc_op_owe(struct torc_engine *engine, uint32_t index);
// Tries again at at_ns, or ends it when its deadline comes first.
void torc_op_wait(struct torc_engine *engine, uint32_t index, uint64_t at_ns);
void torc_op_hold(struct torc_engine *engine, uint32_t index, enum torc_op_hold hold);
// Ends it: a completion, or news for the page that it works for. `format` NULL: no text.
void torc_op_end(struct torc_engine *engine, uint32_t index, enum torc_err status,
                 const char *format, ...) torc_printf_like(4, 5);
uint32_t torc_op_id(const struct torc_engine *engine, uint32_t index);
// The operation in flight with this id; TORC_OP_NONE when there is none any more.
uint32_t torc_op_find(const struct torc_engine *engine, uint32_t id);
// Room for `bytes` of value in the operation; false when the pool has none.
bool torc_op_reserve(struct torc_engine *engine, uint32_t index, uint64_t bytes);
char *torc_op_text(const struct torc_engine *engine, uint32_t index);
// Parked operations find their way again (after a session or map entries came).
void torc_engine_unpark(struct torc_engine *engine);
// Starved ones try again (after memory or slots were freed).
void torc_engine_feed(struct torc_engine *engine);

// ---- call.c
// Bytes the operation takes in a packet, padded.
uint32_t torc_call_bytes(const struct torc_op *op);
// Reply bytes to allow for it.
uint32_t torc_call_reply_bytes(const struct torc_engine *engine, const struct torc_op *op);
// Writes it; returns its padded bytes.
uint32_t torc_call_encode(struct torc_engine *engine, uint32_t index, uint8_t *to);
// Fills what requests have in common; the budget is what is left until the deadline.
void torc_call_request(const struct torc_engine *engine, uint32_t index,
                       struct torc_request *request);
// A write's fields; counts the attempt.
void torc_call_attempt(struct torc_engine *engine, uint32_t index, struct torc_request *request);
void torc_call_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);
// A sequence number for a write; false: the window is full.
bool torc_call_number(struct torc_engine *engine, struct torc_op *op);
// Its wseq is finished: `lowest outstanding` may pass it.
void torc_call_outcome_known(struct torc_engine *engine, struct torc_op *op);
void torc_call_timer(struct torc_engine *engine, uint32_t index);
// ---- trace.c
// A traced operation begins, here and now.
void torc_trace_begin(struct torc_engine *engine, uint32_t index);
// The answer to an operation is about to be taken, and what follows it in its packet at `rest`:
// whether its TRACE is there.
void torc_trace_mark(struct torc_engine *engine, uint32_t op_id, const uint8_t *rest,
                     uint32_t rest_bytes);
// The operation has ended.
void torc_trace_end(struct torc_engine *engine, uint32_t index);
// The server refused that attempt of a write: no copy of it was or will be executed. NONE: it
// refused something else of it, which proves nothing.
void torc_call_refused(struct torc_engine *engine, uint32_t index, uint32_t attempt,
                       enum torc_err status, uint64_t info);
// How long it waits before it is tried again after that refusal.
uint64_t torc_call_pause_ns(struct torc_engine *engine, const struct torc_op *op,
                            enum torc_err status, uint64_t info);
// A write that was not done so far, with so little time left that one more sending would leave it
// in doubt: what was said of it stands.
bool torc_call_gives_up(struct torc_engine *engine, const struct torc_op *op);
// A value came whole.
void torc_call_value(struct torc_engine *engine, uint32_t index, const uint8_t *bytes,
                     uint32_t byte_count);

// ---- path.c
struct torc_client_path *torc_op_path(struct torc_engine *engine, const struct torc_op *op);
// A packet that the window counts, or a probe.
bool torc_node_may_send(const struct torc_engine *engine, const struct torc_client_node *node);
bool torc_node_may_probe(const struct torc_engine *engine, const struct torc_client_node *node);
uint64_t torc_path_rto_ns(struct torc_engine *engine, const struct torc_op *op);
// Whether it has waited for long and has too little time left for its answer, or for a second try.
bool torc_path_is_late(const struct torc_engine *engine, const struct torc_client_path *path,
                       const struct torc_op *op);
uint32_t torc_packet_open(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                          bool is_write);
// Of a piece: it is over.
void torc_packet_end(struct torc_engine *engine, uint32_t index);
// An operation of it was answered.
void torc_packet_answered(struct torc_engine *engine, uint32_t index);
// A write, in flight, was done, and this is the answer to its newest sending.
void torc_packet_written(struct torc_engine *engine, uint32_t op_index);
void torc_packet_lost(struct torc_engine *engine, uint32_t index);
// An answer came to what was taken for lost: the window is as before (Eifel, RFC 4015).
void torc_path_not_lost(struct torc_client_node *node);
void torc_packet_drop(struct torc_engine *engine, uint32_t index); // with its session: no judgement
// The open one that went out in that session of the node with that number.
struct torc_packet_name {
    uint64_t seq;
    uint8_t core;
    uint8_t session;
};
uint32_t torc_packet_find(const struct torc_engine *engine, const struct torc_client_node *node,
                          const struct torc_packet_name *name);
// The operation leaves its packet, which is freed with its last one.
void torc_packet_leave(struct torc_engine *engine, uint32_t op_index);
void torc_packet_enter(struct torc_engine *engine, uint32_t index, uint32_t op_index);
void torc_path_sample(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                      uint64_t rtt_ns, uint64_t hold_ns, bool has_write);
void torc_path_ce(struct torc_engine *engine, struct torc_client_node *node);
// The node did not take a packet.
void torc_path_refused(struct torc_engine *engine, struct torc_client_node *node);
// True, and one less, when the retry budget allows a resend.
bool torc_budget_take(struct torc_engine *engine);
void torc_budget_sent(struct torc_engine *engine, uint32_t ops);
// The node did what it had refused, or not answered, before.
void torc_budget_proved(struct torc_engine *engine, const struct torc_client_node *node);
// Those that owe go again as far as the budget allows.
void torc_budget_serve(struct torc_engine *engine);
// When it allows the next; UINT64_MAX when nobody owes.
uint64_t torc_budget_deadline_ns(const struct torc_engine *engine);
// value ± 10 %
uint64_t torc_engine_jitter(struct torc_engine *engine, uint64_t value);

// ---- mtu.c
void torc_mtu_init(struct torc_client_node *node);
// A session with the node begins, the first one or another.
void torc_mtu_session(struct torc_engine *engine, struct torc_client_node *node);
// A packet of the node came.
void torc_mtu_heard(struct torc_engine *engine, struct torc_client_node *node);
// A packet, or its answer, was lost: perhaps it was too large.
void torc_mtu_suspect(struct torc_engine *engine, struct torc_client_node *node);
// At the node's timer: makes the check that was put off.
void torc_mtu_timer(struct torc_engine *engine, struct torc_client_node *node);
// What happens to a PROBE: its answer, its time-out, its deadline, its end whatever ended it.
void torc_mtu_answer(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);
void torc_mtu_overdue(struct torc_engine *engine, uint32_t index);
void torc_mtu_deadline(struct torc_engine *engine, uint32_t index);
void torc_mtu_end(struct torc_engine *engine, uint32_t index);
// A PING in a packet of that size; false: no slot. *index: its operation.
bool torc_node_ping(struct torc_engine *engine, const struct torc_client_node *node, uint32_t bytes,
                    uint32_t *index);

// ---- nodes.c
// NULL: not known. Seeds that did not say who they are have no number to be found by.
struct torc_client_node *torc_node_of_id(struct torc_engine *engine, uint32_t id);
bool torc_node_is_known(const struct torc_engine *engine, uint32_t id);
// NULL when the table is full.
struct torc_client_node *torc_node_add(struct torc_engine *engine, uint32_t id);
// It is now known to have that number.
void torc_node_named(struct torc_engine *engine, struct torc_client_node *node, uint32_t id);
// And so many cores.
void torc_node_cores(struct torc_client_node *node, uint8_t cores);

// It may have something to send: whoever gives it something says so.
static inline void torc_node_stir(struct torc_engine *engine, const struct torc_client_node *node)
{
    engine->nodes_busy[node->index / 64] |= UINT64_C(1) << (node->index % 64);
}

// It sent nothing when it was asked to: if it had nothing, it is not asked again.
void torc_node_rest(struct torc_engine *engine, const struct torc_client_node *node);
// The next one, from `index` on, that may have something to send; node_count: none.
uint32_t torc_node_busy_from(const struct torc_engine *engine, uint32_t index);

// ---- node.c
void torc_node_learn(struct torc_engine *engine, const struct torc_node_entry *entry);
void torc_node_arm(struct torc_engine *engine, const struct torc_client_node *node);
// For people.
void torc_node_name(const struct torc_client_node *node, char text[TORC_NODE_NAME_BYTES]);
void torc_node_accepted(struct torc_engine *engine, struct torc_client_node *node,
                        const struct torc_accept *accept);
void torc_node_timer(struct torc_engine *engine, struct torc_client_node *node);
// Where a packet for that core goes.
void torc_node_where(const struct torc_client_node *node, uint8_t core, struct torc_endpoint *to);
// Where an INIT goes; the next address, after one that was not answered; and the one that answered.
void torc_node_where_init(const struct torc_client_node *node, struct torc_endpoint *to);
void torc_node_turn(struct torc_client_node *node);
void torc_node_answered(struct torc_client_node *node, const struct torc_endpoint *from);
// The session before the live one is over: its keys are forgotten.
void torc_node_previous_end(struct torc_client_node *node);
void torc_node_receive(struct torc_engine *engine, const struct torc_endpoint *from,
                       uint8_t *payload, uint32_t bytes);
bool torc_node_has_work(const struct torc_client_node *node);
uint64_t torc_engine_hlc(const struct torc_engine *engine); // the present, estimated
// CLOCK_AHEAD came, with that clock.
void torc_node_ahead(const struct torc_engine *engine, struct torc_client_node *node,
                     uint64_t clock_hlc);
// When the operation's node takes what it carries: not before now, and now when nothing is known.
uint64_t torc_node_takes_ns(const struct torc_engine *engine, const struct torc_op *op);

// ---- shake.c
// A handshake with the node, unless one is on its way, or one beside a session was begun within
// TORC_SHAKE_EVERY_NS.
// `cookie`: that of a NOSESSION, or NULL: the ticket, if there is one.
void torc_node_shake(struct torc_engine *engine, struct torc_client_node *node,
                     const uint8_t *cookie);
void torc_node_shake_timer(struct torc_engine *engine, struct torc_client_node *node);
// A packet that may belong to a handshake.
void torc_handshake_packet(struct torc_engine *engine, const struct torc_endpoint *from,
                           const uint8_t *payload, uint32_t bytes);
// No handshake will follow: its secrets and the key are wiped.
void torc_shakes_forget(struct torc_engine *engine);

// ---- send.c
bool torc_node_transmit(struct torc_engine *engine, struct torc_client_node *node,
                        struct torc_datagram *datagram);

// ---- route.c
const struct torc_map_entry *torc_route_find(const struct torc_engine *engine, uint64_t key);
void torc_route_ask(struct torc_engine *engine);
// A node does not answer: another one is asked for the map, as often as K3 has it.
void torc_route_silent(struct torc_engine *engine);
// A MAP_ENTRY or NODE_ENTRY among the replies of a packet.
void torc_route_entry(struct torc_engine *engine, const struct torc_reply *reply);
void torc_route_answer(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);

// Operations under an older epoch than their shard's go to its primary.
void torc_route_redirect(struct torc_engine *engine);
// Its primary, if the edge reaches one node alone and that is another; else 0.
uint32_t torc_route_beyond(const struct torc_engine *engine, const struct torc_op *op);
// Whom to ask for the map.
uint16_t torc_route_teller(const struct torc_engine *engine, const struct torc_op *op);

// ---- scout.c
// Whether the key's shard has members beside its primary.
bool torc_scout_applies(const struct torc_engine *engine, const struct torc_op *op);
// The primary of the operation's shard owes an answer, or a session: at_ns others are asked about
// it, unless it has done something by then. `refused`: it says itself that it cannot.
void torc_scout_call(struct torc_engine *engine, uint32_t index, uint64_t at_ns, bool refused);
// The node is silent: the same for what waits to be sent to it.
void torc_scout_doubt(struct torc_engine *engine, struct torc_client_node *node);
void torc_scout_timer(struct torc_engine *engine, uint32_t index);
void torc_scout_reply(struct torc_engine *engine, uint32_t index);
void torc_scout_end(struct torc_engine *engine, uint32_t index);
// TAKING_OVER: how long the operation waits. One of a shard asks again, the others are held back.
uint64_t torc_scout_hold_ns(struct torc_engine *engine, uint32_t index, uint64_t told_us);
// The shard of the key serves: whoever is held back goes.
void torc_scout_release(struct torc_engine *engine, uint64_t key);

// ---- stale.c
// The copy that a read of a bounded age goes to; NULL: the primary, as all that is no such read.
const struct torc_map_member *torc_stale_member(struct torc_engine *engine, struct torc_op *op,
                                                const struct torc_map_entry *shard);
// A refusal of such a read; false: it is treated as that of any other.
bool torc_stale_refused(struct torc_engine *engine, uint32_t index, enum torc_err status,
                        uint64_t info);
// A copy did not answer it in time. What waits for that copy goes to others.
void torc_stale_silent(struct torc_engine *engine, uint32_t index);
// It was answered.
void torc_stale_answered(struct torc_engine *engine, const struct torc_op *op);

// ---- big.c
struct torc_big;
bool torc_big_wanted(const struct torc_engine *engine, const struct torc_op *op);
// Whether its pieces have the size that packets have now.
bool torc_big_fits(const struct torc_engine *engine, const struct torc_op *op);
// What a put takes to be sent in pieces, however small they are, if it may have to be; with its
// value: puts that wait for such memory while others' values fill it would wait for each other.
// False: no memory.
bool torc_big_reserve(struct torc_engine *engine, uint32_t index);
// A put of many pieces begins, or begins again.
void torc_big_begin(struct torc_engine *engine, uint32_t index);
// Writes the next piece, or a question. *piece: its number, TORC_OP_NONE for a question. Room:
// TORC_PAYLOAD_MIN.
uint32_t torc_big_encode(struct torc_engine *engine, uint32_t index, uint8_t *to, uint32_t *piece);
// A question behind the piece in the same packet; its padded bytes.
uint32_t torc_big_ask(const struct torc_engine *engine, uint32_t index, uint8_t *to);
bool torc_big_has_more(const struct torc_op *op);
// The budget has room for one more piece.
void torc_big_grant(struct torc_engine *engine, uint32_t index);
// Pieces that were sent and are not known to have come.
uint32_t torc_big_unheard(const struct torc_op *op);
// After a restart: so many of its pieces are sent for the second time.
void torc_big_owe(struct torc_engine *engine, uint32_t index, uint32_t pieces);
void torc_big_sent(struct torc_engine *engine, uint32_t index);
// Whether a question should go with this piece: others are next, and nothing is due about it.
bool torc_big_turn_ends(const struct torc_op *op, uint32_t piece);
void torc_big_lost(struct torc_engine *engine, uint32_t index, uint32_t piece);
// The server dropped the piece's packet, unread. The others stand.
struct torc_shed_news {
    enum torc_err status;
    uint32_t retry_us;
};
void torc_big_shed(struct torc_engine *engine, uint32_t index, uint32_t piece,
                   const struct torc_shed_news *news);
void torc_big_timer(struct torc_engine *engine, uint32_t index);
// FRAG_STATE, or a refusal of a piece.
void torc_big_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);
// Pieces in flight are forgotten; the operation stays.
void torc_big_stop(struct torc_engine *engine, uint32_t index);
void torc_big_free(struct torc_engine *engine, uint32_t index);
// A get whose answer was PARTIAL goes on as a pull.
void torc_pull_begin(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);
uint32_t torc_pull_encode(struct torc_engine *engine, uint32_t index, uint8_t *to);
uint32_t torc_pull_pieces(const struct torc_engine *engine, const struct torc_op *op);
void torc_pull_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);

// ---- range.c, page.c
// A chunk that came, in a pool block with its bytes behind it.
struct torc_tile {
    uint64_t lo; // what of its cover counts
    uint64_t hi;
    struct torc_tile *next; // ascending
    struct torc_tile *previous;
    uint32_t row_first; // rows inside [lo, hi), in the chunk's order
    uint32_t row_count;
    uint64_t bytes; // what they count in a page
    uint64_t ts;    // its moment
    struct torc_rows rows;
    uint8_t body[];
};

struct torc_page_scan {
    uint64_t lo;
    uint64_t hi;
    uint32_t op; // TORC_OP_NONE: free
};

struct torc_page_state {
    uint64_t lo;
    uint64_t hi;
    uint64_t limit; // rows, never 0
    bool limit_given;
    uint64_t bytes_max;
    uint32_t age_ms;    // of its reads
    uint64_t front;     // [lo, front) or, in reverse, [front, hi) is covered without a hole
    uint64_t row_count; // of that part
    uint64_t bytes;
    uint64_t counted;
    struct torc_tile *first; // of all tiles, ascending
    struct torc_tile *last;
    struct torc_tile *front_tile; // last one of the covered part; NULL: none
    struct torc_page_scan scans[TORC_PAGE_SCANS_MAX];
    uint32_t scan_count;
    uint32_t scans_max; // at once, for now
    bool reverse;
    bool is_count;
    // One moment: `ts`, given by the caller, or taken from the first chunk where one shard has all,
    // or else from the clocks of all shards, asked for before (`clocking`; the tiles are then what
    // they cover). Until it is known it is 0. Chunks of other moments are dropped.
    bool snapshot;
    bool clocking;
    bool ts_given;
    uint8_t restarts; // because the moment had left the undo window
    uint64_t ts;
    bool fetching; // the rows stand; values by reference are being read
    uint8_t wire_flags;
    // The result.
    struct torc_row *rows;
    uint64_t rows_done;
    uint64_t fetch_next;
    uint32_t fetch_count; // under way
    uint32_t reference_count;
    uint32_t block_count;
    void **blocks; // values that were fetched by themselves
    uint64_t next_lo;
    uint64_t next_hi;
    bool more;
    bool truncated;
};

void torc_page_begin(struct torc_engine *engine, uint32_t index);
// Looks for holes and scans them; ends the page when it is whole.
void torc_page_pump(struct torc_engine *engine, uint32_t index);
uint32_t torc_scan_credit(const struct torc_engine *engine, const struct torc_op *op);
void torc_scan_request(struct torc_engine *engine, uint32_t index, struct torc_request *request);
void torc_scan_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply);
// Its time-out came after some chunks: the holes are another scan's. False: nothing had come.
bool torc_scan_late(struct torc_engine *engine, uint32_t index);
// The moment has left the undo window: from the beginning with another one, if it was not the
// caller's. False: it was, or that was tried often enough.
bool torc_page_restart(struct torc_engine *engine, uint32_t index);
// A scan's place follows the map: it ends with its shard.
void torc_scan_clip(struct torc_engine *engine, uint32_t index, uint64_t shard_hi);
void torc_page_child_end(struct torc_engine *engine, uint32_t index, enum torc_err status);
// page.c: the covered part becomes rows; values by reference are fetched; then the page ends.
void torc_page_finish(struct torc_engine *engine, uint32_t index);
void torc_page_fetch(struct torc_engine *engine, uint32_t index);
void torc_page_fetched(struct torc_engine *engine, uint32_t index, enum torc_err status);
// Nothing of it has come yet.
void torc_page_rewind(struct torc_engine *engine, struct torc_page_state *page);
// Its scans and fetches are given up.
void torc_page_abandon(struct torc_engine *engine, uint32_t index);
void torc_page_fill(const struct torc_op *op, struct torc_completion *completion);
void torc_page_free_state(struct torc_engine *engine, struct torc_op *op);

#endif
