// Torc tests: nodes made of real watches alone, with several shards each. See model_watch.c.
//
// What    a driver of shards stands in for the replicas: it adopts epochs when it hears of them,
//         waits for what the watch answers, and reads when all members' leases are there. A record
//         of each shard, swapped and read with delay; a network that loses, repeats, reorders and
//         cuts in one direction; clocks at the bounds; steps that come late; restarts.
//             watch_world.c   events, nodes, network, records, faults
//             watch_driver.c  what stands in for the replicas, and what must hold
// Memory  one struct world, static in the test.
// Data    a set of nodes is a mask: bit n is node n.
#ifndef TORC_TESTS_MODEL_WATCH_WORLD_H
#define TORC_TESTS_MODEL_WATCH_WORLD_H

#include "dataplane/watch.h"
#include "kit/bugs.h"
#include "tests/torc_test.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

enum {
    NODES_MAX = 6,
    SHARDS_MAX = 6,
    EVENTS_MAX = 4096,
};

struct record {
    uint32_t epoch;
    uint32_t primary;
    uint64_t boot; // of the primary
    uint32_t members;
    uint64_t copies[NODES_MAX + 1]; // of the members
};

// A node's part in a shard.
struct part {
    struct record record; // adopted; epoch 0: none
    bool synced;
    bool active;
    uint32_t proposed; // nodes that are to join, outcome unknown
    uint64_t free_ns;  // until then bound by promises (L4)
};

// The last promise that a node made to another for a shard, in true time.
struct promise {
    uint64_t boot; // of whom it was made to
    uint64_t until_ns;
};

struct node {
    bool up;
    bool turning;
    uint64_t boot;
    uint64_t down; // its last dead boot
    uint64_t ahead_ns;
    int64_t drift_ppm;
    uint64_t thaw_ns;
    uint64_t wanted; // ceiling
    uint64_t kept;   // ceiling, on its disk
    struct torc_watch watch;
    void *memory;
    uint64_t copies[SHARDS_MAX];
    struct part parts[SHARDS_MAX];
    uint64_t told_ns[NODES_MAX + 1]; // W2: what was answered for this primary's promises
};

enum event_kind {
    EVENT_PACKET,
    EVENT_RECORD, // a record that was read arrives
    EVENT_SYNCED,
    EVENT_KEPT,
    EVENT_RESTART,
    EVENT_SWAP,
    EVENT_POLL,
    EVENT_FAULT,
};

struct event {
    enum event_kind kind;
    uint32_t node;
    uint64_t boot; // the process it is for; 0: any
    uint64_t at_ns;
    uint64_t number;
    uint32_t shard;
    uint64_t copy;        // RECORD: which asked; another that came after it asks by itself
    struct record record; // RECORD, SWAP; SYNCED: its epoch
    uint64_t ceiling;
    enum torc_watch_event_kind packet;
    uint32_t from;
    uint64_t from_boot;
    union {
        struct torc_beat beat;
        struct torc_beat_ack ack;
        struct torc_peer_claim claim;
    };
};

struct world {
    struct torc_rng rng;
    uint32_t nodes_count;
    uint32_t shards_count;
    uint64_t now_ns;  // true time
    uint64_t calm_ns; // from here on no faults
    uint64_t lossy_ns;
    uint64_t number;
    uint32_t event_count;
    struct event events[EVENTS_MAX];
    struct node nodes[NODES_MAX + 1];
    uint64_t cut_ns[NODES_MAX + 1][NODES_MAX + 1]; // from, to
    struct record records[SHARDS_MAX];
    struct promise promises[NODES_MAX + 1][NODES_MAX + 1][SHARDS_MAX]; // by, to
    char wrong[200]; // what broke first; empty: nothing
    bool stuck;      // that was all: not safety
    uint64_t healed_ns;
    uint64_t steps, reads, leases, takeovers, joins, removals, restarts, reused, ceilings;
};

// -- watch_world.c
void world_run(struct world *world, uint64_t seed);
struct event *world_at(struct world *world, enum event_kind kind, uint32_t node, uint64_t delay_ns);
uint64_t world_local_ns(const struct world *world, const struct node *node);
uint64_t world_true_ns(const struct node *node, uint64_t local_ns);
uint64_t world_some_ns(struct world *world, uint64_t least_ns, uint64_t most_ns);
void world_wrong(struct world *world, const char *format, ...) torc_printf_like(2, 3);

// -- watch_driver.c
void driver_start(struct world *world, uint32_t number);
void driver_step(struct world *world, uint32_t number, const struct torc_watch_event *event);
void driver_heard(struct world *world, uint32_t number, uint32_t shard,
                  const struct record *record);
void driver_tell(struct world *world, uint32_t number, uint32_t shard, uint64_t most_ns);
void driver_synced(struct world *world, uint32_t number, uint32_t shard, uint32_t epoch);
void driver_want(struct world *world, uint32_t number);
void driver_take_over(struct world *world, uint32_t shard);
void driver_join(struct world *world, uint32_t number, uint32_t shard, uint32_t joins);
void driver_remove(struct world *world, uint32_t number, uint32_t shard);
void driver_drop(struct world *world, uint32_t number, uint32_t shard);
bool driver_reads(const struct world *world, uint32_t number, uint32_t shard);
void driver_check(struct world *world, uint32_t number);

extern const struct torc_watch_timing watch_timing;

#endif
