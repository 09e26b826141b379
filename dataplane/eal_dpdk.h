// Torc dataplane: starting DPDK so that it disturbs nobody.
//
// What    EAL with a file prefix of its own, nothing left on disk, no telemetry, hugepages when
//         enough are free, one lcore a worker (lcore 0 is the main thread), its messages in our
//         log.
// Owner   the program's main thread, once.
// Memory  the packet buffers' heap, at most `memory_bytes`; trees do not live here.
// Bounds  RTE_MAX_LCORE - 1 workers.
// Sources FIELDNOTES.md, section 1.
#ifndef TORC_DATAPLANE_EAL_DPDK_H
#define TORC_DATAPLANE_EAL_DPDK_H

#include "kit/fail.h"

#define TORC_EAL_CPUS_MAX 1024

struct torc_eal_want {
    const char *file_prefix; // of this node alone on this machine
    const char *pci;         // the one device to take, or NULL: none is touched
    uint64_t memory_bytes;
    uint32_t worker_count;
    bool pinned;    // worker w on cpus[w] alone; else all on every processor allowed
    bool huge_only; // refuse to start without hugepages
    bool huge_never;
    uint16_t cpus[TORC_EAL_CPUS_MAX];
};

// Processors this process may use, ascending; how many.
uint32_t torc_eal_cpus(uint16_t cpus[TORC_EAL_CPUS_MAX]);

// Reads `cores`, as in 1-3,5: INVALID_ARGUMENT when a processor is not allowed, named twice, or the
// text is no list. *count is how many.
enum torc_err torc_must_use torc_eal_parse_cpus(const char *text, uint16_t cpus[TORC_EAL_CPUS_MAX],
                                                uint32_t *count, struct torc_fail *why);

enum torc_err torc_must_use torc_eal_open(const struct torc_eal_want *want, struct torc_fail *why);

// The last thing DPDK complained about on any thread, for messages; empty when nothing.
const char *torc_eal_complaint(void);
void torc_eal_forget_complaint(void);

void torc_eal_close(void);

#endif
