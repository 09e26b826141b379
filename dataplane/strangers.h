// Torc dataplane: which questions of strangers are answered when there are too many.
//
// What    Answers to addresses that have proved nothing have a budget. Of a flood it lets a few
//         through, and of honest clients in the flood as few. What tells them from it is that they
//         ask again: the same question, after a time-out. So half of the budget is for whoever
//         comes; when it is used up, a question is noted, and if it comes again between
//         TORC_STRANGERS_SOON_NS and TORC_STRANGERS_LATE_NS later, it is answered from the other
//         half, which a flood of new questions does not touch.
//         A flood that repeats itself competes for the second half; it gets no more answers by it.
//         Clients with a session or a ticket are no strangers.
//         Questions that have the same 28 bits, line and print, are one to it: whoever asks
//         between a newcomer's two tries gets the second one's answer, and the newcomer asks a
//         third time. At 0.3 million new questions a second that is one newcomer in 100 000.
// Owner   the worker.
// Memory  TORC_STRANGERS_BYTES, made at start. A note is 16 bits of the question's hash and the
//         time; a line of the table is full of notes at any time, in their order, the newest
//         first, and the oldest makes room. (Their times do not tell which one that is: they come
//         round in 275 s, and an empty note has one too.) At 280 thousand questions a second a note
//         lives for 0.23 s, at two million for 32 ms; clients ask again after 20 ms.
// Invariants
//         S1  in any time t no more than `rate` * t / 2 + `burst` are answered from either half.
// Sources docs/decisions/0020-floods.md
#ifndef TORC_DATAPLANE_STRANGERS_H
#define TORC_DATAPLANE_STRANGERS_H

#include "dataplane/bucket.h"

#define TORC_STRANGERS_LINES   4096u // a power of two
#define TORC_STRANGERS_NOTES   16u   // of a line: a line of the cache
#define TORC_STRANGERS_SOON_NS UINT64_C(8000000)
#define TORC_STRANGERS_LATE_NS UINT64_C(5000000000)
// Of a question its number modulo LINES and what is above this are kept: 28 bits.
#define TORC_STRANGERS_PRINT_SHIFT 48u

struct torc_strangers_line {
    uint32_t notes[TORC_STRANGERS_NOTES]; // hash in the upper half, time in the lower
};

#define TORC_STRANGERS_BYTES (TORC_STRANGERS_LINES * sizeof(struct torc_strangers_line))

struct torc_strangers {
    struct torc_strangers_line *lines;
    struct torc_bucket first; // for whoever asks
    struct torc_bucket again; // for who asked before
    uint32_t rate;            // of each, a second
    uint32_t burst;
};

// `lines`: TORC_STRANGERS_BYTES of zeros. `rate`: answers a second, at least 2.
void torc_strangers_init(struct torc_strangers *strangers, void *lines, uint32_t rate);

// Whether a question may be answered. `question`: a hash, under a key that nobody knows, of who
// asks and what; the same for a repetition.
bool torc_strangers_may(struct torc_strangers *strangers, uint64_t now_ns, uint64_t question);

#endif
