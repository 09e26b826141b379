// Torc tests: a cluster of one shard made of real watches and replicas; everything else is made up.
//
// What    nodes with drifting clocks that pause, crash and come back; a network that loses, delays,
//         repeats, reorders and cuts in one direction; a metastore whose answers come late, never,
//         or as "unknown"; disks that finish late; a placement that changes its mind. One seed, one
//         run, exactly.
//             replica_world.c   events, nodes, network, metastore, faults
//             replica_aims.c    faults that are aimed at one rule each
//             replica_shell.c   what a worker does with a replica's actions
//             replica_oracle.c  what must hold, checked with the true time (REPLICATION.md, 14)
// Memory  one struct world, static in the test.
// Data    a record is a number; its key is the number modulo KEYS. A log is an array, a tree the
//         last record of each key.
#ifndef TORC_TESTS_MODEL_REPLICA_WORLD_H
#define TORC_TESTS_MODEL_REPLICA_WORLD_H

#include "dataplane/replica.h"
#include "kit/bugs.h"
#include "tests/torc_test.h"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

enum {
    NODES_MAX = 5,
    LSN_MAX = 4096,
    WRITES_MAX = 16384, // of one node's disk between two crashes
    KEYS = 32,
    PIECES = 4,
    PIECE_KEYS = KEYS / PIECES,
    RECORDS_MAX = 16, // of one packet
    EVENTS_MAX = 8192,
};

struct record {
    uint32_t epoch; // it was written in
    uint32_t id;    // 0: an EPOCH record
};

struct cell {
    uint32_t id; // 0: the key has no value
    uint64_t lsn;
};

struct disk_write {
    uint64_t lsn;
    struct record record;
};

// What a crash leaves: a checkpoint, and writes in the order they were made.
struct disk {
    bool has_base; // false: a base was begun and is not on disk
    uint64_t base_lsn;
    uint32_t base_epoch;
    uint64_t base_hash;
    struct cell base[KEYS];
    uint32_t count;
    uint32_t durable;
    struct disk_write writes[WRITES_MAX];
};

struct node {
    bool up;
    uint64_t boot;
    uint64_t copy;
    uint64_t zero_ns;
    int64_t drift_ppm;
    uint64_t thaw_ns;
    uint64_t slow_disk_ns; // every write takes that much longer
    uint64_t disk_at_ns;   // when the last write will be done
    uint64_t wake_number;
    uint64_t turn_ns; // local time before the poll of the present turn
    uint64_t last_ns; // and of the one before
    uint8_t health;
    struct torc_watch watch;
    struct torc_replica replica;
    uint64_t base_lsn;         // the log begins above it
    uint32_t pending[LSN_MAX]; // a client waits for the record: its id
    struct record log[LSN_MAX];
    uint64_t hash[LSN_MAX]; // of the log up to there
    struct cell tree[KEYS];
    bool made[NODES_MAX + 1][PIECES];
    struct cell pieces[NODES_MAX + 1][PIECES][PIECE_KEYS];
    struct disk disk;
};

enum event_kind {
    EVENT_NONE,
    EVENT_PACKET,
    EVENT_WAKE,     // a deadline
    EVENT_ADOPT,    // reaches worker 0
    EVENT_ADOPTED,  // its answer reaches the core
    EVENT_REQUEST,  // reaches the metastore
    EVENT_REPLY,    // reaches the node
    EVENT_NOTIFIED, // a watch of the metastore
    EVENT_DISK,
    EVENT_BASE_READY,
    EVENT_BASE_DURABLE,
    EVENT_RESTART,
    EVENT_DOWN, // control saw the dataplane die
    EVENT_CLIENT,
    EVENT_FAULT,
    EVENT_AIM, // the next step of a plan
};

// Plans of replica_aims.c, and what they are to break (numbers of REPLICATION.md, 15).
enum aim {
    AIM_NONE,
    AIM_CHAIN,     // three primaries within one promise: 9, 21, 39
    AIM_LONELY,    // a member takes over alone while the others hear the primary: 13
    AIM_LATE,      // late answers, a growing k, then silence: 18, 40
    AIM_TRANSFER,  // a transfer that the primary takes back: 43
    AIM_JOIN_CUT,  // a member that has just joined, out of the primary's reach: 6, 10
    AIM_JOIN_DARK, // power goes as a member has just joined: 31
    AIM_COUNT,
};

enum packet_kind {
    PACKET_MESSAGE,
    PACKET_BEAT,
    PACKET_ACK,
    PACKET_CLAIM,
};

struct packet {
    enum packet_kind kind;
    uint32_t from;
    uint64_t from_boot;
    union {
        struct torc_peer_message message;
        struct torc_beat beat;
        struct torc_beat_ack ack;
        struct torc_peer_claim claim;
    };
    struct record records[RECORDS_MAX]; // of an APPEND
    struct cell cells[PIECE_KEYS];      // of a SNAP
    uint64_t base_hash;
};

