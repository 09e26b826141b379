// Torc tests: the shard map beside an array with one entry a key.
//
// Random entries of random ages go into both; after each, every key must give the same entry, the
// table must be sorted without overlaps, the first hole must be the same, and what was refused must
// have had no room. A planted fault (older entries win) must be found.
#include "tests/torc_test.h"
#include "wire/map.h"

#include <string.h>

enum {
    ROUNDS = 300,
    STEPS = 200,
    KEYS = 64,
    ROOM = 12 // random puts make about as many entries
};

struct cell {
    uint64_t version;
    uint32_t epoch;
    uint32_t shard;
    uint32_t put; // that it is of
    bool used;
};

struct model {
    struct torc_map map;
    struct torc_map_entry entries[ROOM];
    struct cell cells[KEYS];
    uint32_t refused;
    uint32_t puts;
};

static bool older_or_same(const struct cell *cell, const struct torc_map_entry *entry)
{
    if (cell->used && cell->shard == entry->shard && cell->epoch != entry->epoch) {
        return cell->epoch < entry->epoch;
    }
    return !cell->used || cell->version < entry->version ||
           (cell->version == entry->version && cell->epoch <= entry->epoch);
}

// Entries that a table of these cells has.
static uint32_t oracle_count(const struct cell *cells)
{
    uint32_t count = 0;

    for (uint64_t key = 0; key < KEYS; key++) {
        count += cells[key].used && (key == 0 || cells[key - 1].put != cells[key].put) ? 1 : 0;
    }
    return count;
}

// The most entries that the table has on the way.
static uint32_t oracle_put(struct model *model, const struct torc_map_entry *entry, bool old_wins)
{
    uint32_t most = oracle_count(model->cells);

    model->puts++;
    for (uint64_t key = entry->lo; key < entry->hi; key++) {
        struct cell *cell = &model->cells[key];

        if (older_or_same(cell, entry) || old_wins) {
            *cell = (struct cell){entry->version, entry->epoch, entry->shard,
                                  model->puts * KEYS + (uint32_t)key, true};
            if (key > entry->lo && cell[-1].put / KEYS == model->puts) {
                cell->put = cell[-1].put; // one part
            }
        }
        if (key + 1 == entry->hi || !(older_or_same(cell + 1, entry) || old_wins)) {
            most = (uint32_t)torc_max_u64(most, oracle_count(model->cells));
        }
    }
    return most;
}

static bool same_at(const struct model *model, uint64_t key)
{
    const struct torc_map_entry *entry = torc_map_find(&model->map, key);
    const struct cell *cell = &model->cells[key];

    if (entry == NULL || !cell->used) {
        return entry == NULL && !cell->used;
    }
    return entry->version == cell->version && entry->epoch == cell->epoch &&
           entry->shard == cell->shard && entry->lo <= key && key < entry->hi;
}

static bool same_everywhere(const struct model *model)
{
    uint64_t hole = KEYS;
    uint64_t end = 0;

    for (uint32_t i = 0; i < model->map.count; i++) { // M1
        const struct torc_map_entry *entry = &model->map.entries[i];

        if (entry->lo < end || entry->lo >= entry->hi) {
            return false;
        }
        end = entry->hi;
    }
    for (uint64_t key = KEYS; key-- > 0;) {
        hole = model->cells[key].used ? hole : key;
        if (!same_at(model, key)) {
            return false;
        }
    }
    return torc_map_hole(&model->map, 0, KEYS) == hole;
}

static bool step(struct torc_rng *rng, struct model *model, bool old_wins)
{
    uint64_t a = torc_rng_below(rng, KEYS + 1);
    uint64_t b = torc_rng_below(rng, KEYS + 1);
    struct torc_map_entry entry = {.lo = torc_min_u64(a, b),
                                   .hi = torc_max_u64(a, b),
                                   .version = torc_rng_below(rng, 6),
                                   .epoch = (uint32_t)torc_rng_below(rng, 3),
                                   .shard = (uint32_t)torc_rng_below(rng, 3)};
    struct cell before[KEYS];
    uint32_t most;

    if (a == b) {
        return true;
    }
    memcpy(before, model->cells, sizeof(before));
    most = oracle_put(model, &entry, old_wins);
    if (torc_map_put(&model->map, &entry) != TORC_ERR_OK) {
        if (most <= ROOM) {
            return false;
        }
        memcpy(model->cells, before, sizeof(before)); // nothing may have changed
        model->refused++;
        return same_everywhere(model);
    }
    return same_everywhere(model);
}

