// Torc tests: what a worker, its log and its control do for a replica. See replica_world.h.
#include "tests/model/replica_world.h"

#include <stdlib.h>
#include <string.h>

const struct torc_watch_timing watch_timing = {
    .beat_ns = 5 * MS,
    .promise_ns = 20 * MS,
    .suspect_ns = 25 * MS,
    .margin_ns = 500 * US,
    .calm_ns = 15 * MS, // a second in life
    .drift_ppm = 1000,
};

const struct torc_replica_timing replica_timing = {
    .promise_ns = 20 * MS,
    .stagger_ns = 10 * MS,
    .lonely_ns = 200 * MS,
    .grace_ns = 1000 * MS, // five seconds in life
    .lag_ns = 200 * MS,
    .resend_ns = 5 * MS,
    .retry_ns = 30 * MS,
    .join_records = 64,
};

static uint64_t shell_hash(uint64_t before, const struct record *record)
{
    uint64_t mixed = (before ^ record->epoch) * 0x9e3779b97f4a7c15u + record->id;

    return (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9u;
}

// -- Log and disk -------------------------------------------------------------------------------

static void shell_log(struct world *world, struct node *node, uint64_t lsn, struct record record)
{
    struct disk *disk = &node->disk;
    uint64_t start_ns = torc_max_u64(world->now_ns, node->disk_at_ns);

    // What queues behind a slow write is written with it.
    bool slow = world->now_ns < node->slow_disk_ns && start_ns < world->now_ns + 60 * MS;

    torc_assert(lsn < LSN_MAX);
    torc_assert(disk->count < WRITES_MAX);
    node->log[lsn] = record;
    node->hash[lsn] = shell_hash(node->hash[lsn - 1], &record);
    node->pending[lsn] = 0;
    disk->has_base = disk->has_base || lsn == 1; // a log from its first record on is whole
    disk->writes[disk->count] = (struct disk_write){.lsn = lsn, .record = record};
    node->disk_at_ns = start_ns + 20 * US + torc_rng_below(&world->rng, 300 * US) / 4 +
                       (slow ? torc_rng_below(&world->rng, 30 * MS) : 0);
    world_at(world, EVENT_DISK, world_number(world, node), node->disk_at_ns - world->now_ns)
        ->write = disk->count++;
}

static void shell_apply(struct world *world, struct node *node, uint64_t lsn)
{
    for (uint64_t at = node->replica.applied_lsn + 1; at <= lsn; at++) {
        const struct record *record = &node->log[at];

        oracle_apply(world, node, at);
        if (record->id != 0) {
            node->tree[record->id % KEYS] = (struct cell){.id = record->id, .lsn = at};
        }
        if (node->pending[at] != 0) {
            oracle_answer(world, node, at, node->pending[at]);
            node->pending[at] = 0;
        }
    }
}

// A fuzzy checkpoint of what is applied; the log below may go.
static void shell_checkpoint(struct world *world, struct node *node)
{
    struct torc_replica *replica = &node->replica;
    struct disk *disk = &node->disk;

    if (replica->base_loading || !replica->has_base || replica->applied_lsn < node->base_lsn ||
        replica->applied_lsn < disk->base_lsn || replica->applied_lsn == 0) {
        return;
    }
    disk->has_base = true;
    disk->base_lsn = replica->applied_lsn;
    disk->base_epoch = node->log[replica->applied_lsn].epoch;
    disk->base_hash = node->hash[replica->applied_lsn];
    memcpy(disk->base, node->tree, sizeof(node->tree));
    if (torc_rng_chance(&world->rng, 500000)) {
        torc_replica_floor(replica,
                           torc_min_u64(torc_replica_keep_lsn(replica), replica->applied_lsn));
    }
}

// -- Life ---------------------------------------------------------------------------------------

// The log that the disk gives back: each record cancels earlier ones at or above it (A1).
static void shell_replay(struct world *world, struct node *node, struct torc_replica_start *start)
{
    struct disk *disk = &node->disk;
    uint32_t left = disk->durable;

    left += (uint32_t)torc_rng_below(&world->rng, disk->count - disk->durable + 1);
    start->has_base = disk->has_base;
    start->last_lsn = disk->base_lsn;
    start->commit_lsn = disk->base_lsn;
    start->floor_lsn = disk->base_lsn;
    node->base_lsn = disk->base_lsn;
    node->hash[disk->base_lsn] = disk->base_hash;
    node->log[disk->base_lsn].epoch = disk->base_epoch;
    memcpy(node->tree, disk->base, sizeof(node->tree));
    for (uint32_t i = 0; i < left && disk->has_base; i++) {
        uint64_t lsn = disk->writes[i].lsn;

        start->last_lsn = torc_max_u64(lsn, disk->base_lsn);
        if (lsn > disk->base_lsn) {
            node->log[lsn] = disk->writes[i].record;
            node->hash[lsn] = shell_hash(node->hash[lsn - 1], &node->log[lsn]);
        }
    }
    disk->count = 0;
    for (uint64_t lsn = disk->base_lsn + 1; lsn <= start->last_lsn; lsn++) {
        disk->writes[disk->count++] = (struct disk_write){.lsn = lsn, .record = node->log[lsn]};
    }
    disk->durable = disk->count;
    for (uint64_t lsn = torc_max_u64(disk->base_lsn, 1); lsn <= start->last_lsn; lsn++) {
        struct torc_epoch_table *table = &start->table;

        if (table->count == 0 || table->entries[table->count - 1].epoch != node->log[lsn].epoch) {
            if (table->count == TORC_EPOCHS_MAX) {
                memmove(&table->entries[0], &table->entries[1],
                        (TORC_EPOCHS_MAX - 1) * sizeof(table->entries[0]));
                table->count--;
            }
            table->entries[table->count++] =
                (struct torc_epoch_entry){.epoch = node->log[lsn].epoch, .first_lsn = lsn};
        }
        start->log_epoch = node->log[lsn].epoch;
    }
}

void shell_start(struct world *world, struct node *node)
{
    struct torc_watch_config config = {.timing = watch_timing,
                                       .boot = node->boot,
                                       .node = world_number(world, node),
                                       .peers_max = NODES_MAX,
                                       .shards_max = 1};
    struct torc_replica_start start = {.timing = replica_timing,
                                       .durability = world->setup.durability,
                                       .shard = 1,
                                       .node = config.node,
                                       .boot = node->boot,
                                       .copy = node->copy,
                                       .min_in_sync = world->setup.min_in_sync,
                                       .has_base = true};
    struct torc_watch_actions none = {0};
    struct torc_watch_self self = {.open_hlc = UINT64_MAX, .turning = true};
    struct torc_watch_event event = {.kind = TORC_WATCH_SELF, .self = &self};
    uint64_t now_ns = world_local_ns(world, node);
    struct torc_fail why;
    void *memory = node->watch.peers;

    memory =
        memory == NULL ? aligned_alloc(64, (torc_watch_bytes(&config) + 63) / 64 * 64) : memory;
    torc_assert(memory != NULL);
    memset(memory, 0, torc_watch_bytes(&config));
    memset(node->pending, 0, sizeof(node->pending));
    memset(node->made, 0, sizeof(node->made));
    node->up = true;
    node->health = 0;
    node->disk_at_ns = 0;
    node->turn_ns = now_ns;
    node->last_ns = now_ns;
    shell_replay(world, node, &start);
    TORC_TEST_OK(torc_watch_init(&node->watch, memory, now_ns, &config, &why), &why);
    torc_watch_step(&node->watch, now_ns, &event, &none);
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        if (i != config.node) {
            TORC_TEST_OK(torc_watch_meet(&node->watch, i, &why), &why);
        }
    }
    torc_replica_init(&node->replica, now_ns, &start);
    for (uint32_t i = 0; i < world->setup.alarms; i++) {
        shell_false_alarm(world, node);
    }
}

