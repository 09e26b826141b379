// Torc storage: the tree of one shard. A B+-tree from 64-bit keys to byte strings with versions.
//
// What    Each record is a key (any u64), the version of its last write (an HLC timestamp, any u64)
//         and a value of 0 bytes up to 16 MiB. Lookups, writes and scans work on batches: a batch
//         descends together, one level at a time, and prefetches, so that cache misses overlap.
// Owner   one core. No locks, no atomics; nothing here may be called from another thread.
// Memory  nodes and values up to TORC_TREE_INLINE_BYTES_MAX lie in the shard's chunks
//         (storage/chunk.h), larger values one by one in the core's heap (storage/memory.h). Both
//         are bounded; when one is full, a write answers NO_SPACE and changes nothing, while reads
//         and deletes go on.
//           Promise: a write that got a ticket (torc_tree_reserve) cannot fail when it is applied,
//         whatever happens in between. The engine takes the ticket before it logs a write.
// Pointers A value pointer from a lookup or a scan is good until the next change of this tree. It
//         may be unaligned. Values are not ended by a zero.
// Cursor  A scan works in slices: torc_tree_scan fills an array and returns. Between two slices the
//         tree may change in any way; the cursor then goes on from the next key it had not handed
//         out. So each slice is one moment, and no key is handed out twice or out of order.
// Layout  A leaf (1 KiB) has slots, filled in the order of arrival. A key is its base + delta: an
//         array of 16-bit hints, the top of each slot's delta, searched by SIMD; and in the slot
//         the rest of the key (0..6 bytes), version - version base (0..8 bytes) and the value. An
//         array of 1-byte slot numbers has the order of keys: an insert moves some of those, never
//         hints or values. When all values of a leaf have the same length they lie in the slots;
//         otherwise a slot names a cell of a small heap at the leaf's end. A leaf carries the stamp
//         of its last change. Inner nodes hold separators as 16-, 32- or 64-bit deltas (shortest
//         separators, so mostly 16), and 32-bit node numbers of children. storage/leaf.h and
//         storage/inner.h have the bytes.
// Speed   the hot parts are compiled three times (plain, AVX2, AVX-512) and passed in as a table
//         (struct torc_tree_code): storage/cpu_os.h chooses, once, at the start of the program.
// Invariants, all of which torc_tree_check walks
//   T1  Keys rise through the leaves; every key lies within the separators above it.
//   T2  All leaves have the same depth; no node but the root leaf is empty; an inner node has one
//       or more children, the root two.
//   T3  record_count, value_bytes and large_bytes are what the leaves hold.
//   T4  Every node of the shard's chunks is free or reachable, once.
//   T5  Free nodes never fall below what tickets were promised.
//   T6  A leaf's stamp is not below any version in it, nor below that of a delete of any key that
//       would lie in it.
//   T7  The guide's entries are right, as long as it says that they are.
// Sources Bayer, Unterauer, "Prefix B-Trees" (TODS 1977); Rao, Ross, "Making B+-Trees Cache
//         Conscious in Main Memory" (SIGMOD 2000); Chen, Gibbons, Mowry, "Improving Index
//         Performance through Prefetching" (SIGMOD 2001); DESIGN.md section 4.
#ifndef TORC_STORAGE_TREE_H
#define TORC_STORAGE_TREE_H

#include "kit/fail.h"
#include "storage/chunk.h"
#include "storage/memory.h"

#define TORC_TREE_VALUE_BYTES_MAX  (16u << 20) // the format's ceiling; settings allow less
#define TORC_TREE_INLINE_BYTES_MAX 128u        // larger values come from the heap
#define TORC_TREE_LEVELS_MAX       24u
#define TORC_TREE_BATCH            64u // descended together: docs/decisions/0014-hot-keys.md

struct torc_tree_code; // the hot parts for this CPU: storage/tree_code.h
struct torc_undo;      // what writes replaced: storage/undo.h

// A promise of memory for one write. Zeroed: none. Consumed by the write, or cancelled.
struct torc_tree_ticket {
    void *block;    // a large value's memory, to be filled by the holder or by the write; else NULL
    uint32_t bytes; // of the value
    uint32_t nodes; // promised to it
};

