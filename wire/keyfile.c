// Torc wire: key files, read and written; see keyfile.h.
#include "wire/keyfile.h"

#include "wire/noise.h"
#include "wire/op.h"

#include <sodium.h>

#include <string.h>

_Static_assert(TORC_PSK_BYTES == TORC_NOISE_KEY_BYTES, "a PSK is a key of the handshake");

// -- Words of a line -----------------------------------------------------------------------------

struct word {
    const char *at;
    uint64_t bytes;
};

// Goes over the lines of a text, and over the words of a line up to its comment.
struct reader {
    const char *at; // the next line
    const char *end;
    uint32_t line; // number of the present one
    const char *line_at;
    const char *line_end; // its '\n', or the text's end
    const char *word_at;
    const char *words_end; // its '#', or line_end
};

static struct reader reader_of(const char *text, uint64_t byte_count)
{
    return (struct reader){.at = text, .end = text + byte_count};
}

static bool reader_line(struct reader *reader)
{
    const char *found;

    if (reader->at == reader->end) {
        return false;
    }
    reader->line++;
    reader->line_at = reader->at;
    found = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
    reader->line_end = found == NULL ? reader->end : found;
    reader->at = found == NULL ? reader->end : found + 1;
    found = memchr(reader->line_at, '#', (size_t)(reader->line_end - reader->line_at));
    reader->words_end = found == NULL ? reader->line_end : found;
    reader->word_at = reader->line_at;
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool reader_word(struct reader *reader, struct word *word)
{
    const char *at = reader->word_at;

    while (at < reader->words_end && is_blank(*at)) {
        at++;
    }
    word->at = at;
    while (at < reader->words_end && !is_blank(*at)) {
        at++;
    }
    reader->word_at = at;
    word->bytes = (uint64_t)(at - word->at);
    return word->bytes > 0;
}

static bool word_is(const struct word *word, const char *text)
{
    return word->bytes == strlen(text) && memcmp(word->at, text, word->bytes) == 0;
}

// Takes `text` off the word's beginning.
static bool word_skip(struct word *word, const char *text)
{
    uint64_t bytes = strlen(text);

    if (word->bytes < bytes || memcmp(word->at, text, bytes) != 0) {
        return false;
    }
    word->at += bytes;
    word->bytes -= bytes;
    return true;
}

// Parts the word at the first `mark`: *head is what stands before it, the word what follows.
// Without one *head is all, and the word is empty.
static bool word_part(struct word *word, char mark, struct word *head)
{
    const char *found = memchr(word->at, mark, word->bytes);

    *head = *word;
    if (found == NULL) {
        *word = (struct word){word->at + word->bytes, 0};
        return false;
    }
    head->bytes = (uint64_t)(found - word->at);
    word->at = found + 1;
    word->bytes -= head->bytes + 1;
    return true;
}

static bool word_number(const struct word *word, uint64_t max, uint64_t *number)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < word->bytes; i++) {
        uint64_t digit = (uint64_t)(unsigned char)word->at[i] - '0';

        if (digit > 9 || sum > (max - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *number = sum;
    return word->bytes > 0 && sum <= max;
}

static uint32_t hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return (uint32_t)(c - '0');
    }
    if (c >= 'a' && c <= 'f') {
        return (uint32_t)(c - 'a' + 10);
    }
    return c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 16;
}

static bool word_hex(const struct word *word, uint8_t *bytes, uint32_t byte_count)
{
    if (word->bytes != 2 * (uint64_t)byte_count) {
        return false;
    }
    for (uint32_t i = 0; i < byte_count; i++) {
        uint32_t high = hex_digit(word->at[2 * (uint64_t)i]);
        uint32_t low = hex_digit(word->at[2 * (uint64_t)i + 1]);

        if (high > 15 || low > 15) {
            return false;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

// -- Roles and ranges ----------------------------------------------------------------------------

static const struct {
    uint32_t role;
    const char *name;
} file_roles[] = {{TORC_ROLE_READ, "read"},
                  {TORC_ROLE_WRITE, "write"},
                  {TORC_ROLE_ADMIN, "admin"},
                  {TORC_ROLE_NODE, "node"}};

static enum torc_err roles_parse(struct word word, uint32_t *roles, struct torc_fail *why)
{
    struct word one;
    bool more = true;

    *roles = 0;
    while (more) {
        uint32_t role = 0;

        more = word_part(&word, ',', &one);
        for (uint32_t i = 0; i < TORC_COUNT_OF(file_roles); i++) {
            role |= word_is(&one, file_roles[i].name) ? file_roles[i].role : 0;
        }
        if (role == 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "roles are read, write and admin, joined by commas; or node");
        }
        *roles |= role;
    }
    if ((*roles & TORC_ROLE_NODE) != 0 && *roles != TORC_ROLE_NODE) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "the role node stands alone");
    }
    return TORC_ERR_OK;
}

