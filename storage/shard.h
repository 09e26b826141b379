// Torc storage: the engine of one shard. Conditions, duplicates, pending writes, apply at commit.
//
// What    a shard holds its interval, its epoch, its tree (only committed data), the writes that
//         were logged and are not yet committed, and the completion table. It knows no socket and
//         no file: it says what to log, is told what is durable, and says what to answer.
//             torc_shard_write ──► ANSWER: send `outcome` now
//                              ├─► APPEND: append `record` to the log, then torc_shard_appended
//                              └─► WAIT:   a conditional write behind a pending one on its key
//             torc_shard_commit(durable sequence) ──► outcomes; then torc_shard_woken gives the
//                              writes that waited for these, to be passed to torc_shard_write again
// Owner   one core. A pool (struct torc_shard_pool) holds what the shards of a core share: slots of
//         pending and waiting writes, completion memory, the clock.
// Memory  the caller's, for pool (torc_shard_pool_bytes) and shards (sizeof); tree nodes and large
//         values from the chunk pool and the heap. A small value lies in its slot, a large one in
//         the block of its tree ticket, which goes into the tree without a copy. Nothing else is
//         allocated; every table is bounded and full is BUSY, or NO_SPACE for records.
// Life    torc_shard_init (empty, LOADING) · storage/replay.h fills it · torc_shard_begin until it
//         has no more to log · ACTIVE when its EPOCH record commits · torc_shard_drop. That is the
//         short way of a shard whose only member is here.
// Replicas  a shard that others hold too is `shared`: it is told what is committed, by LSN.
//         FOLLOWING it takes the records of its primary, in the order of their LSNs, and may have
//         to give back those that are not committed (cut); leading it makes records, as above. It
//         knows nothing of peers: storage/shard_follow.c does what dataplane/replica.h says.
//             follow ──► stage · take · cut · commit_to, any number of times ──┐
//               ▲                                                              ▼
//               └── serve (ACTIVE: write, appended, commit_to) ◄── lead (OPENING, its EPOCH)
// Time    the worker stores the wall clock in pool->wall_us each turn and merges HLCs that it hears
//         into pool->hlc (torc_shard_hear: checks them). Ages are measured by the larger of both
//         (E4).
// Order   of checks of a write: epoch (WRONG_SHARD) · role of this replica (TAKING_OVER) ·
//         completed or seq < low · pending or waiting (PENDING) · stamp (EXPIRED, CLOCK_AHEAD) · a
//         pending write on the key of a write with a condition (WAIT) · condition · the log's
//         refusal · memory.
// Invariants
//   S1  LSNs of a shard's records are consecutive; HLCs rise strictly with them (H1).
//   S2  A key's tree version is the HLC of its last committed record.
//   S3  Each (client, seq) is evaluated to an effect at most once, and all its answers agree (E3).
//   S4  What was logged gets no definite error (C3); what was refused is forgotten.
//   S5  pending + staged + waiting + free slots are all slots; each pending put holds a tree
//       ticket.
//   S6  What was read at a timestamp stays so: later writes are stamped above it (H5).
//   S7  What is in the tree is never cut; durable_lsn is of a record of this log, not of a cut one.
// Sources REPLICATION.md sections 6, 11, 12; DESIGN.md section 4.
#ifndef TORC_STORAGE_SHARD_H
#define TORC_STORAGE_SHARD_H

#include "kit/hlc.h"
#include "storage/completion.h"
#include "storage/log_format.h"
#include "storage/tree.h"
#include "storage/undo.h"

#define TORC_SHARD_NONE       UINT32_MAX
#define TORC_SHARD_WINDOW_MAX 4096u // seq - low is below it (docs/PROTOCOL.md, 5)
#define TORC_SHARD_BATCH      64u   // writes applied to a tree in one go
#define TORC_SHARD_OWN        8u    // slots that no write has: EPOCH and the first uncommitted one
#define TORC_SHARD_OWN_ALONE  2u    // the same of a shard of one copy: MOVED and EPOCH, then EMPTY
#define TORC_SHARD_MARKS      8u    // blocks of a shard's records under way whose ends are known
// H3 and E4: how far a stamp may lie ahead.
#define TORC_SHARD_MAX_AHEAD_US UINT64_C(2000000)

