// Torc storage: leaves. See storage/leaf.h.
#include "storage/leaf.h"

// How wide a number is, in whole bytes.
static uint8_t bytes_of(uint64_t number)
{
    return (uint8_t)(number == 0 ? 0 : (64 - (uint32_t)__builtin_clzll(number) + 7) / 8);
}

static uint8_t *order_of(struct torc_leaf *leaf)
{
    return (uint8_t *)(leaf->hints + leaf->capacity);
}

static unsigned char *record_of(struct torc_leaf *leaf, uint32_t slot)
{
    return (unsigned char *)leaf + leaf->records_at + (size_t)slot * leaf->stride;
}

static uint16_t load16(const unsigned char *bytes)
{
    uint16_t value;

    memcpy(&value, bytes, sizeof(value));
    return value;
}

// The low `bytes` bytes of a number, without a loop: what follows them is written back as it was.
static void store(unsigned char *to, uint64_t number, uint32_t bytes)
{
    uint64_t mask = torc_leaf_mask(bytes);
    uint64_t both = (torc_leaf_load(to) & ~mask) | (number & mask);

    memcpy(to, &both, sizeof(both));
}

static bool is_large(uint32_t value_bytes)
{
    return value_bytes > TORC_TREE_INLINE_BYTES_MAX;
}

static uint32_t cell_bytes(uint32_t value_bytes)
{
    return is_large(value_bytes) ? TORC_LEAF_LARGE_BYTES : value_bytes;
}

const void *torc_leaf_cell(const struct torc_leaf *leaf, const unsigned char *cell,
                           uint32_t *value_bytes)
{
    const unsigned char *bytes = (const unsigned char *)leaf + load16(cell);
    const void *block;

    *value_bytes = load16(cell + 2);
    if (*value_bytes != TORC_LEAF_LARGE) {
        return bytes;
    }
    memcpy(&block, bytes, sizeof(block));
    memcpy(value_bytes, bytes + sizeof(block), sizeof(*value_bytes));
    return block;
}

uint32_t torc_leaf_used_bytes(const struct torc_leaf *leaf)
{
    uint32_t bytes = leaf->count * (3u + leaf->stride);

    if (leaf->form == TORC_LEAF_VARIED) {
        bytes += TORC_LEAF_HEAP_END - leaf->heap_low - leaf->heap_dead;
    }
    return bytes;
}

void torc_leaf_format(struct torc_leaf *leaf)
{
    memset(leaf, 0, sizeof(*leaf));
    leaf->heap_low = TORC_LEAF_HEAP_END;
    leaf->records_at = TORC_LEAF_HEAD_BYTES;
    leaf->in_order = 1;
}

// Among records with the same hint, by what is left of the key: how many come before it. Sets
// *found if it is there.
static uint32_t find_among(const struct torc_leaf *leaf, uint64_t equal, uint32_t first,
                           uint64_t delta, bool *found)
{
    uint64_t mask = torc_leaf_mask(leaf->low_bytes);
    uint32_t before = 0;

    for (; equal != 0; equal &= equal - 1) {
        uint32_t slot = first + (uint32_t)__builtin_ctzll(equal);
        uint64_t rest = torc_leaf_load(torc_leaf_record(leaf, slot)) & mask;

        before += rest < (delta & mask);
        *found = *found || rest == (delta & mask);
    }
    return before;
}

uint32_t torc_leaf_slot(const struct torc_leaf *leaf, const struct torc_tree_code *code,
                        uint64_t key)
{
    uint64_t delta = key - leaf->key_base;
    uint64_t hint = delta >> (8 * leaf->low_bytes);
    uint64_t mask = torc_leaf_mask(leaf->low_bytes);
    uint64_t equal[2];

    if (key < leaf->key_base || hint > UINT16_MAX) {
        return TORC_LEAF_SLOT_NONE;
    }
    code->equal16(leaf->hints, leaf->count, (uint16_t)hint, equal);
    for (uint32_t half = 0; half < 2; half++) {
        for (uint64_t left = equal[half]; left != 0; left &= left - 1) {
            uint32_t slot = 64 * half + (uint32_t)__builtin_ctzll(left);

            if (((torc_leaf_load(torc_leaf_record(leaf, slot)) ^ delta) & mask) == 0) {
                return slot;
            }
        }
    }
    return TORC_LEAF_SLOT_NONE;
}

