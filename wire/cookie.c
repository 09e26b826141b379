// Torc wire: cookies and tickets: proof that an address was reached; see handshake.h.
#include "wire/handshake.h"

#include <sodium.h>

#define DAY_S   86400u
#define CONTEXT "torc-cki" // of the key derivation: exactly 8 bytes

_Static_assert(sizeof(((struct torc_cookie_wire *)0)->mac) == crypto_shorthash_siphashx24_BYTES,
               "SipHash-2-4-128");
_Static_assert(sizeof(((struct torc_cookie_keys *)0)->keys[0]) ==
                   crypto_shorthash_siphashx24_KEYBYTES,
               "SipHash-2-4-128");
_Static_assert(sizeof(CONTEXT) - 1 == crypto_kdf_CONTEXTBYTES, "key derivation");

// What the code is over.
struct cookie_input {
    uint8_t kind;
    uint8_t key;
    struct torc_le16 zero;
    struct torc_le32 issued_s;
    uint8_t ip[16];
    struct torc_le32 port_or_principal;
    struct torc_le32 zero_28;
};

_Static_assert(sizeof(struct cookie_input) == 32, "wire format");

static void cookie_keys_derive(struct torc_cookie_keys *keys, uint64_t day)
{
    keys->day = day;
    for (uint32_t age = 0; age < TORC_COUNT_OF(keys->keys); age++) {
        (void)crypto_kdf_derive_from_key(keys->keys[age], sizeof(keys->keys[age]), day - age,
                                         CONTEXT, keys->secret);
    }
}

void torc_cookie_keys_init(struct torc_cookie_keys *keys, const uint8_t secret[32], uint64_t wall_s)
{
    memcpy(keys->secret, secret, sizeof(keys->secret));
    cookie_keys_derive(keys, torc_max_u64(wall_s / DAY_S, 1));
}

static void cookie_keys_turn(struct torc_cookie_keys *keys, uint64_t wall_s)
{
    uint64_t day = torc_max_u64(wall_s / DAY_S, 1);

    if (torc_unlikely(day != keys->day)) {
        cookie_keys_derive(keys, day);
    }
}

static void cookie_mac(const uint8_t key[16], const struct torc_cookie_wire *cookie,
                       const struct torc_cookie_bearer *bearer, uint8_t mac[16])
{
    struct cookie_input input = {
        .kind = cookie->kind,
        .key = cookie->key,
        .issued_s = cookie->issued_s,
        .port_or_principal =
            torc_le32(cookie->kind == TORC_COOKIE_ADDRESS ? bearer->port : bearer->principal)};

    memcpy(input.ip, bearer->ip, sizeof(input.ip));
    (void)crypto_shorthash_siphashx24(mac, (const unsigned char *)&input, sizeof(input), key);
}

void torc_cookie_make(struct torc_cookie_keys *keys, enum torc_cookie_kind kind,
                      const struct torc_cookie_bearer *bearer, uint64_t wall_s,
                      uint8_t cookie[TORC_COOKIE_BYTES])
{
    struct torc_cookie_wire wire = {.kind = (uint8_t)kind};

    cookie_keys_turn(keys, wall_s);
    wire.issued_s = torc_le32((uint32_t)wall_s);
    wire.key = (uint8_t)keys->day;
    cookie_mac(keys->keys[0], &wire, bearer, wire.mac);
    memcpy(cookie, &wire, sizeof(wire));
}

static uint32_t cookie_life_s(uint8_t kind)
{
    switch (kind) {
    case TORC_COOKIE_ADDRESS: return TORC_COOKIE_ADDRESS_S;
    case TORC_COOKIE_TICKET: return TORC_COOKIE_TICKET_S;
    default: return 0;
    }
}

bool torc_cookie_check(struct torc_cookie_keys *keys, const struct torc_cookie_bearer *bearer,
                       uint64_t wall_s, const uint8_t cookie[TORC_COOKIE_BYTES],
                       enum torc_cookie_kind *kind)
{
    struct torc_cookie_wire wire;
    uint8_t mac[16];
    uint32_t age_s;
    uint8_t key_age;

    memcpy(&wire, cookie, sizeof(wire));
    cookie_keys_turn(keys, wall_s);
    // One from the future is older than any life, modulo 2^32.
    age_s = (uint32_t)wall_s - torc_get_le32(wire.issued_s);
    key_age = (uint8_t)(keys->day - wire.key);
    if (age_s > cookie_life_s(wire.kind) || cookie_life_s(wire.kind) == 0 ||
        key_age >= TORC_COUNT_OF(keys->keys) || torc_get_le16(wire.zero) != 0) {
        return false;
    }
    cookie_mac(keys->keys[key_age], &wire, bearer, mac);
    *kind = (enum torc_cookie_kind)wire.kind;
    return sodium_memcmp(mac, wire.mac, sizeof(mac)) == 0;
}
