// Torc dataplane: what control orders, and what it is told. See worker.h, kit/chan.h.
#include "dataplane/worker_state.h"

#include <string.h>

#define ORDERS_MAX 16u // a turn
#define MARKS_MAX  64u
// Longest that a client may ask for: a quarter of how long answers are remembered (REPLICATION.md,
// K1).
#define DEADLINE_SHARE 4u
#define DEDUP_TTL_S    120u

bool torc_worker_say(struct torc_worker *worker, const struct torc_evt *event)
{
    if (torc_spsc_writable(&worker->rings.evt, 1) == 0) {
        return false;
    }
    memcpy(torc_spsc_write_at(&worker->rings.evt, 0), event, sizeof(*event));
    torc_spsc_publish(&worker->rings.evt, 1);
    worker->published = true;
    return true;
}

static void order_alarm(struct torc_worker *worker, enum torc_err err, uint32_t shard,
                        const char *text, bool goes_on)
{
    struct torc_evt event = {.kind = TORC_EVT_ALARM};

    event.alarm.err = (uint32_t)err;
    event.alarm.shard = shard;
    event.alarm.goes_on = goes_on ? 1 : 0;
    (void)snprintf(event.alarm.text, sizeof(event.alarm.text), "%s", text);
    // A ring full of events that nobody reads needs no further alarm.
    (void)torc_worker_say(worker, &event);
}

void torc_worker_alarm(struct torc_worker *worker, enum torc_err err, uint32_t shard,
                       const char *text)
{
    order_alarm(worker, err, shard, text, true);
}

void torc_worker_not_ready(struct torc_worker *worker, uint32_t shard, const struct torc_fail *why)
{
    order_alarm(worker, why->err, shard, why->text, false);
}

// -- CONFIGURE ------------------------------------------------------------------------------------

// What ACCEPT says about this node; worker 0 tells the session thread.
static void order_identify(struct torc_worker *worker)
{
    struct torc_sessions *sessions = worker->sessions;
    const struct torc_cmd_configure *cluster = &worker->cluster;

    sessions->identity = (struct torc_sessions_identity){
        .cluster = cluster->cluster,
        .boot = cluster->boot,
        .key_count = cluster->key_count,
        .map_version = cluster->map_version,
        .node = cluster->node,
        .value_bytes_max = cluster->value_bytes_max,
        .sessions_max = cluster->sessions_max == 0 ? UINT32_MAX : cluster->sessions_max,
        .base_port = worker->config.base_port,
        .payload_max = (uint16_t)worker->payload_max,
        .message_bytes_max = worker->config.session_message_bytes,
        .limits = worker->config.limits,
        .durability = cluster->durability,
        .security = cluster->security};
    sessions->identity.limits.deadline_ms_max = worker->deadline_ms_max;
    memcpy(sessions->identity.secret, cluster->secret, sizeof(sessions->identity.secret));
    // Pairs with the acquire in session_accept.c: who sees `configured` sees the identity.
    atomic_store_explicit(&sessions->configured, 1, memory_order_release);
    atomic_store_explicit(&worker->chan->boot, cluster->boot, memory_order_release);
}

static void order_configure(struct torc_worker *worker, const struct torc_cmd_configure *order)
{
    uint32_t ttl_s = order->dedup_ttl_s == 0 ? DEDUP_TTL_S : order->dedup_ttl_s;

    if (worker->configured) {
        torc_worker_alarm(worker, TORC_ERR_INVALID_ARGUMENT, 0,
                          "CONFIGURE came twice in one life of the dataplane");
        return;
    }
    worker->cluster = *order;
    worker->cluster.value_bytes_max = (uint32_t)torc_min_u64(
        order->value_bytes_max, torc_min_u64(TORC_TREE_VALUE_BYTES_MAX, TORC_LOG_VALUE_BYTES_MAX));
    worker->deadline_ms_max = (uint32_t)torc_min_u64(worker->config.limits.deadline_ms_max,
                                                     (uint64_t)ttl_s * 1000 / DEADLINE_SHARE);
    torc_shard_pool_configure(&worker->pool, ttl_s, order->hlc);
    torc_log_writer_configure(&worker->log, order);
    torc_cookie_keys_init(&worker->cookie_keys, order->secret, worker->wall_s);
    worker->configured = true;
    atomic_store_explicit(&worker->rings.worker->state, TORC_WORKER_RECOVERING,
                          memory_order_relaxed);
    if (worker->replicas.council != NULL) {
        torc_worker_watch_configure(worker);
    }
    if (worker->index == 0) {
        order_identify(worker);
    }
}

