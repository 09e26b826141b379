// Torc wire: the choice of code for authenticated encryption. See wire/aead_os.h.
#include "wire/aead_os.h"

#include <sodium.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifdef TORC_WITH_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

enum choice {
    CHOICE_IPSEC_MB, // in the order of preference
    CHOICE_SODIUM,
    CHOICE_CHACHA,
    CHOICE_COUNT
};

static const char *const choice_names[CHOICE_COUNT] = {"libipsec-mb", "libsodium", "chacha"};

// Written once, before any of the functions below returns; `name` NULL: not here.
static struct torc_aead_code choices[CHOICE_COUNT];
static pthread_once_t choices_made = PTHREAD_ONCE_INIT;

static void choices_make(void)
{
    int made = sodium_init(); // picks the fastest of its own variants
    bool has_aes;

    torc_assert(made >= 0); // it fails only without any source of random numbers
    has_aes = crypto_aead_aes256gcm_is_available() != 0;
#ifdef TORC_WITH_IPSEC_MB
    if (has_aes) { // AES-NI, carry-less multiplication: what its smallest variant needs
        IMB_MGR *manager = alloc_mb_mgr(0);
        IMB_ARCH arch;

        if (manager != NULL) {
            init_mb_mgr_auto(manager, &arch);
            torc_aead_code_ipsec_mb(&choices[CHOICE_IPSEC_MB], manager);
        }
    }
#endif
    if (has_aes) {
        torc_aead_code_sodium(&choices[CHOICE_SODIUM], true);
    }
    torc_aead_code_sodium(&choices[CHOICE_CHACHA], false);
}

const struct torc_aead_code *torc_aead_code_named(const char *name)
{
    (void)pthread_once(&choices_made, choices_make);
    for (uint32_t i = 0; i < CHOICE_COUNT; i++) {
        if (strcmp(name, choice_names[i]) == 0 && choices[i].name != NULL) {
            return &choices[i];
        }
    }
    return NULL;
}

const struct torc_aead_code *torc_aead_code_best(void)
{
    const char *asked = getenv("TORC_AEAD"); // NOLINT(concurrency-mt-unsafe): at program start
    const struct torc_aead_code *code = asked == NULL ? NULL : torc_aead_code_named(asked);

    for (uint32_t i = 0; code == NULL && i < CHOICE_COUNT; i++) {
        code = torc_aead_code_named(choice_names[i]);
    }
    torc_assert(code != NULL); // ChaCha20-Poly1305 needs nothing of the CPU
    return code;
}
