// Torc kit: the channel between the dataplane and control of one node.
//
// What    one sealed memfd: a header, tables (the shard map, keys, a page of sessions), and per
//         worker six rings (kit/spsc.h) and a page of statistics.
//           ring   from -> to          slots            carries
//           cmd    control -> worker   256 B            orders: configure, open a shard, …
//           evt    worker -> control   256 B            answers, results, alarms
//           log    worker -> control   4 KiB x 4096     sealed log blocks, written as they lie
//           mark   control -> worker   256 B            durable marks, prepared segments, failures
//           in     control -> worker   64 KiB           recovery: checkpoint and log bytes
//           out    worker -> control   64 KiB           checkpoints
// Owner   the dataplane makes and formats it and owns the listener that hands it out; one control
//         at a time holds the other ends. Worker w alone uses its ends of its rings; control is one
//         thread on its side.
// Memory  the memfd, sealed against shrinking and growing before it is handed out. No pointer
//         inside. It outlives either process: a new control goes on at the rings' heads, and what a
//         dead dataplane had published can still be drained by the control that has it mapped.
// Handing out  `run/channel.sock` (SOCK_SEQPACKET, 0600). Control connects and sends one
//         struct torc_chan_hello; the dataplane answers with its own and, as SCM_RIGHTS: the memfd,
//         control's doorbell (eventfd, worker -> control), then one doorbell per worker. The end
//         of the socket is the notice of death. One control at a time: a second is answered with
//         status IN_USE and closed.
// Doorbells  who is about to block stores 1 to its `sleeping`, fences (seq_cst), looks at its rings
//         once more, and blocks on its eventfd. Who has published fences (seq_cst), and rings the
//         eventfd if the other's `sleeping` is 1, at most once a batch. Who is first to ring a
//         worker since its last turn leaves the time: one that does not turn then has no processor.
// Invariants
//   C1  In `log`, a block lies in consecutive slots that do not wrap; a filler says how many slots
//       to skip (its first four bytes are TORC_CHAN_LOG_FILLER). Control releases a slot only after
//       its block is durable, so a restarted control finds every block that may not be on disk.
//   C2  Blocks of one worker leave in the order of their sequence; durable marks come back in it.
//   C3  What the other process can write is checked before it is used as a length or an index.
#ifndef TORC_KIT_CHAN_H
#define TORC_KIT_CHAN_H

#include "kit/le.h"
#include "kit/spsc.h"
#include "kit/stats.h"

#define TORC_CHAN_MAGIC          0x6e616863u // "chan" in a hex dump
#define TORC_CHAN_VERSION        13u
#define TORC_CHAN_WORKERS_MAX    255u
#define TORC_CHAN_MESSAGE_BYTES  256u
#define TORC_CHAN_TEXT_BYTES     160u
#define TORC_CHAN_LOG_SLOT_BYTES 4096u
#define TORC_CHAN_LOG_SLOTS      4096u
#define TORC_CHAN_BULK_BYTES     65536u
#define TORC_CHAN_BULK_SLOTS     64u
#define TORC_CHAN_MESSAGE_SLOTS  1024u
#define TORC_CHAN_MAP_ENTRIES    4096u // shards in the table; more need a larger table
#define TORC_CHAN_MEMBERS_MAX    7u
#define TORC_CHAN_NODES_MAX      256u        // in the table
#define TORC_CHAN_SHARDS_MAX     256u        // of one worker
#define TORC_CHAN_LOG_FILLER     0x6c6c6966u // "fill"
#define TORC_CHAN_PRINCIPALS_MAX 1024u
#define TORC_CHAN_RANGES_MAX     64u // of one principal
#define TORC_CHAN_PSK_BYTES      32u
#define TORC_CHAN_SESSIONS_PAGE  512u
#define TORC_CHAN_AGENT_BYTES    32u

// What each side says when they meet. Sizes and order never change; `version` says what follows.
struct torc_chan_hello {
    uint32_t magic;
    uint32_t version;
    uint32_t status;       // enum torc_err; the dataplane's answer, 0 from control
    uint32_t worker_count; // from the dataplane
    uint64_t bytes;        // of the memfd
    uint64_t cluster;      // 0 until configured
    uint64_t boot;         // 0 until configured: control must recover and configure
    uint32_t pid;
    uint32_t node; // 0 until configured
};

