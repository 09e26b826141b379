// Torc kit: files and memory of secrets; see secret_os.h.
#include "kit/secret_os.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum torc_err secret_fail(const char *what, const char *path, struct torc_fail *why)
{
    enum torc_err err = errno == ENOENT                                       ? TORC_ERR_NOT_FOUND
                        : errno == EACCES || errno == EPERM || errno == EROFS ? TORC_ERR_FORBIDDEN
                        : errno == ENOSPC || errno == EDQUOT                  ? TORC_ERR_NO_SPACE
                                                                              : TORC_ERR_IO;

    return torc_fail(why, err, "%s %.100s: %s", what, path, strerrordesc_np(errno));
}

bool torc_secret_hide(void *memory, uint64_t byte_count)
{
    (void)madvise(memory, byte_count, MADV_DONTDUMP); // of memory that is ours: cannot fail
    return mlock2(memory, byte_count, MLOCK_ONFAULT) == 0;
}

enum torc_err torc_secret_open(struct torc_secret *secret, uint64_t room, struct torc_fail *why)
{
    void *bytes = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *secret = (struct torc_secret){0};
    if (bytes == MAP_FAILED) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "no memory for %" PRIu64 " bytes", room);
    }
    (void)torc_secret_hide(bytes, room); // a small limit of locked memory is no reason to stop
    *secret = (struct torc_secret){.bytes = bytes, .room = room};
    return TORC_ERR_OK;
}

void torc_secret_close(struct torc_secret *secret)
{
    if (secret->bytes != NULL) {
        explicit_bzero(secret->bytes, secret->byte_count > 0 ? secret->byte_count : secret->room);
        (void)munmap(secret->bytes, secret->room);
    }
    *secret = (struct torc_secret){0};
}

static enum torc_err secret_check(int fd, const char *path, const struct torc_secret_rules *rules,
                                  uint64_t *byte_count, struct torc_fail *why)
{
    struct stat at;
    uint32_t mode;

    if (fstat(fd, &at) != 0) {
        return secret_fail("stat", path, why);
    }
    mode = at.st_mode & 07777u;
    if (!S_ISREG(at.st_mode)) {
        return torc_fail(why, TORC_ERR_FORBIDDEN, "%.110s is no file", path);
    }
    if ((mode & ~rules->mode) != 0) {
        return torc_fail(why, TORC_ERR_FORBIDDEN,
                         "%.80s has mode %04o, so others may read or change it: chmod %o it", path,
                         mode, rules->mode);
    }
    if (rules->owner == TORC_SECRET_OURS
            ? geteuid() != 0 && at.st_uid != geteuid() && at.st_uid != 0
            : at.st_uid != rules->owner) {
        return torc_fail(why, TORC_ERR_FORBIDDEN, "%.80s belongs to uid %u: chown it to uid %u",
                         path, at.st_uid,
                         rules->owner == TORC_SECRET_OURS ? geteuid() : rules->owner);
    }
    if ((uint64_t)at.st_size > rules->bytes_max) {
        return torc_fail(why, TORC_ERR_TOO_LARGE, "%.80s has %lld bytes, more than %" PRIu64, path,
                         (long long)at.st_size, rules->bytes_max);
    }
    *byte_count = (uint64_t)at.st_size;
    return TORC_ERR_OK;
}

static enum torc_err secret_take(int fd, const char *path, struct torc_secret *secret,
                                 struct torc_fail *why)
{
    while (secret->byte_count + 1 < secret->room) {
        ssize_t got = read(fd, (char *)secret->bytes + secret->byte_count,
                           secret->room - 1 - secret->byte_count);

        if (got < 0 && errno != EINTR) {
            return secret_fail("read", path, why);
        }
        if (got == 0) {
            break;
        }
        secret->byte_count += got > 0 ? (uint64_t)got : 0;
    }
    return TORC_ERR_OK;
}

enum torc_err torc_secret_read(struct torc_secret *secret, const char *path,
                               const struct torc_secret_rules *rules, struct torc_fail *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint64_t byte_count = 0;
    enum torc_err err;

    *secret = (struct torc_secret){0};
    if (fd < 0) {
        return secret_fail("open", path, why);
    }
    err = secret_check(fd, path, rules, &byte_count, why);
    if (err == TORC_ERR_OK) {
        err = torc_secret_open(secret, byte_count + 1, why);
    }
    if (err == TORC_ERR_OK) {
        err = secret_take(fd, path, secret, why);
    }
    (void)close(fd); // only read
    if (err != TORC_ERR_OK) {
        torc_secret_close(secret);
    }
    return err;
}

static bool secret_put(int fd, const char *bytes, uint64_t byte_count)
{
    while (byte_count > 0) {
        ssize_t put = write(fd, bytes, byte_count);

        if (put < 0 && errno != EINTR) {
            return false;
        }
        bytes += put > 0 ? put : 0;
        byte_count -= put > 0 ? (uint64_t)put : 0;
    }
    return true;
}

static bool secret_sync_folder(const char *path)
{
    char copy[PATH_MAX];
    int fd;
    bool synced;

    (void)snprintf(copy, sizeof(copy), "%s", path);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the copy is ours
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return synced;
}

// The new file takes the place of what is at `path`: a device must not lose it, nor a link what it
// leads to.
static enum torc_err secret_may_replace(const char *path, struct torc_fail *why)
{
    struct stat at;

    if (lstat(path, &at) != 0) {
        return errno == ENOENT ? TORC_ERR_OK : secret_fail("write", path, why);
    }
    if (S_ISLNK(at.st_mode)) {
        return torc_fail(why, TORC_ERR_FORBIDDEN, "%.80s is a link: name the file that it leads to",
                         path);
    }
    return S_ISREG(at.st_mode) ? TORC_ERR_OK
                               : torc_fail(why, TORC_ERR_FORBIDDEN, "%.110s is no file", path);
}

enum torc_err torc_secret_write(const char *path, const void *bytes, uint64_t byte_count,
                                uint32_t uid, uint32_t gid, struct torc_fail *why)
{
    char fresh[PATH_MAX];
    int length = snprintf(fresh, sizeof(fresh), "%s.new", path);
    enum torc_err err;
    int fd;

    if (length < 0 || (size_t)length >= sizeof(fresh)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.80s…: the path is too long", path);
    }
    err = secret_may_replace(path, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    (void)unlink(fresh); // of a writer that died
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return secret_fail("write", fresh, why);
    }
    if (!secret_put(fd, bytes, byte_count) || (geteuid() == 0 && fchown(fd, uid, gid) != 0) ||
        fsync(fd) != 0 || rename(fresh, path) != 0 || !secret_sync_folder(path)) {
        err = secret_fail("write", path, why);
        (void)unlink(fresh); // as well as can be
    }
    (void)close(fd); // synced, or given up
    return err;
}
