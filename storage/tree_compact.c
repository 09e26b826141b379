// Torc storage: memory that deletes left scattered, given back a little at a time. See
// storage/tree.h.
//
// First a pass through the leaves, once enough records were deleted: deletes join leaves only when
// they are almost empty, so after many of them they are about half full. Parents whose records need
// fewer leaves have them filled, from the first to the last. Then, as long as more nodes are free
// than may be, one of the sparsest chunks is left: its nodes move to the fullest with room, their
// parents learn the new numbers, and the chunk is given back. Which nodes a chunk has is in its
// header; a node's parent is found by its first key.
#include "storage/tree_impl.h"

// A pass begins when one in so many records was deleted since the last one began.
#define REMOVED_PART 8u
#define REMOVED_MIN  64u
// Of a parent's leaves, one in so many must be won, or it is not worth writing them anew.
#define WON_PART 8u
// Leaves whose heads are looked at in one step: their lines are asked for together.
#define LOOKS_A_STEP 16u
// Nodes that may stay free: whole chunks, and a part of all nodes.
#define SPARE_CHUNKS 2u
#define SPARE_PART   16u

uint64_t torc_tree_spare_max(const struct torc_tree *tree)
{
    uint64_t nodes = (uint64_t)tree->chunks.chunk_count * TORC_CHUNK_USABLE;

    return (uint64_t)SPARE_CHUNKS * TORC_CHUNK_USABLE + nodes / SPARE_PART;
}

uint64_t torc_tree_spare(const struct torc_tree *tree)
{
    uint64_t keep = torc_tree_keep(tree);

    return tree->chunks.free_nodes > keep ? tree->chunks.free_nodes - keep : 0;
}

// -- Packing --------------------------------------------------------------------------------------

static bool pass_begin(struct torc_tree *tree)
{
    struct torc_tree_compact *compact = &tree->compact;

    if (tree->levels == 1 ||
        tree->removed_count - compact->removed < REMOVED_MIN + tree->record_count / REMOVED_PART) {
        return false;
    }
    compact->next = 0;
    compact->removed = tree->removed_count;
    compact->passing = true;
    compact->packing = false;
    return true;
}

// Past `last`; the pass is over at the end of the keys.
static void pass_on(struct torc_tree_compact *compact, uint64_t last)
{
    compact->next = last + 1;
    compact->passing = last != UINT64_MAX;
}

// Would the records of its leaves need few enough?
static bool parent_is_loose(const struct torc_tree *tree, const struct torc_inner *parent)
{
    const uint32_t *children = torc_inner_children(parent);
    uint64_t bytes = 0;
    uint64_t needed;

    for (uint32_t i = 0; i < parent->count; i++) {
        __builtin_prefetch(torc_tree_leaf(tree, children[i]));
    }
    for (uint32_t i = 0; i < parent->count; i++) {
        bytes += torc_leaf_used_bytes(torc_tree_leaf(tree, children[i]));
    }
    needed = (bytes + TORC_TREE_PACK_BYTES - 1) / TORC_TREE_PACK_BYTES;
    return needed + 1 + parent->count / WON_PART <= parent->count;
}

// Asks for the leaf that is packed next.
static void pack_prefetch(const struct torc_tree *tree, const struct torc_tree_path *path)
{
    const struct torc_inner *parent = torc_tree_inner(tree, path->nodes[1]);

    if (path->indices[1] + 2u < parent->count) {
        torc_tree_node_prefetch(tree, torc_inner_children(parent)[path->indices[1] + 2]);
    }
}

// Packs a leaf, or looks at a parent. Returns how many steps that was.
static uint32_t pack_step(struct torc_tree *tree)
{
    struct torc_tree_compact *compact = &tree->compact;
    const struct torc_inner *parent;
    struct torc_tree_path path;
    uint64_t last;

    if (tree->levels == 1) {
        compact->passing = false;
        return 1;
    }
    torc_tree_path_find(tree, compact->next, &path);
    if (!compact->packing) {
        parent = torc_tree_inner(tree, path.nodes[1]);
        last = torc_tree_path_last(tree, &path, 1);
        compact->packing = parent_is_loose(tree, parent);
        compact->until = last;
        if (!compact->packing) {
            pass_on(compact, last);
        }
        return 1 + parent->count / LOOKS_A_STEP;
    }
    pack_prefetch(tree, &path);
    if (!torc_tree_leaf_pack(tree, &path)) {
        torc_tree_path_find(tree, compact->next, &path);
        last = torc_tree_path_last(tree, &path, 0); // what was moved into it is packed as well
        compact->packing = last < compact->until;
        pass_on(compact, last);
    }
    return 1;
}

