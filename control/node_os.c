// Torc control: the life of one node. See control/node_os.h.
#include "control/node_os.h"

#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <systemd/sd-daemon.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define NODE_LOOK_NS         (20 * TORC_NS_PER_MS)  // between two tries to find a dataplane
#define NODE_SLOW_NS         (1 * TORC_NS_PER_MS)   // between two looks at what is not urgent
#define NODE_BEAT_NS         (100 * TORC_NS_PER_MS) // at most, between two signs of life
#define NODE_QUIESCE_WAIT_NS (30 * TORC_NS_PER_S)   // a bet: a worker that takes longer is stuck
#define NODE_RETRY_NS        (60 * TORC_NS_PER_S)   // a bet: until checkpoints are tried again
#define NODE_SCANS           8u                     // pieces of recovery's looking a turn

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

static void node_go(struct torc_node *node, enum torc_node_state state)
{
    torc_log(TORC_LOG_DEBUG, "node", "state", "from=%s to=%s", torc_node_state_name(node->state),
             torc_node_state_name(state));
    node->state = state;
    node->state_ns = node->now_ns;
    for (uint32_t i = 0; i < TORC_CHAN_WORKERS_MAX; i++) {
        node->workers[i].ordered = false;
    }
}

// Ends the node: `why` is what the program says at its end.
static void node_fail(struct torc_node *node, const struct torc_fail *why)
{
    node->failure = *why;
    torc_log(TORC_LOG_ERROR, "node", "failed", "state=%s error=%s reason=\"%s\"",
             torc_node_state_name(node->state), torc_err_name(why->err), why->text);
    node_go(node, TORC_NODE_ENDED);
}

// -- Opening and closing -------------------------------------------------------------------------

static void node_watch(struct torc_node *node, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (fd >= 0 && epoll_ctl(node->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        torc_unreachable("a descriptor of ours, in an epoll set of ours");
    }
}

static enum torc_err node_open_signals(struct torc_node *node, struct torc_fail *why)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGUSR1);
    node->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (node->epoll_fd < 0 || sigprocmask(SIG_BLOCK, &set, NULL) != 0) {
        return torc_fail(why, TORC_ERR_IO, "epoll: %s", strerrordesc_np(errno));
    }
    node->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (node->signal_fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "signalfd: %s", strerrordesc_np(errno));
    }
    node_watch(node, node->signal_fd);
    return TORC_ERR_OK;
}

// An empty directory becomes a node, and the log says so.
static enum torc_err node_make(const struct torc_settings *settings, struct torc_fail *why)
{
    enum torc_data_dir_state state;
    struct torc_meta_fields meta;
    enum torc_err err = torc_data_dir_look(settings->data, &state, why);

    if (err != TORC_ERR_OK || state == TORC_DATA_DIR_MADE) {
        return err;
    }
    err = torc_registry_make(settings, &meta, why);
    if (err == TORC_ERR_OK) {
        torc_log(TORC_LOG_INFO, "node", "made",
                 "data=%s cluster=%016" PRIx64 " keys=%" PRIu64 " shards=%" PRIu64
                 " note=\"the directory was empty\"",
                 settings->data, meta.cluster, meta.keys, meta.shards);
    }
    return err;
}

static enum torc_err node_open_log(struct torc_node *node, struct torc_fail *why)
{
    const struct torc_settings *settings = node->settings;
    uint32_t workers = torc_registry_workers(settings);
    struct torc_log_store_config config = {
        .cluster = node->dir.cluster,
        .node = node->dir.node,
        .segment_bytes = (uint32_t)settings->segment_bytes,
        .inflight = (uint32_t)torc_min_u64(settings->log_inflight,
                                           torc_max_u64(1, TORC_DISK_OPS_MAX / 2 / workers)),
        .spares_max = (uint32_t)torc_min_u64(settings->checkpoint_bytes / settings->segment_bytes +
                                                 UINT64_C(2) * workers,
                                             UINT32_MAX),
        .folder_fd = node->dir.log_fd};
    enum torc_err err = torc_disk_open(&node->disk, node->dir.lock_fd, why);

    return err == TORC_ERR_OK ? torc_log_store_open(&node->store, node->disk, &config, why) : err;
}

