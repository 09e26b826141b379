// Torc wire: the shard map; see map.h.
#include "wire/map.h"

#define MAPPED_BYTES 16u

struct map_entry_wire {
    struct torc_le64 lo;
    struct torc_le64 hi;
    struct torc_le32 shard;
    struct torc_le32 epoch;
    uint8_t member_count;
    uint8_t primary;
    uint8_t zero[6];
};

struct map_member_wire {
    struct torc_le32 node;
    uint8_t core;
    uint8_t state;
    struct torc_le16 zero;
};

struct node_entry_wire {
    struct torc_le32 node;
    struct torc_le16 base_port;
    uint8_t cores;
    uint8_t flags;
};

_Static_assert(sizeof(struct map_entry_wire) == TORC_MAP_ENTRY_HEAD_BYTES, "wire format");
_Static_assert(sizeof(struct map_member_wire) == 8, "wire format");
_Static_assert(sizeof(struct node_entry_wire) == TORC_NODE_ENTRY_HEAD_BYTES, "wire format");

uint32_t torc_map_entry_body(unsigned char *body, const struct torc_map_entry *entry)
{
    struct map_entry_wire wire = {.lo = torc_le64(entry->lo),
                                  .hi = torc_le64(entry->hi),
                                  .shard = torc_le32(entry->shard),
                                  .epoch = torc_le32(entry->epoch),
                                  .member_count = entry->member_count,
                                  .primary = entry->primary};

    torc_assert(entry->lo < entry->hi);
    torc_assert(entry->member_count <= TORC_MAP_MEMBERS_MAX);
    memcpy(body, &wire, sizeof(wire));
    for (uint32_t i = 0; i < entry->member_count; i++) {
        struct map_member_wire member = {.node = torc_le32(entry->members[i].node),
                                         .core = entry->members[i].core,
                                         .state = entry->members[i].state};

        memcpy(body + sizeof(wire) + i * sizeof(member), &member, sizeof(member));
    }
    return torc_map_entry_bytes(entry);
}

// Members beyond those that fit here are let go, but never the primary.
static void members_decode(struct torc_map_entry *entry, const unsigned char *bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct map_member_wire wire;
        uint32_t at = entry->member_count;

        memcpy(&wire, bytes + i * sizeof(wire), sizeof(wire));
        if (at == TORC_MAP_MEMBERS_MAX && i != entry->primary) {
            continue;
        }
        if (at == TORC_MAP_MEMBERS_MAX) {
            at = TORC_MAP_MEMBERS_MAX - 1;
            entry->primary = (uint8_t)at;
        }
        entry->members[at] = (struct torc_map_member){
            .node = torc_get_le32(wire.node), .core = wire.core, .state = wire.state};
        entry->member_count = (uint8_t)(at + 1);
    }
}

enum torc_err torc_map_entry_decode(struct torc_map_entry *entry, const struct torc_reply *reply,
                                    struct torc_fail *why)
{
    struct map_entry_wire wire;

    if (reply->opcode != TORC_OPCODE_MAP_ENTRY || reply->body_bytes < sizeof(wire)) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "map entry with a body of %" PRIu32 " bytes",
                         reply->body_bytes);
    }
    memcpy(&wire, reply->body, sizeof(wire));
    *entry = (struct torc_map_entry){.lo = torc_get_le64(wire.lo),
                                     .hi = torc_get_le64(wire.hi),
                                     .version = reply->info,
                                     .shard = torc_get_le32(wire.shard),
                                     .epoch = torc_get_le32(wire.epoch),
                                     .primary = wire.primary};
    if (entry->lo >= entry->hi) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "map entry of shard %" PRIu32 ": [%" PRIu64 ", %" PRIu64 ") is empty",
                         entry->shard, entry->lo, entry->hi);
    }
    if (reply->body_bytes - sizeof(wire) < wire.member_count * sizeof(struct map_member_wire) ||
        (wire.primary != TORC_MAP_NO_PRIMARY && wire.primary >= wire.member_count)) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "map entry of shard %" PRIu32 ": %u members, primary %u, in %" PRIu32
                         " bytes",
                         entry->shard, wire.member_count, wire.primary, reply->body_bytes);
    }
    members_decode(entry, reply->body + sizeof(wire), wire.member_count);
    return TORC_ERR_OK;
}

