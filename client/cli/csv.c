// Torc cli: see csv.h.
#include "client/cli/csv.h"

#include <string.h>

enum torc_err torc_csv_init(struct torc_csv *csv, struct torc_csv_options options, uint8_t *memory,
                            uint32_t memory_bytes, struct torc_fail *why)
{
    if (options.separator < 0 || options.separator > UINT8_MAX || options.separator == '\n' ||
        options.separator == '\r') {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "separator %d: one byte, not a line end",
                         options.separator);
    }
    if (options.quote == options.separator) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "separator and quote are the same byte '%c'", (char)options.separator);
    }
    if (options.comment == options.separator) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "separator and comment are the same byte '%c': give --comment none",
                         (char)options.separator);
    }
    memset(csv, 0, sizeof(*csv));
    csv->options = options;
    csv->state = TORC_CSV_AT_LINE;
    csv->text = memory;
    csv->text_capacity = memory_bytes;
    csv->line = 1;
    csv->record_line = 1;
    return TORC_ERR_OK;
}

static bool csv_append(struct torc_csv *csv, uint8_t byte, struct torc_fail *why)
{
    if (csv->text_bytes == csv->text_capacity) {
        (void)torc_fail(why, TORC_ERR_TOO_LARGE,
                        "line %" PRIu64 ": the record is over %" PRIu32
                        " bytes; is a quote left open?",
                        csv->record_line, csv->text_capacity);
        return false;
    }
    csv->text[csv->text_bytes++] = byte;
    return true;
}

static bool csv_close_field(struct torc_csv *csv, struct torc_fail *why)
{
    if (csv->field_count == TORC_CSV_FIELDS_MAX) {
        (void)torc_fail(why, TORC_ERR_TOO_LARGE, "line %" PRIu64 ": more than %d fields",
                        csv->record_line, TORC_CSV_FIELDS_MAX);
        return false;
    }
    csv->ends[csv->field_count++] = csv->text_bytes;
    return true;
}

// A byte where a field may begin; `first` says that it is also the first of its line.
static bool csv_begin(struct torc_csv *csv, uint8_t byte, bool first, struct torc_fail *why)
{
    if (first && byte == csv->options.comment) {
        csv->state = TORC_CSV_IN_COMMENT;
        return true;
    }
    if (byte == csv->options.quote) {
        csv->state = TORC_CSV_IN_QUOTES;
        return true;
    }
    if (byte == csv->options.separator) {
        csv->state = TORC_CSV_AT_FIELD;
        return csv_close_field(csv, why);
    }
    csv->state = TORC_CSV_IN_FIELD;
    return csv_append(csv, byte, why);
}

static bool csv_in_field(struct torc_csv *csv, uint8_t byte, struct torc_fail *why)
{
    if (byte == csv->options.separator) {
        csv->state = TORC_CSV_AT_FIELD;
        return csv_close_field(csv, why);
    }
    return csv_append(csv, byte, why);
}

static bool csv_after_quote(struct torc_csv *csv, uint8_t byte, struct torc_fail *why)
{
    if (byte == csv->options.quote) {
        csv->state = TORC_CSV_IN_QUOTES;
        return csv_append(csv, byte, why);
    }
    if (byte == csv->options.separator) {
        csv->state = TORC_CSV_AT_FIELD;
        return csv_close_field(csv, why);
    }
    (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                    "line %" PRIu64 ": field %" PRIu32 " goes on after its closing quote",
                    csv->line, csv->field_count + 1);
    return false;
}

static bool csv_in_quotes(struct torc_csv *csv, uint8_t byte, struct torc_fail *why)
{
    if (byte == csv->options.quote) {
        csv->state = TORC_CSV_AFTER_QUOTE;
        return true;
    }
    return csv_append(csv, byte, why);
}

