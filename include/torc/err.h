// Torc's error codes: one table, from which the enum, the names and the sentences are
// made, so that they cannot disagree.
//
// What    public header: C and C++, needs nothing else of Torc.
// Owner   none: constant data and pure functions.
//
// A code says what kind of failure it is, and what a caller may do; the message beside it
// (kit/fail.h) names the value. Numbers travel on the wire and in logs: never reuse one.
#ifndef TORC_ERR_H
#define TORC_ERR_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

// X(name, number, sentence). The numbers are the wire's statuses (docs/PROTOCOL.md, section 4):
// they say by themselves what a caller may do.
//   bit 5 (0x20)  retryable: the same request may succeed later, unchanged.
//   bit 6 (0x40)  maybe applied: a write may have taken effect; the same sequence is safe to retry.
//   bit 7 (0x80)  local: never on the wire.
#define TORC_ERR_TABLE(X)                                                                  \
    X(OK, 0x00, "done")                                                                    \
    X(NOT_FOUND, 0x01, "the key has no value")                                             \
    X(PARTIAL, 0x02, "the value was cut to fit; the rest can be pulled")                   \
    X(CONDITION_FAILED, 0x03, "the record is not as the condition says")                   \
    X(INVALID_ARGUMENT, 0x10, "an argument is out of its range")                           \
    X(FORBIDDEN, 0x11, "the principal lacks the role or the key range")                    \
    X(TOO_LARGE, 0x12, "the value or the batch is over the published limit")               \
    X(UNSUPPORTED, 0x13, "this server does not know the operation or the option")          \
    X(BAD_PACKET, 0x14, "the message cannot be decoded")                                   \
    X(SNAPSHOT_TOO_OLD, 0x15, "the snapshot left the undo window; start the range anew")   \
    X(DEADLINE, 0x16, "the deadline passed before the operation began")                    \
    X(CANCELLED, 0x17, "cancelled before the operation began")                             \
    X(EXPIRED, 0x18, "the write is too old to be told from a duplicate; not executed")     \
    X(WRONG_SHARD, 0x20, "the key lives elsewhere; the new map entry is attached")         \
    X(BUSY, 0x21, "a queue is full; try again after the stated pause")                     \
    X(UNAVAILABLE, 0x22, "the shard can not serve this now")                               \
    X(NO_SPACE, 0x23, "the disk or the memory is full; reads go on")                       \
    X(TOO_STALE, 0x24, "this replica is older than allowed")                               \
    X(NO_CURSOR, 0x25, "the range's cursor is gone; open it again")                        \
    X(NO_MESSAGE, 0x26, "the pieces of this message are gone; send them again")            \
    X(VERSION_GONE, 0x27, "the value changed while it was read; get it again")             \
    X(LIMIT, 0x28, "more in flight than the published limit")                              \
    X(TAKING_OVER, 0x29, "a new primary is not active yet")                                \
    X(CLOCK_AHEAD, 0x2a, "a timestamp is too far ahead of the clock")                      \
    X(SEQ_OLD, 0x40, "the answer to this write is no longer kept")                         \
    X(INTERNAL, 0x41, "the operation started and then met a fault")                        \
    X(IN_DOUBT, 0x60, "the outcome is not known; a retry with the same sequence finds it") \
    X(PENDING, 0x61, "the write is in progress")                                           \
    X(UNSUPPORTED_VERSION, 0x80, "the other side speaks a version this one does not")      \
    X(CORRUPT, 0x81, "stored or shared data fails its check")                              \
    X(IO, 0x82, "a file or device answered with an error")                                 \
    X(IN_USE, 0x83, "another process holds it")                                            \
    X(NOT_CONNECTED, 0x84, "no session with the node; check the address and that it runs") \
    X(CLOSED, 0x85, "the queue or the server is closing")

enum torc_err {
#define X(name, number, sentence) TORC_ERR_##name = (number),
    TORC_ERR_TABLE(X)
#undef X
};

// The name as users and logs see it, e.g. "WRONG_SHARD". "UNKNOWN" for a number not in the table.
static inline const char *torc_err_name(enum torc_err err)
{
    switch (err) {
#define X(name, number, sentence) \
    case TORC_ERR_##name: return #name;
        TORC_ERR_TABLE(X)
#undef X
    }
    return "UNKNOWN"; // a newer peer's code: not our bug, so not an assertion
}

// One sentence for people, without a final stop.
static inline const char *torc_err_sentence(enum torc_err err)
{
    switch (err) {
#define X(name, number, sentence) \
    case TORC_ERR_##name: return sentence;
        TORC_ERR_TABLE(X)
#undef X
    }
    return "an error this version does not know";
}

// The two predicates hold for a newer peer's codes too, since the numbers carry them.
static inline bool torc_err_retryable(enum torc_err err)
{
    return ((unsigned)err & 0xa0u) == 0x20u;
}

// True when the caller must not assume that the write did not happen.
static inline bool torc_err_maybe_applied(enum torc_err err)
{
    return ((unsigned)err & 0xc0u) == 0x40u;
}

#ifdef __cplusplus
}
#endif

#endif
