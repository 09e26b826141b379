// Torc simulator: troubles that come in a row. See sim.h.
//
// What    faults that come one by one seldom meet what takes several within one promise (20 ms):
//         three takeovers, a transfer that is taken back, a path that is late before it is silent,
//         a member that has just joined and loses the others, a read ahead of clocks whose primary
//         dies within a beat. A plan is a short row of faults at one shard: it begins as a fault of
//         class PLAN, and goes on when the metastore has swapped the shard's record, when a client
//         was answered what the plan asked it to do, or when its next step is due. To aim, a plan
//         looks at replicas; it breaks nothing that single faults could not.
//         (tests/model/replica_aims.c does the same to the machines alone.)
// Owner   the run. One plan at a time, with dice of its own.
#include "control/records.h"
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_records.h"

#include <string.h>

static const char *const plan_words[] = {
#define X(name, text) text,
    SIM_PLAN_TABLE(X)
#undef X
};

uint64_t sim_plan_draw(uint64_t bound)
{
    return torc_rng_below(&sim->plan.rng, bound);
}

static bool plan_chance(uint32_t percent)
{
    return sim_plan_draw(100) < percent;
}

void sim_plan_step_in(uint64_t delay_ns)
{
    sim_post(sim->now_ns + delay_ns, SIM_EVENT_MEND, SIM_MEND_PLAN, sim->plan.serial, NULL);
}

struct sim_node *sim_plan_node(uint32_t number)
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
    return (30 * SIM_MS + sim_plan_draw(30 * SIM_MS)) << sim_plan_draw(4);
}

// Nodes do not hear it, nor it them; clients do.
void sim_plan_apart(uint32_t number, uint64_t for_ns, bool store)
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

// Nothing comes from one place to another.
static void plan_mute(uint32_t from, uint32_t to, uint64_t for_ns)
{
    sim->net.cut_until_ns[from][to] = sim->now_ns + for_ns;
}

void sim_plan_heal(uint32_t number)
{
    for (uint32_t i = 0; i < SIM_PLACES; i++) {
        sim->net.cut_until_ns[number - 1][i] = 0;
        sim->net.cut_until_ns[i][number - 1] = 0;
    }
    sim->meta.away_ns[number - 1] = 0;
}

// The first that may take over, or the next one.
static uint32_t plan_heir(const struct torc_shard_fields *record, uint32_t place)
{
    for (uint32_t i = 0; i < record->insync.count; i++) {
        uint32_t node = (uint32_t)record->insync.at[i].node;

        if (node != record->primary_node && place-- == 0) {
            return node;
        }
    }
    return 0;
}

static uint32_t plan_backup(const struct torc_shard_fields *record)
{
    uint32_t first = (uint32_t)sim_plan_draw(record->insync.count);

    for (uint32_t i = 0; i < record->insync.count; i++) {
        uint32_t node = (uint32_t)record->insync.at[(first + i) % record->insync.count].node;

        if (node != record->primary_node && sim_plan_node(node)->up) {
            return node;
        }
    }
    return 0;
}

// Its log fails at the next write: it says so, and another takes over at once.
static void plan_sicken(uint32_t number)
{
    sim_plan_node(number)->faults.fail_write = 1;
    sim_story("PLAN    node %u: its log will fail", (unsigned)number);
}

static void plan_stall(uint32_t number)
{
    struct sim_node *node = sim_plan_node(number);

    if (node->up) {
        sim_faults_stall(node, 0, 14 * SIM_MS + sim_plan_draw((plan_chance(60) ? 8 : 60) * SIM_MS));
    }
}

static void plan_kill(uint32_t number, bool control)
{
    struct sim_node *node = sim_plan_node(number);

    if (node->up && sim_faults_may_forget(node)) {
        sim_faults_kill(node, true, control);
    }
}

// -- A plan begins --------------------------------------------------------------------------------

// Who read ahead, and whom it asked.
static void plan_lose_reader(const struct sim_plan *plan)
{
    struct sim_node *node = sim_plan_node(plan->primary);

    sim_story("PLAN    client %u is gone", (unsigned)plan->ask.client);
    sim_client_restart(plan->ask.client);
    if (sim_faults_may_forget(node)) {
        sim_faults_power_off(node, 200 * SIM_MS + sim_plan_draw(300 * SIM_MS));
    }
}

