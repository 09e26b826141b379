// Torc storage: writing and reading checkpoints. See storage/checkpoint.h, and for the bytes and
// why they are enough storage/checkpoint_format.h.
#include "storage/checkpoint.h"

#include "kit/crc32c.h"
#include "storage/varint.h"

#include <string.h>

#define HEADER_BYTES    ((uint32_t)sizeof(struct torc_checkpoint_header))
#define BLOCK_BYTES     ((uint32_t)sizeof(struct torc_checkpoint_block))
#define FOOTER_BYTES    ((uint32_t)sizeof(struct torc_checkpoint_footer))
#define BLOCK_CRC       ((uint32_t)offsetof(struct torc_checkpoint_block, crc))
#define HEADER_CRC      ((uint32_t)offsetof(struct torc_checkpoint_header, crc))
#define PAYLOAD_MAX     (TORC_CHECKPOINT_BLOCK_BYTES_MAX - BLOCK_BYTES)
#define FLAGS_KNOWN     (TORC_CHECKPOINT_UNFINISHED | TORC_CHECKPOINT_GIVEN_UP)
#define SLICE_PAIRS     32u
#define RECORD_HEAD_MAX 30u // three varints
#define CLIENT_HEAD_MAX (4u * TORC_VARINT_BYTES_MAX + 2u)
#define RESULT_MAX      (2u * TORC_VARINT_BYTES_MAX)
#define RESULTS_MAX     16383u // what two bytes count
#define PIECE_MIN       1024u  // a value is not begun for less
#define LEFT_OUT_MAX    1024u  // pairs, of one call

_Static_assert(RECORD_HEAD_MAX == 3 * TORC_VARINT_BYTES_MAX, "key, version, length");

// -- Writing ------------------------------------------------------------------------------------

// A block being filled.
struct filling {
    unsigned char *out;
    unsigned char *at;
    unsigned char *end;
    uint32_t count;
    uint64_t last_key;
    uint64_t last_version;
};

static uint32_t filling_room(const struct filling *filling)
{
    return (uint32_t)(filling->end - filling->at);
}

static uint32_t filling_close(struct torc_checkpoint_writer *writer, struct filling *filling,
                              enum torc_checkpoint_kind kind, unsigned flags)
{
    uint32_t payload_bytes = (uint32_t)(filling->at - filling->out) - BLOCK_BYTES;
    struct torc_checkpoint_block block = {.magic = torc_le32(TORC_CHECKPOINT_BLOCK_MAGIC),
                                          .kind = (uint8_t)kind,
                                          .flags = (uint8_t)flags,
                                          .index = torc_le32(writer->block_count),
                                          .count = torc_le32(filling->count),
                                          .payload_bytes = torc_le32(payload_bytes)};
    uint32_t crc = torc_crc32c(0, &block, BLOCK_CRC);

    block.crc = torc_le32(torc_crc32c(crc, filling->out + BLOCK_BYTES, payload_bytes));
    memcpy(filling->out, &block, sizeof(block));
    writer->block_count++;
    return BLOCK_BYTES + payload_bytes;
}

void torc_checkpoint_writer_begin(struct torc_checkpoint_writer *writer,
                                  const struct torc_shard *shard,
                                  const struct torc_checkpoint_place *place)
{
    // A tree of several moments is written as it is.
    uint64_t hlc = shard->applied_lsn < shard->fuzzy_lsn ? UINT64_MAX : shard->applied_hlc;

    *writer = (struct torc_checkpoint_writer){.place = *place,
                                              .step = TORC_CHECKPOINT_STEP_HEADER,
                                              .lsn = shard->applied_lsn,
                                              .hlc = hlc,
                                              .epoch = shard->applied_epoch,
                                              .start_sequence =
                                                  torc_shard_start_sequence(shard, place->durable)};
    torc_tree_cursor_open(&writer->cursor, shard->lo, shard->hi - 1, false);
}

