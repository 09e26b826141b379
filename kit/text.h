// Torc kit: a text that is written piece by piece into a caller's room.
//
// What    torc_text_add is printf at the text's end. What does not fit is left out; `used` says
//         what the whole would have taken: above `room`, it was cut. Without any room it only
//         counts.
// Memory  the caller's: room + 1 bytes, for the end.
#ifndef TORC_KIT_TEXT_H
#define TORC_KIT_TEXT_H

#include "kit/base.h"

#include <stdarg.h>
#include <stdio.h>

struct torc_text {
    char *bytes;   // may be NULL while room is 0
    uint64_t room; // without the end
    uint64_t used; // what would have been written, had it fitted
};

static inline void torc_printf_like(2, 3)
    torc_text_add(struct torc_text *text, const char *format, ...)
{
    uint64_t left = text->used < text->room ? text->room - text->used : 0;
    va_list arguments;
    int bytes;

    va_start(arguments, format);
    bytes = vsnprintf(left > 0 ? text->bytes + text->used : NULL, left > 0 ? left + 1 : 0, format,
                      arguments);
    va_end(arguments);
    torc_assert(bytes >= 0);
    text->used += (uint64_t)bytes;
}

// What is there now.
static inline uint64_t torc_text_bytes(const struct torc_text *text)
{
    return text->used < text->room ? text->used : text->room;
}

#endif
