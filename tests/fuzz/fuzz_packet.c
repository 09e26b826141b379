// Torc tests: any bytes as the operations of an opened request packet, and as a whole data packet:
// no operation reaches outside its bounds, and what was decoded is encoded to the same bytes again
// (O2 of wire/op.h). Rows 3, 33 to 40, 45, 47, 51 and 54 of WIRE.md, section 8, are a few edits
// away.
#include "tests/fuzz/mutate.h"
#include "wire/data.h"
#include "wire/op.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    PACKET_BYTES = 1472
};

static const uint8_t value[40] = "a value that travels";

static const struct torc_request samples[] = {
    {.opcode = TORC_OPCODE_NOP},
    {.opcode = TORC_OPCODE_PING, .op_id = 1, .data = value, .data_bytes = 9},
    {.opcode = TORC_OPCODE_CANCEL, .op_id = 2, .target = 1},
    {.opcode = TORC_OPCODE_CLOSE, .op_id = 3},
    {.opcode = TORC_OPCODE_COOKIE, .op_id = 4},
    {.opcode = TORC_OPCODE_STATUS, .op_id = 5},
    {.opcode = TORC_OPCODE_MAP, .op_id = 6, .lo = 1, .hi = 5, .entries_max = 2},
    {.opcode = TORC_OPCODE_CLOCK, .op_id = 7, .lo = 1, .hi = 2},
    {.opcode = TORC_OPCODE_PULL, .key = 1, .version = 2, .fragment_bytes = 1024, .bitmap = 7},
    {.opcode = TORC_OPCODE_FRAG, .key = 1, .fragment = 3, .data = value, .data_bytes = 16},
    {.opcode = TORC_OPCODE_FRAG_QUERY, .key = 1},
    {.opcode = TORC_OPCODE_GET, .key = 1, .epoch = 2},
    {.opcode = TORC_OPCODE_GET, .flags = TORC_GET_AT, .key = 1, .ts = 5},
    {.opcode = TORC_OPCODE_PUT,
     .key = 1,
     .wseq = 9,
     .lowest = 8,
     .epoch = 1,
     .data = value,
     .data_bytes = 20},
    {.opcode = TORC_OPCODE_PUT,
     .flags = TORC_WRITE_IF_VERSION,
     .key = 1,
     .wseq = 9,
     .lowest = 9,
     .version = 5},
    {.opcode = TORC_OPCODE_PUT,
     .flags = TORC_WRITE_FRAGMENTED,
     .key = 1,
     .wseq = 9,
     .lowest = 9,
     .total_bytes = 100,
     .fragment_bytes = 16,
     .data = value,
     .data_bytes = 16},
    {.opcode = TORC_OPCODE_DELETE, .flags = TORC_WRITE_IF_PRESENT, .wseq = 1, .lowest = 1},
    {.opcode = TORC_OPCODE_RANGE_READ, .lo = 1, .hi = 9, .limit = 3},
    {.opcode = TORC_OPCODE_RANGE_OPEN, .lo = 1, .hi = 9, .credit = 3},
    {.opcode = TORC_OPCODE_RANGE_CREDIT, .credit = 9, .key = 4},
    {.opcode = TORC_OPCODE_RANGE_CLOSE},
};

// A NOP of 8 bytes loses its last two header fields, and reserved bytes are not kept: all else is.
static void check_again(const struct torc_request *request, const uint8_t *op, uint32_t length)
{
    uint8_t again[PACKET_BYTES + 8];
    struct torc_request twice;

    if (length < TORC_REQUEST_HEAD_BYTES) {
        return;
    }
    torc_assert(torc_request_bytes(request) == length);
    torc_assert(torc_request_encode(again, request) == torc_op_padded(length));
    torc_assert(memcmp(again, op, 12) == 0);
    torc_assert(torc_request_decode(&twice, again, length, NULL) == TORC_ERR_OK);
    torc_assert(twice.key == request->key && twice.lo == request->lo && twice.hi == request->hi);
    torc_assert(twice.wseq == request->wseq && twice.lowest == request->lowest);
}

static void run_ops(const uint8_t *ops, uint32_t byte_count)
{
    struct torc_framing framing = {.bytes = ops, .byte_count = byte_count};
    struct torc_request request;
    const unsigned char *op;
    uint32_t op_count;
    uint32_t offset;
    uint32_t length;
    uint32_t walked = 0;

    if (torc_framing_check(ops, byte_count, &op_count, &offset) != TORC_ERR_OK) {
        torc_assert(offset >= TORC_DATA_HEAD_BYTES);
        torc_assert(offset <= TORC_DATA_HEAD_BYTES + byte_count);
        return;
    }
    while (torc_framing_next(&framing, &op, &length)) {
        walked++;
        torc_assert(op >= ops && op + length <= ops + byte_count);
        if (torc_request_decode(&request, op, length, NULL) == TORC_ERR_OK) {
            torc_assert_implies(request.data_bytes > 0,
                                request.data >= op &&
                                    request.data + request.data_bytes <= op + length);
            check_again(&request, op, length);
        }
    }
    torc_assert(walked == op_count);
}

static uint32_t make_ops(struct torc_rng *rng, uint8_t *ops)
{
    uint32_t count = 1 + (uint32_t)torc_rng_below(rng, 4);
    uint32_t bytes = 0;

    for (; count > 0; count--) {
        bytes +=
            torc_request_encode(ops + bytes, &samples[torc_rng_below(rng, TORC_COUNT_OF(samples))]);
    }
    return bytes;
}

static void run_packet(struct torc_rng *rng, uint8_t *packet, uint32_t ops_bytes)
{
    struct torc_seal seal = {.token = 77, .suite = TORC_SUITE_CLEAR};
    struct torc_data data = {
        .type = TORC_TYPE_CLEAR, .seq = 5, .reply_bytes = 1472, .reply_packets = 1};
    enum torc_payload_kind kind;
    uint32_t bytes;
    uint8_t type;

    torc_data_encode(packet, &data);
    bytes = torc_data_seal(&seal, packet, TORC_DATA_HEAD_BYTES + ops_bytes);
    torc_fuzz_edit(rng, packet, bytes);
    bytes = torc_fuzz_cut(rng, bytes);
    if (torc_payload_classify(packet, bytes, &kind, &type) != TORC_DROP_NONE ||
        kind != TORC_PAYLOAD_PACKET || type != TORC_TYPE_CLEAR ||
        torc_data_decode(&data, packet, bytes) != TORC_DROP_NONE) {
        return;
    }
    if (torc_data_open(&seal, packet, bytes)) {
        torc_assert(data.seq == 5 && data.reply_bytes == 1472); // nothing was changed
        run_ops(packet + TORC_DATA_HEAD_BYTES, bytes - TORC_DATA_OVERHEAD);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_rng rng = torc_fuzz_rng(data, size);
    uint8_t packet[PACKET_BYTES];
    uint32_t ops_bytes = make_ops(&rng, packet + TORC_DATA_HEAD_BYTES);

    if (size <= PACKET_BYTES) {
        run_ops(data, (uint32_t)size);
    }
    run_packet(&rng, packet, ops_bytes);
    ops_bytes = make_ops(&rng, packet + TORC_DATA_HEAD_BYTES);
    torc_fuzz_edit(&rng, packet + TORC_DATA_HEAD_BYTES, ops_bytes);
    run_ops(packet + TORC_DATA_HEAD_BYTES, ops_bytes);
    return 0;
}