static uint32_t writer_header(struct torc_checkpoint_writer *writer, const struct torc_shard *shard,
                              unsigned char *out)
{
    struct torc_checkpoint_header header = {
        .magic = torc_le32(TORC_CHECKPOINT_MAGIC),
        .version = torc_le16(TORC_CHECKPOINT_VERSION),
        .cluster = torc_le64(writer->place.cluster),
        .node = torc_le32(writer->place.node),
        .shard = torc_le32(shard->shard),
        .lo = torc_le64(shard->lo),
        .hi = torc_le64(shard->hi),
        .epoch = torc_le32(writer->epoch),
        .turn = torc_le32(shard->turn),
        .lsn = torc_le64(writer->lsn),
        .hlc = torc_le64(torc_max_u64(shard->last_hlc, shard->pool->hlc)),
        .ceiling = torc_le64(writer->place.ceiling),
        .checkpoint = torc_le64(writer->place.checkpoint),
        .start_sequence = torc_le64(writer->start_sequence),
        .stream = torc_le32(writer->place.stream)};

    header.crc = torc_le32(torc_crc32c(0, &header, HEADER_CRC));
    memcpy(out, &header, sizeof(header));
    return HEADER_BYTES;
}

// A record's head and as much of its value as fits. Returns what is left of the value.
static uint32_t filling_record(struct filling *filling, const struct torc_tree_pair *pair)
{
    uint32_t piece;

    filling->at = torc_varint_put(filling->at, pair->key - filling->last_key);
    filling->at = torc_varint_put(filling->at, torc_zigzag(pair->version - filling->last_version));
    filling->at = torc_varint_put(filling->at, pair->value_bytes);
    piece = (uint32_t)torc_min_u64(pair->value_bytes, filling_room(filling));
    if (piece > 0) {
        memcpy(filling->at, pair->value, piece);
    }
    filling->at += piece;
    filling->last_key = pair->key;
    filling->last_version = pair->version;
    filling->count++;
    return pair->value_bytes - piece;
}

// Adds records of one slice, but for those of log records above writer->lsn; how many were passed.
// The last may be cut: then writer->cutting.
static uint32_t writer_slice(struct torc_checkpoint_writer *writer, struct filling *filling,
                             const struct torc_tree_pair *pairs, uint32_t count, uint32_t *left_out)
{
    uint32_t block_room = (uint32_t)(filling->end - filling->out) - BLOCK_BYTES;

    for (uint32_t i = 0; i < count; i++) {
        const struct torc_tree_pair *pair = &pairs[i];
        uint64_t need = (uint64_t)RECORD_HEAD_MAX + pair->value_bytes;
        bool cut = need > block_room && filling_room(filling) >= RECORD_HEAD_MAX + PIECE_MIN;
        uint32_t left;

        if (pair->version > writer->hlc) {
            (*left_out)++;
            continue;
        }
        if (filling_room(filling) < need && !cut) {
            return i;
        }
        left = filling_record(filling, pair);
        writer->record_count++;
        writer->value_bytes += pair->value_bytes;
        if (left > 0) {
            writer->cutting = true;
            writer->cut_key = pair->key;
            writer->cut_version = pair->version;
            writer->cut_bytes = pair->value_bytes;
            writer->cut_done = pair->value_bytes - left;
            return i + 1;
        }
    }
    return count;
}

static uint32_t writer_records(struct torc_checkpoint_writer *writer,
                               const struct torc_shard *shard, struct filling *filling)
{
    struct torc_tree_pair pairs[SLICE_PAIRS];
    uint32_t left_out = 0;

    while (!writer->cursor.done && left_out < LEFT_OUT_MAX) {
        uint32_t count = torc_tree_scan(&shard->tree, &writer->cursor, pairs, SLICE_PAIRS);
        uint32_t used = writer_slice(writer, filling, pairs, count, &left_out);

        if (used < count) {
            torc_tree_cursor_seek(&writer->cursor, pairs[used].key);
        }
        if (used < count || writer->cutting) {
            break;
        }
    }
    if (filling->count == 0) {
        writer->step = writer->cursor.done ? TORC_CHECKPOINT_STEP_CLIENTS : writer->step;
        return 0;
    }
    return filling_close(writer, filling, TORC_CHECKPOINT_RECORDS,
                         writer->cutting ? TORC_CHECKPOINT_UNFINISHED : 0);
}

// More of the value that is being cut, if it still is what it was.
static uint32_t writer_more(struct torc_checkpoint_writer *writer, const struct torc_shard *shard,
                            struct filling *filling)
{
    struct torc_tree_hit hit;
    uint32_t left = writer->cut_bytes - writer->cut_done;
    uint32_t piece = left < filling_room(filling) ? left : filling_room(filling);

