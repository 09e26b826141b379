// Torc storage: the records of the last while, in memory, for replicas that lack them.
//
// What    a copy of each record that a shared shard's log took, by shard and LSN, until newer ones
//         of the core's shards need the room. A primary ships from here; a record that is not here
//         any more may still be pending (torc_shard_pending_at), or on the disk.
// Owner   one core: all its shared shards.
// Memory  the caller's, torc_shipped_bytes(): values in a ring of value_bytes, 120 B a record,
//         a table. The oldest go first, whose ever they are.
// Invariants
//   Y1  of an open shard all records above its floor, up to the last kept, are here.
//   Y2  records and values leave in the order they came.
#ifndef TORC_STORAGE_SHIPPED_H
#define TORC_STORAGE_SHIPPED_H

#include "storage/log_format.h"

struct torc_shipped_config {
    uint64_t value_bytes; // of the ring of values, at least 4096
    uint32_t record_max;
    uint32_t shard_max; // open at once
};

struct torc_shipped_record; // shipped.c: a record that is here
struct torc_shipped_shard;  // shipped.c: an open shard

// Places in the rings are numbers that only rise.
struct torc_shipped {
    struct torc_shipped_record *records;
    struct torc_shipped_shard *shards;
    uint32_t *record_table; // hash of (shard, LSN) to places in records
    uint32_t *shard_table;  // hash of shard ids to places in shards
    unsigned char *values;
    uint64_t value_bytes;
    uint64_t value_first; // oldest byte that a record holds
    uint64_t value_next;
    uint64_t record_first;
    uint64_t record_next;
    uint32_t record_max;
    uint32_t record_mask; // of the table
    uint32_t shard_max;
    uint32_t shard_mask;
    uint32_t shard_count;
    uint32_t shard_fresh;
    uint32_t shard_free;
};

uint64_t torc_shipped_bytes(const struct torc_shipped_config *config);

// `memory` is aligned to 64.
void torc_shipped_init(struct torc_shipped *shipped, void *memory,
                       const struct torc_shipped_config *config);

// The shard's records above `floor_lsn` are kept from here on. Open already: what is here of it is
// forgotten. (No more than shard_max are open.)
void torc_shipped_open(struct torc_shipped *shipped, uint32_t shard, uint64_t floor_lsn);

void torc_shipped_close(struct torc_shipped *shipped, uint32_t shard);

// The next record of an open shard's log: a copy is kept. Nothing is kept of MOVED, of a record
// that is here already (logged again, torc_shard_begin), and of a shard that is not open.
void torc_shipped_keep(struct torc_shipped *shipped, const struct torc_log_record *record);

// The records above `lsn` never were (torc_shard_cut).
void torc_shipped_cut(struct torc_shipped *shipped, uint32_t shard, uint64_t lsn);

// False: it is not here. The value is good until something is kept.
bool torc_must_use torc_shipped_get(const struct torc_shipped *shipped, uint32_t shard,
                                    uint64_t lsn, struct torc_log_record *record);

// Y1: of an open shard.
uint64_t torc_shipped_floor(const struct torc_shipped *shipped, uint32_t shard);

// Walks the tables and Y1; CORRUPT and the text says what. For tests.
enum torc_err torc_must_use torc_shipped_check(const struct torc_shipped *shipped,
                                               struct torc_fail *why);

#endif
