// Torc storage: reading a range of a shard. See storage/scan.h.
#include "storage/scan.h"

void torc_scan_open(struct torc_scan *scan, const struct torc_shard *shard, uint64_t lo,
                    uint64_t hi, uint64_t limit, bool reverse)
{
    torc_assert(lo <= hi);
    torc_assert(lo == hi || (lo >= shard->lo && hi <= shard->hi));
    *scan = (struct torc_scan){.lo = lo,
                               .hi = hi,
                               .at = reverse ? hi : lo,
                               .left = limit,
                               .reverse = reverse,
                               .done = lo == hi || limit == 0};
    if (!scan->done) {
        torc_tree_cursor_open(&scan->cursor, lo, hi - 1, reverse);
    }
}

// All up to the cursor's place is covered; at the end, all that is left.
static void scan_cover(struct torc_scan *scan, struct torc_scan_page *page)
{
    uint64_t from = scan->at;

    if (scan->cursor.done) {
        scan->at = scan->reverse ? scan->lo : scan->hi;
    } else {
        scan->at = scan->reverse ? scan->cursor.next + 1 : scan->cursor.next;
    }
    scan->done = scan->cursor.done || scan->left == 0;
    page->cover_lo = scan->reverse ? scan->at : from;
    page->cover_hi = scan->reverse ? from : scan->at;
    page->done = scan->done;
}

static void page_empty(const struct torc_scan *scan, struct torc_scan_page *page)
{
    *page = (struct torc_scan_page){
        .cover_lo = scan->at, .cover_hi = scan->at, .count = 0, .done = scan->done};
}

void torc_scan_next(struct torc_scan *scan, const struct torc_shard *shard,
                    struct torc_tree_pair *pairs, uint32_t pair_max, struct torc_scan_page *page)
{
    page_empty(scan, page);
    torc_assert(pair_max > 0);
    if (scan->done) {
        return;
    }
    page->count = torc_tree_scan(&shard->tree, &scan->cursor, pairs,
                                 (uint32_t)torc_min_u64(pair_max, scan->left));
    scan->left -= page->count;
    scan_cover(scan, page);
}

void torc_scan_keep(struct torc_scan *scan, const struct torc_tree_pair *pairs, uint32_t count,
                    struct torc_scan_page *page)
{
    torc_assert(count <= page->count);
    if (count == page->count) {
        return;
    }
    scan->left += page->count - count;
    torc_tree_cursor_seek(&scan->cursor, pairs[count].key);
    scan->at = scan->reverse ? page->cover_hi : page->cover_lo;
    page->count = count;
    scan_cover(scan, page);
}

void torc_scan_count(struct torc_scan *scan, const struct torc_shard *shard, uint64_t record_max,
                     struct torc_scan_page *page)
{
    page_empty(scan, page);
    if (scan->done) {
        return;
    }
    page->count =
        torc_tree_scan_count(&shard->tree, &scan->cursor, torc_min_u64(record_max, scan->left));
    // A slice ends on a leaf's border: past the limit, the limit is what was counted.
    page->count = torc_min_u64(page->count, scan->left);
    scan->left -= page->count;
    scan_cover(scan, page);
}