    if (!torc_tree_lookup(&shard->tree, writer->cut_key, &hit) ||
        hit.version != writer->cut_version) {
        writer->cutting = false;
        writer->record_count--;
        writer->value_bytes -= writer->cut_bytes;
        return filling_close(writer, filling, TORC_CHECKPOINT_MORE, TORC_CHECKPOINT_GIVEN_UP);
    }
    torc_assert(hit.value_bytes == writer->cut_bytes);
    memcpy(filling->at, (const unsigned char *)hit.value + writer->cut_done, piece);
    filling->at += piece;
    writer->cut_done += piece;
    writer->cutting = piece < left;
    return filling_close(writer, filling, TORC_CHECKPOINT_MORE,
                         writer->cutting ? TORC_CHECKPOINT_UNFINISHED : 0);
}

// One entry: a client and as many of its results as fit. writer->result_at is 0 when all did.
static void filling_client(struct torc_checkpoint_writer *writer, struct filling *filling,
                           const struct torc_shard *shard, const struct torc_completion_head *head)
{
    struct torc_completion_result result;
    unsigned char *count_at;
    uint32_t count = 0;
    uint64_t seq = head->low;
    uint64_t version = head->last_hlc;

    filling->at = torc_varint_put(filling->at, head->who.principal);
    filling->at = torc_varint_put(filling->at, head->who.client);
    filling->at = torc_varint_put(filling->at, head->low);
    filling->at = torc_varint_put(filling->at, head->last_hlc);
    count_at = filling->at;
    filling->at += 2;
    while (count < RESULTS_MAX && filling_room(filling) >= RESULT_MAX &&
           torc_completion_next_result(&shard->completions, writer->client_at, &writer->result_at,
                                       &result)) {
        filling->at = torc_varint_put(filling->at, torc_zigzag(result.seq - seq));
        filling->at = torc_varint_put(filling->at, torc_zigzag(result.info - version));
        seq = result.seq;
        version = result.info;
        count++;
    }
    count_at[0] = (unsigned char)(count | 0x80);
    count_at[1] = (unsigned char)(count >> 7);
    filling->count++;
    writer->client_count++;
    writer->completion_count += count;
    if (writer->result_at == TORC_COMPLETION_NONE) {
        writer->result_at = 0;
    }
}

// The client to go on with, or the next one. False: the walk's end, or of what one call may walk.
static bool writer_client(struct torc_checkpoint_writer *writer, const struct torc_shard *shard,
                          uint32_t *walk_left, struct torc_completion_head *head)
{
    uint32_t from = writer->client_at;
    bool found;

    if (writer->result_at != 0) {
        if (torc_completion_client_at(&shard->completions, writer->client_at, head)) {
            return true;
        }
        writer->result_at = 0; // it is gone
    }
    if (from == TORC_COMPLETION_NONE || *walk_left == 0) {
        return false;
    }
    found = torc_completion_next_client(&shard->completions, &writer->client_at, *walk_left, head);
    *walk_left -= found ? writer->client_at - from : *walk_left;
    return found;
}

static uint32_t writer_clients(struct torc_checkpoint_writer *writer,
                               const struct torc_shard *shard, struct filling *filling)
{
    struct torc_completion_head head;
    uint32_t walk_left = TORC_CHECKPOINT_WALK_UNITS;

    while (filling_room(filling) >= CLIENT_HEAD_MAX + RESULT_MAX &&
           writer_client(writer, shard, &walk_left, &head)) {
        filling_client(writer, filling, shard, &head);
    }
    if (filling->count > 0) {
        return filling_close(writer, filling, TORC_CHECKPOINT_CLIENTS, 0);
    }
    if (writer->client_at == TORC_COMPLETION_NONE) {
        writer->step = TORC_CHECKPOINT_STEP_FOOTER;
    }
    return 0;
}

static uint32_t writer_footer(struct torc_checkpoint_writer *writer, const struct torc_shard *shard,
                              struct filling *filling)
{
    struct torc_checkpoint_footer footer;

    writer->end_lsn = shard->applied_lsn;
    writer->end_hlc = shard->applied_hlc;
    // What was logged again in this stream is not looked for in the old one any more.
    writer->end_sequence = torc_max_u64(shard->applied_sequence, shard->relog_sequence);
    footer =
        (struct torc_checkpoint_footer){.record_count = torc_le64(writer->record_count),
                                        .value_bytes = torc_le64(writer->value_bytes),
                                        .client_count = torc_le64(writer->client_count),
                                        .completion_count = torc_le64(writer->completion_count),
                                        .end_lsn = torc_le64(writer->end_lsn),
                                        .end_hlc = torc_le64(writer->end_hlc),
                                        .end_sequence = torc_le64(writer->end_sequence),
                                        .block_count = torc_le32(writer->block_count + 1)};
    memcpy(filling->at, &footer, sizeof(footer));
    filling->at += sizeof(footer);
    writer->step = TORC_CHECKPOINT_STEP_DONE;
    return filling_close(writer, filling, TORC_CHECKPOINT_FOOTER, 0);
}

