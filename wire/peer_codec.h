// Torc wire: the bytes of what nodes say to each other (wire/peer.h), opcodes 40 to 5F.
//
// What    one operation for each message, framed like a request (wire/op.h): op id and budget are
//         0, aux is the shard, or 0 between nodes. None is answered. APPEND carries records, SNAP a
//         piece of a base. What is longer than a packet goes in parts, each an operation of its
//         own (struct torc_peer_cargo); whoever receives them puts them together.
//             APPEND: head 48 · records                    one part of one long record: head 48 ·
//             SNAP:   head 64 · cargo head 16 · bytes                   record · part 8 · bytes
//             record: 24 bytes, 24 more with a client, the value, zeros up to a multiple of 8
// Owner   none: pure functions over the caller's bytes.
// Memory  none. What is decoded points into the packet.
// Trust   torc_peer_op_decode takes any bytes. After OK all is inside the bounds of wire/peer.h: no
//         number of LSN is above TORC_PEER_LSN_MAX, lists rise where they must, and each record of
//         an APPEND decodes. Encoders assert.
// Invariants
//   P1  decode(encode(x)) == x.
//   P2  records of one APPEND were written in one epoch: `runs` has one entry, or none without
//       records.
// Sources REPLICATION.md, section 5; docs/PROTOCOL.md, "Between nodes".
#ifndef TORC_WIRE_PEER_CODEC_H
#define TORC_WIRE_PEER_CODEC_H

#include "wire/op.h"
#include "wire/peer.h"

// X(NAME, code, explanation)
#define TORC_PEER_OPCODE_TABLE(X)                                               \
    X(EPOCH, 0x40, "a primary's configuration and what its log is")             \
    X(APPEND, 0x41, "records of a shard's log, and how far they are committed") \
    X(ACK, 0x42, "how far a replica has the log")                               \
    X(REFUSE, 0x43, "the sender's epoch is over")                               \
    X(PROBE, 0x44, "whether another member hears the primary")                  \
    X(PROBE_ACK, 0x45, "the answer to it")                                      \
    X(TRANSFER, 0x46, "the receiver may become primary")                        \
    X(SNAP, 0x47, "a piece of a base, its end, or which piece is lacked")       \
    X(MARK, 0x48, "how far a shard is committed, asked for or told")            \
    X(BEAT, 0x50, "the sender lives; asks for a promise for its claims")        \
    X(BEAT_ACK, 0x51, "the promise, but for exceptions")                        \
    X(CLAIM, 0x52, "shards that the sender is primary of and the receiver holds")

enum torc_peer_opcode {
#define X(name, code, explanation) TORC_PEER_OP_##name = (code),
    TORC_PEER_OPCODE_TABLE(X)
#undef X
};

#define TORC_PEER_LSN_MAX     (UINT64_C(1) << 62)
#define TORC_PEER_CARGO_MAX   (16u << 20) // bytes of a value or of a piece
#define TORC_PEER_APPEND_MAX  256u        // records in one APPEND
#define TORC_PEER_OP_BYTES    576u        // of any operation without records and cargo, at most
#define TORC_PEER_APPEND_HEAD 48u         // of APPEND before its records, with the operation's 16
#define TORC_PEER_SNAP_HEAD   80u         // of a SNAP before its piece's bytes, likewise
#define TORC_PEER_RECORD_MAX  56u         // of a record before its value, with client and part
#define TORC_PEER_PART_MIN    512u        // bytes of a part that is not the last, at least

// -- Records -------------------------------------------------------------------------------------

// As in a log (storage/log_format.h), but for MOVED, which is each node's own.
enum torc_peer_record_kind {
    TORC_PEER_RECORD_PUT = 1,
    TORC_PEER_RECORD_DELETE = 2,
    TORC_PEER_RECORD_EPOCH = 3,
    TORC_PEER_RECORD_EMPTY = 5,
};

struct torc_peer_record {
    enum torc_peer_record_kind kind;
    bool with_client;
    uint32_t shard;
    uint32_t epoch; // that it was written in
    uint64_t lsn;
    uint64_t hlc;
    uint64_t key;         // PUT, DELETE
    uint32_t principal;   // with_client, and the next three
    uint32_t value_bytes; // PUT
    uint64_t client;
    uint64_t seq;
    uint64_t low;      // seq - low is below 2^32
    const void *value; // decoded: value_bytes of them, or of a part (see the APPEND's cargo)
};

