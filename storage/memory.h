// Torc storage: the bounded heap of one core, from which large values come.
//
// What    alloc and free with a limit in bytes. One mapping is cut into units of 4 KiB. A value of
//         up to TORC_HEAP_CLASS_BYTES_MAX lies in a slab: a run of 1..16 units cut into 1..32 equal
//         blocks of one of TORC_HEAP_CLASSES sizes, 16 to each doubling; a larger one has a run of
//         units for itself. NULL means full, and is answered with NO_SPACE; never the system's
//         memory.
//           A write that finds a slab with room takes the fullest one of its class. An empty slab's
//         units go back at once and serve any class. What deletes leave sparse is put together a
//         few values at a time: whoever owns the values goes through them and offers each to
//         torc_heap_move, which copies it into a fuller slab if there is one (storage/tree.h:
//         torc_tree_sweep). So a block needs no back reference: its owner is who asks.
// Owner   one core; the memory may go along to another.
// Memory  the caller's mapping; torc_heap_init lays a table of 16 bytes a unit at its start.
//         `limit_bytes` bounds `used_bytes`, the units in slabs and runs. Units never used are not
//         touched.
// Waste   up to 32 KiB at most 1/16 by the class and 1/20 at the slab's end, 4 % of both in the
//         mean; above, less than a unit. docs/decisions/0007 compares it with mimalloc.
// Invariants, all of which torc_heap_check walks
//   M1  Units [0, fresh) are tiled by slabs, runs and free runs; no two free runs are neighbours,
//       and none ends at `fresh`.
//   M2  A slab has a block in use. It is listed by class and fullness, unless it is full.
//   M3  used_bytes, block_count, block_bytes and the classes' counts are what the units say.
//   M4  Each torc_heap_move makes the sum of squares of slabs' blocks in use rise, so a sweep ends.
// Sources Bonwick, "The Slab Allocator" (USENIX 1994); Masmano et al., "TLSF" (ECRTS 2004) for the
//         bins of free runs; Powers et al., "Mesh" (PLDI 2019) on why sparse slabs stay.
#ifndef TORC_STORAGE_MEMORY_H
#define TORC_STORAGE_MEMORY_H

#include "kit/base.h"

#define TORC_HEAP_UNIT_BYTES      4096u
#define TORC_HEAP_BLOCK_BYTES_MIN 128u
#define TORC_HEAP_CLASS_BYTES_MAX 32768u
#define TORC_HEAP_CLASSES         129u // 128, then 16 sizes to each of 8 doublings
#define TORC_HEAP_FULLNESS        4u   // quarters of a slab
#define TORC_HEAP_BINS            512u
#define TORC_HEAP_UNITS_MAX       (UINT32_MAX - 1u) // 16 TiB

// The table's entry of one unit.
struct torc_heap_unit {
    uint32_t next; // in the bin of free runs, or in the list of slabs of one class and fullness
    uint32_t prev;
    // Of a run's first unit, its length, free or not; a slab's first, the mask of free blocks; all
    // others that are looked at, their run's first unit.
    uint32_t value;
    uint8_t kind;
    uint8_t class_index;
    uint8_t used; // blocks of the slab
    uint8_t zero;
};

_Static_assert(sizeof(struct torc_heap_unit) == 16, "as documented");

struct torc_heap_class {
    uint32_t partial[TORC_HEAP_FULLNESS]; // slabs with a free block, by how full they are
    uint32_t slab_count;
    uint32_t used; // blocks in all of them
    uint32_t bytes;
    uint8_t units;  // of a slab
    uint8_t blocks; // of a slab
};

struct torc_heap {
    unsigned char *base; // of unit 0
    struct torc_heap_unit *units;
    uint64_t limit_bytes;
    uint64_t used_bytes;
    uint64_t block_count;
    uint64_t block_bytes; // of blocks in use, rounded to their class
    uint64_t user_bytes;  // of the same, as asked for
    uint64_t moved_bytes; // by torc_heap_move, ever; as asked for
    uint64_t moved_count;
    uint32_t unit_count;
    uint32_t fresh;                        // units from here on are not in use, and free of bins
    uint32_t touched;                      // the highest that `fresh` ever was
    uint64_t bin_map[TORC_HEAP_BINS / 64]; // bins that are not empty
    uint32_t bins[TORC_HEAP_BINS];
    struct torc_heap_class classes[TORC_HEAP_CLASSES];
    void *memory; // the mapping's, for whoever made it
    uint64_t memory_bytes;
};

// Bytes by use; user + class + slab + free + table == resident, but for huge pages at the end.
struct torc_heap_memory {
    uint64_t user_bytes;
    uint64_t class_bytes; // of blocks in use, beyond what was asked for
    uint64_t slab_bytes;  // free blocks in slabs, and slabs' ends
    uint64_t free_bytes;  // touched units that no slab and no run holds
    uint64_t table_bytes; // touched ones
};

// Bytes to map for a heap of `limit_bytes`: its table included.
uint64_t torc_heap_mapping_bytes(uint64_t limit_bytes);

// In zeroed memory, aligned to a unit, of at least torc_heap_mapping_bytes(limit_bytes).
void torc_heap_init(struct torc_heap *heap, void *memory, uint64_t memory_bytes,
                    uint64_t limit_bytes);

// Ends the use of the memory; blocks in it are lost.
void torc_heap_forget(struct torc_heap *heap);

// A block of at least `bytes` (1 or more), 8-byte aligned; NULL when the heap is full.
void *torc_heap_alloc(struct torc_heap *heap, uint32_t bytes);

// `bytes` as given to torc_heap_alloc.
void torc_heap_free(struct torc_heap *heap, const void *value, uint32_t bytes);

// Moves a block to a fuller slab. Returns its new place, and the old one is free; or NULL when it
// lies well where it is.
const void *torc_heap_move(struct torc_heap *heap, const void *value, uint32_t bytes);

// Bytes of units that would come free if every class were packed: what a sweep could gain.
uint64_t torc_heap_sparse_bytes(const struct torc_heap *heap);

void torc_heap_memory(const struct torc_heap *heap, struct torc_heap_memory *memory);

// Walks M1..M3; NULL, or what is wrong.
const char *torc_heap_check(const struct torc_heap *heap);

#endif
