// Torc perf: one run of a workload against a cluster: load, warm up, measure.
//
// What    `clients` queues (each a session of its own) driven by one thread, each with up to
//         `window` operations in flight. Closed loop: a new one when one has ended. Open loop: at
//         random intended times with the given rate, and latency counts from the intended time,
//         whatever the server did meanwhile (no coordinated omission).
//         Every answer's key and length are looked at, each of TORC_PERF_VERIFY_EVERY whole.
// Owner   the main thread.
// Memory  the struct and its clients, from malloc, until torc_perf_run_close.
// Void    an open-loop run whose generator was late by over TORC_PERF_LATE_NS for over 1 % of the
//         operations, though a slot was free: it measured itself.
#ifndef TORC_PERF_RUN_OS_H
#define TORC_PERF_RUN_OS_H

#include "kit/fail.h"
#include "kit/histogram.h"
#include "kit/nap.h"
#include "perf/options_os.h"
#include "torc/torc.h"

#define TORC_PERF_VERIFY_EVERY 32u
#define TORC_PERF_LATE_NS      UINT64_C(1000000)

struct torc_perf_slot {
    uint64_t start_ns; // sent, or meant to be sent
    uint64_t record;
    uint64_t key;
    enum torc_perf_action action;
    uint32_t next_free; // index + 1
    bool writes_back;   // the second half of a read-modify-write
};

struct torc_perf_client {
    struct torc_queue *queue;
    struct torc_perf_slot *slots;
    uint32_t free_slot; // index + 1; 0: none
    uint32_t in_flight;
    uint64_t freed_ns; // when a slot was freed last
};

// The time told from the processor's counter, which takes a third of a system clock's 30 ns.
struct torc_perf_clock {
    uint64_t ticks; // when the system's clock was read last
    uint64_t now_ns;
    uint64_t ns_per_tick; // times 2^32; 0: no counter to rely on
};

struct torc_perf_run {
    const struct torc_perf_options *options;
    struct torc_perf_clock clock;
    struct torc_limits limits; // of the cluster
    struct torc_keys keys;
    struct torc_rng rng;
    struct torc_perf_client *clients;
    uint32_t client_count;
    uint32_t client_turn;
    uint32_t take; // answers taken at a time
    int epoll_fd;  // over the queues' descriptors; -1: none to wait on
    struct torc_nap nap;
    unsigned char *value;
    uint64_t nonce;
    // The phase that runs.
    bool loading;
    uint64_t load_next;
    uint64_t stop_ns;     // no new operations from here on
    uint64_t measure_ns;  // what begins from here on is counted
    uint64_t intended_ns; // open loop: of the next operation
    // What was seen, from measure_ns on.
    struct torc_histogram times[TORC_PERF_ACTION_COUNT];
    uint64_t scanned_rows;
    uint64_t statuses[256];
    uint64_t verified;
    uint64_t wrong;
    uint64_t late;
    uint64_t issued;
    uint64_t ended;
    uint64_t last_end_ns;
    uint64_t heard;   // packets, all clients together
    uint64_t busy_ns; // of the loop, where something began, came or ended
    double load_seconds;
    double steal_share; // of a core, taken by strangers while measuring
    char first_wrong[160];
    char first_failure[160];
};

// Connects all clients. NOT_CONNECTED names the address.
enum torc_err torc_must_use torc_perf_run_open(struct torc_perf_run **made,
                                               const struct torc_perf_options *options,
                                               struct torc_fail *why);

// Loads (unless the options say no), warms up, measures.
enum torc_err torc_must_use torc_perf_run_go(struct torc_perf_run *run, struct torc_fail *why);

void torc_perf_run_close(struct torc_perf_run *run);

// Sleeps until a queue has something, at most 100 ms; 20 us where the transport has no descriptor
// (memif), so that who writes the log finds a core. At once back unless the options say `block`.
void torc_perf_run_wait(struct torc_perf_run *run);

// True after SIGINT or SIGTERM, from torc_perf_run_open on: what is in flight is awaited, then the
// run ends as if its time were over.
bool torc_perf_is_told_to_stop(void);

bool torc_perf_run_is_void(const struct torc_perf_run *run);

#endif
