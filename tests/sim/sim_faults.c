// Torc simulator: what this seed's faults are, and when. See sim.h.
//
// What    swarm testing (Groce et al., ISSTA 2012): each seed draws a size of cluster, a load, and
//         a subset of the classes of faults with a strength each; faults that are never together
//         with others, or always, hide bugs. Fault number n follows from the seed and n alone, so
//         that the minimizer can leave some out without changing the others.
#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <string.h>

#define STRIKE_TURN     20u    // weight of a role's or record's change
#define CONFIRM_RHO_PPM 20000u // where clocks are not believed: twenty times what is promised
#define WALL_FAR_US     INT64_C(1000000) // what clocks that are believed differ by, at most
#define STOP_APART_NS   (1300 * SIM_MS)
#define STRIKE_PPM      60000u // of moments, where there is a fault every millisecond

static uint64_t draw(uint64_t bound)
{
    return torc_rng_below(&sim->chaos, bound);
}

static bool draw_chance(uint32_t percent)
{
    return draw(100) < percent;
}

bool sim_has(enum sim_class class)
{
    return (sim->config.classes & 1u << class) != 0;
}

// -- The seed's configuration ---------------------------------------------------------------------

static uint32_t draw_replicas(void)
{
    uint64_t dice = draw(100);
    uint32_t drawn = dice < 35 ? 1 : dice < 50 ? 2 : dice < 93 ? 3 : 5;

    return sim->wish.replicas > 0 ? sim->wish.replicas : drawn;
}

static void draw_cluster(struct sim_config *config)
{
    config->nodes = draw_chance(30) ? 1 : 2 + (uint32_t)draw(SIM_NODES_MAX - 1);
    config->replicas = draw_replicas();
    config->nodes = (uint32_t)torc_max_u64(config->nodes, config->replicas);
    config->workers = 1 + (uint32_t)draw(2);
    config->mixed_workers = draw_chance(30);
    config->shards = config->nodes + (uint32_t)draw(SIM_SHARDS_MAX / 2);
    config->clients = 1 + (uint32_t)draw(SIM_CLIENTS_MAX - 1);
    config->keys =
        draw_chance(50) ? 4 + (uint32_t)draw(20) : 20 + (uint32_t)draw(SIM_KEYS_MAX - 20);
    config->key_count = draw_chance(50) ? 1000 : UINT64_C(1) << (20 + draw(40));
    config->durability = draw_chance(85) ? TORC_DURABILITY_DURABLE : TORC_DURABILITY_NONE;
    if (config->replicas > 1) {
        config->durability = config->durability == TORC_DURABILITY_DURABLE && !sim->wish.replicated
                                 ? TORC_DURABILITY_DURABLE
                                 : TORC_DURABILITY_REPLICATED;
    }
    config->sealed = draw_chance(60);
    config->steered = draw_chance(50);
    config->mtu = 1500;
    config->segment_bytes = (1u << 20) << draw(3);
    config->spares = (uint32_t)draw(4);
    config->inflight = 1 + (uint32_t)draw(16);
    config->rho_ppm = draw_chance(50) ? 1000 : 50;
    config->skew_ms = draw_chance(60) ? 20 : 1u << draw(10);
}

// A seed in ten whose nodes do not believe clocks: none of them keeps its promise, then. By dice of
// their own, so that all else is as it was.
static void draw_confirm(struct sim_config *config)
{
    struct torc_rng rng = {.state = sim->wish.seed ^ UINT64_C(0x636f6e6669726d)};

    config->confirm = config->replicas > 1 && (torc_rng_below(&rng, 10) == 0 || sim->wish.confirm);
    config->rho_ppm = config->confirm ? CONFIRM_RHO_PPM : config->rho_ppm;
}

// The kind of rows that a seed has most, and in a seed of eight few slots for writes: they run out,
// most of all in replay. By dice of their own, as above.
static void draw_habits(struct sim_config *config)
{
    struct torc_rng rng = {.state = sim->wish.seed ^ UINT64_C(0x686162697473)};
    uint32_t plan = 1 + (uint32_t)torc_rng_below(&rng, SIM_PLAN_DRAWN - 1);

    config->plan = torc_rng_below(&rng, 2) == 0 ? SIM_PLAN_NONE : plan;
    config->gathers = torc_rng_below(&rng, 8) == 0 ? 2 + (uint32_t)torc_rng_below(&rng, 8) : 128;
    config->classes |= torc_rng_below(&rng, 4) == 0 ? 1u << SIM_CLASS_STOP : 0;
}

