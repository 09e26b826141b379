// Torc tests: the log and its recovery against every crash of a disk that may do what disks do.
//
// What    a shard engine writes a log into segments. Every block is one write; several are in
//         flight and end in any order. After each step of that I/O the machine may lose power: then
//         each write in flight is there, is not there, or is there in part, sector by sector, in
//         any mixture. All that is looked at for every step: what recovery keeps
//         (storage/log_scan.h) and what replay makes of it must be the state after some record at
//         or above the last one that was acknowledged, with every value whole. One of those ends
//         then becomes the next life, whose log goes on in a new segment, over what the last life
//         left; files are used again. Sibling runs have a disk that lies, and a recovery that
//         forgets cuts: both must be seen.
// Use     TORC_SEED=n replays; TORC_TEST_CRASHES sets how many crashes.
#include "storage/log_scan.h"
#include "storage/replay.h"
#include "tests/shard_rig.h"

#include <string.h>

#ifdef TORC_TEST_SANITIZED // with sanitizers
#define CRASHES_DEFAULT 4000
#else
#define CRASHES_DEFAULT 25000
#endif

enum {
    KEYS = 24,
    CHUNKS = 64,
    FILES_MAX = 64,
    SEGMENT_SLOTS = 20,
    IN_FLIGHT_MAX = 4,
    RECORDS_MAX = 20000,
    WORLD_CRASHES = 2500,
    SECTOR_BYTES = 512,
    WINDOW = 3,
};

#define SLOT          TORC_LOG_SLOT_BYTES
#define SEGMENT_BYTES 81920u
#define HEAP_BYTES    (UINT64_C(16) << 20)
#define SHARD         5u

_Static_assert(SEGMENT_BYTES == SEGMENT_SLOTS * SLOT, "whole slots");

enum fault {
    FAULT_NONE,
    FAULT_LIE,    // a write that was said to be durable is not there
    FAULT_NO_CUT, // recovery does not look at first_sequence
    FAULT_COUNT,
};

// A file of the log. `bytes` is what is durable.
struct file {
    unsigned char *bytes;
    struct torc_log_segment header;
    uint64_t last_sequence; // of its last block, 0: none
};

// A write on its way to the disk.
struct flight {
    unsigned char bytes[8 * SLOT];
    uint32_t byte_count;
    uint32_t file;
    uint32_t offset_bytes;
    uint64_t sequence;
    bool done;
};

struct record {
    uint64_t key;
    uint64_t version;
    uint64_t value_seed;
    uint32_t value_bytes;
    bool is_write;
    bool remove;
    uint64_t seq;
};

struct world {
    struct shard_rig *rig;
    struct torc_rng rng;
    enum fault fault;
    bool quiet;
    bool broken;
    uint64_t seed;
    uint64_t crashes;
    struct torc_shard shard;
    uint32_t epoch;
    uint64_t seq;
    struct record *records; // by LSN
    uint64_t lsn;           // last one logged
    uint64_t acknowledged;  // last one whose outcome was given
    // The log's end.
    struct torc_log_builder builder;
    struct flight flights[IN_FLIGHT_MAX];
    uint32_t flight_count;
    struct flight building;
    bool open;
    struct file files[FILES_MAX];
    uint32_t file_count; // in order of segment number
    uint64_t generation;
    uint32_t offset_bytes;
    uint64_t next_sequence;
    uint64_t durable;
    // The last checkpoint.
    unsigned char *checkpoint;
    uint64_t checkpoint_bytes;
    uint64_t checkpoint_start;
    // Recovery's own.
    struct torc_shard_pool pool;
    void *pool_memory;
    uint64_t pool_bytes;
    struct torc_shard_pool_config pool_config;
    void *replay_memory;
    unsigned char *image[FILES_MAX];
    struct torc_log_scan_segment segments[FILES_MAX];
    struct torc_log_scan_result kept;
    uint64_t counts[4]; // torn tails, lives, records, checkpoints
};

static void wrong(struct world *world, const char *what, uint64_t a, uint64_t b)
{
    if (!world->broken && !world->quiet) {
        (void)fprintf(stderr,
                      "model_log: TORC_SEED=%" PRIu64 " crash %" PRIu64 ": %s: %" PRIu64
                      ", %" PRIu64 "\n",
                      world->seed, world->crashes, what, a, b);
    }
    world->broken = true;
}

