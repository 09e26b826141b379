// Torc perf: the program torc-perf: runs one workload and says what came of it.
#include "kit/clock_os.h"
#include "perf/hdrlog_os.h"
#include "perf/history_os.h"
#include "perf/run_os.h"

#include <stdio.h>
#include <string.h>

enum exit_status {
    EXIT_FINE = 0,
    EXIT_WRONG = 1,
    EXIT_USAGE = 2,
    EXIT_FAILED = 3,
    EXIT_VOID = 4
};

static double us(uint64_t ns)
{
    return (double)ns / 1000.0;
}

static void print_times_json(const char *name, const struct torc_histogram *times)
{
    printf(",\"%s\":{\"count\":%lu,\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f,"
           "\"p999_us\":%.2f,\"max_us\":%.2f,\"mean_us\":%.2f}",
           name, (unsigned long)times->count, us(torc_histogram_quantile(times, 500000)),
           us(torc_histogram_quantile(times, 900000)), us(torc_histogram_quantile(times, 990000)),
           us(torc_histogram_quantile(times, 999000)), us(times->max),
           us(times->sum / (times->count == 0 ? 1 : times->count)));
}

static void print_statuses_json(const struct torc_perf_run *run)
{
    const char *comma = "";

    printf(",\"errors\":{");
    for (unsigned i = 1; i < 256; i++) {
        if (run->statuses[i] != 0 && i != TORC_ERR_NOT_FOUND) {
            printf("%s\"%s\":%lu", comma, torc_error_name((int)i), (unsigned long)run->statuses[i]);
            comma = ",";
        }
    }
    printf("}");
}

static double run_seconds(const struct torc_perf_run *run)
{
    uint64_t end_ns = torc_max_u64(run->last_end_ns, run->measure_ns + 1);

    return (double)(end_ns - run->measure_ns) / 1e9;
}

static void print_json(const struct torc_perf_run *run, const struct torc_counters *counters)
{
    const struct torc_perf_options *options = run->options;
    double seconds = run_seconds(run);

    printf("{\"workload\":\"%s\",\"records\":%lu,\"clients\":%lu,\"window\":%lu,\"batch\":%lu,"
           "\"rate\":%lu,\"value_bytes\":%lu,\"load_seconds\":%.3f,\"seconds\":%.3f,\"ops\":%lu,"
           "\"ops_per_s\":%.0f,\"rows\":%lu,\"rows_per_s\":%.0f",
           torc_workload_info(options->mix)->name, (unsigned long)options->records,
           (unsigned long)options->clients, (unsigned long)options->window,
           (unsigned long)options->batch, (unsigned long)options->rate,
           (unsigned long)options->value_bytes, run->load_seconds, seconds,
           (unsigned long)run->ended, (double)run->ended / seconds,
           (unsigned long)run->scanned_rows, (double)run->scanned_rows / seconds);
    for (uint32_t i = 0; i < TORC_PERF_ACTION_COUNT; i++) {
        if (run->times[i].count > 0) {
            print_times_json(torc_perf_action_name((enum torc_perf_action)i), &run->times[i]);
        }
    }
    print_statuses_json(run);
    printf(",\"verified\":%lu,\"wrong\":%lu,\"late\":%lu,\"void\":%s,\"steal\":%.3f,"
           "\"packets_sent\":%lu,\"resends\":%lu,\"resends_timer\":%lu,\"resends_overtaken\":%lu,"
           "\"resends_refused\":%lu,\"range_repairs\":%lu,\"busy\":%.3f}\n",
           (unsigned long)run->verified, (unsigned long)run->wrong, (unsigned long)run->late,
           torc_perf_run_is_void(run) ? "true" : "false", run->steal_share,
           (unsigned long)counters->packets_sent,
           (unsigned long)(counters->resends_timer + counters->resends_overtaken +
                           counters->resends_refused),
           (unsigned long)counters->resends_timer, (unsigned long)counters->resends_overtaken,
           (unsigned long)counters->resends_refused, (unsigned long)counters->range_repairs,
           (double)run->busy_ns / 1e9 / seconds);
}

static void print_table(const struct torc_perf_run *run)
{
    double seconds = run_seconds(run);

    printf("%lu operations in %.2f s: %.0f a second\n", (unsigned long)run->ended, seconds,
           (double)run->ended / seconds);
    if (run->scanned_rows > 0) {
        printf("%lu rows: %.0f a second\n", (unsigned long)run->scanned_rows,
               (double)run->scanned_rows / seconds);
    }
    printf("%-8s %12s %10s %10s %10s %10s %10s\n", "", "count", "p50 us", "p90 us", "p99 us",
           "p99.9 us", "max us");
    for (uint32_t i = 0; i < TORC_PERF_ACTION_COUNT; i++) {
        const struct torc_histogram *times = &run->times[i];

        if (times->count > 0) {
            printf("%-8s %12lu %10.1f %10.1f %10.1f %10.1f %10.1f\n",
                   torc_perf_action_name((enum torc_perf_action)i), (unsigned long)times->count,
                   us(torc_histogram_quantile(times, 500000)),
                   us(torc_histogram_quantile(times, 900000)),
                   us(torc_histogram_quantile(times, 990000)),
                   us(torc_histogram_quantile(times, 999000)), us(times->max));
        }
    }
}