static void begin_late(struct sim_plan *plan)
{
    uint64_t dice = sim_plan_draw(4);
    uint64_t late_ns = 6 * SIM_MS + sim_plan_draw(40 * SIM_MS);

    plan_slow(plan->primary, dice == 0 || dice == 2 ? late_ns : 0,
              dice == 1 || dice == 2 ? late_ns : 0);
    if (plan_chance(30)) {
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + plan_while_ns();
    }
    if (plan_chance(60)) {
        plan_stall(plan->primary);
    }
    sim_plan_step_in(5 * SIM_MS + sim_plan_draw(60 * SIM_MS));
}

bool sim_plan_wish(uint32_t shard, uint32_t number)
{
    const struct sim_want *want = &sim->wants[shard - 1];

    for (uint32_t i = 0; i < want->count; i++) {
        if (want->nodes[i] == number) {
            (void)sim_wish_lead(shard, i);
            return true;
        }
    }
    return false;
}

static void begin_transfer(struct sim_plan *plan)
{
    if (sim_plan_wish(plan->shard, plan->node)) {
        sim->meta.away_ns[plan->node - 1] = sim->now_ns + 700 * SIM_MS;
        plan->until_ns = sim->now_ns + 700 * SIM_MS;
    }
}

static void plan_ask(struct sim_plan *plan)
{
    plan->ask.shard = plan->shard;
    sim_wake(&sim->clients[plan->ask.client].actor, sim->now_ns, SIM_EVENT_CLIENT, plan->ask.client,
             0);
}

// A moment up to a second from now: what clients may ask for, and no clock shows yet.
static void plan_read_ahead(struct sim_plan *plan)
{
    uint64_t real_us = (uint64_t)SIM_WALL_ZERO_US + sim->now_ns / 1000;

    plan->ahead = true;
    plan->ask = (struct sim_ask){.client = (uint32_t)sim_plan_draw(sim->config.clients),
                                 .ts = torc_hlc_from_us(real_us + 500000 + sim_plan_draw(500000)),
                                 .kind = SIM_OP_RANGE};
    plan_ask(plan);
}

// Only who was asked, and whoever it told, has heard of that moment; they go.
static void begin_ahead(struct sim_plan *plan)
{
    if (plan_chance(50)) {
        plan_mute(plan->primary - 1, plan->node - 1, 500 * SIM_MS);
        sim_story("PLAN    node %u does not hear node %u", (unsigned)plan->node,
                  (unsigned)plan->primary);
    }
    plan_read_ahead(plan);
}

// A hot key of the shard, that one or the next.
uint32_t sim_plan_key(const struct sim_plan *plan, uint32_t key)
{
    key %= sim->config.keys;
    while (sim_shard_of(sim->keys[key]) != plan->shard) {
        key = (key + 1) % sim->config.keys;
    }
    return key;
}

// A write whose condition does not hold, or did not: by what the primary has now.
static void answer_ask(struct sim_plan *plan, uint32_t key, bool holds)
{
    const struct torc_worker_shard *shard =
        sim_ghost_replica(sim_plan_node(plan->primary), plan->shard);
    struct torc_tree_hit hit = {0};
    bool there =
        shard != NULL && torc_tree_lookup(&shard->engine.tree, sim->keys[key], &hit) && hit.found;

    plan->ask.key = key;
    plan->ask.kind = holds && there ? SIM_OP_DELETE : SIM_OP_PUT;
    plan->ask.condition = (uint8_t)(holds   ? TORC_SHARD_ANY
                                    : there ? TORC_SHARD_IF_ABSENT
                                            : TORC_SHARD_IF_PRESENT);
    plan_ask(plan);
}

// What the primary has answered comes when another one leads, and before what that one answers. In
// between, another client makes the condition hold.
static void begin_answer(struct sim_plan *plan)
{
    uint64_t late_ns = 6 * SIM_MS + sim_plan_draw(30 * SIM_MS);
    uint32_t place;

    plan->ask.client = (uint32_t)sim_plan_draw(sim->config.clients);
    place = SIM_NODES_MAX + plan->ask.client;
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        sim->net.slow_ns[i][place] = late_ns;
    }
    sim->net.slow_ns[plan->primary - 1][place] = 14 * SIM_MS + late_ns + sim_plan_draw(late_ns);
    sim_post(sim->now_ns + 200 * SIM_MS, SIM_EVENT_MEND, SIM_MEND_NET, 0, NULL);
    answer_ask(plan, sim_plan_key(plan, (uint32_t)sim_plan_draw(sim->config.keys)), false);
    sim_plan_step_in(SIM_MS / 2);
}

