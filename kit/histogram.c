// Torc kit: a histogram of durations. See kit/histogram.h.
#include "kit/histogram.h"

_Static_assert(TORC_HISTOGRAM_BUCKETS == 32, "TORC_HISTOGRAM_VALUE_MAX counts on it");

uint32_t torc_histogram_index(uint64_t value)
{
    uint64_t clipped = torc_min_u64(value, TORC_HISTOGRAM_VALUE_MAX);
    uint32_t magnitude = 63u - (uint32_t)__builtin_clzll(clipped | (2 * TORC_HISTOGRAM_HALF - 1));
    uint32_t bucket = magnitude - (TORC_HISTOGRAM_SUB_BITS - 1);
    uint32_t index = (bucket * TORC_HISTOGRAM_HALF) + (uint32_t)(clipped >> bucket);

    torc_assert(index < TORC_HISTOGRAM_COUNTS);
    return index;
}

uint64_t torc_histogram_value(uint32_t index)
{
    uint32_t bucket = index < 2 * TORC_HISTOGRAM_HALF ? 0 : index / TORC_HISTOGRAM_HALF - 1;
    uint64_t part = index - bucket * TORC_HISTOGRAM_HALF;

    torc_assert(index < TORC_HISTOGRAM_COUNTS);
    return ((part + 1) << bucket) - 1;
}

void torc_histogram_record(struct torc_histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += value;
    histogram->max = torc_max_u64(histogram->max, value);
    histogram->counts[torc_histogram_index(value)]++;
}

void torc_histogram_merge(struct torc_histogram *into, const struct torc_histogram *from)
{
    into->count += from->count;
    into->sum += from->sum;
    into->max = torc_max_u64(into->max, from->max);
    for (uint32_t i = 0; i < TORC_HISTOGRAM_COUNTS; i++) {
        into->counts[i] += from->counts[i];
    }
}

uint64_t torc_histogram_quantile(const struct torc_histogram *histogram, uint32_t per_million)
{
    uint64_t rank;
    uint64_t seen = 0;

    torc_assert(per_million <= 1000000);
    if (histogram->count == 0) {
        return 0;
    }
    // count * per_million / 1000000, rounded up, in parts that cannot overflow.
    rank = histogram->count / 1000000 * per_million +
           (histogram->count % 1000000 * per_million + 999999) / 1000000;
    rank = torc_max_u64(rank, 1);
    for (uint32_t i = 0; i < TORC_HISTOGRAM_COUNTS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank) {
            return torc_min_u64(torc_histogram_value(i), histogram->max);
        }
    }
    torc_unreachable("the counts add up to `count`");
}
