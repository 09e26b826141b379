// Torc cli: what the verbs share. See cli_os.h.
#include "client/cli/cli_os.h"

#include "client/cli/columns.h"
#include "kit/settings_os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t torc_cli_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

enum torc_err torc_cli_begin(struct torc_cli *cli, const struct torc_args *args,
                             struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;
    int separator = ',';

    cli->args = args;
    cli->show = (struct torc_show){
        .format = args->verb == TORC_VERB_EXPORT ? TORC_SHOW_CSV : TORC_SHOW_TABLE,
        .keys_only = torc_args_given(args, TORC_OPTION_KEYS_ONLY),
        .versions = torc_args_given(args, TORC_OPTION_VERSIONS),
    };
    if (torc_args_given(args, TORC_OPTION_OUTPUT)) {
        err = torc_show_format_parse(args->values[TORC_OPTION_OUTPUT], &cli->show.format, why);
    }
    if (err == TORC_ERR_OK && torc_args_given(args, TORC_OPTION_KEY_FORMAT)) {
        err =
            torc_key_format_parse(args->values[TORC_OPTION_KEY_FORMAT], &cli->show.key_format, why);
    }
    if (err == TORC_ERR_OK && args->verb == TORC_VERB_EXPORT &&
        torc_args_given(args, TORC_OPTION_SEPARATOR)) {
        err = torc_columns_byte(args->values[TORC_OPTION_SEPARATOR], "--separator", false,
                                &separator, why);
    }
    cli->show.separator = (char)separator;
    return err;
}

enum torc_err torc_cli_data(const struct torc_args *args, char *path, uint32_t path_bytes,
                            struct torc_fail *why)
{
    struct torc_settings settings;
    struct torc_settings_line line;
    char *const argv[] = {(char[]){"torc"}, NULL};
    const char *given = args->values[TORC_OPTION_DATA];
    enum torc_err err;

    if (given == NULL) {
        // The servers' own rule for the default.
        err = torc_settings_load(&settings, 1, argv, NULL, &line, why);
        if (err != TORC_ERR_OK) {
            return err;
        }
        given = settings.data;
    }
    if ((size_t)snprintf(path, path_bytes, "%s", given) >= path_bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--data %.60s…: the path is too long",
                         given);
    }
    return TORC_ERR_OK;
}

// The address that `torc serve` left in the data directory.
static enum torc_err cli_read_address(const struct torc_args *args, char **address,
                                      struct torc_fail *why)
{
    char data[512];
    char path[600];
    char line[256] = "";
    FILE *file;
    enum torc_err err = torc_cli_data(args, data, sizeof(data), why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    (void)snprintf(path, sizeof(path), "%s/run/cluster", data);
    file = fopen(path, "re");
    if (file == NULL) {
        return torc_fail(why, TORC_ERR_NOT_CONNECTED,
                         "%.100s: %s; does a node run there? (torc serve --data)", path,
                         strerrordesc_np(errno));
    }
    if (fgets(line, sizeof(line), file) == NULL) {
        line[0] = '\0';
    }
    (void)fclose(file);
    line[strcspn(line, " \t\r\n")] = '\0';
    *address = strdup(line);
    return TORC_ERR_OK;
}

static enum torc_err cli_address(const struct torc_args *args, char **address,
                                 struct torc_fail *why)
{
    const char *given = args->values[TORC_OPTION_CLUSTER];

    if (given == NULL && torc_args_given(args, TORC_OPTION_DATA)) {
        return cli_read_address(args, address, why);
    }
    if (given != NULL) {
        *address = strdup(given);
    }
    return TORC_ERR_OK;
}

// --key-file, or local.key of --data.
static enum torc_err cli_key_file(const struct torc_args *args, char **path, struct torc_fail *why)
{
    const char *given = args->values[TORC_OPTION_KEY_FILE];
    char data[512];
    char local[600];
    enum torc_err err = TORC_ERR_OK;