void shell_crash(struct world *world, struct node *node, bool keeps_memory)
{
    struct disk *disk = &node->disk;
    const struct torc_replica *replica = &node->replica;

    node->up = false;
    node->thaw_ns = 0;
    if (world->setup.durability == TORC_DURABILITY_DURABLE &&
        torc_rng_chance(&world->rng, 950000)) {
        return; // the disk is there
    }
    if (keeps_memory && replica->has_base && !replica->base_loading) { // a clean stop, sealed
        shell_checkpoint(world, node);
        disk->count = 0;
        for (uint64_t lsn = disk->base_lsn + 1; lsn <= replica->last_lsn; lsn++) {
            disk->writes[disk->count++] = (struct disk_write){.lsn = lsn, .record = node->log[lsn]};
        }
        disk->durable = disk->count;
        return;
    }
    disk->count = 0;
    disk->durable = 0;
    disk->base_lsn = 0;
    disk->base_hash = 0;
    disk->base_epoch = 0;
    disk->has_base = false;
    memset(disk->base, 0, sizeof(disk->base));
    node->copy = ++world->copy_count; // it forgot what it had acknowledged
}

// -- Actions ------------------------------------------------------------------------------------

static void shell_step(struct world *world, struct node *node,
                       const struct torc_replica_event *event, const struct packet *packet);
