// Torc simulator: a machine and its dataplane. See sim.h.
//
// What    one life of a dataplane: the channel, sessions, handover rings and workers in memory of
//         its own, as dataplane/node_dpdk.c makes them; turns of workers and of the session thread,
//         each when something wakes it as the doorbells would. Its parent starts it again.
#include "dataplane/worker_replica.h"
#include "dataplane/worker_state.h"
#include "storage/cpu_os.h"
#include "tests/sim/sim_machine.h"
#include "wire/aead_os.h"

#include <stdlib.h>
#include <string.h>

#define SESSION_SLOTS 256u
#define TURN_NS       UINT64_C(2000)
#define WAKE_NS       UINT64_C(3000)
#define IDLE_NS       (20 * SIM_MS) // the session thread's look at the latest
#define WOKEN_NS      (10 * SIM_MS)
#define HEAP_BYTES    (UINT64_C(32) << 20)

struct sim_node *sim_node_of(uint32_t index)
{
    torc_assert(index < SIM_NODES_MAX);
    return &sim->nodes[index];
}

const uint8_t *sim_node_ipv4(uint32_t index)
{
    return sim_node_of(index)->ipv4;
}

const uint8_t *sim_node_mac(uint32_t index)
{
    return sim_node_of(index)->mac;
}

struct sim_actor *sim_node_actor(const struct sim_event *event)
{
    struct sim_node *node = sim_node_of(event->a);

    return event->kind == SIM_EVENT_WORKER   ? &node->workers[event->b].actor
           : event->kind == SIM_EVENT_THREAD ? &node->thread
                                             : &node->control.actor;
}

void sim_node_arrive(uint32_t index, struct sim_packet *packet)
{
    if (packet->boot != 0) {
        sim_node_letter(sim_node_of(index), packet);
    } else {
        sim_node_packet(sim_node_of(index), packet);
    }
}

void sim_node_init(struct sim_node *node, uint32_t index)
{
    uint64_t heap_bytes = torc_heap_mapping_bytes(HEAP_BYTES);

    node->index = index;
    node->number = index + 1;
    node->powered = index < sim->config.founders;
    node->ipv4[0] = 10;
    node->ipv4[1] = 79;
    node->ipv4[3] = (uint8_t)(11 + index);
    node->mac[0] = 2;
    node->mac[5] = (uint8_t)(1 + index);
    node->clock = (struct sim_clock){
        .base_ns = 5 * SIM_S + torc_rng_below(&sim->rng, 1000 * SIM_S),
        .rate_ppm = (int64_t)torc_rng_below(&sim->rng, 2 * sim->config.rho_ppm + 1) -
                    (int64_t)sim->config.rho_ppm};
    // Wall clocks agree to some milliseconds, or do not.
    node->clock.wall_us = SIM_WALL_ZERO_US - (int64_t)(node->clock.base_ns / 1000) +
                          (int64_t)torc_rng_below(&sim->rng, sim->config.skew_ms * UINT64_C(1000)) -
                          (index == 0 ? (int64_t)sim->config.behind_ms * 1000 : 0);
    node->faults = (struct sim_disk_faults){.latency_ns = 100 * SIM_US, .full_after = UINT64_MAX};
    node->store = sim_store_make();
    node->thread.at_ns = UINT64_MAX;
    node->control.actor.at_ns = UINT64_MAX;
    node->start_dataplane_ns = 0;
    node->start_control_ns = 0;
    node->port.mtu = sim->config.mtu;
    memcpy(node->port.mac, node->mac, sizeof(node->mac));
    node->mapping.bytes = (uint64_t)SIM_WORKERS_MAX * SIM_CHUNKS * TORC_CHUNK_BYTES;
    node->mapping.base = sim_memory(node->mapping.bytes);
    for (uint32_t i = 0; i < SIM_WORKERS_MAX; i++) {
        node->workers[i].actor.at_ns = UINT64_MAX;
        torc_heap_init(&node->workers[i].heap, sim_memory(heap_bytes), heap_bytes, HEAP_BYTES);
    }
    if (sim->tx_memory == NULL) {
        sim->tx_memory = sim_memory((uint64_t)TORC_TURN_TX_MAX * SIM_FRAME_BYTES);
        sim->tx_used = TORC_TURN_TX_MAX;
    }
}

// -- Messages between nodes -----------------------------------------------------------------------

