// Torc client: the covered part of a range becomes rows; see engine_state.h.
//
// Memory  rows are an array in a pool block; their values stay in the tiles, or, when they are
//         larger than a packet, in blocks of their own. All is freed with the operation.
#include "client/engine_state.h"

#define FETCHES_MAX 16u
#define ROW_FETCH   UINT64_MAX // `bytes` of a row whose value is still to come; `data`: its tile
#define ROW_GONE    (UINT64_MAX - 1) // `bytes` of a row that was deleted meanwhile

// Tiles, rows and fetched values go.
static void page_empty(struct torc_engine *engine, struct torc_page_state *page)
{
    while (page->first != NULL) {
        struct torc_tile *tile = page->first;

        page->first = tile->next;
        torc_pool_give(&engine->pool, tile);
    }
    for (uint32_t i = page->block_count; i-- > 0;) {
        torc_pool_give(&engine->pool,
                       page->blocks[i]); // the list itself is its first: it goes last
    }
    torc_pool_give(&engine->pool, page->rows);
}

void torc_page_free_state(struct torc_engine *engine, struct torc_op *op)
{
    if (op->page == NULL) {
        return;
    }
    page_empty(engine, op->page);
    torc_pool_give(&engine->pool, op->page);
    op->page = NULL;
}

void torc_page_rewind(struct torc_engine *engine, struct torc_page_state *page)
{
    page_empty(engine, page);
    page->first = page->last = page->front_tile = NULL;
    page->rows = NULL;
    page->blocks = NULL;
    page->block_count = page->reference_count = 0;
    page->rows_done = page->fetch_next = 0;
    page->row_count = page->bytes = page->counted = 0;
    page->fetching = false;
    page->front = page->reverse ? page->hi : page->lo;
    page->scans_max = page->is_count || page->clocking ? TORC_PAGE_SCANS_MAX : 1;
}

void torc_page_abandon(struct torc_engine *engine, uint32_t index)
{
    struct torc_page_state *page = engine->ops[index].page;

    if (page->scan_count + page->fetch_count == 0) {
        return;
    }
    for (uint32_t at = engine->config.operations; at < engine->op_count; at++) {
        if (engine->ops[at].state != TORC_OP_FREE && engine->ops[at].parent == index) {
            torc_op_free(engine, at);
        }
    }
    for (uint32_t i = 0; i < TORC_PAGE_SCANS_MAX; i++) {
        page->scans[i].op = TORC_OP_NONE;
    }
    page->scan_count = page->fetch_count = 0;
}

// ---- Rows

struct rows_fill {
    struct torc_page_state *page;
    uint64_t room; // rows
    uint64_t count;
    uint64_t bytes;
    bool cut; // something of the covered part did not get in
};

static void row_set(struct torc_row *row, const struct torc_rows_item *item,
                    const struct torc_tile *tile)
{
    *row = (struct torc_row){.key = item->key,
                             .version = item->version,
                             .data = item->by_reference ? (const void *)tile : item->value,
                             .bytes = item->by_reference ? ROW_FETCH : item->value_bytes};
}

static void rows_from_tile(struct rows_fill *fill, const struct torc_tile *tile)
{
    for (uint32_t i = 0; i < tile->row_count; i++) {
        struct torc_rows_item item;

        // At least one row: a page that holds nothing would never end.
        if (fill->count == fill->room ||
            (fill->count > 0 && fill->bytes >= fill->page->bytes_max)) {
            fill->cut = true;
            return;
        }
        torc_rows_at(&tile->rows, tile->row_first + i, &item);
        row_set(&fill->page->rows[fill->count++], &item, tile);
        fill->bytes += TORC_PAGE_ROW_BYTES + item.value_bytes;
        fill->page->reference_count += item.by_reference ? 1 : 0;
    }
}

