// Torc tests: what the files of model_tree.c share.
//
// What    a world: the same operations on one tree for each SIMD variant that this CPU has, side by
//         side, and a sorted array beside them. A face: what its keys, versions, values, memory and
//         operations are like, so that it meets an edge of the layout. Reach: which encodings and
//         which borders the trees really had, counted; an edge that nothing meets is no test.
// Owner   the test's one thread.  Memory  a stage holds it, one a program; worlds come after one
//         another on it.
#ifndef TORC_TESTS_MODEL_TREE_WORLD_H
#define TORC_TESTS_MODEL_TREE_WORLD_H

#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/tree_impl.h"
#include "tests/torc_test.h"

enum {
    SIDES_MAX = 3,
    CHUNKS = 96,
    RECORDS_MAX = 90000, // of the face that is deep; others have thousands
    TICKETS_MAX = 48,
    CURSORS_MAX = 4,
    BATCH_MAX = 2 * TORC_TREE_BATCH + 22, // more than two batches of the tree
    SCAN_MAX = 300,
    GONE_MAX = 64,
    CLUSTERS_MAX = 8,
    VALUE_BYTES_MAX = 1 << 20
};

// Encodings and borders. Columns: name, text.
#define REACH_TABLE(X)                                                       \
    X(REST_0, "rest of key 0 bytes")                                         \
    X(REST_1, "1")                                                           \
    X(REST_2, "2")                                                           \
    X(REST_3, "3")                                                           \
    X(REST_4, "4")                                                           \
    X(REST_5, "5")                                                           \
    X(REST_6, "6")                                                           \
    X(VERSION_0, "version 0 bytes")                                          \
    X(VERSION_1, "1")                                                        \
    X(VERSION_2, "2")                                                        \
    X(VERSION_3, "3")                                                        \
    X(VERSION_4, "4")                                                        \
    X(VERSION_5, "5")                                                        \
    X(VERSION_6, "6")                                                        \
    X(VERSION_7, "7")                                                        \
    X(VERSION_8, "8")                                                        \
    X(VERSION_FULL_1, "all ones in version of 1 byte")                       \
    X(VERSION_FULL_2, "2")                                                   \
    X(VERSION_FULL_3, "3")                                                   \
    X(VERSION_FULL_4, "4")                                                   \
    X(VERSION_FULL_5, "5")                                                   \
    X(VERSION_FULL_6, "6")                                                   \
    X(VERSION_FULL_7, "7")                                                   \
    X(VERSION_FULL_8, "8")                                                   \
    X(SPAN_16_LAST, "keys of a leaf 2^16-1 apart")                           \
    X(SPAN_16_NEXT, "2^16")                                                  \
    X(SPAN_24_LAST, "2^24-1")                                                \
    X(SPAN_24_NEXT, "2^24")                                                  \
    X(SPAN_32_LAST, "2^32-1")                                                \
    X(SPAN_32_NEXT, "2^32")                                                  \
    X(SPAN_40_LAST, "2^40-1")                                                \
    X(SPAN_40_NEXT, "2^40")                                                  \
    X(SPAN_48_LAST, "2^48-1")                                                \
    X(SPAN_48_NEXT, "2^48")                                                  \
    X(SPAN_56_LAST, "2^56-1")                                                \
    X(SPAN_56_NEXT, "2^56")                                                  \
    X(SPAN_63_LAST, "2^63-1")                                                \
    X(SPAN_63_NEXT, "2^63")                                                  \
    X(SPAN_64_LAST, "2^64-1")                                                \
    X(SLOTS_EMPTY, "values in slots: of 0 bytes")                            \
    X(SLOTS, "of 1 byte or more")                                            \
    X(SLOTS_LONGEST, "of the most bytes")                                    \
    X(CELLS, "values in cells")                                              \
    X(CELLS_LARGE_ALL, "all of a full leaf large")                           \
    X(CELLS_MIXED, "large and small in one leaf")                            \
    X(CELLS_DEAD, "dead cells")                                              \
    X(LEAF_FULLEST, "a leaf of the most records")                            \
    X(LEAF_ONE, "of one record")                                             \
    X(ORDER_MIXED, "slots in no order")                                      \
    X(HINTS_ENDS, "first and last hint in use")                              \
    X(HINTS_EQUAL, "one hint in slots below and above 64")                   \
    X(KEY_FIRST, "key 0")                                                    \
    X(KEY_LAST, "key 2^64-1")                                                \
    X(INNER_2, "separators of 2 bytes")                                      \
    X(INNER_4, "4")                                                          \
    X(INNER_8, "8")                                                          \
    X(INNER_2_FULL, "as many as there is room for, or one less: of 2 bytes") \
    X(INNER_4_FULL, "4")                                                     \
    X(INNER_8_FULL, "8")                                                     \
    X(INNER_SHIFT, "separators shifted by 32 or more")                       \
    X(LEVELS_1, "levels 1")                                                  \
    X(LEVELS_2, "2")                                                         \
    X(LEVELS_3, "3")                                                         \
    X(LEVELS_4, "4")                                                         \
    X(KEY_AT_SEPARATOR, "a key drawn at a separator")                        \
    X(KEY_AT_SAMPLE, "at a line's first separator")                          \
    X(TO_CELLS, "slots to cells")                                            \
    X(TO_SLOTS, "cells to slots")                                            \
    X(REST_WIDER, "rest wider")                                              \
    X(REST_NARROWER, "narrower")                                             \
    X(KEY_BELOW_BASE, "a key below its leaf's base")                         \
    X(KEY_ABOVE_HINTS, "above its hints")                                    \
    X(VERSION_BELOW_BASE, "a version below its leaf's base")                 \
    X(VERSION_ABOVE_MASK, "above its width")                                 \
    X(VERSION_NARROWER, "versions narrower")                                 \
    X(INNER_WIDER, "separators wider")                                       \
    X(INNER_NARROWER, "narrower")                                            \
    X(LEAF_CUT, "a leaf cut in two")                                         \
    X(LEAF_CUT_3, "in three")                                                \
    X(LEAF_SHARED, "spread over a neighbour")                                \
    X(LEAF_JOINED, "joined or gone")                                         \
    X(INNER_CUT, "an inner node cut")                                        \
    X(INNER_JOINED, "joined or gone")                                        \
    X(ROOT_GREW, "root grew")                                                \
    X(ROOT_SHRANK, "shrank")                                                 \
    X(CHUNK_TAKEN, "a chunk taken")                                          \
    X(CHUNK_GIVEN, "given back")                                             \
    X(RUN_UP, "a leaf begun by a rising row")                                \
    X(RUN_DOWN, "by a falling one")                                          \
    X(REFUSED_NODES, "refused for nodes")                                    \
    X(REFUSED_HEAP, "for the heap")                                          \
    X(PROMISE_AT_LAST, "a promise kept when there was no more")              \
    X(TO_LARGE, "a small value replaced by a large one")                     \
    X(FROM_LARGE, "and back")                                                \
    X(SWEPT, "a large value moved by a sweep")                               \
    X(ORDERED, "leaves changed places")                                      \
    X(COMPACTED, "nodes moved out of a chunk")                               \
    X(PACKED, "leaves packed")                                               \
    X(SCAN_OVER_CHANGE, "a scan went on after a change")                     \
    X(APPENDED, "an append after writes")                                    \
    X(REINSERTED, "a deleted key put again")

