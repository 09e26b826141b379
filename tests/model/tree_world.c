// Torc tests: the trees and the array of model_tree.c, and what is done to both. See tree_world.h.
#include "tests/model/tree_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void broken(struct world *world, const char *text, uint64_t key)
{
    if (!world->broken) {
        world->broken = true;
        (void)snprintf(world->said, sizeof(world->said), "%s, key %" PRIu64 ", operation %" PRIu64,
                       text, key, world->ops);
    }
}

static uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

static void reach(struct world *world, enum reach reach)
{
    world->stage->reached[reach]++;
}

// -- The oracle ----------------------------------------------------------------------------------

uint32_t entry_find(const struct world *world, uint64_t key)
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

struct entry *entry_at(struct world *world, uint64_t key)
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
        world->gone[world->gone_count++ % GONE_MAX] = key;
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

void value_compare(struct world *world, const struct entry *entry, const void *value,
                   uint64_t version, uint32_t bytes)
{
    uint8_t *expected = world->stage->expected;

    if (version != entry->version || bytes != entry->bytes) {
        broken(world, "another version or length", entry->key);
        return;
    }
    value_make(expected, *entry);
    if (bytes > 0 && memcmp(expected, value, bytes) != 0) {
        broken(world, "another value", entry->key);
    }
}

// -- Keys that are drawn -------------------------------------------------------------------------

static uint64_t draw_known(struct world *world)
{
    return world->count == 0 ? 0 : world->entries[below(world, world->count)].key;
}

// At a separator, or just before it: where a search must not go to the other side. Half of them are
// the first ones of their lines.
static uint64_t draw_separator(struct world *world)
{
    const struct torc_tree *tree = &world->stage->sides[0].tree;
    const struct torc_inner *inner;
    struct torc_tree_path path;
    uint32_t line;
    uint32_t index;

    if (tree->levels == 1) {
        return draw_known(world);
    }
    torc_tree_path_find(tree, draw_known(world), &path);
    inner = torc_tree_inner(tree, path.nodes[1 + below(world, tree->levels - 1)]);
    if (inner->count < 2) {
        return draw_known(world);
    }
    index = (uint32_t)below(world, inner->count - 1u);
    line = TORC_INNER_LINE_BYTES / inner->width;
    reach(world, REACH_KEY_AT_SEPARATOR);
    if (index >= line && below(world, 2) == 0) {
        index = index / line * line;
        reach(world, REACH_KEY_AT_SAMPLE);
    }
    return torc_inner_separator(inner, index) - below(world, 2);
}

uint64_t draw_key(struct world *world, uint32_t known_percent)
{
    uint64_t kind = below(world, 100);

    if (torc_rng_chance(&world->rng, world->face->stray_ppm)) {
        return torc_rng_next(&world->rng) >> below(world, 64);
    }
    if (kind < known_percent && world->count > 0) {
        return kind < known_percent / 8 ? draw_separator(world) : draw_known(world);
    }
    if (kind > 93 && known_percent > 10 && world->gone_count > 0) {
        uint32_t some = world->gone_count < GONE_MAX ? world->gone_count : GONE_MAX;

        return world->gone[below(world, some)];
    }
    return world->face->key(world);
}

// -- Writes --------------------------------------------------------------------------------------

static void op_promise(struct world *world)
{
    uint32_t bytes = world->face->bytes(world);
    uint32_t at = world->promise_count;
    enum torc_err err = TORC_ERR_OK;
    struct torc_fail why = {0};

    if (at == TICKETS_MAX) {
        return;
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct side *side = &world->stage->sides[i];
        enum torc_err its = torc_tree_reserve(&side->tree, bytes, &side->tickets[at], &why);

        if (i > 0 && its != err) {
            broken(world, "two variants promise differently", bytes);
        }
        err = its;
    }
    world->promised_bytes[at] = bytes;
    world->promise_count += err == TORC_ERR_OK;
    world->refused += err != TORC_ERR_OK;
    if (err != TORC_ERR_OK) {
        world->refusing = true;
        reach(world, strstr(why.text, "for large values") != NULL ? REACH_REFUSED_HEAP
                                                                  : REACH_REFUSED_NODES);
    }
}

