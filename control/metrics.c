// Torc control: the numbers of a node as Prometheus text. See control/metrics.h.
#include "control/metrics.h"

#include "kit/text.h"

#include <inttypes.h>

struct metrics_row {
    const char *metric;
    const char *type;
    const char *help;
};

static const struct metrics_row metrics_counters[] = {
#define X(name, metric, help) {metric, "counter", help},
    TORC_COUNTER_TABLE(X)
#undef X
};

static const struct metrics_row metrics_gauges[] = {
#define X(name, metric, help) {metric, "gauge", help},
    TORC_GAUGE_TABLE(X)
#undef X
};

static const struct metrics_row metrics_control[] = {
#define X(name, metric, type, help) {metric, type, help},
    TORC_CONTROL_TABLE(X)
#undef X
};

enum {
    METRICS_OPS,
    METRICS_REPLIES,
    METRICS_DROPS
};

static const struct metrics_row metrics_families[] = {
    [METRICS_OPS] = {"torc_requests_total", "counter", "requests, by operation"},
    [METRICS_REPLIES] = {"torc_replies_total", "counter", "replies, by status"},
    [METRICS_DROPS] = {"torc_drops_total", "counter", "packets dropped, by reason"},
};

enum {
    METRICS_READ,
    METRICS_WRITE,
    METRICS_SYNC,
    METRICS_TIMES
};

static const struct metrics_row metrics_times[] = {
    [METRICS_READ] = {"torc_read_seconds", "histogram", "reads, from the packet to its reply"},
    [METRICS_WRITE] = {"torc_write_seconds", "histogram",
                       "writes, from the packet to the reply, commit included"},
    [METRICS_SYNC] = {"torc_log_sync_seconds", "histogram",
                      "log blocks, from sealed to known durable"},
};

static const struct metrics_row metrics_own[] = {
    {"torc_build_info", "gauge", "1, with the version and the node's id as labels"},
};

enum {
    METRICS_MEMORY,
    METRICS_RESIDENT,
    METRICS_HUGETLB
};

static const struct metrics_row metrics_memory[] = {
    [METRICS_MEMORY] = {"torc_memory_bytes", "gauge",
                        "memory of both processes, by use; as torc stats memory shows"},
    [METRICS_RESIDENT] = {"torc_memory_resident_bytes", "gauge",
                          "resident memory of both processes, what they share once"},
    [METRICS_HUGETLB] = {"torc_memory_hugetlb_bytes", "gauge", "memory in hugetlb pages"},
};

static const struct metrics_row metrics_uses[] = {
#define X(name, use, help) {use, NULL, help},
    TORC_MEMORY_TABLE(X)
#undef X
};

const char *torc_metrics_memory_use(uint32_t row)
{
    torc_assert(row < TORC_MEMORY_COUNT);
    return metrics_uses[row].metric;
}

const char *torc_metrics_memory_help(uint32_t row)
{
    torc_assert(row < TORC_MEMORY_COUNT);
    return metrics_uses[row].help;
}

static void metrics_head(struct torc_text *text, const struct metrics_row *row)
{
    torc_text_add(text, "# HELP %s %s\n# TYPE %s %s\n", row->metric, row->help, row->metric,
                  row->type);
}

static void metrics_per_worker(struct torc_text *text, const struct torc_metrics *metrics)
{
    for (uint32_t i = 0; i < TORC_COUNTER_COUNT; i++) {
        metrics_head(text, metrics_counters + i);
        for (uint32_t worker = 0; worker < metrics->worker_count; worker++) {
            torc_text_add(text, "%s{worker=\"%" PRIu32 "\"} %" PRIu64 "\n",
                          metrics_counters[i].metric, worker,
                          torc_stats_get(&metrics->workers[worker]->counters[i]));
        }
    }
    for (uint32_t i = 0; i < TORC_GAUGE_COUNT; i++) {
        metrics_head(text, metrics_gauges + i);
        for (uint32_t worker = 0; worker < metrics->worker_count; worker++) {
            torc_text_add(text, "%s{worker=\"%" PRIu32 "\"} %" PRIu64 "\n",
                          metrics_gauges[i].metric, worker,
                          torc_stats_get(&metrics->workers[worker]->gauges[i]));
        }
    }
}

