// Torc storage: the tree's life, its reads and its upper levels. See storage/tree.h.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"

void torc_tree_path_find(const struct torc_tree *tree, uint64_t key, struct torc_tree_path *path)
{
    uint32_t node = tree->root;

    for (uint32_t level = tree->levels - 1; level > 0; level--) {
        const struct torc_inner *inner = torc_tree_inner(tree, node);
        uint32_t index = torc_inner_find(inner, tree->code, key);

        path->nodes[level] = node;
        path->indices[level] = (uint16_t)index;
        node = torc_inner_children(inner)[index];
    }
    path->nodes[0] = node;
    path->indices[0] = 0;
}

// -- Nodes ---------------------------------------------------------------------------------------

uint64_t torc_tree_slack(const struct torc_tree *tree)
{
    return 3u * (uint64_t)tree->upper_count + UINT64_C(2) * tree->levels + 4u;
}

uint64_t torc_tree_keep(const struct torc_tree *tree)
{
    return tree->promised_nodes + torc_tree_slack(tree) + TORC_TREE_NODES_PER_WRITE;
}

bool torc_tree_ensure(struct torc_tree *tree, uint32_t nodes)
{
    uint64_t wanted = tree->promised_nodes + torc_tree_slack(tree) + nodes;

    while (torc_unlikely(tree->chunks.free_nodes < wanted)) {
        if (!torc_chunk_set_grow(&tree->chunks) && !torc_tree_guide_drop(tree)) {
            return false;
        }
    }
    return true;
}

enum torc_err torc_tree_full(const struct torc_tree *tree, uint32_t value_bytes,
                             struct torc_fail *why)
{
    bool nodes_left = tree->chunks.free_nodes >= torc_tree_keep(tree);

    if (value_bytes > TORC_TREE_INLINE_BYTES_MAX && nodes_left) {
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "memory: value of %" PRIu32 " bytes, %" PRIu64 " of %" PRIu64
                         " bytes for large values are taken",
                         value_bytes, tree->heap->used_bytes, tree->heap->limit_bytes);
    }
    return torc_fail(why, TORC_ERR_NO_SPACE,
                     "memory: value of %" PRIu32 " bytes, all %" PRIu64
                     " bytes for records of this core are taken",
                     value_bytes, (uint64_t)tree->chunks.pool->chunk_count * TORC_CHUNK_BYTES);
}

uint32_t torc_tree_node_take(struct torc_tree *tree, uint32_t level, uint32_t near)
{
    tree->leaf_count += level == 0;
    tree->inner_count += level > 0;
    tree->upper_count += level > 1;
    return torc_chunk_node_take(&tree->chunks, near);
}

void torc_tree_node_give(struct torc_tree *tree, uint32_t level, uint32_t node)
{
    tree->leaf_count -= level == 0;
    tree->inner_count -= level > 0;
    tree->upper_count -= level > 1;
    if (level == 0) { // it is nobody's leaf, should the guide still say so
        torc_tree_leaf(tree, node)->level = TORC_TREE_LEVEL_FREE;
        torc_tree_guide_lost(tree);
    }
    torc_chunk_node_give(&tree->chunks, node, torc_tree_keep(tree));
}

// -- Upper levels --------------------------------------------------------------------------------

static void root_grow(struct torc_tree *tree, uint64_t separator, uint32_t child)
{
    struct torc_inner_list list = {
        .count = 2, .separators = {separator}, .children = {tree->root, child}};
    uint32_t root = torc_tree_node_take(tree, tree->levels, tree->root);

    torc_assert(tree->levels < TORC_TREE_LEVELS_MAX);
    torc_inner_encode(torc_tree_inner(tree, root), (uint8_t)tree->levels, &list, 0, 2);
    tree->root = root;
    tree->levels++;
}

