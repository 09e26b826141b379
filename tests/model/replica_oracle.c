// Torc tests: what must hold of a cluster of one shard. See replica_world.h.
#include "tests/model/replica_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void oracle_wrong(struct world *world, const char *format, ...)
{
    va_list arguments;

    if (world->wrong[0] != 0) {
        return; // the first one tells most
    }
    va_start(arguments, format);
    (void)vsnprintf(world->wrong, sizeof(world->wrong), format, arguments);
    va_end(arguments);
}

// 4: committed prefixes are the same everywhere.
void oracle_apply(struct world *world, const struct node *node, uint64_t lsn)
{
    const struct record *record = &node->log[lsn];

    if (lsn > world->committed_lsn) {
        torc_assert(lsn < LSN_MAX);
        world->committed[lsn] = *record;
        world->committed_lsn = lsn;
    }
    if (world->committed[lsn].id != record->id || world->committed[lsn].epoch != record->epoch) {
        oracle_wrong(world,
                     "node %u applies %u of epoch %u at LSN %" PRIu64 ", where %u of epoch %u is",
                     world_number(world, node), record->id, record->epoch, lsn,
                     world->committed[lsn].id, world->committed[lsn].epoch);
    }
}

// 2: what a client was told is in the committed log, at its place, for ever.
void oracle_answer(struct world *world, const struct node *node, uint64_t lsn, uint32_t id)
{
    if (lsn > world->committed_lsn || world->committed[lsn].id != id) {
        oracle_wrong(world, "node %u answers write %u at LSN %" PRIu64 ", where %u is committed",
                     world_number(world, node), id, lsn, world->committed[lsn].id);
    }
    world->answered[lsn] = id;
    world->answered_lsn = torc_max_u64(world->answered_lsn, lsn);
    world->writes++;
}

// 5: the tree is the committed log up to `applied`, and nothing else.
void oracle_tree(struct world *world, const struct node *node, const char *when)
{
    struct cell tree[KEYS] = {{0}};

    for (uint64_t lsn = 1; lsn <= node->replica.applied_lsn; lsn++) {
        if (world->committed[lsn].id != 0) {
            tree[world->committed[lsn].id % KEYS] =
                (struct cell){.id = world->committed[lsn].id, .lsn = lsn};
        }
    }
    for (uint32_t key = 0; key < KEYS; key++) {
        if (tree[key].id != node->tree[key].id) {
            oracle_wrong(world,
                         "node %u, %s: key %u is %u at LSN %" PRIu64
                         ", must be %u (applied %" PRIu64 ")",
                         world_number(world, node), when, key, node->tree[key].id,
                         node->tree[key].lsn, tree[key].id, node->replica.applied_lsn);
            return;
        }
    }
}

// 4: logs of replicas synced in one epoch are prefixes of one another.
static void oracle_logs(struct world *world)
{
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        for (uint32_t j = i + 1; j <= world->setup.nodes; j++) {
            const struct node *a = &world->nodes[i];
            const struct node *b = &world->nodes[j];
            uint64_t both = torc_min_u64(a->replica.last_lsn, b->replica.last_lsn);

            if (a->up && b->up && a->replica.epoch == b->replica.epoch && a->replica.epoch != 0 &&
                a->replica.synced && b->replica.synced &&
                both >= torc_max_u64(a->base_lsn, b->base_lsn) && a->hash[both] != b->hash[both]) {
                oracle_wrong(world,
                             "nodes %u and %u are synced in epoch %u and differ by LSN %" PRIu64, i,
                             j, a->replica.epoch, both);
            }
        }
    }
}

// 8: one primary for each epoch.
static void oracle_primaries(struct world *world, const struct node *node)
{
    uint32_t epoch = node->replica.epoch;

    if (node->replica.role != TORC_REPLICA_CANDIDATE && node->replica.role != TORC_REPLICA_ACTIVE) {
        return;
    }
    torc_assert(epoch < LSN_MAX);
    if (world->epoch_boot[epoch] == 0) {
        world->epoch_boot[epoch] = node->boot;
        world->epoch_node[epoch] = world_number(world, node);
    }
    if (world->epoch_boot[epoch] != node->boot ||
        world->epoch_node[epoch] != world_number(world, node)) {
        oracle_wrong(world, "epoch %u has two primaries: nodes %u and %u", epoch,
                     world->epoch_node[epoch], world_number(world, node));
    }
}

// 10: who feeds a learner is stepped again, whatever comes: the learner's lease is no event (J3).
static void oracle_feeders(struct world *world, const struct node *node)
{
    const struct torc_replica *replica = &node->replica;

    for (uint32_t i = 0; i < replica->peer_count; i++) {
        if (replica->role == TORC_REPLICA_ACTIVE &&
            replica->peers[i].role == TORC_REPLICA_PEER_LEARNER &&
            torc_replica_deadline_ns(replica) == UINT64_MAX) {
            oracle_wrong(world, "node %u feeds node %u and waits for nothing",
                         world_number(world, node), replica->peers[i].node);
        }
    }
}

