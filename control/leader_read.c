// Torc control: what placement's leader reads, and what it plans from that. See control/leader.h.
#include "control/leader_impl.h"
#include "kit/bugs.h"

#include <string.h>

#define AGAIN_SHIFT_MAX 3u // a bet, as leader.h says what for

// -- Shards and wishes ---------------------------------------------------------------------------

static bool read_number(struct torc_leader *leader, const struct torc_meta_record *record,
                        const char *family, uint64_t greatest, uint64_t *id)
{
    if (torc_record_id(record->key, family, id) && *id > 0 && *id <= greatest) {
        return true;
    }
    (void)torc_fail(&leader->why, TORC_ERR_CORRUPT, "metastore: record \"%.64s\" has no such name",
                    record->key);
    return false;
}

// Decodes one record. The reason names it.
static bool read_record(struct torc_leader *leader, const struct torc_meta_record *record,
                        enum torc_record kind, void *fields)
{
    struct torc_fail why = {0};
    enum torc_err err = torc_record_decode(kind, fields, record->value, record->value_bytes, &why);

    if (err != TORC_ERR_OK) {
        (void)torc_fail(&leader->why, err, "metastore: %.64s: %.150s", record->key, why.text);
    }
    return err == TORC_ERR_OK;
}

static void read_put(struct torc_placement_shard *shard, uint64_t node)
{
    for (uint32_t i = 0; i < shard->count; i++) {
        if (shard->nodes[i] == node) {
            return;
        }
    }
    if (node != 0 && shard->count < TORC_PLACEMENT_REPLICAS_MAX) {
        torc_assert(node < TORC_PLACEMENT_IDS); // the record's limit
        shard->nodes[shard->count++] = (uint16_t)node;
    }
}

// Where nothing is wished, a shard is wished where it lies.
void torc_leader_take_shards(struct torc_leader *leader, const struct torc_meta_answer *answer)
{
    struct torc_placement_shard *shards = leader->config.shards;

    torc_assert(answer->record_count <= leader->config.shard_max);
    for (uint32_t i = 0; i < answer->record_count; i++) {
        struct torc_shard_fields fields;
        uint64_t id;

        if (!read_number(leader, &answer->records[i], "shard", UINT32_MAX, &id) ||
            !read_record(leader, &answer->records[i], TORC_RECORD_SHARD, &fields)) {
            return;
        }
        shards[i] = (struct torc_placement_shard){.shard = (uint32_t)id, .weight = 1};
        read_put(&shards[i], fields.insync.count > 0 ? fields.primary_node : 0);
        for (uint64_t k = 0; k < fields.insync.count; k++) {
            read_put(&shards[i], fields.insync.at[k].node);
        }
    }
    leader->shard_count = answer->record_count;
    torc_placement_sort(shards, leader->config.spare, leader->shard_count);
    memset(leader->config.written, 0, leader->shard_count * sizeof(leader->config.written[0]));
    leader->stage = TORC_LEADER_WANTS;
}

// UINT32_MAX: there is no shard of this number.
static uint32_t read_find(const struct torc_leader *leader, uint64_t shard)
{
    const struct torc_placement_shard *shards = leader->config.shards;
    uint64_t position = torc_ring_position((uint32_t)shard);
    uint32_t low = 0;
    uint32_t high = leader->shard_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (torc_ring_position(shards[middle].shard) < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < leader->shard_count && shards[low].shard == shard ? low : UINT32_MAX;
}

static void read_want(struct torc_leader *leader, uint32_t place,
                      const struct torc_want_fields *fields)
{
    struct torc_placement_shard *shard = &leader->config.shards[place];
    struct torc_leader_want *written = &leader->config.written[place];

    shard->count = 0;
    memset(shard->nodes, 0, sizeof(shard->nodes));
    for (uint64_t i = 0; i < fields->nodes.count; i++) {
        read_put(shard, fields->nodes.at[i]);
    }
    written->count = shard->count;
    written->primary = (uint16_t)fields->primary;
    memcpy(written->nodes, shard->nodes, sizeof(written->nodes));
}

void torc_leader_take_wants(struct torc_leader *leader, uint64_t now_ns,
                            const struct torc_meta_answer *answer)
{
    uint64_t orphans[TORC_LEADER_WANTS_MAX];
    uint32_t orphan_count = 0;

    for (uint32_t i = 0; i < answer->record_count; i++) {
        struct torc_want_fields fields;
        uint32_t place;
        uint64_t id;

        if (!read_number(leader, &answer->records[i], "want", UINT32_MAX, &id) ||
            !read_record(leader, &answer->records[i], TORC_RECORD_WANT, &fields)) {
            return;
        }
        place = read_find(leader, id);
        if (place != UINT32_MAX && fields.nodes.count > 0) {
            read_want(leader, place, &fields);
        } else if (place == UINT32_MAX && orphan_count < TORC_LEADER_WANTS_MAX) {
            orphans[orphan_count++] = id;
        }
    }
    leader->planned = leader->planned && orphan_count == 0;
    for (uint32_t place = 0; place < leader->shard_count; place++) {
        leader->planned = leader->planned && leader->config.written[place].count > 0;
    }
    leader->cursor = 0; // what the metastore did not take is tried again
    leader->stage = TORC_LEADER_NODES;
    if (orphan_count > 0) { // more of them: the next time
        torc_leader_tidy(leader, now_ns, orphans, orphan_count);
    }
}

// -- Nodes ---------------------------------------------------------------------------------------

static uint64_t read_hash(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u; // FNV-1a

    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * 0x100000001b3u;
    }
    return hash;
}

