// Torc perf: which record an operation names; see keys.h.
#include "perf/keys.h"

#include <math.h>
#include <string.h>

static uint64_t keys_gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static void keys_zipf_init(struct torc_keys *keys, double theta)
{
    double zeta_2 = 1.0 + pow(0.5, theta);

    keys->theta = theta;
    keys->zeta = 0;
    for (uint64_t i = 1; i <= keys->loaded; i++) {
        keys->zeta += pow(1.0 / (double)i, theta);
    }
    keys->eta = (1.0 - pow(2.0 / (double)keys->loaded, 1.0 - theta)) / (1.0 - zeta_2 / keys->zeta);
}

void torc_keys_init(struct torc_keys *keys, enum torc_keys_order order, uint64_t records,
                    uint64_t inserts, uint64_t key_count, double theta)
{
    torc_assert(records > 0 && records <= key_count && records <= TORC_KEYS_RECORDS_MAX);
    torc_assert(theta > 0 && theta < 1);
    memset(keys, 0, sizeof(*keys));
    keys->order = order;
    keys->capacity =
        torc_min_u64(torc_min_u64(records + inserts, key_count), TORC_KEYS_RECORDS_MAX);
    keys->stride = key_count / keys->capacity;
    keys->multiplier = (uint64_t)((double)keys->capacity * 0.6180339887) | 1u;
    while (keys_gcd(keys->multiplier, keys->capacity) != 1) {
        keys->multiplier++;
    }
    keys->loaded = records;
    keys->allocated = records;
    keys->settled = records;
    if (records > 2 && (order == TORC_KEYS_ZIPF || order == TORC_KEYS_LATEST)) {
        keys_zipf_init(keys, theta);
    }
}

uint64_t torc_keys_key(const struct torc_keys *keys, uint64_t record)
{
    torc_assert(record < keys->capacity);
    return (keys->rising ? record : record * keys->multiplier % keys->capacity) * keys->stride;
}

// A rank in [0, loaded): 0 is drawn most often.
static uint64_t keys_zipf(const struct torc_keys *keys, struct torc_rng *rng)
{
    double u = (double)(torc_rng_next(rng) >> 11) * 0x1.0p-53;
    double uz = u * keys->zeta;
    double rank;

    if (uz < 1.0) {
        return 0;
    }
    if (uz < 1.0 + pow(0.5, keys->theta)) {
        return 1;
    }
    rank = (double)keys->loaded * pow(keys->eta * u - keys->eta + 1.0, 1.0 / (1.0 - keys->theta));
    return torc_min_u64((uint64_t)rank, keys->loaded - 1);
}

uint64_t torc_keys_pick(struct torc_keys *keys, struct torc_rng *rng)
{
    bool ranked = keys->zeta > 0;

    switch (keys->order) {
    case TORC_KEYS_SEQUENTIAL: return keys->next++ % keys->settled;
    case TORC_KEYS_ZIPF: return ranked ? keys_zipf(keys, rng) : torc_rng_below(rng, keys->settled);
    case TORC_KEYS_LATEST:
        return keys->settled - 1 -
               (ranked ? keys_zipf(keys, rng) : torc_rng_below(rng, keys->settled));
    case TORC_KEYS_UNIFORM:
    case TORC_KEYS_ORDER_COUNT: break;
    }
    return torc_rng_below(rng, keys->settled);
}

bool torc_keys_insert(struct torc_keys *keys, uint64_t *record)
{
    if (keys->allocated == keys->capacity ||
        keys->allocated - keys->settled == TORC_KEYS_OPEN_MAX) {
        return false;
    }
    *record = keys->allocated++;
    return true;
}

void torc_keys_inserted(struct torc_keys *keys, uint64_t record)
{
    uint64_t place = record % TORC_KEYS_OPEN_MAX;

    torc_assert(record >= keys->settled && record < keys->allocated);
    keys->acknowledged[place / 64] |= UINT64_C(1) << place % 64;
    for (place = keys->settled % TORC_KEYS_OPEN_MAX;
         (keys->acknowledged[place / 64] >> place % 64 & 1u) != 0;
         place = keys->settled % TORC_KEYS_OPEN_MAX) {
        keys->acknowledged[place / 64] &= ~(UINT64_C(1) << place % 64);
        keys->settled++;
    }
}
