// Torc tests: the log's files against a list of what was written, over many lives of a node.
//
// What    real segments on a real file system, a real end of the log in a worker (dataplane/log.c),
//         control's store, checkpoint-less trimming and recovery between them. Every life: 1 to 3
//         workers, random records, and an end: the dataplane dies, both die with writes torn or
//         lost, or a write fails. Then recovery: every record whose block was told durable (and
//         that was not trimmed) must come back, to the worker that has its shard, in order, with
//         its bytes; of the others only the first few of each stream.
// Oracle  the list of appended records. A sibling run loses a durable block on purpose: recovery
//         must then say damage.
#include "control/recover_uring.h"
#include "dataplane/log.h"
#include "kit/clock_os.h"
#include "tests/torc_test.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 3,
    SHARDS = 5,
    LIVES = 30,
    STEPS = 120,
    RECORDS_MAX = 200000,
    SEGMENT_BYTES = 1 << 20,
    VALUE_MAX = 400000,
    MANY_TURNS = 9000 // more than twice what recovery has room for at first
};

#define CLUSTER UINT64_C(0x1234)

enum ending {
    DATAPLANE_DIES,
    BOTH_DIE,
    WRITE_FAILS,
    ENDINGS
};

// One record as it was appended.
struct record {
    uint32_t shard;
    uint32_t epoch;
    uint32_t stream;
    uint32_t turn;
    uint64_t lsn;
    uint64_t first;    // of the block it begins in
    uint64_t sequence; // of the block it ends in
    uint32_t value_bytes;
    uint32_t value_seed;
    enum torc_log_kind kind;
    bool durable; // its worker was told
    bool gone;    // trimmed, or cut in an earlier recovery
};

struct shard {
    uint32_t worker;
    uint32_t turn;
    uint32_t epoch;
    uint64_t next_lsn;
    uint64_t hlc;
};

struct world {
    char folder[64];
    int log_fd;
    int checkpoint_fd;
    int lock_fd;
    struct torc_rng rng;
    // A life.
    uint32_t worker_count;
    void *memory;
    uint64_t memory_bytes;
    struct torc_attach attach;
    struct torc_chan_ports *ends; // the dataplane's
    struct torc_log_writer *logs;
    struct torc_disk *disk;
    struct torc_log_store *store;
    struct shard shards[SHARDS];
    struct record *records;
    uint32_t record_count;
    uint64_t now_ns;
    bool dying;    // writes from now on are torn or lost
    uint32_t fail; // log writes until one fails; 0: none does
    uint32_t told_failed;
    unsigned char *value;
};

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void world_make(struct world *world, uint64_t seed)
{
    char path[96];

    memset(world, 0, sizeof(*world));
    world->rng = (struct torc_rng){seed};
    (void)snprintf(world->folder, sizeof(world->folder), "/tmp/torc-log-XXXXXX");
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(world->folder));
    (void)snprintf(path, sizeof(path), "%s/log", world->folder);
    CU_ASSERT_EQUAL_FATAL(mkdir(path, 0700), 0);
    world->log_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/checkpoint", world->folder);
    CU_ASSERT_EQUAL_FATAL(mkdir(path, 0700), 0);
    world->checkpoint_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(path, sizeof(path), "%s/LOCK", world->folder);
    world->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    world->records = calloc(RECORDS_MAX, sizeof(*world->records));
    world->value = malloc(VALUE_MAX);
    torc_assert(world->records != NULL);
    torc_assert(world->value != NULL);
    for (uint32_t i = 0; i < SHARDS; i++) {
        world->shards[i].next_lsn = 1;
        world->shards[i].hlc = 1000;
    }
}

static void world_free(struct world *world)
{
    (void)close(world->log_fd);
    (void)close(world->checkpoint_fd);
    (void)close(world->lock_fd);
    free(world->records);
    free(world->value);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    (void)nftw(world->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); // what is left is in /tmp
}

