// Torc simulator: longer rows of troubles, which only --plan begins. See sim.h.
//
// What    rows (sim_plan.c) that take seconds, or a seed that is made for them: a write whose copy
//         comes when its client is forgotten. Drawn among the others they would leave no time for
//         those; what they find is one rule each, so tests/sim/bugs.sh alone asks for them.
// Owner   the run.
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"

#define OLD_TTL_S     5u // over twice what a client may be ahead
#define OLD_BEHIND_MS 900u
#define OLD_LATE_NS   (3200 * SIM_MS)
#define OLD_AHEAD_US  UINT64_C(1970000)

// What moves no shard.
#define CALM                                                                    \
    (1u << SIM_CLASS_LOSS | 1u << SIM_CLASS_DOUBLE | 1u << SIM_CLASS_DAMAGE |   \
     1u << SIM_CLASS_DELAY | 1u << SIM_CLASS_MTU | 1u << SIM_CLASS_CHECKPOINT | \
     1u << SIM_CLASS_PLAN | 1u << SIM_CLASS_CLIENT)

void sim_rows_configure(struct sim_config *config)
{
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

void sim_rows_begin(struct sim_plan *plan)
{
    begin_old(plan);
}

void sim_rows_step(struct sim_plan *plan)
{
    step_old(plan);
}
