// Torc kit: the configuration's table at work. See kit/settings.h.
#include "kit/settings.h"

#include "kit/chan.h"
#include "kit/text.h"
#include "kit/utf8.h"

#include <string.h>

static const struct torc_setting_info setting_infos[TORC_SETTING_COUNT] = {
#define X(kind_, field_, key_, section_, fallback_, least_, greatest_, words_, help_) \
    {.key = (key_),                                                                   \
     .section = (section_),                                                           \
     .fallback = (fallback_),                                                         \
     .words = (words_),                                                               \
     .help = (help_),                                                                 \
     .least = (least_),                                                               \
     .greatest = (greatest_),                                                         \
     .offset = (uint32_t)offsetof(struct torc_settings, field_),                      \
     .kind = TORC_SETTING_##kind_},
    TORC_SETTINGS_TABLE(X)
#undef X
};

const struct torc_setting_info *torc_setting_info(uint32_t index)
{
    torc_assert(index < TORC_SETTING_COUNT);
    return &setting_infos[index];
}

// -- Names ---------------------------------------------------------------------------------------

static char setting_letter(char letter)
{
    if (letter == '_') {
        return '-';
    }
    if (letter >= 'A' && letter <= 'Z') {
        return (char)(letter | 0x20);
    }
    return letter;
}

static bool setting_key_is(const char *given, const char *key)
{
    uint32_t at = 0;

    while (given[at] != '\0' && (given[at] == '_' ? '-' : given[at]) == key[at]) {
        at++;
    }
    return given[at] == key[at]; // both at their ends
}

uint32_t torc_setting_find(const char *key)
{
    uint32_t index = 0;

    while (index < TORC_SETTING_COUNT && !setting_key_is(key, setting_infos[index].key)) {
        index++;
    }
    return index;
}

enum {
    SETTING_KEY_MAX = 40 // longer is nothing we could have meant
};

// Edits (a letter put in, taken out, changed) from `given` to `key` (Wagner and Fischer 1974).
static uint32_t setting_distance(const char *given, const char *key)
{
    uint32_t row[SETTING_KEY_MAX + 1];
    uint32_t given_count = (uint32_t)strlen(given);
    uint32_t key_count = (uint32_t)strlen(key);

    if (given_count > SETTING_KEY_MAX || key_count > SETTING_KEY_MAX) {
        return UINT32_MAX;
    }
    for (uint32_t i = 0; i <= key_count; i++) {
        row[i] = i;
    }
    for (uint32_t i = 1; i <= given_count; i++) {
        uint32_t diagonal = row[0];

        row[0] = i;
        for (uint32_t j = 1; j <= key_count; j++) {
            uint32_t change = diagonal + (setting_letter(given[i - 1]) == key[j - 1] ? 0u : 1u);
            uint32_t step = (row[j - 1] < row[j] ? row[j - 1] : row[j]) + 1;

            diagonal = row[j];
            row[j] = change < step ? change : step;
        }
    }
    return row[key_count];
}

const char *torc_setting_nearest(const char *key)
{
    const char *nearest = NULL;
    uint32_t least = UINT32_MAX;

    for (uint32_t i = 0; i < TORC_SETTING_COUNT; i++) {
        uint32_t distance = setting_distance(key, setting_infos[i].key);

        if (distance < least) {
            least = distance;
            nearest = setting_infos[i].key;
        }
    }
    // More than every second letter changed: another word, not a slip.
    return least <= 1 || least <= (uint32_t)strlen(key) / 2 ? nearest : NULL;
}

// -- Values --------------------------------------------------------------------------------------

struct setting_unit {
    enum torc_setting_kind kind;
    const char *suffix;
    uint64_t factor;
};

// In each kind the largest first: setting_show takes the first that divides.
static const struct setting_unit setting_units[] = {
    {TORC_SETTING_BYTES, "T", UINT64_C(1) << 40},
    {TORC_SETTING_BYTES, "G", UINT64_C(1) << 30},
    {TORC_SETTING_BYTES, "M", UINT64_C(1) << 20},
    {TORC_SETTING_BYTES, "K", UINT64_C(1) << 10},
    {TORC_SETTING_MS, "h", 3600000},
    {TORC_SETTING_MS, "m", 60000},
    {TORC_SETTING_MS, "s", 1000},
    {TORC_SETTING_MS, "ms", 1},
    {TORC_SETTING_S, "h", 3600},
    {TORC_SETTING_S, "m", 60},
    {TORC_SETTING_S, "s", 1},
};

static bool setting_digit(char letter, uint32_t base, uint32_t *digit)
{
    char low = setting_letter(letter);

    if (low >= '0' && low <= '9') {
        *digit = (uint32_t)(low - '0');
        return true;
    }
    *digit = (uint32_t)(low - 'a') + 10;
    return base == 16 && low >= 'a' && low <= 'f';
}

// The digits at the head of `text`: true, and where they end; false when none or too many.
static bool setting_digits(const char *text, uint64_t *value, const char **end)
{
    uint32_t base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    const char *at = base == 16 ? text + 2 : text;
    const char *first = at;
    uint64_t sum = 0;
    uint32_t digit;

    for (; setting_digit(*at, base, &digit); at++) {
        if (__builtin_mul_overflow(sum, (uint64_t)base, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)digit, &sum)) {
            return false;
        }
    }
    *value = sum;
    *end = at;
    return at > first;
}