// Torn, lost, or failing writes; reads that come back short.
static void fault(void *context, const struct torc_disk_op *op, struct torc_disk_verdict *verdict)
{
    struct world *world = context;

    if (op->kind == TORC_DISK_READ) { // as the kernel does before what it has not at once
        if (torc_rng_below(&world->rng, 4) == 0) {
            verdict->cut_bytes = 4096 * (uint32_t)(1 + torc_rng_below(&world->rng, 16));
        }
        return;
    }
    if (world->dying) {
        verdict->result = -5; // EIO
        if (op->kind == TORC_DISK_WRITE_DURABLE && torc_rng_below(&world->rng, 2) == 0) {
            verdict->torn_bytes =
                (uint32_t)torc_rng_below(&world->rng, op->byte_count / 512 + 1) * 512;
        }
        return;
    }
    if (world->fail > 0 && op->kind == TORC_DISK_WRITE_DURABLE && op->offset > 0 &&
        --world->fail == 0) {
        verdict->result = -5;
        verdict->torn_bytes = op->byte_count / 2;
    }
}

// -- A life --------------------------------------------------------------------------------------

static void life_open(struct world *world)
{
    struct torc_log_store_config config = {.cluster = CLUSTER,
                                           .node = 1,
                                           .segment_bytes = SEGMENT_BYTES,
                                           .inflight = 1 + (uint32_t)torc_rng_below(&world->rng, 8),
                                           .spares_max = 4,
                                           .folder_fd = world->log_fd};
    struct torc_fail why = {0};

    TORC_TEST_OK(torc_disk_open(&world->disk, world->lock_fd, &why), &why);
    TORC_TEST_OK(torc_log_store_open(&world->store, world->disk, &config, &why), &why);
    torc_disk_set_fault(world->disk, fault, world);
    world->dying = false;
    world->fail = 0;
    world->worker_count = 1 + (uint32_t)torc_rng_below(&world->rng, WORKERS_MAX);
    world->memory_bytes = torc_chan_bytes(world->worker_count);
    world->memory = aligned_alloc(TORC_SPSC_ALIGN_BYTES, world->memory_bytes);
    torc_assert(world->memory != NULL);
    memset(world->memory, 0, world->memory_bytes);
    TORC_TEST_OK(torc_chan_format(world->memory, world->memory_bytes, world->worker_count, &why),
                 &why);
    world->ends = calloc(world->worker_count, sizeof(*world->ends));
    world->logs = calloc(world->worker_count, sizeof(*world->logs));
    world->attach = (struct torc_attach){.chan = world->memory,
                                         .map = torc_chan_map(world->memory),
                                         .hello = {.worker_count = world->worker_count},
                                         .socket = -1,
                                         .pidfd = -1,
                                         .doorbell = -1};
    torc_assert(world->ends != NULL);
    torc_assert(world->logs != NULL);
    world->attach.ports = calloc(world->worker_count, sizeof(*world->attach.ports));
    torc_assert(world->attach.ports != NULL);
    for (uint32_t i = 0; i < world->worker_count; i++) {
        TORC_TEST_OK(torc_chan_attach(world->ends + i, TORC_CHAN_DATAPLANE, world->memory,
                                      world->memory_bytes, i, &why),
                     &why);
        TORC_TEST_OK(torc_chan_attach(world->attach.ports + i, TORC_CHAN_CONTROL, world->memory,
                                      world->memory_bytes, i, &why),
                     &why);
        torc_log_writer_init(world->logs + i, &world->ends[i].log, &world->ends[i].worker->stats,
                             4);
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        world->shards[i].worker = i % world->worker_count;
    }
}

static void life_close(struct world *world)
{
    torc_log_store_detach(world->store);
    torc_log_store_close(world->store);
    torc_disk_close(world->disk);
    free(world->attach.ports);
    free(world->logs);
    free(world->ends);
    free(world->memory);
}