static void expect(struct world *world, bool holds, const char *what, uint64_t a, uint64_t b)
{
    if (!holds) {
        wrong(world, what, a, b);
    }
}

static uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

// -- The life of a log --------------------------------------------------------------------------

// A new segment behind the last one; `first_sequence`: of a cut. An old file may be taken for it,
// with all that it held.
static void file_new(struct world *world, uint64_t first_sequence)
{
    uint32_t number =
        world->file_count == 0 ? 1 : world->files[world->file_count - 1].header.segment + 1;
    struct file *file = &world->files[world->file_count];
    unsigned char *bytes = NULL;

    // Trimmed: below what the checkpoint needs. One file with a durable block always stays.
    if (world->file_count > 2 && world->files[0].last_sequence < world->checkpoint_start &&
        world->files[1].last_sequence != 0 && world->files[1].last_sequence <= world->durable) {
        bytes = world->files[0].bytes;
        memmove(&world->files[0], &world->files[1],
                (world->file_count - 1) * sizeof(world->files[0]));
        world->file_count--;
        file--;
        for (uint32_t i = 0; i < world->flight_count; i++) {
            world->flights[i].file--;
        }
    }
    torc_assert(world->file_count < FILES_MAX);
    if (bytes == NULL) {
        bytes = calloc(1, SEGMENT_BYTES);
        torc_assert(bytes != NULL);
    }
    *file = (struct file){.bytes = bytes,
                          .header = {.cluster = 7,
                                     .generation = ++world->generation * 977,
                                     .first_sequence = first_sequence,
                                     .node = 1,
                                     .stream = 1,
                                     .segment = number,
                                     .segment_bytes = SEGMENT_BYTES}};
    torc_log_segment_write(bytes, &file->header);
    world->file_count++;
    world->offset_bytes = SLOT;
}

static void log_open(struct world *world)
{
    static const uint32_t slots[] = {1, 1, 2, 4, 8};
    uint32_t capacity = slots[below(world, TORC_COUNT_OF(slots))] * SLOT;

    if (world->offset_bytes + 8 * SLOT > SEGMENT_BYTES) {
        file_new(world, 0);
    }
    torc_log_block_begin(&world->builder, world->building.bytes, capacity);
    world->open = true;
}

static void crash_all(struct world *world);

// Seals the open block and gives it to the disk.
static void log_submit(struct world *world)
{
    struct flight *flight = &world->flights[world->flight_count++];
    struct file *file = &world->files[world->file_count - 1];
    struct torc_log_place place = {.cluster = 7,
                                   .sequence = world->next_sequence,
                                   .generation = file->header.generation,
                                   .durable = world->durable,
                                   .node = 1,
                                   .stream = 1,
                                   .segment = file->header.segment,
                                   .offset_bytes = world->offset_bytes};

    torc_assert(world->open && world->flight_count <= IN_FLIGHT_MAX);
    world->building.byte_count = torc_log_block_seal(&world->builder, &place);
    world->building.file = world->file_count - 1;
    world->building.offset_bytes = world->offset_bytes;
    world->building.sequence = world->next_sequence;
    world->building.done = false;
    *flight = world->building;
    file->last_sequence = world->next_sequence;
    world->offset_bytes += flight->byte_count;
    world->next_sequence++;
    world->open = false;
    crash_all(world);
}

static void flight_remove(struct world *world, uint32_t index)
{
    world->flight_count--;
    memmove(&world->flights[index], &world->flights[index + 1],
            (world->flight_count - index) * sizeof(world->flights[0]));
}

// One write in flight ends. Acknowledges what has become durable.
static void disk_complete(struct world *world)
{
    struct flight *flight = &world->flights[below(world, world->flight_count)];
    struct torc_shard_outcome outcomes[64];
    bool lies = world->fault == FAULT_LIE && below(world, 20) == 0;
    uint32_t count;

    if (!lies) {
        memcpy(world->files[flight->file].bytes + flight->offset_bytes, flight->bytes,
               flight->byte_count);
    }
    flight->done = true;
    // Marks go back in order (C2): the first in flight is the lowest.
    while (world->flight_count > 0 && world->flights[0].done) {
        world->durable = world->flights[0].sequence;
        flight_remove(world, 0);
    }
    do {
        count =
            torc_shard_commit(&world->rig->pool, world->durable, outcomes, TORC_COUNT_OF(outcomes));
    } while (count == TORC_COUNT_OF(outcomes));
    world->acknowledged = world->shard.applied_lsn;
    crash_all(world);
}

