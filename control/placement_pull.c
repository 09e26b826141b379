// Torc control: nodes that are new, or have much less than is theirs; see placement.h.
#include "control/placement_impl.h"

#include <string.h>

#define WIDER_MAX 2u // how many nodes beyond a shard's own the ring is asked for

// Donors of a new node. With 20, each gives a twentieth of a share: what about forty joins have
// made too much of it, of the fifty that the limit leaves room for. With 12, a growing cluster's
// nodes met the limit before their turn came, and moved a fifth of a share beside each join's.
#define DONORS          20u
#define DONORS_PARTNERS 58u // that a new node may meet by them
#define STRANGERS_PARTNERS \
    64u                // that anybody may have by meeting a node with less than half its share
#define WELCOME_MAX 8u // new nodes of a plan that get donors: each is a pass over all shards

// -- Nodes with less than is theirs --------------------------------------------------------------

// Nodes of an arc, the piece of the ring before a token: those its shards belong to, and with
// `wider` as many more, the next clockwise whatever their domain.
struct arc {
    uint32_t count;
    uint32_t from; // its shards
    uint32_t to;
    uint32_t floor;     // in thousandths of a share: nobody with less loses a shard
    uint32_t strangers; // nodes may meet new partners up to so many; 0: none
    uint16_t nodes[2 * TORC_PLACEMENT_REPLICAS_MAX + WIDER_MAX];
};

