// Torc storage: writes of a sorted batch, a leaf at a time. See storage/tree.h.
//
// Keys that rise and lie close need no descent of their own: the parent's separators tell where the
// next ones go. What the writes of one leaf have in common is then looked at once: replaced records
// are overwritten in place, new ones put behind all others, and the order is merged once. Where the
// new ones do not fit, leaf and writes are merged into as many leaves as it takes, at once. What is
// not as usual is left to storage/tree_write.c; and what is done here is what it would have done
// with one write after the other, but for where leaves are cut.
#include "storage/tree_impl.h"
#include "storage/undo.h"

// So few keys a leaf, and descending with all keys together is faster, for it asks for a few lines
// of each leaf instead of all.
#define DENSE_KEYS 2u
// So many keys of a leaf touch most of its lines.
#define MANY_KEYS   8u
#define LINE_BYTES  64u
#define FIRST_LINES 3u // head and hints: storage/tree_hot.h
// So many leaves are looked at before a batch counts as sparse.
#define LEAVES_MIN 4u
// Finding that out waits for memory: 3 ns a key when each sorted batch was looked at, and each was
// sparse.
#define SPARSE_BATCHES 7u
// So many writes that a leaf has no room for are worth a merge. Fewer, and its neighbour or a half
// of it may take them as they are.
#define MERGE_MIN 4u
// Merged leaves are about so full at the most, for what comes next.
#define MERGE_NUM 7u
#define MERGE_DEN 8u
#define PARTS_MAX 8u

// -- Where keys go -------------------------------------------------------------------------------

// Always inlined: gcc 12 drops calls of functions that only prefetch.
static inline __attribute__((always_inline)) void lines_prefetch(const struct torc_leaf *leaf,
                                                                 uint32_t from, uint32_t to)
{
    for (uint32_t line = from; line < to; line++) {
        __builtin_prefetch((const char *)leaf + (size_t)line * LINE_BYTES, 1);
    }
}

// Of one parent's leaves: how many keys have theirs now. `seen`: leaves, also those passed over.
static uint32_t parent_locate(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                              uint32_t *leaves, uint32_t *seen)
{
    const struct torc_inner *parent;
    struct torc_tree_path path;
    uint64_t parent_last;
    uint32_t before = *seen;
    uint32_t done = 0;

    torc_tree_path_find(tree, keys[0], &path);
    parent_last = torc_tree_path_last(tree, &path, 1);
    parent = torc_tree_inner(tree, path.nodes[1]);
    for (uint32_t index = path.indices[1]; done < count && keys[done] <= parent_last; index++) {
        uint32_t node = torc_inner_children(parent)[index];
        uint64_t last =
            index + 1u < parent->count ? torc_inner_separator(parent, index) - 1 : parent_last;

        ++*seen;
        if (keys[done] <= last) {
            lines_prefetch(torc_tree_leaf(tree, node), 0, FIRST_LINES);
        }
        for (; done < count && keys[done] <= last; done++) {
            leaves[done] = node;
        }
        if (*seen - before >= LEAVES_MIN && done < (*seen - before) * DENSE_KEYS) {
            return done;
        }
    }
    return done;
}

// Asks for what will change of each leaf, of which head and hints are on their way: all of it, when
// many records do or there may not be room.
static void leaves_touch(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                         const uint32_t *leaves)
{
    uint32_t some;

    for (uint32_t i = 0; i < count; i += some) {
        const struct torc_leaf *leaf = torc_tree_leaf(tree, leaves[i]);

        for (some = 1; i + some < count && leaves[i + some] == leaves[i]; some++) {
        }
        if (some >= MANY_KEYS || leaf->count + some > leaf->capacity) {
            lines_prefetch(leaf, FIRST_LINES, TORC_NODE_BYTES / LINE_BYTES);
        } else {
            tree->code->touch(tree, keys + i, some, leaves + i);
        }
    }
}

uint32_t torc_tree_locate_rising(struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                                 uint32_t *leaves)
{
    uint32_t seen = 0;
    uint32_t done = 0;

    if (tree->sparse > 0) {
        tree->sparse--;
        return 0;
    }

    while (done < count && tree->levels > 1) {
        done += parent_locate(tree, keys + done, count - done, leaves + done, &seen);
        if (done < seen * DENSE_KEYS) {
            break;
        }
    }
    if (done < seen * DENSE_KEYS) {
        tree->sparse = SPARSE_BATCHES;
        return 0;
    }
    leaves_touch(tree, keys, done, leaves);
    return done;
}

// -- In place ------------------------------------------------------------------------------------

// What the writes of one leaf add up to.
struct row {
    uint64_t stamp;
    uint64_t promised; // nodes, by their tickets
    uint32_t fresh;    // of new keys
    int8_t run;
    bool room; // there are nodes for writes without a ticket
    bool full; // the leaf has no room for the next one
    bool found[TORC_TREE_BATCH];
    uint8_t places[TORC_TREE_BATCH]; // in the order as it is
};

// May the write go into a leaf like this one, and not be refused?
static bool is_usual(const struct torc_leaf *leaf, const struct torc_tree_write *write, bool room)
{
    return !write->remove && write->value_bytes == leaf->form && (write->ticket.nodes > 0 || room);
}

