// Torc cli: see serve_os.h.
#include "client/cli/serve_os.h"

#include "client/cli/args.h"
#include "client/cli/child_os.h"
#include "client/cli/detach_os.h"
#include "client/cli/links_os.h"
#include "client/cli/notify_os.h"
#include "client/cli/pidfile_os.h"
#include "kit/log_os.h"
#include "kit/settings_os.h"
#include "torc/torc.h"

#include <systemd/sd-daemon.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Beside the checkpoints and the handover of a clean stop, whose bounds are settings: 30 s for
// workers to come to rest (control/node_os.c), the rest a bet.
#define SERVE_CONTROL_STOP_NS   UINT64_C(55000000000)
#define SERVE_DATAPLANE_STOP_NS UINT64_C(10000000000)
#define SERVE_TAP_LOOK_NS       UINT64_C(50000000) // how often to look for a tap to appear

enum {
    SERVE_DATAPLANE,
    SERVE_CONTROL,
    SERVE_CHILDREN
};

enum serve_poll {
    SERVE_POLL_SIGNALS,
    SERVE_POLL_NOTIFY,
    SERVE_POLL_CHILD,
    SERVE_POLL_COUNT = SERVE_POLL_CHILD + SERVE_CHILDREN
};

enum serve_stage {
    SERVE_RUNNING,
    SERVE_STOP_CONTROL,
    SERVE_STOP_DATAPLANE,
    SERVE_STOPPED
};

struct serve {
    struct torc_settings settings;
    struct torc_links links;
    struct torc_notify notify;
    struct torc_detach detach;
    struct torc_child children[SERVE_CHILDREN];
    enum serve_stage stage;
    uint64_t stage_end_ns; // then SIGKILL
    int signals;
    int pidfile;
    int link_lock;
    bool ready;      // was once
    bool unclean;    // the stop was: a child ended otherwise than it should, or had to be killed
    bool tap_wanted; // the tap that the dataplane makes has no address yet
    bool terminal;
    struct torc_fail failure; // what ended the start
    const char *called;       // how the user calls this program
    char record[600];         // of the links that were made
};

static uint64_t serve_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

enum torc_err torc_serve_control(const char *verb, char *const *words, struct torc_fail *why)
{
    char path[TORC_CHILD_PATH_BYTES];
    char copy[16];
    char *argv[260] = {path, copy};
    uint32_t count = 2;
    enum torc_err err = torc_child_find("torc-control", path, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    (void)snprintf(copy, sizeof(copy), "%s", verb);
    for (uint32_t i = 0; words[i] != NULL && count + 1 < TORC_COUNT_OF(argv); i++) {
        argv[count++] = words[i];
    }
    (void)execv(path, argv);
    return torc_fail(why, TORC_ERR_IO, "%.100s: %s", path, strerrordesc_np(errno));
}

enum torc_err torc_serve_demo(char *const *words, struct torc_fail *why)
{
    char path[TORC_CHILD_PATH_BYTES];
    char self[TORC_CHILD_PATH_BYTES];
    char *argv[TORC_ARGS_WORDS_MAX + 2] = {path};
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
    uint32_t count = 1;
    enum torc_err err = torc_child_find("demo", path, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (bytes <= 0) {
        return torc_fail(why, TORC_ERR_IO, "/proc/self/exe: %s", strerrordesc_np(errno));
    }
    self[bytes] = '\0';
    for (uint32_t i = 0; words[i] != NULL && count + 1 < TORC_COUNT_OF(argv); i++) {
        argv[count++] = words[i];
    }
    (void)setenv("TORC_PROGRAM", self, 1); // NOLINT(concurrency-mt-unsafe): one thread
    (void)execv(path, argv);
    return torc_fail(why, TORC_ERR_IO,
                     "%.100s: %s (it needs /usr/bin/python3: apt-get install python3)", path,
                     strerrordesc_np(errno));
}

// -- Before anything runs

static uint32_t serve_workers(const struct torc_settings *settings)
{
    cpu_set_t allowed;
    uint32_t count = 1;

    if (settings->workers != 0) {
        return torc_narrow_u32(settings->workers);
    }
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        count = (uint32_t)CPU_COUNT(&allowed);
    }
    return count > 1 ? count - 1 : 1;
}

// The words for the children: all but --detach.
static char **serve_words(int argc, char **argv)
{
    char **words = calloc((size_t)argc + 1, sizeof(*words));
    uint32_t count = 0;

    for (int i = 1; i < argc && words != NULL; i++) {
        if (strcmp(argv[i], "--detach") != 0) {
            words[count++] = argv[i];
        }
    }
    return words;
}

static enum torc_err serve_find(struct serve *serve, char **words, struct torc_fail *why)
{
    static const char *const names[] = {"torc-dataplane", "torc-control"};
    static const int death_signals[] = {SIGKILL, SIGTERM};
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < SERVE_CHILDREN && err == TORC_ERR_OK; i++) {
        serve->children[i] = (struct torc_child){
            .name = names[i], .words = words, .death_signal = death_signals[i], .pidfd = -1};
        torc_supervise_init(&serve->children[i].supervise, serve_now_ns());
        err = torc_child_find(names[i], serve->children[i].path, why);
    }
    return err;
}

