// Torc cli: see flight.h.
#include "client/cli/flight.h"

#include <string.h>

static uint32_t *flight_bucket(struct torc_flight *flight, uint64_t key)
{
    // Fibonacci hashing: keys of a file often follow each other.
    return &flight->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 51];
}

void torc_flight_init(struct torc_flight *flight)
{
    _Static_assert(TORC_FLIGHT_BUCKETS == 1u << (64 - 51), "the hash gives a bucket's number");
    memset(flight, 0, sizeof(*flight));
    for (uint32_t i = 0; i < TORC_FLIGHT_MAX; i++) {
        flight->slots[i].next = i + 2 > TORC_FLIGHT_MAX ? 0 : i + 2;
    }
    flight->free_slot = 1;
}

bool torc_flight_has(const struct torc_flight *flight, uint64_t key)
{
    uint32_t at = flight->buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 51];

    while (at != 0 && flight->slots[at - 1].key != key) {
        at = flight->slots[at - 1].next;
    }
    return at != 0;
}

uint32_t torc_flight_add(struct torc_flight *flight, uint64_t key, uint64_t line)
{
    uint32_t *bucket = flight_bucket(flight, key);
    uint32_t at = flight->free_slot;
    struct torc_flight_slot *slot;

    torc_assert(at != 0);
    torc_assert(!torc_flight_has(flight, key));
    slot = &flight->slots[at - 1];
    torc_assert(!slot->busy);
    flight->free_slot = slot->next;
    *slot = (struct torc_flight_slot){.key = key, .line = line, .next = *bucket, .busy = true};
    *bucket = at;
    flight->count++;
    return at - 1;
}

bool torc_flight_fail(struct torc_flight *flight, uint32_t slot, enum torc_err err)
{
    uint64_t line = flight->slots[slot].line;
    bool lowest = flight->failed == TORC_ERR_OK || line < flight->failed_line;

    torc_assert(flight->slots[slot].busy);
    torc_assert(err != TORC_ERR_OK);
    if (lowest) {
        flight->failed_line = line;
    }
    if (torc_err_maybe_applied(err) && (flight->doubt_line == 0 || line < flight->doubt_line)) {
        flight->doubt_line = line;
    }
    if (!torc_err_maybe_applied(flight->failed) && (lowest || torc_err_maybe_applied(err))) {
        flight->failed = err;
    }
    return lowest;
}

void torc_flight_remove(struct torc_flight *flight, uint32_t slot)
{
    uint32_t *link;

    torc_assert(slot < TORC_FLIGHT_MAX);
    torc_assert(flight->slots[slot].busy);
    link = flight_bucket(flight, flight->slots[slot].key);
    while (*link != slot + 1) {
        torc_assert(*link != 0);
        link = &flight->slots[*link - 1].next;
    }
    *link = flight->slots[slot].next;
    flight->slots[slot].busy = false;
    flight->slots[slot].next = flight->free_slot;
    flight->free_slot = slot + 1;
    flight->count--;
}
