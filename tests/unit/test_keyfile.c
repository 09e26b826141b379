// Torc tests: key files: what is accepted, what is refused and in which words, and that what is
// written is read back.
#include "tests/torc_test.h"
#include "wire/keyfile.h"
#include "wire/op.h"

#include <stdlib.h>
#include <string.h>

#define HEX_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX_B "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"
#define HEAD  "torc-keys 1\n"

static struct torc_principal *principals;
static uint32_t count;
static struct torc_fail why;

static enum torc_err parse(const char *text)
{
    if (principals == NULL) {
        principals = calloc(TORC_KEYS_PRINCIPALS_MAX, sizeof(*principals));
    }
    CU_ASSERT_FATAL(principals != NULL);
    why = (struct torc_fail){0};
    return torc_keyfile_parse(text, strlen(text), principals, &count, &why);
}

static void a_full_line_is_understood(void)
{
    TORC_TEST_OK(parse(HEAD "# who\n\n"
                            "web\t2  read,write 500-600,0-100,50-200 max_sessions=64 1:" HEX_A
                            " 200:" HEX_B ":node=3 # of the shop\r\n"
                            "audit 3 read 1:" HEX_B),
                 &why);
    CU_ASSERT_EQUAL_FATAL(count, 2);
    CU_ASSERT_STRING_EQUAL(principals[0].name, "web");
    CU_ASSERT_EQUAL(principals[0].number, 2);
    CU_ASSERT_EQUAL(principals[0].roles, TORC_ROLE_READ | TORC_ROLE_WRITE);
    CU_ASSERT_EQUAL(principals[0].sessions_max, 64);
    CU_ASSERT_EQUAL_FATAL(principals[0].range_count, 2); // sorted, and joined where they overlap
    CU_ASSERT_EQUAL(principals[0].ranges[0].lo, 0);
    CU_ASSERT_EQUAL(principals[0].ranges[0].hi, 200);
    CU_ASSERT_EQUAL(principals[0].ranges[1].lo, 500);
    CU_ASSERT_EQUAL_FATAL(principals[0].psk_count, 2);
    CU_ASSERT_EQUAL(principals[0].psks[0].id, 1);
    CU_ASSERT_EQUAL(principals[0].psks[0].bytes[31], 0x1f);
    CU_ASSERT_FALSE(principals[0].psks[0].bound);
    CU_ASSERT_EQUAL(principals[0].psks[1].id, 200);
    CU_ASSERT_TRUE(principals[0].psks[1].bound);
    CU_ASSERT_EQUAL(principals[0].psks[1].node, 3);
    CU_ASSERT_EQUAL(principals[1].sessions_max, TORC_KEYS_SESSIONS_DEFAULT);
    CU_ASSERT_EQUAL(principals[1].range_count, 0);
    TORC_TEST_OK(parse("torc-keys 1"), &why); // nobody: every client is refused
    CU_ASSERT_EQUAL(count, 0);
}

