// Torc storage: reading a range of a shard. See storage/scan.h.
#include "storage/scan.h"

#include <string.h>

#define COUNT_PAIRS 256u // of the past, counted as they are read
#define KEYS_FIRST  8u   // read from the index before it is known that a scan needs more
#define KEYS_LEFT   16u  // more are read when no more are left
#define GALLOP      8u   // pairs compared one by one before larger steps

void torc_scan_open(struct torc_scan *scan, const struct torc_shard *shard, uint64_t lo,
                    uint64_t hi, uint64_t limit, bool reverse)
{
    torc_assert(lo <= hi);
    torc_assert(lo == hi || (lo >= shard->lo && hi <= shard->hi));
    scan->lo = lo; // not `ahead`, which is large, and of the past alone
    scan->hi = hi;
    scan->at = reverse ? hi : lo;
    scan->left = limit;
    scan->ts = 0;
    scan->reverse = reverse;
    scan->done = lo == hi || limit == 0;
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
    uint64_t ask_to; // entries of keys up to it are asked for
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

// How many of the pairs read lie before `key`: one by one where changes are dense, else by halves.
static uint32_t past_count_before(const struct past *past, uint64_t key)
{
    const struct torc_tree_pair *pairs = &past->pairs[past->from];
    uint32_t high = past->to - past->from;
    uint32_t low = 0;

    while (low < high && low < GALLOP && past_is_before(past, pairs[low].key, key)) {
        low++;
    }
    if (low < GALLOP) {
        return low;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (past_is_before(past, pairs[middle].key, key)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// The pairs read that lie before `key` are as they were; NULL: all of them.
static void past_accept(struct past *past, const uint64_t *key)
{
    uint32_t count = key == NULL ? past->to - past->from : past_count_before(past, *key);

    if (count > 0) { // else there would be a change; of all of them it would cost a page's half
        torc_assert(past->pairs[past->from].version <= past->ts);
        torc_assert(past->pairs[past->from + count - 1].version <= past->ts);
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

// Asks for the entries of the keys up to past->ask_to.
static void ahead_ask(struct torc_scan_ahead *ahead, const struct past *past)
{
    uint32_t to = ahead->asked;

    while (to < ahead->count && !past_is_before(past, past->ask_to, ahead->keys[to].key)) {
        to++;
    }
    torc_undo_ask(past->undo, ahead->keys, &ahead->asked, to);
}

// Reads more keys, behind those that are left.
static void ahead_fill(struct torc_scan_ahead *ahead, const struct past *past, uint32_t some)
{
    uint32_t left = ahead->count - ahead->at;

    if (ahead->cursor.done) {
        return;
    }
    if (ahead->at > 0) {
        ahead->from = ahead->keys[ahead->at - 1].key + (past->reverse ? UINT64_MAX : 1);
        memmove(ahead->keys, ahead->keys + ahead->at, left * sizeof(ahead->keys[0]));
        ahead->asked -= ahead->at;
        ahead->at = 0;
    }
    ahead->count =
        left + torc_undo_keys(past->undo, &ahead->cursor, ahead->keys + left, some - left);
}

// Is what was read of the index as it is?
static bool ahead_holds(const struct torc_scan_ahead *ahead, const struct past *past)
{
    return ahead->kept_count == past->undo->kept_count &&
           ahead->index_number == past->undo->index_number;
}

// Before a slice that begins at `first`: what is known of the keys ahead still holds, or is read.
static void ahead_look(struct torc_scan *scan, const struct past *past, uint64_t first)
{
    struct torc_scan_ahead *ahead = &scan->ahead;
    uint64_t end = scan->cursor.end;

    if (!ahead_holds(ahead, past) || past_is_before(past, first, ahead->from) ||
        (!ahead->cursor.done && past_is_before(past, ahead->cursor.next, first))) {
        ahead->kept_count = past->undo->kept_count;
        ahead->index_number = past->undo->index_number;
        ahead->from = first;
        ahead->at = 0;
        ahead->count = 0;
        ahead->asked = 0;
        torc_tree_cursor_open(&ahead->cursor, past->reverse ? end : first,
                              past->reverse ? first : end, past->reverse);
        ahead_fill(ahead, past, KEYS_FIRST);
        return;
    }
    // Back to an earlier place: some come again.
    while (ahead->at > 0 && !past_is_before(past, ahead->keys[ahead->at - 1].key, first)) {
        ahead->at--;
    }
    // Past leaves that were not looked at, for nothing in them is above the timestamp.
    while (ahead->at < ahead->count && past_is_before(past, ahead->keys[ahead->at].key, first)) {
        ahead->at++;
    }
    ahead->asked = ahead->asked > ahead->at ? ahead->asked : ahead->at;
    if (ahead->count - ahead->at <= KEYS_LEFT) {
        ahead_fill(ahead, past, TORC_UNDO_KEYS_MAX);
    }
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

// Lays the changes up to `last` over the pairs read. False when it did not come to `last`: the page
// is full, has looked at enough keys, or lost pairs for room; then it goes on at *at.
static bool past_overlay(struct torc_scan_ahead *ahead, struct past *past, uint64_t last,
                         uint64_t *at)
{
    struct torc_undo_change change;

    for (;; ahead->at++) {
        const struct torc_undo_key *key;

        if (ahead->at == ahead->count) {
            ahead_fill(ahead, past, TORC_UNDO_KEYS_MAX);
            ahead_ask(ahead, past);
        }
        key = &ahead->keys[ahead->at];
        if (ahead->at == ahead->count || past_is_before(past, last, key->key)) {
            return past_rest(past, at);
        }
        if (past->looked == past->look_max) {
            *at = past->refill && past_is_before(past, past->refill_key, key->key)
                      ? past->refill_key
                      : key->key;
            past_accept(past, at);
            return false;
        }
        past->looked++;
        if (torc_undo_change(past->undo, key, past->ts, &change) && !past_step(past, &change, at)) {
            return false; // the key comes again
        }
    }
}

// The key that lies as far behind `last` as that behind `first`, or the last there is.
static uint64_t past_further(const struct past *past, uint64_t first, uint64_t last)
{
    if (past->reverse) {
        return last - torc_min_u64(first - last, last);
    }
    return last + torc_min_u64(last - first, UINT64_MAX - last);
}

static uint32_t scan_past_next(struct torc_scan *scan, const struct torc_shard *shard,
                               struct torc_tree_pair *pairs, uint32_t pair_max)
{
    struct past past = {.undo = &shard->pool->undo,
                        .pairs = pairs,
                        .ts = scan->ts,
                        .max = pair_max,
                        .look_max = 4 * pair_max + 2 * TORC_UNDO_KEYS_MAX,
                        .reverse = scan->reverse};
    bool going_on = scan->at != (scan->reverse ? scan->hi : scan->lo);

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
        past.ask_to = going_on ? past_further(&past, first, last) : last;
        if (scan->cursor.stamp <= past.ts) { // nothing in these leaves was written since
            if (going_on && ahead_holds(&scan->ahead, &past)) {
                ahead_ask(&scan->ahead, &past);
            }
            past_accept(&past, NULL);
            continue;
        }
        ahead_look(scan, &past, first);
        ahead_ask(&scan->ahead, &past);
        if (!past_overlay(&scan->ahead, &past, last, &at)) {
            torc_tree_cursor_seek(&scan->cursor, at);
        }
    }
    return past.out;
}

void torc_scan_past(struct torc_scan *scan, uint64_t ts)
{
    scan->ts = ts;
    scan->ahead.kept_count = UINT64_MAX;
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
