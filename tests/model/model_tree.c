// Torc tests: the tree against a sorted array, by random operations.
//
// A run is a row of worlds. Each world draws its keys (rising, falling, clustered, random, dense,
// at the ends), values, versions, memory limits and SIMD variant, then writes, deletes, looks up,
// scans, counts, appends, takes and cancels tickets. Every answer is compared with the array, and
// torc_tree_check walks the tree again and again. TORC_TEST_OPS sets how many operations.
// Two sibling runs with a planted fault must be found: a lookup that loses a key, seen by the
// array, and a descent that ends one leaf aside, seen by the checker.
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/tree.h"
#include "tests/torc_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define OPS_DEFAULT 6000000
#else
#define OPS_DEFAULT 12000000
#endif

enum {
    CHUNKS = 96,
    RECORDS_MAX = 6000,
    TICKETS_MAX = 24,
    CURSORS_MAX = 4,
    BATCH_MAX = 150, // more than two batches of the tree
    WORLD_OPS = 60000,
    VALUE_BYTES_MAX = 1 << 20
};

// What the array keeps of a record; the value follows from it.
struct entry {
    uint64_t key;
    uint64_t version;
    uint32_t bytes;
};

enum key_kind {
    KEYS_RISING,
    KEYS_FALLING,
    KEYS_CLUSTERED,
    KEYS_RANDOM,
    KEYS_RANDOM_32,
    KEYS_DENSE,
    KEYS_AT_ENDS,
    KEY_KINDS
};

enum value_kind {
    VALUES_FIXED,
    VALUES_SHORT,
    VALUES_AT_BORDER,
    VALUES_LARGE,
    VALUES_MIXED,
    VALUE_KINDS
};

struct model_cursor {
    bool open;
    uint64_t next;
    uint64_t end;
    struct torc_tree_cursor cursor;
};

struct promise {
    uint32_t bytes;
    struct torc_tree_ticket ticket;
};

struct world {
    struct torc_rng rng;
    enum key_kind keys;
    enum value_kind values;
    uint32_t fixed_bytes;
    uint32_t version_kind;
    uint32_t delete_ppm; // turns around, so that the tree grows and shrinks
    uint64_t key_at;     // of the kinds that rise or fall
    uint64_t version;
    bool roomy;  // nothing may be refused
    bool faulty; // the checker and the array, not an assertion of ours, are to find what is wrong
    bool broken;
    char said[200];
    uint64_t ops;
    uint64_t refused;
    uint32_t count;
    uint32_t promise_count;
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_tree_sweep sweep;
    struct model_cursor cursors[CURSORS_MAX];
    struct promise promises[TICKETS_MAX];
    struct entry entries[RECORDS_MAX + BATCH_MAX];
};

// What all worlds use, one after the other.
struct stage {
    struct torc_mapping mapping;
    struct torc_heap heap;
    uint8_t *values[BATCH_MAX]; // VALUE_BYTES_MAX each
    uint8_t *expected;
};

// -- The oracle ----------------------------------------------------------------------------------

static void broken(struct world *world, const char *text, uint64_t key)
{
    if (!world->broken) {
        world->broken = true;
        (void)snprintf(world->said, sizeof(world->said), "%s, key %" PRIu64 ", operation %" PRIu64,
                       text, key, world->ops);
    }
}