enum torc_err torc_roles_parse(const char *text, uint32_t *roles, struct torc_fail *why)
{
    return roles_parse((struct word){text, strlen(text)}, roles, why);
}

void torc_roles_write(struct torc_text *text, uint32_t roles)
{
    const char *comma = "";

    for (uint32_t i = 0; i < TORC_COUNT_OF(file_roles); i++) {
        if ((roles & file_roles[i].role) != 0) {
            torc_text_add(text, "%s%s", comma, file_roles[i].name);
            comma = ",";
        }
    }
}

// Puts a range among those that are there, in order.
static void ranges_insert(struct torc_key_range *ranges, uint32_t count, struct torc_key_range one)
{
    uint32_t at = count;

    while (at > 0 && ranges[at - 1].lo > one.lo) {
        ranges[at] = ranges[at - 1];
        at--;
    }
    ranges[at] = one;
}

// Joins those that meet. Returns how many are left.
static uint32_t ranges_join(struct torc_key_range *ranges, uint32_t count)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && ranges[i].lo <= ranges[kept - 1].hi) {
            ranges[kept - 1].hi = torc_max_u64(ranges[kept - 1].hi, ranges[i].hi);
        } else {
            ranges[kept++] = ranges[i];
        }
    }
    return kept;
}

enum torc_err torc_ranges_parse(const char *text, uint64_t byte_count,
                                struct torc_key_range ranges[TORC_KEYS_RANGES_MAX], uint32_t *count,
                                struct torc_fail *why)
{
    struct word word = {text, byte_count};
    struct word hi;
    struct word lo;
    uint32_t found = 0;
    bool more = true;

    while (more) {
        struct torc_key_range one;

        more = word_part(&word, ',', &hi);
        if (!word_part(&hi, '-', &lo) || !word_number(&lo, UINT64_MAX, &one.lo) ||
            !word_number(&hi, UINT64_MAX, &one.hi) || one.lo >= one.hi) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "key range %" PRIu32 ": it is LO-HI, decimal, LO below HI", found + 1);
        }
        if (found == TORC_KEYS_RANGES_MAX) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "more than %u key ranges",
                             TORC_KEYS_RANGES_MAX);
        }
        ranges_insert(ranges, found++, one);
    }
    *count = ranges_join(ranges, found);
    return TORC_ERR_OK;
}

void torc_ranges_write(struct torc_text *text, const struct torc_key_range *ranges, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        torc_text_add(text, "%s%" PRIu64 "-%" PRIu64, i > 0 ? "," : "", ranges[i].lo, ranges[i].hi);
    }
}

// -- Keys ----------------------------------------------------------------------------------------

// `id:64 hex digits[:node=N]`.
static enum torc_err psk_parse(struct word word, struct torc_psk *psk, struct torc_fail *why)
{
    struct word id;
    struct word hex;
    uint64_t number = 0;
    bool bound;

    memset(psk, 0, sizeof(*psk));
    if (!word_part(&word, ':', &id) || !word_number(&id, 255, &number) || number == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "a key is ID:DIGITS, and its id a number from 1 to 255");
    }
    psk->id = (uint8_t)number;
    bound = word_part(&word, ':', &hex);
    if (!word_hex(&hex, psk->bytes, TORC_PSK_BYTES)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "key %u: %u hexadecimal digits are wanted behind its id", psk->id,
                         2 * TORC_PSK_BYTES);
    }
    if (sodium_is_zero(psk->bytes, TORC_PSK_BYTES) != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "key %u: nothing but zeros is no key",
                         psk->id);
    }
    if (bound &&
        (!word_skip(&word, "node=") || !word_number(&word, TORC_KEYS_NUMBER_MAX, &number))) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "key %u: what follows its digits is :node=N", psk->id);
    }
    psk->bound = bound;
    psk->node = bound ? (uint32_t)number : 0;
    return TORC_ERR_OK;
}