uint32_t torc_leaf_find(const struct torc_leaf *leaf, const struct torc_tree_code *code,
                        uint64_t key, bool *found)
{
    uint64_t delta = key - leaf->key_base;
    uint64_t hint = delta >> (8 * leaf->low_bytes);
    uint64_t equal[2];
    uint32_t index;

    *found = false;
    if (key < leaf->key_base) {
        return 0;
    }
    if (hint > UINT16_MAX) {
        return leaf->count;
    }
    index = code->below16(leaf->hints, leaf->count, (uint16_t)hint);
    code->equal16(leaf->hints, leaf->count, (uint16_t)hint, equal);
    index += find_among(leaf, equal[0], 0, delta, found);
    return index + find_among(leaf, equal[1], 64, delta, found);
}

uint32_t torc_leaf_decode(const struct torc_leaf *leaf, struct torc_tree_pair *pairs)
{
    for (uint32_t i = 0; i < leaf->count; i++) {
        torc_leaf_get(leaf, i, &pairs[i]);
    }
    return leaf->count;
}

// What a plan needs to know of a run of records; one more can be added.
struct sum {
    uint64_t key_min;
    uint64_t key_max;
    uint64_t version_min;
    uint64_t version_max;
    uint32_t count;
    uint32_t cells; // bytes of all cells, were the values in cells
    uint32_t value_bytes;
    bool same; // all values have value_bytes, and are not large
};

static void sum_add(struct sum *sum, const struct torc_tree_pair *pair)
{
    if (sum->count++ == 0) {
        *sum = (struct sum){.key_min = pair->key,
                            .key_max = pair->key,
                            .version_min = pair->version,
                            .version_max = pair->version,
                            .count = 1,
                            .cells = cell_bytes(pair->value_bytes),
                            .value_bytes = pair->value_bytes,
                            .same = !is_large(pair->value_bytes)};
        return;
    }
    sum->key_min = torc_min_u64(sum->key_min, pair->key);
    sum->key_max = torc_max_u64(sum->key_max, pair->key);
    sum->version_min = torc_min_u64(sum->version_min, pair->version);
    sum->version_max = torc_max_u64(sum->version_max, pair->version);
    sum->cells += cell_bytes(pair->value_bytes);
    sum->same = sum->same && pair->value_bytes == sum->value_bytes;
}

static void sum_plan(const struct sum *sum, struct torc_leaf_plan *plan)
{
    uint64_t span = sum->key_max - sum->key_min;
    uint32_t low_bytes = bytes_of(span) > 2 ? bytes_of(span) - 2u : 0;
    uint32_t version_bytes = bytes_of(sum->version_max - sum->version_min);
    uint32_t tail = sum->same ? sum->value_bytes : TORC_LEAF_CELL_BYTES;
    // Whole bytes leave room for keys outside the span: half of it below, so that an insert before
    // the first key or after the last seldom makes the leaf be written anew.
    uint64_t spare = torc_leaf_mask(low_bytes + 2u) - span;

    plan->key_base = sum->key_min - torc_min_u64(sum->key_min, spare / 2);
    plan->version_base = sum->version_min;
    plan->low_bytes = (uint8_t)low_bytes;
    plan->version_bytes = (uint8_t)version_bytes;
    plan->form = sum->same ? (uint8_t)sum->value_bytes : TORC_LEAF_VARIED;
    plan->heap_bytes = sum->same ? 0 : sum->cells;
    plan->bytes = sum->count * (3u + low_bytes + version_bytes + tail) + plan->heap_bytes;
}

void torc_leaf_plan(struct torc_leaf_plan *plan, const struct torc_tree_pair *pairs, uint32_t count)
{
    struct sum sum = {.count = 0};

    torc_assert(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        sum_add(&sum, &pairs[i]);
    }
    sum_plan(&sum, plan);
}

