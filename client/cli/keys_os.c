// Torc cli: `torc keys`: who may talk to the cluster of this machine's node.
//
// What    works on torc.keys of the data directory, whether the node runs or not, then asks a node
//         that runs to read it. Only root and the directory's owner can; what is listed, and by
//         whom, is the node's own answer.
// Memory  texts and principals in memory for secrets (kit/secret_os.h).
#include "client/cli/admin_os.h"
#include "client/cli/keys.h"
#include "kit/node_file.h"
#include "kit/secret_os.h"
#include "wire/op.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEYS_DATA_BYTES = 512,
    KEYS_PATH_BYTES = KEYS_DATA_BYTES + 16,
    KEYS_LINE_BYTES = 4096 // of a principal, with 64 ranges
};

// The directory, held against other `torc keys` while it is open.
struct keys_dir {
    char data[KEYS_DATA_BYTES];
    char path[KEYS_PATH_BYTES]; // of torc.keys
    int fd;
    uint64_t timeout_us; // of what the node is asked
    uint32_t uid;
    uint32_t gid;
    struct torc_node_id id;
    struct torc_secret text;   // of the file; empty: there is none
    struct torc_secret parsed; // its principals
    struct torc_keys_file file;
};

// -- Opening -------------------------------------------------------------------------------------

static void keys_close(struct keys_dir *dir)
{
    torc_secret_close(&dir->parsed);
    torc_secret_close(&dir->text);
    if (dir->fd >= 0) {
        (void)close(dir->fd);
    }
}

static enum torc_err keys_read_id(struct keys_dir *dir, struct torc_fail *why)
{
    struct torc_node_file file;
    int fd = openat(dir->fd, "torc.node", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, &file, sizeof(file)) : -1;
    int reason = errno;

    if (fd >= 0) {
        (void)close(fd); // only read
    }
    if (got != (ssize_t)sizeof(file)) {
        return torc_fail(why, TORC_ERR_NOT_FOUND,
                         "no node in %.80s (torc.node: %s): make one with torc init --data …",
                         dir->data, got < 0 ? strerrordesc_np(reason) : "cut");
    }
    return torc_node_file_check(&file, dir->data, &dir->id, why);
}

static enum torc_err keys_open_folder(struct keys_dir *dir, struct torc_fail *why)
{
    struct stat at;

    dir->fd = open(dir->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0 || fstat(dir->fd, &at) != 0) {
        return torc_fail(why, errno == ENOENT ? TORC_ERR_NOT_FOUND : TORC_ERR_FORBIDDEN,
                         "open %.100s: %s", dir->data, strerrordesc_np(errno));
    }
    if (geteuid() != 0 && geteuid() != at.st_uid) {
        return torc_fail(why, TORC_ERR_FORBIDDEN,
                         "%.80s belongs to uid %u: only that user and root may change its keys",
                         dir->data, at.st_uid);
    }
    dir->uid = at.st_uid;
    dir->gid = at.st_gid;
    while (flock(dir->fd, LOCK_EX) != 0) {
        if (errno != EINTR) {
            return torc_fail(why, TORC_ERR_IO, "flock %.100s: %s", dir->data,
                             strerrordesc_np(errno));
        }
    }
    return keys_read_id(dir, why);
}

static enum torc_err keys_open(struct keys_dir *dir, const char *data, struct torc_fail *why)
{
    struct torc_secret_rules rules = {.bytes_max = TORC_KEYS_FILE_BYTES_MAX, .mode = 0600};
    struct torc_fail what = {0};
    enum torc_err err;

