// Torc storage: leaves put back in order, a few at a time. See storage/tree.h.
//
// A pass has two parts. First it looks at every inner node of level 1: if its leaves lie one behind
// the other, their chunks are marked and stay as they are. Then the leaves of all others change
// places with what lies in unmarked chunks, which so fill from their beginning with leaves in order
// of keys. Changing places takes no memory: no node is taken or given.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"

// A leaf lies in order when it is at most so many nodes behind the one before it: between them lie
// inner nodes, or free ones.
#define GAP_MAX 4u
// Of a parent's leaves, one in so many may lie elsewhere: what a few splits leave behind is not
// worth moving all of them.
#define ODD_PART 8u
// Parents of fewer leaves keep no chunk for them.
#define KEEP_MIN 16u
// A pass begins when one in so many leaves was made, joined or moved since the last one began.
#define CHANGED_PART 16u
#define CHANGED_MIN  64u
// Chunks and parents looked at a call; a parent's list is about as much work as moving a leaf.
#define CHUNKS_SEEN_MAX 64u

uint64_t torc_tree_path_last(const struct torc_tree *tree, const struct torc_tree_path *path,
                             uint32_t level)
{
    for (level++; level < tree->levels; level++) {
        const struct torc_inner *inner = torc_tree_inner(tree, path->nodes[level]);

        if (path->indices[level] + 1u < inner->count) {
            return torc_inner_separator(inner, path->indices[level]) - 1;
        }
    }
    return UINT64_MAX;
}

static bool parent_in_order(const struct torc_inner *parent)
{
    const uint32_t *children = torc_inner_children(parent);
    uint32_t odd = 0;

    for (uint32_t i = 1; i < parent->count; i++) {
        odd += children[i] - children[i - 1] - 1u >= GAP_MAX;
    }
    return odd <= 1 + parent->count / ODD_PART;
}

// Marks the chunks in which most of the parent's leaves lie.
static void parent_keep(struct torc_tree *tree, const struct torc_inner *parent)
{
    const uint32_t *children = torc_inner_children(parent);
    uint32_t last = parent->count - 1u;
    uint32_t mark = tree->order.mark;

    torc_chunk_mark(&tree->chunks, children[0] / TORC_CHUNK_NODES, mark);
    torc_chunk_mark(&tree->chunks, children[last / 2] / TORC_CHUNK_NODES, mark);
    torc_chunk_mark(&tree->chunks, children[last] / TORC_CHUNK_NODES, mark);
}

static bool pass_begin(struct torc_tree *tree)
{
    struct torc_tree_order *order = &tree->order;

    if (tree->levels == 1 ||
        tree->shape_stamp - order->shape_stamp < CHANGED_MIN + tree->leaf_count / CHANGED_PART) {
        return false;
    }
    *order = (struct torc_tree_order){.shape_stamp = tree->shape_stamp,
                                      .mark = torc_chunk_mark_new(tree->chunks.pool),
                                      .chunk = TORC_CHUNK_NONE,
                                      .surveying = true};
    torc_chunk_look_begin(&tree->chunks);
    return true;
}

static void pass_end(struct torc_tree *tree)
{
    tree->order.mark = 0;
    tree->order.shape_stamp = tree->shape_stamp;
}

// Past `last`; false at the end of the keys, and then at their beginning.
static bool pass_on(struct torc_tree_order *order, uint64_t last)
{
    order->next = last + 1;
    return last != UINT64_MAX;
}

static void survey_step(struct torc_tree *tree)
{
    struct torc_tree_order *order = &tree->order;
    const struct torc_inner *parent;
    struct torc_tree_path path;

    torc_tree_path_find(tree, order->next, &path);
    parent = torc_tree_inner(tree, path.nodes[1]);
    if (parent->count >= KEEP_MIN && parent_in_order(parent)) {
        parent_keep(tree, parent);
    }
    order->surveying = pass_on(order, torc_tree_path_last(tree, &path, 1));
}

// A chunk to be filled. False when there is none: the pass is over.
static bool chunk_choose(struct torc_tree *tree)
{
    struct torc_tree_order *order = &tree->order;

    order->chunk = TORC_CHUNK_NONE;
    for (uint32_t i = 0; i < CHUNKS_SEEN_MAX; i++) {
        uint32_t chunk = torc_chunk_look(&tree->chunks);

        if (chunk == TORC_CHUNK_NONE) {
            return false;
        }
        if (torc_chunk_marked(&tree->chunks, chunk) != order->mark) {
            torc_chunk_mark(&tree->chunks, chunk, order->mark);
            order->chunk = chunk;
            order->given = tree->chunks.given;
            order->slot = 1;
            return true;
        }
    }
    return true; // goes on looking in the next step
}

