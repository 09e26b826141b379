// Torc dataplane: worker 0's watch over the other nodes, for all workers. See worker_replica.h,
// watch.h, council.h.
#include "dataplane/worker_state.h"

#include <string.h>

#define NOTES_MAX       256u                // of one worker, a turn
#define STALL_NS        UINT64_C(10000000)  // stall_limit (S2)
#define CLAIM_AGAIN_NS  UINT64_C(100000000) // claims that found no place
#define CEILING_STEP_US UINT64_C(200000)    // ceiling_step (H6)

// -- Memory and life ------------------------------------------------------------------------------

static struct torc_watch_config watch_config(uint32_t worker_count, uint32_t shards_max)
{
    return (struct torc_watch_config){
        .peers_max = TORC_WATCH_PEERS_MAX,
        .shards_max =
            (uint32_t)torc_min_u64((uint64_t)worker_count * shards_max, TORC_CHAN_MAP_ENTRIES)};
}

uint64_t torc_worker_watch_bytes(uint32_t worker_count, uint32_t shards_max)
{
    struct torc_watch_config config = watch_config(worker_count, shards_max);

    return torc_watch_bytes(&config);
}

uint32_t torc_worker_watch_shards(uint32_t worker_count, uint32_t shards_max)
{
    return watch_config(worker_count, shards_max).shards_max;
}

enum torc_err torc_worker_watch_attach(struct torc_worker *worker, struct torc_fail *why)
{
    struct torc_worker_replicas *replicas = &worker->replicas;
    struct torc_worker_watch *watch = replicas->watch;
    enum torc_err err = torc_council_attach(replicas->council, &replicas->up, TORC_SPSC_PRODUCER,
                                            worker->index, true, why);

    if (err == TORC_ERR_OK) {
        err = torc_council_attach(replicas->council, &replicas->down, TORC_SPSC_CONSUMER,
                                  worker->index, false, why);
    }
    for (uint32_t i = 0; watch != NULL && i < worker->count && err == TORC_ERR_OK; i++) {
        err =
            torc_council_attach(replicas->council, &watch->up[i], TORC_SPSC_CONSUMER, i, true, why);
        if (err == TORC_ERR_OK) {
            err = torc_council_attach(replicas->council, &watch->down[i], TORC_SPSC_PRODUCER, i,
                                      false, why);
        }
    }
    return err;
}

static uint64_t watch_us(uint32_t us, uint32_t default_us)
{
    return (uint64_t)(us == 0 ? default_us : us) * 1000;
}

void torc_worker_watch_configure(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    const struct torc_chan_timing *timing = &worker->cluster.timing;
    struct torc_watch_config config = watch_config(worker->count, worker->shards_max);
    struct torc_fail why;

    if (watch == NULL || worker->cluster.boot == 0) {
        return;
    }
    config.boot = worker->cluster.boot;
    config.node = worker->cluster.node;
    config.timing =
        (struct torc_watch_timing){.beat_ns = watch_us(timing->beat_us, 5000),
                                   .promise_ns = watch_us(timing->promise_us, 20000),
                                   .suspect_ns = watch_us(timing->suspect_us, 25000),
                                   .margin_ns = watch_us(timing->margin_us, 500),
                                   .calm_ns = watch_us(timing->calm_us, 1000000),
                                   .drift_ppm = timing->drift_ppm == 0 ? 1000 : timing->drift_ppm};
    if (torc_watch_init(&watch->watch, watch->memory, worker->now_ns, &config, &why) !=
        TORC_ERR_OK) {
        torc_worker_not_ready(worker, 0, &why); // no replica here would ever lead
        return;
    }
    watch->running = true;
}

// -- To other workers -----------------------------------------------------------------------------

static void watch_wake_worker(struct torc_worker *worker, uint32_t to)
{
    if (to != 0) {
        worker->turn->ring_workers[to / 64] |= UINT64_C(1) << (to % 64);
    } else {
        worker->turn->more = true;
    }
}

static void watch_say(struct torc_worker *worker, uint32_t to, const struct torc_council_note *note)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    if (!torc_council_say(&watch->down[to], note)) {
        // A state of a peer is told again; an answer is asked for again.
        watch->peers_owed[to] = watch->peers_owed[to] || note->kind == TORC_COUNCIL_PEER;
    }
    watch_wake_worker(worker, to);
}

static void watch_tell_peer(struct torc_worker *worker, const struct torc_peer_state *peer)
{
    struct torc_council_note note = {.kind = TORC_COUNCIL_PEER, .peer = *peer};

    for (uint32_t to = 0; to < worker->count; to++) {
        watch_say(worker, to, &note);
    }
}

