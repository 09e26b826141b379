// Torc storage: building and reading blocks of the log. See storage/log_format.h.
#include "storage/log_format.h"

#include "kit/chan.h"
#include "kit/crc32c.h"
#include "storage/varint.h"

#include <string.h>

#define HEADER_BYTES  ((uint32_t)sizeof(struct torc_log_block_header))
#define SHARD_BYTES   ((uint32_t)sizeof(struct torc_log_shard_entry))
#define CLIENT_BYTES  ((uint32_t)sizeof(struct torc_log_client_entry))
#define CRC_OFFSET    ((uint32_t)offsetof(struct torc_log_block_header, crc))
#define FLAGS_KNOWN   (TORC_LOG_CLOSING | TORC_LOG_UNFINISHED)
#define CLIENT_PLACES (2u * TORC_LOG_CLIENTS_MAX)

_Static_assert(HEADER_BYTES + SHARD_BYTES + CLIENT_BYTES + TORC_LOG_RECORD_BYTES_MAX +
                       TORC_LOG_PIECE_BYTES_MIN <=
                   TORC_LOG_SLOT_BYTES,
               "an empty block takes a piece of any record");

// -- Building -----------------------------------------------------------------------------------

void torc_log_block_begin(struct torc_log_builder *builder, void *memory, uint32_t capacity_bytes)
{
    torc_assert(capacity_bytes > 0 && capacity_bytes % TORC_LOG_SLOT_BYTES == 0);
    torc_assert(capacity_bytes <= TORC_LOG_BLOCK_BYTES_MAX);
    // Only a table that was used is cleared: 4 KiB a block would show in small ones.
    if (builder->memory == NULL || builder->client_count > 0) {
        memset(builder->client_table, 0, sizeof(builder->client_table));
    }
    builder->memory = memory;
    builder->capacity_bytes = capacity_bytes;
    builder->used_bytes = HEADER_BYTES;
    builder->carry_bytes = 0;
    builder->record_count = 0;
    builder->shard_count = 0;
    builder->client_count = 0;
    builder->version = TORC_LOG_VERSION;
    builder->unfinished = false;
}

uint64_t torc_log_record_bytes(const struct torc_log_record *record)
{
    return TORC_LOG_RECORD_BYTES_MAX + SHARD_BYTES + CLIENT_BYTES + (uint64_t)record->value_bytes;
}

static uint32_t builder_bytes(const struct torc_log_builder *builder)
{
    return builder->used_bytes + builder->shard_count * SHARD_BYTES +
           builder->client_count * CLIENT_BYTES;
}

uint32_t torc_log_block_bytes(const struct torc_log_builder *builder)
{
    return (builder_bytes(builder) + TORC_LOG_SLOT_BYTES - 1) / TORC_LOG_SLOT_BYTES *
           TORC_LOG_SLOT_BYTES;
}

bool torc_log_block_is_empty(const struct torc_log_builder *builder)
{
    return builder->record_count == 0 && builder->carry_bytes == 0;
}

// The place of the shard's entry that this record goes on with (G3), or shard_count: a new one.
static uint32_t builder_shard(const struct torc_log_builder *builder,
                              const struct torc_log_record *record)
{
    for (uint32_t i = builder->shard_count; i > 0; i--) {
        const struct torc_log_builder_shard *shard = &builder->shards[i - 1];

        if (shard->shard == record->shard) {
            // A MOVED is there for the commits that its entry tells.
            bool told = record->kind != TORC_LOG_MOVED || record->commit_lsn <= shard->commit_lsn;
            bool goes_on = told && shard->epoch == record->epoch && shard->turn == record->turn &&
                           shard->next_lsn == record->lsn && shard->last_hlc <= record->hlc;

            return goes_on ? i - 1 : builder->shard_count;
        }
    }
    return builder->shard_count;
}

