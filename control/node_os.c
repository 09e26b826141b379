// Torc control: the life of one node: its states, serving, stopping, the loop. See
// control/node_os.h.
#include "control/node_impl_os.h"
#include "control/stop.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <systemd/sd-daemon.h>

#include <sched.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define NODE_SLOW_NS         (1 * TORC_NS_PER_MS)   // between two looks at what is not urgent
#define NODE_BEAT_NS         (100 * TORC_NS_PER_MS) // at most, between two signs of life
#define NODE_QUIESCE_WAIT_NS (30 * TORC_NS_PER_S)   // a bet: a worker that takes longer is stuck

const char *torc_node_state_name(enum torc_node_state state)
{
    static const char *const names[] = {
#define X(name, text) text,
        TORC_NODE_STATE_TABLE(X)
#undef X
    };

    torc_assert((uint32_t)state < TORC_COUNT_OF(names));
    return names[state];
}

void torc_node_go(struct torc_node *node, enum torc_node_state state)
{
    torc_log(TORC_LOG_DEBUG, "node", "state", "from=%s to=%s", torc_node_state_name(node->state),
             torc_node_state_name(state));
    node->state = state;
    node->state_ns = node->now_ns;
    for (uint32_t i = 0; i < TORC_CHAN_WORKERS_MAX; i++) {
        node->workers[i].ordered = false;
    }
}

void torc_node_fail(struct torc_node *node, const struct torc_fail *why)
{
    node->failure = *why;
    torc_log(TORC_LOG_ERROR, "node", "failed", "state=%s error=%s reason=\"%s\"",
             torc_node_state_name(node->state), torc_err_name(why->err), why->text);
    torc_node_go(node, TORC_NODE_ENDED);
}

void torc_node_unclean(struct torc_node *node, const char *reason)
{
    (void)torc_fail(&node->failure, TORC_ERR_INTERNAL,
                    "the stop was not clean: %.140s; the next start recovers from the log", reason);
}

// -- What systemd and people see -----------------------------------------------------------------

static void node_status(struct torc_node *node)
{
    char text[sizeof(node->last_status)];
    const struct torc_cluster *cluster = &node->registry.cluster;

    switch (node->state) {
    case TORC_NODE_WAITING:
        (void)snprintf(text, sizeof(text), "STATUS=waiting for torc-dataplane");
        break;
    case TORC_NODE_FEEDING:
    case TORC_NODE_REPLAYING:
        (void)snprintf(text, sizeof(text),
                       "STATUS=recovering, %" PRIu32 " of %" PRIu32 " shards ready",
                       torc_cluster_ready(cluster), torc_cluster_count(cluster));
        break;
    case TORC_NODE_SCANNING:
    case TORC_NODE_RESUMING:
    case TORC_NODE_SERVING:
    case TORC_NODE_CHECKPOINTING:
    case TORC_NODE_YIELDING:
    case TORC_NODE_QUIESCING:
    case TORC_NODE_DRAINING:
    case TORC_NODE_ENDED:
        (void)snprintf(text, sizeof(text), "STATUS=%s", torc_node_state_name(node->state));
        break;
    }
    if (strcmp(text, node->last_status) != 0) {
        memcpy(node->last_status, text, sizeof(text));
        (void)sd_notify(0, text); // nobody may be listening
    }
    if (node->now_ns - node->notify_ns > TORC_NS_PER_S) {
        node->notify_ns = node->now_ns;
        (void)sd_notify(0, "WATCHDOG=1");
    }
}

void torc_node_tell_ready(struct torc_node *node)
{
    char line[TORC_NETWORK_CLUSTER_BYTES + 2];
    struct torc_fail why = {0};
    int bytes = snprintf(line, sizeof(line), "%s\n", node->network.cluster);

    if (torc_file_replace(node->dir.run_fd, "cluster", line, (uint64_t)bytes, 0644, &why) !=
        TORC_ERR_OK) {
        torc_log(TORC_LOG_WARN, "node", "address-not-written", "reason=\"%s\"", why.text);
    }
    (void)sd_notify(0, "READY=1");
    torc_log(TORC_LOG_INFO, "node", "serving",
             "address=%s boot=%" PRIu64 " shards=%" PRIu32 " workers=%" PRIu32,
             node->network.cluster, node->registry.cluster.boot, node->registry.cluster.shard_count,
             node->attach.hello.worker_count);
}

