// Torc dataplane: a token bucket.
//
// What    `rate` events a second with bursts of at most `burst`; answers whether one more may be.
// Owner   whoever holds the struct.  Memory  8 bytes.
#ifndef TORC_DATAPLANE_BUCKET_H
#define TORC_DATAPLANE_BUCKET_H

#include "kit/base.h"

struct torc_bucket {
    uint64_t full_ns; // when it will be full again; the bucket is full at any time after it
};

static inline bool torc_bucket_take(struct torc_bucket *bucket, uint64_t now_ns, uint32_t rate,
                                    uint32_t burst)
{
    uint64_t step_ns = UINT64_C(1000000000) / rate;
    uint64_t start_ns = torc_max_u64(bucket->full_ns, now_ns);

    torc_assert(rate > 0 && burst > 0);
    if (start_ns - now_ns > step_ns * (burst - 1)) {
        return false;
    }
    bucket->full_ns = start_ns + step_ns;
    return true;
}

#endif
