// Torc control: what a node says of itself: status, stats, /metrics, /health, /ready. See
// control/node_os.h.
#include "control/account_os.h"
#include "control/node_os.h"
#include "kit/clock_os.h"
#include "wire/drop.h"
#include "wire/op.h"

#include <stdlib.h>
#include <unistd.h>

#ifndef TORC_VERSION
#error "the build says which version this is"
#endif

enum {
    ANSWER_ADVICE_BYTES = 200
};

void torc_node_count(struct torc_node *node)
{
    struct torc_log_store_numbers log;
    struct torc_checkpoints_numbers made = {0};

    torc_log_store_numbers(node->store, &log);
    if (node->checkpoints != NULL) {
        torc_checkpoints_numbers(node->checkpoints, &made);
    }
    node->numbers[TORC_CONTROL_LOG_WRITES] = log.writes;
    node->numbers[TORC_CONTROL_LOG_WRITE_BYTES] = log.write_bytes;
    node->numbers[TORC_CONTROL_LOG_INFLIGHT] = log.inflight;
    node->numbers[TORC_CONTROL_LOG_SEGMENTS] = log.segments;
    node->numbers[TORC_CONTROL_LOG_SPARES] = log.spares;
    node->numbers[TORC_CONTROL_LOG_FAILED] = log.failed ? 1 : 0;
    node->numbers[TORC_CONTROL_DISK_FULL] = log.full ? 1 : 0;
    // Totals over all lives of the dataplane.
    node->numbers[TORC_CONTROL_CHECKPOINTS] = node->made_before.kept + made.kept;
    node->numbers[TORC_CONTROL_CHECKPOINT_FAILURES] = node->made_before.failures + made.failures;
    node->numbers[TORC_CONTROL_CHECKPOINT_BYTES] = node->made_before.bytes + made.bytes;
    node->numbers[TORC_CONTROL_CHECKPOINT_AGE_S] =
        node->rounds.ended_ns > 0 ? (node->now_ns - node->rounds.ended_ns) / TORC_NS_PER_S : 0;
    node->numbers[TORC_CONTROL_DATAPLANE_UP] =
        node->attached && node->state != TORC_NODE_DRAINING ? 1 : 0;
    node->numbers[TORC_CONTROL_SERVING] = node->state == TORC_NODE_SERVING ? 1 : 0;
    node->numbers[TORC_CONTROL_CLEAR] = node->registry.meta.security == TORC_SECURITY_CLEAR ? 1 : 0;
    node->numbers[TORC_CONTROL_PRINCIPALS] = node->keys.count;
    torc_node_count_cluster(node);
}

// Numbers of JSON end at 2^63 in many readers: what may be larger is text.
static json_t *answer_u64(uint64_t value)
{
    char text[24];

    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    return json_string(text);
}

static void answer_set(json_t *object, const char *key, json_t *value)
{
    int failed = json_object_set_new(object, key, value);

    torc_assert(failed == 0); // memory for a few hundred bytes, and valid UTF-8 of ours
}

static uint64_t answer_gauge(const struct torc_node *node, enum torc_gauge gauge)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; node->attached && i < node->attach.hello.worker_count; i++) {
        sum += torc_stats_get(&node->attach.ports[i].worker->stats.gauges[gauge]);
    }
    return sum;
}

// -- Status --------------------------------------------------------------------------------------

static void answer_advise(json_t *advice, const char *text)
{
    int failed = json_array_append_new(advice, torc_admin_text(text));

    torc_assert(failed == 0);
}

