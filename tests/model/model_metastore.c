// Torc tests: the file metastore against a table: crashes at every byte, damage, two processes.
#include "control/meta_file_os.h"
#include "control/metastore_os.h"
#include "kit/clock_os.h"
#include "tests/torc_test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// In memory: each open syncs, some thousand times. A disk's own faults are the contract test's.
#define FOLDER "/dev/shm/torc-meta-XXXXXX"

enum {
    KEYS = 12,
    TXNS = 40,
    OPS_MAX = 4,
    GROUPS = KEYS / OPS_MAX,
    REPEATS = 3, // fewer than TORC_META_INFLIGHT_MAX in all
    TRIES = 5
};

static const uint8_t machine_a[TORC_JOURNAL_MACHINE_BYTES] = {1, 2, 3};
static const uint8_t machine_b[TORC_JOURNAL_MACHINE_BYTES] = {1, 2, 4};

// The oracle: what each key holds.
struct table {
    uint64_t version[KEYS]; // 0: nothing
    uint32_t value[KEYS];
    uint64_t revision;
};

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)ftw;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

static void remove_folder(const char *path)
{
    // What is left is in memory. NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct torc_meta_file *open_store(const char *folder)
{
    struct torc_meta_file *store = NULL;
    struct torc_fail why = {0};

    TORC_TEST_OK(torc_meta_file_open(&store, folder, machine_a, false, &why), &why);
    return store;
}

static void key_name(char *key, uint32_t number)
{
    (void)snprintf(key, 16, "shard/%u", number);
}

static bool same(struct torc_meta_file *store, const struct table *table)
{
    bool equal = true;

    for (uint32_t i = 0; i < KEYS; i++) {
        struct torc_meta_record record = {0};
        char key[16];
        enum torc_err err;

        key_name(key, i);
        err = torc_meta_file_get(store, key, &record, NULL);
        if (table->version[i] == 0) {
            equal = equal && err == TORC_ERR_NOT_FOUND;
        } else {
            equal = equal && err == TORC_ERR_OK && record.version == table->version[i] &&
                    record.value_bytes == 4 && memcmp(record.value, table->value + i, 4) == 0;
        }
    }
    return equal && torc_meta_file_revision(store) == table->revision;
}

struct txn {
    struct torc_meta_op ops[OPS_MAX];
    char keys[OPS_MAX][16];
    uint32_t values[OPS_MAX];
    uint32_t numbers[OPS_MAX];
    uint32_t count;
    bool good;
};

// `group`: of keys that no other one names; GROUPS: any.
static void draw(struct txn *txn, const struct table *table, struct torc_rng *rng, uint32_t group)
{
    txn->count = 1 + (uint32_t)torc_rng_below(rng, OPS_MAX);
    txn->good = true;
    for (uint32_t i = 0; i < txn->count; i++) {
        struct torc_meta_op *op = txn->ops + i;
        uint32_t base = group < GROUPS ? group : (uint32_t)torc_rng_below(rng, GROUPS);
        uint32_t number = base * OPS_MAX + i; // distinct

        txn->numbers[i] = number;
        key_name(txn->keys[i], number);
        txn->values[i] = (uint32_t)torc_rng_next(rng);
        *op = (struct torc_meta_op){.kind = (enum torc_meta_kind)torc_rng_below(rng, 3),
                                    .key = txn->keys[i],
                                    .value = txn->values + i,
                                    .value_bytes = 4,
                                    .expected = table->version[number]};
        if (torc_rng_chance(rng, 200000)) {
            op->expected = TORC_META_ANY;
        } else if (torc_rng_chance(rng, 100000)) {
            op->expected += 1;
            txn->good = false;
        }
    }
}

// What it does to the table in `revision`; returns whether it changes anything.
static bool apply(const struct txn *txn, struct table *table, uint64_t revision)
{
    bool change = false;

    for (uint32_t i = 0; txn->good && i < txn->count; i++) {
        uint32_t number = txn->numbers[i];

        if (txn->ops[i].kind == TORC_META_PUT) {
            table->version[number] = revision;
            table->value[number] = txn->values[i];
        } else if (txn->ops[i].kind == TORC_META_DELETE) {
            table->version[number] = 0;
        }
        change = change || txn->ops[i].kind != TORC_META_CHECK;
    }
    return change;
}

// One random transaction on both, or several at once. Returns whether one took effect.
static bool step(struct torc_meta_file *store, struct table *table, struct torc_rng *rng)
{
    struct txn txns[GROUPS];
    struct torc_meta_change changes[GROUPS] = {0};
    uint32_t count = 1 + (uint32_t)torc_rng_below(rng, GROUPS);
    uint64_t next = table->revision + 1;
    bool change = false;

    for (uint32_t i = 0; i < count; i++) {
        draw(txns + i, table, rng, count == 1 ? GROUPS : i);
        changes[i] = (struct torc_meta_change){.ops = txns[i].ops, .op_count = txns[i].count};
    }
    if (count == 1) {
        changes[0].err = torc_meta_file_txn(store, changes[0].ops, changes[0].op_count,
                                            &changes[0].revision, NULL);
    } else {
        torc_meta_file_txns(store, changes, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        change = apply(txns + i, table, next) || change;
    }
    table->revision += change ? 1 : 0;
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL(changes[i].err, txns[i].good ? TORC_ERR_OK : TORC_ERR_CONDITION_FAILED);
        CU_ASSERT(!txns[i].good || changes[i].revision == table->revision);
    }
    return change;
}

static uint64_t journal_bytes(const char *folder)
{
    struct stat at = {0};
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/journal", folder);
    CU_ASSERT_EQUAL(stat(path, &at), 0);
    return (uint64_t)at.st_size;
}

static void copy_journal(const char *from, const char *to, uint64_t byte_count, uint64_t flip_at)
{
    static unsigned char bytes[1 << 20];
    char path[128];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/journal", from);
    fd = open(path, O_RDONLY);
    CU_ASSERT_TRUE_FATAL(fd >= 0 && read(fd, bytes, sizeof(bytes)) >= (ssize_t)byte_count);
    (void)close(fd);
    if (flip_at < byte_count) {
        bytes[flip_at] ^= 0x40;
    }
    (void)mkdir(to, 0700);
    (void)snprintf(path, sizeof(path), "%s/journal", to);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_TRUE_FATAL(fd >= 0 && write(fd, bytes, byte_count) == (ssize_t)byte_count);
    (void)close(fd);
}

static void test_against_a_table(void)
{
    char folder[] = FOLDER;
    struct torc_rng rng = {torc_test_seed()};
    struct table table = {0};
    struct torc_meta_file *store;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    store = open_store(folder);
    for (uint32_t i = 0; i < 400; i++) {
        (void)step(store, &table, &rng);
        if (torc_rng_chance(&rng, 100000)) {
            torc_meta_file_close(store);
            store = open_store(folder);
        }
        if (i % 20 == 0) {
            CU_ASSERT_TRUE_FATAL(same(store, &table));
        }
    }
    CU_ASSERT_TRUE(same(store, &table));
    table.value[3] ^= 1; // planted: a difference must show
    table.version[3] += 1;
    CU_ASSERT_FALSE(same(store, &table));
    torc_meta_file_close(store);
    remove_folder(folder);
}

// M2: the file cut at any byte is the state of the last whole transaction, and goes on from there.
static void test_cut_at_every_byte(void)
{
    char folder[] = FOLDER;
    char cut[64];
    static struct table tables[TXNS + 1];
    static uint64_t ends[TXNS + 1];
    struct torc_rng rng = {torc_test_seed() + 1};
    struct torc_meta_file *store;
    uint32_t txns = 0;
    uint32_t at = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    (void)snprintf(cut, sizeof(cut), "%s-cut", folder);
    store = open_store(folder);
    ends[0] = journal_bytes(folder);
    while (txns < TXNS) {
        tables[txns + 1] = tables[txns];
        if (step(store, &tables[txns + 1], &rng)) {
            txns++;
            ends[txns] = journal_bytes(folder);
        }
    }
    torc_meta_file_close(store);
    for (uint64_t bytes = ends[0]; bytes <= ends[TXNS]; bytes++) {
        struct table table;

        while (at < TXNS && bytes >= ends[at + 1]) {
            at++;
        }
        table = tables[at];
        copy_journal(folder, cut, bytes, UINT64_MAX);
        store = open_store(cut);
        CU_ASSERT_TRUE_FATAL(same(store, &table));
        while (!step(store, &table, &rng)) {
        }
        CU_ASSERT_TRUE_FATAL(same(store, &table));
        torc_meta_file_close(store);
        if (bytes % 7 == 0) { // and it is still there for the next one
            store = open_store(cut);
            CU_ASSERT_TRUE_FATAL(same(store, &table));
            torc_meta_file_close(store);
        }
    }
    remove_folder(cut);
    remove_folder(folder);
}

// Opens the copy with a flipped bit; `before` is what all but the last entry say.
static void check_flip(const char *folder, bool in_last, const struct table *before)
{
    struct torc_meta_file *store = NULL;
    struct torc_fail why = {0};
    enum torc_err err;

    err = torc_meta_file_open(&store, folder, machine_a, false, &why);
    if (!in_last) {
        CU_ASSERT_NOT_EQUAL_FATAL(err, TORC_ERR_OK);
        return;
    }
    TORC_TEST_OK(err, &why);
    CU_ASSERT_TRUE(same(store, before));
    torc_meta_file_close(store);
}

// J2: a flipped bit in the last entry is a torn tail, in any other it is damage and is refused.
static void test_flip_at_every_byte(void)
{
    char folder[] = FOLDER;
    char flipped[64];
    struct torc_rng rng = {torc_test_seed() + 2};
    struct table table = {0};
    struct table before = {0};
    struct torc_meta_file *store;
    uint64_t last = 0;
    uint64_t end;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    (void)snprintf(flipped, sizeof(flipped), "%s-flip", folder);
    store = open_store(folder);
    for (uint32_t i = 0; i < 6;) {
        struct table was = table;
        uint64_t start = journal_bytes(folder);

        if (step(store, &table, &rng)) {
            before = was;
            last = start;
            i++;
        }
    }
    torc_meta_file_close(store);
    end = journal_bytes(folder);
    for (uint64_t at = 0; at < end; at++) {
        copy_journal(folder, flipped, end, at);
        check_flip(flipped, at >= last, &before);
    }
    remove_folder(flipped);
    remove_folder(folder);
}

static void test_another_machine_is_refused(void)
{
    char folder[] = FOLDER;
    struct torc_meta_file *store;
    struct torc_fail why = {0};

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    torc_meta_file_close(open_store(folder));
    CU_ASSERT_EQUAL(torc_meta_file_open(&store, folder, machine_b, false, &why), TORC_ERR_IN_USE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "another machine"));
    CU_ASSERT_EQUAL(torc_meta_file_open(&store, "relative", machine_a, false, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    remove_folder(folder);
}

// Adds one to a counter by compare-and-swap, `times` times.
static void count_up(const char *folder, uint32_t times)
{
    struct torc_meta_file *store = open_store(folder);

    for (uint32_t done = 0; done < times;) {
        struct torc_meta_record record = {0};
        uint64_t revision;
        uint32_t value = 0;
        enum torc_err err = torc_meta_file_get(store, "counter/x", &record, NULL);

        if (err == TORC_ERR_OK) {
            memcpy(&value, record.value, sizeof(value));
        }
        value++;
        err = torc_meta_file_txn(store,
                                 &(struct torc_meta_op){.kind = TORC_META_PUT,
                                                        .key = "counter/x",
                                                        .value = &value,
                                                        .value_bytes = sizeof(value),
                                                        .expected = record.version},
                                 1, &revision, NULL);
        done += err == TORC_ERR_OK ? 1 : 0;
        torc_assert(err == TORC_ERR_OK || err == TORC_ERR_CONDITION_FAILED ||
                    err == TORC_ERR_UNAVAILABLE);
    }
    torc_meta_file_close(store);
}

static void test_two_processes_lose_no_update(void)
{
    char folder[] = FOLDER;
    struct torc_meta_record record = {0};
    struct torc_meta_file *store;
    struct torc_fail why = {0};
    uint32_t value = 0;
    int status = 1;
    pid_t child;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    child = fork();
    if (child == 0) {
        count_up(folder, 60);
        _exit(0);
    }
    count_up(folder, 60);
    CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
    CU_ASSERT_EQUAL(status, 0);
    store = open_store(folder);
    TORC_TEST_OK(torc_meta_file_get(store, "counter/x", &record, &why), &why);
    memcpy(&value, record.value, sizeof(value));
    CU_ASSERT_EQUAL(value, 120);
    torc_meta_file_close(store);
    remove_folder(folder);
}

// A journal that grew long is written anew, with every record's version, and others notice.
static void test_compaction_keeps_versions(void)
{
    char folder[] = FOLDER;
    static char big[TORC_JOURNAL_VALUE_MAX];
    struct torc_rng rng = {torc_test_seed() + 3};
    struct table table = {0};
    struct torc_meta_file *store;
    struct torc_meta_file *other;
    uint64_t revision;
    uint64_t largest = 0;
    bool shrunk = false;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    store = open_store(folder);
    other = open_store(folder);
    for (uint32_t i = 0; i < 20; i++) {
        (void)step(store, &table, &rng);
    }
    for (uint32_t i = 0; i < 2000 && !shrunk; i++) {
        struct torc_meta_op op = {.kind = TORC_META_PUT,
                                  .key = "want/1",
                                  .value = big,
                                  .value_bytes = sizeof(big),
                                  .expected = TORC_META_ANY};

        CU_ASSERT_EQUAL_FATAL(torc_meta_file_txn(store, &op, 1, &revision, NULL), TORC_ERR_OK);
        shrunk = journal_bytes(folder) < largest;
        largest = journal_bytes(folder);
        table.revision++;
    }
    CU_ASSERT_TRUE(shrunk);
    CU_ASSERT_TRUE(same(other, &table));
    while (!step(other, &table, &rng)) {
    }
    CU_ASSERT_TRUE(same(store, &table));
    torc_meta_file_close(other);
    torc_meta_file_close(store);
    store = open_store(folder);
    CU_ASSERT_TRUE(same(store, &table));
    torc_meta_file_close(store);
    remove_folder(folder);
}

static void test_list_is_in_order(void)
{
    char folder[] = FOLDER;
    static const char *const names[] = {"shard/2", "node/1", "shard/10", "shardx", "shard/1"};
    struct torc_meta_record records[4];
    struct torc_meta_file *store;
    struct torc_fail why = {0};
    uint64_t revision;
    uint32_t count = 0;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    store = open_store(folder);
    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        struct torc_meta_op op = {
            .kind = TORC_META_PUT, .key = names[i], .value = "v", .value_bytes = 1};

        TORC_TEST_OK(torc_meta_file_txn(store, &op, 1, &revision, &why), &why);
    }
    TORC_TEST_OK(torc_meta_file_list(store, "shard/", records, 4, &count, &why), &why);
    CU_ASSERT_EQUAL_FATAL(count, 3);
    CU_ASSERT_STRING_EQUAL(records[0].key, "shard/1");
    CU_ASSERT_STRING_EQUAL(records[1].key, "shard/10");
    CU_ASSERT_STRING_EQUAL(records[2].key, "shard/2");
    CU_ASSERT_EQUAL(torc_meta_file_list(store, "shard/", records, 2, &count, &why), TORC_ERR_LIMIT);
    torc_meta_file_close(store);
    remove_folder(folder);
}

// Submits REPEATS compare-and-swaps of each key, all of them against its absence.
static void submit_all(struct torc_metastore *store)
{
    struct torc_fail why = {0};

    for (uint32_t i = 0; i < KEYS * REPEATS; i++) {
        char key[16];
        struct torc_meta_op op = {.kind = TORC_META_PUT,
                                  .key = key,
                                  .value = &i,
                                  .value_bytes = sizeof(i),
                                  .expected = TORC_META_ABSENT};
        struct torc_meta_request request = {.verb = TORC_META_TXN,
                                            .ticket = i,
                                            .deadline_ns = torc_clock_now_ns() + TORC_META_WAIT_NS,
                                            .op_count = 1,
                                            .ops = &op};

        key_name(key, i % KEYS);
        TORC_TEST_OK(torc_metastore_submit(store, &request, torc_clock_now_ns(), &why), &why);
    }
}

// What waits while another process has the lock goes together: one of each key wins, the others
// are told of it, and all of it takes two syncs, what was picked before and the rest. False: one
// of the threads was off its core for a second, and the store waits no longer for the lock.
static bool waits_and_goes_together(void)
{
    char folder[] = FOLDER;
    char path[64];
    uint32_t wins[KEYS] = {0};
    uint32_t winner[KEYS] = {0};
    uint32_t told[KEYS] = {0};
    struct torc_metastore *store = NULL;
    struct torc_fail why = {0};
    bool in_time = true;
    int lock_fd;

    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    TORC_TEST_OK(torc_metastore_open_file(&store, folder, machine_a, false, &why), &why);
    (void)snprintf(path, sizeof(path), "%s/lock", folder);
    lock_fd = open(path, O_RDWR | O_CLOEXEC);
    CU_ASSERT_EQUAL_FATAL(flock(lock_fd, LOCK_EX), 0);
    submit_all(store);
    CU_ASSERT_EQUAL(close(lock_fd), 0);
    for (uint32_t done = 0; done < KEYS * REPEATS;) {
        struct pollfd waits = {.fd = torc_metastore_fd(store), .events = POLLIN};
        struct torc_meta_answer answer;

        CU_ASSERT_EQUAL_FATAL(poll(&waits, 1, 10000), 1);
        torc_metastore_step(store, torc_clock_now_ns());
        while (torc_metastore_take(store, &answer)) {
            uint32_t key = (uint32_t)answer.ticket % KEYS;

            done++;
            if (answer.err == TORC_ERR_OK) {
                wins[key]++;
                winner[key] = (uint32_t)answer.ticket;
                continue;
            }
            if (answer.err == TORC_ERR_UNAVAILABLE) {
                in_time = false;
                continue;
            }
            CU_ASSERT_EQUAL_FATAL(answer.err, TORC_ERR_CONDITION_FAILED);
            CU_ASSERT_EQUAL_FATAL(answer.record_count, 1);
            memcpy(told + key, answer.records[0].value, sizeof(*told));
        }
    }
    for (uint32_t i = 0; i < KEYS && in_time; i++) {
        CU_ASSERT_EQUAL(wins[i], 1);
        CU_ASSERT_EQUAL(told[i], winner[i]);
    }
    CU_ASSERT(torc_metastore_revision(store) <= 2 || !in_time);
    torc_metastore_close(store);
    remove_folder(folder);
    return in_time;
}

static void test_what_waits_goes_together(void)
{
    bool in_time = false;

    for (uint32_t i = 0; i < TRIES && !in_time; i++) {
        in_time = waits_and_goes_together();
    }
    CU_ASSERT_TRUE(in_time);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"behaves as a table", test_against_a_table},
        {"cut at every byte it is the last whole transaction", test_cut_at_every_byte},
        {"a flipped bit is damage, or a torn tail at the end", test_flip_at_every_byte},
        {"another machine is refused", test_another_machine_is_refused},
        {"two processes lose no update", test_two_processes_lose_no_update},
        {"compaction keeps versions", test_compaction_keeps_versions},
        {"a list is in order", test_list_is_in_order},
        {"what waits goes together", test_what_waits_goes_together},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("metastore", tests);
}
