// Torc perf: the workload `check`: few keys, every operation, a history for a checker.
//
// What    each client has one operation in flight at a time and draws it at random: put, get,
//         delete, conditional put, range forward. Every value is written once only. Each operation
//         becomes a line of the history, a JSON object:
//           {"client":0,"op":"put","key":3,"value":"0-17-a1","status":"ok","version":9,
//            "call_ns":1,"return_ns":2}
//         `op`: put, get, delete, put_if (with "if_version", 0 = absent), range (with "start",
//         "end", "limit", and "result":[[key,value,version],…]); a get's value is "result". Times
//         are of one monotonic clock. "in_doubt":true: the outcome is not known. At the end every
//         key is read once more, so that a lost write is seen.
// Owner   main.
#ifndef TORC_PERF_HISTORY_OS_H
#define TORC_PERF_HISTORY_OS_H

#include "kit/fail.h"
#include "perf/run_os.h"

struct torc_history_result {
    uint64_t operations;
    uint64_t in_doubt;
    uint64_t failed; // with a definite error
    uint64_t torn;   // values read that nobody wrote
};

// Runs it with the run's clients; IO when the file cannot be written.
enum torc_err torc_must_use torc_history_go(struct torc_perf_run *run,
                                            struct torc_history_result *result,
                                            struct torc_fail *why);

#endif
