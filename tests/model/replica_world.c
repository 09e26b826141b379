// Torc tests: events, nodes, network, metastore and faults around one shard. See replica_world.h.
#include "tests/model/replica_world.h"

#include <string.h>

// -- Events -------------------------------------------------------------------------------------

// Packets that arrive together with a deadline come before it: a core that slept must not suspect
// peers whose beats lie in its queue.
static bool world_before(const struct world *world, uint32_t a, uint32_t b)
{
    const struct event *first = &world->events[a];
    const struct event *second = &world->events[b];

    if (first->at_ns != second->at_ns) {
        return first->at_ns < second->at_ns;
    }
    if ((first->kind == EVENT_WAKE) != (second->kind == EVENT_WAKE)) {
        return second->kind == EVENT_WAKE;
    }
    return first->number < second->number;
}

static void world_swap(struct world *world, uint32_t i, uint32_t j)
{
    uint32_t kept = world->heap[i];

    world->heap[i] = world->heap[j];
    world->heap[j] = kept;
}

static void world_push(struct world *world, uint32_t slot)
{
    uint32_t i = world->event_count++;

    world->heap[i] = slot;
    while (i > 0 && world_before(world, world->heap[i], world->heap[(i - 1) / 2])) {
        world_swap(world, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static uint32_t world_pop(struct world *world)
{
    uint32_t slot = world->heap[0];
    uint32_t i = 0;

    world->heap[0] = world->heap[--world->event_count];
    for (;;) {
        uint32_t least = i;

        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2; child++) {
            if (child < world->event_count &&
                world_before(world, world->heap[child], world->heap[least])) {
                least = child;
            }
        }
        if (least == i) {
            return slot;
        }
        world_swap(world, i, least);
        i = least;
    }
}

struct event *world_at(struct world *world, enum event_kind kind, uint32_t node, uint64_t delay_ns)
{
    uint32_t slot;
    struct event *event;

    torc_assert(world->free_count > 0);
    slot = world->free_list[--world->free_count];
    event = &world->events[slot];
    event->kind = kind;
    event->node = node;
    event->boot = node == 0 || kind == EVENT_RESTART || kind == EVENT_DOWN || kind == EVENT_PACKET
                      ? 0
                      : world->nodes[node].boot;
    event->at_ns = world->now_ns + delay_ns;
    event->number = ++world->number;
    world_push(world, slot);
    return event;
}

uint32_t world_number(const struct world *world, const struct node *node)
{
    return (uint32_t)(node - world->nodes);
}

// -- Clocks -------------------------------------------------------------------------------------

uint64_t world_local_ns(const struct world *world, const struct node *node)
{
    int64_t error_ns = (int64_t)world->now_ns / 1000 * node->drift_ppm / 1000;

    return node->zero_ns + world->now_ns + (uint64_t)error_ns;
}

// Sleeps until the machines want time to pass.
static void world_sleep(struct world *world, struct node *node)
{
    uint64_t local_ns = world_local_ns(world, node);
    uint64_t deadline_ns = torc_min_u64(torc_watch_deadline_ns(&node->watch),
                                        torc_replica_deadline_ns(&node->replica));
    uint64_t delay_ns = deadline_ns > local_ns ? deadline_ns - local_ns : 0;

    delay_ns += delay_ns / 500 + 1 * US;
    node->wake_number = world->number + 1;
    world_at(world, EVENT_WAKE, world_number(world, node), delay_ns)->wake_number =
        node->wake_number;
}

// -- Network ------------------------------------------------------------------------------------

static bool world_is_rough(const struct world *world)
{
    return world->now_ns < world->calm_ns;
}

void world_send(struct world *world, uint32_t from, uint32_t to, const struct packet *packet)
{
    bool rough = world_is_rough(world);
    bool lossy = rough && world->now_ns < world->lossy_ns;
    uint32_t copies = rough && torc_rng_chance(&world->rng, 10000) ? 2 : 1;

    if (world->now_ns < world->cut_ns[from][to] || torc_rng_chance(&world->rng, lossy   ? 300000
                                                                                : rough ? 2000
                                                                                        : 0)) {
        return;
    }
    for (uint32_t i = 0; i < copies && world->free_count > EVENTS_MAX / 8; i++) {
        // One of eight overtakes or is overtaken: the shipping is go-back-N.
        uint64_t delay_ns =
            20 * US +
            (torc_rng_chance(&world->rng, 125000) ? torc_rng_below(&world->rng, 40 * US) : 0);
        bool slow =
            rough && torc_rng_chance(&world->rng, world->now_ns < world->slow_ns ? 200000 : 4000);
        struct event *event;

        delay_ns += world->now_ns < world->late_ns[from][to] ? world->late_by_ns : 0;
        delay_ns += slow ? torc_rng_below(&world->rng,
                                          torc_rng_chance(&world->rng, 200000) ? 400 * MS : 20 * MS)
                         : 0;
        event = world_at(world, EVENT_PACKET, to, delay_ns);
        event->packet = *packet;
        event->packet.from = from;
        event->packet.from_boot = world->nodes[from].boot;
    }
}

// -- Metastore ----------------------------------------------------------------------------------

static void world_notify(struct world *world)
{
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        if (world->nodes[i].up && world->now_ns >= world->store_ns[i] &&
            !(world_is_rough(world) && torc_rng_chance(&world->rng, 300000))) {
            world_at(world, EVENT_NOTIFIED, i, torc_rng_below(&world->rng, 3 * MS));
        }
    }
}

static void world_fill_record(const struct world *world, struct torc_replica_record *record)
{
    record->configuration = world->record;
    record->primary_down_boot = world->node_down[world->record.primary_node];
    record->primary_node_boot = world->node_boot[world->record.primary_node];
}

// What the epoch's record says must tile with the last one: a member at least, all of them known.
static bool world_swap_record(struct world *world, const struct torc_replica_proposal *proposal)
{
    bool joined;
    bool taken;

    if (proposal->expected_epoch != world->record.epoch) {
        return false;
    }
    joined = proposal->configuration.member_count > world->record.member_count;
    taken = proposal->configuration.primary_node != world->record.primary_node;
    if (taken && proposal->configuration.primary_node == world->deaf) { // S3
        oracle_wrong(world, "node %u deposes node %u, which all others hear", world->deaf,
                     world->record.primary_node);
    }
    world->joins += joined;
    world->removals += proposal->configuration.member_count < world->record.member_count;
    world->record = proposal->configuration;
    if (world->record.member_count == 0 || world->record.epoch != proposal->expected_epoch + 1) {
        oracle_wrong(world, "a record of epoch %u without members", world->record.epoch);
    }
    aims_swapped(world, joined);
    world_notify(world);
    return true;
}

static void world_request(struct world *world, const struct event *event)
{
    bool away = world_is_rough(world) &&
                world->now_ns < torc_max_u64(world->away_ns, world->store_ns[event->node]);
    bool won = false;
    bool lost_reply;
    struct event *reply;

    if (away) {
        return; // never executed, never answered
    }
    if (event->request.propose) {
        won = world_swap_record(world, &event->request.proposal);
        won = won || world->record.nonce == event->request.proposal.configuration.nonce;
    }
    lost_reply = world_is_rough(world) && torc_rng_chance(&world->rng, 100000);
    lost_reply = lost_reply || world->now_ns < world->store_ns[event->node];
    if (lost_reply || !world->nodes[event->node].up ||
        world->nodes[event->node].boot != event->boot) {
        return;
    }
    reply =
        world_at(world, EVENT_REPLY, event->node, 200 * US + torc_rng_below(&world->rng, 1 * MS));
    reply->reply.propose = event->request.propose;
    world_fill_record(world, &reply->reply.record);
    reply->reply.record.asked_epoch = event->request.asked_epoch;
    reply->reply.result.nonce = event->request.proposal.configuration.nonce;
    reply->reply.result.outcome = won ? TORC_REPLICA_WON : TORC_REPLICA_LOST;
    if (world_is_rough(world) && torc_rng_chance(&world->rng, 100000)) {
        reply->reply.result.outcome = TORC_REPLICA_UNKNOWN;
    }
    reply->reply.result.record = reply->reply.record;
}

// -- Faults -------------------------------------------------------------------------------------

static uint64_t world_some(struct world *world, uint64_t below)
{
    return torc_rng_below(&world->rng, below);
}

static uint32_t world_some_node(struct world *world)
{
    return 1 + (uint32_t)world_some(world, world->setup.nodes);
}

void world_kill(struct world *world, uint32_t number, bool keeps_memory, uint64_t back_ns)
{
    struct node *node = &world->nodes[number];

    if (!node->up) {
        return;
    }
    shell_crash(world, node, keeps_memory);
    world_at(world, EVENT_RESTART, number, back_ns);
    if (world->down_at_once) {
        world_at(world, EVENT_DOWN, number, 200 * US + world_some(world, 1 * MS))->down_boot =
            node->boot;
    } else if (world_some(world, 2) == 0) { // its control lives, and says so
        world_at(world, EVENT_DOWN, number, 1 * MS + world_some(world, 5 * MS))->down_boot =
            node->boot;
    }
}

static void world_choose_want(struct world *world)
{
    uint32_t first = world_some_node(world);

    world->want.node_count = world->setup.replicas;
    for (uint32_t i = 0; i < world->setup.replicas; i++) {
        world->want.nodes[i] = 1 + (first + i) % world->setup.nodes;
    }
    world->want.primary_node =
        world_some(world, 2) == 0 ? world->want.nodes[world_some(world, world->setup.replicas)] : 0;
}

static void world_cut(struct world *world)
{
    uint32_t a = world_some_node(world);
    uint32_t b = world_some_node(world);
    uint64_t until_ns = world->now_ns + world_some(world, 300 * MS);

    switch (world_some(world, 4)) {
    case 0: world->cut_ns[a][b] = until_ns; break;
    case 1:
        world->cut_ns[a][b] = until_ns;
        world->cut_ns[b][a] = until_ns;
        break;
    case 2:
        for (uint32_t i = 1; i <= world->setup.nodes; i++) {
            world->cut_ns[a][i] = until_ns;
            world->cut_ns[i][a] = until_ns;
        }
        break;
    default:
        for (uint32_t i = 1; i <= world->setup.nodes; i++) {
            world->cut_ns[i][a] = until_ns; // deaf
        }
        break;
    }
}

static void world_trouble(struct world *world)
{
    uint32_t a = world_some_node(world);
    struct node *node = &world->nodes[a];
    uint64_t back_ns = world_some(world, 3) == 0 ? 1 * MS + world_some(world, 5 * MS)
                                                 : 20 * MS + world_some(world, 300 * MS);
    uint64_t plan_ns = world_some(world, 3) == 0 ? aims_begin(world) : 0;

    if (plan_ns > 0) {
        world_at(world, EVENT_FAULT, 0, plan_ns);
        return;
    }
    // The primary is the one whose trouble matters.
    if (world_some(world, 2) == 0) {
        a = world->record.primary_node;
        node = &world->nodes[a];
    }
    switch (world_some(world, 12)) {
    case 0:
    case 1: world_kill(world, a, world_some(world, 2) == 0, back_ns); break;
    case 2:
    case 3:
        back_ns = world_some(world, world_some(world, 3) == 0 ? 300 * MS : 60 * MS);
        node->thaw_ns = torc_max_u64(node->thaw_ns, world->now_ns + back_ns);
        break;
    case 4:
    case 5: world_cut(world); break;
    case 6: world->lossy_ns = world->now_ns + world_some(world, 50 * MS); break;
    case 7: world->slow_ns = world->now_ns + world_some(world, 80 * MS); break;
    case 8: world->away_ns = world->now_ns + world_some(world, 300 * MS); break;
    case 9: world_choose_want(world); break;
    case 10:
        node->slow_disk_ns = world->now_ns + world_some(world, 200 * MS);
        if (world_some(world, 4) == 0) {
            node->health = (uint8_t)(world_some(world, 2) == 0   ? TORC_HEALTH_LOG_FAILED
                                     : world_some(world, 2) == 0 ? TORC_HEALTH_STALLED
                                                                 : 0);
        }
        break;
    default:
        if (world_some(world, 6) == 0) { // power loss of all
            for (uint32_t i = 1; i <= world->setup.nodes; i++) {
                world_kill(world, i, false, 5 * MS + world_some(world, 100 * MS));
            }
        }
        break;
    }
    world_at(world, EVENT_FAULT, 0,
             1 * MS + world_some(world, world_some(world, 2) == 0 ? 5 * MS : 60 * MS));
}

// Once in a life, before all other trouble: a member of three is deaf to the primary, and to it
// alone. It may be removed, and must not take over (S3).
static bool world_begin_deaf(struct world *world)
{
    uint32_t primary = world->record.primary_node;
    bool first = !world->troubled && world->record.epoch == 1;

    world->troubled = true;
    world->deaf = 0;
    if (!first || world->record.member_count < 3 || world_some(world, 4) != 0) {
        return false;
    }
    world->deaf = 1 + primary % world->setup.replicas;
    world->cut_ns[primary][world->deaf] = world->now_ns + 250 * MS;
    return true;
}

static void world_heal(struct world *world)
{
    memset(world->cut_ns, 0, sizeof(world->cut_ns));
    memset(world->store_ns, 0, sizeof(world->store_ns));
    world->deaf = 0;
    world->aim = AIM_NONE;
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        world->nodes[i].slow_disk_ns = 0;
        world->nodes[i].health = 0;
    }
    world_choose_want(world);
    world->want.primary_node = world->want.nodes[0];
}