static void watch_tell_owed(struct torc_worker *worker, uint32_t to)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    watch->peers_owed[to] = false;
    for (uint32_t i = 0; i < watch->node_count; i++) {
        struct torc_council_note note = {.kind = TORC_COUNCIL_PEER,
                                         .peer =
                                             torc_watch_peer_state(&watch->watch, watch->nodes[i])};

        watch_say(worker, to, &note);
    }
}

static void watch_publish(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    watch->stale = false;
    for (uint32_t i = 0; i < watch->led_count; i++) {
        const struct torc_worker_led *led = &watch->led[i];
        struct torc_council_leases leases = {.epoch = led->epoch};

        for (uint32_t n = 0; n < led->claims.count; n++) {
            leases.nodes[n] = led->claims.nodes[n];
            leases.leases[n] =
                torc_watch_lease(&watch->watch, led->shard, led->epoch, led->claims.nodes[n]);
        }
        torc_council_publish(worker->replicas.council, led->worker, led->place, &leases);
    }
    for (uint32_t to = 0; to < worker->count; to++) {
        if (worker->now_ns < watch->waits_ns[to]) { // packets wait there (worker_confirm.c)
            watch_wake_worker(worker, to);
        }
    }
}

// -- Actions --------------------------------------------------------------------------------------

static void watch_post(struct torc_worker *worker, uint32_t node, struct torc_peer_op *op)
{
    torc_worker_post(worker, (struct torc_peer_to){.node = node, .core = 0}, op);
}

static void watch_wake(struct torc_worker *worker, uint32_t shard)
{
    const struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_council_note note = {.kind = TORC_COUNCIL_WAKE, .shard = shard};

    for (uint32_t i = 0; i < watch->led_count; i++) {
        if (watch->led[i].shard == shard) {
            watch_say(worker, watch->led[i].worker, &note);
        }
    }
}

static void watch_act(struct torc_worker *worker, const struct torc_watch_action *action)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_peer_op op = {.opcode = TORC_PEER_OP_BEAT};

    switch (action->kind) {
    case TORC_WATCH_SEND_BEAT: op.beat = action->beat; break;
    case TORC_WATCH_SEND_ACK:
        op.opcode = TORC_PEER_OP_BEAT_ACK;
        op.beat_ack = action->beat_ack;
        break;
    case TORC_WATCH_SEND_CLAIM:
        op.opcode = TORC_PEER_OP_CLAIM;
        torc_watch_claim_message(&watch->watch, action->node, &op.claim);
        break;
    case TORC_WATCH_TELL_PEER: watch_tell_peer(worker, &action->peer); return;
    case TORC_WATCH_KEEP:
        watch->ceiling_keeping = torc_max_u64(watch->ceiling_keeping, action->ceiling);
        return;
    case TORC_WATCH_READ: watch_wake(worker, action->shard); return;
    }
    watch_post(worker, action->node, &op);
}

static void watch_step(struct torc_worker *worker, const struct torc_watch_event *event)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    watch->actions.count = 0;
    torc_watch_step(&watch->watch, worker->now_ns, event, &watch->actions);
    for (uint32_t i = 0; i < watch->actions.count; i++) {
        watch_act(worker, &watch->actions.items[i]);
    }
}

void torc_worker_watch_message(struct torc_worker *worker, const struct torc_peer_from *from,
                               const struct torc_peer_op *op)
{
    struct torc_watch_event event = {.node = from->node, .boot = from->boot};
    struct torc_beat beat;

    if (worker->replicas.watch == NULL || !worker->replicas.watch->running) {
        return; // sent to another core than 0, or before we know who we are
    }
    if (op->opcode == TORC_PEER_OP_BEAT) {
        beat = op->beat;
        if (beat.ceiling > worker->pool.hlc &&
            torc_hlc_us(beat.ceiling) > worker->wall_us + 2 * TORC_SHARD_MAX_AHEAD_US) {
            beat.ceiling = 0; // H3: a successor would stamp above it, hours ahead
        }
        event.kind = TORC_WATCH_BEAT;
        event.beat = &beat;
    } else if (op->opcode == TORC_PEER_OP_BEAT_ACK) {
        event.kind = TORC_WATCH_BEAT_ACK;
        event.beat_ack = &op->beat_ack;
    } else {
        event.kind = TORC_WATCH_CLAIM;
        event.claim = &op->claim;
    }
    watch_step(worker, &event);
    worker->replicas.watch->stale = true;
}

