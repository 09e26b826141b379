// Torc wire: the handshake: INIT, RETRY, ACCEPT, REFUSE, VERSION, NOSESSION, and cookies.
//
// What    bytes of each packet, encoders and decoders, the cookie that proves an address, and the
//         client's side as a small machine. Version 1, in two modes: with a key, the Noise protocol
//         of wire/noise.h inside the same packets; CLEAR, the same fields open, with a CRC32C.
//             client                                   server
//             INIT, no cookie          ───────►
//                                      ◄───────        RETRY with a cookie (64 bytes for 256)
//             INIT, the cookie         ───────►
//                                      ◄───────        ACCEPT (240 bytes) or REFUSE
//             first data packet        ───────►        confirms the session
// Server  checks the cookie first, then opens payload 1 under the principal's key (torc_init_open:
//         no Diffie-Hellman before that proof), then torc_noise_reply, torc_accept_seal and
//         torc_noise_split.
// Owner   none: pure functions; struct torc_handshake belongs to its client's thread, struct
//         torc_cookie_keys to its worker or session thread.
// Memory  inside the structs. struct torc_handshake holds secrets: torc_handshake_wipe.
// Hints   RETRY, REFUSE, VERSION and NOSESSION are not authenticated: a client may change what it
//         tries next and what its error says, never drop a live session or give up early because of
//         them.
// Invariants
//   H1  no answer is longer than the INIT it answers; NOSESSION is shorter than the least data
//       packet.
//   H2  a retransmitted INIT is the same bytes; a changed INIT has a new random and a new ephemeral
//       key (payload 1 is sealed with nonce 0 under a key made of PSK and ephemeral key alone).
//   H3  a client with a key never offers CLEAR, and ends the attempt when the list sealed in ACCEPT
//       has a better suite or version in common than the one chosen.
// Sources docs/PROTOCOL.md, section 2; Aumasson, Bernstein, "SipHash", INDOCRYPT 2012; RFC 9000, 8.
#ifndef TORC_WIRE_HANDSHAKE_H
#define TORC_WIRE_HANDSHAKE_H

#include "kit/fail.h"
#include "kit/le.h"
#include "wire/data.h"
#include "wire/noise.h"

#define TORC_INIT_BYTES      256u
#define TORC_RETRY_BYTES     64u
#define TORC_ACCEPT_BYTES    240u
#define TORC_REFUSE_BYTES    40u
#define TORC_VERSION_BYTES   32u
#define TORC_NOSESSION_BYTES 48u
#define TORC_RANDOM_BYTES    16u
#define TORC_COOKIE_BYTES    24u
#define TORC_AGENT_BYTES     32u
#define TORC_LANES_MAX       128u
#define TORC_NODE_UNKNOWN    UINT32_MAX
#define TORC_PATTERN_NNPSK0  1u
#define TORC_PROLOGUE_BYTES  64u // of INIT, under the PSK
// A principal's number at or above this is node (number - 2^31).
#define TORC_PRINCIPAL_NODE 0x80000000u

// -- Layouts -------------------------------------------------------------------------------------

struct torc_init_payload_wire {
    struct torc_le64 client_id;
    struct torc_le32 client_index;
    struct torc_le16 payload_max;
    struct torc_le16 zero;
    struct torc_le64 features;
    struct torc_le64 boot;
    uint8_t zero_32[16];
    uint8_t agent[TORC_AGENT_BYTES];
    uint8_t zero_80[64];
};

struct torc_init_wire {
    uint8_t magic;
    uint8_t version_type;
    uint8_t core;
    uint8_t flags; // bit 0: a cookie is present
    struct torc_le16 length;
    struct torc_le16 versions;
    uint8_t random[TORC_RANDOM_BYTES];
    struct torc_le32 node;
    struct torc_le32 principal;
    uint8_t key;
    uint8_t suites;
    uint8_t lanes;
    uint8_t pattern;
    struct torc_le16 versions_seen;
    struct torc_le16 zero;
    uint8_t cookie[TORC_COOKIE_BYTES];
    uint8_t ephemeral[TORC_NOISE_KEY_BYTES]; // CLEAR: zero
    struct torc_init_payload_wire payload;   // Noise: sealed
    struct torc_le32 crc32c;                 // CLEAR: of all before it; Noise: here begins the tag
    uint8_t zero_244[12];
};

