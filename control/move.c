// Torc control: from where a shard lies to where it should. See control/move.h.
#include "control/move.h"

#include "kit/bugs.h"

// Distinct nodes, in the order of the list they are from.
struct move_set {
    uint32_t count;
    uint32_t nodes[TORC_RECORD_MEMBERS_MAX];
};

static bool move_has(const struct move_set *set, uint64_t node)
{
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

static struct move_set move_wished(const struct torc_want_fields *want)
{
    struct move_set set = {0};

    torc_assert(want->nodes.count <= TORC_RECORD_MEMBERS_MAX);
    for (uint64_t i = 0; i < want->nodes.count; i++) {
        uint64_t node = want->nodes.at[i];

        torc_assert(node <= TORC_RECORD_NODE_MAX);
        if (node != 0 && !move_has(&set, node)) {
            set.nodes[set.count++] = (uint32_t)node;
        }
    }
    return set;
}

static struct move_set move_members(const struct torc_shard_fields *shard)
{
    struct move_set set = {0};

    torc_assert(shard->insync.count <= TORC_RECORD_MEMBERS_MAX);
    for (uint64_t i = 0; i < shard->insync.count; i++) {
        torc_assert(shard->insync.at[i].node <= TORC_RECORD_NODE_MAX);
        set.nodes[set.count++] = (uint32_t)shard->insync.at[i].node;
    }
    return set;
}

static bool move_alive(const struct torc_move_view *view, uint32_t node)
{
    return (view->alive[node / 64] >> node % 64 & 1) != 0;
}

static uint32_t move_alive_count(const struct torc_move_view *view, const struct move_set *set)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        count += move_alive(view, set->nodes[i]) ? 1 : 0;
    }
    return count;
}

// How many of `set` are not in `other`.
static uint32_t move_beyond(const struct move_set *set, const struct move_set *other)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < set->count; i++) {
        count += move_has(other, set->nodes[i]) ? 0 : 1;
    }
    return count;
}

static struct torc_move_step move_wait(enum torc_move_wait wait)
{
    return (struct torc_move_step){.kind = TORC_MOVE_WAIT, .wait = wait};
}

// How many members it has when it is not on its way.
static uint32_t move_target(const struct torc_move_view *view, const struct move_set *wished)
{
    uint64_t least = torc_max_u64(view->min_in_sync, 1);
    uint64_t target = torc_max_u64(least, wished->count);

    if (wished->count > least && TORC_BUG(MOVE_REMOVES_FIRST)) {
        target--;
    }
    return (uint32_t)torc_min_u64(target, TORC_RECORD_MEMBERS_MAX - 1); // room for one to come
}

// V1, V3. A dead one goes before a living one; of several the last in takeover order. 0: nobody.
static uint32_t move_leaver(const struct torc_move_view *view, const struct move_set *members,
                            const struct move_set *wished)
{
    uint64_t least = torc_max_u64(view->min_in_sync, 1);
    uint32_t alive = move_alive_count(view, members);
    uint32_t leaver = 0;

    if (members->count <= least || alive < least) {
        return 0;
    }
    for (uint32_t i = 0; i < members->count; i++) {
        uint32_t node = members->nodes[i];
        bool free = node != view->shard->primary_node && !move_has(wished, node);

        if (free && !move_alive(view, node)) {
            return node;
        }
        if (free && alive > torc_max_u64(least, move_target(view, wished))) {
            leaver = node;
        }
    }
    return leaver;
}

// V2. The wished primary if it can be; else, when the present one has to go, another. 0: nobody.
static uint32_t move_heir(const struct torc_move_view *view, const struct move_set *members,
                          const struct move_set *wished)
{
    uint32_t wish = (uint32_t)view->want->primary;

    if (wish != 0 && move_has(members, wish) && move_has(wished, wish) && move_alive(view, wish)) {
        return wish;
    }
    for (uint32_t i = 0; i < members->count && !move_has(wished, view->shard->primary_node); i++) {
        if (move_has(wished, members->nodes[i]) && move_alive(view, members->nodes[i])) {
            return members->nodes[i];
        }
    }
    return 0;
}

