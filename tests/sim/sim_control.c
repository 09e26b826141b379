// Torc simulator: control of one machine. See sim.h.
//
// What    what control/node_os.c and node_life_os.c do, without descriptors: the states of a node
//         around the same store, recovery and checkpoints, with the metastore asked asynchronously.
//         Control may be killed between two turns or at any operation on its disk (longjmp out of
//         the turn: what it had published stands, the rest of its memory is gone).
#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_NS (20 * SIM_MS)
#define BEAT_NS (20 * SIM_MS)
#define WAKE_NS UINT64_C(3000)
#define TURN_NS UINT64_C(5000)
#define SCANS   8u

const uint8_t sim_psk[TORC_NOISE_KEY_BYTES] = {0x73, 0x69, 0x6d};

void sim_control_wake(struct sim_node *node, uint64_t at_ns)
{
    if (node->control.state != SIM_CONTROL_DEAD) {
        sim_wake(&node->control.actor, at_ns, SIM_EVENT_CONTROL, node->index, 0);
    }
}

static void control_go(struct sim_node *node, enum sim_control_state state)
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
                                                  .shards = node->control.shards};
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
    control_go(node, SIM_CONTROL_WAITING);
    sim_control_wake(node, sim->now_ns + WAKE_NS);
    sim_story("node %u  control starts", (unsigned)node->number);
}

static void control_let_go(struct sim_node *node)
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
    control_let_go(node);
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

static void control_fail(struct sim_node *node, const struct torc_fail *why)
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

// -- Meeting the dataplane ------------------------------------------------------------------------

static void control_keys(struct sim_node *node)
{
    struct torc_chan_keys *keys = torc_chan_keys(node->chan);
    struct torc_cmd order = {.kind = TORC_CMD_KEYS_CHANGED};
    struct torc_chan_principal *principal = &keys->principals[0];

    if (!sim->config.sealed) {
        return;
    }
    atomic_fetch_add_explicit(&keys->sequence, atomic_load(&keys->sequence) % 2 == 0 ? 1 : 2,
                              memory_order_acq_rel);
    *principal = (struct torc_chan_principal){.number = 7,
                                              .roles = TORC_ROLE_READ | TORC_ROLE_WRITE,
                                              .sessions_max = 256,
                                              .key_count = 1,
                                              .key_ids = {1}};
    torc_noise_bind(principal->psks[0], sim_psk, SIM_CLUSTER, node->number);
    keys->count = 1;
    atomic_fetch_add_explicit(&keys->sequence, 1, memory_order_acq_rel);
    torc_assert(torc_attach_cmd(&node->control.attach, 0, &order)); // its ring is new, or read
}

static void control_attach(struct sim_node *node)
{
    struct torc_attach *attach = &node->control.attach;
    struct torc_chan *chan = node->chan;
    struct torc_fail why;

    *attach = (struct torc_attach){.chan = chan, .map = torc_chan_map(chan)};
    attach->hello.worker_count = node->worker_count;
    attach->hello.bytes = node->chan_bytes;
    attach->hello.boot = atomic_load(&chan->boot);
    attach->ports = calloc(node->worker_count, sizeof(*attach->ports));
    torc_assert(attach->ports != NULL);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        torc_assert(torc_chan_attach(attach->ports + i, TORC_CHAN_CONTROL, chan, node->chan_bytes,
                                     i, &why) == TORC_ERR_OK);
    }
    atomic_fetch_add(&chan->control_attached, 1);
    node->control.attached = true;
    node->control.fresh = torc_attach_is_fresh(attach);
    memset(node->control.workers, 0, sizeof(node->control.workers));
    control_keys(node);
}

static void control_look(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    if (!node->up || sim->now_ns < control->look_ns) {
        return;
    }
    control->look_ns = sim->now_ns + LOOK_NS;
    control_attach(node);
    if (control->attach.hello.boot == 0 && control->fresh) {
        sim_agree_begin(node, true);
        control_go(node, SIM_CONTROL_ASKING);
    } else {
        sim_agree_begin(node, false);
        control_go(node, SIM_CONTROL_READING);
    }
}