static void a_bad_line_is_named_and_not_shown(void)
{
    static const struct {
        const char *text;
        const char *says;
    } bad[] = {
        {"", "line 1: it must be `torc-keys 1`"},
        {"torc-key 1\n", "line 1: it must be"},
        {"torc-keys 2\n", "line 1: of another version"},
        {HEAD "\n!x 1 read 1:" HEX_A, "line 3: a name is"},
        {HEAD "a_name_of_thirty-three_characters 1 read 1:" HEX_A, "line 2: a name is"},
        {HEAD "a 0 read 1:" HEX_A, "line 2: a: its number"},
        {HEAD "a 2147483648 read 1:" HEX_A, "line 2: a: its number"},
        {HEAD "a", "line 2: a: its number"},
        {HEAD "a 1", "line 2: a: roles are missing"},
        {HEAD "a 1 reed 1:" HEX_A,
         "line 2: roles are read, write and admin, joined by commas; or node"},
        {HEAD "a 1 read, 1:" HEX_A, "line 2: roles are"},
        {HEAD "a 1 read,node 1:" HEX_A, "line 2: the role node stands alone"},
        {HEAD "a 1 node 0-5 1:" HEX_A, "line 2: a: the role node goes without"},
        {HEAD "a 1 node 1:" HEX_A ":node=1", "line 2: a: the role node goes without"},
        {HEAD "a 1 node 1:" HEX_A "\nb 2 node 1:" HEX_A, "line 3: b: the role node has a already"},
        {HEAD "a 1 read", "line 2: a: it has no key"},
        {HEAD "a 1 read 5-5 1:" HEX_A, "line 2: key range 1"},
        {HEAD "a 1 read 0-5,7 1:" HEX_A, "line 2: key range 2"},
        {HEAD "a 1 read 0-18446744073709551616 1:" HEX_A, "line 2: key range 1"},
        {HEAD "a 1 read 0-5 6-7 1:" HEX_A, "line 2: a: behind the roles"},
        {HEAD "a 1 read max_sessions=0 1:" HEX_A, "line 2: a: max_sessions"},
        {HEAD "a 1 read max_sessions=1 max_sessions=2 1:" HEX_A, "line 2: a: max_sessions"},
        {HEAD "a 1 read 0:" HEX_A, "line 2: a key is ID:DIGITS"},
        {HEAD "a 1 read 256:" HEX_A, "line 2: a key is ID:DIGITS"},
        {HEAD "a 1 read 1:" HEX_A "0", "line 2: key 1: 64 hexadecimal digits"},
        {HEAD "a 1 read 1:g" HEX_A, "line 2: key 1: 64 hexadecimal digits"},
        {HEAD "a 1 read 1:0000000000000000000000000000000000000000000000000000000000000000",
         "line 2: key 1: nothing but zeros"},
        {HEAD "a 1 read 1:" HEX_A ":nod=1", "line 2: key 1: what follows"},
        {HEAD "a 1 read 1:" HEX_A " 1:" HEX_B, "line 2: a: two keys with the id 1"},
        {HEAD "a 1 read 1:" HEX_A " 2:" HEX_B " 3:" HEX_A, "line 2: a: more than two keys"},
        {HEAD "a 1 read 1:" HEX_A "\na 2 read 1:" HEX_B, "line 3: a: a second line"},
        {HEAD "a 1 read 1:" HEX_A "\nb 1 read 1:" HEX_B, "line 3: b: its number 1 is that of a"},
    };

    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        CU_ASSERT_NOT_EQUAL(parse(bad[i].text), TORC_ERR_OK);
        if (strncmp(why.text, bad[i].says, strlen(bad[i].says)) != 0) {
            (void)printf("%u: %s\n", i, why.text);
            CU_FAIL("another text");
        }
        CU_ASSERT_PTR_NULL(strstr(why.text, "0102"));
        CU_ASSERT_PTR_NULL(strstr(why.text, "eedd"));
    }
}

static void too_many_ranges_are_refused(void)
{
    char text[2048];
    struct torc_text at = {.bytes = text, .room = sizeof(text) - 1};
    struct torc_key_range ranges[TORC_KEYS_RANGES_MAX];
    uint32_t found = 0;

    for (uint32_t i = 0; i < TORC_KEYS_RANGES_MAX; i++) {
        torc_text_add(&at, "%s%u-%u", i > 0 ? "," : "", 1000 - 10 * i, 1005 - 10 * i);
    }
    TORC_TEST_OK(torc_ranges_parse(text, at.used, ranges, &found, &why), &why);
    CU_ASSERT_EQUAL(found, TORC_KEYS_RANGES_MAX);
    for (uint32_t i = 1; i < found; i++) {
        CU_ASSERT_TRUE(ranges[i - 1].hi < ranges[i].lo);
    }
    torc_text_add(&at, ",5000-5001");
    CU_ASSERT_EQUAL(torc_ranges_parse(text, at.used, ranges, &found, &why),
                    TORC_ERR_INVALID_ARGUMENT);
}

static void an_edit_changes_one_line(void)
{
    static const char before[] =
        HEAD "# the shop\nweb 2 read 1:" HEX_A " # mornings\n\naudit 3 read "
             "1:" HEX_B;
    char after[2048];
    struct torc_text out = {.bytes = after, .room = sizeof(after) - 1};
    struct torc_principal web;

    TORC_TEST_OK(parse(before), &why);
    web = principals[0];
    web.psks[1] = principals[1].psks[0];
    web.psks[1].id = 9;
    web.psk_count = 2;
    torc_keyfile_edit(&out, before, strlen(before), "web", &web);
    CU_ASSERT_STRING_EQUAL(after, HEAD "# the shop\nweb 2 read 1:" HEX_A " 9:" HEX_B
                                       " # mornings\n\naudit 3 read 1:" HEX_B "\n");
    out.used = 0;
    torc_keyfile_edit(&out, before, strlen(before), "web", NULL);
    CU_ASSERT_STRING_EQUAL(after, HEAD "# the shop\n\naudit 3 read 1:" HEX_B "\n");
    out.used = 0;
    (void)snprintf(web.name, sizeof(web.name), "new");
    web.psk_count = 1;
    torc_keyfile_edit(&out, "", 0, "new", &web);
    CU_ASSERT_STRING_EQUAL(after, HEAD "new 2 read 1:" HEX_A "\n");
}

