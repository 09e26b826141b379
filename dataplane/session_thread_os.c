// Torc dataplane: the session thread. See dataplane/session_thread_os.h.
#include "dataplane/session_thread_os.h"

#include "dataplane/channel_os.h"
#include "dataplane/wait_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

static void session_thread_ring(const struct torc_session_thread *self, const uint64_t workers[4])
{
    for (uint32_t word = 0; word < 4; word++) {
        for (uint64_t left = workers[word]; left != 0; left &= left - 1) {
            torc_channel_ring_worker(self->worker_doorbells, self->chan,
                                     word * 64 + (uint32_t)__builtin_ctzll(left));
        }
    }
}

// One step; when the next one is due.
static uint64_t session_thread_step(struct torc_session_thread *self)
{
    struct torc_sessions_step step = {0};

    if (getrandom(step.random, sizeof(step.random), 0) != (ssize_t)sizeof(step.random)) {
        // Only a kernel without its random source does this; a session without it is guessable.
        torc_log(TORC_LOG_ERROR, "sessions", "no-random", "text=\"%s\"", strerrordesc_np(errno));
        return torc_clock_now_ns() + TORC_NS_PER_S;
    }
    step.now_ns = torc_clock_now_ns();
    step.wall_us = torc_clock_wall_ns() / TORC_NS_PER_US;
    torc_sessions_step(self->sessions, &step);
    session_thread_ring(self, step.ring_workers);
    explicit_bzero(step.random, sizeof(step.random));
    return step.more ? 0 : step.deadline_ns;
}

static void session_thread_sleep(struct torc_session_thread *self, struct torc_wait *wait,
                                 uint64_t deadline_ns)
{
    _Atomic uint32_t *sleeping = torc_sessions_sleeping(self->sessions);
    uint64_t now_ns;

    atomic_store_explicit(sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); // pairs with the worker's after it published
    now_ns = torc_clock_now_ns();
    if (!torc_sessions_pending(self->sessions, now_ns) && deadline_ns > now_ns) {
        torc_wait_block(wait, deadline_ns == UINT64_MAX ? UINT64_MAX : deadline_ns - now_ns);
    }
    atomic_store_explicit(sleeping, 0, memory_order_relaxed);
}

static void *session_thread_main(void *argument)
{
    struct torc_session_thread *self = argument;
    struct torc_wait wait;
    struct torc_fail why = {0};
    uint64_t deadline_ns = 0;

    (void)pthread_setname_np(pthread_self(), "torc-sessions"); // for people, may fail
    if (torc_wait_open(&wait, self->doorbell, &why) != TORC_ERR_OK) {
        torc_log(TORC_LOG_ERROR, "sessions", "stopped", "text=\"%s\"", why.text);
        return NULL;
    }
    while (!atomic_load_explicit(&self->stop, memory_order_relaxed)) {
        uint64_t now_ns = torc_clock_now_ns();

        if (deadline_ns <= now_ns || torc_sessions_pending(self->sessions, now_ns)) {
            deadline_ns = session_thread_step(self);
        } else {
            session_thread_sleep(self, &wait, deadline_ns);
        }
    }
    torc_wait_close(&wait);
    return NULL;
}

enum torc_err torc_session_thread_open(struct torc_session_thread *self,
                                       struct torc_sessions *sessions, void *chan,
                                       const int *worker_doorbells, struct torc_fail *why)
{
    int failed;

    *self = (struct torc_session_thread){.sessions = sessions,
                                         .chan = chan,
                                         .worker_doorbells = worker_doorbells,
                                         .doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (self->doorbell < 0) {
        return torc_fail(why, TORC_ERR_IO, "session thread: eventfd: %s", strerrordesc_np(errno));
    }
    failed = pthread_create(&self->thread, NULL, session_thread_main, self);
    if (failed != 0) {
        torc_session_thread_close(self);
        return torc_fail(why, TORC_ERR_IO, "session thread: %s", strerrordesc_np(failed));
    }
    self->started = true;
    return TORC_ERR_OK;
}

void torc_session_thread_close(struct torc_session_thread *self)
{
    if (self->started) {
        atomic_store_explicit(&self->stop, true, memory_order_relaxed);
        torc_channel_ring(self->doorbell); // the thread may sleep; its read orders the store
        (void)pthread_join(self->thread, NULL);
        self->started = false;
    }
    if (self->doorbell >= 0) {
        (void)close(self->doorbell);
        self->doorbell = -1;
    }
}
