// Torc control: the next step of a shard towards what is wished. See control/steps.h.
#include "control/steps.h"

#include <string.h>

static void step_alive(const struct torc_survey *survey, struct torc_move_view *view)
{
    for (uint32_t i = 0; i < survey->node_count; i++) {
        const struct torc_survey_node *node = survey->nodes + i;

        if (node->boot != 0 && node->down != node->boot && node->node <= TORC_RECORD_NODE_MAX) {
            view->alive[node->node / 64] |= UINT64_C(1) << node->node % 64;
        }
    }
}

static void step_shard(const struct torc_survey_shard *from, struct torc_shard_fields *to)
{
    to->lo = from->lo;
    to->hi = from->hi;
    to->epoch = from->epoch;
    to->primary_node = from->primary_node;
    to->primary_boot = from->primary_boot;
    to->insync.count = from->member_count;
    memcpy(to->insync.at, from->members, from->member_count * sizeof(from->members[0]));
}

struct torc_move_step torc_steps_next(struct torc_survey *survey, uint32_t number,
                                      const struct torc_survey_want *wish, uint64_t min_in_sync,
                                      struct torc_want_fields *hint)
{
    const struct torc_survey_shard *known = torc_survey_shard(survey, number);
    struct torc_shard_fields shard = {0};
    struct torc_want_fields want = {.primary = wish->primary, .nodes.count = wish->node_count};
    struct torc_move_view view = {.shard = &shard, .want = &want, .min_in_sync = min_in_sync};
    struct torc_move_step step = {.kind = TORC_MOVE_DONE};

    for (uint32_t i = 0; i < wish->node_count; i++) {
        want.nodes.at[i] = wish->nodes[i];
    }
    *hint = want;
    if (known == NULL) {
        return step;
    }
    step_shard(known, &shard);
    step_alive(survey, &view);
    step = torc_move_next(&view);
    torc_move_hint(&view, &step, hint);
    return step;
}
