// Torc client: timers on one wheel; see wheel.h.
#include "client/wheel.h"

#define SLOT_MASK (TORC_WHEEL_SLOTS - 1)

void torc_wheel_init(struct torc_wheel *wheel, struct torc_wheel_link *links, uint32_t count,
                     uint64_t now_ns)
{
    wheel->links = links;
    wheel->count = count;
    wheel->done_tick = now_ns >> TORC_WHEEL_SHIFT;
    memset(wheel->busy, 0, sizeof(wheel->busy));
    memset(wheel->heads, 0xff, sizeof(wheel->heads));
    memset(links, 0, (size_t)count * sizeof(*links));
}

// A timer in the past goes into the slot that is looked at next.
static uint32_t slot_of(const struct torc_wheel *wheel, uint64_t at_ns)
{
    return (uint32_t)torc_max_u64(at_ns >> TORC_WHEEL_SHIFT, wheel->done_tick) & SLOT_MASK;
}

void torc_wheel_stop(struct torc_wheel *wheel, uint32_t index)
{
    struct torc_wheel_link *link = &wheel->links[index];

    torc_assert(index < wheel->count);
    if (link->at_ns == 0) {
        return;
    }
    link->at_ns = 0;
    if (link->next != TORC_WHEEL_NONE) {
        wheel->links[link->next].previous = link->previous;
    }
    if ((link->previous & TORC_WHEEL_HEAD) == 0) {
        wheel->links[link->previous].next = link->next;
        return;
    }
    uint32_t slot = link->previous & ~TORC_WHEEL_HEAD;
    wheel->heads[slot] = link->next;
    if (link->next == TORC_WHEEL_NONE) {
        wheel->busy[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    }
}

void torc_wheel_set(struct torc_wheel *wheel, uint32_t index, uint64_t at_ns)
{
    struct torc_wheel_link *link = &wheel->links[index];
    uint32_t slot;

    torc_assert(at_ns != 0);
    torc_wheel_stop(wheel, index);
    slot = slot_of(wheel, at_ns);
    link->at_ns = at_ns;
    link->next = wheel->heads[slot];
    link->previous = slot | TORC_WHEEL_HEAD;
    if (link->next != TORC_WHEEL_NONE) {
        wheel->links[link->next].previous = index;
    }
    wheel->heads[slot] = index;
    wheel->busy[slot / 64] |= UINT64_C(1) << (slot % 64);
}

// The first busy slot at or after `from`, within `span` slots; TORC_WHEEL_SLOTS when none.
static uint32_t next_busy(const struct torc_wheel *wheel, uint64_t from, uint64_t span)
{
    uint64_t gone = 0;

    while (gone < span) {
        uint32_t slot = (uint32_t)(from + gone) & SLOT_MASK;
        uint64_t bits = wheel->busy[slot / 64] >> (slot % 64);

        if (bits != 0) {
            gone += (uint64_t)__builtin_ctzll(bits);
            return gone < span ? (uint32_t)(from + gone) & SLOT_MASK : TORC_WHEEL_SLOTS;
        }
        gone += 64 - slot % 64;
    }
    return TORC_WHEEL_SLOTS;
}

uint32_t torc_wheel_expire(struct torc_wheel *wheel, uint64_t now_ns)
{
    uint64_t tick = now_ns >> TORC_WHEEL_SHIFT;

    while (wheel->done_tick <= tick) {
        uint64_t span = torc_min_u64(tick - wheel->done_tick + 1, TORC_WHEEL_SLOTS);
        uint32_t slot = next_busy(wheel, wheel->done_tick, span);

        if (slot == TORC_WHEEL_SLOTS) {
            break;
        }
        wheel->done_tick += (slot - (uint32_t)wheel->done_tick) & SLOT_MASK;
        for (uint32_t index = wheel->heads[slot]; index != TORC_WHEEL_NONE;
             index = wheel->links[index].next) {
            if (wheel->links[index].at_ns <= now_ns) {
                torc_wheel_stop(wheel, index);
                return index;
            }
        }
        if (wheel->done_tick == tick) {
            return TORC_WHEEL_NONE; // timers of the present slot are still to come
        }
        wheel->done_tick++;
    }
    wheel->done_tick = torc_max_u64(wheel->done_tick, tick);
    return TORC_WHEEL_NONE;
}

uint64_t torc_wheel_deadline_ns(const struct torc_wheel *wheel)
{
    uint32_t slot = next_busy(wheel, wheel->done_tick, TORC_WHEEL_SLOTS);
    uint64_t earliest = UINT64_MAX;
    uint64_t tick;

    if (slot == TORC_WHEEL_SLOTS) {
        return UINT64_MAX;
    }
    for (uint32_t index = wheel->heads[slot]; index != TORC_WHEEL_NONE;
         index = wheel->links[index].next) {
        earliest = torc_min_u64(earliest, wheel->links[index].at_ns);
    }
    // A timer of a later turn in this slot must not hide an earlier one in the slots behind it.
    tick = wheel->done_tick + ((slot - (uint32_t)wheel->done_tick) & SLOT_MASK);
    return torc_min_u64(earliest, (tick + 1) << TORC_WHEEL_SHIFT);
}