static enum torc_err control_begin_recover(struct sim_node *node, struct torc_fail *why)
{
    struct sim_control *control = &node->control;
    struct torc_recover_config config = {.disk = control->disk,
                                         .store = control->store,
                                         .log_fd = sim_store_folder(node->index, false),
                                         .checkpoint_fd = sim_store_folder(node->index, true),
                                         .cluster = SIM_CLUSTER,
                                         .node = node->number,
                                         .worker_count = node->worker_count,
                                         .shards = control->recover_shards,
                                         .shard_count = control->cluster.shard_count};

    memset(control->recover_shards, 0, sizeof(control->recover_shards));
    for (uint32_t i = 0; i < control->cluster.shard_count; i++) {
        control->recover_shards[i].shard = control->cluster.shards[i].shard;
        control->recover_shards[i].worker = control->cluster.shards[i].worker;
    }
    return torc_recover_begin(&control->recover, &config, why);
}

// A boot is ours: recovery begins.
static void control_booted(struct sim_node *node)
{
    struct torc_fail why;

    sim_agree_take_shards(node);
    torc_cluster_spread(&node->control.cluster, node->worker_count);
    if (control_begin_recover(node, &why) != TORC_ERR_OK) {
        control_fail(node, &why);
        return;
    }
    control_go(node, SIM_CONTROL_SCANNING);
}

static enum torc_err control_open_checkpoints(struct sim_node *node, struct torc_fail *why)
{
    struct sim_control *control = &node->control;
    struct torc_checkpoints_config config = {.disk = control->disk,
                                             .store = control->store,
                                             .attach = &control->attach,
                                             .cluster = &control->cluster,
                                             .folder_fd = sim_store_folder(node->index, true),
                                             .first_number = 1 + sim->now_ns / SIM_US};

    return torc_checkpoints_open(&control->checkpoints, &config, why);
}

static bool control_all_serve(const struct sim_node *node)
{
    const struct torc_attach *attach = &node->control.attach;
    bool serving = true;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        serving = serving && atomic_load(&attach->ports[i].worker->state) == TORC_WORKER_SERVING;
    }
    return serving;
}