static void draw_load(struct sim_config *config)
{
    config->run_ns = 4600 * SIM_MS + draw(1500) * SIM_MS;
    config->in_flight = 1 + (uint32_t)draw(draw_chance(50) ? 4 : 24);
    config->corner = draw_chance(40) ? 1 + (uint32_t)draw(config->keys / 2) : 0;
    config->think_us = 500u << draw(5);
    config->think_us = config->think_us * config->clients / 2 + 100;
    config->timeout_ms = draw_chance(30) ? 20 + (uint32_t)draw(80) : 100 + (uint32_t)draw(900);
    config->value_max = draw_chance(60) ? 60 : 1300;
    config->big_ppm = draw_chance(30) ? 20000 : 0;
    config->ops = SIM_OPS_MAX - 512;
    config->checkpoint_bytes = (1u << 18) << draw(5);
    config->dedup_ttl_s = 120;
}

void sim_faults_draw(void)
{
    struct sim_config *config = &sim->config;

    memset(config, 0, sizeof(*config));
    draw_cluster(config);
    draw_confirm(config);
    draw_habits(config);
    draw_load(config);
    for (uint32_t i = 0; i < SIM_CLASS_DRAWN; i++) {
        config->classes |= draw_chance(45) ? 1u << i : 0;
    }
    config->classes |= draw_chance(70) ? 1u << SIM_CLASS_CRASH : 1u << SIM_CLASS_PAUSE;
    config->classes |= config->confirm ? 1u << SIM_CLASS_PAUSE : 0;
    config->classes |= sim->wish.classes_on;
    config->fault_every_ms = 20u << draw(5);
    config->loss_ppm = 1000u << draw(7);
    config->double_ppm = 1000u << draw(7);
    config->damage_ppm = 1000u << draw(5);
    config->delay_us = 10u << draw(8);
    config->late_ppm = 100u << draw(8);
    config->late_max_ms = 1u << draw(11);
    config->unknown_ppm = 300000;
    config->jitter_ms = 12u << draw(5);
    if (config->durability == TORC_DURABILITY_NONE) { // what is in memory alone may be lost
        config->classes &=
            ~(1u << SIM_CLASS_CRASH | 1u << SIM_CLASS_POWER | 1u << SIM_CLASS_DISK_FAIL |
              1u << SIM_CLASS_STRIKE | 1u << SIM_CLASS_STOP);
        config->classes |= 1u << SIM_CLASS_PAUSE;
    }
    if (config->replicas == 1) {
        config->classes &= ~(1u << SIM_CLASS_DISK_LOST | 1u << SIM_CLASS_WISH |
                             1u << SIM_CLASS_PLAN | 1u << SIM_CLASS_ACCEPT | 1u << SIM_CLASS_PLACE);
    }
    sim_place_configure(config);
    sim_rows_configure(config);
    config->classes &= ~sim->wish.classes_off;
    config->loss_ppm *= sim_has(SIM_CLASS_LOSS) ? 1 : 0;
    config->double_ppm *= sim_has(SIM_CLASS_DOUBLE) ? 1 : 0;
    config->damage_ppm *= sim_has(SIM_CLASS_DAMAGE) ? 1 : 0;
    config->delay_us *= sim_has(SIM_CLASS_DELAY) ? 1 : 0;
    config->late_ppm *= sim_has(SIM_CLASS_DELAY) ? 1 : 0;
    config->unknown_ppm *= sim_has(SIM_CLASS_META) ? 1 : 0;
    config->jitter_ms *= sim_has(SIM_CLASS_JITTER) ? 1 : 0;
    config->keys = sim->wish.keys_max > 0 ? (uint32_t)torc_min_u64(sim->wish.keys_max, config->keys)
                                          : config->keys;
    config->ops = sim->wish.ops_max > 0 ? (uint32_t)torc_min_u64(sim->wish.ops_max, config->ops)
                                        : config->ops;
}

// -- Faults ---------------------------------------------------------------------------------------

static void fault_note(enum sim_cover what)
{
    sim_cover(what);
    sim->fault_count++;
}

