// Torc tests: what stands in for the replicas of a node, and what must hold. See watch_world.h.
#include "tests/model/watch_world.h"

#include <stdlib.h>
#include <string.h>

const struct torc_watch_timing watch_timing = {
    .beat_ns = 5 * MS,
    .promise_ns = 20 * MS,
    .suspect_ns = 25 * MS,
    .margin_ns = 500 * US,
    .calm_ns = 10 * MS, // a second in life
    .drift_ppm = 1000,
};

static uint32_t driver_bit(uint32_t node)
{
    return UINT32_C(1) << node;
}

// -- What a node does with its watch --------------------------------------------------------------

static void driver_self(struct world *world, uint32_t number)
{
    struct node *node = &world->nodes[number];
    struct torc_watch_self self = {
        .ceiling_wanted = node->wanted, .open_hlc = UINT64_MAX, .turning = node->turning};
    struct torc_watch_event event = {.kind = TORC_WATCH_SELF, .self = &self};

    driver_step(world, number, &event);
}

void driver_start(struct world *world, uint32_t number)
{
    struct node *node = &world->nodes[number];
    struct torc_watch_config config = {.timing = watch_timing,
                                       .boot = ++node->boot,
                                       .node = number,
                                       .peers_max = NODES_MAX - 1,
                                       .shards_max = SHARDS_MAX};
    struct torc_watch_event kept = {.kind = TORC_WATCH_CEILING, .ceiling = node->kept};
    struct torc_fail why;

    if (node->memory == NULL) {
        node->memory = aligned_alloc(64, (torc_watch_bytes(&config) + 63) / 64 * 64);
    }
    torc_assert(node->memory != NULL);
    memset(node->memory, 0, torc_watch_bytes(&config));
    memset(node->parts, 0, sizeof(node->parts));
    memset(node->told_ns, 0, sizeof(node->told_ns));
    node->up = true;
    node->turning = true;
    TORC_TEST_OK(
        torc_watch_init(&node->watch, node->memory, world_local_ns(world, node), &config, &why),
        &why);
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        if (i != number) {
            TORC_TEST_OK(torc_watch_meet(&node->watch, i, &why), &why);
        }
    }
    driver_step(world, number, &kept);
    driver_self(world, number);
}

// An answer that promises anything binds its sender to the beat's for all shards of which it knows
// the other as primary: from now on, for as long as it says.
static void driver_promised(struct world *world, uint32_t number, uint32_t to,
                            const struct torc_beat_ack *ack)
{
    struct node *node = &world->nodes[number];
    uint64_t until_ns =
        world_local_ns(world, node) + watch_timing.promise_ns * (uint64_t)ack->stretch;
    bool any = false;

    for (uint32_t i = 0; i < TORC_COUNT_OF(ack->promised); i++) {
        any = any || ack->promised[i] != 0;
    }
    for (uint32_t shard = 0; shard < world->shards_count && any; shard++) {
        struct promise *promise = &world->promises[number][to][shard];
        uint64_t boot = torc_watch_peer_state(&node->watch, to).boot;

        if (node->parts[shard].synced && node->parts[shard].record.primary == to) {
            promise->until_ns = promise->boot == boot ? promise->until_ns : 0;
            promise->until_ns = torc_max_u64(promise->until_ns, world_true_ns(node, until_ns));
            promise->boot = boot;
        }
    }
    if (ack->ceiling > node->kept) {
        world_wrong(world, "node %u says that it keeps a ceiling, and does not", number);
    }
}

static void driver_send(struct world *world, uint32_t number, struct event *packet)
{
    uint32_t to = packet->node;
    uint64_t lost = world->now_ns < world->lossy_ns ? 300000 : 10000;
    uint32_t count = torc_rng_chance(&world->rng, 30000) ? 2 : 1;

    for (uint32_t i = 0; i < count; i++) {
        bool slow = world->now_ns < world->calm_ns && torc_rng_chance(&world->rng, 100000);
        uint64_t delay_ns = world_some_ns(world, 30 * US, slow ? 15 * MS : 1 * MS);
        struct event *event;
        uint64_t at_ns;
        uint64_t order;

        if (world->cut_ns[number][to] > world->now_ns ||
            (world->now_ns < world->calm_ns && torc_rng_chance(&world->rng, lost))) {
            continue;
        }
        event = world_at(world, EVENT_PACKET, to, delay_ns);
        at_ns = event->at_ns;
        order = event->number;
        *event = *packet;
        event->at_ns = at_ns;
        event->number = order;
        event->from = number;
        event->from_boot = world->nodes[number].boot;
    }
}

