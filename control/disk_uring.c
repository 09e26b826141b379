// Torc control: files, asynchronously. See control/disk_uring.h.
#include "control/disk_uring.h"

#include "kit/log_os.h"

#include <liburing.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    DISK_RING_ENTRIES = 256,
    DISK_READY_TAG = 1, // user data of the poll on `ready_fd`: no pointer is that small
    DISK_IGNORE_TAG = 2,
    DISK_BELL_TAG = 256, // and the number of the bell: what an old one still says is not about ours
    DISK_BELL_TAGS = 256
};

struct disk_window {
    unsigned char *bytes; // NULL: free
    uint64_t byte_count;
    bool registered;
};

struct torc_disk {
    struct io_uring ring;
    int fds[TORC_DISK_FILES_MAX]; // -1: free; 0 is the lock
    struct disk_window windows[TORC_DISK_WINDOWS_MAX];
    bool windows_on;
    bool window_told; // one line for the fallback
    bool direct_told;
    bool polling_ready; // a poll on ready_fd is out
    bool polling_bell;
    int bell_fd;
    uint32_t bell_number;
    uint64_t rings;
    uint32_t busy;
    struct torc_disk_op *back_first; // finished, not yet handed back
    struct torc_disk_op *back_last;
    torc_disk_fault fault;
    void *fault_context;
};

enum torc_err torc_disk_open(struct torc_disk **out, int lock_fd, struct torc_fail *why)
{
    struct torc_disk *disk = calloc(1, sizeof(*disk));
    // TASKRUN_FLAG: a look without a system call sees that the kernel has something to hand over.
    unsigned flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    int failed;

    torc_assert(disk != NULL);
    failed = io_uring_queue_init(DISK_RING_ENTRIES, &disk->ring, flags);
    if (failed == -EINVAL) { // a kernel before 6.1
        failed = io_uring_queue_init(DISK_RING_ENTRIES, &disk->ring, 0);
    }
    if (failed != 0) {
        free(disk);
        return torc_fail(why, TORC_ERR_IO,
                         "io_uring: %s; it needs Linux 5.19 and kernel.io_uring_disabled = 0",
                         strerrordesc_np(-failed));
    }
    for (uint32_t i = 1; i < TORC_DISK_FILES_MAX; i++) {
        disk->fds[i] = -1;
    }
    disk->fds[0] = lock_fd;
    disk->bell_fd = -1;
    failed = io_uring_register_files_sparse(&disk->ring, TORC_DISK_FILES_MAX);
    if (failed == 0) {
        failed = io_uring_register_files_update(&disk->ring, 0, &lock_fd, 1) == 1 ? 0 : -EINVAL;
    }
    if (failed != 0) {
        io_uring_queue_exit(&disk->ring);
        free(disk);
        return torc_fail(why, TORC_ERR_IO, "io_uring: register the lock file: %s",
                         strerrordesc_np(-failed));
    }
    disk->windows_on = io_uring_register_buffers_sparse(&disk->ring, TORC_DISK_WINDOWS_MAX) == 0;
    *out = disk;
    return TORC_ERR_OK;
}

void torc_disk_close(struct torc_disk *disk)
{
    while (torc_disk_busy(disk) > 0) {
        if (torc_disk_poll(disk) == NULL) {
            (void)torc_disk_wait(disk, -1, UINT64_C(1000000000));
        }
    }
    for (uint32_t i = 1; i < TORC_DISK_FILES_MAX; i++) {
        if (disk->fds[i] >= 0) {
            (void)close(disk->fds[i]); // what counts was synced by its owner
        }
    }
    io_uring_queue_exit(&disk->ring);
    free(disk);
}

// -- Files ---------------------------------------------------------------------------------------