static void builder_shard_add(struct torc_log_builder *builder,
                              const struct torc_log_record *record, uint64_t first_lsn)
{
    torc_assert(builder->shard_count < TORC_LOG_SHARDS_MAX);
    builder->shards[builder->shard_count++] =
        (struct torc_log_builder_shard){.shard = record->shard,
                                        .epoch = record->epoch,
                                        .turn = record->turn,
                                        .first_lsn = first_lsn,
                                        .next_lsn = first_lsn,
                                        .base_hlc = record->hlc,
                                        .last_hlc = record->hlc,
                                        .commit_lsn = record->commit_lsn};
}

// What an entry says of its shard's commits, if it can.
static uint32_t builder_behind(const struct torc_log_builder_shard *shard)
{
    uint64_t behind = shard->first_lsn - shard->commit_lsn;

    torc_assert(shard->commit_lsn < shard->first_lsn);
    return shard->commit_lsn == 0 || behind > UINT32_MAX ? 0 : (uint32_t)behind;
}

// The bucket of a client: where it is, or the free one where it would go.
static uint32_t builder_client(const struct torc_log_builder *builder,
                               const struct torc_log_record *record)
{
    uint64_t mixed = (record->client ^ record->principal) * 0x9e3779b97f4a7c15u;
    uint32_t bucket = (uint32_t)(mixed >> 40) % CLIENT_PLACES;

    while (builder->client_table[bucket] != 0) {
        const struct torc_log_builder_client *client =
            &builder->clients[builder->client_table[bucket] - 1];

        if (client->client == record->client && client->principal == record->principal) {
            break;
        }
        bucket = (bucket + 1) % CLIENT_PLACES;
    }
    return bucket;
}

static uint32_t builder_client_place(struct torc_log_builder *builder,
                                     const struct torc_log_record *record)
{
    uint32_t bucket = builder_client(builder, record);

    if (builder->client_table[bucket] == 0) {
        torc_assert(builder->client_count < TORC_LOG_CLIENTS_MAX);
        builder->clients[builder->client_count] =
            (struct torc_log_builder_client){.client = record->client,
                                             .base_seq = record->seq,
                                             .last_seq = record->seq,
                                             .principal = record->principal};
        builder->client_table[bucket] = (uint16_t)++builder->client_count;
    }
    return builder->client_table[bucket] - 1u;
}

// Everything of a record but its value's bytes, with the dictionaries brought up to it.
static unsigned char *builder_put_head(struct torc_log_builder *builder, unsigned char *at,
                                       const struct torc_log_record *record)
{
    uint32_t place = builder_shard(builder, record);
    struct torc_log_builder_shard *shard = &builder->shards[place];

    if (place == builder->shard_count) {
        builder_shard_add(builder, record, record->lsn);
    }
    *at++ =
        (unsigned char)((unsigned)record->kind | (record->with_client ? TORC_LOG_WITH_CLIENT : 0u));
    at = torc_varint_put(at, place);
    at = torc_varint_put(at, record->hlc - shard->last_hlc);
    shard->last_hlc = record->hlc;
    if (record->with_client) {
        uint32_t client_place = builder_client_place(builder, record);
        struct torc_log_builder_client *client = &builder->clients[client_place];

        torc_assert(record->low <= record->seq);
        at = torc_varint_put(at, client_place);
        at = torc_varint_put(at, torc_zigzag(record->seq - client->last_seq));
        at = torc_varint_put(at, record->seq - record->low);
        client->last_seq = record->seq;
    }
    if (record->kind == TORC_LOG_PUT || record->kind == TORC_LOG_DELETE) {
        at = torc_varint_put(at, record->key);
    }
    if (record->kind == TORC_LOG_PUT) {
        at = torc_varint_put(at, record->value_bytes);
    }
    return at;
}

static void builder_shard_done(struct torc_log_builder_shard *shard,
                               const struct torc_log_record *record)
{
    if (torc_log_kind_has_lsn(record->kind)) {
        shard->next_lsn = record->lsn + 1;
        shard->last_lsn = record->lsn;
    }
}

