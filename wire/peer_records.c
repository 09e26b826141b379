// Torc wire: records in an APPEND; see peer_codec.h.
#include "wire/peer_impl.h"

enum {
    RECORD_WITH_CLIENT = 1,
    RECORD_PART = 2, // the value is one part of a longer one
};

struct record_wire { // then client_wire, then part_wire, then the value's bytes
    uint8_t kind;
    uint8_t flags;
    struct torc_le16 zero;
    struct torc_le32 value_bytes; // of the whole value
    struct torc_le64 hlc;
    struct torc_le64 key;
};

struct client_wire {
    struct torc_le64 client;
    struct torc_le64 seq;
    struct torc_le32 principal;
    struct torc_le32 behind; // seq - low
};

struct part_wire {
    struct torc_le32 part_bytes;
    struct torc_le32 part;
};

_Static_assert(sizeof(struct record_wire) == 24, "wire format");
_Static_assert(sizeof(struct client_wire) == 24, "wire format");
_Static_assert(sizeof(struct part_wire) == 8, "wire format");
_Static_assert(sizeof(struct record_wire) + sizeof(struct client_wire) + sizeof(struct part_wire) ==
                   TORC_PEER_RECORD_MAX,
               "wire format");

static uint32_t record_head_bytes(bool with_client)
{
    return (uint32_t)sizeof(struct record_wire) +
           (with_client ? (uint32_t)sizeof(struct client_wire) : 0);
}

uint64_t torc_peer_record_bytes(const struct torc_peer_record *record)
{
    return record_head_bytes(record->with_client) + (((uint64_t)record->value_bytes + 7) & ~7ull);
}

// -- Building ------------------------------------------------------------------------------------

void torc_peer_append_begin(struct torc_peer_append_builder *builder, unsigned char *to,
                            uint32_t room, const struct torc_peer_message *message)
{
    struct torc_peer_append_wire wire = {.epoch = torc_le32(message->append.epoch),
                                         .commit_lsn = torc_le64(message->append.commit_lsn)};

    torc_assert(message->kind == TORC_PEER_APPEND);
    torc_assert(room >= TORC_PEER_APPEND_HEAD);
    memcpy(to + HEAD, &wire, sizeof(wire));
    *builder = (struct torc_peer_append_builder){.to = to,
                                                 .room = room < UINT16_MAX ? room : UINT16_MAX - 7,
                                                 .used = TORC_PEER_APPEND_HEAD,
                                                 .shard = message->shard};
}

static void append_first(struct torc_peer_append_builder *builder,
                         const struct torc_peer_record *record)
{
    unsigned char *body = builder->to + HEAD;
    struct torc_le32 epoch = torc_le32(record->epoch);
    struct torc_le64 lsn = torc_le64(record->lsn);

    torc_assert(record->epoch > 0);
    torc_assert(record->lsn > 0);
    memcpy(body + offsetof(struct torc_peer_append_wire, record_epoch), &epoch, sizeof(epoch));
    memcpy(body + offsetof(struct torc_peer_append_wire, first_lsn), &lsn, sizeof(lsn));
    builder->epoch = record->epoch;
    builder->next_lsn = record->lsn;
}

// Head and client; returns their bytes.
static uint32_t record_head_write(unsigned char *to, const struct torc_peer_record *record,
                                  uint8_t flags)
{
    struct record_wire wire = {
        .kind = (uint8_t)record->kind,
        .flags = (uint8_t)(flags | (record->with_client ? RECORD_WITH_CLIENT : 0)),
        .value_bytes = torc_le32(record->value_bytes),
        .hlc = torc_le64(record->hlc),
        .key = torc_le64(record->key)};
    struct client_wire client = {.client = torc_le64(record->client),
                                 .seq = torc_le64(record->seq),
                                 .principal = torc_le32(record->principal),
                                 .behind = torc_le32((uint32_t)(record->seq - record->low))};

    memcpy(to, &wire, sizeof(wire));
    if (record->with_client) {
        torc_assert(record->low <= record->seq);
        torc_assert(record->seq - record->low <= UINT32_MAX);
        memcpy(to + sizeof(wire), &client, sizeof(client));
    }
    return record_head_bytes(record->with_client);
}

