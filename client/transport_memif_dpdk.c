// Torc client: packets through shared memory: one slot of a node of this machine (kit/memif.h).
//
// What    the client's end of a memif port: Ethernet, IP and UDP headers are written and taken
//         apart here (wire/frame.h), the node's MAC address is asked for once. For benchmarks and
//         for trusted, long-lived programs: FIELDNOTES.md, section 4, says what a killed client may
//         do to the node.
// Owner   the queue's thread, which becomes a thread of DPDK's. A process starts DPDK once, at its
//         first such queue, and keeps it to its end: it cannot be taken out again. A child of that
//         process has none: DPDK's memory is shared with its parent, what is noted of it is not.
// Memory  DPDK's, of which packet buffers are touched; a queue has a device and a pool, 22 MiB.
// Link    the driver does not connect again by itself: while the link is down it is stopped and
//         started every RETRY_NS, or PATIENCE_NS while the node is there, and packets are lost, as
//         on a wire. Its connect() waits for a node that stands still, for as long as it does:
//         first a connection of our own, which does not wait, must have been taken up. With
//         zero-copy it cannot connect a second time: the driver closes a descriptor that is DPDK's.
// Trust   UDP checksums are left unfinished: no wire is passed, and each packet carries a stronger
//         check of its own (wire/frame.h).
#include "client/address.h"
#include "client/transport.h"
#include "kit/clock_os.h"
#include "kit/memif.h"
#include "kit/nap.h"
#include "wire/frame.h"

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_RTO_US  500u // under 1000: the edge polls; a preemption is often over 200
#define RING_ENTRIES 1024u
#define POOL_BUFFERS 4095u // both rings full when copies are saved, and two bursts
#define POOL_CACHE   256u
// Without hugepages DPDK's memory cannot grow: room for twenty queues of 22 MiB, of which what is
// used becomes resident. With hugepages it grows as it is needed.
#define EAL_MEMORY_MIB  "-m512"
#define EAL_MEMORY_HUGE "-m64"
#define COMPLAINT_BYTES 96
#define CONNECT_NS      (6 * TORC_NS_PER_S)
#define RETRY_NS        (20 * TORC_NS_PER_MS)
// For the node to take up a connection that was made, before another one is tried. Who goes earlier
// ends a node that is not told of it by itself (docs/decisions/0042): one of an earlier release.
#define PATIENCE_NS (500 * TORC_NS_PER_MS)
#define LOOK_US     500
#define ASK_NS      (10 * TORC_NS_PER_MS)
#define LOOKS       100u // at the link a second, in use
// Of waiting, before naps: any read is back by then. A write is not: it waits for a disk, whose
// answer is brought by threads that may need this very processor.
#define SPIN_NS          (30 * TORC_NS_PER_US)
#define NAP_LEAST_NS     (15 * TORC_NS_PER_US)
#define NAP_MOST_NS      TORC_NS_PER_MS
#define GOODBYE_US       12000 // a node naps 5 ms at most before it sees CLOSE
#define SOURCE_PORT      0x8000u
#define HEADERS_IPV4     28u
#define HEADERS_IPV6     48u
#define LOCAL_HOST_FIRST 100u // our address in the node's network is this plus the slot

struct memif {
    uint16_t device;
    uint16_t mtu;
    bool up;
    bool asking; // for the node's MAC address, after it was away
    struct rte_mempool *pool;
    struct torc_frame_local local;
    struct torc_frame_udp udp; // of packets to the node
    uint64_t look_cycles;      // when to look at the link again
    uint64_t retry_ns;         // when to try to connect again
    uint64_t patient_ns;       // until then the node may take up the last try
    uint32_t waiting;          // received by wait, for the next receive
    uint32_t held;             // given out by receive, until the next one
    struct torc_nap nap;
    struct rte_mbuf *buffers[TORC_TRANSPORT_BURST];
    int knock;              // a connection of our own that was not taken up yet, or -1
    socklen_t server_bytes; // of `server`, where the node listens
    struct sockaddr_un server;
};

