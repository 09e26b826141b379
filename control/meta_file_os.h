// Torc control: the metastore in one file, as one process sees it: each call takes the lock, reads
// what others appended, does its part and lets go. It blocks, so a thread of its own calls it:
// control/metastore_os.c.
//
// What    DIRECTORY/journal (control/journal.h, docs/FORMATS.md) and DIRECTORY/lock.
// Owner   one thread; torc_meta_file_stop alone is for others.
// Memory  its own copies; what get, peek, list and changes hand out lives until the next call.
// Invariants
//   F1  Nothing is done with the lock but reading, checking, appending and syncing. Who dies with
//       it loses it, who is stopped keeps it: a wait of over a second is UNAVAILABLE.
//   F2  Nothing is handed out that a power cut could take back: what others appended is synced
//       before it is believed, since they may have been killed before their own sync.
//   F3  After a failed write or sync that call is IN_DOUBT and all later ones are IO, until the
//       store is opened again: a failed sync is never believed. So after a journal that has no
//       longer what was read of it (shorter, or another last entry), which is CORRUPT.
// Sources REPLICATION.md M5, M6.
#ifndef TORC_CONTROL_META_FILE_OS_H
#define TORC_CONTROL_META_FILE_OS_H

#include "control/journal.h"
#include "control/metastore.h"

struct torc_meta_file;

// Opens it; makes it when it is missing. `machine`: 16 bytes, torc_machine_id(). `look_only`:
// nothing is made or changed, not even a lock in a copy that has none; no transactions then.
enum torc_err torc_must_use torc_meta_file_open(struct torc_meta_file **out, const char *folder,
                                                const uint8_t *machine, bool look_only,
                                                struct torc_fail *why);
void torc_meta_file_close(struct torc_meta_file *store);

// Whoever waits for the lock gives up, now and from now on.
void torc_meta_file_stop(struct torc_meta_file *store);

// NOT_FOUND when there is no such record.
enum torc_err torc_must_use torc_meta_file_get(struct torc_meta_file *store, const char *key,
                                               struct torc_meta_record *record,
                                               struct torc_fail *why);

// The same from what the last call saw; false when there is none.
bool torc_must_use torc_meta_file_peek(const struct torc_meta_file *store, const char *key,
                                       struct torc_meta_record *record);

// The records whose name begins with `prefix`, in the order of their names.
enum torc_err torc_must_use torc_meta_file_list(struct torc_meta_file *store, const char *prefix,
                                                struct torc_meta_record *records,
                                                uint32_t record_max, uint32_t *record_count,
                                                struct torc_fail *why);

// All or nothing. CONDITION_FAILED names the record that is not as expected.
enum torc_err torc_must_use torc_meta_file_txn(struct torc_meta_file *store,
                                               const struct torc_meta_op *ops, uint32_t op_count,
                                               uint64_t *revision, struct torc_fail *why);

// One of several transactions; `err`, `why` and `revision` are its end, as of torc_meta_file_txn.
struct torc_meta_change {
    const struct torc_meta_op *ops;
    uint32_t op_count;
    enum torc_err err;
    uint64_t revision;
    struct torc_fail why;
};

// Several at once, with one lock, one entry of the journal and one sync (M5): each happens or not
// by its own conditions, and those that happen have the same revision. They name no key twice, and
// TORC_META_OPS_MAX keys at most.
void torc_meta_file_txns(struct torc_meta_file *store, struct torc_meta_change *changes,
                         uint32_t change_count);

// Catches up with what others wrote.
enum torc_err torc_must_use torc_meta_file_look(struct torc_meta_file *store,
                                                struct torc_fail *why);

// What begins with `prefix` and changed in `from` or later, as the last call saw it: names and
// versions, no values. Returns whether all of it is named.
bool torc_meta_file_changes(const struct torc_meta_file *store, const char *prefix, uint64_t from,
                            struct torc_meta_record *records, uint32_t record_max,
                            uint32_t *record_count);

// The last revision seen.
uint64_t torc_meta_file_revision(const struct torc_meta_file *store);

// This machine's id, from /etc/machine-id; zeros where there is none.
void torc_machine_id(uint8_t *machine);

#endif
