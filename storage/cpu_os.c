// Torc storage: the choice of the tree's variant. See storage/cpu_os.h.
#include "storage/cpu_os.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

// libgcc's check includes the registers that the kernel saves.
static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("bmi2");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}

#endif

const struct torc_tree_code *torc_tree_code_named(const char *name)
{
#if defined(__x86_64__)
    if (strcmp(name, "avx512") == 0) {
        return has_avx512() ? &torc_tree_code_avx512 : NULL;
    }
    if (strcmp(name, "avx2") == 0) {
        return has_avx2() ? &torc_tree_code_avx2 : NULL;
    }
#endif
    return strcmp(name, "plain") == 0 ? &torc_tree_code_plain : NULL;
}

const struct torc_tree_code *torc_tree_code_best(void)
{
    static const char *const names[] = {"avx512", "avx2"};
    const char *asked = getenv("TORC_SIMD"); // NOLINT(concurrency-mt-unsafe): at program start
    const struct torc_tree_code *code = asked == NULL ? NULL : torc_tree_code_named(asked);

    for (uint32_t i = 0; code == NULL && i < TORC_COUNT_OF(names); i++) {
        code = torc_tree_code_named(names[i]);
    }
    return code == NULL ? &torc_tree_code_plain : code;
}
