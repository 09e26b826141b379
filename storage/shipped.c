// Torc storage: records kept for other replicas. See storage/shipped.h.
#include "storage/shipped.h"

#include <string.h>

#define NONE        UINT32_MAX
#define ALIGN_BYTES 64u
#define VALUE_ALIGN 8u

struct torc_shipped_record {
    struct torc_log_record record; // value: where it is looked up
    uint64_t value_place;          // of the first byte
    uint32_t hash_next;
    uint32_t shard; // place in shards; NONE: cut, or its shard was closed
};

struct torc_shipped_shard {
    uint32_t shard;
    uint32_t hash_next; // or of the free list
    uint64_t floor_lsn;
    uint64_t last_lsn;
};

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static uint32_t table_size(uint32_t count)
{
    uint32_t size = 64;

    while (size < count) {
        size *= 2;
    }
    return size;
}

uint64_t torc_shipped_bytes(const struct torc_shipped_config *config)
{
    return align_up((uint64_t)config->record_max * sizeof(struct torc_shipped_record)) +
           align_up((uint64_t)config->shard_max * sizeof(struct torc_shipped_shard)) +
           align_up((uint64_t)table_size(config->record_max) * sizeof(uint32_t)) +
           align_up((uint64_t)table_size(config->shard_max) * sizeof(uint32_t)) +
           align_up(config->value_bytes);
}

void torc_shipped_init(struct torc_shipped *shipped, void *memory,
                       const struct torc_shipped_config *config)
{
    uint32_t record_places = table_size(config->record_max);
    uint32_t shard_places = table_size(config->shard_max);
    unsigned char *at = memory;

    torc_assert((uintptr_t)memory % ALIGN_BYTES == 0);
    torc_assert(config->value_bytes >= 4096);
    torc_assert(config->record_max > 0);
    *shipped = (struct torc_shipped){.value_bytes = config->value_bytes,
                                     .record_max = config->record_max,
                                     .record_mask = record_places - 1,
                                     .shard_max = config->shard_max,
                                     .shard_mask = shard_places - 1,
                                     .shard_free = NONE};
    shipped->records = (struct torc_shipped_record *)(void *)at;
    at += align_up((uint64_t)config->record_max * sizeof(*shipped->records));
    shipped->shards = (struct torc_shipped_shard *)(void *)at;
    at += align_up((uint64_t)config->shard_max * sizeof(*shipped->shards));
    shipped->record_table = (uint32_t *)(void *)at;
    at += align_up((uint64_t)record_places * sizeof(uint32_t));
    shipped->shard_table = (uint32_t *)(void *)at;
    at += align_up((uint64_t)shard_places * sizeof(uint32_t));
    shipped->values = at;
    memset(shipped->record_table, 0xff, (uint64_t)record_places * sizeof(uint32_t));
    memset(shipped->shard_table, 0xff, (uint64_t)shard_places * sizeof(uint32_t));
}

// -- Shards ---------------------------------------------------------------------------------------

static uint32_t *shard_bucket(const struct torc_shipped *shipped, uint32_t shard)
{
    return &shipped->shard_table[(shard * 0x9e3779b1u >> 7) & shipped->shard_mask];
}

static uint32_t shard_find(const struct torc_shipped *shipped, uint32_t shard)
{
    uint32_t index = *shard_bucket(shipped, shard);

    while (index != NONE && shipped->shards[index].shard != shard) {
        index = shipped->shards[index].hash_next;
    }
    return index;
}

// -- Records --------------------------------------------------------------------------------------

// A shard's records lie side by side.
static uint32_t *record_bucket(const struct torc_shipped *shipped, uint32_t shard, uint64_t lsn)
{
    return &shipped->record_table[(shard * 0x9e3779b1u + (uint32_t)lsn) & shipped->record_mask];
}

static struct torc_shipped_record *record_at(const struct torc_shipped *shipped, uint64_t number)
{
    return &shipped->records[number % shipped->record_max];
}

static uint32_t record_find(const struct torc_shipped *shipped, uint32_t shard, uint64_t lsn)
{
    uint32_t index = *record_bucket(shipped, shard, lsn);

    while (index != NONE && (shipped->records[index].record.shard != shard ||
                             shipped->records[index].record.lsn != lsn)) {
        index = shipped->records[index].hash_next;
    }
    return index;
}

static void record_unlink(struct torc_shipped *shipped, uint32_t index)
{
    struct torc_shipped_record *kept = &shipped->records[index];
    uint32_t *link = record_bucket(shipped, kept->record.shard, kept->record.lsn);

    while (*link != index) {
        torc_assert(*link != NONE);
        link = &shipped->records[*link].hash_next;
    }
    *link = kept->hash_next;
    kept->shard = NONE;
}

// The oldest record leaves; its shard's floor rises to it.
static void record_drop(struct torc_shipped *shipped)
{
    struct torc_shipped_record *kept = record_at(shipped, shipped->record_first);

    torc_assert(shipped->record_first < shipped->record_next);
    if (kept->shard != NONE) {
        struct torc_shipped_shard *shard = &shipped->shards[kept->shard];

        shard->floor_lsn = torc_max_u64(shard->floor_lsn, kept->record.lsn); // Y1
        record_unlink(shipped, (uint32_t)(shipped->record_first % shipped->record_max));
    }
    shipped->record_first++;
    shipped->value_first = shipped->record_first == shipped->record_next
                               ? shipped->value_next
                               : record_at(shipped, shipped->record_first)->value_place;
}

// A place for a value that does not go over the ring's end.
static uint64_t value_place(const struct torc_shipped *shipped, uint32_t byte_count)
{
    uint64_t place = (shipped->value_next + VALUE_ALIGN - 1) / VALUE_ALIGN * VALUE_ALIGN;
    uint64_t offset = place % shipped->value_bytes;

    return offset + byte_count <= shipped->value_bytes ? place
                                                       : place - offset + shipped->value_bytes;
}