struct torc_retry_wire {
    uint8_t magic;
    uint8_t version_type;
    uint8_t core;
    uint8_t zero;
    struct torc_le16 length;
    struct torc_le16 versions;
    uint8_t random[TORC_RANDOM_BYTES];
    struct torc_le32 node;
    uint8_t suites;
    uint8_t zero_29[3];
    struct torc_le64 cluster;
    uint8_t cookie[TORC_COOKIE_BYTES];
};

struct torc_accept_payload_wire {
    struct torc_le32 session_index;
    uint8_t lanes;
    uint8_t suite;
    struct torc_le16 cores;
    struct torc_le16 base_port;
    struct torc_le16 payload_max;
    struct torc_le32 roles;
    struct torc_le64 cluster;
    struct torc_le64 key_count;
    struct torc_le64 boot;
    struct torc_le64 map_version;
    struct torc_le64 features;
    struct torc_le32 node;
    struct torc_le32 value_bytes_max;
    struct torc_le16 packet_ops_max;
    struct torc_le16 core_ops_max;
    struct torc_le16 packets_max;
    struct torc_le16 cursors_max;
    struct torc_le16 fragments_max;
    struct torc_le16 idle_s;
    struct torc_le16 age_s;
    uint8_t durability;
    uint8_t zero_79;
    struct torc_le16 versions;
    uint8_t suites;
    uint8_t zero_83;
    struct torc_le32 deadline_ms_max;
    uint8_t ticket[TORC_COOKIE_BYTES];
    struct torc_le32 message_bytes_max;
    struct torc_le32 write_window;
    struct torc_le64 hlc;
    uint8_t zero_128[32];
};

struct torc_accept_wire {
    uint8_t magic;
    uint8_t version_type;
    uint8_t core;
    uint8_t zero;
    struct torc_le16 length;
    struct torc_le16 zero_6;
    uint8_t random[TORC_RANDOM_BYTES];
    struct torc_le32 node;
    struct torc_le32 zero_28;
    struct torc_le64 token_to_server; // CLEAR; Noise: the server's public key, with the next two
    struct torc_le64 token_to_client;
    uint8_t zero_48[16];
    struct torc_accept_payload_wire payload; // Noise: sealed
    struct torc_le32 crc32c;                 // as in INIT
    uint8_t zero_228[12];
};

struct torc_refuse_wire {
    uint8_t magic;
    uint8_t version_type;
    uint8_t core;
    uint8_t zero;
    struct torc_le16 length;
    struct torc_le16 versions;
    uint8_t random[TORC_RANDOM_BYTES];
    struct torc_le32 node;
    struct torc_le16 code;
    struct torc_le16 zero_30;
    struct torc_le32 retry_ms;
    struct torc_le32 zero_36;
};

struct torc_version_wire {
    uint8_t magic;
    uint8_t version_type; // 0x05: version 0, so that every version can read it
    struct torc_le16 versions;
    struct torc_le32 zero_4;
    uint8_t random[TORC_RANDOM_BYTES];
    struct torc_le32 node;
    struct torc_le32 zero_28;
};

struct torc_nosession_wire {
    uint8_t magic;
    uint8_t version_type;
    uint8_t core;
    uint8_t zero;
    struct torc_le32 index;
    struct torc_le64 seq;
    struct torc_le32 node;
    struct torc_le32 zero_20;
    uint8_t cookie[TORC_COOKIE_BYTES];
};

