// Torc dataplane: opening network ports through DPDK. See dataplane/port_dpdk.h.
#include "dataplane/port_dpdk.h"

#include "dataplane/eal_dpdk.h"
#include "dataplane/link_os.h"
#include "dataplane/socket_os.h"
#include "kit/log_os.h"

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(TORC_PORTS_MAX <= RTE_MAX_ETHPORTS, "DPDK has room for all slots");

// A ring of descriptors; the software drivers' own default, and enough for a burst of 32 at each of
// the 30 turns that one interrupt of 1 ms may take away. A bet.
#define PORT_RING_ENTRIES 1024
// Buffers of a worker's pool: its rings both ways, what af_xdp's driver keeps (4096), bursts in
// hand. One less than a power of two is what the mempool stores best.
#define PORT_POOL_BUFFERS       8191
#define PORT_POOL_BUFFERS_JUMBO 6143
#define PORT_POOL_CACHE         256
// Headroom, mbuf and mempool headers.
#define PORT_BUFFER_EXTRA_BYTES 512u
#define PORT_HEAP_REST_BYTES    (UINT64_C(48) << 20)
#define PORT_HEAP_LEAST_BYTES   (UINT64_C(128) << 20)
#define PORT_WORDS_BYTES        TORC_MEMIF_WORDS_BYTES
#define PORT_STANDARD_MTU       1500
// The kernel leaves 256 bytes free before a frame in af_xdp's buffers, and a buffer with mbuf
// header and headroom must fit a page. Measured on a veth: with room for 3584 bytes 3328 of a frame
// pass.
#define PORT_XDP_SPARE_BYTES 256u
#define PORT_XDP_MTU_MAX     3300
#define PORT_DEVICES_MAX     TORC_PORT_QUEUES_MAX

struct port_driver {
    const char *text;
    const char *device;
    const char *object;
    const char *package;
};

static const struct port_driver port_drivers[] = {
#define X(name, text, device, object, package) [TORC_PORT_##name] = {text, device, object, package},
    TORC_PORT_DRIVER_TABLE(X)
#undef X
};

// One opening: what is wanted, what was asked for so far.
struct port_try {
    const struct torc_ports_want *want;
    enum torc_port_driver driver;
    uint32_t slot; // of memif
    struct rte_mempool *const *pools;
    struct torc_link link;
    struct torc_steer_plan plan;
    struct rte_eth_dev_info info; // of the first device
    uint32_t device_count;
    uint16_t devices[PORT_DEVICES_MAX];
};

bool torc_port_is_pci(const char *port)
{
    unsigned domain;
    unsigned bus;
    unsigned device;
    unsigned function;
    char end;

    // NOLINTNEXTLINE(cert-err34-c): the shape is all that is asked
    return sscanf(port, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &end) == 4 ||
           sscanf(port, "%x:%x.%x%c", &bus, &device, &function, &end) == 3; // NOLINT(cert-err34-c)
}

// -- Creating DPDK's devices ---------------------------------------------------------------------

static enum torc_err port_check_driver(enum torc_port_driver driver, struct torc_fail *why)
{
    void *object = dlopen(port_drivers[driver].object, RTLD_LAZY | RTLD_NOLOAD);

    if (object == NULL) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED, "its DPDK driver is missing: apt install %s",
                         port_drivers[driver].package);
    }
    (void)dlclose(object);
    return TORC_ERR_OK;
}

// What a dead node left would be taken for "in use" by the driver. Whoever lives keeps it.
static enum torc_err port_clear(const char *socket, struct torc_fail *why)
{
    struct stat there;

    if (strchr(socket, '/') == NULL || lstat(socket, &there) != 0) {
        return TORC_ERR_OK;
    }
    if (!S_ISSOCK(there.st_mode)) {
        return torc_fail(
            why, TORC_ERR_INVALID_ARGUMENT,
            "a file that is no socket is there: remove it, or set memif-socket (%.72s)", socket);
    }
    if (torc_socket_is_alive(socket)) {
        return torc_fail(why, TORC_ERR_IN_USE,
                         "another process has its socket: stop that, or set memif-socket (%.72s)",
                         socket);
    }
    (void)unlink(socket); // the driver says when that did not help
    return TORC_ERR_OK;
}

