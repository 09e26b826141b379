// Torc storage: the heap of one core. See storage/memory.h.
#include "storage/memory.h"

#include <string.h>

#define UNIT_NONE UINT32_MAX
// Bins of free runs: one a length below BIN_EXACT, then 16 to each doubling.
#define BIN_EXACT 32u
// Runs of a bin looked at before a larger bin's is cut: they may be too short by up to 1/16.
#define BIN_TRIES 4u
// A slab's unused end is at most 1/32 of it if SLAB_UNITS_MAX units allow that.
#define SLAB_END_SHARE  32u
#define SLAB_UNITS_MAX  16u
#define SLAB_BLOCKS_MAX 32u // bits of a mask

_Static_assert(TORC_HEAP_CLASS_BYTES_MAX == TORC_HEAP_BLOCK_BYTES_MIN << (TORC_HEAP_CLASSES / 16),
               "16 classes to each doubling");

enum unit_kind {
    UNIT_UNUSED,    // never looked at
    UNIT_FREE,      // first of a free run
    UNIT_FREE_LAST, // last of a free run of two or more
    UNIT_RUN,       // first of one value's run
    UNIT_SLAB,      // first of a slab
    UNIT_INSIDE,    // last of a run, or any other of a slab
};

// -- Use after free, told by the address sanitizer -----------------------------------------------

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEAP_POISONS
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define HEAP_POISONS
#endif

#ifdef HEAP_POISONS
// NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the sanitizer's names
void __asan_poison_memory_region(const void *bytes, size_t count);
// NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
void __asan_unpoison_memory_region(const void *bytes, size_t count);

static void poison(const void *bytes, uint64_t count)
{
    __asan_poison_memory_region(bytes, count);
}

static void unpoison(const void *bytes, uint64_t count)
{
    __asan_unpoison_memory_region(bytes, count);
}
#else
static void poison(const void *bytes, uint64_t count)
{
    (void)bytes;
    (void)count;
}

static void unpoison(const void *bytes, uint64_t count)
{
    (void)bytes;
    (void)count;
}
#endif

// -- Classes -------------------------------------------------------------------------------------

// The class of a block of `bytes`, 1..TORC_HEAP_CLASS_BYTES_MAX. Class 0 has 128 bytes, class
// 16 d + j has 2^(7+d) x (1 + j/16), j = 1..16.
static uint32_t class_of(uint32_t bytes)
{
    uint32_t below = bytes - 1;
    uint32_t log;

    if (bytes <= TORC_HEAP_BLOCK_BYTES_MIN) {
        return 0;
    }
    log = 31u - (uint32_t)__builtin_clz(below);
    return (log - 7) * 16 + (below >> (log - 4)) - 15;
}

static uint32_t class_bytes(uint32_t class_index)
{
    uint32_t before = class_index - 1;
    uint32_t log = 7 + before / 16;

    return class_index == 0 ? TORC_HEAP_BLOCK_BYTES_MIN : (17 + before % 16) << (log - 4);
}

// The fewest units whose end is used well, else the number that uses its end best.
static void class_init(struct torc_heap_class *class, uint32_t bytes)
{
    uint32_t best_end = UINT32_MAX; // in parts of 2^16

    *class = (struct torc_heap_class){.bytes = bytes};
    for (uint32_t i = 0; i < TORC_HEAP_FULLNESS; i++) {
        class->partial[i] = UNIT_NONE;
    }
    for (uint32_t units = 1; units <= SLAB_UNITS_MAX; units++) {
        uint32_t blocks = units * TORC_HEAP_UNIT_BYTES / bytes;
        uint32_t end = (units * TORC_HEAP_UNIT_BYTES - blocks * bytes) * (65536u / 4096u) / units;

        if (blocks == 0 || blocks > SLAB_BLOCKS_MAX || end >= best_end) {
            continue;
        }
        best_end = end;
        class->units = (uint8_t)units;
        class->blocks = (uint8_t)blocks;
        if (end <= 65536u / SLAB_END_SHARE) {
            break;
        }
    }
    torc_assert(class->blocks > 0);
}

// -- Free runs -----------------------------------------------------------------------------------