static void driver_claims(struct world *world, uint32_t number, struct event *packet)
{
    torc_watch_claim_message(&world->nodes[number].watch, packet->node, &packet->claim);
    for (uint32_t i = 0; i < packet->claim.count; i++) {
        if (packet->claim.items[i].slot >= world->shards_count) {
            world_wrong(world, "node %u takes a new slot while others are empty", number);
        }
    }
    if (packet->claim.count > TORC_CLAIM_ITEMS_MAX) {
        world_wrong(world, "node %u sends too many claims at once", number);
    }
}

// The record as it is now, some time later.
void driver_tell(struct world *world, uint32_t number, uint32_t shard, uint64_t most_ns)
{
    struct event *event =
        world_at(world, EVENT_RECORD, number, world_some_ns(world, 100 * US, most_ns));

    event->shard = shard;
    event->copy = world->nodes[number].copies[shard];
    event->record = world->records[shard];
}

static void driver_act(struct world *world, uint32_t number, const struct torc_watch_action *action)
{
    struct event packet = {.kind = EVENT_PACKET, .node = action->node};
    struct event *event;

    switch (action->kind) {
    case TORC_WATCH_SEND_BEAT:
        packet.packet = TORC_WATCH_BEAT;
        packet.beat = action->beat;
        break;
    case TORC_WATCH_SEND_ACK:
        packet.packet = TORC_WATCH_BEAT_ACK;
        packet.ack = action->beat_ack;
        driver_promised(world, number, action->node, &action->beat_ack);
        break;
    case TORC_WATCH_SEND_CLAIM:
        packet.packet = TORC_WATCH_CLAIM;
        driver_claims(world, number, &packet);
        break;
    case TORC_WATCH_TELL_PEER: return;
    case TORC_WATCH_KEEP:
        event = world_at(world, EVENT_KEPT, number, world_some_ns(world, 50 * US, 20 * MS));
        event->boot = world->nodes[number].boot;
        event->ceiling = action->ceiling;
        return;
    case TORC_WATCH_READ: driver_tell(world, number, action->shard, 5 * MS); return;
    }
    driver_send(world, number, &packet);
}

void driver_step(struct world *world, uint32_t number, const struct torc_watch_event *event)
{
    struct node *node = &world->nodes[number];
    struct torc_watch_actions actions;
    uint64_t boot = 0;

    actions.count = 0;
    if (event != NULL && event->node != 0) {
        boot = torc_watch_peer_state(&node->watch, event->node).boot;
    }
    torc_watch_step(&node->watch, world_local_ns(world, node), event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        driver_act(world, number, &actions.items[i]);
    }
    if (torc_rng_below(&world->rng, 8) == 0) { // a reader wants to be confirmed
        uint64_t bound_ns = torc_watch_ask(&node->watch);

        if (bound_ns <= node->watch.sent_ns) {
            world_wrong(world, "node %u: a beat that has left would confirm", number);
        }
    }
    world->steps++;
    if (boot == 0 || torc_watch_peer_state(&node->watch, event->node).boot == boot ||
        event->kind == TORC_WATCH_BEAT_ACK) {
        return;
    }
    for (uint32_t shard = 0; shard < world->shards_count; shard++) { // W4
        struct torc_watch_lease lease =
            torc_watch_lease(&node->watch, shard, node->parts[shard].record.epoch, event->node);

        if (lease.until_ns != 0 || lease.ceiling != 0) {
            world_wrong(world, "node %u has a lease of a dead boot of %u", number, event->node);
        }
    }
}

void driver_want(struct world *world, uint32_t number)
{
    struct node *node = &world->nodes[number];

    node->wanted += 1 + torc_rng_below(&world->rng, 1000);
    driver_self(world, number);
    world->ceilings++;
}

// -- Epochs ---------------------------------------------------------------------------------------