// 3 and 1: never two that may answer a read, and whoever may knows every answered write.
static void oracle_readers(struct world *world)
{
    uint32_t reader = 0;

    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        struct node *node = &world->nodes[i];

        if (!node->up) {
            continue;
        }
        oracle_primaries(world, node);
        oracle_feeders(world, node);
        if (!shell_may_read(world, node)) {
            continue;
        }
        world->reads++;
        if (reader != 0) {
            oracle_wrong(world, "nodes %u and %u may both read (epochs %u and %u)", reader, i,
                         world->nodes[reader].replica.epoch, node->replica.epoch);
        }
        reader = i;
        if (node->replica.applied_lsn < world->answered_lsn) {
            oracle_wrong(world,
                         "node %u reads at LSN %" PRIu64 ", but LSN %" PRIu64 " was answered", i,
                         node->replica.applied_lsn, world->answered_lsn);
        }
    }
}

void oracle_check(struct world *world)
{
    oracle_readers(world);
    oracle_logs(world);
}

// 10: one primary serves, all that placement wants are in, and all have all.
bool oracle_is_well(struct world *world)
{
    uint32_t readers = 0;
    uint64_t applied_lsn = 0;

    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        struct node *node = &world->nodes[i];

        if (node->up && shell_may_read(world, node) &&
            torc_replica_may_append(&node->replica) == TORC_ERR_OK &&
            node->replica.configuration.member_count == world->want.node_count) {
            readers++;
            applied_lsn = node->replica.applied_lsn;
        }
    }
    return readers == 1 && applied_lsn >= world->answered_lsn;
}

// Whether a member is there whose copy is the recorded one: else the shard stays closed, rightly.
bool oracle_can_recover(const struct world *world)
{
    for (uint32_t i = 0; i < world->record.member_count; i++) {
        const struct torc_member *member = &world->record.members[i];

        if (world->nodes[member->node].copy == member->copy) {
            return true;
        }
    }
    return false;
}

static const char *const roles[] = {"learner", "backup", "candidate", "active"};

// For whoever looks into a failure.
void oracle_describe(const struct world *world)
{
    (void)fprintf(stderr, "record: epoch %u primary %u boot %" PRIu64 " members",
                  world->record.epoch, world->record.primary_node, world->record.primary_boot);
    for (uint32_t i = 0; i < world->record.member_count; i++) {
        (void)fprintf(stderr, " %u:%" PRIu64, world->record.members[i].node,
                      world->record.members[i].copy);
    }
    (void)fprintf(stderr, "; wanted");
    for (uint32_t i = 0; i < world->want.node_count; i++) {
        (void)fprintf(stderr, " %u", world->want.nodes[i]);
    }
    (void)fprintf(stderr, "; answered LSN %" PRIu64 "; durability %d, at least %u in-sync\n",
                  world->answered_lsn, (int)world->setup.durability, world->setup.min_in_sync);
    for (uint32_t i = 1; i <= world->setup.nodes; i++) {
        const struct node *node = &world->nodes[i];
        const struct torc_replica *r = &node->replica;

        (void)fprintf(stderr,
                      "node %u boot %" PRIu64 " copy %" PRIu64 "%s: %s epoch %u%s%s last %" PRIu64
                      " durable %" PRIu64 " commit %" PRIu64 " applied %" PRIu64 " floor %" PRIu64
                      "%s%s%s%s\n",
                      i, node->boot, node->copy, node->up ? "" : " down", roles[r->role], r->epoch,
                      r->synced ? " synced" : "", r->adopted ? " adopted" : "", r->last_lsn,
                      r->durable_lsn, r->commit_lsn, r->applied_lsn, r->floor_lsn,
                      r->proposal.open ? " proposing" : "", r->base_loading ? " loading" : "",
                      r->has_base ? "" : " no base", r->transfer_node != 0 ? " handing over" : "");
        for (uint32_t j = 0; j < r->peer_count && node->up; j++) {
            const struct torc_replica_peer *p = &r->peers[j];

            (void)fprintf(stderr,
                          "    peer %u role %d boot %" PRIu64 "%s%s health %u: copy %" PRIu64
                          " acked boot %" PRIu64 " copy %" PRIu64 " received %" PRIu64
                          " durable %" PRIu64 " next %" PRIu64 "%s%s%s stream %d pieces %u/%u\n",
                          p->node, (int)p->role, p->state.boot, p->state.silent ? " silent" : "",
                          p->state.mute ? " mute" : "", p->state.health, p->copy, p->acked_boot,
                          p->acked_copy, p->received_lsn, p->durable_lsn, p->next_lsn,
                          p->needs_base ? " needs base" : "", p->usable ? " usable" : "",
                          p->proposed ? " proposed" : "", (int)p->stream, p->piece_acked,
                          p->piece_count);
        }
    }
}