uint32_t torc_checkpoint_writer_next(struct torc_checkpoint_writer *writer,
                                     const struct torc_shard *shard, void *out, uint32_t room)
{
    struct filling filling = {
        .out = out, .at = (unsigned char *)out + BLOCK_BYTES, .end = (unsigned char *)out + room};
    uint32_t bytes = 0;

    torc_assert(room >= TORC_CHECKPOINT_BLOCK_BYTES_MIN);
    torc_assert(room <= TORC_CHECKPOINT_BLOCK_BYTES_MAX);
    torc_assert(writer->step != TORC_CHECKPOINT_STEP_DONE);
    switch (writer->step) {
    case TORC_CHECKPOINT_STEP_HEADER:
        writer->step = TORC_CHECKPOINT_STEP_RECORDS;
        bytes = writer_header(writer, shard, out);
        break;
    case TORC_CHECKPOINT_STEP_RECORDS:
        bytes = writer->cutting ? writer_more(writer, shard, &filling)
                                : writer_records(writer, shard, &filling);
        break;
    case TORC_CHECKPOINT_STEP_CLIENTS: bytes = writer_clients(writer, shard, &filling); break;
    case TORC_CHECKPOINT_STEP_FOOTER: bytes = writer_footer(writer, shard, &filling); break;
    case TORC_CHECKPOINT_STEP_DONE: break;
    }
    writer->byte_count += bytes;
    return bytes;
}

// -- Reading ------------------------------------------------------------------------------------

enum torc_err torc_checkpoint_header_check(const void *bytes, uint64_t byte_count,
                                           struct torc_checkpoint_info *info, struct torc_fail *why)
{
    struct torc_checkpoint_header header;

    if (byte_count < sizeof(header)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "checkpoint: %" PRIu64 " bytes, its header has %zu",
                         byte_count, sizeof(header));
    }
    memcpy(&header, bytes, sizeof(header));
    if (torc_get_le32(header.magic) != TORC_CHECKPOINT_MAGIC) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint: begins with %08" PRIx32 ", not \"Tckp\"",
                         torc_get_le32(header.magic));
    }
    if (torc_get_le16(header.version) != TORC_CHECKPOINT_VERSION) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "checkpoint of version %u: this program reads %u",
                         torc_get_le16(header.version), TORC_CHECKPOINT_VERSION);
    }
    if (torc_crc32c(0, &header, HEADER_CRC) != torc_get_le32(header.crc)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "checkpoint: its header fails its CRC32C");
    }
    *info = (struct torc_checkpoint_info){.cluster = torc_get_le64(header.cluster),
                                          .lo = torc_get_le64(header.lo),
                                          .hi = torc_get_le64(header.hi),
                                          .lsn = torc_get_le64(header.lsn),
                                          .hlc = torc_get_le64(header.hlc),
                                          .ceiling = torc_get_le64(header.ceiling),
                                          .checkpoint = torc_get_le64(header.checkpoint),
                                          .start_sequence = torc_get_le64(header.start_sequence),
                                          .node = torc_get_le32(header.node),
                                          .shard = torc_get_le32(header.shard),
                                          .epoch = torc_get_le32(header.epoch),
                                          .turn = torc_get_le32(header.turn),
                                          .stream = torc_get_le32(header.stream)};
    if (torc_get_le16(header.zero) != 0 || torc_get_le32(header.zero2) != 0 ||
        torc_get_le64(header.zero3[0]) != 0 || torc_get_le64(header.zero3[1]) != 0 ||
        torc_get_le64(header.zero3[2]) != 0 || torc_get_le32(header.zero4) != 0 ||
        info->lo >= info->hi) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint of shard %" PRIu32 ": its header contradicts itself",
                         info->shard);
    }
    return TORC_ERR_OK;
}

// Length of the payload that a block's header says; false: it is none.
static bool block_is_sound(const struct torc_checkpoint_block *block)
{
    return torc_get_le32(block->magic) == TORC_CHECKPOINT_BLOCK_MAGIC &&
           torc_get_le32(block->payload_bytes) <= PAYLOAD_MAX &&
           block->kind >= TORC_CHECKPOINT_RECORDS && block->kind <= TORC_CHECKPOINT_FOOTER &&
           (block->flags & ~(unsigned)FLAGS_KNOWN) == 0 && torc_get_le16(block->zero) == 0 &&
           torc_get_le64(block->zero2) == 0;
}

