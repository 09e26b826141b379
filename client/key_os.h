// Torc client: which key a queue shows, and where the node of this machine keeps what clients need.
//
// Owner   the caller's thread.
// Memory  the caller's; what was read of a file is wiped.
// Order   the file that is named (torc_options.key_file, --key-file), else the environment's
//         TORC_KEY_FILE, else local.key of the default data directory, if it is there and readable.
//         The word `none` is no key.
#ifndef TORC_CLIENT_KEY_OS_H
#define TORC_CLIENT_KEY_OS_H

#include "wire/keyfile.h"

#define TORC_CLIENT_PATH_BYTES 4096
#define TORC_KEY_NONE          "none"

// `name` in the default data directory: /var/lib/torc for root, else $XDG_DATA_HOME/torc.
enum torc_err torc_must_use torc_client_path(const char *name, char path[TORC_CLIENT_PATH_BYTES],
                                             struct torc_fail *why);

// Fills *key; principal 0: there is none. A file that is named, or was found, and is of no use is
// an error that names it. `from` gets its path, cut to its room. The caller wipes *key.
enum torc_err torc_must_use torc_client_key_find(const char *named, struct torc_client_key *key,
                                                 char *from, uint32_t from_bytes,
                                                 struct torc_fail *why);

#endif
