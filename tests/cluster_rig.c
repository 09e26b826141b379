// Torc tests: several nodes in one process; see cluster_rig.h.
#include "tests/cluster_rig.h"

#include "dataplane/worker_state.h"

#include <stdlib.h>
#include <string.h>

#define STEP_NS      10000u
#define CLIENT_PORT  40000u
#define ANSWER_STEPS 2000u

// -- Messages between nodes -----------------------------------------------------------------------

static void cluster_put(struct torc_cluster *cluster, const struct torc_peer_from *from,
                        const struct torc_peer_to *to, const unsigned char *op, uint32_t bytes)
{
    struct torc_cluster_letter *letter = &cluster->letters[cluster->next % TORC_CLUSTER_LETTERS];

    cluster->sent++;
    if (cluster->next - cluster->first == TORC_CLUSTER_LETTERS ||
        to->node > cluster->config.nodes || !cluster->rigs[to->node].up ||
        cluster->cut[from->node][to->node] ||
        torc_rng_below(&cluster->rng, 1000000) < cluster->loss_ppm) {
        cluster->lost++;
        return;
    }
    *letter = (struct torc_cluster_letter){.from = *from,
                                           .to_node = to->node,
                                           .to_core = to->core,
                                           .byte_count = bytes,
                                           .bytes = malloc(bytes)};
    torc_assert(letter->bytes != NULL);
    memcpy(letter->bytes, op, bytes);
    cluster->next++;
}

static void cluster_send(void *context, uint32_t worker, struct torc_peer_to to,
                         const unsigned char *op, uint32_t byte_count)
{
    const struct torc_cluster_end *end = context;
    struct torc_cluster *cluster = end->cluster;
    uint32_t node = end->node;
    struct torc_peer_from from = {
        .node = node, .core = worker, .boot = cluster->meta.node_boot[node]};
    uint32_t first = to.core == TORC_POST_EACH ? 0 : to.core;
    uint32_t behind = to.core == TORC_POST_EACH ? cluster->config.workers : to.core + 1;

    for (uint32_t core = first; core < behind; core++) {
        cluster_put(cluster, &from, &(struct torc_peer_to){.node = to.node, .core = core}, op,
                    byte_count);
    }
}

// Letters of others are passed over; those taken have no bytes any more.
static bool cluster_take(void *context, uint32_t worker, struct torc_peer_from *from, uint64_t *hlc,
                         const unsigned char **op, uint32_t *byte_count)
{
    const struct torc_cluster_end *end = context;
    struct torc_cluster *cluster = end->cluster;
    uint32_t node = end->node;

    free(cluster->taken.bytes);
    cluster->taken.bytes = NULL;
    for (uint64_t at = cluster->first; at < cluster->next; at++) {
        struct torc_cluster_letter *letter = &cluster->letters[at % TORC_CLUSTER_LETTERS];

        if (letter->bytes != NULL && letter->to_node == node && letter->to_core == worker) {
            cluster->taken = *letter;
            letter->bytes = NULL;
            break;
        }
    }
    while (cluster->first < cluster->next &&
           cluster->letters[cluster->first % TORC_CLUSTER_LETTERS].bytes == NULL) {
        cluster->first++;
    }
    *from = cluster->taken.from;
    *hlc = 0; // these nodes do not say
    *op = cluster->taken.bytes;
    *byte_count = cluster->taken.byte_count;
    return cluster->taken.bytes != NULL;
}

static void cluster_drop_letters(struct torc_cluster *cluster, uint32_t node)
{
    for (uint64_t at = cluster->first; at < cluster->next; at++) {
        struct torc_cluster_letter *letter = &cluster->letters[at % TORC_CLUSTER_LETTERS];

        if (letter->to_node == node || node == 0) {
            free(letter->bytes);
            letter->bytes = NULL;
        }
    }
}

// -- Life -----------------------------------------------------------------------------------------

static void cluster_step(void *context)
{
    torc_cluster_step(context);
}

static void cluster_node_open(struct torc_cluster *cluster, uint32_t node)
{
    const struct torc_cluster_config *config = &cluster->config;
    struct torc_cluster_end *end = &cluster->ends[node];
    struct torc_rig_config rig = {.workers = config->workers,
                                  .shards = config->shards,
                                  .key_count = config->key_count,
                                  .seed = torc_rng_next(&cluster->rng),
                                  .durability = config->durability,
                                  .steered = true,
                                  .chunks = 32,
                                  .undo_bytes = UINT64_C(1) << 20,
                                  .heap_bytes = UINT64_C(32) << 20,
                                  .meta = &cluster->meta,
                                  .post = &end->post,
                                  .confirm = config->confirm,
                                  .node = node,
                                  .step = cluster_step,
                                  .step_context = cluster,
                                  .client_id = UINT64_C(0x636c75737400),
                                  .now_ns = cluster->now_ns,
                                  .wall_us = cluster->wall_us};

    *end = (struct torc_cluster_end){
        .cluster = cluster,
        .node = node,
        .post = {.context = end, .send = cluster_send, .take = cluster_take}};
    (void)torc_fake_meta_start(&cluster->meta, node, true);
    torc_rig_open(&cluster->rigs[node], &rig);
}