enum torc_err torc_disk_file_open(struct torc_disk *disk, int folder_fd, const char *name,
                                  int flags, uint32_t *file, struct torc_fail *why)
{
    uint32_t slot = 1;
    int fd = openat(folder_fd, name, flags | O_CLOEXEC, 0640);

    if (fd < 0 && (flags & O_DIRECT) != 0 && errno == EINVAL) {
        fd = openat(folder_fd, name, (flags & ~O_DIRECT) | O_CLOEXEC, 0640);
        if (fd >= 0 && !disk->direct_told) {
            disk->direct_told = true;
            torc_log(TORC_LOG_WARN, "disk", "direct-io-refused",
                     "file=%s note=\"writes go through the page cache, still synced\"", name);
        }
    }
    if (fd < 0) {
        return torc_fail(why,
                         errno == ENOENT                      ? TORC_ERR_NOT_FOUND
                         : errno == ENOSPC || errno == EDQUOT ? TORC_ERR_NO_SPACE
                                                              : TORC_ERR_IO,
                         "open %s: %s", name, strerrordesc_np(errno));
    }
    while (slot < TORC_DISK_FILES_MAX && disk->fds[slot] >= 0) {
        slot++;
    }
    if (slot == TORC_DISK_FILES_MAX ||
        io_uring_register_files_update(&disk->ring, slot, &fd, 1) != 1) {
        (void)close(fd);
        return torc_fail(why, TORC_ERR_LIMIT, "open %s: over %u files at once", name,
                         TORC_DISK_FILES_MAX);
    }
    disk->fds[slot] = fd;
    *file = slot;
    return TORC_ERR_OK;
}

void torc_disk_file_close(struct torc_disk *disk, uint32_t file)
{
    int none = -1;

    torc_assert(file > 0);
    torc_assert(file < TORC_DISK_FILES_MAX);
    torc_assert(disk->fds[file] >= 0);
    (void)io_uring_register_files_update(&disk->ring, file, &none, 1); // closing ends it as well
    (void)close(disk->fds[file]);
    disk->fds[file] = -1;
}

int torc_disk_file_fd(const struct torc_disk *disk, uint32_t file)
{
    torc_assert(file < TORC_DISK_FILES_MAX);
    return disk->fds[file];
}

// -- Memory --------------------------------------------------------------------------------------

uint32_t torc_disk_window_open(struct torc_disk *disk, void *bytes, uint64_t byte_count)
{
    struct iovec window = {.iov_base = bytes, .iov_len = byte_count};
    __u64 tag = 0;
    uint32_t slot = 0;
    int failed = -ENOMEM;

    while (slot < TORC_DISK_WINDOWS_MAX && disk->windows[slot].bytes != NULL) {
        slot++;
    }
    torc_assert(slot < TORC_DISK_WINDOWS_MAX); // one a worker
    if (disk->windows_on) {
        failed = io_uring_register_buffers_update_tag(&disk->ring, slot, &window, &tag, 1);
    }
    if (failed < 0 && !disk->window_told) {
        disk->window_told = true;
        torc_log(TORC_LOG_WARN, "disk", "buffers-unregistered",
                 "bytes=%" PRIu64 " reason=\"%s\" note=\"slower; raise LimitMEMLOCK\"", byte_count,
                 strerrordesc_np(-failed));
    }
    disk->windows[slot] =
        (struct disk_window){.bytes = bytes, .byte_count = byte_count, .registered = failed >= 0};
    return slot;
}

void torc_disk_window_close(struct torc_disk *disk, uint32_t window)
{
    struct iovec none = {0};
    __u64 tag = 0;

    torc_assert(window < TORC_DISK_WINDOWS_MAX);
    if (disk->windows[window].registered) {
        (void)io_uring_register_buffers_update_tag(&disk->ring, window, &none, &tag, 1);
    }
    disk->windows[window] = (struct disk_window){0};
}

// The registered window that holds all of these bytes, or TORC_DISK_WINDOWS_MAX.
static uint32_t disk_window_of(const struct torc_disk *disk, const struct torc_disk_op *op)
{
    const unsigned char *bytes = op->bytes;

    for (uint32_t i = 0; i < TORC_DISK_WINDOWS_MAX && disk->windows[i].bytes != NULL; i++) {
        const struct disk_window *window = disk->windows + i;

        if (window->registered && bytes >= window->bytes &&
            bytes + op->byte_count <= window->bytes + window->byte_count) {
            return i;
        }
    }
    return TORC_DISK_WINDOWS_MAX;
}