static void rows_from_page(struct rows_fill *fill)
{
    struct torc_page_state *page = fill->page;
    const struct torc_tile *tile = page->reverse ? page->last : page->first;

    while (page->front_tile != NULL && tile != NULL && !fill->cut) {
        rows_from_tile(fill, tile);
        if (tile == page->front_tile) {
            break;
        }
        tile = page->reverse ? tile->previous : tile->next;
    }
}

// The page has its first `count` rows; the next one begins `at`.
static void page_rest(struct torc_page_state *page, uint64_t count, uint64_t at)
{
    page->next_lo = page->reverse ? page->lo : at;
    page->next_hi = page->reverse ? at : page->hi;
    page->more = page->next_lo < page->next_hi;
    page->truncated = page->more && (!page->limit_given || count < page->limit);
    page->rows_done = count;
}

// Right before or right behind a row.
static uint64_t row_begin(const struct torc_page_state *page, uint64_t row)
{
    return page->rows[row].key + (page->reverse ? 1 : 0);
}

static uint64_t row_end(const struct torc_page_state *page, uint64_t row)
{
    return page->rows[row].key + (page->reverse ? 0 : 1);
}

// ---- The end

void torc_page_finish(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_page_state *page = op->page;
    struct rows_fill fill = {.page = page, .room = torc_min_u64(page->row_count, page->limit)};

    torc_page_abandon(engine, index);
    op->version = page->snapshot ? page->ts : 0;
    if (page->is_count) {
        op->count = page->counted;
        torc_op_end(engine, index, TORC_ERR_OK, NULL);
        return;
    }
    if (fill.room > 0) {
        page->rows = torc_pool_take(&engine->pool, fill.room * sizeof(struct torc_row));
        if (page->rows == NULL) {
            torc_op_hold(engine, index, TORC_HOLD_STARVED);
            return;
        }
    }
    rows_from_page(&fill);
    page_rest(page, fill.count, fill.cut ? row_end(page, fill.count - 1) : page->front);
    page->fetching = true;
    torc_page_fetch(engine, index);
}

// ---- Values by reference

// The moment of the row's chunk, so that it fits to its neighbours. Where what is a little old will
// do, any copy may be asked: none knows another moment than its own.
static uint64_t fetch_ts(const struct torc_page_state *page, const struct torc_row *row)
{
    const struct torc_tile *tile = row->data;

    return page->age_ms != 0 || tile == NULL ? 0 : tile->ts;
}

static bool fetch_begin(struct torc_engine *engine, uint32_t page_index, uint64_t row)
{
    uint32_t index = torc_op_take_own(engine, TORC_OPS_KEPT);
    struct torc_op *op;

    if (index == TORC_OP_NONE) {
        return false;
    }
    op = &engine->ops[index];
    op->kind = TORC_OP_GET;
    op->key = engine->ops[page_index].page->rows[row].key;
    op->parent = page_index;
    op->part = (uint32_t)row;
    op->ts = fetch_ts(engine->ops[page_index].page, &engine->ops[page_index].page->rows[row]);
    op->age_ms = engine->ops[page_index].page->age_ms;
    op->hlc = engine->ops[page_index].hlc;
    op->deadline_ns = engine->ops[page_index].deadline_ns;
    torc_op_route(engine, index);
    return true;
}

// All values are there: rows that were deleted meanwhile go.
static void page_end_rows(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_page_state *page = op->page;
    uint64_t kept = 0;

    for (uint64_t i = 0; page->reference_count > 0 && i < page->rows_done; i++) {
        if (page->rows[i].bytes != ROW_GONE) {
            page->rows[kept++] = page->rows[i];
        }
    }
    op->count = page->reference_count > 0 ? kept : page->rows_done;
    torc_op_end(engine, index, TORC_ERR_OK, NULL);
}

