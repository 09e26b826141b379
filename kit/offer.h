// Torc kit: whether a processor may be offered to others (sched_yield), or must be left to them.
//
// What    who has nothing to do for a moment and must not sleep yet offers the processor: what it
//         waits for may be the work of whoever takes it, tens of microseconds of it. Who takes it
//         for long computes. He is not preempted for one that only offered, but for one that
//         sleeps and is woken: so after such an offer none is made for a while, each time twice
//         as long, unless the last while is long over.
// Owner   whoever offers.
#ifndef TORC_KIT_OFFER_H
#define TORC_KIT_OFFER_H

#include "kit/base.h"

#define TORC_OFFER_LONG_NS  UINT64_C(500000)
#define TORC_OFFER_LEAST_NS UINT64_C(16000000) // four ticks
#define TORC_OFFER_MOST_NS  UINT64_C(1000000000)

struct torc_offer {
    uint64_t until_ns; // no offers before
    uint64_t while_ns; // for so long, the last time
};

static inline bool torc_offer_may(const struct torc_offer *offer, uint64_t now_ns)
{
    return now_ns >= offer->until_ns;
}

// One was made, and took so long.
static inline void torc_offer_made(struct torc_offer *offer, uint64_t now_ns, uint64_t took_ns)
{
    if (took_ns < TORC_OFFER_LONG_NS) {
        return;
    }
    if (now_ns - torc_min_u64(now_ns, offer->until_ns) > offer->while_ns) {
        offer->while_ns = 0;
    }
    offer->while_ns =
        torc_min_u64(torc_max_u64(offer->while_ns * 2, TORC_OFFER_LEAST_NS), TORC_OFFER_MOST_NS);
    offer->until_ns = now_ns + offer->while_ns;
}

#endif
