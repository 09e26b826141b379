// Torc storage: the undo window of one core. See storage/undo.h.
#include "storage/undo.h"

#include "kit/hlc.h"
#include "storage/leaf.h"

#include <string.h>

#define SEGMENT_BYTES TORC_UNDO_SEGMENT_BYTES
#define SEGMENTS_MIN  8u
#define ALIGN_BYTES   64u
#define ABSENT        UINT32_MAX // `value_bytes` of an entry whose key had no record
#define UNIT_BYTES    8u         // entries are aligned to it, and distances count it
// A segment with more of the window in large values than this is closed, so that they go in parts;
// a value larger than the second is not worth all others.
#define LARGE_SHARE 8u
#define LARGE_MAX   2u
#define DROP_MAX    2u // segments past their age that go when one is opened

// Then the value, or a large one's block. A distance is to an older entry of the key, in units of
// UNIT_BYTES; 0: there is none. The three last are set when the entry is indexed.
struct undo_entry {
    uint64_t key;
    uint64_t version; // of the write that replaced the value
    uint64_t old_version;
    uint32_t value_bytes;
    uint32_t older; // the one before
    uint32_t jump;  // one further back
    uint32_t depth; // how many there are before it
};

_Static_assert(sizeof(struct undo_entry) == 40, "compact");
_Static_assert(TORC_UNDO_BYTES_MAX / UNIT_BYTES < UINT32_MAX, "distances fit");

// -- Places ---------------------------------------------------------------------------------------

static struct torc_undo_segment *segment_at(const struct torc_undo *undo, uint64_t number)
{
    return &undo->segments[number & undo->segment_mask];
}

static struct undo_entry *entry_at(const struct torc_undo *undo, uint64_t place)
{
    const struct torc_undo_segment *segment = segment_at(undo, place / SEGMENT_BYTES);

    return (struct undo_entry *)(void *)(undo->log + (uint64_t)segment->place * SEGMENT_BYTES +
                                         place % SEGMENT_BYTES);
}