static bool block_has_crc(const struct torc_checkpoint_block *block, const unsigned char *payload)
{
    uint32_t crc = torc_crc32c(0, block, BLOCK_CRC);

    return torc_crc32c(crc, payload, torc_get_le32(block->payload_bytes)) ==
           torc_get_le32(block->crc);
}

enum torc_err torc_checkpoint_footer_check(const void *bytes, uint64_t byte_count,
                                           struct torc_checkpoint_footer *footer,
                                           struct torc_fail *why)
{
    const unsigned char *at = (const unsigned char *)bytes + byte_count;
    struct torc_checkpoint_block block;

    if (byte_count < BLOCK_BYTES + FOOTER_BYTES) {
        return torc_fail(why, TORC_ERR_CORRUPT, "checkpoint: ends before its footer");
    }
    at -= BLOCK_BYTES + FOOTER_BYTES;
    memcpy(&block, at, sizeof(block));
    if (!block_is_sound(&block) || block.kind != TORC_CHECKPOINT_FOOTER ||
        torc_get_le32(block.payload_bytes) != FOOTER_BYTES ||
        !block_has_crc(&block, at + BLOCK_BYTES)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "checkpoint: does not end with a footer");
    }
    memcpy(footer, at + BLOCK_BYTES, sizeof(*footer));
    return TORC_ERR_OK;
}

uint64_t torc_checkpoint_reader_bytes(void)
{
    return TORC_CHECKPOINT_BLOCK_BYTES_MAX;
}

void torc_checkpoint_reader_init(struct torc_checkpoint_reader *reader, struct torc_shard *shard,
                                 void *memory)
{
    *reader = (struct torc_checkpoint_reader){.shard = shard, .block = memory};
    if (shard != NULL) {
        torc_assert(shard->state == TORC_SHARD_LOADING || shard->state == TORC_SHARD_FOLLOWING);
        torc_assert(shard->tree.record_count == 0);
    }
}

static enum torc_err reader_fail(const struct torc_checkpoint_reader *reader, const char *what,
                                 struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT,
                     "checkpoint %" PRIu64 " of shard %" PRIu32 ", block %" PRIu32 ": %s",
                     reader->info.checkpoint, reader->info.shard, reader->block_count, what);
}

// A decoded block's entries, as they are walked.
struct walk {
    const unsigned char *at;
    const unsigned char *end;
    uint32_t left;
    bool unfinished;
    uint64_t last_key;
    uint64_t last_version;
};

static bool walk_record(struct walk *walk, struct torc_tree_pair *pair, uint32_t *here)
{
    uint64_t key;
    uint64_t version;
    uint64_t bytes;

    if (!torc_varint_get(&walk->at, walk->end, &key) ||
        !torc_varint_get(&walk->at, walk->end, &version) ||
        !torc_varint_get(&walk->at, walk->end, &bytes) || bytes > TORC_TREE_VALUE_BYTES_MAX) {
        return false;
    }
    walk->left--;
    walk->last_key += key;
    walk->last_version += torc_unzigzag(version);
    *here = (uint32_t)torc_min_u64(bytes, (uint64_t)(walk->end - walk->at));
    *pair = (struct torc_tree_pair){.key = walk->last_key,
                                    .version = walk->last_version,
                                    .value = walk->at,
                                    .value_bytes = (uint32_t)bytes};
    walk->at += *here;
    // Only the last may be cut, and is when the flag says so.
    return *here == bytes ? walk->left > 0 || !walk->unfinished
                          : walk->left == 0 && walk->unfinished;
}

static enum torc_err reader_append(struct torc_checkpoint_reader *reader,
                                   const struct torc_tree_pair *pairs, uint32_t count,
                                   struct torc_fail *why)
{
    uint32_t appended;

    if (reader->shard == NULL || count == 0) {
        return TORC_ERR_OK;
    }
    return torc_tree_append(&reader->shard->tree, pairs, count, &appended, why);
}

