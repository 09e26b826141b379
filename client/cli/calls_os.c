// Torc cli: the verbs that ask a store: put, get, delete, range, count, export.
#include "client/cli/cli_os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum torc_err torc_cli_fail(const struct torc_cli *cli, enum torc_err err, struct torc_fail *why)
{
    const char *text = torc_message(cli->store);

    return torc_fail(why, err, "%.150s", text[0] != '\0' ? text : torc_err_sentence(err));
}

enum torc_err torc_cli_key(const struct torc_cli *cli, uint32_t word, const char *what,
                           uint64_t *key, struct torc_fail *why)
{
    const char *text = cli->args->words[word];

    return torc_key_parse(text, strlen(text), cli->show.key_format, what, key, why);
}

// -- put

// All bytes of a file, or of standard input, into cli->buffer.
static enum torc_err calls_read_all(struct torc_cli *cli, int fd, const char *name, uint64_t *bytes,
                                    struct torc_fail *why)
{
    const uint64_t most = (UINT64_C(16) << 20) + 1; // over the largest value there can be

    *bytes = 0;
    while (*bytes < most) {
        enum torc_err err = torc_cli_room(cli, torc_max_u64(2 * *bytes, 65536), why);
        ssize_t got;

        if (err != TORC_ERR_OK) {
            return err;
        }
        got = read(fd, cli->buffer + *bytes, cli->buffer_bytes - *bytes);
        if (got < 0 && errno != EINTR) {
            return torc_fail(why, TORC_ERR_IO, "%.100s: %s", name, strerrordesc_np(errno));
        }
        if (got == 0) {
            return TORC_ERR_OK;
        }
        *bytes += got > 0 ? (uint64_t)got : 0;
    }
    return torc_fail(why, TORC_ERR_TOO_LARGE, "%.100s: over 16 MiB, larger than any value", name);
}

enum torc_err torc_cli_value(struct torc_cli *cli, const char *word, const void **data,
                             uint64_t *bytes, struct torc_fail *why)
{
    enum torc_err err;
    int fd = STDIN_FILENO;

    if (strcmp(word, "-") != 0 && word[0] != '@') {
        *data = word;
        *bytes = strlen(word);
        return TORC_ERR_OK;
    }
    if (word[0] == '@') {
        fd = open(word + 1, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.100s: %s", word + 1,
                             strerrordesc_np(errno));
        }
    }
    err = calls_read_all(cli, fd, word[0] == '@' ? word + 1 : "standard input", bytes, why);
    *data = cli->buffer;
    if (word[0] == '@') {
        (void)close(fd);
    }
    return err;
}

static enum torc_err calls_condition(const struct torc_args *args,
                                     struct torc_write_options *options, struct torc_fail *why)
{
    bool absent = torc_args_given(args, TORC_OPTION_IF_ABSENT);
    bool present = torc_args_given(args, TORC_OPTION_IF_PRESENT);
    bool version = torc_args_given(args, TORC_OPTION_IF_VERSION);

    *options = (struct torc_write_options){0};
    if ((absent ? 1 : 0) + (present ? 1 : 0) + (version ? 1 : 0) > 1) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--if-absent, --if-present and --if-version: only one of them");
    }
    options->condition = absent    ? TORC_IF_ABSENT
                         : present ? TORC_IF_PRESENT
                         : version ? TORC_IF_VERSION
                                   : TORC_ALWAYS;
    return torc_args_number(args, TORC_OPTION_IF_VERSION, (struct torc_args_span){0, 0, UINT64_MAX},
                            &options->version, why);
}

// The version of a write, for programs; people see nothing when all went well.
static enum torc_err calls_show_write(const struct torc_cli *cli, uint64_t key, uint64_t version,
                                      struct torc_fail *why)
{
    char text[TORC_KEY_TEXT_BYTES];
    char line[128];
    bool quoted = cli->show.key_format != TORC_KEY_DEC;
    int length;

    (void)torc_key_show(key, cli->show.key_format, text);
    switch (cli->show.format) {
    case TORC_SHOW_JSON:
        length = snprintf(line, sizeof(line), "{\"key\":%s%s%s,\"version\":%" PRIu64 "}\n",
                          quoted ? "\"" : "", text, quoted ? "\"" : "", version);
        return torc_cli_write(line, (uint64_t)length, why);
    case TORC_SHOW_CSV:
        length = snprintf(line, sizeof(line), "%s,%" PRIu64 "\n", text, version);
        return torc_cli_write(line, (uint64_t)length, why);
    case TORC_SHOW_TABLE:
    case TORC_SHOW_RAW: return TORC_ERR_OK;
    }
    torc_unreachable("a format of the table");
}

