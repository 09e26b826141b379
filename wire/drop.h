// Torc wire: why a packet is dropped without an answer.
//
// What    one table: enum, name (of the counter and of the metric's label) and one line for people
//         come from the same line. `torc stats` prints it, `struct torc_stats` counts by
//         it.
// Owner   none: constant data and pure functions.  Memory  none.
// Order   as the checks come: Ethernet, IP, UDP (wire/frame.h), then the payload (wire/data.h,
//         wire/handshake.h), then the session (wire/session.h and the session table), then load.
// Numbers index shared memory (kit/stats.h): new reasons go to the end.
// Sources docs/PROTOCOL.md, section 10.
#ifndef TORC_WIRE_DROP_H
#define TORC_WIRE_DROP_H

#include "kit/stats.h"

// X(NAME, name, explanation)
#define TORC_DROP_TABLE(X)                                                                        \
    X(NONE, "none", "not dropped")                                                                \
    X(L2_SHORT, "l2_short", "the frame ends inside its Ethernet header or tag")                   \
    X(L2_ADDRESS, "l2_address", "the frame is for another Ethernet address, or from a group one") \
    X(L2_TYPE, "l2_type", "neither IPv4, IPv6 nor ARP, or another VLAN than the configured one")  \
    X(L3_HEADER, "l3_header", "the IP header contradicts itself or the frame's length")           \
    X(L3_CHECKSUM, "l3_checksum", "the IPv4 header's checksum is wrong")                          \
    X(L3_FRAGMENT, "l3_fragment", "an IP fragment; Torc never sends one and takes none")          \
    X(L3_OPTIONS, "l3_options", "IPv4 options or IPv6 extension headers")                         \
    X(L3_SOURCE, "l3_source", "the source address is a group, zero, loopback, or our own")        \
    X(L3_DESTINATION, "l3_destination", "for an IP address that is not ours")                     \
    X(L3_PROTOCOL, "l3_protocol", "neither UDP nor an ICMP message that is answered")             \
    X(L4_LENGTH, "l4_length", "the UDP length contradicts the IP length")                         \
    X(L4_CHECKSUM, "l4_checksum", "UDP or ICMP checksum wrong, or zero over IPv6")                \
    X(L4_PORT, "l4_port", "a UDP port outside base port + cores, or source port 0")               \
    X(NEIGHBOUR, "neighbour", "ARP or neighbour discovery that is not valid or not for us")       \
    X(ECHO, "echo", "an echo request beyond 1000 a second, or not valid")                         \
    X(SHORT, "short", "the payload is shorter than the least packet of its type")                 \
    X(LONG, "long", "the payload is longer than the published maximum")                           \
    X(MAGIC, "magic", "the first byte is not 0x54: not Torc's protocol")                          \
    X(VERSION, "version", "an unknown protocol version, and too short to be told so")             \
    X(TYPE, "type", "a packet type that is unknown or only goes from server to client")           \
    X(INIT_LENGTH, "init_len", "an INIT that is not exactly 256 bytes long or says so")           \
    X(INIT_FIELD, "init_field", "an INIT with reserved bits set or fields out of range")          \
    X(INIT_CHECK, "init_check", "an INIT whose payload fails its check")                          \
    X(BUDGET, "budget", "answers to unproved addresses are over their rate")                      \
    X(INIT_BUDGET, "init_budget", "handshakes of one source address are over their rate")         \
    X(INIT_RING_FULL, "ring_full", "the session thread is behind with handshakes")                \
    X(HALF_OPEN_FULL, "half_open_full", "too many handshakes are waiting for their first packet") \
    X(DH, "dh", "an INIT whose public key gives an all-zero secret")                              \
    X(FLAGS, "flags", "a data packet with reserved flags set or from the wrong side")             \
    X(CORE, "core", "a data packet for a core that this node has not")                            \
    X(ADDRESS, "address", "a data packet from another address than its session's")                \
    X(LIMIT, "limit", "a sequence number at which the session must have been renewed")            \
    X(REPLAY_OLD, "replay_old", "a sequence number of 0, or 256 or more behind the newest")       \
    X(REPLAY_DUPLICATE, "replay_dup", "a sequence number that was seen before")                   \
    X(AUTH, "auth_fail", "the trailer's check failed: damaged or forged")                         \
    X(OVERLOAD, "overload",                                                                       \
      "dropped before opening, over its session's share of a core that is behind")                \
    X(HANDOVER_FULL, "handover_full", "the owning core is behind with frames handed over to it")  \
    X(NOT_READY, "not_ready", "the node is still recovering, or stopping")                        \
    X(SESSION, "session", "for a session that we do not have, from a client that keeps sending")  \
    X(REPLY_LOST, "reply_lost", "an answer that found no room and will be asked for again")       \
    X(PEER, "peer", "a node's message that does not decode, or whose clock is far ahead")         \
    X(PEER_LINK, "peer_link", "for another node whose Ethernet address is not known yet")

enum torc_drop {
#define X(name, label, explanation) TORC_DROP_##name,
    TORC_DROP_TABLE(X)
#undef X
    TORC_DROP_COUNT
};

_Static_assert((int)TORC_DROP_COUNT <= TORC_STATS_DROPS_MAX, "the statistics page has the room");

static inline const char *torc_drop_name(enum torc_drop drop)
{
    switch (drop) {
#define X(name, label, explanation) \
    case TORC_DROP_##name: return label;
        TORC_DROP_TABLE(X)
#undef X
    case TORC_DROP_COUNT: break;
    }
    return "unknown"; // a newer dataplane's page
}

static inline const char *torc_drop_explanation(enum torc_drop drop)
{
    switch (drop) {
#define X(name, label, explanation) \
    case TORC_DROP_##name: return explanation;
        TORC_DROP_TABLE(X)
#undef X
    case TORC_DROP_COUNT: break;
    }
    return "a reason that this version does not know";
}

#endif
