// Torc tests: the pure parts of the program torc: arguments, keys, words, output, columns, links.
#include "client/cli/args.h"
#include "client/cli/columns.h"
#include "client/cli/csv.h"
#include "client/cli/flight.h"
#include "client/cli/key.h"
#include "client/cli/links.h"
#include "client/cli/show.h"
#include "client/cli/supervise.h"
#include "client/cli/words.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

static enum torc_err parse_key(const char *text, enum torc_key_format format, uint64_t *key,
                               struct torc_fail *why)
{
    return torc_key_parse(text, strlen(text), format, "START", key, why);
}

static void test_keys_are_read_in_every_format(void)
{
    static const struct {
        const char *text;
        enum torc_key_format format;
        uint64_t key;
    } good[] = {
        {"0", TORC_KEY_DEC, 0},
        {"18446744073709551615", TORC_KEY_DEC, UINT64_MAX},
        {"0xffffffffffffffff", TORC_KEY_DEC, UINT64_MAX},
        {"0X1f", TORC_KEY_DEC, 31},
        {"2190", TORC_KEY_HEX, 0x2190},
        {"0x2190", TORC_KEY_HEX, 0x2190},
        {"10FFFF", TORC_KEY_HEX, 0x10ffff},
        {"185.0.0.1", TORC_KEY_IP, 0xb9000001},
        {"255.255.255.255", TORC_KEY_IP, UINT32_MAX},
        {"0.0.0.0", TORC_KEY_IP, 0},
    };
    static const struct {
        const char *text;
        enum torc_key_format format;
    } bad[] = {
        {"", TORC_KEY_DEC},          {"18446744073709551616", TORC_KEY_DEC},
        {"-1", TORC_KEY_DEC},        {"+1", TORC_KEY_DEC},
        {" 1", TORC_KEY_DEC},        {"1a", TORC_KEY_DEC},
        {"0x", TORC_KEY_DEC},        {"0x10000000000000000", TORC_KEY_DEC},
        {"1.2.3.4", TORC_KEY_DEC},   {"", TORC_KEY_HEX},
        {"xyz", TORC_KEY_HEX},       {"1.2.3", TORC_KEY_IP},
        {"1.2.3.4.5", TORC_KEY_IP},  {"1.2.3.256", TORC_KEY_IP},
        {"1..2.3", TORC_KEY_IP},     {"1.2.3.", TORC_KEY_IP},
        {"0001.2.3.4", TORC_KEY_IP}, {"7", TORC_KEY_IP},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(good); i++) {
        struct torc_fail why;
        uint64_t key = 1;

        TORC_TEST_OK(parse_key(good[i].text, good[i].format, &key, &why), &why);
        CU_ASSERT_EQUAL(key, good[i].key);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        struct torc_fail why = {0};
        uint64_t key = 1;

        CU_ASSERT_EQUAL(parse_key(bad[i].text, bad[i].format, &key, &why),
                        TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_EQUAL(key, 1); // untouched
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "START"));
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, bad[i].text)); // the value is named
    }
}

static void test_keys_are_written_as_they_are_read(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t i = 0; i < 10000; i++) {
        enum torc_key_format format = (enum torc_key_format)torc_rng_below(&rng, 3);
        uint64_t key = torc_rng_next(&rng) >> torc_rng_below(&rng, 64);
        uint64_t again = 0;
        char text[TORC_KEY_TEXT_BYTES];
        struct torc_fail why;

        if (format == TORC_KEY_IP) {
            key &= UINT32_MAX;
        }
        CU_ASSERT_EQUAL(torc_key_show(key, format, text), strlen(text));
        TORC_TEST_OK(parse_key(text, format, &again, &why), &why);
        CU_ASSERT_EQUAL(again, key);
    }
}

