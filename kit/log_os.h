// Torc kit: the log of a program: one line an event, on standard error.
//
// What    `time level area event key=value …`: UTC with microseconds, then the level, the part of
//         the program, what happened in a few joined words, and the facts. systemd, a file or a
//         person reads it as it is.
//           2026-11-24T16:03:36.123456Z info port opened driver=net_af_xdp link=torc1 queues=1
// Owner   any thread; a line is one write(2), so lines of several threads and of both processes in
//         one file do not mix. Never called on the request path: rates are counters (kit/stats.h).
// Memory  a line is at most TORC_LOG_LINE_BYTES on the stack; a longer one is cut.
// Levels  error: somebody must act; warn: somebody should look; info: the program's life; debug:
//         for finding a fault. No secrets and no values ever, keys only at debug.
#ifndef TORC_KIT_LOG_OS_H
#define TORC_KIT_LOG_OS_H

#include "kit/base.h"

#define TORC_LOG_LINE_BYTES 1024

// X(NAME, text)
#define TORC_LOG_TABLE(X) \
    X(ERROR, "error")     \
    X(WARN, "warn")       \
    X(INFO, "info")       \
    X(DEBUG, "debug")

enum torc_log {
#define X(name, text) TORC_LOG_##name,
    TORC_LOG_TABLE(X)
#undef X
};

// Lines above this level are not written; INFO until told otherwise. Before threads are started.
void torc_log_configure(enum torc_log most);

// True and the level, or false when `text` is none of the names above.
bool torc_must_use torc_log_parse(const char *text, enum torc_log *level);

// One event. `area` and `event` are words of ours without blanks; `format` makes `key=value …`. A
// byte that would end or disturb the line is written as '?'. Errno is left as it was.
void torc_printf_like(4, 5)
    torc_log(enum torc_log level, const char *area, const char *event, const char *format, ...);

#endif