static void shell_watch_step(struct world *world, struct node *node,
                             const struct torc_watch_event *event);

static void shell_ship(struct world *world, struct node *node,
                       const struct torc_replica_action *action)
{
    struct packet packet = {.kind = PACKET_MESSAGE, .message = action->message};
    struct torc_peer_append *append = &packet.message.append;
    uint64_t end_lsn = append->first_lsn + append->count;

    do {
        append->count = 0;
        append->runs.count = 0;
        while (append->count < RECORDS_MAX && append->first_lsn + append->count < end_lsn) {
            uint64_t lsn = append->first_lsn + append->count;
            struct torc_epoch_table *runs = &append->runs;

            torc_assert(lsn > node->replica.floor_lsn);
            torc_assert(lsn > node->base_lsn);
            packet.records[append->count++] = node->log[lsn];
            if (runs->count == 0 || runs->entries[runs->count - 1].epoch != node->log[lsn].epoch) {
                runs->entries[runs->count++] =
                    (struct torc_epoch_entry){.epoch = node->log[lsn].epoch, .first_lsn = lsn};
            }
        }
        world_send(world, world_number(world, node), action->node, &packet);
        append->first_lsn += append->count;
    } while (append->first_lsn < end_lsn);
}

// A piece is made once: the log's end that BASE_LAST names must not lie below what is in it.
static void shell_piece(struct world *world, struct node *node,
                        const struct torc_replica_action *action)
{
    struct packet packet = {.kind = PACKET_MESSAGE, .message = action->message};
    uint32_t piece = action->message.snap.piece;

    if (piece >= PIECES) {
        struct torc_replica_base_event base = {.kind = TORC_REPLICA_BASE_LAST,
                                               .node = action->node,
                                               .piece = PIECES,
                                               .end_lsn = node->replica.applied_lsn};
        struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &base};

        shell_step(world, node, &event, NULL);
        return;
    }
    if (!node->made[action->node][piece]) {
        node->made[action->node][piece] = true;
        memcpy(node->pieces[action->node][piece], &node->tree[(size_t)piece * PIECE_KEYS],
               sizeof(packet.cells));
    }
    memcpy(packet.cells, node->pieces[action->node][piece], sizeof(packet.cells));
    packet.base_hash = node->hash[action->message.snap.base_lsn];
    world_send(world, world_number(world, node), action->node, &packet);
}

