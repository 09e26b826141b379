// Torc wire: messages of nodes but for APPEND's records (peer_records.c); see peer_codec.h.
#include "wire/peer_impl.h"

#include <string.h>

enum {
    MARK_ASKS = 1,
    ACK_NEEDS_BASE = 1,
    ACK_USABLE = 2,
    EPOCH_ACTIVE = 1,
    PROBE_HEARS = 1,
    PROBE_SERVING = 2
};

struct ack_wire {
    struct torc_le32 epoch;
    uint8_t flags;
    uint8_t zero[3];
    struct torc_le64 copy;
    struct torc_le64 received_lsn;
    struct torc_le64 durable_lsn;
    struct torc_le64 stream;
};

struct refuse_wire {
    struct torc_le32 epoch;
    struct torc_le32 my_epoch;
};

struct epoch_wire { // then members, then the table
    struct torc_le32 epoch;
    struct torc_le32 primary_node;
    struct torc_le64 primary_boot;
    struct torc_le64 nonce;
    struct torc_le64 last_lsn;
    struct torc_le64 floor_lsn;
    uint8_t flags;
    uint8_t member_count;
    uint8_t entry_count;
    uint8_t zero[5];
};

struct member_wire {
    struct torc_le64 copy;
    struct torc_le32 node;
    struct torc_le32 zero;
};

struct entry_wire {
    struct torc_le64 first_lsn;
    struct torc_le32 epoch;
    struct torc_le32 zero;
};

struct probe_wire {
    struct torc_le32 epoch;
    struct torc_le32 suspect_node;
};

struct probe_ack_wire {
    struct torc_le32 epoch;
    struct torc_le32 suspect_node;
    struct torc_le64 copy;
    struct torc_le64 received_lsn;
    struct torc_le64 commit_lsn;
    uint8_t flags;
    uint8_t zero[7];
};

struct transfer_wire {
    struct torc_le32 epoch;
    struct torc_le32 zero;
    struct torc_le64 last_lsn;
    struct torc_le64 ceiling;
};

struct snap_wire { // PIECE: then the cargo's head, and its bytes
    uint8_t kind;
    uint8_t zero[3];
    struct torc_le32 epoch;
    struct torc_le32 base_epoch;
    struct torc_le32 piece;
    struct torc_le64 stream;
    struct torc_le64 base_lsn;
    struct torc_le64 end_lsn;
    struct torc_le64 end_hlc;
};

struct cargo_wire {
    struct torc_le32 total_bytes;
    struct torc_le32 part_bytes;
    struct torc_le32 part;
    struct torc_le32 zero;
};

struct mark_wire {
    uint8_t flags;
    uint8_t zero[7];
    struct torc_le64 commit_lsn;
    struct torc_le64 asked_ns;
};

struct beat_wire {
    struct torc_le64 sent_ns;
    struct torc_le64 wall_us;
    struct torc_le64 claim_version;
    struct torc_le64 ceiling;
    struct torc_le64 open_hlc;
    uint8_t stretch;
    uint8_t health;
    uint8_t zero[6];
};

struct beat_ack_wire {
    struct torc_le64 echo_ns;
    struct torc_le64 claim_version;
    struct torc_le64 ceiling;
    struct torc_le32 hint_shard;
    struct torc_le32 hint_epoch;
    uint8_t stretch;
    uint8_t zero[7];
    struct torc_le64 promised[TORC_CLAIMS_MAX / 64];
};

struct claim_wire { // then items
    struct torc_le64 from_version;
    struct torc_le64 version;
    struct torc_le32 count;
    struct torc_le32 zero;
};

struct item_wire {
    struct torc_le32 shard;
    struct torc_le32 epoch;
    struct torc_le16 slot;
    struct torc_le16 zero_10;
    struct torc_le32 zero_12;
};

