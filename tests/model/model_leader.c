// Torc tests: several leaders of placement over a metastore that is slow, away or in doubt, while
// nodes join, leave, sleep, drain and come back, leaders are frozen and restarted, and shards split
// and merge. When all is calm, one leads, and the wishes are what placement wants.
//
// The metastore (tests/model/leader_store.h) looks at every transaction: one leader a term, nothing
// written but wishes and nodes' places. This file looks at what is wished in the end, with a
// placement of its own.
#include "tests/model/leader_store.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

enum {
    REPLICAS = 3,
    STEP_MS = 3,
    LEASE_MS = 1000,
    PACE_MS = 20,
    GONE_MS = 6000,
    ALIVE_MS = GONE_MS / 4, // between two words of a node without shards
    TROUBLE_MS = 25000,
    CALM_MS = 14000,
    JOIN_LATER = 12, // of STORE_NODES
    TRIES = 100,     // of a planted fault, up to the one that shows it
#if defined(TORC_TEST_SANITIZED)
    WORLDS = 2,
#else
    WORLDS = 8,
#endif
};

struct machine {
    struct torc_leader leader;
    struct torc_placement placement;
    struct torc_placement_shard shards[STORE_SHARDS];
    struct torc_placement_shard spare[STORE_SHARDS];
    struct torc_leader_want written[STORE_SHARDS];
    uint64_t lives;
    uint64_t frozen_until_ns;
    uint64_t wish_beat; // of its last transaction with wishes
    uint64_t wish_ns;
    uint64_t clock_ns; // its own: it began elsewhere, and runs a little fast or slow
    bool dead;
};

struct world {
    struct store store;
    struct machine machines[STORE_CLIENTS];
    struct torc_placement placement; // the oracle's
    struct torc_placement_shard shards[STORE_SHARDS];
    struct torc_placement_shard before[STORE_SHARDS];
    struct torc_placement_shard spare[STORE_SHARDS];
    struct torc_rng rng;
    uint32_t domains;
    uint64_t revision; // that the seats are of
    uint64_t words_at_ns;
    uint8_t forced[TORC_PLACEMENT_IDS]; // 1 + its seat, whatever is wished; 0: as is wished
};

static uint64_t local_ns(const struct world *w, uint32_t index)
{
    uint64_t now_ns = w->store.now_ns;

    return w->machines[index].clock_ns + now_ns + now_ns / 1000 * index;
}

// -- Leaders -------------------------------------------------------------------------------------

static void start(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];
    struct torc_leader_config config = {.ticket = 7,
                                        .nonce = torc_rng_next(&w->rng),
                                        .boot = ++m->lives,
                                        .node = index + 1,
                                        .replicas = REPLICAS,
                                        .lease_ns = LEASE_MS * MS,
                                        .beat_ns = LEASE_MS / 5 * MS,
                                        .pace_ns = PACE_MS * MS,
                                        .gone_ns = GONE_MS * MS,
                                        .rescan_ns = 2000 * MS,
                                        .placement = &m->placement,
                                        .shards = m->shards,
                                        .spare = m->spare,
                                        .written = m->written,
                                        .shard_max = STORE_SHARDS};

    m->dead = false;
    torc_leader_init(&m->leader, &config, local_ns(w, index));
    w->store.calls[index].answer_ns = UINT64_MAX; // what the life before asked is not answered
}

// Wishes are paced. A swap may ask for the same transaction again at once.
static void look_at_pace(struct world *w, uint32_t index, const struct torc_meta_request *request)
{
    struct machine *m = &w->machines[index];

    if (request->verb == TORC_META_TXN && m->leader.batch == TORC_LEADER_WISH &&
        m->leader.record.beat != m->wish_beat) {
        if (m->wish_ns != 0 && local_ns(w, index) - m->wish_ns < PACE_MS * MS) {
            store_blame(&w->store, "wishes follow too fast");
        }
        m->wish_beat = m->leader.record.beat;
        m->wish_ns = local_ns(w, index);
    }
}

