// Torc tests: placement beside a naive reading of its rules: random clusters whose nodes come, go,
// drain and sleep, and whose shards grow, after each of which the lists are looked at one by one.
#include "control/placement.h"
#include "tests/torc_test.h"
#include "wire/peer.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX  40u
#define SHARDS_MAX 6000u
#define STEPS      14u
#if defined(TORC_TEST_SANITIZED)
#define ROUNDS 12u
#else
#define ROUNDS 40u
#endif
// Worlds for a planted fault. A third of them can show the rarest: one with domains, with several
// replicas, and with a node more in the domain of one.
#define FAULT_ROUNDS 200u
// Plans after which nothing may move where nothing changes: nothing moves back and forth (L4).
#define REST_PLANS     2u
#define REST_PLANS_FEW 20u // shards

enum fault {
    FAULT_NONE,
    FAULT_MOVES_NEEDLESSLY,
    FAULT_GONE_NODE,
    FAULT_DOUBLED_NODE,
    FAULT_DOUBLED_DOMAIN,
    FAULT_OVERLOAD,
    FAULT_ORDER, // of the nodes in the table
    FAULTS
};

struct model {
    struct torc_placement placement;
    struct torc_placement_node nodes[NODES_MAX];
    struct torc_placement_shard shards[SHARDS_MAX];
    struct torc_placement_shard before[SHARDS_MAX];
    struct torc_placement_shard twin[SHARDS_MAX];
    struct torc_rng rng;
    uint32_t node_count;
    uint32_t shard_count;
    uint32_t replicas;
    uint32_t domains;
    uint64_t weight;
    double share[TORC_PLACEMENT_IDS];
    double load_before[TORC_PLACEMENT_IDS];
    double load[TORC_PLACEMENT_IDS];
    uint32_t heaviest; // shard
    enum fault fault;
};

static struct torc_placement_node *node_of(struct model *m, uint32_t node)
{
    for (uint32_t i = 0; i < m->node_count; i++) {
        if (m->nodes[i].member.node == node) {
            return &m->nodes[i];
        }
    }
    return NULL;
}