// How many of the writes, from the first, the leaf takes as it is.
static uint32_t row_look(const struct torc_tree *tree, const struct torc_leaf *leaf,
                         const struct torc_tree_write *writes, uint32_t count, struct row *row)
{
    uint32_t i;

    row->stamp = leaf->stamp;
    row->run = leaf->run;
    for (i = 0; i < count; i++) {
        const struct torc_tree_write *write = &writes[i];
        uint32_t index;

        if (!is_usual(leaf, write, row->room)) {
            break;
        }
        if (!torc_leaf_holds(leaf, write->key, write->version)) {
            row->full = true;
            break;
        }
        index = torc_leaf_find(leaf, tree->code, write->key, &row->found[i]);
        row->places[i] = (uint8_t)index;
        if (!row->found[i]) {
            if (leaf->count + row->fresh == leaf->capacity) {
                row->full = true;
                break;
            }
            row->run = torc_tree_run_next(row->run, index + row->fresh, leaf->count + row->fresh);
            row->fresh++;
        }
        row->stamp = torc_max_u64(row->stamp, write->version);
        row->promised += write->ticket.nodes;
    }
    return i;
}

// The write is done; `old`: the record it replaces, or NULL.
static inline void write_done(struct torc_tree *tree, struct torc_tree_write *write,
                              const struct torc_tree_pair *old)
{
    torc_assert_implies(write->ticket.nodes > 0, write->ticket.bytes == write->value_bytes);
    write->err = TORC_ERR_OK;
    write->existed = old != NULL;
    write->old_version = old != NULL ? old->version : 0;
    write->ticket = (struct torc_tree_ticket){0};
    if (tree->undo != NULL) {
        (void)torc_undo_keep(tree->undo, write->key, write->version, old); // holds no large value
    }
}

static void row_count(struct torc_tree *tree, uint32_t count, uint32_t fresh, uint32_t value_bytes,
                      uint64_t promised)
{
    torc_assert(promised <= tree->promised_nodes);
    tree->promised_nodes -= promised;
    tree->record_count += fresh;
    tree->value_bytes += (uint64_t)fresh * value_bytes;
    tree->change_stamp += count;
}

// Puts the slots of new records, which lie behind all others, where they belong.
static void order_merge(struct torc_leaf *leaf, const struct row *row, uint32_t count)
{
    uint8_t *order = (uint8_t *)(leaf->hints + leaf->capacity);
    uint32_t end = leaf->count;
    uint32_t fresh = row->fresh;

    for (uint32_t i = count; i-- > 0;) {
        uint32_t place = row->places[i];

        if (row->found[i]) {
            continue;
        }
        fresh--;
        if (place < end) {
            memmove(order + place + fresh + 1, order + place, end - place);
            leaf->in_order = 0;
        }
        order[place + fresh] = (uint8_t)(leaf->count + fresh);
        end = place;
    }
}

static void row_write(struct torc_tree *tree, struct torc_leaf *leaf,
                      struct torc_tree_write *writes, uint32_t count, const struct row *row)
{
    uint32_t slot = leaf->count;

    for (uint32_t i = 0; i < count; i++) {
        struct torc_tree_write *write = &writes[i];
        struct torc_tree_pair pair = {write->key, write->version, write->value, write->value_bytes};
        struct torc_tree_pair old;

        if (row->found[i]) {
            torc_leaf_get(leaf, row->places[i], &old);
            write_done(tree, write, &old);
            torc_leaf_overwrite(leaf, row->places[i], &pair);
        } else {
            write_done(tree, write, NULL);
            torc_leaf_slot_write(leaf, slot++, &pair);
        }
    }
    if (row->fresh > 0) {
        order_merge(leaf, row, count);
        leaf->count = (uint8_t)slot;
    }
    leaf->run = row->run;
    leaf->stamp = row->stamp;
    row_count(tree, count, row->fresh, leaf->form, row->promised);
}

// -- Merged --------------------------------------------------------------------------------------

// A leaf's records, which point into the copy, and those of the writes, in order.
struct merge {
    struct torc_tree_copy copy;
    struct torc_tree_pair old[TORC_LEAF_COUNT_MAX];
    struct torc_tree_pair pairs[TORC_LEAF_COUNT_MAX + TORC_TREE_BATCH];
    const struct torc_tree_pair *replaced[TORC_TREE_BATCH]; // by the write; or NULL
    uint32_t count;
    uint32_t fresh;
    uint32_t parts;
    uint32_t cuts[PARTS_MAX + 1]; // part i is [cuts[i], cuts[i + 1])
    uint64_t stamp;
    uint64_t promised;
};