// The rest of a value, at the start of a block.
static bool builder_carry(struct torc_log_builder *builder, const struct torc_log_record *record,
                          uint32_t *value_done)
{
    uint32_t left = record->value_bytes - *value_done;
    uint32_t room = builder->capacity_bytes - HEADER_BYTES - SHARD_BYTES;
    uint32_t piece = left < room ? left : room;

    torc_assert(torc_log_block_is_empty(builder));
    torc_assert(record->kind == TORC_LOG_PUT && left > 0);
    builder_shard_add(builder, record, record->lsn + 1);
    memcpy(builder->memory + HEADER_BYTES, (const unsigned char *)record->value + *value_done,
           piece);
    builder->carry_bytes = piece;
    builder->used_bytes = HEADER_BYTES + piece;
    builder->unfinished = piece < left;
    *value_done += piece;
    if (!builder->unfinished) {
        builder_shard_done(&builder->shards[0], record);
    }
    return !builder->unfinished;
}

// Bytes that the record and its new dictionary entries would take, without its value; 0 when a
// dictionary is full.
static uint32_t builder_need(const struct torc_log_builder *builder,
                             const struct torc_log_record *record)
{
    uint32_t need = TORC_LOG_RECORD_BYTES_MAX;

    if (builder_shard(builder, record) == builder->shard_count) {
        need += SHARD_BYTES;
        if (builder->shard_count == TORC_LOG_SHARDS_MAX) {
            return 0;
        }
    }
    if (record->with_client && builder->client_table[builder_client(builder, record)] == 0) {
        need += CLIENT_BYTES;
        if (builder->client_count == TORC_LOG_CLIENTS_MAX) {
            return 0;
        }
    }
    return need;
}

bool torc_log_block_append(struct torc_log_builder *builder, const struct torc_log_record *record,
                           uint32_t *value_done)
{
    uint32_t need = builder_need(builder, record);
    uint32_t room = builder->capacity_bytes - builder_bytes(builder);
    uint32_t piece = record->value_bytes;
    uint32_t place;
    unsigned char *at;

    torc_assert(builder->memory != NULL);
    torc_assert(record->kind == TORC_LOG_PUT || record->value_bytes == 0);
    torc_assert(record->value_bytes <= TORC_LOG_VALUE_BYTES_MAX);
    if (*value_done > 0) {
        return builder_carry(builder, record, value_done);
    }
    if (builder->unfinished || need == 0 || room < need) {
        return false;
    }
    if (room - need < piece) {
        bool fits_a_block = torc_log_record_bytes(record) + HEADER_BYTES <= builder->capacity_bytes;

        if (fits_a_block || room - need < TORC_LOG_PIECE_BYTES_MIN) {
            return false;
        }
        piece = room - need;
    }
    at = builder_put_head(builder, builder->memory + builder->used_bytes, record);
    place = builder_shard(builder, record);
    if (piece > 0) {
        memcpy(at, record->value, piece);
    }
    builder->used_bytes = (uint32_t)(at - builder->memory) + piece;
    builder->record_count++;
    builder->version = record->kind == TORC_LOG_BEGUN ? TORC_LOG_VERSION_BEGUN : builder->version;
    torc_assert(builder_bytes(builder) <= builder->capacity_bytes);
    *value_done = piece;
    builder->unfinished = piece < record->value_bytes;
    if (!builder->unfinished) {
        builder_shard_done(&builder->shards[place], record);
    }
    return !builder->unfinished;
}

static uint32_t block_crc(const unsigned char *bytes, uint32_t byte_count)
{
    uint32_t crc = torc_crc32c(0, bytes, CRC_OFFSET);

    return torc_crc32c(crc, bytes + CRC_OFFSET + 4, byte_count - CRC_OFFSET - 4);
}

