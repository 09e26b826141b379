// Torc dataplane: memory that a driver gives back while a worker may still be reading it.
//
// What    when a memif peer is gone, DPDK's driver marks the port and unmaps the peer's memory on a
//         thread of its own, at once; a worker that looked at the mark just before dies of SIGSEGV
//         (FIELDNOTES.md, section 4; here 1 of 170 killed clients). So this program has a munmap of
//         its own: it first waits until each worker has begun another turn or sleeps. That is the
//         grace period of RCU (McKenney and Slingwine, "Read-Copy Update", 1998).
// Owner   a worker's loop stores its phase, odd within a turn and even outside; whoever unmaps
//         reads them. Workers themselves never wait.
// Cost    a plain store a turn. The barrier that makes it enough is the other side's:
//         membarrier(2).
// Bounds  TORC_GRACE_MOST_NS: a worker that hangs must not hang the driver too.
// Not in  builds with sanitizers, which have a munmap of their own.
#ifndef TORC_DATAPLANE_GRACE_OS_H
#define TORC_DATAPLANE_GRACE_OS_H

#include "kit/base.h"

#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TORC_GRACE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TORC_GRACE_SANITIZED 1
#endif
#endif

#define TORC_GRACE_WORKERS_MAX 256u
#define TORC_GRACE_MOST_NS     UINT64_C(1000000000)

// From now on until torc_grace_forget, on the worker's own thread.
void torc_grace_watch(uint32_t worker, const _Atomic uint64_t *phase);
void torc_grace_forget(uint32_t worker);

// Returns when no watched worker is in the turn that it was in. Not from a worker's thread.
void torc_grace_wait(void);

#endif
