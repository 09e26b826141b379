// Torc storage: looking into the tree: its memory, and whether it is whole. See storage/tree.h.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"

void torc_tree_memory(const struct torc_tree *tree, struct torc_tree_memory *memory)
{
    struct torc_tree_path path;

    *memory = (struct torc_tree_memory){
        .chunk_bytes = (uint64_t)tree->chunks.chunk_count * TORC_CHUNK_BYTES,
        .leaf_bytes = (uint64_t)tree->leaf_count * TORC_NODE_BYTES,
        .inner_bytes = (uint64_t)tree->inner_count * TORC_NODE_BYTES,
        .free_bytes = tree->chunks.free_nodes * TORC_NODE_BYTES,
        .header_bytes = (uint64_t)tree->chunks.chunk_count * TORC_NODE_BYTES,
        .guide_bytes = (uint64_t)tree->guide.chunk_count * TORC_CHUNK_BYTES,
        .promised_bytes = tree->promised_nodes * TORC_NODE_BYTES,
        .large_bytes = tree->large_bytes,
        .large_count = tree->large_count};
    torc_tree_path_find(tree, 0, &path);
    do {
        memory->leaf_used_bytes +=
            TORC_LEAF_HEAD_BYTES + torc_leaf_used_bytes(torc_tree_leaf(tree, path.nodes[0]));
    } while (torc_tree_path_step(tree, &path, true));
}

// What the walk has seen so far.
struct walk {
    const struct torc_tree *tree;
    uint64_t record_count;
    uint64_t value_bytes;
    uint64_t large_count;
    uint64_t large_bytes;
    uint32_t leaf_count;
    uint32_t inner_count;
    uint32_t upper_count;
    // Bounds of the node at each level of the path: keys lie in [first, last].
    uint64_t first[TORC_TREE_LEVELS_MAX];
    uint64_t last[TORC_TREE_LEVELS_MAX];
};

static enum torc_err node_broken(uint32_t node, const char *text, struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_CORRUPT, "tree: node %" PRIu32 ": %s", node, text);
}

// A leaf by itself, and against the separators above it (T1, T2, T6).
static enum torc_err walk_leaf(struct walk *walk, uint32_t node, struct torc_fail *why)
{
    const struct torc_leaf *leaf = torc_tree_leaf(walk->tree, node);
    const char *wrong = torc_leaf_check(leaf);

    if (wrong != NULL) {
        return node_broken(node, wrong, why);
    }
    if (leaf->count == 0 && walk->tree->levels > 1) {
        return node_broken(node, "an empty leaf", why);
    }
    for (uint32_t i = 0; i < leaf->count; i++) {
        struct torc_tree_pair pair;

        torc_leaf_get(leaf, i, &pair);
        if (pair.key < walk->first[0] || pair.key > walk->last[0]) {
            return node_broken(node, "a key outside the separators above it", why);
        }
        walk->value_bytes += pair.value_bytes;
        if (pair.value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
            walk->large_count++;
            walk->large_bytes += pair.value_bytes;
        }
    }
    walk->record_count += leaf->count;
    walk->leaf_count++;
    return TORC_ERR_OK;
}

// An inner node by itself, and the bounds it gives its child `index`.
static enum torc_err walk_inner(struct walk *walk, uint32_t node, uint32_t level, uint32_t index,
                                struct torc_fail *why)
{
    const struct torc_inner *inner = torc_tree_inner(walk->tree, node);
    const char *wrong = inner->level == level ? torc_inner_check(inner) : "of a wrong level";

    if (wrong != NULL) {
        return node_broken(node, wrong, why);
    }
    if (node == walk->tree->root && inner->count < 2) {
        return node_broken(node, "a root with one child", why);
    }
    walk->first[level - 1] = walk->first[level];
    walk->last[level - 1] = walk->last[level];
    if (index > 0) {
        walk->first[level - 1] = torc_inner_separator(inner, index - 1);
    }
    if (index + 1 < inner->count) {
        walk->last[level - 1] = torc_inner_separator(inner, index) - 1;
    }
    if (walk->first[level - 1] < walk->first[level] || walk->last[level - 1] > walk->last[level] ||
        walk->first[level - 1] > walk->last[level - 1]) {
        return node_broken(node, "separators outside those above them", why);
    }
    walk->inner_count += index == 0;
    walk->upper_count += index == 0 && level > 1;
    return TORC_ERR_OK;
}

// From child `path->indices[level]` of `level` down to a leaf, by first children.
static enum torc_err walk_down(struct walk *walk, struct torc_tree_path *path, uint32_t level,
                               struct torc_fail *why)
{
    for (; level > 0; level--) {
        uint32_t index = path->indices[level];
        enum torc_err err = walk_inner(walk, path->nodes[level], level, index, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        path->nodes[level - 1] =
            torc_inner_children(torc_tree_inner(walk->tree, path->nodes[level]))[index];
        path->indices[level - 1] = 0;
    }
    return walk_leaf(walk, path->nodes[0], why);
}

static enum torc_err walk_all(struct walk *walk, struct torc_fail *why)
{
    uint32_t root_level = walk->tree->levels - 1;
    struct torc_tree_path path = {0};
    uint32_t level = root_level;

    path.nodes[root_level] = walk->tree->root;
    walk->first[root_level] = 0;
    walk->last[root_level] = UINT64_MAX;
    for (;;) {
        enum torc_err err = walk_down(walk, &path, level, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        for (level = 1; level <= root_level; level++) {
            if (path.indices[level] + 1u < torc_tree_inner(walk->tree, path.nodes[level])->count) {
                break;
            }
        }
        if (level > root_level) {
            return TORC_ERR_OK;
        }
        path.indices[level]++;
    }
}

// T3, T4, T5, T7: what was counted on the way against what was seen.
static const char *check_counts(const struct walk *walk)
{
    const struct torc_tree *tree = walk->tree;
    uint64_t nodes = (uint64_t)walk->leaf_count + walk->inner_count;

    if (walk->record_count != tree->record_count || walk->value_bytes != tree->value_bytes) {
        return "records or their bytes do not add up";
    }
    if (walk->large_count != tree->large_count || walk->large_bytes != tree->large_bytes) {
        return "large values do not add up";
    }
    if (walk->leaf_count != tree->leaf_count || walk->inner_count != tree->inner_count ||
        walk->upper_count != tree->upper_count) {
        return "nodes do not add up";
    }
    if (!torc_chunk_set_check(&tree->chunks)) {
        return "its chunks are broken";
    }
    if (nodes + tree->chunks.free_nodes != (uint64_t)tree->chunks.chunk_count * TORC_CHUNK_USABLE) {
        return "a node is neither free nor reachable";
    }
    if (tree->chunks.free_nodes < tree->promised_nodes) {
        return "fewer free nodes than were promised";
    }
    if (torc_guide_leads(tree) && tree->guide.exact && torc_tree_guide_wrong(tree) > 0) {
        return "the guide leads astray";
    }
    return NULL;
}

enum torc_err torc_tree_check(const struct torc_tree *tree, struct torc_fail *why)
{
    struct walk walk = {.tree = tree};
    enum torc_err err = walk_all(&walk, why);
    const char *wrong;

    if (err != TORC_ERR_OK) {
        return err;
    }
    wrong = check_counts(&walk);
    return wrong == NULL ? TORC_ERR_OK : torc_fail(why, TORC_ERR_CORRUPT, "tree: %s", wrong);
}
