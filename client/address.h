// Torc client: the words of an address, taken apart.
//
// What    `host[:base-port],...`, `[v6]:port`, bare IPv6, `torc+memif:NAME,key=value,...`. Names
//         are resolved by the edge (transport_sock.c); here only text is cut.
// Owner   none: pure functions.
#ifndef TORC_CLIENT_ADDRESS_H
#define TORC_CLIENT_ADDRESS_H

#include "kit/fail.h"

#define TORC_BASE_PORT_DEFAULT 28700u
#define TORC_HOST_BYTES        256u
#define TORC_MEMIF_SCHEME      "torc+memif:"

struct torc_address {
    char host[TORC_HOST_BYTES];
    uint16_t base_port;
};

// The next address of the list at *text; *text moves behind it and its comma, to "" at the end.
// INVALID_ARGUMENT names what is wrong.
enum torc_err torc_must_use torc_address_next(const char **text, struct torc_address *address,
                                              struct torc_fail *why);

bool torc_address_is_memif(const char *text);

// torc+memif:NAME[,slot=N][,address=IP][,local=IP][,port=N][,mtu=N][,core=N][,huge=yes]
// [,zero-copy=yes]
struct torc_memif_address {
    char name[TORC_HOST_BYTES];
    char node[64];  // the node's IP address; default 10.79.0.11
    char local[64]; // ours; default: the node's network, host .100 + slot
    uint32_t slot;
    uint32_t lcore; // processor that DPDK's main thread is pinned to; UINT32_MAX: as the caller is
    uint16_t base_port;
    uint16_t mtu;
    bool zero_copy; // needs hugepages
    bool huge;      // use hugepages
};
enum torc_err torc_must_use torc_address_memif(const char *text, struct torc_memif_address *address,
                                               struct torc_fail *why);

#endif
