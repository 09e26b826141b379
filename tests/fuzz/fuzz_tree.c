// Torc tests: any bytes as a sequence of operations on a tree: writes, deletes, appends, tickets
// taken and cancelled, leaves put in order, large values swept, chunks given back, scans that go on
// after changes, and a past moment read through an undo window. Afterwards the tree must be whole,
// and scans from both ends, lookups and the past must agree. (What the values are, model_tree.c and
// model_undo.c compare.)
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/undo.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    CHUNKS = 6, // small, so that memory ends now and then
    TICKETS = 8,
    RUN_MAX = 150,
    OP_BYTES = 4,
    SCAN_PAIRS = 50,
    CURSORS = 2,
    PAST_MAX = 300,
    PREPARE_ENTRIES = 100
};

// A scan in slices, over whatever happens meanwhile.
struct slices {
    struct torc_tree_cursor cursor;
    uint64_t last;
    bool begun;
};

// What the tree held at `ts`.
struct past {
    uint64_t ts;
    uint32_t count;
    uint64_t keys[PAST_MAX];
    uint64_t versions[PAST_MAX];
};

struct state {
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_tree_ticket tickets[TICKETS];
    uint32_t ticket_bytes[TICKETS];
    struct slices slices[CURSORS];
    struct torc_tree_sweep sweep;
    struct torc_undo undo;
    struct past past;
    uint64_t version;
};

// Shared by all inputs: mapping and heap are made once.
static struct torc_mapping mapping;
static struct torc_heap heap;
static void *undo_memory;
static uint8_t value[4096];

static const struct torc_undo_config undo_config = {.bytes = TORC_UNDO_BYTES_MIN, .age_us = 1000};

static const uint32_t lengths[16] = {0,  1,  4,   8,   8,   8,   16,   16,
                                     30, 64, 100, 127, 128, 129, 1000, 4096};

// Keys near each other, far apart, and at both ends.
static uint64_t key_of(uint8_t a, uint8_t b)
{
    uint64_t spread = (uint64_t)(b & 0x0f) << (a % 60);

    return (b & 0x80) != 0 ? UINT64_MAX - spread - (a >> 2) : spread + ((uint64_t)b << 4) + a;
}

static void op_put(struct state *state, const uint8_t *op)
{
    uint64_t key = key_of(op[1], op[2]);
    uint64_t stride = UINT64_C(1) << (op[3] >> 4) * 3 % 40;
    uint32_t count = (op[0] & 1) != 0 ? 1 + (op[2] * 23u + 11) % RUN_MAX : 1;
    struct torc_tree_write writes[RUN_MAX];

    for (uint32_t i = 0; i < count; i++) {
        state->version += op[3] + (torc_undo_is_on(&state->undo) ? 1u : 0u);
        writes[i] = (struct torc_tree_write){.key = key + i * stride,
                                             .version = state->version,
                                             .value = value,
                                             .value_bytes = lengths[op[3] % 16],
                                             .remove = (op[0] & op[3] & 1) != 0};
    }
    (void)torc_tree_write_batch(&state->tree, writes, count);
}

static void op_ticket(struct state *state, const uint8_t *op)
{
    uint32_t place = op[1] % TICKETS;
    struct torc_tree_ticket *ticket = &state->tickets[place];
    struct torc_tree_write write = {.key = key_of(op[1], op[2]),
                                    .version = ++state->version,
                                    .value = value,
                                    .value_bytes = state->ticket_bytes[place],
                                    .ticket = *ticket};

    if (ticket->nodes == 0) {
        state->ticket_bytes[place] = lengths[op[3] % 16];
        (void)!torc_tree_reserve(&state->tree, state->ticket_bytes[place], ticket, NULL);
    } else if (op[3] % 4 == 3) {
        torc_tree_cancel(&state->tree, ticket);
    } else {
        *ticket = (struct torc_tree_ticket){0};
        torc_assert(torc_tree_write(&state->tree, &write, NULL) == TORC_ERR_OK); // as promised
    }
}