// DPDK has one instance a process, and so has this. The lock is held while devices are made and
// removed: DPDK's lists of them have none.
static _Atomic pid_t memif_process; // that DPDK is started by; 0: none yet
static pthread_mutex_t memif_lock = PTHREAD_MUTEX_INITIALIZER;
static bool memif_started;
static unsigned memif_devices; // names given out
static char memif_complaint[COMPLAINT_BYTES];

// -- DPDK in somebody else's process -------------------------------------------------------------

// The last complaint is kept for our message; nothing is printed.
static ssize_t memif_hear(void *cookie, const char *text, size_t text_bytes)
{
    size_t kept = strcspn(text, "\n");

    (void)cookie;
    if ((uint32_t)rte_log_cur_msg_loglevel() <= RTE_LOG_ERR && kept <= text_bytes) {
        (void)snprintf(memif_complaint, sizeof(memif_complaint), "%.*s", (int)kept, text);
    }
    return (ssize_t)text_bytes;
}

static void memif_hush(void)
{
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = memif_hear});

    if (stream != NULL) {
        (void)setvbuf(stream, NULL, _IOLBF, 512);
        (void)rte_openlog_stream(stream);
    }
}

// Where DPDK's main thread (the caller's) may run: on one processor, or wherever it may now.
static void memif_lcores(char *words, size_t room, uint32_t lcore, const cpu_set_t *allowed)
{
    int length = snprintf(words, room, "--lcores=0@(");
    bool first = true;

    for (uint32_t cpu = 0; cpu < CPU_SETSIZE && (size_t)length + 16 < room; cpu++) {
        if (lcore == UINT32_MAX ? CPU_ISSET(cpu, allowed) : cpu == lcore) {
            length +=
                snprintf(words + length, room - (size_t)length, "%s%u", first ? "" : ",", cpu);
            first = false;
        }
    }
    (void)snprintf(words + length, room - (size_t)length, ")");
}

static enum torc_err memif_start(const struct torc_memif_address *address, struct torc_fail *why)
{
    static char lcores[8192]; // DPDK keeps pointers into its words
    static char program[] = "torc-client";
    static char words[][40] = {"--no-pci",       "--no-shconf",
                               "--no-telemetry", "--main-lcore=0",
                               EAL_MEMORY_MIB,   "--file-prefix=torc-client",
                               "--in-memory",    "--single-file-segments"};
    enum {
        WORD_MEMORY = 4
    };
    char *argv[TORC_COUNT_OF(words) + 2] = {program, lcores};
    int argc = 2;
    cpu_set_t allowed;

    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return torc_fail(why, TORC_ERR_IO, "sched_getaffinity fails");
    }
    memif_lcores(lcores, sizeof(lcores), address->lcore, &allowed);
    for (size_t i = 0; i < TORC_COUNT_OF(words); i++) {
        argv[argc++] = words[i];
    }
    if (!address->huge) { // the last two words are for hugepages
        (void)snprintf(words[TORC_COUNT_OF(words) - 2], sizeof(words[0]), "--no-huge");
        argc--;
    } else {
        (void)snprintf(words[WORD_MEMORY], sizeof(words[0]), EAL_MEMORY_HUGE);
    }
    memif_hush();
    if (rte_eal_init(argc, argv) < 0) {
        return torc_fail(why, TORC_ERR_IO, "DPDK does not start: %s", memif_complaint);
    }
    memif_started = true;
    return TORC_ERR_OK;
}

// -- Addresses -----------------------------------------------------------------------------------

static bool memif_ip(const char *text, uint8_t ip[16])
{
    uint8_t ipv4[4];

    if (inet_pton(AF_INET, text, ipv4) == 1) {
        torc_ip_map(ip, ipv4);
        return true;
    }
    return inet_pton(AF_INET6, text, ip) == 1;
}

static enum torc_err memif_addresses(struct memif *memif, const struct torc_memif_address *address,
                                     struct torc_transport_facts *facts, struct torc_fail *why)
{
    struct torc_endpoint *node = &facts->seeds[0];
    uint8_t ours[16];
    bool is_ipv4;

