// Torc wire: operations: what a data packet carries, in both directions.
//
// What    opcodes, flags and reasons; one struct for a request operation and one for a reply, each
//         with an encoder and a decoder; the framing of a packet; the bodies of replies that have a
//         layout of their own. Range chunks are in wire/rows.h, the map's entries in wire/map.h.
//             request: opcode u8, flags u8, length u16, op id u32, budget u32, aux u32, body
//             reply:   opcode + 0x80 u8, status u8, length u16, op id u32, info u64, body
//         `length` is exact; the next operation begins at the next multiple of 8, padding is zero.
// Owner   none: pure functions over the caller's bytes.
// Memory  none. Decoded operations point into the packet.
// Trust   torc_framing_check looks at all operations before any runs; torc_request_decode checks
//         one operation's body, flags and reserved fields. What needs the store (keys, limits,
//         epochs) is the worker's to check. Encoders assert.
// Invariants
//   O1  the shortest answer to an operation is never longer than the operation.
//   O2  an encoder and a decoder of the same struct are inverse: decode(encode(x)) == x.
// Sources docs/PROTOCOL.md, sections 4 to 7; REPLICATION.md, section 12.
#ifndef TORC_WIRE_OP_H
#define TORC_WIRE_OP_H

#include "kit/fail.h"
#include "kit/le.h"

#define TORC_REQUEST_HEAD_BYTES 16u
#define TORC_REPLY_HEAD_BYTES   16u
#define TORC_PACKET_OPS_MAX     64u // operations in one packet
#define TORC_REPLY_BIT          0x80u
#define TORC_WRITE_REPLY_BYTES  24u // of a PUT or DELETE without a value
#define TORC_FRAGMENT_STEP      8u  // fragment sizes are multiples of it

// X(NAME, code, flags that it knows, explanation). Codes 0x40 to 0x5f are for nodes (replication),
// 0x24 to 0x2f for later range work; neither is in version 1's CLEAR mode.
#define TORC_OPCODE_TABLE(X)                                                         \
    X(NOP, 0x00, 0x00, "padding, without a reply")                                   \
    X(PING, 0x01, 0x00, "echoes its body: liveness, clock, packet size")             \
    X(CANCEL, 0x02, 0x00, "gives up an operation that has not started")              \
    X(CLOSE, 0x03, 0x00, "ends the session")                                         \
    X(COOKIE, 0x04, 0x00, "a new ticket for a later handshake")                      \
    X(STATUS, 0x05, 0x00, "the node's counters as text")                             \
    X(MAP, 0x06, 0x00, "entries of the shard map and of nodes")                      \
    X(CLOCK, 0x07, 0x00, "the largest timestamp applied in a part of the key space") \
    X(PULL, 0x08, 0x00, "pieces of a large value, by its version")                   \
    X(FRAG, 0x09, 0x00, "a piece of a large value that is being put")                \
    X(FRAG_QUERY, 0x0a, 0x00, "which pieces of a put are missing")                   \
    X(GET, 0x10, 0x07, "the value of a key")                                         \
    X(PUT, 0x11, 0x1f, "writes a value, perhaps on a condition")                     \
    X(DELETE, 0x12, 0x16, "removes a value, perhaps on a condition")                 \
    X(RANGE_READ, 0x20, 0x1f, "a part of a range, without state in the server")      \
    X(RANGE_OPEN, 0x21, 0x1f, "a cursor over a range, that sends as credit allows")  \
    X(RANGE_CREDIT, 0x22, 0x00, "more credit for a cursor")                          \
    X(RANGE_CLOSE, 0x23, 0x00, "ends a cursor")

enum torc_opcode {
#define X(name, code, flags, explanation) TORC_OPCODE_##name = (code),
    TORC_OPCODE_TABLE(X)
#undef X
    // Reply-only.
    TORC_OPCODE_SHED = 0xf0,
    TORC_OPCODE_MAP_ENTRY = 0xf1,
    TORC_OPCODE_NODE_ENTRY = 0xf2,
    TORC_OPCODE_TRACE = 0xf3,
    TORC_OPCODE_UNREAD = 0xf4
};