static enum torc_err port_words(const struct port_try *try, uint32_t index, char *words,
                                struct torc_fail *why)
{
    const struct torc_ports_want *want = try->want;
    const char *device = port_drivers[try->driver].device;
    char socket[TORC_MEMIF_NAME_BYTES];
    char name[32];
    enum torc_err err;

    switch (try->driver) {
    case TORC_PORT_AF_XDP:
        // No busy polling: it would make a system call of each empty poll.
        (void)snprintf(words, PORT_WORDS_BYTES,
                       "%s%" PRIu32 ",iface=%s,start_queue=%" PRIu32 ",queue_count=1,busy_budget=0",
                       device, index, want->link, index);
        return TORC_ERR_OK;
    case TORC_PORT_AF_PACKET:
        (void)snprintf(words, PORT_WORDS_BYTES, "%s%" PRIu32 ",iface=%s,qpairs=%" PRIu32 "%s",
                       device, index, want->link,
                       torc_narrow_u32(torc_min_u64(want->worker_count, 16)),
                       want->mtu > PORT_STANDARD_MTU ? ",framesz=9216,blocksz=36864,framecnt=512"
                                                     : ",framesz=2048,blocksz=4096,framecnt=1024");
        return TORC_ERR_OK;
    case TORC_PORT_TAP:
        (void)snprintf(words, PORT_WORDS_BYTES, "%s%" PRIu32 ",iface=%s", device, index,
                       want->link);
        return TORC_ERR_OK;
    case TORC_PORT_MEMIF:
        (void)snprintf(name, sizeof(name), "%s%" PRIu32, device, try->slot);
        err = torc_memif_socket(socket, want->memif_name, try->slot, why);
        if (err == TORC_ERR_OK) {
            err = port_clear(socket, why);
        }
        return err != TORC_ERR_OK
                   ? err
                   : torc_memif_words(words, name, TORC_MEMIF_SERVER, socket, want->mtu, why);
    case TORC_PORT_NIC:
        (void)snprintf(words, PORT_WORDS_BYTES, "%s", want->port);
        return TORC_ERR_OK;
    }
    torc_unreachable("all drivers have words");
}

// The number of the device that the words made, or that EAL found itself (a NIC).
static enum torc_err port_create(struct port_try *try, uint32_t index, struct torc_fail *why)
{
    char words[PORT_WORDS_BYTES];
    char *name_end;
    enum torc_err err = port_words(try, index, words, why);
    int failed;

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_eal_forget_complaint();
    failed = try->driver == TORC_PORT_NIC ? 0 : rte_dev_probe(words);
    if (failed != 0) {
        return torc_fail(why, TORC_ERR_IO, "%s: %s", strerrordesc_np(-failed),
                         torc_eal_complaint());
    }
    name_end = strchr(words, ',');
    if (name_end != NULL) {
        *name_end = '\0';
    }
    if (rte_eth_dev_get_port_by_name(words, &try->devices[index]) != 0) {
        return torc_fail(why, TORC_ERR_IO, "no device %.40s: %s", words, torc_eal_complaint());
    }
    try->device_count = index + 1;
    return TORC_ERR_OK;
}

static void port_remove(uint16_t id)
{
    struct rte_eth_dev_info info;
    bool known = rte_eth_dev_info_get(id, &info) == 0;

    (void)rte_eth_dev_stop(id); // may not have been started
    (void)rte_eth_dev_close(id);
    if (known && info.device != NULL) {
        (void)rte_dev_remove(info.device);
    }
}

// -- What a device can do ------------------------------------------------------------------------

struct port_bit {
    uint64_t theirs;
    uint32_t ours;
};

static uint32_t port_bits(uint64_t theirs, const struct port_bit *bits, size_t count)
{
    uint32_t ours = 0;

    for (size_t i = 0; i < count; i++) {
        ours |= (theirs & bits[i].theirs) != 0 ? bits[i].ours : 0;
    }
    return ours;
}