// -- Serving -------------------------------------------------------------------------------------

static void node_event(struct torc_node *node, uint32_t index, const struct torc_evt *event)
{
    struct torc_node_worker *worker = node->workers + index;
    struct torc_cluster_shard *shard;
    struct torc_fail why = {0};

    switch ((enum torc_evt_kind)event->kind) {
    case TORC_EVT_SHARD_READY:
        shard = torc_cluster_shard(&node->registry.cluster, event->shard.shard);
        if (shard != NULL && shard->worker == index && shard->epoch == event->shard.epoch) {
            shard->ready = true;
            torc_node_yield_due(node);
            shard->records = event->shard.records;
            shard->replayed = event->shard.replayed;
        }
        return;
    case TORC_EVT_CHECKPOINT_DONE:
        if (node->checkpoints != NULL) {
            torc_checkpoints_event(node->checkpoints, index, &event->checkpoint);
        }
        return;
    case TORC_EVT_CONTROL_SEEN:
        if (event->seen.hello == node->attach.number) { // not an answer to the control before us
            worker->seen = true;
            worker->said = event->seen;
        }
        return;
    case TORC_EVT_QUIESCED:
        worker->quiesced = true;
        worker->base_shard = event->role.shard;
        return;
    case TORC_EVT_READ:
    case TORC_EVT_PROPOSE: torc_node_meta_event(node, index, event); return;
    case TORC_EVT_ROLE: torc_node_meta_role(node, &event->role); return;
    case TORC_EVT_CHECKPOINT: torc_cluster_base(&node->registry.cluster, event->role.shard); return;
    case TORC_EVT_SHARD_GONE: torc_node_shard_gone(node, index, &event->role); return;
    case TORC_EVT_SHARD_HERE: torc_node_shard_here(node, index, &event->here); return;
    case TORC_EVT_LOG_AGAIN: torc_node_feed_again(node, index); return;
    case TORC_EVT_ALARM:
        node->numbers[TORC_CONTROL_ALARMS]++;
        (void)torc_fail(
            &why,
            event->alarm.err == TORC_ERR_OK ? TORC_ERR_INTERNAL : (enum torc_err)event->alarm.err,
            "%.*s", (int)strnlen(event->alarm.text, sizeof(event->alarm.text)), event->alarm.text);
        torc_log(TORC_LOG_ERROR, "worker", "alarm",
                 "worker=%" PRIu32 " shard=%" PRIu32 " error=%s text=\"%s\"", index,
                 event->alarm.shard, torc_err_name(why.err), why.text);
        // A shard that cannot be rebuilt: nothing is guessed, the node does not start. Others are
        // alive by then, and have alarms of their own.
        if (event->alarm.goes_on == 0 &&
            (node->state == TORC_NODE_FEEDING || node->state == TORC_NODE_REPLAYING)) {
            torc_node_fail(node, &why);
        }
        return;
    }
    torc_log(TORC_LOG_WARN, "worker", "unknown-event", "worker=%" PRIu32 " kind=%" PRIu32, index,
             event->kind);
}

static bool node_events(struct torc_node *node)
{
    bool any = false;

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        struct torc_spsc_port *evt = &node->attach.ports[i].evt;

        while (node->state != TORC_NODE_ENDED && torc_spsc_readable(evt, 1) > 0) {
            struct torc_evt event;

            memcpy(&event, torc_spsc_read_at(evt, 0), sizeof(event));
            torc_spsc_release(evt, 1);
            node_event(node, i, &event);
            any = true;
        }
    }
    return any;
}

static bool node_log_failed(const struct torc_node *node)
{
    struct torc_log_store_numbers numbers;

    torc_log_store_numbers(node->store, &numbers);
    return numbers.failed;
}