#define TORC_OPCODE_NODE_FIRST 0x40u // replication: FORBIDDEN for clients
#define TORC_OPCODE_NODE_LAST  0x5fu

// "GET", or "UNKNOWN".
const char *torc_opcode_name(uint8_t opcode);

// Flags of requests. 128 (TRACE) goes with every opcode but NOP.
#define TORC_FLAG_TRACE 0x80u

#define TORC_GET_VERSION_ONLY 0x01u
#define TORC_GET_STALE        0x02u // aux is the greatest age in ms, not the epoch
#define TORC_GET_AT           0x04u // as of the timestamp `ts`

#define TORC_WRITE_IF_ABSENT      0x01u // PUT only
#define TORC_WRITE_IF_PRESENT     0x02u
#define TORC_WRITE_IF_VERSION     0x04u // at most one of the three
#define TORC_WRITE_FRAGMENTED     0x08u // PUT only: the value comes in pieces, this is piece 0
#define TORC_WRITE_RETURN_CURRENT 0x10u // a failed condition's answer carries the present value

#define TORC_RANGE_REVERSE       0x01u // descending
#define TORC_RANGE_KEYS_ONLY     0x02u
#define TORC_RANGE_COUNT         0x04u
#define TORC_RANGE_WITH_VERSIONS 0x08u
#define TORC_RANGE_STALE         0x10u

// What a principal may do: bits of ACCEPT's roles.
enum torc_role {
    TORC_ROLE_READ = 1,
    TORC_ROLE_WRITE = 2,
    TORC_ROLE_ADMIN = 4,
    TORC_ROLE_NODE = 8
};

// X(NAME, number, explanation): bits 0 to 7 of `info` with NO_SPACE and UNAVAILABLE.
// dataplane/log.c has two of them as constants.
#define TORC_NO_SPACE_TABLE(X)                \
    X(DISK, 1, "the disk of the log is full") \
    X(MEMORY, 2, "the memory for records is full")

#define TORC_UNAVAILABLE_TABLE(X)                                      \
    X(NO_LEASE, 1, "the primary's lease has run out")                  \
    X(BELOW_IN_SYNC, 2, "too few replicas are in sync")                \
    X(LOG_FAILED, 3, "a log write failed: the node must be restarted") \
    X(RECOVERING, 4, "the node is reading its log")                    \
    X(STOPPING, 5, "the node is stopping")                             \
    X(NO_PRIMARY, 6, "the shard has no primary")                       \
    X(NO_COPY, 7,                                                      \
      "no copy in sync is heard: see torc status; if all are lost: torc shard accept-loss")

enum torc_no_space_reason {
#define X(name, number, explanation) TORC_NO_SPACE_##name = (number),
    TORC_NO_SPACE_TABLE(X)
#undef X
};

enum torc_unavailable_reason {
#define X(name, number, explanation) TORC_UNAVAILABLE_##name = (number),
    TORC_UNAVAILABLE_TABLE(X)
#undef X
};

// "the disk of the log is full", or "" when the status has no reasons or this one is not known.
const char *torc_reason_text(enum torc_err status, uint64_t info);

// `info` of a status that says when to try again: NO_SPACE and UNAVAILABLE have a reason below the
// time, the others (BUSY, PENDING, TAKING_OVER) have the time alone.
static inline uint64_t torc_info_reason(uint8_t reason, uint64_t retry_us)
{
    return torc_min_u64(retry_us, UINT64_MAX >> 8) << 8 | reason;
}

// Microseconds to wait, as `info` says it for this status; 0: it says none.
uint64_t torc_info_retry_us(enum torc_err status, uint64_t info);

// -- Framing -------------------------------------------------------------------------------------

// Walks over the operations of a packet.
struct torc_framing {
    const unsigned char *bytes;
    uint32_t byte_count;
    uint32_t at;
};

// Whether all operations are framed well: n a multiple of 8, length 16 or more (NOP: 8), inside the
// packet, padding zero, at most TORC_PACKET_OPS_MAX. OK and *op_count; or BAD_PACKET and *offset of
// the fault from the packet's start (`ops` lies at TORC_DATA_HEAD_BYTES).
enum torc_err torc_must_use torc_framing_check(const unsigned char *ops, uint32_t byte_count,
                                               uint32_t *op_count, uint32_t *offset);

