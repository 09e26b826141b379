// Torc dataplane: what a session is in memory. Between sessions.c (which changes it) and the worker
// (which reads it); others use sessions.h.
//
// Owner   see sessions.h; each struct says line by line who writes it.
// Memory  inside torc_sessions_bytes(): the slots, each worker's lines, the rings.
#ifndef TORC_DATAPLANE_SESSION_TABLE_H
#define TORC_DATAPLANE_SESSION_TABLE_H

#include "dataplane/principals.h"
#include "dataplane/sessions.h"
#include "kit/chan.h"
#include "wire/data.h"

#define TORC_SESSION_SLOT_BITS   20u
#define TORC_SESSION_RING_SLOTS  256u
#define TORC_SESSION_WINDOW_BITS 256u
#define TORC_SESSION_HALF_MAX    1024u

// The way back to whoever sent a packet. IPv4 addresses are mapped into 16 bytes.
struct torc_path {
    uint8_t mac[6];
    uint8_t port; // of this node: index into the configuration's ports
    uint8_t is_ipv6;
    uint8_t ip[16];
    uint16_t udp_port;
    uint16_t zero;
};

// One session. Written by the session thread before `index` is published, then never but `index`;
// `confirmed` is stored by workers, relaxed. What a sealed packet needs beside the keys is the
// first line. Keys are wiped before the slot is used anew.
struct torc_session {
    _Atomic uint32_t index; // generation << 20 | slot; 0: none
    _Atomic uint32_t confirmed;
    uint64_t serial;
    uint8_t ip[16];
    uint32_t client_index; // what the client wants in its packets: initiator index + lane
    uint32_t principal;
    uint32_t roles;
    uint16_t payload_max; // largest UDP payload that the client takes
    uint8_t lane;
    uint8_t suite;                    // enum torc_suite
    const struct torc_rights *rights; // key ranges of its principal; NULL: all keys
    uint64_t client_id;               // of lane 0
    uint64_t tokens[2];               // CLEAR mode, by enum torc_direction
    uint64_t boot;                    // of a node: the caller's
    struct torc_aead_key keys[2];     // sealed, by enum torc_direction
};

_Static_assert(offsetof(struct torc_session, tokens) == 64, "the first line");
_Static_assert(sizeof(struct torc_session) == 2176, "published as the memory of a session");

// A worker's view of one slot. Written by that worker; what is atomic is read by the session thread
// too, relaxed: for people, who may see one session's numbers with the next one's serial.
struct torc_session_line {
    _Atomic uint64_t serial; // whose numbers these are; another one than the record's: start anew
    _Atomic uint64_t tx_seq;
    _Atomic uint64_t rx_high;
    uint64_t window[TORC_SESSION_WINDOW_BITS / 64]; // bit seq % 256
    _Atomic uint32_t last_seen_s;
    _Atomic uint16_t in_flight; // operations begun and not answered
    uint16_t cursors;           // of them, ranges kept open
};

_Static_assert(sizeof(struct torc_session_line) == 64, "a line a slot and core");

// What a worker reads and writes of its own lines: plain loads and stores on the machine.
static inline uint64_t torc_session_line_serial(const struct torc_session_line *line)
{
    return atomic_load_explicit(&line->serial, memory_order_relaxed);
}

static inline uint64_t torc_session_line_send(struct torc_session_line *line)
{
    uint64_t seq = atomic_load_explicit(&line->tx_seq, memory_order_relaxed) + 1;

    atomic_store_explicit(&line->tx_seq, seq, memory_order_relaxed);
    return seq;
}

static inline uint16_t torc_session_line_in_flight(const struct torc_session_line *line)
{
    return atomic_load_explicit(&line->in_flight, memory_order_relaxed);
}

// One operation more (1) or less (-1).
static inline void torc_session_line_count(struct torc_session_line *line, int change)
{
    atomic_store_explicit(&line->in_flight, (uint16_t)(torc_session_line_in_flight(line) + change),
                          memory_order_relaxed);
}

enum torc_session_note_kind {
    // worker -> session thread: an INIT with a good cookie; `index` is the worker's.
    TORC_SESSION_NOTE_INIT = 1,
    TORC_SESSION_NOTE_END,  // worker -> session thread: `index` was closed by its client
    TORC_SESSION_NOTE_SEND, // session thread -> worker: send `bytes` to `path`
};

struct torc_session_note {
    uint32_t kind;
    uint32_t index;
    uint32_t byte_count; // SEND: 0 when the INIT was dropped
    uint32_t drop;       // SEND: and then why (wire/drop.h), for the worker to count
    struct torc_path path;
    uint64_t serial;
    unsigned char bytes[256];
};

