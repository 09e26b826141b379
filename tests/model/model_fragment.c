// Torc tests: values put together from pieces (dataplane/fragment.h) against plain copies of them.
#include "dataplane/fragment.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define POOL_BYTES    (21u << 18) // less than all sessions may have, and no whole word of units
#define SESSION_BYTES (2u << 20)
#define SESSIONS      3u
#define OPS           8u
#define TOTAL_MAX     409600u
#define ROUNDS        60000u
#define SECOND_NS     UINT64_C(1000000000)

// The oracle's idea of one entry.
struct model_entry {
    bool open;
    uint32_t total;
    uint32_t piece;
    uint32_t count;
    uint64_t touched_ns;
    bool have[TOTAL_MAX / 64 + 1];
};

struct model {
    struct torc_fragments fragments;
    void *memory;
    struct torc_rng rng;
    uint64_t now_ns;
    uint64_t opened;
    uint64_t refused;
    uint64_t finished;
    uint64_t reclaimed;
    struct model_entry entries[SESSIONS][OPS];
};

static unsigned char model_byte(uint32_t session, uint32_t op, uint32_t at)
{
    return (unsigned char)(session * 101u + op * 31u + at * 7u + at / 251u);
}

static struct torc_fragment_id model_id(uint32_t session, uint32_t op)
{
    return (struct torc_fragment_id){.serial = 1000 + session, .op_id = op};
}

static uint64_t model_units(uint32_t total)
{
    return (total + TORC_FRAGMENT_UNIT_BYTES - 1) / TORC_FRAGMENT_UNIT_BYTES;
}

static uint64_t model_session_units(const struct model *model, uint32_t session)
{
    uint64_t units = 0;

    for (uint32_t op = 0; op < OPS; op++) {
        const struct model_entry *entry = &model->entries[session][op];

        units += entry->open ? model_units(entry->total) : 0;
    }
    return units;
}

// What pressure may have taken: only what was idle for a second.
static void model_sync(struct model *model, uint64_t idle_ns)
{
    for (uint32_t i = 0; i < SESSIONS * OPS; i++) {
        struct model_entry *entry = &model->entries[i / OPS][i % OPS];
        bool there = torc_fragments_find(&model->fragments, model_id(i / OPS, i % OPS)) != NULL;

        CU_ASSERT_FATAL(entry->open || !there);
        if (entry->open && !there) {
            CU_ASSERT_FATAL(model->now_ns - entry->touched_ns >= idle_ns);
            entry->open = false;
            model->reclaimed++;
        }
    }
}

// First fit, unit by unit; UINT32_MAX: no run of that length.
static uint32_t model_first_fit(const struct model *model, uint64_t units)
{
    const struct torc_fragments *fragments = &model->fragments;
    uint32_t run = 0;

    for (uint32_t unit = 0; unit < fragments->unit_count; unit++) {
        run = (fragments->unit_used[unit / 64] >> unit % 64 & 1) != 0 ? 0 : run + 1;
        if (run == units) {
            return unit + 1 - run;
        }
    }
    return UINT32_MAX;
}

static void model_open(struct model *model, uint32_t session, uint32_t op)
{
    struct model_entry *entry = &model->entries[session][op];
    uint32_t total = 1 + (uint32_t)torc_rng_below(&model->rng, TOTAL_MAX);
    uint32_t piece = (8 + (uint32_t)torc_rng_below(&model->rng, 170)) * 8;
    uint64_t units = model_session_units(model, session) + model_units(total);
    bool may = units * TORC_FRAGMENT_UNIT_BYTES <= SESSION_BYTES;
    uint32_t first = model_first_fit(model, model_units(total));
    struct torc_fragment_entry *made =
        torc_fragments_open(&model->fragments, model_id(session, op), total, piece, model->now_ns);

    CU_ASSERT_FATAL(may || made == NULL);
    if (may && first != UINT32_MAX) {
        CU_ASSERT_FATAL(made != NULL && made->unit_first == first);
    } else if (may && made == NULL) {
        CU_ASSERT_EQUAL_FATAL(model_first_fit(model, model_units(total)), UINT32_MAX);
    }
    if (made == NULL) {
        model_sync(model, TORC_FRAGMENT_PRESSURE_NS);
        model->refused++;
        return;
    }
    model->opened++;
    memset(entry, 0, sizeof(*entry));
    entry->open = true;
    entry->total = total;
    entry->piece = piece;
    entry->count = (total + piece - 1) / piece;
    entry->touched_ns = model->now_ns;
    CU_ASSERT_EQUAL_FATAL(made->fragment_count, entry->count);
    model_sync(model, TORC_FRAGMENT_PRESSURE_NS);
}

static void model_check_bitmap(const struct model_entry *entry,
                               const struct torc_fragment_entry *made)
{
    unsigned char bitmap[32];
    uint32_t missing = 0;

    while (missing < entry->count && entry->have[missing]) {
        missing++;
    }
    CU_ASSERT_EQUAL_FATAL(made->first_missing, missing);
    torc_fragment_bitmap(made, bitmap);
    for (uint32_t i = 0; i < 256; i++) {
        bool set = (bitmap[i / 8] >> (i % 8) & 1) != 0;
        bool have = missing + i < entry->count && entry->have[missing + i];

        CU_ASSERT_EQUAL_FATAL(set, have);
    }
}