// A clean stop: checkpoints (if wanted), primaries are handed over, QUIESCE, the end.
static void node_begin_stop(struct torc_node *node)
{
    (void)sd_notify(0, "STOPPING=1");
    (void)unlinkat(node->dir.run_fd, "cluster", 0); // it may not be there
    torc_log(TORC_LOG_INFO, "node", "stopping", "state=%s", torc_node_state_name(node->state));
    if (node->state == TORC_NODE_RESUMING) { // in a hurry: else node_signals waits for its end
        torc_node_unclean(node, "torc-dataplane serves on: it was not taken over yet");
    }
    if (node->state != TORC_NODE_SERVING) {
        torc_node_go(node, TORC_NODE_ENDED); // nothing is served that could be stopped
        return;
    }
    if (node->settings->checkpoint_on_stop != 0 && !node_log_failed(node) && !node->rounds.open) {
        torc_node_begin_round(node);
    }
    torc_node_go(node, TORC_NODE_CHECKPOINTING);
}

// What torc_stop_next asks, but for what a part alone knows.
static struct torc_stop_seen node_stop_seen(const struct torc_node *node, uint64_t most_ns)
{
    return (struct torc_stop_seen){.waited_ns = node->now_ns - node->state_ns,
                                   .most_ns = most_ns,
                                   .hurry = node->stops > 1,
                                   .log_failed = node_log_failed(node)};
}

// Checkpoints only make the next start faster: a disk that is slow or hangs holds no stop up.
static void node_checkpoint(struct torc_node *node)
{
    struct torc_stop_seen seen =
        node_stop_seen(node, node->settings->checkpoint_wait_ms * TORC_NS_PER_MS);

    seen.in_round = node->rounds.open;
    if (torc_stop_next(TORC_STOP_CHECKPOINTS, &seen) == TORC_STOP_CHECKPOINTS) {
        return;
    }
    if (node->rounds.open) {
        struct torc_checkpoints_numbers numbers;

        torc_checkpoints_numbers(node->checkpoints, &numbers);
        torc_log(TORC_LOG_WARN, "checkpoint", "not-waited-for",
                 "milliseconds=%" PRIu64 " shards=%" PRIu32
                 " note=\"the next start replays what they lack from the log\"",
                 seen.waited_ns / TORC_NS_PER_MS, numbers.wanted);
        torc_checkpoints_give_up(node->checkpoints);
    }
    torc_node_yield_leave(node);
    torc_node_go(node, TORC_NODE_YIELDING);
}

// All that was acknowledged is on the disk; but a base whose checkpoint was not kept lies in memory
// alone (J2).
static enum torc_err node_seal(struct torc_node *node, struct torc_fail *why)
{
    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        if (node->workers[i].base_shard != 0) {
            return torc_fail(why, TORC_ERR_UNAVAILABLE,
                             "shard %" PRIu32 ": its base is not in a checkpoint",
                             node->workers[i].base_shard);
        }
    }
    return torc_data_dir_seal(&node->dir, node->registry.cluster.boot, why);
}

static void node_yield(struct torc_node *node)
{
    struct torc_stop_seen seen = node_stop_seen(node, node->settings->handover_ms * TORC_NS_PER_MS);

    seen.left = torc_node_yield_left(node);
    if (torc_stop_next(TORC_STOP_HANDOVER, &seen) == TORC_STOP_HANDOVER) {
        return;
    }
    if (torc_node_yield_leaves(node)) {
        torc_log(seen.left > 0 ? TORC_LOG_WARN : TORC_LOG_INFO, "node", "handed-over",
                 "milliseconds=%" PRIu64 " left=%" PRIu32, seen.waited_ns / TORC_NS_PER_MS,
                 seen.left);
    }
    torc_node_go(node, TORC_NODE_QUIESCING);
}

static void node_stop_late(struct torc_node *node, bool rests)
{
    struct torc_fail why = {0};

    (void)torc_fail(&why, TORC_ERR_DEADLINE,
                    "stop: %s within %" PRIu64 " s; the next start recovers from the log",
                    rests ? "the log was not written out" : "a worker did not come to rest",
                    NODE_QUIESCE_WAIT_NS / TORC_NS_PER_S);
    torc_node_fail(node, &why);
}

// Workers take and answer nothing any more, sealed or not: others need not wait until they suspect
// that.
static void node_stopped(struct torc_node *node)
{
    struct torc_fail why = {0};
    struct torc_fail untold = {0};
    enum torc_err err = node_seal(node, &why);

    if (torc_registry_down(&node->registry, &untold) != TORC_ERR_OK && err == TORC_ERR_OK) {
        why = untold;
        err = why.err;
    }
    if (err != TORC_ERR_OK) {
        torc_log(TORC_LOG_WARN, "node", "not-sealed", "reason=\"%s\"", why.text);
        torc_node_unclean(node, why.text);
    }
}

