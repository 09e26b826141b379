// Torc kit: bugs on purpose, none of them on. See bugs.h; only in builds for the simulator.
#include "kit/bugs.h"

bool torc_bug_on[TORC_BUG_COUNT];
uint64_t torc_bug_met[TORC_BUG_COUNT];