// What a node says about itself in ACCEPT; stored by worker 0 after CONFIGURE.
struct torc_sessions_identity {
    uint64_t cluster;
    uint64_t boot;
    uint64_t key_count;
    uint64_t map_version;
    uint32_t node;
    uint32_t value_bytes_max;
    uint32_t sessions_max;
    uint16_t base_port;
    uint16_t payload_max;
    uint32_t message_bytes_max;
    struct torc_session_limits limits;
    uint8_t durability;
    uint8_t security;
    uint8_t zero[2];
    uint8_t secret[32];
};

struct torc_sessions {
    uint32_t slot_count;
    uint32_t worker_count;
    uint64_t lines_offset;
    uint64_t rings_offset; // per worker: tickets in, cookies in, ends in, out
    uint64_t ring_bytes;
    uint64_t slots_offset;
    uint64_t thread_offset; // the session thread's own state
    void *chan;
    uint64_t chan_bytes;
    const struct torc_aead_code *aead;
    // Stored by worker 0 with release after `identity` was filled.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint32_t configured;
    _Atomic uint64_t hlc;         // highest of worker 0: for ACCEPT
    _Atomic uint64_t map_version; // of worker 0's map
    struct torc_sessions_identity identity;
    // Stored by the session thread.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint32_t sleeping;
    _Atomic uint32_t open_count;
    // turns[w]: stored by worker w each turn, read by the session thread.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t turns[256];
};

enum torc_session_ring {
    TORC_SESSION_RING_TICKET, // INITs with a ticket, served first
    TORC_SESSION_RING_COOKIE,
    TORC_SESSION_RING_END,
    TORC_SESSION_RING_OUT,
    TORC_SESSION_RING_COUNT,
};

static inline unsigned char *torc_sessions_base(struct torc_sessions *sessions)
{
    return (unsigned char *)sessions;
}

static inline struct torc_session *torc_session_at(struct torc_sessions *sessions, uint32_t slot)
{
    torc_assert(slot < sessions->slot_count);
    return (struct torc_session *)(void *)(torc_sessions_base(sessions) + sessions->slots_offset) +
           slot;
}

static inline struct torc_session_line *torc_session_line_at(struct torc_sessions *sessions,
                                                             uint32_t worker, uint32_t slot)
{
    torc_assert(worker < sessions->worker_count && slot < sessions->slot_count);
    return (struct torc_session_line *)(void *)(torc_sessions_base(sessions) +
                                                sessions->lines_offset) +
           (uint64_t)worker * sessions->slot_count + slot;
}

static inline void *torc_session_ring_at(struct torc_sessions *sessions, uint32_t worker,
                                         enum torc_session_ring ring)
{
    uint64_t at = (uint64_t)worker * TORC_SESSION_RING_COUNT + (uint64_t)ring;

    torc_assert(worker < sessions->worker_count);
    return torc_sessions_base(sessions) + sessions->rings_offset + at * sessions->ring_bytes;
}

// What seals and opens packets of one direction of a session.
static inline struct torc_seal torc_session_seal(const struct torc_sessions *sessions,
                                                 const struct torc_session *session,
                                                 enum torc_direction direction)
{
    return (struct torc_seal){.code = sessions->aead,
                              .key = &session->keys[direction],
                              .token = session->tokens[direction],
                              .suite = session->suite,
                              .direction = (uint8_t)direction};
}

// Starts loading what a packet of this type and size (its first pass does not know the session yet)
// needs of a session's record.
static inline void torc_session_prefetch(const struct torc_sessions *sessions,
                                         const struct torc_session *session, uint8_t type,
                                         uint32_t byte_count)
{
    __builtin_prefetch(session);
    if (type == TORC_TYPE_CLEAR) {
        __builtin_prefetch(session->tokens);
        return;
    }
    torc_aead_prefetch(
        torc_aead_cipher(sessions->aead, torc_aead_best_suite(sessions->aead->suites)),
        &session->keys[TORC_TO_SERVER], byte_count);
}

// The record of an index as a packet names it, or NULL. Acquire: pairs with the release in
// sessions.c.
static inline struct torc_session *torc_session_find(struct torc_sessions *sessions, uint32_t index)
{
    uint32_t slot = index & ((1u << TORC_SESSION_SLOT_BITS) - 1);
    struct torc_session *session;

    if (index == 0 || slot >= sessions->slot_count) {
        return NULL;
    }
    session = torc_session_at(sessions, slot);
    return atomic_load_explicit(&session->index, memory_order_acquire) == index ? session : NULL;
}

#endif
