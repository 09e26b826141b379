// Torc cli: the command line of the program torc: verbs, options, help.
//
// What    one table of verbs, one of options and one of exit codes; parsing, help texts, shell
//         completion and the interactive shell are made from them, so that they cannot disagree.
// Owner   none: pure functions.
// Memory  struct torc_args holds pointers into argv; help is written into the caller's buffer.
// Rules   an option may stand before or behind the verb, as `--name value`, `--name=value`, `-n
//         value`; `--` ends the options; an option that its verb does not know is an error that
//         says so, and an unknown name is answered with the nearest one.
// The verbs init, serve and verify take the settings of the servers (kit/settings.h) and are
// passed on; so is demo, to scripts/demo.
#ifndef TORC_CLIENT_CLI_ARGS_H
#define TORC_CLIENT_CLI_ARGS_H

#include "kit/fail.h"

#define TORC_ARGS_WORDS_MAX  64
#define TORC_ARGS_HELP_BYTES (16u << 10)

// X(NAME, long, short letter or 0, argument or "", help)
#define TORC_OPTION_TABLE(X)                                                                       \
    X(CLUSTER, "cluster", 'c', "HOST[:PORT],…",                                                    \
      "where to connect; else TORC_CLUSTER, else the node of this machine")                        \
    X(DATA, "data", 'd', "DIR", "data directory of the node of this machine")                      \
    X(TIMEOUT, "timeout", 't', "TIME",                                                             \
      "deadline, as 500ms or 5s (default: 10s; status etc. 20s; stop and checkpoint: until done)") \
    X(CONSISTENCY, "consistency", 0, "shard|snapshot", "of ranges over several shards")            \
    X(STALE, "stale", 0, "TIME",                                                                   \
      "any copy may answer that is at most so old, as 50ms or 2s; whole milliseconds count")       \
    X(OUTPUT, "output", 'o', "table|json|csv|raw", "how answers are written (default table)")      \
    X(KEY_FORMAT, "key-format", 'f', "dec|hex|ip", "how keys are read and written (default dec)")  \
    X(REVERSE, "reverse", 'r', "", "from the highest key down")                                    \
    X(LIMIT, "limit", 'n', "N", "at most N pairs or sessions; trace: N gets")                      \
    X(KEYS_ONLY, "keys-only", 'k', "", "keys without their values")                                \
    X(COUNT, "count", 0, "", "only how many there are")                                            \
    X(VERSIONS, "versions", 'v', "", "show each pair's version too")                               \
    X(IF_ABSENT, "if-absent", 0, "", "only if the key has no value yet")                           \
    X(IF_PRESENT, "if-present", 0, "", "only if the key has a value")                              \
    X(IF_VERSION, "if-version", 0, "V", "only if the key's version is V")                          \
    X(SEPARATOR, "separator", 's', "C", "between columns: one byte, or tab (default ,)")           \
    X(QUOTE, "quote", 0, "C", "around a column: one byte, or none (default \")")                   \
    X(COMMENT, "comment", 0, "C", "lines that start with it are skipped: one byte, or none (#)")   \
    X(KEY, "key", 0, "N", "the column that holds the key, from 1 (default 1)")                     \
    X(VALUES, "values", 0, "N,…", "the columns that make the value (default: all others)")         \
    X(WINDOW, "window", 'w', "N", "operations in flight (default 1024; bench 64)")                 \
    X(SECONDS, "seconds", 0, "N", "how long to measure (default 5)")                               \
    X(RECORDS, "records", 0, "N", "keys used, from 0 up (default 100000)")                         \
    X(VALUE_BYTES, "value-bytes", 0, "N", "size of a value (default 64)")                          \
    X(READS, "reads", 0, "PERCENT",                                                                \
      "gets among the operations (default 100); the rest overwrite keys")                          \
    X(KEY_FILE, "key-file", 'K', "FILE|none",                                                      \
      "the key to show; else TORC_KEY_FILE, else that of the node of this machine")                \
    X(ROLES, "roles", 0, "ROLE,…", "what a principal may do: read, write, admin")                  \
    X(RANGES, "ranges", 0, "LO-HI,…|all", "keys that a principal may use, LO <= key < HI")         \
    X(MAX_SESSIONS, "max-sessions", 0, "N", "sessions of a principal at once (default 4096)")      \
    X(NODE, "node", 0, "N", "bind exported keys to node N")                                        \
    X(EPOCH, "epoch", 0, "E", "accept the loss in the epoch that was looked at")                   \
    X(OFF, "off", 0, "NODE,…", "nodes that may have a copy in sync, are off, and stay so")         \
    X(OUT, "out", 0, "FILE", "where an exported file goes, mode 0600 (default standard output)")   \
    X(HELP, "help", 'h', "", "this text")                                                          \
    X(VERSION, "version", 0, "", "the program's version")

