// Torc perf: the command line of torc-perf.
//
// What    one table: long name, kind, default, range, help. Numbers take K, M, G (powers of 1000).
// Owner   main, once.
#ifndef TORC_PERF_OPTIONS_OS_H
#define TORC_PERF_OPTIONS_OS_H

#include "perf/workload.h"

#define TORC_PERF_CLIENTS_MAX 1024u
#define TORC_PERF_WINDOW_MAX  16384u
#define TORC_PERF_VALUE_MAX   (1u << 20)

// X(KIND, field, name, default, least, greatest, help). NUMBER: uint64_t; TEXT: const char *, NULL
// when not given; FLAG: bool.
#define TORC_PERF_OPTIONS_TABLE(X)                                                                \
    X(TEXT, cluster, "cluster", 0, 0, 0, "address; else TORC_CLUSTER, else the local node's")     \
    X(TEXT, key_file, "key-file", 0, 0, 0, "key to show, or none; else TORC_KEY_FILE, local.key") \
    X(TEXT, workload, "workload", 0, 0, 0, "a b c d e f (YCSB), get, put, range, check [c]")      \
    X(NUMBER, records, "records", 100000, 1, TORC_KEYS_RECORDS_MAX, "records to begin with")      \
    X(NUMBER, seconds, "seconds", 10, 1, 86400, "of measurement")                                 \
    X(NUMBER, warmup, "warmup", 1, 0, 3600, "seconds before it")                                  \
    X(NUMBER, clients, "clients", 1, 1, TORC_PERF_CLIENTS_MAX, "sessions, each with a window")    \
    X(NUMBER, window, "window", 64, 1, TORC_PERF_WINDOW_MAX, "operations in flight a client")     \
    X(NUMBER, batch, "batch", 1, 1, 4096, "operations started together")                          \
    X(FLAG, alone, "alone", 0, 0, 0, "sent one by one: a packet each while the window has room")  \
    X(NUMBER, take, "take", 0, 0, 256, "answers taken before new ones start; 0: half the window") \
    X(NUMBER, rate, "rate", 0, 0, 1000000000, "operations a second (open loop); 0: closed loop")  \
    X(NUMBER, value_bytes, "value-bytes", 100, 0, TORC_PERF_VALUE_MAX, "of a value")              \
    X(TEXT, keys, "keys", 0, 0, 0, "uniform, zipf, latest, sequential [the workload's]")          \
    X(NUMBER, theta, "theta", 990, 1, 999, "Zipf's exponent, in 1/1000")                          \
    X(NUMBER, scan, "scan-length", 100, 1, 65536, "longest range of e; of `range` the length")    \
    X(FLAG, rising, "rising", 0, 0, 0, "record n has the n-th key: loading writes rising keys")   \
    X(FLAG, no_load, "no-load", 0, 0, 0, "the records are there already")                         \
    X(FLAG, block, "block", 0, 0, 0, "sleep while nothing comes (always with check)")             \
    X(NUMBER, timeout_ms, "timeout-ms", 10000, 1, 3600000, "deadline of an operation")            \
    X(NUMBER, memory_mb, "memory-mb", 64, 4, 65536, "for values in flight, a client")             \
    X(NUMBER, seed, "seed", 0, 0, UINT64_MAX, "of keys and mix; 0: from the clock")               \
    X(TEXT, history, "history", 0, 0, 0, "file for every operation of `check`, a JSON line each") \
    X(TEXT, histogram, "histogram", 0, 0, 0, "file for latencies, HdrHistogram's log format")     \
    X(FLAG, json, "json", 0, 0, 0, "one JSON object instead of a table")

struct torc_perf_options {
#define TORC_PERF_FIELD_NUMBER(field)                         uint64_t field;
#define TORC_PERF_FIELD_TEXT(field)                           const char *field;
#define TORC_PERF_FIELD_FLAG(field)                           bool field;
#define X(kind, field, name, fallback, least, greatest, help) TORC_PERF_FIELD_##kind(field)
    TORC_PERF_OPTIONS_TABLE(X)
#undef X
    enum torc_workload mix;
    enum torc_keys_order order;
};

// False after a line on stderr that names the option and what it takes: exit 2. --help prints and
// exits 0.
bool torc_must_use torc_perf_options_read(struct torc_perf_options *options, int argc, char **argv);

#endif
