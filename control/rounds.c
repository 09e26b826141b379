// Torc control: when checkpoints are made. See control/rounds.h.
#include "control/rounds.h"

void torc_rounds_serve(struct torc_rounds *rounds, uint64_t now_ns)
{
    rounds->open = false;
    rounds->ended_ns = now_ns;
    rounds->pause_ns = 0;
}

void torc_rounds_begin(struct torc_rounds *rounds, uint64_t written_bytes, uint64_t failures)
{
    torc_assert(written_bytes >= rounds->kept_bytes);
    rounds->failures = rounds->open ? rounds->failures : failures;
    rounds->open = true;
    rounds->begun_bytes = written_bytes;
}

void torc_rounds_end(struct torc_rounds *rounds, uint64_t now_ns, uint64_t failures)
{
    uint64_t pause_ns = torc_max_u64(2 * rounds->pause_ns, TORC_ROUNDS_PAUSE_LEAST_NS);

    torc_assert(rounds->open);
    torc_assert(failures >= rounds->failures);
    rounds->open = false;
    rounds->ended_ns = now_ns;
    if (failures > rounds->failures) {
        rounds->pause_ns = torc_min_u64(pause_ns, TORC_ROUNDS_PAUSE_MOST_NS);
        return;
    }
    rounds->pause_ns = 0; // D2
    rounds->kept_bytes = rounds->begun_bytes;
    rounds->before_bytes = 0;
}

uint64_t torc_rounds_grown(const struct torc_rounds *rounds, uint64_t written_bytes)
{
    torc_assert(written_bytes >= rounds->kept_bytes);
    return written_bytes - rounds->kept_bytes + rounds->before_bytes;
}

bool torc_rounds_due(const struct torc_rounds *rounds, uint64_t now_ns,
                     const struct torc_rounds_view *view)
{
    uint64_t grown_bytes = torc_rounds_grown(rounds, view->written_bytes);
    uint64_t since_ns = now_ns - rounds->ended_ns;

    torc_assert(now_ns >= rounds->ended_ns);
    return !rounds->open && since_ns >= rounds->pause_ns &&
           (grown_bytes >= view->most_bytes ||
            (view->orphans && (view->first || since_ns > TORC_ROUNDS_CALM_NS)));
}