static void step_answer(struct sim_plan *plan)
{
    if (plan->stage == 0 && sim->config.clients > 1) {
        plan->ask.client = (plan->ask.client + 1) % sim->config.clients;
        answer_ask(plan, plan->ask.key, true);
        sim_plan_step_in(SIM_MS + sim_plan_draw(3 * SIM_MS));
    } else {
        plan_kill(plan->primary, false);
        plan->kind = SIM_PLAN_NONE;
    }
    plan->stage++;
}

// One member alone has what the primary wrote last.
static void begin_acks(struct sim_plan *plan)
{
    if (plan->other == 0) {
        plan->kind = SIM_PLAN_NONE;
        return;
    }
    plan_mute(plan->primary - 1, plan->node - 1, 60 * SIM_MS);
    plan_mute(plan->node - 1, plan->primary - 1, 60 * SIM_MS);
    plan->until_ns = sim->now_ns + 900 * SIM_MS;
    plan->writes = 8 + (uint32_t)sim_plan_draw(10);
    sim_plan_step_in(SIM_MS);
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
        sim_plan_apart(plan->node, 300 * SIM_MS + plan_while_ns(), false);
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + 400 * SIM_MS;
        plan->kind = SIM_PLAN_NONE;
        return;
    case SIM_PLAN_DEAF:
        sim->net.cut_until_ns[plan->primary - 1][plan->node - 1] = sim->now_ns + plan_while_ns();
        plan->kind = SIM_PLAN_NONE;
        return;
    case SIM_PLAN_JOIN: // it is removed, and comes back
        if (!sim_faults_may_forget(sim_plan_node(plan->node))) {
            plan->kind = SIM_PLAN_NONE;
            return;
        }
        sim_faults_power_off(sim_plan_node(plan->node), 60 * SIM_MS + sim_plan_draw(100 * SIM_MS));
        plan->until_ns = sim->now_ns + SIM_S;
        if (plan_chance(50)) { // and the primary is read ahead just before
            plan->stage = 1;
            sim_plan_step_in(60 * SIM_MS);
        }
        return;
    case SIM_PLAN_AHEAD: begin_ahead(plan); return;
    case SIM_PLAN_ANSWER: begin_answer(plan); return;
    case SIM_PLAN_ACKS: begin_acks(plan); return;
    case SIM_PLAN_OLD:
    case SIM_PLAN_NAMES:
    case SIM_PLAN_CLAIM:
    case SIM_PLAN_WAIT: sim_rows_begin(plan); return;
    }
    torc_unreachable("no such plan");
}

// The replica of its primary, if that serves.
const struct torc_worker_shard *sim_plan_leads(uint32_t shard)
{
    struct torc_shard_fields record;
    const struct torc_worker_shard *replica;

    plan_record(shard, &record);
    replica = sim_ghost_replica(sim_plan_node((uint32_t)record.primary_node), shard);
    return replica != NULL && replica->replica->machine.role == TORC_REPLICA_ACTIVE ? replica
                                                                                    : NULL;
}

// Not on the core that sends beats, if there are more. By the HLC of a beat other nodes know what
// was read there, whatever becomes of the ceiling (H2, H6).
static bool plan_is_apart(const struct torc_worker_shard *leads)
{
    const struct sim_node *node = sim_plan_node(leads->replica->machine.node);

    return node->worker_count == 1 || leads->engine.pool != &node->workers[0].worker->pool;
}

static bool plan_fits(enum sim_plan_kind kind, const struct torc_worker_shard *leads)
{
    return kind == SIM_PLAN_AHEAD ? plan_is_apart(leads)
                                  : kind < SIM_PLAN_DRAWN || sim_rows_fits(kind, leads);
}

// One that has a hot key. Of acknowledgements the more are to be had the more was written.
static uint32_t plan_shard(enum sim_plan_kind kind)
{
    uint32_t shard = 0;
    uint64_t most_lsn = 0;

    for (uint32_t i = 0; i < 8 && (shard == 0 || kind == SIM_PLAN_ACKS); i++) {
        uint32_t drawn = sim_shard_of(sim->keys[sim_plan_draw(sim->config.keys)]);
        const struct torc_worker_shard *leads = sim_plan_leads(drawn);

        if (leads != NULL && leads->replica->machine.last_lsn > most_lsn &&
            plan_fits(kind, leads)) {
            shard = drawn;
            most_lsn = leads->replica->machine.last_lsn;
        }
    }
    return shard;
}