// Whom the primary is to feed: those that are missing and seem alive, in the wish's order, as far
// as all of them may be members beside those that are (V6).
static struct move_set move_learners(const struct torc_move_view *view,
                                     const struct move_set *members, const struct move_set *wished)
{
    uint32_t most = move_target(view, wished) + 1;
    struct move_set learners = {0};

    torc_assert(most <= TORC_RECORD_MEMBERS_MAX);
    for (uint32_t i = 0; i < wished->count && members->count + learners.count < most; i++) {
        uint32_t node = wished->nodes[i];

        if (!move_has(members, node) && move_alive(view, node)) {
            learners.nodes[learners.count++] = node;
        }
    }
    return learners;
}

static struct torc_move_step move_add(const struct torc_move_view *view,
                                      const struct move_set *members, const struct move_set *wished)
{
    struct move_set learners = move_learners(view, members, wished);

    if (learners.count == 0) {
        return move_wait(TORC_MOVE_WAIT_NODES);
    }
    return (struct torc_move_step){.kind = TORC_MOVE_LEARN, .node = learners.nodes[0]};
}

// One member more than it is to have: one that is not wished makes way.
static struct torc_move_step move_shrink(const struct torc_move_view *view,
                                         const struct move_set *members,
                                         const struct move_set *wished)
{
    uint32_t heir = move_heir(view, members, wished);
    uint32_t leaver = move_leaver(view, members, wished);

    if (leaver != 0) {
        return (struct torc_move_step){.kind = TORC_MOVE_REMOVE, .node = leaver};
    }
    if (!move_has(wished, view->shard->primary_node) && heir != 0) {
        return (struct torc_move_step){.kind = TORC_MOVE_TRANSFER, .node = heir};
    }
    return move_wait(TORC_MOVE_WAIT_MEMBERS);
}

struct torc_move_step torc_move_next(const struct torc_move_view *view)
{
    struct move_set wished = move_wished(view->want);
    struct move_set members = move_members(view->shard);
    uint32_t missing = move_beyond(&wished, &members);
    uint32_t surplus = move_beyond(&members, &wished);
    uint32_t heir;

    if (wished.count == 0) {
        return (struct torc_move_step){.kind = TORC_MOVE_DONE};
    }
    if (members.count == 0 || !move_alive(view, (uint32_t)view->shard->primary_node)) {
        return move_wait(TORC_MOVE_WAIT_PRIMARY);
    }
    if (surplus > 0 && members.count > move_target(view, &wished)) {
        return move_shrink(view, &members, &wished);
    }
    if (missing > 0 && members.count < TORC_RECORD_MEMBERS_MAX) {
        return move_add(view, &members, &wished);
    }
    heir = move_heir(view, &members, &wished);
    if (heir != 0 && heir != view->shard->primary_node) {
        return (struct torc_move_step){.kind = TORC_MOVE_TRANSFER, .node = heir};
    }
    return missing + surplus > 0 ? move_wait(TORC_MOVE_WAIT_MEMBERS)
                                 : (struct torc_move_step){.kind = TORC_MOVE_DONE};
}

void torc_move_hint(const struct torc_move_view *view, const struct torc_move_step *step,
                    struct torc_want_fields *hint)
{
    struct move_set members = move_members(view->shard);
    struct move_set learners = {0};
    bool removes = step->kind == TORC_MOVE_REMOVE;

    *hint = (struct torc_want_fields){.primary = view->shard->primary_node};
    if (step->kind == TORC_MOVE_TRANSFER) {
        hint->primary = step->node;
    }
    for (uint32_t i = 0; i < members.count; i++) {
        if (!removes || members.nodes[i] != step->node) {
            hint->nodes.at[hint->nodes.count++] = members.nodes[i];
        }
    }
    if (step->kind == TORC_MOVE_LEARN) {
        struct move_set wished = move_wished(view->want);

        learners = move_learners(view, &members, &wished);
    }
    torc_assert(hint->nodes.count + learners.count <= TORC_RECORD_MEMBERS_MAX);
    for (uint32_t i = 0; i < learners.count; i++) {
        hint->nodes.at[hint->nodes.count++] = learners.nodes[i];
    }
}
