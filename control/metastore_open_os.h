// Torc control: opening a metastore by its address.
//
// What    `file:/DIRECTORY`: control/metastore_os.h; `etcd:HOST:PORT…`: control/metastore_http.h.
// Owner   control's one thread.
#ifndef TORC_CONTROL_METASTORE_OPEN_OS_H
#define TORC_CONTROL_METASTORE_OPEN_OS_H

#include "control/metastore_os.h"

// Texts may be empty or NULL: not given. They are copied.
struct torc_metastore_config {
    const char *address;
    const char *user; // the rest is etcd's
    const char *password_file;
    const char *ca; // files in PEM; one of the two makes it https
    const char *cert;
    const char *key;
    bool look_only; // a file's folder is not made, nor anything in it
};

// INVALID_ARGUMENT: no such kind, or an address that makes no sense; else what the kind says.
enum torc_err torc_must_use torc_metastore_open(struct torc_metastore **out,
                                                const struct torc_metastore_config *config,
                                                struct torc_fail *why);

#endif
