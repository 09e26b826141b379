// Torc client: timers of operations and nodes, on one wheel.
//
// What    TORC_WHEEL_SLOTS slots of 2^TORC_WHEEL_SHIFT ns; a timer further away than one turn stays
//         in its slot and is passed over until its turn comes. Set, move and stop are O(1).
// Owner   the queue's thread.
// Memory  the links are the caller's array: one for each timer, named by its index.
// Invariants
//   W1  a timer fires at the first expire() whose time has passed it, and not before.
// Sources Varghese and Lauck, "Hashed and hierarchical timing wheels", SOSP 1987.
#ifndef TORC_CLIENT_WHEEL_H
#define TORC_CLIENT_WHEEL_H

#include "kit/base.h"

#include <string.h>

#define TORC_WHEEL_SLOTS 1024u
#define TORC_WHEEL_SHIFT \
    16u // 66 us a slot, 67 ms a turn: most timers are reset long before they fire
#define TORC_WHEEL_NONE UINT32_MAX
#define TORC_WHEEL_HEAD 0x80000000u // in `previous`: the slot whose first link this is

struct torc_wheel_link {
    uint64_t at_ns; // 0: not set
    uint32_t next;
    uint32_t previous;
};

struct torc_wheel {
    struct torc_wheel_link *links;
    uint32_t count;
    uint64_t done_tick; // all slots up to this tick were looked at
    uint64_t busy[TORC_WHEEL_SLOTS / 64];
    uint32_t heads[TORC_WHEEL_SLOTS];
};

void torc_wheel_init(struct torc_wheel *wheel, struct torc_wheel_link *links, uint32_t count,
                     uint64_t now_ns);

// Sets or moves timer `index`.
void torc_wheel_set(struct torc_wheel *wheel, uint32_t index, uint64_t at_ns);
void torc_wheel_stop(struct torc_wheel *wheel, uint32_t index);

// Takes one timer whose time has come off the wheel; TORC_WHEEL_NONE when there is none. Call it
// until then.
uint32_t torc_wheel_expire(struct torc_wheel *wheel, uint64_t now_ns);

// When to look again; UINT64_MAX when no timer is set. May be early by a slot or a turn, never
// late.
uint64_t torc_wheel_deadline_ns(const struct torc_wheel *wheel);

#endif
