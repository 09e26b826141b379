// Torc dataplane: what the watch keeps of each peer and shard. Private to watch*.c.
//
//     watch.c         life, beats, answers, silence
//     watch_claims.c  adoptions, claims, leases
#ifndef TORC_DATAPLANE_WATCH_IMPL_H
#define TORC_DATAPLANE_WATCH_IMPL_H

#include "dataplane/watch.h"
#include "kit/bugs.h"

// A replica of this node, as its core last adopted.
struct torc_watch_shard {
    uint32_t shard;
    uint32_t epoch;
    uint32_t primary_node;
    bool synced;
    uint64_t promise_until_ns; // to the primaries of its earlier epochs (L4)
};

// Of ours on a peer, in its slot.
struct torc_watch_claim {
    uint32_t shard;
    uint32_t epoch;   // 0: the slot is empty
    uint64_t changed; // the version that filled or emptied it; 0: never used
    struct torc_watch_lease lease;
};

// A peer's on us, in its slot.
struct torc_watch_claimed {
    uint32_t shard;
    uint32_t epoch;
};

struct torc_watch_peer {
    struct torc_peer_state state;
    uint64_t met_ns;
    uint64_t heard_ns;               // last beat; moved by our own stalls (S1)
    uint64_t answered_ns;            // likewise, last answer
    uint64_t promise_until_ns;       // promised to state.boot
    uint64_t promise_until_other_ns; // to earlier boots, all of them
    uint64_t sent_ns[TORC_WATCH_BEATS_KEPT];
    uint64_t sent_count;
    uint64_t counted_ns;    // sent_ns of the newest beat whose answer counted
    uint64_t beat_ns;       // sent_ns of its newest beat
    uint64_t ceiling_asked; // it wants us to keep; the shell was told
    uint64_t open_hlc;
    uint64_t wall_boot;  // the life of it whose wall clock was heard last
    uint64_t wall_ns;    // when; 0: never
    int64_t wall_off_us; // its offset from ours, the least delayed of late
    uint64_t held_ns;    // when its HLC was heard; 0: never
    int64_t held_off_us; // of that
    uint64_t claim_version;
    uint64_t claim_acked;
    uint64_t held_version;     // of its claims on us
    uint32_t stretch;          // its k
    uint32_t answered_stretch; // ours when it answered last
    uint32_t claim_end;        // slots at and above it were never used
    uint32_t claimed_end;      // likewise, of its claims
    bool beat_due;
    bool claim_due;
    bool ask_due;        // a beat is asked for (torc_watch_ask), at watch->wanted_ns or later
    uint32_t unanswered; // beats sent since the newest that was answered
    bool told;           // its present state; false: TELL_PEER is due
    struct torc_watch_claim claims[TORC_CLAIMS_MAX];
    struct torc_watch_claimed claimed[TORC_CLAIMS_MAX];
    uint64_t promisable[TORC_CLAIMS_MAX / 64]; // bits: its claims that L1 lets us promise
};

struct torc_watch_peer *torc_watch_find(const struct torc_watch *watch, uint32_t node);

// The peer has a new boot: what it promised, acknowledged and claimed is void (B1).
void torc_watch_forget_claims(struct torc_watch_peer *peer);

// Applies a CLAIM. False: it does not follow on what is held.
bool torc_watch_take_claims(struct torc_watch *watch, struct torc_watch_peer *peer,
                            const struct torc_peer_claim *message);

// Counts an answer: it rests on the beat sent at sent_ns, and was promised with `stretch`.
void torc_watch_count_leases(struct torc_watch *watch, struct torc_watch_peer *peer,
                             const struct torc_beat_ack *ack);

#endif
