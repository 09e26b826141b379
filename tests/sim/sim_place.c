// Torc simulator: placement's leader, the nodes that it plans with, what it may write. See sim.h.
//
// What    class PLACE: each node has a machine of control/placer.h (sim_agree.c), and nobody else
//         writes `want`. Nodes join, are drained, held and let in again; some have more capacity
//         than others, or lie in one domain; the leader dies, is suspended, or does not reach the
//         metastore while another one takes the lead.
//         The oracles: a term has one leader, and who does not lead wishes nothing; of each shard
//         as many different nodes are wished as it is to have copies; a swap makes one member more
//         or less, and one that is well is not taken out while there are too few; in the end one
//         leads, what is wished is what placement makes of these nodes, with even loads, in as many
//         domains as can be; shards lie there; and then nothing is written any more.
// Owner   the run.
#include "control/leader.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_records.h"

#include <string.h>

#define JOIN_PERCENT 50u // of clusters that have room: a node or two come later
#define MIB          1024u
#define HEARD_NS     (300 * SIM_MS) // by then a leader knows that a node's record has changed

static uint64_t place_draw(uint64_t bound)
{
    return torc_rng_below(&sim->chaos, bound);
}

// -- The seed's configuration ---------------------------------------------------------------------

// By dice of its own: what else a seed draws is the same with the class and without.
void sim_place_configure(struct sim_config *config)
{
    struct torc_rng rng = {.state = sim->wish.seed ^ UINT64_C(0x706c616365)};
    uint32_t late;

    config->founders = config->nodes;
    if ((config->classes & 1u << SIM_CLASS_PLACE) == 0) {
        return;
    }
    config->classes &= ~(1u << SIM_CLASS_WISH); // that writes wishes itself
    if (config->nodes < SIM_NODES_MAX) {
        config->nodes = (uint32_t)torc_max_u64(config->nodes, config->replicas + 1u);
    }
    late = config->nodes - config->replicas;
    late = late > 0 ? 1 + (uint32_t)torc_rng_below(&rng, late) : 0;
    config->founders = config->nodes - (torc_rng_below(&rng, 100) < JOIN_PERCENT ? late : 0);
    config->lease_ms = 400u << torc_rng_below(&rng, 2);
    config->gone_ms = 300u << torc_rng_below(&rng, 3);
    config->domains = torc_rng_below(&rng, 2) == 0 ? 0 : 2 + (uint32_t)torc_rng_below(&rng, 3);
    config->run_ns += SIM_S;
}

// -- Records of nodes -----------------------------------------------------------------------------

static bool place_node(uint32_t number, struct torc_node_fields *fields)
{
    char name[TORC_RECORD_NAME_BYTES];
    const char *text;
    struct torc_fail why;

    torc_record_name(name, "node", number);
    text = sim_records_get(name);
    if (text == NULL) {
        return false;
    }
    torc_assert(torc_record_decode(TORC_RECORD_NODE, fields, text, strlen(text), &why) ==
                TORC_ERR_OK);
    return true;
}

static void place_put(uint32_t number, const struct torc_node_fields *fields)
{
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    text[torc_record_encode(TORC_RECORD_NODE, fields, text)] = '\0';
    torc_record_name(name, "node", number);
    sim_records_put(name, text);
    sim->placing.node_ns = sim->now_ns;
}

void sim_place_register(uint32_t index)
{
    struct torc_node_fields fields;

    if (place_node(index + 1, &fields)) {
        return;
    }
    fields = (struct torc_node_fields){
        .copy = sim->nodes[index].copy, .base_port = SIM_BASE_PORT, .cores = 1, .capacity = MIB};
    (void)snprintf(fields.address, sizeof(fields.address), "10.79.0.%u", (unsigned)(11 + index));
    if (sim->config.domains > 0) {
        (void)snprintf(fields.domain, sizeof(fields.domain), "rack-%u",
                       (unsigned)(index % sim->config.domains));
    }
    place_put(index + 1, &fields);
}

// Who leads by the record; 0: nobody.
static uint32_t place_leader(struct torc_placement_fields *fields)
{
    const char *text = sim_records_get("placement");
    struct torc_fail why;

    *fields = (struct torc_placement_fields){0};
    if (text == NULL) {
        return 0;
    }
    torc_assert(torc_record_decode(TORC_RECORD_PLACEMENT, fields, text, strlen(text), &why) ==
                TORC_ERR_OK);
    return (uint32_t)fields->leader;
}

