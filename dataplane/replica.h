// Torc dataplane: one replica of a shard. Appends, ships, commits; takes over; lets others join.
//
// What    the machine of REPLICATION.md, one per shard and node. It decides who is primary of what
//         epoch, which records lie in this node's log, up to where they are committed, and which
//         configuration to ask for. It knows neither keys nor values: a record is its LSN and the
//         epoch it was written in.
//             replica.c           life, records read, roles, time
//             replica_log.c       append, ship, acknowledge, cut; the epoch table (A1-A4, T5)
//             replica_commit.c    what is committed, by whom; who has to go (C1-C5, M2, T6)
//             replica_takeover.c  suspicion, probes, the compare-and-swap, activation (S3, T1-T9)
//             replica_join.c      learners, bases, the transfer of a primary (J1-J3, X1)
// Owner   the core that owns the shard.
// Memory  one struct torc_replica, of fixed size. Nothing is allocated.
// Shell   torc_replica_step takes the time and one event, and appends actions, to be done in
//         order. It is called again at torc_replica_deadline_ns at the latest. What the shell has
//         to promise stands at each event and action.
// Proposals  are minted here and executed by control (M7). Until one's outcome is known, it stays
//         open, is asked for again, and commits and leases need its members too (M2).
// Log     the shell holds the records: of the last while in memory, older ones on its disk. The
//         machine asks for them by LSN (SHIP), and never looks inside.
// Roles   LEARNER   is fed by an active primary, counts for nothing
//         BACKUP    in-sync member
//         CANDIDATE primary of its epoch that has still to bring the members to its log (T4-T7)
//         ACTIVE    serves
// Invariants
//   R1  epoch, commit_lsn and promise_until_ns never fall, but for R2.
//   R2  commit_lsn <= last_lsn; no record at or below commit_lsn is ever cut, except where a
//       learner takes a new base.
//   R3  durable_lsn <= last_lsn, and the records up to it are this log's, not those of a cut tail.
//   R4  acknowledged in an epoch: only after the record was read (epoch != 0), the log was
//       reconciled (synced), and worker 0 knows of it (adopted).
//   R5  at most one proposal is open, and it expects the epoch that is adopted.
//   R6  a step appends at most TORC_REPLICA_ACTIONS_MAX actions.
// Sources REPLICATION.md, sections 3, 4, 6 to 10; Lamport, Malkhi, Zhou, "Vertical Paxos and
//         Primary-Backup Replication" (PODC 2009); Lin et al., "PacificA" (2008).
#ifndef TORC_DATAPLANE_REPLICA_H
#define TORC_DATAPLANE_REPLICA_H

#include "dataplane/watch.h"
#include "kit/chan.h"

#define TORC_REPLICA_PEERS_MAX   10u // members and learners beside this node
#define TORC_REPLICA_ACTIONS_MAX 64u
#define TORC_REPLICA_PIECES_MAX  4u    // of a base, under way at once
#define TORC_REPLICA_SHIP_MAX    256u  // records of one SHIP
#define TORC_REPLICA_WINDOW_MAX  4096u // records under way to one peer

enum torc_replica_role {
    TORC_REPLICA_LEARNER,
    TORC_REPLICA_BACKUP,
    TORC_REPLICA_CANDIDATE,
    TORC_REPLICA_ACTIVE,
};

struct torc_replica_timing {
    uint64_t promise_ns;   // D, for L5
    uint64_t stagger_ns;   // between the attempts of two backups (T1)
    uint64_t lonely_ns;    // nobody answers: go on alone (S3, S4)
    uint64_t grace_ns;     // startup_grace (T1, section 10)
    uint64_t lag_ns;       // lag_limit (C5)
    uint64_t resend_ns;    // silence after which a message to a peer is sent again
    uint64_t retry_ns;     // the same for control
    uint64_t join_records; // a learner that lacks no more may join (J3)
};

// What lies on the disk, or in the ring that outlived the process, when a replica starts.
struct torc_replica_start {
    struct torc_replica_timing timing;
    enum torc_durability durability;
    uint32_t shard;
    uint32_t node;
    uint64_t boot;
    uint64_t copy;
    uint32_t min_in_sync;
    uint64_t commit_lsn; // known committed: that of the checkpoint
    uint64_t last_lsn;   // of the log; all of it is durable
    uint64_t floor_lsn;  // records above it can be read
    uint32_t log_epoch;  // of its last record; 0: none
    struct torc_epoch_table table;
    bool has_base; // false: nothing here, not even an empty tree that all others had once
};