static enum torc_err reader_cut(struct torc_checkpoint_reader *reader,
                                const struct torc_tree_pair *pair, uint32_t here,
                                struct torc_fail *why)
{
    if (pair->value_bytes <= TORC_TREE_INLINE_BYTES_MAX) {
        return reader_fail(reader, "a small value is cut", why);
    }
    if (reader->shard != NULL) {
        enum torc_err err =
            torc_tree_reserve(&reader->shard->tree, pair->value_bytes, &reader->ticket, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        memcpy(reader->ticket.block, pair->value, here);
    }
    reader->cutting = true;
    reader->cut_key = pair->key;
    reader->cut_version = pair->version;
    reader->cut_bytes = pair->value_bytes;
    reader->cut_done = here;
    return TORC_ERR_OK;
}

static enum torc_err reader_records(struct torc_checkpoint_reader *reader, struct walk *walk,
                                    struct torc_fail *why)
{
    struct torc_tree_pair pairs[SLICE_PAIRS];
    uint32_t count = 0;
    uint32_t here = 0;
    enum torc_err err = TORC_ERR_OK;

    while (walk->left > 0 && err == TORC_ERR_OK) {
        struct torc_tree_pair *pair = &pairs[count];

        if (!walk_record(walk, pair, &here)) {
            return reader_fail(reader, "a record does not decode", why);
        }
        if (pair->key < reader->info.lo || pair->key >= reader->info.hi ||
            (reader->any_key && pair->key <= reader->last_key)) {
            return reader_fail(reader, "keys do not rise within the shard", why);
        }
        reader->any_key = true;
        reader->last_key = pair->key;
        reader->record_count++;
        reader->value_bytes += pair->value_bytes;
        if (here < pair->value_bytes) {
            err = reader_append(reader, pairs, count, why);
            return err == TORC_ERR_OK ? reader_cut(reader, pair, here, why) : err;
        }
        if (++count == SLICE_PAIRS) {
            err = reader_append(reader, pairs, count, why);
            count = 0;
        }
    }
    return err == TORC_ERR_OK ? reader_append(reader, pairs, count, why) : err;
}

static enum torc_err reader_more(struct torc_checkpoint_reader *reader, const struct walk *walk,
                                 bool given_up, struct torc_fail *why)
{
    uint32_t here = (uint32_t)(walk->end - walk->at);

    if (given_up) {
        if (here > 0 || walk->unfinished) {
            return reader_fail(reader, "a value given up goes on", why);
        }
        reader->record_count--;
        reader->value_bytes -= reader->cut_bytes;
        torc_checkpoint_reader_drop(reader);
        return TORC_ERR_OK;
    }
    if (here == 0 || here > reader->cut_bytes - reader->cut_done ||
        (here < reader->cut_bytes - reader->cut_done) != walk->unfinished) {
        return reader_fail(reader, "a value's piece has the wrong length", why);
    }
    if (reader->shard != NULL) {
        memcpy((unsigned char *)reader->ticket.block + reader->cut_done, walk->at, here);
    }
    reader->cut_done += here;
    if (walk->unfinished) {
        return TORC_ERR_OK;
    }
    reader->cutting = false;
    if (reader->shard != NULL) {
        struct torc_tree_write write = {.key = reader->cut_key,
                                        .version = reader->cut_version,
                                        .value = reader->ticket.block,
                                        .value_bytes = reader->cut_bytes,
                                        .ticket = reader->ticket};

        reader->ticket = (struct torc_tree_ticket){0};
        return torc_tree_write(&reader->shard->tree, &write, why);
    }
    return TORC_ERR_OK;
}

static bool walk_client(struct walk *walk, struct torc_completion_head *head, uint32_t *count)
{
    uint64_t principal;

    if (!torc_varint_get(&walk->at, walk->end, &principal) || principal > UINT32_MAX ||
        !torc_varint_get(&walk->at, walk->end, &head->who.client) ||
        !torc_varint_get(&walk->at, walk->end, &head->low) ||
        !torc_varint_get(&walk->at, walk->end, &head->last_hlc) || walk->end - walk->at < 2) {
        return false;
    }
    head->who.principal = (uint32_t)principal;
    *count = (walk->at[0] & 0x7fu) | (uint32_t)walk->at[1] << 7;
    walk->at += 2;
    walk->left--;
    return *count <= RESULTS_MAX && head->last_hlc != 0;
}

static bool walk_result(struct walk *walk, uint64_t *seq, uint64_t *version)
{
    uint64_t seq_delta;
    uint64_t version_delta;

    if (!torc_varint_get(&walk->at, walk->end, &seq_delta) ||
        !torc_varint_get(&walk->at, walk->end, &version_delta)) {
        return false;
    }
    *seq += torc_unzigzag(seq_delta);
    *version += torc_unzigzag(version_delta);
    return true;
}

// There was no room for what the reader has of a client. False: nor can there be.
static bool reader_make_room(struct torc_checkpoint_reader *reader)
{
    return reader->make_room != NULL &&
           reader->make_room(reader->make_room_arg, reader->clients_hlc, &reader->clients_min);
}

// True, too, when it need not fit.
static bool reader_load(struct torc_checkpoint_reader *reader,
                        const struct torc_completion_head *head)
{
    while (head->last_hlc >= reader->clients_min &&
           !torc_completion_load(&reader->shard->completions, head)) {
        if (!reader_make_room(reader)) {
            return head->last_hlc < reader->clients_min;
        }
    }
    return true;
}

// A result of the client: its version and seq. The same.
static bool reader_apply(struct torc_checkpoint_reader *reader,
                         const struct torc_completion_head *head, uint64_t version, uint64_t seq)
{
    struct torc_completion_promise none = {0};
    struct torc_completion_head done = *head;

    done.last_hlc = version;
    while (head->last_hlc >= reader->clients_min &&
           !torc_completion_apply(&reader->shard->completions, &done, seq, &none)) {
        if (!reader_make_room(reader)) {
            return head->last_hlc < reader->clients_min;
        }
    }
    return true;
}

// One client and its results.
static enum torc_err reader_client(struct torc_checkpoint_reader *reader, struct walk *walk,
                                   struct torc_fail *why)
{
    struct torc_completion_head head = {0};
    uint32_t count;
    uint64_t seq;
    uint64_t version;
    bool fits = true;