static uint64_t port_bits_back(uint32_t ours, const struct port_bit *bits, size_t count)
{
    uint64_t theirs = 0;

    for (size_t i = 0; i < count; i++) {
        theirs |= (ours & bits[i].ours) != 0 ? bits[i].theirs : 0;
    }
    return theirs;
}

static const struct port_bit port_rx_bits[] = {
    {RTE_ETH_RX_OFFLOAD_IPV4_CKSUM, TORC_STEER_RX_IP_CHECKSUM},
    {RTE_ETH_RX_OFFLOAD_UDP_CKSUM, TORC_STEER_RX_UDP_CHECKSUM},
    {RTE_ETH_RX_OFFLOAD_SCATTER, TORC_STEER_RX_SCATTER},
};

static const struct port_bit port_tx_bits[] = {
    {RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, TORC_STEER_TX_IP_CHECKSUM},
    {RTE_ETH_TX_OFFLOAD_UDP_CKSUM, TORC_STEER_TX_UDP_CHECKSUM},
    {RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, TORC_STEER_TX_FAST_FREE},
};

static const struct port_bit port_rss_bits[] = {
    {RTE_ETH_RSS_IPV4, TORC_STEER_RSS_IP4},
    {RTE_ETH_RSS_NONFRAG_IPV4_UDP, TORC_STEER_RSS_UDP4},
    {RTE_ETH_RSS_IPV6, TORC_STEER_RSS_IP6},
    {RTE_ETH_RSS_NONFRAG_IPV6_UDP, TORC_STEER_RSS_UDP6},
};

static struct torc_steer_ring port_ring(const struct rte_eth_desc_lim *limits, uint16_t preferred)
{
    return (struct torc_steer_ring){.least = limits->nb_min,
                                    .greatest = limits->nb_max,
                                    .multiple = limits->nb_align,
                                    .preferred = preferred};
}

static struct torc_steer_device port_describe(const struct port_try *try)
{
    const struct rte_eth_dev_info *info = &try->info;
    struct torc_steer_device device = {
        .frame_bytes_max = info->max_rx_pktlen,
        .rx_buffer_bytes_min = info->min_rx_bufsize,
        .rx_queues_max = info->max_rx_queues,
        .tx_queues_max = info->max_tx_queues,
        .mtu_max = info->max_mtu,
        .reta_entries = info->reta_size,
        .rx_ring = port_ring(&info->rx_desc_lim, info->default_rxportconf.ring_size),
        .tx_ring = port_ring(&info->tx_desc_lim, info->default_txportconf.ring_size),
    };

    device.features =
        port_bits(info->rx_offload_capa, port_rx_bits, TORC_COUNT_OF(port_rx_bits)) |
        port_bits(info->tx_offload_capa, port_tx_bits, TORC_COUNT_OF(port_tx_bits)) |
        port_bits(info->flow_type_rss_offloads, port_rss_bits, TORC_COUNT_OF(port_rss_bits));
    if (try->driver == TORC_PORT_NIC) {
        device.features |= TORC_STEER_FLOW | TORC_STEER_HARDWARE;
    } else {
        device.features |= TORC_STEER_OWN_SPREAD;
        device.features &= ~(uint32_t)(TORC_STEER_RSS_IP4 | TORC_STEER_RSS_UDP4 |
                                       TORC_STEER_RSS_IP6 | TORC_STEER_RSS_UDP6);
    }
    if (try->driver == TORC_PORT_AF_XDP || try->driver == TORC_PORT_AF_PACKET) {
        device.mtu_max = try->link.mtu;
        device.frame_bytes_max = 0; // the driver counts its own headers in
    }
    if (try->driver == TORC_PORT_AF_XDP) {
        device.rx_queues_max = (uint16_t)torc_min_u64(try->link.queue_count, PORT_DEVICES_MAX);
        device.tx_queues_max = device.rx_queues_max;
    }
    if (try->driver == TORC_PORT_MEMIF) {
        device.rx_queues_max = 1; // one worker a slot
        device.mtu_max = 0;
        device.frame_bytes_max = 0; // it says 1518, and takes what its buffers hold
    }
    if (try->driver == TORC_PORT_TAP) {
        device.mtu_max = PORT_STANDARD_MTU; // jumbo on tap fails (FIELDNOTES.md, section 2)
    }
    return device;
}