static void log_append(struct world *world, const struct torc_log_record *record)
{
    uint64_t first = world->next_sequence;
    uint32_t done = 0;

    torc_assert(record->lsn == world->lsn + 1 && record->lsn < RECORDS_MAX);
    world->lsn = record->lsn;
    world->counts[2]++;
    world->records[record->lsn] = (struct record){.key = record->key,
                                                  .version = record->hlc,
                                                  .value_seed = record->seq,
                                                  .value_bytes = record->value_bytes,
                                                  .is_write = record->with_client,
                                                  .remove = record->kind == TORC_LOG_DELETE,
                                                  .seq = record->seq};
    if (!world->open) {
        log_open(world);
    }
    while (!torc_log_block_append(&world->builder, record, &done)) {
        while (world->flight_count == IN_FLIGHT_MAX) {
            disk_complete(world);
        }
        log_submit(world);
        log_open(world);
    }
    torc_shard_appended(&world->shard, first, world->next_sequence);
}

static void send_write(struct world *world)
{
    static unsigned char value[1 << 16];
    struct torc_shard_write write = {.key = below(world, KEYS),
                                     .client = 42,
                                     .seq = ++world->seq,
                                     .stamp = world->rig->pool.hlc,
                                     .epoch = world->epoch,
                                     .remove = below(world, 5) == 0,
                                     .value = value};
    struct torc_shard_outcome outcome;
    struct torc_log_record record;
    enum torc_shard_verdict verdict;

    write.tag = write.seq;
    write.low = write.seq > WINDOW ? write.seq - WINDOW : 1;
    if (!write.remove) {
        write.value_bytes = (uint32_t)below(world, below(world, 6) == 0 ? 30000 : 600);
    }
    torc_test_value(value, write.seq, write.value_bytes);
    verdict = torc_shard_write(&world->shard, &write, &record, &outcome);
    if (verdict == TORC_SHARD_APPEND) {
        log_append(world, &record);
    } else if (verdict == TORC_SHARD_WAIT) {
        // A delete behind a pending write: not what is tested here.
        expect(world, torc_shard_cancel(&world->rig->pool, outcome.place, write.tag), "cancel",
               write.tag, 0);
    }
}

// All of it at one moment; the shard's fuzziness is model_shard's.
static void checkpoint_take(struct world *world)
{
    struct torc_checkpoint_place place = {
        .cluster = 7, .checkpoint = 1, .durable = world->durable, .stream = 1};
    struct torc_checkpoint_writer writer;
    uint64_t room = 1 << 20;
    unsigned char *bytes = malloc(room);
    uint64_t done = 0;

    torc_assert(bytes != NULL);
    torc_checkpoint_writer_begin(&writer, &world->shard, &place);
    while (!torc_checkpoint_writer_done(&writer)) {
        torc_assert(done + TORC_CHECKPOINT_BLOCK_BYTES_MAX <= room);
        done += torc_checkpoint_writer_next(&writer, &world->shard, bytes + done,
                                            TORC_CHECKPOINT_BLOCK_BYTES_MAX);
    }
    free(world->checkpoint);
    world->checkpoint = bytes;
    world->checkpoint_bytes = done;
    world->checkpoint_start = writer.start_sequence;
    world->counts[3]++;
}

// -- A crash ------------------------------------------------------------------------------------

// What a lost power supply leaves of a write: nothing, all, a beginning, an end, or some sectors.
static void image_tear(struct world *world, const struct flight *flight)
{
    unsigned char *to = world->image[flight->file] + flight->offset_bytes;
    uint32_t sectors = flight->byte_count / SECTOR_BYTES;
    uint32_t from;
    uint32_t until;
    uint64_t kind = below(world, 5);

    if (kind == 0) {
        return;
    }
    from = kind == 2 ? (uint32_t)below(world, sectors) : 0;
    until = kind == 3 ? (uint32_t)below(world, sectors) : sectors;
    for (uint32_t sector = from; sector < until; sector++) {
        if (kind != 4 || below(world, 2) == 0) {
            memcpy(to + (size_t)sector * SECTOR_BYTES,
                   flight->bytes + (size_t)sector * SECTOR_BYTES, SECTOR_BYTES);
        }
    }
}