void torc_shipped_keep(struct torc_shipped *shipped, const struct torc_log_record *record)
{
    uint32_t shard_index = shard_find(shipped, record->shard);
    struct torc_shipped_shard *shard = shard_index == NONE ? NULL : &shipped->shards[shard_index];
    struct torc_shipped_record *kept;
    uint32_t *bucket;
    uint64_t place;

    if (shard == NULL || !torc_log_kind_has_lsn(record->kind) || record->lsn <= shard->last_lsn) {
        return;
    }
    torc_assert(record->lsn == shard->last_lsn + 1);
    if (record->value_bytes > shipped->value_bytes / 2) { // it would be all there is
        torc_shipped_open(shipped, record->shard, record->lsn);
        return;
    }
    shard->last_lsn = record->lsn;
    place = value_place(shipped, record->value_bytes);
    while (shipped->record_first < shipped->record_next &&
           (shipped->record_next - shipped->record_first == shipped->record_max ||
            place + record->value_bytes > shipped->value_first + shipped->value_bytes)) {
        record_drop(shipped);
    }
    kept = record_at(shipped, shipped->record_next);
    bucket = record_bucket(shipped, record->shard, record->lsn);
    *kept = (struct torc_shipped_record){
        .record = *record, .value_place = place, .hash_next = *bucket, .shard = shard_index};
    if (record->value_bytes > 0) {
        memcpy(shipped->values + place % shipped->value_bytes, record->value, record->value_bytes);
    }
    *bucket = (uint32_t)(shipped->record_next % shipped->record_max);
    shipped->value_first =
        shipped->record_first == shipped->record_next ? place : shipped->value_first;
    shipped->record_next++;
    shipped->value_next = place + record->value_bytes;
}

bool torc_shipped_get(const struct torc_shipped *shipped, uint32_t shard, uint64_t lsn,
                      struct torc_log_record *record)
{
    uint32_t index = record_find(shipped, shard, lsn);

    if (index == NONE) {
        return false;
    }
    *record = shipped->records[index].record;
    record->value = shipped->values + shipped->records[index].value_place % shipped->value_bytes;
    record->piece_bytes = record->value_bytes;
    return true;
}

uint64_t torc_shipped_floor(const struct torc_shipped *shipped, uint32_t shard)
{
    uint32_t index = shard_find(shipped, shard);

    torc_assert(index != NONE);
    return shipped->shards[index].floor_lsn;
}

void torc_shipped_cut(struct torc_shipped *shipped, uint32_t shard, uint64_t lsn)
{
    uint32_t index = shard_find(shipped, shard);
    struct torc_shipped_shard *open = &shipped->shards[index];

    torc_assert(index != NONE);
    for (uint64_t at = torc_max_u64(lsn, open->floor_lsn) + 1; at <= open->last_lsn; at++) {
        record_unlink(shipped, record_find(shipped, shard, at));
    }
    open->last_lsn = torc_min_u64(open->last_lsn, lsn);
    open->floor_lsn = torc_min_u64(open->floor_lsn, open->last_lsn);
}

void torc_shipped_open(struct torc_shipped *shipped, uint32_t shard, uint64_t floor_lsn)
{
    uint32_t *bucket = shard_bucket(shipped, shard);
    uint32_t index;

    torc_shipped_close(shipped, shard);
    index = shipped->shard_free;
    if (index == NONE) {
        torc_assert(shipped->shard_fresh < shipped->shard_max);
        index = shipped->shard_fresh++;
    } else {
        shipped->shard_free = shipped->shards[index].hash_next;
    }
    shipped->shards[index] = (struct torc_shipped_shard){
        .shard = shard, .hash_next = *bucket, .floor_lsn = floor_lsn, .last_lsn = floor_lsn};
    *bucket = index;
    shipped->shard_count++;
}

void torc_shipped_close(struct torc_shipped *shipped, uint32_t shard)
{
    uint32_t index = shard_find(shipped, shard);
    uint32_t *link = shard_bucket(shipped, shard);

    if (index == NONE) {
        return;
    }
    torc_shipped_cut(shipped, shard, 0);
    while (*link != index) {
        link = &shipped->shards[*link].hash_next;
    }
    *link = shipped->shards[index].hash_next;
    shipped->shards[index].shard = NONE;
    shipped->shards[index].hash_next = shipped->shard_free;
    shipped->shard_free = index;
    shipped->shard_count--;
}

enum torc_err torc_shipped_check(const struct torc_shipped *shipped, struct torc_fail *why)
{
    uint64_t here = 0;
    uint64_t counted = 0;

    for (uint32_t i = 0; i < shipped->shard_fresh; i++) {
        const struct torc_shipped_shard *shard = &shipped->shards[i];

        if (shard->shard == NONE) {
            continue;
        }
        for (uint64_t lsn = shard->floor_lsn + 1; lsn <= shard->last_lsn; lsn++, counted++) {
            if (record_find(shipped, shard->shard, lsn) == NONE) {
                return torc_fail(why, TORC_ERR_CORRUPT,
                                 "Y1: shard %" PRIu32 ": LSN %" PRIu64 " is not here", shard->shard,
                                 lsn);
            }
        }
    }
    for (uint64_t at = shipped->record_first; at < shipped->record_next; at++) {
        here += record_at(shipped, at)->shard != NONE;
    }
    if (here != counted || shipped->value_next - shipped->value_first > shipped->value_bytes) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "Y1: %" PRIu64 " records are here, %" PRIu64 " above the floors", here,
                         counted);
    }
    return TORC_ERR_OK;
}