enum torc_option {
#define X(name, text, letter, argument, help) TORC_OPTION_##name,
    TORC_OPTION_TABLE(X)
#undef X
    TORC_OPTION_COUNT_OF
};

#define TORC_OPTION_BIT(name) (UINT64_C(1) << TORC_OPTION_##name)

#define TORC_OPTIONS_CLIENT                                                        \
    (TORC_OPTION_BIT(CLUSTER) | TORC_OPTION_BIT(DATA) | TORC_OPTION_BIT(TIMEOUT) | \
     TORC_OPTION_BIT(KEY_FILE))
#define TORC_OPTIONS_SHOW (TORC_OPTION_BIT(OUTPUT) | TORC_OPTION_BIT(KEY_FORMAT))
#define TORC_OPTIONS_RANGE                                                              \
    (TORC_OPTION_BIT(CONSISTENCY) | TORC_OPTION_BIT(STALE) | TORC_OPTION_BIT(REVERSE) | \
     TORC_OPTION_BIT(LIMIT) | TORC_OPTION_BIT(KEYS_ONLY) | TORC_OPTION_BIT(COUNT) |     \
     TORC_OPTION_BIT(VERSIONS))
#define TORC_OPTIONS_CSV                                                              \
    (TORC_OPTION_BIT(SEPARATOR) | TORC_OPTION_BIT(QUOTE) | TORC_OPTION_BIT(COMMENT) | \
     TORC_OPTION_BIT(KEY) | TORC_OPTION_BIT(VALUES) | TORC_OPTION_BIT(WINDOW))
#define TORC_OPTIONS_IF_VALUE (TORC_OPTION_BIT(IF_PRESENT) | TORC_OPTION_BIT(IF_VERSION))
#define TORC_OPTIONS_ADMIN \
    (TORC_OPTION_BIT(DATA) | TORC_OPTION_BIT(OUTPUT) | TORC_OPTION_BIT(TIMEOUT))
#define TORC_OPTIONS_KEYS                                                               \
    (TORC_OPTION_BIT(ROLES) | TORC_OPTION_BIT(RANGES) | TORC_OPTION_BIT(MAX_SESSIONS) | \
     TORC_OPTION_BIT(NODE) | TORC_OPTION_BIT(OUT))
#define TORC_OPTIONS_BENCH                                                           \
    (TORC_OPTION_BIT(WINDOW) | TORC_OPTION_BIT(SECONDS) | TORC_OPTION_BIT(RECORDS) | \
     TORC_OPTION_BIT(VALUE_BYTES) | TORC_OPTION_BIT(READS) | TORC_OPTION_BIT(OUTPUT))