// What is wrong and what to do; empty when all is well.
static json_t *answer_advice(const struct torc_node *node)
{
    json_t *advice = json_array();
    struct torc_log_store_numbers log;
    struct torc_checkpoints_numbers made = {0};
    char text[ANSWER_ADVICE_BYTES + TORC_DATA_DIR_PATH_BYTES];

    torc_log_store_numbers(node->store, &log);
    if (node->checkpoints != NULL) {
        torc_checkpoints_numbers(node->checkpoints, &made);
    }
    if (log.failed) {
        (void)snprintf(text, sizeof(text),
                       "the log has failed (%s): no write is acknowledged, reads go on; mend the "
                       "disk, then stop and start the node",
                       log.failure.text);
        answer_advise(advice, text);
    }
    if (log.full) {
        (void)snprintf(text, sizeof(text),
                       "the disk of %s is full: writes are refused, reads go on; free %" PRIu64
                       " MiB and they go on by themselves",
                       node->dir.path, node->settings->segment_bytes >> 20);
        answer_advise(advice, text);
    }
    if (node->state == TORC_NODE_WAITING) {
        answer_advise(advice, "torc-dataplane is not running: start it (torc serve, or systemctl "
                              "start torc-dataplane)");
    }
    if (made.failure.err != TORC_ERR_OK && !log.full) {
        (void)snprintf(text, sizeof(text),
                       "a checkpoint was given up (%s): the log grows until one is kept",
                       made.failure.text);
        answer_advise(advice, text);
    }
    return advice;
}

static json_t *answer_log(const struct torc_node *node)
{
    struct torc_log_store_numbers log;

    torc_log_store_numbers(node->store, &log);
    return json_pack("{s:s, s:s, s:i, s:i, s:I}", "state",
                     log.failed ? "failed"
                     : log.full ? "full"
                                : "ok",
                     "text",
                     log.failed ? log.failure.text
                     : log.full ? "no further segment can be prepared"
                                : "",
                     "segments", (int)log.segments, "spares", (int)log.spares, "written_bytes",
                     (json_int_t)log.write_bytes);
}

static json_t *answer_recovery(const struct torc_node *node)
{
    json_t *recovery = json_object();

    answer_set(recovery, "milliseconds", answer_u64(node->numbers[TORC_CONTROL_RECOVERY_MS]));
    answer_set(recovery, "records", answer_u64(node->recovered_records));
    answer_set(recovery, "replayed", answer_u64(node->replayed_records));
    return recovery;
}

static json_t *answer_shards(struct torc_node *node)
{
    const struct torc_cluster *cluster = &node->registry.cluster;
    json_t *shards = json_array();

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;
        json_t *line;
        int failed;

        if (shard->shard == 0) {
            continue;
        }
        line = json_object();

        answer_set(line, "shard", answer_u64(shard->shard));
        answer_set(line, "lo", answer_u64(shard->lo));
        answer_set(line, "hi", answer_u64(shard->hi));
        answer_set(line, "epoch", answer_u64(torc_node_answer_epoch(node, shard)));
        answer_set(line, "core", answer_u64(shard->worker));
        answer_set(line, "state",
                   json_string(shard->ready && node->attached ? "ready" : "not-ready"));
        torc_node_answer_members(node, shard->shard, line);
        failed = json_array_append_new(shards, line);
        torc_assert(failed == 0);
    }
    return shards;
}