static enum torc_err node_open_admin(struct torc_node *node, struct torc_fail *why)
{
    const struct torc_settings *settings = node->settings;
    char run[TORC_DATA_DIR_PATH_BYTES + 8];
    char address[TORC_SETTINGS_TEXT_BYTES];
    enum torc_err err;

    (void)snprintf(run, sizeof(run), "%s/run", node->dir.path);
    err = torc_admin_open(&node->admin, run, settings->admin_group, node->epoll_fd, why);
    if (err != TORC_ERR_OK || strcmp(settings->admin_http, "off") == 0) {
        return err;
    }
    if (strcmp(settings->admin_http, "auto") == 0) {
        (void)snprintf(address, sizeof(address), "127.0.0.1:%" PRIu32, 28600 + node->dir.node);
    } else {
        (void)snprintf(address, sizeof(address), "%s", settings->admin_http);
    }
    err = torc_http_open(&node->http, address, torc_node_page, node, node->epoll_fd, why);
    if (err == TORC_ERR_IO && strcmp(settings->admin_http, "auto") == 0) {
        // Nobody asked for this port: a node goes on without its page.
        torc_log(TORC_LOG_WARN, "admin", "no-http", "reason=\"%s\" note=\"set admin-http\"",
                 why->text);
        err = TORC_ERR_OK;
    }
    return err;
}

enum torc_err torc_node_open(struct torc_node *node, const struct torc_settings *settings,
                             struct torc_fail *why)
{
    enum torc_err err;

    memset(node, 0, sizeof(*node));
    node->settings = settings;
    node->epoll_fd = -1;
    node->signal_fd = -1;
    node->dir = (struct torc_data_dir){
        .fd = -1, .lock_fd = -1, .log_fd = -1, .checkpoint_fd = -1, .run_fd = -1};
    node->now_ns = torc_clock_now_ns();
    node->started_ns = node->now_ns;
    node->numbers[TORC_CONTROL_START_TIME_S] = torc_clock_wall_ns() / TORC_NS_PER_S;
    err = torc_network_of(&node->network, settings, why);
    if (err == TORC_ERR_OK) {
        err = node_open_signals(node, why);
    }
    if (err == TORC_ERR_OK) {
        err = node_make(settings, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_data_dir_open(&node->dir, settings->data, settings->lock_wait_s * 1000, why);
    }
    if (err == TORC_ERR_OK && node->dir.node != settings->node &&
        settings->source[TORC_SETTING_node] != TORC_SETTING_FROM_DEFAULT) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "node = %" PRIu64 ", but %.80s is node %" PRIu32 "'s", settings->node,
                        settings->data, node->dir.node);
    }
    if (err == TORC_ERR_OK) {
        err = torc_registry_open(&node->registry, settings, &node->dir, why);
    }
    if (err == TORC_ERR_OK) {
        err = node_open_log(node, why);
    }
    if (err == TORC_ERR_OK) {
        err = node_open_admin(node, why);
    }
    if (err != TORC_ERR_OK) {
        torc_node_close(node);
    }
    return err;
}

static void node_end_life(struct torc_node *node)
{
    if (node->recover != NULL) {
        torc_recover_close(node->recover);
        node->recover = NULL;
    }
    free(node->recover_shards);
    node->recover_shards = NULL;
    if (node->checkpoints != NULL) {
        struct torc_checkpoints_numbers made;

        torc_checkpoints_numbers(node->checkpoints, &made);
        node->made_before.kept += made.kept;
        node->made_before.failures += made.failures;
        node->made_before.bytes += made.bytes;
        torc_checkpoints_close(node->checkpoints);
        node->checkpoints = NULL;
    }
    if (node->attached) {
        torc_log_store_detach(node->store);
        torc_disk_bell(node->disk, -1);
        torc_attach_close(&node->attach); // its descriptors leave the epoll set with it
        node->attached = false;
    }
    node->in_round = false;
    memset(node->workers, 0, sizeof(node->workers));
}

