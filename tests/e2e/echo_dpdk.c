// Torc tests: the port layer and the loop without a database.
//
// What    a worker (dataplane/worker.h) that only answers ARP and sends every UDP packet back,
//         under the real loop and the real ports.
//           torc-echo PORT LINK ADDRESS WORKERS auto|busy MEMIF
//         serves until SIGTERM; MEMIF is the name of a slot's socket, or -.
// Owner   tests/e2e/ports_test.py starts it.
#include "dataplane/channel_os.h"
#include "dataplane/eal_dpdk.h"
#include "dataplane/loop_dpdk.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <rte_launch.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    ECHO_WORKERS_MAX = 8,
    ECHO_ETHERNET_BYTES = 14,
    ECHO_IP_BYTES = 20,
};

// The double of a worker.
struct torc_worker {
    uint8_t ipv4[4];
    const struct torc_ports *ports;
};

struct echo {
    struct torc_ports ports;
    struct torc_relays relays;
    struct torc_worker worker;
    void *chan;
    int doorbells[ECHO_WORKERS_MAX];
    uint32_t worker_count;
    bool busy;
    _Atomic bool stop;
};

struct echo_thread {
    struct echo *echo;
    uint32_t index;
};

static struct echo echo;

static void echo_swap(unsigned char *a, unsigned char *b, size_t bytes)
{
    unsigned char kept[16];

    torc_assert(bytes <= sizeof(kept));
    memcpy(kept, a, bytes);
    memcpy(a, b, bytes);
    memcpy(b, kept, bytes);
}

// Makes the answer in place; false when there is none.
static bool echo_answer(const struct torc_worker *worker, unsigned char *frame, uint32_t bytes,
                        const uint8_t mac[6])
{
    unsigned char *body = frame + ECHO_ETHERNET_BYTES;

    if (bytes >= 42 && frame[12] == 0x08 && frame[13] == 0x06 && body[7] == 1 &&
        memcmp(body + 24, worker->ipv4, 4) == 0) {
        memcpy(frame, frame + 6, 6);
        memcpy(frame + 6, mac, 6);
        body[7] = 2;
        memcpy(body + 18, body + 8, 10); // target: who asked
        memcpy(body + 8, mac, 6);
        memcpy(body + 14, worker->ipv4, 4);
        return true;
    }
    if (bytes >= 42 && frame[12] == 0x08 && frame[13] == 0x00 && body[9] == 17) {
        memcpy(frame, frame + 6, 6);
        memcpy(frame + 6, mac, 6);
        echo_swap(body + 12, body + 16, 4);
        echo_swap(body + ECHO_IP_BYTES, body + ECHO_IP_BYTES + 2, 2);
        return true; // the sums stay right: only what they add up has changed places
    }
    return false;
}

void torc_worker_turn(struct torc_worker *worker, struct torc_turn *turn)
{
    for (uint32_t i = 0; i < turn->rx_count; i++) {
        const struct torc_frame_rx *in = &turn->rx[i];
        struct torc_frame_tx *out = &turn->tx[turn->tx_count];

        if (turn->tx_count == turn->tx_room || in->byte_count > out->room) {
            continue;
        }
        memcpy(out->bytes, in->bytes, in->byte_count);
        if (echo_answer(worker, out->bytes, in->byte_count, worker->ports->ports[in->port].mac)) {
            out->byte_count = in->byte_count;
            out->port = in->port;
            out->flags = 0;
            turn->tx_count++;
        }
    }
    turn->busy = turn->rx_count > 0;
    turn->deadline_ns = UINT64_MAX;
}

bool torc_worker_idle(struct torc_worker *worker)
{
    (void)worker;
    return true;
}

static int echo_thread_main(void *argument)
{
    const struct echo_thread *self = argument;
    struct torc_loop *loop = calloc(1, sizeof(*loop));
    struct torc_fail why = {0};
    struct torc_loop_want want = {.index = self->index,
                                  .worker_count = self->echo->worker_count,
                                  .ports = &self->echo->ports,
                                  .relays = &self->echo->relays,
                                  .chan = self->echo->chan,
                                  .doorbells = self->echo->doorbells,
                                  .control_doorbell = self->echo->doorbells[0],
                                  .sessions_doorbell = self->echo->doorbells[0],
                                  .busy = self->echo->busy,
                                  .stop = &self->echo->stop};

    torc_assert(loop != NULL);
    if (torc_loop_open(loop, &want, &why) != TORC_ERR_OK) {
        torc_log(TORC_LOG_ERROR, "echo", "no-loop", "text=\"%s\"", why.text);
        return 1;
    }
    torc_loop_run(loop, &self->echo->worker);
    torc_loop_close(loop);
    free(loop);
    return 0;
}

