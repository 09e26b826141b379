// Torc kit: where settings come from. See kit/settings_os.h.
#include "kit/settings_os.h"

#include <ini.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SETTINGS_LINE_MAX = 190,      // inih's buffer holds 200, its ends included
    SETTINGS_FILE_MAX = 256 << 10 // a hundred times the commented file
};

// -- The file ------------------------------------------------------------------------------------

struct settings_reader {
    struct torc_settings *settings;
    const char *name;
    const char *text;
    uint64_t text_bytes;
    uint64_t at;
    uint32_t line;
    struct torc_fail fail; // the first
    uint8_t seen[TORC_SETTING_COUNT];
};

static void settings_fail_line(struct settings_reader *reader, const struct torc_fail *fail)
{
    if (reader->fail.err == TORC_ERR_OK) {
        (void)torc_fail(&reader->fail, fail->err, "%.60s:%" PRIu32 ": %.90s", reader->name,
                        reader->line, fail->text);
    }
}

// As fgets; counts lines and refuses what inih would cut.
static char *settings_next_line(char *line, int room, void *context)
{
    struct settings_reader *reader = context;
    const char *start = reader->text + reader->at;
    uint64_t left = reader->text_bytes - reader->at;
    const char *end = left > 0 ? memchr(start, '\n', left) : NULL;
    uint64_t bytes = end != NULL ? (uint64_t)(end - start) + 1 : left;
    struct torc_fail fail;

    if (left == 0 || reader->fail.err != TORC_ERR_OK) {
        return NULL;
    }
    reader->line++;
    if (bytes > SETTINGS_LINE_MAX || bytes >= (uint64_t)room || memchr(start, '\0', bytes)) {
        (void)torc_fail(&fail, TORC_ERR_INVALID_ARGUMENT,
                        bytes > SETTINGS_LINE_MAX ? "line of %" PRIu64 " bytes: at most %u"
                                                  : "%" PRIu64 " bytes (of at most %u) with a NUL",
                        bytes, SETTINGS_LINE_MAX);
        settings_fail_line(reader, &fail);
        return NULL;
    }
    memcpy(line, start, bytes);
    line[bytes] = '\0';
    reader->at += bytes;
    return line;
}

static int settings_take(void *context, const char *section, const char *name, const char *value)
{
    struct settings_reader *reader = context;
    uint32_t index = torc_setting_find(name);
    struct torc_fail fail = {0};
    enum torc_err err;

    if (index < TORC_SETTING_COUNT && reader->seen[index] != 0) {
        err = torc_fail(&fail, TORC_ERR_INVALID_ARGUMENT, "%s is there twice", name);
    } else {
        err = torc_settings_set(reader->settings, section, name, value, TORC_SETTING_FROM_FILE,
                                &fail);
    }
    if (err != TORC_ERR_OK) {
        settings_fail_line(reader, &fail);
        return 0;
    }
    reader->seen[index] = 1;
    return 1;
}

enum torc_err torc_settings_read_text(struct torc_settings *settings, const char *name,
                                      const char *text, uint64_t text_bytes, struct torc_fail *why)
{
    struct settings_reader reader = {
        .settings = settings, .name = name, .text = text, .text_bytes = text_bytes};
    int bad = ini_parse_stream((ini_reader)settings_next_line, &reader, settings_take, &reader);

    if (reader.fail.err == TORC_ERR_OK && bad != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%.60s:%d: neither [section] nor key = value nor # comment", name, bad);
    }
    if (reader.fail.err != TORC_ERR_OK && why != NULL) {
        *why = reader.fail;
    }
    return reader.fail.err;
}

enum torc_err torc_settings_read_file(struct torc_settings *settings, const char *path,
                                      struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;
    char *text = malloc(SETTINGS_FILE_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t used = 0;
    int64_t got = 1;

    if (fd < 0 || text == NULL) {
        err = torc_fail(why, TORC_ERR_IO, "open %.90s: %s", path, strerrordesc_np(errno));
    }
    while (err == TORC_ERR_OK && got > 0 && used < SETTINGS_FILE_MAX) {
        got = read(fd, text + used, SETTINGS_FILE_MAX - used);
        if (got < 0) {
            err = torc_fail(why, TORC_ERR_IO, "read %.90s: %s", path, strerrordesc_np(errno));
        } else {
            used += (uint64_t)got;
        }
    }
    if (err == TORC_ERR_OK && used == SETTINGS_FILE_MAX) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.90s: %u bytes or more: no settings file",
                        path, SETTINGS_FILE_MAX);
    }
    if (err == TORC_ERR_OK) {
        err = torc_settings_read_text(settings, path, text, used, why);
    }
    if (fd >= 0) {
        (void)close(fd); // only read
    }
    free(text);
    return err;
}

// -- The command line ----------------------------------------------------------------------------

// One `--name[=value]`, taken apart.
struct settings_option {
    char name[64];
    const char *value; // behind '=', or NULL
};

static bool settings_option_of(const char *word, struct settings_option *option)
{
    const char *mark;
    uint64_t bytes;

    if (strcmp(word, "-h") == 0) {
        word = "--help";
    }
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
        return false;
    }
    mark = strchr(word, '=');
    bytes = mark != NULL ? (uint64_t)(mark - word) - 2 : strlen(word + 2);
    bytes = torc_min_u64(bytes, sizeof(option->name) - 1);
    memcpy(option->name, word + 2, bytes);
    option->name[bytes] = '\0';
    option->value = mark != NULL ? mark + 1 : NULL;
    return true;
}

