// Torc storage: the undo window of one core: what keys held before, for reads of a past moment.
//
// What    each write to a tree that changes a record leaves an entry: the key, the write's version,
//         and the value it replaced (or that there was none). A read at timestamp `ts` takes the
//         tree's present and, for every key that was written above `ts`, the value of the oldest
//         entry above `ts`: that is what the key held then. An entry stays for the window's age,
//         and as long as a pinned timestamp needs it, within the window's bytes. What left it
//         raises `floor`: a read below that is refused (SNAPSHOT_TOO_OLD), never wrong.
//             torc_undo_keep      the tree's writes, of all shards of the core
//             torc_undo_prepare   a reader: from here on the changes above `ts` can be asked for
//             torc_undo_get; torc_undo_keys, torc_undo_change   by key; in order, either way
// Cost    a write appends some 40 bytes and the value to a log and is done. The index by key is
//         made by readers, a slice at a time, and only over what was written above the timestamp of
//         the oldest of them; when nobody has read a past moment for a while it goes. So a core
//         that nobody asks for the past pays for the copies alone.
// Owner   one core, and all its shards' trees: a key lies in one shard, so one index does.
// Memory  the caller's (torc_undo_bytes): segments of the log, 5/8 of the window's bytes, used
//         again last freed first, so that a quiet core touches few; chunks of the index, 3/8. A
//         large value is not copied: its block in the core's heap is taken over, counts as log, and
//         is given back when its entry goes.
// Floor   is one for all shards. Every entry above it is there; a shard adds a floor of its own,
//         where its history on this core begins (storage/shard.h).
// Invariants
//   U1  Versions of one key rise with the entries' places in the log, within one history of its
//       shard: a base may begin another one, at an earlier version than the tree had reached. No
//       chain leads from one history to the one before it.
//   U2  Every entry dropped had a version at or below `floor`.
//   U3  used segments x their bytes + large_bytes <= limit_bytes.
//   U4  The index holds exactly the keys of the entries in [index_first, index_next) that are still
//       there, each with the place of its newest.
// Sources DESIGN.md section 4; Myers, "An applicative random-access stack" (IPL 1983): the jumps by
//         which a key's entry is found in a logarithm of their number.
#ifndef TORC_STORAGE_UNDO_H
#define TORC_STORAGE_UNDO_H

#include "storage/tree.h"

// Small enough that dropping one is a short pause (some 500 entries), large enough that its record
// in the table is nothing.
#define TORC_UNDO_SEGMENT_BYTES 32768u
#define TORC_UNDO_BYTES_MIN     (UINT64_C(1) << 20) // a window's least, unless it is off
#define TORC_UNDO_BYTES_MAX     (UINT64_C(16) << 30)
#define TORC_UNDO_PINS          64u

struct torc_undo_config {
    uint64_t bytes;  // of the window; 0: there is none
    uint64_t age_us; // how long an entry stays that nobody pinned
    uint64_t pin_us; // how old a timestamp may be and still pin: `pin_cap`
};

struct torc_undo_segment {
    uint64_t version_max;
    uint64_t large_bytes;
    uint32_t place; // in `log`
    uint32_t used;  // bytes
    uint32_t large_count;
    uint32_t zero;
};

// Any number of readers: those whose timestamps are near one another share one.
struct torc_undo_pin {
    uint64_t ts;       // the least; 0: free
    uint64_t until_us; // by the wall clock
};

// Places in the log are numbers that only rise: segment number x its bytes + offset.
struct torc_undo {
    unsigned char *log;
    struct torc_undo_segment *segments; // of number n: n & segment_mask
    uint32_t *free;                     // places that no segment has
    struct torc_heap *heap;             // where large values came from
    const struct torc_tree_code *code;
    uint64_t age_us;
    uint64_t pin_us;
    uint64_t limit_bytes;
    uint64_t now_us;  // the HLC, or the wall clock where that is ahead: entries age by it
    uint64_t wall_us; // by which pins end, and the index where nobody uses it
    uint64_t first;   // segment numbers: [first, last], last is the open one
    uint64_t last;
    uint64_t floor; // U2
    uint64_t large_bytes;
    uint64_t large_count;
    uint64_t kept_count;  // entries, in all
    uint32_t segment_max; // 0: there is no window
    uint32_t segment_mask;
    uint32_t free_count;
    // The index by key, if somebody asked for the past.
    struct torc_chunk_pool index_chunks;
    struct torc_tree index; // key to the place of its newest entry, as version
    uint64_t index_first;   // places
    uint64_t index_next;
    uint64_t index_floor;   // all entries before index_first are at or below it
    uint64_t index_used_us; // by the wall clock: when somebody needed it
    uint64_t index_number;  // rises with each that is begun
    bool indexed;
    struct torc_undo_pin pins[TORC_UNDO_PINS]; // one for each 64th of pin_us, by their timestamps
};

