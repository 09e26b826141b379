// Torc simulator: longer rows of troubles, which only --plan begins. See sim.h.
//
// What    rows (sim_plan.c) that take seconds, or a seed that is made for them: a write whose copy
//         comes when its client is forgotten, a checkpoint whose name is lost when the log was
//         trimmed by it, a member that does not know what it is claimed, a write
//         that waits while others lead. Drawn among the others they would leave no time for those;
//         what they find is a rule each, so tests/sim/bugs.sh alone asks for them.
// Owner   the run.
#include "control/records.h"
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"
#include "wire/peer_codec.h"

#define OLD_TTL_S     5u // over twice what a client may be ahead
#define OLD_BEHIND_MS 900u
#define OLD_LATE_NS   (3200 * SIM_MS)
#define OLD_AHEAD_US  UINT64_C(1970000)

#define NAMES_APART_NS (900 * SIM_MS) // between two rounds of checkpoints

// What moves no shard.
#define CALM                                                                    \
    (1u << SIM_CLASS_LOSS | 1u << SIM_CLASS_DOUBLE | 1u << SIM_CLASS_DAMAGE |   \
     1u << SIM_CLASS_DELAY | 1u << SIM_CLASS_MTU | 1u << SIM_CLASS_CHECKPOINT | \
     1u << SIM_CLASS_PLAN | 1u << SIM_CLASS_CLIENT)

static void configure_names(struct sim_config *config)
{
    config->classes &= CALM & ~(1u << SIM_CLASS_CHECKPOINT);
    config->durability = TORC_DURABILITY_DURABLE;
    config->nodes = (uint32_t)torc_max_u64(config->nodes, config->replicas + 1u);
    config->workers = 1; // else the other one's checkpoint has the names synced
    config->mixed_workers = false;
    config->segment_bytes = 1u << 20;
    config->big_ppm = 100000;
    config->checkpoint_bytes = 1u << 30; // each one ends with a sync of all names
    config->run_ns += SIM_S;
}

static void configure_claim(struct sim_config *config)
{
    config->classes &= CALM;
    config->nodes = config->replicas; // they share all shards
    config->workers = 2;
    config->mixed_workers = false;
    config->shards = 12;
}

void sim_rows_configure(struct sim_config *config)
{
    if (sim->wish.plan == SIM_PLAN_CLAIM) {
        configure_claim(config);
    }
    if (sim->wish.plan == SIM_PLAN_WAIT) {
        config->classes &= CALM;
    }
    if (sim->wish.plan == SIM_PLAN_NAMES) {
        configure_names(config);
    }
    if (sim->wish.plan == SIM_PLAN_OLD) {
        config->classes &= CALM;
        config->dedup_ttl_s = OLD_TTL_S;
        config->behind_ms = OLD_BEHIND_MS;
        config->skew_ms = 20;
        config->run_ns += 2 * SIM_S;
    }
}

bool sim_rows_fits(enum sim_plan_kind kind, const struct torc_worker_shard *leads)
{
    return kind != SIM_PLAN_OLD || leads->replica->machine.node == 1;
}

static void rows_ask(struct sim_plan *plan)
{
    sim_wake(&sim->clients[plan->ask.client].actor, sim->now_ns, SIM_EVENT_CLIENT, plan->ask.client,
             0);
}

// -- A copy of a write comes when its client is forgotten -----------------------------------------

// The first copy is late; the second is answered at once.
static void begin_old(struct sim_plan *plan)
{
    plan->until_ns = sim->now_ns + OLD_LATE_NS + SIM_S;
    plan->ask.kind = SIM_OP_PUT;
    plan->ask.shard = plan->shard;
    plan->ask.client = (uint32_t)sim_plan_draw(sim->config.clients);
    plan->ask.key = sim_plan_key(plan, (uint32_t)sim_plan_draw(sim->config.keys));
    plan->node = SIM_NODES_MAX + plan->ask.client;
    sim->net.slow_ns[plan->node][plan->primary - 1] = OLD_LATE_NS;
    rows_ask(plan);
    sim_plan_step_in(SIM_MS / 5);
}

// Another node is read ahead of its clock, which is ahead of the primary's: it tells the primary.
static void old_read_ahead(struct sim_plan *plan)
{
    uint64_t real_us = (uint64_t)SIM_WALL_ZERO_US + sim->now_ns / 1000;

    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        const struct torc_worker_shard *leads = sim_plan_leads(shard);

        if (leads != NULL && leads->replica->machine.node != plan->primary) {
            plan->ask.kind = SIM_OP_RANGE;
            plan->ask.shard = shard;
            plan->ask.client = (plan->ask.client + 1) % sim->config.clients;
            plan->ask.ts = torc_hlc_from_us(real_us + OLD_AHEAD_US);
            rows_ask(plan);
            return;
        }
    }
}

