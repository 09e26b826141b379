// Torc storage: leaves written anew: split, spread over a neighbour, joined. See storage/tree.h.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"

// Leaves are joined when they would be no fuller than this: room for what comes next.
#define JOIN_BYTES_MAX (TORC_LEAF_SPACE_BYTES * 3 / 4)
// A leaf with less in it looks for a neighbour to join.
#define SMALL_BYTES (TORC_LEAF_SPACE_BYTES / 4)
// A leaf that is full spreads over a neighbour with no more than this in it.
#define SHARE_BYTES_MAX (TORC_LEAF_SPACE_BYTES * 7 / 8)
// All records of a leaf and one more; they point into the copy.
struct rewrite {
    struct torc_tree_copy copy;
    uint32_t count;
    uint32_t index;    // of the new record
    bool at_the_end;   // keys rise: leave the leaf full
    bool at_the_front; // keys fall
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX + 1];
};

static void leaf_encode(struct torc_leaf *leaf, const struct torc_tree_pair *pairs, uint32_t count)
{
    struct torc_leaf_plan plan;

    torc_leaf_plan(&plan, pairs, count);
    torc_leaf_encode(leaf, &plan, pairs, count);
}

// A new leaf, linked behind the one with the pair before pairs[at]; to be filled.
static struct torc_leaf *leaf_link(struct torc_tree *tree, const struct torc_leaf *left,
                                   const struct rewrite *rewrite, uint32_t at)
{
    uint32_t near = torc_tree_node_of(tree, left);
    uint32_t node = torc_tree_node_take(tree, 0, near);
    struct torc_leaf *leaf = torc_tree_leaf(tree, node);

    torc_leaf_format(leaf);
    leaf->stamp = left->stamp;
    torc_tree_link(tree, 1, torc_tree_separator(rewrite->pairs[at - 1].key, rewrite->pairs[at].key),
                   node);
    torc_tree_moved(tree, near, near);
    return leaf;
}

// The same with pairs[at .. at + count).
static void leaf_add(struct torc_tree *tree, const struct torc_leaf *left,
                     const struct rewrite *rewrite, uint32_t at, uint32_t count)
{
    leaf_encode(leaf_link(tree, left, rewrite, at), rewrite->pairs + at, count);
}

// A row of keys that rises or falls has filled the leaf: it stays as it is, and the new record, the
// last or the first, begins another. `plan` is of all of them.
static bool leaf_start(struct torc_tree *tree, struct torc_leaf *leaf,
                       const struct rewrite *rewrite, const struct torc_leaf_plan *plan)
{
    uint32_t last = rewrite->count - 1;
    uint32_t index = rewrite->at_the_end ? last : 0;
    const struct torc_tree_pair *pair = &rewrite->pairs[index];
    struct torc_leaf_plan start;
    struct torc_leaf *right;

    torc_leaf_plan_start(&start, pair, plan, rewrite->at_the_end);
    if ((!rewrite->at_the_end && !rewrite->at_the_front) || !torc_leaf_fits(&start, 1)) {
        return false;
    }
    if (rewrite->at_the_end) {
        right = leaf_link(tree, leaf, rewrite, last);
        right->run = leaf->run;
        torc_leaf_encode(right, &start, pair, 1);
        return true;
    }
    right = leaf_link(tree, leaf, rewrite, 1);
    memcpy(right, rewrite->copy.bytes, sizeof(rewrite->copy.bytes));
    right->stamp = leaf->stamp;
    right->run = 0;
    torc_leaf_encode(leaf, &start, pair, 1);
    return true;
}

// About what a record takes, to cut by.
static uint32_t weight(const struct torc_tree_pair *pair)
{
    return 12 + (pair->value_bytes > TORC_TREE_INLINE_BYTES_MAX ? 16 : pair->value_bytes);
}

uint32_t torc_tree_cut_short(const struct torc_tree_pair *pairs, uint32_t count, uint32_t cut,
                             uint32_t least, uint32_t most)
{
    uint32_t near = count / TORC_TREE_CUT_NEAR;
    uint32_t from = cut > least + near ? cut - near : least;
    uint32_t to = most - cut > near ? cut + near : most;
    uint32_t best_bits = 0;
    uint32_t best = cut;

    for (uint32_t at = from; at <= to; at++) {
        uint64_t separator = torc_tree_separator(pairs[at - 1].key, pairs[at].key);
        uint32_t bits = (uint32_t)__builtin_ctzll(separator);

        if (bits > best_bits || (bits == best_bits && at == cut)) {
            best_bits = bits;
            best = at;
        }
    }
    return best;
}

