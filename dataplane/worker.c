// Torc dataplane: a worker's memory, its life and its turn; see worker.h.
#include "dataplane/worker_state.h"

#include <string.h>

#define CARVE_ALIGN 64u
// Packets of ranges a turn, some 10 us: they leave at its end, and point requests wait for it.
#define SLICES 8u
// Small work that need not be done each turn.
#define HOUSEKEEP_NS       UINT64_C(10000000)
#define GAUGES_NS          UINT64_C(200000000)
#define RING_SESSIONS_NS   UINT64_C(1000000) // the session thread is woken at most that often
#define CHECKPOINT_LOOK_NS UINT64_C(1000000)
#define MAP_AGAIN_NS       UINT64_C(1000000) // when control lost its processor amid a change
// What an idle worker does for its trees (storage/tree.h, torc_tree_order): about 17 us in 10 ms,
// so that it stays idle and a packet hardly ever waits for it. 10 M records take 100 s.
#define ORDER_NS      UINT64_C(10000000)
#define ORDER_LEAVES  32u
#define SLOT_SHARE    4u   // write slots a gather
#define REPLAY_SHARE  8u   // slots that replay has beside them: see torc_worker_note_commits
#define SHIPPED_BYTES 120u // a record without its value (storage/shipped.h)

_Static_assert(offsetof(struct torc_worker_shard, engine) == 0, "an engine's shard is at hand");

// -- Memory ---------------------------------------------------------------------------------------

struct worker_carve {
    unsigned char *base; // NULL: only counting
    uint64_t used;
};

static void *carve(struct worker_carve *carve, uint64_t bytes)
{
    void *at = carve->base == NULL ? NULL : carve->base + carve->used;

    carve->used += (bytes + CARVE_ALIGN - 1) & ~(uint64_t)(CARVE_ALIGN - 1);
    return at;
}

static void limit_default(uint32_t *limit, uint32_t value)
{
    *limit = *limit == 0 ? value : *limit;
}

static void limits_defaults(struct torc_session_limits *limits)
{
    limit_default(&limits->core_ops, 256);
    limit_default(&limits->cursors, 16);
    limit_default(&limits->packet_ops, TORC_PACKET_OPS_MAX);
    limit_default(&limits->packets, 64);
    limit_default(&limits->fragments, 16);
    limit_default(&limits->write_window, TORC_SHARD_WINDOW_MAX);
    limit_default(&limits->half_open, TORC_SESSION_HALF_MAX);
    limit_default(&limits->idle_s, 600);
    limit_default(&limits->age_s, 3600);
    limit_default(&limits->deadline_ms_max, 10000);
    torc_assert(limits->packet_ops <= TORC_PACKET_OPS_MAX);
    torc_assert(limits->half_open <= TORC_SESSION_HALF_MAX);
}

static void worker_defaults(struct torc_worker_config *config)
{
    config->shards_max = config->shards_max == 0 ? TORC_CHAN_SHARDS_MAX : config->shards_max;
    config->gathers_max = config->gathers_max == 0 ? 4096 : config->gathers_max;
    config->jobs_max = config->jobs_max == 0 ? 1024 : config->jobs_max;
    config->fragment_pool_bytes =
        config->fragment_pool_bytes == 0 ? 64u << 20 : config->fragment_pool_bytes;
    config->session_message_bytes =
        config->session_message_bytes == 0 ? 4u << 20 : config->session_message_bytes;
    config->completion_bytes = config->completion_bytes == 0 ? 32u << 20 : config->completion_bytes;
    config->shipped_bytes = config->shipped_bytes == 0 ? 24u << 20 : config->shipped_bytes;
    config->log_in_flight_max = config->log_in_flight_max == 0 ? 4 : config->log_in_flight_max;
    config->control_grace_ms = config->control_grace_ms == 0 ? 500 : config->control_grace_ms;
    config->queue_target_us = config->queue_target_us == 0 ? 100 : config->queue_target_us;
    config->unproved_answers_max =
        config->unproved_answers_max == 0 ? 20000 : config->unproved_answers_max;
    config->handshakes_max = config->handshakes_max == 0 ? 50 : config->handshakes_max;
    limits_defaults(&config->limits);
}

static struct torc_shard_pool_config worker_pool_config(const struct torc_worker_config *config)
{
    uint64_t completion_bytes =
        torc_max_u64(config->completion_bytes, TORC_COMPLETION_POOL_BYTES_MIN);