// Rises with the length.
static uint32_t bin_of(uint32_t units)
{
    uint32_t log = 31u - (uint32_t)__builtin_clz(units);

    if (units < BIN_EXACT) {
        return units;
    }
    return BIN_EXACT + (log - 5) * 16 + ((units >> (log - 4)) & 15u);
}

_Static_assert(BIN_EXACT + (31 - 5 + 1) * 16 <= TORC_HEAP_BINS, "a bin for every length");

static void bin_link(struct torc_heap *heap, uint32_t first, uint32_t units)
{
    uint32_t bin = bin_of(units);
    uint32_t next = heap->bins[bin];

    heap->units[first] =
        (struct torc_heap_unit){.kind = UNIT_FREE, .value = units, .next = next, .prev = UNIT_NONE};
    if (units > 1) {
        heap->units[first + units - 1].kind = UNIT_FREE_LAST;
        heap->units[first + units - 1].value = first;
    }
    if (next != UNIT_NONE) {
        heap->units[next].prev = first;
    }
    heap->bins[bin] = first;
    heap->bin_map[bin / 64] |= UINT64_C(1) << (bin % 64);
}

static void bin_unlink(struct torc_heap *heap, uint32_t first)
{
    const struct torc_heap_unit *unit = &heap->units[first];
    uint32_t bin = bin_of(unit->value);

    torc_assert(unit->kind == UNIT_FREE);
    if (unit->next != UNIT_NONE) {
        heap->units[unit->next].prev = unit->prev;
    }
    if (unit->prev != UNIT_NONE) {
        heap->units[unit->prev].next = unit->next;
        return;
    }
    heap->bins[bin] = unit->next;
    if (unit->next == UNIT_NONE) {
        heap->bin_map[bin / 64] &= ~(UINT64_C(1) << (bin % 64));
    }
}

// A free run of at least `units`, as short as is quickly found.
static uint32_t bin_find(const struct torc_heap *heap, uint32_t units)
{
    uint32_t bin = bin_of(units);
    uint32_t at = heap->bins[bin];
    uint64_t word;

    for (uint32_t i = 0; i < BIN_TRIES && at != UNIT_NONE; i++) {
        if (heap->units[at].value >= units) {
            return at;
        }
        at = heap->units[at].next;
    }
    bin++;
    word = heap->bin_map[bin / 64] & ~((UINT64_C(1) << (bin % 64)) - 1);
    for (uint32_t i = bin / 64;;) {
        if (word != 0) {
            return heap->bins[i * 64 + (uint32_t)__builtin_ctzll(word)];
        }
        if (++i == TORC_HEAP_BINS / 64) {
            return UNIT_NONE;
        }
        word = heap->bin_map[i];
    }
}

// `units` in a row, in use from now on; the caller says of what kind the first one is.
static uint32_t run_take(struct torc_heap *heap, uint32_t units)
{
    uint64_t bytes = (uint64_t)units * TORC_HEAP_UNIT_BYTES;
    uint32_t first = UNIT_NONE;

    if (heap->limit_bytes < heap->used_bytes || heap->limit_bytes - heap->used_bytes < bytes) {
        return UNIT_NONE;
    }
    first = bin_find(heap, units);
    if (first != UNIT_NONE) {
        uint32_t more = heap->units[first].value - units;

        bin_unlink(heap, first);
        if (more > 0) {
            bin_link(heap, first + units, more);
        }
    } else if (heap->unit_count - heap->fresh >= units) {
        first = heap->fresh;
        heap->fresh += units;
        heap->touched = heap->fresh > heap->touched ? heap->fresh : heap->touched;
    } else {
        return UNIT_NONE;
    }
    heap->units[first + units - 1].kind = UNIT_INSIDE;
    heap->units[first + units - 1].value = first;
    heap->used_bytes += bytes;
    return first;
}

static void run_give(struct torc_heap *heap, uint32_t first, uint32_t units)
{
    uint32_t next = first + units;

    heap->used_bytes -= (uint64_t)units * TORC_HEAP_UNIT_BYTES;
    if (first > 0) {
        const struct torc_heap_unit *before = &heap->units[first - 1];
        uint32_t start = before->kind == UNIT_FREE        ? first - 1
                         : before->kind == UNIT_FREE_LAST ? before->value
                                                          : first;

        if (start != first) {
            bin_unlink(heap, start);
            units += first - start;
            first = start;
        }
    }
    if (next < heap->fresh && heap->units[next].kind == UNIT_FREE) {
        bin_unlink(heap, next);
        units += heap->units[next].value;
    }
    if (first + units == heap->fresh) {
        heap->fresh = first;
    } else {
        bin_link(heap, first, units);
    }
}

