// Torc wire: what every UDP payload begins with, and the data packet.
//
// What    the common first bytes (magic, version, type); the data packet's header of 32 bytes and
//         its trailer of 16; one interface for making and checking the trailer.
//             0         24      32              32 + n     48 + n
//             ┌──────────┬───────┬────────────────┬──────────┐
//             │ header   │ HLC   │ operations, n  │ trailer  │   n >= 16, a multiple of 8
//             └──────────┴───────┴────────────────┴──────────┘
//         Sealed (type 8): bytes 0..24 are authenticated, bytes 24.. encrypted as well, the trailer
//         is the tag; nonce = core, direction, 0 u16, seq u64, so each (lane, direction, core) has
//         its own and none comes twice. CLEAR mode (type 9): trailer = CRC32C of all before it,
//         0 u32, token u64. The places are the same: nothing above struct torc_seal differs.
// Owner   none: pure functions over the caller's bytes.
// Memory  none.
// Order   of checks (docs/PROTOCOL.md, 3): torc_payload_classify; torc_data_decode; the caller:
//         core, session, source address; torc_window_check (wire/session.h); torc_data_open; the
//         window is set; torc_framing_check (wire/op.h).
#ifndef TORC_WIRE_DATA_H
#define TORC_WIRE_DATA_H

#include "kit/base.h"
#include "kit/le.h"
#include "wire/aead.h"
#include "wire/drop.h"

#define TORC_WIRE_MAGIC      0x54u
#define TORC_WIRE_VERSION    1u
#define TORC_WIRE_VERSIONS   0x0002u // bit n: version n is spoken
#define TORC_WIRE_BASE_PORT  28700u
#define TORC_PAYLOAD_MIN     1200u // every path carries it; least `reply_bytes` of a request
#define TORC_PAYLOAD_MAX     8972u // jumbo: 9000 less IPv4 and UDP headers
#define TORC_DATA_HEAD_BYTES 32u
#define TORC_DATA_TAG_BYTES  16u
#define TORC_DATA_AAD_BYTES  24u // the part of the header that is not encrypted
#define TORC_DATA_OVERHEAD   (TORC_DATA_HEAD_BYTES + TORC_DATA_TAG_BYTES)
#define TORC_DATA_BYTES_MIN  (TORC_DATA_OVERHEAD + 16u)
#define TORC_DATA_SEQ_END    (UINT64_C(1) << 30) // numbers from here on are refused

// An HLC of a client that is further above the server's clock is refused with CLOCK_AHEAD.
#define TORC_DATA_AHEAD_US UINT64_C(2000000)

enum torc_wire_type {
    TORC_TYPE_INIT = 0,
    TORC_TYPE_RETRY = 1,
    TORC_TYPE_ACCEPT = 2,
    TORC_TYPE_REFUSE = 3,
    TORC_TYPE_NOSESSION = 4,
    TORC_TYPE_VERSION = 5,
    TORC_TYPE_DATA = 8,
    TORC_TYPE_CLEAR = 9
};

// What a payload's first two bytes say.
enum torc_payload_kind {
    TORC_PAYLOAD_PACKET = 1, // of version 1, type in *type (perhaps unknown)
    TORC_PAYLOAD_NEWER       // an INIT of another version, long enough for a VERSION answer
};

// TORC_DROP_SHORT, MAGIC, VERSION, or NONE with *kind and *type.
enum torc_drop torc_must_use torc_payload_classify(const unsigned char *payload,
                                                   uint32_t byte_count,
                                                   enum torc_payload_kind *kind, uint8_t *type);

static inline uint8_t torc_wire_type_byte(enum torc_wire_type type)
{
    return (uint8_t)(TORC_WIRE_VERSION << 4 | (unsigned)type);
}

// -- The data packet -----------------------------------------------------------------------------

enum torc_data_flag {
    TORC_DATA_FROM_RESPONDER = 1, // server to client
    TORC_DATA_CONGESTION = 2,     // a packet with ECN's CE mark came since the last reply
    TORC_DATA_HANDOFF = 4         // the request came in on another core's queue
};

struct torc_data_wire {
    uint8_t magic;
    uint8_t version_type;
    uint8_t core;
    uint8_t flags;
    struct torc_le32 index;
    struct torc_le64 seq;
    struct torc_le32 clock_us;
    struct torc_le32 credit_or_hold;
    struct torc_le64 hlc;
};

_Static_assert(sizeof(struct torc_data_wire) == TORC_DATA_HEAD_BYTES, "wire format");
_Static_assert(offsetof(struct torc_data_wire, seq) == 8, "wire format");
_Static_assert(offsetof(struct torc_data_wire, credit_or_hold) == 20, "wire format");
_Static_assert(offsetof(struct torc_data_wire, hlc) == 24, "wire format");

