// Torc dataplane: values that arrive in pieces; see fragment.h.
#include "dataplane/fragment.h"

#include <string.h>

#define TABLE_SLOTS   4096u
#define RECLAIM_SLICE 16u

_Static_assert(TABLE_SLOTS == 4 * TORC_FRAGMENT_ENTRIES, "at most a quarter full");
_Static_assert(TORC_FRAGMENT_ENTRIES < UINT16_MAX, "the table holds entry + 1 in 16 bits");

static uint32_t fragment_units(uint32_t bytes)
{
    return bytes / TORC_FRAGMENT_UNIT_BYTES + (bytes % TORC_FRAGMENT_UNIT_BYTES != 0 ? 1 : 0);
}

static uint64_t fragment_bitmap_bytes(uint32_t units)
{
    return ((uint64_t)units + 63u) / 64u * 8u;
}

uint64_t torc_fragments_bytes(uint32_t pool_bytes)
{
    uint32_t units = fragment_units(pool_bytes);

    return (uint64_t)units * TORC_FRAGMENT_UNIT_BYTES + fragment_bitmap_bytes(units) +
           (uint64_t)TORC_FRAGMENT_ENTRIES * sizeof(struct torc_fragment_entry) +
           TABLE_SLOTS * sizeof(uint16_t);
}

void torc_fragments_init(struct torc_fragments *fragments, void *memory, uint32_t pool_bytes,
                         uint32_t session_bytes_max, uint64_t seed)
{
    unsigned char *at = memory;

    memset(fragments, 0, sizeof(*fragments));
    fragments->unit_count = fragment_units(pool_bytes);
    fragments->session_bytes_max = session_bytes_max;
    fragments->seed = seed;
    fragments->units = at;
    at += (uint64_t)fragments->unit_count * TORC_FRAGMENT_UNIT_BYTES;
    fragments->unit_used = (uint64_t *)(void *)at;
    at += fragment_bitmap_bytes(fragments->unit_count);
    fragments->entries = (struct torc_fragment_entry *)(void *)at;
    at += (uint64_t)TORC_FRAGMENT_ENTRIES * sizeof(struct torc_fragment_entry);
    fragments->table = (uint16_t *)(void *)at;
}

static uint32_t fragment_hash(const struct torc_fragments *fragments, struct torc_fragment_id id)
{
    uint64_t mixed = (id.serial * 0x9e3779b97f4a7c15u) ^ id.op_id ^ fragments->seed;

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)((mixed ^ (mixed >> 31)) % TABLE_SLOTS);
}

static bool fragment_same(struct torc_fragment_id a, struct torc_fragment_id b)
{
    return a.serial == b.serial && a.op_id == b.op_id;
}

struct torc_fragment_entry *torc_fragments_find(struct torc_fragments *fragments,
                                                struct torc_fragment_id id)
{
    uint32_t at = fragment_hash(fragments, id);

    // The table is at most a quarter full, so an empty place ends every search.
    while (fragments->table[at] != 0) {
        struct torc_fragment_entry *entry = &fragments->entries[fragments->table[at] - 1];

        if (fragment_same(entry->id, id)) {
            return entry;
        }
        at = (at + 1) % TABLE_SLOTS;
    }
    return NULL;
}

static void fragment_table_add(struct torc_fragments *fragments, uint32_t index)
{
    uint32_t at = fragment_hash(fragments, fragments->entries[index].id);

    while (fragments->table[at] != 0) {
        at = (at + 1) % TABLE_SLOTS;
    }
    fragments->table[at] = (uint16_t)(index + 1);
}

