// Torc control: handing primaries over: a stop, a drained node, a wished primary that is back. See
// control/yield.h for who gets what; here is what carries it out.
#include "control/node_impl_os.h"
#include "control/note.h"
#include "control/yield.h"
#include "kit/log_os.h"

#include <stdlib.h>

#define YIELD_TICKET UINT32_C(0x20000) // and those behind it, one a note

#define YIELD_DRAIN_NS UINT64_C(10000000000) // a bet: an operator is told then how far it came

enum yield_note {
    YIELD_DOWN,
    YIELD_LEAVING,
    YIELD_STATE,
    YIELD_NOTES
};

// `torc node drain`, until it has happened.
struct yield_drain {
    bool open;
    uint32_t asked;
    uint64_t until_ns;
};

struct torc_node_yield {
    struct torc_yield yield;
    struct torc_note notes[YIELD_NOTES];
    struct yield_drain drain;
};

void torc_node_open_yield(struct torc_node *node)
{
    node->yield = calloc(1, sizeof(*node->yield));
    torc_assert(node->yield != NULL);
}

void torc_node_close_yield(struct torc_node *node)
{
    free(node->yield);
    node->yield = NULL;
}

// -- Notes ----------------------------------------------------------------------------------------

static void yield_note(struct torc_node *node, enum yield_note at, enum torc_note_kind kind,
                       uint32_t whose, uint64_t value)
{
    torc_note_begin(&node->yield->notes[at], kind, whose, value, YIELD_TICKET + (uint32_t)at);
    node->slow_ns = 0; // at once
}

void torc_node_yield_down(struct torc_node *node, uint64_t boot)
{
    yield_note(node, YIELD_DOWN, TORC_NOTE_DOWN, node->dir.node, boot);
}

bool torc_node_yield_tells_down(const struct torc_node *node)
{
    return node->yield->notes[YIELD_DOWN].open;
}

bool torc_node_yield_next(struct torc_node *node, struct torc_meta_request *request)
{
    for (uint32_t i = 0; i < YIELD_NOTES; i++) {
        if (torc_note_next(&node->yield->notes[i], node->now_ns, request)) {
            return true;
        }
    }
    return false;
}

bool torc_node_yield_take(struct torc_node *node, const struct torc_meta_answer *answer)
{
    for (uint32_t i = 0; i < YIELD_NOTES; i++) {
        if (torc_note_is_mine(&node->yield->notes[i], answer->ticket)) {
            torc_note_take(&node->yield->notes[i], node->now_ns, answer, torc_registry_nonce());
            return true;
        }
    }
    return false;
}

uint64_t torc_node_yield_deadline_ns(const struct torc_node *node)
{
    uint64_t deadline_ns = node->yield->yield.again_ns;

    for (uint32_t i = 0; i < YIELD_NOTES; i++) {
        deadline_ns = torc_min_u64(deadline_ns, torc_note_deadline_ns(&node->yield->notes[i]));
    }
    return deadline_ns;
}

// -- Wishes ---------------------------------------------------------------------------------------

static void yield_wish_step(struct torc_node *node)
{
    struct torc_cluster *cluster = &node->registry.cluster;
    struct torc_yield *yield = &node->yield->yield;
    struct torc_cmd order;

    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = cluster->shards + i;

        // Before that its replica does not live.
        if (shard->replica && shard->ready &&
            torc_yield_order(yield, node->registry.survey, shard, node->registry.meta.min_in_sync,
                             &order)) {
            torc_yield_told(yield, shard, &order,
                            torc_attach_cmd(&node->attach, shard->worker, &order));
        }
    }
}

// A new life of the dataplane, or one that this control found.
void torc_node_yield_begin(struct torc_node *node)
{
    struct torc_node_yield *it = node->yield;

    torc_yield_init(&it->yield, node->now_ns, node->dir.node, node->registry.cluster.boot);
    it->yield.again_ns = node->now_ns;
    // A control before this one was about to stop the node, and did not come to it.
    if (node->registry.node.leaving == node->registry.cluster.boot) {
        yield_note(node, YIELD_LEAVING, TORC_NOTE_LEAVING, node->dir.node, 0);
    }
}

static void yield_plan_step(struct torc_node *node)
{
    struct torc_yield *yield = &node->yield->yield;

    if (yield->node != 0 && // a dataplane was there
        torc_yield_step(yield, node->now_ns, node->registry.survey, &node->registry.cluster)) {
        yield_wish_step(node);
    }
}

