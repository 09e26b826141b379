// Torc tests: any bytes as a settings file leave settings in their ranges (K1, K2).
#include "kit/settings_os.h"
#include "tests/torc_test.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_ranges(const struct torc_settings *settings)
{
    for (uint32_t i = 0; i < TORC_SETTING_COUNT; i++) {
        const struct torc_setting_info *info = torc_setting_info(i);
        const unsigned char *at = (const unsigned char *)settings + info->offset;
        uint64_t number;

        if (info->kind == TORC_SETTING_TEXT) {
            torc_assert(memchr(at, '\0', TORC_SETTINGS_TEXT_BYTES) != NULL);
            continue;
        }
        memcpy(&number, at, sizeof(number));
        torc_assert(number <= info->greatest);
        torc_assert(number >= info->least || (number == 0 && strcmp(info->fallback, "auto") == 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_settings settings;
    struct torc_fail why;
    char value[64] = {0};

    torc_settings_default(&settings);
    if (torc_settings_read_text(&settings, "fuzz.ini", (const char *)data, size, &why) !=
        TORC_ERR_OK) {
        torc_assert(strnlen(why.text, sizeof(why.text)) < sizeof(why.text));
    }
    check_ranges(&settings);
    if (size > 1) { // the same bytes as one value of one key
        memcpy(value, data + 1, torc_min_u64(size - 1, sizeof(value) - 1));
        if (torc_settings_set(&settings, NULL, torc_setting_info(data[0] % TORC_SETTING_COUNT)->key,
                              value, TORC_SETTING_FROM_COMMAND, &why) == TORC_ERR_OK) {
            torc_assert(settings.source[data[0] % TORC_SETTING_COUNT] == TORC_SETTING_FROM_COMMAND);
        }
        (void)torc_setting_nearest(value);
    }
    check_ranges(&settings);
    return 0;
}
