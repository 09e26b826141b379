// Torc cli: see supervise.h.
#include "client/cli/supervise.h"

void torc_supervise_init(struct torc_supervise *child, uint64_t now_ns)
{
    *child = (struct torc_supervise){.state = TORC_SUPERVISE_DOWN, .start_ns = now_ns};
}

void torc_supervise_started(struct torc_supervise *child, uint64_t now_ns)
{
    torc_assert(child->state == TORC_SUPERVISE_DOWN);
    torc_assert(now_ns >= child->start_ns);
    child->state = TORC_SUPERVISE_UP;
    child->start_ns = now_ns;
}

uint64_t torc_supervise_died(struct torc_supervise *child, uint64_t now_ns)
{
    torc_assert(child->state == TORC_SUPERVISE_UP);
    torc_assert(now_ns >= child->start_ns);
    if (child->pause_ns == 0 || now_ns - child->start_ns >= TORC_SUPERVISE_CALM_NS) {
        child->pause_ns = TORC_SUPERVISE_PAUSE_LEAST_NS;
    } else {
        child->pause_ns = torc_min_u64(2 * child->pause_ns, TORC_SUPERVISE_PAUSE_MOST_NS);
    }
    child->deaths++;
    child->state = TORC_SUPERVISE_DOWN;
    child->start_ns = now_ns + child->pause_ns;
    return child->pause_ns;
}

void torc_supervise_end(struct torc_supervise *child)
{
    child->state = TORC_SUPERVISE_ENDED;
}
