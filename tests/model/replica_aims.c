// Torc tests: troubles that are aimed at one rule each. See replica_world.h.
//
// What    random trouble seldom meets what needs three things in a row within 20 ms. An aim is a
//         short plan: it begins (a fault event), and goes on when the metastore has executed a swap
//         or when its next step is due. Plans break nothing that random trouble could not break.
#include "tests/model/replica_world.h"

// How long a plan may wait for the swap that it needs.
#define AIM_WAIT_NS (500 * MS)

static uint32_t aims_stretch(const struct world *world)
{
    uint32_t stretch = 1;

    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        stretch =
            (uint32_t)torc_max_u64(stretch, world->nodes[i].up ? world->nodes[i].watch.stretch : 1);
    }
    return stretch;
}

// Nothing gets in or out, and the metastore is out of reach as well.
static void aims_isolate(struct world *world, uint32_t node, uint64_t for_ns, bool store)
{
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        world->cut_ns[node][i] = torc_max_u64(world->cut_ns[node][i], world->now_ns + for_ns);
        world->cut_ns[i][node] = torc_max_u64(world->cut_ns[i][node], world->now_ns + for_ns);
    }
    if (store) {
        world->store_ns[node] = torc_max_u64(world->store_ns[node], world->now_ns + for_ns);
    }
}

static void aims_step_in(struct world *world, uint64_t delay_ns)
{
    world_at(world, EVENT_AIM, 0, delay_ns);
}

// A member beside the primary; 0: there is none.
static uint32_t aims_some_backup(struct world *world)
{
    const struct torc_configuration *record = &world->record;
    uint32_t first = (uint32_t)torc_rng_below(&world->rng, record->member_count);

    for (uint32_t i = 0; i < record->member_count; i++) {
        uint32_t node = record->members[(first + i) % record->member_count].node;

        if (node != record->primary_node && world->nodes[node].up) {
            return node;
        }
    }
    return 0;
}

static bool aims_primary_is_active(const struct world *world)
{
    const struct node *primary = &world->nodes[world->record.primary_node];

    return primary->up && primary->replica.role == TORC_REPLICA_ACTIVE &&
           primary->boot == world->record.primary_boot &&
           primary->replica.epoch == world->record.epoch && primary->thaw_ns <= world->now_ns;
}

// A primary that loses touch: answers to it come late, or its k has just grown; then silence.
static void aims_begin_late(struct world *world)
{
    uint32_t primary = world->record.primary_node;

    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        world->late_ns[i][primary] = world->now_ns + 60 * MS;
    }
    world->late_by_ns = 8 * MS + torc_rng_below(&world->rng, 9 * MS);
    world->aim_node = primary;
    aims_step_in(world, 30 * MS);
}

// The primary hands over; the receiver's metastore is away until the primary took it back.
static void aims_begin_transfer(struct world *world, uint32_t backup)
{
    world->want.node_count = world->record.member_count;
    for (uint32_t i = 0; i < world->record.member_count; i++) {
        world->want.nodes[i] = world->record.members[i].node;
    }
    world->want.primary_node = backup;
    world->aim_node = backup;
    world->store_ns[backup] = world->now_ns + 700 * MS;
}

uint64_t aims_begin(struct world *world)
{
    uint32_t backup = aims_some_backup(world);
    uint32_t members = world->record.member_count;
    uint64_t wait_ns = AIM_WAIT_NS;

    world->aim = AIM_NONE;
    world->aim_stage = 0;
    if (backup == 0 || !aims_primary_is_active(world)) {
        return 0;
    }
    world->aim_primary = world->record.primary_node;
    switch ((enum aim)torc_rng_below(&world->rng, AIM_COUNT)) {
    case AIM_NONE:
    case AIM_COUNT: return 0;
    case AIM_CHAIN:
        if (members < 3) {
            return 0;
        }
        world->nodes[world->aim_primary].health = TORC_HEALTH_LOG_FAILED;
        world->aim = AIM_CHAIN;
        wait_ns = 60 * MS;
        break;
    case AIM_LONELY: // a member alone with the metastore, the primary without it
        if (members < 3) {
            return 0;
        }
        aims_isolate(world, backup, 300 * MS + 40 * MS * aims_stretch(world), false);
        world->store_ns[world->aim_primary] = world->cut_ns[backup][backup];
        wait_ns = 350 * MS;
        break;
    case AIM_LATE:
        world->aim = AIM_LATE;
        aims_begin_late(world);
        wait_ns = 150 * MS;
        break;
    case AIM_TRANSFER:
        world->aim = AIM_TRANSFER;
        aims_begin_transfer(world, backup);
        break;
    case AIM_JOIN_CUT:  // the next join finds its member and the primary apart
    case AIM_JOIN_DARK: // or without power
        world->aim = torc_rng_below(&world->rng, 2) == 0 ? AIM_JOIN_CUT : AIM_JOIN_DARK;
        world_kill(world, backup, false, 1 * MS + torc_rng_below(&world->rng, 20 * MS));
        break;
    }
    world->aim_until_ns = world->now_ns + wait_ns;
    return wait_ns;
}

