// Torc perf: the command line of torc-perf; see options_os.h.
#include "perf/options_os.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_kind {
    OPTION_NUMBER,
    OPTION_TEXT,
    OPTION_FLAG
};

struct option_info {
    const char *name;
    const char *help;
    uint64_t fallback;
    uint64_t least;
    uint64_t greatest;
    size_t offset;
    enum option_kind kind;
};

static const struct option_info option_infos[] = {
#define X(kind, field, name, fallback, least, greatest, help)                                  \
    {name,         help, fallback, least, greatest, offsetof(struct torc_perf_options, field), \
     OPTION_##kind},
    TORC_PERF_OPTIONS_TABLE(X)
#undef X
};

enum {
    OPTION_COUNT = sizeof(option_infos) / sizeof(option_infos[0])
};

static void options_help(void)
{
    puts("torc-perf: loads a Torc cluster and measures how it answers.\n\n"
         "  torc-perf --cluster 10.79.0.11 --workload b --records 1M --seconds 10 --window 64\n");
    for (int i = 0; i < OPTION_COUNT; i++) {
        printf("  --%-13s %s", option_infos[i].name, option_infos[i].help);
        if (option_infos[i].kind == OPTION_NUMBER) {
            printf(" [%llu]", (unsigned long long)option_infos[i].fallback);
        }
        puts("");
    }
    puts("\nWorkloads:");
    for (int i = 0; i < TORC_WORKLOAD_COUNT; i++) {
        const struct torc_workload_info *info = torc_workload_info((enum torc_workload)i);

        printf("  %-15s %s\n", info->name, info->help);
    }
    puts("\nExit status: 0 done, 1 a wrong answer was seen, 2 usage, 3 no connection or failed\n"
         "operations, 4 void: the generator fell behind its rate.");
}

static bool options_number(const struct option_info *info, const char *text, uint64_t *number)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 0);
    uint64_t unit = 1;

    if (end != text && *end != '\0' && strchr("KMGkmg", *end) != NULL) {
        unit = *end == 'K' || *end == 'k'   ? 1000
               : *end == 'M' || *end == 'm' ? 1000000
                                            : 1000000000;
        end++;
    }
    if (end == text || *end != '\0' || *text == '-' || value > UINT64_MAX / unit ||
        value * unit < info->least || value * unit > info->greatest) {
        fprintf(stderr, "torc-perf: --%s takes a number from %llu to %llu, not '%s'\n", info->name,
                (unsigned long long)info->least, (unsigned long long)info->greatest, text);
        return false;
    }
    *number = value * unit;
    return true;
}

static bool options_words(struct torc_perf_options *options)
{
    static const char *const orders[] = {
#define X(name, text) text,
        TORC_KEYS_ORDER_TABLE(X)
#undef X
    };
    uint32_t order = 0;

    options->mix = torc_workload_find(options->workload == NULL ? "c" : options->workload);
    if (options->mix == TORC_WORKLOAD_COUNT) {
        fprintf(stderr, "torc-perf: there is no workload '%s'; see --help\n", options->workload);
        return false;
    }
    options->order = torc_workload_info(options->mix)->order;
    if (options->keys == NULL) {
        return true;
    }
    while (order < TORC_KEYS_ORDER_COUNT && strcmp(orders[order], options->keys) != 0) {
        order++;
    }
    if (order == TORC_KEYS_ORDER_COUNT) {
        fprintf(stderr, "torc-perf: --keys takes uniform, zipf, latest or sequential, not '%s'\n",
                options->keys);
        return false;
    }
    options->order = (enum torc_keys_order)order;
    return true;
}

static bool options_take(struct torc_perf_options *options, int index)
{
    const struct option_info *info = &option_infos[index];
    unsigned char *field = (unsigned char *)options + info->offset;
    uint64_t number = 0;

    switch (info->kind) {
    case OPTION_NUMBER:
        if (!options_number(info, optarg, &number)) {
            return false;
        }
        memcpy(field, &number, sizeof(number));
        return true;
    case OPTION_TEXT: memcpy(field, &optarg, sizeof(optarg)); return true;
    case OPTION_FLAG: *(bool *)field = true; return true;
    }
    return false;
}

bool torc_perf_options_read(struct torc_perf_options *options, int argc, char **argv)
{
    struct option table[OPTION_COUNT + 2] = {0};
    int index = 0;
    int got;

    memset(options, 0, sizeof(*options));
    for (int i = 0; i < OPTION_COUNT; i++) {
        table[i].name = option_infos[i].name;
        table[i].has_arg = option_infos[i].kind == OPTION_FLAG ? no_argument : required_argument;
        if (option_infos[i].kind == OPTION_NUMBER) {
            memcpy((unsigned char *)options + option_infos[i].offset, &option_infos[i].fallback,
                   sizeof(uint64_t));
        }
    }
    table[OPTION_COUNT].name = "help";
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    while ((got = getopt_long(argc, argv, "", table, &index)) != -1) {
        if (got == '?') {
            return false;
        }
        if (index == OPTION_COUNT) {
            options_help();
            exit(0); // NOLINT(concurrency-mt-unsafe): one thread
        }
        if (!options_take(options, index)) {
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "torc-perf: '%s' is no option; see --help\n", argv[optind]);
        return false;
    }
    return options_words(options);
}
