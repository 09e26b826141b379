// Torc cli: the verbs that ask the node of this machine over run/admin.sock: status, stats,
// checkpoint, sessions, node, shard; and stop, which ends `torc serve`.
//
// What    one JSON object a line each way, as control/admin_os.h says.
#include "client/cli/admin_os.h"

#include "client/cli/pidfile_os.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ADMIN_ANSWER_MAX = 16 << 20,
    ADMIN_DEPTH_MAX = 8,
    ADMIN_ROWS_MAX = 16,   // of a table: status is one screen
    ADMIN_WIDTH_ROWS = 64, // that make a column as wide as it is
    ADMIN_TEXT_BYTES = 2048
};

// A bet: control answers within milliseconds, but of a drain it speaks after 10 s at most.
#define ADMIN_TIMEOUT_US UINT64_C(20000000)

enum torc_err torc_admin_timeout(const struct torc_args *args, uint64_t *us, struct torc_fail *why)
{
    enum torc_err err = torc_cli_timeout(args, us, why);

    if (err == TORC_ERR_OK && *us == 0 && args->verb != TORC_VERB_CHECKPOINT) {
        *us = ADMIN_TIMEOUT_US; // a checkpoint takes as long as the disk takes
    }
    return err;
}

static enum torc_err admin_late(struct torc_fail *why)
{
    return torc_fail(
        why, TORC_ERR_DEADLINE,
        "no answer from torc-control: it hangs, is stopped, or waits for its disk; its "
        "log may say more; what was asked may still be done");
}

static enum torc_err admin_connect(const char *data, uint64_t timeout_us, int *fd,
                                   struct torc_fail *why)
{
    struct timeval timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                              .tv_usec = (suseconds_t)(timeout_us % 1000000)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int bytes = snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/admin.sock", data);

    if (bytes < 0 || (size_t)bytes >= sizeof(address.sun_path)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.80s…/run/admin.sock: too long for a socket's name", data);
    }
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "socket: %s", strerrordesc_np(errno));
    }
    // Of each wait: for room among those who wait to be let in, to send, and for the answer.
    (void)setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    (void)setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (connect(*fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) != 0) {
        int reason = errno;

        (void)close(*fd);
        if (reason == EAGAIN) {
            return admin_late(why);
        }
        if (reason == EACCES) {
            return torc_fail(why, TORC_ERR_FORBIDDEN,
                             "%.100s: not allowed; root and the group torc are", address.sun_path);
        }
        return torc_fail(why, TORC_ERR_NOT_CONNECTED,
                         "no node runs on %.100s (%s); start one: torc serve", data,
                         strerrordesc_np(reason));
    }
    return TORC_ERR_OK;
}

// One line of any length, without its end.
static enum torc_err admin_read_line(int fd, char **line, struct torc_fail *why)
{
    uint64_t bytes = 0;
    uint64_t room = 65536;
    char *text = malloc(room);

    while (text != NULL && bytes < ADMIN_ANSWER_MAX) {
        ssize_t got = read(fd, text + bytes, room - bytes - 1);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno == EAGAIN) {
            free(text);
            return admin_late(why);
        }
        if (got <= 0) {
            break;
        }
        bytes += (uint64_t)got;
        if (text[bytes - 1] == '\n') {
            text[bytes - 1] = '\0';
            *line = text;
            return TORC_ERR_OK;
        }
        if (bytes + 1 == room) {
            char *larger = realloc(text, room *= 2);

            if (larger == NULL) {
                break;
            }
            text = larger;
        }
    }
    free(text);
    return torc_fail(why, TORC_ERR_CLOSED, "torc-control ended the connection without an answer");
}

enum torc_err torc_admin_ask(const char *data, const char *command, uint64_t timeout_us,
                             json_t **answer, struct torc_fail *why)
{
    char request[128];

    (void)snprintf(request, sizeof(request), "{\"command\":\"%s\"}\n", command);
    return torc_admin_request(data, request, timeout_us, answer, why);
}

