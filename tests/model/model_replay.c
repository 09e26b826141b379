// Torc tests: any log of shards that follow, replayed with few slots.
//
// What    a log is made as a worker makes it: some shards' records, epochs that cut what others
//         wrote, told marks of commits, blocks, values over blocks and unfinished ones, lives in
//         other streams that log again what they hold, shards begun anew. It is replayed in a pool
//         of drawn size, as often as it is asked for. An oracle knows each shard's line: replay
//         must end with it, apply nothing that is not committed, hold the rest, and lose no shard
//         but one whose base was not kept. NO_SPACE only where more is unsaid than there are slots,
//         never for memory that the rest of the log says is to be had.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many operations, LOG_OPS to a log. A sibling
//         run plants faults.
#include "storage/replay.h"
#include "tests/shard_rig.h"

#include <inttypes.h>
#include <string.h>

#define LOG_OPS 1000u // about, with what replay makes of it
#ifdef TORC_TEST_SANITIZED
#define LOGS_DEFAULT 60
#else
#define LOGS_DEFAULT 500
#endif

#define TAPE_BYTES (UINT64_C(48) << 20)
#define HEAP_BYTES (UINT64_C(64) << 20)
#define MANY       60u // epochs: beyond, replay may not know what the rest of a log cancels

enum {
    SHARDS = 3,
    STREAMS = 3,
    LSN_MAX = 3000,
    PIECES_MAX = 4096,
    KEYS = 40,
    CHUNKS = 24,
    CAPACITY = 2 * TORC_LOG_SLOT_BYTES,
    LARGE_UNIT_BYTES = 4000, // of a value in as many units of the heap
    VALUE_MAX = 9 * LARGE_UNIT_BYTES,
    SLAB_UNITS = 16, // at most
};

enum fault {
    FAULT_NONE,
    FAULT_MARK,
    FAULT_FIRST_BLOCK,
    FAULT_TURNS,
    FAULT_COUNT
};

struct line {
    uint64_t last;
    uint64_t commit;
    uint64_t said; // as a reader of the log knows it
    uint64_t base; // of its last BEGUN; above 0: nothing of it is left
    uint32_t epoch_of[LSN_MAX];
    uint32_t epoch; // the highest of all
    uint32_t turn;
    uint64_t entry;         // block of its last entry
    uint32_t when[LSN_MAX]; // number of the record that the line has now
};

// Blocks of one stream, behind one another on the tape.
struct piece {
    uint32_t stream;
    uint64_t from;
    uint64_t to;
};

struct world {
    struct torc_rng rng;
    uint64_t seed;
    enum fault fault;
    bool broken;
    bool restless;  // more epochs and cuts than replay knows of
    uint32_t slots; // as many replay has again
    // Above 0: large values take so many of the heap's units, which has no more than it must, and
    // no shard begins anew. In pieces, or whole in a block.
    uint32_t tight_units;
    uint32_t logged; // records
    uint32_t stream;
    uint64_t sequences[STREAMS + 1];
    struct line lines[SHARDS];
    struct piece pieces[PIECES_MAX];
    uint32_t piece_count;
    uint64_t tape_bytes;
    bool open;
    struct torc_log_builder builder;
};

static struct shard_rig rig;
static struct world world;
static unsigned char *tape;
static void *replay_memory;
static unsigned char value[VALUE_MAX];
static uint64_t rounds_seen;
static uint32_t most_seen;
static uint64_t full_seen;
static uint64_t lost_seen;

static uint64_t below(uint64_t bound)
{
    return torc_rng_below(&world.rng, bound);
}

static bool chance(uint32_t percent)
{
    return below(100) < percent;
}

static void wrong(const char *what, uint64_t a, uint64_t b)
{
    if (!world.broken && world.fault == FAULT_NONE) {
        (void)fprintf(stderr, "model_replay: TORC_SEED=%" PRIu64 ": %s: %" PRIu64 ", %" PRIu64 "\n",
                      world.seed, what, a, b);
    }
    world.broken = true;
}

static void expect(bool holds, const char *what, uint64_t a, uint64_t b)
{
    if (!holds) {
        wrong(what, a, b);
    }
}

// -- Records: what one is, follows from its shard, LSN and epoch ----------------------------------

static uint64_t record_mix(uint32_t shard, uint64_t lsn, uint32_t epoch)
{
    struct torc_rng rng = {shard * UINT64_C(1000003) + lsn * 7919 + epoch};

    return torc_rng_next(&rng);
}