// Whether the node itself has written since the last look: a start, or its record anew and nothing
// in it changed. Placement and operators change something.
static bool read_word(struct torc_leader_down *down, const struct torc_node_fields *fields)
{
    struct torc_node_fields rest = *fields;
    char text[TORC_RECORD_BYTES_MAX];
    uint64_t hash;
    bool word;

    rest.nonce = 0;
    (void)torc_record_encode(TORC_RECORD_NODE, &rest, text); // it ends with 0
    hash = torc_max_u64(read_hash(text), 1);
    word = down->rest != 0 &&
           (down->boot != fields->boot || (down->rest == hash && down->nonce != fields->nonce));
    if (down->boot != fields->boot) {
        *down = (struct torc_leader_down){.boot = fields->boot};
    }
    down->nonce = fields->nonce;
    down->rest = hash;
    return word;
}

static void read_give_up(struct torc_leader *leader, uint64_t now_ns, struct torc_leader_down *down)
{
    uint64_t wait_ns = leader->config.gone_ns << torc_min_u64(down->times, AGAIN_SHIFT_MAX);

    down->given_up = true;
    down->there = false;
    down->again_ns = down->times == 0 ? 0 : now_ns + wait_ns;
    down->times = (uint8_t)torc_min_u64(down->times + UINT64_C(1), AGAIN_SHIFT_MAX);
}

// Whether it counts as down: its record says so, it has been silent for too long, or nothing shows
// that it is there.
static bool read_down(struct torc_leader *leader, uint64_t now_ns, uint64_t id,
                      const struct torc_node_fields *fields)
{
    struct torc_leader_down *down = &leader->down[id];
    bool told = fields->boot == fields->down;
    bool word = read_word(down, fields);

    down->listed = true;
    if (!told && (leader->seats[id] == TORC_SURVEY_SEATED || fields->slot == 0)) {
        down->there = true; // slot 0: it has just joined
        down->times = 0;
        down->given_up = false;
        down->since_ns = 0;
        return false;
    }
    down->there = down->there || (word && now_ns >= down->again_ns);
    if (!told && leader->seats[id] == TORC_SURVEY_UNWISHED && (down->there || !down->given_up)) {
        down->given_up = false;
        down->since_ns = 0;
        return !down->there && !TORC_BUG(PLACE_IS_THERE);
    }
    if (down->since_ns == 0) {
        down->since_ns = torc_max_u64(now_ns, 1);
    }
    if (!down->given_up && now_ns >= down->since_ns + leader->config.gone_ns) {
        read_give_up(leader, now_ns, down);
    }
    return told || down->given_up;
}

static bool read_node(struct torc_leader *leader, uint64_t now_ns,
                      const struct torc_meta_record *record, struct torc_leader_node *node)
{
    struct torc_node_fields fields;
    uint64_t id;

    if (!read_number(leader, record, "node", TORC_RECORD_NODE_MAX, &id) ||
        !read_record(leader, record, TORC_RECORD_NODE, &fields)) {
        return false;
    }
    *node = (struct torc_leader_node){
        .boot = fields.boot,
        .domain = fields.domain[0] != '\0' ? read_hash(fields.domain) : 0,
        .capacity = (uint32_t)torc_min_u64(torc_max_u64(fields.capacity, 1), UINT32_MAX),
        .node = (uint16_t)id,
        .zone = (uint16_t)fields.zone,
        .slot = (uint16_t)fields.slot,
        .state = (uint8_t)fields.state,
        .down = read_down(leader, now_ns, id, &fields)};
    return true;
}