static uint32_t entry_bytes(uint32_t value_bytes)
{
    uint32_t bytes = value_bytes == ABSENT                      ? 0
                     : value_bytes > TORC_TREE_INLINE_BYTES_MAX ? (uint32_t)sizeof(void *)
                                                                : value_bytes;

    return (uint32_t)sizeof(struct undo_entry) + (bytes + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
}

static const void *entry_value(const struct undo_entry *entry)
{
    const void *block;

    if (entry->value_bytes == ABSENT || entry->value_bytes <= TORC_TREE_INLINE_BYTES_MAX) {
        return entry + 1;
    }
    memcpy(&block, entry + 1, sizeof(block));
    return block;
}

static uint64_t place_end(const struct torc_undo *undo)
{
    return undo->last * SEGMENT_BYTES + segment_at(undo, undo->last)->used;
}

// The entry `distance` before, if it is still there.
static struct undo_entry *entry_before(const struct torc_undo *undo, uint64_t place,
                                       uint32_t distance, uint64_t *before)
{
    if (distance == 0) {
        return NULL;
    }
    *before = place - (uint64_t)distance * UNIT_BYTES;
    return *before >= undo->first * SEGMENT_BYTES ? entry_at(undo, *before) : NULL;
}

// -- Life -----------------------------------------------------------------------------------------

static uint32_t config_segments(const struct torc_undo_config *config)
{
    uint64_t segments = config->bytes / 8 * 5 / SEGMENT_BYTES;

    return config->bytes == 0 ? 0 : (uint32_t)torc_max_u64(segments, SEGMENTS_MIN);
}

static uint32_t config_chunks(const struct torc_undo_config *config)
{
    return config->bytes == 0 ? 0
                              : (uint32_t)torc_max_u64(config->bytes / 8 * 3 / TORC_CHUNK_BYTES, 1);
}

static uint32_t table_size(uint32_t segments)
{
    uint32_t size = 1;

    while (size < segments) {
        size *= 2;
    }
    return size;
}

static uint64_t align_up(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

uint64_t torc_undo_bytes(const struct torc_undo_config *config)
{
    uint32_t segments = config_segments(config);

    torc_assert(config->bytes <= TORC_UNDO_BYTES_MAX);
    if (segments == 0) {
        return 0;
    }
    return align_up((uint64_t)table_size(segments) * sizeof(struct torc_undo_segment),
                    ALIGN_BYTES) +
           align_up((uint64_t)segments * sizeof(uint32_t), ALIGN_BYTES) +
           (uint64_t)segments * SEGMENT_BYTES +
           (config_chunks(config) + UINT64_C(1)) * TORC_CHUNK_BYTES; // one to align them
}

static void segment_take(struct torc_undo *undo)
{
    torc_assert(undo->free_count > 0);
    undo->free_count--;
    *segment_at(undo, undo->last) =
        (struct torc_undo_segment){.place = undo->free[undo->free_count]};
}

void torc_undo_init(struct torc_undo *undo, void *memory, const struct torc_undo_config *config)
{
    uint32_t segments = config_segments(config);
    uint32_t table = table_size(segments);
    unsigned char *at = memory;

    *undo = (struct torc_undo){.age_us = config->age_us, .pin_us = config->pin_us};
    if (segments == 0) {
        return;
    }
    torc_assert((uintptr_t)memory % ALIGN_BYTES == 0);
    undo->segment_max = segments;
    undo->segment_mask = table - 1;
    undo->limit_bytes = (uint64_t)segments * SEGMENT_BYTES;
    undo->segments = (struct torc_undo_segment *)(void *)at;
    at += align_up((uint64_t)table * sizeof(struct torc_undo_segment), ALIGN_BYTES);
    undo->free = (uint32_t *)(void *)at;
    at += align_up((uint64_t)segments * sizeof(uint32_t), ALIGN_BYTES);
    undo->log = at;
    at += undo->limit_bytes;
    at += align_up((uintptr_t)at, TORC_CHUNK_BYTES) - (uintptr_t)at;
    torc_chunk_pool_init(&undo->index_chunks, at, 0, config_chunks(config));
    for (uint32_t i = 0; i < segments; i++) {
        undo->free[i] = segments - 1 - i; // the first places first
    }
    undo->free_count = segments;
    undo->first = 1; // place 0 is none
    undo->last = 1;
    segment_take(undo);
}

void torc_undo_attach(struct torc_undo *undo, struct torc_heap *heap,
                      const struct torc_tree_code *code)
{
    torc_assert(undo->heap == NULL || undo->heap == heap);
    undo->heap = heap;
    undo->code = code;
}

// -- Dropping -------------------------------------------------------------------------------------

static void index_drop(struct torc_undo *undo)
{
    if (undo->indexed) {
        torc_tree_drop(&undo->index);
        undo->indexed = false;
    }
}

// Takes the keys whose newest entries these are out of the index.
static void index_remove(struct torc_undo *undo, const uint64_t *keys, const uint64_t *places,
                         uint32_t count)
{
    struct torc_tree_hit hits[TORC_TREE_BATCH];
    struct torc_tree_write writes[TORC_TREE_BATCH];
    uint32_t write_count = 0;

    torc_tree_lookup_batch(&undo->index, keys, count, hits);
    for (uint32_t i = 0; i < count; i++) {
        if (hits[i].found && hits[i].version == places[i]) {
            writes[write_count++] =
                (struct torc_tree_write){.key = keys[i], .version = places[i], .remove = true};
        }
    }
    (void)torc_tree_write_batch(&undo->index, writes, write_count); // a delete is never refused
}

static void segment_unindex(struct torc_undo *undo, uint64_t number)
{
    uint64_t start = number * SEGMENT_BYTES;
    uint64_t end = torc_min_u64(start + segment_at(undo, number)->used, undo->index_next);
    uint64_t keys[TORC_TREE_BATCH];
    uint64_t places[TORC_TREE_BATCH];
    uint32_t count = 0;

    for (uint64_t place = torc_max_u64(start, undo->index_first); place < end;) {
        const struct undo_entry *entry = entry_at(undo, place);

        keys[count] = entry->key;
        places[count++] = place;
        place += entry_bytes(entry->value_bytes);
        if (count == TORC_TREE_BATCH || place >= end) {
            index_remove(undo, keys, places, count);
            count = 0;
        }
    }
}

static void segment_free_large(struct torc_undo *undo, uint64_t number)
{
    struct torc_undo_segment *segment = segment_at(undo, number);
    uint64_t start = number * SEGMENT_BYTES;

    for (uint64_t place = start; segment->large_count > 0;) {
        const struct undo_entry *entry = entry_at(undo, place);

        torc_assert(place < start + segment->used);
        if (entry->value_bytes != ABSENT && entry->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
            torc_heap_free(undo->heap, entry_value(entry), entry->value_bytes);
            segment->large_count--;
            undo->large_count--;
        }
        place += entry_bytes(entry->value_bytes);
    }
    undo->large_bytes -= segment->large_bytes;
    segment->large_bytes = 0;
}

static void segment_drop(struct torc_undo *undo)
{
    struct torc_undo_segment *segment = segment_at(undo, undo->first);
    uint64_t next;

    torc_assert(undo->first < undo->last);
    if (undo->indexed) {
        segment_unindex(undo, undo->first);
    }
    segment_free_large(undo, undo->first);
    undo->floor = torc_max_u64(undo->floor, segment->version_max); // U2
    undo->free[undo->free_count++] = segment->place;
    undo->first++;
    next = undo->first * SEGMENT_BYTES;
    undo->index_first = torc_max_u64(undo->index_first, next);
    undo->index_next = torc_max_u64(undo->index_next, next);
}

// The least timestamp that somebody still reads at; UINT64_MAX: nobody.
static uint64_t pins_least(const struct torc_undo *undo)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < TORC_UNDO_PINS; i++) {
        const struct torc_undo_pin *pin = &undo->pins[i];

        // Not by the HLC, which anybody's timestamp may move on by seconds.
        if (pin->ts != 0 && pin->until_us >= undo->wall_us &&
            torc_hlc_us(pin->ts) + undo->pin_us >= undo->now_us) {
            least = torc_min_u64(least, pin->ts);
        }
    }
    return least;
}

