// Torc control: what placement's leader writes. See control/leader.h.
#include "control/leader_impl.h"

#include <string.h>

// -- Wishes --------------------------------------------------------------------------------------

// The first of a list is the wished primary, whether it is up or not: a node that was restarted
// gets its primaries back without a word from here.
static bool write_is_due(const struct torc_leader *leader, uint32_t place)
{
    const struct torc_placement_shard *shard = &leader->config.shards[place];
    const struct torc_leader_want *written = &leader->config.written[place];

    return shard->count > 0 &&
           (written->count != shard->count || written->primary != shard->nodes[0] ||
            memcmp(written->nodes, shard->nodes, shard->count * sizeof(shard->nodes[0])) != 0);
}

static bool write_want(struct torc_leader *leader, uint32_t place)
{
    const struct torc_placement_shard *shard = &leader->config.shards[place];
    struct torc_want_fields fields = {.nodes.count = shard->count,
                                      .primary = shard->nodes[0],
                                      .nonce = torc_leader_nonce(leader)};
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_op op = {.kind = TORC_META_PUT, .value = text, .expected = TORC_META_ANY};

    for (uint32_t i = 0; i < shard->count; i++) {
        fields.nodes.at[i] = shard->nodes[i];
    }
    op.value_bytes = torc_record_encode(TORC_RECORD_WANT, &fields, text);
    return torc_leader_add(leader, "want", shard->shard, &op);
}

bool torc_leader_fill(struct torc_leader *leader, uint64_t now_ns)
{
    while (leader->cursor < leader->shard_count && !write_is_due(leader, leader->cursor)) {
        leader->cursor++;
    }
    if (leader->cursor == leader->shard_count) {
        return false;
    }
    torc_leader_begin(leader, now_ns, TORC_LEADER_WISH);
    while (leader->cursor < leader->shard_count && leader->batch_count < leader->batch_max) {
        if (write_is_due(leader, leader->cursor)) {
            if (!write_want(leader, leader->cursor)) {
                break; // no room
            }
            leader->places[leader->batch_count++] = leader->cursor;
        }
        leader->cursor++;
    }
    torc_assert(leader->batch_count > 0);
    return true;
}

void torc_leader_written(struct torc_leader *leader)
{
    for (uint32_t i = 0; i < leader->batch_count; i++) {
        const struct torc_placement_shard *shard = &leader->config.shards[leader->places[i]];
        struct torc_leader_want *written = &leader->config.written[leader->places[i]];

        memcpy(written->nodes, shard->nodes, sizeof(written->nodes));
        written->primary = shard->nodes[0];
        written->count = shard->count;
    }
    leader->counters.wants += leader->batch_count;
}

void torc_leader_tidy(struct torc_leader *leader, uint64_t now_ns, const uint64_t *shards,
                      uint32_t shard_count)
{
    static const struct torc_meta_op op = {.kind = TORC_META_DELETE, .expected = TORC_META_ANY};

    torc_leader_begin(leader, now_ns, TORC_LEADER_TIDY);
    for (uint32_t i = 0; i < shard_count; i++) {
        bool fits = torc_leader_add(leader, "want", shards[i], &op);

        torc_assert(fits);
    }
    torc_leader_send(leader);
}

// -- Places on the ring --------------------------------------------------------------------------

// The number of the domain: that of another node in it, or the smallest that none has. 0: it has no
// domain, or there are too many.
static uint16_t write_zone(const struct torc_leader *leader, const struct torc_leader_node *node)
{
    uint64_t taken[(TORC_RECORD_ZONE_MAX + 1) / 64] = {1};

    for (uint32_t i = 0; i < leader->node_count && node->domain != 0; i++) {
        const struct torc_leader_node *other = &leader->nodes[i];

        if (other->slot != 0 && other->zone != 0 && other->domain == node->domain) {
            return other->zone;
        }
        taken[other->zone / 64] |= other->slot != 0 ? UINT64_C(1) << other->zone % 64 : 0;
    }
    for (uint32_t word = 0; word < TORC_COUNT_OF(taken) && node->domain != 0; word++) {
        if (~taken[word] != 0) {
            return (uint16_t)(word * 64 + (uint32_t)__builtin_ctzll(~taken[word]));
        }
    }
    return 0;
}

static uint16_t write_slot(const struct torc_leader *leader, uint16_t zone)
{
    struct torc_ring_member members[TORC_PLACEMENT_IDS];
    uint32_t count = 0;

    for (uint32_t i = 0; i < leader->node_count; i++) {
        const struct torc_leader_node *node = &leader->nodes[i];

        if (node->slot != 0) {
            members[count++] = (struct torc_ring_member){
                .node = node->node, .domain = node->zone, .slot = (uint16_t)(node->slot - 1)};
        }
    }
    return (uint16_t)(torc_ring_free_slot(members, count, zone) + 1);
}

// Gives one node its place, in memory and in the transaction. False: there is no room for it.
static bool write_place(struct torc_leader *leader, struct torc_leader_node *node,
                        const struct torc_meta_record *record)
{
    struct torc_node_fields fields;
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_op op = {.kind = TORC_META_PUT, .value = text, .expected = record->version};

    if (leader->batch_count == TORC_LEADER_SLOTS_MAX) {
        return false;
    }
    if (torc_record_decode(TORC_RECORD_NODE, &fields, record->value, record->value_bytes, NULL) !=
        TORC_ERR_OK) {
        torc_unreachable("it was read a moment ago");
    }
    node->zone = write_zone(leader, node);
    node->slot = write_slot(leader, node->zone);
    fields.zone = node->zone;
    fields.slot = node->slot;
    fields.nonce = torc_leader_nonce(leader);
    op.value_bytes = torc_record_encode(TORC_RECORD_NODE, &fields, text);
    leader->batch_count++;
    return torc_leader_add(leader, "node", node->node, &op);
}

bool torc_leader_place(struct torc_leader *leader, uint64_t now_ns,
                       const struct torc_meta_answer *answer)
{
    bool begun = false;
    bool room = true;

    for (uint32_t i = 0; i < leader->node_count && room; i++) {
        if (leader->nodes[i].slot == 0) {
            if (!begun) {
                torc_leader_begin(leader, now_ns, TORC_LEADER_PLACE);
                begun = true;
            }
            room = write_place(leader, &leader->nodes[i], &answer->records[i]);
        }
    }
    if (begun) { // those that had no room come when these have their places
        torc_leader_send(leader);
    }
    return begun;
}
