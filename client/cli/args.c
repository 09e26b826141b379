// Torc cli: see args.h.
#include "client/cli/args.h"

#include "client/cli/key.h"
#include "kit/settings.h"

#include <string.h>

struct args_option {
    const char *name;
    const char *argument;
    const char *help;
    char letter;
};

struct args_verb {
    const char *name;
    const char *operands;
    const char *help;
    const char *example;
    uint64_t options;
    uint32_t least;
    uint32_t most;
};

static const struct args_option args_options[] = {
#define X(name, text, letter, argument, help) {text, argument, help, letter},
    TORC_OPTION_TABLE(X)
#undef X
};

static const struct args_verb args_verbs[] = {
#define X(name, text, operands, least, most, options, help, example) \
    {text, operands, help, example, options, least, most},
    TORC_VERB_TABLE(X)
#undef X
};

static const uint64_t args_always = TORC_OPTION_BIT(HELP) | TORC_OPTION_BIT(VERSION);

static bool args_takes_settings(enum torc_verb verb)
{
    return verb == TORC_VERB_SERVE || verb == TORC_VERB_INIT || verb == TORC_VERB_VERIFY;
}

static bool args_passed_on(enum torc_verb verb)
{
    return args_takes_settings(verb) || verb == TORC_VERB_DEMO;
}

const char *torc_verb_name(enum torc_verb verb)
{
    torc_assert(verb < TORC_VERB_COUNT_OF);
    return args_verbs[verb].name;
}

enum torc_verb torc_verb_find(const char *text)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_verbs); i++) {
        if (strcmp(args_verbs[i].name, text) == 0) {
            return (enum torc_verb)i;
        }
    }
    return TORC_VERB_COUNT_OF;
}

enum torc_exit torc_exit_of(enum torc_err err)
{
    if (err == TORC_ERR_OK) {
        return TORC_EXIT_OK;
    }
    if (err == TORC_ERR_NOT_FOUND) {
        return TORC_EXIT_NOT_FOUND;
    }
    if (err == TORC_ERR_CONDITION_FAILED) {
        return TORC_EXIT_CONDITION;
    }
    if (err == TORC_ERR_INVALID_ARGUMENT || err == TORC_ERR_TOO_LARGE ||
        err == TORC_ERR_UNSUPPORTED || err == TORC_ERR_FORBIDDEN) {
        return TORC_EXIT_USAGE;
    }
    if (torc_err_maybe_applied(err)) {
        return TORC_EXIT_IN_DOUBT;
    }
    if (torc_err_retryable(err) || err == TORC_ERR_DEADLINE || err == TORC_ERR_NOT_CONNECTED ||
        err == TORC_ERR_CLOSED || err == TORC_ERR_CANCELLED || err == TORC_ERR_IN_USE) {
        return TORC_EXIT_UNAVAILABLE;
    }
    return TORC_EXIT_FAULT;
}

// How many letters must be changed, added or dropped to make one word of the other; cut at 15
// letters.
static uint32_t args_distance(const char *a, const char *b)
{
    uint8_t row[17];
    size_t a_bytes = strnlen(a, 15);
    size_t b_bytes = strnlen(b, 15);

    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = (uint8_t)j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        uint8_t corner = row[0];

        row[0] = (uint8_t)i;
        for (size_t j = 1; j <= b_bytes; j++) {
            uint8_t change = (uint8_t)(corner + (a[i - 1] == b[j - 1] ? 0 : 1));
            uint8_t drop = (uint8_t)(torc_min_u64(row[j], row[j - 1]) + 1);

            corner = row[j];
            row[j] = (uint8_t)torc_min_u64(change, drop);
        }
    }
    return row[b_bytes];
}

static enum torc_err args_unknown_verb(const char *text, struct torc_fail *why)
{
    uint32_t best = TORC_VERB_HELP;

    for (uint32_t i = 0; i < TORC_COUNT_OF(args_verbs); i++) {
        if (args_distance(text, args_verbs[i].name) < args_distance(text, args_verbs[best].name)) {
            best = i;
        }
    }
    if (args_distance(text, args_verbs[best].name) <= 2) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.40s: no such verb; did you mean %s?",
                         text, args_verbs[best].name);
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.40s: no such verb; see torc help", text);
}

static enum torc_err args_unknown_option(const char *text, size_t bytes, struct torc_fail *why)
{
    char name[16] = "";
    uint32_t best = TORC_OPTION_HELP;

