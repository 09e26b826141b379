// Torc cli: changes of `torc keys`; see keys.h.
#include "client/cli/keys.h"

#include "client/cli/key.h"
#include "wire/op.h"

#include <string.h>

static const struct {
    const char *text;
    uint32_t operands;
} keys_actions[] = {
#define X(name, text, operands, help) {text, operands},
    TORC_KEYS_ACTION_TABLE(X)
#undef X
};

enum torc_err torc_keys_action(const char *word, uint32_t operands, bool node_named,
                               enum torc_keys_action *action, struct torc_fail *why)
{
    for (uint32_t i = 0; i < TORC_KEYS_ACTION_COUNT; i++) {
        uint32_t wanted = keys_actions[i].operands;

        if (strcmp(word, keys_actions[i].text) != 0) {
            continue;
        }
        *action = (enum torc_keys_action)i;
        if (operands == wanted || (i == TORC_KEYS_EXPORT && node_named && operands == 0)) {
            return TORC_ERR_OK;
        }
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "usage: torc keys %s%s%s", word,
                         wanted > 0 ? " NAME" : "", wanted > 1 ? " ID" : "");
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "torc keys %.30s: list, add, change, rotate, remove-key, revoke, export or "
                     "reload",
                     word);
}

const struct torc_principal *torc_keys_find(const struct torc_keys_file *file, const char *name)
{
    for (uint32_t i = 0; i < file->count; i++) {
        if (strcmp(file->principals[i].name, name) == 0) {
            return &file->principals[i];
        }
    }
    return NULL;
}

enum torc_err torc_keys_change(struct torc_principal *principal, const struct torc_keys_wish *wish,
                               struct torc_fail *why)
{
    struct torc_fail what = {0};
    uint64_t sessions = 0;
    enum torc_err err = TORC_ERR_OK;

    if (wish->roles != NULL && torc_roles_parse(wish->roles, &principal->roles, &what) != 0) {
        return torc_fail(why, what.err, "--roles %.40s: %.90s", wish->roles, what.text);
    }
    if (wish->ranges != NULL && strcmp(wish->ranges, "all") == 0) {
        principal->range_count = 0;
    } else if (wish->ranges != NULL) {
        err = torc_ranges_parse(wish->ranges, strlen(wish->ranges), principal->ranges,
                                &principal->range_count, &what);
    }
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "--ranges %.40s: %.90s", wish->ranges, what.text);
    }
    if (wish->sessions == NULL) {
        return TORC_ERR_OK;
    }
    if (torc_key_parse(wish->sessions, strlen(wish->sessions), TORC_KEY_DEC, "", &sessions, NULL) !=
            TORC_ERR_OK ||
        sessions < 1 || sessions > TORC_KEYS_SESSIONS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--max-sessions %.40s: a number from 1 to %u", wish->sessions,
                         TORC_KEYS_SESSIONS_MAX);
    }
    principal->sessions_max = (uint32_t)sessions;
    return TORC_ERR_OK;
}

// The highest number in use and one; when that is beyond the last, the least that is free.
static uint32_t keys_new_number(const struct torc_keys_file *file)
{
    uint32_t highest = 0;
    uint32_t number = 1;

    for (uint32_t i = 0; i < file->count; i++) {
        if (file->principals[i].roles != TORC_ROLE_NODE) { // that one's is the highest there is
            highest = file->principals[i].number > highest ? file->principals[i].number : highest;
        }
    }
    if (highest < TORC_KEYS_NUMBER_MAX) {
        return highest + 1;
    }
    for (uint32_t i = 0; i < file->count; i++) {
        if (file->principals[i].number == number) { // taken: begin again with the next
            number++;
            i = UINT32_MAX;
        }
    }
    return number;
}