// What control told a worker.
static void take_marks(struct world *world, uint32_t worker)
{
    struct torc_spsc_port *marks = &world->ends[worker].mark;
    struct torc_log_writer *log = world->logs + worker;

    while (torc_spsc_readable(marks, 1) > 0) {
        const struct torc_mark *mark = torc_spsc_read_at(marks, 0);

        CU_ASSERT_TRUE(torc_log_writer_mark(log, mark, world->now_ns));
        world->told_failed += mark->kind == TORC_MARK_LOG_FAILED ? 1 : 0;
        torc_spsc_release(marks, 1);
    }
}

static void note_durable(struct world *world)
{
    for (uint32_t i = 0; i < world->record_count; i++) {
        struct record *record = world->records + i;

        if (!record->durable && !record->gone && record->stream <= world->worker_count) {
            record->durable = record->sequence <= world->logs[record->stream - 1].durable;
        }
    }
}

static void append(struct world *world, uint32_t number, enum torc_log_kind kind)
{
    struct shard *shard = world->shards + number;
    struct torc_log_writer *log = world->logs + shard->worker;
    uint64_t size = torc_rng_below(&world->rng, 100);
    struct record *record = world->records + world->record_count;
    struct torc_log_record entry = {.kind = kind,
                                    .shard = number + 1,
                                    .epoch = shard->epoch,
                                    .turn = shard->turn,
                                    .lsn = shard->next_lsn,
                                    .hlc = ++shard->hlc,
                                    .key = number,
                                    .value = world->value};

    if (kind == TORC_LOG_PUT) {
        uint64_t most = size < 90 ? 300 : size < 98 ? 20000 : VALUE_MAX;

        entry.value_bytes = (uint32_t)torc_rng_below(&world->rng, most);
    }
    if (torc_log_writer_admit(log, entry.value_bytes).err != TORC_ERR_OK ||
        world->record_count == RECORDS_MAX) {
        return;
    }
    *record = (struct record){.shard = number,
                              .epoch = shard->epoch,
                              .stream = shard->worker + 1,
                              .turn = shard->turn,
                              .lsn = shard->next_lsn,
                              .first = log->next_sequence,
                              .value_bytes = entry.value_bytes,
                              .value_seed = (uint32_t)torc_rng_next(&world->rng),
                              .kind = kind};
    torc_test_value(world->value, record->value_seed, record->value_bytes);
    record->sequence = torc_log_writer_append(log, &entry, world->now_ns);
    if (kind != TORC_LOG_MOVED) { // which takes no LSN
        world->record_count++;
        shard->next_lsn++;
    }
}

static void turn(struct world *world)
{
    world->now_ns += 1000000;
    for (uint32_t i = 0; i < world->worker_count; i++) {
        take_marks(world, i);
        (void)torc_log_writer_step(world->logs + i, world->now_ns, false);
    }
    (void)torc_log_store_step(world->store, world->now_ns);
    if (torc_disk_run(world->disk) == 0 && torc_disk_busy(world->disk) > 0) {
        (void)torc_disk_wait(world->disk, -1, 200000);
    }
}

static bool life_is_ready(const struct world *world)
{
    bool ready = true;

    for (uint32_t i = 0; i < world->worker_count; i++) {
        ready =
            ready && torc_log_store_is_ready(world->store, i) && world->logs[i].prepared_count > 0;
    }
    return ready;
}

// The streams' oldest segments go, up to a random place that is durable; what lies there is gone.
static void trim(struct world *world)
{
    for (uint32_t i = 0; i < torc_log_store_stream_count(world->store); i++) {
        const struct torc_log_plan *plan = torc_log_store_plan(world->store, i);
        uint32_t worker = torc_log_store_worker(world->store, i);
        bool all = worker == UINT32_MAX && torc_rng_below(&world->rng, 4) == 0;
        uint64_t floor = all ? UINT64_MAX : torc_rng_below(&world->rng, plan->durable + 2);

        for (uint32_t at = 0; at < world->record_count; at++) {
            struct record *record = world->records + at;

            record->gone =
                record->gone || (record->stream == plan->stream && record->first < floor);
        }
        torc_log_store_trim(world->store, i, floor);
    }
}