static void post_send(void *context, uint32_t index, struct torc_peer_to to,
                      const unsigned char *op, uint32_t byte_count)
{
    struct sim_node *node = context;
    uint32_t cores = to.core == TORC_POST_EACH ? sim_node_of(to.node - 1)->worker_count : 1;

    for (uint32_t i = 0; i < cores; i++) {
        sim_net_between(node, index, to.node - 1, to.core == TORC_POST_EACH ? i : to.core, op,
                        byte_count);
    }
}

static bool post_take(void *context, uint32_t index, struct torc_peer_from *from, uint64_t *hlc,
                      const unsigned char **op, uint32_t *byte_count)
{
    struct sim_node *node = context;
    struct sim_worker *worker = &node->workers[index];

    free(worker->letter);
    worker->letter = NULL;
    if (worker->letter_count == 0) {
        return false;
    }
    worker->letter = worker->letters[worker->letter_first];
    worker->letter_first = (worker->letter_first + 1) % TORC_COUNT_OF(worker->letters);
    worker->letter_count--;
    *from = (struct torc_peer_from){.node = worker->letter->from + 1,
                                    .core = worker->letter->from_port,
                                    .boot = worker->letter->boot};
    *hlc = worker->letter->hlc;
    *op = worker->letter->bytes;
    *byte_count = worker->letter->byte_count;
    return true;
}

uint64_t sim_node_hlc(const struct sim_node *node, uint32_t core)
{
    return node->workers[core].worker->pool.hlc;
}

void sim_node_letter(struct sim_node *node, struct sim_packet *packet)
{
    struct sim_worker *worker = &node->workers[packet->to_port % SIM_WORKERS_MAX];

    if (!node->up || packet->to_port >= node->worker_count ||
        worker->letter_count == TORC_COUNT_OF(worker->letters)) {
        sim_cover(SIM_COVER_PEER_LOST);
        sim_calm_path(packet->from, packet->to);
        free(packet);
        return;
    }
    worker
        ->letters[(worker->letter_first + worker->letter_count) % TORC_COUNT_OF(worker->letters)] =
        packet;
    worker->letter_count++;
    sim_wake(&worker->actor, sim->now_ns + 500, SIM_EVENT_WORKER, node->index, packet->to_port);
}

static void letters_drop(struct sim_worker *worker)
{
    for (uint32_t at = 0; at < worker->letter_count; at++) {
        free(worker->letters[(worker->letter_first + at) % TORC_COUNT_OF(worker->letters)]);
    }
    free(worker->letter);
    worker->letter = NULL;
    worker->letter_count = 0;
}

// -- A life ---------------------------------------------------------------------------------------

static void worker_start(struct sim_node *node, uint32_t index)
{
    struct sim_worker *worker = &node->workers[index];
    struct torc_worker_config config = {
        .index = index,
        .count = node->worker_count,
        .chan = node->chan,
        .chan_bytes = node->chan_bytes,
        .sessions = node->sessions,
        .handover = node->handover,
        .replicas = node->council != NULL,
        .council = node->council,
        .confirm_reads = sim->config.confirm,
        .post = node->council != NULL ? &node->post : NULL,
        .ipv4_prefix = 24,
        .base_port = SIM_BASE_PORT,
        .port_count = 1,
        .ports = &node->port,
        .chunk_base = node->mapping.base,
        .chunk_first = index * SIM_CHUNKS,
        .chunk_count = SIM_CHUNKS,
        .heap = &worker->heap,
        .code = torc_tree_code_best(),
        .shards_max = SIM_SHARDS_MAX,
        .gathers_max = sim->config.gathers,
        .jobs_max = 32,
        .fragment_pool_bytes = 4u << 20,
        .session_message_bytes = 1u << 20,
        .completion_bytes = 1u << 20,
        .undo = {.bytes = UINT64_C(1) << 20, .age_us = 1000000, .pin_us = 60000000},
        .seed = torc_rng_next(&sim->rng),
    };
    struct torc_fail why;

    memcpy(config.ipv4, node->ipv4, sizeof(config.ipv4));
    worker->memory_bytes = torc_worker_bytes(&config);
    worker->memory = sim_memory(worker->memory_bytes);
    torc_assert(torc_worker_init(&worker->worker, worker->memory, worker->memory_bytes, &config,
                                 &why) == TORC_ERR_OK);
    worker->queue_count = 0;
    worker->jitter_ns = 0;
    worker->stalled_ns = 0;
    sim_wake(&worker->actor, sim->now_ns + WAKE_NS, SIM_EVENT_WORKER, node->index, index);
}

