// Torc tests: the words of kit/ that everyone uses.
#include "kit/chan.h"
#include "kit/crc32c.h"
#include "kit/histogram.h"
#include "kit/hlc.h"
#include "kit/offer.h"
#include "kit/spsc.h"
#include "kit/text.h"
#include "kit/wall.h"
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

// Zeroed, aligned as rings want it.
static void *make_memory(uint64_t bytes)
{
    uint64_t pages = (bytes + TORC_SPSC_ALIGN_BYTES - 1) / TORC_SPSC_ALIGN_BYTES;
    void *memory = aligned_alloc(TORC_SPSC_ALIGN_BYTES, pages * TORC_SPSC_ALIGN_BYTES);

    torc_assert(memory != NULL);
    memset(memory, 0, pages * TORC_SPSC_ALIGN_BYTES);
    return memory;
}

// Everything arrives once and in order, also when the consumer is replaced again and again.
static void test_spsc_streams_across_threads(void)
{
    uint64_t bytes = torc_spsc_bytes(8, STREAM_SLOTS);
    void *memory = make_memory(bytes);
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

static void test_crc32c_vectors_and_oracle(void)
{
    struct torc_rng rng = {torc_test_seed()};
    uint8_t bytes[300] = {0};

    // RFC 3720, B.4: 32 bytes of zeros, of ones; and the check value of "123456789".
    CU_ASSERT_EQUAL(torc_crc32c(0, bytes, 32), 0x8a9136aau);
    CU_ASSERT_EQUAL(torc_crc32c(0, "123456789", 9), 0xe3069283u);
    for (uint32_t round = 0; round < 1000; round++) {
        size_t byte_count = torc_rng_below(&rng, sizeof(bytes) + 1);
        size_t cut = torc_rng_below(&rng, byte_count + 1);

        for (size_t i = 0; i < byte_count; i++) {
            bytes[i] = (uint8_t)torc_rng_next(&rng);
        }
        CU_ASSERT_EQUAL(torc_crc32c(0, bytes, byte_count), torc_crc32c_plain(0, bytes, byte_count));
        CU_ASSERT_EQUAL(torc_crc32c(torc_crc32c(0, bytes, cut), bytes + cut, byte_count - cut),
                        torc_crc32c(0, bytes, byte_count));
    }
}

static void test_histogram_knows_values_to_a_thousandth(void)
{
    static struct torc_histogram histogram; // large for a stack
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t round = 0; round < 100000; round++) {
        uint64_t value = torc_rng_next(&rng) >> torc_rng_below(&rng, 64);
        uint64_t clipped = torc_min_u64(value, TORC_HISTOGRAM_VALUE_MAX);
        uint64_t upper = torc_histogram_value(torc_histogram_index(value));

        CU_ASSERT_TRUE(upper >= clipped);
        CU_ASSERT_TRUE(upper - clipped <= clipped / 1000);
    }
    CU_ASSERT_EQUAL(torc_histogram_quantile(&histogram, 500000), 0);
    for (uint64_t value = 1; value <= 1000; value++) {
        torc_histogram_record(&histogram, value);
    }
    CU_ASSERT_EQUAL(torc_histogram_quantile(&histogram, 500000), 500);
    CU_ASSERT_EQUAL(torc_histogram_quantile(&histogram, 500001), 501); // rounded up
    CU_ASSERT_EQUAL(torc_histogram_quantile(&histogram, 990000), 990);
    CU_ASSERT_EQUAL(torc_histogram_quantile(&histogram, 1000000), 1000);
    CU_ASSERT_EQUAL(histogram.max, 1000);
}

static void test_hlc_rises(void)
{
    uint64_t hlc = torc_hlc_next(0, 1000);

    CU_ASSERT_EQUAL(torc_hlc_us(hlc), 1000);
    CU_ASSERT_EQUAL(torc_hlc_next(hlc, 999), hlc + 1); // a clock that went back
    CU_ASSERT_EQUAL(torc_hlc_us(torc_hlc_next(hlc, 1001)), 1001);
}

