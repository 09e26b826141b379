// Torc kit: what a worker counts, as one page of shared memory that control reads.
//
// What    one table of counters, one of gauges, and a histogram of microseconds; the enum, the
//         metric's name and its help text come from one line.
// Owner   the worker writes its own page, relaxed; anybody reads, relaxed: numbers may be a moment
//         old and of slightly different moments, never torn.
// Memory  inside the channel (kit/chan.h), one struct torc_stats a worker.
// Drop reasons are a table of their own (wire/drop.h) and are counted in `drops` by its numbers.
#ifndef TORC_KIT_STATS_H
#define TORC_KIT_STATS_H

#include "kit/base.h"

#include <stdatomic.h>

#define TORC_STATS_DROPS_MAX   64
#define TORC_STATS_OPS_MAX     256 // by opcode
#define TORC_STATS_STATUS_MAX  256 // by status
#define TORC_STATS_BUCKETS_MAX 64  // see struct torc_stats_times

// X(NAME, metric, help). Counters only rise while the dataplane lives.
#define TORC_COUNTER_TABLE(X)                                                                    \
    X(RX_PACKETS, "torc_rx_packets_total", "packets received")                                   \
    X(RX_BYTES, "torc_rx_bytes_total", "bytes received, Ethernet header included")               \
    X(TX_PACKETS, "torc_tx_packets_total", "packets sent")                                       \
    X(TX_BYTES, "torc_tx_bytes_total", "bytes sent, Ethernet header included")                   \
    X(TX_FULL, "torc_tx_full_total", "packets that the port did not take and that were dropped") \
    X(HANDOFF, "torc_handoff_packets_total", "packets passed on to the core that owns them")     \
    X(SHED, "torc_shed_packets_total", "packets refused whole because of load")                  \
    X(TURNS, "torc_turns_total", "turns of the worker's loop")                                   \
    X(TURNS_BUSY, "torc_turns_busy_total", "turns that found work")                              \
    X(BUSY_NS, "torc_busy_nanoseconds_total", "time in turns that found work")                   \
    X(SLEEPS, "torc_sleeps_total", "times the worker blocked on its port")                       \
    X(LOG_BLOCKS, "torc_log_blocks_total", "log blocks sealed")                                  \
    X(LOG_BYTES, "torc_log_bytes_total", "bytes of log blocks sealed")                           \
    X(LOG_RECORDS, "torc_log_records_total", "records appended to the log")                      \
    X(LOG_USER_BYTES, "torc_log_user_bytes_total", "key and value bytes in those records")       \
    X(LOG_RING_FULL, "torc_log_ring_full_total", "writes refused because control is behind")     \
    X(CHECKPOINT_BYTES, "torc_checkpoint_bytes_total", "bytes streamed out for checkpoints")     \
    X(SESSIONS_OPENED, "torc_sessions_opened_total", "sessions accepted")                        \
    X(NOSESSIONS, "torc_nosession_sent_total", "answers to packets of unknown sessions")         \
    X(RETRIES_SENT, "torc_retry_sent_total", "cookies handed out before a session")              \
    X(FORBIDDEN_ROLE, "torc_forbidden_role_total", "operations whose principal lacks the role")  \
    X(FORBIDDEN_RANGE, "torc_forbidden_range_total",                                             \
      "operations outside the key ranges of their principal")                                    \
    X(DOORBELLS, "torc_doorbells_total",                                                         \
      "times control, a worker or the session thread was woken")                                 \
    X(RX_COPIED, "torc_rx_copied_total", "packets that came in several buffers and were copied") \
    X(PACKED_BYTES, "torc_packed_bytes_total", "bytes of large values moved to fuller slabs")    \
    X(RELAYED, "torc_relayed_packets_total",                                                     \
      "packets sent by the core that owns the port's queue")                                     \
    X(HANDSHAKES_REFUSED, "torc_handshakes_refused_total",                                       \
      "handshakes refused by name: key, suite, or a full table")                                 \
    X(COMPACTED_NODES, "torc_compacted_nodes_total", "nodes of trees moved to fuller chunks")    \
    X(STALE_SERVED, "torc_stale_served_total",                                                   \
      "reads of a bounded age answered, or begun, by a copy that leads not")                     \
    X(STALE_REFUSED, "torc_stale_refused_total", "the same refused: the copy was too old")       \
    X(CONFIRM_WAITED, "torc_confirm_waited_total",                                               \
      "packets with reads that waited for the members' answers (read-mode = confirm)")           \
    X(CONFIRM_REFUSED, "torc_confirm_refused_total", "the same that found no room to wait")