// The flags that need no value. False: `name` is none of them.
static bool settings_take_flag(struct torc_settings_line *line, const char *const *flags,
                               const char *name)
{
    struct {
        const char *name;
        bool *given;
    } known[] = {{"check-config", &line->check_config},
                 {"print-config", &line->print_config},
                 {"help", &line->help},
                 {"version", &line->version}};

    for (uint32_t i = 0; i < TORC_COUNT_OF(known); i++) {
        if (strcmp(name, known[i].name) == 0) {
            *known[i].given = true;
            return true;
        }
    }
    for (uint32_t i = 0; flags != NULL && flags[i] != NULL; i++) {
        torc_assert(i < 64);
        if (strcmp(name, flags[i]) == 0) {
            line->flags |= UINT64_C(1) << i;
            return true;
        }
    }
    return false;
}

static enum torc_err settings_take_word(struct torc_settings_line *line, const char *word,
                                        struct torc_fail *why)
{
    if (line->word_count == TORC_SETTINGS_WORDS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "more than %u words at \"%.60s\"",
                         TORC_SETTINGS_WORDS_MAX, word);
    }
    line->words[line->word_count++] = word;
    return TORC_ERR_OK;
}

// One pass over the command line. Twice: the first finds --config and flags, the second sets keys.
static enum torc_err settings_pass(struct torc_settings *settings, int argc, char *const *argv,
                                   const char *const *flags, struct torc_settings_line *line,
                                   struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    memset(line, 0, sizeof(*line));
    for (int i = 1; i < argc && err == TORC_ERR_OK; i++) {
        struct settings_option option;
        bool config;

        if (strcmp(argv[i], "--") == 0) {
            for (i++; i < argc && err == TORC_ERR_OK; i++) {
                err = settings_take_word(line, argv[i], why);
            }
            break;
        }
        if (!settings_option_of(argv[i], &option)) {
            err = settings_take_word(line, argv[i], why);
            continue;
        }
        if (option.value == NULL && settings_take_flag(line, flags, option.name)) {
            continue;
        }
        config = strcmp(option.name, "config") == 0;
        if (option.value == NULL &&
            (config || torc_setting_find(option.name) < TORC_SETTING_COUNT)) {
            if (i + 1 == argc) {
                return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--%s: a value is missing",
                                 option.name);
            }
            option.value = argv[++i];
        }
        if (config) {
            line->config = option.value;
        } else if (settings != NULL) {
            err = torc_settings_set(settings, NULL, option.name,
                                    option.value != NULL ? option.value : "",
                                    TORC_SETTING_FROM_COMMAND, why);
        }
    }
    return err;
}

// DESIGN.md, section 12: /var/lib/torc for root, else $XDG_DATA_HOME/torc (its own default:
// ~/.local/share).
static enum torc_err settings_default_data(struct torc_settings *settings, struct torc_fail *why)
{
    const char *base = getenv("XDG_DATA_HOME"); // NOLINT(concurrency-mt-unsafe): before any thread
    const char *home = getenv("HOME");          // NOLINT(concurrency-mt-unsafe)
    char path[TORC_SETTINGS_TEXT_BYTES + 32];
    int bytes;

    if (settings->data[0] != '\0') {
        return TORC_ERR_OK;
    }
    if (geteuid() == 0) {
        bytes = snprintf(path, sizeof(path), "/var/lib/torc");
    } else if (base != NULL && base[0] == '/') {
        bytes = snprintf(path, sizeof(path), "%s/torc", base);
    } else if (home != NULL && home[0] == '/') {
        bytes = snprintf(path, sizeof(path), "%s/.local/share/torc", home);
    } else {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "data: no default without HOME or XDG_DATA_HOME: give --data DIRECTORY");
    }
    if (bytes < 0 || bytes >= TORC_SETTINGS_TEXT_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "data: default of over %u bytes",
                         TORC_SETTINGS_TEXT_BYTES - 1);
    }
    return torc_settings_set(settings, NULL, "data", path, TORC_SETTING_FROM_DEFAULT, why);
}

// Parts of the node take the directory's name along (its metastore's address): from the root on.
static enum torc_err settings_absolute_data(struct torc_settings *settings, struct torc_fail *why)
{
    char here[TORC_SETTINGS_TEXT_BYTES];
    char path[2 * TORC_SETTINGS_TEXT_BYTES + 1];

    if (settings->data[0] == '/') {
        return TORC_ERR_OK;
    }
    if (getcwd(here, sizeof(here)) == NULL) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "data = %.80s: the working directory: %s; begin with /", settings->data,
                         strerrordesc_np(errno));
    }
    (void)snprintf(path, sizeof(path), "%s/%s", strcmp(here, "/") == 0 ? "" : here, settings->data);
    return torc_settings_set(settings, NULL, "data", path, settings->source[TORC_SETTING_data],
                             why);
}

enum torc_err torc_settings_load(struct torc_settings *settings, int argc, char *const *argv,
                                 const char *const *flags, struct torc_settings_line *line,
                                 struct torc_fail *why)
{
    enum torc_err err = settings_pass(NULL, argc, argv, flags, line, why);

    torc_settings_default(settings);
    if (err == TORC_ERR_OK && line->config != NULL) {
        err = torc_settings_read_file(settings, line->config, why);
    }
    if (err == TORC_ERR_OK) {
        err = settings_pass(settings, argc, argv, flags, line, why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_settings_check_given(settings, why);
    }
    if (err == TORC_ERR_OK) {
        err = settings_default_data(settings, why);
    }
    if (err == TORC_ERR_OK) {
        err = settings_absolute_data(settings, why);
    }
    return err;
}
