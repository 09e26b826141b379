// Torc tests: lookups and scans of model_tree.c against the array. See tree_world.h.
#include "tests/model/tree_world.h"

static uint64_t below(struct world *world, uint64_t bound)
{
    return torc_rng_below(&world->rng, bound);
}

static void hits_compare(struct world *world, const uint64_t *keys, uint32_t count,
                         const struct torc_tree_hit *hits)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = entry_at(world, keys[i]);

        if (hits[i].found != (entry != NULL)) {
            broken(world, entry != NULL ? "a key was not found" : "a key was found", keys[i]);
        } else if (entry != NULL) {
            value_compare(world, entry, hits[i].value, hits[i].version, hits[i].value_bytes);
        }
    }
}

void op_lookup(struct world *world)
{
    static uint64_t keys[BATCH_MAX];
    struct torc_tree_hit hits[BATCH_MAX];
    uint32_t count = 1 + (uint32_t)below(world, 1 + below(world, BATCH_MAX));
    bool single = below(world, 4) == 0;

    for (uint32_t i = 0; i < count; i++) {
        keys[i] = draw_key(world, 60) + below(world, 10) / 9;
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        const struct torc_tree *tree = &world->stage->sides[i].tree;

        torc_tree_lookup_batch(tree, keys, count, hits);
        hits_compare(world, keys, count, hits);
        if (single) {
            (void)torc_tree_lookup(tree, keys[0], hits);
            hits_compare(world, keys, 1, hits);
        }
    }
    world->ops += count + (single ? 1 : 0);
}

// The next entry of a scan, or NULL at its end.
static const struct entry *cursor_next(const struct world *world, const struct model_cursor *model)
{
    uint32_t index = entry_find(world, model->next);

    if (!model->open) {
        return NULL;
    }
    if (!model->reverse) {
        return index < world->count && world->entries[index].key <= model->end
                   ? &world->entries[index]
                   : NULL;
    }
    if (index == world->count || world->entries[index].key > model->next) {
        if (index == 0) {
            return NULL;
        }
        index--;
    }
    return world->entries[index].key >= model->end ? &world->entries[index] : NULL;
}

// Past `key`; the model's scan closes when there is nothing behind it.
static void cursor_pass(struct model_cursor *model, uint64_t key)
{
    if (key == model->end) {
        model->open = false;
    }
    model->next = model->reverse ? key - 1 : key + 1;
}

static void scan_draw(struct world *world, struct model_cursor *model, uint64_t *first,
                      uint64_t *last)
{
    *first = draw_key(world, 60);
    *last = draw_key(world, 60);
    switch (below(world, 8)) {
    case 0:
        *first = 0;
        *last = UINT64_MAX;
        break;
    case 1: *last = *first; break;
    case 2: break; // may be empty
    default:
        if (*first > *last) {
            uint64_t swap = *first;

            *first = *last;
            *last = swap;
        }
    }
    model->reverse = below(world, 2) == 0;
    model->open = *first <= *last;
    model->next = model->reverse ? *last : *first;
    model->end = model->reverse ? *first : *last;
}

static void scan_open(struct world *world, uint32_t which)
{
    struct model_cursor *model = &world->cursors[which];
    uint64_t first;
    uint64_t last;

    scan_draw(world, model, &first, &last);
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        torc_tree_cursor_open(&world->stage->sides[i].cursors[which], first, last, model->reverse);
    }
}

// One side's slice, against the entries that come next. Leaves the model's cursor behind it.
static uint32_t slice_compare(struct world *world, struct side *side, uint32_t which,
                              struct model_cursor *model, uint32_t limit)
{
    struct torc_tree_cursor *cursor = &side->cursors[which];
    struct torc_tree_pair pairs[SCAN_MAX];
    uint32_t count = torc_tree_scan(&side->tree, cursor, pairs, limit);

