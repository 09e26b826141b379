// Torc wire: AES-256-GCM by libipsec-mb; see aead.h.
//
// The direct calls are used, which neither queue nor change their manager. libipsec-mb deciphers
// without looking at the tag: it gives the right one, and we compare.
#include "wire/aead.h"

#include <intel-ipsec-mb.h>
#include <string.h>

_Static_assert(sizeof(struct gcm_key_data) <= TORC_AEAD_KEY_BYTES, "an expanded key");

// In constant time: both halves are always looked at, and one comparison follows. libsodium's
// sodium_memcmp goes byte by byte through memory, which took nearly half of the whole opening (66
// ns with it, 37 without: perf/seal_bench_os.c).
static bool tag_is(const uint8_t *tag, const uint8_t *wanted)
{
    uint64_t a[2];
    uint64_t b[2];

    _Static_assert(sizeof(a) == TORC_AEAD_TAG_BYTES, "a tag");
    memcpy(a, tag, sizeof(a));
    memcpy(b, wanted, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

static void ipsec_expand(const void *manager, struct torc_aead_key *key, const uint8_t *secret)
{
    const IMB_MGR *mgr = manager;

    // What is not written takes part in nothing, and yet a key is the same bytes each time.
    memset(key, 0, sizeof(*key));
    IMB_AES256_GCM_PRE(mgr, secret, (struct gcm_key_data *)(void *)key->bytes);
}

static void ipsec_seal(const void *manager, const struct torc_aead_key *key, const uint8_t *nonce,
                       uint8_t *packet, uint32_t aad_bytes, uint32_t byte_count)
{
    const IMB_MGR *mgr = manager;
    struct gcm_context_data context;

    IMB_AES256_GCM_ENC(mgr, (const struct gcm_key_data *)(const void *)key->bytes, &context,
                       packet + aad_bytes, packet + aad_bytes, byte_count - aad_bytes, nonce,
                       packet, aad_bytes, packet + byte_count, TORC_AEAD_TAG_BYTES);
}

static bool ipsec_open(const void *manager, const struct torc_aead_key *key, const uint8_t *nonce,
                       uint8_t *packet, uint32_t aad_bytes, uint32_t byte_count)
{
    const IMB_MGR *mgr = manager;
    struct gcm_context_data context;
    uint8_t tag[TORC_AEAD_TAG_BYTES];

    IMB_AES256_GCM_DEC(mgr, (const struct gcm_key_data *)(const void *)key->bytes, &context,
                       packet + aad_bytes, packet + aad_bytes, byte_count - aad_bytes, nonce,
                       packet, aad_bytes, tag, TORC_AEAD_TAG_BYTES);
    return tag_is(packet + byte_count, tag);
}

#define WIDE_POWER_LINES 12u // 48 powers of 16 bytes

static bool ipsec_is_wide(const IMB_MGR *mgr)
{
    return mgr->used_arch >= (uint32_t)IMB_ARCH_AVX512 && (mgr->features & IMB_FEATURE_VAES) != 0;
}

// Which lines a short packet needs. The round keys are the first four. Of the powers of the hash
// key it needs the lowest few, and they lie at the end: of 48 in the code for wide registers, of 8
// in the others.
static uint32_t ipsec_warm_lines(const IMB_MGR *mgr)
{
    const uint32_t round_keys = 0xfu;

    return ipsec_is_wide(mgr) ? round_keys | 0xc000u : 0xffu;
}

void torc_aead_code_ipsec_mb(struct torc_aead_code *code, const void *manager)
{
    torc_aead_code_sodium(code, false);
    code->name = "libipsec-mb";
    code->manager = manager;
    code->aes =
        (struct torc_aead_cipher){.expand = ipsec_expand,
                                  .seal = ipsec_seal,
                                  .open = ipsec_open,
                                  .warm_lines = ipsec_warm_lines(manager),
                                  .power_lines = ipsec_is_wide(manager) ? WIDE_POWER_LINES : 0};
    code->suites |= TORC_SUITE_AES_256_GCM;
}
