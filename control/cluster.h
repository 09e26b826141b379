// Torc control: the node's shards: how the key space is cut, which worker has which, what of the
// log they still need.
//
// What    the table of the shards that this node has a part in, which recovery and checkpoints are
//         made from, and the decisions over it. (Of all nodes' shards: control/survey.h.)
// Owner   control's one thread. Pure.
// Memory  the caller's array.
// Invariants
//   K1  shards are in the order of their keys, until one is given to this node or taken from it: a
//       place whose number is 0 is free, and new ones come where there is room.
//   K2  a block of a stream may go when no shard needs it: every shard's last checkpoint must be of
//       the stream and turn that it is in now (`covered`), and the block must lie below the
//       start_sequence of all that are in that stream. While one is not covered, nothing goes: it
//       may need any stream. (A replica that has nothing needs nothing, until its worker has taken
//       a base of it, or is sent all its records: `fed`. So does one that was emptied for a base:
//       docs/decisions/0033.)
// Sources DESIGN.md section 5; REPLICATION.md section 3.
#ifndef TORC_CONTROL_CLUSTER_H
#define TORC_CONTROL_CLUSTER_H

#include "kit/chan.h"

struct torc_cluster_shard { // no pointer to one lives longer than a turn, but of what is busy
    uint64_t lo;
    uint64_t hi;
    uint64_t start_sequence; // of its checkpoint, when covered
    uint64_t checkpoint_lsn;
    uint64_t records; // at its last word
    uint64_t replayed;
    uint64_t copy;       // of its replica
    uint64_t unnamed_ns; // since when neither record nor wish names this node; 0: they do
    uint32_t shard;
    uint32_t epoch;
    uint32_t worker;
    uint32_t turn;
    bool moved; // its stream is another than before
    bool has_checkpoint;
    bool covered; // K2
    bool ready;
    bool replica;  // others have the shard too, or may
    bool insync;   // its copy is a member
    bool based;    // its log here goes on from a base (control/based_os.h)
    bool fed;      // a worker has a base or records of it: they need the log from there on
    bool emptied;  // its worker says so, and that the log does: forgotten in the same turn
    bool wanted;   // a checkpoint of it is wanted
    bool wake;     // its record, or that of a member's node, may have changed
    bool opening;  // SHARD_OPEN is to be ordered
    bool leaving;  // it is to go: no checkpoint begins
    bool gone;     // its worker has it no more: it leaves the table (control/give.h)
    bool here;     // a dataplane that runs already has said so
    bool wish;     // what placement wishes for it is to be told
    uint32_t heir; // who is to lead it in this node's place (control/yield.h); 0: nobody
    struct torc_cmd_want told; // last, to its replica
    struct torc_evt_role said; // last, by its replica
    uint64_t said_ns;          // when
};

struct torc_cluster {
    uint64_t cluster;
    uint64_t keys;
    uint64_t boot;
    uint64_t map_version;
    uint32_t node;
    uint32_t shard_count;              // places that are taken, or were
    uint32_t shard_max;                // places
    struct torc_cluster_shard *shards; // K1
};

// The piece `index` of `count` equal ones of [0, keys).
void torc_cluster_cut(uint64_t keys, uint32_t count, uint32_t index, uint64_t *lo, uint64_t *hi);

// Spreads the shards over `worker_count` workers, neighbours apart: a load that walks through the
// keys meets all cores.
void torc_cluster_spread(struct torc_cluster *cluster, uint32_t worker_count);

// K2: blocks of `stream` below it may go. 0: none; UINT64_MAX: all of them.
uint64_t torc_cluster_floor(const struct torc_cluster *cluster, uint32_t stream);

// The shard by its number, or NULL.
struct torc_cluster_shard *torc_cluster_shard(const struct torc_cluster *cluster, uint32_t shard);

// A free place, zeroed; NULL: none. Its number is to be set.
struct torc_cluster_shard *torc_cluster_add(struct torc_cluster *cluster);
void torc_cluster_drop(struct torc_cluster *cluster, struct torc_cluster_shard *shard);

// TORC_EVT_SHARD_HERE: what a worker of a dataplane that runs already has. What of it needs the log
// only the control before knew: so it does (K2). NULL: no place.
struct torc_cluster_shard *torc_cluster_here(struct torc_cluster *cluster, uint32_t worker,
                                             bool replicas, const struct torc_evt_here *here);

// TORC_EVT_ROLE: a member has records here, even if it needed no base (K2).
void torc_cluster_role(struct torc_cluster *cluster, const struct torc_evt_role *role);

// TORC_EVT_CHECKPOINT: a worker has taken a base of it, or is sent all its records (K2).
void torc_cluster_base(struct torc_cluster *cluster, uint32_t shard);

// TORC_EVT_CHECKPOINT_DONE: its worker has nothing of it any more, and its log says so.
void torc_cluster_emptied(struct torc_cluster_shard *shard);

// A shard that was emptied and holds the log (K2); NULL: there is none.
struct torc_cluster_shard *torc_cluster_to_forget(struct torc_cluster *cluster);

// Its checkpoint is gone, durably: it holds no block any more, until torc_cluster_base or _role.
void torc_cluster_forget(struct torc_cluster_shard *shard);

// The order that opens it at its worker.
struct torc_cmd torc_cluster_open(const struct torc_cluster_shard *shard);

uint32_t torc_cluster_count(const struct torc_cluster *cluster);

// Those that nobody has to wait for.
uint32_t torc_cluster_ready(const struct torc_cluster *cluster);

#endif
