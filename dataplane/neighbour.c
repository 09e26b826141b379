// Torc dataplane: ARP, neighbour discovery and echo, answered; see neighbour.h.
#include "dataplane/neighbour.h"

#include <string.h>

_Static_assert(TORC_ND_FRAME_BYTES >= TORC_ARP_FRAME_BYTES, "one check for both");

static uint32_t neighbour_arp(const struct torc_frame *frame, const struct torc_frame_local *local,
                              unsigned char *out, enum torc_drop *reason)
{
    struct torc_arp arp;
    struct torc_arp answer = {.operation = TORC_ARP_REPLY};

    *reason = torc_arp_decode(&arp, frame);
    if (*reason != TORC_DROP_NONE) {
        return 0;
    }
    if (arp.operation != TORC_ARP_REQUEST || !local->has_ipv4 ||
        memcmp(arp.target_ip, local->ipv4, sizeof(arp.target_ip)) != 0) {
        *reason = TORC_DROP_NEIGHBOUR;
        return 0;
    }
    memcpy(answer.sender_mac, local->mac, sizeof(answer.sender_mac));
    memcpy(answer.sender_ip, local->ipv4, sizeof(answer.sender_ip));
    memcpy(answer.target_mac, arp.sender_mac, sizeof(answer.target_mac));
    memcpy(answer.target_ip, arp.sender_ip, sizeof(answer.target_ip));
    return torc_arp_write(out, &answer, local->vlan);
}

static bool ip_is_zero(const uint8_t ip[16])
{
    static const uint8_t zero[16] = {0};

    return memcmp(ip, zero, sizeof(zero)) == 0;
}

static uint32_t neighbour_nd(const struct torc_frame *frame, const struct torc_frame_local *local,
                             unsigned char *out, enum torc_drop *reason)
{
    struct torc_nd nd;
    struct torc_nd answer = {
        .kind = TORC_ND_ADVERTISE, .flags = TORC_ND_SOLICITED | TORC_ND_OVERRIDE, .has_mac = true};
    struct torc_nd_way way = {.vlan = local->vlan};

    *reason = torc_nd_decode(&nd, frame);
    if (*reason != TORC_DROP_NONE) {
        return 0;
    }
    // A zero source is somebody testing whether our address is free; who configures addresses twice
    // is told by ARP's and ND's own means, and a multicast answer would be one more way to make
    // noise.
    if (nd.kind != TORC_ND_SOLICIT || !local->has_ipv6 || ip_is_zero(frame->source_ip) ||
        memcmp(nd.target, local->ipv6, sizeof(nd.target)) != 0) {
        *reason = TORC_DROP_NEIGHBOUR;
        return 0;
    }
    memcpy(answer.mac, local->mac, sizeof(answer.mac));
    memcpy(answer.target, local->ipv6, sizeof(answer.target));
    memcpy(way.source_mac, local->mac, sizeof(way.source_mac));
    memcpy(way.destination_mac, frame->source_mac, sizeof(way.destination_mac));
    memcpy(way.source_ip, local->ipv6, sizeof(way.source_ip));
    memcpy(way.destination_ip, frame->source_ip, sizeof(way.destination_ip));
    return torc_nd_write(out, &answer, &way);
}

uint32_t torc_neighbour_answer(const struct torc_frame *frame, const struct torc_frame_local *local,
                               unsigned char *out, uint32_t room, enum torc_drop *reason)
{
    uint32_t bytes;

    torc_assert(room >= TORC_ND_FRAME_BYTES); // ARP's are shorter
    switch (frame->kind) {
    case TORC_FRAME_ARP: return neighbour_arp(frame, local, out, reason);
    case TORC_FRAME_ND: return neighbour_nd(frame, local, out, reason);
    case TORC_FRAME_ECHO:
        bytes = torc_echo_write(out, room, frame, local->mac, local->vlan);
        *reason = bytes == 0 ? TORC_DROP_ECHO : TORC_DROP_NONE;
        return bytes;
    case TORC_FRAME_UDP: break;
    }
    torc_unreachable("UDP is not a neighbour's affair");
}

uint32_t torc_neighbour_announce(const struct torc_frame_local *local, bool is_ipv6,
                                 unsigned char *out, uint32_t room)
{
    // All nodes of the link (RFC 4291, 2.7.1), and its Ethernet group.
    static const uint8_t all_ip[16] = {0xff, 0x02, [15] = 1};
    static const uint8_t all_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    struct torc_arp arp = {.operation = TORC_ARP_REQUEST};
    struct torc_nd nd = {.kind = TORC_ND_ADVERTISE, .flags = TORC_ND_OVERRIDE, .has_mac = true};
    struct torc_nd_way way = {.vlan = local->vlan};

    torc_assert(room >= TORC_ND_FRAME_BYTES); // ARP's are shorter
    if (is_ipv6 ? !local->has_ipv6 : !local->has_ipv4) {
        return 0;
    }
    if (!is_ipv6) {
        memcpy(arp.sender_mac, local->mac, sizeof(arp.sender_mac));
        memcpy(arp.sender_ip, local->ipv4, sizeof(arp.sender_ip));
        memcpy(arp.target_ip, local->ipv4, sizeof(arp.target_ip));
        return torc_arp_write(out, &arp, local->vlan);
    }
    memcpy(nd.mac, local->mac, sizeof(nd.mac));
    memcpy(nd.target, local->ipv6, sizeof(nd.target));
    memcpy(way.source_mac, local->mac, sizeof(way.source_mac));
    memcpy(way.destination_mac, all_mac, sizeof(way.destination_mac));
    memcpy(way.source_ip, local->ipv6, sizeof(way.source_ip));
    memcpy(way.destination_ip, all_ip, sizeof(way.destination_ip));
    return torc_nd_write(out, &nd, &way);
}
