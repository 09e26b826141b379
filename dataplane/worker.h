// Torc dataplane: the worker, what one core does with a burst of packets.
//
// What    frames in, frames out. One call a turn: it takes the frames received, what came over the
//         rings (hand-over from other workers, orders and marks from control, recovery data), the
//         time, and an array of empty transmit buffers; it answers what can be answered now and
//         says when it wants to be called again. Nothing is called back, nothing blocks.
//             rx frames ─► frame checks ─► neighbour (ARP, ND, echo)
//                               └► UDP ─► handshake (cookie here, the rest in dataplane/sessions.h)
//                                     └► data packet: order of checks of docs/PROTOCOL.md, 3
//                                           ├► another core's: hand-over ring
//                                           └► operations ─► gets of the whole burst, together
//                                                        ├► writes: shard engine, log
//                                                        │  (dataplane/log.h); answered when
//                                                        │  their block is durable
//                                                        └► ranges, pulls: jobs, a slice a turn
// Owner   one core. torc_worker_init and every other call come from the thread that owns the heap
//         in the configuration (storage/memory_os.h). Two workers share the rings below, the
//         session table (read only) and the channel, nothing else.
// Memory  torc_worker_bytes() given at init, plus the chunk region and the heap of the
//         configuration for trees. Nothing is allocated later but tree nodes and large values, both
//         bounded.
// Frames  A received frame is read, and may be changed, during the call only. A transmit buffer is
//         the shell's: the worker writes a whole Ethernet frame into `bytes`, at most `room`, in
//         the order of the array, and says on which port it leaves and whether checksums are still
//         to be made.
// Time    now_ns is CLOCK_BOOTTIME, sampled after the burst was received, and never goes back;
//         wall_us is CLOCK_REALTIME in microseconds and may.
// Turn    The shell's loop:
//             receive a burst from each of its queues into one array (at most TORC_TURN_RX_MAX)
//             take TORC_TURN_TX_MAX empty buffers (or fewer, at least TORC_TURN_TX_MIN)
//             torc_worker_turn
//             send tx[0 .. tx_count), split by tx[i].port; count what a port refused in
//                 TORC_COUNTER_TX_FULL of the worker's page of statistics
//             ring the doorbells that turn.ring_… asks for (eventfds; count TORC_COUNTER_DOORBELLS)
//             when turn.more is false and nothing was received for a while: store 1 to the
//                 channel's `sleeping` of this worker, fence (seq_cst), and if torc_worker_idle
//                 still says true, block on queues and doorbell until turn.deadline_ns; store 0
//                 after. (Count TORC_COUNTER_SLEEPS.)
//         rx_count frames are always consumed. What does not fit into tx waits in bounded tables:
//         `more` is then true.
// Invariants
//   W1  No answer is longer than the question to an address that has not proved itself.
//   W2  A write is acknowledged only when the block that holds its record is durable (durability
//       `durable`) or appended (`none`).
//   W3  Every drop has a reason and is counted (wire/drop.h); every refusal is an answer.
//   W4  Point requests of a turn are answered before any range or pull advances.
// Sources WIRE.md, DESIGN.md, REPLICATION.md section 12.
#ifndef TORC_DATAPLANE_WORKER_H
#define TORC_DATAPLANE_WORKER_H

#include "dataplane/peers.h"
#include "dataplane/sessions.h"
#include "kit/fail.h"
#include "storage/memory.h"
#include "storage/undo.h"

#define TORC_TURN_RX_MAX      256u // frames a turn
#define TORC_TURN_TX_MIN      64u  // buffers a turn, at least
#define TORC_TURN_TX_MAX      512u // more are not used
#define TORC_WORKER_PORTS_MAX 32u
#define TORC_WORKERS_MAX      255u
#define TORC_FRAME_BYTES_MAX  9728u // jumbo, with Ethernet header

struct torc_worker;
struct torc_sessions;  // dataplane/sessions.h
struct torc_handover;  // dataplane/handover.h
struct torc_council;   // dataplane/council.h
struct torc_tree_code; // storage/tree_code.h, chosen by storage/cpu_os.h