// -- Setting devices up --------------------------------------------------------------------------

static uint32_t port_first_worker(const struct port_try *try)
{
    return try->driver == TORC_PORT_MEMIF ? try->slot % try->want->worker_count : 0;
}

static int port_configure(const struct port_try *try, uint16_t id, uint16_t queues)
{
    struct rte_eth_conf conf = {0};
    uint64_t rss = port_bits_back(try->plan.features, port_rss_bits, TORC_COUNT_OF(port_rss_bits));

    // These two know 1500 only, and then take what their frames hold.
    conf.rxmode.mtu = try->driver == TORC_PORT_AF_PACKET || try->driver == TORC_PORT_MEMIF
                          ? PORT_STANDARD_MTU
                          : try->plan.mtu;
    conf.rxmode.offloads =
        port_bits_back(try->plan.features, port_rx_bits, TORC_COUNT_OF(port_rx_bits));
    conf.txmode.offloads =
        port_bits_back(try->plan.features, port_tx_bits, TORC_COUNT_OF(port_tx_bits));
    if (rss != 0) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = rss;
    }
    conf.intr_conf.rxq = try->driver == TORC_PORT_TAP;
    return rte_eth_dev_configure(id, queues, queues, &conf);
}

static enum torc_err port_setup(const struct port_try *try, uint32_t index, struct torc_fail *why)
{
    uint16_t id = try->devices[index];
    uint16_t queues = try->driver == TORC_PORT_AF_XDP ? 1 : try->plan.queue_count;
    struct rte_eth_rxconf rx = try->info.default_rxconf;
    struct rte_eth_txconf tx = try->info.default_txconf;
    int failed = port_configure(try, id, queues);

    rx.offloads = 0; // the device's count for all queues
    tx.offloads = port_bits_back(try->plan.features, port_tx_bits, TORC_COUNT_OF(port_tx_bits));
    for (uint16_t queue = 0; queue < queues && failed == 0; queue++) {
        uint32_t worker = port_first_worker(try) + index + queue;

        failed = rte_eth_rx_queue_setup(id, queue, try->plan.rx_entries, (unsigned)SOCKET_ID_ANY,
                                        &rx, try->pools[worker]);
        if (failed == 0) {
            failed = rte_eth_tx_queue_setup(id, queue, try->plan.tx_entries,
                                            (unsigned)SOCKET_ID_ANY, &tx);
        }
    }
    if (failed == 0 && try->driver == TORC_PORT_NIC && try->plan.mtu != PORT_STANDARD_MTU) {
        failed = rte_eth_dev_set_mtu(id, try->plan.mtu);
    }
    if (failed == 0) {
        failed = rte_eth_dev_start(id);
    }
    if (failed != 0) {
        return torc_fail(why, TORC_ERR_IO, "%s: %s", strerrordesc_np(-failed),
                         torc_eal_complaint());
    }
    if (try->driver == TORC_PORT_NIC) {
        (void)rte_eth_allmulticast_enable(id); // neighbour discovery comes by multicast
    }
    return TORC_ERR_OK;
}

// -- Steering ------------------------------------------------------------------------------------

static struct rte_flow *port_flow(uint16_t id, const struct torc_steer_rule *rule)
{
    struct rte_flow_error error = {0};
    struct rte_flow_item_udp udp = {.hdr.dst_port = rte_cpu_to_be_16(rule->udp_port)};
    struct rte_flow_item_udp udp_mask = {.hdr.dst_port = RTE_BE16(0xffff)};
    struct rte_flow_action_queue queue = {.index = rule->queue};
    const struct rte_flow_attr attr = {.ingress = 1};
    const struct rte_flow_item items[] = {
        {.type = RTE_FLOW_ITEM_TYPE_ETH},
        {.type = rule->ip_version == 4 ? RTE_FLOW_ITEM_TYPE_IPV4 : RTE_FLOW_ITEM_TYPE_IPV6},
        {.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .mask = &udp_mask},
        {.type = RTE_FLOW_ITEM_TYPE_END},
    };
    const struct rte_flow_action actions[] = {
        {.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &queue},
        {.type = RTE_FLOW_ACTION_TYPE_END},
    };
    struct rte_flow *flow = rte_flow_create(id, &attr, items, actions, &error);

