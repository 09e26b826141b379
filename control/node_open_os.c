// Torc control: the parts of a node, opened and closed. See control/node_os.h.
#include "control/node_impl_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

void torc_node_watch(struct torc_node *node, int fd)
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
    torc_node_watch(node, node->signal_fd);
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
    if (err == TORC_ERR_OK) {
        torc_admin_let_pass(node->admin, node->dir.fd, node->dir.path);
        torc_admin_let_pass(node->admin, node->dir.run_fd, run);
    }
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

static void node_warn_durability(const struct torc_node *node)
{
    if (node->registry.meta.durability == TORC_DURABILITY_REPLICATED) {
        torc_log(TORC_LOG_WARN, "node", "replicated",
                 "note=\"durability = replicated: writes are acknowledged from memory and written "
                 "behind; when all copies of a shard lose power or are killed at once, the shard "
                 "stays closed and what was acknowledged last may be lost\"");
    }
}

static enum torc_err node_open_keys(struct torc_node *node, struct torc_fail *why)
{
    if (node->registry.meta.security != TORC_SECURITY_KEYS) {
        torc_log(TORC_LOG_WARN, "node", "clear",
                 "note=\"security = clear: sessions are neither authenticated nor encrypted; "
                 "whoever reaches this network may read and write everything\"");
        return TORC_ERR_OK;
    }
    return torc_keys_load(&node->keys, node->dir.path, node->dir.cluster, node->dir.node, why);
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
        err = torc_data_dir_open(&node->dir, settings->data, false, settings->lock_wait_s * 1000,
                                 why);
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
        torc_node_open_yield(node);
        err = torc_node_open_meta(node, why);
    }
    if (err == TORC_ERR_OK) {
        node_warn_durability(node);
        err = node_open_keys(node, why);
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

void torc_node_end_life(struct torc_node *node)
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
    node->keys_sequence = 0;
    if (node->attached) {
        torc_log_store_detach(node->store);
        torc_disk_bell(node->disk, -1);
        torc_attach_close(&node->attach); // its descriptors leave the epoll set with it
        node->attached = false;
    }
    node->rounds.open = false;
    torc_log_store_hold(node->store, false);
    memset(node->workers, 0, sizeof(node->workers));
}

void torc_node_settle(struct torc_node *node)
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
        torc_node_settle(node);
        torc_node_end_life(node);
    }
    if (node->store != NULL) {
        torc_log_store_close(node->store);
    }
    if (node->disk != NULL) {
        torc_disk_close(node->disk);
    }
    free(node->sessions);
    torc_keys_close(&node->keys);
    torc_node_close_meta(node);
    torc_node_close_yield(node);
    torc_registry_close(&node->registry);
    torc_data_dir_close(&node->dir);
    if (node->signal_fd >= 0) {
        (void)close(node->signal_fd);
    }
    if (node->epoll_fd >= 0) {
        (void)close(node->epoll_fd);
    }
}
