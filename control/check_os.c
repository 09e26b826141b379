// Torc control: looking at a data directory that nobody serves. See control/check_os.h.
#include "control/check_os.h"

#include "control/recover_uring.h"
#include "control/registry_os.h"
#include "kit/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct check {
    struct torc_data_dir dir;
    struct torc_registry registry;
    struct torc_disk *disk;
    struct torc_log_store *store;
    struct torc_recover *recover;
    struct torc_recover_shard *shards;
};

static void check_close(struct check *check)
{
    if (check->recover != NULL) {
        torc_recover_close(check->recover);
    }
    if (check->store != NULL) {
        torc_log_store_close(check->store);
    }
    if (check->disk != NULL) {
        torc_disk_close(check->disk);
    }
    free(check->shards);
    torc_registry_close(&check->registry);
    torc_data_dir_close(&check->dir);
}

// One block of a checkpoint at the start of `bytes`; 0: it is none or fails its CRC.
static uint64_t check_block(const unsigned char *bytes, uint64_t byte_count)
{
    struct torc_checkpoint_block head;
    uint64_t whole;
    uint32_t crc;

    if (byte_count < sizeof(head)) {
        return 0;
    }
    memcpy(&head, bytes, sizeof(head));
    whole = sizeof(head) + torc_get_le32(head.payload_bytes);
    if (torc_get_le32(head.magic) != TORC_CHECKPOINT_BLOCK_MAGIC || whole > byte_count ||
        whole > TORC_CHECKPOINT_BLOCK_BYTES_MAX) {
        return 0;
    }
    crc = torc_crc32c(0, bytes, offsetof(struct torc_checkpoint_block, crc));
    crc = torc_crc32c(crc, bytes + sizeof(head), whole - sizeof(head));
    return crc == torc_get_le32(head.crc) ? whole : 0;
}

// All blocks of one file, by reading it as it is needed.
static enum torc_err check_file(int folder_fd, const char *name, uint64_t *block_count,
                                struct torc_fail *why)
{
    unsigned char *buffer = malloc(TORC_CHECKPOINT_BLOCK_BYTES_MAX);
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
    uint64_t offset = sizeof(struct torc_checkpoint_header);
    enum torc_err err = TORC_ERR_OK;
    struct stat at = {0};

    torc_assert(buffer != NULL);
    *block_count = 0;
    if (fd < 0 || fstat(fd, &at) != 0) {
        err = torc_fail(why, TORC_ERR_IO, "read checkpoint/%s: %s", name, strerrordesc_np(errno));
    }
    while (err == TORC_ERR_OK && offset < (uint64_t)at.st_size) {
        int64_t got = pread(fd, buffer, TORC_CHECKPOINT_BLOCK_BYTES_MAX, (off_t)offset);
        uint64_t bytes = got > 0 ? check_block(buffer, (uint64_t)got) : 0;

        if (got < 0) {
            err = torc_fail(why, TORC_ERR_IO, "read checkpoint/%s at %" PRIu64 ": %s", name, offset,
                            strerrordesc_np(errno));
        } else if (bytes == 0) {
            err = torc_fail(why, TORC_ERR_CORRUPT,
                            "checkpoint/%s: the block at byte %" PRIu64 " fails its check", name,
                            offset);
        }
        offset += bytes;
        *block_count += 1;
    }
    if (fd >= 0) {
        (void)close(fd); // only read
    }
    free(buffer);
    return err;
}

static enum torc_err check_checkpoints(const struct check *check, struct torc_fail *why)
{
    enum torc_err worst = TORC_ERR_OK;
    uint32_t file_count = 0;
    uint64_t byte_count = 0;

    for (uint32_t i = 0; i < check->registry.cluster.shard_count; i++) {
        const struct torc_recover_shard *shard = check->shards + i;
        struct torc_fail found = {0};
        uint64_t block_count;
        char name[48];

        if (!shard->has_checkpoint) {
            continue;
        }
        torc_checkpoint_name(name, sizeof(name), shard->shard, shard->checkpoint.lsn);
        file_count++;
        byte_count += shard->checkpoint_bytes;
        if (check_file(check->dir.checkpoint_fd, name, &block_count, &found) != TORC_ERR_OK) {
            (void)printf("damage      %s\n", found.text);
            if (worst == TORC_ERR_OK) {
                worst = torc_fail(why, found.err, "%s", found.text);
            }
        }
    }
    (void)printf("checkpoints %" PRIu32 " of %" PRIu32 " shards, %" PRIu64 " bytes\n", file_count,
                 check->registry.cluster.shard_count, byte_count);
    return worst;
}