static void builder_put_dictionaries(const struct torc_log_builder *builder)
{
    unsigned char *at = builder->memory + builder->used_bytes;

    for (uint32_t i = 0; i < builder->shard_count; i++) {
        const struct torc_log_builder_shard *shard = &builder->shards[i];
        struct torc_log_shard_entry entry = {.shard = torc_le32(shard->shard),
                                             .epoch = torc_le32(shard->epoch),
                                             .turn = torc_le32(shard->turn),
                                             .behind = torc_le32(builder_behind(shard)),
                                             .first_lsn = torc_le64(shard->first_lsn),
                                             .base_hlc = torc_le64(shard->base_hlc)};

        memcpy(at, &entry, sizeof(entry));
        at += sizeof(entry);
    }
    for (uint32_t i = 0; i < builder->client_count; i++) {
        const struct torc_log_builder_client *client = &builder->clients[i];
        struct torc_log_client_entry entry = {.client = torc_le64(client->client),
                                              .base_seq = torc_le64(client->base_seq),
                                              .principal = torc_le32(client->principal)};

        memcpy(at, &entry, sizeof(entry));
        at += sizeof(entry);
    }
}

uint32_t torc_log_block_seal(struct torc_log_builder *builder, const struct torc_log_place *place)
{
    uint32_t byte_count = torc_log_block_bytes(builder);
    uint32_t end = builder_bytes(builder);
    unsigned flags =
        (place->closing ? TORC_LOG_CLOSING : 0u) | (builder->unfinished ? TORC_LOG_UNFINISHED : 0u);
    struct torc_log_block_header header = {
        .magic = torc_le32(TORC_LOG_BLOCK_MAGIC),
        .version = torc_le16((uint16_t)builder->version),
        .flags = torc_le16((uint16_t)flags),
        .byte_count = torc_le32(byte_count),
        .payload_bytes = torc_le32(end - HEADER_BYTES),
        .stream = torc_le32(place->stream),
        .segment = torc_le32(place->segment),
        .offset_bytes = torc_le32(place->offset_bytes),
        .sequence = torc_le64(place->sequence),
        .generation = torc_le64(place->generation),
        .durable = torc_le64(place->durable),
        .ceiling = torc_le64(place->ceiling),
        .cluster = torc_le64(place->cluster),
        .node = torc_le32(place->node),
        .carry_bytes = torc_le32(builder->carry_bytes),
        .record_count = torc_le32(builder->record_count),
        .record_bytes = torc_le32(builder->used_bytes - HEADER_BYTES - builder->carry_bytes),
        .shard_count = torc_le16((uint16_t)builder->shard_count),
        .client_count = torc_le16((uint16_t)builder->client_count)};

    torc_assert(builder->memory != NULL);
    torc_assert_implies(place->closing, torc_log_block_is_empty(builder));
    torc_assert(place->durable < place->sequence);
    builder_put_dictionaries(builder);
    memset(builder->memory + end, 0, byte_count - end);
    memcpy(builder->memory, &header, sizeof(header));
    header.crc = torc_le32(block_crc(builder->memory, byte_count));
    memcpy(builder->memory + CRC_OFFSET, &header.crc, sizeof(header.crc));
    return byte_count;
}

// -- Reading ------------------------------------------------------------------------------------

static bool block_version_is_known(uint32_t version)
{
    return version == TORC_LOG_VERSION || version == TORC_LOG_VERSION_BEGUN;
}

uint32_t torc_log_block_length(const void *bytes, uint64_t available_bytes)
{
    struct torc_log_block_header header;
    uint32_t byte_count;

    if (available_bytes < sizeof(header)) {
        return 0;
    }
    memcpy(&header, bytes, sizeof(header));
    byte_count = torc_get_le32(header.byte_count);
    if (torc_get_le32(header.magic) != TORC_LOG_BLOCK_MAGIC || byte_count == 0 ||
        byte_count % TORC_LOG_SLOT_BYTES != 0 || byte_count > TORC_LOG_BLOCK_BYTES_MAX) {
        return 0;
    }
    return byte_count;
}

uint32_t torc_log_block_peek(const void *bytes, uint64_t available_bytes)
{
    uint32_t byte_count = torc_log_block_length(bytes, available_bytes);
    struct torc_log_block_header header;

    if (byte_count == 0) {
        return 0;
    }
    memcpy(&header, bytes, sizeof(header));
    return block_version_is_known(torc_get_le16(header.version)) ? byte_count : 0;
}