// The next place of the chunk that holds a leaf; TORC_NODE_NONE when it has no more.
static uint32_t place_next(struct torc_tree *tree)
{
    struct torc_tree_order *order = &tree->order;

    // A chunk that was given back may be another tree's now, or a guide's, which has no header.
    if (order->chunk == TORC_CHUNK_NONE || order->given != tree->chunks.given) {
        return TORC_NODE_NONE;
    }
    for (;;) {
        uint32_t slot = torc_chunk_taken_next(&tree->chunks, order->chunk, order->slot);
        uint32_t node = order->chunk * TORC_CHUNK_NODES + slot;

        order->slot = slot + 1;
        if (slot == TORC_CHUNK_NODES) {
            return TORC_NODE_NONE;
        }
        if (torc_tree_leaf(tree, node)->level == 0) {
            return node;
        }
    }
}

// Copies a leaf, and puts its slots in order too: a scan then reads its records forward.
static void leaf_move(struct torc_leaf *to, const struct torc_leaf *from)
{
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX];
    struct torc_leaf_plan plan;

    memcpy(to, from, TORC_NODE_BYTES);
    if (from->in_order == 0) {
        (void)torc_leaf_decode(from, pairs);
        torc_leaf_plan(&plan, pairs, from->count);
        torc_leaf_encode(to, &plan, pairs, from->count);
    }
}

// The leaf at the end of `path` and the one in `place` change places.
static void leaf_swap(struct torc_tree *tree, const struct torc_tree_path *path, uint32_t place)
{
    struct torc_leaf *here = torc_tree_leaf(tree, path->nodes[0]);
    struct torc_leaf *there = torc_tree_leaf(tree, place);
    struct torc_tree_pair first;
    struct torc_tree_pair mine;
    struct torc_tree_path other;
    struct torc_tree_copy copy;

    torc_leaf_get(here, 0, &mine);
    torc_leaf_get(there, 0, &first);
    torc_tree_path_find(tree, first.key, &other);
    torc_assert(other.nodes[0] == place);
    memcpy(copy.bytes, there, sizeof(copy.bytes));
    leaf_move(there, here);
    memcpy(here, copy.bytes, sizeof(copy.bytes));
    torc_inner_child_set(torc_tree_inner(tree, path->nodes[1]), path->indices[1], place);
    torc_inner_child_set(torc_tree_inner(tree, other.nodes[1]), other.indices[1], path->nodes[0]);
    torc_tree_guide_renamed(tree, mine.key, path->nodes[0], TORC_NODE_NONE); // may be neighbours
    torc_tree_guide_renamed(tree, first.key, place, path->nodes[0]);
    torc_tree_guide_renamed(tree, mine.key, TORC_NODE_NONE, place);
    tree->change_stamp++;
    tree->shape_stamp++;
}

// Asks for the next leaf of the parent and for what lies in the place after.
static void move_prefetch(const struct torc_tree *tree, const struct torc_tree_path *path,
                          uint32_t place)
{
    const struct torc_inner *parent = torc_tree_inner(tree, path->nodes[1]);

    if (path->indices[1] + 1u < parent->count) {
        torc_tree_node_prefetch(tree, torc_inner_children(parent)[path->indices[1] + 1]);
    }
    if ((place + 1) % TORC_CHUNK_NODES != 0) {
        torc_tree_node_prefetch(tree, place + 1);
    }
}

// Moves one leaf, or passes over a parent in order; false when the pass is over.
static bool move_step(struct torc_tree *tree)
{
    struct torc_tree_order *order = &tree->order;
    struct torc_tree_path path;
    uint32_t place;

    torc_tree_path_find(tree, order->next, &path);
    if (!order->moving) {
        uint64_t last = torc_tree_path_last(tree, &path, 1);

        if (parent_in_order(torc_tree_inner(tree, path.nodes[1]))) {
            return pass_on(order, last);
        }
        order->moving = true;
        order->until = last;
    }
    place = place_next(tree);
    if (place == TORC_NODE_NONE) {
        return chunk_choose(tree);
    }
    move_prefetch(tree, &path, place);
    if (place != path.nodes[0]) {
        leaf_swap(tree, &path, place);
    }
    order->moving = torc_tree_path_last(tree, &path, 0) < order->until;
    return pass_on(order, torc_tree_path_last(tree, &path, 0));
}

bool torc_tree_order(struct torc_tree *tree, uint32_t leaf_count_max)
{
    struct torc_tree_order *order = &tree->order;

    torc_tree_guide_go_on(tree, leaf_count_max);
    if (order->mark == 0 && !pass_begin(tree)) {
        return tree->guide.due == 0;
    }
    for (uint32_t i = 0; i < leaf_count_max; i++) {
        if (tree->levels == 1) {
            pass_end(tree);
            return false;
        }
        if (order->surveying) {
            survey_step(tree);
        } else if (!move_step(tree)) {
            pass_end(tree);
            return false;
        }
    }
    return true;
}