static void turn(struct world *w, uint32_t index)
{
    struct machine *m = &w->machines[index];
    struct torc_meta_request request;
    struct torc_meta_answer answer;
    struct store_call *call = &w->store.calls[index];

    if (m->dead || w->store.now_ns < m->frozen_until_ns) {
        return;
    }
    if (call->busy && call->answer_ns == UINT64_MAX) {
        if (call->done) {
            free(call->request);
            call->busy = false;
        }
        return;
    }
    if (store_answer(&w->store, index, &answer)) {
        torc_leader_take(&m->leader, local_ns(w, index), &answer);
    }
    if (!call->busy && local_ns(w, index) >= torc_leader_deadline_ns(&m->leader) &&
        torc_leader_next(&m->leader, local_ns(w, index), &request)) {
        look_at_pace(w, index, &request);
        store_submit(&w->store, index, &request);
    }
    if (m->leader.state == TORC_LEADER_STOPPED) {
        store_blame(&w->store, "a leader has stopped");
    }
}

static void wake(struct world *w)
{
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        if (!w->store.trouble || torc_rng_chance(&w->rng, 800000)) {
            torc_leader_wake(&w->machines[i].leader);
        }
    }
}

// -- Who has shards, and words of those that have none -------------------------------------------

static void sit(uint8_t seats[TORC_PLACEMENT_IDS], const uint64_t *nodes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        seats[nodes[i]] = TORC_SURVEY_SEATED;
    }
}

// Shards lie where they are wished; where nothing is wished, where they lay.
static void seats_of(const struct world *w, uint8_t seats[TORC_PLACEMENT_IDS])
{
    memset(seats, TORC_SURVEY_UNWISHED, TORC_PLACEMENT_IDS);
    for (uint32_t shard = 1; shard <= STORE_SHARDS; shard++) {
        struct torc_shard_fields fields;
        struct torc_want_fields want;

        if (!store_get(&w->store, STORE_SHARD, shard, TORC_RECORD_SHARD, &fields)) {
            continue;
        }
        if (store_get(&w->store, STORE_WANT, shard, TORC_RECORD_WANT, &want)) {
            sit(seats, want.nodes.at, want.nodes.count);
        } else {
            sit(seats, &fields.primary_node, 1);
        }
    }
    for (uint32_t node = 1; node < TORC_PLACEMENT_IDS; node++) {
        seats[node] = w->forced[node] != 0 ? w->forced[node] - 1 : seats[node];
    }
}

static void look_at_seats(struct world *w)
{
    uint8_t seats[TORC_PLACEMENT_IDS];

    if (w->revision == w->store.revision) {
        return;
    }
    w->revision = w->store.revision;
    seats_of(w, seats);
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        torc_leader_seat(&w->machines[i].leader, seats);
    }
}

// The node's record with another nonce, and nothing else.
static void say(struct world *w, uint32_t node)
{
    struct torc_node_fields fields;

    TORC_TEST_OK(store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields)
                     ? TORC_ERR_OK
                     : TORC_ERR_NOT_FOUND,
                 NULL);
    fields.nonce = torc_rng_next(&w->rng);
    store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields);
}

static void words(struct world *w)
{
    uint8_t seats[TORC_PLACEMENT_IDS];

    if (w->store.now_ns < w->words_at_ns) {
        return;
    }
    w->words_at_ns = w->store.now_ns + ALIVE_MS * MS;
    seats_of(w, seats);
    for (uint32_t node = 1; node <= STORE_NODES; node++) {
        struct torc_node_fields fields;

        if (seats[node] == TORC_SURVEY_UNWISHED && w->forced[node] == 0 &&
            store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields) &&
            fields.boot != fields.down && fields.state == TORC_RECORD_NODE_SERVES) {
            say(w, node);
            wake(w);
        }
    }
}

static void go(struct world *w, uint64_t milliseconds)
{
    uint64_t end_ns = w->store.now_ns + milliseconds * MS;

    while (w->store.now_ns < end_ns && w->store.broken == NULL) {
        w->store.now_ns += STEP_MS * MS;
        store_step(&w->store);
        words(w);
        look_at_seats(w);
        for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
            turn(w, i);
        }
    }
}

// -- What happens to the cluster -----------------------------------------------------------------