static void fault_until(uint64_t least_ms, uint64_t most_ms, enum sim_mend what, uint32_t which)
{
    sim_post(sim->now_ns + least_ms * SIM_MS + draw((most_ms - least_ms) * SIM_MS + 1),
             SIM_EVENT_MEND, what, which, NULL);
}

static struct sim_node *fault_node(void)
{
    return &sim->nodes[draw(sim->config.nodes)];
}

static uint32_t fault_place(void)
{
    uint64_t place = draw(sim->config.nodes + sim->config.clients);

    return (uint32_t)(place < sim->config.nodes ? place
                                                : SIM_NODES_MAX + place - sim->config.nodes);
}

static void fault_cuts(void)
{
    uint64_t dice = draw(4);
    uint64_t side = draw(UINT64_C(1) << SIM_PLACES);
    uint32_t from = fault_place();
    uint32_t to = fault_place();

    if (dice == 0) {
        for (uint32_t a = 0; a < SIM_PLACES; a++) {
            for (uint32_t b = 0; b < SIM_PLACES; b++) {
                sim->net.cut[a][b] = (side >> a & 1) != (side >> b & 1);
            }
        }
        fault_note(SIM_COVER_FAULT_PARTITION);
        sim_story("FAULT   partition %x", (unsigned)side);
    } else if (dice == 1) {
        sim->net.cut[from][to] = true;
        fault_note(SIM_COVER_FAULT_ONE_WAY);
        sim_story("FAULT   nothing comes from place %u to %u", (unsigned)from, (unsigned)to);
    } else if (dice == 2) {
        bool all = draw_chance(40);

        sim->net.slow_ns[from][to] = draw(60 * SIM_MS);
        for (uint32_t i = 0; i < SIM_NODES_MAX && all; i++) {
            sim->net.slow_ns[i][to] = sim->net.slow_ns[from][to];
        }
        fault_note(SIM_COVER_FAULT_SLOW_PATH);
        sim_story("FAULT   what comes from place %u%s to %u takes %u us more", (unsigned)from,
                  all ? " and all nodes" : "", (unsigned)to,
                  (unsigned)(sim->net.slow_ns[from][to] / SIM_US));
    } else {
        sim->net.storm_ppm = 100000u << draw(4);
        fault_note(SIM_COVER_FAULT_STORM);
        sim_story("FAULT   %u ppm of packets are lost", (unsigned)sim->net.storm_ppm);
    }
    fault_until(5, 400, SIM_MEND_NET, 0);
}

static void fault_mtu(void)
{
    sim->net.mtu = (uint16_t)(1280 + draw(220));
    fault_note(SIM_COVER_FAULT_MTU);
    sim_story("FAULT   paths take %u bytes", (unsigned)sim->net.mtu);
    fault_until(50, 1000, SIM_MEND_MTU, 0);
}

static uint64_t fault_start_ns(void)
{
    return sim->now_ns + SIM_MS + (draw_chance(70) ? draw(20 * SIM_MS) : draw(400 * SIM_MS));
}