// -- Shards ---------------------------------------------------------------------------------------

static void order_insert(struct torc_worker *worker, uint32_t place)
{
    uint64_t lo = worker->shards[place].engine.lo;
    uint32_t at = worker->open_count;

    while (at > 0 && worker->shard_starts[at - 1] > lo) {
        worker->shard_starts[at] = worker->shard_starts[at - 1];
        worker->shard_order[at] = worker->shard_order[at - 1];
        at--;
    }
    worker->shard_starts[at] = lo;
    worker->shard_order[at] = place;
    worker->open_count++;
    worker->shard_count = (uint32_t)torc_max_u64(worker->shard_count, place + UINT64_C(1));
}

struct torc_worker_shard *torc_worker_shard_number(const struct torc_worker *worker,
                                                   uint32_t number)
{
    for (uint32_t i = 0; i < worker->shard_count && number != 0; i++) {
        if (worker->replicas.numbers[i] == number) {
            return &worker->shards[i];
        }
    }
    return NULL;
}

static enum torc_err order_shard_check(const struct torc_worker *worker,
                                       const struct torc_cmd_shard *order, struct torc_fail *why)
{
    bool empty = order->is_replica != 0 && order->has_base == 0; // it waits for no recovery

    if (!worker->configured || (worker->recovered && !empty) ||
        worker->open_count == worker->shards_max) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "shard %" PRIu32 " cannot be opened: %s",
                         order->shard,
                         !worker->configured ? "CONFIGURE comes first"
                         : worker->recovered ? "recovery is over"
                                             : "this worker holds as many as it can");
    }
    if (order->is_replica != 0 && worker->replicas.council == NULL) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED,
                         "shard %" PRIu32 " has other members: this dataplane runs no replicas",
                         order->shard);
    }
    if (torc_worker_shard_number(worker, order->shard) != NULL) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "shard %" PRIu32 " is open already",
                         order->shard);
    }
    if (order->lo >= order->hi || order->hi > worker->cluster.key_count) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "shard %" PRIu32 " from %" PRIu64 " to %" PRIu64
                         ": keys are below %" PRIu64,
                         order->shard, order->lo, order->hi, worker->cluster.key_count);
    }
    return TORC_ERR_OK;
}

// The first place that is free; `shards_max`: none.
static uint32_t order_place(const struct torc_worker *worker)
{
    uint32_t place = 0;

    while (place < worker->shards_max && worker->replicas.numbers[place] != 0) {
        place++;
    }
    return place;
}

// A life of its own, whoever had the place before.
static void order_replica(struct torc_worker *worker, struct torc_worker_shard *shard,
                          const struct torc_cmd_shard *order)
{
    struct torc_worker_replicas *replicas = &worker->replicas;

    shard->replica = &replicas->all[shard - worker->shards];
    memset(shard->replica, 0, sizeof(*shard->replica));
    shard->replica->life = ++replicas->lives;
    shard->replica->copy = order->copy != 0 ? order->copy : worker->cluster.copy;
}

// One without a base costs nobody anything but a copy: the node goes on, and control tries again.
static void order_refuse_shard(struct torc_worker *worker, const struct torc_cmd_shard *order,
                               const struct torc_fail *why)
{
    if (worker->configured && worker->replicas.council != NULL && order->is_replica != 0 &&
        order->has_base == 0 && torc_worker_shard_number(worker, order->shard) == NULL) {
        torc_worker_shard_refuse(worker, order, why->err);
    } else {
        torc_worker_not_ready(worker, order->shard, why);
    }
}