// -- Frames ---------------------------------------------------------------------------------------

enum torc_frame_flag {
    TORC_FRAME_IP_BAD = 1,     // rx: the device found the IP header's checksum wrong
    TORC_FRAME_L4_BAD = 2,     // rx: the device found the UDP checksum wrong
    TORC_FRAME_IP_OFFLOAD = 4, // tx: the device makes the IPv4 header's checksum (field is 0)
    // tx: the device makes the UDP checksum; the field holds the pseudo header's sum.
    TORC_FRAME_L4_OFFLOAD = 8,
};

struct torc_frame_rx {
    unsigned char *bytes; // from the Ethernet header on, without FCS, in one piece
    uint32_t byte_count;
    uint8_t port; // index into the configuration's ports
    uint8_t flags;
    uint16_t zero;
};

struct torc_frame_tx {
    unsigned char *bytes; // in: room for a frame; 2-byte aligned or better
    uint32_t room;        // in: at least the largest port's mtu + 18
    uint32_t byte_count;  // out
    uint8_t port;         // out
    uint8_t flags;        // out: TORC_FRAME_IP_OFFLOAD, TORC_FRAME_L4_OFFLOAD
    uint8_t l3_bytes;     // out: length of the IP header; the Ethernet header is l2_bytes long
    uint8_t l2_bytes;     // out
};

// -- Other nodes ----------------------------------------------------------------------------------

#define TORC_POST_EACH UINT32_MAX // as the core of a struct torc_peer_to: each core of the node

// -- Configuration --------------------------------------------------------------------------------

struct torc_worker_port {
    uint8_t mac[6];
    uint16_t mtu;     // of IP packets; 1280 .. 9216 (TORC_FRAME_BYTES_MAX less headers)
    uint8_t offloads; // TORC_FRAME_IP_OFFLOAD and TORC_FRAME_L4_OFFLOAD that the device can do
    uint8_t zero[7];
};

// How messages between nodes leave and come, an operation of wire/peer_codec.h each.
struct torc_post {
    void *context;
    void (*send)(void *context, uint32_t worker, struct torc_peer_to to, const unsigned char *op,
                 uint32_t byte_count);
    // The next one for this worker, good until the next call, and the highest HLC that its sender
    // held (0: unknown). False: none.
    bool (*take)(void *context, uint32_t worker, struct torc_peer_from *from, uint64_t *hlc,
                 const unsigned char **op, uint32_t *byte_count);
    // Whether the worker may send one record more in this turn. NULL: always.
    bool (*room)(void *context, uint32_t worker);
};

