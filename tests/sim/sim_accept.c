// Torc simulator: an operator who accepts the loss of all copies in sync. See sim.h.
//
// What    class ACCEPT: a plan that makes such losses, and the operator who is called then. The
//         plan leaves one member behind (no power, no network, or an empty disk that is being
//         filled), waits until the others went on without it, and takes their disks or their power.
//         The operator looks at all copies there are (control/accept.h, LOOK), mostly takes the one
//         that has most, and names as off who has no power or no memory: never one that runs. Now
//         and then he does so with a shard that needs it not; then he must be refused.
// Owner   the run, with dice of its own: seeds without the class are what they were.
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"

#include <string.h>

#define TICK_NS   (10 * SIM_MS)
#define DEAD_NS   (400 * SIM_MS) // an operator does not come at once
#define PLAN_NS   (1500 * SIM_MS)
#define APART_NS  (3 * SIM_S)
#define IDLE_PPM  20000u // of looks at a shard that needs none, a tick
#define WORSE_PPM 150000u
#define SEEN_PPM  100000u // of losses that are noted, a tick

static uint64_t accept_draw(uint64_t bound)
{
    return torc_rng_below(&sim->accept.rng, bound);
}

static bool accept_chance(uint32_t percent)
{
    return accept_draw(100) < percent;
}

void sim_accept_init(void)
{
    sim->accept.rng = (struct torc_rng){sim->wish.seed ^ UINT64_C(0x616363657074)};
    if (sim_has(SIM_CLASS_ACCEPT)) {
        sim_post(sim->now_ns + TICK_NS, SIM_EVENT_MEND, SIM_MEND_ACCEPT, 0, NULL);
    }
}

// -- Who is there ---------------------------------------------------------------------------------

static bool accept_remembers(uint32_t shard, const struct torc_record_member *member)
{
    return sim_ghost_remembers(shard, (uint32_t)member->node, member->copy);
}

// Neither runs nor can it before somebody does something; or it has forgotten.
static bool accept_is_off(uint32_t shard, const struct torc_record_member *member)
{
    return !sim->nodes[member->node - 1].powered || !accept_remembers(shard, member);
}

static bool accept_is_dead(uint32_t shard)
{
    struct torc_shard_fields fields;

    sim_wish_record(shard, &fields);
    for (uint32_t i = 0; i < fields.insync.count; i++) {
        if (!accept_is_off(shard, &fields.insync.at[i])) {
            return false;
        }
    }
    return true;
}

static void accept_watch(void)
{
    struct sim_accept *accept = &sim->accept;

    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        bool dead = accept_is_dead(shard);

        accept->dead_ns[shard] = !dead                        ? 0
                                 : accept->dead_ns[shard] > 0 ? accept->dead_ns[shard]
                                                              : sim->now_ns;
        if (dead) {
            sim_calm_trouble();
        }
    }
}

static bool accept_has_room(uint32_t shard)
{
    return sim_loss_era_count(shard) + 1 < SIM_ERAS_MAX && sim->loss_count < SIM_LOSSES_MAX;
}

// -- The operator ---------------------------------------------------------------------------------

static bool look_at(struct sim_node *node, uint32_t shard, struct torc_accept_order *order)
{
    const struct torc_cluster_shard *has = node->control.state != SIM_CONTROL_DEAD
                                               ? torc_cluster_shard(&node->control.cluster, shard)
                                               : NULL;

    if (has == NULL || !has->replica || sim_agree_accept(node) == NULL ||
        sim_ghost_replica(node, shard) == NULL) {
        return false;
    }
    *order = (struct torc_accept_order){.verb = TORC_ACCEPT_LOOK,
                                        .shard = shard,
                                        .node = node->number,
                                        .copy = has->copy,
                                        .min_in_sync = sim_min_in_sync(),
                                        .at_s = sim_wall_us(&node->clock) / 1000000,
                                        .said = has->said};
    return true;
}