// -- In -----------------------------------------------------------------------------------------

enum torc_replica_event_kind {
    TORC_REPLICA_WAKE,     // the record may have changed (a watch, M1)
    TORC_REPLICA_RECORD,   // `record`: the answer to READ, by a linearizable read
    TORC_REPLICA_RESULT,   // `result`: the answer to PROPOSE
    TORC_REPLICA_ADOPTED,  // `adopted`: worker 0's answer to ADOPT; PEER for all nodes comes before
    TORC_REPLICA_PEER,     // `peer`: what worker 0 says of a node
    TORC_REPLICA_MESSAGE,  // `message` of `node` in its `boot`. An APPEND only when the log takes
                           // its records; else it is dropped, and will come again
    TORC_REPLICA_APPENDED, // `lsn`: the active primary appended the records up to it (may_append)
    TORC_REPLICA_DURABLE,  // `durable`: what was appended by then is on disk
    TORC_REPLICA_APPLIED,  // `lsn`: the tree holds everything up to it
    TORC_REPLICA_WANT,     // `want`: what placement wishes (a hint, M4)
    TORC_REPLICA_HEALTH,   // `health` of this node, enum torc_health
    TORC_REPLICA_BASE,     // `base`: a stream's producer or consumer got on
};

// The shard's record, with what the same read says of the primary's node. `asked_epoch` is what
// READ said: the epoch adopted when the read began. Only a record below that one went back (M3),
// or one below the log of a replica that has adopted none yet; one below the present epoch may
// merely be late.
struct torc_replica_record {
    uint32_t asked_epoch; // of a RESULT: the epoch that was expected
    struct torc_configuration configuration;
    uint64_t primary_down_boot; // its node record's `down`; 0: none
    uint64_t primary_node_boot; // its node record's `boot`
};

enum torc_replica_outcome {
    TORC_REPLICA_WON,
    TORC_REPLICA_LOST,
    TORC_REPLICA_UNKNOWN, // `record` means nothing
};

struct torc_replica_result {
    uint64_t nonce;
    enum torc_replica_outcome outcome;
    struct torc_replica_record record;
};

struct torc_replica_adopted {
    uint32_t epoch;
    uint64_t promise_until_ns;
};

// The record `lsn` that was written in `epoch`, and all before it. (A cut tail's write may end
// late: its epoch tells it apart.)
struct torc_replica_durable {
    uint32_t epoch;
    uint64_t lsn;
};

struct torc_replica_want {
    uint32_t primary_node; // 0: no wish
    uint32_t node_count;
    uint32_t nodes[TORC_MEMBERS_MAX];
};

enum torc_replica_base {
    TORC_REPLICA_BASE_READY,  // sender: the stream to `node` can begin, at base_lsn, whose epoch is
                              // known, and in memory or on disk from there on; pieces are numbered
    TORC_REPLICA_BASE_LAST,   // sender: there are `piece` pieces, and end_lsn is applied here
    TORC_REPLICA_BASE_LOST,   // sender: the stream to `node` gave way to another's; it begins anew
    TORC_REPLICA_BASE_TAKEN,  // learner: piece `piece` lies in the tree
    TORC_REPLICA_BASE_BROKEN, // learner: no memory for it, say: another stream is to begin anew
    TORC_REPLICA_BASE_DURABLE, // learner: all of the base is on disk (J2)
};

struct torc_replica_base_event {
    enum torc_replica_base kind;
    uint32_t node;
    uint32_t piece;
    uint64_t base_lsn;
    uint64_t end_lsn;
    uint64_t end_hlc;
};

struct torc_replica_event {
    enum torc_replica_event_kind kind;
    uint32_t node; // MESSAGE
    uint64_t boot; // MESSAGE
    union {
        const struct torc_replica_record *record;
        const struct torc_replica_result *result;
        const struct torc_peer_message *message;
        const struct torc_replica_want *want;
        const struct torc_replica_base_event *base;
        struct torc_replica_adopted adopted;
        struct torc_replica_durable durable;
        struct torc_peer_state peer;
        uint64_t lsn;
        uint8_t health;
    };
};