static json_t *answer_status(struct torc_node *node)
{
    static const char *const durabilities[] = {
        "durable", "replicated: power lost by all nodes at once loses what was written last",
        "none"};
    const struct torc_registry *registry = &node->registry;
    json_t *status = json_object();
    json_t *advice = answer_advice(node);
    char text[24];

    torc_node_count(node);
    torc_node_advise_meta(node, advice);
    torc_node_advise_cluster(node, advice);
    (void)snprintf(text, sizeof(text), "%016" PRIx64, registry->cluster.cluster);
    answer_set(status, "ok", json_true());
    answer_set(status, "state", json_string(torc_node_state_name(node->state)));
    answer_set(status, "health",
               json_string(json_array_size(advice) == 0
                               ? "ok"
                               : json_string_value(json_array_get(advice, 0))));
    answer_set(status, "advice", advice);
    answer_set(status, "address", json_string(node->network.cluster));
    answer_set(status, "data", torc_admin_text(node->dir.path));
    answer_set(status, "version", json_string(TORC_VERSION));
    answer_set(status, "cluster", json_string(text));
    answer_set(status, "node", answer_u64(registry->cluster.node));
    answer_set(status, "boot", answer_u64(registry->cluster.boot));
    answer_set(status, "pid", answer_u64((uint64_t)getpid()));
    answer_set(status, "dataplane_pid", answer_u64(node->attached ? node->attach.hello.pid : 0));
    answer_set(status, "uptime_seconds",
               answer_u64((node->now_ns - node->started_ns) / TORC_NS_PER_S));
    answer_set(status, "durability",
               json_string(durabilities[torc_min_u64(registry->meta.durability, 2)]));
    answer_set(status, "security",
               json_string(registry->meta.security == TORC_SECURITY_KEYS
                               ? "keys"
                               : "clear: whoever reaches the network may read and write"));
    answer_set(status, "keys", answer_u64(registry->cluster.keys));
    answer_set(status, "value_max", answer_u64(registry->meta.value_max));
    answer_set(status, "workers", answer_u64(node->attached ? node->attach.hello.worker_count : 0));
    answer_set(status, "records", answer_u64(answer_gauge(node, TORC_GAUGE_RECORDS)));
    answer_set(status, "sessions", answer_u64(answer_gauge(node, TORC_GAUGE_SESSIONS)));
    answer_set(status, "memory_bytes",
               answer_u64(answer_gauge(node, TORC_GAUGE_TREE_BYTES) +
                          answer_gauge(node, TORC_GAUGE_LARGE_BYTES)));
    answer_set(status, "log", answer_log(node));
    answer_set(status, "recovery", answer_recovery(node));
    answer_set(status, "checkpoints", answer_u64(node->numbers[TORC_CONTROL_CHECKPOINTS]));
    answer_set(status, "shard_count", answer_u64(torc_cluster_count(&registry->cluster)));
    answer_set(status, "shards_ready", answer_u64(torc_cluster_ready(&registry->cluster)));
    answer_set(status, "nodes", torc_node_answer_nodes(node));
    answer_set(status, "placement", torc_node_answer_placement(node));
    answer_set(status, "shards", answer_shards(node));
    return status;
}

// -- Stats ---------------------------------------------------------------------------------------

static uint64_t answer_sum(const struct torc_node *node, uint64_t offset)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; node->attached && i < node->attach.hello.worker_count; i++) {
        const unsigned char *stats = (const unsigned char *)&node->attach.ports[i].worker->stats;

        sum += torc_stats_get((const _Atomic uint64_t *)(const void *)(stats + offset));
    }
    return sum;
}

#define ANSWER_OFFSET(member, index) \
    (offsetof(struct torc_stats, member) + (uint64_t)(index) * sizeof(uint64_t))

static json_t *answer_tables(const struct torc_node *node)
{
    static const char *const counters[] = {
#define X(name, metric, help) metric,
        TORC_COUNTER_TABLE(X)
#undef X
    };
    static const char *const gauges[] = {
#define X(name, metric, help) metric,
        TORC_GAUGE_TABLE(X)
#undef X
    };
    json_t *numbers = json_object();

    for (uint32_t i = 0; i < TORC_COUNTER_COUNT; i++) {
        answer_set(numbers, counters[i], answer_u64(answer_sum(node, ANSWER_OFFSET(counters, i))));
    }
    for (uint32_t i = 0; i < TORC_GAUGE_COUNT; i++) {
        answer_set(numbers, gauges[i], answer_u64(answer_sum(node, ANSWER_OFFSET(gauges, i))));
    }
    return numbers;
}

static json_t *answer_control(const struct torc_node *node)
{
    static const char *const names[] = {
#define X(name, metric, type, help) metric,
        TORC_CONTROL_TABLE(X)
#undef X
    };
    json_t *numbers = json_object();

    for (uint32_t i = 0; i < TORC_CONTROL_NUMBER_COUNT; i++) {
        answer_set(numbers, names[i], answer_u64(node->numbers[i]));
    }
    return numbers;
}

static const char *answer_op_name(uint32_t number)
{
    return number <= UINT8_MAX ? torc_opcode_name((uint8_t)number) : NULL;
}