_Static_assert(sizeof(struct torc_peer_head_wire) == TORC_REQUEST_HEAD_BYTES, "wire format");
_Static_assert(sizeof(struct ack_wire) == 40, "wire format");
_Static_assert(sizeof(struct refuse_wire) == 8, "wire format");
_Static_assert(sizeof(struct epoch_wire) == 48, "wire format");
_Static_assert(sizeof(struct member_wire) == 16, "wire format");
_Static_assert(sizeof(struct entry_wire) == 16, "wire format");
_Static_assert(sizeof(struct probe_wire) == 8, "wire format");
_Static_assert(sizeof(struct probe_ack_wire) == 40, "wire format");
_Static_assert(sizeof(struct transfer_wire) == 24, "wire format");
_Static_assert(sizeof(struct snap_wire) == 48, "wire format");
_Static_assert(sizeof(struct cargo_wire) == 16, "wire format");
_Static_assert(sizeof(struct beat_wire) == 48, "wire format");
_Static_assert(sizeof(struct beat_ack_wire) == 104, "wire format");
_Static_assert(sizeof(struct claim_wire) == 24, "wire format");
_Static_assert(sizeof(struct mark_wire) == 24, "wire format");
_Static_assert(sizeof(struct item_wire) == 16, "wire format");
_Static_assert(HEAD + sizeof(struct snap_wire) + sizeof(struct cargo_wire) == TORC_PEER_SNAP_HEAD,
               "wire format");
_Static_assert(HEAD + sizeof(struct epoch_wire) + TORC_MEMBERS_MAX * sizeof(struct member_wire) +
                       TORC_EPOCHS_MAX * sizeof(struct entry_wire) <=
                   TORC_PEER_OP_BYTES,
               "the longest EPOCH");
_Static_assert(HEAD + sizeof(struct claim_wire) + TORC_CLAIM_ITEMS_MAX * sizeof(struct item_wire) <=
                   TORC_PEER_OP_BYTES,
               "the longest CLAIM");

// -- Names ---------------------------------------------------------------------------------------

const char *torc_peer_opcode_name(uint8_t opcode)
{
    switch (opcode) {
#define X(name, code, explanation) \
    case code: return #name;
        TORC_PEER_OPCODE_TABLE(X)
#undef X
    default: return NULL;
    }
}

enum torc_peer_opcode torc_peer_opcode_of(enum torc_peer_kind kind)
{
    switch (kind) {
#define X(name, member, type) \
    case TORC_PEER_##name: return TORC_PEER_OP_##name;
        TORC_PEER_TABLE(X)
#undef X
    }
    torc_unreachable("all kinds are listed");
}

// Kinds and opcodes run side by side.
#define X(name, member, type)                                                                   \
    _Static_assert((int)TORC_PEER_OP_##name == (int)TORC_PEER_OP_EPOCH + (int)TORC_PEER_##name, \
                   "kinds");
TORC_PEER_TABLE(X)
#undef X

// -- Encoding ------------------------------------------------------------------------------------

