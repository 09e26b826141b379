// Torc tests: random operations between nodes, and whether two say the same.
//
// What    shared by tests/model/model_peer.c and tests/fuzz/fuzz_peer.c.
// Memory  what an operation points to lies in the caller's struct torc_peer_scratch.
#ifndef TORC_TESTS_PEER_OPS_H
#define TORC_TESTS_PEER_OPS_H

#include "kit/rng.h"
#include "wire/peer_codec.h"

#define TORC_PEER_SCRATCH_RECORDS 64u
#define TORC_PEER_SCRATCH_BYTES   8192u

struct torc_peer_scratch {
    uint32_t record_count;
    struct torc_peer_record records[TORC_PEER_SCRATCH_RECORDS];
    unsigned char bytes[TORC_PEER_SCRATCH_BYTES]; // values and cargo
};

// Any but an APPEND with records.
void torc_peer_op_random(struct torc_rng *rng, struct torc_peer_op *op,
                         struct torc_peer_scratch *scratch);

// An APPEND's message, and records for it in `scratch`: one epoch, LSNs and HLCs rising.
void torc_peer_append_random(struct torc_rng *rng, struct torc_peer_message *message,
                             struct torc_peer_scratch *scratch);

bool torc_peer_op_same(const struct torc_peer_op *a, const struct torc_peer_op *b);
bool torc_peer_record_same(const struct torc_peer_record *a, const struct torc_peer_record *b);

#endif