static bool segment_is_aged(const struct torc_undo *undo, uint64_t number)
{
    uint64_t version = segment_at(undo, number)->version_max;

    return torc_hlc_us(version) + undo->age_us < undo->now_us;
}

static void segments_age(struct torc_undo *undo)
{
    uint64_t least;

    if (undo->first == undo->last || !segment_is_aged(undo, undo->first)) {
        return;
    }
    least = pins_least(undo);
    for (uint32_t i = 0;
         i < DROP_MAX && undo->first < undo->last && segment_is_aged(undo, undo->first) &&
         segment_at(undo, undo->first)->version_max <= least;
         i++) {
        segment_drop(undo);
    }
}

static void segment_open(struct torc_undo *undo)
{
    segments_age(undo);
    if (undo->free_count == 0) {
        segment_drop(undo); // the bytes are used up, whoever reads there
    }
    undo->last++;
    segment_take(undo);
}

static uint64_t window_bytes(const struct torc_undo *undo)
{
    return (undo->last - undo->first + 1) * SEGMENT_BYTES + undo->large_bytes;
}

static void window_fit(struct torc_undo *undo)
{
    while (window_bytes(undo) > undo->limit_bytes) { // U3
        segment_drop(undo);
    }
}

void torc_undo_clear(struct torc_undo *undo)
{
    if (!torc_undo_is_on(undo)) {
        return;
    }
    index_drop(undo);
    if (segment_at(undo, undo->last)->used > 0) {
        segment_open(undo);
    }
    while (undo->first < undo->last) {
        segment_drop(undo);
    }
}

void torc_undo_age(struct torc_undo *undo, uint64_t hlc_us, uint64_t wall_us)
{
    if (!torc_undo_is_on(undo)) {
        return;
    }
    undo->wall_us = wall_us;
    undo->now_us = torc_max_u64(hlc_us, wall_us); // the clock may have been set back
    undo->index_used_us = torc_min_u64(undo->index_used_us, wall_us);
    if (undo->indexed && undo->index_used_us + undo->age_us < wall_us) {
        index_drop(undo);
    }
    if (undo->first == undo->last && segment_at(undo, undo->last)->used > 0 &&
        segment_is_aged(undo, undo->last)) {
        segment_open(undo);
    }
    segments_age(undo);
}

bool torc_undo_yield(struct torc_undo *undo)
{
    uint64_t count = undo->large_count;

    while (undo->large_count > 0 && undo->large_count == count) {
        if (undo->first == undo->last) {
            segment_open(undo);
        }
        segment_drop(undo);
    }
    return undo->large_count < count;
}

