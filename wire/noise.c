// Torc wire: the Noise handshake; see noise.h. Names in comments are the framework's.
#include "wire/noise.h"

#include "kit/le.h"

#include <sodium.h>

#include <string.h>

#define BLOCK_BYTES 128u // BLAKE2b's

_Static_assert(crypto_generichash_blake2b_BYTES_MAX == TORC_NOISE_HASH_BYTES, "HASHLEN");
_Static_assert(crypto_scalarmult_BYTES == TORC_NOISE_KEY_BYTES, "DHLEN");
_Static_assert(crypto_aead_chacha20poly1305_ietf_ABYTES == TORC_NOISE_TAG_BYTES, "ChaChaPoly");

static const char protocol_name[] = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2b";

_Static_assert(sizeof(protocol_name) - 1 <= TORC_NOISE_HASH_BYTES, "is padded, not hashed");

struct piece {
    const void *bytes;
    uint64_t byte_count;
};

// -- HASH, HMAC-HASH, HKDF -----------------------------------------------------------------------

static void noise_hash(uint8_t hash[TORC_NOISE_HASH_BYTES], const struct piece pieces[2])
{
    crypto_generichash_blake2b_state state;

    (void)crypto_generichash_blake2b_init(&state, NULL, 0, TORC_NOISE_HASH_BYTES);
    for (uint32_t i = 0; i < 2; i++) {
        (void)crypto_generichash_blake2b_update(&state, pieces[i].bytes, pieces[i].byte_count);
    }
    (void)crypto_generichash_blake2b_final(&state, hash, TORC_NOISE_HASH_BYTES);
    sodium_memzero(&state, sizeof(state));
}

// The key is a hash long, so less than a block.
static void noise_hmac(uint8_t mac[TORC_NOISE_HASH_BYTES], const uint8_t key[TORC_NOISE_HASH_BYTES],
                       const uint8_t *text, uint32_t byte_count)
{
    uint8_t inner[BLOCK_BYTES];
    uint8_t outer[BLOCK_BYTES];
    uint8_t digest[TORC_NOISE_HASH_BYTES];

    memset(inner, 0x36, sizeof(inner));
    memset(outer, 0x5c, sizeof(outer));
    for (uint32_t i = 0; i < TORC_NOISE_HASH_BYTES; i++) {
        inner[i] ^= key[i];
        outer[i] ^= key[i];
    }
    noise_hash(digest, (struct piece[]){{inner, sizeof(inner)}, {text, byte_count}});
    noise_hash(mac, (struct piece[]){{outer, sizeof(outer)}, {digest, sizeof(digest)}});
    sodium_memzero(inner, sizeof(inner));
    sodium_memzero(outer, sizeof(outer));
    sodium_memzero(digest, sizeof(digest));
}

// Up to three outputs, one behind the other. The chaining key may be overwritten by the first.
static void noise_hkdf(uint8_t *outputs, uint32_t output_count,
                       const uint8_t chaining[TORC_NOISE_HASH_BYTES], const uint8_t *material,
                       uint32_t material_bytes)
{
    uint8_t temporary[TORC_NOISE_HASH_BYTES];
    uint8_t text[TORC_NOISE_HASH_BYTES + 1];
    uint32_t text_bytes = 0;

    noise_hmac(temporary, chaining, material, material_bytes);
    for (uint32_t i = 0; i < output_count; i++) {
        text[text_bytes] = (uint8_t)(i + 1);
        noise_hmac(outputs + (uint64_t)i * TORC_NOISE_HASH_BYTES, temporary, text, text_bytes + 1);
        memcpy(text, outputs + (uint64_t)i * TORC_NOISE_HASH_BYTES, TORC_NOISE_HASH_BYTES);
        text_bytes = TORC_NOISE_HASH_BYTES;
    }
    sodium_memzero(temporary, sizeof(temporary));
    sodium_memzero(text, sizeof(text));
}

// -- The symmetric state -------------------------------------------------------------------------

// MixHash
static void noise_mix_hash(struct torc_noise *noise, const void *bytes, uint64_t byte_count)
{
    noise_hash(noise->hash,
               (struct piece[]){{noise->hash, sizeof(noise->hash)}, {bytes, byte_count}});
}

// MixKey
static void noise_mix_key(struct torc_noise *noise, const uint8_t material[TORC_NOISE_KEY_BYTES])
{
    uint8_t outputs[2 * TORC_NOISE_HASH_BYTES];

    noise_hkdf(outputs, 2, noise->chaining, material, TORC_NOISE_KEY_BYTES);
    memcpy(noise->chaining, outputs, sizeof(noise->chaining));
    memcpy(noise->key, outputs + TORC_NOISE_HASH_BYTES, sizeof(noise->key));
    sodium_memzero(outputs, sizeof(outputs));
}

// MixKeyAndHash
static void noise_mix_key_and_hash(struct torc_noise *noise,
                                   const uint8_t psk[TORC_NOISE_KEY_BYTES])
{
    uint8_t outputs[3 * TORC_NOISE_HASH_BYTES];

    noise_hkdf(outputs, 3, noise->chaining, psk, TORC_NOISE_KEY_BYTES);
    memcpy(noise->chaining, outputs, sizeof(noise->chaining));
    noise_mix_hash(noise, outputs + TORC_NOISE_HASH_BYTES, TORC_NOISE_HASH_BYTES);
    memcpy(noise->key, outputs + 2ul * TORC_NOISE_HASH_BYTES, sizeof(noise->key));
    sodium_memzero(outputs, sizeof(outputs));
}

