// Torc simulator: time, events, the story. See sim.h.
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdlib.h>

struct sim *sim;

// -- What is told ---------------------------------------------------------------------------------

void sim_cover(enum sim_cover what)
{
    sim->result.cover[what]++;
}

void sim_cover_add(enum sim_cover what, uint64_t count)
{
    sim->result.cover[what] += count;
}

const char *sim_cover_text(enum sim_cover what)
{
    static const char *const texts[] = {
#define X(name, text, fault) [SIM_COVER_##name] = (text),
        SIM_COVER_TABLE(X)
#undef X
    };

    return texts[what];
}

void sim_story(const char *format, ...)
{
    va_list list;

    if (!sim->wish.story) {
        return;
    }
    (void)printf("%4u.%06u ms  ", (unsigned)(sim->now_ns / SIM_MS),
                 (unsigned)(sim->now_ns % SIM_MS));
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    (void)putchar('\n');
}

void sim_fail(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    if (sim->result.failed == 0) {
        sim->result.failed = 1;
        (void)vsnprintf(sim->result.text, sizeof(sim->result.text), format, list);
        sim_story("ORACLE  %s", sim->result.text);
    }
    va_end(list);
}

void sim_hash(uint64_t word)
{
    uint64_t mixed = (sim->result.hash ^ word) * UINT64_C(0xff51afd7ed558ccd);

    sim->result.hash = mixed ^ (mixed >> 29);
}

// -- The heap -------------------------------------------------------------------------------------

