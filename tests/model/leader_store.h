// Torc tests: a metastore in memory for placement's leaders, which is slow, away, or does late what
// it was asked and says that it does not know.
//
// What    records by family and number; one request under way for each client. A transaction is
//         looked at when it takes effect: who may write what.
// Owner   tests/model/model_leader.c.
#ifndef TORC_TESTS_MODEL_LEADER_STORE_H
#define TORC_TESTS_MODEL_LEADER_STORE_H

#include "control/leader.h"
#include "tests/torc_test.h"

enum {
    STORE_NODES = 40,
    STORE_SHARDS = 400,
    STORE_CLIENTS = 4,
    STORE_LATE = 16,
    STORE_TERMS = 4096,
    STORE_VALUE = 512
};

enum store_family {
    STORE_PLACEMENT,
    STORE_NODE,
    STORE_SHARD,
    STORE_WANT,
    STORE_FAMILIES
};

struct store_record {
    char key[TORC_RECORD_NAME_BYTES];
    char value[STORE_VALUE];
    uint32_t value_bytes;
    uint64_t version; // 0: there is none
};

struct store_call {
    bool busy;
    bool done; // it took effect, or never will
    bool doubt;
    enum torc_err err;
    uint64_t effect_ns;
    uint64_t answer_ns;
    struct torc_meta_request *request;
    struct torc_meta_answer answer;
    struct torc_meta_record records[STORE_SHARDS + 1];
    struct store_record copies[STORE_SHARDS + 1];
};

struct store_late { // a transaction still under way, whose client knows nothing
    struct torc_meta_request *request;
    uint64_t effect_ns;
    uint32_t client;
};

// Planted: what a wrong leader or store would do.
enum store_fault {
    STORE_FAULT_NONE,
    STORE_FAULT_UNFENCED, // wishes are written without leading
    STORE_FAULT_HALF,     // half of a transaction is lost
    STORE_FAULT_BELIEVES, // doubt is taken for success
    STORE_FAULT_BLIND,    // lists lack the last record
};

struct store {
    struct torc_rng rng;
    uint64_t now_ns;
    uint64_t revision;
    struct store_record placement;
    struct store_record nodes[STORE_NODES + 1];
    struct store_record shards[STORE_SHARDS + 1];
    struct store_record wants[STORE_SHARDS + 1];
    struct store_call calls[STORE_CLIENTS];
    struct store_late late[STORE_LATE];
    uint32_t late_count;
    bool trouble;
    bool full; // takes no wish of an odd shard
    enum store_fault fault;
    const char *broken;
    // What was seen
    uint32_t leaders[STORE_TERMS];
    uint64_t arrived; // replicas that wishes put where they were not wished before
    uint64_t wants_written;
    uint64_t txns;
};

void store_blame(struct store *store, const char *what);

// Writes a record from outside; NULL: deletes it.
void store_put(struct store *store, enum store_family family, uint64_t id, enum torc_record kind,
               const void *fields);
bool store_get(const struct store *store, enum store_family family, uint64_t id,
               enum torc_record kind, void *fields);

void store_submit(struct store *store, uint32_t client, const struct torc_meta_request *request);

// Goes on to the present time.
void store_step(struct store *store);

// The client's answer, when it has come.
bool store_answer(struct store *store, uint32_t client, struct torc_meta_answer *answer);

void store_close(struct store *store);

#endif
