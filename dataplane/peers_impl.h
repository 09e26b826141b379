// Torc dataplane: what peers*.c share; private to them. See peers.h.
#ifndef TORC_DATAPLANE_PEERS_IMPL_H
#define TORC_DATAPLANE_PEERS_IMPL_H

#include "dataplane/peers.h"
#include "kit/rng.h"

#include <stdatomic.h>

#define PEERS_NONE   UINT32_MAX
#define PEERS_CORES  256u
#define PEERS_SECOND UINT64_C(1000000000)
#define PEERS_CLOSE  (TORC_DATA_OVERHEAD + TORC_REQUEST_HEAD_BYTES) // a packet with one CLOSE
// Bytes of the bitmap of what is this long.
#define PEERS_BITMAP_BYTES(bytes) (UINT64_C(8) * (((bytes) / TORC_PEER_PART_MIN + 64) / 64))

// -- The board -----------------------------------------------------------------------------------

// A session as worker 0 has made it.
struct peers_session {
    struct torc_peer_place place; // node 0 and base port 0: the seat is free
    uint64_t boot;                // 0: no session
    struct torc_accept accept;
    struct torc_session_keys keys;
    uint32_t client_index;
    uint32_t zero;
};

struct peers_seat {
    // Worker 0: odd while it writes `session`.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t version;
    struct peers_session session;
    // Worker 0: bytes of payload that the path carries.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint32_t payload;
    // Any worker: Ethernet address in the low 48 bits, port above, bit 63: known.
    _Atomic uint64_t link;
};

// What a worker tells worker 0.
struct peers_marks {
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t changes; // of the two below
    _Atomic uint64_t over[TORC_PEERS_MAX];  // version whose lane is lost or worn
    _Atomic uint64_t heard[TORC_PEERS_MAX]; // boot that a packet came from
};

struct torc_peers_board {
    uint32_t core_count;
    // Worker 0: some seat has changed.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t changes;
    struct peers_seat seats[TORC_PEERS_MAX];
    struct peers_marks marks[]; // by worker
};

// -- A worker's own ------------------------------------------------------------------------------

struct peers_packet {
    uint32_t peer; // seat
    uint32_t next; // free list, or queue
    uint16_t used; // bytes of operations
    uint8_t core;
    uint8_t op_count;
};

// One peer, as this worker sees it.
struct peers_peer {
    uint64_t version; // of the seat, taken
    bool up;          // has a lane
    uint8_t confirms; // packets that say no more than that the lane is used, still to be sent
    uint16_t cores;
    uint16_t base_port;
    uint8_t ip[16];
    uint64_t boot;
    uint64_t keep_ns;           // a packet is due then, to keep the lane alive
    uint64_t idle_ns;           // the peer's patience
    uint64_t close_ns;          // close_packet goes then; 0: there is none
    uint32_t open[PEERS_CORES]; // packet being filled, by core
    unsigned char close_packet[PEERS_CLOSE];
    struct torc_lane lane;
};

// Worker 0's part of a peer: the handshake and the path.
struct peers_call {
    bool wanted; // there is to be a session
    bool shaking;
    bool init_due;
    bool has_ticket;
    bool has_cookie; // of a NOSESSION
    bool ping_due;
    uint32_t tries;
    uint64_t since_ns; // the handshake in progress
    uint64_t again_ns; // no hint begins one before
    uint64_t shake_ns; // the INIT goes again, or a handshake is begun
    uint64_t renew_ns; // 0: no session
    uint64_t heard_boot;
    uint8_t ticket[TORC_COOKIE_BYTES];
    uint8_t cookie[TORC_COOKIE_BYTES];
    struct torc_peer_place place;
    struct torc_handshake shake;
    // The path.
    uint64_t ping_ns;   // the next PING is sent then; 0: no session
    uint64_t climb_ns;  // the largest is tried again then
    uint32_t ping_id;   // of the last
    uint32_t ping_size; // payload of the next
    uint32_t ping_lost; // in a row
};

struct peers_part {
    bool used;
    bool whole; // it was handed out: free at the next call
    enum torc_peer_opcode opcode;
    uint32_t node;
    uint64_t boot;
    uint64_t touched_ns; // when its last part came
    uint32_t shard;
    uint32_t epoch;  // of the record; of the message, for a piece
    uint64_t number; // LSN, or stream
    uint64_t second; // HLC, or piece
    uint32_t total_bytes;
    uint32_t part_bytes;
    uint32_t left; // parts
    uint64_t *bitmap;
    unsigned char *bytes;
};

struct torc_peers {
    struct torc_peers_config config;
    struct torc_peers_board *board;
    struct torc_peers_counters counters;
    uint64_t now_ns;
    uint64_t hlc;
    uint64_t board_changes;         // taken
    uint64_t own_changes;           // of our marks
    struct peers_peer *peers;       // by seat
    uint32_t nodes[TORC_PEERS_MAX]; // by seat; TORC_NODE_UNKNOWN: free
    uint32_t seat_end;              // seats from here on are free
    // Packets.
    uint32_t stride;
    uint32_t free_head;
    uint32_t free_count;
    uint32_t queue_head; // in the order in which they were begun
    uint32_t queue_tail;
    struct peers_packet packets[TORC_PEERS_PACKETS];
    unsigned char *packet_bytes;
    // Parts.
    struct peers_part parts[TORC_PEERS_PARTS];
    // Worker 0.
    struct peers_call *calls; // by seat; NULL in the others
    uint32_t call_end;        // seats from here on were never used
    struct torc_peers_identity identity;
    bool configured;
    bool entropy_ready;
    struct torc_handshake_entropy entropy;
    struct torc_rng rng;
    uint64_t marks_seen[TORC_LANE_CORES_MAX]; // of each worker
    uint32_t control_at;                      // seat whose turn it is to send what is not messages
};

// -- peers.c -------------------------------------------------------------------------------------

uint32_t torc_peers_find(const struct torc_peers *peers, uint32_t node);

// Writes a seat anew; worker 0.
void torc_peers_publish(struct torc_peers *peers, uint32_t seat,
                        const struct peers_session *session);

// Tells worker 0 that there is to be another session: the peer does not have this version's lane
// (any more), or it is worn. `counter`: of ours, counts versions.
void torc_peers_mark_over(struct torc_peers *peers, uint32_t seat, uint64_t *counter);

// -- peers_shake.c: worker 0 ---------------------------------------------------------------------

void torc_peers_shake_step(struct torc_peers *peers);
uint64_t torc_peers_shake_deadline_ns(const struct torc_peers *peers);

// An answer to an INIT. False: to none of ours.
bool torc_peers_shake_receive(struct torc_peers *peers, const unsigned char *payload,
                              uint32_t byte_count);

// A PING came back.
void torc_peers_shake_pong(struct torc_peers *peers, uint32_t seat, uint32_t ping_id);

// A cookie of a NOSESSION that came to worker 0's own port.
void torc_peers_shake_cookie(struct torc_peers *peers, uint32_t seat,
                             const uint8_t cookie[TORC_COOKIE_BYTES]);

// -- peers_send.c --------------------------------------------------------------------------------

// Lets go of what is queued for a seat.
void torc_peers_drop_packets(struct torc_peers *peers, uint32_t seat);

// Finishes a packet of `ops_bytes` operations that lie behind the header's place.
uint32_t torc_peers_seal(struct torc_peers *peers, struct peers_peer *peer, uint8_t core,
                         unsigned char *payload, uint32_t ops_bytes);

#endif