static void op_cancel(struct world *world)
{
    if (world->promise_count == 0) {
        return;
    }
    world->promise_count--;
    world->refusing = false;
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct side *side = &world->stage->sides[i];

        torc_tree_cancel(&side->tree, &side->tickets[world->promise_count]);
    }
}

// One write of each side, with the oldest promise or without; the value is made where it is given.
static void write_draw(struct world *world, uint32_t index,
                       struct torc_tree_write writes[SIDES_MAX][BATCH_MAX])
{
    struct torc_tree_write write = {.key = draw_key(world, world->face->known_percent),
                                    .version = world->face->version(world),
                                    .value = world->stage->values[index]};
    bool promised = world->promise_count > 0 && below(world, 3) == 0;
    bool filled = below(world, 2) == 0; // the block, by its holder
    struct entry entry = {write.key, write.version, 0};

    write.remove = torc_rng_chance(&world->rng, world->delete_ppm);
    write.value_bytes = promised ? world->promised_bytes[0] : world->face->bytes(world);
    entry.bytes = write.value_bytes;
    value_make(world->stage->values[index], entry);
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct side *side = &world->stage->sides[i];

        writes[i][index] = write;
        if (!promised) {
            continue;
        }
        writes[i][index].ticket = side->tickets[0];
        memmove(&side->tickets[0], &side->tickets[1],
                (world->promise_count - 1u) * sizeof(side->tickets[0]));
        if (!write.remove && filled && writes[i][index].ticket.block != NULL) {
            value_make(writes[i][index].ticket.block, entry);
            writes[i][index].value = writes[i][index].ticket.block;
        }
    }
    if (promised) {
        world->promise_count--;
        memmove(&world->promised_bytes[0], &world->promised_bytes[1],
                world->promise_count * sizeof(world->promised_bytes[0]));
    }
}

static bool was_deleted(const struct world *world, uint64_t key)
{
    for (uint32_t i = 0; i < GONE_MAX && i < world->gone_count; i++) {
        if (world->gone[i] == key) {
            return true;
        }
    }
    return false;
}

static void reach_put(struct world *world, const struct torc_tree_write *write,
                      const struct entry *old, bool promised)
{
    bool large = write->value_bytes > TORC_TREE_INLINE_BYTES_MAX;
    bool was_large = old != NULL && old->bytes > TORC_TREE_INLINE_BYTES_MAX;

    world->stage->reached[REACH_TO_LARGE] += old != NULL && large && !was_large;
    world->stage->reached[REACH_FROM_LARGE] += was_large && !large;
    world->stage->reached[REACH_PROMISE_AT_LAST] += promised && world->refusing && old == NULL;
    world->stage->reached[REACH_REINSERTED] += old == NULL && was_deleted(world, write->key);
}

// What every tree said about one write, against the array, which then changes likewise.
static void write_compare(struct world *world, uint32_t index, bool promised,
                          struct torc_tree_write writes[SIDES_MAX][BATCH_MAX])
{
    const struct torc_tree_write *write = &writes[0][index];
    const struct entry *old = entry_at(world, write->key);

    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        const struct torc_tree_write *its = &writes[i][index];

        if (its->err != write->err) {
            broken(world, "two variants refuse differently", write->key);
        } else if (its->err == TORC_ERR_OK && (its->existed != (old != NULL) ||
                                               (old != NULL && its->old_version != old->version))) {
            broken(world, "a write says otherwise what was there", write->key);
        }
    }
    if (write->err != TORC_ERR_OK) {
        world->refused++;
        if (promised || write->remove || write->err != TORC_ERR_NO_SPACE) {
            broken(world, "a write failed that may not", write->key);
        }
        return;
    }
    if (write->remove) {
        world->refusing = false;
        entry_remove(world, write->key);
    } else {
        reach_put(world, write, old, promised);
        entry_put(world, (struct entry){write->key, write->version, write->value_bytes});
    }
}

