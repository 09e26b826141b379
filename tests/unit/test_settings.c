// Torc tests: kit/settings.h and kit/settings_os.h.
#include "kit/network_os.h"
#include "kit/settings_os.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <unistd.h>

static void test_defaults_are_in_their_ranges(void)
{
    struct torc_settings settings;
    struct torc_fail why;

    torc_settings_default(&settings); // asserts for each key
    TORC_TEST_OK(torc_settings_check(&settings, &why), &why);
    CU_ASSERT_EQUAL(settings.keys, 1000000000);
    CU_ASSERT_EQUAL(settings.base_port, 28700);
    CU_ASSERT_EQUAL(settings.segment_bytes, 64u << 20);
    CU_ASSERT_EQUAL(settings.dedup_ttl_s, 120);
    CU_ASSERT_EQUAL(settings.control_grace_ms, 500);
    CU_ASSERT_EQUAL(settings.placement_gone_s, 600);
    CU_ASSERT_EQUAL(settings.placement_pace_ms, 100);
    CU_ASSERT_EQUAL(settings.placement_lease_ms, 5000);
    CU_ASSERT_EQUAL(settings.durability, 0);
    CU_ASSERT_EQUAL(settings.workers, 0); // auto
    CU_ASSERT_STRING_EQUAL(settings.address, "auto");
}

struct value_case {
    const char *key;
    const char *value;
    uint64_t wanted;
    bool good;
};

static uint64_t field(const struct torc_settings *settings, const char *key)
{
    const struct torc_setting_info *info = torc_setting_info(torc_setting_find(key));
    uint64_t number;

    memcpy(&number, (const unsigned char *)settings + info->offset, sizeof(number));
    return number;
}

// Whether both hold the same, as what a file of them would say.
static bool same(const struct torc_settings *one, const struct torc_settings *other)
{
    static char texts[2][TORC_SETTINGS_INI_BYTES];

    (void)torc_settings_ini(one, texts[0], sizeof(texts[0]));
    (void)torc_settings_ini(other, texts[1], sizeof(texts[1]));
    return strcmp(texts[0], texts[1]) == 0;
}

