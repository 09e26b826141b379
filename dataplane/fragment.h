// Torc dataplane: values that arrive in pieces, being put together.
//
// What    a fixed pool of units (64 KiB) and of entries. A PUT with FRAG opens an entry and takes a
//         run of units for the whole value; its fragments fill it in any order; when all are there,
//         the caller takes value and PUT and writes. docs/PROTOCOL.md, section 6.
// Owner   the worker.
// Memory  the caller's, torc_fragments_bytes(). An entry is charged to its session: at most
//         session_bytes_max at once. Full is BUSY.
// Work    of a call: the same however many entries there are, but for those that it reclaims and a
//         look at the bitmap of units; a run that was not found is not looked for again until an
//         entry closes.
// Reclaim an entry idle for 10 s goes always, one idle for 1 s when its memory is wanted; its
//         fragments then get NO_MESSAGE and the client starts again with the same wseq.
// Invariants
//   R1  units are free or belong to exactly one entry, in one run.
//   R2  the first copy of a fragment counts; later ones with the same number change nothing.
//   R3  used entries are in one list by the time of their last touch.
#ifndef TORC_DATAPLANE_FRAGMENT_H
#define TORC_DATAPLANE_FRAGMENT_H

#include "wire/op.h"

#define TORC_FRAGMENT_UNIT_BYTES  65536u
#define TORC_FRAGMENT_ENTRIES     1024u
#define TORC_FRAGMENT_COUNT_MAX   16384u // of one value: 16 MiB in pieces of 1 KiB
#define TORC_FRAGMENT_WINDOW      16u    // beyond the first missing one that may be sent
#define TORC_FRAGMENT_IDLE_NS     UINT64_C(10000000000)
#define TORC_FRAGMENT_PRESSURE_NS UINT64_C(1000000000)

// Whose: one session's operation.
struct torc_fragment_id {
    uint64_t serial; // of the session
    uint32_t op_id;
};

struct torc_fragment_entry {
    struct torc_fragment_id id;
    bool used;
    uint32_t total_bytes;
    uint32_t fragment_bytes;
    uint32_t fragment_count;
    uint32_t have_count;
    uint32_t first_missing;
    uint32_t unit_first;
    uint32_t unit_count;
    uint32_t session; // place of its session's account
    uint32_t older;   // by touched_ns; or, unused, the next free one
    uint32_t newer;
    uint64_t touched_ns;
    // The caller's: the PUT as it came, without its data; the number of the packet that opened it;
    // whether the value was handed on; up to which piece the client was told that it may send.
    struct torc_request put;
    uint64_t put_seq;
    bool submitted;
    bool refused; // the client was told that this PUT is not executed: only another one may be
    uint32_t told_limit;
    uint64_t have[TORC_FRAGMENT_COUNT_MAX / 64];
};

// What a session has, as long as it has an entry.
struct torc_fragment_account {
    uint64_t serial;
    uint32_t unit_count;
    uint16_t entry_count;
    uint16_t next; // plus 1: of those of one place of account_table, or the next free one; 0: none
};

struct torc_fragments {
    unsigned char *units;
    uint64_t *unit_used; // bitmap
    uint32_t unit_count;
    uint32_t units_used;
    uint32_t run_max; // no run of free units is longer
    uint32_t session_bytes_max;
    struct torc_fragment_entry *entries;
    uint32_t entry_free;
    uint32_t oldest;
    uint32_t newest;
    struct torc_fragment_account *accounts;
    uint16_t account_free;
    uint16_t *account_table; // hash of serial to account + 1
    uint16_t *table;         // hash of id to entry + 1
    uint64_t seed;
};

uint64_t torc_fragments_bytes(uint32_t pool_bytes);

void torc_fragments_init(struct torc_fragments *fragments, void *memory, uint32_t pool_bytes,
                         uint32_t session_bytes_max, uint64_t seed);

struct torc_fragment_entry *torc_fragments_find(struct torc_fragments *fragments,
                                                struct torc_fragment_id id);

// A new entry of total_bytes in pieces of fragment_bytes (> 0, multiple of 8; at most
// TORC_FRAGMENT_COUNT_MAX pieces: the caller checked). NULL: no room for this session now.
struct torc_fragment_entry *torc_fragments_open(struct torc_fragments *fragments,
                                                struct torc_fragment_id id, uint32_t total_bytes,
                                                uint32_t fragment_bytes, uint64_t now_ns);

// Whether fragment `number` has that length, given the total: the last one is the rest.
bool torc_fragment_fits(const struct torc_fragment_entry *entry, uint32_t number,
                        uint32_t byte_count);

// Puts a fragment that fits in its place. False: it was there.
bool torc_fragments_add(struct torc_fragments *fragments, struct torc_fragment_entry *entry,
                        uint32_t number, const void *bytes, uint32_t byte_count, uint64_t now_ns);

static inline bool torc_fragment_is_whole(const struct torc_fragment_entry *entry)
{
    return entry->have_count == entry->fragment_count;
}

// Its client was heard.
void torc_fragments_touch(struct torc_fragments *fragments, struct torc_fragment_entry *entry,
                          uint64_t now_ns);

const void *torc_fragments_value(const struct torc_fragments *fragments,
                                 const struct torc_fragment_entry *entry);

// 256 bits from the first missing fragment on.
void torc_fragment_bitmap(const struct torc_fragment_entry *entry, unsigned char bitmap[32]);

void torc_fragments_close(struct torc_fragments *fragments, struct torc_fragment_entry *entry);

// Frees what was idle for 10 s. A few entries a call.
void torc_fragments_reclaim(struct torc_fragments *fragments, uint64_t now_ns);

#endif