static uint32_t append_encode(unsigned char *body, const struct torc_peer_message *message)
{
    struct torc_peer_append_wire wire = {.epoch = torc_le32(message->append.epoch),
                                         .first_lsn = torc_le64(message->append.first_lsn),
                                         .commit_lsn = torc_le64(message->append.commit_lsn)};

    torc_assert(message->append.count == 0);
    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t ack_encode(unsigned char *body, const struct torc_peer_ack *ack)
{
    struct ack_wire wire = {
        .epoch = torc_le32(ack->epoch),
        .flags = (uint8_t)((ack->needs_base ? ACK_NEEDS_BASE : 0) | (ack->usable ? ACK_USABLE : 0)),
        .copy = torc_le64(ack->copy),
        .received_lsn = torc_le64(ack->received_lsn),
        .durable_lsn = torc_le64(ack->durable_lsn),
        .stream = torc_le64(ack->stream)};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t refuse_encode(unsigned char *body, const struct torc_peer_refuse *refuse)
{
    struct refuse_wire wire = {torc_le32(refuse->epoch), torc_le32(refuse->my_epoch)};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t epoch_encode(unsigned char *body, const struct torc_peer_epoch *epoch)
{
    const struct torc_configuration *configuration = &epoch->configuration;
    uint32_t bytes = sizeof(struct epoch_wire);
    struct epoch_wire wire = {.epoch = torc_le32(configuration->epoch),
                              .primary_node = torc_le32(configuration->primary_node),
                              .primary_boot = torc_le64(configuration->primary_boot),
                              .nonce = torc_le64(configuration->nonce),
                              .last_lsn = torc_le64(epoch->last_lsn),
                              .floor_lsn = torc_le64(epoch->floor_lsn),
                              .flags = epoch->active ? EPOCH_ACTIVE : 0,
                              .member_count = (uint8_t)configuration->member_count,
                              .entry_count = (uint8_t)epoch->table.count};

    torc_assert(configuration->member_count <= TORC_MEMBERS_MAX);
    torc_assert(epoch->table.count <= TORC_EPOCHS_MAX);
    memcpy(body, &wire, sizeof(wire));
    for (uint32_t i = 0; i < configuration->member_count; i++) {
        struct member_wire member = {.copy = torc_le64(configuration->members[i].copy),
                                     .node = torc_le32(configuration->members[i].node)};

        memcpy(body + bytes, &member, sizeof(member));
        bytes += sizeof(member);
    }
    for (uint32_t i = 0; i < epoch->table.count; i++) {
        struct entry_wire entry = {.first_lsn = torc_le64(epoch->table.entries[i].first_lsn),
                                   .epoch = torc_le32(epoch->table.entries[i].epoch)};

        memcpy(body + bytes, &entry, sizeof(entry));
        bytes += sizeof(entry);
    }
    return bytes;
}

static uint32_t probe_encode(unsigned char *body, const struct torc_peer_probe *probe)
{
    struct probe_wire wire = {torc_le32(probe->epoch), torc_le32(probe->suspect_node)};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t probe_ack_encode(unsigned char *body, const struct torc_peer_probe_ack *ack)
{
    struct probe_ack_wire wire = {
        .epoch = torc_le32(ack->epoch),
        .suspect_node = torc_le32(ack->suspect_node),
        .copy = torc_le64(ack->copy),
        .received_lsn = torc_le64(ack->received_lsn),
        .commit_lsn = torc_le64(ack->commit_lsn),
        .flags = (uint8_t)((ack->hears ? PROBE_HEARS : 0) | (ack->serving ? PROBE_SERVING : 0))};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t transfer_encode(unsigned char *body, const struct torc_peer_transfer *transfer)
{
    struct transfer_wire wire = {.epoch = torc_le32(transfer->epoch),
                                 .last_lsn = torc_le64(transfer->last_lsn),
                                 .ceiling = torc_le64(transfer->ceiling)};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t snap_encode(unsigned char *body, const struct torc_peer_snap *snap,
                            const struct torc_peer_cargo *cargo)
{
    struct snap_wire wire = {.kind = (uint8_t)snap->kind,
                             .epoch = torc_le32(snap->epoch),
                             .base_epoch = torc_le32(snap->base_epoch),
                             .piece = torc_le32(snap->piece),
                             .stream = torc_le64(snap->stream),
                             .base_lsn = torc_le64(snap->base_lsn),
                             .end_lsn = torc_le64(snap->end_lsn),
                             .end_hlc = torc_le64(snap->end_hlc)};
    struct cargo_wire head = {.total_bytes = torc_le32(cargo->total_bytes),
                              .part_bytes = torc_le32(cargo->part_bytes),
                              .part = torc_le32(cargo->part)};

    memcpy(body, &wire, sizeof(wire));
    if (snap->kind != TORC_SNAP_PIECE) {
        return sizeof(wire);
    }
    torc_assert(torc_peer_cargo_ok(cargo));
    memcpy(body + sizeof(wire), &head, sizeof(head));
    memcpy(body + sizeof(wire) + sizeof(head), cargo->bytes, cargo->byte_count);
    return sizeof(wire) + sizeof(head) + cargo->byte_count;
}

static uint32_t mark_encode(unsigned char *body, const struct torc_peer_mark *mark)
{
    struct mark_wire wire = {.flags = mark->asks ? MARK_ASKS : 0,
                             .commit_lsn = torc_le64(mark->commit_lsn),
                             .asked_ns = torc_le64(mark->asked_ns)};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t beat_encode(unsigned char *body, const struct torc_beat *beat)
{
    struct beat_wire wire = {.sent_ns = torc_le64(beat->sent_ns),
                             .wall_us = torc_le64(beat->wall_us),
                             .claim_version = torc_le64(beat->claim_version),
                             .ceiling = torc_le64(beat->ceiling),
                             .open_hlc = torc_le64(beat->open_hlc),
                             .stretch = beat->stretch,
                             .health = beat->health};

    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t beat_ack_encode(unsigned char *body, const struct torc_beat_ack *ack)
{
    struct beat_ack_wire wire = {.echo_ns = torc_le64(ack->echo_ns),
                                 .claim_version = torc_le64(ack->claim_version),
                                 .ceiling = torc_le64(ack->ceiling),
                                 .hint_shard = torc_le32(ack->hint_shard),
                                 .hint_epoch = torc_le32(ack->hint_epoch),
                                 .stretch = ack->stretch};

    for (uint32_t i = 0; i < TORC_COUNT_OF(wire.promised); i++) {
        wire.promised[i] = torc_le64(ack->promised[i]);
    }
    memcpy(body, &wire, sizeof(wire));
    return sizeof(wire);
}

static uint32_t claim_encode(unsigned char *body, const struct torc_peer_claim *claim)
{
    uint32_t bytes = sizeof(struct claim_wire);
    struct claim_wire wire = {.from_version = torc_le64(claim->from_version),
                              .version = torc_le64(claim->version),
                              .count = torc_le32(claim->count)};

    torc_assert(claim->count <= TORC_CLAIM_ITEMS_MAX);
    memcpy(body, &wire, sizeof(wire));
    for (uint32_t i = 0; i < claim->count; i++) {
        struct item_wire item = {.shard = torc_le32(claim->items[i].shard),
                                 .epoch = torc_le32(claim->items[i].epoch),
                                 .slot = torc_le16(claim->items[i].slot)};

        memcpy(body + bytes, &item, sizeof(item));
        bytes += sizeof(item);
    }
    return bytes;
}

uint32_t torc_peer_op_encode(unsigned char *to, const struct torc_peer_op *op)
{
    const struct torc_peer_message *message = &op->message;
    unsigned char *body = to + HEAD;
    uint32_t bytes = 0;

    switch (op->opcode) {
    case TORC_PEER_OP_APPEND: bytes = append_encode(body, message); break;
    case TORC_PEER_OP_ACK: bytes = ack_encode(body, &message->ack); break;
    case TORC_PEER_OP_REFUSE: bytes = refuse_encode(body, &message->refuse); break;
    case TORC_PEER_OP_EPOCH: bytes = epoch_encode(body, &message->epoch); break;
    case TORC_PEER_OP_PROBE: bytes = probe_encode(body, &message->probe); break;
    case TORC_PEER_OP_PROBE_ACK: bytes = probe_ack_encode(body, &message->probe_ack); break;
    case TORC_PEER_OP_TRANSFER: bytes = transfer_encode(body, &message->transfer); break;
    case TORC_PEER_OP_SNAP: bytes = snap_encode(body, &message->snap, &op->cargo); break;
    case TORC_PEER_OP_MARK: bytes = mark_encode(body, &op->mark); break;
    case TORC_PEER_OP_BEAT: bytes = beat_encode(body, &op->beat); break;
    case TORC_PEER_OP_BEAT_ACK: bytes = beat_ack_encode(body, &op->beat_ack); break;
    case TORC_PEER_OP_CLAIM: bytes = claim_encode(body, &op->claim); break;
    }
    torc_assert(bytes > 0);
    return peer_head_write(to, (uint8_t)op->opcode, HEAD + bytes,
                           op->opcode == TORC_PEER_OP_MARK   ? op->mark.shard
                           : op->opcode <= TORC_PEER_OP_SNAP ? message->shard
                                                             : 0);
}

uint32_t torc_peer_op_bytes(const struct torc_peer_op *op)
{
    switch (op->opcode) {
    case TORC_PEER_OP_APPEND: return HEAD + sizeof(struct torc_peer_append_wire);
    case TORC_PEER_OP_ACK: return HEAD + sizeof(struct ack_wire);
    case TORC_PEER_OP_REFUSE: return HEAD + sizeof(struct refuse_wire);
    case TORC_PEER_OP_EPOCH:
        return HEAD + (uint32_t)sizeof(struct epoch_wire) +
               op->message.epoch.configuration.member_count * (uint32_t)sizeof(struct member_wire) +
               op->message.epoch.table.count * (uint32_t)sizeof(struct entry_wire);
    case TORC_PEER_OP_PROBE: return HEAD + sizeof(struct probe_wire);
    case TORC_PEER_OP_PROBE_ACK: return HEAD + sizeof(struct probe_ack_wire);
    case TORC_PEER_OP_TRANSFER: return HEAD + sizeof(struct transfer_wire);
    case TORC_PEER_OP_SNAP:
        return op->message.snap.kind == TORC_SNAP_PIECE ? TORC_PEER_SNAP_HEAD + op->cargo.byte_count
                                                        : HEAD + (uint32_t)sizeof(struct snap_wire);
    case TORC_PEER_OP_MARK: return HEAD + sizeof(struct mark_wire);
    case TORC_PEER_OP_BEAT: return HEAD + sizeof(struct beat_wire);
    case TORC_PEER_OP_BEAT_ACK: return HEAD + sizeof(struct beat_ack_wire);
    case TORC_PEER_OP_CLAIM:
        return HEAD + (uint32_t)sizeof(struct claim_wire) +
               op->claim.count * (uint32_t)sizeof(struct item_wire);
    }
    torc_unreachable("all opcodes are listed");
}

// -- Decoding ------------------------------------------------------------------------------------

// A body of exactly these bytes.
static bool body_take(void *wire, uint32_t wire_bytes, const unsigned char *body,
                      uint32_t byte_count)
{
    if (byte_count != wire_bytes) {
        return false;
    }
    memcpy(wire, body, wire_bytes);
    return true;
}

static bool lsn_ok(uint64_t lsn)
{
    return lsn <= TORC_PEER_LSN_MAX;
}

static enum torc_err ack_decode(struct torc_peer_ack *ack, const unsigned char *body,
                                uint32_t byte_count, struct torc_fail *why)
{
    struct ack_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "ACK: length");
    }
    *ack = (struct torc_peer_ack){.epoch = torc_get_le32(wire.epoch),
                                  .copy = torc_get_le64(wire.copy),
                                  .received_lsn = torc_get_le64(wire.received_lsn),
                                  .durable_lsn = torc_get_le64(wire.durable_lsn),
                                  .stream = torc_get_le64(wire.stream),
                                  .needs_base = (wire.flags & ACK_NEEDS_BASE) != 0,
                                  .usable = (wire.flags & ACK_USABLE) != 0};
    if ((wire.flags & ~(ACK_NEEDS_BASE | ACK_USABLE)) != 0) {
        return peer_bad(why, "ACK: flags");
    }
    return lsn_ok(ack->received_lsn) && lsn_ok(ack->durable_lsn) ? TORC_ERR_OK
                                                                 : peer_bad(why, "ACK: LSN");
}

static enum torc_err refuse_decode(struct torc_peer_refuse *refuse, const unsigned char *body,
                                   uint32_t byte_count, struct torc_fail *why)
{
    struct refuse_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "REFUSE: length");
    }
    *refuse = (struct torc_peer_refuse){torc_get_le32(wire.epoch), torc_get_le32(wire.my_epoch)};
    return TORC_ERR_OK;
}

// Members: different nodes, the primary among them.
static bool members_decode(struct torc_configuration *configuration, const unsigned char *bytes)
{
    bool primary = false;

    for (uint32_t i = 0; i < configuration->member_count; i++) {
        struct member_wire wire;

        memcpy(&wire, bytes + i * sizeof(wire), sizeof(wire));
        configuration->members[i] =
            (struct torc_member){torc_get_le32(wire.node), torc_get_le64(wire.copy)};
        primary |= configuration->members[i].node == configuration->primary_node;
        for (uint32_t before = 0; before < i; before++) {
            if (configuration->members[before].node == configuration->members[i].node) {
                return false;
            }
        }
    }
    return primary;
}

static bool table_decode(struct torc_epoch_table *table, const unsigned char *bytes)
{
    for (uint32_t i = 0; i < table->count; i++) {
        struct torc_epoch_entry *entry = &table->entries[i];
        struct entry_wire wire;

        memcpy(&wire, bytes + i * sizeof(wire), sizeof(wire));
        *entry =
            (struct torc_epoch_entry){torc_get_le32(wire.epoch), torc_get_le64(wire.first_lsn)};
        if (entry->epoch == 0 || !lsn_ok(entry->first_lsn)) {
            return false;
        }
        if (i > 0 && (entry->epoch <= entry[-1].epoch || entry->first_lsn <= entry[-1].first_lsn)) {
            return false;
        }
    }
    return true;
}

static enum torc_err epoch_decode(struct torc_peer_epoch *epoch, const unsigned char *body,
                                  uint32_t byte_count, struct torc_fail *why)
{
    struct torc_configuration *configuration = &epoch->configuration;
    struct epoch_wire wire;
    const unsigned char *members = body + sizeof(wire);

    if (byte_count < sizeof(wire)) {
        return peer_bad(why, "EPOCH: length");
    }
    memcpy(&wire, body, sizeof(wire));
    *epoch =
        (struct torc_peer_epoch){.configuration = {.epoch = torc_get_le32(wire.epoch),
                                                   .primary_node = torc_get_le32(wire.primary_node),
                                                   .primary_boot = torc_get_le64(wire.primary_boot),
                                                   .nonce = torc_get_le64(wire.nonce),
                                                   .member_count = wire.member_count},
                                 .table = {.count = wire.entry_count},
                                 .last_lsn = torc_get_le64(wire.last_lsn),
                                 .floor_lsn = torc_get_le64(wire.floor_lsn),
                                 .active = (wire.flags & EPOCH_ACTIVE) != 0};
    if (wire.member_count == 0 || wire.member_count > TORC_MEMBERS_MAX ||
        wire.entry_count > TORC_EPOCHS_MAX || (wire.flags & ~EPOCH_ACTIVE) != 0) {
        return peer_bad(why, "EPOCH: counts or flags");
    }
    if (byte_count != sizeof(wire) + wire.member_count * sizeof(struct member_wire) +
                          wire.entry_count * sizeof(struct entry_wire)) {
        return peer_bad(why, "EPOCH: length");
    }
    if (configuration->epoch == 0 || !members_decode(configuration, members)) {
        return peer_bad(why, "EPOCH: configuration");
    }
    if (!table_decode(&epoch->table, members + wire.member_count * sizeof(struct member_wire)) ||
        !lsn_ok(epoch->last_lsn) || !lsn_ok(epoch->floor_lsn)) {
        return peer_bad(why, "EPOCH: table or LSN");
    }
    return TORC_ERR_OK;
}

static enum torc_err probe_decode(struct torc_peer_probe *probe, const unsigned char *body,
                                  uint32_t byte_count, struct torc_fail *why)
{
    struct probe_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "PROBE: length");
    }
    *probe = (struct torc_peer_probe){torc_get_le32(wire.epoch), torc_get_le32(wire.suspect_node)};
    return TORC_ERR_OK;
}

static enum torc_err probe_ack_decode(struct torc_peer_probe_ack *ack, const unsigned char *body,
                                      uint32_t byte_count, struct torc_fail *why)
{
    struct probe_ack_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "PROBE_ACK: length");
    }
    *ack = (struct torc_peer_probe_ack){.epoch = torc_get_le32(wire.epoch),
                                        .suspect_node = torc_get_le32(wire.suspect_node),
                                        .copy = torc_get_le64(wire.copy),
                                        .received_lsn = torc_get_le64(wire.received_lsn),
                                        .commit_lsn = torc_get_le64(wire.commit_lsn),
                                        .hears = (wire.flags & PROBE_HEARS) != 0,
                                        .serving = (wire.flags & PROBE_SERVING) != 0};
    if ((wire.flags & ~(PROBE_HEARS | PROBE_SERVING)) != 0 || !lsn_ok(ack->received_lsn) ||
        !lsn_ok(ack->commit_lsn)) {
        return peer_bad(why, "PROBE_ACK: flags or LSN");
    }
    return TORC_ERR_OK;
}

