// Torc control: nodes and their shares of the weight; see placement.h.
#include "control/placement_impl.h"

#include <string.h>

#define SHARE_OPEN   UINT64_MAX
#define SHARE_CLOSED (UINT64_MAX - 1)

static enum torc_err check_node(const struct torc_placement *p,
                                const struct torc_placement_node *node, struct torc_fail *why)
{
    const struct torc_ring_member *member = &node->member;

    if (member->node == 0 || member->node >= TORC_PLACEMENT_IDS) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "node %u: numbers are 1 to %u",
                         member->node, TORC_PLACEMENT_IDS - 1);
    }
    if (member->domain >= TORC_PLACEMENT_DOMAINS) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "node %u: domain %u: at most %u",
                         member->node, member->domain, TORC_PLACEMENT_DOMAINS - 1);
    }
    if (member->capacity == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "node %u has no capacity", member->node);
    }
    if (p->domain_of[member->node] != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "node %u is there twice", member->node);
    }
    return TORC_ERR_OK;
}

static void count_domains(const struct torc_placement *p, uint16_t *sizes)
{
    memset(sizes, 0, sizeof(sizes[0]) * TORC_PLACEMENT_IDS * 2);
    for (uint32_t i = 0; i < p->member_count; i++) {
        sizes[p->domain_of[p->members[i].node]]++;
    }
}

// How many replicas may be in one domain: the least with which all can be placed.
static uint32_t spread(const struct torc_placement *p)
{
    uint16_t sizes[TORC_PLACEMENT_IDS * 2];
    uint32_t per_domain = 0;
    uint64_t room = 0;

    count_domains(p, sizes);
    while (room < p->copies) {
        per_domain++;
        room = 0;
        for (uint32_t domain = 0; domain < TORC_COUNT_OF(sizes); domain++) {
            room += torc_min_u64(sizes[domain], per_domain);
        }
    }
    return torc_narrow_u32(torc_max_u64(per_domain, 1));
}

enum torc_err torc_placement_nodes(struct torc_placement *placement,
                                   const struct torc_placement_node *nodes, uint32_t node_count,
                                   uint32_t replicas, struct torc_fail *why)
{
    struct torc_placement *p = placement;
    bool up = false;

    torc_assert(replicas >= 1 && replicas <= TORC_PLACEMENT_REPLICAS_MAX);
    memset(p, 0, sizeof(*p));
    for (uint32_t i = 0; i < node_count; i++) {
        const struct torc_ring_member *member = &nodes[i].member;
        enum torc_err err = check_node(p, &nodes[i], why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        p->domain_of[member->node] =
            (uint16_t)(member->domain != 0 ? member->domain
                                           : TORC_PLACEMENT_DOMAINS + member->node);
        if (nodes[i].state == TORC_PLACEMENT_DRAINING) {
            p->flags[member->node] = PLACEMENT_DRAINING;
            continue;
        }
        p->flags[member->node] = nodes[i].state == TORC_PLACEMENT_UP ? PLACEMENT_UP : 0;
        p->members[member->node] = *member;
        up = up || nodes[i].state == TORC_PLACEMENT_UP;
    }
    if (!up) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "none of %u nodes is up", node_count);
    }
    for (uint32_t node = 1; node < TORC_PLACEMENT_IDS; node++) { // in the order of their numbers
        if (p->members[node].node != 0) {
            p->members[p->member_count++] = p->members[node];
        }
    }
    p->replicas = replicas;
    p->copies = (uint32_t)torc_min_u64(replicas, p->member_count);
    p->per_domain = spread(p);
    p->near = p->copies == 1 ? UINT32_MAX : p->copies + 4;
    torc_ring_build(&p->ring, p->tokens, p->members, p->member_count);
    return TORC_ERR_OK;
}

uint64_t torc_placement_divide(uint64_t whole, const uint64_t *capacities, const uint64_t *caps,
                               uint64_t *shares, uint32_t count)
{
    unsigned __int128 open = 0; // the capacity of those below their caps
    uint64_t left = whole;
    bool again = true;

    for (uint32_t i = 0; i < count; i++) {
        shares[i] = UINT64_MAX;
        open += capacities[i];
    }
    while (again) { // each time one more is at its cap
        unsigned __int128 among = open;
        uint64_t divided = left;

        again = false;
        for (uint32_t i = 0; i < count; i++) {
            if (shares[i] == UINT64_MAX &&
                (unsigned __int128)divided * capacities[i] >= caps[i] * among) {
                shares[i] = caps[i];
                left -= caps[i];
                open -= capacities[i];
                again = true;
            }
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (shares[i] == UINT64_MAX) {
            shares[i] = (uint64_t)((unsigned __int128)left * capacities[i] / open);
        }
        whole -= shares[i];
    }
    return whole;
}

// The members of one domain divide what it has.
static void divide_domain(struct torc_placement *p, uint16_t domain, uint64_t whole,
                          uint64_t weight)
{
    uint64_t *capacities = p->scratch[0];
    uint64_t *caps = p->scratch[1];
    uint64_t *shares = p->scratch[2];
    uint32_t count = 0;
    uint32_t at = 0;

    for (uint32_t i = 0; i < p->member_count; i++) {
        if (p->domain_of[p->members[i].node] == domain) {
            capacities[count] = p->members[i].capacity;
            caps[count++] = weight;
        }
    }
    (void)torc_placement_divide(whole, capacities, caps, shares, count);
    for (uint32_t i = 0; i < p->member_count; i++) {
        if (p->domain_of[p->members[i].node] == domain) {
            p->share[p->members[i].node] = shares[at++];
        }
    }
}

static void set_bounds(struct torc_placement *p)
{
    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;
        uint64_t share = torc_max_u64(p->share[node], 1);

        p->share[node] = share;
        p->accept[node] = share + share / 1000 * (TORC_PLACEMENT_ACCEPT - 1000);
        p->brim[node] = share + share / 1000 * (TORC_PLACEMENT_BRIM - 1000);
        p->limit[node] = share + share / 1000 * (TORC_PLACEMENT_LIMIT - 1000);
    }
}