    if (given != NULL) {
        *path = strdup(given);
    } else if (torc_args_given(args, TORC_OPTION_DATA)) {
        err = torc_cli_data(args, data, sizeof(data), why);
        (void)snprintf(local, sizeof(local), "%s/local.key", err == TORC_ERR_OK ? data : "");
        // A cluster in the clear has none.
        *path = strdup(access(local, F_OK) == 0 ? local : "none");
    }
    return err;
}

enum torc_err torc_cli_where(const struct torc_args *args, struct torc_cli_where *where,
                             struct torc_fail *why)
{
    enum torc_err err;

    *where = (struct torc_cli_where){0};
    err = cli_address(args, &where->address, why);
    if (err == TORC_ERR_OK) {
        err = cli_key_file(args, &where->key_file, why);
    }
    if (err != TORC_ERR_OK) {
        torc_cli_where_free(where);
    }
    return err;
}

void torc_cli_where_free(struct torc_cli_where *where)
{
    free(where->address);
    free(where->key_file);
    *where = (struct torc_cli_where){0};
}

// Microseconds of an option; 0 when it was not given.
static enum torc_err cli_duration_us(const struct torc_args *args, enum torc_option option,
                                     const char *name, uint64_t *us, struct torc_fail *why)
{
    uint64_t ns = 0;
    enum torc_err err = TORC_ERR_OK;

    *us = 0;
    if (torc_args_given(args, option)) {
        err = torc_duration_parse(args->values[option], name, &ns, why);
        *us = ns / 1000;
    }
    return err;
}

enum torc_err torc_cli_timeout(const struct torc_args *args, uint64_t *us, struct torc_fail *why)
{
    enum torc_err err = cli_duration_us(args, TORC_OPTION_TIMEOUT, "--timeout", us, why);

    if (err == TORC_ERR_OK && torc_args_given(args, TORC_OPTION_TIMEOUT)) {
        *us = torc_max_u64(*us, 1);
    }
    return err;
}

enum torc_err torc_cli_stale(const struct torc_args *args, uint64_t *us, struct torc_fail *why)
{
    enum torc_err err = cli_duration_us(args, TORC_OPTION_STALE, "--stale", us, why);

    if (err == TORC_ERR_OK && torc_args_given(args, TORC_OPTION_STALE) &&
        *us < TORC_CLI_STALE_LEAST_US) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "--stale %.40s: at least 1ms; a read without it sees the newest",
                        args->values[TORC_OPTION_STALE]);
    }
    return err;
}

static bool cli_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

