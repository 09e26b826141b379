// Torc storage: inner nodes. See storage/inner.h.
#include "storage/inner.h"

#include <string.h>

static uint32_t *children_of(struct torc_inner *inner)
{
    unsigned char *bytes = (void *)inner;

    return (uint32_t *)(void *)(bytes + torc_inner_children_at(inner->width));
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
    form.width = span < UINT16_MAX ? 2 : span < UINT32_MAX ? 4 : 8;
    return form;
}

static uint32_t capacity_of(uint32_t width)
{
    return width == 2   ? TORC_INNER_COUNT_MAX
           : width == 4 ? TORC_INNER_HALF_MAX
                        : TORC_INNER_WIDE_MAX;
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

// After the separators changed: what depends on them. [count - 1, end of the lines) become ones.
static void samples_write(struct torc_inner *inner)
{
    uint32_t end = torc_inner_children_at(inner->width) - TORC_INNER_HEAD_BYTES;
    uint32_t used = (inner->count - 1u) * inner->width;

    if (inner->width == 8) {
        return;
    }
    memset(inner->bytes + used, 0xff, end - used);
    for (uint32_t at = TORC_INNER_LINE_BYTES, i = 0; at < end; at += TORC_INNER_LINE_BYTES, i++) {
        memcpy(inner->samples + (size_t)i * inner->width, inner->bytes + at, inner->width);
    }
}

// The same after a separator was put behind all others, where ones were.
static void sample_write_last(struct torc_inner *inner, uint32_t index)
{
    uint32_t at = index * inner->width;

    if (inner->width < 8 && at > 0 && at % TORC_INNER_LINE_BYTES == 0) {
        memcpy(inner->samples + (size_t)(at / TORC_INNER_LINE_BYTES - 1) * inner->width,
               inner->bytes + at, inner->width);
    }
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
    memset(inner->samples, 0xff, sizeof(inner->samples));
    for (uint32_t i = 0; i + 1 < count; i++) {
        delta_write(inner, i, list->separators[first + i]);
    }
    memcpy(children_of(inner), list->children + first, count * sizeof(list->children[0]));
    samples_write(inner);
}

// Can the separator be written in the node's present form?
static bool takes(const struct torc_inner *inner, uint64_t separator)
{
    uint64_t delta = separator - inner->base;
    uint64_t largest = inner->width == 8   ? UINT64_MAX
                       : inner->width == 4 ? UINT32_MAX - 1
                                           : UINT16_MAX - 1;

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
    if (after > 0) {
        samples_write(inner);
    } else {
        sample_write_last(inner, index);
    }
    return true;
}

bool torc_inner_move(struct torc_inner *inner, uint32_t index, uint64_t separator)
{
    struct torc_inner_list list;

    torc_assert(index + 1 < inner->count);
    if (takes(inner, separator)) {
        delta_write(inner, index, separator);
        samples_write(inner);
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

void torc_inner_child_set(struct torc_inner *inner, uint32_t index, uint32_t child)
{
    torc_assert(index < inner->count);
    children_of(inner)[index] = child;
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
    if (inner->count > 0) {
        samples_write(inner);
    }
}

static const char *samples_check(const struct torc_inner *inner)
{
    _Alignas(64) unsigned char bytes[TORC_NODE_BYTES];

    memcpy(bytes, inner, sizeof(bytes));
    samples_write((struct torc_inner *)(void *)bytes);
    return memcmp(bytes, inner, sizeof(bytes)) == 0
               ? NULL
               : "an inner node's samples are not its separators";
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
    return samples_check(inner);
}