static enum torc_err write_histograms(const struct torc_perf_run *run, struct torc_fail *why)
{
    const char *path = run->options->histogram;
    FILE *file = path == NULL ? NULL : fopen(path, "we");
    enum torc_err err = TORC_ERR_OK;

    if (path == NULL) {
        return TORC_ERR_OK;
    }
    if (file == NULL) {
        return torc_fail(why, TORC_ERR_IO, "--histogram %.120s: %m", path);
    }
    torc_hdrlog_begin(file, (double)torc_clock_wall_ns() / 1e9 - run_seconds(run));
    for (uint32_t i = 0; i < TORC_PERF_ACTION_COUNT && err == TORC_ERR_OK; i++) {
        if (run->times[i].count > 0) {
            err = torc_hdrlog_add(file, torc_perf_action_name((enum torc_perf_action)i),
                                  run_seconds(run), &run->times[i], why);
        }
    }
    if (fclose(file) != 0 && err == TORC_ERR_OK) {
        err = torc_fail(why, TORC_ERR_IO, "--histogram %.120s: %m", path);
    }
    return err;
}

static int measure(struct torc_perf_run *run, struct torc_fail *why)
{
    struct torc_counters counters = {0};
    enum torc_err err = torc_perf_run_go(run, why);
    uint64_t failed;

    if (err == TORC_ERR_OK) {
        err = write_histograms(run, why);
    }
    if (err != TORC_ERR_OK) {
        return EXIT_FAILED;
    }
    torc_queue_counters(run->clients[0].queue, &counters);
    if (run->options->json) {
        print_json(run, &counters);
    } else {
        print_table(run);
    }
    failed = run->ended - run->statuses[TORC_ERR_OK] - run->statuses[TORC_ERR_NOT_FOUND];
    if (run->wrong > 0) {
        (void)torc_fail(why, TORC_ERR_CORRUPT, "%lu wrong answers, the first: %.110s",
                        (unsigned long)run->wrong, run->first_wrong);
        return EXIT_WRONG;
    }
    if (failed > 0) {
        (void)torc_fail(why, TORC_ERR_UNAVAILABLE, "%lu operations failed, the first: %.110s",
                        (unsigned long)failed, run->first_failure);
        return EXIT_FAILED;
    }
    if (torc_perf_run_is_void(run)) {
        (void)torc_fail(why, TORC_ERR_BUSY, "void: this program came late to %lu of %lu operations",
                        (unsigned long)run->late, (unsigned long)run->ended);
        return EXIT_VOID;
    }
    return EXIT_FINE;
}

static int check(struct torc_perf_run *run, struct torc_fail *why)
{
    struct torc_history_result result;

    if (torc_history_go(run, &result, why) != TORC_ERR_OK) {
        return EXIT_FAILED;
    }
    printf(
        run->options->json
            ? "{\"workload\":\"check\",\"ops\":%lu,\"in_doubt\":%lu,\"failed\":%lu,\"torn\":%lu}\n"
            : "%lu operations, %lu in doubt, %lu failed, %lu torn\n",
        (unsigned long)result.operations, (unsigned long)result.in_doubt,
        (unsigned long)result.failed, (unsigned long)result.torn);
    return result.torn > 0 ? EXIT_WRONG : EXIT_FINE;
}

int main(int argc, char **argv)
{
    struct torc_perf_options options;
    struct torc_perf_run *run = NULL;
    struct torc_fail why = {0};
    int status;

    if (!torc_perf_options_read(&options, argc, argv)) {
        return EXIT_USAGE;
    }
    options.block = options.block || options.mix == TORC_WORKLOAD_CHECK;
    if (torc_perf_run_open(&run, &options, &why) != TORC_ERR_OK) {
        status = why.err == TORC_ERR_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
    } else {
        status = options.mix == TORC_WORKLOAD_CHECK ? check(run, &why) : measure(run, &why);
    }
    torc_perf_run_close(run);
    if (why.text[0] != '\0') {
        fprintf(stderr, "torc-perf: %s: %s\n", torc_err_name(why.err), why.text);
    }
    return status;
}
