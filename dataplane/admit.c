// Torc dataplane: which packets a worker takes when there are too many; see admit.h.
#include "dataplane/admit.h"

#define COST_FIRST_NS 1000u // a first guess
#define COST_MIN_NS   100u
#define COST_RISE     16u // it rises by a sixteenth a turn at most, for a turn may be interrupted
#define COST_FALL     4u  // and falls by a quarter, while the packets are a sample
#define COST_FRAMES   32u // a turn of so many says what one costs
#define SHED_FRAMES   8u  // while it sheds: turns are shorter, and none is idle
// A refused packet costs so much of one that is done, and a dropped one: opened and answered 1/4 to
// 1/20 (torc-worker-bench), by what the other one asks for.
#define REFUSED_PART 8u
// A packet waits for the turn before and is answered at the end of its own: each may take half of
// the target, refusals and what its packets cost more than others included.
#define AIM_PART       3u // of the target
#define PRESSED_AIMS   2u // a turn that found less work does all of it
#define CALM_PART      100u
#define AIM_MIN        4u // what else is done in a turn must not count against packets for good
#define BURST_PACKETS  4u // a session that was quiet may send so many at once
#define QUIET_LEVEL    (2u * TORC_ADMIT_ONE)
#define LEAK_GAIN      16u
#define NOTED_TURNS    4u // then one is opened and refused, which tells of the others
#define KNOWN_TURNS    16u
#define HEARD_TURNS    16u // where a session was so lately it still is
#define NOTICE_BYTES   96u // and a little more than it takes
#define NOTICES_MAX    4u
#define NOTED_OLD      64u  // nobody was told: another session may have the account
#define FLOODED_FRAMES 512u // wait behind the turn: half of the receive ring

void torc_admit_init(struct torc_admit *admit, uint64_t target_ns)
{
    torc_assert(target_ns > 0);
    *admit = (struct torc_admit){
        .target_ns = target_ns, .cost_ns = COST_FIRST_NS, .leak = TORC_ADMIT_ONE};
}

// What the last turn took, over what it did. `busy`: nothing else was in that time, as far as can
// be known.
static void admit_cost(struct torc_admit *admit, uint64_t since_ns, uint32_t frames)
{
    uint64_t done = admit->frames - admit->refused - admit->unopened;
    uint64_t cost_ns = admit->cost_ns;
    uint64_t sample_ns;
    bool busy = admit->shedding ? admit->frames >= SHED_FRAMES && frames >= SHED_FRAMES
                                : admit->frames >= COST_FRAMES;

    torc_assert(admit->frames >= admit->refused + admit->unopened);
    if (!busy || done == 0) {
        return;
    }
    sample_ns = since_ns * REFUSED_PART / (done * REFUSED_PART + admit->refused + admit->told);
    if (sample_ns > cost_ns) {
        admit->cost_ns = torc_min_u64(sample_ns, cost_ns + cost_ns / COST_RISE + 1);
    } else {
        admit->cost_ns = admit->shedding ? cost_ns - (cost_ns - sample_ns) / COST_FALL : sample_ns;
    }
}

static void admit_window(struct torc_admit *admit, uint64_t now_ns)
{
    admit->window_ns = now_ns;
    admit->window_frames = 0;
    admit->window_refused = 0;
}

static void admit_standing(struct torc_admit *admit, const struct torc_admit_queue *queue)
{
    uint64_t backlog_ns = (uint64_t)(queue->frames + queue->waiting) * admit->cost_ns;

    if (!queue->full || backlog_ns <= admit->target_ns) {
        admit->standing_ns = 0;
    } else if (admit->standing_ns == 0) {
        admit->standing_ns = queue->now_ns;
    }
    if (admit->shedding && queue->now_ns - admit->window_ns >= TORC_ADMIT_STANDING_NS) {
        admit->shedding = admit->window_refused * CALM_PART > admit->window_frames;
        admit_window(admit, queue->now_ns);
    } else if (!admit->shedding && admit->standing_ns != 0 &&
               queue->now_ns - admit->standing_ns >= TORC_ADMIT_STANDING_NS) {
        admit->shedding = true;
        admit->leak = TORC_ADMIT_ONE;
        admit_window(admit, queue->now_ns);
    }
}