static enum torc_err calls_condition_failed(const struct torc_cli *cli, uint64_t key,
                                            uint64_t version, struct torc_fail *why)
{
    char text[TORC_KEY_TEXT_BYTES];

    (void)torc_key_show(key, cli->show.key_format, text);
    if (version == 0) {
        return torc_fail(why, TORC_ERR_CONDITION_FAILED, "key %s has no value; nothing was changed",
                         text);
    }
    return torc_fail(why, TORC_ERR_CONDITION_FAILED,
                     "key %s has version %" PRIu64 "; nothing was changed", text, version);
}

enum torc_err torc_cli_put(struct torc_cli *cli, struct torc_fail *why)
{
    struct torc_write_options options;
    const void *data = NULL;
    uint64_t bytes = 0;
    uint64_t key = 0;
    uint64_t version = 0;
    enum torc_err err = torc_cli_key(cli, 0, "KEY", &key, why);

    if (err == TORC_ERR_OK) {
        err = calls_condition(cli->args, &options, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_value(cli, cli->args->words[1], &data, &bytes, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_open(cli, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_put_if(cli->store, key, data, bytes, &options, &version);
    if (err == TORC_ERR_CONDITION_FAILED) {
        return calls_condition_failed(cli, key, version, why);
    }
    return err == TORC_ERR_OK ? calls_show_write(cli, key, version, why)
                              : torc_cli_fail(cli, err, why);
}

// -- get and delete

static enum torc_err calls_missing(const struct torc_cli *cli, uint64_t key, struct torc_fail *why)
{
    char text[TORC_KEY_TEXT_BYTES];

    (void)torc_key_show(key, cli->show.key_format, text);
    return torc_fail(why, TORC_ERR_NOT_FOUND, "key %s has no value", text);
}

static enum torc_err calls_get_one(struct torc_cli *cli, uint64_t key,
                                   const struct torc_read_options *options, struct torc_fail *why)
{
    bool alone = cli->args->word_count == 1;
    struct torc_value value = {0};
    struct torc_show_pair pair = {.key = key};
    enum torc_err err = torc_get_with(cli->store, key, options, &value);
    uint64_t shown;

    if (err != TORC_ERR_OK) {
        return err == TORC_ERR_NOT_FOUND ? calls_missing(cli, key, why)
                                         : torc_cli_fail(cli, err, why);
    }
    pair.value = value.data;
    pair.value_bytes = torc_narrow_u32(value.bytes);
    pair.version = value.version;
    err = torc_cli_room(cli, torc_show_room(value.bytes), why);
    if (err == TORC_ERR_OK) {
        shown = alone ? torc_show_value(&cli->show, &pair, cli->buffer, cli->buffer_bytes)
                      : torc_show_pair(&cli->show, &pair, cli->buffer, cli->buffer_bytes);
        err = torc_cli_write(cli->buffer, shown, why);
    }
    torc_value_free(&value);
    return err;
}

static enum torc_err calls_delete_one(struct torc_cli *cli, uint64_t key,
                                      const struct torc_write_options *options,
                                      struct torc_fail *why)
{
    uint64_t version = 0;
    enum torc_err err = torc_delete_if(cli->store, key, options, &version);

    if (err == TORC_ERR_NOT_FOUND) {
        return calls_missing(cli, key, why);
    }
    if (err == TORC_ERR_CONDITION_FAILED) {
        return calls_condition_failed(cli, key, version, why);
    }
    return err == TORC_ERR_OK ? calls_show_write(cli, key, version, why)
                              : torc_cli_fail(cli, err, why);
}

// All keys of the command line; goes on after one that has no value, and says so at the end.
static enum torc_err calls_each_key(struct torc_cli *cli, const struct torc_read_options *reads,
                                    const struct torc_write_options *options, struct torc_fail *why)
{
    enum torc_err result = TORC_ERR_OK;
    uint64_t key = 0;

    for (uint32_t i = 0; i < cli->args->word_count; i++) {
        enum torc_err err = torc_cli_key(cli, i, "KEY", &key, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
    }
    for (uint32_t i = 0; i < cli->args->word_count; i++) {
        enum torc_err err = torc_cli_key(cli, i, "KEY", &key, why);

        if (err == TORC_ERR_OK) {
            err = torc_cli_open(cli, why);
        }
        if (err == TORC_ERR_OK) {
            err = options == NULL ? calls_get_one(cli, key, reads, why)
                                  : calls_delete_one(cli, key, options, why);
        }
        if (err != TORC_ERR_OK && err != TORC_ERR_NOT_FOUND) {
            return err;
        }
        if (err == TORC_ERR_NOT_FOUND) {
            result = err;
        }
    }
    return result;
}

enum torc_err torc_cli_get(struct torc_cli *cli, struct torc_fail *why)
{
    struct torc_read_options options = {0};
    enum torc_err err = torc_cli_stale(cli->args, &options.max_age_us, why);

    return err == TORC_ERR_OK ? calls_each_key(cli, &options, NULL, why) : err;
}

enum torc_err torc_cli_delete(struct torc_cli *cli, struct torc_fail *why)
{
    struct torc_write_options options;
    enum torc_err err = calls_condition(cli->args, &options, why);

    return err == TORC_ERR_OK ? calls_each_key(cli, NULL, &options, why) : err;
}

// -- range, count, export

struct calls_bounds {
    uint64_t lo;
    uint64_t hi;
    uint64_t limit; // 0: none
};

static enum torc_err calls_read_bounds(const struct torc_cli *cli, struct calls_bounds *bounds,
                                       struct torc_fail *why)
{
    enum torc_err err = torc_cli_key(cli, 0, "START", &bounds->lo, why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_key(cli, 1, "END", &bounds->hi, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_args_number(cli->args, TORC_OPTION_LIMIT,
                               (struct torc_args_span){0, 1, UINT64_MAX}, &bounds->limit, why);
    }
    if (err == TORC_ERR_OK && bounds->lo > bounds->hi) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "START %.40s is greater than END %.40s",
                         cli->args->words[0], cli->args->words[1]);
    }
    return err;
}

static enum torc_err calls_range_options(const struct torc_args *args,
                                         struct torc_range_options *options, struct torc_fail *why)
{
    const char *consistency = args->values[TORC_OPTION_CONSISTENCY];

    *options = (struct torc_range_options){0};
    options->flags |= torc_args_given(args, TORC_OPTION_REVERSE) ? TORC_REVERSE : 0;
    options->flags |= torc_args_given(args, TORC_OPTION_KEYS_ONLY) ? TORC_KEYS_ONLY : 0;
    options->flags |= torc_args_given(args, TORC_OPTION_VERSIONS) ? TORC_WITH_VERSIONS : 0;
    if (consistency == NULL || strcmp(consistency, "shard") == 0) {
        options->consistency = TORC_SHARD;
    } else if (strcmp(consistency, "snapshot") == 0) {
        options->consistency = TORC_SNAPSHOT;
    } else {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--consistency %.40s: shard or snapshot",
                         consistency);
    }
    if (torc_args_given(args, TORC_OPTION_STALE) && options->consistency == TORC_SNAPSHOT) {
        return torc_fail(
            why, TORC_ERR_INVALID_ARGUMENT,
            "--stale %.40s: not with --consistency snapshot, which is the newest moment",
            args->values[TORC_OPTION_STALE]);
    }
    if (torc_args_given(args, TORC_OPTION_STALE)) {
        options->consistency = TORC_STALE;
    }
    return torc_cli_stale(args, &options->max_age_us, why);
}

static enum torc_err calls_show_page(struct torc_cli *cli, const struct torc_page *page,
                                     struct torc_fail *why)
{
    for (size_t i = 0; i < page->count; i++) {
        const struct torc_row *row = &page->rows[i];
        struct torc_show_pair pair = {row->key, row->version, row->data,
                                      torc_narrow_u32(row->bytes)};
        enum torc_err err = torc_cli_room(cli, torc_show_room(row->bytes), why);

        if (err == TORC_ERR_OK) {
            err = torc_cli_write(cli->buffer,
                                 torc_show_pair(&cli->show, &pair, cli->buffer, cli->buffer_bytes),
                                 why);
        }
        if (err != TORC_ERR_OK) {
            return err;
        }
    }
    return TORC_ERR_OK;
}

// Page after page, so that a range larger than any memory goes through.
static enum torc_err calls_pages(struct torc_cli *cli, const struct calls_bounds *bounds,
                                 struct torc_range_options *options, struct torc_progress *progress,
                                 struct torc_fail *why)
{
    struct torc_page page = {.next_lo = bounds->lo, .next_hi = bounds->hi, .more = true};
    uint64_t shown = 0;
    enum torc_err err = TORC_ERR_OK;

    while (page.more && err == TORC_ERR_OK) {
        options->limit = bounds->limit == 0 ? 0 : bounds->limit - shown;
        err = torc_range(cli->store, page.next_lo, page.next_hi, options, &page);
        if (err != TORC_ERR_OK) {
            err = torc_cli_fail(cli, err, why);
        } else {
            err = calls_show_page(cli, &page, why);
            shown += page.count;
            options->timestamp = page.timestamp; // of a snapshot: all pages are of one moment
        }
        torc_page_free(&page);
        if (err == TORC_ERR_OK && bounds->limit != 0 && shown >= bounds->limit) {
            break;
        }
        torc_progress_show(progress, shown, page.next_lo - bounds->lo);
    }
    return err;
}

// Keys of a table stand under each other: as wide as the widest there can be.
static uint32_t calls_columns(const struct torc_cli *cli, const struct calls_bounds *bounds)
{
    struct torc_limits limits = {0};
    uint64_t most = bounds->hi;
    char text[TORC_KEY_TEXT_BYTES];

    if (torc_limits(cli->store, &limits) == TORC_ERR_OK && limits.keys > 0) {
        most = torc_min_u64(most, limits.keys);
    }
    if (cli->show.key_format == TORC_KEY_IP) {
        return (uint32_t)strlen("255.255.255.255");
    }
    return torc_key_show(most == 0 ? 0 : most - 1, cli->show.key_format, text);
}

enum torc_err torc_cli_range(struct torc_cli *cli, struct torc_fail *why)
{
    struct calls_bounds bounds = {0};
    struct torc_range_options options;
    struct torc_progress progress = {0};
    enum torc_err err;

    err = calls_range_options(cli->args, &options, why);
    if (err == TORC_ERR_OK && torc_args_given(cli->args, TORC_OPTION_COUNT)) {
        return torc_cli_count(cli, why);
    }
    if (err == TORC_ERR_OK) {
        err = calls_read_bounds(cli, &bounds, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_open(cli, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    cli->show.key_columns = calls_columns(cli, &bounds);
    return calls_pages(cli, &bounds, &options, &progress, why);
}

enum torc_err torc_cli_export(struct torc_cli *cli, struct torc_fail *why)
{
    struct calls_bounds bounds = {0};
    struct torc_range_options options;
    struct torc_progress progress;
    enum torc_err err = calls_read_bounds(cli, &bounds, why);

    if (err == TORC_ERR_OK) {
        err = calls_range_options(cli->args, &options, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_open(cli, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_progress_start(&progress, "exported", bounds.hi - bounds.lo);
    progress.terminal = progress.terminal && isatty(STDOUT_FILENO) != 1; // not amid the rows
    err = calls_pages(cli, &bounds, &options, &progress, why);
    torc_progress_end(&progress, progress.count);
    return err;
}

enum torc_err torc_cli_count(struct torc_cli *cli, struct torc_fail *why)
{
    struct calls_bounds bounds = {0};
    struct torc_range_options options;
    uint64_t count = 0;
    char line[64];
    int length;
    enum torc_err err = calls_read_bounds(cli, &bounds, why);

    if (err == TORC_ERR_OK) {
        err = calls_range_options(cli->args, &options, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_open(cli, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    options.flags = 0;
    err = torc_count_with(cli->store, bounds.lo, bounds.hi, &options, &count);
    if (err != TORC_ERR_OK) {
        return torc_cli_fail(cli, err, why);
    }
    length = snprintf(
        line, sizeof(line),
        cli->show.format == TORC_SHOW_JSON ? "{\"count\":%" PRIu64 "}\n" : "%" PRIu64 "\n", count);
    return torc_cli_write(line, (uint64_t)length, why);
}
