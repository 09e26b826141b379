// Torc wire: which code for authenticated encryption this machine can run.
//
// What    asks the CPU once, and makes libsodium and libipsec-mb ready; call it at program start
//         and pass the table on. TORC_AEAD=libipsec-mb|libsodium|chacha in the environment asks for
//         a certain one.
// Owner   any thread; the first caller makes the tables.
// Memory  the tables and libipsec-mb's manager, until the process ends.
#ifndef TORC_WIRE_AEAD_OS_H
#define TORC_WIRE_AEAD_OS_H

#include "wire/aead.h"

const struct torc_aead_code *torc_aead_code_best(void);

// One by name, or NULL when this machine or this build cannot run it.
const struct torc_aead_code *torc_aead_code_named(const char *name);

#endif