_Static_assert(sizeof(struct torc_init_wire) == TORC_INIT_BYTES, "wire format");
_Static_assert(offsetof(struct torc_init_wire, cookie) == 40, "wire format");
_Static_assert(offsetof(struct torc_init_wire, ephemeral) == TORC_PROLOGUE_BYTES, "wire format");
_Static_assert(offsetof(struct torc_init_wire, payload) == 96, "wire format");
_Static_assert(offsetof(struct torc_init_wire, crc32c) == 240, "wire format");
_Static_assert(sizeof(struct torc_init_payload_wire) == 144, "wire format");
_Static_assert(sizeof(struct torc_retry_wire) == TORC_RETRY_BYTES, "wire format");
_Static_assert(offsetof(struct torc_retry_wire, cookie) == 40, "wire format");
_Static_assert(sizeof(struct torc_accept_wire) == TORC_ACCEPT_BYTES, "wire format");
_Static_assert(offsetof(struct torc_accept_wire, token_to_server) == 32, "wire format");
_Static_assert(offsetof(struct torc_accept_wire, payload) == 64, "wire format");
_Static_assert(sizeof(struct torc_accept_payload_wire) == 160, "wire format");
_Static_assert(offsetof(struct torc_accept_payload_wire, node) == 56, "wire format");
_Static_assert(offsetof(struct torc_accept_payload_wire, durability) == 78, "wire format");
_Static_assert(offsetof(struct torc_accept_payload_wire, ticket) == 88, "wire format");
_Static_assert(offsetof(struct torc_accept_payload_wire, hlc) == 120, "wire format");
_Static_assert(sizeof(struct torc_refuse_wire) == TORC_REFUSE_BYTES, "wire format");
_Static_assert(sizeof(struct torc_version_wire) == TORC_VERSION_BYTES, "wire format");
_Static_assert(sizeof(struct torc_nosession_wire) == TORC_NOSESSION_BYTES, "wire format");
_Static_assert(TORC_NOSESSION_BYTES < TORC_DATA_BYTES_MIN, "H1");

// -- Cookies -------------------------------------------------------------------------------------

enum torc_cookie_kind {
    TORC_COOKIE_ADDRESS = 1, // in RETRY and NOSESSION: IP address and port, 30 s
    TORC_COOKIE_TICKET = 2   // in ACCEPT and the COOKIE reply: IP address and principal, 24 h
};

#define TORC_COOKIE_ADDRESS_S 30u
#define TORC_COOKIE_TICKET_S  86400u

struct torc_cookie_wire {
    struct torc_le32 issued_s;
    uint8_t kind;
    uint8_t key; // the low 8 bits of the day whose key made it
    struct torc_le16 zero;
    uint8_t mac[16]; // SipHash-2-4-128
};

_Static_assert(sizeof(struct torc_cookie_wire) == TORC_COOKIE_BYTES, "wire format");

// Keys of today and yesterday, made from the node's secret.
struct torc_cookie_keys {
    uint8_t secret[32];
    uint64_t day; // since 1970, of keys[0]
    uint8_t keys[2][16];
};

// For whom: an address, and the UDP port or the principal as the kind says.
struct torc_cookie_bearer {
    uint8_t ip[16]; // IPv4 mapped
    uint16_t port;
    uint16_t zero;
    uint32_t principal;
};

void torc_cookie_keys_init(struct torc_cookie_keys *keys, const uint8_t secret[32],
                           uint64_t wall_s);

// Makes a cookie valid from wall_s on. Changes the keys when the day has changed.
void torc_cookie_make(struct torc_cookie_keys *keys, enum torc_cookie_kind kind,
                      const struct torc_cookie_bearer *bearer, uint64_t wall_s,
                      uint8_t cookie[TORC_COOKIE_BYTES]);

// True when we made this cookie for this bearer and it has not run out. *kind says which it is.
bool torc_must_use torc_cookie_check(struct torc_cookie_keys *keys,
                                     const struct torc_cookie_bearer *bearer, uint64_t wall_s,
                                     const uint8_t cookie[TORC_COOKIE_BYTES],
                                     enum torc_cookie_kind *kind);

