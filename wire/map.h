// Torc wire: the shard map: bytes of its entries, and which shard a key is in.
//
// What    MAP_ENTRY and NODE_ENTRY replies, encoded and decoded; a sorted table of entries with
//         lookup, and the rule by which a newer entry replaces older ones.
// Owner   whoever holds the table: a worker its copy of control's, a client's thread its own.
// Memory  an array of the caller's.
// Invariants
//   M1  entries are sorted by lo and do not overlap; each is not empty.
//   M2  a key's entry is never replaced by one of its shard with a lower epoch, nor, at the same
//       epoch or from another shard, by one of a lower version.
//   M3  a core that was known in a version and epoch is not forgotten for one of both that names
//       none: each node knows its own cores.
// Sources docs/PROTOCOL.md, section 8; REPLICATION.md, section 3.
#ifndef TORC_WIRE_MAP_H
#define TORC_WIRE_MAP_H

#include "wire/op.h"

#define TORC_MAP_MEMBERS_MAX  7u
#define TORC_MAP_CORE_UNKNOWN 255u
#define TORC_MAP_NO_PRIMARY   255u

enum torc_map_state {
    TORC_MAP_IN_SYNC = 1,
    TORC_MAP_LEARNER = 2
};

struct torc_map_member {
    uint32_t node;
    uint8_t core;  // TORC_MAP_CORE_UNKNOWN: send to any, the owner's WRONG_SHARD names it
    uint8_t state; // enum torc_map_state
    uint16_t zero;
};

struct torc_map_entry {
    uint64_t lo;
    uint64_t hi; // exclusive
    uint64_t version;
    uint32_t shard;
    uint32_t epoch;
    uint8_t member_count;
    uint8_t primary; // index into members, or TORC_MAP_NO_PRIMARY
    uint8_t zero[6];
    struct torc_map_member members[TORC_MAP_MEMBERS_MAX];
};

#define TORC_MAP_ENTRY_HEAD_BYTES  32u
#define TORC_MAP_ENTRY_BYTES_MAX   (TORC_MAP_ENTRY_HEAD_BYTES + 8u * TORC_MAP_MEMBERS_MAX)
#define TORC_NODE_ENTRY_HEAD_BYTES 8u

// Bytes of an entry's body.
static inline uint32_t torc_map_entry_bytes(const struct torc_map_entry *entry)
{
    return TORC_MAP_ENTRY_HEAD_BYTES + 8u * entry->member_count;
}

// Writes the body of an F1 reply (info = entry->version). Its bytes.
uint32_t torc_map_entry_body(unsigned char *body, const struct torc_map_entry *entry);

// From an F1 reply. BAD_PACKET names what is wrong.
enum torc_err torc_must_use torc_map_entry_decode(struct torc_map_entry *entry,
                                                  const struct torc_reply *reply,
                                                  struct torc_fail *why);

// -- Nodes ---------------------------------------------------------------------------------------

#define TORC_NODE_ADDRESSES_MAX   255u
#define TORC_NODE_ADDRESS_BY_CORE 1u // flag: address i belongs to core i

struct torc_node_entry {
    uint32_t node;
    uint16_t base_port;
    uint8_t cores; // 1 .. 255
    uint8_t flags;
    uint32_t address_count;         // >= 1
    const unsigned char *addresses; // 16 bytes each, IPv4 mapped
};

uint32_t torc_node_entry_body(unsigned char *body, const struct torc_node_entry *entry);

enum torc_err torc_must_use torc_node_entry_decode(struct torc_node_entry *entry,
                                                   const struct torc_reply *reply,
                                                   struct torc_fail *why);

// -- The table -----------------------------------------------------------------------------------

struct torc_map {
    struct torc_map_entry *entries; // the caller's
    uint32_t room;
    uint32_t count;
    uint64_t version; // highest seen
};

void torc_map_init(struct torc_map *map, struct torc_map_entry *entries, uint32_t room);

// The entry that holds `key`, or NULL.
const struct torc_map_entry *torc_map_find(const struct torc_map *map, uint64_t key);

// Index of the first entry with hi > key, or map->count: for walking over a range.
uint32_t torc_map_from(const struct torc_map *map, uint64_t key);

// Takes a newer entry in: older ones lose what it covers (one may be cut in two). LIMIT: no room,
// nothing changed. An entry that is not newer everywhere wins only where it is newer; where it is
// as old or older, nothing changes.
enum torc_err torc_must_use torc_map_put(struct torc_map *map, const struct torc_map_entry *fresh);

// The first key of [lo, hi) that no entry covers, or hi: what to ask for next.
uint64_t torc_map_hole(const struct torc_map *map, uint64_t lo, uint64_t hi);

#endif