static void psk_write(struct torc_text *text, const struct torc_psk *psk)
{
    torc_text_add(text, "%u:", psk->id);
    for (uint32_t i = 0; i < TORC_PSK_BYTES; i++) {
        torc_text_add(text, "%02x", psk->bytes[i]);
    }
    if (psk->bound) {
        torc_text_add(text, ":node=%" PRIu32, psk->node);
    }
}

bool torc_psk_bind(uint8_t bound[TORC_PSK_BYTES], const struct torc_psk *psk, uint64_t cluster,
                   uint32_t node)
{
    if (psk->bound) {
        memcpy(bound, psk->bytes, TORC_PSK_BYTES);
        return psk->node == node;
    }
    torc_noise_bind(bound, psk->bytes, cluster, node);
    return true;
}

// -- A principal's line --------------------------------------------------------------------------

static bool name_byte_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static bool name_take(const struct word *word, char name[TORC_KEYS_NAME_BYTES])
{
    if (word->bytes == 0 || word->bytes >= TORC_KEYS_NAME_BYTES) {
        return false;
    }
    for (uint64_t i = 0; i < word->bytes; i++) {
        if (!name_byte_ok(word->at[i])) {
            return false;
        }
    }
    memcpy(name, word->at, word->bytes);
    name[word->bytes] = '\0';
    return true;
}

bool torc_principal_name_ok(const char *name)
{
    char copy[TORC_KEYS_NAME_BYTES];
    struct word word = {name, strlen(name)};

    return name_take(&word, copy);
}

static enum torc_err principal_take_key(struct torc_principal *principal, const struct word *word,
                                        struct torc_fail *why)
{
    enum torc_err err;

    if (principal->psk_count == TORC_COUNT_OF(principal->psks)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: more than two keys", principal->name);
    }
    err = psk_parse(*word, &principal->psks[principal->psk_count], why);
    if (err == TORC_ERR_OK && principal->psk_count > 0 &&
        principal->psks[0].id == principal->psks[1].id) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: two keys with the id %u",
                        principal->name, principal->psks[0].id);
    }
    principal->psk_count++;
    return err;
}

// One of the words behind the roles.
static enum torc_err principal_take_word(struct torc_principal *principal, struct word word,
                                         struct torc_fail *why)
{
    uint64_t number = 0;

    if (memchr(word.at, ':', word.bytes) != NULL) {
        return principal_take_key(principal, &word, why);
    }
    if (word_skip(&word, "max_sessions=")) {
        if (principal->sessions_max != 0 || !word_number(&word, TORC_KEYS_SESSIONS_MAX, &number) ||
            number == 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "%s: max_sessions is a number from 1 to %u, said once",
                             principal->name, TORC_KEYS_SESSIONS_MAX);
        }
        principal->sessions_max = (uint32_t)number;
        return TORC_ERR_OK;
    }
    if (principal->range_count > 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s: behind the roles come key ranges, max_sessions=N and keys",
                         principal->name);
    }
    return torc_ranges_parse(word.at, word.bytes, principal->ranges, &principal->range_count, why);
}

static enum torc_err principal_take_head(struct torc_principal *principal, struct reader *reader,
                                         const struct word *name, struct torc_fail *why)
{
    struct word word;
    uint64_t number = 0;

    if (!name_take(name, principal->name)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "a name is 1 to %u letters, digits and any of ._-",
                         TORC_KEYS_NAME_BYTES - 1);
    }
    if (!reader_word(reader, &word) || !word_number(&word, TORC_KEYS_NUMBER_MAX, &number) ||
        number == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s: its number, from 1 to %u, comes behind the name", principal->name,
                         TORC_KEYS_NUMBER_MAX);
    }
    principal->number = (uint32_t)number;
    if (!reader_word(reader, &word)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: roles are missing behind its number",
                         principal->name);
    }
    return roles_parse(word, &principal->roles, why);
}

// Keys of the role node are the cluster's secret: each node's own are made from them.
static enum torc_err nodes_check(const struct torc_principal *principal, struct torc_fail *why)
{
    if (principal->range_count > 0 || principal->psks[0].bound || principal->psks[1].bound) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s: the role node goes without key ranges and :node=", principal->name);
    }
    return TORC_ERR_OK;
}