static uint64_t record_key(uint32_t shard, uint64_t lsn, uint32_t epoch)
{
    return record_mix(shard, lsn, epoch) % KEYS;
}

static uint32_t record_bytes(uint32_t shard, uint64_t lsn, uint32_t epoch)
{
    uint64_t mix = record_mix(shard, lsn, epoch) >> 8;

    if (world.tight_units > 0) {
        return mix % 100 < 15 ? world.tight_units * LARGE_UNIT_BYTES : (uint32_t)(mix % 60);
    }
    return (uint32_t)(mix % 100 < 3 ? 1000 + mix % (VALUE_MAX - 1000) : mix % 60);
}

static bool is_first(const struct line *line, uint64_t lsn)
{
    return lsn == 1 || line->epoch_of[lsn] != line->epoch_of[lsn - 1];
}

static bool is_large(uint32_t shard, uint64_t lsn)
{
    const struct line *line = &world.lines[shard];

    return !is_first(line, lsn) &&
           record_bytes(shard, lsn, line->epoch_of[lsn]) > TORC_TREE_INLINE_BYTES_MAX;
}

static struct torc_log_record record_make(uint32_t shard, uint64_t lsn, uint32_t epoch, bool first)
{
    const struct line *line = &world.lines[shard];
    struct torc_log_record record = {
        .kind = first ? TORC_LOG_EPOCH : TORC_LOG_PUT,
        .shard = 1 + shard,
        .epoch = epoch,
        .turn = line->turn,
        .lsn = lsn,
        .hlc = (UINT64_C(1) << 40) + (lsn << 16) + epoch,
        .key = record_key(shard, lsn, epoch),
        .value = value,
        .value_bytes = first ? 0 : record_bytes(shard, lsn, epoch),
        .commit_lsn = world.fault == FAULT_MARK ? lsn - 1 : torc_min_u64(line->commit, lsn - 1)};

    torc_test_value(value, record_mix(shard, lsn, epoch), record.value_bytes);
    return record;
}

// -- The tape -------------------------------------------------------------------------------------

static void block_begin(void)
{
    torc_assert(world.tape_bytes + CAPACITY <= TAPE_BYTES);
    torc_log_block_begin(&world.builder, tape + world.tape_bytes, CAPACITY);
    world.sequences[world.stream]++;
    world.open = true;
}

static void block_seal(void)
{
    struct torc_log_place place = {.cluster = 1,
                                   .sequence = world.sequences[world.stream],
                                   .generation = 1,
                                   .node = 1,
                                   .stream = world.stream,
                                   .segment = 1};
    struct piece *last = &world.pieces[world.piece_count == 0 ? 0 : world.piece_count - 1];

    if (!world.open) {
        return;
    }
    place.closing = torc_log_block_is_empty(&world.builder);
    if (world.piece_count == 0 || last->stream != world.stream) {
        torc_assert(world.piece_count < PIECES_MAX);
        last = &world.pieces[world.piece_count++];
        *last = (struct piece){.stream = world.stream, .from = world.tape_bytes};
    }
    world.tape_bytes += torc_log_block_seal(&world.builder, &place);
    last->to = world.tape_bytes;
    world.open = false;
}

// What a reader then knows: an entry says what was committed when it began.
static void line_said(struct line *line, uint64_t first_sequence)
{
    if (first_sequence > line->entry) {
        line->said = torc_max_u64(line->said, line->commit);
    }
    line->entry = world.sequences[world.stream];
}

// False: the life ended in the middle of it, and it never happened.
static bool tape_add(uint32_t shard, const struct torc_log_record *record)
{
    uint64_t first_sequence;
    uint32_t done = 0;

    if (!world.open) {
        block_begin();
    }
    first_sequence = world.sequences[world.stream];
    while (!torc_log_block_append(&world.builder, record, &done)) {
        block_seal();
        if (done > 0 && chance(10)) {
            return false;
        }
        block_begin();
    }
    line_said(&world.lines[shard], first_sequence);
    if (chance(10)) {
        block_seal();
    }
    return true;
}

static uint64_t unsaid(void)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++) {
        count += world.lines[i].last - torc_min_u64(world.lines[i].last, world.lines[i].said);
    }
    return count;
}

// -- Lives ----------------------------------------------------------------------------------------

static void life_begin(void);