// Waits for what the disk still has of ours.
static void node_settle(struct torc_node *node)
{
    bool settled = false;

    while (!settled) {
        settled = node->checkpoints == NULL || torc_checkpoints_settle(node->checkpoints);
        (void)torc_disk_run(node->disk);
        settled = settled && torc_disk_busy(node->disk) == 0;
        if (!settled) {
            (void)torc_disk_wait(node->disk, -1, TORC_NS_PER_MS);
        }
    }
}

void torc_node_close(struct torc_node *node)
{
    if (node->http != NULL) {
        torc_http_close(node->http);
    }
    if (node->admin != NULL) {
        torc_admin_close(node->admin);
    }
    if (node->disk != NULL) {
        node_settle(node);
        node_end_life(node);
    }
    if (node->store != NULL) {
        torc_log_store_close(node->store);
    }
    if (node->disk != NULL) {
        torc_disk_close(node->disk);
    }
    torc_registry_close(&node->registry);
    torc_data_dir_close(&node->dir);
    if (node->signal_fd >= 0) {
        (void)close(node->signal_fd);
    }
    if (node->epoll_fd >= 0) {
        (void)close(node->epoll_fd);
    }
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
                       torc_cluster_ready(cluster), cluster->shard_count);
        break;
    case TORC_NODE_SCANNING:
    case TORC_NODE_RESUMING:
    case TORC_NODE_SERVING:
    case TORC_NODE_CHECKPOINTING:
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

// The address, for clients of this machine; then whoever waits is told.
static void node_tell_ready(struct torc_node *node)
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

static enum torc_err node_begin_recover(struct torc_node *node, struct torc_fail *why)
{
    struct torc_recover_config config = {.disk = node->disk,
                                         .store = node->store,
                                         .log_fd = node->dir.log_fd,
                                         .checkpoint_fd = node->dir.checkpoint_fd,
                                         .cluster = node->dir.cluster,
                                         .node = node->dir.node,
                                         .worker_count = node->attach.hello.worker_count,
                                         .shards = node->recover_shards,
                                         .shard_count = node->registry.cluster.shard_count};

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
    enum torc_err err = torc_registry_start(&node->registry, &node->dir,
                                            node->attach.hello.worker_count, &node->network, &why);

    torc_cluster_spread(cluster, node->attach.hello.worker_count);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        cluster->shards[i].ready = false;
        cluster->shards[i].wanted = false;
    }
    node_make_recover_shards(node);
    if (err == TORC_ERR_OK) {
        err = node_begin_recover(node, &why);
    }
    if (err != TORC_ERR_OK) {
        node_fail(node, &why);
        return;
    }
    torc_log(TORC_LOG_INFO, "recover", "began",
             "boot=%" PRIu64 " workers=%" PRIu32 " shards=%" PRIu32, cluster->boot,
             node->attach.hello.worker_count, cluster->shard_count);
    node_go(node, TORC_NODE_SCANNING);
}

// Takes over what recovery found: turns, what is covered by a checkpoint; and begins the streams.
static enum torc_err node_take_over(struct torc_node *node, struct torc_fail *why)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    struct torc_recover_numbers found;
    enum torc_err err = node_open_checkpoints(node, why);

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_recover_shard *from = node->recover_shards + i;
        struct torc_cluster_shard *shard = cluster->shards + i;

        shard->moved = from->stream != 0 && from->stream != shard->worker + 1;
        shard->turn = from->turn + (shard->moved ? 1 : 0);
        shard->has_checkpoint = from->has_checkpoint;
        shard->checkpoint_lsn = from->checkpoint.lsn;
        shard->start_sequence = from->checkpoint.start_sequence;
        shard->covered = from->has_checkpoint && from->checkpoint.turn == shard->turn &&
                         from->checkpoint.stream == shard->worker + 1;
    }
    for (uint32_t i = 0; i < node->attach.hello.worker_count && err == TORC_ERR_OK; i++) {
        err = torc_log_store_begin(node->store, &node->attach, i,
                                   torc_recover_next_sequence(node->recover, i + 1), why);
    }
    torc_recover_numbers(node->recover, &found);
    node->recovered_log_bytes = found.log_bytes;
    torc_cluster_write_map(cluster, node->attach.map);
    return err;
}

