// Torc tests: messages between nodes go through their bytes and come back the same.
//
// Random operations of each kind; APPENDs whose records are what was put in, as far as there was
// room; long values and pieces cut into parts and put together by their numbers. Each field is
// compared, and a planted fault (one bit of the bytes) must be found by the comparison or the
// decoder wherever a field lies.
#include "tests/peer_ops.h"
#include "tests/torc_test.h"

#include <string.h>

enum {
    ROUNDS = 3000,
    ROOM = 16384
};

static struct torc_peer_scratch scratch;
static unsigned char packet[ROOM];

static void decode(struct torc_peer_op *op, const unsigned char *bytes, uint32_t byte_count)
{
    struct torc_framing framing = {.bytes = bytes, .byte_count = byte_count};
    struct torc_fail why;
    const unsigned char *at;
    uint32_t length;
    uint32_t count = 0;
    uint32_t offset;

    CU_ASSERT_EQUAL_FATAL(torc_framing_check(bytes, byte_count, &count, &offset), TORC_ERR_OK);
    CU_ASSERT_EQUAL(count, 1);
    CU_ASSERT_FATAL(torc_framing_next(&framing, &at, &length));
    TORC_TEST_OK(torc_peer_op_decode(op, at, length, &why), &why);
}

static void test_every_message_comes_back(void)
{
    struct torc_rng rng = {torc_test_seed()};
    uint32_t seen = 0;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct torc_peer_op op;
        struct torc_peer_op got;
        uint32_t bytes;

        torc_peer_op_random(&rng, &op, &scratch);
        bytes = torc_peer_op_encode(packet, &op);
        CU_ASSERT_EQUAL(bytes, torc_op_padded(torc_peer_op_bytes(&op)));
        if (op.cargo.byte_count == 0) {
            CU_ASSERT(bytes <= TORC_PEER_OP_BYTES);
        }
        decode(&got, packet, bytes);
        CU_ASSERT_FATAL(torc_peer_op_same(&op, &got));
        seen |= 1u << (op.opcode & 0x1f);
    }
    CU_ASSERT_EQUAL(seen, 0x000701ff); // all eleven
}

// Bits that say nothing: zero fields (not checked), and what no comparison looks at.
static bool bit_is_missed(const struct torc_peer_op *op, uint32_t bytes, uint32_t bit)
{
    struct torc_peer_op got;
    bool missed;

    packet[bit / 8] ^= (unsigned char)(1u << bit % 8);
    missed = torc_peer_op_decode(&got, packet, bytes, NULL) == TORC_ERR_OK &&
             torc_peer_op_same(op, &got);
    packet[bit / 8] ^= (unsigned char)(1u << bit % 8);
    return missed;
}

// By opcode: bytes of zero fields of an operation without repeated parts.
static uint32_t zero_bytes(const struct torc_peer_op *op)
{
    switch (op->opcode) {
    case TORC_PEER_OP_EPOCH:
        return 5 +
               4 * (op->message.epoch.configuration.member_count + op->message.epoch.table.count);
    case TORC_PEER_OP_APPEND: return 6;
    case TORC_PEER_OP_ACK: return 3;
    case TORC_PEER_OP_PROBE_ACK: return 7;
    case TORC_PEER_OP_TRANSFER: return 4;
    case TORC_PEER_OP_SNAP: return 3 + (op->message.snap.kind == TORC_SNAP_PIECE ? 4 : 0);
    case TORC_PEER_OP_MARK: return 7;
    case TORC_PEER_OP_BEAT: return 6;
    case TORC_PEER_OP_BEAT_ACK: return 7;
    case TORC_PEER_OP_CLAIM: return 4 + 6 * op->claim.count;
    case TORC_PEER_OP_REFUSE:
    case TORC_PEER_OP_PROBE: break;
    }
    return 0;
}

static void test_no_bit_is_without_meaning(void)
{
    struct torc_rng rng = {torc_test_seed() + 1};

    for (uint32_t i = 0; i < 60; i++) {
        struct torc_peer_op op;
        uint32_t missed = 0;
        uint32_t bytes;

        torc_peer_op_random(&rng, &op, &scratch);
        (void)torc_peer_op_encode(packet, &op);
        bytes = torc_peer_op_bytes(&op);
        // The length is the framing's, and not looked at again.
        for (uint32_t bit = 0; bit < 8 * bytes; bit++) {
            missed += bit / 32 != 0 || bit < 16 ? bit_is_missed(&op, bytes, bit) : 0;
        }
        CU_ASSERT_EQUAL(missed, 8 * zero_bytes(&op));
    }
}

static void check_records(struct torc_peer_op *op, uint32_t first, uint32_t count)
{
    struct torc_peer_record record;
    uint32_t at = first;

    CU_ASSERT_EQUAL(op->message.append.count, count);
    CU_ASSERT_EQUAL(op->message.append.runs.count, count > 0 ? 1 : 0);
    if (count > 0) {
        CU_ASSERT_EQUAL(op->message.append.first_lsn, scratch.records[first].lsn);
        CU_ASSERT_EQUAL(op->message.append.runs.entries[0].epoch, scratch.records[first].epoch);
    }
    while (torc_peer_record_next(&op->records, &record)) {
        CU_ASSERT_FATAL(torc_peer_record_same(&record, &scratch.records[at]));
        at++;
    }
    CU_ASSERT_EQUAL(at, first + count);
}