enum torc_undo_state {
    TORC_UNDO_READY,
    TORC_UNDO_MORE, // call again: the slice was used up
    TORC_UNDO_TOO_OLD,
};

// What a key held at `ts`, if it was written since.
struct torc_undo_change {
    bool present;
    struct torc_tree_pair pair; // key; and if present the rest, good until the next write
};

// A key of the index.
#define TORC_UNDO_KEYS_MAX 32u
struct torc_undo_key {
    uint64_t key;
    uint64_t place; // of its newest entry
};

uint64_t torc_undo_bytes(const struct torc_undo_config *config);

// `memory` is aligned to 64 and stays untouched until it is needed.
void torc_undo_init(struct torc_undo *undo, void *memory, const struct torc_undo_config *config);

// Before the first write: where large values and the index's code come from. Equal in all calls.
void torc_undo_attach(struct torc_undo *undo, struct torc_heap *heap,
                      const struct torc_tree_code *code);

static inline bool torc_undo_is_on(const struct torc_undo *undo)
{
    return undo->segment_max > 0;
}

// -- Writes --------------------------------------------------------------------------------------

// `key` is written at `version`; `old` is its record until now, NULL: it had none. True: the
// window took over the block of the old value, which is a large one.
bool torc_undo_keep(struct torc_undo *undo, uint64_t key, uint64_t version,
                    const struct torc_tree_pair *old);

// The same for writes, one after the other, of keys that had no record.
void torc_undo_keep_new(struct torc_undo *undo, const struct torc_tree_write *writes,
                        uint32_t count);

// Drops what is past its age, a few segments a call, and an index that nobody uses. Between bursts.
void torc_undo_age(struct torc_undo *undo, uint64_t hlc_us, uint64_t wall_us);

// Gives up the oldest part of the window for the heap's sake: true when a block was freed.
bool torc_must_use torc_undo_yield(struct torc_undo *undo);

// Frees everything; reads of the past are refused up to now.
void torc_undo_clear(struct torc_undo *undo);

// -- Reads ---------------------------------------------------------------------------------------

// Somebody goes on reading at `ts` until `until_us` of the wall clock: keeps what is above it. 0
// pins nothing.
void torc_undo_pin(struct torc_undo *undo, uint64_t ts, uint64_t until_us);

// Brings the index up to date for reads at `ts`, at most about `entry_max` entries a call. READY
// lasts until the next write. TOO_OLD: undo->floor is the oldest readable.
enum torc_undo_state torc_must_use torc_undo_prepare(struct torc_undo *undo, uint64_t ts,
                                                     uint32_t entry_max);

bool torc_must_use torc_undo_is_ready(const struct torc_undo *undo, uint64_t ts);

// False: the key was not written above `ts`; the tree has it. Only when READY, as below.
bool torc_must_use torc_undo_get(const struct torc_undo *undo, uint64_t key, uint64_t ts,
                                 struct torc_undo_change *change);

// The next keys of the index in the cursor's range, `key_max` at most: all that were written above
// any timestamp that is READY, and some that were not. Good while kept_count and index_number stay.
uint32_t torc_undo_keys(const struct torc_undo *undo, struct torc_tree_cursor *cursor,
                        struct torc_undo_key *keys, uint32_t key_max);

// Asks for what torc_undo_change will read of keys[*asked .. to), which lies anywhere in the log;
// then *asked is `to`.
void torc_undo_ask(const struct torc_undo *undo, const struct torc_undo_key *keys, uint32_t *asked,
                   uint32_t to);

// False: the key was not written above `ts`.
bool torc_must_use torc_undo_change(const struct torc_undo *undo, const struct torc_undo_key *key,
                                    uint64_t ts, struct torc_undo_change *change);

// The value that the key had as `version`, if a write in the index replaced it: for a large value
// that is read in pieces.
bool torc_must_use torc_undo_find(const struct torc_undo *undo, uint64_t key, uint64_t version,
                                  struct torc_tree_hit *hit);

// -- Looking in ----------------------------------------------------------------------------------

// Bytes of log segments and of index chunks that are in use; large values are not among them.
uint64_t torc_undo_memory(const struct torc_undo *undo);

// Walks U1..U4; CORRUPT and the text says what. For tests.
enum torc_err torc_must_use torc_undo_check(const struct torc_undo *undo, struct torc_fail *why);

#endif
