// Torc cli: the interactive shell: each line is a command line without the word torc.
//
// What    libedit: editing, history in $XDG_STATE_HOME/torc/history (else ~/.local/state),
//         completion of verbs and options. A failed line says why and the shell goes on.
#include "client/cli/cli_os.h"
#include "client/cli/words.h"

#include <histedit.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHELL_HISTORY_LINES = 1000
};

static char *shell_prompt(EditLine *edit)
{
    static char prompt[] = "torc> ";

    (void)edit;
    return prompt;
}

// What the cursor's word could go on with: a verb in the first place, else an option of the verb.
static const char *shell_candidate(const struct torc_words *words, const char *word, uint32_t index)
{
    enum torc_verb verb = words->count == 0 ? TORC_VERB_COUNT_OF : torc_verb_find(words->words[0]);

    if (words->count == 0 || (words->count == 1 && word == words->words[0])) {
        return torc_args_complete_verb(word, index);
    }
    if (verb == TORC_VERB_HELP) {
        return torc_args_complete_verb(word, index);
    }
    if (verb == TORC_VERB_COUNT_OF || strncmp(word, "--", 2) != 0) {
        return NULL;
    }
    return torc_args_complete_option(verb, word + 2, index);
}

// How many bytes all candidates have in common.
static size_t shell_common(const struct torc_words *words, const char *word, uint32_t *count)
{
    const char *first = shell_candidate(words, word, 0);
    size_t common = first == NULL ? 0 : strlen(first);

    *count = first == NULL ? 0 : 1;
    for (;;) {
        const char *next = shell_candidate(words, word, *count);
        size_t same = 0;

        if (first == NULL || next == NULL) {
            return common;
        }
        while (same < common && first[same] == next[same]) {
            same++;
        }
        common = same;
        ++*count;
    }
}

static unsigned char shell_complete(EditLine *edit, int key)
{
    static struct torc_words words; // too large for a frame of libedit's
    const LineInfo *line = el_line(edit);
    char text[1024];
    size_t bytes = (size_t)(line->cursor - line->buffer);
    const char *word = "";
    const char *first;
    size_t typed;
    uint32_t count = 0;
    size_t common;

    (void)key;
    if (bytes >= sizeof(text)) {
        return CC_ERROR;
    }
    memcpy(text, line->buffer, bytes);
    text[bytes] = '\0';
    if (torc_words_split(&words, text, NULL) != TORC_ERR_OK) {
        return CC_ERROR;
    }
    if (words.count > 0 && bytes > 0 && text[bytes - 1] != ' ') {
        word = words.words[words.count - 1];
    }
    common = shell_common(&words, word, &count);
    first = shell_candidate(&words, word, 0);
    typed = strlen(word) - (strncmp(word, "--", 2) == 0 ? 2 : 0);
    if (count == 0) {
        return CC_ERROR;
    }
    if (common > typed) {
        (void)snprintf(text, sizeof(text), "%.*s%s", (int)(common - typed), first + typed,
                       count == 1 ? " " : "");
        return el_insertstr(edit, text) == 0 ? CC_REFRESH : CC_ERROR;
    }
    if (count == 1) {
        return el_insertstr(edit, " ") == 0 ? CC_REFRESH : CC_ERROR;
    }
    (void)printf("\n");
    for (uint32_t i = 0; i < count; i++) {
        (void)printf("%s  ", shell_candidate(&words, word, i));
    }
    (void)printf("\n");
    return CC_REDISPLAY;
}

// Where history is kept; empty when there is no home.
static void shell_history_path(char path[512])
{
    const char *state = getenv("XDG_STATE_HOME"); // NOLINT(concurrency-mt-unsafe): one thread
    const char *home = getenv("HOME");            // NOLINT(concurrency-mt-unsafe)
    char folder[400] = "";

    path[0] = '\0';
    if (state != NULL && state[0] == '/') {
        (void)snprintf(folder, sizeof(folder), "%.300s/torc", state);
    } else if (home != NULL && home[0] == '/') {
        (void)snprintf(folder, sizeof(folder), "%.300s/.local", home);
        (void)mkdir(folder, 0700);
        (void)snprintf(folder, sizeof(folder), "%.300s/.local/state", home);
        (void)mkdir(folder, 0700);
        (void)snprintf(folder, sizeof(folder), "%.300s/.local/state/torc", home);
    }
    if (folder[0] != '\0' && (mkdir(folder, 0700) == 0 || errno == EEXIST)) {
        (void)snprintf(path, 512, "%s/history", folder);
    }
}

