// Torc control: whether the metastore answers. See control/away.h.
#include "control/away.h"

uint64_t torc_away_deadline_ns(const struct torc_away *away)
{
    if (away->asked) {
        return UINT64_MAX; // the store's own
    }
    return away->heard_ns + (away->since_ns > 0 ? TORC_AWAY_PAUSE_NS : TORC_AWAY_IDLE_NS);
}

bool torc_away_next(struct torc_away *away, uint64_t now_ns, struct torc_meta_request *request)
{
    if (now_ns < torc_away_deadline_ns(away)) {
        return false;
    }
    away->asked = true;
    *request = (struct torc_meta_request){.verb = TORC_META_GET,
                                          .ticket = TORC_AWAY_TICKET,
                                          .deadline_ns = now_ns + TORC_AWAY_WAIT_NS,
                                          .key = "meta"};
    return true;
}

static bool away_is_good(enum torc_err err)
{
    return err == TORC_ERR_OK || err == TORC_ERR_NOT_FOUND || err == TORC_ERR_CONDITION_FAILED;
}

void torc_away_take(struct torc_away *away, uint64_t now_ns, const struct torc_meta_answer *answer)
{
    if (answer->verb == TORC_META_WATCH) {
        return;
    }
    away->asked = away->asked && !torc_away_is_mine(answer->ticket);
    away->heard_ns = now_ns;
    if (away_is_good(answer->err)) {
        away->since_ns = 0;
        return;
    }
    away->failures++;
    away->since_ns = away->since_ns > 0 ? away->since_ns : now_ns;
    away->why = answer->why;
}

void torc_away_refused(struct torc_away *away, uint64_t now_ns,
                       const struct torc_meta_request *request)
{
    away->failures++;
    if (torc_away_is_mine(request->ticket)) { // too many are in flight: theirs will tell
        away->asked = false;
        away->heard_ns = now_ns;
    }
}

uint64_t torc_away_for_ns(const struct torc_away *away, uint64_t now_ns)
{
    uint64_t for_ns = away->since_ns > 0 ? now_ns - away->since_ns : 0;

    return for_ns >= TORC_AWAY_SAID_NS ? for_ns : 0;
}