// The next operation of a packet that torc_framing_check found good: its bytes and exact length.
// False at the end.
bool torc_framing_next(struct torc_framing *framing, const unsigned char **op, uint32_t *length);

static inline uint32_t torc_op_padded(uint32_t length)
{
    return (length + 7u) & ~7u;
}

// -- Requests ------------------------------------------------------------------------------------

// One request operation. Which fields count is said behind them; others are 0 after decoding.
struct torc_request {
    uint8_t opcode;
    uint8_t flags;
    uint8_t attempt; // PUT DELETE: low 8 bits of the try's number
    uint16_t length; // out of decoding: exact
    uint32_t op_id;
    uint32_t budget_us;  // left when sent; 0: the published maximum
    uint32_t aux;        // raw; see the accessors' names below for what it means
    uint32_t epoch;      // PUT DELETE RANGE_READ RANGE_OPEN; GET without STALE (is aux)
    uint32_t max_age_ms; // RANGE with STALE; GET with STALE (is aux)
    uint64_t key;     // GET PUT DELETE PULL FRAG FRAG_QUERY RANGE_CREDIT (first not yet received)
    uint64_t lo;      // MAP CLOCK RANGE_READ RANGE_OPEN
    uint64_t hi;      // the same; exclusive
    uint64_t ts;      // GET with AT; RANGE_READ RANGE_OPEN: 0 = now
    uint64_t limit;   // RANGE_READ RANGE_OPEN: rows at most; 0 = no limit
    uint64_t version; // PUT DELETE with IF_VERSION; PULL
    uint64_t wseq;    // PUT DELETE: >= 1
    uint64_t stamp;   // PUT DELETE: HLC of its first sending
    uint64_t lowest;  // PUT DELETE: wseq - aux, the lowest outstanding; >= 1
    uint32_t credit;  // RANGE_OPEN RANGE_CREDIT (is aux)
    uint32_t target;  // CANCEL: op id (is aux)
    uint32_t entries_max;      // MAP (is aux); 0 = as many as fit
    uint32_t offset;           // STATUS (is aux): first byte of the text wanted
    uint32_t total_bytes;      // PUT with FRAGMENTED
    uint32_t fragment_bytes;   // PUT with FRAGMENTED, PULL: size of all pieces but the last
    uint32_t fragment;         // FRAG (is aux): number; PULL: first wanted
    uint64_t bitmap;           // PULL: bit i = piece fragment + i; not 0
    const unsigned char *data; // PUT: value or piece 0; FRAG: bytes; PING: body
    uint32_t data_bytes;
};

// Bytes of the operation, exact.
uint32_t torc_request_bytes(const struct torc_request *request);

// Writes the operation and its padding; room for torc_op_padded(torc_request_bytes()). Returns the
// padded bytes.
uint32_t torc_request_encode(unsigned char *to, const struct torc_request *request);

// The same for the most frequent request of all: a get of the present, without the large struct.
struct torc_plain_get {
    uint64_t key;
    uint32_t op_id;
    uint32_t budget_us;
    uint32_t epoch;
    uint8_t flags;
};

#define TORC_PLAIN_GET_BYTES 24u
void torc_plain_get_encode(unsigned char to[TORC_PLAIN_GET_BYTES],
                           const struct torc_plain_get *get);

// One operation out of the framing. OK; UNSUPPORTED (opcode, flag bit), FORBIDDEN (opcodes of
// nodes) or INVALID_ARGUMENT (body's length, two conditions, aux >= wseq, sizes of fragments): the
// answer's status. opcode, flags, length, op_id, budget_us and aux are right in every case.
enum torc_err torc_must_use torc_request_decode(struct torc_request *request,
                                                const unsigned char *op, uint32_t length,
                                                struct torc_fail *why);

// -- Replies -------------------------------------------------------------------------------------

