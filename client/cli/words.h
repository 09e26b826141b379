// Torc cli: a typed line of the interactive shell as words.
//
// What    words parted by blanks; '…' holds all bytes as they are, "…" the same but for \" and \\;
//         outside quotes a backslash takes the next byte as it is. A # at the start of a word ends
//         the line.
// Owner   none: a pure function.
// Memory  the words lie inside struct torc_words, each ended by a zero byte.
#ifndef TORC_CLIENT_CLI_WORDS_H
#define TORC_CLIENT_CLI_WORDS_H

#include "kit/fail.h"

#define TORC_WORDS_MAX        64
#define TORC_WORDS_LINE_BYTES (64u << 10)

struct torc_words {
    uint32_t count;
    const char *words[TORC_WORDS_MAX]; // into text
    char text[TORC_WORDS_LINE_BYTES + TORC_WORDS_MAX];
};

// INVALID_ARGUMENT for an open quote, too many words, or a line over TORC_WORDS_LINE_BYTES.
enum torc_err torc_must_use torc_words_split(struct torc_words *words, const char *line,
                                             struct torc_fail *why);

#endif