uint32_t torc_log_block_unknown(const void *bytes, uint64_t available_bytes)
{
    uint32_t byte_count = torc_log_block_length(bytes, available_bytes);
    struct torc_log_block_header header;

    if (byte_count == 0 || byte_count > available_bytes) {
        return 0;
    }
    memcpy(&header, bytes, sizeof(header));
    return block_version_is_known(torc_get_le16(header.version)) ||
                   block_crc(bytes, byte_count) != torc_get_le32(header.crc)
               ? 0
               : torc_get_le16(header.version);
}

static void block_decode(const struct torc_log_block_header *header, const void *bytes,
                         struct torc_log_block *block)
{
    unsigned flags = torc_get_le16(header->flags);

    *block = (struct torc_log_block){.bytes = bytes,
                                     .place = {.cluster = torc_get_le64(header->cluster),
                                               .sequence = torc_get_le64(header->sequence),
                                               .generation = torc_get_le64(header->generation),
                                               .durable = torc_get_le64(header->durable),
                                               .ceiling = torc_get_le64(header->ceiling),
                                               .node = torc_get_le32(header->node),
                                               .stream = torc_get_le32(header->stream),
                                               .segment = torc_get_le32(header->segment),
                                               .offset_bytes = torc_get_le32(header->offset_bytes),
                                               .closing = (flags & TORC_LOG_CLOSING) != 0},
                                     .byte_count = torc_get_le32(header->byte_count),
                                     .carry_bytes = torc_get_le32(header->carry_bytes),
                                     .record_count = torc_get_le32(header->record_count),
                                     .record_bytes = torc_get_le32(header->record_bytes),
                                     .shard_count = torc_get_le16(header->shard_count),
                                     .client_count = torc_get_le16(header->client_count),
                                     .version = torc_get_le16(header->version),
                                     .unfinished = (flags & TORC_LOG_UNFINISHED) != 0};
}

// Whether the lengths in a header agree with one another.
static bool block_is_sound(const struct torc_log_block_header *header,
                           const struct torc_log_block *block)
{
    uint64_t payload_bytes = (uint64_t)block->carry_bytes + block->record_bytes +
                             (uint64_t)block->shard_count * SHARD_BYTES +
                             (uint64_t)block->client_count * CLIENT_BYTES;
    bool is_empty = block->carry_bytes == 0 && block->record_count == 0;

    if ((torc_get_le16(header->flags) & ~(unsigned)FLAGS_KNOWN) != 0 ||
        torc_get_le32(header->zero) != 0 || block->place.durable >= block->place.sequence) {
        return false;
    }
    if (payload_bytes != torc_get_le32(header->payload_bytes) ||
        payload_bytes > block->byte_count - HEADER_BYTES ||
        block->shard_count > TORC_LOG_SHARDS_MAX || block->client_count > TORC_LOG_CLIENTS_MAX) {
        return false;
    }
    if ((block->record_bytes == 0) != (block->record_count == 0)) {
        return false;
    }
    return is_empty ? !block->unfinished && block->shard_count == 0
                    : !block->place.closing && block->shard_count > 0;
}

static const unsigned char *block_shards(const struct torc_log_block *block)
{
    return block->bytes + HEADER_BYTES + block->carry_bytes + block->record_bytes;
}

