// Torc control: the data directory of one node.
//
// What    making it, opening it with its lock, and saying clearly why it cannot be used:
//           torc.node     format, cluster, node, start count (docs/FORMATS.md)
//           LOCK          flocked for as long as anything of ours may write here
//           log/ checkpoint/ run/   their files belong to log_uring, checkpoint_uring, admin
//           secret        32 random bytes, for cookies and tickets
//           torc.keys local.key   who may talk to it: control/keys_os.h
//           seal          of which boot the log has everything, after a clean stop
// Owner   control's one thread; one control at a time.
// Memory  descriptors, until torc_data_dir_close. `lock_fd` is registered in the I/O ring before
//         the first write, so that the lock lives as long as the last request (FIELDNOTES.md,
//         section 7).
// Invariants
//   D1  Nothing is written before the lock is held; who only looks writes nothing at all.
//   D2  torc.node is replaced whole: its old bytes or its new ones, never a mixture.
#ifndef TORC_CONTROL_DATA_DIR_OS_H
#define TORC_CONTROL_DATA_DIR_OS_H

#include "kit/fail.h"
#include "kit/node_file.h"

#include <dirent.h>

#define TORC_DATA_DIR_PATH_BYTES   256
#define TORC_DATA_DIR_SECRET_BYTES 32

enum torc_data_dir_state {
    TORC_DATA_DIR_MISSING, // or empty: a node can be made here
    TORC_DATA_DIR_MADE,
    TORC_DATA_DIR_FOREIGN, // something else is in it
};

struct torc_data_dir {
    char path[TORC_DATA_DIR_PATH_BYTES];
    int fd;
    int lock_fd; // -1: only looked at, and nobody ever held it
    int log_fd;
    int checkpoint_fd;
    int run_fd; // -1: only looked at, and it is missing
    bool look_only;
    uint32_t node;
    uint64_t cluster;
    uint64_t start_count;
    uint8_t secret[TORC_DATA_DIR_SECRET_BYTES];
};

// What is at `path`? IO when that cannot be found out.
enum torc_err torc_must_use torc_data_dir_look(const char *path, enum torc_data_dir_state *state,
                                               struct torc_fail *why);

// All of a directory for a node but torc.node, so that it counts as empty as yet. INVALID_ARGUMENT
// when there is one, or something else.
enum torc_err torc_must_use torc_data_dir_prepare(const char *path, struct torc_fail *why);

// Makes a directory for the node, durable when it returns. INVALID_ARGUMENT as above.
enum torc_err torc_must_use torc_data_dir_make(const char *path, const struct torc_node_id *id,
                                               struct torc_fail *why);

// FORBIDDEN: it is there, and another's.
enum torc_err torc_must_use torc_data_dir_check_owner(const char *path, struct torc_fail *why);

// Opens it and takes the lock, waiting up to `wait_ms` for its last owner's I/O to end. NOT_FOUND:
// there is none; IN_USE: the time is over; CORRUPT, UNSUPPORTED_VERSION: torc.node; FORBIDDEN: the
// owner is another, or it is read-only; all with the next step. `look_only`: a lock that is shared,
// and nothing is made, so that it may be read-only, and a copy without LOCK and run/.
enum torc_err torc_must_use torc_data_dir_open(struct torc_data_dir *dir, const char *path,
                                               bool look_only, uint64_t wait_ms,
                                               struct torc_fail *why);

// Whether what was only looked at is still nobody's: without a LOCK nothing kept a node away.
bool torc_must_use torc_data_dir_is_quiet(const struct torc_data_dir *dir);

// Records that this start is number `start_count`.
enum torc_err torc_must_use torc_data_dir_started(struct torc_data_dir *dir, uint64_t start_count,
                                                  struct torc_fail *why);

// The log has all that this boot acknowledged, and nothing will be acknowledged any more: its
// memory is on the disk. Good until the next life may serve (control/starts.h).
enum torc_err torc_must_use torc_data_dir_seal(struct torc_data_dir *dir, uint64_t boot,
                                               struct torc_fail *why);
// The boot that the seal is of; false: there is none, or it cannot be read.
bool torc_must_use torc_data_dir_sealed(const struct torc_data_dir *dir, uint64_t *boot);
// Durable when it returns; also where there was none.
enum torc_err torc_must_use torc_data_dir_unseal(struct torc_data_dir *dir, struct torc_fail *why);

void torc_data_dir_close(struct torc_data_dir *dir);

// A file of `bytes` in place of `name` below `folder_fd`, whole or not at all, durable.
enum torc_err torc_must_use torc_file_replace(int folder_fd, const char *name, const void *bytes,
                                              uint64_t byte_count, uint32_t mode,
                                              struct torc_fail *why);

// mkdir -p. IO when it fails.
enum torc_err torc_must_use torc_folder_make(const char *path, struct torc_fail *why);

// The next entry of a folder that this thread alone reads. NULL: errno is 0 at the end, else why.
const struct dirent *torc_folder_next(DIR *folder);

// Random bytes from the kernel.
void torc_random(void *bytes, uint32_t byte_count);

#endif
