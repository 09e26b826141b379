// Torc cli: see child_os.h.
#include "client/cli/child_os.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_WORDS_MAX = 256
};

// The folder of this very program.
static bool child_folder(char *folder, uint32_t folder_bytes)
{
    ssize_t bytes = readlink("/proc/self/exe", folder, folder_bytes - 1);
    char *slash;

    if (bytes <= 0) {
        return false;
    }
    folder[bytes] = '\0';
    slash = strrchr(folder, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = '\0';
    return true;
}

enum torc_err torc_child_find(const char *name, char path[TORC_CHILD_PATH_BYTES],
                              struct torc_fail *why)
{
    // The folders of a build tree are named as their programs, torc- left out.
    const char *part = strncmp(name, "torc-", 5) == 0 ? name + 5 : name;
    const char *const places[] = {"..",          ".",       "../libexec/torc",
                                  "../lib/torc", "../sbin", "../scripts"};
    char folder[400];

    if (!child_folder(folder, sizeof(folder))) {
        return torc_fail(why, TORC_ERR_IO, "/proc/self/exe: %s", strerrordesc_np(errno));
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(places); i++) {
        (void)snprintf(path, TORC_CHILD_PATH_BYTES, "%s/%s/%s%s%s", folder, places[i],
                       i == 0 ? part : "", i == 0 ? "/" : "", name);
        if (access(path, X_OK) == 0) {
            return TORC_ERR_OK;
        }
    }
    return torc_fail(why, TORC_ERR_NOT_FOUND,
                     "program %s is neither beside torc (%.60s) nor in ../libexec/torc", name,
                     folder);
}

// In the new process: becomes the program.
static _Noreturn void child_become(const struct torc_child *child, char **words, pid_t parent)
{
    sigset_t none;

    // What a terminal sends to its foreground (Ctrl-C, a hangup) is for `torc serve`, which stops
    // its children in order; nor does a terminal with tostop stop who writes a log to it.
    (void)setsid();
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, child->death_signal, 0, 0, 0);
    if (getppid() != parent) {
        _exit(1); // it died before the line above
    }
    if (child->notify != NULL) {
        (void)setenv("NOTIFY_SOCKET", child->notify, 1); // NOLINT(concurrency-mt-unsafe)
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);        // whoever reads ours waits for its end
    } else {
        (void)unsetenv("NOTIFY_SOCKET"); // NOLINT(concurrency-mt-unsafe): one thread
    }
    (void)execv(child->path, words);
    (void)fprintf(stderr, "torc: %s: %s\n", child->path, strerrordesc_np(errno));
    _exit(127);
}

enum torc_err torc_child_start(struct torc_child *child, const char *verb, struct torc_fail *why)
{
    char *words[CHILD_WORDS_MAX + 3] = {child->path};
    char copy[16] = "";
    uint32_t count = 1;
    pid_t parent = getpid();

    torc_assert(child->pid == 0);
    if (verb != NULL) {
        (void)snprintf(copy, sizeof(copy), "%s", verb);
        words[count++] = copy;
    }
    for (uint32_t i = 0; child->words[i] != NULL; i++) {
        if (i == CHILD_WORDS_MAX) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "more than %d words", CHILD_WORDS_MAX);
        }
        words[count++] = child->words[i];
    }
    (void)fflush(stdout);
    child->pid = fork();
    if (child->pid == 0) {
        child_become(child, words, parent);
    }
    if (child->pid < 0) {
        child->pid = 0;
        return torc_fail(why, TORC_ERR_IO, "%s: fork: %s", child->name, strerrordesc_np(errno));
    }
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pidfd < 0) {
        int reason = errno;

        (void)kill(child->pid, SIGKILL);
        (void)waitpid(child->pid, &child->status, 0);
        child->pid = 0;
        return torc_fail(why, TORC_ERR_IO, "%s: pidfd_open: %s", child->name,
                         strerrordesc_np(reason));
    }
    return TORC_ERR_OK;
}

bool torc_child_ended(struct torc_child *child, bool wait)
{
    pid_t ended;

    if (child->pid == 0) {
        return true;
    }
    do {
        ended = waitpid(child->pid, &child->status, wait ? 0 : WNOHANG);
    } while (ended < 0 && errno == EINTR);
    if (ended != child->pid) {
        return false;
    }
    (void)close(child->pidfd);
    child->pidfd = -1;
    child->pid = 0;
    return true;
}

void torc_child_signal(const struct torc_child *child, int number)
{
    if (child->pid != 0) {
        (void)kill(child->pid, number); // not reaped yet, so the number is still its own
    }
}

void torc_child_status(const struct torc_child *child, char *text, uint32_t text_bytes)
{
    if (WIFSIGNALED(child->status)) {
        const char *name = sigdescr_np(WTERMSIG(child->status));

        (void)snprintf(text, text_bytes, "signal %d (%s)", WTERMSIG(child->status),
                       name != NULL ? name : "?");
    } else {
        (void)snprintf(text, text_bytes, "status %d", WEXITSTATUS(child->status));
    }
}
