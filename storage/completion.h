// Torc storage: what is remembered of writes so that each takes effect once.
//
// What    per shard a table {(principal, client) -> low, {seq -> result}}. Results of two kinds:
//         those of logged writes (always OK, with the version), which are state applied from the
//         log and lie in checkpoints; and those of writes that changed nothing (CONDITION_FAILED,
//         NOT_FOUND of a delete), which only this life of the primary remembers (REPLICATION.md,
//         E5).
// Owner   one core. All shards of a core share one pool of memory.
// Memory  the caller's, torc_completion_pool_bytes(): 64 B a client and shard, 32 B a result, half
//         of the memory for each, and hash tables. A write reserves what its result will need
//         before it is logged, so that applying cannot fail.
// Shares  what shards remember that this core leads is its own; of those that it follows it is
//         not. Where shards have other replicas, its own may be a third of the pool: with three
//         copies of all, which lie on the same three cores, a core has two thirds from others, and
//         with that rule on each core they fit. A shard that is led from now on brings what it
//         remembers with it, so that there may be more; then no new client gets in.
//         Of two clients' principals neither can shut the other out: one may have principal_ppm of
//         the own part while it is alone, and with half (500000) no more than is left free beside
//         it, so that n that take all they can have 1 / (n + 1) each, and so much is free (the
//         dynamic threshold of switches' buffers). Principal 0, of a cluster without keys, is
//         everybody: it has no share.
// Leaving a result: when its seq is below the client's logged low (of failures: the largest low
//         seen). A client: when its last record and its last failure are both `ttl` of HLC old;
//         until then nothing is ever evicted, full is a refusal (E6). A client that is known has
//         its oldest open write taken beyond its principal's share and the own part, for a last
//         64th of that is kept, and then as long as the pool has room: that is what lets its other
//         results go. So beyond the own part there may be one result for each client.
// Invariants
//   X1  used counts are what lies in tables and what is promised; they never exceed the pool.
//   X2  a client's logged results all have seq >= its logged low.
//   X3  a client stays while a write of it is pending whose promise has no room for a client.
//   X4  what a table has is counted as own if it owns, but for what torc_completion_own_more left.
// Sources REPLICATION.md, section 12; Lee et al., "Implementing Linearizability at Large Scale and
//         Low Latency" (RIFL, SOSP 2015). Choudhury and Hahne, "Dynamic Queue Length Thresholds
//         for Shared-Memory Packet Switches" (1998).
#ifndef TORC_STORAGE_COMPLETION_H
#define TORC_STORAGE_COMPLETION_H

#include "kit/fail.h"

#define TORC_COMPLETION_NONE           UINT32_MAX
#define TORC_COMPLETION_PRINCIPALS_MAX 1024u // with something remembered, at once
#define TORC_COMPLETION_POOL_BYTES_MIN 65536u

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
    struct torc_completion_client who;
    uint64_t low; // logged
    uint64_t last_hlc;
};

struct torc_completion_entry;   // completion_impl.h: a client of a shard
struct torc_completion_done;    // completion_impl.h: a result
struct torc_completion_account; // completion_impl.h: a principal

struct torc_completion_pool {
    struct torc_completion_entry *entries;
    struct torc_completion_done *results;
    uint32_t *entry_table;  // hash of (shard, principal, client)
    uint32_t *result_table; // hash of (entry, seq)
    struct torc_completion_account *accounts;
    uint64_t seed;
    uint32_t entry_mask;
    uint32_t result_mask;
    uint32_t entry_max;
    uint32_t result_max;
    uint32_t entry_used; // X1: promised ones included
    uint32_t result_used;
    uint32_t entry_free; // heads of free lists
    uint32_t result_free;
    uint32_t entry_fresh; // never used from here on
    uint32_t result_fresh;
    uint32_t principal_ppm;
    uint32_t entry_own; // of those used, by clients of this core
    uint32_t result_own;
    uint64_t sort_count; // tables that were put in order, for tests
    bool keeps;          // two thirds are for what other replicas log
};

// One shard's table.
struct torc_completion_table {
    struct torc_completion_pool *pool;
    uint32_t shard;  // tells tables apart in the pool's hash
    uint32_t oldest; // clients by the age of their last record or failure
    uint32_t newest;
    uint32_t client_count;
    uint64_t result_count; // failures included
    bool owns;             // its clients are those of this core, which leads the shard
    uint32_t own_at;       // places of the pool from here on were not looked at since that changed
};

// A promise that one result fits. Zeroed: none.
struct torc_completion_promise {
    uint16_t account; // of the principal, plus 1
    bool entry;       // room for a new client is in it
    bool own;         // it is counted as this core's
};

uint64_t torc_completion_pool_bytes(uint64_t bytes);

// In zeroed memory, aligned to 64; `bytes` at least TORC_COMPLETION_POOL_BYTES_MIN; principal_ppm
// at most 1000000.
void torc_completion_pool_init(struct torc_completion_pool *pool, void *memory, uint64_t bytes,
                               uint32_t principal_ppm, uint64_t seed);

// `owns`: what it will remember is this core's own.
void torc_completion_init(struct torc_completion_table *table, struct torc_completion_pool *pool,
                          uint32_t shard, bool owns);