static void check_value(const struct value_case *this)
{
    struct torc_settings settings;
    struct torc_settings before;
    struct torc_fail why = {0};
    enum torc_err err;

    torc_settings_default(&settings);
    before = settings;
    err =
        torc_settings_set(&settings, NULL, this->key, this->value, TORC_SETTING_FROM_COMMAND, &why);
    if (!this->good) {
        CU_ASSERT_EQUAL(err, TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_TRUE(same(&before, &settings)); // untouched
        return;
    }
    TORC_TEST_OK(err, &why);
    CU_ASSERT_EQUAL(field(&settings, this->key), this->wanted);
}

static void test_values(void)
{
    static const struct value_case cases[] = {
        {"keys", "18446744073709551615", UINT64_MAX, true},
        {"keys", "0xFFFFFFFFFFFFFFFF", UINT64_MAX, true},
        {"keys", "18446744073709551616", 0, false},
        {"keys", "0", 0, false},
        {"keys", "1", 1, true},
        {"keys", "1K", 0, false},
        {"keys", "-1", 0, false},
        {"keys", "", 0, false},
        {"keys", "0x", 0, false},
        {"keys", "12a", 0, false},
        {"keys", " 12", 0, false},
        {"node", "4095", 4095, true},
        {"node", "4096", 0, false},
        {"segment-bytes", "8M", 8u << 20, true},
        {"segment-bytes", "8MiB", 8u << 20, true},
        {"segment_bytes", "8m", 8u << 20, true},
        {"segment-bytes", "1K", 0, false},
        {"segment-bytes", "17179869184G", 0, false}, // 2^34 * 2^30 overflows
        {"memory", "auto", 0, true},
        {"memory", "2G", UINT64_C(2) << 30, true},
        {"node", "auto", 0, false},
        {"control-grace", "2s", 2000, true},
        {"control-grace", "750", 750, true},
        {"control-grace", "1m", 60000, true},
        {"control-grace", "1d", 0, false},
        {"dedup-ttl", "2m", 120, true},
        {"dedup-ttl", "500ms", 0, false},
        {"durability", "none", 2, true},
        {"durability", "non", 0, false},
        {"durability", "none ", 0, false},
        {"poll", "busy", 1, true},
        {"placement-gone", "1s", 1, true},
        {"placement-gone", "8760h", 31536000, true}, // a year
        {"placement-gone", "31536001", 0, false},
        {"placement-gone", "0", 0, false}, // at once would copy for every restart
        {"placement-gone", "500ms", 0, false},
        {"placement-gone", "never", 0, false},
        {"placement-gone", "auto", 0, false},
        {"placement-pace", "1ms", 1, true},
        {"placement-pace", "1h", 3600000, true},
        {"placement-pace", "0", 0, false},
        {"placement-pace", "2h", 0, false},
        {"placement-lease", "4s", 4000, true},
        {"placement-lease", "10m", 600000, true},
        {"placement-lease", "3999ms", 0, false}, // a quarter has room for a request
        {"placement-lease", "601s", 0, false},
        {"memif-slots", "31", 31, true},
        {"memif-slots", "32", 0, false}, // more than DPDK has ports for
        {"workers", "127", 127, true},
        {"workers", "128", 0, false}, // more than DPDK has threads for
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        check_value(&cases[i]);
    }
}

static void test_texts_have_a_limit_and_no_control_bytes(void)
{
    struct torc_settings settings;
    char longest[TORC_SETTINGS_TEXT_BYTES + 1];

    torc_settings_default(&settings);
    memset(longest, 'a', sizeof(longest));
    longest[TORC_SETTINGS_TEXT_BYTES] = '\0';
    CU_ASSERT_EQUAL(torc_settings_set(&settings, NULL, "data", longest, 0, NULL),
                    TORC_ERR_INVALID_ARGUMENT);
    longest[TORC_SETTINGS_TEXT_BYTES - 1] = '\0';
    CU_ASSERT_EQUAL(torc_settings_set(&settings, NULL, "data", longest, 0, NULL), TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_settings_set(&settings, NULL, "data", "a\nb", 0, NULL),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_settings_set(&settings, NULL, "data", "/srv/d\xe9p\xf4t", 0, NULL),
                    TORC_ERR_INVALID_ARGUMENT); // what is shown of it is JSON
    CU_ASSERT_EQUAL(torc_settings_set(&settings, NULL, "data", "/srv/d\xc3\xa9p", 0, NULL),
                    TORC_ERR_OK);
}

static void test_unknown_keys_get_the_nearest_name(void)
{
    struct torc_settings settings;
    struct torc_fail why;

    torc_settings_default(&settings);
    CU_ASSERT_EQUAL(torc_settings_set(&settings, NULL, "durabilty", "none", 0, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "did you mean durability?"));
    CU_ASSERT_STRING_EQUAL(torc_setting_nearest("baseport"), "base-port");
    CU_ASSERT_STRING_EQUAL(torc_setting_nearest("Shard"), "shards");
    CU_ASSERT_PTR_NULL(torc_setting_nearest("zzzzzzzzzzzzzzzz"));
    CU_ASSERT_PTR_NULL(
        torc_setting_nearest("a-key-so-long-that-it-cannot-be-one-of-ours-whatever-was-meant"));
}

static void test_combinations_are_checked(void)
{
    static const char *const bad[][2] = {{"durability", "replicated"},
                                         {"segment-bytes", "5242881"},
                                         {"deadline-max", "1h"},
                                         {"checkpoint-bytes", "16M"}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        struct torc_settings settings;
        struct torc_fail why = {0};

        torc_settings_default(&settings);
        TORC_TEST_OK(torc_settings_set(&settings, NULL, bad[i][0], bad[i][1], 0, &why), &why);
        CU_ASSERT_NOT_EQUAL(torc_settings_check(&settings, &why), TORC_ERR_OK);
    }
}

static void test_several_copies_are_durable(void)
{
    struct torc_settings settings;
    struct torc_fail why = {0};

    torc_settings_default(&settings);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "replicas", "3", 0, &why), &why);
    TORC_TEST_OK(torc_settings_check(&settings, &why), &why);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "durability", "none", 0, &why), &why);
    CU_ASSERT_EQUAL(torc_settings_check(&settings, &why), TORC_ERR_UNSUPPORTED);
    CU_ASSERT(strstr(why.text, "replicas = 3") != NULL);
}

