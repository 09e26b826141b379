// Torc dataplane: a grace period before memory is unmapped. See dataplane/grace_os.h.
#include "dataplane/grace_os.h"

#include "kit/clock_os.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// One a process, as munmap is.
static const _Atomic uint64_t *_Atomic grace_phases[TORC_GRACE_WORKERS_MAX];
static _Thread_local bool grace_is_worker;

void torc_grace_watch(uint32_t worker, const _Atomic uint64_t *phase)
{
    torc_assert(worker < TORC_GRACE_WORKERS_MAX);
    grace_is_worker = true;
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    atomic_store_explicit(&grace_phases[worker], phase, memory_order_release);
}

void torc_grace_forget(uint32_t worker)
{
    atomic_store_explicit(&grace_phases[worker], NULL, memory_order_release);
    grace_is_worker = false;
}

// Every thread of this process passes a full barrier: what a worker reads after it sees what we
// wrote before it, and its phase from before it is visible to us. False on a kernel without.
static bool grace_barrier(void)
{
    atomic_thread_fence(memory_order_seq_cst);
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static void grace_wait_for(uint32_t worker, uint64_t end_ns)
{
    const _Atomic uint64_t *phase =
        atomic_load_explicit(&grace_phases[worker], memory_order_acquire);
    uint64_t seen = phase == NULL ? 0 : atomic_load_explicit(phase, memory_order_acquire);

    while (seen % 2 == 1 &&
           atomic_load_explicit(&grace_phases[worker], memory_order_acquire) != NULL &&
           atomic_load_explicit(phase, memory_order_acquire) == seen &&
           torc_clock_now_ns() < end_ns) {
        (void)sched_yield();
    }
}

void torc_grace_wait(void)
{
    uint64_t end_ns = torc_clock_now_ns() + TORC_GRACE_MOST_NS;
    // Without the barrier a second turn stands for it.
    uint32_t turns = grace_barrier() ? 1 : 2;

    torc_assert(!grace_is_worker);
    for (uint32_t turn = 0; turn < turns; turn++) {
        for (uint32_t worker = 0; worker < TORC_GRACE_WORKERS_MAX; worker++) {
            grace_wait_for(worker, end_ns);
        }
    }
}

#ifndef TORC_GRACE_SANITIZED
// Takes libc's place for everything that is linked to this program, DPDK's drivers included
// (dataplane/meson.build exports it).
// NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are its own
int munmap(void *address, size_t bytes)
{
    if (!grace_is_worker) {
        torc_grace_wait();
    }
    return (int)syscall(SYS_munmap, address, bytes);
}
#endif
