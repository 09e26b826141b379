// Torc control: a life of the dataplane, from being found to being lost. See control/node_os.h.
#include "control/node_impl_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <stdlib.h>

#define NODE_LOOK_NS (20 * TORC_NS_PER_MS) // between two tries to find a dataplane
#define NODE_SCANS   8u                    // pieces of recovery's looking a turn
#define NODE_TELL_NS (50 * TORC_NS_PER_MS) // for others to be told of a death, before the rest

// -- A new life of the dataplane -----------------------------------------------------------------

static void node_make_recover_shards(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    node->recover_shards = calloc(cluster->shard_count + 1, sizeof(*node->recover_shards));
    torc_assert(node->recover_shards != NULL);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        node->recover_shards[i].shard = cluster->shards[i].shard;
        node->recover_shards[i].worker = cluster->shards[i].worker;
    }
}

static struct torc_recover_config node_recover_config(const struct torc_node *node)
{
    const struct torc_registry *registry = &node->registry;

    return (struct torc_recover_config){.disk = node->disk,
                                        .store = node->store,
                                        .log_fd = node->dir.log_fd,
                                        .checkpoint_fd = node->dir.checkpoint_fd,
                                        .cluster = node->dir.cluster,
                                        .node = node->dir.node,
                                        .worker_count = node->attach.hello.worker_count,
                                        .shards = node->recover_shards,
                                        .shard_count = registry->cluster.shard_count,
                                        .others =
                                            registry->meta.replicas > 1 ? registry->survey : NULL};
}

static enum torc_err node_check_others(const struct torc_node *node, struct torc_fail *why)
{
    struct torc_recover_config config = node_recover_config(node);

    return torc_recover_check_others(&config, why);
}

static enum torc_err node_begin_recover(struct torc_node *node, struct torc_fail *why)
{
    struct torc_recover_config config = node_recover_config(node);

    return torc_recover_begin(&node->recover, &config, why);
}

static enum torc_err node_open_checkpoints(struct torc_node *node, struct torc_fail *why)
{
    struct torc_checkpoints_config config = {
        .disk = node->disk,
        .store = node->store,
        .attach = &node->attach,
        .cluster = &node->registry.cluster,
        .folder_fd = node->dir.checkpoint_fd,
        .first_number = torc_clock_wall_ns() / TORC_NS_PER_US}; // above those of a control before

    return torc_checkpoints_open(&node->checkpoints, &config, why);
}

static void node_start_life(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    struct torc_fail why = {0};
    uint32_t workers = node->attach.hello.worker_count;
    enum torc_err err = torc_registry_look(&node->registry, &node->dir, workers, &why);

    if (err == TORC_ERR_OK) {
        err = node_check_others(node, &why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_registry_start(&node->registry, &node->dir, workers, &node->network, &why);
    }
    if (err == TORC_ERR_OK) { // it was read again
        err = node_check_others(node, &why);
    }
    torc_cluster_spread(cluster, workers);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        cluster->shards[i].ready = false;
        cluster->shards[i].wanted = false;
    }
    node_make_recover_shards(node);
    if (err == TORC_ERR_OK && node->registry.meta.replicas > 1) {
        err = torc_node_let_go(node, &why);
    }
    if (err == TORC_ERR_OK) {
        err = node_begin_recover(node, &why);
    }
    if (err != TORC_ERR_OK) {
        torc_node_fail(node, &why);
        return;
    }
    torc_log(TORC_LOG_INFO, "recover", "began",
             "boot=%" PRIu64 " workers=%" PRIu32 " shards=%" PRIu32, cluster->boot,
             node->attach.hello.worker_count, cluster->shard_count);
    torc_node_go(node, TORC_NODE_SCANNING);
}

// Takes over what recovery found: turns, what is covered by a checkpoint; and begins the streams.
static enum torc_err node_take_over(struct torc_node *node, struct torc_fail *why)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    struct torc_recover_numbers found;
    enum torc_err err = node_open_checkpoints(node, why);

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        torc_recover_take_over(node->recover_shards + i, cluster->shards + i);
    }
    if (err == TORC_ERR_OK && node->registry.meta.replicas > 1) {
        err = torc_node_find_bases(node, why);
    }
    for (uint32_t i = 0; i < node->attach.hello.worker_count && err == TORC_ERR_OK; i++) {
        err = torc_log_store_begin(node->store, &node->attach, i,
                                   torc_recover_next_sequence(node->recover, i + 1), why);
    }
    torc_recover_numbers(node->recover, &found);
    node->rounds.before_bytes = found.log_bytes;
    torc_node_write_map(node);
    torc_node_yield_begin(node);
    return err;
}

