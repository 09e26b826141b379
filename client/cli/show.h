// Torc cli: how keys and values are written for people and for programs.
//
// What    one pair, one value or one number as a table row, a JSON line, a CSV line or raw bytes.
// Owner   none: pure functions that append to the caller's buffer.
// Memory  torc_show_room says how many bytes one pair can need at most; the caller has them ready.
// Formats
//   table   columns parted by two blanks; in values, bytes that are not printable UTF-8 are
//           written as \n \r \t \\ or \xNN, so that no value can move the cursor or change a
//           terminal.
//   json    one object a line. "value" holds valid UTF-8; any other value is in "value_base64".
//   csv     RFC 4180 with LF: a value that holds the separator, a quote, CR or LF, or is empty,
//           stands in quotes. Bytes are not changed: `torc load` gives the same values back.
//   raw     the value's bytes; in ranges a newline after each.
#ifndef TORC_CLIENT_CLI_SHOW_H
#define TORC_CLIENT_CLI_SHOW_H

#include "client/cli/key.h"

// X(NAME, text)
#define TORC_SHOW_TABLE(X) \
    X(TABLE, "table")      \
    X(JSON, "json")        \
    X(CSV, "csv")          \
    X(RAW, "raw")

enum torc_show_format {
#define X(name, text) TORC_SHOW_##name,
    TORC_SHOW_TABLE(X)
#undef X
};

struct torc_show {
    enum torc_show_format format;
    enum torc_key_format key_format;
    uint32_t key_columns; // of the table; 0: as wide as the key
    char separator;       // of csv
    bool keys_only;
    bool versions;
};

struct torc_show_pair {
    uint64_t key;
    uint64_t version;
    const uint8_t *value;
    uint32_t value_bytes;
};

enum torc_err torc_must_use torc_show_format_parse(const char *text, enum torc_show_format *format,
                                                   struct torc_fail *why);

// Most bytes that torc_show_pair, torc_show_value or torc_show_text writes for a value of that
// size.
static inline uint64_t torc_show_room(uint64_t value_bytes)
{
    return 6 * value_bytes + 256;
}

// A pair as one line. Returns the bytes written, no end is added.
uint64_t torc_show_pair(const struct torc_show *show, const struct torc_show_pair *pair,
                        uint8_t *text, uint64_t text_bytes);

// The answer of a get of one key: the value alone, with a newline except in raw.
uint64_t torc_show_value(const struct torc_show *show, const struct torc_show_pair *pair,
                         uint8_t *text, uint64_t text_bytes);

// Bytes as a table shows them.
uint64_t torc_show_text(const uint8_t *bytes, uint64_t count, uint8_t *text, uint64_t text_bytes);

#endif