static void node_scan(struct torc_node *node)
{
    struct torc_fail why = {0};
    bool scanned = false;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < NODE_SCANS && err == TORC_ERR_OK && !scanned; i++) {
        err = torc_recover_step(node->recover, &scanned, &why);
    }
    if (err == TORC_ERR_OK && scanned) {
        err = node_take_over(node, &why);
    }
    if (err != TORC_ERR_OK) {
        node_fail(node, &why);
    } else if (scanned) {
        node_go(node, TORC_NODE_FEEDING);
    }
}

static bool node_configure(struct torc_node *node, uint32_t worker)
{
    const struct torc_registry *registry = &node->registry;
    struct torc_cmd order = {.kind = TORC_CMD_CONFIGURE};
    struct torc_cmd map = {.kind = TORC_CMD_MAP_CHANGED,
                           .map_version = registry->cluster.map_version};
    uint64_t hlc = 0;

    for (uint32_t i = 0; i < registry->cluster.shard_count; i++) {
        hlc = torc_max_u64(hlc, node->recover_shards[i].checkpoint.hlc);
    }
    order.configure = (struct torc_cmd_configure){
        .cluster = registry->cluster.cluster,
        .boot = registry->cluster.boot,
        .key_count = registry->cluster.keys,
        .hlc = hlc,
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
        .map_version = (uint32_t)registry->cluster.map_version};
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
        struct torc_cmd order = {.kind = TORC_CMD_SHARD_OPEN};

        order.shard = (struct torc_cmd_shard){.lo = shard->lo,
                                              .hi = shard->hi,
                                              .shard = shard->shard,
                                              .epoch = shard->epoch,
                                              .turn = shard->turn,
                                              .moved = shard->moved ? 1 : 0};
        if (shard->worker == index && !torc_attach_cmd(&node->attach, index, &order)) {
            return false;
        }
        worker->shard_at++;
    }
    // What goes through `in` must not be seen before the orders it is about.
    return worker->configured && node_orders_taken(node, index);
}

static void node_feed(struct torc_node *node)
{
    struct torc_fail why = {0};
    bool opened = true;
    bool fed = false;
    bool recovered = true;

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        opened = node->workers[i].recovered || (node_open_worker(node, i) && opened);
    }
    if (!opened) {
        return;
    }
    if (torc_recover_feed(node->recover, &node->attach, &fed, &why) != TORC_ERR_OK) {
        node_fail(node, &why);
        return;
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
    if (fed && recovered) {
        torc_recover_close(node->recover);
        node->recover = NULL;
        node_go(node, TORC_NODE_REPLAYING);
    }
}

// Sends the one order of the present state to each worker; true when all have it.
static bool node_order_all(struct torc_node *node, enum torc_cmd_kind kind)
{
    struct torc_cmd order = {.kind = kind};
    bool all = true;

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
    node->round_ns = node->now_ns;
    node_go(node, TORC_NODE_SERVING);
    node_tell_ready(node);
}

static void node_replay(struct torc_node *node)
{
    const struct torc_cluster *cluster = &node->registry.cluster;
    uint64_t records = 0;
    uint64_t replayed = 0;

    if (torc_cluster_ready(cluster) < cluster->shard_count ||
        !node_order_all(node, TORC_CMD_SERVE)) {
        return;
    }
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

static bool node_can_resume(const struct torc_node *node)
{
    const struct torc_chan_hello *hello = &node->attach.hello;
    bool serving = hello->cluster == node->dir.cluster && hello->node == node->dir.node &&
                   hello->boot == node->registry.cluster.boot;

    for (uint32_t i = 0; i < hello->worker_count; i++) {
        serving = serving && atomic_load_explicit(&node->attach.ports[i].worker->state,
                                                  memory_order_acquire) == TORC_WORKER_SERVING;
    }
    return serving && node->attach.map->entry_count == node->registry.cluster.shard_count;
}

// The shards as the control before us gave them out, from the map that it wrote.
static bool node_read_map(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_chan_map_entry *entry = node->attach.map->entries + i;
        struct torc_cluster_shard *shard = cluster->shards + i;

        if (entry->shard != shard->shard || entry->epoch != shard->epoch ||
            entry->members[0].core >= node->attach.hello.worker_count) {
            return false;
        }
        shard->worker = entry->members[0].core;
        shard->ready = true;
        shard->wanted = false;
    }
    return true;
}

