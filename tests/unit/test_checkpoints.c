// Torc tests: control/checkpoint_uring.h with a worker's end that the test plays: what is kept,
// what is waited for, and every way in which a checkpoint is given up.
#include "control/checkpoint_uring.h"
#include "control/recover_uring.h"
#include "kit/crc32c.h"
#include "tests/torc_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHARDS = 2,
    PAYLOAD = 60000,
    BLOCKS = 40, // 2.4 MB: more than the two buffers hold
    STEPS_MAX = 20000
};

#define CLUSTER UINT64_C(0x77)

// One node with one worker; the log's durable mark is the test's to set.
struct rig {
    char folder[64];
    int log_fd;
    int checkpoint_fd;
    int lock_fd;
    void *memory;
    struct torc_attach attach;
    struct torc_chan_ports worker;
    struct torc_disk *disk;
    struct torc_log_store *store;
    struct torc_cluster cluster;
    struct torc_cluster_shard shards[SHARDS];
    struct torc_checkpoints *checkpoints;
    unsigned char *file; // what the worker sends
    uint64_t file_bytes;
    int32_t fault;            // result of writes; 0: none
    enum torc_disk_kind kind; // of those that fail
    const char *named;        // once there is this file; NULL: at once
    bool hangs;               // nothing comes back from the disk
    uint32_t ended;           // CHECKPOINT_END orders seen
    uint32_t given_up;        // of them
    uint64_t ordered;         // number of the last order; 0: none since the last answer
    uint32_t ordered_shard;
};

static void fault(void *context, const struct torc_disk_op *op, struct torc_disk_verdict *verdict)
{
    const struct rig *rig = context;

    if (rig->fault != 0 && op->kind == rig->kind &&
        (rig->named == NULL || faccessat(rig->checkpoint_fd, rig->named, F_OK, 0) == 0)) {
        verdict->result = rig->fault;
    }
}

static int rig_folder(const struct rig *rig, const char *name)
{
    char path[96];

    (void)snprintf(path, sizeof(path), "%s/%s", rig->folder, name);
    CU_ASSERT_EQUAL_FATAL(mkdir(path, 0700), 0);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void rig_open_channel(struct rig *rig)
{
    uint64_t bytes = torc_chan_bytes(1);
    struct torc_fail why = {0};

    rig->memory = aligned_alloc(TORC_SPSC_ALIGN_BYTES, bytes);
    torc_assert(rig->memory != NULL);
    memset(rig->memory, 0, bytes);
    TORC_TEST_OK(torc_chan_format(rig->memory, bytes, 1, &why), &why);
    TORC_TEST_OK(torc_chan_attach(&rig->worker, TORC_CHAN_DATAPLANE, rig->memory, bytes, 0, &why),
                 &why);
    rig->attach = (struct torc_attach){.chan = rig->memory,
                                       .hello = {.worker_count = 1},
                                       .socket = -1,
                                       .pidfd = -1,
                                       .doorbell = -1};
    rig->attach.ports = calloc(1, sizeof(*rig->attach.ports));
    torc_assert(rig->attach.ports != NULL);
    TORC_TEST_OK(
        torc_chan_attach(rig->attach.ports, TORC_CHAN_CONTROL, rig->memory, bytes, 0, &why), &why);
}

static void rig_open(struct rig *rig, uint64_t durable)
{
    struct torc_log_store_config log = {
        .cluster = CLUSTER, .node = 1, .segment_bytes = 1 << 20, .inflight = 1};
    struct torc_checkpoints_config config = {.first_number = 10};
    char path[96];
    struct torc_fail why = {0};

    memset(rig, 0, sizeof(*rig));
    rig->kind = TORC_DISK_WRITE;
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/torc-checkpoints-XXXXXX");
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(rig->folder));
    rig->log_fd = rig_folder(rig, "log");
    rig->checkpoint_fd = rig_folder(rig, "checkpoint");
    (void)snprintf(path, sizeof(path), "%s/LOCK", rig->folder);
    rig->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    rig_open_channel(rig);
    TORC_TEST_OK(torc_disk_open(&rig->disk, rig->lock_fd, &why), &why);
    log.folder_fd = rig->log_fd;
    TORC_TEST_OK(torc_log_store_open(&rig->store, rig->disk, &log, &why), &why);
    TORC_TEST_OK(torc_log_store_begin(rig->store, &rig->attach, 0, durable + 1, &why), &why);
    for (uint32_t i = 0; i < SHARDS; i++) {
        rig->shards[i].shard = i + 1;
    }
    rig->cluster = (struct torc_cluster){
        .cluster = CLUSTER, .node = 1, .shard_count = SHARDS, .shards = rig->shards};
    config.disk = rig->disk;
    config.store = rig->store;
    config.attach = &rig->attach;
    config.cluster = &rig->cluster;
    config.folder_fd = rig->checkpoint_fd;
    TORC_TEST_OK(torc_checkpoints_open(&rig->checkpoints, &config, &why), &why);
    torc_disk_set_fault(rig->disk, fault, rig);
}