    if (flow == NULL) {
        torc_log(TORC_LOG_INFO, "port", "rule-refused", "udp_port=%u ip=%u queue=%u text=\"%s\"",
                 rule->udp_port, rule->ip_version, rule->queue,
                 error.message != NULL ? error.message : "");
    }
    return flow;
}

// All rules or none. A device that refuses them and cannot spread either is set up again with one
// queue, since what it put into another would be lost.
static enum torc_err port_steer(struct port_try *try, struct torc_fail *why)
{
    struct rte_flow_error error;
    uint32_t count = torc_steer_rule_count(&try->plan);
    uint16_t queues = try->plan.queue_count;

    for (uint32_t i = 0; i < count; i++) {
        struct torc_steer_rule rule = torc_steer_rule(&try->plan, i);

        if (port_flow(try->devices[0], &rule) == NULL) {
            (void)rte_flow_flush(try->devices[0], &error);
            torc_steer_refused(&try->plan);
            break;
        }
    }
    if (try->plan.queue_count == queues) {
        return TORC_ERR_OK;
    }
    (void)rte_eth_dev_stop(try->devices[0]);
    return port_setup(try, 0, why);
}

// -- One port ------------------------------------------------------------------------------------

// The descriptors to block on, queue by queue: the driver opened its sockets in that order.
static void port_adopt(struct torc_port *port, const struct torc_link_sockets *before)
{
    struct torc_link_sockets sockets;

    torc_link_sockets(&sockets);
    torc_link_sockets_new(&sockets, before);
    for (uint32_t i = 0; i < port->queue_count; i++) {
        struct torc_port_queue *queue = &port->queues[i];

        queue->fd = -1;
        if (port->driver == TORC_PORT_TAP) {
            queue->fd = rte_eth_dev_rx_intr_ctl_q_get_fd(queue->device, queue->queue);
        } else if (sockets.count >= port->queue_count &&
                   (port->driver == TORC_PORT_AF_XDP || port->driver == TORC_PORT_AF_PACKET)) {
            queue->fd = sockets.fds[i];
        }
    }
}

static void port_finish(const struct port_try *try, struct torc_port *port)
{
    struct rte_ether_addr mac = {0};

    (void)rte_eth_macaddr_get(try->devices[0], &mac); // zeros cannot be: the device is ours
    memcpy(port->mac, mac.addr_bytes, sizeof(port->mac));
    // A kernel link's end keeps its own address for the kernel: a frame to it would be routed
    // onward by a kernel that forwards, and a bridge would keep it for itself. These take any
    // address.
    if (try->link.pair || try->driver == TORC_PORT_TAP) {
        port->mac[0] = (uint8_t)((port->mac[0] | 2u) & 0xfeu);
        port->mac[5] ^= 0x80u;
    }
    port->driver = try->driver;
    port->method = try->plan.method;
    port->features = try->plan.features;
    port->mtu = try->plan.mtu;
    port->queue_count = try->plan.queue_count;
    port->first_worker = (uint16_t)port_first_worker(try);
    for (uint32_t i = 0; i < port->queue_count; i++) {
        bool one_each = try->driver == TORC_PORT_AF_XDP;

        port->queues[i].device = try->devices[one_each ? i : 0];
        port->queues[i].queue = (uint16_t)(one_each ? 0 : i);
    }
}