// W1: now that `number` follows somebody else, nobody may hold its lease longer than it waits.
static void driver_check_freed(struct world *world, uint32_t number, uint32_t shard, uint32_t last)
{
    const struct node *node = &world->nodes[number];
    const struct node *old = &world->nodes[last];
    uint64_t until_ns;

    if (last == 0 || last == number || last == node->parts[shard].record.primary || !old->up) {
        return;
    }
    until_ns =
        torc_watch_lease(&old->watch, shard, old->parts[shard].record.epoch, number).until_ns;
    if (old->parts[shard].record.epoch < node->parts[shard].record.epoch && until_ns != 0 &&
        world_true_ns(old, until_ns) > world_true_ns(node, node->parts[shard].free_ns)) {
        world_wrong(world, "node %u is free of %u in shard %u while its lease runs", number, last,
                    shard);
    }
}

// What the watch answers: until when this node is bound. An answer may be lost; then it is asked
// again.
static uint64_t driver_adopt(struct world *world, uint32_t number,
                             struct torc_watch_adoption *adoption, uint32_t members)
{
    uint64_t until_ns = 0;
    struct torc_fail why;

    for (uint32_t i = 1; i <= world->nodes_count && adoption->primary_node == number; i++) {
        if (i != number && (members & driver_bit(i)) != 0) {
            adoption->claim_nodes[adoption->claim_count++] = i;
        }
    }
    for (uint64_t tries = torc_rng_below(&world->rng, 8) == 0 ? 2 : 1; tries > 0; tries--) {
        TORC_TEST_OK(torc_watch_adopt(&world->nodes[number].watch, adoption, &until_ns, &why),
                     &why);
    }
    return until_ns;
}

// An epoch above the one that the node follows.
static void driver_move(struct world *world, uint32_t number, uint32_t shard,
                        const struct record *record)
{
    struct node *node = &world->nodes[number];
    struct part *part = &node->parts[shard];
    uint32_t last = part->record.primary;
    struct torc_watch_adoption adoption = {
        .shard = shard,
        .epoch = record->epoch,
        .primary_node = record->primary,
        .synced = record->primary == number,
        .keeps =
            last == number && record->primary == number && record->epoch == part->record.epoch + 1,
        .down = {.node = last, .boot = last == 0 ? 0 : world->nodes[last].down},
    };
    uint64_t until_ns = driver_adopt(world, number, &adoption, record->members);

    if (last != 0 && last != number &&
        adoption.down.boot != torc_watch_peer_state(&node->watch, last).boot) {
        if (until_ns < node->told_ns[last]) {
            world_wrong(world, "node %u takes back a promise to %u", number, last); // W2
        }
        if (until_ns > part->free_ns) { // not of an earlier epoch's primary
            node->told_ns[last] = until_ns;
        }
    }
    part->free_ns = torc_max_u64(part->free_ns, until_ns); // L4
    part->record = *record;
    part->synced = adoption.synced;
    part->active = part->active && adoption.keeps;
    part->proposed = 0;
    driver_check_freed(world, number, shard, last);
}

// Somebody who is in the primary's way elsewhere joins another shard at once: in the slot that has
// just become empty.
static void driver_reuse(struct world *world, uint32_t number, uint32_t out)
{
    uint32_t joins = 0;

    for (uint32_t i = 1; i <= world->nodes_count && out != 0; i++) {
        joins = (out & driver_bit(i)) != 0 && i != number ? i : joins;
    }
    for (uint32_t shard = 0; shard < world->shards_count && joins != 0; shard++) {
        uint64_t before = world->joins;

        driver_join(world, number, shard, joins);
        world->reused += world->joins - before;
    }
}

// A member, or whoever is to join, has a log like the primary's some time after it heard of it.
static void driver_sync(struct world *world, uint32_t number, uint32_t shard, uint32_t epoch)
{
    struct event *event =
        world_at(world, EVENT_SYNCED, number, world_some_ns(world, 100 * US, 10 * MS));

    event->shard = shard;
    event->record.epoch = epoch;
}

