// Torc control: opening a metastore by its address.
//
// What    `file:/DIRECTORY`: see control/metastore_os.h.
// Owner   control's one thread.
#ifndef TORC_CONTROL_METASTORE_OPEN_OS_H
#define TORC_CONTROL_METASTORE_OPEN_OS_H

#include "control/metastore_os.h"

// INVALID_ARGUMENT: no such kind, or an address that makes no sense; else what the kind says.
enum torc_err torc_must_use torc_metastore_open(struct torc_metastore **out, const char *address,
                                                struct torc_fail *why);

#endif
