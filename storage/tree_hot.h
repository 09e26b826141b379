// Torc storage: the one source of the tree's hot parts. Included by tree_plain.c, tree_avx2.c and
// tree_avx512.c alone, each compiled with its own flags; see storage/tree_code.h.
//
// How a batch is looked up: all its keys go down one level, then all the next. What the next step
// will read is asked for as soon as it is known, so the misses of up to TORC_TREE_BATCH keys
// overlap. The upper levels lie in the nearest caches; of the lowest inner level, which does not, a
// line at a time is asked for: head, separators, child. Then head and hints of each leaf, then the
// one record.
#ifndef TORC_STORAGE_TREE_HOT_H
#define TORC_STORAGE_TREE_HOT_H

#include "storage/inner.h"
#include "storage/leaf.h"
#include "storage/leaf_read.h"
#include "storage/tree_guide.h"
#include "storage/tree_simd.h"

#define LINE_BYTES 64u
// In the lowest inner level a child's line is asked for so many keys before it is read, so that the
// requests for leaves are spread over the search. Measured like the next.
#define LAG 4u

// Lines of a leaf that a search reads first: head and hints. Measured with perf/tree-bench, 10 M
// random keys; more cost line-fill buffers, fewer leave misses to the search itself.
#define LEAF_LINES 3u

// So few keys leave line-fill buffers free: all of a node is asked for at once.
#define FEW       2u
#define ALL_LINES (TORC_NODE_BYTES / LINE_BYTES)

// One key goes by the guide from so many levels on. With fewer the inner nodes are nearer than the
// guide: measured, dependent lookups by the guide 2.3 instead of 2.5 M/s with 4 levels, 2.0 instead
// of 1.6 with 5.
#define LEVELS_MANY 5u

// Always inlined: gcc 12 takes a function that only prefetches for one without effect, and drops
// it.
static inline __attribute__((always_inline)) void hot_prefetch(const void *node, uint32_t lines)
{
    for (uint32_t line = 0; line < lines; line++) {
        __builtin_prefetch((const char *)node + (size_t)line * LINE_BYTES);
    }
}

// -- Inner nodes ---------------------------------------------------------------------------------

// The line of separators in which `key` falls. Ones are no separator's delta, so smaller ones do.
static inline uint32_t hot_line(const struct torc_inner *inner, uint64_t key)
{
    uint64_t delta = (key - inner->base) >> inner->shift;
    uint32_t upto = 0;

    if (inner->width == 2) {
        upto = hot_samples16(inner->samples, (uint16_t)torc_min_u64(delta, UINT16_MAX - 1));
    } else if (inner->width == 4) {
        upto = hot_samples32(inner->samples, (uint32_t)torc_min_u64(delta, UINT32_MAX - 1));
    }
    return key < inner->base ? 0 : (uint32_t)__builtin_popcount(upto);
}

// The place of the child for `key`, whose line of separators is known.
static inline const uint32_t *hot_child(const struct torc_inner *inner, uint64_t key, uint32_t line)
{
    const unsigned char *bytes = (const void *)inner;
    const unsigned char *numbers = inner->bytes + (size_t)line * TORC_INNER_LINE_BYTES;
    uint64_t delta = (key - inner->base) >> inner->shift;
    uint32_t index;

    if (inner->width == 2) {
        bytes += TORC_INNER_AT_2;
        index = hot_line16(numbers, (uint16_t)torc_min_u64(delta, UINT16_MAX - 1));
        index = line * 32 + (uint32_t)__builtin_popcount(index);
    } else if (inner->width == 4) {
        bytes += TORC_INNER_AT_4;
        index = hot_line32(numbers, (uint32_t)torc_min_u64(delta, UINT32_MAX - 1));
        index = line * 16 + (uint32_t)__builtin_popcount(index);
    } else {
        bytes += TORC_INNER_AT_8;
        index = hot_upto64((const void *)numbers, inner->count - 1u, delta);
    }
    return (const uint32_t *)(const void *)bytes + (key < inner->base ? 0 : index);
}

