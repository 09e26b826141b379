// Torc storage: writes of keys that rise at the tree's end. See storage/tree.h.
//
// What a row of them has in common is looked at once, and kept in locals: the leaf's widths, where
// it ends, what is in it. Whatever is not as usual is left to storage/tree_write.c.
#include "storage/tree_impl.h"
#include "storage/undo.h"

// What a row of writes adds up to.
struct row {
    uint64_t last_key;
    uint64_t stamp;
    uint64_t promised; // nodes, by their tickets
    bool room;         // there are nodes for writes without a ticket
};

static inline void write_done(struct torc_tree_write *write)
{
    torc_assert_implies(write->ticket.nodes > 0, write->ticket.bytes == write->value_bytes);
    write->err = TORC_ERR_OK;
    write->existed = false;
    write->old_version = 0;
    write->ticket = (struct torc_tree_ticket){0};
}

// How many of the writes, from the first, fit the leaf as it is, and what they add up to.
static uint32_t row_take(const struct torc_leaf *leaf, struct torc_tree_write *writes,
                         uint32_t count, struct row *all)
{
    const uint64_t version_base = leaf->version_base;
    const uint64_t versions = torc_leaf_mask(leaf->version_bytes);
    const uint64_t keys = torc_leaf_mask(leaf->low_bytes + 2u);
    const uint64_t key_max = leaf->key_base + torc_min_u64(keys, UINT64_MAX - leaf->key_base);
    const uint32_t value_bytes = leaf->form;
    struct row row = *all;
    uint32_t i;

    for (i = 0; i < count; i++) {
        struct torc_tree_write *write = &writes[i];

        if (write->key <= row.last_key || write->key > key_max ||
            write->version - version_base > versions || write->value_bytes != value_bytes ||
            write->remove || (write->ticket.nodes == 0 && !row.room)) {
            break;
        }
        row.last_key = write->key;
        row.stamp = torc_max_u64(row.stamp, write->version);
        row.promised += write->ticket.nodes;
        write_done(write);
    }
    *all = row;
    return i;
}

// Writes records behind the leaf's; its head stays as it is.
static inline __attribute__((always_inline)) void records_write(
    struct torc_leaf *leaf, const struct torc_tree_write *writes, uint32_t count,
    uint32_t value_bytes)
{
    const uint64_t key_base = leaf->key_base;
    const uint64_t version_base = leaf->version_base;
    const uint32_t version_at = leaf->low_bytes;
    const uint32_t hint_shift = 8u * version_at;
    const uint32_t tail_at = version_at + leaf->version_bytes;
    const uint32_t stride = leaf->stride;
    unsigned char *record = (unsigned char *)leaf + leaf->records_at + (size_t)leaf->count * stride;
    uint16_t *hints = leaf->hints + leaf->count;

    for (uint32_t i = 0; i < count; i++, record += stride) {
        uint64_t delta = writes[i].key - key_base;
        uint64_t version = writes[i].version - version_base;

        // What lies behind the fields is written after them, or does not count.
        hints[i] = (uint16_t)(delta >> hint_shift);
        memcpy(record, &delta, sizeof(delta));
        memcpy(record + version_at, &version, sizeof(version));
        torc_leaf_value_copy(record + tail_at, writes[i].value, value_bytes);
    }
}

static void row_write(struct torc_leaf *leaf, const struct torc_tree_write *writes, uint32_t count)
{
    uint8_t *order = (uint8_t *)(leaf->hints + leaf->capacity);

    for (uint32_t i = leaf->count; i < leaf->count + count; i++) {
        order[i] = (uint8_t)i;
    }
    switch (leaf->form) {
    case 8: records_write(leaf, writes, count, 8); break;
    case 16: records_write(leaf, writes, count, 16); break;
    case 32: records_write(leaf, writes, count, 32); break;
    default: records_write(leaf, writes, count, leaf->form); break;
    }
}

static void undo_keep(struct torc_tree *tree, const struct torc_tree_write *writes, uint32_t count)
{
    if (tree->undo != NULL) {
        torc_undo_keep_new(tree->undo, writes, count);
    }
}