_Static_assert(sizeof(struct torc_chan_hello) == 48, "spoken between versions");

// -- Messages: cmd (control -> worker) -----------------------------------------------------------

enum torc_cmd_kind {
    TORC_CMD_CONFIGURE = 1, // first, once in a dataplane's life
    TORC_CMD_SHARD_OPEN,    // this worker owns the shard; its state comes through `in`
    // all of `in` was sent: finish replay, append EPOCH, answer SHARD_READY; or LOG_AGAIN
    TORC_CMD_RECOVERED,
    TORC_CMD_SERVE,          // all shards of the node are ready: begin to answer clients
    TORC_CMD_MAP_CHANGED,    // read the map table again
    TORC_CMD_CHECKPOINT,     // stream the shard's leaves out
    TORC_CMD_CHECKPOINT_END, // control has it durably (or gave up: flag); forget about it
    TORC_CMD_CONTROL_HELLO,  // a new control attached; answers SHARD_HERE of each, CONTROL_SEEN
    TORC_CMD_QUIESCE,      // clean stop: refuse new requests, finish writes, seal, answer QUIESCED
    TORC_CMD_KEYS_CHANGED, // worker 0: the session thread is to read the table of keys again
    TORC_CMD_SESSIONS_ASKED, // worker 0: the session thread is to fill a page of sessions
    // Replicas (REPLICATION.md; dataplane/replica.h)
    TORC_CMD_PEER,   // every worker: the key between this node and another one
    TORC_CMD_RECORD, // the shard's worker: the answer to READ
    TORC_CMD_RESULT, // and to PROPOSE
    TORC_CMD_WAKE,   // and: a watch saw the record, or its primary's node record, change
    TORC_CMD_WANT,   // and: what placement wishes; after SHARD_OPEN, and when it changes
    // This node is neither member nor wanted: forget the shard, say so. Only of a learner, and none
    // of whose checkpoints is being made; else nothing happens, and it is ordered again.
    TORC_CMD_SHARD_GONE,
};

// Of leases and suspicion (REPLICATION.md, section 13), in microseconds; 0: the default.
struct torc_chan_timing {
    uint32_t beat_us;
    uint32_t promise_us;
    uint32_t suspect_us;
    uint32_t margin_us;
    uint32_t calm_us;
    uint32_t drift_ppm;
    uint32_t stagger_us;
    uint32_t lonely_us;
    uint32_t grace_us;
    uint32_t lag_us;
    uint32_t resend_us;
    uint32_t retry_us;
};

struct torc_cmd_configure {
    uint64_t cluster;
    uint64_t boot;      // of this dataplane's life; rises at every start (REPLICATION.md T9)
    uint64_t key_count; // M: keys are in [0, M)
    uint64_t hlc;       // control's floor for the clock: above anything stamped before
    uint32_t node;
    uint32_t stream;        // the log stream this worker writes
    uint64_t next_sequence; // of its first block
    uint8_t durability;     // enum torc_durability
    uint8_t security;       // enum torc_security
    uint16_t base_port;
    uint32_t value_bytes_max;
    uint32_t segment_bytes;
    uint32_t dedup_ttl_s;
    uint32_t sessions_max;
    uint32_t map_version;
    uint8_t secret[32]; // the node's, for cookies and tickets
    // Replicas. Node, boot and copy are those of the node's record in the metastore.
    uint64_t copy;
    uint32_t min_in_sync;
    uint32_t join_records; // a learner that lacks no more may join
    struct torc_chan_timing timing;
};

struct torc_cmd_shard {
    uint64_t lo;
    uint64_t hi; // exclusive, except that lo == hi == 0 never occurs; M may be 2^64-1
    uint32_t shard;
    uint32_t epoch; // the one this life may write in
    uint32_t turn;  // how often the shard changed its stream (DESIGN.md, section 5)
    uint32_t moved; // 1: its last stream was another one, so MOVED is its first record here
    // A replica's epoch is not said here: the worker asks for the record (READ) before it does
    // anything, and SHARD_READY then only means that the log was replayed.
    uint8_t is_replica; // 0: this node alone has the shard, for ever
    // Replica: what lies here is a whole prefix of the shard: a checkpoint or the empty tree that
    // all members once had, and the log behind it. 0: nothing is here, and nothing comes through
    // `in`; so may a shard be opened also after RECOVERED.
    uint8_t has_base;
    uint8_t zero[6];
    // Replica: its own (REPLICATION.md, section 2); 0: the node's, of CONFIGURE. A shard that is
    // given to this node once more has a new one, which its late messages and records have not.
    uint64_t copy;
};

