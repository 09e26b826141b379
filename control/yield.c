// Torc control: which shards this node hands over, to whom and when. See control/yield.h.
#include "control/yield.h"

#include "control/give.h"
#include "control/steps.h"

#include <string.h>

void torc_yield_init(struct torc_yield *yield, uint64_t now_ns, uint32_t node, uint64_t boot)
{
    *yield = (struct torc_yield){.node = node, .boot = boot, .calm_ns = now_ns};
}

// -- Nodes ----------------------------------------------------------------------------------------

static bool yield_is_up(const struct torc_survey_node *node)
{
    return node != NULL && node->boot > 0 && node->down != node->boot;
}

static bool yield_leaves(const struct torc_yield *yield, const struct torc_survey_node *node)
{
    return (node->boot > 0 && node->leaving == node->boot) ||
           (yield->leaving && node->node == yield->node);
}

static bool yield_may_lead(const struct torc_yield *yield, const struct torc_survey_node *node)
{
    return yield_is_up(node) && !yield_leaves(yield, node) &&
           node->state == TORC_RECORD_NODE_SERVES;
}

// FNV-1a over what decides who may lead.
static uint64_t yield_sum(const struct torc_survey *survey)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);

    for (uint32_t i = 0; i < survey->node_count; i++) {
        const struct torc_survey_node *node = survey->nodes + i;
        const uint64_t parts[] = {node->node, node->boot, node->down, node->leaving, node->state};

        for (uint32_t k = 0; k < TORC_COUNT_OF(parts); k++) {
            sum = (sum ^ parts[k]) * UINT64_C(0x100000001b3);
        }
    }
    return sum;
}

// -- Heirs ----------------------------------------------------------------------------------------

struct yield_count {
    uint32_t leads[TORC_CHAN_NODES_MAX]; // by place in the survey
};

static uint32_t yield_place(struct torc_survey *survey, uint32_t node)
{
    const struct torc_survey_node *found = torc_survey_node(survey, node);

    return found != NULL ? (uint32_t)(found - survey->nodes) : UINT32_MAX;
}

static void yield_count_one(struct torc_survey *survey, struct yield_count *count, uint32_t node)
{
    uint32_t place = yield_place(survey, node);

    if (place < TORC_CHAN_NODES_MAX) {
        count->leads[place]++;
    }
}

// Y1.
static bool yield_is_fit(const struct torc_yield *yield, struct torc_survey *survey,
                         const struct torc_survey_shard *shard, uint32_t node)
{
    return node != 0 && node != yield->node && torc_survey_has(shard, node) &&
           yield_may_lead(yield, torc_survey_node(survey, node));
}

// Who is to lead it in this node's place; 0: nobody can.
static uint32_t yield_heir(const struct torc_yield *yield, struct torc_survey *survey,
                           const struct torc_survey_shard *shard, const struct yield_count *count)
{
    const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);
    uint32_t best = 0;
    uint32_t least = UINT32_MAX;

    if (want != NULL && yield_is_fit(yield, survey, shard, want->primary)) {
        return want->primary;
    }
    for (uint32_t i = 0; i < shard->member_count; i++) {
        uint32_t node = (uint32_t)shard->members[i].node;

        if (yield_is_fit(yield, survey, shard, node) &&
            count->leads[yield_place(survey, node)] < least) {
            least = count->leads[yield_place(survey, node)];
            best = node;
        }
    }
    return best;
}

// Whose it is by placement, when that is another node that could take it.
static uint32_t yield_owner(const struct torc_yield *yield, struct torc_survey *survey,
                            const struct torc_survey_shard *shard)
{
    const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);

    return want != NULL && yield_is_fit(yield, survey, shard, want->primary) ? want->primary : 0;
}

static bool yield_leads(const struct torc_yield *yield, const struct torc_survey_shard *shard)
{
    return shard != NULL && shard->primary_node == yield->node &&
           shard->primary_boot == yield->boot;
}

// Those that have a heir keep it while it is one: a transfer may be under way. A node that may stay
// after all keeps what is its own. Returns how many.
static uint32_t yield_keep(const struct torc_yield *yield, struct torc_survey *survey,
                           struct torc_cluster *cluster, bool stays, struct yield_count *count)
{
    uint32_t kept = 0;