void torc_leaf_plan_start(struct torc_leaf_plan *plan, const struct torc_tree_pair *pair,
                          const struct torc_leaf_plan *like, bool rising)
{
    uint64_t spare = torc_leaf_mask(like->low_bytes + 2u);

    torc_leaf_plan(plan, pair, 1);
    if (like->form == TORC_LEAF_VARIED && plan->form != TORC_LEAF_VARIED) {
        plan->form = TORC_LEAF_VARIED;
        plan->heap_bytes = cell_bytes(pair->value_bytes);
    }
    plan->low_bytes = like->low_bytes;
    plan->version_bytes = like->version_bytes;
    plan->bytes = 3u + plan->low_bytes + plan->version_bytes + plan->heap_bytes +
                  (plan->form == TORC_LEAF_VARIED ? TORC_LEAF_CELL_BYTES : plan->form);
    plan->key_base = pair->key - torc_min_u64(pair->key, rising ? 0 : spare);
}

uint32_t torc_leaf_fill(const struct torc_tree_pair *pairs, uint32_t count)
{
    struct sum sum = {.count = 0};
    struct torc_leaf_plan plan;

    for (uint32_t i = 0; i < count; i++) {
        sum_add(&sum, &pairs[i]);
        sum_plan(&sum, &plan);
        if (!torc_leaf_fits(&plan, sum.count)) {
            return i;
        }
    }
    return count;
}

uint32_t torc_leaf_fill_back(const struct torc_tree_pair *pairs, uint32_t count)
{
    struct sum sum = {.count = 0};
    struct torc_leaf_plan plan;

    for (uint32_t i = 0; i < count; i++) {
        sum_add(&sum, &pairs[count - 1 - i]);
        sum_plan(&sum, &plan);
        if (!torc_leaf_fits(&plan, sum.count)) {
            return i;
        }
    }
    return count;
}

// Puts a value where `record`'s tail says, which is a cell for varied leaves. The room was checked.
static void value_write(struct torc_leaf *leaf, unsigned char *tail,
                        const struct torc_tree_pair *pair)
{
    uint32_t bytes = cell_bytes(pair->value_bytes);
    uint16_t length = is_large(pair->value_bytes) ? TORC_LEAF_LARGE : (uint16_t)pair->value_bytes;
    unsigned char *cell;

    if (leaf->form != TORC_LEAF_VARIED) {
        torc_leaf_value_copy(tail, pair->value, leaf->form);
        return;
    }
    leaf->heap_low = (uint16_t)(leaf->heap_low - bytes);
    cell = (unsigned char *)leaf + leaf->heap_low;
    store(tail, leaf->heap_low, 2);
    store(tail + 2, length, 2);
    if (is_large(pair->value_bytes)) {
        memcpy(cell, &pair->value, sizeof(pair->value));
        memcpy(cell + sizeof(pair->value), &pair->value_bytes, sizeof(pair->value_bytes));
    } else if (bytes != 0) {
        memcpy(cell, pair->value, bytes);
    }
}

// Writes a slot behind all others: unless a heap follows, nothing that counts lies behind it, and
// whole words can be stored.
static void record_write(struct torc_leaf *leaf, uint32_t slot, const struct torc_tree_pair *pair)
{
    unsigned char *record = record_of(leaf, slot);
    uint64_t delta = pair->key - leaf->key_base;
    uint64_t version = pair->version - leaf->version_base;

    leaf->hints[slot] = (uint16_t)(delta >> (8 * leaf->low_bytes));
    if (leaf->form == TORC_LEAF_VARIED) {
        store(record, delta, leaf->low_bytes);
        store(record + leaf->low_bytes, version, leaf->version_bytes);
    } else {
        memcpy(record, &delta, sizeof(delta));
        memcpy(record + leaf->low_bytes, &version, sizeof(version));
    }
    value_write(leaf, record + leaf->low_bytes + leaf->version_bytes, pair);
}

// How many records to give the arrays room for: all that fit if they are like those there.
static uint32_t capacity_of(const struct torc_leaf_plan *plan, uint32_t count)
{
    uint32_t record = (plan->bytes - plan->heap_bytes) / count;
    uint32_t each = record + plan->heap_bytes / count;
    uint32_t spare = TORC_LEAF_SPACE_BYTES - plan->bytes;
    uint32_t more = spare / (each > 0 ? each : 1);

    if (more == 0 && spare >= record) {
        more = 1;
    }
    return count + more < TORC_LEAF_COUNT_MAX ? count + more : TORC_LEAF_COUNT_MAX;
}

