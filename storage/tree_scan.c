// Torc storage: scans. See storage/tree.h.
#include "storage/tree_impl.h"

// How far ahead leaves are asked for, along the parent's list of children. Measured with
// perf/tree-bench.
#define AHEAD_LEAVES 4u

static inline __attribute__((always_inline)) void leaf_prefetch(const struct torc_tree *tree,
                                                                const struct torc_tree_path *path,
                                                                bool forward, uint32_t ahead)
{
    const struct torc_inner *parent = torc_tree_inner(tree, path->nodes[1]);
    uint32_t index = path->indices[1];

    if (forward ? index + ahead < parent->count : index >= ahead) {
        index = forward ? index + ahead : index - ahead;
        torc_tree_node_prefetch(tree, torc_inner_children(parent)[index]);
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

// Finds the cursor's place anew when the tree has changed since. The place is how many records of
// the leaf lie before the next one in the scan's direction.
static void cursor_place(const struct torc_tree *tree, struct torc_tree_cursor *cursor)
{
    const struct torc_leaf *leaf;
    bool found;
    uint32_t index;

    if (cursor->change_stamp == tree->change_stamp) {
        return;
    }
    torc_tree_path_find(tree, cursor->next, &cursor->path);
    torc_tree_node_prefetch(tree, cursor->path.nodes[0]);
    for (uint32_t ahead = 1; tree->levels > 1 && ahead < AHEAD_LEAVES; ahead++) {
        leaf_prefetch(tree, &cursor->path, !cursor->reverse, ahead);
    }
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
    leaf_prefetch(tree, &cursor->path, !cursor->reverse, AHEAD_LEAVES - 1);
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
    cursor_place(tree, cursor);
    while (count < pair_count_max) {
        const struct torc_leaf *leaf = torc_tree_leaf(tree, cursor->path.nodes[0]);
        uint32_t some = leaf->count - cursor->place;

        some = some < pair_count_max - count ? some : pair_count_max - count;
        if (some > 0) {
            torc_leaf_read(leaf, cursor->place, some, cursor->reverse, pairs + count);
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
    cursor_place(tree, cursor);
    while (count < record_count_max) {
        const struct torc_leaf *leaf = torc_tree_leaf(tree, cursor->path.nodes[0]);
        uint32_t some = leaf->count - cursor->place;

        if (some > 0) {
            // The last one alone tells whether all of them lie within the scan.
            torc_leaf_read(leaf, leaf->count - 1u, 1, cursor->reverse, pairs);
            cursor->next = pairs[0].key + (cursor->reverse ? UINT64_MAX : 1);
            if (cursor_trim(cursor, pairs, 1) == 0) {
                torc_leaf_read(leaf, cursor->place, some, cursor->reverse, pairs);
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
