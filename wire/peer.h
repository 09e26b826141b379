// Torc wire: what the replicas of a shard and the nodes under them say to each other.
//
// What    one struct for each message of REPLICATION.md, section 5, as the machines see it
//         (dataplane/replica.h, dataplane/watch.h). Every message comes with its sender's node and
//         boot (the session knows both) and its HLC.
// Owner   none: plain values.  Memory  the caller's. Records and leaves are not in here: they
//         travel behind the fixed part, and the machines never look into them.
// Bounds  a decoder checks every count against the limits below; inside they are asserted.
// Sources REPLICATION.md, sections 3 and 5.
#ifndef TORC_WIRE_PEER_H
#define TORC_WIRE_PEER_H

#include "kit/base.h"

#define TORC_MEMBERS_MAX 7u // in-sync members of a shard, the primary included
// Entries of an epoch table that an EPOCH carries: the latest ones. An older log starts anew.
#define TORC_EPOCHS_MAX 16u
// Claims of one node on another, by slot: the bits of an answer to a beat.
#define TORC_CLAIMS_MAX 512u
// Changed claims in one CLAIM; more follow in the next.
#define TORC_CLAIM_ITEMS_MAX 32u

// An in-sync member: a node, and the copy whose memory of acknowledged records counts.
struct torc_member {
    uint32_t node;
    uint64_t copy;
};

// A shard's record in the metastore, as far as replicas decide by it.
struct torc_configuration {
    uint32_t epoch; // 0: none
    uint32_t primary_node;
    uint64_t primary_boot;
    uint64_t nonce; // of the proposal that made it (M2)
    uint32_t member_count;
    struct torc_member members[TORC_MEMBERS_MAX]; // in takeover order; the primary is one of them
};

// Which epoch each record of a log is of: entry i holds from first_lsn up to the next entry's.
struct torc_epoch_entry {
    uint32_t epoch;
    uint64_t first_lsn;
};

struct torc_epoch_table {
    uint32_t count;
    struct torc_epoch_entry entries[TORC_EPOCHS_MAX]; // rising in both columns
};

// -- Between replicas of one shard --------------------------------------------------------------

// "I am primary of this configuration; this is my log." Repeated until the receiver acknowledges.
struct torc_peer_epoch {
    struct torc_configuration configuration;
    struct torc_epoch_table table;
    uint64_t last_lsn;  // of the sender's log
    uint64_t floor_lsn; // records above it can be sent; a receiver that needs others needs a base
    bool active;        // not a candidate any more: learners may cut (J1)
};

// Records first_lsn .. first_lsn + count - 1, which follow; 0 records: only the commit mark.
struct torc_peer_append {
    uint32_t epoch; // of the configuration, not of the records
    uint32_t count;
    uint64_t first_lsn;
    uint64_t commit_lsn;
    struct torc_epoch_table runs; // which epochs the records were written in, as they say
};

// Both marks are cumulative and of this epoch.
struct torc_peer_ack {
    uint32_t epoch;
    uint64_t copy;
    uint64_t received_lsn;
    uint64_t durable_lsn; // 0 until the EPOCH record of this epoch is on disk (A3)
    uint64_t stream;      // a learner's: the last base that it began to take (SNAP)
    bool needs_base;      // a learner whose log meets the sender's nowhere
    bool usable;          // a learner's tree and log are whole: it may join
};

// "Your epoch is over": mine is higher. The receiver reads the record.
struct torc_peer_refuse {
    uint32_t epoch; // that was refused
    uint32_t my_epoch;
};

struct torc_peer_probe {
    uint32_t epoch;
    uint32_t suspect_node;
};

struct torc_peer_probe_ack {
    uint32_t epoch; // the answerer's
    uint32_t suspect_node;
    uint64_t copy;
    uint64_t received_lsn;
    uint64_t commit_lsn;
    bool hears;   // the suspect, in time
    bool serving; // I am the suspect, and serve
};

struct torc_peer_transfer {
    uint32_t epoch;
    uint64_t last_lsn;
    uint64_t ceiling;
};

