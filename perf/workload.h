// Torc perf: the mixes of operations that torc-perf knows.
//
// What    YCSB's A to F, and plain gets, puts and ranges. One table: percentages, distribution.
// Owner   none: constant data and pure functions.
// Sources Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (SoCC 2010), section 4.
#ifndef TORC_PERF_WORKLOAD_H
#define TORC_PERF_WORKLOAD_H

#include "perf/keys.h"

// X(NAME, text, reads, updates, inserts, scans, read-modify-writes (in %), distribution, help)
#define TORC_WORKLOAD_TABLE(X)                                                 \
    X(A, "a", 50, 50, 0, 0, 0, ZIPF, "half reads, half updates")               \
    X(B, "b", 95, 5, 0, 0, 0, ZIPF, "19 reads to an update")                   \
    X(C, "c", 100, 0, 0, 0, 0, ZIPF, "reads alone")                            \
    X(D, "d", 95, 0, 5, 0, 0, LATEST, "reads of what was inserted last")       \
    X(E, "e", 0, 0, 5, 95, 0, ZIPF, "short ranges, some inserts")              \
    X(F, "f", 50, 0, 0, 0, 50, ZIPF, "half reads, half read-modify-writes")    \
    X(GET, "get", 100, 0, 0, 0, 0, UNIFORM, "reads alone, uniform")            \
    X(PUT, "put", 0, 100, 0, 0, 0, UNIFORM, "updates alone, uniform")          \
    X(RANGE, "range", 0, 0, 0, 100, 0, UNIFORM, "ranges alone, of one length") \
    X(CHECK, "check", 0, 0, 0, 0, 0, UNIFORM, "for consistency: see --history")

enum torc_workload {
#define X(name, text, reads, updates, inserts, scans, rmws, order, help) TORC_WORKLOAD_##name,
    TORC_WORKLOAD_TABLE(X)
#undef X
    TORC_WORKLOAD_COUNT
};

// X(NAME, text): what an operation of a run may be, and how its times are called.
#define TORC_ACTION_TABLE(X) \
    X(READ, "read")          \
    X(UPDATE, "update")      \
    X(INSERT, "insert")      \
    X(SCAN, "scan")          \
    X(RMW, "rmw")

enum torc_perf_action {
#define X(name, text) TORC_PERF_##name,
    TORC_ACTION_TABLE(X)
#undef X
    TORC_PERF_ACTION_COUNT
};

struct torc_workload_info {
    const char *name;
    const char *help;
    uint8_t percent[TORC_PERF_ACTION_COUNT];
    enum torc_keys_order order;
};

const struct torc_workload_info *torc_workload_info(enum torc_workload workload);

// TORC_WORKLOAD_COUNT when there is none of that name.
enum torc_workload torc_workload_find(const char *name);

enum torc_perf_action torc_workload_draw(const struct torc_workload_info *info,
                                         struct torc_rng *rng);

const char *torc_perf_action_name(enum torc_perf_action action);

#endif
