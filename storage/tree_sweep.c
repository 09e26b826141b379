// Torc storage: the tree's sweep, which packs large values. See storage/tree.h.
#include "storage/tree_impl.h"

// Offers the large values of one leaf, from `index` on, to fuller slabs. Returns where it stopped:
// at the leaf's end, or once the sweep has moved `moved_bytes_max`.
static uint32_t leaf_sweep(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                           struct torc_tree_sweep *sweep, uint64_t moved_bytes_max)
{
    if (tree->large_count == 0 || moved_bytes_max == 0) {
        return leaf->count;
    }
    for (; index < leaf->count && sweep->moved_bytes < moved_bytes_max; index++) {
        struct torc_tree_pair pair;
        const void *block;

        torc_leaf_get(leaf, index, &pair);
        if (pair.value_bytes <= TORC_TREE_INLINE_BYTES_MAX) {
            continue;
        }
        block = torc_heap_move(tree->heap, pair.value, pair.value_bytes);
        if (block != NULL) {
            torc_leaf_repoint(leaf, index, block);
            sweep->moved_bytes += pair.value_bytes;
            tree->change_stamp++; // value pointers are stale; no record moved
        }
    }
    return index;
}

bool torc_tree_sweep(struct torc_tree *tree, struct torc_tree_sweep *sweep, uint32_t leaf_count_max,
                     uint64_t move_bytes_max)
{
    uint64_t moved_bytes_max = move_bytes_max > 0 ? sweep->moved_bytes + move_bytes_max : 0;
    struct torc_tree_path path;

    torc_tree_path_find(tree, sweep->next, &path);
    for (uint32_t leaves = 0; leaves < leaf_count_max;) {
        struct torc_leaf *leaf = torc_tree_leaf(tree, path.nodes[0]);
        struct torc_tree_pair last;
        bool found;
        uint32_t index = torc_leaf_find(leaf, tree->code, sweep->next, &found);

        if (index < leaf->count) {
            uint32_t stop = leaf_sweep(tree, leaf, index, sweep, moved_bytes_max);

            if (stop == index) {
                return true; // no more may be moved now
            }
            torc_leaf_get(leaf, stop - 1, &last);
            sweep->next = last.key + 1; // if it is 0, no leaf follows
            if (stop < leaf->count) {
                return true;
            }
            leaves++; // one that lies before `next` does not count: there is progress
            sweep->leaf_count++;
            sweep->used_bytes += TORC_LEAF_HEAD_BYTES + torc_leaf_used_bytes(leaf);
        }
        if (!torc_tree_path_step(tree, &path, true)) {
            sweep->next = 0;
            return false;
        }
    }
    return true;
}
