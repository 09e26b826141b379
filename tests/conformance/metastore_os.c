// Torc tests: a metastore by hand: requests from standard input, a line each, answers as JSON, a
// line each. tests/conformance/metastore_test.py drives it, for every kind alike.
//
//     torc-metastore ADDRESS [USER PASSWORD_FILE [CA]]
//     get TICKET MS KEY · list TICKET MS PREFIX MAX · watch TICKET PREFIX FROM · unwatch TICKET
//     txn TICKET MS (put KEY VALUE EXPECTED | del KEY EXPECTED | chk KEY EXPECTED)…
//     draw COUNTER TIMES: so many numbers, one by one · adopt REVISION
// EXPECTED is a version or `any`; an empty PREFIX or VALUE is `-`. Ends with its input.
#include "control/metastore_open_os.h"
#include "kit/clock_os.h"

#include <jansson.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE_BYTES = 1 << 18,
    WORDS_MAX = 1024
};

struct words {
    char *at[WORDS_MAX];
    uint32_t count;
};

static const char *word(const struct words *words, uint32_t at)
{
    const char *text = at < words->count ? words->at[at] : "-";

    return strcmp(text, "-") == 0 ? "" : text;
}

static uint64_t number(const struct words *words, uint32_t at)
{
    const char *text = word(words, at);

    return strcmp(text, "any") == 0 ? TORC_META_ANY : strtoull(text, NULL, 10);
}

static void say(json_t *answer)
{
    (void)json_dumpf(answer, stdout, JSON_COMPACT);
    (void)printf("\n");
    (void)fflush(stdout); // the test would miss it
    json_decref(answer);
}

static void say_answer(const struct torc_meta_answer *answer)
{
    json_t *records = json_array();

    for (uint32_t i = 0; i < answer->record_count; i++) {
        const struct torc_meta_record *record = answer->records + i;
        json_t *row = json_pack("[s, I]", record->key, (json_int_t)record->version);

        if (record->value != NULL) {
            (void)json_array_append_new(row, json_stringn(record->value, record->value_bytes));
        }
        (void)json_array_append_new(records, row);
    }
    say(json_pack("{s:I, s:s, s:I, s:b, s:b, s:o, s:s}", "ticket", (json_int_t)answer->ticket,
                  "err", torc_err_name(answer->err), "revision", (json_int_t)answer->revision,
                  "gap", answer->gap, "went_back", answer->went_back, "records", records, "why",
                  answer->why.text));
}

static void submit(struct torc_metastore *store, const struct torc_meta_request *request)
{
    struct torc_meta_answer answer = {.ticket = request->ticket};

    answer.err = torc_metastore_submit(store, request, torc_clock_now_ns(), &answer.why);
    if (answer.err != TORC_ERR_OK) {
        say_answer(&answer);
    }
}

static void do_txn(struct torc_metastore *store, const struct words *words,
                   struct torc_meta_request *request)
{
    static struct torc_meta_op ops[WORDS_MAX];
    uint32_t count = 0;

    for (uint32_t at = 3; at < words->count; count++) {
        bool put = strcmp(word(words, at), "put") == 0;

        ops[count] =
            (struct torc_meta_op){.kind = put                                   ? TORC_META_PUT
                                          : strcmp(word(words, at), "del") == 0 ? TORC_META_DELETE
                                                                                : TORC_META_CHECK,
                                  .key = word(words, at + 1),
                                  .value = word(words, at + 2),
                                  .value_bytes = put ? (uint32_t)strlen(word(words, at + 2)) : 0,
                                  .expected = number(words, at + (put ? 3 : 2))};
        at += put ? 4 : 3;
    }
    request->verb = TORC_META_TXN;
    request->ops = ops;
    request->op_count = count;
    submit(store, request);
}