static enum torc_err transfer_decode(struct torc_peer_transfer *transfer, const unsigned char *body,
                                     uint32_t byte_count, struct torc_fail *why)
{
    struct transfer_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "TRANSFER: length");
    }
    *transfer = (struct torc_peer_transfer){.epoch = torc_get_le32(wire.epoch),
                                            .last_lsn = torc_get_le64(wire.last_lsn),
                                            .ceiling = torc_get_le64(wire.ceiling)};
    return lsn_ok(transfer->last_lsn) ? TORC_ERR_OK : peer_bad(why, "TRANSFER: LSN");
}

bool torc_peer_cargo_ok(const struct torc_peer_cargo *cargo)
{
    uint64_t before = (uint64_t)cargo->part * cargo->part_bytes;

    if (cargo->total_bytes == 0 || cargo->total_bytes > TORC_PEER_CARGO_MAX) {
        return false;
    }
    if (cargo->byte_count == cargo->total_bytes) {
        return cargo->part == 0 && cargo->part_bytes == cargo->total_bytes;
    }
    return cargo->part_bytes >= TORC_PEER_PART_MIN && cargo->part_bytes % 8 == 0 &&
           before < cargo->total_bytes &&
           cargo->byte_count ==
               torc_peer_part_bytes(cargo->total_bytes, cargo->part_bytes, cargo->part);
}

