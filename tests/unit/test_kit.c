// Torc tests: kit/base.h, kit/spsc.h, torc/err.h.
#include "kit/spsc.h"
#include "tests/torc_test.h"

#include <pthread.h>
#include <stdlib.h>

static void test_err_table(void)
{
    CU_ASSERT_STRING_EQUAL(torc_err_name(TORC_ERR_WRONG_SHARD), "WRONG_SHARD");
    CU_ASSERT_TRUE(torc_err_retryable(TORC_ERR_BUSY));
    CU_ASSERT_FALSE(torc_err_maybe_applied(TORC_ERR_BUSY));
    CU_ASSERT_TRUE(torc_err_maybe_applied(TORC_ERR_IN_DOUBT));
    CU_ASSERT_STRING_EQUAL(torc_err_name((enum torc_err)0x3f), "UNKNOWN");
    CU_ASSERT_TRUE(torc_err_maybe_applied((enum torc_err)0x4f)); // a newer server's code
    CU_ASSERT_FALSE(torc_err_retryable((enum torc_err)0x4f));
}

static void test_checked_arithmetic(void)
{
    struct pair {
        uint64_t first;
        uint64_t second;
    } pair = {1, 2};
    uint64_t result = 7;

    CU_ASSERT_TRUE(torc_add_u64(UINT64_MAX - 1, 1, &result));
    CU_ASSERT_EQUAL(result, UINT64_MAX);
    CU_ASSERT_FALSE(torc_add_u64(UINT64_MAX, 1, &result));
    CU_ASSERT_EQUAL(result, UINT64_MAX); // untouched
    CU_ASSERT_PTR_EQUAL(TORC_CONTAINER_OF(&pair.second, struct pair, second), &pair);
}

static void test_spsc_refuses_bad_shapes(void)
{
    _Alignas(TORC_SPSC_ALIGN_BYTES) unsigned char memory[TORC_SPSC_ALIGN_BYTES + 512];
    struct torc_spsc_port port = {0};
    struct torc_fail why;

    CU_ASSERT_EQUAL(torc_spsc_format(memory, sizeof(memory), 8, 6, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "6 slots of 8 bytes"));
    CU_ASSERT_EQUAL(torc_spsc_format(memory, sizeof(memory), 8, 128, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    TORC_TEST_OK(torc_spsc_format(memory, sizeof(memory), 8, 8, &why), &why);
    memory[4] = 9; // the version
    CU_ASSERT_EQUAL(torc_spsc_attach(&port, TORC_SPSC_PRODUCER, memory, sizeof(memory), &why),
                    TORC_ERR_UNSUPPORTED_VERSION);
}

// A neighbour that writes nonsense stalls the ring and nothing else (S2).
static void test_spsc_survives_a_mad_neighbour(void)
{
    _Alignas(TORC_SPSC_ALIGN_BYTES) unsigned char memory[TORC_SPSC_ALIGN_BYTES + 512];
    struct torc_spsc_port producer = {0};
    struct torc_fail why;

    TORC_TEST_OK(torc_spsc_format(memory, sizeof(memory), 8, 8, &why), &why);
    TORC_TEST_OK(torc_spsc_attach(&producer, TORC_SPSC_PRODUCER, memory, sizeof(memory), &why),
                 &why);
    CU_ASSERT_EQUAL(torc_spsc_writable(&producer, 8), 8);
    torc_spsc_publish(&producer, 8);
    atomic_store(&producer.ring->head, 1000);
    CU_ASSERT_EQUAL(torc_spsc_writable(&producer, 1), 0);
    CU_ASSERT_TRUE(producer.broken);
    CU_ASSERT_EQUAL(torc_spsc_attach(&producer, TORC_SPSC_PRODUCER, memory, sizeof(memory), &why),
                    TORC_ERR_CORRUPT);
}

enum {
    STREAM_SLOTS = 64,
    STREAM_NUMBERS = 200000
};

static void *stream_numbers(void *memory)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_spsc_port port = {0};
    uint64_t next = 0;

    torc_assert(torc_spsc_attach(&port, TORC_SPSC_PRODUCER, memory,
                                 torc_spsc_bytes(8, STREAM_SLOTS), NULL) == TORC_ERR_OK);
    while (next < STREAM_NUMBERS) {
        uint32_t wanted = 1 + (uint32_t)torc_rng_below(&rng, 20);
        uint32_t burst = (uint32_t)torc_min_u64(torc_spsc_writable(&port, wanted), wanted);

        for (uint32_t i = 0; i < burst; i++) {
            memcpy(torc_spsc_write_at(&port, i), &next, sizeof(next));
            next++;
        }
        torc_spsc_publish(&port, burst);
    }
    return NULL;
}

// Reads what is there, which must go on from `expected`; returns what must come next.
static uint64_t drain(struct torc_spsc_port *port, uint64_t expected)
{
    uint32_t count = torc_spsc_readable(port, 1);

    for (uint32_t i = 0; i < count; i++) {
        uint64_t got;

        memcpy(&got, torc_spsc_read_at(port, i), sizeof(got));
        CU_ASSERT_EQUAL_FATAL(got, expected);
        expected++;
    }
    torc_spsc_release(port, count);
    return expected;
}

// Everything arrives once and in order, also when the consumer is replaced again and again.
static void test_spsc_streams_across_threads(void)
{
    uint64_t bytes = torc_spsc_bytes(8, STREAM_SLOTS);
    void *memory =
        aligned_alloc(TORC_SPSC_ALIGN_BYTES, (bytes + TORC_SPSC_ALIGN_BYTES - 1) /
                                                 TORC_SPSC_ALIGN_BYTES * TORC_SPSC_ALIGN_BYTES);
    struct torc_spsc_port port = {0};
    struct torc_fail why;
    pthread_t producer;
    uint64_t expected = 0;

    TORC_TEST_OK(torc_spsc_format(memory, bytes, 8, STREAM_SLOTS, &why), &why);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&producer, NULL, stream_numbers, memory), 0);
    while (expected < STREAM_NUMBERS) {
        TORC_TEST_OK(torc_spsc_attach(&port, TORC_SPSC_CONSUMER, memory, bytes, &why), &why);
        for (uint32_t i = 0; i < 100; i++) {
            expected = drain(&port, expected);
        }
    }
    CU_ASSERT_EQUAL(pthread_join(producer, NULL), 0);
    CU_ASSERT_EQUAL(torc_spsc_readable(&port, 1), 0);
    free(memory);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"one table makes names and predicates", test_err_table},
        {"arithmetic reports overflow", test_checked_arithmetic},
        {"spsc refuses bad shapes and versions", test_spsc_refuses_bad_shapes},
        {"spsc survives a mad neighbour", test_spsc_survives_a_mad_neighbour},
        {"spsc streams in order across threads", test_spsc_streams_across_threads},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("kit", tests);
}
