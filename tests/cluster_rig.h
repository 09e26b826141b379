// Torc tests: several nodes in one process, whose shards have several replicas.
//
// What    a rig (tests/rig.h) for each node, one metastore in memory (tests/fake_meta.h), one
//         clock; messages between nodes as the bytes of wire/peer_codec.h, in queues that lose them
//         when the test says so. Everything that happens is decided by the test and by its seed.
// Owner   the test's thread.
// Memory  malloc; given back by torc_cluster_close.
#ifndef TORC_TESTS_CLUSTER_RIG_H
#define TORC_TESTS_CLUSTER_RIG_H

#include "tests/fake_meta.h"
#include "tests/rig.h"

#define TORC_CLUSTER_NODES   5u
#define TORC_CLUSTER_LETTERS 8192u

struct torc_cluster;

struct torc_cluster_letter {
    struct torc_peer_from from;
    uint32_t to_node;
    uint32_t to_core;
    uint32_t byte_count;
    unsigned char *bytes;
};

// A node's end of the network.
struct torc_cluster_end {
    struct torc_cluster *cluster;
    uint32_t node;
    struct torc_post post;
};

struct torc_cluster_config {
    uint32_t nodes;
    uint32_t replicas;
    uint32_t shards;
    uint32_t workers; // of each node
    uint32_t min_in_sync;
    uint8_t durability;
    bool confirm; // read-mode
    uint64_t key_count;
    uint64_t seed;
};

struct torc_cluster {
    struct torc_cluster_config config;
    struct torc_rng rng;
    struct torc_fake_meta meta;
    struct torc_cluster_end ends[TORC_CLUSTER_NODES + 1];
    struct torc_rig rigs[TORC_CLUSTER_NODES + 1]; // by number of the node, from 1
    struct torc_rig_client clients[TORC_CLUSTER_NODES + 1];
    struct torc_cluster_letter letters[TORC_CLUSTER_LETTERS]; // a ring, in order of sending
    uint64_t first;
    uint64_t next;
    uint64_t now_ns;
    uint64_t wall_us;
    struct torc_cluster_letter taken; // by the worker that has its turn
    uint64_t client_id;               // of all clients: one, that calls whoever is primary
    uint64_t next_wseq;
    // Faults.
    bool cut[TORC_CLUSTER_NODES + 1][TORC_CLUSTER_NODES + 1]; // from, to
    uint32_t loss_ppm;
    uint64_t sent;
    uint64_t lost;
};

// All nodes up; their shards have no primary yet.
void torc_cluster_open(struct torc_cluster *cluster, const struct torc_cluster_config *config);
void torc_cluster_close(struct torc_cluster *cluster);

// The node's dataplane dies. `seen`: its control sees it and says so.
void torc_cluster_kill(struct torc_cluster *cluster, uint32_t node, bool seen);

// A new life. `keeps`: it has its disk and remembers; else it comes with an empty one.
void torc_cluster_start(struct torc_cluster *cluster, uint32_t node, bool keeps);

// A new life with what its disk says it has synced; but what it acknowledged beyond that is
// forgotten, so it is another copy (REPLICATION.md, section 2: `replicated`).
void torc_cluster_start_behind(struct torc_cluster *cluster, uint32_t node);

// Every node that is up has a turn, and time goes on by 10 us.
void torc_cluster_step(struct torc_cluster *cluster);
void torc_cluster_run(struct torc_cluster *cluster, uint32_t steps);

// The node that serves the shard by its own word: active, and its leases hold. 0: none. The test
// ends when two do. With `confirm` leases are nothing, and two may think so: the first of them.
uint32_t torc_cluster_server(struct torc_cluster *cluster, uint32_t shard);

// Steps until a shard is served (by `node` unless 0) and has `members` members in sync, all of whom
// have applied the same. False: not in so many steps.
bool torc_cluster_settle(struct torc_cluster *cluster, uint32_t shard, uint32_t node,
                         uint32_t members, uint32_t steps_max);

struct torc_worker_shard *torc_cluster_shard(struct torc_cluster *cluster, uint32_t node,
                                             uint32_t shard);

// One request to one node, and its answer. False: none in `steps_max`.
bool torc_cluster_call(struct torc_cluster *cluster, uint32_t node,
                       const struct torc_request *request, struct torc_reply *reply,
                       uint32_t steps_max);

// A put of the cluster's client with a number of its own; the status, or TORC_ERR_DEADLINE: no
// answer.
enum torc_err torc_cluster_put(struct torc_cluster *cluster, uint32_t node, uint64_t key,
                               const char *text, uint64_t wseq, uint64_t *version);

// What the node's tree has, whatever its role.
bool torc_cluster_has(struct torc_cluster *cluster, uint32_t node, uint64_t key, const char *text);

// Trees and completion tables of all that is up and in sync are equal; the test ends if not.
void torc_cluster_compare(struct torc_cluster *cluster, uint32_t shard);

// What the metastore and each node say of the shard, on stderr.
void torc_cluster_describe(struct torc_cluster *cluster, uint32_t shard);

#endif
