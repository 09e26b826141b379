// Torc tests: dataplane/grace_os.h: what a worker reads is not unmapped under it.
#include "dataplane/grace_os.h"
#include "tests/torc_test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PEERS = 1000, // come and go
    READS = 64,
    PAGE_BYTES = 4096
};

// A driver's port as a worker sees it: a mark, and memory that is there while the mark is set.
struct port {
    _Atomic bool connected;
    const _Atomic uint32_t *_Atomic memory;
    _Atomic uint64_t phase;
    _Atomic bool stop;
    _Atomic uint64_t reads;
    bool slow;
};

static void *worker_main(void *argument)
{
    struct port *port = argument;
    uint64_t phase = 1;

    torc_grace_watch(0, &port->phase);
    while (!atomic_load_explicit(&port->stop, memory_order_relaxed)) {
        phase += 2;
        atomic_store_explicit(&port->phase, phase, memory_order_release);
        if (atomic_load_explicit(&port->connected, memory_order_relaxed)) {
            const _Atomic uint32_t *memory =
                atomic_load_explicit(&port->memory, memory_order_relaxed);

            for (size_t i = 0; i < READS; i++) { // a burst
                uint32_t one = atomic_load_explicit(memory + i * 8, memory_order_relaxed);

                atomic_fetch_add(&port->reads, one);
                if (port->slow) {
                    (void)sched_yield(); // so that the peer's end falls into it
                }
            }
        }
    }
    torc_grace_forget(0);
    return NULL;
}

// Peers come and go; `unmap` ends each. How many were seen by the worker.
static uint64_t peers_come_and_go(int (*unmap)(void *, size_t), bool slow)
{
    static struct port port;
    pthread_t worker;

    port = (struct port){.slow = slow};
    torc_assert(pthread_create(&worker, NULL, worker_main, &port) == 0);
    for (uint32_t i = 0; i < PEERS; i++) {
        void *memory =
            mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        uint64_t before = atomic_load(&port.reads);

        torc_assert(memory != MAP_FAILED);
        *(uint32_t *)memory = 1;
        atomic_store(&port.memory, memory);
        atomic_store(&port.connected, true);
        while (atomic_load(&port.reads) == before) {
            (void)sched_yield();
        }
        atomic_store_explicit(&port.connected, false, memory_order_relaxed);
        (void)unmap(memory, PAGE_BYTES);
    }
    atomic_store(&port.stop, true);
    (void)pthread_join(worker, NULL);
    return atomic_load(&port.reads);
}

static int unmap_at_once(void *address, size_t bytes)
{
    return (int)syscall(SYS_munmap, address, bytes);
}

static int unmap_with_grace(void *address, size_t bytes)
{
    torc_grace_wait();
    return (int)syscall(SYS_munmap, address, bytes);
}

static void test_memory_outlives_the_turn(void)
{
    CU_ASSERT_TRUE(peers_come_and_go(unmap_with_grace, false) >= PEERS);
}

// The same without grace dies: the test can see what it looks for.
static void test_without_grace_it_dies(void)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        (void)signal(SIGSEGV, SIG_DFL); // a sanitizer's would say it too loudly
        (void)peers_come_and_go(unmap_at_once, true);
        _exit(0);
    }
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_TRUE(WIFSIGNALED(status));
    CU_ASSERT_EQUAL(WTERMSIG(status), SIGSEGV);
}

struct waiter {
    _Atomic bool done;
};

static void *waiter_main(void *argument)
{
    struct waiter *waiter = argument;

    torc_grace_wait();
    atomic_store(&waiter->done, true);
    return NULL;
}

static void test_it_waits_for_the_turn_alone(void)
{
    static _Atomic uint64_t phase;
    struct waiter waiter = {0};
    pthread_t thread;

    torc_grace_wait(); // nobody is watched
    torc_grace_watch(3, &phase);
    atomic_store(&phase, 7);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, waiter_main, &waiter), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        (void)sched_yield();
    }
    CU_ASSERT_FALSE(atomic_load(&waiter.done)); // it may also not have begun; never has it ended
    atomic_store(&phase, 9);
    CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
    CU_ASSERT_TRUE(atomic_load(&waiter.done));
    atomic_store(&phase, 10); // asleep: nothing to wait for
    CU_ASSERT_EQUAL(pthread_create(&thread, NULL, waiter_main, &waiter), 0);
    CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
    torc_grace_forget(3);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"it waits for the turn, and for no sleeper", test_it_waits_for_the_turn_alone},
        {"memory outlives the turn that reads it", test_memory_outlives_the_turn},
        {"without grace the reader dies", test_without_grace_it_dies},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("grace", tests);
}