    if (!walk_client(walk, &head, &count)) {
        return reader_fail(reader, "a client does not decode", why);
    }
    reader->clients_hlc = torc_max_u64(reader->clients_hlc, head.last_hlc);
    if (reader->shard != NULL) {
        fits = reader_load(reader, &head);
    }
    seq = head.low;
    version = head.last_hlc;
    for (uint32_t i = 0; i < count && fits; i++) {
        if (!walk_result(walk, &seq, &version) || seq < head.low || version == 0 ||
            version > head.last_hlc) {
            return reader_fail(reader, "a completion does not decode", why);
        }
        if (reader->shard != NULL) {
            fits = reader_apply(reader, &head, version, seq);
        }
    }
    if (!fits) {
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "shard %" PRIu32 ": no memory for the completions of its checkpoint",
                         reader->info.shard);
    }
    reader->client_count++;
    reader->completion_count += count;
    return TORC_ERR_OK;
}

static enum torc_err reader_clients(struct torc_checkpoint_reader *reader, struct walk *walk,
                                    struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    reader->clients_begun = true;
    while (walk->left > 0 && err == TORC_ERR_OK) {
        err = reader_client(reader, walk, why);
    }
    return err;
}

static enum torc_err reader_footer(struct torc_checkpoint_reader *reader, struct walk *walk,
                                   struct torc_fail *why)
{
    struct torc_checkpoint_footer *footer = &reader->footer;

    if (walk->end - walk->at != FOOTER_BYTES) {
        return reader_fail(reader, "a footer of the wrong length", why);
    }
    memcpy(footer, walk->at, sizeof(*footer));
    walk->at = walk->end;
    if (torc_get_le64(footer->record_count) != reader->record_count ||
        torc_get_le64(footer->value_bytes) != reader->value_bytes ||
        torc_get_le64(footer->client_count) != reader->client_count ||
        torc_get_le64(footer->completion_count) != reader->completion_count ||
        torc_get_le32(footer->block_count) != reader->block_count + 1 ||
        torc_get_le32(footer->zero) != 0 || torc_get_le64(footer->end_lsn) < reader->info.lsn) {
        return reader_fail(reader, "its footer counts something else than the file holds", why);
    }
    reader->has_footer = true;
    if (reader->shard != NULL) {
        torc_completion_sort(&reader->shard->completions);
    }
    return TORC_ERR_OK;
}

static enum torc_err reader_block(struct torc_checkpoint_reader *reader, struct torc_fail *why)
{
    struct torc_checkpoint_block block;
    struct walk walk;
    enum torc_err err = TORC_ERR_OK;

