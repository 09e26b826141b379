// Torc dataplane: which questions of strangers are answered; see strangers.h.
#include "dataplane/strangers.h"

#include <string.h>

#define TICK_BITS  22u // 4.2 ms, so that 16 bits are 275 s
#define BURST_PART 20u // of a second's answers
// Times that are n ticks apart differ by more than n - 1 of them and less than n + 1.
#define SOON_TICKS ((TORC_STRANGERS_SOON_NS >> TICK_BITS) + 2)
#define LATE_TICKS (TORC_STRANGERS_LATE_NS >> TICK_BITS)

_Static_assert(LATE_TICKS < UINT16_MAX / 2, "what is long ago is not taken for just now");

void torc_strangers_init(struct torc_strangers *strangers, void *lines, uint32_t rate)
{
    torc_assert(rate >= 2);
    torc_assert((uintptr_t)lines % sizeof(struct torc_strangers_line) == 0);
    *strangers = (struct torc_strangers){
        .lines = lines, .rate = rate / 2, .burst = rate / 2 / BURST_PART + 1};
}

static uint16_t note_age(uint32_t note, uint16_t tick)
{
    return (uint16_t)(tick - (uint16_t)note);
}

// A note is put before all others of its line; the last one, or the one of before, makes room.
static void note_put(uint32_t *notes, uint32_t before, uint16_t print, uint16_t tick)
{
    memmove(notes + 1, notes, before * sizeof(*notes));
    notes[0] = (uint32_t)print << 16 | tick;
}

// Whether the question was asked before, long enough ago and not too long. It is noted either way.
static bool strangers_again(struct torc_strangers *strangers, uint64_t now_ns, uint64_t question)
{
    uint32_t *notes = strangers->lines[question % TORC_STRANGERS_LINES].notes;
    uint16_t tick = (uint16_t)(now_ns >> TICK_BITS);
    uint16_t print = (uint16_t)(question >> TORC_STRANGERS_PRINT_SHIFT);

    for (uint32_t i = 0; i < TORC_STRANGERS_NOTES; i++) {
        uint16_t age = note_age(notes[i], tick);

        if (notes[i] >> 16 == print && age <= LATE_TICKS) {
            if (age >= SOON_TICKS) {
                note_put(notes, i, print, tick);
            }
            return age >= SOON_TICKS;
        }
    }
    note_put(notes, TORC_STRANGERS_NOTES - 1, print, tick);
    return false;
}

bool torc_strangers_may(struct torc_strangers *strangers, uint64_t now_ns, uint64_t question)
{
    if (torc_bucket_take(&strangers->first, now_ns, strangers->rate, strangers->burst)) {
        return true;
    }
    return strangers_again(strangers, now_ns, question) &&
           torc_bucket_take(&strangers->again, now_ns, strangers->rate, strangers->burst);
}