static void cluster_connect(struct torc_cluster *cluster, uint32_t node)
{
    struct torc_rig_client *client = &cluster->clients[node];

    torc_rig_connect(&cluster->rigs[node], client, (uint16_t)(CLIENT_PORT + node));
}

void torc_cluster_open(struct torc_cluster *cluster, const struct torc_cluster_config *config)
{
    torc_assert(config->nodes <= TORC_CLUSTER_NODES && config->replicas <= config->nodes);
    memset(cluster, 0, sizeof(*cluster));
    cluster->config = *config;
    cluster->rng.state = config->seed;
    cluster->next_wseq = 1;
    cluster->now_ns = UINT64_C(5000000000);
    cluster->wall_us = UINT64_C(1700000000000000);
    torc_fake_meta_init(&cluster->meta, config->shards, config->replicas, config->min_in_sync);
    for (uint32_t node = 1; node <= config->nodes; node++) {
        cluster_node_open(cluster, node);
    }
    for (uint32_t node = 1; node <= config->nodes; node++) {
        cluster_connect(cluster, node);
    }
}

void torc_cluster_close(struct torc_cluster *cluster)
{
    cluster_drop_letters(cluster, 0);
    free(cluster->taken.bytes);
    for (uint32_t node = 1; node <= cluster->config.nodes; node++) {
        torc_rig_close(&cluster->rigs[node]);
    }
}

void torc_cluster_kill(struct torc_cluster *cluster, uint32_t node, bool seen)
{
    torc_rig_crash(&cluster->rigs[node]);
    cluster_drop_letters(cluster, node);
    if (seen) {
        torc_fake_meta_down(&cluster->meta, node);
    }
}

static void cluster_forget(struct torc_cluster *cluster, uint32_t node)
{
    struct torc_rig *rig = &cluster->rigs[node];

    for (uint32_t worker = 0; worker < rig->config.workers; worker++) {
        torc_fake_control_wipe(&rig->controls[worker]);
    }
}

static void cluster_recover(struct torc_cluster *cluster, uint32_t node)
{
    struct torc_rig *rig = &cluster->rigs[node];

    rig->now_ns = cluster->now_ns;
    rig->wall_us = cluster->wall_us;
    torc_rig_recover(rig);
    cluster_connect(cluster, node);
}

void torc_cluster_start(struct torc_cluster *cluster, uint32_t node, bool keeps)
{
    if (!keeps) {
        cluster_forget(cluster, node);
    }
    (void)torc_fake_meta_start(&cluster->meta, node, keeps);
    cluster_recover(cluster, node);
}

void torc_cluster_start_behind(struct torc_cluster *cluster, uint32_t node)
{
    struct torc_rig *rig = &cluster->rigs[node];

    for (uint32_t worker = 0; worker < rig->config.workers; worker++) {
        torc_fake_control_cut(&rig->controls[worker], rig->controls[worker].durable);
        rig->controls[worker].disk_stuck = false;
    }
    (void)torc_fake_meta_start(&cluster->meta, node, false);
    cluster_recover(cluster, node);
}

void torc_cluster_step(struct torc_cluster *cluster)
{
    cluster->now_ns += STEP_NS;
    cluster->wall_us += STEP_NS / 1000;
    for (uint32_t node = 1; node <= cluster->config.nodes; node++) {
        if (cluster->rigs[node].up) {
            torc_rig_step(&cluster->rigs[node], STEP_NS);
            torc_assert(cluster->rigs[node].now_ns == cluster->now_ns);
        }
    }
}

void torc_cluster_run(struct torc_cluster *cluster, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        torc_cluster_step(cluster);
    }
}

// -- What is --------------------------------------------------------------------------------------

struct torc_worker_shard *torc_cluster_shard(struct torc_cluster *cluster, uint32_t node,
                                             uint32_t shard)
{
    struct torc_rig *rig = &cluster->rigs[node];

    for (uint32_t worker = 0; rig->up && worker < rig->config.workers; worker++) {
        struct torc_worker_shard *found = torc_worker_shard_number(rig->workers[worker], shard);

        if (found != NULL) {
            return found;
        }
    }
    return NULL;
}