// Puts what fits into the last leaf as it is; how many.
static uint32_t leaf_row(struct torc_tree *tree, struct torc_leaf *leaf,
                         struct torc_tree_write *writes, uint32_t count)
{
    uint32_t free_count = (uint32_t)leaf->capacity - leaf->count;
    struct torc_tree_pair last;
    struct row row = {.stamp = leaf->stamp};
    uint32_t some;
    int run;

    torc_leaf_get(leaf, leaf->count - 1u, &last);
    row.last_key = last.key;
    row.room = writes[0].ticket.nodes > 0 || torc_tree_ensure(tree, TORC_TREE_NODES_PER_WRITE);
    some = row_take(leaf, writes, count < free_count ? count : free_count, &row);
    row_write(leaf, writes, some);
    run = (leaf->run > 0 ? leaf->run : 0) + (int)some;
    if (some > 0) {
        leaf->run = (int8_t)(run < INT8_MAX ? run : INT8_MAX); // NOLINT(bugprone-narrowing*)
    }
    leaf->count = (uint8_t)(leaf->count + some);
    leaf->stamp = row.stamp;
    torc_assert(row.promised <= tree->promised_nodes);
    tree->promised_nodes -= row.promised;
    tree->record_count += some;
    tree->value_bytes += (uint64_t)some * leaf->form;
    tree->change_stamp += some;
    undo_keep(tree, writes, some);
    return some;
}

// The row goes on in a new leaf, with this write; false, and nothing was done, when it is not one
// of the usual ones.
static bool leaf_next(struct torc_tree *tree, const struct torc_leaf *leaf,
                      struct torc_tree_write *write)
{
    struct torc_tree_pair pair = {write->key, write->version, write->value, write->value_bytes};
    struct torc_tree_pair last;
    struct torc_leaf *next;
    uint64_t separator;
    uint32_t node;
    bool fits;

    torc_leaf_get(leaf, leaf->count - 1u, &last);
    if (leaf->count < leaf->capacity || leaf->run < TORC_TREE_RUN_MIN || write->remove ||
        write->value_bytes != leaf->form || write->key <= last.key ||
        !torc_leaf_holds(leaf, write->key, write->version) ||
        (write->ticket.nodes == 0 && !torc_tree_ensure(tree, TORC_TREE_NODES_PER_WRITE))) {
        return false;
    }
    tree->promised_nodes -= write->ticket.nodes;
    write_done(write);
    separator = torc_tree_separator(last.key, write->key);
    node = torc_tree_node_take(tree, 0, tree->tail);
    next = torc_tree_leaf(tree, node);
    torc_tree_ahead_prefetch(next);
    torc_leaf_format_like(next, leaf, write->key, write->version);
    next->run = leaf->run;
    next->stamp = torc_max_u64(leaf->stamp, write->version);
    fits = torc_leaf_insert(next, 0, &pair);
    torc_assert(fits);
    torc_tree_link_last(tree, separator, node);
    torc_tree_moved(tree, tree->tail, tree->tail);
    tree->tail = node;
    tree->tail_first = separator;
    tree->tail_stamp = tree->shape_stamp;
    tree->change_stamp++;
    torc_tree_count_in(tree, &pair);
    undo_keep(tree, write, 1);
    return true;
}

uint32_t torc_tree_write_rising(struct torc_tree *tree, struct torc_tree_write *writes,
                                uint32_t count)
{
    uint32_t done = 0;

    if (tree->tail_stamp != tree->shape_stamp || writes[0].key < tree->tail_first) {
        return 0;
    }
    while (done < count) {
        struct torc_leaf *leaf = torc_tree_leaf(tree, tree->tail);
        uint32_t some;

        if (leaf->count == 0 || leaf->form == TORC_LEAF_VARIED) {
            break;
        }
        some = leaf_row(tree, leaf, writes + done, count - done);
        if (some == 0) {
            some = leaf_next(tree, leaf, &writes[done]) ? 1 : 0;
        }
        if (some == 0) {
            break;
        }
        done += some;
    }
    return done;
}