// One byte that ends no line.
static bool csv_byte(struct torc_csv *csv, uint8_t byte, struct torc_fail *why)
{
    switch (csv->state) {
    case TORC_CSV_AT_LINE: csv->record_line = csv->line; return csv_begin(csv, byte, true, why);
    case TORC_CSV_AT_FIELD: return csv_begin(csv, byte, false, why);
    case TORC_CSV_IN_FIELD: return csv_in_field(csv, byte, why);
    case TORC_CSV_IN_QUOTES: return csv_in_quotes(csv, byte, why);
    case TORC_CSV_AFTER_QUOTE: return csv_after_quote(csv, byte, why);
    case TORC_CSV_IN_COMMENT: return true;
    case TORC_CSV_AFTER_CR:
    case TORC_CSV_FAILED: break;
    }
    torc_unreachable("a carriage return is resolved first, and a failed reader takes no bytes");
}

// A line end outside quotes. True when it closes a record.
static bool csv_line_end(struct torc_csv *csv, bool *record, struct torc_fail *why)
{
    bool empty = csv->state == TORC_CSV_AT_LINE || csv->state == TORC_CSV_IN_COMMENT;

    csv->state = TORC_CSV_AT_LINE;
    *record = !empty;
    return empty || csv_close_field(csv, why);
}

// The byte after a CR. Anything but LF makes the CR an ordinary byte of what came before.
static bool csv_resolve_cr(struct torc_csv *csv, uint8_t byte, struct torc_fail *why)
{
    csv->state = csv->before_cr;
    return byte == '\n' || csv_byte(csv, '\r', why);
}

static bool csv_take(struct torc_csv *csv, uint8_t byte, bool *record, struct torc_fail *why)
{
    if (csv->state == TORC_CSV_AFTER_CR && !csv_resolve_cr(csv, byte, why)) {
        return false;
    }
    if (csv->state == TORC_CSV_IN_QUOTES) {
        return csv_byte(csv, byte, why);
    }
    if (byte == '\n') {
        return csv_line_end(csv, record, why);
    }
    if (byte == '\r') {
        csv->before_cr = csv->state;
        csv->state = TORC_CSV_AFTER_CR;
        return true;
    }
    return csv_byte(csv, byte, why);
}

static void csv_forget(struct torc_csv *csv)
{
    if (csv->given) {
        csv->given = false;
        csv->text_bytes = 0;
        csv->field_count = 0;
    }
}

enum torc_csv_event torc_csv_step(struct torc_csv *csv, const uint8_t *bytes, uint64_t count,
                                  uint64_t *taken, struct torc_fail *why)
{
    *taken = 0;
    if (csv->state == TORC_CSV_FAILED) {
        (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "line %" PRIu64 ": reading ended here",
                        csv->line);
        return TORC_CSV_ERROR;
    }
    csv_forget(csv);
    for (uint64_t i = 0; i < count; i++) {
        bool record = false;

        if (!csv_take(csv, bytes[i], &record, why)) {
            csv->state = TORC_CSV_FAILED;
            *taken = i;
            return TORC_CSV_ERROR;
        }
        if (bytes[i] == '\n') {
            csv->line++;
        }
        if (record) {
            csv->given = true;
            *taken = i + 1;
            return TORC_CSV_RECORD;
        }
    }
    *taken = count;
    return TORC_CSV_MORE;
}

enum torc_csv_event torc_csv_end(struct torc_csv *csv, struct torc_fail *why)
{
    bool record = false;

    csv_forget(csv);
    if (csv->state == TORC_CSV_FAILED || csv->state == TORC_CSV_IN_QUOTES) {
        (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "line %" PRIu64 ": the file ends inside quotes that opened here",
                        csv->record_line);
        csv->state = TORC_CSV_FAILED;
        return TORC_CSV_ERROR;
    }
    // A CR at the very end is taken as a line end.
    if (csv->state == TORC_CSV_AFTER_CR) {
        csv->state = csv->before_cr;
    }
    if (!csv_line_end(csv, &record, why)) {
        csv->state = TORC_CSV_FAILED;
        return TORC_CSV_ERROR;
    }
    csv->given = record;
    return record ? TORC_CSV_RECORD : TORC_CSV_MORE;
}