// X(NAME, text, operands, least, most, options, help, example)
#define TORC_VERB_TABLE(X)                                                                        \
    X(PUT, "put", "KEY VALUE|@FILE|-", 2, 2,                                                      \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTIONS_IF_VALUE |                           \
          TORC_OPTION_BIT(IF_ABSENT),                                                             \
      "store a value: the word itself, a file's bytes (@FILE) or standard input (-); "            \
      "a value that begins with @ or - comes by -",                                               \
      "torc put 42 'forty-two'")                                                                  \
    X(GET, "get", "KEY…", 1, TORC_ARGS_WORDS_MAX,                                                 \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTION_BIT(VERSIONS) |                       \
          TORC_OPTION_BIT(STALE),                                                                 \
      "show values; exit code 1 when a key has none", "torc get 42 -o raw > value.bin")           \
    X(DELETE, "delete", "KEY…", 1, TORC_ARGS_WORDS_MAX,                                           \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTIONS_IF_VALUE,                            \
      "delete keys; exit code 1 when one had no value", "torc delete 42")                         \
    X(RANGE, "range", "START END", 2, 2,                                                          \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTIONS_RANGE,                               \
      "show all pairs with START <= key < END, in the keys' order",                               \
      "torc range 0 1000 --reverse --limit 1")                                                    \
    X(COUNT, "count", "START END", 2, 2,                                                          \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTION_BIT(STALE),                           \
      "how many keys in [START, END) have a value", "torc count 0 1000000")                       \
    X(LOAD, "load", "FILE|-", 1, 1,                                                               \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_CSV | TORC_OPTION_BIT(KEY_FORMAT),                       \
      "store the lines of a CSV file; several value columns are joined by the separator",         \
      "torc load ranges.csv --key 1 --key-format ip --values 2,3")                                \
    X(EXPORT, "export", "START END", 2, 2,                                                        \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTION_BIT(SEPARATOR) |                      \
          TORC_OPTION_BIT(CONSISTENCY) | TORC_OPTION_BIT(STALE),                                  \
      "write all pairs in [START, END) as CSV that `torc load` reads back",                       \
      "torc export 0 4294967296 > all.csv")                                                       \
    X(TRACE, "trace", "get KEY|put KEY VALUE|delete KEY", 2, 3,                                   \
      TORC_OPTIONS_CLIENT | TORC_OPTIONS_SHOW | TORC_OPTION_BIT(LIMIT),                           \
      "do one request and show where its microseconds went; a get is repeated with --limit, "     \
      "and medians are shown",                                                                    \
      "torc trace get 42 --limit 100")                                                            \
    X(STATUS, "status", "", 0, 0, TORC_OPTIONS_ADMIN,                                             \
      "how the node of this machine is, and what to do if it is not well", "torc status")         \
    X(STATS, "stats", "[memory]", 0, 1, TORC_OPTIONS_ADMIN,                                       \
      "what the node of this machine has counted; or what its memory is used for",                \
      "torc stats memory")                                                                        \
    X(SESSIONS, "sessions", "", 0, 0, TORC_OPTIONS_ADMIN | TORC_OPTION_BIT(LIMIT),                \
      "who has sessions with the node of this machine, those heard of last first (100 of them, "  \
      "or --limit)",                                                                              \
      "torc sessions --limit 20")                                                                 \
    X(CHECKPOINT, "checkpoint", "", 0, 0, TORC_OPTIONS_ADMIN,                                     \
      "write checkpoints of all shards now", "torc checkpoint")                                   \
    X(NODE, "node", "drain|undrain NODE", 2, 2, TORC_OPTIONS_ADMIN,                               \
      "let a node of the cluster lead no shard: it keeps its replicas, others answer for it; "    \
      "or let it lead again",                                                                     \
      "torc node drain 2")                                                                        \
    X(PLACEMENT, "placement", "", 0, 0, TORC_OPTIONS_ADMIN,                                       \
      "who places the cluster's shards, each node's share of them, what is moving and what it "   \
      "waits for, as the node of this machine sees it",                                           \
      "torc placement")                                                                           \
    X(SHARD, "shard", "accept-loss|acknowledge-loss SHARD", 2, 2,                                 \
      TORC_OPTIONS_ADMIN | TORC_OPTION_BIT(EPOCH) | TORC_OPTION_BIT(OFF),                         \
      "of a shard whose copies in sync are all lost for good: look at what the copy of this "     \
      "machine's node has, and with --epoch go on from it, without what it lacks",                \
      "torc shard accept-loss 3")                                                                 \
    X(KEYS, "keys", "[list|add|change|rotate|remove-key|revoke|export|reload] [NAME] [ID]", 0, 3, \
      TORC_OPTIONS_ADMIN | TORC_OPTIONS_KEYS,                                                     \
      "who may talk to the cluster of this machine's node: show, add, change, rotate its key, "   \
      "remove its old key, revoke, export what it shows or (--node) what a node has",             \
      "torc keys add web --roles read,write --ranges 0-1000")                                     \
    X(BENCH, "bench", "", 0, 0, TORC_OPTIONS_CLIENT | TORC_OPTIONS_BENCH,                         \
      "a short measurement with one client, of gets; with --reads below 100 it overwrites keys "  \
      "0 to --records; see also torc-perf",                                                       \
      "torc bench --seconds 3 --window 64")                                                       \
    X(STOP, "stop", "", 0, 0, TORC_OPTION_BIT(DATA) | TORC_OPTION_BIT(TIMEOUT),                   \
      "stop the node that `torc serve` runs on this machine; a second one only waits on",         \
      "torc stop")                                                                                \
    X(SERVE, "serve", "[--detach] [--SETTING VALUE…]", 0, TORC_ARGS_WORDS_MAX, 0,                 \
      "run a node here, or in the background with --detach; makes what is missing",               \
      "torc serve --data /var/lib/torc --keys 4294967296")                                        \
    X(DEMO, "demo", "[--nodes N] [--metastore file|etcd] [--clear] [--keep]", 0,                  \
      TORC_ARGS_WORDS_MAX, 0,                                                                     \
      "as root: a cluster on this machine, in a network namespace of its own, with real data; "   \
      "kills the primary of a shard that a client uses and says how long the client waited",      \
      "torc demo --nodes 3")                                                                      \
    X(INIT, "init", "[--SETTING VALUE…]", 0, TORC_ARGS_WORDS_MAX, 0,                              \
      "make a data directory and its cluster, without starting it",                               \
      "torc init --data /var/lib/torc --keys 4294967296 --shards 8")                              \
    X(VERIFY, "verify", "[--SETTING VALUE…]", 0, TORC_ARGS_WORDS_MAX, 0,                          \
      "read all files of a stopped node and check them", "torc verify --data /var/lib/torc")      \
    X(COMPLETION, "completion", "[bash]", 0, 1, 0, "the completion script of a shell",            \
      "torc completion bash > /etc/bash_completion.d/torc")                                       \
    X(HELP, "help", "[VERB]", 0, 1, 0, "this list, or how a verb is used", "torc help range")

