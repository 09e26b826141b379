// Torc tests: csv.h against random tables: written as RFC 4180 says, read back in random pieces.
//
// The oracle is the table itself. Its sibling run reads with a reader that takes doubled quotes for
// one field's end (a planted fault), and must find it.
#include "client/cli/csv.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    RECORDS_MAX = 20,
    FIELDS_MAX = 6,
    FIELD_BYTES_MAX = 12,
    TEXT_BYTES = RECORDS_MAX * (FIELDS_MAX * (2 * FIELD_BYTES_MAX + 3) + 40)
};

struct field {
    uint32_t bytes;
    uint8_t text[FIELD_BYTES_MAX];
};

struct table {
    uint32_t record_count;
    uint32_t field_counts[RECORDS_MAX];
    struct field fields[RECORDS_MAX][FIELDS_MAX];
    uint64_t lines[RECORDS_MAX];
    uint32_t text_bytes;
    uint8_t text[TEXT_BYTES];
};

static void put_byte(struct table *table, char byte)
{
    torc_assert(table->text_bytes < TEXT_BYTES);
    table->text[table->text_bytes++] = (uint8_t)byte;
}

static void put_field(struct table *table, struct torc_rng *rng, const struct field *field,
                      bool first)
{
    bool quotes = torc_rng_below(rng, 3) == 0 || (first && field->bytes == 0);

    for (uint32_t i = 0; i < field->bytes; i++) {
        char byte = (char)field->text[i];

        quotes =
            quotes || byte == ',' || byte == '"' || byte == '\r' || byte == '\n' || byte == '#';
    }
    if (quotes) {
        put_byte(table, '"');
    }
    for (uint32_t i = 0; i < field->bytes; i++) {
        if (field->text[i] == '"') {
            put_byte(table, '"');
        }
        put_byte(table, (char)field->text[i]);
    }
    if (quotes) {
        put_byte(table, '"');
    }
}

static uint64_t count_lines(const struct table *table)
{
    uint64_t lines = 1;

    for (uint32_t i = 0; i < table->text_bytes; i++) {
        lines += table->text[i] == '\n' ? 1 : 0;
    }
    return lines;
}

static void put_noise(struct table *table, struct torc_rng *rng)
{
    if (torc_rng_below(rng, 6) == 0) {
        put_byte(table, '\n');
    }
    if (torc_rng_below(rng, 6) == 0) {
        put_byte(table, '#');
        put_byte(table, '"');
        put_byte(table, ',');
        put_byte(table, '\n');
    }
}

static void make_table(struct table *table, struct torc_rng *rng)
{
    static const char letters[] = "ab,\"\r\n# \xff";

    table->text_bytes = 0;
    table->record_count = (uint32_t)torc_rng_below(rng, RECORDS_MAX + 1);
    for (uint32_t r = 0; r < table->record_count; r++) {
        uint32_t fields = 1 + (uint32_t)torc_rng_below(rng, FIELDS_MAX);

        put_noise(table, rng);
        table->lines[r] = count_lines(table);
        table->field_counts[r] = fields;
        for (uint32_t f = 0; f < fields; f++) {
            struct field *field = &table->fields[r][f];

            field->bytes = (uint32_t)torc_rng_below(rng, FIELD_BYTES_MAX + 1);
            for (uint32_t i = 0; i < field->bytes; i++) {
                field->text[i] = (uint8_t)letters[torc_rng_below(rng, sizeof(letters) - 1)];
            }
            if (f > 0) {
                put_byte(table, ',');
            }
            put_field(table, rng, field, f == 0);
        }
        if (r + 1 < table->record_count || torc_rng_below(rng, 2) == 0) {
            if (torc_rng_below(rng, 2) == 0) {
                put_byte(table, '\r');
            }
            put_byte(table, '\n');
        }
    }
}

static bool same_record(const struct table *table, uint32_t r, const struct torc_csv *csv)
{
    if (r >= table->record_count || csv->field_count != table->field_counts[r] ||
        csv->record_line != table->lines[r]) {
        return false;
    }
    for (uint32_t f = 0; f < csv->field_count; f++) {
        uint32_t bytes = 0;
        const uint8_t *text = torc_csv_field(csv, f, &bytes);

        if (bytes != table->fields[r][f].bytes ||
            (bytes > 0 && memcmp(text, table->fields[r][f].text, bytes) != 0)) {
            return false;
        }
    }
    return true;
}

// Reads the table's text in random pieces. True when all records came back.
static bool read_back(const struct table *table, struct torc_rng *rng, bool fault)
{
    static uint8_t memory[FIELDS_MAX * FIELD_BYTES_MAX];
    struct torc_csv_options options = {',', '"', '#'};
    struct torc_csv csv;
    uint32_t at = 0;
    uint32_t records = 0;
    struct torc_fail why;

    TORC_TEST_OK(torc_csv_init(&csv, options, memory, sizeof(memory), &why), &why);
    while (at < table->text_bytes) {
        uint64_t piece = 1 + torc_rng_below(rng, table->text_bytes - at);
        uint64_t taken = 0;
        enum torc_csv_event event = torc_csv_step(&csv, table->text + at, piece, &taken, &why);

        at += (uint32_t)taken;
        if (event == TORC_CSV_ERROR ||
            (event == TORC_CSV_RECORD && !same_record(table, records++, &csv))) {
            return false;
        }
        if (fault && csv.state == TORC_CSV_AFTER_QUOTE) {
            csv.state = TORC_CSV_IN_FIELD; // as if a quote always ended the quoting
        }
    }
    if (torc_csv_end(&csv, &why) == TORC_CSV_RECORD && !same_record(table, records++, &csv)) {
        return false;
    }
    return records == table->record_count;
}

static uint32_t rounds(void)
{
    const char *text = getenv("TORC_TEST_OPS"); // NOLINT(concurrency-mt-unsafe): one thread

    return text == NULL ? 20000 : (uint32_t)(strtoull(text, NULL, 10) / 50);
}

static void test_tables_come_back(void)
{
    static struct table table;
    struct torc_rng rng = {torc_test_seed()};

    for (uint32_t round = 0, count = rounds(); round < count; round++) {
        make_table(&table, &rng);
        if (!read_back(&table, &rng, false)) {
            (void)fprintf(stderr, "round %u: %.*s\n", round, (int)table.text_bytes,
                          (const char *)table.text);
            CU_FAIL_FATAL("a table did not come back");
        }
    }
}

static void test_a_planted_fault_is_found(void)
{
    static struct table table;
    struct torc_rng rng = {torc_test_seed()};
    uint32_t found = 0;

    for (uint32_t round = 0; round < 1000; round++) {
        make_table(&table, &rng);
        found += read_back(&table, &rng, true) ? 0 : 1;
    }
    CU_ASSERT_TRUE(found > 0);
}

int main(void)
{
    CU_TestInfo tests[] = {{"tables come back, however they are cut", test_tables_come_back},
                           {"a planted fault is found", test_a_planted_fault_is_found},
                           CU_TEST_INFO_NULL};

    return torc_test_run("csv", tests);
}