// From the nodes of level 1 to the leaves, a line at a time.
static inline void hot_last_level(unsigned char *base, const uint64_t *keys, uint32_t count,
                                  uint32_t *leaves)
{
    const uint32_t *children[TORC_TREE_BATCH];
    uint8_t lines[TORC_TREE_BATCH];

    for (uint32_t i = 0; i < count; i++) {
        const struct torc_inner *inner = torc_node_at(base, leaves[i]);

        lines[i] = (uint8_t)hot_line(inner, keys[i]);
        __builtin_prefetch(inner->bytes + (size_t)lines[i] * TORC_INNER_LINE_BYTES);
    }
    for (uint32_t i = 0; i < count + LAG; i++) {
        if (i < count) {
            children[i] = hot_child(torc_node_at(base, leaves[i]), keys[i], lines[i]);
            __builtin_prefetch(children[i]);
        }
        if (i >= LAG) {
            leaves[i - LAG] = *children[i - LAG];
            hot_prefetch(torc_node_at(base, leaves[i - LAG]), LEAF_LINES);
        }
    }
}

static inline void hot_walk(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                            uint32_t *leaves)
{
    unsigned char *base = tree->chunks.base;
    uint32_t last = count <= FEW ? 0 : 1; // the level that is gone down a line at a time
    uint32_t level = tree->levels - 1;

    torc_assert(count <= TORC_TREE_BATCH);
    for (uint32_t i = 0; i < count; i++) {
        leaves[i] = tree->root;
    }
    for (; level > last; level--) {
        for (uint32_t i = 0; i < count; i++) {
            const struct torc_inner *inner = torc_node_at(base, leaves[i]);

            leaves[i] = *hot_child(inner, keys[i], hot_line(inner, keys[i]));
            hot_prefetch(torc_node_at(base, leaves[i]), count <= FEW ? ALL_LINES : 1);
        }
    }
    if (level > 0) {
        hot_last_level(base, keys, count, leaves);
    }
}

// Some of a batch's keys go down from the root. Never inlined: seldom, and not to burden the rest.
static __attribute__((noinline)) void hot_walk_some(const struct torc_tree *tree,
                                                    const uint64_t *keys, const uint8_t *some,
                                                    uint32_t count, uint32_t *leaves)
{
    uint64_t wanted[TORC_TREE_BATCH] = {0};
    uint32_t found[TORC_TREE_BATCH];

    for (uint32_t i = 0; i < count; i++) {
        wanted[i] = keys[some[i]];
    }
    hot_walk(tree, wanted, count, found);
    for (uint32_t i = 0; i < count; i++) {
        leaves[some[i]] = found[i];
    }
}

// The guide's leaves for those keys it has some for; the others go down from the root.
static inline void hot_follow(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                              uint32_t *leaves)
{
    const struct torc_guide_entry *entries[TORC_TREE_BATCH];
    uint8_t rest[TORC_TREE_BATCH];
    uint32_t rest_count = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = torc_guide_index(tree, keys[i]);

        entries[i] = NULL;
        if (index < tree->guide.usable - 1) { // its next one is filled in too
            entries[i] = torc_guide_at(tree, index);
            __builtin_prefetch(entries[i]);
            __builtin_prefetch(entries[i] + 1);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i] == NULL || entries[i]->next_at == TORC_GUIDE_MANY) {
            rest[rest_count++] = (uint8_t)i;
            continue;
        }
        leaves[i] = entries[i]->leaf;
        if (torc_guide_part(tree, keys[i]) >= entries[i]->next_at) {
            leaves[i] = torc_guide_at(tree, torc_guide_index(tree, keys[i]) + 1)->leaf;
        }
        hot_prefetch(torc_node_at(tree->chunks.base, leaves[i]),
                     count <= FEW ? ALL_LINES : LEAF_LINES);
    }
    if (rest_count > 0) {
        hot_walk_some(tree, keys, rest, rest_count, leaves);
    }
}

