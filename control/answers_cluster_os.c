// Torc control: what a node says of its cluster: nodes, who has which shard, what is missing. See
// control/node_os.h.
//
// Source  the survey: as good as the last watch (control/survey.h).
#include "control/node_impl_os.h"
#include "control/steps.h"

enum {
    ANSWER_TEXT_BYTES = 200,
    ANSWER_MOVES = 64, // lines of them
    ANSWER_NAMES = 8   // of nodes in one line
};

// Of a node that has run: its last life is known to be over.
static bool answer_is_down(const struct torc_survey_node *node)
{
    return node->boot > 0 && node->down == node->boot;
}

// Some shard counts on it, or is to have a copy there. One that was taken away has nothing.
static bool answer_is_missed(struct torc_survey *survey, uint32_t node)
{
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;
        const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);

        if (shard->primary_node == node || torc_survey_has(shard, node)) {
            return true;
        }
        for (uint32_t k = 0; want != NULL && k < want->node_count; k++) {
            if (want->nodes[k] == node) {
                return true;
            }
        }
    }
    return false;
}

static uint32_t answer_alive(struct torc_survey *survey, const struct torc_survey_shard *shard)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->member_count; i++) {
        const struct torc_survey_node *node =
            torc_survey_node(survey, (uint32_t)shard->members[i].node);

        count += node != NULL && node->boot > 0 && !answer_is_down(node) ? 1 : 0;
    }
    return count;
}

// None of its members has the memory that it was a member with: nobody may take over.
static bool answer_is_lost(struct torc_survey *survey, const struct torc_survey_shard *shard)
{
    for (uint32_t m = 0; m < shard->member_count; m++) {
        const struct torc_survey_node *node =
            torc_survey_node(survey, (uint32_t)shard->members[m].node);

        if (node == NULL || torc_give_remembers(node->copy, shard->members[m].copy)) {
            return false;
        }
    }
    return true;
}

static uint32_t answer_lost(struct torc_survey *survey)
{
    uint32_t lost = 0;

    for (uint32_t i = 0; i < survey->shard_count; i++) {
        lost += answer_is_lost(survey, survey->shards + i) ? 1 : 0;
    }
    return lost;
}

// Known to the survey, and not lost by what it says.
static bool answer_is_kept(struct torc_survey *survey, uint32_t number)
{
    const struct torc_survey_shard *shard = torc_survey_shard(survey, number);

    return shard != NULL && !answer_is_lost(survey, shard);
}

void torc_node_count_cluster(struct torc_node *node)
{
    struct torc_survey *survey = node->registry.survey;
    const struct torc_cluster *cluster = &node->registry.cluster;
    uint64_t *numbers = node->numbers;

    numbers[TORC_CONTROL_NODES] = survey->node_count;
    numbers[TORC_CONTROL_NODES_DOWN] = 0;
    numbers[TORC_CONTROL_SHARDS_LED] = 0;
    numbers[TORC_CONTROL_SHARDS_SHORT] = 0;
    numbers[TORC_CONTROL_SHARDS_AWAY] = 0;
    numbers[TORC_CONTROL_SHARDS_CLOSED] = 0;
    for (uint32_t i = 0; i < survey->node_count; i++) {
        const struct torc_survey_node *other = survey->nodes + i;

        numbers[TORC_CONTROL_NODES_DOWN] +=
            answer_is_down(other) && answer_is_missed(survey, other->node) ? 1 : 0;
    }
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;
        uint32_t alive = answer_alive(survey, shard);

        numbers[TORC_CONTROL_SHARDS_LED] += shard->primary_node == node->dir.node ? 1 : 0;
        numbers[TORC_CONTROL_SHARDS_SHORT] += alive < node->registry.meta.replicas ? 1 : 0;
        numbers[TORC_CONTROL_SHARDS_AWAY] += alive == 0 ? 1 : 0;
        numbers[TORC_CONTROL_SHARDS_CLOSED] += answer_is_lost(survey, shard) ? 1 : 0;
    }
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        const struct torc_cluster_shard *own = cluster->shards + i;
        bool closed = torc_node_is_closed(node, own) && answer_is_kept(survey, own->shard);

        numbers[TORC_CONTROL_SHARDS_CLOSED] += closed ? 1 : 0;
    }
    torc_node_meta_count(node);
}

// Nobody but its own control writes that a node is down: of a machine that died the shards tell.
static const char *answer_state(const struct torc_survey_node *node, const uint8_t *seats)
{
    return node->boot == 0                           ? "never started"
           : answer_is_down(node)                    ? "down"
           : seats[node->node] == TORC_SURVEY_MISSED ? "out of sync"
           : node->state == TORC_RECORD_NODE_YIELDS  ? "drained"
                                                     : "up";
}