static void image_make(struct world *world)
{
    for (uint32_t i = 0; i < world->file_count; i++) {
        if (world->image[i] == NULL) {
            world->image[i] = malloc(SEGMENT_BYTES);
            torc_assert(world->image[i] != NULL);
        }
        memcpy(world->image[i], world->files[i].bytes, SEGMENT_BYTES);
    }
    for (uint32_t i = 0; i < world->flight_count; i++) {
        if (!world->flights[i].done) {
            image_tear(world, &world->flights[i]);
        }
    }
}

static enum torc_err image_scan(struct world *world, struct torc_fail *why)
{
    struct torc_log_scan scan;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < world->file_count && err == TORC_ERR_OK; i++) {
        err = torc_log_segment_check(world->image[i], &world->segments[i].header, why);
        if (world->fault == FAULT_NO_CUT) {
            world->segments[i].header.first_sequence = 0;
        }
    }
    err = err == TORC_ERR_OK ? torc_log_scan_begin(&scan, world->segments, world->file_count, why)
                             : err;
    while (err == TORC_ERR_OK && scan.at < world->file_count) {
        uint64_t left = SEGMENT_BYTES - scan.offset_bytes;
        uint64_t some = torc_min_u64(left, TORC_LOG_SCAN_WINDOW_BYTES);

        (void)torc_log_scan_feed(&scan, world->image[scan.at] + scan.offset_bytes, some,
                                 some == left);
    }
    return err == TORC_ERR_OK ? torc_log_scan_end(&scan, &world->kept, why) : err;
}

static enum torc_err image_replay(struct world *world, struct torc_replay *replay,
                                  struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    if (world->checkpoint != NULL) {
        err =
            torc_replay_checkpoint(replay, SHARD, world->checkpoint, world->checkpoint_bytes, why);
        err = err == TORC_ERR_OK ? torc_replay_checkpoint_end(replay, SHARD, why) : err;
    }
    for (uint32_t i = 0; i < world->file_count && err == TORC_ERR_OK; i++) {
        uint32_t end = world->segments[i].kept_end_bytes;

        err = end > SLOT ? torc_replay_log(replay, 1, world->image[i] + SLOT, end - SLOT, why)
                         : TORC_ERR_OK;
    }
    return err == TORC_ERR_OK ? torc_replay_end(replay, why) : err;
}

static enum torc_err shard_open(struct world *world, struct torc_shard *shard,
                                struct torc_shard_pool *pool, struct torc_fail *why)
{
    struct torc_shard_config config = shard_rig_config(world->rig);

    config.shard = SHARD;
    config.hi = KEYS;
    config.epoch = world->epoch + 1;
    return torc_shard_init(shard, pool, &config, why);
}

// The last record up to `lsn` that names the key; NULL: none.
static const struct record *record_last(const struct world *world, uint64_t key, uint64_t lsn)
{
    for (; lsn > 0; lsn--) {
        if (world->records[lsn].is_write && world->records[lsn].key == key) {
            return &world->records[lsn];
        }
    }
    return NULL;
}

static void check_value(struct world *world, const struct record *record,
                        const struct torc_tree_hit *hit)
{
    expect(world, hit->version == record->version, "version", hit->version, record->version);
    expect(world, hit->value_bytes == record->value_bytes, "value's length", hit->value_bytes,
           record->value_bytes);
    expect(world, torc_test_value_is(hit->value, record->value_seed, hit->value_bytes), "value",
           record->key, record->value_seed);
}

// The recovered shard is the state after record `lsn`, completions included.
static void check_state(struct world *world, const struct torc_shard *shard, uint64_t lsn)
{
    for (uint64_t key = 0; key < KEYS && !world->broken; key++) {
        const struct record *record = record_last(world, key, lsn);
        bool present = record != NULL && !record->remove;
        struct torc_tree_hit hit;

        (void)torc_tree_lookup(&shard->tree, key, &hit);
        expect(world, hit.found == present, present ? "lost" : "came back", key, lsn);
        if (hit.found && present) {
            check_value(world, record, &hit);
        }
    }
    for (uint64_t i = 0; i < WINDOW && i < lsn && !world->broken; i++) {
        const struct record *record = &world->records[lsn - i];
        struct torc_completion_client who = {.client = 42};
        struct torc_completion_result result = {0};

        if (!record->is_write || record->seq + WINDOW < world->records[lsn].seq) {
            break; // EPOCH; or below low, since some seqs were never logged
        }
        expect(world,
               torc_completion_find(&shard->completions, who, record->seq, &result) ==
                       TORC_COMPLETION_DONE &&
                   result.info == record->version,
               "completion", record->seq, result.info);
    }
}

