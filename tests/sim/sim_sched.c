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

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static void heap_push(const struct sim_event *event)
{
    uint32_t at = sim->heap_count++;

    if (sim->heap_count > sim->heap_room) {
        sim->heap_room = 2 * sim->heap_room + 1024;
        sim->heap = realloc(sim->heap, sim->heap_room * sizeof(*sim->heap));
        torc_assert(sim->heap != NULL);
    }
    while (at > 0 && event_before(event, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = *event;
}

static struct sim_event heap_pop(void)
{
    struct sim_event first = sim->heap[0];
    struct sim_event last = sim->heap[--sim->heap_count];
    uint32_t at = 0;

    for (uint32_t child = 1; child < sim->heap_count; child = 2 * at + 1) {
        if (child + 1 < sim->heap_count && event_before(&sim->heap[child + 1], &sim->heap[child])) {
            child++;
        }
        if (!event_before(&sim->heap[child], &last)) {
            break;
        }
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

void sim_post(uint64_t at_ns, enum sim_event_kind kind, uint32_t a, uint32_t b, void *what)
{
    heap_push(&(struct sim_event){.at_ns = torc_max_u64(at_ns, sim->now_ns),
                                  .order = sim->next_order++,
                                  .kind = kind,
                                  .a = a,
                                  .b = b,
                                  .what = what});
}

void sim_wake(struct sim_actor *actor, uint64_t at_ns, enum sim_event_kind kind, uint32_t a,
              uint32_t b)
{
    at_ns = torc_max_u64(torc_max_u64(at_ns, sim->now_ns), actor->paused_ns);
    if (at_ns >= actor->at_ns) {
        return;
    }
    actor->at_ns = at_ns;
    actor->token++;
    heap_push(&(struct sim_event){.at_ns = at_ns,
                                  .order = sim->next_order++,
                                  .kind = kind,
                                  .a = a,
                                  .b = b,
                                  .token = actor->token});
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

        *event = heap_pop();
        actor = event_actor(event);
        if (actor != NULL && (actor->token != event->token || actor->at_ns == UINT64_MAX)) {
            continue; // it was given another turn
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
