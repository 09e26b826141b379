// Torc dataplane: the program torc-dataplane.
//
// What    reads settings, starts the node (dataplane/node_dpdk.h), hands the channel to control,
//         and ends at SIGTERM or SIGINT.
// Parent  `torc serve` or systemd. The process does not restart itself and asks for nothing when
//         its parent dies: `torc serve` sets PR_SET_PDEATHSIG on it, systemd ends the unit's group.
// Control its death is noted and changes nothing here: reads go on, writes get BUSY after the grace
//         time, a new control attaches (docs/OPERATIONS.md).
// Status  0 after a signal; 2 the settings are wrong; 3 another dataplane is there; 6 a fault. The
//         last line on standard error says why.
#include "dataplane/account_dpdk.h"
#include "dataplane/node_dpdk.h"
#include "dataplane/touch_dpdk.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"
#include "kit/settings_os.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    MAIN_OK = 0,
    MAIN_USAGE = 2,
    MAIN_UNAVAILABLE = 3,
    MAIN_FAULT = 6,
};

static int main_status(enum torc_err err)
{
    if (err == TORC_ERR_OK) {
        return MAIN_OK;
    }
    if (err == TORC_ERR_INVALID_ARGUMENT || err == TORC_ERR_UNSUPPORTED ||
        err == TORC_ERR_FORBIDDEN || err == TORC_ERR_TOO_LARGE) {
        return MAIN_USAGE;
    }
    return err == TORC_ERR_IN_USE || torc_err_retryable(err) ? MAIN_UNAVAILABLE : MAIN_FAULT;
}

static int main_refuse(enum torc_err err, const struct torc_fail *why)
{
    (void)fprintf(stderr, "torc-dataplane: %s\n", why->text);
    return main_status(err);
}

static void main_help(void)
{
    (void)printf("usage: torc-dataplane [--config FILE] [--KEY VALUE]…\n"
                 "Serves a node's shards; `torc serve` and systemd start it beside torc-control.\n"
                 "  --check-config  look at the settings and end\n"
                 "  --print-config  all settings, as a commented INI file\n"
                 "  --version\n");
}

// What the command line asks for instead of serving; true when that was it.
static bool main_answer(const struct torc_settings *settings, const struct torc_settings_line *line)
{
    static char ini[TORC_SETTINGS_INI_BYTES];

    if (line->help) {
        main_help();
    } else if (line->version) {
        (void)printf("torc-dataplane %s\n", TORC_VERSION);
    } else if (line->print_config) {
        (void)torc_settings_ini(settings, ini, sizeof(ini));
        (void)fputs(ini, stdout);
    } else if (line->check_config) {
        (void)printf("torc-dataplane: the settings are fine\n");
    } else {
        return false;
    }
    return true;
}

// SIGTERM and SIGINT as a descriptor; blocked before any thread exists, so that none is
// interrupted.
static int main_signals(struct torc_fail *why)
{
    sigset_t signals;
    int fd;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    if (pthread_sigmask(SIG_BLOCK, &signals, NULL) != 0) {
        (void)torc_fail(why, TORC_ERR_IO, "signals cannot be blocked");
        return -1;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        (void)torc_fail(why, TORC_ERR_IO, "signalfd: %s", strerrordesc_np(errno));
    }
    return fd;
}

static void main_listen(struct torc_node *node, uint64_t now_ns)
{
    struct torc_channel_self self = torc_node_self(node);
    struct torc_fail why = {0};

    switch (torc_channel_step(&node->channel, now_ns, &self, &why)) {
    case TORC_CHANNEL_NOTHING: break;
    case TORC_CHANNEL_ATTACHED:
        torc_log(TORC_LOG_INFO, "channel", "attached", "control=%" PRIu32,
                 node->channel.control_pid);
        break;
    case TORC_CHANNEL_REFUSED:
        torc_log(TORC_LOG_WARN, "channel", "refused", "text=\"%s\"", why.text);
        break;
    case TORC_CHANNEL_LOST:
        torc_log(TORC_LOG_WARN, "channel", "lost",
                 "control=%" PRIu32 " text=\"control is gone; reads go on\"",
                 node->channel.control_pid);
        break;
    }
}

// Until a signal comes; its number.
static uint32_t main_serve(struct torc_node *node, int signals)
{
    for (;;) {
        struct pollfd fds[1 + TORC_CHANNEL_POLL_MAX] = {{.fd = signals, .events = POLLIN}};
        struct signalfd_siginfo got = {0};
        int timeout_ms = -1;
        uint32_t count =
            torc_channel_poll_fds(&node->channel, torc_clock_now_ns(), fds + 1, &timeout_ms);

        torc_account_step(node, torc_clock_now_ns(), &timeout_ms);
        torc_touch_step(node, torc_clock_now_ns(), &timeout_ms);
        (void)poll(fds, 1 + count, timeout_ms);
        if (read(signals, &got, sizeof(got)) == (ssize_t)sizeof(got)) {
            return got.ssi_signo;
        }
        main_listen(node, torc_clock_now_ns());
    }
}

int main(int argc, char **argv)
{
    static struct torc_settings settings;
    static struct torc_node node;
    struct torc_settings_line line;
    struct torc_fail why = {0};
    enum torc_err err = torc_settings_load(&settings, argc, argv, NULL, &line, &why);
    uint32_t signal_number;
    int signals;

    if (err == TORC_ERR_OK && line.word_count > 0) {
        err = torc_fail(&why, TORC_ERR_INVALID_ARGUMENT, "\"%.60s\": no such option, see --help",
                        line.words[0]);
    }
    if (err != TORC_ERR_OK) {
        return main_refuse(err, &why);
    }
    if (main_answer(&settings, &line)) {
        return MAIN_OK;
    }
    torc_log_configure((enum torc_log)settings.log_level);
    signals = main_signals(&why);
    if (signals < 0) {
        return main_refuse(TORC_ERR_IO, &why);
    }
    err = torc_node_open(&node, &settings, &why);
    if (err != TORC_ERR_OK) {
        (void)close(signals);
        return main_refuse(err, &why);
    }
    signal_number = main_serve(&node, signals);
    torc_log(TORC_LOG_INFO, "dataplane", "stopping", "signal=%" PRIu32, signal_number);
    torc_node_close(&node);
    (void)close(signals);
    return MAIN_OK;
}
