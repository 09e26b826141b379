// Torc control: shards that nobody may lead any more, and what an operator can do about it. See
// control/accept.h for the judgement; here is what carries it out, and says so.
#include "control/accept.h"
#include "control/node_impl_os.h"
#include "kit/clock_os.h"
#include "kit/hlc.h"
#include "kit/log_os.h"

#include <stdlib.h>
#include <time.h>

#define ACCEPT_TICKET  UINT32_C(0x20200)
#define ACCEPT_LATE_NS (5 * TORC_NS_PER_S) // a bet: restarts and takeovers are over by then

enum {
    ACCEPT_TEXT_BYTES = 200,
    ACCEPT_LIST_BYTES = 64
};

struct torc_node_accept {
    struct torc_acceptance accept;
    bool waits; // an operator does
    uint32_t asked;
};

void torc_node_open_accept(struct torc_node *node)
{
    node->accept = calloc(1, sizeof(*node->accept));
    torc_assert(node->accept != NULL);
}

void torc_node_close_accept(struct torc_node *node)
{
    free(node->accept);
    node->accept = NULL;
}

bool torc_node_accept_next(struct torc_node *node, struct torc_meta_request *request)
{
    return torc_accept_next(&node->accept->accept, node->now_ns, request);
}

bool torc_node_accept_take(struct torc_node *node, const struct torc_meta_answer *answer)
{
    if (!torc_accept_is_mine(&node->accept->accept, answer->ticket)) {
        return false;
    }
    torc_accept_take(&node->accept->accept, node->now_ns, answer, torc_registry_nonce());
    return true;
}

uint64_t torc_node_accept_deadline_ns(const struct torc_node *node)
{
    return torc_accept_deadline_ns(&node->accept->accept);
}

// -- Closed shards --------------------------------------------------------------------------------

// Its replica here is no member and hears none: nobody may lead, as far as this node can see.
bool torc_node_is_closed(const struct torc_node *node, const struct torc_cluster_shard *shard)
{
    return shard->shard != 0 && shard->replica && shard->said.role == TORC_CHAN_LEARNER &&
           shard->said.epoch != 0 && shard->said.heard == 0 &&
           node->now_ns >= shard->said_ns + ACCEPT_LATE_NS;
}

void torc_node_accept_role(struct torc_node *node, const struct torc_evt_role *role)
{
    struct torc_cluster_shard *shard = torc_cluster_shard(&node->registry.cluster, role->shard);

    if (shard != NULL) {
        shard->said_ns = node->now_ns;
    }
}

static const char *accept_members(const struct torc_survey_shard *shard,
                                  char list[ACCEPT_LIST_BYTES])
{
    uint32_t bytes = 0;

    list[0] = '\0';
    for (uint32_t i = 0; i < shard->member_count && bytes < ACCEPT_LIST_BYTES; i++) {
        bytes += (uint32_t)snprintf(list + bytes, ACCEPT_LIST_BYTES - bytes, "%s%" PRIu64,
                                    i == 0 ? "" : ",", shard->members[i].node);
    }
    return list;
}

static void accept_advise(json_t *advice, const char *text)
{
    int failed = json_array_append_new(advice, torc_admin_text(text));

    torc_assert(failed == 0);
}

static void accept_advise_closed(struct torc_node *node, json_t *advice)
{
    const struct torc_cluster *cluster = &node->registry.cluster;
    const struct torc_survey_shard *first = NULL;
    char text[ACCEPT_TEXT_BYTES];
    char list[ACCEPT_LIST_BYTES];
    uint32_t count = 0;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *shard = cluster->shards + i;

        if (torc_node_is_closed(node, shard)) {
            first = first != NULL ? first : torc_survey_shard(node->registry.survey, shard->shard);
            count++;
        }
    }
    if (first != NULL) {
        (void)snprintf(text, sizeof(text),
                       "%" PRIu32 " shards (%" PRIu32 " …) are closed: no copy in sync is heard "
                       "(node %s): start it; if it is lost for good: torc shard accept-loss "
                       "%" PRIu32,
                       count, first->shard, accept_members(first, list), first->shard);
        accept_advise(advice, text);
    }
}

void torc_node_advise_losses(struct torc_node *node, json_t *advice)
{
    const struct torc_survey *survey = node->registry.survey;
    char text[ACCEPT_TEXT_BYTES];

    accept_advise_closed(node, advice);
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;

        if (shard->loss_count > 0) {
            (void)snprintf(text, sizeof(text),
                           "shard %" PRIu32 ": a loss was accepted in epoch %" PRIu64
                           ", it went on from record %" PRIu64 " of node %" PRIu64
                           "; when all who need to know do: torc shard acknowledge-loss %" PRIu32,
                           shard->shard, shard->loss.epoch, shard->loss.lsn, shard->loss.node,
                           shard->shard);
            accept_advise(advice, text);
        }
    }
}