struct torc_cmd_checkpoint {
    uint64_t checkpoint; // control's number for it, echoed in `out` and in the event
    uint32_t shard;
    uint32_t given_up; // CHECKPOINT_END: 1 when it could not be kept
};

// The key by which this node calls another one, bound to that one. Security CLEAR needs none.
struct torc_cmd_peer {
    uint32_t node;
    uint8_t key_id;
    uint8_t zero[3];
    uint8_t psk[TORC_CHAN_PSK_BYTES];
};

struct torc_chan_record_member {
    uint64_t copy;
    uint32_t node;
    uint32_t zero;
};

// A shard's record, as far as replicas decide by it (struct torc_configuration of wire/peer.h).
struct torc_chan_record {
    uint32_t epoch;
    uint32_t primary_node;
    uint64_t primary_boot;
    uint64_t nonce; // of the proposal that made it
    uint32_t member_count;
    uint32_t zero;
    struct torc_chan_record_member members[TORC_CHAN_MEMBERS_MAX]; // in takeover order
};

enum torc_chan_outcome {
    TORC_CHAN_WON = 1,
    TORC_CHAN_LOST,    // the record now has another nonce, or another epoch than was expected
    TORC_CHAN_UNKNOWN, // `record` means nothing; asked again by the worker
};

// Answers to READ and PROPOSE, by a linearizable read (M1). PROPOSE is a compare-and-swap on the
// exact record whose epoch is the expected one; a record that has the proposal's nonce already is
// WON too (M2).
struct torc_cmd_record {
    uint32_t shard;
    uint32_t asked_epoch; // RECORD: as READ said. RESULT: as PROPOSE expected
    uint64_t nonce;       // RESULT: the proposal's
    uint32_t outcome;     // RESULT: enum torc_chan_outcome
    uint32_t zero;
    uint64_t primary_down_boot; // `down` of the record's primary's node; 0: none
    uint64_t primary_node_boot; // `boot` of it
    struct torc_chan_record record;
};

struct torc_cmd_want {
    uint32_t shard;
    uint32_t primary_node; // 0: no wish
    uint32_t node_count;
    uint32_t nodes[TORC_CHAN_MEMBERS_MAX];
};

enum torc_durability {
    TORC_DURABILITY_DURABLE = 0,    // acknowledged when on every in-sync replica's disk
    TORC_DURABILITY_REPLICATED = 1, // when in every in-sync replica's memory
    TORC_DURABILITY_NONE = 2,       // when in this node's memory
};

enum torc_security {
    TORC_SECURITY_CLEAR = 0,
    TORC_SECURITY_KEYS = 1,
};

struct torc_cmd {
    uint32_t kind; // enum torc_cmd_kind
    uint32_t zero;
    union {
        struct torc_cmd_configure configure;
        struct torc_cmd_shard shard;
        struct torc_cmd_checkpoint checkpoint;
        struct torc_cmd_peer peer;
        struct torc_cmd_record record;
        struct torc_cmd_want want;
        uint32_t wake_shard; // WAKE, SHARD_GONE
        uint32_t hello;      // CONTROL_HELLO: the control's number, of control_attached
        uint64_t map_version;
        unsigned char bytes[TORC_CHAN_MESSAGE_BYTES - 8];
    };
};

_Static_assert(sizeof(struct torc_cmd) == TORC_CHAN_MESSAGE_BYTES, "shared between versions");

// -- Messages: evt (worker -> control) -----------------------------------------------------------

