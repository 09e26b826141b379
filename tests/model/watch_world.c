// Torc tests: events, nodes, network, records and faults around watches. See watch_world.h.
#include "tests/model/watch_world.h"

#include <stdarg.h>
#include <string.h>

#define TROUBLE_NS (400 * MS)
// After the last fault: a restarted node waits 8 promises; records are read, claims made, beaten at
// eight times the pace.
#define HEALING_NS (500 * MS)
#define LIFE_NS    (TROUBLE_NS + HEALING_NS)

// -- Time and events ------------------------------------------------------------------------------

static uint64_t world_clock_ns(const struct node *node, uint64_t true_ns)
{
    return node->ahead_ns + true_ns + (uint64_t)((int64_t)true_ns * node->drift_ppm / 1000000);
}

uint64_t world_local_ns(const struct world *world, const struct node *node)
{
    return world_clock_ns(node, world->now_ns);
}

// The first instant at which the node's clock has come to local_ns.
uint64_t world_true_ns(const struct node *node, uint64_t local_ns)
{
    uint64_t run_ns = local_ns > node->ahead_ns ? local_ns - node->ahead_ns : 0;
    uint64_t true_ns = (uint64_t)((int64_t)run_ns * 1000000 / (1000000 + node->drift_ppm));

    true_ns -= torc_min_u64(true_ns, 2);
    while (world_clock_ns(node, true_ns) < local_ns) {
        true_ns++;
    }
    return true_ns;
}

uint64_t world_some_ns(struct world *world, uint64_t least_ns, uint64_t most_ns)
{
    return least_ns + torc_rng_below(&world->rng, most_ns - least_ns + 1);
}

struct event *world_at(struct world *world, enum event_kind kind, uint32_t node, uint64_t delay_ns)
{
    struct event *event = &world->events[world->event_count++];

    torc_assert(world->event_count <= EVENTS_MAX);
    memset(event, 0, sizeof(*event));
    event->kind = kind;
    event->node = node;
    event->at_ns = world->now_ns + delay_ns;
    event->number = ++world->number;
    return event;
}

void world_wrong(struct world *world, const char *format, ...)
{
    va_list arguments;

    if (world->wrong[0] == 0) {
        va_start(arguments, format);
        (void)vsnprintf(world->wrong, sizeof(world->wrong), format, arguments);
        va_end(arguments);
    }
}

// -- Faults ---------------------------------------------------------------------------------------

static void world_restart(struct world *world, uint32_t number)
{
    struct node *node = &world->nodes[number];

    if (node->up) {
        node->up = false;
        node->down = node->boot;
        node->thaw_ns = 0;
        world_at(world, EVENT_RESTART, number, world_some_ns(world, 100 * US, 30 * MS));
        world->restarts++;
    }
}

static uint32_t world_some_node(struct world *world)
{
    return 1 + (uint32_t)torc_rng_below(&world->rng, world->nodes_count);
}

static void world_change(struct world *world, uint32_t number, uint32_t shard)
{
    uint32_t primary = world->records[shard].primary;

    switch (torc_rng_below(&world->rng, 8)) {
    case 0: driver_take_over(world, shard); return;
    case 1: driver_remove(world, primary, shard); return;
    case 2: driver_drop(world, number, shard); return;
    default: driver_join(world, primary, shard, number); return;
    }
}

static void world_alarm(struct world *world, uint32_t number)
{
    struct torc_watch_event event = {.kind = TORC_WATCH_FALSE_ALARM};

    driver_step(world, number, &event);
}

static void world_fault(struct world *world)
{
    uint32_t number = world_some_node(world);
    uint32_t other = world_some_node(world);
    struct node *node = &world->nodes[number];

    switch (torc_rng_below(&world->rng, 12)) {
    case 0: world->cut_ns[number][other] = world->now_ns + world_some_ns(world, MS, 90 * MS); break;
    case 1:
        for (uint32_t i = 1; i <= world->nodes_count; i++) {
            world->cut_ns[number][i] = world->now_ns + world_some_ns(world, MS, 60 * MS);
            world->cut_ns[i][number] = world->now_ns + world_some_ns(world, MS, 60 * MS);
        }
        break;
    case 2: node->thaw_ns = world->now_ns + world_some_ns(world, MS, 60 * MS); break;
    case 3:
        if (torc_rng_below(&world->rng, 3) == 0) {
            world_restart(world, number);
        }
        break;
    case 4: world->lossy_ns = world->now_ns + world_some_ns(world, MS, 40 * MS); break;
    case 5:
        if (node->up && node->thaw_ns <= world->now_ns) {
            world_alarm(world, number);
        }
        break;
    case 6:
        if (node->up && node->thaw_ns <= world->now_ns) {
            node->turning = !node->turning;
            driver_want(world, number);
        }
        break;
    case 7:
        if (node->up && node->thaw_ns <= world->now_ns) {
            driver_want(world, number);
        }
        break;
    default:
        world_change(world, number, (uint32_t)torc_rng_below(&world->rng, world->shards_count));
        break;
    }
    world_at(world, EVENT_FAULT, 0, world_some_ns(world, 100 * US, 8 * MS));
}