// Low bits of `info` of NO_SPACE and UNAVAILABLE (docs/PROTOCOL.md, section 4);
// microseconds above 8 bits.
#define TORC_SHARD_REASON_MEMORY 2u

enum torc_shard_state {
    TORC_SHARD_LOADING,   // checkpoint and log are coming in
    TORC_SHARD_FOLLOWING, // another replica is its primary
    TORC_SHARD_OPENING,   // primary whose EPOCH is not committed yet
    TORC_SHARD_ACTIVE,
};

// What the record must be like. Not more than one.
enum torc_shard_condition {
    TORC_SHARD_ANY,
    TORC_SHARD_IF_ABSENT,
    TORC_SHARD_IF_PRESENT,
    TORC_SHARD_IF_VERSION, // equals if_version
};

struct torc_shard_write {
    uint64_t tag; // the caller's; comes back in the outcome
    uint64_t key; // the caller checked that the shard has it, and value_bytes against its limit
    uint64_t if_version;
    uint64_t client; // with principal: whose seq it is
    uint64_t seq;
    uint64_t low;   // <= seq (the caller checked)
    uint64_t stamp; // HLC
    const void *value;
    uint32_t value_bytes;
    uint32_t principal;
    uint32_t epoch;
    uint8_t attempt; // echoed
    bool remove;     // a delete
    bool want_current;
    // Its session may not write here. What was done before is told all the same; a write that would
    // have to be looked at is answered with FORBIDDEN. Never of one that waits.
    bool forbidden;
    enum torc_shard_condition condition;
    // Whether the log takes a record now (dataplane/log.h): if not OK, a write that would have to
    // be appended is answered with this instead.
    enum torc_err log_err;
    uint64_t log_info;
    struct torc_tree_ticket ticket; // the engine's own; zeroed by the caller
};

struct torc_shard_outcome {
    uint64_t tag;
    uint64_t info; // version; what the status says (docs/PROTOCOL.md, section 4)
    // CONDITION_FAILED and want_current: the present record, as long as the tree does not change.
    const void *value;
    uint32_t value_bytes;
    bool has_value;
    uint8_t attempt;
    enum torc_err err;
    uint32_t place; // TORC_SHARD_WAIT: where it waits, for torc_shard_cancel
};

enum torc_shard_verdict {
    TORC_SHARD_ANSWER,
    TORC_SHARD_APPEND,
    TORC_SHARD_WAIT,
};

struct torc_shard_pool_config {
    uint32_t slots_max;        // pending and waiting writes of all shards
    uint32_t waiting_max;      // of them, waiting
    uint32_t own_max;          // beside slots_max: TORC_SHARD_OWN or _OWN_ALONE for each shard
    uint32_t replay_max;       // beside both, for what replay holds
    uint64_t completion_bytes; // of all shards; at least TORC_COMPLETION_POOL_BYTES_MIN
    uint32_t principal_ppm;    // of them, for one principal alone (storage/completion.h)
    uint32_t dedup_ttl_s;
    uint64_t seed;
    struct torc_undo_config undo; // zeroed: no past can be read
};

struct torc_shard;
struct torc_shard_slot;  // shard_impl.h: a write that is pending or waits
struct torc_shard_group; // shard_impl.h: all of them on one key

