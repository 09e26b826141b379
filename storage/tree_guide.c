// Torc storage: the guide. See storage/tree_guide.h.
#include "storage/tree_guide.h"

#include "storage/tree_impl.h"

// Entries changed by one split, and entries or leaves looked at for one leaf's sake: what is more
// stays as it was.
#define GUIDE_WALK_MAX 64u
// The part of all leaves that may have no entry.
#define GUIDE_HIDDEN 32u
// The part of all leaves in whose entries writes may be led astray before they are filled anew.
#define GUIDE_WRONG 16u
// Entries that cost about as much to fill as one leaf.
#define ENTRIES_A_LEAF 4u
// Batches of writes after a chunk was given back: more may follow.
#define GUIDE_PAUSE 4096u
// More entries a leaf than this: the tree has shrunk, and memory is given back.
#define GUIDE_SPARSE 32u

#define ENTRIES_MAX ((uint64_t)TORC_GUIDE_CHUNKS_MAX << TORC_GUIDE_CHUNK_BITS)

static uint64_t entry_first(const struct torc_tree *tree, uint64_t index)
{
    return tree->guide.first + (index << tree->guide.shift);
}

static void guide_free(struct torc_tree *tree)
{
    struct torc_tree_guide *guide = &tree->guide;

    for (uint32_t i = 0; i < guide->chunk_count; i++) {
        torc_chunk_pool_give(tree->chunks.pool, guide->chunks[i]);
    }
    guide->chunk_count = 0;
    guide->usable = 0;
    guide->entry_count = 0;
}

bool torc_tree_guide_drop(struct torc_tree *tree)
{
    bool had = tree->guide.chunk_count > 0;

    guide_free(tree);
    tree->guide.due = torc_max_u64(tree->guide.due, 2 * (uint64_t)tree->leaf_count);
    return had;
}

// It is filled from its beginning.
static void guide_again(struct torc_tree *tree)
{
    struct torc_tree_guide *guide = &tree->guide;

    guide->given = tree->chunks.given;
    guide->usable = 0;
    guide->hidden = 0;
    guide->wrong = 0;
    guide->exact = true;
    guide->due = 0;
}

// The first separator of the tree, and its last.
static uint64_t separator_at_end(const struct torc_tree *tree, bool first)
{
    uint32_t node = tree->root;
    uint64_t separator = 0;

    for (uint32_t level = tree->levels - 1; level > 0; level--) {
        const struct torc_inner *inner = torc_tree_inner(tree, node);
        uint32_t last = inner->count - 1u;

        if (last > 0) {
            separator = torc_inner_separator(inner, first ? 0 : last - 1);
        }
        node = torc_inner_children(inner)[first ? 0 : last];
    }
    return separator;
}

// With fewer entries than four to three leaves too many have two leaves that begin in them.
static uint64_t entries_least(const struct torc_tree *tree)
{
    return tree->leaf_count + (uint64_t)tree->leaf_count / 3;
}

static void guide_begin(struct torc_tree *tree)
{
    struct torc_tree_guide *guide = &tree->guide;
    uint64_t most = torc_min_u64(2 * entries_least(tree), ENTRIES_MAX);
    uint64_t span;

    guide_free(tree);
    guide->due = 2 * (uint64_t)tree->leaf_count; // unless all goes well
    if (tree->levels < 2) {
        return;
    }
    guide->first = separator_at_end(tree, true);
    span = separator_at_end(tree, false) - guide->first;
    guide->shift = 0;
    while (span >> guide->shift >= most) {
        guide->shift++;
    }
    guide->fine = guide->shift > 31 ? guide->shift - 31 : 0; // so that no part looks like ALONE
    guide->entry_count = (span >> guide->shift) + 1;
    while ((uint64_t)guide->chunk_count << TORC_GUIDE_CHUNK_BITS < guide->entry_count) {
        uint32_t chunk = torc_chunk_pool_take(tree->chunks.pool);

        if (chunk == TORC_CHUNK_NONE) {
            guide_free(tree);
            return;
        }
        guide->chunks[guide->chunk_count++] = chunk;
    }
    guide_again(tree);
}

// The first key behind the path's leaf; 0: there is none.
static uint64_t leaf_end(const struct torc_tree *tree, const struct torc_tree_path *path)
{
    for (uint32_t level = 1; level < tree->levels; level++) {
        const struct torc_inner *inner = torc_tree_inner(tree, path->nodes[level]);

        if (path->indices[level] + 1u < inner->count) {
            return torc_inner_separator(inner, path->indices[level]);
        }
    }
    return 0;
}