// -- Out ----------------------------------------------------------------------------------------

enum torc_replica_action_kind {
    TORC_REPLICA_SEND,    // `message` to `node`
    TORC_REPLICA_SHIP,    // send `message` (APPEND) with its records to `node`, in as many packets
                          // as needed; `runs` is the shell's to fill, from the records. What cannot
                          // be read now may be left out: it is asked for again
    TORC_REPLICA_READ,    // read the shard's record, and its primary's node; `epoch` is adopted now
    TORC_REPLICA_PROPOSE, // `proposal`: expected epoch, record with nonce and epoch + 1
    TORC_REPLICA_ADOPT,   // `adoption` to worker 0 (watch.h)
    TORC_REPLICA_CLAIM,   // the learner `node` is to be claimed, in this epoch
    TORC_REPLICA_HURRY,   // `node` has acknowledged in a new epoch (L0)
    TORC_REPLICA_OPEN,    // append the EPOCH record `lsn` of this epoch, stamped above every
                          // ceiling kept (T4). The log always has room for one
    TORC_REPLICA_TAKE,    // append records skip .. skip + count - 1 of the message at hand
    TORC_REPLICA_CUT,     // the records above `lsn` never were
    TORC_REPLICA_APPLY,   // commit_lsn rose: apply up to `lsn`, and answer if ACTIVE (C4)
    TORC_REPLICA_SERVE,   // serve; tell the clients (T8)
    TORC_REPLICA_DEMOTED, // drop pending and waiting writes without an answer
    TORC_REPLICA_ALARM,   // the metastore went back (M3) to `epoch`
    TORC_REPLICA_ALIVE,   // deposed, though it lives and is well: FALSE_ALARM for worker 0
    TORC_REPLICA_RESET,   // learner: forget tree and log; the log begins above `lsn`
    TORC_REPLICA_STREAM,  // sender: make a base for `node`, then BASE_READY
    TORC_REPLICA_PIECE,   // sender: send piece `piece` of the base to `node` with `message`
    TORC_REPLICA_SETTLE,  // sender: the base of `node` is not needed any more
    TORC_REPLICA_STORE,   // learner: take the piece of the message at hand, then BASE_TAKEN
    TORC_REPLICA_WHOLE,   // learner: the last piece is in: apply the log, write a checkpoint
};

struct torc_replica_take {
    uint32_t skip;
    uint32_t count;
};

struct torc_replica_proposal {
    uint32_t expected_epoch;
    struct torc_configuration configuration;
};

struct torc_replica_action {
    enum torc_replica_action_kind kind;
    uint32_t node;
    union {
        struct torc_peer_message message;
        struct torc_replica_proposal proposal;
        struct torc_watch_adoption adoption;
        struct torc_replica_take take;
        uint64_t lsn;
        uint32_t piece;
        uint32_t epoch;
    };
};

struct torc_replica_actions {
    uint32_t count;
    struct torc_replica_action items[TORC_REPLICA_ACTIONS_MAX];
};

// -- State: read by everybody, written by replica*.c only --------------------------------------

enum torc_replica_peer_role {
    TORC_REPLICA_PEER_OTHER, // of no part in this epoch; its state is kept, its place may be taken
    TORC_REPLICA_PEER_MEMBER,
    TORC_REPLICA_PEER_LEARNER,
};

enum torc_replica_stream {
    TORC_REPLICA_STREAM_NONE,
    TORC_REPLICA_STREAM_ASKED, // the shell makes a base
    TORC_REPLICA_STREAM_OPEN,
};

