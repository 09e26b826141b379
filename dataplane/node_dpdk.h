// Torc dataplane: everything that the program torc-dataplane consists of, put together and taken
// apart again.
//
// What    from settings to running workers: the channel, DPDK, ports, memory, the session thread,
//         and one thread a worker with its loop (dataplane/loop_dpdk.h).
// Owner   the main thread, which is no worker: it opens, then listens for control, then closes. A
//         worker's thread alone uses its heap, its worker and its loop.
// Memory  two mappings: chunks for trees (settings `memory`), cut evenly among workers; and one
//         with sessions, hand-over rings, workers and loops. A heap a worker (`large-memory`), made
//         on the worker's own thread. Packet buffers are EAL's.
// Order   the channel first, so that a second dataplane on a data directory is refused before it
//         takes a port away; control is let in last, when workers turn.
// Bounds  TORC_CHANNEL_WORKERS_MAX workers, TORC_WORKER_PORTS_MAX ports.
#ifndef TORC_DATAPLANE_NODE_DPDK_H
#define TORC_DATAPLANE_NODE_DPDK_H

#include "dataplane/channel_os.h"
#include "dataplane/loop_dpdk.h"
#include "dataplane/session_thread_os.h"
#include "kit/network_os.h"
#include "storage/memory_os.h"

struct torc_node;

enum torc_node_worker_state {
    TORC_NODE_STARTING,
    TORC_NODE_RUNNING,
    TORC_NODE_FAILED,
};

// What a worker's thread needs and makes.
struct torc_node_worker {
    struct torc_node *node;
    uint32_t index;
    _Atomic uint32_t state; // enum torc_node_worker_state; the thread stores, release
    struct torc_fail why;   // when failed
    struct torc_heap heap;
    struct torc_worker *worker;
    struct torc_worker_config config;
    void *memory; // of the worker
    uint64_t memory_bytes;
    struct torc_loop *loop;
    uint32_t touched_end; // chunks below it are resident or used
};

// Parts are open in this order and closed in the other.
enum torc_node_stage {
    TORC_NODE_NOTHING,
    TORC_NODE_CHANNEL,
    TORC_NODE_EAL,
    TORC_NODE_PORTS,
    TORC_NODE_MEMORY,
    TORC_NODE_SESSIONS,
    TORC_NODE_WORKERS,
};

struct torc_node {
    const struct torc_settings *settings;
    struct torc_network network;
    enum torc_node_stage stage;
    uint32_t worker_count;
    _Atomic bool stop;
    struct torc_channel channel;
    struct torc_ports ports;
    struct torc_relays relays;
    struct torc_worker_port worker_ports[TORC_WORKER_PORTS_MAX];
    struct torc_mapping chunks;
    struct torc_mapping shared;
    uint64_t sessions_bytes; // at its start
    uint64_t handover_bytes; // behind them
    uint64_t account_ns;     // when the next account of memory is made
    uint64_t touch_ns;       // when memory was last touched ahead
    bool touch_off;          // the system cannot
    struct torc_sessions *sessions;
    struct torc_handover *handover;
    struct torc_council *council;
    struct torc_peers_board *board;
    struct torc_session_thread session_thread;
    struct torc_node_worker *workers;
};

// Opens all; on failure nothing is open. `settings` outlives the node.
enum torc_err torc_must_use torc_node_open(struct torc_node *node,
                                           const struct torc_settings *settings,
                                           struct torc_fail *why);

// What the node says of itself to a new control: zeros until it was configured.
struct torc_channel_self torc_node_self(const struct torc_node *node);

// Ends all workers where they stand. What is not durable was not acknowledged; a clean stop lets
// control quiesce first.
void torc_node_close(struct torc_node *node);

#endif
