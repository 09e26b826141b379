// Torc tests: the file that says which replicas have a whole log.
#include "control/based_os.h"
#include "tests/torc_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHARDS = 4096
};

static char folder[64];
static struct torc_data_dir dir;
static struct torc_cluster cluster;

static void open_folder(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/torc-based-XXXXXX");
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    dir = (struct torc_data_dir){.fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    cluster = (struct torc_cluster){.shard_count = SHARDS,
                                    .shards = calloc(SHARDS, sizeof(*cluster.shards))};
    torc_assert(cluster.shards != NULL);
    for (uint32_t i = 0; i < SHARDS; i++) {
        cluster.shards[i].shard = UINT32_MAX - i; // the longest numbers
    }
}

static void close_folder(void)
{
    (void)unlinkat(dir.fd, "replicas", 0); // it may not be there
    (void)close(dir.fd);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
    free(cluster.shards);
}

static uint32_t load(uint64_t copy)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++) {
        cluster.shards[i].based = false;
    }
    torc_based_load(&dir, copy, &cluster);
    for (uint32_t i = 0; i < SHARDS; i++) {
        count += cluster.shards[i].based ? 1 : 0;
    }
    return count;
}

static void marks_are_read_again(void)
{
    struct torc_fail why;

    open_folder();
    CU_ASSERT_EQUAL(load(7), 0); // there is none
    for (uint32_t i = 0; i < SHARDS; i++) {
        cluster.shards[i].based = true;
    }
    TORC_TEST_OK(torc_based_save(&dir, 7, &cluster, &why), &why);
    CU_ASSERT_EQUAL(load(7), SHARDS);
    CU_ASSERT_EQUAL(load(8), 0); // another copy has forgotten
    cluster.shards[2].based = true;
    TORC_TEST_OK(torc_based_save(&dir, 8, &cluster, &why), &why);
    CU_ASSERT_EQUAL(load(8), 1);
    CU_ASSERT_TRUE(cluster.shards[2].based);
    close_folder();
}

static void what_makes_no_sense_marks_nothing(void)
{
    static const char *const texts[] = {"",
                                        "torc-replicas 2 7\n1\n",
                                        "torc-replicas 1 7",
                                        "torc-replicas 1 x\n4294967295\n",
                                        "torc-replicas 1 7\n\n4294967295\n",
                                        "torc-replicas 1 7\n99999999999999\n4294967295\n"};
    struct torc_fail why;

    open_folder();
    for (uint32_t i = 0; i < TORC_COUNT_OF(texts); i++) {
        TORC_TEST_OK(torc_file_replace(dir.fd, "replicas", texts[i], strlen(texts[i]), 0640, &why),
                     &why);
        CU_ASSERT_EQUAL(load(7), 0);
    }
    close_folder();
}

int main(void)
{
    CU_TestInfo tests[] = {{"marks are read again", marks_are_read_again},
                           {"what makes no sense marks nothing", what_makes_no_sense_marks_nothing},
                           CU_TEST_INFO_NULL};

    return torc_test_run("based", tests);
}