// True: the guide led, and may have led astray.
static inline bool hot_descend(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                               uint32_t *leaves)
{
    if (!torc_guide_leads(tree) || (count <= FEW && tree->levels < LEVELS_MANY)) {
        hot_walk(tree, keys, count, leaves);
        return false;
    }
    hot_follow(tree, keys, count, leaves);
    return !tree->guide.exact;
}

// -- Leaves --------------------------------------------------------------------------------------

// The record of the first slot whose hint is the key's; NULL: there is none. *more: another slot
// has it too.
static inline const unsigned char *hot_record(const struct torc_leaf *leaf, uint64_t key,
                                              bool *more)
{
    uint64_t hint = (key - leaf->key_base) >> (8 * leaf->low_bytes);
    uint64_t equal[2];
    uint32_t slot;

    *more = false;
    if (hint > UINT16_MAX || leaf->level != 0) { // the guide's leaf may be one no more
        return NULL;
    }
    hot_equal16(leaf->hints, leaf->count, (uint16_t)hint, equal);
    if ((equal[0] | equal[1]) == 0) {
        return NULL;
    }
    slot = equal[0] != 0 ? (uint32_t)__builtin_ctzll(equal[0])
                         : 64 + (uint32_t)__builtin_ctzll(equal[1]);
    *more = (equal[0] & (equal[0] - 1)) != 0 || (equal[1] & (equal[1] - 1)) != 0 ||
            (equal[0] != 0 && equal[1] != 0);
    return torc_leaf_record(leaf, slot);
}

// Do keys of the leaf lie on both sides of this one? Then it is the leaf for it, whoever said so.
static inline bool hot_inside(const struct torc_leaf *leaf, uint64_t key)
{
    uint64_t hint = (key - leaf->key_base) >> (8 * leaf->low_bytes);

    return leaf->level == 0 && hint < UINT16_MAX &&
           hot_below16(leaf->hints, leaf->count, (uint16_t)hint) > 0 &&
           hot_below16(leaf->hints, leaf->count, (uint16_t)(hint + 1)) < leaf->count;
}

static inline __attribute__((always_inline)) void hot_record_prefetch(const struct torc_leaf *leaf,
                                                                      const unsigned char *record)
{
    __builtin_prefetch(record);
    __builtin_prefetch(record + leaf->stride - 1);
}

// Asks for what an insert into a full leaf will read: all of the leaf, and of the neighbours where
// records may go. With it random inserts took 119 instead of 150 ns, with the neighbours' heads
// alone 130. Never inlined: seldom.
static __attribute__((noinline)) void hot_relief_prefetch(const struct torc_tree *tree,
                                                          uint64_t key, const void *leaf)
{
    unsigned char *base = tree->chunks.base;
    uint32_t node = tree->root;

    hot_prefetch(leaf, ALL_LINES);
    for (uint32_t level = tree->levels - 1; level > 0; level--) {
        const struct torc_inner *inner = torc_node_at(base, node);
        const uint32_t *child = hot_child(inner, key, hot_line(inner, key));
        const uint32_t *children = torc_inner_children(inner);

        node = *child;
        if (level == 1 && child > children) {
            hot_prefetch(torc_node_at(base, child[-1]), ALL_LINES);
        }
        if (level == 1 && child + 1 < children + inner->count) {
            hot_prefetch(torc_node_at(base, child[1]), ALL_LINES);
        }
    }
}

// For writes: asks for the record that will be replaced, or else for the order and the free slot
// behind the last. `order`: for the order in any case.
static inline __attribute__((always_inline)) void hot_ask(const struct torc_tree *tree,
                                                          const uint64_t *keys, uint32_t count,
                                                          const uint32_t *leaves, bool order)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct torc_leaf *leaf = torc_node_at(tree->chunks.base, leaves[i]);
        bool more;
        const unsigned char *record = hot_record(leaf, keys[i], &more);

        if (order || record == NULL) {
            __builtin_prefetch(torc_leaf_order(leaf), 1);
        }
        hot_record_prefetch(leaf, record == NULL ? torc_leaf_record(leaf, leaf->count) : record);
        if (torc_unlikely(record == NULL && leaf->count == leaf->capacity && leaf->level == 0)) {
            hot_relief_prefetch(tree, keys[i], leaf);
        }
    }
}