    *dir = (struct keys_dir){.fd = -1};
    (void)snprintf(dir->data, sizeof(dir->data), "%s", data);
    (void)snprintf(dir->path, sizeof(dir->path), "%s/torc.keys", data);
    err = keys_open_folder(dir, why);
    if (err == TORC_ERR_OK) {
        err = torc_secret_open(&dir->parsed,
                               TORC_KEYS_PRINCIPALS_MAX * sizeof(struct torc_principal), why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    dir->file.principals = dir->parsed.bytes;
    rules.owner = dir->uid;
    err = torc_secret_read(&dir->text, dir->path, &rules, why);
    if (err == TORC_ERR_NOT_FOUND) {
        return TORC_ERR_OK; // nobody yet
    }
    if (err == TORC_ERR_OK) {
        err = torc_keyfile_parse(dir->text.bytes, dir->text.byte_count, dir->parsed.bytes,
                                 &dir->file.count, &what);
        if (err != TORC_ERR_OK) {
            err = torc_fail(why, err, "%.40s, %.110s", dir->path, what.text);
        }
    }
    return err;
}

// -- Writing -------------------------------------------------------------------------------------

static enum torc_err keys_random(uint8_t random[TORC_PSK_BYTES], struct torc_fail *why)
{
    if (getrandom(random, TORC_PSK_BYTES, 0) != TORC_PSK_BYTES) {
        return torc_fail(why, TORC_ERR_IO, "getrandom: %s", strerrordesc_np(errno));
    }
    return TORC_ERR_OK;
}

static enum torc_err keys_write_client(const struct keys_dir *dir, const char *path,
                                       const struct torc_client_key *key, struct torc_fail *why)
{
    char bytes[TORC_CLIENT_KEY_BYTES_MAX];
    struct torc_text text = {.bytes = bytes, .room = sizeof(bytes) - 1};
    enum torc_err err = TORC_ERR_OK;

    torc_client_key_write(&text, key);
    if (path == NULL) {
        err = torc_cli_write(bytes, torc_text_bytes(&text), why);
    } else {
        err = torc_secret_write(path, bytes, torc_text_bytes(&text), dir->uid, dir->gid, why);
    }
    explicit_bzero(bytes, sizeof(bytes));
    return err;
}

// What clients of this machine show follows the principal that it is of.
static enum torc_err keys_write_local(const struct keys_dir *dir,
                                      const struct torc_principal *principal, struct torc_fail *why)
{
    char path[KEYS_PATH_BYTES];
    struct torc_client_key key;
    enum torc_err err = torc_keys_client(principal, dir->id.cluster, 0, &key, why);

    (void)snprintf(path, sizeof(path), "%s/local.key", dir->data);
    if (err == TORC_ERR_OK) {
        err = keys_write_client(dir, path, &key, why);
    }
    explicit_bzero(&key, sizeof(key));
    return err;
}

// Tells the node of the directory, if it runs; *words says what came of it.
static enum torc_err keys_reload(const struct keys_dir *dir, const char **words,
                                 struct torc_fail *why)
{
    json_t *answer = NULL;
    enum torc_err err = torc_admin_ask(dir->data, "keys-reload", dir->timeout_us, &answer, why);

    if (err == TORC_ERR_NOT_CONNECTED) {
        *words = "in force from the node's next start";
        return TORC_ERR_OK;
    }
    if (err == TORC_ERR_OK) {
        *words = "in force";
        err = torc_admin_verdict(answer, why);
        json_decref(answer);
    }
    return err;
}

// The file with `principal` (NULL: without the one of that name), in force if the node runs.
static enum torc_err keys_save(const struct keys_dir *dir, const char *name,
                               const struct torc_principal *principal, const char **words,
                               struct torc_fail *why)
{
    struct torc_secret written;
    enum torc_err err = torc_secret_open(&written, dir->text.byte_count + KEYS_LINE_BYTES, why);
    struct torc_text out = {.bytes = written.bytes, .room = written.room - 1};

    if (err != TORC_ERR_OK) {
        return err;
    }
    torc_keyfile_edit(&out, dir->text.byte_count > 0 ? dir->text.bytes : "", dir->text.byte_count,
                      name, principal);
    torc_assert(out.used <= out.room);
    err = torc_secret_write(dir->path, written.bytes, out.used, dir->uid, dir->gid, why);
    torc_secret_close(&written);
    if (err == TORC_ERR_OK) {
        err = keys_reload(dir, words, why);
    }
    if (err == TORC_ERR_OK && principal != NULL && strcmp(name, "local") == 0) {
        err = keys_write_local(dir, principal, why);
    }
    return err;
}

// What a change whose reload failed left, or a file that came from another node.
static enum torc_err keys_renew_local(const struct keys_dir *dir, struct torc_fail *why)
{
    const struct torc_principal *local = torc_keys_find(&dir->file, "local");

    if (local == NULL || faccessat(dir->fd, "local.key", F_OK, 0) != 0) {
        return TORC_ERR_OK;
    }
    return keys_write_local(dir, local, why);
}

// -- Actions -------------------------------------------------------------------------------------

static struct torc_keys_wish keys_wish(const struct torc_args *args)
{
    return (struct torc_keys_wish){.roles = args->values[TORC_OPTION_ROLES],
                                   .ranges = args->values[TORC_OPTION_RANGES],
                                   .sessions = args->values[TORC_OPTION_MAX_SESSIONS]};
}

static enum torc_err keys_add(const struct keys_dir *dir, const struct torc_args *args,
                              struct torc_fail *why)
{
    const struct torc_keys_wish wish = keys_wish(args);
    const char *name = args->words[1];
    struct torc_principal added;
    uint8_t random[TORC_PSK_BYTES];
    const char *words = "";
    enum torc_err err = keys_random(random, why);

    if (err == TORC_ERR_OK) {
        err = torc_keys_add(&dir->file, name, &wish, random, &added, why);
    }
    if (err == TORC_ERR_OK) {
        err = keys_save(dir, name, &added, &words, why);
    }
    if (err == TORC_ERR_OK) {
        (void)printf("%s is principal %" PRIu32 ", key 1, %s; torc keys export %s --out FILE makes "
                     "what its clients show\n",
                     name, added.number, words, name);
    }
    explicit_bzero(random, sizeof(random));
    explicit_bzero(&added, sizeof(added));
    return err;
}

static enum torc_err keys_alter(enum torc_keys_action action, const struct torc_args *args,
                                struct torc_principal *principal, struct torc_fail *why)
{
    const struct torc_keys_wish wish = keys_wish(args);
    uint8_t random[TORC_PSK_BYTES];
    enum torc_err err;

    if (action == TORC_KEYS_CHANGE) {
        return torc_keys_change(principal, &wish, why);
    }
    if (action == TORC_KEYS_REMOVE_KEY) {
        return torc_keys_remove_key(principal, args->words[2], why);
    }
    err = keys_random(random, why);
    if (err == TORC_ERR_OK) {
        err = torc_keys_rotate(principal, random, why);
    }
    explicit_bzero(random, sizeof(random));
    return err;
}

static void keys_say(enum torc_keys_action action, const struct torc_principal *principal,
                     const char *words)
{
    const char *name = principal->name;

    if (action == TORC_KEYS_CHANGE) {
        (void)printf("%s is changed, %s; its sessions with other roles or ranges have ended\n",
                     name, words);
    } else if (action == TORC_KEYS_REMOVE_KEY) {
        (void)printf("%s has key %u alone, %s; sessions made with the other end within a minute\n",
                     name, principal->psks[0].id, words);
    } else if (principal->roles == TORC_ROLE_NODE) {
        (void)printf("%s has keys %u and %u, %s; next: copy torc.keys to all other nodes, torc "
                     "keys reload there, then torc keys remove-key %s %u here and the file again\n",
                     name, principal->psks[0].id, principal->psks[1].id, words, name,
                     principal->psks[0].id);
    } else {
        (void)printf("%s has keys %u and %u, %s; next: torc keys export %s --out FILE, give it to "
                     "its clients, then torc keys remove-key %s %u\n",
                     name, principal->psks[0].id, principal->psks[1].id, words, name, name,
                     principal->psks[0].id);
    }
}

static enum torc_err keys_named(const struct keys_dir *dir, enum torc_keys_action action,
                                const struct torc_args *args, struct torc_fail *why)
{
    const struct torc_principal *found = torc_keys_find(&dir->file, args->words[1]);
    struct torc_principal principal;
    const char *words = "";
    enum torc_err err;

    if (found == NULL) {
        return torc_fail(why, TORC_ERR_NOT_FOUND, "%.40s: no such principal; torc keys list",
                         args->words[1]);
    }
    if (action == TORC_KEYS_REVOKE) {
        err = keys_save(dir, found->name, NULL, &words, why);
        if (err == TORC_ERR_OK) {
            (void)printf("%s is revoked, %s; its sessions have ended\n", found->name, words);
        }
        return err;
    }
    principal = *found;
    err = keys_alter(action, args, &principal, why);
    if (err == TORC_ERR_OK) {
        err = keys_save(dir, found->name, &principal, &words, why);
    }
    if (err == TORC_ERR_OK) {
        keys_say(action, &principal, words);
    }
    explicit_bzero(&principal, sizeof(principal));
    return err;
}

static enum torc_err keys_export_node(const struct keys_dir *dir, const char *path, uint32_t node,
                                      struct torc_fail *why)
{
    struct torc_secret written;
    uint64_t room = (uint64_t)(dir->file.count + 1) * KEYS_LINE_BYTES;
    enum torc_err err = torc_secret_open(&written, room, why);
    struct torc_text out = {.bytes = written.bytes, .room = written.room - 1};

    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_keys_node_file(&out, &dir->file, dir->id.cluster, node, why);
    torc_assert(out.used <= out.room);
    if (err == TORC_ERR_OK && path == NULL) {
        err = torc_cli_write(written.bytes, out.used, why);
    } else if (err == TORC_ERR_OK) {
        err = torc_secret_write(path, written.bytes, out.used, dir->uid, dir->gid, why);
    }
    torc_secret_close(&written);
    return err;
}

static enum torc_err keys_export(const struct keys_dir *dir, const struct torc_args *args,
                                 struct torc_fail *why)
{
    const char *path = args->values[TORC_OPTION_OUT];
    const struct torc_principal *found;
    struct torc_client_key key;
    uint64_t node = 0;
    enum torc_err err = torc_args_number(
        args, TORC_OPTION_NODE, (struct torc_args_span){.least = 1, .most = 4095}, &node, why);

    if (err != TORC_ERR_OK || args->word_count == 1) {
        return err != TORC_ERR_OK ? err : keys_export_node(dir, path, (uint32_t)node, why);
    }
    found = torc_keys_find(&dir->file, args->words[1]);
    if (found == NULL) {
        return torc_fail(why, TORC_ERR_NOT_FOUND, "%.40s: no such principal; torc keys list",
                         args->words[1]);
    }
    err = torc_keys_client(found, dir->id.cluster, (uint32_t)node, &key, why);
    if (err == TORC_ERR_OK) {
        err = keys_write_client(dir, path, &key, why);
    }
    explicit_bzero(&key, sizeof(key));
    return err;
}

// -- Listing -------------------------------------------------------------------------------------

static json_t *keys_list_line(const struct torc_principal *principal)
{
    char ranges_text[KEYS_LINE_BYTES];
    char roles_text[64];
    char keys_text[16];
    struct torc_text ranges = {.bytes = ranges_text, .room = sizeof(ranges_text) - 1};
    struct torc_text roles = {.bytes = roles_text, .room = sizeof(roles_text) - 1};

    torc_text_add(&ranges, "%s", principal->range_count == 0 ? "all" : "");
    torc_ranges_write(&ranges, principal->ranges, principal->range_count);
    torc_roles_write(&roles, principal->roles);
    (void)snprintf(keys_text, sizeof(keys_text), principal->psk_count == 1 ? "%u" : "%u,%u",
                   principal->psks[0].id, principal->psks[1].id);
    return json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I}", "name", principal->name, "number",
                     (json_int_t)principal->number, "roles", roles_text, "ranges", ranges_text,
                     "keys", keys_text, "max_sessions", (json_int_t)principal->sessions_max,
                     "sessions", (json_int_t)0);
}