static bool arc_has(const struct arc *arc, uint32_t node)
{
    for (uint32_t i = 0; i < arc->count; i++) {
        if (arc->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

static void arc_read(const struct torc_placement *p, uint32_t token, struct arc *arc)
{
    uint32_t at = token;

    arc->count = 0;
    for (uint32_t i = 0; i < p->ring.token_count && arc->count < p->copies; i++) {
        uint32_t node = p->ring.tokens[at].node;
        uint32_t same = 0;

        at = at + 1 == p->ring.token_count ? 0 : at + 1;
        for (uint32_t k = 0; k < arc->count; k++) {
            same += p->domain_of[arc->nodes[k]] == p->domain_of[node] ? 1 : 0;
        }
        if (same < p->per_domain && !arc_has(arc, node)) {
            arc->nodes[arc->count++] = (uint16_t)node;
        }
    }
}

static void arc_widen(const struct torc_placement *p, uint32_t token, struct arc *arc,
                      uint32_t wider)
{
    uint32_t near = 0;

    for (uint32_t i = 0; i < p->ring.token_count && near < p->copies + wider; i++) {
        uint32_t node = p->ring.tokens[(token + i) % p->ring.token_count].node;

        near++;
        if (!arc_has(arc, node)) {
            arc->nodes[arc->count++] = (uint16_t)node;
        }
    }
}

// Whether the node meets nobody new in the list, its replica `except` aside, but nodes of the arc.
static bool knows(const struct torc_placement *p, const struct torc_placement_shard *shard,
                  uint32_t node, uint32_t except, const struct arc *arc)
{
    for (uint32_t i = 0; i < shard->count; i++) {
        uint32_t other = shard->nodes[i];

        if (i != except && (p->partners[node][other / 64] >> other % 64 & 1) == 0 &&
            (arc == NULL || !arc_has(arc, other))) {
            return false;
        }
    }
    return true;
}

static bool may_join(const struct torc_placement *p, const struct torc_placement_shard *shard,
                     uint32_t node, uint32_t except, const struct arc *arc)
{
    return (arc->strangers != 0 &&
            torc_placement_may_meet(p, shard, node, except, arc->strangers, arc->strangers)) ||
           knows(p, shard, node, except, NULL) ||
           (knows(p, shard, node, except, arc) &&
            torc_placement_may_meet(p, shard, node, except, TORC_PLACEMENT_PARTNERS,
                                    TORC_PLACEMENT_PARTNERS));
}

// The node takes the shard from the one of its nodes that has most, if that has more than the arc's
// floor and more than the node with the shard (L4).
static void pull(struct torc_placement *p, struct torc_placement_shard *shard, uint32_t node,
                 const struct arc *arc)
{
    uint64_t weight = placement_weight(shard);
    uint64_t load = p->load[node] + weight;
    uint64_t share = p->share[node];
    uint32_t from = UINT32_MAX;

    if (p->load[node] + weight / 2 > share) {
        return;
    }
    for (uint32_t i = 0; i < shard->count; i++) {
        uint32_t has = shard->nodes[i];

        if (placement_lighter(load, share, p->load[has], p->share[has]) &&
            p->load[has] > p->share[has] / 1000 * arc->floor &&
            torc_placement_may_hold(p, shard, node, i, p->per_domain) &&
            may_join(p, shard, node, i, arc)) {
            load = p->load[has];
            share = p->share[has];
            from = i;
        }
    }
    if (from == UINT32_MAX) {
        return;
    }
    torc_placement_replace(p, shard, from, node);
    if (p->load[node] >= p->goal[node]) {
        placement_unmark(p, node);
    }
}

// The first shard clockwise of the position.
static uint32_t shard_find(const struct torc_placement_shard *shards, uint32_t shard_count,
                           uint64_t position)
{
    uint32_t low = 0;
    uint32_t high = shard_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (torc_ring_position(shards[middle].shard) <= position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Marked nodes of the arc pull its shards.
static void pull_arc(struct torc_placement *p, struct torc_placement_shard *shards,
                     const struct arc *arc)
{
    for (uint32_t i = 0; i < arc->count; i++) {
        uint32_t node = arc->nodes[i];

        for (uint32_t s = arc->from; s < arc->to && (p->flags[node] & PLACEMENT_MARKED) != 0; s++) {
            pull(p, &shards[s], node, arc);
        }
    }
}

static bool arc_marked(const struct torc_placement *p, const struct arc *arc)
{
    for (uint32_t i = 0; i < arc->count; i++) {
        if ((p->flags[arc->nodes[i]] & PLACEMENT_MARKED) != 0) {
            return true;
        }
    }
    return false;
}

// -- New nodes -----------------------------------------------------------------------------------

// The heaviest nodes beside the new one. Each gives a part of what that is to get, but nobody falls
// below what a new node gets.
static void mark_donors(struct torc_placement *p, uint32_t node)
{
    uint64_t donors = torc_min_u64(DONORS, torc_max_u64(p->member_count - 1, 1));
    uint64_t part = (p->goal[node] - p->load[node]) / donors + 1;

    p->marked_count = 0;
    for (uint32_t k = 0; k < donors; k++) {
        uint32_t best = 0;

        for (uint32_t i = 0; i < p->member_count; i++) {
            uint32_t donor = p->members[i].node;

            if (donor != node && (p->flags[donor] & PLACEMENT_DONOR) == 0 &&
                p->load[donor] > p->share[donor] / 1000 * TORC_PLACEMENT_NEW &&
                (best == 0 || placement_lighter(p->load[best], p->share[best], p->load[donor],
                                                p->share[donor]))) {
                best = donor;
            }
        }
        if (best == 0) {
            return;
        }
        p->flags[best] |= PLACEMENT_DONOR;
        p->goal[best] = torc_max_u64(p->load[best] - torc_min_u64(part, p->load[best]),
                                     p->share[best] / 1000 * TORC_PLACEMENT_NEW);
        p->marked_count++;
    }
}

// The new node takes the shard from a donor, if it then has partners enough left to meet others.
static void donate(struct torc_placement *p, struct torc_placement_shard *shard, uint32_t node)
{
    uint64_t weight = placement_weight(shard);

    for (uint32_t i = 0; i < shard->count; i++) {
        uint32_t donor = shard->nodes[i];

        if ((p->flags[donor] & PLACEMENT_DONOR) == 0 ||
            !torc_placement_may_hold(p, shard, node, i, p->per_domain) ||
            !placement_lighter(p->load[node] + weight, p->share[node], p->load[donor],
                               p->share[donor]) ||
            !(knows(p, shard, node, i, NULL) ||
              torc_placement_may_meet(p, shard, node, i, DONORS_PARTNERS,
                                      TORC_PLACEMENT_PARTNERS))) {
            continue;
        }
        torc_placement_replace(p, shard, i, node);
        if (p->load[donor] <= p->goal[donor]) {
            p->flags[donor] &= (uint8_t)~PLACEMENT_DONOR;
            p->marked_count--;
        }
        return;
    }
}

// From where the node's first token stands on, so that shards of one arc go together.
static void welcome(struct torc_placement *p, struct torc_placement_shard *shards,
                    uint32_t shard_count, uint32_t node)
{
    uint32_t token = 0;
    uint32_t s;

    while (p->ring.tokens[token].node != node) {
        token++;
    }
    s = shard_find(shards, shard_count, p->ring.tokens[token].position);
    mark_donors(p, node);
    for (uint32_t i = 0; i < shard_count && p->marked_count > 0; i++) {
        s = s >= shard_count ? 0 : s;
        donate(p, &shards[s++], node);
    }
    for (uint32_t i = 0; i < p->member_count; i++) {
        p->flags[p->members[i].node] &= (uint8_t)~PLACEMENT_DONOR;
    }
}

// A node with less than half its share is new. In the mean a join then takes from each node what
// the join before made too much of it; taking from neighbours alone, it would take most from some
// and leave others above the limit, who would have to move as much again.
void torc_placement_welcome(struct torc_placement *p, struct torc_placement_shard *shards,
                            uint32_t shard_count)
{
    uint32_t welcomed = 0;

    for (uint32_t i = 0; i < p->member_count && welcomed < WELCOME_MAX; i++) {
        uint32_t node = p->members[i].node;

        if ((p->flags[node] & PLACEMENT_UP) != 0 && p->load[node] < p->share[node] / 2) {
            p->goal[node] = p->share[node] / 1000 * TORC_PLACEMENT_NEW;
            welcome(p, shards, shard_count, node);
            welcomed++;
        }
    }
}

// A node with less than half its share gets the rest of it. One that has drifted down to LOW is
// kept there.
static void mark_low(struct torc_placement *p)
{
    p->marked_count = 0;
    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;
        uint64_t low = p->share[node] - p->share[node] / 1000 * (1000 - TORC_PLACEMENT_LOW);

        p->flags[node] &= (uint8_t)~PLACEMENT_MARKED;
        if ((p->flags[node] & PLACEMENT_UP) != 0 && p->load[node] < low) {
            p->flags[node] |= PLACEMENT_MARKED;
            p->goal[node] = p->load[node] < p->share[node] / 2
                                ? p->share[node] / 1000 * TORC_PLACEMENT_NEW
                                : low;
            p->marked_count++;
        }
    }
}

// One pass over the ring. Shards of an arc are those from the token before on.
static void pull_pass(struct torc_placement *p, struct torc_placement_shard *shards,
                      uint32_t shard_count, uint32_t wider, uint32_t strangers)
{
    const struct torc_ring *ring = &p->ring;

    for (uint32_t t = 0; t <= ring->token_count && p->marked_count > 0; t++) {
        uint32_t token = t == ring->token_count ? 0 : t; // the last arc goes over the end
        struct arc arc;

        arc_read(p, token, &arc);
        arc_widen(p, token, &arc, wider);
        arc.floor = wider == WIDER_MAX && strangers == 0 ? TORC_PLACEMENT_HEAVY : 0;
        arc.strangers = strangers;
        if (arc_marked(p, &arc)) {
            arc.from = t == 0 ? 0 : shard_find(shards, shard_count, ring->tokens[t - 1].position);
            arc.to = t == ring->token_count
                         ? shard_count
                         : shard_find(shards, shard_count, ring->tokens[t].position);
            pull_arc(p, shards, &arc);
        }
    }
}

static void unmark_from(struct torc_placement *p, uint32_t part)
{
    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;

        if ((p->flags[node] & PLACEMENT_MARKED) != 0 && p->load[node] >= p->share[node] / part) {
            placement_unmark(p, node);
        }
    }
}

// Better a little too light than known to everybody.
void torc_placement_pull_all(struct torc_placement *p, struct torc_placement_shard *shards,
                             uint32_t shard_count)
{
    mark_low(p);
    pull_pass(p, shards, shard_count, WIDER_MAX, 0);
    pull_pass(p, shards, shard_count, 0, 0);
    pull_pass(p, shards, shard_count, 1, 0);
    unmark_from(p, 2);
    pull_pass(p, shards, shard_count, WIDER_MAX, STRANGERS_PARTNERS);
    unmark_from(p, 4);
    pull_pass(p, shards, shard_count, WIDER_MAX, UINT32_MAX);
}