// -- Recovery ------------------------------------------------------------------------------------

// What a worker got back of one shard.
struct taken {
    uint64_t next_lsn; // 0: nothing yet
    uint64_t count;
};

// A value that goes on in the next block of its stream; blocks of others may come between.
struct open_value {
    struct torc_log_record entry;
    unsigned char *value; // VALUE_MAX
    uint32_t value_bytes; // so far
    bool carries;
};

struct taker {
    struct world *world;
    struct taken shards[SHARDS];
    uint64_t last_sequence[WORKERS_MAX + 1]; // by stream
    struct open_value open[WORKERS_MAX + 1]; // by stream
    struct torc_log_reader reader;
    unsigned char *block;
    uint32_t block_bytes;
    uint8_t *found; // by record: it came back
};

static struct record *find(struct world *world, uint32_t shard, uint64_t lsn)
{
    for (uint32_t i = world->record_count; i-- > 0;) {
        struct record *record = world->records + i;

        if (record->shard == shard && record->lsn == lsn && !record->gone) {
            return record;
        }
    }
    return NULL;
}

static void take_record(struct taker *taker, const struct torc_log_record *entry,
                        const unsigned char *value)
{
    struct taken *taken;
    struct record *record;

    CU_ASSERT_FATAL(entry->shard >= 1 && entry->shard <= SHARDS);
    taken = taker->shards + entry->shard - 1;
    if (entry->kind == TORC_LOG_MOVED) {
        return;
    }
    CU_ASSERT_FATAL(entry->lsn >= taken->next_lsn);                // in order
    while (taken->next_lsn != 0 && taken->next_lsn < entry->lsn) { // a hole was trimmed
        CU_ASSERT_PTR_NULL_FATAL(find(taker->world, entry->shard - 1, taken->next_lsn));
        taken->next_lsn++;
    }
    taken->next_lsn = entry->lsn + 1;
    taken->count++;
    record = find(taker->world, entry->shard - 1, entry->lsn);
    if (record == NULL) {
        return; // of a trimmed segment's neighbour
    }
    CU_ASSERT_EQUAL_FATAL(entry->value_bytes, record->value_bytes);
    CU_ASSERT_EQUAL_FATAL((int)entry->kind, (int)record->kind);
    CU_ASSERT_FATAL(torc_test_value_is(value, record->value_seed, record->value_bytes));
    taker->found[record - taker->world->records] = 1;
}

// The part of the stream's open value that the block begins with.
static void take_carry(struct taker *taker, uint32_t worker, struct open_value *open,
                       const struct torc_log_block *block)
{
    if (block->carry_bytes == 0 || !open->carries) {
        open->carries = false;
        return;
    }
    CU_ASSERT_FATAL(block->carry_bytes <= open->entry.value_bytes - open->value_bytes);
    memcpy(open->value + open->value_bytes, torc_log_block_carry(block), block->carry_bytes);
    open->value_bytes += block->carry_bytes;
    if (open->value_bytes == open->entry.value_bytes) {
        open->carries = false;
        if (taker->world->shards[open->entry.shard - 1].worker == worker) {
            take_record(taker, &open->entry, open->value);
        }
    }
}

