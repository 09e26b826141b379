// Torc tests: nodes that call each other in one process; see model_peers.c.
//
// What    each node has workers with a struct torc_peers, and a plain responder in place of the
//         session thread and worker_rx.c: it answers INITs, opens packets, checks windows. The
//         network between them loses, repeats, delays and spoils packets.
// Owner   the test.  Memory  one static struct.
#ifndef TORC_TESTS_MODEL_PEERS_WORLD_H
#define TORC_TESTS_MODEL_PEERS_WORLD_H

#include "dataplane/peers.h"
#include "kit/rng.h"

#define WORLD_NODES    3u
#define WORLD_CORES    6u
#define WORLD_SESSIONS 128u // of a node as responder; each a lane
#define WORLD_PACKETS  4096u
#define WORLD_PAYLOAD  1472u
#define WORLD_CARGO    (256u << 10)
#define WORLD_STEP_NS  UINT64_C(100000)

struct world_config {
    uint64_t seed;
    uint32_t nodes;
    bool clear;
    bool same_index; // each life of a node gives its sessions the same indices
    bool no_window;  // planted: the responder takes packets twice
    bool first_core; // planted: the responder says that all is from worker 0
};

// Faults of the network, in a million.
struct world_faults {
    uint32_t lost;
    uint32_t twice;
    uint32_t spoiled;
    uint32_t carries; // largest payload that gets through
};

struct world_session { // a lane, as its responder sees it
    bool used;
    uint32_t index;
    uint32_t client_index;
    uint32_t node;
    uint32_t core;
    uint64_t boot;
    uint8_t suite;
    uint64_t tokens[2];
    struct torc_aead_key keys[2];
    uint64_t sent[WORLD_CORES];
    struct torc_window windows[WORLD_CORES];
};

struct world_node {
    uint64_t boot;
    uint32_t cores; // of its present life; while it is down, of the next one
    bool down;
    uint32_t last_index;
    struct world_session sessions[WORLD_SESSIONS];
    struct torc_peers_board *board;
    struct torc_peers *peers[WORLD_CORES];
    uint8_t cookie_secret[32];
};

struct world_packet {
    bool used;
    uint64_t at_ns;
    uint32_t from; // node and worker
    uint32_t from_core;
    uint32_t to;
    uint32_t to_core; // of the port
    uint32_t bytes;
    unsigned char payload[WORLD_PAYLOAD];
};

// What came to a node, after all checks.
struct world_delivery {
    uint32_t node; // that got it
    uint32_t core;
    struct torc_peer_from from;
    struct torc_peer_op *op;
};

struct world {
    struct world_config config;
    struct world_faults faults;
    struct torc_rng rng;
    uint64_t now_ns;
    uint64_t step_ns;   // how far time goes at once
    uint8_t secret[32]; // of the cluster
    struct world_node nodes[WORLD_NODES];
    struct world_packet packets[WORLD_PACKETS];
    uint64_t sealed[WORLD_NODES][WORLD_SESSIONS * 64]; // which worker uses an index, plus 1
    uint32_t wrong;                                    // things that must not be
    const char *why;
    void (*deliver)(void *context, const struct world_delivery *delivery);
    void *context;
};

void world_open(struct world *world, const struct world_config *config);
void world_close(struct world *world);

// Time passes in steps, and all that is due happens.
void world_run(struct world *world, uint64_t ns);

// Ends a node's process; begins its next life.
void world_stop(struct world *world, uint32_t at);
void world_start(struct world *world, uint32_t at);

// All nodes have another cluster secret from now on.
void world_change_secret(struct world *world);

// Whether each worker of each node that runs has a lane to each other's present life.
bool world_is_joined(const struct world *world);

#endif