// As the node would say it, of a node that does not run.
static enum torc_err keys_list_file(struct torc_cli *cli, const char *data, struct torc_fail *why)
{
    struct keys_dir dir;
    json_t *lines = json_array();
    json_t *answer = json_pack("{s:b, s:b, s:o}", "ok", 1, "in_force", 0, "principals", lines);
    enum torc_err err = keys_open(&dir, data, why);

    for (uint32_t i = 0; i < dir.file.count && err == TORC_ERR_OK; i++) {
        if (json_array_append_new(lines, keys_list_line(&dir.file.principals[i])) != 0) {
            err = torc_fail(why, TORC_ERR_INTERNAL, "no memory for the list");
        }
    }
    if (err == TORC_ERR_OK) {
        torc_admin_show(cli, answer);
    }
    json_decref(answer);
    keys_close(&dir);
    return err;
}

static enum torc_err keys_list(struct torc_cli *cli, const char *data, struct torc_fail *why)
{
    json_t *answer = NULL;
    uint64_t timeout_us = 0;
    enum torc_err err = torc_admin_timeout(cli->args, &timeout_us, why);

    if (err == TORC_ERR_OK) {
        err = torc_admin_ask(data, "keys", timeout_us, &answer, why);
    }

    if (err == TORC_ERR_NOT_CONNECTED) {
        return keys_list_file(cli, data, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_admin_verdict(answer, why);
    }
    if (err == TORC_ERR_OK) {
        torc_admin_show(cli, answer);
    }
    json_decref(answer);
    return err;
}

// -- All -----------------------------------------------------------------------------------------

static enum torc_err keys_act(struct torc_cli *cli, enum torc_keys_action action, const char *data,
                              struct torc_fail *why)
{
    struct keys_dir dir;
    const char *words = "";
    enum torc_err err;

