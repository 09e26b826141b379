// Torc perf: which record an operation names, and which key a record has.
//
// What    records are numbered from 0. A record's key is spread over [0, M) in an order that
//         looks random (or in rising order), one key a record. Distributions choose among the
//         records that are there: uniform, Zipf, latest (Zipf over age), sequential (round robin).
// Owner   one load generator. Pure: randomness is an argument.
// Memory  the struct.
// Bounds  at most TORC_KEYS_RECORDS_MAX records, later inserts included.
// Sources Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (SoCC 2010); Gray et al.,
//         "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994), for the Zipf draw.
#ifndef TORC_PERF_KEYS_H
#define TORC_PERF_KEYS_H

#include "kit/rng.h"

#define TORC_KEYS_RECORDS_MAX (UINT64_C(1) << 31) // so that products stay in 64 bits
#define TORC_KEYS_OPEN_MAX    65536u              // inserts in flight

// X(NAME, text)
#define TORC_KEYS_ORDER_TABLE(X) \
    X(UNIFORM, "uniform")        \
    X(ZIPF, "zipf")              \
    X(LATEST, "latest")          \
    X(SEQUENTIAL, "sequential")

enum torc_keys_order {
#define X(name, text) TORC_KEYS_##name,
    TORC_KEYS_ORDER_TABLE(X)
#undef X
    TORC_KEYS_ORDER_COUNT
};

struct torc_keys {
    enum torc_keys_order order;
    bool rising;         // record i has the i-th smallest key
    uint64_t capacity;   // records that have a key, inserts to come included
    uint64_t stride;     // from one key to the next larger one
    uint64_t multiplier; // coprime with capacity: scatters records over the keys
    uint64_t loaded;     // records at the start
    uint64_t allocated;  // given out to inserts so far
    uint64_t settled;    // all below are acknowledged
    uint64_t next;       // SEQUENTIAL
    double theta;        // Zipf's exponent, 0 < theta < 1
    double zeta;         // sum over 1/i^theta of the loaded records
    double eta;
    uint64_t acknowledged[TORC_KEYS_OPEN_MAX / 64]; // by record modulo TORC_KEYS_OPEN_MAX
};

// `key_count` is M; records <= key_count. Room for `inserts` more, as far as M goes: two
// runs have the same keys only with the same room.
void torc_keys_init(struct torc_keys *keys, enum torc_keys_order order, uint64_t records,
                    uint64_t inserts, uint64_t key_count, double theta);

// The key of a record.
uint64_t torc_keys_key(const struct torc_keys *keys, uint64_t record);

// A record that is there.
uint64_t torc_keys_pick(struct torc_keys *keys, struct torc_rng *rng);

// A record to insert; false when there is no room or too many are in flight.
bool torc_must_use torc_keys_insert(struct torc_keys *keys, uint64_t *record);

// It is there now.
void torc_keys_inserted(struct torc_keys *keys, uint64_t record);

#endif
