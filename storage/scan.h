// Torc storage: reading a range of a shard, page by page.
//
// What    a scan over [lo, hi) within one shard, from either end, with a limit: pages of pairs, or
//         counts. A page says which interval it covers; the covers of a scan tile [lo, hi) (up to
//         where the limit ended it), so a client sees holes whatever was lost on the way.
// Owner   the shard's core.
// Memory  inside the struct. Pairs point into the tree, good until its next change.
// Consistency  `shard`: each page is one moment of the shard; the tree may change between pages. A
//         scan as of a timestamp (torc_scan_past) is one moment altogether: before each page or
//         count torc_shard_past must have said READY for that timestamp, with no write since.
// Past    a page reads the leaves and lays over them what the undo window says. The next keys that
//         were written are read from its index ahead of the pages, in order, and kept until more is
//         written; what they held is asked for a slice ahead. Leaves that
//         nothing was written to since, by their stamps, are taken as they are. A page goes through
//         at most about 4 times pair_max + 64 keys that were written since: it may come out short,
//         even empty, without being done.
#ifndef TORC_STORAGE_SCAN_H
#define TORC_STORAGE_SCAN_H

#include "storage/shard.h"

// The next keys that may have been written above a scan's timestamp, in its direction: all of the
// index from `from` to where the cursor stands.
struct torc_scan_ahead {
    struct torc_tree_cursor cursor; // through the index
    uint64_t kept_count;            // the undo window's, as of
    uint64_t index_number;
    uint64_t from;
    uint32_t at; // keys[at] comes next
    uint32_t count;
    uint32_t asked; // as far as entries were asked for
    struct torc_undo_key keys[TORC_UNDO_KEYS_MAX];
};

struct torc_scan {
    struct torc_tree_cursor cursor;
    uint64_t lo;
    uint64_t hi;
    uint64_t at;   // forward: all of [lo, at) was covered; reverse: all of [at, hi)
    uint64_t left; // of the limit
    uint64_t ts;   // as of; 0: now
    bool reverse;
    bool done;
    struct torc_scan_ahead ahead; // of the past
};

struct torc_scan_page {
    uint64_t cover_lo;
    uint64_t cover_hi; // exclusive; lo == hi: nothing covered
    uint64_t count;    // pairs, or records counted
    bool done;         // the range, or its limit, is at its end
};

// lo <= hi, both within the shard's interval (hi may be its end). limit 0 is a scan that is over.
void torc_scan_open(struct torc_scan *scan, const struct torc_shard *shard, uint64_t lo,
                    uint64_t hi, uint64_t limit, bool reverse);

// After torc_scan_open: as of `ts`.
void torc_scan_past(struct torc_scan *scan, uint64_t ts);

// At most pair_max pairs (1 or more) into `pairs`.
void torc_scan_next(struct torc_scan *scan, const struct torc_shard *shard,
                    struct torc_tree_pair *pairs, uint32_t pair_max, struct torc_scan_page *page);

// Only the first `count` pairs of the page were used (a packet was full): the others come again,
// and the page's cover shrinks. Before the tree changes or the scan goes on.
void torc_scan_keep(struct torc_scan *scan, const struct torc_tree_pair *pairs, uint32_t count,
                    struct torc_scan_page *page);

// Counts about record_max records on, at most a leaf more; never more than the limit. (As of a
// timestamp: at most about that many, and keys written since count as well.)
void torc_scan_count(struct torc_scan *scan, const struct torc_shard *shard, uint64_t record_max,
                     struct torc_scan_page *page);

#endif