static void rig_close(struct rig *rig)
{
    char words[128];

    torc_disk_set_fault(rig->disk, NULL, NULL);
    while (!torc_checkpoints_settle(rig->checkpoints) || torc_disk_busy(rig->disk) > 0) {
        (void)torc_disk_run(rig->disk);
    }
    torc_checkpoints_close(rig->checkpoints);
    torc_log_store_detach(rig->store);
    torc_log_store_close(rig->store);
    torc_disk_close(rig->disk);
    free(rig->attach.ports);
    free(rig->memory);
    free(rig->file);
    (void)close(rig->log_fd);
    (void)close(rig->checkpoint_fd);
    (void)close(rig->lock_fd);
    (void)snprintf(words, sizeof(words), "rm -r %s", rig->folder);
    CU_ASSERT_EQUAL(system(words), 0); // NOLINT(cert-env33-c,concurrency-mt-unsafe): a test's own
}

// -- The worker's end ----------------------------------------------------------------------------

// A file as a worker would send it: header, blocks of some bytes, footer.
static void rig_make_file(struct rig *rig, uint32_t shard, uint64_t lsn, uint64_t end_sequence)
{
    struct torc_checkpoint_header head = {.magic = torc_le32(TORC_CHECKPOINT_MAGIC),
                                          .version = torc_le16(TORC_CHECKPOINT_VERSION),
                                          .cluster = torc_le64(CLUSTER),
                                          .node = torc_le32(1),
                                          .shard = torc_le32(shard),
                                          .hi = torc_le64(1000),
                                          .epoch = torc_le32(1),
                                          .lsn = torc_le64(lsn),
                                          .start_sequence = torc_le64(lsn),
                                          .checkpoint = torc_le64(rig->ordered),
                                          .stream = torc_le32(1)};
    struct torc_checkpoint_footer footer = {.end_lsn = torc_le64(lsn),
                                            .end_sequence = torc_le64(end_sequence),
                                            .block_count = torc_le32(BLOCKS + 1)};
    unsigned char *at;

    free(rig->file);
    rig->file = calloc(BLOCKS + 1, PAYLOAD + sizeof(struct torc_checkpoint_block));
    torc_assert(rig->file != NULL);
    head.crc = torc_le32(torc_crc32c(0, &head, offsetof(struct torc_checkpoint_header, crc)));
    memcpy(rig->file, &head, sizeof(head));
    at = rig->file + sizeof(head);
    for (uint32_t i = 0; i <= BLOCKS; i++) {
        bool last = i == BLOCKS;
        uint32_t bytes = last ? (uint32_t)sizeof(footer) : PAYLOAD;
        struct torc_checkpoint_block block = {.magic = torc_le32(TORC_CHECKPOINT_BLOCK_MAGIC),
                                              .kind = last ? TORC_CHECKPOINT_FOOTER
                                                           : TORC_CHECKPOINT_MORE,
                                              .index = torc_le32(i),
                                              .count = torc_le32(last ? 1 : 0),
                                              .payload_bytes = torc_le32(bytes)};
        uint32_t crc;

        memset(at + sizeof(block), (int)i, bytes);
        if (last) {
            memcpy(at + sizeof(block), &footer, sizeof(footer));
        }
        crc = torc_crc32c(0, &block, offsetof(struct torc_checkpoint_block, crc));
        block.crc = torc_le32(torc_crc32c(crc, at + sizeof(block), bytes));
        memcpy(at, &block, sizeof(block));
        at += sizeof(block) + bytes;
    }
    rig->file_bytes = (uint64_t)(at - rig->file);
}