// Where torc_tree_order stands.
struct torc_tree_order {
    uint64_t next;        // the key it goes on at
    uint64_t until;       // leaves up to this key are being moved, if `moving`
    uint64_t shape_stamp; // the tree's when the last pass began or ended
    uint64_t given;       // the chunks' count when `chunk` was chosen: a later one may be its end
    uint32_t mark;        // of the pass's chunks; 0: there is no pass
    uint32_t chunk;       // being filled
    uint32_t slot;        // its next node
    bool surveying;
    bool moving;
};

// Where torc_tree_compact stands.
struct torc_tree_compact {
    uint64_t next;        // the key that packing goes on at
    uint64_t until;       // leaves up to this key are being packed, if `packing`
    uint64_t removed;     // tree->removed_count when the last pass began
    uint64_t moved_nodes; // in all
    uint32_t slot;        // in the chunk that is being left
    bool passing;         // through the leaves
    bool packing;
};

// The guide: storage/tree_guide.h.
#define TORC_GUIDE_CHUNKS_MAX 128u  // 4 M entries
#define TORC_GUIDE_LEAVES_MIN 4096u // below, inner nodes lie in the nearest caches

struct torc_tree_guide {
    uint64_t first; // the first key of entry 0
    uint64_t entry_count;
    uint64_t usable; // entries [0, usable) are filled in
    uint64_t due;    // leaves from which on there is something to do
    uint64_t given;  // the chunks' when it was begun
    uint32_t shift;  // an entry is of 2^shift keys
    uint32_t fine;   // and tells where in it another leaf begins to 2^fine of them
    uint32_t hidden; // leaves that no entry names
    uint32_t wrong;  // writes that were led astray
    uint32_t pause;
    bool exact; // no entry is old
    uint32_t chunk_count;
    uint32_t chunks[TORC_GUIDE_CHUNKS_MAX];
};

struct torc_tree {
    const struct torc_tree_code *code;
    struct torc_chunk_set chunks;
    struct torc_heap *heap;
    struct torc_undo *undo; // the core's, set by the engine; NULL: replaced values are dropped
    uint64_t record_count;
    uint64_t value_bytes;    // of all values, as users count
    uint64_t large_count;    // values in the heap
    uint64_t large_bytes;    // as users count
    uint64_t promised_nodes; // to tickets
    uint64_t change_stamp;   // rises with every change: value pointers of an older one are stale
    uint64_t shape_stamp;    // rises when records move between nodes
    uint64_t removed_count;  // records, in all
    // Where rising keys go: the last leaf, which holds all keys from tail_first on. As of the shape
    // tail_stamp.
    uint64_t tail_first;
    uint64_t tail_stamp;
    uint32_t tail;
    uint32_t edge; // the last inner node of level 1, as of the shape edge_stamp
    uint64_t edge_stamp;
    uint32_t moved[2]; // leaves whose records the last change of shape moved
    uint32_t sparse;   // so many more sorted batches are taken for as sparse as the last one was
    uint32_t root;
    uint32_t levels; // 1: the root is a leaf
    uint32_t leaf_count;
    uint32_t inner_count;
    uint32_t upper_count; // of them, at level 2 and above
    struct torc_tree_order order;
    struct torc_tree_compact compact;
    struct torc_tree_guide guide;
};

// What a lookup found.
struct torc_tree_hit {
    const void *value;
    uint64_t version;
    uint32_t value_bytes;
    bool found;
};

// A record, as a scan hands it out and as torc_tree_append takes it.
struct torc_tree_pair {
    uint64_t key;
    uint64_t version;
    const void *value;
    uint32_t value_bytes;
};

// One write of a batch: in, then out.
struct torc_tree_write {
    uint64_t key;
    uint64_t version;  // also of a delete: it becomes the leaf's stamp
    const void *value; // not in this tree; may be ticket.block, then nothing is copied
    uint32_t value_bytes;
    bool remove;          // delete the key; value and ticket are not used (a ticket is cancelled)
    bool existed;         // out: the key had a value
    enum torc_err err;    // out: OK, or NO_SPACE when there was no ticket
    uint64_t old_version; // out, when it existed
    struct torc_tree_ticket ticket; // zeroed: the write may be refused
};

