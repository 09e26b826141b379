// Torc tests: starts and births as the metastore sees them (control/registry_os.h), over a file
// metastore: what a start has when there is not room for all, and what is refused changes nothing.
#include "control/based_os.h"
#include "control/registry_os.h"
#include "kit/secret_os.h"
#include "tests/torc_test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARDS 300u
#define ROOM   256u // of one worker

static char folder[64];
static struct torc_settings settings[3]; // of nodes 1 and 2
static struct torc_registry registry;
static struct torc_data_dir dir;
static const struct torc_network network = {.ipv4_prefix = 24, .base_port = 28700};

static void set(struct torc_settings *of, const char *section, const char *key, const char *value)
{
    const struct {
        const char *section;
        const char *key;
    } at = {section, key};
    struct torc_fail why;

    TORC_TEST_OK(torc_settings_set(of, at.section, at.key, value, TORC_SETTING_FROM_COMMAND, &why),
                 &why);
}

static void open_folder(const char *security)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/torc-registry-XXXXXX");
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    for (uint32_t node = 1; node <= 2; node++) {
        struct torc_settings *of = settings + node;
        char text[96];

        torc_settings_default(of);
        (void)snprintf(text, sizeof(text), "file:%s/meta", folder);
        set(of, "node", "metastore", text);
        (void)snprintf(text, sizeof(text), "%s/node%u", folder, node);
        set(of, "node", "data", text);
        (void)snprintf(text, sizeof(text), "%u", node);
        set(of, "node", "node", text);
        of->nodes = 3;
        of->replicas = 2;
        of->shards = SHARDS;
        of->workers = 2;
        of->security = strcmp(security, "keys") == 0 ? TORC_SECURITY_KEYS : TORC_SECURITY_CLEAR;
    }
}

static int remove_one(const char *path, const struct stat *at, int kind, struct FTW *walk)
{
    (void)at;
    (void)kind;
    (void)walk;
    return remove(path);
}

