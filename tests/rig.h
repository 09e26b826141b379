// Torc tests: a whole node in one process, without threads, files, devices or clocks.
//
// What    workers, the session table and its thread's steps, the hand-over rings, the channel, and
//         for each worker a control in memory (tests/fake_control.h); a clock that the test moves;
//         frames in, frames out. Everything that happens is decided by the test and by its seed.
// Owner   the test's thread: it made the heaps.
// Memory  malloc and one mapping, given back by torc_rig_close.
// Life    torc_rig_open (recovered and serving when it returns) · send, step, receive ·
//         torc_rig_crash and torc_rig_recover for a new life on the same disk · torc_rig_close.
// Clients torc_rig_client is a client of one lane that speaks by the codecs of wire/, packet by
//         packet: for tests of the server. The engine (client/engine.h) is joined by
//         torc_rig_send_udp and torc_rig_receive_udp.
#ifndef TORC_TESTS_RIG_H
#define TORC_TESTS_RIG_H

#include "dataplane/handover.h"
#include "dataplane/sessions.h"
#include "dataplane/worker.h"
#include "kit/hlc.h"
#include "kit/rng.h"
#include "storage/memory_os.h"
#include "tests/fake_control.h"
#include "wire/frame.h"
#include "wire/handshake.h"
#include "wire/op.h"
#include "wire/session.h"

#define TORC_RIG_WORKERS_MAX 4u
#define TORC_RIG_FRAMES      2048u // in the pipe out
#define TORC_RIG_FRAME_BYTES 9728u
#define TORC_RIG_BASE_PORT   28700u
#define TORC_RIG_CHUNK_BYTES UINT64_C(262144)

struct torc_rig_config {
    uint32_t workers; // 1 .. TORC_RIG_WORKERS_MAX
    uint32_t shards;  // 1 .. TORC_FAKE_SHARDS_MAX; shard i lies on worker i % workers
    uint64_t key_count;
    uint64_t seed;
    uint8_t durability;        // enum torc_durability
    bool steered;              // frames go to the worker of their UDP port; else all to worker 0
    uint16_t mtu;              // 0: 1500
    uint32_t chunks;           // of 256 KiB, each worker; 0: 64
    uint64_t undo_bytes;       // each worker; 0: 4 MiB
    uint64_t heap_bytes;       // for large values, each worker; 0: 64 MiB
    uint32_t value_bytes_max;  // 0: 1 MiB
    uint32_t completion_bytes; // each worker; 0: 1 MiB
    uint32_t gathers;          // packets with unfinished writes, each worker; 0: 512
    uint32_t session_slots;    // a power of two; 0: 1024
    uint32_t unproved_answers_max;      // 0: as many as a rig can ask, whose clients ask but once
    bool sealed;                        // security = keys, and clients of torc_rig_connect have one
    uint32_t principal;                 // sealed: of who connects next; 0: TORC_RIG_PRINCIPAL
    const struct torc_aead_code *aead;  // NULL: the best of this machine
    uint64_t (*trace_clock)(void *rig); // of the workers; NULL: none
    uint64_t (*turn_clock)(void);       // read around each worker's turn, for spent_ns; NULL: none
    // One of several nodes (tests/cluster_rig.h).
    struct torc_fake_meta *meta; // NULL: this node is alone
    const struct torc_post *post;
    bool confirm;                // read-mode
    uint32_t node;               // 0: 1
    void (*step)(void *context); // a step of all nodes, instead of this one's
    void *step_context;
    uint64_t client_id; // of all clients; 0: each its own
    uint64_t now_ns;    // to begin at; 0: the default
    uint64_t wall_us;
};

// The principal that a sealed rig knows, who may do all that clients may.
#define TORC_RIG_PRINCIPAL 7u
#define TORC_RIG_KEY_ID    1u
extern const uint8_t torc_rig_psk[TORC_NOISE_KEY_BYTES];

struct torc_rig_frame {
    uint32_t byte_count;
    uint32_t worker; // in: that receives it; out: that sent it
    unsigned char *bytes;
};

struct torc_rig {
    struct torc_rig_config config;
    struct torc_rng rng;
    uint64_t now_ns;
    uint64_t wall_us;
    // The node.
    void *chan;
    uint64_t chan_bytes;
    struct torc_sessions *sessions;
    struct torc_handover *handover;
    struct torc_council *council;
    struct torc_worker *workers[TORC_RIG_WORKERS_MAX];
    struct torc_heap heaps[TORC_RIG_WORKERS_MAX];
    struct torc_mapping mapping;
    struct torc_worker_port port;
    struct torc_fake_control controls[TORC_RIG_WORKERS_MAX];
    uint8_t ipv4[4];
    uint8_t ipv6[16];
    bool up;
    // The pipes: rings of frames.
    struct torc_rig_frame in[TORC_RIG_FRAMES];
    struct torc_rig_frame out[TORC_RIG_FRAMES];
    uint32_t in_first;
    uint32_t in_count;
    uint32_t out_first;
    uint32_t out_count;
    uint64_t out_lost; // frames that found the pipe full
    // A turn's buffers.
    unsigned char *tx_memory;
    struct torc_frame_tx tx[TORC_TURN_TX_MAX];
    struct torc_frame_rx rx[TORC_TURN_RX_MAX];
    bool more;                         // some worker said so in the last step
    uint64_t spent_ns;                 // in turns of workers, by turn_clock
    bool futile[TORC_RIG_WORKERS_MAX]; // what each said in its last turn
    bool held[TORC_RIG_WORKERS_MAX];   // their cores are others': they have no turns
};

// A node that serves. Ends the test when it does not come up.
void torc_rig_open(struct torc_rig *rig, const struct torc_rig_config *config);
void torc_rig_close(struct torc_rig *rig);