enum torc_evt_kind {
    TORC_EVT_SHARD_READY = 1, // replayed; counts say what was found. A shard with one node serves
    TORC_EVT_CHECKPOINT_DONE, // all of it is in `out`; control keeps it once its bytes are durable
    TORC_EVT_ALARM,           // something an operator must know
    TORC_EVT_CONTROL_SEEN,    // where the worker stands, for a control that has just attached
    TORC_EVT_QUIESCED, // everything appended is in sealed blocks; nothing follows. role.shard:
                       // one whose base is in no checkpoint, 0: there is none
    // Replicas. Both are repeated until they are answered, also to another control (M7).
    TORC_EVT_READ,       // `read`: answer RECORD
    TORC_EVT_PROPOSE,    // `propose`: answer RESULT
    TORC_EVT_ROLE,       // `role`: what this replica is now; told when it changes, to a new control
    TORC_EVT_CHECKPOINT, // `role`: a learner that had nothing has a base now, or all records come:
                         // it needs the log from here on; order a CHECKPOINT of the shard now
    // `role`: not here (any more), and `epoch` is its last turn; its checkpoints may go.
    // `role.role`: 0, or an enum torc_err: why a replica without a base was not opened.
    TORC_EVT_SHARD_GONE,
    TORC_EVT_SHARD_HERE, // `here`: told to a new control, of each shard
    // Instead of all SHARD_READY: send the log once more as it was sent, no checkpoints, and say
    // RECOVERED again (storage/replay.h, rounds).
    TORC_EVT_LOG_AGAIN,
};

struct torc_evt_shard {
    uint64_t records;  // keys with a value
    uint64_t replayed; // log records replayed over the checkpoint
    uint64_t lsn;      // last LSN
    uint64_t hlc;      // last HLC
    uint32_t shard;
    uint32_t epoch;
};

// Why no checkpoint was made.
enum torc_chan_unmade {
    TORC_CHAN_UNMADE_FAILED = 1,
    TORC_CHAN_UNMADE_NOTHING, // there is nothing whole of the shard here that one could be made of
};

struct torc_evt_checkpoint {
    uint64_t checkpoint;
    uint64_t lsn;            // records up to here are in it for certain; replay starts above
    uint64_t start_sequence; // blocks of this worker's stream below it are not needed by the shard.
                             // NOTHING: not 0 when it was emptied and its log says so durably: what
                             // control has of it is of no use any more, nor is this stream
    uint64_t records;
    uint64_t bytes;
    uint32_t shard;
    uint32_t failed; // enum torc_chan_unmade; 0: it was made
};

struct torc_evt_control_seen {
    uint64_t sealed_sequence;  // last block published in `log`
    uint64_t durable_sequence; // last one the worker knows to be durable
    uint32_t segment;          // being filled, and the last one it was told of
    uint32_t segment_prepared;
    uint32_t offset_bytes; // where the next block goes
    uint32_t shard_count;
    uint32_t log_failed; // 1: LOG_FAILED was told, by this control or one before it
    uint32_t hello;      // that it answers: one before it may have been asked by another control
};

struct torc_evt_read {
    uint32_t shard;
    uint32_t epoch; // that is adopted here; comes back as asked_epoch
};

struct torc_evt_propose {
    uint32_t shard;
    uint32_t expected_epoch; // comes back as asked_epoch
    struct torc_chan_record record;
};

enum torc_chan_role {
    TORC_CHAN_LEARNER = 1,
    TORC_CHAN_BACKUP,
    TORC_CHAN_CANDIDATE,
    TORC_CHAN_ACTIVE, // serves: the map may name it
};

struct torc_evt_role {
    uint32_t shard;
    uint32_t epoch;
    uint32_t role; // enum torc_chan_role
    uint32_t primary_node;
    uint64_t applied_lsn;
    // Of a learner: what an operator asks when no copy in sync may be left.
    uint64_t last_lsn; // of its log, and the epoch of that record
    uint64_t commit_lsn;
    uint64_t last_hlc;
    uint32_t last_epoch;
    uint32_t heard; // bit n: the n-th member of that epoch's record is heard
    uint32_t whole; // 1: tree and log are a state that the shard was in, not half of one
    uint32_t zero;
};

// As SHARD_OPEN said.
struct torc_evt_here {
    uint64_t lo;
    uint64_t hi;
    uint64_t copy;
    uint32_t shard;
    uint32_t epoch;
    uint32_t turn;
    uint32_t has_base;
    uint32_t hello; // as of CONTROL_SEEN
    uint32_t zero;
};

struct torc_evt_alarm {
    uint32_t err; // enum torc_err
    uint32_t shard;
    char text[TORC_CHAN_TEXT_BYTES];
    uint32_t goes_on; // 0: while it recovers, it never gets ready (and of all before this was said)
    uint32_t zero;
};