static void remove_all(const char *path)
{
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    CU_ASSERT_EQUAL(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void make(uint32_t node)
{
    struct torc_meta_fields meta;
    struct torc_fail why;

    TORC_TEST_OK(torc_registry_make(settings + node, &meta, &why), &why);
}

static void open_node(uint32_t node)
{
    struct torc_fail why;

    dir = (struct torc_data_dir){
        .fd = -1, .lock_fd = -1, .log_fd = -1, .checkpoint_fd = -1, .run_fd = -1};
    TORC_TEST_OK(torc_data_dir_open(&dir, settings[node].data, false, 0, &why), &why);
    TORC_TEST_OK(torc_registry_open(&registry, settings + node, &dir, &why), &why);
}

static void close_node(void)
{
    torc_registry_close(&registry);
    torc_data_dir_close(&dir);
}

// A whole start, as control makes one.
static void start(uint32_t workers)
{
    struct torc_fail why;

    TORC_TEST_OK(torc_registry_look(&registry, &dir, workers, &why), &why);
    TORC_TEST_OK(torc_registry_start(&registry, &dir, workers, &network, &why), &why);
    TORC_TEST_OK(torc_registry_serves(&registry, &dir, &why), &why);
}

static void start_once(uint32_t node)
{
    open_node(node);
    start(2);
    close_node();
}

// -- Room -----------------------------------------------------------------------------------------

static void wish_all_here(void)
{
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        struct torc_want_fields want = {.primary = 2, .nonce = shard};
        char name[TORC_RECORD_NAME_BYTES];
        char text[TORC_RECORD_BYTES_MAX];
        struct torc_meta_op op = {.kind = TORC_META_PUT, .key = name, .value = text};
        struct torc_fail why;
        uint64_t version;

        want.nodes = (struct torc_record_nodes){.count = 2, .at = {2, 1}};
        op.expected = torc_survey_want(registry.survey, shard)->version;
        torc_record_name(name, "want", shard);
        op.value_bytes = torc_record_encode(TORC_RECORD_WANT, &want, text);
        TORC_TEST_OK(torc_metastore_swap(registry.store, &op, 1, &version, &why), &why);
    }
}

static bool is_own(uint32_t shard)
{
    return torc_survey_has(torc_survey_shard(registry.survey, shard), 1);
}

static void lay_checkpoint(uint32_t shard)
{
    char name[32];
    int fd;

    (void)snprintf(name, sizeof(name), "%u-7", shard);
    fd = openat(dir.checkpoint_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    CU_ASSERT_FATAL(fd >= 0);
    (void)close(fd);
}

// The last shards that node 1 is only wished for: by their keys they come behind the room.
static uint32_t last_wished(uint32_t which)
{
    uint32_t shard = SHARDS;

    while (is_own(shard) || which-- > 0) {
        shard--;
    }
    return shard;
}

static void check_room(uint32_t held, uint32_t logged)
{
    uint32_t own = 0;

    CU_ASSERT_EQUAL(registry.cluster.shard_count, ROOM);
    CU_ASSERT_EQUAL(registry.left_out, SHARDS - ROOM);
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        own += is_own(shard) ? 1 : 0;
        CU_ASSERT_TRUE(!is_own(shard) || torc_cluster_shard(&registry.cluster, shard) != NULL);
    }
    CU_ASSERT_TRUE(own > 100 && own < ROOM);
    CU_ASSERT_PTR_NOT_NULL(torc_cluster_shard(&registry.cluster, held));
    CU_ASSERT_PTR_NOT_NULL(torc_cluster_shard(&registry.cluster, logged));
}

// Its own and what has data here are had, of the others what there is room for.
static void a_start_leaves_out_what_has_no_data(void)
{
    struct torc_based *based = calloc(1, sizeof(*based));
    struct torc_based_line line = {.copy = 1, .turn = 1, .whole = true};
    struct torc_fail why;
    uint32_t held;
    uint32_t logged;

    torc_assert(based != NULL);
    open_folder("clear");
    make(1);
    start_once(1);
    open_node(1);
    wish_all_here();
    held = last_wished(0);
    logged = last_wished(1);
    lay_checkpoint(held);
    line.shard = logged;
    CU_ASSERT_TRUE(torc_based_put(based, &line));
    TORC_TEST_OK(torc_based_save(&dir, registry.node.copy, based, &why), &why);
    TORC_TEST_OK(torc_registry_look(&registry, &dir, 1, &why), &why);
    check_room(held, logged);
    TORC_TEST_OK(torc_registry_start(&registry, &dir, 1, &network, &why), &why);
    check_room(held, logged);
    close_node();
    free(based);
    remove_all(folder);
}

static void a_start_without_room_for_what_it_has_changes_nothing(void)
{
    struct torc_fail why;
    uint64_t revision;
    uint64_t count;

    open_folder("clear");
    make(1);
    start_once(1);
    open_node(1);
    wish_all_here();
    for (uint32_t shard = 1; shard <= SHARDS; shard++) {
        if (!is_own(shard)) {
            lay_checkpoint(shard);
        }
    }
    TORC_TEST_OK(torc_registry_look(&registry, &dir, 2, &why), &why);
    revision = torc_metastore_revision(registry.store);
    count = dir.start_count;
    CU_ASSERT_EQUAL(torc_registry_look(&registry, &dir, 1, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "give it 2 workers"));
    close_node();
    open_node(1);
    CU_ASSERT_EQUAL(torc_metastore_revision(registry.store), revision);
    CU_ASSERT_EQUAL(dir.start_count, count);
    start(2);
    close_node();
    remove_all(folder);
}

// -- A node without its directory -----------------------------------------------------------------

static void copy_keys(uint32_t from, uint32_t to)
{
    struct torc_secret_rules rules = {.bytes_max = 4096, .mode = 0600, .owner = TORC_SECRET_OURS};
    struct torc_secret text;
    struct torc_fail why;
    char path[320];

    (void)snprintf(path, sizeof(path), "%s/torc.keys", settings[from].data);
    TORC_TEST_OK(torc_secret_read(&text, path, &rules, &why), &why);
    TORC_TEST_OK(torc_folder_make(settings[to].data, &why), &why);
    (void)snprintf(path, sizeof(path), "%s/torc.keys", settings[to].data);
    TORC_TEST_OK(torc_secret_write(path, text.bytes, text.byte_count, geteuid(), getegid(), &why),
                 &why);
    torc_secret_close(&text);
}

static void hide(bool away)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/away", folder);
    if (away) {
        CU_ASSERT_EQUAL(rename(settings[1].data, path), 0);
    } else {
        remove_all(settings[1].data);
        CU_ASSERT_EQUAL(rename(path, settings[1].data), 0);
    }
}

static void refuse(enum torc_err err, const char *text)
{
    struct torc_meta_fields meta;
    struct torc_fail why = {0};

    CU_ASSERT_EQUAL(torc_registry_make(settings + 1, &meta, &why), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, text));
}

// Its disk was not mounted: what is refused then leaves it as good as it was.
static void a_refused_birth_leaves_the_lost_directory_good(void)
{
    char path[320];
    struct torc_fail why;

    open_folder("keys");
    make(1);
    copy_keys(1, 2);
    make(2);
    start_once(1);
    start_once(2);
    hide(true);
    refuse(TORC_ERR_INVALID_ARGUMENT, "torc.keys is missing");
    copy_keys(2, 1);
    (void)snprintf(path, sizeof(path), "%s/torc.keys", settings[1].data);
    CU_ASSERT_EQUAL(chmod(path, 0644), 0);
    refuse(TORC_ERR_FORBIDDEN, "torc.keys");
    CU_ASSERT_EQUAL(chmod(path, 0600), 0);
    settings[1].keys /= 2;
    settings[1].source[TORC_SETTING_keys] = TORC_SETTING_FROM_COMMAND;
    refuse(TORC_ERR_INVALID_ARGUMENT, "keys = ");
    settings[1].keys *= 2;
    hide(false);
    start_once(1); // once more
    hide(true);
    copy_keys(2, 1);
    make(1);
    start_once(1); // as another copy
    hide(false);
    TORC_TEST_OK(torc_data_dir_open(&dir, settings[1].data, false, 0, &why), &why);
    CU_ASSERT_EQUAL(torc_registry_open(&registry, settings + 1, &dir, &why), TORC_ERR_CORRUPT);
    torc_data_dir_close(&dir);
    remove_all(folder);
}