// -- Faults ---------------------------------------------------------------------------------------

static bool place_join(void)
{
    for (uint32_t i = sim->config.founders; i < sim->config.nodes; i++) {
        struct sim_node *node = sim_node_of(i);
        struct torc_node_fields fields;

        if (!place_node(i + 1, &fields)) {
            sim_cover(SIM_COVER_FAULT_NODE_JOINS);
            sim_story("FAULT   node %u joins", (unsigned)node->number);
            sim_place_register(i);
            sim_faults_mend(SIM_MEND_POWER, i);
            return true;
        }
    }
    return false;
}

static uint32_t place_serving(void)
{
    struct torc_node_fields fields;
    uint32_t count = 0;

    for (uint32_t number = 1; number <= sim->config.nodes; number++) {
        count += place_node(number, &fields) && fields.state == TORC_RECORD_NODE_SERVES ? 1 : 0;
    }
    return count;
}

// An operator wants a node empty, or lets it get nothing, or all as before; or gives it memory.
static void place_operator(uint32_t number)
{
    static const char *const words[] = {"serves", "is drained", "is held", "is to lead nothing"};
    struct torc_node_fields fields;
    uint64_t dice = place_draw(100);

    if (!place_node(number, &fields)) {
        return;
    }
    if (dice < 25) {
        fields.capacity = (1 + place_draw(3)) * MIB;
        sim_cover(SIM_COVER_FAULT_CAPACITY);
        sim_story("FAULT   node %u has %u MiB", (unsigned)number, (unsigned)fields.capacity);
    } else {
        uint64_t state = dice < 80   ? TORC_RECORD_NODE_DRAINING
                         : dice < 90 ? TORC_RECORD_NODE_HELD
                                     : TORC_RECORD_NODE_YIELDS;

        if (fields.state == TORC_RECORD_NODE_SERVES && place_serving() < 2) {
            return;
        }
        fields.state = fields.state == TORC_RECORD_NODE_SERVES ? state : TORC_RECORD_NODE_SERVES;
        sim_cover(SIM_COVER_FAULT_STATE);
        sim_story("FAULT   node %u %s", (unsigned)number, words[fields.state]);
    }
    sim->fault_count++;
    place_put(number, &fields);
}

// Somebody else leads meanwhile, and this one does not know.
static uint64_t place_long_ns(void)
{
    return (sim->config.lease_ms / 2 + place_draw(UINT64_C(3) * sim->config.lease_ms)) * SIM_MS;
}

static void place_off(struct sim_node *node)
{
    if (node->powered && sim_faults_may_forget(node)) {
        sim_cover(SIM_COVER_FAULT_GONE);
        sim_faults_power_off(node, place_long_ns() + sim->config.gone_ms * SIM_MS);
    }
}

static void place_strike(struct sim_node *node)
{
    uint64_t dice = place_draw(100);

    sim_cover(SIM_COVER_FAULT_LEADER);
    sim->fault_count++;
    sim_story("FAULT   placement's leader is node %u", (unsigned)node->number);
    if (dice < 20) {
        sim_faults_kill(node, false, true);
    } else if (dice < 35) {
        place_off(node);
    } else if (dice < 60) {
        sim_faults_suspend(node, place_long_ns());
    } else if (dice < 85) {
        sim->meta.away_ns[node->index] = sim->now_ns + place_long_ns();
    } else {
        sim_plan_apart(node->number, place_long_ns(), true);
    }
}

void sim_place_fault(void)
{
    struct torc_placement_fields fields;
    uint32_t leader = place_leader(&fields);
    struct sim_node *any = sim_node_of((uint32_t)place_draw(sim->config.nodes));
    uint64_t dice = place_draw(100);

    if (dice < 20 && place_join()) {
        sim->fault_count++;
    } else if (dice < 50) {
        place_operator(any->number);
    } else if (dice < 60) {
        sim->fault_count++;
        place_off(any);
    } else if (leader != 0) {
        place_strike(sim_node_of(leader - 1));
    }
}

// -- What is written ------------------------------------------------------------------------------

static bool want_lists(const struct sim_want *want, uint32_t number)
{
    for (uint32_t i = 0; i < want->count; i++) {
        if (want->nodes[i] == number) {
            return true;
        }
    }
    return false;
}