// More was refused than had to be, or less.
static void admit_leak(struct torc_admit *admit)
{
    uint32_t step = admit->leak / LEAK_GAIN + 1;

    if (admit->taken > admit->turn_aim) {
        admit->leak = admit->leak > step ? admit->leak - step : 1;
    } else if (admit->refused + admit->unopened > 0 && admit->taken < admit->turn_aim) {
        admit->leak = (uint32_t)torc_min_u64(admit->leak + step, UINT64_C(256) * TORC_ADMIT_ONE);
    }
}

// How old the first frame of the turn may be; remembers the look. A worker that had nothing to do
// slept until the frame came.
static void admit_age(struct torc_admit *admit, const struct torc_admit_queue *queue)
{
    struct torc_admit_look *looks = admit->looks;
    uint32_t last;

    while (admit->look_count > 1 &&
           looks[(admit->look_first + 1) % TORC_ADMIT_LOOKS].seen <= admit->taken_ever) {
        admit->look_first = (admit->look_first + 1) % TORC_ADMIT_LOOKS;
        admit->look_count--;
    }
    admit->age_ns = admit->frames == 0 || admit->look_count == 0
                        ? 0
                        : queue->now_ns - looks[admit->look_first].at_ns;
    if (admit->look_count == TORC_ADMIT_LOOKS) { // older than that: as old as the oldest
        admit->look_count--;
        for (uint32_t i = 1; i < TORC_ADMIT_LOOKS - 1; i++) { // the newer half is worth less
            uint32_t to = (admit->look_first + i) % TORC_ADMIT_LOOKS;

            looks[to] = looks[(to + 1) % TORC_ADMIT_LOOKS];
        }
    }
    last = (admit->look_first + admit->look_count) % TORC_ADMIT_LOOKS;
    admit->taken_ever += queue->frames;
    looks[last].at_ns = queue->now_ns;
    looks[last].seen = admit->taken_ever + queue->waiting;
    admit->look_count++;
}

void torc_admit_turn(struct torc_admit *admit, const struct torc_admit_queue *queue)
{
    torc_assert(queue->now_ns >= admit->now_ns);
    admit_cost(admit, queue->now_ns - admit->now_ns, queue->frames);
    admit_age(admit, queue);
    admit->now_ns = queue->now_ns;
    admit->frames = queue->frames;
    admit_standing(admit, queue);
    if (admit->shedding) {
        uint64_t aim = admit->target_ns / (AIM_PART * torc_max_u64(admit->cost_ns, COST_MIN_NS));

        if (admit->pressed) {
            admit_leak(admit);
        }
        admit->window_frames += queue->frames;
        admit->turn++;
        admit->turn_aim = (uint32_t)torc_max_u64(aim, AIM_MIN);
        admit->turn_max = admit->turn_aim + (admit->turn_aim + 3) / 4;
        admit->pressed = queue->frames + queue->waiting > PRESSED_AIMS * admit->turn_aim;
        admit->flooded = queue->waiting >= FLOODED_FRAMES;
    }
    admit->taken = 0;
    admit->refused = 0;
    admit->unopened = 0;
    admit->told = 0;
}

static struct torc_admit_slot *admit_slot(struct torc_admit *admit, uint32_t session)
{
    struct torc_admit_slot *slot = &admit->slots[session % TORC_ADMIT_SLOTS];
    uint64_t leaked = (uint64_t)(admit->turn - slot->turn) * admit->leak;

    slot->level -= (uint32_t)torc_min_u64(slot->level, leaked);
    slot->turn = admit->turn;
    return slot;
}

bool torc_admit_may(struct torc_admit *admit, uint32_t session)
{
    uint32_t room = BURST_PACKETS * TORC_ADMIT_ONE + admit->leak;
    uint32_t level = admit_slot(admit, session)->level;

    torc_assert(admit->shedding);
    if (!admit->pressed) {
        return true;
    }
    // Who has asked for little lately need not come before the others. Who asks for much has three
    // packets or more on its account.
    return admit->taken < (level < QUIET_LEVEL ? 2 * admit->turn_max : admit->turn_max) &&
           level + TORC_ADMIT_ONE <= room;
}

