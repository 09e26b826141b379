// Torc tests: batches of writes against the same writes one at a time, by random operations.
//
// What    two trees of each SIMD variant, each with its heap and undo window. One is given batches,
//         the other each write of them alone: sorted or not, dense or not, with keys twice,
//         deletes, promises, values of one length and of several, versions near and far. What every
//         write says must be equal, and so must all records, all accounts, and what the windows
//         give of the past. Some worlds have little memory: then the first tree may refuse what has
//         no promise, and the second one is given the rest.
//           Sibling runs with a planted fault must be found: a batch whose last write of a key does
//         not win, one that loses a write, and one whose replaced values are not kept.
// Use     TORC_SEED=n replays; TORC_TEST_OPS sets how many writes.
#include "kit/hlc.h"
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/tree_impl.h"
#include "storage/undo.h"
#include "tests/torc_test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TORC_TEST_SANITIZED
#define OPS_DEFAULT 800000
#else
#define OPS_DEFAULT 4000000
#endif

enum {
    CHUNKS = 24,
    CHUNKS_FEW = 3,
    BATCH_MAX = 3 * TORC_TREE_BATCH,
    VALUE_MAX = 300,
    WORLD_BATCHES = 400,
    PAST_MAX = 64,
    PAIRS = 256,
    WORLDS_MAX = 400
};

#define UNDO_BYTES (UINT64_C(8) << 20)
#define HEAP_BYTES (UINT64_C(64) << 20)
#define WALL_US    UINT64_C(1700000000000000)

enum fault {
    FAULT_NONE,
    FAULT_FIRST_WINS,
    FAULT_LOST,
    FAULT_NOT_KEPT
};

// A tree and its memory.
struct side {
    struct torc_mapping mapping;
    struct torc_heap heap;
    struct torc_chunk_pool pool;
    struct torc_undo undo;
    void *undo_memory;
    struct torc_tree tree;
};

struct world {
    struct torc_rng rng;
    const struct torc_tree_code *code;
    struct side batched;
    struct side single;
    enum fault fault;
    bool few; // little memory
    bool broken;
    const char *said;
    uint64_t version;
    uint64_t writes;
    uint64_t refused;
    uint64_t key_step;
    uint64_t key_count;
    uint32_t value_bytes;
    uint32_t other_ppm;  // values of another length
    uint32_t remove_ppm; // deletes
    uint32_t ticket_percent;
    uint64_t past[PAST_MAX];
    uint32_t past_count;
    unsigned char values[BATCH_MAX][VALUE_MAX];
};

static struct world world;

static uint64_t below(uint64_t bound)
{
    return torc_rng_below(&world.rng, bound);
}

static void check(bool good, const char *what)
{
    if (!good && !world.broken) {
        world.broken = true;
        world.said = what;
    }
}

// -- Life ----------------------------------------------------------------------------------------

static void side_open(struct side *side, uint32_t chunks)
{
    struct torc_undo_config config = {.bytes = UNDO_BYTES, .age_us = UINT64_C(1) << 40};
    struct torc_fail why;

    TORC_TEST_OK(torc_mapping_open(&side->mapping, (uint64_t)chunks * TORC_CHUNK_BYTES, &why),
                 &why);
    TORC_TEST_OK(torc_heap_open(&side->heap, HEAP_BYTES, &why), &why);
    torc_chunk_pool_init(&side->pool, side->mapping.base, 0, chunks);
    side->undo_memory = aligned_alloc(64, (torc_undo_bytes(&config) + 63) / 64 * 64);
    torc_undo_init(&side->undo, side->undo_memory, &config);
    torc_undo_attach(&side->undo, &side->heap, world.code);
    TORC_TEST_OK(torc_tree_init(&side->tree, world.code, &side->pool, &side->heap, &why), &why);
    side->tree.undo = &side->undo;
}

static void side_close(struct side *side)
{
    torc_undo_clear(&side->undo);
    torc_tree_drop(&side->tree);
    CU_ASSERT_EQUAL(side->heap.used_bytes, 0);
    torc_heap_close(&side->heap);
    torc_mapping_close(&side->mapping);
    free(side->undo_memory);
}