// -- Slabs ---------------------------------------------------------------------------------------

static uint32_t *slab_list(struct torc_heap_class *class, uint32_t used)
{
    return &class->partial[used * TORC_HEAP_FULLNESS / class->blocks];
}

static void slab_link(struct torc_heap *heap, struct torc_heap_class *class, uint32_t slab)
{
    uint32_t *list = slab_list(class, heap->units[slab].used);

    heap->units[slab].next = *list;
    heap->units[slab].prev = UNIT_NONE;
    if (*list != UNIT_NONE) {
        heap->units[*list].prev = slab;
    }
    *list = slab;
}

static void slab_unlink(struct torc_heap *heap, struct torc_heap_class *class, uint32_t slab)
{
    const struct torc_heap_unit *unit = &heap->units[slab];

    if (unit->next != UNIT_NONE) {
        heap->units[unit->next].prev = unit->prev;
    }
    if (unit->prev != UNIT_NONE) {
        heap->units[unit->prev].next = unit->next;
    } else {
        *slab_list(class, unit->used) = unit->next;
    }
}

static uint32_t slab_make(struct torc_heap *heap, uint32_t class_index)
{
    struct torc_heap_class *class = &heap->classes[class_index];
    uint32_t slab = run_take(heap, class->units);

    if (slab == UNIT_NONE) {
        return UNIT_NONE;
    }
    for (uint32_t i = 1; i < class->units; i++) {
        heap->units[slab + i].kind = UNIT_INSIDE;
        heap->units[slab + i].value = slab;
    }
    heap->units[slab] = (struct torc_heap_unit){.kind = UNIT_SLAB,
                                                .class_index = (uint8_t)class_index,
                                                .value = UINT32_MAX >> (32 - class->blocks)};
    class->slab_count++;
    return slab;
}

// A block of a slab that has a free one; the slab is listed anew if it needs to be.
static void *slab_take(struct torc_heap *heap, struct torc_heap_class *class, uint32_t slab)
{
    struct torc_heap_unit *unit = &heap->units[slab];
    uint32_t index = (uint32_t)__builtin_ctz(unit->value);
    uint32_t used = unit->used + 1u;
    bool fresh = unit->used == 0;

    torc_assert(unit->value != 0);
    if (used == class->blocks || slab_list(class, used) != slab_list(class, unit->used) || fresh) {
        if (!fresh) {
            slab_unlink(heap, class, slab);
        }
        unit->used = (uint8_t)used;
        if (used < class->blocks) {
            slab_link(heap, class, slab);
        }
    }
    unit->used = (uint8_t)used;
    unit->value &= unit->value - 1;
    class->used++;
    return heap->base + (uint64_t)slab * TORC_HEAP_UNIT_BYTES + (uint64_t)index * class->bytes;
}

static void slab_give(struct torc_heap *heap, struct torc_heap_class *class, uint32_t slab,
                      uint32_t index)
{
    struct torc_heap_unit *unit = &heap->units[slab];
    uint32_t used = unit->used;

    torc_assert(index < class->blocks);
    torc_assert((unit->value >> index & 1) == 0); // else freed twice
    unit->value |= UINT32_C(1) << index;
    class->used--;
    if (used > 1 && used < class->blocks && slab_list(class, used) == slab_list(class, used - 1)) {
        unit->used = (uint8_t)(used - 1);
        return;
    }
    if (used < class->blocks) {
        slab_unlink(heap, class, slab);
    }
    unit->used = (uint8_t)(used - 1);
    if (used > 1) {
        slab_link(heap, class, slab);
    } else {
        class->slab_count--;
        run_give(heap, slab, class->units);
    }
}

// The slab or run that a block lies in.
static uint32_t block_first(const struct torc_heap *heap, const void *block)
{
    uint64_t at = (uint64_t)((const unsigned char *)block - heap->base);
    uint32_t unit = (uint32_t)(at / TORC_HEAP_UNIT_BYTES);

    torc_assert(at / TORC_HEAP_UNIT_BYTES < heap->fresh);
    return heap->units[unit].kind == UNIT_INSIDE ? heap->units[unit].value : unit;
}

