// Torc cli: see trace.h.
#include "client/cli/trace.h"

#include <stddef.h>
#include <string.h>

struct trace_part {
    const char *name;
    const char *help;
    uint32_t bit;
    uint32_t offset; // of its ns in struct torc_trace
};

static const struct trace_part trace_parts[] = {
#define X(upper, lower, help) \
    {#lower, help, TORC_TRACE_##upper, offsetof(struct torc_trace, lower##_ns)},
    TORC_TRACE_PART_TABLE(X)
#undef X
};

static uint64_t *part_at(struct torc_trace *trace, const struct trace_part *part)
{
    return (uint64_t *)(void *)((unsigned char *)trace + part->offset);
}

static uint64_t part_ns(const struct torc_trace *trace, const struct trace_part *part)
{
    uint64_t ns;

    memcpy(&ns, (const unsigned char *)trace + part->offset, sizeof(ns));
    return ns;
}

// Parts numbers[first .. last] by a pivot: behind *high none below it, before *low none above it.
static void numbers_part(uint64_t *numbers, uint64_t pivot, int64_t *low, int64_t *high)
{
    do {
        while (numbers[*low] < pivot) {
            (*low)++;
        }
        while (numbers[*high] > pivot) {
            (*high)--;
        }
        if (*low <= *high) {
            uint64_t kept = numbers[*low];

            numbers[(*low)++] = numbers[*high];
            numbers[(*high)--] = kept;
        }
    } while (*low <= *high);
}

// The number that would stand at `at` if they were sorted; reorders them (Hoare's FIND).
static uint64_t numbers_find(uint64_t *numbers, uint32_t count, uint32_t at)
{
    int64_t first = 0;
    int64_t last = (int64_t)count - 1;

    torc_assert(at < count);
    while (first < last) {
        int64_t low = first;
        int64_t high = last;

        numbers_part(numbers, numbers[at], &low, &high);
        first = high < (int64_t)at ? low : first;
        last = (int64_t)at < low ? high : last;
    }
    return numbers[at];
}

void torc_trace_median(const struct torc_trace *traces, uint32_t count, uint64_t *numbers,
                       struct torc_trace *median)
{
    *median = (struct torc_trace){0};
    for (uint32_t at = 0; at < TORC_COUNT_OF(trace_parts); at++) {
        const struct trace_part *part = &trace_parts[at];
        uint32_t known = 0;

        for (uint32_t i = 0; i < count; i++) {
            if ((traces[i].known & part->bit) != 0) {
                numbers[known++] = part_ns(&traces[i], part);
            }
        }
        if (known > 0) {
            *part_at(median, part) = numbers_find(numbers, known, (known - 1) / 2);
            median->known |= part->bit;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        median->sends += traces[i].sends;
    }
}

static uint32_t torc_printf_like(3, 4)
    trace_print(char *text, uint32_t length, const char *format, ...)
{
    va_list arguments;
    int written;

    va_start(arguments, format);
    written = vsnprintf(text + length, TORC_TRACE_TEXT_BYTES - length, format, arguments);
    va_end(arguments);
    torc_assert(written >= 0);
    torc_assert((uint32_t)written < TORC_TRACE_TEXT_BYTES - length);
    return length + (uint32_t)written;
}

static uint32_t show_json(const struct torc_show *show, const struct torc_trace_said *said,
                          char *text)
{
    const char *quote = show->key_format == TORC_KEY_DEC ? "" : "\"";
    char key[TORC_KEY_TEXT_BYTES];
    uint32_t length;

    (void)torc_key_show(said->key, show->key_format, key);
    length =
        trace_print(text, 0,
                    "{\"verb\":\"%s\",\"key\":%s%s%s,\"status\":\"%s\",\"count\":%" PRIu32
                    ",\"sends\":%" PRIu32,
                    said->verb, quote, key, quote, said->status, said->count, said->trace->sends);
    for (uint32_t at = 0; at < TORC_COUNT_OF(trace_parts); at++) {
        const struct trace_part *part = &trace_parts[at];

        length = trace_print(text, length, ",\"%s_ns\":", part->name);
        length = (said->trace->known & part->bit) == 0
                     ? trace_print(text, length, "null")
                     : trace_print(text, length, "%" PRIu64, part_ns(said->trace, part));
    }
    return trace_print(text, length, "}\n");
}

static uint32_t show_table(const struct torc_show *show, const struct torc_trace_said *said,
                           char *text)
{
    char key[TORC_KEY_TEXT_BYTES];
    uint32_t length;

    (void)torc_key_show(said->key, show->key_format, key);
    length = trace_print(text, 0, "%s %s: %s", said->verb, key, said->status);
    if (said->count > 1) {
        length = trace_print(text, length, ", medians of %" PRIu32, said->count);
    }
    if (said->trace->sends > said->count) {
        length = trace_print(text, length, ", sent %" PRIu32 " times", said->trace->sends);
    }
    length = trace_print(text, length, "\n");
    for (uint32_t at = 0; at < TORC_COUNT_OF(trace_parts); at++) {
        const struct trace_part *part = &trace_parts[at];

        if ((said->trace->known & part->bit) != 0) {
            length = trace_print(text, length, "  %-6s %10.1f us  %s\n", part->name,
                                 (double)part_ns(said->trace, part) / 1000, part->help);
        }
    }
    if ((said->trace->known & TORC_TRACE_WIRE) == 0) {
        length = trace_print(text, length,
                             "  of its part the server said nothing: its answer had no room for "
                             "that, or the value is over one packet\n");
    }
    return length;
}

uint32_t torc_trace_show(const struct torc_show *show, const struct torc_trace_said *said,
                         char *text)
{
    char separator = show->format == TORC_SHOW_CSV ? ',' : ' ';
    uint32_t length = 0;

    if (show->format == TORC_SHOW_JSON) {
        return show_json(show, said, text);
    }
    if (show->format == TORC_SHOW_TABLE) {
        return show_table(show, said, text);
    }
    for (uint32_t at = 0; at < TORC_COUNT_OF(trace_parts); at++) {
        if ((said->trace->known & trace_parts[at].bit) != 0) {
            length = trace_print(text, length, "%s%c%" PRIu64 "\n", trace_parts[at].name, separator,
                                 part_ns(said->trace, &trace_parts[at]));
        }
    }
    return length;
}
