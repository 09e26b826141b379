// Torc tests: records of the metastore as text: what is written is read, what is not is refused.
#include "control/records.h"
#include "tests/torc_test.h"

#include <string.h>

static const struct torc_shard_fields one_shard = {.hi = 10,
                                                   .epoch = 1,
                                                   .primary_node = 1,
                                                   .primary_boot = 2,
                                                   .insync = {.count = 1, .at = {{1, 7}}},
                                                   .nonce = 5};

static enum torc_err decode(enum torc_record kind, void *fields, const char *text,
                            struct torc_fail *why)
{
    return torc_record_decode(kind, fields, text, strlen(text), why);
}

// One random shard in, the same out.
static void test_round_trips(void)
{
    struct torc_rng rng = {torc_test_seed()};
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_fail why = {0};

    for (uint32_t i = 0; i < 2000; i++) {
        struct torc_shard_fields shard = {.lo = torc_rng_next(&rng) >> 1};
        struct torc_shard_fields read;
        uint32_t bytes;

        shard.hi = shard.lo + 1 + (torc_rng_next(&rng) >> 2);
        shard.epoch = torc_rng_next(&rng) & UINT32_MAX;
        shard.insync.count = torc_rng_below(&rng, TORC_RECORD_MEMBERS_MAX + 1);
        for (uint64_t k = 0; k < shard.insync.count; k++) {
            shard.insync.at[k].node = 1 + k * 500 + torc_rng_below(&rng, 500);
            shard.insync.at[k].copy = torc_rng_next(&rng);
            shard.primary_node = shard.insync.at[k].node;
        }
        shard.parents.count = torc_rng_below(&rng, TORC_RECORD_PARENTS_MAX + 1);
        for (uint64_t k = 0; k < shard.parents.count; k++) {
            shard.parents.at[k].lsn = torc_rng_next(&rng);
        }
        shard.losses.count = torc_rng_below(&rng, TORC_RECORD_LOSSES_MAX + 1);
        for (uint64_t k = 0; k < shard.losses.count; k++) {
            shard.losses.at[k].at_s = torc_rng_next(&rng);
        }
        bytes = torc_record_encode(TORC_RECORD_SHARD, &shard, text);
        TORC_TEST_OK(torc_record_decode(TORC_RECORD_SHARD, &read, text, bytes, &why), &why);
        CU_ASSERT_EQUAL(memcmp(&shard, &read, sizeof(shard)), 0);
        shard.nonce ^= 1; // planted: a difference must show
        CU_ASSERT_NOT_EQUAL(memcmp(&shard, &read, sizeof(shard)), 0);
    }
}

// The largest of each kind fit into TORC_RECORD_BYTES_MAX: encode asserts it.
static void test_the_largest_fit(void)
{
    static struct torc_shard_fields shard;
    static struct torc_node_fields node;
    char text[TORC_RECORD_BYTES_MAX];

    memset(&shard, 0xff, sizeof(shard));
    shard.epoch = UINT32_MAX;
    shard.primary_node = TORC_RECORD_NODE_MAX;
    shard.birth = TORC_RECORD_BIRTH_MERGE;
    shard.insync.count = shard.previous.count = TORC_RECORD_MEMBERS_MAX;
    shard.parents.count = TORC_RECORD_PARENTS_MAX;
    shard.losses.count = TORC_RECORD_LOSSES_MAX;
    CU_ASSERT_TRUE(torc_record_encode(TORC_RECORD_SHARD, &shard, text) < TORC_RECORD_BYTES_MAX);
    memset(&node, 0xff, sizeof(node));
    node.base_port = 65535;
    node.cores = 255;
    node.zone = TORC_RECORD_ZONE_MAX;
    node.slot = TORC_RECORD_SLOT_MAX;
    node.state = TORC_RECORD_NODE_YIELDS;
    node.leaving = UINT64_MAX;
    memset(node.address, 'a', sizeof(node.address) - 1);
    node.address[sizeof(node.address) - 1] = '\0';
    memcpy(node.address6, node.address, sizeof(node.address6));
    memcpy(node.domain, node.address, sizeof(node.domain));
    CU_ASSERT_TRUE(torc_record_encode(TORC_RECORD_NODE, &node, text) < TORC_RECORD_BYTES_MAX);
}

// What version 0.1 before replication wrote.
static void test_format_1_is_read(void)
{
    struct torc_shard_fields shard;
    struct torc_counter_fields counter;
    struct torc_fail why = {0};

    TORC_TEST_OK(decode(TORC_RECORD_SHARD, &shard,
                        "format=1\nlo=0\nhi=1000\nepoch=3\nprimary_node=1\nprimary_boot=3\n"
                        "insync=1:1\n",
                        &why),
                 &why);
    CU_ASSERT_EQUAL(shard.hi, 1000);
    CU_ASSERT_EQUAL(shard.insync.count, 1);
    CU_ASSERT_EQUAL(shard.insync.at[0].copy, 1);
    CU_ASSERT_EQUAL(shard.nonce, 0);
    TORC_TEST_OK(decode(TORC_RECORD_COUNTER, &counter, "format=1\nvalue=7\n", &why), &why);
    CU_ASSERT_EQUAL(counter.value, 7);
    // A field of format 2 is unknown to format 1.
    CU_ASSERT_EQUAL(decode(TORC_RECORD_COUNTER, &counter, "format=1\nvalue=7\nnonce=1\n", &why),
                    TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "\"nonce\" is unknown"));
}