struct torc_shard_pool {
    uint64_t hlc;     // highest stamped or heard on this core
    uint64_t wall_us; // set by the worker each turn
    uint64_t ttl_us;
    struct torc_completion_pool completions;
    struct torc_undo undo;
    uint64_t undo_ended; // HLC where the last history ended of which `undo` may have entries (H7)
    struct torc_shard_slot *slots;
    struct torc_shard_group *groups;
    uint32_t *group_table;  // hash of keys to groups
    uint32_t *client_table; // hash of (shard, principal, client, seq) to slots
    uint64_t seed;
    uint32_t table_mask;
    uint32_t slot_count;
    uint32_t slot_fresh; // never used from here on
    uint32_t slot_free;  // head of the free list
    uint32_t group_fresh;
    uint32_t group_free;
    uint32_t write_max;      // slots that writes and taken records may have
    uint32_t replay_max;     // and more of them that replay may have
    uint32_t appended_count; // records, since the worker looked (torc_shard_looked)
    uint32_t append_max;     // of them: more are refused before it looks again
    bool look_all;           // a look is due that says all there is: what replay has is short
    // Of all shards that follow: what replay of the log would hold of memory beside what is there.
    uint64_t unsaid_count;  // records that are applied, and the log does not say that they are
    uint64_t unsaid_bytes;  // of large values that they replaced or deleted
    uint32_t pending_count; // own and taken ones included
    uint32_t taken_count;   // of them: nobody here waits for their commit
    uint32_t staged_count;
    uint32_t own_count;     // slots of own_max that are pending or staged
    uint32_t waiting_count; // woken ones included
    uint32_t waiting_max;
    uint32_t waiting_head; // all waiting ones, for torc_shard_drop_waiting
    uint32_t woken_head;   // those whose turn it is
    uint32_t woken_tail;
    uint32_t woken_given;          // the one handed out last
    struct torc_shard *dirty_head; // shards with pending writes, not shared
    struct torc_shard *dirty_tail;
    struct torc_shard *marked_head; // shared ones with records on their way to the disk
    struct torc_shard *marked_tail;
    uint32_t marked_count;
    uint32_t marked_left; // to be looked at for marked_sequence
    uint64_t marked_sequence;
};

struct torc_shard_config {
    uint64_t lo;
    uint64_t hi; // exclusive; keys are below 2^64-1, so it always fits
    uint32_t shard;
    uint32_t epoch; // the one this life writes in
    uint32_t turn;
    bool moved;   // its last stream was another one: MOVED comes first
    bool anew;    // what its log has is of no use: BEGUN comes first
    bool follows; // torc_shard_follow comes after replay, which holds what may not be committed
    const struct torc_tree_code *code;
    struct torc_chunk_pool *chunks;
    struct torc_heap *heap;
};

// The records up to `lsn`, which was written in `epoch`, are on the disk with block `sequence`.
struct torc_shard_mark {
    uint64_t sequence;
    uint64_t lsn;
    uint32_t epoch;
};

// Fields may be read by everybody, written by storage/ only.
struct torc_shard {
    struct torc_shard_pool *pool;
    struct torc_tree tree;
    struct torc_completion_table completions;
    uint64_t lo;
    uint64_t hi;
    uint32_t shard;
    uint32_t epoch;
    uint32_t turn;
    enum torc_shard_state state;
    bool follows;              // config
    bool shared;               // torc_shard_commit_to, not torc_shard_commit
    bool replaying;            // storage/replay.h has it
    bool moved;                // MOVED is still to be logged
    bool anew;                 // BEGUN is
    bool epoch_wanted;         // EPOCH is still to be logged
    bool unlogged;             // a record was handed out and torc_shard_appended not yet called
    bool dirty;                // in the pool's list
    uint64_t next_lsn;         // of the next record
    uint64_t last_hlc;         // of the last record logged
    uint32_t last_epoch;       // of the same
    uint32_t applied_epoch;    // of record applied_lsn; 0: none
    uint64_t epoch_lsn;        // of the last EPOCH that this replica made
    uint64_t fuzzy_lsn;        // below it the tree may be of several moments
    uint64_t applied_lsn;      // S: committed and in the tree
    uint64_t applied_hlc;      // for CLOCK and ranges (H4)
    uint64_t applied_sequence; // block that the last applied record ends in
    uint64_t applied_count;    // records applied in this life
    uint64_t undo_floor;       // its history on this core begins here; UINT64_MAX: not yet (H7)
    uint32_t pending_head;     // in order of LSN
    uint32_t pending_tail;
    uint32_t pending_count;
    uint32_t unlogged_slot;  // pending, if unlogged
    bool relogging;          // it was there before
    uint64_t relog_sequence; // a checkpoint counts on the log up to here
    uint64_t logged_lsn;     // of the last record that the log has
    uint64_t said_lsn;       // and up to here it says, or may say, that they are committed
    uint64_t said_sequence;  // last block with a record of the shard
    uint64_t unsaid_count;   // as the pool's
    uint64_t unsaid_bytes;
    uint32_t relog_slot;  // pending ones that this stream does not have begin here; NONE: none
    uint32_t staged_head; // in order of LSN, behind the pending ones
    uint32_t staged_tail;
    uint32_t staged_count;
    struct torc_shard *dirty_next;
    // Shared: what is on the disk.
    struct torc_shard *marked_next;
    bool is_marked;
    uint32_t durable_epoch; // of record durable_lsn
    uint64_t durable_lsn;
    uint32_t mark_count;
    struct torc_shard_mark marks[TORC_SHARD_MARKS]; // rising; a block more joins the last
};