struct torc_evt {
    uint32_t kind; // enum torc_evt_kind
    uint32_t zero;
    union {
        struct torc_evt_shard shard;
        struct torc_evt_checkpoint checkpoint;
        struct torc_evt_control_seen seen;
        struct torc_evt_read read;
        struct torc_evt_propose propose;
        struct torc_evt_role role;
        struct torc_evt_here here;
        struct torc_evt_alarm alarm;
        unsigned char bytes[TORC_CHAN_MESSAGE_BYTES - 8];
    };
};

_Static_assert(sizeof(struct torc_evt) == TORC_CHAN_MESSAGE_BYTES, "shared between versions");
_Static_assert(sizeof(struct torc_chan_record) == 144, "shared between versions");

// -- Messages: mark (control -> worker) ----------------------------------------------------------

enum torc_mark_kind {
    TORC_MARK_DURABLE = 1, // all blocks up to `sequence` are on disk
    TORC_MARK_SEGMENT,     // `segment` is prepared (zero-written and synced) and may be filled
    TORC_MARK_DISK_FULL,   // no further segment can be prepared now; TORC_MARK_SEGMENT ends it
    TORC_MARK_LOG_FAILED,  // final: nothing more will become durable in this log
};

struct torc_mark {
    uint32_t kind; // enum torc_mark_kind
    uint32_t segment;
    uint64_t sequence;   // DURABLE
    uint64_t generation; // SEGMENT: to be written into its blocks' headers
    uint64_t segment_bytes;
    uint32_t err; // LOG_FAILED
    uint32_t zero;
    char text[TORC_CHAN_TEXT_BYTES];
    unsigned char reserved[TORC_CHAN_MESSAGE_BYTES - 200];
};

_Static_assert(sizeof(struct torc_mark) == TORC_CHAN_MESSAGE_BYTES, "shared between versions");

// -- Bulk: in (recovery) and out (checkpoints) ---------------------------------------------------

enum torc_bulk_kind {
    TORC_BULK_CHECKPOINT = 1, // bytes of a checkpoint file, in order (storage/checkpoint_format.h)
    TORC_BULK_CHECKPOINT_END, // the file is complete
    TORC_BULK_LOG,            // whole valid blocks of one stream, in order (storage/log_format.h)
    TORC_BULK_LOG_END,        // this stream has no more
};

struct torc_bulk {
    uint32_t kind;
    uint32_t shard;  // CHECKPOINT
    uint32_t stream; // LOG
    uint32_t byte_count;
    uint64_t checkpoint;
    uint64_t zero;
    unsigned char bytes[TORC_CHAN_BULK_BYTES - 32];
};

_Static_assert(sizeof(struct torc_bulk) == TORC_CHAN_BULK_BYTES, "shared between versions");

// -- The map table -------------------------------------------------------------------------------
// Written by control between two stores of an odd and an even `sequence` (a seqlock), read by
// workers after TORC_CMD_MAP_CHANGED and copied to their own memory. It is what control knows of
// the metastore's records, of all nodes: a hint, by which clients and messages find their way.

struct torc_chan_member {
    uint64_t copy;
    uint32_t node;
    uint8_t core;  // 255: not known here
    uint8_t state; // 1 in sync, 2 learner
    uint16_t zero;
};

struct torc_chan_map_entry {
    uint64_t lo;
    uint64_t hi;
    uint64_t version; // of the shard's record; 0: the table's
    uint64_t primary_boot;
    uint32_t shard;
    uint32_t epoch;
    uint8_t member_count;
    uint8_t primary; // index into members; 255 none
    uint8_t zero[6];
    struct torc_chan_member members[TORC_CHAN_MEMBERS_MAX];
};

struct torc_chan_node {
    uint64_t boot;
    uint64_t down; // the last boot that is known to be over
    uint64_t copy;
    uint32_t node;
    uint16_t base_port;
    uint8_t cores;         // 0: it has never run
    uint8_t address_count; // 0 to 2
    uint8_t addresses[2][16];
};

_Static_assert(sizeof(struct torc_chan_map_entry) == 160, "shared between versions");
_Static_assert(sizeof(struct torc_chan_node) == 64, "shared between versions");

