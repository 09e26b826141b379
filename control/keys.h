// Torc control: from a key file's principals to the table that the dataplane reads.
//
// What    binding of keys to this node, order by number, and the writing of the channel's table.
// Owner   control's one thread; pure.
// Memory  the caller's.
#ifndef TORC_CONTROL_KEYS_H
#define TORC_CONTROL_KEYS_H

#include "kit/chan.h"
#include "wire/keyfile.h"

// A principal as it may be shown: everything but its secrets.
struct torc_keys_known {
    char name[TORC_KEYS_NAME_BYTES];
    uint32_t number;
    uint32_t roles;
    uint32_t sessions_max;
    uint32_t range_count;
    uint8_t key_count;
    uint8_t key_ids[2];
};

// The node that a table is made for.
struct torc_keys_place {
    uint64_t cluster;
    uint32_t node;
};

// Fills `list` and `known` with the principals by rising number. INVALID_ARGUMENT names a key that
// is bound to another node.
enum torc_err torc_must_use torc_keys_table(struct torc_chan_principal *list,
                                            struct torc_keys_known *known,
                                            const struct torc_principal *principals, uint32_t count,
                                            const struct torc_keys_place *place,
                                            struct torc_fail *why);

// Writes the channel's table; what it held before is wiped. Returns its sequence.
uint64_t torc_keys_write(struct torc_chan_keys *table, const struct torc_chan_principal *list,
                         uint32_t count);

#endif