// -- The pool -----------------------------------------------------------------------------------

// Places of writes, of all kinds.
uint32_t torc_shard_pool_slots(const struct torc_shard_pool_config *config);

uint64_t torc_shard_pool_bytes(const struct torc_shard_pool_config *config);

// `memory` is aligned to 64.
void torc_shard_pool_init(struct torc_shard_pool *pool, void *memory,
                          const struct torc_shard_pool_config *config);

// Between bursts: lets go of the past that nobody asks for any more.
static inline void torc_shard_pool_age(struct torc_shard_pool *pool)
{
    torc_undo_age(&pool->undo, torc_hlc_us(pool->hlc), pool->wall_us);
}

// CONFIGURE brings the ttl and the clock's floor after the pool is made.
void torc_shard_pool_configure(struct torc_shard_pool *pool, uint32_t dedup_ttl_s, uint64_t hlc);

// Merges an HLC from outside. CLOCK_AHEAD (not merged) when it is more than `ahead_us`, of a client
// TORC_SHARD_MAX_AHEAD_US and twice that of a node,
// above the wall clock, and above the highest HLC held as well (H3).
enum torc_err torc_must_use torc_shard_hear(struct torc_shard_pool *pool, uint64_t hlc,
                                            uint64_t ahead_us);

// -- Life ---------------------------------------------------------------------------------------

// An empty shard. NO_SPACE: no chunk for its tree.
enum torc_err torc_must_use torc_shard_init(struct torc_shard *shard, struct torc_shard_pool *pool,
                                            const struct torc_shard_config *config,
                                            struct torc_fail *why);

// After replay: the records that open this life (BEGUN if there is nothing to go on from; else
// MOVED if its stream changed, and what replay held back, which the old stream will not keep; EPOCH
// of a sole member); and after torc_shard_reset. True: append `record`, call torc_shard_appended,
// call again, before anything else. False: nothing more to log.
bool torc_must_use torc_shard_begin(struct torc_shard *shard, struct torc_log_record *record);

// Bytes of the value that torc_shard_begin will give next, for asking the log whether it takes it.
uint32_t torc_shard_begin_bytes(const struct torc_shard *shard);

// Cancels pending and waiting writes without an answer, frees the tree. The shard is then zeroed.
void torc_shard_drop(struct torc_shard *shard);

static inline bool torc_shard_has(const struct torc_shard *shard, uint64_t key)
{
    return key >= shard->lo && key < shard->hi;
}

// -- Writes -------------------------------------------------------------------------------------

// Evaluates a write. APPEND fills `record`, whose value lies in the engine's memory until it
// commits; nothing else may be asked of this pool before torc_shard_appended. WAIT copies
// everything. (A write without a condition waits too where others wait for its key already, so that
// nobody waits for ever.)
enum torc_shard_verdict torc_must_use torc_shard_write(struct torc_shard *shard,
                                                       struct torc_shard_write *write,
                                                       struct torc_log_record *record,
                                                       struct torc_shard_outcome *outcome);

// The record was appended: blocks first_sequence (the one open when it began, or next to be opened)
// to last_sequence (where it ends) of the stream hold it. last_sequence never falls.
void torc_shard_appended(struct torc_shard *shard, uint64_t first_sequence, uint64_t last_sequence);

// Applies, in order of LSN, what lies in blocks up to durable_sequence (UINT64_MAX: everything, for
// durability `none`), and gives at most outcome_max outcomes. Call again while it gives
// outcome_max. Records without a tag (EPOCH, MOVED, EMPTY) give none.
uint32_t torc_shard_commit(struct torc_shard_pool *pool, uint64_t durable_sequence,
                           struct torc_shard_outcome *outcomes, uint32_t outcome_max);