void torc_node_scan(struct torc_node *node)
{
    struct torc_fail why = {0};
    bool scanned = false;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < NODE_SCANS && err == TORC_ERR_OK && !scanned; i++) {
        err = torc_recover_step(node->recover, &scanned, &why);
    }
    if (err == TORC_ERR_OK && scanned) {
        err = torc_registry_serves(&node->registry, &node->dir, &why);
    }
    if (err == TORC_ERR_OK && scanned) {
        err = node_take_over(node, &why);
    }
    if (err != TORC_ERR_OK) {
        torc_node_fail(node, &why);
    } else if (scanned) {
        torc_node_go(node, TORC_NODE_FEEDING);
    }
}

static bool node_configure(struct torc_node *node, uint32_t worker)
{
    const struct torc_registry *registry = &node->registry;
    struct torc_cmd order = {.kind = TORC_CMD_CONFIGURE};
    struct torc_cmd map = {.kind = TORC_CMD_MAP_CHANGED,
                           .map_version = registry->cluster.map_version};

    order.configure = (struct torc_cmd_configure){
        .cluster = registry->cluster.cluster,
        .boot = registry->cluster.boot,
        .key_count = registry->cluster.keys,
        .hlc = torc_recover_clock(node->recover),
        .node = registry->cluster.node,
        .stream = worker + 1,
        .next_sequence = torc_recover_next_sequence(node->recover, worker + 1),
        .durability = (uint8_t)registry->meta.durability,
        .security = (uint8_t)registry->meta.security,
        .base_port = node->network.base_port,
        .value_bytes_max = (uint32_t)registry->meta.value_max,
        .segment_bytes = (uint32_t)node->settings->segment_bytes,
        .dedup_ttl_s = (uint32_t)registry->meta.dedup_ttl_s,
        .sessions_max = (uint32_t)node->settings->sessions_max,
        .map_version = (uint32_t)registry->cluster.map_version,
        .copy = registry->node.copy,
        .min_in_sync = (uint32_t)registry->meta.min_in_sync};
    memcpy(order.configure.secret, node->dir.secret, sizeof(order.configure.secret));
    // A new dataplane's ring is empty: both fit.
    return torc_attach_cmd(&node->attach, worker, &order) &&
           torc_attach_cmd(&node->attach, worker, &map);
}

// True when the worker has taken all orders out of its ring.
static bool node_orders_taken(struct torc_node *node, uint32_t worker)
{
    struct torc_spsc_port *cmd = &node->attach.ports[worker].cmd;

    return torc_spsc_writable(cmd, cmd->slot_count) == cmd->slot_count;
}

bool torc_node_open_shard(struct torc_node *node, const struct torc_cluster_shard *shard)
{
    struct torc_cmd order = torc_cluster_open(shard);

    return torc_attach_cmd(&node->attach, shard->worker, &order);
}

// CONFIGURE, then SHARD_OPEN of each of its shards, as far as the ring takes them.
static bool node_open_worker(struct torc_node *node, uint32_t index)
{
    struct torc_node_worker *worker = node->workers + index;
    const struct torc_cluster *cluster = &node->registry.cluster;

    if (!worker->configured) {
        worker->configured = node_configure(node, index);
    }
    while (worker->configured && worker->shard_at < cluster->shard_count) {
        const struct torc_cluster_shard *shard = cluster->shards + worker->shard_at;

        if (shard->worker == index && !torc_node_open_shard(node, shard)) {
            return false;
        }
        worker->shard_at++;
    }
    // What goes through `in` must not be seen before the orders it is about.
    return worker->configured && node_orders_taken(node, index);
}

// True: all workers have all of their share, and were told so.
static bool node_feed(struct torc_node *node)
{
    struct torc_fail why = {0};
    bool fed = false;
    bool recovered = true;

    if (torc_recover_feed(node->recover, &node->attach, &fed, &why) != TORC_ERR_OK) {
        torc_node_fail(node, &why);
        return false;
    }
    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        struct torc_spsc_port *in = &node->attach.ports[i].in;
        struct torc_cmd order = {.kind = TORC_CMD_RECOVERED};

        if (!node->workers[i].recovered && torc_recover_is_fed(node->recover, i) &&
            torc_spsc_writable(in, in->slot_count) == in->slot_count) {
            node->workers[i].recovered = torc_attach_cmd(&node->attach, i, &order);
        }
        recovered = recovered && node->workers[i].recovered;
    }
    return fed && recovered;
}