// The way from the root to a leaf. Of use to the tree alone.
struct torc_tree_path {
    uint32_t nodes[TORC_TREE_LEVELS_MAX];   // [0] the leaf, [levels - 1] the root
    uint16_t indices[TORC_TREE_LEVELS_MAX]; // of the child taken in an inner node
};

// A scan over [first, last], both inclusive, from either end.
struct torc_tree_cursor {
    uint64_t next; // the next key that may be handed out
    uint64_t end;  // the last one
    bool reverse;
    bool done; // nothing is left
    // Of torc_tree_scan's last slice: no key in it was written or deleted above this.
    uint64_t stamp;
    // Where it stands, good while change_stamp is the tree's:
    uint64_t change_stamp;
    uint64_t leaf_stamp; // of the leaf read last
    uint32_t place;      // how many of the leaf's records lie behind it
    uint32_t ahead;      // how many leaves before it were asked for
    uint32_t wanted;     // and how many should be
    struct torc_tree_path path;
};

// Bytes by owner; they add up: chunk_bytes == leaf + inner + free + header bytes.
struct torc_tree_memory {
    uint64_t chunk_bytes;     // of the mapping, owned by this tree
    uint64_t leaf_bytes;      // nodes that are leaves
    uint64_t leaf_used_bytes; // in use within them
    uint64_t inner_bytes;     // nodes that are inner nodes
    uint64_t free_bytes;      // nodes free in the tree's chunks, promised ones included
    uint64_t header_bytes;    // chunk headers
    uint64_t promised_bytes;  // of free_bytes, promised to tickets
    uint64_t guide_bytes;     // chunks of the guide, which are not among chunk_bytes
    uint64_t large_bytes;     // values in the heap, as users count
    uint64_t large_count;
};

// -- Life ----------------------------------------------------------------------------------------

// An empty tree. NO_SPACE when the pool has no chunk left.
enum torc_err torc_must_use torc_tree_init(struct torc_tree *tree,
                                           const struct torc_tree_code *code,
                                           struct torc_chunk_pool *pool, struct torc_heap *heap,
                                           struct torc_fail *why);

// Frees large values and gives all chunks back. No ticket may be outstanding. The tree is then
// zeroed; torc_tree_init may make it anew.
void torc_tree_drop(struct torc_tree *tree);

// Takes all records out, and gives back all memory but what tickets were promised: they stay good.
void torc_tree_clear(struct torc_tree *tree);

// -- Reads ---------------------------------------------------------------------------------------

bool torc_tree_lookup(const struct torc_tree *tree, uint64_t key, struct torc_tree_hit *hit);

// Any number of keys, in any order; hits[i] answers keys[i].
void torc_tree_lookup_batch(const struct torc_tree *tree, const uint64_t *keys, uint32_t count,
                            struct torc_tree_hit *hits);

// first > last is an empty scan.
void torc_tree_cursor_open(struct torc_tree_cursor *cursor, uint64_t first, uint64_t last,
                           bool reverse);

// Goes on at `key` (which must not lie before where the scan began, in its direction): for a page
// that had no room for all pairs of a slice, the first pair that did not fit.
void torc_tree_cursor_seek(struct torc_tree_cursor *cursor, uint64_t key);

// The next at most pair_count_max pairs. Fewer only when the scan is at its end: then cursor->done.
uint32_t torc_tree_scan(const struct torc_tree *tree, struct torc_tree_cursor *cursor,
                        struct torc_tree_pair *pairs, uint32_t pair_count_max);

// Counts instead of handing out, at most about record_count_max records a slice (it ends on a
// leaf's border: up to a leaf more). The scan is over when cursor->done.
uint64_t torc_tree_scan_count(const struct torc_tree *tree, struct torc_tree_cursor *cursor,
                              uint64_t record_count_max);

