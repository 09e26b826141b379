// Torc's C API: a store of byte strings under integer keys, kept in order.
//
// What    public header: C and C++. Link with `pkg-config --cflags --libs torc`.
//
// Five calls to begin with:
//
//     struct torc_store *store;
//     struct torc_message why;
//     if (torc_open("10.79.0.11", NULL, &store, &why) != TORC_ERR_OK) {
//         return fprintf(stderr, "%s\n", why.text), 1;
//     }
//     torc_put(store, 42, "forty-two", 9, NULL);
//
//     struct torc_value value;
//     if (torc_get(store, 42, &value) == TORC_ERR_OK) {
//         printf("%.*s\n", (int)value.bytes, (const char *)value.data);
//     }
//     torc_value_free(&value);
//
//     struct torc_page page = {.next_lo = 0, .next_hi = 1000, .more = true};
//     while (page.more && torc_range(store, page.next_lo, page.next_hi, NULL, &page) ==
//     TORC_ERR_OK) {
//         for (size_t i = 0; i < page.count; i++) { use(&page.rows[i]); }
//         torc_page_free(&page);
//     }
//     torc_close(store);
//
// Keys    integers in [0, keys), where `keys` was fixed when the cluster was made (torc_limits).
//         Ranges are half-open, [lo, hi): hi may be equal to `keys`. lo == hi is an empty range,
//         lo > hi is INVALID_ARGUMENT.
// Values  byte strings with a length from 0 to the published limit. No NUL rule. Empty is a value.
// Errors  enum torc_err of torc/err.h: numbers that never change. NOT_FOUND and CONDITION_FAILED
//         are answers, not failures. torc_message() says in one line what was wrong, and names the
//         value. torc_retryable(): the same call may succeed later. torc_maybe_applied(): a write
//         may have taken effect. The library itself retries everything that is retryable until the
//         deadline; a write is sent again with the same identity, so it takes effect at most once.
// Time    every call has a deadline (10 s unless said otherwise, here or per call). The time that
//         is left travels with the request; a server drops what is late. A write whose outcome is
//         not known at its deadline ends with IN_DOUBT: it may take effect up to a minute later.
// Order   none between calls in flight. Wait for one to end before the next that must see it.
// Ranges  give `shard` consistency: each part of a page is one moment of the shard it came from;
//         or `snapshot`: one moment of all shards, for as many pages as the server's undo window
//         reaches back: a second or so, longer while it is read. A page holds at most `limit` rows
//         and `bytes` bytes, and says whether more may follow and from where: nothing is ever left
//         out in silence. It may hold none and say that more follows: a page ends before a value
//         over a packet that was replaced and has left the undo window before it was fetched.
// Old     a get, range or count that says how old what it sees may be (max_age_us) is answered by
//         any copy of the shard, also without its primary: it sees every write that any client was
//         told of that long before the call, and perhaps later ones. Two of them may see more, then
//         less. No copy young enough until the deadline: TOO_STALE.
// Threads a store or queue is used by one thread at a time; open one for each thread. The library
//         keeps no thread of its own (the memif transport: DPDK's), no global state, and no signal
//         handler. After fork() the child's calls answer CLOSED; the parent's go on. A child opens
//         its own, though none over memif (UNSUPPORTED) if its parent had.
// Memory  a queue takes its memory when it is opened (options below), and no more later. It is
//         touched as it is used: beside memory_bytes it maps some 75 MiB, nearly all of it tables
//         of nodes, of which it knows 1280. Each costs 8 KiB once it was heard of, and 25 to 40 KiB
//         with a session. Who locks all memory of a process (mlockall) pays for all of them.
#ifndef TORC_H
#define TORC_H

#include "torc/err.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What the header was made for; torc_version() says what the library is.
#define TORC_API_VERSION_MAJOR 0
#define TORC_API_VERSION_MINOR 1

#define TORC_MESSAGE_BYTES 256

// An error with its one line for people.
struct torc_message {
    enum torc_err err;
    char text[TORC_MESSAGE_BYTES];
};

// All zero is the default everywhere below, and `reserved` must be zero: INVALID_ARGUMENT
// otherwise.
struct torc_store;