// -- Operations ----------------------------------------------------------------------------------

static struct io_uring_sqe *disk_entry(struct torc_disk *disk)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&disk->ring);

    while (entry == NULL) { // full: the kernel takes what is there
        (void)io_uring_submit(&disk->ring);
        entry = io_uring_get_sqe(&disk->ring);
    }
    return entry;
}

static void disk_give_back(struct torc_disk *disk, struct torc_disk_op *op, int32_t result)
{
    op->result = result;
    op->next = NULL;
    if (disk->back_last != NULL) {
        disk->back_last->next = op;
    } else {
        disk->back_first = op;
    }
    disk->back_last = op;
}

// True when a test wants this operation to fail; then it is already on its way back.
static bool disk_fails(struct torc_disk *disk, struct torc_disk_op *op)
{
    struct torc_disk_verdict verdict = {0};

    if (disk->fault != NULL) {
        disk->fault(disk->fault_context, op, &verdict);
    }
    if (verdict.cut_bytes > 0) {
        op->byte_count = (uint32_t)torc_min_u64(op->byte_count, verdict.cut_bytes);
    }
    if (verdict.result == 0) {
        return false;
    }
    if (verdict.torn_bytes > 0) {
        (void)pwrite(disk->fds[op->file], op->bytes,
                     torc_min_u64(verdict.torn_bytes, op->byte_count), (off_t)op->offset);
    }
    disk_give_back(disk, op, verdict.result);
    return true;
}

void torc_disk_start(struct torc_disk *disk, struct torc_disk_op *op)
{
    struct io_uring_sqe *entry;
    uint32_t window;

    torc_assert(disk->busy < TORC_DISK_OPS_MAX);
    torc_assert(op->file > 0);
    torc_assert(disk->fds[op->file] >= 0);
    disk->busy++;
    if (disk_fails(disk, op)) {
        return;
    }
    entry = disk_entry(disk);
    switch (op->kind) {
    case TORC_DISK_READ:
        io_uring_prep_read(entry, (int)op->file, op->bytes, op->byte_count, op->offset);
        break;
    case TORC_DISK_WRITE:
    case TORC_DISK_WRITE_DURABLE:
        window = disk_window_of(disk, op);
        if (window < TORC_DISK_WINDOWS_MAX) {
            io_uring_prep_write_fixed(entry, (int)op->file, op->bytes, op->byte_count, op->offset,
                                      (int)window);
        } else {
            io_uring_prep_write(entry, (int)op->file, op->bytes, op->byte_count, op->offset);
        }
        entry->rw_flags = op->kind == TORC_DISK_WRITE_DURABLE ? RWF_DSYNC : 0;
        break;
    case TORC_DISK_SYNC: io_uring_prep_fsync(entry, (int)op->file, 0); break;
    }
    io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(entry, op);
}

static void disk_rung(struct torc_disk *disk, uint32_t number, const struct io_uring_cqe *done)
{
    if (number != disk->bell_number) {
        return;
    }
    disk->rings += done->res > 0 ? 1 : 0;
    if ((done->flags & IORING_CQE_F_MORE) == 0) {
        disk->polling_bell = false; // the next wait asks again
    }
}

// Moves finished operations from the ring to the list.
static void disk_reap(struct torc_disk *disk)
{
    struct io_uring_cqe *done;

    while (io_uring_peek_cqe(&disk->ring, &done) == 0) {
        uint64_t tag = io_uring_cqe_get_data64(done);

        if (tag == DISK_READY_TAG) {
            disk->polling_ready = false;
        } else if (tag >= DISK_BELL_TAG && tag < DISK_BELL_TAG + DISK_BELL_TAGS) {
            disk_rung(disk, (uint32_t)tag - DISK_BELL_TAG, done);
        } else if (tag != DISK_IGNORE_TAG && tag != LIBURING_UDATA_TIMEOUT) {
            disk_give_back(disk, io_uring_cqe_get_data(done), done->res);
        }
        io_uring_cqe_seen(&disk->ring, done);
    }
}

void torc_disk_submit(struct torc_disk *disk)
{
    if (io_uring_sq_ready(&disk->ring) > 0) {
        (void)io_uring_submit(&disk->ring); // what it leaves goes with the next
    }
}

