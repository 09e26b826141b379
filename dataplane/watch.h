// Torc dataplane: the watch of a node over its peers. Who is alive, and who may serve?
//
// What    Every pair of nodes that share shards exchanges beats. A primary's node claims its shards
//         of each member's node, slot by slot; an answer to a beat promises, for every claim but
//         the excepted ones, not to serve that shard as primary within D. Counted from when the
//         beat was SENT, promises are the leases by which a primary reads from its own memory.
//         Silence is suspicion; what follows from it is each shard's business (replica.h).
// Owner   worker 0. Other cores ask by message (torc_watch_adopt) and read what it publishes: for
//         each claim its lease, in a word of its own (torc_watch_lease). A core reads the word
//         after the packet with the read arrived, and acknowledges, waits out or serves in an epoch
//         only after the answer to its adoption (L0).
// Memory  the caller's, torc_watch_bytes. Nothing is allocated.
// Shell   torc_watch_step takes the time and one event, and appends actions. It is called in each
//         turn, and no later than torc_watch_deadline_ns; all that has arrived is delivered before
//         time is let pass. How late a step comes is how long this node itself stood still: that
//         much every peer's silence is forgiven (S1).
// Time    now_ns: monotonic, counting suspend (CLOCK_BOOTTIME); never goes back. Rates within
//         drift_ppm of true time.
// Stretch k = 1, 2, 4 or 8 of a node stretches its beats, the promises of its pairs, for which the
//         larger of a pair's two counts, and how long others bear its silence. It doubles when this
//         node's own beats come late, and falls to what their lateness of late asks for.
// Invariants
//   W1  A lease ends, in true time, before the promise it rests on does.
//   W2  A promise is only prolonged. It is one number for a pair and the boot promised to; a step
//       that adopts a higher epoch is told it (L4) and may wait it out. A process that has just
//       started has promised everything until 8 D later (L5).
//   W3  A step appends at most TORC_WATCH_ACTIONS_MAX actions; peers that found no room are next
//       in the step after, for which the deadline is now.
//   W4  All that is known of a peer is of its boot: a new boot voids its answers and claims (B1).
// Sources REPLICATION.md, sections 5, 7, 8, 13; Gray, Cheriton, "Leases" (SOSP 1989).
#ifndef TORC_DATAPLANE_WATCH_H
#define TORC_DATAPLANE_WATCH_H

#include "kit/fail.h"
#include "wire/peer.h"

#define TORC_WATCH_PEERS_MAX   64u
#define TORC_WATCH_ACTIONS_MAX 64u
#define TORC_WATCH_BEATS_KEPT  16u // beats whose answers still count; a power of two
#define TORC_WATCH_STRETCH_MAX 8u
#define TORC_WATCH_LEVELS      4u // of k: 1, 2, 4, 8
#define TORC_WATCH_ASKED_MAX   8u // of beats kept; the others are those that go out by time

struct torc_watch_timing {
    uint64_t beat_ns;    // between two beats
    uint64_t promise_ns; // D: how long an answer binds the answerer
    uint64_t suspect_ns; // silence after which a peer is suspected
    uint64_t margin_ns;  // g: clock reads, skew between cores
    uint64_t calm_ns; // of beats on time, after which k falls; 60 times it after a false suspicion
    uint32_t drift_ppm; // rho
};

struct torc_watch_config {
    struct torc_watch_timing timing;
    uint64_t boot;
    uint32_t node;
    uint32_t peers_max;  // <= TORC_WATCH_PEERS_MAX
    uint32_t shards_max; // that this node has a replica of
};

// What worker 0 knows of a peer; each change of it is told to every shard that has the peer.
struct torc_peer_state {
    uint32_t node;
    uint8_t health; // its own word (C5)
    bool silent;    // no beat for suspect_ns: suspected
    bool mute;      // no answer to ours for suspect_ns
    uint64_t boot;  // 0: not heard yet
};

// X(name, help): counted, never logged one by one. The help is the metric's.
#define TORC_WATCH_COUNTER_TABLE(X)                               \
    X(old_boot, "messages of a peer's earlier boot")              \
    X(stranger, "messages of a node that is not watched")         \
    X(unknown_beat, "answers to a beat that is not remembered")   \
    X(old_beat, "beats that arrived behind a newer one")          \
    X(old_answer, "answers that arrived behind a newer one")      \
    X(claim_gap, "changes of claims that did not follow on ours") \
    X(stalls, "steps that came later than their deadline by a beat")