static void test_times_have_units_and_bounds(void)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {{"5", 5000000000}, {"5s", 5000000000},   {"250ms", 250000000},
                {"10us", 10000},   {"2m", 120000000000}, {"24h", 86400000000000}};
    static const char *const bad[] = {"",    "0",   "s",    "5x",
                                      "25h", "-1s", "1.5s", "99999999999999999999"};

    for (uint32_t i = 0; i < TORC_COUNT_OF(good); i++) {
        struct torc_fail why;
        uint64_t ns = 0;

        TORC_TEST_OK(torc_duration_parse(good[i].text, "--timeout", &ns, &why), &why);
        CU_ASSERT_EQUAL(ns, good[i].ns);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        struct torc_fail why = {0};
        uint64_t ns = 0;

        CU_ASSERT_EQUAL(torc_duration_parse(bad[i], "--timeout", &ns, &why),
                        TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, bad[i]));
    }
}

static enum torc_err parse_words(struct torc_args *args, const char *line, struct torc_fail *why)
{
    static struct torc_words words;

    TORC_TEST_OK(torc_words_split(&words, line, why), why);
    return torc_args_parse(args, words.words, words.count, why);
}

static void test_options_may_stand_anywhere(void)
{
    static const char *const lines[] = {
        "range 5 10 --reverse --limit 3 -o json",
        "range --limit=3 -r 5 -ojson 10",
        "-o json --reverse -n 3 range -- 5 10",
    };
    const struct torc_args_span wide = {0, 1, 10};
    const struct torc_args_span narrow = {0, 4, 10};

    for (uint32_t i = 0; i < TORC_COUNT_OF(lines); i++) {
        struct torc_args args;
        struct torc_fail why;
        uint64_t limit = 0;

        TORC_TEST_OK(parse_words(&args, lines[i], &why), &why);
        CU_ASSERT_EQUAL(args.verb, TORC_VERB_RANGE);
        CU_ASSERT_EQUAL(args.word_count, 2);
        CU_ASSERT_STRING_EQUAL(args.words[0], "5");
        CU_ASSERT_STRING_EQUAL(args.words[1], "10");
        CU_ASSERT_TRUE(torc_args_given(&args, TORC_OPTION_REVERSE));
        CU_ASSERT_FALSE(torc_args_given(&args, TORC_OPTION_KEYS_ONLY));
        CU_ASSERT_STRING_EQUAL(args.values[TORC_OPTION_OUTPUT], "json");
        TORC_TEST_OK(torc_args_number(&args, TORC_OPTION_LIMIT, wide, &limit, &why), &why);
        CU_ASSERT_EQUAL(limit, 3);
        CU_ASSERT_EQUAL(torc_args_number(&args, TORC_OPTION_LIMIT, narrow, &limit, &why),
                        TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_STRING_EQUAL(why.text, "--limit 3: a number from 4 to 10");
    }
}

static void test_wrong_arguments_are_named(void)
{
    static const struct {
        const char *line;
        const char *says;
    } cases[] = {
        {"rnage 1 2", "did you mean range?"},
        {"frobnicate", "frobnicate: no such verb; see torc help"},
        {"range 1 2 --limt 3", "did you mean --limit?"},
        {"get 1 -z", "-z: no such option"},
        {"get 1 --reverse", "--reverse is not an option of torc get"},
        {"range 1", "usage: torc range START END"},
        {"put 1 2 3", "3: one word too many"},
        {"range 1 2 --limit", "--limit: a value is missing (N)"},
        {"range 1 2 --reverse=yes", "--reverse takes no value"},
        {"status now", "now: one word too many"},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(cases); i++) {
        struct torc_args args;
        struct torc_fail why = {0};

        CU_ASSERT_EQUAL(parse_words(&args, cases[i].line, &why), TORC_ERR_INVALID_ARGUMENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(why.text, cases[i].says));
    }
}

static void test_settings_are_passed_on_unread(void)
{
    struct torc_args args;
    struct torc_fail why;

    TORC_TEST_OK(parse_words(&args, "serve --keys 77 --daemon --no-such-key", &why), &why);
    CU_ASSERT_EQUAL(args.verb, TORC_VERB_SERVE);
    CU_ASSERT_EQUAL(args.verb_index, 0);
    CU_ASSERT_EQUAL(args.word_count, 0);
}

static void test_help_tells_all_of_each_verb(void)
{
    char text[TORC_ARGS_HELP_BYTES];

    for (uint32_t i = 0; i <= TORC_VERB_COUNT_OF; i++) {
        CU_ASSERT_TRUE(torc_args_help((enum torc_verb)i, text) < sizeof(text));
        if (i < TORC_VERB_COUNT_OF) {
            CU_ASSERT_PTR_NOT_NULL(strstr(text, "example: torc "));
        }
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  3  no answer in time"));
}

static void test_examples_of_the_help_parse(void)
{
    static const char *const examples[] = {
#define X(name, text, operands, least, most, options, help, example) example,
        TORC_VERB_TABLE(X)
#undef X
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(examples); i++) {
        char line[256];
        struct torc_args args;
        struct torc_fail why;

        (void)snprintf(line, sizeof(line), "%s", examples[i] + strlen("torc "));
        line[strcspn(line, ">")] = '\0'; // the shell's part
        TORC_TEST_OK(parse_words(&args, line, &why), &why);
        CU_ASSERT_EQUAL(args.verb, i);
    }
}

static void test_completion_knows_every_verb(void)
{
    char text[TORC_ARGS_HELP_BYTES];

    CU_ASSERT_EQUAL(torc_args_completion(text), strlen(text));
    for (uint32_t i = 0; i < TORC_VERB_COUNT_OF; i++) {
        char line[64];

        (void)snprintf(line, sizeof(line), "    %s) options='--",
                       torc_verb_name((enum torc_verb)i));
        CU_ASSERT_PTR_NOT_NULL(strstr(text, line));
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "    --output|-o) list='table json csv raw' ;;"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "--durability "));
}

static void test_the_lowest_line_that_failed_is_named(void)
{
    struct torc_flight *flight = malloc(sizeof(*flight));
    uint32_t slots[4];

    CU_ASSERT_PTR_NOT_NULL_FATAL(flight);
    torc_flight_init(flight);
    for (uint32_t i = 0; i < 4; i++) {
        slots[i] = torc_flight_add(flight, i, 10 + i);
    }
    CU_ASSERT_TRUE(torc_flight_fail(flight, slots[2], TORC_ERR_NO_SPACE));
    CU_ASSERT_EQUAL(flight->failed_line, 12);
    CU_ASSERT_TRUE(torc_flight_fail(flight, slots[1], TORC_ERR_UNAVAILABLE));
    CU_ASSERT_EQUAL(flight->failed_line, 11);
    CU_ASSERT_EQUAL(flight->failed, TORC_ERR_UNAVAILABLE);
    CU_ASSERT_EQUAL(flight->doubt_line, 0);
    CU_ASSERT_FALSE(torc_flight_fail(flight, slots[3], TORC_ERR_IN_DOUBT)); // must be looked at
    CU_ASSERT_EQUAL(flight->doubt_line, 13);
    CU_ASSERT_EQUAL(flight->failed_line, 11);
    CU_ASSERT_EQUAL(flight->failed, TORC_ERR_IN_DOUBT);
    CU_ASSERT_TRUE(torc_flight_fail(flight, slots[0], TORC_ERR_NO_SPACE));
    CU_ASSERT_EQUAL(flight->failed_line, 10);
    CU_ASSERT_EQUAL(flight->failed, TORC_ERR_IN_DOUBT);
    CU_ASSERT_EQUAL(flight->doubt_line, 13);
    free(flight);
}

static void test_a_line_waits_for_the_write_of_its_key(void)
{
    struct torc_flight *flight = malloc(sizeof(*flight));
    struct torc_rng rng = {torc_test_seed()};
    uint32_t slots[TORC_FLIGHT_MAX];

    CU_ASSERT_PTR_NOT_NULL_FATAL(flight);
    torc_flight_init(flight);
    for (uint32_t round = 0; round < 20; round++) {
        uint64_t base = torc_rng_next(&rng) >> torc_rng_below(&rng, 64);

        for (uint32_t i = 0; i < TORC_FLIGHT_MAX; i++) {
            slots[i] = torc_flight_add(flight, base + i, i);
        }
        CU_ASSERT_EQUAL(flight->count, TORC_FLIGHT_MAX);
        CU_ASSERT_TRUE(torc_flight_has(flight, base));
        CU_ASSERT_TRUE(torc_flight_has(flight, base + TORC_FLIGHT_MAX - 1));
        CU_ASSERT_FALSE(torc_flight_has(flight, base + TORC_FLIGHT_MAX));
        for (uint32_t i = TORC_FLIGHT_MAX; i-- > 0;) { // the last half first
            uint32_t at = (i + TORC_FLIGHT_MAX / 2) % TORC_FLIGHT_MAX;

            torc_flight_remove(flight, slots[at]);
        }
        CU_ASSERT_EQUAL(flight->count, 0);
        CU_ASSERT_FALSE(torc_flight_has(flight, base));
    }
    free(flight);
}

static void test_every_error_has_an_exit_code(void)
{
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_OK), 0);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_NOT_FOUND), 1);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_TOO_LARGE), 2);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_BUSY), 3);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_NO_SPACE), 3);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_NOT_CONNECTED), 3);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_CONDITION_FAILED), 4);
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_IN_DOUBT), 5); // although retryable too
    CU_ASSERT_EQUAL(torc_exit_of(TORC_ERR_CORRUPT), 6);
    CU_ASSERT_EQUAL(torc_exit_of((enum torc_err)0x1f), 6); // a newer server's
}

