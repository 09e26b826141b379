// Torc control: one field of a node's record is to say something, whoever else writes the record.
//
// What    read, swap (control/swap.h), read again, until it is said, or can no longer be meant: the
//         boot that it is about is over.
// Owner   control's one thread. Pure.
// Memory  the struct, 5 KB.
// Others  the leader of placement and operators write other fields of the record: they stay.
// Sources REPLICATION.md, section 3.
#ifndef TORC_CONTROL_NOTE_H
#define TORC_CONTROL_NOTE_H

#include "control/records.h"
#include "control/swap.h"

#define TORC_NOTE_PAUSE_NS UINT64_C(100000000) // a bet: until a store that is away is asked again

enum torc_note_kind {
    TORC_NOTE_DOWN,    // `down` becomes the boot `value`, while that is the node's; 0: nothing
    TORC_NOTE_LEAVING, // `leaving`, likewise; 0: it stays after all
    TORC_NOTE_STATE,   // `state` becomes `value` (enum torc_record_node_state)
    TORC_NOTE_ALIVE,   // none: the record is written anew once, while `value` is the node's boot
};

struct torc_note {
    enum torc_note_kind kind;
    bool open; // it is not said yet
    bool asked;
    bool swapping;
    uint32_t node;
    uint64_t value;
    uint64_t ticket;
    uint32_t serial; // rises with every note begun here: an answer to another one is known
    uint64_t again_ns;
    enum torc_err err; // once it is not open: NOT_FOUND, or what the record's reading said
    struct torc_swap swap;
    struct torc_meta_op op;
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];
};

// What was begun before is forgotten. Requests have `ticket` with a serial number above.
void torc_note_begin(struct torc_note *note, enum torc_note_kind kind, uint32_t node,
                     uint64_t value, uint32_t ticket);

// True: submit `request`; it counts as submitted.
bool torc_must_use torc_note_next(struct torc_note *note, uint64_t now_ns,
                                  struct torc_meta_request *request);

// An answer with a ticket of this machine. `nonce`: a random number, for the record that may be
// written now.
void torc_note_take(struct torc_note *note, uint64_t now_ns, const struct torc_meta_answer *answer,
                    uint64_t nonce);

static inline bool torc_note_is_mine(const struct torc_note *note, uint64_t ticket)
{
    return note->serial > 0 && (ticket & UINT32_MAX) == (note->ticket & UINT32_MAX);
}

// When torc_note_next may have something to say again, without an answer.
uint64_t torc_note_deadline_ns(const struct torc_note *note);

#endif
