// Torc cli: `torc load`: the lines of a CSV file as writes, many in flight.
//
// Order   two lines with the same key are not in flight together: the later line's value stays.
// Errors  the first bad line or refused write ends the load: what was in flight is awaited, and the
//         message names the lowest line that failed; all lines before it are stored. The status is
//         that line's, or that of a write in doubt if there is one, whose line is named too.
#include "client/cli/cli_os.h"
#include "client/cli/columns.h"
#include "client/cli/csv.h"
#include "client/cli/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LOAD_READ_BYTES = 256 << 10,
    LOAD_RECORD_BYTES = 17 << 20, // a largest value, quoted, and its key
    LOAD_COMPLETIONS = 256
};

struct load {
    struct torc_cli *cli;
    struct torc_queue *queue;
    struct torc_columns columns;
    struct torc_csv csv;
    struct torc_flight flight;
    struct torc_progress progress;
    struct torc_columns_value value;
    uint8_t *record;
    uint8_t *input;
    uint64_t window;
    uint64_t taken_bytes; // of the file
    uint64_t done;        // writes that ended well
    struct torc_fail why; // of the lowest line whose write failed
};

static enum torc_err load_options(struct load *load, struct torc_csv_options *options,
                                  struct torc_fail *why)
{
    const struct torc_args *args = load->cli->args;
    const char *separator = args->values[TORC_OPTION_SEPARATOR];
    const char *quote = args->values[TORC_OPTION_QUOTE];
    const char *comment = args->values[TORC_OPTION_COMMENT];
    uint64_t key = 0;
    enum torc_err err = torc_args_number(
        args, TORC_OPTION_KEY, (struct torc_args_span){1, 1, TORC_CSV_FIELDS_MAX}, &key, why);

    *options = (struct torc_csv_options){',', '"', '#'};
    if (err == TORC_ERR_OK && separator != NULL) {
        err = torc_columns_byte(separator, "--separator", false, &options->separator, why);
    }
    if (err == TORC_ERR_OK && quote != NULL) {
        err = torc_columns_byte(quote, "--quote", true, &options->quote, why);
    }
    if (err == TORC_ERR_OK && comment != NULL) {
        err = torc_columns_byte(comment, "--comment", true, &options->comment, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_columns_parse(&load->columns, torc_narrow_u32(key), load->cli->show.key_format,
                                 args->values[TORC_OPTION_VALUES], why);
    }
    if (err == TORC_ERR_OK) {
        err =
            torc_args_number(args, TORC_OPTION_WINDOW,
                             (struct torc_args_span){1024, 1, TORC_FLIGHT_MAX}, &load->window, why);
    }
    return err;
}

static void load_ended(struct load *load, const struct torc_completion *completion)
{
    uint32_t slot = torc_narrow_u32(completion->user_data);
    const struct torc_flight_slot *flight = &load->flight.slots[slot];

    if (completion->status == TORC_ERR_OK) {
        load->done++;
    } else if (torc_flight_fail(&load->flight, slot, completion->status)) {
        (void)torc_fail(&load->why, completion->status, "line %" PRIu64 ": key %" PRIu64 ": %.110s",
                        flight->line, flight->key,
                        completion->text != NULL && completion->text[0] != '\0'
                            ? completion->text
                            : torc_err_sentence(completion->status));
    }
    torc_flight_remove(&load->flight, slot);
}

// Waits for something to end.
static void load_reap(struct load *load)
{
    struct torc_completion completions[LOAD_COMPLETIONS];
    unsigned count = torc_wait(load->queue, completions, LOAD_COMPLETIONS, 100000);

    for (unsigned i = 0; i < count; i++) {
        load_ended(load, &completions[i]);
    }
    torc_progress_show(&load->progress, load->done, load->taken_bytes);
}

static void load_drain(struct load *load)
{
    while (load->flight.count > 0) {
        load_reap(load);
    }
}

// What the last reap was given is free after another poll alone.
static enum torc_err load_put(struct load *load, uint64_t key, uint32_t slot)
{
    enum torc_err err =
        torc_prep_put(load->queue, key, load->value.memory, load->value.bytes, slot);

    if (err != TORC_ERR_LIMIT) {
        return err;
    }
    (void)torc_poll(load->queue, NULL, 0);
    return torc_prep_put(load->queue, key, load->value.memory, load->value.bytes, slot);
}

// The record at hand as a write in flight.
static enum torc_err load_record(struct load *load, struct torc_fail *why)
{
    uint64_t key = 0;
    uint32_t slot;
    enum torc_err err = torc_columns_take(&load->columns, &load->csv, &key, &load->value, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    while (load->flight.count == load->window || torc_flight_has(&load->flight, key)) {
        load_reap(load);
    }
    slot = torc_flight_add(&load->flight, key, load->csv.record_line);
    err = load_put(load, key, slot);
    while (err == TORC_ERR_LIMIT && load->flight.count > 1) {
        load_reap(load); // the queue's memory is full
        err = load_put(load, key, slot);
    }
    if (err != TORC_ERR_OK) {
        torc_flight_remove(&load->flight, slot);
        return torc_fail(why, err, "line %" PRIu64 ": %.130s", load->csv.record_line,
                         torc_queue_message(load->queue));
    }
    return load->flight.failed;
}

static enum torc_err load_input(struct load *load, uint64_t count, struct torc_fail *why)
{
    uint64_t at = 0;

