// Torc client: ranges: a page's holes are scanned, the chunks that come tile it; see
// engine_state.h.
//
// What    a page knows the tiles that came, in key order, and the scans under way. The part from
//         its start (reverse: its end) without a hole is its front. As long as the front has not
//         reached the page's limits, each hole is scanned, cut at the borders of shards: first one
//         at a time, since most pages end in their first shard; then more at once.
//         A chunk that was lost is a hole like any other (engine.h, C5).
// Sources WIRE.md, section 3, "Range chunk"; DESIGN.md, section 7.
#include "client/engine_state.h"
#include "kit/bugs.h"

#define COUNT_CREDIT   4u
#define CREDIT_MAX     64u
#define CHUNK_OVERHEAD (TORC_DATA_OVERHEAD + TORC_REPLY_HEAD_BYTES + TORC_ROWS_HEAD_BYTES)
#define SCANS_FACTOR   4u
#define RESTARTS_MAX   8u

static uint64_t page_end(const struct torc_page_state *page)
{
    return page->reverse ? page->lo : page->hi;
}

static bool page_is_full(const struct torc_page_state *page)
{
    return !page->is_count && (page->row_count >= page->limit || page->bytes >= page->bytes_max);
}

static bool page_is_done(const struct torc_page_state *page)
{
    return page->front == page_end(page) || page_is_full(page);
}

// ---- Tiles

static void tile_link(struct torc_page_state *page, struct torc_tile *tile,
                      struct torc_tile *before)
{
    tile->next = before;
    tile->previous = before == NULL ? page->last : before->previous;
    if (tile->previous == NULL) {
        page->first = tile;
    } else {
        tile->previous->next = tile;
    }
    if (before == NULL) {
        page->last = tile;
    } else {
        before->previous = tile;
    }
}

// The rows inside the part that counts, and what they weigh.
static void tile_measure(struct torc_tile *tile)
{
    tile->row_first = tile->row_count = 0;
    tile->bytes = 0;
    if (tile->lo <= tile->rows.place.cover_lo && tile->hi >= tile->rows.place.cover_hi &&
        torc_rows_value_bytes(&tile->rows, &tile->bytes)) {
        tile->row_count = tile->rows.count; // all of them, as most chunks are
        tile->bytes += (uint64_t)TORC_PAGE_ROW_BYTES * tile->rows.count;
        return;
    }
    tile->bytes = 0;
    for (uint32_t i = 0; i < tile->rows.count; i++) {
        struct torc_rows_item item;

        torc_rows_at(&tile->rows, i, &item);
        if (item.key >= tile->lo && item.key < tile->hi) {
            tile->row_first = tile->row_count == 0 ? i : tile->row_first;
            tile->row_count++;
            tile->bytes += TORC_PAGE_ROW_BYTES + item.value_bytes;
        }
    }
}

// Takes the part of [lo, hi) that is new into the page; false when nothing of it is.
static bool tile_place(struct torc_page_state *page, struct torc_tile *tile)
{
    struct torc_tile *at = page->last;
    uint64_t lo = tile->lo;

    // From the end backward: most chunks come in order. In reverse most come before all others.
    if (page->first != NULL && tile->hi <= page->first->lo) {
        at = NULL;
    }
    while (at != NULL && at->hi > lo) {
        at = at->previous;
    }
    at = at == NULL ? page->first : at->next;
    while (at != NULL && at->lo <= lo) {
        lo = torc_max_u64(lo, at->hi);
        at = at->next;
    }
    if (page->is_count && (lo != tile->lo || (at != NULL && at->lo < tile->hi))) {
        return false; // a number cannot be cut: the hole will be counted by itself
    }
    tile->lo = lo;
    tile->hi = at == NULL ? tile->hi : torc_min_u64(tile->hi, at->lo);
    if (tile->lo >= tile->hi) {
        return false;
    }
    tile_link(page, tile, at);
    return true;
}

