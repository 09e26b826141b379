// Torc storage: room in a full leaf, without writing it anew. See storage/tree_impl.h.
//
// Random inserts fill leaves to the brim, so this is the usual way of a split: records move as they
// are, some bytes each. What it does not take (values of several lengths, widths that would change,
// keys that fall) torc_tree_leaf_rewrite does.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"

// A leaf spreads over a neighbour that is no fuller than this, of its capacity: below, a split
// would follow too soon.
#define SHARE_NUM 3u
#define SHARE_DEN 4u
#define SHARE_FEW 20u // of few records each is a large part of a leaf: any room is taken
#define COUNT_MIN 4u  // records, so that there is something to choose from

static uint32_t bytes_of(uint64_t number)
{
    return number == 0 ? 0 : (64 - (uint32_t)__builtin_clzll(number) + 7) / 8;
}

static uint64_t key_at(const struct torc_leaf *leaf, uint32_t index)
{
    struct torc_tree_pair pair;

    torc_leaf_get(leaf, index, &pair);
    return pair.key;
}

// Near `cut`, the place with the shortest separator, see cut_short.
static uint32_t cut_near(const struct torc_leaf *leaf, uint32_t cut, uint64_t *separator)
{
    uint32_t near = leaf->count / TORC_TREE_CUT_NEAR;
    uint32_t from = cut > near ? cut - near : 1;
    uint32_t to = cut + near < leaf->count ? cut + near : leaf->count - 1u;
    uint64_t left = key_at(leaf, from - 1);
    uint32_t best = from;

    *separator = 0;
    for (uint32_t at = from; at <= to; at++) {
        uint64_t right = key_at(leaf, at);
        uint64_t between = torc_tree_separator(left, right);

        if (*separator == 0 || __builtin_ctzll(between) > __builtin_ctzll(*separator)) {
            *separator = between;
            best = at;
        }
        left = right;
    }
    return best;
}

// Into the leaf that the separator leaves it to, where the place in it is known.
static void put_beside(struct torc_leaf *left, struct torc_leaf *right, uint64_t separator,
                       uint32_t index, const struct torc_tree_pair *pair)
{
    bool to_right = pair->key >= separator;
    bool done = to_right ? torc_leaf_insert(right, index - left->count, pair)
                         : torc_leaf_insert(left, index, pair);

    torc_assert(done);
    left->stamp = torc_max_u64(left->stamp, right->stamp);
    right->stamp = left->stamp;
}

// The row of keys that rises goes on in a new leaf.
static void leaf_begin(struct torc_tree *tree, struct torc_leaf *leaf,
                       const struct torc_tree_pair *pair)
{
    uint32_t node = torc_tree_node_of(tree, leaf);
    uint32_t right_node = torc_tree_node_take(tree, 0, node);
    struct torc_leaf *right = torc_tree_leaf(tree, right_node);
    uint64_t separator = torc_tree_separator(key_at(leaf, leaf->count - 1u), pair->key);
    bool tail = tree->tail_stamp == tree->shape_stamp && tree->tail == node;
    bool done;

    torc_leaf_format_like(right, leaf, pair->key, pair->version);
    right->run = leaf->run;
    done = torc_leaf_insert(right, 0, pair);
    torc_assert(done);
    torc_tree_link(tree, 1, separator, right_node);
    torc_tree_moved(tree, node, node);
    if (tail) {
        tree->tail = right_node;
        tree->tail_first = separator;
        tree->tail_stamp = tree->shape_stamp;
    }
}

// Would its records, cut in two, need narrower fields? Then it is worth writing them anew.
static bool too_wide(const struct torc_leaf *leaf, uint32_t cut)
{
    uint64_t middle = key_at(leaf, cut);
    uint64_t span = torc_max_u64(middle - key_at(leaf, 0), key_at(leaf, leaf->count - 1u) - middle);
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;

    for (uint32_t i = 0; i < leaf->count; i++) {
        struct torc_tree_pair pair;

        torc_leaf_get(leaf, i, &pair);
        least = torc_min_u64(least, pair.version);
        most = torc_max_u64(most, pair.version);
    }
    return bytes_of(span) < leaf->low_bytes + (leaf->low_bytes > 0 ? 2u : 0u) ||
           bytes_of(most - least) < leaf->version_bytes;
}

static bool leaf_halve(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                       const struct torc_tree_pair *pair)
{
    uint32_t node = torc_tree_node_of(tree, leaf);
    struct torc_leaf *right;
    uint64_t separator;
    uint32_t right_node;
    uint32_t cut = cut_near(leaf, leaf->count / 2u, &separator);

    if (too_wide(leaf, cut)) {
        return false;
    }
    right_node = torc_tree_node_take(tree, 0, node);
    right = torc_tree_leaf(tree, right_node);
    torc_leaf_format_like(right, leaf, leaf->key_base, leaf->version_base);
    torc_leaf_move(leaf, right, cut, leaf->count - cut);
    put_beside(leaf, right, separator, index, pair);
    torc_tree_link(tree, 1, separator, right_node);
    torc_tree_moved(tree, node, node);
    return true;
}

