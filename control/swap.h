// Torc control: one compare-and-swap, until its outcome is known.
//
// What    a transaction whose answer may be lost is asked for again, and the record read, until it
//         is certain which it was. The machine says what to submit and takes the answers.
// Owner   control's one thread. Pure.
// Memory  the operations are the caller's and stay as they are until the end.
// Nonce   the first operation puts a record that nobody else could write, byte for byte: it holds a
//         nonce drawn for this swap (M2). All happen or none, so that this one record tells.
// Invariants
//   W1  WON: it happened, once, and what it wrote is there or was there. LOST: it did not happen,
//       or it did and another change has come after it: either way the record as it is now counts.
//   W2  What is asked for again names the same versions and the same nonce: it can happen at most
//       once, however many copies of it are under way.
//   W3  FAILED only when every copy that was sent got a definite answer.
// Sources REPLICATION.md M2, M7.
#ifndef TORC_CONTROL_SWAP_H
#define TORC_CONTROL_SWAP_H

#include "control/metastore.h"

#define TORC_SWAP_PAUSE_NS UINT64_C(20000000) // a bet: between two tries on a store that is away

enum torc_swap_state {
    TORC_SWAP_ASK,     // the transaction is to be submitted
    TORC_SWAP_ASKED,   // its answer is awaited
    TORC_SWAP_READ,    // the first record is to be read
    TORC_SWAP_READING, // its answer is awaited
    TORC_SWAP_WON,
    TORC_SWAP_LOST,
    TORC_SWAP_FAILED, // `err`: it did not happen and asking again would not help
};

struct torc_swap {
    enum torc_swap_state state;
    enum torc_err err;
    uint64_t ticket;
    uint64_t pause_until_ns;
    uint64_t version; // WON: of what it wrote, when `current`; LOST: of the first record, 0: none
    bool current;     // the version is known
    bool doubt;       // a copy of it may still be under way
    const struct torc_meta_op *ops;
    uint32_t op_count;
};

// `ops[0]` is a PUT with a nonce of its own.
void torc_swap_begin(struct torc_swap *swap, const struct torc_meta_op *ops, uint32_t op_count,
                     uint64_t ticket);

// True: submit `request` (its deadline is the caller's to set); it counts as submitted then.
bool torc_must_use torc_swap_next(struct torc_swap *swap, uint64_t now_ns,
                                  struct torc_meta_request *request);

// When torc_swap_next may have something to say again; UINT64_MAX: when an answer has come.
uint64_t torc_swap_deadline_ns(const struct torc_swap *swap);

// An answer with the swap's ticket. LOST: the answer that said so holds the records.
void torc_swap_take(struct torc_swap *swap, uint64_t now_ns, const struct torc_meta_answer *answer);

bool torc_swap_is_over(const struct torc_swap *swap);

#endif