    return (struct torc_shard_pool_config){
        .slots_max = config->gathers_max * SLOT_SHARE,
        .waiting_max = config->gathers_max,
        .own_max = (config->replicas ? TORC_SHARD_OWN : TORC_SHARD_OWN_ALONE) * config->shards_max,
        .replay_max = config->replicas ? config->gathers_max * REPLAY_SHARE : 0,
        .completion_bytes = completion_bytes,
        // No principal has more than it leaves to others; CLEAR mode's, 0, has no share.
        .principal_ppm = 500000,
        .dedup_ttl_s = 120,
        .seed = config->seed,
        .undo = config->undo};
}

// Places of the table of writes that wait: a power of two, one a write at least.
static uint32_t worker_waits(const struct torc_shard_pool_config *config)
{
    uint32_t places = 64;

    while (places < config->waiting_max) {
        places *= 2;
    }
    return places;
}

static struct torc_shipped_config worker_shipped_config(const struct torc_worker_config *config)
{
    uint32_t third = config->shipped_bytes / 3;

    return (struct torc_shipped_config){.value_bytes = config->shipped_bytes - third,
                                        .record_max = third / SHIPPED_BYTES,
                                        .shard_max = config->shards_max};
}

// Parts of a worker's memory that others lay out.
struct worker_parts {
    void *pool;
    void *jobs;
    void *fragments;
    void *peers;
    void *shipped;
    void *confirm;
    unsigned char *loads;
};

// Nothing where no shard can have other members.
static void worker_carve_replicas(struct torc_worker *worker, struct worker_carve *memory,
                                  const struct torc_worker_config *config,
                                  struct worker_parts *parts)
{
    struct torc_shipped_config shipped_config = worker_shipped_config(config);
    uint32_t led_max = torc_worker_watch_shards(config->count, config->shards_max);
    struct torc_worker_watch *watch;
    struct torc_worker_led *led;
    void *watch_memory;

    if (!config->replicas) {
        return;
    }
    worker->replicas.all = carve(memory, config->shards_max * sizeof(struct torc_worker_replica));
    parts->shipped = carve(memory, torc_shipped_bytes(&shipped_config));
    worker->replicas.streams =
        carve(memory, TORC_WORKER_STREAMS * sizeof(struct torc_worker_stream));
    worker->replicas.loads = carve(memory, TORC_WORKER_LOADS * sizeof(struct torc_worker_load));
    parts->loads = carve(memory, TORC_WORKER_LOADS * torc_base_reader_bytes());
    worker->replicas.actions = carve(memory, sizeof(struct torc_replica_actions));
    if (config->confirm_reads) {
        worker->kept_bytes = torc_worker_kept_bytes(config);
        worker->confirm = carve(memory, sizeof(*worker->confirm));
        worker->kept = carve(memory, (uint64_t)TORC_WORKER_KEPT * worker->kept_bytes);
        parts->confirm = carve(memory, torc_confirm_bytes(TORC_WORKER_KEPT));
    }
    if (config->index != 0) {
        return;
    }
    watch = carve(memory, sizeof(*watch));
    led = carve(memory, led_max * sizeof(*led));
    watch_memory = carve(memory, torc_worker_watch_bytes(config->count, config->shards_max));
    worker->replicas.watch = watch;
    if (watch != NULL) { // else it is counting
        watch->led_max = led_max;
        watch->led = led;
        watch->memory = watch_memory;
    }
}

