// Torc control: looking at a data directory that nobody serves: `torc-control check`.
//
// What    everything that recovery would look at, and each byte of each checkpoint; prints a line
//         for each part and says at the end whether the node could be started. Makes and changes
//         nothing there, nor in a metastore that is a file: both may be read-only.
// Owner   the program, with the lock of the directory held, shared; where there is no LOCK, as in
//         a copy, it looks at the end whether there is one by now.
#ifndef TORC_CONTROL_CHECK_OS_H
#define TORC_CONTROL_CHECK_OS_H

#include "kit/settings.h"

// OK: no damage. CORRUPT and others: `why` is the first thing that is wrong; all were printed.
enum torc_err torc_must_use torc_check_directory(const struct torc_settings *settings,
                                                 struct torc_fail *why);

#endif