uint32_t torc_cluster_server(struct torc_cluster *cluster, uint32_t shard)
{
    uint32_t server = 0;

    for (uint32_t node = 1; node <= cluster->config.nodes; node++) {
        const struct torc_worker_shard *at = torc_cluster_shard(cluster, node, shard);

        if (at != NULL && at->engine.state == TORC_SHARD_ACTIVE &&
            (at->readable || (cluster->config.confirm && torc_worker_leads(at)))) {
            torc_assert(server == 0 || cluster->config.confirm); // two would serve
            server = server == 0 ? node : server;
        }
    }
    return server;
}

static bool cluster_is_settled(struct torc_cluster *cluster, uint32_t shard, uint32_t node,
                               uint32_t members)
{
    const struct torc_chan_record *record = &cluster->meta.records[shard];
    uint32_t server = torc_cluster_server(cluster, shard);
    const struct torc_worker_shard *primary;

    if (server == 0 || (node != 0 && server != node) || record->member_count != members) {
        return false;
    }
    primary = torc_cluster_shard(cluster, server, shard);
    for (uint32_t i = 0; i < record->member_count; i++) {
        const struct torc_worker_shard *at =
            torc_cluster_shard(cluster, record->members[i].node, shard);

        if (at == NULL || at->replica->machine.epoch != record->epoch ||
            at->engine.applied_lsn != primary->engine.next_lsn - 1) {
            return false;
        }
    }
    return true;
}

bool torc_cluster_settle(struct torc_cluster *cluster, uint32_t shard, uint32_t node,
                         uint32_t members, uint32_t steps_max)
{
    for (uint32_t i = 0; i < steps_max; i++) {
        if (cluster_is_settled(cluster, shard, node, members)) {
            return true;
        }
        torc_cluster_step(cluster);
    }
    return false;
}

bool torc_cluster_has(struct torc_cluster *cluster, uint32_t node, uint64_t key, const char *text)
{
    for (uint32_t shard = 1; shard <= cluster->config.shards; shard++) {
        const struct torc_worker_shard *at = torc_cluster_shard(cluster, node, shard);
        struct torc_tree_hit hit;

        if (at != NULL && torc_shard_has(&at->engine, key)) {
            return torc_tree_lookup(&at->engine.tree, key, &hit) &&
                   hit.value_bytes == strlen(text) && memcmp(hit.value, text, hit.value_bytes) == 0;
        }
    }
    return false;
}

// -- The client -----------------------------------------------------------------------------------

bool torc_cluster_call(struct torc_cluster *cluster, uint32_t node,
                       const struct torc_request *request, struct torc_reply *reply,
                       uint32_t steps_max)
{
    struct torc_rig *rig = &cluster->rigs[node];
    struct torc_rig_client *client = &cluster->clients[node];
    uint32_t op_id = torc_rig_add(client, request);

    (void)torc_rig_flush(rig, client, torc_rig_core(rig, request->key));
    for (uint32_t i = 0; i < steps_max && rig->up; i++) {
        while (torc_rig_next(rig, client, reply)) {
            if (reply->op_id == op_id && reply->opcode == (request->opcode | TORC_REPLY_BIT)) {
                return true;
            }
        }
        torc_cluster_step(cluster);
    }
    return false;
}

enum torc_err torc_cluster_put(struct torc_cluster *cluster, uint32_t node, uint64_t key,
                               const char *text, uint64_t wseq, uint64_t *version)
{
    struct torc_rig *rig = &cluster->rigs[node];
    struct torc_request request = {.opcode = TORC_OPCODE_PUT,
                                   .key = key,
                                   .wseq = wseq,
                                   .lowest = wseq,
                                   .stamp = torc_hlc_from_us(cluster->wall_us),
                                   .attempt = 1,
                                   .data = (const unsigned char *)text,
                                   .data_bytes = (uint32_t)strlen(text)};
    struct torc_reply reply;

    for (uint32_t shard = 1; shard <= cluster->config.shards; shard++) {
        const struct torc_fake_shard *at = &rig->controls[0].shards[shard - 1];

        request.epoch =
            key >= at->lo && key < at->hi ? cluster->meta.records[shard].epoch : request.epoch;
    }
    if (!torc_cluster_call(cluster, node, &request, &reply, ANSWER_STEPS)) {
        return TORC_ERR_DEADLINE;
    }
    *version = reply.info;
    return (enum torc_err)reply.status;
}

// -- Comparing ------------------------------------------------------------------------------------

