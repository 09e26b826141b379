// Torc wire: frames taken apart and written; see frame.h.
#include "wire/frame.h"

#include <string.h>

#define ETHERTYPE_IPV4 0x0800u
#define ETHERTYPE_ARP  0x0806u
#define ETHERTYPE_IPV6 0x86ddu
#define ETHERTYPE_VLAN 0x8100u
#define VLAN_ID_MASK   0x0fffu
#define PROTOCOL_ICMP  1u
#define PROTOCOL_UDP   17u
#define PROTOCOL_ICMP6 58u
#define HOP_LIMIT_ND   255u
#define ARP_BYTES      28u
#define ECHO_BYTES     8u
#define ND_BYTES       24u
#define ND_OPTION      8u
#define ICMP_ECHO      8u
#define ICMP_REPLY     0u
#define ICMP6_ECHO     128u
#define ICMP6_REPLY    129u
#define FRAGMENT_MASK  0x3fffu // more fragments, and the offset
#define DONT_FRAGMENT  0x4000u

static uint16_t get_be16(const unsigned char *at)
{
    return (uint16_t)((unsigned)at[0] << 8 | at[1]);
}

static void put_be16(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static void put_native16(unsigned char *at, uint16_t value)
{
    memcpy(at, &value, sizeof(value));
}

static uint16_t get_native16(const unsigned char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

// -- Checksums and addresses ---------------------------------------------------------------------

// In native order throughout: RFC 1071, section 2 (B), says that this is the same sum.
static inline uint64_t sum_add(uint64_t total, const unsigned char *bytes, uint32_t byte_count)
{
    uint32_t at = 0;

    for (; byte_count - at >= 4; at += 4) {
        uint32_t word;

        memcpy(&word, bytes + at, sizeof(word));
        total += word;
    }
    if (byte_count - at >= 2) {
        total += get_native16(bytes + at);
        at += 2;
    }
    if (at < byte_count) {
        const unsigned char last[2] = {bytes[at], 0};

        total += get_native16(last);
    }
    return total;
}

// 32 bits of it, worth the same modulo 2^16 - 1.
static inline uint32_t sum_halve(uint64_t total)
{
    total = (total & UINT32_MAX) + (total >> 32);
    total = (total & UINT32_MAX) + (total >> 32);
    return (uint32_t)total;
}

uint32_t torc_ip_sum(uint32_t sum, const unsigned char *bytes, uint32_t byte_count)
{
    return sum_halve(sum_add(sum, bytes, byte_count));
}

static uint16_t sum_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

uint16_t torc_ip_sum_end(uint32_t sum)
{
    return (uint16_t)~sum_fold(sum);
}

void torc_ip_map(uint8_t mapped[16], const uint8_t ipv4[4])
{
    memset(mapped, 0, 10);
    mapped[10] = 0xff;
    mapped[11] = 0xff;
    memcpy(mapped + 12, ipv4, 4);
}

bool torc_ip_is_mapped(const uint8_t ip[16])
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    return memcmp(ip, prefix, sizeof(prefix)) == 0;
}

// The pseudo header's sum of UDP or ICMPv6 between two addresses (RFC 768; RFC 8200, 8.1).
static uint32_t pseudo_sum(const uint8_t source[16], const uint8_t destination[16],
                           uint32_t protocol, uint32_t byte_count)
{
    unsigned char tail[4] = {0, (unsigned char)protocol, 0, 0};
    uint64_t total;

    put_be16(tail + 2, byte_count);
    total = sum_add(0, tail, sizeof(tail));
    if (torc_ip_is_mapped(source)) {
        return sum_halve(sum_add(sum_add(total, source + 12, 4), destination + 12, 4));
    }
    return sum_halve(sum_add(sum_add(total, source, 16), destination, 16));
}

static bool is_zero(const uint8_t *bytes, uint32_t byte_count)
{
    for (uint32_t i = 0; i < byte_count; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool mac_is_group(const uint8_t mac[6])
{
    return (mac[0] & 1) != 0;
}

// -- Parsing -------------------------------------------------------------------------------------

static enum torc_drop parse_udp(struct torc_frame *frame, const struct torc_frame_local *local,
                                const unsigned char *udp, uint32_t byte_count, uint32_t marks)
{
    if (byte_count < TORC_UDP_BYTES || get_be16(udp + 4) != byte_count) {
        return TORC_DROP_L4_LENGTH;
    }
    if ((marks & TORC_FRAME_MARK_L4_BAD) != 0 || (frame->is_ipv6 && get_be16(udp + 6) == 0)) {
        return TORC_DROP_L4_CHECKSUM;
    }
    frame->source_port = get_be16(udp);
    frame->destination_port = get_be16(udp + 2);
    if (frame->source_port == 0 || frame->destination_port < local->port_first ||
        frame->destination_port - local->port_first >= local->port_count) {
        return TORC_DROP_L4_PORT;
    }
    frame->kind = TORC_FRAME_UDP;
    frame->payload = udp + TORC_UDP_BYTES;
    frame->payload_bytes = byte_count - TORC_UDP_BYTES;
    return TORC_DROP_NONE;
}

static bool ipv4_source_is_wrong(const uint8_t source[4], const struct torc_frame_local *local)
{
    return source[0] == 0 || source[0] == 127 || source[0] >= 224 ||
           memcmp(source, local->ipv4, 4) == 0;
}

static enum torc_drop ipv4_header(struct torc_frame *frame, const struct torc_frame_local *local,
                                  const unsigned char *ip, uint32_t room, uint32_t marks)
{
    uint32_t head_bytes = (ip[0] & 0x0fu) * 4u;
    uint32_t total_bytes = get_be16(ip + 2);

    if (ip[0] >> 4 != 4 || head_bytes < TORC_IPV4_BYTES || total_bytes < head_bytes ||
        total_bytes > room) {
        return TORC_DROP_L3_HEADER;
    }
    if ((marks & TORC_FRAME_MARK_IP_BAD) != 0 ||
        torc_ip_sum_end(torc_ip_sum(0, ip, head_bytes)) != 0) {
        return TORC_DROP_L3_CHECKSUM;
    }
    if (head_bytes != TORC_IPV4_BYTES) {
        return TORC_DROP_L3_OPTIONS;
    }
    if ((get_be16(ip + 6) & FRAGMENT_MASK) != 0) {
        return TORC_DROP_L3_FRAGMENT;
    }
    if (ipv4_source_is_wrong(ip + 12, local)) {
        return TORC_DROP_L3_SOURCE;
    }
    if (!local->has_ipv4 || memcmp(ip + 16, local->ipv4, 4) != 0) {
        return TORC_DROP_L3_DESTINATION;
    }
    frame->congestion = ip[1] & 3;
    frame->hop_limit = ip[8];
    torc_ip_map(frame->source_ip, ip + 12);
    torc_ip_map(frame->destination_ip, ip + 16);
    return TORC_DROP_NONE;
}

static enum torc_drop parse_ipv4(struct torc_frame *frame, const struct torc_frame_local *local,
                                 const unsigned char *ip, uint32_t room, uint32_t marks)
{
    const unsigned char *message = ip + TORC_IPV4_BYTES;
    enum torc_drop drop;
    uint32_t byte_count;

    if (room < TORC_IPV4_BYTES) {
        return TORC_DROP_L3_HEADER;
    }
    if (mac_is_group(frame->destination_mac)) {
        return TORC_DROP_L2_ADDRESS;
    }
    drop = ipv4_header(frame, local, ip, room, marks);
    if (drop != TORC_DROP_NONE) {
        return drop;
    }
    byte_count = get_be16(ip + 2) - TORC_IPV4_BYTES;
    if (ip[9] == PROTOCOL_UDP) {
        return parse_udp(frame, local, message, byte_count, marks);
    }
    if (ip[9] != PROTOCOL_ICMP || byte_count < ECHO_BYTES || message[0] != ICMP_ECHO ||
        message[1] != 0) {
        return TORC_DROP_L3_PROTOCOL;
    }
    frame->kind = TORC_FRAME_ECHO;
    frame->payload = message;
    frame->payload_bytes = byte_count;
    return TORC_DROP_NONE;
}

static enum torc_drop parse_icmp6(struct torc_frame *frame, const unsigned char *message,
                                  uint32_t byte_count)
{
    if (byte_count < ECHO_BYTES) {
        return TORC_DROP_L3_PROTOCOL;
    }
    frame->payload = message;
    frame->payload_bytes = byte_count;
    if (message[0] == TORC_ND_SOLICIT || message[0] == TORC_ND_ADVERTISE) {
        frame->kind = TORC_FRAME_ND;
        return TORC_DROP_NONE;
    }
    frame->kind = TORC_FRAME_ECHO;
    return message[0] == ICMP6_ECHO && message[1] == 0 ? TORC_DROP_NONE : TORC_DROP_L3_PROTOCOL;
}

// Extension headers have numbers of their own (RFC 8200, 4; RFC 4303, 4302, 6275, 7401, 5533).
static enum torc_drop ipv6_next_header(uint8_t next)
{
    switch (next) {
    case PROTOCOL_UDP:
    case PROTOCOL_ICMP6: return TORC_DROP_NONE;
    case 44: return TORC_DROP_L3_FRAGMENT;
    case 0:
    case 43:
    case 50:
    case 51:
    case 60:
    case 135:
    case 139:
    case 140: return TORC_DROP_L3_OPTIONS;
    default: return TORC_DROP_L3_PROTOCOL;
    }
}

static bool ipv6_source_is_wrong(const uint8_t source[16], const struct torc_frame_local *local)
{
    bool is_loopback = is_zero(source, 15) && source[15] == 1;

    // A mapped one would pass for an IPv4 address, which was never reached.
    return source[0] == 0xff || is_loopback || torc_ip_is_mapped(source) ||
           memcmp(source, local->ipv6, 16) == 0;
}

static bool ipv6_is_ours(const uint8_t ip[16], const struct torc_frame_local *local, bool group_too)
{
    uint8_t group_ip[16];
    uint8_t group_mac[6];

    if (!local->has_ipv6) {
        return false;
    }
    if (memcmp(ip, local->ipv6, 16) == 0) {
        return true;
    }
    torc_nd_group(local->ipv6, group_ip, group_mac);
    return group_too && memcmp(ip, group_ip, 16) == 0;
}

static enum torc_drop parse_ipv6(struct torc_frame *frame, const struct torc_frame_local *local,
                                 const unsigned char *ip, uint32_t room, uint32_t marks)
{
    const unsigned char *message = ip + TORC_IPV6_BYTES;
    enum torc_drop drop;
    uint32_t byte_count;
    bool is_solicit;

    if (room < TORC_IPV6_BYTES || ip[0] >> 4 != 6) {
        return TORC_DROP_L3_HEADER;
    }
    byte_count = get_be16(ip + 4);
    if (byte_count > room - TORC_IPV6_BYTES) {
        return TORC_DROP_L3_HEADER;
    }
    drop = ipv6_next_header(ip[6]);
    if (drop != TORC_DROP_NONE) {
        return drop;
    }
    is_solicit = ip[6] == PROTOCOL_ICMP6 && byte_count > 0 && message[0] == TORC_ND_SOLICIT;
    if (ipv6_source_is_wrong(ip + 8, local) || (is_zero(ip + 8, 16) && !is_solicit)) {
        return TORC_DROP_L3_SOURCE;
    }
    if (!ipv6_is_ours(ip + 24, local, is_solicit)) {
        return TORC_DROP_L3_DESTINATION;
    }
    if (mac_is_group(frame->destination_mac) && !is_solicit) {
        return TORC_DROP_L2_ADDRESS;
    }
    frame->is_ipv6 = true;
    frame->congestion = (ip[1] >> 4) & 3;
    frame->hop_limit = ip[7];
    memcpy(frame->source_ip, ip + 8, 16);
    memcpy(frame->destination_ip, ip + 24, 16);
    return ip[6] == PROTOCOL_UDP ? parse_udp(frame, local, message, byte_count, marks)
                                 : parse_icmp6(frame, message, byte_count);
}

// Ethernet and a tag: where the rest begins, and its type.
static enum torc_drop parse_ether(struct torc_frame *frame, const struct torc_frame_local *local,
                                  const unsigned char *bytes, uint32_t byte_count, uint16_t *type)
{
    if (byte_count < TORC_ETHER_BYTES) {
        return TORC_DROP_L2_SHORT;
    }
    memcpy(frame->destination_mac, bytes, 6);
    memcpy(frame->source_mac, bytes + 6, 6);
    if (mac_is_group(frame->source_mac) || (!mac_is_group(frame->destination_mac) &&
                                            memcmp(frame->destination_mac, local->mac, 6) != 0)) {
        return TORC_DROP_L2_ADDRESS;
    }
    frame->l3_offset = TORC_ETHER_BYTES;
    *type = get_be16(bytes + 12);
    if ((*type == ETHERTYPE_VLAN) != (local->vlan != 0)) {
        return TORC_DROP_L2_TYPE;
    }
    if (*type == ETHERTYPE_VLAN) {
        if (byte_count < TORC_ETHER_BYTES + TORC_VLAN_BYTES) {
            return TORC_DROP_L2_SHORT;
        }
        if ((get_be16(bytes + 14) & VLAN_ID_MASK) != local->vlan) {
            return TORC_DROP_L2_TYPE;
        }
        *type = get_be16(bytes + 16);
        frame->l3_offset += TORC_VLAN_BYTES;
    }
    return TORC_DROP_NONE;
}

enum torc_drop torc_frame_parse(struct torc_frame *frame, const struct torc_frame_local *local,
                                const unsigned char *bytes, uint32_t byte_count, uint32_t marks)
{
    uint16_t type = 0;
    enum torc_drop drop;
    const unsigned char *rest;
    uint32_t room;

    memset(frame, 0, sizeof(*frame));
    drop = parse_ether(frame, local, bytes, byte_count, &type);
    if (drop != TORC_DROP_NONE) {
        return drop;
    }
    rest = bytes + frame->l3_offset;
    room = byte_count - frame->l3_offset;
    switch (type) {
    case ETHERTYPE_IPV4: return parse_ipv4(frame, local, rest, room, marks);
    case ETHERTYPE_IPV6: return parse_ipv6(frame, local, rest, room, marks);
    case ETHERTYPE_ARP:
        frame->kind = TORC_FRAME_ARP;
        frame->payload = rest;
        frame->payload_bytes = room;
        return TORC_DROP_NONE;
    default: return TORC_DROP_L2_TYPE;
    }
}

// -- Writing -------------------------------------------------------------------------------------

static unsigned char *put_ether(unsigned char *at, const uint8_t source[6],
                                const uint8_t destination[6], uint16_t vlan, uint32_t type)
{
    memcpy(at, destination, 6);
    memcpy(at + 6, source, 6);
    at += 12;
    if (vlan != 0) {
        put_be16(at, ETHERTYPE_VLAN);
        put_be16(at + 2, vlan);
        at += TORC_VLAN_BYTES;
    }
    put_be16(at, type);
    return at + 2;
}

// What an IP header needs to be written.
struct ip_head {
    const uint8_t *source; // 16 bytes
    const uint8_t *destination;
    uint32_t message_bytes;
    uint8_t protocol;
    uint8_t congestion;
    uint8_t hop_limit;
    bool offload;
};

static unsigned char *put_ipv4(unsigned char *at, const struct ip_head *head)
{
    memset(at, 0, TORC_IPV4_BYTES);
    at[0] = 0x45;
    at[1] = head->congestion;
    put_be16(at + 2, TORC_IPV4_BYTES + head->message_bytes);
    put_be16(at + 6, DONT_FRAGMENT);
    at[8] = head->hop_limit;
    at[9] = head->protocol;
    memcpy(at + 12, head->source + 12, 4);
    memcpy(at + 16, head->destination + 12, 4);
    if (!head->offload) {
        put_native16(at + 10, torc_ip_sum_end(torc_ip_sum(0, at, TORC_IPV4_BYTES)));
    }
    return at + TORC_IPV4_BYTES;
}

static unsigned char *put_ipv6(unsigned char *at, const struct ip_head *head)
{
    memset(at, 0, TORC_IPV6_BYTES);
    at[0] = 0x60;
    at[1] = (unsigned char)(head->congestion << 4);
    put_be16(at + 4, head->message_bytes);
    at[6] = head->protocol;
    at[7] = head->hop_limit;
    memcpy(at + 8, head->source, 16);
    memcpy(at + 24, head->destination, 16);
    return at + TORC_IPV6_BYTES;
}

void torc_frame_udp_reply(struct torc_frame_udp *udp, const struct torc_frame *frame,
                          const uint8_t source_mac[6], uint16_t vlan)
{
    torc_assert(frame->kind == TORC_FRAME_UDP);
    *udp = (struct torc_frame_udp){.source_port = frame->destination_port,
                                   .destination_port = frame->source_port,
                                   .vlan = vlan};
    memcpy(udp->source_mac, source_mac, 6);
    memcpy(udp->destination_mac, frame->source_mac, 6);
    memcpy(udp->source_ip, frame->destination_ip, 16);
    memcpy(udp->destination_ip, frame->source_ip, 16);
}

uint32_t torc_frame_udp_head_bytes(const struct torc_frame_udp *udp)
{
    return TORC_ETHER_BYTES + (udp->vlan != 0 ? TORC_VLAN_BYTES : 0) +
           (torc_ip_is_mapped(udp->source_ip) ? TORC_IPV4_BYTES : TORC_IPV6_BYTES) + TORC_UDP_BYTES;
}

uint32_t torc_frame_udp_write(unsigned char *frame, const struct torc_frame_udp *udp,
                              uint32_t payload_bytes)
{
    bool is_ipv4 = torc_ip_is_mapped(udp->source_ip);
    uint32_t udp_bytes = TORC_UDP_BYTES + payload_bytes;
    struct ip_head head = {.source = udp->source_ip,
                           .destination = udp->destination_ip,
                           .message_bytes = udp_bytes,
                           .protocol = PROTOCOL_UDP,
                           .congestion = udp->congestion,
                           .hop_limit = TORC_HOP_LIMIT,
                           .offload = udp->ip_offload};
    uint32_t sum = pseudo_sum(udp->source_ip, udp->destination_ip, PROTOCOL_UDP, udp_bytes);
    unsigned char *at;
    uint16_t checksum;

    torc_assert(is_ipv4 == torc_ip_is_mapped(udp->destination_ip));
    torc_assert(udp_bytes <= UINT16_MAX - TORC_IPV4_BYTES);
    at = put_ether(frame, udp->source_mac, udp->destination_mac, udp->vlan,
                   is_ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    at = is_ipv4 ? put_ipv4(at, &head) : put_ipv6(at, &head);
    put_be16(at, udp->source_port);
    put_be16(at + 2, udp->destination_port);
    put_be16(at + 4, udp_bytes);
    put_be16(at + 6, 0);
    if (udp->l4_offload) {
        checksum = sum_fold(sum);
    } else {
        checksum = torc_ip_sum_end(torc_ip_sum(sum, at, udp_bytes));
        // Zero would say "no checksum" (RFC 768).
        checksum = checksum == 0 ? 0xffff : checksum;
    }
    put_native16(at + 6, checksum);
    return (uint32_t)(at - frame) + udp_bytes;
}

// -- ARP -----------------------------------------------------------------------------------------

static const unsigned char arp_head[6] = {0, 1, 8, 0, 6, 4}; // Ethernet, IPv4, their lengths

enum torc_drop torc_arp_decode(struct torc_arp *arp, const struct torc_frame *frame)
{
    const unsigned char *at = frame->payload;

    torc_assert(frame->kind == TORC_FRAME_ARP);
    if (frame->payload_bytes < ARP_BYTES || memcmp(at, arp_head, sizeof(arp_head)) != 0) {
        return TORC_DROP_NEIGHBOUR;
    }
    *arp = (struct torc_arp){.operation = get_be16(at + 6)};
    memcpy(arp->sender_mac, at + 8, 6);
    memcpy(arp->sender_ip, at + 14, 4);
    memcpy(arp->target_mac, at + 18, 6);
    memcpy(arp->target_ip, at + 24, 4);
    if ((arp->operation != TORC_ARP_REQUEST && arp->operation != TORC_ARP_REPLY) ||
        mac_is_group(arp->sender_mac) || is_zero(arp->sender_mac, 6) || arp->sender_ip[0] >= 224) {
        return TORC_DROP_NEIGHBOUR;
    }
    return TORC_DROP_NONE;
}

uint32_t torc_arp_write(unsigned char *frame, const struct torc_arp *arp, uint16_t vlan)
{
    static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    unsigned char *at = put_ether(frame, arp->sender_mac,
                                  arp->operation == TORC_ARP_REQUEST ? broadcast : arp->target_mac,
                                  vlan, ETHERTYPE_ARP);

    torc_assert(arp->operation == TORC_ARP_REQUEST || arp->operation == TORC_ARP_REPLY);
    memcpy(at, arp_head, sizeof(arp_head));
    put_be16(at + 6, arp->operation);
    memcpy(at + 8, arp->sender_mac, 6);
    memcpy(at + 14, arp->sender_ip, 4);
    memcpy(at + 18, arp->target_mac, 6);
    memcpy(at + 24, arp->target_ip, 4);
    return (uint32_t)(at - frame) + ARP_BYTES;
}

// -- Neighbour discovery -------------------------------------------------------------------------

void torc_nd_group(const uint8_t ip[16], uint8_t group_ip[16], uint8_t group_mac[6])
{
    static const uint8_t group_prefix[13] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
    static const uint8_t mac_prefix[3] = {0x33, 0x33, 0xff};

    memcpy(group_ip, group_prefix, sizeof(group_prefix));
    memcpy(group_ip + 13, ip + 13, 3);
    memcpy(group_mac, mac_prefix, sizeof(mac_prefix));
    memcpy(group_mac + 3, ip + 13, 3);
}

static bool icmp_sum_is_right(const struct torc_frame *frame)
{
    uint32_t sum = frame->is_ipv6 ? pseudo_sum(frame->source_ip, frame->destination_ip,
                                               PROTOCOL_ICMP6, frame->payload_bytes)
                                  : 0;

    return torc_ip_sum_end(torc_ip_sum(sum, frame->payload, frame->payload_bytes)) == 0;
}

// Options from `at` on; false: one has no length or runs over the end (RFC 4861, 7.1).
static bool nd_options(struct torc_nd *nd, const unsigned char *at, uint32_t byte_count)
{
    uint8_t wanted = nd->kind == TORC_ND_SOLICIT ? 1 : 2; // source's, target's link-layer address

    while (byte_count > 0) {
        uint32_t option_bytes = byte_count >= 2 ? at[1] * 8u : 0;

        if (option_bytes == 0 || option_bytes > byte_count) {
            return false;
        }
        if (at[0] == wanted && option_bytes == ND_OPTION) {
            memcpy(nd->mac, at + 2, 6);
            nd->has_mac = true;
        }
        at += option_bytes;
        byte_count -= option_bytes;
    }
    return true;
}

enum torc_drop torc_nd_decode(struct torc_nd *nd, const struct torc_frame *frame)
{
    const unsigned char *at = frame->payload;
    bool from_nowhere = is_zero(frame->source_ip, 16);
    bool to_group = frame->destination_ip[0] == 0xff;

    torc_assert(frame->kind == TORC_FRAME_ND);
    if (!icmp_sum_is_right(frame)) {
        return TORC_DROP_L4_CHECKSUM;
    }
    if (frame->payload_bytes < ND_BYTES || frame->hop_limit != HOP_LIMIT_ND || at[1] != 0) {
        return TORC_DROP_NEIGHBOUR;
    }
    *nd = (struct torc_nd){.kind = at[0], .flags = at[4]};
    memcpy(nd->target, at + 8, 16);
    if (nd->target[0] == 0xff || !nd_options(nd, at + ND_BYTES, frame->payload_bytes - ND_BYTES)) {
        return TORC_DROP_NEIGHBOUR;
    }
    if (nd->kind == TORC_ND_SOLICIT && from_nowhere && (!to_group || nd->has_mac)) {
        return TORC_DROP_NEIGHBOUR;
    }
    if (nd->kind == TORC_ND_ADVERTISE && to_group && (nd->flags & TORC_ND_SOLICITED) != 0) {
        return TORC_DROP_NEIGHBOUR;
    }
    return nd->has_mac && mac_is_group(nd->mac) ? TORC_DROP_NEIGHBOUR : TORC_DROP_NONE;
}

uint32_t torc_nd_write(unsigned char *frame, const struct torc_nd *nd,
                       const struct torc_nd_way *way)
{
    uint32_t message_bytes = ND_BYTES + (nd->has_mac ? ND_OPTION : 0);
    struct ip_head head = {.source = way->source_ip,
                           .destination = way->destination_ip,
                           .message_bytes = message_bytes,
                           .protocol = PROTOCOL_ICMP6,
                           .hop_limit = HOP_LIMIT_ND};
    unsigned char *at = put_ipv6(
        put_ether(frame, way->source_mac, way->destination_mac, way->vlan, ETHERTYPE_IPV6), &head);
    uint32_t sum = pseudo_sum(way->source_ip, way->destination_ip, PROTOCOL_ICMP6, message_bytes);

    torc_assert(nd->kind == TORC_ND_SOLICIT || nd->kind == TORC_ND_ADVERTISE);
    memset(at, 0, message_bytes);
    at[0] = nd->kind;
    at[4] = nd->flags;
    memcpy(at + 8, nd->target, 16);
    if (nd->has_mac) {
        at[ND_BYTES] = nd->kind == TORC_ND_SOLICIT ? 1 : 2;
        at[ND_BYTES + 1] = 1;
        memcpy(at + ND_BYTES + 2, nd->mac, 6);
    }
    put_native16(at + 2, torc_ip_sum_end(torc_ip_sum(sum, at, message_bytes)));
    return (uint32_t)(at - frame) + message_bytes;
}

// -- Echo ----------------------------------------------------------------------------------------

uint32_t torc_echo_write(unsigned char *out, uint32_t room, const struct torc_frame *frame,
                         const uint8_t source_mac[6], uint16_t vlan)
{
    uint32_t head_bytes = TORC_ETHER_BYTES + (vlan != 0 ? TORC_VLAN_BYTES : 0) +
                          (frame->is_ipv6 ? TORC_IPV6_BYTES : TORC_IPV4_BYTES);
    struct ip_head head = {.source = frame->destination_ip,
                           .destination = frame->source_ip,
                           .message_bytes = frame->payload_bytes,
                           .protocol = frame->is_ipv6 ? PROTOCOL_ICMP6 : PROTOCOL_ICMP,
                           .hop_limit = TORC_HOP_LIMIT};
    uint32_t sum = 0;
    unsigned char *at;

    torc_assert(frame->kind == TORC_FRAME_ECHO);
    if (frame->payload_bytes > room || head_bytes > room - frame->payload_bytes ||
        !icmp_sum_is_right(frame)) {
        return 0;
    }
    at = put_ether(out, source_mac, frame->source_mac, vlan,
                   frame->is_ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    at = frame->is_ipv6 ? put_ipv6(at, &head) : put_ipv4(at, &head);
    memcpy(at, frame->payload, frame->payload_bytes);
    at[0] = frame->is_ipv6 ? ICMP6_REPLY : ICMP_REPLY;
    put_be16(at + 2, 0);
    if (frame->is_ipv6) {
        sum = pseudo_sum(head.source, head.destination, PROTOCOL_ICMP6, head.message_bytes);
    }
    put_native16(at + 2, torc_ip_sum_end(torc_ip_sum(sum, at, head.message_bytes)));
    return head_bytes + head.message_bytes;
}