    memcpy(name, text, torc_min_u64(bytes, sizeof(name) - 1));
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        if (args_distance(name, args_options[i].name) <
            args_distance(name, args_options[best].name)) {
            best = i;
        }
    }
    if (args_distance(name, args_options[best].name) <= 3) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--%.*s: no such option; did you mean --%s?", (int)torc_min_u64(bytes, 40),
                         text, args_options[best].name);
    }
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--%.*s: no such option; see torc help",
                     (int)torc_min_u64(bytes, 40), text);
}

static uint32_t args_find_long(const char *name, size_t bytes)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        if (strlen(args_options[i].name) == bytes &&
            memcmp(args_options[i].name, name, bytes) == 0) {
            return i;
        }
    }
    return TORC_OPTION_COUNT_OF;
}

static uint32_t args_find_letter(char letter)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        if (args_options[i].letter == letter) {
            return i;
        }
    }
    return TORC_OPTION_COUNT_OF;
}

// The option at argv[*index]; takes its value from the same word or the next one.
static enum torc_err args_take_option(struct torc_args *args, const char *const *argv,
                                      uint32_t count, uint32_t *index, struct torc_fail *why)
{
    const char *word = argv[*index];
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    size_t name_bytes = is_long ? strcspn(name, "=") : 1;
    const char *value = name[name_bytes] == '\0' ? NULL : name + name_bytes + (is_long ? 1 : 0);
    uint32_t option = is_long ? args_find_long(name, name_bytes) : args_find_letter(name[0]);

    if (option == TORC_OPTION_COUNT_OF) {
        return is_long ? args_unknown_option(name, name_bytes, why)
                       : torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                                   "-%c: no such option; see torc help", name[0]);
    }
    if (args_options[option].argument[0] == '\0') {
        if (value != NULL) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.60s: --%s takes no value", word,
                             args_options[option].name);
        }
        value = "";
    } else if (value == NULL) {
        if (*index + 1 == count) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--%s: a value is missing (%s)",
                             args_options[option].name, args_options[option].argument);
        }
        value = argv[++*index];
    }
    args->given |= UINT64_C(1) << option;
    args->values[option] = value;
    return TORC_ERR_OK;
}

static enum torc_err args_take_word(struct torc_args *args, const char *word, uint32_t index,
                                    struct torc_fail *why)
{
    if (args->verb == TORC_VERB_COUNT_OF) {
        args->verb = torc_verb_find(word);
        args->verb_index = index;
        return args->verb == TORC_VERB_COUNT_OF ? args_unknown_verb(word, why) : TORC_ERR_OK;
    }
    if (args->word_count == TORC_ARGS_WORDS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.60s: more than %d operands", word,
                         TORC_ARGS_WORDS_MAX);
    }
    args->words[args->word_count++] = word;
    return TORC_ERR_OK;
}

// What the verb takes: its number of operands, and no option of other verbs.
static enum torc_err args_check(const struct torc_args *args, struct torc_fail *why)
{
    const struct args_verb *verb = &args_verbs[args->verb];
    uint64_t strange = args->given & ~(verb->options | args_always);

    if (torc_args_given(args, TORC_OPTION_HELP)) {
        return TORC_ERR_OK;
    }
    if (strange != 0 && args_passed_on(args->verb)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--%s stands before %s: what is said to it comes behind the verb",
                         args_options[__builtin_ctzll(strange)].name, verb->name);
    }
    if (strange != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--%s is not an option of torc %s; see torc help %s",
                         args_options[__builtin_ctzll(strange)].name, verb->name, verb->name);
    }
    if (args->word_count < verb->least) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "usage: torc %s %s; see torc help %s",
                         verb->name, verb->operands, verb->name);
    }
    if (args->word_count > verb->most) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%.60s: one word too many; torc %s %s",
                         args->words[verb->most], verb->name, verb->operands);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_args_parse(struct torc_args *args, const char *const *argv, uint32_t count,
                              struct torc_fail *why)
{
    bool options = true;

    memset(args, 0, sizeof(*args));
    args->verb = TORC_VERB_COUNT_OF;
    for (uint32_t i = 0; i < count; i++) {
        enum torc_err err = TORC_ERR_OK;

        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
            err = args_take_option(args, argv, count, &i, why);
        } else {
            err = args_take_word(args, argv[i], i, why);
        }
        if (err != TORC_ERR_OK) {
            return err;
        }
        if (args->verb != TORC_VERB_COUNT_OF && args_passed_on(args->verb)) {
            break; // what follows are settings
        }
    }
    return args->verb == TORC_VERB_COUNT_OF ? TORC_ERR_OK : args_check(args, why);
}