// The front moves over tiles that adjoin it.
static void page_advance(struct torc_page_state *page)
{
    struct torc_tile *tile = page->front_tile == NULL ? (page->reverse ? page->last : page->first)
                                                      : (page->reverse ? page->front_tile->previous
                                                                       : page->front_tile->next);

    while (tile != NULL && !page_is_full(page) &&
           (page->reverse ? tile->hi : tile->lo) == page->front) {
        page->front = page->reverse ? tile->lo : tile->hi;
        page->front_tile = tile;
        page->row_count += tile->row_count;
        page->bytes += tile->bytes;
        page->counted += tile->rows.counted;
        tile = page->reverse ? tile->previous : tile->next;
    }
}

// ---- Scans

static void scan_end(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_page_state *page = engine->ops[op->parent].page;

    torc_assert(page->scans[op->part].op == index);
    page->scans[op->part].op = TORC_OP_NONE;
    page->scan_count--;
    torc_op_free(engine, index);
}

static bool scan_begin(struct torc_engine *engine, uint32_t page_index, uint64_t lo, uint64_t hi)
{
    struct torc_op *page_op = &engine->ops[page_index];
    struct torc_page_state *page = page_op->page;
    uint32_t index = torc_op_take_own(engine, TORC_OPS_KEPT);
    struct torc_op *op;
    uint32_t part = 0;

    if (index == TORC_OP_NONE) {
        return false;
    }
    while (page->scans[part].op != TORC_OP_NONE) {
        part++;
    }
    torc_assert(part < TORC_PAGE_SCANS_MAX);
    page->scans[part] = (struct torc_page_scan){.lo = lo, .hi = hi, .op = index};
    page->scan_count++;
    op = &engine->ops[index];
    op->kind = TORC_OP_SCAN;
    op->key = lo;
    op->hi = hi;
    op->parent = page_index;
    op->part = part;
    op->deadline_ns = page_op->deadline_ns;
    op->age_ms = page->age_ms;
    op->hlc = page_op->hlc;
    torc_op_route(engine, index);
    return true;
}

void torc_scan_clip(struct torc_engine *engine, uint32_t index, uint64_t shard_hi)
{
    struct torc_op *op = &engine->ops[index];

    op->hi = torc_min_u64(op->hi, shard_hi);
    engine->ops[op->parent].page->scans[op->part].hi = op->hi;
}

uint32_t torc_scan_credit(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_page_state *page = engine->ops[op->parent].page;
    uint32_t payload = engine->nodes[op->node].payload;
    uint64_t most = torc_min_u64(CREDIT_MAX, TORC_INBOUND_BYTES / payload);
    uint64_t rows = page->limit - torc_min_u64(page->row_count, page->limit);
    uint64_t bytes = page->bytes_max - torc_min_u64(page->bytes, page->bytes_max);

    if (page->clocking || (page->snapshot && page->ts == 0)) {
        return 1; // what came after the first chunk would be of other moments
    }
    if (page->is_count) {
        return COUNT_CREDIT;
    }
    if (rows < UINT32_MAX) {
        bytes = torc_min_u64(bytes, rows * (engine->row_mean + engine->row_mean / 4 + 4));
    }
    return (uint32_t)torc_min_u64(bytes / (payload - CHUNK_OVERHEAD) + 1, most);
}

void torc_scan_request(struct torc_engine *engine, uint32_t index, struct torc_request *request)
{
    struct torc_op *op = &engine->ops[index];
    const struct torc_page_state *page = engine->ops[op->parent].page;

    request->opcode = page->clocking ? TORC_OPCODE_CLOCK : TORC_OPCODE_RANGE_READ;
    request->lo = op->key;
    request->hi = op->hi;
    op->chunks = op->chunks_all = 0;
    op->credit = (uint16_t)torc_scan_credit(engine, op);
    if (page->clocking) {
        return;
    }
    request->flags = page->wire_flags;
    request->ts = page->ts;
    request->limit = page->is_count || page->limit == UINT64_MAX
                         ? 0
                         : page->limit - torc_min_u64(page->row_count, page->limit - 1);
    request->epoch = op->epoch;
    request->max_age_ms = op->age_ms;
}

// ---- Pumping

