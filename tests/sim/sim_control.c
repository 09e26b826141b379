// Torc simulator: control of one machine. See sim.h.
//
// What    what control/node_os.c does, without descriptors: the states of a node around the same
//         store, recovery and checkpoints, with the metastore asked asynchronously. (Lives of the
//         dataplane: sim_life.c.)
//         Control may be killed between two turns or at any operation on its disk (longjmp out of
//         the turn: what it had published stands, the rest of its memory is gone).
#include "control/stop.h"
#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <string.h>

#define BEAT_NS (100 * SIM_MS) // as NODE_BEAT_NS, and that of what nobody rings for
#define SLOW_NS (1 * SIM_MS)
#define WAKE_NS UINT64_C(3000)
#define TURN_NS UINT64_C(5000)
// Of a stop, as control's settings have them, but for what is the disk's: runs are short.
#define CHECKPOINT_WAIT_NS (2 * SIM_S)
#define HANDOVER_NS        (5 * SIM_S)
#define REST_NS            (5 * SIM_S)

void sim_control_wake(struct sim_node *node, uint64_t at_ns)
{
    if (node->control.state != SIM_CONTROL_DEAD) {
        sim_wake(&node->control.actor, at_ns, SIM_EVENT_CONTROL, node->index, 0);
    }
}

void sim_control_go(struct sim_node *node, enum sim_control_state state)
{
    node->control.state = state;
    node->control.state_ns = sim->now_ns;
    for (uint32_t i = 0; i < SIM_WORKERS_MAX; i++) {
        node->control.workers[i].ordered = false;
    }
}

// True when the dataplane that we had is gone.
static bool control_lost(const struct sim_node *node)
{
    return node->control.attached && (!node->up || node->old_chan != NULL);
}

// -- Births and deaths ----------------------------------------------------------------------------

static void control_cluster(struct sim_node *node)
{
    node->control.cluster = (struct torc_cluster){.cluster = SIM_CLUSTER,
                                                  .keys = sim->config.key_count,
                                                  .node = node->number,
                                                  .shards = node->control.shards,
                                                  .shard_max = SIM_SHARDS_MAX};
}

void sim_control_start(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct sim_actor actor = control->actor;
    struct torc_log_store_config config = {.cluster = SIM_CLUSTER,
                                           .node = node->number,
                                           .segment_bytes = sim->config.segment_bytes,
                                           .inflight = sim->config.inflight,
                                           .spares_max = sim->config.spares,
                                           .folder_fd = sim_store_folder(node->index, false)};
    struct torc_fail why;

    memset(control, 0, sizeof(*control));
    control->actor = actor;
    control->actor.paused_ns = 0;
    control_cluster(node);
    control->agree = sim_agree_open(node);
    control->disk = sim_disk_open(node);
    torc_assert(torc_log_store_open(&control->store, control->disk, &config, &why) == TORC_ERR_OK);
    sim_control_go(node, SIM_CONTROL_WAITING);
    sim_control_wake(node, sim->now_ns + WAKE_NS);
    sim_story("node %u  control starts", (unsigned)node->number);
}

void sim_control_let_go(struct sim_node *node)
{
    node->control.attached = false;
    if (node->old_chan != NULL) {
        sim_memory_free(node->old_chan, node->old_chan_bytes);
        node->old_chan = NULL;
    }
}

// Its memory is left as it is: nothing of it is used again.
void sim_control_kill(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    if (control->state == SIM_CONTROL_DEAD) {
        return;
    }
    sim_story("node %u  control ends", (unsigned)node->number);
    sim_disk_kill(control->disk);
    sim_agree_close(control->agree);
    control->agree = NULL;
    sim_control_let_go(node);
    control->state = SIM_CONTROL_DEAD;
    sim_stop(&control->actor);
    node->faults.die_at = 0;
}