static void take_block(struct taker *taker, uint32_t worker)
{
    struct open_value *open;
    struct torc_log_block block;
    struct torc_log_record entry;
    struct torc_fail why = {0};
    bool more = true;

    TORC_TEST_OK(torc_log_block_check(taker->block, taker->block_bytes, &block, &why), &why);
    CU_ASSERT_FATAL(block.place.stream <= WORKERS_MAX);
    CU_ASSERT_FATAL(taker->last_sequence[block.place.stream] == 0 ||
                    block.place.sequence == taker->last_sequence[block.place.stream] + 1);
    taker->last_sequence[block.place.stream] = block.place.sequence;
    open = &taker->open[block.place.stream];
    take_carry(taker, worker, open, &block);
    torc_log_reader_init(&taker->reader, &block);
    for (;;) {
        TORC_TEST_OK(torc_log_reader_next(&taker->reader, &entry, &more, &why), &why);
        if (!more) {
            return;
        }
        if (entry.kind == TORC_LOG_PUT && entry.piece_bytes < entry.value_bytes) {
            *open = (struct open_value){.entry = entry,
                                        .value = open->value,
                                        .value_bytes = entry.piece_bytes,
                                        .carries = true};
            memcpy(open->value, entry.value, entry.piece_bytes);
        } else if (taker->world->shards[entry.shard - 1].worker == worker) {
            take_record(taker, &entry, entry.value);
        }
    }
}

// Takes what was fed to one worker.
static void take(struct taker *taker, uint32_t worker)
{
    struct torc_spsc_port *in;

    torc_assert(taker->world != NULL);
    in = &taker->world->ends[worker].in;

    while (torc_spsc_readable(in, 1) > 0) {
        const struct torc_bulk *bulk = torc_spsc_read_at(in, 0);

        if (bulk->kind == TORC_BULK_LOG) {
            memcpy(taker->block + taker->block_bytes, bulk->bytes, bulk->byte_count);
            taker->block_bytes += bulk->byte_count;
            if (taker->block_bytes == torc_log_block_peek(taker->block, UINT32_MAX)) {
                take_block(taker, worker);
                taker->block_bytes = 0;
            }
        }
        torc_spsc_release(in, 1);
    }
}

// Every record that was told durable came back; what did not is forgotten.
static void check_found(struct world *world, const uint8_t *found)
{
    for (uint32_t i = 0; i < world->record_count; i++) {
        struct record *record = world->records + i;

        if (record->gone) {
            continue;
        }
        CU_ASSERT_FATAL(!record->durable || found[i] != 0);
        record->durable = record->durable || found[i] != 0; // recovery synced it
        record->gone = found[i] == 0;
    }
}

static enum torc_err scan(struct world *world, struct torc_recover **recover,
                          struct torc_recover_shard *shards, struct torc_fail *why)
{
    struct torc_recover_config config = {.disk = world->disk,
                                         .store = world->store,
                                         .log_fd = world->log_fd,
                                         .checkpoint_fd = world->checkpoint_fd,
                                         .cluster = CLUSTER,
                                         .node = 1,
                                         .worker_count = world->worker_count,
                                         .shards = shards,
                                         .shard_count = SHARDS};
    bool scanned = false;
    enum torc_err err;

    for (uint32_t i = 0; i < SHARDS; i++) {
        shards[i] = (struct torc_recover_shard){.shard = i + 1, .worker = world->shards[i].worker};
    }
    err = torc_recover_begin(recover, &config, why);
    while (err == TORC_ERR_OK && !scanned) {
        err = torc_recover_step(*recover, &scanned, why);
    }
    return err;
}

// The streams of this life, from where recovery says they go on.
static void begin_streams(struct world *world, const struct torc_recover *recover)
{
    struct torc_fail why = {0};

    for (uint32_t i = 0; i < world->worker_count; i++) {
        struct torc_cmd_configure order = {.cluster = CLUSTER, .node = 1, .stream = i + 1};

        order.next_sequence = torc_recover_next_sequence(recover, i + 1);
        torc_log_writer_configure(world->logs + i, &order);
        TORC_TEST_OK(
            torc_log_store_begin(world->store, &world->attach, i, order.next_sequence, &why), &why);
    }
}

