// Torc dataplane: the table of principals; see principals.h.
#include "dataplane/principals.h"

#include "wire/handshake.h"
#include "wire/noise.h"
#include "wire/op.h"

#include <sodium.h>

#include <string.h>

// As many may rest as there can be: a table that has nothing in common with the one before it is
// taken at once, and the next such one when sessions of the first have been let go.
#define ENTRIES (2 * TORC_CHAN_PRINCIPALS_MAX)
#define NEW     UINT16_MAX // a place is to be found
#define ROLES   (TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN)

enum entry_state {
    ENTRY_FREE,
    ENTRY_LIVE,
    ENTRY_ENDED, // of no table any more; sessions of it are still held
};

struct entry {
    struct torc_rights rights;
    uint32_t state; // enum entry_state
    uint32_t sessions_max;
    uint32_t open; // sessions
    uint32_t held; // those and the ones that rest
    uint32_t key_count;
    uint32_t serials[2];
    uint8_t key_ids[2];
    bool listed; // in the table being loaded
    uint8_t zero;
    uint8_t psks[2][TORC_CHAN_PSK_BYTES];
};

struct torc_principals {
    uint32_t count; // live ones
    uint32_t free_count;
    uint32_t last_serial;
    uint32_t nodes; // place of the one with role node, or TORC_PRINCIPAL_NOBODY
    uint8_t dummy[TORC_CHAN_PSK_BYTES];
    uint16_t order[TORC_CHAN_PRINCIPALS_MAX]; // places of live ones, by number
    uint16_t free[ENTRIES];                   // a stack of places
    struct entry entries[ENTRIES];
};

uint64_t torc_principals_bytes(void)
{
    return sizeof(struct torc_principals);
}

void torc_principals_init(struct torc_principals **principals, void *memory,
                          const uint8_t dummy[TORC_CHAN_PSK_BYTES])
{
    struct torc_principals *made = memory;

    torc_assert((uintptr_t)memory % 64 == 0);
    memcpy(made->dummy, dummy, sizeof(made->dummy));
    made->free_count = ENTRIES;
    made->nodes = TORC_PRINCIPAL_NOBODY;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        made->free[i] = (uint16_t)(ENTRIES - 1 - i); // the lowest first: memory is touched in order
    }
    *principals = made;
}

static struct entry *entry_at(struct torc_principals *principals, uint32_t place)
{
    torc_assert(place < ENTRIES);
    torc_assert(principals->entries[place].state != ENTRY_FREE);
    return &principals->entries[place];
}

// -- Looking up ----------------------------------------------------------------------------------