static bool members_have(const struct torc_shard_fields *fields, uint64_t node)
{
    for (uint32_t i = 0; i < fields->insync.count; i++) {
        if (fields->insync.at[i].node == node) {
            return true;
        }
    }
    return false;
}

static bool place_has(uint32_t number)
{
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        const struct sim_want *want = &sim->wants[shard - 1];
        char name[TORC_RECORD_NAME_BYTES];
        struct torc_shard_fields fields;
        const char *text;
        struct torc_fail why;

        torc_record_name(name, "shard", shard);
        text = sim_records_get(name);
        torc_assert(torc_record_decode(TORC_RECORD_SHARD, &fields, text, strlen(text), &why) ==
                    TORC_ERR_OK);
        if (want_lists(want, number) || members_have(&fields, number)) {
            return true;
        }
    }
    return false;
}

// Who has nothing when a leader begins, as that knows, is to show itself first.
static void place_begin_term(uint32_t number)
{
    const struct torc_leader *leader = sim_agree_leader(sim_node_of(number - 1));

    for (uint32_t other = 1; other <= sim->config.nodes; other++) {
        struct torc_node_fields fields;
        bool idle = leader != NULL && leader->seats[other] == TORC_SURVEY_UNWISHED &&
                    place_node(other, &fields) && fields.slot != 0 && !place_has(other);

        sim->placing.idle_nonces[other] = idle ? fields.nonce : 0;
    }
}

static void place_judge_idle(uint32_t shard, uint32_t number, const struct torc_node_fields *fields)
{
    uint64_t *nonce = &sim->placing.idle_nonces[number];

    if (*nonce != 0 && *nonce == fields->nonce) {
        sim_fail("placement: shard %u is wished on node %u, which is not known to be there",
                 (unsigned)shard, (unsigned)number);
    }
    *nonce = 0;
    if (!place_has(number)) {
        sim_cover_add(SIM_COVER_PLACE_BACK,
                      fields->boot > 0 && sim->placing.idle_boots[number] == fields->boot ? 1 : 0);
    }
    sim->placing.idle_boots[number] = fields->boot;
}

static void place_judge_term(const struct torc_placement_fields *is, bool wishes)
{
    struct torc_placement_fields was;

    (void)place_leader(&was);
    if (is->term == was.term + 1) {
        place_begin_term((uint32_t)is->leader);
        sim_cover(SIM_COVER_PLACE_TERMS);
        sim_story("PLACE   node %u leads placement in term %u", (unsigned)is->leader,
                  (unsigned)is->term);
        if (wishes) {
            sim_fail("placement: node %u wishes before it leads", (unsigned)is->leader);
        }
    } else if (is->term != was.term || is->leader != was.leader || is->boot != was.boot) {
        sim_fail("placement: node %u writes in term %u, and node %u leads in term %u",
                 (unsigned)is->leader, (unsigned)is->term, (unsigned)was.leader,
                 (unsigned)was.term);
    }
}

static bool want_is(const struct sim_want *want, const struct torc_want_fields *fields)
{
    bool same = want->count == fields->nodes.count && want->primary == fields->primary;

    for (uint32_t i = 0; i < want->count && same; i++) {
        same = want->nodes[i] == fields->nodes.at[i];
    }
    return same;
}

static void place_judge_want(uint32_t shard, const struct torc_want_fields *fields)
{
    struct torc_node_fields node;

    if (fields->nodes.count != sim->config.replicas) {
        sim_fail("placement: %u nodes are wished of shard %u, and it is to have %u copies",
                 (unsigned)fields->nodes.count, (unsigned)shard, (unsigned)sim->config.replicas);
    }
    for (uint32_t i = 0; i < fields->nodes.count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (fields->nodes.at[i] == fields->nodes.at[k]) {
                sim_fail("placement: node %u is wished twice of shard %u",
                         (unsigned)fields->nodes.at[i], (unsigned)shard);
            }
        }
        if (!place_node((uint32_t)fields->nodes.at[i], &node)) {
            sim_fail("placement: node %u, which there is not, is wished of shard %u",
                     (unsigned)fields->nodes.at[i], (unsigned)shard);
        } else {
            place_judge_idle(shard, (uint32_t)fields->nodes.at[i], &node);
        }
    }
    if (fields->primary != fields->nodes.at[0]) {
        sim_fail("placement: shard %u: another primary is wished than the first", (unsigned)shard);
    }
}