// Nobody has its keys but itself: its first tries may be thrown away.
static void a_maker_that_is_alone_makes_its_keys_again(void)
{
    char path[320];

    open_folder("keys");
    make(1);
    start_once(1);
    remove_all(settings[1].data);
    make(1);
    start_once(1);
    (void)snprintf(path, sizeof(path), "%s/torc.keys", settings[1].data);
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    remove_all(folder);
}

static void put_node(uint64_t node)
{
    struct torc_node_fields fields = {.copy = 1000 + node, .nonce = node};
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_op op = {.kind = TORC_META_PUT,
                              .key = name,
                              .value = text,
                              .value_bytes = torc_record_encode(TORC_RECORD_NODE, &fields, text),
                              .expected = TORC_META_ABSENT};
    struct torc_fail why;
    uint64_t version;

    torc_record_name(name, "node", node);
    TORC_TEST_OK(torc_metastore_swap(registry.store, &op, 1, &version, &why), &why);
}

// One number too many would keep every node from starting.
static void a_number_too_many_is_refused(void)
{
    struct torc_meta_fields meta;
    struct torc_fail why = {0};

    open_folder("clear");
    make(1);
    start_once(1);
    open_node(1);
    for (uint64_t node = 4; node <= TORC_CHAN_NODES_MAX; node++) { // 1 to 3 were born
        put_node(node);
    }
    close_node();
    settings[2].node = TORC_CHAN_NODES_MAX + 1;
    CU_ASSERT_EQUAL(torc_registry_make(settings + 2, &meta, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "256 other numbers"));
    start_once(1);
    settings[2].node = 2; // has a number
    make(2);
    start_once(2);
    remove_all(folder);
}

// -- Settings that are held against each other ----------------------------------------------------

static void refuse_open(uint32_t node, const char *text)
{
    struct torc_fail why = {0};

    dir = (struct torc_data_dir){
        .fd = -1, .lock_fd = -1, .log_fd = -1, .checkpoint_fd = -1, .run_fd = -1};
    TORC_TEST_OK(torc_data_dir_open(&dir, settings[node].data, false, 0, &why), &why);
    CU_ASSERT_EQUAL(torc_registry_open(&registry, settings + node, &dir, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, text));
    torc_data_dir_close(&dir);
}

// What a node was not told of itself is the cluster's, not the default.
static void pairs_are_of_the_values_in_force(void)
{
    open_folder("clear");
    set(settings + 1, "cluster", "dedup-ttl", "1000s");
    set(settings + 1, "cluster", "durability", "replicated");
    make(1);
    settings[2].replicas = 1; // as by default
    set(settings + 2, "cluster", "durability", "replicated");
    set(settings + 2, "limits", "deadline-max", "200s");
    make(2);
    start_once(1);
    start_once(2);
    set(settings + 2, "limits", "deadline-max", "251s");
    refuse_open(2, "over a quarter of dedup-ttl = 1000s");
    set(settings + 2, "limits", "deadline-max", "250s");
    start_once(2);
    remove_all(folder);
}

static void a_cluster_with_a_bad_pair_is_not_made(void)
{
    open_folder("clear");
    settings[1].replicas = 1;
    set(settings + 1, "cluster", "durability", "replicated");
    refuse(TORC_ERR_INVALID_ARGUMENT, "with replicas = 1");
    set(settings + 1, "cluster", "durability", "durable");
    set(settings + 1, "limits", "deadline-max", "31s");
    refuse(TORC_ERR_INVALID_ARGUMENT, "over a quarter of dedup-ttl = 120s");
    set(settings + 1, "limits", "deadline-max", "30s");
    make(1);
    start_once(1);
    remove_all(folder);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a start leaves out what has no data", a_start_leaves_out_what_has_no_data},
        {"a start without room for what it has changes nothing",
         a_start_without_room_for_what_it_has_changes_nothing},
        {"a refused birth leaves the lost directory good",
         a_refused_birth_leaves_the_lost_directory_good},
        {"a maker that is alone makes its keys again", a_maker_that_is_alone_makes_its_keys_again},
        {"a number too many is refused", a_number_too_many_is_refused},
        {"pairs are of the values in force", pairs_are_of_the_values_in_force},
        {"a cluster with a bad pair is not made", a_cluster_with_a_bad_pair_is_not_made},
        CU_TEST_INFO_NULL};

    return torc_test_run("registry", tests);
}