json_t *torc_node_answer_nodes(struct torc_node *node)
{
    struct torc_survey *survey = node->registry.survey;
    uint8_t seats[TORC_RECORD_NODE_MAX + 1];
    json_t *lines = json_array();

    torc_survey_seats(survey, seats);
    for (uint32_t i = 0; i < survey->node_count; i++) {
        const struct torc_survey_node *from = survey->nodes + i;
        const char *state = answer_state(from, seats);
        const char *address = from->address[0] != '\0' ? from->address : from->address6;
        json_t *line = json_pack("{s:i, s:s, s:s, s:i, s:I, s:I}", "node", (int)from->node, "state",
                                 state, "address", address, "base_port", (int)from->base_port,
                                 "boot", (json_int_t)from->boot, "copy", (json_int_t)from->copy);
        int failed = json_array_append_new(lines, line);

        torc_assert(failed == 0);
    }
    return lines;
}

uint32_t torc_node_answer_epoch(struct torc_node *node, const struct torc_cluster_shard *shard)
{
    const struct torc_survey_shard *known = torc_survey_shard(node->registry.survey, shard->shard);
    uint64_t epoch = torc_max_u64(shard->epoch, shard->said.epoch);

    return (uint32_t)torc_max_u64(epoch, known != NULL ? known->epoch : 0);
}

void torc_node_answer_members(struct torc_node *node, uint32_t shard, json_t *line)
{
    const struct torc_survey_shard *found = torc_survey_shard(node->registry.survey, shard);
    const struct torc_survey_want *want = torc_survey_want(node->registry.survey, shard);
    json_t *members = json_array();
    int failed = json_object_set_new(
        line, "primary", json_integer(found != NULL ? (json_int_t)found->primary_node : 0));

    failed |= json_object_set_new(line, "wished", json_integer(want != NULL ? want->primary : 0));
    for (uint32_t i = 0; found != NULL && i < found->member_count; i++) {
        failed |= json_array_append_new(members, json_integer((json_int_t)found->members[i].node));
    }
    failed |= json_object_set_new(line, "members", members);
    torc_assert(failed == 0);
}

static const char *answer_step(enum torc_move_kind kind)
{
    switch (kind) {
    case TORC_MOVE_DONE: return "done";
    case TORC_MOVE_WAIT: return "wait";
    case TORC_MOVE_LEARN: return "join";
    case TORC_MOVE_TRANSFER: return "lead";
    case TORC_MOVE_REMOVE: return "leave";
    }
    torc_unreachable("all kinds return");
}

// What a step does, or what it waits for.
static const char *answer_why(const struct torc_move_step *step)
{
    switch (step->wait) {
    case TORC_MOVE_WAIT_NONE: break;
    case TORC_MOVE_WAIT_PRIMARY: return "until it has a primary that is up";
    case TORC_MOVE_WAIT_NODES: return "until a node that is to have it is up";
    case TORC_MOVE_WAIT_MEMBERS: return "until enough members are up for one to leave";
    }
    switch (step->kind) {
    case TORC_MOVE_DONE:
    case TORC_MOVE_WAIT: return "";
    case TORC_MOVE_LEARN: return "takes a copy, or what its own lacks, and joins";
    case TORC_MOVE_TRANSFER: return "is to be primary";
    case TORC_MOVE_REMOVE: return "has made way for others";
    }
    torc_unreachable("all kinds return");
}

// What is under way between where shards lie and where they should, as this node sees it.
json_t *torc_node_answer_placement(struct torc_node *node)
{
    struct torc_survey *survey = node->registry.survey;
    json_t *moves = json_array();
    json_t *answer = torc_node_place_answer(node);
    uint64_t moving = 0;
    int failed = 0;

    for (uint32_t i = 0; i < survey->shard_count && node->registry.meta.replicas > 1; i++) {
        const struct torc_survey_want *want = torc_survey_want(survey, survey->shards[i].shard);
        struct torc_want_fields hint;
        struct torc_move_step step = {.kind = TORC_MOVE_DONE};

        if (want != NULL) {
            step = torc_steps_next(survey, survey->shards[i].shard, want,
                                   node->registry.meta.min_in_sync, &hint);
        }
        moving += step.kind != TORC_MOVE_DONE ? 1 : 0;
        if (step.kind != TORC_MOVE_DONE && json_array_size(moves) < ANSWER_MOVES) {
            failed |= json_array_append_new(moves, json_pack("{s:I, s:s, s:I, s:s}", "shard",
                                                             (json_int_t)survey->shards[i].shard,
                                                             "step", answer_step(step.kind), "node",
                                                             (json_int_t)step.node, "why",
                                                             answer_why(&step)));
        }
    }
    failed |= json_object_set_new(answer, "moving", json_integer((json_int_t)moving));
    failed |= json_object_set_new(answer, "moves", moves);
    torc_assert(failed == 0);
    return answer;
}

