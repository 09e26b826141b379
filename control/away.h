// Torc control: whether the metastore answers, for who watches the node.
//
// What    counts the asks of all of control that failed, and knows since when none went well. A
//         store that nobody has asked for TORC_AWAY_IDLE_NS is asked for a record, and one that is
//         away every TORC_AWAY_PAUSE_NS: so an idle node says it too, and that it is back.
// Owner   control's one thread. Pure.
// Memory  the struct.
// Others  watches say nothing of it: they are answered when something has changed.
#ifndef TORC_CONTROL_AWAY_H
#define TORC_CONTROL_AWAY_H

#include "control/metastore.h"

#define TORC_AWAY_TICKET UINT64_C(0x20300)

#define TORC_AWAY_IDLE_NS  UINT64_C(5000000000)
#define TORC_AWAY_PAUSE_NS UINT64_C(1000000000)
#define TORC_AWAY_WAIT_NS  UINT64_C(1000000000) // M6: longer counts as away
#define TORC_AWAY_SAID_NS  UINT64_C(3000000000) // a bet: an election of etcd is not worth a word

struct torc_away {
    uint64_t failures;
    uint64_t since_ns; // of the first that failed since one went well; 0: it is there
    uint64_t heard_ns; // how the last one ended, well or not
    bool asked;        // by this machine
    struct torc_fail why;
};

// True: submit `request`; it counts as submitted.
bool torc_must_use torc_away_next(struct torc_away *away, uint64_t now_ns,
                                  struct torc_meta_request *request);

// Every answer, whoever asked; and what torc_metastore_submit did not take.
void torc_away_take(struct torc_away *away, uint64_t now_ns, const struct torc_meta_answer *answer);
void torc_away_refused(struct torc_away *away, uint64_t now_ns,
                       const struct torc_meta_request *request);

// How long it has been away; 0: it is there, or that is not long enough to be said.
uint64_t torc_away_for_ns(const struct torc_away *away, uint64_t now_ns);

// When torc_away_next has something to say.
uint64_t torc_away_deadline_ns(const struct torc_away *away);

static inline bool torc_away_is_mine(uint64_t ticket)
{
    return ticket == TORC_AWAY_TICKET;
}

#endif
