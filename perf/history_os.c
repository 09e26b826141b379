// Torc perf: the workload `check`; see history_os.h.
#include "perf/history_os.h"

#include "kit/clock_os.h"
#include "perf/value.h"

#include <xxhash.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VALUE_BYTES = 64,
    STATUS_BYTES = 32,
    KEYS_MAX = 1024,
    RANGE_ROWS_MAX = 16
};

enum check_op {
    CHECK_PUT,
    CHECK_GET,
    CHECK_DELETE,
    CHECK_PUT_IF,
    CHECK_RANGE
};

struct check_client {
    uint64_t call_ns;
    uint64_t key; // of a range: the first one
    uint64_t end;
    uint64_t limit;
    uint64_t if_version;
    uint64_t count; // of values written
    enum check_op op;
    bool busy;
    char value[VALUE_BYTES]; // the part that is written into the history
    uint64_t seen[KEYS_MAX]; // version of each record when this client met it last
};

struct check {
    struct torc_perf_run *run;
    struct torc_history_result *result;
    FILE *file;
    uint64_t records;
    uint64_t stop_ns;
    uint64_t last_reads; // keys read at the end so far
    uint64_t mark;       // makes the values of this run its own
    unsigned char *wire; // a value as it is sent
    struct check_client *clients;
};

static enum check_op check_draw(struct torc_rng *rng)
{
    uint64_t draw = torc_rng_below(rng, 100);

    return draw < 30   ? CHECK_PUT
           : draw < 65 ? CHECK_GET
           : draw < 75 ? CHECK_DELETE
           : draw < 90 ? CHECK_PUT_IF
                       : CHECK_RANGE;
}

// On the wire a value is its name, and for one of eight a zero and filler that follows from the
// name: so a value that was put together wrongly is seen, and the history stays small.
static uint64_t filler_key(const void *name, uint64_t bytes)
{
    return XXH3_64bits(name, bytes);
}

static uint64_t wire_make(struct check *check, const char *name)
{
    uint64_t name_bytes = strlen(name);
    uint64_t filler_bytes;

    memcpy(check->wire, name, name_bytes);
    if (torc_rng_below(&check->run->rng, 8) != 0) {
        return name_bytes;
    }
    filler_bytes = torc_rng_below(&check->run->rng, check->run->options->value_bytes + 1);
    check->wire[name_bytes] = 0;
    torc_value_make(check->wire + name_bytes + 1, filler_bytes, filler_key(name, name_bytes), 0);
    return name_bytes + 1 + filler_bytes;
}

// Bytes of the name; false: this is no value that anybody wrote.
static bool wire_read(const void *data, uint64_t bytes, uint64_t *name_bytes)
{
    const unsigned char *zero = bytes == 0 ? NULL : memchr(data, 0, bytes);

    *name_bytes = zero == NULL ? bytes : (uint64_t)(zero - (const unsigned char *)data);
    return *name_bytes > 0 && *name_bytes < VALUE_BYTES &&
           (zero == NULL ||
            torc_value_check(zero + 1, bytes - *name_bytes - 1, bytes - *name_bytes - 1,
                             filler_key(data, *name_bytes)));
}

static enum torc_err check_prepare(struct check *check, uint32_t index)
{
    struct torc_queue *queue = check->run->clients[index].queue;
    struct check_client *client = &check->clients[index];
    uint64_t key = torc_keys_key(&check->run->keys, client->key);
    struct torc_write_options write = {.condition = TORC_IF_VERSION, .version = client->if_version};
    struct torc_range_options range = {.limit = client->limit, .flags = TORC_WITH_VERSIONS};
    uint64_t bytes = wire_make(check, client->value);

    if (client->if_version == 0) {
        write = (struct torc_write_options){.condition = TORC_IF_ABSENT};
    }
    switch (client->op) {
    case CHECK_PUT: return torc_prep_put(queue, key, check->wire, bytes, index);
    case CHECK_GET: return torc_prep_get(queue, key, NULL, index);
    case CHECK_DELETE: return torc_prep_delete(queue, key, NULL, index);
    case CHECK_PUT_IF: return torc_prep_put_if(queue, key, check->wire, bytes, &write, index);
    case CHECK_RANGE: return torc_prep_range(queue, key, client->end, &range, index);
    }
    return TORC_ERR_INTERNAL;
}

