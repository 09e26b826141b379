// Torc tests: what a worker does with twice the load that it can bear, on this machine.
//
// What    the world of tests/overload_world.h with a clock: a turn takes what it takes here, and
//         packets come meanwhile as they would from so many clients that do not wait. In turn: what
//         a packet costs in full turns, which is the core's capacity; then twice as many.
//           torc-overload-bench [--json] [packets | clients]
//         A line a row, medians: packets, sessions; capacity; how much of it is still accepted; the
//         latency of 99 of 100 accepted ones, and until 99 of 100 refused ones are told,
//         microseconds; the part of all packets that the receive ring lost.
//         The same with our clients (tests/overload_clients.h), to which twice as many calls come
//         as they get done at best: calls, clients; capacity; how much of it is done in time, by
//         what calls of each kind cost, and of the kind of which least is; the latency of 99 of 100
//         packets from their sending, and of 99 of 100 calls; until 99 of 100 refused packets are
//         told; sendings a call.
// Owner   one thread.
// Limits  what drivers and kernels take is not in it, nor what clients take. A turn is timed by
//         what the thread had of the processor, so strangers' work beside it is not in it.
#include "kit/clock_os.h"
#include "tests/overload_clients.h"
#include "tests/overload_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FULL_PACKETS = 64, // a turn
    FULL_TURNS = 1000,
    TWICE = 200,
    MEASURE_MS = 40,
    CLIENTS_MEASURE_MS = 20,
    PAIRS = 5,
    RECORDS = 1 << 20,
};

struct bench_row {
    const char *name;
    const struct overload_mix *mix;
    uint32_t sessions;
};

static const struct bench_row rows[] = {
    {"a get", &overload_gets, 20},
    {"16 gets", &overload_many_gets, 20},
    {"a get, put, range or pull", &overload_everything, 20},
    {"a get, put, range or pull", &overload_everything, 400},
};

static uint64_t cpu_ns(void)
{
    return torc_clock_read(CLOCK_THREAD_CPUTIME_ID);
}

static int compare(const void *a, const void *b)
{
    double left;
    double right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left < right ? -1 : left > right;
}

static double median(double values[PAIRS])
{
    qsort(values, PAIRS, sizeof(values[0]), compare);
    return values[PAIRS / 2];
}

// Memory of trees is touched before, as the dataplane's main thread does it.
static void open_row(const struct bench_row *row)
{
    struct overload_config config = {.sessions = row->sessions,
                                     .seed = 1,
                                     .keys = UINT64_C(1) << 31,
                                     .records = RECORDS,
                                     .sealed = true,
                                     .turn_clock = cpu_ns,
                                     .measure_ns = MEASURE_MS * OVERLOAD_MS_NS};

    overload_open(&config);
    if (!torc_mapping_touch(&overload.rig->mapping, 0, overload.rig->mapping.bytes)) {
        (void)fprintf(stderr, "torc-overload-bench: memory is not touched ahead\n");
    }
}

static void measure(const struct bench_row *row, bool json)
{
    double capacity[PAIRS];
    double accepted[PAIRS];
    double served_us[PAIRS];
    double refused_us[PAIRS];
    double lost[PAIRS];

    open_row(row);
    for (uint32_t i = 0; i < PAIRS; i++) {
        uint64_t cost_ps = overload_cost_full(row->mix, FULL_PACKETS, FULL_TURNS);
        struct overload_figures figures = overload_load(row->mix, cost_ps, TWICE);

        capacity[i] = 1e12 / (double)cost_ps;
        accepted[i] = (double)figures.accepted_ppm / 1e6;
        served_us[i] = (double)figures.p99_ns / 1e3;
        refused_us[i] = (double)figures.refused_p99_ns / 1e3;
        lost[i] = (double)overload.ring_lost / (double)overload.offered_count;
    }
    (void)printf(json ? "{\"packet\":\"%s\",\"sessions\":%u,\"capacity\":%.0f,\"accepted\":%.4f,"
                        "\"served_us\":%.1f,\"refused_us\":%.1f,\"lost\":%.4f}\n"
                      : "%-26s %3u sessions: %7.0f packets/s, %.3f of it accepted; 99 %% served in "
                        "%5.1f us, told in %5.1f us; %.3f lost\n",
                 row->name, row->sessions, median(capacity), median(accepted), median(served_us),
                 median(refused_us), median(lost));
    (void)fflush(stdout);
    overload_close();
}