struct event {
    enum event_kind kind;
    uint32_t node;
    uint64_t boot; // the process it is for; 0: any
    uint64_t at_ns;
    uint64_t number; // ties: first come, first served, wakes last
    union {
        struct packet packet;
        struct torc_watch_adoption adoption;
        struct torc_replica_adopted adopted;
        struct {
            bool propose;
            uint32_t asked_epoch;
            struct torc_replica_proposal proposal;
        } request;
        struct {
            bool propose;
            struct torc_replica_record record;
            struct torc_replica_result result;
        } reply;
        struct torc_replica_base_event base;
        uint64_t wake_number;
        uint32_t write; // DISK: its number
        uint64_t down_boot;
    };
};

struct world_setup {
    uint64_t seed;
    enum torc_durability durability;
    uint32_t nodes;
    uint32_t replicas;
    uint32_t min_in_sync;
    uint64_t trouble_ns; // how long faults come
    uint32_t alarms;     // how often each node has been suspected before: k is 2 to that
};

struct world {
    struct torc_rng rng;
    struct world_setup setup;
    uint64_t now_ns; // true time
    uint64_t number;
    uint64_t calm_ns; // from here on no faults
    uint32_t event_count;
    uint32_t heap[EVENTS_MAX];
    uint32_t free_count;
    uint32_t free_list[EVENTS_MAX];
    struct event events[EVENTS_MAX];
    struct node nodes[NODES_MAX + 1];               // by number, from 1
    uint64_t cut_ns[NODES_MAX + 1][NODES_MAX + 1];  // from, to: until then nothing gets through
    uint64_t late_ns[NODES_MAX + 1][NODES_MAX + 1]; // until then all come late_by_ns later
    uint64_t late_by_ns;
    uint64_t lossy_ns;
    uint64_t slow_ns;
    // plan
    enum aim aim;
    uint32_t aim_stage;
    uint32_t aim_primary; // when it began
    uint32_t aim_node;    // whom its next step is for
    uint64_t aim_until_ns;
    bool down_at_once; // whoever is killed now is known dead by its control in a moment
    bool troubled;     // faults have begun
    uint32_t deaf;     // hears nothing from the primary, which all others do; 0: nobody
    // metastore
    struct torc_configuration record;
    uint64_t node_boot[NODES_MAX + 1];
    uint64_t node_down[NODES_MAX + 1];
    uint64_t copy_count;
    uint64_t away_ns;
    uint64_t store_ns[NODES_MAX + 1]; // until then it is away for this node
    struct torc_replica_want want;
    // oracle
    uint32_t next_id;
    uint64_t committed_lsn;
    struct record committed[LSN_MAX];
    uint64_t answered_lsn; // a client knows of it
    uint32_t answered[LSN_MAX];
    uint64_t epoch_boot[LSN_MAX]; // of the primary of that epoch
    uint32_t epoch_node[LSN_MAX];
    char wrong[200]; // what broke first; empty: nothing
    // statistics
    uint64_t steps;
    uint64_t writes;
    uint64_t reads;
    uint64_t takeovers;
    uint64_t joins;
    uint64_t bases;
    uint64_t bases_broken;
    uint64_t transfers;
    uint64_t removals;
    uint64_t cuts;
    uint64_t gaps_ns; // true time without anybody who may read, while calm
};

extern const struct torc_replica_timing replica_timing;
extern const struct torc_watch_timing watch_timing;

// -- replica_world.c
void world_run(struct world *world, const struct world_setup *setup);
struct event *world_at(struct world *world, enum event_kind kind, uint32_t node, uint64_t delay_ns);
uint64_t world_local_ns(const struct world *world, const struct node *node);
void world_send(struct world *world, uint32_t from, uint32_t to, const struct packet *packet);
uint32_t world_number(const struct world *world, const struct node *node);
void world_kill(struct world *world, uint32_t number, bool keeps_memory, uint64_t back_ns);

// -- replica_aims.c
// Begins a plan, maybe; how long to leave it alone with that.
uint64_t aims_begin(struct world *world);
void aims_swapped(struct world *world, bool joined);
void aims_step(struct world *world);

// -- replica_shell.c
void shell_start(struct world *world, struct node *node);
void shell_crash(struct world *world, struct node *node, bool keeps_memory);
void shell_event(struct world *world, struct node *node, const struct event *event);
void shell_turn(struct world *world, struct node *node);
void shell_false_alarm(struct world *world, struct node *node);
bool shell_may_read(struct world *world, struct node *node);
bool shell_write(struct world *world, struct node *node);

// -- replica_oracle.c
void oracle_apply(struct world *world, const struct node *node, uint64_t lsn);
void oracle_answer(struct world *world, const struct node *node, uint64_t lsn, uint32_t id);
void oracle_check(struct world *world);
void oracle_tree(struct world *world, const struct node *node, const char *when);
bool oracle_is_well(struct world *world);
bool oracle_can_recover(const struct world *world);
void oracle_describe(const struct world *world);
void oracle_wrong(struct world *world, const char *format, ...) torc_printf_like(2, 3);

#endif
