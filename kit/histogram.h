// Torc kit: a histogram of durations with three significant digits, from 1 ns to more than an hour.
//
// What    counts in buckets that double in width, each cut into 1024 equal parts (2048 in the
//         first): a value is known to 0.1 %, recording it is a shift and an increment. The layout
//         of buckets is HdrHistogram's with 3 digits and unit 1, so its log format can carry them.
// Owner   whoever holds the struct; merge those of several threads.
// Memory  the struct: fixed, about 270 KiB. Zeroed is empty.
// Sources Gil Tene, HdrHistogram.
#ifndef TORC_KIT_HISTOGRAM_H
#define TORC_KIT_HISTOGRAM_H

#include "kit/base.h"

#define TORC_HISTOGRAM_SUB_BITS  11u // 2048 parts: 3 significant digits
#define TORC_HISTOGRAM_HALF      (1u << (TORC_HISTOGRAM_SUB_BITS - 1))
#define TORC_HISTOGRAM_BUCKETS   32u // the largest value is 2^(11 + 31) - 1 ns: 73 minutes
#define TORC_HISTOGRAM_COUNTS    ((TORC_HISTOGRAM_BUCKETS + 1) * TORC_HISTOGRAM_HALF)
#define TORC_HISTOGRAM_VALUE_MAX ((UINT64_C(1) << (TORC_HISTOGRAM_SUB_BITS + 31)) - 1)

struct torc_histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t counts[TORC_HISTOGRAM_COUNTS];
};

// Where a value is counted; values above the largest count as the largest.
uint32_t torc_histogram_index(uint64_t value);

// The largest value that is counted at `index`.
uint64_t torc_histogram_value(uint32_t index);

void torc_histogram_record(struct torc_histogram *histogram, uint64_t value);

void torc_histogram_merge(struct torc_histogram *into, const struct torc_histogram *from);

// The value that `per_million` of all counted ones do not exceed; 0 when empty. 500000: the median.
uint64_t torc_histogram_quantile(const struct torc_histogram *histogram, uint32_t per_million);

#endif
