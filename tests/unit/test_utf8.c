// Torc tests: which bytes are UTF-8, beside a decoder that is as plain as RFC 3629's table.
#include "kit/utf8.h"
#include "tests/torc_test.h"

#include <string.h>

// Bytes of the first character, by what they would be encoded as again; 0: none.
static uint32_t plain_length(const uint8_t *bytes, uint64_t count)
{
    static const struct {
        uint32_t from;
        uint32_t to;
        uint32_t length;
        uint8_t mark;
    } rows[] = {{0, 0x7f, 1, 0},
                {0x80, 0x7ff, 2, 0xc0},
                {0x800, 0xd7ff, 3, 0xe0},
                {0xe000, 0xffff, 3, 0xe0},
                {0x10000, 0x10ffff, 4, 0xf0}};

    for (uint32_t row = 0; row < TORC_COUNT_OF(rows); row++) {
        uint32_t length = rows[row].length;
        uint32_t code = length == 1 ? bytes[0] : bytes[0] & (0x7fu >> length);
        uint8_t again[4] = {0};

        for (uint32_t i = 1; i < length && i < count; i++) {
            code = code << 6 | (bytes[i] & 0x3f);
        }
        again[0] = (uint8_t)(rows[row].mark | code >> 6 * (length - 1));
        for (uint32_t i = 1; i < TORC_COUNT_OF(again); i++) {
            uint32_t bits = i < length ? 0x80u | (code >> 6 * (length - 1 - i) & 0x3fu) : 0;

            again[i] = (uint8_t)bits;
        }
        if (length <= count && code >= rows[row].from && code <= rows[row].to &&
            memcmp(again, bytes, length) == 0) {
            return length;
        }
    }
    return 0;
}

// Bytes from the edges of the table.
static uint8_t odd_byte(struct torc_rng *rng)
{
    static const uint8_t odd[] = {'a',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
                                  0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf3, 0xf4, 0xf5};

    return odd[torc_rng_below(rng, TORC_COUNT_OF(odd))];
}

static void characters_are_those_of_the_table(void)
{
    struct torc_rng rng = {.state = torc_test_seed()};
    uint32_t lengths[5] = {0};

    for (uint32_t i = 0; i < 400000; i++) {
        uint64_t count = 1 + torc_rng_below(&rng, 4);
        uint8_t bytes[4] = {0};

        for (uint64_t k = 0; k < count; k++) {
            bytes[k] = odd_byte(&rng);
        }
        CU_ASSERT_EQUAL_FATAL(torc_utf8_length(bytes, count), plain_length(bytes, count));
        lengths[plain_length(bytes, count)]++;
    }
    for (uint32_t length = 0; length < TORC_COUNT_OF(lengths); length++) {
        CU_ASSERT_TRUE(lengths[length] > 100);
    }
    CU_ASSERT_EQUAL(torc_utf8_length((const uint8_t *)"", 0), 0);
}

// A mended text is one, as long as before, and has all characters that it had.
static void what_is_mended_is_text(void)
{
    struct torc_rng rng = {.state = torc_test_seed() + 1};

    for (uint32_t i = 0; i < 20000; i++) {
        char text[17] = {0};
        char mended[17];
        uint64_t count = torc_rng_below(&rng, 17);

        for (uint64_t k = 0; k < count; k++) {
            text[k] = (char)odd_byte(&rng);
        }
        memcpy(mended, text, sizeof(text));
        torc_utf8_mend(mended);
        CU_ASSERT_EQUAL(strlen(mended), count);
        CU_ASSERT_TRUE(torc_utf8_is((const uint8_t *)mended, count));
        for (uint64_t k = 0; k < count; k++) {
            CU_ASSERT_TRUE(mended[k] == text[k] || mended[k] == '?');
        }
        CU_ASSERT_EQUAL(strcmp(mended, text) == 0, torc_utf8_is((const uint8_t *)text, count));
    }
}

static void a_text_that_was_cut_is_mended(void)
{
    char text[] = "/srv/d\xc3\xa9p\xc3";

    torc_utf8_mend(text);
    CU_ASSERT_STRING_EQUAL(text, "/srv/d\xc3\xa9p?");
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"characters are those of the table", characters_are_those_of_the_table},
        {"what is mended is text", what_is_mended_is_text},
        {"a text that was cut is mended", a_text_that_was_cut_is_mended},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("utf8", tests);
}
