// Torc cli: see columns.h.
#include "client/cli/columns.h"

#include <string.h>

enum torc_err torc_columns_byte(const char *text, const char *what, bool may_be_none, int *byte,
                                struct torc_fail *why)
{
    if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0) {
        *byte = '\t';
        return TORC_ERR_OK;
    }
    if (may_be_none && strcmp(text, "none") == 0) {
        *byte = TORC_CSV_NONE;
        return TORC_ERR_OK;
    }
    if (strlen(text) != 1) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s %.20s: one byte, or tab%s", what, text,
                         may_be_none ? ", or none" : "");
    }
    *byte = (uint8_t)text[0];
    return TORC_ERR_OK;
}

static enum torc_err columns_bad_values(const char *values, struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "--values %.40s: columns from 1 to %d, joined by commas, at most %d", values,
                     TORC_CSV_FIELDS_MAX, TORC_COLUMNS_MAX);
}

enum torc_err torc_columns_parse(struct torc_columns *columns, uint32_t key,
                                 enum torc_key_format key_format, const char *values,
                                 struct torc_fail *why)
{
    const char *rest = values;

    memset(columns, 0, sizeof(*columns));
    torc_assert(key >= 1);
    columns->key = key;
    columns->key_format = key_format;
    while (rest != NULL) {
        size_t bytes = strcspn(rest, ",");
        uint64_t column = 0;

        if (columns->value_count == TORC_COLUMNS_MAX || strspn(rest, "0123456789") != bytes ||
            torc_key_parse(rest, bytes, TORC_KEY_DEC, "", &column, NULL) != TORC_ERR_OK ||
            column < 1 || column > TORC_CSV_FIELDS_MAX) {
            return columns_bad_values(values, why);
        }
        columns->values[columns->value_count++] = (uint16_t)column;
        rest = rest[bytes] == ',' ? rest + bytes + 1 : NULL;
    }
    return TORC_ERR_OK;
}

static bool columns_put(struct torc_columns_value *value, int byte)
{
    if (value->bytes == value->capacity) {
        return false;
    }
    value->memory[value->bytes++] = (uint8_t)byte;
    return true;
}

// A column of a joined value, quoted when it could not be told from two columns otherwise.
static bool columns_join(struct torc_columns_value *value, const struct torc_csv_options *options,
                         const uint8_t *field, uint32_t bytes)
{
    bool fits = true;
    bool quotes = false;

    for (uint32_t i = 0; i < bytes && options->quote != TORC_CSV_NONE; i++) {
        quotes = quotes || field[i] == options->separator || field[i] == options->quote ||
                 field[i] == '\n' || field[i] == '\r';
    }
    fits = !quotes || columns_put(value, options->quote);
    for (uint32_t i = 0; i < bytes && fits; i++) {
        fits = (!quotes || field[i] != options->quote || columns_put(value, options->quote)) &&
               columns_put(value, field[i]);
    }
    return fits && (!quotes || columns_put(value, options->quote));
}

static bool columns_copy(struct torc_columns_value *value, const uint8_t *field, uint32_t bytes)
{
    if (bytes > value->capacity) {
        return false;
    }
    if (bytes > 0) {
        memcpy(value->memory, field, bytes);
    }
    value->bytes = bytes;
    return true;
}

// The columns that make the value of this record; when none were named, all but the key's.
static uint32_t columns_chosen(const struct torc_columns *columns, const struct torc_csv *csv,
                               uint16_t *chosen)
{
    uint32_t count = 0;

    if (columns->value_count > 0) {
        memcpy(chosen, columns->values, columns->value_count * sizeof(chosen[0]));
        return columns->value_count;
    }
    for (uint32_t column = 1; column <= csv->field_count; column++) {
        if (column != columns->key) {
            chosen[count++] = (uint16_t)column;
        }
    }
    return count;
}

static enum torc_err columns_missing(const struct torc_csv *csv, uint32_t column,
                                     struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "line %" PRIu64 " has %" PRIu32 " column%s, no column %" PRIu32,
                     csv->record_line, csv->field_count, csv->field_count == 1 ? "" : "s", column);
}

static enum torc_err columns_key(const struct torc_columns *columns, const struct torc_csv *csv,
                                 uint64_t *key, struct torc_fail *why)
{
    char what[40];
    uint32_t bytes = 0;
    const uint8_t *field;

    if (columns->key > csv->field_count) {
        return columns_missing(csv, columns->key, why);
    }
    field = torc_csv_field(csv, columns->key - 1, &bytes);
    (void)snprintf(what, sizeof(what), "line %" PRIu64 ": key", csv->record_line);
    return torc_key_parse((const char *)field, bytes, columns->key_format, what, key, why);
}

enum torc_err torc_columns_take(const struct torc_columns *columns, const struct torc_csv *csv,
                                uint64_t *key, struct torc_columns_value *value,
                                struct torc_fail *why)
{
    uint16_t chosen[TORC_CSV_FIELDS_MAX];
    uint32_t count = columns_chosen(columns, csv, chosen);
    enum torc_err err = columns_key(columns, csv, key, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (count == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "line %" PRIu64 " has a key and no value: an empty one is written \"%c\" "
                         "behind the key",
                         csv->record_line, (char)csv->options.separator);
    }
    value->bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bytes = 0;
        const uint8_t *field;
        bool fits;

        if (chosen[i] > csv->field_count) {
            return columns_missing(csv, chosen[i], why);
        }
        field = torc_csv_field(csv, chosen[i] - 1u, &bytes);
        fits = count == 1 ? columns_copy(value, field, bytes)
                          : (i == 0 || columns_put(value, csv->options.separator)) &&
                                columns_join(value, &csv->options, field, bytes);
        if (!fits) {
            return torc_fail(why, TORC_ERR_TOO_LARGE,
                             "line %" PRIu64 ": the value is over %" PRIu32 " bytes",
                             csv->record_line, value->capacity);
        }
    }
    return TORC_ERR_OK;
}