static void place_wished(uint32_t shard, const struct torc_want_fields *fields)
{
    struct sim_want *want = &sim->wants[shard - 1];

    if (want_is(want, fields)) {
        sim_fail("placement: what is wished of shard %u is written once more", (unsigned)shard);
        return;
    }
    want->count = 0;
    want->primary = (uint32_t)fields->primary;
    for (uint32_t i = 0; i < fields->nodes.count; i++) {
        want->nodes[want->count++] = (uint32_t)fields->nodes.at[i];
    }
    sim->placing.wished[shard - 1]++;
    sim->placing.last_ns = sim->now_ns;
    sim_cover(SIM_COVER_PLACE_WANTS);
    sim_story("PLACE   shard %u is wished on nodes %u %u %u %u %u", (unsigned)shard,
              (unsigned)want->nodes[0], (unsigned)want->nodes[1],
              (unsigned)(want->count > 2 ? want->nodes[2] : 0),
              (unsigned)(want->count > 3 ? want->nodes[3] : 0),
              (unsigned)(want->count > 4 ? want->nodes[4] : 0));
}

static void place_take_want(const struct torc_meta_op *op, uint32_t shard)
{
    struct torc_want_fields fields;
    struct torc_fail why;

    if (op->kind != TORC_META_PUT || shard > sim->config.shards ||
        torc_record_decode(TORC_RECORD_WANT, &fields, op->value, op->value_bytes, &why) !=
            TORC_ERR_OK) {
        sim_fail("placement: %s makes no sense", op->key);
        return;
    }
    place_judge_want(shard, &fields);
    if (sim->result.failed == 0) {
        place_wished(shard, &fields);
    }
}

// A node shows that it is there: nothing but the nonce is another.
static bool place_is_word(uint32_t number, const struct torc_meta_op *op)
{
    struct torc_node_fields was;
    struct torc_node_fields is;
    char old[TORC_RECORD_BYTES_MAX];
    char new[TORC_RECORD_BYTES_MAX];
    struct torc_fail why;
    uint32_t bytes;
    bool word;

    if (op->kind != TORC_META_PUT || !place_node(number, &was) ||
        torc_record_decode(TORC_RECORD_NODE, &is, op->value, op->value_bytes, &why) !=
            TORC_ERR_OK) {
        return false;
    }
    is.nonce = was.nonce;
    bytes = torc_record_encode(TORC_RECORD_NODE, &is, new);
    word = bytes == torc_record_encode(TORC_RECORD_NODE, &was, old) && memcmp(old, new, bytes) == 0;
    sim_cover_add(SIM_COVER_PLACE_WORDS, word ? 1 : 0);
    return word;
}

void sim_place_txn(const struct torc_meta_request *request)
{
    const struct torc_meta_op *first = request->ops;
    struct torc_placement_fields fields;
    struct torc_fail why;
    bool leads = request->op_count > 0 && strcmp(first->key, "placement") == 0;
    bool wishes = false;
    uint64_t id;

    for (uint32_t i = 0; i < request->op_count; i++) {
        wishes = wishes || torc_record_id(request->ops[i].key, "want", &id);
        if (torc_record_id(request->ops[i].key, "node", &id) &&
            !place_is_word((uint32_t)id, request->ops + i)) {
            sim->placing.node_ns = sim->now_ns;
        }
    }
    if (leads && torc_record_decode(TORC_RECORD_PLACEMENT, &fields, first->value,
                                    first->value_bytes, &why) == TORC_ERR_OK) {
        place_judge_term(&fields, wishes);
    } else if (leads || wishes) {
        sim_fail("placement: a wish of nobody who leads");
    }
    for (uint32_t i = 0; i < request->op_count; i++) {
        if (torc_record_id(request->ops[i].key, "want", &id)) {
            place_take_want(request->ops + i, (uint32_t)id);
        }
    }
}

// -- Steps of shards ------------------------------------------------------------------------------

static uint32_t members_beyond(const struct torc_shard_fields *of,
                               const struct torc_shard_fields *other, uint64_t *last)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < of->insync.count; i++) {
        if (!members_have(other, of->insync.at[i].node)) {
            *last = of->insync.at[i].node;
            count++;
        }
    }
    return count;
}

static bool place_any_leaves(void)
{
    struct torc_node_fields fields;

    for (uint32_t number = 1; number <= sim->config.nodes; number++) {
        if (place_node(number, &fields) && fields.boot != 0 && fields.leaving == fields.boot) {
            return true;
        }
    }
    return false;
}