// In the middle of a turn.
static void control_died(struct sim_node *node)
{
    sim_story("node %u  control dies at a disk operation", (unsigned)node->number);
    sim_control_kill(node);
    node->start_control_ns = sim->now_ns + SIM_MS + torc_rng_below(&sim->rng, 30 * SIM_MS);
    sim_post(node->start_control_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
}

void sim_control_fail(struct sim_node *node, const struct torc_fail *why)
{
    struct sim_disk_faults *faults = &node->faults;

    sim_story("node %u  control gives up: %s", (unsigned)node->number, why->text);
    if (why->err == TORC_ERR_CORRUPT) {
        sim_fail("node %u: control takes for damage what a crash left: %s", (unsigned)node->number,
                 why->text);
    }
    faults->fail_other = 0;
    sim_control_kill(node);
    // A dataplane in the middle of its recovery cannot be continued: the next control ends it.
    node->start_control_ns = sim->now_ns + 5 * SIM_MS;
    sim_post(node->start_control_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
}

// -- Serving --------------------------------------------------------------------------------------

static void control_role(struct sim_node *node, const struct torc_evt_role *role)
{
    static const enum sim_cover covers[] = {[TORC_CHAN_LEARNER] = SIM_COVER_ROLE_LEARNER,
                                            [TORC_CHAN_BACKUP] = SIM_COVER_ROLE_BACKUP,
                                            [TORC_CHAN_CANDIDATE] = SIM_COVER_ROLE_CANDIDATE,
                                            [TORC_CHAN_ACTIVE] = SIM_COVER_ROLE_ACTIVE};
    static const char *const names[] = {[TORC_CHAN_LEARNER] = "learns",
                                        [TORC_CHAN_BACKUP] = "is a backup",
                                        [TORC_CHAN_CANDIDATE] = "takes over",
                                        [TORC_CHAN_ACTIVE] = "serves"};

    if (role->role < TORC_CHAN_LEARNER || role->role > TORC_CHAN_ACTIVE) {
        sim_fail("node %u: role %u", (unsigned)node->number, (unsigned)role->role);
        return;
    }
    torc_cluster_role(&node->control.cluster, role);
    sim_agree_lead(node, role);
    sim_cover(covers[role->role]);
    sim_post(sim->now_ns, SIM_EVENT_MEND, SIM_MEND_STRIKE, role->shard, NULL);
    sim_story("node %u  shard %u %s in epoch %u, up to %u", (unsigned)node->number,
              (unsigned)role->shard, names[role->role], (unsigned)role->epoch,
              (unsigned)role->applied_lsn);
}

static void control_alarm(struct sim_node *node, uint32_t worker,
                          const struct torc_evt_alarm *alarm)
{
    enum sim_control_state state = node->control.state;
    struct torc_fail why;

    sim_story("node %u  alarm: %s", (unsigned)node->number, alarm->text);
    if (alarm->err == TORC_ERR_CORRUPT) {
        sim_fail("node %u: worker %u: %s", (unsigned)node->number, (unsigned)worker, alarm->text);
    }
    if (alarm->goes_on == 0 && (state == SIM_CONTROL_FEEDING || state == SIM_CONTROL_REPLAYING)) {
        (void)torc_fail(&why, (enum torc_err)alarm->err, "%s", alarm->text);
        sim_control_fail(node, &why);
    }
}

static void control_event(struct sim_node *node, uint32_t worker, const struct torc_evt *event)
{
    struct sim_control *control = &node->control;
    struct torc_cluster_shard *shard;

    switch ((enum torc_evt_kind)event->kind) {
    case TORC_EVT_SHARD_READY:
        shard = torc_cluster_shard(&control->cluster, event->shard.shard);
        if (control->state == SIM_CONTROL_READING || control->state == SIM_CONTROL_RESUMING) {
            return; // was meant for the control before us
        }
        // Elsewhere it is overheard, and the shard waited for ever.
        if (shard == NULL || shard->worker != worker || shard->epoch != event->shard.epoch) {
            sim_fail("node %u: shard %u is ready in an epoch, or at a worker, that nobody gave it",
                     (unsigned)node->number, (unsigned)event->shard.shard);
            return;
        }
        shard->ready = true;
        sim_agree_due(node);
        return;
    case TORC_EVT_CHECKPOINT_DONE:
        if (control->checkpoints != NULL) {
            torc_checkpoints_event(control->checkpoints, worker, &event->checkpoint);
        }
        return;
    case TORC_EVT_ALARM: control_alarm(node, worker, &event->alarm); return;
    case TORC_EVT_SHARD_HERE: sim_give_here(node, worker, &event->here); return;
    case TORC_EVT_SHARD_GONE: sim_give_gone(node, worker, &event->role); return;
    case TORC_EVT_LOG_AGAIN:
        if (control->recover != NULL && control->workers[worker].recovered) {
            torc_recover_again(control->recover, worker);
            control->workers[worker].recovered = false;
            sim_cover(SIM_COVER_NODE_AGAIN);
        }
        return;
    case TORC_EVT_CONTROL_SEEN:
        if (event->seen.hello == control->attach.number) {
            control->workers[worker].seen = true;
            control->workers[worker].said = event->seen;
        }
        return;
    case TORC_EVT_QUIESCED:
        control->workers[worker].quiesced = true;
        control->workers[worker].base_shard = event->role.shard;
        return;
    case TORC_EVT_READ:
    case TORC_EVT_PROPOSE: sim_agree_event(node, worker, event); return;
    case TORC_EVT_ROLE: control_role(node, &event->role); return;
    case TORC_EVT_CHECKPOINT: torc_cluster_base(&control->cluster, event->role.shard); return;
    }
    sim_fail("node %u: event %u", (unsigned)node->number, (unsigned)event->kind);
}

// False: one of them ended control.
static bool control_events(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->control.attach.hello.worker_count; i++) {
        struct torc_spsc_port *evt = &node->control.attach.ports[i].evt;

        while (node->control.state != SIM_CONTROL_DEAD && torc_spsc_readable(evt, 1) > 0) {
            struct torc_evt event;

            memcpy(&event, torc_spsc_read_at(evt, 0), sizeof(event));
            torc_spsc_release(evt, 1);
            control_event(node, i, &event);
        }
    }
    return node->control.state != SIM_CONTROL_DEAD;
}

void sim_control_trim(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    for (uint32_t i = 0; i < torc_log_store_stream_count(control->store); i++) {
        const struct torc_log_plan *plan = torc_log_store_plan(control->store, i);
        uint32_t before = plan->segment_count;

        torc_log_store_trim(control->store, i, torc_cluster_floor(&control->cluster, plan->stream));
        sim_cover_add(SIM_COVER_LOG_TRIMMED, before - plan->segment_count);
    }
}

static void control_checkpoints(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_checkpoints_numbers before;
    struct torc_checkpoints_numbers after;
    bool kept = false;

    torc_checkpoints_numbers(control->checkpoints, &before);
    (void)torc_checkpoints_step(control->checkpoints, &kept);
    torc_checkpoints_numbers(control->checkpoints, &after);
    sim_cover_add(SIM_COVER_CHECKPOINT_KEPT, after.kept - before.kept);
    sim_cover_add(SIM_COVER_CHECKPOINT_FAILED, after.failures - before.failures);
    if (sim_give_forget(node) || kept) {
        sim_control_trim(node);
    }
    if (control->in_round && torc_checkpoints_is_idle(control->checkpoints)) {
        control->in_round = false;
    }
}

// A log that has failed is the operator's, whether the node serves already or not yet.
static void control_operator(struct sim_node *node)
{
    struct torc_log_store_numbers log;

    torc_log_store_numbers(node->control.store, &log);
    if (log.failed && !node->poisoned) {
        node->poisoned = true;
        sim_cover(SIM_COVER_LOG_FAILED);
        sim_story("node %u  its log has failed: %s", (unsigned)node->number, log.failure.text);
        sim_post(sim->now_ns + 30 * SIM_MS + torc_rng_below(&sim->rng, 300 * SIM_MS),
                 SIM_EVENT_MEND, SIM_MEND_FAILED, node->index, NULL);
    }
}

static void control_serve(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_log_store_numbers log;

    control_operator(node);
    torc_log_store_numbers(control->store, &log);
    if (log.full && !control->told_full) {
        sim_cover(SIM_COVER_LOG_FULL);
    }
    control->told_full = log.full;
    if (!control->in_round && !log.failed &&
        (control->wants_round ||
         log.write_bytes - control->round_log_bytes >= sim->config.checkpoint_bytes)) {
        control->wants_round = false;
        control->in_round = true;
        control->round_log_bytes = log.write_bytes;
        torc_checkpoints_round(control->checkpoints);
    }
    if (control->wants_stop) {
        sim_calm_stop_begins(node);
        sim_control_go(node, SIM_CONTROL_CHECKPOINTING);
    }
}

// As node_seal: a base that is in no checkpoint lies in memory alone.
static void control_seal(struct sim_node *node)
{
    bool bases = false;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        bases = bases || node->control.workers[i].base_shard != 0;
    }
    node->sealed = !bases;
    node->sealed_boot = node->control.cluster.boot;
    sim_cover_add(SIM_COVER_NODE_SEALED, bases ? 0 : 1);
}