// Gives every table its place; the same code counts and cuts.
static void worker_carve(struct torc_worker *worker, struct worker_carve *memory,
                         const struct torc_worker_config *config, struct worker_parts *parts)
{
    struct torc_shard_pool_config pool_config = worker_pool_config(config);
    uint32_t shards = config->shards_max;

    worker->addresses = carve(memory, TORC_WORKER_ADDRESSES * sizeof(struct torc_bucket));
    worker->strangers.lines = carve(memory, TORC_STRANGERS_BYTES);
    worker->admit = carve(memory, sizeof(*worker->admit));
    worker->heard = carve(memory, TORC_ADMIT_SLOTS * sizeof(struct torc_answer_to));
    worker->shards = carve(memory, shards * sizeof(struct torc_worker_shard));
    worker->shard_order = carve(memory, shards * sizeof(uint32_t));
    worker->shard_starts = carve(memory, shards * sizeof(uint64_t));
    worker->get_counts = carve(memory, (uint64_t)shards * sizeof(uint32_t));
    worker->replicas.numbers = carve(memory, shards * sizeof(uint32_t));
    worker_carve_replicas(worker, memory, config, parts);
    worker->replay = carve(memory, torc_replay_bytes(shards));
    worker->map.entries = carve(memory, TORC_CHAN_MAP_ENTRIES * sizeof(struct torc_map_entry));
    worker->nodes = carve(memory, TORC_CHAN_NODES_MAX * sizeof(struct torc_chan_node));
    worker->late = carve(memory, TORC_WORKER_LATE * sizeof(struct torc_packet));
    worker->gets = carve(memory, TORC_WORKER_GETS * sizeof(struct torc_get));
    worker->get_keys = carve(memory, TORC_WORKER_GETS * sizeof(uint64_t));
    worker->hits = carve(memory, TORC_WORKER_GETS * sizeof(struct torc_tree_hit));
    worker->gathers = carve(memory, config->gathers_max * sizeof(struct torc_gather));
    worker->waits = carve(memory, (uint64_t)torc_shard_pool_slots(&pool_config) *
                                      sizeof(struct torc_owed_wait));
    worker->wait_table = carve(memory, (uint64_t)worker_waits(&pool_config) * sizeof(uint32_t));
    worker->held = carve(memory, (uint64_t)TORC_WORKER_HELD * TORC_WORKER_HELD_BYTES);
    worker->held_free = carve(memory, TORC_WORKER_HELD * sizeof(uint32_t));
    worker->outcomes = carve(memory, TORC_WORKER_OUTCOMES * sizeof(struct torc_shard_outcome));
    worker->rows = carve(memory, sizeof(struct torc_rows_builder));
    worker->pairs = carve(memory, TORC_WORKER_PAIRS * sizeof(struct torc_tree_pair));
    worker->text = carve(memory, TORC_WORKER_TEXT_BYTES);
    parts->pool = carve(memory, torc_shard_pool_bytes(&pool_config));
    parts->jobs = carve(memory, torc_jobs_bytes(config->jobs_max));
    parts->fragments = carve(memory, torc_fragments_bytes(config->fragment_pool_bytes));
    parts->peers = carve(memory, torc_worker_peers_bytes(config));
}

uint64_t torc_worker_bytes(const struct torc_worker_config *config)
{
    struct torc_worker_config with_defaults = *config;
    struct torc_worker nobody;
    struct worker_carve memory = {.base = NULL};
    struct worker_parts parts = {0};

    worker_defaults(&with_defaults);
    (void)carve(&memory, sizeof(struct torc_worker));
    worker_carve(&nobody, &memory, &with_defaults, &parts);
    return memory.used;
}

// -- Life -----------------------------------------------------------------------------------------

static enum torc_err worker_check(const struct torc_worker_config *config, uint64_t memory_bytes,
                                  struct torc_fail *why)
{
    uint64_t need_bytes = torc_worker_bytes(config);

    if (config->count == 0 || config->count > TORC_WORKERS_MAX || config->index >= config->count) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "worker %" PRIu32 " of %" PRIu32 ": at most %u", config->index,
                         config->count, TORC_WORKERS_MAX);
    }
    if (config->port_count == 0 || config->port_count > TORC_WORKER_PORTS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%" PRIu32 " ports: 1 to %u",
                         config->port_count, TORC_WORKER_PORTS_MAX);
    }
    for (uint32_t i = 0; i < config->port_count; i++) {
        if (config->ports[i].mtu < 1280 || config->ports[i].mtu > 9216) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "port %" PRIu32 " has an MTU of %u: 1280 to 9216", i,
                             config->ports[i].mtu);
        }
    }
    if (config->base_port == 0 || config->base_port > UINT16_MAX - config->count) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "base port %u for %" PRIu32 " workers",
                         config->base_port, config->count);
    }
    if (memory_bytes < need_bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "a worker needs %" PRIu64 " bytes, the memory has %" PRIu64, need_bytes,
                         memory_bytes);
    }
    return TORC_ERR_OK;
}

