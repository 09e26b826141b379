// Torc client: the client of the protocol without its sockets: sessions, routing, retries, ranges.
//
// What    takes operations, packets that came in and the time; gives packets to send and
//         completions. The edges (queue_os.c with transport_sock.c or transport_memif_dpdk.c) and
//         the simulator drive the same object, in this order, over and over:
//             torc_engine_time(engine, now, wall)        what time it is
//             torc_engine_receive(engine, ...)           each packet that has arrived
//             torc_engine_clock(engine, now, wall)       runs the timers: behind the packets, so
//             that
//                                                        a thread that slept takes none for lost
//             torc_engine_get/write/range/status(...)    new operations
//             torc_engine_transmit(engine, &datagram)    until it returns false
//             torc_engine_poll(engine, completions, n)
//             sleep until torc_engine_deadline_ns() or a packet
// Owner   one thread. One engine is one lane: one client id, one session with each node it speaks
//         to.
// Memory  one zero-filled mapping of torc_engine_bytes(), handed in and never outgrown. Fixed
//         tables of operations, nodes and shards; values and pages in flight come from its pool
//         (pool.h). A node takes 54 KiB of the mapping: 8 of them are touched once it was heard of,
//         25 to 40 with a session.
// Invariants
//   C1  an accepted operation ends with exactly one completion, at its deadline at the latest.
//   C2  all copies of a write carry one (client id, wseq, stamp); `lowest outstanding` passes a
//       wseq only when its outcome was given to the caller (REPLICATION.md K1).
//   C3  a definite refusal of a write is reported only when every attempt sent was refused (K2).
//   C4  packets in flight to a node never exceed its window, but for probes of the path; the window
//       is between 1 and the published maximum.
//   C5  a page is a gapless run of keys from the range's start (reverse: end): what its parts cover
//       tiles [lo, next_lo) or [next_hi, hi).
//   C6  what was refused for load or was not answered in time goes again within the retry budget.
//   C7  packets, and the answers they allow, are no larger than what an answered probe proved in
//       both directions (mtu.c).
// Sources WIRE.md sections 1 to 4 (docs/PROTOCOL.md); REPLICATION.md section 12; Kumar et al.,
//         "Swift", SIGCOMM 2020; RFC 6298; Kalia, Kaminsky, Andersen, "Datacenter RPCs can be
//         General and Fast", NSDI 2019.
#ifndef TORC_CLIENT_ENGINE_H
#define TORC_CLIENT_ENGINE_H

#include "kit/fail.h"
#include "torc/torc.h"
#include "wire/aead.h"
#include "wire/keyfile.h"

#define TORC_ENGINE_OPERATIONS_MAX 65536u
#define TORC_ENGINE_NODES_MAX      1280u // 1,024, and some that were left or have another name
#define TORC_ENGINE_SHARDS_MAX     8192u // twice a cluster's most: while it changes, parts of both
#define TORC_ENGINE_SEEDS_MAX      16u
#define TORC_ENGINE_PAYLOAD_MAX    8972u
#define TORC_ENGINE_KEY_TEXT_BYTES 96u

struct torc_engine;

struct torc_engine_config {
    uint64_t client_id;  // 56 random bits, low byte zero
    uint64_t seed;       // of jitter, initiator indices and handshake randoms
    uint64_t pool_bytes; // for values and pages; at least 1 MiB
    uint64_t timeout_us; // of operations that name none
    uint32_t operations; // 1 .. TORC_ENGINE_OPERATIONS_MAX
    uint32_t nodes;      // that it can know, TORC_ENGINE_SEEDS_MAX .. TORC_ENGINE_NODES_MAX
    uint32_t
        payload_bytes; // largest UDP payload that the path carries, 1200 .. TORC_ENGINE_PAYLOAD_MAX
    uint32_t read_rto_us; // least time-out of a read; under 1000: the edge polls
    bool one_node;        // the edge reaches the node of the seeds alone (memif)
    bool may_nap;         // whoever polls sleeps in between: answers may lie there for a while
    // Sealed sessions; without a key they are CLEAR. The engine keeps a copy: wipe yours.
    struct torc_client_key key;                // principal 0: none
    char key_text[TORC_ENGINE_KEY_TEXT_BYTES]; // for people: where the key is from; may be empty
    const struct torc_aead_code *aead;         // of this machine (wire/aead_os.h); with a key
    uint8_t secret[32]; // random, of nothing else: ephemeral keys follow from it
};

// Where a packet goes to or came from. IPv4 is mapped (::ffff:a.b.c.d).
struct torc_endpoint {
    uint8_t address[16];
    uint16_t port;
};

// One packet to send: the caller gives `payload` with room for config.payload_bytes.
struct torc_datagram {
    uint8_t *payload;
    uint32_t bytes;
    struct torc_endpoint to;
};

