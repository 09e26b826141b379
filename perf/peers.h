// Torc perf: ordered maps from Debian's packages, behind one interface, for perf/tree-bench.
//
// What    absl::btree_map, std::map (peers_cxx.cc), LMDB, JudyL (peers_os.c): 64-bit keys, values
//         of 16 bytes that follow from the key. Sums of what was read are returned, so that nothing
//         is optimised away and every map's answers can be compared with Torc's.
// Owner   one thread.  Memory  the map's own.
#ifndef TORC_PERF_PEERS_H
#define TORC_PERF_PEERS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// 16 bytes.
struct peer_value {
    uint64_t words[2];
};

static inline struct peer_value peer_value_of(uint64_t key)
{
    struct peer_value value = {{key * UINT64_C(0x9e3779b97f4a7c15), ~key}};

    return value;
}

struct peer {
    const char *name;
    void *(*open)(uint64_t key_count); // NULL: it cannot run here
    void (*insert)(void *self, const uint64_t *keys, uint64_t count);
    // The sum of the first words found. Independent lookups; and each key known only when the value
    // of the one before is: `zero` is 0, which the compiler does not know.
    uint64_t (*lookup)(void *self, const uint64_t *keys, uint64_t count);
    uint64_t (*chase)(void *self, const uint64_t *keys, uint64_t count, uint64_t zero);
    // `length` pairs from each key on, upwards and downwards: the sum of keys and first words.
    uint64_t (*scan)(void *self, const uint64_t *keys, uint64_t count, uint64_t length);
    uint64_t (*scan_back)(void *self, const uint64_t *keys, uint64_t count, uint64_t length);
    void (*close)(void *self);
};

extern const struct peer peer_absl;
extern const struct peer peer_std;
extern const struct peer peer_lmdb;
extern const struct peer peer_judy;

#ifdef __cplusplus
}
#endif

#endif