// Walks over an APPEND's records, which were checked.
struct torc_peer_records {
    const unsigned char *bytes;
    uint32_t left;
    uint32_t shard;
    uint32_t epoch;
    uint64_t lsn;               // of the next one
    const unsigned char *whole; // the value of one that came in parts, put together; else NULL
};

// False: no more.
bool torc_peer_record_next(struct torc_peer_records *records, struct torc_peer_record *record);

// Bytes that it takes in an APPEND, whole.
uint64_t torc_peer_record_bytes(const struct torc_peer_record *record);

// -- Operations ----------------------------------------------------------------------------------

// A part of a long value or piece. Whole: byte_count == total_bytes.
struct torc_peer_cargo {
    const unsigned char *bytes;
    uint32_t byte_count;
    uint32_t total_bytes;
    uint32_t part_bytes; // of each part but the last; a multiple of 8
    uint32_t part;       // number
};

struct torc_peer_op {
    enum torc_peer_opcode opcode;
    union {
        struct torc_peer_message message; // up to SNAP: its kind goes with the opcode
        struct torc_peer_mark mark;
        struct torc_beat beat;
        struct torc_beat_ack beat_ack;
        struct torc_peer_claim claim;
    };
    struct torc_peer_records records; // APPEND, decoded
    // SNAP with a piece; and APPEND, decoded: total_bytes != 0 says that its only record's value is
    // in parts, of which this is one.
    struct torc_peer_cargo cargo;
};

// The opcode of a message, and the message that it is of; between nodes they have none.
enum torc_peer_opcode torc_peer_opcode_of(enum torc_peer_kind kind);

// "APPEND", or NULL: not an opcode of nodes.
const char *torc_peer_opcode_name(uint8_t opcode);

// Whether the code is one of nodes, known or not.
static inline bool torc_opcode_is_peer(uint8_t opcode)
{
    return opcode >= TORC_OPCODE_NODE_FIRST && opcode <= TORC_OPCODE_NODE_LAST;
}

// Bytes of the operation, exact; an APPEND has no records here.
uint32_t torc_peer_op_bytes(const struct torc_peer_op *op);

// Writes it and its padding; returns the padded bytes. An APPEND without records: count is 0.
uint32_t torc_peer_op_encode(unsigned char *to, const struct torc_peer_op *op);

// An operation out of the framing, whose opcode is of nodes. UNSUPPORTED (opcode) or
// INVALID_ARGUMENT with what is wrong.
enum torc_err torc_must_use torc_peer_op_decode(struct torc_peer_op *op, const unsigned char *bytes,
                                                uint32_t length, struct torc_fail *why);

// -- Building an APPEND --------------------------------------------------------------------------

struct torc_peer_append_builder {
    unsigned char *to;
    uint32_t room;
    uint32_t used; // head and records so far
    uint32_t count;
    uint32_t shard;
    uint32_t epoch; // of the records
    uint64_t next_lsn;
};

// Begins one in `to`. Of the message: shard, epoch, commit_lsn. Room: TORC_PEER_APPEND_HEAD at
// least.
void torc_peer_append_begin(struct torc_peer_append_builder *builder, unsigned char *to,
                            uint32_t room, const struct torc_peer_message *message);

// Adds a record that follows on the last. False: it does not (LSN, epoch), or there is no room.
bool torc_must_use torc_peer_append_add(struct torc_peer_append_builder *builder,
                                        const struct torc_peer_record *record);

// Adds one part of a record's value as the only thing in this APPEND: bytes
// [part * part_bytes, …) of it. The builder is empty and has room (TORC_PEER_RECORD_MAX and the
// part's bytes). part_bytes: a multiple of 8, TORC_PEER_PART_MIN or more, less than the value.
void torc_peer_append_part(struct torc_peer_append_builder *builder,
                           const struct torc_peer_record *record, uint32_t part_bytes,
                           uint32_t part);

// Finishes it; the padded bytes.
uint32_t torc_peer_append_end(struct torc_peer_append_builder *builder);

// How many parts, and how long this one is.
static inline uint32_t torc_peer_parts(uint32_t total_bytes, uint32_t part_bytes)
{
    return (total_bytes + part_bytes - 1) / part_bytes;
}

static inline uint32_t torc_peer_part_bytes(uint32_t total_bytes, uint32_t part_bytes,
                                            uint32_t part)
{
    return (uint32_t)torc_min_u64(part_bytes, total_bytes - (uint64_t)part * part_bytes);
}

#endif