enum torc_verb {
#define X(name, text, operands, least, most, options, help, example) TORC_VERB_##name,
    TORC_VERB_TABLE(X)
#undef X
    TORC_VERB_COUNT_OF
};

// X(NAME, number, help). What the program's exit status says.
#define TORC_EXIT_TABLE(X)                                                                      \
    X(OK, 0, "done")                                                                            \
    X(NOT_FOUND, 1, "a key has no value, or a principal or a node that was named is not there") \
    X(USAGE, 2, "an argument is wrong, or the server refused it; nothing was changed")          \
    X(UNAVAILABLE, 3, "no answer in time, or the node cannot do it now; trying later may help") \
    X(CONDITION, 4, "a condition (--if-…) does not hold")                                       \
    X(IN_DOUBT, 5, "a write may or may not have taken effect: read before writing again")       \
    X(FAULT, 6, "a fault: of a file, of the node, or of this program")

enum torc_exit {
#define X(name, number, help) TORC_EXIT_##name = (number),
    TORC_EXIT_TABLE(X)
#undef X
};

struct torc_args {
    enum torc_verb verb; // TORC_VERB_COUNT_OF: none was given
    uint64_t given;      // bit per option
    const char *values[TORC_OPTION_COUNT_OF];
    const char *words[TORC_ARGS_WORDS_MAX]; // operands, the verb left out
    uint32_t word_count;
    uint32_t verb_index; // of the verb in argv, for verbs that are passed on
};

static inline bool torc_args_given(const struct torc_args *args, enum torc_option option)
{
    return (args->given >> option & 1) != 0;
}

// `argv` without the program's name. For init, serve, verify and demo parsing ends at the verb, and
// words and options behind it are the business of who is started.
enum torc_err torc_must_use torc_args_parse(struct torc_args *args, const char *const *argv,
                                            uint32_t count, struct torc_fail *why);

const char *torc_verb_name(enum torc_verb verb);

// The verb of that name, or TORC_VERB_COUNT_OF.
enum torc_verb torc_verb_find(const char *text);

enum torc_exit torc_exit_of(enum torc_err err);

struct torc_args_span {
    uint64_t fallback; // when the option was not given
    uint64_t least;
    uint64_t most;
};

// A number of an option.
enum torc_err torc_must_use torc_args_number(const struct torc_args *args, enum torc_option option,
                                             struct torc_args_span span, uint64_t *value,
                                             struct torc_fail *why);

// Help on all, or on one verb. Returns the length; `text` has TORC_ARGS_HELP_BYTES.
uint32_t torc_args_help(enum torc_verb verb, char *text);

// The completion script for bash. Returns the length; `text` has TORC_ARGS_HELP_BYTES.
uint32_t torc_args_completion(char *text);

// The option names of a verb, or all verbs, for completion: the index-th that starts with
// `prefix`, or NULL when there are no more.
const char *torc_args_complete_verb(const char *prefix, uint32_t index);
const char *torc_args_complete_option(enum torc_verb verb, const char *prefix, uint32_t index);

#endif