static void world_open(const struct torc_tree_code *code, enum fault fault, uint64_t seed)
{
    static const uint64_t steps[] = {1, 3, 700, UINT64_C(1) << 20, UINT64_C(1) << 47};
    static const uint32_t lengths[] = {0, 8, 16, 32, 100, 128};

    memset(&world, 0, sizeof(world));
    world.rng.state = seed;
    world.code = code;
    world.fault = fault;
    world.version = torc_hlc_from_us(WALL_US);
    world.few = below(4) == 0 && fault == FAULT_NONE;
    world.key_step = steps[below(TORC_COUNT_OF(steps))];
    world.key_count = UINT64_C(1) << (6 + below(11));
    world.value_bytes = lengths[below(TORC_COUNT_OF(lengths))];
    world.other_ppm = below(2) == 0 ? 0 : (uint32_t)below(100000);
    world.remove_ppm = below(2) == 0 ? 0 : (uint32_t)below(300000);
    world.ticket_percent = (uint32_t)below(3) * 40;
    if (world.few) { // enough to fill it
        world.key_count = UINT64_C(1) << 16;
        world.value_bytes = lengths[3 + below(3)];
    }
    side_open(&world.batched, world.few ? CHUNKS_FEW : CHUNKS);
    side_open(&world.single, CHUNKS);
}

// -- Writes --------------------------------------------------------------------------------------

static int compare_writes(const void *a, const void *b)
{
    const struct torc_tree_write *left = a;
    const struct torc_tree_write *right = b;

    if (left->key == right->key) { // as they were
        return (left->version > right->version) - (left->version < right->version);
    }
    return (left->key > right->key) - (left->key < right->key);
}

static struct torc_tree_write write_draw(uint32_t index, uint64_t place)
{
    struct torc_tree_write write = {.key = place * world.key_step,
                                    .version = world.version += 1 + below(4),
                                    .value = world.values[index],
                                    .value_bytes = world.value_bytes,
                                    .remove = torc_rng_chance(&world.rng, world.remove_ppm)};

    if (torc_rng_chance(&world.rng, world.other_ppm)) {
        write.value_bytes = (uint32_t)below(VALUE_MAX);
    }
    torc_test_value(world.values[index], write.version, write.value_bytes);
    return write;
}

// Sorted or not; close to one another or anywhere; some keys twice.
static uint32_t batch_draw(struct torc_tree_write *writes)
{
    uint32_t count = 1 + (uint32_t)below(BATCH_MAX);
    uint64_t reach = 1 + below(below(3) == 0 ? world.key_count : 3 * (uint64_t)count);
    uint64_t first = below(world.key_count);
    bool twice = below(3) == 0;
    bool sorted = below(4) > 0;

    if (below(50) == 0) {
        world.version += UINT64_C(1) << below(40); // wider than a leaf's versions so far
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t place = (first + below(reach)) % world.key_count;

        if (twice && i > 0 && below(8) == 0) {
            place = writes[below(i)].key / world.key_step;
        }
        writes[i] = write_draw(i, place);
    }
    if (sorted) {
        qsort(writes, count, sizeof(writes[0]), compare_writes);
    }
    return count;
}

static void tickets_draw(struct torc_tree_write *writes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct torc_tree_ticket *ticket = &writes[i].ticket;

        if (below(100) < world.ticket_percent &&
            torc_tree_reserve(&world.batched.tree, writes[i].value_bytes, ticket, NULL) !=
                TORC_ERR_OK) {
            world.refused++; // it goes without
        }
    }
}

// Spoils what is given as a batch; how many of it are left.
static uint32_t plant(struct torc_tree_write *writes, uint32_t count)
{
    for (uint32_t i = 1; i < count && world.fault == FAULT_FIRST_WINS; i++) {
        if (writes[i].key == writes[i - 1].key &&
            writes[i].value_bytes == writes[i - 1].value_bytes) {
            writes[i].value = writes[i - 1].value;
        }
    }
    if (world.fault == FAULT_LOST && count > 40 && below(10) == 0) {
        torc_tree_cancel(&world.batched.tree, &writes[count - 1].ticket);
        return count - 1;
    }
    return count;
}