// A separator within an entry, as next_at.
static uint32_t mark_of(const struct torc_tree *tree, uint64_t separator)
{
    uint32_t part = torc_guide_part(tree, separator);
    uint64_t lost = (separator - tree->guide.first) & ((UINT64_C(1) << tree->guide.fine) - 1);

    return lost != 0 ? TORC_GUIDE_MANY : part;
}

// Fills an entry, whose first key the path's leaf may hold; the path goes on to the leaf behind it.
// How many other leaves begin in it.
static uint32_t entry_fill(struct torc_tree *tree, uint64_t index, struct torc_tree_path *path)
{
    const uint64_t piece = UINT64_C(1) << tree->guide.shift;
    const uint64_t key = entry_first(tree, index);
    struct torc_guide_entry *entry = torc_guide_at(tree, index);
    uint64_t end = leaf_end(tree, path);
    uint32_t others = 0;

    while (end != 0 && end <= key && torc_tree_path_step(tree, path, true)) {
        end = leaf_end(tree, path);
    }
    *entry = (struct torc_guide_entry){path->nodes[0], TORC_GUIDE_ALONE};
    while (end != 0 && end - key < piece && others < GUIDE_WALK_MAX &&
           torc_tree_path_step(tree, path, true)) {
        entry->next_at = others++ == 0 ? mark_of(tree, end) : TORC_GUIDE_MANY;
        end = leaf_end(tree, path);
    }
    if (others > 0 && end != 0 && end - key == piece) { // it is not the next entry's
        entry->next_at = TORC_GUIDE_MANY;
    }
    return others;
}

// Fills entries from `usable` on, for a few leaves; false when the keys lie too unevenly. The last
// entry has no next one: it is not used.
static bool guide_fill(struct torc_tree *tree, uint32_t leaf_count_max)
{
    struct torc_tree_guide *guide = &tree->guide;
    uint32_t left = leaf_count_max * ENTRIES_A_LEAF;
    struct torc_tree_path path;

    torc_tree_path_find(tree, entry_first(tree, guide->usable), &path);
    while (left > 0 && guide->usable + 1 < guide->entry_count) {
        uint32_t others = entry_fill(tree, guide->usable, &path);

        guide->hidden += others > 1 ? others - 1 : 0;
        if (others == GUIDE_WALK_MAX ||
            guide->hidden > tree->leaf_count / GUIDE_HIDDEN + GUIDE_WALK_MAX) {
            return false;
        }
        guide->usable++;
        left -= left < 1 + others ? left : 1 + others;
    }
    return true;
}

void torc_guide_step(struct torc_tree *tree, uint32_t leaf_count_max)
{
    struct torc_tree_guide *guide = &tree->guide;

    if (guide->entry_count > 0 && guide->given != tree->chunks.given) {
        guide_again(tree);
        guide->pause = GUIDE_PAUSE;
    }
    if (guide->pause > 0) {
        guide->pause--;
        return;
    }
    if (guide->entry_count == 0 || entries_least(tree) > guide->entry_count ||
        tree->leaf_count < guide->entry_count / GUIDE_SPARSE) {
        guide_begin(tree);
    }
    if (guide->entry_count == 0) {
        return;
    }
    if (!guide_fill(tree, leaf_count_max)) {
        (void)torc_tree_guide_drop(tree);
    } else if (guide->usable + 1 >= guide->entry_count) {
        bool largest = 2 * guide->entry_count > ENTRIES_MAX;

        guide->due =
            largest ? 2 * (uint64_t)tree->leaf_count : guide->entry_count - guide->entry_count / 4;
    }
}

void torc_tree_guide_astray(struct torc_tree *tree)
{
    if (++tree->guide.wrong > tree->leaf_count / GUIDE_WRONG + GUIDE_WALK_MAX) {
        guide_again(tree);
    }
}

// -- Changes -------------------------------------------------------------------------------------

