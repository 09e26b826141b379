// Torc tests: authenticated encryption: published vectors, all codes of this machine byte for byte
// alike, each flipped bit refused; the same at the level of data packets.
#include "tests/torc_test.h"
#include "wire/aead_os.h"
#include "wire/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PACKET_MAX   9000u
#define ROUNDS       2000u
#define HEX_TEXT_MAX 256u

static const char *const code_names[] = {"libipsec-mb", "libsodium", "chacha"};

// -- Published vectors ---------------------------------------------------------------------------

struct vector {
    uint8_t suite;
    const char *key;
    const char *nonce;
    const char *aad;
    const char *text;
    const char *sealed; // with the tag
};

static const struct vector vectors[] = {
    // McGrew, Viega, "The Galois/Counter Mode of Operation", test case 16.
    {TORC_SUITE_AES_256_GCM, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b"
     "525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828"
     "838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"},
    // RFC 8439, section 2.8.2.
    {TORC_SUITE_CHACHA20_POLY1305,
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
     "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966"
     "204920636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f72207468652066757475"
     "72652c2073756e73637265656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69"
     "da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad67594"
     "5585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"},
};

static uint32_t from_hex(uint8_t *bytes, const char *hex)
{
    uint32_t count = (uint32_t)strnlen(hex, UINT64_C(2) * HEX_TEXT_MAX) / 2;

    for (uint32_t i = 0; i < count; i++) {
        char digits[3] = {hex[2 * (uint64_t)i], hex[2 * (uint64_t)i + 1], '\0'};

        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return count;
}

static void check_vector(const struct torc_aead_code *code, const struct vector *vector)
{
    const struct torc_aead_cipher *cipher = torc_aead_cipher(code, vector->suite);
    struct torc_aead_key key;
    uint8_t secret[TORC_AEAD_SECRET_BYTES];
    uint8_t nonce[TORC_AEAD_NONCE_BYTES];
    uint8_t packet[2 * HEX_TEXT_MAX];
    uint8_t sealed[HEX_TEXT_MAX];
    uint8_t text[HEX_TEXT_MAX];
    uint32_t aad_bytes;
    uint32_t text_bytes;

    CU_ASSERT_EQUAL(from_hex(secret, vector->key), sizeof(secret));
    CU_ASSERT_EQUAL(from_hex(nonce, vector->nonce), sizeof(nonce));
    aad_bytes = from_hex(packet, vector->aad);
    text_bytes = from_hex(text, vector->text);
    memcpy(packet + aad_bytes, text, text_bytes);
    CU_ASSERT_EQUAL(from_hex(sealed, vector->sealed), text_bytes + TORC_AEAD_TAG_BYTES);
    torc_aead_expand(code, vector->suite, &key, secret);
    cipher->seal(code->manager, &key, nonce, packet, aad_bytes, aad_bytes + text_bytes);
    CU_ASSERT_EQUAL(memcmp(packet + aad_bytes, sealed, text_bytes + TORC_AEAD_TAG_BYTES), 0);
    CU_ASSERT_TRUE(
        cipher->open(code->manager, &key, nonce, packet, aad_bytes, aad_bytes + text_bytes));
    CU_ASSERT_EQUAL(memcmp(packet + aad_bytes, text, text_bytes), 0);
}

static void test_vectors(void)
{
    uint32_t checked = 0;

    for (uint32_t i = 0; i < TORC_COUNT_OF(code_names); i++) {
        const struct torc_aead_code *code = torc_aead_code_named(code_names[i]);

        for (uint32_t v = 0; code != NULL && v < TORC_COUNT_OF(vectors); v++) {
            if ((code->suites & vectors[v].suite) != 0) {
                check_vector(code, &vectors[v]);
                checked++;
            }
        }
    }
    CU_ASSERT_TRUE(checked > 0); // at least ChaCha20-Poly1305 is everywhere
}

// -- The codes of this machine, against each other ------------------------------------------------

struct sealed {
    uint8_t packet[PACKET_MAX + TORC_AEAD_TAG_BYTES];
    uint32_t aad_bytes;
    uint32_t byte_count;
};

static void seal_random(const struct torc_aead_code *code, uint8_t suite, uint64_t seed,
                        struct sealed *sealed)
{
    struct torc_rng rng = {seed};
    struct torc_aead_key key;
    uint8_t secret[TORC_AEAD_SECRET_BYTES];
    uint8_t nonce[TORC_AEAD_NONCE_BYTES];

    torc_test_value(secret, torc_rng_next(&rng), sizeof(secret));
    torc_test_value(nonce, torc_rng_next(&rng), sizeof(nonce));
    sealed->aad_bytes = (uint32_t)torc_rng_below(&rng, 65);
    sealed->byte_count =
        sealed->aad_bytes +
        (uint32_t)torc_rng_below(&rng, torc_rng_below(&rng, 4) == 0 ? PACKET_MAX - 64 : 300);
    torc_test_value(sealed->packet, torc_rng_next(&rng), sealed->byte_count);
    torc_aead_expand(code, suite, &key, secret);
    torc_aead_cipher(code, suite)
        ->seal(code->manager, &key, nonce, sealed->packet, sealed->aad_bytes, sealed->byte_count);
}

static bool is_same(const struct sealed *a, const struct sealed *b)
{
    return a->aad_bytes == b->aad_bytes && a->byte_count == b->byte_count &&
           memcmp(a->packet, b->packet, a->byte_count + TORC_AEAD_TAG_BYTES) == 0;
}

// libsodium is libipsec-mb's oracle, at all sizes.
static void test_codes_agree(void)
{
    const struct torc_aead_code *first = torc_aead_code_named("libipsec-mb");
    const struct torc_aead_code *second = torc_aead_code_named("libsodium");
    struct sealed *a = malloc(sizeof(*a));
    struct sealed *b = malloc(sizeof(*b));
    uint64_t seed = torc_test_seed();
    uint32_t different = 0;

    torc_assert(a != NULL && b != NULL);
    if (first == NULL || second == NULL) {
        (void)printf("not compared: one code for AES at most here … ");
    } else {
        for (uint32_t i = 0; i < ROUNDS; i++) {
            seal_random(first, TORC_SUITE_AES_256_GCM, seed + i, a);
            seal_random(second, TORC_SUITE_AES_256_GCM, seed + i, b);
            different += is_same(a, b) ? 0 : 1;
        }
        CU_ASSERT_EQUAL(different, 0);
        // A single bit of a tag would be seen.
        b->packet[b->byte_count] ^= 1;
        CU_ASSERT_FALSE(is_same(a, b));
    }
    free(a);
    free(b);
}

static void test_choice(void)
{
    const struct torc_aead_code *best = torc_aead_code_best();

    CU_ASSERT_TRUE((best->suites & TORC_SUITE_CHACHA20_POLY1305) != 0);
    CU_ASSERT_PTR_NULL(torc_aead_code_named("rot13"));
    CU_ASSERT_EQUAL(torc_aead_best_suite(TORC_SUITES_SEALED), TORC_SUITE_AES_256_GCM);
    CU_ASSERT_EQUAL(torc_aead_best_suite(TORC_SUITE_CHACHA20_POLY1305 | TORC_SUITE_CLEAR),
                    TORC_SUITE_CHACHA20_POLY1305);
    CU_ASSERT_EQUAL(torc_aead_best_suite(TORC_SUITE_CLEAR), 0);
}

// -- Data packets --------------------------------------------------------------------------------

#define OPS_BYTES    40u
#define PACKET_BYTES (TORC_DATA_OVERHEAD + OPS_BYTES)

static void packet_make(const struct torc_seal *seal, uint64_t seq, unsigned char *packet)
{
    struct torc_data data = {.type = torc_data_type(seal->suite),
                             .core = 3,
                             .index = 0x00100007,
                             .seq = seq,
                             .hlc = 77,
                             .reply_bytes = 1472,
                             .reply_packets = 1};

    torc_data_encode(packet, &data);
    memset(packet + TORC_DATA_HEAD_BYTES, 0x5a, OPS_BYTES);
    CU_ASSERT_EQUAL(torc_data_seal(seal, packet, TORC_DATA_HEAD_BYTES + OPS_BYTES), PACKET_BYTES);
}

static void check_packets(const struct torc_aead_code *code, uint8_t suite)
{
    struct torc_aead_key key;
    uint8_t secret[TORC_AEAD_SECRET_BYTES] = {5};
    struct torc_seal seal = {.code = code, .key = &key, .suite = suite};
    struct torc_seal back = {
        .code = code, .key = &key, .suite = suite, .direction = TORC_TO_CLIENT};
    unsigned char packet[PACKET_BYTES];
    unsigned char other[PACKET_BYTES];
    uint32_t opened = 0;

    torc_aead_expand(code, suite, &key, secret);
    for (uint32_t bit = 0; bit < PACKET_BYTES * 8; bit++) {
        packet_make(&seal, 9, packet);
        packet[bit / 8] = (unsigned char)(packet[bit / 8] ^ 1u << (bit % 8));
        // Magic is classify's to check; all else is under the tag.
        opened += torc_data_open(&seal, packet, PACKET_BYTES) ? 1 : 0;
    }
    CU_ASSERT_EQUAL(opened, 0);
    packet_make(&seal, 9, packet);
    CU_ASSERT_FALSE(torc_data_open(&back, packet, PACKET_BYTES)); // a reflected packet
    packet_make(&seal, 9, packet);
    CU_ASSERT_TRUE(torc_data_open(&seal, packet, PACKET_BYTES));
    CU_ASSERT_EQUAL(torc_data_hlc(packet), 77);
    CU_ASSERT_EQUAL(packet[TORC_DATA_HEAD_BYTES + OPS_BYTES - 1], 0x5a);
    // Another sequence number is another nonce: nothing of the text shows.
    packet_make(&seal, 9, packet);
    packet_make(&seal, 10, other);
    CU_ASSERT_NOT_EQUAL(memcmp(packet + TORC_DATA_AAD_BYTES, other + TORC_DATA_AAD_BYTES, 16), 0);
    packet_make(&seal, 9, packet);
    torc_aead_key_wipe(&key);
    CU_ASSERT_EQUAL(key.bytes[0], 0);
    CU_ASSERT_FALSE(torc_data_open(&seal, packet, PACKET_BYTES));
}

static void test_packets(void)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(code_names); i++) {
        const struct torc_aead_code *code = torc_aead_code_named(code_names[i]);

        if (code != NULL && (code->suites & TORC_SUITE_AES_256_GCM) != 0) {
            check_packets(code, TORC_SUITE_AES_256_GCM);
        }
    }
    check_packets(torc_aead_code_best(), TORC_SUITE_CHACHA20_POLY1305);
}

