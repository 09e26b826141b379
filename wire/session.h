// Torc wire: what both ends keep of a session: the replay window, and a client's lane.
//
// What    a window of 256 sequence numbers (server: one for each slot and core, in the session
//         line; client: one for each core of the node), and struct torc_lane, all that a client
//         needs to seal requests and open replies.
// Owner   whoever holds the struct: a worker its lines, a client's thread its lanes.
// Memory  inside the structs, which may be copied; a lane holds keys: torc_lane_wipe.
// Invariants
//   S1  a sequence number is accepted at most once.
//   S2  a window moves only after the packet was opened: a forged packet changes nothing.
//   S3  each (lane, direction, core) counts its own packets from 1.
// Sources WIRE.md, section 2; RFC 6479 for the shape of the window.
#ifndef TORC_WIRE_SESSION_H
#define TORC_WIRE_SESSION_H

#include "wire/data.h"
#include "wire/handshake.h"

#define TORC_WINDOW_BITS  256u
#define TORC_WINDOW_WORDS (TORC_WINDOW_BITS / 64u)

struct torc_window {
    uint64_t high;                    // highest number accepted
    uint64_t bits[TORC_WINDOW_WORDS]; // bit seq % 256: accepted
};

// Whether `seq` may be opened: NONE, LIMIT, REPLAY_OLD (0 too) or REPLAY_DUPLICATE. Changes
// nothing. In pieces, because a server's session line has the same two fields among others.
enum torc_drop torc_must_use torc_window_check(uint64_t high,
                                               const uint64_t bits[TORC_WINDOW_WORDS],
                                               uint64_t seq);

// Accepts `seq`, which torc_window_check let pass and whose packet was opened since.
void torc_window_set(uint64_t *high, uint64_t bits[TORC_WINDOW_WORDS], uint64_t seq);

// -- A client's lane -----------------------------------------------------------------------------

#define TORC_LANE_CORES_MAX 255u

struct torc_lane {
    uint32_t session_index; // in packets to the node
    uint32_t client_index;  // in packets to us
    uint32_t cores;         // of the node: 1 .. 255
    uint8_t suite;          // enum torc_suite
    uint8_t zero[3];
    const struct torc_aead_code *code; // NULL in CLEAR mode
    struct torc_aead_key keys[2];      // by enum torc_direction
    uint64_t tokens[2];                // CLEAR mode
    uint64_t sent;                     // packets, over all cores
    uint64_t received;
    uint64_t seq[TORC_LANE_CORES_MAX]; // the last one sent, by core
    struct torc_window windows[TORC_LANE_CORES_MAX];
};

// The key of one lane and direction, from the handshake's of that direction. 0.3 us.
void torc_lane_key(struct torc_aead_key *key, const struct torc_aead_code *code, uint8_t suite,
                   const uint8_t session_key[TORC_NOISE_KEY_BYTES], uint32_t lane_number);

// Lane `lane_number` (0 .. accept->lanes - 1) of an accepted handshake; client_index is that of
// lane 0. With a key: torc_handshake's `keys`, and the code; both NULL in CLEAR mode.
void torc_lane_init(struct torc_lane *lane, const struct torc_accept *accept, uint32_t client_index,
                    uint32_t lane_number, const struct torc_session_keys *keys,
                    const struct torc_aead_code *code);

// What seals and opens one direction of it; valid while the lane stays where it is.
struct torc_seal torc_lane_direction(const struct torc_lane *lane, enum torc_direction direction);

// Forgets its keys.
void torc_lane_wipe(struct torc_lane *lane);

// Finishes a request for data->core: header, next seq, trailer. `packet` holds `ops_bytes` (16 or
// more, a multiple of 8) of operations at TORC_DATA_HEAD_BYTES and has room for the trailer. Of
// `data`, core, clock_us, hlc, reply_bytes and reply_packets are the caller's; the rest is filled.
// Returns the packet's bytes.
uint32_t torc_lane_seal(struct torc_lane *lane, unsigned char *packet, uint32_t ops_bytes,
                        struct torc_data *data);

// True when a packet can belong to this lane: long enough, its suite's type, our index. Checks no
// trailer.
bool torc_lane_matches(const struct torc_lane *lane, const unsigned char *packet,
                       uint32_t byte_count);

// All checks of a reply, in order; NONE: *data is filled, the window is set, and the operations lie
// at packet + TORC_DATA_HEAD_BYTES, byte_count - TORC_DATA_OVERHEAD of them.
enum torc_drop torc_must_use torc_lane_open(struct torc_lane *lane, unsigned char *packet,
                                            uint32_t byte_count, struct torc_data *data);

// True when the session should be replaced soon because of its packet count (WIRE.md, section 2).
bool torc_lane_is_worn(const struct torc_lane *lane, uint32_t payload_bytes);

#endif
