// Torc client: what carries packets: UDP sockets, or a memif port of DPDK.
//
// What    one table of functions a transport, and what a queue learns from it when it opens.
// Owner   the queue's thread.
// Memory  a transport makes its own memory when it is opened and frees it when it is closed. What
//         `receive` gives lies in it until the next `receive`.
// Edges   transport_sock.c, transport_memif_dpdk.c (a library of its own, loaded when an address
//         asks for it: transport_load_os.c), and the simulated network of the tests.
#ifndef TORC_CLIENT_TRANSPORT_H
#define TORC_CLIENT_TRANSPORT_H

#include "client/engine.h"

#define TORC_TRANSPORT_BURST   64u
#define TORC_TRANSPORT_VERSION 2u

// What opening found out.
struct torc_transport_facts {
    struct torc_endpoint seeds[TORC_ENGINE_SEEDS_MAX];
    uint32_t seed_count;
    uint32_t payload_bytes; // largest UDP payload that our end carries
    uint32_t read_rto_us;   // for torc_engine_config
    bool one_node;          // likewise
};

struct torc_transport_code {
    uint32_t version; // TORC_TRANSPORT_VERSION
    enum torc_err (*open)(void **transport, const char *address, struct torc_transport_facts *facts,
                          struct torc_fail *why);
    // Sends what it can; the rest is lost, as on a wire.
    void (*send)(void *transport, const struct torc_datagram *datagrams, uint32_t count);
    // At most TORC_TRANSPORT_BURST; never waits.
    uint32_t (*receive)(void *transport, struct torc_datagram *datagrams);
    // Until a packet is there, or until_ns of CLOCK_BOOTTIME.
    void (*wait)(void *transport, uint64_t until_ns);
    // A descriptor that is readable while packets wait, or -1.
    int (*descriptor)(void *transport);
    // forked: in a child, which must leave the parent's connection as it is.
    void (*close)(void *transport, bool forked);
};

extern const struct torc_transport_code torc_transport_sock;

// The transport of an address; NULL, and why, when this installation lacks it.
const struct torc_transport_code *torc_transport_find(const char *address, struct torc_fail *why);

#endif