static bool holds(const struct torc_placement_shard *shard, uint32_t node)
{
    for (uint32_t i = 0; i < shard->count; i++) {
        if (shard->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

// Two nodes of one domain; 0 is none.
static bool together(const struct torc_placement_node *a, const struct torc_placement_node *b)
{
    return a == b || (a->member.domain != 0 && a->member.domain == b->member.domain);
}

static uint32_t domain_size(const struct model *m, uint32_t index)
{
    uint32_t size = 0;

    for (uint32_t i = 0; i < m->node_count; i++) {
        size +=
            m->nodes[i].state != TORC_PLACEMENT_DRAINING && together(&m->nodes[i], &m->nodes[index])
                ? 1
                : 0;
    }
    return size;
}

static uint32_t holders(const struct model *m)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < m->node_count; i++) {
        count += m->nodes[i].state != TORC_PLACEMENT_DRAINING ? 1 : 0;
    }
    return count;
}

// How many replicas of a shard a domain must be able to have: each node counts for 1/size of the
// domain's part.
static uint32_t spread_of(const struct model *m)
{
    uint32_t copies = (uint32_t)torc_min_u64(m->replicas, holders(m));

    for (uint32_t per_domain = 1;; per_domain++) {
        double room = 0;

        for (uint32_t i = 0; i < m->node_count; i++) {
            uint32_t size = domain_size(m, i);

            if (m->nodes[i].state != TORC_PLACEMENT_DRAINING) {
                room += (double)torc_min_u64(size, per_domain) / size;
            }
        }
        if (room + 0.001 >= copies) {
            return per_domain;
        }
    }
}

// Shares by filling drop by drop: each goes to the nodes in proportion to their capacities, but not
// to full ones nor to those of full domains.
static void pour(struct model *m, uint32_t per_domain)
{
    double left = (double)m->weight * (double)torc_min_u64(m->replicas, holders(m));
    double drop = left / 4000;

    memset(m->share, 0, sizeof(m->share));
    while (left > drop / 100) {
        double open = 0;
        bool full[NODES_MAX];

        for (uint32_t i = 0; i < m->node_count; i++) {
            double in_domain = 0;

            for (uint32_t k = 0; k < m->node_count; k++) {
                in_domain +=
                    together(&m->nodes[i], &m->nodes[k]) ? m->share[m->nodes[k].member.node] : 0;
            }
            full[i] = m->nodes[i].state == TORC_PLACEMENT_DRAINING ||
                      m->share[m->nodes[i].member.node] >= (double)m->weight ||
                      in_domain >= (double)m->weight * per_domain;
            open += full[i] ? 0 : m->nodes[i].member.capacity;
        }
        if (open <= 0) {
            return; // by less than a drop
        }
        for (uint32_t i = 0; i < m->node_count; i++) {
            m->share[m->nodes[i].member.node] +=
                full[i] ? 0 : drop * m->nodes[i].member.capacity / open;
        }
        left -= drop;
    }
}

static void weigh(struct model *m, const struct torc_placement_shard *shards, double *load)
{
    memset(load, 0, TORC_PLACEMENT_IDS * sizeof(load[0]));
    m->weight = 0;
    m->heaviest = 0;
    for (uint32_t s = 0; s < m->shard_count; s++) {
        m->weight += shards[s].weight;
        m->heaviest = shards[s].weight > m->heaviest ? shards[s].weight : m->heaviest;
        for (uint32_t i = 0; i < shards[s].count; i++) {
            load[shards[s].nodes[i]] += shards[s].weight;
        }
    }
}

// -- What must hold ------------------------------------------------------------------------------

// L1 to L3. A list may be wrong only where nothing better could be had.
static bool list_is_right(struct model *m, const struct torc_placement_shard *shard,
                          uint32_t per_domain)
{
    uint32_t copies = (uint32_t)torc_min_u64(m->replicas, holders(m));
    bool all_up = true;
    bool draining = false;

    for (uint32_t i = 0; i < m->node_count; i++) {
        all_up = all_up && m->nodes[i].state == TORC_PLACEMENT_UP;
    }
    for (uint32_t i = 0; i < shard->count; i++) {
        const struct torc_placement_node *node = node_of(m, shard->nodes[i]);
        uint32_t same = 0;

        if (node == NULL) {
            return false;
        }
        draining = draining || node->state == TORC_PLACEMENT_DRAINING;
        for (uint32_t k = 0; k < shard->count; k++) {
            if (k != i && shard->nodes[k] == shard->nodes[i]) {
                return false;
            }
            same += together(node, node_of(m, shard->nodes[k])) ? 1 : 0;
        }
        if (all_up && same > per_domain) {
            return false;
        }
    }
    return shard->count <= m->replicas && (shard->count >= copies || !all_up) &&
           !(draining && all_up);
}

// Nobody is above the bound by more than the heaviest shard makes; where nodes are down or drain,
// that need not be possible.
static bool loads_are_even(struct model *m)
{
    bool all_up = true;
    bool even = true;

    for (uint32_t i = 0; i < m->node_count; i++) {
        uint32_t node = m->nodes[i].member.node;

        all_up = all_up && m->nodes[i].state == TORC_PLACEMENT_UP;
        even = even && m->load[node] <= m->share[node] * 1.052 + m->heaviest * 1.5;
    }
    return even || !all_up;
}

// A replica that left a node left it for a reason: the node had much, or was given much by the same
// plan; or it went to one with little. Of 20 shards each is much. A few of many moves may go by way
// of a third node, where reasons do not show.
static bool moves_have_reasons(struct model *m, uint32_t per_domain, uint64_t moved)
{
    uint64_t without = 0;

    for (uint32_t s = 0; s < m->shard_count; s++) {
        const struct torc_placement_shard *before = &m->before[s];
        const struct torc_placement_shard *now = &m->shards[s];
        bool to_light = false;

        for (uint32_t i = 0; i < now->count; i++) {
            uint32_t node = now->nodes[i];

            to_light = to_light || (!holds(before, node) &&
                                    m->load_before[node] < m->share[node] * 0.902 + m->heaviest);
        }
        for (uint32_t i = 0; i < before->count; i++) {
            const struct torc_placement_node *node = node_of(m, before->nodes[i]);
            uint32_t same = 0;

            if (holds(now, before->nodes[i]) || to_light || node == NULL ||
                node->state == TORC_PLACEMENT_DRAINING || before->count > m->replicas) {
                continue;
            }
            for (uint32_t k = 0; k < before->count; k++) {
                const struct torc_placement_node *other = node_of(m, before->nodes[k]);

                same += other != NULL && together(node, other) ? 1 : 0;
            }
            if (same <= per_domain &&
                m->load_before[before->nodes[i]] < m->share[before->nodes[i]] * 1.03 &&
                m->load[before->nodes[i]] < m->share[before->nodes[i]] * 1.03 &&
                m->shard_count > 20) {
                without++;
            }
        }
    }
    return without <= moved / 5 + 5;
}

// The same nodes in another order give the same lists.
static bool order_does_not_matter(struct model *m)
{
    struct torc_placement_node shuffled[NODES_MAX];
    struct torc_placement_result result;

    memcpy(shuffled, m->nodes, sizeof(shuffled));
    for (uint32_t i = m->node_count; i > 1; i--) {
        uint32_t k = (uint32_t)torc_rng_below(&m->rng, i);
        struct torc_placement_node swapped = shuffled[i - 1];

        shuffled[i - 1] = shuffled[k];
        shuffled[k] = swapped;
    }
    if (m->fault == FAULT_ORDER) {
        shuffled[0].member.slot++;
    }
    memcpy(m->twin, m->before, sizeof(m->twin));
    if (torc_placement_nodes(&m->placement, shuffled, m->node_count, m->replicas, NULL) !=
        TORC_ERR_OK) {
        return false;
    }
    torc_placement_plan(&m->placement, m->twin, m->shard_count, &result);
    return memcmp(m->twin, m->shards, m->shard_count * sizeof(m->twin[0])) == 0;
}

// Spoils the lists of a few shards as a wrong plan might.
static void plant(struct model *m)
{
    for (uint32_t n = 0; n < 50; n++) {
        struct torc_placement_shard *shard = &m->shards[torc_rng_below(&m->rng, m->shard_count)];
        uint32_t node = m->nodes[torc_rng_below(&m->rng, m->node_count)].member.node;

        switch (m->fault) {
        case FAULT_NONE:
        case FAULT_ORDER:
        case FAULTS: return;
        case FAULT_MOVES_NEEDLESSLY:
            shard->nodes[0] = holds(shard, node) ? shard->nodes[0] : (uint16_t)node;
            break;
        case FAULT_GONE_NODE: shard->nodes[0] = 4000; break;
        case FAULT_DOUBLED_NODE: shard->nodes[shard->count - 1] = shard->nodes[0]; break;
        case FAULT_DOUBLED_DOMAIN:
            for (uint32_t i = 0; i < m->node_count; i++) {
                if (shard->count > 1 && !holds(shard, m->nodes[i].member.node) &&
                    together(&m->nodes[i], node_of(m, shard->nodes[0]))) {
                    shard->nodes[1] = m->nodes[i].member.node;
                }
            }
            break;
        case FAULT_OVERLOAD:
            for (uint32_t s = 0; s < m->shard_count; s++) {
                m->shards[s].nodes[0] = m->nodes[0].member.node;
            }
            return;
        }
    }
}

static bool plan(struct model *m)
{
    struct torc_placement_result result;
    struct torc_fail why;
    uint32_t per_domain = spread_of(m);
    uint64_t moved = 0;

    memcpy(m->before, m->shards, sizeof(m->before));
    weigh(m, m->before, m->load_before);
    pour(m, per_domain);
    TORC_TEST_OK(torc_placement_nodes(&m->placement, m->nodes, m->node_count, m->replicas, &why),
                 &why);
    torc_placement_plan(&m->placement, m->shards, m->shard_count, &result);
    plant(m);
    weigh(m, m->shards, m->load);
    for (uint32_t s = 0; s < m->shard_count; s++) {
        if (!list_is_right(m, &m->shards[s], per_domain)) {
            return false;
        }
        moved += memcmp(m->shards[s].nodes, m->before[s].nodes, sizeof(m->before[s].nodes)) != 0;
    }
    return moved <= result.changed && loads_are_even(m) &&
           moves_have_reasons(m, per_domain, moved) && order_does_not_matter(m);
}

// -- Worlds --------------------------------------------------------------------------------------

static void join(struct model *m)
{
    struct torc_ring_member members[NODES_MAX];
    struct torc_ring_member member = {
        .capacity = 100 * (1 + (uint32_t)torc_rng_below(&m->rng, 3)),
        .domain = (uint16_t)(m->domains == 0 ? 0 : 1 + torc_rng_below(&m->rng, m->domains))};

    if (m->node_count == NODES_MAX) {
        return;
    }
    do {
        member.node = (uint16_t)(1 + torc_rng_below(&m->rng, UINT64_C(2) * NODES_MAX));
    } while (node_of(m, member.node) != NULL);
    for (uint32_t i = 0; i < m->node_count; i++) {
        members[i] = m->nodes[i].member;
    }
    member.slot = torc_ring_free_slot(members, m->node_count, member.domain);
    m->nodes[m->node_count++] = (struct torc_placement_node){.member = member};
}

static void change(struct model *m)
{
    struct torc_placement_node *node = &m->nodes[torc_rng_below(&m->rng, m->node_count)];

    switch (torc_rng_below(&m->rng, 6)) {
    case 0:
    case 1: join(m); return;
    case 2:
        if (holders(m) > 2) {
            *node = m->nodes[--m->node_count];
        }
        break;
    case 3: node->state = TORC_PLACEMENT_DRAINING; break;
    case 4: node->state = TORC_PLACEMENT_DOWN; break;
    default:
        for (uint32_t s = 0; s < m->shard_count; s += 3) {
            m->shards[s].weight += (uint32_t)torc_rng_below(&m->rng, m->shards[s].weight);
        }
        break;
    }
    for (uint32_t i = 0; i < m->node_count; i++) { // somebody is up
        if (m->nodes[i].state == TORC_PLACEMENT_UP) {
            return;
        }
    }
    m->nodes[0].state = TORC_PLACEMENT_UP;
}

static void open_world(struct model *m)
{
    uint32_t nodes = 1 + (uint32_t)torc_rng_below(&m->rng, NODES_MAX - 5);
    bool few = torc_rng_below(&m->rng, 4) == 0;

    m->node_count = 0;
    m->replicas = 1 + (uint32_t)torc_rng_below(&m->rng, 5);
    m->domains = torc_rng_below(&m->rng, 2) == 0 ? 0 : 1 + (uint32_t)torc_rng_below(&m->rng, 6);
    m->shard_count = few ? 20 : 1000 + (uint32_t)torc_rng_below(&m->rng, SHARDS_MAX - 1000);
    for (uint32_t i = 0; i < nodes; i++) {
        join(m);
    }
    for (uint32_t s = 0; s < m->shard_count; s++) {
        m->shards[s] = (struct torc_placement_shard){
            .shard = s + 1, .weight = 100 + (uint32_t)torc_rng_below(&m->rng, 100)};
    }
    torc_placement_sort(m->shards, m->twin, m->shard_count);
}

// The worlds up to the first that breaks a rule; `rounds`: none does.
static uint32_t run(enum fault fault, uint32_t rounds)
{
    struct model *m = calloc(1, sizeof(*m));
    uint32_t round = 0;
    bool good = true;

    torc_assert(m != NULL);
    m->rng = (struct torc_rng){torc_test_seed()};
    while (round < rounds && good) {
        open_world(m);
        m->fault = FAULT_NONE;
        good = plan(m);
        for (uint32_t step = 0; step < STEPS && good; step++) {
            change(m);
            m->fault = fault;
            good = plan(m);
        }
        round += good ? 1 : 0;
    }
    free(m);
    return round;
}

static void test_follows_its_rules(void)
{
    CU_ASSERT_EQUAL(run(FAULT_NONE, ROUNDS), ROUNDS);
}

static void test_planted_faults_are_found(void)
{
    for (enum fault fault = FAULT_NONE + 1; fault < FAULTS; fault++) {
        uint32_t passed = run(fault, FAULT_ROUNDS);

        (void)printf("%u ", passed + 1);
        CU_ASSERT(passed < FAULT_ROUNDS);
    }
    (void)printf("worlds … ");
}

// What is planned stays when nothing changes: at the second plan but for a few moves, at the third
// always. In clusters with hardly a shard for each node one move may make room for others, and so
// on: there it comes to rest.
static void test_plans_twice_the_same(void)
{
    struct model *m = calloc(1, sizeof(*m));
    struct torc_placement_result result;

    m->rng = (struct torc_rng){torc_test_seed()};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t left;

        open_world(m);
        CU_ASSERT_TRUE_FATAL(plan(m));
        change(m);
        CU_ASSERT_TRUE_FATAL(plan(m));
        left = m->shard_count == 20 ? REST_PLANS_FEW : REST_PLANS;
        do {
            torc_placement_plan(&m->placement, m->shards, m->shard_count, &result);
            CU_ASSERT_TRUE(result.arrived <= 3 || m->shard_count == 20);
            left--;
        } while (result.arrived > 0 && left > 0);
        CU_ASSERT_EQUAL(result.arrived, 0);
    }
    free(m);
}