// What af_xdp alone asks of a link.
static enum torc_err port_look_xdp(const struct port_try *try, struct torc_fail *why)
{
    if (torc_min_u64(try->link.mtu, try->want->mtu) > PORT_XDP_MTU_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "it takes an MTU of at most %d",
                         PORT_XDP_MTU_MAX);
    }
    // A socket takes one queue's packets; those of a queue without one would go to the kernel.
    if (try->link.queue_count > try->want->worker_count) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "the link has %" PRIu32 " queues for %" PRIu32
                         " workers: make it with as many (numrxqueues; ethtool -L)",
                         try->link.queue_count, try->want->worker_count);
    }
    return TORC_ERR_OK;
}

static enum torc_err port_look(struct port_try *try, struct torc_fail *why)
{
    bool xdp = try->driver == TORC_PORT_AF_XDP;
    enum torc_err err = port_check_driver(try->driver, why);

    if (err != TORC_ERR_OK || (!xdp && try->driver != TORC_PORT_AF_PACKET)) {
        return err;
    }
    err = torc_link_look(try->want->link, &try->link, why);
    if (err == TORC_ERR_OK && xdp) {
        err = port_look_xdp(try, why);
    }
    if (err == TORC_ERR_OK && !try->link.up) {
        err = torc_fail(why, TORC_ERR_IO, "link %s is down: ip link set %s up", try->want->link,
                        try->want->link);
    }
    return err;
}

static enum torc_err port_open_devices(struct port_try *try, struct torc_fail *why)
{
    struct torc_steer_want want = {.worker_count = try->want->worker_count,
                                   .base_port = try->want->base_port,
                                   .mtu = try->want->mtu,
                                   .ring_entries = PORT_RING_ENTRIES};
    struct torc_steer_device device;
    enum torc_err err = port_create(try, 0, why);
    uint32_t devices;

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (rte_eth_dev_info_get(try->devices[0], &try->info) != 0) {
        return torc_fail(why, TORC_ERR_IO, "the device says nothing about itself");
    }
    device = port_describe(try);
    err = torc_steer_choose(&try->plan, &device, &want, why);
    devices = try->driver == TORC_PORT_AF_XDP ? try->plan.queue_count : 1;
    for (uint32_t i = 1; i < devices && err == TORC_ERR_OK; i++) {
        err = port_create(try, i, why);
    }
    for (uint32_t i = 0; i < devices && err == TORC_ERR_OK; i++) {
        err = port_setup(try, i, why);
    }
    return err == TORC_ERR_OK ? port_steer(try, why) : err;
}

static void port_say_opened(const struct torc_port *port)
{
    char features[160];

    (void)torc_steer_features_text(port->features, features, sizeof(features));
    torc_log(TORC_LOG_INFO, "port", "opened",
             "driver=%s name=%s mac=%02x:%02x:%02x:%02x:%02x:%02x mtu=%u queues=%u steering=%s "
             "wait=%s features=%s",
             port_drivers[port->driver].text, port->name, port->mac[0], port->mac[1], port->mac[2],
             port->mac[3], port->mac[4], port->mac[5], port->mtu, port->queue_count,
             torc_steer_method_name(port->method), port->queues[0].fd >= 0 ? "fd" : "none",
             features);
}

static enum torc_err port_open(struct torc_ports *ports, const struct torc_ports_want *want,
                               enum torc_port_driver driver, uint32_t slot, struct torc_fail *why)
{
    struct torc_port *port = &ports->ports[ports->count];
    struct port_try try = {.want = want, .driver = driver, .slot = slot, .pools = ports->pools};
    struct torc_link_sockets before;
    enum torc_err err;

    torc_assert(ports->count < TORC_PORTS_MAX);
    torc_link_sockets(&before);
    err = port_look(&try, why);
    if (err == TORC_ERR_OK) {
        err = port_open_devices(&try, why);
    }
    if (err != TORC_ERR_OK) {
        for (uint32_t i = 0; i < try.device_count; i++) {
            port_remove(try.devices[i]);
        }
        return err;
    }
    *port = (struct torc_port){0};
    port_finish(&try, port);
    port_adopt(port, &before);
    if (driver == TORC_PORT_MEMIF) {
        (void)snprintf(port->name, sizeof(port->name), "%.56s-%" PRIu32, want->memif_name, slot);
    } else {
        (void)snprintf(port->name, sizeof(port->name), "%s",
                       driver == TORC_PORT_NIC ? want->port : want->link);
    }
    ports->count++;
    port_say_opened(port);
    return TORC_ERR_OK;
}