// From now on what the table remembers is this core's own, or not. What it has follows by and by,
// with torc_completion_own_more, which looks at `walk_max` clients and results, give or take those
// of one client; true: there are more. Its promises follow with torc_completion_own_promise.
void torc_completion_own(struct torc_completion_table *table, bool owns);
bool torc_completion_own_more(struct torc_completion_table *table, uint32_t walk_max);
void torc_completion_own_promise(struct torc_completion_table *table,
                                 struct torc_completion_promise *promise);

enum torc_completion_answer torc_completion_find(const struct torc_completion_table *table,
                                                 struct torc_completion_client who, uint64_t seq,
                                                 struct torc_completion_result *result);

// Promises room for one result; false: this principal's, or all, memory is taken (BUSY). `oldest`:
// no earlier write of that client is open, so that its result is what lets others go: if it is
// known it may have all that is free. `hlc`: of the present, at most the write's own; a client that
// is known is used then.
bool torc_must_use torc_completion_reserve(struct torc_completion_table *table,
                                           struct torc_completion_client who, bool oldest,
                                           uint64_t hlc, struct torc_completion_promise *promise);
void torc_completion_cancel(struct torc_completion_table *table,
                            struct torc_completion_promise *promise);

// From now on room is kept for what other replicas log.
void torc_completion_keep(struct torc_completion_pool *pool);

// The same for a write that another replica logged already: whatever the principal's share. False:
// the pool is full.
bool torc_must_use torc_completion_reserve_logged(struct torc_completion_table *table,
                                                  struct torc_completion_client who, uint64_t hlc,
                                                  struct torc_completion_promise *promise);

// A write of that client is pending: if it is known, it is used at `hlc`, give or take a second.
void torc_completion_keep_client(struct torc_completion_table *table,
                                 struct torc_completion_client who, uint64_t hlc);

// X3: whether the promise, which is not used up, will find room for a client, or the client.
bool torc_must_use torc_completion_is_promised(const struct torc_completion_table *table,
                                               struct torc_completion_client who,
                                               const struct torc_completion_promise *promise);

// The client's largest low seen so far, logged or not, rises to `low`; nothing when it is unknown.
void torc_completion_seen(struct torc_completion_table *table, struct torc_completion_client who,
                          uint64_t low);

// Remembers a failure. False: no room; then answer BUSY, for the failure is not remembered.
bool torc_must_use torc_completion_fail(struct torc_completion_table *table,
                                        struct torc_completion_client who, uint64_t low,
                                        const struct torc_completion_result *result, uint64_t hlc);

// A logged write was applied: its result, its low, its HLC (the version). Uses up the promise; with
// a zeroed one (replay) it takes what it needs, whatever the principal's share, and false says that
// the pool is full.
bool torc_must_use torc_completion_apply(struct torc_completion_table *table,
                                         const struct torc_completion_head *head, uint64_t seq,
                                         struct torc_completion_promise *promise);

// From a checkpoint or an EMPTY record: the client's low and HLC, without a result. False: full.
bool torc_must_use torc_completion_load(struct torc_completion_table *table,
                                        const struct torc_completion_head *head);

// Puts clients in the order of their age, after torc_completion_load brought them in any.
void torc_completion_sort(struct torc_completion_table *table);

// Drops clients whose last record and failure lie before `hlc`; at most `count_max`. True: some may
// be left.
bool torc_completion_expire(struct torc_completion_table *table, uint64_t hlc, uint32_t count_max);

// Last use of the oldest client; UINT64_MAX when there is none.
uint64_t torc_completion_oldest_hlc(const struct torc_completion_table *table);

// Forgets all failures, and lows that were not logged: only a primary's own memory has them (E5).
// What is left is counted as torc_completion_own said last. Clients without a logged record were
// last used at 0 then: torc_completion_expire drops them, unless torc_completion_keep_client wants
// them.
void torc_completion_forget_failures(struct torc_completion_table *table);

// Forgets everything.
void torc_completion_drop(struct torc_completion_table *table);

// -- Walking, for checkpoints. The table may change between two calls; whoever stays is seen.
// -------

// The next client that has a logged record. *at: 0 to begin with, then the caller's to keep; its
// client is named by the value that *at has after the call. False: `walk_max` places were looked at
// in vain, or, when *at is TORC_COMPLETION_NONE, there is no more.
bool torc_completion_next_client(const struct torc_completion_table *table, uint32_t *at,
                                 uint32_t walk_max, struct torc_completion_head *head);

// The client that torc_completion_next_client left `client_at` at; false: it is gone.
bool torc_completion_client_at(const struct torc_completion_table *table, uint32_t client_at,
                               struct torc_completion_head *head);

// The next logged result of that client, which is there. *at: 0 to begin with. False: no more.
bool torc_completion_next_result(const struct torc_completion_table *table, uint32_t client_at,
                                 uint32_t *at, struct torc_completion_result *result);

// Walks X1, X2, X4; CORRUPT and the text says what.
enum torc_err torc_must_use torc_completion_check(const struct torc_completion_table *table,
                                                  struct torc_fail *why);

#endif
