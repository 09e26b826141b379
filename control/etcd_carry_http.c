// Torc control: requests to a web server. See control/etcd_carry_http.h.
#include "control/etcd_carry_http.h"

#include "kit/clock_os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    CARRY_EVENTS = 16
};

// -- Transfers ------------------------------------------------------------------------------------

// Without a way back to the start libcurl can not repeat a body by itself on another connection.
static size_t carry_give(char *to, size_t size, size_t count, void *context)
{
    struct torc_transfer *transfer = context;
    uint64_t bytes = torc_min_u64(size * count, transfer->body_bytes - transfer->sent);

    memcpy(to, transfer->body + transfer->sent, bytes);
    transfer->sent += bytes;
    return bytes;
}

static size_t carry_take(char *from, size_t size, size_t count, void *context)
{
    struct torc_transfer *transfer = context;
    uint64_t bytes = size * count;

    if (transfer->got_bytes + bytes > transfer->got_max) {
        return 0; // ends it
    }
    if (transfer->got_bytes + bytes > transfer->got_room) {
        transfer->got_room = torc_max_u64(2 * (transfer->got_bytes + bytes), 4096);
        transfer->got = realloc(transfer->got, transfer->got_room);
        torc_assert(transfer->got != NULL);
    }
    memcpy(transfer->got + transfer->got_bytes, from, bytes);
    transfer->got_bytes += bytes;
    transfer->carrier->again = true;
    return bytes;
}

void torc_carry_end(struct torc_transfer *transfer)
{
    if (transfer->easy != NULL) {
        (void)curl_multi_remove_handle(transfer->carrier->multi, transfer->easy); // it is in there
        curl_easy_cleanup(transfer->easy);
    }
    curl_slist_free_all(transfer->headers);
    curl_slist_free_all(transfer->resolved);
    if (transfer->body != NULL) {
        explicit_bzero(transfer->body, transfer->body_bytes); // a login's has the password
    }
    free(transfer->body);
    free(transfer->got);
    *transfer = (struct torc_transfer){0};
}

static void carry_set(CURL *easy, CURLoption option, const char *text)
{
    CURLcode code = text[0] != '\0' ? curl_easy_setopt(easy, option, text) : CURLE_OK;

    torc_assert(code == CURLE_OK); // without memory nothing can go on
}

static void carry_set_number(CURL *easy, CURLoption option, long number)
{
    CURLcode code = curl_easy_setopt(easy, option, number);

    torc_assert(code == CURLE_OK);
}

static void carry_header(struct torc_transfer *transfer, const char *text)
{
    transfer->headers = curl_slist_append(transfer->headers, text);
    torc_assert(transfer->headers != NULL);
}

static void carry_options(const struct torc_carrier *it, struct torc_transfer *transfer,
                          const char *token)
{
    CURL *easy = transfer->easy;

    carry_header(transfer, "Content-Type: application/json");
    carry_header(transfer, "Expect:"); // nobody is asked first
    if (token != NULL) {
        char *line = NULL; // a JWT of RSA has several hundred bytes
        int bytes = asprintf(&line, "Authorization: %s", token);

        torc_assert(bytes > 0);
        carry_header(transfer, line);
        free(line);
    }
    torc_assert(curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers) == CURLE_OK);
    torc_assert(curl_easy_setopt(easy, CURLOPT_READFUNCTION, carry_give) == CURLE_OK);
    torc_assert(curl_easy_setopt(easy, CURLOPT_READDATA, transfer) == CURLE_OK);
    torc_assert(curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, carry_take) == CURLE_OK);
    torc_assert(curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer) == CURLE_OK);
    torc_assert(curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer) == CURLE_OK);
    carry_set_number(easy, CURLOPT_POST, 1);
    carry_set_number(easy, CURLOPT_POSTFIELDSIZE, (long)transfer->body_bytes);
    carry_set_number(easy, CURLOPT_NOSIGNAL, 1);
    carry_set_number(easy, CURLOPT_QUICK_EXIT, 1); // no lookup of its own is ever waited for
    carry_set_number(easy, CURLOPT_TCP_KEEPALIVE, 1);
    carry_set_number(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    torc_assert(curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK); // whatever is in the way
    carry_set(easy, CURLOPT_CAINFO, it->ca);
    carry_set(easy, CURLOPT_SSLCERT, it->cert);
    carry_set(easy, CURLOPT_SSLKEY, it->key);
}