// ---- Our clients

struct client_row {
    const char *name;
    const struct overload_mix *mix;
    uint32_t clients;
    uint32_t operations;
    uint32_t timeout_us;
    uint32_t outstanding; // with which most is done
};

static const struct client_row client_rows[] = {
    {"gets one by one", &overload_gets, 20, 65536, 20000, 20000},
    {"16 gets at once", &overload_many_gets, 20, 65536, 20000, 20000},
    {"gets, puts, ranges and large values", &overload_everything, 20, 32768, 60000, 64},
    {"gets, puts, ranges and large values", &overload_everything, 200, 4096, 60000, 8},
};

static void measure_clients(const struct client_row *row, bool json)
{
    struct bench_row node = {.name = row->name, .mix = row->mix, .sessions = 1};
    struct overload_clients_config config = {.clients = row->clients,
                                             .operations = row->operations,
                                             .timeout_us = row->timeout_us,
                                             .measure_ns = CLIENTS_MEASURE_MS * OVERLOAD_MS_NS};
    double capacity[PAIRS];
    double accepted[PAIRS];
    double least[PAIRS];
    double served_us[PAIRS];
    double called_us[PAIRS];
    double told_us[PAIRS];
    double sendings[PAIRS];

    open_row(&node);
    overload_clients_open(&config);
    overload_clients_costs(row->mix, row->outstanding);
    for (uint32_t i = 0; i < PAIRS; i++) {
        struct overload_clients_figures most =
            overload_clients_capacity(row->mix, row->outstanding);
        struct overload_clients_figures figures =
            overload_clients_load(row->mix, 2 * most.done_per_s);

        capacity[i] = most.done_per_s;
        accepted[i] = figures.work / most.work;
        least[i] = figures.least * figures.done_per_s / most.done_per_s;
        served_us[i] = (double)figures.served_p99_ns / 1e3;
        called_us[i] = (double)figures.called_p99_ns / 1e3;
        told_us[i] = (double)figures.refused_p99_ns / 1e3;
        sendings[i] = figures.sendings;
    }
    (void)printf(json ? "{\"calls\":\"%s\",\"clients\":%u,\"capacity\":%.0f,\"accepted\":%.4f,"
                        "\"least\":%.4f,\"served_us\":%.1f,\"called_us\":%.1f,\"told_us\":%.1f,"
                        "\"sendings\":%.4f}\n"
                      : "%-36s %3u clients: %8.0f calls/s, %.3f of it done (%.3f of the kind of "
                        "which least is); 99 %% in %5.1f us from sending, %7.1f us from the call, "
                        "told in %5.1f us; %.3f sent a call\n",
                 row->name, row->clients, median(capacity), median(accepted), median(least),
                 median(served_us), median(called_us), median(told_us), median(sendings));
    (void)fflush(stdout);
    overload_clients_close();
    overload_close();
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: torc-overload-bench [--json] [packets | clients]\n");
    return 2;
}

int main(int argc, char **argv)
{
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    const char *what = argc > (json ? 2 : 1) ? argv[json ? 2 : 1] : "";
    bool packets = strcmp(what, "clients") != 0;
    bool clients = strcmp(what, "packets") != 0;

    if (argc > (json ? 3 : 2) || (packets && clients && *what != '\0')) {
        return usage();
    }
    for (uint32_t i = 0; packets && i < TORC_COUNT_OF(rows); i++) {
        measure(&rows[i], json);
    }
    for (uint32_t i = 0; clients && i < TORC_COUNT_OF(client_rows); i++) {
        measure_clients(&client_rows[i], json);
    }
    return 0;
}
