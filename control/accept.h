// Torc control: accepting a loss: an operator lets a shard go on from a copy that may lack writes.
//
// What    reads the shard's record and its members' nodes' records, judges them beside what this
//         node's own replica says of itself and of whom it hears, and, when the operator has named
//         all that is at stake, swaps the record (control/swap.h): this node's copy is the only
//         member, of the next epoch. The replica then takes over by its own rules (T2, T9).
// Owner   control's one thread. Pure.
// Memory  the struct, 6 KB.
// Order   LOOK changes nothing and says what an operator decides by. ACCEPT names the epoch that
//         was looked at, and as `off` each member that may still have its memory: only who has
//         forgotten needs no naming. ACKNOWLEDGE: the record's losses have been seen.
// Invariants
//   A1  nothing happens while a member that may have its memory is heard, or while this node's copy
//       is a member, or is not whole.
//   A2  the swap is against the very record that was judged.
//   A3  the record says what was given up: its epoch, and the node, copy and LSN it goes on from;
//       `previous` has the members that are lost.
// Sources REPLICATION.md sections 3 and 10; docs/decisions, number 38.
#ifndef TORC_CONTROL_ACCEPT_H
#define TORC_CONTROL_ACCEPT_H

#include "control/records.h"
#include "control/swap.h"
#include "kit/chan.h"

#define TORC_ACCEPT_WAIT_NS UINT64_C(5000000000) // a bet: an operator is told then that it failed

enum torc_accept_verb {
    TORC_ACCEPT_LOOK,
    TORC_ACCEPT_ACCEPT,
    TORC_ACCEPT_ACKNOWLEDGE,
};

struct torc_accept_order {
    enum torc_accept_verb verb;
    uint32_t shard;
    uint32_t node; // this one, and the copy of its replica
    uint64_t copy;
    uint64_t min_in_sync;
    uint64_t at_s; // wall clock
    uint32_t epoch;
    uint32_t off_count;
    uint32_t off[TORC_RECORD_MEMBERS_MAX];
    struct torc_evt_role said; // by this node's replica, last
};

enum torc_accept_member {
    TORC_ACCEPT_FORGOT, // its node has another memory now
    TORC_ACCEPT_SILENT, // its memory may lie on its disk, or be served where nobody here hears it
    TORC_ACCEPT_HEARD,
};

struct torc_acceptance {
    struct torc_accept_order order;
    bool open;
    bool asked;
    bool judged;   // `fields` and `members` are what is told
    bool complete; // nothing is missing here: no write was acknowledged without this copy
    uint32_t at;   // member whose node is to be read; the record first: UINT32_MAX
    uint32_t serial;
    uint64_t ticket;
    uint64_t until_ns; // 0: not begun
    uint64_t version;  // of the shard's record
    struct torc_shard_fields fields;
    enum torc_accept_member members[TORC_RECORD_MEMBERS_MAX];
    struct torc_fail why; // once it is not open; OK: done
    bool swapping;
    bool lost; // the swap was: the record tells whether it happened and was overtaken
    struct torc_swap swap;
    struct torc_meta_op op;
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];
};

// What was begun before is forgotten. Requests have `ticket` with a serial number above.
void torc_accept_begin(struct torc_acceptance *accept, uint64_t now_ns,
                       const struct torc_accept_order *order, uint32_t ticket);

// True: submit `request`; it counts as submitted. It ends by itself when it takes too long.
bool torc_must_use torc_accept_next(struct torc_acceptance *accept, uint64_t now_ns,
                                    struct torc_meta_request *request);

// An answer with a ticket of this machine. `nonce`: a random number, for a record to be written.
void torc_accept_take(struct torc_acceptance *accept, uint64_t now_ns,
                      const struct torc_meta_answer *answer, uint64_t nonce);

static inline bool torc_accept_is_mine(const struct torc_acceptance *accept, uint64_t ticket)
{
    return accept->serial > 0 && (ticket & UINT32_MAX) == (accept->ticket & UINT32_MAX);
}

// When torc_accept_next may have something to say again, or to end, without an answer.
uint64_t torc_accept_deadline_ns(const struct torc_acceptance *accept);

#endif
