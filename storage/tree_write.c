// Torc storage: writes to the tree. See storage/tree.h.
#include "storage/tree_impl.h"

// Leaves are joined when they would be no fuller than this: room for what comes next.
#define JOIN_BYTES_MAX (TORC_LEAF_SPACE_BYTES * 3 / 4)
// A leaf with less in it looks for a neighbour to join.
#define SMALL_BYTES (TORC_LEAF_SPACE_BYTES / 4)
// After so many inserts in a row at a leaf's end the keys are taken to rise (or to fall), and its
// split leaves it full. A bet: long enough not to be chance, short against a leaf.
#define RUN_MIN 6

// -- Promises ------------------------------------------------------------------------------------

enum torc_err torc_tree_reserve(struct torc_tree *tree, uint32_t value_bytes,
                                struct torc_tree_ticket *ticket, struct torc_fail *why)
{
    *ticket = (struct torc_tree_ticket){.bytes = value_bytes, .nodes = TORC_TREE_NODES_PER_WRITE};
    torc_assert(value_bytes <= TORC_TREE_VALUE_BYTES_MAX);
    if (!torc_tree_ensure(tree, TORC_TREE_NODES_PER_WRITE)) {
        *ticket = (struct torc_tree_ticket){0};
        return torc_tree_full(tree, 0, why);
    }
    if (value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        ticket->block = torc_heap_alloc(tree->heap, value_bytes);
        if (ticket->block == NULL) {
            *ticket = (struct torc_tree_ticket){0};
            return torc_tree_full(tree, value_bytes, why);
        }
    }
    tree->promised_nodes += TORC_TREE_NODES_PER_WRITE;
    return TORC_ERR_OK;
}

void torc_tree_cancel(struct torc_tree *tree, struct torc_tree_ticket *ticket)
{
    torc_assert(ticket->nodes <= tree->promised_nodes);
    if (ticket->block != NULL) {
        torc_heap_free(tree->heap, ticket->block, ticket->bytes);
    }
    tree->promised_nodes -= ticket->nodes;
    *ticket = (struct torc_tree_ticket){0};
}

// Turns a write into a record for which there is memory; false when there is none.
static bool ticket_use(struct torc_tree *tree, struct torc_tree_write *write,
                       struct torc_tree_pair *pair)
{
    struct torc_tree_ticket *ticket = &write->ticket;
    void *block = ticket->block;

    *pair = (struct torc_tree_pair){.key = write->key,
                                    .version = write->version,
                                    .value = write->value,
                                    .value_bytes = write->value_bytes};
    torc_assert(write->value_bytes <= TORC_TREE_VALUE_BYTES_MAX);
    torc_assert_implies(ticket->nodes > 0, ticket->bytes == write->value_bytes);
    if (ticket->nodes == 0 && !torc_tree_ensure(tree, TORC_TREE_NODES_PER_WRITE)) {
        return false;
    }
    if (write->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        if (block == NULL) {
            block = torc_heap_alloc(tree->heap, write->value_bytes);
        }
        if (block == NULL) {
            return false;
        }
        if (block != write->value) {
            memcpy(block, write->value, write->value_bytes);
        }
        pair->value = block;
    }
    tree->promised_nodes -= ticket->nodes;
    *ticket = (struct torc_tree_ticket){0};
    return true;
}

// -- Accounts ------------------------------------------------------------------------------------

void torc_tree_count_in(struct torc_tree *tree, const struct torc_tree_pair *pair)
{
    tree->record_count++;
    tree->value_bytes += pair->value_bytes;
    if (pair->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        tree->large_count++;
        tree->large_bytes += pair->value_bytes;
    }
}

// A record that is in no leaf any more; its large value goes.
static void count_out(struct torc_tree *tree, const struct torc_tree_pair *pair)
{
    tree->record_count--;
    tree->value_bytes -= pair->value_bytes;
    if (pair->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        tree->large_count--;
        tree->large_bytes -= pair->value_bytes;
        torc_heap_free(tree->heap, pair->value, pair->value_bytes);
    }
}

// -- Writing leaves anew -------------------------------------------------------------------------

// All records of a leaf and one more; they point into the copy.
struct rewrite {
    struct torc_tree_copy copy;
    uint32_t count;
    uint32_t index;    // of the new record
    bool at_the_end;   // keys rise: leave the left leaf full
    bool at_the_front; // keys fall
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX + 1];
};

static void leaf_encode(struct torc_leaf *leaf, const struct torc_tree_pair *pairs, uint32_t count)
{
    struct torc_leaf_plan plan;

    torc_leaf_plan(&plan, pairs, count);
    torc_leaf_encode(leaf, &plan, pairs, count);
}