// MOVED and EPOCH of one shard.
static void begin_shard(struct world *world, uint32_t number, uint32_t epoch,
                        const struct torc_recover_shard *found, const struct taken *taken)
{
    struct shard *shard = world->shards + number;
    bool moved = found->stream != 0 && found->stream != shard->worker + 1;

    shard->turn = found->turn + (moved ? 1 : 0);
    shard->epoch = epoch;
    if (taken->next_lsn != 0) { // else all of it was trimmed, or nothing of it was kept
        shard->next_lsn = taken->next_lsn;
    }
    while (!life_is_ready(world)) {
        turn(world);
    }
    if (moved) {
        append(world, number, TORC_LOG_MOVED);
    }
    append(world, number, TORC_LOG_EPOCH);
}

static void takers_open(struct world *world, struct taker *takers, uint8_t *found)
{
    for (uint32_t i = 0; i < world->worker_count; i++) {
        takers[i].world = world;
        takers[i].found = found;
        takers[i].block = malloc((size_t)TORC_LOG_BLOCK_BYTES_MAX);
        torc_assert(takers[i].block != NULL);
        for (uint32_t stream = 0; stream <= WORKERS_MAX; stream++) {
            takers[i].open[stream].value = malloc(VALUE_MAX);
            torc_assert(takers[i].open[stream].value != NULL);
        }
    }
}

static void takers_close(struct world *world, struct taker *takers)
{
    for (uint32_t i = 0; i < world->worker_count; i++) {
        free(takers[i].block);
        for (uint32_t stream = 0; stream <= WORKERS_MAX; stream++) {
            free(takers[i].open[stream].value);
        }
    }
}

static void recover(struct world *world, uint32_t epoch)
{
    struct torc_recover *recovery = NULL;
    struct torc_recover_shard shards[SHARDS];
    struct torc_fail why = {0};
    struct taker takers[WORKERS_MAX] = {0};
    uint8_t *found = calloc(world->record_count + 1, 1);
    bool fed = false;

    torc_assert(found != NULL);
    TORC_TEST_OK(scan(world, &recovery, shards, &why), &why);
    begin_streams(world, recovery);
    takers_open(world, takers, found);
    while (!fed) {
        TORC_TEST_OK(torc_recover_feed(recovery, &world->attach, &fed, &why), &why);
        for (uint32_t i = 0; i < world->worker_count; i++) {
            take(takers + i, i);
        }
    }
    torc_recover_close(recovery);
    check_found(world, found);
    for (uint32_t i = 0; i < SHARDS; i++) {
        begin_shard(world, i, epoch, shards + i, takers[world->shards[i].worker].shards + i);
    }
    takers_close(world, takers);
    free(found);
}

// Ends a life; what workers heard by then is what must come back.
static void life_end(struct world *world, enum ending ending)
{
    switch (ending) {
    case DATAPLANE_DIES: // its ring is written out
        note_durable(world);
        while (!torc_log_store_drained(world->store)) {
            turn(world);
        }
        break;
    case BOTH_DIE:
        world->dying = true;
        for (uint32_t i = 0; i < 20; i++) {
            turn(world);
        }
        note_durable(world);
        break;
    case WRITE_FAILS:
        world->fail = 1 + (uint32_t)torc_rng_below(&world->rng, 3);
        for (uint32_t i = 0; i < 40; i++) {
            append(world, (uint32_t)torc_rng_below(&world->rng, SHARDS), TORC_LOG_PUT);
            turn(world);
        }
        note_durable(world);
        break;
    case ENDINGS: break;
    }
    world->dying = world->dying || ending == WRITE_FAILS;
    while (!torc_log_store_drained(world->store)) {
        turn(world);
    }
}

static void life(struct world *world, uint32_t epoch, enum ending ending)
{
    life_open(world);
    recover(world, epoch);
    for (uint32_t step = 0; step < STEPS; step++) {
        for (uint64_t many = torc_rng_below(&world->rng, 12); many > 0; many--) {
            uint32_t shard = (uint32_t)torc_rng_below(&world->rng, SHARDS);

            append(world, shard,
                   torc_rng_below(&world->rng, 8) == 0 ? TORC_LOG_DELETE : TORC_LOG_PUT);
        }
        turn(world);
    }
    note_durable(world);
    trim(world);
    life_end(world, ending);
    life_close(world);
}