// -- A run --------------------------------------------------------------------------------------

static void world_restart(struct world *world, uint32_t number)
{
    struct node *node = &world->nodes[number];

    if (node->up) {
        return;
    }
    node->boot = ++world->node_boot[number];
    shell_start(world, node);
    world_notify(world);
    world_sleep(world, node);
}

// For the node: later if it stands still, not at all if its process is gone.
static void world_deliver(struct world *world, uint32_t slot)
{
    struct event *event = &world->events[slot];
    struct node *node = &world->nodes[event->node];

    if (!node->up || (event->boot != 0 && event->boot != node->boot) ||
        (event->kind == EVENT_WAKE && event->wake_number != node->wake_number)) {
        return;
    }
    if (node->thaw_ns > world->now_ns) {
        event->at_ns = node->thaw_ns;
        world_push(world, slot); // it keeps its slot
        return;
    }
    shell_event(world, node, event);
    oracle_check(world);
    if (node->up && (event->kind == EVENT_WAKE || world_some(world, 2) == 0)) {
        world_sleep(world, node);
    }
}

static void world_dispatch(struct world *world, uint32_t slot)
{
    struct event *event = &world->events[slot];

    switch (event->kind) {
    case EVENT_REQUEST: world_request(world, event); return;
    case EVENT_RESTART: world_restart(world, event->node); return;
    case EVENT_DOWN:
        world->node_down[event->node] =
            torc_max_u64(world->node_down[event->node], event->down_boot);
        world_notify(world);
        return;
    case EVENT_CLIENT:
        (void)shell_write(world, &world->nodes[world_some_node(world)]);
        world_at(world, EVENT_CLIENT, 0, 50 * US + world_some(world, 600 * US));
        return;
    case EVENT_FAULT:
        if (world_is_rough(world) && !world_begin_deaf(world)) {
            world_trouble(world);
        } else if (world_is_rough(world)) {
            world_at(world, EVENT_FAULT, 0, 300 * MS);
        } else {
            world_heal(world);
        }
        return;
    case EVENT_AIM: aims_step(world); return;
    case EVENT_NONE:
    case EVENT_PACKET:
    case EVENT_WAKE:
    case EVENT_ADOPT:
    case EVENT_ADOPTED:
    case EVENT_REPLY:
    case EVENT_NOTIFIED:
    case EVENT_DISK:
    case EVENT_BASE_READY:
    case EVENT_BASE_DURABLE: world_deliver(world, slot); return;
    }
}

