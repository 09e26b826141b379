// Torc control: the metastore, where nodes agree on what is (REPLICATION.md, section 3).
//
// What    records, by name: `meta`, `node/<id>`, `shard/<id>`, `want/<id>`, `counter/<name>`,
//         `placement`; each has the revision it was last changed in. Get one, list a family, change
//         several in one transaction on condition that none of them changed meanwhile, be woken
//         when a family changes. One interface, asynchronous: nothing here blocks.
// Owner   control's one thread, a store at a time. Several processes may hold the same store.
// Memory  a submitted request is copied. An answer's records are the store's, until the next
//         torc_metastore_take or torc_metastore_step.
// Kinds   `file:/DIRECTORY` (one machine): control/metastore_os.c.
//         `etcd:HOST:PORT[,HOST:PORT…][/NAME]`: control/metastore_http.c.
//         Opening: control/metastore_open_os.h. A third one, e.g. a simulated one, is a struct that
//         begins with struct torc_metastore and a table of functions.
// A life  submit ──► (the descriptor is readable, or deadline_ns has come) step ──► take … take.
//         Answers come in any order and carry the ticket of their request. A watch is a request
//         that is answered again and again, until torc_metastore_unwatch.
// Invariants
//   M1  get, list and txn are linearizable; a watch only wakes somebody up: it names what changed
//       and never says what it is now.
//   M2  A txn happens whole or not at all, over a crash at any byte too. OK: it happened.
//       CONDITION_FAILED, UNAVAILABLE, NO_SPACE, BUSY, FORBIDDEN, …: it did not and will not.
//       IN_DOUBT: not known, it may even happen later; the caller reads until its nonce, or a
//       record that the txn cannot follow, is seen (control/swap.h).
//   M3  A revision below one that was known when the request was submitted means that the store
//       was put back from a backup: that answer and all later ones are CORRUPT with `went_back`.
//   M4  Every request is answered once, by its deadline.
// Sources REPLICATION.md M1-M3, M5, M6; docs/decisions/0023-metastore.md.
#ifndef TORC_CONTROL_METASTORE_H
#define TORC_CONTROL_METASTORE_H

#include "kit/fail.h"

#define TORC_META_KEY_MAX      96u   // "shard/4294967295" and room for longer families
#define TORC_META_VALUE_MAX    4096u // a record of a shard with 8 members is below 1 KiB
#define TORC_META_OPS_MAX      128u  // M5 wants 64 shards, beside them conditions; etcd's limit too
#define TORC_META_TXN_BYTES    (1u << 20)
#define TORC_META_INFLIGHT_MAX 64u // requests; one more is BUSY
#define TORC_META_WATCHES_MAX  8u

#define TORC_META_ANY    UINT64_MAX // put or delete whatever is there
#define TORC_META_ABSENT 0          // put only if there is none

struct torc_meta_record {
    const char *key;
    const char *value; // ended by a zero that is not counted; NULL in a watch's answer
    uint32_t value_bytes;
    uint64_t version; // the revision it was last changed in
};

enum torc_meta_kind {
    TORC_META_PUT,
    TORC_META_DELETE,
    TORC_META_CHECK, // only a condition
};

struct torc_meta_op {
    enum torc_meta_kind kind;
    const char *key;
    const void *value;
    uint32_t value_bytes;
    uint64_t expected; // the record's version, TORC_META_ABSENT or TORC_META_ANY
};

enum torc_meta_verb {
    TORC_META_GET,   // NOT_FOUND: there is no such record
    TORC_META_LIST,  // records whose name begins with `key`, in the order of their names
    TORC_META_TXN,   // all or nothing; the names of its operations are distinct
    TORC_META_WATCH, // wakes whenever records whose name begins with `key` have changed
};

struct torc_meta_request {
    enum torc_meta_verb verb;
    uint64_t ticket;      // the caller's; a watch's is its own among watches
    uint64_t deadline_ns; // not of a watch
    const char *key;
    uint64_t from_revision; // WATCH: changes from this one on; usually a list's, plus one
    uint32_t record_max;    // LIST: more are LIMIT
    uint32_t op_count;      // TXN
    const struct torc_meta_op *ops;
    uint64_t known_revision; // M3: set by torc_metastore_submit, echoed in the answer
};

struct torc_meta_answer {
    uint64_t ticket;
    enum torc_meta_verb verb;
    enum torc_err err;
    // The store's at this moment; the transaction's own; of a watch: changes up to it are told.
    uint64_t revision;
    uint64_t known_revision;
    bool went_back; // M3
    bool gap;       // WATCH: changes are missing from `records`; list the family
    // TXN, CONDITION_FAILED: what is there of the records that it names, in its order.
    uint32_t record_count;
    const struct torc_meta_record *records;
    struct torc_fail why; // when err is not OK
};

struct torc_metastore;

// What a kind of store is. `submit` is only given what torc_metastore_submit has checked.
struct torc_metastore_code {
    const char *name;
    void (*submit)(struct torc_metastore *store, const struct torc_meta_request *request,
                   uint64_t now_ns);
    void (*unwatch)(struct torc_metastore *store, uint64_t ticket);
    void (*step)(struct torc_metastore *store, uint64_t now_ns);
    bool (*take)(struct torc_metastore *store, struct torc_meta_answer *answer);
    uint64_t (*deadline_ns)(struct torc_metastore *store);
    int (*fd)(const struct torc_metastore *store);
    void (*close)(struct torc_metastore *store);
};

// What all kinds have; the first member of each one's struct, zeroed but for `code`.
struct torc_metastore {
    const struct torc_metastore_code *code;
    uint64_t revision; // the highest seen
    uint32_t inflight;
    uint32_t watch_count;
    bool went_back;
};

// OK: an answer will come. INVALID_ARGUMENT, TOO_LARGE: the request breaks a limit above; BUSY:
// too many are in flight. Nothing was done then.
enum torc_err torc_must_use torc_metastore_submit(struct torc_metastore *store,
                                                  const struct torc_meta_request *request,
                                                  uint64_t now_ns, struct torc_fail *why);

// No answer of this watch comes any more.
void torc_metastore_unwatch(struct torc_metastore *store, uint64_t ticket);

// Goes on with what is in flight. Never blocks.
void torc_metastore_step(struct torc_metastore *store, uint64_t now_ns);

// The next answer, until false.
bool torc_must_use torc_metastore_take(struct torc_metastore *store,
                                       struct torc_meta_answer *answer);

// When to step at the latest; UINT64_MAX: nothing is timed.
uint64_t torc_metastore_deadline_ns(struct torc_metastore *store);

// Readable when a step would move something: for epoll. -1: a kind that has none.
int torc_metastore_fd(const struct torc_metastore *store);

// Drops what is in flight: a transaction that was submitted may still happen, or not.
void torc_metastore_close(struct torc_metastore *store);

// The highest revision this process knows: the map's version.
uint64_t torc_metastore_revision(const struct torc_metastore *store);

// A revision known from elsewhere, e.g. the map that the last control gave its dataplane (M3).
void torc_metastore_adopt(struct torc_metastore *store, uint64_t revision);

// -- For the kinds --------------------------------------------------------------------------------

// A request with all it points to, in one piece of `torc_meta_request_bytes` at `memory`, which is
// aligned to 8 bytes.
uint64_t torc_meta_request_bytes(const struct torc_meta_request *request);
struct torc_meta_request *torc_meta_request_pack(const struct torc_meta_request *request,
                                                 void *memory);

#endif
