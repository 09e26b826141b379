// Torc control: what the metastore's records say, as text.
//
// What    one table of fields for each kind of record; encoding and decoding, one `name=value` a
//         line, `format=` first. Names of the records.
// Owner   none: pure functions over the caller's structs.
// Format  docs/FORMATS.md. Format 2 is written; 1 is read too, what it lacks is zero. An unknown
//         field or a newer format is refused by name.
// Sources REPLICATION.md, section 3.
#ifndef TORC_CONTROL_RECORDS_H
#define TORC_CONTROL_RECORDS_H

#include "kit/fail.h"

#define TORC_RECORD_FORMAT      2u
#define TORC_RECORD_FORMAT_OLD  1u
#define TORC_RECORD_TEXT_BYTES  192
#define TORC_RECORD_BYTES_MAX   2048
#define TORC_RECORD_NAME_BYTES  32
#define TORC_RECORD_NODE_MAX    4095
#define TORC_RECORD_MEMBERS_MAX 8 // 7 replicas, and one that comes before another goes
#define TORC_RECORD_PARENTS_MAX 2
#define TORC_RECORD_LOSSES_MAX  8

// Lists: parts of one entry are joined by colons, entries by commas.
struct torc_record_member {
    uint64_t node;
    uint64_t copy;
};

struct torc_record_parent {
    uint64_t shard;
    uint64_t epoch;
    uint64_t lsn;
};

// An operator accepted that what only `copy` of `node` had is lost (REPLICATION.md, section 10).
struct torc_record_loss {
    uint64_t epoch; // of the configuration that was given up
    uint64_t node;
    uint64_t copy;
    uint64_t lsn; // what the shard goes on from
    uint64_t at_s;
};

struct torc_record_nodes {
    uint64_t count;
    uint64_t at[TORC_RECORD_MEMBERS_MAX];
};

struct torc_record_members {
    uint64_t count;
    struct torc_record_member at[TORC_RECORD_MEMBERS_MAX];
};

struct torc_record_parents {
    uint64_t count;
    struct torc_record_parent at[TORC_RECORD_PARENTS_MAX];
};

struct torc_record_losses {
    uint64_t count;
    struct torc_record_loss at[TORC_RECORD_LOSSES_MAX];
};

enum torc_record_birth {
    TORC_RECORD_BIRTH_NONE,
    TORC_RECORD_BIRTH_SPLIT,
    TORC_RECORD_BIRTH_MERGE,
};

// X(KIND, since, greatest, field). NUMBER: uint64_t up to `greatest`; TEXT: a line; lists: NODES,
// MEMBERS, PARENTS, LOSSES. `since`: the first format that has it.
#define TORC_META_RECORD_TABLE(X)         \
    X(NUMBER, 1, UINT64_MAX, cluster)     \
    X(NUMBER, 1, UINT64_MAX, keys)        \
    X(NUMBER, 1, UINT64_MAX, replicas)    \
    X(NUMBER, 1, UINT64_MAX, min_in_sync) \
    X(NUMBER, 1, 2, durability)           \
    X(NUMBER, 1, 1, security)             \
    X(NUMBER, 1, UINT64_MAX, value_max)   \
    X(NUMBER, 1, UINT64_MAX, dedup_ttl_s) \
    X(NUMBER, 1, 4096, shards)            \
    X(NUMBER, 1, UINT64_MAX, created_s)

#define TORC_NODE_RECORD_TABLE(X)         \
    X(NUMBER, 1, UINT64_MAX, boot)        \
    X(NUMBER, 1, UINT64_MAX, down)        \
    X(NUMBER, 1, UINT64_MAX, copy)        \
    X(NUMBER, 1, UINT64_MAX, start_count) \
    X(NUMBER, 1, 65535, base_port)        \
    X(NUMBER, 1, 255, cores)              \
    X(TEXT, 1, 0, address)                \
    X(TEXT, 1, 0, address6)               \
    X(TEXT, 2, 0, domain)                 \
    X(NUMBER, 2, UINT64_MAX, capacity)    \
    X(NUMBER, 2, UINT64_MAX, nonce)

