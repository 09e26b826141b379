// Torc dataplane: memory made resident before workers use it.
//
// What    keeps the next `touch-ahead` bytes of each worker's pool resident, a huge page at a time.
//         The first touch of 2 MiB takes 0.1 ms where the system has to clear it, and 3 ms and more
//         in a virtual machine whose host has to find it; a worker that waits for that answers
//         nobody (docs/decisions/0013-first-touch-and-bulk.md).
// Owner   the main thread. A worker says how far its pool is used by one relaxed store.
// Memory  at most touch-ahead a worker beyond what is used: the row chunks.ahead of
//         `torc stats memory`.
#ifndef TORC_DATAPLANE_TOUCH_DPDK_H
#define TORC_DATAPLANE_TOUCH_DPDK_H

#include "dataplane/node_dpdk.h"

// At most one huge page a worker. *timeout_ms is lowered to when there may be more to do.
void torc_touch_step(struct torc_node *node, uint64_t now_ns, int *timeout_ms);

// What is resident ahead, of all workers.
uint64_t torc_touch_bytes(const struct torc_node *node);

#endif