static void order_shard_open(struct torc_worker *worker, const struct torc_cmd_shard *order)
{
    uint32_t place = order_place(worker);
    struct torc_worker_shard *shard;
    struct torc_shard_config config = {.lo = order->lo,
                                       .hi = order->hi,
                                       .shard = order->shard,
                                       .epoch = order->is_replica != 0 ? 0 : order->epoch,
                                       .turn = order->turn,
                                       .moved = order->moved != 0,
                                       .anew = order->is_replica != 0 && order->has_base == 0,
                                       .follows = order->is_replica != 0,
                                       .code = worker->config.code,
                                       .chunks = &worker->chunks,
                                       .heap = worker->config.heap};
    struct torc_fail why;
    enum torc_err err = order_shard_check(worker, order, &why);

    if (err != TORC_ERR_OK) {
        order_refuse_shard(worker, order, &why);
        return;
    }
    if (config.anew) {
        config.turn = torc_worker_turn_above(worker, config.turn);
    }
    torc_assert(place < worker->shards_max);
    shard = &worker->shards[place];
    if (torc_shard_init(&shard->engine, &worker->pool, &config, &why) != TORC_ERR_OK) {
        order_refuse_shard(worker, order, &why);
        return;
    }
    shard->opened_epoch = order->epoch;
    shard->has_base = order->has_base != 0;
    shard->replica = NULL;
    if (order->is_replica != 0) {
        order_replica(worker, shard, order);
    }
    if (shard->replica == NULL || shard->has_base) {
        torc_replay_add(worker->replay, &shard->engine);
    }
    worker->replicas.numbers[place] = order->shard;
    shard->checkpoint_number = 0;
    shard->begun = false;
    shard->told = false;
    order_insert(worker, place);
}

// -- Checkpoints ----------------------------------------------------------------------------------

// What is in its tree is a whole prefix of the shard.
static bool order_has_tree(const struct torc_worker_shard *shard)
{
    if (shard->replica == NULL) {
        return shard->engine.state == TORC_SHARD_ACTIVE;
    }
    return shard->replica->live && torc_replica_has_prefix(&shard->replica->machine);
}

// A replica without a base has nothing to make one of until it has got one, for however long.
static void order_refuse_checkpoint(struct torc_worker *worker,
                                    const struct torc_worker_shard *shard,
                                    const struct torc_cmd_checkpoint *order, bool nothing)
{
    struct torc_evt refused = {.kind = TORC_EVT_CHECKPOINT_DONE};
    uint64_t begun = nothing && shard != NULL && shard->replica != NULL && shard->replica->live
                         ? shard->replica->begun_sequence
                         : 0;

    refused.checkpoint = (struct torc_evt_checkpoint){
        .checkpoint = order->checkpoint,
        .start_sequence = begun <= worker->log.durable ? begun : 0,
        .shard = order->shard,
        .failed = nothing ? TORC_CHAN_UNMADE_NOTHING : TORC_CHAN_UNMADE_FAILED};
    (void)torc_worker_say(worker, &refused); // there is room: orders are taken only then
}

static void order_checkpoint(struct torc_worker *worker, const struct torc_cmd_checkpoint *order)
{
    struct torc_worker_shard *shard = torc_worker_shard_number(worker, order->shard);
    struct torc_checkpoint_place place = {.cluster = worker->cluster.cluster,
                                          .checkpoint = order->checkpoint,
                                          .ceiling = worker->log.ceiling_wanted,
                                          .durable = worker->log.durable,
                                          .node = worker->cluster.node,
                                          .stream = worker->cluster.stream};
    bool nothing = shard == NULL || !order_has_tree(shard);

    if (nothing || shard->checkpoint_number != 0 || order->checkpoint == 0) {
        order_refuse_checkpoint(worker, shard, order, nothing);
        return;
    }
    shard->checkpoint_void = false;
    shard->checkpoint_number = order->checkpoint;
    torc_checkpoint_writer_begin(&shard->checkpoint, &shard->engine, &place);
}

// Control has it, or gave it up: what was not yet written is not made.
static void order_checkpoint_end(struct torc_worker *worker,
                                 const struct torc_cmd_checkpoint *order)
{
    for (uint32_t i = 0; i < worker->shard_count; i++) {
        struct torc_worker_shard *shard = &worker->shards[i];

        if (shard->replica != NULL && shard->engine.shard == order->shard && order->given_up == 0 &&
            order->checkpoint != 0) {
            torc_worker_base_kept(worker, shard, order->checkpoint);
        }
        if (order->checkpoint == 0 || shard->checkpoint_number == order->checkpoint) {
            shard->checkpoint_void = false;
            shard->checkpoint_number = 0;
        }
    }
}

// -- The rest -------------------------------------------------------------------------------------

