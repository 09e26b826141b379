// Torc storage: scans. See storage/tree.h.
#include "storage/tree_impl.h"

// How many leaves beyond the present one are asked for, along the parents' lists of children: by a
// scan that goes on; at the most by one that begins, for it may end soon. Measured with
// perf/tree-bench, 10 M random keys (M pairs/s of a full scan): 4 474, 5 518, 6 535, 7 545, 8 540.
#define AHEAD_LEAVES 7u

// How often a scan that begins asks for each of its first leaves. A processor whose miss buffers
// are full may drop what it is asked for (Zen 5 does), so a burst of 64 lines loses many of them.
// Measured, scan of 100 (M pairs/s): once 120, twice 165, three times 190; nothing in between but
// 500 nops did as much as asking again.
#define FIRST_ASKS 3u

// So many leaves before a parent's last one the next parent is asked for.
#define AHEAD_PARENT (AHEAD_LEAVES + 3u)

// The leaf `ahead` places on from the path's; TORC_NODE_NONE at the tree's end, or when it is not
// to be found at once.
static inline __attribute__((always_inline)) uint32_t leaf_ahead(const struct torc_tree *tree,
                                                                 const struct torc_tree_path *path,
                                                                 bool forward, uint32_t ahead)
{
    const struct torc_inner *parent = torc_tree_inner(tree, path->nodes[1]);
    uint32_t left = forward ? parent->count - 1u - path->indices[1] : path->indices[1];
    const struct torc_inner *above;
    uint32_t index;

    if (ahead <= left) {
        return torc_inner_children(parent)[path->indices[1] + (forward ? ahead : -ahead)];
    }
    if (tree->levels < 3) {
        return TORC_NODE_NONE;
    }
    above = torc_tree_inner(tree, path->nodes[2]);
    index = path->indices[2] + (forward ? 1u : -1u);
    if (index >= above->count) {
        return TORC_NODE_NONE;
    }
    parent = torc_tree_inner(tree, torc_inner_children(above)[index]);
    ahead -= left + 1;
    return ahead < parent->count
               ? torc_inner_children(parent)[forward ? ahead : parent->count - 1u - ahead]
               : TORC_NODE_NONE;
}

// The parent after the path's will be needed soon.
static inline __attribute__((always_inline)) void parent_prefetch(const struct torc_tree *tree,
                                                                  const struct torc_tree_path *path,
                                                                  bool forward)
{
    const struct torc_inner *parent = torc_tree_inner(tree, path->nodes[1]);
    uint32_t left = forward ? parent->count - 1u - path->indices[1] : path->indices[1];
    const struct torc_inner *above;
    uint32_t index;

    if (left != AHEAD_PARENT || tree->levels < 3) {
        return;
    }
    above = torc_tree_inner(tree, path->nodes[2]);
    index = path->indices[2] + (forward ? 1u : -1u);
    if (index < above->count) {
        torc_tree_node_prefetch(tree, torc_inner_children(above)[index]);
    }
}

// Asks for leaves, `asks` times each, until as many as wanted beyond the present one are on their
// way.
static inline __attribute__((always_inline)) void cursor_prefetch(const struct torc_tree *tree,
                                                                  struct torc_tree_cursor *cursor,
                                                                  uint32_t asks)
{
    if (tree->levels == 1) {
        return;
    }
    while (cursor->ahead < cursor->wanted) {
        uint32_t node = leaf_ahead(tree, &cursor->path, !cursor->reverse, ++cursor->ahead);

        for (uint32_t i = 0; i < asks && node != TORC_NODE_NONE; i++) {
            torc_tree_node_prefetch(tree, node);
        }
    }
}

bool torc_tree_path_step(const struct torc_tree *tree, struct torc_tree_path *path, bool forward)
{
    uint32_t level = 1;

    while (level < tree->levels) {
        const struct torc_inner *inner = torc_tree_inner(tree, path->nodes[level]);

        if (forward ? path->indices[level] + 1u < inner->count : path->indices[level] > 0) {
            break;
        }
        level++;
    }
    if (level >= tree->levels) {
        return false;
    }
    path->indices[level] = (uint16_t)(path->indices[level] + (forward ? 1 : -1));
    for (; level > 0; level--) {
        const struct torc_inner *inner = torc_tree_inner(tree, path->nodes[level]);

        path->nodes[level - 1] = torc_inner_children(inner)[path->indices[level]];
        if (level > 1) {
            const struct torc_inner *below = torc_tree_inner(tree, path->nodes[level - 1]);

            path->indices[level - 1] = (uint16_t)(forward ? 0 : below->count - 1);
        }
    }
    return true;
}

void torc_tree_cursor_open(struct torc_tree_cursor *cursor, uint64_t first, uint64_t last,
                           bool reverse)
{
    *cursor = (struct torc_tree_cursor){.next = reverse ? last : first,
                                        .end = reverse ? first : last,
                                        .reverse = reverse,
                                        .done = first > last};
}

void torc_tree_cursor_seek(struct torc_tree_cursor *cursor, uint64_t key)
{
    cursor->next = key;
    cursor->done = cursor->reverse ? key < cursor->end : key > cursor->end;
    cursor->change_stamp = 0;
}

// As torc_tree_path_find, asking for all of each node at once.
static void cursor_descend(const struct torc_tree *tree, struct torc_tree_cursor *cursor)
{
    struct torc_tree_path *path = &cursor->path;
    uint32_t node = tree->root;

    for (uint32_t level = tree->levels - 1; level > 0; level--) {
        const struct torc_inner *inner = torc_tree_inner(tree, node);
        uint32_t index = torc_inner_find(inner, tree->code, cursor->next);

        path->nodes[level] = node;
        path->indices[level] = (uint16_t)index;
        node = torc_inner_children(inner)[index];
        torc_tree_node_prefetch(tree, node);
    }
    path->nodes[0] = node;
    path->indices[0] = 0;
}

