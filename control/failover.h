// Torc control: executes what replicas decide: reads and compare-and-swaps of shards' records.
//
// What    READ and PROPOSE of the workers (kit/chan.h) become requests to the metastore; their ends
//         become RECORD and RESULT. Nothing is decided here (REPLICATION.md M7): the proposal names
//         the epoch that it expects and a nonce, and either it is what the record becomes, or not.
// Owner   control's one thread. Pure.
// Memory  the struct, 1 MB, touched as it fills.
// A life  READ     read the shard's record, then its primary's node's record; RECORD.
//         PROPOSE  read the shard's record. It has the nonce: WON. Its epoch is another than the
//                  expected one: LOST. Else swap it (control/swap.h) against that very record, and
//                  when that is lost, begin anew. Then the primary's node's record; RESULT.
// Again   workers repeat what was not answered. A question for which one is open begins anew when
//         that has ended; a proposal with another nonce takes the place of the one before it,
//         whose swap may still happen: it is harmless, since it names its record (M2).
// Away    what the metastore does not answer within TORC_FAILOVER_WAIT_NS ends as UNKNOWN, or, of a
//         READ, unanswered.
// Invariants
//   F1  WON only when the record is known to have held the proposal; LOST only when it is known
//       that it does not, and will not: it never happened, or was overtaken (M2).
//   F2  at most one open question of each kind for a shard.
//   F3  what a proposal does not say (keys, birth, losses) stays as it is in the record; the
//       members that it replaces become `previous`.
// Sources REPLICATION.md M1, M2, M7; section 3.
#ifndef TORC_CONTROL_FAILOVER_H
#define TORC_CONTROL_FAILOVER_H

#include "control/records.h"
#include "control/swap.h"
#include "kit/chan.h"

#define TORC_FAILOVER_ASKS     256u // open at once; one more is asked again by its worker
#define TORC_FAILOVER_INFLIGHT 40u  // of TORC_META_INFLIGHT_MAX: others ask too
#define TORC_FAILOVER_WAIT_NS  UINT64_C(1000000000) // M6: longer counts as away

// Tickets of requests: (this + place) with a serial number above.
#define TORC_FAILOVER_TICKET UINT64_C(0x10000)

enum torc_failover_stage {
    TORC_FAILOVER_FREE,
    TORC_FAILOVER_SHARD, // its record is to be read
    TORC_FAILOVER_SWAP,
    TORC_FAILOVER_NODE, // the primary's node's record is to be read
    TORC_FAILOVER_DONE, // `answer` is to be sent
};

struct torc_failover_ask {
    enum torc_failover_stage stage;
    bool asked; // a request of the stage is in flight
    bool again; // READ came once more meanwhile
    bool is_proposal;
    uint32_t worker;
    uint32_t shard;
    uint32_t epoch; // adopted, or expected
    uint32_t again_epoch;
    uint32_t serial; // of its tickets
    uint64_t until_ns;
    struct torc_chan_record proposal;
    struct torc_cmd_record answer;
    struct torc_swap swap;
    struct torc_meta_op op;
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];
};

// What happened: metrics (control/metrics.h).
struct torc_failover_counters {
    uint64_t reads;
    uint64_t won;
    uint64_t lost;
    uint64_t unknown;
    uint64_t refused;
};

struct torc_failover {
    struct torc_failover_counters counters;
    uint32_t ask_count; // highest place used, plus 1
    uint32_t inflight;
    uint32_t serial;
    struct torc_failover_ask asks[TORC_FAILOVER_ASKS];
};

void torc_failover_init(struct torc_failover *failover);

// Questions of a worker. Nothing in them is believed.
void torc_failover_read(struct torc_failover *failover, uint64_t now_ns, uint32_t worker,
                        const struct torc_evt_read *read);
void torc_failover_propose(struct torc_failover *failover, uint64_t now_ns, uint32_t worker,
                           const struct torc_evt_propose *propose);

// Its dataplane is gone: nobody waits for answers any more.
void torc_failover_forget(struct torc_failover *failover);

// True: submit `request`; it counts as submitted.
bool torc_must_use torc_failover_next(struct torc_failover *failover, uint64_t now_ns,
                                      struct torc_meta_request *request);

// It could not be submitted.
void torc_failover_refused(struct torc_failover *failover, uint64_t now_ns,
                           const struct torc_meta_request *request, enum torc_err err);

// An answer with a ticket of this machine.
void torc_failover_take(struct torc_failover *failover, uint64_t now_ns,
                        const struct torc_meta_answer *answer);

// An answer for a worker: it is gone from here when torc_failover_sent says so.
bool torc_must_use torc_failover_answer(const struct torc_failover *failover, uint32_t *place,
                                        uint32_t *worker, struct torc_cmd *order);
void torc_failover_sent(struct torc_failover *failover, uint64_t now_ns, uint32_t place);

// When torc_failover_next may have something to say again, without an answer.
uint64_t torc_failover_deadline_ns(const struct torc_failover *failover);

static inline bool torc_failover_is_mine(uint64_t ticket)
{
    return (ticket & UINT32_MAX) >= TORC_FAILOVER_TICKET &&
           (ticket & UINT32_MAX) < TORC_FAILOVER_TICKET + TORC_FAILOVER_ASKS;
}

#endif
