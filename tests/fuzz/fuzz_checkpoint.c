// Torc tests: any bytes as a checkpoint.
//
// What    the input is read as it is; and it is a recipe for a shard whose checkpoint is written,
//         some bytes of it changed and CRCs made right again, and read: into a shard, and only
//         checked. Both must agree on whether it is good, and what was built is whole and can be
//         dropped.
#include "kit/crc32c.h"
#include "storage/checkpoint.h"
#include "tests/shard_rig.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    CHUNKS = 8,
    STEP_BYTES = 3,
    PATCH_BYTES = 12,
    FILE_BYTES_MAX = 1 << 20,
};

#define HEAP_BYTES   (UINT64_C(4) << 20)
#define HEADER_BYTES ((uint32_t)sizeof(struct torc_checkpoint_header))
#define BLOCK_BYTES  ((uint32_t)sizeof(struct torc_checkpoint_block))

static struct shard_rig rig;
static unsigned char *file;
static unsigned char *memory; // of the reader
static unsigned char value[1 << 14];

static void fuzz_open(void)
{
    static const struct torc_shard_pool_config config = {.slots_max = 16,
                                                         .waiting_max = 4,
                                                         .completion_bytes =
                                                             TORC_COMPLETION_POOL_BYTES_MIN,
                                                         .principal_ppm = 1000000,
                                                         .dedup_ttl_s = 120,
                                                         .seed = 1};

    if (file == NULL) {
        shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
        shard_rig_pool(&rig, CHUNKS, &config);
        file = malloc(FILE_BYTES_MAX);
        memory = malloc(torc_checkpoint_reader_bytes());
        torc_assert(file != NULL && memory != NULL);
    }
}

static void shard_open(struct torc_shard *shard)
{
    struct torc_shard_config config = shard_rig_config(&rig);

    config.shard = 1;
    config.hi = 1000;
    config.epoch = 1;
    torc_assert(torc_shard_init(shard, &rig.pool, &config, NULL) == TORC_ERR_OK);
}

static void shard_fill(struct torc_shard *shard, const uint8_t *recipe, size_t steps)
{
    for (size_t i = 0; i < steps; i++, recipe += STEP_BYTES) {
        struct torc_tree_write write = {.key = recipe[1],
                                        .version = 100 + i,
                                        .value = value,
                                        .value_bytes =
                                            recipe[2] * ((recipe[0] & 3) == 0 ? 60u : 1u)};
        struct torc_completion_head head = {
            .who = {.client = recipe[0] % 5}, .low = recipe[2] / 2, .last_hlc = 100 + i};
        struct torc_completion_promise none = {0};

        (void)torc_tree_write(&shard->tree, &write, NULL); // memory may end
        (void)!torc_completion_apply(&shard->completions, &head, recipe[2], &none);
    }
    shard->applied_hlc = 100 + steps;
}

static uint64_t file_write(struct torc_shard *shard, uint32_t room)
{
    struct torc_checkpoint_place place = {.cluster = 1, .checkpoint = 1};
    struct torc_checkpoint_writer writer;
    uint64_t bytes = 0;

    torc_checkpoint_writer_begin(&writer, shard, &place);
    while (!torc_checkpoint_writer_done(&writer)) {
        torc_assert(bytes + room <= FILE_BYTES_MAX);
        bytes += torc_checkpoint_writer_next(&writer, shard, file + bytes, room);
    }
    torc_assert(bytes >= HEADER_BYTES + 2 * BLOCK_BYTES);
    return bytes;
}

// Makes the CRCs right as far as blocks can be told.
static void file_sign(uint64_t bytes)
{
    struct torc_le32 crc =
        torc_le32(torc_crc32c(0, file, offsetof(struct torc_checkpoint_header, crc)));
    uint64_t at = HEADER_BYTES;

    memcpy(file + offsetof(struct torc_checkpoint_header, crc), &crc, sizeof(crc));
    while (at + BLOCK_BYTES <= bytes) {
        struct torc_checkpoint_block block;
        uint32_t payload;

        memcpy(&block, file + at, sizeof(block));
        payload = torc_get_le32(block.payload_bytes);
        if (payload > bytes - at - BLOCK_BYTES) {
            return;
        }
        crc = torc_le32(
            torc_crc32c(torc_crc32c(0, &block, offsetof(struct torc_checkpoint_block, crc)),
                        file + at + BLOCK_BYTES, payload));
        memcpy(file + at + offsetof(struct torc_checkpoint_block, crc), &crc, sizeof(crc));
        at += BLOCK_BYTES + payload;
    }
}

static enum torc_err file_read(struct torc_shard *shard, const unsigned char *bytes,
                               uint64_t byte_count, uint32_t piece)
{
    struct torc_checkpoint_reader reader;
    struct torc_fail why;
    enum torc_err err = TORC_ERR_OK;
    uint64_t done = 0;

    torc_checkpoint_reader_init(&reader, shard, memory);
    while (done < byte_count && err == TORC_ERR_OK) {
        uint64_t some = torc_min_u64(piece, byte_count - done);

        err = torc_checkpoint_reader_feed(&reader, bytes + done, some, &why);
        done += some;
    }
    err = err == TORC_ERR_OK ? torc_checkpoint_reader_end(&reader, &why) : err;
    torc_checkpoint_reader_drop(&reader);
    return err;
}

static void read_both(const unsigned char *bytes, uint64_t byte_count, uint32_t piece)
{
    struct torc_shard shard;
    struct torc_fail why;
    enum torc_err checked = file_read(NULL, bytes, byte_count, piece);
    enum torc_err built;

    shard_open(&shard);
    built = file_read(&shard, bytes, byte_count, piece);
    torc_assert(built != TORC_ERR_OK || checked == TORC_ERR_OK);
    torc_assert(torc_tree_check(&shard.tree, &why) == TORC_ERR_OK);
    torc_assert(torc_completion_check(&shard.completions, &why) == TORC_ERR_OK);
    torc_shard_drop(&shard);
    torc_assert(rig.heap.block_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_checkpoint_footer footer;
    struct torc_checkpoint_info info;
    struct torc_shard shard;
    uint64_t bytes;

    fuzz_open();
    (void)!torc_checkpoint_header_check(data, size, &info, NULL);
    (void)!torc_checkpoint_footer_check(data, size, &footer, NULL);
    torc_assert(size == 0 || file_read(NULL, data, size, 7) != TORC_ERR_OK ||
                size >= HEADER_BYTES + 2 * BLOCK_BYTES);
    if (size <= PATCH_BYTES + STEP_BYTES || (data[0] & 7) > 1) { // making shards takes longest
        return 0;
    }
    shard_open(&shard);
    shard_fill(&shard, data, (size - PATCH_BYTES) / STEP_BYTES);
    bytes = file_write(&shard, TORC_CHECKPOINT_BLOCK_BYTES_MIN);
    torc_shard_drop(&shard);
    torc_assert(bytes > 0);
    torc_assert(file_read(NULL, file, bytes, 100) == TORC_ERR_OK); // before it is changed
    for (const uint8_t *patch = data + size - PATCH_BYTES; patch < data + size; patch += 4) {
        uint64_t at = (uint64_t)patch[0] << 8 | patch[1];

        file[(patch[2] < 128 ? HEADER_BYTES + at % 200 : at) % bytes] ^= patch[3];
    }
    file_sign(bytes);
    read_both(file, bytes, 1 + data[1] * 97u);
    return 0;
}