static void operator_looks(uint32_t shard)
{
    struct sim_accept *accept = &sim->accept;
    struct torc_accept_order order;

    accept->shard = shard;
    accept->stage = SIM_ACCEPT_LOOKING;
    sim_cover(SIM_COVER_ACCEPT_LOOKED);
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        if (look_at(&sim->nodes[i], shard, &order)) {
            sim_agree_order(&sim->nodes[i], &order);
        }
    }
}

// What this node was told to do with that shard, and has come to an end with; NULL: nothing.
static const struct torc_acceptance *operator_heard(const struct sim_node *node,
                                                    enum torc_accept_verb verb)
{
    const struct torc_acceptance *heard = sim_agree_accept(node);

    return heard != NULL && !heard->open && heard->order.verb == verb &&
                   heard->order.shard == sim->accept.shard
               ? heard
               : NULL;
}

static bool operator_waits(void)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        const struct torc_acceptance *accept = sim_agree_accept(&sim->nodes[i]);

        if (accept != NULL && accept->open) {
            return true;
        }
    }
    return false;
}

static bool operator_prefers(const struct torc_acceptance *one, const struct torc_acceptance *two)
{
    const struct torc_evt_role *a = &one->order.said;
    const struct torc_evt_role *b = &two->order.said;

    return a->last_epoch != b->last_epoch ? a->last_epoch > b->last_epoch
                                          : a->last_lsn > b->last_lsn;
}

static struct sim_node *operator_chooses(void)
{
    struct sim_node *best = NULL;
    const struct torc_acceptance *of_best = NULL;

    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        const struct torc_acceptance *looked = operator_heard(&sim->nodes[i], TORC_ACCEPT_LOOK);

        if (looked == NULL) {
            continue;
        }
        if (looked->why.err != TORC_ERR_OK) {
            (void)snprintf(sim->accept.why, sizeof(sim->accept.why), "%s", looked->why.text);
        } else if (best == NULL || operator_prefers(looked, of_best) ||
                   torc_rng_chance(&sim->accept.rng, WORSE_PPM)) {
            best = &sim->nodes[i];
            of_best = looked;
        }
    }
    return best;
}

static void operator_orders(struct sim_node *node)
{
    struct sim_accept *accept = &sim->accept;
    const struct torc_acceptance *looked = operator_heard(node, TORC_ACCEPT_LOOK);
    const struct torc_worker_shard *has = sim_ghost_replica(node, accept->shard);
    struct sim_order *given = &accept->orders[accept->shard][node->index];
    struct torc_accept_order order;

    if (!look_at(node, accept->shard, &order)) {
        return;
    }
    accept_watch();
    order.verb = TORC_ACCEPT_ACCEPT;
    order.epoch = (uint32_t)looked->fields.epoch;
    *given = (struct sim_order){.dead_ns = accept->dead_ns[accept->shard],
                                .lsn = has->replica->machine.last_lsn,
                                .hlc = order.said.last_hlc,
                                .complete = looked->complete,
                                .cut_hlc = sim_ghost_agrees(has, order.said.last_hlc)};
    for (uint32_t i = 0; i < looked->fields.insync.count; i++) {
        const struct torc_record_member *member = &looked->fields.insync.at[i];

        if (looked->members[i] == TORC_ACCEPT_SILENT && accept_is_off(accept->shard, member)) {
            order.off[order.off_count++] = (uint32_t)member->node;
            given->off |= 1u << (member->node - 1);
        }
    }
    sim_cover(SIM_COVER_ACCEPT_ORDERED);
    sim_story("OPERATOR  node %u is to accept the loss of shard %u, epoch %u, from LSN %" PRIu64
              " of epoch %u; off: %x",
              (unsigned)node->number, (unsigned)order.shard, (unsigned)order.epoch,
              order.said.last_lsn, (unsigned)order.said.last_epoch, (unsigned)given->off);
    accept->stage = SIM_ACCEPT_ORDERING;
    accept->node = node->number;
    sim_agree_order(node, &order);
}