// One mode's packet under the other mode's session.
static void test_modes(void)
{
    const struct torc_aead_code *code = torc_aead_code_best();
    struct torc_aead_key key;
    uint8_t secret[TORC_AEAD_SECRET_BYTES] = {6};
    struct torc_seal sealed = {
        .code = code, .key = &key, .suite = torc_aead_best_suite(code->suites)};
    struct torc_seal clear = {.token = 1, .suite = TORC_SUITE_CLEAR};
    unsigned char packet[PACKET_BYTES];

    torc_aead_expand(code, sealed.suite, &key, secret);
    packet_make(&clear, 1, packet);
    CU_ASSERT_FALSE(torc_data_open(&sealed, packet, PACKET_BYTES));
    CU_ASSERT_TRUE(torc_data_open(&clear, packet, PACKET_BYTES));
    packet_make(&sealed, 1, packet);
    CU_ASSERT_FALSE(torc_data_open(&clear, packet, PACKET_BYTES));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"each code gives the published vectors", test_vectors},
        {"both codes for AES give the same bytes at any size", test_codes_agree},
        {"AES is preferred where it is; unknown code has no name", test_choice},
        {"a sealed packet opens whole, and not with a bit flipped or turned back", test_packets},
        {"a session takes no packet of the other mode", test_modes},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("aead", tests);
}