// The reserved words of the dictionaries, whose meaning in a newer writer's block is not ours to
// guess; and that no entry says more of commits than there can be.
static bool block_is_plain(const struct torc_log_block *block)
{
    const unsigned char *at = block_shards(block);
    uint32_t sum = 0;

    for (uint32_t i = 0; i < block->shard_count; i++, at += SHARD_BYTES) {
        struct torc_log_shard_entry entry;

        memcpy(&entry, at, sizeof(entry));
        if (torc_get_le32(entry.behind) > torc_get_le64(entry.first_lsn)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < block->client_count; i++, at += CLIENT_BYTES) {
        struct torc_log_client_entry entry;

        memcpy(&entry, at, sizeof(entry));
        sum |= torc_get_le32(entry.zero);
    }
    return sum == 0;
}

static void block_client(const struct torc_log_block *block, uint32_t index,
                         struct torc_log_client_entry *entry)
{
    torc_assert(index < block->client_count);
    memcpy(entry,
           block_shards(block) + (size_t)block->shard_count * SHARD_BYTES +
               (size_t)index * CLIENT_BYTES,
           sizeof(*entry));
}

enum torc_err torc_log_block_check(const void *bytes, uint64_t available_bytes,
                                   struct torc_log_block *block, struct torc_fail *why)
{
    struct torc_log_block_header header;

    if (available_bytes < sizeof(header)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log block: %" PRIu64 " bytes, a header alone has %zu", available_bytes,
                         sizeof(header));
    }
    memcpy(&header, bytes, sizeof(header));
    if (torc_get_le32(header.magic) != TORC_LOG_BLOCK_MAGIC) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log block: begins with %08" PRIx32 ", not \"Tlog\"",
                         torc_get_le32(header.magic));
    }
    if (!block_version_is_known(torc_get_le16(header.version))) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "log block of version %u: this program reads %u and %u",
                         torc_get_le16(header.version), TORC_LOG_VERSION, TORC_LOG_VERSION_BEGUN);
    }
    if (torc_log_block_peek(bytes, available_bytes) == 0 ||
        torc_get_le32(header.byte_count) > available_bytes) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log block: says %" PRIu32 " bytes, %" PRIu64 " are there",
                         torc_get_le32(header.byte_count), available_bytes);
    }
    block_decode(&header, bytes, block);
    if (block_crc(bytes, block->byte_count) != torc_get_le32(header.crc)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log block %" PRIu64 ": its %" PRIu32 " bytes fail their CRC32C",
                         block->place.sequence, block->byte_count);
    }
    if (!block_is_sound(&header, block) || !block_is_plain(block)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log block %" PRIu64 ": its header contradicts itself",
                         block->place.sequence);
    }
    return TORC_ERR_OK;
}

void torc_log_block_shard(const struct torc_log_block *block, uint32_t index,
                          struct torc_log_builder_shard *shard)
{
    struct torc_log_shard_entry entry;
    uint32_t behind;

    torc_assert(index < block->shard_count);
    memcpy(&entry, block_shards(block) + (size_t)index * SHARD_BYTES, sizeof(entry));
    behind = torc_get_le32(entry.behind);
    *shard = (struct torc_log_builder_shard){.shard = torc_get_le32(entry.shard),
                                             .epoch = torc_get_le32(entry.epoch),
                                             .turn = torc_get_le32(entry.turn),
                                             .first_lsn = torc_get_le64(entry.first_lsn),
                                             .next_lsn = torc_get_le64(entry.first_lsn),
                                             .base_hlc = torc_get_le64(entry.base_hlc),
                                             .last_hlc = torc_get_le64(entry.base_hlc)};
    shard->commit_lsn = behind == 0 ? 0 : shard->first_lsn - behind;
}

const void *torc_log_block_carry(const struct torc_log_block *block)
{
    return block->bytes + HEADER_BYTES;
}

void torc_log_reader_init(struct torc_log_reader *reader, const struct torc_log_block *block)
{
    reader->block = block;
    reader->offset = HEADER_BYTES + block->carry_bytes;
    reader->left = block->record_count;
    for (uint32_t i = 0; i < block->shard_count; i++) {
        struct torc_log_builder_shard shard;

        torc_log_block_shard(block, i, &shard);
        reader->next_lsn[i] = shard.first_lsn;
        reader->last_hlc[i] = shard.base_hlc;
    }
    for (uint32_t i = 0; i < block->client_count; i++) {
        struct torc_log_client_entry client;

        block_client(block, i, &client);
        reader->last_seq[i] = torc_get_le64(client.base_seq);
    }
}