// -- All ports -----------------------------------------------------------------------------------

// A buffer holds a whole frame. af_xdp wants it and its header in one page, which bounds its MTU;
// above that, what af_packet's frames of 9216 bytes hold (FIELDNOTES.md, section 2).
static uint32_t port_room_bytes(uint16_t mtu)
{
    if (mtu <= PORT_STANDARD_MTU) {
        return 2048;
    }
    return mtu <= PORT_XDP_MTU_MAX
               ? (mtu + (uint32_t)TORC_STEER_FRAME_OVERHEAD_BYTES + PORT_XDP_SPARE_BYTES + 127) /
                     128 * 128
               : 9216;
}

static uint32_t port_buffers(uint16_t mtu)
{
    return mtu > PORT_STANDARD_MTU ? PORT_POOL_BUFFERS_JUMBO : PORT_POOL_BUFFERS;
}

static uint64_t port_pool_bytes(uint16_t mtu)
{
    return (uint64_t)port_buffers(mtu) * (port_room_bytes(mtu) + PORT_BUFFER_EXTRA_BYTES);
}

uint64_t torc_ports_memory_bytes(uint32_t worker_count, uint16_t mtu)
{
    uint64_t bytes = worker_count * port_pool_bytes(mtu) * 5 / 4 + PORT_HEAP_REST_BYTES;

    return torc_max_u64(bytes, PORT_HEAP_LEAST_BYTES) >> 20 << 20;
}

// A pool whose buffers lie one behind the other. DPDK's own call leaves gaps, so that no buffer
// crosses a page whose neighbour may lie elsewhere; af_xdp's driver counts on there being none, and
// registers count x size bytes with the kernel: without hugepages 40 % of the buffers were beyond
// that, and each send of one was refused (XDP_STATISTICS: tx_invalid) and lost the buffer. Only a
// device that reads memory by itself needs the gaps.
static struct rte_mempool *port_make_pool(const char *name, const struct torc_ports_want *want)
{
    uint16_t room_bytes = (uint16_t)(port_room_bytes(want->mtu) + RTE_PKTMBUF_HEADROOM);
    struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = room_bytes};
    unsigned flags = torc_port_is_pci(want->port) ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
    struct rte_mempool *pool = rte_mempool_create_empty(
        name, port_buffers(want->mtu), (unsigned)sizeof(struct rte_mbuf) + room_bytes,
        PORT_POOL_CACHE, sizeof(private), SOCKET_ID_ANY, flags);

    if (pool == NULL) {
        return NULL;
    }
    if (rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL) != 0) {
        rte_mempool_free(pool);
        return NULL;
    }
    rte_pktmbuf_pool_init(pool, &private);
    if (rte_mempool_populate_default(pool) < 0 || (flags != 0 && pool->nb_mem_chunks != 1)) {
        rte_mempool_free(pool);
        rte_errno = ENOMEM;
        return NULL;
    }
    (void)rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

static enum torc_err port_make_pools(struct torc_ports *ports, const struct torc_ports_want *want,
                                     struct torc_fail *why)
{
    for (uint32_t i = 0; i < want->worker_count; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "torc-pool-%" PRIu32, i);
        ports->pools[i] = port_make_pool(name, want);
        if (ports->pools[i] == NULL) {
            return torc_fail(why, TORC_ERR_NO_SPACE,
                             "packet buffers of %" PRIu32 " workers take about %" PRIu64
                             " MiB: raise dpdk-memory (%s)",
                             want->worker_count,
                             want->worker_count * port_pool_bytes(want->mtu) >> 20,
                             rte_strerror(rte_errno));
        }
        ports->pool_count = i + 1;
    }
    return TORC_ERR_OK;
}

