// Torc control: who takes a replica; changes of a list; see placement.h.
#include "control/placement_impl.h"

// Whether the node may hold the shard in place of its replica `except` (or beside all).
bool torc_placement_may_hold(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t node,
                             uint32_t except, uint32_t per_domain)
{
    uint32_t same = 0;

    if ((p->flags[node] & PLACEMENT_UP) == 0) {
        return false;
    }
    for (uint32_t i = 0; i < shard->count; i++) {
        if (i == except) {
            continue;
        }
        if (shard->nodes[i] == node) {
            return false;
        }
        same += p->domain_of[shard->nodes[i]] == p->domain_of[node] ? 1 : 0;
    }
    return same < per_domain;
}

// Below the bound with it; or, where a shard is much of a node's share, as near to it as can be.
static bool accepts(const struct torc_placement *p, uint32_t node, uint64_t weight,
                    const uint64_t *bounds)
{
    uint64_t load = p->load[node];

    return load + weight <= bounds[node] || load + weight / 2 <= p->share[node];
}

// The lightest of those that share a shard with each other node of the list already and are below
// their bounds. 0: none.
static uint32_t pick_partner(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t except,
                             const uint64_t *bounds)
{
    uint64_t weight = placement_weight(shard);
    uint32_t best = 0;

    for (uint32_t word = 0; word < PLACEMENT_WORDS; word++) {
        uint64_t common = UINT64_MAX;

        for (uint32_t i = 0; i < shard->count; i++) {
            common &= i != except ? p->partners[shard->nodes[i]][word] : UINT64_MAX;
        }
        for (; common != 0; common &= common - 1) {
            uint32_t node = word * 64 + (uint32_t)__builtin_ctzll(common);

            if (torc_placement_may_hold(p, shard, node, except, p->per_domain) &&
                accepts(p, node, weight, bounds) &&
                (best == 0 ||
                 placement_lighter(p->load[node], p->share[node], p->load[best], p->share[best]))) {
                best = node;
            }
        }
    }
    return best;
}

// Whether the node may have the list's nodes, its replica `except` aside, as new partners.
bool torc_placement_may_meet(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t node,
                             uint32_t except, uint32_t partners_max, uint32_t others_max)
{
    for (uint32_t i = 0; i < shard->count; i++) {
        if (i != except && p->partner_count[shard->nodes[i]] >= others_max) {
            return false;
        }
    }
    return p->partner_count[node] + shard->count <= partners_max;
}

// Whether the node shares a shard with each of the list's nodes, its replica `except` aside.
static bool knows_all(const struct torc_placement *p, const struct torc_placement_shard *shard,
                      uint32_t node, uint32_t except)
{
    for (uint32_t i = 0; i < shard->count; i++) {
        uint32_t other = shard->nodes[i];

        if (i != except && (p->partners[node][other / 64] >> other % 64 & 1) == 0) {
            return false;
        }
    }
    return true;
}

// The next node clockwise, of `token_count` tokens, that is below its bound.
static uint32_t pick_next(const struct torc_placement *p, const struct torc_placement_shard *shard,
                          uint32_t token, uint32_t except, const uint64_t *bounds,
                          uint32_t partners_max)
{
    uint32_t count = (uint32_t)torc_min_u64(p->ring.token_count, p->near);
    uint32_t at = token;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t node = p->ring.tokens[at].node;

        at = at + 1 == p->ring.token_count ? 0 : at + 1;
        if (torc_placement_may_hold(p, shard, node, except, p->per_domain) &&
            accepts(p, node, placement_weight(shard), bounds) &&
            (knows_all(p, shard, node, except) ||
             torc_placement_may_meet(p, shard, node, except, partners_max, partners_max))) {
            return node;
        }
    }
    return 0;
}

// The lightest of all that may hold the shard.
uint32_t torc_placement_pick_lightest(const struct torc_placement *p,
                                      const struct torc_placement_shard *shard, uint32_t except,
                                      uint32_t per_domain)
{
    uint64_t weight = placement_weight(shard);
    uint32_t best = 0;

    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;

        if (torc_placement_may_hold(p, shard, node, except, per_domain) &&
            (best == 0 || placement_lighter(p->load[node] + weight, p->share[node],
                                            p->load[best] + weight, p->share[best]))) {
            best = node;
        }
    }
    return best;
}

