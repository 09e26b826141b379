// Torc tests: the replay window beside an oracle that remembers every number.
//
// Each round is a stream of sequence numbers with loss, reordering, repeats and jumps; the window
// must say what the oracle says, every time. A planted fault must be found (STYLE.md, section 10).
#include "tests/torc_test.h"
#include "wire/session.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 200,
    STEPS = 5000,
    NUMBERS = 1 << 16
};

struct model {
    struct torc_window window;
    bool *seen; // [NUMBERS]
    uint64_t high;
    bool keeps_old_bits; // the fault: a jump does not clear the places that it passes
};

static enum torc_drop oracle(const struct model *model, uint64_t seq)
{
    if (seq >= TORC_DATA_SEQ_END) {
        return TORC_DROP_LIMIT;
    }
    if (seq == 0 || (model->high >= 256 && seq <= model->high - 256)) {
        return TORC_DROP_REPLAY_OLD;
    }
    return seq < NUMBERS && model->seen[seq] ? TORC_DROP_REPLAY_DUPLICATE : TORC_DROP_NONE;
}

static uint64_t next_number(struct torc_rng *rng, const struct model *model)
{
    uint64_t back = torc_rng_below(rng, 300);
    uint64_t seq;

    switch (torc_rng_below(rng, 8)) {
    case 0: seq = model->high > back ? model->high - back : 0; break;
    case 1: seq = model->high + 1 + torc_rng_below(rng, 600); break;
    case 2: seq = torc_rng_below(rng, 3); break;
    case 3: seq = torc_rng_chance(rng, 20000) ? TORC_DATA_SEQ_END + back : model->high; break;
    default: seq = model->high + 1 + torc_rng_below(rng, 4); break;
    }
    return seq;
}

static void model_set(struct model *model, uint64_t seq)
{
    struct torc_window before = model->window;

    torc_window_set(&model->window.high, model->window.bits, seq);
    for (uint32_t i = 0; model->keeps_old_bits && i < TORC_WINDOW_WORDS; i++) {
        model->window.bits[i] |= before.bits[i];
    }
    model->seen[seq] = true;
    model->high = torc_max_u64(model->high, seq);
}

// True when window and oracle agreed all the way.
static bool run_round(struct torc_rng *rng, struct model *model)
{
    memset(&model->window, 0, sizeof(model->window));
    memset(model->seen, 0, NUMBERS * sizeof(model->seen[0]));
    model->high = 0;
    for (uint32_t step = 0; step < STEPS && model->high < NUMBERS - 1000; step++) {
        uint64_t seq = next_number(rng, model);
        enum torc_drop said = torc_window_check(model->window.high, model->window.bits, seq);

        if (said != oracle(model, seq)) {
            return false;
        }
        if (said == TORC_DROP_NONE) {
            model_set(model, seq);
        }
    }
    return true;
}

static bool run_rounds(bool keeps_old_bits)
{
    struct torc_rng rng = {torc_test_seed()};
    struct model model = {.keeps_old_bits = keeps_old_bits};
    bool agreed = true;

    model.seen = calloc(NUMBERS, sizeof(model.seen[0]));
    torc_assert(model.seen != NULL);
    for (uint32_t round = 0; round < ROUNDS && agreed; round++) {
        agreed = run_round(&rng, &model);
    }
    free(model.seen);
    return agreed;
}

static void test_agrees(void)
{
    CU_ASSERT_TRUE(run_rounds(false));
}

static void test_fault_is_found(void)
{
    CU_ASSERT_FALSE(run_rounds(true));
}

int main(void)
{
    CU_TestInfo tests[] = {{"the window says what a perfect memory says", test_agrees},
                           {"a window that forgets to clear is found out", test_fault_is_found},
                           CU_TEST_INFO_NULL};

    return torc_test_run("model-window", tests);
}