static enum torc_err echo_open(char **words, struct torc_fail *why)
{
    struct torc_eal_want *eal = calloc(1, sizeof(*eal));
    struct torc_ports_want want = {.port = words[0],
                                   .link = words[1],
                                   .memif_name = words[5],
                                   .memif_slots = strcmp(words[5], "-") == 0 ? 0 : 1,
                                   .worker_count = echo.worker_count,
                                   .base_port = 28700,
                                   .mtu = 1500};
    char prefix[32];
    enum torc_err err;

    torc_assert(eal != NULL);
    (void)snprintf(prefix, sizeof(prefix), "torc-echo-%d", getpid());
    eal->file_prefix = prefix;
    eal->memory_bytes = UINT64_C(128) << 20;
    eal->worker_count = echo.worker_count;
    err = torc_eal_open(eal, why);
    free(eal);
    if (err == TORC_ERR_OK) {
        err = torc_ports_open(&echo.ports, &want, why);
    }
    return err != TORC_ERR_OK ? err
                              : torc_relays_open(&echo.relays, &echo.ports, echo.worker_count, why);
}

static void echo_run(void)
{
    static struct echo_thread threads[ECHO_WORKERS_MAX];
    sigset_t signals;
    int got;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    for (uint32_t i = 0; i < echo.worker_count; i++) {
        threads[i] = (struct echo_thread){.echo = &echo, .index = i};
        torc_assert(rte_eal_remote_launch(echo_thread_main, &threads[i], i + 1) == 0);
    }
    torc_log(TORC_LOG_INFO, "echo", "started", "workers=%" PRIu32, echo.worker_count);
    (void)sigwait(&signals, &got);
    atomic_store(&echo.stop, true);
    for (uint32_t i = 0; i < echo.worker_count; i++) {
        const struct torc_stats *stats = &torc_chan_worker_page(echo.chan, i)->stats;

        torc_channel_ring(echo.doorbells[i]);
        torc_log(TORC_LOG_INFO, "echo", "counted",
                 "worker=%" PRIu32 " sleeps=%" PRIu64 " relayed=%" PRIu64 " full=%" PRIu64, i,
                 torc_stats_get(&stats->counters[TORC_COUNTER_SLEEPS]),
                 torc_stats_get(&stats->counters[TORC_COUNTER_RELAYED]),
                 torc_stats_get(&stats->counters[TORC_COUNTER_TX_FULL]));
    }
    rte_eal_mp_wait_lcore();
}

int main(int argc, char **argv)
{
    struct torc_fail why = {0};
    uint64_t bytes;
    sigset_t signals;

    if (argc != 7) {
        (void)fprintf(stderr, "usage: torc-echo PORT LINK ADDRESS WORKERS auto|busy MEMIF\n");
        return 2;
    }
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    echo.worker_count = (uint32_t)strtoul(argv[4], NULL, 10);
    echo.busy = strcmp(argv[5], "busy") == 0;
    torc_assert(echo.worker_count > 0 && echo.worker_count <= ECHO_WORKERS_MAX);
    torc_assert(inet_pton(AF_INET, argv[3], echo.worker.ipv4) == 1);
    echo.worker.ports = &echo.ports;
    bytes = torc_chan_bytes(echo.worker_count);
    echo.chan = aligned_alloc(TORC_SPSC_ALIGN_BYTES, bytes);
    torc_assert(echo.chan != NULL);
    memset(echo.chan, 0, bytes);
    for (uint32_t i = 0; i < echo.worker_count; i++) {
        echo.doorbells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    if (torc_chan_format(echo.chan, bytes, echo.worker_count, &why) != TORC_ERR_OK ||
        echo_open(argv + 1, &why) != TORC_ERR_OK) {
        (void)fprintf(stderr, "torc-echo: %s\n", why.text);
        return 1;
    }
    echo_run();
    torc_relays_close(&echo.relays);
    torc_ports_close(&echo.ports);
    torc_eal_close();
    free(echo.chan);
    return 0;
}
