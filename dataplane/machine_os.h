// Torc dataplane: how much memory the machine has.
//
// What    all of it, and what lies in free hugepages, for the defaults of settings. Taking memory
//         is storage/memory_os.h's.
// Owner   the main thread, at start. No state.
#ifndef TORC_DATAPLANE_MACHINE_OS_H
#define TORC_DATAPLANE_MACHINE_OS_H

#include "kit/base.h"

// Bytes of memory that this machine (or this control group, where it is less) has.
uint64_t torc_machine_memory_bytes(void);

// Bytes in free hugetlb pages of any size.
uint64_t torc_machine_huge_free_bytes(void);

#endif