// Position in `order` of the first live number that is not below `number`.
static uint32_t order_find(const struct torc_principals *principals, uint32_t number)
{
    uint32_t low = 0;
    uint32_t high = principals->count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (principals->entries[principals->order[middle]].rights.number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Place of the live principal of this number, or TORC_PRINCIPAL_NOBODY.
static uint32_t place_of(const struct torc_principals *principals, uint32_t number)
{
    uint32_t at = order_find(principals, number);

    if (at == principals->count ||
        principals->entries[principals->order[at]].rights.number != number) {
        return TORC_PRINCIPAL_NOBODY;
    }
    return principals->order[at];
}

void torc_principals_find(const struct torc_principals *principals, uint32_t number, uint8_t key,
                          struct torc_principal_found *found)
{
    uint32_t place = place_of(principals, number);

    *found =
        (struct torc_principal_found){.psk = principals->dummy, .place = TORC_PRINCIPAL_NOBODY};
    if (place == TORC_PRINCIPAL_NOBODY || place == principals->nodes) {
        return; // nodes call under numbers of their own
    }
    for (uint32_t i = 0; i < principals->entries[place].key_count; i++) {
        const struct entry *entry = &principals->entries[place];

        if (entry->key_ids[i] == key) {
            found->rights = &entry->rights;
            found->psk = entry->psks[i];
            found->place = place;
            found->key_serial = entry->serials[i];
        }
    }
}

void torc_principals_find_node(const struct torc_principals *principals,
                               const struct torc_principal_caller *caller,
                               uint8_t psk[TORC_CHAN_PSK_BYTES], struct torc_principal_found *found)
{
    const struct entry *entry =
        principals->nodes == TORC_PRINCIPAL_NOBODY ? NULL : &principals->entries[principals->nodes];
    const uint8_t *secret = principals->dummy;

    torc_assert(caller->number >= TORC_PRINCIPAL_NODE);
    *found = (struct torc_principal_found){.psk = psk, .place = TORC_PRINCIPAL_NOBODY};
    for (uint32_t i = 0; entry != NULL && i < entry->key_count; i++) {
        if (entry->key_ids[i] == caller->key) {
            secret = entry->psks[i];
            found->rights = &entry->rights;
            found->place = principals->nodes;
            found->key_serial = entry->serials[i];
        }
    }
    torc_noise_caller(psk, secret, caller->number - TORC_PRINCIPAL_NODE);
    torc_noise_bind(psk, psk, caller->cluster, caller->node);
}

// -- Sessions ------------------------------------------------------------------------------------

uint32_t torc_principals_room(const struct torc_principals *principals, uint32_t place)
{
    const struct entry *entry = &principals->entries[place];

    torc_assert(place < ENTRIES);
    torc_assert(entry->state == ENTRY_LIVE);
    return entry->open < entry->sessions_max ? entry->sessions_max - entry->open : 0;
}

void torc_principals_open(struct torc_principals *principals, uint32_t place, uint32_t sessions)
{
    struct entry *entry = entry_at(principals, place);

    torc_assert(sessions <= torc_principals_room(principals, place));
    entry->open += sessions;
    entry->held += sessions;
}

void torc_principals_close(struct torc_principals *principals, uint32_t place)
{
    struct entry *entry = entry_at(principals, place);

    torc_assert(entry->open > 0);
    entry->open--;
}

static void entry_free(struct torc_principals *principals, uint32_t place)
{
    torc_assert(principals->free_count < ENTRIES);
    principals->entries[place].state = ENTRY_FREE;
    principals->free[principals->free_count++] = (uint16_t)place;
}

void torc_principals_release(struct torc_principals *principals, uint32_t place)
{
    struct entry *entry = entry_at(principals, place);

    torc_assert(entry->held > entry->open);
    entry->held--;
    if (entry->state == ENTRY_ENDED && entry->held == 0) {
        entry_free(principals, place);
    }
}

enum torc_principal_fate torc_principals_fate(const struct torc_principals *principals,
                                              uint32_t place, uint32_t key_serial)
{
    const struct entry *entry = &principals->entries[place];

    torc_assert(place < ENTRIES);
    torc_assert(entry->held > 0);
    if (entry->state != ENTRY_LIVE) {
        return TORC_FATE_GONE;
    }
    for (uint32_t i = 0; i < entry->key_count; i++) {
        if (entry->serials[i] == key_serial) {
            return TORC_FATE_STAYS;
        }
    }
    return TORC_FATE_KEY_REMOVED;
}

void torc_principals_tell(const struct torc_principals *principals,
                          _Atomic uint32_t counts[TORC_CHAN_PRINCIPALS_MAX])
{
    for (uint32_t i = 0; i < principals->count; i++) {
        atomic_store_explicit(&counts[i], principals->entries[principals->order[i]].open,
                              memory_order_relaxed);
    }
}

// -- Loading -------------------------------------------------------------------------------------

static bool ranges_ok(const struct torc_chan_principal *from)
{
    for (uint32_t i = 0; i < from->range_count; i++) {
        if (from->ranges[i].lo >= from->ranges[i].hi ||
            (i > 0 && from->ranges[i].lo <= from->ranges[i - 1].hi)) {
            return false;
        }
    }
    return true;
}

// The role node stands alone, and goes for all keys.
static bool roles_ok(const struct torc_chan_principal *from)
{
    if (from->roles == TORC_ROLE_NODE) {
        return from->range_count == 0;
    }
    return from->roles != 0 && (from->roles & ~(uint32_t)ROLES) == 0;
}

static bool principal_ok(const struct torc_chan_principal *from)
{
    return from->number != 0 && from->number < TORC_PRINCIPAL_NODE && roles_ok(from) &&
           from->sessions_max != 0 && from->range_count <= TORC_CHAN_RANGES_MAX &&
           ranges_ok(from) && from->key_count >= 1 && from->key_count <= 2 &&
           (from->key_count == 1 || from->key_ids[0] != from->key_ids[1]);
}

static enum torc_err list_check(const struct torc_chan_principal *list, uint32_t count,
                                struct torc_fail *why)
{
    uint32_t nodes = 0;

    if (count > TORC_CHAN_PRINCIPALS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%" PRIu32 " principals: at most %u",
                         count, TORC_CHAN_PRINCIPALS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        nodes += list[i].roles == TORC_ROLE_NODE ? 1 : 0;
        if (nodes > 1 || !principal_ok(&list[i]) ||
            (i > 0 && list[i].number <= list[i - 1].number)) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "principal %" PRIu32 ", number %" PRIu32
                             ", of the table of keys makes no sense",
                             i, list[i].number);
        }
    }
    return TORC_ERR_OK;
}

