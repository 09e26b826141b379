// Torc dataplane: ARP, neighbour discovery and echo, answered.
//
// What    the answer to one such frame, for the addresses that are ours on its port. Nothing is
//         learned: replies go back to where their request came from. And the announcement of an
//         address, for those who still know it by an earlier life's Ethernet address.
// Owner   the worker that received the frame.  Memory  none.
// Bound   an answer is never longer than its question; the caller limits echo (1000 a second).
// Sources RFC 826, 792, 4443, 4861; WIRE.md, section 5.
#ifndef TORC_DATAPLANE_NEIGHBOUR_H
#define TORC_DATAPLANE_NEIGHBOUR_H

#include "wire/frame.h"

// Writes the answer to an ARP, ND or echo frame into `out` (`room` bytes); its bytes, or 0 and
// *reason why there is none. An advertisement or an ARP reply, which nobody asked for, is
// NEIGHBOUR.
uint32_t torc_neighbour_answer(const struct torc_frame *frame, const struct torc_frame_local *local,
                               unsigned char *out, uint32_t room, enum torc_drop *reason);

// Writes a gratuitous ARP (IPv4) or an unsolicited advertisement (IPv6); its bytes, 0: no such
// address.
uint32_t torc_neighbour_announce(const struct torc_frame_local *local, bool is_ipv6,
                                 unsigned char *out, uint32_t room);

#endif