static void step_old(struct sim_plan *plan)
{
    uint32_t stage = plan->stage++;

    if (stage == 0) {
        sim->net.slow_ns[plan->node][plan->primary - 1] = 0;
        sim_plan_step_in(30 * SIM_MS);
    } else if (stage == 1) { // it is silent from now on
        sim_client_restart(plan->node - SIM_NODES_MAX);
        sim_plan_step_in(OLD_LATE_NS - 150 * SIM_MS);
    } else {
        old_read_ahead(plan);
    }
}

// -- A checkpoint's name does not last ------------------------------------------------------------

// The shard is to go from a node, which lets go of it after a while; all are written there.
static void begin_names(struct sim_plan *plan)
{
    const struct sim_want *want = &sim->wants[plan->shard - 1];
    uint32_t place = 0;

    while (place < want->count && want->nodes[place] != plan->node) {
        place++;
    }
    if (place == want->count || sim_wish_more(plan->shard, plan->node) == 0) {
        plan->kind = SIM_PLAN_NONE;
        return;
    }
    (void)sim_wish_fewer(plan->shard, place);
    sim_plan_node(plan->node)->control.wants_round = true;
    plan->until_ns = sim->now_ns + 5 * SIM_S;
    sim_plan_step_in(NAMES_APART_NS);
}

// The shard's last checkpoint is all that keeps the first segment of its core's log, but for that
// of the shard that goes.
static bool names_keeps_log(struct sim_node *node, uint32_t number)
{
    struct sim_control *control = &node->control;
    const struct torc_cluster_shard *shard = torc_cluster_shard(&control->cluster, number);
    uint64_t first = 0;
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; shard != NULL && i < control->cluster.shard_count; i++) {
        const struct torc_cluster_shard *other = &control->shards[i];

        if (other != shard && other->shard != 0 && other->shard != sim->plan.shard &&
            other->worker == shard->worker) {
            least = torc_min_u64(least, other->start_sequence);
        }
    }
    for (uint32_t i = 0; shard != NULL && i < torc_log_store_stream_count(control->store); i++) {
        const struct torc_log_plan *log = torc_log_store_plan(control->store, i);

        if (log->stream == shard->worker + 1 && log->segment_count > 1) {
            first = log->segments[1].first_sequence;
        }
    }
    return shard != NULL && shard->has_checkpoint && shard->start_sequence < first &&
           first <= least;
}

bool sim_rows_named(struct sim_node *node, const char *name)
{
    struct sim_plan *plan = &sim->plan;
    uint32_t shard;
    uint64_t lsn;

    if (plan->kind != SIM_PLAN_NAMES || plan->stage != 1 || node->number != plan->node ||
        !torc_checkpoint_name_parse(name, &shard, &lsn) || shard == plan->shard ||
        !names_keeps_log(node, shard)) {
        return false;
    }
    plan->stage = 2;
    sim_story("PLAN    node %u: the name %s is not synced", (unsigned)plan->node, name);
    sim_plan_step_in(SIM_MS);
    return true;
}

static void step_names(struct sim_plan *plan)
{
    struct sim_node *node = sim_plan_node(plan->node);
    const struct sim_control *control = &node->control;

    if (plan->stage == 0) {
        plan->stage = 1;
        node->control.wants_round = true;
    } else if (sim->now_ns > plan->until_ns) {
        plan->kind = SIM_PLAN_NONE;
    } else if (plan->stage == 2 && control->state == SIM_CONTROL_SERVING &&
               torc_cluster_shard(&node->control.cluster, plan->shard) == NULL) {
        plan->stage = 3; // what was trimmed is written over meanwhile
        sim_plan_step_in(sim_plan_draw(900 * SIM_MS));
    } else if (plan->stage == 3) {
        plan->kind = SIM_PLAN_NONE;
        for (uint32_t i = 1; i <= sim->config.nodes; i++) { // nobody is removed meanwhile
            sim_faults_power_off(sim_plan_node(i), 200 * SIM_MS);
        }
    } else {
        sim_plan_step_in(SIM_MS);
    }
}

// -- A claim's slot has another shard, and the member does not hear of it -------------------------

// The primary does not hear the member, and removes it from all that it leads.
static void begin_claim(struct sim_plan *plan)
{
    plan->until_ns = sim->now_ns + 1500 * SIM_MS;
    sim->net.cut_until_ns[plan->node - 1][plan->primary - 1] = plan->until_ns;
    sim->meta.away_ns[plan->node - 1] = plan->until_ns;
    sim_plan_step_in(SIM_MS);
}

static bool claim_is_member(const struct sim_plan *plan, uint32_t shard, bool *leads)
{
    struct torc_shard_fields record;
    bool member = false;

    sim_wish_record(shard, &record);
    *leads = record.primary_node == plan->primary;
    for (uint32_t i = 0; i < record.insync.count; i++) {
        member = member || record.insync.at[i].node == plan->node;
    }
    return member;
}

// Of what the primary leads: how many shards the node is a member of.
static uint32_t claim_members(const struct sim_plan *plan)
{
    uint32_t count = 0;

    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        bool leads = false;
        bool member = claim_is_member(plan, shard, &leads);

        count += leads && member;
    }
    return count;
}