struct torc_options {
    uint64_t timeout_us;   // deadline of a call that names none; 0 = 10 s
    uint64_t memory_bytes; // for values and pages in flight; 0 = 64 MiB, 4 MiB to 256 GiB
    uint32_t operations; // at most so many operations in flight in a queue; 0 = 1024, at most 65536
    uint32_t transport_spin; // non-zero: torc_wait spins for so many microseconds before it sleeps
    uint64_t seed;           // non-zero: random numbers follow from it (tests); 0 = from the system
    const char *key_file;    // what proves who we are (`torc keys export`), or "none"; NULL: the
                             // environment's TORC_KEY_FILE, else local.key of the default data
                             // directory if we may read it; read when the queue is opened
    uint64_t reserved[3];
};

// What the cluster published in the handshake, and how this queue stands.
struct torc_limits {
    uint64_t keys;            // M: keys are in [0, keys)
    uint64_t cluster;         // the cluster's id
    uint64_t map_version;     // of the shard map as known here
    uint64_t deadline_us_max; // a longer timeout is cut to this
    uint32_t value_bytes_max; // of one value
    uint32_t page_rows_max;   // of one page
    uint32_t page_bytes_max;  // of one page
    uint32_t batch_max;       // operations in flight in one queue: what torc_options asked for
    uint32_t packet_ops_max;  // operations that travel in one packet
    uint32_t packet_bytes;    // largest UDP payload in use
    uint32_t node;            // the node of the first session
    uint32_t cores;           // its worker cores
    uint32_t durability;      // 0 durable, 1 replicated, 2 none
    uint32_t shards;          // known here
    uint32_t encryption;      // of the session with `node`: 1 AES-256-GCM, 2 ChaCha20-Poly1305, 0
                              // none (a cluster with security = clear)
    uint32_t reserved32;
    uint64_t reserved[3];
};

// How this queue's network stands; all counts since it was opened.
struct torc_counters {
    uint64_t packets_sent;
    uint64_t packets_received;
    uint64_t packets_ignored; // damaged, not ours, or out of date
    uint64_t ops_sent;        // with those sent again
    uint64_t ops_completed;
    uint64_t resends_timer;     // after a time-out
    uint64_t resends_overtaken; // three later replies came first
    uint64_t resends_refused;   // BUSY, WRONG_SHARD, and others that ask for it
    uint64_t handshakes;
    uint64_t range_repairs;  // holes in a range asked for again
    uint64_t rtt_us;         // smoothed, of the first node's first core
    uint64_t window_packets; // of the first node
    uint64_t handoffs;       // replies that say their request came in by another core's queue
    uint64_t stale_reads;    // with an age, answered by another copy than the primary
    uint64_t stale_refused;  // answers that a copy was too old
    uint64_t reserved[1];
};

// What a write asks of the record it finds.
enum torc_condition {
    TORC_ALWAYS = 0,
    TORC_IF_ABSENT = 1,
    TORC_IF_PRESENT = 2,
    TORC_IF_VERSION = 4 // the record's version is `version`
};

struct torc_write_options {
    uint64_t timeout_us; // 0 = the store's
    uint64_t version;    // for TORC_IF_VERSION
    uint32_t condition;  // enum torc_condition; a delete takes TORC_IF_ABSENT not
    uint32_t flags;      // TORC_TRACED
    uint64_t reserved[2];
};

struct torc_read_options {
    uint64_t timeout_us; // 0 = the store's
    uint32_t flags;      // TORC_VERSION_ONLY | TORC_TRACED
    uint32_t reserved32;
    // How old what is seen may be; what is over whole milliseconds is cut off. 0: linearizable.
    uint64_t max_age_us;
    uint64_t reserved[1];
};
#define TORC_VERSION_ONLY 1u // the answer has no value, only its version
#define TORC_TRACED       2u // of reads and writes: the server says where the time went

// Where the time of one operation went (TORC_TRACED): `total_ns` is from its call to the arrival of
// its answer here, the others are its parts and add up to it. `known` says which parts there are:
// the server leaves its part out when its answer has no room for it, and values over one packet
// have a total only. A part that is not known is 0.
struct torc_trace {
    uint64_t user_data; // of the operation
    uint64_t total_ns;
    uint64_t wire_ns;  // network there and back, kernels and library at both ends, waits to resend
    uint64_t queue_ns; // in the node: handed over from another core, behind what came with it
    uint64_t tree_ns;  // looked up; of a write: the condition, and whether it came before
    uint64_t log_ns;   // until its record was in the log's open block; behind writes of its key
    uint64_t sync_ns;  // until that block was on disk
    uint64_t reply_ns; // until the answer was written
    uint32_t known;    // TORC_TRACE_… of what is known
    uint32_t sends;    // how often it was sent; the server's part is of the one that was answered
    uint64_t reserved[4];
};
#define TORC_TRACE_TOTAL 1u
#define TORC_TRACE_WIRE  2u
#define TORC_TRACE_QUEUE 4u
#define TORC_TRACE_TREE  8u
#define TORC_TRACE_LOG   16u // of writes
#define TORC_TRACE_SYNC  32u // of writes
#define TORC_TRACE_REPLY 64u

