// Torc control: the order in which a node stops cleanly. See control/stop.h.
#include "control/stop.h"

#include "kit/bugs.h"

static bool stop_waits(const struct torc_stop_seen *seen)
{
    return seen->waited_ns < seen->most_ns && !seen->hurry && !seen->log_failed;
}

static enum torc_stop stop_rest(const struct torc_stop_seen *seen)
{
    if (!seen->rests || !seen->drained) {
        return seen->waited_ns > seen->most_ns ? TORC_STOP_LATE : TORC_STOP_REST;
    }
    return seen->log_failed ? TORC_STOP_UNCLEAN : TORC_STOP_SEAL;
}

enum torc_stop torc_stop_next(enum torc_stop at, const struct torc_stop_seen *seen)
{
    switch (at) {
    case TORC_STOP_CHECKPOINTS:
        return seen->in_round && stop_waits(seen) ? TORC_STOP_CHECKPOINTS : TORC_STOP_HANDOVER;
    case TORC_STOP_HANDOVER:
        return seen->left > 0 && stop_waits(seen) && !TORC_BUG(STOP_KEEPS_PRIMARIES)
                   ? TORC_STOP_HANDOVER
                   : TORC_STOP_REST;
    case TORC_STOP_REST: return stop_rest(seen);
    case TORC_STOP_SEAL:
    case TORC_STOP_UNCLEAN:
    case TORC_STOP_LATE: break;
    }
    torc_unreachable("it has ended");
}