// The dataplane dies; what control has stays. Then a new one, up to serving.
void torc_rig_crash(struct torc_rig *rig);
void torc_rig_recover(struct torc_rig *rig);

// Control's table of keys from now on (bound PSKs, by rising number); a sealed rig takes it up in
// its next steps.
void torc_rig_keys(struct torc_rig *rig, const struct torc_chan_principal *list, uint32_t count);

// The default's entry of that table: TORC_RIG_PRINCIPAL.
struct torc_chan_principal torc_rig_principal(const struct torc_rig *rig);

// As if worker 0 had just dropped packet `seq` of that session unread; false: it would not have.
bool torc_rig_note_unread(struct torc_rig *rig, uint32_t session, uint64_t seq);
// Whether its client is still to be told.
bool torc_rig_is_untold(const struct torc_rig *rig);

// A new dataplane on what control has; false when it does not come to serve (see the controls'
// events).
bool torc_rig_try_recover(struct torc_rig *rig);

// Puts a frame in front of worker `worker`. False: the pipe is full.
bool torc_rig_send(struct torc_rig *rig, uint32_t worker, const void *bytes, uint32_t byte_count);

// The next frame that came out, at most `room` bytes of it; 0: none.
uint32_t torc_rig_receive(struct torc_rig *rig, void *bytes, uint32_t room);

// Time passes, then every part has a turn.
void torc_rig_step(struct torc_rig *rig, uint64_t advance_ns);

// Steps of 10 us until nothing is left to do, at most `steps_max`.
void torc_rig_settle(struct torc_rig *rig, uint32_t steps_max);

struct torc_stats *torc_rig_stats(struct torc_rig *rig, uint32_t worker);
struct torc_admit *torc_rig_admit(struct torc_rig *rig, uint32_t worker); // dataplane/admit.h
uint64_t torc_rig_drops(struct torc_rig *rig, enum torc_drop reason);     // over all workers

// -- UDP ------------------------------------------------------------------------------------------

struct torc_rig_udp {
    uint8_t client_ip[16]; // IPv4 mapped
    uint16_t client_port;
    uint16_t node_port;
    const unsigned char *payload; // received: good until the next call
    uint32_t payload_bytes;
};

// A datagram from a client at that address. The node's address is rig->ipv4 or ipv6, as the
// client's.
bool torc_rig_send_udp(struct torc_rig *rig, const struct torc_rig_udp *udp);

// The next datagram that came out; other frames before it are dropped. False: none.
bool torc_rig_receive_udp(struct torc_rig *rig, struct torc_rig_udp *udp);

// -- A client, packet by packet -------------------------------------------------------------------

struct torc_rig_client {
    uint8_t ip[16];
    uint16_t port;
    uint16_t reply_bytes; // of the requests' headers
    uint16_t reply_packets;
    uint64_t hlc;
    struct torc_lane lane;
    struct torc_accept accept;
    uint64_t client_id;
    uint32_t next_op;
    uint64_t next_wseq;
    // A packet being filled.
    unsigned char packet[TORC_PAYLOAD_MAX];
    uint32_t used_bytes;
    // The last reply packet opened.
    unsigned char reply[TORC_RIG_FRAME_BYTES];
    uint32_t reply_bytes_used;
    uint32_t reply_at;
    struct torc_data reply_data;
};

// A session; ends the test when it does not come about.
void torc_rig_connect(struct torc_rig *rig, struct torc_rig_client *client, uint16_t port);

// The same from an address of the client's choice (IPv4 mapped).
void torc_rig_connect_from(struct torc_rig *rig, struct torc_rig_client *client,
                           const uint8_t ip[16], uint16_t port);

// Adds an operation to the packet; op id 0 is replaced by a new one. Returns the op id.
uint32_t torc_rig_add(struct torc_rig_client *client, const struct torc_request *request);

// Seals and sends the packet to `core`. Returns its payload bytes.
uint32_t torc_rig_flush(struct torc_rig *rig, struct torc_rig_client *client, uint32_t core);

// The next reply operation for this client among what came out; false: none. Replies to others are
// dropped.
bool torc_rig_next(struct torc_rig *rig, struct torc_rig_client *client, struct torc_reply *reply);

// Steps until a reply came or `steps_max` steps of 10 us were taken.
bool torc_rig_await(struct torc_rig *rig, struct torc_rig_client *client, struct torc_reply *reply,
                    uint32_t steps_max);

// Sends one operation to the core of its key (or core 0) and awaits its reply; the test ends
// without.
void torc_rig_call(struct torc_rig *rig, struct torc_rig_client *client,
                   const struct torc_request *request, struct torc_reply *reply);

// The same, and the test ends when the status is another one.
void torc_rig_expect(struct torc_rig *rig, struct torc_rig_client *client,
                     const struct torc_request *request, enum torc_err status,
                     struct torc_reply *reply);

// A put that must succeed, and a get that must find these bytes; the put's version.
uint64_t torc_rig_put_text(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key,
                           const char *text);
void torc_rig_check_text(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key,
                         const char *text);
// A get that must find nothing.
void torc_rig_check_none(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key);

// Requests, filled: the next wseq, the stamp of now, the epoch of the first life's shards or later.
struct torc_request torc_rig_get(uint64_t key);
struct torc_request torc_rig_put(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key,
                                 const void *value, uint32_t value_bytes);
struct torc_request torc_rig_delete(struct torc_rig *rig, struct torc_rig_client *client,
                                    uint64_t key);

// The core and epoch of a key's shard.
uint32_t torc_rig_core(const struct torc_rig *rig, uint64_t key);
uint32_t torc_rig_epoch(const struct torc_rig *rig, uint64_t key);

#endif