// The record is the shard's last; what lies at or above its LSN is not there any more.
static void line_log(uint32_t shard, uint64_t lsn, uint32_t epoch, bool first)
{
    struct line *line = &world.lines[shard];
    struct torc_log_record record = record_make(shard, lsn, epoch, first);

    if (!tape_add(shard, &record)) {
        life_begin();
        return;
    }
    line->last = lsn;
    line->epoch_of[lsn] = epoch;
    line->when[lsn] = ++world.logged;
}

static void line_note(uint32_t shard)
{
    struct line *line = &world.lines[shard];
    struct torc_log_record record =
        record_make(shard, line->last + 1, line->epoch_of[line->last], true);

    record.kind = TORC_LOG_MOVED;
    record.hlc = line->last == 0 ? 0 : (UINT64_C(1) << 40) + (line->last << 16) + record.epoch;
    (void)tape_add(shard, &record);
}

// As torc_shard_begin has it; a life may end before it is through.
static void life_begin(void)
{
    uint32_t stream = chance(60) ? world.stream : 1 + (uint32_t)below(STREAMS);
    bool moved = stream != world.stream;

    block_seal();
    world.stream = stream;
    for (uint32_t i = 0; i < SHARDS && moved; i++) {
        struct line *line = &world.lines[i];
        uint64_t from = line->said + 1;

        if (line->last == 0) {
            continue;
        }
        line->turn++;
        line_note(i);
        for (uint64_t lsn = from; lsn <= line->last && !chance(2); lsn++) {
            struct torc_log_record record =
                record_make(i, lsn, line->epoch_of[lsn], is_first(line, lsn));

            if (!tape_add(i, &record)) {
                break;
            }
        }
    }
}

static void begin_anew(uint32_t shard)
{
    struct line *line = &world.lines[shard];
    struct torc_log_record record;
    uint64_t base = chance(70) ? 0 : line->commit;

    line->turn++;
    line->last = base;
    line->base = base;
    line->commit = base;
    line->said = base;
    record = record_make(shard, base + 1, line->epoch_of[base], true);
    record.kind = TORC_LOG_BEGUN;
    record.commit_lsn = 0;
    (void)tape_add(shard, &record);
}

// Another primary: its EPOCH, or a record of the one before that this node did not hear of.
static void take_over(uint32_t shard)
{
    struct line *line = &world.lines[shard];
    uint64_t from = line->commit + below(line->last - line->commit + 1);

    if (from > line->commit && from > line->base && from < line->last && chance(30) &&
        line->epoch_of[from + 1] != line->epoch_of[from]) {
        line_log(shard, from + 1, line->epoch_of[from], false);
        return;
    }
    line->epoch++;
    line_log(shard, from + 1, line->epoch, true);
}

static void world_step(void)
{
    uint32_t shard = (uint32_t)below(SHARDS);
    struct line *line = &world.lines[shard];
    uint64_t pending = 0;

    for (uint32_t i = 0; i < SHARDS; i++) {
        pending += world.lines[i].last - world.lines[i].commit;
    }
    if (line->last + 2 >= LSN_MAX) {
        return;
    }
    if (line->last == line->base || chance(world.restless ? 40 : 4)) {
        take_over(shard);
    } else if (pending >= world.slots || chance(8)) {
        line->commit += below(line->last - line->commit + 1);
    } else if (chance(1)) {
        world.tight_units == 0 && chance(20) ? begin_anew(shard) : life_begin();
    } else {
        line_log(shard, line->last + 1, line->epoch_of[line->last], false);
    }
    for (uint32_t i = 0; i < SHARDS && unsaid() > world.slots + world.slots / 2; i++) {
        if (world.lines[i].last > world.lines[i].base) {
            line_note(i);
        }
    }
}

// -- Replay ---------------------------------------------------------------------------------------

static void rig_pool(uint32_t slots)
{
    struct torc_shard_pool_config config = {.slots_max = slots,
                                            .waiting_max = 1,
                                            .own_max = SHARDS * TORC_SHARD_OWN,
                                            .replay_max = slots,
                                            .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
                                            .principal_ppm = 1000000,
                                            .dedup_ttl_s = 120,
                                            .seed = 1};

    shard_rig_pool(&rig, CHUNKS, &config);
}

static enum torc_err feed_piece(struct torc_replay *replay, const struct piece *piece,
                                struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    for (uint64_t at = piece->from; at < piece->to && err == TORC_ERR_OK;) {
        uint64_t some = torc_min_u64(1 + below(20000), piece->to - at);

        err = torc_replay_log(replay, piece->stream, tape + at, some, why);
        at += some;
    }
    return err == TORC_ERR_OK ? torc_replay_log_end(replay, piece->stream, why) : err;
}