// -- INIT ----------------------------------------------------------------------------------------

struct torc_init {
    uint8_t core; // of the port first tried
    bool has_cookie;
    uint16_t versions; // offered
    uint16_t versions_seen;
    uint8_t random[TORC_RANDOM_BYTES];
    uint32_t node; // wanted; TORC_NODE_UNKNOWN only without a cookie
    uint32_t principal;
    uint8_t key;
    uint8_t suites; // offered
    uint8_t lanes;  // wanted: a power of two up to TORC_LANES_MAX
    uint8_t cookie[TORC_COOKIE_BYTES];
    uint8_t ephemeral[TORC_NOISE_KEY_BYTES]; // public; zero in CLEAR mode and without a cookie
    // The payload: valid with a cookie only.
    uint64_t client_id;
    uint32_t client_index; // of lane 0
    uint16_t payload_max;
    uint64_t features;
    uint64_t boot; // of a node; 0 of a client
    char agent[TORC_AGENT_BYTES + 1];
};

// The head, checked before the cookie: INIT_LENGTH, FLAGS (reserved), or NONE. Cheap; fills all up
// to `ephemeral`.
enum torc_drop torc_must_use torc_init_decode(struct torc_init *init, const unsigned char *packet,
                                              uint32_t byte_count);

// Fields and payload of an INIT of TORC_INIT_BYTES whose cookie was found good, CLEAR mode:
// INIT_CHECK (damaged) or INIT_FIELD (out of range). Suites are judged by the caller, who answers
// REFUSE.
enum torc_drop torc_must_use torc_init_open_clear(struct torc_init *init,
                                                  const unsigned char *packet);

// The same under the node's `psk` (torc_noise_bind): INIT_CHECK says that the client lacks it.
// After NONE `noise` is ready for torc_noise_reply, else it is wiped. 7 us, and as long when the
// key is wrong.
enum torc_drop torc_must_use torc_init_open(struct torc_init *init, const unsigned char *packet,
                                            const uint8_t psk[TORC_NOISE_KEY_BYTES],
                                            struct torc_noise *noise);

// Without a cookie, or CLEAR mode.
void torc_init_encode(unsigned char packet[TORC_INIT_BYTES], const struct torc_init *init);

// With a cookie, sealed; `init->ephemeral` is the public key. `noise` goes on to torc_accept_open.
void torc_init_seal(unsigned char packet[TORC_INIT_BYTES], const struct torc_init *init,
                    const uint8_t psk[TORC_NOISE_KEY_BYTES], struct torc_noise *noise);

// Bytes 8..24 of an INIT of any version, which is at least TORC_INIT_BYTES long: for VERSION.
void torc_init_peek_random(const unsigned char *packet, uint8_t random[TORC_RANDOM_BYTES]);

// -- Answers -------------------------------------------------------------------------------------

struct torc_retry {
    uint8_t core;
    uint8_t suites; // that the node takes
    uint16_t versions;
    uint8_t random[TORC_RANDOM_BYTES];
    uint32_t node;
    uint64_t cluster;
    uint8_t cookie[TORC_COOKIE_BYTES];
};

enum torc_refuse_code {
    TORC_REFUSE_AUTH = 1, // unknown principal or wrong key
    TORC_REFUSE_SUITE = 2,
    TORC_REFUSE_FULL = 3,
    TORC_REFUSE_KEY_REQUIRED = 4,
    TORC_REFUSE_CLEAR_OFF = 5
};

struct torc_refuse {
    uint8_t core;
    uint16_t versions;
    uint16_t code; // enum torc_refuse_code
    uint8_t random[TORC_RANDOM_BYTES];
    uint32_t node;
    uint32_t retry_ms;
};