static void do_draw(struct torc_metastore *store, const struct words *words)
{
    struct torc_fail why = {0};

    for (uint64_t i = 0; i < number(words, 2);) {
        uint64_t first = 0;
        enum torc_err err = torc_metastore_draw(store, word(words, 1), 0, 1, &first, &why);

        if (err == TORC_ERR_OK || !torc_err_retryable(err)) {
            say(json_pack("{s:I, s:s, s:s}", "drawn", (json_int_t)first, "err", torc_err_name(err),
                          "why", why.text));
            i++;
        }
    }
}

static void do_line(struct torc_metastore *store, char *line)
{
    struct words words = {0};
    struct torc_meta_request request = {0};
    const char *verb;
    char *rest = line;

    for (char *at = strtok_r(line, " \n", &rest); at != NULL && words.count < WORDS_MAX;
         at = strtok_r(NULL, " \n", &rest)) {
        words.at[words.count++] = at;
    }
    verb = word(&words, 0);
    request.ticket = number(&words, 1);
    request.key = word(&words, 3);
    request.deadline_ns = torc_clock_now_ns() + number(&words, 2) * TORC_NS_PER_MS;
    if (strcmp(verb, "get") == 0) {
        request.verb = TORC_META_GET;
        submit(store, &request);
    } else if (strcmp(verb, "list") == 0) {
        request.verb = TORC_META_LIST;
        request.record_max = (uint32_t)number(&words, 4);
        submit(store, &request);
    } else if (strcmp(verb, "watch") == 0) {
        request.verb = TORC_META_WATCH;
        request.key = word(&words, 2);
        request.from_revision = number(&words, 3);
        submit(store, &request);
    } else if (strcmp(verb, "unwatch") == 0) {
        torc_metastore_unwatch(store, request.ticket);
    } else if (strcmp(verb, "txn") == 0) {
        do_txn(store, &words, &request);
    } else if (strcmp(verb, "draw") == 0) {
        do_draw(store, &words);
    } else if (strcmp(verb, "adopt") == 0) {
        torc_metastore_adopt(store, request.ticket);
    }
}

// Takes the whole lines of `buffer` away.
static void do_lines(struct torc_metastore *store, char *buffer, uint64_t *held)
{
    for (char *end = memchr(buffer, '\n', *held); end != NULL; end = memchr(buffer, '\n', *held)) {
        uint64_t bytes = (uint64_t)(end - buffer) + 1;

        *end = '\0';
        do_line(store, buffer);
        memmove(buffer, buffer + bytes, *held - bytes);
        *held -= bytes;
    }
}

static void run(struct torc_metastore *store)
{
    static char buffer[LINE_BYTES];
    uint64_t held = 0;

    for (;;) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = torc_metastore_fd(store), .events = POLLIN}};
        uint64_t now_ns = torc_clock_now_ns();
        uint64_t until_ns = torc_min_u64(torc_metastore_deadline_ns(store), now_ns + TORC_NS_PER_S);
        struct torc_meta_answer answer;

        (void)poll(fds, 2, until_ns > now_ns ? (int)((until_ns - now_ns) / TORC_NS_PER_MS) + 1 : 0);
        if (fds[0].revents != 0) {
            int64_t got = read(STDIN_FILENO, buffer + held, sizeof(buffer) - held);

            if (got <= 0) {
                return;
            }
            held += (uint64_t)got;
            do_lines(store, buffer, &held);
        }
        torc_metastore_step(store, torc_clock_now_ns());
        while (torc_metastore_take(store, &answer)) {
            say_answer(&answer);
        }
    }
}

int main(int argc, char **argv)
{
    struct torc_metastore_config config = {.address = argc > 1 ? argv[1] : "",
                                           .user = argc > 2 ? argv[2] : "",
                                           .password_file = argc > 3 ? argv[3] : "",
                                           .ca = argc > 4 ? argv[4] : ""};
    struct torc_metastore *store;
    struct torc_fail why = {0};
    enum torc_err err = torc_metastore_open(&store, &config, &why);

    say(json_pack("{s:s, s:s}", "opened", torc_err_name(err), "why", why.text));
    if (err != TORC_ERR_OK) {
        return 1;
    }
    run(store);
    torc_metastore_close(store);
    return 0;
}
