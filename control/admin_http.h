// Torc control: /metrics, /health and /ready over HTTP, on the loopback address.
//
// What    GET only; nothing changes state. /metrics: Prometheus text. /health: 200 while the
//         process works and its log has not failed, else 503. /ready: 200 while the node answers
//         clients.
// Owner   control's one thread: libmicrohttpd without threads of its own, run when its epoll
//         descriptor is readable.
// Memory  libmicrohttpd's, for at most TORC_HTTP_CLIENTS_MAX connections.
#ifndef TORC_CONTROL_ADMIN_HTTP_H
#define TORC_CONTROL_ADMIN_HTTP_H

#include "kit/fail.h"

#define TORC_HTTP_CLIENTS_MAX 32

struct torc_http;

struct torc_http_page {
    uint32_t status;  // 404 when the path is none of ours
    char *text;       // malloc'ed, freed by http; NULL is empty
    const char *type; // of the content
};

// What to say at `path`; *page is empty.
typedef void (*torc_http_answer)(void *context, const char *path, struct torc_http_page *page);

// `address`: host:port, [v6]:port. Adds itself to the epoll set.
enum torc_err torc_must_use torc_http_open(struct torc_http **out, const char *address,
                                           torc_http_answer answer, void *context, int epoll_fd,
                                           struct torc_fail *why);
void torc_http_step(struct torc_http *http);
void torc_http_close(struct torc_http *http);

#endif
