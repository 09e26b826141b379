// Torc simulator: control of one machine: a life of its dataplane. See sim.h.
//
// What    what control/node_life_os.c does, without descriptors: a dataplane is found, started from
//         the log or continued as it is, and lost.
#include "tests/sim/sim_machine.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_NS (20 * SIM_MS)
#define SCANS   8u

const uint8_t sim_psk[TORC_NOISE_KEY_BYTES] = {0x73, 0x69, 0x6d};

// -- Meeting the dataplane ------------------------------------------------------------------------

static void life_keys(struct sim_node *node)
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

static void life_attach(struct sim_node *node)
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
    attach->number = 1 + atomic_fetch_add(&chan->control_attached, 1);
    node->control.attached = true;
    node->control.fresh = torc_attach_is_fresh(attach);
    memset(node->control.workers, 0, sizeof(node->control.workers));
    life_keys(node);
}

void sim_life_look(struct sim_node *node)
{
    struct sim_control *control = &node->control;

    if (!node->up || sim->now_ns < control->look_ns) {
        return;
    }
    control->look_ns = sim->now_ns + LOOK_NS;
    life_attach(node);
    if (control->attach.hello.boot == 0 && control->fresh) {
        sim_agree_begin(node, true);
        sim_control_go(node, SIM_CONTROL_ASKING);
    } else {
        sim_agree_begin(node, false);
        sim_control_go(node, SIM_CONTROL_READING);
    }
}

static enum torc_err life_begin_recover(struct sim_node *node, struct torc_fail *why)
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
                                         .shard_count = control->cluster.shard_count,
                                         .others = sim->config.replicas > 1 ? sim_agree_survey(node)
                                                                            : NULL};
    enum torc_err err;

    memset(control->recover_shards, 0, sizeof(control->recover_shards));
    for (uint32_t i = 0; i < control->cluster.shard_count; i++) {
        control->recover_shards[i].shard = control->cluster.shards[i].shard;
        control->recover_shards[i].worker = control->cluster.shards[i].worker;
    }
    err = torc_recover_check_others(&config, why);
    if (err == TORC_ERR_OK && config.others != NULL) {
        sim_give_let_go(node);
    }
    return err == TORC_ERR_OK ? torc_recover_begin(&control->recover, &config, why) : err;
}

// A boot is ours: recovery begins.
void sim_life_booted(struct sim_node *node)
{
    struct torc_fail why;

    sim_agree_take_shards(node);
    torc_cluster_spread(&node->control.cluster, node->worker_count);
    if (life_begin_recover(node, &why) != TORC_ERR_OK) {
        sim_control_fail(node, &why);
        return;
    }
    sim_give_judge_begun(node);
    sim_control_go(node, SIM_CONTROL_SCANNING);
}

static enum torc_err life_open_checkpoints(struct sim_node *node, struct torc_fail *why)
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

static bool life_all_serve(const struct sim_node *node)
{
    const struct torc_attach *attach = &node->control.attach;
    bool serving = true;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        serving = serving && atomic_load(&attach->ports[i].worker->state) == TORC_WORKER_SERVING;
    }
    return serving;
}

// As node_can_resume.
static bool life_can_resume(const struct sim_node *node)
{
    const struct sim_control *control = &node->control;

    return control->attach.hello.boot == control->cluster.boot && life_all_serve(node);
}

static void life_end_dataplane(struct sim_node *node)
{
    sim_story("node %u  this dataplane cannot be continued", (unsigned)node->number);
    sim_cover(SIM_COVER_NODE_KILLED);
    node->start_dataplane_ns = sim->now_ns + 2 * SIM_MS;
    sim_post(node->start_dataplane_ns, SIM_EVENT_MEND, SIM_MEND_PARENT, node->index, NULL);
    sim_node_kill(node, false);
    sim_control_go(node, SIM_CONTROL_DRAINING);
}

