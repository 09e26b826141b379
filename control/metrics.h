// Torc control: the numbers of a node as Prometheus text.
//
// What    one function: statistics pages of the workers (kit/stats.h) and control's own numbers in,
//         the text of /metrics out. Names, types and help come from the tables.
// Owner   control's one thread; pure.
// Memory  the caller's buffer; called once to measure and once to write.
// Labels  worker (at most 255), op, status, reason: each a set known beforehand. Histograms are
//         summed over workers.
#ifndef TORC_CONTROL_METRICS_H
#define TORC_CONTROL_METRICS_H

#include "kit/stats.h"

// X(NAME, metric, type, help). Control's own numbers.
#define TORC_CONTROL_TABLE(X)                                                                      \
    X(LOG_WRITES, "torc_control_log_writes_total", "counter", "durable writes of log blocks")      \
    X(LOG_WRITE_BYTES, "torc_control_log_write_bytes_total", "counter", "bytes of these writes")   \
    X(LOG_INFLIGHT, "torc_control_log_inflight", "gauge", "log writes under way")                  \
    X(LOG_SEGMENTS, "torc_control_log_segments", "gauge",                                          \
      "log segments on disk, spare ones apart")                                                    \
    X(LOG_SPARES, "torc_control_log_spare_segments", "gauge", "segments kept for use again")       \
    X(LOG_FAILED, "torc_control_log_failed", "gauge", "1 when a log write failed: restart needed") \
    X(DISK_FULL, "torc_control_disk_full", "gauge", "1 while no segment can be prepared")          \
    X(CHECKPOINTS, "torc_control_checkpoints_total", "counter", "checkpoints kept")                \
    X(CHECKPOINT_FAILURES, "torc_control_checkpoint_failures_total", "counter",                    \
      "checkpoints given up")                                                                      \
    X(CHECKPOINT_BYTES, "torc_control_checkpoint_bytes_total", "counter", "bytes of kept ones")    \
    X(CHECKPOINT_AGE_S, "torc_control_checkpoint_age_seconds", "gauge",                            \
      "since the last round of checkpoints ended")                                                 \
    X(RECOVERIES, "torc_control_recoveries_total", "counter", "times a dataplane was rebuilt")     \
    X(RECOVERY_MS, "torc_control_recovery_milliseconds", "gauge", "how long the last one took")    \
    X(DATAPLANE_UP, "torc_control_dataplane_up", "gauge", "1 while a dataplane is attached")       \
    X(SERVING, "torc_control_serving", "gauge", "1 while the node answers clients")                \
    X(CLEAR, "torc_control_clear", "gauge",                                                        \
      "1 while sessions are neither authenticated nor encrypted (security = clear)")               \
    X(PRINCIPALS, "torc_control_principals", "gauge", "who may have sessions (security = keys)")   \
    X(SLEEPS, "torc_control_sleeps_total", "counter", "times control blocked with nothing to do")  \
    X(ALARMS, "torc_control_alarms_total", "counter", "alarms the workers raised")                 \
    X(NODES, "torc_control_nodes", "gauge", "nodes of the cluster that are known here")            \
    X(NODES_DOWN, "torc_control_nodes_down", "gauge",                                              \
      "those whose last life is over, and that have copies or are to have some")                   \
    X(SHARDS_LED, "torc_control_shards_led", "gauge", "shards that this node is primary of")       \
    X(SHARDS_SHORT, "torc_control_shards_short", "gauge",                                          \
      "shards of the cluster with fewer members that are up than replicas")                        \
    X(SHARDS_AWAY, "torc_control_shards_away", "gauge", "shards with no member that is up")        \
    X(SHARDS_CLOSED, "torc_control_shards_closed", "gauge",                                        \
      "shards whose copies in sync are all lost, or not heard, as far as this node knows")         \
    X(RECORD_READS, "torc_control_record_reads_total", "counter",                                  \
      "records of shards read for their replicas")                                                 \
    X(PROPOSALS_WON, "torc_control_proposals_won_total", "counter",                                \
      "proposals of replicas that took effect")                                                    \
    X(PROPOSALS_LOST, "torc_control_proposals_lost_total", "counter",                              \
      "proposals that another configuration was faster than")                                      \
    X(PROPOSALS_UNKNOWN, "torc_control_proposals_unknown_total", "counter",                        \
      "proposals that the metastore could not say the outcome of")                                 \
    X(QUESTIONS_REFUSED, "torc_control_questions_refused_total", "counter",                        \
      "questions of workers that made no sense or found no room")                                  \
    X(METASTORE_FAILURES, "torc_control_metastore_failures_total", "counter",                      \
      "asks of the metastore that failed, whoever of this control asked")                          \
    X(SHARDS_GIVEN, "torc_control_shards_given_total", "counter",                                  \
      "shards that this node was given while it ran")                                              \
    X(SHARDS_TAKEN, "torc_control_shards_taken_total", "counter",                                  \
      "shards that were taken from it")                                                            \
    X(PLACEMENT_LEADS, "torc_placement_leads", "gauge",                                            \
      "1: this node places the cluster's shards")                                                  \
    X(PLACEMENT_TERMS, "torc_placement_terms_total", "counter",                                    \
      "times this node became placement's leader")                                                 \
    X(PLACEMENT_LOST, "torc_placement_lost_total", "counter",                                      \
      "times another node took the lead from it")                                                  \
    X(PLACEMENT_BEATS, "torc_placement_beats_total", "counter",                                    \
      "transactions that it won as the leader")                                                    \
    X(PLACEMENT_PLANS, "torc_placement_plans_total", "counter", "placements computed")             \
    X(PLACEMENT_MOVES, "torc_placement_moves_total", "counter",                                    \
      "replicas that plans put on another node")                                                   \
    X(PLACEMENT_WANTS, "torc_placement_wants_total", "counter", "wishes written")                  \
    X(PLACEMENT_REFUSED, "torc_placement_refused_total", "counter",                                \
      "wishes that the metastore did not take")                                                    \
    X(PLACEMENT_SLOTS, "torc_placement_slots_total", "counter",                                    \
      "nodes that were given their place on the ring")                                             \
    X(START_TIME_S, "torc_control_start_time_seconds", "gauge", "when it started, Unix time")