static void operator_ends(void)
{
    struct sim_accept *accept = &sim->accept;
    const struct torc_acceptance *heard =
        operator_heard(&sim->nodes[accept->node - 1], TORC_ACCEPT_ACCEPT);

    accept->stage = SIM_ACCEPT_IDLE;
    if (heard != NULL && heard->why.err != TORC_ERR_OK) {
        sim_cover(SIM_COVER_ACCEPT_REFUSED);
        (void)snprintf(accept->why, sizeof(accept->why), "%s", heard->why.text);
        sim_story("OPERATOR  node %u: %s", (unsigned)accept->node, heard->why.text);
    }
}

// All who need to know do: any node may be told, it needs no copy.
static bool operator_acknowledges(void)
{
    struct sim_accept *accept = &sim->accept;
    uint32_t shard = 1 + (uint32_t)accept_draw(sim->config.shards);
    struct torc_accept_order order = {.verb = TORC_ACCEPT_ACKNOWLEDGE, .shard = shard};
    struct torc_shard_fields record;
    struct sim_node *node;

    sim_wish_record(shard, &record);
    if (record.losses.count == 0 || !torc_rng_chance(&accept->rng, SEEN_PPM)) {
        return false;
    }
    node = &sim->nodes[accept_draw(sim->config.nodes)];
    if (node->control.state == SIM_CONTROL_DEAD || sim_agree_accept(node) == NULL) {
        return false;
    }
    order.node = node->number;
    accept->shard = shard;
    accept->node = node->number;
    accept->seen[shard] = true;
    accept->seen_epoch = record.losses.at[record.losses.count - 1].epoch;
    accept->stage = SIM_ACCEPT_ACKNOWLEDGING;
    sim_story("OPERATOR  node %u is told that the losses of shard %u were seen",
              (unsigned)node->number, (unsigned)shard);
    sim_agree_order(node, &order);
    return true;
}

// What was said to be done is.
static void operator_is_told(void)
{
    struct sim_accept *accept = &sim->accept;
    const struct torc_acceptance *heard =
        operator_heard(&sim->nodes[accept->node - 1], TORC_ACCEPT_ACKNOWLEDGE);
    struct torc_shard_fields record;

    accept->stage = SIM_ACCEPT_IDLE;
    sim_wish_record(accept->shard, &record);
    if (heard != NULL && heard->why.err == TORC_ERR_OK && record.losses.count > 0 &&
        record.losses.at[0].epoch <= accept->seen_epoch) {
        sim_fail("acknowledged: a loss of shard %u is noted still", (unsigned)accept->shard);
    }
}

static void operator_step(void)
{
    struct sim_accept *accept = &sim->accept;
    struct sim_node *node;

    if (accept->stage != SIM_ACCEPT_IDLE) {
        if (operator_waits()) {
            return;
        }
        if (accept->stage == SIM_ACCEPT_ACKNOWLEDGING) {
            operator_is_told();
            return;
        }
        if (accept->stage == SIM_ACCEPT_ORDERING) {
            operator_ends();
            return;
        }
        accept->stage = SIM_ACCEPT_IDLE;
        node = operator_chooses();
        if (node != NULL) {
            operator_orders(node);
        }
        return;
    }
    for (uint32_t i = 0; i < sim->config.shards; i++) {
        uint32_t shard = 1 + (accept->shard + i) % sim->config.shards;

        if (accept->dead_ns[shard] > 0 && sim->now_ns - accept->dead_ns[shard] >= DEAD_NS &&
            accept_has_room(shard)) {
            operator_looks(shard);
            return;
        }
    }
    if (operator_acknowledges()) {
        return;
    }
    if (!sim->quiet && torc_rng_chance(&accept->rng, IDLE_PPM)) {
        uint32_t shard = 1 + (uint32_t)accept_draw(sim->config.shards);

        if (accept->dead_ns[shard] == 0) {
            operator_looks(shard);
        }
    }
}

// A copy that is whole, of a node that serves.
static bool accept_has_copy(uint32_t shard)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        const struct torc_worker_shard *has = sim_ghost_replica(&sim->nodes[i], shard);

        if (has != NULL && torc_replica_is_whole(&has->replica->machine)) {
            return true;
        }
    }
    return false;
}

