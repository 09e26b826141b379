// Torc tests: any bytes as DATA/replicas: what is read is within its bounds, each shard once, and
// is written so that it is read the same. A good file with a few bytes changed, too.
#include "control/based_os.h"
#include "tests/fuzz/mutate.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COPY UINT64_C(7)

static void check_bounds(struct torc_based *based)
{
    torc_assert(based->count <= TORC_CHAN_MAP_ENTRIES);
    for (uint32_t i = 0; i < based->count; i++) {
        torc_assert(based->lines[i].shard != 0);
        torc_assert(based->lines[i].copy != 0);
        torc_assert(torc_based_find(based, based->lines[i].shard) == based->lines + i);
    }
}

static void check_same(const struct torc_based *based, const struct torc_based *again)
{
    torc_assert(again->count == based->count);
    for (uint32_t i = 0; i < based->count; i++) {
        torc_assert(again->lines[i].shard == based->lines[i].shard);
        torc_assert(again->lines[i].copy == based->lines[i].copy);
        torc_assert(again->lines[i].turn == based->lines[i].turn);
        torc_assert(again->lines[i].whole == based->lines[i].whole);
    }
}

static void try_text(const char *text)
{
    static struct torc_based based; // large: mapped once
    static struct torc_based again;
    static char out[TORC_BASED_BYTES + 1];

    torc_based_parse(text, COPY, COPY, &based);
    check_bounds(&based);
    out[torc_based_print(&based, COPY, out)] = '\0';
    torc_based_parse(out, COPY, COPY, &again);
    check_same(&based, &again);
    // Another memory of the node that goes on: nothing of it counts.
    torc_based_parse(out, COPY + 1, COPY + 1, &again);
    torc_assert(again.count == 0);
}

static void try_edited(const uint8_t *data, size_t size)
{
    char text[] = "torc-replicas 2 7\n1 7 0 1\n4294967295 18446744073709551615 4294967295 0\n"
                  "12 4611686034153486407 3 1\n1 9 1 0\n";
    struct torc_rng rng = torc_fuzz_rng(data, size);

    for (uint64_t i = torc_rng_below(&rng, 4); i > 0; i--) {
        text[torc_rng_below(&rng, sizeof(text) - 1)] = "0123456789 \n-x"[torc_rng_below(&rng, 14)];
    }
    try_text(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    torc_assert(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    try_text(text);
    free(text);
    try_edited(data, size);
    return 0;
}