// Takes orders; true when one is to be worked at.
static bool rig_orders(struct rig *rig)
{
    while (torc_spsc_readable(&rig->worker.cmd, 1) > 0) {
        const struct torc_cmd *order = torc_spsc_read_at(&rig->worker.cmd, 0);

        if (order->kind == TORC_CMD_CHECKPOINT) {
            rig->ordered = order->checkpoint.checkpoint;
            rig->ordered_shard = order->checkpoint.shard;
        } else if (order->kind == TORC_CMD_CHECKPOINT_END) {
            rig->ended++;
            rig->given_up += order->checkpoint.given_up;
        }
        torc_spsc_release(&rig->worker.cmd, 1);
    }
    return rig->ordered != 0;
}

static bool rig_step(struct rig *rig)
{
    bool kept = false;

    (void)torc_log_store_step(rig->store, 1);
    (void)torc_checkpoints_step(rig->checkpoints, &kept);
    if (rig->hangs) {
        return kept;
    }
    if (torc_disk_run(rig->disk) == 0 && torc_disk_busy(rig->disk) > 0) {
        (void)torc_disk_wait(rig->disk, -1, 200000);
    }
    return kept;
}

// The worker has nothing of the shard; its log says so from block `begun` on, 0: not durably.
static void rig_send_nothing(struct rig *rig, uint64_t begun)
{
    struct torc_evt_checkpoint event = {.checkpoint = rig->ordered,
                                        .start_sequence = begun,
                                        .shard = rig->ordered_shard,
                                        .failed = TORC_CHAN_UNMADE_NOTHING};

    torc_checkpoints_event(rig->checkpoints, 0, &event);
    rig->ordered = 0;
}

// Sends the file's bytes up to `until` and, if that is all, the event.
static void rig_send(struct rig *rig, uint64_t until, uint64_t said_bytes, uint32_t failed)
{
    struct torc_evt_checkpoint event = {.checkpoint = rig->ordered,
                                        .shard = rig->ordered_shard,
                                        .bytes = said_bytes,
                                        .failed = failed};
    uint64_t sent = 0;

    while (sent < until) {
        struct torc_bulk *bulk;

        if (torc_spsc_writable(&rig->worker.out, 1) == 0) {
            (void)rig_step(rig);
            continue;
        }
        bulk = torc_spsc_write_at(&rig->worker.out, 0);
        memset(bulk, 0, offsetof(struct torc_bulk, bytes));
        bulk->kind = TORC_BULK_CHECKPOINT;
        bulk->shard = rig->ordered_shard;
        bulk->checkpoint = rig->ordered;
        bulk->byte_count = (uint32_t)torc_min_u64(sizeof(bulk->bytes), until - sent);
        memcpy(bulk->bytes, rig->file + sent, bulk->byte_count);
        sent += bulk->byte_count;
        torc_spsc_publish(&rig->worker.out, 1);
    }
    torc_checkpoints_event(rig->checkpoints, 0, &event);
    rig->ordered = 0;
}

// 1: a step in which nothing but the rig could go on. A disk may take as long as it likes.
static uint32_t rig_idle(const struct rig *rig)
{
    return rig->hangs || torc_disk_busy(rig->disk) == 0 ? 1 : 0;
}

// Steps until `ended` orders ended, or for a while.
static void rig_run(struct rig *rig, uint32_t ended)
{
    for (uint32_t i = 0; i < STEPS_MAX && rig->ended < ended; i += rig_idle(rig)) {
        (void)rig_step(rig);
        (void)rig_orders(rig);
    }
}

static void rig_next_order(struct rig *rig)
{
    for (uint32_t i = 0; i < STEPS_MAX && !rig_orders(rig); i += rig_idle(rig)) {
        (void)rig_step(rig);
    }
    CU_ASSERT_FATAL(rig->ordered != 0);
}

static bool rig_has(const struct rig *rig, const char *name)
{
    return faccessat(rig->checkpoint_fd, name, F_OK, 0) == 0;
}

