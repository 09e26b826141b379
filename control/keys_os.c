// Torc control: the key file of the data directory; see keys_os.h.
#include "control/keys_os.h"

#include "control/data_dir_os.h"
#include "wire/op.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEYS_PATH_BYTES = TORC_DATA_DIR_PATH_BYTES + 16,
    KEYS_LINE_BYTES = 512 // of a principal without ranges
};

static const char keys_local[] = "local";
static const char keys_nodes[] = "nodes";

static const char keys_head[] =
    TORC_KEYS_FIRST_LINE "\n"
                         "# Who may talk to this cluster. Change it by `torc keys`; or by hand, "
                         "then `torc keys reload`.\n"
                         "# name number roles [key ranges] [max_sessions=N] id:key [id:key]\n";

static enum torc_err keys_read(struct torc_secret *text, const char *data, struct torc_fail *why)
{
    struct torc_secret_rules rules = {
        .bytes_max = TORC_KEYS_FILE_BYTES_MAX, .mode = 0600, .owner = geteuid()};
    char path[KEYS_PATH_BYTES];

    (void)snprintf(path, sizeof(path), "%s/torc.keys", data);
    return torc_secret_read(text, path, &rules, why);
}

// Principals of a text, in memory for secrets.
static enum torc_err keys_parse(struct torc_secret *parsed, const struct torc_secret *text,
                                uint32_t *count, struct torc_fail *why)
{
    struct torc_fail what = {0};
    enum torc_err err =
        torc_secret_open(parsed, TORC_KEYS_PRINCIPALS_MAX * sizeof(struct torc_principal), why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_keyfile_parse(text->bytes, text->byte_count, parsed->bytes, count, &what);
    if (err != TORC_ERR_OK) {
        torc_secret_close(parsed);
        return torc_fail(why, err, "torc.keys, %.145s", what.text);
    }
    return TORC_ERR_OK;
}

// -- Making it -----------------------------------------------------------------------------------

static enum torc_err keys_write_client(const char *data, uint64_t cluster,
                                       const struct torc_principal *principal,
                                       struct torc_fail *why)
{
    struct torc_client_key key = {.cluster = cluster,
                                  .principal = principal->number,
                                  .psk = principal->psks[principal->psk_count - 1]};
    char path[KEYS_PATH_BYTES];
    char bytes[TORC_CLIENT_KEY_BYTES_MAX];
    struct torc_text text = {.bytes = bytes, .room = sizeof(bytes) - 1};
    enum torc_err err;

    memcpy(key.name, principal->name, sizeof(key.name));
    torc_client_key_write(&text, &key);
    (void)snprintf(path, sizeof(path), "%s/local.key", data);
    err = torc_secret_write(path, bytes, torc_text_bytes(&text), geteuid(), getegid(), why);
    explicit_bzero(bytes, sizeof(bytes));
    explicit_bzero(&key, sizeof(key));
    return err;
}

static enum torc_err keys_make_file(const char *data, struct torc_fail *why)
{
    struct torc_principal principal = {.number = 1,
                                       .roles = TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN,
                                       .sessions_max = TORC_KEYS_SESSIONS_DEFAULT,
                                       .psk_count = 1};
    char path[KEYS_PATH_BYTES];
    char bytes[sizeof(keys_head) + 2 * (uint64_t)KEYS_LINE_BYTES];
    struct torc_text text = {.bytes = bytes, .room = sizeof(bytes) - 1};
    enum torc_err err;

    memcpy(principal.name, keys_local, sizeof(keys_local));
    principal.psks[0].id = 1;
    torc_random(principal.psks[0].bytes, TORC_PSK_BYTES);
    torc_text_add(&text, "%s", keys_head);
    torc_principal_write(&text, &principal);
    torc_text_add(&text, "\n");
    // Nodes among themselves.
    principal.number = TORC_KEYS_NUMBER_MAX;
    principal.roles = TORC_ROLE_NODE;
    memcpy(principal.name, keys_nodes, sizeof(keys_nodes));
    torc_random(principal.psks[0].bytes, TORC_PSK_BYTES);
    torc_principal_write(&text, &principal);
    torc_text_add(&text, "\n");
    torc_assert(text.used <= text.room);
    (void)snprintf(path, sizeof(path), "%s/torc.keys", data);
    err = torc_secret_write(path, bytes, text.used, geteuid(), getegid(), why);
    explicit_bzero(bytes, sizeof(bytes));
    explicit_bzero(&principal, sizeof(principal));
    return err;
}

static enum torc_err keys_make_local(const char *data, uint64_t cluster,
                                     const struct torc_principal *principals, uint32_t count,
                                     struct torc_fail *why)
{
    char path[KEYS_PATH_BYTES];

    (void)snprintf(path, sizeof(path), "%s/local.key", data);
    if (access(path, F_OK) == 0) {
        return TORC_ERR_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(principals[i].name, keys_local) == 0) {
            return keys_write_client(data, cluster, &principals[i], why);
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_keys_make(const char *data, uint64_t cluster, struct torc_fail *why)
{
    struct torc_secret text;
    struct torc_secret parsed = {0};
    uint32_t count = 0;
    enum torc_err err = keys_read(&text, data, why);

    if (err == TORC_ERR_NOT_FOUND) {
        err = keys_make_file(data, why);
        if (err == TORC_ERR_OK) {
            err = keys_read(&text, data, why);
        }
    }
    if (err == TORC_ERR_OK) {
        err = keys_parse(&parsed, &text, &count, why);
    }
    if (err == TORC_ERR_OK) {
        err = keys_make_local(data, cluster, parsed.bytes, count, why);
    }
    torc_secret_close(&parsed);
    torc_secret_close(&text);
    return err;
}

// -- Reading it ----------------------------------------------------------------------------------

static enum torc_err keys_fill(struct torc_keys *keys, const struct torc_principal *principals,
                               uint32_t count, uint64_t cluster, uint32_t node,
                               struct torc_fail *why)
{
    enum torc_err err = torc_secret_open(
        &keys->secret, TORC_CHAN_PRINCIPALS_MAX * sizeof(struct torc_chan_principal), why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    keys->list = keys->secret.bytes;
    keys->count = count;
    keys->known = calloc(count + 1, sizeof(*keys->known));
    torc_assert(keys->known != NULL);
    return torc_keys_table(keys->list, keys->known, principals, count,
                           &(struct torc_keys_place){.cluster = cluster, .node = node}, why);
}

enum torc_err torc_keys_load(struct torc_keys *keys, const char *data, uint64_t cluster,
                             uint32_t node, struct torc_fail *why)
{
    struct torc_secret text;
    struct torc_secret parsed = {0};
    struct torc_keys fresh = {0};
    uint32_t count = 0;
    enum torc_err err = keys_read(&text, data, why);

    if (err == TORC_ERR_OK) {
        err = keys_parse(&parsed, &text, &count, why);
    }
    if (err == TORC_ERR_OK) {
        err = keys_fill(&fresh, parsed.bytes, count, cluster, node, why);
    }
    torc_secret_close(&parsed);
    torc_secret_close(&text);
    if (err != TORC_ERR_OK) {
        torc_keys_close(&fresh);
        return err;
    }
    torc_keys_close(keys);
    *keys = fresh;
    return TORC_ERR_OK;
}

void torc_keys_close(struct torc_keys *keys)
{
    torc_secret_close(&keys->secret);
    free(keys->known);
    *keys = (struct torc_keys){0};
}