// -- Answers --------------------------------------------------------------------------------------

static void accept_put(json_t *object, const char *key, json_t *value)
{
    int failed = json_object_set_new(object, key, value);

    torc_assert(failed == 0);
}

static json_t *accept_lost(const struct torc_acceptance *accept)
{
    static const char *const states[] = {[TORC_ACCEPT_FORGOT] =
                                             "gone: the node has another memory now",
                                         [TORC_ACCEPT_SILENT] = "not heard: it may have its copy",
                                         [TORC_ACCEPT_HEARD] = "heard"};
    json_t *lines = json_array();

    for (uint64_t i = 0; i < accept->fields.insync.count; i++) {
        int failed = json_array_append_new(
            lines,
            json_pack("{s:I, s:I, s:s}", "node", (json_int_t)accept->fields.insync.at[i].node,
                      "copy", (json_int_t)accept->fields.insync.at[i].copy, "state",
                      states[accept->members[i]]));

        torc_assert(failed == 0);
    }
    return lines;
}

// The command that does what was looked at.
static json_t *accept_command(const struct torc_acceptance *accept)
{
    char text[ACCEPT_TEXT_BYTES];
    const char *comma = " --off ";
    int bytes = snprintf(text, sizeof(text), "torc shard accept-loss %" PRIu32 " --epoch %" PRIu64,
                         accept->order.shard, accept->fields.epoch);

    for (uint64_t i = 0; i < accept->fields.insync.count; i++) {
        if (accept->members[i] == TORC_ACCEPT_SILENT) {
            bytes += snprintf(text + bytes, sizeof(text) - (size_t)bytes, "%s%" PRIu64, comma,
                              accept->fields.insync.at[i].node);
            comma = ",";
        }
    }
    return json_string(text);
}

static json_t *accept_said(const struct torc_acceptance *accept)
{
    const struct torc_evt_role *said = &accept->order.said;
    bool accepted = accept->order.verb == TORC_ACCEPT_ACCEPT;
    json_t *answer = json_object();

    accept_put(answer, "ok", json_true());
    accept_put(answer, "shard", json_integer(accept->order.shard));
    accept_put(answer, "epoch", json_integer((json_int_t)accept->fields.epoch));
    accept_put(answer, "node", json_integer(accept->order.node));
    accept_put(answer, "last_record", json_integer((json_int_t)said->last_lsn));
    accept_put(answer, "last_record_epoch", json_integer(said->last_epoch));
    accept_put(answer, "committed_record", json_integer((json_int_t)said->commit_lsn));
    accept_put(answer, "last_record_at_s",
               json_integer((json_int_t)(torc_hlc_us(said->last_hlc) / 1000000)));
    accept_put(answer, "lost_copies", accept_lost(accept));
    accept_put(answer, "loss",
               json_string(accept->complete
                               ? "none: nothing was acknowledged without this copy"
                               : "what was acknowledged and is not in this copy, if anything"));
    accept_put(answer, "accepted", json_boolean(accepted));
    if (!accepted) {
        accept_put(answer, "to_accept", accept_command(accept));
    }
    return answer;
}

// -- Operators ------------------------------------------------------------------------------------

static enum torc_err accept_number(const json_t *request, const char *key, uint64_t most,
                                   uint32_t *number, struct torc_fail *why)
{
    const json_t *value = json_object_get(request, key);
    json_int_t given = json_integer_value(value);

    *number = 0;
    if (value != NULL && (!json_is_integer(value) || given < 1 || (uint64_t)given > most)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "\"%s\" is a number from 1 to %" PRIu64,
                         key, most);
    }
    *number = value != NULL ? (uint32_t)given : 0;
    return TORC_ERR_OK;
}

static enum torc_err accept_off(const json_t *request, struct torc_accept_order *order,
                                struct torc_fail *why)
{
    const json_t *list = json_object_get(request, "off");

    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t node = json_integer_value(json_array_get(list, i));

        if (i == TORC_COUNT_OF(order->off) || node < 1 || node > TORC_RECORD_NODE_MAX) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "\"off\" lists up to %u nodes",
                             TORC_RECORD_MEMBERS_MAX);
        }
        order->off[order->off_count++] = (uint32_t)node;
    }
    return TORC_ERR_OK;
}