void torc_worker_map_step(struct torc_worker *worker)
{
    struct torc_fail why;
    enum torc_err err;

    if (!worker->map_owed) {
        return;
    }
    err = torc_worker_map_read(worker, &why);
    worker->map_owed = err == TORC_ERR_BUSY;
    if (err == TORC_ERR_OK) {
        torc_worker_peers_map(worker);
    } else if (!worker->map_owed) {
        torc_worker_alarm(worker, err, 0, why.text);
    }
}

static void order_map(struct torc_worker *worker)
{
    worker->map_owed = true;
    torc_worker_map_step(worker); // before the orders that follow, if it can be
}

static void order_serve(struct torc_worker *worker)
{
    if (!worker->serving) {
        torc_worker_recovered_all(worker);
    }
    worker->serving = true;
    atomic_store_explicit(&worker->rings.worker->state, TORC_WORKER_SERVING, memory_order_relaxed);
}

static void order_quiesce(struct torc_worker *worker)
{
    worker->quiescing = true;
    atomic_store_explicit(&worker->rings.worker->state, TORC_WORKER_QUIESCING,
                          memory_order_relaxed);
}

static void order_take(struct torc_worker *worker, const struct torc_cmd *order)
{
    switch ((enum torc_cmd_kind)order->kind) {
    case TORC_CMD_CONFIGURE: order_configure(worker, &order->configure); return;
    case TORC_CMD_SHARD_OPEN: order_shard_open(worker, &order->shard); return;
    case TORC_CMD_RECOVERED: torc_worker_recovered(worker); return;
    case TORC_CMD_SERVE: order_serve(worker); return;
    case TORC_CMD_MAP_CHANGED: order_map(worker); return;
    case TORC_CMD_CHECKPOINT: order_checkpoint(worker, &order->checkpoint); return;
    case TORC_CMD_CHECKPOINT_END: order_checkpoint_end(worker, &order->checkpoint); return;
    case TORC_CMD_CONTROL_HELLO:
        worker->hello = order->hello;
        worker->hello_at = 1;
        torc_worker_hello_step(worker);
        return;
    case TORC_CMD_QUIESCE: order_quiesce(worker); return;
    case TORC_CMD_SESSIONS_ASKED:
    case TORC_CMD_KEYS_CHANGED: worker->notified = true; return;
    case TORC_CMD_RECORD:
    case TORC_CMD_RESULT:
    case TORC_CMD_WAKE:
    case TORC_CMD_WANT: torc_worker_replica_order(worker, order); return;
    case TORC_CMD_SHARD_GONE: torc_worker_shard_gone(worker, order->wake_shard); return;
    case TORC_CMD_PEER: break;
    }
    torc_worker_alarm(worker, TORC_ERR_UNSUPPORTED, 0, "control gave an order of an unknown kind");
}

bool torc_worker_take_orders(struct torc_worker *worker)
{
    struct torc_spsc_port *ring = &worker->rings.cmd;

    for (uint32_t i = 0; i < ORDERS_MAX && torc_spsc_readable(ring, 1) > 0; i++) {
        struct torc_cmd order;

        // RECOVERED comes by another ring than the data it ends: those first.
        memcpy(&order, torc_spsc_read_at(ring, 0), sizeof(order));
        if ((order.kind == TORC_CMD_RECOVERED && torc_spsc_readable(&worker->rings.in, 1) > 0) ||
            torc_spsc_writable(&worker->rings.evt, 1) == 0) {
            return true;
        }
        torc_spsc_release(ring, 1);
        order_take(worker, &order);
    }
    return torc_spsc_readable(ring, 1) > 0;
}

void torc_worker_take_marks(struct torc_worker *worker)
{
    struct torc_spsc_port *ring = &worker->rings.mark;

    for (uint32_t i = 0; i < MARKS_MAX && torc_spsc_readable(ring, 1) > 0; i++) {
        struct torc_mark mark;

        memcpy(&mark, torc_spsc_read_at(ring, 0), sizeof(mark));
        torc_spsc_release(ring, 1);
        if (!torc_log_writer_mark(&worker->log, &mark, worker->now_ns)) {
            torc_worker_alarm(worker, TORC_ERR_CORRUPT, 0,
                              "control sent a mark of the log that makes no sense");
        }
    }
}