// One member more or one less; and who is well, and heard, makes way only for others. Where a swap
// may come long after it was asked for, nothing is said of that.
void sim_place_swapped(uint32_t shard, const struct torc_shard_fields *was,
                       const struct torc_shard_fields *is)
{
    uint64_t more = 0;
    uint64_t less = 0;
    uint32_t added = members_beyond(is, was, &more);
    uint32_t removed = members_beyond(was, is, &less);

    if (was->insync.count == 0 || !sim_has(SIM_CLASS_PLACE) ||
        (is->losses.count > 0 && is->losses.at[is->losses.count - 1].epoch == was->epoch)) {
        return; // or an operator accepted a loss
    }
    if (added > 1 || (added == 1 && removed > 0)) {
        sim_fail("placement: shard %u: %u members more and %u less in one swap", (unsigned)shard,
                 (unsigned)added, (unsigned)removed);
    }
    sim_cover_add(SIM_COVER_PLACE_JOINED, added);
    if (removed != 1 || was->primary_node != is->primary_node ||
        !sim_calm_pair(shard, (uint32_t)was->epoch, (uint32_t)was->primary_node, (uint32_t)less) ||
        place_any_leaves()) {
        return;
    }
    sim_cover(SIM_COVER_PLACE_LEFT);
    if (is->insync.count < sim->config.replicas) {
        sim_fail("placement: shard %u: node %u, which is well, goes, and %u members are left of %u",
                 (unsigned)shard, (unsigned)less, (unsigned)is->insync.count,
                 (unsigned)sim->config.replicas);
    }
}

// -- At the end -----------------------------------------------------------------------------------

// The one that leads, and has written all that it wishes; NULL: there is none yet, or two.
static const struct torc_leader *place_settled(void)
{
    struct torc_placement_fields fields;
    uint32_t number = place_leader(&fields);
    const struct torc_leader *settled = NULL;

    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        const struct torc_leader *leader = sim_agree_leader(sim_node_of(i));

        if (leader == NULL || leader->state != TORC_LEADER_LEADS) {
            continue;
        }
        if (i + 1 != number || !torc_leader_is_settled(leader)) {
            return NULL;
        }
        settled = leader;
    }
    return settled;
}

// Where all shards are closed nodes are members of nothing, and so not known to be there.
static bool place_matters(void)
{
    for (uint32_t shard = 1; sim_has(SIM_CLASS_PLACE) && shard <= sim->config.shards; shard++) {
        if (!sim_wish_is_closed(shard)) {
            return true;
        }
    }
    return false;
}

// What a node may get and have, by the leader; and what nobody may deny.
struct place_count {
    uint32_t load[SIM_NODES_MAX + 1];
    uint32_t capacity[SIM_NODES_MAX + 1];
    uint32_t zone[SIM_NODES_MAX + 1]; // 0: its own
    bool serves[SIM_NODES_MAX + 1];   // it is up, and no operator keeps it from anything
    bool gets[SIM_NODES_MAX + 1];     // the same by the leader
    uint32_t get_count;
    bool all; // all nodes get: bounds by share are simple
};

static void place_count(const struct torc_leader *leader, struct place_count *count)
{
    memset(count, 0, sizeof(*count));
    count->all = true;
    for (uint32_t i = 0; i < leader->table_count; i++) {
        const struct torc_placement_node *entry = &leader->table[i];
        uint32_t number = entry->member.node;
        struct torc_node_fields fields;

        torc_assert(number <= sim->config.nodes && place_node(number, &fields));
        count->capacity[number] = entry->member.capacity;
        count->zone[number] = entry->member.domain;
        count->gets[number] = entry->state == TORC_PLACEMENT_UP;
        count->get_count += count->gets[number] ? 1 : 0;
        count->all = count->all && count->gets[number];
        count->serves[number] =
            (fields.state == TORC_RECORD_NODE_SERVES || fields.state == TORC_RECORD_NODE_YIELDS) &&
            fields.boot != fields.down;
    }
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        for (uint32_t i = 0; i < sim->wants[shard - 1].count; i++) {
            count->load[sim->wants[shard - 1].nodes[i]]++;
        }
    }
}

bool sim_place_is_settled(void)
{
    return !place_matters() || place_settled() != NULL;
}