// The first entry not below `key`.
static uint32_t entry_find(const struct world *world, uint64_t key)
{
    uint32_t low = 0;
    uint32_t high = world->count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (world->entries[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct entry *entry_at(struct world *world, uint64_t key)
{
    uint32_t index = entry_find(world, key);

    return index < world->count && world->entries[index].key == key ? &world->entries[index] : NULL;
}

static void entry_put(struct world *world, struct entry entry)
{
    uint32_t index = entry_find(world, entry.key);

    if (index == world->count || world->entries[index].key != entry.key) {
        torc_assert(world->count < TORC_COUNT_OF(world->entries));
        memmove(&world->entries[index + 1], &world->entries[index],
                (world->count - index) * sizeof(entry));
        world->count++;
    }
    world->entries[index] = entry;
}

static void entry_remove(struct world *world, uint64_t key)
{
    uint32_t index = entry_find(world, key);

    if (index < world->count && world->entries[index].key == key) {
        world->count--;
        memmove(&world->entries[index], &world->entries[index + 1],
                (world->count - index) * sizeof(world->entries[0]));
    }
}

static void value_make(uint8_t *value, struct entry entry)
{
    struct torc_rng rng = {entry.key * 31 + entry.version * 7 + entry.bytes};
    uint32_t at = 0;

    while (at < entry.bytes) {
        uint64_t word = torc_rng_next(&rng);
        uint32_t some = entry.bytes - at < 8 ? entry.bytes - at : 8;

        memcpy(value + at, &word, some);
        at += some;
    }
}

static void value_compare(struct world *world, struct stage *stage, const struct entry *entry,
                          const struct torc_tree_hit *hit)
{
    if (hit->version != entry->version || hit->value_bytes != entry->bytes) {
        broken(world, "another version or length", entry->key);
        return;
    }
    value_make(stage->expected, *entry);
    if (entry->bytes > 0 && memcmp(stage->expected, hit->value, entry->bytes) != 0) {
        broken(world, "another value", entry->key);
    }
}

// -- What is drawn -------------------------------------------------------------------------------

static uint64_t draw_known_key(struct world *world)
{
    return world->count == 0 ? 0 : world->entries[torc_rng_below(&world->rng, world->count)].key;
}

static uint64_t draw_new_key(struct world *world)
{
    struct torc_rng *rng = &world->rng;

    switch (world->keys) {
    case KEYS_RISING: return world->key_at += 1 + torc_rng_below(rng, 3);
    case KEYS_FALLING: return world->key_at -= 1 + torc_rng_below(rng, 3);
    case KEYS_CLUSTERED:
        if (torc_rng_below(rng, 50) == 0) {
            world->key_at = torc_rng_next(rng);
        }
        return world->key_at + torc_rng_below(rng, 300);
    case KEYS_RANDOM: return torc_rng_next(rng) >> torc_rng_below(rng, 3);
    case KEYS_RANDOM_32: return torc_rng_below(rng, UINT64_C(1) << 32);
    case KEYS_DENSE: return torc_rng_below(rng, 8000);
    case KEYS_AT_ENDS:
        return (torc_rng_below(rng, 2) == 0 ? UINT64_MAX : 0) ^
               (torc_rng_next(rng) >> (20 + torc_rng_below(rng, 44)));
    case KEY_KINDS: break;
    }
    torc_unreachable("a kind of keys");
}

static uint64_t draw_key(struct world *world)
{
    uint64_t kind = torc_rng_below(&world->rng, 100);

    if (kind < 45 && world->count > 0) {
        return draw_known_key(world);
    }
    if (kind == 45) {
        return torc_rng_below(&world->rng, 2) == 0 ? 0 : UINT64_MAX;
    }
    if (kind == 46) { // far from the others: makes a leaf's deltas wider at once
        return torc_rng_next(&world->rng) >> torc_rng_below(&world->rng, 64);
    }
    return draw_new_key(world);
}

static uint32_t draw_bytes(struct world *world)
{
    struct torc_rng *rng = &world->rng;

    switch (world->values) {
    case VALUES_FIXED: return world->fixed_bytes;
    case VALUES_SHORT: return (uint32_t)torc_rng_below(rng, 25);
    case VALUES_AT_BORDER: return 124 + (uint32_t)torc_rng_below(rng, 9);
    case VALUES_LARGE: return 129 + (uint32_t)torc_rng_below(rng, 3000);
    case VALUES_MIXED:
        if (torc_rng_below(rng, 2000) == 0) {
            return (uint32_t)torc_rng_below(rng, VALUE_BYTES_MAX + 1);
        }
        return (uint32_t)(torc_rng_below(rng, 300) >> torc_rng_below(rng, 6));
    case VALUE_KINDS: break;
    }
    torc_unreachable("a kind of values");
}

static uint64_t draw_version(struct world *world)
{
    switch (world->version_kind) {
    case 0: return world->version += torc_rng_below(&world->rng, 3);
    case 1: return world->version += torc_rng_below(&world->rng, 1 << 20);
    case 2: return torc_rng_next(&world->rng) >> torc_rng_below(&world->rng, 64);
    default: return 7;
    }
}

// -- Operations ----------------------------------------------------------------------------------

static void promise_take(struct world *world)
{
    struct promise *promise = &world->promises[world->promise_count];

    if (world->promise_count == TICKETS_MAX) {
        return;
    }
    promise->bytes = draw_bytes(world);
    if (torc_tree_reserve(&world->tree, promise->bytes, &promise->ticket, NULL) == TORC_ERR_OK) {
        world->promise_count++;
    } else {
        world->refused++;
    }
}

static void promise_drop(struct world *world)
{
    if (world->promise_count > 0) {
        torc_tree_cancel(&world->tree, &world->promises[--world->promise_count].ticket);
    }
}

// Draws one write, with the oldest promise or without.
static void write_draw(struct world *world, struct stage *stage, uint32_t index,
                       struct torc_tree_write *write)
{
    *write = (struct torc_tree_write){.key = draw_key(world), .version = draw_version(world)};
    write->remove = torc_rng_chance(&world->rng, world->delete_ppm);
    write->value_bytes = draw_bytes(world);
    write->value = stage->values[index];
    if (world->promise_count > 0 && torc_rng_below(&world->rng, 3) == 0) {
        write->ticket = world->promises[0].ticket;
        write->value_bytes = world->promises[0].bytes;
        world->promise_count--;
        memmove(&world->promises[0], &world->promises[1],
                world->promise_count * sizeof(world->promises[0]));
        if (write->ticket.block != NULL && torc_rng_below(&world->rng, 2) == 0) {
            write->value = write->ticket.block; // filled by the holder
        }
    }
    if (!write->remove) {
        struct entry entry = {write->key, write->version, write->value_bytes};

        value_make(write->value == stage->values[index] ? stage->values[index]
                                                        : write->ticket.block,
                   entry);
    }
}

// What the tree said about one write, against the array, which then changes likewise.
static void write_compare(struct world *world, const struct torc_tree_write *write, bool promised)
{
    const struct entry *old = entry_at(world, write->key);

    if (write->err != TORC_ERR_OK) {
        world->refused++;
        if (promised || write->remove || write->err != TORC_ERR_NO_SPACE) {
            broken(world, "a write failed that may not", write->key);
        }
        return;
    }
    if (write->existed != (old != NULL) || (old != NULL && write->old_version != old->version)) {
        broken(world, "a write says otherwise what was there", write->key);
    }
    if (write->remove) {
        entry_remove(world, write->key);
    } else {
        entry_put(world, (struct entry){write->key, write->version, write->value_bytes});
    }
}

static void op_write(struct world *world, struct stage *stage)
{
    struct torc_tree_write writes[BATCH_MAX];
    bool promised[BATCH_MAX];
    uint32_t count = 1 + (uint32_t)torc_rng_below(&world->rng, BATCH_MAX);
    uint32_t refused;
    uint32_t failed = 0;

    if (torc_rng_below(&world->rng, 2) == 0) {
        count = 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        write_draw(world, stage, i, &writes[i]);
        promised[i] = writes[i].ticket.nodes > 0;
    }
    if (count == 1) {
        refused = torc_tree_write(&world->tree, &writes[0], NULL) == TORC_ERR_OK ? 0 : 1;
    } else {
        refused = torc_tree_write_batch(&world->tree, writes, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        failed += writes[i].err != TORC_ERR_OK;
        write_compare(world, &writes[i], promised[i]);
    }
    if (failed != refused) {
        broken(world, "the count of refused writes is wrong", 0);
    }
    world->ops += count;
}

static void op_append(struct world *world, struct stage *stage)
{
    struct torc_tree_pair pairs[BATCH_MAX] = {0};
    uint64_t key = world->count == 0 ? 0 : world->entries[world->count - 1].key;
    uint32_t count = 0;
    uint32_t appended = 0;
    uint64_t step = UINT64_C(1) << torc_rng_below(&world->rng, 40);

    if (key >= UINT64_MAX - 2 * step) {
        return;
    }
    while (count < BATCH_MAX && key < UINT64_MAX - 2 * step) {
        struct entry entry;

        key += 1 + torc_rng_below(&world->rng, step);
        entry = (struct entry){key, draw_version(world), draw_bytes(world)};
        value_make(stage->values[count], entry);
        pairs[count] =
            (struct torc_tree_pair){key, entry.version, stage->values[count], entry.bytes};
        count++;
    }
    if (torc_tree_append(&world->tree, pairs, count, &appended, NULL) == TORC_ERR_OK
            ? appended != count
            : appended >= count) {
        broken(world, "an append says otherwise how much went in", key);
    }
    world->refused += appended < count;
    for (uint32_t i = 0; i < appended; i++) {
        entry_put(world, (struct entry){pairs[i].key, pairs[i].version, pairs[i].value_bytes});
    }
    world->ops += count;
}

static void op_lookup(struct world *world, struct stage *stage)
{
    uint64_t keys[BATCH_MAX] = {0};
    struct torc_tree_hit hits[BATCH_MAX];
    uint32_t count = 1 + (uint32_t)torc_rng_below(&world->rng, BATCH_MAX);

    for (uint32_t i = 0; i < count; i++) {
        keys[i] = draw_key(world) + torc_rng_below(&world->rng, 10) / 9;
    }
    torc_tree_lookup_batch(&world->tree, keys, count, hits);
    if (torc_rng_below(&world->rng, 4) == 0) {
        count = 1;
        (void)torc_tree_lookup(&world->tree, keys[0], &hits[0]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = entry_at(world, keys[i]);

        if (hits[i].found != (entry != NULL)) {
            broken(world, entry != NULL ? "a key was not found" : "a key was found", keys[i]);
        } else if (entry != NULL) {
            value_compare(world, stage, entry, &hits[i]);
        }
    }
    world->ops += count;
}

// The next entry of a scan, or NULL at its end.
static const struct entry *cursor_next(struct world *world, struct model_cursor *model)
{
    uint32_t index = entry_find(world, model->next);

    if (!model->open) {
        return NULL;
    }
    if (!model->cursor.reverse) {
        return index < world->count && world->entries[index].key <= model->end
                   ? &world->entries[index]
                   : NULL;
    }
    if (index == world->count || world->entries[index].key > model->next) {
        if (index == 0) {
            return NULL;
        }
        index--;
    }
    return world->entries[index].key >= model->end ? &world->entries[index] : NULL;
}

// Past `key`; the model's scan closes when there is nothing behind it.
static void cursor_pass(struct model_cursor *model, uint64_t key)
{
    if (key == model->end) {
        model->open = false;
    }
    model->next = model->cursor.reverse ? key - 1 : key + 1;
}

static void scan_open(struct world *world, struct model_cursor *model)
{
    uint64_t first = draw_key(world);
    uint64_t last = draw_key(world);
    bool reverse = torc_rng_below(&world->rng, 2) == 0;

    switch (torc_rng_below(&world->rng, 8)) {
    case 0:
        first = 0;
        last = UINT64_MAX;
        break;
    case 1: last = first; break;
    case 2: break; // may be empty
    default:
        if (first > last) {
            uint64_t swap = first;

            first = last;
            last = swap;
        }
    }
    torc_tree_cursor_open(&model->cursor, first, last, reverse);
    model->open = first <= last;
    model->next = reverse ? last : first;
    model->end = reverse ? first : last;
}

static void pair_compare(struct world *world, struct stage *stage, const struct entry *entry,
                         const struct torc_tree_pair *pair)
{
    struct torc_tree_hit hit = {pair->value, pair->version, pair->value_bytes, true};

    if (entry == NULL || entry->key != pair->key) {
        broken(world, "a scan hands out another key", pair->key);
    } else {
        value_compare(world, stage, entry, &hit);
    }
}

static void op_scan(struct world *world, struct stage *stage)
{
    struct model_cursor *model = &world->cursors[torc_rng_below(&world->rng, CURSORS_MAX)];
    struct torc_tree_pair pairs[300];
    uint32_t limit = 1 + (uint32_t)torc_rng_below(&world->rng, TORC_COUNT_OF(pairs));
    uint32_t count;

    if (!model->open || torc_rng_below(&world->rng, 20) == 0) {
        scan_open(world, model);
    }
    count = torc_tree_scan(&world->tree, &model->cursor, pairs, limit);
    for (uint32_t i = 0; i < count && !world->broken; i++) {
        pair_compare(world, stage, cursor_next(world, model), &pairs[i]);
        cursor_pass(model, pairs[i].key);
    }
    if (count < limit && !model->cursor.done) {
        broken(world, "a scan stops before its end", model->next);
    }
    if (model->cursor.done && cursor_next(world, model) != NULL) {
        broken(world, "a scan ends before its end", model->next);
    }
    if (count > 1 && !model->cursor.done && torc_rng_below(&world->rng, 3) == 0) {
        uint64_t again = pairs[torc_rng_below(&world->rng, count)].key; // did not fit the page

        torc_tree_cursor_seek(&model->cursor, again);
        model->next = again;
    }
    model->open = model->open && !model->cursor.done;
    world->ops += count;
}

static void op_count(struct world *world)
{
    struct model_cursor model;
    uint64_t counted = 0;
    uint64_t expected = 0;
    uint64_t limit = 1 + torc_rng_below(&world->rng, 2000);

    scan_open(world, &model);
    if (model.open) {
        uint64_t first = model.cursor.reverse ? model.end : model.next;
        uint64_t last = model.cursor.reverse ? model.next : model.end;

        expected = (last == UINT64_MAX ? world->count : entry_find(world, last + 1)) -
                   entry_find(world, first);
    }
    while (!model.cursor.done) {
        counted += torc_tree_scan_count(&world->tree, &model.cursor, limit);
        if (torc_rng_below(&world->rng, 4) == 0) { // its place is found anew
            world->tree.change_stamp++;
        }
    }
    if (counted != expected) {
        broken(world, "a scan counts wrongly", model.next);
    }
    world->ops += 20;
}

// Puts some leaves in order: nothing that a caller sees may change. A pass begins now and then
// though little has changed.
static void op_order(struct world *world)
{
    if (torc_rng_below(&world->rng, 4) == 0) {
        world->tree.order.shape_stamp = 0;
    }
    (void)torc_tree_order(&world->tree, 1 + (uint32_t)torc_rng_below(&world->rng, 100));
}

static void op_check(struct world *world, const struct stage *stage)
{
    struct torc_fail why = {0};
    struct torc_tree_memory memory;
    uint64_t bytes = 0;

    if (torc_tree_check(&world->tree, &why) != TORC_ERR_OK) {
        broken(world, why.text, 0);
        return;
    }
    for (uint32_t i = 0; i < world->count; i++) {
        bytes += world->entries[i].bytes;
    }
    torc_tree_memory(&world->tree, &memory);
    if (world->tree.record_count != world->count || world->tree.value_bytes != bytes) {
        broken(world, "the tree counts its records wrongly", 0);
    }
    if (memory.chunk_bytes !=
            memory.leaf_bytes + memory.inner_bytes + memory.free_bytes + memory.header_bytes ||
        memory.leaf_used_bytes > memory.leaf_bytes || memory.promised_bytes > memory.free_bytes) {
        broken(world, "the tree's memory does not add up", 0);
    }
    if (stage->heap.used_bytes > stage->heap.limit_bytes) {
        broken(world, "the heap is over its limit", 0);
    }
    if (torc_rng_below(&world->rng, 20) == 0 && torc_heap_check(&stage->heap) != NULL) {
        broken(world, torc_heap_check(&stage->heap), 0);
    }
}

// Gives memory back, at times all that may be: nothing that a caller sees may change, and then no
// more is free than may be. Now and then a pass through the leaves begins for few deletes, and the
// root's chunk is left for no reason, so that inner nodes move too.
static void op_compact(struct world *world, const struct stage *stage)
{
    uint64_t calls =
        torc_rng_below(&world->rng, 5) == 0 ? UINT32_MAX : torc_rng_below(&world->rng, 4);
    bool more = true;

    if (torc_rng_below(&world->rng, 4) == 0) {
        world->tree.removed_count += world->tree.record_count;
    }
    if (torc_rng_below(&world->rng, 4) == 0 && torc_chunk_set_grow(&world->tree.chunks)) {
        world->tree.chunks.leaving = world->tree.root / TORC_CHUNK_NODES;
        world->tree.compact.slot = 1;
    }
    for (; more && calls > 0; calls--) {
        more = torc_tree_compact(&world->tree, 1 + (uint32_t)torc_rng_below(&world->rng, 60));
    }
    if (!more && torc_tree_spare(&world->tree) > torc_tree_spare_max(&world->tree)) {
        broken(world, "more nodes are free than may be", 0);
    }
    if (torc_rng_below(&world->rng, 8) == 0) {
        op_check(world, stage);
    }
}

// A few steps of a sweep that never ends, or a whole one, which must see all leaves.
static void op_sweep(struct world *world)
{
    static const uint32_t budgets[] = {0, 1, 3000, 1 << 20};
    uint32_t leaves = 1 + (uint32_t)torc_rng_below(&world->rng, 30);
    uint64_t budget = budgets[torc_rng_below(&world->rng, TORC_COUNT_OF(budgets))];
    struct torc_tree_sweep whole = {0};
    struct torc_tree_memory memory;

    if (!torc_tree_sweep(&world->tree, &world->sweep, leaves, budget)) {
        world->sweep = (struct torc_tree_sweep){0};
    }
    if (torc_rng_below(&world->rng, 400) > 0) {
        return;
    }
    while (torc_tree_sweep(&world->tree, &whole, leaves, budget)) {
        world->ops++;
    }
    torc_tree_memory(&world->tree, &memory);
    if (world->count > 0 && (whole.leaf_count != world->tree.leaf_count ||
                             whole.used_bytes != memory.leaf_used_bytes)) {
        broken(world, "a sweep sees other leaves than there are", 0);
    }
}

// -- Worlds --------------------------------------------------------------------------------------

static void world_step(struct world *world, struct stage *stage)
{
    uint64_t kind = torc_rng_below(&world->rng, 1000);

    if (world->count >= RECORDS_MAX - BATCH_MAX || torc_rng_below(&world->rng, 800) == 0) {
        static const uint32_t rates[] = {50000, 200000, 500000, 950000, 1000000};

        world->delete_ppm = world->count >= RECORDS_MAX - BATCH_MAX
                                ? 950000
                                : rates[torc_rng_below(&world->rng, TORC_COUNT_OF(rates))];
    }
    if (kind < 500) {
        op_write(world, stage);
    } else if (kind < 800) {
        op_lookup(world, stage);
    } else if (kind < 900) {
        op_scan(world, stage);
    } else if (kind < 940) {
        promise_take(world);
    } else if (kind < 950) {
        promise_drop(world);
    } else if (kind < 960) {
        op_count(world);
    } else if (kind < 965 && world->count < RECORDS_MAX - 2 * BATCH_MAX) {
        op_append(world, stage);
    } else if (kind < 970) {
        op_check(world, stage);
    } else if (kind < 975 && !world->faulty) {
        op_order(world);
    } else if (kind < 980) {
        op_sweep(world);
    } else if (kind < 985 && !world->faulty) {
        op_compact(world, stage);
    }
    world->ops++;
}

static const struct torc_tree_code *draw_code(struct torc_rng *rng)
{
    static const char *const names[] = {"plain", "avx2", "avx512"};
    const struct torc_tree_code *code =
        torc_tree_code_named(names[torc_rng_below(rng, TORC_COUNT_OF(names))]);

    return code == NULL ? &torc_tree_code_plain : code;
}

// A new world; `code` NULL draws one.
static void world_init(struct world *world, struct stage *stage, uint64_t seed,
                       const struct torc_tree_code *code)
{
    uint32_t chunks;

    memset(world, 0, sizeof(*world));
    world->rng.state = seed;
    world->keys = (enum key_kind)torc_rng_below(&world->rng, KEY_KINDS);
    world->values = (enum value_kind)torc_rng_below(&world->rng, VALUE_KINDS);
    world->fixed_bytes = (uint32_t)torc_rng_below(&world->rng, 9) * 16;
    world->version_kind = (uint32_t)torc_rng_below(&world->rng, 4);
    world->delete_ppm = 100000;
    world->key_at = torc_rng_next(&world->rng) >> torc_rng_below(&world->rng, 40);
    world->version = torc_rng_next(&world->rng) >> 8;
    world->roomy = torc_rng_below(&world->rng, 3) > 0;
    chunks = world->roomy ? CHUNKS : 1 + (uint32_t)torc_rng_below(&world->rng, 4);
    stage->heap.limit_bytes =
        world->roomy ? UINT64_C(256) << 20 : torc_rng_below(&world->rng, 4 << 20);
    torc_chunk_pool_init(&world->pool, stage->mapping.base, 0, chunks);
    world->faulty = code != NULL;
    code = code == NULL ? draw_code(&world->rng) : code;
    if (torc_tree_init(&world->tree, code, &world->pool, &stage->heap, NULL) != TORC_ERR_OK) {
        broken(world, "a pool with a free chunk made no tree", 0);
    }
}

// All memory must come back.
static void world_close(struct world *world, const struct stage *stage)
{
    while (world->promise_count > 0) {
        promise_drop(world);
    }
    torc_tree_drop(&world->tree);
    if (torc_chunk_pool_free(&world->pool) != world->pool.chunk_count) {
        broken(world, "chunks were lost", 0);
    }
    if (stage->heap.block_count != 0 || stage->heap.used_bytes != 0) {
        broken(world, "large values were lost", 0);
    }
    if (world->roomy && world->refused > 0) {
        broken(world, "memory was refused although there was enough", 0);
    }
}

static void world_run(struct world *world, struct stage *stage)
{
    while (!world->broken && world->ops < WORLD_OPS) {
        world_step(world, stage);
    }
    if (!world->broken) {
        op_check(world, stage);
    }
}

static void stage_open(struct stage *stage)
{
    struct torc_fail why;
    uint64_t heap_bytes = UINT64_C(1) << 30;

    TORC_TEST_OK(torc_mapping_open(&stage->mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, &why),
                 &why);
    TORC_TEST_OK(torc_heap_open(&stage->heap, heap_bytes, &why), &why);
    stage->expected = malloc(VALUE_BYTES_MAX);
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        stage->values[i] = malloc(VALUE_BYTES_MAX);
    }
}

static void stage_close(struct stage *stage)
{
    torc_heap_close(&stage->heap);
    torc_mapping_close(&stage->mapping);
    free(stage->expected);
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        free(stage->values[i]);
    }
}

static uint64_t ops_wanted(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread

    return text == NULL ? OPS_DEFAULT : strtoull(text, NULL, 0);
}

static struct world the_world; // large, and one at a time

static void test_agrees_with_a_sorted_array(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct stage stage = {0};
    uint64_t ops = 0;
    uint64_t refused = 0;

    stage_open(&stage);
    while (ops < ops_wanted() && !the_world.broken) {
        uint64_t seed = torc_rng_next(&rng);

        world_init(&the_world, &stage, seed, NULL);
        world_run(&the_world, &stage);
        if (!the_world.broken) {
            world_close(&the_world, &stage);
        }
        if (the_world.broken) {
            (void)fprintf(
                stderr, "world %" PRIu64 " (keys %d, values %d, versions %u, roomy %d, %s): %s\n",
                seed, the_world.keys, the_world.values, the_world.version_kind, the_world.roomy,
                the_world.tree.code == NULL ? "closed" : the_world.tree.code->name, the_world.said);
        }
        ops += the_world.ops;
        refused += the_world.refused;
    }
    CU_ASSERT_FALSE(the_world.broken);
    CU_ASSERT(refused > 0); // memory was full now and then
    CU_ASSERT(stage.heap.moved_count > 0);
    (void)printf("%" PRIu64 " operations, %" PRIu64 " refused … ", ops, refused);
    stage_close(&stage);
}

// -- Planted faults ------------------------------------------------------------------------------

static void lookup_losing(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                          struct torc_tree_hit *hits)
{
    torc_tree_code_plain.lookup(tree, keys, count, hits);
    for (uint32_t i = 0; i < count; i++) {
        hits[i].found = hits[i].found && keys[i] % 1021 != 3;
    }
}

// Above the middle of a batch, the leaf of the key before.
static void locate_aside(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                         uint32_t *leaves)
{
    torc_tree_code_plain.locate(tree, keys, count, leaves);
    if (count > 14 && keys[14] % 64 == 1) {
        leaves[14] = leaves[13];
    }
}

// Runs worlds with a broken table until one is found broken; false when none is.
static bool fault_found(const struct torc_tree_code *code, uint32_t worlds)
{
    struct torc_rng rng = {torc_test_seed()};
    struct stage stage = {0};
    bool found = false;

    stage_open(&stage);
    for (uint32_t i = 0; i < worlds && !found; i++) {
        world_init(&the_world, &stage, torc_rng_next(&rng), code);
        world_run(&the_world, &stage);
        found = the_world.broken;
        if (!found) {
            world_close(&the_world, &stage);
        }
    }
    stage_close(&stage);
    return found;
}

static void test_finds_a_lookup_that_loses_a_key(void)
{
    struct torc_tree_code code = torc_tree_code_plain;

    code.lookup = lookup_losing;
    CU_ASSERT_TRUE(fault_found(&code, 20));
    CU_ASSERT_PTR_NOT_NULL(strstr(the_world.said, "not found"));
}

static void test_finds_a_descent_to_the_wrong_leaf(void)
{
    struct torc_tree_code code = torc_tree_code_plain;

    code.locate = locate_aside;
    CU_ASSERT_TRUE(fault_found(&code, 20));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a tree agrees with a sorted array", test_agrees_with_a_sorted_array},
        {"a lookup that loses a key is found", test_finds_a_lookup_that_loses_a_key},
        {"a descent to the wrong leaf is found", test_finds_a_descent_to_the_wrong_leaf},
        CU_TEST_INFO_NULL};

    return torc_test_run("tree", tests);
}