static void worker_ports(struct torc_worker *worker)
{
    struct torc_worker_config *config = &worker->config;
    struct torc_path path = {.is_ipv6 = config->ipv6_prefix != 0 ? 1 : 0};
    uint32_t payload;

    worker->payload_max = TORC_PAYLOAD_MAX;
    memcpy(worker->ports, config->ports, config->port_count * sizeof(worker->ports[0]));
    config->ports = worker->ports;
    torc_ip_map(worker->ip4, config->ipv4);
    memcpy(worker->ip6, config->ipv6, sizeof(worker->ip6));
    for (uint32_t i = 0; i < config->port_count; i++) {
        struct torc_frame_local *local = &worker->locals[i];

        memcpy(local->mac, worker->ports[i].mac, sizeof(local->mac));
        local->has_ipv4 = config->ipv4_prefix != 0 ? 1 : 0;
        local->has_ipv6 = config->ipv6_prefix != 0 ? 1 : 0;
        memcpy(local->ipv4, config->ipv4, sizeof(local->ipv4));
        memcpy(local->ipv6, config->ipv6, sizeof(local->ipv6));
        local->port_first = config->base_port;
        local->port_count = (uint16_t)config->count;
        path.port = (uint8_t)i;
        payload = torc_answer_payload_max(worker, &path);
        worker->payload_max = payload < worker->payload_max ? payload : worker->payload_max;
    }
}

static enum torc_err worker_attach(struct torc_worker *worker, struct torc_fail *why)
{
    struct torc_worker_config *config = &worker->config;
    struct torc_sessions *sessions = config->sessions;
    enum torc_err err = torc_chan_attach(&worker->rings, TORC_CHAN_DATAPLANE, config->chan,
                                         config->chan_bytes, config->index, why);