    for (uint32_t i = 0; i < count && !world->broken; i++) {
        const struct entry *entry = cursor_next(world, model);

        if (entry == NULL || entry->key != pairs[i].key) {
            broken(world, "a scan hands out another key", pairs[i].key);
        } else {
            value_compare(world, entry, pairs[i].value, pairs[i].version, pairs[i].value_bytes);
        }
        cursor_pass(model, pairs[i].key);
    }
    if (count < limit && !cursor->done) {
        broken(world, "a scan stops before its end", model->next);
    }
    if (cursor->done && cursor_next(world, model) != NULL) {
        broken(world, "a scan ends before its end", model->next);
    }
    return count;
}

void op_scan(struct world *world)
{
    uint32_t which = (uint32_t)below(world, CURSORS_MAX);
    uint32_t limit = 1 + (uint32_t)below(world, SCAN_MAX);
    struct side *sides = world->stage->sides;
    struct model_cursor model = {0};
    uint32_t count = 0;

    if (!world->cursors[which].open || below(world, 20) == 0) {
        scan_open(world, which);
    } else if (sides[0].cursors[which].change_stamp != sides[0].tree.change_stamp) {
        world->stage->reached[REACH_SCAN_OVER_CHANGE]++;
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        model = world->cursors[which];
        count = slice_compare(world, &sides[i], which, &model, limit);
        if (sides[i].cursors[which].done != sides[0].cursors[which].done) {
            broken(world, "two variants end a scan differently", model.next);
        }
    }
    if (count > 1 && !sides[0].cursors[which].done && below(world, 3) == 0) {
        model.next += model.reverse ? 1 : UINT64_MAX;
        for (uint32_t i = 0; i < world->stage->side_count; i++) { // the last did not fit the page
            torc_tree_cursor_seek(&sides[i].cursors[which], model.next);
        }
    }
    model.open = model.open && !sides[0].cursors[which].done;
    world->cursors[which] = model;
    world->ops++;
}

void op_count(struct world *world)
{
    struct model_cursor model;
    uint64_t first;
    uint64_t last;
    uint64_t expected = 0;
    uint64_t limit = 1 + below(world, 2000);
    uint64_t again = below(world, 4);

    scan_draw(world, &model, &first, &last);
    if (model.open) {
        expected = (last == UINT64_MAX ? world->count : entry_find(world, last + 1)) -
                   entry_find(world, first);
    }
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct torc_tree *tree = &world->stage->sides[i].tree;
        struct torc_tree_cursor cursor;
        uint64_t counted = 0;

        torc_tree_cursor_open(&cursor, first, last, model.reverse);
        while (!cursor.done) {
            counted += torc_tree_scan_count(tree, &cursor, limit);
            if (again == 0) {
                cursor.change_stamp = 0; // its place is found anew
            }
        }
        if (counted != expected) {
            broken(world, "a scan counts wrongly", first);
        }
    }
    world->ops++;
}

void world_read_all(struct world *world)
{
    for (uint32_t i = 0; i < world->stage->side_count; i++) {
        struct side *side = &world->stage->sides[i];
        struct model_cursor model;

        for (uint32_t at = 0; at < world->count; at++) {
            struct torc_tree_hit hit;

            (void)torc_tree_lookup(&side->tree, world->entries[at].key, &hit);
            hits_compare(world, &world->entries[at].key, 1, &hit);
        }
        for (uint32_t reverse = 0; reverse < 2; reverse++) {
            model = (struct model_cursor){.open = true,
                                          .reverse = reverse == 1,
                                          .next = reverse == 1 ? UINT64_MAX : 0,
                                          .end = reverse == 1 ? 0 : UINT64_MAX};
            torc_tree_cursor_open(&side->cursors[0], 0, UINT64_MAX, reverse == 1);
            world->cursors[0].open = false;
            while (!side->cursors[0].done && !world->broken) {
                (void)slice_compare(world, side, 0, &model, SCAN_MAX);
            }
        }
    }
}