static enum torc_err feed(struct torc_replay *replay, uint32_t round, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t stream = 1; stream <= (world.fault == FAULT_TURNS ? STREAMS : 1u); stream++) {
        for (uint32_t i = 0; i < world.piece_count && err == TORC_ERR_OK; i++) {
            struct piece piece = world.pieces[i];

            if (world.fault == FAULT_FIRST_BLOCK && i == 0 && round > 0) {
                piece.from += torc_log_block_peek(tape + piece.from, piece.to - piece.from);
            }
            if (world.fault != FAULT_TURNS || piece.stream == stream) {
                err = feed_piece(replay, &piece, why);
            }
        }
    }
    return err;
}

static void tree_check(const struct torc_shard *shard, uint32_t index)
{
    const struct line *line = &world.lines[index];
    uint64_t lsns[KEYS] = {0};

    for (uint64_t lsn = 1; lsn <= shard->applied_lsn; lsn++) {
        if (!is_first(line, lsn)) {
            lsns[record_key(index, lsn, line->epoch_of[lsn])] = lsn;
        }
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        struct torc_tree_hit hit;
        bool found = torc_tree_lookup(&shard->tree, key, &hit);

        expect(found == (lsns[key] > 0), "a key is there, or not", key, lsns[key]);
        if (found && lsns[key] > 0) {
            expect(hit.version ==
                       (UINT64_C(1) << 40) + (lsns[key] << 16) + line->epoch_of[lsns[key]],
                   "version", hit.version, lsns[key]);
            expect(torc_test_value_is(hit.value,
                                      record_mix(index, lsns[key], line->epoch_of[lsns[key]]),
                                      hit.value_bytes),
                   "value", key, lsns[key]);
        }
    }
}

static void shard_check(const struct torc_replay *replay, const struct torc_shard *shard,
                        uint32_t index)
{
    const struct line *line = &world.lines[index];
    struct torc_replay_result result = torc_replay_result(replay, 1 + index);
    struct torc_fail why = {0};

    expect(torc_shard_check(shard, &why) == TORC_ERR_OK, why.text, index, 0);
    expect(result.lost == (line->base > 0), "lost", index, line->base);
    if (result.lost) {
        lost_seen++;
        return;
    }
    expect(result.lsn == line->last, "LSN", result.lsn, line->last);
    expect(result.epoch == line->epoch_of[line->last], "epoch", result.epoch, index);
    expect(result.applied_lsn <= line->commit, "applied what is not committed", result.applied_lsn,
           line->commit);
    expect(result.applied_lsn >= line->said, "holds what is committed", result.applied_lsn,
           line->said);
    for (uint64_t lsn = result.applied_lsn + 1; lsn <= line->last && !world.broken; lsn++) {
        struct torc_log_record record = {0};

        expect(torc_shard_pending_at(shard, lsn, &record), "not held", lsn, index);
        expect(record.epoch == line->epoch_of[lsn], "epoch of what is held", lsn, record.epoch);
    }
    if (!world.broken) {
        tree_check(shard, index);
    }
}

// The most large values that are in memory at a time if what the log cancels is passed over, and
// what it says is committed is applied at once.
static uint32_t values_needed(void)
{
    bool large[SHARDS][KEYS] = {{false}};
    uint64_t last[SHARDS] = {0};
    uint32_t count = 0;
    uint32_t most = 0;

    for (uint32_t number = 1; number <= world.logged; number++) {
        for (uint32_t i = 0; i < SHARDS; i++) {
            const struct line *line = &world.lines[i];
            uint64_t lsn = last[i] + 1;
            uint64_t key = record_key(i, lsn, line->epoch_of[lsn]);

            if (lsn > line->last || line->when[lsn] != number) {
                continue;
            }
            last[i] = lsn;
            count += is_large(i, lsn) ? 1 : 0;
            if (lsn <= line->said && !is_first(line, lsn)) {
                count -= large[i][key] ? 1 : 0;
                large[i][key] = is_large(i, lsn);
            }
            most = count > most ? count : most;
        }
    }
    return most;
}

// With a value that each stream has begun, and the one that takes another's place.
static uint64_t heap_needed(void)
{
    uint64_t units = (uint64_t)(values_needed() + STREAMS + 1) * world.tight_units + SLAB_UNITS;

    return units * TORC_HEAP_UNIT_BYTES;
}