void sim_node_start(struct sim_node *node)
{
    struct torc_sessions_config sessions = {
        .slot_count = SESSION_SLOTS, .aead = torc_aead_code_best(), .dummy = {9}};
    struct torc_fail why;

    torc_assert(!node->up);
    node->worker_count = sim->config.workers;
    if (sim->config.mixed_workers && node->life > 0) {
        node->worker_count = 1 + (uint32_t)torc_rng_below(&sim->rng, SIM_WORKERS_MAX);
    }
    node->life++;
    sim_calm_upset(node);
    sim_ghost_start(node);
    memset(sim->open_counts[node->index], 0, sizeof(sim->open_counts[0]));
    node->chan_bytes = torc_chan_bytes(node->worker_count);
    node->chan = sim_memory(node->chan_bytes);
    torc_assert(torc_chan_format(node->chan, node->chan_bytes, node->worker_count, &why) ==
                TORC_ERR_OK);
    node->sessions_bytes = torc_sessions_bytes(SESSION_SLOTS, node->worker_count);
    node->sessions_memory = sim_memory(node->sessions_bytes);
    sessions.worker_count = node->worker_count;
    sessions.chan = node->chan;
    sessions.chan_bytes = node->chan_bytes;
    torc_assert(torc_sessions_init(&node->sessions, node->sessions_memory, node->sessions_bytes,
                                   &sessions, &why) == TORC_ERR_OK);
    node->handover_bytes = torc_handover_bytes(node->worker_count, SIM_FRAME_BYTES);
    node->handover_memory = sim_memory(node->handover_bytes);
    torc_assert(torc_handover_init(&node->handover, node->handover_memory, node->handover_bytes,
                                   node->worker_count, SIM_FRAME_BYTES, &why) == TORC_ERR_OK);
    if (sim->config.replicas > 1) {
        node->council_bytes = torc_council_bytes(node->worker_count, SIM_SHARDS_MAX);
        node->council_memory = sim_memory(node->council_bytes);
        torc_assert(torc_council_init(&node->council, node->council_memory, node->council_bytes,
                                      node->worker_count, SIM_SHARDS_MAX, &why) == TORC_ERR_OK);
        node->post = (struct torc_post){.context = node, .send = post_send, .take = post_take};
    }
    for (uint32_t i = 0; i < node->worker_count; i++) {
        worker_start(node, i);
    }
    node->up = true;
    sim_wake(&node->thread, sim->now_ns + WAKE_NS, SIM_EVENT_THREAD, node->index, 0);
    sim_control_wake(node, sim->now_ns + WAKE_NS);
    sim_story("node %u  dataplane %u starts, %u workers", (unsigned)node->number,
              (unsigned)node->life, (unsigned)node->worker_count);
}

// What its replicas did in this life.
static void node_count(const struct sim_node *node)
{
    for (uint32_t i = 0; i < node->worker_count; i++) {
        const struct torc_worker *worker = node->workers[i].worker;

        for (uint32_t at = 0; at < worker->shard_count; at++) {
            const struct torc_worker_replica *replica = worker->shards[at].replica;
            const struct torc_replica_counters *counters =
                replica != NULL ? &replica->machine.counters : NULL;

            if (counters != NULL) {
                sim_cover_add(SIM_COVER_MEMBERS_FEWER, counters->removals);
                sim_cover_add(SIM_COVER_MEMBERS_MORE, counters->joins);
                sim_cover_add(SIM_COVER_PRIMARIES_MOVED, counters->transfers);
                sim_cover_add(SIM_COVER_RECORDS_CUT, counters->cut_records);
            }
        }
    }
}

// With `replicated` a life's memory ends with it, unless all of it is in the log.
static void node_forget(struct sim_node *node)
{
    uint64_t boot = atomic_load(&((const struct torc_chan *)node->chan)->boot);

    if (sim->config.durability == TORC_DURABILITY_REPLICATED && boot != 0 &&
        !(node->sealed && node->sealed_boot == boot)) {
        node->copy = 0;
        sim_ghost_forget(node);
    }
}