static void write_compare(const struct torc_tree_write *batched,
                          const struct torc_tree_write *write)
{
    struct torc_tree_write single = *write;
    bool promised = write->ticket.nodes > 0;

    single.ticket = (struct torc_tree_ticket){0};

    if (batched->err != TORC_ERR_OK) {
        world.refused++;
        check(world.few && !promised && !batched->remove, "a write was refused that may not be");
        check(batched->err == TORC_ERR_NO_SPACE, "refused with another error");
        return;
    }
    check(batched->ticket.nodes == 0 && batched->ticket.block == NULL, "a ticket is left");
    check(torc_tree_write(&world.single.tree, &single, NULL) == TORC_ERR_OK, "out of memory");
    check(single.existed == batched->existed, "another answer whether it existed");
    check(single.old_version == batched->old_version, "another old version");
}

static void batch_step(void)
{
    static struct torc_tree_write writes[BATCH_MAX];
    static struct torc_tree_write batch[BATCH_MAX];
    uint32_t count = batch_draw(writes);
    uint32_t refused = 0;
    uint32_t some;

    tickets_draw(writes, count);
    memcpy(batch, writes, count * sizeof(batch[0]));
    world.batched.tree.undo =
        world.fault == FAULT_NOT_KEPT && below(50) == 0 ? NULL : &world.batched.undo;
    some = plant(batch, count);
    some = torc_tree_write_batch(&world.batched.tree, batch, some);
    for (uint32_t i = 0; i < count; i++) {
        refused += batch[i].err != TORC_ERR_OK;
        write_compare(&batch[i], &writes[i]);
    }
    check(some == refused, "another count of refused writes");
    world.writes += count;
    if (below(8) == 0) {
        world.past[world.past_count++ % PAST_MAX] = world.version;
    }
}

// -- Reads ---------------------------------------------------------------------------------------

static bool pairs_equal(const struct torc_tree_pair *a, const struct torc_tree_pair *b)
{
    return a->key == b->key && a->version == b->version && a->value_bytes == b->value_bytes &&
           (a->value_bytes == 0 || memcmp(a->value, b->value, a->value_bytes) == 0);
}

static void records_compare(void)
{
    static struct torc_tree_pair pairs[2][PAIRS];
    struct torc_tree_cursor cursors[2];

    torc_tree_cursor_open(&cursors[0], 0, UINT64_MAX, false);
    torc_tree_cursor_open(&cursors[1], 0, UINT64_MAX, false);
    while (!world.broken && !cursors[0].done) {
        uint32_t some = torc_tree_scan(&world.batched.tree, &cursors[0], pairs[0], PAIRS);
        uint32_t other = torc_tree_scan(&world.single.tree, &cursors[1], pairs[1], PAIRS);

        check(some == other, "another count of records");
        for (uint32_t i = 0; i < some && i < other; i++) {
            check(pairs_equal(&pairs[0][i], &pairs[1][i]), "another record");
        }
    }
    check(world.broken || cursors[1].done, "records are missing");
}

static void accounts_compare(void)
{
    const struct torc_tree *batched = &world.batched.tree;
    const struct torc_tree *single = &world.single.tree;
    struct torc_fail why = {0};

    check(torc_tree_check(batched, &why) == TORC_ERR_OK, "the tree is broken");
    check(torc_tree_check(single, &why) == TORC_ERR_OK, "the other tree is broken");
    check(batched->promised_nodes == 0, "promises are left");
    check(batched->record_count == single->record_count, "another record count");
    check(batched->value_bytes == single->value_bytes, "other bytes of values");
    check(batched->large_count == single->large_count, "another count of large values");
    check(batched->change_stamp == single->change_stamp || world.refused > 0,
          "another count of changes");
    check(world.batched.undo.kept_count == world.single.undo.kept_count,
          "another count of entries");
    check(torc_undo_check(&world.batched.undo, &why) == TORC_ERR_OK, "the window is broken");
}