static void world_birth(struct world *world, const struct world_setup *setup)
{
    struct torc_watch_peer *memory[NODES_MAX + 1];

    for (uint32_t i = 0; i <= NODES_MAX; i++) {
        memory[i] = world->nodes[i].watch.peers;
    }
    memset(world, 0, sizeof(*world));
    world->setup = *setup;
    world->rng.state = setup->seed;
    world->now_ns = 1000 * MS;
    world->calm_ns = world->now_ns + setup->trouble_ns;
    world->record = (struct torc_configuration){.epoch = 1, .primary_node = 1, .primary_boot = 1};
    for (uint32_t i = 0; i <= NODES_MAX; i++) {
        world->nodes[i].watch.peers = memory[i];
    }
    for (uint32_t i = 0; i < EVENTS_MAX; i++) {
        world->free_list[world->free_count++] = EVENTS_MAX - 1 - i;
    }
    for (uint32_t i = 1; i <= setup->nodes; i++) {
        struct node *node = &world->nodes[i];

        node->drift_ppm = world_some(world, 2) == 0 ? (world_some(world, 2) == 0 ? 1000 : -1000)
                                                    : (int64_t)world_some(world, 2001) - 1000;
        node->zero_ns = world_some(world, 1000 * MS);
        node->copy = ++world->copy_count;
        node->disk.has_base = true;
        if (i <= setup->replicas) {
            world->record.members[world->record.member_count++] =
                (struct torc_member){.node = i, .copy = node->copy};
            world->want.nodes[world->want.node_count++] = i;
        }
        world_at(world, EVENT_RESTART, i, world_some(world, 1 * MS));
    }
    world_at(world, EVENT_CLIENT, 0, 150 * MS);
    world_at(world, EVENT_FAULT, 0, 200 * MS);
}