static const char *answer_status_name(uint32_t number)
{
    return torc_err_name((enum torc_err)number);
}

static const char *answer_drop_name(uint32_t number)
{
    return number < TORC_DROP_COUNT ? torc_drop_name((enum torc_drop)number) : NULL;
}

// A family of numbers as {name: count}; those that never occurred are left out.
static json_t *answer_family(const struct torc_node *node, uint64_t offset, uint32_t count,
                             torc_metrics_name name)
{
    json_t *family = json_object();

    for (uint32_t i = 0; i < count; i++) {
        uint64_t sum = answer_sum(node, offset + (uint64_t)i * sizeof(uint64_t));
        const char *text = sum > 0 ? name(i) : NULL;

        if (text != NULL) {
            answer_set(family, text, answer_u64(sum));
        }
    }
    return family;
}

static json_t *answer_drops(const struct torc_node *node)
{
    json_t *drops = json_array();

    for (uint32_t i = 0; i < TORC_DROP_COUNT; i++) {
        uint64_t sum = answer_sum(node, ANSWER_OFFSET(drops, i));

        if (sum > 0) {
            json_t *line =
                json_pack("{s:s, s:o, s:s}", "reason", torc_drop_name((enum torc_drop)i), "packets",
                          answer_u64(sum), "meaning", torc_drop_explanation((enum torc_drop)i));
            int failed = json_array_append_new(drops, line);

            torc_assert(failed == 0);
        }
    }
    return drops;
}

// A bucket's upper end; buckets are halves of powers of two of quarter microseconds.
static double answer_bucket_us(uint32_t bucket)
{
    uint64_t eighths = (UINT64_C(1) << (bucket / 2)) * (bucket % 2 == 0 ? 3 : 4);

    return (double)eighths / 8.0;
}

// Durations of one kind over all workers: count, mean, and the bounds that 50, 99 and 99.9 % keep.
static json_t *answer_times(const struct torc_node *node, uint64_t offset)
{
    static const struct {
        const char *name;
        uint64_t per_mille;
    } points[] = {{"p50_us", 500}, {"p99_us", 990}, {"p999_us", 999}};
    uint64_t count = answer_sum(node, offset + offsetof(struct torc_stats_times, count));
    uint64_t sum_ns = answer_sum(node, offset + offsetof(struct torc_stats_times, sum_ns));
    json_t *times = json_object();

    answer_set(times, "count", answer_u64(count));
    answer_set(times, "mean_us", json_real(count > 0 ? (double)sum_ns / (double)count / 1e3 : 0));
    for (uint32_t at = 0; at < TORC_COUNT_OF(points); at++) {
        uint64_t below = 0;
        uint32_t bucket = 0;

        while (bucket < TORC_STATS_BUCKETS_MAX) {
            below += answer_sum(node, offset + offsetof(struct torc_stats_times, buckets) +
                                          bucket * sizeof(uint64_t));
            if (below * 1000 >= count * points[at].per_mille) {
                break;
            }
            bucket++;
        }
        answer_set(times, points[at].name, json_real(count == 0 ? 0 : answer_bucket_us(bucket)));
    }
    return times;
}

static json_t *answer_stats(struct torc_node *node)
{
    json_t *stats = json_object();

    torc_node_count(node);
    answer_set(stats, "ok", json_true());
    answer_set(stats, "control", answer_control(node));
    answer_set(stats, "workers", answer_tables(node));
    answer_set(stats, "requests",
               answer_family(node, ANSWER_OFFSET(ops, 0), TORC_STATS_OPS_MAX, answer_op_name));
    answer_set(
        stats, "replies",
        answer_family(node, ANSWER_OFFSET(replies, 0), TORC_STATS_STATUS_MAX, answer_status_name));
    answer_set(stats, "read", answer_times(node, offsetof(struct torc_stats, read_times)));
    answer_set(stats, "write", answer_times(node, offsetof(struct torc_stats, write_times)));
    answer_set(stats, "log_sync", answer_times(node, offsetof(struct torc_stats, sync_times)));
    answer_set(stats, "drops", answer_drops(node));
    return stats;
}

