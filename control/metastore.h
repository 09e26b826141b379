// Torc control: the metastore, where nodes agree on what is (REPLICATION.md, section 3).
//
// What    records, by name: `meta`, `node/<id>`, `shard/<id>`, `counter/<name>`; each has the
//         revision it was last changed in. Read one, list a family, change several in one
//         transaction on condition that none of them changed meanwhile.
// Owner   control's one thread. Several processes of one machine may hold the same store.
// Memory  the store's own copies; what get and list hand out lives until the next call.
// Kinds   `file:DIRECTORY` (one machine), here: control/metastore_os.c.
// Invariants
//   M1  get, list and txn see everything that any process's finished txn wrote.
//   M2  A txn happens whole or not at all, also over a crash at any byte.
//   M3  After IO the outcome is not known and the store answers nothing but IO until it is opened
//       again: a failed sync is never believed.
// Sources REPLICATION.md M1, M2, M5, M6.
#ifndef TORC_CONTROL_METASTORE_H
#define TORC_CONTROL_METASTORE_H

#include "control/journal.h"

#define TORC_META_ANY    UINT64_MAX // put or delete whatever is there
#define TORC_META_ABSENT 0          // put only if there is none

struct torc_metastore;

struct torc_meta_record {
    const char *key;
    const char *value;
    uint32_t value_bytes;
    uint64_t version;
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

// Opens `file:DIRECTORY`; makes it when it is missing. `machine`: 16 bytes, torc_machine_id().
enum torc_err torc_must_use torc_metastore_open(struct torc_metastore **out, const char *address,
                                                const uint8_t *machine, struct torc_fail *why);
void torc_metastore_close(struct torc_metastore *store);

// NOT_FOUND when there is no such record.
enum torc_err torc_must_use torc_metastore_get(struct torc_metastore *store, const char *key,
                                               struct torc_meta_record *record,
                                               struct torc_fail *why);

// The records whose name begins with `prefix`, in the order of their names.
enum torc_err torc_must_use torc_metastore_list(struct torc_metastore *store, const char *prefix,
                                                struct torc_meta_record *records,
                                                uint32_t record_max, uint32_t *record_count,
                                                struct torc_fail *why);

// All or nothing. CONDITION_FAILED names the record that is not as expected; UNAVAILABLE: another
// process held the store for over a second; NO_SPACE: nothing was changed.
enum torc_err torc_must_use torc_metastore_txn(struct torc_metastore *store,
                                               const struct torc_meta_op *ops, uint32_t op_count,
                                               uint64_t *revision, struct torc_fail *why);

// The last revision this process saw.
uint64_t torc_metastore_revision(const struct torc_metastore *store);

// This machine's id, from /etc/machine-id; zeros where there is none.
void torc_machine_id(uint8_t *machine);

#endif
