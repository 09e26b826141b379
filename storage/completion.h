// Torc storage: what is remembered of writes so that each takes effect once.
//
// What    per shard a table {(principal, client) -> low, {seq -> result}}. Results of two kinds:
//         those of logged writes (always OK, with the version), which are state applied from the
//         log and lie in checkpoints; and those of writes that changed nothing (CONDITION_FAILED,
//         NOT_FOUND of a delete), which only this life of the primary remembers (REPLICATION.md,
//         E5).
// Owner   one core. All shards of a core share one pool of memory.
// Memory  the caller's, torc_completion_pool_bytes(): 64 B a client and shard, 32 B a result. A
//         principal may take at most `principal_bytes_max` of it. A write reserves what its result
//         will need before it is logged, so that applying cannot fail.
// Leaving a result: when its seq is below the client's logged low (of failures: the largest low
//         seen). A client: when its last record and its last failure are both `ttl` of HLC old;
//         until then nothing is ever evicted, full is a refusal (E6).
// Invariants
//   X1  clients + results + reserved never exceed the pool.
//   X2  a client's results all have seq >= its logged low.
// Sources REPLICATION.md, section 12; Lee et al., "Implementing Linearizability at Large Scale and
//         Low Latency" (RIFL, SOSP 2015).
#ifndef TORC_STORAGE_COMPLETION_H
#define TORC_STORAGE_COMPLETION_H

#include "kit/fail.h"

#define TORC_COMPLETION_NONE           UINT32_MAX
#define TORC_COMPLETION_UNIT_BYTES     32u
#define TORC_COMPLETION_CLIENT_UNITS   2u
#define TORC_COMPLETION_PRINCIPALS_MAX 1024u // with something remembered, at once
#define TORC_COMPLETION_POOL_BYTES_MIN 4096u

// Who writes.
struct torc_completion_client {
    uint64_t client;
    uint32_t principal;
};

// What is known of (client, seq).
enum torc_completion_answer {
    TORC_COMPLETION_UNKNOWN, // never seen: evaluate it
    TORC_COMPLETION_DONE,    // `err` and `info` are its answer
    TORC_COMPLETION_OLD,     // seq is below low: SEQ_OLD
};

struct torc_completion_result {
    uint64_t seq;
    uint64_t info; // version; of CONDITION_FAILED the one that was met
    enum torc_err err;
};

// A client's fixed part, as checkpoints hold it.
struct torc_completion_head {
    uint64_t client;
    uint64_t low; // logged
    uint64_t last_hlc;
    uint32_t principal;
    uint32_t logged_count; // results of logged writes
};

struct torc_completion_unit;      // completion.c
struct torc_completion_principal; // completion.c

struct torc_completion_pool {
    struct torc_completion_unit *units;
    uint32_t *table; // hash of clients and results to their first unit
    struct torc_completion_principal *principals;
    uint64_t seed;
    uint32_t table_mask;
    uint32_t unit_count;
    uint32_t used_units; // X1
    uint32_t reserved_units;
    uint32_t free_head;
    uint32_t fresh; // units never used
    uint32_t principal_units_max;
};

// One shard's table.
struct torc_completion_table {
    struct torc_completion_pool *pool;
    uint32_t shard;  // tells tables apart in the pool's hash
    uint32_t oldest; // clients by the age of their last record or failure
    uint32_t newest;
    uint32_t client_count;
    uint64_t result_count;
};

// A promise that one result of `who` fits. Zeroed: none.
struct torc_completion_promise {
    uint32_t units;
    uint32_t principal; // index of its account
};

uint64_t torc_completion_pool_bytes(uint64_t bytes);

// `bytes` as above, at least TORC_COMPLETION_POOL_BYTES_MIN; a principal may use
// principal_bytes_max.
void torc_completion_pool_init(struct torc_completion_pool *pool, void *memory, uint64_t bytes,
                               uint64_t principal_bytes_max, uint64_t seed);

void torc_completion_init(struct torc_completion_table *table, struct torc_completion_pool *pool,
                          uint32_t shard);

enum torc_completion_answer torc_completion_find(const struct torc_completion_table *table,
                                                 struct torc_completion_client who, uint64_t seq,
                                                 struct torc_completion_result *result);

// Promises room for one result; false: this principal's, or all, memory is taken (BUSY).
bool torc_must_use torc_completion_reserve(struct torc_completion_table *table,
                                           struct torc_completion_client who,
                                           struct torc_completion_promise *promise);
void torc_completion_cancel(struct torc_completion_table *table,
                            struct torc_completion_promise *promise);

// The client's largest low seen so far, logged or not, rises to `low`; nothing when it is unknown.
void torc_completion_seen(struct torc_completion_table *table, struct torc_completion_client who,
                          uint64_t low);

// A failure, remembered if there is room for it (false: answer BUSY instead, it is not remembered).
bool torc_must_use torc_completion_fail(struct torc_completion_table *table,
                                        struct torc_completion_client who, uint64_t low,
                                        const struct torc_completion_result *result, uint64_t hlc);

// A logged write was applied: its result, its low, its HLC. Uses the promise; without one (replay)
// it takes what it needs, whoever's the principal, and false means that the pool is full.
bool torc_must_use torc_completion_apply(struct torc_completion_table *table,
                                         struct torc_completion_client who, uint64_t seq,
                                         uint64_t low, uint64_t hlc,
                                         struct torc_completion_promise *promise);

// Drops clients whose last record and failure lie before `hlc`; at most `count_max`. True: some may
// be left.
bool torc_completion_expire(struct torc_completion_table *table, uint64_t hlc, uint32_t count_max);

// The HLC of the oldest client's end of use; UINT64_MAX when there is none.
uint64_t torc_completion_oldest_hlc(const struct torc_completion_table *table);

// Forgets the failures (E5: at demotion) or everything.
void torc_completion_drop(struct torc_completion_table *table);

// Walking, for checkpoints. A slice that touches nothing of the table between two calls sees every
// client. *at is 0 to begin; false: no more. Clients that hold no logged record are left out.
bool torc_completion_next_client(const struct torc_completion_table *table, uint32_t *at,
                                 struct torc_completion_head *head);

// Logged results of the client that torc_completion_next_client gave last, `*at` likewise.
bool torc_completion_next_result(const struct torc_completion_table *table, uint32_t client_at,
                                 uint32_t *at, struct torc_completion_result *result);

// From a checkpoint: a client's head, then its results by torc_completion_apply. False: full.
bool torc_must_use torc_completion_load(struct torc_completion_table *table,
                                        const struct torc_completion_head *head);

// Walks X1, X2; CORRUPT and the text says what.
enum torc_err torc_must_use torc_completion_check(const struct torc_completion_table *table,
                                                  struct torc_fail *why);

#endif