static enum torc_err snap_decode(struct torc_peer_op *op, const unsigned char *body,
                                 uint32_t byte_count, struct torc_fail *why)
{
    struct torc_peer_snap *snap = &op->message.snap;
    struct snap_wire wire;
    struct cargo_wire cargo;

    if (byte_count < sizeof(wire)) {
        return peer_bad(why, "SNAP: length");
    }
    memcpy(&wire, body, sizeof(wire));
    *snap = (struct torc_peer_snap){.kind = (enum torc_snap_kind)wire.kind,
                                    .epoch = torc_get_le32(wire.epoch),
                                    .base_epoch = torc_get_le32(wire.base_epoch),
                                    .piece = torc_get_le32(wire.piece),
                                    .stream = torc_get_le64(wire.stream),
                                    .base_lsn = torc_get_le64(wire.base_lsn),
                                    .end_lsn = torc_get_le64(wire.end_lsn),
                                    .end_hlc = torc_get_le64(wire.end_hlc)};
    if (wire.kind > TORC_SNAP_ACK || !lsn_ok(snap->base_lsn) || !lsn_ok(snap->end_lsn)) {
        return peer_bad(why, "SNAP: kind or LSN");
    }
    if (wire.kind != TORC_SNAP_PIECE) {
        return byte_count == sizeof(wire) ? TORC_ERR_OK : peer_bad(why, "SNAP: length");
    }
    if (byte_count < sizeof(wire) + sizeof(cargo)) {
        return peer_bad(why, "SNAP: length");
    }
    memcpy(&cargo, body + sizeof(wire), sizeof(cargo));
    op->cargo = (struct torc_peer_cargo){.bytes = body + sizeof(wire) + sizeof(cargo),
                                         .byte_count = byte_count - (uint32_t)sizeof(wire) -
                                                       (uint32_t)sizeof(cargo),
                                         .total_bytes = torc_get_le32(cargo.total_bytes),
                                         .part_bytes = torc_get_le32(cargo.part_bytes),
                                         .part = torc_get_le32(cargo.part)};
    return torc_peer_cargo_ok(&op->cargo) ? TORC_ERR_OK : peer_bad(why, "SNAP: parts");
}

