// Torc cli: what `torc keys` changes about a principal.
//
// What    the words behind `keys`, numbers and ids that are free, and each change as a function
//         from the principals of a file to the one that is written anew. Files and randomness are
//         keys_os.c's.
// Owner   none: pure functions.
#ifndef TORC_CLIENT_CLI_KEYS_H
#define TORC_CLIENT_CLI_KEYS_H

#include "wire/keyfile.h"

// X(NAME, text, operands behind it, help)
#define TORC_KEYS_ACTION_TABLE(X)                                              \
    X(LIST, "list", 0, "who there is")                                         \
    X(ADD, "add", 1, "a new principal: NAME --roles …")                        \
    X(CHANGE, "change", 1, "other roles, ranges or sessions")                  \
    X(ROTATE, "rotate", 1, "a second key beside the first")                    \
    X(REMOVE_KEY, "remove-key", 2, "NAME ID; its sessions end in a minute")    \
    X(REVOKE, "revoke", 1, "no such principal any more; its sessions end now") \
    X(EXPORT, "export", 1, "a client's key file")                              \
    X(RELOAD, "reload", 0, "the node reads torc.keys again")

enum torc_keys_action {
#define X(name, text, operands, help) TORC_KEYS_##name,
    TORC_KEYS_ACTION_TABLE(X)
#undef X
    TORC_KEYS_ACTION_COUNT
};

// The action of a word, its operands counted. INVALID_ARGUMENT lists them.
enum torc_err torc_must_use torc_keys_action(const char *word, uint32_t operands, bool node_named,
                                             enum torc_keys_action *action, struct torc_fail *why);

// Roles, ranges and sessions as the options say; NULL: not given.
struct torc_keys_wish {
    const char *roles;
    const char *ranges; // "all" too
    const char *sessions;
};

struct torc_keys_file {
    const struct torc_principal *principals;
    uint32_t count;
};

// The principal of that name, or NULL.
const struct torc_principal *torc_keys_find(const struct torc_keys_file *file, const char *name);

// A new one, with one key. `random`: its key.
enum torc_err torc_must_use torc_keys_add(const struct torc_keys_file *file, const char *name,
                                          const struct torc_keys_wish *wish,
                                          const uint8_t random[TORC_PSK_BYTES],
                                          struct torc_principal *added, struct torc_fail *why);

// The others change one that is there: *principal begins as its copy.
enum torc_err torc_must_use torc_keys_change(struct torc_principal *principal,
                                             const struct torc_keys_wish *wish,
                                             struct torc_fail *why);
enum torc_err torc_must_use torc_keys_rotate(struct torc_principal *principal,
                                             const uint8_t random[TORC_PSK_BYTES],
                                             struct torc_fail *why);
enum torc_err torc_must_use torc_keys_remove_key(struct torc_principal *principal, const char *id,
                                                 struct torc_fail *why);

// What a client of the principal shows: its newest key, bound to `node` unless that is 0.
enum torc_err torc_must_use torc_keys_client(const struct torc_principal *principal,
                                             uint64_t cluster, uint32_t node,
                                             struct torc_client_key *key, struct torc_fail *why);

// The whole file with all keys bound to `node`.
enum torc_err torc_must_use torc_keys_node_file(struct torc_text *out,
                                                const struct torc_keys_file *file, uint64_t cluster,
                                                uint32_t node, struct torc_fail *why);

#endif