static bool due_before(const struct sim_due *a, const struct sim_due *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static void due_put(uint32_t at, struct sim_due due)
{
    sim->heap[at] = due;
    sim->events[due.event].place = at;
}

static void due_rise(uint32_t at, struct sim_due due)
{
    while (at > 0 && due_before(&due, &sim->heap[(at - 1) / 2])) {
        due_put(at, sim->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    due_put(at, due);
}

// Down to the end by the earlier child, and up from there: the last one belongs near the end.
static void due_pop(void)
{
    struct sim_due last = sim->heap[--sim->heap_count];
    uint32_t count = sim->heap_count;
    uint32_t at = 0;

    for (uint32_t child = 1; child < count; child = 2 * at + 1) {
        child += child + 1 < count && due_before(&sim->heap[child + 1], &sim->heap[child]);
        due_put(at, sim->heap[child]);
        at = child;
    }
    if (count > 0) {
        due_rise(at, last);
    }
}

// An event of that time, later than all there are of it; returns its place in sim->events.
static uint32_t event_add(const struct sim_event *event)
{
    uint32_t free = sim->event_free;

    if (free == sim->event_count) {
        if (sim->event_count == sim->event_room) {
            sim->event_room = 2 * sim->event_room + 1024;
            sim->heap = realloc(sim->heap, sim->event_room * sizeof(*sim->heap));
            sim->events = realloc(sim->events, sim->event_room * sizeof(*sim->events));
            torc_assert(sim->heap != NULL && sim->events != NULL);
        }
        sim->event_free = ++sim->event_count;
    } else {
        sim->event_free = sim->events[free].place;
    }
    sim->events[free] = *event;
    due_rise(sim->heap_count++,
             (struct sim_due){.at_ns = event->at_ns, .order = sim->next_order++, .event = free});
    return free;
}

static void event_take(struct sim_event *event)
{
    uint32_t first = sim->heap[0].event;

    due_pop();
    *event = sim->events[first];
    sim->events[first].place = sim->event_free;
    sim->event_free = first;
}

void sim_post(uint64_t at_ns, enum sim_event_kind kind, uint32_t a, uint32_t b, void *what)
{
    (void)event_add(&(struct sim_event){
        .at_ns = torc_max_u64(at_ns, sim->now_ns), .kind = kind, .a = a, .b = b, .what = what});
}

void sim_wake(struct sim_actor *actor, uint64_t at_ns, enum sim_event_kind kind, uint32_t a,
              uint32_t b)
{
    at_ns = torc_max_u64(torc_max_u64(at_ns, sim->now_ns), actor->paused_ns);
    if (at_ns >= actor->at_ns) {
        return;
    }
    if (actor->at_ns != UINT64_MAX) { // that turn comes earlier, after what is due then already
        sim->events[actor->event].at_ns = at_ns;
        due_rise(
            sim->events[actor->event].place,
            (struct sim_due){.at_ns = at_ns, .order = sim->next_order++, .event = actor->event});
    } else {
        actor->token++;
        actor->event = event_add(&(struct sim_event){
            .at_ns = at_ns, .kind = kind, .a = a, .b = b, .token = actor->token});
    }
    actor->at_ns = at_ns;
}

void sim_stop(struct sim_actor *actor)
{
    actor->at_ns = UINT64_MAX;
    actor->token++;
}

static struct sim_actor *event_actor(const struct sim_event *event)
{
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EVENT_WORKER:
    case SIM_EVENT_THREAD:
    case SIM_EVENT_CONTROL: return sim_node_actor(event);
    case SIM_EVENT_CLIENT: return &sim->clients[event->a].actor;
    case SIM_EVENT_PACKET:
    case SIM_EVENT_FAULT:
    case SIM_EVENT_MEND:
    case SIM_EVENT_META: return NULL;
    }
    torc_unreachable("no such event");
}

bool sim_next(struct sim_event *event)
{
    while (sim->heap_count > 0) {
        struct sim_actor *actor;

        event_take(event);
        actor = event_actor(event);
        if (actor != NULL && (actor->token != event->token || actor->at_ns == UINT64_MAX)) {
            continue; // it was stopped
        }
        if (actor != NULL) {
            actor->at_ns = UINT64_MAX;
            if (actor->paused_ns > event->at_ns) {
                sim_wake(actor, actor->paused_ns, event->kind, event->a, event->b);
                continue;
            }
        }
        torc_assert(sim != NULL);
        torc_assert(event->at_ns >= sim->now_ns);
        sim->now_ns = event->at_ns;
        sim->result.events++;
        sim_hash(event->at_ns ^ (uint64_t)event->kind << 60 ^ (uint64_t)event->a << 52 ^
                 (uint64_t)event->b << 44);
        return true;
    }
    return false;
}

// -- Clocks ---------------------------------------------------------------------------------------

uint64_t sim_local_ns(const struct sim_clock *clock)
{
    uint64_t counted_ns =
        sim->now_ns < clock->goes_ns
            ? clock->stood_ns - (clock->skipped_ns - (clock->goes_ns - clock->stood_ns))
            : sim->now_ns - clock->skipped_ns;
    int64_t off = (int64_t)(counted_ns / 1000) * clock->rate_ppm / 1000;

    return clock->base_ns + counted_ns + (uint64_t)off;
}

void sim_clock_stop(struct sim_clock *clock, uint64_t until_ns)
{
    if (sim->now_ns >= clock->goes_ns) {
        clock->stood_ns = sim->now_ns;
        clock->goes_ns = sim->now_ns;
    }
    if (until_ns > clock->goes_ns) {
        clock->skipped_ns += until_ns - clock->goes_ns;
        clock->goes_ns = until_ns;
    }
}

uint64_t sim_wall_us(const struct sim_clock *clock)
{
    // Where clocks run as they like the time of day does not: somebody sets it.
    uint64_t ns = sim->config.confirm ? clock->base_ns + sim->now_ns : sim_local_ns(clock);

    return (uint64_t)((int64_t)(ns / 1000) + clock->wall_us);
}

int64_t sim_wall_off_us(const struct sim_clock *clock)
{
    return (int64_t)sim_wall_us(clock) - SIM_WALL_ZERO_US - (int64_t)(sim->now_ns / 1000);
}

uint64_t sim_when(const struct sim_clock *clock, uint64_t local_ns)
{
    uint64_t local = sim_local_ns(clock);
    uint64_t wait_ns;

    if (local_ns == UINT64_MAX) {
        return UINT64_MAX;
    }
    if (local_ns <= local) {
        return sim->now_ns;
    }
    wait_ns = local_ns - local;
    if (wait_ns > 100 * SIM_S) {
        return sim->now_ns + wait_ns;
    }
    return sim->now_ns +
           (uint64_t)((int64_t)wait_ns - (int64_t)(wait_ns / 1000) * clock->rate_ppm / 1000) + 2;
}
