// Torc kit: how long to nap where nothing can wake the one who waits.
//
// What    who waits for an answer and has only looks to go by naps for half of what is usually
//         still left, and so on: few naps, and the last ones short, so that an answer is seen
//         within about one least nap of its coming, while the processor is free for whoever makes
//         it. What takes longer than usual is looked for ever less often.
// Owner   whoever waits.
#ifndef TORC_KIT_NAP_H
#define TORC_KIT_NAP_H

#include "kit/base.h"

struct torc_nap {
    uint64_t usual_ns; // of waits that ended with an answer, smoothed; 0: not known
    uint64_t since_ns; // of the wait under way; 0: none is
};

// The next nap of a wait, at least `least_ns` and at most `most_ns`.
static inline uint64_t torc_nap_next(struct torc_nap *nap, uint64_t now_ns, uint64_t least_ns,
                                     uint64_t most_ns)
{
    uint64_t waited_ns;

    if (nap->since_ns == 0) {
        nap->since_ns = now_ns;
    }
    waited_ns = now_ns - nap->since_ns;
    return torc_min_u64(most_ns, torc_max_u64(least_ns, waited_ns < nap->usual_ns
                                                            ? (nap->usual_ns - waited_ns) / 2
                                                            : (waited_ns - nap->usual_ns) / 8));
}

// An answer came, or there was none to wait for.
static inline void torc_nap_end(struct torc_nap *nap, uint64_t now_ns)
{
    if (nap->since_ns != 0) {
        nap->usual_ns = nap->usual_ns - nap->usual_ns / 8 + (now_ns - nap->since_ns) / 8;
        nap->since_ns = 0;
    }
}

#endif
