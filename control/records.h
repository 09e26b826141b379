// Torc control: what the metastore's records say, as text.
//
// What    one table of fields for each kind of record; encoding and decoding, one `name=value` a
//         line, `format=1` first. Names of the records.
// Owner   none: pure functions over the caller's structs.
// Format  docs/FORMATS.md. An unknown field is refused by name: a newer version raises `format`.
// Sources REPLICATION.md, section 3.
#ifndef TORC_CONTROL_RECORDS_H
#define TORC_CONTROL_RECORDS_H

#include "kit/fail.h"

#define TORC_RECORD_FORMAT     1u
#define TORC_RECORD_TEXT_BYTES 192
#define TORC_RECORD_BYTES_MAX  2048
#define TORC_RECORD_NAME_BYTES 32

// X(KIND, field). NUMBER: uint64_t; TEXT: a line.
#define TORC_META_RECORD_TABLE(X) \
    X(NUMBER, cluster)            \
    X(NUMBER, keys)               \
    X(NUMBER, replicas)           \
    X(NUMBER, min_in_sync)        \
    X(NUMBER, durability)         \
    X(NUMBER, security)           \
    X(NUMBER, value_max)          \
    X(NUMBER, dedup_ttl_s)        \
    X(NUMBER, shards)             \
    X(NUMBER, created_s)

#define TORC_NODE_RECORD_TABLE(X) \
    X(NUMBER, boot)               \
    X(NUMBER, down)               \
    X(NUMBER, copy)               \
    X(NUMBER, start_count)        \
    X(NUMBER, base_port)          \
    X(NUMBER, cores)              \
    X(TEXT, address)              \
    X(TEXT, address6)

// `insync`: node:copy, joined by commas, in takeover order.
#define TORC_SHARD_RECORD_TABLE(X) \
    X(NUMBER, lo)                  \
    X(NUMBER, hi)                  \
    X(NUMBER, epoch)               \
    X(NUMBER, primary_node)        \
    X(NUMBER, primary_boot)        \
    X(TEXT, insync)

#define TORC_COUNTER_RECORD_TABLE(X) X(NUMBER, value)

#define TORC_RECORD_NUMBER(field) uint64_t field;
#define TORC_RECORD_TEXT(field)   char field[TORC_RECORD_TEXT_BYTES];
#define X(kind, field)            TORC_RECORD_##kind(field)
struct torc_meta_fields {
    TORC_META_RECORD_TABLE(X)
};
struct torc_node_fields {
    TORC_NODE_RECORD_TABLE(X)
};
struct torc_shard_fields {
    TORC_SHARD_RECORD_TABLE(X)
};
struct torc_counter_fields {
    TORC_COUNTER_RECORD_TABLE(X)
};
#undef X

enum torc_record {
    TORC_RECORD_META,
    TORC_RECORD_NODE,
    TORC_RECORD_SHARD,
    TORC_RECORD_COUNTER,
};

// The record's text into `text` (TORC_RECORD_BYTES_MAX); returns its bytes. `fields`: the kind's
// struct.
uint32_t torc_record_encode(enum torc_record kind, const void *fields, char *text);

// The reverse; each field must be there, once. CORRUPT or UNSUPPORTED_VERSION.
enum torc_err torc_must_use torc_record_decode(enum torc_record kind, void *fields,
                                               const char *text, uint64_t text_bytes,
                                               struct torc_fail *why);

// "node/1", "shard/17": `name` has TORC_RECORD_NAME_BYTES.
void torc_record_name(char *name, const char *family, uint64_t id);

// 17 of "shard/17"; false when that is not its shape.
bool torc_must_use torc_record_id(const char *name, const char *family, uint64_t *id);

#endif