// -- Writes ---------------------------------------------------------------------------------------

static void entry_set(struct undo_entry *entry, uint64_t key, uint64_t version,
                      const struct torc_tree_pair *old)
{
    entry->key = key;
    entry->version = version;
    entry->older = 0;
    entry->jump = 0;
    entry->depth = 0;
    if (old == NULL) {
        entry->old_version = 0;
        entry->value_bytes = ABSENT;
        return;
    }
    entry->old_version = old->version;
    entry->value_bytes = old->value_bytes;
    if (old->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
        memcpy(entry + 1, &old->value, sizeof(old->value));
    } else {
        torc_leaf_value_copy((unsigned char *)(entry + 1), old->value, old->value_bytes);
    }
}

// The open segment, with room for so many bytes more.
static struct torc_undo_segment *segment_with_room(struct torc_undo *undo, uint32_t bytes)
{
    struct torc_undo_segment *segment = segment_at(undo, undo->last);

    if (segment->used + bytes > SEGMENT_BYTES ||
        segment->large_bytes > undo->limit_bytes / LARGE_SHARE) {
        segment_open(undo);
        window_fit(undo); // beside large values there may be no room for one more
        segment = segment_at(undo, undo->last);
    }
    return segment;
}

bool torc_undo_keep(struct torc_undo *undo, uint64_t key, uint64_t version,
                    const struct torc_tree_pair *old)
{
    uint32_t bytes = entry_bytes(old == NULL ? ABSENT : old->value_bytes);
    bool large = old != NULL && old->value_bytes > TORC_TREE_INLINE_BYTES_MAX;
    struct torc_undo_segment *segment;

    torc_assert(torc_undo_is_on(undo));
    undo->now_us = torc_max_u64(undo->now_us, torc_hlc_us(version));
    if (large && old->value_bytes > undo->limit_bytes / LARGE_MAX) {
        torc_undo_clear(undo);
        undo->floor = torc_max_u64(undo->floor, version);
        return false;
    }
    segment = segment_with_room(undo, bytes);
    entry_set(entry_at(undo, undo->last * SEGMENT_BYTES + segment->used), key, version, old);
    segment->used += bytes;
    segment->version_max = torc_max_u64(segment->version_max, version);
    undo->kept_count++;
    if (large) {
        segment->large_bytes += old->value_bytes;
        segment->large_count++;
        undo->large_bytes += old->value_bytes;
        undo->large_count++;
        window_fit(undo);
    }
    return large;
}

void torc_undo_keep_new(struct torc_undo *undo, const struct torc_tree_write *writes,
                        uint32_t count)
{
    const uint32_t bytes = entry_bytes(ABSENT);
    uint32_t done = 0;

    torc_assert(torc_undo_is_on(undo));
    while (done < count) {
        struct torc_undo_segment *segment;
        struct undo_entry *entries;
        uint64_t highest = writes[done].version;
        uint32_t some;

        undo->now_us = torc_max_u64(undo->now_us, torc_hlc_us(highest)); // tells what is aged
        segment = segment_with_room(undo, bytes);
        entries = entry_at(undo, undo->last * SEGMENT_BYTES + segment->used);
        some = (SEGMENT_BYTES - segment->used) / bytes;
        some = some < count - done ? some : count - done;
        for (uint32_t i = 0; i < some; i++) {
            entry_set(&entries[i], writes[done + i].key, writes[done + i].version, NULL);
            highest = torc_max_u64(highest, writes[done + i].version);
        }
        undo->now_us = torc_max_u64(undo->now_us, torc_hlc_us(highest));
        segment->used += some * bytes;
        segment->version_max = torc_max_u64(segment->version_max, highest);
        done += some;
    }
    undo->kept_count += count;
}

// -- The index ------------------------------------------------------------------------------------

static void index_begin(struct torc_undo *undo, uint64_t ts)
{
    uint64_t number = undo->first;
    enum torc_err err;

    index_drop(undo);
    undo->index_number++;
    undo->index_floor = undo->floor;
    while (number < undo->last && segment_at(undo, number)->version_max <= ts) {
        undo->index_floor = torc_max_u64(undo->index_floor, segment_at(undo, number)->version_max);
        number++;
    }
    undo->index_first = number * SEGMENT_BYTES;
    undo->index_next = undo->index_first;
    err = torc_tree_init(&undo->index, undo->code, &undo->index_chunks, undo->heap, NULL);
    torc_assert(err == TORC_ERR_OK); // the pool is its own, and holds a chunk at least
    undo->indexed = true;
}