static void op_append(struct state *state, const uint8_t *op)
{
    struct torc_tree_cursor cursor;
    struct torc_tree_pair pairs[RUN_MAX];
    uint32_t appended = 0;
    uint64_t last = 0;

    if (state->past.ts > 0) {
        return; // it leaves nothing in the window: trees are built by it, before they are read
    }
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, true);
    if (torc_tree_scan(&state->tree, &cursor, pairs, 1) == 1) {
        last = pairs[0].key;
    }
    if (last > UINT64_MAX - UINT64_C(300) * RUN_MAX) {
        return;
    }
    for (uint32_t i = 0; i < RUN_MAX; i++) {
        last += 1 + op[1];
        pairs[i] =
            (struct torc_tree_pair){last, state->version, value, lengths[op[(i & 1) + 2] % 16]};
    }
    (void)!torc_tree_append(&state->tree, pairs, RUN_MAX, &appended, NULL);
}

// Some pairs more of one of the scans; keys go one way, and each is there.
static void op_slice(struct state *state, const uint8_t *op)
{
    struct slices *slices = &state->slices[op[1] % CURSORS];
    struct torc_tree_pair pairs[SCAN_PAIRS];
    uint32_t count;

    if (slices->cursor.done || !slices->begun) {
        torc_tree_cursor_open(&slices->cursor, (op[3] & 2) != 0 ? key_of(op[1], op[2]) : 0,
                              UINT64_MAX, (op[3] & 1) != 0);
        slices->begun = false;
    }
    count = torc_tree_scan(&state->tree, &slices->cursor, pairs, 1 + op[2] % SCAN_PAIRS);
    for (uint32_t i = 0; i < count; i++) {
        struct torc_tree_hit hit;

        torc_assert(!slices->begun || (slices->cursor.reverse ? pairs[i].key < slices->last
                                                              : pairs[i].key > slices->last));
        torc_assert(torc_tree_lookup(&state->tree, pairs[i].key, &hit));
        torc_assert(hit.version == pairs[i].version);
        slices->last = pairs[i].key;
        slices->begun = true;
    }
}

// -- The past ------------------------------------------------------------------------------------

// Every key of then and every key of now, as of then.
static void past_check(struct state *state)
{
    struct past *past = &state->past;
    enum torc_undo_state ready = TORC_UNDO_MORE;
    struct torc_tree_cursor cursor;
    struct torc_tree_pair pair;
    struct torc_undo_change change;
    uint32_t at = 0;

    while (past->ts > 0 && ready == TORC_UNDO_MORE) {
        ready = torc_undo_prepare(&state->undo, past->ts, PREPARE_ENTRIES);
    }
    if (past->ts == 0 || ready != TORC_UNDO_READY) {
        return;
    }
    for (uint32_t i = 0; i < past->count; i++) {
        struct torc_tree_hit hit;

        if (torc_undo_get(&state->undo, past->keys[i], past->ts, &change)) {
            torc_assert(change.present);
            torc_assert(change.pair.version == past->versions[i]);
        } else {
            torc_assert(torc_tree_lookup(&state->tree, past->keys[i], &hit));
            torc_assert(hit.version == past->versions[i]);
        }
    }
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, false);
    while (torc_tree_scan(&state->tree, &cursor, &pair, 1) == 1) {
        while (at < past->count && past->keys[at] < pair.key) {
            at++;
        }
        if (at == past->count || past->keys[at] != pair.key) {
            torc_assert(torc_undo_get(&state->undo, pair.key, past->ts, &change));
            torc_assert(!change.present);
        }
    }
}

// Compares with the moment kept before, and keeps this one.
static void op_past(struct state *state)
{
    struct torc_tree_pair pairs[PAST_MAX];
    struct torc_tree_cursor cursor;

    past_check(state);
    if (!torc_undo_is_on(&state->undo) || state->tree.record_count > PAST_MAX) {
        return;
    }
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, false);
    state->past.ts = state->version;
    state->past.count = torc_tree_scan(&state->tree, &cursor, pairs, PAST_MAX);
    for (uint32_t i = 0; i < state->past.count; i++) {
        state->past.keys[i] = pairs[i].key;
        state->past.versions[i] = pairs[i].version;
    }
}

// -- Everything ----------------------------------------------------------------------------------