    if (!memif_ip(address->node, node->address)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "address=%.60s: an IP address",
                         address->node);
    }
    is_ipv4 = torc_ip_is_mapped(node->address);
    memcpy(ours, node->address, sizeof(ours));
    ours[15] = (uint8_t)(LOCAL_HOST_FIRST + address->slot);
    if (address->local[0] != '\0' &&
        (!memif_ip(address->local, ours) || torc_ip_is_mapped(ours) != is_ipv4)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "local=%.60s: an IP address of the node's kind", address->local);
    }
    node->port = address->base_port;
    facts->seed_count = 1;
    facts->payload_bytes = (address->mtu - (is_ipv4 ? HEADERS_IPV4 : HEADERS_IPV6)) & ~7u;
    facts->read_rto_us = READ_RTO_US;
    memif->mtu = address->mtu;
    memif->local.has_ipv4 = is_ipv4;
    memif->local.has_ipv6 = !is_ipv4;
    memcpy(memif->local.ipv4, ours + 12, sizeof(memif->local.ipv4));
    memcpy(memif->local.ipv6, ours, sizeof(memif->local.ipv6));
    memif->local.port_first = (uint16_t)(SOURCE_PORT + address->slot);
    memif->local.port_count = 1;
    memcpy(memif->udp.source_ip, ours, sizeof(ours));
    memcpy(memif->udp.destination_ip, node->address, sizeof(node->address));
    memif->udp.source_port = memif->local.port_first;
    memif->udp.l4_offload = true;
    return TORC_ERR_OK;
}

// -- The device ----------------------------------------------------------------------------------