static void join(struct world *w, uint64_t node)
{
    struct torc_node_fields fields = {.boot = 1, .copy = 1, .nonce = 1};

    fields.capacity = 100 * (1 + torc_rng_below(&w->rng, 2));
    if (w->domains > 0) {
        (void)snprintf(fields.domain, sizeof(fields.domain), "rack %u",
                       (unsigned)torc_rng_below(&w->rng, w->domains));
    }
    store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields);
}

static uint32_t node_count(const struct world *w, bool up)
{
    uint32_t count = 0;

    for (uint32_t node = 1; node <= STORE_NODES; node++) {
        struct torc_node_fields fields;

        count += store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields) &&
                         (!up || (fields.down != fields.boot && fields.state == 0))
                     ? 1
                     : 0;
    }
    return count;
}

static void change_node(struct world *w)
{
    uint64_t node = 1 + torc_rng_below(&w->rng, STORE_NODES);
    struct torc_node_fields fields;
    bool enough = node_count(w, true) > STORE_NODES / 2;

    if (!store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields)) {
        join(w, node);
        wake(w);
        return;
    }
    switch (torc_rng_below(&w->rng, 5)) {
    case 0:
        if (enough) {
            store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, NULL);
        }
        break;
    case 1:
    case 2:
        if (fields.down == fields.boot) {
            fields.boot++;
        } else if (enough) {
            fields.down = fields.boot;
        }
        store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields);
        break;
    default:
        fields.state = enough ? torc_rng_below(&w->rng, 3) : 0;
        store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields);
        break;
    }
    wake(w);
}

static void put_shard(struct world *w, uint64_t shard, uint64_t node)
{
    struct torc_shard_fields fields = {.lo = shard,
                                       .hi = shard + 1,
                                       .epoch = 1,
                                       .primary_node = node,
                                       .insync = {.count = 1, .at = {{node, 1}}}};

    store_put(&w->store, STORE_SHARD, shard, TORC_RECORD_SHARD, &fields);
}

static void change_shard(struct world *w)
{
    uint64_t shard = 1 + torc_rng_below(&w->rng, STORE_SHARDS);
    struct torc_shard_fields fields;

    if (store_get(&w->store, STORE_SHARD, shard, TORC_RECORD_SHARD, &fields)) {
        store_put(&w->store, STORE_SHARD, shard, TORC_RECORD_SHARD, NULL);
    } else {
        put_shard(w, shard, 1 + torc_rng_below(&w->rng, STORE_NODES));
    }
}

static void trouble(struct world *w)
{
    uint32_t index = (uint32_t)torc_rng_below(&w->rng, STORE_CLIENTS);
    struct machine *m = &w->machines[index];

    switch (torc_rng_below(&w->rng, 8)) {
    case 0: m->frozen_until_ns = w->store.now_ns + torc_rng_below(&w->rng, 4000) * MS; break;
    case 1: start(w, index); break;
    case 2: m->dead = torc_rng_chance(&w->rng, 500000); break;
    case 3: change_shard(w); break;
    case 4: w->store.full = torc_rng_chance(&w->rng, 200000); break;
    default: change_node(w); break;
    }
}

static struct world *open_world(uint64_t seed, enum store_fault fault, bool in_trouble)
{
    struct world *w = calloc(1, sizeof(*w));
    uint64_t nodes = STORE_NODES - JOIN_LATER;

    torc_assert(w != NULL);
    w->rng.state = seed;
    w->store.rng.state = seed + 1;
    w->store.fault = fault;
    w->store.trouble = in_trouble;
    w->domains = torc_rng_chance(&w->rng, 500000) ? 0 : 4 + (uint32_t)torc_rng_below(&w->rng, 8);
    for (uint64_t node = 1; node <= nodes; node++) {
        join(w, node);
    }
    for (uint64_t shard = 1; shard <= STORE_SHARDS - 50; shard++) {
        put_shard(w, shard, 1 + torc_rng_below(&w->rng, nodes));
    }
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        w->machines[i].clock_ns = 1 + torc_rng_below(&w->rng, UINT64_C(1) << 50);
        start(w, i);
    }
    return w;
}

static void close_world(struct world *w)
{
    store_close(&w->store);
    free(w);
}

// -- What must hold in the end -------------------------------------------------------------------