void torc_node_feed(struct torc_node *node)
{
    bool opened = true;

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        opened = node->workers[i].recovered || (node_open_worker(node, i) && opened);
    }
    if (opened && node_feed(node)) {
        torc_node_go(node, TORC_NODE_REPLAYING);
    }
}

void torc_node_feed_again(struct torc_node *node, uint32_t worker)
{
    if (node->recover == NULL || !node->workers[worker].recovered) {
        return;
    }
    torc_log(TORC_LOG_INFO, "recover", "again",
             "worker=%" PRIu32 " note=\"more may not be committed than it holds: the log is read "
             "once more, to see what was cancelled\"",
             worker);
    torc_recover_again(node->recover, worker);
    node->workers[worker].recovered = false;
}

bool torc_node_order_all(struct torc_node *node, enum torc_cmd_kind kind)
{
    struct torc_cmd order = {.kind = kind};
    bool all = true;

    order.hello = kind == TORC_CMD_CONTROL_HELLO ? node->attach.number : 0;
    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        struct torc_node_worker *worker = node->workers + i;

        worker->ordered = worker->ordered || torc_attach_cmd(&node->attach, i, &order);
        all = all && worker->ordered;
    }
    return all;
}

static void node_serve(struct torc_node *node)
{
    node->numbers[TORC_CONTROL_RECOVERIES]++;
    torc_rounds_serve(&node->rounds, node->now_ns);
    torc_node_go(node, TORC_NODE_SERVING);
    torc_node_tell_ready(node);
}

void torc_node_replay(struct torc_node *node)
{
    const struct torc_cluster *cluster = &node->registry.cluster;
    uint64_t records = 0;
    uint64_t replayed = 0;

    if (!node_feed(node) || torc_cluster_ready(cluster) < torc_cluster_count(cluster) ||
        !torc_node_order_all(node, TORC_CMD_SERVE)) {
        return;
    }
    torc_recover_close(node->recover);
    node->recover = NULL;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        records += cluster->shards[i].records;
        replayed += cluster->shards[i].replayed;
    }
    node->numbers[TORC_CONTROL_RECOVERY_MS] = (node->now_ns - node->found_ns) / TORC_NS_PER_MS;
    node->recovered_records = records;
    node->replayed_records = replayed;
    torc_log(TORC_LOG_INFO, "recover", "done",
             "records=%" PRIu64 " replayed=%" PRIu64 " milliseconds=%" PRIu64, records, replayed,
             node->numbers[TORC_CONTROL_RECOVERY_MS]);
    node_serve(node);
}

// -- A dataplane that runs already ---------------------------------------------------------------

static bool node_all_serve(const struct torc_node *node)
{
    bool serving = true;

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        serving = serving && atomic_load_explicit(&node->attach.ports[i].worker->state,
                                                  memory_order_acquire) == TORC_WORKER_SERVING;
    }
    return serving;
}

static bool node_can_resume(const struct torc_node *node)
{
    const struct torc_chan_hello *hello = &node->attach.hello;
    return hello->cluster == node->dir.cluster && hello->node == node->dir.node &&
           hello->boot == node->registry.cluster.boot && node_all_serve(node);
}

// What the files say of checkpoints: one of this life's epoch, or of a replica's turn, is of the
// present stream.
static void node_read_checkpoints(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        torc_recover_continue(node->recover_shards + i, cluster->shards + i);
    }
}

// What the files say, when it is known which shards there are.
static enum torc_err node_resume_files(struct torc_node *node, struct torc_fail *why)
{
    enum torc_err err = node_check_others(node, why);

    node_make_recover_shards(node);
    if (err == TORC_ERR_OK) {
        err = node_begin_recover(node, why); // looks at the folders, no more
    }
    if (err == TORC_ERR_OK) {
        node_read_checkpoints(node);
        torc_recover_close(node->recover);
        node->recover = NULL;
        err = node_open_checkpoints(node, why);
    }
    return err;
}

static void node_end_dataplane(struct torc_node *node)
{
    torc_log(TORC_LOG_WARN, "node", "dataplane-ended",
             "pid=%" PRIu32 " boot=%" PRIu64
             " note=\"it cannot be continued by this control; its parent starts another\"",
             node->attach.hello.pid, node->attach.hello.boot);
    torc_attach_kill(&node->attach);
    torc_node_go(node, TORC_NODE_DRAINING);
}