static bool rights_same(const struct torc_rights *rights, const struct torc_chan_principal *from)
{
    return rights->roles == from->roles && rights->range_count == from->range_count &&
           memcmp(rights->ranges, from->ranges, rights->range_count * sizeof(rights->ranges[0])) ==
               0;
}

// Serial of the same key; 0: there is none.
static uint32_t key_same(const struct entry *old, const struct torc_chan_principal *from,
                         uint32_t key)
{
    for (uint32_t i = 0; i < old->key_count; i++) {
        if (old->key_ids[i] == from->key_ids[key] &&
            sodium_memcmp(old->psks[i], from->psks[key], TORC_CHAN_PSK_BYTES) == 0) {
            return old->serials[i];
        }
    }
    return 0;
}

// Place of the live principal that goes on as `from`, or TORC_PRINCIPAL_NOBODY. Without a key of
// its own it is another one: one that was revoked left its number to one that was added. There is
// one of nodes alone: whose file is changed first must not lose all others at once.
static uint32_t place_staying(const struct torc_principals *principals,
                              const struct torc_chan_principal *from)
{
    uint32_t place = place_of(principals, from->number);
    bool same = from->roles == TORC_ROLE_NODE;

    if (place == TORC_PRINCIPAL_NOBODY || !rights_same(&principals->entries[place].rights, from)) {
        return TORC_PRINCIPAL_NOBODY;
    }
    for (uint32_t i = 0; i < from->key_count; i++) {
        same = same || key_same(&principals->entries[place], from, i) != 0;
    }
    return same ? place : TORC_PRINCIPAL_NOBODY;
}

// Serial of the same key where there is one; else a new one.
static uint32_t key_serial(struct torc_principals *principals, const struct entry *old,
                           const struct torc_chan_principal *from, uint32_t key)
{
    uint32_t serial = key_same(old, from, key);

    if (serial == 0) {
        torc_assert(principals->last_serial < UINT32_MAX);
        serial = ++principals->last_serial;
    }
    return serial;
}

