// Torc kit: what a process finds resident of itself.
//
// What    reads /proc/self/smaps, mapping by mapping; and asks how much of a range is resident. A
//         page that several mappings share counts in parts (Pss), so that the sum over processes
//         counts it once.
// Owner   any thread; for now and then, it takes a millisecond and more.
#ifndef TORC_KIT_RESIDENT_OS_H
#define TORC_KIT_RESIDENT_OS_H

#include "kit/fail.h"

#include <stdio.h>

enum torc_mapped_kind {
    TORC_MAPPED_FILE,  // with a name in a file system, deleted or not; `name` says it
    TORC_MAPPED_STACK, // the main thread's, or one behind a guard page
    TORC_MAPPED_OTHER, // anonymous; "[heap]" and the like
};

struct torc_mapped {
    uint64_t start; // addresses
    uint64_t end;
    uint64_t bytes;         // resident, its share
    uint64_t hugetlb_bytes; // beside these
    uint64_t page_bytes;    // of a page; transparent huge ones apart
    enum torc_mapped_kind kind;
    char name[96];
};

struct torc_resident {
    FILE *file;
    uint64_t guard_end; // of a guard page that was the last mapping
};

enum torc_err torc_must_use torc_resident_open(struct torc_resident *resident,
                                               struct torc_fail *why);
// The next mapping, by rising addresses; false at the end.
bool torc_must_use torc_resident_next(struct torc_resident *resident, struct torc_mapped *mapped);
void torc_resident_close(struct torc_resident *resident);

// Resident bytes of the pages that begin in [base, base + bytes): private memory of this process.
uint64_t torc_resident_range(const void *base, uint64_t bytes);

#endif
