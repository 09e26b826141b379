// Torc dataplane: the account of memory: what this process is made of, for control to show.
//
// What    walks the process's mappings, gives each to a row (kit/stats.h, TORC_MEMORY_TABLE), and
//         takes the workers' own books for what trees and large values take. Their mappings count
//         in the sum of what is resident, but in no row: so books that are wrong show as a
//         difference between the rows' sum and what is resident.
// Owner   the main thread, every TORC_ACCOUNT_NS or more seldom: it takes at most 1/1000 of a core.
// Memory  none but the page in the channel (struct torc_chan_memory).
#ifndef TORC_DATAPLANE_ACCOUNT_DPDK_H
#define TORC_DATAPLANE_ACCOUNT_DPDK_H

#include "dataplane/node_dpdk.h"

#define TORC_ACCOUNT_NS (2 * TORC_NS_PER_S)

// Makes the account if it is time to. *timeout_ms is lowered to when it is.
void torc_account_step(struct torc_node *node, uint64_t now_ns, int *timeout_ms);

#endif
