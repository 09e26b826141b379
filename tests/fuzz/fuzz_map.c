// Torc tests: any sequence of map entries, as a hostile server could send them: the table stays
// sorted without overlaps (M1 of wire/map.h) and never grows beyond its room.
#include "tests/fuzz/mutate.h"
#include "wire/map.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    ROOM = 32,
    ENTRY_BYTES = 6
};

static void check_sorted(const struct torc_map *map)
{
    uint64_t end = 0;

    torc_assert(map->count <= map->room);
    for (uint32_t i = 0; i < map->count; i++) {
        torc_assert(map->entries[i].lo >= end);
        torc_assert(map->entries[i].lo < map->entries[i].hi);
        end = map->entries[i].hi;
    }
}

// Keys at both ends of 64 bits and in the middle.
static uint64_t key_of(uint8_t high, uint8_t low)
{
    return high == 3 ? UINT64_MAX - low : (uint64_t)high << 62 | low;
}

static void put(struct torc_map *map, const uint8_t *bytes)
{
    struct torc_map_entry entry = {.lo = key_of(bytes[0] & 3, bytes[1]),
                                   .hi = key_of(bytes[2] & 3, bytes[3]),
                                   .version = bytes[4] & 7,
                                   .epoch = bytes[5] & 7};
    uint8_t body[TORC_MAP_ENTRY_BYTES_MAX];
    struct torc_map_entry got;
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_MAP_ENTRY, .info = entry.version, .body = body};

    if (entry.lo >= entry.hi) {
        return;
    }
    entry.primary = TORC_MAP_NO_PRIMARY;
    reply.body_bytes = torc_map_entry_body(body, &entry);
    torc_assert(torc_map_entry_decode(&got, &reply, NULL) == TORC_ERR_OK);
    if (torc_map_put(map, &got) == TORC_ERR_OK) {
        const struct torc_map_entry *found = torc_map_find(map, entry.lo);

        torc_assert(found != NULL);
        torc_assert(found->version >= entry.version || found->epoch > entry.epoch);
    }
    check_sorted(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_map_entry entries[ROOM];
    struct torc_map map;
    struct torc_rng rng = torc_fuzz_rng(data, size);
    uint64_t hole;

    torc_map_init(&map, entries, ROOM);
    for (size_t at = 0; at + ENTRY_BYTES <= size; at += ENTRY_BYTES) {
        put(&map, data + at);
    }
    for (uint32_t i = 0; i < 8; i++) {
        uint8_t bytes[ENTRY_BYTES];

        for (uint32_t byte = 0; byte < ENTRY_BYTES; byte++) {
            bytes[byte] = (uint8_t)torc_rng_next(&rng);
        }
        put(&map, bytes);
    }
    hole = torc_map_hole(&map, 0, UINT64_MAX);
    torc_assert_implies(hole < UINT64_MAX, torc_map_find(&map, hole) == NULL);
    return 0;
}