// A new leaf for pairs[at .. at + count), linked behind the one with the pair before.
static void leaf_add(struct torc_tree *tree, const struct torc_leaf *left,
                     const struct rewrite *rewrite, uint32_t at, uint32_t count)
{
    uint32_t near = (uint32_t)(((const unsigned char *)left - tree->chunks.base) / TORC_NODE_BYTES);
    uint32_t node = torc_tree_node_take(tree, 0, near);
    struct torc_leaf *leaf = torc_tree_leaf(tree, node);

    torc_leaf_format(leaf);
    leaf->stamp = left->stamp;
    leaf_encode(leaf, rewrite->pairs + at, count);
    torc_tree_link(tree, 1, torc_tree_separator(rewrite->pairs[at - 1].key, rewrite->pairs[at].key),
                   node);
}

// Where to cut in two, at least one record on either side: [least, most] is what fits both.
static uint32_t rewrite_cut(const struct rewrite *rewrite, uint32_t least, uint32_t most)
{
    uint64_t bytes = 0;
    uint64_t half = 0;
    uint32_t cut;

    if (rewrite->at_the_end) {
        return most;
    }
    if (rewrite->at_the_front) {
        return least;
    }
    for (uint32_t i = 0; i < rewrite->count; i++) {
        half += 16 + torc_min_u64(rewrite->pairs[i].value_bytes, TORC_TREE_INLINE_BYTES_MAX);
    }
    half /= 2;
    for (cut = 0; cut < rewrite->count && bytes < half; cut++) {
        bytes += 16 + torc_min_u64(rewrite->pairs[cut].value_bytes, TORC_TREE_INLINE_BYTES_MAX);
    }
    return cut < least ? least : cut > most ? most : cut;
}

// The records do not fit one leaf: over two or, seldom (a record that makes all others wider),
// three.
static void leaf_split(struct torc_tree *tree, struct torc_leaf *leaf,
                       const struct rewrite *rewrite)
{
    uint32_t count = rewrite->count;
    uint32_t most = torc_leaf_fill(rewrite->pairs, count - 1);
    uint32_t least = count - torc_leaf_fill_back(rewrite->pairs + 1, count - 1);
    uint32_t cut;

    if (least <= most) {
        cut = rewrite_cut(rewrite, least, most);
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

// The slow way of a write: the leaf's records and `pair`, which replaces the one at `index` or
// comes before it, are written anew, into as many leaves as it takes.
static void leaf_rewrite(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                         bool replace, const struct torc_tree_pair *pair)
{
    struct torc_leaf_plan plan;
    struct rewrite rewrite;
    uint32_t after;

    rewrite.count = torc_leaf_decode(torc_tree_copy_leaf(&rewrite.copy, leaf), rewrite.pairs);
    rewrite.index = index;
    rewrite.at_the_end = !replace && leaf->run >= RUN_MIN && index == rewrite.count;
    rewrite.at_the_front = !replace && leaf->run <= -RUN_MIN && index == 0;
    if (!replace) {
        after = rewrite.count++ - index;
        memmove(rewrite.pairs + index + 1, rewrite.pairs + index, after * sizeof(rewrite.pairs[0]));
    }
    rewrite.pairs[index] = *pair;
    torc_leaf_plan(&plan, rewrite.pairs, rewrite.count);
    if (torc_leaf_fits(&plan, rewrite.count)) {
        torc_leaf_encode(leaf, &plan, rewrite.pairs, rewrite.count);
    } else {
        leaf_split(tree, leaf, &rewrite);
    }
}

// Joins two neighbours, children index and index + 1 of path->nodes[1], when there is room to
// spare.
static bool leaf_join(struct torc_tree *tree, const struct torc_tree_path *path, uint32_t index)
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
        torc_leaf_used_bytes(left) + torc_leaf_used_bytes(right) > JOIN_BYTES_MAX) {
        return false;
    }
    count = torc_leaf_decode(torc_tree_copy_leaf(&copy, left), pairs);
    count += torc_leaf_decode(right, pairs + count);
    torc_leaf_plan(&plan, pairs, count);
    if (plan.bytes > JOIN_BYTES_MAX) {
        return false;
    }
    torc_leaf_encode(left, &plan, pairs, count);
    left->stamp = torc_max_u64(left->stamp, right->stamp);
    left->run = 0;
    torc_tree_node_give(tree, 0, right_node);
    torc_tree_unlink(tree, path, 1, index + 1);
    return true;
}

// After a delete: an empty leaf goes, a small one is joined with a neighbour.
static void leaf_shrunk(struct torc_tree *tree, const struct torc_leaf *leaf, uint64_t key)
{
    const struct torc_inner *parent;
    struct torc_tree_path path;
    uint32_t index;

    if (tree->levels == 1 || (leaf->count > 0 && torc_leaf_used_bytes(leaf) >= SMALL_BYTES)) {
        return;
    }
    torc_tree_path_find(tree, key, &path);
    torc_assert(torc_tree_leaf(tree, path.nodes[0]) == leaf);
    parent = torc_tree_inner(tree, path.nodes[1]);
    index = path.indices[1];
    if (leaf->count == 0) {
        torc_tree_node_give(tree, 0, path.nodes[0]);
        torc_tree_unlink(tree, &path, 1, index);
    } else if (index + 1 >= parent->count || !leaf_join(tree, &path, index)) {
        (void)(index > 0 && leaf_join(tree, &path, index - 1)); // else it stays small
    }
}