static enum torc_err accept_order(const struct torc_node *node, const json_t *request,
                                  struct torc_accept_order *order, struct torc_fail *why)
{
    const char *verb = json_string_value(json_object_get(request, "verb"));
    const struct torc_cluster_shard *shard;
    struct timespec now;
    enum torc_err err = accept_number(request, "shard", UINT32_MAX, &order->shard, why);

    if (err == TORC_ERR_OK) {
        err = accept_number(request, "epoch", UINT32_MAX, &order->epoch, why);
    }
    if (err == TORC_ERR_OK) {
        err = accept_off(request, order, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (verb == NULL || order->shard == 0 ||
        (strcmp(verb, "accept-loss") != 0 && strcmp(verb, "acknowledge-loss") != 0)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "\"verb\" is accept-loss or acknowledge-loss, of a \"shard\"");
    }
    order->verb = strcmp(verb, "acknowledge-loss") == 0 ? TORC_ACCEPT_ACKNOWLEDGE
                  : order->epoch != 0                   ? TORC_ACCEPT_ACCEPT
                                                        : TORC_ACCEPT_LOOK;
    shard = torc_cluster_shard(&node->registry.cluster, order->shard);
    if (order->verb != TORC_ACCEPT_ACKNOWLEDGE &&
        (shard == NULL || !shard->replica || !torc_node_meta_has_workers(node))) {
        return torc_fail(why, TORC_ERR_UNAVAILABLE,
                         "this node has no copy of shard %" PRIu32
                         " to go on from: ask one that has",
                         order->shard);
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    order->at_s = (uint64_t)now.tv_sec;
    order->node = node->dir.node;
    order->min_in_sync = node->registry.meta.min_in_sync;
    if (shard != NULL) {
        order->copy = shard->copy;
        order->said = shard->said;
    }
    return TORC_ERR_OK;
}

json_t *torc_node_answer_shard(struct torc_node *node, uint32_t asked, const json_t *request)
{
    struct torc_node_accept *it = node->accept;
    struct torc_accept_order order = {0};
    struct torc_fail why = {0};

    if (it->waits) {
        return torc_admin_error(TORC_ERR_BUSY, "another loss is being looked at: try again");
    }
    if (accept_order(node, request, &order, &why) != TORC_ERR_OK) {
        return torc_admin_error(why.err, why.text);
    }
    it->waits = true;
    it->asked = asked;
    torc_accept_begin(&it->accept, node->now_ns, &order, ACCEPT_TICKET);
    node->slow_ns = 0;
    return NULL;
}

// What was given up, for whoever asks later.
static void accept_log(const struct torc_acceptance *accept)
{
    char list[ACCEPT_TEXT_BYTES] = "";
    uint32_t bytes = 0;

    for (uint64_t i = 0; i < accept->fields.insync.count && bytes < sizeof(list); i++) {
        bytes += (uint32_t)snprintf(list + bytes, sizeof(list) - bytes, "%s%" PRIu64 ":%" PRIu64,
                                    i == 0 ? "" : ",", accept->fields.insync.at[i].node,
                                    accept->fields.insync.at[i].copy);
    }
    torc_log(TORC_LOG_WARN, "shard", "loss-accepted",
             "shard=%" PRIu32 " epoch=%" PRIu64 " node=%" PRIu32 " copy=%" PRIu64
             " last_record=%" PRIu64 " lost_copies=%s complete=%s",
             accept->order.shard, accept->fields.epoch, accept->order.node, accept->order.copy,
             accept->order.said.last_lsn, list, accept->complete ? "yes" : "no");
}

void torc_node_accept_step(struct torc_node *node)
{
    struct torc_node_accept *it = node->accept;
    const struct torc_acceptance *accept = &it->accept;
    bool good = accept->why.err == TORC_ERR_OK;
    json_t *answer;

    if (!it->waits || accept->open) {
        return;
    }
    if (good && accept->order.verb == TORC_ACCEPT_ACCEPT) {
        accept_log(accept);
    } else if (good && accept->order.verb == TORC_ACCEPT_ACKNOWLEDGE) {
        torc_log(TORC_LOG_INFO, "shard", "loss-acknowledged", "shard=%" PRIu32,
                 accept->order.shard);
    }
    it->waits = false;
    answer = !good ? torc_admin_error(accept->why.err, accept->why.text)
             : accept->order.verb == TORC_ACCEPT_ACKNOWLEDGE
                 ? json_pack("{s:b, s:i, s:b}", "ok", 1, "shard", (int)accept->order.shard,
                             "acknowledged", 1)
                 : accept_said(accept);
    torc_admin_finish(node->admin, it->asked, answer);
}
