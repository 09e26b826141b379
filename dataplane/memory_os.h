// Torc dataplane: memory for trees and large values, taken from the system once, at start.
//
// What    mappings of address space that are touched as they fill: hugetlb pages where enough are
//         free, else ordinary pages that the kernel is asked to make huge (measured: random reads
//         over 3 GiB cost 1.6 to 1.8 times as much in 4 KiB pages). And a worker's bounded heap for
//         large values inside such a mapping.
// Owner   a mapping: whoever opened it. A heap: the thread that opened it, and no other may
//         allocate from it (mimalloc 2.0.9 does not check); any thread may free.
// Memory  `bytes` of address space; not backed until touched, unless hugetlb. A heap that is full
//         answers NULL and never takes more from the system.
// Sources FIELDNOTES: mimalloc 2.0.9's arenas.
#ifndef TORC_DATAPLANE_MEMORY_OS_H
#define TORC_DATAPLANE_MEMORY_OS_H

#include "kit/fail.h"

#include <mimalloc.h>

// What mimalloc's arenas are cut into, and so the least size and alignment of a heap's mapping.
#define TORC_MEMORY_HEAP_ALIGN_BYTES (UINT64_C(64) << 20)

enum torc_memory_pages {
    TORC_MEMORY_HUGETLB, // reserved hugepages, cannot be swapped or refused later
    TORC_MEMORY_MADVISED // huge where the kernel finds a free run, 4 KiB elsewhere
};

enum torc_memory_huge {
    TORC_MEMORY_TRY_HUGE,
    TORC_MEMORY_ONLY_HUGE,
    TORC_MEMORY_NO_HUGE
};

struct torc_memory {
    void *base;
    uint64_t bytes;
    enum torc_memory_pages pages;
};

// Maps `bytes` (rounded up to 2 MiB) of zeroed memory at a multiple of `align_bytes` (a power of
// two, at least 2 MiB). NO_SPACE when the system refuses.
enum torc_err torc_must_use torc_memory_open(struct torc_memory *memory, uint64_t bytes,
                                             uint64_t align_bytes, enum torc_memory_huge huge,
                                             struct torc_fail *why);

void torc_memory_close(struct torc_memory *memory);

// The calling thread's heap of at most `bytes`, in a mapping of its own. Lives until the process
// ends: mimalloc keeps an arena for good. With the address sanitizer the heap is the thread's
// ordinary one and unbounded, so that the sanitizer sees each block.
enum torc_err torc_must_use torc_memory_heap_open(mi_heap_t **heap, uint64_t bytes,
                                                  enum torc_memory_huge huge,
                                                  struct torc_fail *why);

// Bytes of memory that this machine (or this control group, where it is less) has.
uint64_t torc_memory_machine_bytes(void);

// Bytes in free hugetlb pages of any size.
uint64_t torc_memory_huge_free_bytes(void);

#endif