// What the letters behind a number multiply it by; 0 when they are no unit of this kind.
static uint64_t setting_factor(enum torc_setting_kind kind, const char *suffix)
{
    if (suffix[0] == '\0') {
        return 1;
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(setting_units); i++) {
        const char *unit = setting_units[i].suffix;
        bool same = strcmp(suffix, unit) == 0;

        if (kind == TORC_SETTING_BYTES) { // 64K, 64k, 64KiB
            same = (suffix[0] == unit[0] || suffix[0] == unit[0] - 'A' + 'a') &&
                   (suffix[1] == '\0' || strcmp(suffix + 1, "iB") == 0);
        }
        if (setting_units[i].kind == kind && same) {
            return setting_units[i].factor;
        }
    }
    return 0;
}

static const char *setting_unit_help(enum torc_setting_kind kind)
{
    switch (kind) {
    case TORC_SETTING_BYTES: return "a number, K, M, G or T behind it";
    case TORC_SETTING_MS: return "a number with ms, s, m or h";
    case TORC_SETTING_S: return "a number with s, m or h";
    case TORC_SETTING_NUMBER: return "a number, decimal or 0x";
    case TORC_SETTING_CHOICE:
    case TORC_SETTING_TEXT: break;
    }
    torc_unreachable("no number");
}

static enum torc_err setting_number(const struct torc_setting_info *info, const char *text,
                                    uint64_t *value, struct torc_fail *why)
{
    const char *suffix;
    uint64_t factor;

    if (strcmp(info->fallback, "auto") == 0 && strcmp(text, "auto") == 0) {
        *value = 0;
        return TORC_ERR_OK;
    }
    if (!setting_digits(text, value, &suffix)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s = %.40s: %s%s expected", info->key,
                         text, setting_unit_help(info->kind),
                         strcmp(info->fallback, "auto") == 0 ? ", or auto," : "");
    }
    factor = setting_factor(info->kind, suffix);
    if (factor == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s = %.40s: \"%.8s\" is no unit; %s expected", info->key, text, suffix,
                         setting_unit_help(info->kind));
    }
    if (__builtin_mul_overflow(*value, factor, value) || *value < info->least ||
        *value > info->greatest) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%s = %.40s: %" PRIu64 " to %" PRIu64 " allowed", info->key, text,
                         info->least, info->greatest);
    }
    return TORC_ERR_OK;
}

// The length of word `index` of `words` and where it begins; 0 behind the last.
static uint32_t setting_word(const char *words, uint64_t index, const char **word)
{
    const char *at = words;
    uint32_t length = 0;

    for (;; index--) {
        for (length = 0; at[length] != '\0' && at[length] != ' '; length++) {
        }
        if (index == 0 || at[length] == '\0') {
            break;
        }
        at += length + 1;
    }
    *word = at;
    return index == 0 ? length : 0;
}