// The next write that waited and whose turn has come, to be passed to torc_shard_write as it is,
// with log_err and log_info set anew; NULL: none. It stays good until the next call of this
// function. Not passing it on refuses it: answer its tag.
struct torc_shard_write *torc_shard_woken(struct torc_shard_pool *pool, struct torc_shard **shard);

// Forgets the write of that tag that waits at that place (CANCEL, deadline): true, and the caller
// answers. False: it does not wait there (any more).
bool torc_must_use torc_shard_cancel(struct torc_shard_pool *pool, uint32_t place, uint64_t tag);

// No answer is owed: nothing is pending but what other replicas decide, and nothing waits, in any
// shard of the core; for quiescing.
bool torc_shard_is_settled(const struct torc_shard_pool *pool);

// Drops a bounded number (some 20 us) of clients who are past their time by the shard's own log,
// and counts some as this core's, or not, after who leads has changed; as each commit does too.
// True: some are left, call again soon.
bool torc_shard_tidy(struct torc_shard *shard);

// Ask about once a second. True: fill `record` with an EMPTY record that moves the shard's HLC, to
// be appended like any other: an idle shard's clients are past their time (E4). Ask only when the
// log takes a record. torc_shard_tidy drops those whom its commit leaves.
bool torc_must_use torc_shard_idle(struct torc_shard *shard, struct torc_log_record *record);

// -- Replicas: storage/shard_follow.c ------------------------------------------------------------

// A sole member, serving, becomes one of several: from now on it is told what is committed.
void torc_shard_share(struct torc_shard *shard);

// Sole again, and no learner is fed: torc_shard_commit goes on with it.
void torc_shard_unshare(struct torc_shard *shard);

// Another replica is primary, in `epoch`. From any state; after replay, the first thing (then
// torc_shard_begin gives a MOVED if one is due). Writes that wait go without an outcome, pending
// ones will have none, and failures are forgotten (E5). What was staged is dropped.
void torc_shard_follow(struct torc_shard *shard, uint32_t epoch);

// FOLLOWING. Takes a copy of the record behind the last one (next_lsn + staged_count) and all
// memory that it will need. BUSY and NO_SPACE: no room, nothing has changed. CORRUPT: no record of
// this shard's log can be so, and the text says why.
enum torc_err torc_must_use torc_shard_stage(struct torc_shard *shard,
                                             const struct torc_log_record *record,
                                             struct torc_fail *why);

// Makes the first staged record pending: append `record`, call torc_shard_appended, call again.
// False: nothing is staged.
bool torc_must_use torc_shard_take(struct torc_shard *shard, struct torc_log_record *record);

// What is staged was not wanted.
void torc_shard_unstage(struct torc_shard *shard);

// The records above `lsn` never were. False: the tree has some of them already (replay applied
// them before anybody knew); nothing has changed, and the replica needs a base.
bool torc_must_use torc_shard_cut(struct torc_shard *shard, uint64_t lsn);

// How many records the next replay of the log would hold for want of a word that they are
// committed.
static inline uint64_t torc_shard_unsaid(const struct torc_shard *shard)
{
    return shard->logged_lsn - torc_min_u64(shard->said_lsn, shard->logged_lsn);
}

// A look at what the log says of commits: of `unsaid` records (torc_shard_unsaid) of all shards
// that follow, shard_count at most, it does not. Returns of how many of one shard it is to say, for
// torc_shard_note; 0: it says enough. Then torc_shard_looked, with what is unsaid still: it sets
// how many records may come before the next look (docs/decisions/0028). Looks are due after replay,
// before anything is taken, and at the end of a turn in which torc_shard_look_is_due.
uint64_t torc_shard_look(const struct torc_shard_pool *pool, uint64_t unsaid, uint32_t shard_count);
void torc_shard_looked(struct torc_shard_pool *pool, uint64_t unsaid);

static inline bool torc_shard_look_is_due(const struct torc_shard_pool *pool)
{
    return pool->appended_count >= pool->write_max / 4 || pool->look_all;
}