// The nodes as they are, for the oracle's placement. Who has been down is gone by now.
static uint32_t read_nodes(struct world *w, struct torc_placement_node *nodes, bool gone)
{
    uint32_t count = 0;

    for (uint32_t node = 1; node <= STORE_NODES; node++) {
        struct torc_node_fields fields;
        bool down;

        if (!store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields)) {
            continue;
        }
        down = fields.down == fields.boot && fields.state == TORC_RECORD_NODE_SERVES;
        nodes[count++] = (struct torc_placement_node){
            .member = {.capacity = (uint32_t)fields.capacity,
                       .node = (uint16_t)node,
                       .domain = (uint16_t)fields.zone,
                       .slot = (uint16_t)(fields.slot - 1)},
            .state = fields.state == TORC_RECORD_NODE_DRAINING || (down && gone)
                         ? TORC_PLACEMENT_DRAINING
                     : fields.state == TORC_RECORD_NODE_HELD || down ? TORC_PLACEMENT_DOWN
                                                                     : TORC_PLACEMENT_UP};
    }
    return count;
}

// The wishes, in the order of the ring. 0: a shard has none, or one has no shard.
static uint32_t read_wants(struct world *w, struct torc_placement_shard *shards)
{
    uint32_t count = 0;

    for (uint32_t shard = 1; shard <= STORE_SHARDS; shard++) {
        struct torc_shard_fields fields;
        struct torc_want_fields want;
        bool is = store_get(&w->store, STORE_SHARD, shard, TORC_RECORD_SHARD, &fields);
        bool wished = store_get(&w->store, STORE_WANT, shard, TORC_RECORD_WANT, &want);

        if (is != wished) {
            return 0;
        }
        if (is) {
            shards[count] = (struct torc_placement_shard){
                .shard = shard, .weight = 1, .count = (uint8_t)want.nodes.count};
            for (uint64_t i = 0; i < want.nodes.count; i++) {
                shards[count].nodes[i] = (uint16_t)want.nodes.at[i];
            }
            count++;
        }
    }
    torc_placement_sort(shards, w->spare, count);
    return count;
}

// Domains have numbers of their own, and slots are of one node each.
static void check_places(struct world *w)
{
    struct torc_node_fields a;
    struct torc_node_fields b;

    for (uint32_t i = 1; i <= STORE_NODES; i++) {
        for (uint32_t k = 1; k < i; k++) {
            if (store_get(&w->store, STORE_NODE, i, TORC_RECORD_NODE, &a) &&
                store_get(&w->store, STORE_NODE, k, TORC_RECORD_NODE, &b) &&
                (a.slot == 0 || b.slot == 0 || (a.zone == b.zone && a.slot == b.slot) ||
                 (strcmp(a.domain, b.domain) == 0) != (a.zone == b.zone))) {
                store_blame(&w->store, "nodes have wrong places on the ring");
            }
        }
    }
}

static bool one_leads(const struct world *w)
{
    struct torc_placement_fields record = {0};
    uint32_t leaders = 0;
    bool settled = false;

    (void)store_get(&w->store, STORE_PLACEMENT, 0, TORC_RECORD_PLACEMENT, &record);
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        const struct torc_leader *leader = &w->machines[i].leader;

        if (!w->machines[i].dead && leader->state == TORC_LEADER_LEADS) {
            leaders++;
            settled = torc_leader_is_settled(leader) && record.leader == i + 1 &&
                      leader->why.err == TORC_ERR_OK;
        }
    }
    return leaders == 1 && settled;
}

// It may just be looking at the shards again.
static void check_leader(struct world *w)
{
    for (uint32_t i = 0; i < 30 && !one_leads(w); i++) {
        go(w, UINT64_C(2) * STEP_MS);
    }
    if (!one_leads(w)) {
        store_blame(&w->store, "not one leads, or it has not settled");
    }
}