// Power is lost now, in one of the ways it can be. True: *shard is what came back.
static bool crash_recover(struct world *world, struct torc_shard *shard,
                          struct torc_shard_pool *pool, uint64_t *lsn)
{
    struct torc_replay *replay;
    struct torc_fail why = {0};
    enum torc_err err;

    world->crashes++;
    image_make(world);
    err = image_scan(world, &why);
    if (err == TORC_ERR_OK && world->kept.last_sequence < world->durable) {
        wrong(world, "durable blocks are not kept", world->kept.last_sequence, world->durable);
    }
    if (err == TORC_ERR_OK && world->kept.last_sequence >= world->next_sequence) {
        wrong(world, "blocks of another life are kept", world->kept.last_sequence,
              world->next_sequence);
    }
    world->counts[0] += world->kept.torn_blocks > 0 ? 1 : 0;
    memset(world->replay_memory, 0, torc_replay_bytes(1));
    replay = torc_replay_init(world->replay_memory, torc_replay_bytes(1), 1);
    err = err == TORC_ERR_OK ? shard_open(world, shard, pool, &why) : err;
    if (err != TORC_ERR_OK) {
        wrong(world, why.text, err, 0);
        return false;
    }
    torc_replay_add(replay, shard);
    err = image_replay(world, replay, &why);
    if (err != TORC_ERR_OK) {
        wrong(world, why.text, err, 0);
        torc_replay_drop(replay);
        torc_shard_drop(shard);
        return false;
    }
    *lsn = torc_replay_result(replay, SHARD).lsn;
    expect(world, *lsn >= world->acknowledged, "acknowledged and lost", *lsn, world->acknowledged);
    expect(world, *lsn <= world->lsn, "never logged", *lsn, world->lsn);
    if (!world->broken) {
        check_state(world, shard, *lsn);
    }
    return true;
}

static void crash_all(struct world *world)
{
    // With nothing in flight all ends are one; with more there are many, of which some are taken.
    uint32_t ends = world->flight_count == 0 ? 1 : 2 + 2 * world->flight_count;

    for (uint32_t i = 0; i < ends && !world->broken; i++) {
        struct torc_shard shard;
        uint64_t lsn;

        torc_shard_pool_init(&world->pool, world->pool_memory, &world->pool_config);
        world->pool.wall_us = world->rig->pool.wall_us;
        if (crash_recover(world, &shard, &world->pool, &lsn)) {
            torc_shard_drop(&shard);
        }
    }
}

// -- Lives --------------------------------------------------------------------------------------

static void life_begin(struct world *world)
{
    struct torc_log_record record;

    world->epoch = world->shard.epoch;
    while (torc_shard_begin(&world->shard, &record)) {
        log_append(world, &record);
    }
    while (world->shard.state != TORC_SHARD_ACTIVE && !world->broken) {
        if (world->flight_count == 0) {
            log_submit(world);
        }
        disk_complete(world);
    }
}

// One of the ends becomes the disk of the next life.
static void life_end(struct world *world)
{
    uint64_t lsn;

    world->counts[1]++;
    torc_shard_drop(&world->shard);
    if (!crash_recover(world, &world->shard, &world->rig->pool, &lsn)) {
        return;
    }
    for (uint32_t i = 0; i < world->file_count; i++) {
        memcpy(world->files[i].bytes, world->image[i], SEGMENT_BYTES);
        world->files[i].last_sequence = world->segments[i].last_sequence;
    }
    world->flight_count = 0;
    world->open = false;
    world->lsn = lsn;
    world->acknowledged = lsn;
    world->next_sequence = world->kept.next_sequence;
    world->durable = world->kept.last_sequence; // synced now
    file_new(world, world->kept.next_sequence);
    life_begin(world);
}