// X(NAME, metric, help). Gauges go up and down.
#define TORC_GAUGE_TABLE(X)                                                                        \
    X(SHARDS, "torc_shards", "shards on this core")                                                \
    X(RECORDS, "torc_records", "keys that have a value")                                           \
    X(SESSIONS, "torc_sessions",                                                                   \
      "sessions of the whole node, at its first core: open and half-open, each lane of a client")  \
    X(TREE_BYTES, "torc_tree_bytes", "memory of chunks that shards hold")                          \
    X(TREE_USED_BYTES, "torc_tree_used_bytes", "bytes in use inside these chunks")                 \
    X(POOL_BYTES, "torc_pool_bytes", "memory set aside for trees and small values")                \
    X(LARGE_BYTES, "torc_large_value_bytes", "bytes of large values")                              \
    X(UNDO_BYTES, "torc_undo_bytes", "what writes replaced, kept for reads of the past")           \
    X(PENDING, "torc_pending_writes", "writes appended and not yet committed")                     \
    X(COMPLETIONS, "torc_completion_records", "answers kept for exactly-once")                     \
    X(COMPLETIONS_MAX, "torc_completion_records_max", "answers that there is room for")            \
    X(CLIENTS, "torc_completion_clients",                                                          \
      "clients remembered for exactly-once, each once for every shard that it wrote to")           \
    X(CLIENTS_MAX, "torc_completion_clients_max", "clients that there is room for")                \
    X(LOG_DURABLE_SEQUENCE, "torc_log_durable_block", "highest block known durable")               \
    X(LOG_SEALED_SEQUENCE, "torc_log_sealed_block", "highest block sealed")                        \
    X(QUEUE_DELAY_US, "torc_queue_delay_microseconds", "age of the oldest request in this burst")  \
    X(WRITES_STOPPED, "torc_writes_stopped", "1 while new writes are refused: log failed or full") \
    X(WATCH_STRETCH, "torc_watch_stretch",                                                         \
      "this node's k, on its first core: other nodes are patient with it k times as long")

// X(NAME, use, help): what a node's memory is used for. `use` is the row's name in `torc stats
// memory` and the label of torc_memory_bytes; names stay. The first ones are told by the workers'
// own books and add up to what their trees and heaps made resident; the others are measured, by
// place or by mapping (kit/resident_os.h).
#define TORC_MEMORY_TABLE(X)                                                                      \
    X(LEAVES_USED, "leaves.used", "keys, versions and small values in leaves (from a sample)")    \
    X(LEAVES_FREE, "leaves.free", "room within leaves")                                           \
    X(INNERS, "inner-nodes", "nodes above leaves, and the guides that lead past them")            \
    X(NODES_FREE, "nodes.free", "free nodes in shards' chunks")                                   \
    X(CHUNK_HEADERS, "chunks.headers", "one node of each chunk")                                  \
    X(CHUNKS_FREE, "chunks.free", "chunks that shards gave back")                                 \
    X(LARGE_VALUES, "large.values", "values above 128 bytes, pending ones too")                   \
    X(LARGE_UNDO, "large.undo", "those that were replaced, for reads of a past moment")           \
    X(LARGE_ROUNDING, "large.rounding", "their size class beyond their size")                     \
    X(LARGE_SLABS, "large.slabs", "free places and unused ends of their slabs")                   \
    X(LARGE_FREE, "large.free", "units that no slab holds, for any size")                         \
    X(LARGE_TABLE, "large.table", "16 bytes for each 4 KiB of it")                                \
    X(HUGE_REST, "huge-pages", "unused rests of the last huge pages of chunks, heaps and tables") \
    X(CHUNKS_AHEAD, "chunks.ahead", "made resident before shards need it: touch-ahead")           \
    X(WRITES, "writes", "pending and waiting writes, answers kept for exactly-once")              \
    X(UNDO, "undo", "the undo window's log and index")                                            \
    X(FRAGMENTS, "fragments", "values being put together")                                        \
    X(WORKERS, "workers", "workers' other tables, loops, maps, jobs")                             \
    X(SESSIONS, "sessions", "the session table")                                                  \
    X(HANDOVER, "handover", "rings between workers")                                              \
    X(CHANNEL, "channel", "rings and pages shared with control: log, checkpoints, statistics")    \
    X(DPDK, "dpdk", "EAL's memory: packet buffers, rings of ports")                               \
    X(DATAPLANE_TEXT, "dataplane.text", "program and libraries, their share of pages of others")  \
    X(DATAPLANE_STACKS, "dataplane.stacks", "of all threads")                                     \
    X(DATAPLANE_HEAP, "dataplane.heap", "what libraries allocated, and other mappings")           \
    X(CONTROL_TEXT, "control.text", "as dataplane.text")                                          \
    X(CONTROL_STACKS, "control.stacks", "as dataplane.stacks")                                    \
    X(CONTROL_HEAP, "control.heap", "tables of segments and checkpoints, buffers, libraries'")