// The process ends where it stands. Control still has the channel.
void sim_node_kill(struct sim_node *node, bool by_power)
{
    if (!node->up) {
        return;
    }
    sim_story("node %u  dataplane %u ends%s", (unsigned)node->number, (unsigned)node->life,
              by_power ? ", no power" : "");
    node_count(node);
    node_forget(node);
    sim_calm_upset(node);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct sim_worker *worker = &node->workers[i];

        torc_worker_close(worker->worker); // trees and large values: the heap lives on
        sim_memory_free(worker->memory, worker->memory_bytes);
        for (uint32_t at = 0; at < worker->queue_count; at++) {
            free(worker->queue[(worker->queue_first + at) % TORC_COUNT_OF(worker->queue)]);
        }
        worker->queue_count = 0;
        letters_drop(worker);
        sim_stop(&worker->actor);
        worker->actor.paused_ns = 0;
    }
    for (uint32_t i = 0; i <= SIM_SHARDS_MAX; i++) { // the dead read nothing
        sim->servers[i].until_ns =
            sim->servers[i].node == node->number ? 0 : sim->servers[i].until_ns;
    }
    sim_stop(&node->thread);
    node->thread.paused_ns = 0;
    sim_memory_free(node->sessions_memory, node->sessions_bytes);
    sim_memory_free(node->handover_memory, node->handover_bytes);
    if (node->council != NULL) {
        sim_memory_free(node->council_memory, node->council_bytes);
        node->council = NULL;
    }
    if (node->control.attached && node->old_chan == NULL) {
        node->old_chan = node->chan;
        node->old_chan_bytes = node->chan_bytes;
    } else {
        sim_memory_free(node->chan, node->chan_bytes);
    }
    node->up = false;
    node->chan = NULL;
    sim_control_wake(node, sim->now_ns + 50 * SIM_US);
}

// `torc serve`: starts what died, when it is time.
void sim_node_parent(struct sim_node *node)
{
    if (!node->powered) {
        return;
    }
    if (!node->up && node->start_dataplane_ns <= sim->now_ns) {
        node->start_dataplane_ns = UINT64_MAX;
        sim_node_start(node);
    }
    if (node->control.state == SIM_CONTROL_DEAD && node->start_control_ns <= sim->now_ns) {
        node->start_control_ns = UINT64_MAX;
        sim_control_start(node);
    }
}

// -- Packets --------------------------------------------------------------------------------------

void sim_node_packet(struct sim_node *node, struct sim_packet *packet)
{
    uint32_t index = 0;
    struct sim_worker *worker;

    if (!node->up) {
        free(packet);
        return;
    }
    if (sim->config.steered) {
        index = (uint32_t)(packet->to_port - SIM_BASE_PORT) % node->worker_count;
    } else {
        index = (packet->from * 7u) % node->worker_count;
    }
    worker = &node->workers[index];
    if (worker->queue_count == TORC_COUNT_OF(worker->queue)) {
        sim_cover(SIM_COVER_NET_QUEUE_FULL);
        free(packet);
        return;
    }
    worker->queue[(worker->queue_first + worker->queue_count) % TORC_COUNT_OF(worker->queue)] =
        packet;
    worker->queue_count++;
    sim_wake(&worker->actor, sim->now_ns + 500, SIM_EVENT_WORKER, node->index, index);
}

// -- Turns ----------------------------------------------------------------------------------------

void sim_worker_ring(struct sim_node *node, struct torc_chan_worker *page, uint32_t index)
{
    uint64_t now_ns = sim_local_ns(&node->clock);

    sim_wake(&node->workers[index].actor, sim->now_ns + WAKE_NS, SIM_EVENT_WORKER, node->index,
             index);
    torc_chan_rang(page, torc_chan_bell_ns(page, now_ns), now_ns);
}

static void node_ring(struct sim_node *node, const struct torc_turn *turn)
{
    if (turn->ring_control) {
        sim_control_wake(node, sim->now_ns + WAKE_NS);
    }
    if (turn->ring_sessions) {
        sim_wake(&node->thread, sim->now_ns + WAKE_NS, SIM_EVENT_THREAD, node->index, 0);
    }
    for (uint32_t i = 0; i < node->worker_count; i++) {
        if ((turn->ring_workers[0] & UINT64_C(1) << i) != 0) {
            sim_worker_ring(node, torc_chan_worker_page(node->chan, i), i);
        }
    }
}

