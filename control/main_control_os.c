// Torc control: program torc-control.
//
//     torc-control [serve] [--SETTING VALUE…]   serve one data directory
//     torc-control init [--SETTING VALUE…]      make a cluster of one node in it
//     torc-control check [--SETTING VALUE…]     look for damage in it, without changing anything
//
// What    command line, exit status, one call each.
#include "control/check_os.h"
#include "control/node_os.h"
#include "kit/log_os.h"
#include "kit/settings_os.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    EXIT_USAGE = 2, // the numbers of `torc` (client/cli/args.h)
    EXIT_UNAVAILABLE = 3,
    EXIT_FAULT = 6
};

static const char main_help[] =
    "usage: torc-control [serve|init|check] [--config FILE] [--SETTING VALUE]...\n"
    "\n"
    "  serve    serve the data directory (the default); an empty one is made a node first\n"
    "  init     make an empty data directory a node of its cluster, which is made too if\n"
    "           there is none (settings: metastore, nodes), and end\n"
    "  check    (or verify) look for damage in a data directory that is not served, and end\n"
    "\n"
    "  --check-config   say what is wrong with the settings, or nothing, and end\n"
    "  --print-config   print them as a commented INI file, and end\n"
    "  --version        print the version, and end\n"
    "\n"
    "Signals: TERM and INT stop the node cleanly (a second one skips checkpoints); USR1 leaves\n"
    "the dataplane running, for a restart of this program alone.\n"
    "Exit status: 0 done, 2 a setting or the directory is refused, 3 in use, no space, or the\n"
    "metastore does not answer, 6 damage, a fault or a stop that was not clean.\n"
    "Settings: --print-config lists them all with their meaning.\n";

static int main_status(enum torc_err err)
{
    static const struct {
        enum torc_err err;
        int status;
    } statuses[] = {{TORC_ERR_OK, 0},
                    {TORC_ERR_INVALID_ARGUMENT, EXIT_USAGE},
                    {TORC_ERR_FORBIDDEN, EXIT_USAGE},
                    {TORC_ERR_UNSUPPORTED, EXIT_USAGE},
                    {TORC_ERR_NOT_FOUND, EXIT_USAGE},
                    {TORC_ERR_IN_USE, EXIT_UNAVAILABLE},
                    {TORC_ERR_NO_SPACE, EXIT_UNAVAILABLE},
                    {TORC_ERR_IN_DOUBT, EXIT_UNAVAILABLE}, // of the metastore: a start asks again
                    {TORC_ERR_UNAVAILABLE, EXIT_UNAVAILABLE}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(statuses); i++) {
        if (statuses[i].err == err) {
            return statuses[i].status;
        }
    }
    return EXIT_FAULT;
}

static enum torc_err main_init(const struct torc_settings *settings, struct torc_fail *why)
{
    static const char *const durabilities[] = {"durable", "replicated", "none"};
    struct torc_meta_fields meta;
    enum torc_err err = torc_registry_make(settings, &meta, why);

    if (err == TORC_ERR_OK) {
        (void)printf("made node %" PRIu64 " of cluster %016" PRIx64 " in %s: keys %" PRIu64
                     ", shards %" PRIu64 ", durability %s\n",
                     settings->node, meta.cluster, settings->data, meta.keys, meta.shards,
                     durabilities[torc_min_u64(meta.durability, 2)]);
    }
    return err;
}

static enum torc_err main_serve(const struct torc_settings *settings, struct torc_fail *why)
{
    struct torc_node *node = calloc(1, sizeof(*node));
    enum torc_err err;

    torc_assert(node != NULL);
    // Both are answered where they happen: a peer that hung up, a file over the limit of its size.
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    err = torc_node_open(node, settings, why);
    if (err == TORC_ERR_OK) {
        torc_log(TORC_LOG_INFO, "node", "started", "version=%s data=%s node=%" PRIu32 " pid=%d",
                 TORC_VERSION, settings->data, node->dir.node, (int)getpid());
        err = torc_node_run(node, why);
        torc_node_close(node);
    }
    free(node);
    return err;
}

static enum torc_err main_print_config(const struct torc_settings *settings)
{
    char *text = malloc(TORC_SETTINGS_INI_BYTES);

    torc_assert(text != NULL);
    (void)torc_settings_ini(settings, text, TORC_SETTINGS_INI_BYTES);
    (void)fputs(text, stdout);
    free(text);
    return TORC_ERR_OK;
}

static enum torc_err main_run(const struct torc_settings *settings,
                              const struct torc_settings_line *line, struct torc_fail *why)
{
    const char *verb = line->word_count > 0 ? line->words[0] : "serve";

    if (line->word_count > 1) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "\"%.60s\": one verb expected",
                         line->words[1]);
    }
    if (line->print_config) {
        return main_print_config(settings);
    }
    if (line->check_config) {
        struct torc_network network;
        enum torc_err err = torc_network_of(&network, settings, why);

        if (err == TORC_ERR_OK) {
            (void)printf("settings are good\n");
        }
        return err;
    }
    if (strcmp(verb, "serve") == 0) {
        return main_serve(settings, why);
    }
    if (strcmp(verb, "init") == 0) {
        return main_init(settings, why);
    }
    if (strcmp(verb, "check") == 0 || strcmp(verb, "verify") == 0) {
        return torc_check_directory(settings, why);
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "\"%.60s\": serve, init or check expected",
                     verb);
}

int main(int argc, char **argv)
{
    struct torc_settings settings;
    struct torc_settings_line line;
    struct torc_fail why = {0};
    enum torc_err err = torc_settings_load(&settings, argc, argv, NULL, &line, &why);

    if (line.help) {
        (void)fputs(main_help, stdout);
        return 0;
    }
    if (line.version) {
        (void)printf("torc-control %s\n", TORC_VERSION);
        return 0;
    }
    if (err == TORC_ERR_OK) {
        torc_log_configure((enum torc_log)settings.log_level);
        err = main_run(&settings, &line, &why);
    }
    if (err != TORC_ERR_OK) {
        (void)fprintf(stderr, "torc-control: %s\n", why.text);
    }
    return main_status(err);
}