// Swarm: a seed may have much of one.
static enum sim_plan_kind plan_kind(void)
{
    enum sim_plan_kind any = (enum sim_plan_kind)(1 + sim_plan_draw(SIM_PLAN_DRAWN - 1));
    bool favourite = sim->config.plan != SIM_PLAN_NONE && sim_plan_draw(3) > 0;

    return sim->wish.plan != SIM_PLAN_NONE ? (enum sim_plan_kind)sim->wish.plan
           : favourite                     ? (enum sim_plan_kind)sim->config.plan
                                           : any;
}

bool sim_plan_begin(void)
{
    struct sim_plan *plan = &sim->plan;
    struct torc_shard_fields record;
    enum sim_plan_kind kind;

    if (plan->kind != SIM_PLAN_NONE && sim->now_ns < plan->until_ns) {
        return false;
    }
    plan->rng = (struct torc_rng){torc_rng_next(&sim->chaos)};
    plan->serial++;
    plan->kind = SIM_PLAN_NONE;
    kind = plan_kind();
    plan->shard = plan_shard(kind);
    if (plan->shard == 0) {
        return false;
    }
    plan_record(plan->shard, &record);
    plan->stage = 0;
    plan->primary = (uint32_t)record.primary_node;
    plan->members = (uint32_t)record.insync.count;
    plan->node = record.insync.count > 1 ? plan_backup(&record) : 0;
    plan->until_ns = sim->now_ns + 150 * SIM_MS;
    if (plan->node == 0 || !sim_plan_node(plan->primary)->up ||
        !sim_plan_node(plan->primary)->powered) {
        return false;
    }
    plan->kind = kind;
    plan->ahead = false;
    plan->ask = (struct sim_ask){0};
    if (plan->kind == SIM_PLAN_AHEAD || plan->kind == SIM_PLAN_ACKS) {
        plan->node = plan_heir(&record, 0);
        plan->other = plan_heir(&record, 1);
    }
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
    sim_plan_apart(plan->primary, plan_while_ns(), true);
    sim_plan_step_in(SIM_MS / 2 + sim_plan_draw(4 * SIM_MS));
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
        sim_plan_step_in(6 * SIM_MS + sim_plan_draw(12 * SIM_MS));
    } else if (plan->stage == 2 && record->primary_node != plan->primary) {
        sim_plan_apart(plan->primary, plan_while_ns(), true);
        plan->kind = SIM_PLAN_NONE;
    }
}