// True: fill `record` (a MOVED that moves nothing), whose entry tells its commits; append it and
// call torc_shard_appended. False: that would say of fewer than lag_min records what the log does
// not, or torc_shard_begin is not through.
bool torc_must_use torc_shard_note(struct torc_shard *shard, uint64_t lag_min,
                                   struct torc_log_record *record);

// FOLLOWING or not: the shard is empty, as if it had never been; its log goes on above `lsn`, whose
// record is of `epoch`. torc_shard_begin, at once, gives the BEGUN that says so in the log, and a
// new turn. NO_SPACE: no chunk for its tree, and it is good for torc_shard_drop only.
enum torc_err torc_must_use torc_shard_reset(struct torc_shard *shard, uint64_t lsn, uint32_t epoch,
                                             struct torc_fail *why);

// Primary of `epoch`: fills its EPOCH record, stamped above `hlc_floor` and everything heard;
// append it and call torc_shard_appended. FOLLOWING turns OPENING; an active primary goes on
// serving, with all that it remembers. There is a slot: the pool's own_max, for all shards, is far
// above what can be pending of such.
void torc_shard_lead(struct torc_shard *shard, uint32_t epoch, uint64_t hlc_floor,
                     struct torc_log_record *record);

// OPENING turns ACTIVE: the EPOCH record is applied, and the tail before it.
void torc_shard_serve(struct torc_shard *shard);

// Applies what is pending up to `lsn`, which was appended here; gives outcomes of this primary's
// own writes, at most outcome_max. Call again while applied_lsn is below `lsn`.
uint32_t torc_shard_commit_to(struct torc_shard *shard, uint64_t lsn,
                              struct torc_shard_outcome *outcomes, uint32_t outcome_max);

// When the log's durable sequence has risen, until NULL: a shared shard whose durable_lsn (and
// durable_epoch) rose.
struct torc_shard *torc_shard_durable(struct torc_shard_pool *pool, uint64_t durable_sequence);

// A pending record; false: it is none. Its value is good until it commits. Walks the pending ones.
bool torc_must_use torc_shard_pending_at(const struct torc_shard *shard, uint64_t lsn,
                                         struct torc_log_record *record);

// -- Reads --------------------------------------------------------------------------------------

// Committed values of keys that the shard has, in any order; hits[i] answers keys[i]. Pointers are
// good until the shard's tree changes (commit, replay, drop).
static inline void torc_shard_get(const struct torc_shard *shard, const uint64_t *keys,
                                  uint32_t count, struct torc_tree_hit *hits)
{
    torc_tree_lookup_batch(&shard->tree, keys, count, hits);
}

// Whether the shard can be read as of `ts` (S6, H5): merges it into the clock, looks for pending
// writes at or below it, and gets the changes since ready, about `entry_max` of them a call.
enum torc_shard_past {
    TORC_SHARD_PAST_READY,   // until the next change of any of the core's trees
    TORC_SHARD_PAST_PENDING, // a write at or below it is on its way to the disk
    TORC_SHARD_PAST_MORE,    // call again
    TORC_SHARD_PAST_TOO_OLD, // *oldest is what can be read
    TORC_SHARD_PAST_AHEAD,   // of the clock (H3)
};
enum torc_shard_past torc_must_use torc_shard_past(struct torc_shard *shard, uint64_t ts,
                                                   uint32_t entry_max, uint64_t *oldest);

// One key as of `ts`, after READY. Pointers as above, good until any of the core's trees changes.
void torc_shard_get_past(const struct torc_shard *shard, uint64_t key, uint64_t ts,
                         struct torc_tree_hit *hit);

// The lowest block that a record above applied_lsn begins in, or may: a block above `durable` can
// be lost, whosever records it holds, and then the next life uses its number again, for this
// shard's records too. Checkpoints keep the log from there on.
uint64_t torc_shard_start_sequence(const struct torc_shard *shard, uint64_t durable);

// Walks S1, S2, S5 and the tables below; CORRUPT and the text says what. For tests.
enum torc_err torc_must_use torc_shard_check(const struct torc_shard *shard, struct torc_fail *why);

#endif
