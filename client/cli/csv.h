// Torc cli: a reader of comma-separated files, fed with bytes as they come.
//
// What    records of fields after RFC 4180: a field may stand in quotes, and then hold separators,
//         line ends and doubled quotes; lines end with LF or CR LF. Empty lines, and lines that
//         start with the comment byte, are skipped. A quote inside an unquoted field is an
//         ordinary byte.
// Owner   one thread, the caller's.
// Memory  the caller's buffer holds one record; a longer record is an error that says so.
// Use
//     torc_csv_init(&csv, options, memory, memory_bytes);
//     while ((event = torc_csv_step(&csv, bytes, count, &taken, &why)) == TORC_CSV_RECORD) { … }
//     at the end of the input: torc_csv_end, which may give the last record.
// Invariants
//   V1  The fields of a record lie behind each other in the caller's buffer; ends[] never falls.
//   V2  How the input is cut into pieces does not change the records.
//   V3  After an error nothing more is taken.
// Sources RFC 4180.
#ifndef TORC_CLIENT_CLI_CSV_H
#define TORC_CLIENT_CLI_CSV_H

#include "kit/fail.h"

#define TORC_CSV_FIELDS_MAX 1024
#define TORC_CSV_NONE       (-1) // no quote, or no comment

struct torc_csv_options {
    int separator; // a byte; not the quote, CR or LF
    int quote;     // a byte, or TORC_CSV_NONE
    int comment;   // a byte, or TORC_CSV_NONE
};

enum torc_csv_event {
    TORC_CSV_MORE,   // all bytes taken, no record is complete
    TORC_CSV_RECORD, // fields [0, field_count) are valid until the next call
    TORC_CSV_ERROR
};

enum torc_csv_state {
    TORC_CSV_AT_LINE,     // before the first byte of a line
    TORC_CSV_AT_FIELD,    // before the first byte of a later field
    TORC_CSV_IN_FIELD,    // in an unquoted field
    TORC_CSV_IN_QUOTES,   // between two quotes
    TORC_CSV_AFTER_QUOTE, // a quote inside quotes: the end, or the first of two
    TORC_CSV_AFTER_CR,    // a CR in an unquoted place: LF must follow to be a line end
    TORC_CSV_IN_COMMENT,
    TORC_CSV_FAILED
};

struct torc_csv {
    struct torc_csv_options options;
    enum torc_csv_state state;
    enum torc_csv_state before_cr;
    bool given; // the record was handed out; the next byte starts a new one
    uint8_t *text;
    uint32_t text_capacity;
    uint32_t text_bytes;
    uint32_t field_count;
    uint32_t ends[TORC_CSV_FIELDS_MAX]; // where each field ends in text
    uint64_t line;                      // of the next byte, from 1
    uint64_t record_line;               // where the present record began
};

// INVALID_ARGUMENT when the options contradict each other.
enum torc_err torc_must_use torc_csv_init(struct torc_csv *csv, struct torc_csv_options options,
                                          uint8_t *memory, uint32_t memory_bytes,
                                          struct torc_fail *why);

// Takes bytes up to the end of a record. `*taken` says how many; call again with the rest.
enum torc_csv_event torc_csv_step(struct torc_csv *csv, const uint8_t *bytes, uint64_t count,
                                  uint64_t *taken, struct torc_fail *why);

// No more bytes will come: gives a last record that no line end closed, or MORE when there is none.
enum torc_csv_event torc_csv_end(struct torc_csv *csv, struct torc_fail *why);

// Field `index` < field_count of the record at hand.
static inline const uint8_t *torc_csv_field(const struct torc_csv *csv, uint32_t index,
                                            uint32_t *bytes)
{
    uint32_t start = index == 0 ? 0 : csv->ends[index - 1];

    torc_assert(index < csv->field_count);
    *bytes = csv->ends[index] - start;
    return csv->text + start;
}

#endif