// Where a hole ends that begins at `at` (in reverse: that ends there): at the next tile, the next
//       scan
// under way, the shard's border or the page's end. Equal to `at`: there is no hole, *at moves on.
static uint64_t hole_forward(const struct torc_engine *engine, const struct torc_page_state *page,
                             const struct torc_tile *tile, uint64_t *at)
{
    uint64_t end = tile == NULL ? page->hi : torc_min_u64(page->hi, tile->lo);
    const struct torc_map_entry *shard;

    for (uint32_t i = 0; i < TORC_PAGE_SCANS_MAX; i++) {
        const struct torc_page_scan *scan = &page->scans[i];

        if (scan->op == TORC_OP_NONE || scan->hi <= *at) {
            continue;
        }
        if (scan->lo <= *at) {
            *at = scan->hi;
            return *at;
        }
        end = torc_min_u64(end, scan->lo);
    }
    shard = torc_route_find(engine, *at);
    return shard == NULL ? end : torc_min_u64(end, shard->hi);
}

static uint64_t hole_reverse(const struct torc_engine *engine, const struct torc_page_state *page,
                             const struct torc_tile *tile, uint64_t *at)
{
    uint64_t end = tile == NULL ? page->lo : torc_max_u64(page->lo, tile->hi);
    const struct torc_map_entry *shard;

    for (uint32_t i = 0; i < TORC_PAGE_SCANS_MAX; i++) {
        const struct torc_page_scan *scan = &page->scans[i];

        if (scan->op == TORC_OP_NONE || scan->lo >= *at) {
            continue;
        }
        if (scan->hi >= *at) {
            *at = scan->lo;
            return *at;
        }
        end = torc_max_u64(end, scan->hi);
    }
    shard = torc_route_find(engine, *at - 1);
    return shard == NULL ? end : torc_max_u64(end, shard->lo);
}

// Starts scans for holes, nearest to the front first. False: no slot for the first of them.
static bool page_scan(struct torc_engine *engine, uint32_t index)
{
    struct torc_page_state *page = engine->ops[index].page;
    struct torc_tile *tile = page->front_tile == NULL ? (page->reverse ? page->last : page->first)
                                                      : (page->reverse ? page->front_tile->previous
                                                                       : page->front_tile->next);
    uint64_t at = page->front;

    while (at != page_end(page) && page->scan_count < page->scans_max) {
        uint64_t end;

        if (tile != NULL && (page->reverse ? tile->hi : tile->lo) == at) {
            at = page->reverse ? tile->lo : tile->hi;
            tile = page->reverse ? tile->previous : tile->next;
            continue;
        }
        end = page->reverse ? hole_reverse(engine, page, tile, &at)
                            : hole_forward(engine, page, tile, &at);
        // A scan under way may reach behind tiles that came from it.
        while (tile != NULL && (page->reverse ? tile->lo >= at : tile->hi <= at)) {
            tile = page->reverse ? tile->previous : tile->next;
        }
        if (tile != NULL && (page->reverse ? tile->hi > at : tile->lo < at)) {
            at = page->reverse ? tile->lo : tile->hi;
            tile = page->reverse ? tile->previous : tile->next;
            continue;
        }
        if (end == at) {
            continue;
        }
        if (!scan_begin(engine, index, page->reverse ? end : at, page->reverse ? at : end)) {
            return page->scan_count > 0;
        }
        at = end;
    }
    return true;
}

void torc_page_pump(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_page_state *page = op->page;

    torc_op_unlink(engine, index);
    torc_wheel_set(&engine->wheel, index, op->deadline_ns);
    if (page->fetching) {
        torc_page_fetch(engine, index);
        return;
    }
    page_advance(page);
    if (page->clocking && page_is_done(page)) { // all shards have told their clocks
        page->ts = torc_max_u64(page->ts, TORC_BUG(CLIENT_WITHOUT_HLC) ? 0 : op->hlc);
        page->clocking = false;
        torc_page_rewind(engine, page);
    }
    if (page_is_done(page)) {
        torc_page_finish(engine, index);
        return;
    }
    if (!page_scan(engine, index)) {
        torc_op_hold(engine, index, TORC_HOLD_STARVED);
    }
}