static void test_ini_reads_back(void)
{
    static char text[TORC_SETTINGS_INI_BYTES];
    struct torc_settings settings;
    struct torc_settings back;
    struct torc_fail why = {0};
    uint32_t bytes;

    torc_settings_default(&settings);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "data", "/somewhere/else", 1, &why), &why);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "keys", "0x100000000", 1, &why), &why);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "durability", "none", 1, &why), &why);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "control-grace", "1500ms", 1, &why), &why);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "memory", "3G", 1, &why), &why);
    bytes = torc_settings_ini(&settings, text, sizeof(text));
    CU_ASSERT_TRUE(bytes < sizeof(text));
    torc_settings_default(&back);
    TORC_TEST_OK(torc_settings_read_text(&back, "back.ini", text, bytes, &why), &why);
    CU_ASSERT_TRUE(same(&settings, &back));
    CU_ASSERT_EQUAL(back.keys, UINT64_C(1) << 32);
    CU_ASSERT_EQUAL(back.control_grace_ms, 1500);
    CU_ASSERT_STRING_EQUAL(back.data, "/somewhere/else");
    CU_ASSERT_TRUE(torc_settings_ini(&settings, text, 100) == bytes); // cut, never beyond
    CU_ASSERT_EQUAL(strlen(text), 99);
}

struct ini_case {
    const char *text;
    const char *complaint; // NULL: fine
};

static void check_file(const struct ini_case *this)
{
    struct torc_settings settings;
    struct torc_fail why = {0};
    enum torc_err err;

    torc_settings_default(&settings);
    err = torc_settings_read_text(&settings, "t.ini", this->text, strlen(this->text), &why);
    if (this->complaint == NULL) {
        TORC_TEST_OK(err, &why);
        CU_ASSERT_EQUAL(settings.node, 7);
    } else {
        CU_ASSERT_EQUAL(err, TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, this->complaint));
    }
}

static void test_files(void)
{
    static const struct ini_case cases[] = {
        {"[node]\nnode = 7\n", NULL},
        {"node = 7 ; the seventh\n# nothing\n\n", NULL},
        {"[node]\nnode = 7", NULL}, // no end of line at the end
        {"[network]\nnode = 7\n", "t.ini:2: node belongs in [node]"},
        {"node = 7\nnode = 8\n", "t.ini:2: node is there twice"},
        {"node = 7\n\nshard = 8\n", "t.ini:3: unknown key \"shard\": did you mean shards?"},
        {"node = 7\nwhat is this\n", "t.ini:2"},
        {"node = 70000\n", "t.ini:1: node = 70000: 1 to 4095 allowed"},
        // What shards take (TORC_SHARD_WINDOW_MAX): a client numbers as far as it is told.
        {"write-window = 4097\n", "t.ini:1: write-window = 4097: 64 to 4096 allowed"},
        {"data = /a\n  /b\n", "t.ini:2: data is there twice"}, // a continued line
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        check_file(&cases[i]);
    }
}

static void test_long_lines_are_refused_not_cut(void)
{
    static char text[400];
    static const char with_nul[] = "node = 7\n\0and more\n";
    struct torc_settings settings;
    struct torc_fail why = {0};

    memset(text, 'a', sizeof(text));
    (void)snprintf(text, sizeof(text), "data =");
    text[strlen(text)] = ' '; // the end away again
    torc_settings_default(&settings);
    CU_ASSERT_EQUAL(torc_settings_read_text(&settings, "t.ini", text, sizeof(text), &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "t.ini:1: line of 400 bytes"));
    CU_ASSERT_EQUAL(
        torc_settings_read_text(&settings, "t.ini", with_nul, sizeof(with_nul) - 1, &why),
        TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "NUL"));
}

static enum torc_err load(struct torc_settings *settings, struct torc_settings_line *line,
                          struct torc_fail *why, int argc, const char *const *argv)
{
    static const char *const flags[] = {"quiet", "force", NULL};

    char *words[16];

    torc_assert((size_t)argc <= TORC_COUNT_OF(words));
    memcpy(words, argv, (size_t)argc * sizeof(words[0])); // argv of a main is not const
    return torc_settings_load(settings, argc, words, flags, line, why);
}