void torc_page_fetch(struct torc_engine *engine, uint32_t index)
{
    struct torc_page_state *page = engine->ops[index].page;

    if (page->reference_count > 0 && page->blocks == NULL) {
        // The list is the first block of itself, so that it is freed with the others.
        page->blocks =
            torc_pool_take(&engine->pool, (page->reference_count + 1ull) * sizeof(page->blocks[0]));
        if (page->blocks == NULL) {
            torc_op_hold(engine, index, TORC_HOLD_STARVED);
            return;
        }
        page->blocks[page->block_count++] = page->blocks;
    }
    while (page->reference_count > 0 && page->fetch_next < page->rows_done &&
           page->fetch_count < FETCHES_MAX) {
        if (page->rows[page->fetch_next].bytes == ROW_FETCH) {
            if (!fetch_begin(engine, index, page->fetch_next)) {
                break;
            }
            page->fetch_count++;
        }
        page->fetch_next++;
    }
    if (page->fetch_count > 0) {
        return;
    }
    if (page->reference_count == 0 || page->fetch_next == page->rows_done) {
        page_end_rows(engine, index);
    } else {
        torc_op_hold(engine, index, TORC_HOLD_STARVED);
    }
}

// The fetched value becomes the page's.
static bool fetch_keep(struct torc_engine *engine, struct torc_page_state *page, struct torc_op *op)
{
    struct torc_row *row = &page->rows[op->part];
    void *block = op->data;

    if (op->owns_block) {
        op->owns_block = false;
    } else {
        block = torc_pool_take(&engine->pool, torc_max_u64(op->bytes, 1));
        if (block == NULL) {
            return false;
        }
        memcpy(block, op->data, op->bytes);
    }
    page->blocks[page->block_count++] = block;
    row->data = block;
    row->bytes = op->bytes;
    row->version = (page->wire_flags & TORC_RANGE_WITH_VERSIONS) != 0 ? op->version : 0;
    return true;
}

// The moment of a row's chunk has left the undo window: the page ends before the row. With nothing
// before it, it is a page by itself, as it is now. False: it is a snapshot.
static bool page_cut(struct torc_page_state *page, uint32_t row)
{
    if (page->snapshot) {
        return false;
    }
    if (row_begin(page, row) == (page->reverse ? page->hi : page->lo)) {
        page->rows[row].data = NULL;
        page->fetch_next = row;
        page_rest(page, row + 1ull, row_end(page, row));
    } else if (row < page->rows_done) {
        page->fetch_next = torc_min_u64(page->fetch_next, row);
        page_rest(page, row, row_begin(page, row));
    }
    return true;
}

void torc_page_fetched(struct torc_engine *engine, uint32_t index, enum torc_err status)
{
    struct torc_op *op = &engine->ops[index];
    uint32_t page_index = op->parent;
    struct torc_page_state *page = engine->ops[page_index].page;

    if (status == TORC_ERR_NOT_FOUND) {
        page->rows[op->part].bytes = ROW_GONE;
        status = TORC_ERR_OK;
    } else if (status == TORC_ERR_SNAPSHOT_TOO_OLD && page_cut(page, op->part)) {
        status = TORC_ERR_OK;
    } else if (status == TORC_ERR_OK && !fetch_keep(engine, page, op)) {
        status = TORC_ERR_LIMIT;
    }
    if (status != TORC_ERR_OK) {
        memcpy(torc_op_text(engine, page_index), torc_op_text(engine, index), TORC_OP_TEXT_BYTES);
    }
    page->fetch_count--;
    torc_op_free(engine, index);
    if (status == TORC_ERR_SNAPSHOT_TOO_OLD && torc_page_restart(engine, page_index)) {
        return;
    }
    if (status != TORC_ERR_OK) {
        torc_op_end(engine, page_index, status, NULL);
        return;
    }
    torc_page_fetch(engine, page_index);
}

void torc_page_fill(const struct torc_op *op, struct torc_completion *completion)
{
    const struct torc_page_state *page = op->page;

    if (page->is_count) {
        return;
    }
    completion->rows = page->rows;
    completion->next_lo = page->next_lo;
    completion->next_hi = page->next_hi;
    completion->flags |= (page->more ? TORC_MORE : 0) | (page->truncated ? TORC_TRUNCATED : 0);
}