// Nodes whose part by capacity is more than one replica of each shard have just that. Returns
// what is left for the others, whose capacity is `open`.
static uint64_t cap_nodes(struct torc_placement *p, uint64_t left, uint64_t weight, uint64_t *open)
{
    uint64_t among = *open;
    uint64_t divided = left;

    for (uint32_t i = 0; i < p->member_count; i++) {
        const struct torc_ring_member *member = &p->members[i];

        if (p->share[member->node] == SHARE_OPEN &&
            (unsigned __int128)divided * member->capacity >= (unsigned __int128)weight * among) {
            p->share[member->node] = weight;
            *open -= member->capacity;
            left -= torc_min_u64(weight, left);
        }
    }
    return left;
}

// The same of domains; nodes of one that is at its cap are SHARE_CLOSED and share that later.
static uint64_t cap_domains(struct torc_placement *p, uint64_t left, uint64_t weight,
                            uint64_t *open)
{
    uint64_t *fixed = p->scratch[0];
    uint64_t *opened = p->scratch[1];
    uint64_t cap = weight * p->per_domain;
    uint64_t among = *open;
    uint64_t divided = left;

    memset(p->scratch, 0, 2 * sizeof(p->scratch[0]));
    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;
        uint32_t place = p->place_of[p->domain_of[node]];

        fixed[place] += p->share[node] < SHARE_CLOSED ? p->share[node] : 0;
        if (p->share[node] == SHARE_OPEN) { // what it would have, at most its own cap
            unsigned __int128 part = (unsigned __int128)divided * p->members[i].capacity / among;

            opened[place] += part < weight ? (uint64_t)part : weight;
        }
    }
    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;
        uint32_t place = p->place_of[p->domain_of[node]];

        if (p->share[node] == SHARE_OPEN && fixed[place] <= cap &&
            opened[place] >= cap - fixed[place]) {
            *open -= p->members[i].capacity;
            p->share[node] = SHARE_CLOSED;
            left -= fixed[place] < cap ? torc_min_u64(cap - fixed[place], left) : 0;
            fixed[place] = cap; // counted once
            p->scratch[2][place] = 1;
        } else if (p->share[node] == SHARE_OPEN && p->scratch[2][place] != 0) {
            *open -= p->members[i].capacity;
            p->share[node] = SHARE_CLOSED;
        }
    }
    return left;
}

void torc_placement_shares(struct torc_placement *p, uint64_t weight)
{
    uint16_t sizes[TORC_PLACEMENT_IDS * 2];
    uint64_t left = weight * p->copies;
    uint64_t open = 0;
    uint64_t before;
    uint32_t count = 0;

    count_domains(p, sizes);
    memset(p->scratch, 0, sizeof(p->scratch));
    for (uint32_t domain = 0; domain < TORC_COUNT_OF(sizes); domain++) {
        p->place_of[domain] = (uint16_t)count;
        count += sizes[domain] != 0 ? 1 : 0;
    }
    for (uint32_t i = 0; i < p->member_count; i++) {
        p->share[p->members[i].node] = SHARE_OPEN;
        open += p->members[i].capacity;
    }
    do { // one more is at its cap each time
        before = open;
        left = cap_domains(p, left, weight, &open); // first: a node's cap holds within its domain's
        left = open == before ? cap_nodes(p, left, weight, &open) : left;
    } while (open != before && open > 0);
    for (uint32_t i = 0; i < p->member_count; i++) {
        const struct torc_ring_member *member = &p->members[i];

        if (p->share[member->node] == SHARE_OPEN) {
            p->share[member->node] = (uint64_t)((unsigned __int128)left * member->capacity / open);
        }
    }
    for (uint32_t i = 0; i < p->member_count; i++) {
        if (p->share[p->members[i].node] == SHARE_CLOSED) {
            divide_domain(p, p->domain_of[p->members[i].node], weight * p->per_domain, weight);
        }
    }
    set_bounds(p);
}

// The ring gives a node few partners: it may share nearly all of its replicas with one of them.
uint64_t torc_placement_shards_max(uint64_t nodes, uint64_t replicas, uint64_t pair_max)
{
    uint64_t left = torc_max_u64(nodes - 1, replicas);

    return replicas <= 1 ? UINT64_MAX : pair_max * left / replicas;
}