#define REACH_ENUM(name, text) REACH_##name,
enum reach {
    REACH_TABLE(REACH_ENUM) REACH_KINDS
};
#undef REACH_ENUM

// What the array keeps of a record; the value follows from it.
struct entry {
    uint64_t key;
    uint64_t version;
    uint32_t bytes;
};

enum tree_op {
    OP_WRITE,
    OP_LOOKUP,
    OP_SCAN,
    OP_PROMISE,
    OP_CANCEL,
    OP_COUNT,
    OP_APPEND,
    OP_ORDER,
    OP_SWEEP,
    OP_COMPACT,
    OP_KINDS
};

struct world;

struct face {
    const char *name;
    uint64_t (*key)(struct world *world); // a key that may be new
    uint64_t (*version)(struct world *world);
    uint32_t (*bytes)(struct world *world); // of a value
    uint32_t records_max;                   // worlds draw theirs, up to it
    uint32_t records_min;
    uint32_t known_percent; // writes to keys that are there
    uint32_t stray_ppm;     // keys from anywhere
    uint32_t chunks_max;    // 0: so many that nothing may be refused
    uint32_t check_every;   // operations from one check to the next
    uint32_t world_ops;     // of one world; 0: worlds draw theirs
    uint32_t batch_part;    // as a world's; 0: worlds draw theirs
    bool filled;            // has records_max records from its beginning
    const uint16_t *weights;
    const uint8_t *reaches; // enum reach, ended by REACH_KINDS: what it is there for
};

// One variant's tree and its memory.
struct side {
    const struct torc_tree_code *code;
    struct torc_mapping mapping;
    struct torc_heap heap;
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_tree_sweep sweep;
    struct torc_tree_ticket tickets[TICKETS_MAX];
    struct torc_tree_cursor cursors[CURSORS_MAX];
};

