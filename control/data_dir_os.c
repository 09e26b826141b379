// Torc control: the data directory of one node. See control/data_dir_os.h.
#include "control/data_dir_os.h"

#include "kit/node_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    DIR_LOCK_PAUSE_NS = 5000000,
    DIR_SEAL_BYTES = 64
};

// What may lie in a directory before a node is made in it: others make these on their way, and a
// cluster's keys may be laid there for a node to come.
static const char *const dir_harmless[] = {".",
                                           "..",
                                           "run",
                                           "meta",
                                           "LOCK",
                                           "lost+found",
                                           "secret",
                                           "secret.new",
                                           "torc.keys",
                                           "torc.keys.new",
                                           "local.key",
                                           "local.key.new",
                                           "torc.node.new"};

// Folders that an init which was cut short has made, empty; with anything in them they are data.
static const char *const dir_folders[] = {"log", "checkpoint", "run"};

void torc_random(void *bytes, uint32_t byte_count)
{
    torc_assert(byte_count <= 256); // below that getrandom is never short
    torc_assert(getrandom(bytes, byte_count, 0) == (ssize_t)byte_count);
}

const struct dirent *torc_folder_next(DIR *folder)
{
    errno = 0;
    return readdir(folder); // NOLINT(concurrency-mt-unsafe): the stream is one thread's
}

enum torc_err torc_folder_make(const char *path, struct torc_fail *why)
{
    char part[TORC_DATA_DIR_PATH_BYTES + 16];
    uint64_t bytes = strlen(path);

    if (bytes >= sizeof(part)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "path of %" PRIu64 " bytes", bytes);
    }
    for (uint64_t i = 1; i <= bytes; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0750) != 0 && errno != EEXIST) {
            return torc_fail(why,
                             errno == EACCES || errno == EROFS ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                             "make directory %.90s: %s", part, strerrordesc_np(errno));
        }
    }
    return TORC_ERR_OK;
}

static enum torc_err file_write_synced(int fd, const void *bytes, uint64_t byte_count)
{
    const unsigned char *at = bytes;

    while (byte_count > 0) {
        int64_t put = write(fd, at, byte_count);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return errno == ENOSPC || errno == EDQUOT ? TORC_ERR_NO_SPACE : TORC_ERR_IO;
        }
        at += put;
        byte_count -= (uint64_t)put;
    }
    return fsync(fd) == 0 ? TORC_ERR_OK : TORC_ERR_IO;
}

enum torc_err torc_file_replace(int folder_fd, const char *name, const void *bytes,
                                uint64_t byte_count, uint32_t mode, struct torc_fail *why)
{
    char fresh[64];
    int length = snprintf(fresh, sizeof(fresh), "%s.new", name);
    enum torc_err err = TORC_ERR_IO;
    int fd;

    torc_assert(length < (int)sizeof(fresh));
    fd = openat(folder_fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd >= 0) {
        err = file_write_synced(fd, bytes, byte_count);
        if (err == TORC_ERR_OK &&
            (renameat(folder_fd, fresh, folder_fd, name) != 0 || fsync(folder_fd) != 0)) {
            err = TORC_ERR_IO;
        }
    }
    if (err != TORC_ERR_OK) {
        err = torc_fail(why, err, "write %s: %s", fresh, strerrordesc_np(errno));
        (void)unlinkat(folder_fd, fresh, 0); // as well as can be
    }
    if (fd >= 0) {
        (void)close(fd); // synced, or given up
    }
    return err;
}

static bool dir_is_empty(int folder_fd, const char *name)
{
    int fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    uint32_t count = 0;
    bool empty;

    if (folder == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    while (torc_folder_next(folder) != NULL) {
        count++;
    }
    empty = errno == 0 && count == 2; // . and ..
    (void)closedir(folder);
    return empty;
}

// What lies there does not speak against making a node.
static bool dir_is_harmless(int folder_fd, const char *name)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(dir_harmless); i++) {
        if (strcmp(name, dir_harmless[i]) == 0) {
            return true;
        }
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(dir_folders); i++) {
        if (strcmp(name, dir_folders[i]) == 0) {
            return dir_is_empty(folder_fd, name);
        }
    }
    return false;
}

enum torc_err torc_data_dir_look(const char *path, enum torc_data_dir_state *state,
                                 struct torc_fail *why)
{
    DIR *folder = opendir(path);
    bool made = false;
    bool foreign = false;
    int reason;