static enum torc_err check_issue(struct check *check, uint32_t index, struct torc_fail *why)
{
    struct torc_rng *rng = &check->run->rng;
    struct check_client *client = &check->clients[index];
    bool last = torc_perf_is_told_to_stop() || torc_clock_now_ns() >= check->stop_ns;
    enum torc_err err;

    if (last && check->last_reads == check->records) {
        return TORC_ERR_OK;
    }
    client->op = last ? CHECK_GET : check_draw(rng);
    client->key = last ? check->last_reads++ : torc_rng_below(rng, check->records);
    client->if_version = torc_rng_below(rng, 4) == 0 ? 0 : client->seen[client->key];
    client->limit = torc_rng_below(rng, 2) == 0 ? 0 : 1 + torc_rng_below(rng, RANGE_ROWS_MAX);
    client->end =
        torc_min_u64(check->run->limits.keys,
                     torc_keys_key(&check->run->keys, client->key) +
                         (1 + torc_rng_below(rng, check->records)) * check->run->keys.stride);
    (void)snprintf(client->value, sizeof(client->value), "%u-%lu-%lx", index,
                   (unsigned long)client->count++, (unsigned long)check->mark);
    client->call_ns = torc_clock_now_ns();
    err = check_prepare(check, index);
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "%.150s", torc_queue_message(check->run->clients[index].queue));
    }
    client->busy = true;
    return TORC_ERR_OK;
}

// The name of a value; one that nobody wrote is counted, and shows with a question mark before it.
static void write_value(struct check *check, const void *data, uint64_t bytes)
{
    const unsigned char *from = data;
    uint64_t name_bytes;
    bool whole = wire_read(data, bytes, &name_bytes);

    check->result->torn += whole ? 0 : 1;
    fputs(whole ? "\"" : "\"?", check->file);
    for (uint64_t i = 0; i < torc_min_u64(name_bytes, VALUE_BYTES); i++) {
        fputc(isalnum(from[i]) != 0 || from[i] == '-' ? from[i] : '.', check->file);
    }
    fputc('"', check->file);
}

static void write_asked(const struct check *check, const struct check_client *client,
                        const struct torc_completion *completion)
{
    unsigned long key = (unsigned long)torc_keys_key(&check->run->keys, client->key);
    FILE *file = check->file;
    // A page that ended early says nothing of the keys behind it. That it holds fewer rows than
    // `limit` is no sign: a large value that is gone when it is fetched takes its row along.
    uint64_t end = (completion->flags & TORC_MORE) != 0 ? completion->next_lo : client->end;
    static const char *const names[] = {"put", "get", "delete", "put_if", "range"};

    fprintf(file, "\"op\":\"%s\"", names[client->op]);
    if (client->op == CHECK_RANGE) {
        fprintf(file, ",\"start\":%lu,\"end\":%lu", key, (unsigned long)end);
        if (client->limit != 0) {
            fprintf(file, ",\"limit\":%lu", (unsigned long)client->limit);
        }
        return;
    }
    fprintf(file, ",\"key\":%lu", key);
    if (client->op == CHECK_PUT || client->op == CHECK_PUT_IF) {
        fprintf(file, ",\"value\":\"%s\"", client->value);
    }
    if (client->op == CHECK_PUT_IF) {
        fprintf(file, ",\"if_version\":%lu", (unsigned long)client->if_version);
    }
}

static void write_rows(struct check *check, const struct torc_completion *completion)
{
    FILE *file = check->file;

    fputs(",\"result\":[", file);
    for (uint64_t i = 0; i < completion->count; i++) {
        const struct torc_row *row = &completion->rows[i];

        fprintf(file, "%s[%lu,", i == 0 ? "" : ",", (unsigned long)row->key);
        write_value(check, row->data, row->bytes);
        fprintf(file, ",%lu]", (unsigned long)row->version);
    }
    fputc(']', file);
}

// Why it has no answer, for people.
static void write_text(FILE *file, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return;
    }
    fputs(",\"text\":\"", file);
    for (; *text != '\0'; text++) {
        bool plain = *text >= 0x20 && *text < 0x7f && *text != '"' && *text != '\\';

        fputc(plain ? *text : '?', file);
    }
    fputc('"', file);
}