// How many leaves beyond the first `records` reach into, mostly.
static uint32_t leaves_wanted(const struct torc_tree *tree, uint64_t records)
{
    uint64_t each = tree->record_count / tree->leaf_count + 1;

    return (uint32_t)torc_min_u64(AHEAD_LEAVES, records / each + 1);
}

// Finds the cursor's place anew when the tree has changed since. The place is how many records of
// the leaf lie before the next one in the scan's direction. `records` is how many will be read.
static void cursor_place(const struct torc_tree *tree, struct torc_tree_cursor *cursor,
                         uint64_t records)
{
    const struct torc_leaf *leaf;
    bool found;
    uint32_t index;

    if (cursor->change_stamp == tree->change_stamp) {
        cursor->wanted = AHEAD_LEAVES; // it went on once, so it is likely to go on
        return;
    }
    cursor_descend(tree, cursor);
    cursor->leaf_stamp = 0;
    cursor->wanted = leaves_wanted(tree, records);
    cursor->ahead = 0;
    for (uint32_t i = 1; i < FIRST_ASKS; i++) { // the descent asked once
        torc_tree_node_prefetch(tree, cursor->path.nodes[0]);
    }
    cursor_prefetch(tree, cursor, FIRST_ASKS);
    leaf = torc_tree_leaf(tree, cursor->path.nodes[0]);
    index = torc_leaf_find(leaf, tree->code, cursor->next, &found);
    cursor->place = cursor->reverse ? leaf->count - index - (found ? 1 : 0) : index;
    cursor->change_stamp = tree->change_stamp;
}

// Moves on to the next leaf; false, and the scan is over.
static bool cursor_step(const struct torc_tree *tree, struct torc_tree_cursor *cursor)
{
    if (!torc_tree_path_step(tree, &cursor->path, !cursor->reverse)) {
        cursor->done = true;
        return false;
    }
    cursor->place = 0;
    if (cursor->wanted <
        AHEAD_LEAVES) { // a scan that begins: one leaf less is left of what it reads
        cursor->wanted -= cursor->wanted > 0;
    }
    if (cursor->ahead == 0) {
        torc_tree_node_prefetch(tree, cursor->path.nodes[0]);
    } else {
        cursor->ahead--;
    }
    parent_prefetch(tree, &cursor->path, !cursor->reverse);
    cursor_prefetch(tree, cursor, 1);
    return true;
}

// Ends the scan at its last key: how many of the pairs lie within it.
static uint32_t cursor_trim(struct torc_tree_cursor *cursor, const struct torc_tree_pair *pairs,
                            uint32_t count)
{
    uint64_t end = cursor->end;

    if (cursor->reverse ? pairs[count - 1].key > end : pairs[count - 1].key < end) {
        return count;
    }
    cursor->done = true;
    while (count > 0 &&
           (cursor->reverse ? pairs[count - 1].key < end : pairs[count - 1].key > end)) {
        count--;
    }
    return count;
}

uint32_t torc_tree_scan(const struct torc_tree *tree, struct torc_tree_cursor *cursor,
                        struct torc_tree_pair *pairs, uint32_t pair_count_max)
{
    uint32_t count = 0;

    torc_assert(pair_count_max > 0);
    if (cursor->done) {
        return 0;
    }
    cursor_place(tree, cursor, pair_count_max);
    cursor->stamp = cursor->leaf_stamp; // keys behind its last record belong to this slice
    while (count < pair_count_max) {
        const struct torc_leaf *leaf = torc_tree_leaf(tree, cursor->path.nodes[0]);
        uint32_t some = leaf->count - cursor->place;

        cursor->leaf_stamp = leaf->stamp;
        cursor->stamp = torc_max_u64(cursor->stamp, leaf->stamp);
        some = some < pair_count_max - count ? some : pair_count_max - count;
        if (some > 0) {
            tree->code->read(leaf, cursor->place, some, cursor->reverse, pairs + count);
            cursor->place += some;
            count += cursor_trim(cursor, pairs + count, some);
        }
        if (cursor->done || (cursor->place == leaf->count && !cursor_step(tree, cursor))) {
            break;
        }
    }
    if (!cursor->done) { // so the array is full, and its last key is not the scan's
        cursor->next = pairs[count - 1].key + (cursor->reverse ? UINT64_MAX : 1);
    }
    return count;
}

uint64_t torc_tree_scan_count(const struct torc_tree *tree, struct torc_tree_cursor *cursor,
                              uint64_t record_count_max)
{
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX];
    uint64_t count = 0;

    if (cursor->done) {
        return 0;
    }
    cursor_place(tree, cursor, record_count_max);
    cursor->leaf_stamp = UINT64_MAX; // not kept here
    while (count < record_count_max) {
        const struct torc_leaf *leaf = torc_tree_leaf(tree, cursor->path.nodes[0]);
        uint32_t some = leaf->count - cursor->place;

        if (some > 0) {
            // The last one alone tells whether all of them lie within the scan.
            tree->code->read(leaf, leaf->count - 1u, 1, cursor->reverse, pairs);
            cursor->next = pairs[0].key + (cursor->reverse ? UINT64_MAX : 1);
            if (cursor_trim(cursor, pairs, 1) == 0) {
                tree->code->read(leaf, cursor->place, some, cursor->reverse, pairs);
                some = cursor_trim(cursor, pairs, some);
            }
            count += some;
        }
        if (cursor->done || !cursor_step(tree, cursor)) {
            break;
        }
    }
    return count;
}