    for (uint32_t ring = 0; ring < TORC_SESSION_RING_OUT && err == TORC_ERR_OK; ring++) {
        err = torc_spsc_attach(
            &worker->to_thread[ring], TORC_SPSC_PRODUCER,
            torc_session_ring_at(sessions, config->index, (enum torc_session_ring)ring),
            sessions->ring_bytes, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_spsc_attach(&worker->from_thread, TORC_SPSC_CONSUMER,
                               torc_session_ring_at(sessions, config->index, TORC_SESSION_RING_OUT),
                               sessions->ring_bytes, why);
    }
    for (uint32_t other = 0; other < config->count && err == TORC_ERR_OK; other++) {
        if (other == config->index) {
            continue;
        }
        err = torc_handover_attach(config->handover, &worker->handed_out[other], TORC_SPSC_PRODUCER,
                                   config->index, other, why);
        if (err == TORC_ERR_OK) {
            err = torc_handover_attach(config->handover, &worker->handed_in[other],
                                       TORC_SPSC_CONSUMER, other, config->index, why);
        }
    }
    torc_assert(config->replicas == (config->council != NULL));
    worker->replicas.council = config->council;
    if (err == TORC_ERR_OK && config->council != NULL) {
        err = torc_worker_watch_attach(worker, why);
    }
    return err;
}

// The undo window lies at the end of the pool's memory.
static void worker_ranges(struct torc_worker *worker, const unsigned char *pool,
                          uint64_t pool_bytes, uint64_t undo_bytes, const void *fragments)
{
    worker->ranges[0] =
        (struct torc_worker_range){pool, pool_bytes - undo_bytes, TORC_MEMORY_WRITES};
    worker->ranges[1] =
        (struct torc_worker_range){pool + pool_bytes - undo_bytes, undo_bytes, TORC_MEMORY_UNDO};
    worker->ranges[2] = (struct torc_worker_range){
        fragments, torc_fragments_bytes(worker->config.fragment_pool_bytes), TORC_MEMORY_FRAGMENTS};
}

const struct torc_stats *torc_worker_stats(const struct torc_worker *worker)
{
    return worker->stats;
}

void torc_worker_ranges(const struct torc_worker *worker,
                        struct torc_worker_range ranges[TORC_WORKER_RANGES])
{
    memcpy(ranges, worker->ranges, sizeof(worker->ranges));
}

static void worker_tables(struct torc_worker *worker, const struct worker_parts *parts)
{
    struct torc_worker_config *config = &worker->config;
    struct torc_shard_pool_config pool_config = worker_pool_config(config);

    struct torc_shipped_config shipped_config = worker_shipped_config(config);

    if (config->replicas) {
        torc_shipped_init(&worker->replicas.shipped, parts->shipped, &shipped_config);
        for (uint32_t i = 0; i < TORC_WORKER_LOADS; i++) {
            worker->replicas.loads[i].memory = parts->loads + i * torc_base_reader_bytes();
        }
    }
    torc_shard_pool_init(&worker->pool, parts->pool, &pool_config);
    worker_ranges(worker, parts->pool, torc_shard_pool_bytes(&pool_config),
                  torc_undo_bytes(&pool_config.undo), parts->fragments);
    torc_chunk_pool_init(&worker->chunks, config->chunk_base, config->chunk_first,
                         config->chunk_count);
    torc_jobs_init(&worker->jobs, parts->jobs, config->jobs_max, config->seed);
    torc_fragments_init(&worker->fragments, parts->fragments, config->fragment_pool_bytes,
                        config->session_message_bytes, config->seed);
    torc_map_init(&worker->map, worker->map.entries, TORC_CHAN_MAP_ENTRIES);
    torc_worker_confirm_init(worker, parts->confirm);
    worker->gathers_max = config->gathers_max;
    for (uint32_t i = 0; i < config->gathers_max; i++) {
        worker->gathers[i].next = i + 1 < config->gathers_max ? i + 1 : TORC_WORKER_NONE;
    }
    worker->wait_mask = worker_waits(&pool_config) - 1;
    memset(worker->wait_table, 0xff, (uint64_t)worker_waits(&pool_config) * sizeof(uint32_t));
    worker->gather_free = 0;
    worker->ready_head = TORC_WORKER_NONE;
    worker->ready_tail = TORC_WORKER_NONE;
    for (uint32_t i = 0; i < TORC_WORKER_HELD; i++) {
        worker->held_free[i] = i;
    }
    worker->held_free_count = TORC_WORKER_HELD;
}

enum torc_err torc_worker_init(struct torc_worker **worker, void *memory, uint64_t memory_bytes,
                               const struct torc_worker_config *config, struct torc_fail *why)
{
    struct worker_carve cut = {.base = memory};
    struct torc_worker *made = carve(&cut, sizeof(*made));
    struct worker_parts parts = {0};
    enum torc_err err = worker_check(config, memory_bytes, why);

    torc_assert((uintptr_t)memory % 4096 == 0);
    if (err != TORC_ERR_OK) {
        return err;
    }
    made->config = *config;
    worker_defaults(&made->config);
    worker_carve(made, &cut, &made->config, &parts);
    made->index = config->index;
    made->count = config->count;
    made->chan = config->chan;
    made->sessions = config->sessions;
    made->shards_max = made->config.shards_max;
    torc_strangers_init(&made->strangers, made->strangers.lines, made->config.unproved_answers_max);
    torc_admit_init(made->admit, (uint64_t)made->config.queue_target_us * 1000);
    worker_ports(made);
    err = worker_attach(made, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    made->stats = &made->rings.worker->stats;
    torc_worker_peers_init(made, parts.peers);
    made->replay =
        torc_replay_init(made->replay, torc_replay_bytes(made->shards_max), made->shards_max);
    worker_tables(made, &parts);
    torc_log_writer_init(&made->log, &made->rings.log, made->stats, made->config.log_in_flight_max);
    *worker = made;
    return TORC_ERR_OK;
}

void torc_worker_close(struct torc_worker *worker)
{
    if (!worker->recovered && !worker->replay_failed) {
        torc_replay_drop(worker->replay);
    }
    for (uint32_t i = 0; i < TORC_WORKER_LOADS && worker->replicas.loads != NULL; i++) {
        torc_worker_base_give_up(&worker->replicas.loads[i]);
    }
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        if (torc_worker_is_open(worker, i)) {
            torc_shard_drop(&worker->shards[i].engine);
        }
    }
    torc_undo_clear(&worker->pool.undo); // its large values are the heap's
    worker->shard_count = 0;
    worker->open_count = 0;
}

bool torc_worker_quiesced(const struct torc_worker *worker)
{
    return worker->quiesced;
}

// -- The turn -------------------------------------------------------------------------------------

// The HLC that most of the nodes hold, or 0.
static uint64_t turn_held_us(const struct torc_worker *worker, uint64_t now_ns)
{
    const struct torc_council *council = worker->replicas.council;
    int64_t held_us = council == NULL
                          ? TORC_WALL_UNKNOWN
                          : atomic_load_explicit(&council->held_us, memory_order_relaxed);
    int64_t now_us = (int64_t)(now_ns / 1000);

    return held_us == TORC_WALL_UNKNOWN || held_us <= -now_us ? 0 : (uint64_t)(held_us + now_us);
}

// H3.
static uint64_t turn_wall_us(struct torc_worker *worker, const struct torc_turn *turn)
{
    const struct torc_council *council = worker->replicas.council;
    int64_t median_us = council == NULL
                            ? TORC_WALL_UNKNOWN
                            : atomic_load_explicit(&council->median_us, memory_order_relaxed);

    struct torc_wall_look look = {.now_ns = turn->now_ns,
                                  .system_us = turn->wall_us,
                                  .stamped_us = torc_max_u64(torc_hlc_us(worker->pool.hlc),
                                                             turn_held_us(worker, turn->now_ns)),
                                  .median_us = median_us};

    return torc_wall_step(&worker->wall, &look);
}

static void turn_begin(struct torc_worker *worker, struct torc_turn *turn)
{
    torc_assert(turn->now_ns >= worker->now_ns);
    torc_assert(turn->rx_count <= TORC_TURN_RX_MAX);
    torc_assert(turn->tx_room >= TORC_TURN_TX_MIN);
    worker->turn = turn;
    worker->now_ns = turn->now_ns;
    worker->wall_us = turn_wall_us(worker, turn);
    worker->wall_s = turn->wall_us / 1000000u;
    worker->pool.wall_us = worker->wall_us;
    worker->published = false;
    worker->notified = false;
    worker->text_bytes = 0;
    turn->tx_count = 0;
    turn->deadline_ns = UINT64_MAX;
    turn->more = false;
    turn->busy = false;
    turn->futile = turn->rx_count > 0;
    turn->ring_control = false;
    turn->ring_sessions = false;
    memset(turn->ring_workers, 0, sizeof(turn->ring_workers));
    if (worker->reads_now > 0) {
        // They were answered in the last turn; its end is as near as their sending can be measured.
        torc_stats_add(&worker->stats->read_times.count, worker->reads_now);
        torc_stats_add(&worker->stats->read_times.sum_ns,
                       worker->reads_now * (turn->now_ns - worker->last_ns));
        torc_stats_add(
            &worker->stats->read_times.buckets[torc_stats_bucket(turn->now_ns - worker->last_ns)],
            worker->reads_now);
        worker->reads_now = 0;
    }
}

// Nothing is left that this node alone could end: what waits for other members is in the log.
static bool quiesce_is_settled(const struct torc_worker *worker)
{
    bool settled = worker->pool.waiting_count == 0;

    if (worker->log.failed) {
        return true;
    }
    for (uint32_t i = 0; i < worker->shard_count && settled; i++) {
        const struct torc_shard *engine = &worker->shards[i].engine;

        settled = worker->replicas.numbers[i] == 0 || worker->shards[i].replica != NULL ||
                  engine->applied_lsn + 1 == engine->next_lsn;
    }
    // H6: what this process alone has kept goes with it.
    return settled && torc_log_writer_settled(&worker->log) &&
           (worker->cluster.durability != TORC_DURABILITY_REPLICATED ||
            worker->log.ceiling_wanted <= worker->log.ceiling);
}

// A shard whose base lies in memory alone (J2). 0: none.
static uint32_t quiesce_base(const struct torc_worker *worker)
{
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_worker_replica *replica = worker->shards[i].replica;

        if (worker->replicas.numbers[i] != 0 && replica != NULL &&
            ((replica->base_wanted && !replica->machine.base_durable) ||
             replica->machine.base_loading)) {
            return worker->shards[i].engine.shard;
        }
    }
    return 0;
}