enum torc_err torc_args_number(const struct torc_args *args, enum torc_option option,
                               struct torc_args_span span, uint64_t *value, struct torc_fail *why)
{
    const char *text = args->values[option];
    uint64_t number = 0;

    if (!torc_args_given(args, option)) {
        *value = span.fallback;
        return TORC_ERR_OK;
    }
    if (torc_key_parse(text, strlen(text), TORC_KEY_DEC, "", &number, NULL) != TORC_ERR_OK ||
        number < span.least || number > span.most) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "--%s %.40s: a number from %" PRIu64 " to %" PRIu64,
                         args_options[option].name, text, span.least, span.most);
    }
    *value = number;
    return TORC_ERR_OK;
}

static uint32_t torc_printf_like(3, 4)
    args_print(char *text, uint32_t length, const char *format, ...)
{
    va_list arguments;
    int written;

    torc_assert(length < TORC_ARGS_HELP_BYTES);
    va_start(arguments, format);
    written = vsnprintf(text + length, TORC_ARGS_HELP_BYTES - length, format, arguments);
    va_end(arguments);
    torc_assert(written >= 0);
    torc_assert((uint32_t)written < TORC_ARGS_HELP_BYTES - length);
    return length + (uint32_t)written;
}

// The columns of UTF-8 text: bytes that do not continue a character.
static int args_columns(const char *text)
{
    int columns = 0;

    for (; *text != '\0'; text++) {
        columns += ((unsigned char)*text & 0xc0) != 0x80 ? 1 : 0;
    }
    return columns;
}

static uint32_t args_help_option(char *text, uint32_t length, const struct args_option *option)
{
    char letter[4] = "   ";
    int columns = (int)strlen(option->name) + 1 + args_columns(option->argument);

    if (option->letter != 0) {
        letter[0] = '-';
        letter[1] = option->letter;
    }
    return args_print(text, length, "  %s --%s %s%*s %s\n", letter, option->name, option->argument,
                      columns < 28 ? 28 - columns : 0, "", option->help);
}

static uint32_t args_help_verb(enum torc_verb verb, char *text)
{
    const struct args_verb *one = &args_verbs[verb];
    uint32_t length = 0;

    length =
        args_print(text, length, "usage: torc %s %s%s\n\n%s\n\nexample: %s\n", one->name,
                   one->operands, one->options != 0 ? " [OPTIONS]" : "", one->help, one->example);
    if (verb == TORC_VERB_DEMO) {
        return args_print(text, length, "\nMore: torc demo --help\n");
    }
    if (args_passed_on(verb)) {
        return args_print(text, length,
                          "\nSettings and their defaults: torc serve --print-config\n");
    }
    length = args_print(text, length, "\noptions:\n");
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        if (((one->options | TORC_OPTION_BIT(HELP)) >> i & 1) != 0) {
            length = args_help_option(text, length, &args_options[i]);
        }
    }
    return length;
}

uint32_t torc_args_help(enum torc_verb verb, char *text)
{
    static const struct {
        int number;
        const char *help;
    } exits[] = {
#define X(name, number, help) {number, help},
        TORC_EXIT_TABLE(X)
#undef X
    };
    uint32_t length = 0;

    if (verb != TORC_VERB_COUNT_OF) {
        return args_help_verb(verb, text);
    }
    length = args_print(text, length,
                        "torc: a key-value store with fast range queries\n\n"
                        "usage: torc VERB …       torc help VERB says more, with an example\n"
                        "       torc              an interactive shell, on a terminal\n\nverbs:\n");
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_verbs); i++) {
        length = args_print(text, length, "  %-11s %s\n", args_verbs[i].name, args_verbs[i].help);
    }
    length = args_print(text, length, "\nexit codes:\n");
    for (uint32_t i = 0; i < TORC_COUNT_OF(exits); i++) {
        length = args_print(text, length, "  %d  %s\n", exits[i].number, exits[i].help);
    }
    return args_print(
        text, length,
        "\noutput (-o):\n"
        "  table  for people: bytes that are not text are shown as \\xNN\n"
        "  json   an object a line; a value that is not UTF-8 is in \"value_base64\"\n"
        "  csv    key,value; quoted where needed (RFC 4180), bytes as they are\n"
        "  raw    the bytes of the values: get adds nothing, range ends each with "
        "a newline\n");
}

