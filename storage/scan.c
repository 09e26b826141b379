// Torc storage: reading a range of a shard. See storage/scan.h.
#include "storage/scan.h"

#include <string.h>

#define COUNT_PAIRS 256u // of the past, counted as they are read
#define LOOK_FIRST  8u   // changes looked at before it is known that there are more

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

// -- The past -------------------------------------------------------------------------------------

// A page as of `ts`: pairs[0 .. out) are done; pairs[from .. to) were read from the tree and come
// after them; between lies room for records that were deleted since.
struct past {
    const struct torc_undo *undo;
    struct torc_tree_pair *pairs;
    uint64_t ts;
    uint32_t look_max;
    uint32_t looked; // keys that were written since
    uint32_t max;
    uint32_t out;
    uint32_t from;
    uint32_t to;
    bool reverse;
    bool refill; // pairs were given up for room: the tree's cursor goes back to the first of them
    uint64_t refill_key;
};

static bool past_is_before(const struct past *past, uint64_t a, uint64_t b)
{
    return past->reverse ? a > b : a < b;
}

// The pairs read that lie before `key` are as they were.
static void past_accept(struct past *past, const uint64_t *key)
{
    uint32_t count = 0;

    while (past->from + count < past->to &&
           (key == NULL || past_is_before(past, past->pairs[past->from + count].key, *key))) {
        torc_assert(past->pairs[past->from + count].version <= past->ts); // else there is a change
        count++;
    }
    if (past->out != past->from) {
        memmove(&past->pairs[past->out], &past->pairs[past->from], count * sizeof(past->pairs[0]));
    }
    past->out += count;
    past->from += count;
}

// Makes room before the pairs read: they move to the end of the array, or the last of them go.
static void past_make_room(struct past *past)
{
    uint32_t count = past->to - past->from;
    uint32_t room = past->max - past->out;

    if (past->out < past->from) {
        return;
    }
    torc_assert(room > 0);
    if (count == room) {
        count -= (count + 1) / 2;
        past->refill = true;
        past->refill_key = past->pairs[past->from + count].key;
    }
    memmove(&past->pairs[past->max - count], &past->pairs[past->from],
            count * sizeof(past->pairs[0]));
    past->from = past->max - count;
    past->to = past->max;
}

// A key that was written since. False: no room for it, nothing changed.
static bool past_change(struct past *past, const struct torc_undo_change *change)
{
    past_accept(past, &change->pair.key);
    if (change->present && past->out == past->max) {
        return false;
    }
    if (past->from < past->to && past->pairs[past->from].key == change->pair.key) {
        past->from++;
    } else if (change->present) {
        past_make_room(past);
    }
    if (change->present) {
        past->pairs[past->out++] = change->pair;
    }
    return true;
}

// From `from` to `next` nothing was written since: for the slices behind this one.
static void scan_quiet(struct torc_scan *scan, const struct past *past, uint64_t from,
                       const struct torc_undo_change *next)
{
    scan->quiet_stamp = past->undo->kept_count;
    scan->quiet_from = from;
    scan->quiet_all = next == NULL;
    scan->quiet_to = next == NULL ? 0 : next->pair.key;
}

static bool scan_is_quiet(const struct torc_scan *scan, const struct past *past, uint64_t first,
                          uint64_t last)
{
    return scan->quiet_stamp == past->undo->kept_count &&
           !past_is_before(past, first, scan->quiet_from) &&
           (scan->quiet_all || past_is_before(past, last, scan->quiet_to));
}

// One change after the pairs read up to `last`. False: the page ends before it, and goes on at *at.
static bool past_step(struct past *past, const struct torc_undo_change *change, uint64_t *at)
{
    if (past->refill && !past_is_before(past, change->pair.key, past->refill_key)) {
        *at = past->refill_key;
    } else if (!past_change(past, change)) {
        *at = change->pair.key;
    } else {
        return true;
    }
    past_accept(past, at);
    return false;
}

// The slice is done: the rest of it is as it was. False: but for the pairs that were given up.
static bool past_rest(struct past *past, uint64_t *at)
{
    past_accept(past, NULL);
    *at = past->refill_key;
    return !past->refill;
}