// -- Writes --------------------------------------------------------------------------------------

// Counts inserts in a row at the end (up) or at the front (down).
static int8_t run_next(int8_t run, uint32_t index, uint32_t count_before)
{
    if (index == count_before) {
        return (int8_t)(run < 0 ? 1 : run < INT8_MAX ? run + 1 : run);
    }
    if (index == 0) {
        return (int8_t)(run > 0 ? -1 : run > -INT8_MAX ? run - 1 : run);
    }
    return 0;
}

static void leaf_put(struct torc_tree *tree, struct torc_leaf *leaf, struct torc_tree_write *write,
                     const struct torc_tree_pair *pair)
{
    struct torc_tree_pair old;
    bool found;
    uint32_t index = torc_leaf_find(leaf, tree->code, pair->key, &found);

    leaf->stamp = torc_max_u64(leaf->stamp, pair->version);
    write->existed = found;
    if (found) {
        torc_leaf_get(leaf, index, &old);
        write->old_version = old.version;
        count_out(tree, &old);
        if (!torc_leaf_replace(leaf, index, pair)) {
            leaf_rewrite(tree, leaf, index, true, pair);
        }
    } else {
        int8_t run = run_next(leaf->run, index, leaf->count);

        leaf->run = run;
        if (!torc_leaf_insert(leaf, index, pair)) {
            leaf_rewrite(tree, leaf, index, false, pair);
        }
    }
    torc_tree_count_in(tree, pair);
}

static void leaf_remove(struct torc_tree *tree, struct torc_leaf *leaf,
                        struct torc_tree_write *write)
{
    struct torc_tree_pair old;
    bool found;
    uint32_t index = torc_leaf_find(leaf, tree->code, write->key, &found);

    write->existed = found;
    if (!found) {
        return;
    }
    torc_leaf_get(leaf, index, &old);
    write->old_version = old.version;
    count_out(tree, &old);
    leaf->stamp = torc_max_u64(leaf->stamp, write->version);
    leaf->run = 0;
    torc_leaf_remove(leaf, index);
    leaf_shrunk(tree, leaf, write->key);
}

static void write_apply(struct torc_tree *tree, struct torc_leaf *leaf,
                        struct torc_tree_write *write)
{
    struct torc_tree_pair pair;

    write->err = TORC_ERR_OK;
    write->old_version = 0;
    write->existed = false;
    tree->change_stamp++;
    if (write->remove) {
        torc_tree_cancel(tree, &write->ticket);
        leaf_remove(tree, leaf, write);
    } else if (ticket_use(tree, write, &pair)) {
        leaf_put(tree, leaf, write, &pair);
    } else {
        write->err = TORC_ERR_NO_SPACE;
    }
}

// Up to TORC_TREE_BATCH writes.
static uint32_t batch_apply(struct torc_tree *tree, struct torc_tree_write *writes, uint32_t count)
{
    uint64_t keys[TORC_TREE_BATCH];
    uint32_t leaves[TORC_TREE_BATCH];
    uint64_t shape_stamp = tree->shape_stamp;
    uint32_t refused = 0;

    for (uint32_t i = 0; i < count; i++) {
        keys[i] = writes[i].key;
    }
    tree->code->locate(tree, keys, count, leaves);
    for (uint32_t i = 0; i < count; i++) {
        if (tree->shape_stamp != shape_stamp) { // a leaf was cut or joined: the cache has the way
            tree->code->locate(tree, &keys[i], 1, &leaves[i]);
        }
        write_apply(tree, torc_tree_leaf(tree, leaves[i]), &writes[i]);
        refused += writes[i].err != TORC_ERR_OK;
    }
    return refused;
}

uint32_t torc_tree_write_batch(struct torc_tree *tree, struct torc_tree_write *writes,
                               uint32_t count)
{
    uint32_t refused = 0;

    for (uint32_t at = 0; at < count; at += TORC_TREE_BATCH) {
        uint32_t some = count - at < TORC_TREE_BATCH ? count - at : TORC_TREE_BATCH;

        refused += batch_apply(tree, writes + at, some);
    }
    return refused;
}

enum torc_err torc_tree_write(struct torc_tree *tree, struct torc_tree_write *write,
                              struct torc_fail *why)
{
    if (batch_apply(tree, write, 1) > 0) {
        return torc_tree_full(tree, write->value_bytes, why);
    }
    return TORC_ERR_OK;
}
