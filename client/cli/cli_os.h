// Torc cli: what the verbs of the program torc share.
//
// What    the session of one command line, or of an interactive shell with many: the store it
//         talks to, how answers are shown; one function a verb.
// Owner   the program's one thread.
// Memory  struct torc_cli in main's frame; answers grow in one buffer, freed at the end.
// Errors  a verb returns a code, and a text for people in *why; main prints it and makes the exit
//         status of it (torc_exit_of).
#ifndef TORC_CLIENT_CLI_CLI_OS_H
#define TORC_CLIENT_CLI_CLI_OS_H

#include "client/cli/args.h"
#include "client/cli/show.h"
#include "torc/torc.h"

// NULL leaves it to the library.
struct torc_cli_where {
    char *address;
    char *key_file;
};

struct torc_cli {
    const struct torc_args *args;
    const struct torc_args *shell_args; // what an interactive shell was started with
    struct torc_store *store;           // NULL: not open yet
    uint64_t timeout_us;                // of `store`; 0: the library's own
    struct torc_cli_where where; // of `store`, in a shell: a verb with another one opens anew
    struct torc_show show;
    uint8_t *buffer; // for shown text and for values read
    uint64_t buffer_bytes;
};

// What argv says about output; called before each verb.
enum torc_err torc_must_use torc_cli_begin(struct torc_cli *cli, const struct torc_args *args,
                                           struct torc_fail *why);

// Opens the store on first use.
enum torc_err torc_must_use torc_cli_open(struct torc_cli *cli, struct torc_fail *why);

// Where to connect and what to show there, from --cluster, --key-file, or the data directory of
// --data. INVALID_ARGUMENT, NOT_CONNECTED: then it is empty.
enum torc_err torc_must_use torc_cli_where(const struct torc_args *args,
                                           struct torc_cli_where *where, struct torc_fail *why);
void torc_cli_where_free(struct torc_cli_where *where);

// The deadline of each operation in microseconds; 0: the library's own.
enum torc_err torc_must_use torc_cli_timeout(const struct torc_args *args, uint64_t *us,
                                             struct torc_fail *why);

// How old what is read may be, in microseconds; 0: --stale was not given.
#define TORC_CLI_STALE_LEAST_US 1000u
enum torc_err torc_must_use torc_cli_stale(const struct torc_args *args, uint64_t *us,
                                           struct torc_fail *why);

// The data directory of --data, or the default one.
enum torc_err torc_must_use torc_cli_data(const struct torc_args *args, char *path,
                                          uint32_t path_bytes, struct torc_fail *why);

// At least `bytes` bytes of cli->buffer.
enum torc_err torc_must_use torc_cli_room(struct torc_cli *cli, uint64_t bytes,
                                          struct torc_fail *why);

// Standard output; IO when it cannot be written.
enum torc_err torc_must_use torc_cli_write(const void *bytes, uint64_t count,
                                           struct torc_fail *why);

void torc_cli_end(struct torc_cli *cli);

// The library's answer as ours, with its line of text.
enum torc_err torc_cli_fail(const struct torc_cli *cli, enum torc_err err, struct torc_fail *why);

// The key that an operand names; errors call it `what`.
enum torc_err torc_must_use torc_cli_key(const struct torc_cli *cli, uint32_t word,
                                         const char *what, uint64_t *key, struct torc_fail *why);

// The value that a word stands for: itself, a file's bytes (@FILE) or standard input (-).
enum torc_err torc_must_use torc_cli_value(struct torc_cli *cli, const char *word,
                                           const void **data, uint64_t *bytes,
                                           struct torc_fail *why);

// One verb, on an open or unopened session.
enum torc_err torc_must_use torc_cli_run(struct torc_cli *cli, struct torc_fail *why);

// -- The verbs.
enum torc_err torc_must_use torc_cli_put(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_get(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_delete(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_range(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_count(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_export(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_trace(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_load(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_bench(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_admin(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_sessions(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_node(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_shard(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_keys(struct torc_cli *cli, struct torc_fail *why);
enum torc_err torc_must_use torc_cli_stop(struct torc_cli *cli, struct torc_fail *why);

// Reads lines from the terminal until its end; each is a command line. Returns the exit status.
int torc_cli_shell(struct torc_cli *cli);

// -- Shown while something long goes on; nothing unless standard error is a terminal.
struct torc_progress {
    const char *what; // "loaded"
    uint64_t start_ns;
    uint64_t shown_ns;
    uint64_t total; // of the work in any unit; 0: not known
    uint64_t count; // as last given to torc_progress_show
    bool terminal;
};

void torc_progress_start(struct torc_progress *progress, const char *what, uint64_t total);
// `count` things so far, `done` of `total` work.
void torc_progress_show(struct torc_progress *progress, uint64_t count, uint64_t done);
void torc_progress_end(struct torc_progress *progress, uint64_t count);

uint64_t torc_cli_now_ns(void);

#endif
