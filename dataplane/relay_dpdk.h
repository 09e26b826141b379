// Torc dataplane: sending through a queue that another worker owns.
//
// What    a port may have fewer queues than there are workers (a memif slot has one, a veth's
//         af_xdp one a kernel queue). A DPDK queue is used by one core only, so a worker without
//         one hands its filled buffer to the owner over a ring, and the owner sends it in its next
//         turn.
// Owner   ring (from, to): worker `from` produces, worker `to` consumes (kit/spsc.h). A buffer
//         belongs to the ring's consumer once published; it goes back to its own pool when sent.
// Memory  one mapping, made before the workers start; only rings that some port needs are touched.
// Bounds  TORC_RELAY_SLOTS buffers a ring; a full ring drops, counted as a full port.
#ifndef TORC_DATAPLANE_RELAY_DPDK_H
#define TORC_DATAPLANE_RELAY_DPDK_H

#include "dataplane/port_dpdk.h"
#include "kit/spsc.h"

#define TORC_RELAY_SLOTS 512u

struct rte_mbuf;

struct torc_relay_item {
    struct rte_mbuf *buffer;
    uint32_t port; // index into torc_ports
    uint32_t zero;
};

struct torc_relays {
    unsigned char *memory; // NULL: no port needs any
    uint64_t memory_bytes;
    uint64_t ring_bytes;
    uint32_t worker_count;
};

// One worker's ends.
struct torc_relay_ends {
    struct torc_spsc_port *in;  // by producer; ring NULL where there is none
    struct torc_spsc_port *out; // by consumer
    uint32_t worker_count;      // 0: no relays
};

// NO_SPACE when the rings cannot be mapped.
enum torc_err torc_must_use torc_relays_open(struct torc_relays *relays,
                                             const struct torc_ports *ports, uint32_t worker_count,
                                             struct torc_fail *why);
void torc_relays_close(struct torc_relays *relays);

enum torc_err torc_must_use torc_relay_attach(struct torc_relay_ends *ends,
                                              const struct torc_relays *relays, uint32_t worker,
                                              struct torc_fail *why);
// Frees what was not sent: the other workers have stopped too.
void torc_relay_detach(struct torc_relay_ends *ends);

#endif
