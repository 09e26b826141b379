// Torc tests: two trees that went the same way, byte by byte. See tree_world.h.
#include "tests/model/tree_world.h"

#include <string.h>

static const char *accounts_differ(const struct torc_tree *a, const struct torc_tree *b)
{
    if (a->record_count != b->record_count || a->value_bytes != b->value_bytes ||
        a->large_count != b->large_count || a->large_bytes != b->large_bytes) {
        return "two variants count records differently";
    }
    if (a->root != b->root || a->levels != b->levels || a->leaf_count != b->leaf_count ||
        a->inner_count != b->inner_count || a->upper_count != b->upper_count ||
        a->chunks.free_nodes != b->chunks.free_nodes ||
        a->chunks.chunk_count != b->chunks.chunk_count || a->promised_nodes != b->promised_nodes) {
        return "two variants have other nodes";
    }
    if (a->change_stamp != b->change_stamp || a->shape_stamp != b->shape_stamp ||
        memcmp(a->moved, b->moved, sizeof(a->moved)) != 0) {
        return "two variants stamp differently";
    }
    return NULL;
}

// Values that do not lie in the slots.
static bool cells_differ(const struct side *a, const struct torc_leaf *leaf_a, const struct side *b,
                         const struct torc_leaf *leaf_b)
{
    for (uint32_t i = 0; i < leaf_a->count; i++) {
        struct torc_tree_pair x;
        struct torc_tree_pair y;

        torc_leaf_get(leaf_a, i, &x);
        torc_leaf_get(leaf_b, i, &y);
        if (x.value_bytes != y.value_bytes) {
            return true;
        }
        if (x.value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
            if ((const unsigned char *)x.value - a->heap.base !=
                (const unsigned char *)y.value - b->heap.base) {
                return true;
            }
        } else if (x.value_bytes > 0 && memcmp(x.value, y.value, x.value_bytes) != 0) {
            return true;
        }
    }
    return false;
}

static bool leaves_differ(const struct side *a, const struct side *b, uint32_t node)
{
    const struct torc_leaf *x = torc_tree_leaf(&a->tree, node);
    const struct torc_leaf *y = torc_tree_leaf(&b->tree, node);

    return memcmp(x, y, TORC_LEAF_HEAD_BYTES) != 0 ||
           memcmp(x->hints, y->hints, x->count * sizeof(x->hints[0])) != 0 ||
           memcmp(torc_leaf_order(x), torc_leaf_order(y), x->count) != 0 ||
           memcmp(torc_leaf_record(x, 0), torc_leaf_record(y, 0), (size_t)x->count * x->stride) !=
               0 ||
           (x->form == TORC_LEAF_VARIED && cells_differ(a, x, b, y));
}

static bool inners_differ(const struct side *a, const struct side *b, uint32_t node)
{
    const struct torc_inner *x = torc_tree_inner(&a->tree, node);
    const struct torc_inner *y = torc_tree_inner(&b->tree, node);

    return memcmp(x, y, TORC_INNER_HEAD_BYTES) != 0 ||
           memcmp(x->bytes, y->bytes, (x->count - 1u) * (size_t)x->width) != 0 ||
           memcmp(torc_inner_children(x), torc_inner_children(y), x->count * sizeof(uint32_t)) != 0;
}

const char *sides_differ(const struct side *a, const struct side *b)
{
    const char *wrong = accounts_differ(&a->tree, &b->tree);
    struct torc_tree_path path;

    if (wrong != NULL) {
        return wrong;
    }
    // Node numbers are the same on both sides, and so is the way: an inner node is compared before
    // its children are.
    torc_tree_path_find(&a->tree, 0, &path);
    do {
        for (uint32_t level = 1; level < a->tree.levels && path.indices[level] == 0; level++) {
            if (inners_differ(a, b, path.nodes[level])) {
                return "two variants differ in an inner node's bytes";
            }
        }
        if (leaves_differ(a, b, path.nodes[0])) {
            return "two variants differ in a leaf's bytes";
        }
    } while (torc_tree_path_step(&a->tree, &path, true));
    return NULL;
}