enum torc_consistency {
    TORC_SHARD = 0, // each part of the page is one moment of its shard
    // The page is one moment of all shards, and holds every write acknowledged before it began. Its
    // timestamp gives more pages of that moment, or SNAPSHOT_TOO_OLD when it left the window.
    TORC_SNAPSHOT = 1,
    // Each part is one moment of its shard, at most max_age_us ago, and comes from any copy; a
    // value over a packet is read by itself, at most max_age_us ago as well.
    TORC_STALE = 2
};

struct torc_range_options {
    uint64_t timeout_us;  // 0 = the store's
    uint64_t limit;       // rows of this page at most; 0 = as many as the bytes allow
    uint64_t bytes;       // bytes of this page (values, and 32 a row) at most; 0 = 1 MiB
    uint64_t max_age_us;  // for TORC_STALE, as in torc_read_options
    uint32_t flags;       // TORC_REVERSE | TORC_KEYS_ONLY | TORC_WITH_VERSIONS
    uint32_t consistency; // enum torc_consistency
    uint64_t timestamp;   // for TORC_SNAPSHOT: that of the page before; 0 = of this call
    uint64_t reserved[1];
};
#define TORC_REVERSE       1u // from the end: the largest keys first
#define TORC_KEYS_ONLY     2u // no values
#define TORC_WITH_VERSIONS 4u // versions too (8 more bytes a row on the wire)

struct torc_row {
    uint64_t key;
    uint64_t version; // 0 unless TORC_WITH_VERSIONS
    const void *data; // NULL with TORC_KEYS_ONLY
    uint64_t bytes;
};

// The rows of one page, in order (reverse: descending). When `more`, the rest of the range is
// [next_lo, next_hi): call again with it. `truncated`: the page ended at its bytes, before `limit`.
struct torc_page {
    struct torc_row *rows;
    size_t count;
    uint64_t next_lo;
    uint64_t next_hi;
    bool more;
    bool truncated;
    uint64_t timestamp; // of a TORC_SNAPSHOT, for the options of the next page
    void *memory;       // of rows and values: torc_page_free
};

struct torc_value {
    void *data; // never NULL after OK, also when empty
    size_t bytes;
    uint64_t version;
};

// ---- Words

// "0.1.0"
const char *torc_version(void);
// As torc_err_name() and torc_err_sentence(), for callers that cannot use inline functions.
const char *torc_error_name(int err);
const char *torc_error_sentence(int err);
bool torc_retryable(int err);
bool torc_maybe_applied(int err);

// ---- One call at a time

// `address`: `host[:base-port],...` (IPv6: `[addr]:port`; base port 28700), seeds of which one must
// answer: the first 16 addresses, all that names resolve to counted. NULL: the environment's
// TORC_CLUSTER, else the file run/cluster of the default data directory (/var/lib/torc for root,
// else $XDG_DATA_HOME/torc).
// `torc+memif:NAME[,address=IP][,local=IP][,port=N][,mtu=N][,slot=N][,core=N][,huge=yes]
// [,zero-copy=yes]`, without spaces, in a library built with memif: reaches the node of that socket
// alone. `address` is the node's, `local` the client's own; `port` and `mtu` are the node's
// base-port and mtu where they are not 28700 and 1500. In a cluster of several, calls for keys that
// another one leads end with NOT_CONNECTED, which names it, as soon as the map says so; reads that
// may be old are answered by the node's own copy.
// `why` may be NULL. NOT_CONNECTED when no seed answered in time.
enum torc_err torc_open(const char *address, const struct torc_options *options,
                        struct torc_store **store, struct torc_message *why);

// Ends the session. NULL is allowed.
void torc_close(struct torc_store *store);

// The last failure of this store, one line; empty before the first. Valid until the next call.
const char *torc_message(const struct torc_store *store);

