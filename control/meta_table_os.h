// Torc control: the records of the metastore in one file, in memory.
//
// What    what the journal's operations add up to, in the order of names, and the names of what was
//         deleted lately, for whoever watches.
// Owner   control/meta_file_os.c, one thread.
// Memory  copies of its own, from malloc; what is handed out lives until the next change.
#ifndef TORC_CONTROL_META_TABLE_OS_H
#define TORC_CONTROL_META_TABLE_OS_H

#include "control/journal.h"
#include "control/metastore.h"

#define TORC_META_TABLE_GONE 64u // deletions that a watch can still be told by name

struct torc_meta_held {
    char *key;
    char *value; // value_bytes and a zero, so that texts can be read as such
    uint32_t value_bytes;
    uint64_t version;
};

struct torc_meta_gone {
    char key[TORC_JOURNAL_KEY_MAX + 1];
    uint64_t version; // the revision that deleted it
};

struct torc_meta_table {
    struct torc_meta_held *held;
    uint32_t held_count;
    uint32_t held_room;
    uint64_t live_bytes;
    struct torc_meta_gone gone[TORC_META_TABLE_GONE]; // a ring
    uint64_t gone_count;                              // ever
    uint64_t gap_revision;                            // deletions up to it are not known by name
};

// What an operation of the journal does.
void torc_meta_table_apply(struct torc_meta_table *table, const struct torc_journal_op *op);

// All is as at first, but for the room of the list; _free gives that back too.
void torc_meta_table_forget(struct torc_meta_table *table);
void torc_meta_table_free(struct torc_meta_table *table);

// The record; false: there is none.
bool torc_must_use torc_meta_table_get(const struct torc_meta_table *table, const char *key,
                                       struct torc_meta_record *record);

// Those whose name begins with `prefix`; false: there are more than record_max.
bool torc_must_use torc_meta_table_list(const struct torc_meta_table *table, const char *prefix,
                                        struct torc_meta_record *records, uint32_t record_max,
                                        uint32_t *record_count);

// Names and versions of what begins with `prefix` and changed in `from` or later; whether all of it
// is named.
bool torc_meta_table_changes(const struct torc_meta_table *table, const char *prefix, uint64_t from,
                             struct torc_meta_record *records, uint32_t record_max,
                             uint32_t *record_count);

// The records from the place `at` on as puts of a snapshot, up to TORC_JOURNAL_OPS_MAX; how many.
uint32_t torc_meta_table_puts(const struct torc_meta_table *table, uint32_t at,
                              struct torc_journal_op *ops);

#endif