void sim_life_read(struct sim_node *node)
{
    sim_agree_take_shards(node);
    if (!life_can_resume(node)) {
        life_end_dataplane(node);
        return;
    }
    node->control.cluster.map_version = node->control.attach.map->version; // what workers know
    sim_agree_yield(node);
    sim_control_go(node, SIM_CONTROL_RESUMING);
}

// As node_resume_files.
static enum torc_err life_resume_files(struct sim_node *node, struct torc_fail *why)
{
    struct sim_control *control = &node->control;
    enum torc_err err = life_begin_recover(node, why); // looks at the folders, no more

    for (uint32_t i = 0; i < control->cluster.shard_count && err == TORC_ERR_OK; i++) {
        torc_recover_continue(&control->recover_shards[i], &control->cluster.shards[i]);
    }
    if (err == TORC_ERR_OK) {
        torc_recover_close(control->recover);
        control->recover = NULL;
        err = life_open_checkpoints(node, why);
    }
    return err;
}

// -- Recovery -------------------------------------------------------------------------------------

// As node_take_over.
static enum torc_err life_take_over(struct sim_node *node, struct torc_fail *why)
{
    struct sim_control *control = &node->control;
    struct torc_recover_numbers found;
    enum torc_err err = life_open_checkpoints(node, why);

    for (uint32_t i = 0; i < control->cluster.shard_count; i++) {
        struct torc_cluster_shard *shard = &control->cluster.shards[i];

        torc_recover_take_over(&control->recover_shards[i], shard);
        sim_cover_add(SIM_COVER_NODE_MOVED, shard->moved ? 1 : 0);
        sim_cover_add(SIM_COVER_NODE_FROM_CHECKPOINT, shard->has_checkpoint ? 1 : 0);
    }
    if (err == TORC_ERR_OK && sim->config.replicas > 1) {
        sim_give_find_bases(node);
    }
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        err = torc_log_store_begin(control->store, &control->attach, i,
                                   torc_recover_next_sequence(control->recover, i + 1), why);
    }
    torc_recover_numbers(control->recover, &found);
    sim_cover_add(SIM_COVER_NODE_TORN, found.torn_blocks > 0 ? 1 : 0);
    sim_agree_write_map(node);
    sim_agree_yield(node);
    return err;
}

void sim_life_scan(struct sim_node *node)
{
    struct torc_fail why = {0};
    bool scanned = false;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < SCANS && err == TORC_ERR_OK && !scanned; i++) {
        err = torc_recover_step(node->control.recover, &scanned, &why);
    }
    if (err == TORC_ERR_OK && scanned) {
        sim_agree_serves(node);
        err = life_take_over(node, &why);
    }
    if (err != TORC_ERR_OK) {
        sim_control_fail(node, &why);
    } else if (scanned) {
        sim_control_go(node, SIM_CONTROL_FEEDING);
    }
}

static bool life_configure(struct sim_node *node, uint32_t worker)
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
        .min_in_sync = sim_min_in_sync(),
        .map_version = (uint32_t)control->cluster.map_version};
    memset(order.configure.secret, (int)node->number, sizeof(order.configure.secret));
    return torc_attach_cmd(&control->attach, worker, &order) &&
           torc_attach_cmd(&control->attach, worker, &map);
}

bool sim_life_open_shard(struct sim_node *node, const struct torc_cluster_shard *shard)
{
    struct torc_cmd order = torc_cluster_open(shard);

    if (!torc_attach_cmd(&node->control.attach, shard->worker, &order)) {
        return false;
    }
    sim_story("node %u  opens shard %u as copy %" PRIx64 ", turn %u%s", (unsigned)node->number,
              (unsigned)shard->shard, shard->copy, (unsigned)shard->turn,
              shard->based ? "" : ", without a base");
    sim_ghost_open(node, shard->shard, shard->copy);
    return true;
}