static enum torc_err principal_parse(struct torc_principal *principal, struct reader *reader,
                                     const struct word *name, struct torc_fail *why)
{
    struct word word;
    enum torc_err err;

    memset(principal, 0, sizeof(*principal));
    err = principal_take_head(principal, reader, name, why);
    while (err == TORC_ERR_OK && reader_word(reader, &word)) {
        err = principal_take_word(principal, word, why);
    }
    if (err == TORC_ERR_OK && principal->psk_count == 0) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: it has no key", principal->name);
    }
    if (err == TORC_ERR_OK && principal->roles == TORC_ROLE_NODE) {
        err = nodes_check(principal, why);
    }
    if (principal->sessions_max == 0) {
        principal->sessions_max = TORC_KEYS_SESSIONS_DEFAULT;
    }
    return err;
}

void torc_principal_write(struct torc_text *text, const struct torc_principal *principal)
{
    torc_text_add(text, "%s %" PRIu32 " ", principal->name, principal->number);
    torc_roles_write(text, principal->roles);
    if (principal->range_count > 0) {
        torc_text_add(text, " ");
        torc_ranges_write(text, principal->ranges, principal->range_count);
    }
    if (principal->sessions_max != TORC_KEYS_SESSIONS_DEFAULT) {
        torc_text_add(text, " max_sessions=%" PRIu32, principal->sessions_max);
    }
    for (uint32_t i = 0; i < principal->psk_count; i++) {
        torc_text_add(text, " ");
        psk_write(text, &principal->psks[i]);
    }
}

// -- A node's file -------------------------------------------------------------------------------

// The first line: format and version.
static enum torc_err first_line(struct reader *reader, const char *wanted, struct torc_fail *why)
{
    const char *version = strchr(wanted, ' ') + 1;
    struct word format = {"", 0};
    struct word number = {"", 0};
    struct word none;

    if (reader_line(reader) && reader_word(reader, &format)) {
        (void)reader_word(reader, &number); // an empty word is not the one that is wanted
    }
    if (format.bytes != (uint64_t)(version - 1 - wanted) ||
        memcmp(format.at, wanted, format.bytes) != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "line 1: it must be `%s`", wanted);
    }
    if (!word_is(&number, version) || reader_word(reader, &none)) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                         "line 1: of another version; this build reads `%s`", wanted);
    }
    return TORC_ERR_OK;
}

static enum torc_err principals_differ(const struct torc_principal *principals, uint32_t count,
                                       struct torc_fail *why)
{
    const struct torc_principal *last = &principals[count];

    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(principals[i].name, last->name) == 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: a second line of this name",
                             last->name);
        }
        if (principals[i].number == last->number) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "%s: its number %" PRIu32 " is that of %s", last->name, last->number,
                             principals[i].name);
        }
        if (last->roles == TORC_ROLE_NODE && principals[i].roles == TORC_ROLE_NODE) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: the role node has %s already",
                             last->name, principals[i].name);
        }
    }
    return TORC_ERR_OK;
}

enum torc_err torc_keyfile_parse(const char *text, uint64_t byte_count,
                                 struct torc_principal *principals, uint32_t *count,
                                 struct torc_fail *why)
{
    struct reader reader = reader_of(text, byte_count);
    enum torc_err err = first_line(&reader, TORC_KEYS_FIRST_LINE, why);

    *count = 0;
    while (err == TORC_ERR_OK && reader_line(&reader)) {
        struct torc_fail what = {0};
        struct word name;

        if (!reader_word(&reader, &name)) {
            continue;
        }
        if (*count == TORC_KEYS_PRINCIPALS_MAX) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "line %" PRIu32 ": more than %u names",
                             reader.line, TORC_KEYS_PRINCIPALS_MAX);
        }
        err = principal_parse(&principals[*count], &reader, &name, &what);
        if (err == TORC_ERR_OK) {
            err = principals_differ(principals, *count, &what);
        }
        if (err != TORC_ERR_OK) {
            return torc_fail(why, err, "line %" PRIu32 ": %.140s", reader.line, what.text);
        }
        ++*count;
    }
    return err;
}

static void text_add_bytes(struct torc_text *text, const char *from, const char *end)
{
    torc_text_add(text, "%.*s", (int)(end - from), from);
}