bool torc_peer_append_add(struct torc_peer_append_builder *builder,
                          const struct torc_peer_record *record)
{
    uint64_t bytes = torc_peer_record_bytes(record);
    unsigned char *to = builder->to + builder->used;
    uint32_t head;

    torc_assert(record->shard == builder->shard);
    if (bytes > builder->room - builder->used || builder->count == TORC_PEER_APPEND_MAX) {
        return false;
    }
    if (builder->count == 0) {
        append_first(builder, record);
    } else if (record->epoch != builder->epoch || record->lsn != builder->next_lsn) {
        return false;
    }
    head = record_head_write(to, record, 0);
    if (record->value_bytes > 0) {
        memset(to + bytes - 8, 0, 8);
        memcpy(to + head, record->value, record->value_bytes);
    }
    builder->used += (uint32_t)bytes;
    builder->count++;
    builder->next_lsn++;
    return true;
}

void torc_peer_append_part(struct torc_peer_append_builder *builder,
                           const struct torc_peer_record *record, uint32_t part_bytes,
                           uint32_t part)
{
    uint32_t byte_count = torc_peer_part_bytes(record->value_bytes, part_bytes, part);
    struct part_wire wire = {torc_le32(part_bytes), torc_le32(part)};
    unsigned char *to = builder->to + builder->used;
    uint32_t head = record_head_bytes(record->with_client) + (uint32_t)sizeof(wire);

    torc_assert(builder->count == 0);
    torc_assert(record->kind == TORC_PEER_RECORD_PUT);
    torc_assert(part_bytes >= TORC_PEER_PART_MIN && part_bytes % 8 == 0);
    torc_assert(part < torc_peer_parts(record->value_bytes, part_bytes));
    torc_assert(builder->used + head + byte_count <= builder->room);
    append_first(builder, record);
    (void)record_head_write(to, record, RECORD_PART);
    memcpy(to + head - sizeof(wire), &wire, sizeof(wire));
    memcpy(to + head, (const unsigned char *)record->value + (uint64_t)part * part_bytes,
           byte_count);
    builder->used += head + byte_count; // the last thing in here: the end pads it
    builder->count = 1;
}

uint32_t torc_peer_append_end(struct torc_peer_append_builder *builder)
{
    struct torc_le16 count = torc_le16((uint16_t)builder->count);

    memcpy(builder->to + HEAD + offsetof(struct torc_peer_append_wire, count), &count,
           sizeof(count));
    return peer_head_write(builder->to, TORC_PEER_OP_APPEND, builder->used, builder->shard);
}

// -- Decoding ------------------------------------------------------------------------------------

// One record at `bytes`, of which byte_count are there. Its bytes, or 0: it is none. *flags: which
// parts it has; of one in parts the value is what follows it.
static uint32_t record_decode(struct torc_peer_record *record, uint8_t *flags,
                              const unsigned char *bytes, uint32_t byte_count)
{
    struct record_wire wire;
    struct client_wire client;
    uint32_t at = sizeof(wire);

    if (byte_count < sizeof(wire)) {
        return 0;
    }
    memcpy(&wire, bytes, sizeof(wire));
    *flags = wire.flags;
    record->kind = (enum torc_peer_record_kind)wire.kind;
    record->with_client = (wire.flags & RECORD_WITH_CLIENT) != 0;
    record->value_bytes = torc_get_le32(wire.value_bytes);
    record->hlc = torc_get_le64(wire.hlc);
    record->key = torc_get_le64(wire.key);
    record->value = NULL;
    if (record->with_client) {
        if (byte_count < at + sizeof(client)) {
            return 0;
        }
        memcpy(&client, bytes + at, sizeof(client));
        at += sizeof(client);
        record->client = torc_get_le64(client.client);
        record->seq = torc_get_le64(client.seq);
        record->principal = torc_get_le32(client.principal);
        record->low = record->seq - torc_get_le32(client.behind);
    }
    return at;
}

static bool record_ok(const struct torc_peer_record *record, uint8_t flags)
{
    if ((flags & ~(RECORD_WITH_CLIENT | RECORD_PART)) != 0 || record->hlc == 0) {
        return false;
    }
    if (record->with_client && record->low > record->seq) {
        return false;
    }
    switch (record->kind) {
    case TORC_PEER_RECORD_PUT: return record->value_bytes <= TORC_PEER_CARGO_MAX;
    case TORC_PEER_RECORD_DELETE: return record->value_bytes == 0 && (flags & RECORD_PART) == 0;
    case TORC_PEER_RECORD_EPOCH:
    case TORC_PEER_RECORD_EMPTY:
        return record->value_bytes == 0 && record->key == 0 && (flags & RECORD_PART) == 0;
    }
    return false;
}