// As placement.h promises: a plan of what is planned changes a handful of replicas at most.
static void check_wants(struct world *w)
{
    static struct torc_placement_node nodes[STORE_NODES];
    struct torc_placement_result result;
    uint32_t count = read_wants(w, w->shards);
    uint32_t nodes_count = read_nodes(w, nodes, true);

    if (count == 0) {
        store_blame(&w->store, "not every shard has a wish");
        return;
    }
    TORC_TEST_OK(torc_placement_nodes(&w->placement, nodes, nodes_count, REPLICAS, NULL), NULL);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < w->shards[i].count; k++) {
            if (w->placement.domain_of[w->shards[i].nodes[k]] == 0) {
                store_blame(&w->store, "a wish names a node that is no more");
                return;
            }
        }
    }
    torc_placement_plan(&w->placement, w->shards, count, &result);
    if (result.arrived > 6) {
        store_blame(&w->store, "wishes are not what placement wants");
    }
}

static bool tell(struct world *w, uint64_t seed)
{
    bool good = w->store.broken == NULL;

    if (!good && w->store.fault == STORE_FAULT_NONE) {
        (void)fprintf(stderr, "world %llu: %s\n", (unsigned long long)seed, w->store.broken);
    }
    close_world(w);
    return good;
}

static bool run_trouble(uint64_t seed, enum store_fault fault)
{
    struct world *w = open_world(seed, fault, true);

    while (w->store.now_ns < TROUBLE_MS * MS && w->store.broken == NULL) {
        go(w, 1 + torc_rng_below(&w->rng, 800));
        trouble(w);
    }
    w->store.trouble = false;
    w->store.full = false;
    for (uint32_t i = 1; i < STORE_CLIENTS; i++) { // one stays dead
        w->machines[i].frozen_until_ns = 0;
        if (w->machines[i].dead) {
            start(w, i);
        }
    }
    w->machines[0].dead = true;
    wake(w);
    go(w, CALM_MS);
    if (w->store.broken == NULL) {
        check_places(w);
        check_leader(w);
        check_wants(w);
    }
    return tell(w, seed);
}

static void test_trouble(void)
{
    struct torc_rng rng = {torc_test_seed()};
    bool good = true;

    for (uint32_t i = 0; i < WORLDS && good; i++) {
        good = run_trouble(torc_rng_next(&rng), STORE_FAULT_NONE);
    }
    CU_ASSERT_TRUE(good);
}

// -- One change at a time ------------------------------------------------------------------------

// What is wished after it is what placement makes of what was wished before.
static void check_change(struct world *w, bool join_or_leave)
{
    static struct torc_placement_node nodes[STORE_NODES];
    struct torc_placement_result result;
    uint64_t arrived = w->store.arrived;
    uint32_t count = read_wants(w, w->before);
    uint32_t nodes_count;
    uint64_t capacity = 1;

    go(w, 3000);
    nodes_count = read_nodes(w, nodes, false);
    for (uint32_t i = 0; i < nodes_count; i++) {
        capacity += nodes[i].member.capacity;
    }
    TORC_TEST_OK(torc_placement_nodes(&w->placement, nodes, nodes_count, REPLICAS, NULL), NULL);
    torc_placement_plan(&w->placement, w->before, count, &result);
    if (count == 0 || read_wants(w, w->shards) != count) {
        store_blame(&w->store, "not every shard has a wish");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (memcmp(w->before[i].nodes, w->shards[i].nodes, sizeof(w->before[i].nodes)) != 0) {
            store_blame(&w->store, "wishes are not the plan");
        }
    }
    arrived = w->store.arrived - arrived;
    // The largest node's part, and twice as much again for what a few dozen nodes of two sizes
    // need (2.15 parts have been seen).
    if (arrived > result.arrived ||
        (join_or_leave && arrived > UINT64_C(3) * count * REPLICAS * 200 / capacity)) {
        store_blame(&w->store, "more was moved than the change asks for");
    }
}

static bool run_calm(uint64_t seed, enum store_fault fault)
{
    struct world *w = open_world(seed, fault, false);
    uint64_t written;

    go(w, 4000);
    check_places(w);
    check_leader(w);
    for (uint32_t i = 0; i < 8 && w->store.broken == NULL; i++) {
        uint64_t node = 1 + torc_rng_below(&w->rng, STORE_NODES);
        struct torc_node_fields fields;

        if (!store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields)) {
            join(w, node);
        } else if (node_count(w, true) > STORE_NODES / 2) {
            store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, NULL);
        }
        wake(w);
        check_change(w, true);
    }
    written = w->store.wants_written;
    go(w, 3000); // nothing changes: nothing is written, not by a new leader either
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        w->machines[i].dead = w->machines[i].leader.state == TORC_LEADER_LEADS;
    }
    go(w, 4000);
    if (w->store.wants_written > written + 6) {
        store_blame(&w->store, "wishes change though nothing has");
    }
    check_leader(w);
    return tell(w, seed);
}