void torc_leaf_shape(struct torc_leaf *leaf, const struct torc_leaf_plan *plan, uint32_t count)
{
    torc_assert(count > 0);
    torc_assert(torc_leaf_fits(plan, count));
    leaf->key_base = plan->key_base;
    leaf->version_base = plan->version_base;
    leaf->level = 0;
    leaf->count = (uint8_t)count;
    leaf->capacity = (uint8_t)capacity_of(plan, count);
    leaf->low_bytes = plan->low_bytes;
    leaf->version_bytes = plan->version_bytes;
    leaf->form = plan->form;
    leaf->heap_low = TORC_LEAF_HEAP_END;
    leaf->heap_dead = 0;
    leaf->in_order = 1;
    leaf->stride = (uint8_t)(plan->low_bytes + plan->version_bytes +
                             (plan->form == TORC_LEAF_VARIED ? TORC_LEAF_CELL_BYTES : plan->form));
    leaf->records_at = (uint16_t)(TORC_LEAF_HEAD_BYTES + 3u * leaf->capacity);
}

void torc_leaf_encode(struct torc_leaf *leaf, const struct torc_leaf_plan *plan,
                      const struct torc_tree_pair *pairs, uint32_t count)
{
    torc_leaf_shape(leaf, plan, count);
    if (leaf->form != TORC_LEAF_VARIED) {
        torc_leaf_records_write(leaf, pairs, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        order_of(leaf)[i] = (uint8_t)i;
        record_write(leaf, i, &pairs[i]);
    }
}

// The first byte after the arrays: where the heap must end.
static uint32_t arrays_end(const struct torc_leaf *leaf)
{
    return TORC_LEAF_HEAD_BYTES + leaf->capacity * (3u + leaf->stride);
}

// Can the leaf take this version and this value without being written anew?
static bool takes(const struct torc_leaf *leaf, const struct torc_tree_pair *pair)
{
    if (pair->version < leaf->version_base ||
        pair->version - leaf->version_base > torc_leaf_mask(leaf->version_bytes)) {
        return false;
    }
    if (leaf->form != TORC_LEAF_VARIED) {
        return pair->value_bytes == leaf->form;
    }
    return leaf->heap_low - arrays_end(leaf) >= cell_bytes(pair->value_bytes);
}

bool torc_leaf_insert(struct torc_leaf *leaf, uint32_t index, const struct torc_tree_pair *pair)
{
    uint64_t hint = (pair->key - leaf->key_base) >> (8 * leaf->low_bytes);
    uint8_t *order = order_of(leaf);
    uint32_t count = leaf->count;

    torc_assert(index <= count);
    if (count == leaf->capacity || pair->key < leaf->key_base || hint > UINT16_MAX ||
        !takes(leaf, pair)) {
        return false;
    }
    record_write(leaf, count, pair);
    if (index < count) {
        memmove(order + index + 1, order + index, count - index);
        leaf->in_order = 0;
    }
    order[index] = (uint8_t)count;
    leaf->count = (uint8_t)(count + 1);
    return true;
}

// Bytes of the heap that a record holds.
static uint32_t cell_held(const struct torc_leaf *leaf, const unsigned char *tail)
{
    uint32_t length = load16(tail + 2);

    return leaf->form != TORC_LEAF_VARIED ? 0
           : length == TORC_LEAF_LARGE    ? TORC_LEAF_LARGE_BYTES
                                          : length;
}

bool torc_leaf_replace(struct torc_leaf *leaf, uint32_t slot, const struct torc_tree_pair *pair)
{
    unsigned char *record = record_of(leaf, slot);
    unsigned char *tail = record + leaf->low_bytes + leaf->version_bytes;

    torc_assert(slot < leaf->count);
    if (!takes(leaf, pair)) {
        return false;
    }
    leaf->heap_dead = (uint16_t)(leaf->heap_dead + cell_held(leaf, tail));
    store(record + leaf->low_bytes, pair->version - leaf->version_base, leaf->version_bytes);
    value_write(leaf, tail, pair);
    return true;
}

void torc_leaf_overwrite(struct torc_leaf *leaf, uint32_t index, const struct torc_tree_pair *pair)
{
    unsigned char *record = record_of(leaf, torc_leaf_order(leaf)[index]) + leaf->low_bytes;

    store(record, pair->version - leaf->version_base, leaf->version_bytes);
    torc_leaf_value_copy(record + leaf->version_bytes, pair->value, leaf->form);
}

void torc_leaf_slot_write(struct torc_leaf *leaf, uint32_t slot, const struct torc_tree_pair *pair)
{
    torc_assert(slot < leaf->capacity);
    record_write(leaf, slot, pair);
}

void torc_leaf_remove(struct torc_leaf *leaf, uint32_t index)
{
    uint8_t *order = order_of(leaf);
    uint8_t slot = order[index];
    uint32_t last = leaf->count - 1u;

    torc_assert(index < leaf->count);
    leaf->heap_dead =
        (uint16_t)(leaf->heap_dead +
                   cell_held(leaf, record_of(leaf, slot) + leaf->low_bytes + leaf->version_bytes));
    memmove(order + index, order + index + 1, last - index);
    leaf->count--;
    leaf->in_order = leaf->in_order != 0 && index == last;
    if (slot != last) { // the last slot's record moves into the hole
        uint8_t *mover = memchr(order, (int)last, last);

        torc_assert(mover != NULL);
        leaf->hints[slot] = leaf->hints[last];
        memcpy(record_of(leaf, slot), record_of(leaf, last), leaf->stride);
        *mover = slot;
    }
}

void torc_leaf_repoint(struct torc_leaf *leaf, uint32_t index, const void *block)
{
    const unsigned char *cell =
        record_of(leaf, torc_leaf_order(leaf)[index]) + leaf->low_bytes + leaf->version_bytes;

    torc_assert(leaf->form == TORC_LEAF_VARIED);
    torc_assert(load16(cell + 2) == TORC_LEAF_LARGE);
    memcpy((unsigned char *)leaf + load16(cell), &block, sizeof(block));
}

// Everything about a leaf's numbers that does not need its records.
static const char *check_head(const struct torc_leaf *leaf)
{
    if (leaf->level != 0 || leaf->in_order > 1 || leaf->zero != 0) {
        return "a leaf's head is not a leaf's";
    }
    if (leaf->count > leaf->capacity || leaf->capacity > TORC_LEAF_COUNT_MAX) {
        return "a leaf holds more records than it has room for";
    }
    if (leaf->low_bytes > TORC_LEAF_LOW_MAX || leaf->version_bytes > 8) {
        return "a leaf's widths are out of range";
    }
    if (leaf->records_at != TORC_LEAF_HEAD_BYTES + 3u * leaf->capacity ||
        leaf->stride != leaf->low_bytes + leaf->version_bytes +
                            (leaf->form == TORC_LEAF_VARIED ? TORC_LEAF_CELL_BYTES : leaf->form)) {
        return "a leaf's records are not where its widths say";
    }
    if (leaf->form > TORC_TREE_INLINE_BYTES_MAX && leaf->form != TORC_LEAF_VARIED) {
        return "a leaf's form is out of range";
    }
    if (leaf->heap_low > TORC_LEAF_HEAP_END || arrays_end(leaf) > leaf->heap_low) {
        return "a leaf's heap overlaps its arrays";
    }
    return NULL;
}

const char *torc_leaf_check(const struct torc_leaf *leaf)
{
    const char *wrong = check_head(leaf);
    bool seen[TORC_LEAF_COUNT_MAX] = {false};
    struct torc_tree_pair last = {0};
    uint32_t held = 0;

    for (uint32_t i = 0; wrong == NULL && i < leaf->count; i++) {
        uint8_t slot = torc_leaf_order(leaf)[i];
        const unsigned char *tail;
        struct torc_tree_pair pair;

        if (slot >= leaf->count || seen[slot] || (leaf->in_order != 0 && slot != i)) {
            return "a leaf's order is not a permutation";
        }
        seen[slot] = true;
        torc_leaf_get(leaf, i, &pair);
        tail = torc_leaf_record(leaf, slot) + leaf->low_bytes + leaf->version_bytes;
        held += leaf->form == TORC_LEAF_VARIED ? cell_held(leaf, tail) : 0;
        if (i > 0 && pair.key <= last.key) {
            return "a leaf's keys do not rise";
        }
        if (pair.version > leaf->stamp) {
            return "a leaf's stamp is below a version in it";
        }
        last = pair;
    }
    if (wrong == NULL && leaf->form == TORC_LEAF_VARIED &&
        held + leaf->heap_dead != (uint32_t)(TORC_LEAF_HEAP_END - leaf->heap_low)) {
        return "a leaf's heap does not add up";
    }
    return wrong;
}
