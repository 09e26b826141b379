// Torc tests: any bytes as a key file: what is accepted is in its ranges (F1 of keyfile.h), is read
// back as it was written (F2), and can be edited.
#include "wire/keyfile.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_principal(const struct torc_principal *principal)
{
    torc_assert(torc_principal_name_ok(principal->name));
    torc_assert(principal->number >= 1 && principal->number <= TORC_KEYS_NUMBER_MAX);
    torc_assert(principal->roles != 0);
    torc_assert(principal->sessions_max >= 1);
    torc_assert(principal->psk_count >= 1 && principal->psk_count <= 2);
    torc_assert(principal->psk_count == 1 || principal->psks[0].id != principal->psks[1].id);
    torc_assert(principal->range_count <= TORC_KEYS_RANGES_MAX);
    for (uint32_t i = 0; i < principal->range_count; i++) {
        torc_assert(principal->ranges[i].lo < principal->ranges[i].hi);
        torc_assert(i == 0 || principal->ranges[i - 1].hi < principal->ranges[i].lo);
    }
}

// The same principals, whatever the spelling.
static void check_same(const struct torc_principal *a, const struct torc_principal *b)
{
    torc_assert(strcmp(a->name, b->name) == 0);
    torc_assert(a->number == b->number && a->roles == b->roles);
    torc_assert(a->sessions_max == b->sessions_max && a->range_count == b->range_count);
    torc_assert(memcmp(a->ranges, b->ranges, a->range_count * sizeof(a->ranges[0])) == 0);
    torc_assert(a->psk_count == b->psk_count);
    torc_assert(memcmp(a->psks, b->psks, a->psk_count * sizeof(a->psks[0])) == 0);
}

static void check_edit(const char *text, uint64_t bytes, const struct torc_principal *principals,
                       uint32_t count)
{
    static struct torc_principal back[TORC_KEYS_PRINCIPALS_MAX]; // large: mapped once
    uint64_t room = 2 * bytes + 65536;
    struct torc_text out = {.bytes = malloc(room + 1), .room = room};
    uint32_t found = 0;

    torc_assert(out.bytes != NULL);
    torc_keyfile_edit(&out, text, bytes, principals[0].name, &principals[0]);
    torc_assert(out.used <= room);
    torc_assert(torc_keyfile_parse(out.bytes, out.used, back, &found, NULL) == TORC_ERR_OK);
    torc_assert(found == count);
    for (uint32_t i = 0; i < count; i++) {
        check_same(&principals[i], &back[i]);
    }
    out.used = 0;
    torc_keyfile_edit(&out, text, bytes, principals[0].name, NULL);
    torc_assert(torc_keyfile_parse(out.bytes, out.used, back, &found, NULL) == TORC_ERR_OK);
    torc_assert(found == count - 1);
    free(out.bytes);
}

static void try_node_file(const char *text, uint64_t bytes)
{
    static struct torc_principal principals[TORC_KEYS_PRINCIPALS_MAX];
    struct torc_fail why = {0};
    uint32_t count = 0;

    if (torc_keyfile_parse(text, bytes, principals, &count, &why) != TORC_ERR_OK) {
        torc_assert(strncmp(why.text, "line ", 5) == 0);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        check_principal(&principals[i]);
    }
    if (count > 0) {
        check_edit(text, bytes, principals, count);
    }
}

static bool keys_equal(const struct torc_client_key *a, const struct torc_client_key *b)
{
    return a->cluster == b->cluster && a->principal == b->principal &&
           memcmp(a->name, b->name, sizeof(a->name)) == 0 && a->psk.id == b->psk.id &&
           a->psk.bound == b->psk.bound && a->psk.node == b->psk.node &&
           memcmp(a->psk.bytes, b->psk.bytes, sizeof(a->psk.bytes)) == 0;
}

static void try_client_file(const char *text, uint64_t bytes)
{
    struct torc_client_key key;
    struct torc_client_key back;
    char again[TORC_CLIENT_KEY_BYTES_MAX];
    struct torc_text out = {.bytes = again, .room = sizeof(again) - 1};

    if (torc_client_key_parse(&key, text, bytes, NULL) != TORC_ERR_OK) {
        return;
    }
    torc_client_key_write(&out, &key);
    torc_assert(out.used <= out.room);
    torc_assert(torc_client_key_parse(&back, again, out.used, NULL) == TORC_ERR_OK);
    torc_assert(keys_equal(&key, &back));
}

// Words that a mutator would hardly find.
static const char *const words[] = {
    "\n",
    " ",
    "web 2 read,write ",
    "audit 3 read ",
    "1:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "2:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
    ":node=7",
    "0-100,200-300",
    "max_sessions=5",
    "# comment",
    "cluster 0123456789abcdef",
    "principal 2 web",
    "key ",
    "18446744073709551615",
    "-",
    "admin",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char built[8192];
    struct torc_text text = {.bytes = built, .room = sizeof(built) - 1};

    try_node_file((const char *)data, size);
    try_client_file((const char *)data, size);
    if (size == 0) {
        return 0;
    }
    torc_text_add(&text, "%s\n",
                  (data[0] & 1) != 0 ? TORC_KEYS_FIRST_LINE : TORC_CLIENT_KEY_FIRST_LINE);
    // Low bytes are words, others themselves.
    for (size_t i = 1; i < size && text.used < text.room; i++) {
        if (data[i] < 2 * TORC_COUNT_OF(words)) {
            torc_text_add(&text, "%s", words[data[i] % TORC_COUNT_OF(words)]);
        } else {
            torc_text_add(&text, "%c", data[i]);
        }
    }
    try_node_file(built, torc_text_bytes(&text));
    try_client_file(built, torc_text_bytes(&text));
    return 0;
}
