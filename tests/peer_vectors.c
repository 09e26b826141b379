// Torc tests: the vectors of messages between nodes (docs/PROTOCOL.md, section 13); see
// wire_vectors_os.c.
#include "tests/peer_vectors.h"

#include "wire/peer_codec.h"

static void peer_vector(torc_vector_print *print, const char *name, const struct torc_peer_op *op)
{
    unsigned char bytes[TORC_PEER_OP_BYTES];

    print(name, bytes, torc_peer_op_encode(bytes, op));
}

static struct torc_peer_op peer_message(enum torc_peer_kind kind)
{
    struct torc_peer_op op = {.opcode = torc_peer_opcode_of(kind)};

    op.message = (struct torc_peer_message){.kind = kind, .shard = 9};
    return op;
}

static void peer_shard_vectors(torc_vector_print *print)
{
    struct torc_peer_op op = peer_message(TORC_PEER_EPOCH);

    op.message.epoch =
        (struct torc_peer_epoch){.configuration = {.epoch = 5,
                                                   .primary_node = 2,
                                                   .primary_boot = 7,
                                                   .nonce = UINT64_C(0x0102030405060708),
                                                   .member_count = 2,
                                                   .members = {{2, 31}, {3, 32}}},
                                 .table = {.count = 2, .entries = {{4, 90}, {5, 101}}},
                                 .last_lsn = 101,
                                 .floor_lsn = 60,
                                 .active = true};
    peer_vector(print, "peer-epoch", &op);
    op = peer_message(TORC_PEER_ACK);
    op.message.ack = (struct torc_peer_ack){.epoch = 5,
                                            .copy = 32,
                                            .received_lsn = 103,
                                            .durable_lsn = 102,
                                            .stream = 1,
                                            .usable = true};
    peer_vector(print, "peer-ack", &op);
    op = peer_message(TORC_PEER_REFUSE);
    op.message.refuse = (struct torc_peer_refuse){.epoch = 4, .my_epoch = 5};
    peer_vector(print, "peer-refuse", &op);
    op = peer_message(TORC_PEER_PROBE);
    op.message.probe = (struct torc_peer_probe){.epoch = 5, .suspect_node = 2};
    peer_vector(print, "peer-probe", &op);
    op = peer_message(TORC_PEER_PROBE_ACK);
    op.message.probe_ack = (struct torc_peer_probe_ack){.epoch = 5,
                                                        .suspect_node = 2,
                                                        .copy = 32,
                                                        .received_lsn = 103,
                                                        .commit_lsn = 101,
                                                        .hears = true};
    peer_vector(print, "peer-probe-ack", &op);
    op = peer_message(TORC_PEER_TRANSFER);
    op.message.transfer = (struct torc_peer_transfer){
        .epoch = 5, .last_lsn = 103, .ceiling = UINT64_C(0x65c0a9f3d0000003)};
    peer_vector(print, "peer-transfer", &op);
}

static void peer_append_vectors(torc_vector_print *print)
{
    static unsigned char value[520];
    unsigned char bytes[1024];
    struct torc_peer_append_builder append;
    struct torc_peer_message message = peer_message(TORC_PEER_APPEND).message;
    struct torc_peer_record record = {.kind = TORC_PEER_RECORD_PUT,
                                      .with_client = true,
                                      .shard = 9,
                                      .epoch = 5,
                                      .lsn = 102,
                                      .hlc = UINT64_C(0x65c0a9f3d0000001),
                                      .key = 42,
                                      .principal = 2,
                                      .value_bytes = 9,
                                      .client = UINT64_C(0x1122334455667700),
                                      .seq = 7,
                                      .low = 5,
                                      .value = "forty-two"};

    message.append = (struct torc_peer_append){.epoch = 6, .commit_lsn = 101};
    torc_peer_append_begin(&append, bytes, sizeof(bytes), &message);
    torc_assert(torc_peer_append_add(&append, &record));
    record = (struct torc_peer_record){.kind = TORC_PEER_RECORD_DELETE,
                                       .shard = 9,
                                       .epoch = 5,
                                       .lsn = 103,
                                       .hlc = UINT64_C(0x65c0a9f3d0000002),
                                       .key = 43};
    torc_assert(torc_peer_append_add(&append, &record));
    print("peer-append", bytes, torc_peer_append_end(&append));
    for (uint32_t i = 0; i < sizeof(value); i++) {
        value[i] = (unsigned char)i;
    }
    record.kind = TORC_PEER_RECORD_PUT;
    record.value = value;
    record.value_bytes = sizeof(value);
    torc_peer_append_begin(&append, bytes, sizeof(bytes), &message);
    torc_peer_append_part(&append, &record, TORC_PEER_PART_MIN, 1);
    print("peer-append-part", bytes, torc_peer_append_end(&append));
}

static void peer_snap_vectors(torc_vector_print *print)
{
    struct torc_peer_op op = peer_message(TORC_PEER_SNAP);

    op.message.snap = (struct torc_peer_snap){.kind = TORC_SNAP_PIECE,
                                              .epoch = 5,
                                              .base_epoch = 4,
                                              .piece = 3,
                                              .stream = 1,
                                              .base_lsn = 95};
    op.cargo = (struct torc_peer_cargo){.bytes = (const unsigned char *)"forty-two",
                                        .byte_count = 9,
                                        .total_bytes = 9,
                                        .part_bytes = 9};
    peer_vector(print, "peer-snap-piece", &op);
    op.message.snap.kind = TORC_SNAP_END;
    op.message.snap.end_lsn = 100;
    op.message.snap.end_hlc = UINT64_C(0x65c0a9f3d0000001);
    peer_vector(print, "peer-snap-end", &op);
}

static void peer_node_vectors(torc_vector_print *print)
{
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_BEAT};

    op.beat = (struct torc_beat){.sent_ns = 1000000007,
                                 .wall_us = UINT64_C(1790000000000000),
                                 .claim_version = 4,
                                 .ceiling = UINT64_C(0x65c0a9f3d0000003),
                                 .open_hlc = UINT64_MAX,
                                 .stretch = 2,
                                 .health = TORC_HEALTH_DISK_FULL};
    peer_vector(print, "peer-beat", &op);
    op = (struct torc_peer_op){.opcode = TORC_PEER_OP_BEAT_ACK};
    op.beat_ack = (struct torc_beat_ack){.echo_ns = 1000000007,
                                         .claim_version = 4,
                                         .ceiling = UINT64_C(0x65c0a9f3d0000003),
                                         .stretch = 2,
                                         .promised = {5, [7] = UINT64_C(1) << 63},
                                         .hint_shard = 9,
                                         .hint_epoch = 6};
    peer_vector(print, "peer-beat-ack", &op);
    op = (struct torc_peer_op){.opcode = TORC_PEER_OP_CLAIM};
    op.claim = (struct torc_peer_claim){
        .from_version = 3, .version = 4, .count = 2, .items = {{0, 9, 5}, {511, 10, 0}}};
    peer_vector(print, "peer-claim", &op);
    op = (struct torc_peer_op){.opcode = TORC_PEER_OP_MARK};
    op.mark = (struct torc_peer_mark){.shard = 9, .commit_lsn = 101, .asked_ns = 1000000007};
    peer_vector(print, "peer-mark", &op);
}

void torc_peer_vectors(torc_vector_print *print)
{
    peer_shard_vectors(print);
    peer_append_vectors(print);
    peer_snap_vectors(print);
    peer_node_vectors(print);
}
