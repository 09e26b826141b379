// Torc dataplane: the session table, and the steps of the session thread.
//
// What    a fixed array of sessions that all workers read, and the only code that changes it.
//         Workers check cookies and pass INITs that carry a good one on over rings; the session
//         thread (or, in a test, whoever calls torc_sessions_step) answers them over rings back to
//         the worker that received them, which sends.
// Owner   a slot's record: the session thread writes, workers read. Each worker has a 64-byte
//         line a slot of its own (struct torc_session_line), of which the session thread reads
//         when it was last used, and its counts for the list of sessions (session_list.c).
// Memory  torc_sessions_bytes() of the caller's; fixed for life. Nothing is allocated for a packet.
// Publishing  A record is written, then its `index` is stored with release; a worker loads it with
//         acquire and compares it with the packet's. 0 is no session. An ended session's slot rests
//         1 s and until every worker has passed a turn (`turns`) before it is used anew, with the
//         next generation and a serial never used before.
// Shell   The session thread's loop:
//             if torc_sessions_pending: fill `random` from the system, torc_sessions_step, ring the
//                 doorbells of the workers in `ring_workers`
//             else store 1 to torc_sessions_sleeping(), fence (seq_cst), look again, block on its
//                 eventfd until the returned deadline; store 0 after.
// Invariants
//   X1  A session exists only after a valid cookie, so at a proved address.
//   X2  A serial is never used twice: no counter or window outlives its session.
// Sources WIRE.md, sections 1 and 2.
#ifndef TORC_DATAPLANE_SESSIONS_H
#define TORC_DATAPLANE_SESSIONS_H

#include "kit/fail.h"
#include "wire/aead.h"

#include <stdatomic.h>

// What a node allows its clients, as ACCEPT says it (docs/PROTOCOL.md). In a worker's configuration
// 0 takes the default in brackets.
struct torc_session_limits {
    uint32_t core_ops;        // of one lane, in flight at one core [256]
    uint32_t cursors;         // of one lane, open at one core [16]
    uint32_t packet_ops;      // operations in a packet [64]
    uint32_t packets;         // of one lane in flight [64]
    uint32_t fragments;       // that may follow a large put unasked [16]
    uint32_t write_window;    // wseq above the lowest outstanding [4096]
    uint32_t half_open;       // sessions without a first packet [TORC_SESSION_HALF_MAX]
    uint32_t idle_s;          // silence after which a session ends [600]
    uint32_t age_s;           // at which a client makes it anew; a quarter more ends it [3600]
    uint32_t deadline_ms_max; // longest deadline, and the one meant by 0 [10 000]
};

struct torc_sessions;

#define TORC_SESSIONS_DEFAULT      16384u
#define TORC_SESSIONS_STEP_MAX     32u // INITs a step
#define TORC_SESSIONS_RANDOM_EACH  64u // bytes an INIT
#define TORC_SESSIONS_RANDOM_BYTES (TORC_SESSIONS_STEP_MAX * TORC_SESSIONS_RANDOM_EACH)

struct torc_sessions_step {
    // In.
    uint64_t now_ns;
    uint64_t wall_us;
    unsigned char random[TORC_SESSIONS_RANDOM_BYTES]; // used once, then forgotten
    // Out.
    uint64_t deadline_ns;
    bool more;                // INITs are left
    uint64_t ring_workers[4]; // bit w: worker w sleeps and has answers to send
};

// slot_count: a power of two, 64 .. 2^20.
uint64_t torc_sessions_bytes(uint32_t slot_count, uint32_t worker_count);

struct torc_sessions_config {
    uint32_t slot_count; // as for torc_sessions_bytes
    uint32_t worker_count;
    void *chan; // the channel, for the workers' `sleeping`
    uint64_t chan_bytes;
    const struct torc_aead_code *aead; // of this machine (wire/aead_os.h); outlives the table
    uint8_t dummy[32];                 // random: the key of nobody (dataplane/principals.h, P1)
};

// Makes an empty table in zeroed memory aligned to 4096.
enum torc_err torc_must_use torc_sessions_init(struct torc_sessions **sessions, void *memory,
                                               uint64_t memory_bytes,
                                               const struct torc_sessions_config *config,
                                               struct torc_fail *why);

// True when an INIT or an end of a session waits, or something is due at now_ns.
bool torc_sessions_pending(struct torc_sessions *sessions, uint64_t now_ns);

void torc_sessions_step(struct torc_sessions *sessions, struct torc_sessions_step *step);

// Stored by the session thread around blocking, read by workers.
_Atomic uint32_t *torc_sessions_sleeping(struct torc_sessions *sessions);

#endif