// Leaf `right` begins at the separator now, and entries name it.
static void mark_set(struct torc_tree *tree, uint64_t separator, uint32_t right)
{
    uint64_t index = torc_guide_index(tree, separator);
    uint64_t usable = tree->guide.usable;
    struct torc_guide_entry *entry;

    if (index > usable) {
        return;
    }
    if (separator == entry_first(tree, index)) {
        // A leaf that began in the entry before may end here, and is no entry's then.
        entry = index > 0 ? torc_guide_at(tree, index - 1) : NULL;
        if (entry != NULL && entry->next_at != TORC_GUIDE_ALONE) {
            entry->next_at = TORC_GUIDE_MANY;
        }
    } else if (index < usable) {
        bool next = index + 1 < usable && torc_guide_at(tree, index + 1)->leaf == right;

        entry = torc_guide_at(tree, index);
        entry->next_at =
            next && entry->next_at == TORC_GUIDE_ALONE ? mark_of(tree, separator) : TORC_GUIDE_MANY;
    }
}

// No leaf does any more.
static void mark_clear(struct torc_tree *tree, uint64_t separator)
{
    uint64_t index = torc_guide_index(tree, separator);
    struct torc_guide_entry *entry;

    if (index < tree->guide.usable) {
        entry = torc_guide_at(tree, index);
        if (entry->next_at != TORC_GUIDE_MANY && entry->next_at == mark_of(tree, separator)) {
            entry->next_at = TORC_GUIDE_ALONE;
        }
    }
}

// The first entry that begins at `key` or above.
static uint64_t index_from(const struct torc_tree *tree, uint64_t key)
{
    uint64_t index = torc_guide_index(tree, key);

    if (key <= tree->guide.first) {
        return 0;
    }
    return index + (key != entry_first(tree, index));
}

// Entries from `index` on, upwards or downwards, that name `from` name `to` now.
static void entries_rename(struct torc_tree *tree, uint64_t index, uint64_t step, uint32_t from,
                           uint32_t to)
{
    for (uint32_t i = 0; index < tree->guide.usable; i++, index += step) {
        struct torc_guide_entry *entry = torc_guide_at(tree, index);

        if (entry->leaf != from) {
            return;
        }
        if (i == GUIDE_WALK_MAX) {
            tree->guide.exact = false;
            return;
        }
        entry->leaf = to;
    }
}

void torc_tree_guide_split(struct torc_tree *tree, uint32_t left, uint32_t right,
                           uint64_t separator)
{
    if (tree->guide.usable > 0) {
        entries_rename(tree, index_from(tree, separator), 1, left, right);
        mark_set(tree, separator, right);
    }
}

void torc_tree_guide_moved(struct torc_tree *tree, uint32_t left, uint32_t right,
                           uint64_t separator_old, uint64_t separator)
{
    bool up = separator > separator_old;
    uint64_t index = index_from(tree, up ? separator_old : separator);
    uint64_t end = index_from(tree, up ? separator : separator_old);

    if (tree->guide.usable == 0) {
        return;
    }
    mark_clear(tree, separator_old);
    end = torc_min_u64(end, tree->guide.usable);
    for (uint32_t i = 0; i < GUIDE_WALK_MAX && index < end; i++, index++) {
        torc_guide_at(tree, index)->leaf = up ? left : right;
    }
    tree->guide.exact = tree->guide.exact && index >= end;
    mark_set(tree, separator, right);
}

void torc_tree_guide_renamed(struct torc_tree *tree, uint64_t key, uint32_t from, uint32_t to)
{
    uint64_t usable = tree->guide.usable;
    uint64_t index = key < tree->guide.first ? 0 : torc_guide_index(tree, key);

    if (usable > 0) {
        index = torc_min_u64(index, usable - 1);
        entries_rename(tree, index + 1, 1, from, to);
        entries_rename(tree, index, UINT64_MAX, from, to);
    }
}

uint64_t torc_tree_guide_wrong(const struct torc_tree *tree)
{
    uint64_t wrong = 0;

    for (uint64_t index = 0; index < tree->guide.usable; index++) {
        const struct torc_guide_entry *entry = torc_guide_at(tree, index);
        uint64_t key = entry_first(tree, index);
        struct torc_tree_path path;
        uint64_t end;
        bool alone;

        torc_tree_path_find(tree, key, &path);
        end = leaf_end(tree, &path);
        alone = end == 0 || (end - key) >> tree->guide.shift > 0;
        wrong += entry->leaf != path.nodes[0];
        if (entry->next_at == TORC_GUIDE_MANY) {
            continue;
        }
        wrong += entry->next_at != (alone ? TORC_GUIDE_ALONE : mark_of(tree, end));
        if (!alone && index + 1 < tree->guide.usable && torc_tree_path_step(tree, &path, true)) {
            wrong += path.nodes[0] != torc_guide_at(tree, index + 1)->leaf;
        }
    }
    return wrong;
}