// Where to cut a run of records that does not fit one leaf, so that both parts fit one each: about
// in the middle, by bytes. 0: there is no such place.
static uint32_t cut_in_two(const struct torc_tree_pair *pairs, uint32_t count)
{
    uint32_t most = torc_leaf_fill(pairs, count - 1);
    uint32_t least = count - torc_leaf_fill_back(pairs + 1, count - 1);
    uint64_t right = 0;
    uint64_t left = 0;
    uint32_t cut = 0;

    for (uint32_t i = 0; i < count; i++) {
        right += weight(&pairs[i]);
    }
    while (cut < count && left < right) {
        left += weight(&pairs[cut]);
        right -= weight(&pairs[cut++]);
    }
    cut = cut < least ? least : cut;
    cut = cut > most ? most : cut;
    return least <= most ? torc_tree_cut_short(pairs, count, cut, least, most) : 0;
}

// The records do not fit one leaf: over two or, seldom (a record that makes all others wider),
// three.
static void leaf_split(struct torc_tree *tree, struct torc_leaf *leaf,
                       const struct rewrite *rewrite)
{
    uint32_t count = rewrite->count;
    uint32_t cut = cut_in_two(rewrite->pairs, count);

    if (cut > 0) {
        leaf_encode(leaf, rewrite->pairs, cut);
        leaf_add(tree, leaf, rewrite, cut, count - cut);
        return;
    }
    // What was left of the new record fitted a leaf with what was right of it, so each fits alone.
    cut = rewrite->index;
    torc_assert(cut > 0);
    torc_assert(cut + 1 < count);
    leaf_encode(leaf, rewrite->pairs, cut);
    leaf_add(tree, leaf, rewrite, cut, 1);
    leaf_add(tree, leaf, rewrite, cut + 1, count - cut - 1);
}

// Two neighbours' records; those of one point into a copy, of the other into the rewrite's.
struct sharing {
    struct torc_tree_copy copy;
    uint32_t count;
    struct torc_tree_pair pairs[2 * TORC_LEAF_COUNT_MAX + 1];
};

// Spreads the leaf's records over it and its neighbour, children left_index and left_index + 1 of
// `parent`. False, and nothing has changed, when that does not go.
static bool leaf_share_with(struct torc_tree *tree, struct torc_inner *parent, uint32_t left_index,
                            const struct rewrite *rewrite, bool with_left)
{
    struct torc_leaf *left = torc_tree_leaf(tree, torc_inner_children(parent)[left_index]);
    struct torc_leaf *right = torc_tree_leaf(tree, torc_inner_children(parent)[left_index + 1]);
    const struct torc_leaf *neighbour = with_left ? left : right;
    struct sharing sharing;
    uint64_t old = torc_inner_separator(parent, left_index);
    uint32_t at = with_left ? 0 : rewrite->count;
    uint64_t separator;
    uint32_t cut;

    torc_tree_node_prefetch(tree, torc_inner_children(parent)[left_index + (with_left ? 0 : 1)]);
    sharing.count =
        torc_leaf_decode(torc_tree_copy_leaf(&sharing.copy, neighbour), sharing.pairs + at);
    memcpy(sharing.pairs + (with_left ? sharing.count : 0), rewrite->pairs,
           rewrite->count * sizeof(rewrite->pairs[0]));
    sharing.count += rewrite->count;
    cut = cut_in_two(sharing.pairs, sharing.count);
    if (cut == 0) {
        return false;
    }
    separator = torc_tree_separator(sharing.pairs[cut - 1].key, sharing.pairs[cut].key);
    if (!torc_inner_move(parent, left_index, separator)) {
        return false;
    }
    leaf_encode(left, sharing.pairs, cut);
    leaf_encode(right, sharing.pairs + cut, sharing.count - cut);
    left->stamp = torc_max_u64(left->stamp, right->stamp);
    right->stamp = left->stamp;
    tree->shape_stamp++;
    torc_tree_moved(tree, torc_tree_node_of(tree, left), torc_tree_node_of(tree, right));
    torc_tree_guide_moved(tree, torc_tree_node_of(tree, left), torc_tree_node_of(tree, right), old,
                          separator);
    return true;
}