void driver_heard(struct world *world, uint32_t number, uint32_t shard, const struct record *record)
{
    struct node *node = &world->nodes[number];
    struct part *part = &node->parts[shard];
    uint32_t before = part->record.primary == number ? part->record.members : 0;

    if (record->epoch <= part->record.epoch) {
        return;
    }
    if (record->primary == number && record->boot != node->boot) { // T9
        driver_take_over(world, shard);
        return;
    }
    driver_move(world, number, shard, record);
    if (record->primary == number) {
        driver_reuse(world, number, before & ~record->members);
    } else if (((record->members | world->nodes[record->primary].parts[shard].proposed) &
                driver_bit(number)) != 0) {
        driver_sync(world, number, shard, record->epoch);
    }
}

void driver_synced(struct world *world, uint32_t number, uint32_t shard, uint32_t epoch)
{
    struct node *node = &world->nodes[number];
    struct part *part = &node->parts[shard];
    struct torc_watch_adoption adoption = {
        .shard = shard, .epoch = epoch, .primary_node = part->record.primary, .synced = true};
    struct node *primary = &world->nodes[part->record.primary];

    if (part->record.epoch != epoch || part->synced) {
        return;
    }
    part->synced = true;
    part->free_ns = torc_max_u64(part->free_ns, driver_adopt(world, number, &adoption, 0));
    if (primary->up && torc_rng_below(&world->rng, 2) == 0) {
        torc_watch_hurry(&primary->watch, number);
    }
}

// -- Changes of records ---------------------------------------------------------------------------

static struct record *driver_swap(struct world *world, uint32_t shard, const struct record *from)
{
    struct event *event = world_at(world, EVENT_SWAP, 0, world_some_ns(world, 200 * US, 4 * MS));

    event->shard = shard;
    event->record = *from;
    return &event->record;
}

// By some member that has all its memory; maybe it goes on with fewer.
void driver_take_over(struct world *world, uint32_t shard)
{
    const struct record *record = &world->records[shard];
    uint32_t first = (uint32_t)torc_rng_below(&world->rng, world->nodes_count);

    for (uint32_t i = 0; i < world->nodes_count; i++) {
        uint32_t number = 1 + (first + i) % world->nodes_count;
        const struct node *node = &world->nodes[number];

        if (node->up && (record->members & driver_bit(number)) != 0 &&
            record->copies[number] == node->copies[shard]) {
            struct record *next = driver_swap(world, shard, record);

            next->primary = number;
            next->boot = node->boot;
            if (world->now_ns < world->calm_ns) {
                next->members &= (uint32_t)torc_rng_next(&world->rng);
            }
            next->members |= driver_bit(number);
            world->takeovers++;
            return;
        }
    }
}

static bool driver_may_change(const struct world *world, uint32_t number, uint32_t shard)
{
    const struct node *node = &world->nodes[number];
    const struct part *part = &node->parts[shard];

    return node->up && part->record.primary == number && part->active && part->proposed == 0;
}

// `joins` is claimed first (J3), and counts from the proposal on (M2).
void driver_join(struct world *world, uint32_t number, uint32_t shard, uint32_t joins)
{
    struct node *node = &world->nodes[number];
    struct part *part = &node->parts[shard];
    struct record *next;
    struct torc_fail why;

    if (!driver_may_change(world, number, shard) || joins == number ||
        (part->record.members & driver_bit(joins)) != 0) {
        return;
    }
    TORC_TEST_OK(torc_watch_claim(&node->watch, shard, part->record.epoch, joins, &why), &why);
    part->proposed = driver_bit(joins);
    driver_sync(world, joins, shard, part->record.epoch);
    next = driver_swap(world, shard, &part->record);
    next->members |= part->proposed;
    next->copies[joins] = world->nodes[joins].copies[shard];
    world->joins++;
}

// Whoever goes counts until the outcome is known.
void driver_remove(struct world *world, uint32_t number, uint32_t shard)
{
    const struct part *part = &world->nodes[number].parts[shard];
    struct record *next;

    if (driver_may_change(world, number, shard)) {
        next = driver_swap(world, shard, &part->record);
        next->members &= (uint32_t)torc_rng_next(&world->rng);
        next->members |= driver_bit(number);
        world->removals++;
    }
}

