// Torc cli: the verb trace: one request, and where its time went.
#include "client/cli/cli_os.h"
#include "client/cli/trace.h"

#include <stdlib.h>
#include <string.h>

#define TRACE_GETS_MAX 100000u

struct trace_job {
    const char *verb;
    uint64_t key;
    const void *data;
    uint64_t bytes;
    uint32_t count;
    struct torc_trace *traces; // count
    uint64_t *numbers;         // count
};

static enum torc_err trace_once(const struct torc_cli *cli, const struct trace_job *job)
{
    struct torc_write_options write = {.flags = TORC_TRACED};
    struct torc_read_options read = {.flags = TORC_TRACED};
    struct torc_value value = {0};
    enum torc_err err;

    if (strcmp(job->verb, "put") == 0) {
        return torc_put_if(cli->store, job->key, job->data, job->bytes, &write, NULL);
    }
    if (strcmp(job->verb, "delete") == 0) {
        return torc_delete_if(cli->store, job->key, &write, NULL);
    }
    err = torc_get_with(cli->store, job->key, &read, &value);
    torc_value_free(&value);
    return err;
}

static enum torc_err trace_run(struct torc_cli *cli, const struct trace_job *job,
                               struct torc_fail *why)
{
    struct torc_trace median;
    struct torc_trace_said said = {
        .verb = job->verb, .key = job->key, .count = job->count, .trace = &median};
    char text[TORC_TRACE_TEXT_BYTES];
    enum torc_err found = TORC_ERR_OK;
    enum torc_err err;

    for (uint32_t i = 0; i < job->count; i++) {
        found = trace_once(cli, job);
        if (found != TORC_ERR_OK && found != TORC_ERR_NOT_FOUND) {
            return torc_cli_fail(cli, found, why);
        }
        err = torc_last_trace(cli->store, &job->traces[i]);
        torc_assert(err == TORC_ERR_OK); // a traced operation has just ended
    }
    torc_trace_median(job->traces, job->count, job->numbers, &median);
    said.status = torc_err_name(found);
    err = torc_cli_write(text, torc_trace_show(&cli->show, &said, text), why);
    return err != TORC_ERR_OK ? err : found;
}

static enum torc_err trace_parse(struct torc_cli *cli, struct trace_job *job, struct torc_fail *why)
{
    const struct torc_args *args = cli->args;
    uint64_t count = 0;
    enum torc_err err;

    job->verb = args->words[0];
    if (strcmp(job->verb, "get") != 0 && strcmp(job->verb, "put") != 0 &&
        strcmp(job->verb, "delete") != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "torc trace %.40s: get, put or delete",
                         job->verb);
    }
    if ((args->word_count == 3) != (strcmp(job->verb, "put") == 0)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "usage: torc trace get KEY|put KEY VALUE|delete KEY");
    }
    if (torc_args_given(args, TORC_OPTION_LIMIT) && strcmp(job->verb, "get") != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--limit repeats gets only: a %s is done once", job->verb);
    }
    err = torc_args_number(args, TORC_OPTION_LIMIT, (struct torc_args_span){1, 1, TRACE_GETS_MAX},
                           &count, why);
    job->count = (uint32_t)count;
    if (err == TORC_ERR_OK) {
        err = torc_cli_key(cli, 1, "KEY", &job->key, why);
    }
    if (err == TORC_ERR_OK && args->word_count == 3) {
        err = torc_cli_value(cli, args->words[2], &job->data, &job->bytes, why);
    }
    return err;
}

enum torc_err torc_cli_trace(struct torc_cli *cli, struct torc_fail *why)
{
    struct trace_job job = {0};
    enum torc_err err = trace_parse(cli, &job, why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_open(cli, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_assert(job.count > 0);
    job.traces = calloc(job.count, sizeof(job.traces[0]));
    job.numbers = calloc(job.count, sizeof(job.numbers[0]));
    err = job.traces == NULL || job.numbers == NULL
              ? torc_fail(why, TORC_ERR_NO_SPACE, "no memory for %" PRIu32 " traces", job.count)
              : trace_run(cli, &job, why);
    free(job.traces);
    free(job.numbers);
    return err;
}
