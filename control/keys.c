// Torc control: the table of keys; see keys.h.
#include "control/keys.h"

#include "wire/op.h"

#include <sodium.h>

#include <string.h>

_Static_assert(TORC_KEYS_PRINCIPALS_MAX == TORC_CHAN_PRINCIPALS_MAX, "a whole file fits");
_Static_assert(TORC_KEYS_RANGES_MAX == TORC_CHAN_RANGES_MAX, "all ranges fit");
_Static_assert(TORC_PSK_BYTES == TORC_CHAN_PSK_BYTES, "keys fit");

// Indices of the principals by rising number.
static void keys_order(uint16_t *order, const struct torc_principal *principals, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;

        while (at > 0 && principals[order[at - 1]].number > principals[i].number) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = (uint16_t)i;
    }
}

static enum torc_err keys_bind(struct torc_chan_principal *to, const struct torc_principal *from,
                               uint64_t cluster, uint32_t node, struct torc_fail *why)
{
    *to = (struct torc_chan_principal){.number = from->number,
                                       .roles = from->roles,
                                       .sessions_max = from->sessions_max,
                                       .range_count = from->range_count,
                                       .key_count = (uint8_t)from->psk_count};
    for (uint32_t i = 0; i < from->range_count; i++) {
        to->ranges[i] = (struct torc_chan_range){from->ranges[i].lo, from->ranges[i].hi};
    }
    for (uint32_t i = 0; i < from->psk_count; i++) {
        to->key_ids[i] = from->psks[i].id;
        if (from->roles == TORC_ROLE_NODE) { // each caller's is made of it, then bound
            memcpy(to->psks[i], from->psks[i].bytes, sizeof(to->psks[i]));
            continue;
        }
        if (!torc_psk_bind(to->psks[i], &from->psks[i], cluster, node)) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "%s: key %u is bound to node %" PRIu32 ", this is node %" PRIu32,
                             from->name, from->psks[i].id, from->psks[i].node, node);
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_keys_table(struct torc_chan_principal *list, struct torc_keys_known *known,
                              const struct torc_principal *principals, uint32_t count,
                              const struct torc_keys_place *place, struct torc_fail *why)
{
    uint16_t order[TORC_KEYS_PRINCIPALS_MAX];
    enum torc_err err = TORC_ERR_OK;

    torc_assert(count <= TORC_KEYS_PRINCIPALS_MAX);
    keys_order(order, principals, count);
    for (uint32_t i = 0; i < count && err == TORC_ERR_OK; i++) {
        const struct torc_principal *from = &principals[order[i]];

        err = keys_bind(&list[i], from, place->cluster, place->node, why);
        known[i] = (struct torc_keys_known){.number = from->number,
                                            .roles = from->roles,
                                            .sessions_max = from->sessions_max,
                                            .range_count = from->range_count,
                                            .key_count = (uint8_t)from->psk_count,
                                            .key_ids = {from->psks[0].id, from->psks[1].id}};
        memcpy(known[i].name, from->name, sizeof(known[i].name));
    }
    return err;
}

uint64_t torc_keys_write(struct torc_chan_keys *table, const struct torc_chan_principal *list,
                         uint32_t count)
{
    uint64_t sequence = atomic_load_explicit(&table->sequence, memory_order_relaxed);
    uint32_t before = table->count;

    torc_assert(count <= TORC_CHAN_PRINCIPALS_MAX);
    sequence |= 1; // a writer that died in between left it odd
    atomic_store_explicit(&table->sequence, sequence, memory_order_relaxed);
    // Release: whoever sees one of the changes below sees the odd sequence too.
    atomic_thread_fence(memory_order_release);
    memcpy(table->principals, list, count * sizeof(list[0]));
    for (uint32_t i = count; i < before && i < TORC_CHAN_PRINCIPALS_MAX; i++) {
        sodium_memzero(&table->principals[i], sizeof(table->principals[i]));
    }
    table->count = count;
    // Pairs with the reader's acquire load of an even sequence: the table is there.
    atomic_store_explicit(&table->sequence, sequence + 1, memory_order_release);
    return sequence + 1;
}
