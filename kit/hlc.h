// Torc kit: hybrid logical clock timestamps.
//
// What    a u64: 52 bits of microseconds since the Unix epoch, 12 bits of counter. Ordered as a
//         number; the counter carries into the microseconds when it overflows.
// Owner   whoever holds the number: pure functions.  Memory  none.
// Sources Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks" (OPODIS 2014).
#ifndef TORC_KIT_HLC_H
#define TORC_KIT_HLC_H

#include "kit/base.h"

#define TORC_HLC_COUNTER_BITS 12

static inline uint64_t torc_hlc_from_us(uint64_t wall_us)
{
    torc_assert(wall_us < UINT64_C(1) << (64 - TORC_HLC_COUNTER_BITS));
    return wall_us << TORC_HLC_COUNTER_BITS;
}

static inline uint64_t torc_hlc_us(uint64_t hlc)
{
    return hlc >> TORC_HLC_COUNTER_BITS;
}

// The stamp of the next record of a shard: above the last one, and not behind the wall clock.
static inline uint64_t torc_hlc_next(uint64_t last_hlc, uint64_t wall_us)
{
    torc_assert(last_hlc < UINT64_MAX);
    return torc_max_u64(last_hlc + 1, torc_hlc_from_us(wall_us));
}

#endif