// Myers: the jump goes as far as the next one's and its jump's, if these are of one length.
static void entry_link(const struct torc_undo *undo, uint64_t place, uint64_t older_place)
{
    struct undo_entry *entry = entry_at(undo, place);
    const struct undo_entry *older = entry_at(undo, older_place);
    const struct undo_entry *jump;
    const struct undo_entry *further;
    uint64_t jump_place = 0;
    uint64_t further_place = 0;
    uint64_t target = older_place;

    torc_assert(older->key == entry->key);
    if (older->version >= entry->version) {
        return; // of the history before this one (U1): its shard's floor lies above it
    }
    entry->depth = older->depth + 1;
    jump = entry_before(undo, older_place, older->jump, &jump_place);
    further = jump == NULL ? NULL : entry_before(undo, jump_place, jump->jump, &further_place);
    if (further != NULL && older->depth - jump->depth == jump->depth - further->depth) {
        target = further_place;
    }
    entry->older = (uint32_t)((place - older_place) / UNIT_BYTES);
    entry->jump = (uint32_t)((place - target) / UNIT_BYTES);
}

// Asks for the older entries that entry_link will look at, all at once: they lie anywhere in the
// log.
static inline __attribute__((always_inline)) void links_prefetch(
    const struct torc_undo *undo, const struct torc_tree_write *writes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (writes[i].existed) {
            __builtin_prefetch(entry_at(undo, writes[i].old_version));
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t jump_place;

        if (writes[i].existed) {
            __builtin_prefetch(entry_before(undo, writes[i].old_version,
                                            entry_at(undo, writes[i].old_version)->jump,
                                            &jump_place));
        }
    }
}

// Puts the next entries, TORC_TREE_BATCH at the most, into the index. Returns how many; fewer than
// there were when its memory is full.
static uint32_t index_batch(struct torc_undo *undo, bool *full)
{
    struct torc_tree_write writes[TORC_TREE_BATCH];
    uint64_t end = (undo->index_next / SEGMENT_BYTES) * SEGMENT_BYTES +
                   segment_at(undo, undo->index_next / SEGMENT_BYTES)->used;
    uint32_t count = 0;
    uint64_t place = undo->index_next;

    while (count < TORC_TREE_BATCH && place < end) {
        const struct undo_entry *entry = entry_at(undo, place);

        writes[count++] = (struct torc_tree_write){.key = entry->key, .version = place};
        place += entry_bytes(entry->value_bytes);
    }
    *full = torc_tree_write_batch(&undo->index, writes, count) > 0;
    links_prefetch(undo, writes, count);
    for (uint32_t i = 0; i < count; i++) {
        if (writes[i].err != TORC_ERR_OK) { // so all others behind it were refused as well
            return i;
        }
        place = writes[i].version;
        if (writes[i].existed) {
            torc_assert(writes[i].old_version >= undo->first * SEGMENT_BYTES); // U4
            entry_link(undo, place, writes[i].old_version);
        }
        undo->index_next = place + entry_bytes(entry_at(undo, place)->value_bytes);
    }
    return count;
}

enum torc_undo_state torc_undo_prepare(struct torc_undo *undo, uint64_t ts, uint32_t entry_max)
{
    uint32_t count = 0;
    bool full = false;

    torc_assert(torc_undo_is_on(undo));
    if (ts < undo->floor) {
        return TORC_UNDO_TOO_OLD;
    }
    if (!undo->indexed || ts < undo->index_floor) {
        index_begin(undo, ts);
    }
    undo->index_used_us = undo->wall_us;
    while (undo->index_next < place_end(undo)) {
        uint64_t number = undo->index_next / SEGMENT_BYTES;

        if (undo->index_next == number * SEGMENT_BYTES + segment_at(undo, number)->used) {
            undo->index_next = (number + 1) * SEGMENT_BYTES;
            continue;
        }
        if (count >= entry_max) {
            return TORC_UNDO_MORE;
        }
        count += index_batch(undo, &full);
        if (full) {
            torc_assert(undo->first < undo->last); // the keys of one segment always fit
            segment_drop(undo);                    // and its keys leave the index
        }
        if (ts < undo->floor) {
            return TORC_UNDO_TOO_OLD;
        }
    }
    return TORC_UNDO_READY;
}

