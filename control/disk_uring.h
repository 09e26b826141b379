// Torc control: files, asynchronously: one io_uring for everything control reads and writes.
//
// What    operations that their callers own are started, and come back finished with a result;
//         registered files and memory where the kernel allows them; two descriptors that end a wait
//         beside completions: a doorbell, which is cheap, and an epoll set for all that is rare.
//         The log's files, checkpoints and recovery touch the world through this header alone
//         (and torc_log): the simulator links them with a disk of its own (tests/sim/sim_disk.c).
// Owner   control's one thread, the one that opened it.
// Memory  the ring; an operation and its bytes are the caller's and stay put until it comes back.
// Invariants
//   U1  The lock file is registered before anything is written: the data directory's flock lives as
//       long as the last request, also when this process is killed (FIELDNOTES.md, section 7).
//   U2  Each started operation comes back exactly once, as long as somebody polls.
//   U3  What a test makes fail (torc_disk_fault) fails as the kernel would have said it.
#ifndef TORC_CONTROL_DISK_URING_H
#define TORC_CONTROL_DISK_URING_H

#include "kit/fail.h"

#define TORC_DISK_FILES_MAX   4096u // registered at once
#define TORC_DISK_WINDOWS_MAX 256u  // registered memory, one window a worker
#define TORC_DISK_OPS_MAX     4096u // started and not yet back
#define TORC_DISK_ALIGN_BYTES 4096u // of memory, offset and size in direct I/O

struct torc_disk;

enum torc_disk_kind {
    TORC_DISK_READ,
    TORC_DISK_WRITE,
    TORC_DISK_WRITE_DURABLE, // RWF_DSYNC: the bytes are on disk when it comes back
    TORC_DISK_SYNC,          // fsync: bytes and metadata
};

struct torc_disk_op;

typedef void (*torc_disk_done)(struct torc_disk_op *op);

struct torc_disk_op {
    enum torc_disk_kind kind;
    uint32_t file; // of torc_disk_file_add
    void *bytes;
    uint32_t byte_count;
    uint64_t offset;
    int32_t result;            // bytes, or -errno
    uint32_t tag;              // the caller's own
    void *context;             // the caller's own
    torc_disk_done done;       // what torc_disk_run calls when it is back; NULL: nothing
    struct torc_disk_op *next; // while it waits to be handed back
};

// What a test's fault says of one operation.
struct torc_disk_verdict {
    int32_t result;      // 0: let it be; negative: it comes back with this
    uint32_t torn_bytes; // of a failing write, that many bytes are written all the same
    uint32_t cut_bytes;  // of a read no more than these come; 0: all
};

// Fills *verdict, which is empty.
typedef void (*torc_disk_fault)(void *context, const struct torc_disk_op *op,
                                struct torc_disk_verdict *verdict);

// `lock_fd` is registered first (U1).
enum torc_err torc_must_use torc_disk_open(struct torc_disk **out, int lock_fd,
                                           struct torc_fail *why);

// Waits for what was started, then frees everything.
void torc_disk_close(struct torc_disk *disk);

// Opens `name` below `folder_fd` and registers it. With O_DIRECT in `flags`: where the file system
// has it, else without, and one line in the log says so. `flags`: of open(2).
enum torc_err torc_must_use torc_disk_file_open(struct torc_disk *disk, int folder_fd,
                                                const char *name, int flags, uint32_t *file,
                                                struct torc_fail *why);
void torc_disk_file_close(struct torc_disk *disk, uint32_t file);

// The descriptor behind a file, for calls that io_uring does not have.
int torc_disk_file_fd(const struct torc_disk *disk, uint32_t file);

// -- What io_uring does not have (control/disk_folder_os.c); at once. 0 or more, or -errno --------

// Blocks for the first bytes of a file, where the file system knows how; its length.
int32_t torc_must_use torc_disk_file_reserve(struct torc_disk *disk, uint32_t file,
                                             uint64_t byte_count);
int32_t torc_must_use torc_disk_file_cut(struct torc_disk *disk, uint32_t file,
                                         uint64_t byte_count);

// Advice only: it will be read from front to back.
void torc_disk_file_ahead(struct torc_disk *disk, uint32_t file);

int32_t torc_must_use torc_disk_rename(struct torc_disk *disk, int folder_fd, const char *from,
                                       const char *to);
int32_t torc_disk_remove(struct torc_disk *disk, int folder_fd, const char *name);

// A piece of a file that is not open. Comes back with its bytes; fewer at the end.
struct torc_disk_piece {
    void *bytes;
    uint32_t byte_count;
    uint64_t offset;
    uint64_t file_bytes; // out: the whole length
};
int32_t torc_must_use torc_disk_peek(struct torc_disk *disk, int folder_fd, const char *name,
                                     struct torc_disk_piece *piece);

// The names in a folder, "." and ".." left out, a longer one cut.
#define TORC_DISK_NAME_BYTES 64u

struct torc_disk_names {
    char (*names)[TORC_DISK_NAME_BYTES];
    uint32_t count;
    uint32_t room;
};

int32_t torc_must_use torc_disk_list(struct torc_disk *disk, int folder_fd,
                                     struct torc_disk_names *names);
void torc_disk_names_free(struct torc_disk_names *names);

// For generations of segments: from the system's random source.
uint64_t torc_disk_random(struct torc_disk *disk);

// Registers memory that writes come from. May be refused (RLIMIT_MEMLOCK): then writes work all the
// same, and one line in the log says so. Returns the window, for torc_disk_window_close.
uint32_t torc_disk_window_open(struct torc_disk *disk, void *bytes, uint64_t byte_count);
void torc_disk_window_close(struct torc_disk *disk, uint32_t window);

// Starts one. The caller keeps at most TORC_DISK_OPS_MAX going, all its parts together.
void torc_disk_start(struct torc_disk *disk, struct torc_disk_op *op);

// Hands over to the kernel what was started, and takes back what has come back: the next finished
// operation, or NULL.
struct torc_disk_op *torc_disk_poll(struct torc_disk *disk);

// Takes back all that have come back and calls their `done`; returns how many.
uint32_t torc_disk_run(struct torc_disk *disk);

// Operations started and not handed back.
uint32_t torc_disk_busy(const struct torc_disk *disk);

// From now on a ring of `bell_fd` (an eventfd; -1: none) ends each wait; its counter is left alone.
// The kernel keeps the bell until another one, or none, takes its place.
void torc_disk_bell(struct torc_disk *disk, int bell_fd);

// Rings heard so far, of all bells.
uint64_t torc_disk_rings(const struct torc_disk *disk);

// Hands what was started to the kernel now, not at the next poll or wait.
void torc_disk_submit(struct torc_disk *disk);

// Blocks until an operation is back, the bell rings, `ready_fd` (an epoll set, -1 none) is
// readable, or the time is over. True: `ready_fd` is readable.
bool torc_disk_wait(struct torc_disk *disk, int ready_fd, uint64_t timeout_ns);

// Starts one and waits for it alone; others come back later. Returns its result.
int32_t torc_disk_do(struct torc_disk *disk, struct torc_disk_op *op);

void torc_disk_set_fault(struct torc_disk *disk, torc_disk_fault fault, void *context);

#endif