bool torc_peer_record_next(struct torc_peer_records *records, struct torc_peer_record *record)
{
    uint8_t flags = 0;
    uint32_t head;

    if (records->left == 0) {
        return false;
    }
    *record = (struct torc_peer_record){
        .shard = records->shard, .epoch = records->epoch, .lsn = records->lsn};
    head = record_decode(record, &flags, records->bytes, UINT32_MAX);
    if ((flags & RECORD_PART) != 0) {
        record->value = records->whole != NULL ? records->whole
                                               : records->bytes + head + sizeof(struct part_wire);
    } else {
        record->value = record->value_bytes > 0 ? records->bytes + head : NULL;
        records->bytes += head + ((record->value_bytes + 7) & ~7u);
    }
    records->left--;
    records->lsn++;
    return true;
}

// The only record of its APPEND, with a part of its value: all bytes behind its head.
static bool part_decode(struct torc_peer_cargo *cargo, uint32_t total_bytes,
                        const unsigned char *bytes, uint32_t byte_count)
{
    struct part_wire wire;

    if (byte_count < sizeof(wire)) {
        return false;
    }
    memcpy(&wire, bytes, sizeof(wire));
    *cargo = (struct torc_peer_cargo){.bytes = bytes + sizeof(wire),
                                      .byte_count = byte_count - (uint32_t)sizeof(wire),
                                      .total_bytes = total_bytes,
                                      .part_bytes = torc_get_le32(wire.part_bytes),
                                      .part = torc_get_le32(wire.part)};
    return cargo->byte_count < total_bytes && torc_peer_cargo_ok(cargo);
}

static bool records_check(struct torc_peer_op *op, const unsigned char *bytes, uint32_t byte_count)
{
    uint64_t hlc = 0;

    for (uint32_t left = op->records.left; left > 0; left--) {
        struct torc_peer_record record = {0};
        uint8_t flags = 0;
        uint32_t head = record_decode(&record, &flags, bytes, byte_count);
        uint32_t value = (record.value_bytes + 7) & ~7u;

        if (head == 0 || !record_ok(&record, flags) || record.hlc <= hlc) {
            return false;
        }
        hlc = record.hlc;
        if ((flags & RECORD_PART) != 0) {
            return op->records.left == 1 &&
                   part_decode(&op->cargo, record.value_bytes, bytes + head, byte_count - head);
        }
        if (value > byte_count - head) {
            return false;
        }
        bytes += head + value;
        byte_count -= head + value;
    }
    return byte_count == 0;
}

enum torc_err torc_peer_append_decode(struct torc_peer_op *op, const unsigned char *body,
                                      uint32_t byte_count, struct torc_fail *why)
{
    struct torc_peer_append *append = &op->message.append;
    struct torc_peer_append_wire wire;

    if (byte_count < sizeof(wire)) {
        return peer_bad(why, "APPEND: length");
    }
    memcpy(&wire, body, sizeof(wire));
    *append = (struct torc_peer_append){.epoch = torc_get_le32(wire.epoch),
                                        .count = torc_get_le16(wire.count),
                                        .first_lsn = torc_get_le64(wire.first_lsn),
                                        .commit_lsn = torc_get_le64(wire.commit_lsn)};
    if (append->count > TORC_PEER_APPEND_MAX ||
        append->first_lsn > TORC_PEER_LSN_MAX - TORC_PEER_APPEND_MAX ||
        append->commit_lsn > TORC_PEER_LSN_MAX) {
        return peer_bad(why, "APPEND: count or LSN");
    }
    op->records = (struct torc_peer_records){.bytes = body + sizeof(wire),
                                             .left = append->count,
                                             .shard = op->message.shard,
                                             .epoch = torc_get_le32(wire.record_epoch),
                                             .lsn = append->first_lsn};
    if ((append->count > 0) != (op->records.epoch > 0) ||
        (append->count > 0 && append->first_lsn == 0)) {
        return peer_bad(why, "APPEND: epoch or LSN of records");
    }
    if (append->count > 0) { // P2
        append->runs.count = 1;
        append->runs.entries[0] = (struct torc_epoch_entry){op->records.epoch, append->first_lsn};
    }
    return records_check(op, body + sizeof(wire), byte_count - (uint32_t)sizeof(wire))
               ? TORC_ERR_OK
               : peer_bad(why, "APPEND: a record does not decode");
}