// A session and the limits that come with it.
struct torc_accept {
    uint8_t core;
    uint8_t lanes;
    uint8_t suite;
    uint8_t durability; // 0 durable, 1 replicated, 2 none
    uint8_t random[TORC_RANDOM_BYTES];
    uint64_t token_to_server;
    uint64_t token_to_client;
    uint32_t session_index; // of lane 0
    uint32_t roles;         // enum torc_role of wire/op.h
    uint16_t cores;         // 1 .. 255
    uint16_t base_port;
    uint16_t payload_max; // largest UDP payload that the node takes
    uint16_t versions;
    uint8_t suites;
    uint64_t cluster;
    uint64_t key_count; // M
    uint64_t boot;
    uint64_t map_version;
    uint64_t features;
    uint64_t hlc;
    uint32_t node;
    uint32_t value_bytes_max;
    uint16_t packet_ops_max; // operations in one packet
    uint16_t core_ops_max;   // in flight for one lane at one core
    uint16_t packets_max;    // in flight for one lane
    uint16_t cursors_max;
    uint16_t fragments_max; // that may follow a large put unasked
    uint16_t idle_s;
    uint16_t age_s;
    uint32_t deadline_ms_max;
    uint32_t message_bytes_max; // values being put together, for one session and core
    uint32_t write_window;      // wseq may be so far above the lowest outstanding
    uint8_t ticket[TORC_COOKIE_BYTES];
};

struct torc_nosession {
    uint8_t core;
    uint32_t index; // echoed
    uint64_t seq;   // echoed
    uint32_t node;
    uint8_t cookie[TORC_COOKIE_BYTES]; // of kind TORC_COOKIE_ADDRESS
};

struct torc_version {
    uint16_t versions;
    uint8_t random[TORC_RANDOM_BYTES];
    uint32_t node;
};

void torc_retry_encode(unsigned char packet[TORC_RETRY_BYTES], const struct torc_retry *retry);
void torc_refuse_encode(unsigned char packet[TORC_REFUSE_BYTES], const struct torc_refuse *refuse);
void torc_accept_encode(unsigned char packet[TORC_ACCEPT_BYTES], const struct torc_accept *accept);
// Under the keys of torc_noise_reply; `ephemeral` is the server's public key. Tokens are not sent.
void torc_accept_seal(unsigned char packet[TORC_ACCEPT_BYTES], const struct torc_accept *accept,
                      const uint8_t ephemeral[TORC_NOISE_KEY_BYTES], struct torc_noise *noise);
void torc_nosession_encode(unsigned char packet[TORC_NOSESSION_BYTES],
                           const struct torc_nosession *nosession);
void torc_version_encode(unsigned char packet[TORC_VERSION_BYTES],
                         const struct torc_version *version);

// Each takes any bytes and gives BAD_PACKET with the field's name, or OK and values in their
// ranges.
enum torc_err torc_must_use torc_retry_decode(struct torc_retry *retry, const unsigned char *packet,
                                              uint32_t byte_count, struct torc_fail *why);
enum torc_err torc_must_use torc_refuse_decode(struct torc_refuse *refuse,
                                               const unsigned char *packet, uint32_t byte_count,
                                               struct torc_fail *why);
enum torc_err torc_must_use torc_accept_decode(struct torc_accept *accept,
                                               const unsigned char *packet, uint32_t byte_count,
                                               struct torc_fail *why);
// The same for a sealed one: *noise as torc_init_seal left it, `secret` the client's ephemeral one.
// Not OK: `noise` is worth nothing.
enum torc_err torc_must_use torc_accept_open(struct torc_accept *accept,
                                             const unsigned char packet[TORC_ACCEPT_BYTES],
                                             const uint8_t secret[TORC_NOISE_KEY_BYTES],
                                             struct torc_noise *noise, struct torc_fail *why);
enum torc_err torc_must_use torc_nosession_decode(struct torc_nosession *nosession,
                                                  const unsigned char *packet, uint32_t byte_count,
                                                  struct torc_fail *why);