// When the worker has its next turn if nobody wakes it.
static void node_rest(struct sim_node *node, uint32_t index, const struct torc_turn *turn,
                      uint64_t cost_ns)
{
    struct sim_worker *worker = &node->workers[index];
    struct torc_chan_worker *page = torc_chan_worker_page(node->chan, index);
    uint64_t at_ns = sim->now_ns + cost_ns;

    if (!turn->more && worker->queue_count == 0 && worker->letter_count == 0) {
        atomic_store_explicit(&page->sleeping, 1, memory_order_relaxed);
        if (torc_worker_idle(worker->worker)) {
            at_ns = torc_max_u64(at_ns, sim_when(&node->clock, turn->deadline_ns));
            at_ns = torc_min_u64(at_ns, sim->now_ns + SIM_S); // it may say that it needs none
        }
    }
    sim_wake(&worker->actor, at_ns, SIM_EVENT_WORKER, node->index, index);
}

// Oracle "one server": in this turn the worker could have answered reads of these shards; nobody
// else may until its leases have ended, by their owner's own clock.
static void node_judge_servers(const struct sim_node *node, const struct torc_worker *worker)
{
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_worker_shard *shard = &worker->shards[i];
        struct sim_server *server = &sim->servers[shard->engine.shard];
        uint64_t until_ns = UINT64_MAX;

        if (shard->replica == NULL || !shard->readable || worker->quiescing) {
            server->until_ns = server->node == node->number ? 0 : server->until_ns; // has let go
            continue;
        }
        if (server->node != 0 && server->node != node->number && sim->now_ns < server->until_ns) {
            sim_fail("one server: node %u may read shard %u, and node %u may for %u ns more",
                     (unsigned)node->number, (unsigned)shard->engine.shard, (unsigned)server->node,
                     (unsigned)(server->until_ns - sim->now_ns));
        }
        for (uint32_t at = 0; at < TORC_REPLICA_PEERS_MAX; at++) {
            const struct torc_replica_peer *peer = &shard->replica->machine.peers[at];

            if (peer->node != 0 && (peer->role == TORC_REPLICA_PEER_MEMBER || peer->proposed)) {
                until_ns = torc_min_u64(until_ns, peer->lease.until_ns);
            }
        }
        *server = (struct sim_server){
            .node = node->number,
            .until_ns = until_ns == UINT64_MAX ? 0 : sim_when(&node->clock, until_ns)};
    }
}

// A host with more to do than cores: for some milliseconds another has this one. True: now.
static bool node_jitters(struct sim_node *node, uint32_t index)
{
    struct sim_worker *worker = &node->workers[index];
    uint64_t mean_ns = sim->config.jitter_ms * SIM_MS;
    bool now = worker->jitter_ns != 0 && sim->now_ns >= worker->jitter_ns;

    if (mean_ns == 0 || sim->quiet) {
        return false;
    }
    if (now || worker->jitter_ns == 0) {
        worker->jitter_ns = sim->now_ns + torc_rng_below(&sim->rng, 2 * mean_ns);
    }
    if (now) {
        sim_cover(SIM_COVER_FAULT_JITTER);
        sim_calm_upset(node);
        worker->stalled_ns = sim_local_ns(&node->clock);
        sim_wake(&worker->actor, sim->now_ns + 4 * SIM_MS + torc_rng_below(&sim->rng, 6 * SIM_MS),
                 SIM_EVENT_WORKER, node->index, index);
    }
    return now;
}

// Empty again: the frames that the turn before filled.
static void turn_frames(const struct sim_node *node, struct torc_frame_tx *tx, uint32_t used)
{
    for (uint32_t i = 0; i < used; i++) {
        tx[i] = (struct torc_frame_tx){.bytes = sim->tx_memory + (uint64_t)i * SIM_FRAME_BYTES,
                                       .room = node->port.mtu + 18u};
    }
}

