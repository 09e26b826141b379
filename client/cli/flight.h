// Torc cli: which keys are being written, and for which line of the file.
//
// What    writes in flight have no order among them; two lines with one key must not be in flight
//         together, or the earlier could win. A small table of the keys in flight; and, as they end
//         in any order, the lowest line that failed.
// Owner   `torc load`, its one thread.
// Memory  inside the struct, for TORC_FLIGHT_MAX operations.
#ifndef TORC_CLIENT_CLI_FLIGHT_H
#define TORC_CLIENT_CLI_FLIGHT_H

#include "kit/fail.h"

#define TORC_FLIGHT_MAX     4096
#define TORC_FLIGHT_BUCKETS 8192 // a power of two

struct torc_flight_slot {
    uint64_t key;
    uint64_t line;
    uint32_t next; // in the bucket's chain, or in the free list; index + 1, 0: none
    bool busy;
};

struct torc_flight {
    uint32_t count;
    uint64_t failed_line; // the lowest one whose write failed; of meaning when `failed` is not OK
    enum torc_err failed; // why; or of another line, when that one's write may have been applied
    uint64_t doubt_line;  // the lowest one of those; 0: none
    uint32_t free_slot;   // index + 1
    uint32_t buckets[TORC_FLIGHT_BUCKETS]; // index + 1
    struct torc_flight_slot slots[TORC_FLIGHT_MAX];
};

void torc_flight_init(struct torc_flight *flight);

// True when a write of `key` is in flight.
bool torc_flight_has(const struct torc_flight *flight, uint64_t key);

// Notes one, whose key is not in flight; at most TORC_FLIGHT_MAX. Returns its slot.
uint32_t torc_flight_add(struct torc_flight *flight, uint64_t key, uint64_t line);

// The write at `slot` failed. True when no lower line has: what is said of this one is the answer.
bool torc_flight_fail(struct torc_flight *flight, uint32_t slot, enum torc_err err);

// It ended.
void torc_flight_remove(struct torc_flight *flight, uint32_t slot);

#endif