enum torc_err torc_cli_open(struct torc_cli *cli, struct torc_fail *why)
{
    struct torc_options options = {0};
    struct torc_message message = {0};
    struct torc_cli_where where = {0};
    enum torc_err err = torc_cli_timeout(cli->args, &options.timeout_us, why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_where(cli->args, &where, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (cli->store != NULL && cli_same_text(where.address, cli->where.address) &&
        cli_same_text(where.key_file, cli->where.key_file) &&
        options.timeout_us == cli->timeout_us) {
        torc_cli_where_free(&where);
        return TORC_ERR_OK;
    }
    torc_close(cli->store);
    cli->store = NULL;
    torc_cli_where_free(&cli->where);
    cli->where = where;
    cli->timeout_us = options.timeout_us;
    options.key_file = where.key_file;
    err = torc_open(where.address, &options, &cli->store, &message);
    if (err != TORC_ERR_OK) {
        cli->store = NULL;
        return torc_fail(why, err, "%.150s", message.text);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_cli_room(struct torc_cli *cli, uint64_t bytes, struct torc_fail *why)
{
    uint8_t *larger;

    if (bytes <= cli->buffer_bytes) {
        return TORC_ERR_OK;
    }
    larger = realloc(cli->buffer, bytes);
    if (larger == NULL) {
        return torc_fail(why, TORC_ERR_INTERNAL, "no memory for %" PRIu64 " bytes", bytes);
    }
    cli->buffer = larger;
    cli->buffer_bytes = bytes;
    return TORC_ERR_OK;
}

enum torc_err torc_cli_write(const void *bytes, uint64_t count, struct torc_fail *why)
{
    if (count > 0 && fwrite(bytes, 1, count, stdout) != count) {
        return torc_fail(why, TORC_ERR_IO, "standard output: %s", strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

void torc_cli_end(struct torc_cli *cli)
{
    torc_close(cli->store);
    torc_cli_where_free(&cli->where);
    free(cli->buffer);
    cli->store = NULL;
    cli->buffer = NULL;
    cli->buffer_bytes = 0;
}

enum torc_err torc_cli_run(struct torc_cli *cli, struct torc_fail *why)
{
    switch (cli->args->verb) {
    case TORC_VERB_PUT: return torc_cli_put(cli, why);
    case TORC_VERB_GET: return torc_cli_get(cli, why);
    case TORC_VERB_DELETE: return torc_cli_delete(cli, why);
    case TORC_VERB_RANGE: return torc_cli_range(cli, why);
    case TORC_VERB_COUNT: return torc_cli_count(cli, why);
    case TORC_VERB_LOAD: return torc_cli_load(cli, why);
    case TORC_VERB_EXPORT: return torc_cli_export(cli, why);
    case TORC_VERB_TRACE: return torc_cli_trace(cli, why);
    case TORC_VERB_BENCH: return torc_cli_bench(cli, why);
    case TORC_VERB_STATUS:
    case TORC_VERB_STATS:
    case TORC_VERB_PLACEMENT:
    case TORC_VERB_CHECKPOINT: return torc_cli_admin(cli, why);
    case TORC_VERB_NODE: return torc_cli_node(cli, why);
    case TORC_VERB_SHARD: return torc_cli_shard(cli, why);
    case TORC_VERB_SESSIONS: return torc_cli_sessions(cli, why);
    case TORC_VERB_KEYS: return torc_cli_keys(cli, why);
    case TORC_VERB_STOP: return torc_cli_stop(cli, why);
    case TORC_VERB_SERVE:
    case TORC_VERB_DEMO:
    case TORC_VERB_INIT:
    case TORC_VERB_VERIFY:
    case TORC_VERB_COMPLETION:
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "torc %s: not from within the shell",
                         torc_verb_name(cli->args->verb));
    case TORC_VERB_HELP:
    case TORC_VERB_COUNT_OF: break;
    }
    torc_unreachable("help and the lack of a verb are main's and the shell's");
}

// -- Progress

void torc_progress_start(struct torc_progress *progress, const char *what, uint64_t total)
{
    *progress = (struct torc_progress){.what = what, .total = total};
    progress->start_ns = torc_cli_now_ns();
    progress->terminal = isatty(STDERR_FILENO) == 1;
}

static void progress_line(const struct torc_progress *progress, uint64_t count, uint64_t done,
                          uint64_t now_ns)
{
    uint64_t spent_ms = (now_ns - progress->start_ns) / 1000000 + 1;

    (void)fprintf(stderr, "\r\033[K%s %" PRIu64 ", %" PRIu64 "/s", progress->what, count,
                  count * 1000 / spent_ms);
    if (progress->total > 0 && done > 0) {
        uint64_t percent = torc_min_u64(done * 100 / progress->total, 100);
        uint64_t left_ms = done >= progress->total ? 0 : spent_ms * (progress->total - done) / done;

        (void)fprintf(stderr, ", %" PRIu64 "%%, %" PRIu64 ".%" PRIu64 " s left", percent,
                      left_ms / 1000, left_ms % 1000 / 100);
    }
    (void)fflush(stderr);
}

void torc_progress_show(struct torc_progress *progress, uint64_t count, uint64_t done)
{
    uint64_t now_ns;

    progress->count = count;
    if (!progress->terminal) {
        return;
    }
    now_ns = torc_cli_now_ns();
    if (now_ns - progress->shown_ns >= 200000000) { // five times a second: calm to look at
        progress->shown_ns = now_ns;
        progress_line(progress, count, done, now_ns);
    }
}

void torc_progress_end(struct torc_progress *progress, uint64_t count)
{
    uint64_t spent_ms = (torc_cli_now_ns() - progress->start_ns) / 1000000 + 1;

    if (progress->terminal) {
        (void)fprintf(
            stderr, "\r\033[K%s %" PRIu64 " in %" PRIu64 ".%" PRIu64 " s, %" PRIu64 "/s\n",
            progress->what, count, spent_ms / 1000, spent_ms % 1000 / 100, count * 1000 / spent_ms);
    }
}