struct torc_worker_config {
    uint32_t index; // of this worker: its core number on the wire
    uint32_t count; // of workers
    void *chan;     // the whole channel (kit/chan.h), formatted
    uint64_t chan_bytes;
    struct torc_sessions *sessions; // one for all workers
    struct torc_handover *handover; // one for all workers
    bool replicas;                  // shards may have members on other nodes; else no council
    struct torc_council *council;   // one for all workers
    bool confirm_reads;             // with replicas: no read by leases (confirm.h)
    const struct torc_post *post;   // in place of the board, for tests
    struct torc_peers_board *board; // one for all workers; both NULL: no other node can be reached
    uint8_t entropy[32];            // worker 0, with a board: random, for ephemeral keys
    // Addresses that this node answers to. Prefix 0: no address of that family.
    uint8_t ipv4[4];
    uint8_t ipv6[16];
    uint8_t ipv4_prefix;
    uint8_t ipv6_prefix;
    uint16_t base_port;
    uint32_t port_count;
    const struct torc_worker_port *ports; // copied
    // Memory for trees: this worker's part of the node's chunk mapping, and its own heap.
    void *chunk_base;     // the mapping's start, aligned to TORC_CHUNK_BYTES
    uint32_t chunk_first; // chunks [first, first + count) are this worker's
    uint32_t chunk_count;
    struct torc_heap *heap;
    const struct torc_tree_code *code;
    // Limits; 0 takes the default in brackets.
    uint32_t shards_max;            // on this core [256]
    uint32_t gathers_max;           // request packets with unfinished writes [4096]
    uint32_t jobs_max;              // ranges, cursors and pulls at work [1024]
    uint32_t fragment_pool_bytes;   // values being put together [64 MiB]
    uint32_t session_message_bytes; // of it, at most, by one session [4 MiB]
    uint32_t completion_bytes;      // of exactly-once memory, all shards together [32 MiB]
    uint32_t
        shipped_bytes; // of records kept for other nodes, a third of it for small ones [24 MiB]
    uint32_t log_in_flight_max;        // blocks sealed and not yet durable before batches grow [4]
    uint32_t control_grace_ms;         // control silent that long: new writes get BUSY [500]
    uint32_t queue_target_us;          // queue delay above which client packets are shed [100]
    uint32_t unproved_answers_max;     // a second, to addresses that proved nothing [20 000]
    uint32_t handshakes_max;           // a second, of one address [50]
    struct torc_session_limits limits; // (sessions.h)
    struct torc_undo_config undo;      // window for reads of the past; bytes 0: none
    uint64_t seed;                     // for hash tables; from the system's random source
    // What traced operations (and nothing else) read the time by while a turn runs: a worker's time
    // stands still within a turn, and their microseconds go by in it. The one clock that a worker
    // may call, because a turn cannot be cut into calls where a traced operation happens to be;
    // nothing is decided by it, so that a run without it (NULL: tests, the simulator) is the same.
    // CLOCK_BOOTTIME, as now_ns.
    uint64_t (*trace_clock)(void *context);
    void *trace_context;
};

// -- Turn -----------------------------------------------------------------------------------------

struct torc_turn {
    // In.
    uint64_t now_ns;
    uint64_t wall_us;
    const struct torc_frame_rx *rx;
    struct torc_frame_tx *tx;
    uint32_t rx_count;
    uint32_t tx_room;
    uint32_t rx_waiting; // frames known to wait in the queues behind this burst; 0 when unknown
    // Out.
    uint32_t tx_count;
    uint64_t deadline_ns;     // call again by then; UINT64_MAX: only when something arrives
    bool more;                // there is work left: do not sleep
    bool busy;                // something was done
    bool futile;              // frames arrived, and none was of a session
    bool soon;                // the disk will have answered before a sleep were over
    bool ring_control;        // control sleeps and has something to read
    bool ring_sessions;       // the session thread sleeps and has something to read
    uint64_t ring_workers[4]; // bit w: worker w sleeps and has frames to take over
};

// Bytes of memory for a worker of this configuration; aligned to 4096 by the caller.
uint64_t torc_worker_bytes(const struct torc_worker_config *config);

// Makes a worker in zeroed memory. INVALID_ARGUMENT names the setting that does not fit.
enum torc_err torc_must_use torc_worker_init(struct torc_worker **worker, void *memory,
                                             uint64_t memory_bytes,
                                             const struct torc_worker_config *config,
                                             struct torc_fail *why);

void torc_worker_turn(struct torc_worker *worker, struct torc_turn *turn);

// Parts of the worker's memory that have a row of their own in the account of memory.
#define TORC_WORKER_RANGES 3u

struct torc_worker_range {
    const void *base;
    uint64_t bytes;
    uint32_t row; // enum torc_memory
};

// Its page of statistics.
const struct torc_stats *torc_worker_stats(const struct torc_worker *worker);

// The chunks from this one on were never used, up to its last. Any thread.
uint32_t torc_worker_fresh(const struct torc_worker *worker);

void torc_worker_ranges(const struct torc_worker *worker,
                        struct torc_worker_range ranges[TORC_WORKER_RANGES]);

// Looks at all rings once more, changing nothing: true when nothing waits. For use between the
// store of `sleeping` and blocking.
bool torc_worker_idle(struct torc_worker *worker);

// True once a QUIESCE order was finished: everything appended is durable. The process may end.
bool torc_worker_quiesced(const struct torc_worker *worker);

// Drops all trees, so that a leak checker sees nothing; for tests and a clean end.
void torc_worker_close(struct torc_worker *worker);

#endif