// Can the neighbour take records [first, first + count) of the leaf, and the new one if it comes
// to it?
static bool spread_takes(const struct torc_leaf *leaf, struct torc_leaf *other, uint32_t first,
                         uint32_t count, const struct torc_tree_pair *pair, bool too)
{
    uint64_t least = torc_min_u64(key_at(leaf, first), key_at(other, 0));
    uint64_t most = torc_max_u64(key_at(leaf, first + count - 1), key_at(other, other->count - 1u));

    if (too) {
        least = torc_min_u64(least, pair->key);
        most = torc_max_u64(most, pair->key);
    }
    return other->count + count < other->capacity && torc_leaf_reach(other, least, most) &&
           (!too || torc_leaf_holds(other, pair->key, pair->version)) &&
           torc_leaf_movable(leaf, other, first, count);
}

// Moves records to the neighbour on the left or the right, child `beside` of `parent`.
static bool leaf_spread(struct torc_tree *tree, struct torc_inner *parent, uint32_t child,
                        uint32_t beside, uint32_t index, const struct torc_tree_pair *pair)
{
    const uint32_t *children = torc_inner_children(parent);
    struct torc_leaf *leaf = torc_tree_leaf(tree, children[child]);
    struct torc_leaf *other = torc_tree_leaf(tree, children[beside]);
    bool to_left = beside < child;
    uint32_t some = ((uint32_t)leaf->count - other->count + 1) / 2;
    uint64_t old = torc_inner_separator(parent, to_left ? beside : child);
    uint64_t separator;
    uint32_t cut = cut_near(leaf, to_left ? some : leaf->count - some, &separator);
    uint32_t first = to_left ? 0 : cut;
    uint32_t count = to_left ? cut : leaf->count - cut;

    if (!spread_takes(leaf, other, first, count, pair, to_left == (pair->key < separator)) ||
        !torc_inner_move(parent, to_left ? beside : child, separator)) {
        return false;
    }
    torc_leaf_move(leaf, other, first, count);
    torc_tree_guide_moved(tree, torc_tree_node_of(tree, to_left ? other : leaf),
                          torc_tree_node_of(tree, to_left ? leaf : other), old, separator);
    if (to_left) {
        put_beside(other, leaf, separator, index + other->count - count, pair);
    } else {
        put_beside(leaf, other, separator, index, pair);
    }
    tree->shape_stamp++;
    // Not by `children`: the parent may have been written anew.
    torc_tree_moved(tree, torc_tree_node_of(tree, leaf), torc_tree_node_of(tree, other));
    return true;
}

// The emptier of its neighbours under the same parent, if that is empty enough; else itself.
static uint32_t neighbour_of(const struct torc_tree *tree, const struct torc_inner *parent,
                             uint32_t child)
{
    const uint32_t *children = torc_inner_children(parent);
    const struct torc_leaf *leaf = torc_tree_leaf(tree, children[child]);
    uint32_t least =
        leaf->capacity < SHARE_FEW ? leaf->capacity : leaf->capacity * SHARE_NUM / SHARE_DEN + 1u;
    uint32_t best = child;

    if (child > 0 && torc_tree_leaf(tree, children[child - 1])->count < least) {
        best = child - 1;
        least = torc_tree_leaf(tree, children[best])->count;
    }
    if (child + 1u < parent->count && torc_tree_leaf(tree, children[child + 1])->count < least) {
        best = child + 1;
    }
    return best;
}

bool torc_tree_leaf_relieve(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                            const struct torc_tree_pair *pair)
{
    struct torc_tree_path path;
    struct torc_inner *parent;
    uint32_t beside;

    if (leaf->form == TORC_LEAF_VARIED || leaf->form != pair->value_bytes ||
        leaf->count != leaf->capacity || leaf->count < COUNT_MIN ||
        !torc_leaf_holds(leaf, pair->key, pair->version) ||
        (index == 0 && leaf->run <= -TORC_TREE_RUN_MIN)) {
        return false;
    }
    if (index == leaf->count && leaf->run >= TORC_TREE_RUN_MIN) {
        leaf_begin(tree, leaf, pair);
        return true;
    }
    if (tree->levels > 1) {
        torc_tree_path_find(tree, pair->key, &path);
        parent = torc_tree_inner(tree, path.nodes[1]);
        beside = neighbour_of(tree, parent, path.indices[1]);
        if (beside != path.indices[1]) {
            return leaf_spread(tree, parent, path.indices[1], beside, index, pair);
        }
    }
    return leaf_halve(tree, leaf, index, pair);
}