// Stores the value, whatever was there. `version` (may be NULL) gets that of the write.
enum torc_err torc_put(struct torc_store *store, uint64_t key, const void *data, size_t bytes,
                       uint64_t *version);

// CONDITION_FAILED when the record is not as asked; *version is then the present one, 0 = absent.
enum torc_err torc_put_if(struct torc_store *store, uint64_t key, const void *data, size_t bytes,
                          const struct torc_write_options *options, uint64_t *version);

// OK or NOT_FOUND (then data = NULL). Free the value in both cases, or overwrite it after
// NOT_FOUND.
enum torc_err torc_get(struct torc_store *store, uint64_t key, struct torc_value *value);
enum torc_err torc_get_with(struct torc_store *store, uint64_t key,
                            const struct torc_read_options *options, struct torc_value *value);
void torc_value_free(struct torc_value *value);

// OK, or NOT_FOUND when there was none.
enum torc_err torc_delete(struct torc_store *store, uint64_t key, uint64_t *version);
enum torc_err torc_delete_if(struct torc_store *store, uint64_t key,
                             const struct torc_write_options *options, uint64_t *version);

// One page of [lo, hi). The page is the caller's: torc_page_free. After an error it is empty.
enum torc_err torc_range(struct torc_store *store, uint64_t lo, uint64_t hi,
                         const struct torc_range_options *options, struct torc_page *page);
void torc_page_free(struct torc_page *page);

// How many keys [lo, hi) holds.
enum torc_err torc_count(struct torc_store *store, uint64_t lo, uint64_t hi, uint64_t *count);
// With a consistency; limit, bytes and flags are of no use here.
enum torc_err torc_count_with(struct torc_store *store, uint64_t lo, uint64_t hi,
                              const struct torc_range_options *options, uint64_t *count);

// Many point operations at once; no order among them, each has its own status.
enum torc_action {
    TORC_GET = 1,
    TORC_PUT = 2,
    TORC_DELETE = 3
};
struct torc_item {
    uint64_t key;
    uint32_t action;     // enum torc_action
    uint32_t condition;  // enum torc_condition, for writes
    uint64_t if_version; // for TORC_IF_VERSION
    const void *data;    // of a put
    size_t bytes;
    enum torc_err status;    // out
    uint64_t version;        // out
    struct torc_value value; // out, of a get that ended OK: torc_items_free
};
// OK when every item ended with OK, NOT_FOUND or CONDITION_FAILED; else the first other status.
// Items beyond what fits in flight wait their turn; `timeout_us` (0 = the store's) is for each.
enum torc_err torc_multi(struct torc_store *store, struct torc_item *items, size_t count,
                         uint64_t timeout_us);
// The same; `options` (NULL: none) are those of its gets, and their timeout_us that of all.
enum torc_err torc_multi_with(struct torc_store *store, struct torc_item *items, size_t count,
                              const struct torc_read_options *options);
void torc_items_free(struct torc_item *items, size_t count);

// Of the last traced operation that ended; NOT_FOUND (and `trace` is zero) before the first.
enum torc_err torc_last_trace(const struct torc_store *store, struct torc_trace *trace);

enum torc_err torc_limits(struct torc_store *store, struct torc_limits *limits);
void torc_counters(const struct torc_store *store, struct torc_counters *counters);

// A node's own counters, as text: lines `name value`. `node` = 0: the node of the first session.
// Free as a value.
enum torc_err torc_node_status(struct torc_store *store, uint32_t node, struct torc_value *text);

// The shards as known here, after asking for them. *count: room in, shards out (also when too few
// fit).
struct torc_shard {
    uint64_t lo;
    uint64_t hi;
    uint32_t shard;
    uint32_t epoch;
    uint32_t primary;      // node, 0 = none
    uint32_t primary_core; // 255 = not known
    uint32_t replicas;
    uint32_t reserved32;
};
enum torc_err torc_shards(struct torc_store *store, struct torc_shard *shards, size_t *count);

// ---- Many calls in flight: prepare, submit, poll
//
// A torc_prep_* call describes an operation (its value is copied) and gives it to the queue; it
// goes out with torc_submit, torc_poll or torc_wait, many to a packet. Each ends with one
// completion, found by torc_poll or torc_wait, that carries the caller's `user_data`. LIMIT: the
// queue is full, poll first. INVALID_ARGUMENT, TOO_LARGE: nothing was prepared,
// torc_queue_message() says why.

