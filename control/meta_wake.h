// Torc control: what a watch of a metastore has seen and nobody has taken yet.
//
// What    names and versions of changed records, bounded; more than fit are a gap.
// Owner   the kind of metastore that holds it. Pure.
// Memory  the struct.
#ifndef TORC_CONTROL_META_WAKE_H
#define TORC_CONTROL_META_WAKE_H

#include "control/metastore.h"

#define TORC_META_WAKE_RECORDS 64

struct torc_meta_wake {
    bool ready; // an answer waits
    bool gap;
    uint32_t count;
    uint64_t revision; // changes up to it are told
    uint64_t versions[TORC_META_WAKE_RECORDS];
    char names[TORC_META_WAKE_RECORDS][TORC_META_KEY_MAX + 1];
};

// What was taken out: lives until the next torc_meta_wake_take into it.
struct torc_meta_woken {
    struct torc_meta_wake wake;
    struct torc_meta_record records[TORC_META_WAKE_RECORDS];
};

// `key` (at most TORC_META_KEY_MAX bytes) was changed or deleted in `version`.
void torc_meta_wake_add(struct torc_meta_wake *wake, const char *key, uint64_t version);

// Something up to `revision` was changed, and not all of it is known.
void torc_meta_wake_gap(struct torc_meta_wake *wake, uint64_t revision);

// Empties it into `woken` and fills the answer; false: there is nothing.
bool torc_must_use torc_meta_wake_take(struct torc_meta_wake *wake, struct torc_meta_woken *woken,
                                       uint64_t ticket, struct torc_meta_answer *answer);

#endif
