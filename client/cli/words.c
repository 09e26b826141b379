// Torc cli: see words.h.
#include "client/cli/words.h"

#include <string.h>

struct words_at {
    const char *line; // what is left
    uint32_t used;    // of text
};

static void words_keep(struct torc_words *words, struct words_at *at, char byte)
{
    torc_assert(at->used < sizeof(words->text));
    words->text[at->used++] = byte;
}

// From the opening quote to behind the closing one.
static enum torc_err words_quoted(struct torc_words *words, struct words_at *at,
                                  struct torc_fail *why)
{
    char quote = *at->line++;

    while (*at->line != quote) {
        if (quote == '"' && at->line[0] == '\\' && (at->line[1] == '"' || at->line[1] == '\\')) {
            at->line++;
        }
        if (*at->line == '\0') {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "a %c has no partner", quote);
        }
        words_keep(words, at, *at->line++);
    }
    at->line++;
    return TORC_ERR_OK;
}

static enum torc_err words_one(struct torc_words *words, struct words_at *at, struct torc_fail *why)
{
    words->words[words->count++] = words->text + at->used;
    while (*at->line != '\0' && strchr(" \t\r\n", *at->line) == NULL) {
        if (*at->line == '\'' || *at->line == '"') {
            enum torc_err err = words_quoted(words, at, why);

            if (err != TORC_ERR_OK) {
                return err;
            }
        } else {
            if (at->line[0] == '\\' && at->line[1] != '\0') {
                at->line++;
            }
            words_keep(words, at, *at->line++);
        }
    }
    words_keep(words, at, '\0');
    return TORC_ERR_OK;
}

enum torc_err torc_words_split(struct torc_words *words, const char *line, struct torc_fail *why)
{
    struct words_at at = {line, 0};

    words->count = 0;
    if (strnlen(line, TORC_WORDS_LINE_BYTES + 1) > TORC_WORDS_LINE_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "the line is over %u bytes",
                         TORC_WORDS_LINE_BYTES);
    }
    for (;;) {
        enum torc_err err;

        at.line += strspn(at.line, " \t\r\n");
        if (*at.line == '\0' || *at.line == '#') {
            return TORC_ERR_OK;
        }
        if (words->count == TORC_WORDS_MAX) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "more than %d words", TORC_WORDS_MAX);
        }
        err = words_one(words, &at, why);
        if (err != TORC_ERR_OK) {
            return err;
        }
    }
}
