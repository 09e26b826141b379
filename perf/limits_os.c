// Torc perf: the limits of the machine. See perf/limits_os.h.
#include "perf/limits_os.h"

#include "kit/rng.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// More than any cache that a core has for itself; the same in every run, so that runs compare.
#define MEMORY_BYTES (UINT64_C(512) << 20)
#define LINE_BYTES   64u
#define LINES        (MEMORY_BYTES / LINE_BYTES)
#define CHAINS_MAX   16u
#define SAMPLES_MAX  200000u
#define SYNC_PLACES  256u // where the file is written, round and round
// As recovery reads: large pieces, one after the other.
#define DIRECT_BYTES  (1 << 20)
#define DIRECT_PLACES 256u

static double clock_s(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double limits_cpu_s(void)
{
    return clock_s(CLOCK_THREAD_CPUTIME_ID);
}

double limits_wall_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

// -- Memory --------------------------------------------------------------------------------------

static unsigned char *memory_open(void)
{
    uint64_t align = UINT64_C(2) << 20;
    unsigned char *memory = aligned_alloc(align, MEMORY_BYTES);

    if (memory != NULL) {
        (void)madvise(memory, MEMORY_BYTES, MADV_HUGEPAGE);
        memset(memory, 1, MEMORY_BYTES);
    }
    return memory;
}

// Makes one cycle of all lines (Sattolo), each holding the number of the next.
static void memory_chain(unsigned char *memory)
{
    struct torc_rng rng = {1};

    for (uint64_t i = 0; i < LINES; i++) {
        memcpy(memory + i * LINE_BYTES, &i, sizeof(i));
    }
    for (uint64_t i = LINES - 1; i > 0; i--) {
        uint64_t other = torc_rng_below(&rng, i);
        uint64_t here;
        uint64_t there;

        memcpy(&here, memory + i * LINE_BYTES, sizeof(here));
        memcpy(&there, memory + other * LINE_BYTES, sizeof(there));
        memcpy(memory + i * LINE_BYTES, &there, sizeof(there));
        memcpy(memory + other * LINE_BYTES, &here, sizeof(here));
    }
}

// `chains` is a constant at each call, so that the places stay in registers.
static inline __attribute__((always_inline)) double chase(const unsigned char *memory,
                                                          uint32_t chains, double seconds)
{
    uint64_t at[CHAINS_MAX];
    uint64_t steps = 0;
    double start = limits_cpu_s();
    double now = start;

    for (uint32_t chain = 0; chain < chains; chain++) {
        at[chain] = LINES / chains * chain;
    }
    while (now - start < seconds) {
        for (uint32_t round = 0; round < 4096; round++) {
            for (uint32_t chain = 0; chain < chains; chain++) {
                memcpy(&at[chain], memory + at[chain] * LINE_BYTES, sizeof(at[chain]));
            }
        }
        steps += UINT64_C(4096) * chains;
        now = limits_cpu_s();
    }
    for (uint32_t chain = 0; chain < chains; chain++) {
        __asm__("" ::"r"(at[chain]));
    }
    return (double)steps / (now - start);
}

double limits_random_lines(uint32_t chains, double seconds)
{
    unsigned char *memory = memory_open();
    double rate = 0;

    if (memory != NULL) {
        memory_chain(memory);
        rate = chains == 1 ? chase(memory, 1, seconds) : chase(memory, CHAINS_MAX, seconds);
        free(memory);
    }
    return rate;
}

static uint64_t read_all(const unsigned char *memory)
{
    uint64_t sums[8] = {0};

    for (uint64_t at = 0; at < MEMORY_BYTES; at += sizeof(sums)) {
        uint64_t words[8];

        memcpy(words, memory + at, sizeof(words));
        for (uint32_t i = 0; i < 8; i++) {
            sums[i] += words[i];
        }
    }
    return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

double limits_sequential_read(double seconds)
{
    unsigned char *memory = memory_open();
    double bytes = 0;
    double start;
    double now;

    if (memory == NULL) {
        return 0;
    }
    start = limits_cpu_s();
    do {
        __asm__("" ::"r"(read_all(memory)) : "memory");
        bytes += (double)MEMORY_BYTES;
        now = limits_cpu_s();
    } while (now - start < seconds);
    free(memory);
    return bytes / (now - start);
}

double limits_memcpy(double seconds)
{
    unsigned char *memory = memory_open();
    double bytes = 0;
    double start;
    double now;

    if (memory == NULL) {
        return 0;
    }
    start = limits_cpu_s();
    do {
        memcpy(memory, memory + MEMORY_BYTES / 2, MEMORY_BYTES / 2);
        __asm__("" ::"r"(memory) : "memory");
        bytes += (double)MEMORY_BYTES / 2;
        now = limits_cpu_s();
    } while (now - start < seconds);
    free(memory);
    return bytes / (now - start);
}

// -- Disk ----------------------------------------------------------------------------------------

static int compare_doubles(const void *a, const void *b)
{
    double x;
    double y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static double median(double *samples, uint32_t count)
{
    if (count == 0) {
        return -1;
    }
    qsort(samples, count, sizeof(samples[0]), compare_doubles);
    return samples[count / 2];
}

// One write with fdatasync after the other into a file of zeros written before, as a log does.
static double sync_samples(int file, const unsigned char *block, uint32_t bytes, double seconds)
{
    double *samples = malloc(SAMPLES_MAX * sizeof(samples[0]));
    uint32_t count = 0;
    double result;
    double start;
    double now;

    for (uint32_t i = 0; i < SYNC_PLACES; i++) {
        if (pwrite(file, block, bytes, (off_t)i * bytes) != (ssize_t)bytes) {
            free(samples);
            return -1;
        }
    }
    (void)fsync(file);
    start = limits_wall_s();
    now = start;
    while (now - start < seconds && count < SAMPLES_MAX) {
        double before = now;

        if (pwrite(file, block, bytes, (off_t)(count % SYNC_PLACES) * bytes) != (ssize_t)bytes ||
            fdatasync(file) != 0) {
            free(samples);
            return -1;
        }
        now = limits_wall_s();
        samples[count++] = (now - before) * 1e6;
    }
    result = median(samples, count);
    free(samples);
    return result;
}

double limits_fdatasync_us(const char *folder, uint32_t bytes, double seconds)
{
    char path[4096];
    unsigned char *block = calloc(1, bytes);
    double result = -1;
    int file;

    (void)snprintf(path, sizeof(path), "%s/torc-machine-XXXXXX", folder);
    file = mkstemp(path);
    if (file >= 0) {
        (void)unlink(path);
        result = block == NULL ? -1 : sync_samples(file, block, bytes, seconds);
        (void)close(file);
    }
    free(block);
    return result;
}

// Writes the file once, directly, then reads it in the same pieces until the time is over.
static double direct_read(int file, unsigned char *block, double seconds)
{
    uint64_t bytes = 0;
    uint32_t place = 0;
    double start;

    for (uint32_t i = 0; i < DIRECT_PLACES; i++) {
        if (pwrite(file, block, DIRECT_BYTES, (off_t)i * DIRECT_BYTES) != DIRECT_BYTES) {
            return -1;
        }
    }
    (void)fsync(file);
    start = limits_wall_s();
    while (limits_wall_s() - start < seconds) {
        if (pread(file, block, DIRECT_BYTES, (off_t)place * DIRECT_BYTES) != DIRECT_BYTES) {
            return -1;
        }
        bytes += DIRECT_BYTES;
        place = (place + 1) % DIRECT_PLACES;
    }
    return (double)bytes / (limits_wall_s() - start);
}

double limits_direct_read(const char *folder, double seconds)
{
    char path[4096];
    unsigned char *block = aligned_alloc(4096, DIRECT_BYTES);
    double result = -1;
    int file;

    (void)snprintf(path, sizeof(path), "%s/torc-machine-XXXXXX", folder);
    file = mkostemp(path, O_DIRECT);
    if (file >= 0) {
        (void)unlink(path);
        if (block != NULL) {
            memset(block, 1, DIRECT_BYTES);
            result = direct_read(file, block, seconds);
        }
        (void)close(file);
    }
    free(block);
    return result;
}

// -- Kernel --------------------------------------------------------------------------------------

struct echo {
    int socket;
    bool busy;
    atomic_bool stop;
};

static void *echo_run(void *argument)
{
    struct echo *echo = argument;
    unsigned char packet[64];

    while (!atomic_load_explicit(&echo->stop, memory_order_relaxed)) {
        struct sockaddr_in from;
        socklen_t from_bytes = sizeof(from);
        ssize_t bytes =
            recvfrom(echo->socket, packet, sizeof(packet), echo->busy ? MSG_DONTWAIT : 0,
                     (struct sockaddr *)&from, &from_bytes);

        if (bytes > 0) {
            (void)sendto(echo->socket, packet, (size_t)bytes, 0, (struct sockaddr *)&from,
                         from_bytes);
        }
    }
    return NULL;
}

// A socket on loopback that gives up waiting after 100 ms.
static int udp_socket(struct sockaddr_in *address)
{
    struct timeval limit = {.tv_usec = 100000};
    socklen_t bytes = sizeof(*address);
    int made = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (made >= 0 && (setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
                      bind(made, (struct sockaddr *)address, bytes) != 0 ||
                      getsockname(made, (struct sockaddr *)address, &bytes) != 0)) {
        (void)close(made);
        return -1;
    }
    return made;
}

static double ping_samples(int client, const struct sockaddr_in *to, bool busy, double seconds)
{
    double *samples = malloc(SAMPLES_MAX * sizeof(samples[0]));
    double start = limits_wall_s();
    double now = start;
    uint32_t count = 0;
    double result;

    while (now - start < seconds && count < SAMPLES_MAX) {
        unsigned char packet[64] = {0};
        double before = limits_wall_s();
        ssize_t bytes;

        (void)sendto(client, packet, sizeof(packet), 0, (const struct sockaddr *)to, sizeof(*to));
        do {
            bytes = recv(client, packet, sizeof(packet), busy ? MSG_DONTWAIT : 0);
            now = limits_wall_s();
        } while (bytes < 0 && busy && now - before < 0.1);
        if (bytes > 0) {
            samples[count++] = (now - before) * 1e6;
        }
    }
    result = median(samples, count);
    free(samples);
    return result;
}

double limits_udp_us(bool busy, double seconds)
{
    struct sockaddr_in server_address;
    struct sockaddr_in client_address;
    struct echo echo = {.busy = busy};
    pthread_t thread;
    double result = -1;
    int client = udp_socket(&client_address);

    echo.socket = udp_socket(&server_address);
    if (echo.socket >= 0 && client >= 0 && pthread_create(&thread, NULL, echo_run, &echo) == 0) {
        result = ping_samples(client, &server_address, busy, seconds);
        atomic_store_explicit(&echo.stop, true, memory_order_relaxed);
        (void)pthread_join(thread, NULL);
    }
    if (client >= 0) {
        (void)close(client);
    }
    if (echo.socket >= 0) {
        (void)close(echo.socket);
    }
    return result;
}