enum torc_watch_event_kind {
    TORC_WATCH_BEAT,
    TORC_WATCH_BEAT_ACK,
    TORC_WATCH_CLAIM,
    TORC_WATCH_SELF,        // this node's own state changed
    TORC_WATCH_CEILING,     // the shell keeps `ceiling` now (H6): it may be acknowledged
    TORC_WATCH_FALSE_ALARM, // this node was suspected, and lives
};

struct torc_watch_self {
    uint64_t wall_us;        // its own opinion, not the median that it may stamp by (H3)
    uint64_t ceiling_wanted; // H6: a timestamp that a reader here will use; 0: none
    uint64_t open_hlc;       // lowest open snapshot; UINT64_MAX: none
    uint8_t health;          // enum torc_health
    bool turning;            // every core turned within stall_limit (S2): else no beat goes out
};

struct torc_watch_event {
    enum torc_watch_event_kind kind;
    uint32_t node; // BEAT, BEAT_ACK, CLAIM: the sender and its boot
    uint64_t boot;
    union {
        const struct torc_beat *beat;
        const struct torc_beat_ack *beat_ack;
        const struct torc_peer_claim *claim;
        const struct torc_watch_self *self;
        uint64_t ceiling;
    };
};

enum torc_watch_action_kind {
    TORC_WATCH_SEND_BEAT,  // `beat`
    TORC_WATCH_SEND_ACK,   // `beat_ack`
    TORC_WATCH_SEND_CLAIM, // what torc_watch_claim_message gives
    TORC_WATCH_TELL_PEER,  // `peer` changed: an event for the shards that have it
    TORC_WATCH_KEEP,       // keep `ceiling`, then say so
    TORC_WATCH_READ,       // the epoch of `shard` is over: read its record
};

struct torc_watch_action {
    enum torc_watch_action_kind kind;
    uint32_t node;
    union {
        struct torc_beat beat;
        struct torc_beat_ack beat_ack;
        struct torc_peer_state peer;
        uint64_t ceiling;
        uint32_t shard;
    };
};

// Empty before each step; the caller acts on items[0 .. count), in order.
struct torc_watch_actions {
    uint32_t count;
    struct torc_watch_action items[TORC_WATCH_ACTIONS_MAX];
};

// One life of a node: its boots are numbered from 1, as are those of any other.
struct torc_watch_life {
    uint32_t node;
    uint64_t boot; // 0: none
};

// ADOPT of a core (L0): its replica of `shard` goes on in `epoch`.
struct torc_watch_adoption {
    uint32_t shard;
    uint32_t epoch;
    uint32_t primary_node; // of that epoch
    bool synced;           // its log was reconciled with that primary's
    bool keeps;            // this node was primary before too, without a break: leases go on (L6)
    struct torc_watch_life down; // the last primary's, if that is known to be over (L4)
    uint32_t claim_count;        // primary here: the nodes of members and proposed members
    uint32_t claim_nodes[TORC_MEMBERS_MAX];
};

// What a core counts for one claim (L3, L7, H5): published as three words.
struct torc_watch_lease {
    uint64_t until_ns;     // 0: none
    uint64_t confirmed_ns; // when the beat was sent that was last answered with this promise
    uint64_t ceiling;      // a successor on that node stamps above it
};

struct torc_watch_counters {
#define X(name, help) uint64_t name;
    TORC_WATCH_COUNTER_TABLE(X)
#undef X
};

struct torc_watch_peer;  // watch.c
struct torc_watch_shard; // watch.c

struct torc_watch {
    struct torc_watch_timing timing;
    struct torc_watch_counters counters;
    struct torc_watch_self self;
    uint64_t boot;
    uint64_t now_ns; // of the last step; time never goes back
    uint64_t started_ns;
    uint64_t next_beat_ns; // of all peers
    uint64_t beaten_ns;    // when the last round went out
    uint64_t sent_ns;      // when the last beat went out, to whomever
    uint64_t wanted_ns;    // torc_watch_ask: a beat is to go out then or later
    uint64_t gap_ns;       // when the last two long gaps were: k doubles at the second in a second
    uint64_t alarmed_ns;   // when a false suspicion last doubled k
    uint64_t alarm_ns;     // k does not fall before
    uint64_t asked_ns[TORC_WATCH_LEVELS]; // when a round was last so late that it asked for 2^level
    uint64_t ceiling;                     // announced
    uint64_t ceiling_kept;                // here, as a member
    uint32_t node;
    uint32_t stretch; // own k
    uint32_t peers_max;
    uint32_t peer_count;
    uint32_t peer_next; // W3
    uint32_t shards_max;
    uint32_t shard_count;
    struct torc_watch_peer *peers;
    struct torc_watch_shard *shards; // by number
};

