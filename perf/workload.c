// Torc perf: the mixes of operations; see workload.h.
#include "perf/workload.h"

#include <string.h>

static const struct torc_workload_info workload_infos[TORC_WORKLOAD_COUNT] = {
#define X(name, text, reads, updates, inserts, scans, rmws, order, help) \
    {text, help, {reads, updates, inserts, scans, rmws}, TORC_KEYS_##order},
    TORC_WORKLOAD_TABLE(X)
#undef X
};

#define X(name, text, reads, updates, inserts, scans, rmws, order, help)        \
    _Static_assert((reads) + (updates) + (inserts) + (scans) + (rmws) == 100 || \
                       TORC_WORKLOAD_##name == TORC_WORKLOAD_CHECK,             \
                   "percentages of a mix");
TORC_WORKLOAD_TABLE(X)
#undef X

const struct torc_workload_info *torc_workload_info(enum torc_workload workload)
{
    torc_assert(workload < TORC_WORKLOAD_COUNT);
    return &workload_infos[workload];
}

enum torc_workload torc_workload_find(const char *name)
{
    uint32_t found = 0;

    while (found < TORC_WORKLOAD_COUNT && strcmp(workload_infos[found].name, name) != 0) {
        found++;
    }
    return (enum torc_workload)found;
}

enum torc_perf_action torc_workload_draw(const struct torc_workload_info *info,
                                         struct torc_rng *rng)
{
    uint64_t draw = torc_rng_below(rng, 100);
    uint32_t action = 0;

    while (action < TORC_PERF_ACTION_COUNT - 1 && draw >= info->percent[action]) {
        draw -= info->percent[action];
        action++;
    }
    return (enum torc_perf_action)action;
}

const char *torc_perf_action_name(enum torc_perf_action action)
{
    switch (action) {
#define X(name, text) \
    case TORC_PERF_##name: return text;
        TORC_ACTION_TABLE(X)
#undef X
    case TORC_PERF_ACTION_COUNT: break;
    }
    return "?";
}