static void test_words_are_cut_as_in_a_shell(void)
{
    static struct torc_words words;
    struct torc_fail why;

    TORC_TEST_OK(
        torc_words_split(&words, "  put 5 'it''s' \"a \\\"b\\\" \\\\ \\n\" c\\ d '' # no", &why),
        &why);
    CU_ASSERT_EQUAL_FATAL(words.count, 6);
    CU_ASSERT_STRING_EQUAL(words.words[2], "its");
    CU_ASSERT_STRING_EQUAL(words.words[3], "a \"b\" \\ \\n");
    CU_ASSERT_STRING_EQUAL(words.words[4], "c d");
    CU_ASSERT_STRING_EQUAL(words.words[5], "");
    CU_ASSERT_EQUAL(torc_words_split(&words, "put 1 'open", &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(why.text, "a ' has no partner");
    TORC_TEST_OK(torc_words_split(&words, "", &why), &why);
    CU_ASSERT_EQUAL(words.count, 0);
}

static const char *show(struct torc_show how, uint64_t key, const void *value, uint32_t value_bytes)
{
    static uint8_t text[4096];
    struct torc_show_pair pair = {key, 77, value, value_bytes};
    uint64_t bytes;

    CU_ASSERT_TRUE_FATAL(torc_show_room(value_bytes) < sizeof(text));
    bytes = torc_show_pair(&how, &pair, text, torc_show_room(value_bytes));
    text[bytes] = '\0';
    return (const char *)text;
}

static void test_values_are_shown_safely(void)
{
    struct torc_show table = {.format = TORC_SHOW_TABLE, .key_columns = 5, .separator = ','};
    struct torc_show json = {.format = TORC_SHOW_JSON, .separator = ','};
    struct torc_show csv = {.format = TORC_SHOW_CSV, .separator = ',', .versions = true};
    struct torc_show raw = {.format = TORC_SHOW_RAW};
    struct torc_show only = {.format = TORC_SHOW_JSON, .keys_only = true};
    struct torc_show quad = {.format = TORC_SHOW_JSON, .key_format = TORC_KEY_IP};

    CU_ASSERT_STRING_EQUAL(show(table, 7, "caf\xc3\xa9 \x1b[2J\n\\\xff\xc2\x9b", 15),
                           "    7  caf\xc3\xa9 \\x1b[2J\\n\\\\\\xff\\xc2\\x9b\n");
    CU_ASSERT_STRING_EQUAL(show(json, 7, "a\"b\\\n\x01", 6),
                           "{\"key\":7,\"value\":\"a\\\"b\\\\\\n\\u0001\"}\n");
    CU_ASSERT_STRING_EQUAL(show(json, 7, "\xff\xfe", 2), "{\"key\":7,\"value_base64\":\"//4=\"}\n");
    CU_ASSERT_STRING_EQUAL(show(json, 7, "\xed\xa0\x80", 3), // a surrogate is no UTF-8
                           "{\"key\":7,\"value_base64\":\"7aCA\"}\n");
    CU_ASSERT_STRING_EQUAL(show(csv, 7, "a,\"b\"", 5), "7,77,\"a,\"\"b\"\"\"\n");
    CU_ASSERT_STRING_EQUAL(show(csv, 7, "", 0), "7,77,\"\"\n");
    CU_ASSERT_STRING_EQUAL(show(raw, 7, "abc", 3), "abc\n");
    CU_ASSERT_STRING_EQUAL(show(only, 7, "abc", 3), "{\"key\":7}\n");
    CU_ASSERT_STRING_EQUAL(show(quad, 0xb9000001, "", 0),
                           "{\"key\":\"185.0.0.1\",\"value\":\"\"}\n");
}

// Whatever the bytes: the room is enough, and a table row has no byte that could steer a terminal.
static void test_no_value_can_steer_a_terminal(void)
{
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t round = 0; round < 20000; round++) {
        uint8_t value[64];
        uint32_t bytes = (uint32_t)torc_rng_below(&rng, sizeof(value) + 1);
        struct torc_show how = {.format = (enum torc_show_format)torc_rng_below(&rng, 4),
                                .separator = ','};
        const char *text;

        for (uint32_t i = 0; i < bytes; i++) {
            value[i] = (uint8_t)torc_rng_next(&rng);
        }
        text = show(how, torc_rng_next(&rng), value, bytes);
        if (how.format == TORC_SHOW_TABLE || how.format == TORC_SHOW_JSON) {
            size_t length = strlen(text);

            CU_ASSERT_EQUAL(text[length - 1], '\n');
            for (size_t i = 0; i + 1 < length; i++) {
                CU_ASSERT_TRUE((uint8_t)text[i] >= 0x20 && text[i] != 0x7f);
            }
        }
    }
}

static void test_columns_become_key_and_value(void)
{
    struct torc_columns columns;
    struct torc_csv csv;
    struct torc_csv_options options = {';', '"', '#'};
    uint8_t record[256];
    uint8_t memory[64];
    struct torc_columns_value value = {memory, sizeof(memory), 0};
    const char *text = "a;0x10;\"x;y\";z\n";
    uint64_t taken = 0;
    uint64_t key = 0;
    struct torc_fail why;

    TORC_TEST_OK(torc_csv_init(&csv, options, record, sizeof(record), &why), &why);
    CU_ASSERT_EQUAL_FATAL(torc_csv_step(&csv, (const uint8_t *)text, strlen(text), &taken, &why),
                          TORC_CSV_RECORD);
    TORC_TEST_OK(torc_columns_parse(&columns, 2, TORC_KEY_DEC, "3", &why), &why);
    TORC_TEST_OK(torc_columns_take(&columns, &csv, &key, &value, &why), &why);
    CU_ASSERT_EQUAL(key, 16);
    CU_ASSERT_EQUAL(value.bytes, 3);
    CU_ASSERT_EQUAL(memcmp(memory, "x;y", 3), 0); // alone: as it is
    TORC_TEST_OK(torc_columns_parse(&columns, 2, TORC_KEY_DEC, NULL, &why), &why);
    TORC_TEST_OK(torc_columns_take(&columns, &csv, &key, &value, &why), &why);
    CU_ASSERT_EQUAL(value.bytes, 9);
    CU_ASSERT_EQUAL(memcmp(memory, "a;\"x;y\";z", 9), 0); // joined: quoted again
    TORC_TEST_OK(torc_columns_parse(&columns, 2, TORC_KEY_DEC, "4,9", &why), &why);
    CU_ASSERT_EQUAL(torc_columns_take(&columns, &csv, &key, &value, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(why.text, "line 1 has 4 columns, no column 9");
    TORC_TEST_OK(torc_columns_parse(&columns, 1, TORC_KEY_DEC, "2", &why), &why);
    CU_ASSERT_EQUAL(torc_columns_take(&columns, &csv, &key, &value, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(why.text, "line 1: key a: not a number from 0 to 2^64 - 1");
    CU_ASSERT_EQUAL(torc_columns_parse(&columns, 1, TORC_KEY_DEC, "2,", &why),
                    TORC_ERR_INVALID_ARGUMENT);
    value.capacity = 2;
    TORC_TEST_OK(torc_columns_parse(&columns, 2, TORC_KEY_DEC, "3", &why), &why);
    CU_ASSERT_EQUAL(torc_columns_take(&columns, &csv, &key, &value, &why), TORC_ERR_TOO_LARGE);
}

static void test_a_key_alone_is_no_record(void)
{
    struct torc_columns columns;
    struct torc_csv csv;
    struct torc_csv_options options = {';', '"', '#'};
    uint8_t record[256];
    uint8_t memory[64];
    struct torc_columns_value value = {memory, sizeof(memory), 0};
    const char *text = "11;\n12";
    uint64_t taken = 0;
    uint64_t key = 0;
    struct torc_fail why;

    TORC_TEST_OK(torc_csv_init(&csv, options, record, sizeof(record), &why), &why);
    TORC_TEST_OK(torc_columns_parse(&columns, 1, TORC_KEY_DEC, NULL, &why), &why);
    CU_ASSERT_EQUAL_FATAL(torc_csv_step(&csv, (const uint8_t *)text, strlen(text), &taken, &why),
                          TORC_CSV_RECORD);
    TORC_TEST_OK(torc_columns_take(&columns, &csv, &key, &value, &why), &why);
    CU_ASSERT_EQUAL(key, 11);
    CU_ASSERT_EQUAL(value.bytes, 0);
    CU_ASSERT_EQUAL(torc_csv_step(&csv, (const uint8_t *)text + taken, 2, &taken, &why),
                    TORC_CSV_MORE);
    CU_ASSERT_EQUAL_FATAL(torc_csv_end(&csv, &why), TORC_CSV_RECORD);
    CU_ASSERT_EQUAL(torc_columns_take(&columns, &csv, &key, &value, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_STRING_EQUAL(
        why.text, "line 2 has a key and no value: an empty one is written \";\" behind the key");
}

static bool plan_has(const struct torc_links_plan *plan, const char *command)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        if (strcmp(plan->steps[i].command, command) == 0) {
            return true;
        }
    }
    return false;
}

static void test_links_are_made_only_when_missing(void)
{
    struct torc_links links = {.wanted = true,
                               .near = "torc2",
                               .far = "torc2h",
                               .mac = "02:54:0a:4f:00:0c",
                               .host = "10.79.0.1/24",
                               .host6 = "fd79::1/64",
                               .queue_count = 1,
                               .mtu = 1500};
    struct torc_links_seen seen = {0};
    struct torc_links_plan plan;
    struct torc_fail why;

    TORC_TEST_OK(torc_links_steps(&links, &seen, &plan, &why), &why);
    CU_ASSERT_STRING_EQUAL(plan.steps[0].undo, "ip link del torc2");
    CU_ASSERT_PTR_NOT_NULL(strstr(plan.steps[0].command, "add torc2 address 02:54:0a:4f:00:0c "));
    CU_ASSERT_TRUE(plan_has(&plan, "ethtool -K torc2h tx off"));
    CU_ASSERT_TRUE(plan_has(&plan, "echo 1 > /proc/sys/net/ipv6/conf/torc2/disable_ipv6"));
    CU_ASSERT_TRUE(plan_has(&plan, "ip -6 addr add fd79::1/64 dev torc2h nodad"));

    (void)snprintf(seen.holder, sizeof(seen.holder), "torc1h"); // the first node's
    TORC_TEST_OK(torc_links_steps(&links, &seen, &plan, &why), &why);
    CU_ASSERT_TRUE(plan_has(&plan, "ip addr del 10.79.0.1/24 dev torc1h"));
    CU_ASSERT_TRUE(plan_has(&plan, "ip link set torc1h master torcbr"));
    CU_ASSERT_TRUE(plan_has(&plan, "ip addr add 10.79.0.1/24 dev torcbr"));
    CU_ASSERT_TRUE(plan_has(&plan, "ethtool -K torcbr tx off"));
    CU_ASSERT_TRUE(plan_has(&plan, "ip link set torc2h master torcbr"));

    (void)snprintf(seen.holder, sizeof(seen.holder), "torcbr"); // a third node
    seen.bridge = true;
    TORC_TEST_OK(torc_links_steps(&links, &seen, &plan, &why), &why);
    CU_ASSERT_TRUE(plan_has(&plan, "ip link set torc2h master torcbr"));
    CU_ASSERT_FALSE(plan_has(&plan, "ip addr add 10.79.0.1/24 dev torcbr"));

    (void)snprintf(seen.holder, sizeof(seen.holder), "eth0"); // somebody else's
    CU_ASSERT_EQUAL(torc_links_steps(&links, &seen, &plan, &why), TORC_ERR_IN_USE);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "eth0"));

    seen.near = true; // there already: nothing to make
    TORC_TEST_OK(torc_links_steps(&links, &seen, &plan, &why), &why);
    CU_ASSERT_EQUAL(plan.count, 0);
}

static void test_a_child_that_keeps_dying_is_started_less_often(void)
{
    struct torc_supervise child;
    uint64_t now_ns = 1000;
    uint64_t pause_ns = 0;

    torc_supervise_init(&child, now_ns);
    CU_ASSERT_EQUAL(torc_supervise_deadline_ns(&child), now_ns);
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t next_ns;

        torc_supervise_started(&child, now_ns);
        CU_ASSERT_EQUAL(torc_supervise_deadline_ns(&child), UINT64_MAX);
        next_ns = torc_supervise_died(&child, now_ns + 1);
        CU_ASSERT_TRUE(next_ns >= pause_ns);
        pause_ns = next_ns;
        now_ns = torc_supervise_deadline_ns(&child);
    }
    CU_ASSERT_EQUAL(pause_ns, TORC_SUPERVISE_PAUSE_MOST_NS);
    torc_supervise_started(&child, now_ns);
    now_ns += TORC_SUPERVISE_CALM_NS;
    CU_ASSERT_EQUAL(torc_supervise_died(&child, now_ns), TORC_SUPERVISE_PAUSE_LEAST_NS);
    CU_ASSERT_EQUAL(child.deaths, 21);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"keys are read in every format", test_keys_are_read_in_every_format},
        {"keys are written as they are read", test_keys_are_written_as_they_are_read},
        {"times have units and bounds", test_times_have_units_and_bounds},
        {"options may stand anywhere", test_options_may_stand_anywhere},
        {"wrong arguments are named", test_wrong_arguments_are_named},
        {"settings are passed on unread", test_settings_are_passed_on_unread},
        {"help tells all of each verb", test_help_tells_all_of_each_verb},
        {"the examples of the help parse", test_examples_of_the_help_parse},
        {"completion knows every verb", test_completion_knows_every_verb},
        {"the lowest line that failed is named", test_the_lowest_line_that_failed_is_named},
        {"a line waits for the write of its key", test_a_line_waits_for_the_write_of_its_key},
        {"every error has an exit code", test_every_error_has_an_exit_code},
        {"words are cut as in a shell", test_words_are_cut_as_in_a_shell},
        {"values are shown safely", test_values_are_shown_safely},
        {"no value can steer a terminal", test_no_value_can_steer_a_terminal},
        {"columns become key and value", test_columns_become_key_and_value},
        {"a key alone is no record", test_a_key_alone_is_no_record},
        {"links are made only when missing", test_links_are_made_only_when_missing},
        {"a child that keeps dying is started less often",
         test_a_child_that_keeps_dying_is_started_less_often},
        CU_TEST_INFO_NULL};

    return torc_test_run("cli", tests);
}