// What is fixed at birth and was not given is the cluster's, which is not known yet.
static void test_what_the_cluster_says_is_left_to_it(void)
{
    static const char *const left[][2] = {{"--durability", "replicated"}, {"--deadline-max", "1h"}};
    static const char *const bad[][4] = {{"--durability", "replicated", "--replicas", "1"},
                                         {"--durability", "none", "--replicas", "3"},
                                         {"--deadline-max", "1h", "--dedup-ttl", "120s"},
                                         {"--shards", "64", "--keys", "8"}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(left); i++) {
        const char *const line[] = {"torc", left[i][0], left[i][1]};
        struct torc_settings settings;
        struct torc_settings_line found;
        struct torc_fail why = {0};

        TORC_TEST_OK(load(&settings, &found, &why, TORC_COUNT_OF(line), line), &why);
        CU_ASSERT_NOT_EQUAL(torc_settings_check(&settings, &why), TORC_ERR_OK);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        const char *const line[] = {"torc", bad[i][0], bad[i][1], bad[i][2], bad[i][3]};
        struct torc_settings settings;
        struct torc_settings_line found;
        struct torc_fail why = {0};

        CU_ASSERT_NOT_EQUAL(load(&settings, &found, &why, TORC_COUNT_OF(line), line), TORC_ERR_OK);
    }
}

static void test_command_line(void)
{
    static const char *const good[] = {"torc",           "init",     "--node", "3",
                                       "--keys=100",     "--memory", "1G",     "--force",
                                       "--check-config", "here",     "--",     "--there"};
    static const char *const relative[] = {"torc", "--data", "my/data"};
    static const char *const missing[] = {"torc", "--node"};
    static const char *const unknown[] = {"torc", "--nodee", "3"};
    static const char *const config[] = {"torc", "--config", "/nonexistent/torc.ini"};
    struct torc_settings settings;
    struct torc_settings_line line;
    char here[TORC_SETTINGS_TEXT_BYTES];
    struct torc_fail why = {0};

    TORC_TEST_OK(load(&settings, &line, &why, TORC_COUNT_OF(good), good), &why);
    CU_ASSERT_EQUAL(settings.node, 3);
    CU_ASSERT_EQUAL(settings.keys, 100);
    CU_ASSERT_EQUAL(settings.memory, 1u << 30);
    CU_ASSERT_TRUE(line.check_config);
    CU_ASSERT_FALSE(line.help);
    CU_ASSERT_EQUAL(line.flags, 2);
    CU_ASSERT_EQUAL_FATAL(line.word_count, 3);
    CU_ASSERT_STRING_EQUAL(line.words[0], "init");
    CU_ASSERT_STRING_EQUAL(line.words[2], "--there");
    CU_ASSERT_TRUE(settings.data[0] == '/');
    TORC_TEST_OK(load(&settings, &line, &why, 3, relative), &why);
    CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(here, sizeof(here)));
    CU_ASSERT_EQUAL(strncmp(settings.data, here, strlen(here)), 0);
    CU_ASSERT_STRING_EQUAL(settings.data + strlen(here), "/my/data");
    CU_ASSERT_EQUAL(load(&settings, &line, &why, 2, missing), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "--node: a value is missing"));
    CU_ASSERT_EQUAL(load(&settings, &line, &why, 3, unknown), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "did you mean node?"));
    CU_ASSERT_EQUAL(load(&settings, &line, &why, 3, config), TORC_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "No such file"));
}

static void test_the_command_line_wins_over_the_file(void)
{
    char path[] = "/tmp/torc-settings-XXXXXX";
    int fd = mkstemp(path);
    const char *argv[] = {"torc", "--node", "3", "--config", path};
    struct torc_settings settings;
    struct torc_settings_line line;
    struct torc_fail why = {0};

    CU_ASSERT_TRUE_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, "node = 5\nkeys = 77\n", 19), 19);
    TORC_TEST_OK(load(&settings, &line, &why, 5, argv), &why);
    CU_ASSERT_EQUAL(settings.node, 3);
    CU_ASSERT_EQUAL(settings.keys, 77);
    CU_ASSERT_EQUAL(settings.source[TORC_SETTING_node], TORC_SETTING_FROM_COMMAND);
    CU_ASSERT_EQUAL(settings.source[TORC_SETTING_keys], TORC_SETTING_FROM_FILE);
    (void)close(fd);
    (void)unlink(path);
}

