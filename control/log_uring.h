// Torc control: the log's files. Segments are prepared, blocks go from the channel's ring to the
// disk.
//
// What    `log/<stream>-<n>` are segments, `log/spare-<k>` segments nobody needs, kept for use
//         again, `log/new-<k>` one that is being written with zeros. All of one stream's decisions
//         are those of control/log_plan.h.
// Owner   control's one thread.
// Memory  per stream its table of segments (320 KiB at most, touched as it fills); blocks are
//         written from where the worker built them (registered windows).
// Preparing  a spare file, or a new one (fallocate, zeros, fsync); header (durable); rename; sync
//         of the folder; then TORC_MARK_SEGMENT. So what has a segment's name has its header.
// Full disk  a segment that cannot be prepared is tried again every TORC_LOG_STORE_RETRY_NS; when
//         none is left in advance the worker is told (TORC_MARK_DISK_FULL), and the next prepared
//         one ends it.
// Invariants
//   F1  A spare's header is overwritten only when the folder that has it under that name is synced.
//   F2  The worker hears of a durable block before its slots are given back: a control that dies
//       between the two writes it again, and nobody is forgotten.
//   F3  After a failed write of a block nothing is told durable in that stream (LOG_FAILED), by no
//       control that comes later either.
#ifndef TORC_CONTROL_LOG_URING_H
#define TORC_CONTROL_LOG_URING_H

#include "control/attach_os.h"
#include "control/disk_uring.h"
#include "control/log_plan.h"

#define TORC_LOG_STREAMS_MAX    512u
#define TORC_LOG_STORE_RETRY_NS UINT64_C(500000000)
#define TORC_LOG_NAME_BYTES     32u

struct torc_log_store_config {
    uint64_t cluster;
    uint32_t node;
    uint32_t segment_bytes;
    uint32_t inflight;
    uint32_t spares_max;
    int folder_fd;  // of log/
    bool look_only; // nothing is renamed, removed or written
};

struct torc_log_store_numbers {
    uint64_t writes;
    uint64_t write_bytes;
    uint32_t inflight;
    uint32_t segments;
    uint32_t spares;
    bool failed;
    bool full;
    struct torc_fail failure; // of the first stream that failed
};

struct torc_log_store;

enum torc_err torc_must_use torc_log_store_open(struct torc_log_store **out, struct torc_disk *disk,
                                                const struct torc_log_store_config *config,
                                                struct torc_fail *why);

// Nothing may be in flight: see torc_log_store_drained.
void torc_log_store_close(struct torc_log_store *store);

// Reads the folder anew: streams, their segments and what these begin with. CORRUPT names the file.
enum torc_err torc_must_use torc_log_store_list(struct torc_log_store *store,
                                                struct torc_fail *why);

uint32_t torc_log_store_stream_count(const struct torc_log_store *store);

// The plan of the stream at `index`, in rising order of stream numbers.
struct torc_log_plan *torc_log_store_plan(struct torc_log_store *store, uint32_t index);

void torc_log_segment_name(char *name, uint32_t stream, uint32_t segment);

// Drops segment `at` of the stream at `index`: it holds nothing that counts.
void torc_log_store_drop(struct torc_log_store *store, uint32_t index, uint32_t at);

// Worker `worker` of `attach` writes its stream, number worker + 1, from `next_sequence` on.
enum torc_err torc_must_use torc_log_store_begin(struct torc_log_store *store,
                                                 struct torc_attach *attach, uint32_t worker,
                                                 uint64_t next_sequence, struct torc_fail *why);

// It runs already and goes on where it says it stands.
enum torc_err torc_must_use torc_log_store_resume(struct torc_log_store *store,
                                                  struct torc_attach *attach, uint32_t worker,
                                                  const struct torc_evt_control_seen *seen,
                                                  struct torc_fail *why);

// Moves what can be moved; true when something did.
bool torc_log_store_step(struct torc_log_store *store, uint64_t now_ns);

// Whether step would move something in worker `worker`'s ring now.
bool torc_log_store_has_work(const struct torc_log_store *store, uint32_t worker);

// When step has something to do without anything coming in; UINT64_MAX never.
uint64_t torc_log_store_deadline_ns(const struct torc_log_store *store);

// The dataplane is dead: goes on writing what it had published, tells nobody. True when all of it
// is durable (or the log has failed) and nothing is in flight.
bool torc_must_use torc_log_store_drained(struct torc_log_store *store);

// Lets go of the channel; nothing is in flight.
void torc_log_store_detach(struct torc_log_store *store);

// A worker's stream has at least one segment that is prepared and told.
bool torc_log_store_is_ready(const struct torc_log_store *store, uint32_t worker);

// Highest durable sequence of a worker's stream.
uint64_t torc_log_store_durable(const struct torc_log_store *store, uint32_t worker);

// Lets go of segments that hold no block from `floor` on; UINT64_MAX: of all, if nobody writes
// there.
void torc_log_store_trim(struct torc_log_store *store, uint32_t index, uint64_t floor);

// While it is held, no new segment is made: what room there is is left to others.
void torc_log_store_hold(struct torc_log_store *store, bool held);

// Spare segments beyond `keep` are removed: something else needs their room.
void torc_log_store_shed(struct torc_log_store *store, uint32_t keep);

// The worker that writes the stream at `index`, or UINT32_MAX.
uint32_t torc_log_store_worker(const struct torc_log_store *store, uint32_t index);

void torc_log_store_numbers(const struct torc_log_store *store,
                            struct torc_log_store_numbers *numbers);

#endif