struct torc_queue;

// Completion flags.
#define TORC_MORE      1u // of a range: the rest is [next_lo, next_hi)
#define TORC_TRUNCATED 2u // the page ended at its bytes, before `limit`
#define TORC_DOUBT     4u // of a write: it may have taken, or may yet take, effect (IN_DOUBT)

struct torc_completion {
    uint64_t user_data;
    enum torc_err status;
    uint32_t flags;
    uint64_t version; // of the record; of a TORC_SNAPSHOT page or count its timestamp
    uint64_t count;   // rows of a range, keys of a count
    const void *data; // the value of a get; text of a status
    uint64_t bytes;
    const struct torc_row *rows; // of a range
    uint64_t next_lo;
    uint64_t next_hi;
    const char *text; // one line about a failure, "" when there is nothing to say
};

// As torc_open, but returns at once: the session is made by the first submit or poll, and
// operations prepared meanwhile wait for it (torc_queue_ready). Address errors are found here.
enum torc_err torc_queue_open(const char *address, const struct torc_options *options,
                              struct torc_queue **queue, struct torc_message *why);

// Operations in flight end without a completion; a write among them may or may not take effect.
void torc_queue_close(struct torc_queue *queue);

const char *torc_queue_message(const struct torc_queue *queue);

// Waits until the first session stands; NOT_CONNECTED after `timeout_us` (0 = the queue's).
enum torc_err torc_queue_ready(struct torc_queue *queue, uint64_t timeout_us);

enum torc_err torc_prep_get(struct torc_queue *queue, uint64_t key,
                            const struct torc_read_options *options, uint64_t user_data);
enum torc_err torc_prep_put(struct torc_queue *queue, uint64_t key, const void *data, size_t bytes,
                            uint64_t user_data);
enum torc_err torc_prep_put_if(struct torc_queue *queue, uint64_t key, const void *data,
                               size_t bytes, const struct torc_write_options *options,
                               uint64_t user_data);
enum torc_err torc_prep_delete(struct torc_queue *queue, uint64_t key,
                               const struct torc_write_options *options, uint64_t user_data);
enum torc_err torc_prep_range(struct torc_queue *queue, uint64_t lo, uint64_t hi,
                              const struct torc_range_options *options, uint64_t user_data);
enum torc_err torc_prep_count(struct torc_queue *queue, uint64_t lo, uint64_t hi,
                              uint64_t timeout_us, uint64_t user_data);
enum torc_err torc_prep_count_with(struct torc_queue *queue, uint64_t lo, uint64_t hi,
                                   const struct torc_range_options *options, uint64_t user_data);
// A node's own counters; node 0 = that of the first session.
enum torc_err torc_prep_status(struct torc_queue *queue, uint32_t node, uint64_t timeout_us,
                               uint64_t user_data);

// Sends what was prepared, as far as windows allow; the rest goes with later calls. Never waits.
enum torc_err torc_submit(struct torc_queue *queue);

// Sends, receives, and fills at most `max` completions. Never waits. What data, rows and text of a
// completion point to is valid until the next torc_poll, torc_wait or torc_queue_close of this
// queue.
unsigned torc_poll(struct torc_queue *queue, struct torc_completion *completions, unsigned max);

// As torc_poll, but waits for the first completion, at most `timeout_us`. 0 when none came, or when
// nothing is in flight.
unsigned torc_wait(struct torc_queue *queue, struct torc_completion *completions, unsigned max,
                   uint64_t timeout_us);

// Operations prepared whose completion has not been returned.
unsigned torc_queue_pending(const struct torc_queue *queue);

// A descriptor that becomes readable when torc_poll has something to do (a packet, a timer), and
// stays so while it left completions that `max` had no room for. Call torc_poll after it did, and
// after the last torc_prep_*. -1 with the memif transport: poll it instead.
int torc_queue_fd(const struct torc_queue *queue);

// Of the traced operation that ended last: `user_data` says which. Those of many in flight need a
// torc_poll of one completion at a time, and may still be overtaken.
enum torc_err torc_queue_last_trace(const struct torc_queue *queue, struct torc_trace *trace);

enum torc_err torc_queue_limits(struct torc_queue *queue, struct torc_limits *limits);
void torc_queue_counters(const struct torc_queue *queue, struct torc_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