static void shell_reset(struct node *node, uint64_t base_lsn, const struct packet *packet)
{
    torc_assert(packet != NULL);
    memset(node->pending, 0, sizeof(node->pending));
    memset(node->tree, 0, sizeof(node->tree));
    node->base_lsn = base_lsn;
    node->hash[base_lsn] = packet->base_hash;
    node->log[base_lsn].epoch = packet->message.snap.base_epoch;
    node->disk.has_base = false;
    node->disk.base_lsn = 0;
    node->disk.base_hash = 0;
    memset(node->disk.base, 0, sizeof(node->disk.base));
    node->disk.count = 0;
    node->disk.durable = 0;
}

static void shell_take(struct world *world, struct node *node, const struct torc_replica_take *take,
                       const struct packet *packet)
{
    uint64_t lsn;

    torc_assert(packet != NULL);
    lsn = packet->message.append.first_lsn + take->skip;
    for (uint32_t i = 0; i < take->count; i++) {
        shell_log(world, node, lsn + i, packet->records[take->skip + i]);
    }
}

static void shell_demoted(struct world *world, struct node *node)
{
    for (uint64_t lsn = 1; lsn < LSN_MAX && TORC_BUG(DEMOTED_ANSWERS); lsn++) {
        if (node->pending[lsn] != 0) {
            oracle_answer(world, node, lsn, node->pending[lsn]);
        }
    }
    memset(node->pending, 0, sizeof(node->pending));
}

static void shell_told(struct world *world, struct node *node, enum torc_replica_event_kind kind,
                       uint64_t lsn)
{
    struct torc_replica_event event = {.kind = kind, .lsn = lsn};

    shell_step(world, node, &event, NULL);
}

static void shell_act_base(struct world *world, struct node *node,
                           const struct torc_replica_action *action, const struct packet *packet)
{
    struct torc_replica_base_event base = {.kind = TORC_REPLICA_BASE_TAKEN, .piece = action->piece};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &base};

    if (action->kind == TORC_REPLICA_STREAM) {
        memset(node->made[action->node], 0, sizeof(node->made[action->node]));
        world->bases++;
        world_at(world, EVENT_BASE_READY, world_number(world, node),
                 torc_rng_below(&world->rng, 2 * MS))
            ->base.node = action->node;
    } else if (action->kind == TORC_REPLICA_STORE) {
        torc_assert(packet != NULL);
        memcpy(&node->tree[(size_t)action->piece * PIECE_KEYS], packet->cells,
               sizeof(packet->cells));
        if (world->now_ns < world->calm_ns &&
            torc_rng_chance(&world->rng, 150000)) { // there was no memory
            base.kind = TORC_REPLICA_BASE_BROKEN;
            world->bases_broken++;
        }
        shell_step(world, node, &event, NULL);
    } else if (action->kind == TORC_REPLICA_WHOLE) {
        world_at(world, EVENT_BASE_DURABLE, world_number(world, node),
                 torc_rng_below(&world->rng, 20 * MS))
            ->base.base_lsn = action->lsn;
    }
}