// -- Memory --------------------------------------------------------------------------------------

static void answer_read_account(const struct torc_node *node, struct torc_account *account)
{
    torc_account_read(account, node->attached ? node->attach.chan : NULL);
}

static json_t *answer_memory(const struct torc_node *node)
{
    struct torc_account account;
    json_t *memory = json_object();
    json_t *rows = json_array();
    int64_t age_ns;

    answer_read_account(node, &account);
    age_ns = (int64_t)(torc_clock_now_ns() - account.measured_ns);
    if (account.measured_ns == 0) {
        json_decref(memory);
        json_decref(rows);
        return torc_admin_error(TORC_ERR_UNAVAILABLE, "the dataplane has not looked yet: try again "
                                                      "in a few seconds");
    }
    answer_set(memory, "ok", json_true());
    answer_set(memory, "memory", rows);
    for (uint32_t row = 0; row < TORC_MEMORY_COUNT; row++) {
        int failed = json_array_append_new(
            rows, json_pack("{s:s, s:o, s:s}", "use", torc_metrics_memory_use(row), "bytes",
                            answer_u64(account.rows[row]), "what", torc_metrics_memory_help(row)));

        torc_assert(failed == 0);
    }
    answer_set(memory, "sum_bytes", answer_u64(account.sum_bytes));
    answer_set(memory, "resident_bytes", answer_u64(account.resident_bytes));
    answer_set(memory, "hugetlb_bytes", answer_u64(account.hugetlb_bytes));
    answer_set(memory, "difference_bytes",
               json_integer((json_int_t)(account.sum_bytes - account.resident_bytes -
                                         account.hugetlb_bytes)));
    answer_set(memory, "difference_percent", json_real((double)torc_account_off(&account) / 10));
    answer_set(memory, "age_ms", json_integer(age_ns / (int64_t)TORC_NS_PER_MS));
    return memory;
}

// -- Commands ------------------------------------------------------------------------------------

void torc_node_answer_checkpoints(struct torc_node *node)
{
    struct torc_checkpoints_numbers made = {0};
    uint64_t kept;

    torc_node_count(node);
    kept = node->numbers[TORC_CONTROL_CHECKPOINTS] - node->asked_kept;
    if (node->checkpoints != NULL) {
        torc_checkpoints_numbers(node->checkpoints, &made);
    }
    for (uint32_t i = 0; i < node->asked_count; i++) {
        json_t *answer;

        if (node->checkpoints == NULL || kept + made.without < made.due) {
            answer = torc_admin_error(
                made.failure.err != TORC_ERR_OK ? made.failure.err : TORC_ERR_UNAVAILABLE,
                made.failure.err != TORC_ERR_OK ? made.failure.text
                                                : "the dataplane went away meanwhile");
        } else {
            answer = json_pack("{s:b, s:I}", "ok", 1, "checkpoints", (json_int_t)kept);
        }
        torc_admin_finish(node->admin, node->asked[i], answer);
    }
    node->asked_count = 0;
}

static json_t *answer_checkpoint(struct torc_node *node, uint32_t asked)
{
    if (node->state != TORC_NODE_SERVING) {
        return torc_admin_error(TORC_ERR_UNAVAILABLE, "the node is not serving now");
    }
    if (node->asked_count == TORC_ADMIN_CLIENTS_MAX) {
        return torc_admin_error(TORC_ERR_BUSY, "too many wait for a checkpoint");
    }
    torc_node_count(node);
    if (node->asked_count == 0) {
        node->asked_kept = node->numbers[TORC_CONTROL_CHECKPOINTS];
    }
    node->asked[node->asked_count++] = asked;
    torc_node_begin_round(node);
    return NULL;
}