void sim_node_turn(struct sim_node *node, uint32_t index)
{
    static struct torc_frame_tx tx[TORC_TURN_TX_MAX];
    static struct torc_frame_rx rx[TORC_TURN_RX_MAX];
    struct sim_packet *taken[TORC_TURN_RX_MAX];
    uint32_t taken_count = 0;
    struct sim_worker *worker = &node->workers[index];
    struct torc_turn turn = {.now_ns = sim_local_ns(&node->clock),
                             .wall_us = sim_wall_us(&node->clock),
                             .rx = rx,
                             .tx = tx,
                             .tx_room = TORC_TURN_TX_MAX};

    if (node_jitters(node, index)) {
        return;
    }
    if (worker->stalled_ns != 0 && TORC_BUG(NOW_BEFORE_POLL)) { // the stall came between the two
        turn.now_ns = worker->stalled_ns;
    }
    worker->stalled_ns = 0;
    atomic_store_explicit(&torc_chan_worker_page(node->chan, index)->sleeping, 0,
                          memory_order_relaxed);
    turn_frames(node, tx, sim->tx_used);
    while (worker->queue_count > 0 && taken_count < TORC_TURN_RX_MAX) {
        struct sim_packet *packet = worker->queue[worker->queue_first];

        worker->queue_first = (worker->queue_first + 1) % TORC_COUNT_OF(worker->queue);
        worker->queue_count--;
        rx[taken_count] =
            (struct torc_frame_rx){.bytes = packet->bytes, .byte_count = packet->byte_count};
        taken[taken_count++] = packet;
    }
    turn.rx_count = taken_count;
    turn.rx_waiting = worker->queue_count;
    torc_worker_turn(worker->worker, &turn);
    node_judge_servers(node, worker->worker);
    sim_ghost_turn(node, worker->worker);
    sim_calm_turn(node, worker->worker);
    sim_cover_add(SIM_COVER_MAP_OWED, worker->worker->map_owed ? 1 : 0);
    sim_hash((uint64_t)turn.rx_count << 8 ^ turn.tx_count);
    for (uint32_t i = 0; i < turn.tx_count; i++) {
        sim_net_from_node(node, &tx[i]);
    }
    sim->tx_used = turn.tx_count;
    for (uint32_t i = 0; i < taken_count; i++) {
        free(taken[i]);
    }
    node_ring(node, &turn);
    // Who waits for the disk may spin: less often here than there.
    worker->spins = turn.more && turn.rx_count + turn.tx_count == 0 ? worker->spins + 1 : 0;
    node_rest(node, index, &turn,
              TURN_NS + UINT64_C(300) * (turn.rx_count + turn.tx_count) +
                  torc_min_u64(worker->spins, 30) * 3000);
}

void sim_node_thread(struct sim_node *node)
{
    struct torc_sessions_step step = {.now_ns = sim_local_ns(&node->clock),
                                      .wall_us = sim_wall_us(&node->clock)};
    uint64_t at_ns;

    for (uint32_t i = 0; i < sizeof(step.random); i += 8) {
        uint64_t word = torc_rng_next(&sim->rng);

        memcpy(step.random + i, &word, sizeof(word));
    }
    atomic_store_explicit(torc_sessions_sleeping(node->sessions), 0, memory_order_relaxed);
    torc_sessions_step(node->sessions, &step);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        if ((step.ring_workers[0] & UINT64_C(1) << i) != 0) {
            sim_worker_ring(node, torc_chan_worker_page(node->chan, i), i);
        }
    }
    atomic_store_explicit(torc_sessions_sleeping(node->sessions), 1, memory_order_relaxed);
    at_ns = sim->now_ns + 50 * SIM_US;
    if (!step.more && !torc_sessions_pending(node->sessions, step.now_ns)) {
        at_ns = torc_max_u64(at_ns, sim_when(&node->clock, step.deadline_ns));
        at_ns = torc_min_u64(at_ns, sim->now_ns + IDLE_NS);
    }
    sim_wake(&node->thread, at_ns, SIM_EVENT_THREAD, node->index, 0);
}

static uint32_t node_loads(const struct torc_worker *worker)
{
    uint32_t count = 0;

    for (uint32_t i = 0; worker->replicas.loads != NULL && i < TORC_WORKER_LOADS; i++) {
        count += worker->replicas.loads[i].shard != 0 ? 1 : 0;
    }
    return count;
}

static void node_tell_log(const struct sim_node *node, const struct torc_worker *worker)
{
    sim_story("node %u  worker %u: log: next block %u, durable %u%s, %u bases taken",
              (unsigned)node->number, (unsigned)worker->index, (unsigned)worker->log.next_sequence,
              (unsigned)worker->log.durable, worker->log.failed ? ", failed" : "",
              (unsigned)node_loads(worker));
}