static struct torc_stop_seen control_stop_seen(const struct sim_node *node, uint64_t most_ns)
{
    struct torc_log_store_numbers log;

    torc_log_store_numbers(node->control.store, &log);
    return (struct torc_stop_seen){.waited_ns = sim->now_ns - node->control.state_ns,
                                   .most_ns = most_ns,
                                   .hurry = node->control.hurry,
                                   .log_failed = log.failed};
}

// As node_checkpoint.
static void control_checkpoint(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_stop_seen seen = control_stop_seen(node, CHECKPOINT_WAIT_NS);

    seen.in_round = control->in_round;
    if (torc_stop_next(TORC_STOP_CHECKPOINTS, &seen) == TORC_STOP_CHECKPOINTS) {
        return;
    }
    if (control->in_round) {
        sim_cover(SIM_COVER_STOP_GIVES_UP);
        torc_checkpoints_give_up(control->checkpoints);
    }
    sim_agree_leave(node);
    sim_control_go(node, SIM_CONTROL_YIELDING);
}

// As node_yield.
static void control_yield(struct sim_node *node)
{
    struct torc_stop_seen seen = control_stop_seen(node, HANDOVER_NS);

    seen.left = sim_agree_left(node);
    if (torc_stop_next(TORC_STOP_HANDOVER, &seen) == TORC_STOP_HANDOVER) {
        return;
    }
    sim_cover(seen.hurry       ? SIM_COVER_STOP_HURRY
              : seen.left == 0 ? SIM_COVER_STOP_HANDED
                               : SIM_COVER_STOP_LEFT);
    sim_story("node %u  stops%s, %u shards are left to a takeover", (unsigned)node->number,
              seen.hurry ? " in a hurry" : "", (unsigned)seen.left);
    if (!seen.hurry && !seen.log_failed && seen.waited_ns < seen.most_ns) {
        sim_calm_stop_hands(node);
    }
    sim_control_go(node, SIM_CONTROL_QUIESCING);
}