// What the files say of checkpoints: one of this life's epoch is of the present stream and turn.
static void node_read_checkpoints(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_recover_shard *from = node->recover_shards + i;
        struct torc_cluster_shard *shard = cluster->shards + i;

        shard->has_checkpoint = from->has_checkpoint;
        shard->checkpoint_lsn = from->checkpoint.lsn;
        shard->start_sequence = from->checkpoint.start_sequence;
        shard->covered = from->has_checkpoint && from->checkpoint.epoch == shard->epoch &&
                         from->checkpoint.stream == shard->worker + 1;
    }
}

static void node_resume(struct torc_node *node)
{
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;

    node_make_recover_shards(node);
    err = node_begin_recover(node, &why); // looks at the folders, no more
    if (err == TORC_ERR_OK) {
        node_read_checkpoints(node);
        torc_recover_close(node->recover);
        node->recover = NULL;
        err = node_open_checkpoints(node, &why);
    }
    if (err != TORC_ERR_OK) {
        node_fail(node, &why);
        return;
    }
    torc_log(TORC_LOG_INFO, "node", "resuming",
             "boot=%" PRIu64 " dataplane=%" PRIu32 " note=\"it went on without control\"",
             node->attach.hello.boot, node->attach.hello.pid);
    node_go(node, TORC_NODE_RESUMING);
}

// All workers have said where they stand: the log goes on there.
static void node_resumed(struct torc_node *node)
{
    struct torc_fail why = {0};
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        if (!node->workers[i].seen) {
            (void)node_order_all(node, TORC_CMD_CONTROL_HELLO);
            return;
        }
    }
    for (uint32_t i = 0; i < node->attach.hello.worker_count && err == TORC_ERR_OK; i++) {
        struct torc_cmd forget = {.kind = TORC_CMD_CHECKPOINT_END};

        forget.checkpoint.given_up = 1; // number 0: whatever the control before us had begun
        err = torc_log_store_resume(node->store, &node->attach, i, &node->workers[i].said, &why);
        if (!torc_attach_cmd(&node->attach, i, &forget)) {
            torc_log(TORC_LOG_WARN, "node", "orders-full", "worker=%" PRIu32, i);
        }
    }
    if (err != TORC_ERR_OK) {
        node_fail(node, &why);
        return;
    }
    node->round_ns = node->now_ns;
    node_go(node, TORC_NODE_SERVING);
    node_tell_ready(node);
}

// -- Finding and losing it -----------------------------------------------------------------------

static void node_look(struct torc_node *node)
{
    char path[TORC_DATA_DIR_PATH_BYTES + 24];
    struct torc_fail why = {0};
    enum torc_err err;

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
        node_fail(node, &why);
        return;
    }
    node->attached = true;
    node->found_ns = node->now_ns;
    node_watch(node, node->attach.socket);
    node_watch(node, node->attach.pidfd);
    torc_disk_bell(node->disk, node->attach.doorbell);
    if (node->attach.hello.boot == 0) {
        node_start_life(node);
        return;
    }
    if (node_can_resume(node) && node_read_map(node)) {
        node_resume(node);
        return;
    }
    torc_log(TORC_LOG_WARN, "node", "dataplane-ended",
             "pid=%" PRIu32 " boot=%" PRIu64
             " note=\"it cannot be continued by this control; its parent starts another\"",
             node->attach.hello.pid, node->attach.hello.boot);
    torc_attach_kill(&node->attach);
    node_go(node, TORC_NODE_DRAINING);
}

static void node_lost(struct torc_node *node)
{
    torc_log(TORC_LOG_WARN, "node", "dataplane-lost",
             "pid=%" PRIu32 " state=%s note=\"its log ring is written out; waiting for another\"",
             node->attach.hello.pid, torc_node_state_name(node->state));
    if (node->recover != NULL) {
        torc_recover_close(node->recover);
        node->recover = NULL;
    }
    node_go(node, TORC_NODE_DRAINING);
}

