// Torc dataplane: the node, put together. See dataplane/node_dpdk.h.
#include "dataplane/node_dpdk.h"

#include "dataplane/council.h"
#include "dataplane/eal_dpdk.h"
#include "dataplane/handover.h"
#include "dataplane/machine_os.h"
#include "dataplane/session_table.h"
#include "kit/clock_os.h"
#include "kit/crc32c.h"
#include "kit/log_os.h"
#include "kit/secret_os.h"
#include "storage/chunk.h"
#include "storage/cpu_os.h"
#include "wire/aead_os.h"

#include <rte_launch.h>
#include <rte_lcore.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

_Static_assert(TORC_PORTS_MAX <= TORC_WORKER_PORTS_MAX, "a worker takes all ports");

#define NODE_PAGE_BYTES 4096u
// A worker's heap below this holds no value of the largest size together with its copy in progress.
#define NODE_HEAP_LEAST_BYTES (UINT64_C(16) << 20)

static uint64_t node_round_up(uint64_t bytes)
{
    return (bytes + NODE_PAGE_BYTES - 1) / NODE_PAGE_BYTES * NODE_PAGE_BYTES;
}

// -- The channel, DPDK, ports --------------------------------------------------------------------

static enum torc_err node_open_channel(struct torc_node *node, struct torc_fail *why)
{
    char path[TORC_SETTINGS_TEXT_BYTES + 32];
    enum torc_err err;

    (void)snprintf(path, sizeof(path), "%s/run/channel.sock", node->settings->data);
    err = torc_channel_open(&node->channel, path, node->worker_count, why);
    if (err == TORC_ERR_OK) {
        node->stage = TORC_NODE_CHANNEL;
    }
    return err;
}

static enum torc_err node_open_eal(struct torc_node *node, struct torc_fail *why)
{
    const struct torc_settings *settings = node->settings;
    struct torc_eal_want *want = calloc(1, sizeof(*want));
    char prefix[64];
    uint32_t count = 0;
    enum torc_err err = TORC_ERR_OK;

    if (want == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "no memory to start");
    }
    // The same at each start of a node: a killed one leaves an empty folder of that name.
    (void)snprintf(prefix, sizeof(prefix), "torc-%08" PRIx32,
                   torc_crc32c(0, settings->data, strlen(settings->data)));
    want->file_prefix = prefix;
    want->pci = torc_port_is_pci(settings->port) ? settings->port : NULL;
    want->memory_bytes = settings->dpdk_memory;
    if (want->memory_bytes == 0) {
        want->memory_bytes = torc_ports_memory_bytes(node->worker_count, (uint16_t)settings->mtu);
    }
    want->worker_count = node->worker_count;
    want->pinned = strcmp(settings->cores, "auto") != 0;
    want->huge_only = settings->huge == TORC_HUGE_YES;
    want->huge_never = settings->huge == TORC_HUGE_NO;
    if (want->pinned) {
        err = torc_eal_parse_cpus(settings->cores, want->cpus, &count, why);
    }
    if (err == TORC_ERR_OK && want->pinned && count != node->worker_count) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "cores=%.60s: %" PRIu32 " processors for %" PRIu32 " workers",
                        settings->cores, count, node->worker_count);
    }
    if (err == TORC_ERR_OK) {
        err = torc_eal_open(want, why);
    }
    free(want);
    if (err == TORC_ERR_OK) {
        node->stage = TORC_NODE_EAL;
    }
    return err;
}

static struct torc_worker_port node_port(const struct torc_port *port)
{
    struct torc_worker_port worker_port = {.mtu = port->mtu};

    memcpy(worker_port.mac, port->mac, sizeof(worker_port.mac));
    if ((port->features & TORC_STEER_TX_IP_CHECKSUM) != 0) {
        worker_port.offloads |= TORC_FRAME_IP_OFFLOAD;
    }
    if ((port->features & TORC_STEER_TX_UDP_CHECKSUM) != 0) {
        worker_port.offloads |= TORC_FRAME_L4_OFFLOAD;
    }
    return worker_port;
}

