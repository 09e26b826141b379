// Torc perf: the maps of C++. See perf/peers.h.
#include "perf/peers.h"

#include <absl/container/btree_map.h>
#include <map>

namespace
{

template <typename Map> void *map_open(uint64_t)
{
    return new Map();
}

template <typename Map> void map_insert(void *self, const uint64_t *keys, uint64_t count)
{
    Map &map = *static_cast<Map *>(self);

    for (uint64_t i = 0; i < count; i++) {
        map.insert_or_assign(keys[i], peer_value_of(keys[i]));
    }
}

template <typename Map> uint64_t map_lookup(void *self, const uint64_t *keys, uint64_t count)
{
    const Map &map = *static_cast<Map *>(self);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        auto found = map.find(keys[i]);

        sum += found == map.end() ? 0 : found->second.words[0];
    }
    return sum;
}

template <typename Map>
uint64_t map_chase(void *self, const uint64_t *keys, uint64_t count, uint64_t zero)
{
    const Map &map = *static_cast<Map *>(self);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        auto found = map.find(keys[i] + (sum & zero));

        sum += found == map.end() ? 0 : found->second.words[0];
    }
    return sum;
}

template <typename Map>
uint64_t map_scan(void *self, const uint64_t *keys, uint64_t count, uint64_t length)
{
    const Map &map = *static_cast<Map *>(self);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t left = length;

        for (auto at = map.lower_bound(keys[i]); left > 0 && at != map.end(); ++at, left--) {
            sum += at->first + at->second.words[0];
        }
    }
    return sum;
}

template <typename Map>
uint64_t map_scan_back(void *self, const uint64_t *keys, uint64_t count, uint64_t length)
{
    const Map &map = *static_cast<Map *>(self);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t left = length;

        for (auto at = map.upper_bound(keys[i]); left > 0 && at != map.begin(); left--) {
            --at;
            sum += at->first + at->second.words[0];
        }
    }
    return sum;
}

template <typename Map> void map_close(void *self)
{
    delete static_cast<Map *>(self);
}

template <typename Map> constexpr peer map_peer(const char *name)
{
    return {name,           map_open<Map>, map_insert<Map>,    map_lookup<Map>,
            map_chase<Map>, map_scan<Map>, map_scan_back<Map>, map_close<Map>};
}

} // namespace

const peer peer_absl = map_peer<absl::btree_map<uint64_t, peer_value>>("absl::btree_map");
const peer peer_std = map_peer<std::map<uint64_t, peer_value>>("std::map");