static void node_quiesce(struct torc_node *node)
{
    struct torc_stop_seen seen = node_stop_seen(node, NODE_QUIESCE_WAIT_NS);

    seen.rests = torc_node_order_all(node, TORC_CMD_QUIESCE);
    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        seen.rests = seen.rests && node->workers[i].quiesced;
    }
    seen.drained = seen.rests && torc_log_store_drained(node->store); // it tells no worker more
    switch (torc_stop_next(TORC_STOP_REST, &seen)) {
    case TORC_STOP_CHECKPOINTS:
    case TORC_STOP_HANDOVER:
    case TORC_STOP_REST: return;
    case TORC_STOP_LATE: node_stop_late(node, seen.rests); return;
    case TORC_STOP_UNCLEAN:
        torc_log(TORC_LOG_ERROR, "node", "stopped-unclean", "reason=\"the log had failed\"");
        torc_node_unclean(node, "the log had failed");
        break;
    case TORC_STOP_SEAL: node_stopped(node); break;
    }
    torc_log(TORC_LOG_INFO, "node", "stopped", "boot=%" PRIu64, node->registry.cluster.boot);
    torc_node_go(node, TORC_NODE_ENDED);
}

// -- The loop ------------------------------------------------------------------------------------

static void node_signals(struct torc_node *node)
{
    struct signalfd_siginfo info;

    while (read(node->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGUSR1) {
            node->leave = true;
        } else {
            node->stops++;
        }
    }
    if (node->leave && node->state != TORC_NODE_ENDED) {
        torc_log(TORC_LOG_INFO, "node", "leaving",
                 "note=\"the dataplane goes on without control\"");
        torc_node_go(node, TORC_NODE_ENDED);
    }
    if (node->stops > 0 && node->state != TORC_NODE_CHECKPOINTING &&
        node->state != TORC_NODE_YIELDING && node->state != TORC_NODE_QUIESCING &&
        node->state != TORC_NODE_DRAINING && node->state != TORC_NODE_ENDED &&
        (node->state != TORC_NODE_RESUMING || node->stops > 1)) { // soon it serves
        node_begin_stop(node);
    }
}

// What need not be looked at every turn.
static void node_slow(struct torc_node *node)
{
    node->slow_ns = node->now_ns;
    node_signals(node);
    torc_admin_step(node->admin, torc_node_answer, node);
    if (node->http != NULL) {
        torc_http_step(node->http);
    }
    torc_node_meta_step(node);
    torc_node_keys_step(node);
    torc_node_sessions_step(node);
    if (node->attached && node->state != TORC_NODE_DRAINING && node->state != TORC_NODE_ENDED &&
        torc_attach_is_lost(&node->attach)) {
        torc_node_lost(node);
    }
    if (node->state == TORC_NODE_SERVING && !node_log_failed(node) && torc_node_wants_round(node)) {
        torc_node_begin_round(node);
    }
    node_status(node);
}

// How much was ever put into the rings of recovery.
static uint64_t node_fed(const struct torc_node *node)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; node->attached && i < node->attach.hello.worker_count; i++) {
        sum += node->attach.ports[i].in.near + node->attach.ports[i].cmd.near;
    }
    return sum;
}

static void node_step_state(struct torc_node *node)
{
    switch (node->state) {
    case TORC_NODE_WAITING: torc_node_look(node); return;
    case TORC_NODE_SCANNING: torc_node_scan(node); return;
    case TORC_NODE_FEEDING: torc_node_feed(node); return;
    case TORC_NODE_REPLAYING: torc_node_replay(node); return;
    case TORC_NODE_RESUMING: torc_node_resumed(node); return;
    case TORC_NODE_SERVING: return;
    case TORC_NODE_CHECKPOINTING: node_checkpoint(node); return;
    case TORC_NODE_YIELDING: node_yield(node); return;
    case TORC_NODE_QUIESCING: node_quiesce(node); return;
    case TORC_NODE_DRAINING: torc_node_drain(node); return;
    case TORC_NODE_ENDED: return;
    }
}

