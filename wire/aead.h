// Torc wire: authenticated encryption of packets, in place.
//
// What    two ciphers, AES-256-GCM and ChaCha20-Poly1305 (RFC 5288 and RFC 8439: nonce of 12 bytes,
//         tag of 16), behind a constant table of functions. AES comes from libipsec-mb where it was
//         built in and the machine is x86, else from libsodium where the CPU has the instructions,
//         else it is missing; ChaCha20-Poly1305 always comes from libsodium.
//             0        aad_bytes         byte_count       + 16
//             ┌────────┬─────────────────┬─────────────────┐
//             │ known  │ ciphered        │ tag             │
//             └────────┴─────────────────┴─────────────────┘
// Owner   none: functions of their arguments. Which table: wire/aead_os.h, once at program start.
// Memory  a key is bytes without pointers: it may be copied, shared read-only between cores, and
//         wiped (torc_aead_key_wipe). A key and the code that expanded it belong together.
// Promise torc_aead_open compares the tag in constant time before it says anything; after false the
//         ciphered part of the packet is garbage and must not be read.
// Sources WIRE.md, sections 0 and 2; docs/decisions/0016.
#ifndef TORC_WIRE_AEAD_H
#define TORC_WIRE_AEAD_H

#include "kit/base.h"

#define TORC_AEAD_SECRET_BYTES 32u
#define TORC_AEAD_NONCE_BYTES  12u
#define TORC_AEAD_TAG_BYTES    16u
#define TORC_AEAD_KEY_BYTES    1024u // libipsec-mb's expanded AES key takes 1008
#define TORC_AEAD_LINE_BYTES   64u

enum torc_suite { // bits, as offered in the handshake
    TORC_SUITE_AES_256_GCM = 1,
    TORC_SUITE_CHACHA20_POLY1305 = 2,
    TORC_SUITE_CLEAR = 128 // no encryption: trailers of wire/data.h
};

#define TORC_SUITES_SEALED (TORC_SUITE_AES_256_GCM | TORC_SUITE_CHACHA20_POLY1305)

struct torc_aead_key {
    _Alignas(TORC_AEAD_LINE_BYTES) uint8_t bytes[TORC_AEAD_KEY_BYTES];
};

struct torc_aead_cipher {
    void (*expand)(const void *manager, struct torc_aead_key *key,
                   const uint8_t secret[TORC_AEAD_SECRET_BYTES]);
    // Ciphers packet[aad_bytes .. byte_count) and writes the tag behind it.
    void (*seal)(const void *manager, const struct torc_aead_key *key, const uint8_t *nonce,
                 uint8_t *packet, uint32_t aad_bytes, uint32_t byte_count);
    bool (*open)(const void *manager, const struct torc_aead_key *key, const uint8_t *nonce,
                 uint8_t *packet, uint32_t aad_bytes, uint32_t byte_count);
    uint32_t warm_lines;  // bit i: a short packet needs line i of the key
    uint32_t power_lines; // longer ones: a line more for each 64 bytes, of these many from the end
};

// `manager` belongs to the library behind the functions; read only.
struct torc_aead_code {
    const char *name;
    const void *manager;
    struct torc_aead_cipher aes; // functions NULL: not on this machine
    struct torc_aead_cipher chacha;
    uint8_t suites; // those that are here
    uint8_t zero[7];
};

// libsodium's; `has_aes` as crypto_aead_aes256gcm_is_available says after sodium_init.
void torc_aead_code_sodium(struct torc_aead_code *code, bool has_aes);

// libipsec-mb's AES behind an initialised manager (IMB_MGR), which must outlive it.
// Only where that is built in.
void torc_aead_code_ipsec_mb(struct torc_aead_code *code, const void *manager);

// `suite` is one bit of code->suites.
static inline const struct torc_aead_cipher *torc_aead_cipher(const struct torc_aead_code *code,
                                                              uint8_t suite)
{
    torc_assert((code->suites & suite) != 0);
    return suite == TORC_SUITE_AES_256_GCM ? &code->aes : &code->chacha;
}

// The best suite of a set that both ends have: AES-256-GCM, then ChaCha20-Poly1305; 0: none.
static inline uint8_t torc_aead_best_suite(unsigned suites)
{
    return (uint8_t)((suites & TORC_SUITE_AES_256_GCM) != 0 ? TORC_SUITE_AES_256_GCM
                                                            : suites & TORC_SUITES_SEALED);
}

static inline void torc_aead_expand(const struct torc_aead_code *code, uint8_t suite,
                                    struct torc_aead_key *key,
                                    const uint8_t secret[TORC_AEAD_SECRET_BYTES])
{
    torc_aead_cipher(code, suite)->expand(code->manager, key, secret);
}

void torc_aead_key_wipe(struct torc_aead_key *key);

// Starts loading what a packet of that size needs of a key.
static inline void torc_aead_prefetch(const struct torc_aead_cipher *cipher,
                                      const struct torc_aead_key *key, uint32_t byte_count)
{
    uint32_t all = TORC_AEAD_KEY_BYTES / TORC_AEAD_LINE_BYTES;
    uint32_t powers = 1 + byte_count / TORC_AEAD_LINE_BYTES;
    uint32_t lines;

    powers = powers < cipher->power_lines ? powers : cipher->power_lines;
    lines = cipher->warm_lines | (((1u << powers) - 1) << (all - powers));
    for (uint32_t left = lines; left != 0; left &= left - 1) {
        __builtin_prefetch(key->bytes +
                           (uint32_t)__builtin_ctz(left) * (uint64_t)TORC_AEAD_LINE_BYTES);
    }
}

#endif