static bool rig_file_is_whole(const struct rig *rig, const char *name)
{
    unsigned char *bytes = malloc(rig->file_bytes + 1);
    int fd = openat(rig->checkpoint_fd, name, O_RDONLY | O_CLOEXEC);
    bool whole;

    torc_assert(bytes != NULL);
    whole = fd >= 0 && read(fd, bytes, rig->file_bytes + 1) == (ssize_t)rig->file_bytes &&
            memcmp(bytes, rig->file, rig->file_bytes) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    free(bytes);
    return whole;
}

static void rig_keep_all(struct rig *rig, uint64_t lsn)
{
    torc_checkpoints_round(rig->checkpoints);
    for (uint32_t i = 0; i < SHARDS; i++) {
        rig_next_order(rig);
        rig_make_file(rig, rig->ordered_shard, lsn, 100);
        rig_send(rig, rig->file_bytes, rig->file_bytes, 0);
        rig_run(rig, rig->ended + 1);
    }
}

// -- Tests ---------------------------------------------------------------------------------------

static void a_round_keeps_every_shard_and_drops_the_older_file(void)
{
    struct rig rig;

    rig_open(&rig, 100);
    for (uint64_t lsn = 5; lsn <= 6; lsn++) {
        rig_keep_all(&rig, lsn);
    }
    CU_ASSERT_EQUAL(rig.ended, 2 * SHARDS);
    CU_ASSERT_EQUAL(rig.given_up, 0);
    CU_ASSERT_TRUE(torc_checkpoints_is_idle(rig.checkpoints));
    CU_ASSERT_TRUE(rig_file_is_whole(&rig, "2-6"));
    CU_ASSERT_TRUE(rig_has(&rig, "1-6"));
    CU_ASSERT_FALSE(rig_has(&rig, "1-5"));
    CU_ASSERT_FALSE(rig_has(&rig, "2-5"));
    CU_ASSERT_TRUE(rig.shards[0].covered);
    CU_ASSERT_EQUAL(rig.shards[0].start_sequence, 6);
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 6);
    rig_close(&rig);
}

static void a_checkpoint_waits_for_the_log(void)
{
    struct rig rig;

    rig_open(&rig, 99); // the file says that it needs the log up to 100
    torc_checkpoints_round(rig.checkpoints);
    rig_next_order(&rig);
    rig_make_file(&rig, rig.ordered_shard, 5, 100);
    rig_send(&rig, rig.file_bytes, rig.file_bytes, 0);
    for (uint32_t i = 0; i < 500; i++) {
        (void)rig_step(&rig);
        (void)rig_orders(&rig);
    }
    CU_ASSERT_EQUAL(rig.ended, 0);
    CU_ASSERT_FALSE(rig_has(&rig, "1-5"));
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 0); // so nothing of the log may go
    rig_close(&rig);
}

// One checkpoint that ends badly; the older one stays, and the next round works.
static void given_up(int32_t fault_result, enum torc_disk_kind kind, uint64_t missing_bytes,
                     uint32_t failed, enum torc_err wanted)
{
    struct rig rig;
    struct torc_checkpoints_numbers numbers;

    rig_open(&rig, 100);
    rig_keep_all(&rig, 5);
    rig.fault = fault_result;
    rig.kind = kind;
    torc_checkpoints_round(rig.checkpoints);
    rig_next_order(&rig);
    rig_make_file(&rig, rig.ordered_shard, 9, 100);
    if (missing_bytes > 0) {
        rig.file[rig.file_bytes - missing_bytes] ^= 1; // the footer does not hold
    }
    rig_send(&rig, failed != 0 ? 1000 : rig.file_bytes, rig.file_bytes, failed);
    rig_run(&rig, SHARDS + 1);
    CU_ASSERT_EQUAL(rig.given_up, 1);
    torc_checkpoints_numbers(rig.checkpoints, &numbers);
    CU_ASSERT_EQUAL(numbers.failures, 1);
    CU_ASSERT_EQUAL(numbers.failure.err, wanted);
    CU_ASSERT_TRUE(rig_has(&rig, "1-5"));
    CU_ASSERT_FALSE(rig_has(&rig, "1-9"));
    CU_ASSERT_EQUAL(rig.shards[0].checkpoint_lsn, 5);
    // A full disk ends the round; else the other shard still has its turn.
    CU_ASSERT_EQUAL(torc_checkpoints_is_idle(rig.checkpoints), wanted == TORC_ERR_NO_SPACE);
    torc_checkpoints_round(rig.checkpoints); // tries again: what was is over
    torc_checkpoints_numbers(rig.checkpoints, &numbers);
    CU_ASSERT_EQUAL(numbers.failure.err, TORC_ERR_OK);
    CU_ASSERT_EQUAL(numbers.failures, 1);
    rig_close(&rig);
}