// `table|json|csv|raw` are the words that can stand there; `HOST[:PORT],…` is none.
static bool args_is_choice(const char *argument)
{
    for (const char *at = argument; *at != '\0'; at++) {
        if (*at != '|' && (*at < 'a' || *at > 'z')) {
            return false;
        }
    }
    return strchr(argument, '|') != NULL;
}

// In an option's place: the words of its argument.
static uint32_t args_complete_values(char *text, uint32_t length)
{
    length = args_print(text, length, "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n");
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        const struct args_option *option = &args_options[i];

        if (args_is_choice(option->argument)) {
            length = args_print(text, length, "    --%s", option->name);
            if (option->letter != 0) {
                length = args_print(text, length, "|-%c", option->letter);
            }
            length = args_print(text, length, ") list='");
            for (const char *at = option->argument; *at != '\0'; at++) {
                length = args_print(text, length, "%c", *at == '|' ? ' ' : *at);
            }
            length = args_print(text, length, "' ;;\n");
        }
    }
    return args_print(text, length, "    esac\n");
}

static uint32_t args_complete_options(char *text, uint32_t length, uint32_t verb)
{
    length = args_print(text, length, "    %s) options='", args_verbs[verb].name);
    for (uint32_t i = 0; i < TORC_SETTING_COUNT && args_takes_settings((enum torc_verb)verb); i++) {
        length = args_print(text, length, "--%s ", torc_setting_info(i)->key);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        if (((args_verbs[verb].options | TORC_OPTION_BIT(HELP)) >> i & 1) != 0) {
            length = args_print(text, length, "--%s ", args_options[i].name);
        }
    }
    return args_print(text, length, "%s' ;;\n",
                      verb == TORC_VERB_SERVE  ? "--detach"
                      : verb == TORC_VERB_DEMO ? "--nodes --metastore --clear --keep"
                                               : "");
}

uint32_t torc_args_completion(char *text)
{
    uint32_t length = args_print(text, 0,
                                 "# Completion of torc for bash; made by `torc completion bash`.\n"
                                 "_torc() {\n"
                                 "    local word=${COMP_WORDS[COMP_CWORD]} verb= list= options= i\n"
                                 "    local verbs='");

    for (uint32_t i = 0; i < TORC_COUNT_OF(args_verbs); i++) {
        length = args_print(text, length, "%s%s", i == 0 ? "" : " ", args_verbs[i].name);
    }
    length = args_print(text, length,
                        "'\n"
                        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                        "        if [[ \" $verbs \" == *\" ${COMP_WORDS[i]} \"* ]]; then\n"
                        "            verb=${COMP_WORDS[i]}\n"
                        "            break\n"
                        "        fi\n"
                        "    done\n");
    length = args_complete_values(text, length);
    length = args_print(text, length, "    case $verb in\n");
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_verbs); i++) {
        length = args_complete_options(text, length, i);
    }
    return args_print(
        text, length,
        "    '') options='--cluster --data --output --help --version' ;;\n"
        "    esac\n"
        "    if [[ -z $list && $word == -* ]]; then\n"
        "        list=$options\n"
        "    elif [[ -z $list && ( -z $verb || $verb == help ) ]]; then\n"
        "        list=$verbs\n"
        "    fi\n"
        "    COMPREPLY=()\n"
        "    [[ -z $list ]] || mapfile -t COMPREPLY < <(compgen -W \"$list\" -- \"$word\")\n"
        "}\n"
        "complete -o default -F _torc torc\n");
}

const char *torc_args_complete_verb(const char *prefix, uint32_t index)
{
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_verbs); i++) {
        if (strncmp(args_verbs[i].name, prefix, strlen(prefix)) == 0 && index-- == 0) {
            return args_verbs[i].name;
        }
    }
    return NULL;
}

const char *torc_args_complete_option(enum torc_verb verb, const char *prefix, uint32_t index)
{
    torc_assert(verb < TORC_VERB_COUNT_OF);
    for (uint32_t i = 0; i < TORC_COUNT_OF(args_options); i++) {
        if (((args_verbs[verb].options | TORC_OPTION_BIT(HELP)) >> i & 1) != 0 &&
            strncmp(args_options[i].name, prefix, strlen(prefix)) == 0 && index-- == 0) {
            return args_options[i].name;
        }
    }
    return NULL;
}