static uint32_t block_index(const struct torc_heap *heap, const struct torc_heap_class *class,
                            uint32_t slab, const void *block)
{
    uint64_t at = (uint64_t)((const unsigned char *)block - heap->base) -
                  (uint64_t)slab * TORC_HEAP_UNIT_BYTES;

    return (uint32_t)at / class->bytes;
}

static uint32_t run_units(uint32_t bytes)
{
    return (bytes + TORC_HEAP_UNIT_BYTES - 1) / TORC_HEAP_UNIT_BYTES;
}

// -- Life ----------------------------------------------------------------------------------------

uint64_t torc_heap_mapping_bytes(uint64_t limit_bytes)
{
    uint64_t units = limit_bytes / TORC_HEAP_UNIT_BYTES;
    uint64_t table_bytes = units * sizeof(struct torc_heap_unit) + TORC_HEAP_UNIT_BYTES - 1;

    return (units + table_bytes / TORC_HEAP_UNIT_BYTES) * TORC_HEAP_UNIT_BYTES;
}

void torc_heap_init(struct torc_heap *heap, void *memory, uint64_t memory_bytes,
                    uint64_t limit_bytes)
{
    uint64_t units = limit_bytes / TORC_HEAP_UNIT_BYTES;
    uint64_t base = torc_heap_mapping_bytes(limit_bytes) - units * TORC_HEAP_UNIT_BYTES;

    torc_assert((uintptr_t)memory % TORC_HEAP_UNIT_BYTES == 0);
    torc_assert(units <= TORC_HEAP_UNITS_MAX);
    torc_assert(memory_bytes >= torc_heap_mapping_bytes(limit_bytes));
    *heap = (struct torc_heap){.base = (unsigned char *)memory + base,
                               .units = memory,
                               .limit_bytes = limit_bytes,
                               .unit_count = (uint32_t)units,
                               .memory = memory,
                               .memory_bytes = memory_bytes};
    memset(heap->bins, 0xff, sizeof(heap->bins));
    for (uint32_t i = 0; i < TORC_HEAP_CLASSES; i++) {
        class_init(&heap->classes[i], class_bytes(i));
    }
    poison(heap->base, units * TORC_HEAP_UNIT_BYTES);
}

void torc_heap_forget(struct torc_heap *heap)
{
    unpoison(heap->base, (uint64_t)heap->unit_count * TORC_HEAP_UNIT_BYTES);
    *heap = (struct torc_heap){0};
}

// -- Blocks --------------------------------------------------------------------------------------

static void *alloc_run(struct torc_heap *heap, uint32_t bytes)
{
    uint32_t units = run_units(bytes);
    uint32_t first = run_take(heap, units);

    if (first == UNIT_NONE) {
        return NULL;
    }
    heap->units[first].kind = UNIT_RUN;
    heap->units[first].value = units;
    heap->block_bytes += (uint64_t)units * TORC_HEAP_UNIT_BYTES;
    return heap->base + (uint64_t)first * TORC_HEAP_UNIT_BYTES;
}

// The fullest slab with a free block.
static uint32_t class_fullest(const struct torc_heap_class *class)
{
    uint32_t fullness = TORC_HEAP_FULLNESS;

    while (fullness-- > 0) {
        if (class->partial[fullness] != UNIT_NONE) {
            return class->partial[fullness];
        }
    }
    return UNIT_NONE;
}

static void *alloc_small(struct torc_heap *heap, uint32_t bytes)
{
    uint32_t class_index = class_of(bytes);
    struct torc_heap_class *class = &heap->classes[class_index];
    uint32_t slab = class_fullest(class);

    if (slab == UNIT_NONE) {
        slab = slab_make(heap, class_index);
    }
    if (slab == UNIT_NONE) {
        return NULL;
    }
    heap->block_bytes += class->bytes;
    return slab_take(heap, class, slab);
}

