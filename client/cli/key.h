// Torc cli: keys and numbers as people write them.
//
// What    a key in decimal, hexadecimal or as a dotted quad, and back to text.
// Owner   none: pure functions.
// Rules   the whole text must be the number; a sign, a blank or a digit too much is an error that
//         names the text. DEC also takes 0x…, HEX takes its digits with or without 0x, IP only
//         a.b.c.d.
#ifndef TORC_CLIENT_CLI_KEY_H
#define TORC_CLIENT_CLI_KEY_H

#include "kit/fail.h"

#define TORC_KEY_TEXT_BYTES 24 // 2^64 - 1 in any format, and the end

// X(NAME, text, help)
#define TORC_KEY_FORMAT_TABLE(X)            \
    X(DEC, "dec", "decimal, or 0x…")        \
    X(HEX, "hex", "hexadecimal, 0x or not") \
    X(IP, "ip", "dotted quad, a.b.c.d")

enum torc_key_format {
#define X(name, text, help) TORC_KEY_##name,
    TORC_KEY_FORMAT_TABLE(X)
#undef X
};

enum torc_err torc_must_use torc_key_format_parse(const char *text, enum torc_key_format *format,
                                                  struct torc_fail *why);

// `text` need not end with a zero byte. `what` names the argument in the message.
enum torc_err torc_must_use torc_key_parse(const char *text, uint64_t text_bytes,
                                           enum torc_key_format format, const char *what,
                                           uint64_t *key, struct torc_fail *why);

// Returns the length. IP needs key < 2^32 and falls back to decimal above it.
uint32_t torc_key_show(uint64_t key, enum torc_key_format format, char text[TORC_KEY_TEXT_BYTES]);

// A time: `5s`, `200ms`, `3m`; a bare number is seconds. Up to a day.
enum torc_err torc_must_use torc_duration_parse(const char *text, const char *what, uint64_t *ns,
                                                struct torc_fail *why);

#endif