static bool past_ready(struct side *side, uint64_t ts)
{
    enum torc_undo_state state = TORC_UNDO_MORE;

    while (state == TORC_UNDO_MORE) {
        state = torc_undo_prepare(&side->undo, ts, 1000);
    }
    return state == TORC_UNDO_READY;
}

static void past_compare(void)
{
    uint64_t ts = world.past[below(world.past_count < PAST_MAX ? world.past_count : PAST_MAX)];
    bool ready = past_ready(&world.batched, ts);

    check(past_ready(&world.single, ts) == ready, "one window is shorter");
    for (uint32_t i = 0; ready && i < 200 && !world.broken; i++) {
        struct torc_undo_change changes[2] = {{0}, {0}};
        uint64_t key = below(world.key_count) * world.key_step;
        bool changed = torc_undo_get(&world.batched.undo, key, ts, &changes[0]);

        check(torc_undo_get(&world.single.undo, key, ts, &changes[1]) == changed,
              "a change is in one window alone");
        check(!changed || changes[0].present == changes[1].present, "another past");
        check(!changed || !changes[0].present || pairs_equal(&changes[0].pair, &changes[1].pair),
              "another value in the past");
    }
}

// -- Runs ----------------------------------------------------------------------------------------

static void world_run(const struct torc_tree_code *code, enum fault fault, uint64_t seed)
{
    world_open(code, fault, seed);
    for (uint32_t i = 0; i < WORLD_BATCHES && !world.broken; i++) {
        batch_step();
        if (i % 20 == 19) {
            accounts_compare();
            records_compare();
        }
        if (i % 20 == 19 && world.past_count > 0 && !world.broken) {
            past_compare();
        }
    }
    if (world.broken && fault == FAULT_NONE) {
        (void)fprintf(stderr, "\n%s, world %" PRIu64 ", write %" PRIu64 ": %s\n", code->name, seed,
                      world.writes, world.said);
    }
    side_close(&world.batched);
    side_close(&world.single);
}

static uint64_t ops_wanted(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread

    return text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
}

static void test_batches_are_as_one_at_a_time(void)
{
    static const char *const names[] = {"plain", "avx2", "avx512"};
    struct torc_rng rng = {torc_test_seed()};
    uint64_t refused = 0;
    uint64_t ops = 0;
    uint32_t worlds = 0;

    // One world in four has little memory, and not each of those fills it: on until one did.
    while (ops < ops_wanted() || (refused == 0 && worlds < WORLDS_MAX)) {
        uint64_t seed = torc_rng_next(&rng);

        worlds++;

        for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
            const struct torc_tree_code *code = torc_tree_code_named(names[i]);

            if (code == NULL) {
                continue; // not on this CPU
            }
            world_run(code, FAULT_NONE, seed);
            CU_ASSERT_FALSE_FATAL(world.broken);
            ops += world.writes;
            refused += world.refused;
        }
    }
    (void)printf("%" PRIu64 " writes, %" PRIu64 " refused … ", ops, refused);
    CU_ASSERT_TRUE(refused > 0);
}

static void test_finds_planted_faults(void)
{
    static const enum fault faults[] = {FAULT_FIRST_WINS, FAULT_LOST, FAULT_NOT_KEPT};
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < TORC_COUNT_OF(faults); i++) {
        bool found = false;

        for (uint32_t tries = 0; tries < 20 && !found; tries++) {
            world_run(&torc_tree_code_plain, faults[i], torc_rng_next(&rng));
            found = world.broken;
        }
        CU_ASSERT_TRUE(found);
        (void)printf("\n    %s", found ? world.said : "not found");
    }
    (void)printf(" … ");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"batches do what their writes do one at a time", test_batches_are_as_one_at_a_time},
        {"planted faults are found", test_finds_planted_faults},
        CU_TEST_INFO_NULL};

    return torc_test_run("coalesce", tests);
}