// `tight`: there is no more memory than is needed.
static void replay_once(uint32_t slots, bool tight)
{
    struct torc_shard shards[SHARDS];
    struct torc_replay *replay;
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;
    uint32_t round = 0;
    bool again = true;
    bool many = false;

    rig_pool(slots);
    rig.heap.limit_bytes = tight ? heap_needed() : HEAP_BYTES;
    memset(replay_memory, 0, torc_replay_bytes(SHARDS));
    replay = torc_replay_init(replay_memory, torc_replay_bytes(SHARDS), SHARDS);
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct torc_shard_config config = shard_rig_config(&rig);

        config.shard = 1 + i;
        config.hi = UINT64_MAX;
        config.turn = world.lines[i].turn;
        config.follows = true;
        many = many || world.lines[i].epoch > MANY;
        TORC_TEST_OK(torc_shard_init(&shards[i], &rig.pool, &config, &why), &why);
        torc_replay_add(replay, &shards[i]);
    }
    for (; again && err == TORC_ERR_OK; round++) {
        err = feed(replay, round, &why);
        again = err == TORC_ERR_OK && torc_replay_again(replay);
    }
    rounds_seen += round - 1;
    most_seen = round > most_seen ? round : most_seen;
    err = err == TORC_ERR_OK ? torc_replay_end(replay, &why) : err;
    if (err == TORC_ERR_OK) {
        for (uint32_t i = 0; i < SHARDS; i++) {
            shard_check(replay, &shards[i], i);
        }
    } else {
        full_seen++;
        expect(err == TORC_ERR_NO_SPACE && (many || unsaid() > UINT64_C(2) * slots), why.text,
               unsaid(), slots);
        torc_replay_drop(replay);
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        torc_shard_drop(&shards[i]);
    }
    expect(rig.heap.block_count == 0, "blocks leaked", rig.heap.block_count, 0);
    expect(rig.pool.pending_count == 0, "slots leaked", rig.pool.pending_count, 0);
}

// False: something was wrong.
static bool world_run(uint64_t seed, enum fault fault)
{
    uint64_t steps;

    memset(&world, 0, sizeof(world));
    world.seed = seed;
    world.rng.state = seed;
    world.fault = fault;
    world.slots = 4 + (uint32_t)below(40);
    world.stream = 1;
    world.restless = chance(20);
    world.tight_units = world.restless || chance(70) ? 0 : chance(50) ? 1 : 9;
    steps = (20 + below(1500)) * (world.restless ? 3 : 1);
    for (uint64_t i = 0; i < steps; i++) {
        world_step();
    }
    block_seal();
    replay_once(world.slots, world.tight_units > 0);
    if (!world.broken && chance(50)) {
        replay_once(1 + (uint32_t)below(world.slots), false);
    }
    return !world.broken;
}

static void test_logs(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread
    uint64_t wanted = text == NULL ? LOGS_DEFAULT : strtoull(text, NULL, 0) / LOG_OPS + 1;
    struct torc_rng rng = {torc_test_seed()};
    uint64_t seed = torc_test_seed();
    bool agreed = true;

    // The first one has the test's own seed, so that a failure's seed replays it at once.
    for (uint64_t i = 0; i < wanted && agreed; i++) {
        agreed = world_run(seed, FAULT_NONE);
        seed = torc_rng_next(&rng);
    }
    CU_ASSERT_TRUE(agreed);
    (void)printf("%" PRIu64 " logs: read once more %" PRIu64 " times, one %" PRIu32
                 " times in all, %" PRIu64 " without room, %" PRIu64 " shards without their base ",
                 wanted, rounds_seen, most_seen, full_seen, lost_seen);
}

static void test_planted_faults(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (enum fault fault = FAULT_MARK; fault < FAULT_COUNT; fault++) {
        bool seen = false;

        for (uint32_t i = 0; i < 200 && !seen; i++) {
            seen = !world_run(torc_rng_next(&rng), fault);
        }
        CU_ASSERT_TRUE(seen);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"replay ends with what each log says", test_logs},
                           {"planted faults are seen", test_planted_faults},
                           CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
    tape = malloc(TAPE_BYTES);
    replay_memory = aligned_alloc(64, (torc_replay_bytes(SHARDS) + 63) / 64 * 64);
    torc_assert(tape != NULL);
    torc_assert(replay_memory != NULL);
    status = torc_test_run("model_replay", tests);
    free(tape);
    free(replay_memory);
    shard_rig_close(&rig);
    return status;
}
