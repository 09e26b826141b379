// Torc tests: reads of the past against a history of every key, by random operations.
//
// A run is a row of worlds. Each world draws its keys, its values, the age and the bytes of the
// undo window, then writes, deletes, commits late, lets time pass, reads keys as of random
// timestamps, and walks ranges as of random timestamps in slices, forwards and backwards, in pairs
// and in counts, while the writes go on. Two shards share the core's window. Each answer is
// compared with the history. What the window promises is checked too: where it has room, nothing
// younger than its age is refused, nor what a pin holds. TORC_TEST_OPS sets how many operations.
// Two sibling runs with a planted fault must be found: a scan that reads the present, and one that
// reads a tick earlier.
#include "kit/hlc.h"
#include "storage/scan.h"
#include "tests/shard_rig.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define OPS_DEFAULT 1500000
#else
#define OPS_DEFAULT 4000000
#endif

enum {
    CHUNKS = 64,
    KEYS_MAX = 3000,
    PENDING_MAX = 64,
    SCANS = 5,
    PAGE_MAX = 200,
    RECENT = 8192,
    WORLD_STEPS = 12000,
    VALUE_MAX = 6000,
    ENTRIES_STEP = 64 // indexed a call, so that MORE happens
};

#define HEAP_BYTES (UINT64_C(48) << 20)
#define WALL_US    UINT64_C(1700000000000000)
#define PIN_US     UINT64_C(400000)

enum fault {
    FAULT_NONE,
    FAULT_PRESENT,
    FAULT_EARLIER
};

// What a key held from `version` on.
struct state {
    uint64_t version;
    uint64_t seed; // the value follows from it
    uint32_t bytes;
    bool present;
};

struct past_key {
    uint64_t key;
    uint32_t count;
    uint32_t room;
    struct state *states; // versions rise; the first one may be absence from the beginning
};

struct late {
    uint32_t index;
    struct state state;
};

struct walk {
    struct torc_scan scan;
    uint64_t ts;
    uint64_t at;
    uint64_t end;
    uint32_t shard;
    bool used;
    bool count;
    bool pinned;
};

struct world {
    struct torc_rng rng;
    struct torc_shard shards[2];
    struct past_key keys[KEYS_MAX];
    struct late late[PENDING_MAX];
    struct walk walks[SCANS];
    struct torc_tree_pair pairs[PAGE_MAX];
    uint64_t recent[RECENT]; // versions given
    unsigned char value[VALUE_MAX];
    uint64_t border;
    uint64_t age_us;
    uint64_t sequence;
    uint64_t seq;
    uint64_t recent_count;
    uint64_t ops;
    uint64_t refused;
    uint32_t key_count;
    uint32_t late_count;
    uint32_t value_max;
    enum fault fault;
    bool roomy; // the window's bytes are never used up
    bool broken;
    char said[160];
};

static struct shard_rig rig;
static struct world world;

__attribute__((format(printf, 1, 2))) static void broken(const char *format, ...)
{
    va_list args;

    if (!world.broken) {
        va_start(args, format);
        (void)vsnprintf(world.said, sizeof(world.said), format, args);
        va_end(args);
        world.broken = true;
    }
}

// -- The history ----------------------------------------------------------------------------------

static void value_make(uint64_t seed, uint32_t bytes, unsigned char *value)
{
    for (uint32_t i = 0; i < bytes; i++) {
        value[i] = (unsigned char)(seed >> (8 * (i % 8))) ^ (unsigned char)i;
    }
}

static void history_add(uint32_t index, const struct state *state)
{
    struct past_key *key = &world.keys[index];

    if (key->count == key->room) {
        key->room = key->room * 2 + 4;
        key->states = realloc(key->states, key->room * sizeof(key->states[0]));
        torc_assert(key->states != NULL);
    }
    key->states[key->count++] = *state;
}

// NULL: the key had no record at `ts`.
static const struct state *history_at(uint32_t index, uint64_t ts)
{
    const struct past_key *key = &world.keys[index];

    for (uint32_t i = key->count; i-- > 0;) {
        if (key->states[i].version <= ts) {
            return key->states[i].present ? &key->states[i] : NULL;
        }
    }
    return NULL;
}