// Shards that a node has and should have, and those that it leads and should lead.
static json_t *answer_share(struct torc_survey *survey, uint32_t node)
{
    json_int_t has = 0;
    json_int_t wished = 0;
    json_int_t leads = 0;
    json_int_t wished_to_lead = 0;

    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;
        const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);

        has += torc_survey_has(shard, node) ? 1 : 0;
        leads += shard->primary_node == node ? 1 : 0;
        wished_to_lead += want != NULL && want->primary == node ? 1 : 0;
        for (uint32_t k = 0; want != NULL && k < want->node_count; k++) {
            wished += want->nodes[k] == node ? 1 : 0;
        }
    }
    return json_pack("{s:i, s:I, s:I, s:I, s:I}", "node", (int)node, "copies", has, "to_have",
                     wished, "leads", leads, "to_lead", wished_to_lead);
}

json_t *torc_node_answer_places(struct torc_node *node)
{
    struct torc_survey *survey = node->registry.survey;
    json_t *answer = torc_node_answer_placement(node);
    json_t *shares = json_array();
    uint8_t seats[TORC_RECORD_NODE_MAX + 1];
    int failed = json_object_set_new(answer, "ok", json_true());

    torc_survey_seats(survey, seats);
    for (uint32_t i = 0; i < survey->node_count; i++) {
        json_t *share = answer_share(survey, survey->nodes[i].node);

        failed |= json_object_set_new(share, "state",
                                      json_string(answer_state(survey->nodes + i, seats)));
        failed |= json_array_append_new(shares, share);
    }
    failed |= json_object_set_new(answer, "nodes", shares);
    torc_assert(failed == 0);
    return answer;
}

// The nodes that are in sync nowhere, as " (node 2, node 5 …)"; empty where there are none.
static void answer_missed(struct torc_survey *survey, char text[ANSWER_TEXT_BYTES])
{
    uint8_t seats[TORC_RECORD_NODE_MAX + 1];
    uint32_t count = 0;
    int used = 0;

    text[0] = '\0';
    torc_survey_seats(survey, seats);
    for (uint32_t i = 0; i < survey->node_count && count <= ANSWER_NAMES; i++) {
        const struct torc_survey_node *node = survey->nodes + i;

        if (seats[node->node] != TORC_SURVEY_MISSED || answer_is_down(node)) {
            continue;
        }
        if (++count > ANSWER_NAMES) {
            used += snprintf(text + used, (size_t)(ANSWER_TEXT_BYTES - used), " …");
        } else {
            used += snprintf(text + used, (size_t)(ANSWER_TEXT_BYTES - used), "%snode %" PRIu32,
                             count == 1 ? " (" : ", ", node->node);
        }
    }
    if (count > 0) {
        (void)snprintf(text + used, (size_t)(ANSWER_TEXT_BYTES - used), ")");
    }
}

// Nobody writes that a machine died; that copies are missing is seen all the same.
static void answer_advise_short(struct torc_node *node, json_t *advice)
{
    uint64_t replicas = node->registry.meta.replicas;
    uint64_t lacking = node->numbers[TORC_CONTROL_SHARDS_SHORT];
    char names[ANSWER_TEXT_BYTES];
    char text[2 * ANSWER_TEXT_BYTES];
    int failed;

    if (replicas == 1 || lacking == 0) { // with one copy these are the shards that wait
        return;
    }
    answer_missed(node->registry.survey, names);
    (void)snprintf(text, sizeof(text),
                   "%" PRIu64 " shards have fewer than %" PRIu64 " copies in sync: start the nodes "
                   "that are away%s; those that are back are learning",
                   lacking, replicas, names);
    failed = json_array_append_new(advice, torc_admin_text(text));
    torc_assert(failed == 0);
}

// One line each: the cause, what it does, what to do.
void torc_node_advise_cluster(struct torc_node *node, json_t *advice)
{
    struct torc_survey *survey = node->registry.survey;
    uint64_t away = node->numbers[TORC_CONTROL_SHARDS_AWAY];
    uint32_t closed = answer_lost(survey);
    char text[ANSWER_TEXT_BYTES];

    torc_node_advise_losses(node, advice);
    if (closed > 0) {
        int failed;

        (void)snprintf(text, sizeof(text),
                       "%" PRIu32 " shards are closed: all their copies in sync were lost or lost "
                       "power together, and writes with them; torc shard accept-loss goes on "
                       "without those",
                       closed);
        failed = json_array_append_new(advice, torc_admin_text(text));
        torc_assert(failed == 0);
    }
    for (uint32_t i = 0; i < survey->node_count; i++) {
        const struct torc_survey_node *other = survey->nodes + i;
        int failed = 0;

        if (answer_is_down(other) && other->node != node->dir.node &&
            answer_is_missed(survey, other->node)) {
            (void)snprintf(text, sizeof(text),
                           "node %" PRIu32 " is down: start it; %" PRIu64
                           " shards have no node that is up, and wait",
                           other->node, away);
            failed = json_array_append_new(advice, torc_admin_text(text));
        }
        torc_assert(failed == 0);
    }
    answer_advise_short(node, advice);
}
