// Torc control: /metrics, /health and /ready over HTTP. See control/admin_http.h.
#include "control/admin_http.h"

#include "kit/clock_os.h"

#include <microhttpd.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTP_PAUSE_NS (100 * TORC_NS_PER_MS) // control's own beat, without which nobody looks

struct torc_http {
    struct MHD_Daemon *daemon;
    torc_http_answer answer;
    void *context;
    int epoll_fd;
    int fd;
    uint64_t again_ns; // `fd` is out of the epoll set until then; 0: it is in it
};

static enum MHD_Result http_reply(struct MHD_Connection *connection, uint32_t status, char *text,
                                  const char *type)
{
    uint64_t bytes = text != NULL ? strlen(text) : 0;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result;

    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type); // or without
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

// libmicrohttpd calls it once for the headers and again for the body; its parameters are not ours.
// NOLINTNEXTLINE(readability-function-size)
static enum MHD_Result http_request(void *context, struct MHD_Connection *connection,
                                    const char *path, const char *method, const char *version,
                                    const char *upload, size_t *upload_bytes, void **state)
{
    struct torc_http *http = context;
    struct torc_http_page page = {0};

    (void)version, (void)upload;
    if (*state == NULL) {
        *state = http; // seen once
        return MHD_YES;
    }
    *upload_bytes = 0;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return http_reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, "text/plain");
    }
    http->answer(http->context, path, &page);
    return http_reply(connection, page.status, page.text, page.type);
}

static int http_listen(const char *address, struct torc_fail *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char host[64] = {0};
    const char *port = strrchr(address, ':');
    const char *first = address[0] == '[' ? address + 1 : address;
    const char *last = port != NULL && port > address && port[-1] == ']' ? port - 1 : port;
    const int one = 1;
    int fd = -1;

    if (port == NULL || last < first || (uint64_t)(last - first) >= sizeof(host)) {
        (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "admin-http = %.60s: host:port expected",
                        address);
        return -1;
    }
    memcpy(host, first, (uint64_t)(last - first));
    if (getaddrinfo(host, port + 1, &hints, &found) != 0) {
        (void)torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "admin-http = %.60s: a numeric address and a port expected", address);
        return -1;
    }
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(fd, TORC_HTTP_CLIENTS_MAX) != 0) {
        (void)torc_fail(why, TORC_ERR_IO, "admin-http: listen on %.60s: %s", address,
                        strerrordesc_np(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static void http_watch(struct torc_http *http, int change)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = http->fd};

    if (epoll_ctl(http->epoll_fd, change, http->fd, &event) != 0) {
        torc_unreachable("a descriptor of ours, in an epoll set of ours");
    }
}

enum torc_err torc_http_open(struct torc_http **out, const char *address, torc_http_answer answer,
                             void *context, int epoll_fd, struct torc_fail *why)
{
    struct torc_fail inner = {.err = TORC_ERR_IO};
    struct torc_http *http;
    const union MHD_DaemonInfo *info;
    int listener = http_listen(address, &inner);

    if (listener < 0) {
        return torc_fail(why, inner.err, "%s", inner.text);
    }
    http = calloc(1, sizeof(*http));
    torc_assert(http != NULL);
    *http = (struct torc_http){.answer = answer, .context = context, .epoll_fd = epoll_fd};
    http->daemon =
        MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, http_request, http, MHD_OPTION_LISTEN_SOCKET,
                         listener, MHD_OPTION_CONNECTION_LIMIT, (unsigned)TORC_HTTP_CLIENTS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, 30u, MHD_OPTION_END);
    info =
        http->daemon != NULL ? MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL) {
        (void)close(listener);
        free(http);
        return torc_fail(why, TORC_ERR_IO, "admin-http: libmicrohttpd does not start on %.60s",
                         address);
    }
    http->fd = info->epoll_fd;
    http_watch(http, EPOLL_CTL_ADD);
    *out = http;
    return TORC_ERR_OK;
}

// There is no descriptor left: libmicrohttpd does not say so, and tries to take who has come again
// and again.
static bool http_is_short(const struct torc_http *http)
{
    int fd = fcntl(http->fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0) {
        return true;
    }
    (void)close(fd);
    return false;
}

void torc_http_step(struct torc_http *http)
{
    bool paused = http->again_ns > 0;

    if (paused && torc_clock_now_ns() < http->again_ns) {
        return;
    }
    http->again_ns = 0;
    (void)MHD_run(http->daemon); // a client's trouble ends with its connection
    if (http_is_short(http)) {
        http->again_ns = torc_clock_now_ns() + HTTP_PAUSE_NS;
    }
    if (paused != (http->again_ns > 0)) {
        http_watch(http, paused ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
    }
}

void torc_http_close(struct torc_http *http)
{
    (void)epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, http->fd, NULL); // if it is in it
    MHD_stop_daemon(http->daemon);
    free(http);
}
