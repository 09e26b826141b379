// Torc simulator: troubles that come in a row. See sim.h.
//
// What    faults that come one by one seldom meet what takes several within one promise (20 ms):
//         three takeovers, a transfer that is taken back, a path that is late before it is silent,
//         a member that has just joined and loses the others. A plan is a short row of faults at
//         one shard: it begins as a fault of class PLAN, and goes on when the metastore has swapped
//         the shard's record, or when its next step is due. It breaks nothing that single faults
//         could not. (tests/model/replica_aims.c does the same to the machines alone.)
// Owner   the run. One plan at a time, with dice of its own.
#include "control/records.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_records.h"

#include <string.h>

static const char *const plan_words[] = {
    "none",           "takeovers in a row",  "late, then silent", "taken back",
    "a member alone", "a member that joins", "a deaf member"};

static uint64_t plan_draw(uint64_t bound)
{
    return torc_rng_below(&sim->plan.rng, bound);
}

static bool plan_chance(uint32_t percent)
{
    return plan_draw(100) < percent;
}

static void plan_step_in(uint64_t delay_ns)
{
    sim_post(sim->now_ns + delay_ns, SIM_EVENT_MEND, SIM_MEND_PLAN, sim->plan.serial, NULL);
}

static struct sim_node *plan_node(uint32_t number)
{
    return &sim->nodes[number - 1];
}

static void plan_record(uint32_t shard, struct torc_shard_fields *fields)
{
    char name[TORC_RECORD_NAME_BYTES];
    struct torc_fail why;
    const char *text;

    torc_record_name(name, "shard", shard);
    text = sim_records_get(name);
    torc_assert(text != NULL && torc_record_decode(TORC_RECORD_SHARD, fields, text, strlen(text),
                                                   &why) == TORC_ERR_OK);
}

// Some milliseconds, or k times as many: nodes stretch their promises when they lose their cores.
static uint64_t plan_while_ns(void)
{
    return (30 * SIM_MS + plan_draw(30 * SIM_MS)) << plan_draw(4);
}

// Nodes do not hear it, nor it them; clients do.
static void plan_apart(uint32_t number, uint64_t for_ns, bool store)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        if (i + 1 != number) {
            sim->net.cut_until_ns[number - 1][i] = sim->now_ns + for_ns;
            sim->net.cut_until_ns[i][number - 1] = sim->now_ns + for_ns;
        }
    }
    if (store) {
        sim->meta.away_ns[number - 1] = sim->now_ns + for_ns;
    }
    sim_story("PLAN    node %u is apart from the others for %u ms%s", (unsigned)number,
              (unsigned)(for_ns / SIM_MS), store ? ", and from the metastore" : "");
}

static void plan_slow(uint32_t number, uint64_t in_ns, uint64_t out_ns)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        if (i + 1 != number) {
            sim->net.slow_ns[i][number - 1] = in_ns;
            sim->net.slow_ns[number - 1][i] = out_ns;
        }
    }
}

static uint32_t plan_backup(const struct torc_shard_fields *record)
{
    uint32_t first = (uint32_t)plan_draw(record->insync.count);

    for (uint32_t i = 0; i < record->insync.count; i++) {
        uint32_t node = (uint32_t)record->insync.at[(first + i) % record->insync.count].node;

        if (node != record->primary_node && plan_node(node)->up) {
            return node;
        }
    }
    return 0;
}

// Its log fails at the next write: it says so, and another takes over at once.
static void plan_sicken(uint32_t number)
{
    plan_node(number)->faults.fail_write = 1;
    sim_story("PLAN    node %u: its log will fail", (unsigned)number);
}

static void plan_stall(uint32_t number)
{
    struct sim_node *node = plan_node(number);

    if (node->up) {
        sim_faults_stall(node, 0, 14 * SIM_MS + plan_draw((plan_chance(60) ? 8 : 60) * SIM_MS));
    }
}

static void plan_kill(uint32_t number, bool control)
{
    struct sim_node *node = plan_node(number);

    if (node->up && sim_faults_may_forget(node)) {
        sim_faults_kill(node, true, control);
    }
}