json_t *torc_node_answer(void *context, uint32_t asked, const json_t *request)
{
    struct torc_node *node = context;
    const char *command = json_string_value(json_object_get(request, "command"));

    if (command == NULL) {
        return torc_admin_error(TORC_ERR_INVALID_ARGUMENT, "\"command\" is missing");
    }
    if (strcmp(command, "status") == 0) {
        return answer_status(node);
    }
    if (strcmp(command, "stats") == 0) {
        return answer_stats(node);
    }
    if (strcmp(command, "memory") == 0) {
        return answer_memory(node);
    }
    if (strcmp(command, "placement") == 0) {
        return torc_node_answer_places(node);
    }
    if (strcmp(command, "checkpoint") == 0) {
        return answer_checkpoint(node, asked);
    }
    if (strcmp(command, "keys") == 0) {
        return torc_node_answer_keys(node);
    }
    if (strcmp(command, "keys-reload") == 0) {
        return torc_node_answer_reload(node, asked);
    }
    if (strcmp(command, "sessions") == 0) {
        return torc_node_answer_sessions(node, asked, request);
    }
    if (strcmp(command, "shard") == 0) {
        return torc_node_answer_shard(node, asked, request);
    }
    if (strcmp(command, "node") == 0) {
        return torc_node_answer_drain(node, asked, request);
    }
    if (strcmp(command, "stop") == 0) {
        node->stops += node->stops == 0; // again: it goes on as it does, only TERM hurries it
        return json_pack("{s:b, s:s}", "ok", 1, "text", "stopping");
    }
    return torc_admin_error(TORC_ERR_UNSUPPORTED,
                            "commands are status, stats, memory, placement, sessions, keys, "
                            "keys-reload, checkpoint, node, shard and stop");
}

// -- Pages ---------------------------------------------------------------------------------------

static struct torc_http_page answer_metrics(struct torc_node *node)
{
    const struct torc_stats *workers[TORC_CHAN_WORKERS_MAX];
    struct torc_metrics metrics = {.workers = workers,
                                   .node = node->dir.node,
                                   .control = node->numbers,
                                   .op_name = answer_op_name,
                                   .status_name = answer_status_name,
                                   .drop_name = answer_drop_name,
                                   .version = TORC_VERSION};
    struct torc_account account;
    uint64_t bytes;
    char *text;

    torc_node_count(node);
    answer_read_account(node, &account);
    metrics.memory = account.rows;
    metrics.resident_bytes = account.resident_bytes;
    metrics.hugetlb_bytes = account.hugetlb_bytes;
    metrics.worker_count = node->attached ? node->attach.hello.worker_count : 0;
    for (uint32_t i = 0; i < metrics.worker_count; i++) {
        workers[i] = &node->attach.ports[i].worker->stats;
    }
    bytes = torc_metrics_text(&metrics, &(char){0}, 1) + 4096; // numbers may grow meanwhile
    text = malloc(bytes);
    torc_assert(text != NULL);
    (void)torc_metrics_text(&metrics, text, bytes);
    return (struct torc_http_page){200, text, "text/plain; version=0.0.4; charset=utf-8"};
}

static struct torc_http_page answer_word(bool good, const char *yes, const char *no)
{
    char *text = NULL;

    if (asprintf(&text, "%s\n", good ? yes : no) < 0) {
        text = NULL;
    }
    return (struct torc_http_page){good ? 200 : 503, text, "text/plain; charset=utf-8"};
}

void torc_node_page(void *context, const char *path, struct torc_http_page *page)
{
    struct torc_node *node = context;
    struct torc_log_store_numbers log;

    torc_log_store_numbers(node->store, &log);
    if (strcmp(path, "/metrics") == 0) {
        *page = answer_metrics(node);
    } else if (strcmp(path, "/health") == 0) {
        *page = answer_word(!log.failed, "ok", log.failure.text);
    } else if (strcmp(path, "/ready") == 0) {
        *page = answer_word(node->state == TORC_NODE_SERVING, "ready",
                            torc_node_state_name(node->state));
    } else {
        *page = (struct torc_http_page){404, NULL, "text/plain; charset=utf-8"};
    }
}