// What all worlds use, one after the other.
struct stage {
    uint32_t side_count;
    bool faulty; // what is wrong is to be found by comparison, not by an assertion of ours
    struct side sides[SIDES_MAX];
    uint8_t *values[BATCH_MAX]; // VALUE_BYTES_MAX each
    uint8_t *expected;
    uint64_t reached[REACH_KINDS];
};

// A scan as the array sees it.
struct model_cursor {
    bool open;
    bool reverse;
    uint64_t next;
    uint64_t end;
};

struct world {
    struct torc_rng rng;
    const struct face *face;
    struct stage *stage;
    bool roomy; // nothing may be refused
    bool refusing;
    bool broken;
    char said[240];
    uint64_t ops;
    uint64_t refused;
    uint64_t check_at;
    uint64_t ops_wanted;
    uint32_t chunk_count; // of a tree, at the last check
    uint32_t batch_part;  // of the steps that write, one in so many is a batch
    uint32_t delete_ppm;  // turns around, so that the tree grows and shrinks
    uint32_t records_max; // from here on it shrinks
    uint32_t records_low; // and from here on it grows
    // Scratch of the faces, drawn once a world.
    uint64_t (*mixed_key)(struct world *world);
    uint64_t (*mixed_version)(struct world *world);
    uint32_t (*mixed_bytes)(struct world *world);
    uint64_t key_at;
    uint64_t key_low;
    uint64_t key_step;
    uint64_t version;
    uint64_t version_base;
    uint64_t clusters[CLUSTERS_MAX];
    uint32_t cluster_count;
    uint32_t border; // of the first cluster
    uint32_t version_bits;
    uint32_t fixed_bytes;
    uint32_t phase;
    // The oracle.
    uint32_t count;
    uint32_t promise_count;
    uint32_t gone_count;
    uint64_t gone[GONE_MAX]; // keys deleted lately
    uint32_t promised_bytes[TICKETS_MAX];
    struct model_cursor cursors[CURSORS_MAX];
    struct entry entries[RECORDS_MAX + 4 * BATCH_MAX];
};

// -- tree_faces.c --------------------------------------------------------------------------------

extern const struct face faces[];
extern const uint32_t face_count;

const struct face *face_named(const char *name);

// Draws what the face's functions keep in the world.
void face_begin(struct world *world);

// -- tree_world.c --------------------------------------------------------------------------------

// Opens one side for each variant, or one alone with `code`.
void stage_open(struct stage *stage, const struct torc_tree_code *code);
void stage_close(struct stage *stage);

void world_init(struct world *world, struct stage *stage, const struct face *face, uint64_t seed);

// Until it is through, or broken.
void world_run(struct world *world);

// All memory must come back.
void world_close(struct world *world);

// Everything about all trees that can be compared: the checker, the array, one side with another.
void world_check(struct world *world);

// Notes the first thing that is wrong.
void broken(struct world *world, const char *text, uint64_t key);

// The first entry not below `key`; the one of `key`, or NULL.
uint32_t entry_find(const struct world *world, uint64_t key);
struct entry *entry_at(struct world *world, uint64_t key);

// What a tree gave for an entry.
void value_compare(struct world *world, const struct entry *entry, const void *value,
                   uint64_t version, uint32_t bytes);

// A key of the face, one that is there (so many of a hundred), one at a separator, one that was
// deleted lately.
uint64_t draw_key(struct world *world, uint32_t known_percent);

// -- tree_reads.c --------------------------------------------------------------------------------

void op_lookup(struct world *world);
void op_scan(struct world *world);
void op_count(struct world *world);

// Reads of every record, by lookups and by scans from both ends.
void world_read_all(struct world *world);

// -- tree_compare.c ------------------------------------------------------------------------------

// NULL, or in what the trees of two sides differ though they went the same way: shape, accounts,
// or bytes of nodes (but for where large values lie, which is compared from the heap's start).
const char *sides_differ(const struct side *a, const struct side *b);

// -- tree_reach.c --------------------------------------------------------------------------------

// Of one write: what it met, from before and after it.
struct reach_look {
    struct torc_tree tree;
    unsigned char leaf[TORC_LEAF_HEAD_BYTES];
    uint32_t inner_width; // of the leaf's parent; 0: there is none
};

void reach_look(struct reach_look *look, const struct torc_tree *tree, uint64_t key);
void reach_write(uint64_t *reached, const struct reach_look *before,
                 const struct torc_tree_write *write, const struct torc_tree *after);

// Of the whole tree: its encodings.
void reach_walk(uint64_t *reached, const struct torc_tree *tree);

void reach_print(const uint64_t *reached);

// The first of `reaches` (NULL: of all) that was not reached, or NULL.
const char *reach_missing(const uint64_t *reached, const uint8_t *reaches);

#endif