static void write_line(struct check *check, uint32_t index,
                       const struct torc_completion *completion, uint64_t now_ns)
{
    const struct check_client *client = &check->clients[index];
    FILE *file = check->file;
    char status[STATUS_BYTES];
    size_t at = 0;

    for (const char *name = torc_error_name((int)completion->status);
         name[at] != '\0' && at < sizeof(status) - 1; at++) {
        status[at] = (char)tolower((unsigned char)name[at]);
    }
    status[at] = '\0';
    fprintf(file, "{\"client\":%u,", index);
    write_asked(check, client, completion);
    if (completion->status == TORC_ERR_OK && client->op == CHECK_GET) {
        fputs(",\"result\":", file);
        write_value(check, completion->data, completion->bytes);
    } else if (completion->status == TORC_ERR_OK && client->op == CHECK_RANGE) {
        write_rows(check, completion);
    }
    fprintf(file, ",\"status\":\"%s\"", status);
    if (client->op != CHECK_RANGE &&
        (completion->status == TORC_ERR_OK || completion->status == TORC_ERR_CONDITION_FAILED)) {
        fprintf(file, ",\"version\":%lu", (unsigned long)completion->version);
    }
    if (completion->status != TORC_ERR_OK && completion->status != TORC_ERR_NOT_FOUND &&
        completion->status != TORC_ERR_CONDITION_FAILED) {
        write_text(file, completion->text);
    }
    fprintf(file, ",\"call_ns\":%lu,\"return_ns\":%lu%s}\n", (unsigned long)client->call_ns,
            (unsigned long)now_ns,
            (completion->flags & TORC_DOUBT) != 0 ? ",\"in_doubt\":true" : "");
}

static void check_learn(struct check *check, struct check_client *client,
                        const struct torc_completion *completion)
{
    bool gone = completion->status == TORC_ERR_NOT_FOUND ||
                (client->op == CHECK_DELETE && completion->status == TORC_ERR_OK);

    check->result->operations++;
    if ((completion->flags & TORC_DOUBT) != 0) {
        check->result->in_doubt++;
    } else if (completion->status != TORC_ERR_OK && completion->status != TORC_ERR_NOT_FOUND &&
               completion->status != TORC_ERR_CONDITION_FAILED) {
        check->result->failed++;
    } else if (client->op != CHECK_RANGE) {
        client->seen[client->key] = gone ? 0 : completion->version;
    }
}

static enum torc_err check_turn(struct check *check, uint32_t index, struct torc_fail *why)
{
    struct check_client *client = &check->clients[index];
    struct torc_completion completion;

    if (!client->busy) {
        return check_issue(check, index, why);
    }
    if (torc_poll(check->run->clients[index].queue, &completion, 1) == 1) {
        write_line(check, index, &completion, torc_clock_now_ns());
        check_learn(check, client, &completion);
        client->busy = false;
        return check_issue(check, index, why);
    }
    return TORC_ERR_OK;
}

static bool check_is_busy(const struct check *check)
{
    bool busy = false;

    for (uint32_t i = 0; i < check->run->client_count; i++) {
        busy = busy || check->clients[i].busy;
    }
    return busy;
}

static enum torc_err check_run(struct check *check, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    do {
        uint64_t before = check->result->operations;

        for (uint32_t i = 0; i < check->run->client_count && err == TORC_ERR_OK; i++) {
            err = check_turn(check, i, why);
        }
        if (check->result->operations == before && err == TORC_ERR_OK) {
            torc_perf_run_wait(check->run);
        }
    } while (err == TORC_ERR_OK && check_is_busy(check));
    return err;
}

enum torc_err torc_history_go(struct torc_perf_run *run, struct torc_history_result *result,
                              struct torc_fail *why)
{
    const struct torc_perf_options *options = run->options;
    struct check check = {.run = run,
                          .result = result,
                          .records = torc_min_u64(options->records, KEYS_MAX),
                          .mark = run->rng.state & 0xffffffffu,
                          .stop_ns = torc_clock_now_ns() + options->seconds * TORC_NS_PER_S};
    enum torc_err err;

    memset(result, 0, sizeof(*result));
    check.wire = malloc(VALUE_BYTES + 1 + options->value_bytes);
    check.clients = calloc(run->client_count, sizeof(*check.clients));
    check.file = fopen(options->history == NULL ? "/dev/null" : options->history, "we");
    if (check.wire == NULL || check.clients == NULL || check.file == NULL) {
        err = torc_fail(why, TORC_ERR_IO, "--history %.100s: %m",
                        options->history == NULL ? "" : options->history);
        goto out;
    }
    err = check_run(&check, why);
out:
    if (check.file != NULL && fclose(check.file) != 0 && err == TORC_ERR_OK) {
        err = torc_fail(why, TORC_ERR_IO, "--history %.100s: %m", options->history);
    }
    free(check.clients);
    free(check.wire);
    return err;
}