static void op_write(struct world *world)
{
    static struct torc_tree_write writes[SIDES_MAX][BATCH_MAX];
    bool promised[BATCH_MAX];
    uint32_t count = below(world, world->batch_part) > 0
                         ? 1
                         : 1 + (uint32_t)below(world, 1 + below(world, BATCH_MAX));
    struct torc_tree *tree = &world->stage->sides[0].tree;
    struct reach_look look;

    for (uint32_t i = 0; i < count; i++) {
        write_draw(world, i, writes);
        promised[i] = writes[0][i].ticket.nodes > 0;
    }
    reach_look(&look, tree, writes[0][0].key);
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct torc_tree *its = &world->stage->sides[i].tree;
        uint32_t failed = 0;
        uint32_t refused = count > 1 ? torc_tree_write_batch(its, writes[i], count)
                           : torc_tree_write(its, writes[i], NULL) == TORC_ERR_OK ? 0
                                                                                  : 1;

        for (uint32_t j = 0; j < count; j++) {
            failed += writes[i][j].err != TORC_ERR_OK;
        }
        if (failed != refused) {
            broken(world, "the count of refused writes is wrong", 0);
        }
    }
    if (count == 1 && writes[0][0].err == TORC_ERR_OK) {
        reach_write(world->stage->reached, &look, &writes[0][0], tree);
    }
    for (uint32_t i = 0; i < count; i++) {
        write_compare(world, i, promised[i], writes);
    }
    world->ops += count;
}

// Records behind the last one. How many were drawn.
static uint32_t append_draw(struct world *world, struct torc_tree_pair pairs[BATCH_MAX])
{
    uint64_t key = world->count == 0 ? 0 : world->entries[world->count - 1].key;
    uint64_t step = UINT64_C(1) << below(world, 40);
    uint32_t count = 0;

    while (world->count < world->records_max && count < BATCH_MAX && key < UINT64_MAX - 2 * step) {
        struct entry entry;

        key += 1 + below(world, step);
        entry = (struct entry){key, world->face->version(world), world->face->bytes(world)};
        value_make(world->stage->values[count], entry);
        pairs[count] =
            (struct torc_tree_pair){key, entry.version, world->stage->values[count], entry.bytes};
        count++;
    }
    return count;
}

static void op_append(struct world *world)
{
    struct torc_tree_pair pairs[BATCH_MAX] = {0};
    uint32_t count = append_draw(world, pairs);
    uint32_t appended = 0;

    for (uint32_t i = 0; i < world->stage->side_count && count > 0; i++) {
        uint32_t its = 0;
        enum torc_err err =
            torc_tree_append(&world->stage->sides[i].tree, pairs, count, &its, NULL);

        if (err == TORC_ERR_OK ? its != count : its >= count) {
            broken(world, "an append says otherwise how much went in", pairs[0].key);
        }
        if (i > 0 && its != appended) {
            broken(world, "two variants append differently", pairs[0].key);
        }
        appended = its;
    }
    world->refused += appended < count;
    world->stage->reached[REACH_APPENDED] += appended > 0 && world->count > 0;
    for (uint32_t i = 0; i < appended; i++) {
        entry_put(world, (struct entry){pairs[i].key, pairs[i].version, pairs[i].value_bytes});
    }
    world->ops += count;
}

// -- Tidying -------------------------------------------------------------------------------------