    if (folder == NULL && errno == ENOENT) {
        *state = TORC_DATA_DIR_MISSING;
        return TORC_ERR_OK;
    }
    if (folder == NULL) {
        return torc_fail(why, errno == EACCES ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                         "data directory %.80s: %s", path, strerrordesc_np(errno));
    }
    for (const struct dirent *entry = torc_folder_next(folder); entry != NULL;
         entry = torc_folder_next(folder)) {
        made = made || strcmp(entry->d_name, "torc.node") == 0;
        foreign = foreign || !dir_is_harmless(dirfd(folder), entry->d_name);
    }
    reason = errno;
    (void)closedir(folder);
    if (reason != 0) {
        return torc_fail(why, TORC_ERR_IO, "list %.80s: %s", path, strerrordesc_np(reason));
    }
    *state = made ? TORC_DATA_DIR_MADE : foreign ? TORC_DATA_DIR_FOREIGN : TORC_DATA_DIR_MISSING;
    return TORC_ERR_OK;
}

static enum torc_err dir_write_node(int fd, const struct torc_node_id *id, struct torc_fail *why)
{
    struct torc_node_file file;

    torc_node_file_make(&file, id);
    return torc_file_replace(fd, "torc.node", &file, sizeof(file), 0640, why);
}

static enum torc_err dir_fill(int fd, const char *path, struct torc_fail *why)
{
    uint8_t secret[TORC_DATA_DIR_SECRET_BYTES];
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < TORC_COUNT_OF(dir_folders) && err == TORC_ERR_OK; i++) {
        if (mkdirat(fd, dir_folders[i], 0750) != 0 && errno != EEXIST) {
            err =
                torc_fail(why, errno == EROFS || errno == EACCES ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                          "make %.90s/%s: %s", path, dir_folders[i], strerrordesc_np(errno));
        }
    }
    torc_random(secret, sizeof(secret));
    if (err == TORC_ERR_OK) {
        err = torc_file_replace(fd, "secret", secret, sizeof(secret), 0600, why);
    }
    explicit_bzero(secret, sizeof(secret));
    return err;
}

// `id` NULL: without torc.node.
static enum torc_err dir_make(const char *path, const struct torc_node_id *id,
                              struct torc_fail *why)
{
    enum torc_data_dir_state state;
    enum torc_err err = torc_data_dir_look(path, &state, why);
    int fd = -1;

    if (err == TORC_ERR_OK && state != TORC_DATA_DIR_MISSING) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         state == TORC_DATA_DIR_MADE
                             ? "%.90s already holds a node; choose another directory with --data"
                             : "%.90s is not empty and holds no node of Torc; choose another "
                               "directory with --data",
                         path);
    }
    if (err == TORC_ERR_OK) {
        err = torc_folder_make(path, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "open %.90s: %s", path, strerrordesc_np(errno));
    }
    err = dir_fill(fd, path, why);
    if (err == TORC_ERR_OK && id != NULL) { // last: it makes the directory a node's
        err = dir_write_node(fd, id, why);
    }
    (void)close(fd);
    return err;
}

enum torc_err torc_data_dir_prepare(const char *path, struct torc_fail *why)
{
    return dir_make(path, NULL, why);
}

enum torc_err torc_data_dir_make(const char *path, const struct torc_node_id *id,
                                 struct torc_fail *why)
{
    return dir_make(path, id, why);
}

// -- Opening -------------------------------------------------------------------------------------

enum torc_err torc_data_dir_check_owner(const char *path, struct torc_fail *why)
{
    struct stat at;

    if (stat(path, &at) != 0) {
        return errno == ENOENT
                   ? TORC_ERR_OK
                   : torc_fail(why, TORC_ERR_IO, "%.90s: %s", path, strerrordesc_np(errno));
    }
    if (at.st_uid != geteuid()) {
        return torc_fail(why, TORC_ERR_FORBIDDEN,
                         "data directory %.60s belongs to uid %u, this process is uid %u: run as "
                         "its owner, or chown -R it",
                         path, at.st_uid, geteuid());
    }
    return TORC_ERR_OK;
}

static enum torc_err dir_lock(struct torc_data_dir *dir, uint64_t wait_ms, struct torc_fail *why)
{
    struct timespec pause = {0, DIR_LOCK_PAUSE_NS};

