// Torc tests: what the files of model_shard.c share: the model's world, and who does what with it.
#ifndef TORC_TESTS_MODEL_SHARD_WORLD_H
#define TORC_TESTS_MODEL_SHARD_WORLD_H

#include "kit/hlc.h"
#include "storage/replay.h"
#include "storage/scan.h"
#include "tests/shard_rig.h"

enum {
    SHARDS = 2,
    KEYS = 48, // of both shards together
    KEYS_EACH = KEYS / SHARDS,
    ACTORS = 6,
    SEQS = 2048, // of one identity
    IDENTITIES_MAX = 4096,
    OPS_KEPT = 4096,
    PENDING_MAX = 4096,
    BLOCKS_MAX = 65536,
    WORLD_OPS = 12000,
    CHUNKS = 256,
    TTL_S = 120,
};

#define KEY_BASE   UINT64_C(1000)
#define HEAP_BYTES (UINT64_C(48) << 20)

enum fault {
    FAULT_NONE,
    FAULT_FORGET, // completion records vanish
    FAULT_VALUE,  // a value changes in the tree
    FAULT_LOSE,   // a record is missing from the log that is replayed
    FAULT_COUNT,
};

enum known_state {
    KNOWN_NOT,
    KNOWN_WAITING,
    KNOWN_PENDING,
    KNOWN_LOGGED,
    KNOWN_FAILED,
};

struct known {
    uint8_t state;  // enum known_state
    bool committed; // ever: it may not be executed again
    bool answered;  // with OK, by an outcome
    uint16_t err;
    uint64_t info;
};

// A client of one shard, as the shard knows it.
struct identity {
    uint64_t client;
    uint32_t principal;
    uint32_t shard;
    uint64_t next_seq;
    uint64_t low;
    bool exists; // the shard has an entry for it
    bool lapsed; // the shard may have dropped it once, by age: what it remembers is not certain
    uint64_t logged_low;
    uint64_t seen_low;
    uint64_t last_hlc; // of a logged record
    uint64_t used_hlc;
    struct known *known; // SEQS
};

struct op {
    struct torc_shard_write write;
    uint32_t identity;
    uint32_t place; // where it waits
    uint64_t value_seed;
};

struct cell {
    bool present;
    uint64_t version;
    uint64_t value_seed;
    uint32_t value_bytes;
};

struct pending {
    struct op op;
    uint64_t lsn;
    uint64_t hlc;
    uint64_t last_sequence;
    bool own; // EPOCH, MOVED, EMPTY
};

struct block {
    unsigned char *bytes;
    uint32_t byte_count;
};

struct checkpoint {
    bool busy;
    bool kept;
    uint64_t begun_records; // of the shard, when it was begun
    struct torc_checkpoint_writer writer;
    unsigned char *bytes;
    uint64_t byte_count;
    uint64_t room;
};

struct side {
    struct torc_shard shard;
    struct pending pending[PENDING_MAX]; // ring
    uint32_t first;
    uint32_t count;
    struct op waiting[PENDING_MAX];
    uint32_t waiting_count;
    uint64_t lsn; // last appended
    uint64_t applied_lsn;
    uint32_t epoch;
    uint32_t turn;
    struct checkpoint making;
    struct checkpoint kept;
};

struct world {
    struct shard_rig *rig;
    struct torc_rng rng;
    enum fault fault;
    bool tight;
    bool crowded; // tight, and who is remembered has no share
    bool broken;
    bool quiet;
    uint64_t seed;
    uint64_t ops;
    struct side sides[SHARDS];
    struct cell cells[KEYS];
    struct identity *identities;
    uint32_t identity_count;
    uint32_t actors[SHARDS][ACTORS];
    struct op kept[OPS_KEPT];
    uint64_t kept_count;
    uint64_t next_tag;
    // The log.
    struct torc_log_builder builder;
    unsigned char building[TORC_LOG_BLOCK_BYTES_MAX];
    bool open;
    uint32_t capacity;
    struct block blocks[BLOCKS_MAX]; // by sequence
    uint64_t next_sequence;
    uint64_t first_sequence; // trimmed below it
    uint64_t durable;
    void *replay_memory;
    uint64_t counts[8]; // answers, appends, waits, restarts, checkpoints, refused
};

enum {
    COUNT_ANSWER,
    COUNT_APPEND,
    COUNT_WAIT,
    COUNT_RESTART,
    COUNT_CHECKPOINT,
    COUNT_REFUSED,
    COUNT_REPLAYED,
};

// -- shard_world.c -------------------------------------------------------------------------------

void wrong(struct world *world, const char *what, uint64_t a, uint64_t b);
void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b);
uint64_t below(struct world *world, uint64_t bound);
bool chance(struct world *world, uint32_t percent);
struct side *side_of(struct world *world, uint64_t key);
void value_make(unsigned char *bytes, uint64_t seed, uint32_t count);
bool value_is(const void *value, uint64_t seed, uint32_t count);

// -- shard_oracle.c ------------------------------------------------------------------------------

uint64_t now_hlc(const struct world *world);
void identity_age(struct identity *identity, uint64_t hlc);
void identity_use(struct identity *identity, uint64_t hlc);
void write_check(struct world *world, struct op *op, struct torc_shard_write *write, bool woken);

// -- shard_ops.c ---------------------------------------------------------------------------------

uint32_t identity_new(struct world *world, uint32_t shard);
void send_again(struct world *world);
void send_new(struct world *world);
void cell_apply(struct world *world, const struct pending *pending);
struct pending side_pop(struct side *side);
void drain_woken(struct world *world);
void commit_some(struct world *world);
void commit_all(struct world *world);
void read_some(struct world *world);
void scan_some(struct world *world);
void count_some(struct world *world);

// -- shard_restart.c -----------------------------------------------------------------------------

void log_seal(struct world *world);
void log_append(struct world *world, struct side *side, const struct torc_log_record *record,
                struct pending *pending);
struct pending *pending_push(struct world *world, struct side *side);
void log_own(struct world *world, struct side *side, const struct torc_log_record *record);
void checkpoint_step(struct world *world, struct side *side);
void side_init(struct world *world, uint32_t index);
void side_begin(struct world *world, struct side *side);
void restart(struct world *world);

#endif
