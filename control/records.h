// Torc control: what the metastore's records say, as text.
//
// What    one table of fields for each kind of record; encoding and decoding, one `name=value` a
//         line, `format=` first. Names of the records.
// Owner   none: pure functions over the caller's structs.
// Format  docs/FORMATS.md. Format 3 is written; 1 and 2 are read too, what they lack is zero. An
//         unknown field or a newer format is refused by name.
// Sources docs/FORMATS.md, section 2.
#ifndef TORC_CONTROL_RECORDS_H
#define TORC_CONTROL_RECORDS_H

#include "kit/fail.h"

#define TORC_RECORD_FORMAT      3u
#define TORC_RECORD_FORMAT_OLD  1u
#define TORC_RECORD_TEXT_BYTES  192
#define TORC_RECORD_BYTES_MAX   2048
#define TORC_RECORD_NAME_BYTES  32
#define TORC_RECORD_NODE_MAX    4095
#define TORC_RECORD_MEMBERS_MAX 8 // 7 replicas, and one that comes before another goes
#define TORC_RECORD_PARENTS_MAX 2
#define TORC_RECORD_LOSSES_MAX  8
#define TORC_RECORD_ZONE_MAX    4095
#define TORC_RECORD_SLOT_MAX    4096

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

enum torc_record_node_state {
    TORC_RECORD_NODE_SERVES,
    TORC_RECORD_NODE_DRAINING, // an operator wants it empty
    TORC_RECORD_NODE_HELD,     // an operator lets it get nothing yet
    TORC_RECORD_NODE_YIELDS,   // an operator wants it to lead nothing; it keeps its replicas
};

// X(of, KIND, since, greatest, field). NUMBER: uint64_t up to `greatest`; TEXT: a line; lists:
// NODES, MEMBERS, PARENTS, LOSSES. `since`: the first format that has it; `of` is handed through.
#define TORC_META_RECORD_TABLE(X, of)             \
    X(of, NUMBER, 1, UINT64_MAX, cluster)         \
    X(of, NUMBER, 1, UINT64_MAX, keys)            \
    X(of, NUMBER, 1, UINT64_MAX, replicas)        \
    X(of, NUMBER, 1, UINT64_MAX, min_in_sync)     \
    X(of, NUMBER, 1, 2, durability)               \
    X(of, NUMBER, 1, 1, security)                 \
    X(of, NUMBER, 1, UINT64_MAX, value_max)       \
    X(of, NUMBER, 1, UINT64_MAX, dedup_ttl_s)     \
    X(of, NUMBER, 1, 4096, shards)                \
    X(of, NUMBER, 1, UINT64_MAX, created_s)       \
    X(of, NUMBER, 3, TORC_RECORD_NODE_MAX, nodes) \
    X(of, NUMBER, 3, TORC_RECORD_NODE_MAX, maker)

// `zone` and `slot` say where the node stands on the ring (control/ring.h): the number of its
// domain, 0 for none; its slot + 1, 0 before placement's leader gave it one. `capacity`: MiB of
// memory; 0 counts as 1. `state`: enum torc_record_node_state. `leaving`: the boot that is about to
// be stopped cleanly.
#define TORC_NODE_RECORD_TABLE(X, of)                \
    X(of, NUMBER, 1, UINT64_MAX, boot)               \
    X(of, NUMBER, 1, UINT64_MAX, down)               \
    X(of, NUMBER, 1, UINT64_MAX, copy)               \
    X(of, NUMBER, 1, UINT64_MAX, start_count)        \
    X(of, NUMBER, 1, 65535, base_port)               \
    X(of, NUMBER, 1, 255, cores)                     \
    X(of, TEXT, 1, 0, address)                       \
    X(of, TEXT, 1, 0, address6)                      \
    X(of, TEXT, 2, 0, domain)                        \
    X(of, NUMBER, 2, UINT64_MAX, capacity)           \
    X(of, NUMBER, 3, TORC_RECORD_ZONE_MAX, zone)     \
    X(of, NUMBER, 3, TORC_RECORD_SLOT_MAX, slot)     \
    X(of, NUMBER, 3, TORC_RECORD_NODE_YIELDS, state) \
    X(of, NUMBER, 3, UINT64_MAX, leaving)            \
    X(of, NUMBER, 2, UINT64_MAX, nonce)