static bool life_open_worker(struct sim_node *node, uint32_t index)
{
    struct sim_control *control = &node->control;
    struct sim_control_worker *worker = &control->workers[index];
    struct torc_spsc_port *cmd = &control->attach.ports[index].cmd;

    if (!worker->configured) {
        worker->configured = life_configure(node, index);
    }
    while (worker->configured && worker->shard_at < control->cluster.shard_count) {
        const struct torc_cluster_shard *shard = control->cluster.shards + worker->shard_at;

        if (shard->worker == index && !sim_life_open_shard(node, shard)) {
            return false;
        }
        worker->shard_at++;
    }
    // What goes through `in` must not be seen before the orders it is about.
    return worker->configured && torc_spsc_writable(cmd, cmd->slot_count) == cmd->slot_count;
}

// True: all workers have all of their share, and were told so.
static bool life_feed(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_fail why = {0};
    bool fed = false;
    bool recovered = true;

    if (torc_recover_feed(control->recover, &control->attach, &fed, &why) != TORC_ERR_OK) {
        sim_control_fail(node, &why);
        return false;
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
    return fed && recovered;
}

void sim_life_feed(struct sim_node *node)
{
    bool opened = true;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        opened = node->control.workers[i].recovered || (life_open_worker(node, i) && opened);
    }
    if (opened && life_feed(node)) {
        sim_control_go(node, SIM_CONTROL_REPLAYING);
    }
}

bool sim_life_order_all(struct sim_node *node, enum torc_cmd_kind kind)
{
    struct torc_cmd order = {.kind = kind};
    bool all = true;

    order.hello = kind == TORC_CMD_CONTROL_HELLO ? node->control.attach.number : 0;
    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct sim_control_worker *worker = &node->control.workers[i];

        worker->ordered = worker->ordered || torc_attach_cmd(&node->control.attach, i, &order);
        all = all && worker->ordered;
    }
    return all;
}

void sim_life_replay(struct sim_node *node)
{
    if (!life_feed(node) ||
        torc_cluster_ready(&node->control.cluster) < torc_cluster_count(&node->control.cluster) ||
        !sim_life_order_all(node, TORC_CMD_SERVE)) {
        return;
    }
    torc_recover_close(node->control.recover);
    node->control.recover = NULL;
    sim_cover(SIM_COVER_NODE_RECOVERED);
    sim_story("node %u  serves, boot %u", (unsigned)node->number,
              (unsigned)node->control.cluster.boot);
    sim_control_go(node, SIM_CONTROL_SERVING);
}

void sim_life_resumed(struct sim_node *node)
{
    struct sim_control *control = &node->control;
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        if (!control->workers[i].seen) {
            (void)sim_life_order_all(node, TORC_CMD_CONTROL_HELLO);
            return;
        }
    }
    if (!life_all_serve(node) || !sim_give_resume(node)) {
        life_end_dataplane(node);
        return;
    }
    err = life_resume_files(node, &why);
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        struct torc_cmd forget = {.kind = TORC_CMD_CHECKPOINT_END};

        forget.checkpoint.given_up = 1;
        err = torc_log_store_resume(control->store, &control->attach, i, &control->workers[i].said,
                                    &why);
        torc_assert(torc_attach_cmd(&control->attach, i, &forget));
    }
    if (err != TORC_ERR_OK) {
        sim_control_fail(node, &why);
        return;
    }
    sim_cover(SIM_COVER_NODE_RESUMED);
    sim_story("node %u  control goes on with its dataplane", (unsigned)node->number);
    sim_control_go(node, SIM_CONTROL_SERVING);
}

// -- Losing the dataplane -------------------------------------------------------------------------

void sim_life_drain(struct sim_node *node)
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
    sim_control_let_go(node);
    control->in_round = false;
    control->look_ns = 0;
    control->round_log_bytes = 0;
    sim_cover(SIM_COVER_NODE_DRAINED);
    sim_story("node %u  the dead dataplane's log is written out", (unsigned)node->number);
    sim_control_go(node, SIM_CONTROL_WAITING);
}