struct torc_engine_write {
    uint64_t key;
    const void *data; // NULL for a delete
    uint64_t bytes;
    uint64_t version; // with TORC_IF_VERSION
    uint64_t timeout_us;
    uint64_t user_data;
    uint32_t condition; // enum torc_condition
    bool is_delete;
    bool traced;
};

struct torc_engine_range {
    uint64_t lo;
    uint64_t hi;
    uint64_t user_data;
    bool count_only;
    struct torc_range_options options;
};

uint64_t torc_engine_bytes(const struct torc_engine_config *config);

// So many of them, from the first on and whole pages, are all that holds keys.
uint64_t torc_engine_secret_bytes(const struct torc_engine_config *config);

// `memory`: torc_engine_bytes(), zero-filled, aligned to 4096.
struct torc_engine *torc_engine_init(void *memory, const struct torc_engine_config *config,
                                     uint64_t now_ns, uint64_t wall_us);

// A place where a node may be. At most TORC_ENGINE_SEEDS_MAX.
enum torc_err torc_must_use torc_engine_seed(struct torc_engine *engine,
                                             const struct torc_endpoint *seed,
                                             struct torc_fail *why);

// The time of all that follows. now_ns never goes back.
void torc_engine_time(struct torc_engine *engine, uint64_t now_ns, uint64_t wall_us);

// The same, and runs the timers that have come.
void torc_engine_clock(struct torc_engine *engine, uint64_t now_ns, uint64_t wall_us);

// One packet, as it came. Its bytes may be changed (opened in place).
void torc_engine_receive(struct torc_engine *engine, const struct torc_endpoint *from,
                         uint8_t *payload, uint32_t bytes);

// A new operation; values are copied. LIMIT: no room, poll first. Else an argument error with its
// text.
enum torc_err torc_must_use torc_engine_get(struct torc_engine *engine, uint64_t key,
                                            const struct torc_read_options *options,
                                            uint64_t user_data, struct torc_fail *why);
enum torc_err torc_must_use torc_engine_write(struct torc_engine *engine,
                                              const struct torc_engine_write *write,
                                              struct torc_fail *why);
enum torc_err torc_must_use torc_engine_range(struct torc_engine *engine,
                                              const struct torc_engine_range *range,
                                              struct torc_fail *why);
enum torc_err torc_must_use torc_engine_status(struct torc_engine *engine, uint32_t node,
                                               uint64_t timeout_us, uint64_t user_data,
                                               struct torc_fail *why);

// The next packet to send, or false. Call it until then.
bool torc_engine_transmit(struct torc_engine *engine, struct torc_datagram *datagram);

// When torc_engine_clock must be called again, UINT64_MAX for never.
uint64_t torc_engine_deadline_ns(const struct torc_engine *engine);

// Frees what the completions of the last torc_engine_poll pointed to, and their slots.
void torc_engine_release(struct torc_engine *engine);

// Fills at most `max` completions, after torc_engine_release.
uint32_t torc_engine_poll(struct torc_engine *engine, struct torc_completion *completions,
                          uint32_t max);

// Whether the next torc_engine_poll has something to do: completions to give, or to free what those
// of the call before pointed to because operations wait for that memory.
bool torc_engine_poll_due(const struct torc_engine *engine);

// After a bug was met: what was in flight ends with INTERNAL. *cursor is 0 at first. Walks no list,
// so that a damaged engine can be asked.
uint32_t torc_engine_abandon(const struct torc_engine *engine, uint32_t *cursor,
                             struct torc_completion *completions, uint32_t max);

// How many of them are left.
uint32_t torc_engine_abandoned(const struct torc_engine *engine, uint32_t cursor);

// Accepted and not yet returned by torc_engine_poll.
uint32_t torc_engine_pending(const struct torc_engine *engine);

// True when a session stands and the shard map covers all keys.
bool torc_engine_ready(const struct torc_engine *engine);

// Why no session stands, one line.
const char *torc_engine_trouble(const struct torc_engine *engine);

// Asks for the whole shard map again; torc_engine_map_fresh() says when it has come.
void torc_engine_map_refresh(struct torc_engine *engine);
bool torc_engine_map_fresh(const struct torc_engine *engine);

// Ends all sessions: the next transmits are CLOSE packets. No operation may follow.
void torc_engine_close(struct torc_engine *engine);

// Of the traced operation that ended last; false before the first.
bool torc_engine_trace(const struct torc_engine *engine, struct torc_trace *trace);

void torc_engine_limits(const struct torc_engine *engine, struct torc_limits *limits);
void torc_engine_counters(const struct torc_engine *engine, struct torc_counters *counters);

// Shards known, in key order: at most `max` into `shards`; returns how many there are.
uint32_t torc_engine_shards(const struct torc_engine *engine, struct torc_shard *shards,
                            uint32_t max);

#endif
