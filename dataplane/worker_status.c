// Torc dataplane: STATUS: this core's counters as text, a line each. See worker.h.
#include "dataplane/worker_state.h"
#include "kit/text.h"

#include <string.h>

struct status_number {
    const char *metric;
    uint32_t index;
};

static const struct status_number status_gauges[] = {
#define X(name, metric, help) {metric, TORC_GAUGE_##name},
    TORC_GAUGE_TABLE(X)
#undef X
};

static const struct status_number status_counters[] = {
#define X(name, metric, help) {metric, TORC_COUNTER_##name},
    TORC_COUNTER_TABLE(X)
#undef X
};

static uint32_t status_write(struct torc_worker *worker)
{
    struct torc_text text = {.bytes = worker->text, .room = TORC_WORKER_TEXT_BYTES - 1};
    const struct torc_stats *stats = worker->stats;

    torc_text_add(&text, "node %" PRIu32 "\ncore %" PRIu32 "\ncores %" PRIu32 "\nserving %d\n",
                  worker->cluster.node, worker->index, worker->count, worker->serving ? 1 : 0);
    torc_text_add(&text, "boot %" PRIu64 "\nmap_version %" PRIu64 "\nhlc %" PRIu64 "\n",
                  worker->cluster.boot, worker->map.version, worker->pool.hlc);
    for (uint32_t i = 0; i < TORC_COUNT_OF(status_gauges); i++) {
        torc_text_add(&text, "%s %" PRIu64 "\n", status_gauges[i].metric,
                      torc_stats_get(&stats->gauges[status_gauges[i].index]));
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(status_counters); i++) {
        torc_text_add(&text, "%s %" PRIu64 "\n", status_counters[i].metric,
                      torc_stats_get(&stats->counters[status_counters[i].index]));
    }
    for (uint32_t i = 0; i < TORC_DROP_COUNT; i++) {
        uint64_t count = torc_stats_get(&stats->drops[i]);

        if (count > 0) {
            torc_text_add(&text, "torc_drops_total{reason=\"%s\"} %" PRIu64 "\n",
                          torc_drop_name((enum torc_drop)i), count);
        }
    }
    return (uint32_t)torc_text_bytes(&text);
}

void torc_worker_status(struct torc_worker *worker, struct torc_answer *answer,
                        const struct torc_request *request)
{
    uint32_t total;
    uint32_t offset;
    uint32_t room;
    struct torc_reply reply = {.opcode = TORC_OPCODE_STATUS | TORC_REPLY_BIT,
                               .status = TORC_ERR_OK,
                               .op_id = request->op_id};

    // Once a turn: what is asked for again in pieces, or for nothing, costs no second one.
    if (worker->text_bytes == 0) {
        torc_worker_gauges(worker);
        worker->text_bytes = status_write(worker);
    }
    total = worker->text_bytes;
    offset = request->offset < total ? request->offset : total;
    room = torc_answer_room(worker, answer, TORC_REPLY_HEAD_BYTES,
                            TORC_REPLY_HEAD_BYTES + total - offset);
    if (room == 0) {
        torc_worker_drop(worker, TORC_DROP_REPLY_LOST);
        return;
    }
    reply.info = total;
    reply.body = (const unsigned char *)worker->text + offset;
    reply.body_bytes = room - TORC_REPLY_HEAD_BYTES;
    if (reply.body_bytes >= total - offset) {
        reply.body_bytes = total - offset;
    } else {
        reply.status = TORC_ERR_PARTIAL;
    }
    torc_answer_put(worker, answer, &reply);
}

// The page's gauges; those of the log and the queue are set where they change.
void torc_worker_gauges(struct torc_worker *worker)
{
    _Atomic uint64_t *gauges = worker->stats->gauges;
    uint64_t records = 0;
    uint64_t tree_bytes = 0;
    uint64_t used_bytes = 0;
    uint64_t completions = 0;
    uint64_t clients = 0;

    for (uint32_t i = 0; i < worker->shard_count; i++) {
        const struct torc_shard *shard = &worker->shards[i].engine;

        records += shard->tree.record_count;
        completions += shard->completions.result_count;
        clients += shard->completions.client_count;
        tree_bytes += (uint64_t)(shard->tree.chunks.chunk_count + shard->tree.guide.chunk_count) *
                      TORC_CHUNK_BYTES;
        used_bytes +=
            (uint64_t)(shard->tree.leaf_count + shard->tree.inner_count) * TORC_NODE_BYTES;
    }
    torc_stats_set(&gauges[TORC_GAUGE_SHARDS], worker->open_count);
    torc_stats_set(&gauges[TORC_GAUGE_RECORDS], records);
    if (worker->index == 0) { // of the node: its workers' gauges are summed
        torc_stats_set(&gauges[TORC_GAUGE_SESSIONS],
                       atomic_load_explicit(&worker->sessions->open_count, memory_order_relaxed));
    }
    torc_stats_set(&gauges[TORC_GAUGE_TREE_BYTES], tree_bytes);
    torc_stats_set(&gauges[TORC_GAUGE_TREE_USED_BYTES], used_bytes);
    torc_stats_set(&gauges[TORC_GAUGE_POOL_BYTES],
                   (uint64_t)worker->config.chunk_count * TORC_CHUNK_BYTES);
    torc_stats_set(&gauges[TORC_GAUGE_LARGE_BYTES], worker->config.heap->used_bytes);
    torc_stats_set(&gauges[TORC_GAUGE_UNDO_BYTES],
                   torc_undo_memory(&worker->pool.undo) + worker->pool.undo.large_bytes);
    torc_stats_set(&gauges[TORC_GAUGE_PENDING], worker->pool.pending_count);
    torc_stats_set(&gauges[TORC_GAUGE_COMPLETIONS], completions);
    torc_stats_set(&gauges[TORC_GAUGE_COMPLETIONS_MAX], worker->pool.completions.result_max);
    torc_stats_set(&gauges[TORC_GAUGE_CLIENTS], clients);
    torc_stats_set(&gauges[TORC_GAUGE_CLIENTS_MAX], worker->pool.completions.entry_max);
}