bool torc_undo_is_ready(const struct torc_undo *undo, uint64_t ts)
{
    return undo->indexed && ts >= undo->floor && ts >= undo->index_floor &&
           undo->index_next == place_end(undo);
}

// -- Reads ----------------------------------------------------------------------------------------

void torc_undo_pin(struct torc_undo *undo, uint64_t ts, uint64_t until_us)
{
    uint64_t bucket_us = undo->pin_us / (TORC_UNDO_PINS - 1) + 1;
    uint64_t bucket = torc_hlc_us(ts) / bucket_us;
    struct torc_undo_pin *pin = &undo->pins[bucket % TORC_UNDO_PINS];
    uint64_t held = torc_hlc_us(pin->ts) / bucket_us;

    if (pin->ts == 0 || held < bucket) { // so what is there is past its time
        *pin = (struct torc_undo_pin){.ts = ts, .until_us = until_us};
    } else if (held == bucket) {
        pin->ts = torc_min_u64(pin->ts, ts);
        pin->until_us = torc_max_u64(pin->until_us, until_us);
    }
}

// The oldest entry above `ts` of the key whose newest, above it too, is at `place`.
static const struct undo_entry *entry_search(const struct torc_undo *undo, uint64_t place,
                                             uint64_t ts)
{
    const struct undo_entry *entry = entry_at(undo, place);

    for (;;) {
        uint64_t before;
        const struct undo_entry *next = entry_before(undo, place, entry->jump, &before);

        if (next == NULL || next->version <= ts) {
            next = entry_before(undo, place, entry->older, &before);
        }
        if (next == NULL || next->version <= ts) {
            return entry;
        }
        entry = next;
        place = before;
    }
}

static bool change_at(const struct torc_undo *undo, uint64_t key, uint64_t place, uint64_t ts,
                      struct torc_undo_change *change)
{
    const struct undo_entry *entry = entry_at(undo, place);

    torc_assert(entry->key == key);
    if (entry->version <= ts) {
        return false;
    }
    entry = entry_search(undo, place, ts);
    *change = (struct torc_undo_change){.present = entry->value_bytes != ABSENT, .pair.key = key};
    if (change->present) {
        torc_assert(entry->old_version <= ts);
        change->pair.version = entry->old_version;
        change->pair.value = entry_value(entry);
        change->pair.value_bytes = entry->value_bytes;
    }
    return true;
}

bool torc_undo_get(const struct torc_undo *undo, uint64_t key, uint64_t ts,
                   struct torc_undo_change *change)
{
    struct torc_tree_hit hit;

    torc_assert(torc_undo_is_ready(undo, ts));
    return torc_tree_lookup(&undo->index, key, &hit) &&
           change_at(undo, key, hit.version, ts, change);
}

bool torc_undo_find(const struct torc_undo *undo, uint64_t key, uint64_t version,
                    struct torc_tree_hit *hit)
{
    const struct undo_entry *entry;
    struct torc_tree_hit newest;

    if (!undo->indexed || !torc_tree_lookup(&undo->index, key, &newest) ||
        entry_at(undo, newest.version)->version <= version) {
        return false;
    }
    entry = entry_search(undo, newest.version, version);
    if (entry->value_bytes == ABSENT || entry->old_version != version) {
        return false; // what replaced it has left the window
    }
    *hit = (struct torc_tree_hit){.found = true,
                                  .value = entry_value(entry),
                                  .value_bytes = entry->value_bytes,
                                  .version = version};
    return true;
}

uint32_t torc_undo_keys(const struct torc_undo *undo, struct torc_tree_cursor *cursor,
                        struct torc_undo_key *keys, uint32_t key_max)
{
    struct torc_tree_pair pairs[TORC_UNDO_KEYS_MAX];
    uint32_t count;

    torc_assert(key_max <= TORC_UNDO_KEYS_MAX);
    torc_assert(undo->indexed);
    count = torc_tree_scan(&undo->index, cursor, pairs, key_max);
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = (struct torc_undo_key){.key = pairs[i].key, .place = pairs[i].version};
    }
    return count;
}