static void test_channel_carries_and_refuses(void)
{
    uint64_t bytes = torc_chan_bytes(2);
    void *memory = make_memory(bytes);
    struct torc_chan_ports dataplane;
    struct torc_chan_ports control;
    struct torc_fail why;

    CU_ASSERT_EQUAL(torc_chan_check(memory, bytes, &why), TORC_ERR_CORRUPT);
    TORC_TEST_OK(torc_chan_format(memory, bytes, 2, &why), &why);
    CU_ASSERT_EQUAL(torc_chan_check(memory, bytes - 1, &why), TORC_ERR_CORRUPT);
    TORC_TEST_OK(torc_chan_attach(&dataplane, TORC_CHAN_DATAPLANE, memory, bytes, 1, &why), &why);
    TORC_TEST_OK(torc_chan_attach(&control, TORC_CHAN_CONTROL, memory, bytes, 1, &why), &why);
    CU_ASSERT_EQUAL(torc_spsc_writable(&dataplane.evt, 1), TORC_CHAN_MESSAGE_SLOTS);
    CU_ASSERT_EQUAL(torc_spsc_writable(&control.cmd, 1), TORC_CHAN_MESSAGE_SLOTS);
    ((struct torc_cmd *)torc_spsc_write_at(&control.cmd, 0))->kind = TORC_CMD_SERVE;
    torc_spsc_publish(&control.cmd, 1);
    CU_ASSERT_EQUAL_FATAL(torc_spsc_readable(&dataplane.cmd, 1), 1);
    CU_ASSERT_EQUAL(((const struct torc_cmd *)torc_spsc_read_at(&dataplane.cmd, 0))->kind,
                    TORC_CMD_SERVE);
    CU_ASSERT_PTR_EQUAL(dataplane.worker, control.worker);
    ((struct torc_chan *)memory)->version++;
    CU_ASSERT_EQUAL(torc_chan_check(memory, bytes, &why), TORC_ERR_UNSUPPORTED_VERSION);
    free(memory);
}

static void test_stats_buckets_double_every_second_step(void)
{
    CU_ASSERT_EQUAL(torc_stats_bucket(0), 0);
    CU_ASSERT_EQUAL(torc_stats_bucket(UINT64_MAX / 2), TORC_STATS_BUCKETS_MAX - 1);
    for (uint64_t ns = 1; ns < 1000000; ns += 97) {
        CU_ASSERT_TRUE(torc_stats_bucket(ns) <= torc_stats_bucket(ns + 250));
        CU_ASSERT_TRUE(torc_stats_bucket(2 * ns + 250) <= torc_stats_bucket(ns) + 3);
    }
}

static void test_text_is_cut_and_counted(void)
{
    char bytes[8] = "xxxxxxx";
    struct torc_text text = {.bytes = bytes, .room = 6}; // one byte stays behind the end
    struct torc_text counted = {0};

    torc_text_add(&text, "%s", "one");
    CU_ASSERT_STRING_EQUAL(bytes, "one");
    torc_text_add(&text, "%d", 4567);
    CU_ASSERT_STRING_EQUAL(bytes, "one456");
    CU_ASSERT_EQUAL(text.used, 7);
    CU_ASSERT_EQUAL(torc_text_bytes(&text), 6);
    torc_text_add(&text, "more");
    CU_ASSERT_STRING_EQUAL(bytes, "one456");
    CU_ASSERT_EQUAL(text.used, 11);
    torc_text_add(&counted, "%u bytes", 12u);
    CU_ASSERT_EQUAL(counted.used, 8);
    CU_ASSERT_EQUAL(torc_text_bytes(&counted), 0);
}