// As node_end_dataplane.
static void control_end_dataplane(struct sim_node *node)
{
    sim_story("node %u  this dataplane cannot be continued", (unsigned)node->number);
    sim_cover(SIM_COVER_NODE_KILLED);
    node->start_dataplane_ns = sim->now_ns + 2 * SIM_MS;
    sim_post(node->start_dataplane_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
    sim_node_kill(node, false);
    control_go(node, SIM_CONTROL_DRAINING);
}

// As node_can_resume and node_read_map.
static bool control_can_resume(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    const struct torc_chan_map *map = control->attach.map;
    bool serving = control->attach.hello.boot == control->cluster.boot &&
                   map->entry_count == sim->config.shards && control_all_serve(node);

    for (uint32_t i = 0; i < control->cluster.shard_count && serving; i++) {
        struct torc_cluster_shard *shard = &control->cluster.shards[i];
        const struct torc_chan_map_entry *entry = &map->entries[shard->shard - 1];

        serving = entry->shard == shard->shard && (shard->replica || entry->epoch == shard->epoch);
        shard->worker = UINT8_MAX;
        for (uint32_t at = 0; at < entry->member_count; at++) {
            if (entry->members[at].node == node->number) {
                shard->worker = entry->members[at].core;
            }
        }
        serving = serving && shard->worker < node->worker_count; // a learner's is in no map
        shard->ready = true;
    }
    return serving;
}

static void control_read(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_fail why;
    enum torc_err err;

    sim_agree_take_shards(node);
    if (!control_can_resume(node)) {
        control_end_dataplane(node);
        return;
    }
    err = control_begin_recover(node, &why); // looks at the folders, no more
    for (uint32_t i = 0; i < control->cluster.shard_count && err == TORC_ERR_OK; i++) {
        const struct torc_recover_shard *from = &control->recover_shards[i];
        struct torc_cluster_shard *shard = &control->cluster.shards[i];

        shard->has_checkpoint = from->has_checkpoint;
        shard->checkpoint_lsn = from->checkpoint.lsn;
        shard->start_sequence = from->checkpoint.start_sequence;
        shard->fed = true; // as far as a control that begins here knows
        shard->covered = from->has_checkpoint && !shard->replica &&
                         from->checkpoint.epoch == shard->epoch &&
                         from->checkpoint.stream == shard->worker + 1;
    }
    if (err == TORC_ERR_OK) {
        torc_recover_close(control->recover);
        control->recover = NULL;
        err = control_open_checkpoints(node, &why);
    }
    if (err != TORC_ERR_OK) {
        control_fail(node, &why);
        return;
    }
    control->cluster.map_version = control->attach.map->version; // what the workers know
    control_go(node, SIM_CONTROL_RESUMING);
}

// -- Recovery -------------------------------------------------------------------------------------

// As node_take_over.
static enum torc_err control_take_over(struct sim_node *node, struct torc_fail *why)
{
    struct sim_control *control = &node->control;
    struct torc_recover_numbers found;
    enum torc_err err = control_open_checkpoints(node, why);

    for (uint32_t i = 0; i < control->cluster.shard_count; i++) {
        const struct torc_recover_shard *from = &control->recover_shards[i];
        struct torc_cluster_shard *shard = &control->cluster.shards[i];

        shard->moved = from->stream != 0 && from->stream != shard->worker + 1;
        shard->turn = from->turn + (shard->moved ? 1 : 0);
        shard->has_checkpoint = from->has_checkpoint;
        shard->checkpoint_lsn = from->checkpoint.lsn;
        shard->start_sequence = from->checkpoint.start_sequence;
        shard->covered = from->has_checkpoint && from->checkpoint.turn == shard->turn &&
                         from->checkpoint.stream == shard->worker + 1;
        sim_cover_add(SIM_COVER_NODE_MOVED, shard->moved ? 1 : 0);
        sim_cover_add(SIM_COVER_NODE_FROM_CHECKPOINT, from->has_checkpoint ? 1 : 0);
    }
    sim_agree_find_bases(node);
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        err = torc_log_store_begin(control->store, &control->attach, i,
                                   torc_recover_next_sequence(control->recover, i + 1), why);
    }
    torc_recover_numbers(control->recover, &found);
    sim_cover_add(SIM_COVER_NODE_TORN, found.torn_blocks > 0 ? 1 : 0);
    sim_agree_write_map(node);
    return err;
}

static void control_scan(struct sim_node *node)
{
    struct torc_fail why = {0};
    bool scanned = false;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < SCANS && err == TORC_ERR_OK && !scanned; i++) {
        err = torc_recover_step(node->control.recover, &scanned, &why);
    }
    if (err == TORC_ERR_OK && scanned) {
        err = control_take_over(node, &why);
    }
    if (err != TORC_ERR_OK) {
        control_fail(node, &why);
    } else if (scanned) {
        control_go(node, SIM_CONTROL_FEEDING);
    }
}

static bool control_configure(struct sim_node *node, uint32_t worker)
{
    struct sim_control *control = &node->control;
    struct torc_cmd order = {.kind = TORC_CMD_CONFIGURE};
    struct torc_cmd map = {.kind = TORC_CMD_MAP_CHANGED,
                           .map_version = control->cluster.map_version};

    order.configure = (struct torc_cmd_configure){
        .cluster = SIM_CLUSTER,
        .boot = control->cluster.boot,
        .key_count = sim->config.key_count,
        .hlc = torc_recover_clock(control->recover),
        .node = node->number,
        .stream = worker + 1,
        .next_sequence = torc_recover_next_sequence(control->recover, worker + 1),
        .durability = sim->config.durability,
        .security = sim->config.sealed ? TORC_SECURITY_KEYS : TORC_SECURITY_CLEAR,
        .base_port = SIM_BASE_PORT,
        .value_bytes_max = 1u << 20,
        .segment_bytes = sim->config.segment_bytes,
        .dedup_ttl_s = sim->config.dedup_ttl_s,
        .sessions_max = 256,
        .copy = sim_agree_copy(node),
        .min_in_sync = sim->config.replicas / 2 + (sim->config.replicas > 2 ? 1 : 0),
        .map_version = (uint32_t)control->cluster.map_version};
    memset(order.configure.secret, (int)node->number, sizeof(order.configure.secret));
    return torc_attach_cmd(&control->attach, worker, &order) &&
           torc_attach_cmd(&control->attach, worker, &map);
}

