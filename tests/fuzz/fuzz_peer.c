// Torc tests: any bytes as an operation of a node: what decodes is inside the packet and inside the
// bounds that the machines assert, and says the same when it is encoded again.
#include "tests/fuzz/mutate.h"
#include "tests/peer_ops.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    OP_BYTES = 16384
};

static void check_records(struct torc_peer_op *op, const uint8_t *bytes, uint32_t length)
{
    struct torc_peer_record record;
    uint64_t hlc = 0;
    uint32_t count = 0;

    while (torc_peer_record_next(&op->records, &record)) {
        uint32_t here = op->cargo.total_bytes != 0 ? op->cargo.byte_count : record.value_bytes;

        torc_assert(record.hlc > hlc);
        torc_assert(record.epoch > 0 && record.lsn > 0 && record.lsn < TORC_PEER_LSN_MAX);
        torc_assert(record.low <= record.seq);
        torc_assert_implies(here > 0, (const uint8_t *)record.value >= bytes &&
                                          (const uint8_t *)record.value + here <= bytes + length);
        hlc = record.hlc;
        count++;
    }
    torc_assert(count == op->message.append.count);
}

static void check_epoch(const struct torc_peer_epoch *epoch)
{
    torc_assert(epoch->configuration.member_count <= TORC_MEMBERS_MAX);
    torc_assert(epoch->table.count <= TORC_EPOCHS_MAX);
    for (uint32_t i = 1; i < epoch->table.count; i++) {
        torc_assert(epoch->table.entries[i].epoch > epoch->table.entries[i - 1].epoch);
        torc_assert(epoch->table.entries[i].first_lsn > epoch->table.entries[i - 1].first_lsn);
    }
}

static void take(const uint8_t *bytes, uint32_t length)
{
    static uint8_t again_bytes[UINT16_MAX + 64];
    struct torc_peer_op op;
    struct torc_peer_op again;
    struct torc_fail why;

    if (length < TORC_REQUEST_HEAD_BYTES ||
        torc_peer_op_decode(&op, bytes, length, &why) != TORC_ERR_OK) {
        return;
    }
    if (op.opcode == TORC_PEER_OP_APPEND && op.message.append.count > 0) {
        check_records(&op, bytes, length);
        return;
    }
    if (op.opcode == TORC_PEER_OP_EPOCH) {
        check_epoch(&op.message.epoch);
    }
    torc_assert(torc_peer_op_bytes(&op) == length);
    (void)torc_peer_op_encode(again_bytes, &op);
    torc_assert(torc_peer_op_decode(&again, again_bytes, length, NULL) == TORC_ERR_OK);
    torc_assert(torc_peer_op_same(&op, &again));
}

static uint32_t make_append(struct torc_rng *rng, struct torc_peer_scratch *scratch, uint8_t *bytes)
{
    struct torc_peer_append_builder builder;
    struct torc_peer_message message;

    torc_peer_append_random(rng, &message, scratch);
    torc_peer_append_begin(&builder, bytes, 1100, &message);
    if (scratch->record_count > 0 && scratch->records[0].value_bytes > TORC_PEER_PART_MIN) {
        torc_peer_append_part(&builder, &scratch->records[0], TORC_PEER_PART_MIN, 0);
    }
    for (uint32_t i = 0; i < scratch->record_count && builder.count == i; i++) {
        (void)!torc_peer_append_add(&builder, &scratch->records[i]);
    }
    (void)torc_peer_append_end(&builder);
    return builder.used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct torc_peer_scratch scratch;
    static uint8_t bytes[OP_BYTES];
    struct torc_rng rng = torc_fuzz_rng(data, size);
    struct torc_peer_op op;
    uint32_t length;

    if (size <= UINT16_MAX) {
        take(data, (uint32_t)size);
    }
    if (torc_rng_chance(&rng, 400000)) {
        length = make_append(&rng, &scratch, bytes);
    } else {
        torc_peer_op_random(&rng, &op, &scratch);
        (void)torc_peer_op_encode(bytes, &op);
        length = torc_peer_op_bytes(&op);
    }
    torc_fuzz_edit(&rng, bytes + TORC_REQUEST_HEAD_BYTES, length - TORC_REQUEST_HEAD_BYTES);
    take(bytes, length);
    torc_fuzz_edit(&rng, bytes, length);
    take(bytes, torc_fuzz_cut(&rng, length));
    return 0;
}