// A replica that is no member goes. It comes back as another copy, which may not take over by what
// it was: one that is to join may go as well.
void driver_drop(struct world *world, uint32_t number, uint32_t shard)
{
    struct node *node = &world->nodes[number];

    if (node->up && (world->records[shard].members & driver_bit(number)) == 0 &&
        node->parts[shard].record.primary != number) {
        torc_watch_drop(&node->watch, shard);
        memset(&node->parts[shard], 0, sizeof(node->parts[shard]));
        node->copies[shard]++;
    }
}

// -- What must hold -------------------------------------------------------------------------------

bool driver_reads(const struct world *world, uint32_t number, uint32_t shard)
{
    const struct node *node = &world->nodes[number];
    const struct part *part = &node->parts[shard];
    uint32_t others = part->record.members & ~driver_bit(number);
    uint64_t now_ns = world_local_ns(world, node);
    bool all = true;
    bool any;

    if (!node->up || part->record.primary != number || now_ns < part->free_ns) {
        return false;
    }
    others |= TORC_BUG(LEASE_WITHOUT_PROPOSED) ? 0 : part->proposed;
    any = others == 0;
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        if ((others & driver_bit(i)) != 0) {
            bool holds =
                now_ns < torc_watch_lease(&node->watch, shard, part->record.epoch, i).until_ns;

            all = all && holds;
            any = any || holds;
        }
    }
    return all || (any && TORC_BUG(LEASE_OF_ANY));
}

static void driver_check_lease(struct world *world, uint32_t number, uint32_t shard, uint32_t by)
{
    const struct node *node = &world->nodes[number];
    const struct promise *promise = &world->promises[by][number][shard];
    struct torc_watch_lease lease =
        torc_watch_lease(&node->watch, shard, node->parts[shard].record.epoch, by);
    uint64_t end_ns = world_true_ns(node, lease.until_ns);

    if (lease.ceiling > world->nodes[by].kept) {
        world_wrong(world, "node %u counts on a ceiling that %u does not keep", number, by);
    }
    if (lease.until_ns == 0 || end_ns <= world->now_ns) {
        return;
    }
    world->leases++;
    if (promise->boot != node->boot || end_ns > promise->until_ns) { // W1
        world_wrong(world, "shard %u: node %u's lease of %u ends %" PRIu64 " us after its promise",
                    shard, number, by, (end_ns - promise->until_ns) / US);
    }
}

// H5: what may be read at is what every member keeps. Planted: what one of them keeps.
static void driver_check_ceiling(struct world *world, uint32_t number, uint32_t shard)
{
    const struct node *node = &world->nodes[number];
    const struct part *part = &node->parts[shard];
    uint32_t others = (part->record.members | part->proposed) & ~driver_bit(number);
    uint64_t least = node->kept;
    uint64_t most = node->kept;

    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        if ((others & driver_bit(i)) != 0) {
            uint64_t ceiling = torc_watch_lease(&node->watch, shard, part->record.epoch, i).ceiling;

            least = torc_min_u64(least, ceiling);
            most = torc_max_u64(most, ceiling);
        }
    }
    least = TORC_BUG(LARGEST_CEILING) ? most : least;
    for (uint32_t i = 1; i <= world->nodes_count; i++) {
        if ((others & driver_bit(i)) != 0 && least > world->nodes[i].kept) {
            world_wrong(world, "shard %u: node %u reads at what %u does not keep", shard, number,
                        i);
        }
    }
}

// After each event of a node: what it now has, others must not.
void driver_check(struct world *world, uint32_t number)
{
    struct node *node = &world->nodes[number];

    torc_assert(node->watch.peer_count <= NODES_MAX - 1);
    torc_assert(node->watch.shard_count <= world->shards_count);
    for (uint32_t shard = 0; shard < world->shards_count && node->up; shard++) {
        struct part *part = &node->parts[shard];

        if (part->record.primary != number) {
            continue;
        }
        for (uint32_t i = 1; i <= world->nodes_count; i++) {
            if (i != number) {
                driver_check_lease(world, number, shard, i);
            }
        }
        if (!driver_reads(world, number, shard)) {
            continue;
        }
        part->active = true;
        world->reads++;
        driver_check_ceiling(world, number, shard);
        for (uint32_t i = 1; i <= world->nodes_count; i++) {
            if (i != number && driver_reads(world, i, shard)) {
                world_wrong(world, "shard %u: nodes %u and %u read at once", shard, number, i);
            }
        }
    }
}
