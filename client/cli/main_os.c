// Torc cli: program torc: the command line of users and operators.
#include "client/cli/cli_os.h"
#include "client/cli/serve_os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int main_help(enum torc_verb verb)
{
    char *text = malloc(TORC_ARGS_HELP_BYTES);

    if (text == NULL) {
        return TORC_EXIT_FAULT;
    }
    (void)torc_args_help(verb, text);
    (void)printf("%s", text);
    free(text);
    return fflush(stdout) == 0 ? TORC_EXIT_OK : TORC_EXIT_FAULT;
}

static int main_completion(const struct torc_args *args)
{
    char *text = malloc(TORC_ARGS_HELP_BYTES);

    if (args->word_count > 0 && strcmp(args->words[0], "bash") != 0) {
        (void)fprintf(stderr, "torc: completion %s: only for bash\n", args->words[0]);
        free(text);
        return TORC_EXIT_USAGE;
    }
    if (text == NULL) {
        return TORC_EXIT_FAULT;
    }
    (void)torc_args_completion(text);
    (void)printf("%s", text);
    free(text);
    return fflush(stdout) == 0 ? TORC_EXIT_OK : TORC_EXIT_FAULT;
}

static int main_say(enum torc_err err, const struct torc_fail *why)
{
    if (err != TORC_ERR_OK) {
        (void)fprintf(stderr, "torc: %s\n",
                      why->text[0] != '\0' ? why->text : torc_err_sentence(err));
    }
    return (int)torc_exit_of(err);
}

static int main_verb(struct torc_cli *cli, const struct torc_args *args)
{
    struct torc_fail why = {0};
    enum torc_err err = torc_cli_begin(cli, args, &why);

    if (err == TORC_ERR_OK) {
        err = torc_cli_run(cli, &why);
    }
    if (fflush(stdout) != 0 && err == TORC_ERR_OK) {
        err = torc_fail(&why, TORC_ERR_IO, "standard output: %s", strerrordesc_np(errno));
    }
    return main_say(err, &why);
}

// `torc help`, `torc help VERB`, `torc VERB --help`.
static int main_help_on(const struct torc_args *args)
{
    enum torc_verb verb = args->verb;

    if (verb == TORC_VERB_HELP && args->word_count > 0) {
        verb = torc_verb_find(args->words[0]);
        if (verb == TORC_VERB_COUNT_OF) {
            (void)fprintf(stderr, "torc: %s: no such verb; see torc help\n", args->words[0]);
            return TORC_EXIT_USAGE;
        }
    } else if (verb == TORC_VERB_HELP) {
        verb = TORC_VERB_COUNT_OF;
    }
    return main_help(verb);
}

int main(int argc, char **argv)
{
    struct torc_cli cli = {0};
    struct torc_args args;
    struct torc_fail why = {0};
    uint32_t count = argc > 1 ? (uint32_t)argc - 1 : 0;
    enum torc_err err = torc_args_parse(&args, (const char *const *)argv + 1, count, &why);
    int status;

    if (err != TORC_ERR_OK) {
        return main_say(err, &why);
    }
    if (torc_args_given(&args, TORC_OPTION_VERSION)) {
        (void)printf("torc %s\n", torc_version());
        return TORC_EXIT_OK;
    }
    if (args.verb == TORC_VERB_HELP || torc_args_given(&args, TORC_OPTION_HELP)) {
        return main_help_on(&args);
    }
    if (args.verb == TORC_VERB_COMPLETION) {
        return main_completion(&args);
    }
    if (args.verb == TORC_VERB_SERVE) {
        argv[args.verb_index + 1] = argv[0]; // as the user calls this program
        return torc_serve(argc - (int)args.verb_index - 1, argv + args.verb_index + 1);
    }
    if (args.verb == TORC_VERB_DEMO) {
        err = torc_serve_demo(argv + args.verb_index + 2, &why);
        return main_say(err, &why);
    }
    if (args.verb == TORC_VERB_INIT || args.verb == TORC_VERB_VERIFY) {
        err = torc_serve_control(torc_verb_name(args.verb), argv + args.verb_index + 2, &why);
        return main_say(err, &why);
    }
    if (args.verb == TORC_VERB_COUNT_OF &&
        !(isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1)) {
        (void)main_help(TORC_VERB_COUNT_OF);
        return TORC_EXIT_USAGE;
    }
    if (args.verb == TORC_VERB_COUNT_OF) {
        cli.shell_args = &args;
        status = torc_cli_shell(&cli);
    } else {
        status = main_verb(&cli, &args);
    }
    torc_cli_end(&cli);
    return status;
}
