// Torc dataplane: ranges. A job for each, a chunk of rows a slice.
//
// What    RANGE_READ (no state beyond its own packets of credit) and RANGE_OPEN (a cursor that
//         sends as its client gives credit) become jobs over storage/scan.h. A job is cut into
//         slices of one packet; all runnable jobs take turns, after the turn's point requests (W4).
// Owner   the worker.
// Memory  a fixed table of jobs, found by (session, op id); full is BUSY.
// Past    a job with a timestamp waits, in the queue, until no write at or below it is pending and
//         the undo window is ready, for at most TORC_JOB_WAIT_NS: then BUSY. Its timestamp stays
//         pinned while it is at work. Out of the window: SNAPSHOT_TOO_OLD, and the job ends.
// Ends    LAST; the credit of a RANGE_READ; RANGE_CLOSE or CANCEL; a cursor that heard nothing from
//         its client for 2 s; the end of its session.
// Sources docs/PROTOCOL.md, section 7.
#ifndef TORC_DATAPLANE_SCAN_H
#define TORC_DATAPLANE_SCAN_H

#include "dataplane/answer.h"
#include "storage/scan.h"

#define TORC_JOB_IDLE_NS    UINT64_C(2000000000)
#define TORC_JOB_WAIT_NS    UINT64_C(500000000)
#define TORC_JOB_CREDIT_MAX 256u   // chunks that a cursor may be ahead of what was sent
#define TORC_JOB_COUNT_MAX  16384u // records counted a slice

struct torc_packet;

struct torc_job {
    struct torc_answer_to to;
    struct torc_scan scan;
    uint64_t touched_ns; // last packet of its client
    uint64_t ts;         // asked for; 0: now
    uint64_t waits_ns;   // since when `ts` cannot be read yet; 0: it can, or was not tried
    uint32_t op_id;
    uint32_t age_max_ms; // with STALE
    uint32_t shard;      // place
    uint32_t number;     // of the shard that lay there
    uint32_t chunk;      // number of the next one
    uint32_t credit;     // chunks below it may be sent
    uint32_t next;       // free list or run queue
    uint8_t opcode;
    uint8_t flags; // of the request
    bool used;
    bool queued;
    bool whole; // the scan ends where the range does, not only at the shard's border
};

struct torc_jobs {
    struct torc_job *jobs;
    uint32_t *table; // hash of (serial, op id) to job + 1
    uint64_t seed;
    uint32_t max;
    uint32_t table_mask;
    uint32_t free_head;
    uint32_t used;
    uint32_t run_head;
    uint32_t run_tail;
    uint32_t sweep_at;
    uint32_t rows_last; // rows of the last chunk: a guess for the next one
};

uint64_t torc_jobs_bytes(uint32_t max);

void torc_jobs_init(struct torc_jobs *jobs, void *memory, uint32_t max, uint64_t seed);

// RANGE_READ and RANGE_OPEN: begins a job and answers its first chunk with the packet's others.
void torc_jobs_begin(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request);

void torc_jobs_credit(struct torc_worker *worker, struct torc_packet *packet,
                      struct torc_answer *answer, const struct torc_request *request);
void torc_jobs_close(struct torc_worker *worker, struct torc_packet *packet,
                     struct torc_answer *answer, const struct torc_request *request);

// CANCEL of a range; true when there was one.
bool torc_jobs_cancel(struct torc_worker *worker, uint64_t serial, uint32_t op_id);

// Runs slices, at most `slices_max`. True: some job could go on.
bool torc_jobs_run(struct torc_worker *worker, uint32_t slices_max);

// Drops what idles; a few jobs a call.
void torc_jobs_sweep(struct torc_worker *worker);

#endif
