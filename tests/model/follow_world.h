// Torc tests: what the files of model_follow.c share: three nodes that hold one shard, and what
// each of them must have.
#ifndef TORC_TESTS_MODEL_FOLLOW_WORLD_H
#define TORC_TESTS_MODEL_FOLLOW_WORLD_H

#include "kit/hlc.h"
#include "storage/base.h"
#include "storage/replay.h"
#include "tests/shard_rig.h"

enum {
    NODES = 3,
    KEYS = 24,
    CLIENTS = 6,
    SEQS = 2048, // of one client
    LOG_MAX = 4096,
    TAPE_MAX = 4 * LOG_MAX, // what was ever appended, cut records too
    WORLD_OPS = 6000,
    CHUNKS = 256,
    TTL_S = 120,
    SLOTS = 1000,
    SLOTS_TIGHT = 12,
};

#define KEY_BASE   UINT64_C(5000)
#define HEAP_BYTES (UINT64_C(48) << 20)

enum fault {
    FAULT_NONE,
    FAULT_VALUE,  // a record changes on its way to a backup
    FAULT_KEEP,   // one record more than allowed survives a cut
    FAULT_COMMIT, // a backup applies what is not committed
    FAULT_BEGUN,  // the log does not say that it began anew
    FAULT_COUNT,
};

// A record as it lies in a node's log, and in which block of it.
struct record {
    enum torc_log_kind kind;
    uint32_t epoch;
    uint64_t hlc;
    uint64_t key;
    uint32_t client; // index
    uint64_t seq;
    uint64_t low;
    uint64_t value_seed;
    uint32_t value_bytes;
    uint64_t sequence;
    bool on_disk; // whatever its sequence says: it lay there when this life began
    uint64_t tag; // of the primary that made it; 0: none
};

// The same as it was appended: with MOVED, and with what was cut later.
struct taped {
    struct torc_log_record record;
    struct record made;
    uint32_t stream;
};

// A checkpoint of a node, made or being made.
struct checkpoint {
    bool busy;
    bool kept;
    uint32_t begun_turn; // of the BEGUN that it goes on from; 0: none
    uint64_t begun_lsn;
    uint64_t begun_records; // of the shard
    struct torc_checkpoint_writer writer;
    unsigned char *bytes;
    uint64_t byte_count;
    uint64_t room;
};

struct node {
    uint32_t index;
    struct torc_shard_pool pool;
    void *pool_memory;
    struct torc_shard shard;
    struct record log[LOG_MAX]; // by LSN
    uint64_t last;
    uint64_t applied;
    uint64_t next_sequence;
    uint64_t top_sequence; // that anything was appended to
    uint64_t durable_sequence;
    bool member;               // in-sync
    bool synced;               // its log was cut for the present primary
    struct record cells[KEYS]; // the last record applied of each key; kind 0: none
    uint64_t lows[CLIENTS];    // applied
    uint64_t undo_ended;       // the last HLC of what it kept before a base
    uint64_t undo_from;        // applied_hlc when it began to keep the past
    struct taped tape[TAPE_MAX];
    uint32_t tape_count;
    uint32_t stream;
    uint32_t turn;
    struct checkpoint making;
    struct checkpoint kept;
    // A base: being taken; or wanted, for its log goes on nowhere.
    bool loading;
    bool needs_base;
    bool unkept;         // no checkpoint since, and its log does not begin with its first record
    uint32_t begun_turn; // its log counts from this BEGUN on; 0: from its start
    uint64_t begun_lsn;  // and goes on above this
    uint64_t whole_lsn;  // below it its tree is of no moment
    struct torc_base_writer base_writer;
    struct torc_base_reader base_reader;
    void *base_memory;
};

// A write as it was sent last.
struct sent {
    struct torc_shard_write write;
    uint64_t value_seed;
};

struct world {
    struct shard_rig *rig;
    struct torc_rng rng;
    enum fault fault;
    bool tight;
    bool broken;
    bool quiet;
    uint64_t seed;
    uint64_t ops;
    uint32_t epoch;
    uint32_t primary;
    bool active;       // the primary serves
    uint64_t open_lsn; // of its EPOCH
    uint64_t commit;
    uint64_t next_tag;
    struct node nodes[NODES];
    uint64_t next_seq[CLIENTS];
    uint64_t low[CLIENTS];
    struct sent sent[CLIENTS][SEQS];
    struct torc_replay *replay;
    unsigned char *replay_memory;
    uint64_t counts[16];
};

enum {
    COUNT_APPEND,
    COUNT_TAKE,
    COUNT_CUT,
    COUNT_TAKEOVER,
    COUNT_RETRY,
    COUNT_REFUSED,
    COUNT_PAST,
    COUNT_RESTART,
    COUNT_HELD,
    COUNT_CHECKPOINT,
    COUNT_BASE,
    COUNT_BASE_GONE, // with its node's life
    COUNT_OPS,
};

// -- follow_world.c ------------------------------------------------------------------------------

void wrong(struct world *world, const char *what, uint64_t a, uint64_t b);
void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b);
uint64_t below(struct world *world, uint64_t bound);
bool chance(struct world *world, uint32_t percent);
void world_init(struct world *world, struct shard_rig *rig, uint64_t seed, enum fault fault);
void world_free(struct world *world);

// An empty shard in an empty pool.
void node_open(struct world *world, struct node *node);

// The engine gave `record` to be appended: it is the node's next; the model and the engine know it.
void node_append(struct world *world, struct node *node, const struct torc_log_record *record,
                 const struct record *made);

// The tree has what the log says up to applied_lsn.
void node_catch_up(struct world *world, struct node *node);

// Everything that can be seen of a node, against its log.
void node_check(struct world *world, struct node *node);
void node_check_past(struct world *world, struct node *node);

// follow_restart.c: a slice of a checkpoint; and a new life from the last one and the log.
void checkpoint_some(struct world *world, struct node *node);
void node_restart(struct world *world, struct node *node);

// follow_base.c: begins a base from the leader, or goes on with it; and gives it up.
void base_some(struct world *world, struct node *node);
void base_begun(struct world *world, struct node *node);
void base_give_up(struct node *node);

static inline bool node_is_whole(const struct node *node)
{
    return !node->loading && !node->needs_base && node->applied >= node->whole_lsn;
}

// LSN of (client, seq) in the node's log; 0: it is not there.
uint64_t node_find(const struct node *node, uint32_t client, uint64_t seq);

#endif
