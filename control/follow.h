// Torc control: keeps the survey as the metastore is, while everything else goes on.
//
// What    a watch of each family of records; what a watch names is read, one record at a time, or
//         the whole family when more has changed than a watch can name. The machine says what to
//         submit and takes the answers.
// Owner   control's one thread. Pure.
// Memory  the struct; the survey and the table of own shards are the caller's.
// Wakes   a shard of this node whose record, or one of whose members' nodes, has changed is marked
//         in the table (`wake`): its replica is told to read (REPLICATION.md M1). What placement
//         wishes for one marks it too (`wish`).
// Invariants
//   U1  whatever changed is read after it changed: a key named while its read is under way is read
//       again; nothing is dropped from the list of keys but by reading the whole family.
//   U2  a family is read whole until that has succeeded once; what a list does not show any more
//       and was not changed since, is gone.
//   U3  an answer that failed is asked for again, after a pause.
// Sources REPLICATION.md M1.
#ifndef TORC_CONTROL_FOLLOW_H
#define TORC_CONTROL_FOLLOW_H

#include "control/metastore.h"
#include "control/survey.h"

#define TORC_FOLLOW_KEYS     256u // named and not yet read; more: the family is read whole
#define TORC_FOLLOW_GETS     16u  // in flight
#define TORC_FOLLOW_PAUSE_NS UINT64_C(100000000) // a bet: between two tries on a store that is away
#define TORC_FOLLOW_WAIT_NS  UINT64_C(5000000000)

// Tickets of requests: this and up, below it plus TORC_FOLLOW_TICKETS.
#define TORC_FOLLOW_TICKET  (UINT64_C(1) << 32)
#define TORC_FOLLOW_TICKETS (2u * TORC_FOLLOW_FAMILIES + TORC_FOLLOW_GETS)

enum torc_follow_family {
    TORC_FOLLOW_SHARD,
    TORC_FOLLOW_NODE,
    TORC_FOLLOW_WANT,
    TORC_FOLLOW_FAMILIES,
};

struct torc_follow_list {
    uint64_t from_revision; // of the watch
    uint64_t again_ns;      // not before
    bool watching;
    bool wanted; // the family is to be read whole
    bool asked;
};

struct torc_follow_key {
    uint64_t id;
    enum torc_follow_family family;
    bool asked; // in flight
    bool again; // named since
};

struct torc_follow {
    struct torc_survey *survey;
    struct torc_cluster *cluster;
    struct torc_follow_list lists[TORC_FOLLOW_FAMILIES];
    struct torc_follow_key keys[TORC_FOLLOW_KEYS];
    uint32_t key_count;
    uint32_t get_count;
    uint32_t gets[TORC_FOLLOW_GETS]; // key's place + 1; 0: free
    uint64_t again_ns;               // of single reads
    bool news; // the survey is another than when this control last wrote the map; so at first
    uint64_t changes;      // of the survey, so far
    uint64_t node_changes; // of them, of nodes, as watches and lists tell
    char name[TORC_RECORD_NAME_BYTES];
};

// The survey holds what was changed up to its revision.
void torc_follow_init(struct torc_follow *follow, struct torc_survey *survey,
                      struct torc_cluster *cluster);

// True: submit `request`; its key lives until the next call. A watch or read counts as submitted.
bool torc_must_use torc_follow_next(struct torc_follow *follow, uint64_t now_ns,
                                    struct torc_meta_request *request);

// `request` could not be submitted (BUSY): it is asked for again.
void torc_follow_refused(struct torc_follow *follow, uint64_t now_ns,
                         const struct torc_meta_request *request);

// An answer with a ticket of this machine. CORRUPT and the like: a record made no sense; it is
// passed over, and the text says which.
enum torc_err torc_must_use torc_follow_take(struct torc_follow *follow, uint64_t now_ns,
                                             const struct torc_meta_answer *answer,
                                             struct torc_fail *why);

// When torc_follow_next may have something to say again, without an answer.
uint64_t torc_follow_deadline_ns(const struct torc_follow *follow);

static inline bool torc_follow_is_mine(uint64_t ticket)
{
    return ticket >= TORC_FOLLOW_TICKET && ticket < TORC_FOLLOW_TICKET + TORC_FOLLOW_TICKETS;
}

#endif
