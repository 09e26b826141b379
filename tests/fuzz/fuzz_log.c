// Torc tests: any bytes as blocks of the log, as segments, and as a stream to be replayed.
//
// What    the input is tried as it is; and it is a recipe for a short stream of good blocks, some
//         bytes of which are then changed and the CRC made right again, so that what lies behind it
//         is met. Whatever comes: reading stays within the block, replay says OK or why not, and
//         what it built is whole and can be dropped.
#include "kit/crc32c.h"
#include "storage/log_order.h"
#include "storage/log_scan.h"
#include "storage/replay.h"
#include "tests/shard_rig.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    CHUNKS = 8,
    BLOCKS = 3,
    STEP_BYTES = 3,
    PATCH_BYTES = 12, // of the input's end: changes
    SHARDS = 2,
};

#define SLOT       TORC_LOG_SLOT_BYTES
#define HEAP_BYTES (UINT64_C(1) << 20)
#define CRC_AT     offsetof(struct torc_log_block_header, crc)

// Shared by all inputs: large, or made once.
static struct shard_rig rig;
static struct torc_log_builder builder;
static struct torc_log_reader reader;
static unsigned char stream[SLOT + BLOCKS * SLOT];
static unsigned char value[2 * SLOT];
static void *replay_memory;

static const struct torc_shard_pool_config pool_config = {.slots_max = 16,
                                                          .waiting_max = 4,
                                                          .completion_bytes =
                                                              TORC_COMPLETION_POOL_BYTES_MIN,
                                                          .principal_ppm = 1000000,
                                                          .dedup_ttl_s = 120,
                                                          .seed = 1};

static void fuzz_open(void)
{
    if (replay_memory == NULL) {
        shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
        shard_rig_pool(&rig, CHUNKS, &pool_config);
        replay_memory = aligned_alloc(64, (torc_replay_bytes(SHARDS) + 63) / 64 * 64);
        torc_assert(replay_memory != NULL);
    }
}

static uint32_t stream_seal(uint32_t slot)
{
    struct torc_log_place place = {.cluster = 1,
                                   .sequence = slot,
                                   .generation = 1,
                                   .durable = slot - 1,
                                   .node = 1,
                                   .stream = 1,
                                   .segment = 1,
                                   .offset_bytes = slot * SLOT};

    return torc_log_block_seal(&builder, &place);
}

// Blocks of one slot from a recipe of three bytes a record; how many.
static uint32_t stream_make(const uint8_t *recipe, size_t steps)
{
    uint64_t lsn[SHARDS] = {1, 1};
    uint32_t slot = 1;

    torc_log_block_begin(&builder, stream + SLOT, SLOT);
    for (size_t i = 0; i < steps; i++, recipe += STEP_BYTES) {
        uint32_t shard = recipe[0] & 1;
        struct torc_log_record record = {.kind = (enum torc_log_kind)(1 + (recipe[0] >> 1) % 6),
                                         .with_client = (recipe[0] & 0x80) != 0,
                                         .shard = 1 + shard,
                                         .epoch = 1 + (recipe[0] >> 6 & 1),
                                         .lsn = lsn[shard],
                                         .hlc = 100 + i,
                                         .client = recipe[1] % 4,
                                         .seq = 10 + recipe[2],
                                         .low = recipe[2],
                                         .key = recipe[1],
                                         .value = value};
        uint32_t done = 0;

        record.value_bytes = record.kind == TORC_LOG_PUT ? recipe[2] * 30u : 0;
        lsn[shard] += torc_log_kind_has_lsn(record.kind);
        while (!torc_log_block_append(&builder, &record, &done)) {
            if (slot == BLOCKS) {
                (void)stream_seal(slot);
                return slot;
            }
            (void)stream_seal(slot++);
            torc_log_block_begin(&builder, stream + (size_t)slot * SLOT, SLOT);
        }
    }
    (void)stream_seal(slot);
    return slot;
}

static void block_sign(unsigned char *block)
{
    uint32_t bytes = torc_log_block_length(block, SLOT);
    struct torc_le32 crc;

    if (bytes == SLOT) {
        crc = torc_le32(
            torc_crc32c(torc_crc32c(0, block, CRC_AT), block + CRC_AT + 4, bytes - CRC_AT - 4));
        memcpy(block + CRC_AT, &crc, sizeof(crc));
    }
}

// Changes bytes of the stream: four of the input say block, place and what.
static void stream_patch(const uint8_t *patch, uint32_t blocks)
{
    for (uint32_t i = 0; i < PATCH_BYTES; i += 4) {
        unsigned char *block = stream + (1 + patch[i] % blocks) * (size_t)SLOT;
        uint32_t at = (uint32_t)(patch[i + 1] << 4 | patch[i + 2] >> 4) % SLOT;

        block[patch[i] < 128 ? at % 160 : at] ^= patch[i + 3];
        block_sign(block);
    }
}