static void model_finish(struct model *model, uint32_t session, uint32_t op,
                         struct torc_fragment_entry *made)
{
    struct model_entry *entry = &model->entries[session][op];
    const unsigned char *value = torc_fragments_value(&model->fragments, made);
    uint32_t wrong = 0;

    for (uint32_t at = 0; at < entry->total; at++) {
        wrong += value[at] != model_byte(session, op, at) ? 1 : 0;
    }
    CU_ASSERT_EQUAL_FATAL(wrong, 0);
    torc_fragments_close(&model->fragments, made);
    entry->open = false;
    model->finished++;
}

// One piece, right or too long or twice with other bytes.
static void model_piece(struct model *model, uint32_t session, uint32_t op, uint32_t number)
{
    unsigned char bytes[2048];
    struct model_entry *entry = &model->entries[session][op];
    struct torc_fragment_entry *made =
        torc_fragments_find(&model->fragments, model_id(session, op));
    uint32_t at = number * entry->piece;
    uint32_t length = entry->total - at < entry->piece ? entry->total - at : entry->piece;
    bool first = !entry->have[number];

    torc_assert(made != NULL);
    CU_ASSERT_FALSE(torc_fragment_fits(made, number, length + 8));
    CU_ASSERT_FALSE(torc_fragment_fits(made, entry->count, length));
    CU_ASSERT_FATAL(torc_fragment_fits(made, number, length));
    for (uint32_t i = 0; i < length; i++) {
        bytes[i] = first ? model_byte(session, op, at + i) : 0xee;
    }
    CU_ASSERT_EQUAL_FATAL(
        torc_fragments_add(&model->fragments, made, number, bytes, length, model->now_ns), first);
    entry->have[number] = true;
    entry->touched_ns = model->now_ns;
    if (torc_fragment_is_whole(made)) {
        model_finish(model, session, op, made);
    }
}

static void model_step(struct model *model)
{
    uint32_t session = (uint32_t)torc_rng_below(&model->rng, SESSIONS);
    uint32_t op = (uint32_t)torc_rng_below(&model->rng, OPS);
    struct model_entry *entry = &model->entries[session][op];
    uint32_t first = entry->open ? (uint32_t)torc_rng_below(&model->rng, entry->count) : 0;
    uint32_t burst = entry->open ? 1 + (uint32_t)torc_rng_below(&model->rng, 64) : 0;

    model->now_ns += torc_rng_below(&model->rng, SECOND_NS / 50);
    if (!entry->open) {
        model_open(model, session, op);
    } else if (torc_rng_chance(&model->rng, 100000)) {
        model_check_bitmap(entry, torc_fragments_find(&model->fragments, model_id(session, op)));
    }
    for (uint32_t i = 0; i < burst && entry->open; i++) {
        model_piece(model, session, op, (first + i) % entry->count);
    }
}

static void values_come_out_as_they_went_in(void)
{
    struct model *model = calloc(1, sizeof(*model));

    torc_assert(model != NULL);
    model->memory = calloc(1, torc_fragments_bytes(POOL_BYTES));
    model->rng.state = torc_test_seed();
    model->now_ns = SECOND_NS;
    CU_ASSERT_FATAL(model->memory != NULL);
    torc_fragments_init(&model->fragments, model->memory, POOL_BYTES, SESSION_BYTES, 42);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        model_step(model);
        torc_fragments_reclaim(&model->fragments, model->now_ns);
        if (round % 64 == 0) {
            model_sync(model, TORC_FRAGMENT_PRESSURE_NS);
        }
    }
    // The run must have met what it is there for.
    CU_ASSERT(model->finished > 100);
    CU_ASSERT(model->refused > 10);
    model->now_ns += TORC_FRAGMENT_IDLE_NS;
    for (uint32_t i = 0; i < TORC_FRAGMENT_ENTRIES / 16; i++) {
        torc_fragments_reclaim(&model->fragments, model->now_ns);
    }
    model_sync(model, TORC_FRAGMENT_IDLE_NS);
    CU_ASSERT_EQUAL(model->fragments.units_used, 0);
    free(model->memory);
    free(model);
}

static void a_full_pool_gives_back_what_idled_a_second(void)
{
    struct torc_fragments fragments;
    void *memory = calloc(1, torc_fragments_bytes(POOL_BYTES));
    uint32_t opened = 0;

    CU_ASSERT_FATAL(memory != NULL);
    torc_fragments_init(&fragments, memory, POOL_BYTES, POOL_BYTES, 7);
    while (torc_fragments_open(&fragments, model_id(0, opened), TORC_FRAGMENT_UNIT_BYTES, 1024,
                               SECOND_NS) != NULL) {
        opened++;
    }
    CU_ASSERT_EQUAL(opened, POOL_BYTES / TORC_FRAGMENT_UNIT_BYTES);
    CU_ASSERT_PTR_NULL(torc_fragments_open(&fragments, model_id(1, 0), 1, 1024,
                                           SECOND_NS + TORC_FRAGMENT_PRESSURE_NS - 1));
    CU_ASSERT_PTR_NOT_NULL(torc_fragments_open(&fragments, model_id(1, 0), 1, 1024,
                                               SECOND_NS + TORC_FRAGMENT_PRESSURE_NS));
    CU_ASSERT_PTR_NULL(torc_fragments_find(&fragments, model_id(0, 0)));
    free(memory);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"values come out as they went in", values_come_out_as_they_went_in},
        {"a full pool gives back what idled a second", a_full_pool_gives_back_what_idled_a_second},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("fragment", tests);
}