void torc_worker_watch_wall(struct torc_worker *worker, const struct torc_peer_from *from,
                            const struct torc_peer_op *op)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    if (watch != NULL && watch->running && op->opcode == TORC_PEER_OP_BEAT) {
        torc_watch_wall(&watch->watch, worker->now_ns, from->node, from->boot, op->beat.wall_us);
    }
}

void torc_worker_watch_held(struct torc_worker *worker, const struct torc_peer_from *from,
                            uint64_t hlc)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    if (watch != NULL && watch->running && hlc != 0) {
        torc_watch_held(&watch->watch, worker->now_ns, from->node, torc_hlc_us(hlc));
    }
}

// -- From other workers ---------------------------------------------------------------------------

// The place of the shard in the table, made if there is none.
static struct torc_worker_led *watch_led(struct torc_worker *worker, uint32_t shard)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    uint32_t at = 0;

    while (at < watch->led_count && watch->led[at].shard != shard) {
        at++;
    }
    if (at == watch->led_max) {
        return NULL;
    }
    watch->led_count = (uint32_t)torc_max_u64(watch->led_count, at + 1);
    watch->led[at].shard = shard;
    return &watch->led[at];
}

// Claims what the shard's primary wants leases of. What finds no place is tried again, and told
// once: until then the shard takes writes, and no read.
static void watch_claim_led(struct torc_worker *worker, const struct torc_worker_led *led)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_fail why;

    for (uint32_t i = 0; i < led->claims.count; i++) {
        if (torc_watch_claim(&watch->watch, led->shard, led->epoch, led->claims.nodes[i], &why) ==
            TORC_ERR_OK) {
            continue;
        }
        if (!watch->unclaimed) {
            torc_worker_alarm(worker, why.err, led->shard, why.text);
            watch->claim_ns = worker->now_ns + CLAIM_AGAIN_NS;
        }
        watch->unclaimed = true;
    }
}

static void watch_claim_again(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    uint32_t left = 0;
    struct torc_fail why;

    watch->claim_ns = worker->now_ns + CLAIM_AGAIN_NS;
    watch->stale = true;
    for (uint32_t i = 0; i < watch->led_count; i++) {
        const struct torc_worker_led *led = &watch->led[i];

        for (uint32_t n = 0; n < led->claims.count; n++) {
            left += torc_watch_claim(&watch->watch, led->shard, led->epoch, led->claims.nodes[n],
                                     &why) != TORC_ERR_OK;
        }
    }
    watch->unclaimed = left > 0;
}

static void watch_adopt(struct torc_worker *worker, uint32_t from,
                        const struct torc_council_note *note)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    const struct torc_watch_adoption *adoption = &note->adoption;
    struct torc_council_note answer = {.kind = TORC_COUNCIL_ADOPTED,
                                       .shard = adoption->shard,
                                       .epoch = adoption->epoch,
                                       .life = note->life};
    struct torc_worker_led *led = watch_led(worker, adoption->shard);
    struct torc_fail why;

    if (led == NULL) {
        torc_worker_alarm(worker, TORC_ERR_LIMIT, adoption->shard,
                          "this node has more replicas than its watch takes");
        return;
    }
    if (torc_watch_adopt(&watch->watch, adoption, &answer.promise_until_ns, &why) != TORC_ERR_OK) {
        torc_worker_alarm(worker, why.err, adoption->shard, why.text);
        return;
    }
    *led = (struct torc_worker_led){.shard = adoption->shard,
                                    .worker = from,
                                    .place = note->place,
                                    .epoch = adoption->epoch,
                                    .claims.count = adoption->claim_count};
    memcpy(led->claims.nodes, adoption->claim_nodes,
           adoption->claim_count * sizeof(led->claims.nodes[0]));
    watch_claim_led(worker, led);
    watch_publish(worker); // before the answer: whoever has it may read the row
    watch_say(worker, from, &answer);
}

static void watch_claim(struct torc_worker *worker, const struct torc_council_note *note)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_worker_led *led = watch_led(worker, note->shard);

    if (led == NULL || led->epoch != note->epoch) {
        return; // an epoch has passed
    }
    led->claims = note->claims; // who learns no more leaves its place
    watch_claim_led(worker, led);
    watch->stale = true;
}