bool sim_accept_is_settled(void)
{
    for (uint32_t shard = 1; sim_has(SIM_CLASS_ACCEPT) && shard <= sim->config.shards; shard++) {
        if (accept_is_dead(shard) && accept_has_room(shard) && accept_has_copy(shard)) {
            return false;
        }
    }
    return true;
}

// -- The plan -------------------------------------------------------------------------------------

static bool plan_lists(const struct torc_shard_fields *record, uint32_t number)
{
    for (uint32_t i = 0; i < record->insync.count; i++) {
        if (record->insync.at[i].node == number) {
            return true;
        }
    }
    return false;
}

static void plan_power_off(uint32_t number, uint64_t for_ns, bool disk)
{
    struct sim_node *node = &sim->nodes[number - 1];

    sim_calm_trouble();
    if (!node->powered) {
        return;
    }
    sim_faults_power_off(node, for_ns);
    if (disk) {
        sim_faults_lose_disk(node);
    }
}

void sim_accept_begin(void)
{
    struct sim_accept *accept = &sim->accept;
    uint32_t shard = sim_shard_of(sim->keys[accept_draw(sim->config.keys)]);
    struct torc_shard_fields record;
    uint64_t dice = accept_draw(100);

    sim_wish_record(shard, &record);
    if (accept->plan_shard != 0 || record.insync.count < 2 || !accept_has_room(shard)) {
        return;
    }
    sim->fault_count++;
    sim_cover(SIM_COVER_FAULT_LOSS);
    accept->plan_shard = shard;
    accept->plan_from_ns = sim->now_ns;
    accept->plan_at_ns = 0;
    accept->plan_node = (uint32_t)record.insync.at[accept_draw(record.insync.count)].node;
    sim_story("FAULT   shard %u is to lose all copies in sync: node %u is left behind",
              (unsigned)shard, (unsigned)accept->plan_node);
    if (dice < 45 || sim->config.durability != TORC_DURABILITY_DURABLE) {
        sim_plan_apart(accept->plan_node, APART_NS, accept_chance(50));
    } else {
        plan_power_off(accept->plan_node, 100 * SIM_MS + accept_draw(900 * SIM_MS), dice >= 80);
    }
}

static void plan_strike(const struct torc_shard_fields *record)
{
    struct sim_accept *accept = &sim->accept;

    for (uint32_t i = 0; i < record->insync.count; i++) {
        plan_power_off((uint32_t)record->insync.at[i].node,
                       200 * SIM_MS + accept_draw(2000 * SIM_MS), accept_chance(70));
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) { // the one that was left behind is back
        uint64_t until_ns = sim->now_ns + accept_draw(300 * SIM_MS);
        uint64_t *from = &sim->net.cut_until_ns[accept->plan_node - 1][i];
        uint64_t *to = &sim->net.cut_until_ns[i][accept->plan_node - 1];

        *from = torc_min_u64(*from, until_ns);
        *to = torc_min_u64(*to, until_ns);
    }
    sim->meta.away_ns[accept->plan_node - 1] = 0;
    accept->plan_shard = 0;
}

static void plan_look(void)
{
    struct sim_accept *accept = &sim->accept;
    struct torc_shard_fields record;

    if (accept->plan_shard == 0) {
        return;
    }
    sim_wish_record(accept->plan_shard, &record);
    if (sim->quiet || sim->now_ns - accept->plan_from_ns > PLAN_NS) {
        accept->plan_shard = 0;
    } else if (plan_lists(&record, accept->plan_node)) {
        accept->plan_at_ns = 0;
    } else if (accept->plan_at_ns == 0) {
        accept->plan_at_ns = sim->now_ns + accept_draw(300 * SIM_MS);
    } else if (sim->now_ns >= accept->plan_at_ns) {
        plan_strike(&record);
    }
}

void sim_accept_look(void)
{
    sim_post(sim->now_ns + TICK_NS, SIM_EVENT_MEND, SIM_MEND_ACCEPT, 0, NULL);
    plan_look();
    accept_watch();
    operator_step();
}