// Nothing is stamped yet.
static uint64_t wall_look(struct torc_wall *wall, uint64_t now_ns, uint64_t system_us,
                          int64_t median_us)
{
    struct torc_wall_look look = {.now_ns = now_ns, .system_us = system_us, .median_us = median_us};

    return torc_wall_step(wall, &look);
}

// The clock that stamps, with a system's clock that is set at will, and other nodes now and then.
static void test_wall_follows_no_step(void)
{
    struct torc_rng rng = {torc_test_seed()};
    struct torc_wall wall = {0};
    uint64_t now_ns = UINT64_C(7000000000);
    int64_t system_us = INT64_C(1700000000000000);
    int64_t median_us = TORC_WALL_UNKNOWN;
    uint64_t before_us = wall_look(&wall, now_ns, (uint64_t)system_us, median_us);

    CU_ASSERT_EQUAL(before_us, (uint64_t)system_us);
    for (uint32_t i = 0; i < 20000; i++) {
        uint64_t took_us = torc_rng_below(&rng, 1 + (UINT64_C(1) << torc_rng_below(&rng, 24)));
        uint64_t wall_us;
        int64_t passed_us;

        now_ns += took_us * 1000;
        system_us += (int64_t)took_us;
        if (torc_rng_chance(&rng, 5000)) { // by up to an hour, either way
            system_us += (int64_t)torc_rng_below(&rng, UINT64_C(7200000000)) - INT64_C(3600000000);
        }
        if (torc_rng_chance(&rng, 2000)) {
            median_us = torc_rng_chance(&rng, 500000)
                            ? TORC_WALL_UNKNOWN
                            : torc_wall_offset_us(UINT64_C(1700000000000000), 0) +
                                  (int64_t)torc_rng_below(&rng, 20000000);
        }
        wall_us = wall_look(&wall, now_ns, (uint64_t)system_us, median_us);
        passed_us = (int64_t)(wall_us - before_us);
        if (median_us == TORC_WALL_UNKNOWN) {
            // What was not looked at by itself may come with this step: a millisecond of it.
            CU_ASSERT(passed_us >= (int64_t)(took_us - took_us / TORC_WALL_SLEW) - 64);
            CU_ASSERT(passed_us <= (int64_t)(took_us + took_us / TORC_WALL_SLEW) + 64);
        } else {
            CU_ASSERT(torc_wall_offset_us(wall_us, now_ns) <= median_us + TORC_WALL_APART_US);
            CU_ASSERT(torc_wall_offset_us(wall_us, now_ns) >= median_us - TORC_WALL_APART_US);
        }
        before_us = wall_us;
    }
    // Sixteen times the largest distance later it is there.
    for (uint32_t i = 0; i < 40000000 / 16; i++) {
        now_ns += UINT64_C(1000000000);
        system_us += 1000000;
        before_us = wall_look(&wall, now_ns, (uint64_t)system_us, TORC_WALL_UNKNOWN);
        if (before_us == (uint64_t)system_us) {
            break;
        }
    }
    CU_ASSERT_EQUAL(before_us, (uint64_t)system_us);
    torc_wall_floor(&wall, now_ns, before_us + 5000000);
    CU_ASSERT_EQUAL(wall_look(&wall, now_ns, before_us, TORC_WALL_UNKNOWN), before_us + 5000000);
}

// What was stamped ahead is not taken back, only made good; what was not is left at once.
static void test_wall_takes_no_stamp_back(void)
{
    uint64_t now_ns = UINT64_C(7000000000);
    struct torc_wall wall = {0};
    struct torc_wall_look look = {
        .now_ns = now_ns, .system_us = UINT64_C(1700000000000000), .median_us = TORC_WALL_UNKNOWN};
    int64_t right_us = torc_wall_offset_us(look.system_us, now_ns) - 3600000000;
    uint64_t before_us = torc_wall_step(&wall, &look);

    look.stamped_us = before_us;
    look.median_us = right_us;
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t wall_us;

        look.now_ns += 1600000;
        look.system_us += 1600;
        wall_us = torc_wall_step(&wall, &look);
        CU_ASSERT_EQUAL(wall_us - before_us, 1500);
        before_us = wall_us;
    }
    look.stamped_us = 0;
    before_us = torc_wall_step(&wall, &look);
    CU_ASSERT_EQUAL(torc_wall_offset_us(before_us, look.now_ns), right_us);
}