// What the dead one had published is written; then its memory is let go.
static void node_drain(struct torc_node *node)
{
    bool settled = node->checkpoints == NULL || torc_checkpoints_settle(node->checkpoints);

    if (!settled || !torc_attach_is_lost(&node->attach) || !torc_log_store_drained(node->store)) {
        return;
    }
    node_end_life(node);
    torc_node_answer_checkpoints(node);
    node->next_look_ns = 0;
    node_go(node, node->stops > 0 ? TORC_NODE_ENDED : TORC_NODE_WAITING);
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
        worker->seen = true;
        worker->said = event->seen;
        return;
    case TORC_EVT_QUIESCED: worker->quiesced = true; return;
    case TORC_EVT_ALARM:
        node->numbers[TORC_CONTROL_ALARMS]++;
        (void)torc_fail(
            &why,
            event->alarm.err == TORC_ERR_OK ? TORC_ERR_INTERNAL : (enum torc_err)event->alarm.err,
            "%.*s", (int)strnlen(event->alarm.text, sizeof(event->alarm.text)), event->alarm.text);
        torc_log(TORC_LOG_ERROR, "worker", "alarm",
                 "worker=%" PRIu32 " shard=%" PRIu32 " error=%s text=\"%s\"", index,
                 event->alarm.shard, torc_err_name(why.err), why.text);
        // A shard that cannot be rebuilt: nothing is guessed, the node does not start.
        if (node->state == TORC_NODE_FEEDING || node->state == TORC_NODE_REPLAYING) {
            node_fail(node, &why);
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

static void node_trim(struct torc_node *node)
{
    for (uint32_t i = 0; i < torc_log_store_stream_count(node->store); i++) {
        const struct torc_log_plan *plan = torc_log_store_plan(node->store, i);
        uint64_t floor = torc_cluster_floor(&node->registry.cluster, plan->stream);

        torc_log_store_trim(node->store, i, floor);
    }
}

void torc_node_begin_round(struct torc_node *node)
{
    struct torc_log_store_numbers numbers;

    torc_log_store_numbers(node->store, &numbers);
    node->round_log_bytes = numbers.write_bytes;
    node->recovered_log_bytes = 0;
    node->in_round = true;
    torc_checkpoints_round(node->checkpoints);
    torc_log(TORC_LOG_INFO, "checkpoint", "round", "shards=%" PRIu32,
             node->registry.cluster.shard_count);
}

// True when the log has grown enough, or segments of streams without a worker wait to be let go.
static bool node_wants_round(const struct torc_node *node)
{
    struct torc_log_store_numbers numbers;
    struct torc_checkpoints_numbers made;
    bool waiting = false;
    bool calm;

    torc_log_store_numbers(node->store, &numbers);
    torc_checkpoints_numbers(node->checkpoints, &made);
    for (uint32_t i = 0; i < torc_log_store_stream_count(node->store); i++) {
        waiting = waiting || (torc_log_store_worker(node->store, i) == UINT32_MAX &&
                              torc_log_store_plan(node->store, i)->segment_count > 0);
    }
    // After a failure no sooner than a minute later.
    calm = node->now_ns - node->round_ns > NODE_RETRY_NS;
    return (made.failure.err == TORC_ERR_OK || calm) &&
           (numbers.write_bytes - node->round_log_bytes + node->recovered_log_bytes >=
                node->settings->checkpoint_bytes ||
            (waiting && (made.rounds == 0 || calm)));
}

static bool node_checkpoints(struct torc_node *node)
{
    bool kept = false;
    bool moved = torc_checkpoints_step(node->checkpoints, &kept);

    if (kept) {
        node_trim(node);
    }
    if (node->in_round && torc_checkpoints_is_idle(node->checkpoints)) {
        struct torc_checkpoints_numbers numbers;

        torc_checkpoints_numbers(node->checkpoints, &numbers);
        node->in_round = false;
        node->round_ns = node->now_ns;
        torc_log(TORC_LOG_INFO, "checkpoint", "round-done",
                 "kept=%" PRIu64 " failures=%" PRIu64 " bytes=%" PRIu64, numbers.kept,
                 numbers.failures, numbers.bytes);
        torc_node_answer_checkpoints(node);
        moved = true;
    }
    return moved;
}

static bool node_log_failed(const struct torc_node *node)
{
    struct torc_log_store_numbers numbers;

    torc_log_store_numbers(node->store, &numbers);
    return numbers.failed;
}

// A clean stop: checkpoints (if wanted), then QUIESCE, then the end.
static void node_begin_stop(struct torc_node *node)
{
    (void)sd_notify(0, "STOPPING=1");
    (void)unlinkat(node->dir.run_fd, "cluster", 0); // it may not be there
    torc_log(TORC_LOG_INFO, "node", "stopping", "state=%s", torc_node_state_name(node->state));
    if (node->state != TORC_NODE_SERVING) {
        node_go(node, TORC_NODE_ENDED); // nothing is served that could be stopped
        return;
    }
    if (node->settings->checkpoint_on_stop != 0 && !node_log_failed(node) && !node->in_round) {
        torc_node_begin_round(node);
    }
    node_go(node, TORC_NODE_CHECKPOINTING);
}

static void node_quiesce(struct torc_node *node)
{
    struct torc_fail why = {0};
    bool quiesced = node_order_all(node, TORC_CMD_QUIESCE);

    for (uint32_t i = 0; i < node->attach.hello.worker_count; i++) {
        quiesced = quiesced && node->workers[i].quiesced;
    }
    if (!quiesced && node->now_ns - node->state_ns > NODE_QUIESCE_WAIT_NS) {
        (void)torc_fail(&why, TORC_ERR_DEADLINE,
                        "stop: a worker did not come to rest within %" PRIu64
                        " s; the next start recovers from the log",
                        NODE_QUIESCE_WAIT_NS / TORC_NS_PER_S);
        node_fail(node, &why);
        return;
    }
    if (!quiesced || !torc_log_store_drained(node->store)) {
        return;
    }
    if (node_log_failed(node)) {
        torc_log(TORC_LOG_ERROR, "node", "stopped-unclean", "reason=\"the log had failed\"");
    } else if (torc_registry_down(&node->registry, &why) != TORC_ERR_OK) {
        torc_log(TORC_LOG_WARN, "node", "not-sealed", "reason=\"%s\"", why.text);
    }
    torc_log(TORC_LOG_INFO, "node", "stopped", "boot=%" PRIu64, node->registry.cluster.boot);
    node_go(node, TORC_NODE_ENDED);
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
        node_go(node, TORC_NODE_ENDED);
    }
    if (node->stops > 0 && node->state != TORC_NODE_CHECKPOINTING &&
        node->state != TORC_NODE_QUIESCING && node->state != TORC_NODE_DRAINING &&
        node->state != TORC_NODE_ENDED) {
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
    if (node->attached && node->state != TORC_NODE_DRAINING && node->state != TORC_NODE_ENDED &&
        torc_attach_is_lost(&node->attach)) {
        node_lost(node);
    }
    if (node->state == TORC_NODE_SERVING && !node->in_round && !node_log_failed(node) &&
        node_wants_round(node)) {
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
    case TORC_NODE_WAITING: node_look(node); return;
    case TORC_NODE_SCANNING: node_scan(node); return;
    case TORC_NODE_FEEDING: node_feed(node); return;
    case TORC_NODE_REPLAYING: node_replay(node); return;
    case TORC_NODE_RESUMING: node_resumed(node); return;
    case TORC_NODE_SERVING: return;
    case TORC_NODE_CHECKPOINTING:
        if (!node->in_round || node->stops > 1 || node_log_failed(node)) {
            node_go(node, TORC_NODE_QUIESCING);
        }
        return;
    case TORC_NODE_QUIESCING: node_quiesce(node); return;
    case TORC_NODE_DRAINING: node_drain(node); return;
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
        moved = node_checkpoints(node) || moved;
    }
    node_step_state(node);
    if (node->attached) {
        torc_attach_wake(&node->attach);
    }
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
    if (node->state == TORC_NODE_FEEDING) { // nobody rings for orders that were taken
        until_ns = torc_min_u64(until_ns, node->now_ns + NODE_SLOW_NS);
    }
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
        if (node->state != TORC_NODE_ENDED) {
            node_rest(node, moved_ns);
        }
    }
    node_settle(node);
    if (node->failure.err != TORC_ERR_OK) {
        return torc_fail(why, node->failure.err, "%s", node->failure.text);
    }
    return TORC_ERR_OK;
}