enum torc_err torc_keys_add(const struct torc_keys_file *file, const char *name,
                            const struct torc_keys_wish *wish, const uint8_t random[TORC_PSK_BYTES],
                            struct torc_principal *added, struct torc_fail *why)
{
    if (!torc_principal_name_ok(name)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.40s: a name is 1 to %u letters, digits and any of ._-", name,
                         TORC_KEYS_NAME_BYTES - 1);
    }
    if (torc_keys_find(file, name) != NULL) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s is there already; torc keys change %s, or rotate", name, name);
    }
    if (wish->roles == NULL) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s: what may it do? --roles read,write; see torc help keys", name);
    }
    *added = (struct torc_principal){.number = keys_new_number(file),
                                     .sessions_max = TORC_KEYS_SESSIONS_DEFAULT,
                                     .psk_count = 1,
                                     .psks[0].id = 1};
    (void)snprintf(added->name, sizeof(added->name), "%s", name);
    memcpy(added->psks[0].bytes, random, TORC_PSK_BYTES);
    return torc_keys_change(added, wish, why);
}

enum torc_err torc_keys_rotate(struct torc_principal *principal,
                               const uint8_t random[TORC_PSK_BYTES], struct torc_fail *why)
{
    const struct torc_psk *old = &principal->psks[0];
    struct torc_psk *added = &principal->psks[1];

    if (principal->psk_count == 2) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s has two keys, %u and %u: when its clients use %u, torc keys "
                         "remove-key %s %u",
                         principal->name, old->id, added->id, added->id, principal->name, old->id);
    }
    *added = (struct torc_psk){.id = (uint8_t)(old->id == 255 ? 1 : old->id + 1)};
    memcpy(added->bytes, random, TORC_PSK_BYTES);
    principal->psk_count = 2;
    return TORC_ERR_OK;
}

enum torc_err torc_keys_remove_key(struct torc_principal *principal, const char *id,
                                   struct torc_fail *why)
{
    uint64_t number = 0;
    uint32_t at = 0;

    if (torc_key_parse(id, strlen(id), TORC_KEY_DEC, "", &number, NULL) != TORC_ERR_OK) {
        number = 0;
    }
    while (at < principal->psk_count && principal->psks[at].id != number) {
        at++;
    }
    if (at == principal->psk_count) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s has no key %.20s; torc keys list",
                         principal->name, id);
    }
    if (principal->psk_count == 1) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "key %.20s is the only one of %s: rotate first, or torc keys revoke %s",
                         id, principal->name, principal->name);
    }
    principal->psks[0] = principal->psks[1 - at];
    memset(&principal->psks[1], 0, sizeof(principal->psks[1]));
    principal->psk_count = 1;
    return TORC_ERR_OK;
}

static enum torc_err keys_bind(struct torc_psk *psk, const char *name, uint64_t cluster,
                               uint32_t node, struct torc_fail *why)
{
    struct torc_psk bound = {.id = psk->id, .bound = true, .node = node};

    if (!torc_psk_bind(bound.bytes, psk, cluster, node)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "key %u of %s is bound to node %" PRIu32 " here: it is not node %" PRIu32
                         "'s to show",
                         psk->id, name, psk->node, node);
    }
    *psk = bound;
    return TORC_ERR_OK;
}

enum torc_err torc_keys_client(const struct torc_principal *principal, uint64_t cluster,
                               uint32_t node, struct torc_client_key *key, struct torc_fail *why)
{
    *key = (struct torc_client_key){.cluster = cluster,
                                    .principal = principal->number,
                                    .psk = principal->psks[principal->psk_count - 1]};
    memcpy(key->name, principal->name, sizeof(key->name));
    if (principal->roles == TORC_ROLE_NODE) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s is what nodes know each other by: no client shows it",
                         principal->name);
    }
    return node == 0 ? TORC_ERR_OK : keys_bind(&key->psk, principal->name, cluster, node, why);
}

enum torc_err torc_keys_node_file(struct torc_text *out, const struct torc_keys_file *file,
                                  uint64_t cluster, uint32_t node, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    torc_text_add(out, "%s\n# of node %" PRIu32 " of cluster %016" PRIx64 "\n",
                  TORC_KEYS_FIRST_LINE, node, cluster);
    for (uint32_t i = 0; i < file->count && err == TORC_ERR_OK; i++) {
        struct torc_principal one = file->principals[i];

        // Of the role node they are the cluster's, and every node has them.
        for (uint32_t k = 0; one.roles != TORC_ROLE_NODE && k < one.psk_count && err == TORC_ERR_OK;
             k++) {
            err = keys_bind(&one.psks[k], one.name, cluster, node, why);
        }
        torc_principal_write(out, &one);
        torc_text_add(out, "\n");
    }
    return err;
}
