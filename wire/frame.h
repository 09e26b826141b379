// Torc wire: Ethernet, IPv4, IPv6, UDP, and the three small protocols beside them.
//
// What    a frame's headers taken apart with every check that comes before the payload, and frames
//         written with right checksums. Used by nodes (dataplane) and by clients on memif.
// Owner   none: pure functions over the caller's bytes.
// Memory  none. A parsed frame points into the bytes it was made from.
// Checks  (each has its reason in wire/drop.h) Ethernet address and type, one 802.1Q tag if
//         configured; IP header, its checksum, fragments, options, addresses; UDP length, ports.
//         A received UDP checksum is not verified: each packet carries a stronger check, and kernel
//         senders on a veth leave it unfinished. Zero over IPv6 is refused. Frame bytes behind the
//         IP packet are padding and ignored; the UDP length may not exceed what IP says, nor
//         differ.
// Sources RFC 768, 791, 826, 792, 4443, 4861, 8200; WIRE.md, section 5.
#ifndef TORC_WIRE_FRAME_H
#define TORC_WIRE_FRAME_H

#include "kit/base.h"
#include "kit/le.h"
#include "wire/drop.h"

#define TORC_ETHER_BYTES     14u
#define TORC_VLAN_BYTES      4u
#define TORC_IPV4_BYTES      20u
#define TORC_IPV6_BYTES      40u
#define TORC_UDP_BYTES       8u
#define TORC_FRAME_HEAD_MAX  (TORC_ETHER_BYTES + TORC_VLAN_BYTES + TORC_IPV6_BYTES + TORC_UDP_BYTES)
#define TORC_ARP_FRAME_BYTES 46u // 14 + 4 (tag) + 28: the most that torc_arp_write writes
#define TORC_ND_FRAME_BYTES  90u // 14 + 4 + 40 + 32
#define TORC_HOP_LIMIT       64u

// -- What is received ----------------------------------------------------------------------------

// Who we are on this port.
struct torc_frame_local {
    uint8_t mac[6];
    uint8_t has_ipv4;
    uint8_t has_ipv6;
    uint8_t ipv4[4];
    uint8_t ipv6[16];
    uint16_t vlan;       // 802.1Q id that frames must carry; 0: frames are untagged
    uint16_t port_first; // UDP ports that are ours: [port_first, port_first + port_count)
    uint16_t port_count;
    uint8_t zero[6];
};

// What the device found out; the same numbers as TORC_FRAME_IP_BAD and TORC_FRAME_L4_BAD of
// dataplane/worker.h.
enum torc_frame_mark {
    TORC_FRAME_MARK_IP_BAD = 1,
    TORC_FRAME_MARK_L4_BAD = 2
};

enum torc_frame_kind {
    TORC_FRAME_UDP = 1,
    TORC_FRAME_ARP, // `payload` is the ARP message: torc_arp_decode
    TORC_FRAME_ND,  // `payload` is a neighbour solicitation or advertisement: torc_nd_decode
    TORC_FRAME_ECHO // an echo request: torc_echo_write answers it
};

struct torc_frame {
    enum torc_frame_kind kind;
    bool is_ipv6;
    uint8_t congestion; // the two ECN bits; 3 = congestion experienced
    uint8_t hop_limit;
    uint8_t source_mac[6];
    uint8_t destination_mac[6];
    uint8_t source_ip[16]; // IPv4 is mapped (::ffff:a.b.c.d); ARP: zero
    uint8_t destination_ip[16];
    uint16_t source_port; // UDP only
    uint16_t destination_port;
    uint32_t l3_offset; // where the IP header begins in the frame
    uint32_t payload_bytes;
    const unsigned char *payload; // UDP: behind the UDP header; ICMP: its type byte
};

// TORC_DROP_NONE and the frame, or why it is dropped. `marks`: enum torc_frame_mark.
enum torc_drop torc_must_use torc_frame_parse(struct torc_frame *frame,
                                              const struct torc_frame_local *local,
                                              const unsigned char *bytes, uint32_t byte_count,
                                              uint32_t marks);

// -- UDP, written --------------------------------------------------------------------------------

struct torc_frame_udp {
    uint8_t source_mac[6];
    uint8_t destination_mac[6];
    uint8_t source_ip[16]; // both IPv4 (mapped) or both IPv6
    uint8_t destination_ip[16];
    uint16_t source_port;
    uint16_t destination_port;
    uint16_t vlan;      // 0: untagged
    uint8_t congestion; // ECN bits: 0, or 2 for ECT(0)
    bool ip_offload;    // leave the IPv4 header's checksum 0, the device makes it
    bool l4_offload;    // leave the pseudo header's sum in the UDP checksum, the device ends it
};

