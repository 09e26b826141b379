// Torc control: placement as a node runs it. See control/node_os.h.
//
// What    one of these machines in every node that has copies: one of them leads, plans and writes
//         wishes (control/leader.h).
// Owner   control's one thread.
// Memory  6 MB, from the first time that the node serves; none with replicas = 1.
#include "control/leader.h"
#include "control/node_impl_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"

#include <stdlib.h>

#define PLACE_TICKET UINT64_C(0x20102)
#define PLACE_BEATS  5u // of a lease: four may be late
// A bet. No setting: changes of nodes wake the leader, and no shard is made while nodes run.
#define PLACE_RESCAN_NS (30 * TORC_NS_PER_S)

struct torc_node_place {
    struct torc_leader leader;
    struct torc_placement placement;
    struct torc_placement_shard shards[TORC_CHAN_MAP_ENTRIES];
    struct torc_placement_shard spare[TORC_CHAN_MAP_ENTRIES];
    struct torc_leader_want written[TORC_CHAN_MAP_ENTRIES];
    uint64_t changes; // of nodes' records, as last looked at
    uint64_t seen;    // of all, the same
    uint64_t told_term;
    bool led;
};

static void place_open(struct torc_node *node)
{
    const struct torc_settings *settings = node->settings;
    uint64_t lease_ns = settings->placement_lease_ms * TORC_NS_PER_MS;
    struct torc_leader_config config = {.ticket = PLACE_TICKET,
                                        .nonce = torc_registry_nonce(),
                                        .boot = node->registry.cluster.boot,
                                        .node = node->dir.node,
                                        .replicas = (uint32_t)node->registry.meta.replicas,
                                        .lease_ns = lease_ns,
                                        .beat_ns = lease_ns / PLACE_BEATS,
                                        .pace_ns = settings->placement_pace_ms * TORC_NS_PER_MS,
                                        .gone_ns = settings->placement_gone_s * TORC_NS_PER_S,
                                        .rescan_ns = PLACE_RESCAN_NS,
                                        .shard_max = TORC_CHAN_MAP_ENTRIES};

    torc_assert(lease_ns >= 4 * TORC_FAILOVER_WAIT_NS); // of torc_leader_config's words
    node->place = calloc(1, sizeof(*node->place));
    torc_assert(node->place != NULL);
    config.placement = &node->place->placement;
    config.shards = node->place->shards;
    config.spare = node->place->spare;
    config.written = node->place->written;
    torc_leader_init(&node->place->leader, &config, node->now_ns);
}

void torc_node_close_place(struct torc_node *node)
{
    free(node->place);
    node->place = NULL;
}

// -- The leader -----------------------------------------------------------------------------------

bool torc_node_place_is_mine(uint64_t ticket)
{
    return ticket == PLACE_TICKET;
}

bool torc_node_place_next(struct torc_node *node, struct torc_meta_request *request)
{
    return node->place != NULL && torc_leader_next(&node->place->leader, node->now_ns, request);
}

static void place_log(struct torc_node_place *place)
{
    const struct torc_leader *leader = &place->leader;
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
        torc_leader_take(&node->place->leader, node->now_ns, answer);
        place_log(node->place);
    }
}

uint64_t torc_node_place_deadline_ns(const struct torc_node *node)
{
    return node->place == NULL ? UINT64_MAX : torc_leader_deadline_ns(&node->place->leader);
}

void torc_node_place_step(struct torc_node *node)
{
    if (node->place == NULL && node->state == TORC_NODE_SERVING &&
        node->registry.meta.replicas > 1) {
        place_open(node);
    }
    if (node->place != NULL && node->place->changes != torc_node_meta_node_changes(node)) {
        node->place->changes = torc_node_meta_node_changes(node);
        torc_leader_wake(&node->place->leader);
    }
    if (node->place != NULL && node->place->seen != torc_node_meta_changes(node)) {
        uint8_t seats[TORC_PLACEMENT_IDS];

        node->place->seen = torc_node_meta_changes(node);
        torc_survey_seats(node->registry.survey, seats);
        torc_leader_seat(&node->place->leader, seats);
    }
}

void torc_node_place_count(struct torc_node *node)
{
    static const struct torc_leader_counters none;
    const struct torc_leader_counters *counters =
        node->place == NULL ? &none : &node->place->leader.counters;
    uint64_t *numbers = node->numbers;

    numbers[TORC_CONTROL_PLACEMENT_LEADS] =
        node->place != NULL && node->place->leader.state == TORC_LEADER_LEADS ? 1 : 0;
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
    const struct torc_leader *leader = node->place == NULL ? NULL : &node->place->leader;
    json_t *answer = json_pack("{s:b, s:I, s:I, s:b}", "leads",
                               leader != NULL && leader->state == TORC_LEADER_LEADS, "leader",
                               leader != NULL ? (json_int_t)leader->record.leader : 0, "term",
                               leader != NULL ? (json_int_t)leader->record.term : 0, "settled",
                               leader != NULL && torc_leader_is_settled(leader));

    torc_assert(answer != NULL);
    if (leader != NULL && leader->why.err != TORC_ERR_OK) {
        int failed = json_object_set_new(answer, "why", json_string(leader->why.text));

        torc_assert(failed == 0);
    }
    return answer;
}
