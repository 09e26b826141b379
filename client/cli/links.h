// Torc cli: the kernel links of a node, and the commands that make them.
//
// What    the list of steps that make what is missing, each a command that a person could type:
//           torc<i>   the node's end: no address, IPv6 off: the dataplane answers for it
//           torc<i>h  the host's end: .1 and ::1 of the node's networks, transmit checksum offload
//                     off
//           torcbr    from the second node on: holds the host's addresses and all host's ends
// Owner   none: pure functions; the edge (links_os.h) looks and acts.
// Why     a kernel sender leaves the checksum of its UDP packets unfinished on a link that
//         promises to finish it; a veth promises and does not (FIELDNOTES.md, section 2). IPv6 is
//         off on the node's end, or the kernel would talk there too. `nodad`: an address under
//         duplicate detection is dead for its first second. The MAC address follows from the
//         node's IP address: neighbours remember it over a restart of the node, for which the link
//         is made anew.
// Undo    a step that made something carries the command that removes it. The bridge is shared: it
//         is removed by whichever node leaves it empty.
#ifndef TORC_CLIENT_CLI_LINKS_H
#define TORC_CLIENT_CLI_LINKS_H

#include "kit/fail.h"

#define TORC_LINKS_NAME_BYTES    16 // the kernel's IFNAMSIZ
#define TORC_LINKS_ADDRESS_BYTES 64
#define TORC_LINKS_MAC_BYTES     18
#define TORC_LINKS_COMMAND_BYTES 192
#define TORC_LINKS_STEPS_MAX     32
#define TORC_LINKS_BRIDGE        "torcbr"

// What a node wants.
struct torc_links {
    bool wanted; // false for memif alone, and for a NIC: nothing is made
    bool tap;    // the dataplane makes `near`; only the host's addresses are ours
    char near[TORC_LINKS_NAME_BYTES];        // torc1
    char far[TORC_LINKS_NAME_BYTES];         // torc1h
    char address[TORC_LINKS_ADDRESS_BYTES];  // the node's: 10.79.0.11; empty: off
    char address6[TORC_LINKS_ADDRESS_BYTES]; // fd79::b
    char host[TORC_LINKS_ADDRESS_BYTES];     // 10.79.0.1/24; empty: off
    char host6[TORC_LINKS_ADDRESS_BYTES];    // fd79::1/64
    char mac[TORC_LINKS_MAC_BYTES];          // of a link that is made
    uint32_t queue_count;                    // of a link that is made: one a worker
    uint32_t mtu;
};

// What there is already.
struct torc_links_seen {
    bool near;
    bool bridge;
    char holder[TORC_LINKS_NAME_BYTES]; // the link with the host's addresses; empty: none
};

struct torc_links_step {
    char command[TORC_LINKS_COMMAND_BYTES]; // words parted by blanks; or `echo VALUE > FILE`
    char undo[TORC_LINKS_COMMAND_BYTES];    // empty: nothing to remove
    bool may_fail;                          // a wish, not a need: IPv6, an offload a driver lacks
};

struct torc_links_plan {
    uint32_t count;
    struct torc_links_step steps[TORC_LINKS_STEPS_MAX];
};

// The steps from what was seen to what is wanted; none when the node's link is there. IN_USE when
// the host's address is on a link that is none of ours.
enum torc_err torc_must_use torc_links_steps(const struct torc_links *links,
                                             const struct torc_links_seen *seen,
                                             struct torc_links_plan *plan, struct torc_fail *why);

// The steps for a tap that the dataplane has just made.
void torc_links_tap_steps(const struct torc_links *links, struct torc_links_plan *plan);

#endif
