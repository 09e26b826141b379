// Torc kit: what the network settings come to for one node.
//
// What    addresses in bytes with their prefixes, the names of link and memif sockets, and the text
//         of run/cluster, with every `auto` worked out from the node's number (DESIGN.md, section
//         12).
// Owner   a program's main, at start; no state.
#ifndef TORC_KIT_NETWORK_OS_H
#define TORC_KIT_NETWORK_OS_H

#include "kit/settings.h"

#define TORC_NETWORK_LINK_BYTES    16 // the kernel's IFNAMSIZ
#define TORC_NETWORK_CLUSTER_BYTES 64
#define TORC_NETWORK_NODE_AUTO_MAX 244 // 10.79.0.254

struct torc_network {
    uint8_t ipv4[4]; // prefix 0: no address of that family
    uint8_t ipv6[16];
    uint8_t ipv4_prefix;
    uint8_t ipv6_prefix;
    uint16_t base_port;
    char link[TORC_NETWORK_LINK_BYTES];
    char memif[TORC_SETTINGS_TEXT_BYTES + 16]; // sockets are memif-0, memif-1, …
    char cluster[TORC_NETWORK_CLUSTER_BYTES];  // 10.79.0.11:28700, or [fd79::b]:28700
};

// INVALID_ARGUMENT names the key that makes no sense. `settings->data` is filled in.
enum torc_err torc_must_use torc_network_of(struct torc_network *network,
                                            const struct torc_settings *settings,
                                            struct torc_fail *why);

#endif
