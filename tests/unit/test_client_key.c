// Torc tests: which key a client shows: the named file, the environment's, the local node's, none;
// and files that are not believed.
#include "client/key_os.h"
#include "kit/secret_os.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static char folder[] = "/tmp/torc-test-XXXXXX";
static char path_a[128];
static char path_b[128];
static struct torc_client_key key;
static char from[96];
static struct torc_fail why;

static void write_key(const char *path, uint32_t number)
{
    char text[256];
    int bytes =
        snprintf(text, sizeof(text),
                 "torc-key 1\ncluster 0123456789abcdef\nprincipal %u web\nkey 1:" HEX "\n", number);

    TORC_TEST_OK(torc_secret_write(path, text, (uint64_t)bytes, geteuid(), getegid(), &why), &why);
}

static enum torc_err find(const char *named)
{
    why = (struct torc_fail){0};
    return torc_client_key_find(named, &key, from, sizeof(from), &why);
}

static void begin(void)
{
    write_key(path_a, 2);
    write_key(path_b, 3);
    CU_ASSERT_EQUAL(unsetenv("TORC_KEY_FILE"), 0); // NOLINT(concurrency-mt-unsafe): one thread
}

static void the_named_file_comes_first(void)
{
    begin();
    TORC_TEST_OK(find(path_a), &why);
    CU_ASSERT_EQUAL(key.principal, 2);
    CU_ASSERT_EQUAL(key.cluster, 0x0123456789abcdef);
    CU_ASSERT_STRING_EQUAL(from, path_a);
    CU_ASSERT_EQUAL(setenv("TORC_KEY_FILE", path_b, 1), 0); // NOLINT(concurrency-mt-unsafe)
    TORC_TEST_OK(find(NULL), &why);
    CU_ASSERT_EQUAL(key.principal, 3);
    TORC_TEST_OK(find(path_a), &why);
    CU_ASSERT_EQUAL(key.principal, 2);
    TORC_TEST_OK(find("none"), &why);
    CU_ASSERT_EQUAL(key.principal, 0);
    CU_ASSERT_EQUAL(setenv("TORC_KEY_FILE", "none", 1), 0); // NOLINT(concurrency-mt-unsafe)
    TORC_TEST_OK(find(NULL), &why);
    CU_ASSERT_EQUAL(key.principal, 0);
}

// Of another user than root the data directory is below XDG_DATA_HOME; root's is not ours to fill.
static void without_a_name_it_is_the_local_nodes(void)
{
    char path[TORC_CLIENT_PATH_BYTES];

    begin();
    TORC_TEST_OK(torc_client_path("local.key", path, &why), &why);
    CU_ASSERT_STRING_EQUAL(path + strlen(path) - 15, "/torc/local.key");
    if (access(path, F_OK) != 0) {
        TORC_TEST_OK(find(NULL), &why);
        CU_ASSERT_EQUAL(key.principal, 0);
        CU_ASSERT_STRING_EQUAL(from, "");
    }
}

static void a_file_of_no_use_is_named(void)
{
    begin();
    CU_ASSERT_EQUAL(find("/nowhere/at/all.key"), TORC_ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "/nowhere/at/all.key"));
    CU_ASSERT_EQUAL(chmod(path_a, 0644), 0);
    CU_ASSERT_EQUAL(find(path_a), TORC_ERR_FORBIDDEN);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "mode 0644"));
    CU_ASSERT_EQUAL(chmod(path_a, 0640), 0); // its group may read it
    TORC_TEST_OK(find(path_a), &why);
    CU_ASSERT_EQUAL(chmod(path_a, 0660), 0);
    CU_ASSERT_EQUAL(find(path_a), TORC_ERR_FORBIDDEN);
    TORC_TEST_OK(
        torc_secret_write(path_b, "torc-key 1\nkey 1:12\n", 20, geteuid(), getegid(), &why), &why);
    CU_ASSERT_EQUAL(find(path_b), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, path_b));
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "line 2"));
    CU_ASSERT_EQUAL(key.psk.bytes[31], 0);
    CU_ASSERT_EQUAL(find(folder), TORC_ERR_FORBIDDEN);
}

static void a_file_too_large_is_not_read(void)
{
    static char text[TORC_CLIENT_KEY_BYTES_MAX + 1];

    begin();
    memset(text, '#', sizeof(text));
    TORC_TEST_OK(torc_secret_write(path_a, text, sizeof(text), geteuid(), getegid(), &why), &why);
    CU_ASSERT_EQUAL(find(path_a), TORC_ERR_TOO_LARGE);
}

// What is written takes the place of the old whole, and leaves nothing beside it.
static void a_secret_is_replaced_whole(void)
{
    struct torc_secret secret;
    const struct torc_secret_rules rules = {.bytes_max = 100, .mode = 0600, .owner = geteuid()};
    const struct torc_secret_rules others = {
        .bytes_max = 100, .mode = 0600, .owner = geteuid() + 1};
    char fresh[160];

    TORC_TEST_OK(torc_secret_write(path_a, "one", 3, geteuid(), getegid(), &why), &why);
    TORC_TEST_OK(torc_secret_write(path_a, "three", 5, geteuid(), getegid(), &why), &why);
    TORC_TEST_OK(torc_secret_read(&secret, path_a, &rules, &why), &why);
    CU_ASSERT_EQUAL(secret.byte_count, 5);
    CU_ASSERT_STRING_EQUAL((const char *)secret.bytes, "three");
    torc_secret_close(&secret);
    CU_ASSERT_PTR_NULL(secret.bytes);
    CU_ASSERT_EQUAL(torc_secret_read(&secret, path_a, &others, &why), TORC_ERR_FORBIDDEN);
    torc_secret_close(&secret);
    (void)snprintf(fresh, sizeof(fresh), "%s.new", path_a);
    CU_ASSERT_NOT_EQUAL(access(fresh, F_OK), 0);
    CU_ASSERT_EQUAL(torc_secret_write("/nowhere/at/all", "x", 1, 0, 0, &why), TORC_ERR_NOT_FOUND);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"the named file comes first", the_named_file_comes_first},
        {"without a name it is the local node's", without_a_name_it_is_the_local_nodes},
        {"a file of no use is named", a_file_of_no_use_is_named},
        {"a file too large is not read", a_file_too_large_is_not_read},
        {"a secret is replaced whole", a_secret_is_replaced_whole},
        CU_TEST_INFO_NULL,
    };
    int status = 1;

    if (mkdtemp(folder) != NULL) {
        (void)snprintf(path_a, sizeof(path_a), "%s/a.key", folder);
        (void)snprintf(path_b, sizeof(path_b), "%s/b.key", folder);
        status = torc_test_run("client key", tests);
        (void)unlink(path_a);
        (void)unlink(path_b);
        (void)rmdir(folder);
    }
    return status;
}
