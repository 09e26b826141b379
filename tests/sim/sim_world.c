// Torc simulator: one run. See sim.h.
//
// What    the cluster starts; clients load it while faults happen; then faults stop, and within 5 s
//         everything must have come back: all operations have ended, each hot key can be read. Then
//         the oracles.
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_records.h"

#include <stdlib.h>
#include <string.h>

#define START_NS    (60 * SIM_MS)
#define RECOVERY_NS (5 * SIM_S)
#define PLACING_NS  (12 * SIM_S) // some shards are let go of one after the other, 2 s held each
#define GLANCE_NS   (20 * SIM_MS)

static void world_keys(void)
{
    const struct sim_config *config = &sim->config;

    // Near the shards' borders, and anywhere.
    for (uint32_t i = 0; i < config->keys;) {
        uint64_t key = torc_rng_below(&sim->load, config->key_count);
        uint32_t at = i;

        if (torc_rng_chance(&sim->load, 300000)) {
            uint64_t border = sim->shard_lo[torc_rng_below(&sim->load, config->shards)];

            key = (border + torc_rng_below(&sim->load, 3)) % config->key_count;
        }
        while (at > 0 && sim->keys[at - 1] > key) {
            at--;
        }
        if (at > 0 && sim->keys[at - 1] == key) {
            continue;
        }
        memmove(sim->keys + at + 1, sim->keys + at, (i - at) * sizeof(*sim->keys));
        sim->keys[at] = key;
        i++;
    }
}

static void world_init(void)
{
    const struct sim_config *config = &sim->config;

    for (uint32_t i = 0; i < config->shards; i++) {
        uint64_t lo;
        uint64_t hi;

        torc_cluster_cut(config->key_count, config->shards, i, &lo, &hi);
        sim->shard_lo[i] = lo;
        sim->shard_lo[i + 1] = hi;
        sim->shard_node[i] = i % config->founders;
    }
    world_keys();
    sim_net_init();
    sim_records_init();
    sim_wish_init();
    sim_ghost_init();
    sim_agree_init();
    sim->last_at = UINT32_MAX;
    for (uint32_t i = 0; i < config->nodes; i++) {
        sim_node_init(&sim->nodes[i], i);
        sim_post(torc_rng_below(&sim->rng, 10 * SIM_MS), SIM_EVENT_MEND, SIM_MEND_PARENT, i, NULL);
    }
    for (uint32_t i = 0; i < config->clients; i++) {
        sim_client_init(i);
    }
    sim_post(START_NS, SIM_EVENT_FAULT, 0, 0, NULL);
    sim_accept_init();
}

static void world_event(struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->a < SIM_NODES_MAX ? event->a : 0];

    switch ((enum sim_event_kind)event->kind) {
    case SIM_EVENT_WORKER: sim_node_turn(node, event->b); return;
    case SIM_EVENT_THREAD: sim_node_thread(node); return;
    case SIM_EVENT_CONTROL: sim_control_turn(node); return;
    case SIM_EVENT_CLIENT: sim_client_turn(event->a); return;
    case SIM_EVENT_PACKET: sim_net_arrive(event->what); return;
    case SIM_EVENT_FAULT: sim_faults_next(); return;
    case SIM_EVENT_MEND: sim_faults_mend(event->a, event->b); return;
    case SIM_EVENT_META: sim_records_event(event); return;
    }
    torc_unreachable("no such event");
}

// Runs until `done`, or the time; false: the time.
static bool world_until(uint64_t end_ns, bool (*done)(void))
{
    struct sim_event event;

    while (sim->result.failed == 0 && sim_next(&event)) {
        world_event(&event);
        if (done != NULL && done()) {
            return true;
        }
        if (sim->now_ns >= end_ns) {
            return false;
        }
    }
    return false;
}

static bool world_is_settled(void)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        if (!sim_node_serves(&sim->nodes[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < sim->config.clients; i++) {
        if (sim->clients[i].pending > 0) {
            return false;
        }
    }
    return sim_accept_is_settled();
}

static bool world_is_looked_at(void)
{
    return sim->last_at == sim->config.keys && sim->clients[0].pending == 0;
}

static bool world_is_placed(void)
{
    if (sim->now_ns < sim->glance_ns) {
        return false;
    }
    sim->glance_ns = sim->now_ns + GLANCE_NS;
    return sim_place_is_done() && sim_wish_is_done();
}

// Who is not back, for people.
static void world_complain(void)
{
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        if (!sim_node_serves(&sim->nodes[i])) {
            sim_fail("liveness: node %u does not serve 5 s after the last fault (control state %u, "
                     "dataplane %s)",
                     (unsigned)i + 1, (unsigned)sim->nodes[i].control.state,
                     sim->nodes[i].up ? "up" : "down");
        }
    }
    if (!sim_accept_is_settled()) {
        sim_fail("liveness: an operator could not accept the loss of shard %u: %s",
                 (unsigned)sim->accept.shard, sim->accept.why);
    }
    for (uint32_t i = 0; i < sim->op_count; i++) {
        if (sim->ops[i].return_ns == 0 && sim->ops[i].status != TORC_ERR_CLOSED) {
            sim_fail("liveness: operation #%u of client %u does not end", (unsigned)i,
                     (unsigned)sim->ops[i].client);
        }
    }
}