static void world_calm(struct world *world)
{
    memset(world->cut_ns, 0, sizeof(world->cut_ns));
    world->lossy_ns = 0;
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        world->nodes[i].thaw_ns = 0;
        if (world->nodes[i].up && !world->nodes[i].turning) {
            world->nodes[i].turning = true;
            driver_want(world, i);
        }
    }
}

// -- Records --------------------------------------------------------------------------------------

// Compare and swap by epoch. Everybody hears of it, some late. A joined member may be out of the
// primary's reach at once, and be asked to take over (M2).
static void world_swap(struct world *world, const struct event *event)
{
    struct record *record = &world->records[event->shard];
    uint32_t joined = event->record.members & ~record->members;
    bool alone = world->now_ns < world->calm_ns && torc_rng_below(&world->rng, 4) == 0;

    if (record->epoch != event->record.epoch) {
        return;
    }
    *record = event->record;
    record->epoch++;
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        driver_tell(world, i, event->shard, torc_rng_below(&world->rng, 3) == 0 ? 40 * MS : 2 * MS);
    }
    for (uint32_t i = 1; i <= world->nodes_count && joined != 0 && alone; i++) {
        if ((joined >> i & 1) != 0) {
            world->cut_ns[i][record->primary] = world->now_ns + 40 * MS;
            world->cut_ns[record->primary][i] = world->now_ns + 40 * MS;
            driver_take_over(world, event->shard);
        }
    }
}

static void world_poll(struct world *world, uint32_t number)
{
    for (uint32_t shard = 0; shard < world->shards_count; shard++) {
        uint32_t primary = world->records[shard].primary;

        if (world->now_ns >= world->calm_ns || torc_rng_below(&world->rng, 4) == 0) {
            driver_tell(world, number, shard, 5 * MS);
        }
        if (primary == number && !world->nodes[number].up) {
            driver_take_over(world, shard);
        }
    }
    world_at(world, EVENT_POLL, number, world_some_ns(world, 5 * MS, 20 * MS));
}

// -- Life -----------------------------------------------------------------------------------------

static void world_packet(struct world *world, const struct event *event)
{
    struct torc_watch_event heard = {
        .kind = event->packet, .node = event->from, .boot = event->from_boot};

    if (event->packet == TORC_WATCH_BEAT) {
        heard.beat = &event->beat;
    } else if (event->packet == TORC_WATCH_BEAT_ACK) {
        heard.beat_ack = &event->ack;
    } else {
        heard.claim = &event->claim;
    }
    driver_step(world, event->node, &heard);
}

static void world_kept(struct world *world, const struct event *event)
{
    struct torc_watch_event kept = {.kind = TORC_WATCH_CEILING, .ceiling = event->ceiling};
    struct node *node = &world->nodes[event->node];

    node->kept = torc_max_u64(node->kept, event->ceiling);
    driver_step(world, event->node, &kept);
}

static void world_event(struct world *world, const struct event *event)
{
    struct node *node = &world->nodes[event->node];

    if (event->node != 0 && event->kind != EVENT_RESTART && event->kind != EVENT_POLL &&
        (!node->up || (event->boot != 0 && event->boot != node->boot))) {
        return;
    }
    switch (event->kind) {
    case EVENT_PACKET: world_packet(world, event); break;
    case EVENT_RECORD:
        if (event->copy == node->copies[event->shard]) {
            driver_heard(world, event->node, event->shard, &event->record);
        }
        break;
    case EVENT_SYNCED: driver_synced(world, event->node, event->shard, event->record.epoch); break;
    case EVENT_KEPT: world_kept(world, event); break;
    case EVENT_RESTART: driver_start(world, event->node); break;
    case EVENT_SWAP: world_swap(world, event); break;
    case EVENT_POLL: world_poll(world, event->node); break;
    case EVENT_FAULT:
        if (world->now_ns < world->calm_ns) {
            world_fault(world);
        }
        break;
    }
}