// Ends a clean stop when nothing is owed any more, or nothing can be paid.
static void turn_quiesce(struct torc_worker *worker)
{
    struct torc_evt event = {.kind = TORC_EVT_QUIESCED};

    if (!worker->quiescing || worker->quiesced || worker->gathers_used > 0 ||
        !quiesce_is_settled(worker)) {
        return;
    }
    if (torc_worker_note_commits(worker, true)) { // the next start has nothing to hold
        return;
    }
    event.role.shard = quiesce_base(worker);
    if (torc_worker_say(worker, &event)) {
        worker->quiesced = true;
        atomic_store_explicit(&worker->rings.worker->state, TORC_WORKER_QUIESCED,
                              memory_order_relaxed);
    }
}

static void turn_housekeep(struct torc_worker *worker)
{
    if (worker->now_ns - worker->housekept_ns >= HOUSEKEEP_NS || worker->log.failed) {
        worker->housekept_ns = worker->now_ns;
        torc_fragments_reclaim(&worker->fragments, worker->now_ns);
        torc_jobs_sweep(worker);
        torc_shard_pool_age(&worker->pool);
        torc_worker_sweep_writes(worker);
        torc_worker_open_shards(worker);
    }
    if (worker->now_ns - worker->gauged_ns >= GAUGES_NS) {
        worker->gauged_ns = worker->now_ns;
        torc_worker_gauges(worker);
        torc_worker_books(worker);
        torc_worker_pack_look(worker);
        if (worker->index == 0) {
            atomic_store_explicit(&worker->sessions->hlc, worker->pool.hlc, memory_order_relaxed);
        }
    }
}

