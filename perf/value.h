// Torc perf: values that tell whether they are right.
//
// What    the bytes of a value follow from its key and a nonce that it carries, so a reader can
//         check an answer without knowing who wrote it last. A value of TORC_VALUE_NAMED_BYTES or
//         more begins with its key (8 bytes of this machine); shorter ones follow from the key.
// Owner   none: pure functions over the caller's bytes.
#ifndef TORC_PERF_VALUE_H
#define TORC_PERF_VALUE_H

#include "kit/base.h"

#define TORC_VALUE_NAMED_BYTES 24u

void torc_value_make(void *value, uint64_t bytes, uint64_t key, uint64_t nonce);

// Whether these bytes are a value of that key and length.
bool torc_value_check(const void *value, uint64_t bytes, uint64_t bytes_expected, uint64_t key);

#endif