static bool control_open_worker(struct sim_node *node, uint32_t index)
{
    struct sim_control *control = &node->control;
    struct sim_control_worker *worker = &control->workers[index];
    struct torc_spsc_port *cmd = &control->attach.ports[index].cmd;

    if (!worker->configured) {
        worker->configured = control_configure(node, index);
    }
    while (worker->configured && worker->shard_at < control->cluster.shard_count) {
        const struct torc_cluster_shard *shard = control->cluster.shards + worker->shard_at;
        struct torc_cmd order = {.kind = TORC_CMD_SHARD_OPEN};

        order.shard = (struct torc_cmd_shard){.lo = shard->lo,
                                              .hi = shard->hi,
                                              .shard = shard->shard,
                                              .epoch = shard->epoch,
                                              .turn = shard->turn,
                                              .moved = shard->moved ? 1 : 0,
                                              .is_replica = shard->replica,
                                              .has_base = shard->based};
        if (shard->worker == index && !torc_attach_cmd(&control->attach, index, &order)) {
            return false;
        }
        worker->shard_at++;
    }
    // What goes through `in` must not be seen before the orders it is about.
    return worker->configured && torc_spsc_writable(cmd, cmd->slot_count) == cmd->slot_count;
}

static void control_feed(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_fail why = {0};
    bool opened = true;
    bool fed = false;
    bool recovered = true;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        opened = control->workers[i].recovered || (control_open_worker(node, i) && opened);
    }
    if (!opened) {
        return;
    }
    if (torc_recover_feed(control->recover, &control->attach, &fed, &why) != TORC_ERR_OK) {
        control_fail(node, &why);
        return;
    }
    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct torc_spsc_port *in = &control->attach.ports[i].in;
        struct torc_cmd order = {.kind = TORC_CMD_RECOVERED};

        if (!control->workers[i].recovered && torc_recover_is_fed(control->recover, i) &&
            torc_spsc_writable(in, in->slot_count) == in->slot_count) {
            control->workers[i].recovered = torc_attach_cmd(&control->attach, i, &order);
        }
        recovered = recovered && control->workers[i].recovered;
    }
    if (fed && recovered) {
        torc_recover_close(control->recover);
        control->recover = NULL;
        control_go(node, SIM_CONTROL_REPLAYING);
    }
}

static bool control_order_all(struct sim_node *node, enum torc_cmd_kind kind)
{
    struct torc_cmd order = {.kind = kind};
    bool all = true;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct sim_control_worker *worker = &node->control.workers[i];

        worker->ordered = worker->ordered || torc_attach_cmd(&node->control.attach, i, &order);
        all = all && worker->ordered;
    }
    return all;
}

static void control_replay(struct sim_node *node)
{
    if (torc_cluster_ready(&node->control.cluster) < node->control.cluster.shard_count ||
        !control_order_all(node, TORC_CMD_SERVE)) {
        return;
    }
    sim_cover(SIM_COVER_NODE_RECOVERED);
    sim_story("node %u  serves, boot %u", (unsigned)node->number,
              (unsigned)node->control.cluster.boot);
    control_go(node, SIM_CONTROL_SERVING);
}

