// Torc dataplane: values that arrive in pieces; see fragment.h.
#include "dataplane/fragment.h"

#include <string.h>

#define TABLE_SLOTS   4096u
#define ACCOUNT_SLOTS 1024u
#define RECLAIM_SLICE 16u
#define NONE          UINT32_MAX

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
           (uint64_t)TORC_FRAGMENT_ENTRIES *
               (sizeof(struct torc_fragment_entry) + sizeof(struct torc_fragment_account)) +
           (TABLE_SLOTS + ACCOUNT_SLOTS) * sizeof(uint16_t);
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
    fragments->accounts = (struct torc_fragment_account *)(void *)at;
    at += (uint64_t)TORC_FRAGMENT_ENTRIES * sizeof(struct torc_fragment_account);
    fragments->table = (uint16_t *)(void *)at;
    fragments->account_table = fragments->table + TABLE_SLOTS;
    fragments->run_max = fragments->unit_count;
    fragments->oldest = NONE;
    fragments->newest = NONE;
    for (uint32_t i = 0; i < TORC_FRAGMENT_ENTRIES; i++) {
        bool last = i + 1 == TORC_FRAGMENT_ENTRIES;

        fragments->entries[i].older = last ? NONE : i + 1;
        fragments->accounts[i].next = (uint16_t)(last ? 0 : i + 2);
    }
    fragments->account_free = 1;
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

// The first unit from `unit` on that is used, or that is free; unit_count: there is none.
static uint32_t units_next(const struct torc_fragments *fragments, uint32_t unit, bool used)
{
    while (unit < fragments->unit_count) {
        uint64_t word = fragments->unit_used[unit / 64] ^ (used ? 0 : UINT64_MAX);

        word >>= unit % 64;
        if (word != 0) {
            unit += (uint32_t)__builtin_ctzll(word);
            break;
        }
        unit = (unit / 64 + 1) * 64;
    }
    return unit < fragments->unit_count ? unit : fragments->unit_count;
}

// First fit. NONE: no run of that length.
static uint32_t units_find(struct torc_fragments *fragments, uint32_t count)
{
    uint32_t first = 0;

    while (count <= fragments->run_max && first < fragments->unit_count) {
        uint32_t end;

        first = units_next(fragments, first, false);
        end = units_next(fragments, first, true);
        if (end - first >= count) {
            return first;
        }
        first = end;
    }
    fragments->run_max = count <= fragments->run_max ? count - 1 : fragments->run_max;
    return NONE;
}

static void units_mark(struct torc_fragments *fragments, uint32_t first, uint32_t count, bool used)
{
    for (uint32_t unit = first; unit < first + count; unit++) {
        torc_assert(unit_is_used(fragments, unit) != used);
        fragments->unit_used[unit / 64] ^= UINT64_C(1) << (unit % 64);
    }
    fragments->units_used = used ? fragments->units_used + count : fragments->units_used - count;
}

static void entry_unlink(struct torc_fragments *fragments, const struct torc_fragment_entry *entry)
{
    *(entry->older == NONE ? &fragments->oldest : &fragments->entries[entry->older].newer) =
        entry->newer;
    *(entry->newer == NONE ? &fragments->newest : &fragments->entries[entry->newer].older) =
        entry->older;
}

static void entry_link_newest(struct torc_fragments *fragments, struct torc_fragment_entry *entry)
{
    uint32_t index = (uint32_t)(entry - fragments->entries);

    entry->older = fragments->newest;
    entry->newer = NONE;
    *(entry->older == NONE ? &fragments->oldest : &fragments->entries[entry->older].newer) = index;
    fragments->newest = index;
}

void torc_fragments_touch(struct torc_fragments *fragments, struct torc_fragment_entry *entry,
                          uint64_t now_ns)
{
    torc_assert(entry->used && now_ns >= entry->touched_ns);
    entry->touched_ns = now_ns;
    if (entry->newer != NONE) {
        entry_unlink(fragments, entry);
        entry_link_newest(fragments, entry);
    }
}