static enum torc_err setting_choice(const struct torc_setting_info *info, const char *text,
                                    uint64_t *value, struct torc_fail *why)
{
    for (uint64_t i = 0; i <= info->greatest; i++) {
        const char *word;
        uint32_t length = setting_word(info->words, i, &word);

        torc_assert(length > 0); // `greatest` is the last word's index
        if (strlen(text) == length && memcmp(word, text, length) == 0) {
            *value = i;
            return TORC_ERR_OK;
        }
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s = %.40s: one of %s expected", info->key,
                     text, info->words);
}

static enum torc_err setting_text(const struct torc_setting_info *info, const char *text,
                                  char *field, struct torc_fail *why)
{
    uint64_t bytes = strlen(text);

    if (bytes >= TORC_SETTINGS_TEXT_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: %" PRIu64 " bytes: at most %u",
                         info->key, bytes, TORC_SETTINGS_TEXT_BYTES - 1);
    }
    for (uint64_t i = 0; i < bytes; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "%s: byte %" PRIu64 " is a control character", info->key, i);
        }
    }
    if (!torc_utf8_is((const uint8_t *)text, bytes)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: not UTF-8", info->key);
    }
    memset(field, 0, TORC_SETTINGS_TEXT_BYTES);
    memcpy(field, text, bytes + 1);
    return TORC_ERR_OK;
}

static enum torc_err setting_parse(struct torc_settings *settings, uint32_t index,
                                   const char *value, struct torc_fail *why)
{
    const struct torc_setting_info *info = torc_setting_info(index);
    unsigned char *field = (unsigned char *)settings + info->offset;
    enum torc_err err;
    uint64_t number = 0;

    if (info->kind == TORC_SETTING_TEXT) {
        return setting_text(info, value, (char *)field, why);
    }
    err = info->kind == TORC_SETTING_CHOICE ? setting_choice(info, value, &number, why)
                                            : setting_number(info, value, &number, why);
    if (err == TORC_ERR_OK) {
        memcpy(field, &number, sizeof(number));
    }
    return err;
}

void torc_settings_default(struct torc_settings *settings)
{
    memset(settings, 0, sizeof(*settings));
    for (uint32_t i = 0; i < TORC_SETTING_COUNT; i++) {
        enum torc_err err = setting_parse(settings, i, setting_infos[i].fallback, NULL);

        torc_assert(err == TORC_ERR_OK); // the table's defaults are in the table's ranges
    }
}

enum torc_err torc_settings_set(struct torc_settings *settings, const char *section,
                                const char *key, const char *value, enum torc_setting_source source,
                                struct torc_fail *why)
{
    uint32_t index = torc_setting_find(key);
    enum torc_err err;

    if (index == TORC_SETTING_COUNT) {
        const char *nearest = torc_setting_nearest(key);

        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "unknown key \"%.40s\"%s%s%s", key,
                         nearest != NULL ? ": did you mean " : "", nearest != NULL ? nearest : "",
                         nearest != NULL ? "?" : "");
    }
    if (section != NULL && section[0] != '\0' &&
        strcmp(section, setting_infos[index].section) != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s belongs in [%s], not in [%.40s]",
                         setting_infos[index].key, setting_infos[index].section, section);
    }
    err = setting_parse(settings, index, value, why);
    if (err == TORC_ERR_OK) {
        settings->source[index] = (uint8_t)source;
    }
    return err;
}

// -- What one key cannot say ---------------------------------------------------------------------

// Of a pair: nothing but the cluster's own could still change it.
static bool setting_is_known(const struct torc_settings *settings, enum torc_setting index,
                             bool in_force)
{
    return in_force || settings->source[index] != TORC_SETTING_FROM_DEFAULT;
}