// Who is wished anywhere, as this leader read and planned it.
static void read_wished(const struct torc_leader *leader, bool wished[TORC_PLACEMENT_IDS])
{
    memset(wished, 0, TORC_PLACEMENT_IDS * sizeof(wished[0]));
    for (uint32_t place = 0; place < leader->shard_count; place++) {
        const struct torc_placement_shard *shard = &leader->config.shards[place];

        for (uint32_t i = 0; i < shard->count; i++) {
            wished[shard->nodes[i]] = true;
        }
    }
}

static enum torc_placement_state read_state(struct torc_leader *leader, uint64_t now_ns,
                                            const struct torc_leader_node *node, bool most_are_up,
                                            bool wished)
{
    uint64_t since_ns = leader->down[node->node].since_ns;
    uint64_t gone_ns = since_ns + leader->config.gone_ns;

    if (node->state == TORC_RECORD_NODE_DRAINING) {
        return TORC_PLACEMENT_DRAINING;
    }
    if (node->state == TORC_RECORD_NODE_HELD) {
        return TORC_PLACEMENT_DOWN;
    }
    if (since_ns != 0 && now_ns < gone_ns) {
        leader->gone_at_ns = torc_min_u64(leader->gone_at_ns, gone_ns);
        return node->down ? TORC_PLACEMENT_DOWN : TORC_PLACEMENT_UP;
    }
    if (!node->down) {
        return TORC_PLACEMENT_UP;
    }
    // Who only has not shown itself loses nothing (the survey may be behind). With nothing it
    // has no part in the ring, as for the leader that gave it up: what others have stays as it is.
    return (since_ns != 0 ? most_are_up : !wished) ? TORC_PLACEMENT_DRAINING : TORC_PLACEMENT_DOWN;
}

static bool read_same(const struct torc_placement_node *a, const struct torc_placement_node *b)
{
    return a->member.capacity == b->member.capacity && a->member.node == b->member.node &&
           a->member.domain == b->member.domain && a->member.slot == b->member.slot &&
           a->state == b->state;
}

// The nodes as placement sees them. True: they are not what they were.
static bool read_table(struct torc_leader *leader, uint64_t now_ns)
{
    bool changed = leader->table_count != leader->node_count;
    bool wished[TORC_PLACEMENT_IDS];
    uint32_t up = 0;

    read_wished(leader, wished);
    leader->gone_at_ns = UINT64_MAX;
    for (uint32_t i = 0; i < leader->node_count; i++) {
        up += leader->nodes[i].down ? 0 : 1;
    }
    for (uint32_t i = 0; i < leader->node_count; i++) {
        const struct torc_leader_node *node = &leader->nodes[i];
        struct torc_placement_node entry = {
            .member = {.capacity = node->capacity,
                       .node = node->node,
                       .domain = node->zone,
                       .slot = (uint16_t)(node->slot - 1)},
            .state =
                read_state(leader, now_ns, node, 2 * up > leader->node_count, wished[node->node])};

        changed = changed || !read_same(&entry, &leader->table[i]);
        leader->table[i] = entry;
    }
    leader->table_count = leader->node_count;
    return changed;
}

static void read_plan(struct torc_leader *leader)
{
    struct torc_placement_result result;

    if (torc_placement_nodes(leader->config.placement, leader->table, leader->table_count,
                             leader->config.replicas, &leader->why) != TORC_ERR_OK) {
        leader->table_count = 0; // looked at again as if new
        return;
    }
    torc_placement_plan(leader->config.placement, leader->config.shards, leader->shard_count,
                        &result);
    leader->planned = true;
    leader->cursor = 0;
    leader->counters.plans++;
    leader->counters.moves += result.arrived;
}

// A node whose record was deleted and made anew is another one.
static void read_forget(struct torc_leader *leader)
{
    for (uint32_t id = 0; id < TORC_PLACEMENT_IDS; id++) {
        if (!leader->down[id].listed) {
            leader->down[id] = (struct torc_leader_down){0};
        }
        leader->down[id].listed = false;
    }
}

void torc_leader_take_nodes(struct torc_leader *leader, uint64_t now_ns,
                            const struct torc_meta_answer *answer)
{
    bool changed;

    torc_assert(answer->record_count <= TORC_PLACEMENT_IDS);
    leader->node_count = 0;
    for (uint32_t i = 0; i < answer->record_count; i++) {
        if (!read_node(leader, now_ns, &answer->records[i], &leader->nodes[i])) {
            return;
        }
        leader->node_count++;
    }
    read_forget(leader);
    if (torc_leader_place(leader, now_ns, answer)) {
        return; // then they are read again
    }
    changed = read_table(leader, now_ns);
    if (changed || !leader->planned) {
        read_plan(leader);
    }
    if (leader->why.err == TORC_ERR_OK) {
        leader->stage = TORC_LEADER_WRITES;
    }
}
