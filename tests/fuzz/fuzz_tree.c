// Torc tests: any bytes as a sequence of operations on a tree; afterwards the tree must be whole,
// and scans from both ends and lookups must agree. (What the values are, model_tree.c compares.)
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/tree.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    CHUNKS = 6, // small, so that memory ends now and then
    TICKETS = 8,
    RUN_MAX = 150,
    OP_BYTES = 4,
    SCAN_PAIRS = 50
};

struct state {
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_tree_ticket tickets[TICKETS];
    uint32_t ticket_bytes[TICKETS];
    uint64_t version;
};

// Shared by all inputs: mapping and heap are made once.
static struct torc_mapping mapping;
static struct torc_heap heap;
static uint8_t value[4096];

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
        state->version += op[3];
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
    switch (op[0] & 3) {
    case 0:
    case 1: op_put(state, op); break;
    case 2: op_ticket(state, op); break;
    default: op_append(state, op); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"plain", "avx2", "avx512"};
    const struct torc_tree_code *code;
    struct state state = {.version = 1};

    if (size == 0) {
        return 0;
    }
    if (mapping.base == NULL) {
        torc_assert(torc_mapping_open(&mapping, (uint64_t)CHUNKS * TORC_CHUNK_BYTES, NULL) ==
                    TORC_ERR_OK);
        torc_assert(torc_heap_open(&heap, 200000, NULL) == TORC_ERR_OK);
    }
    code = torc_tree_code_named(names[data[0] % TORC_COUNT_OF(names)]);
    torc_chunk_pool_init(&state.pool, mapping.base, 0, 1 + data[0] / 3u % CHUNKS);
    torc_assert(torc_tree_init(&state.tree, code == NULL ? &torc_tree_code_plain : code,
                               &state.pool, &heap, NULL) == TORC_ERR_OK);
    for (size_t at = 1; at + OP_BYTES <= size; at += OP_BYTES) {
        step(&state, data + at);
    }
    check(&state.tree);
    for (uint32_t i = 0; i < TICKETS; i++) {
        torc_tree_cancel(&state.tree, &state.tickets[i]);
    }
    torc_tree_drop(&state.tree);
    torc_assert(torc_chunk_pool_free(&state.pool) == state.pool.chunk_count);
    torc_assert(heap.block_count == 0);
    return 0;
}
