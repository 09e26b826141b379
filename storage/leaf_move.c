// Torc storage: records that go from one leaf to another as they are. See storage/leaf.h.
#include "storage/leaf.h"

static uint8_t *order_of(struct torc_leaf *leaf)
{
    return (uint8_t *)(leaf->hints + leaf->capacity);
}

static unsigned char *record_of(struct torc_leaf *leaf, uint32_t slot)
{
    return (unsigned char *)leaf + leaf->records_at + (size_t)slot * leaf->stride;
}

void torc_leaf_format_like(struct torc_leaf *leaf, const struct torc_leaf *like, uint64_t key_base,
                           uint64_t version_base)
{
    torc_assert(like->form != TORC_LEAF_VARIED);
    torc_leaf_format(leaf);
    leaf->key_base = key_base;
    leaf->version_base = version_base;
    leaf->stamp = like->stamp;
    leaf->capacity = like->capacity;
    leaf->low_bytes = like->low_bytes;
    leaf->version_bytes = like->version_bytes;
    leaf->form = like->form;
    leaf->records_at = like->records_at;
    leaf->stride = like->stride;
}

bool torc_leaf_holds(const struct torc_leaf *leaf, uint64_t key, uint64_t version)
{
    return key >= leaf->key_base && (key - leaf->key_base) >> (8 * leaf->low_bytes) <= UINT16_MAX &&
           version >= leaf->version_base &&
           version - leaf->version_base <= torc_leaf_mask(leaf->version_bytes);
}

bool torc_leaf_reach(struct torc_leaf *leaf, uint64_t least, uint64_t most)
{
    uint64_t room = torc_leaf_mask(leaf->low_bytes + 2u);
    uint32_t shift = 8u * leaf->low_bytes;
    uint64_t base = leaf->key_base;
    uint64_t wanted;

    torc_assert(least <= most);
    if (least >= base && most - base <= room) {
        return true;
    }
    if (most - least > room) {
        return false;
    }
    wanted = least - torc_min_u64(least, (room - (most - least)) / 2);
    if (wanted < base) { // by whole hints, so that what a slot has of the key stays
        base -= (base - wanted) >> shift << shift;
    } else {
        base += (wanted - base) >> shift << shift;
    }
    if (least < base || most - base > room) {
        return false;
    }
    for (uint32_t slot = 0; slot < leaf->count; slot++) {
        leaf->hints[slot] = (uint16_t)(leaf->hints[slot] + ((leaf->key_base - base) >> shift));
    }
    leaf->key_base = base;
    return true;
}

bool torc_leaf_movable(const struct torc_leaf *from, const struct torc_leaf *to, uint32_t first,
                       uint32_t count)
{
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    struct torc_tree_pair pair;

    torc_assert(count > 0);
    if (from->form == TORC_LEAF_VARIED || to->form != from->form ||
        to->count + count > to->capacity) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        torc_leaf_get(from, first + i, &pair);
        least = torc_min_u64(least, pair.version);
        most = torc_max_u64(most, pair.version);
        if (i == 0 && !torc_leaf_holds(to, pair.key, pair.version)) {
            return false;
        }
    }
    return torc_leaf_holds(to, pair.key, least) && torc_leaf_holds(to, pair.key, most);
}

// Copies a record to a free slot behind all others, in the other leaf's terms.
static inline void slot_copy(struct torc_leaf *to, uint32_t slot, const struct torc_tree_pair *pair)
{
    unsigned char *record = record_of(to, slot);
    uint64_t delta = pair->key - to->key_base;
    uint64_t version = pair->version - to->version_base;

    to->hints[slot] = (uint16_t)(delta >> (8 * to->low_bytes));
    memcpy(record, &delta, sizeof(delta));
    memcpy(record + to->low_bytes, &version, sizeof(version));
    torc_leaf_value_copy(record + to->low_bytes + to->version_bytes, pair->value, to->form);
}

// Makes slots 0 .. left-1 hold the records that stay, whose order is known: those in higher slots
// go into the holes.
static void slots_close(struct torc_leaf *leaf, uint32_t left)
{
    uint64_t used[2] = {0};
    uint8_t *order = order_of(leaf);
    uint32_t hole = 0;

    for (uint32_t i = 0; i < left; i++) {
        used[order[i] / 64] |= UINT64_C(1) << (order[i] % 64);
    }
    for (uint32_t i = 0; i < left; i++) {
        uint32_t slot = order[i];

        if (slot < left) {
            continue;
        }
        while ((used[hole / 64] >> (hole % 64) & 1) != 0) {
            hole++;
        }
        leaf->hints[hole] = leaf->hints[slot];
        memcpy(record_of(leaf, hole), record_of(leaf, slot), leaf->stride);
        order[i] = (uint8_t)hole++;
    }
    leaf->count = (uint8_t)left;
}

void torc_leaf_move(struct torc_leaf *from, struct torc_leaf *to, uint32_t first, uint32_t count)
{
    uint32_t left = from->count - count;
    bool to_its_end = first == 0;
    uint8_t *order = order_of(to);
    uint32_t slot = to->count;

    torc_assert(first == 0 || first == left);
    torc_assert(to->count + count <= to->capacity);
    for (uint32_t i = 0; i < count; i++) {
        struct torc_tree_pair pair;

        torc_leaf_get(from, first + i, &pair);
        slot_copy(to, slot + i, &pair);
    }
    if (!to_its_end && slot > 0) {
        memmove(order + count, order, slot);
        to->in_order = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        order[(to_its_end ? slot : 0) + i] = (uint8_t)(slot + i);
    }
    to->count = (uint8_t)(slot + count);
    if (first == 0) {
        memmove(order_of(from), order_of(from) + count, left);
        from->in_order = 0;
    }
    slots_close(from, left);
}
