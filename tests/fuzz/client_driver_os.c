// Torc tests: runs fuzz_client without libFuzzer, on replies that are nearly right.
#include "tests/torc_test.h"
#include "wire/op.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    INPUTS = 400000,
    INPUT_BYTES_MAX = 600
};

static const uint8_t opcodes[] = {0x81, 0x85, 0x86, 0x88, 0x89, 0x8a, 0x90,
                                  0x91, 0x92, 0xa0, 0xf0, 0xf1, 0xf2, 0xf3};
static const uint8_t statuses[] = {0,    0,    0,    0,    1,    2,    2,    3,
                                   0x10, 0x20, 0x21, 0x23, 0x26, 0x27, 0x40, 0x61};

// One reply operation with a body of small numbers; its padded bytes.
static uint32_t reply_make(struct torc_rng *rng, uint8_t *to, uint32_t room)
{
    uint32_t length = 16 + (uint32_t)torc_rng_below(rng, torc_min_u64(room - 16, 200) + 1);
    uint32_t filled = torc_op_padded(length);

    memset(to, 0, filled <= room ? filled : room);
    to[0] = opcodes[torc_rng_below(rng, sizeof(opcodes))];
    to[1] = statuses[torc_rng_below(rng, sizeof(statuses))];
    to[2] = (uint8_t)length;
    to[3] = (uint8_t)(length >> 8);
    to[4] = (uint8_t)torc_rng_below(rng, 9);
    for (uint32_t i = 8; i < length; i++) {
        to[i] = torc_rng_chance(rng, 800000) ? 0 : (uint8_t)torc_rng_below(rng, 256);
    }
    return filled <= room ? filled : room;
}

static void test_replies(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < INPUTS; i++) {
        uint8_t input[INPUT_BYTES_MAX];
        uint32_t bytes = 0;

        while (bytes + 24 < INPUT_BYTES_MAX && (bytes == 0 || torc_rng_chance(&rng, 500000))) {
            bytes += reply_make(&rng, input + bytes, INPUT_BYTES_MAX - bytes);
        }
        if (torc_rng_chance(&rng, 100000)) {
            input[0] = 0x54;
            input[1] = (uint8_t)(0x10 | torc_rng_below(&rng, 10));
        }
        CU_ASSERT_FATAL(LLVMFuzzerTestOneInput(input, bytes) == 0);
    }
}

int main(void)
{
    CU_TestInfo tests[] = {{"replies that are nearly right", test_replies}, CU_TEST_INFO_NULL};

    return torc_test_run("fuzz client", tests);
}