    memset(count, 0, sizeof(*count));
    for (uint32_t i = 0; i < survey->shard_count; i++) {
        if (!yield_leads(yield, survey->shards + i)) {
            yield_count_one(survey, count, survey->shards[i].primary_node);
        }
    }
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *own = cluster->shards + i;
        const struct torc_survey_shard *shard = torc_survey_shard(survey, own->shard);

        if (!yield_leads(yield, shard) || !yield_is_fit(yield, survey, shard, own->heir) ||
            (stays && own->heir != yield_owner(yield, survey, shard))) {
            own->heir = 0;
        } else {
            yield_count_one(survey, count, own->heir);
            kept++;
        }
    }
    return kept;
}

void torc_yield_plan(struct torc_yield *yield, uint64_t now_ns, struct torc_survey *survey,
                     struct torc_cluster *cluster)
{
    bool stays = yield_may_lead(yield, torc_survey_node(survey, yield->node));
    uint64_t sum = yield_sum(survey);
    struct yield_count count;
    uint32_t back;
    bool calm;

    if (sum != yield->sum) {
        yield->sum = sum;
        yield->calm_ns = now_ns;
    }
    calm = now_ns >= yield->calm_ns + TORC_YIELD_CALM_NS;
    yield->again_ns = UINT64_MAX;
    back = yield_keep(yield, survey, cluster, stays, &count);
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct torc_cluster_shard *own = cluster->shards + i;
        const struct torc_survey_shard *shard = torc_survey_shard(survey, own->shard);
        uint32_t heir = 0;

        if (own->heir != 0 || !own->replica || !yield_leads(yield, shard)) {
            continue;
        }
        if (!stays) {
            heir = yield_heir(yield, survey, shard, &count);
        } else if (calm && back < TORC_YIELD_BACK) {
            heir = yield_owner(yield, survey, shard);
        } else if (!calm && yield_owner(yield, survey, shard) != 0) {
            yield->again_ns = yield->calm_ns + TORC_YIELD_CALM_NS;
        }
        if (heir != 0) {
            own->heir = heir;
            yield_count_one(survey, &count, heir);
            back++;
        }
    }
}

bool torc_yield_step(struct torc_yield *yield, uint64_t now_ns, struct torc_survey *survey,
                     struct torc_cluster *cluster)
{
    bool due;

    if (yield->changes != survey->changes || now_ns >= yield->again_ns) {
        yield->changes = survey->changes;
        torc_yield_plan(yield, now_ns, survey, cluster);
        yield->due = true;
    }
    due = yield->due;
    yield->due = false;
    return due;
}

void torc_yield_leave(struct torc_yield *yield, uint64_t now_ns)
{
    yield->leaving = true;
    yield->again_ns = now_ns;
}

// -- Wishes ---------------------------------------------------------------------------------------

void torc_yield_wish(const struct torc_yield *yield, struct torc_survey *survey,
                     const struct torc_survey_want *want, uint64_t min_in_sync,
                     struct torc_survey_want *wish)
{
    *wish = *want;
    wish->primary = 0;
    wish->node_count = 0;
    for (uint32_t i = 0; i < want->node_count; i++) {
        const struct torc_survey_node *node = torc_survey_node(survey, want->nodes[i]);

        if (node == NULL || !yield_leaves(yield, node)) {
            wish->nodes[wish->node_count++] = want->nodes[i];
        }
    }
    if (wish->node_count < torc_max_u64(min_in_sync, 1)) { // Y2
        wish->node_count = want->node_count;
        memcpy(wish->nodes, want->nodes, sizeof(wish->nodes));
    }
}

bool torc_yield_order(const struct torc_yield *yield, struct torc_survey *survey,
                      const struct torc_cluster_shard *shard, uint64_t min_in_sync,
                      struct torc_cmd *order)
{
    const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);
    struct torc_survey_want wish;
    struct torc_want_fields hint;
    struct torc_move_step step;

    if (want == NULL) {
        return false;
    }
    torc_yield_wish(yield, survey, want, min_in_sync, &wish);
    // The next step towards it, and no other (control/steps.h); a primary that is to leave the
    // shard is followed by whom the step says where nobody else was found for it.
    step = torc_steps_next(survey, shard->shard, &wish, min_in_sync, &hint);
    *order = (struct torc_cmd){.kind = TORC_CMD_WANT};
    order->want = (struct torc_cmd_want){
        .shard = shard->shard,
        .primary_node = shard->heir,
        .node_count = (uint32_t)torc_min_u64(hint.nodes.count, TORC_COUNT_OF(order->want.nodes))};
    if (shard->heir == 0 && step.kind == TORC_MOVE_TRANSFER) {
        order->want.primary_node = step.node;
    }
    for (uint32_t i = 0; i < order->want.node_count; i++) {
        order->want.nodes[i] = (uint32_t)hint.nodes.at[i];
    }
    return shard->wish || memcmp(&order->want, &shard->told, sizeof(order->want)) != 0;
}