// All workers have said where they stand: the log goes on there.
void torc_node_resumed(struct torc_node *node)
{
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        if (!node->workers[i].seen) {
            (void)torc_node_order_all(node, TORC_CMD_CONTROL_HELLO);
            return;
        }
    }
    // An order to stop may have lain before the question: of a control that died while it stopped
    // the node.
    if (!node_all_serve(node) || !torc_node_resume_table(node)) {
        node_end_dataplane(node);
        return;
    }
    err = node_resume_files(node, &why);
    for (uint32_t i = 0; i < node->attach.hello.worker_count && err == TORC_ERR_OK; i++) {
        struct torc_cmd forget = {.kind = TORC_CMD_CHECKPOINT_END};

        forget.checkpoint.given_up = 1; // number 0: whatever the control before us had begun
        err = torc_log_store_resume(node->store, &node->attach, i, &node->workers[i].said, &why);
        if (!torc_attach_cmd(&node->attach, i, &forget)) {
            torc_log(TORC_LOG_WARN, "node", "orders-full", "worker=%" PRIu32, i);
        }
    }
    if (err != TORC_ERR_OK) {
        torc_node_fail(node, &why);
        return;
    }
    torc_rounds_serve(&node->rounds, node->now_ns);
    torc_node_go(node, TORC_NODE_SERVING);
    torc_node_tell_ready(node);
}

// -- Finding and losing it -----------------------------------------------------------------------

void torc_node_look(struct torc_node *node)
{
    char path[TORC_DATA_DIR_PATH_BYTES + 24];
    struct torc_fail why = {0};
    enum torc_err err;
    bool fresh;

    if (node->now_ns < node->next_look_ns) {
        return;
    }
    node->next_look_ns = node->now_ns + NODE_LOOK_NS;
    (void)snprintf(path, sizeof(path), "%s/run/channel.sock", node->dir.path);
    err = torc_attach_open(&node->attach, path, &why);
    if (err == TORC_ERR_NOT_CONNECTED || err == TORC_ERR_IN_USE) {
        return; // IN_USE: it has not yet noticed the end of the control before us
    }
    if (err != TORC_ERR_OK) {
        torc_node_fail(node, &why);
        return;
    }
    node->attached = true;
    node->found_ns = node->now_ns;
    torc_node_watch(node, node->attach.socket);
    torc_node_watch(node, node->attach.pidfd);
    torc_disk_bell(node->disk, node->attach.doorbell);
    fresh = torc_attach_is_fresh(&node->attach);
    torc_node_hand_keys(node);
    if (node->attach.hello.boot == 0 && fresh) {
        node_start_life(node);
        return;
    }
    if (fresh || !node_can_resume(node)) {
        node_end_dataplane(node);
        return;
    }
    torc_log(TORC_LOG_INFO, "node", "resuming",
             "boot=%" PRIu64 " dataplane=%" PRIu32 " note=\"it went on without control\"",
             node->attach.hello.boot, node->attach.hello.pid);
    torc_node_yield_begin(node);
    torc_node_go(node, TORC_NODE_RESUMING);
}

void torc_node_lost(struct torc_node *node)
{
    torc_log(TORC_LOG_WARN, "node", "dataplane-lost",
             "pid=%" PRIu32 " state=%s note=\"its log ring is written out; waiting for another\"",
             node->attach.hello.pid, torc_node_state_name(node->state));
    if (node->recover != NULL) {
        torc_recover_close(node->recover);
        node->recover = NULL;
    }
    torc_node_meta_down(node, node->registry.cluster.boot);
    torc_node_go(node, TORC_NODE_DRAINING);
}

// What the dead one had published is written; then its memory is let go.
void torc_node_drain(struct torc_node *node)
{
    bool settled = node->checkpoints == NULL || torc_checkpoints_settle(node->checkpoints);
    // To give its memory back takes 3 to 12 ms: others wait to take over.
    bool told = !torc_node_yield_tells_down(node) || node->now_ns - node->state_ns >= NODE_TELL_NS;

    if (!settled || !told || !torc_attach_is_lost(&node->attach) ||
        !torc_log_store_drained(node->store)) {
        return;
    }
    torc_node_end_life(node);
    torc_node_answer_checkpoints(node);
    node->next_look_ns = 0;
    if (node->stops > 0) {
        torc_node_unclean(node, "torc-dataplane ended before it");
    }
    torc_node_go(node, node->stops > 0 ? TORC_NODE_ENDED : TORC_NODE_WAITING);
}