static void control_stopped(struct sim_node *node)
{
    sim_calm_stop_ends(node);
    sim_cover(SIM_COVER_NODE_QUIESCED);
    sim_story("node %u  has stopped cleanly", (unsigned)node->number);
    node->start_dataplane_ns = node->start_control_ns = sim->now_ns + 10 * SIM_MS;
    sim_post(node->start_control_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
    sim_node_kill(node, false);
    sim_control_kill(node);
}

static bool control_disk_is_bad(const struct sim_node *node)
{
    const struct sim_disk_faults *faults = &node->faults;

    return faults->latency_ns > SIM_MS || faults->full_after != UINT64_MAX ||
           faults->fail_write != 0 || faults->fail_other != 0;
}

// As node_quiesce; but a log that has failed is not waited for.
static void control_quiesce(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_stop_seen seen = control_stop_seen(node, REST_NS);
    enum torc_stop stop;

    seen.rests = sim_life_order_all(node, TORC_CMD_QUIESCE);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        seen.rests = seen.rests && control->workers[i].quiesced;
    }
    seen.drained = seen.rests && torc_log_store_drained(control->store); // it tells no worker more
    stop = torc_stop_next(TORC_STOP_REST, &seen);
    if (stop == TORC_STOP_LATE && !seen.log_failed && !control->tells &&
        (!seen.rests || !control_disk_is_bad(node))) {
        sim_fail("node %u: %s", (unsigned)node->number,
                 seen.rests ? "the log is not written out, and the disk is well"
                            : "a worker does not come to rest");
    }
    if (stop == TORC_STOP_REST && !seen.log_failed) {
        return;
    }
    if (!control->tells && !seen.log_failed) {
        control->tells = true;
        if (stop == TORC_STOP_SEAL) {
            control_seal(node);
        }
        sim_agree_down(node);
    }
    if (stop == TORC_STOP_LATE || seen.log_failed || sim_agree_is_told(node)) {
        control_stopped(node);
    }
}

static void control_step(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    if (control->attached && control->state != SIM_CONTROL_DRAINING && control_lost(node)) {
        if (control->recover != NULL) {
            torc_recover_close(control->recover);
            control->recover = NULL;
        }
        sim_agree_down(node);
        sim_control_go(node, SIM_CONTROL_DRAINING);
    }
    switch (control->state) {
    case SIM_CONTROL_DEAD:
    case SIM_CONTROL_FAILED: return;
    case SIM_CONTROL_ASKING:
        if (sim_agree_is_read(node)) {
            sim_life_booted(node);
        }
        return;
    case SIM_CONTROL_READING:
        if (sim_agree_is_read(node)) {
            sim_life_read(node);
        }
        return;
    case SIM_CONTROL_WAITING: sim_life_look(node); return;
    case SIM_CONTROL_SCANNING: sim_life_scan(node); return;
    case SIM_CONTROL_FEEDING: sim_life_feed(node); return;
    case SIM_CONTROL_REPLAYING:
        control_operator(node);
        sim_life_replay(node);
        return;
    case SIM_CONTROL_RESUMING: sim_life_resumed(node); return;
    case SIM_CONTROL_SERVING: control_serve(node); return;
    case SIM_CONTROL_CHECKPOINTING: control_checkpoint(node); return;
    case SIM_CONTROL_YIELDING: control_yield(node); return;
    case SIM_CONTROL_QUIESCING: control_quiesce(node); return;
    case SIM_CONTROL_DRAINING: sim_life_drain(node); return;
    }
}