static void a_full_disk_gives_up_the_round(void)
{
    given_up(-28, TORC_DISK_WRITE, 0, 0, TORC_ERR_NO_SPACE); // ENOSPC
}

static void a_failing_write_gives_up_the_checkpoint(void)
{
    given_up(-5, TORC_DISK_WRITE, 0, 0, TORC_ERR_IO); // EIO
}

static void a_failing_sync_gives_up_the_checkpoint(void)
{
    given_up(-5, TORC_DISK_SYNC, 0, 0, TORC_ERR_IO);
}

static void a_footer_that_does_not_hold_gives_it_up(void)
{
    given_up(0, TORC_DISK_WRITE, 40, 0, TORC_ERR_CORRUPT);
}

static void a_worker_may_give_it_up(void)
{
    given_up(0, TORC_DISK_WRITE, 0, TORC_CHAN_UNMADE_FAILED, TORC_ERR_UNAVAILABLE);
}

// One replica waits for its base, for hours maybe: the round is whole without it, and whatever it
// holds of the log stays.
static void a_shard_without_a_base_is_no_failure(void)
{
    struct rig rig;
    struct torc_checkpoints_numbers numbers;

    rig_open(&rig, 100);
    rig_keep_all(&rig, 5);
    torc_checkpoints_round(rig.checkpoints);
    rig_next_order(&rig);
    rig_send(&rig, 0, 0, TORC_CHAN_UNMADE_NOTHING);
    rig_run(&rig, SHARDS + 1);
    rig_next_order(&rig);
    CU_ASSERT_EQUAL(rig.ordered_shard, 2);
    rig_make_file(&rig, rig.ordered_shard, 9, 100);
    rig_send(&rig, rig.file_bytes, rig.file_bytes, 0);
    rig_run(&rig, SHARDS + 2);
    CU_ASSERT_TRUE(torc_checkpoints_is_idle(rig.checkpoints));
    torc_checkpoints_numbers(rig.checkpoints, &numbers);
    CU_ASSERT_EQUAL(numbers.failures, 0);
    CU_ASSERT_EQUAL(numbers.failure.err, TORC_ERR_OK);
    CU_ASSERT_EQUAL(numbers.kept, SHARDS + 1);
    CU_ASSERT_EQUAL(numbers.due, SHARDS);
    CU_ASSERT_EQUAL(numbers.without, 1);
    CU_ASSERT_TRUE(rig_has(&rig, "1-5"));
    CU_ASSERT_TRUE(rig_has(&rig, "2-9"));
    CU_ASSERT_FALSE(rig_has(&rig, "1-12.tmp"));
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 5); // K2
    torc_cluster_base(&rig.cluster, 1);                      // it has got it
    rig_next_order(&rig);
    CU_ASSERT_EQUAL(rig.ordered_shard, 1);
    rig_make_file(&rig, 1, 11, 100);
    rig_send(&rig, rig.file_bytes, rig.file_bytes, 0);
    rig_run(&rig, SHARDS + 3);
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 9);
    rig_close(&rig);
}