static enum torc_err node_open_ports(struct torc_node *node, struct torc_fail *why)
{
    const struct torc_settings *settings = node->settings;
    struct torc_ports_want want = {.port = settings->port,
                                   .link = node->network.link,
                                   .memif_name = node->network.memif,
                                   .memif_slots = (uint32_t)settings->memif_slots,
                                   .worker_count = node->worker_count,
                                   .base_port = (uint16_t)settings->base_port,
                                   .mtu = (uint16_t)settings->mtu};
    enum torc_err err;

    err = torc_ports_open(&node->ports, &want, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    node->stage = TORC_NODE_PORTS;
    for (uint32_t i = 0; i < node->ports.count; i++) {
        node->worker_ports[i] = node_port(&node->ports.ports[i]);
    }
    return TORC_ERR_OK;
}

// -- Memory --------------------------------------------------------------------------------------

// Where each part lies in the shared mapping.
struct node_layout {
    uint64_t sessions_bytes;
    uint64_t handover_bytes;
    uint64_t council_bytes;
    uint64_t board_bytes;
    uint64_t worker_bytes; // of one worker
    uint64_t loop_bytes;   // of one loop
    uint32_t session_slots;
    uint32_t frame_bytes;
};

static uint32_t node_session_slots(uint64_t sessions)
{
    uint32_t slots = 64;

    while (slots < sessions && slots < 1u << 20) {
        slots *= 2;
    }
    return slots;
}

static struct node_layout node_lay_out(const struct torc_node *node,
                                       const struct torc_worker_config *config)
{
    struct node_layout layout = {.session_slots = node_session_slots(node->settings->sessions_max)};

    for (uint32_t i = 0; i < node->ports.count; i++) {
        uint32_t frame_bytes = (uint32_t)node->ports.ports[i].mtu + TORC_STEER_FRAME_OVERHEAD_BYTES;

        layout.frame_bytes = (uint32_t)torc_max_u64(layout.frame_bytes, frame_bytes);
    }
    layout.sessions_bytes =
        node_round_up(torc_sessions_bytes(layout.session_slots, node->worker_count));
    layout.handover_bytes =
        node_round_up(torc_handover_bytes(node->worker_count, layout.frame_bytes));
    layout.council_bytes =
        node_round_up(torc_council_bytes(node->worker_count, TORC_CHAN_SHARDS_MAX));
    layout.board_bytes = node_round_up(torc_peers_board_bytes(node->worker_count));
    layout.worker_bytes = node_round_up(torc_worker_bytes(config));
    layout.loop_bytes = node_round_up(sizeof(struct torc_loop));
    return layout;
}

static struct torc_worker_config node_config(const struct torc_node *node, uint32_t index)
{
    const struct torc_settings *settings = node->settings;
    struct torc_worker_config config = {
        .index = index,
        .count = node->worker_count,
        .chan = node->channel.memory,
        .chan_bytes = node->channel.memory_bytes,
        .ipv4_prefix = node->network.ipv4_prefix,
        .ipv6_prefix = node->network.ipv6_prefix,
        .base_port = node->network.base_port,
        .replicas = true,
        .confirm_reads = settings->read_mode == TORC_READ_CONFIRM,
        .port_count = node->ports.count,
        .ports = node->worker_ports,
        .chunk_base = node->chunks.base,
        .session_message_bytes = (uint32_t)settings->message_memory,
        .control_grace_ms = (uint32_t)settings->control_grace_ms,
        .unproved_answers_max = (uint32_t)settings->unproved_answers_max,
        .handshakes_max = (uint32_t)settings->handshakes_max,
        .limits = {.core_ops = (uint32_t)settings->inflight_ops_max,
                   .cursors = (uint32_t)settings->cursors_max,
                   .packet_ops = (uint32_t)settings->packet_ops_max,
                   .packets = (uint32_t)settings->inflight_packets_max,
                   .fragments = (uint32_t)settings->message_window,
                   .write_window = (uint32_t)settings->write_window,
                   .half_open = (uint32_t)settings->half_open_max,
                   .idle_s = (uint32_t)settings->session_idle_s,
                   .age_s = (uint32_t)settings->session_age_s,
                   .deadline_ms_max = (uint32_t)settings->deadline_max_ms},
        .code = torc_tree_code_best(),
        .undo = {.bytes = settings->undo_memory,
                 .age_us = settings->undo_age_ms * 1000,
                 .pin_us = settings->undo_pin_s * 1000000},
    };