struct torc_replica_peer {
    struct torc_peer_state state;
    enum torc_replica_peer_role role;
    uint32_t node;
    uint64_t copy; // recorded, or named by the open proposal; of any other learner: of its acks
    // Primary: what it acknowledged in this epoch, in its boot `acked_boot` (B1)
    uint64_t acked_boot; // 0: nothing yet
    uint64_t acked_copy;
    uint64_t received_lsn;
    uint64_t durable_lsn;
    uint64_t next_lsn; // to be shipped
    uint64_t told_commit_lsn;
    uint32_t told_count;   // times that it was told this mark
    uint64_t repeated_lsn; // shipped again from behind it, since it said this twice
    uint64_t resend_at_ns;
    uint64_t stuck_at_ns; // what was shipped is shipped again if received_lsn stands; 0: it has all
    uint64_t behind_lsn;  // it has to reach it by behind_at_ns (C5)
    uint64_t behind_at_ns; // 0: not behind
    uint64_t moved_lsn;    // its mark while it is behind, and since when it stands there
    uint64_t moved_at_ns;
    struct torc_watch_lease lease; // as last read (torc_replica_lease)
    bool proposed;                 // would be a member by the open proposal
    bool needs_base;
    bool usable;
    bool claimed;
    uint64_t acked_stream; // the last base that it began to take
    // Primary: the base streamed to it
    bool piece_known; // piece_count is
    enum torc_replica_stream stream;
    uint64_t stream_number;
    uint64_t stream_boot; // of the peer, for which the stream began
    uint64_t base_lsn;
    uint64_t end_lsn;
    uint64_t end_hlc;
    uint64_t stream_at_ns; // pieces from piece_acked on are sent again then; NONE: it begins then
    uint32_t streams_lost; // one after the other, in one life of the learner
    bool stream_gave_way;  // the learner may still wait for its pieces
    uint32_t piece_count;
    uint32_t piece_next;
    uint32_t piece_acked;
    // Backup: what it answered to the probe
    bool answered;
    bool hears;
    bool serving;
};

struct torc_replica_open {
    bool open;
    uint64_t retry_at_ns;
    struct torc_replica_proposal proposal;
};

#define TORC_REPLICA_COUNTER_TABLE(X)                                         \
    X(takeovers, "epochs won by taking over")                                 \
    X(removals, "members proposed for removal")                               \
    X(joins, "learners proposed as members")                                  \
    X(transfers, "primaries handed over on request")                          \
    X(cut_records, "records cut because a new primary had others")            \
    X(old_epoch, "messages of an epoch that is over")                         \
    X(too_early, "messages before the record was read or the log reconciled") \
    X(stranger, "messages of a node or boot that has no say")                 \
    X(gaps, "appends that did not follow on the log")                         \
    X(given_up, "bases that did not come any more")

struct torc_replica_counters {
#define X(name, help) uint64_t name;
    TORC_REPLICA_COUNTER_TABLE(X)
#undef X
};

struct torc_replica {
    struct torc_replica_timing timing;
    struct torc_replica_counters counters;
    enum torc_durability durability;
    enum torc_replica_role role;
    uint64_t now_ns;
    uint64_t started_ns;
    uint64_t boot;
    uint64_t copy;
    uint32_t shard;
    uint32_t node;
    uint32_t min_in_sync;
    uint32_t nonce_count;
    uint8_t health;
    // Configuration
    uint32_t epoch;            // adopted; 0: the record was not read yet
    uint32_t log_epoch;        // at the start: the metastore knew it before the log did
    bool synced;               // the log was reconciled with this epoch's primary
    bool unsynced_since_start; // T1
    bool adopted;              // worker 0 has answered for this epoch
    bool ack_due;
    bool went_back; // the record read last is older than ours (M3)
    struct torc_configuration configuration;
    uint64_t primary_down_boot; // of its node: dead, by a linearizable read (L4)
    uint64_t primary_node_boot; // of its node, likewise
    uint64_t promise_until_ns;
    uint32_t released_epoch; // as primary of it, no promise is waited for (X1); 0: none
    struct torc_replica_open proposal;
    bool read_wanted;
    uint64_t read_at_ns;    // the open READ is repeated then; 0: none is open
    uint64_t refresh_at_ns; // who waits to be fed reads now and then
    // Log
    struct torc_epoch_table table;
    uint64_t last_lsn;
    uint64_t durable_lsn;
    uint64_t commit_lsn;
    uint64_t commit_heard_lsn; // from this epoch's primary
    uint64_t applied_lsn;
    uint64_t floor_lsn;
    // Primary
    uint64_t epoch_lsn;      // of this epoch's EPOCH record
    uint64_t tail_lsn;       // of the takeover's: commits whatever min_in_sync says (C2)
    uint64_t alone_since_ns; // all of two or more backups have to go since (S4); 0: not so
    uint64_t read_hlc;       // highest timestamp read at (J3)
    uint32_t stream_count;
    uint32_t transfer_node; // active, but stopped for it; 0: none
    bool transfer_sent;
    uint64_t transfer_at_ns;    // the next TRANSFER is sent then
    uint64_t transfer_end_ns;   // and until then; before it a new one is not begun
    uint64_t transfer_pause_ns; // between the last one that failed and the next
    // Backup
    uint64_t suspect_at_ns;  // a takeover may begin; 0: nobody is suspected
    uint64_t probe_since_ns; // 0: not probing
    uint64_t probe_at_ns;    // next probe
    // Learner
    bool has_base;
    bool base_loading; // pieces are coming
    bool base_storing; // STORE was asked for
    bool base_durable;
    uint32_t base_node;
    uint32_t base_piece; // next one to take
    uint64_t base_stream;
    uint64_t base_moved_ns; // when the last piece was taken: a stream that does not move is dead
    uint64_t base_lsn;      // the log goes on behind it
    uint64_t base_boot;     // of the primary that streams it, and its node; 0: it was given up
    uint64_t base_end_lsn;  // usable once it is applied
    uint64_t base_end_hlc;
    struct torc_replica_want want;
    uint32_t peer_count;
    struct torc_replica_peer peers[TORC_REPLICA_PEERS_MAX];
};

