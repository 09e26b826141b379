// Torc dataplane: what the kernel says about one of its network links.
//
// What    existence, state, MTU, queues and kind; a list of the process's packet sockets, by which
//         the descriptors that a DPDK driver opened are found (the difference around the opening).
// Owner   the main thread, while ports are opened. Reads only.
#ifndef TORC_DATAPLANE_LINK_OS_H
#define TORC_DATAPLANE_LINK_OS_H

#include "kit/fail.h"

#define TORC_LINK_NAME_BYTES  16 // the kernel's IFNAMSIZ
#define TORC_LINK_SOCKETS_MAX 256

struct torc_link {
    uint32_t index;
    uint32_t queue_count; // pairs of a receive and a transmit queue
    uint16_t mtu;
    bool up;
    bool pair; // veth: takes frames for any MAC address
};

// NOT_FOUND when there is none of that name.
enum torc_err torc_must_use torc_link_look(const char *name, struct torc_link *link,
                                           struct torc_fail *why);

struct torc_link_sockets {
    uint32_t count;
    int fds[TORC_LINK_SOCKETS_MAX]; // ascending
};

// The AF_PACKET and AF_XDP sockets that this process has open.
void torc_link_sockets(struct torc_link_sockets *sockets);

// Drops from `after` what is in `before`.
void torc_link_sockets_new(struct torc_link_sockets *after, const struct torc_link_sockets *before);

#endif