// -- A swap was executed --------------------------------------------------------------------------

// AIM_CHAIN: the old primary reads on, out of reach; the new one dies at once, and is known dead.
static void aims_chain(struct world *world)
{
    uint32_t old = world->aim_primary;

    if (world->aim_stage == 0 && world->record.primary_node != old) {
        world->aim_stage = 1;
        world->aim_node = world->record.primary_node;
        aims_isolate(world, old, 40 * MS * aims_stretch(world), true);
        aims_step_in(world, 1 * MS + torc_rng_below(&world->rng, 4 * MS));
        for (uint32_t i = 0; i < world->record.member_count; i++) {
            uint32_t node = world->record.members[i].node;

            if (node != world->aim_node && node != old && torc_rng_below(&world->rng, 2) == 0) {
                world_kill(world, node, true, 500 * US);
            }
        }
    }
}

static void aims_transfer(struct world *world)
{
    uint32_t old = world->aim_primary;

    if (world->aim_stage == 0 && world->record.primary_node == old) {
        world->aim_stage = 1;
        world->want.primary_node = 0;
        aims_step_in(world, 6 * MS + torc_rng_below(&world->rng, 12 * MS));
    } else if (world->aim_stage == 2 && world->record.primary_node != old) {
        aims_isolate(world, old, 40 * MS * aims_stretch(world), true);
        world->aim = AIM_NONE;
    }
}

static void aims_joined(struct world *world)
{
    uint32_t primary = world->record.primary_node;
    uint32_t joined = world->record.members[world->record.member_count - 1].node;
    uint64_t for_ns = (world->record.member_count == 2 ? 60 : 300) * MS;

    if (world->aim == AIM_JOIN_CUT) {
        aims_isolate(world, joined, for_ns + 40 * MS * aims_stretch(world), false);
        world->store_ns[primary] = world->cut_ns[joined][joined];
    } else {
        for (uint32_t i = 1; i <= world->setup.nodes; i++) {
            world->down_at_once = i == primary;
            world_kill(world, i, true,
                       i == joined ? 1 * MS : 100 * MS + torc_rng_below(&world->rng, 300 * MS));
        }
        world->down_at_once = false;
    }
    world->aim = AIM_NONE;
}

void aims_swapped(struct world *world, bool joined)
{
    if (world->now_ns >= world->aim_until_ns) {
        world->aim = AIM_NONE;
    }
    switch (world->aim) {
    case AIM_CHAIN: aims_chain(world); return;
    case AIM_TRANSFER: aims_transfer(world); return;
    case AIM_JOIN_CUT:
    case AIM_JOIN_DARK:
        if (joined) {
            aims_joined(world);
        }
        return;
    case AIM_NONE:
    case AIM_LONELY:
    case AIM_LATE:
    case AIM_COUNT: return;
    }
}

// -- A step is due --------------------------------------------------------------------------------

void aims_step(struct world *world)
{
    struct node *node = &world->nodes[world->aim_node];

    if (world->aim == AIM_CHAIN && world->aim_stage == 1) {
        world->down_at_once = true;
        world_kill(world, world->aim_node, true, 100 * MS);
        world->down_at_once = false;
        world->aim = AIM_NONE;
    } else if (world->aim == AIM_TRANSFER && world->aim_stage == 1) {
        world->aim_stage = 2;
        world->nodes[world->aim_primary].health = TORC_HEALTH_LOG_FAILED;
        world->store_ns[world->aim_node] = 0;
    } else if (world->aim == AIM_LATE) {
        for (uint64_t i = torc_rng_below(&world->rng, 4); i > 0 && node->up; i--) {
            shell_false_alarm(world, node);
        }
        aims_isolate(world, world->aim_node, 60 * MS * aims_stretch(world), true);
        for (uint32_t i = 1; i <= world->setup.nodes; i++) { // what is under way arrives
            world->late_ns[i][world->aim_node] = 0;
        }
        world->aim = AIM_NONE;
    }
}
