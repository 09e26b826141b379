// Torc control: base64 (RFC 4648, section 4), as etcd's JSON has it.
//
// Owner   none: pure functions over the caller's bytes.
#ifndef TORC_CONTROL_BASE64_H
#define TORC_CONTROL_BASE64_H

#include "kit/base.h"

// Bytes of the text of so many bytes, its zero included.
#define TORC_BASE64_BYTES(bytes) (((bytes) + 2) / 3 * 4 + 1)

void torc_base64_encode(char *text, const void *bytes, uint64_t byte_count);

// At most text_bytes / 4 * 3 bytes into `bytes`; false: it is no base64.
bool torc_must_use torc_base64_decode(unsigned char *bytes, uint64_t *byte_count, const char *text,
                                      uint64_t text_bytes);

#endif