// What a primary knows of the others, for people.
static void node_tell_peers(const struct sim_node *node, const struct torc_replica *machine)
{
    sim_story("node %u  shard %u: health %x, proposal %s, transfer to %u, %u are wished, read at "
              "%" PRIx64,
              (unsigned)node->number, (unsigned)machine->shard, (unsigned)machine->health,
              machine->proposal.open ? "open" : "none", (unsigned)machine->transfer_node,
              (unsigned)machine->want.node_count, machine->read_hlc);
    for (uint32_t i = 0; i < machine->peer_count; i++) {
        const struct torc_replica_peer *peer = &machine->peers[i];

        sim_story("node %u  shard %u: of node %u: role %u%s, copy %" PRIx64 ", says boot %" PRIu64
                  " copy %" PRIx64 " received %u durable %u, lease %s, ceiling %" PRIx64 "%s%s%s",
                  (unsigned)node->number, (unsigned)machine->shard, (unsigned)peer->node,
                  (unsigned)peer->role, peer->proposed ? ", proposed" : "", peer->copy,
                  peer->acked_boot, peer->acked_copy, (unsigned)peer->received_lsn,
                  (unsigned)peer->durable_lsn,
                  machine->now_ns < peer->lease.until_ns ? "held" : "lapsed", peer->lease.ceiling,
                  peer->usable ? ", usable" : "", peer->needs_base ? ", needs a base" : "",
                  peer->claimed ? ", claimed" : "");
        if (peer->stream != TORC_REPLICA_STREAM_NONE) {
            sim_story("node %u  shard %u: to node %u a base, state %u, from %u to %u, pieces %u%s "
                      "next %u acknowledged %u",
                      (unsigned)node->number, (unsigned)machine->shard, (unsigned)peer->node,
                      (unsigned)peer->stream, (unsigned)peer->base_lsn, (unsigned)peer->end_lsn,
                      (unsigned)peer->piece_count, peer->piece_known ? "" : " (so far)",
                      (unsigned)peer->piece_next, (unsigned)peer->piece_acked);
        }
    }
}

static void node_tell_base(const struct sim_node *node, const struct torc_worker_replica *replica)
{
    const struct torc_replica *machine = &replica->machine;

    sim_story(
        "node %u  shard %u: %s base%s%s%s from %u to %u, durable to %u, checkpoint %u kept at %u",
        (unsigned)node->number, (unsigned)machine->shard, machine->has_base ? "a" : "no",
        machine->base_loading ? ", loading" : "", replica->base_wanted ? ", wanted" : "",
        machine->base_durable ? ", durable" : "", (unsigned)machine->base_lsn,
        (unsigned)machine->base_end_lsn, (unsigned)machine->durable_lsn,
        (unsigned)replica->kept_checkpoint, (unsigned)replica->kept_lsn);
}

// Where its replicas stand, for people.
static void node_tell_replicas(const struct sim_node *node, const struct torc_worker *worker)
{
    static const char *const roles[] = {"learner", "backup", "candidate", "active"};

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_worker_shard *shard = &worker->shards[i];
        const struct torc_replica *machine;

        if (shard->replica == NULL) {
            continue;
        }
        machine = &shard->replica->machine;
        sim_story("node %u  shard %u: %s in epoch %u of node %u, %s, log to %u, committed %u, "
                  "applied %u, %s",
                  (unsigned)node->number, (unsigned)shard->engine.shard, roles[machine->role],
                  (unsigned)machine->epoch, (unsigned)machine->configuration.primary_node,
                  machine->synced ? "synced" : "not synced", (unsigned)machine->last_lsn,
                  (unsigned)machine->commit_lsn, (unsigned)machine->applied_lsn,
                  shard->readable ? "can be read" : "cannot be read");
        if (machine->role == TORC_REPLICA_ACTIVE) {
            node_tell_peers(node, machine);
        } else if (machine->role == TORC_REPLICA_LEARNER) {
            node_tell_base(node, shard->replica);
        }
    }
}