static void world_step(struct world *world)
{
    uint64_t dice = below(world, 100);

    if (dice < 60) {
        send_write(world);
    } else if (dice < 72) {
        if (world->open && world->flight_count < IN_FLIGHT_MAX) {
            log_submit(world);
        }
    } else if (dice < 92) {
        if (world->flight_count > 0) {
            disk_complete(world);
        }
    } else if (dice < 95) {
        world->rig->pool.wall_us += below(world, 1000);
    } else if (dice < 97) {
        checkpoint_take(world);
    } else if (dice >= 98) {
        life_end(world);
    }
}

static void world_init(struct world *world, struct shard_rig *rig, uint64_t seed, enum fault fault)
{
    struct torc_fail why;

    world->rig = rig;
    world->seed = seed;
    world->fault = fault;
    world->quiet = fault != FAULT_NONE;
    world->rng.state = seed;
    world->pool_config =
        (struct torc_shard_pool_config){.slots_max = 1000,
                                        .waiting_max = 100,
                                        .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
                                        .principal_ppm = 1000000,
                                        .dedup_ttl_s = 120,
                                        .seed = seed};
    shard_rig_pool(rig, CHUNKS, &world->pool_config);
    rig->pool.wall_us = UINT64_C(1700000000000000);
    world->pool_bytes = torc_shard_pool_bytes(&world->pool_config);
    world->pool_memory = aligned_alloc(64, (world->pool_bytes + 63) / 64 * 64);
    world->replay_memory = aligned_alloc(64, (torc_replay_bytes(1) + 63) / 64 * 64);
    world->records = calloc(RECORDS_MAX, sizeof(struct record));
    torc_assert(world->pool_memory != NULL && world->replay_memory != NULL &&
                world->records != NULL);
    world->next_sequence = 1;
    file_new(world, 0);
    TORC_TEST_OK(shard_open(world, &world->shard, &rig->pool, &why), &why);
    life_begin(world);
}

static bool world_run(struct shard_rig *rig, uint64_t seed, enum fault fault, uint64_t *counts)
{
    struct world *world = calloc(1, sizeof(*world));
    bool agreed;

    torc_assert(world != NULL);
    world_init(world, rig, seed, fault);
    while (world->crashes < WORLD_CRASHES && !world->broken && world->lsn < RECORDS_MAX - 100) {
        world_step(world);
    }
    agreed = !world->broken;
    for (uint32_t i = 0; i < TORC_COUNT_OF(world->counts) && counts != NULL; i++) {
        counts[i + 1] += world->counts[i];
    }
    if (counts != NULL) {
        counts[0] += world->crashes;
    }
    if (world->shard.pool != NULL) {
        torc_shard_drop(&world->shard);
    }
    for (uint32_t i = 0; i < FILES_MAX; i++) {
        free(i < world->file_count ? world->files[i].bytes : NULL);
        free(world->image[i]);
    }
    free(world->checkpoint);
    free(world->records);
    free(world->pool_memory);
    free(world->replay_memory);
    free(world);
    return agreed;
}

static struct shard_rig test_rig;

static void test_crashes(void)
{
    const char *text = getenv("TORC_TEST_CRASHES"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t wanted = text == NULL ? CRASHES_DEFAULT : strtoull(text, NULL, 0);
    struct torc_rng rng = {torc_test_seed()};
    uint64_t counts[5] = {0};
    bool agreed = true;

    for (uint64_t seed = torc_test_seed(); agreed && counts[0] < wanted;
         seed = torc_rng_next(&rng)) {
        agreed = world_run(&test_rig, seed, FAULT_NONE, counts);
    }
    CU_ASSERT_TRUE(agreed);
    CU_ASSERT_EQUAL(test_rig.heap.block_count, 0);
    (void)printf("%" PRIu64 " crashes, %" PRIu64 " with a torn tail, %" PRIu64 " lives, %" PRIu64
                 " records, %" PRIu64 " checkpoints ",
                 counts[0], counts[1], counts[2], counts[3], counts[4]);
}

static void test_planted_faults(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (enum fault fault = FAULT_LIE; fault < FAULT_COUNT; fault++) {
        bool seen = false;

        for (uint32_t i = 0; i < 40 && !seen; i++) { // the first that shows it ends it
            seen = !world_run(&test_rig, torc_rng_next(&rng), fault, NULL);
        }
        CU_ASSERT_TRUE(seen);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"every crash keeps what was acknowledged", test_crashes},
                           {"planted faults are seen", test_planted_faults},
                           CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&test_rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("model_log", tests);
    shard_rig_close(&test_rig);
    return status;
}