static void shell_help(enum torc_verb verb)
{
    char *text = malloc(TORC_ARGS_HELP_BYTES);

    if (text != NULL) {
        (void)torc_args_help(verb, text);
        (void)printf("%s", text);
        free(text);
    }
    if (verb == TORC_VERB_COUNT_OF) {
        (void)printf("\nin this shell: the word torc is left out; quit or Ctrl-D ends it\n");
    }
}

// One line. False when it ends the shell.
static bool shell_line(struct torc_cli *cli, const char *line)
{
    static struct torc_words words;
    struct torc_args args;
    struct torc_fail why = {0};
    enum torc_err err = torc_words_split(&words, line, &why);
    uint32_t skip = words.count > 0 && strcmp(words.words[0], "torc") == 0 ? 1 : 0;

    if (err == TORC_ERR_OK && words.count == skip) {
        return true;
    }
    if (err == TORC_ERR_OK &&
        (strcmp(words.words[skip], "quit") == 0 || strcmp(words.words[skip], "exit") == 0)) {
        return false;
    }
    if (err == TORC_ERR_OK) {
        err = torc_args_parse(&args, words.words + skip, words.count - skip, &why);
    }
    if (err == TORC_ERR_OK && args.verb == TORC_VERB_COUNT_OF) {
        shell_help(TORC_VERB_COUNT_OF);
        return true;
    }
    if (err == TORC_ERR_OK &&
        (args.verb == TORC_VERB_HELP || torc_args_given(&args, TORC_OPTION_HELP))) {
        bool all = args.verb == TORC_VERB_HELP && args.word_count == 0;

        shell_help(all                           ? TORC_VERB_COUNT_OF
                   : args.verb == TORC_VERB_HELP ? torc_verb_find(args.words[0])
                                                 : args.verb);
        return true;
    }
    // What the shell itself was started with holds for every line that does not say otherwise.
    if (err == TORC_ERR_OK) {
        const struct torc_args *outer = cli->shell_args;

        for (uint32_t i = 0; i < TORC_OPTION_COUNT_OF; i++) {
            if (!torc_args_given(&args, (enum torc_option)i) &&
                torc_args_given(outer, (enum torc_option)i)) {
                args.given |= UINT64_C(1) << i;
                args.values[i] = outer->values[i];
            }
        }
        err = torc_cli_begin(cli, &args, &why);
    }
    if (err == TORC_ERR_OK) {
        err = torc_cli_run(cli, &why);
    }
    (void)fflush(stdout);
    if (err != TORC_ERR_OK) {
        (void)fprintf(stderr, "%s: %s\n", torc_err_name(err), why.text);
    }
    return true;
}

int torc_cli_shell(struct torc_cli *cli)
{
    EditLine *edit = el_init("torc", stdin, stdout, stderr);
    History *past = history_init();
    HistEvent event;
    char path[512];
    const char *line;
    int bytes = 0;
    bool go_on = true;

    if (edit == NULL || past == NULL) {
        (void)fprintf(stderr, "torc: the terminal cannot be used for a shell\n");
        return TORC_EXIT_FAULT;
    }
    shell_history_path(path);
    (void)history(past, &event, H_SETSIZE, SHELL_HISTORY_LINES);
    (void)history(past, &event, H_SETUNIQUE, 1);
    if (path[0] != '\0') {
        (void)history(past, &event, H_LOAD, path);
    }
    (void)el_set(edit, EL_PROMPT, shell_prompt);
    (void)el_set(edit, EL_EDITOR, "emacs");
    (void)el_set(edit, EL_SIGNAL, 1);
    (void)el_set(edit, EL_HIST, history, past);
    (void)el_set(edit, EL_ADDFN, "torc-complete", "completes verbs and options", shell_complete);
    (void)el_set(edit, EL_BIND, "^I", "torc-complete", NULL);
    (void)printf("torc %s; help lists the verbs, quit ends\n", torc_version());
    while (go_on && (line = el_gets(edit, &bytes)) != NULL && bytes > 0) {
        if (strspn(line, " \t\r\n") != (size_t)bytes) {
            (void)history(past, &event, H_ENTER, line);
        }
        go_on = shell_line(cli, line);
    }
    if (path[0] != '\0') {
        (void)history(past, &event, H_SAVE, path);
    }
    history_end(past);
    el_end(edit);
    (void)printf("\n");
    return TORC_EXIT_OK;
}
