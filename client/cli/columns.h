// Torc cli: which columns of a CSV record are key and value.
//
// What    turns a record of csv.h into a key and a value, as `torc load` was told.
// Owner   none: pure functions.
// Rules   columns count from 1. One value column is stored as it is. Several are joined by the
//         separator, and one that holds the separator, the quote, CR or LF is quoted again, so
//         that the value is a CSV record itself. Without --values: all columns but the key's; one
//         at least, for a file that was cut inside a key must not store an empty value.
#ifndef TORC_CLIENT_CLI_COLUMNS_H
#define TORC_CLIENT_CLI_COLUMNS_H

#include "client/cli/csv.h"
#include "client/cli/key.h"

#define TORC_COLUMNS_MAX 64

struct torc_columns {
    uint32_t key; // from 1
    enum torc_key_format key_format;
    uint32_t value_count; // 0: all but the key's
    uint16_t values[TORC_COLUMNS_MAX];
};

// `values` as "2" or "2,3,7"; NULL for all but the key's.
enum torc_err torc_must_use torc_columns_parse(struct torc_columns *columns, uint32_t key,
                                               enum torc_key_format key_format, const char *values,
                                               struct torc_fail *why);

// A separator, quote or comment byte: itself, `tab`, or `none` (TORC_CSV_NONE).
enum torc_err torc_must_use torc_columns_byte(const char *text, const char *what, bool may_be_none,
                                              int *byte, struct torc_fail *why);

struct torc_columns_value {
    uint8_t *memory; // the caller's
    uint32_t capacity;
    uint32_t bytes;
};

// The record at hand as key and value; messages name the line. TOO_LARGE when the value does not
// fit.
enum torc_err torc_must_use torc_columns_take(const struct torc_columns *columns,
                                              const struct torc_csv *csv, uint64_t *key,
                                              struct torc_columns_value *value,
                                              struct torc_fail *why);

#endif
