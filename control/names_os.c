// Torc control: addresses of names. See control/names_os.h.
#include "control/names_os.h"

#include "kit/clock_os.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

// Bets.
#define NAMES_FRESH_NS (60 * TORC_NS_PER_S) // as libcurl's own
#define NAMES_AGAIN_NS TORC_NS_PER_S        // after a failure, of a name that is not known yet

enum names_state {
    NAMES_ASKS,
    NAMES_DONE, // its owner frees it
    NAMES_LEFT, // it frees itself
};

struct torc_names_job {
    _Atomic(enum names_state) state;
    uint32_t index;
    int fd; // its own
    int error;
    char host[TORC_NAMES_HOST_BYTES];
    char found[TORC_NAMES_TEXT_BYTES];
};

// -- A lookup -------------------------------------------------------------------------------------

// As many addresses as there is room for.
static void names_write(const struct addrinfo *at, char found[TORC_NAMES_TEXT_BYTES])
{
    uint64_t bytes = 0;

    for (; at != NULL; at = at->ai_next) {
        bool six = at->ai_family == AF_INET6;
        char number[INET6_ADDRSTRLEN] = "";
        const void *address = at->ai_addr; // aligned for its family
        const void *from = six ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                               : (const void *)&((const struct sockaddr_in *)address)->sin_addr;

        if ((!six && at->ai_family != AF_INET) ||
            inet_ntop(at->ai_family, from, number, sizeof(number)) == NULL ||
            bytes + sizeof(number) + 3 >= TORC_NAMES_TEXT_BYTES) {
            continue;
        }
        bytes += (uint64_t)snprintf(found + bytes, TORC_NAMES_TEXT_BYTES - bytes,
                                    six ? "%s[%s]" : "%s%s", bytes > 0 ? "," : "", number);
    }
}

static void *names_thread(void *context)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct torc_names_job *job = context;
    struct addrinfo *found = NULL;
    uint64_t one = 1;
    int fd = job->fd;

    job->error = getaddrinfo(job->host, NULL, &hints, &found);
    if (job->error == 0) {
        names_write(found, job->found);
        freeaddrinfo(found);
    }
    if (atomic_exchange(&job->state, NAMES_DONE) == NAMES_LEFT) {
        free(job);
    }
    (void)!write(fd, &one, sizeof(one)); // it may have been closed at the other end
    (void)close(fd);
    return NULL;
}

static bool names_begin_thread(struct torc_names_job *job)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    bool begun;

    (void)pthread_attr_init(&attributes); // these never fail with such words
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); // signals are the main thread's
    begun = pthread_create(&thread, &attributes, names_thread, job) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return begun;
}

// False: there is no thread or no descriptor for it now.
static bool names_ask(struct torc_names *names, uint32_t index)
{
    struct torc_names_job *job = calloc(1, sizeof(*job));

    torc_assert(job != NULL);
    job->index = index;
    memcpy(job->host, names->names[index].host, sizeof(job->host));
    job->fd = fcntl(names->fd, F_DUPFD_CLOEXEC, 0);
    if (job->fd < 0 || !names_begin_thread(job)) {
        if (job->fd >= 0) {
            (void)close(job->fd);
        }
        free(job);
        return false;
    }
    names->job = job;
    return true;
}

static void names_take(struct torc_names *names, uint64_t now_ns)
{
    struct torc_names_job *job = names->job;
    struct torc_name *name = names->names + job->index;

    names->job = NULL;
    if (job->found[0] != '\0') {
        memcpy(name->found, job->found, sizeof(name->found));
        name->known = true;
    } else {
        (void)snprintf(name->why, sizeof(name->why), "%s",
                       gai_strerror(job->error != 0 ? job->error : EAI_NONAME));
    }
    name->due_ns = now_ns + (name->known ? NAMES_FRESH_NS : NAMES_AGAIN_NS);
    free(job);
}

// -- Names ----------------------------------------------------------------------------------------

void torc_names_add(struct torc_names *names, const char *host, uint64_t host_bytes)
{
    struct torc_name *name = names->names + names->count;
    struct in_addr number;

    torc_assert(names->count < TORC_NAMES_MAX);
    torc_assert(host_bytes < TORC_NAMES_HOST_BYTES);
    *name = (struct torc_name){0};
    memcpy(name->host, host, host_bytes);
    name->known = host[0] == '[' || inet_pton(AF_INET, name->host, &number) == 1;
    names->count++;
}

void torc_names_begin(struct torc_names *names, uint32_t first)
{
    for (uint32_t i = 0; i < names->count; i++) {
        names->names[i].due_ns =
            names->names[i].known ? UINT64_MAX : (i + names->count - first) % names->count;
    }
    names->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    torc_assert(names->fd >= 0);
}

void torc_names_end(struct torc_names *names)
{
    if (names->job != NULL && atomic_exchange(&names->job->state, NAMES_LEFT) == NAMES_DONE) {
        free(names->job);
    }
    (void)close(names->fd); // events only
}

static struct torc_name *names_next(struct torc_names *names)
{
    struct torc_name *next = names->names;

    for (uint32_t i = 1; i < names->count; i++) {
        next = names->names[i].due_ns < next->due_ns ? names->names + i : next;
    }
    return next;
}

void torc_names_step(struct torc_names *names, uint64_t now_ns)
{
    struct torc_name *next;
    uint64_t rung;

    (void)!read(names->fd, &rung, sizeof(rung)); // before the look, so that no ring is lost
    if (names->job != NULL && atomic_load(&names->job->state) == NAMES_DONE) {
        names_take(names, now_ns);
    }
    next = names_next(names);
    if (names->job == NULL && next->due_ns <= now_ns &&
        !names_ask(names, (uint32_t)(next - names->names))) {
        next->due_ns = now_ns + NAMES_AGAIN_NS;
    }
}

uint64_t torc_names_deadline_ns(const struct torc_names *names)
{
    uint64_t next_ns = UINT64_MAX;

    for (uint32_t i = 0; i < names->count && names->job == NULL; i++) {
        next_ns = torc_min_u64(next_ns, names->names[i].due_ns);
    }
    return next_ns;
}
