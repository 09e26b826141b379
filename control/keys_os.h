// Torc control: the key file of the data directory.
//
// What    DATA/torc.keys: made at birth with one principal, `local`; read at a start and on
//         command, whole or not at all; handed to the dataplane. DATA/local.key is what clients on
//         this machine that run as root or as the node's user show (docs/FORMATS.md has both).
// Owner   control's one thread.
// Memory  one table with the secrets as the dataplane gets them, locked as far as the system
//         allows, until torc_keys_close. What else held secrets is wiped at once.
#ifndef TORC_CONTROL_KEYS_OS_H
#define TORC_CONTROL_KEYS_OS_H

#include "control/keys.h"
#include "kit/secret_os.h"

struct torc_keys {
    struct torc_secret secret; // of `list`
    struct torc_chan_principal *list;
    struct torc_keys_known *known; // beside it
    uint32_t count;
};

// Makes torc.keys with a new key for `local`, and local.key; what is there already stays.
enum torc_err torc_must_use torc_keys_make(const char *data, uint64_t cluster,
                                           struct torc_fail *why);

// Reads the file in place of what *keys had (all zero at first), which stays as it was when this
// fails: INVALID_ARGUMENT with the line, FORBIDDEN (others could read it), NOT_FOUND.
enum torc_err torc_must_use torc_keys_load(struct torc_keys *keys, const char *data,
                                           uint64_t cluster, uint32_t node, struct torc_fail *why);

void torc_keys_close(struct torc_keys *keys);

#endif