static void test_calm(void)
{
    struct torc_rng rng = {torc_test_seed()};
    bool good = true;

    for (uint32_t i = 0; i < WORLDS / 2 && good; i++) {
        good = run_calm(torc_rng_next(&rng), STORE_FAULT_NONE);
    }
    CU_ASSERT_TRUE(good);
}

// -- A machine that dies: nobody writes `down` ---------------------------------------------------

// What primaries make of its silence; it says nothing by itself from then on.
static void seat(struct world *w, uint32_t node, enum torc_survey_seat seat)
{
    w->forced[node] = (uint8_t)(1 + (uint32_t)seat);
    w->revision = 0;
}

static uint32_t wishes_of(struct world *w, uint32_t node)
{
    uint32_t count = 0;

    for (uint32_t shard = 1; shard <= STORE_SHARDS; shard++) {
        struct torc_want_fields want;

        if (store_get(&w->store, STORE_WANT, shard, TORC_RECORD_WANT, &want)) {
            for (uint64_t i = 0; i < want.nodes.count; i++) {
                count += want.nodes.at[i] == node ? 1 : 0;
            }
        }
    }
    return count;
}

static void test_who_is_in_sync_nowhere_is_given_up(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    const uint32_t node = 7;
    struct torc_node_fields fields;
    uint32_t had;

    go(w, 4000);
    had = wishes_of(w, node);
    CU_ASSERT_TRUE(had > 0);
    seat(w, node, TORC_SURVEY_MISSED); // it starts, say, and is in sync in time
    go(w, GONE_MS - 1000);
    seat(w, node, TORC_SURVEY_SEATED);
    go(w, 3000);
    CU_ASSERT_EQUAL(wishes_of(w, node), had);
    seat(w, node, TORC_SURVEY_MISSED);
    go(w, GONE_MS - 1000);
    CU_ASSERT_EQUAL(wishes_of(w, node), had);
    go(w, 4000);
    CU_ASSERT_EQUAL(wishes_of(w, node), 0);
    seat(w, node, TORC_SURVEY_UNWISHED); // as is seen then
    go(w, UINT64_C(2) * GONE_MS);
    CU_ASSERT_EQUAL(wishes_of(w, node), 0); // nor is it given any again
    CU_ASSERT_TRUE(store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields));
    fields.boot++;
    store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields);
    wake(w);
    go(w, 4000);
    CU_ASSERT_TRUE(wishes_of(w, node) > 0);
    check_leader(w);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

// The one that leads dies; another one does by and by.
static void change_leaders(struct world *w)
{
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        if (w->machines[i].dead) {
            start(w, i);
            w->revision = 0;
        } else {
            w->machines[i].dead = w->machines[i].leader.state == TORC_LEADER_LEADS;
        }
    }
    go(w, 4000);
    check_leader(w);
}

// Its wishes are given to others, and it is not heard of.
static void lose(struct world *w, uint32_t node)
{
    seat(w, node, TORC_SURVEY_MISSED);
    go(w, GONE_MS + 4000);
    CU_ASSERT_EQUAL(wishes_of(w, node), 0);
    seat(w, node, TORC_SURVEY_UNWISHED);
    go(w, 1000);
}

// Who shows itself is given shards.
static void say_and_get(struct world *w, uint32_t node)
{
    say(w, node);
    wake(w);
    go(w, 2000);
    CU_ASSERT_TRUE(wishes_of(w, node) > 0);
}