// Linear probing without tombstones: those behind the hole move up (Knuth, volume 3, 6.4 R).
static void fragment_table_remove(struct torc_fragments *fragments, uint32_t index)
{
    uint32_t hole = fragment_hash(fragments, fragments->entries[index].id);
    uint32_t at;

    while (fragments->table[hole] != index + 1) {
        torc_assert(fragments->table[hole] != 0);
        hole = (hole + 1) % TABLE_SLOTS;
    }
    fragments->table[hole] = 0;
    for (at = (hole + 1) % TABLE_SLOTS; fragments->table[at] != 0; at = (at + 1) % TABLE_SLOTS) {
        uint32_t home = fragment_hash(fragments, fragments->entries[fragments->table[at] - 1].id);

        if ((at - home) % TABLE_SLOTS >= (at - hole) % TABLE_SLOTS) {
            fragments->table[hole] = fragments->table[at];
            fragments->table[at] = 0;
            hole = at;
        }
    }
}

static bool unit_is_used(const struct torc_fragments *fragments, uint32_t unit)
{
    return (fragments->unit_used[unit / 64] >> (unit % 64) & 1) != 0;
}

// First fit. UINT32_MAX: no run of that length.
static uint32_t units_find(const struct torc_fragments *fragments, uint32_t count)
{
    uint32_t run = 0;

    for (uint32_t unit = 0; unit < fragments->unit_count; unit++) {
        run = unit_is_used(fragments, unit) ? 0 : run + 1;
        if (run == count) {
            return unit + 1 - count;
        }
    }
    return UINT32_MAX;
}

static void units_mark(struct torc_fragments *fragments, uint32_t first, uint32_t count, bool used)
{
    for (uint32_t unit = first; unit < first + count; unit++) {
        torc_assert(unit_is_used(fragments, unit) != used);
        fragments->unit_used[unit / 64] ^= UINT64_C(1) << (unit % 64);
    }
    fragments->units_used = used ? fragments->units_used + count : fragments->units_used - count;
}

// Frees everything idle for longer than `idle_ns`, all entries looked at: only under pressure.
static void fragments_press(struct torc_fragments *fragments, uint64_t now_ns, uint64_t idle_ns)
{
    for (uint32_t i = 0; i < TORC_FRAGMENT_ENTRIES; i++) {
        struct torc_fragment_entry *entry = &fragments->entries[i];

        if (entry->used && now_ns - entry->touched_ns >= idle_ns) {
            torc_fragments_close(fragments, entry);
        }
    }
}

static uint64_t fragments_session_bytes(const struct torc_fragments *fragments, uint64_t serial)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < TORC_FRAGMENT_ENTRIES; i++) {
        if (fragments->entries[i].used && fragments->entries[i].id.serial == serial) {
            bytes += (uint64_t)fragments->entries[i].unit_count * TORC_FRAGMENT_UNIT_BYTES;
        }
    }
    return bytes;
}

static struct torc_fragment_entry *fragments_free_entry(struct torc_fragments *fragments)
{
    for (uint32_t i = 0; i < TORC_FRAGMENT_ENTRIES; i++) {
        if (!fragments->entries[i].used) {
            return &fragments->entries[i];
        }
    }
    return NULL;
}

struct torc_fragment_entry *torc_fragments_open(struct torc_fragments *fragments,
                                                struct torc_fragment_id id, uint32_t total_bytes,
                                                uint32_t fragment_bytes, uint64_t now_ns)
{
    uint32_t units = fragment_units(total_bytes);
    struct torc_fragment_entry *entry;
    uint32_t first;

    torc_assert(fragment_bytes > 0 && total_bytes > 0);
    torc_assert((total_bytes - 1) / fragment_bytes < TORC_FRAGMENT_COUNT_MAX);
    torc_assert(torc_fragments_find(fragments, id) == NULL);
    if (fragments_session_bytes(fragments, id.serial) + (uint64_t)units * TORC_FRAGMENT_UNIT_BYTES >
        fragments->session_bytes_max) {
        return NULL;
    }
    entry = fragments_free_entry(fragments);
    first = units_find(fragments, units);
    if (entry == NULL || first == UINT32_MAX) {
        fragments_press(fragments, now_ns, TORC_FRAGMENT_PRESSURE_NS);
        entry = fragments_free_entry(fragments);
        first = units_find(fragments, units);
    }
    if (entry == NULL || first == UINT32_MAX) {
        return NULL;
    }
    memset(entry, 0, offsetof(struct torc_fragment_entry, have));
    entry->used = true;
    entry->id = id;
    entry->total_bytes = total_bytes;
    entry->fragment_bytes = fragment_bytes;
    entry->fragment_count = (total_bytes - 1) / fragment_bytes + 1;
    entry->unit_first = first;
    entry->unit_count = units;
    entry->touched_ns = now_ns;
    memset(entry->have, 0,
           (entry->fragment_count / 64 + 1) * sizeof(entry->have[0]) > sizeof(entry->have)
               ? sizeof(entry->have)
               : (entry->fragment_count / 64 + 1) * sizeof(entry->have[0]));
    units_mark(fragments, first, units, true);
    fragment_table_add(fragments, (uint32_t)(entry - fragments->entries));
    return entry;
}