static void control_resumed(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        if (!control->workers[i].seen) {
            (void)control_order_all(node, TORC_CMD_CONTROL_HELLO);
            return;
        }
    }
    if (!control_all_serve(node)) {
        control_end_dataplane(node);
        return;
    }
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        struct torc_cmd forget = {.kind = TORC_CMD_CHECKPOINT_END};

        forget.checkpoint.given_up = 1;
        err = torc_log_store_resume(control->store, &control->attach, i, &control->workers[i].said,
                                    &why);
        torc_assert(torc_attach_cmd(&control->attach, i, &forget));
    }
    if (err != TORC_ERR_OK) {
        control_fail(node, &why);
        return;
    }
    sim_cover(SIM_COVER_NODE_RESUMED);
    sim_story("node %u  control goes on with its dataplane", (unsigned)node->number);
    control_go(node, SIM_CONTROL_SERVING);
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
    sim_cover(covers[role->role]);
    sim_post(sim->now_ns, SIM_EVENT_MEND, SIM_MEND_STRIKE, role->shard, NULL);
    sim_story("node %u  shard %u %s in epoch %u, up to %u", (unsigned)node->number,
              (unsigned)role->shard, names[role->role], (unsigned)role->epoch,
              (unsigned)role->applied_lsn);
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
        if (shard == NULL || (!shard->replica && shard->epoch != event->shard.epoch)) {
            sim_fail("node %u: shard %u is ready in an epoch that nobody gave it",
                     (unsigned)node->number, (unsigned)event->shard.shard);
            return;
        }
        shard->ready = true;
        return;
    case TORC_EVT_CHECKPOINT_DONE:
        if (control->checkpoints != NULL) {
            torc_checkpoints_event(control->checkpoints, worker, &event->checkpoint);
        }
        return;
    case TORC_EVT_ALARM:
        sim_story("node %u  alarm: %s", (unsigned)node->number, event->alarm.text);
        if (event->alarm.err == TORC_ERR_CORRUPT) {
            sim_fail("node %u: worker %u: %s", (unsigned)node->number, (unsigned)worker,
                     event->alarm.text);
        }
        return;
    case TORC_EVT_SHARD_HERE: return;
    case TORC_EVT_CONTROL_SEEN:
        control->workers[worker].seen = true;
        control->workers[worker].said = event->seen;
        return;
    case TORC_EVT_QUIESCED:
        control->workers[worker].quiesced = true;
        control->workers[worker].base_shard = event->role.shard;
        return;
    case TORC_EVT_READ:
    case TORC_EVT_PROPOSE: sim_agree_event(node, worker, event); return;
    case TORC_EVT_ROLE: control_role(node, &event->role); return;
    case TORC_EVT_CHECKPOINT:
        shard = torc_cluster_shard(&control->cluster, event->role.shard);
        if (shard != NULL) {
            shard->fed = true;
            shard->wanted = true;
        }
        return;
    case TORC_EVT_SHARD_GONE: break; // nobody told it to
    }
    sim_fail("node %u: event %u", (unsigned)node->number, (unsigned)event->kind);
}

static void control_events(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->control.attach.hello.worker_count; i++) {
        struct torc_spsc_port *evt = &node->control.attach.ports[i].evt;

        while (torc_spsc_readable(evt, 1) > 0) {
            struct torc_evt event;

            memcpy(&event, torc_spsc_read_at(evt, 0), sizeof(event));
            torc_spsc_release(evt, 1);
            control_event(node, i, &event);
        }
    }
}

static void control_trim(struct sim_node *node)
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
    if (kept) {
        control_trim(node);
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
    if (control->wants_stop && !control->in_round) {
        control_go(node, SIM_CONTROL_QUIESCING);
    }
}

// As node_seal: a base that is in no checkpoint lies in memory alone.
static void control_seal(struct sim_node *node)
{
    bool bases = false;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        bases = bases || node->control.workers[i].base_shard != 0;
    }
    node->sealed_boot = bases ? node->sealed_boot : node->control.cluster.boot;
    sim_cover_add(SIM_COVER_NODE_SEALED, bases ? 0 : 1);
}