// Shard 1 was emptied for a base that never comes: what it had holds the log no more, once the
// worker's log says so; what its worker says of it meanwhile ends that.
static void a_shard_that_was_emptied_holds_no_log(void)
{
    struct torc_evt_role member = {.shard = 1, .role = TORC_CHAN_BACKUP};
    struct torc_fail why = {0};
    struct rig rig;

    rig_open(&rig, 100);
    rig.shards[0].replica = rig.shards[0].based = true;
    rig_keep_all(&rig, 5);
    for (uint32_t round = 0; round < 4; round++) {
        torc_checkpoints_round(rig.checkpoints);
        rig_next_order(&rig);
        CU_ASSERT_EQUAL(rig.ordered_shard, 1);
        rig_send_nothing(&rig, round == 0 ? 0 : 7);
        CU_ASSERT_EQUAL(torc_cluster_to_forget(&rig.cluster) != NULL, round > 0);
        if (round == 1) {
            torc_cluster_base(&rig.cluster, 1);
        } else if (round == 2) {
            torc_cluster_role(&rig.cluster, &member);
        }
        CU_ASSERT_EQUAL(torc_cluster_to_forget(&rig.cluster) != NULL, round == 3);
        rig_run(&rig, rig.ended + 1);
        rig_next_order(&rig);
        rig_make_file(&rig, rig.ordered_shard, 9 + round, 100);
        rig_send(&rig, rig.file_bytes, rig.file_bytes, 0);
        rig_run(&rig, rig.ended + 1);
        CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 5);
    }
    CU_ASSERT_PTR_EQUAL_FATAL(torc_cluster_to_forget(&rig.cluster), rig.shards);
    TORC_TEST_OK(torc_checkpoints_forget(rig.checkpoints, rig.shards, &why), &why);
    torc_cluster_forget(rig.shards);
    CU_ASSERT_FALSE(rig_has(&rig, "1-5"));
    CU_ASSERT_PTR_NULL(torc_cluster_to_forget(&rig.cluster));
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 12); // and rises with each round
    torc_cluster_base(&rig.cluster, 1);                       // until its checkpoint is kept
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 0);
    rig_close(&rig);
}

// It does not know what the one before it had forgotten, and holds the log until the first round.
static void a_control_that_restarts_finds_out_who_has_nothing(void)
{
    struct torc_evt_here here = {.shard = 1, .hi = 10, .epoch = 1, .turn = 3};
    struct rig rig;

    rig_open(&rig, 100);
    rig_keep_all(&rig, 5);
    rig.shards[0].has_checkpoint = rig.shards[0].covered = false;
    rig.shards[0].replica = true;
    CU_ASSERT_PTR_EQUAL(torc_cluster_here(&rig.cluster, 0, true, &here), rig.shards);
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 0);
    torc_checkpoints_round(rig.checkpoints);
    rig_next_order(&rig);
    rig_send_nothing(&rig, 7);
    CU_ASSERT_PTR_EQUAL_FATAL(torc_cluster_to_forget(&rig.cluster), rig.shards);
    torc_cluster_forget(rig.shards);
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig.cluster, 1), 5);
    rig_close(&rig);
}

// All shards have a file; the first of a round is made, and ends at `end_sequence` of a log that is
// durable up to 100.
static void rig_begin_round(struct rig *rig, uint64_t end_sequence)
{
    rig_open(rig, 100);
    rig_keep_all(rig, 5);
    torc_checkpoints_round(rig->checkpoints);
    rig_next_order(rig);
    rig_make_file(rig, rig->ordered_shard, 9, end_sequence);
}

// Whether its name would be there after a power loss is not known: the older file stays.
static void a_folder_that_does_not_sync_keeps_none_at_the_end(void)
{
    struct rig rig;
    struct torc_checkpoints_numbers numbers;

    rig_begin_round(&rig, 100);
    rig.fault = -5; // EIO
    rig.kind = TORC_DISK_SYNC;
    rig.named = "1-9"; // its own bytes are synced
    rig_send(&rig, rig.file_bytes, rig.file_bytes, 0);
    for (uint32_t i = 0; i < STEPS_MAX && !rig_has(&rig, "1-9"); i += rig_idle(&rig)) {
        (void)rig_step(&rig);
    }
    while (!torc_checkpoints_settle(rig.checkpoints)) { // the dataplane is gone
        (void)torc_disk_run(rig.disk);
    }
    torc_checkpoints_numbers(rig.checkpoints, &numbers);
    CU_ASSERT_EQUAL(numbers.kept, SHARDS);
    CU_ASSERT_EQUAL(numbers.failures, 1);
    CU_ASSERT_EQUAL(numbers.failure.err, TORC_ERR_IO);
    CU_ASSERT_EQUAL(rig.shards[0].checkpoint_lsn, 5);
    CU_ASSERT_TRUE(rig_has(&rig, "1-5"));
    CU_ASSERT_TRUE(rig_has(&rig, "1-9"));
    rig_close(&rig);
}