void torc_undo_ask(const struct torc_undo *undo, const struct torc_undo_key *keys, uint32_t *asked,
                   uint32_t to)
{
    for (; *asked < to; ++*asked) {
        uint64_t place = keys[*asked].place;

        if (place >= undo->first * SEGMENT_BYTES) {
            const char *entry = (const char *)entry_at(undo, place);

            __builtin_prefetch(entry);
            __builtin_prefetch(entry + sizeof(struct undo_entry) + UNIT_BYTES); // a short value's
        }
    }
}

bool torc_undo_change(const struct torc_undo *undo, const struct torc_undo_key *key, uint64_t ts,
                      struct torc_undo_change *change)
{
    torc_assert(ts >= undo->floor);
    // What has left the window since was written at or below its floor (U2).
    return key->place >= undo->first * SEGMENT_BYTES &&
           change_at(undo, key->key, key->place, ts, change);
}

// -- Looking in -----------------------------------------------------------------------------------

uint64_t torc_undo_memory(const struct torc_undo *undo)
{
    if (!torc_undo_is_on(undo)) {
        return 0;
    }
    return (undo->last - undo->first + 1) * SEGMENT_BYTES +
           (undo->indexed ? (uint64_t)undo->index.chunks.chunk_count * TORC_CHUNK_BYTES : 0);
}

// One indexed entry: its key is there, with it or a newer one; the chain falls.
static bool entry_check(const struct torc_undo *undo, uint64_t place, uint64_t *newest_count)
{
    const struct undo_entry *entry = entry_at(undo, place);
    const struct undo_entry *older;
    struct torc_tree_hit hit;
    uint64_t before;

    if (!torc_tree_lookup(&undo->index, entry->key, &hit) || hit.version < place) {
        return false;
    }
    *newest_count += hit.version == place ? 1 : 0;
    older = entry_before(undo, place, entry->older, &before);
    return older == NULL || (older->key == entry->key && older->version < entry->version);
}

static bool segment_check(const struct torc_undo *undo, uint64_t number, uint64_t *newest_count)
{
    const struct torc_undo_segment *segment = segment_at(undo, number);
    uint64_t start = number * SEGMENT_BYTES;
    uint64_t large_bytes = 0;
    uint64_t place = start;

    while (place < start + segment->used) {
        const struct undo_entry *entry = entry_at(undo, place);

        if (entry->version > segment->version_max ||
            (undo->indexed && place >= undo->index_first && place < undo->index_next &&
             !entry_check(undo, place, newest_count))) {
            return false;
        }
        if (entry->value_bytes != ABSENT && entry->value_bytes > TORC_TREE_INLINE_BYTES_MAX) {
            large_bytes += entry->value_bytes;
        }
        place += entry_bytes(entry->value_bytes);
    }
    return place == start + segment->used && large_bytes == segment->large_bytes;
}

enum torc_err torc_undo_check(const struct torc_undo *undo, struct torc_fail *why)
{
    uint64_t newest_count = 0;
    uint64_t large_bytes = 0;

    if (!torc_undo_is_on(undo)) {
        return TORC_ERR_OK;
    }
    if (undo->last - undo->first + 1 + undo->free_count != undo->segment_max ||
        window_bytes(undo) > undo->limit_bytes) {
        return torc_fail(why, TORC_ERR_CORRUPT, "U3: segments %" PRIu64 " to %" PRIu64 ", %u free",
                         undo->first, undo->last, undo->free_count);
    }
    for (uint64_t number = undo->first; number <= undo->last; number++) {
        if (!segment_check(undo, number, &newest_count)) {
            return torc_fail(why, TORC_ERR_CORRUPT, "U1, U4: segment %" PRIu64, number);
        }
        large_bytes += segment_at(undo, number)->large_bytes;
    }
    if (large_bytes != undo->large_bytes) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "U3: large values of %" PRIu64 " bytes, not %" PRIu64, large_bytes,
                         undo->large_bytes);
    }
    if (undo->indexed && newest_count != undo->index.record_count) {
        return torc_fail(why, TORC_ERR_CORRUPT, "U4: %" PRIu64 " keys, %" PRIu64 " in the index",
                         newest_count, undo->index.record_count);
    }
    return undo->indexed ? torc_tree_check(&undo->index, why) : TORC_ERR_OK;
}