static bool control_has_work(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    for (uint32_t i = 0; control->attached && i < control->attach.hello.worker_count; i++) {
        struct torc_chan_ports *ports = control->attach.ports + i;

        if (torc_log_store_has_work(control->store, i) || torc_spsc_readable(&ports->evt, 1) > 0 ||
            (torc_spsc_readable(&ports->out, 1) > 0 && control->checkpoints != NULL &&
             !torc_checkpoints_is_full(control->checkpoints, i))) {
            return true;
        }
    }
    return false;
}

// As torc_attach_wake.
static void control_ring(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    for (uint32_t i = 0; control->attached && !control_lost(node) && i < node->worker_count; i++) {
        if (control->attach.rung[i]) {
            control->attach.rung[i] = false;
            if (torc_chan_wants_bell(control->attach.ports[i].worker)) {
                sim_worker_ring(node, control->attach.ports[i].worker, i);
            }
        }
    }
}

// As node_block, but for what a look of node_slow would find: that is looked at in each turn.
static void control_rest(struct sim_node *node, bool moved)
{
    struct sim_control *control = &node->control;
    uint64_t at_ns = sim->now_ns + (moved ? TURN_NS : BEAT_NS);

    for (uint32_t i = 0; control->attached && !control_lost(node) && i < node->worker_count; i++) {
        if (control->attach.rung[i]) { // as torc_attach_sleeping: it would sleep on its orders
            sim_fail("node %u: control sleeps, and has not rung worker %u for what it ordered",
                     (unsigned)node->number, (unsigned)i);
        }
    }
    if (control->state == SIM_CONTROL_SCANNING) {
        at_ns = sim->now_ns + TURN_NS;
    } else if (control->state == SIM_CONTROL_FEEDING) {
        at_ns = torc_min_u64(at_ns, sim->now_ns + SLOW_NS);
    } else if (control->state == SIM_CONTROL_WAITING) {
        at_ns = torc_min_u64(at_ns, torc_max_u64(control->look_ns, sim->now_ns + TURN_NS));
    }
    if (control->attached) {
        atomic_store(&control->attach.chan->control_sleeping, 1);
    }
    if (control_has_work(node)) {
        at_ns = sim->now_ns + TURN_NS;
    }
    at_ns = torc_min_u64(at_ns, torc_max_u64(sim_disk_deadline(control->disk), sim->now_ns));
    at_ns = torc_min_u64(at_ns, sim_when(&node->clock, torc_log_store_deadline_ns(control->store)));
    at_ns = torc_min_u64(at_ns, sim_when(&node->clock, sim_agree_deadline_ns(node)));
    sim_control_wake(node, torc_max_u64(at_ns, sim->now_ns + 1000));
}

void sim_control_turn(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    uint64_t local_ns = sim_local_ns(&node->clock);
    enum sim_control_state before = control->state;
    bool rung = TORC_BUG(RUNG_TOO_EARLY);
    bool moved = false;

    sim->may_die = true;
    if (setjmp(sim->death) != 0) {
        sim->may_die = false;
        control_died(node);
        return;
    }
    moved = torc_disk_run(control->disk) > 0;
    if (control->attached) {
        atomic_store(&control->attach.chan->control_sleeping, 0);
        atomic_store(&control->attach.chan->control_turned_ns, local_ns);
        if (!control_events(node)) {
            sim->may_die = false;
            return;
        }
        moved = torc_log_store_step(control->store, local_ns) || moved;
    }
    if (control->checkpoints != NULL && control->state != SIM_CONTROL_DRAINING) {
        control_checkpoints(node);
    }
    if (rung) {
        control_ring(node);
    }
    sim_agree_step(node);
    control_step(node);
    sim->may_die = false;
    if (control->state != SIM_CONTROL_DEAD) {
        if (!rung) { // behind all that gives orders
            control_ring(node);
        }
        control_rest(node, moved || control->state != before);
    }
}