static bool reader_get_shard(struct torc_log_reader *reader, const unsigned char **at,
                             const unsigned char *end, struct torc_log_record *record)
{
    struct torc_log_builder_shard shard;
    uint64_t place;
    uint64_t delta;

    if (!torc_varint_get(at, end, &place) || place >= reader->block->shard_count ||
        !torc_varint_get(at, end, &delta) ||
        !torc_add_u64(reader->last_hlc[place], delta, &record->hlc)) {
        return false;
    }
    torc_log_block_shard(reader->block, (uint32_t)place, &shard);
    record->shard = shard.shard;
    record->epoch = shard.epoch;
    record->turn = shard.turn;
    record->lsn = reader->next_lsn[place];
    record->commit_lsn = shard.commit_lsn;
    reader->next_lsn[place] += torc_log_kind_has_lsn(record->kind);
    reader->last_hlc[place] = record->hlc;
    return true;
}

static bool reader_get_client(struct torc_log_reader *reader, const unsigned char **at,
                              const unsigned char *end, struct torc_log_record *record)
{
    struct torc_log_client_entry client;
    uint64_t place;
    uint64_t delta;
    uint64_t below;

    if (!torc_varint_get(at, end, &place) || place >= reader->block->client_count ||
        !torc_varint_get(at, end, &delta) || !torc_varint_get(at, end, &below)) {
        return false;
    }
    block_client(reader->block, (uint32_t)place, &client);
    record->client = torc_get_le64(client.client);
    record->principal = torc_get_le32(client.principal);
    record->seq = reader->last_seq[place] + torc_unzigzag(delta);
    reader->last_seq[place] = record->seq;
    record->low = record->seq - below;
    return below <= record->seq;
}

static bool reader_get_value(const struct torc_log_reader *reader, const unsigned char **at,
                             const unsigned char *end, struct torc_log_record *record)
{
    uint64_t value_bytes;
    uint64_t here = 0;

    if (!torc_varint_get(at, end, &value_bytes) || value_bytes > TORC_LOG_VALUE_BYTES_MAX) {
        return false;
    }
    here = torc_min_u64(value_bytes, (uint64_t)(end - *at));
    if (here < value_bytes && (reader->left > 1 || !reader->block->unfinished)) {
        return false;
    }
    record->value = *at;
    record->value_bytes = (uint32_t)value_bytes;
    record->piece_bytes = (uint32_t)here;
    *at += here;
    return true;
}

static bool reader_get(struct torc_log_reader *reader, const unsigned char **at,
                       const unsigned char *end, struct torc_log_record *record)
{
    unsigned kind = **at & ~TORC_LOG_WITH_CLIENT;
    unsigned last = reader->block->version == TORC_LOG_VERSION ? TORC_LOG_EMPTY : TORC_LOG_BEGUN;

    *record = (struct torc_log_record){.with_client = (**at & TORC_LOG_WITH_CLIENT) != 0};
    ++*at;
    if (kind < TORC_LOG_PUT || kind > last) {
        return false;
    }
    record->kind = (enum torc_log_kind)kind;
    if (!reader_get_shard(reader, at, end, record) ||
        (record->with_client && !reader_get_client(reader, at, end, record))) {
        return false;
    }
    if ((record->kind == TORC_LOG_PUT || record->kind == TORC_LOG_DELETE) &&
        !torc_varint_get(at, end, &record->key)) {
        return false;
    }
    return record->kind != TORC_LOG_PUT || reader_get_value(reader, at, end, record);
}

enum torc_err torc_log_reader_next(struct torc_log_reader *reader, struct torc_log_record *record,
                                   bool *more, struct torc_fail *why)
{
    const struct torc_log_block *block = reader->block;
    const unsigned char *end =
        block->bytes + HEADER_BYTES + block->carry_bytes + block->record_bytes;
    const unsigned char *at = block->bytes + reader->offset;
    bool is_good = at < end;

    *more = reader->left > 0;
    if (reader->left == 0) {
        return TORC_ERR_OK;
    }
    is_good = is_good && reader_get(reader, &at, end, record);
    reader->left--;
    reader->offset = (uint32_t)(at - block->bytes);
    if (is_good && reader->left == 0) {
        bool is_cut = record->piece_bytes < record->value_bytes;

        is_good = at == end && is_cut == block->unfinished;
    }
    if (!is_good) {
        *more = false;
        return torc_fail(
            why, TORC_ERR_CORRUPT,
            "log block %" PRIu64 " of stream %" PRIu32 ": record %" PRIu32 " does not decode",
            block->place.sequence, block->place.stream, block->record_count - reader->left - 1);
    }
    return TORC_ERR_OK;
}