struct torc_chan_map {
    _Atomic uint64_t sequence; // odd while control writes
    uint64_t version;
    uint32_t entry_count;
    uint32_t node_count;
    struct torc_chan_map_entry entries[TORC_CHAN_MAP_ENTRIES];
    struct torc_chan_node nodes[TORC_CHAN_NODES_MAX]; // by rising number
};

// -- The table of keys ---------------------------------------------------------------------------
// Who may have sessions; written by control like the map, the first time before the first
// CONFIGURE, copied by the session thread. It holds secrets: both sides lock it and keep it out of
// core dumps. What is removed is wiped by the next writing.

struct torc_chan_range {
    uint64_t lo;
    uint64_t hi; // exclusive
};

struct torc_chan_principal {
    uint32_t number;
    uint32_t roles; // enum torc_role of wire/op.h
    uint32_t sessions_max;
    uint32_t range_count; // 0: all keys
    uint8_t key_count;    // 1 or 2
    uint8_t key_ids[2];
    uint8_t zero[5];
    // Bound to this node; of the role node, of which there is one at most: secrets of the cluster.
    uint8_t psks[2][TORC_CHAN_PSK_BYTES];
    struct torc_chan_range ranges[TORC_CHAN_RANGES_MAX];
};

struct torc_chan_keys {
    _Atomic uint64_t sequence; // odd while control writes; 0: never written
    uint32_t count;
    uint32_t zero;
    struct torc_chan_principal principals[TORC_CHAN_PRINCIPALS_MAX]; // by rising number
};

// What the session thread says about it.
struct torc_chan_keys_state {
    _Atomic uint64_t taken;   // `sequence` of the table that is in force
    _Atomic uint64_t refused; // of one that made no sense; an alarm says why
    _Atomic uint32_t sessions[TORC_CHAN_PRINCIPALS_MAX]; // open, by place in the table taken
};

// -- The list of sessions ------------------------------------------------------------------------
// In pages, when control asks: it says from which slot on, and then a number that is one above the
// last in `asked`; the session thread fills the page and stores the number in `answered`. The page
// is the session thread's from `asked` on, control's from `answered` on.

enum torc_chan_session_state {
    TORC_CHAN_SESSION_HALF = 1, // accepted; its client has not sent in it yet
    TORC_CHAN_SESSION_OPEN,
};

struct torc_chan_session {
    uint64_t made_ns;     // CLOCK_BOOTTIME
    uint64_t packets_in;  // as its client counts them: lost ones too
    uint64_t packets_out; // all cores together
    uint32_t index;       // as packets name it
    uint32_t principal;   // 0: CLEAR
    uint32_t seen_s;      // its last packet, CLOCK_BOOTTIME
    uint32_t in_flight;   // operations begun and not answered
    uint8_t ip[16];       // IPv4 mapped
    uint16_t port;        // its handshake's
    uint8_t lane;
    uint8_t suite; // enum torc_suite of wire/aead.h
    uint8_t state; // enum torc_chan_session_state
    uint8_t zero[3];
    char agent[TORC_CHAN_AGENT_BYTES]; // what its client says it is; whatever bytes it sent
};

_Static_assert(sizeof(struct torc_chan_session) == 96, "shared between versions");

struct torc_chan_sessions {
    // Written by control.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t asked;
    _Atomic uint32_t from; // slot
    // Written by the session thread.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint64_t answered;
    uint32_t count; // rows that are filled
    uint32_t next;  // slot to go on from; UINT32_MAX: that was all
    struct torc_chan_session rows[TORC_CHAN_SESSIONS_PAGE];
};

// -- The whole -----------------------------------------------------------------------------------

struct torc_chan_worker {
    // Written by the worker.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint32_t sleeping;
    _Atomic uint32_t state;     // enum torc_chan_worker_state
    _Atomic uint64_t turned_ns; // when its loop last turned, CLOCK_BOOTTIME
    // Written by whoever rings: torc_chan_rang.
    _Alignas(
        TORC_FALSE_SHARING_BYTES) _Atomic uint64_t rung_ns; // likewise; up to turned_ns: not since
    _Alignas(TORC_SPSC_ALIGN_BYTES) struct torc_stats stats;
};

enum torc_chan_worker_state {
    TORC_WORKER_UNCONFIGURED,
    TORC_WORKER_RECOVERING,
    TORC_WORKER_SERVING,
    TORC_WORKER_QUIESCED,
    TORC_WORKER_QUIESCING, // ordered to; no control may go on with it
};