// The shards that a node shares with the one it shares most with.
static uint32_t most_shared(const struct model *m)
{
    static uint32_t shared[NODES_MAX + 1][NODES_MAX + 1];
    uint32_t most = 0;

    memset(shared, 0, sizeof(shared));
    for (uint32_t s = 0; s < m->shard_count; s++) {
        for (uint32_t i = 1; i < m->shards[s].count; i++) {
            for (uint32_t j = 0; j < i; j++) {
                uint64_t a = torc_min_u64(m->shards[s].nodes[i], m->shards[s].nodes[j]);
                uint64_t b = torc_max_u64(m->shards[s].nodes[i], m->shards[s].nodes[j]);

                most = ++shared[a][b] > most ? shared[a][b] : most;
            }
        }
    }
    return most;
}

static void share(struct model *m, uint32_t nodes, uint32_t replicas)
{
    struct torc_placement_result result;
    struct torc_fail why;

    m->shard_count = (uint32_t)torc_min_u64(
        torc_placement_shards_max(nodes, replicas, TORC_CLAIMS_MAX), SHARDS_MAX);
    for (uint32_t i = 0; i < nodes; i++) {
        m->nodes[i] =
            (struct torc_placement_node){.member = {.capacity = 1, .node = (uint16_t)(i + 1)}};
    }
    for (uint32_t s = 0; s < m->shard_count; s++) {
        m->shards[s] = (struct torc_placement_shard){.shard = s + 1, .weight = 1};
    }
    torc_placement_sort(m->shards, m->twin, m->shard_count);
    for (uint32_t gone = 0; gone <= 1; gone++) {
        TORC_TEST_OK(torc_placement_nodes(&m->placement, m->nodes, nodes - gone, replicas, &why),
                     &why);
        torc_placement_plan(&m->placement, m->shards, m->shard_count, &result);
        CU_ASSERT_TRUE(most_shared(m) <= TORC_CLAIMS_MAX);
    }
}

