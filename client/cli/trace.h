// Torc cli: where the time of a request went, as `torc trace` shows it.
//
// What    the parts of a struct torc_trace as lines for people, as JSON, or as `part ns` lines; and
//         the medians of many traces, part by part (so they need not add up).
// Owner   none: pure functions.
// Memory  the caller's buffers.
#ifndef TORC_CLIENT_CLI_TRACE_H
#define TORC_CLIENT_CLI_TRACE_H

#include "client/cli/show.h"
#include "torc/torc.h"

#define TORC_TRACE_TEXT_BYTES 2048u

// X(NAME, name, help); NAME as in TORC_TRACE_NAME of torc.h, in the order of time.
#define TORC_TRACE_PART_TABLE(X)                                                             \
    X(TOTAL, total, "from the call to its answer")                                           \
    X(WIRE, wire, "network there and back, kernels and library at both ends")                \
    X(QUEUE, queue, "in the node: from another core's queue, behind what came with it")      \
    X(TREE, tree, "looking the key up; of a write: its condition, and whether it is a copy") \
    X(LOG, log, "until its record was in the log's open block")                              \
    X(SYNC, sync, "until that block was on disk")                                            \
    X(REPLY, reply, "until its answer was written")

struct torc_trace_said {
    const char *verb; // "get"
    uint64_t key;
    const char *status; // "OK"
    uint32_t count;     // traces that `trace` is the median of
    const struct torc_trace *trace;
};

// The median of each part over the traces that know it; what none knows is not known. Reorders
// `numbers`, which has room for `count`.
void torc_trace_median(const struct torc_trace *traces, uint32_t count, uint64_t *numbers,
                       struct torc_trace *median);

// Returns the length; `text` has TORC_TRACE_TEXT_BYTES.
uint32_t torc_trace_show(const struct torc_show *show, const struct torc_trace_said *said,
                         char *text);

#endif