enum torc_err torc_admin_request(const char *data, const char *request, uint64_t timeout_us,
                                 json_t **answer, struct torc_fail *why)
{
    char *line = NULL;
    int fd = -1;
    ssize_t bytes = (ssize_t)strlen(request);
    enum torc_err err = admin_connect(data, timeout_us, &fd, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (send(fd, request, (size_t)bytes, MSG_NOSIGNAL) != bytes) {
        err = torc_fail(why, TORC_ERR_CLOSED, "torc-control: %s", strerrordesc_np(errno));
    } else {
        err = admin_read_line(fd, &line, why);
    }
    (void)close(fd);
    if (err != TORC_ERR_OK) {
        return err;
    }
    *answer = json_loads(line, 0, NULL);
    free(line);
    if (*answer == NULL || !json_is_object(*answer)) {
        json_decref(*answer);
        return torc_fail(why, TORC_ERR_CORRUPT, "torc-control answered with something not JSON");
    }
    return TORC_ERR_OK;
}

static enum torc_err admin_error_of(const char *name)
{
    static const struct {
        const char *name;
        enum torc_err err;
    } errors[] = {
#define X(name_, number, sentence) {#name_, TORC_ERR_##name_},
        TORC_ERR_TABLE(X)
#undef X
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(errors); i++) {
        if (strcmp(name, errors[i].name) == 0) {
            return errors[i].err;
        }
    }
    return TORC_ERR_INTERNAL;
}

// -- JSON as lines: `name  value`, objects in objects as name.name; for people arrays of objects as
//    a table with a headline, for programs (raw, csv) one line a value.

// One value as safe text, cut to the room. Returns its columns.
static int admin_text(const json_t *value, char text[ADMIN_TEXT_BYTES])
{
    char number[64] = "";
    const char *said = number;
    uint64_t bytes;
    int columns = 0;

    switch (json_typeof(value)) {
    case JSON_STRING: said = json_string_value(value); break;
    case JSON_INTEGER:
        (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL: (void)snprintf(number, sizeof(number), "%.6g", json_real_value(value)); break;
    case JSON_TRUE: said = "yes"; break;
    case JSON_FALSE: said = "no"; break;
    case JSON_NULL: said = "-"; break;
    case JSON_OBJECT:
    case JSON_ARRAY: said = "…"; break;
    }
    bytes = torc_min_u64(strlen(said), (ADMIN_TEXT_BYTES - 257) / 6);
    bytes = torc_show_text((const uint8_t *)said, bytes, (uint8_t *)text, ADMIN_TEXT_BYTES - 1);
    text[bytes] = '\0';
    for (uint64_t i = 0; i < bytes; i++) {
        columns += ((unsigned char)text[i] & 0xc0) != 0x80 ? 1 : 0;
    }
    return columns;
}

// Column `index` of a table: as wide as its widest word.
static int admin_width(json_t *rows, const char *key)
{
    char text[ADMIN_TEXT_BYTES];
    int widest = (int)strlen(key);
    size_t index;
    json_t *row;

    json_array_foreach(rows, index, row)
    {
        const json_t *value = json_object_get(row, key);
        int columns = value != NULL && index < ADMIN_WIDTH_ROWS ? admin_text(value, text) : 0;

        widest = columns > widest ? columns : widest;
    }
    return widest;
}

static void admin_show_row(json_t *rows, const json_t *row, bool head)
{
    json_t *first = json_array_get(rows, 0); // its keys are the columns
    char text[ADMIN_TEXT_BYTES];
    const char *key;
    json_t *unused;

    json_object_foreach(first, key, unused)
    {
        const json_t *value = json_object_get(row, key);
        int width = admin_width(rows, key);
        int columns = (int)strlen(key);

        if (head) {
            (void)snprintf(text, sizeof(text), "%.60s", key);
        } else {
            text[0] = '\0';
            columns = value != NULL ? admin_text(value, text) : 0;
        }
        if (json_is_string(json_object_get(first, key))) { // words begin where numbers end
            (void)printf("  %s%*s", text, width - columns, "");
        } else {
            (void)printf("  %*s%s", width - columns, "", text);
        }
    }
    (void)printf("\n");
}

// All rows of what is an account, a screen of others.
static void admin_show_table(const char *name, json_t *rows)
{
    bool all = strcmp(name, "memory") == 0 || strcmp(name, "principals") == 0 ||
               strcmp(name, "sessions") == 0;
    size_t shown = all ? SIZE_MAX : ADMIN_ROWS_MAX;
    char text[ADMIN_TEXT_BYTES];
    size_t index;
    json_t *row;

    if (json_array_size(rows) == 0) {
        return;
    }
    (void)printf("%s:\n", name);
    if (json_is_object(json_array_get(rows, 0))) {
        admin_show_row(rows, NULL, true);
    }
    json_array_foreach(rows, index, row)
    {
        if (index == shown) {
            (void)printf("  … and %zu more: -o json shows all\n", json_array_size(rows) - index);
            break;
        }
        if (json_is_object(row)) {
            admin_show_row(rows, row, false);
        } else {
            (void)admin_text(row, text);
            (void)printf("  %s\n", text);
        }
    }
}

// One line a value, for programs: `name value`, or name,value. A name of a metric stands alone.
static void admin_show_line(const char *name, const json_t *value, char separator)
{
    char text[ADMIN_TEXT_BYTES];
    const char *metric = strstr(name, ".torc_");

    (void)admin_text(value, text);
    (void)printf("%s%c%s\n", metric != NULL ? metric + 1 : name, separator, text);
}

// An array as lines: name.index.key for objects, name.index for others.
static void admin_show_lines(const char *name, json_t *rows, char separator)
{
    char line[320];
    size_t index;
    json_t *row;
    const char *key;
    json_t *value;

    json_array_foreach(rows, index, row)
    {
        if (!json_is_object(row)) {
            (void)snprintf(line, sizeof(line), "%.160s.%zu", name, index);
            admin_show_line(line, row, separator);
        }
        json_object_foreach(row, key, value)
        {
            (void)snprintf(line, sizeof(line), "%.160s.%zu.%.80s", name, index, key);
            admin_show_line(line, value, separator);
        }
    }
}

static void admin_show_member(const char *name, json_t *value, enum torc_show_format format)
{
    char separator = format == TORC_SHOW_CSV ? ',' : ' ';
    char text[ADMIN_TEXT_BYTES];

    if (json_is_array(value) && format == TORC_SHOW_TABLE) {
        admin_show_table(name, value);
    } else if (json_is_array(value)) {
        admin_show_lines(name, value, separator);
    } else if (format == TORC_SHOW_TABLE) {
        (void)admin_text(value, text);
        (void)printf("%-24s %s\n", name, text);
    } else {
        admin_show_line(name, value, separator);
    }
}

struct admin_level {
    json_t *object;
    void *at; // jansson's iterator
    size_t prefix_bytes;
};

// Objects in objects by a stack of our own: an answer's depth is not ours to trust.
static void admin_show(json_t *answer, enum torc_show_format format)
{
    struct admin_level levels[ADMIN_DEPTH_MAX];
    uint32_t depth = 1;
    char name[256] = "";

    levels[0] = (struct admin_level){answer, json_object_iter(answer), 0};
    while (depth > 0) {
        struct admin_level *level = &levels[depth - 1];
        json_t *value;

        if (level->at == NULL) {
            depth--;
            continue;
        }
        value = json_object_iter_value(level->at);
        (void)snprintf(name + level->prefix_bytes, sizeof(name) - level->prefix_bytes, "%.80s",
                       json_object_iter_key(level->at));
        level->at = json_object_iter_next(level->object, level->at);
        if (depth == 1 && strcmp(name, "ok") == 0) {
            continue;
        }
        if (json_is_object(value) && depth < ADMIN_DEPTH_MAX && strlen(name) < 160) {
            size_t bytes = strlen(name);

            name[bytes] = '.';
            levels[depth++] = (struct admin_level){value, json_object_iter(value), bytes + 1};
        } else {
            admin_show_member(name, value, format);
        }
    }
}

enum torc_err torc_admin_verdict(const json_t *answer, struct torc_fail *why)
{
    const char *name = json_string_value(json_object_get(answer, "error"));
    const char *text = json_string_value(json_object_get(answer, "text"));

    if (json_is_true(json_object_get(answer, "ok"))) {
        return TORC_ERR_OK;
    }
    return torc_fail(why, admin_error_of(name != NULL ? name : ""), "%.150s",
                     text != NULL ? text : "torc-control gave no reason");
}

void torc_admin_show(const struct torc_cli *cli, json_t *answer)
{
    if (cli->show.format == TORC_SHOW_JSON) {
        char *text = json_dumps(answer, JSON_COMPACT);

        (void)printf("%s\n", text != NULL ? text : "{}");
        free(text);
    } else {
        admin_show(answer, cli->show.format);
    }
}

// The end of a verb: asks the node of `data`, and shows what it says.
static enum torc_err admin_answer(const struct torc_cli *cli, const char *request,
                                  void (*show)(const struct torc_cli *, json_t *),
                                  struct torc_fail *why)
{
    char data[512];
    json_t *answer = NULL;
    uint64_t timeout_us = 0;
    enum torc_err err = torc_cli_data(cli->args, data, sizeof(data), why);

    if (err == TORC_ERR_OK) {
        err = torc_admin_timeout(cli->args, &timeout_us, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_admin_request(data, request, timeout_us, &answer, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_admin_verdict(answer, why);
    if (err == TORC_ERR_OK) {
        show(cli, answer);
    }
    json_decref(answer);
    return err;
}

enum torc_err torc_cli_admin(struct torc_cli *cli, struct torc_fail *why)
{
    char request[128];
    const char *command = torc_verb_name(cli->args->verb);

    if (cli->args->word_count > 0) {
        command = cli->args->words[0];
        if (strcmp(command, "memory") != 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "torc stats %.60s: memory, or nothing",
                             command);
        }
    }
    (void)snprintf(request, sizeof(request), "{\"command\":\"%s\"}\n", command);
    return admin_answer(cli, request, torc_admin_show, why);
}

// -- sessions

// A line of names, then a line a session: programs read it with any CSV reader.
static void sessions_csv(json_t *rows)
{
    json_t *first = json_array_get(rows, 0);
    char text[ADMIN_TEXT_BYTES];
    const char *key;
    const char *comma = "";
    size_t index;
    json_t *row;
    json_t *value;

    json_object_foreach(first, key, value)
    {
        (void)printf("%s%s", comma, key);
        comma = ",";
    }
    if (first != NULL) {
        (void)printf("\n");
    }
    json_array_foreach(rows, index, row)
    {
        comma = "";
        json_object_foreach(row, key, value)
        {
            (void)admin_text(value, text);
            (void)printf("%s", comma);
            comma = ",";
            for (const char *at = text; *at != '\0'; at++) { // an agent's text may hold anything
                (void)putchar(*at == ',' || *at == '"' ? ' ' : *at);
            }
        }
        (void)printf("\n");
    }
}

static void sessions_show(const struct torc_cli *cli, json_t *answer)
{
    if (cli->show.format == TORC_SHOW_CSV) {
        sessions_csv(json_object_get(answer, "sessions"));
    } else {
        torc_admin_show(cli, answer);
    }
}

enum torc_err torc_cli_sessions(struct torc_cli *cli, struct torc_fail *why)
{
    char request[64];
    uint64_t limit = 0;
    enum torc_err err = torc_args_number(cli->args, TORC_OPTION_LIMIT,
                                         (struct torc_args_span){100, 1, 4096}, &limit, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    (void)snprintf(request, sizeof(request), "{\"command\":\"sessions\",\"limit\":%" PRIu64 "}\n",
                   limit);
    return admin_answer(cli, request, sessions_show, why);
}

// -- node

enum torc_err torc_cli_node(struct torc_cli *cli, struct torc_fail *why)
{
    const char *verb = cli->args->words[0];
    const char *word = cli->args->words[1];
    char request[128];
    char *end = NULL;
    unsigned long node = strtoul(word, &end, 10);

    if (strcmp(verb, "drain") != 0 && strcmp(verb, "undrain") != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "torc node %.60s: drain or undrain", verb);
    }
    if (end == word || *end != '\0' || node == 0 || node > 4095) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "torc node %.20s %.60s: the number of a node, 1 to 4095", verb, word);
    }
    (void)snprintf(request, sizeof(request),
                   "{\"command\":\"node\",\"verb\":\"%.10s\",\"node\":%lu}\n", verb, node);
    return admin_answer(cli, request, torc_admin_show, why);
}

// -- shard

// `1,2` as the members of a JSON list.
static enum torc_err shard_off(const char *text, char *list, size_t room, struct torc_fail *why)
{
    const char *at = text;
    size_t used = 0;

    list[0] = '\0';
    while (*at != '\0') {
        char *end = NULL;
        unsigned long node = strtoul(at, &end, 10);

        if (end == at || (*end != ',' && *end != '\0') || node == 0 || node > 4095 ||
            (*end == ',' && end[1] == '\0') || used + 8 > room) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "--off %.60s: numbers of nodes, 1 to 4095, with commas", text);
        }
        used += (size_t)snprintf(list + used, room - used, "%s%lu", used > 0 ? "," : "", node);
        at = *end == ',' ? end + 1 : end;
    }
    return TORC_ERR_OK;
}