static enum torc_err mark_decode(struct torc_peer_mark *mark, const unsigned char *body,
                                 uint32_t byte_count, struct torc_fail *why)
{
    struct mark_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "MARK: length");
    }
    mark->asks = wire.flags == MARK_ASKS;
    mark->commit_lsn = torc_get_le64(wire.commit_lsn);
    mark->asked_ns = torc_get_le64(wire.asked_ns);
    return wire.flags <= MARK_ASKS && mark->commit_lsn <= TORC_PEER_LSN_MAX
               ? TORC_ERR_OK
               : peer_bad(why, "MARK: flags or LSN");
}

static enum torc_err beat_decode(struct torc_beat *beat, const unsigned char *body,
                                 uint32_t byte_count, struct torc_fail *why)
{
    struct beat_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "BEAT: length");
    }
    *beat = (struct torc_beat){.sent_ns = torc_get_le64(wire.sent_ns),
                               .wall_us = torc_get_le64(wire.wall_us),
                               .claim_version = torc_get_le64(wire.claim_version),
                               .ceiling = torc_get_le64(wire.ceiling),
                               .open_hlc = torc_get_le64(wire.open_hlc),
                               .stretch = wire.stretch,
                               .health = wire.health};
    return torc_peer_stretch_ok(wire.stretch) ? TORC_ERR_OK : peer_bad(why, "BEAT: stretch");
}

