// Torc dataplane: opening network ports through DPDK.
//
// What    one kernel-owned or physical port, tried in order until one opens, and memif slots beside
//         it. A port is queues: worker w polls `queues[w]` and blocks on its descriptor when idle.
//           driver      what              descriptor to block on
//           af_xdp      a kernel link     its socket, found by difference around the opening
//           af_packet   a kernel link     the same
//           tap         makes its link    DPDK gives it
//           memif       shared memory     none: short naps while a peer is there
//           nic         a PCI device      none: polled without pause
// Owner   opening and closing: the main thread, while no worker runs. A queue: its worker.
// Memory  a pool of packet buffers a worker, from EAL's heap.
// Invariants
//   P1  a descriptor of a port is waited on, never read and never closed: it is the driver's.
//   P2  a try that failed leaves nothing behind.
// Sources FIELDNOTES.md sections 2 to 4; dataplane/steer.h for the choices.
#ifndef TORC_DATAPLANE_PORT_DPDK_H
#define TORC_DATAPLANE_PORT_DPDK_H

#include "dataplane/steer.h"
#include "kit/memif.h"

#define TORC_PORTS_MAX       (1 + TORC_MEMIF_SLOTS_MAX)
#define TORC_PORT_QUEUES_MAX 128
#define TORC_PORT_NAME_BYTES 64

struct rte_mempool;

// X(NAME, text, DPDK's device name, shared object, Debian package)
#define TORC_PORT_DRIVER_TABLE(X)                                                       \
    X(AF_XDP, "af_xdp", "net_af_xdp", "librte_net_af_xdp.so.23", "librte-net-af-xdp23") \
    X(AF_PACKET, "af_packet", "net_af_packet", "librte_net_af_packet.so.23",            \
      "librte-net-af-packet23")                                                         \
    X(TAP, "tap", "net_tap", "librte_net_tap.so.23", "librte-net-tap23")                \
    X(MEMIF, "memif", "net_memif", "librte_net_memif.so.23", "librte-net-memif23")      \
    X(NIC, "nic", "", "librte_bus_pci.so.23", "librte-bus-pci23")

enum torc_port_driver {
#define X(name, text, device, object, package) TORC_PORT_##name,
    TORC_PORT_DRIVER_TABLE(X)
#undef X
};

// One receive and one transmit queue, of one worker.
struct torc_port_queue {
    uint16_t device; // DPDK's port number: af_xdp has a device for each queue
    uint16_t queue;
    int fd; // to block on, or -1
};

struct torc_port {
    enum torc_port_driver driver;
    enum torc_steer_method method;
    uint32_t features; // switched on: enum torc_steer_feature
    uint16_t mtu;
    uint16_t queue_count;
    uint16_t first_worker; // queue q belongs to worker first_worker + q; not 0 for memif alone
    uint8_t mac[6];        // that we answer to
    char name[TORC_PORT_NAME_BYTES]; // link, slot's socket or PCI address
    struct torc_port_queue queues[TORC_PORT_QUEUES_MAX];
};

struct torc_ports {
    uint32_t count; // port 0 is the kernel's or the NIC; memif slots follow
    uint32_t pool_count;
    struct rte_mempool *pools[TORC_PORT_QUEUES_MAX]; // by worker
    struct torc_port ports[TORC_PORTS_MAX];
};

struct torc_ports_want {
    const char *port;       // auto, af_xdp, af_packet, tap, memif (slots alone), or a PCI address
    const char *link;       // kernel link to open, or the name of the tap to make
    const char *memif_name; // sockets are memif_name-0, memif_name-1, …
    uint32_t memif_slots;
    uint32_t worker_count;
    uint16_t base_port;
    uint16_t mtu;
};

// True when `port` is written like a PCI address.
bool torc_port_is_pci(const char *port);

// Bytes of EAL's heap that the pools of so many workers take, with room for rings and drivers.
uint64_t torc_ports_memory_bytes(uint32_t worker_count, uint16_t mtu);

// Opens all. On failure nothing is open, and the text says what each try met.
enum torc_err torc_must_use torc_ports_open(struct torc_ports *ports,
                                            const struct torc_ports_want *want,
                                            struct torc_fail *why);

// Whether a memif slot has a peer; true for all other ports.
bool torc_port_is_up(const struct torc_port *port);

// The worker that polls queue `index` of the port, and the queue that worker `worker` sends
// through.
static inline uint32_t torc_port_worker(const struct torc_port *port, uint32_t index)
{
    return port->first_worker + index;
}

static inline uint32_t torc_port_queue_of(const struct torc_port *port, uint32_t worker)
{
    return worker >= port->first_worker && worker - port->first_worker < port->queue_count
               ? worker - port->first_worker
               : worker % port->queue_count;
}

// Stops and closes all, so that clients of memif slots see them go.
void torc_ports_close(struct torc_ports *ports);

#endif