// -- Segments -----------------------------------------------------------------------------------

#define SEGMENT_CRC_OFFSET ((uint32_t)offsetof(struct torc_log_segment_header, crc))

void torc_log_segment_write(void *slot, const struct torc_log_segment *segment)
{
    struct torc_log_segment_header header = {
        .magic = torc_le32(TORC_LOG_SEGMENT_MAGIC),
        .version = torc_le16(TORC_LOG_VERSION),
        .cluster = torc_le64(segment->cluster),
        .node = torc_le32(segment->node),
        .stream = torc_le32(segment->stream),
        .segment = torc_le32(segment->segment),
        .segment_bytes = torc_le32(segment->segment_bytes),
        .generation = torc_le64(segment->generation),
        .first_sequence = torc_le64(segment->first_sequence),
    };

    torc_assert(segment->segment_bytes % TORC_LOG_SLOT_BYTES == 0);
    header.crc = torc_le32(torc_crc32c(0, &header, SEGMENT_CRC_OFFSET));
    memset(slot, 0, TORC_LOG_SLOT_BYTES);
    memcpy(slot, &header, sizeof(header));
}

enum torc_err torc_log_segment_check(const void *slot, struct torc_log_segment *segment,
                                     struct torc_fail *why)
{
    struct torc_log_segment_header header;

    memcpy(&header, slot, sizeof(header));
    if (torc_get_le32(header.magic) != TORC_LOG_SEGMENT_MAGIC) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log segment: begins with %08" PRIx32 ", not \"Tseg\"",
                         torc_get_le32(header.magic));
    }
    if (torc_get_le16(header.version) != TORC_LOG_VERSION) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "log segment of version %u: this program reads %u",
                         torc_get_le16(header.version), TORC_LOG_VERSION);
    }
    if (torc_crc32c(0, &header, SEGMENT_CRC_OFFSET) != torc_get_le32(header.crc)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "log segment: its header fails its CRC32C");
    }
    *segment = (struct torc_log_segment){.cluster = torc_get_le64(header.cluster),
                                         .generation = torc_get_le64(header.generation),
                                         .first_sequence = torc_get_le64(header.first_sequence),
                                         .node = torc_get_le32(header.node),
                                         .stream = torc_get_le32(header.stream),
                                         .segment = torc_get_le32(header.segment),
                                         .segment_bytes = torc_get_le32(header.segment_bytes)};
    if (torc_get_le16(header.zero) != 0 || torc_get_le32(header.zero2) != 0 ||
        segment->segment_bytes % TORC_LOG_SLOT_BYTES != 0) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "log segment %" PRIu32 ": its header contradicts itself",
                         segment->segment);
    }
    return TORC_ERR_OK;
}

// -- Fillers ------------------------------------------------------------------------------------

struct filler {
    struct torc_le32 magic;
    struct torc_le32 slot_count;
};

void torc_log_filler_write(void *slot, uint32_t slot_count)
{
    struct filler filler = {torc_le32(TORC_CHAN_LOG_FILLER), torc_le32(slot_count)};

    torc_assert(slot_count > 0);
    memcpy(slot, &filler, sizeof(filler));
}

uint32_t torc_log_filler_slots(const void *slot)
{
    struct filler filler;

    memcpy(&filler, slot, sizeof(filler));
    return torc_get_le32(filler.magic) == TORC_CHAN_LOG_FILLER ? torc_get_le32(filler.slot_count)
                                                               : 0;
}