// -- A plan begins --------------------------------------------------------------------------------

static void begin_late(struct sim_plan *plan)
{
    uint64_t dice = plan_draw(4);
    uint64_t late_ns = 6 * SIM_MS + plan_draw(40 * SIM_MS);

    plan_slow(plan->primary, dice == 0 || dice == 2 ? late_ns : 0,
              dice == 1 || dice == 2 ? late_ns : 0);
    if (plan_chance(30)) {
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + plan_while_ns();
    }
    if (plan_chance(60)) {
        plan_stall(plan->primary);
    }
    plan_step_in(5 * SIM_MS + plan_draw(60 * SIM_MS));
}

static void begin_transfer(struct sim_plan *plan)
{
    const struct sim_want *want = &sim->wants[plan->shard - 1];

    for (uint32_t i = 0; i < want->count; i++) {
        if (want->nodes[i] == plan->node) {
            (void)sim_wish_lead(plan->shard, i);
            sim->meta.away_ns[plan->node - 1] = sim->now_ns + 700 * SIM_MS;
            plan->until_ns = sim->now_ns + 700 * SIM_MS;
        }
    }
}

static void begin_kind(struct sim_plan *plan)
{
    switch (plan->kind) {
    case SIM_PLAN_NONE:
    case SIM_PLAN_COUNT: return;
    case SIM_PLAN_CHAIN: plan_sicken(plan->primary); return;
    case SIM_PLAN_LATE: begin_late(plan); return;
    case SIM_PLAN_TRANSFER: begin_transfer(plan); return;
    case SIM_PLAN_LONELY: // it reaches the metastore alone, and the primary does not
        plan_apart(plan->node, 300 * SIM_MS + plan_while_ns(), false);
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + 400 * SIM_MS;
        plan->kind = SIM_PLAN_NONE;
        return;
    case SIM_PLAN_DEAF:
        sim->net.cut_until_ns[plan->primary - 1][plan->node - 1] = sim->now_ns + plan_while_ns();
        plan->kind = SIM_PLAN_NONE;
        return;
    case SIM_PLAN_JOIN: // it is removed, and comes back
        if (!sim_faults_may_forget(plan_node(plan->node))) {
            plan->kind = SIM_PLAN_NONE;
            return;
        }
        sim_faults_power_off(plan_node(plan->node), 60 * SIM_MS + plan_draw(100 * SIM_MS));
        plan->until_ns = sim->now_ns + SIM_S;
        return;
    }
    torc_unreachable("no such plan");
}

bool sim_plan_begin(void)
{
    struct sim_plan *plan = &sim->plan;
    struct torc_shard_fields record;

    if (plan->kind != SIM_PLAN_NONE && sim->now_ns < plan->until_ns) {
        return false;
    }
    plan->rng = (struct torc_rng){torc_rng_next(&sim->chaos)};
    plan->serial++;
    plan->shard = 1 + (uint32_t)plan_draw(sim->config.shards);
    plan_record(plan->shard, &record);
    plan->stage = 0;
    plan->primary = (uint32_t)record.primary_node;
    plan->members = (uint32_t)record.insync.count;
    plan->node = record.insync.count > 1 ? plan_backup(&record) : 0;
    plan->until_ns = sim->now_ns + 150 * SIM_MS;
    plan->kind = SIM_PLAN_NONE;
    if (plan->node == 0 || !plan_node(plan->primary)->up || !plan_node(plan->primary)->powered) {
        return false;
    }
    plan->kind = (enum sim_plan_kind)(1 + plan_draw(SIM_PLAN_COUNT - 1));
    sim_story("PLAN    shard %u of node %u: %s", (unsigned)plan->shard, (unsigned)plan->primary,
              plan_words[plan->kind]);
    begin_kind(plan);
    return true;
}

// -- The shard has another record -----------------------------------------------------------------