// One turn; true when something moved.
static bool node_turn(struct torc_node *node)
{
    enum torc_node_state before = node->state;
    uint64_t fed = node_fed(node);
    bool moved = torc_disk_run(node->disk) > 0;

    if (node->attached) {
        atomic_store_explicit(&node->attach.chan->control_turned_ns, node->now_ns,
                              memory_order_relaxed);
        moved = node_events(node) || moved;
        moved = torc_log_store_step(node->store, node->now_ns) || moved;
        torc_disk_submit(node->disk); // a block waits for nothing that follows
    }
    if (node->checkpoints != NULL && node->state != TORC_NODE_DRAINING) {
        moved = torc_node_checkpoints(node) || moved;
    }
    node_step_state(node);
    // Recovery's pieces are work as well; but a full ring is the workers' turn.
    return moved || node->state != before || node->state == TORC_NODE_SCANNING ||
           (node->attached && node_fed(node) != fed);
}

// Something stands in a ring that a turn would take.
static bool node_has_work(struct torc_node *node)
{
    for (uint32_t i = 0; node->attached && i < node->attach.hello.worker_count; i++) {
        struct torc_chan_ports *ports = node->attach.ports + i;
        bool log = torc_log_store_has_work(node->store, i);

        if (log || torc_spsc_readable(&ports->evt, 1) > 0 ||
            (torc_spsc_readable(&ports->out, 1) > 0 && node->checkpoints != NULL &&
             !torc_checkpoints_is_full(node->checkpoints, i))) {
            return true;
        }
    }
    return false;
}

static void node_block(struct torc_node *node)
{
    uint64_t until_ns = node->now_ns + torc_min_u64(NODE_BEAT_NS, node->settings->control_grace_ms *
                                                                      TORC_NS_PER_MS / 4);

    until_ns = torc_min_u64(until_ns, torc_log_store_deadline_ns(node->store));
    // Nobody rings for orders that were taken, nor for a page of sessions.
    if (node->state == TORC_NODE_FEEDING || node->sessions != NULL) {
        until_ns = torc_min_u64(until_ns, node->now_ns + NODE_SLOW_NS);
    }
    until_ns = torc_min_u64(until_ns, torc_node_meta_deadline_ns(node));
    if (node->state == TORC_NODE_WAITING) {
        until_ns = torc_min_u64(until_ns, node->next_look_ns);
    }
    if (node->attached) {
        torc_attach_sleeping(&node->attach, true);
    }
    if (until_ns > node->now_ns && !node_has_work(node)) {
        node->numbers[TORC_CONTROL_SLEEPS]++;
        if (torc_disk_wait(node->disk, node->epoll_fd, until_ns - node->now_ns)) {
            node->slow_ns = 0; // somebody asks: now
        }
    }
    if (node->attached) {
        torc_attach_sleeping(&node->attach, false);
    }
}

// Between two turns. What the disk has is finished by threads of the kernel, which may need this
// very processor: a spin would keep them from it for a tick.
static void node_rest(struct torc_node *node, uint64_t moved_ns)
{
    if (moved_ns == node->now_ns) {
        return;
    }
    if (torc_disk_busy(node->disk) > 0 || node->now_ns - moved_ns >= TORC_NODE_SPIN_NS) {
        node_block(node);
    } else {
        (void)sched_yield();
    }
}

enum torc_err torc_node_run(struct torc_node *node, struct torc_fail *why)
{
    uint64_t moved_ns = node->now_ns;

    while (node->state != TORC_NODE_ENDED) {
        node->now_ns = torc_clock_now_ns();
        if (node_turn(node)) {
            moved_ns = node->now_ns;
        }
        if (node->now_ns - node->slow_ns >= NODE_SLOW_NS) {
            node_slow(node);
        }
        if (node->attached) { // behind all that gives orders
            torc_attach_wake(&node->attach);
        }
        if (node->state != TORC_NODE_ENDED) {
            node_rest(node, moved_ns);
        }
    }
    torc_node_settle(node);
    if (node->failure.err != TORC_ERR_OK) {
        return torc_fail(why, node->failure.err, "%s", node->failure.text);
    }
    return TORC_ERR_OK;
}
