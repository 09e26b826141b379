// Torc control: keys of a node that runs: handing them over, reading them anew, showing them. See
// control/node_os.h.
#include "control/node_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"
#include "wire/op.h"

#include <string.h>

// A session thread takes a table at once, or when sessions of an earlier one have ended: they rest
// for a second or two.
#define KEYS_WAIT_NS    (10 * TORC_NS_PER_S)
#define KEYS_TEXT_BYTES 4096u // TORC_KEYS_RANGES_MAX of two numbers

void torc_node_hand_keys(struct torc_node *node)
{
    struct torc_chan_keys *table = torc_chan_keys(node->attach.chan);

    if (node->registry.meta.security != TORC_SECURITY_KEYS) {
        return;
    }
    (void)torc_secret_hide(table, sizeof(*table)); // as far as the limit of locked memory goes
    node->keys_sequence = torc_keys_write(table, node->keys.list, node->keys.count);
    node->keys_ns = node->now_ns;
    node->keys_told = false;
}

static void keys_finish(struct torc_node *node, enum torc_err err, const char *text)
{
    for (uint32_t i = 0; i < node->reload_count; i++) {
        torc_admin_finish(node->admin, node->reloads[i],
                          err == TORC_ERR_OK
                              ? json_pack("{s:b, s:i, s:o}", "ok", 1, "principals",
                                          (int)node->keys.count, "text", torc_admin_text(text))
                              : torc_admin_error(err, text));
    }
    node->reload_count = 0;
}

void torc_node_keys_step(struct torc_node *node)
{
    const struct torc_cmd order = {.kind = TORC_CMD_KEYS_CHANGED};
    const struct torc_chan_keys_state *state;

    if (!node->attached || node->keys_sequence == 0) {
        keys_finish(node, TORC_ERR_OK, "in force when the dataplane runs");
        return;
    }
    // Before that the session thread looks for itself; it answers nobody without the table.
    if (!node->keys_told && node->state == TORC_NODE_SERVING) {
        node->keys_told = torc_attach_cmd(&node->attach, 0, &order);
    }
    if (node->reload_count == 0) {
        return;
    }
    state = &node->attach.chan->keys;
    // Acquire: pairs with the session thread's release.
    if (atomic_load_explicit(&state->taken, memory_order_acquire) == node->keys_sequence) {
        keys_finish(node, TORC_ERR_OK, "in force");
    } else if (atomic_load_explicit(&state->refused, memory_order_acquire) == node->keys_sequence) {
        keys_finish(node, TORC_ERR_INTERNAL, "the dataplane refused the table");
    } else if (node->now_ns - node->keys_ns > KEYS_WAIT_NS) {
        keys_finish(node, TORC_ERR_BUSY,
                    "the dataplane has not taken them yet; it will when earlier sessions ended");
    }
}

json_t *torc_node_answer_reload(struct torc_node *node, uint32_t asked)
{
    struct torc_fail why = {0};
    enum torc_err err;

    if (node->registry.meta.security != TORC_SECURITY_KEYS) {
        return torc_admin_error(TORC_ERR_UNSUPPORTED,
                                "this cluster was made with security = clear: it has no keys");
    }
    if (node->reload_count == TORC_ADMIN_CLIENTS_MAX) {
        return torc_admin_error(TORC_ERR_BUSY, "too many wait for their keys");
    }
    err = torc_keys_load(&node->keys, node->dir.path, node->dir.cluster, node->dir.node, &why);
    if (err != TORC_ERR_OK) {
        torc_log(TORC_LOG_WARN, "keys", "refused", "reason=\"%s\" note=\"nothing has changed\"",
                 why.text);
        return torc_admin_error(err, why.text);
    }
    torc_log(TORC_LOG_INFO, "keys", "read", "principals=%" PRIu32, node->keys.count);
    if (node->attached) {
        torc_node_hand_keys(node);
    }
    node->reloads[node->reload_count++] = asked;
    torc_node_keys_step(node);
    return NULL;
}

// -- Showing -------------------------------------------------------------------------------------

static json_t *keys_line(const struct torc_keys_known *known,
                         const struct torc_chan_principal *principal, json_int_t sessions)
{
    struct torc_key_range ranges[TORC_KEYS_RANGES_MAX];
    char ranges_text[KEYS_TEXT_BYTES];
    char roles_text[64];
    char keys_text[16];
    struct torc_text text = {.bytes = ranges_text, .room = sizeof(ranges_text) - 1};
    struct torc_text roles = {.bytes = roles_text, .room = sizeof(roles_text) - 1};

    for (uint32_t i = 0; i < principal->range_count; i++) {
        ranges[i] = (struct torc_key_range){principal->ranges[i].lo, principal->ranges[i].hi};
    }
    torc_text_add(&text, "%s", principal->range_count == 0 ? "all" : "");
    torc_ranges_write(&text, ranges, principal->range_count);
    torc_roles_write(&roles, known->roles);
    (void)snprintf(keys_text, sizeof(keys_text), known->key_count == 1 ? "%u" : "%u,%u",
                   known->key_ids[0], known->key_ids[1]);
    return json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I}", "name", known->name, "number",
                     (json_int_t)known->number, "roles", roles_text, "ranges", ranges_text, "keys",
                     keys_text, "max_sessions", (json_int_t)known->sessions_max, "sessions",
                     sessions);
}

json_t *torc_node_answer_keys(const struct torc_node *node)
{
    json_t *lines = json_array();
    bool taken = node->attached && node->keys_sequence != 0 &&
                 atomic_load_explicit(&node->attach.chan->keys.taken, memory_order_acquire) ==
                     node->keys_sequence;

    if (node->registry.meta.security != TORC_SECURITY_KEYS) {
        json_decref(lines);
        return torc_admin_error(TORC_ERR_UNSUPPORTED,
                                "this cluster was made with security = clear: it has no keys");
    }
    for (uint32_t i = 0; i < node->keys.count; i++) {
        json_int_t sessions =
            taken ? atomic_load_explicit(&node->attach.chan->keys.sessions[i], memory_order_relaxed)
                  : 0;
        int failed = json_array_append_new(
            lines, keys_line(&node->keys.known[i], &node->keys.list[i], sessions));

        torc_assert(failed == 0);
    }
    return json_pack("{s:b, s:b, s:o}", "ok", 1, "in_force", taken ? 1 : 0, "principals", lines);
}