// Where the driver will connect to: a name without '/' is an abstract one (kit/memif.h).
static void memif_server(struct memif *memif, const char *name)
{
    bool is_file = strchr(name, '/') != NULL;

    memif->server = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(memif->server.sun_path + (is_file ? 0 : 1), name, strlen(name));
    memif->server_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static enum torc_err memif_device(struct memif *memif, const struct torc_memif_address *address,
                                  struct torc_fail *why)
{
    struct rte_eth_conf conf = {0};
    struct rte_ether_addr mac = {0};
    char words[TORC_MEMIF_WORDS_BYTES];
    char socket[TORC_MEMIF_NAME_BYTES];
    char name[32];
    enum torc_err err = torc_memif_socket(socket, address->name, address->slot, why);

    (void)snprintf(name, sizeof(name), "net_memif%u", memif_devices++);
    if (err == TORC_ERR_OK) {
        err = torc_memif_words(words, name,
                               address->zero_copy ? TORC_MEMIF_CLIENT_ZERO_COPY : TORC_MEMIF_CLIENT,
                               socket, address->mtu, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    memif_server(memif, socket);
    memif_complaint[0] = '\0';
    memif->pool = rte_pktmbuf_pool_create(
        name, POOL_BUFFERS, POOL_CACHE, 0,
        (uint16_t)(torc_memif_buffer_bytes(address->mtu) + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
    if (memif->pool == NULL || rte_dev_probe(words) != 0 ||
        rte_eth_dev_get_port_by_name(name, &memif->device) != 0) {
        return torc_fail(why, TORC_ERR_IO, "memif %.60s: %s", socket,
                         memif_complaint[0] != '\0' ? memif_complaint
                                                    : "is librte-net-memif23 installed?");
    }
    if (rte_eth_dev_configure(memif->device, 1, 1, &conf) != 0 ||
        rte_eth_rx_queue_setup(memif->device, 0, RING_ENTRIES, (unsigned)SOCKET_ID_ANY, NULL,
                               memif->pool) != 0 ||
        rte_eth_tx_queue_setup(memif->device, 0, RING_ENTRIES, (unsigned)SOCKET_ID_ANY, NULL) !=
            0 ||
        rte_eth_macaddr_get(memif->device, &mac) != 0) {
        return torc_fail(why, TORC_ERR_IO, "memif %.60s: %s", socket, memif_complaint);
    }
    memcpy(memif->local.mac, mac.addr_bytes, sizeof(memif->local.mac));
    memcpy(memif->udp.source_mac, mac.addr_bytes, sizeof(memif->udp.source_mac));
    return TORC_ERR_OK;
}

static bool memif_link(const struct memif *memif)
{
    struct rte_eth_link link = {0};

    return rte_eth_link_get_nowait(memif->device, &link) == 0 &&
           link.link_status == RTE_ETH_LINK_UP;
}

static void memif_knock_end(struct memif *memif)
{
    if (memif->knock >= 0) {
        (void)close(memif->knock);
        memif->knock = -1;
    }
}

// Connects without waiting. It cannot be where nobody listens, or where others wait to be taken up.
static void memif_knock(struct memif *memif)
{
    memif->knock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (memif->knock >= 0 &&
        connect(memif->knock, (const struct sockaddr *)&memif->server, memif->server_bytes) != 0) {
        memif_knock_end(memif);
    }
}

// Whether the node takes up connections: it says hello on each.
static bool memif_hears(struct memif *memif)
{
    unsigned char hello[256];
    ssize_t got;

    if (memif->knock < 0) {
        memif_knock(memif);
    }
    if (memif->knock < 0) {
        return false;
    }
    got = recv(memif->knock, hello, sizeof(hello), MSG_DONTWAIT);
    if (got >= 0 || errno != EAGAIN) {
        memif_knock_end(memif);
    }
    return got > 0;
}

// One try: starts our end once the node hears, unless the last try may still be taken up, and sees
// whether the node's answers within RETRY_NS.
static bool memif_connect(struct memif *memif)
{
    uint64_t now_ns = torc_clock_now_ns();
    uint64_t end_ns = now_ns + RETRY_NS;

    while (now_ns < end_ns && !memif_link(memif)) {
        bool is_due = now_ns >= memif->patient_ns;

        if (is_due && memif_hears(memif)) {
            (void)rte_eth_dev_stop(memif->device); // may not be started
            memif->patient_ns =
                rte_eth_dev_start(memif->device) == 0 ? torc_clock_now_ns() + PATIENCE_NS : 0;
        } else if (is_due && memif->knock < 0) {
            break; // not now
        }
        (void)usleep(LOOK_US);
        now_ns = torc_clock_now_ns();
    }
    memif->up = memif_link(memif);
    memif->patient_ns = memif->up ? 0 : memif->patient_ns; // when it goes down: at once
    return memif->up;
}

// -- Frames --------------------------------------------------------------------------------------

// Sends one frame that `write` has made in a buffer, or drops it.
static void memif_send_frame(struct memif *memif, struct rte_mbuf *buffer, uint32_t bytes)
{
    buffer->data_len = (uint16_t)bytes;
    buffer->pkt_len = bytes;
    if (rte_eth_tx_burst(memif->device, 0, &buffer, 1) == 0) {
        rte_pktmbuf_free(buffer);
    }
}

static struct rte_mbuf *memif_buffer(struct memif *memif)
{
    struct rte_mbuf *buffer = NULL;

    return rte_pktmbuf_alloc_bulk(memif->pool, &buffer, 1) == 0 ? buffer : NULL;
}

static void memif_ask(struct memif *memif)
{
    struct rte_mbuf *buffer = memif_buffer(memif);
    unsigned char *frame;

    if (buffer == NULL) {
        return;
    }
    frame = rte_pktmbuf_mtod(buffer, unsigned char *);
    if (memif->local.has_ipv4) {
        struct torc_arp arp = {.operation = TORC_ARP_REQUEST};

        memcpy(arp.sender_mac, memif->local.mac, sizeof(arp.sender_mac));
        memcpy(arp.sender_ip, memif->local.ipv4, sizeof(arp.sender_ip));
        memcpy(arp.target_ip, memif->udp.destination_ip + 12, sizeof(arp.target_ip));
        memif_send_frame(memif, buffer, torc_arp_write(frame, &arp, 0));
    } else {
        struct torc_nd nd = {.kind = TORC_ND_SOLICIT, .has_mac = true};
        struct torc_nd_way way = {0};

        memcpy(nd.mac, memif->local.mac, sizeof(nd.mac));
        memcpy(nd.target, memif->udp.destination_ip, sizeof(nd.target));
        memcpy(way.source_mac, memif->local.mac, sizeof(way.source_mac));
        memcpy(way.source_ip, memif->local.ipv6, sizeof(way.source_ip));
        torc_nd_group(nd.target, way.destination_ip, way.destination_mac);
        memif_send_frame(memif, buffer, torc_nd_write(frame, &nd, &way));
    }
}

// What is no packet of UDP: the node's MAC address, and its question for ours.
static bool memif_neighbour(struct memif *memif, const struct torc_frame *frame)
{
    struct torc_arp arp;
    struct torc_nd nd;
    struct rte_mbuf *buffer;

    if (frame->kind == TORC_FRAME_ND) {
        bool good = torc_nd_decode(&nd, frame) == TORC_DROP_NONE && nd.kind == TORC_ND_ADVERTISE &&
                    nd.has_mac &&
                    memcmp(nd.target, memif->udp.destination_ip, sizeof(nd.target)) == 0;

        if (good) {
            memcpy(memif->udp.destination_mac, nd.mac, sizeof(nd.mac));
            memif->asking = false;
        }
        return good;
    }
    if (frame->kind != TORC_FRAME_ARP || torc_arp_decode(&arp, frame) != TORC_DROP_NONE ||
        memcmp(arp.sender_ip, memif->udp.destination_ip + 12, sizeof(arp.sender_ip)) != 0) {
        return false;
    }
    memcpy(memif->udp.destination_mac, arp.sender_mac, sizeof(arp.sender_mac));
    memif->asking = false;
    buffer = arp.operation == TORC_ARP_REQUEST ? memif_buffer(memif) : NULL;
    if (buffer != NULL) {
        struct torc_arp answer = {.operation = TORC_ARP_REPLY};

        memcpy(answer.sender_mac, memif->local.mac, sizeof(answer.sender_mac));
        memcpy(answer.sender_ip, memif->local.ipv4, sizeof(answer.sender_ip));
        memcpy(answer.target_mac, arp.sender_mac, sizeof(answer.target_mac));
        memcpy(answer.target_ip, arp.sender_ip, sizeof(answer.target_ip));
        memif_send_frame(memif, buffer,
                         torc_arp_write(rte_pktmbuf_mtod(buffer, unsigned char *), &answer, 0));
    }
    return true;
}

// Asks for the node's MAC address until it says it.
static bool memif_find(struct memif *memif)
{
    uint64_t end_ns = torc_clock_now_ns() + ASK_NS;
    bool found = false;

    memif_ask(memif);
    while (!found && torc_clock_now_ns() < end_ns) {
        struct rte_mbuf *buffer;
        struct torc_frame frame;

        if (rte_eth_rx_burst(memif->device, 0, &buffer, 1) == 1) {
            found = torc_frame_parse(&frame, &memif->local,
                                     rte_pktmbuf_mtod(buffer, const unsigned char *),
                                     rte_pktmbuf_data_len(buffer), 0) == TORC_DROP_NONE &&
                    memif_neighbour(memif, &frame);
            rte_pktmbuf_free(buffer);
        }
    }
    return found;
}

// -- Opening and closing -------------------------------------------------------------------------

static enum torc_err memif_reach(struct memif *memif, const struct torc_memif_address *address,
                                 struct torc_fail *why)
{
    uint64_t end_ns = torc_clock_now_ns() + CONNECT_NS;
    bool found = false;

    do {
        if (memif->up || memif_connect(memif)) {
            found = memif_find(memif);
            memif->up = memif_link(memif);
        } else {
            (void)usleep(LOOK_US);
        }
    } while (!found && torc_clock_now_ns() < end_ns);
    if (found) {
        return TORC_ERR_OK;
    }
    return torc_fail(why, TORC_ERR_NOT_CONNECTED,
                     memif->up ? "memif %.60s-%" PRIu32 ": nobody there answers for %.40s"
                               : "memif %.60s-%" PRIu32 ": no free slot answers (is %.40s up, with "
                                 "memif-slots?)",
                     address->name, address->slot, address->node);
}

static void memif_free(struct memif *memif)
{
    struct rte_eth_dev_info info;

    (void)pthread_mutex_lock(&memif_lock);
    memif_knock_end(memif);
    rte_pktmbuf_free_bulk(memif->buffers, memif->held + memif->waiting);
    if (memif->device != RTE_MAX_ETHPORTS) {
        bool known = rte_eth_dev_info_get(memif->device, &info) == 0;

        (void)rte_eth_dev_stop(memif->device);
        (void)rte_eth_dev_close(memif->device);
        if (known && info.device != NULL) {
            (void)rte_dev_remove(info.device);
        }
    }
    rte_mempool_free(memif->pool);
    (void)pthread_mutex_unlock(&memif_lock);
    free(memif);
}

// Whether DPDK is this process's, or can be. Without the lock, which a child may have inherited.
static bool memif_is_ours(void)
{
    pid_t process = 0;

    return atomic_compare_exchange_strong(&memif_process, &process, getpid()) ||
           process == getpid();
}

static enum torc_err memif_open(void **transport, const char *text,
                                struct torc_transport_facts *facts, struct torc_fail *why)
{
    struct torc_memif_address address;
    struct memif *memif;
    enum torc_err err = torc_address_memif(text, &address, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!memif_is_ours()) {
        return torc_fail(
            why, TORC_ERR_UNSUPPORTED,
            "memif: this process was forked from one that had started DPDK, which does "
            "not survive that: open it in a program of its own, or by UDP");
    }
    memif = calloc(1, sizeof(*memif));
    if (memif == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "no memory for a queue");
    }
    *facts = (struct torc_transport_facts){.one_node = true};
    memif->device = RTE_MAX_ETHPORTS;
    memif->knock = -1;
    (void)pthread_mutex_lock(&memif_lock);
    err = memif_addresses(memif, &address, facts, why);
    if (err == TORC_ERR_OK && !memif_started) {
        err = memif_start(&address, why);
    }
    if (err == TORC_ERR_OK) {
        if (rte_lcore_id() == LCORE_ID_ANY) {
            (void)rte_thread_register(); // without it buffers are not cached: slower, no more
        }
        err = memif_device(memif, &address, why);
    }
    (void)pthread_mutex_unlock(&memif_lock);
    if (err == TORC_ERR_OK) {
        err = memif_reach(memif, &address, why);
    }
    if (err != TORC_ERR_OK) {
        memif_free(memif);
        return err;
    }
    *transport = memif;
    return TORC_ERR_OK;
}

static void memif_close(void *transport, bool forked)
{
    struct memif *memif = transport;

    if (forked) {
        return; // all of it is the parent's
    }
    (void)usleep(GOODBYE_US);
    memif_free(memif);
}

// -- Packets -------------------------------------------------------------------------------------

// Whether packets can pass. Looks at the link now and then; connects again when it went down.
static bool memif_alive(struct memif *memif)
{
    uint64_t cycles = rte_rdtsc();

    if (memif->up && cycles < memif->look_cycles) {
        return true;
    }
    if (memif->up && memif_link(memif)) {
        memif->look_cycles = cycles + rte_get_tsc_hz() / LOOKS;
        if (memif->asking) {
            memif_ask(memif);
        }
        return true;
    }
    memif->up = false;
    if (torc_clock_now_ns() >= memif->retry_ns) {
        memif->asking = memif_connect(memif); // a node that was started again has another address
        memif->retry_ns = torc_clock_now_ns() + RETRY_NS;
    }
    return memif->up;
}

static void memif_send(void *transport, const struct torc_datagram *datagrams, uint32_t count)
{
    struct memif *memif = transport;
    struct rte_mbuf *buffers[TORC_TRANSPORT_BURST];
    uint32_t head_bytes = torc_frame_udp_head_bytes(&memif->udp);
    uint32_t sent;

    torc_assert(count <= TORC_TRANSPORT_BURST);
    if (!memif->up || rte_pktmbuf_alloc_bulk(memif->pool, buffers, count) != 0) {
        return; // lost, as on a wire
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct torc_datagram *datagram = &datagrams[i];
        unsigned char *frame = rte_pktmbuf_mtod(buffers[i], unsigned char *);
        uint32_t bytes;

        torc_assert(datagram->bytes + head_bytes <= rte_pktmbuf_tailroom(buffers[i]));
        memcpy(frame + head_bytes, datagram->payload, datagram->bytes);
        memif->udp.destination_port = datagram->to.port;
        bytes = torc_frame_udp_write(frame, &memif->udp, datagram->bytes);
        buffers[i]->data_len = (uint16_t)bytes;
        buffers[i]->pkt_len = bytes;
    }
    sent = rte_eth_tx_burst(memif->device, 0, buffers, (uint16_t)count);
    rte_pktmbuf_free_bulk(buffers + sent, count - sent);
}

// A UDP packet of the node's in `buffer`; false when it is something else, which is dealt with.
static bool memif_take(struct memif *memif, struct rte_mbuf *buffer, struct torc_datagram *datagram)
{
    unsigned char *bytes = rte_pktmbuf_mtod(buffer, unsigned char *);
    struct torc_frame frame;

    if (buffer->nb_segs != 1 ||
        torc_frame_parse(&frame, &memif->local, bytes, buffer->data_len, 0) != TORC_DROP_NONE) {
        return false;
    }
    if (frame.kind != TORC_FRAME_UDP) {
        (void)memif_neighbour(memif, &frame);
        return false;
    }
    datagram->payload = bytes + (frame.payload - bytes);
    datagram->bytes = frame.payload_bytes;
    memcpy(datagram->to.address, frame.source_ip, sizeof(datagram->to.address));
    datagram->to.port = frame.source_port;
    return true;
}

static uint32_t memif_receive(void *transport, struct torc_datagram *datagrams)
{
    struct memif *memif = transport;
    uint32_t kept = 0;

    rte_pktmbuf_free_bulk(memif->buffers, memif->held);
    memmove(memif->buffers, memif->buffers + memif->held,
            memif->waiting * sizeof(struct rte_mbuf *));
    memif->held = memif->waiting;
    memif->waiting = 0;
    if (memif_alive(memif)) {
        memif->held += rte_eth_rx_burst(memif->device, 0, memif->buffers + memif->held,
                                        (uint16_t)(TORC_TRANSPORT_BURST - memif->held));
    }
    for (uint32_t i = 0; i < memif->held; i++) {
        kept += memif_take(memif, memif->buffers[i], &datagrams[kept]) ? 1 : 0;
    }
    return kept;
}

// Not longer than asked: a thread's sleeps may else last 50 us more.
static void memif_nap(uint64_t nap_ns)
{
    struct timespec time = {.tv_nsec = (long)nap_ns};
    int slack_ns = prctl(PR_GET_TIMERSLACK);

    (void)prctl(PR_SET_TIMERSLACK, 1000UL);
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL); // a signal only ends it sooner
    if (slack_ns > 0) {
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack_ns);
    }
}

static void memif_wait(void *transport, uint64_t until_ns)
{
    struct memif *memif = transport;
    uint64_t start_ns = torc_clock_now_ns();
    uint64_t now_ns = start_ns;

    while (memif->waiting == 0 && memif->held < TORC_TRANSPORT_BURST && now_ns < until_ns) {
        if (memif_alive(memif)) {
            memif->waiting = rte_eth_rx_burst(memif->device, 0, memif->buffers + memif->held,
                                              (uint16_t)(TORC_TRANSPORT_BURST - memif->held));
        }
        if (memif->waiting == 0 && now_ns - start_ns > SPIN_NS) {
            memif_nap(torc_nap_next(&memif->nap, now_ns, NAP_LEAST_NS, NAP_MOST_NS));
        }
        now_ns = torc_clock_now_ns();
    }
    torc_nap_end(&memif->nap, now_ns);
}

static int memif_descriptor(void *transport)
{
    (void)transport;
    return -1;
}

extern const struct torc_transport_code torc_transport_memif;
const struct torc_transport_code torc_transport_memif = {.version = TORC_TRANSPORT_VERSION,
                                                         .open = memif_open,
                                                         .send = memif_send,
                                                         .receive = memif_receive,
                                                         .wait = memif_wait,
                                                         .descriptor = memif_descriptor,
                                                         .close = memif_close};