// Frees what is idle for that long, at most `count_max`. False: nothing is.
static bool fragments_free_idle(struct torc_fragments *fragments, uint64_t now_ns, uint64_t idle_ns,
                                uint32_t count_max)
{
    uint32_t count = 0;

    while (count < count_max && fragments->oldest != NONE &&
           now_ns - fragments->entries[fragments->oldest].touched_ns >= idle_ns) {
        torc_fragments_close(fragments, &fragments->entries[fragments->oldest]);
        count++;
    }
    return count > 0;
}

// Where the session's account is named, or would be.
static uint16_t *account_link(struct torc_fragments *fragments, uint64_t serial)
{
    struct torc_fragment_id id = {.serial = serial};
    uint16_t *link = &fragments->account_table[fragment_hash(fragments, id) % ACCOUNT_SLOTS];

    while (*link != 0 && fragments->accounts[*link - 1].serial != serial) {
        link = &fragments->accounts[*link - 1].next;
    }
    return link;
}

// Counts an entry for its session, which there is an account left for as there is an entry.
static void account_take(struct torc_fragments *fragments, struct torc_fragment_entry *entry)
{
    uint16_t *link = account_link(fragments, entry->id.serial);
    struct torc_fragment_account *account;

    if (*link == 0) {
        torc_assert(fragments->account_free != 0);
        *link = fragments->account_free;
        account = &fragments->accounts[*link - 1];
        fragments->account_free = account->next;
        *account = (struct torc_fragment_account){.serial = entry->id.serial};
    }
    entry->session = *link - 1u;
    account = &fragments->accounts[entry->session];
    account->unit_count += entry->unit_count;
    account->entry_count++;
}

static void account_give(struct torc_fragments *fragments, const struct torc_fragment_entry *entry)
{
    struct torc_fragment_account *account = &fragments->accounts[entry->session];
    uint16_t *link;

    torc_assert(account->entry_count > 0 && account->unit_count >= entry->unit_count);
    account->unit_count -= entry->unit_count;
    account->entry_count--;
    if (account->entry_count > 0) {
        return;
    }
    link = account_link(fragments, account->serial);
    torc_assert(*link == entry->session + 1);
    *link = account->next;
    account->next = fragments->account_free;
    fragments->account_free = (uint16_t)(entry->session + 1);
}

static bool account_allows(struct torc_fragments *fragments, uint64_t serial, uint32_t units)
{
    uint16_t account = *account_link(fragments, serial);
    uint64_t has = account == 0 ? 0 : fragments->accounts[account - 1].unit_count;

    return (has + units) * TORC_FRAGMENT_UNIT_BYTES <= fragments->session_bytes_max;
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
    if (!account_allows(fragments, id.serial, units)) {
        return NULL;
    }
    first = fragments->entry_free == NONE ? NONE : units_find(fragments, units);
    if (first == NONE &&
        fragments_free_idle(fragments, now_ns, TORC_FRAGMENT_PRESSURE_NS, TORC_FRAGMENT_ENTRIES)) {
        first = units_find(fragments, units);
    }
    if (first == NONE) {
        return NULL;
    }
    entry = &fragments->entries[fragments->entry_free];
    fragments->entry_free = entry->older;
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
    entry_link_newest(fragments, entry);
    account_take(fragments, entry);
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
    torc_fragments_touch(fragments, entry, now_ns);
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
    fragments->run_max = fragments->unit_count;
    entry_unlink(fragments, entry);
    account_give(fragments, entry);
    entry->used = false;
    entry->older = fragments->entry_free;
    fragments->entry_free = (uint32_t)(entry - fragments->entries);
}

void torc_fragments_reclaim(struct torc_fragments *fragments, uint64_t now_ns)
{
    (void)fragments_free_idle(fragments, now_ns, TORC_FRAGMENT_IDLE_NS, RECLAIM_SLICE);
}