bool sim_is_closed(uint64_t key)
{
    return sim_wish_is_closed(sim_shard_of(key));
}

static void world_judge(void)
{
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        sim_cover_add(SIM_COVER_SHARDS_CLOSED, sim_wish_is_closed(shard) ? 1 : 0);
    }
    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->last && !sim_is_closed(sim->keys[op->key]) && op->status != TORC_ERR_OK &&
            op->status != TORC_ERR_NOT_FOUND) {
            sim_fail("liveness: the last look at key %" PRIu64 " ended with %s", sim->keys[op->key],
                     torc_err_name((enum torc_err)op->status));
        }
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        sim_node_judge(&sim->nodes[i]);
    }
    sim_ghost_judge();
    sim_calm_judge();
    sim_loss_judge();
    sim_place_judge();
    sim_check_keys();
    sim_check_cuts();
    sim_check_order();
}

static void world_introduce(void)
{
    const struct sim_config *config = &sim->config;
    static const char *const names[] = {
#define X(name) #name,
        SIM_CLASS_TABLE(X)
#undef X
    };

    sim_story(
        "seed %" PRIu64
        ": %u nodes of %u workers, %u shards of %u replicas, %u clients, %u keys below %" PRIu64
        ", %s, %s, %sa fault every %u ms",
        sim->wish.seed, (unsigned)config->nodes, (unsigned)config->workers,
        (unsigned)config->shards, (unsigned)config->replicas, (unsigned)config->clients,
        (unsigned)config->keys, config->key_count, config->sealed ? "sealed" : "clear",
        config->durability == TORC_DURABILITY_DURABLE      ? "durable"
        : config->durability == TORC_DURABILITY_REPLICATED ? "replicated"
                                                           : "in memory",
        config->confirm ? "reads are confirmed, " : "", (unsigned)config->fault_every_ms);
    sim_story("        %u packets with writes a core", (unsigned)config->gathers);
    for (uint32_t i = 0; i < SIM_CLASS_COUNT; i++) {
        if (sim_has((enum sim_class)i)) {
            sim_story("        class %s", names[i]);
        }
    }
}

void sim_run(const struct sim_wish *wish, struct sim_result *result)
{
    sim_memory_begin();
    sim = sim_memory(sizeof(*sim));
    sim->wish = *wish;
    sim->rng = (struct torc_rng){wish->seed};
    sim->load = (struct torc_rng){wish->seed ^ UINT64_C(0x10ad)};
    sim->chaos = (struct torc_rng){wish->seed ^ UINT64_C(0xc4a05)};
    sim->nodes = sim_memory(SIM_NODES_MAX * sizeof(*sim->nodes));
    sim->ops = sim_memory(SIM_OPS_MAX * sizeof(*sim->ops));
    sim->rows = sim_memory(SIM_ROWS_MAX * sizeof(*sim->rows));
    sim->value = sim_memory(UINT64_C(1) << 20);
    sim_faults_draw();
    world_introduce();
    world_init();
    (void)world_until(START_NS + sim->config.run_ns, NULL);
    sim_faults_stop();
    if (!world_until(sim->now_ns + RECOVERY_NS, world_is_settled)) {
        world_complain();
    }
    sim->last_at = 0;
    sim_wake(&sim->clients[0].actor, sim->now_ns, SIM_EVENT_CLIENT, 0, 0);
    if (sim->result.failed == 0 &&
        !world_until(sim->now_ns + (SIM_LOOK_MS + 1000) * SIM_MS, world_is_looked_at)) {
        world_complain();
    }
    if (sim->result.failed == 0 && !(sim_place_is_done() && sim_wish_is_done()) &&
        !world_until(sim->now_ns + PLACING_NS, world_is_placed)) {
        sim_cover(SIM_COVER_NOT_PLACED);
        if (sim->wish.placed || sim_has(SIM_CLASS_PLACE)) {
            sim_fail("liveness: shards are not where they are wished");
        }
    }
    sim->placing.done_ns = sim->now_ns;
    // What servers still hold for clients that are gone ends with its deadline.
    (void)world_until(sim->now_ns + 2 * SIM_S, NULL);
    if (!sim_place_is_settled()) { // it may just be looking at the nodes again
        (void)world_until(sim->now_ns + SIM_S, sim_place_is_settled);
    }
    if (sim->result.failed == 0) {
        world_judge();
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        sim_node_tell(&sim->nodes[i]);
    }
    sim_wish_tell();
    *result = sim->result;
    result->seed = wish->seed;
    result->simulated_ns = sim->now_ns;
    result->faults = sim->fault_count;
    result->ops = sim->op_count;
    sim_memory_end();
}