// A node of format 2 has no place on the ring yet, and serves.
static void test_format_2_is_read(void)
{
    static const char text[] = "format=2\nboot=3\ndown=2\ncopy=1\nstart_count=3\nbase_port=28700\n"
                               "cores=2\naddress=\naddress6=\ndomain=rack 1\ncapacity=9\nnonce=4\n";
    struct torc_node_fields node;
    struct torc_fail why = {0};
    char newer[sizeof(text) + 8];

    TORC_TEST_OK(decode(TORC_RECORD_NODE, &node, text, &why), &why);
    CU_ASSERT_EQUAL(node.capacity, 9);
    CU_ASSERT_EQUAL(node.zone + node.slot + node.leaving, 0);
    CU_ASSERT_EQUAL(node.state, TORC_RECORD_NODE_SERVES);
    (void)snprintf(newer, sizeof(newer), "%sslot=1\n", text);
    CU_ASSERT_EQUAL(decode(TORC_RECORD_NODE, &node, newer, &why), TORC_ERR_CORRUPT);
    newer[7] = '3';
    CU_ASSERT_EQUAL(decode(TORC_RECORD_NODE, &node, newer, &why), TORC_ERR_CORRUPT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "\"zone\" is missing"));
}

static void test_refusals_name_what_is_wrong(void)
{
    static const struct {
        const char *text;
        enum torc_err err;
        const char *says;
    } cases[] = {
        {"", TORC_ERR_CORRUPT, "empty"},
        {"value=1\n", TORC_ERR_CORRUPT, "format="},
        {"format=4\nvalue=1\nnonce=1\n", TORC_ERR_UNSUPPORTED_VERSION, "format 4"},
        {"format=0\nvalue=1\n", TORC_ERR_UNSUPPORTED_VERSION, "format 0"},
        {"format=3\nvalue=1\n", TORC_ERR_CORRUPT, "\"nonce\" is missing"},
        {"format=3\nvalue=1\nnonce=1\nvalue=2\n", TORC_ERR_CORRUPT, "\"value\" is there twice"},
        {"format=3\nvalue=1\nnonce=1\nnew=2\n", TORC_ERR_CORRUPT, "\"new\" is unknown"},
        {"format=3\nvalue=x\nnonce=1\n", TORC_ERR_CORRUPT, "\"value\" makes no sense"},
        {"format=3\nvalue=18446744073709551616\nnonce=1\n", TORC_ERR_CORRUPT, "\"value\""},
        {"format=3\nvalue=1\nnonce=1", TORC_ERR_CORRUPT, "no end"},
    };
    struct torc_counter_fields counter;

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        struct torc_fail why = {0};

        CU_ASSERT_EQUAL(decode(TORC_RECORD_COUNTER, &counter, cases[i].text, &why), cases[i].err);
        if (strstr(why.text, cases[i].says) == NULL) {
            (void)fprintf(stderr, "case %u says: %s\n", i, why.text);
            CU_FAIL("the text does not name it");
        }
    }
}

// A record of one_shard with one field's line replaced.
static enum torc_err decode_with(const char *field, const char *value)
{
    char text[TORC_RECORD_BYTES_MAX];
    char edited[2 * TORC_RECORD_BYTES_MAX];
    char mark[32];
    struct torc_shard_fields shard;
    struct torc_fail why = {0};
    char *at;

    text[torc_record_encode(TORC_RECORD_SHARD, &one_shard, text)] = '\0';
    (void)snprintf(mark, sizeof(mark), "\n%s=", field);
    at = strstr(text, mark);
    torc_assert(at != NULL);
    (void)snprintf(edited, sizeof(edited), "%.*s\n%s=%s%s", (int)(at - text), text, field, value,
                   strchr(at + 1, '\n'));
    return decode(TORC_RECORD_SHARD, &shard, edited, &why);
}

static void test_a_shard_must_make_sense(void)
{
    static const struct {
        const char *field;
        const char *value;
        enum torc_err err;
    } cases[] = {
        {"hi", "10", TORC_ERR_OK},
        {"hi", "0", TORC_ERR_CORRUPT},
        {"epoch", "4294967296", TORC_ERR_CORRUPT},
        {"primary_node", "2", TORC_ERR_CORRUPT},
        {"primary_node", "4096", TORC_ERR_CORRUPT},
        {"insync", "", TORC_ERR_OK},
        {"insync", "1:7,2:8", TORC_ERR_OK},
        {"insync", "1:7,1:8", TORC_ERR_CORRUPT},
        {"insync", "1:7,", TORC_ERR_CORRUPT},
        {"insync", "1", TORC_ERR_CORRUPT},
        {"insync", "1:7:9", TORC_ERR_CORRUPT},
        {"insync", "1,7", TORC_ERR_CORRUPT},
        {"insync", "1:7,4096:8", TORC_ERR_CORRUPT},
        {"insync", ":", TORC_ERR_CORRUPT},
        {"insync", "1:1,2:1,3:1,4:1,5:1,6:1,7:1,8:1,9:1", TORC_ERR_CORRUPT},
        {"birth", "3", TORC_ERR_CORRUPT},
        {"parents", "4:2:600,5:1:700", TORC_ERR_OK},
        {"parents", "4:2:600,5:1:700,6:1:1", TORC_ERR_CORRUPT},
        {"losses", "2:2:5:4444:17", TORC_ERR_OK},
        {"losses", "2:2:5:4444", TORC_ERR_CORRUPT},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        if (decode_with(cases[i].field, cases[i].value) != cases[i].err) {
            (void)fprintf(stderr, "%s=%s\n", cases[i].field, cases[i].value);
            CU_FAIL("not as expected");
        }
    }
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"what is written is read", test_round_trips},
        {"the largest records fit", test_the_largest_fit},
        {"format 1 is read", test_format_1_is_read},
        {"what format 2 lacks is zero", test_format_2_is_read},
        {"refusals name what is wrong", test_refusals_name_what_is_wrong},
        {"a shard must make sense", test_a_shard_must_make_sense},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("records", tests);
}