static void durable_records_come_back_over_many_lives(void)
{
    struct world world;
    uint64_t first;

    world_make(&world, torc_test_seed());
    first = torc_rng_below(&world.rng, ENDINGS);
    for (uint32_t i = 0; i < LIVES; i++) { // each ending once at least
        uint64_t ending = i < ENDINGS ? (first + i) % ENDINGS : torc_rng_below(&world.rng, ENDINGS);

        life(&world, i + 1, (enum ending)ending);
    }
    CU_ASSERT_TRUE(world.record_count > 1000);
    CU_ASSERT_TRUE(world.told_failed > 0);
    world_free(&world);
}

// -- Planted faults ------------------------------------------------------------------------------

// Overwrites the second block of the stream's first segment.
static void damage(const struct world *world)
{
    int fd = openat(world->log_fd, "1-1", O_RDWR | O_CLOEXEC);
    unsigned char slot[TORC_LOG_SLOT_BYTES];
    off_t second;

    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(pread(fd, slot, sizeof(slot), TORC_LOG_SLOT_BYTES), sizeof(slot));
    second = (off_t)TORC_LOG_SLOT_BYTES + (off_t)torc_log_block_peek(slot, UINT32_MAX);
    memset(slot, 0xff, sizeof(slot));
    CU_ASSERT_EQUAL_FATAL(pwrite(fd, slot, 64, second + 100), 64);
    (void)close(fd);
}

static void a_damaged_durable_block_is_refused_by_name(void)
{
    struct world world;
    struct torc_recover *recover_ = NULL;
    struct torc_recover_shard shards[SHARDS];
    struct torc_fail why = {0};

    world_make(&world, torc_test_seed() + 1);
    life_open(&world);
    recover(&world, 1);
    // Several blocks, however slow the disk is: only a later one says that the second was durable.
    while (world.logs[0].durable < 6) {
        append(&world, 0, TORC_LOG_PUT);
        turn(&world);
    }
    life_end(&world, DATAPLANE_DIES);
    life_close(&world);
    damage(&world);
    life_open(&world);
    CU_ASSERT_EQUAL(scan(&world, &recover_, shards, &why), TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "stream 1"));
    torc_recover_close(recover_);
    life_close(&world);
    world_free(&world);
}

// -- Many turns ----------------------------------------------------------------------------------

// Each base that a replica begins to take is a turn, and one that finds no memory is begun again
// for as long as nobody gives it some. That its node starts again is what gives it some.
static void a_log_of_however_many_turns_is_recovered(void)
{
    struct world world;

    world_make(&world, torc_test_seed() + 3);
    life_open(&world);
    recover(&world, 1);
    for (uint32_t i = 0; i < MANY_TURNS; i++) {
        uint32_t before = world.record_count;

        world.shards[0].turn++;
        while (world.record_count == before) {
            append(&world, 0, TORC_LOG_DELETE);
            if (i % 16 == 0 || world.record_count == before) { // the ring may be full
                turn(&world);
            }
        }
    }
    while (world.logs[0].durable < world.records[world.record_count - 1].sequence) {
        turn(&world);
    }
    life_end(&world, DATAPLANE_DIES);
    life_close(&world);
    life_open(&world);
    recover(&world, 2);
    CU_ASSERT_TRUE(world.shards[0].turn >= MANY_TURNS);
    life_end(&world, DATAPLANE_DIES);
    life_close(&world);
    world_free(&world);
}

// -- A full disk ---------------------------------------------------------------------------------

static void no_space(void *context, const struct torc_disk_op *op,
                     struct torc_disk_verdict *verdict)
{
    const bool *full = context;