// As a cluster begins, and after one of its nodes has gone: claims on another find their places.
static void test_no_two_nodes_share_too_many(void)
{
    struct model *m = calloc(1, sizeof(*m));

    for (uint32_t nodes = 2; nodes <= 20; nodes++) {
        for (uint32_t replicas = 2; replicas <= torc_min_u64(nodes, 7); replicas++) {
            share(m, nodes, replicas);
        }
    }
    free(m);
}

static void test_refuses_nodes_that_make_no_sense(void)
{
    static struct torc_placement placement;
    struct torc_placement_node nodes[2] = {{.member = {.capacity = 1, .node = 1}},
                                           {.member = {.capacity = 1, .node = 2}}};
    struct torc_placement_node bad[2];
    struct torc_fail why;

    TORC_TEST_OK(torc_placement_nodes(&placement, nodes, 2, 3, &why), &why);
    for (uint32_t kind = 0; kind < 6; kind++) {
        memcpy(bad, nodes, sizeof(bad));
        switch (kind) {
        case 0: bad[1].member.node = 0; break;
        case 1: bad[1].member.node = TORC_PLACEMENT_IDS; break;
        case 2: bad[1].member.node = 1; break;
        case 3: bad[1].member.capacity = 0; break;
        case 4: bad[1].member.domain = TORC_PLACEMENT_DOMAINS; break;
        default: bad[0].state = bad[1].state = TORC_PLACEMENT_DOWN; break;
        }
        CU_ASSERT_EQUAL(torc_placement_nodes(&placement, bad, 2, 3, &why),
                        TORC_ERR_INVALID_ARGUMENT);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"follows its rules", test_follows_its_rules},
        {"planted faults are found", test_planted_faults_are_found},
        {"plans twice the same", test_plans_twice_the_same},
        {"no two nodes share too many", test_no_two_nodes_share_too_many},
        {"refuses nodes that make no sense", test_refuses_nodes_that_make_no_sense},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("placement", tests);
}
