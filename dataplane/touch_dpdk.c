// Torc dataplane: memory made resident ahead. See dataplane/touch_dpdk.h.
#include "dataplane/touch_dpdk.h"

#include "kit/clock_os.h"
#include "kit/log_os.h"

// Of a huge page.
#define PIECE_CHUNKS ((UINT32_C(2) << 20) / TORC_CHUNK_BYTES)

// While pools grow they are looked at so often that what is ahead lasts (32 MiB: at 600 MB/s), else
// so seldom that it costs nothing.
#define LOOK_MS    50
#define IDLE_MS    1000
#define GROWING_NS (2 * TORC_NS_PER_S)

// The piece that comes next: [first, end); nothing when first == end.
struct piece {
    uint32_t first;
    uint32_t end;
};

static struct piece piece_next(const struct torc_node_worker *worker, uint64_t ahead_bytes)
{
    uint32_t used_end = torc_worker_fresh(worker->worker);
    uint32_t last = worker->config.chunk_first + worker->config.chunk_count;
    uint64_t wanted = used_end + ahead_bytes / TORC_CHUNK_BYTES;
    uint32_t first = worker->touched_end > used_end ? worker->touched_end : used_end;
    uint32_t end = (first / PIECE_CHUNKS + 1) * PIECE_CHUNKS;

    end = end < last ? end : last;
    return first < last && first < wanted ? (struct piece){first, end} : (struct piece){0};
}

static bool worker_touch(struct torc_node *node, struct torc_node_worker *worker)
{
    struct piece piece = piece_next(worker, node->settings->touch_ahead);

    if (piece.first == piece.end) {
        return false;
    }
    if (!torc_mapping_touch(&node->chunks, (uint64_t)piece.first * TORC_CHUNK_BYTES,
                            (uint64_t)(piece.end - piece.first) * TORC_CHUNK_BYTES)) {
        torc_log(TORC_LOG_DEBUG, "memory", "no-touch",
                 "text=\"the system cannot make memory resident ahead\"");
        node->touch_off = true;
        return false;
    }
    worker->touched_end = piece.end;
    return true;
}

void torc_touch_step(struct torc_node *node, uint64_t now_ns, int *timeout_ms)
{
    int wait_ms = node->touch_ns + GROWING_NS > now_ns ? LOOK_MS : IDLE_MS;

    if (node->touch_off || node->settings->touch_ahead == 0) {
        return;
    }
    for (uint32_t i = 0; i < node->worker_count; i++) {
        if (worker_touch(node, &node->workers[i])) {
            node->touch_ns = now_ns;
            wait_ms = 0;
        }
    }
    *timeout_ms = *timeout_ms < 0 || wait_ms < *timeout_ms ? wait_ms : *timeout_ms;
}

uint64_t torc_touch_bytes(const struct torc_node *node)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < node->worker_count; i++) {
        uint32_t used_end = torc_worker_fresh(node->workers[i].worker);

        if (node->workers[i].touched_end > used_end) {
            bytes += (uint64_t)(node->workers[i].touched_end - used_end) * TORC_CHUNK_BYTES;
        }
    }
    return bytes;
}