bool sim_rows_drops(uint32_t from, uint32_t to, uint32_t core, const uint8_t *op)
{
    const struct sim_plan *plan = &sim->plan;

    if (plan->kind != SIM_PLAN_CLAIM || sim->quiet || sim->now_ns >= plan->until_ns) {
        return false;
    }
    if (from + 1 == plan->primary && to + 1 == plan->node) {
        return core != 0 || op[0] == TORC_PEER_OP_CLAIM;
    }
    return plan->stage == 3 && from + 1 == plan->node && to + 1 == plan->primary && core != 0;
}

// It is sick, and the other core of the member does not know: there it holds what it was claimed.
static void claim_sicken(struct sim_plan *plan)
{
    sim->meta.away_ns[plan->node - 1] = 0;
    sim->meta.away_ns[plan->primary - 1] = plan->until_ns;
    sim_plan_node(plan->primary)->faults.fail_write = 1;
    sim_faults_stall(sim_plan_node(plan->node), 1, 250 * SIM_MS);
    plan->until_ns = sim->now_ns + 400 * SIM_MS;
}

static void step_claim(struct sim_plan *plan)
{
    uint32_t members = claim_members(plan);

    if (sim->now_ns >= plan->until_ns) {
        plan->kind = SIM_PLAN_NONE;
        return;
    }
    if (plan->stage == 0 && members == 0) {
        plan->stage = 1;
        sim->net.cut_until_ns[plan->node - 1][plan->primary - 1] = 0;
        sim_story("PLAN    node %u is a member of nothing that node %u leads", (unsigned)plan->node,
                  (unsigned)plan->primary);
    } else if (plan->stage == 1 && members > 0) {
        plan->stage = 2;
        sim_plan_step_in(10 * SIM_MS);
        return;
    } else if (plan->stage == 2) {
        plan->stage = 3;
        sim_story("PLAN    node %u is a member of %u", (unsigned)plan->node, (unsigned)members);
        claim_sicken(plan);
    }
    sim_plan_step_in(SIM_MS);
}

// -- A write that waits, when its primary is none any more and leads again later ------------------

static void wait_ask(struct sim_plan *plan, uint32_t client, uint8_t condition)
{
    plan->ask.kind = SIM_OP_PUT;
    plan->ask.shard = plan->shard;
    plan->ask.client = client % sim->config.clients;
    plan->ask.condition = condition;
    rows_ask(plan);
    sim_plan_step_in(SIM_MS / 2);
}

// Nothing commits: what is written is pending, and a condition on its key waits.
static void begin_wait(struct sim_plan *plan)
{
    plan->until_ns = sim->now_ns + 1500 * SIM_MS;
    sim->net.cut_until_ns[plan->primary - 1][plan->node - 1] = sim->now_ns + 10 * SIM_MS;
    plan->ask.key = sim_plan_key(plan, (uint32_t)sim_plan_draw(sim->config.keys));
    wait_ask(plan, (uint32_t)sim_plan_draw(sim->config.clients), TORC_SHARD_ANY);
}

// Another one leads, and has executed what clients sent it again; then the first is wished.
static void step_wait(struct sim_plan *plan)
{
    struct torc_shard_fields record;

    sim_wish_record(plan->shard, &record);
    if (sim->now_ns >= plan->until_ns) {
        plan->kind = SIM_PLAN_NONE;
    } else if (plan->stage == 0) {
        plan->stage = 1;
        wait_ask(plan, plan->ask.client + 1, TORC_SHARD_IF_PRESENT);
    } else if (plan->stage == 1) {
        plan->stage = 2;
        sim_plan_apart(plan->primary, 1500 * SIM_MS, true);
        sim_plan_step_in(SIM_MS);
    } else if (plan->stage == 2 && record.primary_node != plan->primary) {
        plan->stage = 3;
        sim_plan_step_in(100 * SIM_MS);
    } else if (plan->stage == 3) {
        sim_plan_heal(plan->primary);
        (void)sim_plan_wish(plan->shard, plan->primary);
        plan->kind = SIM_PLAN_NONE;
    } else {
        sim_plan_step_in(SIM_MS);
    }
}

void sim_rows_begin(struct sim_plan *plan)
{
    if (plan->kind == SIM_PLAN_OLD) {
        begin_old(plan);
    } else if (plan->kind == SIM_PLAN_WAIT) {
        begin_wait(plan);
    } else if (plan->kind == SIM_PLAN_CLAIM) {
        begin_claim(plan);
    } else {
        begin_names(plan);
    }
}

void sim_rows_step(struct sim_plan *plan)
{
    if (plan->kind == SIM_PLAN_OLD) {
        step_old(plan);
    } else if (plan->kind == SIM_PLAN_WAIT) {
        step_wait(plan);
    } else if (plan->kind == SIM_PLAN_CLAIM) {
        step_claim(plan);
    } else {
        step_names(plan);
    }
}