// -- Writes --------------------------------------------------------------------------------------

// Promises memory for one upsert of value_bytes, whatever is written before it. NO_SPACE says which
// memory is full. The caller has checked value_bytes against its own limit.
enum torc_err torc_must_use torc_tree_reserve(struct torc_tree *tree, uint32_t value_bytes,
                                              struct torc_tree_ticket *ticket,
                                              struct torc_fail *why);

// Whether there are nodes, without memory of large values, for so many upserts more. Takes none.
bool torc_must_use torc_tree_has_nodes(const struct torc_tree *tree, uint64_t upserts);

// Gives the promise back, with the block. A zeroed ticket is fine.
void torc_tree_cancel(struct torc_tree *tree, struct torc_tree_ticket *ticket);

// Writes in the order of the array (so the last write of a key wins), each with or without a
// ticket. Returns how many had err != OK; none of those that had a ticket. In rising order of keys,
// dense ones go in a leaf at a time, which is faster.
uint32_t torc_tree_write_batch(struct torc_tree *tree, struct torc_tree_write *writes,
                               uint32_t count);

// One write, for those who have only one. Fails with NO_SPACE when it had no ticket.
enum torc_err torc_tree_write(struct torc_tree *tree, struct torc_tree_write *write,
                              struct torc_fail *why);

// Bulk build: pairs in rising order of keys, all above every key in the tree; leaves get full. A
// tree may be built in any number of calls. Stops at the first pair there is no memory for and says
// in *appended how many went in.
enum torc_err torc_must_use torc_tree_append(struct torc_tree *tree,
                                             const struct torc_tree_pair *pairs, uint32_t count,
                                             uint32_t *appended, struct torc_fail *why);

// A way through all leaves, a few at a time, whatever changes meanwhile. Zeroed: at its beginning.
struct torc_tree_sweep {
    uint64_t next; // the key it goes on at
    uint64_t moved_bytes;
    uint64_t used_bytes; // in use within the leaves seen
    uint32_t leaf_count; // seen
};

// Goes on through at most `leaf_count_max` leaves and moves large values of about `move_bytes_max`
// bytes (a value more at the most; 0: only looks) to fuller slabs of the heap. False once it is
// through. Values of tickets are not the tree's yet, and stay where they are.
bool torc_tree_sweep(struct torc_tree *tree, struct torc_tree_sweep *sweep, uint32_t leaf_count_max,
                     uint64_t move_bytes_max);

// Puts leaves that lie scattered back in order of their keys, so that a scan reads memory forward:
// at most `leaf_count_max` leaves, about half a microsecond each. For a core that has nothing else
// to do. True while there is more; false when too little has changed since all were in order. Takes
// no memory and breaks no promise; cursors go on, value pointers do not outlive it.
bool torc_tree_order(struct torc_tree *tree, uint32_t leaf_count_max);

// Gives memory back that deletes left scattered: packs leaves of which many are far from full, and
// moves nodes out of the sparsest chunks, which go back to the pool. At most `step_max` steps, each
// about a microsecond (some more where it looks at an inner node's leaves). True while there is
// more; false when no more than torc_tree_spare_max nodes are free beyond promises, and fewer than
// one in 8 records was deleted since its last pass. Takes no memory and breaks no promise; cursors
// go on, value pointers do not outlive it.
bool torc_tree_compact(struct torc_tree *tree, uint32_t step_max);

// How many nodes may stay free, beyond what promises and one write need, when nothing is left to
// compact: two chunks and a sixteenth of all.
uint64_t torc_tree_spare_max(const struct torc_tree *tree);
uint64_t torc_tree_spare(const struct torc_tree *tree);

// -- Looking in ----------------------------------------------------------------------------------

// Walks all leaves; for admin pages and tests, not for the request path.
void torc_tree_memory(const struct torc_tree *tree, struct torc_tree_memory *memory);

// Verifies T1..T7. CORRUPT, and the text says what and where.
enum torc_err torc_must_use torc_tree_check(const struct torc_tree *tree, struct torc_fail *why);

#endif