void torc_node_yield_due(struct torc_node *node)
{
    node->yield->yield.due = true;
}

// -- A stop ---------------------------------------------------------------------------------------

void torc_node_yield_leave(struct torc_node *node)
{
    struct torc_node_yield *it = node->yield;

    if (node->registry.meta.replicas > 1 && node->settings->handover_ms > 0) {
        torc_yield_leave(&it->yield, node->now_ns);
        yield_note(node, YIELD_LEAVING, TORC_NOTE_LEAVING, node->dir.node,
                   node->registry.cluster.boot);
    }
}

bool torc_node_yield_leaves(const struct torc_node *node)
{
    return node->yield->yield.leaving;
}

uint32_t torc_node_yield_left(const struct torc_node *node)
{
    const struct torc_yield *yield = &node->yield->yield;

    return yield->leaving
               ? torc_yield_left(yield, node->registry.survey, node->registry.meta.min_in_sync)
               : 0;
}

// -- Operators ------------------------------------------------------------------------------------

static json_t *yield_error(const struct torc_fail *why)
{
    return torc_admin_error(why->err, why->text);
}

json_t *torc_node_answer_drain(struct torc_node *node, uint32_t asked, const json_t *request)
{
    struct torc_node_yield *it = node->yield;
    const char *verb = json_string_value(json_object_get(request, "verb"));
    json_int_t number = json_integer_value(json_object_get(request, "node"));
    bool drains = verb != NULL && strcmp(verb, "drain") == 0;
    uint32_t whose = number > 0 && number <= TORC_RECORD_NODE_MAX ? (uint32_t)number : 0;
    struct torc_survey *survey = node->registry.survey;
    const struct torc_survey_node *found = torc_survey_node(survey, whose);
    struct torc_fail why = {0};

    if (!drains && (verb == NULL || strcmp(verb, "undrain") != 0)) {
        return torc_admin_error(TORC_ERR_INVALID_ARGUMENT, "\"verb\" is drain or undrain");
    }
    if (it->drain.open) {
        return torc_admin_error(TORC_ERR_BUSY, "another node is being drained: try again");
    }
    if ((drains || found == NULL) && torc_yield_may(survey, whose, &why) != TORC_ERR_OK) {
        return yield_error(&why);
    }
    torc_assert(found != NULL); // torc_yield_may knows it
    if (found->state != TORC_RECORD_NODE_SERVES && found->state != TORC_RECORD_NODE_YIELDS) {
        return torc_admin_error(TORC_ERR_UNAVAILABLE, "placement is emptying or holding it");
    }
    it->drain = (struct yield_drain){
        .open = true, .asked = asked, .until_ns = node->now_ns + YIELD_DRAIN_NS};
    yield_note(node, YIELD_STATE, TORC_NOTE_STATE, whose,
               drains ? TORC_RECORD_NODE_YIELDS : TORC_RECORD_NODE_SERVES);
    return NULL;
}

// Answers when the record says it, and a drained node leads nothing.
static void yield_drain_step(struct torc_node *node)
{
    struct torc_node_yield *it = node->yield;
    const struct torc_note *note = &it->notes[YIELD_STATE];
    bool drains = note->value == TORC_RECORD_NODE_YIELDS;
    uint32_t leads;
    json_t *answer;

    if (!it->drain.open) {
        return;
    }
    leads = torc_yield_leads(node->registry.survey, note->node);
    if ((note->open || (note->err == TORC_ERR_OK && drains && leads > 0)) &&
        node->now_ns < it->drain.until_ns) {
        return;
    }
    if (note->open || note->err != TORC_ERR_OK) {
        answer = torc_admin_error(note->open ? TORC_ERR_UNAVAILABLE : note->err,
                                  "the node's record could not be written");
    } else {
        answer = json_pack("{s:b, s:i, s:s, s:i}", "ok", 1, "node", (int)note->node, "state",
                           drains ? "drained" : "serves", "leads", (int)leads);
    }
    it->drain.open = false;
    torc_admin_finish(node->admin, it->drain.asked, answer);
}

// -- All of it ------------------------------------------------------------------------------------

void torc_node_yield_step(struct torc_node *node)
{
    if (torc_node_meta_has_workers(node)) {
        yield_plan_step(node);
    }
    yield_drain_step(node);
}