// How far its worker's clocks are from the time of day, for people.
static void node_tell_clock(const struct sim_node *node, const struct torc_worker *worker)
{
    const struct torc_council *council = worker->replicas.council;
    int64_t real_us = SIM_WALL_ZERO_US + (int64_t)(sim->now_ns / 1000);
    int64_t now_us = (int64_t)(worker->now_ns / 1000);
    int64_t median_us = council == NULL ? TORC_WALL_UNKNOWN : atomic_load(&council->median_us);

    sim_story("node %u  worker %u: clock %+" PRId64 " us, stamps by %+" PRId64
              " us, highest stamp %+" PRId64 " us",
              (unsigned)node->number, (unsigned)worker->index, sim_wall_off_us(&node->clock),
              (int64_t)worker->wall_us - real_us, (int64_t)torc_hlc_us(worker->pool.hlc) - real_us);
    if (median_us != TORC_WALL_UNKNOWN) {
        sim_story("node %u  worker %u: the nodes' clock %+" PRId64 " us", (unsigned)node->number,
                  (unsigned)worker->index, median_us + now_us - real_us);
    }
}

// What it dropped, for people.
void sim_node_tell(const struct sim_node *node)
{
    if (node->control.checkpoints != NULL && node->control.state == SIM_CONTROL_SERVING) {
        struct torc_checkpoints_numbers made;

        torc_checkpoints_numbers(node->control.checkpoints, &made);
        sim_story("node %u  checkpoints: %u wanted, %u kept, %u given up: %s",
                  (unsigned)node->number, (unsigned)made.wanted, (unsigned)made.kept,
                  (unsigned)made.failures, made.failure.text);
    }
    if (node->up) {
        node_count(node);
    }
    for (uint32_t i = 0; node->up && i < node->worker_count; i++) {
        const struct torc_stats *stats = torc_worker_stats(node->workers[i].worker);

        node_tell_clock(node, node->workers[i].worker);
        node_tell_log(node, node->workers[i].worker);
        node_tell_replicas(node, node->workers[i].worker);
        for (uint32_t reason = 1; reason < TORC_DROP_COUNT; reason++) {
            if (torc_stats_get(&stats->drops[reason]) > 0) {
                sim_story("node %u  worker %u dropped %" PRIu64 ": %s", (unsigned)node->number,
                          (unsigned)i, torc_stats_get(&stats->drops[reason]),
                          torc_drop_name((enum torc_drop)reason));
            }
        }
    }
}

// -- At the end -----------------------------------------------------------------------------------

bool sim_node_serves(const struct sim_node *node)
{
    for (uint32_t i = 0; i < node->worker_count; i++) {
        const struct sim_worker *worker = &node->workers[i];

        // Who was suspended takes the first packets after it for as old as the suspension was
        // long, and refuses them by their deadlines: a moment later that is over.
        if (!node->up || !worker->worker->serving ||
            worker->actor.paused_ns + WOKEN_NS > sim->now_ns) {
            return false;
        }
    }
    return node->control.state == SIM_CONTROL_SERVING;
}

// What no shard has is free: also what those had that are gone.
static void node_judge_chunks(const struct sim_node *node, const struct torc_worker *worker)
{
    uint32_t used = worker->chunks.chunk_count - torc_chunk_pool_free(&worker->chunks);
    uint32_t known = 0;

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_tree *tree = &worker->shards[i].engine.tree;

        known += worker->shards[i].engine.shard == 0
                     ? 0
                     : tree->chunks.chunk_count + tree->guide.chunk_count;
    }
    if (used != known) {
        sim_fail("node %u, worker %u: %u chunks are used, its shards have %u",
                 (unsigned)node->number, (unsigned)worker->index, (unsigned)used, (unsigned)known);
    }
}

// Invariants that the code offers, and tables that must be empty when nobody wants anything.
void sim_node_judge(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct torc_worker *worker = node->workers[i].worker;
        struct torc_fail why;

        for (uint32_t at = 0; at < worker->shard_count; at++) {
            const struct torc_shard *shard = &worker->shards[at].engine;

            if (shard->shard == 0) {
                continue;
            }
            if (torc_shard_check(shard, &why) != TORC_ERR_OK ||
                torc_tree_check(&shard->tree, &why) != TORC_ERR_OK) {
                sim_fail("node %u, worker %u: %s", (unsigned)node->number, (unsigned)i, why.text);
            }
        }
        if (worker->gathers_used > 0) {
            sim_fail("node %u, worker %u: %u packets of writes wait for ever",
                     (unsigned)node->number, (unsigned)i, (unsigned)worker->gathers_used);
        }
        node_judge_chunks(node, worker);
        if (torc_heap_check(&node->workers[i].heap) != NULL) {
            sim_fail("node %u, worker %u: heap: %s", (unsigned)node->number, (unsigned)i,
                     torc_heap_check(&node->workers[i].heap));
        }
    }
}