    dir->lock_fd =
        openat(dir->fd, "LOCK", O_CLOEXEC | (dir->look_only ? O_RDONLY : O_RDWR | O_CREAT), 0640);
    if (dir->lock_fd < 0 && dir->look_only && errno == ENOENT) {
        return TORC_ERR_OK; // a copy: torc_data_dir_is_quiet says at the end whether it stayed one
    }
    if (dir->lock_fd < 0) {
        return torc_fail(why, errno == EROFS || errno == EACCES ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                         "open %.70s/LOCK: %s%s", dir->path, strerrordesc_np(errno),
                         errno == EROFS ? ": mount it read-write" : "");
    }
    for (uint64_t waited_ns = 0;; waited_ns += DIR_LOCK_PAUSE_NS) {
        if (flock(dir->lock_fd, (dir->look_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0) {
            return TORC_ERR_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return torc_fail(why, TORC_ERR_IO, "flock %.80s/LOCK: %s", dir->path,
                             strerrordesc_np(errno));
        }
        if (waited_ns / 1000000 >= wait_ms && dir->look_only) {
            return torc_fail(
                why, TORC_ERR_IN_USE,
                "%.80s is in use by a running node: its files change while they are read; "
                "stop it first",
                dir->path);
        }
        if (waited_ns / 1000000 >= wait_ms) {
            return torc_fail(why, TORC_ERR_IN_USE,
                             "%.80s is in use by another torc-control; stop that first (fuser -v "
                             "%.20s…/LOCK shows it)",
                             dir->path, dir->path);
        }
        (void)nanosleep(&pause, NULL); // shorter is as good
    }
}

static enum torc_err dir_read_file(int folder_fd, const char *name, void *bytes,
                                   uint64_t byte_count, struct torc_fail *why)
{
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
    int64_t got = fd >= 0 ? read(fd, bytes, byte_count) : -1;
    enum torc_err err = TORC_ERR_OK;

    if (got < 0) {
        err = torc_fail(why, TORC_ERR_IO, "read %s: %s", name, strerrordesc_np(errno));
    } else if ((uint64_t)got != byte_count) {
        err = torc_fail(why, TORC_ERR_CORRUPT, "%s has %" PRId64 " bytes, not %" PRIu64, name, got,
                        byte_count);
    }
    if (fd >= 0) {
        (void)close(fd); // only read
    }
    return err;
}

static enum torc_err dir_read_node(struct torc_data_dir *dir, struct torc_fail *why)
{
    struct torc_node_file file;
    struct torc_node_id id = {0};
    enum torc_err err = dir_read_file(dir->fd, "torc.node", &file, sizeof(file), why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_node_file_check(&file, dir->path, &id, why);
    if (err == TORC_ERR_OK) {
        dir->node = id.node;
        dir->cluster = id.cluster;
        dir->start_count = id.start_count;
    }
    return err;
}

static enum torc_err dir_open_folders(struct torc_data_dir *dir, struct torc_fail *why)
{
    struct {
        const char *name;
        int *fd;
    } folders[] = {
        {"log", &dir->log_fd}, {"checkpoint", &dir->checkpoint_fd}, {"run", &dir->run_fd}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(folders); i++) {
        // Only run/ may be missing: it may lie on a memory file system or be left out of a backup.
        bool may_miss = folders[i].fd == &dir->run_fd;

        if (may_miss && !dir->look_only) {
            (void)mkdirat(dir->fd, folders[i].name, 0750); // opening it says whether it is there
        }
        *folders[i].fd = openat(dir->fd, folders[i].name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (*folders[i].fd < 0 && errno == ENOENT && !may_miss) {
            return torc_fail(why, TORC_ERR_CORRUPT, "%.80s/%s is missing: restore it from a backup",
                             dir->path, folders[i].name);
        }
        if (*folders[i].fd < 0 && !(errno == ENOENT && dir->look_only)) {
            return torc_fail(why, TORC_ERR_IO, "open %.80s/%s: %s", dir->path, folders[i].name,
                             strerrordesc_np(errno));
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_data_dir_open(struct torc_data_dir *dir, const char *path, bool look_only,
                                 uint64_t wait_ms, struct torc_fail *why)
{
    enum torc_data_dir_state state = TORC_DATA_DIR_MISSING;
    enum torc_err err = torc_data_dir_look(path, &state, why);

    *dir = (struct torc_data_dir){.fd = -1,
                                  .lock_fd = -1,
                                  .log_fd = -1,
                                  .checkpoint_fd = -1,
                                  .run_fd = -1,
                                  .look_only = look_only};
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (strlen(path) >= sizeof(dir->path)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "data: path of over %u bytes",
                         TORC_DATA_DIR_PATH_BYTES - 1);
    }
    memcpy(dir->path, path, strlen(path));
    if (state != TORC_DATA_DIR_MADE) {
        return torc_fail(why, TORC_ERR_NOT_FOUND,
                         "no node in %.70s (no torc.node there): make one with torc init --data …",
                         path);
    }
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "open %.90s: %s", path, strerrordesc_np(errno));
    }
    err = torc_data_dir_check_owner(dir->path, why);
    if (err == TORC_ERR_OK) {
        err = dir_lock(dir, wait_ms, why);
    }
    if (err == TORC_ERR_OK) {
        err = dir_read_node(dir, why);
    }
    if (err == TORC_ERR_OK) {
        err = dir_open_folders(dir, why);
    }
    if (err == TORC_ERR_OK) {
        err = dir_read_file(dir->fd, "secret", dir->secret, sizeof(dir->secret), why);
    }
    if (err != TORC_ERR_OK) {
        torc_data_dir_close(dir);
    }
    return err;
}

bool torc_data_dir_is_quiet(const struct torc_data_dir *dir)
{
    return dir->lock_fd >= 0 || faccessat(dir->fd, "LOCK", F_OK, 0) != 0;
}

enum torc_err torc_data_dir_started(struct torc_data_dir *dir, uint64_t start_count,
                                    struct torc_fail *why)
{
    const struct torc_node_id id = {
        .cluster = dir->cluster, .start_count = start_count, .node = dir->node};
    enum torc_err err = dir_write_node(dir->fd, &id, why);

    if (err == TORC_ERR_OK) {
        dir->start_count = start_count;
    }
    return err;
}

// The seal's text before the boot's number; its bytes.
static uint64_t dir_seal_head(const struct torc_data_dir *dir, char *text)
{
    return (uint64_t)snprintf(text, DIR_SEAL_BYTES, "torc-seal 1 %016" PRIx64 " ", dir->cluster);
}

enum torc_err torc_data_dir_seal(struct torc_data_dir *dir, uint64_t boot, struct torc_fail *why)
{
    char text[DIR_SEAL_BYTES];
    uint64_t used = dir_seal_head(dir, text);
    int bytes = snprintf(text + used, sizeof(text) - used, "%" PRIu64 "\n", boot);

    torc_assert(bytes > 0 && used + (uint64_t)bytes < sizeof(text));
    return torc_file_replace(dir->fd, "seal", text, used + (uint64_t)bytes, 0640, why);
}

bool torc_data_dir_sealed(const struct torc_data_dir *dir, uint64_t *boot)
{
    char head[DIR_SEAL_BYTES];
    char text[DIR_SEAL_BYTES] = {0};
    int fd = openat(dir->fd, "seal", O_RDONLY | O_CLOEXEC);
    int64_t bytes = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    uint64_t head_bytes = dir_seal_head(dir, head);
    char *end = NULL;

    if (fd >= 0) {
        (void)close(fd); // only read
    }
    if (bytes > (int64_t)head_bytes && memcmp(text, head, head_bytes) == 0 &&
        text[head_bytes] >= '0' && text[head_bytes] <= '9') {
        *boot = strtoull(text + head_bytes, &end, 10);
    }
    return end != NULL && strcmp(end, "\n") == 0;
}

enum torc_err torc_data_dir_unseal(struct torc_data_dir *dir, struct torc_fail *why)
{
    if ((unlinkat(dir->fd, "seal", 0) != 0 && errno != ENOENT) || fsync(dir->fd) != 0) {
        return torc_fail(why, TORC_ERR_IO, "remove %.90s/seal: %s", dir->path,
                         strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

void torc_data_dir_close(struct torc_data_dir *dir)
{
    int *fds[] = {&dir->run_fd, &dir->checkpoint_fd, &dir->log_fd, &dir->lock_fd, &dir->fd};

    for (uint32_t i = 0; i < TORC_COUNT_OF(fds); i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]); // the lock goes with its last descriptor
            *fds[i] = -1;
        }
    }
    explicit_bzero(dir->secret, sizeof(dir->secret));
}
