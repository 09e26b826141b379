// Torc storage: inner nodes. See storage/inner.h.
#include "storage/inner.h"

#include <string.h>

static uint32_t *children_of(struct torc_inner *inner)
{
    return (uint32_t *)(void *)(inner->bytes + (size_t)inner->capacity * inner->width);
}

uint32_t torc_inner_find(const struct torc_inner *inner, const struct torc_tree_code *code,
                         uint64_t key)
{
    uint64_t delta = (key - inner->base) >> inner->shift;
    const void *numbers = inner->bytes;
    uint32_t count = inner->count - 1u;

    if (key < inner->base) {
        return 0;
    }
    switch (inner->width) {
    case 2: return code->upto16(numbers, count, (uint16_t)torc_min_u64(delta, UINT16_MAX));
    case 4: return code->upto32(numbers, count, (uint32_t)torc_min_u64(delta, UINT32_MAX));
    default: return code->upto64(numbers, count, delta);
    }
}

static uint64_t delta_at(const struct torc_inner *inner, uint32_t index)
{
    uint64_t delta = 0;

    memcpy(&delta, inner->bytes + (size_t)index * inner->width, inner->width);
    return delta;
}

uint64_t torc_inner_separator(const struct torc_inner *inner, uint32_t index)
{
    return inner->base + (delta_at(inner, index) << inner->shift);
}

// The narrowest form of separators[first .. first + count).
struct form {
    uint64_t base;
    uint8_t shift;
    uint8_t width;
};

static struct form form_of(const struct torc_inner_list *list, uint32_t first, uint32_t count)
{
    struct form form = {.width = 2};
    uint64_t bits = 0;
    uint64_t span;

    if (count == 0) {
        return form;
    }
    for (uint32_t i = 0; i < count; i++) {
        bits |= list->separators[first + i];
    }
    form.base = list->separators[first];
    form.shift = (uint8_t)(bits == 0 ? 0 : __builtin_ctzll(bits));
    span = (list->separators[first + count - 1] - form.base) >> form.shift;
    form.width = span <= UINT16_MAX ? 2 : span <= UINT32_MAX ? 4 : 8;
    return form;
}

static uint32_t capacity_of(uint32_t width)
{
    uint32_t capacity = (TORC_NODE_BYTES - TORC_INNER_HEAD_BYTES) / (width + 4);

    capacity &= ~1u; // keeps the children aligned
    return capacity < TORC_INNER_COUNT_MAX ? capacity : TORC_INNER_COUNT_MAX;
}

bool torc_inner_fits(const struct torc_inner_list *list, uint32_t first, uint32_t count)
{
    torc_assert(count > 0);
    return count <= capacity_of(form_of(list, first, count - 1).width);
}

void torc_inner_decode(const struct torc_inner *inner, struct torc_inner_list *list)
{
    list->count = inner->count;
    memcpy(list->children, torc_inner_children(inner), inner->count * sizeof(list->children[0]));
    for (uint32_t i = 0; i + 1 < inner->count; i++) {
        list->separators[i] = torc_inner_separator(inner, i);
    }
}

static void delta_write(struct torc_inner *inner, uint32_t index, uint64_t separator)
{
    uint64_t delta = (separator - inner->base) >> inner->shift;

    memcpy(inner->bytes + (size_t)index * inner->width, &delta, inner->width);
}

void torc_inner_encode(struct torc_inner *inner, uint8_t level, const struct torc_inner_list *list,
                       uint32_t first, uint32_t count)
{
    struct form form = form_of(list, first, count - 1);

    torc_assert(level > 0);
    torc_assert(torc_inner_fits(list, first, count));
    *inner = (struct torc_inner){.base = form.base,
                                 .count = (uint16_t)count,
                                 .capacity = (uint16_t)capacity_of(form.width),
                                 .width = form.width,
                                 .shift = form.shift,
                                 .level = level};
    for (uint32_t i = 0; i + 1 < count; i++) {
        delta_write(inner, i, list->separators[first + i]);
    }
    memcpy(children_of(inner), list->children + first, count * sizeof(list->children[0]));
}

// Can the separator be written in the node's present form?
static bool takes(const struct torc_inner *inner, uint64_t separator)
{
    uint64_t delta = separator - inner->base;
    uint64_t largest = inner->width == 8 ? UINT64_MAX : inner->width == 4 ? UINT32_MAX : UINT16_MAX;

    return inner->count > 1 && separator >= inner->base &&
           (delta & ((UINT64_C(1) << inner->shift) - 1)) == 0 && (delta >> inner->shift) <= largest;
}

bool torc_inner_insert(struct torc_inner *inner, uint32_t index, uint64_t separator, uint32_t child)
{
    uint32_t after = inner->count - 1u - index;
    unsigned char *place = inner->bytes + (size_t)index * inner->width;
    uint32_t *children = children_of(inner);

    torc_assert(index < inner->count);
    if (inner->count == inner->capacity || !takes(inner, separator)) {
        return false;
    }
    memmove(place + inner->width, place, (size_t)after * inner->width);
    memmove(children + index + 2, children + index + 1, after * sizeof(children[0]));
    delta_write(inner, index, separator);
    children[index + 1] = child;
    inner->count++;
    return true;
}

bool torc_inner_move(struct torc_inner *inner, uint32_t index, uint64_t separator)
{
    struct torc_inner_list list;

    torc_assert(index + 1 < inner->count);
    if (takes(inner, separator)) {
        delta_write(inner, index, separator);
        return true;
    }
    torc_inner_decode(inner, &list);
    list.separators[index] = separator;
    if (!torc_inner_fits(&list, 0, list.count)) {
        return false;
    }
    torc_inner_encode(inner, inner->level, &list, 0, list.count);
    return true;
}

void torc_inner_remove(struct torc_inner *inner, uint32_t index)
{
    uint32_t after = inner->count - 1u - index;
    uint32_t *children = children_of(inner);
    uint32_t separator = index > 0 ? index - 1 : 0;
    unsigned char *place = inner->bytes + (size_t)separator * inner->width;

    torc_assert(index < inner->count);
    memmove(children + index, children + index + 1, after * sizeof(children[0]));
    if (inner->count > 1) {
        memmove(place, place + inner->width,
                (size_t)(inner->count - 2u - separator) * inner->width);
    }
    inner->count--;
}

const char *torc_inner_check(const struct torc_inner *inner)
{
    if (inner->level == 0 || (inner->width != 2 && inner->width != 4 && inner->width != 8) ||
        inner->shift > 63 || inner->capacity != capacity_of(inner->width)) {
        return "an inner node's head is out of range";
    }
    if (inner->count == 0 || inner->count > inner->capacity) {
        return "an inner node's count is out of range";
    }
    for (uint32_t i = 1; i + 1 < inner->count; i++) {
        if (delta_at(inner, i) <= delta_at(inner, i - 1)) {
            return "an inner node's separators do not rise";
        }
    }
    return NULL;
}