// Puts leaves of the shards in order, in a turn that has nothing else to do.
static void turn_order(struct torc_worker *worker)
{
    if (worker->turn->busy || worker->gathers_used > 0 || worker->jobs.used > 0 ||
        !worker->serving || worker->quiescing || worker->now_ns - worker->ordered_ns < ORDER_NS) {
        return;
    }
    worker->ordered_ns = worker->now_ns;
    worker->order_settled = 0;
    while (worker->order_settled < worker->shard_count) {
        struct torc_shard *shard;

        worker->order_at = worker->order_at < worker->shard_count ? worker->order_at : 0;
        shard = &worker->shards[worker->order_at].engine;
        if (torc_worker_is_open(worker, worker->order_at) &&
            torc_tree_order(&shard->tree, ORDER_LEAVES)) {
            return;
        }
        worker->order_at++;
        worker->order_settled++;
    }
}

static void turn_wake_others(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    bool handed = (turn->ring_workers[0] | turn->ring_workers[1] | turn->ring_workers[2] |
                   turn->ring_workers[3]) != 0;

    if (!worker->published && !worker->notified && !handed) {
        return;
    }
    // Pairs with the fence of whoever is about to sleep (kit/chan.h).
    atomic_thread_fence(memory_order_seq_cst);
    turn->ring_control = worker->published && atomic_load_explicit(&worker->chan->control_sleeping,
                                                                   memory_order_relaxed) != 0;
    if (worker->notified && worker->now_ns - worker->rung_sessions_ns >= RING_SESSIONS_NS) {
        turn->ring_sessions =
            atomic_load_explicit(&worker->sessions->sleeping, memory_order_relaxed) != 0;
        worker->rung_sessions_ns = turn->ring_sessions ? worker->now_ns : worker->rung_sessions_ns;
    } else if (worker->notified) {
        worker->ring_owed = true;
    }
    for (uint32_t other = 0; handed && other < worker->count; other++) {
        uint64_t bit = UINT64_C(1) << other % 64;

        if ((turn->ring_workers[other / 64] & bit) != 0 &&
            !torc_chan_wants_bell(torc_chan_worker_page(worker->config.chan, other))) {
            turn->ring_workers[other / 64] &= ~bit;
        }
    }
}

// A bell that was held back because one had just been rung.
static void turn_ring_owed(struct torc_worker *worker)
{
    if (worker->ring_owed && worker->now_ns - worker->rung_sessions_ns >= RING_SESSIONS_NS) {
        worker->ring_owed = false;
        worker->notified = true;
    }
}

// When to be called again though nothing arrives.
static void turn_deadline(struct torc_worker *worker, bool checkpointing)
{
    struct torc_turn *turn = worker->turn;
    uint64_t deadline_ns = torc_log_writer_deadline_ns(&worker->log);
    bool opening = worker->recovered && !worker->serving;

    if (worker->gathers_used > 0 || worker->jobs.used > 0 || opening) {
        deadline_ns = torc_min_u64(deadline_ns, worker->now_ns + HOUSEKEEP_NS);
    }
    if (worker->fragments.units_used > 0 || worker->shard_count > 0) {
        deadline_ns = torc_min_u64(deadline_ns, worker->now_ns + 100 * HOUSEKEEP_NS);
    }
    if (checkpointing) {
        deadline_ns = torc_min_u64(deadline_ns, worker->now_ns + CHECKPOINT_LOOK_NS);
    }
    if (worker->serving && (worker->compact.more || worker->order_settled < worker->shard_count)) {
        deadline_ns = torc_min_u64(deadline_ns, worker->now_ns + ORDER_NS);
    }
    deadline_ns = torc_min_u64(deadline_ns, torc_worker_replicas_deadline_ns(worker));
    deadline_ns = torc_min_u64(deadline_ns, torc_worker_watch_deadline_ns(worker));
    deadline_ns = torc_min_u64(deadline_ns, torc_worker_confirm_deadline_ns(worker));
    deadline_ns = torc_min_u64(deadline_ns, torc_worker_peers_deadline_ns(worker));
    if (worker->ring_owed) {
        deadline_ns = torc_min_u64(deadline_ns, worker->rung_sessions_ns + RING_SESSIONS_NS);
    }
    if (worker->map_owed) {
        deadline_ns = torc_min_u64(deadline_ns, worker->now_ns + MAP_AGAIN_NS);
    }
    turn->deadline_ns = deadline_ns;
}