static bool keys_equal(const struct torc_client_key *a, const struct torc_client_key *b)
{
    return a->cluster == b->cluster && a->principal == b->principal &&
           memcmp(a->name, b->name, sizeof(a->name)) == 0 && a->psk.id == b->psk.id &&
           a->psk.bound == b->psk.bound && a->psk.node == b->psk.node &&
           memcmp(a->psk.bytes, b->psk.bytes, sizeof(a->psk.bytes)) == 0;
}

static void a_client_key_is_read_back(void)
{
    struct torc_client_key key = {
        .cluster = 0x51d3a0e2f7c94b18, .principal = 2, .name = "web", .psk = {.id = 7}};
    struct torc_client_key back;
    char text[TORC_CLIENT_KEY_BYTES_MAX];
    struct torc_text out = {.bytes = text, .room = sizeof(text) - 1};

    torc_test_fill(key.psk.bytes, TORC_PSK_BYTES, 1);
    torc_client_key_write(&out, &key);
    CU_ASSERT_STRING_EQUAL(text, "torc-key 1\ncluster 51d3a0e2f7c94b18\nprincipal 2 web\nkey 7:"
                                 "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
                                 "\n");
    TORC_TEST_OK(torc_client_key_parse(&back, text, out.used, &why), &why);
    CU_ASSERT_TRUE(keys_equal(&back, &key));
}

static void a_bad_client_key_is_refused(void)
{
    static const struct {
        const char *text;
        const char *says;
    } bad[] = {
        {"", "line 1"},
        {"torc-keys 1\n", "line 1: it must be `torc-key 1`"},
        {"torc-key 7\n", "line 1: of another version"},
        {"torc-key 1\ncluster 0123456789abcdef\nprincipal 1 a\n", "line 3: the file ends, and its "
                                                                  "key"},
        {"torc-key 1\nprincipal 1 a\nkey 1:" HEX_A, "line 3: the file ends, and its cluster"},
        {"torc-key 1\ncluster 0123456789abcde\n", "line 2: a cluster's id"},
        {"torc-key 1\nprincipal a\n", "line 2: a principal is"},
        {"torc-key 1\nprincipal 1\n", "line 2: a principal is"},
        {"torc-key 1\nkey 1:" HEX_A " more\n", "line 2: a word too many"},
        {"torc-key 1\nkey 1:" HEX_A "\nkey 1:" HEX_A, "line 3: lines are"},
        {"torc-key 1\nkye 1:" HEX_A, "line 2: lines are"},
    };
    struct torc_client_key key;

    for (uint32_t i = 0; i < TORC_COUNT_OF(bad); i++) {
        CU_ASSERT_NOT_EQUAL(torc_client_key_parse(&key, bad[i].text, strlen(bad[i].text), &why),
                            TORC_ERR_OK);
        if (strncmp(why.text, bad[i].says, strlen(bad[i].says)) != 0) {
            (void)printf("%u: %s\n", i, why.text);
            CU_FAIL("another text");
        }
    }
}

static void a_key_is_bound_to_its_node(void)
{
    struct torc_psk psk = {.id = 1};
    struct torc_psk of_node;
    uint8_t bound[TORC_PSK_BYTES];
    uint8_t other[TORC_PSK_BYTES];

    torc_test_fill(psk.bytes, TORC_PSK_BYTES, 0);
    CU_ASSERT_TRUE(torc_psk_bind(bound, &psk, 0x51d3a0e2f7c94b18, 3));
    CU_ASSERT_TRUE(torc_psk_bind(other, &psk, 0x51d3a0e2f7c94b18, 4));
    CU_ASSERT_NOT_EQUAL(memcmp(bound, other, sizeof(bound)), 0);
    of_node = psk;
    of_node.bound = true;
    of_node.node = 3;
    memcpy(of_node.bytes, bound, sizeof(bound));
    CU_ASSERT_TRUE(torc_psk_bind(other, &of_node, 1, 3)); // as it is
    CU_ASSERT_EQUAL(memcmp(bound, other, sizeof(bound)), 0);
    CU_ASSERT_FALSE(torc_psk_bind(other, &of_node, 1, 4));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a full line is understood", a_full_line_is_understood},
        {"a bad line is named and not shown", a_bad_line_is_named_and_not_shown},
        {"too many ranges are refused", too_many_ranges_are_refused},
        {"an edit changes one line", an_edit_changes_one_line},
        {"a client key is read back", a_client_key_is_read_back},
        {"a bad client key is refused", a_bad_client_key_is_refused},
        {"a key is bound to its node", a_key_is_bound_to_its_node},
        CU_TEST_INFO_NULL,
    };
    int status = torc_test_run("keyfile", tests);

    free(principals);
    return status;
}
