// Torc perf: perf/machine: the limits that the other tables refer to, a JSON line each.
//
//     machine [--quick] [--folder FOLDER]
//
// `ours` is the limit in `unit`; there is nothing to compare it with. FOLDER says which disk (the
// current one if not told). AEAD comes with the code that needs it.
#include "perf/limits_os.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void row(const char *name, double ours, const char *unit)
{
    (void)printf(
        "{\"table\":\"machine\",\"name\":\"%s\",\"ours\":%.3f,\"peer\":null,\"ratio\":null,"
        "\"goal\":null,\"met\":null,\"unit\":\"%s\"}\n",
        name, ours, unit);
    (void)fflush(stdout);
}

// Jiffies of all cores: spent, not idle or waiting; negative: cannot be read.
static double machine_busy_s(void)
{
    FILE *file = fopen("/proc/stat", "re");
    char line[256] = "";
    double sum = 0;
    char *at = line;

    if (file == NULL) {
        return -1;
    }
    (void)!fgets(line, sizeof(line), file);
    (void)fclose(file);
    at += strcspn(at, " ");
    for (uint32_t field = 0; field < 8; field++) {
        double value = strtod(at, &at);

        sum += field == 3 || field == 4 ? 0 : value; // idle, iowait
    }
    return sum / 100;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'}, {"folder", required_argument, NULL, 'f'}, {0}};
    const char *folder = ".";
    double seconds = 1.0;
    double start = limits_wall_s();
    double cpu = limits_cpu_s();
    double busy = machine_busy_s();
    int option;

    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'q') {
            seconds = 0.2;
        } else if (option == 'f') {
            folder = optarg;
        } else {
            (void)fprintf(stderr, "usage: machine [--quick] [--folder FOLDER]\n");
            return 2;
        }
    }
    row("random lines, dependent", limits_random_lines(1, seconds) / 1e6, "M/s");
    row("random lines, 16 chains", limits_random_lines(16, seconds) / 1e6, "M/s");
    row("sequential read", limits_sequential_read(seconds) / 1e9, "GB/s");
    row("memcpy", limits_memcpy(seconds) / 1e9, "GB/s");
    // So far this thread alone has worked: what else was spent, strangers took.
    row("others", (machine_busy_s() - busy - (limits_cpu_s() - cpu)) / (limits_wall_s() - start),
        "cores");
    row("fdatasync of 4 KiB", limits_fdatasync_us(folder, 4096, seconds), "us");
    row("fdatasync of 64 KiB", limits_fdatasync_us(folder, 65536, seconds), "us");
    row("fdatasync of 256 KiB", limits_fdatasync_us(folder, 262144, seconds), "us");
    row("direct read of a file", limits_direct_read(folder, seconds) / 1e9, "GB/s");
    row("UDP ping-pong, busy", limits_udp_us(true, seconds), "us");
    row("UDP ping-pong, blocking", limits_udp_us(false, seconds), "us");
    return 0;
}
