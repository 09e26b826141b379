// Torc tests: a metastore in memory that is slow, away, loses answers and does late what it has to.
//
// What    one store of records, and handles to it, each a kind of struct torc_metastore: what the
//         contract of control/metastore.h allows happens, at random: answers later and in another
//         order, UNAVAILABLE (it did not happen), IN_DOUBT (it did, will, or never will), watches
//         that report a gap.
// Owner   the test.  Memory  malloc, freed by torc_fake_store_close.
// Faults  `calm`: none of that. `lies`: it breaks the contract: a lost transaction is reported as
//         OK, and a watch forgets names. A test that uses it must find that out.
#ifndef TORC_TESTS_FAKE_STORE_H
#define TORC_TESTS_FAKE_STORE_H

#include "control/meta_wake.h"
#include "control/metastore.h"
#include "control/records.h"
#include "kit/rng.h"

#define TORC_FAKE_STORE_RECORDS 64u
#define TORC_FAKE_STORE_LATE    64u
#define TORC_FAKE_STORE_HANDLES 4u
#define TORC_FAKE_STORE_DELAY   UINT64_C(3000000) // at most

struct torc_fake_record {
    char key[TORC_META_KEY_MAX + 1];
    char value[TORC_META_VALUE_MAX];
    uint32_t value_bytes;
    uint64_t version;
    bool there;
};

struct torc_fake_store;

struct torc_fake_handle {
    struct torc_metastore store;
    struct torc_fake_store *meta;
    struct torc_meta_request *pending[TORC_META_INFLIGHT_MAX];
    uint64_t due_ns[TORC_META_INFLIGHT_MAX];
    bool watching[TORC_META_WATCHES_MAX];
    uint64_t watch_ticket[TORC_META_WATCHES_MAX];
    char watch_key[TORC_META_WATCHES_MAX][TORC_META_KEY_MAX + 1];
    struct torc_meta_wake wakes[TORC_META_WATCHES_MAX];
    struct torc_meta_woken woken;
    struct torc_meta_record answered[TORC_FAKE_STORE_RECORDS]; // of the last answer
    struct torc_fake_record copies[TORC_FAKE_STORE_RECORDS];
    uint64_t now_ns;
};

struct torc_fake_store {
    struct torc_rng *rng;
    uint64_t revision;
    uint64_t changes; // puts and deletes that took effect
    uint32_t record_count;
    bool calm;
    bool away;
    bool lies;
    struct torc_fake_record records[TORC_FAKE_STORE_RECORDS];
    struct torc_meta_request *late[TORC_FAKE_STORE_LATE];
    uint32_t late_count;
    struct torc_fake_handle handles[TORC_FAKE_STORE_HANDLES];
    // Called for each record that was put, after it was.
    void (*on_put)(void *context, const struct torc_fake_record *record);
    void *context;
};

void torc_fake_store_init(struct torc_fake_store *meta, struct torc_rng *rng);
void torc_fake_store_close(struct torc_fake_store *meta);

// A change by nobody, at once; NULL: deletes.
void torc_fake_store_put(struct torc_fake_store *meta, const char *key, const void *value,
                         uint32_t value_bytes);

const struct torc_fake_record *torc_fake_store_find(const struct torc_fake_store *meta,
                                                    const char *key);

// The fields of a record that is there and can be read; and the record that they make.
void torc_fake_store_read(const struct torc_fake_store *meta, const char *key,
                          enum torc_record kind, void *fields);
void torc_fake_store_write(struct torc_fake_store *meta, const char *key, enum torc_record kind,
                           const void *fields);

#endif
