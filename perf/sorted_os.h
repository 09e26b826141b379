// Torc perf: sorted batches of upserts, for perf/tree-bench: what a backup applies.
//
// What    batches of 4096 keys, each in order, given to the tree 64 at a time: overwrites and
//         inserts, of which 1, 4 and 16 fall into a leaf. Beside them others like them, unsorted,
//         and absl with the same sorted ones.
// Owner   one thread.  Memory  as much as the tree, and absl's map, need beside the caller's keys.
#ifndef TORC_PERF_SORTED_OS_H
#define TORC_PERF_SORTED_OS_H

#include <stdint.h>

// `sorted`: the keys there are, in order. About `write_count` writes a row.
void sorted_rows(const uint64_t *sorted, uint64_t count, uint64_t write_count,
                 const char *keys_word);

#endif