// A snapshot of several shards has a moment that is not before any of their last writes.
static bool page_wants_clock(const struct torc_engine *engine, const struct torc_page_state *page)
{
    const struct torc_map_entry *shard = torc_route_find(engine, page->lo);

    return page->snapshot && page->ts == 0 && page->lo < page->hi &&
           (shard == NULL || shard->hi < page->hi);
}

void torc_page_begin(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_page_state *page = op->page;

    torc_op_unlink(engine, index);
    torc_wheel_set(&engine->wheel, index, op->deadline_ns);
    if (engine->keys == 0) {
        op->state = TORC_OP_PARKED;
        torc_ops_push(engine, &engine->parked, index);
        return;
    }
    if (page->hi > engine->keys || page->lo > engine->keys) {
        torc_op_end(engine, index, TORC_ERR_INVALID_ARGUMENT,
                    "range [%" PRIu64 ", %" PRIu64 "): keys are below %" PRIu64, page->lo, page->hi,
                    engine->keys);
        return;
    }
    page->clocking = page_wants_clock(engine, page);
    torc_page_rewind(engine, page);
    torc_page_pump(engine, index);
}

bool torc_page_restart(struct torc_engine *engine, uint32_t index)
{
    struct torc_page_state *page = engine->ops[index].page;

    if (!page->snapshot || page->ts_given || page->restarts >= RESTARTS_MAX) {
        return false;
    }
    torc_page_abandon(engine, index);
    page->restarts++;
    page->ts = 0;
    page->fetching = false;
    torc_page_begin(engine, index);
    return true;
}

// ---- Chunks

// A copy of a chunk in the page; NULL: no memory, or the chunk is not as it should be.
static struct torc_tile *tile_take(struct torc_engine *engine, const struct torc_op *op,
                                   const struct torc_reply *reply)
{
    const struct torc_page_state *page = engine->ops[op->parent].page;
    struct torc_tile *tile =
        torc_pool_take(&engine->pool, sizeof(struct torc_tile) + reply->body_bytes);
    bool is_count;

    if (tile == NULL) {
        return NULL;
    }
    memcpy(tile->body, reply->body, reply->body_bytes);
    if (torc_rows_decode(&tile->rows, tile->body, reply->body_bytes, page->reverse, NULL) ==
        TORC_ERR_OK) {
        is_count = (tile->rows.encoding & TORC_ROWS_COUNT) != 0;
        tile->lo = torc_max_u64(tile->rows.place.cover_lo, op->key);
        tile->hi = torc_min_u64(tile->rows.place.cover_hi, op->hi);
        if (is_count == page->is_count && tile->lo <= tile->hi) {
            return tile;
        }
    }
    torc_pool_give(&engine->pool, tile);
    engine->counters.packets_ignored++;
    return NULL;
}

static void scan_progress(struct torc_engine *engine, struct torc_op *op,
                          const struct torc_tile *tile, uint32_t body_bytes)
{
    op->chunks++;
    if ((tile->rows.place.flags & TORC_ROWS_LAST) != 0 ||
        tile->rows.place.chunk + 1 >= op->credit) {
        op->chunks_all = (uint16_t)torc_min_u64(tile->rows.place.chunk + 1ull, op->credit);
    }
    if (tile->rows.count > 0) {
        engine->row_mean =
            (uint32_t)((7ull * engine->row_mean + body_bytes / tile->rows.count + 7) / 8);
    }
}

// A shard's clock: its cover is a tile without rows. What it does not cover is asked for again.
static void clock_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t page_index = op->parent;
    struct torc_page_state *page = engine->ops[page_index].page;
    bool any = false;

    for (uint32_t at = 0; at + 2 * sizeof(struct torc_le64) <= reply->body_bytes;
         at += 2 * sizeof(struct torc_le64)) {
        struct torc_tile *tile = torc_pool_take(&engine->pool, sizeof(struct torc_tile));
        struct torc_le64 pair[2];

        if (tile == NULL) {
            break;
        }
        memcpy(pair, reply->body + at, sizeof(pair));
        *tile = (struct torc_tile){.lo = torc_max_u64(torc_get_le64(pair[0]), op->key),
                                   .hi = torc_min_u64(torc_get_le64(pair[1]), op->hi)};
        if (tile->lo >= tile->hi || !tile_place(page, tile)) {
            torc_pool_give(&engine->pool, tile);
            continue;
        }
        any = true;
    }
    if (!any) { // the shard is not there, or not ready
        torc_call_refused(engine, index, 0, TORC_ERR_WRONG_SHARD, 0);
        return;
    }
    page->ts = torc_max_u64(page->ts, reply->info);
    if (op->state == TORC_OP_SENT) { // else it was given up for lost, and waits to be sent again
        torc_packet_answered(engine, op->packet);
    }
    scan_end(engine, index);
    torc_page_pump(engine, page_index);
}