static void shell_act(struct world *world, struct node *node,
                      const struct torc_replica_action *action, const struct packet *packet)
{
    struct packet out = {.kind = PACKET_MESSAGE};
    uint32_t self = world_number(world, node);
    struct event *request;

    switch (action->kind) {
    case TORC_REPLICA_SEND:
        out.message = action->message;
        if (out.message.kind == TORC_PEER_SNAP) {
            out.base_hash = node->hash[action->message.snap.base_lsn];
        }
        world->transfers += out.message.kind == TORC_PEER_TRANSFER;
        world_send(world, self, action->node, &out);
        return;
    case TORC_REPLICA_SHIP: shell_ship(world, node, action); return;
    case TORC_REPLICA_READ:
    case TORC_REPLICA_PROPOSE:
        request = world_at(
            world, EVENT_REQUEST, self,
            200 * US + torc_rng_below(&world->rng, 1 * MS) +
                (torc_rng_chance(&world->rng, 50000) ? torc_rng_below(&world->rng, 100 * MS) : 0));
        request->request.propose = action->kind == TORC_REPLICA_PROPOSE;
        request->request.asked_epoch = action->epoch;
        if (request->request.propose) {
            request->request.proposal = action->proposal;
            request->request.asked_epoch = action->proposal.expected_epoch;
        }
        return;
    case TORC_REPLICA_ADOPT:
        world_at(world, EVENT_ADOPT, self, 10 * US)->adoption = action->adoption;
        return;
    case TORC_REPLICA_CLAIM:
        TORC_TEST_OK(torc_watch_claim(&node->watch, 1, node->replica.epoch, action->node, NULL),
                     NULL);
        return;
    case TORC_REPLICA_HURRY: torc_watch_hurry(&node->watch, action->node); return;
    case TORC_REPLICA_OPEN:
        shell_log(world, node, action->lsn, (struct record){.epoch = node->replica.epoch});
        return;
    case TORC_REPLICA_TAKE: shell_take(world, node, &action->take, packet); return;
    case TORC_REPLICA_CUT:
        world->cuts++;
        if (node->disk.base_lsn > action->lsn) {
            node->disk.base_lsn = action->lsn; // only a planted fault cuts that deep
        }
        return;
    case TORC_REPLICA_APPLY:
        shell_apply(world, node, action->lsn);
        shell_told(world, node, TORC_REPLICA_APPLIED, action->lsn);
        return;
    case TORC_REPLICA_SERVE:
        world->takeovers++;
        oracle_tree(world, node, "becoming active");
        return;
    case TORC_REPLICA_DEMOTED: shell_demoted(world, node); return;
    case TORC_REPLICA_ALARM:
        oracle_wrong(world, "the metastore went back to epoch %u", action->epoch);
        return;
    case TORC_REPLICA_ALIVE: shell_false_alarm(world, node); return;
    case TORC_REPLICA_RESET: shell_reset(node, action->lsn, packet); return;
    case TORC_REPLICA_PIECE: shell_piece(world, node, action); return;
    case TORC_REPLICA_SETTLE: return;
    case TORC_REPLICA_STREAM:
    case TORC_REPLICA_STORE:
    case TORC_REPLICA_WHOLE: shell_act_base(world, node, action, packet); return;
    }
}

static void shell_step(struct world *world, struct node *node,
                       const struct torc_replica_event *event, const struct packet *packet)
{
    struct torc_replica_actions actions;

    actions.count = 0;
    world->steps++;
    torc_replica_step(&node->replica, world_local_ns(world, node), event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        shell_act(world, node, &actions.items[i], packet);
    }
}

static void shell_watch_step(struct world *world, struct node *node,
                             const struct torc_watch_event *event)
{
    struct torc_watch_actions actions;
    uint32_t self = world_number(world, node);

    actions.count = 0;
    world->steps++;
    torc_watch_step(&node->watch, world_local_ns(world, node), event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct torc_watch_action *action = &actions.items[i];
        struct torc_replica_event told = {.kind = TORC_REPLICA_PEER, .peer = action->peer};
        struct packet packet = {.kind = PACKET_BEAT};

        switch (action->kind) {
        case TORC_WATCH_SEND_BEAT:
            packet.beat = action->beat;
            world_send(world, self, action->node, &packet);
            break;
        case TORC_WATCH_SEND_ACK:
            packet.kind = PACKET_ACK;
            packet.ack = action->beat_ack;
            world_send(world, self, action->node, &packet);
            break;
        case TORC_WATCH_SEND_CLAIM:
            packet.kind = PACKET_CLAIM;
            torc_watch_claim_message(&node->watch, action->node, &packet.claim);
            world_send(world, self, action->node, &packet);
            break;
        case TORC_WATCH_TELL_PEER: shell_step(world, node, &told, NULL); break;
        case TORC_WATCH_KEEP: break;
        case TORC_WATCH_READ: shell_told(world, node, TORC_REPLICA_WAKE, 0); break;
        }
    }
}

