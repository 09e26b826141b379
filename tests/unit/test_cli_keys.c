// Torc tests: what `torc keys` makes of a principal: numbers, ids, keys bound to nodes.
#include "client/cli/keys.h"
#include "tests/torc_test.h"
#include "wire/op.h"

#include <stdlib.h>
#include <string.h>

static struct torc_principal *principals;
static struct torc_keys_file file;
static struct torc_fail why;
static uint8_t random_bytes[TORC_PSK_BYTES];
static const struct torc_keys_wish reader = {.roles = "read"};

static void begin(uint32_t count)
{
    principals = calloc(TORC_KEYS_PRINCIPALS_MAX, sizeof(*principals));
    CU_ASSERT_FATAL(principals != NULL);
    file = (struct torc_keys_file){.principals = principals, .count = count};
    torc_test_fill(random_bytes, sizeof(random_bytes), 9);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(principals[i].name, sizeof(principals[i].name), "p%u", i);
        principals[i].number = i + 1;
        principals[i].roles = TORC_ROLE_READ;
        principals[i].sessions_max = 1;
        principals[i].psk_count = 1;
        principals[i].psks[0].id = 1;
        torc_test_fill(principals[i].psks[0].bytes, TORC_PSK_BYTES, (uint8_t)(i + 1));
    }
}

static void a_new_number_is_above_all_others(void)
{
    struct torc_principal added;

    begin(3);
    TORC_TEST_OK(torc_keys_add(&file, "web", &reader, random_bytes, &added, &why), &why);
    CU_ASSERT_EQUAL(added.number, 4);
    CU_ASSERT_EQUAL(memcmp(added.psks[0].bytes, random_bytes, TORC_PSK_BYTES), 0);
    principals[1].number = 900;
    TORC_TEST_OK(torc_keys_add(&file, "web", &reader, random_bytes, &added, &why), &why);
    CU_ASSERT_EQUAL(added.number, 901);
    principals[1].number = TORC_KEYS_NUMBER_MAX; // then the least that is free
    TORC_TEST_OK(torc_keys_add(&file, "web", &reader, random_bytes, &added, &why), &why);
    CU_ASSERT_EQUAL(added.number, 2);
    free(principals);
}

static void ids_turn_round(void)
{
    struct torc_principal principal;

    begin(1);
    principal = principals[0];
    principal.psks[0].id = 255;
    TORC_TEST_OK(torc_keys_rotate(&principal, random_bytes, &why), &why);
    CU_ASSERT_EQUAL(principal.psk_count, 2);
    CU_ASSERT_EQUAL(principal.psks[1].id, 1);
    CU_ASSERT_EQUAL(torc_keys_rotate(&principal, random_bytes, &why), TORC_ERR_INVALID_ARGUMENT);
    TORC_TEST_OK(torc_keys_remove_key(&principal, "255", &why), &why);
    CU_ASSERT_EQUAL(principal.psk_count, 1);
    CU_ASSERT_EQUAL(principal.psks[0].id, 1);
    CU_ASSERT_EQUAL(torc_keys_remove_key(&principal, "1", &why), TORC_ERR_INVALID_ARGUMENT);
    free(principals);
}

static void the_older_or_the_newer_key_can_be_removed(void)
{
    struct torc_principal principal;

    begin(1);
    principal = principals[0];
    TORC_TEST_OK(torc_keys_rotate(&principal, random_bytes, &why), &why);
    TORC_TEST_OK(torc_keys_remove_key(&principal, "2", &why), &why);
    CU_ASSERT_EQUAL(principal.psks[0].id, 1);
    CU_ASSERT_EQUAL(memcmp(principal.psks[0].bytes, principals[0].psks[0].bytes, TORC_PSK_BYTES),
                    0);
    free(principals);
}

static void a_client_gets_the_newest_key(void)
{
    struct torc_principal principal;
    struct torc_client_key key;
    uint8_t bound[TORC_PSK_BYTES];

    begin(1);
    principal = principals[0];
    TORC_TEST_OK(torc_keys_rotate(&principal, random_bytes, &why), &why);
    TORC_TEST_OK(torc_keys_client(&principal, 77, 0, &key, &why), &why);
    CU_ASSERT_EQUAL(key.cluster, 77);
    CU_ASSERT_EQUAL(key.psk.id, 2);
    CU_ASSERT_FALSE(key.psk.bound);
    TORC_TEST_OK(torc_keys_client(&principal, 77, 5, &key, &why), &why);
    CU_ASSERT_TRUE(key.psk.bound);
    CU_ASSERT_EQUAL(key.psk.node, 5);
    CU_ASSERT_TRUE(torc_psk_bind(bound, &principal.psks[1], 77, 5));
    CU_ASSERT_EQUAL(memcmp(key.psk.bytes, bound, sizeof(bound)), 0);
    principal.psks[1] = key.psk; // of a node's own file: good for no other
    CU_ASSERT_EQUAL(torc_keys_client(&principal, 77, 6, &key, &why), TORC_ERR_INVALID_ARGUMENT);
    free(principals);
}

static void a_node_file_holds_only_what_is_bound_to_it(void)
{
    char text[4096];
    struct torc_text out = {.bytes = text, .room = sizeof(text) - 1};
    struct torc_principal *back = calloc(TORC_KEYS_PRINCIPALS_MAX, sizeof(*back));
    uint32_t count = 0;
    uint8_t bound[TORC_PSK_BYTES];

    begin(3);
    torc_assert(back != NULL);
    TORC_TEST_OK(torc_keys_node_file(&out, &file, 77, 5, &why), &why);
    TORC_TEST_OK(torc_keyfile_parse(text, out.used, back, &count, &why), &why);
    CU_ASSERT_EQUAL_FATAL(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT_TRUE(torc_psk_bind(bound, &principals[i].psks[0], 77, 5));
        CU_ASSERT_EQUAL(memcmp(back[i].psks[0].bytes, bound, sizeof(bound)), 0);
        CU_ASSERT_TRUE(back[i].psks[0].bound);
        CU_ASSERT_EQUAL(back[i].psks[0].node, 5);
    }
    free(back);
    free(principals);
}

static void words_are_counted(void)
{
    enum torc_keys_action action;

    TORC_TEST_OK(torc_keys_action("revoke", 1, false, &action, &why), &why);
    CU_ASSERT_EQUAL(action, TORC_KEYS_REVOKE);
    CU_ASSERT_EQUAL(torc_keys_action("revoke", 0, false, &action, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_keys_action("list", 1, false, &action, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_EQUAL(torc_keys_action("export", 0, false, &action, &why), TORC_ERR_INVALID_ARGUMENT);
    TORC_TEST_OK(torc_keys_action("export", 0, true, &action, &why), &why);
    TORC_TEST_OK(torc_keys_action("export", 1, true, &action, &why), &why);
    CU_ASSERT_EQUAL(torc_keys_action("lst", 0, false, &action, &why), TORC_ERR_INVALID_ARGUMENT);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a new number is above all others", a_new_number_is_above_all_others},
        {"ids turn round", ids_turn_round},
        {"the older or the newer key can be removed", the_older_or_the_newer_key_can_be_removed},
        {"a client gets the newest key", a_client_gets_the_newest_key},
        {"a node file holds only what is bound to it", a_node_file_holds_only_what_is_bound_to_it},
        {"words are counted", words_are_counted},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("cli keys", tests);
}