struct network_case {
    const char *key;
    const char *value;
    const char *complaint; // NULL: fine
};

static void check_network(const struct network_case *this)
{
    struct torc_settings settings;
    struct torc_network network;
    struct torc_fail why = {0};
    enum torc_err err;

    torc_settings_default(&settings);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, this->key, this->value, 1, &why), &why);
    err = torc_network_of(&network, &settings, &why);
    if (this->complaint == NULL) {
        TORC_TEST_OK(err, &why);
    } else {
        CU_ASSERT_EQUAL(err, TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, this->complaint));
    }
}

static void test_network_settings(void)
{
    static const struct network_case cases[] = {
        {"address", "192.168.7.1/24", NULL},
        {"address", "192.168.7.1", "address=192"},
        {"address", "192.168.7.1/0", "address="},
        {"address", "192.168.7.1/33", "address="},
        {"address", "192.168.7/24", "address="},
        {"address", "fd79::1/64", "address="},
        {"address6", "fd79::1/129", "address6="},
        {"address6", "fd79::1/128", NULL},
        {"address6", "10.0.0.1/24", "address6="},
        {"address", "off", NULL},
        {"node", "244", NULL},
        {"node", "245", "room for 244"},
        {"link", "a-name-of-16-byt", "link="},
        {"link", "a,b", "link="},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        check_network(&cases[i]);
    }
}

static void test_network_of_a_node(void)
{
    static const uint8_t ipv4[4] = {10, 79, 0, 13};
    static const uint8_t ipv6[16] = {0xfd, 0x79, [15] = 13};
    struct torc_settings settings;
    struct torc_network network;
    struct torc_fail why = {0};

    torc_settings_default(&settings);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "node", "3", 1, &why), &why);
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "data", "/d", 1, &why), &why);
    TORC_TEST_OK(torc_network_of(&network, &settings, &why), &why);
    CU_ASSERT_EQUAL(memcmp(network.ipv4, ipv4, sizeof(ipv4)), 0);
    CU_ASSERT_EQUAL(memcmp(network.ipv6, ipv6, sizeof(ipv6)), 0);
    CU_ASSERT_EQUAL(network.ipv4_prefix, 24);
    CU_ASSERT_EQUAL(network.ipv6_prefix, 64);
    CU_ASSERT_STRING_EQUAL(network.link, "torc3");
    CU_ASSERT_STRING_EQUAL(network.memif, "/d/run/memif");
    CU_ASSERT_STRING_EQUAL(network.cluster, "10.79.0.13:28700");
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "address", "off", 1, &why), &why);
    TORC_TEST_OK(torc_network_of(&network, &settings, &why), &why);
    CU_ASSERT_STRING_EQUAL(network.cluster, "[fd79::d]:28700");
    TORC_TEST_OK(torc_settings_set(&settings, NULL, "address6", "off", 1, &why), &why);
    CU_ASSERT_EQUAL(torc_network_of(&network, &settings, &why), TORC_ERR_INVALID_ARGUMENT);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"defaults are in their ranges", test_defaults_are_in_their_ranges},
        {"values are read or refused", test_values},
        {"texts have a limit and no control bytes", test_texts_have_a_limit_and_no_control_bytes},
        {"unknown keys get the nearest name", test_unknown_keys_get_the_nearest_name},
        {"combinations are checked", test_combinations_are_checked},
        {"several copies are durable", test_several_copies_are_durable},
        {"what the cluster says is left to it", test_what_the_cluster_says_is_left_to_it},
        {"the INI file reads back", test_ini_reads_back},
        {"files", test_files},
        {"long lines are refused, not cut", test_long_lines_are_refused_not_cut},
        {"command line", test_command_line},
        {"the command line wins over the file", test_the_command_line_wins_over_the_file},
        {"network settings are read or refused", test_network_settings},
        {"a node's network follows from its number", test_network_of_a_node},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("settings", tests);
}