// -- Functions ----------------------------------------------------------------------------------

// A replica as a process starts it: it has read no record and acknowledges nothing.
void torc_replica_init(struct torc_replica *replica, uint64_t now_ns,
                       const struct torc_replica_start *start);

// `event` NULL: only time has passed.
void torc_replica_step(struct torc_replica *replica, uint64_t now_ns,
                       const struct torc_replica_event *event,
                       struct torc_replica_actions *actions);

// When to step next if nothing happens; UINT64_MAX: never.
uint64_t torc_replica_deadline_ns(const struct torc_replica *replica);

// What the shell read of worker 0's words for `node` (L0), after the read's packet had arrived.
void torc_replica_lease(struct torc_replica *replica, uint32_t node, struct torc_watch_lease lease);

// Whether a read may be answered from memory at `now_ns`, sampled after its packet arrived (L3).
bool torc_replica_may_read(const struct torc_replica *replica, uint64_t now_ns);

// The primary, and not handing over: leases apart, it may read.
bool torc_replica_serves(const struct torc_replica *replica);

// read-mode = confirm (L7): what arrived before this beat was sent may be answered now: all
// members, also proposed ones, have answered it, or a later one. UINT64_MAX: there are no others.
uint64_t torc_replica_confirmed_ns(const struct torc_replica *replica);

// Whether a write may be evaluated and appended now (C2, X1); UNAVAILABLE or TAKING_OVER if not.
enum torc_err torc_must_use torc_replica_may_append(const struct torc_replica *replica);

// Whether this replica reads at `ts` for the first time: learners must keep a ceiling as high
// before they join (J3).
void torc_replica_note_read(struct torc_replica *replica, uint64_t ts);

// Bit n: the n-th member of the configuration is another node, and is heard.
uint32_t torc_replica_heard(const struct torc_replica *replica);

// What is applied is a prefix of the shard, from its first record on: by a base that is all here,
// or by the log alone.
bool torc_replica_has_prefix(const struct torc_replica *replica);

// Tree and log are whole, as durable as the cluster promises (J2): no base is on its way.
bool torc_replica_is_whole(const struct torc_replica *replica);

// A base whose pieces stopped coming: only another one's RESET follows. The shell may have its
// memory back.
static inline bool torc_replica_base_given_up(const struct torc_replica *replica)
{
    return replica->base_loading && replica->base_boot == 0;
}

// Records above it must stay readable: some peer still needs them.
uint64_t torc_replica_keep_lsn(const struct torc_replica *replica);

// The shell let go of records up to it.
void torc_replica_floor(struct torc_replica *replica, uint64_t floor_lsn);

// The epoch of a record of this log; 0: not known any more.
uint32_t torc_replica_epoch_at(const struct torc_replica *replica, uint64_t lsn);

#endif