enum torc_err torc_must_use torc_version_decode(struct torc_version *version,
                                                const unsigned char *packet, uint32_t byte_count,
                                                struct torc_fail *why);

// -- The client's side ---------------------------------------------------------------------------

// Fresh random bytes for one new INIT.
struct torc_handshake_entropy {
    uint8_t random[TORC_RANDOM_BYTES];
    uint8_t secret[TORC_NOISE_KEY_BYTES]; // of the ephemeral key
};

// What a client asks for, and with which key.
struct torc_handshake_offer {
    uint64_t client_id; // of lane 0: random, low byte 0
    uint64_t features;
    uint64_t boot;         // of a node; 0 of a client
    uint32_t client_index; // of lane 0
    uint32_t node;         // expected; TORC_NODE_UNKNOWN: whoever answers
    uint16_t payload_max;  // that we can receive
    uint8_t lanes;
    uint8_t core;      // of the port tried
    const char *agent; // cut at 32 bytes
    const uint8_t
        *cookie; // a ticket or a NOSESSION's cookie (24 bytes), or NULL; needs `node`, and
                 // with a `psk` that is not bound also `cluster`
    // The key. Without: CLEAR mode.
    const uint8_t *psk; // TORC_NOISE_KEY_BYTES, or NULL
    uint64_t cluster;   // expected; 0: whichever answers
    uint32_t principal; // of a node without a key too
    uint8_t key_id;
    uint8_t suites; // that we can: some of TORC_SUITES_SEALED
    bool psk_bound; // the PSK is the node's already (torc_noise_bind), not the principal's
};

// The secrets of a session, one a direction; each lane's keys are made of them (wire/session.h).
struct torc_session_keys {
    uint8_t to_server[TORC_NOISE_KEY_BYTES];
    uint8_t to_client[TORC_NOISE_KEY_BYTES];
};

// A handshake in progress. `packet` is what to send, again and again, until an event says
// otherwise.
struct torc_handshake {
    unsigned char packet[TORC_INIT_BYTES];
    struct torc_init init;
    uint64_t cluster_expected;
    uint32_t node_expected;
    uint16_t refuse_code; // of the last REFUSE, 0 none: for the error's text
    uint8_t suites_seen;  // of the last RETRY, 0 none: for the error's text
    uint32_t node_seen;   // who sent the last RETRY or REFUSE
    uint16_t versions_seen;
    uint32_t refuse_retry_ms;
    bool has_psk;
    bool psk_bound;
    uint8_t psk[TORC_NOISE_KEY_BYTES];
    uint8_t secret[TORC_NOISE_KEY_BYTES]; // ephemeral
    struct torc_noise noise;              // after the INIT in flight, if it has a cookie
    struct torc_session_keys keys;        // after ACCEPTED with a key
    struct torc_fail why;                 // the last hint in words; err OK: none
};

enum torc_handshake_event {
    TORC_HANDSHAKE_IGNORED,  // not for this handshake, or of no use
    TORC_HANDSHAKE_RESEND,   // a new INIT lies in `packet`: send it at once
    TORC_HANDSHAKE_ACCEPTED, // *accept is filled, and `keys`; the handshake is over
    TORC_HANDSHAKE_HINT      // `why` says what the other side said; go on until the time-out
};

void torc_handshake_init(struct torc_handshake *handshake, const struct torc_handshake_offer *offer,
                         const struct torc_handshake_entropy *entropy);

// A packet that may be an answer. `entropy`: fresh; used when a new INIT is made. INITs are sent
// again by the caller: after 20 ms, doubling to 1 s, +-25 %, for 5 s.
enum torc_handshake_event torc_handshake_receive(struct torc_handshake *handshake,
                                                 const unsigned char *packet, uint32_t byte_count,
                                                 const struct torc_handshake_entropy *entropy,
                                                 struct torc_accept *accept);

// Forgets its secrets: when it is given up, or when its keys were taken over.
void torc_handshake_wipe(struct torc_handshake *handshake);

#endif