// What the dataplane found itself to be made of. Written by its main thread now and then, between
// two stores of an odd and an even `sequence` (a seqlock).
struct torc_chan_memory {
    _Atomic uint64_t sequence;    // 0: never written
    _Atomic uint64_t measured_ns; // CLOCK_BOOTTIME
    _Atomic uint64_t resident_bytes;
    _Atomic uint64_t hugetlb_bytes;           // beside these
    _Atomic uint64_t rows[TORC_MEMORY_COUNT]; // 0 where control knows
};

struct torc_chan {
    uint32_t magic;
    uint32_t version;
    uint64_t bytes;
    uint32_t worker_count;
    uint32_t zero;
    uint64_t map_offset;
    uint64_t keys_offset;
    uint64_t sessions_offset;
    uint64_t worker_offset; // of worker 0's block
    uint64_t worker_bytes;  // from one worker's block to the next
    _Atomic uint64_t boot;  // 0 until configured; worker 0 stores it after its CONFIGURE
    _Alignas(TORC_FALSE_SHARING_BYTES) struct torc_chan_memory memory;
    // Written by the session thread.
    _Alignas(TORC_FALSE_SHARING_BYTES) struct torc_chan_keys_state keys;
    // Written by control.
    _Alignas(TORC_FALSE_SHARING_BYTES) _Atomic uint32_t control_sleeping;
    _Atomic uint32_t control_attached;  // rises with each control
    _Atomic uint64_t control_turned_ns; // CLOCK_BOOTTIME; older than control_grace: control is gone
};

// One end's private view: where things lie, and the ports of this side.
struct torc_chan_ports {
    struct torc_chan_worker *worker;
    struct torc_spsc_port cmd;
    struct torc_spsc_port evt;
    struct torc_spsc_port log;
    struct torc_spsc_port mark;
    struct torc_spsc_port in;
    struct torc_spsc_port out;
};

enum torc_chan_side {
    TORC_CHAN_DATAPLANE,
    TORC_CHAN_CONTROL
};

// Bytes of memory for `worker_count` workers (1..255).
uint64_t torc_chan_bytes(uint32_t worker_count);

// Lays the channel out in zeroed memory, aligned to TORC_SPSC_ALIGN_BYTES. The dataplane, once.
enum torc_err torc_must_use torc_chan_format(void *memory, uint64_t memory_bytes,
                                             uint32_t worker_count, struct torc_fail *why);

// Checks what the other process formatted. CORRUPT or UNSUPPORTED_VERSION, and the text says what.
enum torc_err torc_must_use torc_chan_check(const void *memory, uint64_t memory_bytes,
                                            struct torc_fail *why);

// Opens one side's ends of worker `index`'s rings, also after a restart of that side.
enum torc_err torc_must_use torc_chan_attach(struct torc_chan_ports *ports,
                                             enum torc_chan_side side, void *memory,
                                             uint64_t memory_bytes, uint32_t index,
                                             struct torc_fail *why);

struct torc_chan_map *torc_chan_map(void *memory);

struct torc_chan_keys *torc_chan_keys(void *memory);

struct torc_chan_sessions *torc_chan_sessions(void *memory);

// What worker `index` says of itself. The memory was formatted or checked.
struct torc_chan_worker *torc_chan_worker_page(void *memory, uint32_t index);

// Whether the worker sleeps, for one who has published and fenced: its doorbell is to be rung.
bool torc_chan_wants_bell(const struct torc_chan_worker *page);

// When a bell rings that is rung next: never later than the turn that it causes. Whoever rings asks
// for it just before it does, of a fresh clock.
uint64_t torc_chan_bell_ns(const struct torc_chan_worker *page, uint64_t now_ns);

// Notes a bell that was rung, never one that is to be: who is held up between the two would have
// the worker owe a turn that nobody has asked it for. Who was held up around the ringing itself
// (`now_ns`, behind it) does not know when it rang, and notes nothing.
void torc_chan_rang(struct torc_chan_worker *page, uint64_t bell_ns, uint64_t now_ns);

// Since when the worker owes a turn: it was awake, or was rung, and has not turned since. `now_ns`:
// it owes none.
uint64_t torc_chan_owes_since_ns(const struct torc_chan_worker *page, uint64_t now_ns);

#endif
