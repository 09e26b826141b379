// Torc perf: Torc's tree as perf/tree-bench fills it, and the rows that it prints.
//
// What    a tree with an undo window, as large as a worker's is by default: every write keeps what
//         it replaced. Nobody reads the past.
// Owner   one thread.  Memory  a mapping of the tree's own, its window's, and one heap a thread's
//         life.
#ifndef TORC_PERF_OURS_OS_H
#define TORC_PERF_OURS_OS_H

#include "storage/memory_os.h"
#include "storage/tree.h"
#include "storage/undo.h"

#define OURS_BATCH 16u // the keys of a packet
#define OURS_BURST 64u // of a worker's turn under load: several packets

struct ours {
    struct torc_mapping mapping;
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_undo undo;
    void *undo_memory;
    uint64_t version;
};

_Noreturn void ours_die(const char *text);

// Room for `count` records. `touched`: all of its memory is made resident before anything is timed;
// the window's always is, for it is used again and again.
void ours_open(struct ours *ours, uint64_t count, uint32_t value_bytes, bool touched);

// From here on writes keep nothing.
void ours_undo_off(struct ours *ours);

void ours_close(struct ours *ours);

// Stamps as a worker gives them that takes 2 M writes a second.
uint64_t ours_version(struct ours *ours);

// Upserts of each key's own 16 bytes, `batch` (up to OURS_BURST) a call; and of one value for all.
void ours_insert(struct ours *ours, const uint64_t *keys, uint64_t count, uint32_t batch);
void ours_insert_value(struct ours *ours, const uint64_t *keys, uint64_t count,
                       const unsigned char *value, uint32_t value_bytes);

// Resident bytes of the tree, as `torc stats memory` counts them: its chunks, its guide's, and what
// large values take in the heap and its table. The window, which has bytes of its own there, is
// emptied first, as its age does it.
double ours_bytes(struct ours *ours);

// A JSON line of table `index`; `goal` 0: none was set.
void ours_row(const char *what, const char *keys, const char *peer_name, double rate, double peer,
              double goal);

#endif
