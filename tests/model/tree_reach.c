// Torc tests: what encodings and borders the trees of model_tree.c had. See tree_world.h.
#include "tests/model/tree_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// -- Leaves and inner nodes as they are ----------------------------------------------------------

static void reach_span(uint64_t *reached, uint64_t span)
{
    static const uint8_t bits[] = {16, 24, 32, 40, 48, 56, 63};

    for (uint32_t i = 0; i < TORC_COUNT_OF(bits); i++) {
        reached[REACH_SPAN_16_LAST + 2 * i] += span == (UINT64_C(1) << bits[i]) - 1;
        reached[REACH_SPAN_16_NEXT + 2 * i] += span == UINT64_C(1) << bits[i];
    }
    reached[REACH_SPAN_64_LAST] += span == UINT64_MAX;
}

// What a leaf's records are like, all together.
struct seen {
    uint32_t large;
    bool version_full;
    bool hint_first;
    bool hint_last;
};

static struct seen leaf_seen(const struct torc_leaf *leaf)
{
    struct seen seen = {0};

    for (uint32_t i = 0; i < leaf->count; i++) {
        struct torc_tree_pair pair;

        torc_leaf_get(leaf, i, &pair);
        seen.large += pair.value_bytes > TORC_TREE_INLINE_BYTES_MAX;
        seen.version_full = seen.version_full || pair.version - leaf->version_base ==
                                                     torc_leaf_mask(leaf->version_bytes);
        seen.hint_first = seen.hint_first || leaf->hints[i] == 0;
        seen.hint_last = seen.hint_last || leaf->hints[i] == UINT16_MAX;
    }
    return seen;
}

// Does a hint of a slot below 64 stand in one from 64 on?
static bool hints_equal(const struct torc_leaf *leaf)
{
    for (uint32_t i = 64; i < leaf->count && leaf->low_bytes > 0; i++) {
        for (uint32_t j = 0; j < 64; j++) {
            if (leaf->hints[i] == leaf->hints[j]) {
                return true;
            }
        }
    }
    return false;
}

static void reach_values(uint64_t *reached, const struct torc_leaf *leaf, const struct seen *seen)
{
    bool full = torc_leaf_used_bytes(leaf) + TORC_LEAF_LARGE_BYTES + leaf->stride + 3 >
                TORC_LEAF_SPACE_BYTES;

    if (leaf->form != TORC_LEAF_VARIED) {
        reached[REACH_SLOTS_EMPTY] += leaf->form == 0;
        reached[REACH_SLOTS] += leaf->form > 0;
        reached[REACH_SLOTS_LONGEST] += leaf->form == TORC_TREE_INLINE_BYTES_MAX;
        return;
    }
    reached[REACH_CELLS]++;
    reached[REACH_CELLS_LARGE_ALL] += seen->large == leaf->count && full;
    reached[REACH_CELLS_MIXED] += seen->large > 0 && seen->large < leaf->count;
    reached[REACH_CELLS_DEAD] += leaf->heap_dead > 0;
}

static void reach_leaf(uint64_t *reached, const struct torc_leaf *leaf)
{
    struct seen seen = leaf_seen(leaf);
    struct torc_tree_pair first;
    struct torc_tree_pair last;

    if (leaf->count == 0) {
        return;
    }
    torc_leaf_get(leaf, 0, &first);
    torc_leaf_get(leaf, leaf->count - 1u, &last);
    reached[REACH_REST_0 + leaf->low_bytes]++;
    reached[REACH_VERSION_0 + leaf->version_bytes]++;
    if (leaf->version_bytes > 0) {
        reached[REACH_VERSION_FULL_1 + leaf->version_bytes - 1] += seen.version_full;
    }
    reach_span(reached, last.key - first.key);
    reach_values(reached, leaf, &seen);
    reached[REACH_LEAF_FULLEST] += leaf->count == TORC_LEAF_COUNT_MAX;
    reached[REACH_LEAF_ONE] += leaf->count == 1;
    reached[REACH_ORDER_MIXED] += leaf->in_order == 0;
    reached[REACH_HINTS_ENDS] += seen.hint_first && seen.hint_last;
    reached[REACH_HINTS_EQUAL] += hints_equal(leaf);
    reached[REACH_KEY_FIRST] += first.key == 0;
    reached[REACH_KEY_LAST] += last.key == UINT64_MAX;
}

static void reach_inner(uint64_t *reached, const struct torc_inner *inner)
{
    uint32_t width = inner->width == 2 ? 0 : inner->width == 4 ? 1 : 2;

    reached[REACH_INNER_2 + width]++;
    reached[REACH_INNER_2_FULL + width] += inner->count + 1 >= inner->capacity; // full, or just cut
    reached[REACH_INNER_SHIFT] += inner->shift >= 32;
}

void reach_walk(uint64_t *reached, const struct torc_tree *tree)
{
    struct torc_tree_path path;

    torc_tree_path_find(tree, 0, &path);
    reached[REACH_LEVELS_1 + (tree->levels < 4 ? tree->levels : 4) - 1]++;
    do {
        reach_leaf(reached, torc_tree_leaf(tree, path.nodes[0]));
        for (uint32_t level = 1; level < tree->levels && path.indices[level] == 0; level++) {
            reach_inner(reached, torc_tree_inner(tree, path.nodes[level]));
        }
    } while (torc_tree_path_step(tree, &path, true));
}