// Tries one driver; tells what it met, and keeps that as the last of all reasons.
static enum torc_err port_try_driver(struct torc_ports *ports, const struct torc_ports_want *want,
                                     enum torc_port_driver driver, struct torc_fail *why)
{
    struct torc_fail met = {0};
    enum torc_err err = port_open(ports, want, driver, 0, &met);

    if (err != TORC_ERR_OK) {
        torc_log(TORC_LOG_INFO, "port", "refused", "driver=%s name=%s text=\"%s\"",
                 port_drivers[driver].text, driver == TORC_PORT_NIC ? want->port : want->link,
                 met.text);
        return torc_fail(why, err, "port %s: %.120s", port_drivers[driver].text, met.text);
    }
    return TORC_ERR_OK;
}

static enum torc_err port_open_main(struct torc_ports *ports, const struct torc_ports_want *want,
                                    struct torc_fail *why)
{
    static const enum torc_port_driver order[] = {TORC_PORT_AF_XDP, TORC_PORT_AF_PACKET,
                                                  TORC_PORT_TAP};
    bool any = strcmp(want->port, "auto") == 0;

    if (strcmp(want->port, "memif") == 0) {
        return want->memif_slots > 0 ? TORC_ERR_OK
                                     : torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                                                 "port=memif needs memif-slots=1 or more");
    }
    if (torc_port_is_pci(want->port)) {
        return port_try_driver(ports, want, TORC_PORT_NIC, why);
    }
    for (size_t i = 0; i < TORC_COUNT_OF(order); i++) {
        if (any || strcmp(want->port, port_drivers[order[i]].text) == 0) {
            enum torc_err err = port_try_driver(ports, want, order[i], why);

            if (err == TORC_ERR_OK || !any) {
                return err;
            }
        }
    }
    return any ? torc_fail(
                     why, TORC_ERR_IO,
                     "no port on link %s opens, neither af_xdp nor af_packet nor tap: the lines "
                     "above say why; root or CAP_NET_RAW and CAP_NET_ADMIN are needed",
                     want->link)
               : torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                           "port=%.60s: auto, af_xdp, af_packet, tap, memif or a PCI address",
                           want->port);
}

enum torc_err torc_ports_open(struct torc_ports *ports, const struct torc_ports_want *want,
                              struct torc_fail *why)
{
    enum torc_err err;

    torc_assert(want->worker_count > 0);
    torc_assert(want->worker_count <= TORC_PORT_QUEUES_MAX);
    torc_assert(want->memif_slots <= TORC_MEMIF_SLOTS_MAX);
    *ports = (struct torc_ports){0};
    err = port_make_pools(ports, want, why);
    if (err == TORC_ERR_OK) {
        err = port_open_main(ports, want, why);
    }
    for (uint32_t slot = 0; slot < want->memif_slots && err == TORC_ERR_OK; slot++) {
        struct torc_fail met = {0};

        err = port_open(ports, want, TORC_PORT_MEMIF, slot, &met);
        if (err != TORC_ERR_OK) {
            (void)torc_fail(why, err, "memif slot %" PRIu32 ": %.140s", slot, met.text);
        }
    }
    if (err != TORC_ERR_OK) {
        torc_ports_close(ports);
    }
    return err;
}

bool torc_port_is_up(const struct torc_port *port)
{
    struct rte_eth_link link = {0};

    if (port->driver != TORC_PORT_MEMIF) {
        return true;
    }
    return rte_eth_link_get_nowait(port->queues[0].device, &link) == 0 &&
           link.link_status == RTE_ETH_LINK_UP;
}

void torc_ports_close(struct torc_ports *ports)
{
    for (uint32_t i = 0; i < ports->count; i++) {
        const struct torc_port *port = &ports->ports[i];
        uint32_t devices = port->driver == TORC_PORT_AF_XDP ? port->queue_count : 1;

        for (uint32_t device = 0; device < devices; device++) {
            port_remove(port->queues[device].device);
        }
    }
    ports->count = 0;
    for (uint32_t i = 0; i < ports->pool_count; i++) {
        rte_mempool_free(ports->pools[i]);
    }
    ports->pool_count = 0;
}