// Payloads of replies are multiples of 8 long, so the low bits of the largest are free. This one:
// the packet only reads, and may be dropped before it is opened when the core has too much to do.
// Bits of a header are authentic only once the packet was opened; by this one a forger can only
// have its own packet dropped.
#define TORC_REPLY_BYTES_DROP 1u

struct torc_data {
    uint8_t type;      // TORC_TYPE_DATA or TORC_TYPE_CLEAR
    uint8_t core;      // to the server: addressed; to the client: sending
    uint8_t flags;     // enum torc_data_flag
    uint32_t index;    // the receiver's: session index, or initiator index + lane
    uint32_t clock_us; // the client's clock; in a reply: that of the newest request answered
    uint64_t seq;
    uint64_t hlc; // highest that the sender knows; 0: none. Received: torc_data_hlc, once opened
    // To the server (flags without TORC_DATA_FROM_RESPONDER):
    uint16_t reply_bytes;   // largest payload of a reply, in eights; and TORC_REPLY_BYTES_DROP
    uint16_t reply_packets; // so many replies at most
    // To the client:
    uint32_t hold_ns; // from the request's arrival to this packet's sending, saturating
};

// The header of a packet of type DATA or CLEAR. SHORT (under 64 bytes) or FLAGS (reserved bits). It
// is not authenticated until torc_data_open.
enum torc_drop torc_must_use torc_data_decode(struct torc_data *data, const unsigned char *packet,
                                              uint32_t byte_count);

// Writes 32 bytes.
void torc_data_encode(unsigned char *packet, const struct torc_data *data);

// A request's header promises room for its answers: replies of at least TORC_PAYLOAD_MIN bytes, at
// least one, together no less than the request itself. False: SHED with BAD_PACKET at offset 20.
static inline bool torc_data_credit_ok(const struct torc_data *data, uint32_t byte_count)
{
    return data->reply_bytes >= TORC_PAYLOAD_MIN && data->reply_packets >= 1 &&
           (uint64_t)data->reply_bytes * data->reply_packets >= byte_count;
}

// The header's echoed fields as they lie in any packet of 16 bytes or more: for NOSESSION.
static inline uint32_t torc_data_peek_index(const unsigned char *packet)
{
    struct torc_le32 index;

    memcpy(&index, packet + offsetof(struct torc_data_wire, index), sizeof(index));
    return torc_get_le32(index);
}

// The core that a data packet is for; the packet has at least TORC_DATA_BYTES_MIN bytes.
static inline uint8_t torc_data_peek_core(const unsigned char *packet)
{
    return packet[offsetof(struct torc_data_wire, core)];
}

// -- Trailer -------------------------------------------------------------------------------------

struct torc_clear_tag {
    struct torc_le32 crc32c; // of all bytes before it
    struct torc_le32 zero;
    struct torc_le64 token; // of this session and direction, from ACCEPT
};

_Static_assert(sizeof(struct torc_clear_tag) == TORC_DATA_TAG_BYTES, "wire format");

enum torc_direction {
    TORC_TO_SERVER = 0,
    TORC_TO_CLIENT = 1
};

// What seals and opens the packets of one direction of a session. Made where it is needed, for it
// points to the session's key.
struct torc_seal {
    const struct torc_aead_code *code; // sealed sessions
    const struct torc_aead_key *key;   // sealed sessions
    uint64_t token;                    // CLEAR
    uint8_t suite;                     // enum torc_suite
    uint8_t direction;                 // enum torc_direction
    uint8_t zero[6];
};

// The type of packets under a suite.
static inline uint8_t torc_data_type(uint8_t suite)
{
    return suite == TORC_SUITE_CLEAR ? TORC_TYPE_CLEAR : TORC_TYPE_DATA;
}

// Writes the trailer behind `byte_count` bytes (a header of the suite's type, and operations), and
// encrypts from TORC_DATA_AAD_BYTES on. Returns the packet's bytes.
uint32_t torc_data_seal(const struct torc_seal *seal, unsigned char *packet, uint32_t byte_count);

// Checks type and trailer of a whole packet of at least TORC_DATA_BYTES_MIN bytes, and deciphers it
// in place. False: nothing behind the first TORC_DATA_AAD_BYTES may be read.
bool torc_must_use torc_data_open(const struct torc_seal *seal, unsigned char *packet,
                                  uint32_t byte_count);

// The HLC of a packet that was opened: encrypted until then, so torc_data_decode did not see it.
static inline uint64_t torc_data_hlc(const unsigned char *packet)
{
    struct torc_le64 hlc;

    memcpy(&hlc, packet + offsetof(struct torc_data_wire, hlc), sizeof(hlc));
    return torc_get_le64(hlc);
}

#endif