struct torc_reply {
    uint8_t opcode; // as on the wire: TORC_REPLY_BIT is set
    uint8_t status; // enum torc_err; a number that this version does not know is possible
    uint16_t length;
    uint32_t op_id;
    uint64_t info; // version, or what the status says
    const unsigned char *body;
    uint32_t body_bytes;
};

// Writes header, body (which may already lie in its place: then body == to + 16) and padding.
// Returns the padded bytes; `length` is made from body_bytes.
uint32_t torc_reply_encode(unsigned char *to, const struct torc_reply *reply);

// The next reply operation of a packet; *offset is 0 at first. False at the end, and when the rest
// is not framed well: trailing bytes are ignored.
bool torc_reply_next(const unsigned char *ops, uint32_t byte_count, uint32_t *offset,
                     struct torc_reply *reply);

// PUT, DELETE: attempt echoed, and the present value if asked for and given. False: too short.
bool torc_must_use torc_write_reply_decode(const struct torc_reply *reply, uint8_t *attempt,
                                           const unsigned char **value, uint32_t *value_bytes);
// Writes the 8 bytes of body before the value.
void torc_write_reply_body(unsigned char *body, uint8_t attempt);

// PARTIAL of a GET: body = total u32, then the first bytes. False: not well formed.
bool torc_must_use torc_partial_decode(const struct torc_reply *reply, uint32_t *total_bytes,
                                       const unsigned char **bytes, uint32_t *byte_count);

#define TORC_PARTIAL_HEAD_BYTES 4u
#define TORC_PULL_HEAD_BYTES    8u // fragment u32, 0 u32

// A PULL's piece. False: not well formed.
bool torc_must_use torc_pull_reply_decode(const struct torc_reply *reply, uint32_t *fragment,
                                          const unsigned char **bytes, uint32_t *byte_count);
// Writes the 8 bytes of body before the piece.
void torc_pull_reply_body(unsigned char *body, uint32_t fragment);

// FRAG_STATE: opcode FRAG_QUERY + 0x80, status OK; sent for PUT, FRAG and FRAG_QUERY with the PUT's
// id.
#define TORC_FRAG_STATE_BYTES 40u

struct torc_frag_state {
    uint32_t first_missing;
    uint32_t send_limit; // pieces below it may be sent
    uint8_t bitmap[32];  // bit i: piece first_missing + i has come; bit 0 is therefore 0
};

void torc_frag_state_body(unsigned char body[TORC_FRAG_STATE_BYTES],
                          const struct torc_frag_state *state);
bool torc_must_use torc_frag_state_decode(const struct torc_reply *reply,
                                          struct torc_frag_state *state);

// SHED: one answer for a whole packet; op id 0, info = its seq.
#define TORC_SHED_BYTES 8u

struct torc_shed {
    uint32_t retry_us; // with BAD_PACKET: offset of the fault
    uint32_t delay_us; // the queue's
};

void torc_shed_body(unsigned char body[TORC_SHED_BYTES], const struct torc_shed *shed);
bool torc_must_use torc_shed_decode(const struct torc_reply *reply, struct torc_shed *shed);

// UNREAD: packets of the session that were dropped before they were opened (see
// TORC_REPLY_BYTES_DROP); op id 0, info = seq of the first.
#define TORC_UNREAD_BYTES 16u

struct torc_unread {
    uint64_t bitmap; // bit i: seq info + i
    uint32_t retry_us;
};

void torc_unread_body(unsigned char body[TORC_UNREAD_BYTES], const struct torc_unread *unread);
bool torc_must_use torc_unread_decode(const struct torc_reply *reply, struct torc_unread *unread);

// TRACE: ns since the packet's arrival, none below the one before it: a step that an operation does
// not take has no length.
#define TORC_TRACE_BYTES 20u

struct torc_trace_marks {
    uint32_t dequeued_ns;
    uint32_t tree_ns;
    uint32_t logged_ns;
    uint32_t durable_ns;
    uint32_t sent_ns;
};

void torc_trace_body(unsigned char body[TORC_TRACE_BYTES], const struct torc_trace_marks *trace);
bool torc_must_use torc_trace_decode(const struct torc_reply *reply,
                                     struct torc_trace_marks *trace);

#endif