void torc_yield_told(struct torc_yield *yield, struct torc_cluster_shard *shard,
                     const struct torc_cmd *order, bool sent)
{
    shard->wish = !sent;
    if (sent) {
        shard->told = order->want;
    } else {
        yield->due = true; // its ring is full
    }
}

static bool yield_is_wished(const struct torc_survey_want *wish, uint32_t node)
{
    for (uint32_t i = 0; i < wish->node_count; i++) {
        if (wish->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

// Whether every node that is wished is up: then all of them will be members, if they are not yet.
static bool yield_all_up(struct torc_survey *survey, const struct torc_survey_want *wish)
{
    for (uint32_t i = 0; i < wish->node_count; i++) {
        if (!yield_is_up(torc_survey_node(survey, wish->nodes[i]))) {
            return false;
        }
    }
    return true;
}

// No member's node has the copy any more: nobody will lead it, so nobody can take a node out.
static bool yield_is_closed(struct torc_survey *survey, const struct torc_survey_shard *shard)
{
    for (uint32_t i = 0; i < shard->member_count; i++) {
        const struct torc_survey_node *node =
            torc_survey_node(survey, (uint32_t)shard->members[i].node);

        if (node != NULL && torc_give_remembers(node->copy, shard->members[i].copy)) {
            return false;
        }
    }
    return true;
}

uint32_t torc_yield_left(const struct torc_yield *yield, struct torc_survey *survey,
                         uint64_t min_in_sync)
{
    struct yield_count none = {0};
    uint32_t left = 0;

    for (uint32_t i = 0; i < survey->shard_count; i++) {
        const struct torc_survey_shard *shard = survey->shards + i;
        const struct torc_survey_want *want = torc_survey_want(survey, shard->shard);
        struct torc_survey_want wish = {0};
        bool goes;

        if (!torc_survey_has(shard, yield->node) || yield_is_closed(survey, shard)) {
            continue;
        }
        if (want != NULL) {
            torc_yield_wish(yield, survey, want, min_in_sync, &wish);
        }
        // The primary takes it out when all others are in.
        goes = wish.node_count > 0 && !yield_is_wished(&wish, yield->node) &&
               yield_all_up(survey, &wish);
        left += goes || (shard->primary_node == yield->node &&
                         yield_heir(yield, survey, shard, &none) != 0)
                    ? 1
                    : 0;
    }
    return left;
}

// -- For operators --------------------------------------------------------------------------------

uint32_t torc_yield_leads(const struct torc_survey *survey, uint32_t node)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < survey->shard_count; i++) {
        count += survey->shards[i].primary_node == node ? 1 : 0;
    }
    return count;
}

enum torc_err torc_yield_may(struct torc_survey *survey, uint32_t node, struct torc_fail *why)
{
    const struct torc_yield yield = {.node = node};
    struct yield_count none = {0};
    uint32_t stuck = 0;
    uint32_t first = 0;

    if (torc_survey_node(survey, node) == NULL) {
        return torc_fail(why, TORC_ERR_NOT_FOUND, "node %" PRIu32 ": this cluster has no such node",
                         node);
    }
    for (uint32_t i = survey->shard_count; i > 0; i--) {
        const struct torc_survey_shard *shard = survey->shards + i - 1;

        if (torc_survey_has(shard, node) && yield_heir(&yield, survey, shard, &none) == 0) {
            stuck++;
            first = shard->shard;
        }
    }
    if (stuck > 0) {
        return torc_fail(why, TORC_ERR_UNAVAILABLE,
                         "node %" PRIu32 ": no other node could lead %" PRIu32
                         " of its shards (%" PRIu32 "%s): it is their only member that is in "
                         "sync, up and not drained",
                         node, stuck, first, stuck > 1 ? ", …" : "");
    }
    return TORC_ERR_OK;
}