// Makes the data directory when there is none. *status is not 0 when torc-control has said why not.
static enum torc_err serve_make_data(struct serve *serve, int *status, struct torc_fail *why)
{
    struct torc_child *control = &serve->children[SERVE_CONTROL];
    char path[TORC_SETTINGS_TEXT_BYTES + 16];
    enum torc_err err;

    *status = TORC_EXIT_OK;
    (void)snprintf(path, sizeof(path), "%s/torc.node", serve->settings.data);
    if (access(path, F_OK) == 0) {
        return TORC_ERR_OK;
    }
    err = torc_child_start(control, "init", why);
    if (err == TORC_ERR_OK && torc_child_ended(control, true)) {
        *status = WIFEXITED(control->status) ? WEXITSTATUS(control->status) : TORC_EXIT_FAULT;
    }
    return err;
}

// A directory that came back from a backup may lack run/, which holds nothing that lasts. One of
// another owner is left as it is: the start refuses it.
static enum torc_err serve_make_run(const struct serve *serve, struct torc_fail *why)
{
    char path[TORC_SETTINGS_TEXT_BYTES + 16];
    struct stat data;

    (void)snprintf(path, sizeof(path), "%s/run", serve->settings.data);
    if (stat(serve->settings.data, &data) != 0 || data.st_uid != geteuid() ||
        mkdir(path, 0750) == 0 || errno == EEXIST) {
        return TORC_ERR_OK; // or what uses it says why not
    }
    return torc_fail(why, errno == EACCES || errno == EROFS ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                     "%.100s: %s", path, strerrordesc_np(errno));
}

static uint64_t serve_control_stop_ns(const struct serve *serve)
{
    return SERVE_CONTROL_STOP_NS +
           (serve->settings.checkpoint_wait_ms + serve->settings.handover_ms) * 1000000;
}

static enum torc_err serve_prepare(struct serve *serve, struct torc_fail *why)
{
    const char *data = serve->settings.data;
    uint64_t stop_ns = serve_control_stop_ns(serve) + 2 * SERVE_DATAPLANE_STOP_NS; // 2: if killed
    sigset_t signals;
    enum torc_err err = torc_pidfile_take(data, stop_ns / 1000000, &serve->pidfile, why);

