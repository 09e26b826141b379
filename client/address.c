// Torc client: the words of an address; see address.h.
#include "client/address.h"

#include "kit/memif.h"

#include <string.h>

// A decimal number that ends at `end`; false when it is none or above max.
static bool number(const char *text, const char *end, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;

    if (text == end) {
        return false;
    }
    for (; text < end; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        sum = sum * 10 + (uint64_t)(*text - '0');
        if (sum > max) {
            return false;
        }
    }
    *value = sum;
    return true;
}

static enum torc_err refuse(const char *text, const char *end, const char *what,
                            struct torc_fail *why)
{
    int bytes = end - text > 80 ? 80 : (int)(end - text);

    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "address '%.*s': %s", bytes, text, what);
}

static enum torc_err host_set(struct torc_address *address, const char *text, const char *host,
                              const char *host_end, struct torc_fail *why)
{
    uint64_t bytes = (uint64_t)(host_end - host);

    if (bytes == 0) {
        return refuse(text, host_end, "a host name or an IP address is missing", why);
    }
    if (bytes >= TORC_HOST_BYTES) {
        return refuse(text, host_end, "the host name is longer than 255 bytes", why);
    }
    memcpy(address->host, host, bytes);
    address->host[bytes] = '\0';
    return TORC_ERR_OK;
}

enum torc_err torc_address_next(const char **text, struct torc_address *address,
                                struct torc_fail *why)
{
    const char *start = *text;
    const char *end = start + strcspn(start, ",\n");
    const char *host = start;
    const char *host_end = end;
    const char *port = end;
    uint64_t value = TORC_BASE_PORT_DEFAULT;

    *text = *end == '\0' ? end : end + 1;
    if (*start == '[') {
        host = start + 1;
        host_end = memchr(host, ']', (size_t)(end - host));
        if (host_end == NULL) {
            return refuse(start, end, "']' is missing", why);
        }
        port = host_end + 1;
    } else {
        const char *colon = memchr(start, ':', (size_t)(end - start));

        // Two colons without brackets are an IPv6 address and no port.
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(end - colon - 1)) == NULL) {
            host_end = port = colon;
        }
    }
    if (port != end) {
        if (*port != ':' || !number(port + 1, end, 65535 - 254, &value) || value == 0) {
            return refuse(start, end, "the base port is not a number from 1 to 65281", why);
        }
    }
    address->base_port = (uint16_t)value;
    return host_set(address, start, host, host_end, why);
}

bool torc_address_is_memif(const char *text)
{
    return strncmp(text, TORC_MEMIF_SCHEME, strlen(TORC_MEMIF_SCHEME)) == 0;
}

static bool text_set(char *to, uint64_t room, const char *from, const char *end)
{
    uint64_t bytes = (uint64_t)(end - from);

    if (bytes == 0 || bytes >= room) {
        return false;
    }
    memcpy(to, from, bytes);
    to[bytes] = '\0';
    return true;
}

static bool word_is(const char *text, const char *equals, const char *word)
{
    return strlen(word) == (size_t)(equals - text) && memcmp(text, word, strlen(word)) == 0;
}

static bool memif_word(struct torc_memif_address *address, const char *text, const char *equals,
                       const char *end)
{
    const char *value = equals + 1;
    bool yes = word_is(value, end, "yes");
    uint64_t n = 0;

    if (word_is(text, equals, "address")) {
        return text_set(address->node, sizeof(address->node), value, end);
    }
    if (word_is(text, equals, "local")) {
        return text_set(address->local, sizeof(address->local), value, end);
    }
    if (word_is(text, equals, "zero-copy") || word_is(text, equals, "huge")) {
        address->huge |= yes;
        address->zero_copy |= yes && *text == 'z';
        return yes || word_is(value, end, "no");
    }
    if (!number(value, end, 65535, &n)) {
        return false;
    }
    if (word_is(text, equals, "slot")) {
        address->slot = (uint32_t)n;
        return n < TORC_MEMIF_SLOTS_MAX;
    }
    if (word_is(text, equals, "core")) {
        address->lcore = (uint32_t)n;
        return n < 1024;
    }
    if (word_is(text, equals, "mtu")) {
        address->mtu = (uint16_t)n;
        return n >= 1280 && n <= 9000;
    }
    if (word_is(text, equals, "port")) {
        address->base_port = (uint16_t)n;
        return n > 0;
    }
    return false;
}

enum torc_err torc_address_memif(const char *text, struct torc_memif_address *address,
                                 struct torc_fail *why)
{
    const char *at = text + strlen(TORC_MEMIF_SCHEME);
    const char *end = at + strcspn(at, ",");

    torc_assert(torc_address_is_memif(text));
    *address = (struct torc_memif_address){.node = "10.79.0.11",
                                           .lcore = UINT32_MAX,
                                           .base_port = TORC_BASE_PORT_DEFAULT,
                                           .mtu = 1500};
    if (!text_set(address->name, sizeof(address->name), at, end)) {
        return refuse(text, end, "the name of the memif socket is missing or too long", why);
    }
    while (*end == ',') {
        const char *equals;

        at = end + 1;
        end = at + strcspn(at, ",");
        equals = memchr(at, '=', (size_t)(end - at));
        if (equals == NULL || !memif_word(address, at, equals, end)) {
            return refuse(at, end,
                          "known are slot=0..30, address=IP, local=IP, port=N, mtu=1280..9000, "
                          "core=N, huge=yes, zero-copy=yes",
                          why);
        }
    }
    return TORC_ERR_OK;
}