enum torc_memory {
#define X(name, use, help) TORC_MEMORY_##name,
    TORC_MEMORY_TABLE(X)
#undef X
    TORC_MEMORY_COUNT
};

// The first row that is measured.
#define TORC_MEMORY_BOOKS TORC_MEMORY_HUGE_REST

enum torc_counter {
#define X(name, metric, help) TORC_COUNTER_##name,
    TORC_COUNTER_TABLE(X)
#undef X
    TORC_COUNTER_COUNT
};

enum torc_gauge {
#define X(name, metric, help) TORC_GAUGE_##name,
    TORC_GAUGE_TABLE(X)
#undef X
    TORC_GAUGE_COUNT
};

// How long something took. Buckets 2n and 2n+1 are the two halves of [2^n, 2^(n+1)) quarter
// microseconds (counted from 1), so 64 of them reach from 250 ns to a quarter of an hour.
struct torc_stats_times {
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t buckets[TORC_STATS_BUCKETS_MAX];
};

struct torc_stats {
    _Atomic uint64_t counters[TORC_COUNTER_COUNT];
    _Atomic uint64_t gauges[TORC_GAUGE_COUNT];
    _Atomic uint64_t memory[TORC_MEMORY_BOOKS];      // bytes, by enum torc_memory
    _Atomic uint64_t drops[TORC_STATS_DROPS_MAX];    // by enum torc_drop (wire/drop.h)
    _Atomic uint64_t ops[TORC_STATS_OPS_MAX];        // requests by opcode
    _Atomic uint64_t replies[TORC_STATS_STATUS_MAX]; // replies by status
    struct torc_stats_times read_times;              // from the packet's arrival to its reply
    struct torc_stats_times write_times;             // the same for writes, commit included
    struct torc_stats_times sync_times;              // from sealing a block to its durable mark
};

// One writer: a plain add, made visible without a locked instruction.
static inline void torc_stats_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static inline void torc_stats_set(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static inline uint64_t torc_stats_get(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

// The bucket of a duration: twice the logarithm of its quarter microseconds, rounded up to a half.
static inline uint32_t torc_stats_bucket(uint64_t duration_ns)
{
    uint64_t quarters = duration_ns / 250 + 1;
    uint32_t whole = 63u - (uint32_t)__builtin_clzll(quarters);
    uint64_t base = UINT64_C(1) << whole;
    uint32_t bucket = 2 * whole + (2 * (quarters - base) >= base ? 1u : 0u);

    return bucket < TORC_STATS_BUCKETS_MAX ? bucket : TORC_STATS_BUCKETS_MAX - 1;
}

static inline void torc_stats_time(struct torc_stats_times *times, uint64_t duration_ns)
{
    torc_stats_add(&times->count, 1);
    torc_stats_add(&times->sum_ns, duration_ns);
    torc_stats_add(&times->buckets[torc_stats_bucket(duration_ns)], 1);
}

#endif