static const _Atomic uint64_t *metrics_family_of(const struct torc_stats *stats, uint32_t family)
{
    return family == METRICS_OPS       ? stats->ops
           : family == METRICS_REPLIES ? stats->replies
                                       : stats->drops;
}

// One family by number, summed over workers; only numbers that occurred, so that idle ones cost
// nothing.
static void metrics_family(struct torc_text *text, const struct torc_metrics *metrics,
                           uint32_t family, uint32_t count)
{
    static const char *const labels[] = {"op", "status", "reason"};
    const torc_metrics_name names[] = {metrics->op_name, metrics->status_name, metrics->drop_name};

    metrics_head(text, metrics_families + family);
    for (uint32_t number = 0; number < count; number++) {
        const char *name = names[family] != NULL ? names[family](number) : NULL;
        uint64_t sum = 0;

        for (uint32_t worker = 0; worker < metrics->worker_count; worker++) {
            sum += torc_stats_get(metrics_family_of(metrics->workers[worker], family) + number);
        }
        if (sum > 0 && name != NULL) {
            torc_text_add(text, "%s{%s=\"%s\"} %" PRIu64 "\n", metrics_families[family].metric,
                          labels[family], name, sum);
        } else if (sum > 0) {
            torc_text_add(text, "%s{%s=\"%" PRIu32 "\"} %" PRIu64 "\n",
                          metrics_families[family].metric, labels[family], number, sum);
        }
    }
}

static const struct torc_stats_times *metrics_times_of(const struct torc_stats *stats,
                                                       uint32_t which)
{
    return which == METRICS_READ    ? &stats->read_times
           : which == METRICS_WRITE ? &stats->write_times
                                    : &stats->sync_times;
}

// Nanoseconds as seconds, exactly, without floating point.
static void metrics_seconds(struct torc_text *text, uint64_t time_ns)
{
    torc_text_add(text, "%" PRIu64 ".%09" PRIu64, time_ns / 1000000000, time_ns % 1000000000);
}

