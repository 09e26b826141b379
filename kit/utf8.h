// Torc kit: which bytes are UTF-8.
//
// Owner   none: no state. Pure.
// Sources RFC 3629: overlong forms, surrogates and code points over U+10FFFF are none.
#ifndef TORC_KIT_UTF8_H
#define TORC_KIT_UTF8_H

#include "kit/base.h"

// Bytes of the character at bytes[0], or 0 when it is none.
uint32_t torc_utf8_length(const uint8_t *bytes, uint64_t count);

bool torc_utf8_is(const uint8_t *bytes, uint64_t count);

// Puts a question mark for each byte that is no character's, in a text that ends with 0.
void torc_utf8_mend(char *text);

#endif
