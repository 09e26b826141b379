// Torc storage: building the tree from records in order. See storage/tree.h.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"

void torc_tree_link_last(struct torc_tree *tree, uint64_t separator, uint32_t leaf)
{
    struct torc_tree_path path;

    if (tree->edge_stamp == tree->shape_stamp) {
        struct torc_inner *inner = torc_tree_inner(tree, tree->edge);
        uint32_t last = torc_inner_children(inner)[inner->count - 1];

        if (torc_inner_insert(inner, inner->count - 1u, separator, leaf)) {
            torc_tree_guide_split(tree, last, leaf, separator);
            tree->edge_stamp = ++tree->shape_stamp;
            return;
        }
    }
    torc_tree_link(tree, 1, separator, leaf);
    torc_tree_path_find(tree, UINT64_MAX, &path);
    tree->edge = path.nodes[1];
    tree->edge_stamp = tree->shape_stamp;
}

// A leaf written anew: its records, then as many of the caller's as fit.
struct tail {
    struct torc_tree_copy copy;
    uint32_t old_count; // from the leaf
    uint32_t count;
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX];
};

static void tail_load(struct tail *tail, const struct torc_leaf *leaf,
                      const struct torc_tree_pair *pairs, uint32_t count)
{
    uint32_t room;

    tail->old_count = torc_leaf_decode(torc_tree_copy_leaf(&tail->copy, leaf), tail->pairs);
    room = TORC_LEAF_COUNT_MAX - tail->old_count;
    room = count < room ? count : room;
    memcpy(tail->pairs + tail->old_count, pairs, room * sizeof(pairs[0]));
    tail->count = torc_leaf_fill(tail->pairs, tail->old_count + room);
}

// Gives the caller's large values blocks of their own; keeps only the records that got one.
static void tail_allocate(struct torc_tree *tree, struct tail *tail)
{
    for (uint32_t i = tail->old_count; i < tail->count; i++) {
        struct torc_tree_pair *pair = &tail->pairs[i];
        void *block;

        torc_assert(pair->value_bytes <= TORC_TREE_VALUE_BYTES_MAX);
        if (pair->value_bytes <= TORC_TREE_INLINE_BYTES_MAX) {
            continue;
        }
        block = torc_heap_alloc(tree->heap, pair->value_bytes);
        if (block == NULL) {
            tail->count = i;
            return;
        }
        memcpy(block, pair->value, pair->value_bytes);
        pair->value = block;
    }
}

// Puts what fits behind the leaf's records; how many. *heap_full: a large value found no memory.
static uint32_t leaf_append(struct torc_tree *tree, struct torc_leaf *leaf,
                            const struct torc_tree_pair *pairs, uint32_t count, bool *heap_full)
{
    struct torc_leaf_plan plan;
    struct tail tail;
    uint32_t fitting;

    tail_load(&tail, leaf, pairs, count);
    fitting = tail.count;
    tail_allocate(tree, &tail);
    *heap_full = tail.count < fitting;
    if (tail.count <= tail.old_count) {
        return 0;
    }
    torc_leaf_plan(&plan, tail.pairs, tail.count);
    torc_leaf_encode(leaf, &plan, tail.pairs, tail.count);
    return tail.count - tail.old_count;
}

// The same without writing the leaf anew, as long as that goes.
static uint32_t leaf_append_in_place(struct torc_leaf *leaf, const struct torc_tree_pair *pairs,
                                     uint32_t count)
{
    uint32_t done = 0;

    while (done < count && pairs[done].value_bytes <= TORC_TREE_INLINE_BYTES_MAX &&
           torc_leaf_insert(leaf, leaf->count, &pairs[done])) {
        done++;
    }
    return done;
}

static void count_in(struct torc_tree *tree, struct torc_leaf *leaf,
                     const struct torc_tree_pair *pairs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        torc_tree_count_in(tree, &pairs[i]);
        leaf->stamp = torc_max_u64(leaf->stamp, pairs[i].version);
    }
}

// Where the tree ends.
struct end {
    uint64_t last_key;
    uint32_t node; // the last leaf
    uint32_t like; // how many records went into it at once
};

// A new rightmost leaf with at least one record; how many, 0 when there is no memory.
static uint32_t leaf_start(struct torc_tree *tree, struct end *end,
                           const struct torc_tree_pair *pairs, uint32_t count)
{
    struct torc_leaf *leaf;
    uint32_t node;
    uint32_t done;
    bool heap_full;

    if (!torc_tree_ensure(tree, TORC_TREE_NODES_PER_WRITE)) {
        return 0;
    }
    node = torc_tree_node_take(tree, 0, end->node);
    leaf = torc_tree_leaf(tree, node);
    torc_tree_ahead_prefetch(leaf);
    torc_leaf_format(leaf);
    done = torc_leaf_build(leaf, pairs, count, end->like);
    if (done > 0) {
        tree->record_count += done;
        tree->value_bytes += (uint64_t)done * pairs[0].value_bytes;
        end->like = done;
    } else {
        torc_leaf_format(leaf);
        done = leaf_append(tree, leaf, pairs, count, &heap_full);
        count_in(tree, leaf, pairs, done);
    }
    if (done == 0) {
        torc_tree_node_give(tree, 0, node);
        return 0;
    }
    torc_tree_link_last(tree, torc_tree_separator(end->last_key, pairs[0].key), node);
    end->last_key = pairs[done - 1].key;
    end->node = node;
    return done;
}

// Puts what fits into the rightmost leaf there is.
static uint32_t leaf_go_on(struct torc_tree *tree, struct end *end,
                           const struct torc_tree_pair *pairs, uint32_t count, bool *heap_full)
{
    struct torc_tree_path path;
    struct torc_leaf *leaf;
    struct torc_tree_pair last = {0};
    uint32_t some;

    torc_tree_path_find(tree, UINT64_MAX, &path);
    leaf = torc_tree_leaf(tree, path.nodes[0]);
    if (leaf->count > 0) {
        torc_leaf_get(leaf, leaf->count - 1u, &last);
        torc_assert(last.key < pairs[0].key);
    }
    *end = (struct end){.last_key = last.key, .node = path.nodes[0]};
    some = leaf_append_in_place(leaf, pairs, count);
    if (some == 0) {
        some = leaf_append(tree, leaf, pairs, count, heap_full);
    }
    count_in(tree, leaf, pairs, some);
    return some;
}

// New leaves, as long as they get full at once; how many records.
static uint32_t leaves_start(struct torc_tree *tree, struct end *end,
                             const struct torc_tree_pair *pairs, uint32_t count)
{
    uint32_t done = 0;
    uint32_t some;

    do {
        torc_assert(done == 0 || end->last_key < pairs[done].key);
        some = leaf_start(tree, end, pairs + done, count - done);
        done += some;
    } while (some > 0 && done < count);
    return done;
}

enum torc_err torc_tree_append(struct torc_tree *tree, const struct torc_tree_pair *pairs,
                               uint32_t count, uint32_t *appended, struct torc_fail *why)
{
    uint32_t done = 0;

    tree->change_stamp++;
    while (done < count) {
        bool heap_full = false;
        struct end end;
        uint32_t some = leaf_go_on(tree, &end, pairs + done, count - done, &heap_full);

        if (some == 0 && !heap_full) {
            some = leaves_start(tree, &end, pairs + done, count - done);
        }
        done += some;
        if (some == 0) {
            *appended = done;
            return torc_tree_full(tree, pairs[done].value_bytes, why);
        }
    }
    *appended = done;
    return TORC_ERR_OK;
}