// -- Chunks ---------------------------------------------------------------------------------------

// Chooses a chunk to be left. False when none need be, or none can be.
static bool chunk_choose(struct torc_tree *tree)
{
    tree->compact.slot = 1;
    return torc_tree_spare(tree) > torc_tree_spare_max(tree) &&
           torc_chunk_leave(&tree->chunks) != TORC_CHUNK_NONE;
}

// Is there room elsewhere, and will the chunk be given back?
static bool chunk_can_go(const struct torc_tree *tree)
{
    uint32_t used = torc_chunk_used(&tree->chunks, tree->chunks.leaving);

    return torc_tree_spare(tree) >= TORC_CHUNK_USABLE &&
           tree->chunks.free_nodes - (TORC_CHUNK_USABLE - used) >= used;
}

// The way to a node of the tree: to a leaf below it, if it is an inner node.
static void path_to(const struct torc_tree *tree, uint32_t node, struct torc_tree_path *path)
{
    uint32_t level = torc_tree_leaf(tree, node)->level;
    struct torc_tree_pair first = {.key = 0};
    uint32_t leaf = node;

    for (uint32_t down = level; down > 0; down--) {
        leaf = torc_inner_children(torc_tree_inner(tree, leaf))[0];
    }
    if (torc_tree_leaf(tree, leaf)->count > 0) { // else it is the root
        torc_leaf_get(torc_tree_leaf(tree, leaf), 0, &first);
    }
    torc_tree_path_find(tree, first.key, path);
    torc_assert(path->nodes[level] == node);
}

// Moves a node to another chunk. All that knows its number is its parent.
static void node_move(struct torc_tree *tree, uint32_t node)
{
    uint32_t level = torc_tree_leaf(tree, node)->level;
    struct torc_tree_path path;
    uint32_t place;

    path_to(tree, node, &path);
    place = torc_tree_node_take(tree, level, TORC_NODE_NONE);
    torc_assert(place / TORC_CHUNK_NODES != node / TORC_CHUNK_NODES);
    memcpy(torc_tree_leaf(tree, place), torc_tree_leaf(tree, node), TORC_NODE_BYTES);
    if (level + 1 == tree->levels) {
        tree->root = place;
    } else {
        torc_inner_child_set(torc_tree_inner(tree, path.nodes[level + 1]), path.indices[level + 1],
                             place);
    }
    tree->change_stamp++;
    tree->shape_stamp++;
    tree->compact.moved_nodes++;
    torc_tree_node_give(tree, level, node);
}

// Moves the next node out of the chunk that is left. False when no chunk is left any more.
static bool chunk_step(struct torc_tree *tree)
{
    uint32_t chunk = tree->chunks.leaving;
    uint32_t slot;
    uint32_t next;

    if (!chunk_can_go(tree)) {
        torc_chunk_stay(&tree->chunks);
        return false;
    }
    slot = torc_chunk_taken_next(&tree->chunks, chunk, tree->compact.slot);
    if (slot == TORC_CHUNK_NODES) { // empty all along, or nodes were taken behind us
        if (!torc_chunk_give(&tree->chunks, chunk, torc_tree_keep(tree))) {
            torc_chunk_stay(&tree->chunks);
        }
        return true;
    }
    next = torc_chunk_taken_next(&tree->chunks, chunk, slot + 1);
    if (next < TORC_CHUNK_NODES) {
        torc_tree_node_prefetch(tree, chunk * TORC_CHUNK_NODES + next);
    }
    tree->compact.slot = slot + 1;
    node_move(tree, chunk * TORC_CHUNK_NODES + slot);
    return true;
}

bool torc_tree_compact(struct torc_tree *tree, uint32_t step_max)
{
    for (uint32_t steps = 0; steps < step_max;) {
        if (tree->compact.passing ||
            (tree->chunks.leaving == TORC_CHUNK_NONE && pass_begin(tree))) {
            steps += pack_step(tree);
        } else if (tree->chunks.leaving != TORC_CHUNK_NONE || chunk_choose(tree)) {
            steps += chunk_step(tree) ? 1 : step_max;
        } else {
            return false;
        }
    }
    return true;
}