void *torc_heap_alloc(struct torc_heap *heap, uint32_t bytes)
{
    void *block;

    torc_assert(bytes > 0);
    block = bytes <= TORC_HEAP_CLASS_BYTES_MAX ? alloc_small(heap, bytes) : alloc_run(heap, bytes);
    if (block != NULL) {
        heap->block_count++;
        heap->user_bytes += bytes;
        unpoison(block, bytes);
    }
    return block;
}

void torc_heap_free(struct torc_heap *heap, const void *value, uint32_t bytes)
{
    uint32_t first = block_first(heap, value);

    torc_assert(heap->block_count > 0);
    heap->block_count--;
    heap->user_bytes -= bytes;
    poison(value, bytes);
    if (bytes > TORC_HEAP_CLASS_BYTES_MAX) {
        torc_assert(heap->units[first].kind == UNIT_RUN);
        torc_assert(heap->units[first].value == run_units(bytes));
        heap->block_bytes -= (uint64_t)run_units(bytes) * TORC_HEAP_UNIT_BYTES;
        run_give(heap, first, run_units(bytes));
    } else {
        struct torc_heap_class *class = &heap->classes[class_of(bytes)];

        torc_assert(heap->units[first].kind == UNIT_SLAB);
        torc_assert(heap->units[first].class_index == class_of(bytes));
        heap->block_bytes -= class->bytes;
        slab_give(heap, class, first, block_index(heap, class, first, value));
    }
}

const void *torc_heap_move(struct torc_heap *heap, const void *value, uint32_t bytes)
{
    struct torc_heap_class *class;
    uint32_t from;
    uint32_t to;
    void *block;

    if (bytes > TORC_HEAP_CLASS_BYTES_MAX) {
        return NULL;
    }
    class = &heap->classes[class_of(bytes)];
    if (class->slab_count < 2) {
        return NULL;
    }
    from = block_first(heap, value);
    torc_assert(heap->units[from].class_index == class_of(bytes));
    to = class_fullest(class);
    if (to == from) { // another one of the same fullness will do
        to = heap->units[from].next;
    }
    if (to == UNIT_NONE || heap->units[to].used < heap->units[from].used) {
        return NULL;
    }
    block = slab_take(heap, class, to);
    unpoison(block, bytes);
    memcpy(block, value, bytes);
    poison(value, bytes);
    slab_give(heap, class, from, block_index(heap, class, from, value));
    heap->moved_bytes += bytes;
    heap->moved_count++;
    return block;
}

// -- Looking in ----------------------------------------------------------------------------------

uint64_t torc_heap_sparse_bytes(const struct torc_heap *heap)
{
    uint64_t units = 0;

    for (uint32_t i = 0; i < TORC_HEAP_CLASSES; i++) {
        const struct torc_heap_class *class = &heap->classes[i];
        uint64_t free_blocks = (uint64_t) class->slab_count * class->blocks - class->used;

        units += free_blocks / class->blocks * class->units;
    }
    return units * TORC_HEAP_UNIT_BYTES;
}

void torc_heap_memory(const struct torc_heap *heap, struct torc_heap_memory *memory)
{
    *memory = (struct torc_heap_memory){
        .user_bytes = heap->user_bytes,
        .class_bytes = heap->block_bytes - heap->user_bytes,
        .slab_bytes = heap->used_bytes - heap->block_bytes,
        .free_bytes = (uint64_t)heap->touched * TORC_HEAP_UNIT_BYTES - heap->used_bytes,
        .table_bytes = (uint64_t)heap->touched * sizeof(struct torc_heap_unit)};
}

// What the walk has seen.
struct walk {
    uint64_t used_units;
    uint64_t block_count;
    uint64_t block_bytes;
    uint32_t free_runs;
    uint32_t listed; // slabs that must be in a list
    uint32_t slabs[TORC_HEAP_CLASSES];
    uint32_t blocks[TORC_HEAP_CLASSES];
};