    memcpy(&block, reader->block, sizeof(block));
    if (!block_has_crc(&block, reader->block + BLOCK_BYTES)) {
        return reader_fail(reader, "its bytes fail their CRC32C", why);
    }
    if (torc_get_le32(block.index) != reader->block_count || reader->has_footer ||
        reader->cutting != (block.kind == TORC_CHECKPOINT_MORE) ||
        (reader->clients_begun && block.kind == TORC_CHECKPOINT_RECORDS)) {
        return reader_fail(reader, "out of order", why);
    }
    walk = (struct walk){.at = reader->block + BLOCK_BYTES,
                         .end = reader->block + BLOCK_BYTES + torc_get_le32(block.payload_bytes),
                         .left = torc_get_le32(block.count),
                         .unfinished = (block.flags & TORC_CHECKPOINT_UNFINISHED) != 0};
    switch ((enum torc_checkpoint_kind)block.kind) {
    case TORC_CHECKPOINT_RECORDS: err = reader_records(reader, &walk, why); break;
    case TORC_CHECKPOINT_MORE:
        err = reader_more(reader, &walk, (block.flags & TORC_CHECKPOINT_GIVEN_UP) != 0, why);
        walk.at = walk.end;
        break;
    case TORC_CHECKPOINT_CLIENTS: err = reader_clients(reader, &walk, why); break;
    case TORC_CHECKPOINT_FOOTER: err = reader_footer(reader, &walk, why); break;
    }
    if (err == TORC_ERR_OK && walk.at != walk.end) {
        return reader_fail(reader, "bytes behind its last entry", why);
    }
    reader->block_count++;
    return err;
}

static enum torc_err reader_header(struct torc_checkpoint_reader *reader, struct torc_fail *why)
{
    enum torc_err err =
        torc_checkpoint_header_check(reader->block, HEADER_BYTES, &reader->info, why);
    const struct torc_shard *shard = reader->shard;

    if (err != TORC_ERR_OK) {
        return err;
    }
    reader->has_header = true;
    if (shard != NULL && (shard->shard != reader->info.shard || shard->lo != reader->info.lo ||
                          shard->hi != reader->info.hi)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint of shard %" PRIu32 " [%" PRIu64 ", %" PRIu64
                         "): wanted shard %" PRIu32 " [%" PRIu64 ", %" PRIu64 ")",
                         reader->info.shard, reader->info.lo, reader->info.hi, shard->shard,
                         shard->lo, shard->hi);
    }
    return TORC_ERR_OK;
}

// How many bytes the header or block that is being put together has, as far as is known.
static enum torc_err reader_want(const struct torc_checkpoint_reader *reader, uint32_t *want,
                                 struct torc_fail *why)
{
    struct torc_checkpoint_block block;

    *want = reader->has_header ? BLOCK_BYTES : HEADER_BYTES;
    if (!reader->has_header || reader->block_bytes < BLOCK_BYTES) {
        return TORC_ERR_OK;
    }
    memcpy(&block, reader->block, sizeof(block));
    if (!block_is_sound(&block)) {
        return reader_fail(reader, "no block begins here", why);
    }
    *want = BLOCK_BYTES + torc_get_le32(block.payload_bytes);
    return TORC_ERR_OK;
}

enum torc_err torc_checkpoint_reader_feed(struct torc_checkpoint_reader *reader, const void *bytes,
                                          uint64_t byte_count, struct torc_fail *why)
{
    const unsigned char *at = bytes;
    enum torc_err err = TORC_ERR_OK;

    while (err == TORC_ERR_OK) {
        uint32_t want;
        uint32_t some;

        err = reader_want(reader, &want, why);
        if (err != TORC_ERR_OK) {
            return err;
        }
        if (reader->block_bytes == want) {
            err = reader->has_header ? reader_block(reader, why) : reader_header(reader, why);
            reader->block_bytes = 0;
            continue;
        }
        if (byte_count == 0) {
            break;
        }
        some = (uint32_t)torc_min_u64(want - reader->block_bytes, byte_count);
        memcpy(reader->block + reader->block_bytes, at, some);
        reader->block_bytes += some;
        at += some;
        byte_count -= some;
    }
    return err;
}

enum torc_err torc_checkpoint_reader_end(struct torc_checkpoint_reader *reader,
                                         struct torc_fail *why)
{
    if (!reader->has_footer || reader->block_bytes > 0) {
        return reader_fail(reader, "the file ends before its footer", why);
    }
    return TORC_ERR_OK;
}

void torc_checkpoint_reader_drop(struct torc_checkpoint_reader *reader)
{
    if (reader->shard != NULL) {
        torc_tree_cancel(&reader->shard->tree, &reader->ticket);
    }
    reader->cutting = false;
}
