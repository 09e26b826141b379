// Torc control: what the files of the log store share among themselves. Nobody else includes it.
//
//   log_files_os.c       the folder: which segments and spares there are; letting go of them
//   log_prepare_uring.c  the job of a stream that prepares its next segment
//   log_uring.c          blocks from the ring to the disk; lives of the dataplane
#ifndef TORC_CONTROL_LOG_IMPL_URING_H
#define TORC_CONTROL_LOG_IMPL_URING_H

#include "control/log_uring.h"

enum {
    TORC_LOG_STORE_ZERO_BYTES = 1 << 20,
    // Of them at once: the disk is busy, and log writes still get through.
    TORC_LOG_STORE_ZERO_FLIGHTS = 4,
    TORC_LOG_STORE_SPARES_MAX = 4096
};

#define TORC_LOG_NOBODY UINT32_MAX

enum torc_log_store_job_state {
    TORC_LOG_STORE_JOB_IDLE,
    TORC_LOG_STORE_JOB_ZEROS,       // a new file, being written
    TORC_LOG_STORE_JOB_ZEROS_SYNC,  // and synced
    TORC_LOG_STORE_JOB_FOLDER_SYNC, // F1
    TORC_LOG_STORE_JOB_HEADER,
    TORC_LOG_STORE_JOB_NAME_SYNC, // renamed; the folder is synced
    TORC_LOG_STORE_JOB_RETRY,     // after a failure, not before retry_ns
};

struct torc_log_store_job {
    enum torc_log_store_job_state state;
    char name[TORC_LOG_NAME_BYTES]; // of the file now
    uint32_t file;
    uint32_t busy;          // operations out
    uint64_t started_bytes; // of the zeros
    uint64_t retry_ns;
    int failure; // errno
    struct torc_log_plan_segment segment;
    struct torc_disk_op ops[TORC_LOG_STORE_ZERO_FLIGHTS];
    unsigned char *header; // one slot
};

struct torc_log_store_stream {
    struct torc_log_store *store;
    struct torc_log_plan plan;
    uint32_t worker; // TORC_LOG_NOBODY: none writes it
    bool full_told;
    bool failed_told;
    bool ready; // a segment was told
    uint32_t window;
    struct torc_log_store_job job;
    struct torc_disk_op ops[TORC_LOG_FLIGHTS_MAX]; // beside the plan's flights
};

struct torc_log_store_spare {
    uint32_t number;
    bool synced; // the folder, since it got this name
};

struct torc_log_store {
    struct torc_disk *disk;
    struct torc_log_store_config config;
    struct torc_attach *attach; // NULL: none
    bool deaf;                  // the dataplane is dead
    bool held;                  // no new segment is made
    uint32_t folder;            // log/ itself, for syncs
    unsigned char *zeros;
    uint32_t stream_count;
    struct torc_log_store_stream *streams[TORC_LOG_STREAMS_MAX];
    uint32_t spare_count;
    uint32_t next_spare; // number
    struct torc_log_store_spare spares[TORC_LOG_STORE_SPARES_MAX];
    uint64_t writes;
    uint64_t write_bytes;
};

// "spare-7", "new-7".
void torc_log_spare_name(char *name, const char *kind, uint32_t number);

// The stream's place, made if it is new; NULL when there is no room.
struct torc_log_store_stream *torc_log_store_stream_make(struct torc_log_store *store,
                                                         uint32_t number);

// Lets go of all streams and spares; no worker writes and nothing is in flight.
void torc_log_store_forget(struct torc_log_store *store);

// Moves the job of a stream that a worker writes; true when something moved.
bool torc_log_store_job_step(struct torc_log_store_stream *stream, uint64_t now_ns);

#endif