// The old primary reads on, out of reach; the new one is about to die; others are short of memory.
static void swapped_chain(struct sim_plan *plan, const struct torc_shard_fields *record)
{
    if (plan->stage != 0 || record->primary_node == plan->primary) {
        return;
    }
    plan->stage = 1;
    plan->node = (uint32_t)record->primary_node;
    plan_apart(plan->primary, plan_while_ns(), true);
    plan_step_in(SIM_MS / 2 + plan_draw(4 * SIM_MS));
    for (uint32_t i = 0; i < record->insync.count; i++) {
        uint32_t number = (uint32_t)record->insync.at[i].node;

        if (number != plan->node && number != plan->primary && plan_chance(50)) {
            plan_kill(number, plan_chance(30));
        }
    }
}

static void swapped_transfer(struct sim_plan *plan, const struct torc_shard_fields *record)
{
    if (plan->stage == 0 && record->primary_node == plan->primary) {
        plan->stage = 1;
        sim_wish_none(plan->shard);
        plan_step_in(6 * SIM_MS + plan_draw(12 * SIM_MS));
    } else if (plan->stage == 2 && record->primary_node != plan->primary) {
        plan_apart(plan->primary, plan_while_ns(), true);
        plan->kind = SIM_PLAN_NONE;
    }
}

// One member more: the primary does not hear of it.
static void swapped_join(struct sim_plan *plan, const struct torc_shard_fields *record)
{
    bool more = record->insync.count > plan->members && record->primary_node == plan->primary;
    uint32_t joined = (uint32_t)record->insync.at[record->insync.count - 1].node;
    uint64_t for_ns = 250 * SIM_MS + plan_while_ns();

    plan->members = (uint32_t)record->insync.count;
    if (!more) {
        return;
    }
    plan->kind = SIM_PLAN_NONE;
    if (plan_chance(40)) {
        plan_apart(joined, for_ns, false);
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + for_ns;
    } else if (plan_chance(50)) {
        plan_apart(plan->primary, for_ns, true);
    } else {
        plan_kill(plan->primary, plan_chance(50));
    }
}

bool sim_plan_hides(uint32_t shard)
{
    return sim->plan.kind == SIM_PLAN_JOIN && shard == sim->plan.shard && !sim->quiet &&
           plan_chance(70);
}

void sim_plan_swapped(uint32_t shard)
{
    struct sim_plan *plan = &sim->plan;
    struct torc_shard_fields record;

    if (plan->kind == SIM_PLAN_NONE || shard != plan->shard || sim->quiet) {
        return;
    }
    if (sim->now_ns >= plan->until_ns) {
        plan->kind = SIM_PLAN_NONE;
        return;
    }
    plan_record(shard, &record);
    if (plan->kind == SIM_PLAN_CHAIN) {
        swapped_chain(plan, &record);
    } else if (plan->kind == SIM_PLAN_TRANSFER) {
        swapped_transfer(plan, &record);
    } else if (plan->kind == SIM_PLAN_JOIN) {
        swapped_join(plan, &record);
    }
}

// -- A step is due --------------------------------------------------------------------------------

void sim_plan_step(uint32_t serial)
{
    struct sim_plan *plan = &sim->plan;

    if (serial != plan->serial || sim->quiet) {
        return;
    }
    if (plan->kind == SIM_PLAN_CHAIN && plan->stage == 1) {
        plan_kill(plan->node, false);
        plan->kind = SIM_PLAN_NONE;
    } else if (plan->kind == SIM_PLAN_TRANSFER && plan->stage == 1) {
        plan->stage = 2;
        plan->until_ns = sim->now_ns + 150 * SIM_MS;
        sim->meta.away_ns[plan->node - 1] = 0;
        plan_sicken(plan->primary);
    } else if (plan->kind == SIM_PLAN_LATE) { // what is under way arrives
        if (plan_chance(50)) {
            plan_stall(plan->primary);
        }
        plan_slow(plan->primary, 0, 0);
        plan_apart(plan->primary, plan_while_ns(), plan_chance(70));
        plan->kind = SIM_PLAN_NONE;
    }
}

void sim_plan_stop(void)
{
    sim->plan.kind = SIM_PLAN_NONE;
    memset(sim->net.cut_until_ns, 0, sizeof(sim->net.cut_until_ns));
    memset(sim->meta.away_ns, 0, sizeof(sim->meta.away_ns));
}