    memcpy(config.ipv4, node->network.ipv4, sizeof(config.ipv4));
    memcpy(config.ipv6, node->network.ipv6, sizeof(config.ipv6));
    config.chunk_count = torc_narrow_u32(node->chunks.bytes / TORC_CHUNK_BYTES) / config.count;
    config.chunk_first = index * config.chunk_count;
    return config;
}

static enum torc_err node_open_chunks(struct torc_node *node, struct torc_fail *why)
{
    uint64_t bytes = node->settings->memory;

    if (bytes == 0) {
        bytes = torc_machine_memory_bytes() / 2;
    }
    bytes = torc_min_u64(bytes, (uint64_t)TORC_CHUNKS_MAX * TORC_CHUNK_BYTES);
    if (bytes / TORC_CHUNK_BYTES < node->worker_count) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "memory=%" PRIu64 ": at least %" PRIu64 " bytes for %" PRIu32 " workers",
                         bytes, (uint64_t)node->worker_count * TORC_CHUNK_BYTES,
                         node->worker_count);
    }
    return torc_mapping_open(&node->chunks, bytes, why);
}

static enum torc_err node_random(void *bytes, uint32_t byte_count, struct torc_fail *why)
{
    if (getrandom(bytes, byte_count, 0) != (ssize_t)byte_count) {
        return torc_fail(why, TORC_ERR_IO, "getrandom: %s", strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

static enum torc_err node_fill_shared(struct torc_node *node, const struct node_layout *layout,
                                      struct torc_fail *why)
{
    unsigned char *at = node->shared.base;
    struct torc_sessions_config sessions = {.slot_count = layout->session_slots,
                                            .worker_count = node->worker_count,
                                            .chan = node->channel.memory,
                                            .chan_bytes = node->channel.memory_bytes,
                                            .aead = torc_aead_code_best()};
    enum torc_err err = node_random(sessions.dummy, sizeof(sessions.dummy), why);

    if (err == TORC_ERR_OK) {
        err = torc_sessions_init(&node->sessions, at, layout->sessions_bytes, &sessions, why);
    }
    at += layout->sessions_bytes;
    if (err == TORC_ERR_OK) {
        err = torc_handover_init(&node->handover, at, layout->handover_bytes, node->worker_count,
                                 layout->frame_bytes, why);
    }
    at += layout->handover_bytes;
    if (err == TORC_ERR_OK) {
        err = torc_council_init(&node->council, at, layout->council_bytes, node->worker_count,
                                TORC_CHAN_SHARDS_MAX, why);
    }
    at += layout->council_bytes;
    node->board = torc_peers_board_init(at, node->worker_count);
    at += layout->board_bytes;
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        struct torc_node_worker *worker = &node->workers[i];

        worker->node = node;
        worker->index = i;
        worker->config = node_config(node, i);
        worker->config.sessions = node->sessions;
        worker->config.handover = node->handover;
        worker->config.council = node->council;
        worker->config.board = node->board;
        worker->config.heap = &worker->heap;
        worker->memory = at;
        worker->memory_bytes = layout->worker_bytes;
        at += layout->worker_bytes;
        worker->loop = (struct torc_loop *)(void *)at;
        at += layout->loop_bytes;
        err = node_random(&worker->config.seed, sizeof(worker->config.seed), why);
        if (err == TORC_ERR_OK) {
            err = node_random(worker->config.entropy, sizeof(worker->config.entropy), why);
        }
    }
    return err;
}

// Keys of sessions and of principals: nothing of them in core dumps or swap space.
static void node_hide_secrets(const struct torc_node *node)
{
    struct torc_chan_keys *table = torc_chan_keys(node->channel.memory);
    bool sessions = torc_secret_hide(node->shared.base, node->sessions_bytes);

    if (!torc_secret_hide(table, sizeof(*table)) || !sessions) {
        torc_log(TORC_LOG_WARN, "node", "secrets-unlocked",
                 "note=\"keys may reach swap space; raise LimitMEMLOCK\"");
    }
}

static enum torc_err node_open_memory(struct torc_node *node, struct torc_fail *why)
{
    struct torc_worker_config config;
    struct node_layout layout;
    enum torc_err err;

    node->stage = TORC_NODE_MEMORY; // from here on closing looks at each part
    node->workers = calloc(node->worker_count, sizeof(node->workers[0]));
    if (node->workers == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "no memory for %" PRIu32 " workers",
                         node->worker_count);
    }
    err = torc_relays_open(&node->relays, &node->ports, node->worker_count, why);
    if (err == TORC_ERR_OK) {
        err = node_open_chunks(node, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    config = node_config(node, 0);
    layout = node_lay_out(node, &config);
    err = torc_mapping_open(&node->shared,
                            layout.sessions_bytes + layout.handover_bytes + layout.council_bytes +
                                layout.board_bytes +
                                node->worker_count * (layout.worker_bytes + layout.loop_bytes),
                            why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    node->sessions_bytes = layout.sessions_bytes;
    node->handover_bytes = layout.handover_bytes;
    node_hide_secrets(node);
    return node_fill_shared(node, &layout, why);
}

// -- Workers -------------------------------------------------------------------------------------

static uint64_t node_heap_bytes(const struct torc_node *node)
{
    uint64_t bytes = node->settings->large_memory;

    if (bytes == 0) {
        bytes = torc_machine_memory_bytes() / 8;
    }
    return torc_max_u64(bytes / node->worker_count, NODE_HEAP_LEAST_BYTES);
}

static void node_worker_say(struct torc_node_worker *self, enum torc_node_worker_state state)
{
    atomic_store_explicit(&self->state, state, memory_order_release); // pairs with node_await
}

static void node_worker_run(struct torc_node_worker *self)
{
    const struct torc_node *node = self->node;
    struct torc_loop_want want = {.index = self->index,
                                  .worker_count = node->worker_count,
                                  .ports = &node->ports,
                                  .relays = &node->relays,
                                  .chan = node->channel.memory,
                                  .doorbells = node->channel.doorbells,
                                  .control_doorbell = node->channel.control_doorbell,
                                  .sessions_doorbell = node->session_thread.doorbell,
                                  .busy = node->settings->poll == TORC_POLL_BUSY,
                                  .stop = &node->stop};
    enum torc_err err;

    self->config.trace_clock = torc_loop_clock_ns;
    self->config.trace_context = &self->loop->clock;
    err = torc_worker_init(&self->worker, self->memory, self->memory_bytes, &self->config,
                           &self->why);

    if (err == TORC_ERR_OK) {
        err = torc_loop_open(self->loop, &want, &self->why);
    }
    if (err != TORC_ERR_OK) {
        node_worker_say(self, TORC_NODE_FAILED);
        return;
    }
    node_worker_say(self, TORC_NODE_RUNNING);
    torc_loop_run(self->loop, self->worker);
    torc_loop_close(self->loop);
    torc_worker_close(self->worker);
}

static int node_worker_main(void *argument)
{
    struct torc_node_worker *self = argument;
    char name[16];

    (void)snprintf(name, sizeof(name), "torc-worker-%u", (uint8_t)self->index);
    (void)pthread_setname_np(pthread_self(), name); // for people
    if (torc_heap_open(&self->heap, node_heap_bytes(self->node), &self->why) != TORC_ERR_OK) {
        node_worker_say(self, TORC_NODE_FAILED);
        return 0;
    }
    node_worker_run(self);
    torc_heap_close(&self->heap);
    return 0;
}

static enum torc_err node_await(struct torc_node_worker *worker, struct torc_fail *why)
{
    for (;;) {
        // Acquire: pairs with the release in node_worker_say.
        uint32_t state = atomic_load_explicit(&worker->state, memory_order_acquire);

        if (state == TORC_NODE_RUNNING) {
            return TORC_ERR_OK;
        }
        if (state == TORC_NODE_FAILED) {
            return torc_fail(why, worker->why.err, "worker %" PRIu32 ": %.130s", worker->index,
                             worker->why.text);
        }
        (void)usleep(200);
    }
}

static enum torc_err node_open_workers(struct torc_node *node, struct torc_fail *why)
{
    enum torc_err err = torc_session_thread_open(
        &node->session_thread, node->sessions, node->channel.memory, node->channel.doorbells, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    node->stage = TORC_NODE_WORKERS;
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        int failed = rte_eal_remote_launch(node_worker_main, &node->workers[i], i + 1);

        if (failed != 0) {
            err =
                torc_fail(why, TORC_ERR_IO, "worker %" PRIu32 ": %s", i, strerrordesc_np(-failed));
        }
    }
    for (uint32_t i = 0; i < node->worker_count && err == TORC_ERR_OK; i++) {
        err = node_await(&node->workers[i], why);
    }
    return err;
}

// -- All -----------------------------------------------------------------------------------------

static uint32_t node_worker_count(const struct torc_settings *settings)
{
    uint16_t cpus[TORC_EAL_CPUS_MAX];
    uint32_t count;

    if (settings->workers > 0) {
        return (uint32_t)settings->workers;
    }
    count = torc_eal_cpus(cpus);
    return count > 1 ? (uint32_t)torc_min_u64(count - 1, TORC_PORT_QUEUES_MAX) : 1;
}

enum torc_err torc_node_open(struct torc_node *node, const struct torc_settings *settings,
                             struct torc_fail *why)
{
    static enum torc_err (*const steps[])(struct torc_node *, struct torc_fail *) = {
        node_open_channel, node_open_eal, node_open_ports, node_open_memory, node_open_workers};
    enum torc_err err;

    memset(node, 0, sizeof(*node));
    node->session_thread.doorbell = -1;
    node->settings = settings;
    node->worker_count = node_worker_count(settings);
    err = torc_network_of(&node->network, settings, why);
    if (err == TORC_ERR_OK && node->worker_count > TORC_PORT_QUEUES_MAX) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "workers=%" PRIu32 ": at most %d",
                        node->worker_count, TORC_PORT_QUEUES_MAX);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(steps) && err == TORC_ERR_OK; i++) {
        err = steps[i](node, why);
    }
    if (err != TORC_ERR_OK) {
        torc_node_close(node);
        return err;
    }
    torc_log(TORC_LOG_INFO, "dataplane", "started",
             "node=%" PRIu64 " workers=%" PRIu32 " address=%s tree_memory_mib=%" PRIu64
             " hugetlb=%s aead=\"%s\"",
             settings->node, node->worker_count, node->network.cluster, node->chunks.bytes >> 20,
             node->chunks.hugetlb ? "yes" : "no", torc_aead_code_best()->name);
    return TORC_ERR_OK;
}

struct torc_channel_self torc_node_self(const struct torc_node *node)
{
    struct torc_channel_self self = {0};

    // Acquire: pairs with worker 0's release after it filled the identity.
    if (atomic_load_explicit(&node->sessions->configured, memory_order_acquire) != 0) {
        self.cluster = node->sessions->identity.cluster;
        self.boot = node->sessions->identity.boot;
        self.node = node->sessions->identity.node;
    }
    return self;
}

void torc_node_close(struct torc_node *node)
{
    atomic_store_explicit(&node->stop, true, memory_order_relaxed);
    if (node->stage >= TORC_NODE_WORKERS) {
        for (uint32_t i = 0; i < node->worker_count; i++) {
            torc_channel_ring(node->channel.doorbells[i]); // one may sleep
        }
        rte_eal_mp_wait_lcore();
        torc_session_thread_close(&node->session_thread);
    }
    if (node->stage >= TORC_NODE_MEMORY) {
        torc_relays_close(&node->relays);
        torc_mapping_close(&node->shared);
        torc_mapping_close(&node->chunks);
        free(node->workers);
    }
    if (node->stage >= TORC_NODE_PORTS) {
        torc_ports_close(&node->ports);
    }
    if (node->stage >= TORC_NODE_EAL) {
        torc_eal_close();
    }
    if (node->stage >= TORC_NODE_CHANNEL) {
        torc_channel_close(&node->channel);
    }
    node->stage = TORC_NODE_NOTHING;
}