    if (err == TORC_ERR_OK) {
        err =
            torc_links_want(&serve->links, &serve->settings, serve_workers(&serve->settings), why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_links_lock(&serve->links, &serve->link_lock, why);
    }
    if (err == TORC_ERR_OK) {
        (void)snprintf(serve->record, sizeof(serve->record), "%s/run/links", data);
        err = torc_links_make(&serve->links, serve->record, true, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_notify_open(&serve->notify, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    serve->children[SERVE_CONTROL].notify = serve->notify.address;
    serve->children[SERVE_DATAPLANE].notify = serve->notify.address;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    serve->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (serve->signals < 0) {
        return torc_fail(why, TORC_ERR_IO, "signalfd: %s", strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

// -- What people see

static void serve_read_address(const struct serve *serve, char *address, uint32_t address_bytes)
{
    char path[TORC_SETTINGS_TEXT_BYTES + 16];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/run/cluster", serve->settings.data);
    file = fopen(path, "re");
    address[0] = '\0';
    if (file != NULL && fgets(address, (int)address_bytes, file) == NULL) {
        address[0] = '\0';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    address[strcspn(address, "\n")] = '\0';
}

static void serve_say_ready(const struct serve *serve)
{
    char address[256];
    char where[TORC_SETTINGS_TEXT_BYTES + 16] = "";
    char metrics[TORC_SETTINGS_TEXT_BYTES + 32] = "";
    char key[TORC_SETTINGS_TEXT_BYTES + 32];
    const char *torc = serve->called;

    if (strcmp(serve->settings.admin_http, "auto") == 0) {
        (void)snprintf(metrics, sizeof(metrics), "  see   http://127.0.0.1:%" PRIu64 "/metrics\n",
                       28600 + serve->settings.node);
    } else if (strcmp(serve->settings.admin_http, "off") != 0) {
        (void)snprintf(metrics, sizeof(metrics), "  see   http://%s/metrics\n",
                       serve->settings.admin_http);
    }
    serve_read_address(serve, address, sizeof(address));
    (void)snprintf(key, sizeof(key), " --key-file %s/local.key", serve->settings.data);
    if (access(key + strlen(" --key-file "), F_OK) != 0) {
        key[0] = '\0'; // a cluster in the clear
    }
    if (serve->settings.source[TORC_SETTING_data] != TORC_SETTING_FROM_DEFAULT) {
        (void)snprintf(where, sizeof(where), " --data %s", serve->settings.data);
    }
    (void)printf("torc: node %" PRIu64 " is ready: %s%s%s, data in %s\n"
                 "  try   %s put 42 forty-two%s\n"
                 "        %s get 42%s\n"
                 "        %s status%s\n"
                 "%s"
                 "  from elsewhere on this machine: %s --cluster %s%s get 42\n"
                 "  stop  %s stop%s%s\n",
                 serve->settings.node, address, serve->links.address6[0] != '\0' ? " and " : "",
                 serve->links.address6, serve->settings.data, torc, where, torc, where, torc, where,
                 metrics, torc, address, key, torc, where,
                 serve->detach.on ? "" : "   (or Ctrl-C here)");
    (void)fflush(stdout);
}

static void serve_on_news(struct serve *serve)
{
    struct torc_notify_news news;

    while (torc_notify_take(&serve->notify, serve->children[SERVE_CONTROL].pid, &news)) {
        if (news.status[0] != '\0' && !serve->ready && serve->terminal) {
            (void)printf("  %s\n", news.status);
            (void)fflush(stdout);
        }
        if (news.ready && serve->stage == SERVE_RUNNING) {
            if (!serve->ready) {
                serve->ready = true;
                serve_say_ready(serve);
                torc_detach_done(&serve->detach, TORC_EXIT_OK);
            }
            (void)sd_notify(0, "READY=1");
        }
    }
}

// -- Children

static void serve_stop(struct serve *serve)
{
    serve->stage = SERVE_STOP_CONTROL;
    serve->stage_end_ns = serve_now_ns() + serve_control_stop_ns(serve);
    torc_supervise_end(&serve->children[SERVE_CONTROL].supervise);
    torc_supervise_end(&serve->children[SERVE_DATAPLANE].supervise);
    torc_child_signal(&serve->children[SERVE_CONTROL], SIGTERM);
}

static void serve_start_child(struct serve *serve, uint32_t index)
{
    struct torc_child *child = &serve->children[index];
    struct torc_fail why = {0};
    uint64_t now_ns = serve_now_ns();
    enum torc_err err = torc_child_start(child, NULL, &why);

    torc_supervise_started(&child->supervise, now_ns);
    if (err != TORC_ERR_OK) {
        torc_log(TORC_LOG_ERROR, "serve", "cannot_start", "%s", why.text);
        (void)torc_supervise_died(&child->supervise, now_ns);
        if (!serve->ready) {
            serve->failure = why;
            serve_stop(serve);
        }
        return;
    }
    serve->tap_wanted = serve->tap_wanted || (serve->links.tap && index == SERVE_DATAPLANE);
    torc_log(TORC_LOG_INFO, "serve", "started", "program=%s pid=%d starts=%" PRIu32, child->name,
             (int)child->pid, child->supervise.deaths + 1);
}

// A child ended although nobody asked it to.
static void serve_child_died(struct serve *serve, struct torc_child *child)
{
    char status[64];
    uint64_t pause_ns;

    torc_child_status(child, status, sizeof(status));
    if (!serve->ready) {
        int code = WIFEXITED(child->status) ? WEXITSTATUS(child->status) : 0;

        // The other one is told to end; what is said last is the first one's.
        serve->failure.err = code == TORC_EXIT_USAGE         ? TORC_ERR_INVALID_ARGUMENT
                             : code == TORC_EXIT_UNAVAILABLE ? TORC_ERR_UNAVAILABLE
                                                             : TORC_ERR_IO;
        (void)snprintf(serve->failure.text, sizeof(serve->failure.text),
                       "%s ended with %s before the node was ready; its lines above say why",
                       child->name, status);
        torc_supervise_end(&child->supervise);
        serve_stop(serve);
        return;
    }
    pause_ns = torc_supervise_died(&child->supervise, serve_now_ns());
    torc_log(TORC_LOG_ERROR, "serve", "child_ended",
             "program=%s end=\"%s\" deaths=%" PRIu32 " again_in_ms=%" PRIu64, child->name, status,
             child->supervise.deaths, pause_ns / 1000000);
}

// A child ended after the node was told to stop.
static void serve_child_stopped(struct serve *serve, const struct torc_child *child)
{
    char status[64];

    if (serve->ready && child->status != 0) {
        serve->unclean = true;
        torc_child_status(child, status, sizeof(status));
        torc_log(TORC_LOG_ERROR, "serve", "child_ended", "program=%s end=\"%s\"", child->name,
                 status);
    }
}

static void serve_reap(struct serve *serve)
{
    for (uint32_t i = 0; i < SERVE_CHILDREN; i++) {
        struct torc_child *child = &serve->children[i];

        if (child->pid == 0 || !torc_child_ended(child, false)) {
            continue;
        }
        if (serve->stage == SERVE_RUNNING) {
            serve_child_died(serve, child);
        } else {
            serve_child_stopped(serve, child);
        }
    }
}

static void serve_start_due(struct serve *serve)
{
    for (uint32_t i = 0; i < SERVE_CHILDREN; i++) {
        if (serve->stage == SERVE_RUNNING &&
            torc_supervise_deadline_ns(&serve->children[i].supervise) <= serve_now_ns()) {
            serve_start_child(serve, i);
        }
    }
    if (serve->tap_wanted && torc_links_tap_ready(&serve->links)) {
        serve->tap_wanted = false;
    }
}

// -- The stop

static void serve_force(struct serve *serve, struct torc_child *child)
{
    if (child->pid == 0) {
        return;
    }
    torc_log(TORC_LOG_ERROR, "serve", "killed", "program=%s pid=%d", child->name, (int)child->pid);
    serve->unclean = true;
    torc_child_signal(child, SIGKILL);
}

static void serve_stop_step(struct serve *serve)
{
    struct torc_child *control = &serve->children[SERVE_CONTROL];
    struct torc_child *dataplane = &serve->children[SERVE_DATAPLANE];
    bool late = serve_now_ns() >= serve->stage_end_ns;

    if (serve->stage == SERVE_STOP_CONTROL) {
        if (control->pid == 0) {
            serve->stage = SERVE_STOP_DATAPLANE;
            serve->stage_end_ns = serve_now_ns() + SERVE_DATAPLANE_STOP_NS;
            torc_child_signal(dataplane, SIGTERM);
        } else if (late) {
            serve_force(serve, control);
            serve->stage_end_ns = serve_now_ns() + SERVE_DATAPLANE_STOP_NS;
        }
    }
    if (serve->stage == SERVE_STOP_DATAPLANE) { // at once: it may have ended before control
        late = serve_now_ns() >= serve->stage_end_ns;
        if (dataplane->pid == 0) {
            serve->stage = SERVE_STOPPED;
        } else if (late) {
            serve_force(serve, dataplane);
            serve->stage_end_ns = serve_now_ns() + SERVE_DATAPLANE_STOP_NS;
        }
    }
}

// Of `torc stop`: asked for again, the stop goes on as it does.
static bool serve_is_verb(const struct signalfd_siginfo *signal)
{
    return signal->ssi_code == SI_QUEUE && signal->ssi_int == TORC_PIDFILE_STOP;
}

static void serve_on_signal(struct serve *serve)
{
    struct signalfd_siginfo signal;

    while (read(serve->signals, &signal, sizeof(signal)) == sizeof(signal)) {
        if (serve->stage == SERVE_RUNNING) {
            // One of them was to be started again: this stop finds nothing to stop in order.
            serve->unclean = serve->ready && (serve->children[SERVE_CONTROL].pid == 0 ||
                                              serve->children[SERVE_DATAPLANE].pid == 0);
            torc_log(TORC_LOG_INFO, "serve", "stopping", "signal=%u", signal.ssi_signo);
            (void)sd_notify(0, "STOPPING=1");
            serve_stop(serve);
        } else if (signal.ssi_signo != SIGHUP && !serve_is_verb(&signal)) {
            serve_force(serve, &serve->children[SERVE_CONTROL]);
            serve_force(serve, &serve->children[SERVE_DATAPLANE]);
        }
    }
}

// -- The loop

static int serve_timeout_ms(const struct serve *serve)
{
    uint64_t deadline_ns = serve->stage == SERVE_RUNNING ? UINT64_MAX : serve->stage_end_ns;
    uint64_t now_ns = serve_now_ns();

    for (uint32_t i = 0; i < SERVE_CHILDREN; i++) {
        deadline_ns =
            torc_min_u64(deadline_ns, torc_supervise_deadline_ns(&serve->children[i].supervise));
    }
    if (serve->tap_wanted) {
        deadline_ns = torc_min_u64(deadline_ns, now_ns + SERVE_TAP_LOOK_NS);
    }
    if (deadline_ns == UINT64_MAX) {
        return -1;
    }
    return deadline_ns <= now_ns ? 0
                                 : (int)torc_min_u64((deadline_ns - now_ns) / 1000000 + 1, 3600000);
}

static void serve_loop(struct serve *serve)
{
    struct pollfd polls[SERVE_POLL_COUNT];

    while (serve->stage != SERVE_STOPPED) {
        serve_start_due(serve);
        polls[SERVE_POLL_SIGNALS] = (struct pollfd){.fd = serve->signals, .events = POLLIN};
        polls[SERVE_POLL_NOTIFY] = (struct pollfd){.fd = serve->notify.fd, .events = POLLIN};
        for (uint32_t i = 0; i < SERVE_CHILDREN; i++) {
            polls[SERVE_POLL_CHILD + i] =
                (struct pollfd){.fd = serve->children[i].pidfd, .events = POLLIN};
        }
        (void)poll(polls, SERVE_POLL_COUNT, serve_timeout_ms(serve));
        serve_on_news(serve); // before its sender is reaped
        serve_reap(serve);
        serve_on_signal(serve);
        serve_stop_step(serve);
    }
}

// -- The whole

static void serve_end(struct serve *serve, int status)
{
    if (serve->record[0] != '\0') {
        torc_links_remove(serve->record);
    }
    torc_notify_close(&serve->notify);
    if (serve->link_lock >= 0) {
        (void)close(serve->link_lock);
    }
    if (serve->pidfile >= 0) {
        torc_pidfile_leave(serve->settings.data, serve->pidfile, status);
    }
}

static int serve_say_failure(const struct torc_fail *why)
{
    (void)fprintf(stderr, "torc: %s\n", why->text);
    return (int)torc_exit_of(why->err);
}

static int serve_run(struct serve *serve)
{
    struct torc_fail why = {0};
    int status = TORC_EXIT_OK;

    if (serve_prepare(serve, &why) != TORC_ERR_OK) {
        status = serve_say_failure(&why);
    } else {
        serve_loop(serve);
        if (serve->failure.err != TORC_ERR_OK) {
            status = serve_say_failure(&serve->failure);
        } else if (serve->unclean) {
            (void)fprintf(stderr, "torc: the stop was not clean; the lines above say why\n");
            status = TORC_EXIT_FAULT;
        }
    }
    serve_end(serve, status);
    torc_detach_done(&serve->detach, status);
    return status;
}

// Those options that end the program at once. True: with *status.
static bool serve_answer(const struct torc_settings *settings,
                         const struct torc_settings_line *line, int *status)
{
    char *text = malloc(TORC_SETTINGS_INI_BYTES);

    *status = text == NULL ? TORC_EXIT_FAULT : TORC_EXIT_OK;
    if (text != NULL && line->help) {
        (void)torc_args_help(TORC_VERB_SERVE, text);
        (void)printf("%s", text);
    } else if (text != NULL && line->version) {
        (void)printf("torc %s\n", torc_version());
    } else if (text != NULL && line->print_config) {
        (void)torc_settings_ini(settings, text, TORC_SETTINGS_INI_BYTES);
        (void)printf("%s", text);
    } else if (text != NULL && line->check_config) {
        (void)printf("torc: the configuration is good\n");
    }
    free(text);
    return text == NULL || line->help || line->version || line->print_config || line->check_config;
}

static int serve_go(struct serve *serve, int argc, char **argv, char **words)
{
    static const char *const flags[] = {"detach", NULL};
    struct torc_settings_line line;
    struct torc_fail why = {0};
    bool first = false;
    int status = TORC_EXIT_OK;
    char log[600];
    enum torc_err err = torc_settings_load(&serve->settings, argc, argv, flags, &line, &why);

    if (err == TORC_ERR_OK && serve_answer(&serve->settings, &line, &status)) {
        return status;
    }
    if (err == TORC_ERR_OK && line.word_count > 0) {
        err = torc_fail(&why, TORC_ERR_INVALID_ARGUMENT, "%.60s: settings begin with --",
                        line.words[0]);
    }
    if (err == TORC_ERR_OK) {
        torc_log_configure((enum torc_log)serve->settings.log_level);
        err = serve_find(serve, words, &why);
    }
    if (err == TORC_ERR_OK) {
        err = serve_make_data(serve, &status, &why);
    }
    if (err == TORC_ERR_OK && status == TORC_EXIT_OK) {
        err = serve_make_run(serve, &why);
    }
    if (err == TORC_ERR_OK && status == TORC_EXIT_OK && (line.flags & 1) != 0) {
        (void)snprintf(log, sizeof(log), "%s/run/serve.log", serve->settings.data);
        err = torc_detach_begin(&serve->detach, log, !torc_pidfile_held(serve->settings.data),
                                &first, &status, &why);
    }
    if (err != TORC_ERR_OK) {
        return serve_say_failure(&why);
    }
    return first || status != TORC_EXIT_OK ? status : serve_run(serve);
}

// A shell's soft limit is 1024: segments, replicas and connections of a large node are more. The
// children inherit it.
static void serve_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); // or as before
    }
}

int torc_serve(int argc, char **argv)
{
    struct serve *serve = calloc(1, sizeof(*serve));
    char **words = serve_words(argc, argv);
    int status = TORC_EXIT_FAULT;

    // Who reads what is said here (a pipe's other end, the command that detached this) may be gone:
    // the node goes on. The children inherit it.
    (void)signal(SIGPIPE, SIG_IGN);
    serve_raise_files();
    if (serve != NULL && words != NULL) {
        serve->called = argv[0];
        serve->signals = -1;
        serve->pidfile = -1;
        serve->link_lock = -1;
        serve->notify.fd = -1;
        serve->terminal = isatty(STDOUT_FILENO) == 1;
        status = serve_go(serve, argc, argv, words);
    }
    free(words);
    free(serve);
    return status;
}