// libcurl looks up nothing: it takes what its caller has found for the host.
static void carry_resolved(struct torc_transfer *transfer, const char *host)
{
    char *line = NULL;

    if (transfer->addresses[0] == '\0') {
        return;
    }
    torc_assert(asprintf(&line, "%s:%s", host, transfer->addresses) > 0);
    transfer->resolved = curl_slist_append(NULL, line);
    free(line);
    torc_assert(transfer->resolved != NULL);
    torc_assert(curl_easy_setopt(transfer->easy, CURLOPT_RESOLVE, transfer->resolved) == CURLE_OK);
}

void torc_carry_begin(struct torc_carrier *carrier, struct torc_transfer *transfer,
                      const char *host, const char *path, const char *token, char *body)
{
    bool tls = carrier->ca[0] != '\0' || carrier->cert[0] != '\0';
    char url[TORC_CARRY_TEXT_BYTES];
    CURLMcode added;

    torc_assert(transfer->easy == NULL);
    transfer->easy = curl_easy_init();
    torc_assert(transfer->easy != NULL);
    transfer->carrier = carrier;
    transfer->body = body;
    transfer->body_bytes = strlen(body);
    (void)snprintf(url, sizeof(url), "http%s://%s%s", tls ? "s" : "", host, path);
    carry_set(transfer->easy, CURLOPT_URL, url);
    carry_options(carrier, transfer, token);
    carry_resolved(transfer, host);
    added = curl_multi_add_handle(carrier->multi, transfer->easy);
    torc_assert(added == CURLM_OK);
}

// -- libcurl's sockets and its timer --------------------------------------------------------------

static int carry_on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    const struct torc_carrier *it = context;
    struct epoll_event event = {.data.fd = fd};

    (void)easy, (void)known;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl(it->epoll_fd, EPOLL_CTL_DEL, fd, NULL); // it may be closed already
        return 0;
    }
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
    if (epoll_ctl(it->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0 &&
        epoll_ctl(it->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return -1;
    }
    return 0;
}

static int carry_on_timer(CURLM *multi, long wait_ms, void *context)
{
    struct torc_carrier *it = context;

    (void)multi;
    it->timer_ns = wait_ms < 0 ? UINT64_MAX : it->now_ns + (uint64_t)wait_ms * TORC_NS_PER_MS;
    return 0;
}

void torc_carry_turn(struct torc_carrier *carrier)
{
    struct epoll_event events[CARRY_EVENTS];
    int count = epoll_wait(carrier->epoll_fd, events, CARRY_EVENTS, 0);
    int running;

    for (int i = 0; i < count; i++) {
        int flags = (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
                    (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                    (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);

        if (events[i].data.fd >= 0) { // else it only woke its owner
            (void)curl_multi_socket_action(carrier->multi, events[i].data.fd, flags, &running);
        }
    }
    if (carrier->timer_ns <= carrier->now_ns) {
        carrier->timer_ns = UINT64_MAX; // unless it is set again
        (void)curl_multi_socket_action(carrier->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    for (const CURLMsg *said = curl_multi_info_read(carrier->multi, &running); said != NULL;
         said = curl_multi_info_read(carrier->multi, &running)) {
        struct torc_transfer *transfer = NULL;

        (void)curl_easy_getinfo(said->easy_handle, CURLINFO_PRIVATE, &transfer);
        torc_assert(transfer != NULL);
        transfer->ended = said->msg == CURLMSG_DONE;
        carrier->again = true;
        transfer->result = said->data.result;
    }
}

bool torc_carry_was_sent(const struct torc_transfer *transfer)
{
    long request_bytes = 0;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    return request_bytes > 0 || transfer->sent > 0;
}

void torc_carrier_begin(struct torc_carrier *carrier)
{
    torc_assert(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); // counted: once is enough
    carrier->timer_ns = UINT64_MAX;
    carrier->multi = curl_multi_init();
    carrier->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    torc_assert(carrier->multi != NULL);
    torc_assert(carrier->epoll_fd >= 0);
    torc_assert(curl_multi_setopt(carrier->multi, CURLMOPT_SOCKETFUNCTION, carry_on_socket) ==
                CURLM_OK);
    torc_assert(curl_multi_setopt(carrier->multi, CURLMOPT_SOCKETDATA, carrier) == CURLM_OK);
    torc_assert(curl_multi_setopt(carrier->multi, CURLMOPT_TIMERFUNCTION, carry_on_timer) ==
                CURLM_OK);
    torc_assert(curl_multi_setopt(carrier->multi, CURLMOPT_TIMERDATA, carrier) == CURLM_OK);
}

void torc_carrier_listen(struct torc_carrier *carrier, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = -1};

    torc_assert(epoll_ctl(carrier->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

void torc_carrier_end(struct torc_carrier *carrier)
{
    (void)curl_multi_cleanup(carrier->multi); // empty
    (void)close(carrier->epoll_fd);
    curl_global_cleanup();
}