static void fault_parent(struct sim_node *node)
{
    if (node->start_dataplane_ns != UINT64_MAX) {
        sim_post(node->start_dataplane_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
    }
    if (node->start_control_ns != UINT64_MAX) {
        sim_post(node->start_control_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
    }
}

void sim_faults_kill(struct sim_node *node, bool dataplane, bool control)
{
    if (dataplane && node->up) {
        node->start_dataplane_ns = fault_start_ns();
        sim_node_kill(node, false);
    }
    if (control && node->control.state != SIM_CONTROL_DEAD) {
        node->start_control_ns = fault_start_ns();
        sim_control_kill(node);
    }
    fault_parent(node);
}

static void fault_clean(struct sim_node *node, enum sim_cover what)
{
    fault_note(what);
    sim_story("FAULT   node %u is told to stop", (unsigned)node->number);
    node->control.wants_stop = true;
    node->control.wants_round = draw_chance(50);
    sim_control_wake(node, sim->now_ns);
}

// One in ten is told so twice. Mostly when all have served for a while: an operator goes from node
// to node.
static void fault_stop(void)
{
    struct sim_node *node = fault_node();
    bool may = node->powered && node->control.state == SIM_CONTROL_SERVING &&
               !node->control.wants_stop && (draw_chance(15) || sim_calm_all_served(STOP_APART_NS));

    if (may) {
        fault_clean(node, SIM_COVER_FAULT_STOP);
        node->control.hurry = draw_chance(10);
    }
}

// With `replicated` a node that dies forgets. Seldom all may: then shards are closed, and stay so.
bool sim_faults_may_forget(const struct sim_node *node)
{
    return sim->config.durability != TORC_DURABILITY_REPLICATED ||
           sim_wish_may_lose(node->number) || draw_chance(1);
}

static void fault_crash(void)
{
    struct sim_node *node = fault_node();
    uint64_t dice = draw(100);

    if (!node->powered || (dice < 90 && !sim_faults_may_forget(node))) {
        return;
    }
    if (dice < 25) {
        fault_note(SIM_COVER_FAULT_DATAPLANE);
        sim_faults_kill(node, true, false);
    } else if (dice < 40) {
        fault_note(SIM_COVER_FAULT_CONTROL);
        sim_faults_kill(node, false, true);
    } else if (dice < 75) {
        fault_note(SIM_COVER_FAULT_CONTROL_IO);
        node->faults.die_at = 1 + (uint32_t)draw(40);
        sim_story("FAULT   node %u: control dies at its %u-th disk operation",
                  (unsigned)node->number, (unsigned)node->faults.die_at);
        node->control.wants_round = node->control.wants_round || draw_chance(50);
    } else if (dice < 90) {
        fault_note(SIM_COVER_FAULT_BOTH);
        sim_faults_kill(node, true, true);
    } else if (node->control.state == SIM_CONTROL_SERVING) {
        fault_clean(node, SIM_COVER_FAULT_CLEAN);
    }
}

void sim_faults_power_off(struct sim_node *node, uint64_t for_ns)
{
    if (!node->powered) {
        return;
    }
    sim_story("FAULT   node %u loses power", (unsigned)node->number);
    node->powered = false;
    sim_control_kill(node);
    sim_node_kill(node, true);
    sim_store_power_loss(node);
    node->poisoned = false;
    node->faults.fail_write = 0;
    node->faults.fail_other = 0;
    sim_post(sim->now_ns + for_ns, SIM_EVENT_MEND, SIM_MEND_POWER, node->index, NULL);
}

static void power_off(struct sim_node *node)
{
    sim_faults_power_off(node, 5 * SIM_MS + draw(295 * SIM_MS + 1));
}

void sim_faults_lose_disk(struct sim_node *node)
{
    sim_story("FAULT   node %u loses its disk", (unsigned)node->number);
    sim_store_lose(node);
    node->copy = 0;
    node->disk_lost = true;
    node->sealed = false;
    node->lines_of = 0;
    sim_ghost_forget(node);
}

// It comes back with an empty disk, and a copy of its own.
static void fault_disk_lost(void)
{
    struct sim_node *node = fault_node();

    if (!node->powered || !sim_wish_may_lose(node->number)) {
        return;
    }
    fault_note(SIM_COVER_FAULT_DISK_LOST);
    power_off(node);
    sim_faults_lose_disk(node);
}

static void fault_wish(void)
{
    uint32_t shard = 1 + (uint32_t)draw(sim->config.shards);
    uint32_t place = (uint32_t)draw(SIM_NODES_MAX);
    uint64_t dice = draw(100);
    uint32_t more = dice < 45 ? sim_wish_more(shard, (uint32_t)draw(sim->config.nodes)) : 0;
    uint32_t fewer = dice >= 15 && dice < 60 ? sim_wish_fewer(shard, place) : 0;

    if (more == 0 && fewer == 0) {
        uint32_t node = sim_wish_lead(shard, place);

        fault_note(SIM_COVER_FAULT_LEAD);
        sim_story("FAULT   shard %u: node %u is wished as primary", (unsigned)shard,
                  (unsigned)node);
        return;
    }
    sim_cover_add(SIM_COVER_FAULT_MORE, more != 0 ? 1 : 0);
    sim_cover_add(SIM_COVER_FAULT_FEWER, fewer != 0 ? 1 : 0);
    sim->fault_count++;
    sim_story("FAULT   shard %u: node %u is to have it, node %u no more", (unsigned)shard,
              (unsigned)more, (unsigned)fewer);
}

static void fault_power(void)
{
    if (draw_chance(75)) {
        struct sim_node *node = fault_node();

        if (sim_faults_may_forget(node)) {
            fault_note(SIM_COVER_FAULT_POWER);
            power_off(node);
        }
        return;
    }
    if (sim->config.durability == TORC_DURABILITY_REPLICATED && !draw_chance(10)) {
        return; // it closes all shards
    }
    fault_note(SIM_COVER_FAULT_POWER_ALL);
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        power_off(&sim->nodes[i]);
    }
}

static void pause_actor(struct sim_actor *actor, uint64_t until_ns, enum sim_event_kind kind,
                        uint32_t a, uint32_t b)
{
    actor->paused_ns = torc_max_u64(actor->paused_ns, until_ns);
    if (actor->at_ns != UINT64_MAX) { // its next turn is when it goes on
        sim_stop(actor);
        sim_wake(actor, until_ns, kind, a, b);
    }
}

static void pause_worker(struct sim_node *node, uint32_t index, uint64_t until_ns)
{
    struct sim_worker *worker = &node->workers[index];

    node->upset_ns = until_ns;
    if (worker->stalled_ns == 0) {
        worker->stalled_ns = sim_local_ns(&node->clock);
    }
    pause_actor(&worker->actor, until_ns, SIM_EVENT_WORKER, node->index, index);
}

void sim_faults_stall(struct sim_node *node, uint32_t worker, uint64_t for_ns)
{
    pause_worker(node, worker, sim->now_ns + for_ns);
    sim_story("PLAN    node %u: worker %u stalls for %u us", (unsigned)node->number,
              (unsigned)worker, (unsigned)(for_ns / SIM_US));
}

void sim_faults_suspend(struct sim_node *node, uint64_t for_ns)
{
    // A clock that has stood is behind the time of day, and followers gain a sixteenth of that.
    uint64_t most_ns = (sim->config.confirm ? 160 : 4000) * SIM_MS;
    uint64_t until_ns = sim->now_ns + torc_min_u64(for_ns, most_ns);

    fault_note(SIM_COVER_FAULT_SUSPEND);
    sim_story("FAULT   node %u is suspended for %u ms%s", (unsigned)node->number,
              (unsigned)((until_ns - sim->now_ns) / SIM_MS),
              sim->config.confirm ? ", and its clock too" : "");
    if (sim->config.confirm) { // a host stopped the machine
        sim_clock_stop(&node->clock, until_ns);
    }
    for (uint32_t i = 0; node->up && i < node->worker_count; i++) {
        pause_worker(node, i, until_ns);
    }
    pause_actor(&node->thread, until_ns, SIM_EVENT_THREAD, node->index, 0);
    pause_actor(&node->control.actor, until_ns, SIM_EVENT_CONTROL, node->index, 0);
}

static void fault_suspend(struct sim_node *node)
{
    sim_faults_suspend(node, 10 * SIM_MS + draw((sim->config.confirm ? 150 : 700) * SIM_MS));
}

static void fault_pause(void)
{
    struct sim_node *node = fault_node();
    uint64_t until_ns =
        sim->now_ns + 50 * SIM_US + draw(draw_chance(70) ? 10 * SIM_MS : 200 * SIM_MS);
    uint64_t dice = draw(100);
    uint32_t worker = (uint32_t)draw(node->up ? node->worker_count : 1);

    if (dice < (sim->config.confirm ? 80 : 25)) {
        fault_suspend(node);
        return;
    }
    fault_note(SIM_COVER_FAULT_PAUSE);
    sim_story("FAULT   a %s stalls for %u us",
              dice < 50   ? "worker"
              : dice < 75 ? "control"
                          : "client",
              (unsigned)((until_ns - sim->now_ns) / SIM_US));
    if (dice < 50) {
        pause_worker(node, worker, until_ns);
    } else if (dice < 75) {
        pause_actor(&node->control.actor, until_ns, SIM_EVENT_CONTROL, node->index, 0);
    } else {
        uint32_t client = (uint32_t)draw(sim->config.clients);

        pause_actor(&sim->clients[client].actor, until_ns, SIM_EVENT_CLIENT, client, 0);
    }
}

// Whether this clock may be set by an hour: others outvote it, or there are none (0039). Two wrong
// ones of four are most of any three that are heard.
static bool clock_may_be_set(const struct sim_node *node)
{
    uint32_t others = 0;

    if (sim->config.nodes == 1 || node == NULL) {
        return sim->config.nodes == 1 || sim->config.replicas >= 3;
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        const struct sim_node *other = &sim->nodes[i];
        int64_t off_us = sim_wall_off_us(&other->clock);

        others += other != node && (off_us > WALL_FAR_US || off_us < -WALL_FAR_US);
    }
    return sim->config.replicas >= 3 && 2 * (others + 1) < sim->config.founders;
}

static void fault_clock(void)
{
    struct sim_node *node = draw_chance(70) ? fault_node() : NULL;
    struct sim_clock *clock =
        node != NULL ? &node->clock : &sim->clients[draw(sim->config.clients)].clock;
    int64_t jump_us = (int64_t)draw(draw_chance(50) ? 400000 : 40000);

    if (jump_us % 8 == 0 && clock_may_be_set(node)) {
        jump_us *= 9000; // an hour: somebody set it
    }
    jump_us = draw_chance(50) ? jump_us : -jump_us;
    clock->wall_us += jump_us;
    fault_note(SIM_COVER_FAULT_WALL);
    sim_story("FAULT   the wall clock of %s %u jumps by %" PRId64 " us",
              node != NULL ? "node" : "a client", node != NULL ? (unsigned)node->number : 0,
              jump_us);
}

static void fault_round(void)
{
    struct sim_node *node = fault_node();

    node->control.wants_round = true;
    sim_control_wake(node, sim->now_ns);
    sim_cover(SIM_COVER_FAULT_CHECKPOINT);
}

static void fault_disk(enum sim_class class)
{
    struct sim_node *node = fault_node();

    if (class == SIM_CLASS_DISK_SLOW) {
        fault_note(SIM_COVER_FAULT_DISK_SLOW);
        node->faults.latency_ns = SIM_MS << draw(6);
        if (draw_chance(10)) { // it takes all and answers nothing; beyond 2 s its node says so
            uint64_t for_ns = 1000 * SIM_MS + draw(2500 * SIM_MS);

            fault_note(SIM_COVER_FAULT_DISK_HUNG);
            node->faults.latency_ns = 2 * SIM_MS;
            node->faults.held_ns = sim->now_ns + for_ns;
            sim_post(node->faults.held_ns, SIM_EVENT_MEND, SIM_MEND_SLOW, node->index, NULL);
        } else {
            fault_until(20, 600, SIM_MEND_SLOW, node->index);
        }
    } else if (class == SIM_CLASS_DISK_FULL) {
        fault_note(SIM_COVER_FAULT_DISK_FULL);
        node->faults.full_after = 0;
        fault_until(20, 1200, SIM_MEND_FULL, node->index);
    } else if (draw_chance(40)) {
        node->faults.fail_write = 1 + (uint32_t)draw(30);
    } else {
        node->faults.fail_other = 1 + (uint32_t)draw(20);
        node->control.wants_round = true;
    }
    sim_story("FAULT   node %u: disk: latency %u us%s, fails %u %u", (unsigned)node->number,
              (unsigned)(node->faults.latency_ns / SIM_US),
              node->faults.full_after == 0 ? ", full" : "", (unsigned)node->faults.fail_write,
              (unsigned)node->faults.fail_other);
}

static void fault_meta(void)
{
    bool is_long = draw_chance(10);

    if (is_long || draw_chance(50)) {
        sim->meta.away = true;
        fault_note(is_long ? SIM_COVER_FAULT_META_LONG : SIM_COVER_FAULT_META_AWAY);
    } else {
        sim->meta.delay_ns = SIM_MS << draw(7);
        fault_note(SIM_COVER_FAULT_META_SLOW);
    }
    sim_story("FAULT   metastore: %s, %u us", sim->meta.away ? "away" : "there",
              (unsigned)(sim->meta.delay_ns / SIM_US));
    fault_until(is_long ? 1000 : 20, is_long ? 3000 : 500, SIM_MEND_META, 0);
}

static void fault_client(void)
{
    uint32_t client = (uint32_t)draw(sim->config.clients);

    sim_story("FAULT   client %u starts anew", (unsigned)client);
    fault_note(SIM_COVER_CLIENT_RESTARTED);
    sim_client_restart(client);
}

static void fault_happen(enum sim_class class)
{
    if (class != SIM_CLASS_STOP && class != SIM_CLASS_CHECKPOINT && class != SIM_CLASS_CLIENT) {
        sim_calm_trouble();
    }
    switch (class) {
    case SIM_CLASS_CUTS: fault_cuts(); return;
    case SIM_CLASS_MTU: fault_mtu(); return;
    case SIM_CLASS_CRASH: fault_crash(); return;
    case SIM_CLASS_POWER: fault_power(); return;
    case SIM_CLASS_PAUSE: fault_pause(); return;
    case SIM_CLASS_CLOCK: fault_clock(); return;
    case SIM_CLASS_DISK_SLOW:
    case SIM_CLASS_DISK_FULL:
    case SIM_CLASS_DISK_FAIL: fault_disk(class); return;
    case SIM_CLASS_META: fault_meta(); return;
    case SIM_CLASS_DISK_LOST: fault_disk_lost(); return;
    case SIM_CLASS_WISH: fault_wish(); return;
    case SIM_CLASS_CHECKPOINT: fault_round(); return;
    case SIM_CLASS_CLIENT: fault_client(); return;
    case SIM_CLASS_STOP: fault_stop(); return;
    case SIM_CLASS_ACCEPT: sim_accept_begin(); return;
    case SIM_CLASS_PLACE: sim_place_fault(); return;
    case SIM_CLASS_PLAN:
        if (sim_plan_begin()) {
            fault_note(SIM_COVER_FAULT_PLAN);
        }
        return;
    case SIM_CLASS_LOSS:
    case SIM_CLASS_DOUBLE:
    case SIM_CLASS_DAMAGE:
    case SIM_CLASS_DELAY:
    case SIM_CLASS_STRIKE:
    case SIM_CLASS_JITTER:
    case SIM_CLASS_COUNT: return; // of each packet, answer or turn
    }
    torc_unreachable("no such class");
}

static void fault_dice(uint32_t number)
{
    sim->chaos = (struct torc_rng){sim->wish.seed * UINT64_C(0x2545f4914f6cdd1d) + number};
    (void)torc_rng_next(&sim->chaos);
}

void sim_faults_next(void)
{
    uint32_t number = sim->fault_number++;
    uint32_t class;

    if (sim->quiet) {
        return;
    }
    fault_dice(number);
    sim_post(sim->now_ns + SIM_MS + draw(UINT64_C(2) * sim->config.fault_every_ms * SIM_MS),
             SIM_EVENT_FAULT, 0, 0, NULL);
    class = (uint32_t)draw(SIM_CLASS_DRAWN);
    for (uint32_t i = 0; i < SIM_CLASS_DRAWN && (!sim_has(class) || class <= SIM_CLASS_DELAY);
         i++) {
        class = (class + 1) % SIM_CLASS_DRAWN;
    }
    if (sim_has(SIM_CLASS_PLAN) && draw_chance(35)) { // a row has more in it than a fault
        class = SIM_CLASS_PLAN;
    }
    if (sim_has(SIM_CLASS_STOP) && draw_chance(40)) {
        class = SIM_CLASS_STOP;
    }
    if (sim_has(SIM_CLASS_ACCEPT) && draw_chance(15)) {
        class = SIM_CLASS_ACCEPT;
    }
    if (sim_has(SIM_CLASS_PLACE) && draw_chance(40)) {
        class = SIM_CLASS_PLACE;
    }
    if (sim_has(class) && number >= sim->wish.faults_from && number < sim->wish.faults_to) {
        fault_happen(class);
    }
}

// Nothing comes from one node to another, either way.
static void strike_apart(const struct sim_node *node)
{
    uint32_t other = (node->index + 1 + (uint32_t)draw(SIM_NODES_MAX)) % sim->config.nodes;

    sim->net.cut[node->index][other] = other != node->index;
    sim->net.cut[other][node->index] = other != node->index;
    sim_story("FAULT   nodes %u and %u are apart", (unsigned)node->number, (unsigned)other + 1);
    fault_until(10, 200, SIM_MEND_NET, 0);
}

void sim_faults_strike(uint32_t shard, uint32_t weight)
{
    uint32_t number = sim->fault_number;
    struct sim_node *node;
    uint64_t dice;

    if (sim->quiet || !sim_has(SIM_CLASS_STRIKE) ||
        !torc_rng_chance(&sim->rng,
                         UINT64_C(1) * weight * STRIKE_PPM / sim->config.fault_every_ms)) {
        return;
    }
    sim->fault_number++;
    fault_dice(number);
    node = &sim->nodes[sim->wants[shard - 1].nodes[draw(sim->config.replicas)] - 1];
    dice = draw(100);
    if (number < sim->wish.faults_from || number >= sim->wish.faults_to || !node->powered ||
        !sim_faults_may_forget(node)) {
        return;
    }
    fault_note(SIM_COVER_FAULT_STRIKE);
    sim_calm_trouble();
    if (dice < 35) {
        sim_faults_kill(node, true, false);
    } else if (dice < 50) {
        sim_faults_kill(node, true, true);
    } else if (dice < 65) {
        fault_suspend(node);
    } else if (dice < 80 && sim->config.replicas > 1) {
        strike_apart(node);
    } else {
        power_off(node);
    }
}

// -- Their ends -----------------------------------------------------------------------------------

static void mend_failed(struct sim_node *node)
{
    if (!node->poisoned) {
        return;
    }
    node->poisoned = false;
    node->faults.fail_write = 0;
    node->faults.fail_other = 0;
    node->start_dataplane_ns = node->start_control_ns = sim->now_ns + 5 * SIM_MS;
    sim_story("node %u  is started anew by its operator", (unsigned)node->number);
    sim_node_kill(node, false);
    sim_control_kill(node);
    fault_parent(node);
}

void sim_faults_mend(uint32_t what, uint32_t which)
{
    struct sim_node *node = &sim->nodes[which < SIM_NODES_MAX ? which : 0];

    if (what != SIM_MEND_PARENT && what != SIM_MEND_STRIKE && what != SIM_MEND_ACCEPT) {
        sim_calm_trouble();
    }
    switch ((enum sim_mend)what) {
    case SIM_MEND_PARENT: sim_node_parent(node); return;
    case SIM_MEND_FAILED: mend_failed(node); return;
    case SIM_MEND_STRIKE:
        sim_plan_swapped(which);
        sim_faults_strike(which, STRIKE_TURN);
        return;
    case SIM_MEND_PLAN: sim_plan_step(which); return;
    case SIM_MEND_ACCEPT: sim_accept_look(); return;
    case SIM_MEND_NET:
        memset(sim->net.cut, 0, sizeof(sim->net.cut));
        memset(sim->net.slow_ns, 0, sizeof(sim->net.slow_ns));
        sim->net.storm_ppm = 0;
        return;
    case SIM_MEND_MTU: sim->net.mtu = sim->config.mtu; return;
    case SIM_MEND_POWER:
        if (!node->powered) {
            node->powered = true;
            sim_place_register(which);
            node->start_dataplane_ns = node->start_control_ns = sim->now_ns;
            sim_story("node %u  has power again", (unsigned)node->number);
            sim_node_parent(node);
        }
        return;
    case SIM_MEND_SLOW:
        if (!sim->quiet && sim->now_ns < node->faults.held_ns) {
            return; // of an earlier one
        }
        sim_calm_upset(node);
        node->faults.latency_ns = 100 * SIM_US;
        node->faults.held_ns = 0;
        sim_control_wake(node, sim->now_ns);
        return;
    case SIM_MEND_FULL:
        sim_calm_upset(node);
        node->faults.full_after = UINT64_MAX;
        return;
    case SIM_MEND_META:
        sim->meta.away = false;
        sim->meta.delay_ns = 300 * SIM_US;
        return;
    }
    torc_unreachable("no such mending");
}

void sim_faults_stop(void)
{
    sim->quiet = true;
    sim_story("QUIET   faults have stopped");
    sim_faults_mend(SIM_MEND_NET, 0);
    sim_faults_mend(SIM_MEND_MTU, 0);
    sim_faults_mend(SIM_MEND_META, 0);
    sim_plan_stop();
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        struct sim_node *node = &sim->nodes[i];

        node->faults.die_at = 0;
        node->faults.fail_write = 0;
        node->faults.fail_other = 0;
        sim_faults_mend(SIM_MEND_SLOW, i);
        sim_faults_mend(SIM_MEND_FULL, i);
        sim_faults_mend(SIM_MEND_POWER, i);
        sim_faults_mend(SIM_MEND_FAILED, i);
        node->start_dataplane_ns =
            torc_min_u64(node->start_dataplane_ns, sim->now_ns + 10 * SIM_MS);
        node->start_control_ns = torc_min_u64(node->start_control_ns, sim->now_ns + 10 * SIM_MS);
        sim_post(sim->now_ns + 10 * SIM_MS, SIM_EVENT_MEND, SIM_MEND_PARENT, i, NULL);
    }
}
