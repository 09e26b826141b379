// Torc client: the guard of a thread; see guard_os.h.
#include "client/guard_os.h"

static _Thread_local struct torc_guard *guard_now;

struct torc_guard *torc_guard_set(struct torc_guard *guard)
{
    struct torc_guard *before = guard_now;

    guard_now = guard;
    return before;
}

struct torc_guard *torc_guard_get(void)
{
    return guard_now;
}