// The next event, or 0 and the node whose deadline comes before. A node that stands still does
// nothing; what arrived meanwhile comes before its deadline.
static uint32_t world_next(struct world *world, uint64_t *at_ns, uint32_t *wakes)
{
    uint32_t first = 0;

    *wakes = 0;
    *at_ns = UINT64_MAX;
    for (uint32_t i = 0; i < world->event_count; i++) {
        struct event *event = &world->events[i];

        if (event->node != 0 && event->at_ns < world->nodes[event->node].thaw_ns) {
            event->at_ns = world->nodes[event->node].thaw_ns;
        }
        if (event->at_ns < *at_ns ||
            (event->at_ns == *at_ns && event->number < world->events[first].number)) {
            first = i;
            *at_ns = event->at_ns;
        }
    }
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        const struct node *node = &world->nodes[i];
        uint64_t wake_ns = UINT64_MAX;

        if (node->up) {
            wake_ns = world_true_ns(node, torc_watch_deadline_ns(&node->watch));
            wake_ns = torc_max_u64(torc_max_u64(wake_ns, node->thaw_ns), world->now_ns);
        }
        if (wake_ns < *at_ns) {
            *wakes = i;
            *at_ns = wake_ns;
        }
    }
    return first;
}

static void world_begin(struct world *world, uint64_t seed)
{
    void *memory[NODES_MAX + 1];

    for (uint32_t i = 0; i <= NODES_MAX; i++) {
        memory[i] = world->nodes[i].memory;
    }
    memset(world, 0, sizeof(*world));
    world->rng.state = seed;
    world->nodes_count = 2 + (uint32_t)torc_rng_below(&world->rng, NODES_MAX - 1);
    world->shards_count = 1 + (uint32_t)torc_rng_below(&world->rng, SHARDS_MAX);
    world->calm_ns = TROUBLE_NS;
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        struct node *node = &world->nodes[i];

        node->memory = memory[i];
        node->ahead_ns = torc_rng_below(&world->rng, UINT64_C(3600000) * MS);
        node->drift_ppm = ((int64_t)torc_rng_below(&world->rng, 3) - 1) * 1000;
        driver_start(world, i);
        world_at(world, EVENT_POLL, i, 0);
    }
    for (uint32_t i = world->nodes_count + 1; i <= NODES_MAX; i++) {
        world->nodes[i].memory = memory[i];
    }
    for (uint32_t shard = 0; shard < world->shards_count; shard++) {
        uint32_t primary = world_some_node(world);

        world->records[shard] =
            (struct record){.epoch = 1, .primary = primary, .boot = 1, .members = 1u << primary};
    }
    world_at(world, EVENT_FAULT, 0, 10 * MS);
}

static bool world_is_well(const struct world *world)
{
    for (uint32_t shard = 0; shard < world->shards_count; shard++) {
        const struct record *record = &world->records[shard];

        if (world->nodes[record->primary].parts[shard].record.epoch != record->epoch ||
            !driver_reads(world, record->primary, shard)) {
            return false;
        }
    }
    return true;
}

void world_run(struct world *world, uint64_t seed)
{
    bool calm = false;

    world_begin(world, seed);
    while (world->wrong[0] == 0 && world->now_ns < LIFE_NS) {
        uint64_t at_ns;
        uint32_t wakes;
        uint32_t first = world_next(world, &at_ns, &wakes);
        struct event event = world->events[first];

        if (!calm && at_ns >= world->calm_ns) {
            calm = true;
            world->now_ns = world->calm_ns;
            world_calm(world);
            continue;
        }
        world->now_ns = at_ns;
        if (wakes != 0) {
            driver_step(world, wakes, NULL);
            driver_check(world, wakes);
        } else {
            world->events[first] = world->events[--world->event_count];
            world_event(world, &event);
            if (event.node != 0) {
                driver_check(world, event.node);
            }
        }
        if (calm && !world_is_well(world)) {
            world->healed_ns = world->now_ns;
        }
    }
    if (world->wrong[0] == 0 && world->healed_ns + 100 * MS > world->now_ns) {
        world->stuck = true;
        world_wrong(world, "no reads everywhere %" PRIu64 " ms after the last fault",
                    HEALING_NS / MS);
    }
}