static void control_quiesce(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_log_store_numbers log;
    bool quiesced = control_order_all(node, TORC_CMD_QUIESCE);
    bool over = sim->now_ns - control->state_ns > 5 * SIM_S;

    torc_log_store_numbers(control->store, &log);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        quiesced = quiesced && control->workers[i].quiesced;
    }
    if (log.failed || over) {
        if (!log.failed && !control->tells) {
            sim_fail("node %u: a worker does not come to rest", (unsigned)node->number);
        }
        quiesced = true;
    } else if (quiesced && !torc_log_store_drained(control->store)) {
        return;
    }
    if (!quiesced) {
        return;
    }
    if (!control->tells && !log.failed) {
        control->tells = true;
        if (!over) {
            control_seal(node);
        }
        sim_agree_down(node);
    }
    if (!over && !sim_agree_is_told(node)) {
        return;
    }
    sim_cover(SIM_COVER_NODE_QUIESCED);
    sim_story("node %u  has stopped cleanly", (unsigned)node->number);
    node->start_dataplane_ns = node->start_control_ns = sim->now_ns + 10 * SIM_MS;
    sim_post(node->start_control_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
    sim_node_kill(node, false);
    sim_control_kill(node);
}

// -- Losing the dataplane -------------------------------------------------------------------------

static void control_drain(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    bool settled = control->checkpoints == NULL || torc_checkpoints_settle(control->checkpoints);

    if (!settled || !torc_log_store_drained(control->store)) {
        return;
    }
    if (control->checkpoints != NULL) {
        torc_checkpoints_close(control->checkpoints);
        control->checkpoints = NULL;
    }
    torc_log_store_detach(control->store);
    control_let_go(node);
    control->in_round = false;
    control->look_ns = 0;
    control->round_log_bytes = 0;
    sim_cover(SIM_COVER_NODE_DRAINED);
    sim_story("node %u  the dead dataplane's log is written out", (unsigned)node->number);
    control_go(node, SIM_CONTROL_WAITING);
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
        control_go(node, SIM_CONTROL_DRAINING);
    }
    switch (control->state) {
    case SIM_CONTROL_DEAD:
    case SIM_CONTROL_FAILED: return;
    case SIM_CONTROL_ASKING:
        if (sim_agree_is_read(node)) {
            control_booted(node);
        }
        return;
    case SIM_CONTROL_READING:
        if (sim_agree_is_read(node)) {
            control_read(node);
        }
        return;
    case SIM_CONTROL_WAITING: control_look(node); return;
    case SIM_CONTROL_SCANNING: control_scan(node); return;
    case SIM_CONTROL_FEEDING: control_feed(node); return;
    case SIM_CONTROL_REPLAYING:
        control_operator(node);
        control_replay(node);
        return;
    case SIM_CONTROL_RESUMING: control_resumed(node); return;
    case SIM_CONTROL_SERVING: control_serve(node); return;
    case SIM_CONTROL_QUIESCING: control_quiesce(node); return;
    case SIM_CONTROL_DRAINING: control_drain(node); return;
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

static void control_rest(struct sim_node *node, bool moved)
{
    struct sim_control *control = &node->control;
    uint64_t at_ns = sim->now_ns + (moved ? TURN_NS : BEAT_NS);

    for (uint32_t i = 0; control->attached && !control_lost(node) && i < node->worker_count; i++) {
        if (control->attach.rung[i]) {
            control->attach.rung[i] = false;
            if (atomic_load(&control->attach.ports[i].worker->sleeping) != 0) {
                sim_wake(&node->workers[i].actor, sim->now_ns + WAKE_NS, SIM_EVENT_WORKER,
                         node->index, i);
            }
        }
    }
    if (control->state == SIM_CONTROL_SCANNING || control->state == SIM_CONTROL_FEEDING) {
        at_ns = torc_min_u64(at_ns, sim->now_ns + 100 * SIM_US);
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
        control_events(node);
        moved = torc_log_store_step(control->store, local_ns) || moved;
    }
    if (control->checkpoints != NULL && control->state != SIM_CONTROL_DRAINING) {
        control_checkpoints(node);
    }
    sim_agree_step(node);
    control_step(node);
    sim->may_die = false;
    if (control->state != SIM_CONTROL_DEAD) {
        control_rest(node, moved || control->state != before);
    }
}
