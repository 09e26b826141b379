// Torc dataplane: this node as its peers' caller: sessions, lanes, and packets of messages.
//
// What    a node has one session with each peer, as an initiator, with one lane for each of its
//         workers. Worker 0 makes the sessions and writes them on a board; every worker takes its
//         lane from there, packs messages into packets and seals them. What the peers say comes on
//         their own sessions with us (dataplane/sessions.h), through worker_peers.c.
//             peers.c        life, the board, lanes, what comes back      (every worker)
//             peers_shake.c  handshakes, renewals, how much a path carries (worker 0)
//             peers_send.c   messages into packets, packets out           (every worker)
//             peers_parts.c  long values and pieces that come in parts    (every worker)
// Owner   struct torc_peers: its worker. The board: its seats are worker 0's, under a seqlock; a
//         worker's own marks are that worker's; a seat's link address is whichever worker's that
//         saw one last.
// Memory  the caller's, torc_peers_bytes and torc_peers_board_bytes; the board holds secrets of
//         sessions as long as they live. Nothing is allocated.
// Shell   after each burst torc_peers_step, then torc_peers_pull until it gives nothing; packets
//         that come from a responder, and answers to INITs, go to torc_peers_receive in worker 0,
//         or in the worker whose port they came to. torc_peers_deadline_ns says when to step next.
// Loss    nothing is sent again but handshakes: messages are their machines' business. No message
//         waits for a session: without one it is dropped and counted.
// Hints   RETRY, REFUSE and NOSESSION change what is tried next, never a session that lives. At
//         most one handshake a peer and second begins because of them; a packet of the peer's own,
//         from a boot that our session is not with, begins one at once.
// Invariants
//   E1  a worker's lane is its own: no two seal with one lane's keys for one core.
//   E2  what is sent on a session is for the boot that the session was made with.
//   E3  small messages find room though ships fill all that they may (TORC_PEERS_SPARE).
// Sources WIRE.md, sections 1, 2 and 5; REPLICATION.md, section 5.
#ifndef TORC_DATAPLANE_PEERS_H
#define TORC_DATAPLANE_PEERS_H

#include "kit/fail.h"
#include "wire/peer_codec.h"
#include "wire/session.h"

#define TORC_PEERS_MAX     64u  // as many as a watch has (watch.h)
#define TORC_PEERS_PACKETS 128u // being filled, or waiting to leave
#define TORC_PEERS_SPARE   32u  // of them, not for ships
#define TORC_PEERS_PARTS   8u   // long things being put together, half of them at most for one peer

struct torc_peers;
struct torc_peers_board;

// Where a peer is.
struct torc_peer_place {
    uint32_t node;
    uint16_t base_port;
    uint16_t cores; // as far as is known; a session says it better
    uint8_t ip[16]; // IPv4 mapped
};

struct torc_peers_config {
    struct torc_peers_board *board;
    const struct torc_aead_code *aead; // NULL: CLEAR mode only
    uint32_t core;
    uint32_t core_count;
    uint32_t payload_max;     // that every port of ours takes
    uint32_t cargo_bytes_max; // longest value or piece that is put together here
    uint64_t seed;
};

// What a handshake says of us.
struct torc_peers_identity {
    uint64_t cluster;
    uint64_t boot;
    uint32_t node;
    bool clear;                            // security = clear: no key
    uint8_t key_id;                        // else: which of the cluster's secrets psk is of
    uint8_t suites;                        // that we offer
    uint8_t psk[TORC_NOISE_KEY_BYTES];     // this node's as a caller, not bound
    uint8_t entropy[TORC_NOISE_KEY_BYTES]; // random: ephemeral keys follow from it by a ratchet
};

// X(name, help): counted.
#define TORC_PEERS_COUNTER_TABLE(X)                                     \
    X(shakes, "handshakes begun")                                       \
    X(sessions, "sessions made")                                        \
    X(refusals, "handshakes refused, or with too few lanes")            \
    X(lost, "sessions that the peer does not have any more")            \
    X(worn, "sessions followed by others for their count of packets")   \
    X(unsent, "messages dropped: no session with their node")           \
    X(crowded, "messages dropped: all packets are full")                \
    X(packets, "packets sealed")                                        \
    X(ignored, "packets that answer nothing of ours")                   \
    X(parts, "parts of long values and pieces taken")                   \
    X(evicted, "long values and pieces given up for others, not whole") \
    X(refused_parts, "parts of what there was no place for")            \
    X(too_long, "parts of what is longer than may be put together here")

struct torc_peers_counters {
#define X(name, help) uint64_t name;
    TORC_PEERS_COUNTER_TABLE(X)
#undef X
};

// -- Life ----------------------------------------------------------------------------------------

uint64_t torc_peers_board_bytes(uint32_t core_count);
// `memory`: zeroed, aligned to 128.
struct torc_peers_board *torc_peers_board_init(void *memory, uint32_t core_count);

uint64_t torc_peers_bytes(const struct torc_peers_config *config);
// `memory`: zeroed, aligned to 64.
struct torc_peers *torc_peers_init(void *memory, const struct torc_peers_config *config);

// Worker 0. Handshakes begin with it; again (another key) all sessions are made anew, the old ones
// going on until then. The identity is copied, its secrets are the caller's to wipe.
void torc_peers_configure(struct torc_peers *peers, uint64_t now_ns,
                          const struct torc_peers_identity *identity);