    for (;;) {
        uint64_t taken = 0;
        enum torc_csv_event event =
            torc_csv_step(&load->csv, load->input + at, count - at, &taken, why);
        enum torc_err err;

        at += taken;
        load->taken_bytes += taken;
        if (event == TORC_CSV_ERROR) {
            return why->err;
        }
        if (event == TORC_CSV_MORE) {
            return TORC_ERR_OK;
        }
        err = load_record(load, why);
        if (err != TORC_ERR_OK) {
            return err;
        }
    }
}

static enum torc_err load_file(struct load *load, int fd, const char *name, struct torc_fail *why)
{
    enum torc_csv_event event;

    for (;;) {
        ssize_t got = read(fd, load->input, LOAD_READ_BYTES);
        enum torc_err err;

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return torc_fail(why, TORC_ERR_IO, "%.100s: %s", name, strerrordesc_np(errno));
        }
        if (got == 0) {
            break;
        }
        err = load_input(load, (uint64_t)got, why);
        if (err != TORC_ERR_OK) {
            return err;
        }
    }
    event = torc_csv_end(&load->csv, why);
    if (event == TORC_CSV_ERROR) {
        return why->err;
    }
    if (event == TORC_CSV_MORE) {
        return TORC_ERR_OK;
    }
    // Other programs write files so; but a copy that was cut short ends so as well.
    (void)fprintf(stderr,
                  "torc: line %" PRIu64 ", the last one, has no line end: if the file was cut "
                  "there, its value is, too\n",
                  load->csv.record_line);
    return load_record(load, why);
}

static enum torc_err load_connect(struct load *load, struct torc_fail *why)
{
    struct torc_options options = {.operations = TORC_FLIGHT_MAX};
    struct torc_message message = {0};
    struct torc_cli_where where = {0};
    enum torc_err err = torc_cli_timeout(load->cli->args, &options.timeout_us, why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_where(load->cli->args, &where, why);
    }
    if (err == TORC_ERR_OK) {
        options.key_file = where.key_file;
        err = torc_queue_open(where.address, &options, &load->queue, &message);
        if (err != TORC_ERR_OK) {
            load->queue = NULL;
            err = torc_fail(why, err, "%.150s", message.text);
        }
    }
    torc_cli_where_free(&where);
    if (err == TORC_ERR_OK) {
        err = torc_queue_ready(load->queue, 0);
        if (err != TORC_ERR_OK) {
            (void)torc_fail(why, err, "%.150s", torc_queue_message(load->queue));
        }
    }
    return err;
}

// What is said of the whole load when a write of it failed.
static enum torc_err load_failed(const struct load *load, struct torc_fail *why)
{
    const struct torc_flight *flight = &load->flight;

    if (flight->doubt_line == 0 || flight->doubt_line == flight->failed_line) {
        return torc_fail(why, flight->failed, "%s", load->why.text);
    }
    return torc_fail(why, flight->failed, "%.119s; line %" PRIu64 " is in doubt", load->why.text,
                     flight->doubt_line);
}

static enum torc_err load_all(struct load *load, struct torc_fail *why)
{
    const char *name = load->cli->args->words[0];
    struct stat status = {0};
    bool standard = strcmp(name, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    enum torc_err err;

    if (fd < 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.100s: %s", name,
                         strerrordesc_np(errno));
    }
    err = load_connect(load, why);
    if (err == TORC_ERR_OK) {
        (void)fstat(fd, &status);
        torc_progress_start(&load->progress, "loaded",
                            S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0);
        err = load_file(load, fd, name, why);
        load_drain(load);
        if (load->flight.failed != TORC_ERR_OK) { // the answer, also when a later line was bad
            err = load_failed(load, why);
        }
        torc_progress_end(&load->progress, load->done);
    }
    if (!standard) {
        (void)close(fd);
    }
    torc_queue_close(load->queue);
    return err;
}

enum torc_err torc_cli_load(struct torc_cli *cli, struct torc_fail *why)
{
    struct load *load = calloc(1, sizeof(*load));
    struct torc_csv_options options;
    enum torc_err err;

    if (load == NULL) {
        return torc_fail(why, TORC_ERR_INTERNAL, "no memory");
    }
    load->cli = cli;
    load->record = malloc(LOAD_RECORD_BYTES);
    load->value.memory = malloc(LOAD_RECORD_BYTES);
    load->value.capacity = LOAD_RECORD_BYTES;
    load->input = malloc(LOAD_READ_BYTES);
    torc_flight_init(&load->flight);
    if (load->record == NULL || load->value.memory == NULL || load->input == NULL) {
        err = torc_fail(why, TORC_ERR_INTERNAL, "no memory");
        goto out;
    }
    err = load_options(load, &options, why);
    if (err == TORC_ERR_OK) {
        err = torc_csv_init(&load->csv, options, load->record, LOAD_RECORD_BYTES, why);
    }
    if (err == TORC_ERR_OK) {
        err = load_all(load, why);
    }
out:
    free(load->input);
    free(load->value.memory);
    free(load->record);
    free(load);
    return err;
}
