// Torc dataplane: packets to clients, put together from the answers to their operations.
//
// What    an answer is written operation by operation straight into a transmit buffer; when a
//         packet is full the next one begins, as long as the request's allowance lasts; closing a
//         packet writes its header, its trailer and the frame's headers around it.
// Owner   the worker, one answer open at a time.
// Memory  the turn's transmit buffers; or, for a packet whose reads must wait for its writes, a
//         piece of the worker's own memory (torc_answer_hold).
// Room    "answers always fit" (docs/PROTOCOL.md, section 3): `owed_bytes` is what the answers to
//         come need at least, and nothing optional is written into it.
#ifndef TORC_DATAPLANE_ANSWER_H
#define TORC_DATAPLANE_ANSWER_H

#include "dataplane/session_table.h"
#include "wire/data.h"
#include "wire/op.h"

struct torc_worker;
struct torc_frame_tx;

// Where answers to a request go, and how much may be sent. Kept for as long as one is owed.
struct torc_answer_to {
    uint64_t serial; // of the session
    uint64_t arrived_ns;
    uint32_t index;    // session
    uint32_t clock_us; // the request's, echoed
    uint16_t reply_bytes;
    uint16_t packets_left;
    uint8_t flags; // TORC_DATA_CONGESTION, TORC_DATA_HANDOFF
    uint8_t zero[3];
    struct torc_path path;
};

struct torc_answer {
    struct torc_answer_to *to;
    const struct torc_session *session;
    struct torc_frame_tx *tx; // of the open packet
    unsigned char *payload;   // of the open packet; NULL: none is open
    uint32_t used_bytes;      // of it
    uint32_t limit_bytes;     // of it, for operations
    uint32_t owed_bytes;      // for answers to come
    uint32_t packets_kept;    // of the allowance, for answers that come later
    bool held;                // `payload` is memory of the worker
};

// Begins an answer; no packet is open. False: the session has ended, nothing may be sent.
bool torc_answer_begin(struct torc_worker *worker, struct torc_answer *answer,
                       struct torc_answer_to *to);

// Goes on in memory of the worker (torc_answer_bytes() of it, of which used_bytes are filled).
void torc_answer_hold(struct torc_answer *answer, unsigned char *payload, uint32_t used_bytes,
                      uint32_t room_bytes);

// Bytes for one more operation, at most `want` rounded up, at least `least` (both with header);
// begins another packet when that helps and is allowed. 0: not even `least` fits.
uint32_t torc_answer_room(struct torc_worker *worker, struct torc_answer *answer, uint32_t least,
                          uint32_t want);

// Where the next operation is written, after torc_answer_room said that it fits.
static inline unsigned char *torc_answer_at(const struct torc_answer *answer)
{
    return answer->payload + answer->used_bytes;
}

// Writes an operation for which there is room; the body may already lie in its place.
void torc_answer_put(struct torc_worker *worker, struct torc_answer *answer,
                     const struct torc_reply *reply);

// An answer without a body.
void torc_answer_status(struct torc_worker *worker, struct torc_answer *answer, uint8_t opcode,
                        uint32_t op_id, enum torc_err status, uint64_t info);

// The same, with a text if there is room for it.
void torc_answer_text(struct torc_worker *worker, struct torc_answer *answer,
                      const struct torc_request *request, const struct torc_fail *why);

// Sends the open packet, if there is one.
void torc_answer_close(struct torc_worker *worker, struct torc_answer *answer);

// Under load: a packet that says no more than which packets of the session were dropped unread, of
// which there must be some (torc_admit_due). `to` is that of a packet that was opened.
void torc_answer_notice(struct torc_worker *worker, struct torc_answer_to *to);

// Sends `byte_count` bytes outside of a session. False: no buffer.
bool torc_answer_bare(struct torc_worker *worker, const struct torc_path *path, const void *bytes,
                      uint32_t byte_count);

// The same of a payload that lies in the next buffer already, with room for headers before it.
void torc_answer_place(struct torc_worker *worker, const struct torc_path *path,
                       const unsigned char *payload, uint32_t byte_count);

// Largest UDP payload to that place.
uint32_t torc_answer_payload_max(const struct torc_worker *worker, const struct torc_path *path);

#endif
