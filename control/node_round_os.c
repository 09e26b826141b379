// Torc control: when rounds of checkpoints begin: the log has grown, an operator asks, or the disk
// runs out of room. See control/rounds.h and control/space.h.
#include "control/node_impl_os.h"
#include "control/space.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <sys/statvfs.h>

#define ROUND_LOOK_NS TORC_NS_PER_S // the disk's room is looked at so often, or as the log grows

void torc_node_trim(struct torc_node *node)
{
    for (uint32_t i = 0; i < torc_log_store_stream_count(node->store); i++) {
        const struct torc_log_plan *plan = torc_log_store_plan(node->store, i);
        uint64_t floor = torc_cluster_floor(&node->registry.cluster, plan->stream);

        torc_log_store_trim(node->store, i, floor);
    }
}

static uint64_t round_live_bytes(const struct torc_node *node)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; node->attached && i < node->attach.hello.worker_count; i++) {
        const struct torc_stats *stats = &node->attach.ports[i].worker->stats;

        sum += torc_stats_get(&stats->gauges[TORC_GAUGE_TREE_USED_BYTES]) +
               torc_stats_get(&stats->gauges[TORC_GAUGE_LARGE_BYTES]);
    }
    return sum;
}

static void round_space(struct torc_node *node, const struct torc_log_store_numbers *log,
                        struct torc_space *space)
{
    struct statvfs disk;

    if (node->now_ns >= node->space_ns + ROUND_LOOK_NS || log->full ||
        log->write_bytes >= node->space_log_bytes + node->settings->segment_bytes / 4) {
        node->space_ns = node->now_ns;
        node->space_log_bytes = log->write_bytes;
        node->free_bytes = fstatvfs(node->dir.log_fd, &disk) == 0
                               ? (uint64_t)disk.f_bavail * disk.f_frsize
                               : UINT64_MAX; // then the log finds out
    }
    *space = (struct torc_space){.free_bytes = node->free_bytes,
                                 .live_bytes = round_live_bytes(node),
                                 .segment_bytes = node->settings->segment_bytes,
                                 .stream_count = node->attach.hello.worker_count,
                                 .full = log->full};
}

void torc_node_begin_round(struct torc_node *node)
{
    struct torc_checkpoints_numbers made;
    struct torc_log_store_numbers log;
    struct torc_space space;

    torc_log_store_numbers(node->store, &log);
    torc_checkpoints_numbers(node->checkpoints, &made);
    round_space(node, &log, &space);
    if (torc_space_is_short(&space)) { // the round needs the room first, and gives more back
        torc_log_store_shed(node->store, space.stream_count);
    }
    torc_log_store_hold(node->store, torc_space_is_last(&space));
    torc_rounds_begin(&node->rounds, log.write_bytes, made.failures);
    torc_checkpoints_round(node->checkpoints);
    torc_log(TORC_LOG_INFO, "checkpoint", "round", "shards=%" PRIu32 " free_bytes=%" PRIu64,
             node->registry.cluster.shard_count, node->free_bytes);
}

// True when the log has grown enough for the room there is, or segments of streams without a worker
// wait to be let go.
bool torc_node_wants_round(struct torc_node *node)
{
    struct torc_log_store_numbers log;
    struct torc_checkpoints_numbers made;
    struct torc_space space;
    struct torc_rounds_view view;

    torc_log_store_numbers(node->store, &log);
    torc_checkpoints_numbers(node->checkpoints, &made);
    round_space(node, &log, &space);
    view = (struct torc_rounds_view){
        .written_bytes = log.write_bytes,
        .most_bytes = torc_space_growth(&space, node->settings->checkpoint_bytes),
        .first = made.rounds == 0};
    for (uint32_t i = 0; i < torc_log_store_stream_count(node->store); i++) {
        view.orphans = view.orphans || (torc_log_store_worker(node->store, i) == UINT32_MAX &&
                                        torc_log_store_plan(node->store, i)->segment_count > 0);
    }
    // Between rounds, where one that fits is only waited for.
    torc_log_store_hold(node->store, log.full && torc_space_is_last(&space) &&
                                         space.free_bytes >= space.live_bytes &&
                                         torc_rounds_grown(&node->rounds, log.write_bytes) >=
                                             space.segment_bytes);
    return torc_rounds_due(&node->rounds, node->now_ns, &view);
}

bool torc_node_checkpoints(struct torc_node *node)
{
    bool kept = false;
    bool moved = torc_checkpoints_step(node->checkpoints, &kept);

    if (torc_node_forget(node) || kept) {
        torc_node_trim(node);
    }
    if (node->rounds.open) {
        struct torc_log_store_numbers log;
        struct torc_space space;

        torc_log_store_numbers(node->store, &log);
        round_space(node, &log, &space);
        torc_log_store_hold(node->store, torc_space_is_last(&space));
    }
    if (node->rounds.open && torc_checkpoints_is_idle(node->checkpoints)) {
        struct torc_checkpoints_numbers numbers;

        torc_checkpoints_numbers(node->checkpoints, &numbers);
        torc_rounds_end(&node->rounds, node->now_ns, numbers.failures);
        torc_log_store_hold(node->store, false);
        torc_log(TORC_LOG_INFO, "checkpoint", "round-done",
                 "kept=%" PRIu64 " without=%" PRIu32 " failures=%" PRIu64 " bytes=%" PRIu64,
                 numbers.kept, numbers.without, numbers.failures, numbers.bytes);
        torc_node_answer_checkpoints(node);
        moved = true;
    }
    return moved;
}