// Counts all records by scans; keys must go one way and be found.
static uint64_t scan_all(const struct torc_tree *tree, bool reverse)
{
    struct torc_tree_pair pairs[SCAN_PAIRS];
    struct torc_tree_cursor cursor;
    uint64_t count = 0;
    uint64_t last = 0;

    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, reverse);
    while (!cursor.done) {
        uint32_t some = torc_tree_scan(tree, &cursor, pairs, SCAN_PAIRS);

        for (uint32_t i = 0; i < some; i++) {
            struct torc_tree_hit hit;

            torc_assert(count == 0 || (reverse ? pairs[i].key < last : pairs[i].key > last));
            torc_assert(torc_tree_lookup(tree, pairs[i].key, &hit));
            torc_assert(hit.value == pairs[i].value || hit.value_bytes == 0);
            last = pairs[i].key;
            count++;
        }
    }
    return count;
}

static void check(const struct torc_tree *tree)
{
    struct torc_tree_cursor cursor;
    uint64_t count = scan_all(tree, false);

    torc_assert(torc_tree_check(tree, NULL) == TORC_ERR_OK);
    torc_assert(count == tree->record_count);
    torc_assert(scan_all(tree, true) == count);
    torc_tree_cursor_open(&cursor, 0, UINT64_MAX, false);
    torc_assert(torc_tree_scan_count(tree, &cursor, UINT64_MAX) == count);
}

static void step(struct state *state, const uint8_t *op)
{
    switch (op[0] & 15) {
    case 2:
    case 6:
    case 10: op_ticket(state, op); break;
    case 3: op_append(state, op); break;
    case 7:
        state->tree.order.shape_stamp = 0; // a pass begins though little has changed
        (void)torc_tree_order(&state->tree, op[2]);
        break;
    case 11:
        if (!torc_tree_sweep(&state->tree, &state->sweep, 1 + op[1] % 8u, UINT64_C(100) * op[2])) {
            state->sweep = (struct torc_tree_sweep){0};
        }
        break;
    case 12: // half of the time, all that may be given back
        state->tree.removed_count += state->tree.record_count;
        (void)torc_tree_compact(&state->tree, op[2] >= 128 ? UINT32_MAX : op[2]);
        break;
    case 14: op_slice(state, op); break;
    case 15: op_past(state); break;
    default: op_put(state, op); break;
    }
}

// The mapping, the heap and the window's memory, once; tree and window, anew.
static void state_open(struct state *state, uint8_t kind)
{
    static const char *const names[] = {"plain", "avx2", "avx512"};
    const struct torc_tree_code *code = torc_tree_code_named(names[kind % TORC_COUNT_OF(names)]);

    if (mapping.base == NULL) {
        torc_assert(torc_mapping_open(&mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, NULL) ==
                    TORC_ERR_OK);
        torc_assert(torc_heap_open(&heap, 200000, NULL) == TORC_ERR_OK);
        undo_memory = aligned_alloc(4096, (torc_undo_bytes(&undo_config) + 4095) / 4096 * 4096);
        torc_assert(undo_memory != NULL);
    }
    code = code == NULL ? &torc_tree_code_plain : code;
    torc_chunk_pool_init(&state->pool, mapping.base, 0, 1 + kind / 3u % CHUNKS);
    torc_assert(torc_tree_init(&state->tree, code, &state->pool, &heap, NULL) == TORC_ERR_OK);
    if (kind >= 128) {
        torc_undo_init(&state->undo, undo_memory, &undo_config);
        torc_undo_attach(&state->undo, &heap, code);
        state->tree.undo = &state->undo;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state state;

    if (size == 0) {
        return 0;
    }
    memset(&state, 0, sizeof(state));
    state.version = 1;
    state_open(&state, data[0]);
    for (size_t at = 1; at + OP_BYTES <= size; at += OP_BYTES) {
        step(&state, data + at);
    }
    check(&state.tree);
    past_check(&state);
    for (uint32_t i = 0; i < TICKETS; i++) {
        torc_tree_cancel(&state.tree, &state.tickets[i]);
    }
    torc_undo_clear(&state.undo);
    torc_tree_drop(&state.tree);
    torc_assert(torc_chunk_pool_free(&state.pool) == state.pool.chunk_count);
    torc_assert(heap.block_count == 0);
    return 0;
}