// Worker 0: from now on there is a session with the node. Again: if it is elsewhere now, a new one.
// LIMIT: TORC_PEERS_MAX.
enum torc_err torc_must_use torc_peers_meet(struct torc_peers *peers, uint64_t now_ns,
                                            const struct torc_peer_place *place,
                                            struct torc_fail *why);

// Worker 0: the nodes that were met and not forgotten; how many.
uint32_t torc_peers_met(const struct torc_peers *peers, uint32_t nodes[TORC_PEERS_MAX]);

// Worker 0: no more.
void torc_peers_forget(struct torc_peers *peers, uint32_t node);

// Wipes all secrets of this worker; worker 0: the board's too.
void torc_peers_close(struct torc_peers *peers);

// -- Time ----------------------------------------------------------------------------------------

// `hlc`: highest of this core, for packets.
void torc_peers_step(struct torc_peers *peers, uint64_t now_ns, uint64_t hlc);

uint64_t torc_peers_deadline_ns(const struct torc_peers *peers);

// -- Asking --------------------------------------------------------------------------------------

// Boot of the peer that this worker's lane is with; 0: there is none.
uint64_t torc_peers_boot(const struct torc_peers *peers, uint32_t node);

// Its worker cores; 0: not known.
uint32_t torc_peers_cores(const struct torc_peers *peers, uint32_t node);

const struct torc_peers_counters *torc_peers_counters(const struct torc_peers *peers);

// -- Sending -------------------------------------------------------------------------------------

struct torc_peer_to {
    uint32_t node;
    uint32_t core; // one that it does not have: core 0
};

// Any operation but APPEND with records and a piece of a SNAP. False: dropped and counted.
bool torc_peers_send(struct torc_peers *peers, struct torc_peer_to to,
                     const struct torc_peer_op *op);

// SHIP: records one after another, in as many operations and packets as needed. Nothing else is
// sent between begin and end.
struct torc_peers_ship {
    struct torc_peer_append_builder builder;
    struct torc_peer_message message;
    struct torc_peer_to to;
    uint32_t packet; // that the builder writes into
    bool open;       // an operation is begun
};

// Of the message: shard, epoch, commit LSN; the rest comes from the records.
void torc_peers_ship_begin(struct torc_peers *peers, struct torc_peers_ship *ship,
                           struct torc_peer_to to, const struct torc_peer_message *append);

// Adds a record. *value_done: 0 at first, then the caller's until the record is in; bytes of its
// value that left. True: it is in, or was dropped for want of a session. False: no room now; go on
// with the same record and *value_done after packets were pulled.
bool torc_must_use torc_peers_ship_record(struct torc_peers *peers, struct torc_peers_ship *ship,
                                          const struct torc_peer_record *record,
                                          uint32_t *value_done);

void torc_peers_ship_end(struct torc_peers *peers, struct torc_peers_ship *ship);

// A SNAP whose piece is `cargo->bytes`, total_bytes of them; its other fields are made here. *done
// as above.
bool torc_must_use torc_peers_ship_piece(struct torc_peers *peers, struct torc_peer_to to,
                                         const struct torc_peer_message *snap,
                                         const struct torc_peer_cargo *cargo, uint32_t *done);

// Where a packet goes.
struct torc_peers_way {
    uint32_t seat;
    uint16_t udp_port;
    uint8_t ip[16];
};

// The next packet to send: its bytes, sealed; 0: no more. `room`: payload_max at least.
uint32_t torc_peers_pull(struct torc_peers *peers, unsigned char *payload, uint32_t room,
                         struct torc_peers_way *way);

// Whether torc_peers_pull has something.
bool torc_peers_pending(const struct torc_peers *peers);

// -- Receiving -----------------------------------------------------------------------------------

// A payload from a responder (an answer to an INIT, NOSESSION, a data packet): changed in place.
// False: it answers nothing of ours; counted.
bool torc_peers_receive(struct torc_peers *peers, uint64_t now_ns, unsigned char *payload,
                        uint32_t byte_count);

// Whose message came, on which session of theirs.
struct torc_peer_from {
    uint32_t node;
    uint32_t core; // of the sender: its worker
    uint64_t boot;
};

// A packet of a peer's own session came: a boot that we have no session with is called at once.
void torc_peers_heard(struct torc_peers *peers, const struct torc_peer_from *from);

// An operation that came. True: it is whole (long ones after their last part), and good until the
// next call. False: a part was kept, or dropped.
bool torc_must_use torc_peers_take(struct torc_peers *peers, const struct torc_peer_from *from,
                                   struct torc_peer_op *op);

// -- Link addresses ------------------------------------------------------------------------------

// The seat that has this IP; TORC_PEERS_MAX: none.
uint32_t torc_peers_seat_of_ip(const struct torc_peers *peers, const uint8_t ip[16]);

// What is known of where frames to a seat go: Ethernet address and port. False: nothing.
bool torc_must_use torc_peers_link(const struct torc_peers *peers, uint32_t seat, uint8_t mac[6],
                                   uint8_t *port);
void torc_peers_learn(struct torc_peers *peers, uint32_t seat, const uint8_t mac[6], uint8_t port);

// IPs of peers whose link address is not known: seats from *seat on. False: no more.
bool torc_must_use torc_peers_next_unknown(const struct torc_peers *peers, uint32_t *seat,
                                           uint8_t ip[16]);

#endif