// What a stop that does not wait any longer leaves: no round, the older files, and the log.
static void check_given_up(struct rig *rig)
{
    rig_run(rig, SHARDS + 1);
    for (uint32_t i = 0; i < 100; i++) {
        (void)rig_step(rig);
        (void)rig_orders(rig);
    }
    CU_ASSERT_EQUAL(rig->ordered, 0); // the other shard is not begun
    CU_ASSERT_EQUAL(rig->given_up, 1);
    CU_ASSERT_TRUE(torc_checkpoints_is_idle(rig->checkpoints));
    CU_ASSERT_TRUE(rig_has(rig, "1-5"));
    CU_ASSERT_TRUE(rig_has(rig, "2-5"));
    CU_ASSERT_FALSE(rig_has(rig, "1-9"));
    CU_ASSERT_FALSE(rig_has(rig, "1-12.tmp")); // the third since first_number
    CU_ASSERT_EQUAL(torc_cluster_floor(&rig->cluster, 1), 5);
}

static void a_round_that_waits_for_the_log_can_be_given_up(void)
{
    struct rig rig;

    rig_begin_round(&rig, 101);
    rig_send(&rig, rig.file_bytes, rig.file_bytes, 0);
    for (uint32_t i = 0; i < 500; i++) {
        (void)rig_step(&rig);
    }
    CU_ASSERT_FALSE(torc_checkpoints_is_idle(rig.checkpoints));
    torc_checkpoints_give_up(rig.checkpoints);
    check_given_up(&rig);
    rig_close(&rig);
}

// Its bytes stay put until the disk has given them back; nobody waits for that.
static void a_round_on_a_disk_that_hangs_can_be_given_up(void)
{
    struct rig rig;
    struct torc_checkpoints_numbers numbers;

    rig_begin_round(&rig, 100);
    rig.hangs = true;
    rig_send(&rig, rig.file_bytes / 3 * 2, rig.file_bytes, 0); // one buffer is full
    for (uint32_t i = 0; i < 500; i++) {
        (void)rig_step(&rig);
    }
    torc_checkpoints_give_up(rig.checkpoints);
    for (uint32_t i = 0; i < 500; i++) {
        (void)rig_step(&rig);
        (void)rig_orders(&rig);
    }
    torc_checkpoints_numbers(rig.checkpoints, &numbers);
    CU_ASSERT_EQUAL(numbers.wanted, 0);
    CU_ASSERT_EQUAL(rig.given_up, 0);
    CU_ASSERT_FALSE(torc_checkpoints_is_idle(rig.checkpoints));
    rig.hangs = false;
    check_given_up(&rig);
    rig_close(&rig);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a round keeps every shard and drops the older file",
         a_round_keeps_every_shard_and_drops_the_older_file},
        {"a checkpoint waits for the log", a_checkpoint_waits_for_the_log},
        {"a full disk gives up the round", a_full_disk_gives_up_the_round},
        {"a failing write gives up the checkpoint", a_failing_write_gives_up_the_checkpoint},
        {"a failing sync gives up the checkpoint", a_failing_sync_gives_up_the_checkpoint},
        {"a folder that does not sync keeps none at the end",
         a_folder_that_does_not_sync_keeps_none_at_the_end},
        {"a footer that does not hold gives it up", a_footer_that_does_not_hold_gives_it_up},
        {"a worker may give it up", a_worker_may_give_it_up},
        {"a shard without a base is no failure", a_shard_without_a_base_is_no_failure},
        {"a shard that was emptied holds no log", a_shard_that_was_emptied_holds_no_log},
        {"a control that restarts finds out who has nothing",
         a_control_that_restarts_finds_out_who_has_nothing},
        {"a round that waits for the log can be given up",
         a_round_that_waits_for_the_log_can_be_given_up},
        {"a round on a disk that hangs can be given up",
         a_round_on_a_disk_that_hangs_can_be_given_up},
        CU_TEST_INFO_NULL};

    return torc_test_run("checkpoints", tests);
}