// Rows of writes to one leaf read its order whatever they do.
static void hot_touch(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                      const uint32_t *leaves)
{
    hot_ask(tree, keys, count, leaves, true);
}

static bool hot_locate(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                       uint32_t *leaves)
{
    bool guided = hot_descend(tree, keys, count, leaves);

    hot_ask(tree, keys, count, leaves, false);
    return guided;
}

extern const struct torc_tree_code HOT_TABLE;

static inline void hot_hit(const struct torc_leaf *leaf, const unsigned char *record,
                           struct torc_tree_hit *hit)
{
    record += leaf->low_bytes;
    hit->found = true;
    hit->version = leaf->version_base + hot_bytes(torc_leaf_load(record), leaf->version_bytes);
    hit->value = record + leaf->version_bytes;
    hit->value_bytes = leaf->form;
    if (leaf->form == TORC_LEAF_VARIED) {
        hit->value = torc_leaf_cell(leaf, record + leaf->version_bytes, &hit->value_bytes);
    }
}

// The record of a hint was not the key's: another record with the same hint may be.
static __attribute__((noinline)) void hot_among_equal(const struct torc_leaf *leaf, uint64_t key,
                                                      struct torc_tree_hit *hit)
{
    bool found;
    uint32_t index = torc_leaf_find(leaf, &HOT_TABLE, key, &found);

    *hit = (struct torc_tree_hit){0};
    if (found) {
        hot_hit(leaf, torc_leaf_record(leaf, torc_leaf_order(leaf)[index]), hit);
    }
}

// Where the guide led to no record: its leaf may have been the wrong one.
static __attribute__((noinline)) void hot_again(const struct torc_tree *tree, const uint64_t *keys,
                                                const uint8_t *some, uint32_t count,
                                                struct torc_tree_hit *hits)
{
    uint32_t leaves[TORC_TREE_BATCH];

    hot_walk_some(tree, keys, some, count, leaves);
    for (uint32_t i = 0; i < count; i++) {
        hot_among_equal(torc_node_at(tree->chunks.base, leaves[some[i]]), keys[some[i]],
                        &hits[some[i]]);
    }
}

static void hot_lookup(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                       struct torc_tree_hit *hits)
{
    uint32_t leaves[TORC_TREE_BATCH];
    const unsigned char *records[TORC_TREE_BATCH];
    bool more[TORC_TREE_BATCH];
    uint8_t again[TORC_TREE_BATCH];
    uint32_t again_count = 0;
    bool guided = hot_descend(tree, keys, count, leaves);

    for (uint32_t i = 0; i < count; i++) {
        const struct torc_leaf *leaf = torc_node_at(tree->chunks.base, leaves[i]);

        records[i] = hot_record(leaf, keys[i], &more[i]);
        if (records[i] != NULL) {
            hot_record_prefetch(leaf, records[i]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct torc_leaf *leaf = torc_node_at(tree->chunks.base, leaves[i]);

        if (records[i] != NULL && hot_bytes(torc_leaf_load(records[i]) ^ (keys[i] - leaf->key_base),
                                            leaf->low_bytes) == 0) {
            hot_hit(leaf, records[i], &hits[i]);
            continue;
        }
        hits[i] = (struct torc_tree_hit){0};
        if (more[i]) {
            hot_among_equal(leaf, keys[i], &hits[i]);
        }
        if (guided && !hits[i].found && !hot_inside(leaf, keys[i])) {
            again[again_count++] = (uint8_t)i;
        }
    }
    if (again_count > 0) {
        hot_again(tree, keys, again, again_count, hits);
    }
}

const struct torc_tree_code HOT_TABLE = {
    .name = HOT_NAME,
    .below16 = hot_below16,
    .equal16 = hot_equal16,
    .upto16 = hot_upto16,
    .upto32 = hot_upto32,
    .upto64 = hot_upto64,
    .locate = hot_locate,
    .touch = hot_touch,
    .lookup = hot_lookup,
    .read = hot_read,
};

#endif