static enum torc_err check_log(struct check *check, struct torc_fail *why)
{
    struct torc_recover_config config = {
        .disk = check->disk,
        .store = check->store,
        .log_fd = check->dir.log_fd,
        .checkpoint_fd = check->dir.checkpoint_fd,
        .cluster = check->dir.cluster,
        .node = check->dir.node,
        .shards = check->shards,
        .shard_count = check->registry.cluster.shard_count,
        .others = check->registry.meta.replicas > 1 ? check->registry.survey : NULL,
        .look_only = true};
    struct torc_recover_numbers found;
    bool scanned = false;
    enum torc_err err = torc_recover_check_others(&config, why);

    if (err == TORC_ERR_OK) {
        err = torc_recover_begin(&check->recover, &config, why);
    }

    while (err == TORC_ERR_OK && !scanned) {
        err = torc_recover_step(check->recover, &scanned, why);
    }
    if (err != TORC_ERR_OK) {
        (void)printf("damage      %s\n", why->text);
        return err;
    }
    torc_recover_numbers(check->recover, &found);
    (void)printf("log         %" PRIu32 " streams, %" PRIu64 " blocks, %" PRIu64 " bytes, %" PRIu64
                 " blocks of a torn tail (never acknowledged)\n",
                 torc_log_store_stream_count(check->store), found.log_blocks, found.log_bytes,
                 found.torn_blocks);
    return TORC_ERR_OK;
}

static enum torc_err check_open(struct check *check, const struct torc_settings *settings,
                                struct torc_fail *why)
{
    struct torc_log_store_config config = {.segment_bytes = (uint32_t)settings->segment_bytes,
                                           .inflight = 1,
                                           .spares_max = UINT32_MAX,
                                           .look_only = true};
    enum torc_err err =
        torc_data_dir_open(&check->dir, settings->data, true, settings->lock_wait_s * 1000, why);

    if (err == TORC_ERR_OK) {
        (void)printf("directory   %s: node %" PRIu32 " of cluster %016" PRIx64 ", start %" PRIu64
                     "\n",
                     settings->data, check->dir.node, check->dir.cluster, check->dir.start_count);
        err = torc_registry_open(&check->registry, settings, &check->dir, why);
    }
    if (err == TORC_ERR_OK) {
        (void)printf("metastore   revision %" PRIu64 ", keys %" PRIu64 ", %" PRIu32
                     " shards, boot %" PRIu64 "\n",
                     check->registry.cluster.map_version, check->registry.cluster.keys,
                     check->registry.cluster.shard_count, check->registry.cluster.boot);
        int held_fd = check->dir.lock_fd >= 0 ? check->dir.lock_fd : check->dir.fd;

        err = torc_disk_open(&check->disk, held_fd, why);
    }
    if (err == TORC_ERR_OK) {
        config.cluster = check->dir.cluster;
        config.node = check->dir.node;
        config.folder_fd = check->dir.log_fd;
        err = torc_log_store_open(&check->store, check->disk, &config, why);
    }
    return err;
}

enum torc_err torc_check_directory(const struct torc_settings *settings, struct torc_fail *why)
{
    struct check check = {
        .dir = {.fd = -1, .lock_fd = -1, .log_fd = -1, .checkpoint_fd = -1, .run_fd = -1}};
    struct torc_fail later = {0};
    enum torc_err err = check_open(&check, settings, why);

    if (err == TORC_ERR_OK) {
        check.shards = calloc(check.registry.cluster.shard_count + 1, sizeof(*check.shards));
        torc_assert(check.shards != NULL);
        for (uint32_t i = 0; i < check.registry.cluster.shard_count; i++) {
            check.shards[i].shard = check.registry.cluster.shards[i].shard;
        }
        err = check_log(&check, why);
        if (check_checkpoints(&check, &later) != TORC_ERR_OK && err == TORC_ERR_OK) {
            err = torc_fail(why, later.err, "%s", later.text);
        }
    }
    if (check.dir.fd >= 0 && !torc_data_dir_is_quiet(&check.dir)) {
        err = torc_fail(why, TORC_ERR_IN_USE,
                        "a node was started in %.80s while it was looked at, so this says nothing; "
                        "stop it first",
                        settings->data);
    }
    if (err == TORC_ERR_OK) {
        (void)printf("no damage found\n");
    }
    check_close(&check);
    return err;
}
