// Torc storage: writes to the tree. See storage/tree.h.
#include "storage/tree_guide.h"
#include "storage/tree_impl.h"
#include "storage/undo.h"

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

bool torc_tree_has_nodes(const struct torc_tree *tree, uint64_t upserts)
{
    const struct torc_chunk_set *set = &tree->chunks;
    uint64_t free_nodes =
        set->free_nodes + (uint64_t)torc_chunk_pool_free(set->pool) * TORC_CHUNK_USABLE;

    return free_nodes >=
           tree->promised_nodes + torc_tree_slack(tree) + upserts * TORC_TREE_NODES_PER_WRITE;
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

// A record that `version` replaces or deletes, before it is gone: it goes to the undo window, and a
// large value, unless the window took it, back to the heap.
static void count_out(struct torc_tree *tree, const struct torc_tree_pair *pair, uint64_t version)
{
    bool taken = tree->undo != NULL && torc_undo_keep(tree->undo, pair->key, version, pair);

    tree->record_count--;
    tree->value_bytes -= pair->value_bytes;
    if (pair->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        tree->large_count--;
        tree->large_bytes -= pair->value_bytes;
        if (!taken) {
            torc_heap_free(tree->heap, pair->value, pair->value_bytes);
        }
    }
}

// -- Writes --------------------------------------------------------------------------------------

static uint64_t key_last(const struct torc_leaf *leaf)
{
    struct torc_tree_pair pair = {.key = UINT64_MAX};

    if (leaf->count > 0) {
        torc_leaf_get(leaf, leaf->count - 1u, &pair);
    }
    return pair.key;
}

// A leaf, and whether it is the key's for sure: the guide may have led astray.
struct place {
    struct torc_leaf *leaf;
    bool guided;
};

// The key's index in its leaf, and the leaf for sure.
static uint32_t place_find(struct torc_tree *tree, struct place *place, uint64_t key, bool *found)
{
    struct torc_leaf *leaf = place->leaf;
    struct torc_tree_path path;
    uint32_t index = 0;

    *found = false;
    if (!place->guided || leaf->level == 0) {
        index = leaf->count;
        if (leaf->run <= 0 || key <= key_last(leaf)) { // else keys rise
            index = torc_leaf_find(leaf, tree->code, key, found);
        }
    }
    if (!place->guided || *found || (leaf->level == 0 && index > 0 && index < leaf->count)) {
        return index;
    }
    torc_tree_path_find(tree, key, &path);
    place->leaf = torc_tree_leaf(tree, path.nodes[0]);
    if (place->leaf != leaf) {
        index = torc_leaf_find(place->leaf, tree->code, key, found);
        torc_tree_guide_astray(tree);
    }
    return index;
}

// Replaces the key's record, if the leaf has one. It need not look at the order of keys, a line of
// memory that nobody has asked for.
static bool leaf_overwrite(struct torc_tree *tree, struct torc_leaf *leaf,
                           struct torc_tree_write *write, const struct torc_tree_pair *pair)
{
    uint32_t slot = torc_leaf_slot(leaf, tree->code, pair->key);
    struct torc_tree_pair old;

    if (slot == TORC_LEAF_SLOT_NONE) {
        return false;
    }
    torc_leaf_get_slot(leaf, slot, &old);
    leaf->stamp = torc_max_u64(leaf->stamp, pair->version);
    write->existed = true;
    write->old_version = old.version;
    count_out(tree, &old, pair->version);
    if (!torc_leaf_replace(leaf, slot, pair)) {
        bool found;
        uint32_t index = torc_leaf_find(leaf, tree->code, pair->key, &found);

        torc_tree_leaf_rewrite(tree, leaf, index, true, pair);
    }
    return true;
}

static void leaf_insert(struct torc_tree *tree, struct torc_leaf *leaf, uint32_t index,
                        const struct torc_tree_pair *pair)
{
    int8_t run = torc_tree_run_next(leaf->run, index, leaf->count);

    if (tree->undo != NULL) {
        torc_undo_keep(tree->undo, pair->key, pair->version, NULL);
    }
    leaf->run = run;
    leaf->stamp = torc_max_u64(leaf->stamp, pair->version);
    if (!torc_leaf_insert(leaf, index, pair) && !torc_tree_leaf_relieve(tree, leaf, index, pair)) {
        torc_tree_leaf_rewrite(tree, leaf, index, false, pair);
    }
}

static void leaf_put(struct torc_tree *tree, struct place *place, struct torc_tree_write *write,
                     const struct torc_tree_pair *pair)
{
    // The guide's node may be a leaf no more.
    bool done = place->leaf->level == 0 && leaf_overwrite(tree, place->leaf, write, pair);

    if (!done) {
        bool found;
        uint32_t index = place_find(tree, place, pair->key, &found);

        if (found) { // in another leaf, for the guide had led astray
            done = leaf_overwrite(tree, place->leaf, write, pair);
            torc_assert(done);
        } else {
            leaf_insert(tree, place->leaf, index, pair);
        }
    }
    torc_tree_count_in(tree, pair);
}

static void leaf_remove(struct torc_tree *tree, struct place *place, struct torc_tree_write *write)
{
    struct torc_tree_pair old;
    bool found;
    uint32_t index = place_find(tree, place, write->key, &found);
    struct torc_leaf *leaf = place->leaf;

    write->existed = found;
    if (!found) {
        return;
    }
    torc_leaf_get(leaf, index, &old);
    write->old_version = old.version;
    count_out(tree, &old, write->version);
    leaf->stamp = torc_max_u64(leaf->stamp, write->version);
    leaf->run = 0;
    torc_leaf_remove(leaf, index);
    torc_tree_leaf_shrunk(tree, leaf, write->key);
}

static void write_apply(struct torc_tree *tree, struct place *place, struct torc_tree_write *write)
{
    struct torc_tree_pair pair;

    write->err = TORC_ERR_OK;
    write->old_version = 0;
    write->existed = false;
    tree->change_stamp++;
    if (write->remove) {
        torc_tree_cancel(tree, &write->ticket);
        leaf_remove(tree, place, write);
    } else if (ticket_use(tree, write, &pair)) {
        leaf_put(tree, place, write, &pair);
    } else {
        write->err = TORC_ERR_NO_SPACE;
    }
}

// -- Batches -------------------------------------------------------------------------------------

// Where keys of the tree's end go, when they seem to rise: then nobody need descend.
static void tail_find(struct torc_tree *tree)
{
    struct torc_tree_path path;

    torc_tree_path_find(tree, UINT64_MAX, &path);
    tree->tail = path.nodes[0];
    tree->tail_first = 0;
    tree->tail_stamp = tree->shape_stamp;
    for (uint32_t level = 1; level < tree->levels; level++) {
        if (path.indices[level] > 0) {
            tree->tail_first = torc_inner_separator(torc_tree_inner(tree, path.nodes[level]),
                                                    path.indices[level] - 1u);
            return;
        }
    }
}

static bool in_tail(const struct torc_tree *tree, uint64_t key)
{
    return tree->tail_stamp == tree->shape_stamp && key >= tree->tail_first;
}

// How the leaves of a batch's keys were found.
struct located {
    uint32_t dense; // so many, from the first, rise so densely that writes go in a leaf at a time
    bool guided;    // the others' by the guide
};

// The leaves of all keys; keys that rise at the tree's end, or close together, need no descent.
static struct located batch_locate(struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                                   uint32_t *leaves)
{
    struct located located = {0};
    uint64_t least = UINT64_MAX;
    uint64_t last = 0;
    bool rising = count >= TORC_TREE_RISING_MIN;

    for (uint32_t i = 0; i < count; i++) {
        least = torc_min_u64(least, keys[i]);
        rising = rising && keys[i] >= last;
        last = keys[i];
    }
    if (tree->tail_stamp != tree->shape_stamp && least >= tree->tail_first) {
        tail_find(tree); // it was there, and may still be
    }
    if (in_tail(tree, least)) {
        for (uint32_t i = 0; i < count; i++) {
            leaves[i] = tree->tail;
        }
        located.dense = rising ? count : 0;
        return located;
    }
    if (rising) {
        located.dense = torc_tree_locate_rising(tree, keys, count, leaves);
    }
    if (located.dense < count) {
        located.guided = tree->code->locate(tree, keys + located.dense, count - located.dense,
                                            leaves + located.dense);
    }
    return located;
}

// After the shape changed: leaves whose records went elsewhere are looked for again, in time.
static void batch_forget(const struct torc_tree *tree, uint32_t *leaves, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (leaves[i] == tree->moved[0] || leaves[i] == tree->moved[1]) {
            leaves[i] = TORC_NODE_NONE;
        }
    }
}