void shell_false_alarm(struct world *world, struct node *node)
{
    struct torc_watch_event event = {.kind = TORC_WATCH_FALSE_ALARM};

    shell_watch_step(world, node, &event);
}

// -- Events -------------------------------------------------------------------------------------

static void shell_packet(struct world *world, struct node *node, const struct packet *packet)
{
    struct torc_replica_event event = {.kind = TORC_REPLICA_MESSAGE,
                                       .node = packet->from,
                                       .boot = packet->from_boot,
                                       .message = &packet->message};
    struct torc_watch_event watched = {.node = packet->from, .boot = packet->from_boot};

    switch (packet->kind) {
    case PACKET_MESSAGE: shell_step(world, node, &event, packet); return;
    case PACKET_BEAT:
        watched.kind = TORC_WATCH_BEAT;
        watched.beat = &packet->beat;
        break;
    case PACKET_ACK:
        watched.kind = TORC_WATCH_BEAT_ACK;
        watched.beat_ack = &packet->ack;
        break;
    case PACKET_CLAIM:
        watched.kind = TORC_WATCH_CLAIM;
        watched.claim = &packet->claim;
        break;
    }
    shell_watch_step(world, node, &watched);
}

static void shell_adopt(struct world *world, struct node *node, const struct event *event)
{
    struct torc_replica_adopted adopted = {.epoch = event->adoption.epoch};
    struct torc_fail why;

    TORC_TEST_OK(torc_watch_adopt(&node->watch, &event->adoption, &adopted.promise_until_ns, &why),
                 &why);
    world_at(world, EVENT_ADOPTED, event->node, 10 * US)->adopted = adopted;
}

static void shell_adopted(struct world *world, struct node *node, const struct event *event)
{
    struct torc_replica_event told = {.kind = TORC_REPLICA_ADOPTED, .adopted = event->adopted};

    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        struct torc_replica_event peer = {.kind = TORC_REPLICA_PEER,
                                          .peer = torc_watch_peer_state(&node->watch, i)};

        if (i != event->node) {
            shell_step(world, node, &peer, NULL);
        }
    }
    shell_step(world, node, &told, NULL);
}

static void shell_disk(struct world *world, struct node *node, uint32_t write)
{
    struct disk *disk = &node->disk;
    struct torc_replica_event event = {.kind = TORC_REPLICA_DURABLE};

    if (write >= disk->count || write < disk->durable) {
        return; // of before a base
    }
    disk->durable = write + 1;
    event.durable.epoch = disk->writes[write].record.epoch;
    event.durable.lsn = disk->writes[write].lsn;
    shell_step(world, node, &event, NULL);
}

static void shell_base_ready(struct world *world, struct node *node, uint32_t peer)
{
    struct torc_replica_base_event base = {
        .kind = TORC_REPLICA_BASE_READY, .node = peer, .base_lsn = node->replica.applied_lsn};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &base};

    shell_step(world, node, &event, NULL);
}

static void shell_base_durable(struct world *world, struct node *node, uint64_t base_lsn)
{
    struct torc_replica_base_event base = {.kind = TORC_REPLICA_BASE_DURABLE, .base_lsn = base_lsn};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &base};

    if (node->base_lsn != base_lsn || node->replica.base_loading ||
        node->replica.applied_lsn < node->replica.base_end_lsn) {
        if (node->base_lsn == base_lsn && !node->replica.base_loading) { // later
            world_at(world, EVENT_BASE_DURABLE, world_number(world, node), 5 * MS)->base.base_lsn =
                base_lsn;
        }
        return;
    }
    shell_checkpoint(world, node);
    shell_step(world, node, &event, NULL);
}