// Before a leaf is split: its emptier neighbour under the same parent may have room to spare.
static bool leaf_share(struct torc_tree *tree, const struct rewrite *rewrite)
{
    struct torc_tree_path path;
    struct torc_inner *parent;
    const uint32_t *children;
    uint32_t left_bytes = TORC_NODE_BYTES;
    uint32_t right_bytes = TORC_NODE_BYTES;
    uint32_t index;

    if (tree->levels == 1) {
        return false;
    }
    torc_tree_path_find(tree, rewrite->pairs[rewrite->index].key, &path);
    parent = torc_tree_inner(tree, path.nodes[1]);
    children = torc_inner_children(parent);
    index = path.indices[1];
    if (index > 0) {
        left_bytes = torc_leaf_used_bytes(torc_tree_leaf(tree, children[index - 1]));
    }
    if (index + 1u < parent->count) {
        right_bytes = torc_leaf_used_bytes(torc_tree_leaf(tree, children[index + 1]));
    }
    if (left_bytes > SHARE_BYTES_MAX && right_bytes > SHARE_BYTES_MAX) {
        return false;
    }
    return left_bytes < right_bytes ? leaf_share_with(tree, parent, index - 1, rewrite, true)
                                    : leaf_share_with(tree, parent, index, rewrite, false);
}

// The slow way of a write: the leaf's records and `pair`, which replaces the one at `index` or
// comes before it, are written anew, into as many leaves as it takes.
void torc_tree_leaf_rewrite(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                            bool replace, const struct torc_tree_pair *pair)
{
    struct torc_leaf_plan plan;
    struct rewrite rewrite;
    uint32_t after;

    rewrite.count = torc_leaf_decode(torc_tree_copy_leaf(&rewrite.copy, leaf), rewrite.pairs);
    rewrite.index = index;
    rewrite.at_the_end = !replace && leaf->run >= TORC_TREE_RUN_MIN && index == rewrite.count;
    rewrite.at_the_front = !replace && leaf->run <= -TORC_TREE_RUN_MIN && index == 0;
    if (!replace) {
        after = rewrite.count++ - index;
        memmove(rewrite.pairs + index + 1, rewrite.pairs + index, after * sizeof(rewrite.pairs[0]));
    }
    rewrite.pairs[index] = *pair;
    torc_leaf_plan(&plan, rewrite.pairs, rewrite.count);
    if (torc_leaf_fits(&plan, rewrite.count)) {
        torc_leaf_encode(leaf, &plan, rewrite.pairs, rewrite.count);
    } else if (!leaf_start(tree, leaf, &rewrite, &plan) && !leaf_share(tree, &rewrite)) {
        leaf_split(tree, leaf, &rewrite);
    }
}

// Joins two neighbours, children index and index + 1 of path->nodes[1], when they need no more than
// `bytes_max` of one.
static bool leaf_join(struct torc_tree *tree, const struct torc_tree_path *path, uint32_t index,
                      uint32_t bytes_max)
{
    const uint32_t *children = torc_inner_children(torc_tree_inner(tree, path->nodes[1]));
    uint32_t right_node = children[index + 1];
    struct torc_leaf *left = torc_tree_leaf(tree, children[index]);
    const struct torc_leaf *right = torc_tree_leaf(tree, right_node);
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX];
    struct torc_leaf_plan plan;
    struct torc_tree_copy copy;
    uint32_t count = (uint32_t)left->count + right->count;

    if (count > TORC_LEAF_COUNT_MAX ||
        torc_leaf_used_bytes(left) + torc_leaf_used_bytes(right) > bytes_max) {
        return false;
    }
    count = torc_leaf_decode(torc_tree_copy_leaf(&copy, left), pairs);
    count += torc_leaf_decode(right, pairs + count);
    torc_leaf_plan(&plan, pairs, count);
    if (plan.bytes > bytes_max) {
        return false;
    }
    torc_tree_guide_renamed(tree, pairs[left->count].key, right_node,
                            torc_tree_node_of(tree, left));
    torc_leaf_encode(left, &plan, pairs, count);
    left->stamp = torc_max_u64(left->stamp, right->stamp);
    left->run = 0;
    torc_tree_node_give(tree, 0, right_node);
    torc_tree_unlink(tree, path, 1, index + 1);
    torc_tree_moved(tree, torc_tree_node_of(tree, left), right_node);
    return true;
}

// Two neighbours' records; those of the left one point into a copy, of the right one into another.
struct packing {
    struct torc_tree_copy left;
    struct torc_tree_copy right;
    uint32_t count;
    struct torc_tree_pair pairs[2 * TORC_LEAF_COUNT_MAX];
};