// `insync`: in takeover order.
#define TORC_SHARD_RECORD_TABLE(X)                   \
    X(NUMBER, 1, UINT64_MAX, lo)                     \
    X(NUMBER, 1, UINT64_MAX, hi)                     \
    X(NUMBER, 1, UINT32_MAX, epoch)                  \
    X(NUMBER, 1, TORC_RECORD_NODE_MAX, primary_node) \
    X(NUMBER, 1, UINT64_MAX, primary_boot)           \
    X(MEMBERS, 1, 0, insync)                         \
    X(NUMBER, 2, TORC_RECORD_BIRTH_MERGE, birth)     \
    X(PARENTS, 2, 0, parents)                        \
    X(MEMBERS, 2, 0, previous)                       \
    X(LOSSES, 2, 0, losses)                          \
    X(NUMBER, 2, UINT64_MAX, nonce)

#define TORC_WANT_RECORD_TABLE(X)               \
    X(NODES, 2, 0, nodes)                       \
    X(NUMBER, 2, TORC_RECORD_NODE_MAX, primary) \
    X(NUMBER, 2, UINT64_MAX, nonce)

// `value`: the last number that was drawn.
#define TORC_COUNTER_RECORD_TABLE(X) \
    X(NUMBER, 1, UINT64_MAX, value)  \
    X(NUMBER, 2, UINT64_MAX, nonce)

// Who places: others take over by compare-and-swap when `beat` has stood still for a while by their
// own clocks.
#define TORC_PLACEMENT_RECORD_TABLE(X)         \
    X(NUMBER, 2, UINT64_MAX, term)             \
    X(NUMBER, 2, TORC_RECORD_NODE_MAX, leader) \
    X(NUMBER, 2, UINT64_MAX, boot)             \
    X(NUMBER, 2, UINT64_MAX, beat)             \
    X(NUMBER, 2, UINT64_MAX, nonce)

#define TORC_RECORD_FIELD_NUMBER(field)  uint64_t field;
#define TORC_RECORD_FIELD_TEXT(field)    char field[TORC_RECORD_TEXT_BYTES];
#define TORC_RECORD_FIELD_NODES(field)   struct torc_record_nodes field;
#define TORC_RECORD_FIELD_MEMBERS(field) struct torc_record_members field;
#define TORC_RECORD_FIELD_PARENTS(field) struct torc_record_parents field;
#define TORC_RECORD_FIELD_LOSSES(field)  struct torc_record_losses field;
#define X(kind, since, greatest, field)  TORC_RECORD_FIELD_##kind(field)
struct torc_meta_fields {
    TORC_META_RECORD_TABLE(X)
};
struct torc_node_fields {
    TORC_NODE_RECORD_TABLE(X)
};
struct torc_shard_fields {
    TORC_SHARD_RECORD_TABLE(X)
};
struct torc_want_fields {
    TORC_WANT_RECORD_TABLE(X)
};
struct torc_counter_fields {
    TORC_COUNTER_RECORD_TABLE(X)
};
struct torc_placement_fields {
    TORC_PLACEMENT_RECORD_TABLE(X)
};
#undef X

enum torc_record {
    TORC_RECORD_META,
    TORC_RECORD_NODE,
    TORC_RECORD_SHARD,
    TORC_RECORD_WANT,
    TORC_RECORD_COUNTER,
    TORC_RECORD_PLACEMENT,
};

// The record's text into `text` (TORC_RECORD_BYTES_MAX); returns its bytes. `fields`: the kind's
// struct.
uint32_t torc_record_encode(enum torc_record kind, const void *fields, char *text);

// The reverse; each field of its format must be there, once. CORRUPT or UNSUPPORTED_VERSION. Of a
// shard also: lo < hi, members are distinct, the primary is one of them.
enum torc_err torc_must_use torc_record_decode(enum torc_record kind, void *fields,
                                               const char *text, uint64_t text_bytes,
                                               struct torc_fail *why);

// "node/1", "shard/17": `name` has TORC_RECORD_NAME_BYTES.
void torc_record_name(char *name, const char *family, uint64_t id);

// 17 of "shard/17"; false when that is not its shape.
bool torc_must_use torc_record_id(const char *name, const char *family, uint64_t *id);

#endif
