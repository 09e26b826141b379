// Torc wire: authenticated encryption by libsodium, and the choice of a suite; see aead.h.
#include "wire/aead.h"

#include <sodium.h>

#include <string.h>

_Static_assert(crypto_aead_aes256gcm_KEYBYTES == TORC_AEAD_SECRET_BYTES, "AES-256-GCM");
_Static_assert(crypto_aead_aes256gcm_NPUBBYTES == TORC_AEAD_NONCE_BYTES, "AES-256-GCM");
_Static_assert(crypto_aead_aes256gcm_ABYTES == TORC_AEAD_TAG_BYTES, "AES-256-GCM");
_Static_assert(sizeof(crypto_aead_aes256gcm_state) <= TORC_AEAD_KEY_BYTES, "an expanded key");
_Static_assert(crypto_aead_chacha20poly1305_ietf_KEYBYTES == TORC_AEAD_SECRET_BYTES, "ChaCha20");
_Static_assert(crypto_aead_chacha20poly1305_ietf_NPUBBYTES == TORC_AEAD_NONCE_BYTES, "ChaCha20");
_Static_assert(crypto_aead_chacha20poly1305_ietf_ABYTES == TORC_AEAD_TAG_BYTES, "ChaCha20");

// -- AES-256-GCM ---------------------------------------------------------------------------------

static void sodium_aes_expand(const void *manager, struct torc_aead_key *key, const uint8_t *secret)
{
    (void)manager;
    (void)crypto_aead_aes256gcm_beforenm((crypto_aead_aes256gcm_state *)(void *)key->bytes, secret);
}

static void sodium_aes_seal(const void *manager, const struct torc_aead_key *key,
                            const uint8_t *nonce, uint8_t *packet, uint32_t aad_bytes,
                            uint32_t byte_count)
{
    (void)manager;
    (void)crypto_aead_aes256gcm_encrypt_detached_afternm(
        packet + aad_bytes, packet + byte_count, NULL, packet + aad_bytes, byte_count - aad_bytes,
        packet, aad_bytes, NULL, nonce,
        (const crypto_aead_aes256gcm_state *)(const void *)key->bytes);
}

static bool sodium_aes_open(const void *manager, const struct torc_aead_key *key,
                            const uint8_t *nonce, uint8_t *packet, uint32_t aad_bytes,
                            uint32_t byte_count)
{
    (void)manager;
    return crypto_aead_aes256gcm_decrypt_detached_afternm(
               packet + aad_bytes, NULL, packet + aad_bytes, byte_count - aad_bytes,
               packet + byte_count, packet, aad_bytes, nonce,
               (const crypto_aead_aes256gcm_state *)(const void *)key->bytes) == 0;
}

// -- ChaCha20-Poly1305 ---------------------------------------------------------------------------

static void sodium_chacha_expand(const void *manager, struct torc_aead_key *key,
                                 const uint8_t *secret)
{
    (void)manager;
    memcpy(key->bytes, secret, TORC_AEAD_SECRET_BYTES);
}

static void sodium_chacha_seal(const void *manager, const struct torc_aead_key *key,
                               const uint8_t *nonce, uint8_t *packet, uint32_t aad_bytes,
                               uint32_t byte_count)
{
    (void)manager;
    (void)crypto_aead_chacha20poly1305_ietf_encrypt_detached(
        packet + aad_bytes, packet + byte_count, NULL, packet + aad_bytes, byte_count - aad_bytes,
        packet, aad_bytes, NULL, nonce, key->bytes);
}

static bool sodium_chacha_open(const void *manager, const struct torc_aead_key *key,
                               const uint8_t *nonce, uint8_t *packet, uint32_t aad_bytes,
                               uint32_t byte_count)
{
    (void)manager;
    return crypto_aead_chacha20poly1305_ietf_decrypt_detached(
               packet + aad_bytes, NULL, packet + aad_bytes, byte_count - aad_bytes,
               packet + byte_count, packet, aad_bytes, nonce, key->bytes) == 0;
}

void torc_aead_code_sodium(struct torc_aead_code *code, bool has_aes)
{
    *code = (struct torc_aead_code){.name = has_aes ? "libsodium" : "libsodium without AES",
                                    .chacha = {.expand = sodium_chacha_expand,
                                               .seal = sodium_chacha_seal,
                                               .open = sodium_chacha_open,
                                               .warm_lines = 1},
                                    .suites = TORC_SUITE_CHACHA20_POLY1305};
    if (has_aes) {
        // 15 round keys of 16 bytes, then the table of the hash: eight lines in all.
        code->aes = (struct torc_aead_cipher){.expand = sodium_aes_expand,
                                              .seal = sodium_aes_seal,
                                              .open = sodium_aes_open,
                                              .warm_lines = 0xffu};
        code->suites |= TORC_SUITE_AES_256_GCM;
    }
}

void torc_aead_key_wipe(struct torc_aead_key *key)
{
    sodium_memzero(key, sizeof(*key));
}