// Puts some leaves in order: nothing that a caller sees may change. A pass begins now and then
// though little has changed.
static void op_order(struct world *world)
{
    bool anew = below(world, 4) == 0;
    uint32_t leaves = 1 + (uint32_t)below(world, 100);
    uint64_t stamp = world->stage->sides[0].tree.shape_stamp;
    bool more = false;

    if (world->stage->faulty) {
        return;
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct torc_tree *tree = &world->stage->sides[i].tree;
        bool its;

        tree->order.shape_stamp = anew ? 0 : tree->order.shape_stamp;
        its = torc_tree_order(tree, leaves);
        if (i > 0 && its != more) {
            broken(world, "two variants order differently", leaves);
        }
        more = its;
    }
    world->stage->reached[REACH_ORDERED] += world->stage->sides[0].tree.shape_stamp != stamp;
    world->ops++;
}

// Gives memory back, at times all that may be: nothing that a caller sees may change, and then no
// more is free than may be. Now and then a pass through the leaves begins for few deletes, and the
// root's chunk is left for no reason, so that inner nodes move too.
static bool side_compact(struct world *world, struct torc_tree *tree, uint64_t calls,
                         uint32_t steps, bool leave)
{
    bool more = true;

    if (leave && torc_chunk_set_grow(&tree->chunks)) {
        tree->chunks.leaving = tree->root / TORC_CHUNK_NODES;
        tree->compact.slot = 1;
    }
    for (; more && calls > 0; calls--) {
        more = torc_tree_compact(tree, steps);
    }
    if (!more && torc_tree_spare(tree) > torc_tree_spare_max(tree)) {
        broken(world, "more nodes are free than may be", 0);
    }
    return more;
}

static void op_compact(struct world *world)
{
    uint64_t calls = below(world, 5) == 0 ? UINT32_MAX : below(world, 4);
    uint32_t steps = 1 + (uint32_t)below(world, 60);
    bool pass = below(world, 4) == 0;
    bool leave = below(world, 4) == 0;
    const struct torc_tree *tree = &world->stage->sides[0].tree;
    uint64_t moved = tree->compact.moved_nodes;
    uint32_t leaves = tree->leaf_count;
    bool more = false;

    if (world->stage->faulty) {
        return;
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct torc_tree *its = &world->stage->sides[i].tree;
        bool its_more;

        its->removed_count += pass ? its->record_count : 0;
        its_more = side_compact(world, its, calls, steps, leave);
        if (i > 0 && its_more != more) {
            broken(world, "two variants compact differently", steps);
        }
        more = its_more;
    }
    world->refusing = false;
    world->stage->reached[REACH_COMPACTED] += tree->compact.moved_nodes > moved;
    world->stage->reached[REACH_PACKED] += tree->leaf_count < leaves;
    world->ops++;
    world->check_at = below(world, 8) == 0 ? world->ops : world->check_at;
}

// A whole sweep must see all leaves.
static void sweep_whole(struct world *world, struct side *side, uint32_t leaves, uint64_t budget)
{
    struct torc_tree_sweep whole = {0};
    struct torc_tree_memory memory;

    while (torc_tree_sweep(&side->tree, &whole, leaves, budget)) {
    }
    torc_tree_memory(&side->tree, &memory);
    if (world->count > 0 &&
        (whole.leaf_count != side->tree.leaf_count || whole.used_bytes != memory.leaf_used_bytes)) {
        broken(world, "a sweep sees other leaves than there are", 0);
    }
}

static void op_sweep(struct world *world)
{
    static const uint32_t budgets[] = {0, 1, 3000, 1 << 20};
    uint32_t leaves = 1 + (uint32_t)below(world, 30);
    uint64_t budget = budgets[below(world, TORC_COUNT_OF(budgets))];
    uint64_t moved = world->stage->sides[0].heap.moved_count;
    bool whole = below(world, 400) == 0;

    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct side *side = &world->stage->sides[i];

        if (!torc_tree_sweep(&side->tree, &side->sweep, leaves, budget)) {
            side->sweep = (struct torc_tree_sweep){0};
        }
        if (whole) {
            sweep_whole(world, side, leaves, budget);
        }
        if (side->sweep.next != world->stage->sides[0].sweep.next ||
            side->sweep.moved_bytes != world->stage->sides[0].sweep.moved_bytes) {
            broken(world, "two variants sweep differently", 0);
        }
    }
    world->stage->reached[REACH_SWEPT] += world->stage->sides[0].heap.moved_count > moved;
    world->ops++;
}

