// Torc kit: the two clocks that edges read.
//
// What    nanoseconds: `now` for all timers (monotonic, counts suspend), `wall` for the HLC alone.
// Owner   any thread; no state. Both come from the vDSO: no system call.
#ifndef TORC_KIT_CLOCK_OS_H
#define TORC_KIT_CLOCK_OS_H

#include "kit/base.h"

#include <time.h>

#define TORC_NS_PER_S  UINT64_C(1000000000)
#define TORC_NS_PER_MS UINT64_C(1000000)
#define TORC_NS_PER_US UINT64_C(1000)

static inline uint64_t torc_clock_read(clockid_t clock)
{
    struct timespec time = {0};

    (void)clock_gettime(clock, &time); // cannot fail for these clocks
    return (uint64_t)time.tv_sec * TORC_NS_PER_S + (uint64_t)time.tv_nsec;
}

static inline uint64_t torc_clock_now_ns(void)
{
    return torc_clock_read(CLOCK_BOOTTIME);
}

static inline uint64_t torc_clock_wall_ns(void)
{
    return torc_clock_read(CLOCK_REALTIME);
}

#endif