// How many of the records go to the left leaf; no more than it has: none move.
static uint32_t pack_cut(const struct packing *packing, uint32_t left_count)
{
    uint32_t count = packing->count;
    uint32_t fill = torc_leaf_fill(packing->pairs, count);
    uint32_t cut = fill * TORC_TREE_PACK_BYTES / TORC_LEAF_SPACE_BYTES;
    struct torc_leaf_plan plan;

    if (cut > left_count) {
        cut = torc_tree_cut_short(packing->pairs, count, cut, left_count + 1,
                                  fill < count ? fill : count - 1);
        torc_leaf_plan(&plan, packing->pairs + cut, count - cut);
        cut = torc_leaf_fits(&plan, count - cut) ? cut : left_count;
    }
    return cut;
}

bool torc_tree_leaf_pack(struct torc_tree *tree, const struct torc_tree_path *path)
{
    struct torc_inner *parent = torc_tree_inner(tree, path->nodes[1]);
    struct torc_leaf *left = torc_tree_leaf(tree, path->nodes[0]);
    uint32_t index = path->indices[1];
    struct packing packing;
    struct torc_leaf *right;
    uint64_t separator;
    uint64_t old;
    uint32_t cut;

    if (index + 1u >= parent->count || torc_leaf_used_bytes(left) >= TORC_TREE_PACK_BYTES) {
        return false;
    }
    if (leaf_join(tree, path, index, TORC_TREE_PACK_BYTES)) {
        tree->change_stamp++;
        return true;
    }
    right = torc_tree_leaf(tree, torc_inner_children(parent)[index + 1]);
    packing.count = torc_leaf_decode(torc_tree_copy_leaf(&packing.left, left), packing.pairs);
    packing.count +=
        torc_leaf_decode(torc_tree_copy_leaf(&packing.right, right), packing.pairs + packing.count);
    cut = pack_cut(&packing, left->count);
    if (cut <= left->count) {
        return false;
    }
    old = torc_inner_separator(parent, index);
    separator = torc_tree_separator(packing.pairs[cut - 1].key, packing.pairs[cut].key);
    if (!torc_inner_move(parent, index, separator)) {
        return false;
    }
    leaf_encode(left, packing.pairs, cut);
    leaf_encode(right, packing.pairs + cut, packing.count - cut);
    left->stamp = torc_max_u64(left->stamp, right->stamp);
    right->stamp = left->stamp;
    left->run = 0;
    right->run = 0;
    tree->change_stamp++;
    tree->shape_stamp++;
    torc_tree_moved(tree, torc_tree_node_of(tree, left), torc_tree_node_of(tree, right));
    torc_tree_guide_moved(tree, torc_tree_node_of(tree, left), torc_tree_node_of(tree, right), old,
                          separator);
    return false;
}

// A leaf that is about to go leaves its keys to one of its neighbours: T6.
static void leaf_bequeath(struct torc_tree *tree, const struct torc_tree_path *path, bool forward)
{
    struct torc_tree_path beside = *path;

    if (torc_tree_path_step(tree, &beside, forward)) {
        struct torc_leaf *heir = torc_tree_leaf(tree, beside.nodes[0]);

        heir->stamp = torc_max_u64(heir->stamp, torc_tree_leaf(tree, path->nodes[0])->stamp);
    }
}

// After a delete: an empty leaf goes, a small one is joined with a neighbour.
void torc_tree_leaf_shrunk(struct torc_tree *tree, const struct torc_leaf *leaf, uint64_t key)
{
    const struct torc_inner *parent;
    struct torc_tree_path path;
    uint32_t index;

    tree->removed_count++;
    if (tree->levels == 1 || (leaf->count > 0 && torc_leaf_used_bytes(leaf) >= SMALL_BYTES)) {
        return;
    }
    torc_tree_path_find(tree, key, &path);
    torc_assert(torc_tree_leaf(tree, path.nodes[0]) == leaf);
    parent = torc_tree_inner(tree, path.nodes[1]);
    index = path.indices[1];
    if (leaf->count == 0) {
        leaf_bequeath(tree, &path, false);
        leaf_bequeath(tree, &path, true);
        torc_tree_node_give(tree, 0, path.nodes[0]);
        torc_tree_unlink(tree, &path, 1, index);
        torc_tree_moved(tree, path.nodes[0], path.nodes[0]);
    } else if (index + 1 >= parent->count || !leaf_join(tree, &path, index, JOIN_BYTES_MAX)) {
        (void)(index > 0 &&
               leaf_join(tree, &path, index - 1, JOIN_BYTES_MAX)); // else it stays small
    }
}