// -- Everything ----------------------------------------------------------------------------------

static void side_check(struct world *world, const struct side *side)
{
    struct torc_fail why = {0};
    struct torc_tree_memory memory;
    uint64_t bytes = 0;

    if (torc_tree_check(&side->tree, &why) != TORC_ERR_OK) {
        broken(world, why.text, 0);
        return;
    }
    for (uint32_t i = 0; i < world->count; i++) {
        bytes += world->entries[i].bytes;
    }
    torc_tree_memory(&side->tree, &memory);
    if (side->tree.record_count != world->count || side->tree.value_bytes != bytes) {
        broken(world, "the tree counts its records wrongly", 0);
    }
    if (memory.chunk_bytes !=
            memory.leaf_bytes + memory.inner_bytes + memory.free_bytes + memory.header_bytes ||
        memory.leaf_used_bytes > memory.leaf_bytes || memory.promised_bytes > memory.free_bytes) {
        broken(world, "the tree's memory does not add up", 0);
    }
    if (side->heap.used_bytes > side->heap.limit_bytes) {
        broken(world, "the heap is over its limit", 0);
    }
}

void world_check(struct world *world)
{
    const struct side *sides = world->stage->sides;

    for (uint32_t i = 0; i < world->stage->side_count && !world->broken; i++) {
        const char *wrong;

        side_check(world, &sides[i]);
        wrong = i > 0 && !world->broken ? sides_differ(&sides[0], &sides[i]) : NULL;
        if (wrong != NULL) {
            broken(world, wrong, i);
        }
    }
    if (!world->broken && below(world, 20) == 0 && torc_heap_check(&sides[0].heap) != NULL) {
        broken(world, torc_heap_check(&sides[0].heap), 0);
    }
    if (!world->broken) {
        uint32_t chunks = sides[0].tree.chunks.chunk_count;

        world->stage->reached[REACH_CHUNK_TAKEN] += chunks > world->chunk_count;
        world->stage->reached[REACH_CHUNK_GIVEN] += chunks < world->chunk_count;
        world->chunk_count = chunks;
        reach_walk(world->stage->reached, &sides[0].tree);
    }
}

// -- Worlds --------------------------------------------------------------------------------------

// The tree grows and shrinks in turn: soon when it has as many records as it may.
static void delete_rate(struct world *world)
{
    static const uint32_t rates[] = {50000, 200000, 500000, 950000, 1000000};

    if (world->count >= world->records_max) {
        world->delete_ppm = 950000;
    } else if (world->count <= world->records_low) {
        world->delete_ppm = 50000;
    } else if (!world->face->filled && below(world, 800) == 0) {
        world->delete_ppm = rates[below(world, TORC_COUNT_OF(rates))];
    }
}

static enum tree_op op_draw(struct world *world)
{
    uint32_t sum = 0;
    uint32_t at;

    for (uint32_t op = 0; op < OP_KINDS; op++) {
        sum += world->face->weights[op];
    }
    at = (uint32_t)below(world, sum);
    for (uint32_t op = 0; op < OP_KINDS; op++) {
        if (at < world->face->weights[op]) {
            return (enum tree_op)op;
        }
        at -= world->face->weights[op];
    }
    torc_unreachable("within the sum");
}

static void world_step(struct world *world)
{
    delete_rate(world);
    switch (op_draw(world)) {
    case OP_WRITE: op_write(world); break;
    case OP_LOOKUP: op_lookup(world); break;
    case OP_SCAN: op_scan(world); break;
    case OP_PROMISE: op_promise(world); break;
    case OP_CANCEL: op_cancel(world); break;
    case OP_COUNT: op_count(world); break;
    case OP_APPEND: op_append(world); break;
    case OP_ORDER: op_order(world); break;
    case OP_SWEEP: op_sweep(world); break;
    case OP_COMPACT: op_compact(world); break;
    case OP_KINDS: break;
    }
    if (!world->broken && world->ops >= world->check_at) {
        world_check(world);
        world->check_at = world->ops + world->face->check_every;
    }
}