enum torc_control_number {
#define X(name, metric, type, help) TORC_CONTROL_##name,
    TORC_CONTROL_TABLE(X)
#undef X
    TORC_CONTROL_NUMBER_COUNT
};

// A name for a number that the tables of wire/ know; NULL: none.
typedef const char *(*torc_metrics_name)(uint32_t number);

struct torc_metrics {
    const struct torc_stats *const *workers;
    uint32_t worker_count;
    uint32_t node;
    const uint64_t *control; // TORC_CONTROL_NUMBER_COUNT of them
    torc_metrics_name op_name;
    torc_metrics_name status_name;
    torc_metrics_name drop_name;
    const char *version;
    // What memory is used for: TORC_MEMORY_COUNT rows, and what they should add up to.
    const uint64_t *memory;
    uint64_t resident_bytes;
    uint64_t hugetlb_bytes;
};

// Returns the text's bytes without the end; at most `text_bytes` - 1 of them are written.
uint64_t torc_metrics_text(const struct torc_metrics *metrics, char *text, uint64_t text_bytes);

// The names, types and meanings as Markdown, for docs/OPERATIONS.md.
uint64_t torc_metrics_markdown(char *text, uint64_t text_bytes);

// The rows of memory (kit/stats.h), likewise.
uint64_t torc_metrics_memory_markdown(char *text, uint64_t text_bytes);

// The name of a row of memory, and what it holds.
const char *torc_metrics_memory_use(uint32_t row);
const char *torc_metrics_memory_help(uint32_t row);

#endif