// `insync`: in takeover order.
#define TORC_SHARD_RECORD_TABLE(X, of)                   \
    X(of, NUMBER, 1, UINT64_MAX, lo)                     \
    X(of, NUMBER, 1, UINT64_MAX, hi)                     \
    X(of, NUMBER, 1, UINT32_MAX, epoch)                  \
    X(of, NUMBER, 1, TORC_RECORD_NODE_MAX, primary_node) \
    X(of, NUMBER, 1, UINT64_MAX, primary_boot)           \
    X(of, MEMBERS, 1, 0, insync)                         \
    X(of, NUMBER, 2, TORC_RECORD_BIRTH_MERGE, birth)     \
    X(of, PARENTS, 2, 0, parents)                        \
    X(of, MEMBERS, 2, 0, previous)                       \
    X(of, LOSSES, 2, 0, losses)                          \
    X(of, NUMBER, 2, UINT64_MAX, nonce)

#define TORC_WANT_RECORD_TABLE(X, of)               \
    X(of, NODES, 2, 0, nodes)                       \
    X(of, NUMBER, 2, TORC_RECORD_NODE_MAX, primary) \
    X(of, NUMBER, 2, UINT64_MAX, nonce)

// `value`: the last number that was drawn.
#define TORC_COUNTER_RECORD_TABLE(X, of) \
    X(of, NUMBER, 1, UINT64_MAX, value)  \
    X(of, NUMBER, 2, UINT64_MAX, nonce)

// Who places: others take over by compare-and-swap when `beat` has stood still for a while by their
// own clocks (control/leader.h).
#define TORC_PLACEMENT_RECORD_TABLE(X, of)         \
    X(of, NUMBER, 2, UINT64_MAX, term)             \
    X(of, NUMBER, 2, TORC_RECORD_NODE_MAX, leader) \
    X(of, NUMBER, 2, UINT64_MAX, boot)             \
    X(of, NUMBER, 2, UINT64_MAX, beat)             \
    X(of, NUMBER, 2, UINT64_MAX, nonce)

// How far the start went that a node's record is of (control/starts.h). `served`: the last boot
// that may have served, `copy`: as which copy.
#define TORC_START_RECORD_TABLE(X, of)        \
    X(of, NUMBER, 3, UINT64_MAX, start_count) \
    X(of, NUMBER, 3, UINT64_MAX, served)      \
    X(of, NUMBER, 3, UINT64_MAX, copy)        \
    X(of, NUMBER, 3, UINT64_MAX, nonce)

// X(KIND, name, table): each has a struct torc_<name>_fields.
#define TORC_RECORD_KIND_TABLE(X)                        \
    X(META, meta, TORC_META_RECORD_TABLE)                \
    X(NODE, node, TORC_NODE_RECORD_TABLE)                \
    X(SHARD, shard, TORC_SHARD_RECORD_TABLE)             \
    X(WANT, want, TORC_WANT_RECORD_TABLE)                \
    X(COUNTER, counter, TORC_COUNTER_RECORD_TABLE)       \
    X(PLACEMENT, placement, TORC_PLACEMENT_RECORD_TABLE) \
    X(START, start, TORC_START_RECORD_TABLE)

#define TORC_RECORD_FIELD_NUMBER(field)                     uint64_t field;
#define TORC_RECORD_FIELD_TEXT(field)                       char field[TORC_RECORD_TEXT_BYTES];
#define TORC_RECORD_FIELD_NODES(field)                      struct torc_record_nodes field;
#define TORC_RECORD_FIELD_MEMBERS(field)                    struct torc_record_members field;
#define TORC_RECORD_FIELD_PARENTS(field)                    struct torc_record_parents field;
#define TORC_RECORD_FIELD_LOSSES(field)                     struct torc_record_losses field;
#define TORC_RECORD_FIELD(of, kind, since, greatest, field) TORC_RECORD_FIELD_##kind(field)
#define X(kind, name, table)                           \
    struct torc_##name##_fields {                      \
        table(TORC_RECORD_FIELD, torc_##name##_fields) \
    };
TORC_RECORD_KIND_TABLE(X)
#undef X

enum torc_record {
#define X(kind, name, table) TORC_RECORD_##kind,
    TORC_RECORD_KIND_TABLE(X)
#undef X
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