static void list_insert(struct torc_inner_list *list, uint32_t index, uint64_t separator,
                        uint32_t child)
{
    uint32_t after = list->count - 1u - index;

    memmove(list->separators + index + 1, list->separators + index,
            after * sizeof(list->separators[0]));
    memmove(list->children + index + 2, list->children + index + 1,
            after * sizeof(list->children[0]));
    list->separators[index] = separator;
    list->children[index + 1] = child;
    list->count++;
}

// Where to cut a list that does not fit one node: in the middle, but for keys that rise leave the
// left one full.
static uint32_t list_cut(const struct torc_inner *inner, const struct torc_inner_list *list,
                         uint32_t index)
{
    bool rising = index + 2 == list->count && inner->count == inner->capacity;

    return rising ? list->count - 2 : list->count / 2;
}

void torc_tree_link(struct torc_tree *tree, uint32_t level, uint64_t separator, uint32_t child)
{
    struct torc_inner_list list;
    struct torc_tree_path path;
    bool leaf = level == 1;

    tree->shape_stamp++;
    if (leaf) {
        torc_tree_path_find(tree, separator, &path);
        torc_tree_guide_split(tree, path.nodes[0], child, separator);
    }
    for (; level < tree->levels; level++) {
        struct torc_inner *inner;
        uint32_t index;
        uint32_t right;
        uint32_t cut;

        if (!leaf) {
            torc_tree_path_find(tree, separator, &path);
        }
        leaf = false;
        inner = torc_tree_inner(tree, path.nodes[level]);
        index = path.indices[level];
        if (torc_inner_insert(inner, index, separator, child)) {
            return;
        }
        torc_inner_decode(inner, &list);
        list_insert(&list, index, separator, child);
        if (torc_inner_fits(&list, 0, list.count)) {
            torc_inner_encode(inner, (uint8_t)level, &list, 0, list.count);
            return;
        }
        cut = list_cut(inner, &list, index);
        right = torc_tree_node_take(tree, level, path.nodes[level]);
        torc_inner_encode(inner, (uint8_t)level, &list, 0, cut);
        torc_inner_encode(torc_tree_inner(tree, right), (uint8_t)level, &list, cut,
                          list.count - cut);
        separator = list.separators[cut - 1];
        child = right;
    }
    root_grow(tree, separator, child);
}

// Joins two neighbours of `level`, children index and index + 1 of `parent`, when they fit one
// node.
static bool inner_merge(struct torc_tree *tree, struct torc_inner *parent, uint32_t level,
                        uint32_t index)
{
    const uint32_t *children = torc_inner_children(parent);
    struct torc_inner *left = torc_tree_inner(tree, children[index]);
    struct torc_inner *right = torc_tree_inner(tree, children[index + 1]);
    uint32_t right_node = children[index + 1];
    struct torc_inner_list list;

    if (left->count + right->count > TORC_TREE_JOIN_MAX) {
        return false;
    }
    torc_inner_decode(left, &list);
    list.separators[list.count - 1] = torc_inner_separator(parent, index);
    for (uint32_t i = 0; i < right->count; i++) {
        list.children[list.count + i] = torc_inner_children(right)[i];
        if (i + 1 < right->count) {
            list.separators[list.count + i] = torc_inner_separator(right, i);
        }
    }
    list.count += right->count;
    if (!torc_inner_fits(&list, 0, list.count)) {
        return false;
    }
    torc_inner_encode(left, (uint8_t)level, &list, 0, list.count);
    torc_inner_remove(parent, index + 1);
    torc_tree_node_give(tree, level, right_node);
    return true;
}