// Addresses for the answer to a received frame; `congestion` and offloads are the caller's.
void torc_frame_udp_reply(struct torc_frame_udp *udp, const struct torc_frame *frame,
                          const uint8_t source_mac[6], uint16_t vlan);

// Bytes before the payload: 42, 46, 62 or 66.
uint32_t torc_frame_udp_head_bytes(const struct torc_frame_udp *udp);

// Writes the headers before a payload that already lies at frame + torc_frame_udp_head_bytes().
// Returns the whole frame's bytes.
uint32_t torc_frame_udp_write(unsigned char *frame, const struct torc_frame_udp *udp,
                              uint32_t payload_bytes);

// -- Addresses -----------------------------------------------------------------------------------

void torc_ip_map(uint8_t mapped[16], const uint8_t ipv4[4]);
bool torc_ip_is_mapped(const uint8_t ip[16]);

// Sum of RFC 1071 over `bytes`, added to `sum` (0 to begin, or another part's; every part but the
// last has an even length), not yet folded.
uint32_t torc_ip_sum(uint32_t sum, const unsigned char *bytes, uint32_t byte_count);

// Folded and inverted: the checksum as it stands in a header, in network order once stored with
// memcpy.
uint16_t torc_ip_sum_end(uint32_t sum);

// -- ARP -----------------------------------------------------------------------------------------

enum torc_arp_operation {
    TORC_ARP_REQUEST = 1,
    TORC_ARP_REPLY = 2
};

struct torc_arp {
    uint16_t operation; // enum torc_arp_operation
    uint8_t sender_mac[6];
    uint8_t sender_ip[4];
    uint8_t target_mac[6]; // of a request: zero
    uint8_t target_ip[4];
    uint16_t zero;
};

// The message of a TORC_FRAME_ARP frame. TORC_DROP_NEIGHBOUR: not Ethernet and IPv4, an unknown
// operation, or a sender that is a group or zero.
enum torc_drop torc_must_use torc_arp_decode(struct torc_arp *arp, const struct torc_frame *frame);

// Writes a frame; a request goes to the broadcast address, a reply to the target. Its bytes.
uint32_t torc_arp_write(unsigned char *frame, const struct torc_arp *arp, uint16_t vlan);

// -- Neighbour discovery -------------------------------------------------------------------------

enum torc_nd_kind {
    TORC_ND_SOLICIT = 135,
    TORC_ND_ADVERTISE = 136
};

#define TORC_ND_SOLICITED 0x40u // flags of an advertisement
#define TORC_ND_OVERRIDE  0x20u

struct torc_nd {
    uint8_t kind;  // enum torc_nd_kind
    uint8_t flags; // of an advertisement
    bool has_mac;
    uint8_t mac[6]; // link-layer address option: source's of a solicitation, target's of the other
    uint8_t target[16];
};

// TORC_DROP_NEIGHBOUR, or TORC_DROP_L4_CHECKSUM. Checks all of RFC 4861, 7.1, hop limit 255
// included.
enum torc_drop torc_must_use torc_nd_decode(struct torc_nd *nd, const struct torc_frame *frame);

// Where an ND frame goes.
struct torc_nd_way {
    uint8_t source_mac[6];
    uint8_t destination_mac[6];
    uint8_t source_ip[16];
    uint8_t destination_ip[16];
    uint16_t vlan;
};

// Writes a frame with `nd->mac` as its option when has_mac. Its bytes.
uint32_t torc_nd_write(unsigned char *frame, const struct torc_nd *nd,
                       const struct torc_nd_way *way);

// The solicited-node group of an address: its IP and Ethernet address (RFC 4291, 2.7.1).
void torc_nd_group(const uint8_t ip[16], uint8_t group_ip[16], uint8_t group_mac[6]);

// -- Echo ----------------------------------------------------------------------------------------

// Writes the answer to a TORC_FRAME_ECHO frame: never longer than the question. 0: the question's
// checksum is wrong, or it does not fit into `room`.
uint32_t torc_echo_write(unsigned char *out, uint32_t room, const struct torc_frame *frame,
                         const uint8_t source_mac[6], uint16_t vlan);

#endif
