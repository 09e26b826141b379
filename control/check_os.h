// Torc control: looking at a data directory that nobody serves: `torc-control check`.
//
// What    everything that recovery would look at, and each byte of each checkpoint; prints a line
//         for each part and says at the end whether the node could be started. Changes nothing.
// Owner   the program, with the lock of the directory held.
#ifndef TORC_CONTROL_CHECK_OS_H
#define TORC_CONTROL_CHECK_OS_H

#include "kit/settings.h"

// OK: no damage. CORRUPT and others: `why` is the first thing that is wrong; all were printed.
enum torc_err torc_must_use torc_check_directory(const struct torc_settings *settings,
                                                 struct torc_fail *why);

#endif
