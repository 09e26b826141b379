// Torc perf: values that tell whether they are right; see value.h.
#include "perf/value.h"

#include "kit/rng.h"

#include <string.h>

// Writes what `value` should be to `to`, or compares; true when all is as it should be.
static bool value_walk(const unsigned char *value, unsigned char *to, uint64_t bytes, uint64_t key,
                       uint64_t nonce)
{
    struct torc_rng rng = {.state = key ^ nonce * 0x9e3779b97f4a7c15u};
    uint64_t done = 0;

    torc_assert((to == NULL) != (value == NULL));
    if (bytes >= TORC_VALUE_NAMED_BYTES) {
        uint64_t head[2] = {key, nonce};

        if (to != NULL) {
            memcpy(to, head, sizeof(head));
        } else if (memcmp(value, head, sizeof(head)) != 0) {
            return false;
        }
        done = sizeof(head);
    }
    while (done < bytes) {
        uint64_t word = torc_rng_next(&rng);
        uint64_t part = torc_min_u64(sizeof(word), bytes - done);

        if (to != NULL) {
            memcpy(to + done, &word, part);
        } else if (memcmp(value + done, &word, part) != 0) {
            return false;
        }
        done += part;
    }
    return true;
}

void torc_value_make(void *value, uint64_t bytes, uint64_t key, uint64_t nonce)
{
    (void)value_walk(NULL, value, bytes, key,
                     bytes >= TORC_VALUE_NAMED_BYTES ? nonce : 0); // writing cannot fail
}

bool torc_value_check(const void *value, uint64_t bytes, uint64_t bytes_expected, uint64_t key)
{
    uint64_t nonce = 0;

    if (bytes != bytes_expected) {
        return false;
    }
    if (bytes >= TORC_VALUE_NAMED_BYTES) {
        memcpy(&nonce, (const unsigned char *)value + 8, sizeof(nonce));
    }
    return value_walk(value, NULL, bytes, key, nonce);
}