static void block_read(const struct torc_log_block *block)
{
    const unsigned char *end = block->bytes + block->byte_count;
    struct torc_log_record record;
    uint32_t count = 0;
    bool more = true;

    torc_assert(block->carry_bytes <= block->byte_count);
    torc_log_reader_init(&reader, block);
    while (torc_log_reader_next(&reader, &record, &more, NULL) == TORC_ERR_OK && more) {
        torc_assert(record.piece_bytes <= record.value_bytes);
        torc_assert(record.kind != TORC_LOG_PUT ||
                    (const unsigned char *)record.value + record.piece_bytes <= end);
        torc_assert(!record.with_client || record.low <= record.seq);
        count++;
    }
    torc_assert(count <= block->record_count);
}

static void stream_read(uint32_t blocks)
{
    struct torc_log_order_note notes[8];
    struct torc_log_order_stream streams[2];
    struct torc_log_order_piece piece;
    struct torc_log_order order;
    bool more = true;

    torc_log_order_init(&order, notes, TORC_COUNT_OF(notes), streams, TORC_COUNT_OF(streams));
    for (uint32_t slot = 1; slot <= blocks; slot++) {
        struct torc_log_block block;

        if (torc_log_block_check(stream + (size_t)slot * SLOT, SLOT, &block, NULL) == TORC_ERR_OK) {
            block_read(&block);
            (void)!torc_log_order_note(&order, &block, NULL);
        }
    }
    for (uint32_t i = 0; i < 20 && more; i++) {
        if (torc_log_order_next(&order, &piece, &more, NULL) != TORC_ERR_OK) {
            break;
        }
    }
}

static void stream_scan(uint32_t blocks)
{
    struct torc_log_scan_segment segments[1] = {
        {.header = {.cluster = 1, .generation = 1, .node = 1, .stream = 1, .segment = 1}}};
    struct torc_log_scan_result result;
    struct torc_log_scan scan;

    torc_assert(torc_log_scan_begin(&scan, segments, 1, NULL) == TORC_ERR_OK);
    (void)torc_log_scan_feed(&scan, stream + SLOT, (uint64_t)blocks * SLOT, true);
    if (torc_log_scan_end(&scan, &result, NULL) == TORC_ERR_OK) {
        torc_assert(segments[0].kept_end_bytes <= (1 + blocks) * SLOT);
        torc_assert(result.next_sequence > result.last_sequence);
    }
}

static void stream_replay(uint32_t blocks, bool follows)
{
    struct torc_replay *replay = torc_replay_init(replay_memory, torc_replay_bytes(SHARDS), SHARDS);
    struct torc_shard shards[SHARDS];
    struct torc_fail why;
    uint64_t bytes = (uint64_t)blocks * SLOT;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_shard_config config = shard_rig_config(&rig);

        config.shard = 1 + i;
        config.hi = UINT64_MAX;
        config.epoch = 9;
        config.turn = 9;
        config.follows = follows;
        torc_assert(torc_shard_init(&shards[i], &rig.pool, &config, &why) == TORC_ERR_OK);
        torc_replay_add(replay, &shards[i]);
    }
    do {
        err = torc_replay_log(replay, 1, stream + SLOT, bytes, &why);
        err = err == TORC_ERR_OK ? torc_replay_log_end(replay, 1, &why) : err;
    } while (err == TORC_ERR_OK && torc_replay_again(replay));
    err = err == TORC_ERR_OK ? torc_replay_end(replay, &why) : err;
    if (err != TORC_ERR_OK) {
        torc_replay_drop(replay);
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        torc_assert(torc_tree_check(&shards[i].tree, &why) == TORC_ERR_OK);
        torc_assert(torc_completion_check(&shards[i].completions, &why) == TORC_ERR_OK);
        torc_shard_drop(&shards[i]);
    }
    torc_assert(rig.heap.block_count == 0);
    torc_assert(rig.pool.completions.result_used == 0);
    rig.pool.hlc = 0;
}

static void bytes_as_they_are(const uint8_t *data, size_t size)
{
    struct torc_log_segment segment;
    struct torc_log_block block;

    memset(stream, 0, SLOT);
    memcpy(stream, data, torc_min_u64(size, SLOT));
    (void)!torc_log_segment_check(stream, &segment, NULL);
    (void)torc_log_filler_slots(stream);
    if (torc_log_block_check(data, size, &block, NULL) == TORC_ERR_OK) {
        block_read(&block);
    }
    block_sign(stream);
    if (torc_log_block_check(stream, SLOT, &block, NULL) == TORC_ERR_OK) {
        block_read(&block);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t blocks;

    fuzz_open();
    bytes_as_they_are(data, size);
    if (size <= PATCH_BYTES + STEP_BYTES) {
        return 0;
    }
    blocks = stream_make(data, (size - PATCH_BYTES) / STEP_BYTES);
    stream_patch(data + size - PATCH_BYTES, blocks);
    stream_read(blocks);
    stream_scan(blocks);
    if ((data[0] & 7) < 2) { // making a shard takes longest
        stream_replay(blocks, (data[0] & 1) != 0);
    }
    return 0;
}