// The first of the writes whose leaf is the same, together; how many.
static uint32_t row_apply(struct torc_tree *tree, const uint32_t *leaves,
                          struct torc_tree_write *writes, uint32_t count)
{
    uint32_t some = 1;

    while (some < count && leaves[some] == leaves[0] && writes[some].key > writes[some - 1].key) {
        some++;
    }
    return some == 1 ? 0
                     : torc_tree_write_leaf(tree, torc_tree_leaf(tree, leaves[0]), writes, some);
}

// Up to TORC_TREE_BATCH writes.
static uint32_t batch_apply(struct torc_tree *tree, struct torc_tree_write *writes, uint32_t count)
{
    uint64_t keys[TORC_TREE_BATCH];
    uint32_t leaves[TORC_TREE_BATCH];
    struct located located;
    uint32_t refused = 0;
    uint32_t from = 0; // the key that was located first
    uint32_t some;

    torc_assert(count > 0);
    torc_assert(count <= TORC_TREE_BATCH);
    torc_tree_guide_go_on(tree, TORC_GUIDE_STEP_LEAVES);
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = writes[i].key;
    }
    located = batch_locate(tree, keys, count, leaves);
    for (uint32_t i = 0; i < count; i += some) {
        uint64_t shape_stamp = tree->shape_stamp;
        bool dense;

        if (leaves[i] == TORC_NODE_NONE) {
            located = batch_locate(tree, &keys[i], count - i, &leaves[i]); // others lost theirs too
            from = i;
        }
        dense = i - from < located.dense;
        some = dense ? row_apply(tree, leaves + i, writes + i, from + located.dense - i) : 0;
        if (some == 0) {
            struct place place = {torc_tree_leaf(tree, leaves[i]), located.guided && !dense};

            write_apply(tree, &place, &writes[i]);
            refused += writes[i].err != TORC_ERR_OK;
            some = 1;
        }
        if (tree->shape_stamp != shape_stamp) {
            batch_forget(tree, leaves + i + some, count - i - some);
        }
    }
    return refused;
}

uint32_t torc_tree_write_batch(struct torc_tree *tree, struct torc_tree_write *writes,
                               uint32_t count)
{
    uint32_t refused = 0;
    uint32_t some;

    for (uint32_t at = 0; at < count; at += some) {
        some = torc_tree_write_rising(tree, writes + at, count - at);
        if (some == 0) {
            some = torc_tree_batch_next(count - at);
            refused += batch_apply(tree, writes + at, some);
        }
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
