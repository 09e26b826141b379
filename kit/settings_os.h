// Torc kit: where settings come from: the INI file and the command line.
//
// What    reads `--config FILE`, then every `--key value` or `--key=value` over it. An unknown key
//         is an error that names the nearest one; a file's error names file and line.
// Owner   a program's main, once, before anything else.
// Order   default, file, command line; the later wins. The one variable of the environment that
//         counts is XDG_DATA_HOME, for the default data directory (DESIGN.md, section 12).
// Use
//     struct torc_settings settings;
//     struct torc_settings_line line;
//     err = torc_settings_load(&settings, argc, argv, NULL, &line, &why);
//     line.words[0..word_count) are what is not an option, in order: verbs and operands.
#ifndef TORC_KIT_SETTINGS_OS_H
#define TORC_KIT_SETTINGS_OS_H

#include "kit/settings.h"

#define TORC_SETTINGS_WORDS_MAX 32

// What the command line says besides settings.
struct torc_settings_line {
    const char *words[TORC_SETTINGS_WORDS_MAX]; // argv's own strings, argv[0] left out
    uint32_t word_count;
    uint64_t flags;     // bit i: the program's own flag i was given
    const char *config; // --config, or NULL
    bool check_config;  // --check-config: say what is wrong, or that nothing is, and end
    bool print_config;  // --print-config: the commented INI file, and end
    bool help;          // --help, -h
    bool version;       // --version
};

// Defaults, file, command line, torc_settings_check_given; the data directory's default is filled
// in, and its name begins with / afterwards.
// `flags`: names of the program's own options without a value, ended by NULL; may be NULL itself.
enum torc_err torc_must_use torc_settings_load(struct torc_settings *settings, int argc,
                                               char *const *argv, const char *const *flags,
                                               struct torc_settings_line *line,
                                               struct torc_fail *why);

// One file alone, over what the settings hold.
enum torc_err torc_must_use torc_settings_read_file(struct torc_settings *settings,
                                                    const char *path, struct torc_fail *why);

// The same from memory, for tests; `name` is for messages.
enum torc_err torc_must_use torc_settings_read_text(struct torc_settings *settings,
                                                    const char *name, const char *text,
                                                    uint64_t text_bytes, struct torc_fail *why);

#endif