// It was cut off, and is there again: in the boot in which it was given up.
static void test_who_shows_itself_is_given_shards_again(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    const uint32_t node = 7;
    struct torc_node_fields fields;

    go(w, 4000);
    lose(w, node);
    for (uint32_t i = 0; i < 2; i++) { // an operator's words are not its own
        CU_ASSERT_TRUE(store_get(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields));
        fields.state = i == 0 ? TORC_RECORD_NODE_YIELDS : TORC_RECORD_NODE_SERVES;
        fields.nonce = torc_rng_next(&w->rng);
        store_put(&w->store, STORE_NODE, node, TORC_RECORD_NODE, &fields);
        wake(w);
        go(w, 3000);
        CU_ASSERT_EQUAL(wishes_of(w, node), 0);
    }
    say_and_get(w, node);
    check_leader(w);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

// What it said before does not count: with each leader another machine would be wished for again.
static void test_a_new_leader_wishes_nothing_of_the_dead(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    const uint32_t node = 7;
    uint64_t written;

    go(w, 4000);
    lose(w, node);
    written = w->store.wants_written;
    for (uint32_t i = 0; i < 3; i++) {
        change_leaders(w);
        go(w, UINT64_C(2) * GONE_MS);
        CU_ASSERT_EQUAL(wishes_of(w, node), 0);
    }
    CU_ASSERT_TRUE(w->store.wants_written <= written + 6);
    say_and_get(w, node);
    check_leader(w);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

// It shows itself while nobody leads, and goes on to do so.
static void test_a_word_between_two_leaders(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    const uint32_t node = 7;

    go(w, 4000);
    lose(w, node);
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        w->machines[i].dead = w->machines[i].leader.state == TORC_LEADER_LEADS;
    }
    say(w, node);
    go(w, 4000);
    check_leader(w);
    CU_ASSERT_EQUAL(wishes_of(w, node), 0); // nobody can tell when that was said
    say_and_get(w, node);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

// Who leads again did not look meanwhile: a silence of then is not that of now.
static void test_who_leads_again_counts_anew(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    const uint32_t node = 7;
    uint32_t first = 0;

    go(w, 4000);
    check_leader(w);
    CU_ASSERT_PTR_NULL_FATAL(w->store.broken);
    while (first < STORE_CLIENTS - 1 && w->machines[first].leader.state != TORC_LEADER_LEADS) {
        first++;
    }
    seat(w, node, TORC_SURVEY_MISSED);
    go(w, 1000);
    w->machines[first].frozen_until_ns = w->store.now_ns + 4000 * MS;
    go(w, 2000);
    seat(w, node, TORC_SURVEY_SEATED);
    go(w, GONE_MS);
    CU_ASSERT_EQUAL(w->machines[first].leader.state, TORC_LEADER_FOLLOWS);
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        w->machines[i].dead = i != first;
    }
    seat(w, node, TORC_SURVEY_MISSED);
    go(w, 4000);
    CU_ASSERT_EQUAL(w->machines[first].leader.state, TORC_LEADER_LEADS);
    CU_ASSERT_TRUE(wishes_of(w, node) > 0);
    go(w, GONE_MS + 4000);
    CU_ASSERT_EQUAL(wishes_of(w, node), 0);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

// The metastore hears it and other nodes do not: each time it is believed later.
static void test_who_is_given_up_again_waits(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    const uint32_t node = 7;
    uint32_t rounds = 0;
    uint32_t had = 0;

    go(w, 4000);
    seat(w, node, TORC_SURVEY_MISSED);
    for (uint32_t i = 0; i < 100; i++) { // of 1.5 s
        bool has;

        go(w, ALIVE_MS);
        has = wishes_of(w, node) > 0;
        rounds += has && had == 0 ? 1 : 0;
        had = wishes_of(w, node);
        seat(w, node, has ? TORC_SURVEY_MISSED : TORC_SURVEY_UNWISHED);
        if (!has) {
            say(w, node);
            wake(w);
        }
    }
    // In 150 s: 4 waits of 6 s, and then 0, 12, 24, 48 and 48.
    CU_ASSERT_TRUE(rounds >= 4 && rounds <= 6);
    seat(w, node, TORC_SURVEY_SEATED);
    go(w, 2000);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

// Not where as many are silent as are heard: it may be the metastore that is behind.
static void test_most_nodes_are_never_given_up(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);

    go(w, 4000);
    for (uint32_t node = 1; node <= STORE_NODES; node++) {
        seat(w, node, node % 2 == 0 ? TORC_SURVEY_MISSED : TORC_SURVEY_SEATED);
    }
    go(w, GONE_MS + 4000);
    for (uint32_t node = 2; node <= STORE_NODES - JOIN_LATER; node += 2) {
        CU_ASSERT_TRUE(wishes_of(w, node) > 0);
    }
    close_world(w);
}

// D4, M3.
static struct torc_leader *leading(struct world *w)
{
    for (uint32_t i = 0; i < STORE_CLIENTS; i++) {
        if (w->machines[i].leader.state == TORC_LEADER_LEADS) {
            return &w->machines[i].leader;
        }
    }
    torc_unreachable("somebody leads by now");
}

static void test_what_it_cannot_read(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    struct store_record *record = &w->store.nodes[3];
    struct store_record good;
    struct torc_leader *leader;
    uint64_t written;
    uint64_t beat;

    go(w, 4000);
    leader = leading(w);
    good = *record;
    written = w->store.wants_written;
    beat = leader->record.beat;
    memcpy(record->value, "format=9", 8);
    store_put(&w->store, STORE_NODE, 5, TORC_RECORD_NODE, NULL); // all that it had is to move
    wake(w);
    go(w, 4000);
    CU_ASSERT_EQUAL(w->store.wants_written, written);
    CU_ASSERT_EQUAL(leader->why.err, TORC_ERR_UNSUPPORTED_VERSION);
    CU_ASSERT_PTR_NOT_NULL(strstr(leader->why.text, "node/3: record of format 9"));
    CU_ASSERT_TRUE(leader->state == TORC_LEADER_LEADS && leader->record.beat > beat + 10);
    *record = good;
    go(w, 4000);
    CU_ASSERT_TRUE(w->store.wants_written > written);
    check_leader(w);
    check_wants(w);
    CU_ASSERT_PTR_NULL(w->store.broken);
    close_world(w);
}

static void test_stops_when_the_metastore_went_back(void)
{
    struct world *w = open_world(torc_test_seed(), STORE_FAULT_NONE, false);
    struct torc_meta_answer answer = {
        .ticket = 7, .err = TORC_ERR_CORRUPT, .went_back = true, .why.text = "older"};
    struct torc_meta_request request;
    struct torc_leader *leader;

    go(w, 4000);
    leader = leading(w);
    torc_leader_take(leader, UINT64_MAX / 2, &answer);
    CU_ASSERT_EQUAL(leader->state, TORC_LEADER_STOPPED);
    CU_ASSERT_FALSE(torc_leader_next(leader, UINT64_MAX / 2, &request));
    CU_ASSERT_EQUAL(torc_leader_deadline_ns(leader), UINT64_MAX);
    CU_ASSERT_EQUAL(leader->why.err, TORC_ERR_CORRUPT);
    close_world(w);
}

static void test_planted_faults_are_found(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (enum store_fault fault = STORE_FAULT_NONE + 1; fault <= STORE_FAULT_BLIND; fault++) {
        bool found = false;
        uint32_t tries = 0;

        while (tries < TRIES && !found) {
            uint64_t seed = torc_rng_next(&rng);

            tries++;
            found = !run_trouble(seed, fault) || !run_calm(seed, fault);
        }
        (void)printf("%u ", tries);
        if (!found) {
            (void)fprintf(stderr, "fault %d is not found\n", (int)fault);
            CU_FAIL("a planted fault is not found");
        }
    }
    (void)printf("tries … ");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"in trouble, then calm: one leads, all is wished", test_trouble},
        {"one change at a time: wishes are the plan", test_calm},
        {"who is in sync nowhere is given up", test_who_is_in_sync_nowhere_is_given_up},
        {"who shows itself is given shards again", test_who_shows_itself_is_given_shards_again},
        {"a new leader wishes nothing of the dead", test_a_new_leader_wishes_nothing_of_the_dead},
        {"a word between two leaders", test_a_word_between_two_leaders},
        {"who leads again counts anew", test_who_leads_again_counts_anew},
        {"who is given up again waits longer", test_who_is_given_up_again_waits},
        {"most nodes are never given up", test_most_nodes_are_never_given_up},
        {"what it cannot read it does not guess", test_what_it_cannot_read},
        {"a metastore that went back ends it", test_stops_when_the_metastore_went_back},
        {"planted faults are found", test_planted_faults_are_found},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("leader", tests);
}
