// Torc dataplane: the session thread's own state. Between sessions.c (lives and ends of sessions),
// session_accept.c (how one begins), session_keys.c (who may) and session_list.c (who is there);
// no other file looks in here.
//
// Owner   the session thread.
// Memory  inside torc_sessions_bytes(), at `thread_offset`; fixed for life.
#ifndef TORC_DATAPLANE_SESSION_THREAD_H
#define TORC_DATAPLANE_SESSION_THREAD_H

#include "dataplane/principals.h"
#include "dataplane/session_table.h"
#include "kit/spsc.h"
#include "wire/handshake.h"

#define TORC_SESSION_HALF_NS  UINT64_C(5000000000) // an ACCEPT waits that long for a first packet
#define TORC_SESSION_PRESS_NS UINT64_C(1000000000) // or that long when many wait
#define TORC_SESSION_LOOK_NS  UINT64_C(10000000)   // between two looks through a full queue
#define TORC_SESSION_REST_NS  UINT64_C(1000000000)
#define TORC_SESSION_EVICT_S  60u
#define TORC_SESSION_LEAVE_NS UINT64_C(60000000000) // a session goes on without its key so long

enum torc_slot_state {
    TORC_SLOT_FREE,
    TORC_SLOT_HALF, // accepted; its client has not yet sent in it
    TORC_SLOT_OPEN,
    TORC_SLOT_RESTING, // ended; a worker may still be looking at it
};

struct torc_slot {
    uint64_t made_ns;
    uint64_t leave_ns;   // when it ends because its key was removed; 0: it stays
    uint32_t place;      // of its principal; TORC_PRINCIPAL_NOBODY in CLEAR mode
    uint32_t key_serial; // of the key that it was made with
    uint16_t use;        // number of its last session, 0 before the first
    uint16_t port;       // of the handshake
    uint8_t state;       // enum torc_slot_state
    uint8_t zero[3];
    char agent[TORC_AGENT_BYTES]; // what the client says it is
};

// One ACCEPT that may have to be sent again.
struct torc_half {
    uint64_t made_ns;
    uint64_t serial; // of lane 0
    uint32_t slot;
    uint32_t lanes;
    uint8_t ip[16];
    unsigned char init[TORC_INIT_BYTES];
    unsigned char accept[TORC_ACCEPT_BYTES];
};

struct torc_session_thread {
    struct torc_sessions *table;
    struct torc_principals *principals;
    struct torc_chan_principal *incoming; // a copy of control's table, wiped when it is taken
    uint64_t keys_sequence;               // of the table looked at last
    uint64_t keys_retry_ns;               // when a table is looked at again; 0: none waits
    uint64_t leave_ns;                    // when sessions without a key end; 0: there are none
    uint64_t list_answered;               // control's last question about sessions that was
    uint64_t list_until_ns;               // until then the next one is looked for; 0: none comes
    bool counts_changed;                  // control is to be told how many sessions are open
    uint64_t last_serial;
    uint64_t now_ns;
    uint64_t wall_us;
    uint32_t open_count; // slots half-open or open
    uint32_t search_at;  // where the next search for free slots begins
    uint32_t sweep_at;
    uint64_t sweep_ns;    // when the next sweep is due
    uint64_t evict_ns;    // no principal's own sessions are looked through before
    uint32_t random_used; // bytes of the step's
    bool has_keys;
    struct torc_cookie_keys keys; // for tickets
    uint32_t worker_first;        // served first in the next step
    // Half-open: a queue, oldest first.
    uint32_t half_first;
    uint32_t half_count;
    uint64_t half_press_ns;                      // not to be looked through for settled ones before
    uint64_t half_random[TORC_SESSION_HALF_MAX]; // the first 8 bytes of each one's client random
    struct torc_half halves[TORC_SESSION_HALF_MAX];
    // Resting slots: a queue; those before rest_end wait for the workers' turns of rest_turns.
    uint32_t rest_first;
    uint32_t rest_count;
    uint32_t rest_waiting; // of them, how many the present round frees; 0: no round
    uint64_t rest_ns;      // when the round may end
    uint64_t rest_turns[256];
    struct torc_spsc_port in[256][TORC_SESSION_RING_OUT];
    struct torc_spsc_port out[256];
    uint32_t *rest;          // slot_count
    struct torc_slot *slots; // slot_count
};

static inline uint32_t torc_session_now_s(const struct torc_session_thread *thread)
{
    return (uint32_t)(thread->now_ns / 1000000000u);
}

// The first of `lanes` (a power of two) free slots in a row, aligned to it, among [first, last); or
// UINT32_MAX.
uint32_t torc_session_slots_find(struct torc_session_thread *thread, uint32_t first, uint32_t last,
                                 uint32_t lanes);

// Takes control's table of keys when there is a new one, and ends the sessions that lost their
// right (session_keys.c).
void torc_session_keys_step(struct torc_session_thread *thread);

// Tells control how many sessions each principal has open.
void torc_session_keys_tell(struct torc_session_thread *thread);

// Whether the first has something to do at now_ns, and when it next has.
bool torc_session_keys_pending(const struct torc_session_thread *thread, uint64_t now_ns);
uint64_t torc_session_keys_deadline_ns(const struct torc_session_thread *thread);

// Fills a page of the list of sessions when control has asked for one (session_list.c).
void torc_session_list_step(struct torc_session_thread *thread);
bool torc_session_list_pending(const struct torc_session_thread *thread);
uint64_t torc_session_list_deadline_ns(const struct torc_session_thread *thread);

// The last sign of life on any core, in seconds of now_ns.
uint32_t torc_session_last_seen_s(const struct torc_session_thread *thread, uint32_t slot);

// Ends the session in a slot: nobody finds it any more, and the slot rests.
void torc_session_slot_end(struct torc_session_thread *thread, uint32_t slot);

// Ends the session that was silent for longest, and longer than TORC_SESSION_EVICT_S: of that
// principal, or, by TORC_PRINCIPAL_NOBODY, of all.
bool torc_session_evict(struct torc_session_thread *thread, uint32_t place);

// Answers one INIT: fills `answer` with what to send, or with the reason for its drop.
void torc_session_accept(struct torc_session_thread *thread, const struct torc_session_note *note,
                         const unsigned char random[TORC_SESSIONS_RANDOM_EACH],
                         struct torc_session_note *answer);

#endif
