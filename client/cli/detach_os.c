// Torc cli: see detach_os.h.
#include "client/cli/detach_os.h"

#include "client/cli/args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    DETACH_LOG_MAX = 16 << 20, // then one older log is kept beside it
    DETACH_TAIL_BYTES = 4096
};

// What the log says since this start, for people who see why it failed.
static void detach_show_log(const struct torc_detach *detach)
{
    char text[DETACH_TAIL_BYTES];
    struct stat status = {0};
    int fd = open(detach->log, O_RDONLY | O_CLOEXEC);
    off_t from;
    ssize_t got;

    if (fd < 0 || fstat(fd, &status) != 0) {
        return;
    }
    from = status.st_size - DETACH_TAIL_BYTES;
    from = from > detach->log_start ? from : detach->log_start;
    got = pread(fd, text, sizeof(text), from);
    (void)close(fd);
    if (got > 0) {
        (void)fwrite(text, 1, (size_t)got, stderr);
    }
    (void)fprintf(stderr, "torc: the log is %s\n", detach->log);
}

// Copies what the second process says. A zero byte and the one after it are its exit status.
static int detach_follow(struct torc_detach *detach, pid_t second)
{
    int result = -1;
    bool ended = false;
    char text[512];
    ssize_t got;

    while (result < 0 &&
           ((got = read(detach->said, text, sizeof(text))) > 0 || (got < 0 && errno == EINTR))) {
        for (ssize_t i = 0; i < got && result < 0; i++) {
            if (ended) {
                result = (unsigned char)text[i];
            } else if (text[i] == '\0') {
                ended = true;
            } else {
                (void)putchar(text[i]);
            }
        }
        (void)fflush(stdout);
    }
    if (result < 0) {
        (void)waitpid(second, NULL, 0);
        result = TORC_EXIT_FAULT;
    }
    if (result != TORC_EXIT_OK) {
        detach_show_log(detach);
    }
    return result;
}

static enum torc_err detach_open_log(struct torc_detach *detach, bool renames, int *fd,
                                     struct torc_fail *why)
{
    struct stat status = {0};
    char old[sizeof(detach->log) + 4];

    if (renames && stat(detach->log, &status) == 0 && status.st_size > DETACH_LOG_MAX) {
        (void)snprintf(old, sizeof(old), "%s.1", detach->log);
        (void)rename(detach->log, old);
    }
    *fd = open(detach->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (*fd < 0 || fstat(*fd, &status) != 0) {
        return torc_fail(why, errno == EACCES || errno == EROFS ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                         "%.100s: %s", detach->log, strerrordesc_np(errno));
    }
    detach->log_start = status.st_size;
    return TORC_ERR_OK;
}

enum torc_err torc_detach_begin(struct torc_detach *detach, const char *log, bool renames,
                                bool *first, int *status, struct torc_fail *why)
{
    int pipes[2];
    int fd = -1;
    pid_t second;
    enum torc_err err;

    *first = false;
    (void)snprintf(detach->log, sizeof(detach->log), "%s", log);
    err = detach_open_log(detach, renames, &fd, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    (void)fflush(stdout);
    if (pipe2(pipes, O_CLOEXEC) != 0 || (second = fork()) < 0) {
        (void)close(fd);
        return torc_fail(why, TORC_ERR_IO, "detach: %s", strerrordesc_np(errno));
    }
    detach->on = true;
    if (second > 0) {
        (void)close(pipes[1]);
        (void)close(fd);
        detach->said = pipes[0];
        *first = true;
        *status = detach_follow(detach, second);
        return TORC_ERR_OK;
    }
    (void)setsid();
    (void)dup2(pipes[1], STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    (void)close(fd);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)dup2(fd, STDIN_FILENO);
        (void)close(fd);
    }
    return TORC_ERR_OK;
}

void torc_detach_done(struct torc_detach *detach, int status)
{
    char end[2] = {'\0', (char)status};

    if (!detach->on) {
        return;
    }
    detach->on = false;
    (void)fflush(stdout);
    if (write(STDOUT_FILENO, end, sizeof(end)) != sizeof(end)) {
        (void)fprintf(stderr, "torc: the command that started this is gone\n");
    }
    (void)dup2(STDERR_FILENO, STDOUT_FILENO);
}