    if (action == TORC_KEYS_LIST) {
        return keys_list(cli, data, why);
    }
    err = keys_open(&dir, data, why);
    if (err == TORC_ERR_OK) {
        err = torc_admin_timeout(cli->args, &dir.timeout_us, why);
    }
    if (err == TORC_ERR_OK) {
        switch (action) {
        case TORC_KEYS_ADD: err = keys_add(&dir, cli->args, why); break;
        case TORC_KEYS_EXPORT: err = keys_export(&dir, cli->args, why); break;
        case TORC_KEYS_RELOAD:
            err = keys_reload(&dir, &words, why);
            if (err == TORC_ERR_OK) {
                err = keys_renew_local(&dir, why);
            }
            if (err == TORC_ERR_OK) {
                (void)printf("%" PRIu32 " principals, %s\n", dir.file.count, words);
            }
            break;
        case TORC_KEYS_CHANGE:
        case TORC_KEYS_ROTATE:
        case TORC_KEYS_REMOVE_KEY:
        case TORC_KEYS_REVOKE: err = keys_named(&dir, action, cli->args, why); break;
        case TORC_KEYS_LIST:
        case TORC_KEYS_ACTION_COUNT: torc_unreachable("listing needs no file");
        }
    }
    keys_close(&dir);
    return err;
}

enum torc_err torc_cli_keys(struct torc_cli *cli, struct torc_fail *why)
{
    const struct torc_args *args = cli->args;
    char data[KEYS_DATA_BYTES];
    enum torc_keys_action action = TORC_KEYS_LIST;
    enum torc_err err = TORC_ERR_OK;

    if (args->word_count > 0) {
        err = torc_keys_action(args->words[0], args->word_count - 1,
                               torc_args_given(args, TORC_OPTION_NODE), &action, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_data(args, data, sizeof(data), why);
    }
    return err == TORC_ERR_OK ? keys_act(cli, action, data, why) : err;
}