enum torc_snap_kind {
    TORC_SNAP_PIECE, // leaves and completions, piece `piece`, behind this
    TORC_SNAP_END,   // `piece` is their count; whole once end_lsn is applied
    TORC_SNAP_ACK,   // learner: `piece` is the first one that it lacks, the END being the last
};

struct torc_peer_snap {
    enum torc_snap_kind kind;
    uint32_t epoch;
    uint32_t base_epoch; // of the record at base_lsn
    uint32_t piece;
    uint64_t stream;   // of a primary; the first message of a new one makes the learner forget all
    uint64_t base_lsn; // the log goes on behind it
    uint64_t end_lsn;
    uint64_t end_hlc; // END: the learner's snap_floor (H7)
};

// X(KIND, member, struct): the messages of one shard.
#define TORC_PEER_TABLE(X)                              \
    X(EPOCH, epoch, struct torc_peer_epoch)             \
    X(APPEND, append, struct torc_peer_append)          \
    X(ACK, ack, struct torc_peer_ack)                   \
    X(REFUSE, refuse, struct torc_peer_refuse)          \
    X(PROBE, probe, struct torc_peer_probe)             \
    X(PROBE_ACK, probe_ack, struct torc_peer_probe_ack) \
    X(TRANSFER, transfer, struct torc_peer_transfer)    \
    X(SNAP, snap, struct torc_peer_snap)

enum torc_peer_kind {
#define X(kind, member, type) TORC_PEER_##kind,
    TORC_PEER_TABLE(X)
#undef X
};

struct torc_peer_message {
    enum torc_peer_kind kind;
    uint32_t shard;
    union {
#define X(kind, member, type) type member;
        TORC_PEER_TABLE(X)
#undef X
    };
};

// How far a shard is committed, for reads of a bounded age at its other members. Told, as a read is
// answered (L3): whatever any client was told before the asker asked has an LSN of at most
// commit_lsn. Committed logs are prefixes of one another, so it needs no epoch.
struct torc_peer_mark {
    uint32_t shard;
    bool asks;
    uint64_t commit_lsn; // told; else 0
    uint64_t asked_ns;   // by the asker's lease clock, which is all that its age is measured by
};

// -- Between nodes ------------------------------------------------------------------------------

// What a node says about itself (C5), bits. Anything but 0: take my primaries from me.
enum torc_health {
    TORC_HEALTH_LOG_FAILED = 1,
    TORC_HEALTH_DISK_FULL = 2,
    TORC_HEALTH_CONTROL_GONE = 4,
    // The disk takes blocks and answers none. Of a primary; a member is judged by what it lags. It
    // goes on taking writes: where nobody can relieve it they wait for the disk, as before.
    TORC_HEALTH_STALLED = 8,
};

struct torc_beat {
    uint64_t sent_ns; // sender's lease clock; comes back in the answer
    uint64_t wall_us;
    uint64_t claim_version;
    uint64_t ceiling;  // H6: no less than any timestamp the sender will read at
    uint64_t open_hlc; // lowest open snapshot; UINT64_MAX: none (H7)
    uint8_t stretch;   // k: 1, 2, 4 or 8
    uint8_t health;    // enum torc_health
};

struct torc_beat_ack {
    uint64_t echo_ns; // of the beat's sent_ns
    uint64_t claim_version;
    uint64_t ceiling;                        // that the sender keeps
    uint8_t stretch;                         // the k promised with
    uint64_t promised[TORC_CLAIMS_MAX / 64]; // a bit for each slot; the others are exceptions
    uint32_t hint_shard; // one of the exceptions whose epoch is over, and ours; epoch 0: none
    uint32_t hint_epoch;
};

struct torc_claim_item {
    uint16_t slot;
    uint32_t shard;
    uint32_t epoch; // 0: the slot is empty
};

// The slots that changed in the versions (from_version, version]; from 0: forget all others first.
struct torc_peer_claim {
    uint64_t from_version;
    uint64_t version;
    uint32_t count;
    struct torc_claim_item items[TORC_CLAIM_ITEMS_MAX];
};

#endif