static void entry_take_keys(struct torc_principals *principals, struct entry *entry,
                            const struct torc_chan_principal *from)
{
    uint32_t serials[2] = {0, 0};

    for (uint32_t i = 0; i < from->key_count; i++) {
        serials[i] = key_serial(principals, entry, from, i);
    }
    memcpy(entry->serials, serials, sizeof(serials));
    sodium_memzero(entry->psks, sizeof(entry->psks));
    for (uint32_t i = 0; i < from->key_count; i++) {
        entry->key_ids[i] = from->key_ids[i];
        memcpy(entry->psks[i], from->psks[i], sizeof(entry->psks[i]));
    }
    entry->key_count = from->key_count;
    entry->sessions_max = from->sessions_max;
}

static uint32_t entry_make(struct torc_principals *principals,
                           const struct torc_chan_principal *from)
{
    uint32_t place;
    struct entry *entry;

    torc_assert(principals->free_count > 0);
    place = principals->free[--principals->free_count];
    entry = &principals->entries[place];
    torc_assert(entry->state == ENTRY_FREE);
    torc_assert(entry->held == 0);
    memset(entry, 0, sizeof(*entry));
    entry->state = ENTRY_LIVE;
    entry->rights.number = from->number;
    entry->rights.roles = from->roles;
    entry->rights.range_count = from->range_count;
    memcpy(entry->rights.ranges, from->ranges, from->range_count * sizeof(from->ranges[0]));
    return place;
}

// Whether the new table does not go on with it, and no session of it is held.
static bool entry_goes(const struct entry *entry)
{
    return !entry->listed && entry->held == 0;
}

// Those that the new table does not go on with.
static void end_unlisted(struct torc_principals *principals)
{
    for (uint32_t i = 0; i < principals->count; i++) {
        struct entry *entry = &principals->entries[principals->order[i]];

        if (!entry->listed) {
            sodium_memzero(entry->psks, sizeof(entry->psks));
            entry->key_count = 0;
            entry->state = ENTRY_ENDED;
        }
        if (entry_goes(entry)) {
            entry_free(principals, principals->order[i]);
        }
    }
}

// Fills `order` with the places of those that stay, NEW for others. BUSY: no room for the others.
static enum torc_err list_place(struct torc_principals *principals,
                                const struct torc_chan_principal *list, uint32_t count,
                                uint16_t *order, struct torc_fail *why)
{
    uint32_t wanted = 0;
    uint32_t room = principals->free_count;

    for (uint32_t i = 0; i < principals->count; i++) {
        principals->entries[principals->order[i]].listed = false;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = place_staying(principals, &list[i]);

        order[i] = place == TORC_PRINCIPAL_NOBODY ? NEW : (uint16_t)place;
        if (place == TORC_PRINCIPAL_NOBODY) {
            wanted++;
        } else {
            principals->entries[place].listed = true;
        }
    }
    for (uint32_t i = 0; i < principals->count; i++) {
        room += entry_goes(&principals->entries[principals->order[i]]) ? 1 : 0;
    }
    if (wanted > room) {
        return torc_fail(why, TORC_ERR_BUSY,
                         "%" PRIu32 " new principals: sessions of earlier ones have yet to end",
                         wanted);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_principals_load(struct torc_principals *principals,
                                   const struct torc_chan_principal *list, uint32_t count,
                                   struct torc_fail *why)
{
    uint16_t order[TORC_CHAN_PRINCIPALS_MAX];
    enum torc_err err = list_check(list, count, why);

    if (err == TORC_ERR_OK) {
        err = list_place(principals, list, count, order, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    end_unlisted(principals);
    for (uint32_t i = 0; i < count; i++) {
        order[i] = order[i] == NEW ? (uint16_t)entry_make(principals, &list[i]) : order[i];
        entry_take_keys(principals, &principals->entries[order[i]], &list[i]);
    }
    memcpy(principals->order, order, count * sizeof(order[0]));
    principals->count = count;
    principals->nodes = TORC_PRINCIPAL_NOBODY;
    for (uint32_t i = 0; i < count; i++) {
        principals->nodes = list[i].roles == TORC_ROLE_NODE ? order[i] : principals->nodes;
    }
    return TORC_ERR_OK;
}
