// Torc cli: `torc bench`: a short closed-loop measurement with one client; torc-perf measures more.
#include "client/cli/cli_os.h"
#include "kit/histogram.h"
#include "kit/rng.h"

#include <stdlib.h>
#include <string.h>

enum {
    BENCH_WINDOW_MAX = 4096,
    BENCH_VALUE_MAX = 65536
};

struct bench {
    struct torc_cli *cli;
    struct torc_queue *queue;
    uint64_t window;
    uint64_t seconds;
    uint64_t records;
    uint64_t value_bytes;
    uint64_t reads_percent;
    uint64_t stop_ns;
    struct torc_rng rng;
    struct torc_histogram reads;
    struct torc_histogram writes;
    uint64_t failures;
    struct {
        uint64_t start_ns;
        bool write;
    } slots[BENCH_WINDOW_MAX];
    uint8_t value[BENCH_VALUE_MAX];
};

static enum torc_err bench_options(struct bench *bench, struct torc_fail *why)
{
    const struct torc_args *args = bench->cli->args;
    enum torc_err err =
        torc_args_number(args, TORC_OPTION_WINDOW, (struct torc_args_span){64, 1, BENCH_WINDOW_MAX},
                         &bench->window, why);

    if (err == TORC_ERR_OK) {
        err = torc_args_number(args, TORC_OPTION_SECONDS, (struct torc_args_span){5, 1, 3600},
                               &bench->seconds, why);
    }
    if (err == TORC_ERR_OK) {
        err =
            torc_args_number(args, TORC_OPTION_RECORDS,
                             (struct torc_args_span){100000, 1, UINT64_MAX}, &bench->records, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_args_number(args, TORC_OPTION_VALUE_BYTES,
                               (struct torc_args_span){64, 0, BENCH_VALUE_MAX}, &bench->value_bytes,
                               why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_args_number(args, TORC_OPTION_READS, (struct torc_args_span){100, 0, 100},
                               &bench->reads_percent, why);
    }
    return err;
}

static enum torc_err bench_connect(struct bench *bench, struct torc_fail *why)
{
    struct torc_options options = {.operations = BENCH_WINDOW_MAX};
    struct torc_limits limits = {0};
    struct torc_message message = {0};
    struct torc_cli_where where = {0};
    enum torc_err err = torc_cli_timeout(bench->cli->args, &options.timeout_us, why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_where(bench->cli->args, &where, why);
    }
    if (err == TORC_ERR_OK) {
        options.key_file = where.key_file;
        err = torc_queue_open(where.address, &options, &bench->queue, &message);
        if (err != TORC_ERR_OK) {
            bench->queue = NULL;
            err = torc_fail(why, err, "%.150s", message.text);
        }
    }
    torc_cli_where_free(&where);
    if (err == TORC_ERR_OK) {
        err = torc_queue_ready(bench->queue, 0);
        if (err != TORC_ERR_OK) {
            (void)torc_fail(why, err, "%.150s", torc_queue_message(bench->queue));
        }
    }
    if (err == TORC_ERR_OK && torc_queue_limits(bench->queue, &limits) == TORC_ERR_OK) {
        bench->records = torc_min_u64(bench->records, limits.keys);
    }
    return err;
}

static enum torc_err bench_issue(struct bench *bench, uint32_t slot, struct torc_fail *why)
{
    uint64_t key = torc_rng_below(&bench->rng, bench->records);
    enum torc_err err;

    bench->slots[slot].write = torc_rng_below(&bench->rng, 100) >= bench->reads_percent;
    bench->slots[slot].start_ns = torc_cli_now_ns();
    err = bench->slots[slot].write
              ? torc_prep_put(bench->queue, key, bench->value, bench->value_bytes, slot)
              : torc_prep_get(bench->queue, key, NULL, slot);
    return err == TORC_ERR_OK ? err
                              : torc_fail(why, err, "%.150s", torc_queue_message(bench->queue));
}

static void bench_ended(struct bench *bench, const struct torc_completion *completion,
                        uint64_t now_ns)
{
    uint32_t slot = torc_narrow_u32(completion->user_data);

    if (completion->status != TORC_ERR_OK && completion->status != TORC_ERR_NOT_FOUND) {
        bench->failures++;
        return;
    }
    torc_histogram_record(bench->slots[slot].write ? &bench->writes : &bench->reads,
                          now_ns - bench->slots[slot].start_ns);
}

// Keeps `window` operations in flight until the time is over, then awaits the last.
static enum torc_err bench_run(struct bench *bench, struct torc_progress *progress,
                               struct torc_fail *why)
{
    struct torc_completion completions[256];
    uint64_t start_ns = torc_cli_now_ns();
    enum torc_err err = TORC_ERR_OK;

    bench->stop_ns = start_ns + bench->seconds * 1000000000;
    for (uint32_t slot = 0; slot < bench->window && err == TORC_ERR_OK; slot++) {
        err = bench_issue(bench, slot, why);
    }
    while (err == TORC_ERR_OK && torc_queue_pending(bench->queue) > 0) {
        unsigned count = torc_wait(bench->queue, completions, 256, 100000);
        uint64_t now_ns = torc_cli_now_ns();

        for (unsigned i = 0; i < count && err == TORC_ERR_OK; i++) {
            bench_ended(bench, &completions[i], now_ns);
            if (now_ns < bench->stop_ns) {
                err = bench_issue(bench, torc_narrow_u32(completions[i].user_data), why);
            }
        }
        torc_progress_show(progress, bench->reads.count + bench->writes.count, now_ns - start_ns);
    }
    return err;
}

static uint64_t bench_us(const struct torc_histogram *times, uint32_t per_million)
{
    return (torc_histogram_quantile(times, per_million) + 500) / 1000;
}

static void bench_show_kind(const struct bench *bench, const char *what,
                            const struct torc_histogram *times, uint64_t spent_ms)
{
    uint64_t rate = times->count * 1000 / spent_ms;
    uint64_t p50 = bench_us(times, 500000);
    uint64_t p99 = bench_us(times, 990000);
    uint64_t p999 = bench_us(times, 999000);

    if (times->count == 0) {
        return;
    }
    if (bench->cli->show.format == TORC_SHOW_JSON) {
        (void)printf("{\"operation\":\"%s\",\"count\":%" PRIu64 ",\"per_second\":%" PRIu64
                     ",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"p999_us\":%" PRIu64 "}\n",
                     what, times->count, rate, p50, p99, p999);
    } else {
        (void)printf("%-4s %10" PRIu64 "  %9" PRIu64 "/s   p50 %6" PRIu64 " us   p99 %6" PRIu64
                     " us   p99.9 %6" PRIu64 " us\n",
                     what, times->count, rate, p50, p99, p999);
    }
}

static enum torc_err bench_all(struct bench *bench, struct torc_fail *why)
{
    struct torc_progress progress;
    uint64_t start_ns;
    enum torc_err err = bench_options(bench, why);

    if (err == TORC_ERR_OK) {
        err = bench_connect(bench, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    bench->rng.state = torc_cli_now_ns();
    for (uint32_t i = 0; i < BENCH_VALUE_MAX; i++) {
        bench->value[i] = (uint8_t)torc_rng_next(&bench->rng);
    }
    torc_progress_start(&progress, "done", bench->seconds * 1000000000);
    start_ns = torc_cli_now_ns();
    err = bench_run(bench, &progress, why);
    torc_progress_end(&progress, bench->reads.count + bench->writes.count);
    if (err == TORC_ERR_OK) {
        uint64_t spent_ms = (torc_cli_now_ns() - start_ns) / 1000000 + 1;

        bench_show_kind(bench, "get", &bench->reads, spent_ms);
        bench_show_kind(bench, "put", &bench->writes, spent_ms);
    }
    if (err == TORC_ERR_OK && bench->failures > 0) {
        err =
            torc_fail(why, TORC_ERR_UNAVAILABLE, "%" PRIu64 " operations failed", bench->failures);
    }
    return err;
}

enum torc_err torc_cli_bench(struct torc_cli *cli, struct torc_fail *why)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    enum torc_err err;

    if (bench == NULL) {
        return torc_fail(why, TORC_ERR_INTERNAL, "no memory");
    }
    bench->cli = cli;
    err = bench_all(bench, why);
    torc_queue_close(bench->queue);
    free(bench);
    return err;
}
