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
static struct torc_based based;

static void open_folder(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/torc-based-XXXXXX");
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    dir = (struct torc_data_dir){.fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
}

static void close_folder(void)
{
    (void)unlinkat(dir.fd, "replicas", 0); // it may not be there
    (void)close(dir.fd);
    CU_ASSERT_EQUAL(rmdir(folder), 0);
}

static uint32_t load(uint64_t copy)
{
    torc_based_load(&dir, copy, copy, &based);
    return based.count;
}

static void lines_are_read_again(void)
{
    struct torc_based_line line = {.copy = 9, .shard = 5, .turn = 3};
    struct torc_fail why;

    open_folder();
    CU_ASSERT_EQUAL(load(7), 0); // there is none
    for (uint32_t i = 0; i < SHARDS; i++) {
        // The longest numbers.
        struct torc_based_line one = {.copy = UINT64_MAX - i,
                                      .shard = UINT32_MAX - i,
                                      .turn = UINT32_MAX - i,
                                      .whole = i % 2 != 0};

        CU_ASSERT_TRUE(torc_based_put(&based, &one));
    }
    CU_ASSERT_FALSE(torc_based_put(&based, &line)); // one more than there is room for
    TORC_TEST_OK(torc_based_save(&dir, 7, &based, &why), &why);
    CU_ASSERT_EQUAL(load(7), SHARDS);
    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct torc_based_line *found = torc_based_find(&based, UINT32_MAX - i);

        CU_ASSERT_PTR_NOT_NULL_FATAL(found);
        CU_ASSERT_EQUAL(found->copy, UINT64_MAX - i);
        CU_ASSERT_EQUAL(found->turn, UINT32_MAX - i);
        CU_ASSERT_EQUAL(found->whole, i % 2 != 0);
    }
    CU_ASSERT_EQUAL(load(8), 0); // another copy has forgotten
    CU_ASSERT_TRUE(torc_based_put(&based, &line));
    line.whole = true;
    CU_ASSERT_TRUE(torc_based_put(&based, &line)); // in the place of the one before
    CU_ASSERT_EQUAL(based.count, 1);
    TORC_TEST_OK(torc_based_save(&dir, 8, &based, &why), &why);
    CU_ASSERT_EQUAL(load(8), 1);
    CU_ASSERT_TRUE(based.lines[0].whole);
    close_folder();
}

// The starts that begin as copies 8 and 9 end before they have written the file.
static void lines_outlive_starts_that_served_nobody(void)
{
    struct torc_based_line line = {.copy = 7, .shard = 5, .turn = 3, .whole = true};
    struct torc_fail why;

    open_folder();
    based.count = 0;
    CU_ASSERT_TRUE(torc_based_put(&based, &line));
    TORC_TEST_OK(torc_based_save(&dir, 7, &based, &why), &why);
    for (uint64_t copy = 8; copy <= 10; copy++) {
        torc_based_load(&dir, copy - 1, copy, &based);
        CU_ASSERT_EQUAL_FATAL(based.count, 1);
        CU_ASSERT_TRUE(based.lines[0].whole);
    }
    torc_based_load(&dir, 8, 8, &based); // goes on, and did not write it
    CU_ASSERT_EQUAL(based.count, 0);
    close_folder();
}

static void a_file_of_version_1_names_whole_logs(void)
{
    static const char text[] = "torc-replicas 1 7\n3\n4294967295\n";
    struct torc_fail why;

    open_folder();
    TORC_TEST_OK(torc_file_replace(dir.fd, "replicas", text, strlen(text), 0640, &why), &why);
    CU_ASSERT_EQUAL_FATAL(load(7), 2);
    CU_ASSERT_EQUAL(based.lines[0].copy, 7);
    CU_ASSERT_TRUE(based.lines[0].whole);
    CU_ASSERT_EQUAL(based.lines[1].shard, UINT32_MAX);
    close_folder();
}

static void what_makes_no_sense_says_nothing(void)
{
    static const char *const texts[] = {"",
                                        "torc-replicas 3 7\n1 1 1 1\n",
                                        "torc-replicas 0 7\n1\n",
                                        "torc-replicas 1 7",
                                        "torc-replicas 1 x\n4294967295\n",
                                        "torc-replicas 1 7\n\n4294967295\n",
                                        "torc-replicas 1 7\n99999999999999\n4294967295\n",
                                        "torc-replicas 2 7\n1 0 1 1\n",
                                        "torc-replicas 2 7\n0 1 1 1\n",
                                        "torc-replicas 2 7\n1 1 1 2\n",
                                        "torc-replicas 2 7\n1 1 1\n",
                                        "torc-replicas 2 7\n1 1 1 1"};
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
    CU_TestInfo tests[] = {
        {"lines are read again", lines_are_read_again},
        {"lines outlive starts that served nobody", lines_outlive_starts_that_served_nobody},
        {"a file of version 1 names whole logs", a_file_of_version_1_names_whole_logs},
        {"what makes no sense says nothing", what_makes_no_sense_says_nothing},
        CU_TEST_INFO_NULL};

    return torc_test_run("based", tests);
}