void torc_tree_unlink(struct torc_tree *tree, const struct torc_tree_path *path, uint32_t level,
                      uint32_t index)
{
    tree->shape_stamp++;
    torc_inner_remove(torc_tree_inner(tree, path->nodes[level]), index);
    for (; level + 1 < tree->levels; level++) {
        struct torc_inner *inner = torc_tree_inner(tree, path->nodes[level]);
        struct torc_inner *parent = torc_tree_inner(tree, path->nodes[level + 1]);

        index = path->indices[level + 1];
        if (inner->count == 0) {
            torc_inner_remove(parent, index);
            torc_tree_node_give(tree, level, path->nodes[level]);
        } else if (inner->count >= inner->capacity / 4 ||
                   !((index + 1 < parent->count && inner_merge(tree, parent, level, index)) ||
                     (index > 0 && inner_merge(tree, parent, level, index - 1)))) {
            break;
        }
    }
    while (tree->levels > 1 && torc_tree_inner(tree, tree->root)->count == 1) {
        uint32_t root = tree->root;

        tree->root = torc_inner_children(torc_tree_inner(tree, root))[0];
        tree->levels--;
        torc_tree_node_give(tree, tree->levels, root);
    }
}

// -- Life ----------------------------------------------------------------------------------------

enum torc_err torc_tree_init(struct torc_tree *tree, const struct torc_tree_code *code,
                             struct torc_chunk_pool *pool, struct torc_heap *heap,
                             struct torc_fail *why)
{
    torc_assert(code != NULL);
    torc_assert(heap != NULL);
    *tree = (struct torc_tree){.code = code,
                               .heap = heap,
                               .levels = 1,
                               .change_stamp = pool->stamp + 1,
                               .shape_stamp = 1,
                               .guide = {.due = TORC_GUIDE_LEAVES_MIN}};
    torc_chunk_set_init(&tree->chunks, pool);
    if (!torc_chunk_set_grow(&tree->chunks)) {
        return torc_tree_full(tree, 0, why);
    }
    tree->root = torc_tree_node_take(tree, 0, TORC_NODE_NONE);
    torc_leaf_format(torc_tree_leaf(tree, tree->root));
    return TORC_ERR_OK;
}

static void leaf_free_large(struct torc_tree *tree, const struct torc_leaf *leaf)
{
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX];
    uint32_t count = torc_leaf_decode(leaf, pairs);

    for (uint32_t i = 0; i < count; i++) {
        if (pairs[i].value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
            torc_heap_free(tree->heap, pairs[i].value, pairs[i].value_bytes);
            tree->large_count--;
        }
    }
}

void torc_tree_drop(struct torc_tree *tree)
{
    struct torc_tree_path path;

    torc_assert(tree->promised_nodes == 0);
    torc_tree_path_find(tree, 0, &path);
    while (tree->large_count > 0) {
        leaf_free_large(tree, torc_tree_leaf(tree, path.nodes[0]));
        if (!torc_tree_path_step(tree, &path, true)) {
            break;
        }
    }
    torc_assert(tree->large_count == 0);
    tree->chunks.pool->stamp = torc_max_u64(tree->chunks.pool->stamp, tree->change_stamp);
    (void)torc_tree_guide_drop(tree);
    torc_chunk_set_drop(&tree->chunks);
    *tree = (struct torc_tree){0};
}

void torc_tree_clear(struct torc_tree *tree)
{
    const struct torc_tree_code *code = tree->code;
    struct torc_chunk_pool *pool = tree->chunks.pool;
    struct torc_heap *heap = tree->heap;
    uint64_t promised = tree->promised_nodes;
    enum torc_err err;
    bool has;

    tree->promised_nodes = 0;
    torc_tree_drop(tree);
    err = torc_tree_init(tree, code, pool, heap, NULL);
    torc_assert(err == TORC_ERR_OK);
    tree->promised_nodes = promised;
    has = torc_tree_ensure(tree, 0); // it had as many, and a slack no smaller (T5)
    torc_assert(has);
}

// -- Reads ---------------------------------------------------------------------------------------

bool torc_tree_lookup(const struct torc_tree *tree, uint64_t key, struct torc_tree_hit *hit)
{
    tree->code->lookup(tree, &key, 1, hit);
    return hit->found;
}

void torc_tree_lookup_batch(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                            struct torc_tree_hit *hits)
{
    uint32_t some;

    for (uint32_t at = 0; at < count; at += some) {
        some = torc_tree_batch_next(count - at);
        tree->code->lookup(tree, keys + at, some, hits + at);
    }
}
