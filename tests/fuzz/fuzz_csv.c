// Torc tests: any bytes as a CSV file: whole and in pieces, the records must be the same (V2 of
// csv.h).
#include "client/cli/columns.h"
#include "client/cli/csv.h"
#include "kit/crc32c.h"

#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MEMORY_BYTES = 40 // small, so that records too long are met
};

struct reading {
    uint32_t records;
    uint32_t digest; // of all fields, with their bounds
    bool failed;
};

static void take_record(struct reading *reading, const struct torc_csv *csv)
{
    struct torc_columns columns = {.key = 1, .key_format = TORC_KEY_DEC};
    uint8_t memory[MEMORY_BYTES];
    struct torc_columns_value value = {memory, sizeof(memory), 0};
    uint64_t key = 0;

    reading->records++;
    for (uint32_t i = 0; i < csv->field_count; i++) {
        uint32_t bytes = 0;
        const uint8_t *field = torc_csv_field(csv, i, &bytes);

        reading->digest = torc_crc32c(reading->digest, &bytes, sizeof(bytes));
        reading->digest = torc_crc32c(reading->digest, field, bytes);
    }
    (void)!torc_columns_take(&columns, csv, &key, &value, NULL);
}

static struct reading read_all(struct torc_csv_options options, const uint8_t *data, size_t size,
                               size_t piece)
{
    uint8_t memory[MEMORY_BYTES];
    struct torc_csv csv;
    struct reading reading = {0};
    size_t at = 0;

    if (torc_csv_init(&csv, options, memory, sizeof(memory), NULL) != TORC_ERR_OK) {
        return reading;
    }
    while (at < size && !reading.failed) {
        uint64_t taken = 0;
        size_t count = size - at < piece ? size - at : piece;
        enum torc_csv_event event = torc_csv_step(&csv, data + at, count, &taken, NULL);

        torc_assert(taken <= count);
        torc_assert_implies(event == TORC_CSV_MORE, taken == count);
        at += taken;
        reading.failed = event == TORC_CSV_ERROR;
        if (event == TORC_CSV_RECORD) {
            take_record(&reading, &csv);
        }
    }
    if (!reading.failed) {
        enum torc_csv_event event = torc_csv_end(&csv, NULL);

        reading.failed = event == TORC_CSV_ERROR;
        if (event == TORC_CSV_RECORD) {
            take_record(&reading, &csv);
        }
    }
    return reading;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_csv_options options = {',', '"', '#'};
    struct reading whole;
    struct reading pieces;

    if (size < 1) {
        return 0;
    }
    if ((data[0] & 1) != 0) {
        options = (struct torc_csv_options){1, 2, 3}; // bytes that the seeded driver makes often
    }
    if ((data[0] & 2) != 0) {
        options.quote = TORC_CSV_NONE;
    }
    whole = read_all(options, data + 1, size - 1, size);
    pieces = read_all(options, data + 1, size - 1, 1 + (data[0] >> 4));
    torc_assert(whole.records == pieces.records);
    torc_assert(whole.digest == pieces.digest);
    torc_assert(whole.failed == pieces.failed);
    return 0;
}