static void watch_meet(struct torc_worker *worker, uint32_t node)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_fail why;

    if (torc_watch_meet(&watch->watch, node, &why) != TORC_ERR_OK) {
        torc_worker_alarm(worker, why.err, 0, why.text);
        return;
    }
    for (uint32_t i = 0; i < watch->node_count; i++) {
        if (watch->nodes[i] == node) {
            return;
        }
    }
    watch->nodes[watch->node_count++] = node;
    torc_worker_peers_map(worker); // a partner has a session before others do
}

// A worker has let go of the shard. Another may have been given it since, and its note may have
// come first.
static void watch_drop(struct torc_worker *worker, uint32_t from,
                       const struct torc_council_note *note)
{
    static const struct torc_council_leases none;
    struct torc_worker_watch *watch = worker->replicas.watch;

    for (uint32_t i = 0; i < watch->led_count; i++) {
        struct torc_worker_led *led = &watch->led[i];

        if (led->shard == note->shard && led->worker == from && led->place == note->place) {
            torc_watch_drop(&watch->watch, note->shard);
            *led = watch->led[--watch->led_count];
            break;
        }
    }
    torc_council_publish(worker->replicas.council, from, note->place, &none);
}

// L7. Notes of one turn share a beat.
static void watch_ask(struct torc_worker *worker, uint32_t from,
                      const struct torc_council_note *note)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_council_note answer = {.kind = TORC_COUNCIL_BOUND, .life = note->life};

    answer.bound_ns = torc_watch_ask(&watch->watch);
    watch->waits_ns[from] = worker->now_ns + TORC_WORKER_CONFIRM_NS;
    watch_say(worker, from, &answer);
}

static void watch_take_note(struct torc_worker *worker, uint32_t from,
                            const struct torc_council_note *note)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_watch_event alarm = {.kind = TORC_WATCH_FALSE_ALARM};

    switch ((enum torc_council_kind)note->kind) {
    case TORC_COUNCIL_MEET: watch_meet(worker, note->node); return;
    case TORC_COUNCIL_ADOPT: watch_adopt(worker, from, note); return;
    case TORC_COUNCIL_CLAIM: watch_claim(worker, note); return;
    case TORC_COUNCIL_HURRY: torc_watch_hurry(&watch->watch, note->node); return;
    case TORC_COUNCIL_ALIVE: watch_step(worker, &alarm); return;
    case TORC_COUNCIL_DROP: watch_drop(worker, from, note); return;
    case TORC_COUNCIL_ASK: watch_ask(worker, from, note); return;
    case TORC_COUNCIL_BOUND:
    case TORC_COUNCIL_PEER:
    case TORC_COUNCIL_ADOPTED:
    case TORC_COUNCIL_WAKE: break;
    }
    torc_unreachable("workers say no such thing");
}

// -- This node ------------------------------------------------------------------------------------

// S2: every core turned lately, or sleeps and was not rung longer ago.
static bool watch_is_turning(const struct torc_worker *worker)
{
    for (uint32_t i = 1; i < worker->count; i++) {
        const struct torc_chan_worker *page = torc_chan_worker_page(worker->config.chan, i);

        if (worker->now_ns - torc_chan_owes_since_ns(page, worker->now_ns) > STALL_NS) {
            return false;
        }
    }
    return true;
}

static uint32_t watch_health(const struct torc_worker *worker)
{
    const struct torc_council *council = worker->replicas.council;
    uint64_t control_ns =
        atomic_load_explicit(&worker->chan->control_turned_ns, memory_order_relaxed);
    uint32_t health = 0;

    for (uint32_t i = 0; i < worker->count; i++) {
        health |= atomic_load_explicit(&council->worker_health[i], memory_order_relaxed);
    }
    if (worker->now_ns > control_ns &&
        worker->now_ns - control_ns > (uint64_t)worker->config.control_grace_ms * 1000000) {
        health |= TORC_HEALTH_CONTROL_GONE;
    }
    return health;
}

// H6: the highest that any worker wants to read at, and some room above it.
static uint64_t watch_ceiling_wanted(const struct torc_worker *worker)
{
    const struct torc_council *council = worker->replicas.council;
    uint64_t wanted = 0;

    for (uint32_t i = 0; i < worker->count; i++) {
        wanted = torc_max_u64(
            wanted, atomic_load_explicit(&council->ceiling_wanted[i], memory_order_relaxed));
    }
    if (wanted <= worker->replicas.watch->watch.ceiling) {
        return 0;
    }
    return torc_max_u64(wanted, torc_hlc_from_us(worker->wall_us + CEILING_STEP_US));
}

