// Torc kit: how the two ends of a shared-memory port (memif) find each other.
//
// What    the names of a node's slots, and the words that DPDK's net_memif driver is opened with.
//         A node offers `memif-slots` slots; slot n listens on the socket NAME-n. A NAME with a '/'
//         is a file (only its owner may connect; works across network namespaces), any other NAME
//         is an abstract socket, open to every user of the network namespace. One client a slot.
// Owner   none: pure functions, for servers and clients.
// Client  opens its end, sees its link go up within a second of the server's being there, and then
//         speaks Ethernet, ARP and IP like any neighbour. When its link goes down it must stop and
//         start its end again until the link is up: the driver does not reconnect by itself. It
//         ends its session (CLOSE), and sends no more, before it closes its end.
#ifndef TORC_KIT_MEMIF_H
#define TORC_KIT_MEMIF_H

#include "kit/fail.h"

#include <string.h>

// DPDK has 32 ports a process (RTE_MAX_ETHPORTS as Debian builds it); one is the kernel's.
#define TORC_MEMIF_SLOTS_MAX   31
#define TORC_MEMIF_NAME_BYTES  108 // a socket address with its end
#define TORC_MEMIF_WORDS_BYTES 256
#define TORC_MEMIF_RING_LOG2   10u // descriptors of a ring: 1024

enum torc_memif_role {
    TORC_MEMIF_SERVER,
    TORC_MEMIF_CLIENT,
    TORC_MEMIF_CLIENT_ZERO_COPY, // hugepages in single-file segments
};

// Bytes of a buffer: the client's choice counts for both directions. A whole frame fits.
static inline uint32_t torc_memif_buffer_bytes(uint32_t mtu)
{
    return mtu <= 1500 ? 2048 : 9728;
}

// The socket of a slot: `NAME-slot`. INVALID_ARGUMENT when it is too long for an address.
static inline enum torc_err torc_must_use torc_memif_socket(char *socket, const char *name,
                                                            uint32_t slot, struct torc_fail *why)
{
    int length = snprintf(socket, TORC_MEMIF_NAME_BYTES, "%s-%" PRIu32, name, slot);

    // The driver writes an abstract name behind a zero byte of its own.
    if (name[0] == '\0' || strpbrk(name, ", ") != NULL || length < 0 ||
        length >= TORC_MEMIF_NAME_BYTES - 1) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "memif socket %.100s-%" PRIu32 ": 1 to %d bytes, no comma, no blank", name,
                         slot, TORC_MEMIF_NAME_BYTES - 2);
    }
    return TORC_ERR_OK;
}

// What to hand to rte_dev_probe(): `device` names the port, e.g. "net_memif0". Zero copy is the
// client's choice alone.
static inline enum torc_err torc_must_use torc_memif_words(char *words, const char *device,
                                                           enum torc_memif_role role,
                                                           const char *socket, uint32_t mtu,
                                                           struct torc_fail *why)
{
    bool zero_copy = role == TORC_MEMIF_CLIENT_ZERO_COPY;
    int length =
        snprintf(words, TORC_MEMIF_WORDS_BYTES,
                 "%s,role=%s,id=0,socket=%s,socket-abstract=%s,bsize=%" PRIu32 ",rsize=%u%s",
                 device, role == TORC_MEMIF_SERVER ? "server" : "client", socket,
                 strchr(socket, '/') == NULL ? "yes" : "no", torc_memif_buffer_bytes(mtu),
                 TORC_MEMIF_RING_LOG2, zero_copy ? ",zero-copy=yes" : "");

    if (length < 0 || length >= TORC_MEMIF_WORDS_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "memif port %.80s: its words are too long",
                         socket);
    }
    return TORC_ERR_OK;
}

#endif