static bool run_rounds(bool old_wins, uint32_t *refused)
{
    struct torc_rng rng = {torc_test_seed()};
    struct model model;
    bool agreed = true;

    *refused = 0;
    for (uint32_t round = 0; round < ROUNDS && agreed; round++) {
        memset(&model, 0, sizeof(model));
        torc_map_init(&model.map, model.entries, ROOM);
        for (uint32_t i = 0; i < STEPS && agreed; i++) {
            agreed = step(&rng, &model, old_wins);
        }
        *refused += model.refused;
    }
    return agreed;
}

static void test_agrees(void)
{
    uint32_t refused;

    CU_ASSERT_TRUE(run_rounds(false, &refused));
    CU_ASSERT_TRUE(refused > 0); // a full table was met
}

static void test_fault_is_found(void)
{
    uint32_t refused;

    CU_ASSERT_FALSE(run_rounds(true, &refused));
}

// As many shards as there is room for come in, and each follows its primary.
static void test_full(void)
{
    struct torc_map_entry entries[ROOM];
    struct torc_map map;

    torc_map_init(&map, entries, ROOM);
    for (uint32_t epoch = 1; epoch <= 2; epoch++) {
        for (uint32_t i = 0; i < ROOM; i++) {
            struct torc_map_entry entry = {
                .lo = i, .hi = i + 1, .version = epoch, .shard = i, .epoch = epoch};

            CU_ASSERT_EQUAL(torc_map_put(&map, &entry), TORC_ERR_OK);
            CU_ASSERT_EQUAL(map.entries[i].epoch, epoch);
        }
    }
    CU_ASSERT_EQUAL(torc_map_hole(&map, 0, ROOM), ROOM);
    // One more has no room.
    CU_ASSERT_EQUAL(torc_map_put(&map, &(struct torc_map_entry){.lo = ROOM, .hi = ROOM + 1}),
                    TORC_ERR_LIMIT);
    CU_ASSERT_EQUAL(map.count, ROOM);
}

static void test_cores_are_kept(void)
{
    struct torc_map_entry entries[8];
    struct torc_map_entry entry = {
        .hi = 10, .version = 3, .shard = 1, .epoch = 2, .member_count = 2, .primary = 1};
    struct torc_map map;

    torc_map_init(&map, entries, TORC_COUNT_OF(entries));
    entry.members[0] = (struct torc_map_member){.node = 1, .core = TORC_MAP_CORE_UNKNOWN};
    entry.members[1] = (struct torc_map_member){.node = 2, .core = 5};
    CU_ASSERT_EQUAL(torc_map_put(&map, &entry), TORC_ERR_OK);
    entry.members[0].core = 3; // the same entry, as the other node tells it
    entry.members[1].core = TORC_MAP_CORE_UNKNOWN;
    CU_ASSERT_EQUAL(torc_map_put(&map, &entry), TORC_ERR_OK);
    CU_ASSERT_EQUAL(map.entries[0].members[0].core, 3);
    CU_ASSERT_EQUAL(map.entries[0].members[1].core, 5);
    entry.epoch = 3; // another life: nothing is known of its cores
    entry.members[0].core = TORC_MAP_CORE_UNKNOWN;
    CU_ASSERT_EQUAL(torc_map_put(&map, &entry), TORC_ERR_OK);
    CU_ASSERT_EQUAL(map.entries[0].members[0].core, TORC_MAP_CORE_UNKNOWN);
    CU_ASSERT_EQUAL(map.entries[0].members[1].core, TORC_MAP_CORE_UNKNOWN);
}

int main(void)
{
    CU_TestInfo tests[] = {{"every key has its newest entry", test_agrees},
                           {"old entries that win are found out", test_fault_is_found},
                           {"a table takes as many shards as it has room for", test_full},
                           {"a core that was known is kept", test_cores_are_kept},
                           CU_TEST_INFO_NULL};

    return torc_test_run("model-map", tests);
}
