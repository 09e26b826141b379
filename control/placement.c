// Torc control: see placement.h. Nodes and their shares: placement_share.c; who takes a replica:
// placement_pick.c; nodes with too little: placement_pull.c.
#include "control/placement_impl.h"

#include <string.h>

#define ROUNDS_MAX 32u // of balancing in one plan; the third changes hardly anything
// Shards of nodes above their limits that nobody takes, before a pass lets them be: looking costs
// as much as there are nodes.
#define GIVE_UP 200000u

// -- Lists that cannot stay as they are ----------------------------------------------------------

// Whether replicas before this one fill its domain.
static bool crowded(const struct torc_placement *p, const struct torc_placement_shard *shard,
                    uint32_t index)
{
    uint32_t same = 0;

    for (uint32_t i = 0; i < index; i++) {
        same += p->domain_of[shard->nodes[i]] == p->domain_of[shard->nodes[index]] ? 1 : 0;
    }
    return same >= p->per_domain;
}

static bool twice(const struct torc_placement_shard *shard, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++) {
        if (shard->nodes[i] == shard->nodes[index]) {
            return true;
        }
    }
    return false;
}

static bool whole(const struct torc_placement *p, const struct torc_placement_shard *shard)
{
    bool good = shard->count >= p->copies && shard->count <= p->replicas;

    for (uint32_t i = 0; i < shard->count; i++) {
        uint32_t node = shard->nodes[i];

        good = good && p->domain_of[node] != 0 && (p->flags[node] & PLACEMENT_DRAINING) == 0 &&
               !crowded(p, shard, i) && (p->per_domain == 1 || !twice(shard, i));
    }
    return good;
}

// The one to go of a list that is too long: a draining node's, one in a full domain, else that of
// the node with most; the primary's last.
static uint32_t surplus(const struct torc_placement *p, const struct torc_placement_shard *shard)
{
    uint32_t heaviest = shard->count - 1;

    for (uint32_t i = shard->count; i > 1; i--) {
        uint32_t node = shard->nodes[i - 1];

        if ((p->flags[node] & PLACEMENT_DRAINING) != 0 || crowded(p, shard, i - 1)) {
            return i - 1;
        }
        if (placement_lighter(p->load[shard->nodes[heaviest]], p->share[shard->nodes[heaviest]],
                              p->load[node], p->share[node])) {
            heaviest = i - 1;
        }
    }
    return heaviest;
}

// Replaced replicas leave their place in the list to the new ones: so the wished primaries of a
// node that is gone are not all wished of its neighbours.
static void mend(struct torc_placement *p, struct torc_placement_shard *shard, uint32_t token)
{
    uint32_t hole = UINT32_MAX;
    uint32_t node;

    for (uint32_t i = shard->count; i > 0; i--) {
        if (p->domain_of[shard->nodes[i - 1]] == 0 || twice(shard, i - 1)) {
            torc_placement_drop(p, shard, i - 1);
            hole = i - 1;
        }
    }
    for (uint32_t i = 0; i < shard->count; i++) {
        if ((p->flags[shard->nodes[i]] & PLACEMENT_DRAINING) != 0 || crowded(p, shard, i)) {
            node = torc_placement_pick(p, shard, token, i, p->first);
            if (node != 0) {
                torc_placement_replace(p, shard, i, node);
            }
        }
    }
    while (shard->count < p->copies) {
        node = torc_placement_pick(p, shard, token, shard->count, p->first);
        node = node != 0 ? node
                         : torc_placement_pick_lightest(p, shard, shard->count,
                                                        TORC_PLACEMENT_REPLICAS_MAX);
        if (node == 0) {
            p->missing += p->copies - shard->count;
            break;
        }
        torc_placement_insert(p, shard, (uint32_t)torc_min_u64(hole, shard->count), node);
        hole = UINT32_MAX;
    }
    while (shard->count > p->replicas) {
        torc_placement_drop(p, shard, surplus(p, shard));
    }
}

// Loads as they are, and which lists must change.
static void weigh(struct torc_placement *p, struct torc_placement_shard *shards,
                  uint32_t shard_count)
{
    uint64_t weight = 0;

    p->first = true;
    memset(p->load, 0, sizeof(p->load));
    memset(p->partners, 0, sizeof(p->partners));
    memset(p->partner_count, 0, sizeof(p->partner_count));
    for (uint32_t s = 0; s < shard_count; s++) {
        struct torc_placement_shard *shard = &shards[s];

        torc_assert(shard->count <= TORC_PLACEMENT_REPLICAS_MAX);
        weight += placement_weight(shard);
        p->first = p->first && shard->count == 0;
        for (uint32_t i = 0; i < shard->count; i++) {
            torc_assert(shard->nodes[i] < TORC_PLACEMENT_IDS);
            p->load[shard->nodes[i]] += placement_weight(shard);
            torc_placement_note_partners(p, shard, i);
        }
        shard->changed = whole(p, shard) ? 0 : PLACEMENT_BROKEN;
    }
    torc_placement_shares(p, weight);
}