// Most nodes hold HLCs an hour ahead of most clocks: these were set back. What is a little ahead is
// nobody's but a client's, say.
static void test_wall_goes_on_from_what_most_hold(void)
{
    struct torc_wall wall = {0};
    struct torc_wall_look look = {.now_ns = UINT64_C(7000000000),
                                  .system_us = UINT64_C(1700000000000000)};

    look.median_us = torc_wall_offset_us(look.system_us, look.now_ns);
    look.stamped_us = look.system_us + 6000000;
    for (uint32_t i = 0; i < 2; i++) { // it begins, and it runs
        CU_ASSERT_EQUAL(torc_wall_step(&wall, &look), look.system_us);
    }
    look.stamped_us = look.system_us + 3600000000;
    CU_ASSERT_EQUAL(torc_wall_step(&wall, &look), look.stamped_us);
    CU_ASSERT_EQUAL(wall.own_us, look.median_us); // others are told of the clock alone
    look.now_ns += 1600000;
    look.system_us += 1600;
    CU_ASSERT_EQUAL(torc_wall_step(&wall, &look), look.stamped_us + 1500);
}

// Held at a stamp of yesterday: until a median is known, or the time is over.
static void test_wall_is_held(void)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct torc_wall wall = {0};
        struct torc_wall_look look = {.now_ns = UINT64_C(7000000000),
                                      .system_us = UINT64_C(1700000000000000),
                                      .median_us = TORC_WALL_UNKNOWN};
        uint64_t stamped_us = look.system_us - UINT64_C(86400000000);
        int64_t own_us = torc_wall_offset_us(look.system_us, look.now_ns);

        (void)torc_wall_step(&wall, &look);
        torc_wall_hold(&wall, look.now_ns, stamped_us, 5000000000);
        look.now_ns += 4000000000;
        look.system_us += 4000000;
        look.stamped_us = stamped_us;
        CU_ASSERT_EQUAL(torc_wall_step(&wall, &look), stamped_us + 4000000);
        if (i == 0) {
            look.median_us = own_us - 2000000;
            CU_ASSERT_EQUAL(torc_wall_offset_us(torc_wall_step(&wall, &look), look.now_ns),
                            look.median_us);
        } else {
            look.now_ns += 1000000000;
            look.system_us += 1000000;
            CU_ASSERT_EQUAL(torc_wall_step(&wall, &look), look.system_us);
        }
    }
}

static void test_wall_median(void)
{
    int64_t offsets_us[] = {5, -3, 100, 7};

    int64_t apart_us[] = {5, 5 + TORC_WALL_APART_US + 1};

    CU_ASSERT_EQUAL(torc_wall_median_us(offsets_us, 1, 0), TORC_WALL_UNKNOWN);
    CU_ASSERT_EQUAL(torc_wall_median_us(offsets_us, 2, 0), 5);
    CU_ASSERT_EQUAL(torc_wall_median_us(apart_us, 2, 0), TORC_WALL_UNKNOWN); // who is wrong?
    CU_ASSERT_EQUAL(torc_wall_median_us(offsets_us, 3, 0), 5);
    CU_ASSERT_EQUAL(torc_wall_median_us(offsets_us, 4, 0), 5);
}