enum torc_err torc_cli_shard(struct torc_cli *cli, struct torc_fail *why)
{
    const struct torc_args *args = cli->args;
    const char *verb = args->words[0];
    const char *word = args->words[1];
    const char *off = torc_args_given(args, TORC_OPTION_OFF) ? args->values[TORC_OPTION_OFF] : "";
    bool accepts = strcmp(verb, "accept-loss") == 0;
    char request[256];
    char list[64];
    char number[32] = "";
    char *end = NULL;
    unsigned long shard = strtoul(word, &end, 10);
    uint64_t epoch = 0;
    enum torc_err err = torc_args_number(args, TORC_OPTION_EPOCH,
                                         (struct torc_args_span){0, 1, UINT32_MAX}, &epoch, why);

    if (!accepts && strcmp(verb, "acknowledge-loss") != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "torc shard %.60s: accept-loss or acknowledge-loss", verb);
    }
    if (end == word || *end != '\0' || shard == 0 || shard > UINT32_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "torc shard %.20s %.60s: the number of a shard", verb, word);
    }
    if (err == TORC_ERR_OK) {
        err = shard_off(off, list, sizeof(list), why);
    }
    if (err == TORC_ERR_OK && epoch == 0 && list[0] != '\0') {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "--off without --epoch: look first, torc shard accept-loss %lu says both",
                        shard);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (epoch != 0 && accepts) {
        (void)snprintf(number, sizeof(number), ",\"epoch\":%" PRIu64, epoch);
    }
    (void)snprintf(request, sizeof(request),
                   "{\"command\":\"shard\",\"verb\":\"%.20s\",\"shard\":%lu%s,\"off\":[%s]}\n",
                   verb, shard, number, list);
    return admin_answer(cli, request, torc_admin_show, why);
}

// -- stop

enum torc_err torc_cli_stop(struct torc_cli *cli, struct torc_fail *why)
{
    char data[512];
    json_t *answer = NULL;
    uint64_t timeout_us = 0;
    enum torc_err err = torc_cli_data(cli->args, data, sizeof(data), why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_timeout(cli->args, &timeout_us, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_pidfile_stop(data, timeout_us, why);
    if (err != TORC_ERR_NOT_FOUND) {
        return err;
    }
    // No `torc serve`: systemd's units, or nothing.
    err =
        torc_admin_ask(data, "stop", timeout_us != 0 ? timeout_us : ADMIN_TIMEOUT_US, &answer, why);
    if (err == TORC_ERR_NOT_CONNECTED) {
        (void)fprintf(stderr, "torc: no node runs on %s\n", data);
        return TORC_ERR_OK;
    }
    if (err == TORC_ERR_OK) {
        (void)fprintf(stderr,
                      "torc: torc-control of %s is stopping; it was not started by "
                      "torc serve (under systemd: systemctl stop torc-control "
                      "torc-dataplane)\n",
                      data);
        json_decref(answer);
    }
    return err;
}