static void mend_all(struct torc_placement *p, struct torc_placement_shard *shards,
                     uint32_t shard_count)
{
    for (uint32_t s = 0; s < shard_count; s++) {
        if (shards[s].changed == PLACEMENT_BROKEN) {
            shards[s].changed = 0;
            mend(p, &shards[s], torc_ring_find(&p->ring, torc_ring_position(shards[s].shard)));
        }
    }
}

// -- Nodes above the limit -----------------------------------------------------------------------

static void mark_high(struct torc_placement *p, const uint64_t *bounds)
{
    p->marked_count = 0;
    for (uint32_t i = 0; i < p->member_count; i++) {
        uint32_t node = p->members[i].node;

        p->flags[node] &= (uint8_t)~PLACEMENT_MARKED;
        p->goal[node] = GIVE_UP / p->member_count;
        if (p->load[node] > bounds[node]) {
            p->flags[node] |= PLACEMENT_MARKED;
            p->marked_count++;
        }
    }
}

static void shed(struct torc_placement *p, struct torc_placement_shard *shard, uint32_t index,
                 const uint64_t *bounds)
{
    uint32_t from = shard->nodes[index];
    uint32_t token = torc_ring_find(&p->ring, torc_ring_position(shard->shard));
    uint32_t to = torc_placement_pick(p, shard, token, index, true);

    if (to == 0 || !placement_lighter(p->load[to] + placement_weight(shard), p->share[to],
                                      p->load[from], p->share[from])) {
        p->goal[from]--;
        if (p->goal[from] == 0) {
            placement_unmark(p, from);
        }
        return;
    }
    torc_placement_replace(p, shard, index, to);
    if (p->load[from] <= bounds[from]) {
        placement_unmark(p, from);
    }
}

static void shed_all(struct torc_placement *p, struct torc_placement_shard *shards,
                     uint32_t shard_count, const uint64_t *bounds)
{
    mark_high(p, bounds);
    for (uint32_t s = 0; s < shard_count && p->marked_count > 0; s++) {
        for (uint32_t i = 0; i < shards[s].count; i++) {
            if ((p->flags[shards[s].nodes[i]] & PLACEMENT_MARKED) != 0) {
                shed(p, &shards[s], i, bounds);
            }
        }
    }
}

// -- All -----------------------------------------------------------------------------------------

void torc_placement_plan(struct torc_placement *placement, struct torc_placement_shard *shards,
                         uint32_t shard_count, struct torc_placement_result *result)
{
    struct torc_placement *p = placement;
    uint64_t before;

    torc_assert(p->member_count > 0);
    p->arrived = 0;
    p->missing = 0;
    *result = (struct torc_placement_result){0};
    weigh(p, shards, shard_count);
    mend_all(p, shards, shard_count);
    do {
        before = p->arrived;
        torc_placement_welcome(p, shards, p->first ? 0 : shard_count);
        torc_placement_pull_all(p, shards, shard_count);
        shed_all(p, shards, shard_count, p->first ? p->accept : p->limit);
        result->rounds++;
    } while (p->arrived != before && result->rounds < ROUNDS_MAX);
    result->arrived = p->arrived;
    result->missing = p->missing;
    for (uint32_t s = 0; s < shard_count; s++) {
        result->changed += shards[s].changed;
    }
}

// By position, a byte at a time: four passes, there and back twice.
void torc_placement_sort(struct torc_placement_shard *shards, struct torc_placement_shard *spare,
                         uint32_t shard_count)
{
    for (uint32_t shift = 32; shift < 64; shift += 8) {
        uint32_t starts[256] = {0};
        struct torc_placement_shard *from = shift % 16 == 0 ? shards : spare;
        struct torc_placement_shard *to = shift % 16 == 0 ? spare : shards;
        uint32_t sum = 0;

        for (uint32_t s = 0; s < shard_count; s++) {
            starts[torc_ring_position(from[s].shard) >> shift & 255]++;
        }
        for (uint32_t i = 0; i < TORC_COUNT_OF(starts); i++) {
            uint32_t count = starts[i];

            starts[i] = sum;
            sum += count;
        }
        for (uint32_t s = 0; s < shard_count; s++) {
            to[starts[torc_ring_position(from[s].shard) >> shift & 255]++] = from[s];
        }
    }
}