// -- Nodes ---------------------------------------------------------------------------------------

uint32_t torc_node_entry_body(unsigned char *body, const struct torc_node_entry *entry)
{
    struct node_entry_wire wire = {.node = torc_le32(entry->node),
                                   .base_port = torc_le16(entry->base_port),
                                   .cores = entry->cores,
                                   .flags = entry->flags};

    torc_assert(entry->cores >= 1);
    torc_assert(entry->address_count >= 1);
    torc_assert(entry->address_count <= TORC_NODE_ADDRESSES_MAX);
    memcpy(body, &wire, sizeof(wire));
    memcpy(body + sizeof(wire), entry->addresses, (size_t)entry->address_count * MAPPED_BYTES);
    return (uint32_t)sizeof(wire) + entry->address_count * MAPPED_BYTES;
}

enum torc_err torc_node_entry_decode(struct torc_node_entry *entry, const struct torc_reply *reply,
                                     struct torc_fail *why)
{
    struct node_entry_wire wire;

    if (reply->opcode != TORC_OPCODE_NODE_ENTRY ||
        reply->body_bytes < sizeof(wire) + MAPPED_BYTES) {
        return torc_fail(why, TORC_ERR_BAD_PACKET, "node entry with a body of %" PRIu32 " bytes",
                         reply->body_bytes);
    }
    memcpy(&wire, reply->body, sizeof(wire));
    *entry = (struct torc_node_entry){
        .node = torc_get_le32(wire.node),
        .base_port = torc_get_le16(wire.base_port),
        .cores = wire.cores,
        .flags = wire.flags,
        .address_count = (reply->body_bytes - (uint32_t)sizeof(wire)) / MAPPED_BYTES,
        .addresses = reply->body + sizeof(wire),
    };
    if (entry->cores == 0 || entry->base_port == 0 ||
        entry->base_port > UINT16_MAX - entry->cores + 1) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "node entry of node %" PRIu32 ": %u cores from port %u", entry->node,
                         entry->cores, entry->base_port);
    }
    if ((entry->flags & TORC_NODE_ADDRESS_BY_CORE) != 0 && entry->address_count < entry->cores) {
        return torc_fail(why, TORC_ERR_BAD_PACKET,
                         "node entry of node %" PRIu32 ": %" PRIu32 " addresses for %u cores",
                         entry->node, entry->address_count, entry->cores);
    }
    return TORC_ERR_OK;
}

// -- The table -----------------------------------------------------------------------------------

void torc_map_init(struct torc_map *map, struct torc_map_entry *entries, uint32_t room)
{
    torc_assert(room > 0);
    *map = (struct torc_map){.entries = entries, .room = room};
}

uint32_t torc_map_from(const struct torc_map *map, uint64_t key)
{
    uint32_t first = 0;
    uint32_t left = map->count;

    // Without a branch that could be guessed wrongly: a client asks for each of its keys.
    while (left > 1) {
        uint32_t half = left / 2;

        first += map->entries[first + half - 1].hi <= key ? half : 0;
        left -= half;
    }
    return first + (left == 1 && map->entries[first].hi <= key ? 1 : 0);
}

const struct torc_map_entry *torc_map_find(const struct torc_map *map, uint64_t key)
{
    uint32_t at = torc_map_from(map, key);

    return at < map->count && map->entries[at].lo <= key ? &map->entries[at] : NULL;
}

static bool map_is_newer(const struct torc_map_entry *a, const struct torc_map_entry *b)
{
    if (a->shard == b->shard && a->epoch != b->epoch) {
        return a->epoch > b->epoch;
    }
    return a->version != b->version ? a->version > b->version : a->epoch > b->epoch;
}

// M3.
static void map_keep_cores(const struct torc_map *map, struct torc_map_entry *entry)
{
    const struct torc_map_entry *old = torc_map_find(map, entry->lo);

    if (old == NULL || old->shard != entry->shard || old->version != entry->version ||
        old->epoch != entry->epoch) {
        return;
    }
    for (uint32_t i = 0; i < entry->member_count && i < old->member_count; i++) {
        if (entry->members[i].core == TORC_MAP_CORE_UNKNOWN &&
            entry->members[i].node == old->members[i].node) {
            entry->members[i].core = old->members[i].core;
        }
    }
}