bool torc_fragment_fits(const struct torc_fragment_entry *entry, uint32_t number,
                        uint32_t byte_count)
{
    uint32_t last = entry->fragment_count - 1;

    if (number > last) {
        return false;
    }
    return byte_count == (number < last ? entry->fragment_bytes
                                        : entry->total_bytes - last * entry->fragment_bytes);
}

static bool fragment_has(const struct torc_fragment_entry *entry, uint32_t number)
{
    return (entry->have[number / 64] >> (number % 64) & 1) != 0;
}

bool torc_fragments_add(struct torc_fragments *fragments, struct torc_fragment_entry *entry,
                        uint32_t number, const void *bytes, uint32_t byte_count, uint64_t now_ns)
{
    unsigned char *value =
        fragments->units + (uint64_t)entry->unit_first * TORC_FRAGMENT_UNIT_BYTES;

    torc_assert(entry->used);
    torc_assert(torc_fragment_fits(entry, number, byte_count));
    entry->touched_ns = now_ns;
    if (fragment_has(entry, number)) {
        return false;
    }
    memcpy(value + (uint64_t)number * entry->fragment_bytes, bytes, byte_count);
    entry->have[number / 64] |= UINT64_C(1) << (number % 64);
    entry->have_count++;
    while (entry->first_missing < entry->fragment_count &&
           fragment_has(entry, entry->first_missing)) {
        entry->first_missing++;
    }
    return true;
}

const void *torc_fragments_value(const struct torc_fragments *fragments,
                                 const struct torc_fragment_entry *entry)
{
    torc_assert(entry->used && torc_fragment_is_whole(entry));
    return fragments->units + (uint64_t)entry->unit_first * TORC_FRAGMENT_UNIT_BYTES;
}

void torc_fragment_bitmap(const struct torc_fragment_entry *entry, unsigned char bitmap[32])
{
    memset(bitmap, 0, 32);
    for (uint32_t i = 0; i < 256 && entry->first_missing + i < entry->fragment_count; i++) {
        if (fragment_has(entry, entry->first_missing + i)) {
            bitmap[i / 8] = (unsigned char)(bitmap[i / 8] | 1u << (i % 8));
        }
    }
}

void torc_fragments_close(struct torc_fragments *fragments, struct torc_fragment_entry *entry)
{
    torc_assert(entry->used);
    fragment_table_remove(fragments, (uint32_t)(entry - fragments->entries));
    units_mark(fragments, entry->unit_first, entry->unit_count, false);
    entry->used = false;
}

void torc_fragments_reclaim(struct torc_fragments *fragments, uint32_t *cursor, uint64_t now_ns)
{
    for (uint32_t i = 0; i < RECLAIM_SLICE && fragments->units_used > 0; i++) {
        struct torc_fragment_entry *entry = &fragments->entries[*cursor];

        *cursor = (*cursor + 1) % TORC_FRAGMENT_ENTRIES;
        if (entry->used && now_ns - entry->touched_ns >= TORC_FRAGMENT_IDLE_NS) {
            torc_fragments_close(fragments, entry);
        }
    }
}