// -- One write -----------------------------------------------------------------------------------

void reach_look(struct reach_look *look, const struct torc_tree *tree, uint64_t key)
{
    struct torc_tree_path path;

    torc_tree_path_find(tree, key, &path);
    look->tree = *tree;
    memcpy(look->leaf, torc_tree_leaf(tree, path.nodes[0]), sizeof(look->leaf));
    look->inner_width = tree->levels > 1 ? torc_tree_inner(tree, path.nodes[1])->width : 0;
}

static void reach_shape(uint64_t *reached, const struct torc_tree *before,
                        const struct torc_tree *after)
{
    int leaves = (int)after->leaf_count - (int)before->leaf_count;
    int inners = (int)after->inner_count - (int)before->inner_count;

    reached[REACH_LEAF_CUT] += leaves == 1;
    reached[REACH_LEAF_CUT_3] += leaves == 2;
    reached[REACH_LEAF_JOINED] += leaves < 0;
    reached[REACH_LEAF_SHARED] += leaves == 0 && before->shape_stamp != after->shape_stamp;
    reached[REACH_INNER_CUT] += inners > 0 && after->levels == before->levels;
    reached[REACH_INNER_JOINED] += inners < 0 && after->levels == before->levels;
    reached[REACH_ROOT_GREW] += after->levels > before->levels;
    reached[REACH_ROOT_SHRANK] += after->levels < before->levels;
}

void reach_write(uint64_t *reached, const struct reach_look *before,
                 const struct torc_tree_write *write, const struct torc_tree *after)
{
    const struct torc_leaf *old = (const void *)before->leaf;
    const struct torc_leaf *new;
    struct reach_look look;

    reach_look(&look, after, write->key);
    new = (const void *)look.leaf;
    reach_shape(reached, &before->tree, after);
    if (look.inner_width != 0 && before->inner_width != 0) {
        reached[REACH_INNER_WIDER] += look.inner_width > before->inner_width;
        reached[REACH_INNER_NARROWER] += look.inner_width < before->inner_width;
    }
    if (write->remove || old->count == 0) {
        return;
    }
    reached[REACH_TO_CELLS] += old->form != TORC_LEAF_VARIED && new->form == TORC_LEAF_VARIED;
    reached[REACH_TO_SLOTS] += old->form == TORC_LEAF_VARIED && new->form != TORC_LEAF_VARIED;
    reached[REACH_REST_WIDER] += new->low_bytes > old->low_bytes;
    reached[REACH_REST_NARROWER] += new->low_bytes < old->low_bytes;
    reached[REACH_KEY_BELOW_BASE] += write->key < old->key_base;
    reached[REACH_KEY_ABOVE_HINTS] += write->key >= old->key_base && (write->key - old->key_base) >>
                                                                         (8 * old->low_bytes) >
                                                                         UINT16_MAX;
    reached[REACH_VERSION_BELOW_BASE] += write->version < old->version_base;
    reached[REACH_VERSION_ABOVE_MASK] +=
        write->version >= old->version_base &&
        write->version - old->version_base > torc_leaf_mask(old->version_bytes);
    reached[REACH_VERSION_NARROWER] += new->version_bytes < old->version_bytes;
    reached[REACH_RUN_UP] += after->leaf_count > before->tree.leaf_count && new->count == 1 &&
                             old->run >= TORC_TREE_RUN_MIN;
    reached[REACH_RUN_DOWN] += after->leaf_count > before->tree.leaf_count && new->count == 1 &&
                               old->run <= -TORC_TREE_RUN_MIN;
}

// -- What came together --------------------------------------------------------------------------

#define REACH_TEXT(name, text) text,
static const char *const texts[] = {REACH_TABLE(REACH_TEXT)};
#undef REACH_TEXT
#define REACH_NAME(name, text) #name,
static const char *const names[] = {REACH_TABLE(REACH_NAME)};
#undef REACH_NAME

void reach_print(const uint64_t *reached)
{
    uint32_t column = 0;

    for (uint32_t i = 0; i < REACH_KINDS; i++) {
        char text[120];
        int length = snprintf(text, sizeof(text), "%s: %" PRIu64 "%s", texts[i], reached[i],
                              i + 1 < REACH_KINDS ? ", " : "\n");

        if (column + (uint32_t)length > 110) {
            (void)printf("\n    ");
            column = 0;
        }
        (void)printf("%s%s", i == 0 ? "\n    " : "", text);
        column += (uint32_t)length;
    }
}

const char *reach_missing(const uint64_t *reached, const uint8_t *reaches)
{
    for (uint32_t i = 0; i < REACH_KINDS; i++) {
        uint32_t reach = reaches == NULL ? i : reaches[i];

        if (reach == REACH_KINDS) {
            break;
        }
        if (reached[reach] == 0) {
            return names[reach];
        }
    }
    return NULL;
}