// The highest that this node holds, or 0: the shards with records may be those of other workers.
static uint64_t watch_held_us(const struct torc_worker *worker)
{
    const struct torc_handover *handover = worker->config.handover;
    uint64_t held_us = torc_hlc_us(worker->pool.hlc);

    for (uint32_t i = 0; i < worker->count; i++) {
        held_us = torc_max_u64(
            held_us, atomic_load_explicit(&handover->stamped_us[i], memory_order_relaxed));
    }
    return held_us;
}

static void watch_self(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    const struct torc_watch_self *before = &watch->watch.self;
    struct torc_watch_self self = {
        .wall_us = (uint64_t)((int64_t)(worker->now_ns / 1000) + worker->wall.own_us),
        .ceiling_wanted = watch_ceiling_wanted(worker),
        .open_hlc = UINT64_MAX,
        .health = (uint8_t)watch_health(worker),
        .turning = watch_is_turning(worker)};
    struct torc_watch_event event = {.kind = TORC_WATCH_SELF, .self = &self};

    if (self.health != before->health || self.turning != before->turning ||
        self.ceiling_wanted != 0 || worker->now_ns >= torc_watch_deadline_ns(&watch->watch)) {
        watch_step(worker, &event);
        atomic_store_explicit(&worker->replicas.council->health, self.health, memory_order_relaxed);
        atomic_store_explicit(&worker->replicas.council->median_us,
                              torc_watch_median_us(&watch->watch, worker->wall.own_us),
                              memory_order_relaxed);
        atomic_store_explicit(&worker->replicas.council->held_us,
                              torc_watch_held_us(&watch->watch, watch_held_us(worker)),
                              memory_order_relaxed);
        torc_stats_set(&worker->stats->gauges[TORC_GAUGE_WATCH_STRETCH], watch->watch.stretch);
    }
}

// H6: a ceiling is acknowledged when it is kept: on disk where the log is. With `replicated` the
// process keeps it, whose copy ends with it, and a clean stop writes it: so none is taken later.
static void watch_keep(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    struct torc_watch_event event = {.kind = TORC_WATCH_CEILING, .ceiling = watch->ceiling_keeping};

    if (watch->ceiling_keeping <= watch->watch.ceiling_kept ||
        (worker->quiescing && worker->cluster.durability == TORC_DURABILITY_REPLICATED)) {
        return;
    }
    // Before any answer that says so leaves: whoever takes over stamps above it.
    atomic_store_explicit(&worker->replicas.council->ceiling, watch->ceiling_keeping,
                          memory_order_release);
    torc_log_writer_keep(&worker->log, watch->ceiling_keeping);
    if (worker->cluster.durability == TORC_DURABILITY_DURABLE &&
        worker->log.ceiling < watch->ceiling_keeping) {
        return; // with the next block
    }
    watch_step(worker, &event);
    atomic_store_explicit(&worker->replicas.council->kept, watch->ceiling_keeping,
                          memory_order_relaxed);
}

// -- Turn -----------------------------------------------------------------------------------------

void torc_worker_watch_turn(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;

    if (watch == NULL || !watch->running) {
        return;
    }
    for (uint32_t from = 0; from < worker->count; from++) {
        struct torc_spsc_port *up = &watch->up[from];

        for (uint32_t i = 0; i < NOTES_MAX && torc_spsc_readable(up, 1) > 0; i++) {
            struct torc_council_note note;

            memcpy(&note, torc_spsc_read_at(up, 0), sizeof(note));
            torc_spsc_release(up, 1);
            watch_take_note(worker, from, &note);
        }
        if (watch->peers_owed[from]) {
            watch_tell_owed(worker, from);
        }
    }
    if (watch->unclaimed && worker->now_ns >= watch->claim_ns) {
        watch_claim_again(worker);
    }
    watch_self(worker);
    watch_keep(worker);
    if (worker->now_ns >= torc_watch_deadline_ns(&watch->watch)) {
        watch_step(worker, NULL);
    }
    if (watch->stale) {
        watch_publish(worker);
    }
}

uint64_t torc_worker_watch_deadline_ns(const struct torc_worker *worker)
{
    const struct torc_worker_watch *watch = worker->replicas.watch;

    return watch == NULL || !watch->running || watch->node_count == 0
               ? UINT64_MAX
               : torc_watch_deadline_ns(&watch->watch);
}

bool torc_worker_watch_idle(struct torc_worker *worker)
{
    struct torc_worker_watch *watch = worker->replicas.watch;
    bool idle = true;

    for (uint32_t i = 0; watch != NULL && i < worker->count && idle; i++) {
        idle = torc_spsc_readable(&watch->up[i], 1) == 0;
    }
    return idle;
}