uint64_t torc_watch_bytes(const struct torc_watch_config *config);

// `memory`: zeroed, aligned to 64. INVALID_ARGUMENT: the timing leaves no lease, or suspects
// within four beats.
enum torc_err torc_must_use torc_watch_init(struct torc_watch *watch, void *memory, uint64_t now_ns,
                                            const struct torc_watch_config *config,
                                            struct torc_fail *why);

// From now on `node` is beaten and listened to. Again: no change. LIMIT: peers_max.
enum torc_err torc_must_use torc_watch_meet(struct torc_watch *watch, uint32_t node,
                                            struct torc_fail *why);

// One event: a message that arrived, or NULL when only time has passed.
void torc_watch_step(struct torc_watch *watch, uint64_t now_ns,
                     const struct torc_watch_event *event, struct torc_watch_actions *actions);

// What a beat of the node's life `boot` says of the time of day, also one whose HLC is refused: a
// node that is behind could not find out otherwise.
void torc_watch_wall(struct torc_watch *watch, uint64_t now_ns, uint32_t node, uint64_t boot,
                     uint64_t wall_us);

// And the HLC of its packet, refused or not; none if it holds none.
void torc_watch_held(struct torc_watch *watch, uint64_t now_ns, uint32_t node, uint64_t held_us);

// The median of the offsets of the HLCs that this node (`held_us`) and the peers heard lately hold;
// of an even number, from four on, the upper one. Who holds none, 0, has no say: a node that began
// empty goes on from the only one that holds any, when all others had their time to speak.
int64_t torc_watch_held_us(const struct torc_watch *watch, uint64_t held_us);

// H3: the median of the offsets (kit/wall.h) of this node's `own_us` and of the peers heard lately.
// For 2 s after it met a peer one that nobody else agrees with is none: more may be met.
int64_t torc_watch_median_us(const struct torc_watch *watch, int64_t own_us);

// When to step next if nothing arrives.
uint64_t torc_watch_deadline_ns(const struct torc_watch *watch);

// A core's replica adopts an epoch. The answer is until when the replica must act as bound by what
// was promised to the primaries before (L4); said again, it is answered again. Claims
// are made, kept or withdrawn; the peers concerned hear of it in the next step, for which the
// deadline is now. A claim that finds no place, on a peer whose slots are taken or among peers_max,
// is not made: writes go on without its lease, and torc_watch_claim tells. LIMIT: shards_max;
// nothing was adopted.
enum torc_err torc_must_use torc_watch_adopt(struct torc_watch *watch,
                                             const struct torc_watch_adoption *adoption,
                                             uint64_t *promise_until_ns, struct torc_fail *why);

// A learner's node is claimed too, before it is proposed (J3). Again: no change. LIMIT: the node's
// slots are taken, or peers_max.
enum torc_err torc_must_use torc_watch_claim(struct torc_watch *watch, uint32_t shard,
                                             uint32_t epoch, uint32_t node, struct torc_fail *why);

// The shard is gone from this node.
void torc_watch_drop(struct torc_watch *watch, uint32_t shard);

// Beats `node` in the next step: it has just acknowledged in a new epoch, and its exception would
// stand until the next beat.
void torc_watch_hurry(struct torc_watch *watch, uint32_t node);

// A reader wants to be confirmed (L7): all who are claimed from are beaten in the next step, for
// which the deadline is now. The result is the bound: a beat sent at it or later leaves after this
// call, for it is above all that were sent. Who has left TORC_WATCH_ASKED_MAX beats unanswered gets
// no more for the asking: what is remembered would be forgotten before the answers come.
uint64_t torc_watch_ask(struct torc_watch *watch);

// The lease of (shard, epoch) from `node`.
struct torc_watch_lease torc_watch_lease(const struct torc_watch *watch, uint32_t shard,
                                         uint32_t epoch, uint32_t node);

// The changes of claims that `node` has not acknowledged, for SEND_CLAIM.
void torc_watch_claim_message(const struct torc_watch *watch, uint32_t node,
                              struct torc_peer_claim *message);

// What is known of a peer; all zero when it is not watched.
struct torc_peer_state torc_watch_peer_state(const struct torc_watch *watch, uint32_t node);

#endif
