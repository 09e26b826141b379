// Torc control: placement as a node runs it. See control/node_os.h.
//
// What    one of these machines (control/placer.h) in every node that has copies: one of them
//         leads, plans and writes wishes.
// Owner   control's one thread.
// Memory  6 MB, from the first time that the node serves; none with replicas = 1.
#include "control/node_impl_os.h"
#include "control/placer.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <stdlib.h>

struct torc_node_place {
    struct torc_placer placer;
    bool led;
};

static void place_open(struct torc_node *node)
{
    const struct torc_settings *settings = node->settings;
    struct torc_placer_config config = {.nonce = torc_registry_nonce(),
                                        .boot = node->registry.cluster.boot,
                                        .node = node->dir.node,
                                        .replicas = (uint32_t)node->registry.meta.replicas,
                                        .lease_ns = settings->placement_lease_ms * TORC_NS_PER_MS,
                                        .pace_ns = settings->placement_pace_ms * TORC_NS_PER_MS,
                                        .gone_ns = settings->placement_gone_s * TORC_NS_PER_S};

    torc_assert(config.lease_ns >= 4 * TORC_FAILOVER_WAIT_NS); // of torc_placer_config's words
    node->place = calloc(1, sizeof(*node->place));
    torc_assert(node->place != NULL);
    torc_placer_init(&node->place->placer, &config, node->now_ns);
}

void torc_node_close_place(struct torc_node *node)
{
    free(node->place);
    node->place = NULL;
}

// -- The leader -----------------------------------------------------------------------------------

bool torc_node_place_is_mine(uint64_t ticket)
{
    return torc_placer_is_mine(ticket);
}

bool torc_node_place_next(struct torc_node *node, struct torc_meta_request *request)
{
    return node->place != NULL && torc_placer_next(&node->place->placer, node->now_ns, request);
}

// A list of 4096 records may take seconds. Beats, a fifth of the lease apart, wait meanwhile, and
// take up to a quarter of it themselves: so half of it is what a list can have.
uint64_t torc_node_place_list_ns(const struct torc_node *node)
{
    return torc_min_u64(TORC_FOLLOW_WAIT_NS,
                        node->settings->placement_lease_ms * TORC_NS_PER_MS / 2);
}

static void place_log(struct torc_node_place *place)
{
    const struct torc_leader *leader = &place->placer.leader;
    bool leads = leader->state == TORC_LEADER_LEADS;

    if (leads != place->led) {
        place->led = leads;
        torc_log(TORC_LOG_INFO, "placement", leads ? "leads" : "follows",
                 "term=%" PRIu64 " leader=%" PRIu64, leader->record.term, leader->record.leader);
    }
}

void torc_node_place_take(struct torc_node *node, const struct torc_meta_answer *answer)
{
    if (node->place != NULL) {
        torc_placer_take(&node->place->placer, node->now_ns, answer, torc_registry_nonce());
        place_log(node->place);
    }
}

uint64_t torc_node_place_deadline_ns(const struct torc_node *node)
{
    return node->place == NULL ? UINT64_MAX : torc_placer_deadline_ns(&node->place->placer);
}

void torc_node_place_step(struct torc_node *node)
{
    if (node->place == NULL && node->state == TORC_NODE_SERVING &&
        node->registry.meta.replicas > 1) {
        place_open(node);
    }
    if (node->place != NULL) {
        torc_placer_look(&node->place->placer, node->now_ns, torc_node_meta_follow(node),
                         node->state == TORC_NODE_SERVING);
    }
}

void torc_node_place_count(struct torc_node *node)
{
    static const struct torc_leader_counters none;
    const struct torc_leader_counters *counters =
        node->place == NULL ? &none : &node->place->placer.leader.counters;
    uint64_t *numbers = node->numbers;

    numbers[TORC_CONTROL_PLACEMENT_LEADS] =
        node->place != NULL && node->place->placer.leader.state == TORC_LEADER_LEADS ? 1 : 0;
    numbers[TORC_CONTROL_PLACEMENT_TERMS] = counters->terms;
    numbers[TORC_CONTROL_PLACEMENT_LOST] = counters->lost;
    numbers[TORC_CONTROL_PLACEMENT_BEATS] = counters->beats;
    numbers[TORC_CONTROL_PLACEMENT_PLANS] = counters->plans;
    numbers[TORC_CONTROL_PLACEMENT_MOVES] = counters->moves;
    numbers[TORC_CONTROL_PLACEMENT_WANTS] = counters->wants;
    numbers[TORC_CONTROL_PLACEMENT_REFUSED] = counters->refused;
    numbers[TORC_CONTROL_PLACEMENT_SLOTS] = counters->slots;
    numbers[TORC_CONTROL_SHARDS_GIVEN] = node->give->given;
    numbers[TORC_CONTROL_SHARDS_TAKEN] = node->give->taken;
}

json_t *torc_node_place_answer(const struct torc_node *node)
{
    const struct torc_leader *leader = node->place == NULL ? NULL : &node->place->placer.leader;
    json_t *answer = json_pack("{s:b, s:I, s:I, s:b}", "leads",
                               leader != NULL && leader->state == TORC_LEADER_LEADS, "leader",
                               leader != NULL ? (json_int_t)leader->record.leader : 0, "term",
                               leader != NULL ? (json_int_t)leader->record.term : 0, "settled",
                               leader != NULL && torc_leader_is_settled(leader));

    torc_assert(answer != NULL);
    if (leader != NULL && leader->why.err != TORC_ERR_OK) {
        int failed = json_object_set_new(answer, "why", torc_admin_text(leader->why.text));

        torc_assert(failed == 0);
    }
    return answer;
}
