// Torc client: which key a queue shows; see key_os.h.
#include "client/key_os.h"

#include "kit/secret_os.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum torc_err torc_client_path(const char *name, char path[TORC_CLIENT_PATH_BYTES],
                               struct torc_fail *why)
{
    const char *home = getenv("HOME");          // NOLINT(concurrency-mt-unsafe)
    const char *data = getenv("XDG_DATA_HOME"); // NOLINT(concurrency-mt-unsafe)
    int length;

    if (geteuid() == 0) {
        length = snprintf(path, TORC_CLIENT_PATH_BYTES, "/var/lib/torc/%s", name);
    } else if (data != NULL && data[0] == '/') {
        length = snprintf(path, TORC_CLIENT_PATH_BYTES, "%s/torc/%s", data, name);
    } else {
        length = snprintf(path, TORC_CLIENT_PATH_BYTES, "%s/.local/share/torc/%s",
                          home == NULL ? "" : home, name);
    }
    if (length < 0 || length >= TORC_CLIENT_PATH_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "the path of the data directory is too long");
    }
    return TORC_ERR_OK;
}

static enum torc_err key_read(const char *path, struct torc_client_key *key, struct torc_fail *why)
{
    // A service's key may be its group's to read.
    const struct torc_secret_rules rules = {
        .bytes_max = TORC_CLIENT_KEY_BYTES_MAX, .mode = 0640, .owner = TORC_SECRET_OURS};
    struct torc_secret text;
    struct torc_fail what = {0};
    enum torc_err err = torc_secret_read(&text, path, &rules, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    err = torc_client_key_parse(key, text.bytes, text.byte_count, &what);
    if (err != TORC_ERR_OK) {
        err = torc_fail(why, err, "key file %.60s, %.80s", path, what.text);
    }
    torc_secret_close(&text);
    return err;
}

enum torc_err torc_client_key_find(const char *named, struct torc_client_key *key, char *from,
                                   uint32_t from_bytes, struct torc_fail *why)
{
    char local[TORC_CLIENT_PATH_BYTES];
    const char *path = named;
    enum torc_err err;

    memset(key, 0, sizeof(*key));
    from[0] = '\0';
    if (path == NULL || path[0] == '\0') {
        path = getenv("TORC_KEY_FILE"); // NOLINT(concurrency-mt-unsafe)
    }
    if (path == NULL || path[0] == '\0') {
        err = torc_client_path("local.key", local, why);
        if (err != TORC_ERR_OK || access(local, R_OK) != 0) {
            return err; // no node of ours here
        }
        path = local;
    }
    if (strcmp(path, TORC_KEY_NONE) == 0) {
        return TORC_ERR_OK;
    }
    (void)snprintf(from, from_bytes, "%s", path);
    return key_read(path, key, why);
}
