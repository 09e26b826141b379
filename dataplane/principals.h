// Torc dataplane: who may have sessions, what those may do, and which have lost it.
//
// What    the table of principals that control hands over: the session thread looks a client's key
//         up in it, counts sessions, and asks after a reload which sessions must end.
// Owner   the session thread. Workers read a struct torc_rights through their session's record.
// Memory  torc_principals_bytes() of the caller's, touched as far as it is used; fixed for life.
//         It holds secrets: the shell locks it and keeps it out of core dumps; what is removed is
//         wiped.
// Reload  torc_principals_load takes a whole table or nothing. A principal that is the same keeps
//         its place and its sessions; one that is gone, whose roles or ranges differ, or none of
//         whose keys is left (its number was given away), is ended, and its place rests until its
//         last session has been let go. A place is therefore never used for two at once: see P2.
// Sessions  torc_principals_open counts lanes, _close when one ends, _release when no worker can
//         see it any more.
// Invariants
//   P1  A search always gives a secret to check against, that of a dummy for nobody: a stranger
//       learns nothing from the time.
//   P2  What a struct torc_rights says does not change while a session of it is held.
//   P3  A key's serial is never used twice: a key that is removed and added again is another one.
// Sources WIRE.md, sections 1 and 6.
#ifndef TORC_DATAPLANE_PRINCIPALS_H
#define TORC_DATAPLANE_PRINCIPALS_H

#include "kit/chan.h"
#include "kit/fail.h"

#define TORC_PRINCIPAL_NOBODY UINT32_MAX

// What sessions of a principal may do.
struct torc_rights {
    uint32_t number;
    uint32_t roles;       // enum torc_role
    uint32_t range_count; // 0: all keys
    uint32_t zero;
    struct torc_chan_range ranges[TORC_CHAN_RANGES_MAX]; // rising, apart from each other
};

struct torc_principals;

struct torc_principal_found {
    const struct torc_rights *rights; // NULL: nobody has this number and key
    const uint8_t *psk;               // 32 bytes, never NULL (P1); good until the next load
    uint32_t place;                   // TORC_PRINCIPAL_NOBODY
    uint32_t key_serial;
};

enum torc_principal_fate {
    TORC_FATE_STAYS,
    TORC_FATE_KEY_REMOVED, // may go on for a while
    TORC_FATE_GONE,        // ends now
};

uint64_t torc_principals_bytes(void);

// An empty table in zeroed memory aligned to 64. `dummy`: random, the secret of nobody.
void torc_principals_init(struct torc_principals **principals, void *memory,
                          const uint8_t dummy[TORC_CHAN_PSK_BYTES]);

// A table of control's, by rising number, already copied out of its reach; its secrets are wiped
// afterwards by the caller. INVALID_ARGUMENT: it makes no sense. BUSY: too many places rest, again
// later. Nothing has changed then.
enum torc_err torc_must_use torc_principals_load(struct torc_principals *principals,
                                                 const struct torc_chan_principal *list,
                                                 uint32_t count, struct torc_fail *why);

void torc_principals_find(const struct torc_principals *principals, uint32_t number, uint8_t key,
                          struct torc_principal_found *found);

// A node that calls: number TORC_PRINCIPAL_NODE and above, to this `node` of `cluster`.
struct torc_principal_caller {
    uint64_t cluster;
    uint32_t number;
    uint32_t node;
    uint8_t key;
};

// The same of a node: its secret is made in `psk`, which the caller wipes. Takes 2 us, for nobody
// too (P1). Its sessions are those of the principal with the role node.
void torc_principals_find_node(const struct torc_principals *principals,
                               const struct torc_principal_caller *caller,
                               uint8_t psk[TORC_CHAN_PSK_BYTES],
                               struct torc_principal_found *found);

// How many more sessions it may have.
uint32_t torc_principals_room(const struct torc_principals *principals, uint32_t place);

void torc_principals_open(struct torc_principals *principals, uint32_t place, uint32_t sessions);
void torc_principals_close(struct torc_principals *principals, uint32_t place);
void torc_principals_release(struct torc_principals *principals, uint32_t place);

// What becomes of a session that was opened with this place and key.
enum torc_principal_fate torc_principals_fate(const struct torc_principals *principals,
                                              uint32_t place, uint32_t key_serial);

// Stores how many sessions each principal of the table has open, in its order.
void torc_principals_tell(const struct torc_principals *principals,
                          _Atomic uint32_t counts[TORC_CHAN_PRINCIPALS_MAX]);

// -- Rights --------------------------------------------------------------------------------------

// Whether [lo, hi) lies inside one of its ranges; no range reaches past the last key, 2^64 - 2.
static inline bool torc_rights_cover(const struct torc_rights *rights, uint64_t lo, uint64_t hi)
{
    uint32_t low = 0;
    uint32_t high = rights->range_count;

    if (high == 0) {
        return true;
    }
    // The last range that does not begin above lo.
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (rights->ranges[middle].lo <= lo) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && lo < rights->ranges[low - 1].hi && hi <= rights->ranges[low - 1].hi;
}

#endif