static void cluster_compare_trees(const struct torc_shard *one, const struct torc_shard *other)
{
    struct torc_tree_cursor cursors[2];
    struct torc_tree_pair pairs[2];
    bool more = true;

    torc_tree_cursor_open(&cursors[0], one->lo, one->hi - 1, false);
    torc_tree_cursor_open(&cursors[1], other->lo, other->hi - 1, false);
    while (more) {
        more = torc_tree_scan(&one->tree, &cursors[0], &pairs[0], 1) == 1;
        torc_assert(more == (torc_tree_scan(&other->tree, &cursors[1], &pairs[1], 1) == 1));
        if (more) {
            torc_assert(pairs[0].key == pairs[1].key);
            torc_assert(pairs[0].version == pairs[1].version);
            torc_assert(pairs[0].value_bytes == pairs[1].value_bytes);
            torc_assert(memcmp(pairs[0].value, pairs[1].value, pairs[0].value_bytes) == 0);
        }
    }
}

void torc_cluster_compare(struct torc_cluster *cluster, uint32_t shard)
{
    const struct torc_chan_record *record = &cluster->meta.records[shard];
    const struct torc_worker_shard *first = NULL;

    for (uint32_t i = 0; i < record->member_count; i++) {
        const struct torc_worker_shard *at =
            torc_cluster_shard(cluster, record->members[i].node, shard);
        struct torc_fail why;

        if (at == NULL) {
            continue;
        }
        torc_assert(torc_shard_check(&at->engine, &why) == TORC_ERR_OK);
        if (first != NULL) {
            torc_assert(at->engine.applied_lsn == first->engine.applied_lsn);
            torc_assert(at->engine.applied_hlc == first->engine.applied_hlc);
            cluster_compare_trees(&first->engine, &at->engine);
        }
        first = at;
    }
}

static void cluster_describe_peer(const struct torc_cluster *cluster,
                                  const struct torc_replica_peer *peer)
{
    (void)fprintf(stderr,
                  "    peer %" PRIu32 ": role %d, acked boot %" PRIu64 ", received %" PRIu64
                  ", durable %" PRIu64 ", next %" PRIu64 ", %s%s%s%slease %" PRId64
                  " us, stream %d, copy %" PRIu64 "/%" PRIu64 "\n",
                  peer->node, (int)peer->role, peer->acked_boot, peer->received_lsn,
                  peer->durable_lsn, peer->next_lsn, peer->needs_base ? "needs a base, " : "",
                  peer->usable ? "usable, " : "", peer->state.silent ? "silent, " : "",
                  peer->state.mute ? "mute, " : "",
                  ((int64_t)peer->lease.until_ns - (int64_t)cluster->now_ns) / 1000,
                  (int)peer->stream, peer->copy, peer->acked_copy);
}

void torc_cluster_describe(struct torc_cluster *cluster, uint32_t shard)
{
    const struct torc_chan_record *record = &cluster->meta.records[shard];

    (void)fprintf(stderr, "shard %" PRIu32 ": epoch %" PRIu32 ", primary %" PRIu32 "/%" PRIu64 ",",
                  shard, record->epoch, record->primary_node, record->primary_boot);
    for (uint32_t i = 0; i < record->member_count; i++) {
        (void)fprintf(stderr, " %" PRIu32 "/%" PRIu64, record->members[i].node,
                      record->members[i].copy);
    }
    (void)fprintf(stderr, "\n");
    for (uint32_t node = 1; node <= cluster->config.nodes; node++) {
        const struct torc_worker_shard *at = torc_cluster_shard(cluster, node, shard);
        const struct torc_replica *machine = at == NULL ? NULL : &at->replica->machine;

        if (at == NULL) {
            (void)fprintf(stderr, "  node %" PRIu32 " is down\n", node);
            continue;
        }
        (void)fprintf(stderr,
                      "  node %" PRIu32 ": role %d, epoch %" PRIu32 "%s%s%s%s%s, last %" PRIu64
                      ", durable %" PRIu64 ", commit %" PRIu64 ", applied %" PRIu64 "/%" PRIu64
                      ", floor %" PRIu64 ", engine %d, transfer to %" PRIu32 ", health %u\n",
                      node, (int)machine->role, machine->epoch, machine->synced ? ", synced" : "",
                      machine->adopted ? ", adopted" : "", machine->has_base ? ", based" : "",
                      machine->proposal.open ? ", proposes" : "",
                      machine->went_back ? ", WENT BACK" : "", machine->last_lsn,
                      machine->durable_lsn, machine->commit_lsn, machine->applied_lsn,
                      at->engine.applied_lsn, machine->floor_lsn, (int)at->engine.state,
                      machine->transfer_node, machine->health);
        for (uint32_t i = 0; i < machine->peer_count; i++) {
            cluster_describe_peer(cluster, &machine->peers[i]);
        }
    }
}