// What is of this node alone.
static enum torc_err settings_check_disk(const struct torc_settings *settings,
                                         struct torc_fail *why)
{
    if (settings->segment_bytes % (1u << 20) != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "segment-bytes = %" PRIu64 ": a multiple of 1M expected",
                         settings->segment_bytes);
    }
    if (settings->checkpoint_bytes < settings->segment_bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "checkpoint-bytes = %" PRIu64 " is below segment-bytes = %" PRIu64
                         ": a segment is the least that a "
                         "checkpoint frees",
                         settings->checkpoint_bytes, settings->segment_bytes);
    }
    return TORC_ERR_OK;
}

// What is fixed at birth, with itself and with what is not.
static enum torc_err settings_check_pairs(const struct torc_settings *settings, bool in_force,
                                          struct torc_fail *why)
{
    bool keys = setting_is_known(settings, TORC_SETTING_keys, in_force);
    bool value_max = setting_is_known(settings, TORC_SETTING_value_max, in_force);
    bool ttl = setting_is_known(settings, TORC_SETTING_dedup_ttl_s, in_force);
    bool copies = setting_is_known(settings, TORC_SETTING_replicas, in_force) &&
                  setting_is_known(settings, TORC_SETTING_durability, in_force);

    if (keys && settings->shards > settings->keys) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "shards = %" PRIu64 " but only %" PRIu64 " keys: at most one shard a key",
                         settings->shards, settings->keys);
    }
    if (value_max && settings->message_memory < settings->value_max) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "message-memory = %" PRIu64
                         " cannot hold one value of value-max = %" PRIu64,
                         settings->message_memory, settings->value_max);
    }
    if (ttl && settings->deadline_max_ms > settings->dedup_ttl_s * 1000 / 4) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "deadline-max = %" PRIu64 "ms is over a quarter of dedup-ttl = %" PRIu64
                         "s: a repetition could outlive its answer",
                         settings->deadline_max_ms, settings->dedup_ttl_s);
    }
    if (copies && settings->durability == TORC_DURABILITY_REPLICATED && settings->replicas == 1) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "durability = replicated with replicas = 1: one copy in memory is no "
                         "safety; give replicas (2 to 7), or durability = durable or none");
    }
    if (copies && settings->durability == TORC_DURABILITY_NONE && settings->replicas > 1) {
        return torc_fail(why, TORC_ERR_UNSUPPORTED,
                         "replicas = %" PRIu64 " with durability = none: several copies are "
                         "durable or replicated",
                         settings->replicas);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_settings_check(const struct torc_settings *settings, struct torc_fail *why)
{
    enum torc_err err = settings_check_disk(settings, why);

    return err == TORC_ERR_OK ? settings_check_pairs(settings, true, why) : err;
}

enum torc_err torc_settings_check_given(const struct torc_settings *settings, struct torc_fail *why)
{
    enum torc_err err = settings_check_disk(settings, why);

    return err == TORC_ERR_OK ? settings_check_pairs(settings, false, why) : err;
}

// -- Texts ---------------------------------------------------------------------------------------

static void setting_write_number(struct torc_text *text, const struct torc_setting_info *info,
                                 uint64_t value)
{
    if (value == 0 && strcmp(info->fallback, "auto") == 0) {
        torc_text_add(text, "auto");
        return;
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(setting_units); i++) {
        if (setting_units[i].kind == info->kind && value != 0 &&
            value % setting_units[i].factor == 0) {
            torc_text_add(text, "%" PRIu64 "%s", value / setting_units[i].factor,
                          setting_units[i].suffix);
            return;
        }
    }
    torc_text_add(text, "%" PRIu64, value);
}

static void setting_write_value(struct torc_text *text, const struct torc_settings *settings,
                                uint32_t index)
{
    const struct torc_setting_info *info = torc_setting_info(index);
    const unsigned char *field = (const unsigned char *)settings + info->offset;
    const char *word;
    uint64_t number;
    uint32_t length;

    if (info->kind == TORC_SETTING_TEXT) {
        torc_text_add(text, "%s", (const char *)field);
        return;
    }
    memcpy(&number, field, sizeof(number));
    if (info->kind != TORC_SETTING_CHOICE) {
        setting_write_number(text, info, number);
        return;
    }
    length = setting_word(info->words, number, &word);
    torc_assert(length > 0);
    torc_text_add(text, "%.*s", (int)length, word);
}

uint32_t torc_setting_show(const struct torc_settings *settings, uint32_t index, char *text,
                           uint32_t text_bytes)
{
    struct torc_text writer = {.bytes = text, .room = text_bytes - 1};

    torc_assert(text_bytes > 0);
    text[0] = '\0';
    setting_write_value(&writer, settings, index);
    return (uint32_t)writer.used;
}

static bool setting_is_default(const struct torc_settings *settings,
                               const struct torc_settings *defaults, uint32_t index)
{
    const struct torc_setting_info *info = torc_setting_info(index);
    uint64_t bytes = info->kind == TORC_SETTING_TEXT ? TORC_SETTINGS_TEXT_BYTES : sizeof(uint64_t);

    return memcmp((const unsigned char *)settings + info->offset,
                  (const unsigned char *)defaults + info->offset, bytes) == 0;
}

uint32_t torc_settings_ini(const struct torc_settings *settings, char *text, uint32_t text_bytes)
{
    struct torc_text writer = {.room = text_bytes - 1};
    struct torc_settings defaults;
    const char *section = "";

    torc_assert(text_bytes > 0);
    writer.bytes = text;
    torc_settings_default(&defaults);
    torc_text_add(&writer, "# Torc's settings. A line behind '#' shows the default.\n"
                           "# On the command line each key is --key value.\n");
    for (uint32_t i = 0; i < TORC_SETTING_COUNT; i++) {
        const struct torc_setting_info *info = torc_setting_info(i);

        if (strcmp(section, info->section) != 0) {
            section = info->section;
            torc_text_add(&writer, "\n[%s]\n", section);
        }
        torc_text_add(&writer, "\n# %s", info->help);
        if (info->kind == TORC_SETTING_CHOICE) {
            torc_text_add(&writer, "\n# one of: %s", info->words);
        }
        torc_text_add(&writer, "\n%s%s = ", setting_is_default(settings, &defaults, i) ? "#" : "",
                      info->key);
        setting_write_value(&writer, settings, i);
        torc_text_add(&writer, "\n");
    }
    return (uint32_t)writer.used;
}

static void setting_write_range(struct torc_text *text, const struct torc_setting_info *info)
{
    struct torc_setting_info plain = *info;
    uint32_t start = 0;

    if (info->kind == TORC_SETTING_TEXT) {
        torc_text_add(text, "text");
        return;
    }
    if (info->kind == TORC_SETTING_CHOICE) {
        for (; info->words[start] != '\0'; start++) {
            torc_text_add(text, "%.*s", 1, info->words[start] == ' ' ? "/" : info->words + start);
        }
        return;
    }
    plain.fallback = ""; // 0 as a number here
    setting_write_number(text, &plain, info->least);
    torc_text_add(text, " to ");
    setting_write_number(text, &plain, info->greatest);
}

uint32_t torc_settings_markdown(char *text, uint32_t text_bytes)
{
    struct torc_text writer = {.room = text_bytes - 1};

    torc_assert(text_bytes > 0);
    writer.bytes = text;
    torc_text_add(&writer, "| key | section | default | allowed | meaning |\n"
                           "| --- | --- | --- | --- | --- |\n");
    for (uint32_t i = 0; i < TORC_SETTING_COUNT; i++) {
        const struct torc_setting_info *info = torc_setting_info(i);

        torc_text_add(&writer, "| `%s` | %s | %s%s%s | ", info->key, info->section,
                      info->fallback[0] != '\0' ? "`" : "empty", info->fallback,
                      info->fallback[0] != '\0' ? "`" : "");
        setting_write_range(&writer, info);
        torc_text_add(&writer, " | %s |\n", info->help);
    }
    return (uint32_t)writer.used;
}