// A message's token "e" in a handshake with a PSK.
static void noise_mix_public(struct torc_noise *noise, const uint8_t public[TORC_NOISE_KEY_BYTES])
{
    noise_mix_hash(noise, public, TORC_NOISE_KEY_BYTES);
    noise_mix_key(noise, public);
}

static const uint8_t nonce_zero[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

// EncryptAndHash
void torc_noise_seal(struct torc_noise *noise, uint8_t *sealed, const uint8_t *text,
                     uint32_t byte_count)
{
    (void)crypto_aead_chacha20poly1305_ietf_encrypt(sealed, NULL, text, byte_count, noise->hash,
                                                    sizeof(noise->hash), NULL, nonce_zero,
                                                    noise->key);
    noise_mix_hash(noise, sealed, byte_count + TORC_NOISE_TAG_BYTES);
}

// DecryptAndHash
bool torc_noise_open(struct torc_noise *noise, uint8_t *text, const uint8_t *sealed,
                     uint32_t byte_count)
{
    uint8_t hash[TORC_NOISE_HASH_BYTES];

    // The text may take the sealed bytes' place.
    memcpy(hash, noise->hash, sizeof(hash));
    noise_mix_hash(noise, sealed, byte_count + TORC_NOISE_TAG_BYTES);
    return crypto_aead_chacha20poly1305_ietf_decrypt(text, NULL, NULL, sealed,
                                                     byte_count + TORC_NOISE_TAG_BYTES, hash,
                                                     sizeof(hash), nonce_zero, noise->key) == 0;
}

void torc_noise_split(struct torc_noise *noise, uint8_t from_initiator[TORC_NOISE_KEY_BYTES],
                      uint8_t from_responder[TORC_NOISE_KEY_BYTES])
{
    uint8_t outputs[2 * TORC_NOISE_HASH_BYTES];

    noise_hkdf(outputs, 2, noise->chaining, NULL, 0);
    memcpy(from_initiator, outputs, TORC_NOISE_KEY_BYTES);
    memcpy(from_responder, outputs + TORC_NOISE_HASH_BYTES, TORC_NOISE_KEY_BYTES);
    sodium_memzero(outputs, sizeof(outputs));
    torc_noise_wipe(noise);
}

void torc_noise_wipe(struct torc_noise *noise)
{
    sodium_memzero(noise, sizeof(*noise));
}

// -- The pattern ---------------------------------------------------------------------------------

void torc_noise_ephemeral_make(struct torc_noise_ephemeral *ephemeral)
{
    (void)crypto_scalarmult_base(ephemeral->public, ephemeral->secret);
}

void torc_noise_bind(uint8_t bound[TORC_NOISE_KEY_BYTES], const uint8_t psk[TORC_NOISE_KEY_BYTES],
                     uint64_t cluster, uint32_t node)
{
    struct {
        char name[12]; // with its final zero
        struct torc_le64 cluster;
        struct torc_le32 node;
    } text = {"torc/1 node", torc_le64(cluster), torc_le32(node)};

    _Static_assert(sizeof(text) == 24, "no padding");
    (void)crypto_generichash_blake2b(bound, TORC_NOISE_KEY_BYTES, (const unsigned char *)&text,
                                     sizeof(text), psk, TORC_NOISE_KEY_BYTES);
}

void torc_noise_caller(uint8_t psk[TORC_NOISE_KEY_BYTES],
                       const uint8_t secret[TORC_NOISE_KEY_BYTES], uint32_t node)
{
    struct {
        char name[14]; // with its final zero
        struct torc_le32 node;
    } text = {"torc/1 caller", torc_le32(node)};

    _Static_assert(sizeof(text) == 18, "no padding");
    (void)crypto_generichash_blake2b(psk, TORC_NOISE_KEY_BYTES, (const unsigned char *)&text,
                                     sizeof(text), secret, TORC_NOISE_KEY_BYTES);
}

void torc_noise_begin(struct torc_noise *noise, const struct torc_noise_start *start)
{
    memset(noise, 0, sizeof(*noise));
    memcpy(noise->hash, protocol_name, sizeof(protocol_name) - 1);
    memcpy(noise->chaining, noise->hash, sizeof(noise->chaining));
    noise_mix_hash(noise, start->prologue, start->prologue_bytes);
    noise_mix_key_and_hash(noise, start->psk);
    noise_mix_public(noise, start->initiator_public);
}

bool torc_noise_reply(struct torc_noise *noise, const uint8_t secret[TORC_NOISE_KEY_BYTES],
                      const uint8_t peer_public[TORC_NOISE_KEY_BYTES],
                      const uint8_t responder_public[TORC_NOISE_KEY_BYTES])
{
    uint8_t shared[TORC_NOISE_KEY_BYTES];
    bool whole;

    noise_mix_public(noise, responder_public);
    // It says -1 for an all-zero result, and the comparison is constant-time.
    whole = crypto_scalarmult(shared, secret, peer_public) == 0;
    noise_mix_key(noise, shared);
    sodium_memzero(shared, sizeof(shared));
    return whole;
}