    if (*full && op->kind == TORC_DISK_WRITE) { // the zeros of a new segment
        verdict->result = -28;                  // ENOSPC
    }
}

static void a_full_disk_refuses_writes_and_recovers_by_itself(void)
{
    struct world world;
    bool full = false;
    uint32_t before;
    uint64_t waited = 0;

    world_make(&world, torc_test_seed() + 2);
    life_open(&world);
    recover(&world, 1);
    full = true;
    torc_disk_set_fault(world.disk, no_space, &full);
    // What was prepared is written first, however slow the disk is.
    while (!world.logs[0].disk_full) {
        append(&world, 0, TORC_LOG_PUT);
        turn(&world);
    }
    while (torc_log_writer_admit(world.logs, 300).err == TORC_ERR_OK) {
        append(&world, 0, TORC_LOG_PUT);
        turn(&world);
    }
    CU_ASSERT_EQUAL(torc_log_writer_admit(world.logs, 300).err, TORC_ERR_NO_SPACE);
    full = false;
    while (torc_log_writer_admit(world.logs, 300).err != TORC_ERR_OK && waited < 100000) {
        turn(&world);
        waited++;
    }
    before = world.record_count;
    append(&world, 0, TORC_LOG_PUT);
    CU_ASSERT_EQUAL(world.record_count, before + 1);
    torc_disk_set_fault(world.disk, fault, &world);
    life_end(&world, DATAPLANE_DIES);
    life_close(&world);
    life_open(&world);
    recover(&world, 2); // all that was told durable is there
    life_end(&world, DATAPLANE_DIES);
    life_close(&world);
    world_free(&world);
}

// Numbers go on behind the last block that a restart finds: without one they begin at 1 again.
static void a_trim_leaves_a_durable_block(void)
{
    struct torc_log_plan_segment room[2] = {0};
    struct torc_log_plan_segment gone;
    struct torc_log_flight *flight;
    struct torc_log_plan plan;
    struct torc_fail why = {0};

    torc_log_plan_init(&plan, 1, 2, room, TORC_COUNT_OF(room));
    torc_log_plan_begin(&plan, 1);
    for (uint32_t i = 1; i <= TORC_COUNT_OF(room); i++) { // one block each
        struct torc_log_plan_block block = {.sequence = i,
                                            .generation = i,
                                            .stream = 1,
                                            .segment = i,
                                            .offset_bytes = TORC_LOG_SLOT_BYTES,
                                            .byte_count = TORC_LOG_SLOT_BYTES,
                                            .slots = 1};

        CU_ASSERT(torc_log_plan_add(
            &plan, &(struct torc_log_plan_segment){
                       .generation = i, .segment = i, .segment_bytes = SEGMENT_BYTES}));
        TORC_TEST_OK(torc_log_plan_take(&plan, &block, &flight, &why), &why);
        if (i == 1) {
            torc_log_plan_done(&plan, flight, TORC_LOG_SLOT_BYTES, "");
            torc_log_plan_advance(&plan);
        }
    }
    CU_ASSERT_FALSE(torc_log_plan_trim(&plan, 2, &gone)); // block 2 may be lost
    torc_log_plan_done(&plan, flight, TORC_LOG_SLOT_BYTES, "");
    torc_log_plan_advance(&plan);
    CU_ASSERT_TRUE(torc_log_plan_trim(&plan, 2, &gone));
    CU_ASSERT_EQUAL(gone.segment, 1);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"durable records come back over many lives", durable_records_come_back_over_many_lives},
        {"a damaged durable block is refused by name", a_damaged_durable_block_is_refused_by_name},
        {"a log of however many turns is recovered", a_log_of_however_many_turns_is_recovered},
        {"a trim leaves a durable block", a_trim_leaves_a_durable_block},
        {"a full disk refuses writes and recovers by itself",
         a_full_disk_refuses_writes_and_recovers_by_itself},
        CU_TEST_INFO_NULL};

    return torc_test_run("log", tests);
}