// A packet of it was opened.
static void admit_hear(struct torc_admit *admit, struct torc_admit_slot *slot, uint32_t session)
{
    if (slot->heard != session) {
        slot->heard = session;
        slot->notices = 0;
    }
    slot->opened = admit->turn;
}

void torc_admit_take(struct torc_admit *admit, uint32_t session)
{
    struct torc_admit_slot *slot = admit_slot(admit, session);

    admit->taken++;
    slot->level += TORC_ADMIT_ONE;
    admit_hear(admit, slot, session);
}

void torc_admit_refuse(struct torc_admit *admit, uint32_t session)
{
    admit->refused++;
    admit->window_refused++;
    admit_hear(admit, admit_slot(admit, session), session);
}

void torc_admit_drop(struct torc_admit *admit)
{
    admit->unopened++;
    admit->window_refused++;
}

bool torc_admit_knows(const struct torc_admit *admit, uint32_t session)
{
    const struct torc_admit_slot *slot = &admit->slots[session % TORC_ADMIT_SLOTS];

    return slot->session == session && slot->first != 0 && admit->turn - slot->noted < KNOWN_TURNS;
}

void torc_admit_leave(struct torc_admit *admit, uint32_t session, uint32_t bytes)
{
    struct torc_admit_slot *slot = &admit->slots[session % TORC_ADMIT_SLOTS];

    if (slot->heard == session) {
        slot->notices = (uint32_t)torc_min_u64(slot->notices + bytes / NOTICE_BYTES, NOTICES_MAX);
    }
}

bool torc_admit_note(struct torc_admit *admit, uint32_t session, uint64_t seq)
{
    struct torc_admit_slot *slot = &admit->slots[session % TORC_ADMIT_SLOTS];

    if (slot->heard != session || admit->turn - slot->opened > HEARD_TURNS ||
        (slot->bitmap != 0 && slot->session != session && admit->turn - slot->noted < NOTED_OLD)) {
        return false;
    }
    if (slot->bitmap == 0 || slot->session != session) {
        if (slot->notices == 0 || admit->due_count == TORC_ADMIT_DUE) {
            return false;
        }
        admit->due[(admit->due_first + admit->due_count++) % TORC_ADMIT_DUE] =
            (struct torc_admit_due){.session = session, .noted = admit->turn};
        admit->untold += slot->bitmap == 0 ? 1 : 0;
        slot->session = session;
        slot->noted = admit->turn;
        slot->first = seq;
        slot->bitmap = 1;
        return true;
    }
    if (seq < slot->first || seq - slot->first >= 64 || admit->turn - slot->noted > NOTED_TURNS) {
        return false;
    }
    slot->bitmap |= UINT64_C(1) << (seq - slot->first);
    return true;
}

bool torc_admit_ahead(const struct torc_admit *admit, uint32_t ahead, uint32_t *session)
{
    const struct torc_admit_due *due = &admit->due[(admit->due_first + ahead) % TORC_ADMIT_DUE];

    if (ahead >= admit->due_count ||
        (admit->shedding && admit->turn - due->noted < TORC_ADMIT_TELL_TURNS)) {
        return false;
    }
    *session = due->session;
    return true;
}

bool torc_admit_due(struct torc_admit *admit, uint32_t *session)
{
    while (torc_admit_ahead(admit, 0, session)) {
        const struct torc_admit_due *due = &admit->due[admit->due_first];
        struct torc_admit_slot *slot = &admit->slots[*session % TORC_ADMIT_SLOTS];

        admit->due_first = (admit->due_first + 1) % TORC_ADMIT_DUE;
        admit->due_count--;
        // Else an answer told it meanwhile, or the account is another session's by now.
        if (slot->bitmap != 0 && slot->session == *session && slot->noted == due->noted &&
            slot->heard == *session && slot->notices > 0) {
            slot->notices--;
            admit->told++;
            return true;
        }
    }
    return false;
}

bool torc_admit_tell(struct torc_admit *admit, uint32_t session, uint64_t *first, uint64_t *bitmap)
{
    struct torc_admit_slot *slot = &admit->slots[session % TORC_ADMIT_SLOTS];

    if (slot->bitmap == 0 || slot->session != session) {
        return false;
    }
    torc_assert(admit->untold > 0);
    *first = slot->first;
    *bitmap = slot->bitmap;
    slot->bitmap = 0;
    admit->untold--;
    return true;
}
