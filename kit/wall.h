// Torc kit: the clock that stamps (H3): the monotonic clock plus an offset.
//
// What    follows the system's clock without its steps: the offset moves by a sixteenth of the time
//         that passes, so a step of a second is made good in 16 s, and time never stands still.
//         Where other nodes are heard, their median (own opinion included) is believed more: a node
//         over TORC_WALL_APART_US behind it uses the median at once, one ahead of it too, unless it
//         has stamped so already; then it goes slowly. A node that starts, and can serve nothing
//         before it hears others, goes on from its log's last stamp until it has heard them.
//         Stamps cannot be taken back: where they are far ahead of the nodes' clocks (all were set
//         back, say), a node that comes without a log goes on from what most of the others hold.
// Owner   one thread.  Memory  the struct, zeroed.
// Why     One node whose clock was set wrong would stamp hours ahead and take every node with it
//         that hears it; slower ones would refuse all that comes. Order is kept by HLCs whatever
//         the clocks say: this only bounds how far stamps are from the time of day.
// Units   offsets are microseconds to add to the monotonic clock; negative ones are possible.
// Sources REPLICATION.md H3; the rate is near the largest that chrony slews by (maxslewrate).
#ifndef TORC_KIT_WALL_H
#define TORC_KIT_WALL_H

#include "kit/base.h"

#define TORC_WALL_SLEW     16
#define TORC_WALL_APART_US INT64_C(1000000) // max_ahead / 2
// No node holds an HLC that far ahead of its clock but from others' logs, or because most do: it
// takes 2 max_ahead of one node, and clocks that are believed are 2 APART apart.
#define TORC_WALL_HELD_US INT64_C(6000000)
// The year 2103: nine years short of what an HLC holds, so that nobody is led to its end.
#define TORC_WALL_US_MAX  ((UINT64_C(1) << 52) - (UINT64_C(1) << 48))
#define TORC_WALL_UNKNOWN INT64_MIN // there is no median

struct torc_wall {
    bool begun;
    uint64_t moved_ns; // when the offsets were last looked at
    int64_t own_us;    // slewed after the system's clock: what this node tells others
    int64_t used_us;   // what it stamps by
    uint64_t hold_ns;  // until then `used_us` waits for a median
};

struct torc_wall_look {
    uint64_t now_ns; // monotonic, never back
    uint64_t system_us;
    uint64_t stamped_us; // of the highest HLC held, here or by most of the nodes
    int64_t median_us;   // of the nodes; TORC_WALL_UNKNOWN
};

// The time of day to stamp with.
uint64_t torc_wall_step(struct torc_wall *wall, const struct torc_wall_look *look);

// From the last stamp on, for `hold_ns` at most, or until there is a median.
void torc_wall_hold(struct torc_wall *wall, uint64_t now_ns, uint64_t stamped_us, uint64_t hold_ns);

// Not behind `wall_us`: what is stamped already goes on from there, and slowly back.
void torc_wall_floor(struct torc_wall *wall, uint64_t now_ns, uint64_t wall_us);

// The offset that shows `wall_us` at `now_ns`.
static inline int64_t torc_wall_offset_us(uint64_t wall_us, uint64_t now_ns)
{
    return (int64_t)wall_us - (int64_t)(now_ns / 1000);
}

// The median of `count` offsets, the first of them this node's; sorts them. Of two there is one
// when they agree: this node's. Else nobody can say who is wrong. Where `missing` more may come,
// there is one if it hardly matters what they are: the first to be heard may be the wrong ones.
int64_t torc_wall_median_us(int64_t *offsets_us, uint32_t count, uint32_t missing);

#endif