// [first, end) of the table: what [lo, hi), where nothing newer lies, is put over.
struct map_cover {
    uint32_t first;
    uint32_t end;
    bool left; // the first one, or the last one, goes on outside
    bool right;
};

static struct map_cover map_cover(const struct torc_map *map, uint64_t lo, uint64_t hi)
{
    struct map_cover cover = {.first = torc_map_from(map, lo)};

    for (cover.end = cover.first; cover.end < map->count && map->entries[cover.end].lo < hi;) {
        cover.end++;
    }
    if (cover.first < cover.end) {
        cover.left = map->entries[cover.first].lo < lo;
        cover.right = map->entries[cover.end - 1].hi > hi;
    }
    return cover;
}

// Entries of a table of `count` once one was put over that.
static uint32_t map_count_after(uint32_t count, const struct map_cover *cover)
{
    return count - (cover->end - cover->first) + 1 + (cover->left ? 1 : 0) + (cover->right ? 1 : 0);
}

// Puts `entry` where only older entries lie: [lo, hi) of it.
static void map_place(struct torc_map *map, const struct torc_map_entry *entry, uint64_t lo,
                      uint64_t hi)
{
    struct map_cover cover = map_cover(map, lo, hi);
    uint32_t count = map_count_after(map->count, &cover);
    uint32_t at = cover.first + (cover.left ? 1 : 0);
    struct torc_map_entry right = {0};

    torc_assert(count <= map->room);
    if (cover.right) {
        right = map->entries[cover.end - 1];
        right.lo = hi;
    }
    memmove(&map->entries[at + 1 + (cover.right ? 1 : 0)], &map->entries[cover.end],
            (map->count - cover.end) * sizeof(map->entries[0]));
    map->count = count;
    if (cover.left) {
        map->entries[cover.first].hi = lo;
    }
    map->entries[at] = *entry;
    map->entries[at].lo = lo;
    map->entries[at].hi = hi;
    if (cover.right) {
        map->entries[at + 1] = right;
    }
}

// The next part of `entry`, from *lo on, where nothing newer lies: [*lo, *hi), which may be empty.
// Where to look for the one after it.
static uint64_t map_part(const struct torc_map *map, const struct torc_map_entry *entry,
                         uint64_t lo, uint64_t *hi)
{
    *hi = entry->hi;
    for (uint32_t at = torc_map_from(map, lo); at < map->count && map->entries[at].lo < entry->hi;
         at++) {
        if (map_is_newer(&map->entries[at], entry)) {
            *hi = torc_max_u64(map->entries[at].lo, lo);
            return torc_min_u64(map->entries[at].hi, entry->hi);
        }
    }
    return entry->hi;
}

// Whether there is room for what a put adds, part after part: most replace as much as they bring.
static bool map_has_room(const struct torc_map *map, const struct torc_map_entry *entry)
{
    uint32_t count = map->count;
    uint64_t hi;

    for (uint64_t lo = entry->lo; lo < entry->hi && count <= map->room;) {
        uint64_t next = map_part(map, entry, lo, &hi);

        if (lo < hi) {
            struct map_cover cover = map_cover(map, lo, hi);

            count = map_count_after(count, &cover);
        }
        lo = next;
    }
    return count <= map->room;
}

enum torc_err torc_map_put(struct torc_map *map, const struct torc_map_entry *fresh)
{
    struct torc_map_entry whole = *fresh;
    const struct torc_map_entry *entry = &whole;
    uint64_t hi;

    torc_assert(entry->lo < entry->hi);
    map_keep_cores(map, &whole);
    if (!map_has_room(map, entry)) {
        return TORC_ERR_LIMIT;
    }
    map->version = torc_max_u64(map->version, entry->version);
    for (uint64_t lo = entry->lo; lo < entry->hi;) {
        uint64_t next = map_part(map, entry, lo, &hi);

        if (lo < hi) {
            map_place(map, entry, lo, hi);
        }
        lo = next;
    }
    return TORC_ERR_OK;
}

uint64_t torc_map_hole(const struct torc_map *map, uint64_t lo, uint64_t hi)
{
    uint32_t at;

    for (at = torc_map_from(map, lo); at < map->count && lo < hi; at++) {
        if (map->entries[at].lo > lo) {
            return lo;
        }
        lo = map->entries[at].hi;
    }
    return torc_min_u64(lo, hi);
}