void torc_scan_reply(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t page_index = op->parent;
    struct torc_page_state *page = engine->ops[page_index].page;
    struct torc_tile *tile;
    bool is_last;

    if (reply->status != TORC_ERR_OK) {
        torc_call_refused(engine, index, 0, (enum torc_err)reply->status, reply->info);
        return;
    }
    if (page->clocking && reply->opcode == (TORC_OPCODE_CLOCK | TORC_REPLY_BIT)) {
        clock_reply(engine, index, reply);
        return;
    }
    if (page->clocking || reply->opcode != (TORC_OPCODE_RANGE_READ | TORC_REPLY_BIT) ||
        (page->snapshot && page->ts != 0 && reply->info != page->ts)) {
        return; // to something asked before
    }
    tile = tile_take(engine, op, reply);
    if (tile == NULL) {
        return; // a hole, that will be scanned again
    }
    torc_stale_answered(engine, op);
    if (op->lent) { // once for each token: a scan has many answers, and ends without torc_op_end
        op->lent = false;
        torc_budget_proved(engine, &engine->nodes[op->node]);
    }
    tile->ts = reply->info;
    page->ts = page->snapshot ? reply->info : 0;
    scan_progress(engine, op, tile, reply->body_bytes);
    is_last = (tile->rows.place.flags & TORC_ROWS_LAST) != 0;
    if (tile_place(page, tile)) {
        tile_measure(tile);
    } else {
        torc_pool_give(&engine->pool, tile);
    }
    page_advance(page);
    if (page_is_done(page) || (op->chunks_all > 0 && op->state != TORC_OP_SENT)) {
        torc_page_pump(engine, page_index);
        return;
    }
    if (op->chunks_all > 0) {
        // The last one has come; what is missing of the others is lost, or late and then not
        // needed.
        engine->counters.range_repairs += op->chunks < op->chunks_all ? 1 : 0;
        if (is_last) {
            // The shard's part is through and the page is not full: look at more shards at once.
            page->scans_max = (uint32_t)torc_min_u64((uint64_t)page->scans_max * SCANS_FACTOR,
                                                     TORC_PAGE_SCANS_MAX);
        }
        torc_packet_answered(engine, op->packet);
        scan_end(engine, index);
        torc_page_pump(engine, page_index);
        return;
    }
    if (op->state == TORC_OP_SENT) {
        op->backoff = 0;
        torc_wheel_set(
            &engine->wheel, index,
            torc_min_u64(engine->now_ns + torc_path_rto_ns(engine, op), op->deadline_ns));
    }
}

bool torc_scan_late(struct torc_engine *engine, uint32_t index)
{
    uint32_t page_index = engine->ops[index].parent;

    if (engine->ops[index].chunks == 0) {
        return false;
    }
    engine->counters.range_repairs++;
    scan_end(engine, index);
    torc_page_pump(engine, page_index);
    return true;
}

void torc_page_child_end(struct torc_engine *engine, uint32_t index, enum torc_err status)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t page_index = op->parent;

    if (op->kind == TORC_OP_GET) {
        torc_page_fetched(engine, index, status);
        return;
    }
    memcpy(torc_op_text(engine, page_index), torc_op_text(engine, index), TORC_OP_TEXT_BYTES);
    scan_end(engine, index);
    if (status == TORC_ERR_SNAPSHOT_TOO_OLD && torc_page_restart(engine, page_index)) {
        return;
    }
    torc_op_end(engine, page_index, status, NULL);
}