static void test_records_of_an_append_come_back(void)
{
    struct torc_rng rng = {torc_test_seed() + 2};

    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct torc_peer_append_builder builder;
        struct torc_peer_message message;
        struct torc_peer_op got;
        uint32_t room = TORC_PEER_APPEND_HEAD + (uint32_t)torc_rng_below(&rng, 8000);
        uint32_t count = 0;
        uint32_t bytes;

        torc_peer_append_random(&rng, &message, &scratch);
        torc_peer_append_begin(&builder, packet, room, &message);
        while (count < scratch.record_count &&
               torc_peer_append_add(&builder, &scratch.records[count])) {
            count++;
        }
        bytes = torc_peer_append_end(&builder);
        CU_ASSERT(bytes <= torc_op_padded(room));
        if (count < scratch.record_count) {
            CU_ASSERT(builder.used + torc_peer_record_bytes(&scratch.records[count]) > room);
        }
        decode(&got, packet, bytes);
        CU_ASSERT_EQUAL(got.message.append.epoch, message.append.epoch);
        CU_ASSERT_EQUAL(got.message.append.commit_lsn, message.append.commit_lsn);
        CU_ASSERT_EQUAL(got.cargo.total_bytes, 0);
        check_records(&got, 0, count);
    }
}

static void test_records_that_do_not_follow_are_not_taken(void)
{
    struct torc_peer_append_builder builder;
    struct torc_peer_message message = {.kind = TORC_PEER_APPEND, .shard = 3};
    struct torc_peer_record record = {
        .kind = TORC_PEER_RECORD_EMPTY, .shard = 3, .epoch = 5, .lsn = 10, .hlc = 100};

    torc_peer_append_begin(&builder, packet, 1000, &message);
    CU_ASSERT(torc_peer_append_add(&builder, &record));
    CU_ASSERT(!torc_peer_append_add(&builder, &record)); // the same LSN
    record.lsn = 11;
    record.epoch = 6; // P2
    CU_ASSERT(!torc_peer_append_add(&builder, &record));
    record.epoch = 5;
    record.hlc = 101;
    CU_ASSERT(torc_peer_append_add(&builder, &record));
    CU_ASSERT_EQUAL(builder.count, 2);
}

// One record's value in parts, in any order, some twice.
static void test_parts_make_a_value(void)
{
    static unsigned char value[200000];
    static unsigned char whole[sizeof(value)];
    struct torc_rng rng = {torc_test_seed() + 3};
    struct torc_peer_message message = {.kind = TORC_PEER_APPEND, .shard = 7};
    uint32_t part_bytes = TORC_PEER_PART_MIN + 8 * (uint32_t)torc_rng_below(&rng, 900);
    struct torc_peer_record record = {.kind = TORC_PEER_RECORD_PUT,
                                      .with_client = true,
                                      .shard = 7,
                                      .epoch = 2,
                                      .lsn = 99,
                                      .hlc = 1000,
                                      .key = 42,
                                      .value = value,
                                      .value_bytes = (uint32_t)sizeof(value) - 3,
                                      .client = 5,
                                      .seq = 17,
                                      .low = 3};
    uint32_t parts = torc_peer_parts(record.value_bytes, part_bytes);

    torc_test_value(value, torc_test_seed(), sizeof(value));
    for (uint32_t i = 0; i < parts + 20; i++) {
        uint32_t part = i < parts ? parts - 1 - i : (uint32_t)torc_rng_below(&rng, parts);
        struct torc_peer_append_builder builder;
        struct torc_peer_record got_record;
        struct torc_peer_op got;

        torc_peer_append_begin(&builder, packet, ROOM, &message);
        torc_peer_append_part(&builder, &record, part_bytes, part);
        decode(&got, packet, torc_peer_append_end(&builder));
        CU_ASSERT_EQUAL_FATAL(got.cargo.part, part);
        CU_ASSERT_EQUAL_FATAL(got.cargo.total_bytes, record.value_bytes);
        memcpy(whole + (uint64_t)got.cargo.part * got.cargo.part_bytes, got.cargo.bytes,
               got.cargo.byte_count);
        CU_ASSERT_FATAL(torc_peer_record_next(&got.records, &got_record));
        CU_ASSERT_PTR_EQUAL(got_record.value, got.cargo.bytes);
        if (i >= parts) {
            got_record.value = whole;
            CU_ASSERT(torc_peer_record_same(&got_record, &record));
        }
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"every message comes back", test_every_message_comes_back},
        {"no bit is without meaning", test_no_bit_is_without_meaning},
        {"records of an append come back", test_records_of_an_append_come_back},
        {"records that do not follow are not taken", test_records_that_do_not_follow_are_not_taken},
        {"parts make a value", test_parts_make_a_value},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("peer", tests);
}