static bool worker_is_checkpointing(const struct torc_worker *worker)
{
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        if (worker->shards[i].checkpoint_number != 0) {
            return true;
        }
    }
    return false;
}

// What control says, what it made durable, and what follows for clients.
static void turn_control(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    uint64_t durable = worker->log.durable;

    torc_worker_take_marks(worker);
    torc_worker_map_step(worker);
    turn->more = torc_worker_take_orders(worker);
    turn->more = torc_worker_take_recovery(worker) || turn->more;
    torc_worker_hello_step(worker);
    if (!worker->serving) {
        torc_worker_open_shards(worker);
    }
    torc_worker_commit(worker);
    turn->busy = worker->log.durable != durable;
    turn->more = !torc_worker_send_ready(worker) || turn->more;
}

void torc_worker_turn(struct torc_worker *worker, struct torc_turn *turn)
{
    struct torc_stats *stats = worker->stats;
    uint64_t sealed = worker->log.next_sequence;
    bool checkpointing;
    bool compacting;

    turn_begin(worker, turn);
    turn_control(worker);
    turn_ring_owed(worker);
    torc_worker_send_notes(worker);
    if (worker->serving && worker->index == 0) {
        torc_worker_announce(worker);
    }
    torc_worker_replicas_begin(worker);
    torc_worker_post_take(worker);
    if (torc_unlikely(worker->past_until_ns != 0)) {
        torc_worker_past_on(worker);
    }
    torc_worker_receive(worker);
    torc_worker_confirm_ask(worker);
    torc_worker_watch_turn(worker);
    torc_worker_replicas_end(worker);
    torc_worker_peers_turn(worker);
    if (worker->cluster.durability != TORC_DURABILITY_DURABLE) {
        torc_worker_commit(worker);
    }
    turn->more = !torc_worker_send_ready(worker) || turn->more;
    if (torc_unlikely(torc_shard_look_is_due(&worker->pool))) {
        (void)torc_worker_note_commits(worker, false);
    }
    (void)torc_log_writer_step(&worker->log, worker->now_ns, worker->quiescing);
    worker->published = worker->published || worker->log.next_sequence != sealed;
    turn->more = torc_jobs_run(worker, SLICES) || turn->more;
    if (torc_unlikely(worker->admit->due_count > 0)) {
        torc_worker_tell(worker);
    }
    checkpointing = worker_is_checkpointing(worker);
    turn->more = (checkpointing && torc_worker_checkpoint_step(worker)) || turn->more;
    turn->more = torc_worker_pack_step(worker) || turn->more;
    turn_housekeep(worker);
    turn_quiesce(worker);
    turn_wake_others(worker);
    turn->soon = worker->cluster.durability == TORC_DURABILITY_DURABLE &&
                 torc_log_writer_soon(&worker->log, worker->now_ns);
    turn->busy = turn->busy || turn->tx_count > 0 || turn->more || worker->last_frames > 0 ||
                 worker->published;
    compacting = torc_worker_compact_step(worker, turn->busy);
    if (!compacting) {
        turn_order(worker);
    }
    turn_deadline(worker, checkpointing);
    torc_stats_add(&stats->counters[TORC_COUNTER_TURNS], 1);
    torc_stats_add(&stats->counters[TORC_COUNTER_TURNS_BUSY], turn->busy ? 1 : 0);
    atomic_store_explicit(&worker->rings.worker->turned_ns, worker->now_ns, memory_order_relaxed);
    // Release: pairs with the acquire of the session thread, which then knows that this worker
    // holds no pointer to a session that ended before.
    atomic_store_explicit(
        &worker->sessions->turns[worker->index],
        atomic_load_explicit(&worker->sessions->turns[worker->index], memory_order_relaxed) + 1,
        memory_order_release);
    worker->turn = NULL;
}

bool torc_worker_idle(struct torc_worker *worker)
{
    bool idle = torc_spsc_readable(&worker->rings.cmd, 1) == 0 &&
                torc_spsc_readable(&worker->rings.mark, 1) == 0 &&
                torc_spsc_readable(&worker->rings.in, 1) == 0 &&
                torc_spsc_readable(&worker->from_thread, 1) == 0 &&
                worker->ready_head == TORC_WORKER_NONE && worker->jobs.run_head == UINT32_MAX &&
                torc_worker_replicas_idle(worker) && torc_worker_watch_idle(worker);

    for (uint32_t from = 0; idle && from < worker->count; from++) {
        idle = from == worker->index || torc_spsc_readable(&worker->handed_in[from], 1) == 0;
    }
    return idle;
}