static void merge_fill(struct merge *merge, const struct torc_leaf *leaf,
                       const struct torc_tree_write *writes, uint32_t count)
{
    uint32_t old_count = torc_leaf_decode(torc_tree_copy_leaf(&merge->copy, leaf), merge->old);
    uint32_t at = 0;

    merge->count = 0;
    merge->promised = 0;
    merge->stamp = leaf->stamp;
    for (uint32_t i = 0; i < count; i++) {
        const struct torc_tree_write *write = &writes[i];
        bool found;

        while (at < old_count && merge->old[at].key < write->key) {
            merge->pairs[merge->count++] = merge->old[at++];
        }
        found = at < old_count && merge->old[at].key == write->key;
        merge->replaced[i] = found ? &merge->old[at++] : NULL;
        merge->pairs[merge->count++] =
            (struct torc_tree_pair){write->key, write->version, write->value, write->value_bytes};
        merge->stamp = torc_max_u64(merge->stamp, write->version);
        merge->promised += write->ticket.nodes;
    }
    while (at < old_count) {
        merge->pairs[merge->count++] = merge->old[at++];
    }
    merge->fresh = merge->count - old_count;
}

// Cuts the records into so many parts of about the same length; false: one does not fit a leaf.
static bool merge_cut(struct merge *merge, uint32_t parts)
{
    uint32_t near = merge->count / parts; // so many records a part
    struct torc_leaf_plan plan;

    merge->parts = parts;
    merge->cuts[0] = 0;
    merge->cuts[parts] = merge->count;
    for (uint32_t i = 1; i < parts; i++) {
        uint32_t cut = merge->count * i / parts;

        merge->cuts[i] = torc_tree_cut_short(merge->pairs, near, cut, 1, merge->count - 1);
    }
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t some = merge->cuts[i + 1] - merge->cuts[i];

        torc_leaf_plan(&plan, merge->pairs + merge->cuts[i], some);
        if (!torc_leaf_fits(&plan, some)) {
            return false;
        }
    }
    return true;
}

static bool merge_plan(struct merge *merge, uint32_t capacity)
{
    uint32_t most = capacity * MERGE_NUM / MERGE_DEN + 1;
    uint32_t parts = merge->count <= capacity ? 1 : (merge->count + most - 1) / most;

    for (; parts <= PARTS_MAX && parts <= merge->fresh + 1; parts++) {
        if (merge_cut(merge, parts)) {
            return true;
        }
    }
    return false;
}

static void merge_encode(struct torc_tree *tree, struct torc_leaf *leaf, const struct merge *merge)
{
    uint32_t node = torc_tree_node_of(tree, leaf);
    uint32_t near = node;

    for (uint32_t i = 0; i < merge->parts; i++) {
        uint32_t first = merge->cuts[i];
        uint32_t some = merge->cuts[i + 1] - first;
        struct torc_leaf *part = leaf;
        struct torc_leaf_plan plan;

        if (i > 0) {
            near = torc_tree_node_take(tree, 0, near);
            part = torc_tree_leaf(tree, near);
            torc_leaf_format(part);
            torc_tree_link(
                tree, 1, torc_tree_separator(merge->pairs[first - 1].key, merge->pairs[first].key),
                near);
            torc_tree_moved(tree, node, node);
        }
        part->stamp = merge->stamp;
        part->run = 0;
        torc_leaf_plan(&plan, merge->pairs + first, some);
        torc_leaf_encode(part, &plan, merge->pairs + first, some);
    }
}

// Merges the writes, all of them usual, with the leaf. False, and nothing has changed, when that
// does not go, or they are better off one at a time.
static bool leaf_merge(struct torc_tree *tree, struct torc_leaf *leaf,
                       struct torc_tree_write *writes, uint32_t count)
{
    struct merge merge;
    uint32_t refusable = 0;

    for (uint32_t i = 0; i < count; i++) {
        refusable += writes[i].ticket.nodes == 0;
    }
    if (refusable > 0 && !torc_tree_ensure(tree, refusable * TORC_TREE_NODES_PER_WRITE)) {
        return false; // some might be refused: which, is found one at a time
    }
    merge_fill(&merge, leaf, writes, count);
    if (!merge_plan(&merge, leaf->capacity)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        write_done(tree, &writes[i], merge.replaced[i]);
    }
    row_count(tree, count, merge.fresh, leaf->form, merge.promised);
    merge_encode(tree, leaf, &merge);
    return true;
}

uint32_t torc_tree_write_leaf(struct torc_tree *tree, struct torc_leaf *leaf,
                              struct torc_tree_write *writes, uint32_t count)
{
    struct row row = {.room = torc_tree_ensure(tree, TORC_TREE_NODES_PER_WRITE)};
    uint32_t some;
    uint32_t all;

    if (leaf->form == TORC_LEAF_VARIED || leaf->count == 0) {
        return 0;
    }
    torc_assert(count <= TORC_TREE_BATCH);
    torc_assert(writes[count - 1].key - writes[0].key >= count - 1u);
    some = row_look(tree, leaf, writes, count, &row);
    all = some;
    while (all < count && row.full && is_usual(leaf, &writes[all], row.room)) {
        all++;
    }
    // A row at the leaf's end is not merged: it begins a leaf of its own, and this one stays full.
    if (all - some >= MERGE_MIN && row.run <= 0 && leaf_merge(tree, leaf, writes, all)) {
        return all;
    }
    if (some > 0) {
        row_write(tree, leaf, writes, some, &row);
    }
    return some;
}
