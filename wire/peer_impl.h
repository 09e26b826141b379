// Torc wire: what the codecs of messages between nodes share; private to peer_codec.c and
// peer_records.c.
#ifndef TORC_WIRE_PEER_IMPL_H
#define TORC_WIRE_PEER_IMPL_H

#include "wire/peer_codec.h"

#include <string.h>

#define HEAD TORC_REQUEST_HEAD_BYTES

// The head of any operation.
struct torc_peer_head_wire {
    uint8_t opcode;
    uint8_t flags;
    struct torc_le16 length;
    struct torc_le32 op_id;
    struct torc_le32 budget_us;
    struct torc_le32 aux;
};

struct torc_peer_append_wire { // then records
    struct torc_le32 epoch;
    struct torc_le32 record_epoch;
    struct torc_le64 first_lsn;
    struct torc_le64 commit_lsn;
    struct torc_le16 count;
    struct torc_le16 zero_26;
    struct torc_le32 zero_28;
};

_Static_assert(sizeof(struct torc_peer_append_wire) == 32, "wire format");
_Static_assert(HEAD + sizeof(struct torc_peer_append_wire) == TORC_PEER_APPEND_HEAD, "wire format");

static inline enum torc_err peer_bad(struct torc_fail *why, const char *what)
{
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s", what);
}

// Writes the head and zeros behind the operation; returns the padded bytes.
static inline uint32_t peer_head_write(unsigned char *to, uint8_t opcode, uint32_t length,
                                       uint32_t aux)
{
    struct torc_peer_head_wire head = {
        .opcode = opcode, .length = torc_le16((uint16_t)length), .aux = torc_le32(aux)};

    torc_assert(length <= UINT16_MAX);
    memcpy(to, &head, sizeof(head));
    memset(to + length, 0, torc_op_padded(length) - length);
    return torc_op_padded(length);
}

// k is 1, 2, 4 or 8.
static inline bool torc_peer_stretch_ok(uint8_t stretch)
{
    return stretch == 1 || stretch == 2 || stretch == 4 || stretch == 8;
}

// The cargo of a part that came: whether its numbers fit each other.
bool torc_peer_cargo_ok(const struct torc_peer_cargo *cargo);

// An APPEND behind its head.
enum torc_err torc_must_use torc_peer_append_decode(struct torc_peer_op *op,
                                                    const unsigned char *body, uint32_t byte_count,
                                                    struct torc_fail *why);

#endif