struct torc_disk_op *torc_disk_poll(struct torc_disk *disk)
{
    struct torc_disk_op *op;

    torc_disk_submit(disk);
    if (disk->back_first == NULL) {
        disk_reap(disk);
    }
    op = disk->back_first;
    if (op == NULL) {
        return NULL;
    }
    disk->back_first = op->next;
    if (disk->back_first == NULL) {
        disk->back_last = NULL;
    }
    torc_assert(disk->busy > 0);
    disk->busy--;
    return op;
}

uint32_t torc_disk_run(struct torc_disk *disk)
{
    uint32_t count = 0;

    for (struct torc_disk_op *op = torc_disk_poll(disk); op != NULL; op = torc_disk_poll(disk)) {
        count++;
        if (op->done != NULL) {
            op->done(op);
        }
    }
    return count;
}

uint32_t torc_disk_busy(const struct torc_disk *disk)
{
    return disk->busy;
}

void torc_disk_bell(struct torc_disk *disk, int bell_fd)
{
    if (disk->polling_bell) {
        struct io_uring_sqe *entry = disk_entry(disk);

        io_uring_prep_poll_remove(entry, DISK_BELL_TAG + disk->bell_number);
        io_uring_sqe_set_data64(entry, DISK_IGNORE_TAG);
        torc_disk_submit(disk); // before the descriptor is closed
    }
    disk->bell_fd = bell_fd;
    disk->bell_number = (disk->bell_number + 1) % DISK_BELL_TAGS;
    disk->polling_bell = false;
}

uint64_t torc_disk_rings(const struct torc_disk *disk)
{
    return disk->rings;
}

// Multishot, on edges: one entry for all rings, and nothing to be read back.
static void disk_poll_bell(struct torc_disk *disk)
{
    struct io_uring_sqe *entry = disk_entry(disk);

    io_uring_prep_poll_multishot(entry, disk->bell_fd, POLLIN);
    io_uring_sqe_set_data64(entry, DISK_BELL_TAG + disk->bell_number);
    disk->polling_bell = true;
}

bool torc_disk_wait(struct torc_disk *disk, int ready_fd, uint64_t timeout_ns)
{
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000),
                                        .tv_nsec = (int64_t)(timeout_ns % 1000000000)};
    struct io_uring_cqe *done;

    if (disk->back_first != NULL) {
        return false;
    }
    if (disk->bell_fd >= 0 && !disk->polling_bell) {
        disk_poll_bell(disk);
    }
    if (ready_fd >= 0 && !disk->polling_ready) {
        struct io_uring_sqe *entry = disk_entry(disk);

        io_uring_prep_poll_add(entry, ready_fd, POLLIN);
        io_uring_sqe_set_data64(entry, DISK_READY_TAG);
        disk->polling_ready = true;
    }
    (void)io_uring_submit_and_wait_timeout(&disk->ring, &done, 1, &timeout, NULL);
    disk_reap(disk);
    return ready_fd >= 0 && !disk->polling_ready;
}

int32_t torc_disk_do(struct torc_disk *disk, struct torc_disk_op *op)
{
    struct torc_disk_op *others_first = NULL;
    struct torc_disk_op *others_last = NULL;
    struct torc_disk_op *back = NULL;

    torc_disk_start(disk, op);
    while (back != op) {
        back = torc_disk_poll(disk);
        if (back == NULL) {
            (void)torc_disk_wait(disk, -1, UINT64_C(1000000000));
        } else if (back != op) { // not ours to look at: kept for whoever polls
            back->next = NULL;
            if (others_last != NULL) {
                others_last->next = back;
            } else {
                others_first = back;
            }
            others_last = back;
        }
    }
    for (struct torc_disk_op *other = others_first; other != NULL; other = others_first) {
        others_first = other->next;
        disk->busy++;
        disk_give_back(disk, other, other->result);
    }
    return op->result;
}

void torc_disk_set_fault(struct torc_disk *disk, torc_disk_fault fault, void *context)
{
    disk->fault = fault;
    disk->fault_context = context;
}