static enum torc_err beat_ack_decode(struct torc_beat_ack *ack, const unsigned char *body,
                                     uint32_t byte_count, struct torc_fail *why)
{
    struct beat_ack_wire wire;

    if (!body_take(&wire, sizeof(wire), body, byte_count)) {
        return peer_bad(why, "BEAT_ACK: length");
    }
    *ack = (struct torc_beat_ack){.echo_ns = torc_get_le64(wire.echo_ns),
                                  .claim_version = torc_get_le64(wire.claim_version),
                                  .ceiling = torc_get_le64(wire.ceiling),
                                  .stretch = wire.stretch,
                                  .hint_shard = torc_get_le32(wire.hint_shard),
                                  .hint_epoch = torc_get_le32(wire.hint_epoch)};
    for (uint32_t i = 0; i < TORC_COUNT_OF(ack->promised); i++) {
        ack->promised[i] = torc_get_le64(wire.promised[i]);
    }
    return torc_peer_stretch_ok(wire.stretch) ? TORC_ERR_OK : peer_bad(why, "BEAT_ACK: stretch");
}

static enum torc_err claim_decode(struct torc_peer_claim *claim, const unsigned char *body,
                                  uint32_t byte_count, struct torc_fail *why)
{
    struct claim_wire wire;

    if (byte_count < sizeof(wire)) {
        return peer_bad(why, "CLAIM: length");
    }
    memcpy(&wire, body, sizeof(wire));
    *claim = (struct torc_peer_claim){.from_version = torc_get_le64(wire.from_version),
                                      .version = torc_get_le64(wire.version),
                                      .count = torc_get_le32(wire.count)};
    if (claim->count > TORC_CLAIM_ITEMS_MAX || claim->from_version > claim->version ||
        byte_count != sizeof(wire) + claim->count * sizeof(struct item_wire)) {
        return peer_bad(why, "CLAIM: count, length or versions");
    }
    for (uint32_t i = 0; i < claim->count; i++) {
        struct item_wire item;

        memcpy(&item, body + sizeof(wire) + i * sizeof(item), sizeof(item));
        claim->items[i] = (struct torc_claim_item){.slot = torc_get_le16(item.slot),
                                                   .shard = torc_get_le32(item.shard),
                                                   .epoch = torc_get_le32(item.epoch)};
        if (claim->items[i].slot >= TORC_CLAIMS_MAX) {
            return peer_bad(why, "CLAIM: slot");
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_peer_op_decode(struct torc_peer_op *op, const unsigned char *bytes,
                                  uint32_t length, struct torc_fail *why)
{
    const unsigned char *body = bytes + HEAD;
    uint32_t body_bytes = length - HEAD;
    struct torc_peer_head_wire head;
    struct torc_peer_message *message = &op->message;

    torc_assert(length >= HEAD);
    memcpy(&head, bytes, sizeof(head));
    op->opcode = (enum torc_peer_opcode)head.opcode;
    op->cargo = (struct torc_peer_cargo){0};
    op->records = (struct torc_peer_records){0};
    if (head.flags != 0 || torc_get_le32(head.op_id) != 0 || torc_get_le32(head.budget_us) != 0) {
        return peer_bad(why, "a node's operation has no flags, id or budget");
    }
    if (torc_peer_opcode_name(head.opcode) == NULL) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED, "opcode %02x is not known", head.opcode);
    }
    if (head.opcode <= TORC_PEER_OP_SNAP) {
        message->kind = (enum torc_peer_kind)(head.opcode - TORC_PEER_OP_EPOCH);
        message->shard = torc_get_le32(head.aux);
    } else if (head.opcode == TORC_PEER_OP_MARK) {
        op->mark.shard = torc_get_le32(head.aux);
    } else if (torc_get_le32(head.aux) != 0) {
        return peer_bad(why, "a message between nodes has no shard");
    }
    switch (op->opcode) {
    case TORC_PEER_OP_APPEND: return torc_peer_append_decode(op, body, body_bytes, why);
    case TORC_PEER_OP_ACK: return ack_decode(&message->ack, body, body_bytes, why);
    case TORC_PEER_OP_REFUSE: return refuse_decode(&message->refuse, body, body_bytes, why);
    case TORC_PEER_OP_EPOCH: return epoch_decode(&message->epoch, body, body_bytes, why);
    case TORC_PEER_OP_PROBE: return probe_decode(&message->probe, body, body_bytes, why);
    case TORC_PEER_OP_PROBE_ACK:
        return probe_ack_decode(&message->probe_ack, body, body_bytes, why);
    case TORC_PEER_OP_TRANSFER: return transfer_decode(&message->transfer, body, body_bytes, why);
    case TORC_PEER_OP_SNAP: return snap_decode(op, body, body_bytes, why);
    case TORC_PEER_OP_MARK: return mark_decode(&op->mark, body, body_bytes, why);
    case TORC_PEER_OP_BEAT: return beat_decode(&op->beat, body, body_bytes, why);
    case TORC_PEER_OP_BEAT_ACK: return beat_ack_decode(&op->beat_ack, body, body_bytes, why);
    case TORC_PEER_OP_CLAIM: return claim_decode(&op->claim, body, body_bytes, why);
    }
    torc_unreachable("unknown opcodes have no name");
}