// Lays the changes from `first` to `last` over the pairs read. False when it did not come to
// `last`: the page is full, has looked at enough keys, or lost pairs for room; then it goes on at
// *at.
static bool past_overlay(struct torc_scan *scan, struct past *past, uint64_t first, uint64_t last,
                         uint64_t *at)
{
    struct torc_undo_change changes[TORC_UNDO_LOOK_MAX];
    uint64_t end = scan->cursor.end;
    struct torc_tree_cursor cursor;
    uint32_t some = LOOK_FIRST;

    torc_tree_cursor_open(&cursor, past->reverse ? end : first, past->reverse ? first : end,
                          past->reverse);
    for (; !cursor.done && past->looked < past->look_max; some = TORC_UNDO_LOOK_MAX) {
        uint32_t count = torc_undo_changes(past->undo, &cursor, past->ts, changes, some);

        past->looked += some;
        for (uint32_t i = 0; i < count; i++) {
            if (past_is_before(past, last, changes[i].pair.key)) {
                scan_quiet(scan, past, first, &changes[i]);
                return past_rest(past, at);
            }
            if (!past_step(past, &changes[i], at)) {
                return false;
            }
            if (changes[i].pair.key == scan->cursor.end) { // it was the last one
                return past_rest(past, at);
            }
            first = changes[i].pair.key + (past->reverse ? UINT64_MAX : 1);
        }
    }
    if (cursor.done) {
        scan_quiet(scan, past, first, NULL);
    } else if (past_is_before(past, cursor.next, last) || cursor.next == last) {
        *at = past->refill && past_is_before(past, past->refill_key, cursor.next) ? past->refill_key
                                                                                  : cursor.next;
        past_accept(past, at);
        return false;
    }
    return past_rest(past, at);
}

static uint32_t scan_past_next(struct torc_scan *scan, const struct torc_shard *shard,
                               struct torc_tree_pair *pairs, uint32_t pair_max)
{
    struct past past = {.undo = &shard->pool->undo,
                        .pairs = pairs,
                        .ts = scan->ts,
                        .max = pair_max,
                        .look_max = 4 * pair_max + 2 * TORC_UNDO_LOOK_MAX,
                        .reverse = scan->reverse};

    torc_assert(torc_undo_is_ready(past.undo, past.ts));
    while (past.out < pair_max && !scan->cursor.done && past.looked < past.look_max) {
        uint64_t first = scan->cursor.next;
        uint64_t last;
        uint64_t at;

        past.refill = false;
        past.from = past.out;
        past.to = past.out + torc_tree_scan(&shard->tree, &scan->cursor, pairs + past.out,
                                            pair_max - past.out);
        // Up to where the tree was read: the end, or just before the next key.
        last = scan->cursor.done ? scan->cursor.end
               : scan->reverse   ? scan->cursor.next + 1
                                 : scan->cursor.next - 1;
        if (scan_is_quiet(scan, &past, first, last)) {
            past_accept(&past, NULL);
        } else if (!past_overlay(scan, &past, first, last, &at)) {
            torc_tree_cursor_seek(&scan->cursor, at);
        }
    }
    return past.out;
}

void torc_scan_past(struct torc_scan *scan, uint64_t ts)
{
    scan->ts = ts;
    scan->quiet_stamp = UINT64_MAX;
}

static uint32_t scan_pairs(struct torc_scan *scan, const struct torc_shard *shard,
                           struct torc_tree_pair *pairs, uint32_t pair_max)
{
    return scan->ts == 0 || scan->ts >= shard->applied_hlc
               ? torc_tree_scan(&shard->tree, &scan->cursor, pairs, pair_max)
               : scan_past_next(scan, shard, pairs, pair_max);
}

void torc_scan_next(struct torc_scan *scan, const struct torc_shard *shard,
                    struct torc_tree_pair *pairs, uint32_t pair_max, struct torc_scan_page *page)
{
    page_empty(scan, page);
    torc_assert(pair_max > 0);
    if (scan->done) {
        return;
    }
    page->count = scan_pairs(scan, shard, pairs, (uint32_t)torc_min_u64(pair_max, scan->left));
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

static uint64_t scan_past_count(struct torc_scan *scan, const struct torc_shard *shard,
                                uint64_t record_max)
{
    struct torc_tree_pair pairs[COUNT_PAIRS];
    uint64_t count = 0;

    for (uint64_t steps = 0; steps < record_max && count < record_max && !scan->cursor.done;
         steps += COUNT_PAIRS) {
        count += scan_past_next(scan, shard, pairs,
                                (uint32_t)torc_min_u64(record_max - count, COUNT_PAIRS));
    }
    return count;
}

void torc_scan_count(struct torc_scan *scan, const struct torc_shard *shard, uint64_t record_max,
                     struct torc_scan_page *page)
{
    page_empty(scan, page);
    if (scan->done) {
        return;
    }
    record_max = torc_min_u64(record_max, scan->left);
    page->count = scan->ts == 0 || scan->ts >= shard->applied_hlc
                      ? torc_tree_scan_count(&shard->tree, &scan->cursor, record_max)
                      : scan_past_count(scan, shard, record_max);
    // A slice ends on a leaf's border: past the limit, the limit is what was counted.
    page->count = torc_min_u64(page->count, scan->left);
    scan->left -= page->count;
    scan_cover(scan, page);
}