static void metrics_histogram(struct torc_text *text, const struct torc_metrics *metrics,
                              uint32_t which)
{
    const char *metric = metrics_times[which].metric;
    uint64_t below = 0;
    uint64_t sum_ns = 0;

    metrics_head(text, metrics_times + which);
    // Buckets 2n and 2n + 1 together end below 2^(n + 1) quarter microseconds, counted from 1.
    for (uint32_t bucket = 0; bucket < TORC_STATS_BUCKETS_MAX; bucket++) {
        for (uint32_t worker = 0; worker < metrics->worker_count; worker++) {
            below +=
                torc_stats_get(&metrics_times_of(metrics->workers[worker], which)->buckets[bucket]);
        }
        if (bucket % 2 == 1 && bucket + 1 < TORC_STATS_BUCKETS_MAX) {
            torc_text_add(text, "%s_bucket{le=\"", metric);
            metrics_seconds(text, ((UINT64_C(1) << (bucket / 2 + 1)) - 1) * 250);
            torc_text_add(text, "\"} %" PRIu64 "\n", below);
        }
    }
    for (uint32_t worker = 0; worker < metrics->worker_count; worker++) {
        sum_ns += torc_stats_get(&metrics_times_of(metrics->workers[worker], which)->sum_ns);
    }
    torc_text_add(text, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum ", metric, below, metric);
    metrics_seconds(text, sum_ns);
    torc_text_add(text, "\n%s_count %" PRIu64 "\n", metric, below);
}

static void metrics_account(struct torc_text *text, const struct torc_metrics *metrics)
{
    metrics_head(text, metrics_memory + METRICS_MEMORY);
    for (uint32_t row = 0; row < TORC_MEMORY_COUNT; row++) {
        torc_text_add(text, "%s{use=\"%s\"} %" PRIu64 "\n", metrics_memory[METRICS_MEMORY].metric,
                      torc_metrics_memory_use(row), metrics->memory[row]);
    }
    metrics_head(text, metrics_memory + METRICS_RESIDENT);
    torc_text_add(text, "%s %" PRIu64 "\n", metrics_memory[METRICS_RESIDENT].metric,
                  metrics->resident_bytes);
    metrics_head(text, metrics_memory + METRICS_HUGETLB);
    torc_text_add(text, "%s %" PRIu64 "\n", metrics_memory[METRICS_HUGETLB].metric,
                  metrics->hugetlb_bytes);
}

uint64_t torc_metrics_text(const struct torc_metrics *metrics, char *text, uint64_t text_bytes)
{
    struct torc_text writer = {.room = text_bytes - 1};

    torc_assert(text_bytes > 0);
    writer.bytes = text;
    metrics_head(&writer, metrics_own);
    torc_text_add(&writer, "%s{version=\"%s\",node=\"%" PRIu32 "\"} 1\n", metrics_own->metric,
                  metrics->version, metrics->node);
    for (uint32_t i = 0; i < TORC_CONTROL_NUMBER_COUNT; i++) {
        metrics_head(&writer, metrics_control + i);
        torc_text_add(&writer, "%s %" PRIu64 "\n", metrics_control[i].metric, metrics->control[i]);
    }
    metrics_account(&writer, metrics);
    metrics_per_worker(&writer, metrics);
    metrics_family(&writer, metrics, METRICS_OPS, TORC_STATS_OPS_MAX);
    metrics_family(&writer, metrics, METRICS_REPLIES, TORC_STATS_STATUS_MAX);
    metrics_family(&writer, metrics, METRICS_DROPS, TORC_STATS_DROPS_MAX);
    for (uint32_t i = 0; i < METRICS_TIMES; i++) {
        metrics_histogram(&writer, metrics, i);
    }
    return writer.used;
}

static void metrics_rows(struct torc_text *text, const struct metrics_row *rows, uint32_t count,
                         const char *labels)
{
    for (uint32_t i = 0; i < count; i++) {
        torc_text_add(text, "| `%s` | %s | %s | %s |\n", rows[i].metric, rows[i].type, labels,
                      rows[i].help);
    }
}

uint64_t torc_metrics_markdown(char *text, uint64_t text_bytes)
{
    struct torc_text writer = {.room = text_bytes - 1};

    torc_assert(text_bytes > 0);
    writer.bytes = text;
    torc_text_add(&writer, "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    metrics_rows(&writer, metrics_own, TORC_COUNT_OF(metrics_own), "version, node");
    metrics_rows(&writer, metrics_control, TORC_COUNT_OF(metrics_control), "");
    metrics_rows(&writer, metrics_memory, 1, "use");
    metrics_rows(&writer, metrics_memory + METRICS_RESIDENT, 2, "");
    metrics_rows(&writer, metrics_counters, TORC_COUNT_OF(metrics_counters), "worker");
    metrics_rows(&writer, metrics_gauges, TORC_COUNT_OF(metrics_gauges), "worker");
    metrics_rows(&writer, metrics_families, 1, "op");
    metrics_rows(&writer, metrics_families + 1, 1, "status");
    metrics_rows(&writer, metrics_families + 2, 1, "reason");
    metrics_rows(&writer, metrics_times, TORC_COUNT_OF(metrics_times), "le");
    return writer.used;
}

uint64_t torc_metrics_memory_markdown(char *text, uint64_t text_bytes)
{
    struct torc_text writer = {.room = text_bytes - 1};

    torc_assert(text_bytes > 0);
    writer.bytes = text;
    torc_text_add(&writer, "| use | what |\n| --- | --- |\n");
    for (uint32_t row = 0; row < TORC_MEMORY_COUNT; row++) {
        torc_text_add(&writer, "| `%s` | %s |\n", torc_metrics_memory_use(row),
                      torc_metrics_memory_help(row));
    }
    return writer.used;
}