void torc_keyfile_edit(struct torc_text *out, const char *text, uint64_t byte_count,
                       const char *name, const struct torc_principal *principal)
{
    struct reader reader = reader_of(text, byte_count);
    bool written = principal == NULL;

    torc_assert_implies(principal != NULL, strcmp(principal->name, name) == 0);
    if (byte_count == 0) {
        torc_text_add(out, "%s\n", TORC_KEYS_FIRST_LINE);
    }
    while (reader_line(&reader)) {
        struct word word;
        bool meant = reader.line > 1 && reader_word(&reader, &word) && word_is(&word, name);

        if (meant && !written) {
            torc_principal_write(out, principal);
            if (reader.words_end < reader.line_end) {
                torc_text_add(out, " ");
                text_add_bytes(out, reader.words_end, reader.line_end);
            }
            torc_text_add(out, "\n");
            written = true;
        } else if (!meant) {
            text_add_bytes(out, reader.line_at, reader.line_end);
            torc_text_add(out, "\n");
        }
    }
    if (!written) {
        torc_principal_write(out, principal);
        torc_text_add(out, "\n");
    }
}

// -- A client's file -----------------------------------------------------------------------------

enum {
    CLIENT_CLUSTER = 1,
    CLIENT_PRINCIPAL = 2,
    CLIENT_KEY = 4,
    CLIENT_ALL = 7
};

static enum torc_err client_line(struct torc_client_key *key, struct reader *reader,
                                 const struct word *word, uint32_t *said, struct torc_fail *why)
{
    static const char *const names[] = {"cluster", "principal", "key"};
    struct word value = {"", 0};
    struct word name = {"", 0};
    uint8_t cluster[8] = {0};
    uint64_t number = 0;
    uint32_t what = 0;

    (void)reader_word(reader, &value); // an empty word is refused below
    for (uint32_t i = 0; i < TORC_COUNT_OF(names); i++) {
        what |= word_is(word, names[i]) ? 1u << i : 0;
    }
    if (what == 0 || (*said & what) != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "lines are cluster, principal and key, each once");
    }
    *said |= what;
    if (what == CLIENT_KEY) {
        return psk_parse(value, &key->psk, why);
    }
    if (what == CLIENT_CLUSTER) {
        if (!word_hex(&value, cluster, sizeof(cluster))) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "a cluster's id has 16 hexadecimal digits");
        }
        for (uint32_t i = 0; i < sizeof(cluster); i++) {
            key->cluster = key->cluster << 8 | cluster[i];
        }
        return TORC_ERR_OK;
    }
    (void)reader_word(reader, &name);
    if (!word_number(&value, TORC_KEYS_NUMBER_MAX, &number) || number == 0 ||
        !name_take(&name, key->name)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "a principal is its number, from 1 to %u, and its name",
                         TORC_KEYS_NUMBER_MAX);
    }
    key->principal = (uint32_t)number;
    return TORC_ERR_OK;
}

enum torc_err torc_client_key_parse(struct torc_client_key *key, const char *text,
                                    uint64_t byte_count, struct torc_fail *why)
{
    struct reader reader = reader_of(text, byte_count);
    enum torc_err err = first_line(&reader, TORC_CLIENT_KEY_FIRST_LINE, why);
    uint32_t said = 0;

    memset(key, 0, sizeof(*key));
    while (err == TORC_ERR_OK && reader_line(&reader)) {
        struct torc_fail what = {0};
        struct word word;
        bool any = reader_word(&reader, &word);

        err = any ? client_line(key, &reader, &word, &said, &what) : TORC_ERR_OK;
        if (err == TORC_ERR_OK && reader_word(&reader, &word)) {
            err = torc_fail(&what, TORC_ERR_INVALID_ARGUMENT, "a word too many");
        }
        if (err != TORC_ERR_OK) {
            return torc_fail(why, err, "line %" PRIu32 ": %.140s", reader.line, what.text);
        }
    }
    if (err == TORC_ERR_OK && said != CLIENT_ALL) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "line %" PRIu32 ": the file ends, and its %s is missing", reader.line,
                        (said & CLIENT_CLUSTER) == 0     ? "cluster"
                        : (said & CLIENT_PRINCIPAL) == 0 ? "principal"
                                                         : "key");
    }
    return err;
}

void torc_client_key_write(struct torc_text *text, const struct torc_client_key *key)
{
    torc_text_add(text, "%s\ncluster %016" PRIx64 "\nprincipal %" PRIu32 " %s\nkey ",
                  TORC_CLIENT_KEY_FIRST_LINE, key->cluster, key->principal, key->name);
    psk_write(text, &key->psk);
    torc_text_add(text, "\n");
}
