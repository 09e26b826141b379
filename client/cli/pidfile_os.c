// Torc cli: see pidfile_os.h.
#include "client/cli/pidfile_os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    PIDFILE_BYTES = 64,       // three numbers
    PIDFILE_STOP_MS = 180000, // of a serve that did not say
    PIDFILE_SPARE_MS = 5000
};

static void pidfile_path(char path[600], const char *data)
{
    (void)snprintf(path, 600, "%s/run/serve.pid", data);
}

// *status: what it left at its end, -1 when it left nothing.
static pid_t pidfile_read(int fd, int *status)
{
    char text[PIDFILE_BYTES] = "";
    char *end = text;
    ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
    long pid = got > 0 ? strtol(text, &end, 10) : 0;

    *status = end[0] == '\n' && end[1] != '\0' ? (int)strtol(end + 1, NULL, 10) : -1;
    return pid > 1 && pid < INT32_MAX ? (pid_t)pid : 0;
}

// How long its stop may take; 0: it does not say, being of a build that takes the verb's second
// signal for a person's.
static uint64_t pidfile_stop_ms(int fd)
{
    char text[PIDFILE_BYTES] = "";
    ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
    const char *at = got > 0 ? strchr(text, '\n') : NULL;

    if (at != NULL && strncmp(at, "\n-1 ", strlen("\n-1 ")) == 0) {
        return strtoull(at + strlen("\n-1 "), NULL, 10);
    }
    return at != NULL && at[1] != '\0' ? PIDFILE_STOP_MS : 0; // it ends just now, or is older
}

// Whether the file that is open still has the name: whoever held it removes it at its end.
static bool pidfile_named(const char *path, int fd)
{
    struct stat named;
    struct stat held;

    return stat(path, &named) == 0 && fstat(fd, &held) == 0 && named.st_dev == held.st_dev &&
           named.st_ino == held.st_ino;
}

enum torc_err torc_pidfile_take(const char *data, uint64_t stop_ms, int *fd, struct torc_fail *why)
{
    char path[600];
    char text[PIDFILE_BYTES];
    int bytes = snprintf(text, sizeof(text), "%ld\n-1 %" PRIu64 "\n", (long)getpid(), stop_ms);
    bool locked = false;
    int status;

    pidfile_path(path, data);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    while (*fd >= 0 && (locked = flock(*fd, LOCK_EX | LOCK_NB) == 0) && !pidfile_named(path, *fd)) {
        (void)close(*fd); // nothing was written
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    }
    if (*fd < 0) {
        return torc_fail(why, errno == EACCES || errno == EROFS ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                         "%.100s: %s", path, strerrordesc_np(errno));
    }
    if (!locked) {
        pid_t pid = pidfile_read(*fd, &status);

        (void)close(*fd);
        *fd = -1;
        return torc_fail(why, TORC_ERR_IN_USE,
                         "torc serve (process %ld) already runs %.80s; torc stop ends it",
                         (long)pid, data);
    }
    if (ftruncate(*fd, 0) != 0 || pwrite(*fd, text, (size_t)bytes, 0) != bytes) {
        return torc_fail(why, TORC_ERR_IO, "%.100s: %s", path, strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

bool torc_pidfile_held(const char *data)
{
    char path[600];
    bool held;
    int fd;

    pidfile_path(path, data);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    (void)close(fd);
    return held;
}

void torc_pidfile_leave(const char *data, int fd, int status)
{
    char path[600];
    char text[PIDFILE_BYTES];
    int bytes = snprintf(text, sizeof(text), "%ld\n%d\n", (long)getpid(), status);

    pidfile_path(path, data);
    // Who waits takes a lack for a bad end.
    if (pwrite(fd, text, (size_t)bytes, 0) == bytes) {
        (void)ftruncate(fd, bytes);
    }
    (void)unlink(path); // still locked: nobody can hold this very file after us
}

// How it ended, which it has.
static enum torc_err pidfile_verdict(int fd, struct torc_fail *why)
{
    int status;
    pid_t pid = pidfile_read(fd, &status);

    if (status == 0) {
        return TORC_ERR_OK;
    }
    if (status < 0) {
        return torc_fail(why, TORC_ERR_IO,
                         "process %ld ended without a stop; the next start recovers from the log",
                         (long)pid);
    }
    return torc_fail(why, TORC_ERR_IO,
                     "process %ld ended, but its stop was not clean (status %d); its log says why",
                     (long)pid, status);
}

static enum torc_err pidfile_late(pid_t pid, bool says, struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_DEADLINE,
                     "process %ld was told to stop and goes on; see its log; %s", (long)pid,
                     says ? "another torc stop waits on, another SIGTERM or Ctrl-C kills it"
                          : "it is of an older build: another torc stop, SIGTERM or Ctrl-C kills "
                            "it, so wait");
}

static enum torc_err pidfile_end(int fd, const char *data, uint64_t timeout_us,
                                 struct torc_fail *why)
{
    int status;
    pid_t pid = pidfile_read(fd, &status);
    int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    siginfo_t asks = {.si_signo = SIGTERM, .si_code = SI_QUEUE};
    uint64_t stop_ms = pidfile_stop_ms(fd);
    enum torc_err err = TORC_ERR_OK;

    asks.si_pid = getpid();
    asks.si_uid = getuid();
    asks.si_value.sival_int = TORC_PIDFILE_STOP;
    if (timeout_us == 0) {
        timeout_us = ((stop_ms != 0 ? stop_ms : PIDFILE_STOP_MS) + PIDFILE_SPARE_MS) * 1000;
    }
    // The lock says that the process lives: held still, the descriptor is of the right one.
    if (pidfd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) {
        err = torc_fail(why, TORC_ERR_NOT_FOUND, "no node runs on %.100s", data);
    } else if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, &asks, 0) != 0) {
        err = torc_fail(why, errno == EPERM ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                        "stop process %ld: %s", (long)pid, strerrordesc_np(errno));
    } else if (poll(&wait, 1, (int)torc_min_u64(timeout_us / 1000, INT32_MAX)) != 1) {
        err = pidfile_late(pid, stop_ms != 0, why);
    } else {
        err = pidfile_verdict(fd, why);
    }
    if (pidfd >= 0) {
        (void)close(pidfd);
    }
    return err;
}

enum torc_err torc_pidfile_stop(const char *data, uint64_t timeout_us, struct torc_fail *why)
{
    char path[600];
    enum torc_err err;
    int fd;

    pidfile_path(path, data);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return torc_fail(why, errno == EACCES ? TORC_ERR_FORBIDDEN : TORC_ERR_NOT_FOUND,
                         "%.100s: %s", path, strerrordesc_np(errno));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        err = torc_fail(why, TORC_ERR_NOT_FOUND, "no node runs on %.100s", data);
    } else {
        err = pidfile_end(fd, data, timeout_us, why);
    }
    (void)close(fd);
    return err;
}