// The primary leads again, as the same process; the one that had its last records does not hear it.
static void swapped_acks(struct sim_plan *plan, const struct torc_shard_fields *record)
{
    if (plan->stage == 1 && record->primary_node == plan->node) {
        plan->stage = 2;
        sim_plan_heal(plan->primary);
        for (uint32_t i = 0; i < sim->config.clients; i++) { // nobody writes meanwhile
            plan_mute(SIM_NODES_MAX + i, plan->node - 1, 500 * SIM_MS);
        }
        (void)sim_plan_wish(plan->shard, plan->primary);
    } else if (plan->stage == 2 && record->primary_node == plan->primary) {
        plan->stage = 3;
        sim_plan_apart(plan->other, 300 * SIM_MS, true);
        plan->writes = 2 + (uint32_t)sim_plan_draw(6);
        sim_plan_step_in(2 * SIM_MS + sim_plan_draw(8 * SIM_MS));
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
    if (plan->ahead) {
        plan_lose_reader(plan);
    } else if (plan_chance(40)) {
        sim_plan_apart(joined, for_ns, false);
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + for_ns;
    } else if (plan_chance(50)) {
        sim_plan_apart(plan->primary, for_ns, true);
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
    } else if (plan->kind == SIM_PLAN_ACKS) {
        swapped_acks(plan, &record);
    }
}

// -- What clients are asked to do -----------------------------------------------------------------

bool sim_plan_asks(uint32_t client, struct sim_ask *ask)
{
    struct sim_plan *plan = &sim->plan;

    *ask = plan->ask;
    if (plan->kind == SIM_PLAN_NONE || plan->ask.kind == 0 || plan->ask.client != client) {
        return false;
    }
    plan->ask.kind = 0;
    return sim->now_ns < plan->until_ns && !sim->quiet;
}

void sim_plan_answered(uint32_t client)
{
    if (sim->plan.kind == SIM_PLAN_AHEAD && sim->plan.ask.client == client) {
        sim_plan_step_in(0);
    }
}

// -- A step is due --------------------------------------------------------------------------------

// A learner has all, and its primary does not know it yet.
static bool join_is_near(const struct sim_plan *plan)
{
    const struct torc_worker_shard *leads =
        sim_ghost_replica(sim_plan_node(plan->primary), plan->shard);
    const struct torc_worker_shard *learns =
        sim_ghost_replica(sim_plan_node(plan->node), plan->shard);
    const struct torc_replica *at = learns != NULL ? &learns->replica->machine : NULL;

    return at != NULL && leads != NULL && at->role == TORC_REPLICA_LEARNER && at->has_base &&
           at->epoch == leads->replica->machine.epoch && at->synced &&
           at->durable_lsn >= leads->replica->machine.commit_lsn;
}

static void step_join(struct sim_plan *plan)
{
    sim->net.slow_ns[plan->node - 1][plan->primary - 1] = 4 * SIM_MS;
    if (!join_is_near(plan)) {
        if (sim->now_ns < plan->until_ns) {
            sim_plan_step_in(200 * SIM_US);
        }
        return;
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        plan_mute(plan->primary - 1, i, 100 * SIM_MS);
    }
    sim_post(sim->now_ns + 100 * SIM_MS, SIM_EVENT_MEND, SIM_MEND_NET, 0, NULL);
    sim_story("PLAN    node %u is about to join", (unsigned)plan->node);
    plan_read_ahead(plan);
}

static void step_acks(struct sim_plan *plan)
{
    if (plan->stage == 3) { // it knows that it leads, and cannot remove who does not hear it
        sim->meta.away_ns[plan->primary - 1] = sim->now_ns + 300 * SIM_MS;
    }
    if (plan->writes > 0) {
        plan->writes--;
        plan->ask.client = (plan->ask.client + 1) % sim->config.clients;
        plan->ask.key = sim_plan_key(plan, plan->ask.key + 1);
        plan->ask.kind = SIM_OP_PUT;
        plan->ask.condition = TORC_SHARD_ANY;
        plan_ask(plan);
        sim_plan_step_in(plan->stage == 3 && plan->writes == 0 // clients look for it first
                             ? 40 * SIM_MS
                             : SIM_MS / 2 + sim_plan_draw(SIM_MS));
        return;
    }
    if (plan->stage == 0) {
        plan->stage = 1;
        sim_plan_apart(plan->primary, 300 * SIM_MS, true);
        return;
    }
    plan->kind = SIM_PLAN_NONE;
    if (plan->stage == 3 && sim->config.durability == TORC_DURABILITY_DURABLE) {
        sim_faults_power_off(sim_plan_node(plan->primary), 600 * SIM_MS);
        sim_faults_power_off(sim_plan_node(plan->node), 600 * SIM_MS);
        sim_plan_heal(plan->other);
    }
}

void sim_plan_step(uint32_t serial)
{
    struct sim_plan *plan = &sim->plan;

    if (serial != plan->serial || sim->quiet) {
        return;
    }
    if (plan->kind == SIM_PLAN_CHAIN && plan->stage == 1) {
        plan_kill(plan->node, false);
        plan->kind = SIM_PLAN_NONE;
    } else if (plan->kind == SIM_PLAN_AHEAD) {
        plan_lose_reader(plan);
        plan->kind = SIM_PLAN_NONE;
    } else if (plan->kind == SIM_PLAN_ANSWER) {
        step_answer(plan);
    } else if (plan->kind == SIM_PLAN_JOIN && plan->stage == 1) {
        step_join(plan);
    } else if (plan->kind == SIM_PLAN_ACKS) {
        step_acks(plan);
    } else if (plan->kind == SIM_PLAN_TRANSFER && plan->stage == 1) {
        plan->stage = 2;
        plan->until_ns = sim->now_ns + 150 * SIM_MS;
        sim->meta.away_ns[plan->node - 1] = 0;
        plan_sicken(plan->primary);
    } else if (plan->kind >= SIM_PLAN_DRAWN) {
        sim_rows_step(plan);
    } else if (plan->kind == SIM_PLAN_LATE) { // what is under way arrives
        if (plan_chance(50)) {
            plan_stall(plan->primary);
        }
        plan_slow(plan->primary, 0, 0);
        sim_plan_apart(plan->primary, plan_while_ns(), plan_chance(70));
        plan->kind = SIM_PLAN_NONE;
    }
}

void sim_plan_stop(void)
{
    sim->plan.kind = SIM_PLAN_NONE;
    memset(sim->net.cut_until_ns, 0, sizeof(sim->net.cut_until_ns));
    memset(sim->meta.away_ns, 0, sizeof(sim->meta.away_ns));
}