static void shell_reply(struct world *world, struct node *node, const struct event *event)
{
    struct torc_replica_event told = {.kind = TORC_REPLICA_RECORD, .record = &event->reply.record};

    if (event->reply.propose) {
        told.kind = TORC_REPLICA_RESULT;
        told.result = &event->reply.result;
    }
    shell_step(world, node, &told, NULL);
}

void shell_turn(struct world *world, struct node *node)
{
    struct torc_replica_event want = {.kind = TORC_REPLICA_WANT, .want = &world->want};
    struct torc_replica_event health = {.kind = TORC_REPLICA_HEALTH, .health = node->health};
    struct torc_watch_self self = {
        .open_hlc = UINT64_MAX, .turning = true, .health = node->health, .wall_us = 1};
    struct torc_watch_event event = {.kind = TORC_WATCH_SELF, .self = &self};

    if (memcmp(&node->replica.want, &world->want, sizeof(world->want)) != 0) {
        shell_step(world, node, &want, NULL);
    }
    if (node->replica.health != node->health) {
        shell_watch_step(world, node, &event);
        shell_step(world, node, &health, NULL);
    }
    shell_watch_step(world, node, NULL);
    shell_step(world, node, NULL, NULL);
    if (torc_rng_chance(&world->rng, 3000)) {
        shell_checkpoint(world, node);
    }
}

void shell_event(struct world *world, struct node *node, const struct event *event)
{
    node->last_ns = node->turn_ns;
    node->turn_ns = world_local_ns(world, node);
    switch (event->kind) {
    case EVENT_PACKET: shell_packet(world, node, &event->packet); return;
    case EVENT_WAKE: shell_turn(world, node); return;
    case EVENT_ADOPT: shell_adopt(world, node, event); return;
    case EVENT_ADOPTED: shell_adopted(world, node, event); return;
    case EVENT_REPLY: shell_reply(world, node, event); return;
    case EVENT_NOTIFIED: shell_told(world, node, TORC_REPLICA_WAKE, 0); return;
    case EVENT_DISK: shell_disk(world, node, event->write); return;
    case EVENT_BASE_READY: shell_base_ready(world, node, event->base.node); return;
    case EVENT_BASE_DURABLE: shell_base_durable(world, node, event->base.base_lsn); return;
    case EVENT_NONE:
    case EVENT_REQUEST:
    case EVENT_RESTART:
    case EVENT_DOWN:
    case EVENT_CLIENT:
    case EVENT_FAULT:
    case EVENT_AIM: break;
    }
    torc_unreachable("not a node's event");
}

// -- Clients ------------------------------------------------------------------------------------

bool shell_may_read(struct world *world, struct node *node)
{
    uint64_t now_ns = world_local_ns(world, node);

    if (node->thaw_ns > world->now_ns || node->replica.role != TORC_REPLICA_ACTIVE) {
        return false; // it stands still, and answers nothing; or has no leases to look up
    }
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        torc_replica_lease(&node->replica, i,
                           torc_watch_lease(&node->watch, 1, node->replica.epoch, i));
    }
    // Planted: the packet was polled after the clock was read, and the core stood still between.
    return torc_replica_may_read(&node->replica,
                                 TORC_BUG(NOW_BEFORE_POLL) ? node->last_ns : now_ns);
}

bool shell_write(struct world *world, struct node *node)
{
    uint64_t lsn = node->replica.last_lsn + 1;
    uint32_t id;

    if (!node->up || node->thaw_ns > world->now_ns ||
        torc_replica_may_append(&node->replica) != TORC_ERR_OK || lsn + 512 >= LSN_MAX) {
        return false;
    }
    id = ++world->next_id;
    shell_log(world, node, lsn, (struct record){.epoch = node->replica.epoch, .id = id});
    node->pending[lsn] = id;
    shell_told(world, node, TORC_REPLICA_APPENDED, lsn);
    return true;
}