// The lightest of those that may meet the nodes of the list. One is enough for many shards: it is a
// partner then.
static uint32_t pick_stranger(const struct torc_placement *p,
                              const struct torc_placement_shard *shard, uint32_t except,
                              uint32_t partners_max)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;

        if (accepts(p, node, placement_weight(shard), p->accept) &&
            (best == 0 ||
             placement_lighter(p->load[node], p->share[node], p->load[best], p->share[best])) &&
            torc_placement_may_meet(p, shard, node, except, partners_max, partners_max) &&
            torc_placement_may_hold(p, shard, node, except, p->per_domain)) {
            best = node;
        }
    }
    return best;
}

// See placement_impl.h. At a first placement nobody has partners yet: the ring alone decides.
uint32_t torc_placement_pick(const struct torc_placement *p,
                             const struct torc_placement_shard *shard, uint32_t token,
                             uint32_t except, bool calm)
{
    uint32_t few = p->first ? UINT32_MAX : TORC_PLACEMENT_MENDED;
    uint32_t most = TORC_PLACEMENT_PARTNERS;
    uint32_t node = pick_next(p, shard, token, except, p->accept, few);

    if (node == 0 && shard->count > (except < shard->count ? 1 : 0)) {
        node = pick_partner(p, shard, except, p->accept);
        node = node != 0 || !calm ? node : pick_stranger(p, shard, except, TORC_PLACEMENT_MENDED);
        node = node != 0 ? node : pick_next(p, shard, token, except, p->brim, few);
        node = node != 0 ? node : pick_partner(p, shard, except, p->brim);
        node = node != 0 || calm ? node : pick_stranger(p, shard, except, TORC_PLACEMENT_MENDED);
        node = node != 0 ? node : pick_next(p, shard, token, except, p->brim, most);
        node = node != 0 ? node : pick_stranger(p, shard, except, most);
        node = node != 0 ? node : pick_next(p, shard, token, except, p->brim, UINT32_MAX);
    }
    return node != 0 ? node : torc_placement_pick_lightest(p, shard, except, p->per_domain);
}

void torc_placement_note_partners(struct torc_placement *p,
                                  const struct torc_placement_shard *shard, uint32_t index)
{
    uint32_t node = shard->nodes[index];

    for (uint32_t i = 0; i < shard->count; i++) {
        uint32_t other = shard->nodes[i];
        uint64_t bit = UINT64_C(1) << other % 64;

        if ((p->partners[node][other / 64] & bit) == 0) {
            p->partners[node][other / 64] |= bit;
            p->partners[other][node / 64] |= UINT64_C(1) << node % 64;
            p->partner_count[node]++;
            p->partner_count[other] = (uint16_t)(p->partner_count[other] + (other != node ? 1 : 0));
        }
    }
}

void torc_placement_replace(struct torc_placement *p, struct torc_placement_shard *shard,
                            uint32_t index, uint32_t node)
{
    torc_assert(p->load[shard->nodes[index]] >= placement_weight(shard));
    p->load[shard->nodes[index]] -= placement_weight(shard);
    p->load[node] += placement_weight(shard);
    shard->nodes[index] = (uint16_t)node;
    shard->changed = 1;
    p->arrived++;
    torc_placement_note_partners(p, shard, index);
}

void torc_placement_drop(struct torc_placement *p, struct torc_placement_shard *shard,
                         uint32_t index)
{
    uint32_t node = shard->nodes[index];

    if (p->domain_of[node] != 0) {
        p->load[node] -= placement_weight(shard);
    }
    shard->count--;
    for (uint32_t i = index; i < shard->count; i++) {
        shard->nodes[i] = shard->nodes[i + 1];
    }
    shard->nodes[shard->count] = 0;
    shard->changed = 1;
}

void torc_placement_insert(struct torc_placement *p, struct torc_placement_shard *shard,
                           uint32_t index, uint32_t node)
{
    torc_assert(shard->count < TORC_PLACEMENT_REPLICAS_MAX);
    for (uint32_t i = shard->count; i > index; i--) {
        shard->nodes[i] = shard->nodes[i - 1];
    }
    shard->nodes[index] = (uint16_t)node;
    shard->count++;
    shard->changed = 1;
    p->load[node] += placement_weight(shard);
    p->arrived++;
    torc_placement_note_partners(p, shard, index);
}