// The first key at or above `key`.
static uint32_t history_find(uint64_t key)
{
    uint32_t low = 0;
    uint32_t high = world.key_count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (world.keys[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void expect_record(const struct state *state, uint64_t key, uint64_t ts,
                          const struct torc_tree_pair *pair)
{
    if (pair->key != key || pair->version != state->version || pair->value_bytes != state->bytes) {
        broken("key %" PRIu64 " at %" PRIx64 ": got key %" PRIu64 " of version %" PRIx64
               ", %u bytes",
               key, ts, pair->key, pair->version, pair->value_bytes);
        return;
    }
    value_make(state->seed, state->bytes, world.value);
    if (memcmp(world.value, pair->value, state->bytes) != 0) {
        broken("key %" PRIu64 " at %" PRIx64 ": another value", key, ts);
    }
}

// -- Writes ---------------------------------------------------------------------------------------

static uint32_t shard_of(uint64_t key)
{
    return key >= world.border ? 1 : 0;
}

static uint32_t draw_key(void)
{
    uint64_t skewed =
        torc_rng_chance(&world.rng, 300000) ? 1 + world.key_count / 50 : world.key_count;

    return (uint32_t)torc_rng_below(&world.rng, skewed);
}

static void op_commit(void)
{
    struct torc_shard_outcome outcomes[PENDING_MAX];
    uint32_t given = torc_shard_commit(&rig.pool, UINT64_MAX, outcomes, PENDING_MAX);

    if (given != world.late_count) {
        broken("%u of %u writes committed", given, world.late_count);
    }
    for (uint32_t i = 0; i < world.late_count; i++) {
        history_add(world.late[i].index, &world.late[i].state);
    }
    world.late_count = 0;
}

static void op_write(void)
{
    uint32_t index = draw_key();
    struct torc_shard *shard = &world.shards[shard_of(world.keys[index].key)];
    struct torc_log_record record;
    struct torc_shard_outcome outcome;
    struct late *late = &world.late[world.late_count];
    struct torc_shard_write write = {.key = world.keys[index].key,
                                     .client = 7,
                                     .principal = 1,
                                     .seq = world.seq + 1,
                                     .low = world.seq + 1,
                                     .stamp = rig.pool.hlc,
                                     .epoch = 1,
                                     .value = world.value,
                                     .remove = torc_rng_chance(&world.rng, 300000)};

    late->index = index;
    late->state = (struct state){.seed = torc_rng_next(&world.rng), .present = !write.remove};
    if (!write.remove) {
        late->state.bytes = (uint32_t)torc_rng_below(&world.rng, world.value_max + 1);
        write.value_bytes = late->state.bytes;
        value_make(late->state.seed, write.value_bytes, world.value);
    }
    world.seq++;
    switch (torc_shard_write(shard, &write, &record, &outcome)) {
    case TORC_SHARD_APPEND:
        late->state.version = record.hlc;
        world.recent[world.recent_count++ % RECENT] = record.hlc;
        world.sequence++;
        torc_shard_appended(shard, world.sequence, world.sequence);
        world.late_count++;
        return;
    case TORC_SHARD_ANSWER:
        if (outcome.err != TORC_ERR_NOT_FOUND && outcome.err != TORC_ERR_NO_SPACE) {
            broken("a write was refused: %s", torc_err_name(outcome.err));
        }
        return;
    case TORC_SHARD_WAIT: // a delete behind another write of its key: not of interest here
        if (!torc_shard_cancel(&rig.pool, outcome.place, 0)) {
            broken("a write that waits cannot be cancelled");
        }
        return;
    }
}

static void op_writes(void)
{
    uint64_t count = 1 + torc_rng_below(&world.rng, 24);

    for (uint64_t i = 0; i < count; i++) {
        op_write();
        world.ops++;
        if (world.late_count == PENDING_MAX || torc_rng_chance(&world.rng, 200000)) {
            op_commit();
        }
        rig.pool.wall_us += torc_rng_chance(&world.rng, 100000) ? 1 : 0;
    }
    if (torc_rng_chance(&world.rng, 800000)) {
        op_commit();
    }
}

// -- Reads ----------------------------------------------------------------------------------------

static uint64_t draw_ts(void)
{
    uint64_t kept = torc_min_u64(world.recent_count, RECENT);
    uint64_t ts = rig.pool.hlc;

    if (kept > 0 && torc_rng_chance(&world.rng, 800000)) {
        ts = world.recent[torc_rng_below(&world.rng, kept)];
    } else if (torc_rng_chance(&world.rng, 300000)) {
        ts = torc_hlc_from_us(rig.pool.wall_us + torc_rng_below(&world.rng, 100));
    } else if (torc_rng_chance(&world.rng, 300000)) {
        ts = torc_hlc_from_us(rig.pool.wall_us - torc_rng_below(&world.rng, 2 * world.age_us));
    }
    return ts + torc_rng_below(&world.rng, 3) - 1;
}

static bool late_at(uint32_t shard, uint64_t ts)
{
    for (uint32_t i = 0; i < world.late_count; i++) {
        if (world.late[i].state.version <= ts &&
            shard_of(world.keys[world.late[i].index].key) == shard) {
            return true;
        }
    }
    return false;
}

static void expect_too_old(uint32_t shard, uint64_t ts, uint64_t oldest, bool pinned)
{
    uint64_t now_us = torc_max_u64(rig.pool.wall_us, torc_hlc_us(rig.pool.hlc));
    bool young = torc_hlc_us(ts) + world.age_us > now_us;

    world.refused++;
    if (ts >= oldest || oldest > world.shards[shard].applied_hlc) {
        broken("too old at %" PRIx64 ", oldest %" PRIx64, ts, oldest);
    }
    if (world.roomy && ts >= world.shards[shard].undo_floor && (young || pinned)) {
        broken("refused at %" PRIx64 ", though it is %s", ts, pinned ? "pinned" : "young");
    }
}

// True: the shard can be read as of `ts`.
static bool past_ready(uint32_t shard, uint64_t ts, bool pinned)
{
    uint64_t oldest = 0;
    bool expect_pending = ts >= world.shards[shard].applied_hlc && late_at(shard, ts);

    for (;;) {
        switch (torc_shard_past(&world.shards[shard], ts, ENTRIES_STEP, &oldest)) {
        case TORC_SHARD_PAST_READY:
            if (expect_pending) {
                broken("ready at %" PRIx64 " with a write pending below", ts);
            }
            return true;
        case TORC_SHARD_PAST_PENDING:
            if (!expect_pending) {
                broken("pending at %" PRIx64 " for nothing", ts);
            }
            return false;
        case TORC_SHARD_PAST_MORE: break;
        case TORC_SHARD_PAST_TOO_OLD: expect_too_old(shard, ts, oldest, pinned); return false;
        case TORC_SHARD_PAST_AHEAD: broken("ahead at %" PRIx64, ts); return false;
        }
    }
}

static void op_get(void)
{
    uint32_t index = draw_key();
    uint64_t key = world.keys[index].key;
    uint64_t ts = draw_ts();
    const struct state *state;
    struct torc_tree_hit hit;
    struct torc_tree_pair pair;

    world.ops++;
    if (!past_ready(shard_of(key), ts, false)) {
        return;
    }
    state = history_at(index, ts);
    torc_shard_get_past(&world.shards[shard_of(key)], key, ts, &hit);
    if (hit.found != (state != NULL)) {
        broken("key %" PRIu64 " at %" PRIx64 ": found %d", key, ts, hit.found);
    } else if (state != NULL) {
        pair = (struct torc_tree_pair){key, hit.version, hit.value, hit.value_bytes};
        expect_record(state, key, ts, &pair);
    }
}

// -- Ranges ---------------------------------------------------------------------------------------

static void walk_open(struct walk *walk)
{
    uint32_t shard = (uint32_t)torc_rng_below(&world.rng, 2);
    uint64_t low = shard == 0 ? 0 : world.border;
    uint64_t high = shard == 0 ? world.border : UINT64_MAX;
    uint64_t a = torc_rng_chance(&world.rng, 400000) ? low : world.keys[draw_key()].key;
    uint64_t b = torc_rng_chance(&world.rng, 400000) ? high : world.keys[draw_key()].key;
    bool reverse = torc_rng_chance(&world.rng, 500000);
    uint64_t limit =
        torc_rng_chance(&world.rng, 200000) ? torc_rng_below(&world.rng, 300) : UINT64_MAX;

    a = torc_min_u64(torc_max_u64(a, low), high);
    b = torc_min_u64(torc_max_u64(b, low), high);
    *walk = (struct walk){.used = true,
                          .shard = shard,
                          .ts = draw_ts(),
                          .count = torc_rng_chance(&world.rng, 200000),
                          .pinned = torc_rng_chance(&world.rng, 500000)};
    torc_scan_open(&walk->scan, &world.shards[shard], torc_min_u64(a, b), torc_max_u64(a, b), limit,
                   reverse);
    if (world.fault != FAULT_PRESENT) {
        torc_scan_past(&walk->scan, walk->ts - (world.fault == FAULT_EARLIER ? 1 : 0));
    }
    walk->at = reverse ? torc_max_u64(a, b) : torc_min_u64(a, b);
    walk->end = reverse ? torc_min_u64(a, b) : torc_max_u64(a, b);
}

static void page_check(const struct walk *walk, const struct torc_scan_page *page)
{
    bool reverse = walk->scan.reverse;
    uint32_t first = history_find(page->cover_lo);
    uint32_t last = history_find(page->cover_hi);
    uint64_t count = 0;

    if (page->cover_lo > page->cover_hi ||
        (reverse ? page->cover_hi : page->cover_lo) != walk->at ||
        (page->done && walk->scan.left > 0 &&
         (reverse ? page->cover_lo : page->cover_hi) != walk->end)) {
        broken("a page covers %" PRIu64 " to %" PRIu64, page->cover_lo, page->cover_hi);
        return;
    }
    for (uint32_t i = 0; i < last - first && !world.broken; i++) {
        uint32_t index = reverse ? last - 1 - i : first + i;
        const struct state *state = history_at(index, walk->ts);

        if (state == NULL) {
            continue;
        }
        if (!walk->count && count < page->count) {
            expect_record(state, world.keys[index].key, walk->ts, &world.pairs[count]);
        }
        count++;
        world.ops++;
    }
    // A count of the present ends on a leaf's border, and the limit within it.
    if (count != page->count && !(walk->count && walk->scan.left == 0 && count > page->count)) {
        broken("%" PRIu64 " records at %" PRIx64 ", not %" PRIu64, page->count, walk->ts, count);
    }
}

static void op_slice(struct walk *walk)
{
    uint32_t pair_max = 1 + (uint32_t)torc_rng_below(
                                &world.rng, torc_rng_chance(&world.rng, 200000) ? 4 : PAGE_MAX);
    struct torc_scan_page page;

    if (!walk->used) {
        walk_open(walk);
    }
    world.ops++;
    if (walk->pinned) {
        torc_undo_pin(&rig.pool.undo, walk->ts, rig.pool.wall_us + PIN_US);
    }
    if (!past_ready(walk->shard, walk->ts, false)) {
        walk->used = late_at(walk->shard, walk->ts) && !walk->scan.done;
        return;
    }
    if (world.fault == FAULT_EARLIER && !past_ready(walk->shard, walk->ts - 1, false)) {
        walk->used = false;
        return;
    }
    if (walk->count) {
        torc_scan_count(&walk->scan, &world.shards[walk->shard], pair_max, &page);
    } else {
        torc_scan_next(&walk->scan, &world.shards[walk->shard], world.pairs, pair_max, &page);
        if (page.count > 0 && torc_rng_chance(&world.rng, 200000)) {
            torc_scan_keep(&walk->scan, world.pairs,
                           (uint32_t)torc_rng_below(&world.rng, page.count), &page);
        }
    }
    page_check(walk, &page);
    walk->at = walk->scan.reverse ? page.cover_lo : page.cover_hi;
    walk->used = !page.done;
}

// A pin and the slices that follow it: what was readable stays so.
static void op_pinned(void)
{
    uint64_t ts = draw_ts();
    uint32_t shard = (uint32_t)torc_rng_below(&world.rng, 2);

    if (!past_ready(shard, ts, false)) {
        return;
    }
    torc_undo_pin(&rig.pool.undo, ts, rig.pool.wall_us + PIN_US);
    for (uint32_t i = 0; i < 3; i++) {
        if (torc_rng_chance(&world.rng, 100000)) { // somebody's clock is ahead
            rig.pool.hlc = torc_max_u64(rig.pool.hlc, torc_hlc_from_us(rig.pool.wall_us + PIN_US));
        }
        op_writes();
        rig.pool.wall_us += torc_rng_below(&world.rng, PIN_US / 8);
        torc_shard_pool_age(&rig.pool);
        (void)past_ready(shard, ts, torc_hlc_us(ts) + PIN_US > rig.pool.wall_us);
    }
}

// -- Worlds ---------------------------------------------------------------------------------------

static int key_compare(const void *a, const void *b)
{
    uint64_t left = ((const struct past_key *)a)->key;
    uint64_t right = ((const struct past_key *)b)->key;

    return left < right ? -1 : left > right;
}

static void world_keys(void)
{
    uint64_t kind = torc_rng_below(&world.rng, 3);
    uint32_t kept = 0;

    world.key_count = 4 + (uint32_t)torc_rng_below(
                              &world.rng, torc_rng_chance(&world.rng, 300000) ? 60 : KEYS_MAX - 4);
    for (uint32_t i = 0; i < world.key_count; i++) {
        world.keys[i] = (struct past_key){
            .key = kind == 0   ? i
                   : kind == 1 ? torc_rng_next(&world.rng) % (UINT64_MAX - 1)
                               : torc_rng_below(&world.rng, 40) << 58 | (i % 100)};
    }
    world.keys[0].key = UINT64_MAX - 1;
    qsort(world.keys, world.key_count, sizeof(world.keys[0]), key_compare);
    for (uint32_t i = 0; i < world.key_count; i++) {
        if (kept == 0 || world.keys[i].key != world.keys[kept - 1].key) {
            world.keys[kept++] = world.keys[i];
        }
    }
    world.key_count = kept;
    world.border = world.keys[kept / 2].key;
    world.border += world.border == 0 ? 1 : 0;
}

static void world_shard(uint32_t at)
{
    struct torc_shard_config config = shard_rig_config(&rig);
    struct torc_log_record record;
    struct torc_shard_outcome outcome;
    struct torc_fail why;

    config.shard = at + 1;
    config.epoch = 1;
    config.lo = at == 0 ? 0 : world.border;
    config.hi = at == 0 ? world.border : UINT64_MAX;
    TORC_TEST_OK(torc_shard_init(&world.shards[at], &rig.pool, &config, &why), &why);
    while (torc_shard_begin(&world.shards[at], &record)) {
        world.sequence++;
        torc_shard_appended(&world.shards[at], world.sequence, world.sequence);
    }
    (void)torc_shard_commit(&rig.pool, UINT64_MAX, &outcome, 1); // EPOCH gives no outcome
}

static void world_open(uint64_t seed, enum fault fault)
{
    struct torc_shard_pool_config config = {.slots_max = 4 * PENDING_MAX,
                                            .waiting_max = PENDING_MAX,
                                            .completion_bytes = TORC_COMPLETION_POOL_BYTES_MIN,
                                            .principal_ppm = 500000,
                                            .dedup_ttl_s = 120,
                                            .seed = seed};

    memset(&world, 0, sizeof(world));
    world.rng.state = seed;
    world.fault = fault;
    world.roomy = torc_rng_chance(&world.rng, 500000);
    world.age_us = 100 + torc_rng_below(&world.rng, 50000);
    world.value_max = torc_rng_chance(&world.rng, 600000)   ? 40
                      : torc_rng_chance(&world.rng, 500000) ? 200
                                                            : VALUE_MAX;
    if (world.value_max > 200) {
        world.roomy = false;
    }
    if (!world.roomy && torc_rng_chance(&world.rng, 500000)) {
        world.age_us = UINT64_C(10000000); // so that it is the bytes that end it
    }
    config.undo =
        (struct torc_undo_config){.bytes = world.roomy ? UINT64_C(64) << 20 : TORC_UNDO_BYTES_MIN,
                                  .age_us = world.age_us,
                                  .pin_us = 2 * PIN_US};
    shard_rig_pool(&rig, CHUNKS, &config);
    rig.pool.wall_us = WALL_US;
    world_keys();
    world_shard(0);
    world_shard(1);
}

static void world_close(void)
{
    torc_undo_clear(&rig.pool.undo);
    torc_shard_drop(&world.shards[0]);
    torc_shard_drop(&world.shards[1]);
    for (uint32_t i = 0; i < world.key_count; i++) {
        free(world.keys[i].states);
    }
}

static void world_check(void)
{
    struct torc_fail why;

    if (torc_shard_check(&world.shards[0], &why) != TORC_ERR_OK ||
        torc_shard_check(&world.shards[1], &why) != TORC_ERR_OK) {
        broken("%s", why.text);
    }
}

static void world_step(void)
{
    uint64_t draw = torc_rng_below(&world.rng, 1000);

    if (draw < 350) {
        op_writes();
    } else if (draw < 600) {
        op_get();
    } else if (draw < 960) {
        op_slice(&world.walks[torc_rng_below(&world.rng, SCANS)]);
    } else if (draw < 970) {
        op_pinned();
    } else if (draw < 985) {
        rig.pool.wall_us += torc_rng_below(&world.rng, world.age_us / 4 + 1);
    } else if (draw < 998) {
        torc_shard_pool_age(&rig.pool);
    } else if (draw < 999) {
        world_check();
    } else if (torc_rng_chance(&world.rng, 20000) && !world.roomy) {
        torc_undo_clear(&rig.pool.undo);
    }
}

static void world_run(uint64_t seed, enum fault fault)
{
    world_open(seed, fault);
    for (uint32_t step = 0; step < WORLD_STEPS && !world.broken; step++) {
        world_step();
    }
    world_check();
    world_close();
}

static uint64_t ops_wanted(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread

    return text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 10);
}

static void test_agrees_with_a_history(void)
{
    struct torc_rng rng = {torc_test_seed()};
    uint64_t wanted = ops_wanted();
    uint64_t ops = 0;
    uint64_t refused = 0;
    bool failed = false;

    while (ops < wanted && !failed) {
        uint64_t seed = torc_rng_next(&rng);

        world_run(seed, FAULT_NONE);
        failed = world.broken;
        if (failed) {
            (void)printf("world %" PRIu64 ": %s\n", seed, world.said);
        }
        ops += world.ops;
        refused += world.refused;
    }
    CU_ASSERT_FALSE(failed);
    CU_ASSERT_TRUE(refused > 0);
    (void)printf("%" PRIu64 " operations, %" PRIu64 " too old ", ops, refused);
}

static bool fault_found(enum fault fault)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < 10; i++) {
        world_run(torc_rng_next(&rng), fault);
        if (world.broken) {
            return true;
        }
    }
    return false;
}

static void test_finds_a_scan_of_the_present(void)
{
    CU_ASSERT_TRUE(fault_found(FAULT_PRESENT));
}

static void test_finds_a_scan_a_tick_too_early(void)
{
    CU_ASSERT_TRUE(fault_found(FAULT_EARLIER));
}

int main(void)
{
    CU_TestInfo tests[] = {{"the past agrees with a history", test_agrees_with_a_history},
                           {"a scan of the present is found", test_finds_a_scan_of_the_present},
                           {"a scan a tick too early is found", test_finds_a_scan_a_tick_too_early},
                           CU_TEST_INFO_NULL};
    int status;

    shard_rig_open(&rig, CHUNKS, HEAP_BYTES);
    status = torc_test_run("undo", tests);
    shard_rig_close(&rig);
    return status;
}