static const char *walk_slab(const struct torc_heap *heap, struct walk *walk, uint32_t slab)
{
    const struct torc_heap_unit *unit = &heap->units[slab];
    const struct torc_heap_class *class = &heap->classes[unit->class_index];

    if (unit->class_index >= TORC_HEAP_CLASSES || unit->used == 0 || unit->used > class->blocks) {
        return "a slab has no class, or no block in use";
    }
    if ((uint32_t)__builtin_popcount(unit->value) + unit->used != class->blocks) {
        return "a slab's mask and count differ";
    }
    for (uint32_t i = 1; i < class->units; i++) {
        if (heap->units[slab + i].kind != UNIT_INSIDE || heap->units[slab + i].value != slab) {
            return "a slab's inner unit does not name it";
        }
    }
    walk->slabs[unit->class_index]++;
    walk->blocks[unit->class_index] += unit->used;
    walk->listed += unit->used < class->blocks;
    walk->used_units += class->units;
    walk->block_count += unit->used;
    walk->block_bytes += (uint64_t)unit->used * class->bytes;
    return NULL;
}

// The unit behind what begins at `at`, or a reason; M1.
static const char *walk_step(const struct torc_heap *heap, struct walk *walk, uint32_t *at,
                             bool *after_free)
{
    const struct torc_heap_unit *unit = &heap->units[*at];
    const char *wrong = NULL;
    uint32_t units = unit->value;

    if (unit->kind == UNIT_SLAB) {
        wrong = walk_slab(heap, walk, *at);
        units = heap->classes[wrong == NULL ? unit->class_index : 0].units;
    } else if (unit->kind == UNIT_RUN) {
        walk->used_units += units;
        walk->block_count++;
        walk->block_bytes += (uint64_t)units * TORC_HEAP_UNIT_BYTES;
    } else if (unit->kind != UNIT_FREE || *after_free) {
        return "units are not tiled";
    }
    if (wrong != NULL || units == 0 || units > heap->fresh - *at) {
        return wrong != NULL ? wrong : "a run's length is wrong";
    }
    if (unit->kind == UNIT_FREE && units > 1 &&
        heap->units[*at + units - 1].kind != UNIT_FREE_LAST) {
        return "a free run's end is not marked";
    }
    *after_free = unit->kind == UNIT_FREE;
    walk->free_runs += unit->kind == UNIT_FREE;
    *at += units;
    return NULL;
}

// M2: lists hold what they must, and as much as there is.
static const char *walk_lists(const struct torc_heap *heap, struct walk *walk)
{
    for (uint32_t list = 0; list < TORC_HEAP_CLASSES * TORC_HEAP_FULLNESS; list++) {
        uint32_t class_index = list / TORC_HEAP_FULLNESS;
        const struct torc_heap_class *class = &heap->classes[class_index];
        uint32_t at = class->partial[list % TORC_HEAP_FULLNESS];

        for (; at != UNIT_NONE; at = heap->units[at].next) {
            const struct torc_heap_unit *unit = &heap->units[at];

            if (unit->kind != UNIT_SLAB || unit->class_index != class_index ||
                unit->used * TORC_HEAP_FULLNESS / class->blocks != list % TORC_HEAP_FULLNESS ||
                walk->listed-- == 0) {
                return "a slab is in a wrong list";
            }
        }
    }
    for (uint32_t bin = 0; bin < TORC_HEAP_BINS; bin++) {
        for (uint32_t at = heap->bins[bin]; at != UNIT_NONE; at = heap->units[at].next) {
            if (heap->units[at].kind != UNIT_FREE || bin_of(heap->units[at].value) != bin ||
                walk->free_runs-- == 0) {
                return "a free run is in a wrong bin";
            }
        }
    }
    return walk->listed == 0 && walk->free_runs == 0 ? NULL : "a slab or a free run is in no list";
}

const char *torc_heap_check(const struct torc_heap *heap)
{
    struct walk walk = {0};
    bool after_free = false;

    for (uint32_t at = 0; at < heap->fresh;) {
        const char *wrong = walk_step(heap, &walk, &at, &after_free);

        if (wrong != NULL) {
            return wrong;
        }
    }
    if (after_free || walk.used_units * TORC_HEAP_UNIT_BYTES != heap->used_bytes ||
        walk.block_count != heap->block_count || walk.block_bytes != heap->block_bytes) {
        return "units, blocks or their bytes do not add up";
    }
    for (uint32_t i = 0; i < TORC_HEAP_CLASSES; i++) {
        if (walk.slabs[i] != heap->classes[i].slab_count ||
            walk.blocks[i] != heap->classes[i].used) {
            return "a class does not add up";
        }
    }
    return walk_lists(heap, &walk);
}