void world_run(struct world *world, const struct world_setup *setup)
{
    uint64_t end_ns;

    world_birth(world, setup);
    end_ns = world->calm_ns + 6000 * MS;
    while (world->now_ns < end_ns && world->wrong[0] == 0) {
        uint32_t slot = world_pop(world);
        struct event *event = &world->events[slot];
        bool waits;

        torc_assert(event->at_ns >= world->now_ns);
        world->now_ns = event->at_ns;
        world_dispatch(world, slot);
        waits = event->kind != EVENT_REQUEST && event->node != 0 && event->at_ns > world->now_ns;
        if (!waits) {
            world->free_list[world->free_count++] = slot;
        }
        if (!world_is_rough(world) && world->now_ns > world->calm_ns + 100 * MS &&
            oracle_is_well(world)) {
            break;
        }
    }
    for (uint32_t i = 1; i <= setup->nodes && world->wrong[0] == 0; i++) {
        if (world->nodes[i].up && world->nodes[i].replica.role == TORC_REPLICA_ACTIVE) {
            oracle_tree(world, &world->nodes[i], "at the end");
        }
    }
    if (world->wrong[0] == 0 && !oracle_is_well(world) && oracle_can_recover(world)) {
        oracle_wrong(world, "not well 6 s after the last fault (record epoch %u)",
                     world->record.epoch);
    }
}
