// Torc dataplane: what the workers of a node tell each other about its replicas.
//
// What    worker 0 has the watch (watch.h), each worker the replicas of its shards (replica.h).
//         Between worker 0 and each worker, itself included, one ring (kit/spsc.h) each way carries
//         notes: adoptions and their answers, what is known of peers. Leases are published: a row
//         for each place of each worker's table of shards, written by worker 0, under a seqlock.
// Owner   ring up[w]: worker w produces, worker 0 consumes; down[w]: the other way. Rows, ceiling
//         and health of the node: worker 0 writes, all read. A worker's own health: that worker
//         writes, worker 0 reads.
// Memory  torc_council_bytes() of the caller's, one for all workers of the process.
// Full    a note that finds no room is lost, the sender is told, and says it again: every note may
//         be said twice (watch.h: "Again: no change").
#ifndef TORC_DATAPLANE_COUNCIL_H
#define TORC_DATAPLANE_COUNCIL_H

#include "dataplane/replica.h"
#include "kit/spsc.h"
#include "kit/wall.h"

#define TORC_COUNCIL_NOTES 1024u // slots of a ring; a power of two

enum torc_council_kind {
    // To worker 0.
    TORC_COUNCIL_MEET,  // `node` has to do with a shard of ours
    TORC_COUNCIL_ADOPT, // `adoption`, of the shard at `place`
    TORC_COUNCIL_CLAIM, // `shard`, `epoch`: `claims`, a learner among them that is new
    TORC_COUNCIL_HURRY, // `node`
    TORC_COUNCIL_ALIVE, // this node was deposed, and lives
    TORC_COUNCIL_ASK,   // a read wants to be confirmed: a beat now (watch.h); `life` its question
    TORC_COUNCIL_DROP,  // `shard`, which was at `place`, is gone
    // From worker 0.
    TORC_COUNCIL_PEER,    // `peer`
    TORC_COUNCIL_ADOPTED, // `shard`, `epoch`, `life`, `promise_until_ns`
    TORC_COUNCIL_WAKE,    // `shard`: its epoch is over
    TORC_COUNCIL_BOUND,   // to an ASK, with its `life`: `bound_ns`
};

// The nodes whose leases a shard's primary looks at.
struct torc_council_claims {
    uint32_t count;
    uint32_t nodes[TORC_REPLICA_PEERS_MAX];
};

struct torc_council_note {
    uint32_t kind; // enum torc_council_kind
    uint32_t shard;
    uint32_t node;
    uint32_t epoch;
    uint32_t place;
    uint32_t life; // ADOPT: of the replica that adopts; comes back in ADOPTED
    union {
        struct torc_watch_adoption adoption;
        struct torc_council_claims claims;
        struct torc_peer_state peer;
        uint64_t promise_until_ns;
        uint64_t bound_ns; // beats sent then or later count
    };
};

// The lease of one claim, as worker 0 last knew it.
struct torc_council_lease {
    _Atomic uint64_t node; // 0: none
    _Atomic uint64_t until_ns;
    _Atomic uint64_t confirmed_ns;
    _Atomic uint64_t ceiling;
};

struct torc_council_row {
    _Atomic uint64_t sequence; // odd while worker 0 writes
    _Atomic uint64_t epoch;    // that the leases are of
    struct torc_council_lease leases[TORC_REPLICA_PEERS_MAX];
};

// What is in a row, copied out.
struct torc_council_leases {
    uint32_t epoch;
    uint32_t nodes[TORC_REPLICA_PEERS_MAX];
    struct torc_watch_lease leases[TORC_REPLICA_PEERS_MAX];
};

struct torc_council {
    uint32_t worker_count;
    uint32_t shards_max; // places of one worker
    uint64_t ring_bytes;
    uint64_t rings_offset;         // of up[0]
    struct torc_council_row *rows; // of one process: an address will do
    // Written by worker 0.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t ceiling; // that will be kept (H6)
    _Atomic uint64_t kept;                                       // that is, on disk too
    _Atomic uint32_t health;                                     // of the node, enum torc_health
    _Atomic int64_t median_us; // of the nodes' clocks (kit/wall.h), or TORC_WALL_UNKNOWN
    _Atomic int64_t held_us;   // likewise, of their HLCs
    // Written by each worker its own.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint32_t worker_health[TORC_CHAN_WORKERS_MAX + 1];
    _Atomic uint64_t ceiling_wanted[TORC_CHAN_WORKERS_MAX + 1]; // a read will use it (H6)
    _Atomic uint32_t gone_turns[TORC_CHAN_WORKERS_MAX + 1];     // highest, of shards that left
};

uint64_t torc_council_bytes(uint32_t worker_count, uint32_t shards_max);

// In memory aligned to 4096, before any worker starts.
enum torc_err torc_must_use torc_council_init(struct torc_council **council, void *memory,
                                              uint64_t memory_bytes, uint32_t worker_count,
                                              uint32_t shards_max, struct torc_fail *why);

// One end of the ring between worker 0 and `worker`: `up` is towards worker 0.
enum torc_err torc_must_use torc_council_attach(struct torc_council *council,
                                                struct torc_spsc_port *port, enum torc_spsc_end end,
                                                uint32_t worker, bool up, struct torc_fail *why);

// False: the ring is full.
bool torc_must_use torc_council_say(struct torc_spsc_port *port,
                                    const struct torc_council_note *note);

// Worker 0: the row of the shard at `place` of `worker`.
void torc_council_publish(struct torc_council *council, uint32_t worker, uint32_t place,
                          const struct torc_council_leases *leases);

// Any worker. What is torn stays as it was in the caller's copy, and false is returned.
bool torc_council_read(const struct torc_council *council, uint32_t worker, uint32_t place,
                       struct torc_council_leases *leases);

#endif
