// Torc tests: what the worlds of model_tree.c are like. See tree_world.h.
//
// A face that is to meet an edge says so in `reaches`, and the model fails if it did not: the edges
// move when the layout changes, and a face would go on beside them in silence.
#include "tests/model/tree_world.h"

#include <string.h>

static uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

static uint64_t ones(uint32_t bits)
{
    return bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

// -- Keys ----------------------------------------------------------------------------------------

static uint64_t key_rising(struct world *world)
{
    return world->key_at += 1 + below(world, world->key_step);
}

static uint64_t key_falling(struct world *world)
{
    return world->key_at -= 1 + below(world, world->key_step);
}

// Both ends grow away from each other: in turn, or in rows of some dozens.
static uint64_t key_zigzag(struct world *world)
{
    uint32_t row = world->fixed_bytes + 1;

    if (world->phase++ / row % 2 == 0) {
        return world->key_at += 1 + below(world, world->key_step);
    }
    return world->key_low -= 1 + below(world, world->key_step);
}

static uint64_t key_clustered(struct world *world)
{
    if (below(world, 50) == 0) {
        world->key_at = torc_rng_next(&world->rng);
    }
    return world->key_at + below(world, 300);
}

static uint64_t key_random(struct world *world)
{
    return torc_rng_next(&world->rng) >> world->border % 3;
}

static uint64_t key_random_32(struct world *world)
{
    return below(world, UINT64_C(1) << 32);
}

static uint64_t key_dense(struct world *world)
{
    return below(world, world->records_max + UINT64_C(1000));
}

static uint64_t key_ends(struct world *world)
{
    uint64_t flip = below(world, 2) == 0 ? UINT64_MAX : 0;

    if (below(world, 8) == 0) {
        return flip;
    }
    return flip ^ (torc_rng_next(&world->rng) >> (20 + below(world, 44)));
}

// Widths that keys' deltas are written with, and one more at each end.
static const uint8_t borders[CLUSTERS_MAX] = {8, 16, 24, 32, 40, 48, 56, 63};

// In clusters, each as wide as one width can express: at its borders, one beyond, and between.
static uint64_t key_span(struct world *world)
{
    uint32_t cluster = (uint32_t)below(world, world->cluster_count);
    uint64_t base = world->clusters[cluster];
    uint64_t last = ones(borders[(cluster + world->border) % CLUSTERS_MAX]);

    switch (below(world, 8)) {
    case 0: return base;
    case 1: return base + last;
    case 2: return base + last + 1;
    case 3: return base + below(world, 2);
    case 4: return base + last - below(world, 2);
    default: return base + (torc_rng_next(&world->rng) & last);
    }
}

static uint64_t key_mixed(struct world *world)
{
    return world->mixed_key(world);
}

// -- Versions ------------------------------------------------------------------------------------

static uint64_t version_clock(struct world *world)
{
    return world->version += below(world, 3);
}

static uint64_t version_steps(struct world *world)
{
    return world->version += below(world, 1 << 20);
}

static uint64_t version_any(struct world *world)
{
    return torc_rng_next(&world->rng) >> below(world, 64);
}

static uint64_t version_same(struct world *world)
{
    return world->version_base;
}

static uint64_t version_falling(struct world *world)
{
    return world->version -= below(world, 3);
}

// Mostly within one width of a base, often at its border; seldom beyond, below, far off.
static uint64_t version_border(struct world *world)
{
    uint64_t last = ones(world->version_bits);
    uint64_t kind = below(world, 1000);

    switch (kind) {
    case 0: return world->version_base + last + 1;
    case 1: return world->version_base - 1;
    case 2: return world->version_base - last - 1;
    case 3: return 0;
    case 4: return UINT64_MAX;
    case 5:
    case 6: // of another width from here on
        world->version_bits = 8 * (uint32_t)below(world, 9);
        return world->version_base;
    default: break;
    }
    return world->version_base + (kind < 50   ? 0
                                  : kind < 90 ? last
                                              : torc_rng_next(&world->rng) & last);
}

// The same for long; then one so far off that it fits no leaf together with the others, and its
// value has a length of its own: see bytes_sudden.
static uint64_t version_sudden(struct world *world)
{
    world->phase = below(world, 100) == 0;
    return world->phase == 1 ? torc_rng_next(&world->rng) : world->version_base;
}

static uint64_t version_mixed(struct world *world)
{
    return world->mixed_version(world);
}

// -- Lengths of values ---------------------------------------------------------------------------

static uint32_t bytes_fixed(struct world *world)
{
    return world->fixed_bytes;
}

// Of one length, and so few to a leaf that there are many leaves.
static uint32_t bytes_wide(struct world *world)
{
    return (TORC_TREE_INLINE_BYTES_MAX + world->fixed_bytes) / 2;
}

static uint32_t bytes_short(struct world *world)
{
    return (uint32_t)below(world, 25);
}

static uint32_t bytes_beside_large(struct world *world)
{
    return TORC_TREE_INLINE_BYTES_MAX - 4 + (uint32_t)below(world, 9);
}

static uint32_t bytes_large(struct world *world)
{
    if (below(world, 4) == 0) {
        return TORC_TREE_INLINE_BYTES_MAX + 1;
    }
    return TORC_TREE_INLINE_BYTES_MAX + 1 + (uint32_t)below(world, 3000);
}

static uint32_t bytes_any(struct world *world)
{
    if (below(world, 4000) == 0) {
        return (uint32_t)below(world, VALUE_BYTES_MAX + 1);
    }
    return (uint32_t)(below(world, 300) >> below(world, 6));
}

// All of one length for a while, then some of others among them, then all of another length.
static uint32_t bytes_switching(struct world *world)
{
    static const uint32_t lengths[] = {0, 1, 8, 16, 100, TORC_TREE_INLINE_BYTES_MAX};

    if (world->phase++ % 400 == 399) {
        world->fixed_bytes = lengths[below(world, TORC_COUNT_OF(lengths))];
    }
    if (world->phase / 200 % 2 == 1 && below(world, 12) == 0) {
        return (uint32_t)below(world, UINT64_C(2) * TORC_TREE_INLINE_BYTES_MAX);
    }
    return world->fixed_bytes;
}

static uint32_t bytes_sudden(struct world *world)
{
    return world->phase == 1 ? (uint32_t)below(world, 30) : 3;
}

static uint32_t bytes_longest(struct world *world)
{
    (void)world;
    return TORC_TREE_INLINE_BYTES_MAX;
}

static uint32_t bytes_mixed(struct world *world)
{
    return world->mixed_bytes(world);
}

// -- Faces ---------------------------------------------------------------------------------------

// A step of lookups is forty of them in the mean; of writes, one to twenty by the world.
static const uint16_t usual[OP_KINDS] = {
    [OP_WRITE] = 500, [OP_LOOKUP] = 30, [OP_SCAN] = 100, [OP_PROMISE] = 30, [OP_CANCEL] = 10,
    [OP_COUNT] = 10,  [OP_APPEND] = 3,  [OP_ORDER] = 5,  [OP_SWEEP] = 5,    [OP_COMPACT] = 5};
static const uint16_t writing[OP_KINDS] = {
    [OP_WRITE] = 800, [OP_LOOKUP] = 12, [OP_SCAN] = 20, [OP_PROMISE] = 20,
    [OP_CANCEL] = 5,  [OP_COUNT] = 5,   [OP_ORDER] = 2, [OP_COMPACT] = 2};
static const uint16_t promising[OP_KINDS] = {
    [OP_WRITE] = 300, [OP_LOOKUP] = 8,  [OP_SCAN] = 10, [OP_PROMISE] = 2000, [OP_CANCEL] = 30,
    [OP_COUNT] = 2,   [OP_APPEND] = 10, [OP_ORDER] = 5, [OP_SWEEP] = 5,      [OP_COMPACT] = 3};
static const uint16_t appending[OP_KINDS] = {
    [OP_WRITE] = 200, [OP_LOOKUP] = 20, [OP_SCAN] = 40, [OP_PROMISE] = 10, [OP_CANCEL] = 5,
    [OP_COUNT] = 5,   [OP_APPEND] = 60, [OP_ORDER] = 5, [OP_SWEEP] = 2,    [OP_COMPACT] = 3};
static const uint16_t tidying[OP_KINDS] = {
    [OP_WRITE] = 300, [OP_LOOKUP] = 15, [OP_SCAN] = 150,  [OP_COUNT] = 10,
    [OP_APPEND] = 2,  [OP_ORDER] = 150, [OP_SWEEP] = 150, [OP_COMPACT] = 60};

#define REACHES(...)             \
    (const uint8_t[])            \
    {                            \
        __VA_ARGS__, REACH_KINDS \
    }

const struct face faces[] = {
    {.name = "mixed",
     .key = key_mixed,
     .version = version_mixed,
     .bytes = bytes_mixed,
     .records_max = 6000,
     .records_min = 4,
     .known_percent = 45,
     .check_every = 400,
     .weights = usual,
     .stray_ppm = 10000,
     .reaches = REACHES(REACH_KEY_AT_SEPARATOR, REACH_KEY_AT_SAMPLE, REACH_SCAN_OVER_CHANGE,
                        REACH_REINSERTED, REACH_ORDER_MIXED, REACH_CELLS_MIXED)},
    {.name = "spans",
     .key = key_span,
     .version = version_clock,
     .bytes = bytes_fixed,
     .records_max = 300,
     .records_min = 4,
     .known_percent = 20,
     .check_every = 15,
     .weights = writing,
     .world_ops = 600,
     .reaches = REACHES(
         REACH_SPAN_16_LAST, REACH_SPAN_16_NEXT, REACH_SPAN_24_LAST, REACH_SPAN_24_NEXT,
         REACH_SPAN_32_LAST, REACH_SPAN_32_NEXT, REACH_SPAN_40_LAST, REACH_SPAN_40_NEXT,
         REACH_SPAN_48_LAST, REACH_SPAN_48_NEXT, REACH_SPAN_56_LAST, REACH_SPAN_56_NEXT,
         REACH_SPAN_63_LAST, REACH_SPAN_63_NEXT, REACH_REST_0, REACH_REST_1, REACH_REST_2,
         REACH_REST_3, REACH_REST_4, REACH_REST_5, REACH_REST_6, REACH_REST_WIDER,
         REACH_REST_NARROWER, REACH_KEY_BELOW_BASE, REACH_KEY_ABOVE_HINTS, REACH_HINTS_ENDS)},
    {.name = "versions",
     .key = key_mixed,
     .version = version_border,
     .bytes = bytes_fixed,
     .records_max = 2000,
     .records_min = 4,
     .known_percent = 60,
     .check_every = 200,
     .weights = writing,
     .reaches = REACHES(
         REACH_VERSION_0, REACH_VERSION_1, REACH_VERSION_2, REACH_VERSION_3, REACH_VERSION_4,
         REACH_VERSION_5, REACH_VERSION_6, REACH_VERSION_7, REACH_VERSION_8, REACH_VERSION_FULL_1,
         REACH_VERSION_FULL_2, REACH_VERSION_FULL_3, REACH_VERSION_FULL_4, REACH_VERSION_FULL_5,
         REACH_VERSION_FULL_6, REACH_VERSION_FULL_7, REACH_VERSION_FULL_8, REACH_VERSION_BELOW_BASE,
         REACH_VERSION_ABOVE_MASK, REACH_VERSION_NARROWER)},
    {.name = "versions-fall",
     .key = key_mixed,
     .version = version_falling,
     .bytes = bytes_fixed,
     .records_max = 3000,
     .records_min = 4,
     .known_percent = 40,
     .check_every = 300,
     .weights = writing,
     .reaches = REACHES(REACH_VERSION_BELOW_BASE)},
    {.name = "sudden",
     .key = key_random_32,
     .version = version_sudden,
     .bytes = bytes_sudden,
     .records_max = 4000,
     .records_min = 2000,
     .known_percent = 30,
     .check_every = 300,
     .weights = writing,
     .world_ops = 12000,
     .batch_part = 100,
     .reaches = REACHES(REACH_LEAF_CUT_3, REACH_TO_CELLS)},
    {.name = "large",
     .key = key_mixed,
     .version = version_clock,
     .bytes = bytes_large,
     .records_max = 2000,
     .records_min = 4,
     .known_percent = 40,
     .check_every = 400,
     .weights = usual,
     .reaches = REACHES(REACH_CELLS_LARGE_ALL, REACH_SWEPT, REACH_CELLS_DEAD)},
    {.name = "beside-large",
     .key = key_mixed,
     .version = version_clock,
     .bytes = bytes_beside_large,
     .records_max = 2000,
     .records_min = 4,
     .known_percent = 50,
     .check_every = 400,
     .weights = usual,
     .reaches = REACHES(REACH_TO_LARGE, REACH_FROM_LARGE, REACH_CELLS_MIXED)},
    {.name = "switching",
     .key = key_mixed,
     .version = version_clock,
     .bytes = bytes_switching,
     .records_max = 2000,
     .records_min = 4,
     .known_percent = 60,
     .check_every = 300,
     .weights = writing,
     .reaches = REACHES(REACH_TO_CELLS, REACH_TO_SLOTS, REACH_SLOTS, REACH_SLOTS_EMPTY,
                        REACH_SLOTS_LONGEST, REACH_CELLS)},
    {.name = "ends",
     .key = key_ends,
     .version = version_any,
     .bytes = bytes_short,
     .records_max = 3000,
     .records_min = 2,
     .known_percent = 20,
     .check_every = 300,
     .weights = usual,
     .reaches = REACHES(REACH_KEY_FIRST, REACH_KEY_LAST, REACH_SPAN_64_LAST, REACH_INNER_8)},
    {.name = "rising",
     .key = key_rising,
     .version = version_clock,
     .bytes = bytes_wide,
     .records_max = 8000,
     .records_min = 5000,
     .known_percent = 5,
     .check_every = 500,
     .weights = writing,
     .world_ops = 20000,
     .reaches = REACHES(REACH_RUN_UP, REACH_INNER_2_FULL)},
    {.name = "falling",
     .key = key_falling,
     .version = version_clock,
     .bytes = bytes_fixed,
     .records_max = 6000,
     .records_min = 100,
     .known_percent = 5,
     .check_every = 500,
     .weights = usual,
     .reaches = REACHES(REACH_RUN_DOWN, REACH_LEAF_FULLEST)},
    {.name = "zigzag",
     .key = key_zigzag,
     .version = version_steps,
     .bytes = bytes_fixed,
     .records_max = 6000,
     .records_min = 100,
     .known_percent = 5,
     .check_every = 500,
     .weights = usual,
     .reaches = REACHES(REACH_RUN_UP, REACH_RUN_DOWN)},
    {.name = "clustered",
     .key = key_clustered,
     .version = version_clock,
     .bytes = bytes_fixed,
     .records_max = 6000,
     .records_min = 100,
     .known_percent = 30,
     .check_every = 500,
     .weights = usual,
     .stray_ppm = 5000,
     .reaches = REACHES(REACH_INNER_2, REACH_INNER_8, REACH_INNER_WIDER, REACH_LEAF_CUT)},
    {.name = "random",
     .key = key_random,
     .version = version_steps,
     .bytes = bytes_fixed,
     .records_max = 6000,
     .records_min = 100,
     .known_percent = 30,
     .check_every = 500,
     .weights = usual,
     .reaches = REACHES(REACH_LEAF_SHARED, REACH_LEAF_CUT, REACH_INNER_SHIFT, REACH_HINTS_EQUAL)},
    {.name = "shrinking",
     .key = key_mixed,
     .version = version_clock,
     .bytes = bytes_longest,
     .records_max = 5000,
     .records_min = 4000,
     .known_percent = 85,
     .check_every = 800,
     .weights = writing,
     .world_ops = 18000,
     .filled = true,
     .reaches = REACHES(REACH_LEAF_JOINED, REACH_INNER_JOINED, REACH_ROOT_SHRANK, REACH_CHUNK_GIVEN,
                        REACH_REINSERTED, REACH_LEVELS_3, REACH_LEAF_ONE)},
    {.name = "full",
     .key = key_mixed,
     .version = version_clock,
     .bytes = bytes_mixed,
     .records_max = 6000,
     .records_min = 1000,
     .known_percent = 20,
     .check_every = 300,
     .weights = promising,
     .stray_ppm = 5000,
     .chunks_max = 3,
     .world_ops = 8000,
     .reaches = REACHES(REACH_REFUSED_NODES, REACH_REFUSED_HEAP, REACH_PROMISE_AT_LAST,
                        REACH_CHUNK_TAKEN)},
    {.name = "appended",
     .key = key_mixed,
     .version = version_steps,
     .bytes = bytes_mixed,
     .records_max = 6000,
     .records_min = 100,
     .known_percent = 40,
     .check_every = 500,
     .weights = appending,
     .reaches = REACHES(REACH_APPENDED)},
    {.name = "tidied",
     .key = key_random_32,
     .version = version_clock,
     .bytes = bytes_large,
     .records_max = 4000,
     .records_min = 1000,
     .known_percent = 40,
     .check_every = 400,
     .weights = tidying,
     .world_ops = 16000,
     .reaches = REACHES(REACH_SWEPT, REACH_ORDERED, REACH_COMPACTED, REACH_PACKED,
                        REACH_SCAN_OVER_CHANGE)},
    {.name = "deep",
     .key = key_clustered,
     .version = version_clock,
     .bytes = bytes_longest,
     .records_max = RECORDS_MAX,
     .records_min = RECORDS_MAX,
     .known_percent = 20,
     .check_every = 12000,
     .weights = usual,
     .world_ops = 180000,
     .filled = true,
     .reaches = REACHES(REACH_LEVELS_4, REACH_INNER_8_FULL)},
};

const uint32_t face_count = TORC_COUNT_OF(faces);

const struct face *face_named(const char *name)
{
    for (uint32_t i = 0; i < face_count; i++) {
        if (strcmp(faces[i].name, name) == 0) {
            return &faces[i];
        }
    }
    return NULL;
}

static void draw_functions(struct world *world)
{
    static uint64_t (*const keys[])(struct world *) = {key_rising,    key_falling,   key_zigzag,
                                                       key_clustered, key_random,    key_ends,
                                                       key_dense,     key_random_32, key_span};
    static uint64_t (*const versions[])(struct world *) = {
        version_clock, version_steps, version_any, version_same, version_falling, version_border};
    static uint32_t (*const lengths[])(struct world *) = {
        bytes_fixed, bytes_short, bytes_beside_large, bytes_large, bytes_any, bytes_switching};

    world->mixed_key = keys[below(world, TORC_COUNT_OF(keys))];
    world->mixed_version = versions[below(world, TORC_COUNT_OF(versions))];
    world->mixed_bytes = lengths[below(world, TORC_COUNT_OF(lengths))];
}

void face_begin(struct world *world)
{
    static const uint32_t parts[] = {2, 16, 40, 40};
    static const uint64_t bases[] = {0, 1, UINT64_C(1) << 63, UINT64_MAX};
    static const uint32_t lengths[] = {0, 0, 1, 8, 8, 16, 32, 48, 100, TORC_TREE_INLINE_BYTES_MAX};
    const struct face *face = world->face;
    uint32_t most = face->records_max >> below(world, 8);

    world->records_max = most < face->records_min ? face->records_min : most;
    world->records_low = world->records_max >> ((face->filled ? 9 : 5) + below(world, 8));
    world->key_at = torc_rng_next(&world->rng) >> below(world, 40);
    world->key_low = world->key_at;
    world->key_step = UINT64_C(1) << below(world, 3) * below(world, 15);
    world->version = torc_rng_next(&world->rng) >> 8;
    world->version_base = below(world, 2) == 0 ? bases[below(world, TORC_COUNT_OF(bases))]
                                               : torc_rng_next(&world->rng) >> below(world, 64);
    world->version_bits = 8 * (uint32_t)below(world, 9);
    world->border = (uint32_t)below(world, CLUSTERS_MAX);
    world->cluster_count = 1 + (uint32_t)below(world, 1 + below(world, CLUSTERS_MAX));
    for (uint32_t i = 0; i < CLUSTERS_MAX; i++) {
        world->clusters[i] = torc_rng_next(&world->rng) >> 1; // none ends beyond 2^64
    }
    world->fixed_bytes = lengths[below(world, TORC_COUNT_OF(lengths))];
    world->batch_part =
        face->batch_part > 0 ? face->batch_part : parts[below(world, TORC_COUNT_OF(parts))];
    draw_functions(world);
}
