// Torc kit: the log of a program. See kit/log_os.h.
#include "kit/log_os.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum torc_log log_most = TORC_LOG_INFO; // set before the first thread

static const char *const log_names[] = {
#define X(name, text) [TORC_LOG_##name] = (text),
    TORC_LOG_TABLE(X)
#undef X
};

void torc_log_configure(enum torc_log most)
{
    torc_assert((size_t)most < TORC_COUNT_OF(log_names));
    log_most = most;
}

bool torc_log_parse(const char *text, enum torc_log *level)
{
    for (size_t i = 0; i < TORC_COUNT_OF(log_names); i++) {
        if (strcmp(text, log_names[i]) == 0) {
            *level = (enum torc_log)i;
            return true;
        }
    }
    return false;
}

// How much of a line is filled after snprintf said `length`, room for the newline kept.
static size_t log_fill(size_t filled, int length)
{
    size_t added = length < 0 ? 0 : (size_t)length;

    return torc_min_u64(filled + added, TORC_LOG_LINE_BYTES - 1);
}

static size_t log_head(char *line, enum torc_log level, const char *area, const char *event)
{
    struct timespec now = {0};
    struct tm utc = {0};
    size_t filled;

    (void)clock_gettime(CLOCK_REALTIME, &now); // cannot fail for this clock
    (void)gmtime_r(&now.tv_sec, &utc);
    filled = strftime(line, TORC_LOG_LINE_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    return log_fill(filled,
                    snprintf(line + filled, TORC_LOG_LINE_BYTES - filled, ".%06ldZ %s %s %s",
                             now.tv_nsec / 1000, log_names[level], area, event));
}

void torc_log(enum torc_log level, const char *area, const char *event, const char *format, ...)
{
    char line[TORC_LOG_LINE_BYTES];
    int saved = errno;
    size_t filled;
    va_list arguments;

    torc_assert((size_t)level < TORC_COUNT_OF(log_names));
    if (level > log_most) {
        return;
    }
    filled = log_head(line, level, area, event);
    if (format[0] != '\0' && filled < TORC_LOG_LINE_BYTES - 1) {
        line[filled++] = ' ';
        va_start(arguments, format);
        filled = log_fill(
            filled, vsnprintf(line + filled, TORC_LOG_LINE_BYTES - filled, format, arguments));
        va_end(arguments);
    }
    for (size_t i = 0; i < filled; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[filled++] = '\n';
    (void)!write(STDERR_FILENO, line, filled); // nobody is left to be told
    errno = saved;
}
