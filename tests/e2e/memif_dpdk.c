// Torc tests: a client of a memif slot that only counts: what a round trip costs alone.
//
// What    sends UDP packets to torc-echo through shared memory and waits for each; prints one line
//         of JSON: round trips one at a time, and packets a second with a window of them in flight.
//           torc-memif SOCKET-NAME ADDRESS ROUNDS WINDOW
// Owner   tests/e2e/ports_test.py starts it; a person may, to see the floor under torc-perf.
#include "dataplane/eal_dpdk.h"
#include "kit/clock_os.h"
#include "kit/histogram.h"
#include "kit/memif.h"

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MEMIF_FRAME_BYTES = 74, // 32 bytes of payload
    MEMIF_BURST = 32,
};

struct memif {
    uint16_t device;
    struct rte_mempool *pool;
    unsigned char frame[MEMIF_FRAME_BYTES];
    struct torc_histogram times;
};

static struct memif memif;

static enum torc_err memif_open(const char *socket, struct torc_fail *why)
{
    struct rte_eth_conf conf = {0};
    char words[TORC_MEMIF_WORDS_BYTES];
    enum torc_err err = torc_memif_words(words, "net_memif0", TORC_MEMIF_CLIENT, socket, 1500, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    memif.pool =
        rte_pktmbuf_pool_create("memif", 4095, 250, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
    if (memif.pool == NULL || rte_dev_probe(words) != 0 ||
        rte_eth_dev_get_port_by_name("net_memif0", &memif.device) != 0 ||
        rte_eth_dev_configure(memif.device, 1, 1, &conf) != 0 ||
        rte_eth_rx_queue_setup(memif.device, 0, 1024, (unsigned)SOCKET_ID_ANY, NULL, memif.pool) !=
            0 ||
        rte_eth_tx_queue_setup(memif.device, 0, 1024, (unsigned)SOCKET_ID_ANY, NULL) != 0) {
        return torc_fail(why, TORC_ERR_IO, "memif: %.100s", torc_eal_complaint());
    }
    return TORC_ERR_OK;
}

// The driver does not connect again by itself: start, look, stop, until the server is there.
static bool memif_connect(uint64_t patience_ns)
{
    uint64_t end_ns = torc_clock_now_ns() + patience_ns;

    while (torc_clock_now_ns() < end_ns) {
        struct rte_eth_link link = {0};

        if (rte_eth_dev_start(memif.device) == 0) {
            (void)usleep(20000);
            (void)rte_eth_link_get_nowait(memif.device, &link);
            if (link.link_status == RTE_ETH_LINK_UP) {
                return true;
            }
            (void)rte_eth_dev_stop(memif.device);
        }
        (void)usleep(20000);
    }
    return false;
}

static void memif_frame(const char *address)
{
    static const unsigned char head[MEMIF_FRAME_BYTES] = {
        2,    0,    0,    0,    0, 1,  2, 0, 0,  0,  0, 2, 0x08, 0x00, // Ethernet
        0x45, 0,    0,    60,   0, 0,  0, 0, 64, 17, 0, 0, 10,   79,   0, 100, 0, 0, 0, 0, // IP
        0x80, 0x00, 0x70, 0x1c, 0, 40,                                                     // UDP
    };

    memcpy(memif.frame, head, sizeof(head));
    torc_assert(inet_pton(AF_INET, address, memif.frame + 30) == 1);
}

static uint32_t memif_send(uint32_t count)
{
    struct rte_mbuf *buffers[MEMIF_BURST];
    uint32_t sent;

    torc_assert(count <= MEMIF_BURST);
    if (rte_pktmbuf_alloc_bulk(memif.pool, buffers, count) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        memcpy(rte_pktmbuf_mtod(buffers[i], void *), memif.frame, MEMIF_FRAME_BYTES);
        buffers[i]->data_len = MEMIF_FRAME_BYTES;
        buffers[i]->pkt_len = MEMIF_FRAME_BYTES;
    }
    sent = rte_eth_tx_burst(memif.device, 0, buffers, (uint16_t)count);
    rte_pktmbuf_free_bulk(buffers + sent, count - sent);
    return sent;
}

static uint32_t memif_receive(void)
{
    struct rte_mbuf *buffers[MEMIF_BURST];
    uint32_t got = rte_eth_rx_burst(memif.device, 0, buffers, MEMIF_BURST);

    rte_pktmbuf_free_bulk(buffers, got);
    return got;
}

// One at a time; false when an answer did not come within a second.
static bool memif_one_by_one(uint32_t rounds)
{
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t start_ns = torc_clock_now_ns();
        uint32_t got = 0;

        if (memif_send(1) != 1) {
            return false;
        }
        while (got == 0 && torc_clock_now_ns() - start_ns < TORC_NS_PER_S) {
            got = memif_receive();
        }
        if (got == 0) {
            return false;
        }
        torc_histogram_record(&memif.times, torc_clock_now_ns() - start_ns);
    }
    return true;
}

// Packets a second with `window` in flight, for one second.
static uint64_t memif_windowed(uint32_t window)
{
    uint64_t start_ns = torc_clock_now_ns();
    uint64_t sent = 0;
    uint64_t got = 0;

    while (torc_clock_now_ns() - start_ns < TORC_NS_PER_S) {
        uint32_t room = (uint32_t)(window - (sent - got));

        sent += room > 0 ? memif_send((uint32_t)torc_min_u64(room, MEMIF_BURST)) : 0;
        got += memif_receive();
    }
    return got;
}

int main(int argc, char **argv)
{
    static struct torc_eal_want want; // large for a stack
    static char prefix[32];
    struct torc_fail why = {0};
    enum torc_err err;

    if (argc != 5) {
        (void)fprintf(stderr, "usage: torc-memif SOCKET-NAME ADDRESS ROUNDS WINDOW\n");
        return 2;
    }
    (void)snprintf(prefix, sizeof(prefix), "torc-memif-%d", getpid());
    want.file_prefix = prefix;
    want.memory_bytes = UINT64_C(64) << 20;
    err = torc_eal_open(&want, &why);
    if (err == TORC_ERR_OK) {
        err = memif_open(argv[1], &why);
    }
    if (err != TORC_ERR_OK || !memif_connect(5 * TORC_NS_PER_S)) {
        (void)fprintf(stderr, "torc-memif: %s\n", err != TORC_ERR_OK ? why.text : "no peer");
        return 1;
    }
    memif_frame(argv[2]);
    if (!memif_one_by_one((uint32_t)strtoul(argv[3], NULL, 10))) {
        (void)fprintf(stderr, "torc-memif: no answer\n");
        return 1;
    }
    (void)printf("{\"p50_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64, //
                 torc_histogram_quantile(&memif.times, 500000),
                 torc_histogram_quantile(&memif.times, 990000), memif.times.max);
    (void)printf(",\"window\":%s,\"packets_per_second\":%" PRIu64 "}\n", argv[4],
                 memif_windowed((uint32_t)strtoul(argv[4], NULL, 10)));
    (void)rte_eth_dev_stop(memif.device);
    (void)rte_eth_dev_close(memif.device);
    torc_eal_close();
    return 0;
}