// Whatever the missing ones turn out to be, a median that is told without them is near the one with
// them; and it is told where all that were heard agree and are most.
static void test_wall_median_of_the_first_is_that_of_all(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < 20000; i++) {
        int64_t all_us[9];
        int64_t first_us[9];
        uint32_t count = 1 + (uint32_t)torc_rng_below(&rng, TORC_COUNT_OF(all_us));
        uint32_t first = 1 + (uint32_t)torc_rng_below(&rng, count);
        bool agree = true;
        int64_t told_us;
        int64_t us;

        for (uint32_t k = 0; k < count; k++) { // some right, some anywhere
            all_us[k] = (int64_t)torc_rng_below(
                &rng, torc_rng_chance(&rng, 700000) ? 400000 : UINT64_C(3600000000));
            agree = agree && (k >= first || all_us[k] < 400000);
        }
        memcpy(first_us, all_us, sizeof(first_us));
        told_us = torc_wall_median_us(first_us, first, count - first);
        us = torc_wall_median_us(all_us, count, 0);
        CU_ASSERT(!agree || first == 1 || 2 * first <= count || told_us != TORC_WALL_UNKNOWN);
        CU_ASSERT(told_us == TORC_WALL_UNKNOWN || count < 3 ||
                  (told_us <= us + TORC_WALL_APART_US && told_us >= us - TORC_WALL_APART_US));
    }
}

static void an_offer_that_was_long_away_is_not_repeated_for_a_while(void)
{
    struct torc_offer offer = {0};
    uint64_t now_ns = 7000000000;

    torc_offer_made(&offer, now_ns, TORC_OFFER_LONG_NS - 1);
    CU_ASSERT(torc_offer_may(&offer, now_ns));
    for (uint64_t while_ns = TORC_OFFER_LEAST_NS; while_ns < TORC_OFFER_MOST_NS; while_ns *= 2) {
        torc_offer_made(&offer, now_ns, TORC_OFFER_LONG_NS);
        CU_ASSERT_FALSE(torc_offer_may(&offer, now_ns + while_ns - 1));
        now_ns += while_ns;
        CU_ASSERT(torc_offer_may(&offer, now_ns));
    }
    torc_offer_made(&offer, now_ns, TORC_OFFER_LONG_NS);
    CU_ASSERT_EQUAL(offer.until_ns, now_ns + TORC_OFFER_MOST_NS);
    now_ns += 3 * TORC_OFFER_MOST_NS; // long over
    torc_offer_made(&offer, now_ns, TORC_OFFER_LONG_NS);
    CU_ASSERT_EQUAL(offer.until_ns, now_ns + TORC_OFFER_LEAST_NS);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"one table makes names and predicates", test_err_table},
        {"arithmetic reports overflow", test_checked_arithmetic},
        {"spsc refuses bad shapes and versions", test_spsc_refuses_bad_shapes},
        {"spsc survives a mad neighbour", test_spsc_survives_a_mad_neighbour},
        {"spsc streams in order across threads", test_spsc_streams_across_threads},
        {"CRC32C as published, and as the plain one", test_crc32c_vectors_and_oracle},
        {"a histogram knows values to a thousandth", test_histogram_knows_values_to_a_thousandth},
        {"an HLC rises though the clock falls", test_hlc_rises},
        {"the clock that stamps follows no step", test_wall_follows_no_step},
        {"nodes agree on the time of day", test_wall_median},
        {"the time of day of the first nodes is that of all",
         test_wall_median_of_the_first_is_that_of_all},
        {"the clock takes no stamp back", test_wall_takes_no_stamp_back},
        {"the clock goes on from what most nodes hold", test_wall_goes_on_from_what_most_hold},
        {"a node that starts waits for the others' clocks", test_wall_is_held},
        {"the channel carries messages and refuses another layout",
         test_channel_carries_and_refuses},
        {"time buckets rise", test_stats_buckets_double_every_second_step},
        {"a text is cut at its room and counted beyond", test_text_is_cut_and_counted},
        {"an offer that was long away is not repeated for a while",
         an_offer_that_was_long_away_is_not_repeated_for_a_while},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("kit", tests);
}
