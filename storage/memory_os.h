// Torc storage: where the memory comes from. The edge under storage/memory.h and storage/chunk.h.
//
// What    a mapping of huge pages for chunks, and one for a bounded heap of large values.
// Owner   a mapping: the process. A heap: whoever opens it.
// Guards  a page that may not be touched lies before and behind each mapping: the kernel then never
//         joins it with a neighbour, so that what is resident of it can be told apart.
// Memory  a mapping is hugetlb pages if enough are reserved, else it asks for transparent huge
//         pages; pages are touched when first used.
#ifndef TORC_STORAGE_MEMORY_OS_H
#define TORC_STORAGE_MEMORY_OS_H

#include "kit/fail.h"
#include "storage/memory.h"

struct torc_mapping {
    void *base; // aligned to 2 MiB
    uint64_t bytes;
    bool hugetlb;
};

// Maps `bytes`, rounded up to 2 MiB. NO_SPACE with the system's reason.
enum torc_err torc_must_use torc_mapping_open(struct torc_mapping *mapping, uint64_t bytes,
                                              struct torc_fail *why);
void torc_mapping_close(struct torc_mapping *mapping);

// Makes [from, from + bytes) of it resident, whatever is there stays. Any thread, while others use
// it. False: the system cannot (before Linux 5.14), or has no memory.
bool torc_mapping_touch(const struct torc_mapping *mapping, uint64_t from, uint64_t bytes);

// A heap of `bytes` in a mapping of its own. Reserved huge pages are left to the chunks.
enum torc_err torc_must_use torc_heap_open(struct torc_heap *heap, uint64_t bytes,
                                           struct torc_fail *why);
// Frees every block at once, and the mapping.
void torc_heap_close(struct torc_heap *heap);

#endif