// All are there by now: whoever was given up has come back.
static bool place_gets(const struct torc_leader *leader)
{
    struct place_count count;
    bool gets = true;

    place_count(leader, &count);
    for (uint32_t number = 1; number <= sim->config.nodes; number++) {
        gets = gets && count.serves[number] == count.gets[number];
    }
    return gets;
}

bool sim_place_is_done(void)
{
    const struct torc_leader *leader;

    if (!place_matters()) {
        return true;
    }
    leader = place_settled();
    return leader != NULL && leader->gone_at_ns == UINT64_MAX &&
           sim->now_ns >= sim->placing.node_ns + HEARD_NS && place_gets(leader);
}

static uint32_t zone_of(const struct place_count *count, uint32_t number)
{
    return count->zone[number] != 0 ? count->zone[number] : TORC_RECORD_ZONE_MAX + number;
}

// How many nodes of the list are in this node's domain.
static uint32_t zone_has(const struct place_count *count, const struct sim_want *want,
                         uint32_t number)
{
    uint32_t same = 0;

    for (uint32_t i = 0; i < want->count; i++) {
        same += zone_of(count, want->nodes[i]) == zone_of(count, number) ? 1 : 0;
    }
    return same;
}

// Somebody who is not to have it has it, and another node that gets shards does not.
static void place_judge_list(const struct place_count *count, uint32_t shard)
{
    const struct sim_want *want = &sim->wants[shard - 1];

    for (uint32_t i = 0; i < want->count; i++) {
        uint32_t holder = want->nodes[i];
        struct torc_node_fields fields;
        bool drained = place_node(holder, &fields) && fields.state == TORC_RECORD_NODE_DRAINING;

        for (uint32_t other = 1; other <= sim->config.nodes; other++) {
            if (!count->gets[other] || want_lists(want, other)) {
                continue;
            }
            if (drained && count->get_count >= sim->config.replicas) {
                // Its domain may be full, and another list than this one would have to change.
                uint32_t same = zone_has(count, want, other) -
                                (zone_of(count, holder) == zone_of(count, other) ? 1 : 0);

                if (same == 0) {
                    sim_fail("placement: shard %u stays wished on node %u, which is drained, and "
                             "node %u could have it",
                             (unsigned)shard, (unsigned)holder, (unsigned)other);
                }
            }
            if (count->all && zone_has(count, want, holder) > 1 &&
                zone_has(count, want, other) == 0) {
                sim_fail("placement: shard %u has two nodes of one domain, and node %u is of none",
                         (unsigned)shard, (unsigned)other);
            }
        }
    }
}

// Nobody has two replicas more, by its capacity, than another that could take one.
static void place_judge_loads(const struct place_count *count)
{
    for (uint32_t shard = 1; count->all && shard <= sim->config.shards; shard++) {
        const struct sim_want *want = &sim->wants[shard - 1];

        for (uint32_t i = 0; i < want->count; i++) {
            uint32_t from = want->nodes[i];

            for (uint32_t to = 1; to <= sim->config.nodes; to++) {
                uint32_t same = zone_has(count, want, to) -
                                (zone_of(count, from) == zone_of(count, to) ? 1 : 0);

                if (count->gets[to] && !want_lists(want, to) && same == 0 &&
                    count->capacity[from] == count->capacity[to] &&
                    count->load[from] > count->load[to] + 2) {
                    sim_fail("placement: node %u is wished to have %u replicas, node %u %u",
                             (unsigned)from, (unsigned)count->load[from], (unsigned)to,
                             (unsigned)count->load[to]);
                }
            }
        }
    }
}

void sim_place_judge(void)
{
    struct place_count count;

    if (!place_matters()) {
        return;
    }
    if (place_settled() == NULL) {
        sim_fail("placement: nobody leads, or it has not written all that it wishes");
        return;
    }
    if (sim->placing.last_ns > sim->placing.done_ns) {
        sim_fail("placement: it wishes something else when nothing changes any more");
    }
    place_count(place_settled(), &count);
    for (uint32_t number = 1; number <= sim->config.nodes; number++) {
        if (count.serves[number] != count.gets[number]) {
            sim_fail("placement: node %u %s", (unsigned)number,
                     count.gets[number] ? "gets shards, and is not to" : "is there and gets none");
        }
    }
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        place_judge_list(&count, shard);
    }
    place_judge_loads(&count);
}