void world_init(struct world *world, struct stage *stage, const struct face *face, uint64_t seed)
{
    uint32_t chunks = CHUNKS;
    uint64_t guide_leaves;
    uint64_t heap_bytes = UINT64_C(256) << 20;

    memset(world, 0, offsetof(struct world, entries));
    world->rng.state = seed;
    world->face = face;
    world->stage = stage;
    world->roomy = face->chunks_max == 0;
    world->delete_ppm = 50000;
    world->ops_wanted = face->world_ops > 0 ? face->world_ops : UINT64_C(1000) << below(world, 5);
    face_begin(world);
    if (!world->roomy) {
        chunks = 1 + (uint32_t)below(world, face->chunks_max);
        heap_bytes = below(world, 1 << 20);
    }
    guide_leaves = below(world, 2) == 0 ? 2 : TORC_GUIDE_LEAVES_MIN;
    for (uint32_t i = 0; i < stage->side_count; i++) {
        struct side *side = &stage->sides[i];

        side->heap.limit_bytes = heap_bytes;
        side->sweep = (struct torc_tree_sweep){0};
        torc_chunk_pool_init(&side->pool, side->mapping.base, 0, chunks);
        if (torc_tree_init(&side->tree, side->code, &side->pool, &side->heap, NULL) !=
            TORC_ERR_OK) {
            broken(world, "a pool with a free chunk made no tree", 0);
        }
        side->tree.guide.due = guide_leaves; // small trees have a guide too, or none has
    }
}

void world_run(struct world *world)
{
    while (world->face->filled && !world->broken && world->count < world->records_max) {
        uint32_t before = world->count;

        op_append(world);
        if (world->count == before) {
            break;
        }
    }
    while (!world->broken && world->ops < world->ops_wanted) {
        world_step(world);
    }
    if (!world->broken) {
        world_check(world);
    }
}

void world_close(struct world *world)
{
    while (world->promise_count > 0) {
        op_cancel(world);
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct side *side = &world->stage->sides[i];

        torc_tree_drop(&side->tree);
        if (torc_chunk_pool_free(&side->pool) != side->pool.chunk_count) {
            broken(world, "chunks were lost", 0);
        }
        if (side->heap.block_count != 0 || side->heap.used_bytes != 0) {
            broken(world, "large values were lost", 0);
        }
    }
    if (world->roomy && world->refused > 0) {
        broken(world, "memory was refused although there was enough", 0);
    }
}

// -- The stage -----------------------------------------------------------------------------------

void stage_open(struct stage *stage, const struct torc_tree_code *code)
{
    static const char *const names[] = {"plain", "avx2", "avx512"};
    struct torc_fail why;

    *stage = (struct stage){.faulty = code != NULL, .expected = malloc(VALUE_BYTES_MAX)};
    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        const struct torc_tree_code *its = code == NULL ? torc_tree_code_named(names[i]) : code;
        struct side *side = &stage->sides[stage->side_count];

        if (its == NULL || (code != NULL && i > 0)) {
            continue;
        }
        side->code = its;
        TORC_TEST_OK(torc_mapping_open(&side->mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, &why),
                     &why);
        TORC_TEST_OK(torc_heap_open(&side->heap, UINT64_C(1) << 30, &why), &why);
        stage->side_count++;
    }
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        stage->values[i] = malloc(VALUE_BYTES_MAX);
    }
}

void stage_close(struct stage *stage)
{
    for (uint32_t i = 0; i < stage->side_count; i++) {
        torc_heap_close(&stage->sides[i].heap);
        torc_mapping_close(&stage->sides[i].mapping);
    }
    free(stage->expected);
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        free(stage->values[i]);
    }
}
